"""Smoothings and mixtures against the targets their conventions publish."""

import itertools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import labelsmooth as ls

# on the class / on each other class, as functions of ε and K
PUBLISHED = {
    "torch": (lambda e, K: 1 - e + e / K, lambda e, K: e / K),
    "fairseq": (lambda e, K: 1 - e, lambda e, K: e / (K - 1)),
    "opennmt": (lambda e, K: 1 - e, lambda e, K: e / (K - 2)),
    "classy_vision": (lambda e, K: (1 + e / K) / (1 + e), lambda e, K: e / K / (1 + e)),
    "coincheung": (lambda e, K: 1 - e, lambda e, K: e / K),
    "leaky": (lambda e, K: 1.0, lambda e, K: e / K),
}
FAMILIES = {
    "torch": "torch timm fastai hf keras tensorflow optax paddle liger apex flash_attn",
    "fairseq": "fairseq fairseq2 tensor2tensor t5x flax espnet megatron bag_of_tricks",
    "opennmt": "opennmt joeynmt annotated_transformer",
    "classy_vision": "classy_vision",
    "coincheung": "coincheung",
    "leaky": "leaky",
}
NAMES = {name: family for family, names in FAMILIES.items() for name in names.split()}


def test_the_list_of_conventions():
    assert set(ls.conventions()) == set(NAMES)
    assert {name for name, c in ls.conventions().items() if c.needs_pad} == set(FAMILIES["opennmt"].split())


def test_the_page_of_conventions():
    """It is what its tool prints of the tables, each name in one row, and ε·K/(K−1) is the ε of `uniform`."""
    root = Path(__file__).parents[1]
    page = (root / "docs" / "conventions.md").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, root / "tools" / "conventions"],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    assert page == done.stdout
    for table in (ls.conventions(), ls.binary_conventions()):
        for name in table:
            assert f"`{name}`" in page
    assert ls.theory.convert(0.1, 7, "fairseq", "torch") == pytest.approx(0.1 * 7 / 6)


@given(
    name=st.sampled_from(sorted(NAMES)),
    eps=st.floats(0, 1),
    num_classes=st.integers(3, 30),
    per_row=st.booleans(),
)
def test_conventions_are_what_they_publish(name, eps, num_classes, per_row):
    on, off = PUBLISHED[NAMES[name]]
    pad = 0 if ls.conventions()[name].needs_pad else None
    target = torch.arange(1, num_classes)
    given_eps = torch.full(target.shape, eps, dtype=torch.float64) if per_row else eps
    q = ls.convention(name, given_eps, pad=pad)(target, num_classes).dense(num_classes, torch.float64)
    expected = torch.full_like(q, off(eps, num_classes))
    expected[torch.arange(num_classes - 1), target] = on(eps, num_classes)
    if pad is not None:
        expected[:, pad] = 0
    torch.testing.assert_close(q, expected, rtol=1e-12, atol=1e-12)


@given(eps=st.floats(0, 1), num_classes=st.integers(2, 1000))
def test_to_uniform(eps, num_classes):
    target = torch.tensor([1])
    smoothing = ls.others(eps)
    if eps * num_classes / (num_classes - 1) > 1:
        with pytest.raises(ValueError, match="no uniform smoothing"):
            smoothing.to_uniform(num_classes)
        return
    same = ls.uniform(smoothing.to_uniform(num_classes))
    torch.testing.assert_close(
        same(target, num_classes).dense(num_classes, torch.float64),
        smoothing(target, num_classes).dense(num_classes, torch.float64),
        rtol=1e-12,
        atol=1e-12,
    )


def test_to_uniform_of_the_rest():
    assert ls.uniform(0.3).to_uniform(10) == 0.3
    assert ls.convention("classy_vision", 0.1).to_uniform(10) == pytest.approx(0.1 / 1.1, rel=1e-15)
    assert ls.prior(0.2, torch.full((4,), 0.25)).to_uniform(4) == 0.2
    assert ls.prior(0.0, torch.tensor([0.5, 0.3, 0.2])).to_uniform(3) == 0
    for smoothing in (
        ls.prior(0.2, torch.tensor([0.5, 0.3, 0.2])),
        ls.class_conditional(0.2, torch.tensor([[0.5, 0.3, 0.2]] * 3)),
        ls.uniform(0.2).exclude([0]),
        ls.others(0.2).exclude([0]),
        ls.convention("leaky", 0.1),
        ls.convention("coincheung", 0.1),
    ):
        with pytest.raises(ValueError, match="no uniform smoothing"):
            smoothing.to_uniform(3)


