"""The smoothing of a model of transformers, by a subclass that is made for it."""

from __future__ import annotations

import functools
import inspect
from typing import Any, NoReturn, TypeVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from labelsmooth.backends import BackendName
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.integrations.hf.forwards import ROUTER_FACTORS, read_forward
from labelsmooth.integrations.hf.head import loss_of, loss_through_head
from labelsmooth.integrations.hf.kinds import kind_of
from labelsmooth.integrations.hf.state import SmoothingState, base_of
from labelsmooth.integrations.hf.targets import take_target
from labelsmooth.losses import CrossEntropyLoss, Denominator
from labelsmooth.smoothing import Smoothing

M = TypeVar("M", bound=nn.Module)


def smooth(
    model: M,
    label_smoothing: float | Smoothing,
    *,
    weight: Tensor | None = None,
    z_loss: float = 0.0,
    chunk_rows: int | None = None,
    backend: BackendName = "auto",
) -> M:
    """Make a model of transformers train with label smoothing.

    Args:
        model: a causal or masked language model, one that translates, captions or transcribes
            (`…ForConditionalGeneration`), or a classifier (`…ForSequenceClassification`, `…ForToken…`,
            `…ForImage…`, `…ForVideo…`, `…ForAudioClassification`); or a PEFT model of one. Before it goes
            into a trainer, DDP, FSDP2 or `torch.compile`.
        label_smoothing: ε of `uniform` in [0, 1], or a `Smoothing`.
        weight: (K,) class weights.
        z_loss: ≥ 0, the factor on the squared log-partition.
        chunk_rows: tokens whose logits exist at a time, as in `linear_cross_entropy`.
        backend: as in `cross_entropy`.

    Returns:
        The same model. In training mode its output for labels has `loss`, with the model's own loss of its
        routers where it has one, and of a language model no `logits`. `labels`, `shift_labels`,
        `num_items_in_batch` and `logits_to_keep` mean what they mean to transformers. It can be copied, and
        saved by `save_pretrained` or as its state, but not pickled whole. Another `smooth` replaces the
        smoothing; `smooth(model, 0.0)` takes it away, as that is the model's own loss.

    Raises:
        TypeError: not a model of transformers.
        ValueError: the model has a loss of its own that this would change (regression, several labels,
            unshifted labels of a causal decoder, masks, terms beside the cross-entropy, a `loss_function`
            that was set); an ε out of range. When called: labels of another shape than what is predicted.
        RuntimeError: under `nn.DataParallel`; where something replaces the model's forward or its
            `loss_function` afterwards, as trainers of TRL do; where a loss is made of its logits in training,
            as by a trainer's `label_smoothing_factor` or `compute_loss_func`, and the backward pass begins.

    Cost: as `linear_cross_entropy`. Where the head is more than a linear layer (LoRA, quantised weights), or
        the model does something to its logits that is not known, these are made, and a warning says so.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 50}
        >>> model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2))
        >>> ids = torch.tensor([[3, 1, 4, 1, 5]])
        >>> smooth(model, 0.1).train()(input_ids=ids, labels=ids).loss.shape
        torch.Size([])

    Source: Liger Kernel patches the forward likewise; `LabelSmoother` of transformers makes full logits, and
        smooths the evaluation loss too.
    """
    inner = base_of(model)
    if not isinstance(inner, PreTrainedModel):
        raise InputTypeError(f"model must be one of transformers, got {type(model).__name__}")
    smoothed = "_label_smoothing" in vars(type(inner))
    if "forward" in vars(inner) and not smoothed:
        raise InputError(
            "the forward of this model was replaced, as trainers and device_map do; smooth it before a "
            "trainer, and without device_map, or train by labelsmooth.integrations.trl.SmoothedSFTTrainer"
        )
    options: dict[str, Any] = {
        "label_smoothing": label_smoothing,
        "weight": weight,
        "z_loss": z_loss,
        "backend": backend,
    }
    CrossEntropyLoss(**options)  # which checks them
    kind: Any = type(inner).__mro__[1] if smoothed else type(inner)
    source = read_forward(kind)
    smoothing = SmoothingState(
        kind_of(inner, source), options, chunk_rows, kind.forward, source.shifts_labels
    )
    if source.picks_classes and smoothing.kind != "classes":
        smoothing.use_logits(f"{kind.__name__} leaves out or changes logits of some classes")
    earlier: Any = inner._label_smoothing if smoothed else None
    if earlier is not None:
        smoothing.observers = earlier.observers
    if not smoothed:
        inner.__class__ = _subclass_of(kind)
    inner._label_smoothing = smoothing  # type: ignore[assignment]
    return model


