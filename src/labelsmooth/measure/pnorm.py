"""Max-logit p-norm: another confidence, chosen for the order in which it accepts rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import IN_CACHE, Floats, State, pieces
from labelsmooth.measure.batches import Batch, parts_of, require_batches
from labelsmooth.measure.confidence_table import ConfidenceTable
from labelsmooth.measure.inputs import Array, logit_rows, require_usable, score_rows, weight_of_each
from labelsmooth.measure.protocol import Measure, unchanged_on_error
from labelsmooth.measure.rows import numbers_from_stats
from labelsmooth.measure.selective_result import risk_coverage
from labelsmooth.row_stats import row_stats

_ArrayT = TypeVar("_ArrayT", Tensor, npt.NDArray[Any])

# the norms that are tried, as the source does
POWERS = range(1, 11)


class PNorm(Measure):
    """Max-logit p-norm: another confidence from the same logits, taken only where validation rows say so.

    With centred logits x_k = z_k − mean z, confidence_p = max_k x_k / (Σ_k |x_k|^p)^{1/p}, in 0..1. `fit`
    tries p = 1..10, takes the lowest AURC, and keeps it only where that is below the AURC of the largest
    probability. It repairs the order in which rows are accepted, as label smoothing can spoil it; predictions
    stay the same, and the number is no probability.

    `fit` and `fit_batches` have all rows at hand. From a stream, or in several processes, count rows with
    `update`, put them together with `merge` or `all_merge`, and choose with `compute`.

    No interval is given for p: which p wins is a choice among eleven, made on the very rows that a bootstrap
    would draw from. Measure what it does with `Selective.update_scores` on rows that it was not fitted on.

    Attributes:
        p: 1..10, or None where the largest probability is as good, which `confidence` then is.
        aurc_before: AURC of the largest probability on the rows fitted on.
        aurc_after: AURC of `confidence` on the same rows, ≤ aurc_before.
        aurc_of_p: (10,) AURC for p = 1..10.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> logits = torch.randn(400, 5, generator=generator) * torch.rand(400, 1, generator=generator) * 9
        >>> noise = torch.randn(400, 5, generator=generator)
        >>> target = (logits / logits.norm(dim=-1, keepdim=True) + 0.3 * noise).argmax(-1)
        >>> pnorm = PNorm().fit(logits, target)
        >>> pnorm.p, round(pnorm.aurc_before, 3), round(pnorm.aurc_after, 3)
        (1, 0.225, 0.198)
        >>> pnorm.confidence(np.array([[4.0, 1.0, 1.0, -1.0, -1.0]]))
        array([0.44444444])

    Source: Cattelan & Silva 2024, "How to Fix a Broken Confidence Estimator: Evaluating Post-hoc Methods for
    Selective Classification with Deep Neural Networks", §4.
    """

    p: int | None
    aurc_before: float
    aurc_after: float
    aurc_of_p: Floats

    def __init__(self) -> None:
        self.reset()

    def __repr__(self) -> str:
        return f"PNorm(p={self.p})" if hasattr(self, "p") else "PNorm(), not fitted"

    def reset(self) -> None:
        """Forget the rows counted, not what was chosen."""
        self._tables = [ConfidenceTable(2**17) for _ in range(1 + len(POWERS))]

    def fit(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> Self:
        """Choose p, on validation rows and these alone.

        Args, Raises: as `update`; at least one row counts.

        Returns:
            This object with its attributes set.

        Cost: as `update`.
        """
        return self.fit_batches([(logits, target, weight)], ignore_index=ignore_index, class_axis=class_axis)

    def fit_batches(
        self, batches: Iterable[Batch], *, ignore_index: int | None = None, class_axis: int = -1
    ) -> Self:
        """Find it on batches, as those of `TemperatureScaling.fit_batches`, gone through once."""
        require_batches(batches)
        self.reset()
        try:
            for batch in batches:
                self.update(*parts_of(batch), ignore_index=ignore_index, class_axis=class_axis)
            self.compute()
        finally:
            self.reset()
        return self

    def update(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> None:
        """Count validation rows.

        Args:
            logits: (…, K) floats, K ≥ 2. Classes of logit −inf are left out of mean and norm.
            target: (…) integers in 0..K−1, or `ignore_index`.
            weight: (…) finite numbers ≥ 0; a row of weight 0 does not count.
            ignore_index: rows with this target do not count.
            class_axis: of `logits`; 1 in maps (N, K, H, W) with targets (N, H, W).

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target or a weight is out of range, a logit is NaN or +inf,
                or all logits of a row are −inf.

        Cost: one pass over the logits, 2 MB of them in float64 at a time, and eleven tables of up to 2¹⁷
            confidences, beyond which they are counted on a grid (`Selective`).
        """
        rows, labels, weights = logit_rows(
            logits, target, weight, ignore_index=ignore_index, class_axis=class_axis
        )
        require_usable(rows.amax(-1), "logits")
        for piece, y, w in pieces(rows, labels, weight_of_each(rows, weights), numbers=IN_CACHE):
            numbers = numbers_from_stats(row_stats(piece, y.unsqueeze(-1)))
            columns = [numbers.confidence, *_pnorm_confidences(piece, POWERS).T.cpu().numpy()]
            for table, column in zip(self._tables, columns, strict=True):
                table.add_rows(column, numbers.correct, None if weights is None else w)

    def merge(self, other: PNorm) -> None:
        """Count the rows that `other` has counted."""
        for own, others in zip(self._tables, other._tables, strict=True):
            own.merge(others)

    def options(self) -> str:
        """All that two measures must share to be merged, in words."""
        return f"p in {POWERS[0]}..{POWERS[-1]}"

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted, of the largest probability (0) and for each p."""
        return {
            f"{p}_{name}": array
            for p, table in enumerate(self._tables)
            for name, array in table.arrays().items()
        }

    def load(self, state: State) -> None:
        """Take the rows of a `state` in place of those counted here.

        Raises:
            ValueError: the arrays are not those of a state.
        """
        if set(state) != set(self.state()):
            raise InputError(f"a state of PNorm has {len(self.state())} arrays, got {', '.join(state)}")
        with unchanged_on_error(self):
            self.reset()
            for p, table in enumerate(self._tables):
                start = f"{p}_"
                table.add_arrays({n.removeprefix(start): a for n, a in state.items() if n.startswith(start)})

    def values(self) -> dict[str, float]:
        """The p chosen by the rows counted so far, 0 where the largest probability is as good."""
        best = int(np.argmin(self._aurcs()))
        return {"pnorm": float(best)}

    def _aurcs(self) -> list[float]:
        """The AURC of the largest probability, and for each p."""
        return [risk_coverage(*table.falling(), exact=table.exact).aurc for table in self._tables]

    def compute(self) -> Self:
        """Choose p by the rows counted so far.

        Returns:
            This object with its attributes set.

        Raises:
            ValueError: no row was counted.
        """
        self.aurc_before, *others = self._aurcs()
        self.aurc_of_p = np.array(others)
        best = int(self.aurc_of_p.argmin())
        self.p = POWERS[best] if self.aurc_of_p[best] < self.aurc_before else None
        self.aurc_after = min(self.aurc_before, float(self.aurc_of_p[best]))
        return self

    def confidence(self, logits: _ArrayT, *, class_axis: int = -1) -> _ArrayT:
        """The confidence of each row.

        Args:
            logits: (…, K) floats, a tensor or an array.
            class_axis: of `logits`; 1 in maps (N, K, H, W), whose confidences are (N, H, W).

        Returns:
            (…) float64, of the same type. A row of equal logits has 0, the lowest there is; a row with
            one logit above −inf has 1, the highest.

        Raises:
            ValueError: nothing was fitted, or a row has a NaN, +inf, or no finite logit.

        Cost: about a dozen passes in float64, 2 MB at a time.
        """
        if not hasattr(self, "p"):
            raise InputError("confidence needs a p, got none as nothing was fitted: call fit first")
        rows = score_rows(logits, "logits", class_axis=class_axis)
        parts = [rows.new_zeros(0, dtype=torch.float64)]
        for (piece,) in pieces(rows, numbers=IN_CACHE):
            stats = row_stats(piece)
            require_usable(stats.log_sum, "logits")
            parts.append(stats.confidence if self.p is None else _pnorm_confidences(piece, [self.p])[:, 0])
        shape = list(logits.shape)
        del shape[class_axis]
        confidence = torch.cat(parts).reshape(shape)
        return confidence if isinstance(logits, Tensor) else confidence.numpy()


