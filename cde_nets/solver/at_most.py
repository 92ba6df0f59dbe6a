"""So many steps and no more, whatever the tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cde_nets.options import instead, options, positive
from cde_nets.solver.method import Iterate, Method, Scheme
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance


@options
class AtMost(Method):
    """A method that ends where its tolerance is met, or else after so many steps, without having failed.

    CG-RBP and the like, stopped after K steps and used as they are then (Liao et al., "Reviving and improving recurrent
    back-propagation", ICML 2018): `Implicit(AtMost(CG(), 5))`. A row that has had its steps, or cannot go
    on (BREAKDOWN), is DONE with what it has, and its residual says how good that is; one that met the tolerance is
    CONVERGED, one that is not finite DIVERGED. Picard, Neumann and RBP also take all of a given number of steps:
    `Picard(steps=K)`, `Neumann(K)`, `RBP(terms=K)`.

    Args:
        method: for rest or for linear problems, with no number of steps of its own.
        steps: the most it may take, at least 1; tries in vain count.

    Raises:
        ValueError: another method, steps below 1.
    """

    method: Method
    steps: int

    def __post_init__(self) -> None:
        """Check both."""
        if not isinstance(self.method, Method) or self.method.solves not in ("rest", "linear"):
            raise ValueError(
                f"AtMost takes a method for rest or linear problems, such as CG() or Picard(); got {self.method!r}"
                f"{instead(self.method)}."
            )
        positive("steps", self.steps)

    @property
    def solves(self) -> str:  # type: ignore[override]
        """What the method solves."""
        return self.method.solves

    def resolve(self, problem: Any, save_at: Sequence[float] = ()) -> Scheme:
        """The method's scheme, with an end."""
        scheme = self.method.resolve(problem, save_at)
        if scheme.planned(problem) is not None:
            raise ValueError(f"{self.method!r} has a number of steps of its own: take it without AtMost.")
        return _Ending(scheme, self.steps)


class _Ending(Scheme):
    """A scheme whose rows are DONE after so many steps, and where they break down."""

    def __init__(self, scheme: Scheme, steps: int) -> None:
        self._scheme, self._steps = scheme, steps

    def init(self, problem: Any, tolerance: Tolerance) -> Iterate:
        return self._scheme.init(problem, tolerance)

    def step(self, problem: Any, state: Iterate) -> Iterate:
        return self._scheme.step(problem, state)

    def signals(self, state: Iterate) -> list[Tensor]:
        return self._scheme.signals(state)

    def fraction(self, state: Iterate) -> float | None:
        return self._scheme.fraction(state)

    def terminate(self, problem: Any, state: Iterate) -> Tensor:
        code = self._scheme.terminate(problem, state)
        out = (code == int(Status.RUNNING)) & (state.accepted + state.rejected >= self._steps)
        return code.masked_fill(out | (code == int(Status.BREAKDOWN)), int(Status.DONE))
