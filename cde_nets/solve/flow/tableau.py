"""Explicit Runge-Kutta tableaus."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tableau:
    """X_j = x + h sum_{l<j} a[j][l] k_l, k_j = f(t + c[j] h, X_j), x_next = x + h sum_j b[j] k_j.

    Attributes:
        name: what users call it.
        order: of convergence on smooth problems.
        a: the lower triangle, row j with j entries.
        b: weights.
        c: nodes.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]

    @property
    def stages(self) -> int:
        """The number of field evaluations a step."""
        return len(self.b)


EULER = Tableau("euler", 1, a=((),), b=(1.0,), c=(0.0,))
# Kutta's classical method: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, table II.1.2.
RK4 = Tableau(
    "rk4",
    4,
    a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    c=(0.0, 1 / 2, 1 / 2, 1.0),
)

TABLEAUS = {tableau.name: tableau for tableau in (EULER, RK4)}


def tableau(name: str) -> Tableau:
    """The tableau of that name.

    Raises:
        ValueError: no method has that name; the message lists those that exist.
    """
    if not isinstance(name, str) or name not in TABLEAUS:
        raise ValueError(f"Unknown method {name!r}; known are {', '.join(TABLEAUS)}.")
    return TABLEAUS[name]
