"""Smoothing in models of transformers, of random weights, against the definition on the model's own logits."""

import copy
import logging
import types

import accelerate
import pytest
import torch
import transformers
from torch.nn import functional as F

import labelsmooth as ls
from labelsmooth.integrations.hf import log_training, smooth

K, EPS = 61, 0.1
COMMON = {
    "vocab_size": K, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
SMALL = {"vocab_size": K, "d_model": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LAYERS = {
    "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "decoder_start_token_id": 2, "max_position_embeddings": 64,
    "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
}  # fmt: skip
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CAUSAL = {
    "Llama": {},
    "Llama, tied": {"tie_word_embeddings": True},
    "Qwen3": {},
    "Gemma2": {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8, "sliding_window": 8},
    "Gemma3Text": {"final_logit_softcapping": 2.0, "sliding_window": 8},
    "Cohere": {"logit_scale": 0.25},
    "Granite": {"logits_scaling": 4.0},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0},
    "GPTNeoX": {"num_key_value_heads": 2},
    "OPT": {"ffn_dim": 24, "dropout": 0.0, "word_embed_proj_dim": 16},
    "Phi": {"num_key_value_heads": 2},
    "Mixtral": {"num_local_experts": 4, "output_router_logits": True, "router_aux_loss_coef": 0.3, "experts_implementation": "eager"},
}  # fmt: skip


def causal(name):
    family = name.partition(",")[0]
    config = getattr(transformers, f"{family}Config")(**(COMMON | CAUSAL[name]))
    kind = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}.get(family, f"{family}ForCausalLM")
    return getattr(transformers, kind)(config), {"input_ids": draw(3, 9)}, draw(3, 9)


def llava():
    vision = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 8, "patch_size": 4,
    }  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**vision),
        text_config=transformers.LlamaConfig(**COMMON),
        image_token_index=K - 1,
    )
    ids = draw(2, 9).clamp(max=K - 2)
    ids[:, :4] = K - 1
    inputs = {"input_ids": ids, "pixel_values": torch.rand(2, 3, 8, 8).double()}
    return transformers.LlavaForConditionalGeneration(config), inputs, draw(2, 9)


def encoder_decoder(name):
    ids, labels = draw(3, 7), draw(3, 5)
    if name == "T5":
        sizes = {
            "d_kv": 8,
            "d_ff": 24,
            "num_layers": 1,
            "num_heads": 2,
            "dropout_rate": 0.0,
            "decoder_start_token_id": 0,
        }
        return (
            transformers.T5ForConditionalGeneration(transformers.T5Config(**SMALL, **sizes)),
            {"input_ids": ids},
            labels,
        )
    if name == "Whisper":
        sizes = {"num_mel_bins": 4, "max_source_positions": 10, "max_target_positions": 16}
        config = transformers.WhisperConfig(**SMALL, **LAYERS, **sizes)
        return (
            transformers.WhisperForConditionalGeneration(config),
            {"input_features": torch.rand(3, 4, 20).double()},
            labels,
        )
    model = {"Marian": "MarianMTModel"}.get(name, f"{name}ForConditionalGeneration")
    model = getattr(transformers, model)(getattr(transformers, f"{name}Config")(**SMALL, **LAYERS))
    model.final_logits_bias.normal_()
    return model, {"input_ids": ids}, labels


def classifier(name):
    sizes = COMMON | NO_DROPOUT | {"num_labels": 5}
    if name == "ViT":
        config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4)
        return (
            transformers.ViTForImageClassification(config),
            {"pixel_values": torch.rand(3, 3, 8, 8).double()},
            draw(3) % 5,
        )
    config = transformers.BertConfig(**sizes, classifier_dropout=0.0)
    labels = draw(3, 9) % 5 if "Token" in name else draw(3) % 5
    return getattr(transformers, name)(config), {"input_ids": draw(3, 9)}, labels


def masked():
    model = transformers.BertForMaskedLM(transformers.BertConfig(**COMMON, **NO_DROPOUT))
    return model, {"input_ids": draw(3, 9)}, draw(3, 9)


