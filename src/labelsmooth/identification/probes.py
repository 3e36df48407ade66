"""Probes of what a loss does with rows: ignored ones, none, others; with weights, dense targets, modes."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from labelsmooth.identification.examination import Examination, agree, example_logits, near, shown
from labelsmooth.identification.profile import profile, truth_of
from labelsmooth.identification.scale import Target
from labelsmooth.identification.subject import ROWS, CallFailed, usual_logits
from labelsmooth.identification.target import tell_weights
from labelsmooth.identification.weights import USES, trial_weight

_IGNORE_NAMES = ("ignore_index", "padding_idx", "pad_id", "ignore_id")
_ROWS_IGNORED = (2, 5)


def ignored_index(exam: Examination) -> int:
    """The label of rows that do not count: what the loss says, a class that it skips, else −100."""
    settings = exam.subject.kept.settings()
    said = next((settings[name] for name in _IGNORE_NAMES if isinstance(settings.get(name), int)), None)
    if isinstance(said, int):
        return said
    return min(exam.skipped) if exam.skipped else -100


def ignored_rows(exam: Examination, target: Target) -> None:
    """Rows with the index to ignore: out of the loss, out of the gradient, out of the mean."""
    del target
    if exam.by_label or exam.subject.dense or exam.reading.says:
        return
    k, index = exam.small, ignored_index(exam)
    labels = exam.counted_labels(ROWS, k)
    with_ignored = labels.clone()
    with_ignored[list(_ROWS_IGNORED)] = index
    try:
        whole, part = exam.measure(k, labels=labels), exam.measure(k, labels=with_ignored)
    except CallFailed as failure:
        exam.cannot.append(f"no ignore_index: the label {index}: {failure}")
        return
    tolerance = 20 * exam.subject.tolerance
    where = f"{ROWS} rows of {k} classes with the labels {with_ignored.tolist()}"
    gone = torch.zeros(ROWS, dtype=torch.bool)
    gone[list(_ROWS_IGNORED)] = True
    leak = torch.cat([part.partition, part.target], dim=-1)[gone].abs().max()
    size = float(whole.mass.abs().max())
    pair = torch.tensor([int(labels[0]), index])
    two, one = (exam.subject.call(example_logits(len(y), k), y) for y in (pair, pair[:1]))
    small = f"logits {shown(example_logits(2, k))}, labels {pair.tolist()}"
    alone = f"loss {one.total:.6g}, as without the second row"
    if float(leak) > tolerance * size:
        exam.report(
            "ignored rows leak",
            f"rows with the label {index} are trained on",
            input=small,
            got=f"loss {two.total:.6g}, gradient of the second row {shown(two.grad[1])}",
            expected=f"{alone}, and gradient {shown([0.0] * k)}",
        )
        return
    ratio = float((part.mass[~gone] / whole.mass[~gone]).mean())
    kept = ROWS - len(_ROWS_IGNORED)
    mean = near(float(exam.measure(k, labels=labels.repeat(2)).mass.abs().max()), size / 2, tolerance)
    counts = torch.ones(k) if exam.weight is None else exam.weight
    expected = float(counts[labels].sum() / counts[labels[~gone]].sum()) if mean else 1.0
    if mean and near(ratio, 1.0, tolerance):
        exam.report(
            "ignored rows count in the mean",
            f"the sum is divided by all rows, also those with the label {index}",
            input=small,
            got=f"loss {two.total:.6g}",
            expected=alone,
        )
    elif not near(ratio, expected, tolerance):
        exam.report(
            "ignored rows change the mean",
            f"rows with the label {index} change what the sum is divided by",
            input=where,
            got=f"the other rows weigh {ratio:.5g} times as much as without ignored rows",
            expected=f"{expected:.5g} times",
        )
    constant = whole.constant * (1.0 if mean else kept / ROWS)
    extra = part.constant - constant
    if abs(extra) > max(tolerance * abs(part.value(part.logits[0])), 1e-6):
        exam.report(
            "ignored rows leak",
            f"rows with the label {index} add a constant to the loss",
            input=small,
            got=f"loss {two.total:.6g}",
            expected=alone,
        )
    _nan_in_ignored_rows(exam, with_ignored, gone, where)


def _nan_in_ignored_rows(exam: Examination, labels: Tensor, gone: Tensor, where: str) -> None:
    logits = usual_logits(ROWS, exam.small)[0]
    logits[gone] = math.nan
    try:
        answer = exam.subject.call(logits, labels)
    except CallFailed as failure:
        exam.skip("NaN in an ignored row", failure)
        return
    if not math.isfinite(answer.total) or not bool(answer.grad.isfinite().all()):
        exam.report(
            "NaN in an ignored row",
            "NaN logits of rows that do not count come through",
            input=f"{where}, and NaN logits in those that are ignored",
            got=f"loss {answer.total:.5g}, gradient {shown(answer.grad[_ROWS_IGNORED[0]])} of such a row",
            expected="a finite loss, and the gradient 0",
            severity="note",  # as in torch
        )


def no_rows(exam: Examination, target: Target) -> None:
    """A batch without rows, and one of which none counts."""
    del target
    k = exam.small
    empty = torch.zeros(0, k) if exam.by_label and exam.subject.dense else torch.zeros(0, dtype=torch.int64)
    cases = [("empty batch", "a batch without rows", empty)]
    ignores = not (exam.by_label or exam.subject.dense) and not any(
        sentence.startswith("no ignore_index") for sentence in exam.cannot
    )
    if ignores:
        labels = torch.full((2,), ignored_index(exam))
        cases.append(("no row counts", f"two rows with the label {ignored_index(exam)}", labels))
    for name, where, labels in cases:
        try:
            answer = exam.subject.but(numeric=False).call(torch.zeros(len(labels), k), labels)
        except CallFailed as failure:
            exam.skip(name, failure)
            continue
        if not math.isfinite(answer.total):
            exam.report(
                name,
                "the mean over no rows is not finite, and poisons a step to which other batches belong",
                input=f"{where}, {k} classes",
                got=f"loss {answer.total:.5g}",
                expected="loss 0",
                severity="note",  # as in torch
            )


def other_rows(exam: Examination) -> None:
    """The gradient of a row may depend on the labels of others by the mean, never on their logits."""
    logits, labels = usual_logits(ROWS, exam.small)[0], exam.labels(ROWS, exam.small)
    first = exam.subject.call(logits, labels)
    for place in range(exam.small):  # a hard row for some labels, an easy one for others
        changed = logits.clone()
        changed[0, place] += 8
        second = exam.subject.call(changed, labels)
        if agree(first.grad[1:], second.grad[1:], 10 * exam.subject.tolerance):
            continue
        row = 1 + int((first.grad[1:] - second.grad[1:]).abs().amax(-1).argmax())
        exam.report(
            "rows depend on each other",
            "the gradient of a row depends on the logits of other rows",
            input=f"{ROWS} rows of {exam.small} classes, once with a logit of row 0 larger by 8",
            got=f"gradient of row {row}: {shown(first.grad[row])}, then {shown(second.grad[row])}",
            expected="the same gradient",
        )
        return


def weight_argument(exam: Examination, target: Target) -> None:
    """Class weights given to a loss that takes the keyword `weight`."""
    k = exam.small
    takes = "weight" in exam.subject.defaults()
    if isinstance(exam.subject.kept.settings().get("weight"), Tensor):
        return
    if not takes or exam.by_label or target.fit is None or k not in target.profiles:
        exam.cannot.append("no weight argument")
        return
    weight = trial_weight(k)
    weighted = exam.subject.but(keywords=(("weight", weight.to(exam.subject.dtype)),))
    try:
        rows = exam.measure(k, subject=weighted)
    except CallFailed as failure:
        exam.skip("weight argument", failure)
        return
    known, truth = target.profiles[k], truth_of(exam, rows)
    for use in USES:
        found = profile(exam, rows, use.undone(rows.target, truth, weight))
        close = max(abs(found.on_class - known.on_class), abs(found.on_other - known.on_other))
        if found.flat and close < 10 * exam.subject.tolerance:
            ratio = found.size / known.size
            counted = rows.counted
            by_weights = int(counted.sum()) / float((truth * weight)[counted].sum())
            mean = target.fit is not None and target.fit.law == "mean"
            tell_weights(exam, use.says, mean)
            if mean and use is not USES[-1] and not near(ratio, by_weights, 20 * exam.subject.tolerance):
                exam.report(
                    "mean without weights",
                    "the weighted sum is not divided by the sum of the weights of the labels",
                    input=f"{ROWS} rows of {k} classes, weights {shown(weight)}",
                    got=f"a weighted row is {ratio:.5g} times one without weights",
                    expected=f"{by_weights:.5g} times",
                    severity="note",
                )
            return
    exam.report(
        "class weights",
        "they are used in no known way",
        input=f"{ROWS} rows of {k} classes, weights {shown(weight)}",
        got=f"target of row 0: {shown(rows.target[0] / rows.mass[0])}",
        expected="each class's share of the target times its weight",
    )


def dense_targets(exam: Examination, target: Target) -> None:
    """Dense targets: one-hot ones as indices, and soft ones as the mixture of theirs."""
    if exam.by_label or exam.reading.says or exam.skipped or exam.small not in target.profiles:
        return
    k, tolerance = exam.small, 20 * exam.subject.tolerance
    indices = exam.labels(ROWS, k)
    hot = one_hot(indices, k).double()
    soft = 0.7 * hot + 0.3 * hot.roll(1, dims=-1)
    dense = exam.subject.but(dense=True)
    try:
        base = exam.measure(k, subject=dense, labels=hot)
        mixed = exam.measure(k, subject=dense, labels=soft)
    except CallFailed as failure:
        exam.cannot.append(f"no dense targets: {failure}")
        return
    known = exam.measure(k)
    if exam.weight is not None:  # torch's mean divides the two kinds by different numbers
        base, known = (replace(rows, target=rows.target / rows.mass[:, None]) for rows in (base, known))
    if not agree(base.target, known.target, tolerance):
        exam.report(
            "dense targets",
            "one-hot targets have another loss than their indices",
            input=f"label {int(indices[0])} of {k} classes",
            got=f"target {shown(base.target[0] / base.mass[0])} from a one-hot row",
            expected=f"{shown(known.target[0] / known.mass[0])}, as from the index",
        )
    else:
        other = exam.measure(k, subject=dense, labels=hot.roll(1, -1))
        expected = 0.7 * exam.measure(k, subject=dense, labels=hot).target + 0.3 * other.target
        if not agree(mixed.target, expected, tolerance):
            exam.report(
                "dense targets",
                "a soft target has not the mixture of the losses of its classes",
                input=f"the dense target {shown(soft[0])}",
                got=f"target {shown(mixed.target[0] / mixed.mass[0])}",
                expected=shown(expected[0] / expected[0].sum()),
            )


def modes(exam: Examination, target: Target) -> None:
    """Training and evaluation of a module: smoothing belongs into training."""
    kept = exam.subject.kept
    if not kept.has_modes:
        exam.cannot.append("no training mode: not a module")
        return
    k = exam.small
    if k not in target.rows:
        return
    rows = {}
    for training in (True, False):
        try:
            rows[training] = exam.measure(k, subject=exam.subject.but(training=training))
        except CallFailed as failure:
            exam.skip("training mode" if training else "evaluation mode", failure)
            return
    hard = {
        mode: abs(profile(exam, each).on_other) * k < 20 * exam.subject.tolerance
        for mode, each in rows.items()
    }
    targets = {mode: each.target / each.mass.unsqueeze(-1) for mode, each in rows.items()}
    says = f"{ROWS} rows of {k} classes, after .train() and after .eval()"
    got = f"target of row 0: {shown(targets[True][0])}, then {shown(targets[False][0])}"
    if hard[True] and not hard[False]:
        exam.report(
            "no smoothing in training",
            "it smooths in evaluation, and not in training",
            input=says,
            got=got,
            expected="the smoothed target, then the label",
        )
    elif not hard[True] and not hard[False]:
        exam.report(
            "smoothing in evaluation",
            "it smooths in evaluation mode too, where the loss is then no negative log-likelihood",
            input=says,
            got=got,
            expected="the smoothed target, then the label",
            severity="note",  # as in torch
        )
