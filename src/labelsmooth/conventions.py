"""The published conventions of label smoothing, as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from labelsmooth.checks import PerRow
from labelsmooth.errors import InputError
from labelsmooth.smoothing import OntoOthers, Smoothing, as_eps, others, uniform


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How one implementation smooths: what stands on the class and on each other class of the target."""

    name: str
    same_as: str  # the first name of those that smooth alike
    on_class: str
    on_other: str
    mass: str  # the sum of the target
    needs_pad: bool = False


def _classy_vision(eps: PerRow) -> Smoothing:
    checked = as_eps(eps)
    return uniform(checked / (1 + checked))


def _coincheung(eps: PerRow) -> Smoothing:
    return OntoOthers(eps=as_eps(eps), kind="coincheung")


def _leaky(eps: PerRow) -> Smoothing:
    return OntoOthers(eps=as_eps(eps), kind="leaky")


# (names, on the class, on each other class, sum, the maker, whether the pad id is needed)
_TABLE: tuple[tuple[str, str, str, str, Callable[[PerRow], Smoothing], bool], ...] = (
    (
        "torch timm fastai hf keras tensorflow optax paddle liger apex flash_attn",
        "1-ε+ε/K",
        "ε/K",
        "1",
        uniform,
        False,
    ),
    (
        "fairseq fairseq2 tensor2tensor t5x flax espnet megatron bag_of_tricks",
        "1-ε",
        "ε/(K-1)",
        "1",
        others,
        False,
    ),
    ("opennmt joeynmt annotated_transformer", "1-ε", "ε/(K-2), 0 on pad", "1", others, True),
    ("classy_vision", "(1+ε/K)/(1+ε)", "(ε/K)/(1+ε)", "1", _classy_vision, False),
    ("coincheung", "1-ε", "ε/K", "1-ε/K", _coincheung, False),
    ("leaky", "1", "ε/K", "1+ε(K-1)/K", _leaky, False),
)
_CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        name: Convention(
            name=name, same_as=names.split()[0], on_class=on, on_other=other, mass=mass, needs_pad=pad
        )
        for names, on, other, mass, _, pad in _TABLE
        for name in names.split()
    }
)
_MAKERS = {name: maker for names, *_, maker, _ in _TABLE for name in names.split()}


def conventions() -> Mapping[str, Convention]:
    """The published conventions by name, read-only.

    Example:
        >>> conventions()["fairseq"].on_other
        'ε/(K-1)'
    """
    return _CONVENTIONS


def as_markdown() -> str:
    """The page docs/conventions.md: a row for each way of smoothing, with all names that smooth so."""
    lines = [
        "# Conventions",
        "",
        "What an ε means in the implementations that `ls.convention(name, eps)` knows: the target on the",
        "class and on each other of K classes, and its sum. Names in one row smooth alike.",
        "",
        "| names | on the class | on each other class | sum | needs `pad` |",
        "|---|---|---|---|---|",
    ]
    for names, on, other, mass, _, pad in _TABLE:
        shown = ", ".join(f"`{name}`" for name in names.split())
        lines.append(f"| {shown} | {on} | {other} | {mass} | {'yes' if pad else 'no'} |")
    return "\n".join(lines) + "\n"


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
        >>> import torch
        >>> convention("annotated_transformer", 0.4, pad=0)(torch.tensor([2]), 4).dense(4)
        tensor([[0.0000, 0.2000, 0.6000, 0.2000]], dtype=torch.float64)

    Source: the implementations of these names. The constants that some add to the loss (KL forms) are
    `theory.entropy_floor`.
    """
    if name not in _CONVENTIONS:
        raise InputError(f"unknown convention {name!r}, expected one of {', '.join(sorted(_CONVENTIONS))}")
    if _CONVENTIONS[name].needs_pad and pad is None:
        raise InputError(f"the convention {name} needs the padding class, got pad=None")
    if not _CONVENTIONS[name].needs_pad and pad is not None:
        raise InputError(f"the convention {name} has no padding class, got pad={pad}")
    smoothing = _MAKERS[name](eps)
    return smoothing if pad is None else smoothing.exclude([pad])
