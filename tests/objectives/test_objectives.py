"""What a network is trained on: the names of objectives, and the loss that each gives a batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labelsmooth.losses import distillation_loss
from labelsmooth.objectives import OBJECTIVES, Criterion, LinearOutput, Objective, TrainingFacts

K, N = 4, 60


@pytest.fixture
def images():
    return torch.randn(N, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    """Unequal frequencies: 30, 15, 9 and 6 of 60."""
    return torch.repeat_interleave(torch.arange(K), torch.tensor([30, 15, 9, 6]))


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(3, K)


def criterion(text: str, labels, steps: int = 10) -> Criterion:
    counts = torch.bincount(labels, minlength=K)
    return Objective.parse(text).criterion(TrainingFacts(class_counts=counts, steps=steps))


@pytest.mark.parametrize(
    ("text", "canonical", "name", "phrase", "eps"),
    [
        ("hard", "hard", "hard", "hard labels", 0.0),
        ("uniform:0.1", "uniform:0.1", "smoothed ε = 0.1", "label smoothing, ε = 0.1", 0.1),
        ("uniform:.10", "uniform:0.1", "smoothed ε = 0.1", "label smoothing, ε = 0.1", 0.1),
        ("uniform:1", "uniform:1", "smoothed ε = 1", "label smoothing, ε = 1", 1.0),
        (
            "unigram:0.2",
            "unigram:0.2",
            "unigram ε = 0.2",
            "smoothing towards the class frequencies, ε = 0.2",
            None,
        ),
        (
            "generalised:-0.4",
            "generalised:-0.4:0.5",
            "negative ε = −0.4, warm-up = 0.5",
            "negative (generalised) smoothing, ε = −0.4, warm-up = 0.5",
            None,
        ),
        (
            "margin_smoothing:0.1:6",
            "margin_smoothing:0.1:6",
            "margin-based λ = 0.1, margin = 6",
            "margin-based smoothing, λ = 0.1, margin = 6",
            None,
        ),
        ("mixup:0.2", "mixup:0.2", "hard + mixup α = 0.2", "hard labels + mixup α = 0.2", None),
        (
            "uniform:0.1+mixup:1",
            "uniform:0.1+mixup:1",
            "smoothed ε = 0.1 + mixup α = 1",
            "label smoothing, ε = 0.1 + mixup α = 1",
            None,
        ),
    ],
)
def test_names(text, canonical, name, phrase, eps):
    objective = Objective.parse(text)
    assert str(objective) == canonical
    assert Objective.parse(canonical) == objective
    assert (objective.name, objective.phrase, objective.eps) == (name, phrase, eps)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("smooth:0.1", f"must be one of {', '.join(OBJECTIVES)}, got 'smooth:0.1'"),
        ("", "must be one of"),
        ("unigrm:0.1", "got 'unigrm:0.1', did you mean unigram?"),
        ("mixup", "mixup must be written mixup:α, got 'mixup'"),
        ("uniform", "uniform must be written uniform:ε, got 'uniform'"),
        ("uniform:0.1:0.2", "uniform must be written uniform:ε"),
        ("hard:1", "hard must be written hard, got 'hard:1'"),
        ("margin_smoothing", "margin_smoothing must be written margin_smoothing:λ[:margin], got"),
        ("uniform:a lot", "must be a number, as in uniform:0.1, got 'uniform:a lot'"),
        ("uniform:0", "ε of 'uniform:0' must lie in (0, 1], got 0"),
        ("uniform:1.1", "must lie in (0, 1], got 1.1"),
        ("uniform:nan", "must lie in (0, 1], got nan"),
        ("distillation:0", "T of 'distillation:0' must lie in [0.01, 10000], got 0"),
        ("distillation:1:1.5", "β of 'distillation:1:1.5' must lie in (0, 1], got 1.5"),
        ("distillation:2+mixup:1", "mixup takes no distillation"),
        ("generalised:0.1", "must be below 0 and finite, got 0.1"),
        ("generalised:-inf", "must be below 0 and finite, got -inf"),
        ("generalised:-0.1:1", "warm-up of 'generalised:-0.1:1' must lie in [0, 1), got 1"),
        ("confidence_penalty:0", "must be above 0 and finite, got 0"),
        ("margin_smoothing:0.1:-1", "must be at least 0 and finite, got -1"),
        ("mixup:0", "α of 'mixup:0' must be above 0 and finite, got 0"),
        ("hard+uniform:0.1", "only mixup can stand behind the +"),
        ("mixup:0.1+mixup:0.1", "mixup must come last in an objective"),
        ("class_conditional:0.1+mixup:0.1", "mixup takes no class-conditional (online) smoothing"),
    ],
)
def test_names_that_say_nothing(text, says):
    with pytest.raises(ValueError, match="must|only|takes") as raised:
        Objective.parse(text)
    assert says in str(raised.value)


def log_probs(network, images):
    return network(images).double().log_softmax(-1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hard", lambda lp, y, z: F.nll_loss(lp, y)),
        ("uniform:0.1", lambda lp, y, z: 0.9 * F.nll_loss(lp, y) - 0.1 * lp.mean()),
        (
            "others:0.1",
            lambda lp, y, z: -(lp * torch.where(F.one_hot(y, K) == 1, 0.9, 0.1 / (K - 1))).sum(-1).mean(),
        ),
        (
            "unigram:0.1",
            lambda lp, y, z: (
                0.9 * F.nll_loss(lp, y) - 0.1 * (lp @ torch.tensor([0.5, 0.25, 0.15, 0.1]).double()).mean()
            ),
        ),
        ("class_conditional:0.1", lambda lp, y, z: 0.9 * F.nll_loss(lp, y) - 0.1 * lp.mean()),
        ("generalised:-0.4:0", lambda lp, y, z: 1.4 * F.nll_loss(lp, y) + 0.4 * lp.mean()),
        ("generalised:-0.4:0.5", lambda lp, y, z: F.nll_loss(lp, y)),
        ("confidence_penalty:0.1", lambda lp, y, z: F.nll_loss(lp, y) + 0.1 * (lp.exp() * lp).sum(-1).mean()),
        (
            "max_suppression:0.1",
            lambda lp, y, z: F.nll_loss(lp, y) + 0.1 * (z.amax(-1) - z.mean(-1)).mean(),
        ),
        (
            "margin_smoothing:0.1:0.5",
            lambda lp, y, z: F.nll_loss(lp, y) + 0.1 * (z.amax(-1, keepdim=True) - z - 0.5).relu().mean(),
        ),
        (
            "brier_penalty:0.5",
            lambda lp, y, z: F.nll_loss(lp, y) + 0.5 * (lp.exp() - F.one_hot(y, K)).square().sum(-1).mean(),
        ),
        (
            "sigmoids:0.1",
            lambda lp, y, z: (
                F.binary_cross_entropy_with_logits(z, 0.9 * F.one_hot(y, K) + 0.05, reduction="none")
                .sum(-1)
                .mean()
            ),
        ),
    ],
)
def test_the_loss_of_the_first_step(network, images, labels, text, expected):
    loss, correct = criterion(text, labels)(network(images), labels, denominator=N)
    assert correct == (network(images).argmax(-1) == labels).sum()
    wanted = expected(log_probs(network, images), labels, network(images).double())
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_negative_smoothing_begins_after_its_part_of_hard_labels(network, images, labels):
    loss_of = criterion("generalised:-0.4:0.3", labels, steps=10)
    losses = [loss_of(network(images), labels, denominator=N).value.item() for _ in range(10)]
    lp = log_probs(network, images)
    hard, negative = F.nll_loss(lp, labels), 1.4 * F.nll_loss(lp, labels) + 0.4 * lp.mean()
    assert losses == pytest.approx([hard.item()] * 3 + [negative.item()] * 7, rel=1e-6)


def test_online_smoothing_aims_at_the_predictions_that_were_right(network, images, labels):
    loss_of = criterion("class_conditional:0.1", labels)
    for batch in torch.split(torch.arange(N), 25):
        loss_of(network(images[batch]), labels[batch], denominator=len(batch))
    loss_of.epoch_done()
    probs = log_probs(network, images).exp().detach()
    right = probs.argmax(-1) == labels
    table = torch.full((K, K), 1 / K, dtype=torch.float64)
    for label in range(K):
        if (right & (labels == label)).any():
            table[label] = probs[right & (labels == label)].mean(0)
    assert 0 < len({float(row.max()) for row in table} - {1 / K}) < K  # some classes had none that was right
    expected = 0.9 * F.nll_loss(probs.log(), labels) - 0.1 * (table[labels] * probs.log()).sum(-1).mean()
    loss = loss_of(network(images), labels, denominator=N).value
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


TOKENS = (
    "hard",
    "uniform:0.1",
    "others:0.1",
    "unigram:0.1",
    "class_conditional:0.3",
    "generalised:-0.4:0",
    "confidence_penalty:0.2",
    "max_suppression:0.3",
    "margin_smoothing:0.5:1",
    "brier_penalty:0.5",
    "sigmoids:0.1",
    "distillation:2:0.7",
)


@pytest.mark.parametrize("text", TOKENS)
@pytest.mark.parametrize("rows", [1200, 0])
def test_a_linear_layer_gives_what_its_logits_give(text, rows):
    """In float64, over two steps and an epoch, with rows that do not count, in more than one chunk, or none."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 3, dtype=torch.float64, generator=generator)
    labels = torch.randint(K, (rows,), generator=generator)
    counted = torch.rand(rows, generator=generator) < 0.8
    seen = torch.arange(K).repeat(3)

    def trained(linear: bool):
        layer, teacher = (
            [torch.randn(K, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(s)).requires_grad_(s == 1),
             torch.randn(K, dtype=torch.float64, generator=torch.Generator().manual_seed(s))]
            for s in (1, 2)
        )  # fmt: skip
        x = features.clone().requires_grad_()
        loss_of, found = criterion(text, seen), []
        for _ in range(2):
            outputs = [LinearOutput(x, *each) for each in (layer, teacher)]
            if not linear:
                outputs = [F.linear(*output) for output in outputs]
            target = labels if text.startswith("class") else labels.where(counted, -100)
            loss, correct = loss_of(outputs[0], target, denominator=7, teacher=outputs[1])
            loss.backward()
            found += [loss.detach(), correct, layer[0].grad.clone(), x.grad.clone()]
            loss_of.epoch_done()
        return found

    for ours, wanted in zip(trained(True), trained(False), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)