MODELS = {
    **{name: lambda name=name: causal(name) for name in CAUSAL},
    "LLaVA": llava,
    **{name: lambda name=name: encoder_decoder(name) for name in ("T5", "Bart", "Marian", "Whisper")},
    "BERT, masked": masked,
    **{
        name: lambda name=name: classifier(name)
        for name in ("BertForSequenceClassification", "BertForTokenClassification", "ViT")
    },
}


def draw(*shape):
    return torch.randint(3, K, shape)


def made(name):
    """A model in float64 and in training mode, what goes into it, and labels of which some do not count."""
    torch.manual_seed(0)
    model, inputs, labels = MODELS[name]()
    labels.view(-1)[1] = -100
    return model.double().train(), inputs, labels


def definition(model, inputs, labels, eps=EPS, count=None):
    """The mean of the smoothed losses of the model's own logits; a causal one's predict the token after."""
    given = inputs
    if model.config.is_encoder_decoder:
        start = model.config.decoder_start_token_id
        shifted = torch.cat([torch.full((len(labels), 1), start), labels[:, :-1]], 1)
        given = inputs | {"decoder_input_ids": shifted.masked_fill(shifted == -100, 0)}
    output = model(**given)
    logits = output.logits
    if (
        "ForCausalLM" in type(model).__name__
        or "GPT2" in type(model).__name__
        or "Llava" in type(model).__name__
    ):
        logits, labels = logits[:, :-1], labels[:, 1:]
    log_p, target = logits.reshape(-1, logits.shape[-1]).log_softmax(-1), labels.reshape(-1)
    log_p, target = log_p[target != -100], target[target != -100]
    q = (1 - eps) * F.one_hot(target, log_p.shape[1]).double() + eps / log_p.shape[1]
    loss = -(q * log_p).sum() / (count or len(target))
    return loss + 0.3 * output.aux_loss if output.get("aux_loss") is not None else loss


def gradients(loss, model):
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    return dict(
        zip(
            names,
            torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True),
            strict=True,
        )
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_the_model_s_own_logits(name):
    model, inputs, labels = made(name)
    theirs = copy.deepcopy(model)
    assert smooth(model, EPS) is model
    output = model(**inputs, labels=labels)
    exact = definition(theirs, inputs, labels)
    torch.testing.assert_close(output.loss, exact, rtol=1e-10, atol=1e-12)
    assert (output.logits is None) == ("Classification" not in type(model).__name__)
    mine = gradients(output.loss, model)
    for part, its in gradients(exact, theirs).items():
        torch.testing.assert_close(
            mine[part], its, rtol=1e-8, atol=1e-10, msg=lambda m, part=part: f"{part}: {m}"
        )
    # evaluation is as it was
    mine, its = model.eval()(**inputs, labels=labels), theirs.eval()(**inputs, labels=labels)
    assert torch.equal(mine.loss, its.loss)
    assert torch.equal(mine.logits, its.logits)


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Bart", "BERT, masked", "BertForSequenceClassification"])
def test_the_number_of_items_is_the_denominator(name):
    """As transformers gives it for the tokens of all of a step's micro-batches."""
    model, inputs, labels = made(name)
    exact = definition(model, inputs, labels, count=100)
    smooth(model, EPS)
    for count in (100, torch.tensor(100)):
        mine = model(**inputs, labels=labels, num_items_in_batch=count).loss
        torch.testing.assert_close(mine, exact, rtol=1e-10, atol=1e-12)


def test_arguments_mean_what_they_mean_to_transformers():
    """Labels by place, labels that are shifted already, logits of some places, and outputs as tuples."""
    model, inputs, labels = made("Llama")
    ids = inputs["input_ids"]
    log_p = model(ids).logits.log_softmax(-1).detach()
    places = torch.tensor([2, 5])
    smooth(model, 0.0)

    def nll(log_p, target):
        return F.nll_loss(log_p.flatten(0, 1), target.flatten())

    shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
    for output, target, of_places in (
        (model(ids, labels=labels), shifted, slice(None)),
        (model(ids, None, None, None, None, labels), shifted, slice(None)),
        (model(ids, shift_labels=labels), labels, slice(None)),
        (model(ids, labels=labels, logits_to_keep=4), shifted, slice(-4, None)),
        (model(ids, labels=labels, logits_to_keep=places), shifted, places),
        (model(ids, shift_labels=labels[:, -3:], logits_to_keep=3), labels, slice(-3, None)),
    ):
        torch.testing.assert_close(
            output.loss, nll(log_p[:, of_places], target[:, of_places]), rtol=1e-10, atol=0
        )
    loss, *_ = model(ids, labels=labels, return_dict=False)
    torch.testing.assert_close(loss, nll(log_p, shifted), rtol=1e-10, atol=0)
    assert model(ids).logits.shape == (*ids.shape, K)  # without labels there is no loss, and logits are made


