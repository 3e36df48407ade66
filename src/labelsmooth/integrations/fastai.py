"""The cross-entropy as fastai uses losses: in a Learner, with all its methods and callbacks."""

from __future__ import annotations

from functools import update_wrapper

from torch import Tensor

from labelsmooth.backends import BackendName
from labelsmooth.extras import needs_extra
from labelsmooth.losses import CrossEntropyLoss, Denominator, ReductionName
from labelsmooth.row_stats import Support
from labelsmooth.smoothing import Smoothing

with needs_extra("fastai", tested="fastai 2.8.12"):
    from fastai import losses as peer


class CrossEntropyLossFlat(peer.CrossEntropyLossFlat):  # type: ignore[misc]
    """`fastai.losses.CrossEntropyLossFlat` that computes `labelsmooth.CrossEntropyLoss`.

    It flattens inputs and targets, has a `reduction` that can be set, and gives probabilities by `activation`
    and classes by `decodes`, as fastai's. Validation losses are smoothed as training losses are, which is
    fastai's way; the plain NLL is a metric, `metrics=torch.nn.functional.cross_entropy`.

    Args:
        weight, ignore_index, reduction, label_smoothing, z_loss, denominator, support, backend: as of
            `CrossEntropyLoss`.
        axis: the class axis of inputs: −1, or 1 for maps (B, K, H, W).

    Raises:
        TypeError, ValueError: as `CrossEntropyLoss`.

    Cost: as `cross_entropy`, and for an `axis` that is not the last a copy of the inputs.

    Example:
        >>> loss = CrossEntropyLossFlat(label_smoothing=0.1)
        >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
        >>> round(float(loss(logits, torch.tensor([0, 1]))), 4), loss.decodes(logits).tolist()
        (0.4773, [0, 1])

    Source: fastai 2.8.12, whose `LabelSmoothingCrossEntropyFlat` weights classes in the hard part alone.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: ReductionName = "mean",
        label_smoothing: float | Smoothing = 0.0,
        *,
        axis: int = -1,
        z_loss: float = 0.0,
        denominator: Denominator = None,
        support: Support = "all",
        backend: BackendName = "auto",
    ) -> None:
        super().__init__(axis=axis)
        self.func = CrossEntropyLoss(
            weight,
            ignore_index,
            reduction,
            label_smoothing,
            z_loss=z_loss,
            denominator=denominator,
            support=support,
            backend=backend,
        )
        update_wrapper(self, self.func)  # as fastai does