@pytest.mark.parametrize("make", [ls.uniform, ls.others])
def test_exclude(make):
    """Also for rows that are labelled with an excluded class: they keep 1−ε, and the others share ε."""
    target = torch.arange(5)
    q = make(0.4).exclude([1, 3])(target, 5).dense(5, torch.float64)
    for y in range(5):
        receivers = [k for k in (0, 2, 4) if make is ls.uniform or k != y]
        expected = torch.zeros(5, dtype=torch.float64)
        expected[receivers] = 0.4 / len(receivers)
        expected[y] += 0.6
        torch.testing.assert_close(q[y], expected, rtol=1e-12, atol=1e-12)
    twice = make(0.4).exclude([1]).exclude([3])
    torch.testing.assert_close(twice(target, 5).dense(5, torch.float64), q)


def test_to_uniform_reaches_the_uniform_distribution_itself():
    for num_classes in range(2, 200):
        assert ls.others((num_classes - 1) / num_classes).to_uniform(num_classes) == pytest.approx(
            1, abs=1e-12
        )
    eps = ls.others(torch.tensor([0.1, 0.5], dtype=torch.float64)).to_uniform(3)
    torch.testing.assert_close(eps, torch.tensor([0.15, 0.75], dtype=torch.float64))
    with pytest.raises(ValueError, match="no uniform smoothing"):
        ls.others(torch.tensor([0.1, 0.9])).to_uniform(3)
    with torch.device("meta"):
        assert ls.prior(0.1, torch.full((4,), 0.25, device="cpu")).to_uniform(4) == 0.1


def test_names_of_smoothings():
    assert repr(ls.convention("coincheung", 0.0)) == "coincheung(0)"
    assert repr(ls.convention("leaky", 0.1)) == "leaky(0.1)"
    assert repr(ls.others(0.1).exclude([3, 1])) == "others(0.1).exclude([1, 3])"
    assert repr(ls.uniform(0.25)) == "uniform(0.25)"


def test_exclude_renormalises_priors():
    table = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]], dtype=torch.float64)
    q = ls.class_conditional(1.0, table).exclude([2])(torch.arange(3), 3).dense(3)
    rest = table[:, :2] / table[:, :2].sum(-1, keepdim=True)
    torch.testing.assert_close(q, F.pad(rest, (0, 1)))
    with pytest.raises(ValueError, match="without any mass"):
        ls.prior(0.1, torch.tensor([1.0, 0.0])).exclude([0])
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        ls.uniform(0.1).exclude([-1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ls.uniform(0.3),
        lambda: ls.others(0.3),
        lambda: ls.others(0.3).exclude([1]),
        lambda: ls.convention("leaky", 0.3),
        lambda: ls.prior(0.3, torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)),
        lambda: ls.class_conditional(0.3, torch.rand(3, 3, dtype=torch.float64).softmax(-1)),
    ],
)
def test_a_dense_row_smooths_to_the_mean_of_its_labels(make):
    smoothing = make()
    d = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]], dtype=torch.float64)
    table = smoothing(torch.arange(3), 3).dense(3, torch.float64)
    torch.testing.assert_close(smoothing(d, 3).dense(3), d @ table, rtol=1e-12, atol=1e-12)


def test_dense_rows_of_any_mass_smooth_as_in_torch():
    d = torch.tensor([[0.2, 0.0, 0.3]], dtype=torch.float64)
    torch.testing.assert_close(ls.uniform(0.3)(d, 3).dense(3), 0.7 * d + 0.1)


def test_no_table_is_made_for_indices():
    mixture = ls.others(torch.rand(1000))(torch.randint(50_000, (1000,)), 50_000)
    parts = (mixture.index, mixture.weight, mixture.prior, mixture.prior_weight, mixture.prior_row)
    assert sum(part.numel() for part in parts if isinstance(part, torch.Tensor)) <= 4000
    conditional = ls.class_conditional(0.1, torch.eye(10))(torch.randint(10, (1000,)), 10)
    assert conditional.prior.shape == (10, 10)
    assert conditional.prior_row.shape == (1000,)