def test_every_smoothing_and_the_other_terms_of_the_loss():
    model, inputs, labels = made("Llama")
    logits = model(**inputs).logits[:, :-1].reshape(-1, K)
    weight = torch.linspace(0.5, 2, K, dtype=torch.float64)
    prior = ls.prior(0.2, torch.arange(1.0, K + 1) / (K * (K + 1) / 2))
    for smoothing, options in (
        (prior, {}),
        (ls.others(0.3), {"z_loss": 1e-3}),
        (0.1, {"weight": weight, "chunk_rows": 5}),
    ):
        other = copy.deepcopy(model)
        loss = smooth(other, smoothing, **options)(**inputs, labels=labels).loss
        options.pop("chunk_rows", None)
        exact = ls.cross_entropy(
            logits, labels[:, 1:].reshape(-1), label_smoothing=smoothing, **options, backend="reference"
        )
        torch.testing.assert_close(loss, exact, rtol=1e-10, atol=0)


def test_checkpointing_and_half_the_width():
    model, inputs, labels = made("Llama")
    exact = definition(copy.deepcopy(model), inputs, labels)
    smooth(model, EPS).activation_checkpointing_enable()
    torch.testing.assert_close(model(**inputs, labels=labels).loss, exact, rtol=1e-10, atol=0)
    model.activation_checkpointing_disable()
    half = model.bfloat16()(**inputs, labels=labels).loss
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), exact, rtol=1e-2, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        under = model.float()(**inputs, labels=labels).loss
    torch.testing.assert_close(under.double(), exact, rtol=1e-2, atol=0)


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)  # peft asks for it
def test_adapters_on_the_head_are_in_the_loss(caplog):
    """Whose logits are then made, with a word; beside it the layers below have adapters too."""
    peft = pytest.importorskip("peft")
    model, inputs, labels = made("Llama")
    smooth(model, EPS)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, config).double().train()
    with caplog.at_level(logging.WARNING, logger="labelsmooth"):
        losses = [adapted(**inputs, labels=labels).loss for _ in range(2)]
    (said,) = (record.getMessage() for record in caplog.records if record.name.startswith("labelsmooth"))
    assert said == (
        "all logits are made, as the output embedding is more than a linear layer, of peft.tuners.lora.layer.Linear"
    )
    logits = adapted.eval()(**inputs).logits[:, :-1].reshape(-1, K)
    target = labels[:, 1:].reshape(-1)
    exact = F.cross_entropy(logits, target, label_smoothing=EPS)
    for loss in losses:
        torch.testing.assert_close(loss, exact, rtol=1e-10, atol=0)
    gradients(losses[0], adapted)


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)  # peft asks for it
def test_adapters_below_the_head_leave_it_fused():
    peft = pytest.importorskip("peft")
    model, inputs, labels = made("Llama")
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.double().train()
    exact = definition(copy.deepcopy(adapted.base_model.model), inputs, labels)
    assert smooth(adapted, EPS) is adapted
    output = adapted(**inputs, labels=labels)
    torch.testing.assert_close(output.loss, exact, rtol=1e-10, atol=0)
    assert output.logits is None


