"""The GPU backend against the reference in float64: on a GPU where there is one, else in Triton's interpreter."""

import mmap

import pytest
import torch

from labelsmooth.backends import gpu, reference
from labelsmooth.backends.contract import Request, Statistics

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton")
# NumPy, which the interpreter computes with, warns of the infinities that the kernels select away.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INF, NAN = float("inf"), float("nan")
FLOATS = ("max", "log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit")


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fresh memory holds NaN, so that what a kernel leaves out shows."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def logits_of(rows, columns, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, columns, generator=generator)).to(DEVICE, dtype)


def index_of(rows, num_classes, j, seed=1):
    index = torch.randint(num_classes, (rows, j), generator=torch.Generator().manual_seed(seed))
    if j > 2:
        index[:, 1] = index[:, 0]  # their gradients add
    return index.to(DEVICE)


def prior_of(kind, columns, rows):
    if kind in (None, "uniform"):
        return kind, None
    generator = torch.Generator().manual_seed(2)
    prior = torch.rand((4, columns) if kind == "table" else (columns,), generator=generator)
    prior[..., ::3] = 0
    row = torch.randint(4, (rows,), generator=generator).to(DEVICE) if kind == "table" else None
    return prior.to(DEVICE), row


def request_of(logits, j=1, prior="uniform", **changes):
    rows, columns = logits.shape
    num_classes = changes.pop("num_classes", columns)
    prior, prior_row = prior_of(prior, columns, rows)
    index = index_of(rows, num_classes, j) if j else None
    settings = {
        "counted": None,
        "first_class": 0,
        "finite_support": False,
        "log_sum_sq": True,
        "mean_logit": True,
    }
    return Request(index, prior, prior_row, num_classes=num_classes, **(settings | changes))


def grads_of(stats, seed=3):
    generator = torch.Generator().manual_seed(seed)
    grads = {}
    for name in FLOATS:
        part = getattr(stats, name)
        if part is not None:
            grads[name] = torch.randn(part.shape, generator=generator).to(part)
    return Statistics(**grads)


def assert_as_exact(ours, same, exact, eps):
    """No worse than the reference in the same dtype, but for a rounding of the values and sums involved."""
    assert ours.shape == same.shape
    assert ours.dtype == same.dtype
    exact, ours, same = exact.double(), ours.double(), same.double()
    finite = exact.isfinite()
    torch.testing.assert_close(ours[~finite], exact[~finite], equal_nan=True)
    exact, ours, same = exact[finite], ours[finite], same[finite]
    if exact.numel():
        slack = eps * (1 + exact.abs().max())
        assert (ours - exact).abs().max() <= (same - exact).abs().nan_to_num(0, INF).max() + slack


def forward(logits, request, num_blocks=None):
    """The statistics, by programs of so many blocks of columns."""
    if num_blocks is None:
        return gpu.forward(logits, request)
    parts, launches = gpu.plan_forward(logits, request, num_blocks)
    gpu.run(launches, logits)
    return parts


def check(logits, request, grads=None, num_blocks=None):
    """Forward and backward; gives the gradient."""
    before = logits.clone()
    ours = forward(logits, request, num_blocks)
    same, exact = reference.forward(logits, request), reference.forward(logits.double(), request)
    eps = 2 * torch.finfo(same.max.dtype).eps
    for name, part in ours._asdict().items():
        assert (part is None) == (getattr(same, name) is None), name
        if name in ("argmax", "seen"):
            assert part is None or torch.equal(part, getattr(same, name)), name
        elif part is not None:
            assert_as_exact(part, getattr(same, name), getattr(exact, name), eps)

    grads = grads_of(same) if grads is None else grads
    gradient = gpu.backward(logits, request, ours, grads)
    double = Statistics(*[None if grad is None else grad.double() for grad in grads])
    with torch.no_grad():
        same_gradient = reference.backward(logits, request, same, grads)
        exact_gradient = reference.backward(logits.double(), request, exact, double)
    rounding = torch.finfo(logits.dtype).eps / 2 + 8 * eps
    assert_as_exact(gradient, same_gradient, exact_gradient, rounding)
    torch.testing.assert_close(logits, before, rtol=0, atol=0, equal_nan=True)
    return gradient


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [2, 3, 17, 1001])
@pytest.mark.parametrize(
    ("j", "prior"), [(0, "uniform"), (1, None), (1, "vector"), (3, "uniform"), (3, "table")]
)
def test_statistics_and_gradient(dtype, columns, j, prior):
    check(logits_of(5, columns, dtype), request_of(logits_of(5, columns, dtype), j, prior))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1000, 4112, 9001])
