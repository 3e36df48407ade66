"""Time the streaming measures beside their peers, and check what they give against exact arithmetic.

    python benchmarks/measure.py [--only update smece counts memory] [--repetitions 7] [--threads 2]

- update: `Calibration.update` of 50,000×1000 float32 logits, with all that it streams, against the ECE alone
  of torchmetrics, which keeps every row.
- smece: a million probabilities to their smECE, against relplot; and how far the width found is from the one
  that the definition asks for, by direct summation over all rows in float64.
- counts: the ECE of more than 10⁹ rows, merged from real ones, against exact arithmetic; torchmetrics at
  5·10⁷ rows beside it, since 10⁹ would take more than 20 GB there.
- memory: what streaming 10⁵, 10⁶ and 10⁷ rows adds to a fresh process.

Peers take part where they are installed (`pip install torchmetrics relplot`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.bench.hardware import machine
from labelsmooth.bench.memory import extra_peak
from labelsmooth.bench.timing import Call, interleaved, ratio
from labelsmooth.measure import Calibration, Selective, smece_of_scores
from labelsmooth.row_stats import row_stats
from labelsmooth.tables import Table

Floats = npt.NDArray[np.float64]
Row = list[str]
HEADER: Row = ["measured", "ours", "theirs", "ratio", "goal", "reached"]

STREAMED = 10_000  # rows in a batch of the memory rows


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def faster(what: str, ours: Call, theirs: Call, goal: float | None, repetitions: int) -> Row:
    times = interleaved({"ours": ours, "theirs": theirs}, repetitions)
    quotient = ratio(times["theirs"], times["ours"])
    return [
        what,
        f"{np.median(times['ours']) * 1e3:.1f} ms",
        f"{np.median(times['theirs']) * 1e3:.1f} ms",
        f"{quotient.median:.2f}× ({quotient.low:.2f}–{quotient.high:.2f})",
        "" if goal is None else f"{goal:g}×",
        "" if goal is None else ("yes" if quotient.median >= goal else "no"),
    ]


def update_rows(repetitions: int) -> Iterator[Row]:
    rows, classes = 50_000, 1000
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, classes, generator=generator)
    target = torch.where(
        torch.rand(rows, generator=generator) < 0.6,
        logits.argmax(-1),
        torch.randint(classes, (rows,), generator=generator),
    )

    def calibration() -> None:
        Calibration().update(logits, target)

    def with_selective() -> None:
        stats = row_stats(logits, target[:, None], log_sum_sq=True, mean_logit=True)
        Calibration().update_stats(stats)
        Selective().update_stats(stats)

    what = f"Calibration.update, {rows:,}×{classes} float32"
    if installed("torchmetrics") is None:
        yield [what, "", "torchmetrics is not installed", "", "1×", ""]
        return
    from torchmetrics.functional.classification import multiclass_calibration_error

    def peer(validate: bool) -> Call:
        return Call(
            lambda: multiclass_calibration_error(logits, target, classes, n_bins=15, validate_args=validate)
        )

    yield faster(f"{what}; torchmetrics' ECE", Call(calibration), peer(True), 1, repetitions)
    yield faster("  the same without its checks of values", Call(calibration), peer(False), 1, repetitions)
    yield faster(
        "  with Selective on the same statistics", Call(with_selective), peer(True), None, repetitions
    )


def smece_rows(repetitions: int) -> Iterator[Row]:
    rows = 1_000_000
    rng = np.random.default_rng(0)
    confidence = rng.beta(5, 1.5, rows) / 2 + 0.5
    correct = rng.random(rows) < confidence - 0.08 * np.sin(9 * confidence)
    probs = np.stack([confidence, 1 - confidence], 1)
    target = np.where(correct, 0, 1)

    def ours() -> float:
        return smece_of_scores(confidence, correct)

    def everything() -> None:
        calibration = Calibration()
        calibration.update_probs(probs, target)
        calibration.compute()

    what = "smECE of 1,000,000 rows"
    if installed("relplot") is None:
        yield [f"{what}; relplot", "", "relplot is not installed", "", "10×", ""]
    else:
        import relplot

        outcome = correct.astype(np.float64)
        theirs = Call(lambda: relplot.smECE(confidence, outcome))
        yield faster(f"{what}; relplot", Call(ours), theirs, 10, repetitions)
        yield faster("  with all that Calibration measures", Call(everything), theirs, None, repetitions)
    width = ours()
    error = abs(smece_at(confidence, confidence - correct, width) - width)
    # smECE at a width falls as the width grows, so the width that is its own smECE is no farther than this
    yield [
        f"{what}; from the definition",
        f"{width:.8f}",
        "",
        f"within {error:.1e}",
        "1e-6",
        yes(error <= 1e-6),
    ]


def smece_at(
    confidence: Floats,  # (N,)
    residual: Floats,  # (N,)
    width: float,
    points: int = 8000,
) -> float:
    """∫₀¹ |1/N·Σ_i K(t, c_i)·r_i| dt by the definition: a Gaussian around every row, reflected at 0 and 1."""
    reach = 9 * width  # beyond it the kernel is below 1e-17 of its height
    if reach > 1:
        raise ValueError(f"one reflection at each end serves a width up to 1/9, got {width}")
    low, high = confidence < reach, confidence > 1 - reach
    centre = np.concatenate([confidence, -confidence[low], 2 - confidence[high]])
    order = np.argsort(centre)
    centre, weight = centre[order], np.concatenate([residual, residual[low], residual[high]])[order]
    at = (np.arange(points) + 0.5) / points
    first, last = np.searchsorted(centre, [at - reach, at + reach])
    total = 0.0
    for t, i, j in zip(at, first, last, strict=True):
        total += abs(float(np.exp(-0.5 * ((centre[i:j] - t) / width) ** 2) @ weight[i:j]))
    return total / (points * len(confidence) * width * np.sqrt(2 * np.pi))


def counts_rows(_: int) -> Iterator[Row]:
    probs, target = digits()
    confidence, correct = probs.max(-1), probs.argmax(-1) == target
    calibration = Calibration(edges="right_open")
    calibration.update_probs(probs, target)
    rows = len(target)
    while rows < 10**9:
        calibration.merge(calibration)
        rows *= 2
    ece = calibration.compute().ece
    error = abs(float(Fraction(ece) - exact_ece(confidence, correct)))
    yield [
        f"ECE of {rows:,} rows; exact",
        f"{ece:.12f}",
        "",
        f"off by {error:.1e}",
        "1e-9",
        yes(error <= 1e-9),
    ]

    if installed("torchmetrics") is None:
        yield ["ECE of 50,000,000 rows by torchmetrics", "", "torchmetrics is not installed", "", "", ""]
        return
    from torchmetrics.functional.classification import binary_calibration_error

    times = -(-50_000_000 // len(target))
    narrow = torch.tensor(confidence, dtype=torch.float32)
    peer = float(
        binary_calibration_error(
            narrow.repeat(times), torch.tensor(correct).long().repeat(times), n_bins=15, validate_args=False
        )
    )
    error = abs(float(Fraction(peer) - exact_ece(narrow.double().numpy(), correct)))
    yield [
        f"ECE of {times * len(target):,} rows by torchmetrics",
        "",
        f"{peer:.12f}",
        f"off by {error:.1e}",
        "",
        "",
    ]


def digits() -> tuple[Floats, npt.NDArray[np.int64]]:
    """Probabilities of a classifier on digits that it was not trained on, and their labels."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(C=0.001, max_iter=2000).fit(images[:900], labels[:900])
    return classifier.predict_proba(images[900:]), labels[900:]


