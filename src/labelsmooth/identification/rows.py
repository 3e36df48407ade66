"""The linear form of a loss: Σ_n A_n·lse(z_n) − B_n·z_n, measured from its gradients.

A cross-entropy of a softmax has the gradient A·p − B with A = s·M and B = s·q, and differences between
gradients at several logits give A, then B, without any guess. Of sigmoids the same holds of each label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from labelsmooth.identification.subject import Subject, slope, usual_logits


@dataclass(frozen=True)
class Term:
    """A part of a loss that knows no label: (…, N, K) to (…, N, 1), or to (…, N, K) for sigmoids."""

    name: str
    value: Callable[[Tensor], Tensor]

    def gradient(self, logits: Tensor) -> Tensor:
        """The gradient of its sum."""
        leaf = logits.detach().clone().requires_grad_()
        (grad,) = torch.autograd.grad(self.value(leaf).sum(), leaf)
        return grad


def _negative_entropy(z: Tensor) -> Tensor:
    return (z.softmax(-1) * z.log_softmax(-1)).sum(-1, keepdim=True)


SOFTMAX = Term("softmax", lambda z: z.logsumexp(-1, keepdim=True))
SIGMOID = Term("sigmoid", softplus)
# What is added to cross-entropies on purpose.
ADDED = (
    Term("z-loss", lambda z: z.logsumexp(-1, keepdim=True) ** 2),
    Term("confidence penalty", _negative_entropy),
    Term("mean of squared logits", lambda z: (z**2).mean(-1, keepdim=True)),
)


@dataclass(frozen=True)
class Rows:
    """A loss of some rows with their labels, as a linear form.

    Attributes:
        logits: (L, N, K) where it was measured.
        labels: (N,) or dense (N, K).
        terms: lse or softplus, and what is added.
        factors: one (N, 1) or (N, K) for each term; the first is A.
        target: (N, K), B.
        constant: what the value has beside that, over all rows.
        residual: the largest error of a gradient over the largest gradient.
        value_residual: the largest error of a value, over the same.
    """

    logits: Tensor
    labels: Tensor
    terms: tuple[Term, ...]
    factors: tuple[Tensor, ...]
    target: Tensor
    constant: float
    residual: float
    value_residual: float

    @property
    def partition(self) -> Tensor:
        """A, (N, 1) or (N, K)."""
        return self.factors[0]

    @property
    def mass(self) -> Tensor:
        """A summed up for each row, (N,)."""
        return self.partition.sum(-1)

    @property
    def counted(self) -> Tensor:
        """(N,) Which rows have a part in the loss."""
        parts = torch.cat([self.partition, self.target], dim=-1).abs().amax(-1)
        return parts > 1e-3 * parts.max()

    def value(self, logits: Tensor) -> float:
        """The definition: the value at other logits (N, K); classes of no share may have a logit of −inf."""
        return float(self.values(logits).sum()) + self.constant

    def values(self, logits: Tensor) -> Tensor:
        """The definition of each row, without the constant, (N,)."""
        logits = logits.double()
        form = sum(
            (factor * term.value(logits) for term, factor in zip(self.terms, self.factors, strict=True)),
            torch.zeros(()),
        )
        share = torch.where(self.target.abs() > 1e-9 * self.target.abs().max(), self.target, 0.0)
        return form.sum(-1) - torch.where(share == 0, 0.0, share * logits).sum(-1)

    def gradient(self, logits: Tensor) -> Tensor:
        """The gradient at other logits, (N, K)."""
        slopes = (
            factor * term.gradient(logits.double())
            for term, factor in zip(self.terms, self.factors, strict=True)
        )
        return sum(slopes, torch.zeros(())) - self.target


def measure_rows(
    subject: Subject, labels: Tensor, num_classes: int, terms: Sequence[Term] = (SOFTMAX,)
) -> Rows:
    """Measure the linear form of the rows of these labels.

    Raises:
        CallFailed: a call did.
    """
    logits = usual_logits(len(labels), num_classes)
    answers = [subject.call(z, labels) for z in logits]
    grads = torch.stack([answer.grad for answer in answers])
    slopes = [term.gradient(logits) for term in terms]
    factors = _factors(grads, slopes, terms[0] is SIGMOID)
    fitted = sum((f * g for f, g in zip(factors, slopes, strict=True)), torch.zeros(())) - grads
    target = fitted.mean(0)
    scale = float(grads.abs().max()) or 1.0
    rows = Rows(
        logits=logits,
        labels=labels,
        terms=tuple(terms),
        factors=factors,
        target=target,
        constant=0.0,
        residual=float((fitted - target).abs().max()) / scale,
        value_residual=0.0,
    )
    constants = torch.tensor(
        [answer.total - rows.value(z) for answer, z in zip(answers, logits, strict=True)]
    )
    size = max(1e-300, max(abs(answer.total) for answer in answers))
    constant = float(constants.mean())
    return Rows(
        **{
            **vars(rows),
            "constant": constant,
            "value_residual": float((constants - constant).abs().max()) / size,
        }
    )


def slopes_of(
    subject: Subject, labels: Tensor, num_classes: int, shorter: float = 1.0
) -> tuple[float, float]:
    """Along one direction: what the gradient says, and what the values do in a step so much shorter.

    Raises:
        CallFailed: a call did.
    """
    logits = usual_logits(len(labels), num_classes)
    logits += 0.1 * torch.arange(logits.numel()).view_as(logits).sin()  # no two rows alike, as at a kink
    step = subject.step / shorter * (logits[1] - logits[2]).sign()
    grad = subject.call(logits[0], labels).grad
    size = float(step.norm())
    return float((grad * step).sum()) / size, slope(subject, logits[0], labels, step) / size


def _factors(grads: Tensor, slopes: Sequence[Tensor], by_label: bool) -> tuple[Tensor, ...]:
    """Least squares on what differs between the logits, for each row, or each label of sigmoids."""
    left = torch.stack([slope - slope.mean(0) for slope in slopes], dim=-1)  # (L, N, K, T)
    right = (grads - grads.mean(0)).unsqueeze(-1)
    if by_label:
        left, right = left.permute(1, 2, 0, 3), right.permute(1, 2, 0, 3)  # (N, K, L, ·)
    else:
        left, right = (x.transpose(0, 1).flatten(1, 2) for x in (left, right))  # (N, L·K, ·)
    factors = torch.linalg.lstsq(left, right).solution.squeeze(-1)  # (N, T) or (N, K, T)
    return tuple(factor if by_label else factor.unsqueeze(-1) for factor in factors.unbind(-1))
