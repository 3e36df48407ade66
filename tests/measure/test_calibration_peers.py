"""`Calibration` with the bins of other libraries against what these return.

torchmetrics and scikit-learn run here. netcal, relplot and uncertainty-calibration pull much in, so what they
return for the same inputs is frozen in fixtures/peer_calibration.json, by

    python tests/measure/test_calibration_peers.py

where they are installed. netcal imports pyro and gpytorch, which ECE and MCE do not use; empty modules will do.
"""

import json
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from labelsmooth.measure import Calibration

FIXTURE = Path(__file__).parents[1] / "fixtures" / "peer_calibration.json"
BINS = [1, 3, 7, 10, 15, 20, 49]


def on_the_edges(num_bins, dtype=np.float64, num_classes=64):
    """Confidences on every border, just below and just above it, and 1; rounded to float32 both ways there are."""
    borders = np.linspace(0, 1, num_bins + 1)[1:].astype(dtype)
    if dtype == np.float32:
        borders = np.concatenate([borders, torch.linspace(0, 1, num_bins + 1)[1:].numpy()])
    confidence = np.concatenate(
        [borders, np.nextafter(borders, dtype(0)), np.nextafter(borders, dtype(2)), np.ones(2, dtype)]
    )
    confidence = confidence[(confidence > 1.5 / num_classes) & (confidence <= 1)]
    probs = np.repeat(((1 - confidence) / (num_classes - 1))[:, None], num_classes, axis=1)
    probs[:, 3] = confidence
    rows = np.arange(len(confidence))
    return probs, np.where(rows % 3 == 0, 3, rows % 7)


def drawn(num_classes, seed):
    rng = np.random.RandomState(seed)  # numpy promises never to change what this draws
    probs = rng.dirichlet(np.full(num_classes, 0.3), 200)
    target = rng.randint(0, num_classes, 200)
    target[::2] = probs[::2].argmax(1)
    return probs, target


def binary(rows, power):
    """Confidences in (0, 1) and whether each was right, c^power of the time."""
    rng = np.random.RandomState(rows)
    confidence = rng.beta(4, 1.5, rows)
    return confidence, rng.uniform(size=rows) < confidence**power


def inputs():
    for num_bins in BINS:
        yield num_bins, on_the_edges(num_bins)
        yield num_bins, drawn(3 + num_bins % 5, seed=num_bins)


def result_of(probs, target, num_bins, **options):
    calibration = Calibration(num_bins, **options)
    calibration.update_probs(probs, target)
    return calibration.compute()