def test_distillation_is_that_of_the_measure(network, images, labels):
    teacher = images @ torch.randn(3, K, generator=torch.Generator().manual_seed(4))
    loss, _ = criterion("distillation:3:0.7", labels)(network(images), labels, denominator=N, teacher=teacher)
    wanted = distillation_loss(network(images), teacher, labels, beta=0.7, temperature=3.0)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_only_online_smoothing_keeps_a_table_of_classes_by_classes(labels):
    for text in TOKENS:
        sizes = [
            value.numel()
            for value in vars(criterion(text, labels)).values()
            if isinstance(value, torch.Tensor)
        ]
        assert max(sizes, default=0) == (K * K if text.startswith("class_conditional") else 0), text


@pytest.mark.parametrize("linear", [True, False])
def test_temporal_smoothing_aims_at_the_tokens_beside_it(linear):
    """In float64, of sequences of several lengths."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[0, 1, 2, 3, 3, 1], [2, 0, -100, -100, -100, -100]])
    rows = labels[labels != -100]
    layer = LinearOutput(
        torch.randn(8, 3, dtype=torch.float64, generator=generator),
        torch.randn(K, 3, dtype=torch.float64, generator=generator),
    )
    logits = F.linear(*layer)
    loss_of = criterion("temporal:0.28", rows)
    target = loss_of.sequence_target(labels)
    loss, correct = loss_of(layer if linear else logits, rows, denominator=3, target=target)
    fiftieths = [  # of ε = 14/50 the neighbours get 5 and 2; what lies beyond the ends stays on the label
        [43, 5, 2, 0], [5, 38, 5, 2], [2, 5, 36, 7], [0, 4, 5, 41], [0, 5, 2, 43], [0, 43, 0, 7],
        [5, 0, 45, 0], [45, 0, 5, 0],
    ]  # fmt: skip
    q = torch.tensor(fiftieths).double() / 50
    torch.testing.assert_close(target.dense(K), q, rtol=0, atol=1e-15)
    wanted = -(q * logits.log_softmax(-1)).sum() / 3
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-12)
    assert correct == (logits.argmax(-1) == rows).sum()
    assert criterion("uniform:0.1", rows).sequence_target(labels) is None
