"""Models and calls in which smoothing would leave something out: each is refused, or its loss made of logits."""

import copy
import logging

import pytest
import torch
import transformers
from torch.nn import functional as F

from labelsmooth.integrations import hf
from labelsmooth.integrations.hf import log_training, smooth

K, EPS = 61, 0.1
SIZES = {
    "vocab_size": K, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def llama(**more):
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **more)).double().train()


def bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, num_labels=5)
    return transformers.BertForSequenceClassification(config).double().train()


def draw(*shape):
    return torch.randint(3, K, shape)


def definition(model, ids, labels, eps=EPS):
    """The mean smoothed loss of the model's own logits in evaluation."""
    model.eval()
    logits = model(input_ids=ids).logits[:, :-1]
    model.train()
    return F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), label_smoothing=eps
    )


def unmade(name, **sizes):
    """A model without memory."""
    kind = getattr(transformers, name)
    with torch.device("meta"):
        return kind(kind.config_class(**sizes))


def test_the_face_is_two_functions():
    assert hf.__all__ == ["log_training", "smooth"]


MASKED = (
    *(f"{family}ForTokenClassification" for family in ("BioGpt", "XLMRobertaXL", "Mra", "Yoso", "Bros")),
    "BrosSpadeELForTokenClassification",
)
QWEN = {"model_type": "qwen2", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("name", "sizes", "says"),
    [
        *((name, SIZES | {"num_labels": 5}, "leaves labels out of its loss") for name in MASKED),
        ("BrosSpadeEEForTokenClassification", SIZES, "adds something to its loss"),
        ("GraniteDoclingForConditionalGeneration", {}, "adds something to its loss .*density_router_loss_weight"),
        ("VibeVoiceForConditionalGeneration", {"text_config": QWEN}, "adds something to its loss .*diffusion_loss"),
        ("ProphetNetForConditionalGeneration", {}, "adds something to its loss .*self._compute_loss"),
        ("ShieldGemma2ForImageClassification", {}, "computes no loss from labels"),
    ],
)  # fmt: skip
def test_a_loss_that_is_more_or_less_than_a_cross_entropy_is_refused(name, sizes, says):
    model = unmade(name, **sizes)
    with pytest.raises(ValueError, match=f"^{name} {says}.*; take its logits to labelsmooth.cross_entropy"):
        smooth(model, EPS)


def test_a_loss_function_of_the_user_s_own_is_refused():
    def forty_two(logits, labels, **_):
        return logits.sum() * 0 + 42

    model = llama()
    model.loss_function = forty_two
    with pytest.raises(ValueError, match="has a loss_function of its own, forty_two"):
        smooth(model, EPS)
    masked = llama()
    masked.loss_type = "ForMaskedLM"
    with pytest.raises(ValueError, match="has a loss_function of its own, ForMaskedLMLoss"):
        smooth(masked, EPS)
    with pytest.raises(RuntimeError, match="loss_function of a smoothed model was to be replaced"):
        smooth(llama(), EPS).loss_function = forty_two


def test_columns_that_a_model_leaves_out_are_out_of_the_loss(caplog):
    torch.manual_seed(0)
    sizes = {
        "head_dim": 8, "swa_head_dim": 8, "swa_num_attention_heads": 2, "swa_num_key_value_heads": 1,
        "moe_intermediate_size": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "unpadded_vocab_size": 50,
    }  # fmt: skip
    config = transformers.InklingTextConfig(**SIZES, **sizes)
    model = transformers.InklingForCausalLM(config).train()
    ids, labels = draw(2, 9), draw(2, 9).clamp(max=49)
    expected = definition(model, ids, labels)
    with caplog.at_level(logging.WARNING, logger="labelsmooth"):
        smooth(model, EPS)
    (said,) = (record.getMessage() for record in caplog.records if record.name.startswith("labelsmooth"))
    assert said == "all logits are made, as InklingForCausalLM leaves out or changes logits of some classes"
    torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, expected, rtol=1e-5, atol=0)


def doubling_hook(model):
    model.lm_head.register_forward_hook(lambda _module, _inputs, logits: 2 * logits)


def unused_scale(model):
    model.config.logit_scale = 3.0


def scale_of_cohere(model):
    model.logit_scale = 3.0


@pytest.mark.parametrize("change", [doubling_hook, unused_scale, scale_of_cohere])
def test_what_changes_the_logits_later_changes_the_loss(change):
    model = llama()
    if change is scale_of_cohere:
        torch.manual_seed(0)
        model = transformers.CohereForCausalLM(transformers.CohereConfig(**SIZES, logit_scale=0.25)).double()
    ids, labels = draw(2, 9), draw(2, 9)
    smooth(model, EPS).train()
    torch.testing.assert_close(
        model(input_ids=ids, labels=labels).loss, definition(model, ids, labels), rtol=1e-10, atol=0
    )
    change(model)
    torch.testing.assert_close(
        model(input_ids=ids, labels=labels).loss, definition(model, ids, labels), rtol=1e-10, atol=0
    )


def test_an_infinite_loss_leaves_the_loss_fused(caplog):
    model = llama()
    with torch.no_grad():
        model.lm_head.weight[5] = 1e308
    smooth(model, EPS)
    with caplog.at_level(logging.WARNING, logger="labelsmooth"):
        loss = model(input_ids=draw(2, 9), labels=draw(2, 9)).loss
    assert not loss.isfinite()
    assert not [record for record in caplog.records if record.name.startswith("labelsmooth")]


