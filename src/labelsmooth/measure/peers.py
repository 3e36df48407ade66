"""The rules by which confidences go into bins: by this library's conventions and by those of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import Counts, Floats
from labelsmooth.measure.cells import Cells
from labelsmooth.measure.smooth import ResidualMoments, smooth_ece, smooth_ece_of_relplot

Edges: TypeAlias = Literal["left_open", "right_open"]
Peer: TypeAlias = Literal["torchmetrics", "sklearn", "netcal", "gpleiss", "relplot"]


@dataclass(frozen=True, kw_only=True)
class Binning:
    """Where the borders of bins lie, and what becomes of a confidence before it is compared with them."""

    edges: Edges = "left_open"
    float32_borders: bool = False  # rounded to float32
    float32_confidences: bool = False  # rounded likewise
    clips: bool = False  # confidences to eps..1−eps of their dtype
    one_apart: bool = False  # a confidence of 1 in a bin of its own, after the last
    ends_left_out: bool = False  # confidences of 0, and above 1, in no bin
    relplot: bool = False  # the smooth calibration error of relplot

    def borders(self, num_bins: int) -> Floats:
        """The borders of bins of equal width, (B + 1,)."""
        if self.float32_borders:
            return torch.linspace(0, 1, num_bins + 1, dtype=torch.float32).double().numpy()
        return np.linspace(0, 1, num_bins + 1)

    def rounded(self, probs: Floats) -> Floats:
        """Probabilities in the precision in which they are compared."""
        return probs.astype(np.float32).astype(np.float64) if self.float32_confidences else probs

    def clipped(self, confidence: Floats, eps: float) -> Floats:
        """Confidences of a dtype with this eps, kept off 0 and 1 where that is the convention."""
        return np.clip(confidence, eps, 1 - eps) if self.clips else confidence

    def smooth_ece(self, moments: ResidualMoments, rows: int) -> float:
        """The smooth calibration error."""
        return smooth_ece_of_relplot(moments, rows) if self.relplot else float(smooth_ece(moments))


PEERS: Mapping[Peer, Binning] = {
    "torchmetrics": Binning(
        edges="right_open", float32_borders=True, float32_confidences=True, one_apart=True
    ),
    "sklearn": Binning(),
    "netcal": Binning(edges="right_open", clips=True),
    "gpleiss": Binning(float32_borders=True, ends_left_out=True),
    "relplot": Binning(relplot=True),
}


@dataclass(frozen=True, eq=False)
class Layout:
    """The cells that rows are counted by, and the bin that each belongs to; shared, and never written to."""

    binning: Binning
    cells: Cells
    bin_of_cell: Counts  # (cells,), −1 for none
    edges: Floats  # (B + 1,), of the bins


def binning(edges: Edges | None, peer: Peer | None) -> Binning:
    """The binning of a peer, or the one with these edges.

    Raises:
        ValueError: `edges` or `peer` is none of its words, or both are given.
    """
    if edges is not None and edges not in get_args(Edges):
        raise InputError(f"edges must be 'left_open' or 'right_open', got {edges!r}")
    if peer is not None and peer not in PEERS:
        raise InputError(f"peer must be one of {', '.join(PEERS)}, got {peer!r}")
    if edges is not None and peer is not None:
        raise InputError(f"a peer has edges of its own, got peer {peer!r} and edges {edges!r}")
    return PEERS[peer] if peer else Binning(edges=edges or "left_open")


@cache
def layout(num_bins: int, binning: Binning) -> Layout:
    """Bins of equal width as whole cells."""
    borders = binning.borders(num_bins)
    cells = Cells(borders, "left" if binning.edges == "left_open" else "right")
    between = np.searchsorted(borders, cells.edges[:-1], "right") - 1
    first, last = 0, num_bins - 1
    if binning.one_apart:
        last = num_bins
    if binning.ends_left_out:
        first = last = -1
    edges = np.append(borders, 1) if binning.one_apart else borders
    return Layout(binning, cells, np.concatenate([[first], between, [last]]), edges)
