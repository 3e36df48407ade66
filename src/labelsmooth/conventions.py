"""The published conventions of label smoothing, as two tables of formulas: of a softmax, and of sigmoids.

A convention is a pair of functions of (ε, K): what the target has on the label's class, and what it has on
each other class. All else is derived from these tables: the targets (`smoothing`), the closed forms
(`theory`) and the words. A new convention is one entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from labelsmooth.errors import InputError


class Formula(str):
    """A formula that is its own text: `Formula("ε/K")(0.1, 10)` is 0.01.

    Args:
        text: an expression in Python's syntax.
        variables: the names of its arguments, in order.
    """

    _variables: str
    _compute: Callable[..., Any]

    def __new__(cls, text: str, variables: str = "ε, K") -> Formula:
        formula = super().__new__(cls, text)
        formula._variables = variables
        formula._compute = eval(f"lambda {variables}: {text}")
        return formula

    def __call__(self, *values: Any) -> Any:
        return self._compute(*values)

    def __reduce__(self) -> tuple[type[Formula], tuple[str, str]]:
        return Formula, (str(self), self._variables)


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The target of an implementation, as formulas.

    Attributes:
        name: the implementation.
        same_as: the first name of those that smooth alike.
        on_class: q_y, the target on the label's class.
        on_other: q_k, the target on each other class; on the padding, where there is one, it is 0.
        mass: the sum of the target.
        eps: the ε at whose optimum the label's class misses the probability m = 1 − q_y/mass.
        uniform_eps: the ε of `uniform` with the same target for every K; None where there is none.
        needs_pad: True where a padding class is kept free of smoothing mass.

    Example:
        >>> fairseq = conventions()["fairseq"]
        >>> fairseq.on_other, fairseq.on_other(0.1, 11)
        ('ε/(K-1)', 0.01)
    """

    name: str
    same_as: str
    on_class: Formula
    on_other: Formula
    mass: Formula
    eps: Formula
    uniform_eps: Formula | None
    needs_pad: bool

    def num_others(self, num_classes: int) -> int:
        """The number of other classes that carry mass: K−1, or K−2 where one is the padding."""
        return num_classes - (2 if self.needs_pad else 1)

    def eps_for_miss(self, miss: float, num_classes: int) -> float:
        """The ε at whose optimum the label's class has the probability 1 − miss; +∞ where none has."""
        try:
            eps = float(self.eps(miss, num_classes))
        except ZeroDivisionError:
            return math.inf
        return eps if eps >= 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class BinaryConvention:
    """The targets that an implementation gives to sigmoids, one for each of K labels, as formulas.

    Attributes:
        name: the implementation.
        same_as: the first name of those that smooth alike.
        on_label: the target of a label that holds.
        off_label: the target of one that does not.
        half_eps: the ε of `half` with the same targets for every K; None where there is none.

    Example:
        >>> binary_conventions()["ultralytics"].on_label(0.1, 80)
        0.95
    """

    name: str
    same_as: str
    on_label: Formula
    off_label: Formula
    half_eps: Formula | None


def _entry(
    names: str,
    *,
    on_class: str,
    on_other: str,
    eps: str,
    mass: str = "1",
    uniform_eps: str | None = None,
    needs_pad: bool = False,
) -> dict[str, Convention]:
    """Return the convention under each of its names."""
    return {
        name: Convention(
            name=name,
            same_as=names.split()[0],
            on_class=Formula(on_class),
            on_other=Formula(on_other),
            mass=Formula(mass),
            eps=Formula(eps, "m, K"),
            uniform_eps=None if uniform_eps is None else Formula(uniform_eps, "ε"),
            needs_pad=needs_pad,
        )
        for name in names.split()
    }


_CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        **_entry(
            "torch timm fastai hf keras tensorflow optax paddle liger apex flash_attn",
            on_class="1-ε+ε/K",
            on_other="ε/K",
            eps="m*K/(K-1)",
            uniform_eps="ε",
        ),
        **_entry(
            "fairseq fairseq2 tensor2tensor t5x flax espnet megatron bag_of_tricks",
            on_class="1-ε",
            on_other="ε/(K-1)",
            eps="m",
        ),
        **_entry(
            "opennmt joeynmt annotated_transformer",
            on_class="1-ε",
            on_other="ε/(K-2)",
            eps="m",
            needs_pad=True,
        ),
        **_entry(
            "classy_vision",
            on_class="(1+ε/K)/(1+ε)",
            on_other="(ε/K)/(1+ε)",
            eps="m*K/(K-1-m*K)",
            uniform_eps="ε/(1+ε)",
        ),
        **_entry(
            "coincheung",
            on_class="1-ε",
            on_other="ε/K",
            mass="1-ε/K",
            eps="m*K/(K-1+m)",
        ),
        **_entry(
            "leaky",
            on_class="1",
            on_other="ε/K",
            mass="1+ε*(K-1)/K",
            eps="m*K/((1-m)*(K-1))",
        ),
    }
)


def _binary_entry(
    names: str, *, on_label: str, off_label: str, half_eps: str | None = None
) -> dict[str, BinaryConvention]:
    """Return the convention under each of its names."""
    return {
        name: BinaryConvention(
            name=name,
            same_as=names.split()[0],
            on_label=Formula(on_label),
            off_label=Formula(off_label),
            half_eps=None if half_eps is None else Formula(half_eps, "ε"),
        )
        for name in names.split()
    }


_BINARY_CONVENTIONS: Mapping[str, BinaryConvention] = MappingProxyType(
    {
        **_binary_entry(
            "half keras tensorflow yolov5 ultralytics", on_label="1-ε/2", off_label="ε/2", half_eps="ε"
        ),
        **_binary_entry(
            "full mmpretrain segmentation_models_pytorch", on_label="1-ε", off_label="ε", half_eps="2*ε"
        ),
        **_binary_entry("timm", on_label="1-ε+ε/K", off_label="ε/K"),
    }
)
# What this library calls two of the conventions of a softmax.
OWN_NAMES = MappingProxyType({"uniform": "torch", "others": "fairseq"})


def conventions() -> Mapping[str, Convention]:
    """The published conventions by name, read-only.

    Example:
        >>> conventions()["fairseq"].on_other
        'ε/(K-1)'
    """
    return _CONVENTIONS


def binary_conventions() -> Mapping[str, BinaryConvention]:
    """The published conventions of sigmoids by name, read-only.

    Example:
        >>> binary_conventions()["full"].off_label
        'ε'
    """
    return _BINARY_CONVENTIONS


# How a loss of preferences takes pairs that are labelled the wrong way round.
PreferenceKind: TypeAlias = Literal["conservative", "robust"]


def require_preference_kind(kind: str) -> None:
    """Raise `ValueError` for another kind."""
    if kind not in get_args(PreferenceKind):
        raise InputError(f"kind must be 'conservative' or 'robust', got {kind!r}")


def convention_of(name: str) -> Convention:
    """Return the convention of a name, also of "uniform" and "others"; `ValueError` for other names."""
    known = OWN_NAMES.get(name, name)
    if known not in _CONVENTIONS:
        expected = ", ".join([*OWN_NAMES, *sorted(_CONVENTIONS)])
        raise InputError(f"unknown convention {name!r}, expected one of {expected}")
    return _CONVENTIONS[known]
