"""Smoothing in TRL's fine-tuning, against the definition on the model's own logits."""

import copy

import pytest
import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models
from torch.nn import functional as F
from trl import DPOConfig, SFTConfig, SFTTrainer

import labelsmooth as ls
from labelsmooth.integrations.hf import log_training, smooth
from labelsmooth.integrations.trl import SmoothedDPOTrainer, SmoothedSFTTrainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of TRL, for what it calls itself
K, EPS = 61, 0.1
SIZES = {
    "vocab_size": K, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 2,
}  # fmt: skip


def tokenizer():
    words = Tokenizer(models.WordLevel({str(number): number for number in range(K)}, unk_token="3"))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="0", eos_token="2", unk_token="3"
    )


def rows():
    """Eight rows of unequal length, of which some tokens are not trained on."""
    torch.manual_seed(0)
    found = []
    for length in (9, 4, 7, 12, 5, 5, 6, 8):
        ids = torch.randint(3, K, (length,))
        found.append({"input_ids": ids.tolist(), "labels": [-100] * 2 + ids[2:].tolist()})
    return found


def llama(**more):
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **more))


def mixtral():
    torch.manual_seed(0)
    more = {"num_local_experts": 4, "experts_implementation": "eager", "router_aux_loss_coef": 0.3}
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**SIZES, **more))


def trainer(model, folder, label_smoothing=EPS, peft_config=None, **settings):
    arguments = SFTConfig(
        output_dir=str(folder), report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", bf16=False,
        logging_steps=1, num_train_epochs=1, learning_rate=0.0, lr_scheduler_type="constant", seed=0,
        gradient_checkpointing=False, dataset_kwargs={"skip_prepare_dataset": True},
        **({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4} | settings),
    )  # fmt: skip
    data = Dataset.from_list(rows())
    return SmoothedSFTTrainer(
        model, arguments, train_dataset=data, eval_dataset=data, processing_class=tokenizer(),
        label_smoothing=label_smoothing, peft_config=peft_config,
    )  # fmt: skip


def expected(model, eps):
    """The mean smoothed loss of all tokens trained on, their accuracy and the mean entropy of each row."""
    losses, correct, entropy = [], [], []
    for row in rows():
        log_p = model(torch.tensor([row["input_ids"]])).logits[0, :-1].log_softmax(-1)
        target = torch.tensor(row["labels"][1:])
        log_p, target = log_p[target != -100], target[target != -100]
        q = (1 - eps) * F.one_hot(target, K).double() + eps / K
        losses.append(-(q * log_p).sum(-1))
        correct.append(log_p.argmax(-1) == target)
        entropy.append(-(log_p.exp() * log_p).sum(-1))
    return torch.cat(losses).mean().item(), torch.cat(correct).double().mean().item(), entropy


@pytest.mark.parametrize("softcap", [False, True])
def test_training_is_smoothed_and_evaluation_is_not(tmp_path, softcap):
    model = llama()
    if softcap:
        torch.manual_seed(0)
        config = transformers.Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0)
        model = transformers.Gemma2ForCausalLM(config)
    whole = copy.deepcopy(model).double().eval()
    training = trainer(model, tmp_path)
    training.train()
    (log,) = [log for log in training.state.log_history if "loss" in log]
    loss, accuracy, entropy = expected(whole, EPS)
    assert log["loss"] == pytest.approx(loss, rel=1e-5)
    assert log["num_tokens"] == 56
    # TRL takes the mean of micro-batches for these two
    assert log["mean_token_accuracy"] == pytest.approx(accuracy, abs=0.05)
    assert log["entropy"] == pytest.approx(torch.cat(entropy).mean().item(), rel=0.01)
    nll, _, _ = expected(whole, 0.0)
    evaluated = training.evaluate()
    assert evaluated["eval_loss"] == pytest.approx(nll, rel=0.02)  # a mean of batches


