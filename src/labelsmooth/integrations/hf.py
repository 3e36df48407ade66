"""Label smoothing in the training of models of the library transformers, by one line.

`smooth(model, 0.1)` makes `model(…, labels=…)` in training mode return the smoothed loss, of a language model
by the fused linear loss, without logits; in evaluation mode all stays as it was, so that an evaluation loss
is the plain NLL. Any trainer that calls the model with labels trains with it: that of transformers,
accelerate, a loop of one's own; under DDP and FSDP2, with accumulation, packing, checkpointing, LoRA and
mixed precision.

How: the class of the model is replaced by one that holds the labels back, and for the time of a call the
output embedding computes the loss where it would have made the logits. Since the loss leaves the model by way
of that module, hooks of FSDP2 on modules see it.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from labelsmooth.backends import BackendName
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.extras import needs_extra
from labelsmooth.losses import Cap, CrossEntropyLoss, Denominator, cross_entropy, linear_cross_entropy
from labelsmooth.measure import Calibration
from labelsmooth.row_stats import RowStats
from labelsmooth.smoothing import Smoothing

with needs_extra("transformers", tested="transformers 5.24.0"):
    from transformers import PreTrainedModel, Trainer, TrainerCallback

_log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)

Kind = Literal["causal", "masked", "seq2seq", "classes"]
IGNORED = -100  # the label of tokens that do not count, in all of transformers
_CLASSIFIERS = ("Sequence", "Token", "Image", "Video", "Audio")
# the names by which configs call the factor on the logits, its inverse, and the factor on the loss of routers
_FACTORS, _DIVISOR = ("logit_scale", "output_multiplier", "lm_head_multiplier"), "logits_scaling"
_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
# what a forward says that feeds its decoder from labels; FSMT does it from the source
_SHIFTS_LABELS = re.compile(r"decoder_input_ids = [\w.]+\(\s*(labels=)?labels\b")
# what a forward says where it adds to its loss, but for the loss of routers that is known
_ADDS_TO_LOSS = re.compile(r"^ *\w*loss (\+=|= \w*loss \+) (?!.*aux_loss_coef \*)", re.MULTILINE)
_PROBE = (50.0, -50.0, 5.0, -5.0, 0.5)  # what leaves a head in its first call in place of logits
_DECODER_INPUTS = ("decoder_input_ids", "decoder_inputs_embeds")
_ROUTER_FACTORS = ("router_aux_loss_coef", "aux_loss_coef")


@dataclass
class _Smoothing:
    """What `smooth` was told, and what was found out since."""

    kind: Kind
    options: dict[str, Any]  # of the losses
    chunk_rows: int | None
    forward: Callable[..., Any]  # of the model as it was
    shifts_labels: bool  # whether the model feeds its decoder from labels
    checked: bool = False  # that the model makes its logits of the head's outputs as it should
    observers: list[Callable[[RowStats], None]] = field(default_factory=list)  # of the tokens trained on
    unfused: str = ""  # why the loss is made of logits

    def observe(self, stats: RowStats | None) -> None:
        if stats is not None:
            for observer in self.observers:
                observer(stats)

    def use_logits(self, why: str) -> None:
        """Make the loss of logits from now on, and say why once."""
        self.unfused = why
        _log.warning("all logits are made, as %s", why)


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
        saved by `save_pretrained` or as its state, but not pickled whole.

    Raises:
        TypeError: not a model of transformers.
        ValueError: the model has a loss of its own that this would change (regression, several labels,
            unshifted labels of a causal decoder), or is smoothed already; an ε out of range.
        RuntimeError: under `nn.DataParallel`, or where something replaces the model's forward afterwards.

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
    if hasattr(inner, "_label_smoothing"):
        raise InputError("this model is smoothed already")
    if "forward" in vars(inner):
        raise InputError(
            "the forward of this model was replaced, as trainers and device_map do; smooth it before a "
            "trainer, and without device_map"
        )
    options: dict[str, Any] = {
        "label_smoothing": label_smoothing,
        "weight": weight,
        "z_loss": z_loss,
        "backend": backend,
    }
    CrossEntropyLoss(**options)  # which checks them
    kind = type(inner)

    @functools.wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _forward(self, *args, **kwargs)

    source = _source_of(kind)
    shifts = _SHIFTS_LABELS.search(source) is not None
    smoothing = _Smoothing(_kind_of(inner, source), options, chunk_rows, kind.forward, shifts)
    inner._label_smoothing = smoothing  # type: ignore[assignment]
    methods = {
        "forward": forward,
        "__setattr__": _set_attribute,
        "_replicate_for_data_parallel": _refuse_data_parallel,
    }
    inner.__class__ = type(kind.__name__, (kind,), {"__module__": kind.__module__, **methods})
    return model


def log_training(trainer: Trainer) -> Trainer:
    """Put accuracy, NLL and ECE of the tokens that a smoothed model is trained on into a trainer's logs.

    They come from the loss's own pass, cover the steps since the last log in all processes, and go wherever
    the loss goes: to the screen, `state.log_history` and every tracker of `report_to`.

    Args:
        trainer: of a model that `smooth` was given.

    Returns:
        The same trainer.

    Raises:
        ValueError: its model is not smoothed; or the trainer smooths as well, or computes its loss from
            logits (`label_smoothing_factor`, `compute_loss_func`).

    Cost: a second product of the statistics with each step's logits in cache, and some numbers of each token.
    """
    smoothing = smoothing_of(trainer.accelerator.unwrap_model(trainer.model))
    if trainer.label_smoother is not None or trainer.compute_loss_func is not None:
        raise InputError(
            "a smoothed model computes its loss, got label_smoothing_factor or compute_loss_func as well"
        )
    log = _LogTraining()
    smoothing.observers.append(log.measured.update_stats)
    trainer.callback_handler.callbacks.insert(0, log)  # before those that send the logs
    return trainer


class _LogTraining(TrainerCallback):
    """Adds to a log what was measured since the last."""

    def __init__(self) -> None:
        self.measured = Calibration()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        if logs is None or "loss" not in logs:
            return
        self.measured.all_merge()
        if not self.measured.state()["counts"].any():
            return
        result = self.measured.compute()
        numbers = {"accuracy": result.accuracy, "nll": result.nll, "ece": result.ece}
        logs.update(numbers)
        state.log_history[-1].update(numbers)
        self.measured.reset()


def smoothing_of(model: Any) -> _Smoothing:
    """Give what `smooth` left in a model, or refuse one that it was not given."""
    smoothing = getattr(base_of(model), "_label_smoothing", None)
    if not isinstance(smoothing, _Smoothing):
        raise InputError("the model of this trainer is not smoothed, call smooth(model, …) first")
    return smoothing


def base_of(model: Any) -> Any:
    """Give the model within a PEFT model, and any other itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _kind_of(model: PreTrainedModel, source: str) -> Kind:
    """Tell which tokens a model's logits predict, or refuse one whose loss is something else."""
    name, config = type(model).__name__, model.config
    if name.endswith(tuple(f"For{what}Classification" for what in _CLASSIFIERS)):
        if config.problem_type not in (None, "single_label_classification") or (config.num_labels or 0) < 2:
            raise InputError(
                "label smoothing is of one label among several, got "
                f"{config.problem_type or 'regression'} with {config.num_labels} outputs"
            )
        return "classes"
    if _ADDS_TO_LOSS.search(source):
        raise InputError(f"{name} adds something to its loss of which nothing is known")
    if model.get_output_embeddings() is None:  # type: ignore[no-untyped-call]
        raise InputError(f"{name} has no output embedding, and is no classifier")
    if name.endswith("ForMaskedLM"):
        return "masked"
    if config.is_encoder_decoder:
        return "seq2seq"
    if "self.loss_function(" not in source:
        raise InputError(f"{name} has a loss of its own, beside which nothing is known of its labels")
    return "causal"


