"""Eigenpairs of a linear map a row, from the Krylov space of one start: Arnoldi's and Lanczos's process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from cde_nets.conditions.point import Point
from cde_nets.options import positive, within
from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.krylov import apart
from cde_nets.solver.linear.check import over
from cde_nets.solver.states import finite_rows
from cde_nets.solver.status import Status

Product = Callable[[Tensor], Tensor]


class Chosen(NamedTuple):
    """An eigenpair of a projected matrix a row, in double precision on the host.

    Attributes:
        value: theta, shape (rows,).
        vector: y of norm 1, shape (rows, k).
        size: what the tolerance of the residual is relative to, shape (rows,).
    """

    value: Tensor
    vector: Tensor
    size: Tensor


class Pair(NamedTuple):
    """A Ritz pair A x ~ theta x a row.

    Attributes:
        value: theta, real or complex, shape (rows,).
        vector: x = V y of norm 1, zero in rows that diverged, shape (rows, numbers).
        residual: |A x - theta x|, shape (rows,).
        status: CONVERGED, MAX_STEPS or DIVERGED, shape (rows,).
    """

    value: Tensor
    vector: Tensor
    residual: Tensor
    status: Tensor


class Settings(NamedTuple):
    """How far a space is grown.

    Attributes:
        tolerance: of the residual, relative to the eigenvalue, but for rounding.
        steps: the most products.
        seed: of the start.
    """

    tolerance: float
    steps: int
    seed: int


def begin(
    problem: FixedPointProblem, z: Any, tolerance: float | None, max_steps: int | None, seed: int, most: int
) -> tuple[Point, Settings]:
    """Where the Jacobian is looked at, and the settings: by default eps^(2/3), and at most `most` steps.

    Raises:
        ValueError: before any work, a tolerance outside (0, 1), max_steps below 1, or a seed that is no integer from 0;
            and as `Point.of`.
    """
    if tolerance is not None:
        within("tolerance", tolerance, 0.0, 1.0)
    if max_steps is not None:
        positive("max_steps", max_steps)
    positive("seed", seed, least=0)
    point = Point.of(problem, z)
    steps = min(point.z.shape[1], most if max_steps is None else max_steps)
    eps = torch.finfo(point.z.dtype).eps
    return point, Settings(eps ** (2 / 3) if tolerance is None else tolerance, steps, seed)


@torch.no_grad()
def ritz(
    product: Product, z: Tensor, alive: Tensor, choose: Callable[[Tensor, Tensor], Chosen], settings: Settings
) -> Pair:
    """The Ritz pair that `choose` chooses, from a space grown until its residual is small.

    Arnoldi's relation A V_k = V_k H_k + h v_{k+1} e_k^T gives the residual h |e_k^T y| of (theta, V_k y) without a
    product (Saad, "Numerical methods for large eigenvalue problems", 2011, proposition 6.8). The basis is
    orthogonalised by Gram-Schmidt, twice where that is needed (`apart`). Where h vanishes
    the space is mapped to itself, and at k = n it is all there is: then the pair is exact to rounding.

    H is decomposed at every k up to 8 and then at every eighth more, on the host in double precision: k by k matrices
    are small, and no GPU is quick at them. All rows have the same start, so that none depends on where it stands.

    Args:
        product: v -> A v, every row by itself.
        z: a packed state: the dtype, device and shape of v.
        alive: the rows that have a matrix.
        choose: given H, shape (some rows, k, k), and which rows these are.
        settings: checked.
    """
    rows, n = z.shape
    eps = torch.finfo(z.dtype).eps
    generator = torch.Generator().manual_seed(settings.seed)
    start = torch.nn.functional.normalize(torch.randn(n, dtype=torch.float64, device="cpu", generator=generator), dim=0)
    newest = torch.where(alive[:, None], start.to(z), 0.0)
    basis, hessenberg = newest[:, None], z.new_zeros(rows, 1, 1)
    scale = z.new_zeros(rows)
    status = torch.where(alive, int(Status.RUNNING), int(Status.DIVERGED))
    found: Pair | None = None
    due = 1
    for k in range(1, settings.steps + 1):
        image = product(newest)
        lost = (status == Status.RUNNING) & ~finite_rows(image)
        status = torch.where(lost, int(Status.DIVERGED), status)
        running = status == Status.RUNNING
        image = torch.where(running[:, None], image, 0.0)
        scale = torch.maximum(scale, norms(image))

        along, rest, height, _ = apart(basis[:, :k], image)
        exhausted = height <= 10 * eps * scale
        hessenberg[:, :k, k - 1] = along[:, 0]

        if k >= due or k == settings.steps or bool((exhausted & running).any()):
            due = k + max(1, k // 8)
            found = _look(
                hessenberg[:, :k, :k], basis[:, :k], height, exhausted, scale, status, found, choose, settings.tolerance
            )
            status = found.status
            if not bool((status == Status.RUNNING).any()):
                break
        if k == len(basis[0]):
            # Twice the room: no more than twice of what is needed.
            basis, hessenberg = pad(basis, (0, 0, 0, k)), pad(hessenberg, (0, k, 0, k))
        newest = over(rest, height[:, None], ~exhausted[:, None])
        if k < settings.steps:
            basis[:, k], hessenberg[:, k, k - 1] = newest, torch.where(exhausted, 0.0, height)
    assert found is not None
    diverged = status == Status.DIVERGED
    return Pair(
        found.value,
        torch.where(diverged[:, None], 0.0, found.vector),
        torch.where(diverged, math.nan, found.residual),
        torch.where(status == Status.RUNNING, int(Status.MAX_STEPS), status),
    )


def largest_modulus(hessenberg: Tensor, rows: Tensor) -> Chosen:
    """The eigenvalue farthest from 0, a complex number."""
    values, vectors = torch.linalg.eig(hessenberg)
    return _take(values, vectors, values.abs().argmax(1))


def nearest(targets: Tensor) -> Callable[[Tensor, Tensor], Chosen]:
    """The eigenvalue nearest to each row's target, shape (all rows,)."""

    def choose(hessenberg: Tensor, rows: Tensor) -> Chosen:
        values, vectors = torch.linalg.eig(hessenberg)
        wanted = targets.to(values)[rows]
        return _take(values, vectors, (values - wanted[:, None]).abs().argmin(1))._replace(size=wanted.abs())

    return choose


