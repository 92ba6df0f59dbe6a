"""What all iterations for rest share: one residual a step, at the new value, which decides."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.convergence import code, norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.method import Iterate, Scheme, start
from cde_nets.solver.opaque import surely_all, surely_finite
from cde_nets.solver.states import chosen, finite_rows
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance


class Evaluated(NamedTuple):
    """What is known at the value.

    Attributes:
        at: the value; 0 in rows that started as none, so that a row without a value is nowhere computed with.
        residual: f(z) - z, shape (rows, numbers).
        size: |f(z)|, shape (rows,).
        tolerance: the solve's.
        void: what the rows that started as none hold for a value; 0 in all other rows: at + void is the value. None
            where it is known that there are none.
        own: what the method keeps besides.
    """

    at: Tensor
    residual: Tensor
    size: Tensor
    tolerance: Tolerance
    void: Tensor | None
    own: Any = None

    def value(self, at: Tensor) -> Tensor:
        """What the solve reports at a point."""
        return at if self.void is None else at + self.void


class Iteration(Scheme):
    """Starts with the residual at z0 and stops by |f(z) - z| <= atol + rtol |f(z)|, undamped.

    Autograd may record the loop (unrolled back-propagation). A row that failed is then kept out of gradients that rows
    share, unless f itself was not finite at a finite state: 0 times its derivative there is NaN.
    """

    def init(self, problem: FixedPointProblem, tolerance: Tolerance) -> Iterate:
        """At z0, with its residual."""
        z = problem.packed()
        known = finite_rows(z)
        void = None if surely_all(known) else torch.where(known[:, None], 0.0, z)
        at = z if void is None else torch.where(known[:, None], z, 0.0)
        residual, size = _evaluated(problem, at, problem.first)
        memory = Evaluated(at, residual, size, tolerance, void, self.begin(at))
        return start(z, residual=torch.where(known, norms(residual), torch.nan), memory=memory)

    def terminate(self, problem: FixedPointProblem, state: Iterate) -> Tensor:
        """By the undamped residual."""
        assert state.residual is not None
        return code(state.residual, state.memory.size, state.memory.tolerance)

    def begin(self, z: Tensor) -> Any:
        """What the method keeps, before its first step."""
        return None


class Trial(NamedTuple):
    """A new value and what f says of it.

    Attributes:
        at: the value; where a row stood, if it ended or its new value is not finite: no function is asked about states
            that are not finite.
        residual: f(z) - z there.
        norm: its norm, shape (rows,).
        size: |f(z)|, shape (rows,).
        going: the rows that run and whose new value is finite, shape (rows,).
    """

    at: Tensor
    residual: Tensor
    norm: Tensor
    size: Tensor
    going: Tensor


def tried(problem: FixedPointProblem, state: Iterate, value: Tensor, *, finite: bool = False) -> Trial:
    """One evaluation, at a new value, which is known to be finite in the rows that run or is looked at."""
    going = state.running if finite or surely_finite(value) else state.running & finite_rows(value)
    at = chosen(going, value, state.memory.at)
    residual, size = _evaluated(problem, at)
    return Trial(at, residual, norms(residual), size, going)


def taken(state: Iterate, trial: Trial, own: Any, good: Tensor | None = None) -> Iterate:
    """The state at a trial, in all rows or in those where it is good; the others stay and have tried in vain."""
    memory: Evaluated = state.memory
    at, residual, norm, size, going = trial
    if good is not None and not surely_all(good):
        assert state.residual is not None
        at, residual = chosen(good, at, memory.at), chosen(good, residual, memory.residual)
        norm, size = torch.where(good, norm, state.residual), torch.where(good, size, memory.size)
    return state.but(
        value=memory.value(at),
        residual=norm,
        moved=good,
        memory=memory._replace(at=at, residual=residual, size=size, own=own),
        settled=going,
    )


def arrive(problem: FixedPointProblem, state: Iterate, value: Tensor, own: Any = None) -> Iterate:
    """The state at a new value, with its residual.

    Rows that ended, or whose new value is not finite, are evaluated where they stand: there the loop leaves them.
    """
    return taken(state, tried(problem, state, value), own)


def attempt(
    problem: FixedPointProblem, state: Iterate, trial: Tensor, good: Tensor, residual: Tensor, own: Any
) -> Iterate:
    """The state at a trial with known residual, where it is good; other rows stay and have tried in vain.

    Good are only rows that run and whose trial and residual are finite.
    """
    memory: Evaluated = state.memory
    at, kept = chosen(good, trial, memory.at), chosen(good, residual, memory.residual)
    return state.but(
        value=memory.value(at),
        residual=norms(kept),
        moved=good,
        memory=memory._replace(at=at, residual=kept, size=norms(at + kept), own=own),
        settled=state.running,
    )


def _evaluated(problem: FixedPointProblem, at: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The residual, and |f(z)|."""
    if problem.is_root:
        residual = problem.residual(at, known)
        return residual, norms(at + residual)
    image = problem.value(at, known)
    return image - at, norms(image)


def check_damping(value: Any) -> None:
    """Refuse what is no number in (0, 1] (ValueError)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= 1:
        raise ValueError(f"damping must be a number above 0 and at most 1, where 1 is no damping; got {value!r}.")


def fail(codes: Tensor, where: Tensor, why: Tensor | Status) -> Tensor:
    """The codes, with the given one for rows that would go on."""
    failed = (codes == int(Status.RUNNING)) & where
    return torch.where(failed, why, codes) if isinstance(why, Tensor) else codes.masked_fill(failed, int(why))


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False (ValueError)."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r}.")
