"""Measures of two processes against those of one with all rows."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist

from labelsmooth.measure import Geometry, PNorm, SmoothingRecovery, Teacher


def counted(rows):
    """Each measure of some of 300 rows."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(300, 4, generator=generator)
    target = (logits + 2 * torch.randn(300, 4, generator=generator)).argmax(-1)
    features = torch.randn(300, 5, generator=generator) + 100
    measures = Geometry(4), Teacher(2.0), SmoothingRecovery(4), PNorm()
    for measure in measures:
        scores = features if isinstance(measure, Geometry) else logits
        measure.update(scores[rows], target[rows])
    return measures


def numbers(measures):
    geometry, teacher, recovery, pnorm = (measure.compute() for measure in measures)
    return {
        "geometry": [geometry.nc1, geometry.spread, geometry.class_separation, geometry.frame.frame_error],
        "teacher": [teacher.rows, teacher.equivalent_smoothing, teacher.wrong_information, teacher.wrong_sd],
        "recovery": [recovery.rows, recovery.correct, recovery.gap, recovery.gap_spread],
        "pnorm": [*pnorm.aurc_of_p, pnorm.aurc_before],
    }


def one_of_two(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = (
        "lo" if sys.platform == "linux" else "lo0"
    )  # nothing leaves the machine
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    measures = counted(slice(180) if rank == 0 else slice(180, None))
    for measure in measures:
        measure.all_merge()
    np.savez(f"{folder}/{rank}.npz", **numbers(measures))
    with pytest.raises(ValueError, match=f"got temperature={1 + rank} and temperature={2 - rank}"):
        Teacher(1 + rank).all_merge()
    dist.barrier()  # neither leaves while the other still talks to it
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_measure_what_one_does(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    measures = counted(slice(None))
    for measure in measures:
        measure.all_merge()  # nothing without a process group
    for name, expected in numbers(measures).items():
        of_ranks = [np.load(tmp_path / f"{rank}.npz")[name] for rank in (0, 1)]
        np.testing.assert_array_equal(*of_ranks)
        np.testing.assert_allclose(of_ranks[0], expected, rtol=1e-9)


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), sys.argv[2])
