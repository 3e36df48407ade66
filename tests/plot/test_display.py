"""Displays hold the numbers that they draw, and draw the numbers that they hold: digits, by real classifiers."""

import io
import sys

import matplotlib as mpl
import numpy as np
import pandas
import polars
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from labelsmooth.measure import (
    Calibration,
    Interval,
    Selective,
    TemperatureScaling,
    logit_gap,
    logit_gaps,
    plane_projection,
)
from labelsmooth.plot import (
    ClasswiseReliabilityDisplay,
    GapDisplay,
    MetricAgainstEpsDisplay,
    MetricAgainstTemperatureDisplay,
    ProjectionDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
)
from labelsmooth.plot.style import COLOURS, GREY
from labelsmooth.theory import optimal_gap

IMAGES, LABELS = load_digits(return_X_y=True)
FITTED, VALIDATION, TEST = slice(0, 600), slice(600, 1100), slice(1100, None)
# one that is sure of itself and one that is held back, as smoothing would
SURE, HELD_BACK = (
    LogisticRegression(C=c, max_iter=3000).fit(IMAGES[FITTED], LABELS[FITTED]) for c in (0.1, 0.0003)
)
FOREST = RandomForestClassifier(30, random_state=0).fit(IMAGES[FITTED], LABELS[FITTED])
TARGET = LABELS[TEST]


def logits(classifier=SURE, rows=TEST):
    return classifier.decision_function(IMAGES[rows])


def projections():
    return {
        name: {
            part: plane_projection(IMAGES[rows], LABELS[rows], model.coef_, model.intercept_, (0, 1, 8))
            for part, rows in (("training rows", FITTED), ("validation rows", VALIDATION))
        }
        for name, model in (("hard", SURE), ("smoothed", HELD_BACK))
    }


ECE = {
    eps: Interval(value=value, low=value - 0.01, high=value + 0.02)
    for eps, value in ((0.1, 0.05), (0.0, 0.03), (0.2, 0.12))
}
# each with the number of panels, as rows and columns
DISPLAYS = {
    "reliability": (lambda ax: ReliabilityDisplay.from_predictions(logits(), TARGET, ax=ax), None),
    "reliability_probs": (
        lambda ax: ReliabilityDisplay.from_predictions(
            FOREST.predict_proba(IMAGES[TEST]), TARGET, ax=ax, probs=True
        ),
        None,
    ),
    "risk_coverage": (
        lambda ax: RiskCoverageDisplay.from_predictions(logits(), TARGET, name="hard", ax=ax),
        None,
    ),
    "gap": (
        lambda ax: GapDisplay.from_predictions(logits(), TARGET, eps=[0.05, 0.1], name="hard", ax=ax),
        None,
    ),
    "eps": (lambda ax: MetricAgainstEpsDisplay.from_intervals(ECE, "ECE", name="as trained", ax=ax), None),
    "temperature": (
        lambda ax: MetricAgainstTemperatureDisplay.from_predictions(logits(), TARGET, fitted=1.5, ax=ax),
        (2, 1),
    ),
    "projection": (lambda ax: ProjectionDisplay.from_projections(projections(), ax=ax), (2, 2)),
    "classwise": (lambda ax: ClasswiseReliabilityDisplay.from_predictions(logits(), TARGET, ax=ax), (4, 3)),
}


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", DISPLAYS)
def test_draws_on_the_axes_given_and_leaves_the_rest_alone(name):
    draw, grid = DISPLAYS[name]
    before = dict(mpl.rcParams)
    rows, columns = grid or (1, 1)
    figure = Figure(figsize=(3.5 * columns, 3.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns)
    display = draw(axes)
    assert display.figure_ is figure
    if grid is None:
        assert display.ax_ is axes
    else:
        assert display.axes_.shape == grid
        assert set(display.axes_.flat) == set(np.ravel(axes))
    figure.savefig(io.BytesIO(), format="svg")
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", DISPLAYS)
def test_everything_can_be_read_on_a_new_figure(name):
    """No letter is too small, none is cut off at the figure's edge, and every axis says what is on it."""
    draw, _ = DISPLAYS[name]
    display = draw(None)
    figure = display.figure_
    assert plt.get_fignums() == [figure.number]
    assert figure.get_size_inches()[0] <= 7
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible() and text.get_window_extent().width > 0:
            assert text.get_fontsize() >= 8, text
    for ax in filter(Axes.get_visible, figure.axes):
        box = ax.get_tightbbox()
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert box.y1 <= figure.bbox.height + 1


@pytest.mark.parametrize("name", DISPLAYS)
def test_plots_again_with_the_same_numbers(name):
    draw, _ = DISPLAYS[name]
    display = draw(None)
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first
    drawn = [
        [line.get_xydata().tolist() for ax in figure.axes for line in ax.lines]
        for figure in (first, display.figure_)
    ]
    assert repr(drawn[0]) == repr(drawn[1])


@pytest.mark.parametrize("name", DISPLAYS)
def test_frames(name, monkeypatch):
    draw, _ = DISPLAYS[name]
    display = draw(None)
    frame = display.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) > 2
    monkeypatch.setitem(sys.modules, "pandas", None)  # as where it is not installed
    other = display.frame()
    assert isinstance(other, polars.DataFrame)
    assert other.columns == list(frame)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="a frame needs pandas or polars, and neither is installed"):
        display.frame()


