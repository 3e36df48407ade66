"""Beam search beside `generate`, and what temperature and rectification do to it."""

import copy
from itertools import takewhile

import pytest
import torch
from translations import FILE

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.decoding import Decoding, decode
from labelsmooth.study.tasks.translation.data import load_translation
from labelsmooth.study.tasks.translation.models import build_translator

ENDS = {"pad": 0, "end": 1, "max_tokens": 12}


@pytest.fixture(scope="module")
def data():
    return load_translation(f"tsv:{FILE}", vocabulary_size=400, max_tokens=200)


@pytest.fixture(scope="module")
def body(tiny, data):
    network = build_translator("small", data.summary, 0, 0.1).eval()
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():  # so that sentences differ, and some end
        for parameter in network.body.parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                parameter.normal_(0, 0.5, generator=chance)
        network.body.final_logits_bias[0, 1] = 6.0
    return network.body


def generated(body, sentences, **settings):
    """Sentences of transformers' own search, one after the other."""
    found = []
    for source in sentences.source_tokens:
        made = body.generate(torch.tensor([source]), max_new_tokens=12, do_sample=False, **settings)
        found.append([[*takewhile(lambda token: token != 1, tokens)] for tokens in made[:, 1:].tolist()])
    return found


def split(hypotheses):
    tokens = iter(hypotheses.tokens.tolist())
    return [[[next(tokens) for _ in range(length)] for length in row] for row in hypotheses.lengths.tolist()]


@pytest.mark.parametrize(("beams", "penalty"), [(1, 1.0), (4, 1.0), (3, 2.0)])
def test_the_best_sentences_are_those_of_generate(body, data, beams, penalty):
    sentences = data.test.select(range(6))
    found = decode(body, sentences, Decoding(beams=beams, length_penalty=penalty), **ENDS)
    expected = generated(body, sentences, num_beams=beams, num_return_sequences=beams, length_penalty=penalty)
    assert split(found) == expected
    assert found.best() == [best[0] for best in expected]
    assert len({tuple(sentence) for sentence in found.best()}) > 2


def test_beam_search_finds_what_is_at_least_as_probable(body, data):
    sentences = data.test.select(range(6))

    def log_probability(source, sentence):
        labels = torch.tensor([[*sentence, *([1] if len(sentence) < 12 else [])]])
        with torch.no_grad():
            return -float(body(input_ids=torch.tensor([source]), labels=labels).loss)  # a token

    greedy, searched = (decode(body, sentences, Decoding(beams=beams), **ENDS).best() for beams in (1, 8))
    scores = [sum(map(log_probability, sentences.source_tokens, best)) for best in (greedy, searched)]
    assert scores[1] >= scores[0]


def test_a_temperature_does_what_dividing_the_logits_does(body, data):
    sentences = data.test.select(range(6))
    found, plain = (
        decode(body, sentences, Decoding(beams=4, temperature=temperature), **ENDS)
        for temperature in (0.3, 1.0)
    )
    assert found.best() != plain.best()
    greedy = [decode(body, sentences, Decoding(beams=1, temperature=T), **ENDS).best() for T in (0.3, 1.0)]
    assert greedy[0] == greedy[1]  # the largest stays the largest
    sharper = copy.deepcopy(body)
    sharper.final_logits_bias.div_(0.3)
    sharper.lm_head.register_forward_hook(lambda _, inputs, logits: logits / 0.3)
    assert split(found) == generated(sharper, sentences, num_beams=4, num_return_sequences=4)


def test_scores_are_log_probabilities_of_the_formulas():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(
        Decoding(beams=1, temperature=2.0).scores(logits).exp(), (logits / 2).softmax(-1)
    )
    rectified = Decoding(beams=1, rectify=0.5).scores(logits)
    expected = (logits.softmax(-1) - 0.5 / 7).clamp_min(0)
    torch.testing.assert_close(rectified.exp(), expected / expected.sum(-1, keepdim=True))
    assert (expected == 0).any()
    # of log-probabilities, which beam search hands over, they are the same
    torch.testing.assert_close(Decoding(beams=1, rectify=0.5).scores(logits.log_softmax(-1)), rectified)
    # what smoothing adds is taken back: of the smoothed target nothing but the label is left
    target = 0.9 * torch.eye(7)[:1] + 0.1 / 7
    torch.testing.assert_close(Decoding(beams=1, rectify=0.1).scores(target.log()).exp(), torch.eye(7)[:1])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"beams": 0}, "beams must be at least 1, got 0"),
        ({"beams": 1, "temperature": 0.0}, "temperature must be above 0 and finite, got 0"),
        ({"beams": 1, "rectify": 1.0}, r"rectify must lie in \[0, 1\), got 1"),
    ],
)
def test_numbers_out_of_range(settings, says):
    with pytest.raises(InputError, match=says):
        Decoding(**settings)


def test_padding_changes_no_translation(body, data):
    sentences = data.test.select(range(4))
    together = split(decode(body, sentences, Decoding(beams=2), **ENDS))
    assert [
        split(decode(body, data.test.select([row]), Decoding(beams=2), **ENDS))[0] for row in range(4)
    ] == together
    assert (sentences.inputs(range(4))["attention_mask"] == 0).any()


def test_a_hypothesis_keeps_a_token_that_fills_up_before_its_end(body, data):
    """Its probability and its length would else be those of another sentence."""
    filling = copy.deepcopy(body)
    filling.final_logits_bias[0, 0] = 100.0
    assert decode(filling, data.test.select([0]), Decoding(beams=1), **ENDS).best() == [[0] * 12]
