"""Errors that are not plain ValueErrors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cde_nets.solver.solution import Solution


class SolveError(ArithmeticError):
    """A solve that did not reach what it was asked for.

    Attributes:
        solution: all that was computed, the rows that succeeded included; None where nothing was kept.
    """

    def __init__(self, message: str, solution: Solution | None = None) -> None:
        super().__init__(message)
        self.solution = solution


class DivergedError(SolveError):
    """Rows left the finite numbers, or their flow could not be followed to its end."""


class ConvergenceError(SolveError):
    """An iteration stopped short of its tolerance."""


class ConvergenceWarning(RuntimeWarning):
    """As `ConvergenceError`, where the caller asked to go on."""
