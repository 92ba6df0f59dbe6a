"""The steps that a flow took, as its adjoint walks them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cde_nets.solver.dynamics import Dynamics
from cde_nets.solver.flow.manifold import Manifold
from cde_nets.solver.flow.record import Taken
from cde_nets.solver.flow.tableau import Tableau


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything but the states.

    Attributes:
        dynamics: dX/dt.
        tableau: the method.
        manifold: what step ends were put back on.
        taken: the steps, in order.
        uneven: rows take other steps than their neighbours, or end before them.
        leaves: how many leaves the dynamics has.
        outputs: how many tensors came out: end, saved states and, with an event, start and slopes of its step.
        mixing: of a reversible method.
    """

    dynamics: Dynamics
    tableau: Tableau
    manifold: Manifold | None
    taken: Sequence[Taken]
    uneven: bool
    leaves: int
    outputs: int
    mixing: float
