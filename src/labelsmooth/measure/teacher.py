"""A network as a teacher: what its predictions hold beyond a smoothed label, and what a student took over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.checks import FLOAT_DTYPES, require_positive
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.arrays import Counts, Floats, State, pieces
from labelsmooth.measure.inputs import Array, as_tensor, logit_rows, require_usable, weight_of_each
from labelsmooth.measure.protocol import Measure, load_arrays, require_same_options, unchanged_on_error

_MEANS = ("equivalent_smoothing", "wrong_information", "wrong_sd", "logit_gap")  # what Teacher has means of


@dataclass(frozen=True, kw_only=True)
class TeacherResult:
    """The numbers of `Teacher.compute` over `rows` rows, at the temperature it was made with."""

    rows: int
    equivalent_smoothing: float  # γ, in 0..K/(K−1): the ε of `ls.uniform` with as much mass off the label
    wrong_information: float  # nats, in 0..log(K−1): 0 where all wrong classes are equally probable
    wrong_sd: (
        float  # sd of the wrong classes' logits within a row, in nats and at T = 1; inf with a −inf logit
    )
    logit_gap: float  # the label's logit less the mean of the others, in nats and at T = 1


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The agreement of a student's predictions with those of its teacher, over `rows` rows."""

    rows: int
    agreement: float  # share of rows with the same most probable class, the first of several
    kl: float  # mean KL(teacher‖student), nats; inf where the student's 0 meets a chance of the teacher's

    def values(self) -> dict[str, float]:
        """The numbers that the catalogue knows."""
        return {"agreement": self.agreement, "kl": self.kl}


class Teacher(Measure):
    """What a teacher knows beyond a smoothed label, from a stream of batches of its logits.

    With p(T) = softmax(z/T), the label y and the wrong classes' own distribution r_k = p_k(T)/(1 − p_y(T)):

    - equivalent smoothing γ = mean (1 − p_y(T))·K/(K−1), which is ε for exact smoothed targets of
      `ls.uniform`: how much mass the teacher takes off the label.
    - wrong information, mean [log(K−1) − H(r)]: how much that mass says. It is KL(r‖uniform), so that
      (1−p_y)·KL(r‖uniform) is the divergence of the teacher's row from a smoothed label with the same p_y. A
      row that gives the wrong classes nothing says nothing, 0.
    - wrong sd and logit gap: the same before the softmax. A temperature scales both, and not
      their ratio.

    Smoothing draws the wrong logits of a row together, and with them goes what a student could learn of how
    an image resembles other classes.

    Args:
        temperature: T > 0.

    Raises:
        TypeError: the temperature is no number.
        ValueError: it is not positive and finite.

    Cost: the state is six numbers whatever the number of rows.

    Example:
        >>> teacher = Teacher()
        >>> teacher.update(torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([0]))
        >>> result = teacher.compute()
        >>> round(result.equivalent_smoothing, 4), round(result.wrong_information, 4), result.wrong_sd
        (0.4419, 0.3278, 1.0)

    Source: Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?", §4, for γ and the finding; the
    wrong information is ours.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        require_positive(temperature, "temperature")
        self.temperature = float(temperature)
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self._rows: Counts = np.zeros(1, np.int64)
        self._sums: Floats = np.zeros(5)  # of weights, then of w·x in the order of `_MEANS`

    def update(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> None:
        """Count rows of the teacher's logits; of probabilities p give log p.

        Args:
            logits: (…, K) floats, K ≥ 2; −inf is a class with probability 0.
            target: (…) integers in 0..K−1, or `ignore_index`.
            weight: (…) finite numbers ≥ 0, by which all means are weighted; rows of weight 0 do not count.
            ignore_index: rows with this target do not count.
            class_axis: of `logits`; 1 in maps (N, K, H, W) with targets (N, H, W).

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target or a weight is out of range, a logit is NaN or +inf,
                or all logits of a row are −inf.

        Cost: about six passes over the logits, 8 MB of them in float64 at a time.
        """
        rows, labels, weights = logit_rows(
            logits, target, weight, ignore_index=ignore_index, class_axis=class_axis
        )
        require_usable(rows.amax(-1), "logits")
        weights = weight_of_each(rows, weights).to(rows.device)
        num_classes = rows.shape[-1]
        wrong_classes = num_classes - 1
        for z, y, w in pieces(rows, labels.unsqueeze(-1), weights):
            x = z / self.temperature
            wrong = x.scatter(-1, y, -math.inf)
            log_mass = wrong.logsumexp(-1)
            # from the wrong classes' own sum, because 1 − p_y would lose its digits near 0
            smoothing = float(w @ (log_mass - x.logsumexp(-1)).exp()) * num_classes / wrong_classes
            information = math.log(wrong_classes) - torch.special.entr(wrong.softmax(-1)).sum(-1)
            information = float(w @ torch.where(log_mass > -math.inf, information, 0))
            # relative to the row's largest logit, so that a common offset costs no digits
            z = z - z.max(-1, keepdim=True).values
            at_label = z.gather(-1, y)
            mean = z.scatter(-1, y, 0).sum(-1, keepdim=True) / wrong_classes
            deviation = torch.where(z.isfinite(), z - mean, math.inf).scatter(-1, y, 0)
            wrong_sd = float(w @ (deviation.square().sum(-1) / wrong_classes).sqrt())
            logit_gap = float(w @ (at_label - mean).squeeze(-1))
            self._sums[1:] += [smoothing, information, wrong_sd, logit_gap]
        self._rows += rows.shape[0]
        self._sums[0] += float(weights.sum())

    def merge(self, other: Teacher) -> None:
        """Count the rows that `other` has counted.

        Raises:
            ValueError: the two temperatures differ.
        """
        require_same_options(self.options(), other.options())
        self._rows += other._rows
        self._sums += other._sums

    def options(self) -> str:
        """All that two measures must share to be merged, in words."""
        return f"temperature={self.temperature:g}"

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted, as arrays that sum."""
        return {"rows": self._rows.copy(), "sums": self._sums.copy()}

    def load(self, state: State) -> None:
        """Take the rows of a `state` in place of those counted here.

        Raises:
            ValueError: the arrays are not those of a state.
        """
        with unchanged_on_error(self):
            self.reset()
            load_arrays({"rows": self._rows, "sums": self._sums}, state, self.options())

    def compute(self) -> TeacherResult:
        """The means over all rows counted so far.

        Raises:
            ValueError: no row was counted.
        """
        if not self._rows.any():
            raise InputError("a teacher needs at least one row, got none")
        weight, *sums = self._sums.tolist()
        means = {name: total / weight for name, total in zip(_MEANS, sums, strict=True)}
        return TeacherResult(rows=int(self._rows[0]), **means)

    def values(self) -> dict[str, float]:
        """The numbers of `compute` that the catalogue knows."""
        result = self.compute()
        return {name: getattr(result, name) for name in _MEANS}