def test_a_decoder_that_is_not_fed_from_labels_is_not_fed_from_them_here():
    """FSMT feeds it from the source, unless it is told otherwise."""
    torch.manual_seed(0)
    sizes = {"langs": ["en", "de"], "src_vocab_size": K, "tgt_vocab_size": K}
    config = transformers.FSMTConfig(**(SMALL | LAYERS | sizes))
    model = transformers.FSMTForConditionalGeneration(config).train()
    ids, labels = draw(3, 7), draw(3, 7)
    own = model(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(smooth(model, 0.0)(input_ids=ids, labels=labels).loss, own)


def test_a_forward_that_calls_that_of_its_base_feeds_the_decoder_as_that_does():
    class Delegating(transformers.BartForConditionalGeneration):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    torch.manual_seed(0)
    model = Delegating(transformers.BartConfig(**SMALL, **LAYERS)).train()
    ids, labels = draw(3, 7), draw(3, 7)
    own = model(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(smooth(model, 0.0)(input_ids=ids, labels=labels).loss, own)


def test_softcaps_by_another_name_are_known():
    torch.manual_seed(0)
    sizes = COMMON | {"lru_width": 16, "attention_window_size": 8, "logits_soft_cap": 0.5}
    config = transformers.RecurrentGemmaConfig(**sizes, block_types=["recurrent", "attention"])
    model = transformers.RecurrentGemmaForCausalLM(config).double().train()
    ids, labels = draw(2, 8), draw(2, 8)
    exact = definition(model, {"input_ids": ids}, labels)
    output = smooth(model, EPS)(input_ids=ids, labels=labels)
    torch.testing.assert_close(output.loss, exact, rtol=1e-10, atol=0)
    assert output.logits is None


def routers():
    sizes = {"d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "num_experts": 2, "expert_capacity": 4}
    return transformers.SwitchTransformersForConditionalGeneration(
        transformers.SwitchTransformersConfig(**SMALL, **sizes)
    )


def regression():
    return transformers.BertForSequenceClassification(transformers.BertConfig(**COMMON, num_labels=1))


def unshifted():
    return transformers.BartForCausalLM(transformers.BartConfig(**SMALL, **LAYERS))


@pytest.mark.parametrize(
    ("make", "eps", "error", "says"),
    [
        (lambda: torch.nn.Linear(2, 2), 0.1, TypeError, "model must be one of transformers, got Linear"),
        (lambda: causal("Llama")[0], 1.5, ValueError, "got 1.5"),
        (regression, 0.1, ValueError, "one label among several, got regression with 1 outputs"),
        (routers, 0.1, ValueError, "SwitchTransformersForConditionalGeneration adds something to its loss"),
        (unshifted, 0.1, ValueError, "BartForCausalLM has a loss of its own"),
        (
            lambda: transformers.LlamaModel(transformers.LlamaConfig(**COMMON)),
            0.1,
            ValueError,
            "no output embedding",
        ),
    ],
)
def test_what_cannot_be_smoothed_is_told_in_one_sentence(make, eps, error, says):
    model = make()
    with pytest.raises(error, match=says):
        smooth(model, eps)


def test_labels_of_several_classes_at_a_time_are_refused():
    model, inputs, _ = made("BertForSequenceClassification")
    smooth(model, EPS)
    with pytest.raises(ValueError, match="labels that are no whole numbers"):
        model(**inputs, labels=torch.rand(3, 5))


def test_logits_made_in_an_unknown_way_are_made(caplog):
    """Rather than to train by the loss of other logits; ESM adds a bias of its own."""

    class Odd(transformers.LlamaForCausalLM):
        def forward(self, input_ids, labels=None, **kwargs):
            output = super().forward(input_ids, **kwargs)
            output.logits = 3 * output.logits
            if labels is not None:
                output.loss = self.loss_function(output.logits, labels, K)
            return output

    model = Odd(transformers.LlamaConfig(**COMMON)).double().train()
    ids, labels = draw(2, 5), draw(2, 5)
    logits = model(ids).logits[:, :-1].reshape(-1, K)
    exact = F.cross_entropy(logits, labels[:, 1:].reshape(-1), label_smoothing=EPS)
    smooth(model, EPS)
    with caplog.at_level(logging.WARNING, logger="labelsmooth"):
        assert model(input_ids=ids, labels=torch.full_like(labels, -100)).loss == 0  # which tells nothing
        for _ in range(2):
            torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, exact, rtol=1e-10, atol=0)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("labelsmooth")]
    assert ours == ["all logits are made, as Odd does more to its logits than is known"]


def test_a_forward_may_be_wrapped_and_not_replaced():
    """Accelerate wraps it for mixed precision; Liger Kernel would replace it, and the smoothing with it."""
    model, inputs, labels = made("Llama")
    exact = definition(copy.deepcopy(model), inputs, labels)
    prepared = accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare(smooth(model.float(), EPS))
    torch.testing.assert_close(prepared(**inputs, labels=labels).loss.double(), exact, rtol=1e-2, atol=0)
    with pytest.raises(RuntimeError, match="as Liger Kernel does"):
        prepared.forward = types.MethodType(lambda _self, **_: None, prepared)


def test_a_smoothed_model_is_copied_and_saved_as_it_was(tmp_path):
    model, inputs, labels = made("Llama")
    smooth(model, EPS)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.lm_head.weight.zero_()
    loss = twin(**inputs, labels=labels).loss
    torch.testing.assert_close(loss, torch.tensor(K, dtype=torch.float64).log(), rtol=1e-10, atol=0)
    model.save_pretrained(tmp_path)
    assert transformers.AutoConfig.from_pretrained(tmp_path).architectures == ["LlamaForCausalLM"]
    assert type(transformers.AutoModelForCausalLM.from_pretrained(tmp_path)) is transformers.LlamaForCausalLM
    with pytest.raises(RuntimeError, match="nn.DataParallel"):
        model._replicate_for_data_parallel()


class Kept(transformers.TrainerCallback):
    """What a tracker is sent."""

    def __init__(self):
        self.logs = []

    def on_log(self, *_, logs, **__):
        self.logs.append(dict(logs))


def trainer(model, rows, folder, **settings):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no",
        logging_steps=1, num_train_epochs=1, learning_rate=0.0, lr_scheduler_type="constant", **settings,
    )  # fmt: skip
    kept = Kept()
    return transformers.Trainer(
        model, arguments, train_dataset=rows, eval_dataset=rows, callbacks=[kept],
        data_collator=transformers.default_data_collator,
    ), kept  # fmt: skip


