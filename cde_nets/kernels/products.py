"""Ridge fields whose matrices outgrow a tile: the library's matrix products, and one pass over what lies between.

Where they are not too many, the products are kept from the way there: the way back then takes one product a stage, and
nothing else of the states. All along states stand in columns, shape (dim, rows): C x is a faster product than x C^T.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from cde_nets.kernels.native import native

# A quarter of a gigabyte in single precision.
MOST_KEPT = 2**26


def kept_numbers(rows: int, count: int, dim: int, stages: int, steps: int, every: int) -> int:
    """How many numbers are kept for the way back: all products, or states now and then."""
    if _keeps_all(rows, count, dim, stages, steps, every):
        return steps * stages * rows * count * dim
    return -(-steps // every) * rows * dim


def forward(
    x: Tensor, u: Tensor, coefficients: Sequence[Tensor], widths: Tensor, tableau: Tensor, every: int, *, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As the operator `cde_nets::flow`."""
    ridge = _Ridge(x, u, coefficients, tableau)
    steps, rows, dim = len(widths), *x.shape
    all_kept = keep and _keeps_all(rows, ridge.count, dim, ridge.stages, steps, every)
    numbers = kept_numbers(rows, ridge.count, dim, ridge.stages, steps, every) if keep else 0
    kept = x.new_empty(numbers)
    shape = (steps, ridge.stages, ridge.count * dim, rows) if all_kept else (-1 if keep else 0, dim, rows)
    held, x = kept.view(shape), x.mT.contiguous()
    alive = torch.isfinite(x).all(0)
    accepted = x.new_zeros(rows, dtype=torch.int32)
    for n, h in enumerate(widths.tolist()):
        if keep and not all_kept and n % every == 0:
            held[n // every] = x
        x, alive = ridge.step(n, h, x, alive, held[n] if all_kept else None)
        accepted += alive
    return x.mT.contiguous(), accepted, kept


def backward(
    cotangent: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    widths: Tensor,
    tableau: Tensor,
    every: int,
    kept: Tensor,
    accepted: Tensor,
    start_wanted: bool,
) -> tuple[Tensor, Tensor]:
    """As the operator `cde_nets::flow_backward`."""
    ridge = _Ridge(cotangent, u, coefficients, tableau)
    steps, rows, dim = len(widths), *cotangent.shape
    good = accepted == steps
    whole = bool(good.all())
    p = torch.where(good, cotangent.mT, 0.0).contiguous()
    found, h = torch.empty_like(u), widths.tolist()

    def healthy(tensor: Tensor) -> Tensor:
        # Rows that failed stand where all fields are finite.
        return tensor if whole else torch.where(good, tensor, 0.0)

    if _keeps_all(rows, ridge.count, dim, ridge.stages, steps, every):
        for n in reversed(range(steps)):
            z = [healthy(one.clone()) for one in kept.view(steps, ridge.stages, -1, rows)[n]]
            p = ridge.back(n, h[n], z, p, found, start_wanted=start_wanted or n > 0)
        return p.mT.contiguous() if start_wanted else p.new_empty(0), found
    states = kept.view(-1, dim, rows)
    alive = torch.ones_like(good)
    for slot in reversed(range(len(states))):
        stretch = [healthy(states[slot])]
        first, last = slot * every, min(steps, (slot + 1) * every)
        for n in range(first, last - 1):
            stretch.append(ridge.step(n, h[n], stretch[-1], alive, None)[0])
        for n in reversed(range(first, last)):
            z = ridge.products(n, h[n], stretch[n - first])
            p = ridge.back(n, h[n], z, p, found, start_wanted=start_wanted or n > 0)
    return p.mT.contiguous() if start_wanted else p.new_empty(0), found


def _keeps_all(rows: int, count: int, dim: int, stages: int, steps: int, every: int) -> bool:
    return every == 1 and steps * stages * rows * count * dim <= MOST_KEPT


class _Ridge:
    """The fields, driven by u at every stage."""

    def __init__(self, x: Tensor, u: Tensor, coefficients: Sequence[Tensor], tableau: Tensor) -> None:
        matrices, offsets, polynomials = (c.contiguous() for c in coefficients)
        self.count, self.dim = offsets.shape
        self._matrices, self._offsets, self._polynomials = matrices.flatten(0, 1), offsets, polynomials
        self._u, self.stages = u.contiguous(), tableau.shape[1]
        *self._a, self._b = tableau.tolist()
        self._sizes = (x.dtype == torch.float64, polynomials.shape[1], x.shape[0], self.count, self.dim)

    def step(self, n: int, h: float, x: Tensor, alive: Tensor, held: Tensor | None) -> tuple[Tensor, Tensor]:
        """The end of a step in rows that stay finite, and which do; products are put into `held`."""
        slopes: list[Tensor] = []
        for j, row in enumerate(self._a):
            z = self._product(_along(x, h, row, slopes), None if held is None else held[j])
            slopes.append(self._velocity(n, j, z))
        moved = _along(x, h, self._b, slopes)
        alive = alive & torch.isfinite(moved).all(0)
        return torch.where(alive, moved, x), alive

    def products(self, n: int, h: float, x: Tensor) -> list[Tensor]:
        """Those of every stage."""
        found: list[Tensor] = []
        slopes: list[Tensor] = []
        for j, row in enumerate(self._a):
            found.append(self._product(_along(x, h, row, slopes), None))
            if j + 1 < self.stages:
                slopes.append(self._velocity(n, j, found[-1]))
        return found

    def back(self, n: int, h: float, z: list[Tensor], p: Tensor, found: Tensor, *, start_wanted: bool) -> Tensor:
        """The cotangent of the step's start; the products are used up. See `gradient.transposed`."""
        mu: dict[int, Tensor] = {}
        for j in reversed(range(self.stages)):
            weights = [self._b[j], *(self._a[later][j] for later in mu)]
            terms = [h * weight * q for weight, q in zip(weights, [p, *mu.values()], strict=True) if weight]
            if not terms:
                found[n, j] = 0.0
                continue
            self._pull(n, j, z[j], sum(terms[1:], terms[0]), found[n, j])
            if j or start_wanted:
                mu[j] = self._matrices.mT @ z[j]
        return sum(mu.values(), p)

    def _product(self, x: Tensor, out: Tensor | None) -> Tensor:
        return torch.mm(self._matrices, x, out=out)

    def _velocity(self, n: int, j: int, z: Tensor) -> Tensor:
        out = z.new_empty(self.dim, z.shape[1])
        given = _pointers(z, self._u[n, j], self._offsets, self._polynomials, out)
        self._native().cde_ridge_velocity(*self._sizes, torch.get_num_threads(), *given)
        return out

    def _pull(self, n: int, j: int, z: Tensor, w: Tensor, moments: Tensor) -> None:
        threads = min(torch.get_num_threads(), self.dim)
        slabs = z.new_empty(threads, self.count)
        given = _pointers(z, w, self._u[n, j], self._offsets, self._polynomials, slabs)
        self._native().cde_ridge_pullback(*self._sizes, threads, *given)
        torch.sum(slabs, 0, out=moments)

    @staticmethod
    def _native() -> ctypes.CDLL:
        library = native().library
        assert library is not None
        return library


def _along(x: Tensor, h: float, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=False):
        if weight:
            x = x.add(slope, alpha=h * weight)
    return x


def _pointers(*tensors: Tensor) -> tuple[int, ...]:
    assert all(tensor.is_contiguous() for tensor in tensors)
    return tuple(tensor.data_ptr() for tensor in tensors)
