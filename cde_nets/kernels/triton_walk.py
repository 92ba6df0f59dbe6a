# Triton compiles what is written here; it reads like Python, but types, unpacking and `and` are not Python's.
# mypy: ignore-errors
# ruff: noqa: RUF005, SIM102, SIM108
"""A block of rows through all steps of an explicit Runge-Kutta method, and back by the adjoint recursion, in Triton.

A program takes its rows through every step: states leave its registers only where they are kept. A state is a tuple
of FORM.parts tensors, as `triton_ridge` says. Which weights of the tableau are 0 is known when a kernel is compiled:
FORM.used has bit j * stages + l set where a[j][l] is not 0, row `stages` being b, and FORM.reached bit j where the
step's end depends on stage j. The weights, times the step's width, are read from `scales`, (steps, stages + 1, stages).
"""

from __future__ import annotations

import triton
import triton.language as tl

from cde_nets.kernels import triton_features as features
from cde_nets.kernels import triton_ridge as ridge

# Sizes that a kernel is not compiled anew for.
_SIZES = ["rows", "steps", "every", "count", "room_size", "slab_size"]


@triton.jit
def _read(at, row, ok, row_stride, part_stride, FORM: tl.constexpr):
    """The state of the rows that are ok, of others 0."""
    WIDTH: tl.constexpr = FORM.width
    DIM: tl.constexpr = FORM.dim
    state = ()
    if WIDTH == 0:
        for r in tl.static_range(DIM):
            state = state + (tl.load(at + row * row_stride + r * part_stride, mask=ok, other=0.0),)
    else:
        column = tl.arange(0, WIDTH)
        mask = ok[:, None] & (column < DIM)[None, :]
        state = (tl.load(at + row[:, None] * row_stride + column[None, :] * part_stride, mask=mask, other=0.0),)
    return state


@triton.jit
def _write(at, state, row, ok, row_stride, part_stride, FORM: tl.constexpr):
    """Where `_read` finds it."""
    WIDTH: tl.constexpr = FORM.width
    DIM: tl.constexpr = FORM.dim
    if WIDTH == 0:
        for r in tl.static_range(DIM):
            tl.store(at + row * row_stride + r * part_stride, state[r], mask=ok)
    else:
        column = tl.arange(0, WIDTH)
        mask = ok[:, None] & (column < DIM)[None, :]
        tl.store(at + row[:, None] * row_stride + column[None, :] * part_stride, state[0], mask=mask)


@triton.jit
def _keep(at, state, row, ok, rows, FORM: tl.constexpr):
    """Neighbouring threads write neighbouring numbers: (dim, rows) of lanes, (rows, dim) of a tile."""
    WIDTH: tl.constexpr = FORM.width
    DIM: tl.constexpr = FORM.dim
    if WIDTH == 0:
        _write(at, state, row, ok, 1, rows, FORM)
    else:
        _write(at, state, row, ok, DIM, 1, FORM)


@triton.jit
def _kept(at, row, ok, rows, FORM: tl.constexpr):
    """What `_keep` kept."""
    WIDTH: tl.constexpr = FORM.width
    DIM: tl.constexpr = FORM.dim
    if WIDTH == 0:
        state = _read(at, row, ok, 1, rows, FORM)
    else:
        state = _read(at, row, ok, DIM, 1, FORM)
    return state


@triton.jit
def _finite(state, FORM: tl.constexpr):
    """Which rows are finite: zero times what is not is NaN."""
    WIDTH: tl.constexpr = FORM.width
    DIM: tl.constexpr = FORM.dim
    poison = state[0] * 0
    if WIDTH == 0:
        for r in tl.static_range(1, DIM):
            poison += state[r] * 0
    else:
        poison = tl.sum(poison, 1)
    return poison == poison


@triton.jit
def _where(ok, state, other, FORM: tl.constexpr):
    """The state in rows that are ok, the other elsewhere."""
    PARTS: tl.constexpr = FORM.parts
    WIDTH: tl.constexpr = FORM.width
    found = ()
    for r in tl.static_range(PARTS):
        if WIDTH == 0:
            found = found + (tl.where(ok, state[r], other[r]),)
        else:
            found = found + (tl.where(ok[:, None], state[r], other[r]),)
    return found


