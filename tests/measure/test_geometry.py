"""Projection, spread and gap against definitions written out here, and against what they must not depend on."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from labelsmooth import theory
from labelsmooth.measure import Geometry, logit_gap, plane_projection, within_class_spread

seeds = st.integers(0, 2**31)


def last_layer(seed, rows=60, width=9, num_classes=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, rows)
    labels[:num_classes] = np.arange(num_classes)
    weight, bias = rng.standard_normal((num_classes, width)), rng.standard_normal(num_classes)
    features = rng.standard_normal((rows, width)) + 2 * weight[labels]
    return features, labels, weight, bias


@given(seed=seeds)
def test_the_projection_is_the_nearest_point_of_the_plane(seed):
    features, labels, weight, bias = last_layer(seed)
    projection = plane_projection(features, labels, weight, bias, (4, 0, 2))
    t = np.concatenate([weight, bias[:, None]], axis=1)[[4, 0, 2]]
    shown = np.isin(labels, [4, 0, 2])
    rows = np.concatenate([features, np.ones((len(features), 1))], axis=1)[shown]
    assert projection.labels.tolist() == labels[shown].tolist()
    assert projection.classes == (4, 0, 2)
    # least squares in the (not orthogonal) coordinates along the two sides of the triangle
    sides = t[1:] - t[0]
    feet = t[0] + (np.linalg.lstsq(sides.T, (rows - t[0]).T)[0].T) @ sides
    everything = np.concatenate([feet, t])
    drawn = np.concatenate([projection.points, projection.templates])
    # distances in the picture are those in the plane
    np.testing.assert_allclose(
        np.linalg.norm(drawn[:, None] - drawn, axis=-1),
        np.linalg.norm(everything[:, None] - everything, axis=-1),
        rtol=1e-9,
        atol=1e-9,
    )


@given(seed=seeds)
def test_the_origin_is_where_the_three_logits_meet(seed):
    features, labels, weight, bias = last_layer(seed)
    classes = [1, 3, 0]
    projection = plane_projection(features, labels, weight, bias, classes)
    logits = (features @ weight.T + bias)[np.isin(labels, classes)][:, classes]
    in_plane = projection.points @ projection.templates.T
    # the coordinates tell every logit up to a constant of the row
    np.testing.assert_allclose(in_plane - in_plane[:, :1], logits - logits[:, :1], rtol=1e-9, atol=1e-9)


@given(seed=seeds)
def test_along_a_border_two_logits_are_equal_and_above_the_third(seed):
    features, labels, weight, bias = last_layer(seed)
    projection = plane_projection(features, labels, weight, bias, (1, 3, 0))
    np.testing.assert_allclose(np.linalg.norm(projection.borders, axis=1), 1, rtol=1e-12)
    for third, border in enumerate(projection.borders):
        logits = projection.templates @ border
        one, other = np.delete(logits, third)
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9)
        assert one > logits[third]


@given(seed=seeds)
def test_the_orientation_is_fixed(seed):
    features, labels, weight, bias = last_layer(seed)
    a, b, c = plane_projection(features, labels, weight, bias, (0, 1, 2)).templates
    assert b[0] > a[0]
    assert b[1] == pytest.approx(a[1], abs=1e-9)
    assert c[1] > a[1]


def test_projection_takes_tensors_of_any_float():
    features, labels, weight, bias = (torch.from_numpy(part) for part in last_layer(0))
    expected = plane_projection(features, labels, weight, bias, (0, 1, 2))
    weight = torch.nn.Parameter(weight.float())
    result = plane_projection(features.float(), labels.int(), weight, bias.float(), torch.tensor([0, 1, 2]))
    assert result.classes == (0, 1, 2)
    assert result.points.dtype == np.float64
    np.testing.assert_allclose(result.points, expected.points, atol=1e-5)


def with_(position, value):
    arguments = [*last_layer(0), (0, 1, 2)]
    arguments[position] = value
    return arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (with_(2, np.zeros((5, 8))), ValueError, r"classifier_weight must have shape \(K, 9\), got \(5, 8\)"),
        (
            with_(2, np.zeros((5, 9), int)),
            TypeError,
            "classifier_weight must hold floating-point values, got torch.int64",
        ),
        (with_(2, np.zeros((5, 9))), ValueError, r"must span a plane, got \(0, 1, 2\) on one line"),
        (with_(3, np.zeros(4)), ValueError, r"classifier_bias must have shape \(5,\), got \(4,\)"),
        (
            with_(3, np.full(5, np.inf)),
            ValueError,
            "classifier_weight and classifier_bias must be finite, got inf",
        ),
        (with_(0, np.full((60, 9), np.nan)), ValueError, "features must be finite, got nan"),
        (with_(1, np.full(60, 5)), ValueError, "target must lie in 0..4, got 5"),
        (with_(4, (0, 1)), ValueError, r"three different classes, got \(0, 1\)"),
        (with_(4, (0, 1, 1)), ValueError, r"three different classes, got \(0, 1, 1\)"),
        (with_(4, (0, 1, 5)), ValueError, "classes must lie in 0..4, got 5"),
    ],
)
def test_bad_planes_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        plane_projection(*arguments)


def test_templates_on_one_line_span_no_plane_whatever_the_rounding():
    features, labels, weight, bias = last_layer(0)
    weight[2], bias[2] = 0.3 * weight[0] + 0.7 * weight[1], 0.3 * bias[0] + 0.7 * bias[1]
    with pytest.raises(ValueError, match="span a plane"):
        plane_projection(features, labels, weight, bias, (0, 1, 2))


@given(seed=seeds)
def test_spread_is_its_definition(seed):
    features, labels, _, _ = last_layer(seed)
    sigma_w, sigma_b = np.zeros((9, 9)), np.zeros((9, 9))
    means = {c: features[labels == c].mean(0) for c in range(5)}
    centre = np.mean(list(means.values()), axis=0)
    for c, mean in means.items():
        for h in features[labels == c]:
            sigma_w += np.outer(h - mean, h - mean) / (labels == c).sum() / 5
        sigma_b += np.outer(mean - centre, mean - centre) / 5
    expected = np.trace(sigma_w) / np.trace(sigma_b)
    assert within_class_spread(features, labels) == pytest.approx(expected, rel=1e-12)
    # a rotation, a scale, a shift and other names of the classes change nothing
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((9, 9)))[0]
    moved = 3 * features @ rotation + 40
    assert within_class_spread(moved, labels * 7 - 3) == pytest.approx(expected, rel=1e-9)


def test_class_frequencies_do_not_matter():
    features, labels, _, _ = last_layer(3)
    often = np.where(labels == 2, 5, 1)
    repeated = within_class_spread(np.repeat(features, often, axis=0), np.repeat(labels, often))
    assert repeated == pytest.approx(within_class_spread(features, labels), rel=1e-12)


def test_spread_of_directions_tells_the_class_separation_of_kornblith():
    features, labels, _, _ = last_layer(4, num_classes=3)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine_distance = 1 - unit @ unit.T
    blocks = np.array(
        [[cosine_distance[labels == j][:, labels == k].mean() for k in range(3)] for j in range(3)]
    )
    r_squared = 1 - np.diag(blocks).mean() / blocks.mean()
    assert within_class_spread(unit, labels) == pytest.approx(1 / r_squared - 1, rel=1e-10)


def test_the_ends_of_the_spread():
    labels = np.array([0, 0, 1, 1])
    assert within_class_spread(np.array([[1.0], [1], [2], [2]]), labels) == 0
    assert within_class_spread(np.array([[1.0], [2], [1], [2]]), labels) == np.inf
    assert np.isnan(within_class_spread(np.ones((4, 1)), labels))
    with pytest.raises(ValueError, match="at least two classes, got 1"):
        within_class_spread(np.ones((4, 1)), np.zeros(4, int))
    with pytest.raises(ValueError, match="features must be finite, got nan"):
        within_class_spread(np.full((4, 1), np.nan), labels)
    with pytest.raises(ValueError, match=r"got target \(4,\) with features \(3, 1\)"):
        within_class_spread(np.ones((3, 1)), labels)


def geometry_of(features, labels, num_classes=5):
    geometry = Geometry(num_classes)
    geometry.update(features, labels)
    return geometry


def numbers(geometry, weight):
    """Every number of a result that is not a count."""
    result = geometry.compute(weight)
    shapes = (result.frame, result.classifier.templates)
    return np.array(
        [result.spread, result.class_separation, result.nc1]
        + [value for shape in shapes for value in vars(shape).values()]
        + [value for value in vars(result.classifier).values() if isinstance(value, float)]
    )


@given(seed=seeds)
def test_neural_collapse_is_its_definition(seed):
    features, labels, weight, _ = last_layer(seed)
    geometry = geometry_of(features, labels)
    result = geometry.compute(weight)
    mu = np.array([features[labels == c].mean(0) for c in range(5)])
    m, w = mu - mu.mean(0), weight - weight.mean(0)
    deviation = features - mu[labels]
    sigma_w, sigma_b = deviation.T @ deviation / len(features), m.T @ m / 5
    assert result.rows == len(features)
    assert result.counts.tolist() == np.bincount(labels).tolist()
    np.testing.assert_allclose(result.means, mu, rtol=1e-12, atol=1e-12)
    assert result.nc1 == pytest.approx(np.trace(sigma_w @ np.linalg.pinv(sigma_b)) / 5, rel=1e-8)
    for shape, v in ((result.frame, m), (result.classifier.templates, w)):
        lengths = np.linalg.norm(v, axis=1)
        cosines = np.array(
            [v[j] @ v[k] / lengths[j] / lengths[k] for j in range(5) for k in range(5) if j != k]
        )
        assert shape.equinorm == pytest.approx(np.std(lengths) / np.mean(lengths), rel=1e-9)
        assert shape.equiangular == pytest.approx(np.std(cosines), rel=1e-9)
        assert shape.maximal_angle == pytest.approx(np.mean(np.abs(cosines + 1 / 4)), rel=1e-9)
    dual = np.linalg.norm(w / np.linalg.norm(w) - m / np.linalg.norm(m))
    assert result.classifier.nc3 == pytest.approx(dual, rel=1e-9)
    seen = w.T @ np.linalg.pinv(w.T)  # the orthogonal projector onto the span of the templates
    sigma_w, sigma_b = seen @ sigma_w @ seen, seen @ sigma_b @ seen
    in_span = np.trace(sigma_w @ np.linalg.pinv(sigma_b, rcond=1e-10)) / 5
    assert result.classifier.nc1_in_span == pytest.approx(in_span, rel=1e-8)
    assert result.classifier.spread_in_span == pytest.approx(np.trace(sigma_w) / np.trace(sigma_b), rel=1e-9)
    nearest = np.linalg.norm(features[:, None] - mu, axis=-1).argmin(-1)
    assert geometry.nearest_mean(features).tolist() == nearest.tolist()


@given(seed=seeds, num_classes=st.integers(2, 12))
def test_the_distances_from_a_frame_are_their_definitions(seed, num_classes):
    """With fewer classes than dimensions, as many, and more."""
    features, labels, weight, _ = last_layer(seed, num_classes=num_classes, width=5)
    result = geometry_of(features, labels, num_classes).compute(weight)
    mu = np.array([features[labels == c].mean(0) for c in range(num_classes)])
    m, w = mu - mu.mean(0), weight - weight.mean(0)
    frame = np.eye(num_classes) - 1 / num_classes
    for distance, products in (
        (result.frame.nc2, m @ m.T),
        (result.classifier.templates.nc2, w @ w.T),
        (result.classifier.duality_error, w @ m.T),
    ):
        expected = np.linalg.norm(products / np.linalg.norm(products) - frame / np.linalg.norm(frame))
        assert distance == pytest.approx(expected, rel=1e-9, abs=1e-12)
    for shape, v in ((result.frame, m), (result.classifier.templates, w)):
        directions = v / np.linalg.norm(v, axis=1, keepdims=True)
        cosines = (directions @ directions.T)[~np.eye(num_classes, dtype=bool)]
        assert shape.equiangular == pytest.approx(np.std(cosines), rel=1e-9, abs=1e-12)
        ideal = 1 / (num_classes - 1)
        assert shape.maximal_angle == pytest.approx(np.mean(np.abs(cosines + ideal)), rel=1e-9, abs=1e-12)


def test_memory_does_not_grow_with_the_square_of_the_classes():
    num_classes = 4000
    weight = torch.randn(num_classes, 8, generator=torch.Generator().manual_seed(0))
    geometry = geometry_of(weight + 1, torch.arange(num_classes), num_classes)
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return made

    with Sizes():
        geometry.compute(weight)
        geometry.nearest_mean(weight)
    assert largest <= 2**20


def digits_layer():
    """Pixels of the digits as features, and the least-squares classifier on them."""
    images, labels = load_digits(return_X_y=True)
    features = images / 16
    solution = np.linalg.lstsq(np.c_[features, np.ones(len(features))], np.eye(10)[labels], rcond=None)[0]
    return features, labels, solution[:-1].T


def test_agrees_with_rhubarbwu_neural_collapse():
    # covariance_ratio "pinv" and "quotient", simplex_etf_error, self_duality_error and clf_ncc_agreement of
    # rhubarbwu/neural-collapse at c05a0b80, in float64, of all digits and of the first 170 of each class
    features, labels, weight = digits_layer()
    geometry = geometry_of(features, labels, 10)
    result = geometry.compute(weight)
    assert result.nc1 == pytest.approx(0.9263489155364326, rel=1e-9)
    assert result.frame.nc2 == pytest.approx(0.6696195187062207, rel=1e-9)
    assert result.classifier.duality_error == pytest.approx(0.2587048548087754, rel=1e-9)
    agreement = (geometry.nearest_mean(features).numpy() == (features @ weight.T).argmax(-1)).mean()
    assert agreement == pytest.approx(0.8831385642737897, rel=1e-12)

    first = np.concatenate([np.flatnonzero(labels == c)[:170] for c in range(10)])
    balanced = geometry_of(features[first], labels[first], 10).compute(weight)
    assert balanced.nc1 == pytest.approx(0.9166448957374316, rel=1e-9)
    assert balanced.spread == pytest.approx(1.3799791808840656, rel=1e-9)
    assert balanced.frame.nc2 == pytest.approx(0.6656522912962696, rel=1e-9)
    assert balanced.classifier.duality_error == pytest.approx(0.25347877637628996, rel=1e-9)


def test_class_separation_is_that_of_kornblith():
    features, labels, _ = digits_layer()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    blocks = np.array([[distance[labels == j][:, labels == k].mean() for k in range(10)] for j in range(10)])
    expected = 1 - np.diag(blocks).mean() / blocks.mean()
    with_a_zero = np.concatenate([features, np.zeros((1, 64))]), np.append(labels, 3)
    for rows in ((features, labels), with_a_zero):
        assert geometry_of(*rows, 10).compute().class_separation == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("offset", [0, 1e5])
def test_splits_and_merge_orders_do_not_matter(offset):
    features, labels, weight = digits_layer()
    # an offset that float64 adds exactly
    features = np.round(features * 2**10) / 2**10 + offset
    whole = geometry_of(features, labels, 10)
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(len(labels))
        cuts = np.sort(rng.integers(0, len(labels) + 1, rng.integers(1, 12)))
        parts = [geometry_of(features[rows], labels[rows], 10) for rows in np.split(order, cuts)]
        while len(parts) > 1:
            a, b = rng.choice(len(parts), 2, replace=False)
            parts[a].merge(parts[b])
            del parts[b]
        assert parts[0].compute().counts.tolist() == whole.compute().counts.tolist()
        np.testing.assert_allclose(numbers(parts[0], weight), numbers(whole, weight), rtol=1e-9)


def test_an_offset_costs_no_digits():
    features, labels, weight = digits_layer()
    features = np.round(features * 2**10) / 2**10
    near, far = (geometry_of(features + offset, labels, 10) for offset in (0, 2.0**20))
    # the directions of far features are all the same
    same = np.arange(len(numbers(near, weight))) != 1
    np.testing.assert_allclose(numbers(far, weight)[same], numbers(near, weight)[same], rtol=1e-8)
    assert (near.nearest_mean(features) == far.nearest_mean(features + 2.0**20)).all()


def test_full_collapse_is_zero_throughout():
    num_classes = 4
    frame = np.eye(num_classes) - 1 / num_classes
    result = geometry_of(np.repeat(3 * frame + 1, 5, axis=0), np.repeat(np.arange(4), 5), 4).compute(
        frame + 7
    )
    assert result.class_separation == pytest.approx(1, abs=1e-12)
    everything = [
        result.spread, result.nc1, *vars(result.frame).values(), *vars(result.classifier.templates).values(),
        result.classifier.nc3, result.classifier.duality_error, result.classifier.nc1_in_span,
    ]  # fmt: skip
    np.testing.assert_allclose(everything, 0, atol=1e-12)


def test_scatter_that_no_logit_sees_is_not_in_the_span():
    features, labels, weight, _ = last_layer(5)
    result = geometry_of(features, labels).compute(weight)
    hidden = np.random.default_rng(0).standard_normal((len(labels), 3))
    wider = geometry_of(np.c_[features, hidden], labels).compute(np.c_[weight, np.ones((5, 3))])
    assert wider.spread > result.spread
    assert wider.classifier.nc1_in_span == pytest.approx(result.classifier.nc1_in_span, rel=1e-9)
    assert wider.classifier.spread_in_span == pytest.approx(result.classifier.spread_in_span, rel=1e-9)


def test_geometry_takes_tensors_of_any_float_and_classes_without_rows():
    features, labels, weight, _ = (torch.from_numpy(part) for part in last_layer(2))
    present = labels != 3
    geometry = Geometry(5)
    geometry.update(features[present].float().reshape(1, -1, 9), labels[present].int().reshape(1, -1))
    result = geometry.compute(torch.nn.Parameter(weight.float()))
    assert result.classes.tolist() == [0, 1, 2, 4]
    expected = within_class_spread(features[present], labels[present])
    assert result.spread == pytest.approx(expected, rel=1e-5)
    assert geometry.compute().classifier is None
    assert 3 not in geometry.nearest_mean(features)
    geometry.reset()
    with pytest.raises(ValueError, match="at least two classes, got 0"):
        geometry.compute()


def test_geometry_refuses_bad_rows_and_keeps_what_it_has():
    features, labels, weight, _ = last_layer(0)
    geometry = geometry_of(features, labels)
    before = numbers(geometry, weight)
    for bad, message in [
        ((np.full((60, 9), np.inf), labels), "features must be finite, got inf"),
        ((features, labels + 1), "target must lie in 0..4, got 5"),
        ((features[:, :8], labels), "as wide as those before, 9, got 8"),
    ]:
        with pytest.raises(ValueError, match=message):
            geometry.update(*bad)
    with pytest.raises(ValueError, match="same options.*got num_classes=5 and num_classes=4"):
        geometry.merge(Geometry(4))
    with pytest.raises(ValueError, match=r"weight must have shape \(5, 9\), got \(5, 8\)"):
        geometry.compute(weight[:, :8])
    with pytest.raises(ValueError, match="call update first"):
        Geometry(5).nearest_mean(features)
    geometry.merge(Geometry(5))
    assert (numbers(geometry, weight) == before).all()


@given(seed=seeds, num_classes=st.integers(2, 8), rows=st.integers(1, 30))
def test_gap_is_its_definition(seed, num_classes, rows):
    rng = np.random.default_rng(seed)
    logits, target = 5 * rng.standard_normal((rows, num_classes)), rng.integers(0, num_classes, rows)
    gaps = [z[y] - np.mean(np.delete(z, y)) for z, y in zip(logits, target, strict=True)]
    gap = logit_gap(logits, target)
    assert gap.rows == rows
    assert gap.mean == pytest.approx(np.mean(gaps), rel=1e-12, abs=1e-12)
    assert gap.sd == pytest.approx(np.std(gaps), rel=1e-12, abs=1e-12)
    assert gap.quantile_levels.tolist() == [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(gap.quantiles, np.quantile(gaps, gap.quantile_levels), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("eps", "num_classes"), [(0.1, 10), (0.3, 100)])
def test_gap_of_a_smoothed_target_is_the_optimal_gap_of_theory(eps, num_classes):
    target = torch.arange(num_classes)
    q = (1 - eps) * torch.eye(num_classes, dtype=torch.float64) + eps / num_classes
    gap = logit_gap(q.log(), target)
    assert gap.mean == pytest.approx(theory.optimal_gap(eps, num_classes), rel=1e-12)
    assert gap.sd == pytest.approx(0, abs=1e-12)


def test_a_large_offset_costs_the_gap_no_digits():
    logits = torch.tensor([[3.0, 1, -1]], dtype=torch.float64) + 2.0**40
    assert logit_gap(logits, torch.tensor([0])).mean == 3


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "at least one row, got none"),
        (np.array([[0, -np.inf]]), np.array([0]), "logits must be finite, got -inf"),
        (np.zeros((1, 3)), np.array([3]), "lie in 0..2, got 3"),
    ],
)
def test_gaps_of_bad_rows_are_refused(logits, target, message):
    with pytest.raises(ValueError, match=message):
        logit_gap(logits, target)
