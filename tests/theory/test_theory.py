"""The closed forms against 50-digit arithmetic, the library's own targets, and minimisation by autograd."""

import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

import labelsmooth as ls
from labelsmooth import theory

NAMES = ["uniform", "others", *sorted(ls.conventions())]
PROPER = ["uniform", "others", "classy_vision"]  # sum to 1, and treat all other classes alike
ONE_OF_EACH = [*PROPER, "opennmt", "coincheung", "leaky"]
SIZES = [3, 10, 1000, 10**6]
EPSILONS = [1e-12, 1e-4, 0.1, 0.5, 0.9, 1 - 1e-12]

epsilons = st.floats(1e-12, 1) | st.sampled_from(EPSILONS)
sizes = st.integers(3, 10**6) | st.sampled_from(SIZES)


def exact_levels(name: str, eps: float, k: int) -> tuple[mpmath.mpf, mpmath.mpf, int]:
    """The table of conventions in 50 digits: on the class, on each other class, how many of those."""
    e = mpmath.mpf(eps)
    return {
        "uniform": lambda: (1 - e + e / k, e / k, k - 1),
        "others": lambda: (1 - e, e / (k - 1), k - 1),
        "opennmt": lambda: (1 - e, e / (k - 2), k - 2),
        "classy_vision": lambda: ((1 + e / k) / (1 + e), e / k / (1 + e), k - 1),
        "coincheung": lambda: (1 - e, e / k, k - 1),
        "leaky": lambda: (mpmath.mpf(1), e / k, k - 1),
    }[name]()


def dense_target(eps: float, num_classes: int, name: str, label: int = 1) -> torch.Tensor:
    """A row of the library's own targets; the padding, where there is one, is class 0."""
    if name in ("uniform", "others"):
        smoothing = getattr(ls, name)(eps)
    else:
        smoothing = ls.convention(name, eps, pad=0 if ls.conventions()[name].needs_pad else None)
    return smoothing(torch.tensor(label), num_classes).dense(num_classes, torch.float64)


@pytest.fixture(autouse=True)
def _digits():
    with mpmath.workdps(50):
        yield


@pytest.mark.parametrize(
    ("convention", "expected"),
    [("others", [4.394, 6.792, 9.104]), ("uniform", [4.511, 6.804, 9.105])],
)
def test_gaps_of_the_design(convention, expected):
    gaps = [theory.optimal_gap(0.1, k, convention) for k in (10, 100, 1000)]
    assert gaps == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("eps", [0.0, 1e-12, 0.1, 0.7, 1.0])
def test_target_is_what_the_convention_makes(name, eps):
    q = dense_target(eps, 7, name)
    levels = theory.target(eps, 7, name)
    assert levels.on_class == pytest.approx(float(q[1]), abs=1e-15)
    assert levels.on_other == pytest.approx(float(q[2]), rel=1e-12, abs=1e-300)
    assert levels.mass == pytest.approx(float(q.sum()), rel=1e-14)
    if eps > 0:
        assert levels.num_others == int((q > 0).sum()) - int(q[1] > 0)


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("eps", EPSILONS)
def test_against_fifty_digits(name, k, eps):
    on, other, n = exact_levels(name, eps, k)
    mass = on + n * other
    assert theory.optimal_gap(eps, k, name) == pytest.approx(
        float(mpmath.log(on / other)), rel=1e-14, abs=1e-14
    )
    floor = -on * mpmath.log(on / mass) - n * other * mpmath.log(other / mass)
    assert theory.entropy_floor(eps, k, name) == pytest.approx(float(floor), rel=1e-13)
    assert theory.perplexity_floor(eps, k, name) == pytest.approx(float(mpmath.exp(floor)), rel=1e-12)
    assert theory.label_perplexity(eps, k, name) == pytest.approx(float(mass / on), rel=1e-13)
    p = theory.optimum(eps, k, name)
    assert (p.on_class, p.on_other) == pytest.approx((float(on / mass), float(other / mass)), rel=1e-14)


