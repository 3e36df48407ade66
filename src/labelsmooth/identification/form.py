"""Whether a loss is a cross-entropy at all, and where it looks for the labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.identification.examination import READINGS, Examination, agree, near
from labelsmooth.identification.rows import ADDED, SIGMOID, SOFTMAX, Rows, slopes_of
from labelsmooth.identification.subject import ROWS, usual_logits

_ROUNDED = 2e-6  # relative; of sums in float32 within a loss of float64 logits
_ALMOST = 2e-3  # relative; a gradient further off is that of another loss


def check_repeats(exam: Examination) -> None:
    """Refuse a loss that is random, and tell of one whose calls change the next.

    Raises:
        InputError: two calls with everything as before differ.
    """
    logits, labels = usual_logits(ROWS, exam.small)[0], exam.labels(ROWS, exam.small)
    subject = exam.subject
    first, again = subject.call(logits, labels), subject.call(logits, labels)
    if not agree(first.value, again.value, subject.tolerance) or not agree(
        first.grad, again.grad, subject.tolerance
    ):
        raise InputError(
            f"the loss is random: two calls with the same input gave {first.total:.6g} and {again.total:.6g}"
        )
    where = f"two calls with logits {tuple(logits.shape)}"
    for name in first.inputs:
        exam.report(
            "input changed",
            f"the call writes into its {name}",
            input=f"{name} of shape {tuple(logits.shape if name == 'logits' else labels.shape)}",
            got=f"other {name} after the call",
            expected=f"{name} as they were",
        )
    if first.state:
        subject.call(logits, labels, keep_state=True)
        second = subject.call(logits, labels)
        exam.subject.kept.restore()
        same = agree(first.value, second.value, subject.tolerance)
        exam.report(
            "state changed",
            f"the call changes {', '.join(first.state)}"
            + ("" if same else ", and with it the loss of the next call"),
            input=where,
            got=f"loss {first.total:.6g}, then {second.total:.6g}",
            expected="the same state" if same else "the same loss",
            severity="note" if same else "fault",
        )


def check_gradient(exam: Examination) -> None:
    """Compare the gradient with differences of values; where it is wrong, go on with these."""
    labels = exam.labels(ROWS, exam.small)
    if exam.subject.dtype not in (torch.float64, torch.float32):
        return
    told, true = slopes_of(exam.subject, labels, exam.small)
    tolerance = 5e-5 if exam.subject.dtype == torch.float64 else 3e-3
    grad = exam.subject.call(usual_logits(ROWS, exam.small)[0], labels).grad
    if abs(told - true) > tolerance * max(abs(true), float(grad.norm())):
        told, true = slopes_of(exam.subject, labels, exam.small, shorter=10)  # not over a kink
    if abs(told - true) <= 10 * tolerance * max(abs(true), float(grad.norm())):
        return
    sign = near(told, -true, 10 * tolerance)
    exam.report(
        "gradient",
        "the gradient has the wrong sign" if sign else "the gradient is not that of the value",
        input=f"{ROWS} rows of {exam.small} classes, along one direction of the logits",
        got=f"gradient {told:.6g}",
        expected=f"differences of the value {true:.6g}",
    )
    exam.subject = exam.subject.but(numeric=True)
    few = [k for k in exam.num_classes if k <= max(exam.small, 4)]
    exam.cannot += [f"K = {k}: differences of values take too long" for k in exam.num_classes if k not in few]
    exam.num_classes = few


def find_terms(exam: Examination, kind: str) -> None:
    """Find what the loss is made of: one softmax or sigmoids, and what is added on purpose."""
    links = {"softmax": [SOFTMAX], "sigmoid": [SIGMOID]}.get(kind, [SOFTMAX, SIGMOID])
    added = [(), *((term,) for term in ADDED), *itertools.combinations(ADDED, 2)]
    best: Rows | None = None
    for extra, link in itertools.product(added, links):
        if extra and link is SIGMOID:
            continue
        exam.terms = (link, *extra)
        rows = exam.measure(exam.small)
        wide = exam.subject.dtype in (torch.float64, torch.float32)
        if rows.residual <= (10 if wide else 1) * exam.subject.tolerance:
            _tell_added(exam, rows)
            if wide:
                exam.subject = exam.subject.but(slack=2 * rows.residual)
            return
        if not extra and (best is None or rows.residual < best.residual):
            best = rows
    assert best is not None
    exam.terms = best.terms
    if best.residual <= _ROUNDED:
        exam.subject = exam.subject.but(slack=2 * best.residual)
        return
    if best.residual <= max(_ALMOST, 10 * exam.subject.tolerance):
        exam.report(
            "inexact",
            f"the gradient is only nearly that of a cross-entropy, to {best.residual:.1e}: a number may have "
            "been added within a logarithm, or a probability clamped",
            input=f"{ROWS} rows of {exam.small} classes, logits in −3..3",
            got=f"relative error {best.residual:.2g}",
            expected=f"at most {10 * exam.subject.tolerance:.2g}",
        )
        exam.subject = exam.subject.but(slack=2 * best.residual)
        return
    factor = _factor_of_logits(exam)
    if factor is not None:
        exam.report(
            "temperature",
            f"the logits are multiplied by {factor:.6g} before the softmax",
            input=f"{ROWS} rows of {exam.small} classes, logits in −3..3",
            got=f"gradients of a softmax of {factor:.6g}·z",
            expected="those of a softmax of z",
        )
        exam.terms, exam.subject = (SOFTMAX,), exam.subject.but(factor=factor)
        return
    exam.terms = ()
    name, says = _what_instead(exam)
    exam.report(
        name,
        says,
        input=f"{ROWS} rows of {exam.small} classes, logits in −3..3",
        got=f"gradients that A·p − B misses by {best.residual:.2g} of their size",
        expected="A·p − B with the same A and B at all logits",
    )


def find_reading(exam: Examination) -> None:
    """Find out which label a row is given: its own, another class, or that of another row."""
    if exam.by_label or exam.subject.dense:
        return
    most = exam.num_classes[-1]
    rows = exam.measure(most)
    counted = rows.counted
    if not bool(counted.any()):
        return
    shares = (rows.target * rows.mass.sign().unsqueeze(-1))[counted]
    best = shares.argmax(-1)
    if bool((shares.amax(-1) - shares.median(-1).values < 1e-3 * shares.abs().amax(-1)).any()):
        return  # all classes alike
    for reading in READINGS:
        if bool((reading.seen(rows.labels, most)[counted] == best).all()):
            exam.reading = reading
            break
    if exam.reading.says:
        place = int(counted.nonzero()[0])
        exam.report(
            "shifted labels",
            exam.reading.says,
            input=f"{ROWS} rows of {most} classes with the labels {rows.labels.tolist()}",
            got=f"row {place} is trained towards class {int(best[0])}",
            expected=f"class {int(rows.labels[place])}",
        )


def _tell_added(exam: Examination, rows: Rows) -> None:
    for term, factor in zip(exam.terms[1:], rows.factors[1:], strict=True):
        relative = float((factor / rows.partition).mean())
        exam.report(
            "added term",
            f"a {term.name} is added to the cross-entropy, with the weight {relative:.4g}",
            input=f"{ROWS} rows of {exam.small} classes",
            got=f"a gradient of A·p − B and {relative:.4g} times that of the {term.name}",
            expected="A·p − B",
            severity="note",
        )


def _factor_of_logits(exam: Examination) -> float | None:
    """The number c of a loss of c·z, found where the gradients fit A·softmax(c·z) − B best."""
    logits = usual_logits(ROWS, exam.small)
    labels = exam.labels(ROWS, exam.small)
    grads = torch.stack([exam.subject.call(z, labels).grad for z in logits])
    wanted = grads - grads.mean(0)

    def misfit(factors: Tensor) -> Tensor:
        p = (factors.view(-1, 1, 1, 1) * logits).softmax(-1)
        p = p - p.mean(1, keepdim=True)
        size = (p * wanted).sum((1, 3), keepdim=True) / (p * p).sum((1, 3), keepdim=True)
        return (size * p - wanted).flatten(1).abs().amax(1)

    factors = torch.logspace(-2, 2, 400, dtype=torch.float64)
    width = 4 / 399
    for _ in range(5):  # each time in a window 100 times as narrow
        best = float(factors[misfit(factors).argmin()].log10())
        factors = torch.logspace(best - width, best + width, 400, dtype=torch.float64)
        width /= 100
    factor = 10**best
    close = float(misfit(torch.tensor([factor], dtype=torch.float64))) / float(grads.abs().max())
    return round(factor, 8) if close < 20 * exam.subject.tolerance else None


# What else losses make of logits before the softmax that should be their only one.
_INSTEAD: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (
    ("softmax twice", "the logits pass through two softmaxes", lambda z: z.softmax(-1)),
    ("sigmoid before softmax", "the logits pass through a sigmoid before the softmax", torch.sigmoid),
    (
        "normalised logits",
        "the logits are normalised to length 1 before the softmax",
        lambda z: z / z.norm(dim=-1, keepdim=True),
    ),
)


def _what_instead(exam: Examination) -> tuple[str, str]:
    """Name another loss that has these gradients, where a known one has, and say what it does."""
    logits = usual_logits(ROWS, exam.small)
    labels = exam.labels(ROWS, exam.small)
    tolerance = 100 * exam.subject.tolerance
    grads = torch.stack([exam.subject.call(z, labels).grad for z in logits])
    for name, says, make in _INSTEAD:
        if _explains(grads, logits, make, tolerance):
            return name, says
    if _explains(grads.transpose(1, 2), logits.transpose(1, 2), torch.clone, tolerance):
        return "softmax over the rows", "the softmax is over the rows, not over the classes"
    for power in (0.5, 1.0, 1.5, 2.0, 3.0, 5.0):
        if _is_focal(grads, logits, labels, power, tolerance):
            return "focal loss", f"this is a focal loss with γ = {power:g}, without smoothing"
    return "no cross-entropy", "the loss is neither a cross-entropy of a softmax nor of sigmoids"


def _explains(grads: Tensor, logits: Tensor, make: Callable[[Tensor], Tensor], tolerance: float) -> bool:
    """Whether A·lse(f(z)) − B·f(z) has these gradients for some A and B of each row."""
    rows, classes = logits.shape[1:]
    for row in range(rows):
        columns = []
        for z in logits[:, row]:
            leaf = z.clone().requires_grad_()
            made = make(leaf).unbind()
            slopes = torch.stack([torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in made])
            columns.append(
                torch.cat([make(z).softmax(-1).unsqueeze(0), torch.eye(classes, dtype=z.dtype)]) @ slopes
            )
        left = torch.cat([column.T for column in columns])  # (L·K, 1 + K)
        right = grads[:, row].reshape(-1, 1)
        solved = torch.linalg.lstsq(left, right, driver="gelsd").solution
        if float((left @ solved - right).abs().max()) > tolerance * float(grads.abs().max()):
            return False
    return True


def _is_focal(grads: Tensor, logits: Tensor, labels: Tensor, power: float, tolerance: float) -> bool:
    if labels.dim() == 2:
        return False

    def focal(z: Tensor) -> Tensor:
        log_p = z.log_softmax(-1)
        return -((1 - log_p.exp()) ** power * log_p)

    leaf = logits.clone().requires_grad_()
    index = labels.expand(len(logits), -1).unsqueeze(-1)
    (slope,) = torch.autograd.grad(focal(leaf).gather(-1, index).sum(), leaf)
    factor = float((grads * slope).sum() / (slope**2).sum())
    return agree(grads, factor * slope, tolerance)
