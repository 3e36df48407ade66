"""Pictures hold the numbers that they were given: every assertion is on what the artists would draw."""

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from labelsmooth.measure import Calibration, PlaneProjection, plane_projection
from labelsmooth.plot import plot_projection, plot_reliability, plot_training_curves


def some_bins():
    """Bins above, below and on their confidence, and empty ones."""
    calibration = Calibration()
    for confidence, rows, right in [(0.55, 10, 8), (0.75, 20, 9), (0.875, 8, 7), (0.98, 100, 97)]:
        probs = np.tile([confidence, 1 - confidence], (rows, 1))
        calibration.update_probs(probs, (np.arange(rows) >= right).astype(int))
    return calibration.compute().bins


def some_projection():
    rng = np.random.default_rng(0)
    labels = np.repeat([7, 2, 5, 0], 12)
    weight, bias = rng.standard_normal((8, 6)), rng.standard_normal(8)
    features = weight[labels] + 0.4 * rng.standard_normal((48, 6))
    return plane_projection(features, labels, weight, bias, (7, 2, 5))


def some_curves():
    rng = np.random.default_rng(0)
    return {"hard": rng.random((3, 8)), "smoothed": rng.random((3, 8)), "one seed": rng.random((1, 8))}


DRAW = {
    "reliability": lambda ax: plot_reliability(some_bins(), ax),
    "projection": lambda ax: plot_projection(some_projection(), ax),
    "curves": lambda ax: plot_training_curves(some_curves(), "NLL (nats)", ax),
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_draws_on_the_axes_given_and_leaves_the_rest_alone(draw):
    before = dict(mpl.rcParams)
    figure = Figure(figsize=(3.5, 3.5), layout="constrained")
    ax = figure.subplots()
    assert draw(ax) is ax
    figure.savefig(io.BytesIO(), format="svg")
    figure.savefig(io.BytesIO(), format="png")
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
    # what has letters in it can be read at this size
    assert all(text.get_fontsize() >= 8 for text in ax.findobj(Text) if text.get_text())


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_without_axes_there_is_a_new_figure(draw):
    try:
        ax = draw(None)
        assert plt.get_fignums() == [ax.figure.number]
        assert ax.figure.get_size_inches()[0] == 3.5
    finally:
        plt.close("all")


def test_drawing_alone_loads_matplotlib():
    script = "import sys, labelsmooth.plot; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def spans(container):
    """(left, right, bottom, top) of each bar, one a row."""
    boxes = [bar.get_bbox() for bar in container]
    return np.array([(box.xmin, box.xmax, box.ymin, box.ymax) for box in boxes]).reshape(-1, 4)


def test_reliability_bars_are_the_bins():
    bins = some_bins()
    ax = plot_reliability(bins, Figure().subplots())
    bars = {container.get_label(): spans(container) for container in ax.containers}
    filled = bins.count > 0
    gap = bins.accuracy - bins.confidence
    assert filled.sum() == 4
    left, right = bins.edges[:-1], bins.edges[1:]
    np.testing.assert_allclose(
        bars["accuracy"],
        np.stack([left, right, np.zeros(15), bins.accuracy], 1)[filled],
        atol=1e-15,
    )
    over, under = filled & (gap < 0), filled & (gap > 0)
    assert over.sum() == 2
    assert under.sum() == 1
    np.testing.assert_allclose(
        bars["over-confident"], np.stack([left, right, bins.accuracy, bins.confidence], 1)[over]
    )
    np.testing.assert_allclose(
        bars["under-confident"], np.stack([left, right, bins.confidence, bins.accuracy], 1)[under]
    )
    # the fullest bin has the longest bar of the strip, and the others are in proportion
    share = bars["share"]
    np.testing.assert_allclose(share[:, :2], np.stack([left, right], 1))
    heights = share[:, 3] - share[:, 2]
    np.testing.assert_allclose(heights / heights.max(), bins.count / bins.count.max(), atol=1e-12)
    assert share.max(0)[3] < 0
    assert ax.get_ylim()[0] <= share[:, 2].min()
    # the hatched areas and shares give the ECE that the corner names
    hatched = np.concatenate([bars["over-confident"], bars["under-confident"]])
    of_bin = np.searchsorted(left, hatched[:, 0] + 0.01) - 1
    ece = ((hatched[:, 3] - hatched[:, 2]) * bins.count[of_bin]).sum() / bins.count.sum()
    assert bins.ece == pytest.approx(ece)
    assert [text.get_text() for text in ax.texts] == [f"ECE {ece:.3f}", "share of 138 rows"]
    (diagonal,) = [line for line in ax.lines if list(line.get_xdata()) == [0, 1] == list(line.get_ydata())]
    assert diagonal.get_zorder() > ax.containers[0][0].get_zorder()


def test_a_reliability_legend_names_what_is_there():
    calibration = Calibration()
    calibration.update_probs(np.array([[0.9, 0.1]] * 3), np.array([0, 1, 1]))
    ax = plot_reliability(calibration.compute().bins, Figure().subplots())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["accuracy", "over-confident"]


def test_models_on_one_reliability_diagram_are_told_apart():
    """The first is bars, the others are lines through their bins; each ECE has a place and a name of its own."""
    ax = Figure().subplots()
    first, second, third = (some_bins() for _ in range(3))
    plot_reliability(first, ax, "hard")
    plot_reliability(second, ax, "smoothed")
    plot_reliability(third, ax)
    texts = [text for text in ax.texts if text.get_text().startswith("ECE")]
    assert [text.get_text().partition(", ")[2] for text in texts] == ["hard", "smoothed", ""]
    assert len({text.get_position() for text in texts}) == 3
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(legend) == len(set(legend))
    assert {"hard", "smoothed", "model 3"} < set(legend)
    lines = {line.get_label(): line for line in ax.lines}
    filled = second.count > 0
    np.testing.assert_array_equal(lines["smoothed"].get_xdata(), second.confidence[filled])
    np.testing.assert_array_equal(lines["smoothed"].get_ydata(), second.accuracy[filled])
    colours = [lines["smoothed"].get_color(), lines["model 3"].get_color()]
    assert colours == [text.get_color() for text in texts[1:]]
    assert len({*colours, to_hex(ax.containers[0][0].get_facecolor()).upper()}) == 3


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_the_legend_of_a_reliability_diagram_is_not_cut_off(layout):
    figure = Figure(figsize=(7, 3.5), layout=layout)
    for ax in figure.subplots(1, 2):
        plot_reliability(some_bins(), ax)
    figure.draw_without_rendering()
    whole = figure.bbox
    for ax in figure.axes:
        box = ax.get_legend().get_window_extent()
        assert min(box.x0, box.y0) > 0
        assert box.x1 < whole.x1
        texts = [text.get_window_extent() for text in ax.texts]
        assert not any(box.overlaps(text) for text in texts)


def test_without_matplotlib_the_error_says_what_to_install():
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from labelsmooth.plot import plot_training_curves\n"
        "try: plot_training_curves({'a': [[1.0]]}, 'NLL')\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "matplotlib" in done.stdout
    assert "pip install '.[study]' in a clone of labelsmooth" in done.stdout


def test_projection_draws_every_row_and_template():
    projection = some_projection()
    names = ["nil", "one", "two", "three", "four", "five", "six", "seven"]
    ax = plot_projection(projection, Figure().subplots(), class_names=names)
    *scatters, templates = ax.collections
    assert [scatter.get_label() for scatter in scatters] == ["seven", "two", "five"]
    for label, scatter in zip((7, 2, 5), scatters, strict=True):
        np.testing.assert_array_equal(scatter.get_offsets(), projection.points[projection.labels == label])
        assert len(scatter.get_offsets()) == 12
    np.testing.assert_array_equal(templates.get_offsets(), projection.templates)
    # a template has the colour of its rows, and so has the legend's dot
    colours = [scatter.get_facecolor()[0, :3].tolist() for scatter in scatters]
    assert templates.get_facecolor()[:, :3].tolist() == colours
    legend = ax.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["seven", "two", "five", "template"]
    dots = [list(to_rgba(handle.get_color())[:3]) for handle in legend.legend_handles[:3]]
    assert dots == colours
    assert ax.get_aspect() == 1
    shown = np.concatenate([projection.points, projection.templates])
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    assert (shown > [x0, y0]).all()
    assert (shown < [x1, y1]).all()
    assert x1 - x0 == pytest.approx(y1 - y0)


def test_projection_without_names_writes_class_numbers():
    ax = plot_projection(some_projection(), Figure().subplots())
    assert [text.get_text() for text in ax.get_legend().get_texts()][:3] == ["7", "2", "5"]


@pytest.mark.parametrize("turn", [0, 0.7, 2.5])
@pytest.mark.parametrize("shift", [0, 5])
def test_grey_lines_are_where_two_logits_are_equal_and_largest(turn, shift):
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    templates = np.array([[-2.0, -0.5], [1.5, -0.5], [0.3, 2.5]]) @ rotation.T + [shift, 0]
    projection = PlaneProjection(
        points=np.zeros((0, 2)), labels=np.zeros(0, int), templates=templates, classes=(0, 1, 2)
    )
    ax = plot_projection(projection, Figure().subplots())
    pairs = set()
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    assert len(ax.lines) == 3
    for line in ax.lines:
        start, end = line.get_xydata()
        assert start.tolist() == [0, 0]
        order = np.argsort(logits := templates @ end)
        assert logits[order[2]] == pytest.approx(logits[order[1]], abs=1e-9)
        assert logits[order[1]] > logits[order[0]]
        pairs.add(frozenset(order[1:].tolist()))
        assert not (x0 < end[0] < x1 and y0 < end[1] < y1)  # it leaves the picture
    assert len(pairs) == 3


def test_curves_are_means_and_bands_of_one_standard_deviation():
    curves = some_curves()
    ax = plot_training_curves(curves, "NLL (nats)", Figure().subplots())
    assert [line.get_label() for line in ax.lines] == list(curves)
    for line, values in zip(ax.lines, curves.values(), strict=True):
        assert line.get_xdata().tolist() == list(range(1, 9))
        np.testing.assert_allclose(line.get_ydata(), values.mean(0), rtol=1e-15)
    assert len(ax.collections) == 2  # one seed has no band
    for band, line in zip(ax.collections, ax.lines[:2], strict=True):
        values = curves[line.get_label()]
        vertices = band.get_paths()[0].vertices
        for epoch in range(1, 9):
            edge = vertices[vertices[:, 0] == epoch][:, 1]
            mean, sd = values[:, epoch - 1].mean(), values[:, epoch - 1].std(ddof=1)
            assert [edge.min(), edge.max()] == pytest.approx([mean - sd, mean + sd])
        assert to_rgba(line.get_color())[:3] == pytest.approx(band.get_facecolor()[0, :3])
    assert ax.get_xlabel() == "epoch"
    assert ax.get_ylabel() == "NLL (nats)"
    assert len({line.get_color() for line in ax.lines}) == 3


def test_a_single_epoch_shows():
    ax = plot_training_curves({"a": [[0.5], [0.7]]}, "accuracy", Figure().subplots())
    assert ax.lines[0].get_marker() == "o"


@pytest.mark.parametrize("series", [[0.5, 0.4], np.zeros((0, 3)), np.zeros((3, 0))])
def test_curves_of_other_shapes_are_refused(series):
    with pytest.raises(ValueError, match=r"shape \(seeds, epochs\), got .* for 'hard'"):
        plot_training_curves({"hard": series}, "NLL (nats)", Figure().subplots())
