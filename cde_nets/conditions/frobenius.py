"""The Frobenius norm of J, exact or from random products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cde_nets.conditions.dense import jacobian
from cde_nets.conditions.point import Point
from cde_nets.options import positive, suggesting
from cde_nets.solver.fixed_point import FixedPointProblem


@suggesting
def squared_frobenius(
    problem: FixedPointProblem, z: Any, *, samples: int | None = 1, generator: torch.Generator | None = None
) -> Tensor:
    """|J|_F^2 = tr(J^T J) a row, estimated without bias by the mean of |J e|^2 over random signs e.

    The regulariser of Bai, Koltun and Kolter ("Stabilizing equilibrium models by Jacobian regularization", ICML 2021),
    who draw e normal; with signs, as Hutchinson ("A stochastic estimator of the trace of the influence matrix", 1990),
    the variance is the least: 2 (|B|_F^2 - sum_i B_ii^2) / samples with B = J^T J. |J|_F bounds |J|_2 and the spectral
    radius.

    Differentiable, to any order, in z and in all that f depends on. A row where z, f(z) or J is not finite gives NaN,
    and nothing to what rows share.

    Args:
        problem: its z0 is not used; only how it is built.
        z: the rest point, built as z0.
        samples: products with J; more than one go through torch.func.vmap at once, which f must allow. None is exact:
            as many products as a row has numbers.
        generator: of the signs, on the state's device; torch's own where None.

    Returns:
        Shape (rows,).

    Raises:
        ValueError: samples below 1, a generator where nothing is drawn, or a state that is complex, of half precision
            or not built as z0.
    """
    if samples is not None:
        positive("samples", samples)
    elif generator is not None:
        raise ValueError("samples=None is exact and draws nothing: leave the generator out.")
    point = Point.of(problem, z)
    if samples is None:
        point, matrix = jacobian(point)
        return point.only(matrix.square().sum((1, 2)))
    shape = (samples, *point.z.shape)
    # Drawn where the state is: a generator belongs to a device.
    signs = torch.randint(0, 2, shape, generator=generator, device=point.z.device).to(point.z.dtype) * 2 - 1

    def pushed(point: Point) -> Tensor:
        if len(signs) == 1:
            return point.problem.pushforward(point.z, signs[0])[:, None]
        return point.problem.pushforwards(point.z, signs).movedim(0, 1)

    point, images = point.finite(pushed)
    return point.only(images.square().sum(2).mean(1))
