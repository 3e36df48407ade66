"""Causal language models: what they make of texts, and what is refused."""

import json
import types
from dataclasses import replace

import pytest
import torch
from texts import write_prose, write_questions
from token_networks import logits_of, save_network
from torch.nn import functional as F

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.language_model.choices import option_log_probs
from labelsmooth.study.tasks.language_model.data import load_language
from labelsmooth.study.tasks.language_model.models import (
    _gpt2,
    build_language_model,
    own_vocabulary,
)
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_language(
        write_questions(tmp_path_factory.mktemp("questions")), vocabulary_size=400, max_tokens=200
    )


def test_the_nll_is_that_of_transformers_with_prompts_masked(data, tmp_path):
    prose = load_language(write_prose(tmp_path), vocabulary_size=400, max_tokens=30)
    for texts in (data, prose):
        network = build_language_model("small", texts.summary, 0, 0.1).eval()
        batch = texts.test.batch(range(5))
        assert (batch.labels[:, -1] == UNCOUNTED).any()
        with torch.no_grad():
            ours = F.cross_entropy(
                logits_of(network, batch).double(), batch.labels[batch.labels != UNCOUNTED]
            )
            theirs = network.body(**batch.inputs, labels=batch.labels).loss
        assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


def test_padding_and_neighbours_change_nothing_but_rounding(data):
    network = build_language_model("small", data.summary, 0, 0.1).eval()
    with torch.no_grad():
        together = logits_of(network, data.test.batch(range(4)))
        alone = [logits_of(network, data.test.batch([row])) for row in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_the_likelihood_of_an_option_is_that_of_transformers_logits(data):
    network = build_language_model("small", data.summary, 0, 0.1).eval()
    options = data.choices["test"].options
    ours = option_log_probs(network, options)
    for row in range(len(options)):
        prompt, target = options.prompt_tokens[row], options.target_tokens[row]
        with torch.no_grad():
            logits = network.body(torch.tensor([[*prompt, *target]])).logits[0]
        log_probs = logits[len(prompt) - 1 : -1].double().log_softmax(-1)
        expected = log_probs[torch.arange(len(target)), list(target)].sum()
        assert ours[row] == pytest.approx(float(expected), abs=1e-5)


def test_weights_follow_from_the_seed_alone(data):
    first, again, other = (build_language_model("small", data.summary, seed, 0.1) for seed in (0, 0, 1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.body.lm_head.weight, other.body.lm_head.weight)
    assert first.body.lm_head.weight is first.body.transformer.wte.weight


def test_the_base_network_is_that_of_the_paper():
    sizes = {"vocab_size": 50_257, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1}
    with torch.device("meta"):
        body = _gpt2("base", {**sizes, "max_position_embeddings": 1024}, 0.1)
    # the 117 million of Radford et al. 2019, table 2, which its authors corrected to 124
    assert sum(parameter.numel() for parameter in body.parameters()) == 124_439_808


def changed(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_saved_model_brings_its_weights_and_its_vocabulary(data, tmp_path):
    network = build_language_model("small", data.summary, 5, 0.1)
    model = save_network(network, data.vocabulary, tmp_path)
    assert own_vocabulary(model) == (replace(data.vocabulary, reads_marks=True), 400)
    assert own_vocabulary("small") == (None, None)
    loaded = build_language_model(model, data.summary, 0, 0.1)
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    # as in configs that name no start and no padding, and several ends
    changed(tmp_path, bos_token_id=None, pad_token_id=-1, eos_token_id=[1, 2])
    vocabulary, _ = own_vocabulary(model)
    assert (vocabulary.start, vocabulary.pad, vocabulary.end) == (1, 1, 1)
    changed(tmp_path, vocab_size=399)
    with pytest.raises(
        InputError, match="vocab_size of .* at least the 400 tokens of its tokenizer, got 399"
    ):
        own_vocabulary(model)
    changed(tmp_path, eos_token_id=None)
    with pytest.raises(InputError, match="config.json must hold a whole number eos_token_id, got none"):
        own_vocabulary(model)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read as a model of transformers"):
        build_language_model(model, data.summary, 0, 0.1)


def test_a_saved_model_may_have_more_logits_than_tokens(data, tmp_path):
    module = types.SimpleNamespace(**vars(data.summary) | {"num_classes": 448})
    model = save_network(build_language_model("small", module, 5, 0.1), data.vocabulary, tmp_path)
    vocabulary, size = own_vocabulary(model)
    assert (len(vocabulary), size) == (400, 448)


def small(name, sizes, config=None, **values):
    import transformers

    config = getattr(transformers, config or f"{name}Config")(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, **sizes, **values,
    )  # fmt: skip
    return getattr(transformers, f"{name}ForCausalLM")(config)


def test_networks_of_the_users_own(data, module):
    module.llama = lambda **sizes: small("Llama", sizes)
    network = build_language_model("own_models:llama", data.summary, 0, 0.1)
    assert network.body.config.bos_token_id == data.summary.start
    module.short = lambda **sizes: small("Llama", {**sizes, "max_position_embeddings": 99})
    with pytest.raises(InputError, match="max_tokens must be at most the 99 positions of own_models:short"):
        build_language_model("own_models:short", data.summary, 0, 0.1)
    module.narrow = lambda **sizes: small("Llama", {**sizes, "vocab_size": 300})
    with pytest.raises(InputError, match="one logit for each of the 400 tokens of the vocabulary, got 300"):
        build_language_model("own_models:narrow", data.summary, 0, 0.1)
    module.list = lambda **_: []
    with pytest.raises(InputError, match="must be a causal language model of transformers, got list"):
        build_language_model("own_models:list", data.summary, 0, 0.1)


@pytest.mark.parametrize(
    ("name", "values"),
    [("Gemma2", {"final_logit_softcapping": 30.0}), ("Cohere", {"logit_scale": 0.0625})],
)
def test_logits_that_no_linear_layer_makes_are_refused(data, module, name, values):
    module.bent = lambda **sizes: small(name, sizes, **values)
    with pytest.raises(InputError, match="the logits of own_models:bent must be what a linear layer makes"):
        build_language_model("own_models:bent", data.summary, 0, 0.1)


def test_networks_that_see_what_they_predict_are_refused(data, module):
    module.both = lambda **sizes: small(
        "Gemma3", sizes, config="Gemma3TextConfig", use_bidirectional_attention=True
    )
    with pytest.raises(InputError, match="own_models:both must predict each token from those before it"):
        build_language_model("own_models:both", data.summary, 0, 0.1)