def equivalent_smoothing(
    teacher_logits: Array,
    target: Array,
    temperature: float = 1.0,
    *,
    weight: Array | None = None,
    ignore_index: int | None = None,
    class_axis: int = -1,
) -> float:
    """The ε of `ls.uniform` that takes as much mass off the label as a teacher at temperature T does.

    γ = mean (1 − p_y(T))·K/(K−1) over rows; of the logs of smoothed targets it is their ε.

    Args, Raises: as `Teacher` and its `update`; there is at least one row.

    Returns:
        γ in 0..K/(K−1).

    Cost: as `Teacher.update`.

    Example:
        >>> round(equivalent_smoothing(torch.tensor([[0.94, 0.03, 0.03]]).log(), torch.tensor([0])), 4)
        0.09

    Source: Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?", §4.
    """
    teacher = Teacher(temperature)
    teacher.update(teacher_logits, target, weight, ignore_index=ignore_index, class_axis=class_axis)
    return teacher.compute().equivalent_smoothing


def teacher_agreement(student_logits: Array, teacher_logits: Array, temperature: float = 1.0) -> Agreement:
    """Compare how a student and its teacher decide, and how far apart their probabilities are.

    KL(pᵗ(T)‖p(T)) = Σ_k pᵗ_k·(log pᵗ_k − log p_k) at temperature T, where 0·log 0 = 0.

    Args:
        student_logits: (…, K) floats; of probabilities p give log p.
        teacher_logits: (…, K) floats.
        temperature: T > 0, of both.

    Returns:
        `Agreement`, in float64; the share of agreeing rows does not depend on T.

    Raises:
        TypeError: an argument is no tensor or array of floats, or the temperature is no number.
        ValueError: the shapes differ, there is no row, K < 2, T is not positive and finite, a logit is NaN or
            +inf, or all logits of a row are −inf.

    Cost: about eight passes over the logits, 8 MB of them in float64 at a time.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> result = teacher_agreement(student, teacher)
        >>> result.agreement, round(result.kl, 4)
        (0.5, 0.2646)
    """
    require_positive(temperature, "temperature")
    student, teacher = (
        as_tensor(student_logits, "student_logits"),
        as_tensor(teacher_logits, "teacher_logits"),
    )
    for name, logits in (("student_logits", student), ("teacher_logits", teacher)):
        if logits.dtype not in FLOAT_DTYPES:
            raise InputTypeError(f"{name} must hold floating-point values, got {logits.dtype}")
    if student.shape != teacher.shape or student.dim() == 0 or student.shape[-1] < 2:
        raise InputError(
            "student_logits and teacher_logits must have one shape (…, K) with K ≥ 2, "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    num_classes = student.shape[-1]
    student, teacher = student.reshape(-1, num_classes), teacher.reshape(-1, num_classes).to(student.device)
    if len(student) == 0:
        raise InputError("an agreement needs at least one row, got none")
    require_usable(student.amax(-1), "student_logits")
    require_usable(teacher.amax(-1), "teacher_logits")
    same, kl = 0, 0.0
    for s, t in pieces(student, teacher):
        same += int((s.argmax(-1) == t.argmax(-1)).sum())
        log_p, log_q = ((x.double() / temperature).log_softmax(-1) for x in (t, s))
        p = log_p.exp()
        kl += float(torch.where(p > 0, p * (log_p - log_q), 0).sum())
    return Agreement(rows=len(student), agreement=same / len(student), kl=kl / len(student))
