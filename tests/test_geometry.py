"""Projection, spread and gap against definitions written out here, and against what they must not depend on."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelsmooth import theory
from labelsmooth.measure import logit_gap, plane_projection, within_class_spread

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
        (with_(2, np.zeros((5, 8))), ValueError, r"templates must have shape \(K, 9\), got \(5, 8\)"),
        (
            with_(2, np.zeros((5, 9), int)),
            TypeError,
            "templates must hold floating-point values, got torch.int64",
        ),
        (with_(2, np.zeros((5, 9))), ValueError, r"must span a plane, got \(0, 1, 2\) on one line"),
        (with_(3, np.zeros(4)), ValueError, r"bias must have shape \(5,\), got \(4,\)"),
        (with_(3, np.full(5, np.inf)), ValueError, "templates and bias must be finite, got inf"),
        (with_(0, np.full((60, 9), np.nan)), ValueError, "features must be finite, got nan"),
        (with_(1, np.full(60, 5)), ValueError, "labels must lie in 0..4, got 5"),
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
    with pytest.raises(ValueError, match=r"got labels \(4,\) with features \(3, 1\)"):
        within_class_spread(np.ones((3, 1)), labels)


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
