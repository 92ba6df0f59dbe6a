"""Where a Jacobian is looked at, with rows that are not finite put out of the others' way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.living import healed, stand_in
from cde_nets.solver.states import finite_rows


@dataclass(frozen=True, eq=False)
class Point:
    """A state and the problem whose Jacobian is wanted there.

    Attributes:
        problem: nothing counted.
        z: packed, shape (rows, numbers), finite where a row lives; with its graph.
        alive: the rows that have a Jacobian, shape (rows,). The others stand where a living row stands, so that no
            derivative there is NaN: zero times it would be NaN in what rows share.
        wanted: whether f or z has a graph, so that a derivative may be asked for.
    """

    problem: FixedPointProblem
    z: Tensor
    alive: Tensor
    wanted: bool

    @classmethod
    def of(cls, problem: FixedPointProblem, z: Any) -> Point:
        """By one evaluation of f.

        Raises:
            ValueError: no FixedPointProblem, z not built as problem.z0, a state that is complex, of half precision or
                without numbers.
        """
        if not isinstance(problem, FixedPointProblem):
            raise ValueError(f"problem must be a FixedPointProblem; got a {type(problem).__name__}.")
        packed = problem.packing.pack(z, "z")
        if packed.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"The conditions on a Jacobian take states of float32 or float64; got {packed.dtype}. A complex number "
                "is two real ones: torch.view_as_real."
            )
        if packed.shape[1] == 0:
            raise ValueError("The state has no numbers, and so its map has no Jacobian.")
        problem = problem.counted()
        finite = finite_rows(packed)
        packed = torch.where(finite[:, None], packed, 0.0)
        # With its graph, which tells of tensors that f closes over, too.
        residual = problem.residual(packed)
        point = cls(problem, packed, torch.ones_like(finite), residual.requires_grad)
        return point.keep(finite & finite_rows(residual.detach()))

    def keep(self, alive: Tensor) -> Point:
        """Without the rows that are found not to live, and what they were given of what f depends on."""
        alive = self.alive & alive
        if bool((alive == self.alive).all()):
            return self
        z = stand_in(self.z, alive)
        leaves = healed(self.problem.leaves, alive, lambda leaves: self.problem.map.on(leaves)(z.detach()))
        return Point(self.problem.on(leaves), z, alive, self.wanted)

    def finite(self, function: Callable[[Point], Tensor]) -> tuple[Point, Tensor]:
        """The function's value, shape (rows, ..), and the point without the rows where that is not finite."""
        value = function(self)
        point = self.keep(finite_rows(value.detach().flatten(1)))
        return point, value if point is self else function(point)

    def only(self, value: Tensor) -> Tensor:
        """The value, shape (rows,), with NaN for the rows that do not live."""
        return torch.where(self.alive, value, math.nan)
