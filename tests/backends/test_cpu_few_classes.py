"""The CPU kernels for rows of few classes: each against float64, and the same bits wherever a row is."""

from dataclasses import replace

import pytest
import torch

from labelsmooth.backends import cpu, cpu_library, reference
from labelsmooth.backends.contract import Request, Statistics

NAN, INF = float("nan"), float("inf")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CLASSES = (2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 21, 31, 33, 63, 64, 65, 127, 129, 255, 257)
ROWS = 83  # whole tiles of every dtype, and a part of one


def to_layout(z, layout):  # (ROWS, K) -> the same rows, however they lie
    if layout == "rows":
        return z.clone()
    if layout == "rows apart":
        return torch.cat([z, z.new_full((len(z), 3), 7)], 1)[:, : z.shape[1]]
    if layout == "rows and columns apart":
        return z.repeat_interleave(2, 1).repeat_interleave(2, 0)[::2, ::2]
    if layout == "pixels":
        return z.T.contiguous().T
    assert layout == "images"  # of 41 pixels: tiles across two of them
    return z[:82].view(2, 41, -1).transpose(1, 2).contiguous().transpose(1, 2)


LAYOUTS = ("rows", "rows apart", "rows and columns apart", "pixels", "images")


def prior_of(kind, num_classes, dtype):
    if kind != "vector":
        return kind
    prior = torch.rand(num_classes, dtype=dtype)
    prior[::3] = 0
    return prior


def request_of(num_classes, picks, kind, counted, rows=ROWS, dtype=torch.float32):
    index = torch.randint(num_classes, (rows, picks)) if picks else None
    if picks == 3:
        index[:, 1] = index[:, 0]
    prior = prior_of(kind, num_classes, dtype)
    return Request(index, prior, None, counted, num_classes, 0, False, False, False)


def flat(parts):
    return [p for p in parts if p is not None]


def upstream_of(stats):
    """For what does not depend on m when log_sum's share is that of the others."""
    at_index = at_prior = None
    log_sum = torch.zeros_like(stats.log_sum)
    if stats.at_index is not None:
        at_index = torch.randn_like(stats.at_index)
        log_sum = log_sum - at_index.sum(-1)
    if stats.at_prior is not None:
        at_prior = torch.randn_like(stats.at_prior)
        log_sum = log_sum - at_prior * stats.prior_mass
    return Statistics(log_sum=log_sum, at_index=at_index, at_prior=at_prior)


