"""The CPU's kernels of sigmoids against torch's operations in float64, for every instruction set."""

import pytest
import torch

from labelsmooth.backends import cpu, cpu_library, cpu_sigmoid

pytestmark = pytest.mark.skipif(cpu.INSTRUCTION_SET is None, reason="the CPU's kernels are not built")
INF, NAN = float("inf"), float("nan")
SETS = (
    () if cpu.INSTRUCTION_SET is None else range(cpu_library.INSTRUCTION_SETS.index(cpu.INSTRUCTION_SET) + 1)
)


def exact(logits, labels, pos_weight):
    """The losses and their slopes, where 0·∞ is 0."""
    z, y = logits.double(), labels.double()
    holds = y if pos_weight is None else pos_weight.double() * y
    right = torch.where(holds == 0, 0, holds * torch.nn.functional.softplus(-z, threshold=1e9))
    wrong = torch.where(y == 1, 0, (1 - y) * torch.nn.functional.softplus(z, threshold=1e9))
    return right + wrong, (1 - y) * z.sigmoid() - holds * (-z).sigmoid()


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: cpu_library.INSTRUCTION_SETS[isa])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_losses_and_gradients(isa, dtype):
    wide = torch.promote_types(dtype, torch.float32)
    rounding = torch.finfo(wide).eps
    for count in (1, 3, 7, 8, 31, 4096, 4097, 40_000):
        logits = (10 * torch.randn(count)).to(dtype)
        logits[:5] = torch.tensor([0.0, INF, -INF, 88.5, -700.0], dtype=dtype)[:count]
        labels = torch.rand(count, dtype=wide)
        labels[::3], labels[1::5] = 0, 1
        labels[1:3] = torch.tensor([1.0, 0.0])[: max(0, count - 1)]  # those that the infinite ones agree with
        for pos_weight in (None, 3 * torch.rand(count, dtype=wide)):
            losses, slopes = exact(logits, labels, pos_weight)
            ours = cpu_sigmoid.losses(logits, labels, pos_weight, total=False, isa=isa)
            torch.testing.assert_close(ours.double(), losses, rtol=8 * rounding, atol=4 * rounding)
            total = cpu_sigmoid.losses(logits, labels, pos_weight, total=True, isa=isa)
            torch.testing.assert_close(total.double(), losses.sum(), rtol=16 * rounding, atol=0)
            upstream = torch.rand(count, dtype=wide)
            for given in (upstream, upstream[0]):
                gradient = cpu_sigmoid.gradient(logits, labels, pos_weight, given, isa=isa)
                assert gradient.dtype == dtype
                torch.testing.assert_close(
                    gradient.double(),
                    given.double() * slopes,
                    rtol=2 * torch.finfo(dtype).eps + 8 * rounding,
                    atol=16 * rounding,  # both parts of the slope are as large as 4
                )


def test_the_sum_does_not_depend_on_threads():
    logits, labels = torch.randn(100_001), torch.rand(100_001)
    sums = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sums.add(float(cpu_sigmoid.losses(logits, labels, None, total=True)))
    torch.set_num_threads(1)
    assert len(sums) == 1


def test_unknown_logits_stay_unknown():
    logits, labels = torch.tensor([NAN, 1.0]), torch.tensor([0.0, 1.0])
    assert cpu_sigmoid.losses(logits, labels, None, total=False).isnan().tolist() == [True, False]
    assert cpu_sigmoid.gradient(logits, labels, None, torch.ones(())).isnan().tolist() == [True, False]