def test_smoothing_again_replaces_the_smoothing(tmp_path):
    model, ids, labels = llama().float(), draw(2, 9), draw(2, 9)
    own = model(input_ids=ids, labels=labels).loss
    training = trainer(smooth(model, 0.5), tmp_path)
    log_training(training)
    kind = type(model)
    assert smooth(model, EPS) is model
    assert type(model) is kind
    training.train()
    assert {"nll", "ece"} <= set(training.state.log_history[0])  # still measured
    torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, definition(model, ids, labels))
    torch.testing.assert_close(smooth(model, 0.0)(input_ids=ids, labels=labels).loss, own)


def test_another_model_of_the_class_of_a_smoothed_one_is_not_smoothed(tmp_path):
    model, ids, labels = smooth(llama(), EPS), draw(2, 9), draw(2, 9)
    model.save_pretrained(tmp_path)
    for other in (type(model)(model.config), type(model).from_pretrained(tmp_path)):
        other.double().train()
        other.load_state_dict(model.state_dict())
        plain = other(input_ids=ids, labels=labels).loss
        torch.testing.assert_close(plain.double(), definition(model, ids, labels, 0.0))
        smoothed = smooth(other, EPS)(input_ids=ids, labels=labels).loss
        torch.testing.assert_close(smoothed, definition(model, ids, labels))


def trainer(model, folder, **settings):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no",
        logging_steps=1, max_steps=1, learning_rate=0.0, lr_scheduler_type="constant", **settings,
    )  # fmt: skip
    rows = [{"input_ids": ids, "labels": ids} for ids in draw(4, 8)]
    return transformers.Trainer(model, arguments, train_dataset=rows)


def test_a_loss_of_the_logits_of_a_smoothed_model_is_refused(tmp_path):
    """A trainer that smooths as well keeps the labels from the model; to look at logits is no training."""
    training = trainer(smooth(llama().float(), EPS), tmp_path, label_smoothing_factor=0.9)
    with pytest.raises(RuntimeError, match="without label_smoothing_factor and compute_loss_func"):
        training.train()
    model = smooth(llama(), EPS)
    for logits in (model(draw(2, 5)).logits, *model(draw(2, 5), return_dict=False)[:1]):
        assert logits.shape == (2, 5, K)
        with pytest.raises(RuntimeError, match="call it with labels"):
            logits.sum().backward()


@pytest.mark.parametrize(
    ("of_labels", "error", "says"),
    [
        (lambda y: y[:, :5], ValueError, r"the shape \(2, 9\) of what is predicted, got \(2, 5\)"),
        (lambda y: F.one_hot(y, K), ValueError, r"the shape \(batch, tokens\), got \(2, 9, 61\)"),
        (lambda y: y.T, ValueError, r"the shape \(2, 9\) of what is predicted, got \(9, 2\)"),
        (lambda y: y.flatten(), ValueError, r"the shape \(batch, tokens\), got \(18,\)"),
        (lambda y: y.tolist(), TypeError, "labels must be a tensor, got list"),
        (lambda y: y > 5, TypeError, "labels must hold integer class indices, got torch.bool"),
    ],
)
@pytest.mark.parametrize("made", ["fused", "of logits"])
def test_labels_of_another_shape_or_type_are_refused(made, of_labels, error, says):
    model = smooth(llama(), EPS)
    if made == "of logits":
        doubling_hook(model)
    with pytest.raises(error, match=says):
        model(input_ids=draw(2, 9), labels=of_labels(draw(2, 9)))


def test_labels_that_mean_the_same_are_taken():
    model, ids, labels = smooth(llama(), EPS), draw(2, 9), draw(2, 9)
    expected = definition(model, ids, labels)
    torch.testing.assert_close(model(input_ids=ids, labels=labels.to(torch.uint8)).loss, expected)
    whole = smooth(copy.deepcopy(bert()), EPS).eval()
    logits = whole(input_ids=ids).logits
    whole.training = True  # its layers stay without dropout
    for labels in (torch.tensor([1, 3]), torch.tensor([[1], [3]])):
        exact = F.cross_entropy(logits, torch.tensor([1, 3]), label_smoothing=EPS)
        torch.testing.assert_close(whole(input_ids=ids, labels=labels).loss, exact)
    with pytest.raises(ValueError, match=r"the shape \(2,\) of what is predicted, got \(2, 5\)"):
        whole(input_ids=ids, labels=F.one_hot(torch.tensor([1, 3]), 5))


def test_logits_to_keep_are_what_transformers_takes():
    model, ids, labels = llama(), draw(2, 9), draw(2, 9)
    log_p = model(ids).logits.log_softmax(-1).detach()
    shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
    smooth(model, 0.0)
    mask = torch.rand(2, 9) < 0.5
    mask[0, 2] = True
    each = torch.tensor([[1, 2, 5], [0, 3, 4]])
    for kept, rows, target in (
        (mask, log_p[mask], shifted[mask]),
        (each, log_p[torch.arange(2)[:, None], each].flatten(0, 1), shifted.gather(1, each).flatten()),
    ):
        loss = model(ids, labels=labels, logits_to_keep=kept).loss
        torch.testing.assert_close(loss, F.nll_loss(rows, target))
    with pytest.raises(TypeError, match="logits_to_keep must be a whole number or a tensor, got slice"):
        model(ids, labels=labels, logits_to_keep=slice(2, 5))
