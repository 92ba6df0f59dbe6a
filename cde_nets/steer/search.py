"""The search for a control: what is tried, and in which order."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.solver import RungeKutta
from cde_nets.steer.damped import Attempt, approach
from cde_nets.steer.endpoint import Endpoint
from cde_nets.steer.energy import shorten
from cde_nets.steer.regularized import calm
from cde_nets.steer.result import Interpolation, SteerStatus
from cde_nets.steer.starts import Start, loops, quiet

# Evaluations of the penalised method, and of damped least squares after it.
_CALM, _AFTER = 100, 40
# Loops of each amplitude and length: more where outputs are few, as one then takes little time.
_TRIES, _MORE_TRIES, _FEW = 4, 10, 100
# Loops from which the targets are tried, and evaluations of each before the worse half is given up; twice as many in
# the next round, up to the last.
_ATTEMPTS, _ROUND, _LAST = 12, 10, 160
# Evaluations from a solution to that of a lambda nearby, or of finer steps.
_NEARBY = 40
# The factor by which steps are made finer at most, where errors fall as the method's order says.
_FINEST = 8


@dataclass
class Search:
    """The state of a search: what has been found, and what it took.

    Attributes:
        endpoint: the map.
        shift: lambda (X_1 - x) as it should be, shape (N, m).
        steps: M.
        tolerance: of lambda (X_1 - x) - shift.
        deadline: by `time.monotonic`.
        generator: of loops.
        values: the best control so far, shape (M, d).
        lam: its lambda.
        nearest: its residual.
        solved: whether it solves the problem for that lambda.
        smallest: the smallest singular value at the best loop.
    """

    endpoint: Endpoint
    shift: Tensor
    steps: int
    tolerance: float
    deadline: float
    generator: torch.Generator
    values: Tensor | None = None
    lam: float = math.inf
    nearest: float = math.inf
    solved: bool = False
    smallest: float = math.nan
    attempts: int = 0
    evaluations: int = 0
    blown_up: int = 0

    def solve(self, lam: float) -> bool:
        """From the shortest controls, then from loops; whether this lambda was reached."""
        return self._calm(lam) or self._from_loops(lam)

    def lower(self, lambdas: tuple[float, ...]) -> None:
        """Solve for the first lambda, then for smaller ones, if possible from solution to solution."""
        for lam in lambdas:
            warm = self.values is not None and self._take(self._approach(self.values, lam, _NEARBY), lam)
            if self._late() or not (warm or self.solve(lam)):
                break

    def shorten(self) -> None:
        """Less energy with the same ends."""
        assert self.values is not None
        target, tolerance = self._aim(self.lam)
        found = shorten(self.endpoint, self.values, target, tolerance=tolerance, deadline=self.deadline)
        self._take(self._counted(found), self.lam)

    def refine(self, wanted: float, order: int) -> None:
        """More steps on each interval, until those at hand are right for twice as many."""
        assert self.values is not None
        while not self._late() and (error := self.error(self.endpoint.refined(2))) > wanted:
            ratio = (error / wanted) ** (1 / order)
            # As long as errors are large they do not fall as the order says.
            finer = self.endpoint.refined(2 if error > 0.01 else min(_FINEST, max(2, math.ceil(ratio))))
            found = self._approach(self.values, self.lam, _NEARBY, finer)
            if not self._take(found, self.lam):
                break
            self.endpoint = finer

    def error(self, endpoint: Endpoint) -> float:
        """The largest entry of |readout - y| of the best control."""
        ended = None if self.values is None else endpoint.at(self.values)
        return math.inf if ended is None else float((self.lam * (ended - endpoint.x) - self.shift).abs().amax())

    def result(
        self, method: str, readout: str, refine_to: float | None, rank: int | None, full: int | None
    ) -> Interpolation:
        """All in numbers and words."""
        if self.values is None:
            values = self.endpoint.x.new_zeros(self.steps, self.endpoint.fields.count)
            status = SteerStatus.NO_START
            reason = f"{self.blown_up} loops of all amplitudes left every bounded set"
            search = replace(self, values=values, lam=1.0)
        else:
            values, search = self.values, self
            status = SteerStatus.SOLVED if self.solved else SteerStatus.NOT_SOLVED
            reason = f"residual {self.nearest:.1e} at lambda {self.lam:g}"
        refined = search.error(self.endpoint.refined(2))
        if self.solved and refine_to is not None and refined > refine_to:
            status = SteerStatus.COARSE
            reason += f", {refined:.1e} under refinement where {refine_to:.1e} was asked for"
        if status is SteerStatus.NOT_SOLVED:
            reason += f" after {self.attempts} starts"
            if not math.isnan(self.smallest):
                reason += f"; the best loop had singular values down to {self.smallest:.1e}"
        linearized = self.endpoint.linearized(values)
        assert linearized is not None
        ends, jacobian = linearized
        singular = torch.linalg.svdvals(jacobian)
        return Interpolation(
            control=PiecewiseConstantControl(self.steps, self.endpoint.fields.count, values=values),
            method=RungeKutta(method, steps=self.steps * self.endpoint.substeps),
            readout=readout,
            lam=search.lam,
            residual=search.error(self.endpoint),
            substeps=self.endpoint.substeps,
            refined_residual=refined,
            energy=float(values.square().sum() / self.steps),
            smallest_singular_value=float(singular[-1]),
            condition=float(singular[0] / singular[-1]),
            status=status,
            reason=reason,
            attempts=self.attempts,
            evaluations=self.evaluations,
            blown_up=self.blown_up,
            rank=rank,
            full_rank=full,
            ends=ends,
        )

    def _calm(self, lam: float) -> bool:
        """The shortest control, where that can be had."""
        target, tolerance = self._aim(lam)
        self.attempts += 1
        start = quiet(self.endpoint, self.steps, generator=self.generator)
        near = calm(self.endpoint, start, target, tolerance=tolerance, most=_CALM, deadline=self.deadline)
        self._take(self._counted(near), lam)
        return self._take(self._approach(near.values, lam, _AFTER), lam)

    def _from_loops(self, lam: float) -> bool:
        """From random loops, and others where those do not lead there, until time is up."""
        while not self._late():
            starts, blown_up = loops(
                self.endpoint,
                self.shift / lam,
                self.steps,
                tries=_TRIES if self.shift.numel() > _FEW else _MORE_TRIES,
                generator=self.generator,
                deadline=self.deadline,
            )
            self.blown_up += blown_up
            if not starts:
                break
            self.smallest = starts[0].smallest
            if self._race(starts[:_ATTEMPTS], lam):
                return True
        return False

    def _race(self, starts: list[Start], lam: float) -> bool:
        """Some evaluations for each start, twice as many for the better half of them, and so on."""
        self.attempts += len(starts)
        running = [Attempt(start.values, math.inf) for start in starts]
        most = _ROUND
        while running and most <= _LAST:
            for k, attempt in enumerate(running):
                running[k] = self._approach(attempt.values, lam, most, damping=attempt.damping)
                if self._take(running[k], lam):
                    return True
                if self._late():
                    return False
            running = sorted(running, key=lambda attempt: attempt.residual)[: max(1, len(running) // 2)]
            most *= 2
        return False

    def _take(self, attempt: Attempt, lam: float) -> bool:
        """Keep an attempt that solved the problem, or came nearest so far; whether it solved it."""
        residual = attempt.residual * lam
        solved = residual <= self.tolerance
        if solved or (not self.solved and residual < self.nearest):
            self.values, self.lam, self.nearest = attempt.values, lam, residual
        self.solved = self.solved or solved
        return solved

    def _approach(
        self, values: Tensor, lam: float, most: int, endpoint: Endpoint | None = None, damping: float | None = None
    ) -> Attempt:
        target, tolerance = self._aim(lam)
        return self._counted(
            approach(
                endpoint or self.endpoint,
                values,
                target,
                tolerance=tolerance,
                most=most,
                deadline=self.deadline,
                damping=damping,
            )
        )

    def _aim(self, lam: float) -> tuple[Tensor, float]:
        """Where X_1 should be, and how near: a little nearer than asked for, as lambda multiplies what is left."""
        return self.endpoint.x + self.shift / lam, 0.5 * self.tolerance / lam

    def _counted(self, attempt: Attempt) -> Attempt:
        self.evaluations += attempt.steps + attempt.rejected
        self.blown_up += attempt.blown_up
        return attempt

    def _late(self) -> bool:
        return time.monotonic() > self.deadline