def assert_near(mine, its, dtype, name):
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        mine.double(),
        its.double().expand(mine.shape),
        rtol=16 * eps,
        atol=64 * eps,
        equal_nan=True,
        msg=lambda m: f"{name}: {m}",
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("isa", range(len(cpu_library.INSTRUCTION_SETS)))
def test_against_float64(isa, layout, dtype):
    if isa > cpu_library.INSTRUCTION_SETS.index(cpu.INSTRUCTION_SET):
        pytest.skip("this processor lacks it")
    torch.manual_seed(0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for number, num_classes in enumerate(CLASSES):
        picks, kind = (1, 0, 3)[number % 3], (None, "uniform", "vector")[number // 3 % 3]
        if picks == 0 and kind is None:
            kind = "uniform"
        z = to_layout((4 * torch.randn(ROWS, num_classes)).to(dtype), layout)
        rows = z.shape[:-1].numel()
        counted = torch.rand(rows) < 0.8 if number % 2 else None
        if counted is not None:
            z[~counted.view(z.shape[:-1])] = NAN
        request = request_of(num_classes, picks, kind, counted, rows, wide)
        name = f"{num_classes} classes, {picks} picks, prior {kind}"

        exact_request = replace(request, prior=request.prior.double()) if kind == "vector" else request
        exact_z = z.reshape(rows, num_classes).double()
        stats, exact = cpu.forward(z, request, isa), reference.forward(exact_z, exact_request)
        for part, mine, its in zip(Statistics._fields, stats, exact, strict=True):
            if mine is not None:
                assert_near(mine, its, wide, f"{name}: {part}")

        grads = upstream_of(stats)
        gradient = cpu.backward(z, request, stats, grads, shift_free=True, isa=isa)
        doubles = Statistics._make(None if g is None else g.double() for g in grads)
        expected = reference.backward(exact_z, exact_request, exact, doubles)
        assert_near(gradient.reshape(rows, num_classes), expected, dtype, name)
        if counted is not None:
            assert (gradient.reshape(rows, num_classes)[~counted] == 0).all()
        assert cpu.backward(z, request, stats, grads, z, shift_free=True, isa=isa) is z
        torch.testing.assert_close(z, gradient, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS[:4])
@pytest.mark.parametrize("num_classes", [2, 5, 21, 64])
def test_a_row_is_the_same_bits_in_any_batch(num_classes, layout, dtype):
    """Wherever it is in a tile, whoever is beside it, and where it lies."""
    torch.manual_seed(1)
    z = (4 * torch.randn(ROWS, num_classes)).to(dtype)
    z[5], z[40, 1] = -INF, NAN
    request = request_of(num_classes, 1, "uniform", None)
    stats = cpu.forward(z, request)
    grads = upstream_of(stats._replace(log_sum=stats.log_sum.nan_to_num(0), at_prior=stats.max.nan_to_num(0)))
    gradient = cpu.backward(z, request, stats, grads, shift_free=True)
    for some in (slice(0, 1), slice(3, 20), slice(7, 8), slice(30, 83), slice(5, 6), slice(38, 41)):
        part = to_layout(z[some], layout)
        asked = replace(request, index=request.index[some])
        mine = cpu.forward(part, asked)
        its = Statistics._make(p if p is None or p.dim() == 0 else p[some] for p in stats)
        slopes = Statistics._make(g if g is None else g[some] for g in grads)
        back = cpu.backward(part, asked, mine, slopes, shift_free=True)
        for one, other in zip([*flat(mine), back], [*flat(its), gradient[some]], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", range(len(cpu_library.INSTRUCTION_SETS)))
def test_rows_that_are_not_finite_are_those_of_the_reference(isa, dtype):
    if isa > cpu_library.INSTRUCTION_SETS.index(cpu.INSTRUCTION_SET):
        pytest.skip("this processor lacks it")
    torch.manual_seed(2)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for num_classes in (2, 6, 21, 64):
        z = torch.randn(ROWS, num_classes).to(dtype)
        z[3], z[17, 1], z[18, 0], z[30, :-1] = -INF, NAN, INF, -INF
        request = request_of(num_classes, 1, None, None)
        stats, exact = cpu.forward(z, request, isa), reference.forward(z.double(), request)
        for part, mine, its in zip(Statistics._fields, stats, exact, strict=True):
            if mine is not None:
                assert_near(mine, its, wide, f"{num_classes} classes: {part}")
        grads = Statistics(log_sum=torch.ones(ROWS, dtype=wide), at_index=-torch.ones(ROWS, 1, dtype=wide))
        doubles = Statistics._make(None if g is None else g.double() for g in grads)
        gradient = cpu.backward(z, request, stats, grads, shift_free=True, isa=isa)
        expected = reference.backward(z.double(), request, exact, doubles, shift_free=True)
        finite = torch.ones(ROWS, dtype=torch.bool)
        finite[17:19] = False
        assert_near(gradient[finite], expected[finite], dtype, f"{num_classes} classes")
        assert gradient[17:19].isnan().any(-1).all()


@pytest.mark.parametrize("isa", range(len(cpu_library.INSTRUCTION_SETS)))
def test_the_loss_of_a_row_that_is_sure_keeps_its_digits(isa):
    """log_sum is right relative to itself, where the sum is all but 1."""
    if isa > cpu_library.INSTRUCTION_SETS.index(cpu.INSTRUCTION_SET):
        pytest.skip("this processor lacks it")
    for num_classes in (2, 3, 21, 64):
        z = torch.zeros(ROWS, num_classes)
        z[:, 1] = torch.linspace(0, 30, ROWS)
        request = request_of(num_classes, 1, None, None)
        log_sum = cpu.forward(z, request, isa).log_sum
        rest = (num_classes - 1) * (-z[:, 1].double()).exp()
        torch.testing.assert_close(log_sum.double(), rest.log1p(), rtol=1e-6, atol=0)
