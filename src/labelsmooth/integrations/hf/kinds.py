"""Which models of transformers can be smoothed, and what their logits are of."""

from __future__ import annotations

from typing import Literal

from transformers import PreTrainedModel
from transformers.loss.loss_utils import (
    ForCausalLMLoss,
    ForMaskedLMLoss,
    ForSequenceClassificationLoss,
    ForTokenClassification,
)

from labelsmooth.errors import InputError
from labelsmooth.integrations.hf.forwards import Forward

Kind = Literal["causal", "masked", "seq2seq", "classes"]
_CLASSIFIERS = tuple(f"For{what}Classification" for what in ("Sequence", "Token", "Image", "Video", "Audio"))
_LOSSES = {  # what `loss_function` may be, where a forward calls it
    "causal": (ForCausalLMLoss,),
    "masked": (ForMaskedLMLoss,),
    "seq2seq": (ForCausalLMLoss, ForMaskedLMLoss),  # the former of labels that are shifted already
    "classes": (ForSequenceClassificationLoss, ForTokenClassification),
}
_INSTEAD = "take its logits to labelsmooth.cross_entropy instead"


def kind_of(model: PreTrainedModel, forward: Forward) -> Kind:
    """Tell which tokens a model's logits predict.

    Raises:
        ValueError: its loss is something else than the cross-entropy of its logits and labels, so that the
            smoothed loss would leave something out.
    """
    name = type(model).__name__
    kind = _kind_of(model, forward)
    if forward.other_loss:
        raise InputError(f"{name} adds something to its loss (`{forward.other_loss}`); {_INSTEAD}")
    if forward.masks_labels:
        raise InputError(f"{name} leaves labels out of its loss (`{forward.masks_labels}`); {_INSTEAD}")
    if not forward.has_loss:
        raise InputError(f"{name} computes no loss from labels; {_INSTEAD}")
    if forward.calls_loss_function and model.loss_function not in _LOSSES[kind]:
        loss = getattr(model.loss_function, "__name__", model.loss_function)
        raise InputError(
            f"{name} has a loss_function of its own, {loss}, in whose place smoothing would be; {_INSTEAD}"
        )
    return kind


def _kind_of(model: PreTrainedModel, forward: Forward) -> Kind:
    name, config = type(model).__name__, model.config
    if name.endswith(_CLASSIFIERS):
        if config.problem_type not in (None, "single_label_classification") or (config.num_labels or 0) < 2:
            raise InputError(
                "label smoothing is of one label among several, got "
                f"{config.problem_type or 'regression'} with {config.num_labels} outputs"
            )
        return "classes"
    if model.get_output_embeddings() is None:  # type: ignore[no-untyped-call]
        raise InputError(f"{name} has no output embedding, and is no classifier; {_INSTEAD}")
    if name.endswith("ForMaskedLM"):
        return "masked"
    if config.is_encoder_decoder:
        return "seq2seq"
    if not forward.calls_loss_function:
        raise InputError(
            f"{name} has a loss of its own, beside which nothing is known of its labels; {_INSTEAD}"
        )
    return "causal"
