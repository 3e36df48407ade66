"""`Calibration` against definitions written out here, against scikit-learn and numpy, and against itself."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from labelsmooth import measure
from labelsmooth.losses import cross_entropy
from labelsmooth.measure import Calibration
from labelsmooth.measure.peers import binning, layout
from labelsmooth.row_stats import row_stats


def random_logits(rows, num_classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, num_classes, generator=generator, dtype=torch.float64)
    target = torch.randint(num_classes, (rows,), generator=generator)
    target[::2] = logits[::2].argmax(-1)
    return logits, target


def calibration_of(logits, target, **options):
    calibration = Calibration(**options)
    calibration.update(logits, target)
    return calibration


def naive(probs, target, num_bins, edges):
    """The definitions, one row at a time."""
    borders = np.linspace(0, 1, num_bins + 1)
    bins = [[] for _ in range(num_bins)]
    nll = brier = correct = 0.0
    for p, y in zip(probs, target, strict=True):
        confidence, hit = max(p), float(np.argmax(p) == y)
        for b in range(num_bins):
            lo, hi = borders[b], borders[b + 1]
            left_open = lo < confidence <= hi or (b == 0 and confidence == 0)
            right_open = lo <= confidence < hi or (b == num_bins - 1 and confidence == 1)
            if left_open if edges == "left_open" else right_open:
                bins[b].append((confidence, hit))
        nll -= math.log(p[y])
        brier += sum((p_k - (k == y)) ** 2 for k, p_k in enumerate(p))
        correct += hit
    n = len(target)
    gaps = {b: abs(np.mean([h - c for c, h in rows])) for b, rows in enumerate(bins) if rows}
    return {
        "rows": n,
        "accuracy": correct / n,
        "nll": nll / n,
        "brier": brier / n,
        "mean_confidence": sum(max(p) for p in probs) / n,
        "over_confidence": sum(max(p) for p in probs) / n - correct / n,
        "ece": sum(len(bins[b]) / n * gap for b, gap in gaps.items()),
        "mce": max(gaps.values()),
        "count": [len(rows) for rows in bins],
    }


def rows_of_confidence(confidences, num_classes=64):
    """Probabilities whose largest is exactly the one given, and the rest spread evenly."""
    confidences = np.asarray(confidences, dtype=np.float64)
    probs = np.repeat(((1 - confidences) / (num_classes - 1))[:, None], num_classes, axis=1)
    probs[:, 3] = confidences
    assert (probs.max(-1) == confidences).all()
    return probs


@pytest.mark.parametrize("edges", ["left_open", "right_open"])
@pytest.mark.parametrize(("num_bins", "num_classes"), [(15, 10), (10, 2), (1, 3), (100, 7)])
def test_measures_are_their_definitions(num_bins, num_classes, edges):
    logits, target = random_logits(500, num_classes)
    probs = logits.softmax(-1)
    expected = naive(probs.tolist(), target.tolist(), num_bins, edges)
    from_logits = calibration_of(logits, target, num_bins=num_bins, edges=edges)
    from_probs = Calibration(num_bins, edges)
    from_probs.update_probs(probs, target)
    for calibration in (from_logits, from_probs):
        result = calibration.compute()
        assert result.bins.count.tolist() == expected["count"]
        for name in expected.keys() - {"count"}:
            assert getattr(result, name) == pytest.approx(expected[name], rel=1e-12, abs=1e-13), name


def test_agrees_with_scikit_learn_on_a_real_classifier():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(C=0.001, max_iter=2000).fit(images[:900], labels[:900])
    probs, target = classifier.predict_proba(images[900:]), labels[900:]
    calibration = Calibration()
    calibration.update_probs(probs, target)
    result = calibration.compute()
    assert result.rows == len(target)
    assert result.accuracy == pytest.approx(classifier.score(images[900:], target), rel=1e-15)
    assert result.nll == pytest.approx(sklearn.metrics.log_loss(target, probs), rel=1e-12)
    brier = sklearn.metrics.brier_score_loss(target, probs, labels=range(10), scale_by_half=False)
    assert result.brier == pytest.approx(brier, rel=1e-12)
    correct = probs.argmax(-1) == target
    true, predicted = calibration_curve(correct, probs.max(-1), n_bins=15)
    filled = result.bins.count > 0
    assert 0 < filled.sum() < 15
    np.testing.assert_allclose(result.bins.accuracy[filled], true, rtol=1e-12)
    np.testing.assert_allclose(result.bins.confidence[filled], predicted, rtol=1e-12)


@pytest.mark.parametrize("num_bins", [3, 7, 10, 15, 20, 49])
def test_confidence_on_a_border_falls_where_the_peers_put_it(num_bins):
    borders = np.linspace(0, 1, num_bins + 1)[1:]
    # the neighbours of each border too, and of 1 the one below
    confidences = np.concatenate([borders, np.nextafter(borders, 0), np.nextafter(borders[:-1], 1)])
    probs, target = rows_of_confidence(confidences), np.arange(len(confidences)) % 5
    hits = probs.argmax(-1) == target
    left = Calibration(num_bins)
    left.update_probs(probs, target)
    right = Calibration(num_bins, "right_open")
    right.update_probs(probs, target)
    bins = left.compute().bins
    true, predicted = calibration_curve(hits, confidences, n_bins=num_bins)
    filled = bins.count > 0
    np.testing.assert_allclose(bins.accuracy[filled], true, rtol=1e-15)
    np.testing.assert_allclose(bins.confidence[filled], predicted, rtol=1e-15)
    # each bin has its upper border, the value below that, and the value above its lower border
    assert bins.count.tolist() == [2] + [3] * (num_bins - 1)
    counts, _ = np.histogram(confidences, bins=np.linspace(0, 1, num_bins + 1))
    assert right.compute().bins.count.tolist() == counts.tolist()
    assert counts.tolist() != bins.count.tolist()


@pytest.mark.parametrize("edges", ["left_open", "right_open"])
def test_confidence_0_is_in_the_first_bin_and_1_in_the_last(edges):
    stats = row_stats(torch.zeros(1, 2), torch.tensor([[0]]), log_sum_sq=True)
    calibration = Calibration(edges=edges)
    # as no row of probabilities has it, only statistics whose exp(−ℓ) underflows
    calibration.update_stats(replace(stats, log_sum=torch.tensor([800.0])))
    calibration.update_probs(np.array([[1.0, 0.0]]), np.array([0]))
    bins = calibration.compute().bins
    assert bins.count.tolist() == [1] + [0] * 13 + [1]
    assert bins.confidence[[0, -1]].tolist() == [0, 1]


@given(data=st.data(), seed=st.integers(0, 2**31), edges=st.sampled_from(["left_open", "right_open"]))
def test_every_order_and_split_gives_the_same_counts(data, seed, edges):
    rng = np.random.default_rng(seed)
    rows = data.draw(st.integers(1, 60))
    # on borders, between them, and 1
    probs = rows_of_confidence(rng.integers(2, 31, rows) / 30)
    target = rng.integers(2, 5, rows)
    whole = Calibration(edges=edges)
    whole.update_probs(probs, target)
    order = rng.permutation(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), min_size=2, max_size=2)))
    parts = []
    for part in np.split(order, cuts):
        parts.append(Calibration(edges=edges))
        parts[-1].update_probs(probs[part], target[part])
    streamed = Calibration(edges=edges)
    for part in np.split(order, cuts):
        streamed.update_probs(probs[part], target[part])
    parts[1].merge(parts[2])
    parts[0].merge(parts[1])
    expected = whole.compute()
    for calibration in (parts[0], streamed):
        result = calibration.compute()
        np.testing.assert_array_equal(result.bins.count, expected.bins.count)
        np.testing.assert_array_equal(result.bins.accuracy, expected.bins.accuracy)
        assert (result.rows, result.accuracy) == (expected.rows, expected.accuracy)
        for name in ("nll", "brier", "mean_confidence", "ece", "mce"):
            assert getattr(result, name) == pytest.approx(getattr(expected, name), rel=1e-13, abs=1e-13)


def test_a_hundred_splits_and_merge_orders_give_the_same_state():
    logits, target = random_logits(3000, 8)
    whole = calibration_of(logits, target, top_k=(1, 3))
    rng = np.random.default_rng(0)
    for _ in range(100):
        cuts = np.sort(rng.integers(0, 3000, rng.integers(1, 12)))
        parts = [
            calibration_of(logits[rows], target[rows], top_k=(1, 3))
            for rows in np.split(rng.permutation(3000), cuts)
        ]
        while len(parts) > 1:
            taken = parts.pop(int(rng.integers(len(parts))))
            parts[int(rng.integers(len(parts)))].merge(taken)
        np.testing.assert_array_equal(parts[0].sums()["counts"], whole.sums()["counts"])
        np.testing.assert_array_equal(parts[0].sums()["in_top"], whole.sums()["in_top"])
        np.testing.assert_allclose(parts[0].sums()["sums"], whole.sums()["sums"], rtol=1e-12, atol=1e-18)


def test_a_billion_rows_are_counted_to_nine_digits():
    """Against fractions of the very same numbers; 30 doublings make 10⁹ rows of each."""
    logits, target = random_logits(700, 5)
    probs = logits.softmax(-1).numpy()
    calibration = Calibration()
    calibration.update_probs(probs, target)
    for _ in range(30):
        calibration.merge(calibration)
    result = calibration.compute()
    confidence, hit = probs.max(-1), probs.argmax(-1) == target.numpy()
    bin_of_row = np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence)
    gaps = [
        sum(Fraction(float(c)) - int(h) for c, h in zip(confidence[rows], hit[rows], strict=True))
        for rows in (bin_of_row == b for b in range(15))
    ]
    assert result.rows == 700 * 2**30
    assert result.ece == pytest.approx(float(sum(map(abs, gaps)) / 700), rel=1e-12)
    assert result.over_confidence == pytest.approx(float(sum(gaps) / 700), rel=1e-12)
    nll = math.fsum(-math.log(p[y]) for p, y in zip(probs, target.tolist(), strict=True)) / 700
    assert result.nll == pytest.approx(nll, rel=1e-12)


def test_counts_stay_exact_far_beyond_float32_and_int32():
    logits, target = random_logits(1001, 10)
    once = calibration_of(logits, target)
    many = calibration_of(logits, target)
    for _ in range(40):
        many.merge(many)
    expected, result = once.compute(), many.compute()
    assert result.rows == 1001 * 2**40
    assert (result.bins.count == expected.bins.count * 2**40).all()
    assert result.accuracy == expected.accuracy
    assert result.ece == pytest.approx(expected.ece, rel=1e-14)


def test_logits_of_any_kind_and_shape():
    logits, target = random_logits(24, 5)
    expected = calibration_of(logits, target).compute()
    read_only = logits.numpy().copy()
    read_only.flags.writeable = False
    for given_logits, given_target in [
        (logits.reshape(2, 3, 4, 5), target.reshape(2, 3, 4)),
        (logits.T.contiguous().T, target.int()),
        (read_only, target.numpy().astype(np.uint8)),
        (logits.flip(0).numpy()[::-1], target.flip(0).numpy()[::-1]),
        (logits.clone().requires_grad_(), target),
    ]:
        result = calibration_of(given_logits, given_target).compute()
        assert result.bins.count.tolist() == expected.bins.count.tolist()
        assert result.nll == pytest.approx(expected.nll, rel=1e-14)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        rounded = logits.to(dtype)
        result = calibration_of(rounded, target).compute()
        exact = calibration_of(rounded.double(), target).compute()
        assert result.nll == pytest.approx(exact.nll, rel=1e-6)
        assert result.brier == pytest.approx(exact.brier, rel=1e-6)
        assert result.ece == pytest.approx(exact.ece, rel=1e-5)


def test_statistics_of_a_training_step_count_as_its_logits_do():
    logits, target = random_logits(50, 6)
    target[7] = -100
    logits.requires_grad_()
    _, stats = cross_entropy(logits, target, label_smoothing=0.1, return_stats=True)
    calibration = Calibration()
    calibration.update_stats(stats)
    result = calibration.compute()
    keep = target != -100
    expected = calibration_of(logits[keep], target[keep]).compute()
    assert result.rows == 49
    assert result.bins.count.tolist() == expected.bins.count.tolist()
    for name in ("accuracy", "nll", "ece", "mce", "mean_confidence"):
        assert getattr(result, name) == pytest.approx(getattr(expected, name), rel=1e-14), name


def test_statistics_without_the_sum_of_squares_have_no_brier_score():
    logits, target = random_logits(9, 4)
    without, with_it = Calibration(), Calibration()
    without.update_stats(row_stats(logits, target[:, None]))
    with_it.update_stats(row_stats(logits, target[:, None], log_sum_sq=True))
    assert math.isnan(without.compute().brier)
    assert with_it.compute().brier == calibration_of(logits, target).compute().brier
    assert without.compute().nll == pytest.approx(with_it.compute().nll, rel=1e-14)


def test_a_label_with_probability_0_makes_the_nll_infinite():
    calibration = Calibration()
    calibration.update_probs(np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]]), np.array([0, 1, 1]))
    result = calibration.compute()
    assert result.nll == math.inf
    assert result.brier == pytest.approx((0 + 2 + 0.5) / 3)
    assert result.accuracy == pytest.approx(1 / 3)  # the tie goes to the first class
    logits = torch.tensor([[0.0, -torch.inf], [3.0, -torch.inf]])
    assert calibration_of(logits, torch.tensor([0, 0])).compute().nll == 0
    assert calibration_of(logits, torch.tensor([0, 1])).compute().nll == math.inf


def test_a_random_forest_whose_probabilities_are_0_and_1():
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    images, labels = load_digits(return_X_y=True)
    forest = RandomForestClassifier(10, random_state=0).fit(images[:300], labels[:300])
    probs, target = forest.predict_proba(images[300:]), labels[300:]
    at_label = probs[np.arange(len(target)), target]
    assert (probs == 1).any()
    calibration = Calibration(top_k=(1, 3))
    calibration.update_probs(probs, target)
    result = calibration.compute()
    assert result.nll == math.inf
    assert result.infinite_nll_rows == (at_label == 0).sum() > 0
    assert result.accuracy == pytest.approx((probs.argmax(-1) == target).mean(), rel=1e-15)
    assert result.brier == pytest.approx(np.square(probs - np.eye(10)[target]).sum(-1).mean(), rel=1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(probs * np.log(probs), axis=-1)
    assert result.entropy == pytest.approx(entropy.mean(), rel=1e-12)
    # ties are everywhere, and go to the first class
    order = np.argsort(-probs, axis=-1, kind="stable")
    for k in (1, 3):
        assert result.top_k[k] == pytest.approx((order[:, :k] == target[:, None]).any(-1).mean(), rel=1e-15)
    finite = Calibration()
    finite.update_probs(probs[at_label > 0], target[at_label > 0])
    expected = -np.log(at_label[at_label > 0]).mean()
    assert finite.compute().nll == pytest.approx(expected, rel=1e-12)


def test_weights_are_repeated_rows():
    logits, target = random_logits(400, 5)
    weight = np.random.default_rng(0).integers(0, 4, 400)
    repeated = torch.from_numpy(np.repeat(np.arange(400), weight))
    expected = calibration_of(logits[repeated], target[repeated], top_k=(2,), classwise=True).compute()
    for weights in (weight, torch.from_numpy(weight / 7.0), weight.astype(np.float32)):
        for way in ("update", "update_probs"):
            calibration = Calibration(top_k=(2,), classwise=True)
            rows = logits if way == "update" else logits.softmax(-1)
            getattr(calibration, way)(rows, target, weights)
            result = calibration.compute()
            assert result.rows == (weight > 0).sum()
            knows_rows = ("rows", "infinite_nll_rows", "debiased_l2", "ece_by_chance", "ece_ratio")
            for name, value in result.to_dict().items():
                if name not in knows_rows:
                    assert value == pytest.approx(expected.to_dict()[name], rel=1e-9), name
            assert result.top_k[2] == pytest.approx(expected.top_k[2], rel=1e-12)
            np.testing.assert_allclose(result.bins.share, expected.bins.share, rtol=1e-12)
    calibration = calibration_of(logits, target)
    stats = row_stats(logits, target[:, None], log_sum_sq=True, mean_logit=True)
    from_stats = Calibration()
    from_stats.update_stats(stats, torch.ones(400))
    assert from_stats.compute().ece == calibration.compute().ece


def test_classwise_bins_are_those_of_scikit_learn_class_by_class():
    logits, target = random_logits(600, 4)
    probs = logits.softmax(-1).numpy()
    for edges in ("left_open", "right_open"):
        calibration = Calibration(10, edges, classwise=True)
        calibration.update_probs(probs[:250], target[:250])
        other = Calibration(10, edges, classwise=True)
        other.update(logits[250:], target[250:])
        calibration.merge(other)
        result = calibration.compute()
        errors = []
        for k in range(4):
            hit = (target == k).numpy()
            true, predicted = calibration_curve(hit, probs[:, k], n_bins=10)
            filled = result.classwise.count[k] > 0
            np.testing.assert_allclose(result.classwise.frequency[k, filled], true, rtol=1e-12)
            np.testing.assert_allclose(result.classwise.confidence[k, filled], predicted, rtol=1e-12)
            errors.append((result.classwise.share[k, filled] * np.abs(true - predicted)).sum())
        assert result.classwise_ece == pytest.approx(np.mean(errors), rel=1e-12)
    with pytest.raises(ValueError, match="same classes in all rows, got 3 after 4"):
        calibration.update(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_equal_mass_bins_do_not_depend_on_the_order_of_ties():
    rng = np.random.default_rng(0)
    # forty rows of each confidence, of which the first are wrong
    confidences = np.repeat(np.arange(40, 81) / 80, 40)
    hits = np.tile(np.arange(40), 41) > 10
    results = []
    for _ in range(5):
        order = rng.permutation(len(hits))
        probs = rows_of_confidence(confidences[order])
        calibration = Calibration(8)
        calibration.update_probs(probs, np.where(hits[order], 3, 4))
        results.append(calibration.compute())
    for result in results:
        assert result.equal_mass_bins.count.tolist() == results[0].equal_mass_bins.count.tolist()
        assert result.ece_equal_mass == pytest.approx(results[0].ece_equal_mass, rel=1e-12)
    # 41 groups in 8 bins: five groups in each, six in one
    assert sorted(results[0].equal_mass_bins.count.tolist()) == [200] * 7 + [240]
    assert (np.diff(results[0].equal_mass_bins.edges) > 0).all()
    # distinct confidences make bins of numpy's quantiles
    logits, target = random_logits(1000, 6)
    result = calibration_of(logits, target, num_bins=10).compute()
    confidence = np.sort(logits.softmax(-1).amax(-1).numpy())
    assert np.abs(result.equal_mass_bins.count - 100).max() <= 4  # as many as share a cell
    np.testing.assert_allclose(result.equal_mass_bins.edges[1:-1], confidence[100::100], atol=2e-3)


def test_confident_rows_are_told_apart_close_to_1():
    """A quarter of a thousandth is as wide as most cells; these all lie within a ten-thousandth of 1."""
    confidence = 1 - 10.0 ** -np.linspace(4, 9, 1000)
    probs = np.stack([confidence, 1 - confidence], 1)
    calibration = Calibration(10)
    calibration.update_probs(probs, np.zeros(1000, int))
    assert np.abs(calibration.compute().equal_mass_bins.count - 100).max() <= 20


def test_one_shot_functions_are_the_fields_of_the_result():
    logits, target = random_logits(200, 5)
    weight = torch.rand(200)
    for rows, probs in ((logits, False), (logits.softmax(-1), True)):
        calibration = Calibration(classwise=True)
        (calibration.update_probs if probs else calibration.update)(rows, target, weight)
        result = calibration.compute()
        for name in ("accuracy", "nll", "brier", "ece", "mce", "smece", "classwise_ece"):
            value = getattr(measure, name)(rows, target, probs=probs, weight=weight)
            assert value == getattr(result, name), name
    assert measure.ece(logits, target, num_bins=7, edges="right_open") == pytest.approx(
        naive(logits.softmax(-1).tolist(), target.tolist(), 7, "right_open")["ece"], rel=1e-12
    )


@pytest.mark.parametrize("num_bins", [1, 2, 3, 7, 15, 49, 100, 997, 4096, 20_000])
@pytest.mark.parametrize(
    "options", [{}, {"edges": "right_open"}, {"peer": "torchmetrics"}, {"peer": "gpleiss"}]
)
def test_cells_are_those_that_a_search_finds(num_bins, options):
    cells = layout(num_bins, binning(options.get("edges"), options.get("peer"))).cells
    side = "right" if options.get("edges") or options.get("peer") == "torchmetrics" else "left"
    rng = np.random.default_rng(num_bins)
    halves = 2.0 ** -np.arange(1, 60)
    values = np.concatenate(
        [cells.edges, halves, 1 - halves, rng.random(5000), 1 - 10 ** -rng.uniform(0, 17, 5000), [5e-324]]
    )
    values = np.concatenate([values, np.nextafter(values, -1), np.nextafter(values, 2)])
    values = np.append(values[values >= 0], 1 + 4 * np.finfo(np.float32).eps)
    np.testing.assert_array_equal(cells.of(values), np.searchsorted(cells.edges, values, side))
    two = values[: values.size // 2 * 2].reshape(-1, 2)
    np.testing.assert_array_equal(cells.of(two), np.searchsorted(cells.edges, two, side))


def test_the_state_is_small():
    calibration = calibration_of(*random_logits(100, 5), num_bins=100)
    assert sum(array.nbytes for array in calibration.state().values()) < 10**6


# --- two processes


def rank_rows():
    logits, target = random_logits(500, 6)
    return logits, target, torch.linspace(0, 2, 500)


def one_of_two(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = (
        "lo" if sys.platform == "linux" else "lo0"
    )  # nothing leaves the machine
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        logits, target, weight = rank_rows()
        # the first has seen all the rows of one measure, and part of the other's
        for name, split in (("all", 500), ("part", 180)):
            rows = slice(split) if rank == 0 else slice(split, None)
            calibration = Calibration(classwise=True, top_k=(2,))
            if len(target[rows]):
                calibration.update(logits[rows], target[rows], weight[rows])
            calibration.all_merge()
            np.savez(f"{folder}/{name}{rank}.npz", **calibration.state(), classwise_ece=calibration.compute().classwise_ece)  # fmt: skip
        with pytest.raises(ValueError, match=f"same options.*got {10 + rank} left_open and {11 - rank} left"):
            Calibration(10 + rank).all_merge()
        other_classes = Calibration(classwise=True)
        other_classes.update(logits[:, : 3 + rank], torch.zeros(500, dtype=torch.long))
        with pytest.raises(ValueError, match="same classes in all rows, got"):
            other_classes.all_merge()
        assert other_classes.compute().rows == 500
        dist.barrier()  # neither leaves while the other still talks to it
    finally:
        dist.destroy_process_group()


@pytest.mark.long
def test_two_processes_measure_what_one_does(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    expected = Calibration(classwise=True, top_k=(2,))
    expected.update(*rank_rows())
    expected.all_merge()  # nothing without a process group
    for name in ("all", "part"):
        for rank in (0, 1):
            merged = np.load(tmp_path / f"{name}{rank}.npz")
            np.testing.assert_array_equal(merged["counts"], expected.sums()["counts"])
            np.testing.assert_array_equal(merged["class_counts"], expected.sums()["class_counts"])
            np.testing.assert_allclose(merged["sums"], expected.sums()["sums"], rtol=1e-12)
            assert merged["classwise_ece"] == pytest.approx(expected.compute().classwise_ece, rel=1e-12)


def test_probabilities_are_taken_as_they_are():
    # sums a little off 1, as rounding to three digits leaves them
    calibration = Calibration()
    calibration.update_probs(np.array([[0.333, 0.334, 0.3325]]), np.array([0]))
    result = calibration.compute()
    assert result.mean_confidence == 0.334
    assert result.nll == pytest.approx(-math.log(0.333), rel=1e-15)
    half = torch.tensor([[3.1, 0.2, 0.3], [1.0, 2.0, 3.0]]).softmax(-1)
    calibration.update_probs(half.bfloat16(), torch.tensor([0, 1]))
    assert calibration.compute().rows == 3


def test_empty_bins_are_nan_and_results_do_not_change_later():
    calibration = Calibration(num_bins=4)
    calibration.update_probs(np.array([[0.1, 0.9]]), np.array([1]))
    result = calibration.compute()
    assert result.bins.count.tolist() == [0, 0, 0, 1]
    np.testing.assert_array_equal(result.bins.accuracy, [np.nan, np.nan, np.nan, 1])
    np.testing.assert_array_equal(result.bins.confidence, [np.nan, np.nan, np.nan, 0.9])
    np.testing.assert_array_equal(result.bins.edges, [0, 0.25, 0.5, 0.75, 1])
    calibration.update_probs(np.array([[0.4, 0.6]]), np.array([1]))
    assert result.bins.count.tolist() == [0, 0, 0, 1]
    calibration.reset()
    with pytest.raises(ValueError, match="at least one row that counts, got none"):
        calibration.compute()
    calibration.update(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match="got none"):
        calibration.compute()


def test_only_the_number_asked_for_is_computed(monkeypatch):
    def refuse(*_):
        raise AssertionError("the smooth calibration error was computed")

    monkeypatch.setattr("labelsmooth.measure.peers.smooth_ece", refuse)
    assert measure.accuracy(torch.eye(3) * 2, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3, rel=1e-15)
    with pytest.raises(AssertionError, match="was computed"):
        measure.smece(torch.eye(3) * 2, torch.tensor([0, 1, 0]))


@pytest.mark.parametrize("change", ["update", "update_probs", "merge", "load", "reset"])
def test_a_result_that_has_computed_nothing_yet_does_not_change_later(change):
    logits, target = random_logits(50, 3)
    options = {"classwise": True, "top_k": (2,)}
    calibration, twin = (calibration_of(logits, target, **options) for _ in range(2))
    result, expected = calibration.compute(), twin.compute().to_dict()
    other = calibration_of(-logits, target, **options)
    {
        "update": lambda: calibration.update(-logits, target),
        "update_probs": lambda: calibration.update_probs((-logits).softmax(-1), target),
        "merge": lambda: calibration.merge(other),
        "load": lambda: calibration.load(other.state()),
        "reset": calibration.reset,
    }[change]()
    assert result.to_dict() == expected


def test_a_result_is_short_in_print_and_plain_in_a_logger():
    calibration = Calibration(top_k=(1,), classwise=True)
    calibration.update_probs(np.array([[0.25, 0.75], [0.25, 0.75]]), np.array([1, 0]))
    result = calibration.compute()
    numbers = result.to_dict()
    assert {type(value) for value in numbers.values()} == {int, float}
    assert numbers["rows"] == 2
    assert (numbers["accuracy"], numbers["ece"], numbers["classwise_ece"]) == (0.5, 0.25, 0.25)
    assert numbers["top_1_accuracy"] == 0.5
    assert repr(result).startswith("CalibrationResult(rows=2, accuracy=0.5, nll=0.837, infinite_nll_rows=0, ")


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("method", "rows", "target", "error", "message"),
    [
        ("update", torch.tensor([[0.0, NAN]]), torch.tensor([0]), ValueError, "NaN.*got 1 of 1"),
        ("update", torch.tensor([[0.0, INF], [0, 0]]), torch.tensor([0, 1]), ValueError, "inf.*got 1 of 2"),
        ("update", torch.tensor([[-INF, -INF]]), torch.tensor([0]), ValueError, "finite value.*got 1 of 1"),
        ("update", torch.zeros(2, 3), torch.tensor([0, 3]), ValueError, "lie in 0..2, got 3"),
        ("update", torch.zeros(2, 3), torch.tensor([0, -1]), ValueError, "lie in 0..2, got -1"),
        ("update", torch.zeros(2, 3), torch.tensor([0.0, 1.0]), TypeError, "integers, got torch.float32"),
        ("update", torch.zeros(2, 3), torch.tensor([True, False]), TypeError, "integers, got torch.bool"),
        (
            "update",
            torch.zeros(2, 3).long(),
            torch.tensor([0, 1]),
            TypeError,
            "floating-point.*got torch.int64",
        ),
        ("update", torch.zeros(2, 3), torch.tensor([0, 1, 2]), ValueError, r"got target \(3,\).*\(2, 3\)"),
        ("update", torch.zeros(2, 1), torch.tensor([0, 0]), ValueError, "at least 2 classes, got 1"),
        ("update", torch.tensor(1.0), torch.tensor(0), ValueError, r"shape \(…, K\), got \(\)"),
        ("update", [[0.0, 1.0]], torch.tensor([0]), TypeError, "torch.Tensor or a numpy.ndarray, got list"),
        ("update", np.array([["a", "b"]]), np.array([0]), TypeError, "must hold numbers, got dtype <U1"),
        ("update_probs", np.array([[0.5, 0.6]]), np.array([0]), ValueError, "sum to 1, got a sum of 1.1"),
        ("update_probs", np.array([[1.5, -0.5]]), np.array([0]), ValueError, "lie in 0..1, got 1.5"),
        ("update_probs", np.array([[1.0, -1e-9]]), np.array([0]), ValueError, "lie in 0..1, got -1e-09"),
        ("update_probs", np.array([[NAN, 1.0]]), np.array([0]), ValueError, "lie in 0..1, got nan"),
        ("update_probs", np.array([[0.5, 0.5]]), np.array([2]), ValueError, "lie in 0..1, got 2"),
    ],
)
def test_bad_rows_are_refused_and_change_nothing(method, rows, target, error, message):
    calibration = Calibration()
    with pytest.raises(error, match=message):
        getattr(calibration, method)(rows, target)
    with pytest.raises(ValueError, match="got none"):
        calibration.compute()


def test_bad_options_and_partners_are_refused():
    with pytest.raises(TypeError, match="num_bins must be an int, got float"):
        Calibration(15.0)
    with pytest.raises(ValueError, match="num_bins must be at least 1, got 0"):
        Calibration(0)
    with pytest.raises(ValueError, match="peer must be one of torchmetrics.*got 'nobody'"):
        Calibration(peer="nobody")
    with pytest.raises(ValueError, match="got peer 'netcal' and edges 'left_open'"):
        Calibration(edges="left_open", peer="netcal")
    with pytest.raises(ValueError, match="each k of top_k must be at least 1, got 0"):
        Calibration(top_k=(5, 0))
    with pytest.raises(ValueError, match="15 right_open peer=netcal and 15 right_open"):
        Calibration(peer="netcal").merge(Calibration(edges="right_open"))
    with pytest.raises(ValueError, match="nothing of single classes"):
        Calibration(top_k=(5,)).update_stats(row_stats(torch.zeros(1, 2), torch.tensor([[0]])))
    for weight, message in [
        ([1.0, -1.0], "at least 0, got -1.0"),
        ([1.0, NAN], "got nan"),
        ([1.0], r"shape of target, \(2,\), got \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            Calibration().update(torch.zeros(2, 3), torch.zeros(2).long(), torch.tensor(weight))
    with pytest.raises(ValueError, match="'left_open' or 'right_open', got 'closed'"):
        Calibration(edges="closed")
    with pytest.raises(ValueError, match="same options.*got 15 left_open and 10 left_open"):
        Calibration().merge(Calibration(10))
    with pytest.raises(ValueError, match="got 15 left_open and 15 right_open"):
        Calibration().merge(Calibration(edges="right_open"))
    with pytest.raises(ValueError, match="got stats without an index"):
        Calibration().update_stats(row_stats(torch.zeros(1, 2)))


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), sys.argv[2])