@triton.jit
def _add(state, scale, what, FIRST: tl.constexpr, FORM: tl.constexpr):
    """The state and scale times the tensors from FIRST on of a longer tuple."""
    PARTS: tl.constexpr = FORM.parts
    found = ()
    for r in tl.static_range(PARTS):
        found = found + (state[r] + scale * what[FIRST + r],)
    return found


@triton.jit
def _along(x, slopes, scales, ROW: tl.constexpr, FORM: tl.constexpr):
    """The state x + h sum_l a[ROW][l] slopes_l: x itself where every weight is 0."""
    USED: tl.constexpr = FORM.used
    STAGES: tl.constexpr = FORM.stages
    PARTS: tl.constexpr = FORM.parts
    state = x
    for q in tl.static_range(ROW):
        if (USED >> (ROW * STAGES + q)) & 1:
            state = _add(state, tl.load(scales + ROW * STAGES + q), slopes, q * PARTS, FORM)
    return state


@triton.jit
def _velocity(x, stage, data, FORM: tl.constexpr):
    FAMILY: tl.constexpr = FORM.family
    WIDTH: tl.constexpr = FORM.width
    if FAMILY == 1:
        found = features.velocity(x, stage, data, FORM)
    elif WIDTH == 0:
        found = ridge.velocity_lanes(x, stage, data, FORM)
    else:
        found = ridge.velocity_tile(x, stage, data, FORM)
    return found


@triton.jit
def _pullback(x, w, stage, data, slab, FORM: tl.constexpr):
    FAMILY: tl.constexpr = FORM.family
    WIDTH: tl.constexpr = FORM.width
    if FAMILY == 1:
        found = features.pullback(x, w, stage, data, slab, FORM)
    elif WIDTH == 0:
        found = ridge.pullback_lanes(x, w, stage, data, slab, FORM)
    else:
        found = ridge.pullback_tile(x, w, stage, data, slab, FORM)
    return found


@triton.jit
def _step(x, n, data, scales, FORM: tl.constexpr):
    """The end of step n."""
    STAGES: tl.constexpr = FORM.stages
    weights = scales + n * (STAGES + 1) * STAGES
    slopes = ()
    for j in tl.static_range(STAGES):
        at = _along(x, slopes, weights, j, FORM)
        slopes = slopes + _velocity(at, n * STAGES + j, data, FORM)
    return _along(x, slopes, weights, STAGES, FORM)


@triton.jit
def _back(x, p, n, data, slab, scales, FORM: tl.constexpr):
    """The cotangent of step n's start, from its end's; moments go to the slab."""
    STAGES: tl.constexpr = FORM.stages
    PARTS: tl.constexpr = FORM.parts
    REACHED: tl.constexpr = FORM.reached
    USED: tl.constexpr = FORM.used
    weights = scales + n * (STAGES + 1) * STAGES
    slopes, states = (), ()
    for j in tl.static_range(STAGES):
        at = _along(x, slopes, weights, j, FORM)
        states = states + at
        if j + 1 < STAGES:
            slopes = slopes + _velocity(at, n * STAGES + j, data, FORM)
    # mu of the last stage stands first; `start` adds them up as the stages come.
    mu, start = (), p
    for j in tl.static_range(STAGES - 1, -1, -1):
        at, w = (), ()
        for r in tl.static_range(PARTS):
            at = at + (states[j * PARTS + r],)
            w = w + (tl.zeros_like(p[r]),)
        if (REACHED >> j) & 1:
            if (USED >> (STAGES * STAGES + j)) & 1:
                w = _add(w, tl.load(weights + STAGES * STAGES + j), p, 0, FORM)
            for q in tl.static_range(STAGES - 1, j, -1):
                if (USED >> (q * STAGES + j)) & (REACHED >> q) & 1:
                    w = _add(w, tl.load(weights + q * STAGES + j), mu, (STAGES - 1 - q) * PARTS, FORM)
            found = _pullback(at, w, n * STAGES + j, data, slab, FORM)
            start = _add(start, 1, found, 0, FORM)
            mu = mu + found
        else:
            mu = mu + w
    return start


