# Triton compiles what is written here; it reads like Python, but types, unpacking and `and` are not Python's.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""Families with shared features, V_i(x) = A_i phi(x), in Triton: the control has collapsed into W = sum_i u_i A_i.

phi are all monomials of a degree, or x itself. As in `triton_ridge` a state is a tuple of vectors over the rows, and
so are the features; which monomials a monomial divides is known when a kernel is compiled.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _features(x, FORM: tl.constexpr):
    """phi(x): each monomial is an earlier one times a variable."""
    TERMS: tl.constexpr = FORM.terms
    DIM: tl.constexpr = FORM.dim
    PARENT: tl.constexpr = FORM.parent
    VARIABLE: tl.constexpr = FORM.variable
    phi = x
    if TERMS > DIM:
        phi = (tl.zeros_like(x[0]) + 1,) + x
        for q in tl.static_range(TERMS - 1 - DIM):
            phi = phi + (phi[PARENT[q]] * x[VARIABLE[q]],)
    return phi


@triton.jit
def velocity(x, stage, data, FORM: tl.constexpr):
    """W phi(x), vector by vector."""
    DIM: tl.constexpr = FORM.dim
    TERMS: tl.constexpr = FORM.terms
    u, _, _, _, _ = data
    phi = _features(x, FORM)
    out = ()
    for r in tl.static_range(DIM):
        row = u + (stage * DIM + r) * TERMS
        found = tl.load(row) * phi[0]
        for f in tl.static_range(1, TERMS):
            found += tl.load(row + f) * phi[f]
        out = out + (found,)
    return out


@triton.jit
def pullback(x, w, stage, data, slab, FORM: tl.constexpr):
    """D(W phi)(x)^T w; w phi(x)^T summed over the rows goes to the slab, (steps * stages, dim, features)."""
    DIM: tl.constexpr = FORM.dim
    TERMS: tl.constexpr = FORM.terms
    MORE: tl.constexpr = FORM.more
    PARENT: tl.constexpr = FORM.parent
    VARIABLE: tl.constexpr = FORM.variable
    u, _, _, _, _ = data
    phi = _features(x, FORM)
    here, moment = u + stage * DIM * TERMS, slab + stage * DIM * TERMS
    # The cotangents of the features, from the last: a monomial's own, and what those that it divides hand down.
    # Last first, so that feature f is number terms - 1 - f.
    g = ()
    for f in tl.static_range(TERMS - 1, -1, -1):
        own = tl.zeros_like(x[0])
        for r in tl.static_range(DIM):
            before = tl.load(moment + r * TERMS + f) if MORE else 0
            own += tl.load(here + r * TERMS + f) * w[r]
            tl.store(moment + r * TERMS + f, before + tl.sum(w[r] * phi[f], 0))
        for q in tl.static_range(TERMS - 1 - DIM):
            if PARENT[q] == f:
                own += g[TERMS - 2 - DIM - q] * x[VARIABLE[q]]
        g = g + (own,)
    mu = ()
    for r in tl.static_range(DIM):
        if TERMS == DIM:
            mu = mu + (g[DIM - 1 - r],)
        else:
            total = g[TERMS - 2 - r]
            for q in tl.static_range(TERMS - 1 - DIM):
                if VARIABLE[q] == r:
                    total += g[TERMS - 2 - DIM - q] * phi[PARENT[q]]
            mu = mu + (total,)
    return mu
