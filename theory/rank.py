"""The rank of fields and their brackets at points, modulo random primes, by curves until no more comes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from theory.certificate import Run
from theory.curve import Curve
from theory.effort import Progress
from theory.exact import ExactArray
from theory.memory import most_orders
from theory.primes import modulo_some_prime
from theory.program import Program
from theory.rowspace import Residues, RowSpace, centred
from theory.schedule import CONTROL_DEGREE, schedule

# Curves in a row that bring nothing new, each with more orders, before a rank is taken for what it is.
_PATIENCE = 2
_MORE_ORDERS, _MOST_ORDERS = 6, 64
# Numbers that a curve of the most orders may hold: 8 MB for each of its series.
_MOST_NUMBERS = 2**20


def ranks_modulo_primes(
    program: Program,
    points: ExactArray,
    target: int,
    primes: int,
    rng: np.random.Generator,
    deadline: float,
    progress: Progress | None,
    *,
    drift: bool = False,
) -> list[Run]:
    """The rank at the points modulo one random prime after the other, until it is the target.

    With `drift` the last field is one that nobody controls, and of the algebra only the ideal is taken that the other
    fields generate: brackets with at least one of them. At least one prime is tried.
    """
    runs: list[Run] = []
    while not runs or (len(runs) < primes and time.monotonic() < deadline):
        runs.append(modulo_some_prime(rng, lambda p: _run(program, points, target, p, rng, deadline, progress, drift)))
        if runs[-1].rank == target:
            break
    return runs


def _run(
    program: Program,
    points: ExactArray,
    target: int,
    p: int,
    rng: np.random.Generator,
    deadline: float,
    progress: Progress | None,
    drift: bool,
) -> Run:
    """The rank modulo p, by curves until it is full or no more come."""
    program._check_points(points, p)
    count, m = points.shape
    plan = schedule(m, program.count, program.degree, count, target)
    most = most_orders(program, count, target, plan.orders, _MOST_ORDERS, p)
    orders, idle, depth = plan.orders, 0, 0
    space = RowSpace(m * count, p)
    curves: list[Any] = []
    while space.rank < target and idle < _PATIENCE and time.monotonic() < deadline:
        if idle == _PATIENCE - 1:
            # The last one before giving up: brackets that are needed may be deeper than any plan expects.
            held = count * m * (m + program.count)
            orders = min(most, max(orders, _MOST_NUMBERS // held))
        elif curves and orders == 1:
            # Of order 0 a second curve brings nothing, whatever it is.
            orders = min(orders + _MORE_ORDERS, most)
        controls = centred(rng.integers(0, p, (CONTROL_DEGREE + 1, program.count)), p)
        curves.append(tuple(tuple(int(c) % p for c in row) for row in controls))
        curve = Curve(program, points, controls, orders, p)
        gained, used = _add(space, curve, orders, len(curves) == 1, target, deadline, drift)
        depth = max(depth, used)
        if gained == 0:
            idle, orders = idle + 1, min(orders + _MORE_ORDERS, most)
        else:
            idle = 0
        if progress is not None:
            progress(space.rank, target)
    return Run(p, space.rank, depth, tuple(curves))


def _add(
    space: RowSpace, curve: Curve, orders: int, first: bool, target: int, deadline: float, drift: bool
) -> tuple[int, int]:
    """Add a curve's rows; by how much the rank rose, and the depth of the brackets among them."""
    before = space.rank
    if first:
        # Order by order, so that the depth that is told is one that was needed.
        for n in range(orders):
            w = curve.coefficients()
            # The last field is the one that adds nothing. A drift stands there: of itself it has no controlled field.
            space.add(w if n == 0 and not drift else w[:-1])
            if space.rank == target or time.monotonic() > deadline:
                return space.rank - before, n + 1
        return space.rank - before, orders
    rows: list[Residues] = []
    for n in range(orders):
        w = curve.coefficients()
        # Of order 0, the fields themselves, nothing is new; and one field adds nothing at any other order.
        if n:
            rows.append(w[:-1])
        if time.monotonic() > deadline:
            return 0, 0
    if rows:
        space.add(np.concatenate(rows))
    return space.rank - before, orders