@triton.jit(do_not_specialize=_SIZES)
def forward(
    x_ptr,
    u_ptr,
    first_ptr,
    second_ptr,
    third_ptr,
    scales_ptr,
    end_ptr,
    accepted_ptr,
    kept_ptr,
    rows,
    steps,
    every,
    count,
    FORM: tl.constexpr,
):
    """All steps of a block; states are kept every `every` steps, none where it is 0."""
    BLOCK: tl.constexpr = FORM.block
    DIM: tl.constexpr = FORM.dim
    data = (u_ptr, first_ptr, second_ptr, third_ptr, count)
    block = tl.program_id(0).to(tl.int64)
    row = block * BLOCK + tl.arange(0, BLOCK)
    ok = row < rows
    kept, wide = kept_ptr, tl.full((), 1, tl.int64) * rows
    x = _read(x_ptr, row, ok, DIM, 1, FORM)
    alive = _finite(x, FORM)
    accepted = tl.zeros_like(row).to(tl.int32)
    for n in range(steps):
        if every > 0:
            if n % every == 0:
                _keep(kept, x, row, ok, wide, FORM)
                kept += wide * DIM
        moved = _step(x, n, data, scales_ptr, FORM)
        alive = alive & _finite(moved, FORM)
        accepted += alive.to(tl.int32)
        x = _where(alive, moved, x, FORM)
    _write(end_ptr, x, row, ok, DIM, 1, FORM)
    tl.store(accepted_ptr + row, accepted, mask=ok)


@triton.jit(do_not_specialize=_SIZES)
def backward(
    cotangent_ptr,
    u_ptr,
    first_ptr,
    second_ptr,
    third_ptr,
    scales_ptr,
    room_ptr,
    kept_ptr,
    accepted_ptr,
    start_ptr,
    slab_ptr,
    rows,
    steps,
    every,
    count,
    room_size,
    slab_size,
    FORM: tl.constexpr,
    START: tl.constexpr,
):
    """The adjoint of all steps for every block that is this program's turn; its moments go to its own slab."""
    BLOCK: tl.constexpr = FORM.block
    DIM: tl.constexpr = FORM.dim
    SINGLE: tl.constexpr = FORM.single
    data = (u_ptr, first_ptr, second_ptr, third_ptr, count)
    program = tl.program_id(0).to(tl.int64)
    room, slab = room_ptr + program * room_size, slab_ptr + program * slab_size
    local, wide = tl.arange(0, BLOCK), tl.full((), 1, tl.int64) * rows
    inside = local < BLOCK
    slots = (steps + every - 1) // every
    for block in range(program, (wide + BLOCK - 1) // BLOCK, tl.num_programs(0)):
        row = block * BLOCK + local
        ok = row < rows
        # Rows that failed give nothing: their cotangent is 0, and they stand where all fields are finite.
        ok = ok & (tl.load(accepted_ptr + row, mask=ok, other=-1) == steps)
        p = _read(cotangent_ptr, row, ok, DIM, 1, FORM)
        # The moments of the block before.
        tl.debug_barrier()
        for back in range(slots):
            slot = slots - 1 - back
            first = slot * every
            last = tl.minimum(first + every, steps)
            kept = kept_ptr + wide * DIM * slot
            x = _kept(kept, row, ok, wide, FORM)
            if SINGLE:
                p = _back(x, p, first, data, slab, scales_ptr, FORM)
            else:
                for n in range(first, last):
                    _keep(room + (n - first) * BLOCK * DIM, x, local, inside, BLOCK, FORM)
                    if n + 1 < last:
                        x = _where(ok, _step(x, n, data, scales_ptr, FORM), x, FORM)
                for again in range(last - first):
                    n = last - 1 - again
                    # What one thread wrote another may read, here and where the next segment is written.
                    tl.debug_barrier()
                    x = _kept(room + (n - first) * BLOCK * DIM, local, inside, BLOCK, FORM)
                    p = _back(x, p, n, data, slab, scales_ptr, FORM)
                tl.debug_barrier()
        if START:
            _write(start_ptr, p, row, row < rows, DIM, 1, FORM)
