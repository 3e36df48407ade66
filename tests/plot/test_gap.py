"""The gap-against-ε figure draws the numbers it is given, and nothing but those."""

import doctest

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import labelsmooth.plot.gap as module
from labelsmooth import theory
from labelsmooth.plot import plot_gap, plot_measured_gap
from labelsmooth.theory import gap_curves


def test_doctests():
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_lines_are_the_curves():
    curves = theory.gap_curves([1000, 10], "uniform", marked_eps=0.2)
    settings = dict(mpl.rcParams)
    axes = Figure().subplots()
    assert plot_gap(curves, axes) is axes
    assert dict(mpl.rcParams) == settings
    mark, *lines = axes.lines
    assert mark.get_xdata() == [0.2, 0.2]
    # the lines come in the order of K, so that the palette runs with it
    for line, c in zip(lines, (1, 0), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), curves.eps)
        np.testing.assert_array_equal(line.get_ydata(), curves.gap[c])
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["ε = 0.2", "K = 10", f"{np.log(41):.2f}", "K = 1000", f"{np.log(4001):.2f}"]
    assert "uniform" in axes.get_title()


@pytest.mark.parametrize("marked_eps", [0.0, 1.0])
def test_infinite_gaps_are_not_marked(marked_eps):
    axes = plot_gap(theory.gap_curves([10], "others", marked_eps), Figure().subplots())
    assert [text.get_text() for text in axes.texts] == [f"ε = {marked_eps:g}", "K = 10"]
    axes.figure.draw_without_rendering()


def test_new_axes():
    import matplotlib.pyplot as plt

    axes = plot_gap(theory.gap_curves([10]))
    assert axes.figure in map(plt.figure, plt.get_fignums())
    plt.close(axes.figure)


def test_measured_gaps_stand_at_their_eps_over_the_curve():
    eps, gaps = np.array([0.0, 0.1]), {"training rows": np.array([[9.0, 9.5], [4.4, 4.6]])}
    ax = plot_measured_gap(gap_curves([10], convention="uniform"), eps, gaps, Figure().subplots())
    points = ax.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1], [9.0, 9.5, 4.4, 4.6])
    np.testing.assert_allclose(points[:, 0], [0, 0, 0.1, 0.1], atol=0.002)
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(y, np.log(1 + 10 * (1 - x) / x), rtol=1e-12)
    assert x.max() >= 0.1
