"""A controlled ODE as a module: x -> X_1."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cde_nets.controls import Control
from cde_nets.errors import DivergedError
from cde_nets.fields.base import Fields
from cde_nets.gradient.discrete import discrete
from cde_nets.solve.fixed_grid import FixedGrid
from cde_nets.solve.manifold import manifold as manifold_named
from cde_nets.solve.mesh import uniform_mesh
from cde_nets.solve.method import RungeKutta

State = Float[Tensor, "batch dim"]


class ControlledODE(nn.Module):
    """The flow x -> X_1 of dX = sum_i u_i(t) V_i(X) dt, X_0 = x, on [0, 1]. There is no drift.

    Only the control trains: the gradient is exact for the steps that are taken (`cde_nets.gradient.discrete`).

    Args:
        fields: one family, tied over all steps (the theorem's own case), or a sequence of families, one for each
            interval of the control: fields fresh at every step.
        control: u, with as many components as a family has fields.
        method: a `RungeKutta`, or its name for one step an interval of the control.
        manifold: "sphere" puts every step's end back on the sphere about the origin through its start. Euler then
            steps the flow of `SphericalFields(fields)` to first order whatever the fields; a method of higher order
            keeps its order only on fields that are tangent, so that it asks for `SphericalFields`.
        throw: raise where an input is not finite or a row diverges. That reads one number back from the device before
            and one after the solve; False reads none and returns what came out.

    Raises:
        ValueError: a control that does not fit the fields, families that do not fit each other or the control's
            intervals, an unknown method or manifold, steps that straddle a breakpoint.
    """

    def __init__(
        self,
        fields: Fields | Sequence[Fields],
        control: Control,
        method: RungeKutta | str = "rk4",
        *,
        manifold: str | None = None,
        throw: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(control, Control):
            raise ValueError(
                f"control must be a Control, such as PiecewiseConstantControl(steps, count); got a "
                f"{type(control).__name__}. The order is ControlledODE(fields, control)."
            )
        families = [fields] if isinstance(fields, Fields) else list(fields)
        intervals = len(control.breakpoints) + 1
        _check_families(families, control, intervals)
        self.tied = isinstance(fields, Fields) or len(families) == 1
        self.families = nn.ModuleList(families)
        self.control = control
        self.method = RungeKutta(method) if isinstance(method, str) else method
        self.manifold = manifold
        self.throw = throw
        steps = self.method.steps or intervals
        mesh = uniform_mesh(steps, control.breakpoints)
        retraction = manifold_named(manifold)
        if manifold is not None and self.method.tableau.order > 1 and any(_leaves_sphere(f) for f in families):
            raise ValueError(
                f"manifold={manifold!r} with {self.method.name!r} keeps its order only on tangent fields: wrap the "
                "fields in SphericalFields, or use method='euler'."
            )
        middles = [(mesh[n] + mesh[n + 1]) / 2 for n in range(steps)]
        # On the fields' own list every step's family is looked up once; the modules may still be cast or moved.
        self._grid = FixedGrid(
            [families[0 if self.tied else bisect(control.breakpoints, t)] for t in middles],
            self.method.tableau,
            mesh,
            retraction,
        )

    @property
    def dim(self) -> int:
        """The dimension m of the state."""
        return self._grid.fields[0].dim

    @property
    def count(self) -> int:
        """The number d of fields a family has."""
        return self.control.count

    def forward(self, x: State) -> State:
        """X_1 of every row, shape (batch, dim).

        Raises:
            ValueError: x does not fit the fields, or (with throw) holds NaN or infinity.
            DivergedError: with throw, rows that left the finite numbers; the message names them and the time.
        """
        # The fields would say it too, but not before torch has stumbled over what is no tensor.
        if not isinstance(x, Tensor):
            raise ValueError(f"x must be a torch tensor of shape (batch, {self.dim}); got a {type(x).__name__}.")
        if self.throw:
            self._check_finite(x)
        end = discrete(self._grid, x, self._values())
        if self.throw and not bool(torch.isfinite(end).all()):
            raise DivergedError(self._divergence(x.detach()))
        return end

    @torch.no_grad()
    def trajectory(self, x: State) -> Float[Tensor, "times batch dim"]:
        """X at every step's end, the start included; without a gradient."""
        values, states = self._values(), [x]
        for n in range(self._grid.steps):
            states.append(self._grid.step(n, states[-1], values[n])[0])
        return torch.stack(states)

    @property
    def times(self) -> tuple[float, ...]:
        """The times of `trajectory`."""
        return tuple(self._grid.mesh)

    def describe(self) -> str:
        """One line: fields, whether they are tied or fresh, control, method."""
        family = self._grid.fields[0]
        kind = f"{type(family).__name__}({family.extra_repr()})"
        intervals = len(self.control.breakpoints) + 1
        spread = f"tied over {intervals} intervals" if self.tied else f"fresh at each of {intervals} intervals"
        spread = "on one interval" if intervals == 1 else spread
        steps = f"{self._grid.steps} step" + "s" * (self._grid.steps > 1)
        place = "" if self.manifold is None else f" on the {self.manifold}"
        return f"{kind}, {spread}, {self.method.name} in {steps}{place}, no drift"

    def extra_repr(self) -> str:
        """Shown by print(flow)."""
        return self.describe()

    def _values(self) -> Float[Tensor, "steps stages count"]:
        return self.control.on_mesh(self._grid.mesh, self.method.tableau.c)

    def _check_finite(self, x: Tensor) -> None:
        finite = torch.isfinite(x)
        if not bool(finite.all()):
            rows = torch.nonzero(~finite.flatten(1).all(1)).flatten().tolist() if x.ndim > 1 else [0]
            raise ValueError(
                f"The input holds NaN or infinity in {_list_rows(rows)} of {x.shape[0]}. Clean those rows, or pass "
                "throw=False to ControlledODE to let them through."
            )

    def _divergence(self, x: Tensor) -> str:
        if not all(bool(torch.isfinite(p).all()) for p in self.control.parameters()):
            return "The control holds NaN or infinity: a training step was too long, or its values were set so."
        finite = torch.isfinite(self.trajectory(x)).all(-1)
        rows = torch.nonzero(~finite[-1]).flatten().tolist()
        first = int(finite[:, rows].all(1).to(torch.int64).sum())
        return (
            f"{_list_rows(rows).capitalize()} of {x.shape[0]} diverged, the first by t = {self.times[first]:.4g}. "
            "Polynomial fields of degree >= 2 blow up in finite time: take manifold='sphere' or SphericalFields, "
            "Cutoff, smaller controls, or throw=False to go on without those rows."
        )


def _check_families(families: Sequence[Fields], control: Control, intervals: int) -> None:
    for family in families:
        if not isinstance(family, Fields):
            raise ValueError(f"fields must be a family or a sequence of families; got a {type(family).__name__}.")
        if family.count != control.count:
            raise ValueError(
                f"The control has {control.count} components and {type(family).__name__} has {family.count} fields; "
                f"make the control with count={family.count}."
            )
        if family.dim != families[0].dim:
            raise ValueError(f"The families live on R^{families[0].dim} and R^{family.dim}; all must share one space.")
    if len(families) not in (1, intervals):
        raise ValueError(
            f"{len(families)} families for a control of {intervals} intervals: give one family (tied) or "
            f"{intervals} (fresh at every interval)."
        )


def _leaves_sphere(fields: Fields) -> bool:
    from cde_nets.fields.spherical import SphericalFields

    return not isinstance(fields, SphericalFields)


def _list_rows(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:5])) + (", .." if len(rows) > 5 else "")
    return f"row {shown}" if len(rows) == 1 else f"rows {shown} ({len(rows)})"
