"""Two numbers of each row's target, on the label's class and on the others, and whether all are alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from labelsmooth.identification.examination import Examination
from labelsmooth.identification.rows import Rows


@dataclass(frozen=True)
class Profile:
    """The target of rows, divided by its mass.

    Attributes:
        shares: (N, K), of the rows that count.
        truth: (N, K) one-hot or multi-hot, as the loss reads the labels.
        pad: the class that gets no share but its own label's; None where there is none.
        size: what the shares were divided by, the mean of the rows that count.
        on_class, on_other: means.
        flat: all rows have the same two numbers and the same size.
        positive_weight: of the labels that hold, in sigmoids.
    """

    shares: Tensor
    truth: Tensor
    pad: int | None
    size: float
    on_class: float
    on_other: float
    flat: bool
    positive_weight: float = 1.0


def truth_of(exam: Examination, rows: Rows) -> Tensor:
    """(N, K) The labels as zeros and ones, in the place where the loss looks for them."""
    labels = rows.labels
    if labels.dim() == 2:
        return labels.double()
    num_classes = rows.logits.shape[-1]
    return one_hot(exam.reading.seen(labels, num_classes), num_classes).double()


def profile(exam: Examination, rows: Rows, target: Tensor | None = None) -> Profile:
    """Summarise rows; `target` in place of theirs where something is known of it."""
    counted = rows.counted
    truth = truth_of(exam, rows)[counted]
    if exam.by_label:
        return _of_sigmoids(exam, rows.partition, rows.target, truth)
    if target is None:
        sizes = rows.partition[counted]
        shares = rows.target[counted] / sizes
    else:
        sizes = target[counted].sum(-1, keepdim=True)
        shares = target[counted] / sizes
    pad = _pad(exam, shares, truth)
    other = 1 - truth
    if pad is not None:
        other[:, pad] = 0
    return _summed(exam, shares, truth, other, sizes, pad)


def _summed(
    exam: Examination, shares: Tensor, truth: Tensor, other: Tensor, sizes: Tensor, pad: int | None
) -> Profile:
    tolerance = exam.subject.tolerance
    on = float((shares * truth).sum() / truth.sum())
    off = float((shares * other).sum() / other.sum())
    size = float(sizes.mean())
    sizes_spread = float((sizes - size).abs().max()) / abs(size)
    on_spread = float(((shares - on) * truth).abs().max())
    off_spread = float(((shares - off) * other).abs().max()) * (1 if exam.by_label else shares.shape[-1])
    flat = max(sizes_spread, on_spread, off_spread / 5) < 20 * tolerance
    return Profile(shares, truth, pad, size, on, off, flat)


def _of_sigmoids(exam: Examination, partition: Tensor, target: Tensor, truth: Tensor) -> Profile:
    """Solve for the weight of labels that hold, p: A = s(p·y′ + 1 − y′) and B = s·p·y′."""
    other = 1 - truth
    yes = target  # s·p·y′
    no = partition - target  # s·(1 − y′)
    on_yes, off_yes = ((yes * part).sum() / part.sum() for part in (truth, other))
    on_no, off_no = ((no * part).sum() / part.sum() for part in (truth, other))
    ratio = on_no / off_no
    off = float((1 - ratio) * off_yes / (on_yes - ratio * off_yes))
    on = float(1 - ratio * (1 - off))
    size = float(off_no) / (1 - off)
    weight = float(on_yes) / (size * on) if on else 1.0
    expected = size * torch.where(truth > 0, weight * on, weight * off)
    left = size * torch.where(truth > 0, 1 - on, 1 - off)
    spread = max(float((yes - expected).abs().max()), float((no - left).abs().max())) / abs(size)
    return Profile(
        target / partition, truth, None, size, on, off, spread < 100 * exam.subject.tolerance, weight
    )


def _pad(exam: Examination, shares: Tensor, truth: Tensor) -> int | None:
    """The one class to which no other label gives a share, while the rest get one."""
    num_classes, tolerance = shares.shape[-1], exam.subject.tolerance
    given = (shares * (1 - truth)).sum(0).abs() / (1 - truth).sum(0).clamp(min=1)
    others = float(given.sum()) / (num_classes - 1)
    if others * num_classes < 3 * tolerance:  # hard labels
        return None
    none = (given < min(0.1 * others, 50 * tolerance / num_classes)).nonzero().flatten().tolist()
    if num_classes < 4:  # the other class may get nothing by chance
        none = [label for label in none if label in exam.skipped]
    return none[0] if len(none) == 1 else None