def test_reliability_shows_the_bins_of_calibration():
    calibration = Calibration(10)
    calibration.update(logits(), TARGET)
    bins = calibration.compute().bins
    display = ReliabilityDisplay.from_predictions(logits(), TARGET, num_bins=10)
    frame = display.frame()
    np.testing.assert_array_equal(frame["count"], bins.count)
    np.testing.assert_array_equal(frame["accuracy"], bins.accuracy)
    np.testing.assert_array_equal(np.append(frame["low"], frame["high"].iloc[-1]), bins.edges)
    assert display.ax_.texts[0].get_text() == f"ECE {bins.ece:.3f}"
    assert ReliabilityDisplay.from_bins(bins).bins is bins
    # probabilities where the caller says so, and never taken for logits
    probs = SURE.predict_proba(IMAGES[TEST])
    of_probs = ReliabilityDisplay.from_predictions(probs, TARGET, num_bins=10, probs=True).bins
    np.testing.assert_array_equal(of_probs.count, bins.count)
    with pytest.raises(ValueError, match="probs must lie in 0..1"):
        ReliabilityDisplay.from_predictions(logits(), TARGET, probs=True)


@pytest.mark.parametrize("probs", [False, True])
def test_maps_weights_and_ignored_rows_are_those_of_the_measures(probs):
    """Classes on the second axis and a target left out, against the rows that are left."""
    rows, target = logits()[:24], TARGET[:24].copy()
    scores = SURE.predict_proba(IMAGES[TEST])[:24] if probs else rows
    target[::5] = -1
    kept = target != -1
    weight = np.linspace(0, 2, 24)
    maps = {"ignore_index": -1, "class_axis": 1, "probs": probs, "weight": weight.reshape(4, 6)}
    at = scores.reshape(4, 6, -1).transpose(0, 2, 1), target.reshape(4, 6)
    plain = {"probs": probs, "weight": weight[kept]}
    for display in (ReliabilityDisplay, ClasswiseReliabilityDisplay, RiskCoverageDisplay, MetricAgainstTemperatureDisplay):  # fmt: skip
        shown = display.from_predictions(*at, **maps).frame()
        expected = display.from_predictions(scores[kept], target[kept], **plain).frame()
        assert len(shown) == len(expected)
        np.testing.assert_allclose(shown.to_numpy(), expected.to_numpy(), rtol=1e-9)
    gaps = GapDisplay.from_predictions(
        rows.reshape(4, 6, -1).transpose(0, 2, 1), at[1], eps=[0.1], ignore_index=-1, class_axis=1
    )
    expected = GapDisplay.from_predictions(rows[kept], target[kept], eps=[0.1])
    np.testing.assert_array_equal(gaps.count, expected.count)
    assert gaps.optimum == expected.optimum


