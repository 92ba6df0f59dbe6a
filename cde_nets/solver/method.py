"""What every method is to the loop: init, step, terminate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from cde_nets.solver.states import finite_rows
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance


@dataclass(frozen=True)
class Iterate:
    """Where an iteration stands. All tensors have a row for each row of the problem.

    Attributes:
        value: packed states, shape (rows, numbers).
        running: the rows that have not ended, shape (rows,).
        status: codes of `Status`, shape (rows,); while a planned number of steps is taken, those from before them.
        accepted: how many steps each row has taken, shape (rows,).
        rejected: how many steps each row has tried in vain, shape (rows,).
        residual: the undamped residual's norm a row, shape (rows,), as the method's stop test sees it; None for flows.
        moved: which rows the last step took on, shape (rows,); None where it was every row that runs.
        settled: the rows that ran and have come out finite, shape (rows,), from a step that has put back all others
            itself; None lets the loop look and put them back. The loop leaves None.
        memory: what the method keeps between its steps.
    """

    value: Tensor
    running: Tensor
    status: Tensor
    accepted: Tensor
    rejected: Tensor
    residual: Tensor | None = None
    moved: Tensor | None = None
    memory: Any = None
    settled: Tensor | None = None

    def but(self, **changes: Any) -> Iterate:
        """The same with other values of some attributes: `dataclasses.replace` takes several times as long."""
        if torch.compiler.is_compiling():
            return replace(self, **changes)
        other = object.__new__(Iterate)
        other.__dict__.update(self.__dict__, **changes)
        return other


class Scheme(ABC):
    """What the loop (`cde_nets.solver.loop`) drives: `init` once, then `step` and `terminate` in turn.

    A row that is not finite after a step keeps the value it had and becomes DIVERGED, and a row that ended keeps its
    value: schemes need not care. What a solve needs between its steps lives in the `Iterate`, never in the scheme.
    """

    def planned(self, problem: Any) -> int | None:
        """How many steps the solve takes, where that is known beforehand: then nothing is read from the device."""
        return None

    def ahead(self, problem: Any, state: Iterate, most: int) -> tuple[Iterate, int]:
        """Some of a plan's steps at once, where nobody watches them: the state after them, and how many they were.

        For schemes that can leave out what only rows that fail need, while they see that none does: all rows run on,
        and are finite. At most `most`; the next step is an ordinary one.
        """
        return state, 0

    @abstractmethod
    def init(self, problem: Any, tolerance: Tolerance) -> Iterate:
        """The iteration before its first step; `start` fills in what is the same for all methods."""

    @abstractmethod
    def step(self, problem: Any, state: Iterate) -> Iterate:
        """The state after one more step: value, residual, moved and memory; the loop sees to the rest."""

    @abstractmethod
    def terminate(self, problem: Any, state: Iterate) -> Tensor:
        """A code of `Status` for every row: RUNNING to go on."""

    def signals(self, state: Iterate) -> list[Tensor]:
        """Integers that the method's observers want on the host before the next step; read together with the loop's."""
        return []

    def fraction(self, state: Iterate) -> float | None:
        """How much of the work is done, for a progress meter, where the method can tell; reads from the device."""
        return None


class Method(ABC):
    """A way to solve one kind of problem, as users name it: options and nothing else.

    Attributes:
        solves: the kind of problem, as a word: "flow", "rest" or "linear".
    """

    solves: ClassVar[str]

    def resolve(self, problem: Any, save_at: Sequence[float] = ()) -> Scheme:
        """The scheme with all that the problem decides filled in; a method that leaves nothing open is one itself."""
        if not isinstance(self, Scheme):
            raise TypeError(f"{type(self).__name__} must be a Scheme itself or resolve to one.")
        return self


def start(value: Tensor, *, residual: Tensor | None = None, memory: Any = None) -> Iterate:
    """An iteration from packed states; rows that are not finite have ended before they began."""
    running = finite_rows(value)
    zeros = torch.zeros(value.shape[0], dtype=torch.int64, device=value.device)
    status = torch.where(running, int(Status.RUNNING), int(Status.DIVERGED))
    return Iterate(value, running, status, zeros, zeros, residual, None, memory)
