"""The information of a logit difference on the input that it came from."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labelsmooth.checks import FLOAT_DTYPES
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.inputs import Array, as_tensor

# entries of the table of inputs against inputs that exist at a time: 8 MB
_PIECE = 2**20


def mutual_information(draws: Array, fresh: Array) -> float:
    """Mutual information between the index of an input and its logit difference under augmentation, in nats.

    Î = mean_x [−(f_x−μ_x)²/2σ² − log((1/N) Σ_x′ exp(−(f_x−μ_x′)²/2σ²))], with μ_x the mean of the L draws of
    input x, σ² = Σ_x Σ_l (d_xl − μ_x)²/(N(L−1)) and f_x the fresh one. Inputs of one class that a network
    maps to one point are indistinguishable, Î ≈ 0; inputs that it keeps apart by much more than σ give log N,
    and M clusters of them log M.

    Args:
        draws: (N, L) floats, L ≥ 2: a logit difference, e.g. that of the label and another class, of each
            input under L random augmentations.
        fresh: (N,) floats: the same of one further augmentation of each input. One of the L draws must not be
            used again, as each lies nearer to its own mean than a new one does, which biases Î upwards.

    Returns:
        Î in [0, log N]; an estimate below 0, which noise can give, comes out as 0.

    Raises:
        TypeError: an argument is no tensor or array of floats.
        ValueError: the shapes do not fit, L < 2, there is no input, a value is not finite, or the draws of
            every input are all equal, so that σ = 0.

    Cost: N² exponentials in float64, 8 MB of them at a time: a second for N = 10,000.

    Example:
        >>> draws = torch.tensor([[0.0, 0.2], [0.0, 0.2], [9.0, 9.2], [9.0, 9.2]])
        >>> round(mutual_information(draws, torch.tensor([0.1, 0.1, 9.1, 9.1])), 4)
        0.6931

    Source: Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?", §4; there σ² is from the fresh
    draws, here from those that give the means, so that the fresh ones are new to all that is estimated.
    """
    by_input, f = _floats(draws, "draws"), _floats(fresh, "fresh")
    if by_input.dim() != 2 or by_input.shape[1] < 2 or len(by_input) == 0:
        raise InputError(f"draws must have shape (N, L) with N ≥ 1 and L ≥ 2, got {tuple(by_input.shape)}")
    if f.shape != by_input.shape[:1]:
        raise InputError(f"fresh must have shape ({len(by_input)},), got {tuple(f.shape)}")
    inputs = len(by_input)
    f = f.to(by_input.device)
    # relative to one of them, so that a common offset costs no digits
    origin = by_input[0, 0]
    by_input, f = by_input - origin, f - origin
    variance, mu = torch.var_mean(by_input, -1)
    pooled = float(variance.mean())
    if pooled == 0:
        raise InputError("the draws of an input must vary, got the same value in all draws of every input")
    scale = math.sqrt(2 * pooled)
    x, centre = f / scale, mu / scale
    log_sums = [
        (-(piece.unsqueeze(-1) - centre).square()).logsumexp(-1)
        for piece in torch.split(x, max(1, _PIECE // inputs))
    ]
    estimate = float((-(x - centre).square() - torch.cat(log_sums)).mean()) + math.log(inputs)
    return max(estimate, 0.0)


def _floats(values: Array, name: str) -> Tensor:
    tensor = as_tensor(values, name)
    if tensor.dtype not in FLOAT_DTYPES:
        raise InputTypeError(f"{name} must hold floating-point values, got {tensor.dtype}")
    tensor = tensor.double()
    if not tensor.isfinite().all():
        raise InputError(f"{name} must be finite, got {float(tensor[~tensor.isfinite()][0])}")
    return tensor
