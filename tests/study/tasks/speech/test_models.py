"""Networks of speech: what they make of utterances, beside transformers itself."""

import pytest
import torch
from recordings import FILE
from token_networks import logits_of, save_network
from torch.nn import functional as F

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.decoding import Decoding, decode
from labelsmooth.study.tasks.sequences.network import own_vocabulary
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED
from labelsmooth.study.tasks.speech.data import load_speech
from labelsmooth.study.tasks.speech.models import build_recogniser

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def data():
    return load_speech(f"manifest:{FILE}", sample_rate=8_000, vocabulary_size=0, max_seconds=10.0)


@pytest.fixture(scope="module")
def network(tiny, data):
    """One whose sentences differ, and some of which end."""
    made = build_recogniser("small", data.summary, 0, 0.1).eval()
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.body.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3, generator=chance)
    return made


def test_the_nll_is_that_of_transformers_itself(data, network):
    batch = data.test.batch(range(4))
    assert (batch.labels == UNCOUNTED).any()
    with torch.no_grad():
        ours = F.cross_entropy(logits_of(network, batch).double(), batch.labels[batch.labels != UNCOUNTED])
        theirs = network.body(**batch.inputs, labels=batch.labels).loss
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


def test_padding_and_neighbours_change_nothing_but_rounding(data, network):
    """Neither of predictions nor of what is decoded, though convolutions look beyond the end."""
    rows = sorted(range(len(data.test)), key=lambda row: len(data.test.features[row]))
    rows = [rows[0], rows[len(rows) // 2], rows[-1]]
    assert len({len(data.test.features[row]) for row in rows}) == 3
    with torch.no_grad():
        together = logits_of(network, data.test.batch(rows))
        alone = torch.cat([logits_of(network, data.test.batch([row])) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    marks = {"pad": data.summary.pad, "end": data.summary.end, "max_tokens": 8}
    found = decode(network.body, data.test.select(rows), Decoding(beams=3), **marks)
    for place, row in enumerate(rows):
        one = decode(network.body, data.test.select([row]), Decoding(beams=3), **marks)
        assert found.best()[place] == one.best()[0]


def test_the_encoder_knows_places(data, network):
    """As it does not for any other padding token than 1."""
    batch = data.test.batch([0])
    reversed_inputs = {**batch.inputs, "input_features": batch.inputs["input_features"].flip(1)}
    embedded = network.body.model.encoder.embed_positions(torch.zeros(1, 5, dtype=torch.long))
    assert len({tuple(row) for row in embedded[0].tolist()}) == 5
    with torch.no_grad():
        plain, turned = (network(inputs, batch.labels).features for inputs in (batch.inputs, reversed_inputs))
    assert not torch.allclose(plain, turned, atol=1e-3)


def test_weights_follow_from_the_seed_alone(data):
    first, again, other = (build_recogniser("small", data.summary, seed, 0.1) for seed in (0, 0, 1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.body.lm_head.weight, other.body.lm_head.weight)


def test_a_saved_model_brings_its_weights_and_its_vocabulary(data, network, tmp_path):
    model = save_network(network, data.vocabulary, tmp_path)
    assert own_vocabulary(model) == data.vocabulary
    loaded = build_recogniser(model, data.summary, 0, 0.1).eval()
    batch = data.test.batch(range(2))
    with torch.no_grad():
        assert torch.equal(logits_of(loaded, batch), logits_of(network, batch))


def test_the_base_network_is_that_of_fairseq(data):
    from labelsmooth.study.tasks.speech.models import _speech2text

    sizes = {
        "vocab_size": 10_000, "pad_token_id": 1, "eos_token_id": 0, "decoder_start_token_id": 0,
        "max_source_positions": 6000, "max_target_positions": 1024,
    }  # fmt: skip
    with torch.device("meta"):
        body = _speech2text("base", sizes, 0.1)
    trained = sum(parameter.numel() for parameter in body.parameters() if parameter.requires_grad)
    # Wang et al. 2020, table 3: 31 million, with a vocabulary of 10,000
    assert 28e6 < trained < 32e6


@pytest.mark.parametrize("model", ["large", "hf", "a:b:c", ""])
def test_names_that_are_no_model(data, model):
    with pytest.raises(InputError, match="model must be one of small, base, hf:FOLDER, or module:factory"):
        build_recogniser(model, data.summary, 0, 0.1)
