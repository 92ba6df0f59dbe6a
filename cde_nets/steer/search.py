"""The search for a control: what is tried, in which order, and for how long."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cde_nets.steer.damped import Attempt, approach
from cde_nets.steer.endpoint import Endpoint, Linearized
from cde_nets.steer.energy import shorten
from cde_nets.steer.regularized import calm
from cde_nets.steer.starts import Start, loops, quiet

# Evaluations of the penalised method, and of damped least squares after it.
_CALM, _AFTER = 100, 40
# Loops of each amplitude and length: more where outputs are few, as one then takes little time.
_TRIES, _MORE_TRIES, _FEW = 4, 10, 100
# Loops from which the targets are tried, and evaluations of each before the worse half is given up; twice as many in
# the next round, up to the last.
_ATTEMPTS, _ROUND, _LAST = 12, 10, 160
# The share of the time that is left in which a first lambda is to be reached, and another one.
_FIRST, _NEXT = 0.9, 0.5
# Evaluations from a solution to that of a lambda nearby, or of finer steps.
_NEARBY = 40
# The factor by which steps are made finer at most, where errors fall as the method's order says; and how many of them
# there may be on an interval: by then rounding is all that changes.
_FINEST, _MOST_SUBSTEPS = 8, 1024


@dataclass(frozen=True)
class Found:
    """A control.

    Attributes:
        values: shape (M, d).
        lam: lambda.
        nearest: its residual, the largest entry of |lambda (X_1 - x) - shift|.
        endpoint: with the steps for which this holds.
        linearized: the ends and their Jacobian, where they were computed.
        refined: the residual under twice as many steps, where it was computed.
        missing: what there was no time for.
    """

    values: Tensor
    lam: float
    nearest: float
    endpoint: Endpoint
    linearized: Linearized | None = None
    refined: float | None = None
    missing: tuple[str, ...] = ()

    def error(self, endpoint: Endpoint, shift: Tensor) -> float:
        """The residual with other steps; infinite where a point blows up."""
        ended = endpoint.at(self.values)
        return math.inf if ended is None else float((self.lam * (ended - endpoint.x) - shift).abs().amax())


@dataclass
class Search:
    """The state of a search: what has been found, and what it took.

    Attributes:
        endpoint: the map, with the steps to begin with.
        shift: lambda (X_1 - x) as it should be, shape (N, m).
        steps: M.
        tolerance: of lambda (X_1 - x) - shift.
        deadline: by `time.monotonic`.
        generator: of loops.
        best: the best control so far.
        solved: whether it solves the problem for its lambda.
        ladder: the solution of every lambda that was reached, the largest first.
        smallest: the smallest singular value at the best loop.
        attempts: starts from which a solution was tried.
        evaluations: accepted and rejected steps.
        blown_up: starts and steps that left every bounded set.
        seconds: what a Jacobian takes, for each step on an interval.
    """

    endpoint: Endpoint
    shift: Tensor
    steps: int
    tolerance: float
    deadline: float
    generator: torch.Generator
    best: Found | None = None
    solved: bool = False
    ladder: list[Found] = field(default_factory=list)
    smallest: float = math.nan
    attempts: int = 0
    evaluations: int = 0
    blown_up: int = 0
    seconds: float = 0.0

    def solve(self, lam: float) -> bool:
        """From the shortest controls, then from loops; whether this lambda was reached."""
        reached = self._calm(lam) or self._from_loops(lam)
        if reached and self.best is not None:
            self.ladder.append(self.best)
        return reached

    def lower(self, lambdas: tuple[float, ...], share: float) -> None:
        """Solve for the first lambda, then for smaller ones, if possible from solution to solution.

        None takes all the time: where one of them is out of reach, as two targets all but coincide there, others may
        not be. The first solution may take most of it, and those after it half of what is left each.

        Args:
            lambdas: falling.
            share: of the time, for all but the first solution.
        """
        whole, begun = self.deadline, time.monotonic()
        until = begun + share * (whole - begun)
        for lam in lambdas:
            now, end = time.monotonic(), until if self.solved else whole
            if now > end:
                break
            self.deadline = end if lam == lambdas[-1] else now + (_NEXT if self.solved else _FIRST) * (end - now)
            if self.best is not None and self._take(self._from(self.best, lam), lam):
                self.ladder.append(self.best)
            else:
                self.solve(lam)
        late, self.deadline = time.monotonic() > until, whole
        if late and self.best is not None and self.solved and self.best.lam > lambdas[-1]:
            self._miss(f"lambda below {self.best.lam:g}")

    def finish(self, least_energy: bool, refine_to: float | None, order: int) -> None:
        """Less energy, and steps so fine that the ODE is solved: for the smallest lambda where that is reached.

        Args:
            least_energy: whether less energy is wanted.
            refine_to: the residual of the ODE that is wanted, or None.
            order: of the method.
        """
        whole, tried = self.deadline, list[Found]()
        missing = () if self.best is None else self.best.missing
        for found in self.ladder[::-1]:
            now = time.monotonic()
            if tried and now > whole:
                break
            self.best = replace(found, missing=missing)
            last = refine_to is None or found is self.ladder[0]
            self.deadline = whole if last else now + (whole - now) / 2
            if least_energy:
                self.shorten(self.deadline if refine_to is None else now + (self.deadline - now) / 2)
            if refine_to is None:
                break
            self.refine(refine_to, order)
            tried.append(self.best)
            if self.best.refined is not None and self.best.refined <= refine_to:
                break
        else:
            # None was reached: what is nearest to the ODE.
            if tried:
                self.best = min(tried, key=lambda one: math.inf if one.refined is None else one.refined)
        self.deadline = whole

    def shorten(self, deadline: float) -> None:
        """Less energy with the same ends."""
        assert self.best is not None
        best = self.best
        target, tolerance = self._aim(best.lam)
        found = shorten(
            best.endpoint, best.values, target, tolerance=tolerance, deadline=deadline, known=best.linearized
        )
        self._take(self._counted(found), best.lam, best.endpoint)
        if found.late:
            self._miss("the least energy")

    def refine(self, wanted: float, order: int) -> None:
        """More steps on each interval, until those at hand are right for twice as many."""
        assert self.best is not None
        while (error := self.refined()) > wanted:
            # As long as errors are large they do not fall as the order says.
            ratio = 2 if error > 0.01 else min(_FINEST, max(2, math.ceil((error / wanted) ** (1 / order))))
            finer = self.best.endpoint.refined(ratio)
            if finer.substeps > _MOST_SUBSTEPS:
                break
            if time.monotonic() + self.seconds * finer.substeps > self.deadline:
                self._miss("finer steps")
                break
            best = self.best
            found = self._from(best, best.lam, finer)
            if not self._take(found, best.lam, finer):
                if found.late:
                    self._miss("finer steps")
                break

    def refined(self) -> float:
        """The residual of the best control under twice as many steps."""
        assert self.best is not None
        if self.best.refined is None:
            error = self.best.error(self.best.endpoint.refined(2), self.shift)
            self.best = replace(self.best, refined=error)
            return error
        return self.best.refined

    def late(self) -> bool:
        """Whether time is up."""
        return time.monotonic() > self.deadline

    def _calm(self, lam: float) -> bool:
        """The shortest control, where that can be had."""
        target, tolerance = self._aim(lam)
        self.attempts += 1
        start = quiet(self.endpoint, self.steps, generator=self.generator)
        near = calm(self.endpoint, start, target, tolerance=tolerance, most=_CALM, deadline=self.deadline)
        self._take(self._counted(near), lam)
        return self._take(self._approach(near.values, lam, _AFTER, known=near.linearized), lam)

    def _from_loops(self, lam: float) -> bool:
        """From random loops, and others where those do not lead there, until time is up."""
        while not self.late():
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
                if self.late():
                    return False
                running[k] = self._approach(
                    attempt.values, lam, most, damping=attempt.damping, known=attempt.linearized
                )
                if self._take(running[k], lam):
                    return True
            running = sorted(running, key=lambda attempt: attempt.residual)[: max(1, len(running) // 2)]
            most *= 2
        return False

    def _take(self, attempt: Attempt, lam: float, endpoint: Endpoint | None = None) -> bool:
        """Keep an attempt that solved the problem, or came nearest so far; whether it solved it."""
        residual = attempt.residual * lam
        solved = residual <= self.tolerance
        if solved or (not self.solved and residual < (math.inf if self.best is None else self.best.nearest)):
            missing = () if self.best is None else self.best.missing
            endpoint = endpoint or self.endpoint
            self.best = Found(attempt.values, lam, residual, endpoint, attempt.linearized, missing=missing)
        self.solved = self.solved or solved
        return solved

    def _from(self, found: Found, lam: float, endpoint: Endpoint | None = None) -> Attempt:
        """From one solution to another one nearby."""
        known = found.linearized if endpoint is None else None
        return self._approach(found.values, lam, _NEARBY, endpoint, known=known)

    def _approach(
        self,
        values: Tensor,
        lam: float,
        most: int,
        endpoint: Endpoint | None = None,
        damping: float | None = None,
        known: Linearized | None = None,
    ) -> Attempt:
        target, tolerance = self._aim(lam)
        endpoint = endpoint or self.endpoint
        begun = time.monotonic()
        found = approach(
            endpoint,
            values,
            target,
            tolerance=tolerance,
            most=most,
            deadline=self.deadline,
            damping=damping,
            known=known,
        )
        jacobians = found.steps + found.rejected + (known is None)
        if jacobians:
            self.seconds = (time.monotonic() - begun) / jacobians / endpoint.substeps
        return self._counted(found)

    def _aim(self, lam: float) -> tuple[Tensor, float]:
        """Where X_1 should be, and how near: a little nearer than asked for, as lambda multiplies what is left."""
        return self.endpoint.x + self.shift / lam, 0.5 * self.tolerance / lam

    def _counted(self, attempt: Attempt) -> Attempt:
        self.evaluations += attempt.steps + attempt.rejected
        self.blown_up += attempt.blown_up
        return attempt

    def _miss(self, what: str) -> None:
        assert self.best is not None
        self.best = replace(self.best, missing=(*self.best.missing, what))
