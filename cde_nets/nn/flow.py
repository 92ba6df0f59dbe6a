"""A controlled ODE as a module: x -> X_1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Inexact
from torch import Tensor, nn

from cde_nets.autocast import autocast_on, full_precision
from cde_nets.controls import Control
from cde_nets.errors import DivergedError
from cde_nets.fields.base import Fields
from cde_nets.gradient import Checkpointed, Discrete, Gradient, solve
from cde_nets.gradient.base import Settings
from cde_nets.gradient.solve import check
from cde_nets.gradient.whole import Prepared, prepare
from cde_nets.kernels import enabled
from cde_nets.options import positive
from cde_nets.solver import InitialValueProblem, Reversible, RungeKutta, SaveAt, Solution, Tolerance
from cde_nets.solver.flow.manifold import manifold as manifold_named
from cde_nets.solver.initial_value import check_drift, check_families
from cde_nets.solver.method import Method
from cde_nets.solver.opaque import THROWING, forward_mode, opaque, refuse_batched, version
from cde_nets.solver.report import list_rows
from cde_nets.solver.tolerance import check_tolerance

State = Inexact[Tensor, "batch dim"]


class ControlledODE(nn.Module):
    """The flow x -> X_1 of dX = sum_i u_i(t) V_i(X) dt (+ drift(t, X) dt), X_0 = x, over the control's span.

    The fields are frozen; the control trains, and so do the parameters of a drift that is a module.

    Args:
        fields: one family, tied over all steps (the theorem's own case), or a sequence of families, one for each
            interval of the control: fields fresh at every step.
        control: u, with as many components as a family has fields.
        method: a method for flows, or the name of a `RungeKutta` one.
        manifold: "sphere" puts every step's end back on the sphere about the origin through its start. Euler then
            steps the flow of `SphericalFields(fields)` to first order whatever the fields; a method of higher order
            keeps its order only on fields that are tangent, so that it asks for `SphericalFields`.
        drift: a field nobody controls: a family whose fields are summed, or any f(t, x), modules included; none where
            None.
        gradient: how the flow is differentiated; `Discrete`, exact for the steps taken, where None.
        tolerance: of adaptive steps.
        max_steps: of adaptive steps.
        throw: raise where an input is not finite or a row fails. That reads one number back from the device before and
            one after the solve; False reads none: rows that failed hold their last finite value and are marked in
            `failed`.

    Raises:
        ValueError: a control that does not fit the fields, families that do not fit each other or the control's
            intervals, an unknown method or manifold, too few steps for the breakpoints, a tolerance that is no
            `Tolerance`, max_steps below 1.
    """

    def __init__(
        self,
        fields: Fields | Sequence[Fields],
        control: Control,
        method: Method | str = "rk4",
        *,
        manifold: str | None = None,
        drift: Fields | Callable[..., Tensor] | None = None,
        gradient: Gradient | None = None,
        tolerance: Tolerance | None = None,
        max_steps: int = 4096,
        throw: bool = True,
    ) -> None:
        super().__init__()
        families = [fields] if isinstance(fields, Fields) else list(fields)
        check_families(families, control)
        self.tied = len(families) == 1
        self.families = nn.ModuleList(families)
        self.control = control
        self.method = RungeKutta(method) if isinstance(method, str) else method
        self.manifold = manifold
        if isinstance(drift, Fields):
            check_drift(drift, families[0])
        self.drift = drift
        check_tolerance(tolerance)
        positive("max_steps", max_steps)
        self.gradient, self.tolerance, self.max_steps = gradient, tolerance, max_steps
        self.throw = throw
        self._ended: Tensor | tuple[Prepared, Tensor] | None = None
        self._prepared: tuple[tuple[object, ...], tuple[object, ...], Prepared | None] | None = None
        manifold_named(manifold)
        if isinstance(self.method, RungeKutta):
            if manifold is not None and self.method.tableau.order > 1:
                self._check_tangent(manifold)
            # The mesh and all that can be wrong with it, before there is a state.
            self.method.resolve(self._problem(self._nowhere(families[0].device)))

    @property
    def _fields(self) -> list[Fields]:
        # Whatever stands there now, as users may put others in: a module list itself is slow to index.
        return list(self.families._modules.values())  # type: ignore[arg-type]

    @property
    def dim(self) -> int:
        """The dimension m of the state."""
        return self._fields[0].dim

    @property
    def count(self) -> int:
        """The number d of fields a family has."""
        return self.control.count

    def forward(self, x: State) -> State:
        """X_1 of every row, shape (batch, dim); under autocast in single precision.

        Raises:
            ValueError: x does not fit the fields, or (with throw) holds NaN or infinity.
            DivergedError: with throw, rows that left the finite numbers; the message names them and the time.
        """
        if isinstance(x, Tensor) and autocast_on(x.device.type):
            with full_precision(x) as (x,):
                return self._end(x)
        return self._end(x)

    def _end(self, x: State) -> State:
        prepared = self._ready(x)
        if prepared is not None:
            values = self.control.on_steps(prepared.mesh)
            if values is None:
                values = self.control.on_mesh(prepared.mesh, prepared.tableau.c)
            if values.ndim <= 3 and values.dtype == x.dtype:
                return self._whole(prepared, x, values)
        end: Tensor = self.solve(x).value
        return end

    def solve(self, x: State, *, save_at: SaveAt | Sequence[float] | None = None) -> Solution:
        """The flow with everything a `Solution` says: statuses and statistics, states at save times, a trace.

        Raises:
            ValueError: as forward.
            DivergedError: as forward.
        """
        # The fields would say it too, but not before torch has stumbled over what is no tensor.
        if not isinstance(x, Tensor):
            raise ValueError(f"x must be a torch tensor of shape (batch, {self.dim}); got a {type(x).__name__}.")
        with full_precision(x) as (x,):
            problem = self._problem(x)
            if self.throw and not torch.compiler.is_compiling():
                self._check_finite(x)
            return self._run(problem, save_at)

    def _run(self, problem: InitialValueProblem, save_at: SaveAt | Sequence[float] | None) -> Solution:
        solution = solve(
            problem,
            self.method,
            gradient=self.gradient,
            tolerance=self.tolerance,
            max_steps=self.max_steps,
            throw=self.throw,
            save_at=save_at,
        )
        self._ended = solution.failed
        return solution

    @property
    def failed(self) -> Tensor | None:
        """The rows that failed in the last forward pass, shape (batch,); None before the first."""
        if not isinstance(self._ended, tuple):
            return self._ended
        prepared, accepted = self._ended
        return accepted != prepared.steps

    def _whole(self, prepared: Prepared, x: State, values: Tensor) -> State:
        end, accepted = prepared.run(x, values)
        self._ended = prepared, accepted
        # No row of which the input or the control is not finite takes all steps: only then is it worth looking why.
        if self.throw and int(accepted.min()) < prepared.steps:
            self._check_finite(x)
            check(prepared.solution(end, accepted))
        return end

    def _ready(self, x: State) -> Prepared | None:
        """What a kernel takes besides the states and the control's values, found once; None where no kernel does."""
        if type(x) is not Tensor or x.ndim != 2 or x.shape[1] != self.dim or not len(x):
            return None
        if opaque() or forward_mode() or not enabled():
            return None
        own = [a for family in self._fields for a in (*family._buffers.values(), *family._parameters.values())]
        if any(a.requires_grad for a in own if a is not None):
            # `solve` says that they are frozen.
            return None
        control, gradient = self.control, self.gradient
        # All that it depends on and that users may set, or move to another dtype or device.
        numbers = [family._reference() for family in self._fields]
        same = (*numbers, control, self.method, gradient, self.drift, self.manifold)
        equal = (x.dtype, x.device, control.breakpoints, control.span, *map(version, numbers))
        known = self._prepared
        if known is None or any(a is not b for a, b in zip(known[0], same, strict=True)) or known[1] != equal:
            how, found = Discrete() if gradient is None else gradient, None
            if isinstance(how, Discrete | Checkpointed) and isinstance(self.method, RungeKutta) and self.method.fixed:
                problem = self._problem(x)
                settings = Settings(self.tolerance or Tolerance(), self.max_steps, self.throw, None, SaveAt())
                found = prepare(problem, self.method.resolve(problem), settings, how.every)
            self._prepared = known = same, equal, found
        return known[2]

    def log_determinant(self, x: State) -> tuple[State, Inexact[Tensor, "batch"]]:
        """X_1 and log|det D_x X_1| of every row, shapes (batch, dim) and (batch,); see `with_log_determinant`.

        Raises:
            ValueError: as forward, or a flow on a manifold.
            DivergedError: as forward.
        """
        with full_precision(x) as (x,):
            problem = self._problem(x).with_log_determinant()
            end, logarithm = self._run(problem, None).value
            return end, logarithm

    @torch.no_grad()
    def trajectory(self, x: State) -> Inexact[Tensor, "times batch dim"]:
        """X at the times of `times`, the start included; without a gradient."""
        path: Tensor = self.solve(x, save_at=self.times).value
        return path

    @property
    def times(self) -> tuple[float, ...]:
        """The times of `trajectory`: the step ends of a fixed grid; of adaptive steps 65 equally spaced times."""
        method, (start, end) = self.method, self.control.span
        method = method.base if isinstance(method, Reversible) else method
        if isinstance(method, RungeKutta) and method.fixed:
            return method.grid(self._problem(self._nowhere(self._fields[0].device)))
        return (*(start + n * (end - start) / 64 for n in range(64)), end)

    def describe(self) -> str:
        """One line: fields, whether they are tied or fresh, control, method."""
        family = self._fields[0]
        kind = f"{type(family).__name__}({family.extra_repr()})"
        intervals = len(self.control.breakpoints) + 1
        spread = f"tied over {intervals} intervals" if self.tied else f"fresh at each of {intervals} intervals"
        spread = "on one interval" if intervals == 1 else spread
        place = "" if self.manifold is None else f" on the {self.manifold}"
        drift = "no drift" if self.drift is None else f"drift {type(self.drift).__name__}"
        return f"{kind}, {spread}, {self._describe_method()}{place}, {drift}"

    def extra_repr(self) -> str:
        """Shown by print(flow)."""
        return self.describe()

    @property
    def _dtype(self) -> torch.dtype:
        return self._fields[0].dtype

    def _nowhere(self, device: torch.device) -> Tensor:
        """States that nothing is asked of, as many as the control has paths for."""
        return torch.zeros(self.control.rows or 1, self.dim, dtype=self._dtype, device=device)

    def _problem(self, x: Tensor) -> InitialValueProblem:
        return InitialValueProblem.controlled(self._fields, self.control, x, drift=self.drift, manifold=self.manifold)

    def _describe_method(self) -> str:
        if not isinstance(self.method, RungeKutta):
            return type(self.method).__name__
        if not self.method.fixed:
            return f"{self.method.name} in adaptive steps"
        steps = len(self.times) - 1
        return f"{self.method.name} in {steps} step" + "s" * (steps > 1)

    def _check_tangent(self, manifold: str) -> None:
        assert isinstance(self.method, RungeKutta)
        if not all(family.tangent_to(manifold) for family in self._fields):
            raise ValueError(
                f"manifold={manifold!r} with {self.method.name!r} keeps its order only on tangent fields: wrap the "
                "fields in SphericalFields, or use method='euler'."
            )

    def _check_finite(self, x: Tensor) -> None:
        for given in (x, *self.control.parameters()):
            refuse_batched(given, *THROWING)
        if not all(bool(torch.isfinite(p).all()) for p in self.control.parameters()):
            raise DivergedError(
                "The control holds NaN or infinity: a training step was too long, or its values were set so."
            )
        finite = torch.isfinite(x)
        if not bool(finite.all()):
            rows = torch.nonzero(~finite.flatten(1).all(1)).flatten().tolist()
            raise ValueError(
                f"The input holds NaN or infinity in {list_rows(rows)} of {x.shape[0]}. Clean those rows, or pass "
                "throw=False to ControlledODE to let them through."
            )