def test_risk_coverage_has_the_curve_its_oracle_and_its_random_line():
    wrong = logits().argmax(-1) != TARGET
    rate = wrong.mean()
    assert 0 < rate < 1
    display = RiskCoverageDisplay.from_predictions(logits(), TARGET, name="hard")
    model, *others = display.ax_.lines
    confidence = torch.tensor(logits()).softmax(-1).amax(-1).numpy()
    order = np.argsort(-confidence, kind="stable")
    risk = np.cumsum(wrong[order]) / np.arange(1, len(wrong) + 1)
    np.testing.assert_allclose(
        np.interp(np.arange(1, len(wrong) + 1) / len(wrong), *model.get_data())[-300:],
        risk[-300:],
        atol=1e-12,
    )
    assert display.risk[-1] == pytest.approx(rate)
    np.testing.assert_allclose(
        display.oracle, [max(0, (c - (1 - rate)) / c) for c in display.coverage], atol=1e-12
    )
    oracle, at_random = (
        line for line in others if len(line.get_xdata()) and line.get_color() == model.get_color()
    )
    x, y = oracle.get_data()
    np.testing.assert_allclose(y[1:], np.maximum(0, 1 - (1 - rate) / x[1:]), atol=1e-12)
    assert at_random.get_ydata().tolist() == [rate, rate]
    selective = Selective()
    selective.update(logits(), TARGET)
    assert display.aurc == selective.compute().aurc
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == [f"hard, AURC {display.aurc:.3g}", "oracle", "random order"]


def test_several_models_share_axes():
    """Each takes the next colour, and what they have in common is in the legend once."""
    first = RiskCoverageDisplay.from_predictions(logits(), TARGET, name="hard")
    second = RiskCoverageDisplay.from_predictions(
        FOREST.predict_proba(IMAGES[TEST]), TARGET, name="$forest$", ax=first.ax_, probs=True
    )
    assert second.figure_ is first.figure_
    labels = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert labels[2:] == ["oracle", "random order"]
    assert labels[1].startswith(r"\$forest\$, AURC")
    handles = dict(zip(*reversed(first.ax_.get_legend_handles_labels()), strict=True))
    assert [to_hex(handles[label].get_color()).upper() for label in labels] == [*COLOURS[:2], GREY, GREY]

    gaps = GapDisplay.from_predictions(logits(), TARGET, eps=[0.1], name="hard")
    other = GapDisplay.from_predictions(
        logits(HELD_BACK), TARGET, eps=[0.1, 0.2], name="held back", ax=gaps.ax_
    )
    labels = [text.get_text() for text in gaps.ax_.get_legend().get_texts()]
    assert labels == ["hard", "held back", "optimum, ε = 0.1", "optimum, ε = 0.2"]
    assert gaps.ax_.get_ylim()[1] >= max(gaps.density.max(), other.density.max())

    metric = MetricAgainstEpsDisplay.from_intervals(ECE, "ECE", name="as trained")
    MetricAgainstEpsDisplay.from_intervals(ECE, "ECE", name="with temperature", ax=metric.ax_)
    ax = metric.ax_
    ax.figure.draw_without_rendering()
    shown = ax.transData.inverted().transform(
        [container.lines[0].get_transform().transform((0.2, 0.12)) for container in ax.containers]
    )
    assert shown[0] == pytest.approx([0.2, 0.12])
    assert 0.2 < shown[1, 0] < 0.21  # beside it
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    assert x0 < 0 < 0.2 < x1
    assert y0 < 0.02 < 0.14 < y1
    colours = [container.lines[0].get_color() for container in ax.containers]
    assert colours == list(COLOURS[:2])


