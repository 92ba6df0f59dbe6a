"""The public `solve`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cde_nets.autocast import no_autocast
from cde_nets.errors import ConvergenceError, ConvergenceWarning, DivergedError
from cde_nets.gradient.autograd import Autograd
from cde_nets.gradient.base import Gradient, Settings
from cde_nets.gradient.discrete import Discrete
from cde_nets.gradient.implicit import Implicit
from cde_nets.options import instead, positive
from cde_nets.solver.flow.runge_kutta import RungeKutta
from cde_nets.solver.flow.torchdiffeq import TorchDiffEq
from cde_nets.solver.linear import GMRES
from cde_nets.solver.loop import DEFAULT_MAX_STEPS
from cde_nets.solver.method import Method
from cde_nets.solver.opaque import THROWING, refuse_batched
from cde_nets.solver.progress import reporter
from cde_nets.solver.report import failure
from cde_nets.solver.rest import Anderson
from cde_nets.solver.solution import SaveAt, Solution
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance, check_tolerance


def solve(
    problem: Any,
    method: Method | None = None,
    *,
    gradient: Gradient | None = None,
    tolerance: Tolerance | None = None,
    max_steps: int = DEFAULT_MAX_STEPS,
    throw: bool = True,
    progress: bool | Callable[[float], None] = False,
    save_at: SaveAt | Sequence[float] | Tensor | None = None,
) -> Solution:
    """Solve a flow, a fixed point or a linear problem: one loop, one kind of solution; without autocast.

    Args:
        problem: an `InitialValueProblem`, `FixedPointProblem` or `LinearProblem`.
        method: RungeKutta("dopri5") for a flow, Anderson() for rest, GMRES() for a linear problem where None.
        gradient: how the solution is differentiated; exact by default (`Discrete` for flows, `Autograd` for
            `TorchDiffEq`, `Implicit` else).
        tolerance: where None, rtol 1e-6 and atol 1e-8; in single precision 1.2e-5 and 1.2e-7.
        max_steps: when to give up on methods that do not know their number of steps; tries count, not successes.
        throw: raise if a row fails. False returns whatever came out, each row with its status: what training wants.
            Looking reads the statuses back from the device.
        progress: True shows a bar; a function is called with the fraction done.
        save_at: times at which a flow's states are wanted, or a `SaveAt`.

    Returns:
        A `Solution`. Rows that failed hold their last finite value.

    Raises:
        ValueError: problem, method, gradient or options that do not fit each other; before any work.
        DivergedError: with throw, rows left the finite numbers or could not be followed; the solution is attached.
        ConvergenceError: with throw, rows that ran out of steps or broke down; the solution is attached.

    Warns:
        ConvergenceWarning: with throw, the copies of `Reversible` ended farther apart than the state is from zero.
    """
    kind = getattr(problem, "kind", None)
    if kind not in _DEFAULTS:
        raise ValueError(
            "solve takes an InitialValueProblem, a FixedPointProblem or a LinearProblem; got a "
            f"{type(problem).__name__}."
        )
    default_method, default_gradient = _DEFAULTS[kind]
    chosen = default_method() if method is None else method
    if not isinstance(chosen, Method):
        hint = f": RungeKutta({method!r})" if isinstance(method, str) and kind == "flow" else f", such as {_SUCH[kind]}"
        raise ValueError(f"method must be a method{hint}; got {method!r}{instead(method)}.")
    if chosen.solves != kind:
        raise ValueError(f"{type(chosen).__name__} solves a {chosen.solves} problem; this is a {kind} problem.")
    if gradient is None and isinstance(chosen, TorchDiffEq):
        # The steps of another library are known to torch alone.
        gradient = Autograd()
    how = default_gradient() if gradient is None else gradient
    if not isinstance(how, Gradient):
        raise ValueError(f"gradient must be one such as Discrete() or Implicit(); got {gradient!r}{instead(gradient)}.")
    if kind not in how.solves:
        raise ValueError(
            f"{type(how).__name__} differentiates {' and '.join(how.solves)} problems; this is a {kind} problem. "
            f"Its default is {default_gradient.__name__}()."
        )
    positive("max_steps", max_steps)
    check_tolerance(tolerance)
    if throw and torch.compiler.is_compiling():
        raise ValueError("throw=True reads statuses back from the device; under torch.compile pass throw=False.")
    wanted = save_at if isinstance(save_at, SaveAt) else SaveAt(times=save_at)
    with no_autocast(problem.packing.device.type), reporter(progress) as report:
        settings = Settings(tolerance or Tolerance.default(problem.packing.dtype), max_steps, throw, report, wanted)
        solution = how.solve(problem, chosen, settings)
    if throw:
        check(solution)
    return solution


def check(solution: Solution) -> None:
    """Raise if a row of a solution failed (DivergedError, ConvergenceError); warn of reversible copies that parted."""
    refuse_batched(solution.status, *THROWING)
    if bool(solution.succeeded.all()):
        _warn_of_copies(solution)
        return
    codes = set(solution.status.tolist())
    diverged = bool(codes & {Status.DIVERGED, Status.STEP_TOO_SMALL})
    raise (DivergedError if diverged else ConvergenceError)(failure(solution), solution)


def _warn_of_copies(solution: Solution) -> None:
    apart, size = solution.statistics.separation, solution.size
    if apart is None or size is None or not bool((apart > size).any()):
        return
    row = int((apart / size).nan_to_num(posinf=math.inf).argmax())
    warnings.warn(
        f"The two copies of Reversible ended {float(apart[row]):.3g} apart in row {row}, where the state's norm is "
        f"{float(size[row]):.3g}: the state is as wrong. Take shorter steps or a smaller mixing; where the flow "
        "contracts, RungeKutta itself with Checkpointed().",
        ConvergenceWarning,
        stacklevel=3,
    )


_SUCH = {"flow": "RungeKutta('dopri5')", "rest": "Anderson() or Newton()", "linear": "GMRES()"}

_DEFAULTS: dict[str, tuple[Callable[[], Method], type[Gradient]]] = {
    "flow": (lambda: RungeKutta("dopri5"), Discrete),
    "rest": (Anderson, Implicit),
    "linear": (GMRES, Implicit),
}
