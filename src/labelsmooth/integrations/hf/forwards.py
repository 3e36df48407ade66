"""What the forward of a model says of its loss, its labels and its logits, read from its source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from labelsmooth.errors import InputError

ROUTER_FACTORS = ("router_aux_loss_coef", "aux_loss_coef")  # by which configs call that of the routers' loss
_CROSS_ENTROPIES = {
    "criterion",
    "cross_entropy",
    "loss_fct",
    "loss_fn",
    "loss_func",
    "loss_function",
    "mlm_loss_fct",
}
_ROUTER_LOSS = "load_balancing_loss_func"
_MASKING = {"masked_fill", "where"}

_Assignment = ast.Assign | ast.AnnAssign | ast.AugAssign


@dataclass(frozen=True)
class Forward:
    """What the source says; statements are quoted, and empty where there is none."""

    has_loss: bool  # a cross-entropy, or that of a model within
    calls_loss_function: bool  # `self.loss_function`, which the config chooses and a user may set
    other_loss: str  # makes the loss more than a cross-entropy and the known loss of routers
    masks_labels: str  # leaves labels out of the loss by more than that they are ignored
    picks_classes: bool  # leaves out or changes logits of some classes
    shifts_labels: bool  # feeds the decoder from labels


def read_forward(kind: type[nn.Module]) -> Forward:
    """Read the forward of a model's class, and those of its bases, which it may call.

    Raises:
        ValueError: the source is not there.
    """
    try:
        nodes = [node for source in _sources(kind) for node in ast.walk(ast.parse(source))]
    except OSError as error:
        raise InputError(
            f"the source of {kind.__name__} cannot be read, which tells what its loss is of"
        ) from error
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    losses = [call for call in calls if _name(call.func) in _CROSS_ENTROPIES]
    assigned = [node for node in nodes if isinstance(node, _Assignment) and node.value is not None]
    return Forward(
        has_loss=bool(losses)
        or any(isinstance(node, ast.Attribute) and node.attr == "loss" for node in nodes),
        calls_loss_function=any(ast.unparse(call.func) == "self.loss_function" for call in losses),
        other_loss=_first(
            [node for node in assigned if "loss" in _target(node) and not _is_known_loss(node)]
            + [call for call in calls if _name(call.func) == "CrossEntropyLoss" and _has_options(call)]
        ),
        masks_labels=_first(
            [node for node in assigned if "label" in _target(node) and _name_called(node.value) in _MASKING]
            + [call for call in losses if _picks(call)]
        ),
        picks_classes=any(_is_of_classes(node) for node in nodes),
        shifts_labels=any(
            _target(node) == "decoder_input_ids"
            and isinstance(node.value, ast.Call)
            and _takes_labels(node.value)
            for node in assigned
        ),
    )


def _sources(kind: type[nn.Module]) -> Iterator[str]:
    for base in kind.__mro__:
        if "forward" in vars(base) and base is not nn.Module:
            yield textwrap.dedent(inspect.getsource(inspect.unwrap(vars(base)["forward"])))


def _first(nodes: list[Any]) -> str:
    return ast.unparse(nodes[0]) if nodes else ""


def _name(node: ast.AST | None) -> str:
    """Give the last name of `a`, `b.a` and `b.a[…]`."""
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _name_called(node: ast.AST | None) -> str:
    return _name(node.func) if isinstance(node, ast.Call) else ""


def _target(node: _Assignment) -> str:
    """Give the name that is assigned to, or the names."""
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return " ".join(map(_name, target.elts)) if isinstance(target, ast.Tuple) else _name(target)


def _is_known_loss(node: _Assignment) -> bool:
    """Tell whether a loss is a cross-entropy, one handed on, or that of routers with a known factor."""
    value = node.value
    assert value is not None
    if isinstance(node, ast.AugAssign):
        return (
            isinstance(node.op, ast.Add)
            and isinstance(value, ast.BinOp)
            and _name(value.left) in ROUTER_FACTORS
            and "aux_loss" in ast.unparse(value.right)
        )
    if isinstance(value, ast.Name | ast.Attribute):
        return True
    if _name_called(value) in {*_CROSS_ENTROPIES, _ROUTER_LOSS}:
        return True
    return not any("loss" in _name(part) for part in ast.walk(value))  # a criterion, a number


def _has_options(call: ast.Call) -> bool:
    return bool(call.args) or any(ast.unparse(option) != "ignore_index=-100" for option in call.keywords)


def _picks(call: ast.Call) -> bool:
    """Tell whether some of the logits and labels of a loss are picked, as in `labels.view(-1)[mask]`."""
    arguments = [*call.args, *(option.value for option in call.keywords)]
    return any(
        isinstance(part, ast.Subscript) and _name(part.value) != "shape"
        for argument in arguments
        for part in ast.walk(argument)
    )


def _is_of_classes(node: ast.AST) -> bool:
    """Tell whether a node picks logits along their last axis, as in `logits[..., :size]`."""
    if not (
        isinstance(node, ast.Subscript) and "logits" in _name(node) and isinstance(node.slice, ast.Tuple)
    ):
        return False
    *before, last = node.slice.elts
    whole = isinstance(last, ast.Slice) and last.lower is last.upper is None
    return not whole and (len(before) == 2 or any(ast.unparse(axis) == "..." for axis in before))


def _takes_labels(call: ast.Call) -> bool:
    first = [*call.args[:1], *(option.value for option in call.keywords if option.arg == "labels")]
    return any(_name(argument) == "labels" for argument in first)
