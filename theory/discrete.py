"""The flow of a piecewise constant control by a one-step method, and its Jacobian in the control, enclosed in balls."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from theory.balls import Balls
from theory.exact import ExactArray, exact_array
from theory.lohner import Turned, units
from theory.program import Program


@dataclass(frozen=True)
class DiscreteFlow:
    """The map from controls u (M, d) to the ends X_1 (N, m) of N points' flows.

    X_j = x_n + h sum_{l<j} a[j][l] k_l, k_j = sum_i u_i V_i(X_j), x_{n+1} = x_n + h sum_j b[j] k_j, in real numbers
    without rounding, with the step h = 1 / (M substeps).

    Attributes:
        program: V_1..V_d.
        x: the points, (N, m).
        a: the strictly lower triangle of an explicit Runge-Kutta method, exact: row j with j entries.
        b: weights, exact (stages,).
        intervals: M, of the control.
        substeps: equal steps on each of them.
        deadline: by `time.monotonic`.
    """

    program: Program
    x: Balls
    a: tuple[ExactArray, ...]
    b: ExactArray
    intervals: int
    substeps: int = 1
    deadline: float = math.inf

    def near(self, u: Balls) -> Balls:
        """X_1 nearly, (N, m): what is rounded at the steps is forgotten, so these are no enclosures.

        Raises:
            ArithmeticError: a state is not finite, or 0 is divided by.
            TimeoutError: the deadline has passed.
        """
        x = self.x.centres()
        for k in range(self.intervals):
            for _ in range(self.substeps):
                x = self._step(x, u[k])[0].centres()
            self._check(x, k)
        return x

    def enclosed(self, u: Balls, radii: Balls) -> tuple[Balls, Balls]:
        """Balls that hold X_1, and its Jacobian in the control's numbers, at all controls within radii of u.

        Step by step x_{n+1} = S(x_n, v) is enclosed by the mean value theorem, S(c, u) + DS (x_n - c, v - u) with DS
        over the balls, in turned boxes (`theory.lohner`), and so are the costates of the discrete adjoint (W. Hager,
        "Runge-Kutta methods in optimal control and the transformed adjoint system", Numerische Mathematik 87, 2000),
        for all m outputs of each point at once.

        Args:
            u: (M, d), balls of radius 0.
            radii: (M, d), not negative.

        Returns:
            The ends (N, m), and the Jacobian (N m, M d).

        Raises:
            ArithmeticError: a ball is not bounded, or holds a 0 that is divided by.
            TimeoutError: the deadline has passed.
        """
        points, m = self.x.shape
        around = u.widened(radii)
        away = around - u
        centre = self.x.centres()
        strayed = Turned.zero(points, m, 1).moved(units(points, m), (self.x - centre)[:, :, None])
        steps: list[tuple[Balls, Balls]] = []
        for k in range(self.intervals):
            for _ in range(self.substeps):
                held = centre.widened(strayed.hull()[:, :, 0])
                _, states, evaluated = self._step(held, around[k])
                by_state, by_control = self._derivatives(states, evaluated, around[k])
                ahead = self._step(centre, u[k])[0]
                centre = ahead.centres()
                more = (ahead - centre)[:, :, None] + by_control.linear(away[k][None])
                strayed = strayed.moved(by_state, more)
                steps.append((by_state, by_control))
            self._check(strayed.box, k)
        return centre.widened(strayed.hull()[:, :, 0]), self._backward(steps)

    def _backward(self, steps: list[tuple[Balls, Balls]]) -> Balls:
        """The Jacobian (N m, M d), from those of the steps."""
        points, m = self.x.shape
        # Costates as columns, as boxes turn from the left.
        centre, strayed = units(points, m), Turned.zero(points, m, m)
        columns: list[Balls] = []
        for k in reversed(range(self.intervals)):
            gathered: Balls | None = None
            for _ in range(self.substeps):
                by_state, by_control = steps.pop()
                p = centre.widened(strayed.hull()).transpose(0, 2, 1)
                part = p @ by_control
                gathered = part if gathered is None else gathered + part
                back = by_state.transpose(0, 2, 1)
                ahead = back @ centre
                centre = ahead.centres()
                strayed = strayed.moved(back, ahead - centre)
            assert gathered is not None
            columns.append(gathered.reshape(points * m, -1))
            self._check(columns[-1], k)
        first, *others = columns[::-1]
        return first.join(others, 1)

    @cached_property
    def _tableau(self) -> tuple[list[list[Balls | None]], list[Balls | None]]:
        """The coefficients a and b times h; None for zeros."""

        def scaled(row: ExactArray) -> list[Balls | None]:
            steps = [c / (self.intervals * self.substeps) for c in row.fractions().tolist()]
            return [self.x.constant(exact_array(step)) if step else None for step in steps]

        return [scaled(row) for row in self.a], scaled(self.b)

    def _step(self, x: Balls, u: Balls) -> tuple[Balls, list[Balls], list[Balls]]:
        """The state after a step, the states of its stages (N, m), and the fields there (N, d, m)."""
        a, b = self._tableau
        states: list[Balls] = []
        evaluated: list[Balls] = []
        slopes: list[Balls] = []
        for row in a:
            states.append(_along(x, row, slopes))
            evaluated.append(self.program.values(states[-1]))
            slopes.append(evaluated[-1].transpose(0, 2, 1).linear(u[None])[:, :, 0])
        return _along(x, b, slopes), states, evaluated

    def _derivatives(self, states: list[Balls], evaluated: list[Balls], u: Balls) -> tuple[Balls, Balls]:
        """Of a step, in the state (N, m, m) and in the control (N, m, d): the adjoint's recursion over its stages."""
        a, b = self._tableau
        points, m = self.x.shape
        stages = len(b)
        _, found = self.program.linearized(states[0].join(states[1:], 0), u)
        slope = found.dense().reshape(stages, points, m, m)
        unit = units(points, m)
        cotangents: list[Balls] = []
        parts: list[Balls] = []
        for j in reversed(range(stages)):
            # What the later stages gave, the last one first.
            weights = [b[j], *(a[later][j] for later in reversed(range(j + 1, stages)))]
            w = _along(unit.zeros(), weights, [unit, *parts])
            cotangents.append(w)
            parts.append(w @ slope[j])
        by_state = unit
        for part in parts:
            by_state = by_state + part
        # sum over the stages of w V^T, as one product.
        left = cotangents[0].join(cotangents[1:], 2)
        right = evaluated[-1].join(evaluated[-2::-1], 2)
        return by_state, left @ right.transpose(0, 2, 1)

    def _check(self, balls: Balls, k: int) -> None:
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"the time limit passed in interval {k + 1} of {self.intervals}")
        if not balls.are_finite():
            raise ArithmeticError(f"the enclosure is no longer bounded in interval {k + 1} of {self.intervals}")


def _along(x: Balls, weights: Sequence[Balls | None], slopes: Sequence[Balls]) -> Balls:
    """The sum of x and of weighted slopes; a weight None is zero."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight is not None:
            x = x + weight * slope
    return x
