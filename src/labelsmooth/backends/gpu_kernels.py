"""Triton kernels of the row statistics and of their gradient; `gpu` launches them.

A program works on tiles of ROWS × BLOCK logits. Pointers that are None, and flags in capitals, are known when
a kernel is compiled, so what a call does not ask for costs nothing.
"""

import triton
import triton.language as tl


@triton.jit
def _origin(top):
    """What statistics are relative to: the maximum, or 0 where every logit is −inf."""
    return tl.where(top == float("-inf"), 0.0, top)


@triton.jit
def _any(flags):
    return tl.max(flags.to(tl.int32), 0) != 0


@triton.jit
def _offset(
    row,  # (ROWS,)
    column,  # (BLOCK,)
    row_stride,
    column_stride,
):
    return row.to(tl.int64)[:, None] * row_stride + column.to(tl.int64)[None, :] * column_stride


@triton.jit
def _live(
    counted,  # (N,) or None
    row,  # (ROWS,)
    inside,  # (ROWS,)
):
    """Which rows are there and count."""
    if counted is not None:
        inside = inside & (tl.load(counted + row, mask=inside, other=0) != 0)
    return inside


@triton.jit
def _prior_start(
    prior_row,  # (N,) or None
    prior_stride,
    row,  # (ROWS,)
    inside,  # (ROWS,)
):
    """Where each row's prior begins."""
    start = tl.zeros_like(row).to(tl.int64)
    if prior_row is not None:
        start = tl.load(prior_row + row, mask=inside, other=0) * prior_stride
    return start


