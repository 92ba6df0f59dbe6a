"""What a proof at points takes of a machine's memory, said before work starts."""

from __future__ import annotations

import numpy as np

from theory.curve import products
from theory.machine import machine_memory
from theory.program import Program
from theory.schedule import CONTROL_DEGREE
from theory.series import PowerSeries

_BYTES = 8
# Arrays that series hold for each order: of the size of all fields, and of the Jacobian. Counted, for the kind that
# takes most: fields on images, tangent to spheres.
_OF_FIELDS, _OF_JACOBIANS = 6, 8
# Rows that are reduced at a time, and copies of them.
_ROWS = 4 * 256


def most_orders(program: Program, points: int, rank: int, orders: int, most: int, modulus: int) -> int:
    """How many orders of a curve, from `orders` to `most`, fit in the machine's memory.

    Args:
        program: the fields.
        points: N.
        rank: the one to be proved.
        orders: those that are planned.
        most: those that may be tried.
        modulus: p.

    Raises:
        ValueError: not even those that are planned.
    """
    limit, m, d = machine_memory(), program.dim, program.count
    needed = 0.0
    # Plain matrices are the most: that they fit needs no look at the fields.
    for blocks in (False, True):
        entries = _size(program, modulus) if blocks else m * m
        for tried in range(most, orders - 1, -1):
            needed = estimate(m, d, points, rank, tried, entries)
            if needed <= limit:
                return tried
    raise ValueError(
        f"the proof takes some {needed / 1e9:.1f} GB: a rank of {rank} by {d} fields at {points} points of R^{m}; "
        f"this machine has {limit / 1e9:.1f} GB: take fewer points, or a larger machine"
    )


def estimate(dim: int, fields: int, points: int, rank: int, orders: int, size: int) -> float:
    """Bytes that the proof takes at most, to a factor of two or so.

    Args:
        dim: m.
        fields: d.
        points: N.
        rank: R, that of the rows at the end.
        orders: K, of each curve.
        size: entries of the Jacobian at one point.
    """
    columns, all_fields = points * dim, points * dim * fields
    # Echelon rows lose the columns of those before them.
    rows = rank * columns - rank**2 // 2 + (2 * orders * fields + _ROWS) * columns
    by_frame, by_vectors = products(orders, dim, fields, size)
    if by_frame < by_vectors:
        pulled = orders * points * dim * (3 * dim + fields)
    else:
        pulled = orders * (orders + 1) // 2 * all_fields
    return _BYTES * (rows + pulled + orders * (_OF_FIELDS * all_fields + _OF_JACOBIANS * points * size))


def _size(program: Program, modulus: int) -> int:
    """Entries of a combination's Jacobian at one point, from the graph of it: no coefficient is asked for."""
    point = PowerSeries.of(np.ones((1, program.dim)), modulus)
    u = PowerSeries.polynomial(np.zeros((CONTROL_DEGREE + 1, program.count)), modulus)
    return program.linearized(point, u)[1].size
