"""Dopri5 at rtol 1e-6 on rows of uneven stiffness: ours and the peers' by turns, with work and true errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cde_nets as cn
from benchmarks.flows.record import Adapted, Adaptive
from benchmarks.flows.sides import DisagreementError
from benchmarks.flows.timing import interleaved, once, spread
from benchmarks.flows.uneven import Array, Uneven

RTOL, ATOL, MOST = 1e-6, 1e-8, 100_000
# diffrax' default of steps; what it keeps for the gradient grows with this number.
STEPS = 4096
# Of controllers with a proportional part, as diffrax' documentation has them for mildly stiff problems.
PROPORTIONAL, INTEGRAL = 0.4, 0.3
# Relative errors above this are no result at rtol 1e-6. The truth is known here: a side beyond it is told as wrong.
ALLOWED = 1e-2


@dataclass(frozen=True)
class Solver:
    """A side on a problem: forward with the field's evaluations, and forward with gradient.

    Attributes:
        name: of the library.
        controller: of the step sizes.
        forward: the end states, the evaluations of the field, a whole batch at once counting as one, and those of
            single rows.
        both: the gradient of the sum of squares in theta.
        jitted: the first call compiles.
    """

    name: str
    controller: str
    forward: Callable[[], tuple[Array, int, int]]
    both: Callable[[], Any]
    jitted: bool = False


def measure(problem: Uneven, peers: Sequence[str], repeats: int, *, tick: Callable[[], None]) -> Adaptive:
    """Time one problem; of the peers those that choose their steps.

    Raises:
        DisagreementError: ours is wrong.
    """
    truth = problem.reference()
    mine = ours(problem)
    tried = [_try(mine, *truth)]
    if not right(tried[0]):
        raise DisagreementError(f"Ours on {problem.name} is wrong: {tried[0]}.")
    solvers = [mine]
    for peer in peers:
        if peer in SOLVERS:
            candidates = SOLVERS[peer](problem)
            results = [_try(solver, *truth) for solver in candidates]
            # Of the library's controllers the faster of those that are right.
            place = min(range(len(results)), key=lambda k: (not right(results[k]), results[k].time.median))
            solvers.append(candidates[place])
            tried.append(results[place])
    times = interleaved([solver.both for solver in solvers], repeats, tick=tick)
    return Adaptive(problem.name, tuple(replace(one, time=time) for one, time in zip(tried, times, strict=True)))


def right(side: Adapted) -> bool:
    """Whether a side solved the problem; an error that is not a number says no."""
    return side.end_error <= ALLOWED and side.gradient_error <= ALLOWED


def _try(solver: Solver, end: Array, gradient: Array) -> Adapted:
    first, later = once(solver.both), once(solver.both)
    states, evaluations, alone = solver.forward()
    off = float((np.linalg.norm(states - end, axis=1) / np.linalg.norm(end, axis=1)).max())
    slopes = np.asarray(solver.both(), dtype=np.float64)
    astray = float(np.linalg.norm(slopes - gradient) / np.linalg.norm(gradient))
    compiled = first - later if solver.jitted else None
    return Adapted(solver.name, solver.controller, spread([later]), evaluations, alone, off, astray, compiled)


def ours(problem: Uneven) -> Solver:
    """A controlled family, steps of every row's own."""
    x, count = torch.from_numpy(problem.z), problem.fields.count
    theta = torch.from_numpy(problem.theta)
    values = torch.cat([theta, theta.new_ones(count - len(theta))])[None]
    control = cn.PiecewiseConstantControl(1, count, values=values)
    flow = cn.ControlledODE(
        problem.fields, control, "dopri5", tolerance=cn.Tolerance(RTOL, ATOL), max_steps=MOST, throw=False
    )

    def forward() -> tuple[Array, int, int]:
        with torch.no_grad():
            solution = flow.solve(x)
        work = solution.statistics
        # Rows that have arrived are not evaluated: six stages a try, and three for the first step and its width.
        return solution.value.numpy(), work.evaluations, int((6 * work.steps + 3).sum())

    def both() -> Tensor:
        return _gradient(lambda: flow(x), control.values)()[: len(theta)]

    return Solver("ours", "PI, a row", forward, both)


class _Counted(nn.Module):
    """The field f(t, z) for torch's peers; counts its calls."""

    def __init__(self, problem: Uneven) -> None:
        super().__init__()
        self.theta, self.field, self.calls = nn.Parameter(torch.from_numpy(problem.theta.copy())), problem.field, 0

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        self.calls += 1
        rates: Tensor = self.field(torch, z, self.theta)
        return rates


