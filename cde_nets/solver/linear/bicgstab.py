"""The stabilised bi-conjugate gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options
from cde_nets.solver.convergence import norms
from cde_nets.solver.linear.check import Check, direction, dot, ratio
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.tolerance import Tolerance


class Directions(NamedTuple):
    """What BiCGStab keeps between steps, in the letters of the paper.

    Attributes:
        shadow: the fixed vector that residuals are made bi-orthogonal to, of norm 1, shape (rows, numbers).
        r: the residual by its recurrence.
        p: the last direction.
        v: A p.
        rho: <shadow, r> before the last step, shape (rows,); 0 where the next direction is the first.
        alpha: the last step's length along p.
        omega: and along the residual half way.
    """

    check: Check
    shadow: Tensor
    r: Tensor
    p: Tensor
    v: Tensor
    rho: Tensor
    alpha: Tensor
    omega: Tensor


@options
class BiCGStab(Method, Scheme):
    """BiCGStab for A w = g with A = I - J^T, from w = 0.

    van der Vorst, "Bi-CGSTAB: a fast and smoothly converging variant of Bi-CG for the solution of nonsymmetric linear
    systems", 1992. Two products with J^T a step, memory for seven vectors, no restart; no promise of convergence.

    Before a row counts as converged, one more step finds its true residual. A row where <shadow, r>, <shadow, A p> or
    <A s, s> vanishes to rounding cannot go on and is BREAKDOWN, with its true residual; GMRES has no such breakdowns.
    """

    solves: ClassVar[str] = "linear"

    def init(self, problem: LinearProblem, tolerance: Tolerance) -> Iterate:
        """At zero, without a product."""
        check = Check.at_zero(problem, tolerance)
        zero = torch.zeros_like(check.g)
        none = zero.sum(1)
        shadow = direction(check.g, norms(check.g))
        return start(zero, residual=check.size, memory=Directions(check, shadow, check.g, zero, zero, none, none, none))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """One step, of the rows that are due their true residual."""
        m: Directions = state.memory
        assert state.residual is not None
        check = m.check
        checked = check.due | ~state.running
        flag = checked[:, None]
        eps = torch.finfo(check.size.dtype).eps

        rho = dot(m.shadow, m.r)
        lost = rho.abs() <= eps * state.residual
        first = (m.rho == 0) | (m.omega == 0)
        again = ratio(rho, m.rho, first) * ratio(m.alpha, m.omega, first)
        p = m.r + again[:, None] * (m.p - m.omega[:, None] * m.v)

        v = problem.apply(torch.where(flag, state.value, p))
        across = dot(m.shadow, v)
        lost = lost | (across.abs() <= eps * norms(v))
        alpha = ratio(rho, across, checked | lost)
        part = alpha[:, None]
        half = m.r - part * v

        t = problem.apply(torch.where(flag, 0.0, half))
        length = norms(t)
        overlap = dot(direction(t, length), half)
        omega = ratio(overlap, length, checked | lost | (length == 0))
        rest = omega[:, None]
        lost = lost | (overlap.abs() <= eps * norms(half))

        value = state.value + part * p + rest * half
        r = torch.where(flag, check.g - v, half - rest * t)
        residual = norms(r)
        shadow = torch.where(flag, direction(r, residual), m.shadow)
        check = check.after(checked, residual, done=lost)
        memory = Directions(check, shadow, r, p, v, rho.masked_fill(checked, 0.0), alpha, omega)
        return replace(state, value=value, residual=residual, moved=None, memory=memory)

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the true residual."""
        assert state.residual is not None
        return state.memory.check.verdict(state.residual)  # type: ignore[no-any-return]