def _source_of(kind: type[PreTrainedModel]) -> str:
    """Give the source of a model's forward, and of those of its bases, which it may call."""
    forwards = [
        vars(base)["forward"] for base in kind.__mro__ if "forward" in vars(base) and base is not nn.Module
    ]
    try:
        return "\n".join(inspect.getsource(inspect.unwrap(forward)) for forward in forwards)
    except OSError as error:
        raise InputError(
            f"the source of {kind.__name__} cannot be read, which tells what its loss is of"
        ) from error


def _forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Compute the output as ever, and in training mode the smoothed loss where there are labels."""
    smoothing: _Smoothing = self._label_smoothing
    if args:  # labels may be among them
        kwargs = inspect.signature(smoothing.forward).bind(self, *args, **kwargs).arguments
        del kwargs["self"]
        kwargs |= kwargs.pop("kwargs", {})
    if not self.training or (kwargs.get("labels") is None and kwargs.get("shift_labels") is None):
        return smoothing.forward(self, **kwargs)
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
    smoothing: _Smoothing = model._label_smoothing
    target = _take_target(model, smoothing.kind, kwargs)
    call = functools.partial(smoothing.forward, model, **kwargs, return_dict=True)
    if smoothing.kind != "classes" and not smoothing.unfused:
        fused = _through_head(model, smoothing, call, target, num_items_in_batch)
        if fused is not None:
            return fused
    output = call()
    loss, stats = _loss(smoothing, output.logits, target, num_items_in_batch)
    smoothing.observe(stats)
    return output, loss


def _take_target(model: Any, kind: Kind, kwargs: dict[str, Any]) -> Tensor:
    """Take the labels from the arguments of a call, and give the target of each place that predicts one."""
    labels, shift_labels = kwargs.pop("labels", None), kwargs.pop("shift_labels", None)
    if labels is None and kind != "causal":
        raise InputError("shift_labels go with causal language models")
    target: Tensor = labels
    if kind == "causal":
        target = shift_labels
        if target is None:
            target = nn.functional.pad(labels, (0, 1), value=IGNORED)[..., 1:]
        kept = kwargs.get("logits_to_keep", 0)
        if isinstance(kept, Tensor) or kept:
            target = target[:, kept if isinstance(kept, Tensor) else slice(-kept, None)]
    elif kind == "seq2seq":
        kwargs.setdefault("use_cache", False)
        if all(kwargs.get(name) is None for name in _DECODER_INPUTS):
            kwargs["decoder_input_ids"] = _decoder_input_ids(model, labels)
    if target.is_floating_point():
        raise InputError(
            "label smoothing is of one label among several, got labels that are no whole numbers"
        )
    return target


def _decoder_input_ids(model: Any, labels: Tensor) -> Tensor | None:
    """Shift labels to the right, as the model does itself where it is given labels alone."""
    if not model._label_smoothing.shifts_labels:
        return None
    ids: Tensor
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        ids = model.prepare_decoder_input_ids_from_labels(labels=labels)
    else:
        shift = sys.modules[type(model).__module__].shift_tokens_right
        ids = shift(labels, model.config.pad_token_id, model.config.decoder_start_token_id)
    return ids


def _through_head(
    model: Any, smoothing: _Smoothing, call: Callable[[], Any], target: Tensor, denominator: Denominator
) -> tuple[Any, Tensor] | None:
    """Call a model whose output embedding computes the loss, and give its output and the loss.

    None where that is not the loss of the model's own logits, which is found out in the first call, or where
    the output embedding has become more than a linear layer.
    """
    head, cap = model.get_output_embeddings(), _cap_of(model)
    if type(head).forward is not nn.Linear.forward or "forward" in vars(head):
        kind = f"{type(head).__module__}.{type(head).__name__}"
        smoothing.use_logits(f"the output embedding is more than a linear layer, of {kind}")
        return None
    bias = model._buffers.get("final_logits_bias")  # which is added to the logits, of which there are none
    calls: list[
        tuple[Tensor, Tensor, RowStats | None]
    ] = []  # what left the head, what to take off, statistics

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled, it would make all logits
    def loss_of_states(states: Tensor) -> Tensor:  # (…, H)
        whole = head.bias
        if bias is not None:
            whole = bias.flatten() if whole is None else whole + bias.flatten()
        linear = {"linear_bias": whole, **cap._asdict(), "chunk_rows": smoothing.chunk_rows}
        loss, stats = _loss(smoothing, states, target, denominator, head.weight, linear)
        # as many dimensions as the logits, and no view, which trainers must not multiply in place
        numbers = loss.expand(*states.shape[:-1], 1).clone()
        if not smoothing.checked:  # other values, with the gradient of the loss
            probe = numbers.new_tensor(_PROBE).repeat(numbers.numel() // len(_PROBE) + 1)
            numbers = numbers + (probe[: numbers.numel()].view_as(numbers) - numbers.detach())
        calls.append((numbers, loss.detach(), stats))
        return numbers

    head.forward = loss_of_states
    if bias is not None:
        model._buffers["final_logits_bias"] = bias.new_zeros(1, 1)
    try:
        output = call()
    except (IndexError, RuntimeError):
        if smoothing.checked or not calls:
            raise
        output = None  # it took for logits what left its head
    finally:
        del head.forward
        if bias is not None:
            model._buffers["final_logits_bias"] = bias
    known = len(calls) == 1 and output is not None
    if not smoothing.checked:
        known = known and _is_capped(output.logits, calls[0][0], cap)
    if not known:
        smoothing.use_logits(f"{type(model).__name__} does more to its logits than is known")
        return None
    ((numbers, value, stats),) = calls
    loss = numbers.flatten()[0].clone()
    if not smoothing.checked:
        smoothing.checked = True
        loss = loss - loss.detach() + value
    smoothing.observe(stats)
    return output, loss


def _loss(
    smoothing: _Smoothing,
    input: Tensor,  # (…, H) states before a layer, or logits (…, K)
    target: Tensor,  # (…)
    denominator: Denominator,
    linear_weight: Tensor | None = None,
    linear: Mapping[str, Any] = MappingProxyType({}),  # what `linear_cross_entropy` takes beside
) -> tuple[Tensor, RowStats | None]:
    """Compute the loss of a step, and the statistics of its tokens where somebody observes them."""
    target = target.to(input.device).reshape(input.shape[:-1])
    weight = smoothing.options["weight"]
    options = smoothing.options | {
        "weight": None if weight is None else weight.to(input.device),
        "ignore_index": IGNORED,
        "denominator": denominator.to(input.device) if isinstance(denominator, Tensor) else denominator,
        "return_stats": bool(smoothing.observers),
    }
    result: Tensor | tuple[Tensor, RowStats]
    if linear_weight is None:
        result = cross_entropy(input, target, class_axis=-1, **options)
    else:
        result = linear_cross_entropy(input, linear_weight, target, **linear, **options)
    return (result, None) if isinstance(result, Tensor) else result


def _cap_of(model: Any) -> Cap:
    """Find what a model makes of the outputs of its last layer, by the names that configs have for it."""
    config = model.config.get_text_config()
    scale = 1.0
    for name in _FACTORS:
        scale *= getattr(config, name, None) or 1.0
    divisor = getattr(config, _DIVISOR, None) or 1.0
    scale = scale * divisor if config.model_type == "hyperclovax" else scale / divisor
    softcaps = (getattr(config, name, None) for name in _SOFTCAPS)
    return Cap(scale, next(filter(None, softcaps), None))


def _is_capped(logits: Tensor, outputs: Tensor, cap: Cap) -> bool:
    """Tell whether a model made of what left its head what it should make of logits."""
    expected = cap(outputs.detach().float())
    return logits.shape == outputs.shape and torch.allclose(logits.detach().float(), expected, rtol=1e-2)


def _router_factor(model: Any) -> float:
    """Give the factor by which a model adds the loss of its routers."""
    for config in (model.config, model.config.get_text_config()):
        for name in _ROUTER_FACTORS:
            if hasattr(config, name):
                return float(getattr(config, name))
    raise RuntimeError(f"{type(model).__name__} has a loss of its routers, and no known factor on it")


def _set_attribute(self: Any, name: str, value: Any) -> None:
    """Set an attribute, but no forward that leaves out ours: a wrapped one says what it wraps."""
    if name == "forward":
        function = getattr(value, "__func__", value)
        while function is not type(self).forward:
            if not hasattr(function, "__wrapped__"):
                raise RuntimeError(
                    "the forward of a smoothed model was to be replaced by another, as Liger Kernel does, "
                    "and the smoothing with it"
                )
            function = getattr(function.__wrapped__, "__func__", function.__wrapped__)
    nn.Module.__setattr__(self, name, value)


def _refuse_data_parallel(_: Any) -> Any:
    raise RuntimeError(
        "a smoothed model cannot be replicated by nn.DataParallel; use DistributedDataParallel"
    )
