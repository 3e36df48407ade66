"""Losses of CTC and of guided alignment, beside their definitions and beside transformers itself."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from recordings import FILE
from torch.nn import functional as F

from labelsmooth.objectives import Objective, TrainingFacts
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED
from labelsmooth.study.tasks.speech import TASK, Recipe, alignment
from labelsmooth.study.tasks.speech.alignment import (
    CTC_WEIGHT,
    GUIDED_WEIGHT,
    Recogniser,
    ctc_alignment,
    ctc_loss,
    guided_alignment_loss,
)
from labelsmooth.study.tasks.speech.models import build_recogniser

RECIPE = Recipe(data=f"manifest:{FILE}", sample_rate=8_000, dropout=0.0)
END, BLANK = 0, 1


@pytest.fixture(autouse=True)
def _no_noise(monkeypatch):
    monkeypatch.setattr(alignment, "NOISE", 0.0)


@pytest.fixture(scope="module")
def network(data, tiny):
    made = build_recogniser("small", data.summary, 0, 0.0)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made.ctc.weight.normal_(0, 0.3, generator=chance)
    return made


def spelled(path):
    """Give what a path of tokens spells: one of each run, without blanks."""
    return [token for token, _ in itertools.groupby(path) if token != BLANK]


def probabilities_of_paths(log_probs, text):
    """Give the probability of each path (S,) of tokens that spells a text."""
    states, classes = log_probs.shape
    paths = (path for path in itertools.product(range(classes), repeat=states) if spelled(path) == text)
    return {
        path: math.exp(sum(float(log_probs[at, token]) for at, token in enumerate(path))) for path in paths
    }


def test_ctc_is_the_sum_over_all_paths():
    log_probs = torch.randn(3, 5, 4, dtype=torch.float64).log_softmax(-1)
    labels = torch.tensor([[2, 3, 3, END], [3, END, UNCOUNTED, UNCOUNTED], [UNCOUNTED] * 4])
    heard = torch.tensor([5, 3, 4])  # what lies behind must not count, nor a text without a token
    first = sum(probabilities_of_paths(log_probs[0], [2, 3, 3]).values())
    second = sum(probabilities_of_paths(log_probs[1, :3], [3]).values())
    expected = -math.log(first) - math.log(second)
    assert float(ctc_loss(log_probs, heard, labels, blank=BLANK)) == pytest.approx(expected, rel=1e-12)


def test_a_text_that_its_states_cannot_spell_counts_nothing():
    """3, 3 needs a blank between."""
    log_probs = torch.zeros(1, 2, 4).log_softmax(-1).requires_grad_()
    loss = ctc_loss(log_probs, torch.tensor([2]), torch.tensor([[3, 3, END]]), blank=BLANK)
    loss.backward()
    assert loss.item() == 0
    assert not log_probs.grad.any()


def test_the_alignment_of_ctc_is_that_of_all_paths():
    """Where a state spells a place, of the probability of all paths; the end is in the last state."""
    log_probs = torch.randn(3, 5, 4, dtype=torch.float64).log_softmax(-1)
    labels = torch.tensor([[2, 3, 2, END], [3, END, UNCOUNTED, UNCOUNTED], [UNCOUNTED] * 4])
    heard = torch.tensor([5, 3, 4])
    expected = torch.zeros(3, 4, 5, dtype=torch.float64)
    for row, text in enumerate([[2, 3, 2], [3]]):
        for path, probability in probabilities_of_paths(log_probs[row, : heard[row]], text).items():
            place = -1
            for state, token in enumerate(path):
                place += token != BLANK and (state == 0 or token != path[state - 1])
                if token != BLANK:
                    expected[row, place, state] += probability
        expected[row, len(text), heard[row] - 1] = 1
    expected /= expected.sum(2, keepdim=True).clamp(min=1e-300)
    torch.testing.assert_close(ctc_alignment(log_probs, heard, labels, blank=BLANK), expected)


def test_places_of_one_token_are_told_apart():
    """Two states, a token twice: each state spells one."""
    log_probs = torch.zeros(1, 2, 3).log_softmax(-1)
    found = ctc_alignment(log_probs, torch.tensor([2]), torch.tensor([[2, 2, END]]), blank=BLANK)
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0], [0, 1], [0, 1]]]))


def test_guided_alignment_is_a_cross_entropy_and_least_where_attention_is_the_alignment():
    alignment = torch.rand(2, 4, 6, dtype=torch.float64).softmax(-1)
    attention = torch.rand(2, 3, 4, 6, dtype=torch.float64).softmax(-1).requires_grad_()
    loss = guided_alignment_loss(attention, alignment)
    loss.backward()
    mean = attention.detach().mean(1)
    assert loss.item() == pytest.approx(float(-(alignment * mean.log()).sum()), rel=1e-4)
    torch.testing.assert_close(
        attention.grad, (-alignment / mean / 3)[:, None].expand(2, 3, 4, 6), rtol=1e-4, atol=0
    )
    entropy = float(-(alignment * alignment.log()).sum())
    least = guided_alignment_loss(alignment[:, None], alignment)
    assert least.item() == pytest.approx(entropy, rel=1e-4)
    assert entropy < loss.item()


def test_the_alignment_loss_is_that_of_what_transformers_gives(data, network):
    """Utterance by utterance, by the formulas above."""
    batch = data.test.batch(range(4))
    network.train()(batch.inputs, batch.labels)
    output = network.body(**batch.inputs, labels=batch.labels, output_attentions=True)
    expected = 0.0
    for row, labels in enumerate(batch.labels):
        tokens = int((labels != UNCOUNTED).sum())
        states = math.ceil(math.ceil(int(batch.inputs["attention_mask"][row].sum()) / 2) / 2)
        log_probs = network.ctc(output.encoder_last_hidden_state[row, None, :states]).log_softmax(-1)
        text, length = labels[None, :tokens], torch.tensor([states])
        ctc = F.ctc_loss(
            log_probs.transpose(0, 1), text, [states], [tokens - 1], blank=BLANK, reduction="sum"
        )
        alignment = ctc_alignment(log_probs, length, text, blank=BLANK)
        attended = torch.stack([each[row].mean(0)[:tokens, :states] for each in output.cross_attentions])
        guided = -(alignment * attended.log()).sum((1, 2)).mean()
        expected += CTC_WEIGHT * ctc.item() + GUIDED_WEIGHT * guided.item()
    assert network.alignment_loss.item() == pytest.approx(expected, rel=1e-4)


def test_padding_changes_the_alignment_loss_by_rounding_alone(data, network):
    rows = sorted(range(len(data.test)), key=lambda row: len(data.test.features[row]))
    losses = []
    for numbers in ([rows[0]], [rows[-1]], [rows[0], rows[-1]]):
        batch = data.test.batch(numbers)
        network.train()(batch.inputs, batch.labels)
        losses.append(network.alignment_loss.item())
    assert losses[2] == pytest.approx(losses[0] + losses[1], rel=1e-5)


@pytest.mark.parametrize("objective", ["hard", "uniform:0.1"])
@pytest.mark.parametrize("processes", [1, 2, 5])  # the fifth has no utterance
def test_every_arm_has_its_gradient_beside_the_objective(data, network, objective, processes):
    """A token; the loss that is told is the objective's, and means over processes are those of the batch."""
    criterion = Objective.parse(objective).criterion(TrainingFacts(class_counts=torch.ones(41), steps=1))
    config = RECIPE.trials(data.summary.sha256)[0]
    batch = data.train.batch(range(4))
    told = 0.0
    network.train().zero_grad()
    share = Placement()
    share.processes = processes
    for share.rank in range(processes):
        session = TASK.begin(config, data, network, share)
        loss, rows = session.loss(network, batch, criterion, None)
        assert rows == batch.rows
        (loss.value / processes).backward()
        told += loss.value.item() / processes
    found = [parameter.grad for parameter in network.parameters()]
    output = network(batch.inputs, batch.labels)
    alone, _ = criterion(output, batch.labels[batch.labels != UNCOUNTED], denominator=rows)
    assert told == pytest.approx(alone.item(), rel=1e-5)
    expected = torch.autograd.grad(alone + network.alignment_loss / rows, network.parameters())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_noise_replaces_its_part_of_the_tokens_that_are_seen_in_training_alone(data, network, monkeypatch):
    labels = torch.full((100, 100), 5)
    assert (network.eval().seen(labels)[:, 1:] == 5).all()
    monkeypatch.setattr(alignment, "NOISE", 0.1)
    assert (network.eval().seen(labels)[:, 1:] == 5).all()
    seen = network.train().seen(labels)
    assert (seen[:, 0] == data.summary.start).all()
    changed = float((seen[:, 1:] != 5).double().mean())
    expected = 0.1 * (1 - 1 / data.summary.num_classes)
    assert changed == pytest.approx(expected, abs=5 * math.sqrt(expected / 9900))


def test_a_network_of_the_users_own_is_trained_on_the_objective_alone(data, network, tmp_path):
    network.body.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(data.vocabulary.json, encoding="utf-8")
    assert not isinstance(build_recogniser(f"hf:{tmp_path}", data.summary, 0, 0.1), Recogniser)
    assert isinstance(network, Recogniser)
    assert "Alignment" not in TASK.methods(replace(RECIPE, model=f"hf:{tmp_path}"), data.summary)
    (words,) = {part[1] for name, part in TASK.methods(RECIPE, data.summary).items() if name == "Alignment"}
    assert words.startswith(
        "Every arm was trained with 1 · CTC of the encoder and 0.5 · the cross-entropy of"
    )