def test_smoothings_and_mixtures_are_frozen():
    for value in (ls.uniform(0.1), ls.others(0.1), ls.uniform(0.1)(torch.tensor([0]), 3)):
        with pytest.raises(AttributeError):
            value.eps = 0.2


PER_ROW = [0.25, 0.5, 1.0]
GIVEN = {
    "list": PER_ROW,
    "tuple": tuple(PER_ROW),
    "numpy": np.array(PER_ROW),
    "half": np.array(PER_ROW, dtype=np.float16),
    "column": torch.tensor(PER_ROW)[:, None],
    "image": np.array(PER_ROW).reshape(3, 1, 1, 1),
}


@pytest.mark.parametrize("given_as", GIVEN)
def test_a_value_per_row_as_any_kind_of_numbers(given_as):
    value, target, partner = GIVEN[given_as], torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0])
    share = torch.tensor(PER_ROW, dtype=torch.float64)[:, None]
    one, other = (F.one_hot(labels, 3).double() for labels in (target, partner))
    close = {"rtol": 1e-6, "atol": 1e-6, "check_dtype": False}
    torch.testing.assert_close(
        ls.mixup(target, partner, value).dense(3), share * one + (1 - share) * other, **close
    )
    for smoothed in (ls.uniform(value)(target, 3), ls.uniform(value)(one, 3)):
        torch.testing.assert_close(smoothed.dense(3), (1 - share) * one + share / 3, **close)
    assert torch.equal(ls.label_dropout(target, 3, np.zeros((3, 1))), target)


@pytest.mark.parametrize("scalar", [np.float32(0.25), np.float64(0.25), np.array(0.25), torch.tensor(0.25)])
def test_one_value_as_any_kind_of_number(scalar):
    target, partner = torch.tensor([0, 1]), torch.tensor([1, 1])
    mixed = ls.mixup(target, partner, scalar).dense(2)
    torch.testing.assert_close(mixed, torch.tensor([[0.25, 0.75], [0, 1]]), check_dtype=False)
    assert torch.equal(ls.uniform(scalar)(target, 2).dense(2), ls.uniform(0.25)(target, 2).dense(2))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda y: ls.mixup(F.one_hot(y, 3).float(), y, 0.5), TypeError, "mixup takes integer class indices"),
        (lambda y: ls.mixup(y, F.one_hot(y, 3).float(), 0.5), TypeError, "got a torch.float32 partner"),
        (lambda y: ls.mixup(y, y, "0.5"), TypeError, "lam must be a number or a tensor, got str"),
        (lambda y: ls.mixup(y, y, ["a"]), TypeError, "lam must be a number or a tensor, got list"),
        (lambda y: ls.mixup(y, y, [[0.1], [0.2, 0.3]]), TypeError, "got list"),
        (lambda y: ls.mixup(y, y, [0.1, 1.2, 0.3]), ValueError, "lam must be in"),
        (lambda y: ls.mixup(y, y, np.zeros((1, 3))), ValueError, "one value per row"),
        (lambda y: ls.uniform(np.zeros((3, 2)))(y, 3), ValueError, "one value per row"),
    ],
)
def test_values_that_are_none_per_row_are_refused(call, error, says):
    with pytest.raises(error, match=says):
        call(torch.tensor([0, 1, 2]))


def test_device_of_the_parts_follows_the_target():
    meta = torch.zeros(4, dtype=torch.int64, device="meta")
    mixture = ls.others(0.1).exclude([0])(meta, 5)
    assert {part.device.type for part in (mixture.index, mixture.weight, mixture.prior)} == {"meta"}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_convention_computes_and_reads_its_formulas(name):
    known = ls.conventions()[name]
    on, off = PUBLISHED[name]
    for eps, k in itertools.product([0.0, 0.1, 1.0], [3, 10]):
        assert known.on_class(eps, k) == pytest.approx(on(eps, k), rel=1e-15)
        assert known.on_other(eps, k) == pytest.approx(off(eps, k), rel=1e-15)
        total = on(eps, k) + known.num_others(k) * off(eps, k)
        assert known.mass(eps, k) == pytest.approx(total, rel=1e-15)
    copied = pickle.loads(pickle.dumps(known))
    assert copied == known
    assert copied.on_other(0.5, 10) == known.on_other(0.5, 10)


