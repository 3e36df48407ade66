"""Probes of a loss as arithmetic: large logits, impossible classes, half precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from labelsmooth.identification.examination import Examination, shown
from labelsmooth.identification.profile import truth_of
from labelsmooth.identification.rows import Rows
from labelsmooth.identification.scale import Target
from labelsmooth.identification.state import State
from labelsmooth.identification.subject import ROWS, CallFailed, Subject, usual_logits

_LARGE = (20.0, 100.0, 1000.0, 10_000.0)


def large_logits(exam: Examination, target: Target) -> None:
    """Logits up to 10,000: the loss is finite and right, and so is its gradient."""
    rows = target.rows.get(exam.small)
    if rows is None:
        return
    for dtype in (torch.float64, torch.float32):
        for size in _LARGE:
            if _fails_at(exam, rows, dtype, size):
                return


def _fails_at(exam: Examination, rows: Rows, dtype: torch.dtype, size: float) -> bool:
    """Report what is wrong with logits 0 but for one of ±size in each row; True where something is."""
    logits = spikes(rows, size)
    try:
        answer = exam.subject.but(dtype=dtype, numeric=False).call(logits, rows.labels)
    except CallFailed as failure:
        exam.skip(f"{_name(dtype)} logits of {size:g}", failure)
        return True
    expected, gradient = rows.value(logits), rows.gradient(logits)
    numeric = exam.subject.numeric  # its own gradient has been told of
    tolerance = max(1e-3, 5 * exam.subject.tolerance)
    right = math.isclose(answer.total, expected, rel_tol=tolerance, abs_tol=1e-3)
    error = float((answer.grad - gradient).abs().max())
    if right and (numeric or error <= tolerance * float(gradient.abs().max()) + 1e-6):
        return False
    exam.report(
        "large logits",
        "the loss overflows, or is cut off" if not right else "the gradient overflows, or is cut off",
        input=f"{_name(dtype)} logits 0 but for one of ±{size:g} in each of {len(logits)} rows",
        got=f"loss {answer.total:.6g}, gradient of row 0 {shown(answer.grad[0])}",
        expected=f"loss {expected:.6g}, gradient {shown(gradient[0])}",
    )
    return True


def impossible_classes(exam: Examination, target: Target) -> None:
    """A class with the logit −inf: infinite loss where it has a share of the target, none where not."""
    if exam.by_label or exam.small not in target.rows:
        return
    k = exam.small
    labels = exam.counted_labels(ROWS, k)
    rows = exam.measure(k, labels=labels)
    logits = usual_logits(ROWS, k)[0]
    logits[:, -1] = -math.inf
    try:
        answer = exam.subject.but(numeric=False).call(logits, labels)
    except CallFailed as failure:
        exam.skip("a class with the logit −inf", failure)
        return
    known = target.profiles[k]
    last = known.pad == k - 1 if target.fit is not None else False
    share = (
        float(rows.target[:, -1].abs().max() / rows.mass.abs().max())
        if target.fit is None
        else abs(target.fit.candidate.shares(target.fit.eps, k)[1])
    )
    impossible = last or share < 1e-6
    where = f"logits of {k} classes with −inf for the last, which is no row's label"
    got = f"loss {answer.total:.5g}, gradient of row 0 {shown(answer.grad[0])}"
    expected = (
        f"the loss {rows.value(logits):.5g}" if impossible else "loss inf"
    ) + ", and a gradient that is finite"
    if (
        math.isnan(answer.total)
        or bool(answer.grad.isnan().any())
        or (impossible and math.isinf(answer.total))
    ):
        exam.report(
            "impossible class",
            "a class without a share of the target makes the loss infinite"
            if impossible and math.isinf(answer.total)
            else "a class with the logit −inf gives NaN",
            input=where,
            got=got,
            expected=expected,
            severity="note" if exam.subject.dense and impossible else "fault",  # as torch's dense targets
        )
    elif not impossible and math.isfinite(answer.total):
        exam.report(
            "impossible class",
            "the smoothing mass of a class with the logit −inf is dropped or moved, or its logarithm cut off",
            input=where,
            got=got,
            expected=expected,
            severity="note",
        )


def half_precision(exam: Examination, target: Target) -> None:
    """bfloat16 and float16 logits: no worse than torch's own loss by more than a few roundings."""
    if not target.rows:
        return
    for dtype in (torch.bfloat16, torch.float16):
        subject = exam.subject.but(dtype=dtype, numeric=False)
        try:
            _rounding(exam, target.rows[max(target.rows)], subject)
            if dtype == torch.float16:
                _half_overflow(exam, target, subject)
        except CallFailed as failure:
            exam.skip(f"{_name(dtype)} logits", failure)


