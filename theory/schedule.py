"""How many random curves, and how many orders of each, an N-point check should take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from theory.words import witt

# Degree in t of the controls along a curve.
CONTROL_DEGREE = 2
_MOST_ORDERS = 24


@dataclass(frozen=True)
class Schedule:
    """A plan.

    Attributes:
        orders: K, coefficients of each curve: brackets up to depth K.
        curves: how many random curves are expected to do.
    """

    orders: int
    curves: int


def schedule(dim: int, fields: int, degree: int, points: int, target: int) -> Schedule:
    """The cheapest plan whose expected rank reaches the target.

    Coefficient n of q curves is expected to bring min(w_n, (d - 1) q) dimensions, where w_n counts the brackets of
    n + 1 letters (Witt; d for n = 0), capped by the dimension m C(m + D, m) of the polynomial fields of the degree D
    that brackets of this depth have.
    """
    best, least = None, math.inf
    for orders in range(1, _MOST_ORDERS + 1):
        curves = _curves(dim, fields, degree, orders, target)
        if curves is None:
            continue
        # Products of series, matrix by matrix, and what every order of every curve costs at least.
        cost = curves * (orders**2 * points * dim**2 * (dim + fields) + orders * 2e6)
        if cost < least:
            best, least = Schedule(orders, curves), cost
    # Nothing is expected to reach it: as many orders as there are, and more curves while they help.
    return best or Schedule(_MOST_ORDERS, max(1, math.ceil(target / max(1, (fields - 1) * _MOST_ORDERS))))


def _curves(dim: int, fields: int, degree: int, orders: int, target: int) -> int | None:
    words = [fields, *(witt(fields, n + 1) for n in range(1, orders))]
    reach = orders * max(degree - 1, 0) + 1
    cap = dim * math.comb(dim + reach, dim)

    def expected(curves: int) -> int:
        new = max(fields - 1, 1) * curves
        return min(cap, sum(min(w, new) for w in words))

    if expected(max(words)) < target:
        return None
    low, high = 0, 1
    while expected(high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if expected(middle) < target else (low, middle)
    return high