def torchdiffeq(problem: Uneven) -> list[Solver]:
    """`odeint`: one step size for all rows."""
    odeint = import_module("torchdiffeq").odeint
    field, x = _Counted(problem), torch.from_numpy(problem.z)
    times = torch.tensor([0.0, problem.end], dtype=torch.float64)

    def run() -> Tensor:
        value: Tensor = odeint(field, x, times, rtol=RTOL, atol=ATOL, method="dopri5")[-1]
        return value

    return [Solver("torchdiffeq", "I, joint", _counting(run, field), _gradient(run, field.theta))]


def torchode(problem: Uneven) -> list[Solver]:
    """`AutoDiffAdjoint` with `Dopri5`: a step size for each row, by its README's controller or a proportional one.

    By default its gradient goes through the choice of the steps, too. Left out, that would be faster, but with the
    README's controller the gradient of the stiff problem would be wrong.
    """
    to: Any = import_module("torchode")
    field, x = _Counted(problem), torch.from_numpy(problem.z)
    term = to.ODETerm(field, with_stats=False)
    start, end = torch.zeros(len(x), dtype=torch.float64), torch.full((len(x),), problem.end, dtype=torch.float64)

    def solver(name: str, controller: Any) -> Solver:
        compiled: Any = torch.compile(to.AutoDiffAdjoint(to.Dopri5(term), controller))

        def run() -> Tensor:
            value: Tensor = compiled.solve(to.InitialValueProblem(y0=x, t_start=start, t_end=end)).ys[:, -1]
            return value

        return Solver("torchode", name, _counting(run, field), _gradient(run, field.theta))

    return [
        solver("I, a row", to.IntegralController(ATOL, RTOL, term=term)),
        solver("PI, a row", to.PIDController(ATOL, RTOL, PROPORTIONAL, INTEGRAL, 0.0, term=term)),
    ]


def diffrax(problem: Uneven) -> list[Solver]:
    """`diffeqsolve` under `vmap`, jitted: a step size for each row, all stepping until the last has arrived.

    By its default controller, or with the proportional part that its documentation advises for stiff problems.
    """
    return [
        _diffrax(problem, "I, a row", {}),
        _diffrax(problem, "PI, a row", {"pcoeff": PROPORTIONAL, "icoeff": INTEGRAL}),
    ]


def _diffrax(problem: Uneven, name: str, coefficients: dict[str, float]) -> Solver:
    jax: Any = import_module("jax")
    dx: Any = import_module("diffrax")
    jnp = jax.numpy

    def field(t: Any, z: Any, theta: Any) -> Any:
        return problem.field(jnp, z, theta)

    def single(z: Any, theta: Any) -> Any:
        return dx.diffeqsolve(
            dx.ODETerm(field), dx.Dopri5(), 0.0, problem.end, None, z, theta,
            stepsize_controller=dx.PIDController(rtol=RTOL, atol=ATOL, **coefficients), max_steps=STEPS, throw=False,
        )  # fmt: skip

    every = jax.vmap(single, in_axes=(0, None))
    with jax.enable_x64(True):
        x, theta = jnp.asarray(problem.z), jnp.asarray(problem.theta)
        solve = jax.jit(every)
        slopes = jax.jit(jax.grad(lambda theta, x: (every(x, theta).ys[:, -1] ** 2).sum()))

    def forward() -> tuple[Array, int, int]:
        with jax.enable_x64(True):
            solution = solve(x, theta)
            # Not counted by the library: seven stages a step, the first of which is the last of the step before, and
            # two evaluations to choose the first step.
            evaluations = 6 * int(solution.stats["num_steps"].max()) + 2
            return np.asarray(solution.ys[:, -1]), evaluations, evaluations * len(problem.z)

    def both() -> Any:
        with jax.enable_x64(True):
            return slopes(theta, x).block_until_ready()

    return Solver("diffrax", name, forward, both, jitted=True)


SOLVERS: dict[str, Callable[[Uneven], list[Solver]]] = {
    "torchdiffeq": torchdiffeq,
    "torchode": torchode,
    "diffrax": diffrax,
}


def _counting(run: Callable[[], Tensor], field: _Counted) -> Callable[[], tuple[Array, int, int]]:
    def forward() -> tuple[Array, int, int]:
        before = field.calls
        with torch.no_grad():
            value = run()
        calls = field.calls - before
        return value.numpy(), calls, calls * len(value)

    return forward


def _gradient(run: Callable[[], Tensor], leaf: Tensor) -> Callable[[], Tensor]:
    def both() -> Tensor:
        leaf.grad = None
        run().square().sum().backward()
        assert leaf.grad is not None
        return leaf.grad.reshape(-1)

    return both
