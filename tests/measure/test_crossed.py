"""The variance over seeds and rows against the analysis of variance written out, and against what it is of."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from labelsmooth.measure.crossed import Crossed


def tables(shape, from_seeds, from_rows, from_rest, rng):
    """Draws of a table with known variance components."""
    *draws, seeds, rows = shape
    return (
        from_seeds * rng.normal(size=(*draws, seeds, 1))
        + from_rows * rng.normal(size=(*draws, 1, rows))
        + from_rest * rng.normal(size=(*draws, seeds, rows))
    )


def test_the_parts_are_the_mean_squares_of_the_two_way_table():
    table = tables((3, 7), 0.3, 1, 2, np.random.default_rng(0)) + 5
    seeds, rows = table.shape
    cells = list(product(range(seeds), range(rows)))
    grand = sum(table[cell] for cell in cells) / len(cells)
    of_seed = [sum(table[s]) / rows for s in range(seeds)]
    of_row = [sum(table[:, r]) / seeds for r in range(rows)]
    ms_seeds = rows * sum((mean - grand) ** 2 for mean in of_seed) / (seeds - 1)
    ms_rows = seeds * sum((mean - grand) ** 2 for mean in of_row) / (rows - 1)
    left = sum((table[s, r] - of_seed[s] - of_row[r] + grand) ** 2 for s, r in cells)
    ms_rest = left / ((seeds - 1) * (rows - 1))
    variance = Crossed(table.mean(1), {"test": table}).variance
    assert variance.from_seeds == pytest.approx(ms_seeds / 21, rel=1e-12)
    assert variance.from_rows == pytest.approx((ms_rows / 21,), rel=1e-12)
    assert variance.from_rest == pytest.approx((ms_rest / 21,), rel=1e-12)
    assert ms_seeds > ms_rest
    assert variance.total == pytest.approx((ms_seeds + ms_rows - ms_rest) / 21, rel=1e-12)
    assert variance.degrees_of_freedom == pytest.approx(
        (ms_seeds + ms_rows - ms_rest) ** 2 / (ms_seeds**2 / 2 + ms_rows**2 / 6 + ms_rest**2 / 12), rel=1e-12
    )


def test_without_rows_it_is_the_squared_standard_error_over_seeds():
    values = np.array([0.3, 0.1, 0.25, 0.4])
    variance = Crossed(values).variance
    assert math.sqrt(variance.total) == pytest.approx(stats.sem(values), rel=1e-12)
    assert variance.degrees_of_freedom == pytest.approx(3, rel=1e-12)


def test_seeds_that_scatter_less_than_the_rest_leave_the_rows():
    table = np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 1.0]])  # equal means, all of the scatter is the rest
    variance = Crossed(table.mean(1), {"test": table}).variance
    assert variance.from_seeds == 0
    assert variance.total == sum(variance.from_rows) == 0
    table = np.array([[0.0, 3.0, 1.0], [2.0, 1.0, 1.0]])
    variance = Crossed(table.mean(1), {"test": table}).variance
    assert variance.total == variance.from_rows[0] == pytest.approx(np.var([1.0, 2.0, 1.0], ddof=1) / 3)


@pytest.mark.parametrize("seeds", [3, 8])
def test_the_interval_holds_the_truth_where_that_over_seeds_does_not(seeds):
    rng = np.random.default_rng(seeds)
    held = {"crossed": 0, "seeds": 0}
    for table in tables((600, seeds, 40), 0.15, 1.5, 1, rng):
        for name, influences in (("crossed", {"test": table}), ("seeds", {})):
            crossed = Crossed(table.mean(1), influences)
            variance = crossed.variance
            quantile = stats.t.ppf(0.975, variance.degrees_of_freedom)
            held[name] += abs(crossed.mean) <= quantile * math.sqrt(variance.total)
    assert 0.93 <= held["crossed"] / 600 <= 0.98
    assert held["seeds"] / 600 < 0.87


def test_two_seeds_have_at_least_one_degree_of_freedom():
    """Where networks that learned little err on different rows, the formula alone often gives a fraction."""
    rng = np.random.default_rng(4)
    held, fractions = 0, 0
    apart = rng.normal(size=(600, 1, 60)) * np.array([[[1.0], [-1.0]]])
    for table in apart + rng.normal(0, 0.03, (600, 2, 1)) + rng.normal(0, 0.3, (600, 2, 60)):
        crossed = Crossed(table.mean(1), {"test": table})
        variance = crossed.variance
        (rows,), (rest,) = variance.from_rows, variance.from_rest
        parts = variance.from_seeds**2 + (rows**2 + rest**2) / 59
        fractions += variance.total**2 / parts < 1
        assert variance.degrees_of_freedom == pytest.approx(max(1, variance.total**2 / parts), rel=1e-12)
        quantile = stats.t.ppf(0.975, variance.degrees_of_freedom)
        held += abs(crossed.mean) <= quantile * math.sqrt(variance.total)
    assert fractions > 30
    assert held / 600 >= 0.93


def test_differences_and_multiples_are_those_of_the_tables():
    rng = np.random.default_rng(1)
    a, b, fitted = rng.normal(size=(3, 4, 9))
    left = Crossed(a.mean(1), {"test": a})
    right = Crossed(b.mean(1), {"test": b, "validation": fitted})
    found = 0.4 * left - right
    np.testing.assert_allclose(found.values, 0.4 * a.mean(1) - b.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.influences["test"], 0.4 * a - b, rtol=1e-12)
    np.testing.assert_allclose(found.influences["validation"], -fitted, rtol=1e-12)
    assert Crossed(a.mean(1), {"test": a}).variance.total == (left + right - right).variance.total


def test_sets_of_rows_add_up():
    rng = np.random.default_rng(2)
    test, fitted = tables((3, 5), 0, 1, 0.1, rng), tables((3, 8), 0, 2, 0.1, rng)
    values = np.array([1.0, 2.0, 4.0])
    both = Crossed(values, {"test": test, "validation": fitted}).variance
    alone = [Crossed(values, {"test": table}).variance for table in (test, fitted)]
    assert both.rows == (5, 8)
    assert both.total == pytest.approx(alone[0].total + alone[1].total - np.var(values, ddof=1) / 3)


def test_more_seeds_and_rows_are_foreseen():
    """The variance that 20 seeds and 5 times the rows have, foreseen from a table of few."""
    rng = np.random.default_rng(3)
    small = [Crossed(t.mean(1), {"test": t}).variance for t in tables((400, 5, 30), 0.5, 1, 1, rng)]
    foreseen = np.mean([variance.resized(20, 5).total for variance in small])
    assert foreseen == pytest.approx(0.25 / 20 + 1 / 150 + 1 / 3000, rel=0.1)
    same = small[0].resized(5, 1)
    assert same.rows == (30,)
    assert same.total == pytest.approx(small[0].total, rel=1e-12)


@pytest.mark.parametrize(
    ("values", "table"),
    [
        ([0.5], [[0.0, 1.0]]),  # one seed
        ([0.5, 0.7], [[0.5], [0.7]]),  # one row
        ([0.5, math.nan], [[0.0, 1.0], [0.0, 1.0]]),
        ([0.5, math.inf], [[0.0, 1.0], [0.0, math.inf]]),
        ([0.5, 0.5], [[0.0, 1.0], [math.nan, 1.0]]),
    ],
)
def test_what_leaves_no_variance(values, table):
    assert Crossed(np.array(values), {"test": np.array(table)}).variance is None


@pytest.mark.parametrize("table", [np.zeros((3, 4)), np.array([[1.0, -1.0] * 5, [-1.0, 1.0] * 5])])
def test_a_mean_that_does_not_vary(table):
    variance = Crossed(table.mean(1), {"test": table}).variance
    assert variance.total == 0
    assert variance.degrees_of_freedom == math.inf