def frozen(peer):
    return json.loads(FIXTURE.read_text())[peer]["values"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torchmetrics(dtype):
    from torchmetrics.functional.classification import multiclass_calibration_error

    for num_bins in BINS:
        for probs, target in (on_the_edges(num_bins, dtype), drawn(4, num_bins)):
            given = probs.astype(dtype)
            result = result_of(given, target, num_bins, peer="torchmetrics")
            assert len(result.bins.count) == num_bins + 1
            assert result.bins.count[-1] == (given.max(-1).astype(np.float32) == 1).sum()
            for name, norm in (("ece", "l1"), ("ece_l2", "l2"), ("mce", "max")):
                theirs = multiclass_calibration_error(
                    torch.from_numpy(given), torch.from_numpy(target), given.shape[1], num_bins, norm
                )
                # they add in float32
                assert getattr(result, name) == pytest.approx(float(theirs), abs=5e-7), (num_bins, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gpleiss(dtype):
    """The bins of ECELoss in Geoff Pleiss' temperature_scaling, read off its source: lo < confidence ≤ hi with
    float32 borders, so a confidence above 1 by rounding is in none."""
    for num_bins in BINS:
        probs, target = on_the_edges(num_bins, dtype)
        probs = np.concatenate([probs, probs[-1:]])
        target = np.append(target, 3)
        probs[-1] = 0
        probs[-1, 3] = np.nextafter(dtype(1), dtype(2))
        confidence, hit = torch.from_numpy(probs.max(-1)), torch.from_numpy(probs.argmax(-1) == target)
        borders = torch.linspace(0, 1, num_bins + 1)
        ece, count = 0.0, []
        for low, high in pairwise(borders):
            inside = confidence.gt(low.item()) & confidence.le(high.item())
            count.append(int(inside.sum()))
            if inside.any():
                gap = confidence[inside].double().mean() - hit[inside].double().mean()
                ece += abs(float(gap)) * count[-1] / len(target)
        result = result_of(probs, target, num_bins, peer="gpleiss")
        assert result.bins.count.tolist() == count
        assert sum(count) == len(target) - 1 == result.rows - 1
        assert result.ece == pytest.approx(ece, rel=1e-12)


def test_scikit_learn():
    from sklearn.calibration import calibration_curve

    for num_bins, (probs, target) in inputs():
        result = result_of(probs, target, num_bins, peer="sklearn")
        assert result.bins.count.tolist() == result_of(probs, target, num_bins).bins.count.tolist()
        hit = probs.argmax(-1) == target
        true, predicted = calibration_curve(hit, probs.max(-1), n_bins=num_bins)
        filled = result.bins.count > 0
        np.testing.assert_allclose(result.bins.accuracy[filled], true, rtol=1e-13)
        np.testing.assert_allclose(result.bins.confidence[filled], predicted, rtol=1e-13)


def test_netcal():
    for (num_bins, (probs, target)), expected in zip(inputs(), frozen("netcal"), strict=True):
        result = result_of(probs, target, num_bins, peer="netcal")
        assert [result.ece, result.mce] == pytest.approx(expected, rel=1e-12)


def test_debiased_l2_of_uncertainty_calibration():
    for (num_bins, (probs, target)), expected in zip(
        inputs(), frozen("uncertainty-calibration"), strict=True
    ):
        result = result_of(probs, target, num_bins)
        assert [result.ece_l2, result.debiased_l2] == pytest.approx(expected, rel=1e-12)


RELPLOT = [(1000, 1.0), (1000, 1.4), (20000, 1.2), (100000, 1.0), (100000, 1.1)]


def test_relplot():
    for (rows, power), expected in zip(RELPLOT, frozen("relplot"), strict=True):
        confidence, hit = binary(rows, power)
        keep = confidence >= 0.5
        probs = np.stack([confidence, 1 - confidence], 1)[keep]
        target = np.where(hit, 0, 1)[keep]
        result = result_of(probs, target, 15, peer="relplot")
        assert result.smece == pytest.approx(expected["inside"], abs=1e-6)
        # a tenth of the rows moved onto confidence 1, where relplot counts half
        probs[::10] = [1, 0]
        assert result_of(probs, target, 15, peer="relplot").smece == pytest.approx(
            expected["border"], abs=1e-6
        )


def freeze():
    import calibration
    import relplot
    from netcal.metrics import ECE, MCE

    peers = {"netcal": [], "uncertainty-calibration": [], "relplot": []}
    for num_bins, (probs, target) in inputs():
        peers["netcal"].append([float(metric(num_bins).measure(probs, target)) for metric in (ECE, MCE)])
        borders = np.linspace(0, 1, num_bins + 1)
        confidence, hit = probs.max(-1), probs.argmax(-1) == target
        bin_of_row = np.searchsorted(borders[1:-1], confidence)
        binned = [
            list(zip(confidence[inside], hit[inside], strict=True))
            for inside in (bin_of_row == b for b in range(num_bins))
        ]
        binned = [rows for rows in binned if rows]
        peers["uncertainty-calibration"].append(
            [float(calibration.utils.plugin_ce(binned)), float(calibration.utils.unbiased_l2_ce(binned))]
        )
    for rows, power in RELPLOT:
        confidence, hit = binary(rows, power)
        confidence, hit = confidence[confidence >= 0.5], hit[confidence >= 0.5]
        values = {"inside": float(relplot.smECE(confidence, hit))}
        confidence[::10] = 1
        values["border"] = float(relplot.smECE(confidence, hit))
        peers["relplot"].append(values)
    document = {name: {"version": version(name), "values": values} for name, values in peers.items()}
    FIXTURE.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    freeze()
