"""What a loss has beside its target: divisor, factor, sign, constant, and what it does to a padding class."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from labelsmooth.identification.examination import Examination, near
from labelsmooth.identification.formulas import Fit
from labelsmooth.identification.profile import Profile
from labelsmooth.identification.rows import Rows


@dataclass
class Target:
    """What the probes of the target found.

    Attributes:
        fit: the formula; None where none agrees.
        by_row: the loss is one number for each row, or for each label.
        profiles: by number of classes.
        rows: the linear forms of the first batches, by number of classes.
        prior: (K,) at the smallest K, where the smoothing mass is not uniform.
        prior_eps: its weight.
        prior_law: what the rows are divided by, where there is a prior.
    """

    fit: Fit | None = None
    by_row: bool = False
    profiles: dict[int, Profile] = field(default_factory=dict)
    rows: dict[int, Rows] = field(default_factory=dict)
    prior: tuple[float, ...] | None = None
    prior_eps: float | None = None
    prior_law: str = ""

    @property
    def law(self) -> str:
        """What the losses of the rows are divided by, "" where it is not known."""
        law = self.prior_law if self.fit is None else self.fit.law
        return "none" if law == "sum" and self.by_row else law

    @property
    def eps(self) -> float | None:
        """The ε of the formula, or of the prior."""
        return self.prior_eps if self.fit is None else self.fit.eps


def tell_scale(exam: Examination, found: Target, fitted: Fit) -> None:
    k = exam.small
    mean = "mean over rows and classes" if exam.by_label else "mean"
    rows = found.rows.get(k) or next(iter(found.rows.values()))
    where = f"{len(rows.labels)} rows of {rows.logits.shape[-1]} classes"
    got = f"gradient of size {float(rows.mass.abs().max()):.5g} for a row"
    if not fitted.law:
        exam.report(
            "scale",
            "what the losses are divided by depends on the rows and classes in no known way",
            input=where,
            got=got,
            expected="1, or 1 divided by the number of rows",
        )
        return
    usual = {"sum", mean}
    if fitted.law not in usual:
        harmless = exam.by_label
        exam.report(
            "sum over labels" if fitted.law == "mean" else fitted.law,
            "the sum over the rows is divided by "
            + {
                "mean": "the rows alone, so that labels add up",
                "mean over rows and classes": "rows times classes, so that the loss is K times too small",
                "mean over classes": "the number of classes",
            }[fitted.law],
            input=where,
            got=got,
            expected="the gradient of a mean" + (" over rows and labels" if exam.by_label else " over rows"),
            severity="note" if harmless else "fault",
        )
    if fitted.factor < 0:
        exam.report(
            "sign",
            "the loss has the wrong sign: it falls as the label's probability falls",
            input=where,
            got=f"factor {fitted.factor:.5g}",
            expected="factor 1",
        )
    elif not near(fitted.factor, 1.0, 10 * exam.subject.tolerance):
        lost = exam.declared is not None and fitted.eps == 0 and near(fitted.factor, 1 - exam.declared, 1e-5)
        exam.report(
            "factor",
            "only the hard term is left, times 1−ε" if lost else "the loss is multiplied by a number",
            input=where,
            got=f"factor {fitted.factor:.6g}",
            expected="factor 1",
            severity="fault" if lost else "note",
        )
    weights = [p.positive_weight for p in found.profiles.values()]
    if exam.by_label and not near(weights[0], 1.0, 20 * exam.subject.tolerance):
        exam.report(
            "positive weight",
            f"labels that hold weigh {weights[0]:.5g} times as much",
            input=where,
            got=f"weight {weights[0]:.5g}",
            expected="weight 1",
            severity="note",
        )


def tell_pad(exam: Examination, found: Target) -> None:
    if not exam.skipped:
        return
    label = min(exam.skipped)
    each = found.profiles.get(exam.small)
    if each is not None and each.pad is None and each.on_other > 1e-6:
        exam.report(
            "padding class",
            f"rows of class {label} do not count, but it gets a share of the smoothing in all other rows",
            input=f"a row of another label, {exam.small} classes",
            got=f"target {each.on_other:.5g} on class {label}",
            expected=f"0 on class {label}, which no row is trained towards",
            severity="note",  # as in torch with an ignore_index of a class
        )


def tell_constant(exam: Examination, found: Target, fitted: Fit) -> None:
    if exam.subject.dtype not in (torch.float64, torch.float32):
        return
    k = exam.small if exam.small in found.rows else next(iter(found.rows))
    rows, each = found.rows[k], found.profiles[k]
    on, other, mass = fitted.candidate.shares(fitted.eps, k)
    size = each.size / mass * int(rows.counted.sum())
    constant = rows.constant / size if not exam.by_label else rows.constant / (size * k)
    smallest = 1e-6 if exam.subject.dtype == torch.float64 else 1e-4
    if abs(constant) < max(smallest, 5 * exam.subject.slack):
        return
    entropy = on * _log(on) + (mass - on) * _log(other)
    kl = near(constant, entropy, 1e-3) and not exam.by_label
    exam.report(
        "constant",
        "Σ q·log q is added, as in a Kullback–Leibler divergence"
        if kl
        else "a constant is added to the loss",
        input=f"{len(rows.labels)} rows of {k} classes",
        got=f"{constant:+.6g} for each row",
        expected="−Σ q·log p without a constant",
        severity="note",
    )


def _log(x: float) -> float:
    return math.log(x) if x > 0 else 0.0