@pytest.mark.parametrize("eps", EPSILONS)
def test_two_classes(eps):
    for name in PROPER:
        on, other, _ = exact_levels(name, eps, 2)
        assert theory.optimal_gap(eps, 2, name) == pytest.approx(
            float(mpmath.log(on / other)), rel=1e-14, abs=1e-14
        )
        assert theory.optimum(eps, 2, name).on_class == pytest.approx(float(on), rel=1e-14)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_no_smoothing(name):
    assert theory.optimal_gap(0, 5, name) == math.inf
    assert theory.entropy_floor(0, 5, name) == 0
    assert theory.perplexity_floor(0, 5, name) == theory.label_perplexity(0, 5, name) == 1
    assert (theory.target(0, 5, name).on_class, theory.target(0, 5, name).on_other) == (1, 0)


def test_all_smoothing():
    assert theory.optimal_gap(1, 10) == pytest.approx(0, abs=1e-15)
    assert theory.entropy_floor(1, 10) == pytest.approx(math.log(10), rel=1e-15)
    assert theory.optimal_gap(1, 10, "others") == -math.inf
    assert theory.entropy_floor(1, 10, "others") == pytest.approx(math.log(9), rel=1e-15)
    assert theory.label_perplexity(1, 10, "others") == math.inf
    assert theory.optimal_gap(0.9, 10, "others") == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("k", [3, 10, 1000])