@triton.jit
def _at_index(
    logits,  # (N, C)
    index,  # (N, J)
    row,  # (ROWS,)
    inside,  # (ROWS,)
    live,  # (ROWS,)
    row_stride,
    column_stride,
    num_columns,
    first_class,
    J: tl.constexpr,
    J_BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    """The logits at the indices, (ROWS, J_BLOCK), and whether they lie in the columns."""
    j = tl.arange(0, J_BLOCK)[None, :]
    asked = inside[:, None] & (j < J)
    wide = row.to(tl.int64)[:, None]
    column = tl.load(index + wide * J + j, mask=asked, other=-1) - first_class
    seen = (column >= 0) & (column < num_columns)
    z = tl.load(logits + wide * row_stride + column * column_stride, mask=seen & live[:, None], other=0)
    return z.to(ACC), seen


@triton.jit
def _finish(
    row,  # (ROWS,)
    inside,  # (ROWS,)
    top,  # (ROWS,), as all sums below
    argmax,
    total,
    total_sq,
    weighted,
    at_prior,
    mass,
    picked,  # (ROWS, J_BLOCK)
    seen,  # (ROWS, J_BLOCK)
    first_class,
    num_classes,
    max_out,
    argmax_out,
    log_sum_out,
    at_index_out,
    seen_out,
    at_prior_out,
    prior_mass_out,
    log_sum_sq_out,
    mean_logit_out,
    UNIFORM: tl.constexpr,
    FINITE: tl.constexpr,
    J: tl.constexpr,
    J_BLOCK: tl.constexpr,
):
    """Turn the sums of whole rows into statistics and store them."""
    tl.store(max_out + row, top, mask=inside)
    tl.store(argmax_out + row, argmax.to(tl.int64) + first_class, mask=inside)
    tl.store(log_sum_out + row, tl.log(total), mask=inside)
    if at_index_out is not None:
        j = tl.arange(0, J_BLOCK)[None, :]
        at = row.to(tl.int64)[:, None] * J + j
        asked = inside[:, None] & (j < J)
        tl.store(at_index_out + at, tl.where(seen, picked - _origin(top)[:, None], float("-inf")), mask=asked)
        if seen_out is not None:
            tl.store(seen_out + at, seen, mask=asked)
    if at_prior_out is not None:
        if FINITE:  # relative to +inf or NaN no logit is above −inf
            bounded = top < float("inf")
            at_prior = tl.where(bounded, at_prior, 0.0)
            mass = tl.where(bounded, mass, 0.0)
        else:
            at_prior = tl.where(top != top, top, at_prior)
        if UNIFORM:
            at_prior /= num_classes
            mass /= num_classes
        tl.store(at_prior_out + row, at_prior, mask=inside)
        if prior_mass_out is not None:
            tl.store(prior_mass_out + row, mass, mask=inside)
    if log_sum_sq_out is not None:
        tl.store(log_sum_sq_out + row, tl.log(total_sq), mask=inside)
    if mean_logit_out is not None:
        tl.store(mean_logit_out + row, weighted / tl.where(total == 0, 1.0, total), mask=inside)


@triton.jit(do_not_specialize=["num_rows", "num_classes", "first_class", "num_blocks"])
def forward(
    logits,  # (N, C)
    index,  # (N, J) or None
    counted,  # (N,) or None
    prior,  # (C,) or (P, C) or None
    prior_row,  # (N,) or None
    max_out,  # (N,), or (splits, N) where PARTIAL; as those below
    argmax_out,
    log_sum_out,  # Σ exp(z−m) where PARTIAL
    at_index_out,  # (N, J) or None
    seen_out,  # (N, J) or None
    at_prior_out,
    prior_mass_out,
    log_sum_sq_out,  # Σ exp 2(z−m) where PARTIAL
    mean_logit_out,  # Σ exp(z−m)·(z−m) where PARTIAL
    row_stride,
    column_stride,
    prior_stride,
    prior_column_stride,
    num_rows,
    num_columns,
    num_classes,
    first_class,
    num_blocks,  # of columns, for each program
    UNIFORM: tl.constexpr,
    FINITE: tl.constexpr,
    PARTIAL: tl.constexpr,
    J: tl.constexpr,
    J_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
    EVICT: tl.constexpr,
    ACC: tl.constexpr,
):
    """One pass over each row: sums relative to the running maximum, rescaled once a block."""
    splits = tl.cdiv(tl.cdiv(num_columns, BLOCK), num_blocks)
    split = tl.program_id(0) % splits
    row = tl.program_id(0) // splits * ROWS + tl.arange(0, ROWS)
    inside = row < num_rows
    live = _live(counted, row, inside)
    picked = live[:, None]
    seen = picked
    if index is not None:  # loaded first, so that the row hides the wait
        picked, seen = _at_index(
            logits, index, row, inside, live, row_stride, column_stride, num_columns, first_class, J, J_BLOCK, ACC
        )
    prior_start = _prior_start(prior_row, prior_stride, row, inside)

    first = split * num_blocks * BLOCK  # a multiple of BLOCK to the compiler too, so that loads are wide
    top = tl.full([ROWS], float("-inf"), ACC)
    argmax = tl.full([ROWS], 0, tl.int32) + first
    nan_at = tl.full([ROWS], 0, tl.int32) + num_columns
    total = tl.zeros([ROWS], ACC)
    total_sq = tl.zeros([ROWS], ACC)
    weighted = tl.zeros([ROWS], ACC)
    at_prior = tl.zeros([ROWS], ACC)
    mass = tl.zeros([ROWS], ACC)
    for start in tl.range(first, tl.minimum(first + num_blocks * BLOCK, num_columns), BLOCK, num_stages=STAGES):
        column = start + tl.arange(0, BLOCK)
        valid = (column < num_columns)[None, :] & inside[:, None]
        z = tl.load(
            logits + _offset(row, column, row_stride, column_stride),
            mask=valid & live[:, None],
            other=float("-inf"),
            eviction_policy=EVICT,
        ).to(ACC)
        if counted is not None:
            z = tl.where(valid & (live == 0)[:, None], 0.0, z)

        block_top = tl.max(z, 1)
        higher = block_top > top
        if _any(higher):  # seldom after the first blocks, so the index of the maximum is nearly free
            at_top = tl.min(tl.where(z == block_top[:, None], column[None, :], num_columns), 1)
            argmax = tl.where(higher, at_top, argmax)
        new_top = tl.where(higher, block_top, top)
        origin = _origin(new_top)
        shift = tl.where(higher, _origin(top) - origin, 0.0)
        scale = tl.where(top == float("-inf"), 0.0, tl.exp(shift))
        top = new_top

        x = z - origin[:, None]
        e = tl.exp(x)
        part = tl.sum(e, 1)
        if _any(part != part):  # the maximum above passes NaN by
            nan_at = tl.minimum(nan_at, tl.min(tl.where(z != z, column[None, :], num_columns), 1))
        if mean_logit_out is not None:
            weighted = scale * (weighted + total * shift) + tl.sum(tl.where(e == 0, 0.0, e * x), 1)
        if log_sum_sq_out is not None:
            total_sq = total_sq * scale * scale + tl.sum(e * e, 1)
        total = total * scale + part
        if at_prior_out is not None:
            at_prior += tl.where(mass == 0, 0.0, mass * shift)
            if UNIFORM:
                if FINITE:
                    covered = x > float("-inf")
                    mass += tl.sum(covered.to(ACC), 1)
                else:
                    covered = valid
                    mass += tl.minimum(num_columns - start, BLOCK)
                at_prior += tl.sum(tl.where(covered, x, 0.0), 1)
            else:
                at = prior_start[:, None] + column.to(tl.int64)[None, :] * prior_column_stride
                pi = tl.load(prior + at, mask=valid, other=0).to(ACC)
                if FINITE:
                    pi = tl.where(x > float("-inf"), pi, 0.0)
                mass += tl.sum(pi, 1)
                at_prior += tl.sum(tl.where(pi == 0, 0.0, pi * x), 1)

    argmax = tl.where(nan_at < num_columns, nan_at, argmax)
    top = tl.where(nan_at < num_columns, float("nan"), top)
    if PARTIAL:
        at = split.to(tl.int64) * num_rows + row
        tl.store(max_out + at, top, mask=inside)
        tl.store(argmax_out + at, argmax.to(tl.int64), mask=inside)
        tl.store(log_sum_out + at, total, mask=inside)
        if at_prior_out is not None:
            tl.store(at_prior_out + at, at_prior, mask=inside)
            tl.store(prior_mass_out + at, mass, mask=inside)
        if log_sum_sq_out is not None:
            tl.store(log_sum_sq_out + at, total_sq, mask=inside)
        if mean_logit_out is not None:
            tl.store(mean_logit_out + at, weighted, mask=inside)
    else:
        _finish(
            row, inside, top, argmax, total, total_sq, weighted, at_prior, mass, picked, seen,
            first_class, num_classes,
            max_out, argmax_out, log_sum_out, at_index_out, seen_out,
            at_prior_out, prior_mass_out, log_sum_sq_out, mean_logit_out,
            UNIFORM, FINITE, J, J_BLOCK,
        )  # fmt: skip


@triton.jit(do_not_specialize=["num_rows", "num_columns", "num_classes", "first_class", "splits"])
def merge(
    logits,  # (N, C)
    index,  # (N, J) or None
    counted,  # (N,) or None
    max_in,  # (splits, N), what `forward` stored where PARTIAL; as those below
    argmax_in,
    log_sum_in,
    at_prior_in,
    prior_mass_in,
    log_sum_sq_in,
    mean_logit_in,
    max_out,  # (N,), as those below
    argmax_out,
    log_sum_out,
    at_index_out,  # (N, J) or None
    seen_out,  # (N, J) or None
    at_prior_out,
    prior_mass_out,
    log_sum_sq_out,
    mean_logit_out,
    row_stride,
    column_stride,
    num_rows,
    num_columns,
    num_classes,
    first_class,
    splits,
    UNIFORM: tl.constexpr,
    FINITE: tl.constexpr,
    J: tl.constexpr,
    J_BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    ACC: tl.constexpr,
):
    """The statistics of a row from those of its pieces, left to right."""
    row = tl.program_id(0) + tl.arange(0, 1)
    inside = row < num_rows
    live = _live(counted, row, inside)
    picked = live[:, None]
    seen = picked
    if index is not None:
        picked, seen = _at_index(
            logits, index, row, inside, live, row_stride, column_stride, num_columns, first_class, J, J_BLOCK, ACC
        )
    piece = tl.arange(0, SPLITS)
    valid = (piece < splits)[None, :] & inside[:, None]
    at = _offset(row, piece, 1, num_rows)
    tops = tl.load(max_in + at, mask=valid, other=float("-inf"))
    argmaxes = tl.load(argmax_in + at, mask=valid, other=0)
    totals = tl.load(log_sum_in + at, mask=valid, other=0)

    unknown = tops != tops
    is_nan = tl.max(unknown.to(tl.int32), 1) != 0
    top = tl.max(tl.where(unknown, float("-inf"), tops), 1)
    best = tl.where(is_nan[:, None], unknown, tops == top[:, None])
    argmax = tl.min(tl.where(valid & best, argmaxes, num_columns), 1)
    top = tl.where(is_nan, float("nan"), top)

    origin = _origin(top)[:, None]
    shift = tl.where(tops == top[:, None], 0.0, _origin(tops) - origin)
    scale = tl.where(tops == float("-inf"), 0.0, tl.exp(shift))
    total = tl.sum(totals * scale, 1)
    total_sq = total
    weighted = total
    at_prior = total
    mass = total
    if log_sum_sq_out is not None:
        total_sq = tl.sum(tl.load(log_sum_sq_in + at, mask=valid, other=0) * scale * scale, 1)
    if mean_logit_out is not None:
        weighted = tl.sum(scale * (tl.load(mean_logit_in + at, mask=valid, other=0) + totals * shift), 1)
    if at_prior_out is not None:
        masses = tl.load(prior_mass_in + at, mask=valid, other=0)
        mass = tl.sum(masses, 1)
        at_prior = tl.load(at_prior_in + at, mask=valid, other=0)
        at_prior = tl.sum(at_prior + tl.where(masses == 0, 0.0, masses * shift), 1)
    _finish(
        row, inside, top, argmax, total, total_sq, weighted, at_prior, mass, picked, seen,
        first_class, num_classes,
        max_out, argmax_out, log_sum_out, at_index_out, seen_out,
        at_prior_out, prior_mass_out, log_sum_sq_out, mean_logit_out,
        UNIFORM, FINITE, J, J_BLOCK,
    )  # fmt: skip


@triton.jit
def _row_grad(
    grad,  # (N,) or None
    stride,
    row,  # (ROWS,)
    live,  # (ROWS,)
    ACC: tl.constexpr,
):
    """The upstream gradients of rows that count; 0 for others and without any."""
    value = tl.zeros(row.shape, ACC)
    if grad is not None:
        value = tl.load(grad + row.to(tl.int64) * stride, mask=live, other=0).to(ACC)
    return value


@triton.jit(
    do_not_specialize=[
        "num_rows",
        "num_classes",
        "first_class",
        "prior_mass_stride",
        "grad_max_stride",
        "grad_log_sum_stride",
        "grad_at_index_stride",
        "grad_at_index_column_stride",
        "grad_at_prior_stride",
        "grad_log_sum_sq_stride",
        "grad_mean_logit_stride",
    ]
)
def backward(
    logits,  # (N, C)
    out,  # (N, C), may be logits
    index,  # (N, J) or None
    counted,  # (N,) or None
    prior,  # (C,) or (P, C) or None
    prior_row,  # (N,) or None
    max_in,  # (N,), as those below
    argmax_in,
    log_sum_in,
    prior_mass_in,  # () or (N,) or None
    log_sum_sq_in,
    mean_logit_in,
    grad_max,  # (N,) or None, as those below
    grad_log_sum,
    grad_at_index,  # (N, J) or None
    grad_at_prior,
    grad_log_sum_sq,
    grad_mean_logit,
    row_stride,
    column_stride,
    out_stride,
    out_column_stride,
    prior_stride,
    prior_column_stride,
    prior_mass_stride,
    grad_max_stride,
    grad_log_sum_stride,
    grad_at_index_stride,
    grad_at_index_column_stride,
    grad_at_prior_stride,
    grad_log_sum_sq_stride,
    grad_mean_logit_stride,
    num_rows,
    num_columns,
    num_classes,
    first_class,
    UNIFORM: tl.constexpr,
    FINITE: tl.constexpr,
    J: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    EVICT: tl.constexpr,
    ACC: tl.constexpr,
):
    """Each tile of the gradient from its logits and the statistics of its rows; no program waits for another."""
    blocks = tl.cdiv(num_columns, BLOCK)
    row = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = row < num_rows
    live = _live(counted, row, inside)
    valid = (column < num_columns)[None, :] & inside[:, None]
    z = tl.load(
        logits + _offset(row, column, row_stride, column_stride),
        mask=valid & live[:, None],
        other=0,
        eviction_policy="evict_first",
    ).to(ACC)
    top = tl.load(max_in + row, mask=live, other=0)
    argmax = tl.load(argmax_in + row, mask=live, other=0) - first_class
    x = z - _origin(top)[:, None]
    grad = tl.zeros([ROWS, BLOCK], ACC)
    attained = tl.zeros([ROWS], ACC)  # what the maximum that the statistics are relative to takes back

    if grad_log_sum is not None or grad_log_sum_sq is not None or grad_mean_logit is not None:
        log_sum = _origin(tl.load(log_sum_in + row, mask=live, other=0))
        p = tl.exp(x) * tl.exp(-log_sum)[:, None]
        slope = _row_grad(grad_log_sum, grad_log_sum_stride, row, live, ACC)
        attained += slope
        slope = slope[:, None]
        if grad_mean_logit is not None:
            grad_mean = _row_grad(grad_mean_logit, grad_mean_logit_stride, row, live, ACC)
            mean = tl.load(mean_logit_in + row, mask=live, other=0)
            slope = slope + grad_mean[:, None] * (1 + tl.where(p == 0, 0.0, x) - mean[:, None])
            attained += grad_mean
        if grad_log_sum_sq is not None:
            grad_sq = 2 * _row_grad(grad_log_sum_sq, grad_log_sum_sq_stride, row, live, ACC)
            log_sum_sq = _origin(tl.load(log_sum_sq_in + row, mask=live, other=0))
            slope = slope + (grad_sq * tl.exp(2 * log_sum - log_sum_sq))[:, None] * p
            attained += grad_sq
        grad = p * slope
    if grad_at_prior is not None:
        grad_prior = _row_grad(grad_at_prior, grad_at_prior_stride, row, live, ACC)
        attained += grad_prior * tl.load(prior_mass_in + row.to(tl.int64) * prior_mass_stride, mask=live, other=0)
        if UNIFORM:
            of_prior = (grad_prior / num_classes)[:, None]
        else:
            at = _prior_start(prior_row, prior_stride, row, inside)[:, None]
            at += column.to(tl.int64)[None, :] * prior_column_stride
            of_prior = grad_prior[:, None] * tl.load(prior + at, mask=valid, other=0).to(ACC)
        if FINITE:
            of_prior = tl.where(x > float("-inf"), of_prior, 0.0)
        grad += of_prior
    if grad_at_index is not None:
        for j in range(J):
            wide = row.to(tl.int64)
            k = tl.load(index + wide * J + j, mask=live, other=-1) - first_class
            seen = live & (k >= 0) & (k < num_columns)
            at = wide * grad_at_index_stride + j * grad_at_index_column_stride
            grad_index = tl.load(grad_at_index + at, mask=seen, other=0).to(ACC)
            attained += grad_index
            grad += tl.where(column[None, :] == k[:, None], grad_index[:, None], 0.0)
    at_top = _row_grad(grad_max, grad_max_stride, row, live, ACC)
    at_top -= tl.where(top == float("-inf"), 0.0, attained)
    grad += tl.where(column[None, :] == argmax[:, None], at_top[:, None], 0.0)
    tl.store(
        out + _offset(row, column, out_stride, out_column_stride),
        grad.to(out.dtype.element_ty),
        mask=valid,
        eviction_policy=EVICT,
    )