@pytest.mark.parametrize("num_blocks", [None, 1])
def test_long_rows_whole_and_split(dtype, columns, num_blocks):
    logits = logits_of(2, columns, dtype)
    check(logits, request_of(logits), num_blocks=num_blocks)


@pytest.mark.parametrize("prior", [None, "uniform", "vector", "table"])
@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize(("columns", "num_blocks"), [(17, None), (2100, None), (2100, 1)])
def test_infinite_and_unknown_logits(prior, finite, columns, num_blocks):
    logits = logits_of(8, columns, torch.float32)
    logits[0, : columns // 2] = -INF
    logits[1] = -INF
    logits[2] = -INF
    logits[2, -2] = 1e4
    logits[3] += 1e4
    logits[4, columns // 2] = INF
    logits[5, columns // 2 :] = NAN
    logits[6] = NAN
    logits[7, 5] = INF
    logits[7, columns - 1] = NAN
    check(logits, request_of(logits, 2, prior, finite_support=finite), num_blocks=num_blocks)


@pytest.mark.parametrize("columns", [17, 2500])
def test_equal_logits_give_the_first_maximum_at_any_offset(columns):
    logits = torch.zeros(4, columns, device=DEVICE) + torch.tensor(
        [[0.0], [1e4], [-1e4], [-3e38]], device=DEVICE
    )
    logits[1, 3:] += 1
    request = request_of(logits)
    check(logits, request)
    for num_blocks in (1, 2):
        assert forward(logits, request, num_blocks).argmax.tolist() == [0, 3, 0, 0]


@pytest.mark.parametrize("layout", ["rows", "columns", "transposed", "expanded"])
@pytest.mark.parametrize("columns", [17, 2064])
def test_any_strides(layout, columns):
    logits = {
        "rows": lambda: logits_of(8, columns, torch.bfloat16)[::2],
        "columns": lambda: logits_of(4, 2 * columns, torch.bfloat16)[:, ::2],
        "transposed": lambda: logits_of(columns, 4, torch.bfloat16).T,
        "expanded": lambda: logits_of(1, columns, torch.bfloat16).expand(4, columns),
    }[layout]()
    check(logits, request_of(logits, 2, "table"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("columns", "num_blocks"),
    [(100, None), (300, None), (2044, 1)],  # the last in two blocks where a row begins late in a vector
)
@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 5)])  # so that each row begins elsewhere
def test_rows_begin_and_end_anywhere(dtype, columns, num_blocks, before, after):
    around = torch.full((9, before + columns + after), NAN, dtype=dtype, device=DEVICE)
    logits = around[:, before : before + columns]
    logits.copy_(logits_of(9, columns, dtype))
    counted = torch.arange(9, device=DEVICE) != 4
    request = request_of(logits, 2, counted=counted)
    gradient = check(logits, request, num_blocks=num_blocks)
    stats = forward(logits, request, num_blocks)
    assert gpu.backward(logits, request, stats, grads_of(stats), out=logits) is logits
    assert torch.equal(logits, gradient)
    assert around[:, :before].isnan().all()
    assert around[:, before + columns :].isnan().all()


@pytest.mark.parametrize(("columns", "num_blocks"), [(300, None), (4100, 1)])
def test_tables_of_more_than_2_to_the_31_elements(columns, num_blocks):
    stride = 2**30 + 5  # the numbers of the rows times it leave 32 bits, it does not
    length = 2 * stride + columns
    if DEVICE == "cuda":
        memory = torch.empty(length, dtype=torch.float16, device=DEVICE)
    else:  # pages appear when they are touched
        memory = torch.frombuffer(mmap.mmap(-1, 2 * length), dtype=torch.float16)
    logits = memory.as_strided((3, columns), (stride, 1))
    logits.copy_(logits_of(3, columns, torch.float16))
    request = request_of(logits)
    gradient = check(logits, request, num_blocks=num_blocks)
    stats = forward(logits, request, num_blocks)
    assert torch.equal(gpu.backward(logits, request, stats, grads_of(stats), out=logits), gradient)


@pytest.mark.parametrize("prior", ["uniform", "vector", "table"])
@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize(("columns", "num_blocks"), [(17, 1), (2100, 1)])
def test_rows_that_do_not_count_are_not_read(prior, finite, columns, num_blocks):
    logits = logits_of(6, columns, torch.float32)
    counted = torch.tensor([True, False, True, True, False, False], device=DEVICE)
    request = request_of(logits, 2, prior, counted=counted, finite_support=finite)
    clean = check(logits, request, num_blocks=num_blocks)
    logits[~counted] = NAN
    stats = forward(logits, request, num_blocks)
    grads = grads_of(stats)
    for grad in grads:
        if grad is not None:
            grad[~counted] = NAN
    gradient = gpu.backward(logits, request, stats, grads)
    assert (gradient[~counted] == 0).all()
    assert torch.equal(gradient, clean)


@pytest.mark.parametrize("columns", [1, 7, 2100])
@pytest.mark.parametrize("num_blocks", [None, 1])
def test_a_block_of_columns(columns, num_blocks):
    logits = logits_of(4, columns, torch.float32)
    request = request_of(logits, 3, "vector", num_classes=3 * columns, first_class=columns)
    request.index[0] = torch.tensor([0, columns, 2 * columns])
    request.index[1] = torch.tensor([columns - 1, 2 * columns - 1, 3 * columns - 1])
    check(logits, request, num_blocks=num_blocks)


@pytest.mark.parametrize("wanted", [*FLOATS, ("log_sum", "at_index", "at_prior"), ()])
def test_gradients_of_some_statistics(wanted):
    logits = logits_of(4, 40, torch.float32)
    logits[1] = -INF
    request = request_of(logits, 2)
    grads = grads_of(reference.forward(logits, request))
    names = (wanted,) if isinstance(wanted, str) else wanted
    check(logits, request, Statistics(**{name: getattr(grads, name) for name in names}))


def test_expanded_gradients():
    logits = logits_of(4, 40, torch.bfloat16)
    one = torch.tensor(0.25, device=DEVICE)
    check(
        logits,
        request_of(logits, 2),
        Statistics(log_sum=one.expand(4), at_index=one.expand(4, 2), at_prior=one.expand(4)),
    )


def test_a_gradient_may_take_the_place_of_the_logits():
    logits = logits_of(5, 3000, torch.float16)
    request = request_of(logits)
    stats = gpu.forward(logits, request)
    expected = gpu.backward(logits, request, stats, grads_of(stats))
    assert gpu.backward(logits, request, stats, grads_of(stats), out=logits) is logits
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("prior", [None, "uniform", "vector", "table"])
def test_no_rows_and_no_indices(prior):
    empty = logits_of(0, 9, torch.bfloat16)
    check(empty, request_of(empty, 2, prior))
    logits = logits_of(2, 9, torch.float32)
    index = torch.empty(2, 0, dtype=torch.int64, device=DEVICE)
    request = Request(index, None, None, None, 9, 0, False, False, False)
    check(
        logits,
        request,
        Statistics(log_sum=torch.ones(2, device=DEVICE), at_index=torch.ones(2, 0, device=DEVICE)),
    )


def test_unavailable_says_why():
    assert "not cpu" in gpu.unavailable(torch.device("cpu"))