def _subclass_of(kind: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Make the class of a smoothed model; another model that is made of it is not smoothed."""

    @functools.wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._label_smoothing is None:
            return kind.forward(self, *args, **kwargs)
        return _forward(self, self._label_smoothing, *args, **kwargs)

    return type(
        kind.__name__,
        (kind,),
        {
            "__module__": kind.__module__,
            "_label_smoothing": None,
            "forward": forward,
            "__setattr__": _set_attribute,
            "_replicate_for_data_parallel": _refuse_data_parallel,
        },
    )


def _forward(self: Any, smoothing: SmoothingState, *args: Any, **kwargs: Any) -> Any:
    """Compute the output as ever, and in training mode the smoothed loss where there are labels."""
    if args:  # labels may be among them
        kwargs = inspect.signature(smoothing.forward).bind(self, *args, **kwargs).arguments
        del kwargs["self"]
        kwargs |= kwargs.pop("kwargs", {})
    if not self.training or (kwargs.get("labels") is None and kwargs.get("shift_labels") is None):
        output = smoothing.forward(self, **kwargs)
        if self.training:
            logits = output[0] if isinstance(output, tuple) else output.logits
            if logits.requires_grad:
                logits.register_hook(_refuse_other_loss)
        return output
    return_dict = kwargs.pop("return_dict", None)
    output, loss = call_with_loss(self, **kwargs)
    if output.get("aux_loss") is not None:
        loss = loss + _router_factor(self) * output.aux_loss.to(loss.device)
    logits = output.logits if smoothing.kind == "classes" else None
    output = type(output)(**(dict(output) | {"loss": loss, "logits": logits}))
    if return_dict is None:
        return_dict = self.config.return_dict
    return output if return_dict else output.to_tuple()


def call_with_loss(
    model: Any, *, num_items_in_batch: Denominator = None, **kwargs: Any
) -> tuple[Any, Tensor]:
    """Call a smoothed model with labels, and give its output without them, and the smoothed loss."""
    smoothing: SmoothingState = model._label_smoothing
    target = take_target(model, smoothing, kwargs)
    call = functools.partial(smoothing.forward, model, **kwargs | {"return_dict": True})
    if smoothing.kind != "classes" and not smoothing.unfused:
        fused = loss_through_head(model, smoothing, call, target, num_items_in_batch)
        if fused is not None:
            return fused
    output = call()
    loss, stats = loss_of(smoothing, output.logits, target, num_items_in_batch)
    smoothing.observe(stats)
    return output, loss


def _router_factor(model: Any) -> float:
    """Give the factor by which a model adds the loss of its routers."""
    for config in (model.config, model.config.get_text_config()):
        for name in ROUTER_FACTORS:
            if hasattr(config, name):
                return float(getattr(config, name))
    raise RuntimeError(f"{type(model).__name__} has a loss of its routers, and no known factor on it")


def _set_attribute(self: Any, name: str, value: Any) -> None:
    """Set an attribute, but no forward that leaves out ours: a wrapped one says what it wraps."""
    if name == "loss_function":
        raise RuntimeError("the loss_function of a smoothed model was to be replaced, which it does not call")
    if name == "forward":
        function = getattr(value, "__func__", value)
        while function is not type(self).forward:
            if not hasattr(function, "__wrapped__"):
                raise RuntimeError(
                    "the forward of a smoothed model was to be replaced by another, as Liger Kernel does, "
                    "and the smoothing with it"
                )
            if "labels" in inspect.signature(function, follow_wrapped=False).parameters:
                raise RuntimeError(
                    "the forward of a smoothed model was to be wrapped in one that takes the labels itself, "
                    "as TRL's trainers do; give labelsmooth.integrations.trl.SmoothedSFTTrainer a model "
                    "that is not smoothed"
                )
            function = getattr(function.__wrapped__, "__func__", function.__wrapped__)
    nn.Module.__setattr__(self, name, value)


def _refuse_other_loss(_: Tensor) -> NoReturn:
    raise RuntimeError(
        "a loss was made of the logits of a smoothed model, which smooths its own; call it with labels, "
        "without label_smoothing_factor and compute_loss_func, or do not smooth it"
    )


def _refuse_data_parallel(_: Any) -> NoReturn:
    raise RuntimeError(
        "a smoothed model cannot be replicated by nn.DataParallel; use DistributedDataParallel"
    )
