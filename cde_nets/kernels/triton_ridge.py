# Triton compiles what is written here; it reads like Python, but types, unpacking and `and` are not Python's.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""Ridge fields V_i(x) = sigma_i(C_i x + b_i) in Triton: velocity and its transposed derivative for a block of rows.

A block's state is a tuple of tensors, in one of two forms. Lanes: one vector over the rows for each component, so that
a thread has whole rows in its registers, every number of C is one scalar that all threads share, and nothing crosses
threads: for dimensions whose products unroll. A tile: one tensor (rows, width), width a power of two from 16 on, and
C_i enters by `tl.dot`.

`data` is the control and the coefficients, as `cuda.forward` takes them, and the number of fields; `stage` counts the
stages of all steps; FORM is a `cuda.Form`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def velocity_lanes(x, stage, data, FORM: tl.constexpr):
    """Sum_i u_i sigma_i(C_i x + b_i), vector by vector."""
    DIM: tl.constexpr = FORM.dim
    TERMS: tl.constexpr = FORM.terms
    u, matrices, offsets, polynomials, count = data
    constant = tl.load(u + stage * count) * 0
    total = ()
    for r in tl.static_range(DIM):
        total = total + (tl.zeros_like(x[r]),)
    for i in range(count):
        here = tl.load(u + stage * count + i)
        weights = ()
        for q in tl.static_range(TERMS):
            weights = weights + (here * tl.load(polynomials + i * TERMS + q),)
        # Numbers that all rows share are added up by themselves: one addition less for each component.
        constant += weights[0]
        found = ()
        for r in tl.static_range(DIM):
            row = matrices + (i * DIM + r) * DIM
            z = tl.load(offsets + i * DIM + r) + tl.load(row) * x[0]
            for k in tl.static_range(1, DIM):
                z += tl.load(row + k) * x[k]
            value = weights[TERMS - 1]
            for q in tl.static_range(TERMS - 2):
                value = value * z + weights[TERMS - 2 - q]
            found = found + (total[r] + value * z,)
        total = found
    out = ()
    for r in tl.static_range(DIM):
        out = out + (total[r] + constant,)
    return out


@triton.jit
def pullback_lanes(x, w, stage, data, slab, FORM: tl.constexpr):
    """D(velocity)(x)^T w; <w, V_i(x)> summed over the rows goes to the slab, (steps * stages, count)."""
    DIM: tl.constexpr = FORM.dim
    MORE: tl.constexpr = FORM.more
    TERMS: tl.constexpr = FORM.terms
    u, matrices, offsets, polynomials, count = data
    mu = ()
    for r in tl.static_range(DIM):
        mu = mu + (tl.zeros_like(x[r]),)
    for i in range(count):
        moment = slab + stage * count + i
        here = tl.load(u + stage * count + i)
        # Asked for long before it is needed: a warp waits where it first uses what it loads.
        before = tl.load(moment) if MORE else here * 0
        sigma = ()
        for q in tl.static_range(TERMS):
            sigma = sigma + (tl.load(polynomials + i * TERMS + q),)
        together = tl.zeros_like(x[0])
        for r in tl.static_range(DIM):
            # Used both ways round while they are at hand.
            row = ()
            for k in tl.static_range(DIM):
                row = row + (tl.load(matrices + (i * DIM + r) * DIM + k),)
            z = tl.load(offsets + i * DIM + r) + row[0] * x[0]
            for k in tl.static_range(1, DIM):
                z += row[k] * x[k]
            value, slope = sigma[TERMS - 1], (TERMS - 1) * sigma[TERMS - 1]
            for q in tl.static_range(TERMS - 2):
                value = value * z + sigma[TERMS - 2 - q]
                slope = slope * z + (TERMS - 2 - q) * sigma[TERMS - 2 - q]
            together += w[r] * (value * z + sigma[0])
            inner = w[r] * (here * slope)
            found = ()
            for k in tl.static_range(DIM):
                found = found + (mu[k] + inner * row[k],)
            mu = found
        tl.store(moment, before + tl.sum(together, 0))
    return mu


@triton.jit
def _field(i, tile, matrices, offsets, FORM: tl.constexpr):
    """C_i, with zeros up to the width, and C_i x + b_i."""
    WIDTH: tl.constexpr = FORM.width
    DIM: tl.constexpr = FORM.dim
    PRECISION: tl.constexpr = FORM.precision
    column = tl.arange(0, WIDTH)
    inside = column < DIM
    at = column[:, None] * DIM + column[None, :]
    matrix = tl.load(matrices + i * DIM * DIM + at, mask=inside[:, None] & inside[None, :], other=0.0)
    offset = tl.load(offsets + i * DIM + column, mask=inside, other=0.0)
    z = tl.dot(tile, tl.trans(matrix), input_precision=PRECISION, out_dtype=tile.dtype)
    return matrix, z + offset[None, :]


@triton.jit
def velocity_tile(x, stage, data, FORM: tl.constexpr):
    """As `velocity_lanes`; columns from the dimension on hold what no other column reads."""
    TERMS: tl.constexpr = FORM.terms
    u, matrices, offsets, polynomials, count = data
    total = tl.zeros_like(x[0])
    for i in range(count):
        here, sigma = tl.load(u + stage * count + i), polynomials + i * TERMS
        _, z = _field(i, x[0], matrices, offsets, FORM)
        value = here * tl.load(sigma + TERMS - 1)
        for q in tl.static_range(TERMS - 1):
            value = value * z + here * tl.load(sigma + TERMS - 2 - q)
        total += value
    return (total,)


@triton.jit
def pullback_tile(x, w, stage, data, slab, FORM: tl.constexpr):
    """As `pullback_lanes`; columns of w from the dimension on must be 0, and those of the answer are."""
    TERMS: tl.constexpr = FORM.terms
    MORE: tl.constexpr = FORM.more
    PRECISION: tl.constexpr = FORM.precision
    u, matrices, offsets, polynomials, count = data
    mu = tl.zeros_like(x[0])
    for i in range(count):
        moment = slab + stage * count + i
        here, sigma = tl.load(u + stage * count + i), polynomials + i * TERMS
        before = tl.load(moment) if MORE else here * 0
        matrix, z = _field(i, x[0], matrices, offsets, FORM)
        value = tl.load(sigma + TERMS - 1)
        slope = (TERMS - 1) * here * value
        for q in tl.static_range(TERMS - 2):
            weight = tl.load(sigma + TERMS - 2 - q)
            value = value * z + weight
            slope = slope * z + (TERMS - 2 - q) * here * weight
        value = value * z + tl.load(sigma)
        mu = tl.dot(w[0] * slope, matrix, acc=mu, input_precision=PRECISION, out_dtype=mu.dtype)
        tl.store(moment, before + tl.sum(tl.sum(w[0] * value, 1), 0))
    return (mu,)
