"""How often the bootstrap intervals of `measure.Selective` contain the true value.

    python benchmarks/coverage_selective.py [SETS]

Draws SETS (1000) sets of N rows from a law with known areas: the confidence u is uniform in 0..1 and a row is
wrong with probability a·(1−u)^m, so that at coverage c the risk is a·c^m/(m+1). With m = 3 the order of rows
is good, with m = 0 it says nothing. Prints the share of the sets in which each 95 % interval holds the true
value; of 1000 sets a share of 0.95 is drawn with a standard error of 0.007.
"""

import math
import sys

import numpy as np

from labelsmooth.measure import Selective

SIZES = (200, 1000, 5000)
ERROR_RATES = (0.02, 0.1, 0.25)
POWERS = (3, 0)


def truth(a: float, m: int) -> dict[str, float]:
    error = a / (m + 1)
    aurc = error / (m + 1)
    return {
        "accuracy": 1 - error,
        "aurc": aurc,
        "augrc": error / (m + 2),
        "excess_aurc": aurc - error - (1 - error) * math.log(1 - error),
        "coverage_at_5pct_risk": min(1.0, (0.05 / error) ** (1 / m)) if m else float(error <= 0.05),
        "risk_at_80pct_coverage": error * 0.8**m,
    }


def held(rows: int, a: float, m: int, sets: int) -> dict[str, float]:
    true = truth(a, m)
    inside = dict.fromkeys(true, 0)
    for seed in range(sets):
        rng = np.random.default_rng([seed, rows])
        confidence = rng.random(rows)
        selective = Selective()
        selective.update_scores(confidence, rng.random(rows) >= a * (1 - confidence) ** m)
        intervals = selective.intervals(seed=seed, risks=(0.05,), coverages=(0.8,))
        for name, value in true.items():
            inside[name] += intervals[name].low <= value <= intervals[name].high
    return {name: count / sets for name, count in inside.items()}


def main() -> None:
    sets = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    names = list(truth(0.1, 1))
    print(f"{'rows':>6} {'m':>2} {'error':>6}  " + "  ".join(names), flush=True)
    for rows in SIZES:
        for m in POWERS:
            for error in ERROR_RATES:
                shares = held(rows, error * (m + 1), m, sets)
                cells = (f"{shares[name]:{len(name)}.3f}" for name in names)
                print(f"{rows:6} {m:2} {error:6}  " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