class Towards(ls.Smoothing):
    """A rule of a user's own: ε on class 0."""

    def __init__(self, eps):
        self.eps = eps

    def mixture(self, target, num_classes):  # noqa: ARG002
        zero = torch.zeros_like(target)
        weight = torch.tensor([1 - self.eps, self.eps], dtype=torch.float64)
        return ls.Mixture(index=torch.stack([target, zero], -1), weight=weight)

    def smooth_rows(self, rows, num_classes):
        spread = torch.zeros(num_classes, dtype=rows.dtype)
        spread[0] = self.eps
        return (1 - self.eps) * rows, spread * rows.sum(-1, keepdim=True)


def test_a_smoothing_of_ones_own_serves_the_losses():
    z = torch.randn(6, 4, dtype=torch.float64)
    y = torch.arange(6) % 4
    q = 0.9 * torch.nn.functional.one_hot(y, 4).double()
    q[:, 0] += 0.1
    expected = -(q * z.log_softmax(-1)).sum(-1).mean()
    dense = torch.nn.functional.one_hot(y, 4).double()
    for target in (y, dense):
        ours = ls.cross_entropy(z, target, label_smoothing=Towards(0.1))
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    assert Towards(0.1)(torch.tensor([2]), 4).dense(4).tolist() == [[0.1, 0, 0.9, 0]]
    with pytest.raises(ValueError, match="cannot exclude classes"):
        Towards(0.1).exclude([1])
    with pytest.raises(ValueError, match="no uniform smoothing is known"):
        Towards(0.1).to_uniform(4)


SEQUENCES = torch.tensor([[3, 1, 1, 4, 2, 0], [5, 3, -100, 2, 2, -100], [4, -100, -100, -100, -100, -100]])


def neighbours_by_hand(labels, eps):
    """The formula of temporal smoothing, token by token, in float64."""
    q = torch.zeros(*labels.shape, 6, dtype=torch.float64)
    for row, sequence in enumerate(labels.tolist()):
        for place, label in enumerate(sequence):
            if label == -100:
                continue
            for distance, share in ((-2, 2), (-1, 5), (1, 5), (2, 2)):
                there = 0 <= place + distance < len(sequence) and sequence[place + distance] != -100
                q[row, place, sequence[place + distance] if there else label] += eps * share / 14
            q[row, place, label] += 1 - eps
    return q


@pytest.mark.parametrize("eps", [0.0, 0.1, 1.0])
def test_neighbours_get_their_shares_and_borders_give_theirs_back(eps):
    mixture = ls.neighbourhood(SEQUENCES, eps)
    assert torch.equal(mixture.index[..., 0], SEQUENCES.clamp_min(0))
    torch.testing.assert_close(mixture.dense(6), neighbours_by_hand(SEQUENCES, eps), rtol=0, atol=1e-15)
    torch.testing.assert_close(mixture.dense(6).sum(-1), (SEQUENCES != -100).double(), rtol=0, atol=1e-15)
    # padding changes nothing, nor do the other sequences
    alone = ls.neighbourhood(torch.tensor([5, 3, 7, 2, 2]), eps, ignore_index=7)
    assert torch.equal(alone.dense(6), mixture.dense(6)[1, :5])


def test_neighbours_by_the_eps_of_each_token():
    eps = torch.rand(SEQUENCES.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = ls.neighbourhood(SEQUENCES, eps).dense(6)
    for value in (0.0, 1.0):  # linear in ε
        eps_here = torch.full_like(eps, value)
        assert torch.equal(
            ls.neighbourhood(SEQUENCES, eps_here).dense(6), ls.neighbourhood(SEQUENCES, value).dense(6)
        )
    ends = [ls.neighbourhood(SEQUENCES, value).dense(6) for value in (0.0, 1.0)]
    torch.testing.assert_close(found, ends[0] + eps.unsqueeze(-1) * (ends[1] - ends[0]), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("target", "eps", "says"),
    [
        (torch.tensor(3), 0.1, r"target must have shape \(…, T\), got \(\)"),
        (torch.tensor([1.5]), 0.1, "integer"),
        (torch.tensor([1, 2]), 1.5, "1.5"),
        (torch.tensor([1, 2]), torch.tensor([0.1, 0.1, 0.1]), "eps"),
    ],
)
def test_neighbours_of_nothing(target, eps, says):
    with pytest.raises((ValueError, TypeError), match=says):
        ls.neighbourhood(target, eps)
