"""Triton kernels of the row statistics and of their gradient; `gpu` launches them.

A program works on tiles of ROWS × BLOCK logits. Pointers that are None, and flags in capitals, are known when
a kernel is compiled, so what a call does not ask for costs nothing. Of numbers the compiler learns no more
than whether columns are neighbours, so that no size, stride or address has a kernel of its own.

Logits are read in vectors of VECTOR, at addresses that are multiples of a vector's size. Rows begin and end
with a vector, but for RAGGED ones (then ROWS is 1, and the prior no table): these begin anywhere, and their
*places* count from the vector that holds their first logit, `lead` places before it. The vectors at both ends
are read whole, as an aligned vector lies in mapped memory where any byte of it does, and written one logit at
a time.
"""

import inspect

import triton
import triton.language as tl


def _kernel(function):
    """Return a Triton kernel, compiled once for all numbers, and once more where columns are neighbours."""
    parameters = inspect.signature(function).parameters.values()
    numbers = [p.name for p in parameters if p.annotation is p.empty]
    strides = [name for name in numbers if name.endswith("column_stride")]
    return triton.jit(
        function,
        do_not_specialize=[name for name in numbers if name not in strides],
        do_not_specialize_on_alignment=strides,
    )


@triton.jit
def _origin(top):
    """Return the logit that statistics are relative to: the maximum, or 0 where every logit is −inf."""
    return tl.where(top == float("-inf"), 0.0, top)


@triton.jit
def _any(flags):
    """Return True where one of the flags is."""
    return tl.max(flags.to(tl.int32), 0) != 0


