"""Numbers of single labels against torch, torchmetrics and definitions, and temperatures of groups."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_calibration_error

from labelsmooth.measure import (
    Calibration,
    GroupTemperatureScaling,
    MultilabelCalibration,
    TemperatureScaling,
    sigmoid_pairs,
)


def drawn(rows=400, labels=5):
    logits = 3 * torch.randn(rows, labels, dtype=torch.float64)
    return logits, (torch.rand(rows, labels) < (logits / 2).sigmoid()).long()


def test_numbers_are_those_of_torch_and_torchmetrics():
    logits, target = drawn()
    calibration = MultilabelCalibration()
    calibration.update(logits[:100].numpy(), target[:100].numpy())
    calibration.update(logits[100:], target[100:].bool())
    result = calibration.compute()
    p = logits.sigmoid()
    losses = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    np.testing.assert_allclose(result.nll, losses.mean(0), rtol=1e-12)
    np.testing.assert_allclose(result.brier, 2 * (p - target).square().mean(0), rtol=1e-12)
    np.testing.assert_allclose(result.accuracy, ((p > 0.5) == target).double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(result.frequency, target.double().mean(0), rtol=1e-12)
    each = [float(binary_calibration_error(p[:, k].float(), target[:, k], n_bins=15)) for k in range(5)]
    np.testing.assert_allclose(result.ece, each, rtol=1e-5)
    micro, macro = result.micro(), result.macro()
    assert micro["ece"] == pytest.approx(
        float(binary_calibration_error(p.flatten().float(), target.flatten(), n_bins=15)), rel=1e-5
    )
    pairs = Calibration()
    pairs.update(sigmoid_pairs(logits), target)
    assert micro["brier"] == pytest.approx(pairs.compute().brier, rel=1e-12)
    assert micro["nll"] == pytest.approx(float(losses.mean()), rel=1e-12)
    assert macro == pytest.approx({name: np.mean(getattr(result, name)) for name in macro}, rel=1e-12)


def test_what_does_not_count():
    logits, target = drawn()
    target[::7, 2] = -1
    weight = torch.rand(400, dtype=torch.float64)
    weight[5] = 0
    counts = (target != -1) & (weight > 0)[:, None]
    logits[~counts] = torch.nan
    target[5] = 9  # of weight 0
    calibration = MultilabelCalibration()
    calibration.update(logits, target, weight, ignore_index=-1)
    result = calibration.compute()
    for k in range(5):
        kept = counts[:, k]
        losses = F.binary_cross_entropy_with_logits(
            logits[kept, k], target[kept, k].double(), reduction="none"
        )
        assert result.nll[k] == pytest.approx(
            float((losses * weight[kept]).sum() / weight[kept].sum()), rel=1e-12
        )
    calibration = MultilabelCalibration()
    calibration.update(torch.randn(9, 2), torch.tensor([[1, -1]]).expand(9, 2), ignore_index=-1)
    result = calibration.compute()
    assert np.isnan([result.nll[1], result.ece[1]]).all()
    assert result.macro()["nll"] == result.nll[0] == pytest.approx(result.micro()["nll"])


def test_infinite_logits_are_sure():
    calibration = MultilabelCalibration()
    calibration.update(
        torch.tensor([[torch.inf, -torch.inf], [torch.inf, 0.0]]), torch.tensor([[1, 0], [0, 1]])
    )
    result = calibration.compute()
    assert result.nll.tolist() == [np.inf, pytest.approx(np.log(2) / 2)]
    assert result.accuracy.tolist() == [0.5, 0.5]  # a tie is for "does not hold"


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2), r"target must have the shape of logits, \(…, K\), got \(2,\)"),
        (torch.zeros(2, 3), torch.full((2, 3), 2), "target must be 0 or 1, got 2"),
        (torch.full((2, 3), torch.nan), torch.ones(2, 3), "logits must not be NaN"),
        (torch.zeros(2, 4), torch.ones(2, 4), "the same classes in all rows, got 4 after 3"),
    ],
)
def test_refused_rows_change_nothing(logits, target, message):
    calibration = MultilabelCalibration()
    calibration.update(torch.ones(2, 3), torch.ones(2, 3))
    before = calibration.values()
    with pytest.raises(ValueError, match=message):
        calibration.update(logits, target)
    assert calibration.values() == before


def test_temperatures_of_labels_and_groups_are_where_the_nll_is_lowest():
    logits, target = drawn()
    logits[:, 1] *= 4  # too sure
    pairs = sigmoid_pairs(logits)
    groups = torch.arange(5).expand(400, 5)
    scaling = GroupTemperatureScaling().fit(pairs, target, groups)
    temperatures = torch.tensor(list(scaling.temperature.values()), dtype=torch.float64, requires_grad=True)
    F.binary_cross_entropy_with_logits(logits / temperatures, target.double()).backward()
    assert temperatures.grad.abs().max() < 1e-9
    assert temperatures[1] > 2 * temperatures[0]
    torch.testing.assert_close(scaling.transform(pairs, groups)[..., 1], logits / temperatures.detach())
    pooled = TemperatureScaling().fit(pairs, target)
    alone = GroupTemperatureScaling().fit(pairs, target, torch.full((400, 5), 3))
    assert alone.temperature == {3: pytest.approx(pooled.temperature, rel=1e-12)}
    with pytest.raises(ValueError, match="group 4 has no temperature"):
        alone.transform(pairs[:1, :2], torch.tensor([[3, 4]]))
    with pytest.raises(TypeError, match="group must hold integers"):
        scaling.fit(pairs, target, groups.double())
