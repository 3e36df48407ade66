"""The makers of smoothings."""

from __future__ import annotations

from torch import Tensor

from labelsmooth.checks import PerRow, require, require_tensor
from labelsmooth.conventions import convention_of, conventions
from labelsmooth.errors import InputError
from labelsmooth.smoothing.rule import Smoothing
from labelsmooth.smoothing.rules import OntoOthers, TowardsPrior
from labelsmooth.smoothing.values import as_distributions, as_eps, first_value


def uniform(eps: PerRow, *, signed: bool = False) -> Smoothing:
    """Smoothing towards the uniform distribution, q = (1−ε)·δ + ε/K on every class.

    What a plain `label_smoothing=eps` means here and in torch.

    Args:
        eps: ε in [0, 1], a number, or a tensor, array or list of one value per row, (…) or (…, 1).
        signed: allow ε < 0, generalised label smoothing, whose targets lie beyond the one-hot label. The loss
            then has no floor and no optimum, so `theory` has nothing on it; its paper trains with ε = 0 for
            some epochs first where labels are very noisy.

    Returns:
        A `Smoothing` whose targets sum to 1.

    Raises:
        TypeError: `eps` is neither a number nor a floating-point tensor.
        ValueError: ε outside its range.

    Example:
        >>> uniform(0.1)(torch.tensor([1]), 4).dense(4)
        tensor([[0.0250, 0.9250, 0.0250, 0.0250]])

    Source: Szegedy et al. 2016, Rethinking the Inception Architecture, §7. Signed: Wei et al. 2022, To Smooth
    or Not? torch takes a negative ε silently for 0; here it raises unless `signed`.
    """
    return TowardsPrior(eps=as_eps(eps, signed=signed))


def others(eps: PerRow) -> Smoothing:
    """Smoothing over the other classes, q = 1−ε on the class and ε/(K−1) on each other class.

    The convention of fairseq, tensor2tensor and *Bag of Tricks*; equal to `uniform(ε·K/(K−1))`.

    Args:
        eps: ε in [0, 1], a number, or one per row as for `uniform`.

    Returns:
        A `Smoothing` whose targets sum to 1.

    Raises:
        TypeError, ValueError: as `uniform`.

    Example:
        >>> others(0.3)(torch.tensor([1]), 4).dense(4)
        tensor([[0.1000, 0.7000, 0.1000, 0.1000]])

    Source: He et al. 2019, Bag of Tricks for Image Classification, §5.2.
    """
    return OntoOthers(eps=as_eps(eps), convention=convention_of("others"))


def prior(eps: PerRow, p: Tensor) -> Smoothing:
    """Smoothing towards a given distribution over the classes, q = (1−ε)·δ + ε·p.

    Args:
        eps: ε in [0, 1], a number, or one per row as for `uniform`.
        p: (K,) non-negative, summing to 1, e.g. `unigram(counts)`.

    Returns:
        A `Smoothing` whose targets sum to 1.

    Raises:
        TypeError, ValueError: as `uniform`; or `p` is no distribution.

    Example:
        >>> prior(0.5, torch.tensor([0.5, 0.5, 0.0]))(torch.tensor([2]), 3).dense(3)
        tensor([[0.2500, 0.2500, 0.5000]])

    Source: Pereyra et al. 2017, Regularizing Neural Networks by Penalizing Confident Output Distributions,
    §3.2 (unigram smoothing).
    """
    return TowardsPrior(eps=as_eps(eps), prior=as_distributions(p, dim=1, name="prior"))


def class_conditional(eps: PerRow, table: Tensor) -> Smoothing:
    """Smoothing towards a distribution of each label's own, q = (1−ε)·δ_y + ε·S[y].

    Args:
        eps: ε in [0, 1], a number, or one per row as for `uniform`.
        table: S, (K, K) non-negative; row y, summing to 1, is where the mass of label y goes.

    Returns:
        A `Smoothing` whose targets sum to 1.

    Raises:
        TypeError, ValueError: as `uniform`; or `table` is not square, or a row is no distribution.

    Example:
        >>> S = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
        >>> class_conditional(0.2, S)(torch.tensor([1]), 3).dense(3)
        tensor([[0.1000, 0.8000, 0.1000]])

    Source: Zhang et al. 2021, Delving Deep into Label Smoothing (online smoothing); Bertinetto et al. 2020,
    Making Better Mistakes (hierarchical).
    """
    table = as_distributions(table, dim=2, name="class-conditional table")
    if table.shape[0] != table.shape[1]:
        raise InputError(f"a class-conditional table must be square (K, K), got {tuple(table.shape)}")
    return TowardsPrior(eps=as_eps(eps), prior=table)


def convention(name: str, eps: PerRow, pad: int | None = None) -> Smoothing:
    """The smoothing that a published implementation applies at its ε.

    Args:
        name: one of `conventions()`.
        eps: ε in [0, 1] as that implementation takes it; a number, or one per row as for `uniform`.
        pad: the padding class, for those that keep it free of smoothing mass (`needs_pad`). It keeps its
            logit in the softmax; pass it as the loss's `ignore_index` too, to drop the rows it labels.

    Returns:
        A `Smoothing`. Those of coincheung and leaky do not sum to 1.

    Raises:
        TypeError, ValueError: as `uniform`; an unknown name; a pad missing, or one that is not used.

    Example:
        >>> convention("annotated_transformer", 0.4, pad=0)(torch.tensor([2]), 4).dense(4)
        tensor([[0.0000, 0.2000, 0.6000, 0.2000]], dtype=torch.float64)

    Source: the implementations of these names. The constants that some add to the loss (KL forms) are
    `theory.entropy_floor`.
    """
    known = conventions()
    if name not in known:
        raise InputError(f"unknown convention {name!r}, expected one of {', '.join(sorted(known))}")
    record = known[name]
    if record.needs_pad and pad is None:
        raise InputError(f"the convention {name} needs the padding class, got pad=None")
    if not record.needs_pad and pad is not None:
        raise InputError(f"the convention {name} has no padding class, got pad={pad}")
    if record.uniform_eps is not None:
        return uniform(record.uniform_eps(as_eps(eps)))
    smoothing = OntoOthers(eps=as_eps(eps), convention=record)
    return smoothing if pad is None else smoothing.exclude([pad])


def unigram(counts: Tensor) -> Tensor:
    """The class frequencies, counts/Σcounts, as a distribution for `prior`.

    Args:
        counts: (K,) non-negative with a positive sum, e.g. how often each class or token occurs.

    Returns:
        (K,) in float64.

    Raises:
        ValueError: `counts` is not one row, or holds a negative or no positive value.

    Example:
        >>> unigram(torch.tensor([6, 3, 1]))
        tensor([0.6000, 0.3000, 0.1000], dtype=torch.float64)
    """
    require_tensor(counts, "counts")
    if counts.dim() != 1 or counts.shape[0] < 2:
        raise InputError(f"counts must have shape (K,) with K ≥ 2, got {tuple(counts.shape)}")
    counts = counts.double()
    valid = (counts >= 0) & counts.isfinite()
    require(valid, lambda: f"counts must be finite and not negative, got {first_value(counts[~valid])}")
    total = counts.sum()
    require(total > 0, lambda: "counts must have a positive sum, got 0")
    return counts / total


def as_smoothing(label_smoothing: float | Smoothing) -> Smoothing:
    """Return a `label_smoothing` argument as a `Smoothing`; a plain number means `uniform`."""
    return label_smoothing if isinstance(label_smoothing, Smoothing) else uniform(label_smoothing)
