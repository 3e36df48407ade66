"""One contract for every backend, feed and dtype: no further from float64 than eager torch in the same dtype.

Throughout, the error against float64 of the very same inputs is at most the largest that eager torch makes in the
same dtype on the same case, plus one unit in the last place of the result and what a sum adds whose order is the
processor's own. Fresh memory holds NaN beforehand.
"""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls
from labelsmooth.backends import cpu, cpu_library, gpu, reference
from labelsmooth.backends.contract import Request, Statistics

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INF, NAN = float("inf"), float("nan")
FLOATS = ("max", "log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit")
LONG = 128256

SETS = (
    () if cpu.INSTRUCTION_SET is None else range(cpu_library.INSTRUCTION_SETS.index(cpu.INSTRUCTION_SET) + 1)
)
BACKENDS = {"reference": ("cpu", reference, {})}
BACKENDS |= {f"cpu {cpu_library.INSTRUCTION_SETS[isa]}": ("cpu", cpu, {"isa": isa}) for isa in SETS}
if torch.cuda.is_available() and gpu.unavailable(torch.device("cuda")) is None:
    BACKENDS |= {"gpu": ("cuda", gpu, {}), "reference on cuda": ("cuda", reference, {})}
KERNELS = [name for name in BACKENDS if not name.startswith("reference")]
FEEDS = ["reference", *(["cpu"] if cpu.INSTRUCTION_SET else [])]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fresh memory holds NaN, so that what a kernel leaves out shows."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pick(high, *shape, seed=1):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def with_zeros(*shape, seed=2):
    prior = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    prior[..., ::3] = 0
    return prior


def assert_as_exact(ours, eager, exact, scale=0.0, name="", units=16):
    """No further from `exact` than `eager` is anywhere, but for one rounding.

    That is a unit in the last place of the result, and one of what it is reckoned from, which is as large as
    `scale`: 1 under a logarithm, the upstream gradients under a gradient. For float64 there is nothing more exact
    to compare with: there it is `units` of these, of the largest.
    """
    assert ours.shape == exact.shape, name
    info = torch.finfo(ours.dtype)
    wide = torch.finfo(torch.promote_types(ours.dtype, torch.float32)).eps
    ours, eager, exact = (t.detach().double().cpu() for t in (ours, eager, exact))
    finite = exact.isfinite()
    torch.testing.assert_close(ours[~finite], exact[~finite], equal_nan=True, msg=lambda m: f"{name}: {m}")
    ours, eager, exact = ours[finite], eager[finite], exact[finite]
    if not exact.numel():
        return
    rounding = info.eps * (exact.abs() + info.smallest_normal) + wide * scale
    if info.bits == 64:
        rounding = units * wide * (exact.abs().max() + scale)
    allowed = (eager - exact).abs().nan_to_num(INF, INF).max()
    worst = ((ours - exact).abs() - rounding).nan_to_num(INF).max()
    assert worst <= allowed, f"{name}: {worst:.3g} beyond a rounding, eager {allowed:.3g}"


# --- backends


def request_of(logits, index=None, prior=None, **changes):
    settings = {
        "prior_row": None,
        "counted": None,
        "num_classes": logits.shape[1],
        "first_class": 0,
        "finite_support": False,
        "log_sum_sq": True,
        "mean_logit": True,
    }
    return Request(index, prior, **(settings | changes))


def plain(rows, columns, j=1, prior="uniform", scale=3):
    def make(dtype):
        logits = (scale * draw(rows, columns)).to(dtype)
        index = None if j is None else pick(columns, rows, j)
        if index is not None and j > 2:
            index[:, 1] = index[:, 0]  # their gradients add
        if prior == "vector":
            return logits, request_of(logits, index, with_zeros(columns))
        if prior == "table":
            return logits, request_of(logits, index, with_zeros(4, columns), prior_row=pick(4, rows))
        return logits, request_of(logits, index, prior)

    return make


