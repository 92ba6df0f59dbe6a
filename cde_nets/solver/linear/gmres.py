"""Generalised minimal residuals, restarted."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, positive
from cde_nets.solver.convergence import norms
from cde_nets.solver.krylov import Window, apart
from cde_nets.solver.linear.check import Check, direction, dot
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.opaque import surely_all, surely_none
from cde_nets.solver.states import chosen
from cde_nets.solver.tolerance import Tolerance

# The residual is the next direction where the last product left no more of it than this.
PROGRESS = 0.9
# Times the dtype's rounding of g: a row that gets on no more below this is checked.
STANDSTILL = 10


class Cycle(NamedTuple):
    """Directions p and their images q = A p, orthonormal; a step adds one of each to every row.

    Attributes:
        directions: the newest first; 0, and so are their images, in rows that a step gave none.
        images: theirs.
        age: how many of them are of the cycle a row is in, shape (rows,); None where it is known that all are, in every
            row.
        residual: g - A w by its recurrence, shape (rows, numbers).
        next: what A is applied to next, of norm 1.
    """

    directions: Window
    images: Window
    age: Tensor | None
    residual: Tensor
    next: Tensor

    def ages(self) -> Tensor:
        """The same as numbers."""
        if self.age is not None:
            return self.age
        return torch.full_like(self.residual[:, 0], self.images.number, dtype=torch.int64)


class Memory(NamedTuple):
    """The cycle, and who is to be checked."""

    check: Check
    cycle: Cycle


@options
class GMRES(Method, Scheme):
    """GMRES(restart) for A w = g with A = I - J^T, from w = 0.

    Saad and Schultz, "GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems", 1986.
    After k products of a cycle w has the least |g - A w| of w_0 + span{r, A r, .., A^{k-1} r}. It is found as GCR finds
    it, without a Hessenberg matrix: by directions p whose images q = A p are orthonormal, w <- w + <q, r> p and
    r <- r - <q, r> q. The next direction is made of r where the last product took a tenth of it away, else of q: so it
    breaks down no sooner than GMRES does, and the directions stay well conditioned (Jiranek and Rozloznik, "Adaptive
    version of simpler GMRES", Numer. Algorithms 53, 2010). Images are made orthogonal by Gram-Schmidt, twice
    where that is needed.

    One product a step. At the end of a row's cycle, and before it counts as converged, one of them finds the true
    residual. A cycle that brings a row no nearer (a singular system, or a restart that is too short for it) ends it as
    BREAKDOWN.

    Args:
        restart: the most products of a cycle; memory rows * 2 restart * dim. A restart of dim is full GMRES.

    Raises:
        ValueError: restart below 1.
    """

    solves: ClassVar[str] = "linear"

    restart: int = 20

    def __post_init__(self) -> None:
        """Check the restart."""
        positive("restart", self.restart)

    def init(self, problem: LinearProblem, tolerance: Tolerance) -> Iterate:
        """At zero, without a product."""
        check = Check.at_zero(problem, tolerance)
        g = check.g
        longest = max(1, min(self.restart, g.shape[1]))
        first = direction(g, norms(g))
        cycle = Cycle(Window.empty(g, longest), Window.empty(g, longest), None, g, first)
        return start(torch.zeros_like(g), residual=check.size, memory=Memory(check, cycle))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """One product: of the next direction, or of w in the rows that are due their true residual."""
        check, cycle = state.memory
        before = state.residual
        assert before is not None
        new, age, live = cycle.next, cycle.age, None
        checked = check.due | ~state.running
        calm = surely_none(checked)
        if surely_all(checked):
            return self._checked(problem, state)
        if not calm:
            new = torch.where(checked[:, None], state.value, new)
            age = cycle.ages().masked_fill(checked, 0)
        if age is not None:
            live = (torch.arange(cycle.images.number, device=age.device) < age[:, None])[:, None]
        image = problem.apply(new)
        along, rest, length, none = apart(cycle.images.kept, image, live)
        done = none
        if not calm:
            none = checked if none is None else none | checked
        # 1 / infinity: a direction of 0.
        over = (length if none is None else length.masked_fill(none, math.inf)).reciprocal()[:, None]
        p = torch.baddbmm(new[:, None], along, cycle.directions.kept, alpha=-1)[:, 0] * over
        q = rest * over
        part = dot(q, cycle.residual)[:, None]
        r = torch.addcmul(cycle.residual, part, q, value=-1)
        again = PROGRESS * before
        if not calm:
            r = torch.where(checked[:, None], check.g - image, r)
            again = again.masked_fill(checked, math.inf)
        residual = norms(r)
        gets_on = residual <= again
        if not surely_all(gets_on):
            # Where it is rounding that holds a row up, every further direction made of q magnifies it.
            stuck = ~gets_on & (residual <= STANDSTILL * torch.finfo(residual.dtype).eps * check.size)
            done = stuck if done is None else done | stuck
        cycle = Cycle(
            cycle.directions.add(p),
            cycle.images.add(q),
            None if age is None else (age + 1).masked_fill(checked, 0),
            r,
            chosen(gets_on, _straight(r, residual), q),
        )
        if cycle.images.number == cycle.images.most:
            full = cycle.ages() == cycle.images.most
            done = full if done is None else full | done
        return state.but(
            value=torch.addcmul(state.value, part, p),
            residual=residual,
            moved=None,
            memory=Memory(check.after(checked, residual, done=done, calm=calm), cycle),
        )

    def _checked(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """A step in which all rows are due their true residual, and begin anew."""
        check, cycle = state.memory
        r = check.g - problem.apply(state.value)
        residual = norms(r)
        none = Window.empty(r, cycle.images.most)
        fresh = Cycle(none, Window.empty(r, cycle.images.most), None, r, _straight(r, residual))
        check = check.after(check.due | ~state.running, residual)
        return state.but(residual=residual, moved=None, memory=Memory(check, fresh))

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the true residual."""
        assert state.residual is not None
        return state.memory.check.verdict(state.residual)  # type: ignore[no-any-return]


def _straight(r: Tensor, length: Tensor) -> Tensor:
    return r / length.clamp_min(torch.finfo(length.dtype).tiny)[:, None]
