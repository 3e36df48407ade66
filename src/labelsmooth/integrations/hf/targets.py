"""The target of each place of which a model predicts one, from the labels that it is called with."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import slice_logits_to_keep

from labelsmooth.checks import as_classes
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.integrations.hf.state import SmoothingState

IGNORED = -100  # the label of tokens that do not count, in all of transformers
_DECODER_INPUTS = ("decoder_input_ids", "decoder_inputs_embeds")


def take_target(model: Any, smoothing: SmoothingState, kwargs: dict[str, Any]) -> Tensor:
    """Take the labels from the arguments of a call, and give the target of each place that predicts one."""
    labels, shift_labels = (_taken(kwargs, name) for name in ("labels", "shift_labels"))
    if smoothing.kind == "causal":
        if shift_labels is None:
            assert labels is not None
            shift_labels = nn.functional.pad(labels, (0, 1), value=IGNORED)[..., 1:]
        return _kept(shift_labels, kwargs.get("logits_to_keep", 0))
    if labels is None:
        raise InputError("shift_labels go with causal language models")
    if smoothing.kind == "seq2seq":
        kwargs.setdefault("use_cache", False)
        if all(kwargs.get(name) is None for name in _DECODER_INPUTS):
            kwargs["decoder_input_ids"] = _decoder_input_ids(model, smoothing, labels)
    return labels


def _taken(kwargs: dict[str, Any], name: str) -> Tensor | None:
    labels = kwargs.pop(name, None)
    if isinstance(labels, Tensor) and labels.is_floating_point():
        raise InputError(
            "label smoothing is of one label among several, got labels that are no whole numbers"
        )
    return None if labels is None else as_classes(labels, name)


def at_places(target: Tensor, places: tuple[int, ...]) -> Tensor:
    """Give a target in the shape of the places that predict one, or refuse it."""
    places = tuple(places)
    if target.shape == (*places, 1):  # as collators make the label of a whole input
        target = target.squeeze(-1)
    if target.shape != places:
        raise InputError(
            f"labels must have the shape {places} of what is predicted, got {tuple(target.shape)}"
        )
    return target


def _kept(target: Tensor, kept: Any) -> Tensor:
    """Give the target (batch, tokens) of the places whose logits are made."""
    if target.dim() != 2:
        raise InputError(f"labels must have the shape (batch, tokens), got {tuple(target.shape)}")
    if not isinstance(kept, int | Tensor):
        raise InputTypeError(f"logits_to_keep must be a whole number or a tensor, got {type(kept).__name__}")
    return slice_logits_to_keep(target.unsqueeze(-1), kept).squeeze(-1)


def _decoder_input_ids(model: Any, smoothing: SmoothingState, labels: Tensor) -> Tensor | None:
    """Shift labels to the right, as the model does itself where it is given labels alone."""
    if not smoothing.shifts_labels:
        return None
    ids: Tensor
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        ids = model.prepare_decoder_input_ids_from_labels(labels=labels)
    else:
        shift = sys.modules[type(model).__module__].shift_tokens_right
        ids = shift(labels, model.config.pad_token_id, model.config.decoder_start_token_id)
    return ids
