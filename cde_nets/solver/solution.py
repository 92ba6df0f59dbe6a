"""What every solve returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cde_nets.solver.status import Status, succeeded


@dataclass(frozen=True)
class Statistics:
    """How much work a solve was; tensors have a number for each row.

    Attributes:
        accepted: steps taken, shape (rows,).
        rejected: steps tried in vain, shape (rows,).
        evaluations: of the field or the map, all rows at once counting as one.
        products: with the Jacobian or its transpose, likewise.
        residual: norm of the undamped residual each row ended with, shape (rows,); None for a flow.
        separation: of `Reversible` steps: the norm of the difference of the two copies that each row ended with, shape
            (rows,); else None. Near the state's own norm the state is spoilt.
    """

    accepted: Tensor
    rejected: Tensor
    evaluations: int
    products: int = 0
    residual: Tensor | None = None
    separation: Tensor | None = None

    @property
    def steps(self) -> Tensor:
        """All steps tried."""
        return self.accepted + self.rejected

    def __str__(self) -> str:
        most = int(self.accepted.max()) if self.accepted.numel() else 0
        parts = [f"{most} steps", f"{int(self.rejected.max()) if self.rejected.numel() else 0} rejected"]
        parts += [f"{self.evaluations} evaluations"] * bool(self.evaluations)
        parts += [f"{self.products} products with J"] * bool(self.products)
        if self.residual is not None and self.residual.numel():
            parts.append(f"residual {float(self.residual.max()):.3g}")
        if self.separation is not None and self.separation.numel():
            parts.append(f"copies {float(self.separation.max()):.3g} apart")
        return ", ".join(parts)


@dataclass(frozen=True)
class Trace:
    """Every step of a solve.

    Attributes:
        values: the states, the initial one included, built as the state with an axis (steps + 1) in front; None where
            only residuals were asked for.
        times: of a flow: float64, shape (steps + 1, rows), or (steps + 1,) where all rows are at the same time.
        residuals: of an iteration, before each of its steps and after the last, shape (steps + 1, rows).
    """

    values: Any = None
    times: Tensor | None = None
    residuals: Tensor | None = None


@dataclass(frozen=True)
class SaveAt:
    """What a solution is to hold besides the value at its end.

    Args:
        times: where a flow's states are wanted: the solution's value then has an axis for them in front. In the order
            in which the flow passes them.
        steps: the trace of every step.
        dense: the continuous extension, a function of time.
    """

    times: Sequence[float] | Tensor | None = None
    steps: bool = False
    dense: bool = False


@dataclass
class Backward:
    """What a backward pass was like; filled in when it has run.

    Attributes:
        status: a code a row, None before.
        statistics: of the adjoint's solve, None before.
    """

    status: Tensor | None = None
    statistics: Statistics | None = None


@dataclass(frozen=True, repr=False)
class Solution:
    """The outcome of a solve.

    Attributes:
        value: the state at the end, built as the initial state was; with save times an axis for them is in front.
        status: a code of `Status` for every row, shape (rows,); `words()` spells them out.
        statistics: how much work it was.
        time: of a flow: how far each row came, float64, shape (rows,).
        size: the norm of each row's state where it ended, shape (rows,).
        event_time: of a flow with an event: when each row met it, float64, shape (rows,), the end's time where it did
            not; differentiable.
        trace: where it was asked for.
        dense: where it was asked for: t -> state.
        backward: how the backward pass went, once it has run, for gradients that solve a problem of their own.
    """

    value: Any
    status: Tensor
    statistics: Statistics
    time: Tensor | None = None
    size: Tensor | None = None
    event_time: Tensor | None = None
    trace: Trace | None = None
    dense: Callable[[float], Any] | None = None
    backward: Backward | None = None

    @property
    def succeeded(self) -> Tensor:
        """Whether each row holds what was asked for, shape (rows,)."""
        return succeeded(self.status)

    @property
    def failed(self) -> Tensor:
        """The rows that did not, shape (rows,)."""
        return ~succeeded(self.status)

    def differentiable(self, value: Any, backward: Backward | None = None) -> Solution:
        """The same solution with a value that has a graph, and a place where its backward pass reports."""
        return replace(self, value=value, backward=backward)

    def words(self) -> list[str]:
        """Every row's status as a word."""
        return [Status(code).name.lower() for code in self.status.tolist()]

    def __str__(self) -> str:
        counts = torch.bincount(self.status, minlength=len(Status)).tolist()
        ended = ", ".join(f"{n} {Status(code).name.lower()}" for code, n in enumerate(counts) if n)
        return f"Solution({ended or 'no rows'}; {self.statistics})"

    __repr__ = __str__
