"""Which convention of label smoothing a loss follows, and what is wrong with it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from labelsmooth.checks import require_num_classes, require_number
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.identification import numbers, probes
from labelsmooth.identification.examination import Examination
from labelsmooth.identification.form import check_gradient, check_repeats, find_reading, find_terms
from labelsmooth.identification.result import Identification
from labelsmooth.identification.rows import SIGMOID, SOFTMAX
from labelsmooth.identification.scale import Target
from labelsmooth.identification.state import unchanged_generators
from labelsmooth.identification.subject import DTYPES, CallFailed, open_subject
from labelsmooth.identification.target import declared_eps, find_target

_KINDS = ("auto", "softmax", "sigmoid")
_PROBES = (
    probes.ignored_rows,
    probes.no_rows,
    probes.weight_argument,
    probes.dense_targets,
    probes.modes,
    numbers.large_logits,
    numbers.impossible_classes,
    numbers.half_precision,
)


def identify(
    loss: Callable[..., Any],
    num_classes: int | Sequence[int] = (2, 3, 10, 1000),
    *,
    kind: Literal["auto", "softmax", "sigmoid"] = "auto",
    eps: float | None = None,
    dtype: torch.dtype | None = None,
) -> Identification:
    """Say which published convention of label smoothing a loss follows, at which ε, and what is wrong.

    At logits z the gradient of a smoothed cross-entropy is s·(M·p − q). A few gradients at several numbers of
    classes and rows give s, M and q without any guess; further calls show what the loss does with ignored
    rows, class weights, large logits and half precision, and each departure from the definition comes with
    the input that shows it.

    Args:
        loss: a function, module or other callable, called as loss(logits, labels) with logits (N, K) and
            class indices (N,), or, where it does not take these, with dense targets (N, K). It returns a
            scalar, (N,) or (N, K).
        num_classes: the K to try, each at least 2; those with which the loss does not run are left out. A
            loss that is made for one K needs that one here, and conventions that differ only in how ε
            depends on K then cannot be told apart.
        kind: "softmax" of K classes, "sigmoid" of K labels, or "auto" for whichever it is.
        eps: the ε that the loss is meant to have, to compare with. None: what its attributes or keywords
            say, such as `label_smoothing`, `smoothing` or `epsilon`.
        dtype: of the logits. None: float64, or the first of float32, bfloat16 and float16 that works.

    Returns:
        An `Identification`. Printed, it is a page with the verdict first.

    Raises:
        TypeError: `loss` is not callable, or an argument has another type.
        ValueError: the loss raises with every K, returns no tensor or one of another shape, cannot be
            differentiated, or is random; a `kind`, `eps` or K out of range.

    Cost: some hundred calls of the loss with 7 rows, about a second for a usual one. The loss, its modes,
        parameters, buffers and gradients, and the random states of torch, numpy and Python are as before.

    Example:
        >>> def loss(logits, labels):
        ...     log_p = logits.log_softmax(-1)
        ...     nll = -log_p.gather(-1, labels[:, None])[:, 0]
        ...     return (0.9 * nll - 0.1 * log_p.sum(-1)).mean()
        >>> found = identify(loss)
        >>> found.convention, found.eps, [departure.name for departure in found.faults]
        (None, 0.1, ['sum over classes'])

    Source: ours; the gradient is that of Szegedy et al. 2016, Rethinking the Inception Architecture, §7.
    """
    sizes = _checked(loss, num_classes, kind, eps, dtype)
    with unchanged_generators(), torch.enable_grad():
        subject, usable = open_subject(loss, dtype, sizes)
        exam = Examination(subject, usable)
        exam.declared = declared_eps(exam) if eps is None else eps
        exam.terms = (SIGMOID if kind == "sigmoid" else SOFTMAX,)
        try:
            target = _examine(exam, kind)
        finally:
            subject.kept.restore()
    exam.cannot += [f"K = {k}: the loss does not run" for k in sizes if k not in usable]
    return _result(exam, target, loss)


def _examine(exam: Examination, kind: str) -> Target:
    check_repeats(exam)
    check_gradient(exam)
    find_terms(exam, kind)
    probes.other_rows(exam)
    target = Target()
    if exam.terms:
        find_reading(exam)
        target = find_target(exam)
        for probe in _PROBES:
            try:
                probe(exam, target)
            except CallFailed as failure:
                exam.skip(probe.__name__.replace("_", " "), failure)
    return target


def _result(exam: Examination, target: Target, loss: object) -> Identification:
    fit = target.fit
    shares = {}
    for k, each in target.profiles.items():
        factor = 1.0 if fit is None or exam.by_label else fit.candidate.shares(fit.eps, k)[2]
        others = k - (1 if each.pad is None else 2)
        mass = each.on_class + others * each.on_other
        on, other, whole = (round(factor * share, 9) + 0.0 for share in (each.on_class, each.on_other, mass))
        shares[k] = (on, other, whole)
    subject = exam.subject
    targets = "dense targets" if subject.dense else "class indices"
    return Identification(
        loss=_name(loss),
        kind="" if not exam.terms else "sigmoid" if exam.by_label else "softmax",
        convention=None if fit is None or fit.candidate.mistake else fit.candidate.name,
        eps=target.eps,
        also=() if fit is None or fit.eps == 0 else fit.also,
        target=shares,
        prior=target.prior,
        call=f"loss(logits, targets) with {str(subject.dtype).removeprefix('torch.')} logits and {targets}",
        reduction=target.law,
        departures=tuple(sorted(exam.departures, key=lambda departure: departure.severity)),
        cannot=tuple(exam.cannot),
    )


def _name(loss: object) -> str:
    if isinstance(loss, functools.partial):
        keywords = ", ".join(f"{key}={value!r}" for key, value in loss.keywords.items())
        return f"{_name(loss.func)}({keywords})"
    return getattr(loss, "__qualname__", type(loss).__name__)


def _checked(
    loss: object, num_classes: int | Sequence[int], kind: str, eps: float | None, dtype: torch.dtype | None
) -> list[int]:
    """The numbers of classes, each once and ascending."""
    if not callable(loss):
        raise InputTypeError(f"loss must be callable, got {type(loss).__name__}")
    if isinstance(loss, type):
        raise InputTypeError(f"loss must be an instance, got the class {loss.__name__}")
    sizes = list(num_classes) if isinstance(num_classes, Sequence) else [num_classes]
    if not sizes:
        raise InputError("num_classes must hold at least one number of classes, got none")
    for size in sizes:
        require_num_classes(size)
    if kind not in _KINDS:
        raise InputError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
    if eps is not None:
        require_number(eps, "eps")
        if not -1 <= eps <= 1:
            raise InputError(f"eps must lie in [-1, 1], got {eps}")
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype must be a floating-point dtype of torch, got {dtype}")
    return sorted(set(sizes))