def test_a_trainer_logs_the_smoothed_loss_and_the_plain_numbers(tmp_path):
    """Over micro-batches with unequal numbers of tokens; evaluation is the plain NLL."""
    torch.manual_seed(0)
    model = causal("Llama")[0]
    ids, labels = draw(8, 9), draw(8, 9)
    labels[:3, 4:] = -100
    rows = [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]
    whole = copy.deepcopy(model).double().train()
    exact, nll = (
        float(definition(whole, {"input_ids": ids}, labels, eps=eps).detach()) for eps in (EPS, 0.0)
    )
    logits = whole(ids).logits[:, :-1].reshape(-1, K)
    training, kept = trainer(
        smooth(model, EPS), rows, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    assert log_training(training) is training
    training.train()
    (log,) = [log for log in kept.logs if "loss" in log]
    assert log["loss"] == pytest.approx(exact, rel=1e-5)
    assert log["nll"] == pytest.approx(nll, rel=1e-5)
    counted = labels[:, 1:].reshape(-1) != -100
    calibration = ls.measure.Calibration()
    calibration.update(logits.detach()[counted], labels[:, 1:].reshape(-1)[counted])
    expected = calibration.compute()
    assert log["accuracy"] == expected.accuracy
    assert log["ece"] == pytest.approx(expected.ece, rel=1e-5)
    assert training.state.log_history[0]["ece"] == log["ece"]
    assert training.evaluate()["eval_loss"] == pytest.approx(nll, rel=1e-2)  # a mean of batches


def test_a_log_of_no_token_has_no_numbers(tmp_path):
    torch.manual_seed(0)
    rows = [{"input_ids": draw(5), "labels": torch.full((5,), -100)} for _ in range(2)]
    training, kept = trainer(smooth(causal("Llama")[0], EPS), rows, tmp_path)
    log_training(training).train()
    (log,) = [log for log in kept.logs if "loss" in log]
    assert log["loss"] == 0
    assert "nll" not in log


def test_a_trainer_that_smooths_too_is_refused(tmp_path):
    model = causal("Llama")[0]
    training, _ = trainer(model, [], tmp_path)
    with pytest.raises(ValueError, match=r"not smoothed, call smooth\(model, …\) first"):
        log_training(training)
    training, _ = trainer(smooth(model, EPS), [], tmp_path, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="got label_smoothing_factor as well"):
        log_training(training)
