"""The largest modulus of J's eigenvalues: how fast Picard and the Neumann series converge in the end."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cde_nets.conditions.estimate import Estimate, once
from cde_nets.conditions.krylov import Pair, Settings, begin, largest_modulus, nearest, ritz
from cde_nets.conditions.point import Point
from cde_nets.options import suggesting
from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.linear.check import over
from cde_nets.solver.status import Status

MOST = 256


@suggesting
def spectral_radius(
    problem: FixedPointProblem,
    z: Any,
    *,
    tolerance: float | None = None,
    max_steps: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The largest |eigenvalue of J| a row, J the Jacobian of f (of z + g(z) for a root) at z.

    By Arnoldi's process on J^T, which has J's eigenvalues: complex ones and a J that is not normal are no exception,
    where the power method finds nothing. Of a normal J some eigenvalue lies within the residual of the Ritz value; else
    it is, to first order, within the residual times the eigenvalue's condition 1 / |w^T v|. A defective eigenvalue is
    known to a root of the precision only, here as in dense linear algebra.

    What no Krylov space can see: an eigenvector to which the start is orthogonal. A random start never is, but a Ritz
    value may settle on another eigenvalue before one of nearly the same modulus shows.

    The value is differentiable, in z and in all that f depends on: d|lambda| = Re(conj(lambda) / |lambda| w^T dJ v /
    w^T v) with the eigenvectors of J on the left and on the right; the latter come from a second process, which runs
    only where a graph is recorded. Both are held, so that the derivative cannot be differentiated again, and is exact
    up to the residuals times the eigenvectors' condition. Where several eigenvalues have the largest modulus it is that
    of one of them; a multiple one has no derivative, and this is the formula's value for the vectors that the start
    leads to. Where w^T v vanishes to half of the digits, of an eigenvalue that is (nearly) defective, it is 0, with
    status BREAKDOWN. It is 0, too, where the radius is.

    Cost: k products with J^T, work rows * k^2 * numbers, memory rows * k * numbers. Only where a graph is recorded: as
    much again with J, and two products more.

    Args:
        problem: its z0 is not used; only how it is built.
        z: the rest point, built as z0.
        tolerance: of the residual, relative to the radius; eps^(2/3) where None: 4e-11 in double precision, 2e-5 in
            single.
        max_steps: the most products; the least of 256 and the numbers of a row where None. As many as these, and the
            value is that of the whole matrix.
        seed: of the start.

    Raises:
        ValueError: an option out of its range, or a state that is complex, of half precision or not built as z0.
    """
    point, settings = begin(problem, z, tolerance, max_steps, seed, MOST)
    with torch.no_grad():
        _, transposed = point.problem.transposed(point.z.detach())
        left = ritz(transposed, point.z, point.alive, largest_modulus, settings)
    point = point.keep(left.status != Status.DIVERGED)
    value, status, residual = left.value.abs(), left.status, left.residual
    if torch.is_grad_enabled() and point.wanted:
        right = _right(point, left, settings)
        point = point.keep(right.status != Status.DIVERGED)
        status = torch.where(status == Status.CONVERGED, right.status, status)
        residual = torch.maximum(residual, right.residual)
        simple, quotient = _quotient(point, left, right)
        status = torch.where((status == Status.CONVERGED) & ~simple & (value > 0), int(Status.BREAKDOWN), status)
        value = once(value + quotient - quotient.detach())
    return Estimate(point.only(value), status, residual, point.problem.products)


def _right(point: Point, left: Pair, settings: Settings) -> Pair:
    """The same eigenvalue's eigenvector on the right."""
    z, problem = point.z.detach(), point.problem
    target = torch.where(point.alive, left.value, 0.0)
    return ritz(problem.pushing(z), z, point.alive, nearest(target.cpu()), settings)


def _quotient(point: Point, left: Pair, right: Pair) -> tuple[Tensor, Tensor]:
    """Where the eigenvalue has a derivative, and the real number a row that has it: Re(phase w^T J v / w^T v)."""
    w, v = left.vector, right.vector
    overlap = (w * v).sum(1)
    simple = overlap.abs() > math.sqrt(torch.finfo(point.z.dtype).eps) * norms(w) * norms(v)
    factor = over(left.value.sgn().conj(), overlap, simple & point.alive)
    # Two real products are one with a complex vector.
    parts = [point.problem.pushforward(point.z, part.contiguous()) for part in (v.real, v.imag)]
    return simple, (factor * (w * torch.complex(*parts)).sum(1)).real
