"""Time the GPU backend against its peers, in one interleaved run on one GPU.

    python benchmarks/gpu.py

Prints, for each shape and dtype, the median time by CUDA events of forward and backward and of forward alone,
and the bytes that the work must move (one read forward, one read and one write backward) over that time, as a
share of the bandwidth of `Tensor.copy_` measured in the same run. A peer that fails, as for want of memory,
is left out with its reason.
"""

import statistics
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from labelsmooth.backends import gpu
from labelsmooth.backends.contract import Request, Statistics

SHAPES = (
    (8192, 32000, torch.bfloat16),
    (8192, 128256, torch.bfloat16),
    (4096, 32000, torch.float32),
)
EPS = 0.1
REPETITIONS = 25
Run = Callable[[], object]


def milliseconds(runs: dict[str, Run]) -> dict[str, float]:
    """The median time of each; they take turns, and the first three rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPETITIONS + 3):
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            times[name].append(start.elapsed_time(end))
    return {name: statistics.median(values[3:]) for name, values in times.items()}


def copy_bandwidth() -> float:
    """Bytes read and written per millisecond."""
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / milliseconds({"copy": lambda: target.copy_(source)})["copy"]


def ours(logits: Tensor, target: Tensor) -> tuple[Run, Run]:
    """The kernels and the arithmetic of the mean loss between them: both ways, and forward alone."""
    rows, columns = logits.shape
    logits = logits.detach()
    request = Request(target[:, None], "uniform", None, None, columns, 0, False, False, False)

    def forward() -> tuple[Tensor, Statistics]:
        stats = gpu.forward(logits, request)
        loss = stats.log_sum - (1 - EPS) * stats.at_index[:, 0] - EPS * stats.at_prior
        return loss.mean(), stats

    def both() -> Tensor:
        _, stats = forward()
        grad = logits.new_full((rows,), 1 / rows, dtype=torch.float32)
        grads = Statistics(log_sum=grad, at_index=(EPS - 1) * grad[:, None], at_prior=-EPS * grad)
        return gpu.backward(logits, request, stats, grads)

    return both, forward


def peer(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> tuple[Run, Run]:
    def both() -> None:
        logits.grad = None
        loss(logits, target).backward()

    def forward() -> None:
        with torch.no_grad():
            loss(logits, target)

    return both, forward


def serves(name: str, runs: tuple[Run, Run]) -> bool:
    """Whether a peer's work runs here."""
    try:
        for run in runs:
            run()
        torch.cuda.synchronize()
    except RuntimeError as error:
        print(f"{name} did not run: {str(error).splitlines()[0]}")
        return False
    return True


def smoothed(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target, label_smoothing=EPS)


def main() -> None:
    if not torch.cuda.is_available():
        print("this benchmark needs a CUDA device, and torch finds none", file=sys.stderr)
        sys.exit(2)
    peers: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "torch": smoothed,
        "torch.compile": torch.compile(smoothed, dynamic=False),
    }
    if find_spec("liger_kernel") is not None:
        from liger_kernel.transformers import LigerCrossEntropyLoss

        liger = LigerCrossEntropyLoss(label_smoothing=EPS)
        # its forward overwrites the logits with their gradient, so it is timed on a copy of its own
        peers["liger"] = lambda logits, target: liger(logits, target)
    device = torch.cuda.get_device_properties(0)
    copy = copy_bandwidth()
    print(f"{device.name}, {device.multi_processor_count} multiprocessors, {device.total_memory >> 30} GiB")
    print(
        f"torch {torch.__version__}, triton {version('triton')}, "
        f"CUDA {torch.version.cuda}, HIP {torch.version.hip}"
    )
    print(f"copy_ {copy / 1e9:.2f} TB/s; median of {REPETITIONS}")
    print("   rows×classes  dtype     work              by             ms     GB moved  of copy_")
    for rows, columns, dtype in SHAPES:
        logits = torch.randn(rows, columns, device="cuda", dtype=dtype).requires_grad_()
        target = torch.randint(columns, (rows,), device="cuda")
        work = {"ours": ours(logits, target)}
        for name, loss in peers.items():
            own = logits.detach().clone().requires_grad_() if name == "liger" else logits
            work[name] = peer(loss, own, target)
        work = {name: runs for name, runs in work.items() if name == "ours" or serves(name, runs)}
        for which, (label, passes) in enumerate((("forward+backward", 3), ("forward", 1))):
            moved = passes * logits.nbytes
            for name, time in milliseconds({name: runs[which] for name, runs in work.items()}).items():
                print(
                    f"{f'{rows}×{columns}':>15}  {str(dtype).removeprefix('torch.'):8}  {label:16}  {name:13}"
                    f"  {time:7.3f}  {moved / 1e9:8.2f}  {moved / time / copy:7.1%}"
                )
        logits.grad = None
        del logits, work
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
