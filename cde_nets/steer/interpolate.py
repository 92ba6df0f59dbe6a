"""Steering N points: the theorem says that controls exist, and this finds them."""

from __future__ import annotations

import copy
import math
import time
import warnings
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import Fields
from cde_nets.options import suggest
from cde_nets.solver.flow.tableau import TABLEAUS
from cde_nets.steer.damped import Attempt, approach
from cde_nets.steer.endpoint import Endpoint
from cde_nets.steer.result import Interpolation, SteerStatus
from cde_nets.steer.starts import Start, loops

READOUTS = ("difference", "identity")
# Numbers of the control for each number that is asked for: fewer than two leave most starts stuck.
_OVERSAMPLING = 4
# Values of lambda that are tried one after the other where none is given.
_LAMBDAS = (100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0)
# Starts that are tried, and evaluations of each before the worse half is given up; twice as many in the next round.
_ATTEMPTS, _ROUND, _TRIES = 12, 10, 4
# Evaluations from a solution to that of a lambda nearby, or of finer steps.
_NEARBY = 40
# The least number of intervals: with fewer, small problems get stuck though their numbers would do.
_LEAST_STEPS = 96


def interpolate(
    fields: Fields,
    x: Float[Tensor, "points dim"],
    y: Float[Tensor, "points dim"],
    *,
    lam: float | None = None,
    readout: str = "difference",
    steps: int | None = None,
    substeps: int = 1,
    method: str = "rk4",
    tolerance: float = 1e-10,
    refine_to: float | None = None,
    seed: int = 0,
    time_limit: float = 60.0,
    certify: bool = True,
) -> Interpolation:
    """A control whose flow carries x_i so that y_i = lam (X_1^{x_i} - x_i) for all i, or X_1^{x_i} = y_i.

    Chow's and Rashevskii's theorem made constructive: from a random loop, whose flow comes back to x and whose
    Jacobian is not singular, damped least squares with the exact discrete Jacobian goes to the targets; several loops
    are tried, those first from which the targets are nearest to first order. Where no lambda is given, it is lowered
    from solution to solution as far as time allows.

    This interpolates with the discrete steps. With `refine_to` they are made finer, and the problem solved again from
    there, until the readout stays that near to y under four times as many steps: then the ODE interpolates.

    Args:
        fields: V_1..V_d; computed with in float64, whatever their dtype.
        x: N different points.
        y: targets.
        lam: lambda; None looks for a small one.
        readout: "difference", y = lam (X_1 - x), or "identity", y = X_1.
        steps: M, intervals of the control; None takes 4 m N / d of them, an even number, and no fewer than 96.
        substeps: steps of the method on each interval.
        method: an explicit Runge-Kutta method by name.
        tolerance: of the residual, the largest entry of |readout - y|.
        refine_to: the same for the ODE; None leaves the steps as they are.
        seed: of the loops.
        time_limit: seconds, after which the best that was found is returned.
        certify: whether to ask `theory.check_points` first, and to warn where nothing is proved.

    Returns:
        Never raises for what it could not reach: see `Interpolation.status` and `.reason`.

    Raises:
        ValueError: points or targets of another shape, not finite, or that coincide; a lambda that is not positive, or
            given with the identity; fewer numbers M d than the m N that are asked for; an unknown method or readout.
    """
    fields = copy.deepcopy(fields).double()
    x, y = x.detach().double(), y.detach().double()
    _check(fields, x, y, lam, readout, method)
    points, dim = x.shape
    steps = _steps(steps, fields.count, points * dim)
    deadline = time.monotonic() + time_limit
    rank, full = _certified(fields, x, certify)
    shift = y - x if readout == "identity" else y
    far = 1e6 * (1 + float(x.abs().amax()))
    endpoint = Endpoint(fields, x, TABLEAUS[method].bare, substeps, far)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        starts, blown_up = loops(endpoint, shift, steps, tries=_TRIES, generator=generator, deadline=deadline)
        search = _Search(endpoint, shift, tolerance, deadline, blown_up=blown_up)
        given = 1.0 if readout == "identity" else lam
        if given is not None:
            search.run(starts, (given,))
        else:
            search.run(starts, _LAMBDAS)
        if search.solved and refine_to is not None:
            search.refine(refine_to)
        return search.result(steps, refine_to, rank, full, starts)


