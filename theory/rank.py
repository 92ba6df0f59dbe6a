"""The rank of fields and their brackets at points, modulo random primes, by curves until no more comes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from theory.certificate import Run
from theory.curve import Curve
from theory.effort import Progress
from theory.exact import ExactArray
from theory.memory import most_orders
from theory.primes import modulo_some_prime
from theory.program import Program
from theory.programs.union import numbered
from theory.rowspace import Residues, RowSpace, centred
from theory.schedule import CONTROL_DEGREE, schedule

# Curves in a row that bring nothing new, each with more orders, before a rank is taken for what it is.
_PATIENCE = 2
_MORE_ORDERS, _MOST_ORDERS = 6, 64
# Numbers that a curve of the most orders may hold: 8 MB for each of its series.
_MOST_NUMBERS = 2**20


def ranks_modulo_primes(
    families: Sequence[Program],
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

    Of several families it is the rank of the sum of their algebras: brackets are those within one family. With `drift`
    the last field is one that nobody controls, and of the algebra only the ideal is taken that the other fields
    generate: brackets with at least one of them. At least one prime is tried.
    """
    runs: list[Run] = []
    while not runs or (len(runs) < primes and time.monotonic() < deadline):
        runs.append(modulo_some_prime(rng, lambda p: _run(families, points, target, p, rng, deadline, progress, drift)))
        if runs[-1].rank == target:
            break
    return runs


def _run(
    families: Sequence[Program],
    points: ExactArray,
    target: int,
    p: int,
    rng: np.random.Generator,
    deadline: float,
    progress: Progress | None,
    drift: bool,
) -> Run:
    """The rank modulo p, by curves along each family until it is full or no more come."""
    fields, share = sum(family.count for family in families), math.ceil(target / len(families))
    climbs = [(_Climb(family, points, target, share, p, drift), first) for family, first in numbered(families)]
    space = RowSpace(points.shape[0] * points.shape[1], p)
    # Of each curve its controls, by how much the rank rose, and the depth of its brackets.
    taken: list[tuple[tuple[tuple[int, ...], ...], int, int]] = []
    while climbs and space.rank < target and time.monotonic() < deadline:
        for climb, first in climbs:
            if space.rank == target or time.monotonic() >= deadline:
                break
            controls, gained, depth = climb.go_on(space, target, rng, deadline)
            taken.append((_among(controls, first, fields, p), gained, depth))
            if progress is not None:
                progress(space.rank, target)
        climbs = [(climb, first) for climb, first in climbs if climb.idle < _PATIENCE]
    # Of a full rank what is needed to see it again, of another all that was tried.
    kept = [(controls, depth) for controls, gained, depth in taken if gained or space.rank < target]
    return Run(p, space.rank, max((depth for _, depth in kept), default=0), tuple(controls for controls, _ in kept))


class _Climb:
    """Curves along the fields of one family, longer ones where the last brought nothing new.

    Attributes:
        idle: how many in a row brought nothing.
    """

    def __init__(self, program: Program, points: ExactArray, target: int, share: int, p: int, drift: bool) -> None:
        program._check_points(points, p)
        self._program, self._points, self._p, self._drift = program, points, p, drift
        count, m = points.shape
        self._orders = schedule(m, program.count, program.degree, count, share).orders
        self._most = most_orders(program, count, target, self._orders, _MOST_ORDERS, p)
        self.idle, self._curves = 0, 0

    def go_on(
        self, space: RowSpace, target: int, rng: np.random.Generator, deadline: float
    ) -> tuple[npt.NDArray[np.float64], int, int]:
        """Add one more curve's rows to the space.

        Returns:
            Its controls, by how much the rank rose, and the depth of the brackets that brought something, else of
            those looked at.
        """
        program, (count, m) = self._program, self._points.shape
        if self.idle == _PATIENCE - 1:
            # The last one before giving up: brackets that are needed may be deeper than any plan expects.
            held = count * m * (m + program.count)
            self._orders = min(self._most, max(self._orders, _MOST_NUMBERS // held))
        elif self._curves and self._orders == 1:
            # Of order 0 a second curve brings nothing, whatever it is.
            self._orders = min(self._orders + _MORE_ORDERS, self._most)
        controls = centred(rng.integers(0, self._p, (CONTROL_DEGREE + 1, program.count)), self._p)
        curve = Curve(program, self._points, controls, self._orders, self._p)
        gained, used = _add(space, curve, self._orders, not self._curves, target, deadline, self._drift)
        self._curves += 1
        if gained:
            self.idle = 0
        else:
            self.idle, self._orders = self.idle + 1, min(self._orders + _MORE_ORDERS, self._most)
        return controls, gained, used


def _among(controls: npt.NDArray[np.float64], first: int, fields: int, p: int) -> tuple[tuple[int, ...], ...]:
    """Controls of one family's fields as those of all, the others' being zero."""
    before, after = (0,) * first, (0,) * (fields - first - controls.shape[1])
    return tuple((*before, *(int(c) % p for c in row), *after) for row in controls)


def _add(
    space: RowSpace, curve: Curve, orders: int, first: bool, target: int, deadline: float, drift: bool
) -> tuple[int, int]:
    """Add a curve's rows; by how much the rank rose, and the depth of the brackets among them."""
    before = space.rank
    if first:
        # Order by order, so that the depth that is told is one that was needed.
        needed = 0
        for n in range(orders):
            w, had = curve.coefficients(), space.rank
            # The last field is the one that adds nothing. A drift stands there: of itself it has no controlled field.
            space.add(w if n == 0 and not drift else w[:-1])
            needed = n + 1 if space.rank > had else needed
            if space.rank == target or time.monotonic() > deadline:
                break
        return space.rank - before, needed or n + 1
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