def holes(columns, prior, finite):
    def make(dtype):
        logits, request = plain(6, columns, 3, prior)(dtype)
        logits[0, : columns // 2] = -INF
        logits[1] = -INF
        logits[2] = -INF
        logits[2, -2] = 1e4
        logits[3, request.index[3, 0]] = -INF
        logits[4, 1:] = -INF
        return logits, replace(request, finite_support=finite)

    return make


def unknown(columns):
    def make(dtype):
        logits, request = plain(6, columns, 2, "vector")(dtype)
        logits[0, columns // 2] = INF
        logits[1, columns // 2 :] = NAN
        logits[2] = NAN
        logits[3, 5], logits[3, columns - 1] = INF, NAN
        logits[4] = -INF
        logits[4, 3] = NAN
        return logits, request

    return make


def offset(by, columns=1001):
    def make(dtype):
        logits, request = plain(4, columns, 3, "table")(dtype)
        return logits + by, request

    return make


def ignored(columns, prior, finite=False):
    def make(dtype):
        logits, request = plain(7, columns, 2, prior)(dtype)
        counted = torch.tensor([True, False, True, False, False, True, False])
        logits[~counted] = NAN
        return logits, replace(request, counted=counted, finite_support=finite)

    return make


def strided(layout, columns=101):
    def make(dtype):
        logits, request = plain(8, columns, 2, "table")(dtype)
        wide = {
            "rows": lambda: logits.repeat_interleave(2, 0)[::2],
            "columns": lambda: logits.repeat_interleave(3, 1)[:, ::3],
            "transposed": lambda: logits.T.contiguous().T,
            "expanded": lambda: logits[:1].expand(8, columns),
            "offset": lambda: torch.cat([logits[:, :1], logits], 1)[:, 1:],
        }[layout]()
        return wide, replace(
            request,
            index=request.index.T.contiguous().T,
            prior=request.prior.T.contiguous().T
            if layout == "columns"
            else request.prior[:1].expand(4, columns),
            prior_row=request.prior_row.repeat_interleave(2)[::2],
            counted=torch.tensor([True, False]).expand(4, 2).reshape(8).repeat_interleave(2)[::2],
        )

    return make


def block(columns):
    def make(dtype):
        logits = (3 * draw(4, columns)).to(dtype)
        index = pick(3 * columns, 4, 3)
        index[0] = torch.tensor([0, columns, 2 * columns])
        index[1] = torch.tensor([columns - 1, 2 * columns - 1, 3 * columns - 1])
        return logits, request_of(
            logits, index, with_zeros(columns), num_classes=3 * columns, first_class=columns
        )

    return make


def ties(dtype):
    logits = torch.tensor([[0.0], [1e4], [-1e4], [6e4]]).expand(4, 5000).to(dtype, copy=True)
    logits[1, 4500:] = 2e4
    return logits, plain(4, 5000, 1)(dtype)[1]


def far_apart(dtype):
    """Differences beyond what exp can tell from 0."""
    logits, request = plain(4, 77, 3, "vector")(dtype)
    logits[:, ::2] = -6e4
    logits[1, 5] = 6e4
    return logits, request


def shared(dtype):
    """One index, one prior and one answer for all rows."""
    logits = draw(5, 40).to(dtype)
    return logits, request_of(
        logits,
        torch.tensor([[3]]).expand(5, 2),
        with_zeros(40),
        counted=torch.ones(1, dtype=torch.bool).expand(5),
    )


CASES = {
    "K=2": plain(7, 2, 1, "vector"),
    "K=3, J=0": plain(5, 3, 0, "uniform"),
    "K=17, no index": plain(5, 17, None, "table"),
    "K=1001, J=1": plain(5, 1001),
    "K=1001, J=3, no prior": plain(5, 1001, 3, None),
    "K=37, J=9": plain(5, 37, 9, "table"),
    "K=4097, J=3": plain(3, 4097, 3, "table"),
    "K=4096, many rows": plain(40, 4096, 1),
    "K=8200, wide": plain(2, 8200, 1, "vector", scale=30),
    "K=128256, uniform": plain(2, LONG, 1),
    "K=128256, vector": plain(2, LONG, 3, "vector"),
    "holes, no prior": holes(17, None, False),
    "holes, uniform": holes(17, "uniform", False),
    "holes, uniform, finite": holes(17, "uniform", True),
    "holes, vector": holes(5000, "vector", False),
    "holes, vector, finite": holes(5000, "vector", True),
    "holes, table, finite": holes(101, "table", True),
    "unknown": unknown(33),
    "unknown, long": unknown(9001),
    "+1e4": offset(1e4),
    "-1e4": offset(-1e4),
    "+1e4, long": offset(1e4, 9001),
    "ignored rows, uniform": ignored(33, "uniform"),
    "ignored rows, vector, finite": ignored(33, "vector", finite=True),
    "ignored rows, table": ignored(9001, "table"),
    "rows apart": strided("rows"),
    "columns apart": strided("columns"),
    "transposed": strided("transposed"),
    "expanded": strided("expanded"),
    "unaligned": strided("offset"),
    "block": block(101),
    "block of one column": block(1),
    "ties": ties,
    "far apart": far_apart,
    "shared": shared,
    "no rows": plain(0, 9, 2, "table"),
    "no rows, uniform": plain(0, LONG, 0, "uniform"),
}


def moved(request, device):
    tensors = ("index", "prior", "prior_row", "counted")
    values = {name: getattr(request, name) for name in tensors}
    return replace(request, **{n: v.to(device) for n, v in values.items() if isinstance(v, torch.Tensor)})


def upstream_of(stats, seed=3):
    grads = {}
    for place, name in enumerate(FLOATS):
        part = getattr(stats, name)
        if part is not None:
            grads[name] = draw(*part.shape, seed=seed + place).to(part)
    return Statistics(**grads)


def shift_free_of(stats):
    """Random slopes of log_sum, at_index and at_prior whose sum is such that the row maximum does not matter."""
    grads = upstream_of(stats)
    log_sum = torch.zeros_like(stats.log_sum)
    if stats.at_index is not None:
        inside = stats.seen if stats.seen is not None else torch.ones_like(stats.at_index, dtype=torch.bool)
        log_sum -= (grads.at_index * inside).sum(-1)
    if stats.at_prior is not None:
        log_sum -= grads.at_prior * stats.prior_mass
    return Statistics(log_sum=log_sum, at_index=grads.at_index, at_prior=grads.at_prior)


def without_maximum(gradient, request, stats, grads):
    """A gradient that has the terms through m, without them."""
    left = grads.log_sum.clone()
    if stats.at_index is not None:
        left += (grads.at_index if stats.seen is None else grads.at_index * stats.seen).sum(-1)
    if stats.at_prior is not None:
        left += grads.at_prior * stats.prior_mass
    here = stats.max > -INF if request.counted is None else (stats.max > -INF) & request.counted
    column = (stats.argmax - request.first_class).unsqueeze(-1)
    return gradient.scatter_add(-1, column, torch.where(here, left, 0).unsqueeze(-1))


def expanded_of(stats):
    one = torch.tensor(0.25).to(stats.max)
    present = {name: getattr(stats, name) for name in FLOATS if getattr(stats, name) is not None}
    return Statistics(**{name: one.expand(part.shape) for name, part in present.items()})


def strided_of(stats):
    grads = upstream_of(stats)
    apart = {n: g.repeat_interleave(2, 0)[::2] for n, g in grads._asdict().items() if g is not None}
    if grads.at_index is not None:
        apart["at_index"] = grads.at_index.T.contiguous().T
    return Statistics(**apart)


def alone(name):
    return lambda stats: Statistics(**{name: getattr(upstream_of(stats), name)})


UPSTREAM = {
    "all": upstream_of,
    "shift_free": shift_free_of,
    "expanded": expanded_of,
    "strided": strided_of,
    "none": lambda stats: Statistics(),
    **{name: alone(name) for name in FLOATS},
}


def with_nan(grads, counted):
    """The same with NaN in the rows that do not count, of which nothing may be read."""
    if counted is None:
        return grads
    return Statistics._make(
        None if g is None else g.where(counted.view(-1, *(1,) * (g.dim() - 1)), NAN) for g in grads
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_statistics_and_gradients(backend, case, dtype):
    device, module, options = BACKENDS[backend]
    logits, request = CASES[case](dtype)
    logits, request = logits.to(device), moved(request, device)
    before = logits.clone()
    ours = module.forward(logits, request, **options)
    eager, exact = reference.forward(logits, request), reference.forward(logits.double(), request)
    for name, part in ours._asdict().items():
        assert (part is None) == (getattr(exact, name) is None), name
        if name in ("argmax", "seen"):
            assert part is None or torch.equal(part, getattr(exact, name)), name
        elif part is not None:
            assert part.dtype == eager.max.dtype, name
            assert_as_exact(part, getattr(eager, name), getattr(exact, name), 1, name)

    kinds = ("all", "shift_free", "strided") if request.num_classes == LONG else tuple(UPSTREAM)
    if "unknown" in case:  # what does not pass by the NaN need not be NaN, but may be
        kinds = ("all", "shift_free", "expanded", "strided", "log_sum")
    for kind in kinds:
        grads = UPSTREAM[kind](eager)
        if all(g is None for g in grads) and kind != "none":
            continue
        double = Statistics._make(None if g is None else g.double() for g in grads)
        with torch.no_grad():
            exact_gradient = reference.backward(logits.double(), request, exact, double)
            if kind == "shift_free":  # the rounded slopes' sum is not quite 0
                exact_gradient = without_maximum(exact_gradient, request, exact, double)
            eager_gradient = reference.backward(logits, request, eager, grads)
            free = {"shift_free": True} if kind == "shift_free" else {}
            dirty = with_nan(grads, request.counted)
            gradient = module.backward(
                logits, request, ours, grads if module is reference else dirty, **options, **free
            )
        assert gradient.dtype == dtype
        scale = max([float(g.abs().max()) for g in grads if g is not None and g.numel()], default=0)
        assert_as_exact(gradient, eager_gradient, exact_gradient, scale, f"gradient of {kind}")
        if request.counted is not None:
            assert (gradient[~request.counted] == 0).all()
    torch.testing.assert_close(logits, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["itself", "apart", "transposed"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_takes_any_place(backend, layout, dtype):
    """That of the logits too, and one whose columns do not lie side by side; nothing beside it is written."""
    device, module, options = BACKENDS[backend]
    for case in ("K=37, J=9", "K=4097, J=3", "ignored rows, table", "holes, vector, finite", "K=2"):
        logits, request = CASES[case](dtype)
        logits, request = logits.to(device), moved(request, device)
        stats = module.forward(logits, request, **options)
        grads = upstream_of(stats)
        expected = module.backward(logits, request, stats, grads, **options)
        if layout == "itself":
            out = logits
        elif layout == "apart":
            room = torch.full((len(logits), logits.shape[1] + 3), 7.0, dtype=dtype, device=device)
            out = room[:, 1:-2]
        else:
            out = torch.full(logits.T.shape, NAN, dtype=dtype, device=device).T
        with torch.no_grad():
            assert module.backward(logits, request, stats, grads, out, **options) is out
        torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)
        if layout == "apart":
            assert (room[:, [0, -2, -1]] == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", [name for name in KERNELS if name.startswith("cpu")])
def test_a_row_is_the_same_bits_in_any_batch_and_with_any_threads(backend, dtype):
    """Few long rows are shared among threads by blocks of columns, many by rows."""
    _, module, options = BACKENDS[backend]
    logits = draw(34, 12300).to(dtype)
    index = pick(12300, 34, 2)
    prior = with_zeros(12300)
    answers = []
    for rows, threads in itertools.product((1, 2, 34), (1, 2)):
        request = request_of(logits, index[:rows], prior)
        torch.set_num_threads(threads)
        try:
            stats = module.forward(logits[:rows], request, **options)
            grads = upstream_of(module.forward(logits, request_of(logits, index, prior), **options))
            grads = Statistics._make(None if g is None else g[:rows] for g in grads)
            gradient = module.backward(logits[:rows], request, stats, grads, **options)
        finally:
            torch.set_num_threads(1)
        answers.append([*(p[:1] for p in stats if p is not None and p.dim()), gradient[:1]])
    for answer in answers[1:]:
        for one, other in zip(answers[0], answer, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("backend", [name for name in KERNELS if name.startswith("cpu")])
def test_the_kernel_itself_refuses_what_is_out_of_range(backend):
    _, module, options = BACKENDS[backend]
    for bad in (-1, 5, 2**40):
        index = torch.tensor([[0], [bad]])
        with pytest.raises(ValueError, match=f"0..4, got {bad}"):
            module.forward(torch.zeros(2, 5), request_of(torch.zeros(2, 5), index), **options)


# --- cross_entropy

SMOOTH = torch.rand(41, 41, generator=torch.Generator().manual_seed(5)).softmax(-1)


def mixture_of(rows, num_classes, j):
    """J classes with weights of each row, and a prior with zeros in it; of any mass."""
    weight = torch.rand(rows, j, generator=torch.Generator().manual_seed(6))
    if j == 0:
        return ls.Mixture(prior=with_zeros(num_classes), prior_weight=torch.full((rows,), 0.03))
    return ls.Mixture(
        index=pick(num_classes, rows, j),
        weight=weight,
        prior=with_zeros(num_classes) / num_classes,
        prior_weight=torch.linspace(0, 1, rows),
    )


# (rows, K) -> the target, the smoothing
TARGETS = {
    "hard": lambda n, K: (pick(K, n), 0.0),
    "index": lambda n, K: (pick(K, n), 0.1),
    "others": lambda n, K: (pick(K, n), ls.others(0.2)),
    "prior with zeros": lambda n, K: (pick(K, n), ls.prior(0.2, with_zeros(K) / with_zeros(K).sum())),
    "eps of rows": lambda n, K: (pick(K, n), ls.uniform(torch.linspace(0, 1, n))),
    "class_conditional": lambda n, K: (pick(K, n), ls.class_conditional(0.3, SMOOTH[:K, :K].softmax(-1))),
    "dense": lambda n, K: (with_zeros(n, K) / K, 0.0),
    "dense, smoothed": lambda n, K: (with_zeros(n, K) / K, 0.1),
    "mixture, J=0": lambda n, K: (mixture_of(n, K, 0), 0.0),
    "mixture, J=1": lambda n, K: (mixture_of(n, K, 1), 0.0),
    "mixture, J=3": lambda n, K: (mixture_of(n, K, 3), 0.0),
    "mixture, uniform": lambda n, K: (ls.mixup(pick(K, n), pick(K, n, seed=9), 0.3, 0.1, K), 0.0),
}
EXTRAS = {
    "": lambda n, K: {},
    "none": lambda n, K: {"reduction": "none"},
    "sum": lambda n, K: {"reduction": "sum"},
    "stats": lambda n, K: {"return_stats": True},
    "z_loss": lambda n, K: {"z_loss": 1e-3},
    "class weights": lambda n, K: {"weight": torch.linspace(0, 2, K)},
    "row weights": lambda n, K: {"row_weight": torch.linspace(0, 1, n), "reduction": "sum"},
    "denominator": lambda n, K: {"denominator": 1234.5},
    "tensor denominator": lambda n, K: {"denominator": torch.tensor(1234)},
    "rows": lambda n, K: {"denominator": "rows"},
}


def definition(logits, target, eps, extra):
    """The loss as eager torch has it in the dtype of the logits: F.cross_entropy, or a table of targets."""
    dtype, (rows, K) = logits.dtype, logits.shape
    weight, row_weight = extra.get("weight"), extra.get("row_weight")
    weight = None if weight is None else weight.to(dtype)
    labels = None if isinstance(target, ls.Mixture) or target.is_floating_point() else target
    counted = torch.ones(rows, dtype=torch.bool) if labels is None else labels != -100
    if isinstance(target, ls.Mixture) or isinstance(eps, ls.Smoothing):
        mixture = eps(target if labels is None else labels.where(counted, 0), K) if eps else target
        q = mixture.dense(K, torch.float64).expand(rows, K).to(dtype)
        terms = -q * torch.where(q == 0, 0, logits.log_softmax(-1))
        losses = torch.where(counted, (terms if weight is None else terms * weight).sum(-1), 0)
    else:
        target = target.to(dtype) if labels is None else target
        losses = F.cross_entropy(logits, target, weight, reduction="none", label_smoothing=eps)
    if extra.get("z_loss"):
        losses = losses + torch.where(counted, extra["z_loss"] * logits.logsumexp(-1).square(), 0)
    if row_weight is not None:
        losses = losses * row_weight.to(dtype)
        counted = counted & (row_weight != 0)
    if extra.get("reduction", "mean") != "mean":
        return losses if extra["reduction"] == "none" else losses.sum()
    denominator = extra.get("denominator")
    if denominator is None and weight is not None and labels is not None:
        denominator = weight[labels.where(counted, 0)][counted].sum()
    elif denominator in (None, "valid"):
        denominator = max(1, int(counted.sum()))
    return losses.sum() / (rows if isinstance(denominator, str) else denominator)


def assert_loss(ours, exact, name=""):
    """Within 1e-6 of its own value; in float64 within 1e-12."""
    assert ours.dtype == (torch.float64 if ours.dtype == torch.float64 else torch.float32), name
    tol = 1e-12 if ours.dtype == torch.float64 else 1e-6
    torch.testing.assert_close(ours.double(), exact, rtol=tol, atol=0, msg=lambda m: f"{name}: {m}")


def slopes_of(loss, inputs, upstream=None, **settings):
    upstream = torch.ones_like(loss) if upstream is None else upstream.to(loss.dtype)
    return torch.autograd.grad(loss, inputs, upstream, **settings)


def check_cross_entropy(logits, target, eps, extra, name, **settings):
    """Loss and gradient; gives both."""
    logits = logits.detach().requires_grad_()
    arguments = {k: v for k, v in extra.items() if k != "return_stats"}
    loss = ls.cross_entropy(logits, target, label_smoothing=eps, **extra, **settings)
    if extra.get("return_stats"):
        loss, stats = loss
        assert not any(t.requires_grad for t in (stats.lse, stats.confidence, stats.entropy))
        exact_stats = ls.row_stats(logits.detach().double(), stats.index, log_sum_sq=True, mean_logit=True)
        for part in ("lse", "confidence", "entropy", "sum_sq"):
            mine, its = getattr(stats, part), getattr(exact_stats, part)
            here = ... if stats.counted is None else stats.counted
            torch.testing.assert_close(mine[here].double(), its[here], rtol=2e-6, atol=2e-6)
    upstream = draw(*loss.shape, seed=8)
    (gradient,) = slopes_of(loss, logits, upstream)
    double = logits.detach().double().requires_grad_()
    exact = definition(double, target, eps, arguments)
    (exact_gradient,) = slopes_of(exact, double, upstream)
    same = logits.detach().requires_grad_()
    eager = definition(same, target, eps, arguments)
    (eager_gradient,) = slopes_of(eager, same, upstream)
    assert_loss(loss, exact, name)
    scale = float(exact_gradient.nan_to_num(0).abs().sum(-1).max())
    assert_as_exact(
        gradient, eager_gradient, exact_gradient, scale, name, units=4096
    )  # eager has lse rounded
    return loss, gradient


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("backend", FEEDS)
def test_cross_entropy(backend, kind, dtype):
    logits = (3 * draw(9, 41)).to(dtype)
    target, eps = TARGETS[kind](9, 41)
    if dtype == torch.float64 and isinstance(target, torch.Tensor) and target.is_floating_point():
        target = target.double()  # they are smoothed in their own dtype
    for extra in EXTRAS:
        check_cross_entropy(logits, target, eps, EXTRAS[extra](9, 41), extra, backend=backend)


def ignoring(target, *kept):
    """All rows but those kept are ignored."""
    rows = torch.zeros(len(target), dtype=torch.bool)
    rows[list(kept)] = True
    return target.where(rows, -100)


def awkward_holes(dtype):
    """No label and no class with a share is impossible, but many another is, up to all of the others."""
    logits, target = (3 * draw(6, 41)).to(dtype), pick(41, 6)
    logits[draw(6, 41, seed=4) > 0] = -INF
    logits[3] = -INF
    logits[range(6), target] = 1.5
    return logits, target, 0.0


AWKWARD = {
    "K=2": lambda dtype: ((3 * draw(9, 2)).to(dtype), pick(2, 9), 0.1),
    "K=5001": lambda dtype: ((3 * draw(3, 5001)).to(dtype), pick(5001, 3), 0.1),
    "K=128256": lambda dtype: ((3 * draw(2, LONG)).to(dtype), pick(LONG, 2), 0.1),
    "K=128256, prior with zeros": lambda dtype: ((3 * draw(2, LONG)).to(dtype), *TARGETS["prior with zeros"](2, LONG)),
    "+1e4": lambda dtype: ((3 * draw(9, 41)).to(dtype) + 1e4, pick(41, 9), 0.1),
    "-1e4": lambda dtype: ((3 * draw(9, 41)).to(dtype) - 1e4, pick(41, 9), ls.others(0.1)),
    "-inf": awkward_holes,
    "one row counts": lambda dtype: ((3 * draw(9, 41)).to(dtype), ignoring(pick(41, 9), 4), 0.1),
    "two rows count": lambda dtype: ((3 * draw(9, 41)).to(dtype), ignoring(pick(41, 9), 0, 8), ls.others(0.3)),
    "columns apart": lambda dtype: ((3 * draw(9, 82)).to(dtype)[:, ::2], pick(41, 9), 0.1),
    "rows apart": lambda dtype: ((3 * draw(18, 41)).to(dtype)[::2], pick(41, 18)[::2], 0.1),
    "transposed": lambda dtype: ((3 * draw(41, 9)).to(dtype).T, pick(41, 9), 0.1),
    "expanded": lambda dtype: ((3 * draw(1, 41)).to(dtype).expand(9, 41), pick(41, 9), 0.1),
    "one row": lambda dtype: ((3 * draw(1, 41)).to(dtype), pick(41, 1), 0.1),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", AWKWARD)
@pytest.mark.parametrize("backend", FEEDS)
def test_cross_entropy_of_awkward_logits(backend, case, dtype):
    logits, target, eps = AWKWARD[case](dtype)
    extras = ["", "none", "stats", "z_loss"] + (["row weights"] if case != "-inf" else [])
    for extra in extras[:3] if logits.shape[1] == LONG else extras:
        check_cross_entropy(logits, target, eps, EXTRAS[extra](*logits.shape), extra, backend=backend)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", FEEDS)
@pytest.mark.parametrize("extra", ["", "none", "sum", "stats", "z_loss", "class weights", "denominator"])
def test_no_row_counts(backend, extra, dtype):
    """The loss is 0 and so is the gradient, whatever the logits hold."""
    for rows, target in ((0, pick(7, 0)), (3, torch.full((3,), -100)), (0, with_zeros(0, 7))):
        logits = torch.full((rows, 7), NAN, dtype=dtype, requires_grad=True)
        loss = ls.cross_entropy(
            logits, target, label_smoothing=0.1, **EXTRAS[extra](rows, 7), backend=backend
        )
        loss = loss[0] if isinstance(loss, tuple) else loss
        assert torch.equal(loss, torch.zeros_like(loss))
        assert torch.equal(slopes_of(loss, logits)[0], torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("backend", FEEDS)
def test_the_graph_may_be_used_again(backend, extra, dtype):
    """A second backward gives the same bits, and a gradient made to be differentiated again is that gradient."""
    target, eps = TARGETS["others"](9, 41)
    logits = (3 * draw(9, 41)).to(dtype).requires_grad_()
    loss = ls.cross_entropy(logits, target, label_smoothing=eps, **EXTRAS[extra](9, 41), backend=backend)
    loss = loss[0] if isinstance(loss, tuple) else loss
    upstream = draw(*loss.shape, seed=8)
    first, second = (slopes_of(loss, logits, upstream, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    (third,) = slopes_of(loss, logits, upstream, create_graph=True)
    torch.testing.assert_close(third, first, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
    (again,) = torch.autograd.grad(third.float().square().sum(), logits)
    double = logits.detach().double().requires_grad_()
    exact = definition(
        double, target, eps, {k: v for k, v in EXTRAS[extra](9, 41).items() if k != "return_stats"}
    )
    (slope,) = slopes_of(exact, double, upstream, create_graph=True)
    (expected,) = torch.autograd.grad(slope.square().sum(), double)
    tol = 8 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    least = torch.finfo(dtype).eps * torch.finfo(dtype).smallest_normal
    atol = tol * float(expected.abs().max()) + 2 * least
    torch.testing.assert_close(again.double(), expected, rtol=tol, atol=atol)


@pytest.mark.parametrize("scale", [1.0, 65536.0])
@pytest.mark.parametrize("backend", FEEDS)
def test_a_loss_scale_in_half_precision(backend, scale):
    """The gradient of 65536·loss is rounded once, from float32: no worse than F.cross_entropy's."""
    logits, target = (3 * draw(4096, 17)).half(), pick(17, 4096)
    gradients = []
    for loss, z in (
        (ls.cross_entropy, logits.clone()),
        (F.cross_entropy, logits.clone()),
        (F.cross_entropy, logits.double()),
    ):
        settings = {"backend": backend} if loss is ls.cross_entropy else {}
        (scale * loss(z.requires_grad_(), target, label_smoothing=0.1, **settings)).backward()
        gradients.append(z.grad)
    assert_as_exact(*gradients)


def test_no_gradient_work_without_gradients(monkeypatch):
    """Under no_grad, or of logits that ask for none, nothing is kept for a backward."""

    def refuse(*args, **settings):
        raise AssertionError("a gradient was made")

    for module in (cpu, reference):
        for name in ("backward", "combine_backward"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refuse)
    x, weight, target = draw(9, 5).requires_grad_(), draw(41, 5).requires_grad_(), pick(41, 9)
    for extra in EXTRAS:
        arguments = EXTRAS[extra](9, 41)
        with torch.no_grad():
            losses = [
                ls.cross_entropy(x @ weight.T, target, **arguments),
                ls.linear_cross_entropy(x, weight, target, **arguments),
            ]
        frozen = x.detach(), weight.detach()
        losses += [
            ls.cross_entropy(frozen[0] @ frozen[1].T, target, **arguments),
            ls.linear_cross_entropy(*frozen, target, **arguments),
        ]
        for loss in losses:
            assert not (loss[0] if isinstance(loss, tuple) else loss).requires_grad


# --- inplace_backward


INPLACE = [name for name in FEEDS if name != "reference"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extra", ["", "none", "stats", "z_loss", "class weights", "row weights"])
@pytest.mark.parametrize("layout", ["own", "rows apart", "columns apart", "transposed", "images"])
@pytest.mark.parametrize("backend", INPLACE)
def test_inplace_backward(backend, layout, extra, dtype):
    """The same bits as without, where the logits lay if their columns lie side by side, and nothing beside them."""
    x = (3 * draw(9, 41)).to(dtype).requires_grad_()
    target, arguments = ignoring(pick(41, 9), 1, 2, 3, 8), EXTRAS[extra](9, 41)

    def step(inplace):
        room = None
        if layout == "rows apart":
            room = torch.cat([x, torch.ones(9, 3, dtype=dtype)], 1) + 0
            logits = room[:, :41]
        else:
            logits = {
                "own": lambda: x + 0,
                "columns apart": lambda: x.repeat_interleave(2, 1)[:, ::2],
                "transposed": lambda: (x.T + 0).T,
                "images": lambda: (x.view(3, 3, 41).transpose(1, 2) + 0).contiguous(),
            }[layout]()
        shaped = {
            k: v.view(3, 3) if k == "row_weight" and layout == "images" else v for k, v in arguments.items()
        }
        loss = ls.cross_entropy(
            logits,
            target.view(3, 3) if layout == "images" else target,
            label_smoothing=0.1,
            inplace_backward=inplace,
            backend=backend,
            **shaped,
        )
        loss = loss[0] if isinstance(loss, tuple) else loss
        upstream = draw(*loss.shape, seed=8)
        (gradient,) = slopes_of(loss, x, upstream)
        return loss.detach(), gradient, logits.detach(), room

    loss, gradient, *_ = step(False)
    same_loss, same_gradient, logits, room = step(True)
    assert torch.equal(loss, same_loss)
    assert torch.equal(gradient, same_gradient)
    if layout != "images":
        assert torch.equal(logits, gradient)
    if room is not None:
        assert (room[:, 41:] == 1).all()


@pytest.mark.parametrize("backend", INPLACE)
@pytest.mark.parametrize("extra", ["", "stats", "z_loss"])
def test_inplace_backward_takes_nothing_from_anyone(backend, extra):
    x, target = (3 * draw(9, 41)).requires_grad_(), pick(41, 9)

    def loss_of(logits):
        loss = ls.cross_entropy(
            logits, target[: len(logits)], inplace_backward=True, backend=backend, **EXTRAS[extra](9, 41)
        )
        return loss[0] if isinstance(loss, tuple) else loss

    windows = torch.cat([x.view(-1), x.view(-1)])
    for logits, says in (
        (x, "a leaf"),
        (x[:], "a leaf"),
        (x[2:4].view(2, 41), "a leaf"),
        (x.unsqueeze(0).squeeze(0), "a leaf"),
        ((x[:1] + 0).expand(9, 41), "memory"),
        ((x[:, :1] + 0).expand(9, 41), "memory"),
        (windows.unfold(0, 41, 1)[:9], "memory"),
        (windows.as_strided((9, 41), (40, 1)), "memory"),
    ):
        with pytest.raises(ValueError, match=says):
            loss_of(logits)
    modified = "modified by an inplace operation"
    for keeps in (torch.tanh, torch.exp, lambda z: (z + 0).sigmoid().view(9, 41)):
        with pytest.raises(RuntimeError, match=modified):
            loss_of(keeps(x)).backward()
    logits = x + 0
    other = logits.square().sum()
    with pytest.raises(RuntimeError, match=modified):
        (other + loss_of(logits)).backward()
    loss = loss_of(x + 0)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=modified):
        loss.backward()
    with pytest.raises(RuntimeError, match="second derivative"):
        slopes_of(loss_of(x + 0), x, create_graph=True)
    logits = x + 0
    first, second = loss_of(logits), loss_of(logits)
    with pytest.raises(RuntimeError, match=modified):
        (first + second).backward()


@pytest.mark.parametrize("backend", INPLACE)
@pytest.mark.parametrize("extra", ["", "stats", "z_loss"])
def test_the_gradient_of_inplace_backward_is_no_part_of_the_graph(backend, extra):
    """As hooks see it, retain_grad keeps it and a leaf takes it over."""
    x, target, seen = draw(9, 41).requires_grad_(), pick(41, 9), []
    logits = x.clone()
    logits.retain_grad()
    logits.register_hook(lambda g: seen.append((g.requires_grad, g.grad_fn)))
    loss = ls.cross_entropy(logits, target, inplace_backward=True, backend=backend, **EXTRAS[extra](9, 41))
    (loss[0] if isinstance(loss, tuple) else loss).backward()
    assert seen == [(False, None)]
    assert not logits.grad.requires_grad
    assert torch.equal(logits.grad, x.grad)


@pytest.mark.parametrize("backend", INPLACE)
def test_inplace_backward_beside_one_that_is_done_with_the_logits(backend):
    """A node that was there later goes first, and both gradients are right."""
    x, target = draw(9, 41).requires_grad_(), pick(41, 9)
    gradients = []
    for inplace in (False, True):
        logits = x + 0
        logits.retain_grad()
        loss = ls.cross_entropy(logits, target, inplace_backward=inplace, backend=backend)
        (slope,) = slopes_of(loss + logits.square().sum(), x)
        gradients.append(slope)
    assert torch.equal(*gradients)


# --- linear_cross_entropy

LINEAR = {
    "": lambda n, K: {},
    "chunks of 1": lambda n, K: {"chunk_rows": 1},
    "chunks of 3": lambda n, K: {"chunk_rows": 3},
    "one chunk": lambda n, K: {"chunk_rows": n},
    "none": lambda n, K: {"reduction": "none", "chunk_rows": 4},
    "sum": lambda n, K: {"reduction": "sum", "chunk_rows": 4},
    "stats": lambda n, K: {"return_stats": True, "chunk_rows": 4},
    "none, stats": lambda n, K: {"return_stats": True, "reduction": "none", "chunk_rows": 4},
    "z_loss": lambda n, K: {"z_loss": 1e-3, "chunk_rows": 4},
    "class weights": lambda n, K: {"weight": torch.linspace(0, 2, K), "chunk_rows": 4},
    "row weights": lambda n, K: {"row_weight": torch.linspace(0, 1, n), "reduction": "sum", "chunk_rows": 4},
    "denominator": lambda n, K: {"denominator": 1234.5},
    "tensor denominator": lambda n, K: {"denominator": torch.tensor(1234), "chunk_rows": 4},
    "rows": lambda n, K: {"denominator": "rows", "chunk_rows": 4},
    "valid": lambda n, K: {"denominator": "valid", "chunk_rows": 4},
    "scale": lambda n, K: {"scale": 0.3, "chunk_rows": 4},
    "softcap": lambda n, K: {"softcap": 2.0, "chunk_rows": 4},
    "both, none": lambda n, K: {"scale": 3.0, "softcap": 5.0, "reduction": "none", "chunk_rows": 4},
    "both, stats": lambda n, K: {"scale": 3.0, "softcap": 5.0, "return_stats": True, "chunk_rows": 4},
}
LINEAR_TARGETS = {
    "index": TARGETS["index"],
    "others, most ignored": lambda n, K: (ignoring(pick(K, n), 1, n - 1), ls.others(0.2)),
    "dense": TARGETS["dense"],
    "mixture": TARGETS["mixture, J=3"],
    "class_conditional": TARGETS["class_conditional"],
}


def layer_of(rows, features, num_classes, dtype, bias=True):
    x, weight = draw(rows, features), draw(num_classes, features, seed=1) / features**0.5
    layer = [x, weight] + ([draw(num_classes, seed=2)] if bias else [])
    return [t.to(dtype).requires_grad_() for t in layer]


def linear_loss(layer, target, **settings):
    x, weight, *bias = layer
    return ls.linear_cross_entropy(x, weight, target, linear_bias=bias[0] if bias else None, **settings)


def head(layer, settings):
    """The logits by the formula."""
    outputs, scale, softcap = F.linear(*layer), settings.get("scale", 1), settings.get("softcap")
    return scale * outputs if softcap is None else softcap * (scale * outputs / softcap).tanh()


def is_capped(settings):
    return "scale" in settings or "softcap" in settings


def of_logits(settings):
    """The settings that `cross_entropy` has too."""
    return {k: v for k, v in settings.items() if k not in ("return_stats", "chunk_rows", "scale", "softcap")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LINEAR_TARGETS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("backend", FEEDS)
def test_linear_cross_entropy(backend, bias, kind, dtype):
    """The loss is that of the layer's logits as their dtype has them, the gradients those of the exact layer."""
    rows, num_classes = 11, 41
    target, eps = LINEAR_TARGETS[kind](rows, num_classes)
    if dtype == torch.float64 and kind == "dense":
        target = target.double()
    for name in LINEAR:
        extra = LINEAR[name](rows, num_classes)
        if is_capped(extra) and dtype in (torch.float16, torch.bfloat16):
            continue  # whose roundings lie elsewhere: the next test
        layer = layer_of(rows, 24, num_classes, dtype, bias)
        loss = linear_loss(layer, target, label_smoothing=eps, **extra, backend=backend)
        arguments = of_logits(extra)
        chunks = layer[0].split(extra.get("chunk_rows", rows))
        logits = torch.cat([head((x, *layer[1:]), extra) for x in chunks]).detach()
        if extra.get("return_stats"):
            loss, stats = loss
            check_stats(stats, logits)
        assert_loss(loss, definition(logits.double(), target, eps, arguments), name)

        upstream = draw(*loss.shape, seed=8)
        gradients = slopes_of(loss, layer, upstream)
        same = [t.detach().requires_grad_() for t in layer]
        eager = slopes_of(definition(head(same, extra), target, eps, arguments), same, upstream)
        exact, scales = exact_slopes(layer, extra, lambda z: definition(z, target, eps, arguments), upstream)  # noqa: B023
        for part, mine, its, true, scale in zip(PARTS, gradients, eager, exact, scales, strict=False):
            assert_as_exact(mine, its, true, scale, f"{name}: {part}", units=4096)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in LINEAR if is_capped(LINEAR[name](1, 1))])
@pytest.mark.parametrize("backend", FEEDS)
def test_capped_logits_of_half_the_width_are_as_exact_as_those_of_torch(backend, name, dtype):
    """Of many rows, since roundings of single logits fall one way or the other."""
    rows, num_classes = 200, 41
    target, extra = pick(num_classes, rows), LINEAR[name](rows, num_classes)
    layer = layer_of(rows, 24, num_classes, dtype)
    double = [t.detach().double().requires_grad_() for t in layer]
    values = []
    for parts, loss in (
        (layer, linear_loss(layer, target, label_smoothing=0.1, **extra, backend=backend)),
        (layer, definition(head(layer, extra).float(), target, 0.1, of_logits(extra))),
        (double, definition(head(double, extra), target, 0.1, of_logits(extra))),
    ):
        loss = loss[0] if isinstance(loss, tuple) else loss
        values.append([loss.double().detach(), *slopes_of(loss, parts, draw(*loss.shape, seed=8))])
    for mine, its, true in zip(*values, strict=True):
        error, allowed = ((part.double() - true).norm() for part in (mine, its))
        assert error <= 1.5 * allowed + torch.finfo(dtype).eps / 50 * true.norm()  # where sums cancel


@pytest.mark.parametrize(
    "extra",
    [{"softcap": 1e30}, {"scale": 1e5}, {"scale": 1e5, "softcap": 1e6}, {"scale": 1e-6, "softcap": 1e-6}],
)
@pytest.mark.parametrize("chunk_rows", [4, None])
@pytest.mark.parametrize("backend", FEEDS)
def test_logits_out_of_the_range_of_float16_are_made_of_outputs_within_it(backend, chunk_rows, extra):
    """Against float64; a sum makes its gradients in the forward, full logits (of None here) by autograd."""
    target, layer = pick(41, 11), layer_of(11, 24, 41, torch.float16)
    double = [t.detach().double().requires_grad_() for t in layer]
    exact = definition(head(double, extra), target, 0.1, {"reduction": "sum"})
    settings = {"reduction": "sum", "label_smoothing": 0.1, "backend": backend} | extra
    if chunk_rows is None:
        loss = linear_loss(layer, target, **settings, support="finite")
    else:
        loss = linear_loss(layer, target, **settings, chunk_rows=chunk_rows)
    torch.testing.assert_close(loss.double(), exact, rtol=2e-3, atol=0)
    true = slopes_of(exact, double)
    largest = max(float(part.abs().max()) for part in true)  # and float16 has no more than 65,504
    mine = slopes_of(loss, layer, torch.full_like(loss, 1 / largest))
    for part, its in zip(mine, true, strict=True):
        torch.testing.assert_close(part.double(), its / largest, rtol=0, atol=5e-3)


PARTS = ("input", "weight", "bias")


def exact_slopes(layer, settings, loss_of, upstream=None):
    """The gradients of a layer in float64, and for each the size of which a rounding is what its sum may add.

    A gradient of a layer sums n products of the slopes at the logits, and sizes below are the sums of the products'
    sizes, the largest. The slopes were rounded to the layer's dtype before: half an eps of that dtype. The sum itself
    is made in float32 or wider, in an order and in blocks that depend on the processor: √n half eps, where the
    roundings fall either way (Higham and Mary, SIAM J. Sci. Comput. 41, 2019; at worst n).
    """
    (rows, _), (num_classes, _) = layer[0].shape, layer[1].shape
    dtype = layer[0].dtype
    coarser = torch.finfo(dtype).eps / torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    layer = [t.detach().double().requires_grad_() for t in layer]
    logits = head(layer, settings)
    *gradients, slope = slopes_of(loss_of(logits), [*layer, logits], upstream)
    slope = slope * settings.get("scale", 1)
    x, weight, size = layer[0].detach().abs(), layer[1].detach().abs(), slope.abs()
    sums = ((size @ weight, num_classes), (size.T @ x, rows), (size.sum(0), rows))
    return gradients, [float(sizes.max()) * (coarser + n**0.5) / 2 for sizes, n in sums]


def check_stats(stats, logits):
    """Statistics are those of the full logits, and hold no graph."""
    for name in ("at_prior", "mean_logit", "log_sum_sq", "log_sum", "max", "at_index"):
        assert getattr(stats, name) is None or not getattr(stats, name).requires_grad
    exact = ls.row_stats(
        logits.double(), stats.index, counted=stats.counted, log_sum_sq=True, mean_logit=True
    )
    assert torch.equal(stats.argmax, exact.argmax)
    for name in ("max", "log_sum", "at_index", "log_sum_sq", "mean_logit"):
        if getattr(exact, name) is not None:
            torch.testing.assert_close(
                getattr(stats, name).double(), getattr(exact, name), rtol=2e-6, atol=2e-6
            )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", FEEDS)
def test_linear_cross_entropy_where_no_row_counts(backend, dtype):
    for rows, ignored in ((0, False), (5, True)):
        for name in LINEAR:
            layer = layer_of(rows, 6, 7, dtype)
            target = torch.full((rows,), -100) if ignored else pick(7, rows)
            if ignored:
                with torch.no_grad():
                    layer[0].fill_(NAN)
            extra = LINEAR[name](max(rows, 1), 7)
            if "row_weight" in extra:
                extra["row_weight"] = extra["row_weight"][:rows]
            loss = linear_loss(layer, target, label_smoothing=0.1, **extra, backend=backend)
            if extra.get("return_stats"):
                loss, stats = loss
                assert stats.max.shape == (rows,)
                assert torch.equal(stats.nll, torch.zeros(rows, dtype=loss.dtype))
            assert torch.equal(loss, torch.zeros_like(loss)), name
            for gradient, tensor in zip(slopes_of(loss, layer), layer, strict=True):
                assert torch.equal(gradient, torch.zeros_like(tensor)), name


@pytest.mark.parametrize("backend", FEEDS)
@pytest.mark.parametrize("name", LINEAR)
def test_a_frozen_part_of_the_layer_takes_nothing_from_the_others(name, backend):
    target = ignoring(pick(41, 11), 0, 1, 5, 9)
    layer = layer_of(11, 8, 41, torch.bfloat16)
    extra = LINEAR[name](11, 41)

    def gradients(asking):
        mine = [t.detach().requires_grad_(asks) for t, asks in zip(layer, asking, strict=True)]
        loss = linear_loss(mine, target, label_smoothing=0.1, **extra, backend=backend)
        loss = loss[0] if isinstance(loss, tuple) else loss
        loss.backward(torch.ones_like(loss))
        return [t.grad for t in mine]

    whole = gradients((True, True, True))
    for asking in itertools.product((False, True), repeat=3):
        if any(asking):
            for asks, mine, its in zip(asking, gradients(asking), whole, strict=True):
                assert (mine is not None) == asks
                assert mine is None or torch.equal(mine, its)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("backend", FEEDS)
def test_the_graph_of_a_linear_loss_may_be_used_again(backend, name, dtype):
    target, extra = ignoring(pick(13, 11), 0, 1, 5, 9), LINEAR[name](11, 13)
    layer = layer_of(11, 6, 13, dtype)
    loss = linear_loss(layer, target, label_smoothing=0.1, **extra, backend=backend)
    loss = loss[0] if isinstance(loss, tuple) else loss
    upstream = draw(*loss.shape, seed=8)
    first, second = (slopes_of(loss, layer, upstream, retain_graph=True) for _ in range(2))
    third = slopes_of(loss, layer, upstream, create_graph=True)
    again = torch.autograd.grad(sum(t.float().square().sum() for t in third), layer)
    double = [t.detach().double().requires_grad_() for t in layer]
    slopes = slopes_of(
        definition(head(double, extra), target, 0.1, of_logits(extra)), double, upstream, create_graph=True
    )
    expected = torch.autograd.grad(sum(t.square().sum() for t in slopes), double)
    tol = 8 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    for one, two, three, four, it in zip(first, second, third, again, expected, strict=True):
        assert torch.equal(one, two)
        least = torch.finfo(dtype).eps * torch.finfo(dtype).smallest_normal
        torch.testing.assert_close(three, one, rtol=tol, atol=tol * float(one.abs().max()) + 2 * least)
        torch.testing.assert_close(four.double(), it, rtol=tol, atol=tol * float(it.abs().max()) + 4 * least)


@pytest.mark.parametrize("scale", [1.0, 1 / 3, 65536.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("backend", FEEDS)
def test_a_mean_over_many_rows_neither_underflows_nor_overflows(backend, reduction, dtype, scale):
    """A row's share of 1/4096 takes its gradient below float16's numbers, a loss scale alone above them."""
    target = pick(17, 4096)
    layer = layer_of(4096, 8, 17, dtype)
    with torch.no_grad():
        layer[1] *= 8  # gradients of the input reach beyond 1 before they are shared out
    loss = linear_loss(
        layer, target, label_smoothing=0.1, chunk_rows=1000, reduction=reduction, backend=backend
    )
    gradients = slopes_of(scale * loss.sum() / (1 if reduction == "mean" else 4096), layer)
    logits = F.linear(*[t.detach() for t in layer]).double()
    assert_loss(loss.mean(), F.cross_entropy(logits, target, label_smoothing=0.1))
    exact, scales = exact_slopes(layer, {}, lambda z: scale * F.cross_entropy(z, target, label_smoothing=0.1))
    same = [t.detach().requires_grad_() for t in layer]
    eager = slopes_of(
        scale * F.cross_entropy(F.linear(*same), target, label_smoothing=0.1).to(loss.dtype), same
    )
    for part, mine, its, true, size in zip(PARTS, gradients, eager, exact, scales, strict=True):
        assert mine.isfinite().all()
        assert_as_exact(mine, its, true, size, part)


# --- what is out of range


@pytest.mark.parametrize("bad", [-1, -99, 7, 255, 2**40])
@pytest.mark.parametrize("backend", FEEDS)
def test_a_class_out_of_range_is_named(backend, bad):
    logits, target = draw(4, 7).requires_grad_(), torch.tensor([0, 6, bad, 2])
    x, weight = draw(4, 5).requires_grad_(), draw(7, 5).requires_grad_()
    mixture = ls.Mixture(index=target[:, None].expand(4, 2), weight=0.5)
    for y in (target, mixture, torch.where(target == 0, -100, target)):
        for extra in ("", "none", "stats", "z_loss", "class weights"):
            arguments = EXTRAS[extra](4, 7) | {"backend": backend}
            with pytest.raises(ValueError, match=rf"0\.\.6, got {bad}$"):
                ls.cross_entropy(logits, y, **arguments)
            with pytest.raises(ValueError, match=rf"0\.\.6, got {bad}$"):
                ls.linear_cross_entropy(x, weight, y, **arguments)
    with pytest.raises(ValueError, match=rf"0\.\.6, got {bad}$"):
        ls.row_stats(logits, target[:, None], backend=backend)