def test_gaps_are_those_of_logit_gap_and_optima_those_of_theory():
    display = GapDisplay.from_predictions(logits(), TARGET, eps=[0, 0.05, 0.2], convention="others")
    z = logits()
    by_hand = [z[i, y] - np.delete(z[i], y).mean() for i, y in enumerate(TARGET)]
    np.testing.assert_allclose(logit_gaps(z, TARGET), by_hand, rtol=1e-12)
    assert logit_gap(z, TARGET).mean == pytest.approx(np.mean(by_hand))
    count, edges = np.histogram(by_hand, 60)
    np.testing.assert_array_equal(display.count, count)
    np.testing.assert_allclose(display.edges, edges)
    assert (display.density * np.diff(display.edges)).sum() == pytest.approx(1)
    assert display.optimum.tolist() == [optimal_gap(eps, 10, "others") for eps in (0, 0.05, 0.2)]
    # that of ε = 0 is infinite
    assert [line.get_xdata()[0] for line in display.ax_.lines] == display.optimum[1:].tolist()


def test_a_metric_against_eps_is_its_intervals_in_order():
    display = MetricAgainstEpsDisplay.from_intervals(ECE, "ECE")
    assert display.eps.tolist() == [0, 0.1, 0.2]
    assert display.value.tolist() == [0.03, 0.05, 0.12]
    (container,) = display.ax_.containers
    (bars,) = container.lines[2]
    for segment, eps, low, high in zip(
        bars.get_segments(), display.eps, display.low, display.high, strict=True
    ):
        np.testing.assert_allclose(segment, [[eps, low], [eps, high]])
    assert display.ax_.get_xlabel() == "smoothing ε"
    assert display.ax_.get_legend() is None
    with pytest.raises(ValueError, match="at least one interval, got none"):
        MetricAgainstEpsDisplay.from_intervals({}, "ECE")


def test_metrics_against_temperature_have_their_lowest_nll_where_it_is_fitted():
    scaling = TemperatureScaling().fit(logits(), TARGET)
    around = scaling.temperature * np.array([0.5, 0.99, 1, 1.01, 2])
    display = MetricAgainstTemperatureDisplay.from_predictions(
        logits(), TARGET, temperatures=around[::-1].tolist(), fitted=scaling.temperature
    )
    np.testing.assert_array_equal(display.temperature, around)
    assert display.nll.argmin() == 2
    assert display.nll[2] == pytest.approx(scaling.nll_after, rel=1e-12)
    for t, nll, ece in zip(display.temperature, display.nll, display.ece, strict=True):
        calibration = Calibration()
        calibration.update(logits() / t, TARGET)
        result = calibration.compute()
        assert (nll, ece) == (pytest.approx(result.nll, rel=1e-12), pytest.approx(result.ece, rel=1e-12))
    for ax, values in zip(display.axes_.flat, (display.nll, display.ece), strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), values)
        assert scaling.temperature in [line.get_xdata()[0] for line in ax.lines]
    assert f"fitted T = {scaling.temperature:.2f}" in [
        text.get_text() for text in display.axes_[1, 0].get_legend().get_texts()
    ]


def test_a_lowest_point_at_the_edge_of_the_temperatures_is_said_to_be_there():
    best = TemperatureScaling().fit(logits(), TARGET).temperature
    for factors, at_edge in (((1.5, 2, 3), True), ((0.3, 0.5, 0.7), True), ((0.5, 1, 2), False)):
        display = MetricAgainstTemperatureDisplay.from_predictions(
            logits(), TARGET, temperatures=[best * factor for factor in factors]
        )
        text = display.axes_[0, 0].texts[0].get_text()
        assert text.startswith("lowest, ")
        assert text.endswith("the edge of what was tried") is at_edge


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": [1, 0]}, "above 0, got 0"),
        ({"temperatures": []}, "at least one temperature"),
        ({"fitted": -1.0}, "above 0, got -1"),
        ({"ax": np.empty(3, dtype=object)}, r"2×1 axes, got an array of shape \(3,\)"),
    ],
)
def test_bad_temperatures_and_axes(options, message):
    with pytest.raises(ValueError, match=message):
        MetricAgainstTemperatureDisplay.from_predictions(
            logits(), TARGET, **{"temperatures": [1.0], **options}
        )