@dataclass
class _Search:
    """The state of a search: what has been found, and what it took."""

    endpoint: Endpoint
    shift: Tensor
    tolerance: float
    deadline: float
    blown_up: int
    values: Tensor | None = None
    lam: float = math.inf
    attempts: int = 0
    evaluations: int = 0
    solved: bool = False
    nearest: float = math.inf

    def run(self, starts: list[Start], lambdas: tuple[float, ...]) -> None:
        """Solve for the first lambda from several starts, then for smaller ones from solution to solution."""
        first, *smaller = lambdas
        self._race(starts[:_ATTEMPTS], first)
        # Straight to a small lambda fails where a detour over larger ones may not.
        if not self.solved and not smaller:
            for start in starts:
                if time.monotonic() > self.deadline or self._down(start.values, first):
                    break
        for lam in smaller:
            if not self.solved or self.values is None or time.monotonic() > self.deadline:
                break
            if not self._take(self._attempt(self.values, lam, _NEARBY), lam):
                break

    def _race(self, starts: list[Start], lam: float) -> None:
        """Some evaluations for each start, twice as many for the better half of them, and so on."""
        self.attempts += len(starts)
        running = [Attempt(start.values, math.inf) for start in starts]
        most = _ROUND
        while running and most <= 64 * _ROUND:
            for k, attempt in enumerate(running):
                running[k] = self._attempt(attempt.values, lam, most, damping=attempt.damping)
                if self._take(running[k], lam) or time.monotonic() > self.deadline:
                    return
            running = sorted(running, key=lambda attempt: attempt.residual)[: max(1, len(running) // 2)]
            most *= 2

    def _down(self, values: Tensor, lam: float) -> bool:
        """Lower lambda step by step, the steps made smaller where one fails."""
        share, stride = 0.0, 0.25
        while share < 1 and stride > 1 / 256 and time.monotonic() < self.deadline:
            there = min(1.0, share + stride)
            attempt = self._attempt(values, lam / there, _NEARBY)
            if attempt.residual * lam / there <= (self.tolerance if there == 1 else 1e-6):
                values, share, stride = attempt.values, there, 1.5 * stride
            else:
                stride /= 2
        if share < 1:
            return False
        self.values, self.lam, self.solved, self.nearest = values, lam, True, attempt.residual * lam
        return True

    def _take(self, attempt: Attempt, lam: float) -> bool:
        """Keep an attempt that solved the problem, or came nearest so far; whether it solved it."""
        residual = attempt.residual * lam
        solved = residual <= self.tolerance
        if solved or (not self.solved and residual < self.nearest):
            self.values, self.lam, self.nearest = attempt.values, lam, residual
        self.solved = self.solved or solved
        return solved

    def _attempt(
        self, values: Tensor, lam: float, most: int, endpoint: Endpoint | None = None, damping: float | None = None
    ) -> Attempt:
        endpoint = endpoint or self.endpoint
        attempt = approach(
            endpoint,
            values,
            endpoint.x + self.shift / lam,
            # A little less than asked for, as the readout multiplies what is left by lambda.
            tolerance=0.5 * self.tolerance / lam,
            most=most,
            deadline=self.deadline,
            damping=damping,
        )
        self.evaluations += attempt.steps + attempt.rejected
        self.blown_up += attempt.blown_up
        return attempt

    def refine(self, wanted: float) -> None:
        """More steps on each interval, until those at hand are right for four times as many."""
        assert self.values is not None
        while time.monotonic() < self.deadline and self.error(self.endpoint.refined(4)) > wanted:
            finer = self.endpoint.refined(2)
            attempt = self._attempt(self.values, self.lam, _NEARBY, finer)
            if attempt.residual * self.lam > self.tolerance:
                break
            self.endpoint, self.values, self.nearest = finer, attempt.values, attempt.residual * self.lam

    def error(self, endpoint: Endpoint) -> float:
        """The largest entry of |readout - y|."""
        ended = None if self.values is None else endpoint.at(self.values)
        return math.inf if ended is None else float((self.lam * (ended - endpoint.x) - self.shift).abs().amax())

    def result(
        self, steps: int, refine_to: float | None, rank: int | None, full: int | None, starts: list[Start]
    ) -> Interpolation:
        """All in numbers and words."""
        if self.values is None:
            values = self.endpoint.x.new_zeros(steps, self.endpoint.fields.count)
            status = SteerStatus.NO_START
            reason = f"{self.blown_up} loops of all amplitudes left every bounded set"
            search = replace(self, values=values, lam=1.0)
        else:
            values, search = self.values, self
            status = SteerStatus.SOLVED if self.solved else SteerStatus.NOT_SOLVED
            reason = f"residual {self.nearest:.1e} at lambda {self.lam:g}"
        refined = search.error(self.endpoint.refined(4))
        if self.solved and refine_to is not None and refined > refine_to:
            status = SteerStatus.COARSE
            reason += f", {refined:.1e} under refinement where {refine_to:.1e} was asked for"
        if status is SteerStatus.NOT_SOLVED:
            reason += (
                f" after {self.attempts} starts; the best start had singular values down to {starts[0].smallest:.1e}"
            )
        linearized = self.endpoint.linearized(values)
        assert linearized is not None
        ends, jacobian = linearized
        singular = torch.linalg.svdvals(jacobian)
        return Interpolation(
            PiecewiseConstantControl(steps, self.endpoint.fields.count, values=values),
            search.lam,
            search.error(self.endpoint),
            self.endpoint.substeps,
            refined,
            float(values.square().sum() / steps),
            float(singular[-1]),
            float(singular[0] / singular[-1]),
            status,
            reason,
            self.attempts,
            self.evaluations,
            self.blown_up,
            rank,
            full,
            ends,
        )


def _steps(steps: int | None, count: int, outputs: int) -> int:
    least = math.ceil(outputs / count)
    if steps is None:
        return max(_LEAST_STEPS, 2 * math.ceil(_OVERSAMPLING * least / 2))
    if steps < least:
        raise ValueError(
            f"steps is {steps}: {steps} x {count} numbers for {outputs} that are asked for; expected at least {least} "
            f"steps, and better {_OVERSAMPLING * least}."
        )
    return steps


def _check(fields: Fields, x: Tensor, y: Tensor, lam: float | None, readout: str, method: str) -> None:
    if x.ndim != 2 or x.shape[1] != fields.dim or not len(x) or x.shape != y.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}, expected (points, {fields.dim}) both, points >= 1."
        )
    if readout not in READOUTS:
        raise ValueError(f"readout is {readout!r}, expected one of {', '.join(READOUTS)}{suggest(readout, READOUTS)}.")
    if method not in TABLEAUS:
        raise ValueError(
            f"method is {method!r}, expected one of {', '.join(TABLEAUS)}{suggest(method, tuple(TABLEAUS))}."
        )
    if lam is not None and readout == "identity":
        raise ValueError(f"lam is {lam}, but the identity readout has none: drop it.")
    if lam is not None and not (lam > 0 and math.isfinite(lam)):
        raise ValueError(f"lam is {lam}, expected a positive number or None.")
    for name, rows in (("x", x), ("y", y)):
        bad = (~torch.isfinite(rows)).any(1).nonzero()
        if len(bad):
            raise ValueError(f"{name}: row {int(bad[0])} is not finite: {rows[int(bad[0])].tolist()}.")
    _refuse_equal("x", x, "which no flow tells apart")
    if readout == "identity":
        _refuse_equal("y", y, "where no flow carries two points")
    elif lam is not None:
        _refuse_equal("x + y / lam", x + y / lam, "where no flow carries two points: take another lam")


def _refuse_equal(name: str, rows: Tensor, why: str) -> None:
    _, inverse, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    if int(counts.amax()) > 1:
        first, second = (inverse == int(counts.argmax())).nonzero()[:2, 0].tolist()
        raise ValueError(f"{name}: rows {first} and {second} are the same point, {why}.")


def _certified(fields: Fields, x: Tensor, wanted: bool) -> tuple[int | None, int | None]:
    """Rank and full rank at the points; a warning where the condition is not proved."""
    if not wanted:
        return None, None
    import theory

    try:
        found = theory.check_points(fields.exact(), x.cpu().numpy(), seed=0, time_limit=10.0)
    except ValueError as error:  # no polynomials, or not at these points
        warnings.warn(f"No certificate of the fields: {error}", stacklevel=3)
        return None, None
    if not found.proved:
        warnings.warn(f"The fields may not reach the targets. {found}", stacklevel=3)
    return found.rank, found.full_rank
