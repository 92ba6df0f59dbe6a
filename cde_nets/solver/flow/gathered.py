"""Fields asked only at the rows that still run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cde_nets.solver import opaque
from cde_nets.solver.dynamics import Adjoint, Controlled, Counted, Dynamics, Moment

# Below so many rows, or above this share of them, gathering costs more than it saves.
ROWS, SHARE = 128, 0.75


class Gathered(Dynamics):
    """Dynamics at some of the rows; the others stand still.

    Args:
        inner: dX/dt, each row's by itself.
        rows: the numbers of the rows, shape (some,).
    """

    def __init__(self, inner: Dynamics, rows: Tensor) -> None:
        self.inner, self.leaves, self._rows = inner, inner.leaves, rows

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """The inner one's at the rows, 0 at the others."""
        found = self.inner.velocity(x.index_select(0, self._rows), at if at.u is not None else self._own(at))
        return torch.zeros_like(x).index_copy(0, self._rows, found)

    def ahead(self, moments: Sequence[Moment]) -> Sequence[Moment]:
        """The inner one's, of these rows: moments that know a control are of no others."""
        own: dict[int, Moment] = {}
        # Stages at the step's end share its very tensor, also here.
        for at in moments:
            own.setdefault(id(at.time), self._own(at))
        found = self.inner.ahead([own[id(at.time)]._replace(j=at.j) for at in moments])
        return found if all(at.u is not None for at in found) else moments

    def _own(self, at: Moment) -> Moment:
        time, inside = (t if t is None or len(t) == 1 else t.index_select(0, self._rows) for t in (at.time, at.inside))
        return Moment(at.n, at.j, time, inside)

    def adjoint(self) -> Adjoint:
        """Nobody walks back over gathered rows."""
        raise TypeError("gathered rows belong to a step, not to a flow")

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """Of the inner one with other leaves."""
        return Gathered(self.inner.on(leaves), self._rows)


def gathered(dynamics: Dynamics, running: Tensor) -> Dynamics:
    """The dynamics at the rows that run, where they are few."""
    rows = few(dynamics, running)
    return dynamics if rows is None else Gathered(dynamics, rows)


def few(dynamics: Dynamics, wanted: Tensor) -> Tensor | None:
    """The numbers of the rows wanted, where they are few and to find them costs nothing: on a CPU. None: take all.

    Only where no row is told from another: controlled fields under one control. A user's function may hold a number
    for every row, and is asked at all of them.
    """
    if not alike(dynamics) or len(wanted) < ROWS or not opaque.readable(wanted):
        return None
    rows = wanted.nonzero()[:, 0]
    return rows if 0 < len(rows) <= SHARE * len(wanted) else None


def alike(dynamics: Dynamics) -> bool:
    """Whether no row is told from another, so that any points may stand in any order: fields under one control."""
    inner = dynamics.inner if isinstance(dynamics, Counted) else dynamics
    return type(inner) is Controlled and inner.control.rows is None
