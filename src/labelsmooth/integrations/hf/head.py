"""The call of a model whose output embedding computes the loss where it would have made the logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from labelsmooth.integrations.hf.state import SmoothingState
from labelsmooth.integrations.hf.targets import IGNORED, at_places
from labelsmooth.losses import Cap, Denominator, cross_entropy, linear_cross_entropy
from labelsmooth.row_stats import RowStats

# the names by which configs call the factor on the logits, and its inverse
_FACTORS, _DIVISOR = ("logit_scale", "output_multiplier", "lm_head_multiplier"), "logits_scaling"
_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
_PROBE = (50.0, -50.0, 5.0, -5.0, 0.5)  # what leaves a head in place of logits


class _Instead(torch.autograd.Function):
    """Other values that have the gradient of a loss."""

    @staticmethod
    def forward(_: Any, loss: Tensor, values: Tensor) -> Tensor:  # noqa: ARG004
        return values.clone()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].sum(), None


def loss_through_head(
    model: Any, smoothing: SmoothingState, call: Callable[[], Any], target: Tensor, denominator: Denominator
) -> tuple[Any, Tensor] | None:
    """Call a model whose output embedding computes the loss, and give its output and the loss.

    None where that is not the loss of the model's own logits, or where the output embedding has become more
    than a linear layer. What leaves the head in place of logits are a few values, from which the model makes
    what it should make of logits, or not.
    """
    head, cap = model.get_output_embeddings(), _cap_of(model)
    if type(head).forward is not nn.Linear.forward or "forward" in vars(head):
        kind = f"{type(head).__module__}.{type(head).__name__}"
        smoothing.use_logits(f"the output embedding is more than a linear layer, of {kind}")
        return None
    bias = model._buffers.get("final_logits_bias")  # which is added to the logits, of which there are none
    calls: list[tuple[Tensor, Tensor, RowStats | None]] = []  # what left the head, the loss, statistics

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled, it would make all logits
    def loss_of_states(states: Tensor) -> Tensor:  # (…, H)
        whole = head.bias
        if bias is not None:
            whole = bias.flatten() if whole is None else whole + bias.flatten()
        linear = {"linear_bias": whole, **cap._asdict(), "chunk_rows": smoothing.chunk_rows}
        loss, stats = loss_of(smoothing, states, target, denominator, head.weight, linear)
        shape = (*states.shape[:-1], 1)  # as many dimensions as the logits
        count = states.shape[:-1].numel()
        probe = loss.new_tensor(_PROBE).repeat(count // len(_PROBE) + 1)[:count]
        numbers: Tensor = _Instead.apply(loss, probe.view(shape))  # type: ignore[no-untyped-call]
        calls.append((numbers, loss.detach(), stats))
        return numbers

    head.forward = loss_of_states
    if bias is not None:
        model._buffers["final_logits_bias"] = bias.new_zeros(1, 1)
    try:
        output = call()
    except (IndexError, RuntimeError):
        if not calls:
            raise
        output = None  # it took for logits what left its head
    finally:
        del head.forward
        if bias is not None:
            model._buffers["final_logits_bias"] = bias
    if len(calls) != 1 or output is None or not _is_capped(output.logits, calls[0][0], cap):
        smoothing.use_logits(f"{type(model).__name__} does more to its logits than is known")
        return None
    ((numbers, value, stats),) = calls
    smoothing.observe(stats)
    return output, _Instead.apply(numbers.flatten()[0], value)  # type: ignore[no-untyped-call]


def loss_of(
    smoothing: SmoothingState,
    input: Tensor,  # (…, H) states before a layer, or logits (…, K)
    target: Tensor,  # (…)
    denominator: Denominator,
    linear_weight: Tensor | None = None,
    linear: Mapping[str, Any] = MappingProxyType({}),  # what `linear_cross_entropy` takes beside
) -> tuple[Tensor, RowStats | None]:
    """Compute the loss of a step, and the statistics of its tokens where somebody observes them."""
    target = at_places(target.to(input.device), input.shape[:-1])
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


@torch.compiler.disable  # type: ignore[untyped-decorator]  # which looks at values
def _is_capped(logits: Tensor, outputs: Tensor, cap: Cap) -> bool:
    """Tell whether a model made of what left its head what it should make of logits."""
    expected = cap(outputs.detach().float())
    return logits.shape == outputs.shape and torch.allclose(logits.detach().float(), expected, rtol=1e-2)