def test_projections_of_a_network_share_a_window():
    shown = projections()
    display = ProjectionDisplay.from_projections(shown, class_names=list("0123456789"))
    titles = [ax.get_title() for ax in display.axes_.flat]
    assert titles[:2] == ["hard, training rows", "hard, validation rows"]
    for row, parts in zip(display.axes_, shown.values(), strict=True):
        assert row[0].get_xlim() == row[1].get_xlim()
        assert row[0].get_ylim() == row[1].get_ylim()
        for ax, projection in zip(row, parts.values(), strict=True):
            drawn = np.concatenate([np.asarray(scatter.get_offsets()) for scatter in ax.collections])
            assert len(drawn) == len(projection.points) + 3
    frame = display.frame()
    part = frame[(frame.network == "smoothed") & (frame["rows"] == "validation rows") & (frame.kind == "row")]
    np.testing.assert_array_equal(part[["x", "y"]], shown["smoothed"]["validation rows"].points)
    with pytest.raises(ValueError, match="at least one projection"):
        ProjectionDisplay.from_projections({})
    ragged = {"a": shown["hard"], "b": {"training rows": shown["hard"]["training rows"]}}
    with pytest.raises(ValueError, match="the same sets of rows"):
        ProjectionDisplay.from_projections(ragged)


def test_classwise_panels_are_the_bins_of_calibration():
    calibration = Calibration(10, classwise=True)
    calibration.update(logits(HELD_BACK), TARGET)
    bins = calibration.compute().classwise
    display = ClasswiseReliabilityDisplay.from_predictions(
        logits(HELD_BACK), TARGET, classes=[3, 8], class_names=[f"digit {k}" for k in range(10)]
    )
    assert display.axes_.shape == (1, 2)
    assert [ax.get_title() for ax in display.axes_.flat] == ["digit 3", "digit 8"]
    for label, ax in zip((3, 8), display.axes_.flat, strict=True):
        filled = bins.count[label] > 0
        points = ax.collections[0].get_offsets()
        np.testing.assert_array_equal(points[:, 0], bins.confidence[label][filled])
        np.testing.assert_array_equal(points[:, 1], bins.frequency[label][filled])
        assert ax.texts[0].get_text() == f"{bins.ece[label]:.3f}"
    frame = display.frame()
    np.testing.assert_array_equal(frame["frequency"], bins.frequency[[3, 8]].reshape(-1))
    assert frame["class"].unique().tolist() == [3, 8]
    of_probs = ClasswiseReliabilityDisplay.from_predictions(
        HELD_BACK.predict_proba(IMAGES[TEST]), TARGET, probs=True
    )
    np.testing.assert_array_equal(of_probs.bins.count, bins.count)
    assert [ax.get_visible() for ax in of_probs.axes_.flat] == [True] * 10 + [False] * 2
    for classes in ([10], [-1], []):
        with pytest.raises(ValueError, match=r"classes must lie in 0..9, got \["):
            ClasswiseReliabilityDisplay.from_bins(bins, classes=classes)


def test_of_many_classes_the_worst_calibrated_are_drawn():
    """As classes, the digit together with whether its image has much ink: twenty of them."""
    labels = 2 * LABELS + (IMAGES.sum(1) > 310)
    classifier = LogisticRegression(C=0.001, max_iter=3000).fit(IMAGES[FITTED], labels[FITTED])
    display = ClasswiseReliabilityDisplay.from_predictions(logits(classifier), labels[TEST])
    worst = np.sort(display.bins.ece)[::-1][:12]
    assert len(display.bins.ece) == 20
    np.testing.assert_array_equal(display.bins.ece[display.classes], worst)
