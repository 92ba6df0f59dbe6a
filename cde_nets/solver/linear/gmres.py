"""Generalised minimal residuals, restarted."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, positive
from cde_nets.solver.convergence import norms
from cde_nets.solver.krylov import Window, apart
from cde_nets.solver.linear.check import Check, direction, dot
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.opaque import surely_none
from cde_nets.solver.states import chosen
from cde_nets.solver.tolerance import Tolerance

# The residual is the next direction where the last product left no more of it than this.
PROGRESS = 0.9


class Cycle(NamedTuple):
    """Directions p and their images q = A p, orthonormal; a step adds one of each to every row.

    Attributes:
        directions: the newest first; 0, and so are their images, in rows that a step gave none.
        images: theirs.
        age: how many of them are of the cycle a row is in, shape (rows,).
        whole: whether it is known that all of them are, in every row.
        residual: g - A w by its recurrence, shape (rows, numbers).
        next: what A is applied to next, of norm 1.
    """

    directions: Window
    images: Window
    age: Tensor
    whole: bool
    residual: Tensor
    next: Tensor

    def live(self, checked: Tensor | None) -> Tensor | None:
        """Which of them are of a row's cycle, shape (rows, 1, directions): none in rows that are checked.

        None where all are, in every row.
        """
        if self.whole and checked is None:
            return None
        age = self.age if checked is None else self.age.masked_fill(checked, 0)
        return (torch.arange(self.images.count, device=age.device) < age[:, None])[:, None]


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
        g, age = check.g, torch.zeros_like(check.due, dtype=torch.int64)
        longest = max(1, min(self.restart, g.shape[1]))
        first = direction(g, norms(g))
        cycle = Cycle(Window.empty(g, longest), Window.empty(g, longest), age, True, g, first)
        return start(torch.zeros_like(g), residual=check.size, memory=Memory(check, cycle))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """One product: of the next direction, or of w in the rows that are due their true residual."""
        check, cycle = state.memory
        before = state.residual
        assert before is not None
        checked = check.due | ~state.running
        calm = surely_none(checked)
        new = cycle.next
        image = problem.apply(new if calm else torch.where(checked[:, None], state.value, new))
        along, rest, length, size = apart(cycle.images.kept, image, cycle.live(None if calm else checked))
        eps = torch.finfo(length.dtype).eps
        # A maps the Krylov space to itself, but for rounding.
        exhausted = length <= 10 * eps * size
        none = exhausted if calm else exhausted | checked
        # 1 / infinity: a direction of 0.
        over = length.masked_fill(none, torch.inf).reciprocal()[:, None]
        p = torch.baddbmm(new[:, None], along, cycle.directions.kept, alpha=-1)[:, 0] * over
        q = rest * over
        part = dot(q, cycle.residual)[:, None]
        r = torch.addcmul(cycle.residual, part, q, value=-1)
        again, age = before * PROGRESS, cycle.age + 1
        if not calm:
            r = torch.where(checked[:, None], check.g - image, r)
            again, age = again.masked_fill(checked, torch.inf), age.masked_fill(checked, 0)
        residual = norms(r)
        straight = r / residual.clamp_min(torch.finfo(residual.dtype).tiny)[:, None]
        directions, images = cycle.directions.add(p), cycle.images.add(q)
        # Below rounding the recurrence says nothing more, and steps that get nowhere magnify theirs.
        done = exhausted | (residual <= eps * check.size)
        if images.count == images.most:
            done = done | (age == images.most)
        return replace(
            state,
            value=torch.addcmul(state.value, part, p),
            residual=residual,
            moved=None,
            memory=Memory(
                check.after(checked, residual, done=done, calm=calm),
                Cycle(directions, images, age, cycle.whole and calm, r, chosen(residual <= again, straight, q)),
            ),
        )

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the true residual."""
        assert state.residual is not None
        return state.memory.check.verdict(state.residual)  # type: ignore[no-any-return]