@pytest.mark.parametrize("eps", [0.01, 0.1, 0.6])
def test_free_logits_reach_gap_and_floor(name, k, eps):
    # The padding keeps a logit, which falls forever: what is left of its probability bounds the precision.
    padded = name == "opennmt"
    q = dense_target(eps, k, name)
    z = torch.linspace(-1, 1, k, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [z], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = q.sum() * z.logsumexp(-1) - q @ z
        loss.backward()
        return loss

    optimizer.step(closure)
    loss, gap = closure().item(), (z[1] - z[2]).item()
    assert loss == pytest.approx(theory.entropy_floor(eps, k, name), rel=1e-4 if padded else 1e-11)
    assert gap == pytest.approx(theory.optimal_gap(eps, k, name), rel=1e-3 if padded else 1e-6)


@given(epsilons, sizes, st.sampled_from(ONE_OF_EACH))
def test_gap_is_the_log_odds_of_the_optimum(eps, k, name):
    p = theory.optimum(eps, k, name)
    assume(p.on_class > 0)
    assert theory.optimal_gap(eps, k, name) == pytest.approx(
        math.log(p.on_class) - math.log(p.on_other), rel=1e-13, abs=1e-13
    )
    assert p.mass == pytest.approx(1, rel=1e-14)


@given(epsilons, sizes, st.sampled_from(ONE_OF_EACH), st.floats(-3, 3))
def test_no_logits_are_below_the_floor(eps, k, name, shift):
    levels = theory.target(eps, k, name)
    assume(levels.on_class > 0)
    n, optimal = levels.num_others, theory.optimal_gap(eps, k, name)

    def loss(gap):  # of the logits z_y = gap, z_k = 0
        hard = math.log1p(n * math.exp(-gap)) if gap > 0 else math.log(math.exp(gap) + n) - gap
        return levels.on_class * hard + n * levels.on_other * (hard + gap)

    assert loss(optimal) == pytest.approx(theory.entropy_floor(eps, k, name), rel=1e-12)
    assert loss(optimal + shift) >= theory.entropy_floor(eps, k, name) * (1 - 1e-12)


@given(epsilons, sizes, st.sampled_from(PROPER), st.sampled_from(PROPER))
def test_convert_and_back(eps, k, source, to):
    try:
        converted = theory.convert(eps, k, source, to)
    except ValueError:
        # above the most that the other convention can smooth
        assert theory.target(eps, k, source).on_other > theory.target(1, k, to).on_other
        return
    there, here = theory.target(converted, k, to), theory.target(eps, k, source)
    assert there.on_other == pytest.approx(here.on_other, rel=1e-12)
    assert there.on_class == pytest.approx(here.on_class, rel=1e-9, abs=1e-15)
    assert theory.convert(converted, k, to, source) == pytest.approx(eps, rel=1e-12)


@given(epsilons, sizes)
def test_convert_is_to_uniform(eps, k):
    assume(eps <= (k - 1) / k)
    expected = ls.others(eps).to_uniform(k)
    assert theory.convert(eps, k, "fairseq", "torch") == pytest.approx(expected, rel=1e-14)


def test_convert_within_one_kind_and_at_zero():
    assert theory.convert(0.3, 10, "opennmt", "joeynmt") == 0.3
    assert theory.convert(0.3, 10, "torch", "uniform") == 0.3
    assert theory.convert(0.0, 10, "leaky", "opennmt") == 0.0


@given(epsilons, sizes, st.sampled_from(ONE_OF_EACH))
def test_eps_for_confidence_undoes_optimum(eps, k, name):
    confidence = theory.optimum(eps, k, name).on_class
    assume(confidence >= 1 / k)
    # a confidence next to 1 has itself lost what is below its last digit
    assert theory.eps_for_confidence(confidence, k, name) == pytest.approx(eps, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("k", [2, 3, 7, 10, 49, 1000, 10**6])
def test_the_whole_range_of_confidences_is_reached(k):
    assert theory.eps_for_confidence(1, k) == 0
    assert theory.eps_for_confidence(1 / k, k) == pytest.approx(1, abs=1e-12)
    assert theory.eps_for_confidence(1 / k, k, "others") == pytest.approx((k - 1) / k, abs=1e-12)


@given(
    st.lists(st.floats(-40, 40), min_size=2, max_size=12),
    st.integers(0, 11),
    st.floats(0, 1),
)
def test_decomposition_is_the_loss_of_torch(logits, label, eps):
    label %= len(logits)
    z = torch.tensor(logits, dtype=torch.float64)
    parts = theory.decomposition(eps, label, logits=z)
    expected = F.cross_entropy(z, torch.tensor(label), label_smoothing=eps).item()
    assert parts.loss == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert parts.hard == pytest.approx(F.cross_entropy(z, torch.tensor(label)).item(), rel=1e-12, abs=1e-14)
    assert parts.towards_uniform == pytest.approx(parts.kl_uniform + parts.entropy_uniform, rel=1e-12)
    u = torch.full_like(z, 1 / len(logits))
    kl = F.kl_div(z.log_softmax(-1), u, reduction="sum").item()
    assert parts.kl_uniform == pytest.approx(kl, rel=1e-12, abs=1e-12)
    assert parts.kl_uniform >= 0
    from_probs = theory.decomposition(eps, label, probs=z.softmax(-1))
    assert from_probs.loss == pytest.approx(parts.loss, rel=1e-12, abs=1e-12)


def test_decomposition_of_another_convention():
    z = torch.tensor([0.3, -1.2, 2.0, 0.0], dtype=torch.float64)
    q = dense_target(0.3, 4, "others", label=2)
    parts = theory.decomposition(0.3, 2, logits=z, convention="others")
    assert parts.loss == pytest.approx(-(q @ z.log_softmax(-1)).item(), rel=1e-14)
    assert parts.relative_weight == pytest.approx(0.4 / 0.6)  # the others' 0.3 is uniform's 0.4
    assert parts.relative_weight == theory.relative_weight(0.3, 4, "others")


def test_decomposition_where_a_class_is_impossible():
    hard = theory.decomposition(0, 1, logits=[-math.inf, 0.0, 0.0])
    assert hard.loss == pytest.approx(math.log(2))
    assert hard.towards_uniform == hard.kl_uniform == math.inf
    assert theory.decomposition(0.1, 1, probs=[0.0, 0.5, 0.5]).loss == math.inf
    assert theory.decomposition(1, 0, logits=[0.0, -3.0]).relative_weight == math.inf


def test_decomposition_takes_what_holds_a_row():
    rows = ([1.0, 2.0, 0.5], np.array([1.0, 2.0, 0.5]), torch.tensor([1.0, 2.0, 0.5], requires_grad=True))
    assert len({theory.decomposition(0.1, 1, logits=row).loss for row in rows}) == 1


def test_floor_is_the_constant_of_the_kl_forms():
    eps, k, pad = 0.1, 7, 0
    z = torch.linspace(-2, 3, k, dtype=torch.float64)
    for name in ("espnet", "opennmt"):
        q = dense_target(eps, k, name)
        kl = F.kl_div(z.log_softmax(-1), q, reduction="sum").item()
        loss = -(q @ z.log_softmax(-1)).item()
        assert loss - theory.entropy_floor(eps, k, name) == pytest.approx(kl, rel=1e-14)
        assert q[pad] == (0 if name == "opennmt" else eps / (k - 1))


@pytest.mark.parametrize("k", [6, 32_000, 10**6])
def test_floor_is_the_constant_of_tensor2tensor(k):
    confidence, low = 0.9, 0.1 / (k - 1)
    constant = -(confidence * math.log(confidence) + (k - 1) * low * math.log(low + 1e-20))
    assert theory.entropy_floor(0.1, k, "tensor2tensor") == pytest.approx(constant, abs=k * 1e-20 + 1e-14)


def test_floor_is_the_constant_that_the_real_implementations_added():
    cases = json.loads((Path(__file__).parents[1] / "fixtures" / "peer_losses.json").read_text())["cases"]
    names = {
        "opennmt-py2": "opennmt",
        "annotated-transformer": "annotated_transformer",
        "t2t": "tensor2tensor",
    }
    checked = set()
    for case in cases:
        peer = case["name"].split("/")[0]
        name = names.get(peer, peer)
        if name not in ("opennmt", "annotated_transformer", "espnet", "t5x", "tensor2tensor"):
            continue
        floor = theory.entropy_floor(case["eps"], case["K"], name)
        rows = case["canonical"]
        for constant, scale in zip(rows.get("const", []), rows["scale"], strict="const" in rows):
            if constant != 0:  # 0 stands for a row that does not count
                assert -constant == pytest.approx(scale * floor, rel=1e-12)
                checked.add(name)
    assert len(checked) == 5


def test_gap_curves():
    curves = theory.gap_curves([10, 1000], "uniform", marked_eps=0.2)
    assert curves.gap.shape == (2, 199)
    assert curves.eps[[0, -1]] == pytest.approx([0.005, 0.995])
    for k, gap, marked in zip(curves.num_classes, curves.gap, curves.marked_gap, strict=True):
        assert gap == pytest.approx(np.log1p(k * (1 - curves.eps) / curves.eps), rel=1e-13)
        assert marked == pytest.approx(math.log1p(k * 4))


FUNCTIONS = [
    theory.target,
    theory.optimum,
    theory.optimal_gap,
    theory.entropy_floor,
    theory.perplexity_floor,
    theory.label_perplexity,
    theory.relative_weight,
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.5, 10), ValueError, r"eps must lie in \[0, 1\], got 1.5"),
        ((-1e-9, 10), ValueError, r"eps must lie in \[0, 1\], got -1e-09"),
        ((math.nan, 10), ValueError, r"eps must lie in \[0, 1\], got nan"),
        (("0.1", 10), TypeError, "eps must be a number, got str"),
        ((True, 10), TypeError, "eps must be a number, got bool"),
        ((torch.tensor([0.1]), 10), TypeError, "eps must be a number, got Tensor"),
        ((0.1, 1), ValueError, "at least 2 classes, got 1"),
        ((0.1, 10.0), TypeError, "num_classes must be an int, got float"),
        (
            (0.1, 10, "touch"),
            ValueError,
            "unknown convention 'touch', expected one of uniform, others, annotated",
        ),
        ((0.1, 2, "opennmt"), ValueError, "at least 3 classes in opennmt, one of them padding, got 2"),
    ],
)
def test_bad_input(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(*arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: theory.convert(0.95, 10, "others", "uniform"),
            ValueError,
            "no eps of uniform gives others at 0.95",
        ),
        (lambda: theory.convert(0.6, 10, "uniform", "classy_vision"), ValueError, "no eps of classy_vision"),
        (
            lambda: theory.convert(0.1, 10, "coincheung", "uniform"),
            ValueError,
            "coincheung has targets that sum",
        ),
        (lambda: theory.convert(0.1, 10, "uniform", "leaky"), ValueError, "leaky has targets that sum to 1"),
        (
            lambda: theory.convert(0.1, 10, "others", "joeynmt"),
            ValueError,
            "joeynmt keeps a padding class free",
        ),
        (
            lambda: theory.relative_weight(0.1, 10, "opennmt"),
            ValueError,
            "opennmt keeps a padding class free",
        ),
        (
            lambda: theory.eps_for_confidence(0.05, 10),
            ValueError,
            r"confidence must lie in \[0.1, 1\], got 0.05",
        ),
        (
            lambda: theory.eps_for_confidence(1.1, 10),
            ValueError,
            r"confidence must lie in \[0.1, 1\], got 1.1",
        ),
        (
            lambda: theory.eps_for_confidence(0.3, 10, "classy_vision"),
            ValueError,
            "no eps of classy_vision gives a confidence of 0.3 with 10 classes, it would have to be",
        ),
        (lambda: theory.decomposition(0.1, 0), ValueError, "expected logits or probs, got neither"),
        (lambda: theory.decomposition(0.1, 0, logits=[0, 1], probs=[0, 1]), ValueError, "got both"),
        (
            lambda: theory.decomposition(0.1, 3, logits=[0.0, 1.0]),
            ValueError,
            r"label must lie in 0..1, got 3",
        ),
        (
            lambda: theory.decomposition(0.1, 1.0, logits=[0.0, 1.0]),
            TypeError,
            "label must be an int, got float",
        ),
        (lambda: theory.decomposition(0.1, 0, logits=[0.0]), ValueError, r"K ≥ 2, got shape \(1,\)"),
        (
            lambda: theory.decomposition(0.1, 0, logits=[0.0, math.nan]),
            ValueError,
            "logits must be finite or −inf",
        ),
        (lambda: theory.decomposition(0.1, 0, logits=[-math.inf] * 2), ValueError, "not all of them −inf"),
        (
            lambda: theory.decomposition(0.1, 0, probs=[1.5, -0.5]),
            ValueError,
            "not be negative or NaN, got -0.5",
        ),
        (lambda: theory.decomposition(0.1, 0, probs=[0.5, 0.6]), ValueError, "probs must sum to 1, got 1.1"),
        (lambda: theory.gap_curves([]), ValueError, "at least one number of classes"),
        (lambda: theory.gap_curves([10, 1]), ValueError, "at least 2 classes, got 1"),
    ],
)
def test_more_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@given(eps=epsilons, k=sizes)
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_eps_for_gap_is_the_inverse(name, eps, k):
    gap = theory.optimal_gap(eps, k, name)
    assume(gap >= 0)
    assert theory.eps_for_gap(gap, k, name) == pytest.approx(eps, rel=1e-9)


