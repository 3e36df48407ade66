"""The target that a loss trains towards: its formula, its ε, what it is divided by, and its constant."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labelsmooth.identification.examination import Examination, example_logits, near, shown
from labelsmooth.identification.formulas import (
    Shares,
    digits,
    fit,
    law_of,
    sigmoid_candidates,
    softmax_candidates,
)
from labelsmooth.identification.profile import profile, truth_of
from labelsmooth.identification.rows import Rows
from labelsmooth.identification.scale import Target, tell_constant, tell_pad, tell_scale
from labelsmooth.identification.subject import ROWS, CallFailed, usual_logits
from labelsmooth.identification.weights import USES

_MORE_ROWS = 11  # of a second batch, to see what the sum is divided by
_EPS_NAMES = ("label_smoothing", "label_smoothing_factor", "smoothing", "smooth_eps", "epsilon", "eps")


def declared_eps(exam: Examination) -> float | None:
    """The ε among the attributes, keywords and defaults of the loss."""
    settings, defaults = exam.subject.kept.settings(), exam.subject.defaults()
    for name in _EPS_NAMES:
        value = settings.get(name, defaults.get(name))
        if isinstance(value, float) and 1e-4 <= value < 1:
            return value
    return None


def find_target(exam: Examination) -> Target:
    """Find all of it, and report what departs from the definition."""
    found = Target()
    value = exam.subject.call(usual_logits(ROWS, exam.small)[0], exam.labels(ROWS, exam.small)).value
    found.by_row = value.numel() > 1
    exam.skipped = _skipped_labels(exam)
    sizes: dict[int, dict[int, float]] = {}
    for k in list(exam.num_classes):
        if exam.skipped and k == 2:
            exam.cannot.append("K = 2: there only one class counts")
            continue
        try:
            rows, more = exam.measure(k), exam.measure(k, _MORE_ROWS)
        except CallFailed as failure:
            exam.skip(f"K = {k}", failure)
            continue
        if rows.residual > 50 * exam.subject.tolerance or not bool(rows.counted.any()):
            exam.cannot.append(f"K = {k}: there the gradient is not that of a cross-entropy")
            continue
        found.rows[k] = rows
        if float(rows.mass.abs().max()) < 1e-6 * float(rows.target.abs().max()):
            exam.report(
                "no softmax",
                "the gradient does not depend on the logits: the loss takes log-probabilities, not logits",
                input=f"{ROWS} rows of {k} classes at several logits",
                got="the same gradient",
                expected="p − q",
            )
            found.rows.clear()
            return found
        targets = _unweighted(exam, (rows, more), k)
        found.profiles[k] = profile(exam, rows, targets[0])
        sizes[k] = {
            int(r.counted.sum()): profile(exam, r, target).size
            for r, target in zip((rows, more), targets, strict=True)
        }
    if not all(each.flat for each in found.profiles.values()):
        _find_prior(exam, found, sizes)
    else:
        shares = {k: Shares(p.on_class, p.on_other, sizes[k]) for k, p in found.profiles.items()}
        candidates = list(sigmoid_candidates() if exam.by_label else softmax_candidates())
        pads = {p.pad for k, p in found.profiles.items() if k >= 4}
        pad = pads != {None} and bool(pads)
        tolerance = exam.subject.tolerance
        found.fit = fit(shares, candidates, pad, tolerance, exam.declared)
    _tell_target(exam, found)
    if found.fit is not None:
        tell_scale(exam, found, found.fit)
        tell_pad(exam, found)
        tell_constant(exam, found, found.fit)
    return found


def _skipped_labels(exam: Examination) -> set[int]:
    """The classes whose rows do not count, as those of padding."""
    if exam.by_label or exam.subject.dense or exam.reading.says:
        return set()
    k = exam.small
    labels = torch.arange(max(ROWS, k)).flip(0) % (k - exam.subject.spare)
    try:
        counted = exam.measure(k, labels=labels).counted
    except CallFailed:
        return set()
    return set(labels[~counted].tolist()) - set(labels[counted].tolist())


def _unweighted(exam: Examination, batches: tuple[Rows, Rows], k: int) -> tuple[Tensor | None, Tensor | None]:
    """The targets without the class weights that the loss has, where it is known how it uses them."""
    weight = exam.subject.kept.settings().get("weight")
    if not isinstance(weight, Tensor) or weight.shape != (k,) or exam.by_label:
        return None, None
    exam.weight = weight = weight.detach().double()
    truths = [truth_of(exam, rows) for rows in batches]
    for use in USES:
        undone = [use.undone(rows.target, truth, weight) for rows, truth in zip(batches, truths, strict=True)]
        if profile(exam, batches[0], undone[0]).flat:
            labels = [(truth * weight).sum(-1) for truth in truths]
            # with the mean over Σ weights the size is that of an unweighted mean
            means = [
                target * float(each[rows.counted].sum()) / int(rows.counted.sum())
                for target, each, rows in zip(undone, labels, batches, strict=True)
            ]
            scales = [float(target.sum()) for target in means]
            by_weights = near(scales[0], scales[1], 10 * exam.subject.tolerance)
            tell_weights(exam, use.says, by_weights)
            chosen = means if by_weights else undone
            return chosen[0], chosen[1]
    return None, None


def tell_weights(exam: Examination, says: str, by_weights: bool) -> None:
    """Report class weights that are not used as in torch."""
    if not says.endswith("as in torch"):
        row = says.startswith("the whole row")
        exam.report(
            "class weights",
            f"they multiply {says}",
            input=f"{ROWS} rows of {exam.small} classes, and their weights",
            got=f"weights of {says}",
            expected="weights of each class's share of the target",
            severity="note" if row else "fault",
        )
    del by_weights


def _find_prior(exam: Examination, found: Target, sizes: dict[int, dict[int, float]]) -> None:
    """Look whether all rows share one distribution that the smoothing mass goes to."""
    for k, each in found.profiles.items():
        other = 1 - each.truth
        prior = (each.shares * other).sum(0) / other.sum(0).clamp(min=1)
        left = each.shares - prior
        kept = float((left * each.truth).sum() / each.truth.sum())
        tolerance = 20 * exam.subject.tolerance
        off = max(float((left * other).abs().max()) * k / 5, float(((left - kept) * each.truth).abs().max()))
        if off > tolerance or bool((other.sum(0) == 0).any()):
            found.prior = found.prior_eps = None
            return
        eps = 1 - kept
        if found.prior is None:
            found.prior = tuple((prior / eps).tolist())
            found.prior_eps = round(eps, 6)
    if found.prior is not None:
        each_size = [(n, k, size) for k, by_rows in sizes.items() for n, size in by_rows.items()]
        found.prior_law = law_of(each_size, exam.subject.tolerance)[0]
        exam.report(
            "prior",
            "the smoothing mass goes to classes by a distribution that is not uniform",
            input=f"{exam.small} classes",
            got=f"shares {shown(found.prior)} of eps {found.prior_eps:g}",
            expected="equal shares",
            severity="note",
        )


def _tell_target(exam: Examination, found: Target) -> None:
    if found.prior is not None or not found.profiles:
        return
    k = exam.small if exam.small in found.profiles else next(iter(found.profiles))
    each = found.profiles[k]
    if found.fit is None:
        table = "; ".join(
            f"K = {k}: {p.on_class:.6g} and {p.on_other:.6g}" for k, p in found.profiles.items()
        )
        says = (
            "the target follows no published formula"
            if all(p.flat for p in found.profiles.values())
            else "the target depends on the class or on the row in a way that no convention has"
        )
        exam.report(
            "unknown target",
            says,
            input=f"label {int(each.truth[0].argmax())} of {k} classes",
            got=f"target {shown(each.shares[0])}; on the label and on others, {table}",
            expected="the target of a convention",
        )
        return
    candidate, eps = found.fit.candidate, found.fit.eps
    if candidate.mistake:
        on, other, mass = candidate.shares(eps, k)
        labels = exam.counted_labels(2, k)
        answer = exam.subject.call(example_logits(2, k), labels)
        exam.report(
            candidate.name,
            f"{candidate.mistake}: {candidate.on_class} on the class and {candidate.on_other} on each other",
            input=f"logits {shown(example_logits(2, k))}, labels {labels.tolist()}",
            got=f"loss {answer.total:.6g}, gradient {shown(answer.grad[0])}: a target with {on:.6g} on the "
            f"class, {other:.6g} on others, sum {mass:.6g}",
            expected=f"of eps {eps:g}: {1 - eps + eps / k:.6g} on the class, {eps / k:.6g} on others, sum 1",
        )
    elif exam.declared is None:
        once = 1 - math.sqrt(1 - eps)
        if eps > 0 and digits(once) < digits(eps):
            exam.report(
                "smoothed twice?",
                f"eps {eps:g} is what {once:g} gives where it is applied twice, to labels and in the loss",
                input=f"K = {k} classes",
                got=f"eps {eps:g}",
                expected=f"eps {once:g}, if that was meant",
                severity="note",
            )
    elif all(
        abs(each - exam.declared) > max(1e-4, exam.subject.tolerance)
        for each in (eps, *(other for _, other in found.fit.also))
    ):
        _tell_other_eps(exam, eps, exam.declared)


def _tell_other_eps(exam: Examination, eps: float, declared: float) -> None:
    tolerance = max(1e-5, exam.subject.tolerance)
    relations = (
        ("smoothed twice", "the target is smoothed twice: 1 − (1 − ε)²", 1 - (1 - declared) ** 2),
        ("eps swapped", "ε and 1 − ε are swapped", 1 - declared),
        ("eps doubled", "ε counts double", 2 * declared),
        ("eps halved", "ε counts half", declared / 2),
        ("no smoothing", "ε has no effect", 0.0),
    )
    name, says = "other eps", "the target has another ε than the loss says"
    for relation, sentence, value in relations:
        if near(eps, value, tolerance) or (value == 0 and abs(eps) < tolerance):
            name, says = relation, sentence
            break
    exam.report(
        name,
        says,
        input=f"{exam.small} classes, a loss that says eps {declared:g}",
        got=f"eps {eps:.6g}",
        expected=f"eps {declared:g}",
    )