def exact_ece(confidence: Floats, correct: npt.NDArray[np.bool_], num_bins: int = 15) -> Fraction:
    """In 15 bins [lo, hi), without rounding."""
    gaps = [Fraction(0)] * num_bins
    bin_of_row = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], confidence, "right")
    for b, c, hit in zip(bin_of_row.tolist(), confidence.tolist(), correct.tolist(), strict=True):
        gaps[b] += Fraction(c) - hit
    return sum((abs(gap) for gap in gaps), Fraction(0)) / len(confidence)


def streaming(measure: type[Calibration] | type[Selective], rows: int) -> Call:
    def run() -> None:
        stream, generator = measure(), torch.Generator().manual_seed(0)
        for _ in range(max(1, rows // STREAMED)):
            logits = torch.randn(min(rows, STREAMED), 10, generator=generator)
            stream.update(logits, logits.argmax(-1))
        stream.compute()

    return Call(run)


def memory_rows(_: int) -> Iterator[Row]:
    for measure in (Calibration, Selective):
        peaks = [
            extra_peak(
                partial(streaming, measure, rows), partial(streaming, measure, 100), torch.get_num_threads()
            )
            / 2**20
            for rows in (10**5, 10**6, 10**7)
        ]
        growth = peaks[-1] - peaks[0]
        yield [
            f"extra memory of {measure.__name__}, 10⁵, 10⁶, 10⁷ rows of 10 classes",
            ", ".join(f"{peak:.1f}" for peak in peaks) + " MiB",
            "",
            f"grows {growth:.1f} MiB",
            "1 MiB" if measure is Calibration else "",
            yes(growth <= 1) if measure is Calibration else "",
        ]


def yes(reached: bool) -> str:
    return "yes" if reached else "no"


GROUPS: dict[str, Callable[[int], Iterator[Row]]] = {
    "update": update_rows,
    "smece": smece_rows,
    "counts": counts_rows,
    "memory": memory_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=tuple(GROUPS), default=tuple(GROUPS))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = machine()
    print(f"{where.cpu}, {where.threads} threads, {where.system}; torch {where.torch}, numpy {where.numpy}")
    peers = ("torchmetrics", "relplot")
    print(", ".join(f"{peer} {installed(peer) or 'not installed'}" for peer in peers) + "\n")
    rows = [HEADER]
    for group in options.only:
        for row in GROUPS[group](options.repetitions):
            rows.append(row)
            print("  ".join(filter(None, row)), file=sys.stderr)
    print(Table(head=rows[0], rows=rows[1:], words=2).text())


if __name__ == "__main__":
    main()
