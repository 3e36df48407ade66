"""Label smoothing in the trainers of the library TRL: of supervised fine-tuning, and of preferences."""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any

from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.integrations.hf import smooth
from labelsmooth.integrations.hf.models import call_with_loss
from labelsmooth.integrations.hf.state import base_of, smoothing_of
from labelsmooth.integrations.hf.training_log import other_losses
from labelsmooth.losses import eps_of_other_kind
from labelsmooth.row_stats import RowStats
from labelsmooth.smoothing import Smoothing, as_eps

with needs_extra("trl", tested="trl 1.16.0"):
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.sft_trainer import SFTTrainer
    from trl.trainer.utils import FusedCausalLMOutput


class SmoothedSFTTrainer(SFTTrainer):
    """`trl.SFTTrainer` that trains by the smoothed loss; evaluation is the plain NLL.

    The full logits are never made, as they are not by TRL's own loss. Weights of the routers of a mixture of
    experts, accumulation, several processes, packing and PEFT are TRL's own doing, and so are its logs: token
    accuracy and entropy of the training tokens come from the pass over the logits that the loss takes. The
    `log_training` of `labelsmooth.integrations.hf` adds their NLL and ECE.

    Args:
        args, kwargs: as of `trl.SFTTrainer`.
        label_smoothing: ε of `uniform` in [0, 1], or a `Smoothing`. The model itself is not smoothed yet.

    Raises:
        ValueError: `label_smoothing_factor`, `compute_loss_func` or `loss_type="dft"` as well, or a model
            that cannot be smoothed.

    Cost: as `smooth` of `labelsmooth.integrations.hf`.

    Source: TRL 1.16, whose `label_smoothing_factor` takes a second forward with full logits and is to go.
    """

    def __init__(self, *args: Any, label_smoothing: float | Smoothing, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = other_losses(self)
        if self.args.loss_type != "nll":  # type: ignore[attr-defined]
            others.append(f"loss_type={self.args.loss_type!r}")  # type: ignore[attr-defined]
        if others:
            raise InputError(f"a smoothed trainer has a loss of its own, got {' and '.join(others)} as well")
        model = base_of(self.model)
        with_fused_head = vars(model).pop("forward")
        smooth(model, label_smoothing)
        measured: list[RowStats] = []
        smoothing_of(model).observers.append(measured.append)

        @functools.wraps(type(model).forward)
        def forward(model: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
            if not (model.training and fused_lm_head):
                return with_fused_head(*args, fused_lm_head=fused_lm_head, **kwargs)
            count = kwargs.pop("num_items_in_batch", None)
            output, loss = call_with_loss(model, **kwargs | {"num_items_in_batch": 1, "use_cache": False})
            return _as_of_fused_head(measured.pop(), loss, count, output.get("aux_loss"))

        model.forward = MethodType(forward, model)


def _as_of_fused_head(stats: RowStats, loss: Tensor, count: Any, aux_loss: Tensor | None) -> Any:
    """Give what TRL computes its loss and its logs from: of the log-probabilities it takes minus the sum."""
    return FusedCausalLMOutput(
        loss=loss / (stats.counted.sum().clamp(min=1) if count is None else count),
        log_probs=-loss,
        entropy=stats.entropy.where(stats.counted, 0),
        is_top1=stats.correct,
        label_mask=stats.counted,
        aux_loss=aux_loss,
    )


class SmoothedDPOTrainer(DPOTrainer):
    """`trl.DPOTrainer` whose sigmoid loss is `preference_loss(…, kind="conservative")`.

    TRL's own `label_smoothing` leaves the sigmoid loss alone. Its robust loss at −ε/(1−2ε) is the
    conservative one at ε, so all else of the trainer stays as it is.

    Args:
        args, kwargs: as of `trl.DPOTrainer`, with `loss_type="sigmoid"`, its default.
        label_smoothing: ε, how probable it is that a label is the wrong way round, in [0, ½).

    Raises:
        TypeError: an ε that is no number.
        ValueError: another loss, or an ε out of range.
    """

    def __init__(self, *args: Any, label_smoothing: float, **kwargs: Any) -> None:
        eps = as_eps(label_smoothing)
        if not isinstance(eps, float) or not 0 <= eps < 0.5:
            raise InputError(f"label_smoothing must be one number in [0, 0.5), got {label_smoothing}")
        super().__init__(*args, **kwargs)
        if self.loss_types != ["sigmoid"] or self.label_smoothing != 0:
            raise InputError(
                'a smoothed trainer has the loss "sigmoid" and the label_smoothing that it is given itself, '
                f"got {self.loss_types} and {self.label_smoothing}"
            )
        self.loss_types = ["robust"]
        self.label_smoothing = eps_of_other_kind(eps)
