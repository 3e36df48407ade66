"""Logits that are a DTensor sharded on its classes, as a layer by `ColwiseParallel` gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from labelsmooth.checks import classes_last, is_dtensor
from labelsmooth.errors import InputError
from labelsmooth.losses.vocab_parallel import vocab_parallel_cross_entropy
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def cross_entropy_of_dtensor(
    input: DTensor, target: Tensor | Mixture, class_axis: int, settings: dict[str, Any]
) -> Tensor | tuple[Tensor, RowStats]:
    """Compute `vocab_parallel_cross_entropy` of the logits.

    Args:
        input: logits, sharded on their classes over one dimension of the mesh, and in full over the others.
        target: in full in every process, or a DTensor.
        class_axis: of the logits and of dense targets.
        settings: of `vocab_parallel_cross_entropy`.

    Returns:
        The loss as a DTensor, in full in every process, and perhaps the statistics as plain tensors.

    Raises:
        ValueError: the logits are sharded in another way, or not at all.
    """
    from torch.distributed.tensor import DTensor, Replicate

    axis = 0 if class_axis == input.dim() == 1 else class_axis  # as in torch, one row has only its classes
    classes_last(input, axis, "input")
    axis, mesh = axis % input.dim(), input.device_mesh
    over = [place for place, placement in enumerate(input.placements) if placement.is_shard(axis)]
    rest = [placement for placement in input.placements if not placement.is_shard(axis)]
    if len(over) != 1 or not all(placement.is_replicate() for placement in rest):
        raise InputError(
            "a DTensor of logits must be sharded on its classes over one dimension of the mesh, and on no "
            f"other axis, got {input.placements}; give its full_tensor()"
        )
    columns = -(-input.shape[axis] // mesh.size(over[0]))  # as torch.chunk has it
    logits = input.to_local().movedim(axis, -1)
    if isinstance(target, Tensor):
        target = target.full_tensor() if is_dtensor(target) else target
        if target.is_floating_point():
            target = target.movedim(axis, -1)
    whole_settings: dict[str, Any] = {
        name: value.full_tensor() if is_dtensor(value) else value for name, value in settings.items()
    }
    result = vocab_parallel_cross_entropy(
        logits,
        target,
        num_classes=input.shape[axis],
        first_class=min(columns * mesh.get_local_rank(over[0]), input.shape[axis]),
        group=mesh.get_group(over[0]),
        **whole_settings,
    )
    loss, *stats = result if isinstance(result, tuple) else (result,)
    whole = DTensor.from_local(loss, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return (whole, *stats) if stats else whole
