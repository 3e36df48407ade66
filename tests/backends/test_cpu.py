"""What the CPU backend does beyond the contract: which library it loads, and what it does in a forked child."""

import _ctypes  # a library of Python's own
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from labelsmooth.backends import cpu, cpu_library

pytestmark = pytest.mark.skipif(cpu.INSTRUCTION_SET is None, reason="the CPU's kernels are not built")
LIBRARY = resources.files("labelsmooth").joinpath("lib", "labelsmooth_cpu.so")


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("max argmax", "argmax max"),
        ("rows columns", "columns rows"),
        ("values stride", "stride values"),
        ("total", "sum"),
    ],
)
def test_a_library_with_other_fields_is_refused(monkeypatch, here, there):
    """Of as many bytes, so that only their names tell."""
    assert cpu_library.load(LIBRARY)[1] is None
    assert here in cpu_library._LAYOUT
    monkeypatch.setattr(cpu_library, "_LAYOUT", cpu_library._LAYOUT.replace(here, there, 1))
    assert cpu_library.load(LIBRARY) == (
        None,
        "its library was built from other sources; install the package again",
    )


def test_a_library_that_does_not_say_its_fields_is_refused():
    """As one built before the library did."""
    path = Path(_ctypes.__file__)
    assert cpu_library.load(path) == (
        None,
        "its library was built from other sources; install the package again",
    )


# Both processes answer each call in bits; a child that hangs is ended by its alarm. Torch's own operations hang in a
# child that is left its threads, so that what is called then works on leaves that the parent made.
FORKS = """
import os, signal
import torch
from torch.utils.data import DataLoader
import labelsmooth as ls

torch.set_num_threads(2)
z, y, prior = torch.randn(256, 1000).requires_grad_(), torch.randint(1000, (256,)), torch.rand(1000)
image, mask = torch.randn(2, 19, 64, 64).requires_grad_(), torch.randint(19, (2, 64, 64))
x, w = torch.randn(256, 2), torch.randn(1000, 2).requires_grad_()
logits = z * 1


def statistics():
    stats = ls.row_stats(z, y[:, None], prior, log_sum_sq=True, mean_logit=True)
    return stats.lse + stats.at_prior + stats.log_sum_sq + stats.mean_logit


def loss(z, y, **settings):
    return ls.cross_entropy(z, y, label_smoothing=0.1, **settings)


KERNELS = {
    "statistics": (statistics, z),
    "loss": (lambda: loss(z, y), z),
    "losses": (lambda: loss(z, y, reduction="none"), z),
    "class weights": (lambda: loss(z, y, weight=prior), z),
    "images": (lambda: loss(image, mask), image),
    "in place": (lambda: loss(logits, y, inplace_backward=True), logits),
}
WITH_TORCH = KERNELS | {
    "linear": (lambda: ls.linear_cross_entropy(x, w, y, label_smoothing=0.1, chunk_rows=100), w),
    "penalty": (lambda: ls.confidence_penalty(z, y, beta=0.1), z),
    "measure": (lambda: torch.tensor(ls.measure.ece(z.detach(), y)), None),
}


def bits(call, leaf):
    value = call()
    answers = [value] if leaf is None else [value, *torch.autograd.grad(value.sum(), leaf)]
    return [answer.detach().numpy().tobytes() for answer in answers]


def check(threads, calls):
    for name, call in calls.items():
        if name == "in place":  # whose logits the parent must not use up
            parent = bits(lambda: loss(z * 1, y), z)
        else:
            parent = bits(*call)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            torch.set_num_threads(threads)
            os._exit(bits(*call) != parent)
        print(threads, name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def collate(rows):
    return loss(*(torch.stack(part) for part in zip(*rows)))


check(2, KERNELS)
check(1, WITH_TORCH)
rows = list(zip(z.detach(), y))
(batch,) = DataLoader(rows, 256, num_workers=1, collate_fn=collate, multiprocessing_context="fork", timeout=30)
print("loader", int(batch != loss(z, y)))
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere no child inherits OpenMP's threads"
)
def test_a_child_forked_after_use_has_the_same_bits():
    """Where GNU's OpenMP would wait for threads that only the parent has."""
    run = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 16
    assert [line for line in lines if not line.endswith(" 0")] == []