def _rounding(exam: Examination, rows: Rows, subject: Subject) -> None:
    answers = [subject.call(z, rows.labels) for z in rows.logits]
    error = _error(rows, [(answer.total, answer.grad) for answer in answers])
    torchs = Subject(_torchs_loss(exam), State(None), subject.dtype, subject.dense)
    exact = torchs.but(dtype=torch.float64)
    labels = truth_of(exam, rows) if exam.by_label else rows.labels
    peers = [(torchs.call(z, labels), exact.call(z, labels)) for z in rows.logits]
    peer_error = tuple(
        max(each)
        for each in zip(
            *(_relative((a.total, a.grad), (b.total, b.grad)) for a, b in peers),
            strict=True,
        )
    )
    ulp = max(torch.finfo(dtype).eps for dtype in (subject.dtype, exam.subject.dtype))
    limits = [max(4 * each, 4 * ulp) for each in peer_error]
    name = _name(subject.dtype)
    where = f"{name} logits in −3..3, {len(rows.labels)} rows of {rows.logits.shape[-1]} classes"
    if exam.subject.numeric:  # its gradient has been told of
        error = (error[0], 0.0)
    if not (error[0] <= limits[0] and error[1] <= limits[1]):
        exam.report(
            "half precision",
            f"it adds up or takes logarithms in {name}",
            input=where,
            got=f"relative error {error[0]:.2g} of the loss, {error[1]:.2g} of the gradient",
            expected=f"at most {limits[0]:.2g} and {limits[1]:.2g}, 4 times what torch's own loss has",
        )
    elif answers[0].dtype == subject.dtype:
        exam.report(
            f"{name} loss",
            f"the loss of {name} logits is rounded to {name}",
            input=where,
            got=f"a loss in {name}, relative error {error[0]:.2g}",
            expected="a loss in float32",
            severity="note",  # as in torch
        )


def _half_overflow(exam: Examination, target: Target, subject: Subject) -> None:
    """Report losses that float16 could hold, but come out infinite; torch adds up over many classes too."""
    torchs = Subject(_torchs_loss(exam), State(None), subject.dtype, subject.dense)
    for k in sorted({exam.small, max(target.rows)} & set(target.rows)):
        rows = target.rows[k]
        for size in (12.0, 20.0, 100.0):
            logits = spikes(rows, size)
            answer = subject.call(logits, rows.labels)
            if math.isfinite(answer.total) and bool(answer.grad.isfinite().all()):
                continue
            labels = truth_of(exam, rows) if exam.by_label else rows.labels
            too = not math.isfinite(torchs.call(logits, labels).total)
            exam.report(
                "float16 overflow",
                "the loss of float16 logits overflows" + (", as torch's own does" if too else ""),
                input=f"float16 logits of {k} classes, 0 but for one of ±{size:g} in each of {ROWS} rows",
                got=f"loss {answer.total:.5g}, gradient of row 0 {shown(answer.grad[0])}",
                expected=f"loss {rows.value(logits):.5g}",
                severity="note" if too else "fault",
            )
            return


def _torchs_loss(exam: Examination) -> Callable[[Tensor, Tensor], Tensor]:
    if exam.by_label:
        return lambda z, y: binary_cross_entropy_with_logits(z, 0.9 * y.to(z.dtype) + 0.05)
    return lambda z, y: cross_entropy(z, y, label_smoothing=0.1)


def _error(rows: Rows, answers: list[tuple[float, Tensor]]) -> tuple[float, float]:
    """The largest relative errors of the values and of the gradients."""
    each = [
        _relative(answer, (rows.value(z), rows.gradient(z)))
        for answer, z in zip(answers, rows.logits, strict=True)
    ]
    return max(value for value, _ in each), max(grad for _, grad in each)


def _relative(got: tuple[float, Tensor], right: tuple[float, Tensor]) -> tuple[float, float]:
    value = abs(got[0] - right[0]) / abs(right[0])
    grad = float((got[1] - right[1]).abs().max() / right[1].abs().max())
    return tuple(error if math.isfinite(error) else math.inf for error in (value, grad))  # type: ignore[return-value]


def spikes(rows: Rows, size: float) -> Tensor:
    """(N, K) logits 0 but for one of ±size in each row."""
    logits = torch.zeros(rows.logits.shape[1:])
    places = torch.arange(len(logits))
    logits[places, (places * 2) % logits.shape[-1]] = size * (1 - 2 * (places % 2))
    return logits


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