def largest(hessenberg: Tensor, rows: Tensor) -> Chosen:
    """Of a symmetric map the largest eigenvalue."""
    values, vectors = torch.linalg.eigh((hessenberg + hessenberg.mT) / 2)
    return Chosen(values[:, -1], vectors[:, :, -1], values[:, -1].abs())


def smallest(hessenberg: Tensor, rows: Tensor) -> Chosen:
    """Of a symmetric map the smallest eigenvalue."""
    values, vectors = torch.linalg.eigh((hessenberg + hessenberg.mT) / 2)
    return Chosen(values[:, 0], vectors[:, :, 0], values[:, 0].abs())


def _look(
    hessenberg: Tensor,
    basis: Tensor,
    height: Tensor,
    exhausted: Tensor,
    scale: Tensor,
    status: Tensor,
    before: Pair | None,
    choose: Callable[[Tensor, Tensor], Chosen],
    tolerance: float,
) -> Pair:
    """The Ritz pairs of the rows that run, and who has converged; the others stay as they were."""
    rows, k, n = basis.shape
    index = torch.nonzero(status == Status.RUNNING)[:, 0]
    chosen = choose(hessenberg[index].cpu().double(), index.cpu())
    dtype = basis.dtype.to_complex() if chosen.vector.is_complex() else basis.dtype
    value, y, size = chosen.value.to(basis.device, dtype), chosen.vector.to(basis.device, dtype), chosen.size.to(basis)
    vector = (y[:, None, :] @ basis[index].to(y.dtype))[:, 0]
    residual = height[index] * y[:, -1].abs()
    # No residual is known below the rounding of the products.
    enough = torch.maximum(tolerance * size, torch.finfo(basis.dtype).eps * scale[index])
    done = exhausted[index] | (residual <= enough) | (k == n)
    if before is None:
        before = Pair(
            torch.full((rows,), math.nan, dtype=value.dtype, device=value.device),
            vector.new_zeros(rows, n),
            torch.full_like(height, math.nan),
            status,
        )
    return Pair(
        before.value.index_copy(0, index, value),
        before.vector.index_copy(0, index, vector),
        before.residual.index_copy(0, index, residual),
        status.index_copy(0, index, torch.where(done, int(Status.CONVERGED), int(Status.RUNNING))),
    )


def _take(values: Tensor, vectors: Tensor, which: Tensor) -> Chosen:
    index = which[:, None]
    value = values.gather(1, index)[:, 0]
    vector = vectors.gather(2, index[:, :, None].expand(-1, vectors.shape[1], 1))[:, :, 0]
    return Chosen(value, vector, value.abs())
