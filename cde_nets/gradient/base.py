"""What a gradient is: a way to solve a problem so that the solution can be differentiated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from cde_nets.solver.loop import Limits
from cde_nets.solver.method import Method
from cde_nets.solver.solution import SaveAt, Solution
from cde_nets.solver.tolerance import Tolerance


@dataclass(frozen=True)
class Settings:
    """What `solve` was asked for, besides problem, method and gradient; see there."""

    tolerance: Tolerance
    max_steps: int
    throw: bool
    progress: Callable[[float], None] | None
    save_at: SaveAt

    @property
    def limits(self) -> Limits:
        """The part the loop wants."""
        return Limits(self.tolerance, self.max_steps, self.progress)


class Gradient(ABC):
    """How a solution is differentiated.

    Attributes:
        solves: the kinds of problem it differentiates, of "flow", "rest" and "linear".
    """

    solves: ClassVar[tuple[str, ...]]

    @abstractmethod
    def solve(self, problem: Any, method: Method, settings: Settings) -> Solution:
        """Solve, with a solution that autograd can differentiate; statuses are not looked at here."""
