"""When an accelerated iteration gets nowhere, and takes plain steps for a while."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.opaque import surely_none

# The residual grows on the way of many a good solve, seldom more than this from one step to the next.
GROWTH = 2.0
# Steps after which a row is looked at, and what is left of its best residual where it gets on.
WINDOW = 10
PROGRESS = 0.5


class Patience(NamedTuple):
    """What a row has reached, and whether it takes plain steps, z <- z + damping r.

    After every `WINDOW` steps a row whose best residual has not halved takes plain steps: WINDOW of them the first
    time, twice as many each further time. So whatever acceleration does on its way, a row comes to rest where Picard's
    iteration would, in a few times as many steps: no run of plain steps is shorter than a quarter of all steps before
    its end. What a plain step does to the residual is never judged, as Picard's iteration may come to rest by way of
    larger ones.

    Attributes:
        steps: how many were taken, the same for all rows.
        best: the smallest residual since the row's last plain step, shape (rows,).
        mark: `best` when the row was last looked at.
        until: the step to which a row is plain, shape (rows,); None before the first row is.
        longest: how long the row's next run of plain steps is.
    """

    steps: int
    best: Tensor
    mark: Tensor
    until: Tensor | None = None
    longest: Tensor | None = None

    @staticmethod
    def fresh(residual: Tensor) -> Patience:
        """Before the first step.

        Args:
            residual: norms at z0, shape (rows,).
        """
        return Patience(0, residual, residual)

    def plain(self) -> Tensor | None:
        """The rows whose next step is a plain one, shape (rows,); None where there are none."""
        plain = None if self.until is None else self.until > self.steps
        return None if plain is None or surely_none(plain) else plain

    def after(self, residual: Tensor, plain: Tensor | None) -> Patience:
        """One step later.

        Args:
            residual: norms at the points that were tried, shape (rows,).
            plain: the rows whose step was a plain one; None where there were none.
        """
        steps, best = self.steps + 1, torch.fmin(self.best, residual)
        if plain is not None:
            best = torch.where(plain, residual, best)
        if steps % WINDOW:
            return self._replace(steps=steps, best=best)
        until, longest = self.until, self.longest
        if until is None or longest is None:
            until = torch.zeros_like(best, dtype=torch.int64)
            longest = torch.full_like(until, WINDOW)
        idle = (best > PROGRESS * self.mark) & (until < steps)
        until = torch.where(idle, steps + longest, until)
        return Patience(steps, best, best, until, torch.where(idle, 2 * longest, longest))