def test_a_gap_without_end_means_no_smoothing():
    assert theory.eps_for_gap(math.inf, 10) == 0


@pytest.mark.parametrize(
    ("gap", "error", "says"),
    [
        (-0.1, ValueError, "at least 0, got -0.1"),
        (math.nan, ValueError, "got nan"),
        ("1", TypeError, "got str"),
    ],
)
def test_gaps_that_are_none_are_refused(gap, error, says):
    with pytest.raises(error, match=says):
        theory.eps_for_gap(gap, 10)


PRIOR = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("smoothing", "q"),
    [
        (ls.prior(0.2, PRIOR), 0.8 * torch.eye(4, dtype=torch.float64) + 0.2 * PRIOR),
        (ls.uniform(0.2), 0.8 * torch.eye(4, dtype=torch.float64) + 0.05),
        (ls.convention("leaky", 0.2), 0.95 * torch.eye(4, dtype=torch.float64) + 0.05),
        (ls.others(1.0), (1 - torch.eye(4, dtype=torch.float64)) / 3),
    ],
)
def test_floors_of_a_smoothing_are_those_of_each_label(smoothing, q):
    mass = q.sum(-1)
    floor = -(q * torch.where(q > 0, (q / mass[:, None]).log(), 0)).sum(-1)
    np.testing.assert_allclose(theory.entropy_floor(smoothing, 4), floor, rtol=1e-12)
    np.testing.assert_allclose(theory.perplexity_floor(smoothing, 4), floor.exp(), rtol=1e-12)
    np.testing.assert_allclose(theory.label_perplexity(smoothing, 4), mass / q.diagonal(), rtol=1e-12)


@pytest.mark.parametrize("floor", [theory.entropy_floor, theory.perplexity_floor, theory.label_perplexity])
def test_smoothings_without_a_floor_are_refused(floor):
    with pytest.raises(ValueError, match="no floor"):
        floor(ls.uniform(-0.1, signed=True), 4)
    with pytest.raises(ValueError, match="needs no convention, got 'others'"):
        floor(ls.uniform(0.1), 4, "others")
    with pytest.raises(ValueError, match="one value per row"):
        floor(ls.uniform(torch.tensor([0.1, 0.2])), 4)