def test_the_loss_of_the_routers_is_trl_s_own(tmp_path):
    """At ε = 0 all is as without."""
    ours = trainer(mixtral(), tmp_path, 0.0, per_device_train_batch_size=4)
    theirs = SFTTrainer(
        mixtral(), copy.deepcopy(ours.args), train_dataset=ours.train_dataset, processing_class=tokenizer()
    )
    logs = []
    for training in (ours, theirs):
        training.train()
        logs.append(next(log for log in training.state.log_history if "loss" in log))
    for name in ("loss", "aux_loss", "entropy", "mean_token_accuracy", "num_tokens", "grad_norm"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-4), name


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("given", ["a model of peft", "a config of peft"])
def test_adapters_are_trained_by_the_smoothed_loss(tmp_path, given):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", lora_dropout=0.0)
    model = llama()
    whole = copy.deepcopy(model).double().eval()  # an adapter that is not trained changes nothing
    if given == "a model of peft":
        training = trainer(peft.get_peft_model(model, config), tmp_path)
    else:
        training = trainer(model, tmp_path, peft_config=config)
    log_training(training).train()
    (log,) = [log for log in training.state.log_history if "loss" in log]
    loss, accuracy, _ = expected(whole, EPS)
    assert log["loss"] == pytest.approx(loss, rel=1e-5)
    assert log["accuracy"] == pytest.approx(accuracy, rel=1e-5)
    assert log["nll"] == pytest.approx(expected(whole, 0.0)[0], rel=1e-5)
    assert log["grad_norm"] > 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"loss_type": "dft"}, "got loss_type='dft' as well"),
        ({"label_smoothing_factor": 0.1}, "got label_smoothing_factor as well"),
    ],
)
def test_two_losses_are_refused(tmp_path, settings, says):
    with pytest.raises(ValueError, match=f"a smoothed trainer has a loss of its own, {says}$"):
        trainer(llama(), tmp_path, **settings)


def test_a_head_of_trl_s_own_does_not_take_the_place_of_the_smoothing(tmp_path):
    arguments = trainer(llama(), tmp_path).args
    with pytest.raises(RuntimeError, match="give labelsmooth.integrations.trl.SmoothedSFTTrainer a model"):
        SFTTrainer(
            smooth(llama(), EPS),
            arguments,
            train_dataset=Dataset.from_list(rows()),
            processing_class=tokenizer(),
        )


def preferences(folder, label_smoothing=0.2, **settings):
    """A trainer of one batch, whose reference has other weights."""
    torch.manual_seed(1)
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, initializer_range=0.5))
    arguments = DPOConfig(
        output_dir=str(folder), report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", bf16=False,
        logging_steps=1, num_train_epochs=1, learning_rate=0.0, beta=0.5, per_device_train_batch_size=8,
        gradient_checkpointing=False, **settings,
    )  # fmt: skip
    pairs = [
        {"prompt": " 5 6", "chosen": f" {n + 10} {n + 11}", "rejected": f" {n + 20} {n + 3}"}
        for n in range(8)
    ]
    torch.manual_seed(2)
    policy = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, initializer_range=0.5))
    trainer = SmoothedDPOTrainer(
        policy, reference, args=arguments, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer(),
        label_smoothing=label_smoothing,
    )  # fmt: skip
    return trainer, policy, reference


def test_preferences_are_smoothed_conservatively(tmp_path):
    training, *networks = preferences(tmp_path)
    policy, reference = (copy.deepcopy(network).double().eval() for network in networks)
    (batch,) = training.get_train_dataloader()  # the preferred answers, then the others
    training.train()
    (log,) = [log for log in training.state.log_history if "loss" in log]

    def margin(network):
        logits = network(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        of_tokens = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
        preferred, other = (of_tokens * batch["completion_mask"][:, 1:]).sum(1).split(8)
        return preferred - other

    margins = margin(policy) - margin(reference)
    expected = ls.preference_loss(margins, 0.5, 0.2)
    assert log["loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert abs(margins).max() > 1  # where smoothing makes a difference


def test_other_losses_of_preferences_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got \\['ipo'\\] and 0"):
        preferences(tmp_path, loss_type="ipo")
    with pytest.raises(ValueError, match=r"in \[0, 0.5\), got 0.5"):
        preferences(tmp_path, 0.5)
    for label_smoothing in (None, "0.1", ls.uniform(0.1)):
        with pytest.raises(TypeError, match="must be a number"):
            preferences(tmp_path, label_smoothing)
