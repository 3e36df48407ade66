"""How often the 95 % intervals of `Calibration.intervals` hold the true value.

    python benchmarks/coverage.py [--sets 1000]

Draws sets of rows from a model whose confidences and chances of being right are known, and prints, for each kind
of model and number of rows, the share of sets whose interval holds the true value. The true values are those of
the same model over an even grid of 10⁶ quantiles of its confidence; so ECE here means the one that 15 bins show.
"""

import argparse
from statistics import NormalDist

import numpy as np
import torch

from labelsmooth.measure import Calibration
from labelsmooth.row_stats import RowStats

MEASURES = ("accuracy", "nll", "brier", "over_confidence", "ece", "ece_l2", "mce", "ece_equal_mass", "smece")
CLASSES = 10
ROWS = (1000, 10000)

# how likely a row of confidence c is to be right
MODELS = {
    "calibrated": lambda c: c,
    "slightly over-confident": lambda c: c - 0.1 * c * (1 - c),
    "over-confident": lambda c: c**1.5,
    "under-confident": lambda c: c**0.6,
    "wrong in one place": lambda c: np.where((c > 0.6) & (c < 0.7), c - 0.2, c),
    "biased everywhere": lambda c: c - 0.03,
}


def confidences(uniform: np.ndarray) -> np.ndarray:
    """Logit-normal between 1/K and 1, most of it near 1, as of trained networks; of uniform numbers in 0..1."""
    edges = np.linspace(1e-6, 1 - 1e-6, 20001)
    quantiles = np.array([NormalDist().inv_cdf(u) for u in edges])
    share = 1 / (1 + np.exp(-(1.5 + 1.7 * np.interp(uniform, edges, quantiles))))
    return 0.12 + 0.88 * share


def rows_of(confidence: np.ndarray, correct: np.ndarray, kept: float) -> RowStats:
    """Rows whose label has the probability c if right, else a share `kept` of the rest; entropy left out."""
    log_p = np.where(correct, np.log(confidence), np.log(kept * (1 - confidence)))
    log_sum = torch.from_numpy(-np.log(confidence))
    square = confidence**2 + (1 - confidence) ** 2 / (CLASSES - 1)
    return RowStats(
        max=torch.zeros(len(confidence), dtype=torch.float64),
        argmax=torch.zeros(len(confidence), dtype=torch.int64),
        log_sum=log_sum,
        index=torch.from_numpy((~correct).astype(np.int64))[:, None],
        at_index=torch.from_numpy(log_p)[:, None] + log_sum[:, None],
        log_sum_sq=torch.from_numpy(np.log(square)) + 2 * log_sum,
    )


def measured(confidence: np.ndarray, correct: np.ndarray, weight: np.ndarray | None = None) -> Calibration:
    calibration = Calibration()
    kept = 1 / (CLASSES - 1)
    calibration.update_stats(rows_of(confidence, correct, kept), weight)
    return calibration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rows", nargs="*", type=int, default=ROWS)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{'model':<24}{'rows':>7}" + "".join(f"{name:>16}" for name in MEASURES))
    for model in options.models:
        chance = MODELS[model]
        grid = confidences((np.arange(10**6) + 0.5) / 10**6)
        both = np.concatenate([grid, grid])
        right = np.arange(len(both)) < len(grid)
        truth = measured(both, right, np.where(right, chance(both), 1 - chance(both))).compute()
        for rows in options.rows:
            covered = dict.fromkeys(MEASURES, 0)
            for each in range(options.sets):
                confidence = confidences(rng.random(rows))
                correct = rng.random(rows) < chance(confidence)
                intervals = measured(confidence, correct).intervals(seed=each)
                for name in MEASURES:
                    interval = intervals[name]
                    covered[name] += interval.low <= getattr(truth, name) <= interval.high
            shares = "".join(f"{100 * covered[name] / options.sets:>15.1f}%" for name in MEASURES)
            print(f"{model:<24}{rows:>7}{shares}", flush=True)


if __name__ == "__main__":
    main()