def _pnorm_confidences(
    rows: Tensor,  # (n, K), float64
    powers: Sequence[int],  # (P,)
) -> Tensor:  # (n, P)
    here = rows > -torch.inf
    # the maximum goes first, so that a large offset costs no digits
    x = torch.where(here, rows - rows.amax(-1, keepdim=True), 0)
    x = torch.where(here, x - x.sum(-1, keepdim=True) / here.sum(-1, keepdim=True), 0)
    top, size, positive = x.amax(-1), x.abs().amax(-1), x > 0
    ratio = x.abs_() / torch.where(size > 0, size, 1).unsqueeze(-1)  # no power of it overflows
    power, last = torch.ones_like(ratio), 0
    columns = []
    for p in powers:
        for _ in range(p - last):
            power *= ratio
        last = p
        # x sums to 0, so this is Σ|x| too, and rows with one x above 0 tie at 1/2 whatever the rounding
        total = 2 * (ratio * positive).sum(-1) if p == 1 else power.sum(-1) ** (1 / p)
        # a row of equal logits has 0/1
        norm = torch.where(size > 0, total, 1)
        columns.append(top / torch.where(size > 0, size, 1) / norm)
    only_maximum = here.sum(-1) == 1
    return torch.where(only_maximum.unsqueeze(-1), 1, torch.stack(columns, -1))
