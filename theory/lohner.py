"""Boxes that turn with a linear recursion, so that its enclosures do not grow by their wrapping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from theory.balls import Balls
from theory.exact import exact_array


@dataclass(frozen=True)
class Turned:
    """Sets of vectors frame w, for all w in a box around 0: one for each of N points and k columns.

    In a recursion v <- A v + e, boxes along the axes are wrapped in new ones at every step, and grow with the product
    of the |A| instead of that of the A. In frames that follow the A by QR decompositions they grow little more than
    the vectors do. R. Lohner, "Enclosing the solutions of ordinary initial and boundary value
    problems", in Computerarithmetic, Teubner, 1987.

    Attributes:
        frame: (N, m, m).
        box: w, (N, m, k); every ball holds 0.
    """

    frame: Balls
    box: Balls

    @classmethod
    def zero(cls, points: int, dim: int, columns: int) -> Turned:
        """Nothing but 0, along the axes."""
        box = np.zeros((points, dim, columns), dtype=np.int64)
        return cls(units(points, dim), Balls.of(exact_array(box)))

    def moved(self, matrix: Balls, more: Balls) -> Turned:
        """All A v + e with v in the set, A in a ball of matrices (N, m, m) and e in balls (N, m, k) that hold 0.

        Raises:
            ArithmeticError: balls that are too wide, or not bounded.
        """
        turned = matrix @ self.frame
        nearby = turned.rounded()
        if not np.isfinite(nearby).all():
            raise ArithmeticError("the enclosure is no longer bounded")
        # Any invertible frame is right: one of floats will do, with an enclosure of its inverse.
        frame = Balls.floats(np.linalg.qr(nearby)[0])
        inverse = frame.inverses()
        return Turned(frame, (inverse @ turned) @ self.box + inverse @ more)

    def hull(self) -> Balls:
        """Balls that hold the set, (N, m, k)."""
        return self.frame @ self.box


def units(points: int, dim: int) -> Balls:
    """N unit matrices, (N, m, m)."""
    return Balls.of(exact_array(np.broadcast_to(np.eye(dim, dtype=np.int64), (points, dim, dim))))