@triton.jit
def _row_starts(
    table,  # (…, C)
    row,  # (ROWS,)
    row_stride,
    lead,
    VECTOR: tl.constexpr,
):
    """Return the address of each row's first place, a multiple of the size of a vector."""
    starts = table + (row.to(tl.int64) * row_stride - lead)
    return tl.multiple_of(starts, VECTOR * table.dtype.element_ty.primitive_bitwidth // 8)


@triton.jit
def _lead(
    logits,  # (N, C)
    row,
    row_stride,
    VECTOR: tl.constexpr,
    RAGGED: tl.constexpr,
):
    """Return the number of places before the first logit of a row."""
    lead = 0
    if RAGGED:
        itemsize: tl.constexpr = logits.dtype.element_ty.primitive_bitwidth // 8
        address = (logits + row.to(tl.int64) * row_stride).to(tl.int64)
        lead = (address // itemsize % VECTOR).to(tl.int32)
    return lead


@triton.jit
def _places(
    start,  # a multiple of VECTOR, or (ROWS, 1) of these
    lead,
    end,
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,
    RAGGED: tl.constexpr,
):
    """Return the places of a block, and masks of those in vectors that reach into the row, and in the row."""
    offset = tl.arange(0, BLOCK)[None, :]
    vector = start + offset // VECTOR * VECTOR  # the first place of the vector
    held = vector < end
    valid = held
    if RAGGED:
        rank = offset % VECTOR
        valid = (rank >= lead - vector) & (rank < end - vector)
    return start + offset, held, valid


@triton.jit
def _read(
    starts,  # (ROWS,), of the rows
    start,  # of the block
    lead,
    end,
    column_stride,
    live,  # (ROWS,)
    inside,  # (ROWS,)
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,
    RAGGED: tl.constexpr,
    ACC: tl.constexpr,
):
    """Return a block's logits, −inf beyond the row, 0 in rows that do not count; their places; a mask."""
    place, held, valid = _places(start, lead, end, BLOCK, VECTOR, RAGGED)
    valid = valid & inside[:, None]
    at = starts[:, None] + place.to(tl.int64) * column_stride
    z = tl.load(at, mask=held & live[:, None], other=0).to(ACC)
    return tl.where(valid, z, float("-inf")), place, valid


@triton.jit
def _first_nan(
    starts,  # (ROWS,), of the rows
    first,
    last,
    lead,
    end,
    column_stride,
    live,  # (ROWS,)
    inside,  # (ROWS,)
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,
    RAGGED: tl.constexpr,
    ACC: tl.constexpr,
):
    """Return the first of the places first..last−1 that holds NaN, `end` without any."""
    found = tl.zeros_like(live).to(tl.int32) + end
    for start in range(first, last, BLOCK):
        z, place, _ = _read(starts, start, lead, end, column_stride, live, inside, BLOCK, VECTOR, RAGGED, ACC)
        found = tl.minimum(found, tl.min(tl.where(z != z, place, end), 1))
    return found


@triton.jit
def _live(
    counted,  # (N,) or None
    row,  # (ROWS,)
    inside,  # (ROWS,)
):
    """Return True for the rows that count."""
    if counted is not None:
        inside = inside & (tl.load(counted + row, mask=inside, other=0) != 0)
    return inside


@triton.jit
def _prior_starts(
    prior,  # (C,) or (P, C)
    prior_row,  # (N,) or None
    prior_stride,
    row,  # (ROWS,)
    inside,  # (ROWS,)
    VECTOR: tl.constexpr,
):
    """Return the address at which each row's prior begins."""
    which = tl.zeros_like(row)
    if prior_row is not None:
        which = tl.load(prior_row + row, mask=inside, other=0)
    return _row_starts(prior, which, prior_stride, 0, VECTOR)


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
    """Return the logits at the indices, (ROWS, J_BLOCK), and True for those in the columns."""
    j = tl.arange(0, J_BLOCK)[None, :]
    row = row.to(tl.int64)[:, None]
    column = tl.load(index + row * J + j, mask=inside[:, None] & (j < J), other=-1) - first_class
    seen = (column >= 0) & (column < num_columns)
    z = tl.load(logits + row * row_stride + column * column_stride, mask=seen & live[:, None], other=0)
    return z.to(ACC), seen


@triton.jit
def _combine(
    tops,  # (ROWS, M), of M pieces of each row; as those below
    totals,  # Σ exp(z−m)
    total_sqs,  # Σ exp 2(z−m)
    weighteds,  # Σ exp(z−m)·(z−m)
    at_priors,
    masses,
):
    """Combine the sums of the pieces of rows, whose maxima are not NaN, to those of whole rows."""
    top = tl.max(tops, 1)
    shift = tl.where(tops == top[:, None], 0.0, _origin(tops) - _origin(top)[:, None])
    scale = tl.where(tops == float("-inf"), 0.0, tl.exp(shift))
    total = tl.sum(totals * scale, 1)
    total_sq = tl.sum(total_sqs * scale * scale, 1)
    weighted = tl.sum(scale * (weighteds + tl.where(totals == 0, 0.0, totals * shift)), 1)
    at_prior = tl.sum(at_priors + tl.where(masses == 0, 0.0, masses * shift), 1)
    return top, total, total_sq, weighted, at_prior, tl.sum(masses, 1)


@triton.jit
def _lane_sum(values):  # (ROWS, REPEATS, LANES, VECTOR)
    """Return the sum of each lane, (ROWS, LANES)."""
    return tl.sum(tl.sum(values, 3), 1)


@triton.jit
def _add_prior(
    at_priors,  # (ROWS, LANES), as masses, shift and ahead
    masses,
    shift,  # from the origin of the sums to that of the block
    ahead,  # places of the first block before the row, where RAGGED
    x,  # (ROWS, REPEATS, LANES, VECTOR), logits relative to the origin
    start,  # of the block
    place,  # (ROWS, BLOCK), as valid
    valid,
    prior_starts,  # (ROWS,), or None where UNIFORM
    prior_column_stride,
    UNIFORM: tl.constexpr,
    FINITE: tl.constexpr,
    RAGGED: tl.constexpr,
    ACC: tl.constexpr,
):
    """Add a block to Σ π·x and Σ π of each lane; a uniform π counts as 1 until the row is finished."""
    at_priors += tl.where(masses == 0, 0.0, masses * shift)
    if UNIFORM:
        if FINITE:
            covered = x > float("-inf")
            masses += _lane_sum(covered.to(ACC))
        else:
            covered = tl.reshape(valid, x.shape)
            masses += x.shape[1] * x.shape[3]
            if RAGGED:
                masses -= tl.where(start == 0, ahead, 0.0)
        at_priors += _lane_sum(tl.where(covered, x, 0.0))
    else:
        at = prior_starts[:, None] + place.to(tl.int64) * prior_column_stride
        pi = tl.load(at, mask=valid, other=0).to(ACC)
        pi = tl.reshape(pi, x.shape)
        if FINITE:
            pi = tl.where(x > float("-inf"), pi, 0.0)
        masses += _lane_sum(pi)
        at_priors += _lane_sum(tl.where(pi == 0, 0.0, pi * x))
    return at_priors, masses


@triton.jit
def _find_maximum(
    tops,  # (ROWS, LANES), the maximum of each lane
    blocks,  # (ROWS, LANES), the block in which it comes first
    top,  # (ROWS,)
    total,  # (ROWS,), Σ exp(z−m)
    starts,  # (ROWS,), of the rows
    first,
    last,
    lead,
    end,
    column_stride,
    live,  # (ROWS,)
    inside,  # (ROWS,)
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,
    RAGGED: tl.constexpr,
    ACC: tl.constexpr,
):
    """Return each row's maximum and its first place; NaN and the first place of NaN where a row holds it."""
    start = tl.min(tl.where(tops == top[:, None], blocks, end), 1) // BLOCK * BLOCK  # for wide loads too
    z, place, _ = _read(
        starts, start[:, None], lead, end, column_stride, live, inside, BLOCK, VECTOR, RAGGED, ACC
    )
    found = tl.min(tl.where(z == top[:, None], place, end), 1)
    if _any(total != total):  # the maximum passes NaN by; +inf alone comes here too
        nan_at = _first_nan(
            starts, first, last, lead, end, column_stride, live, inside, BLOCK, VECTOR, RAGGED, ACC
        )
        found = tl.where(nan_at < end, nan_at, found)
        top = tl.where(nan_at < end, float("nan"), top)
    return top, found


@triton.jit
def _store_pieces(
    at,  # (ROWS,)
    inside,  # (ROWS,)
    top,  # (ROWS,), as those below
    argmax,
    total,
    total_sq,
    weighted,
    at_prior,
    mass,
    max_out,
    argmax_out,
    log_sum_out,
    at_prior_out,
    prior_mass_out,
    log_sum_sq_out,
    mean_logit_out,
):
    """Store the sums of pieces of rows, which `merge` makes statistics of."""
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
        valid = inside[:, None] & (j < J)
        tl.store(at_index_out + at, tl.where(seen, picked - _origin(top)[:, None], float("-inf")), mask=valid)
        if seen_out is not None:
            tl.store(seen_out + at, seen, mask=valid)
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


@_kernel
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
    splits,  # programs for each row
    num_blocks,  # of places, for each program
    UNIFORM: tl.constexpr,
    FINITE: tl.constexpr,
    PARTIAL: tl.constexpr,
    J: tl.constexpr,
    J_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,  # REPEATS × lanes × VECTOR
    REPEATS: tl.constexpr,
    VECTOR: tl.constexpr,
    RAGGED: tl.constexpr,
    PRIOR_VECTOR: tl.constexpr,
    STAGES: tl.constexpr,
    ACC: tl.constexpr,
):
    """Pass over each row once: sums relative to the running maximum, rescaled once a block."""
    split = tl.program_id(0) % splits
    row = tl.program_id(0) // splits * ROWS + tl.arange(0, ROWS)
    inside = row < num_rows
    live = _live(counted, row, inside)
    picked = live[:, None]
    seen = picked
    if index is not None:  # loaded first, so that the row hides the wait
        picked, seen = _at_index(
            logits, index, row, inside, live, row_stride, column_stride, num_columns, first_class,
            J, J_BLOCK, ACC,
        )  # fmt: skip
    prior_starts = None
    if prior is not None:
        prior_starts = _prior_starts(prior, prior_row, prior_stride, row, inside, PRIOR_VECTOR)

    lead = _lead(logits, tl.program_id(0) // splits, row_stride, VECTOR, RAGGED)
    starts = _row_starts(logits, row, row_stride, lead, VECTOR)
    end = num_columns + lead
    first = split * num_blocks * BLOCK  # a multiple of BLOCK to the compiler too, so that loads are wide
    last = tl.minimum(first + num_blocks * BLOCK, end)

    # Each lane keeps sums of its own, so that threads need not wait for each other before the end of the row.
    LANES: tl.constexpr = BLOCK // (REPEATS * VECTOR)
    tops = tl.full([ROWS, LANES], float("-inf"), ACC)
    blocks = tl.full([ROWS, LANES], 0, tl.int32) + first  # where the lane's maximum was seen first
    totals = tl.zeros([ROWS, LANES], ACC)
    total_sqs = tl.zeros([ROWS, LANES], ACC)
    weighteds = tl.zeros([ROWS, LANES], ACC)
    at_priors = tl.zeros([ROWS, LANES], ACC)
    masses = tl.zeros([ROWS, LANES], ACC)
    ahead = None
    if RAGGED:
        ahead = (tl.arange(0, BLOCK) < lead).to(ACC)
        ahead = _lane_sum(tl.reshape(ahead, [1, REPEATS, LANES, VECTOR]))
    for start in tl.range(first, last, BLOCK, num_stages=STAGES):
        z, place, valid = _read(
            starts, start, lead, end, column_stride, live, inside, BLOCK, VECTOR, RAGGED, ACC
        )
        z = tl.reshape(z, [ROWS, REPEATS, LANES, VECTOR])
        block_tops = tl.max(tl.max(z, 3), 1)
        higher = block_tops > tops
        new_tops = tl.where(higher, block_tops, tops)
        origin = _origin(new_tops)
        shift = tl.where(higher, _origin(tops) - origin, 0.0)
        scale = tl.where(tops == float("-inf"), 0.0, tl.exp(shift))
        tops = new_tops
        blocks = tl.where(higher, start, blocks)

        x = z - origin[:, None, :, None]
        e = tl.exp(x)
        if mean_logit_out is not None:
            moved = tl.where(totals == 0, 0.0, totals * shift)
            weighteds = scale * (weighteds + moved) + _lane_sum(tl.where(e == 0, 0.0, e * x))
        if log_sum_sq_out is not None:
            total_sqs = total_sqs * scale * scale + _lane_sum(e * e)
        totals = totals * scale + _lane_sum(e)
        if at_prior_out is not None:
            at_priors, masses = _add_prior(
                at_priors, masses, shift, ahead, x, start, place, valid, prior_starts, prior_column_stride,
                UNIFORM, FINITE, RAGGED, ACC,
            )  # fmt: skip
    if UNIFORM and not FINITE and first < last:  # the last block may not be full
        beyond = (last - 1) // BLOCK * BLOCK + tl.arange(0, BLOCK) >= end
        beyond = tl.reshape(beyond.to(ACC), [1, REPEATS, LANES, VECTOR])
        masses -= _lane_sum(beyond)

    top, total, total_sq, weighted, at_prior, mass = _combine(
        tops, totals, total_sqs, weighteds, at_priors, masses
    )
    top, found = _find_maximum(
        tops, blocks, top, total, starts, first, last, lead, end, column_stride, live, inside,
        BLOCK, VECTOR, RAGGED, ACC,
    )  # fmt: skip
    argmax = found - lead
    if PARTIAL:
        _store_pieces(
            split.to(tl.int64) * num_rows + row, inside,
            top, argmax, total, total_sq, weighted, at_prior, mass,
            max_out, argmax_out, log_sum_out,
            at_prior_out, prior_mass_out, log_sum_sq_out, mean_logit_out,
        )  # fmt: skip
    else:
        _finish(
            row, inside, top, argmax, total, total_sq, weighted, at_prior, mass, picked, seen,
            first_class, num_classes,
            max_out, argmax_out, log_sum_out, at_index_out, seen_out,
            at_prior_out, prior_mass_out, log_sum_sq_out, mean_logit_out,
            UNIFORM, FINITE, J, J_BLOCK,
        )  # fmt: skip


@_kernel
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
    """Compute the statistics of a row from the sums of its pieces, left to right."""
    row = tl.program_id(0) + tl.arange(0, 1)
    inside = row < num_rows
    live = _live(counted, row, inside)
    picked = live[:, None]
    seen = picked
    if index is not None:
        picked, seen = _at_index(
            logits, index, row, inside, live, row_stride, column_stride, num_columns, first_class,
            J, J_BLOCK, ACC,
        )  # fmt: skip
    piece = tl.arange(0, SPLITS)
    valid = (piece < splits)[None, :] & inside[:, None]
    at = piece[None, :].to(tl.int64) * num_rows + row[:, None]
    tops = tl.load(max_in + at, mask=valid, other=float("-inf"))
    argmaxes = tl.load(argmax_in + at, mask=valid, other=0)
    totals = tl.load(log_sum_in + at, mask=valid, other=0)

    total_sqs = totals
    weighteds = totals
    at_priors = totals
    masses = totals
    if log_sum_sq_out is not None:
        total_sqs = tl.load(log_sum_sq_in + at, mask=valid, other=0)
    if mean_logit_out is not None:
        weighteds = tl.load(mean_logit_in + at, mask=valid, other=0)
    if at_prior_out is not None:
        at_priors = tl.load(at_prior_in + at, mask=valid, other=0)
        masses = tl.load(prior_mass_in + at, mask=valid, other=0)
    unknown = tops != tops
    top, total, total_sq, weighted, at_prior, mass = _combine(
        tl.where(unknown, float("-inf"), tops), totals, total_sqs, weighteds, at_priors, masses
    )
    is_nan = tl.max(unknown.to(tl.int32), 1) != 0
    best = unknown | ((tops == top[:, None]) & (is_nan == 0)[:, None])
    argmax = tl.min(tl.where(valid & best, argmaxes, num_columns), 1)
    top = tl.where(is_nan, float("nan"), top)
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
    """Return the upstream gradients of rows, 0 where they do not count or there are none."""
    value = tl.zeros(row.shape, ACC)
    if grad is not None:
        value = tl.load(grad + row.to(tl.int64) * stride, mask=live, other=0).to(ACC)
    return value


@triton.jit
def _softmax_gradient(
    x,  # (ROWS, BLOCK), logits relative to the origin
    row,  # (ROWS,)
    live,  # (ROWS,)
    log_sum_in,
    log_sum_sq_in,
    mean_logit_in,
    grad_log_sum,
    grad_log_sum_sq,
    grad_mean_logit,
    grad_log_sum_stride,
    grad_log_sum_sq_stride,
    grad_mean_logit_stride,
    ACC: tl.constexpr,
):
    """Return the gradient through the statistics of p, and what the maximum takes back of it, (ROWS,)."""
    log_sum = _origin(tl.load(log_sum_in + row, mask=live, other=0))
    p = tl.exp(x) * tl.exp(-log_sum)[:, None]
    at_max = tl.zeros(row.shape, ACC)
    grad = _row_grad(grad_log_sum, grad_log_sum_stride, row, live, ACC)
    at_max += grad
    slope = grad[:, None]
    if grad_mean_logit is not None:
        grad_mean = _row_grad(grad_mean_logit, grad_mean_logit_stride, row, live, ACC)
        mean = tl.load(mean_logit_in + row, mask=live, other=0)
        slope = slope + grad_mean[:, None] * (1 + tl.where(p == 0, 0.0, x) - mean[:, None])
        at_max += grad_mean
    if grad_log_sum_sq is not None:
        grad_sq = 2 * _row_grad(grad_log_sum_sq, grad_log_sum_sq_stride, row, live, ACC)
        log_sum_sq = _origin(tl.load(log_sum_sq_in + row, mask=live, other=0))
        slope = slope + (grad_sq * tl.exp(2 * log_sum - log_sum_sq))[:, None] * p
        at_max += grad_sq
    return p * slope, at_max


@triton.jit
def _store_gradient(
    grad,  # (ROWS, BLOCK)
    out,  # (N, C)
    row,  # (ROWS,)
    inside,  # (ROWS,)
    start,  # of the block
    place,  # (ROWS, BLOCK), as valid
    valid,
    lead,
    end,
    num_columns,
    out_stride,
    out_column_stride,
    BLOCK: tl.constexpr,
    OUT_VECTOR: tl.constexpr,
    RAGGED: tl.constexpr,
):
    """Store a tile of the gradient, in whole vectors but at the ends of ragged rows."""
    grad = grad.to(out.dtype.element_ty)
    out_starts = _row_starts(out, row, out_stride, lead, OUT_VECTOR)
    at = out_starts[:, None] + place.to(tl.int64) * out_column_stride
    if RAGGED and OUT_VECTOR > 1:
        vector = place // OUT_VECTOR * OUT_VECTOR
        whole = (vector >= lead) & (vector + OUT_VECTOR <= end) & inside[:, None]
        tl.store(at, grad, mask=whole)
        if start == 0 or start + BLOCK > num_columns:
            tl.store(at, grad, mask=valid & (whole == 0))
    else:
        tl.store(at, grad, mask=valid)


@_kernel
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
    grad_at_index_j_stride,
    grad_at_prior_stride,
    grad_log_sum_sq_stride,
    grad_mean_logit_stride,
    num_rows,
    num_columns,
    num_classes,
    first_class,
    blocks,  # programs for each row
    UNIFORM: tl.constexpr,
    FINITE: tl.constexpr,
    J: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    VECTOR: tl.constexpr,
    OUT_VECTOR: tl.constexpr,  # gradients stored at once, up to which `out` is aligned as logits are
    RAGGED: tl.constexpr,
    PRIOR_VECTOR: tl.constexpr,
    SHIFT_FREE: tl.constexpr,
    ACC: tl.constexpr,
):
    """Compute each tile of the gradient from its logits and the statistics of its rows, in any order."""
    row = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)
    inside = row < num_rows
    live = _live(counted, row, inside)
    lead = _lead(logits, tl.program_id(0) // blocks, row_stride, VECTOR, RAGGED)
    end = num_columns + lead
    start = tl.program_id(0) % blocks * BLOCK
    place, held, valid = _places(start, lead, end, BLOCK, VECTOR, RAGGED)
    valid = valid & inside[:, None]
    column = place - lead
    z = tl.load(
        _row_starts(logits, row, row_stride, lead, VECTOR)[:, None] + place.to(tl.int64) * column_stride,
        mask=held & live[:, None],
        other=0,
        eviction_policy="evict_first",
    ).to(ACC)
    top = tl.load(max_in + row, mask=live, other=0)
    x = z - _origin(top)[:, None]
    grad = tl.zeros([ROWS, BLOCK], ACC)
    at_max = tl.zeros([ROWS], ACC)  # what the maximum takes back, as all statistics are relative to it

    if grad_log_sum is not None or grad_log_sum_sq is not None or grad_mean_logit is not None:
        grad, at_max = _softmax_gradient(
            x, row, live, log_sum_in, log_sum_sq_in, mean_logit_in,
            grad_log_sum, grad_log_sum_sq, grad_mean_logit,
            grad_log_sum_stride, grad_log_sum_sq_stride, grad_mean_logit_stride, ACC,
        )  # fmt: skip
    if grad_at_prior is not None:
        grad_prior = _row_grad(grad_at_prior, grad_at_prior_stride, row, live, ACC)
        mass = tl.load(prior_mass_in + row.to(tl.int64) * prior_mass_stride, mask=live, other=0)
        at_max += grad_prior * mass
        if UNIFORM:
            slope = (grad_prior / num_classes)[:, None]
        else:
            prior_starts = _prior_starts(prior, prior_row, prior_stride, row, inside, PRIOR_VECTOR)
            priors = prior_starts[:, None] + place.to(tl.int64) * prior_column_stride
            pi = tl.load(priors, mask=valid, other=0)
            slope = grad_prior[:, None] * pi.to(ACC)
        if FINITE:
            slope = tl.where(x > float("-inf"), slope, 0.0)
        grad += slope
    if grad_at_index is not None:
        for j in range(J):
            wide = row.to(tl.int64)
            k = tl.load(index + wide * J + j, mask=live, other=-1) - first_class
            seen = live & (k >= 0) & (k < num_columns)
            at = wide * grad_at_index_stride + j * grad_at_index_j_stride
            grad_index = tl.load(grad_at_index + at, mask=seen, other=0).to(ACC)
            at_max += grad_index
            grad += tl.where(column == k[:, None], grad_index[:, None], 0.0)
    if not SHIFT_FREE:
        argmax = tl.load(argmax_in + row, mask=live, other=0) - first_class
        slope = _row_grad(grad_max, grad_max_stride, row, live, ACC)
        slope -= tl.where(top == float("-inf"), 0.0, at_max)
        grad += tl.where(column == argmax[:, None], slope[:, None], 0.0)
    _store_gradient(
        grad, out, row, inside, start, place, valid, lead, end, num_columns, out_stride, out_column_stride,
        BLOCK, OUT_VECTOR, RAGGED,
    )  # fmt: skip
