"""Networks of translation: what they make of sentences, and what is refused."""

import pytest
import torch
from token_networks import logits_of, save_network
from torch.nn import functional as F
from transformers.utils import logging
from translations import FILE

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.network import (
    check_model,
    model_sha256,
    own_modules,
    own_vocabulary,
)
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED
from labelsmooth.study.tasks.translation.data import load_translation
from labelsmooth.study.tasks.translation.models import MODELS, _marian, build_translator

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def data():
    return load_translation(f"tsv:{FILE}", vocabulary_size=400, max_tokens=200)


def test_the_nll_is_that_of_transformers_itself(data):
    network = build_translator("small", data.summary, 0, 0.1).eval()
    batch = data.test.batch(range(3))
    assert (batch.labels == UNCOUNTED).any()
    with torch.no_grad():
        ours = F.cross_entropy(logits_of(network, batch).double(), batch.labels[batch.labels != UNCOUNTED])
        theirs = network.body(**batch.inputs, labels=batch.labels).loss
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


def test_padding_and_neighbours_change_nothing_but_rounding(data):
    network = build_translator("small", data.summary, 0, 0.1).eval()
    with torch.no_grad():
        together = logits_of(network, data.test.batch(range(4)))
        alone = [logits_of(network, data.test.batch([row])) for row in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_weights_follow_from_the_seed_alone(data):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_translator("small", data.summary, 0, 0.1)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = (build_translator("small", data.summary, seed, 0.1) for seed in (0, 1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.body.lm_head.weight, other.body.lm_head.weight)
    assert first.body.lm_head.weight is first.body.model.shared.weight


def test_the_base_network_is_that_of_the_paper(data):
    sizes = {"vocab_size": 37_000, "pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1}
    with torch.device("meta"):
        body = _marian("base", sizes, 0.1)
    trained = sum(parameter.numel() for parameter in body.parameters() if parameter.requires_grad)
    # Vaswani et al. 2017, table 3: 65 million
    assert 62e6 < trained < 68e6


def test_a_saved_model_brings_its_weights_and_its_vocabulary(data, tmp_path, capfd):
    network = build_translator("small", data.summary, 5, 0.1)
    model = save_network(network, data.vocabulary, tmp_path)
    assert own_vocabulary(model) == data.vocabulary
    capfd.readouterr()
    assert logging.is_progress_bar_enabled()
    loaded = build_translator(model, data.summary, 0, 0.1)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    before = model_sha256(model)
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text() + " ")
    assert model_sha256(model) != before
    assert own_modules(model) == []
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer.json is no .json file, or is damaged"):
        own_vocabulary(model)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="must be an encoder with a decoder, got the model_type 'gpt2'"):
        own_vocabulary(model)
    (tmp_path / "config.json").write_text('{"is_encoder_decoder": true}')
    with pytest.raises(InputError, match="config.json must hold a whole number pad_token_id, got none"):
        own_vocabulary(model)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read as a model of transformers"):
        build_translator(model, data.summary, 0, 0.1)
    with pytest.raises(FileNotFoundError, match="^hf:gpt2 must name a folder with a config.json"):
        own_vocabulary("hf:gpt2")
    with pytest.raises(InputError, match="must be a folder of .json and .safetensors files"):
        model_sha256(f"hf:{tmp_path / 'none'}")


def test_networks_of_the_users_own(data, module):
    from transformers import BartConfig, BartForConditionalGeneration

    def small_bart(**sizes):
        layers = {
            f"{part}_{name}": 1 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")
        }
        return BartForConditionalGeneration(
            BartConfig(
                d_model=16,
                encoder_ffn_dim=16,
                decoder_ffn_dim=16,
                forced_eos_token_id=None,
                **layers,
                **sizes,
            )
        )

    module.small_bart = small_bart
    network = build_translator("own_models:small_bart", data.summary, 0, 0.1)
    assert network.body.config.d_model == 16
    assert own_modules("own_models:small_bart") == ["own_models"]
    module.list = lambda **_: []
    with pytest.raises(InputError, match="must be an encoder and decoder of transformers, got list"):
        build_translator("own_models:list", data.summary, 0, 0.1)
    module.narrow = lambda **sizes: small_bart(**{**sizes, "vocab_size": 300})
    with pytest.raises(InputError, match="one logit for each of the 400 tokens of the vocabulary, got 300"):
        build_translator("own_models:narrow", data.summary, 0, 0.1)
    module.broken = lambda: None
    with pytest.raises(InputError, match="own_models:broken raised TypeError"):
        build_translator("own_models:broken", data.summary, 0, 0.1)


@pytest.mark.parametrize("model", ["large", "hf", "a:b:c", ""])
def test_names_that_are_no_model(model):
    with pytest.raises(InputError, match="model must be one of small, base, hf:FOLDER, or module:factory"):
        check_model(model, MODELS)
