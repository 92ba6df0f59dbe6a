"""Brackets of all depths at once: fields pulled back along a random curve, by power series modulo a prime."""

from __future__ import annotations

import numpy as np

from theory.exact import ExactArray
from theory.program import Program
from theory.rowspace import Residues, centred, inverse, product, reduce
from theory.series import PowerSeries


class Curve:
    """Fields pulled back along a curve, by their Taylor coefficients at N points.

    Along X' = sum_i u_i(t) V_i(X) and Psi' = -Psi D(sum_i u_i V_i)(X), Psi(0) = I, for polynomials u_i, these are the
    coefficients of W_j(t) = Psi(t) V_j(X(t)). W_j is V_j pulled back along the flow, and its derivative is the pulled
    back bracket of the velocity and V_j. So the coefficient of t**n is a combination, with p-integral coefficients
    while n < p, of brackets of depth at most n + 1, the same combination at all points; and for generic u such
    coefficients span all brackets (after Sontag, "Control of systems without drift via generic loops", IEEE
    Transactions on Automatic Control 40, 1995).

    Over the rationals sum_i u_i W_i' = 0 coefficient by coefficient, so that from order 1 on one field adds nothing.
    It may be any field, and where V_0 is a drift it is best V_0: W_j with j >= 1 are combinations of brackets that end
    in V_j, and so lie in the ideal that the controlled fields generate in the algebra of all. The relation then says
    that W_0' lies in it too, and nothing about the others: all of them are needed. Of that ideal and of the algebra
    the rows differ by one, V_0 at order 0.

    Args:
        program: the fields V_1..V_d.
        points: exact, shape (N, m).
        controls: u, centred residues of shape (degree + 1, d): u_i(t) = sum_k controls[k, i] t**k.
        orders: how many coefficients will be asked for.
        modulus: p < 2**20, above `orders`.
    """

    def __init__(self, program: Program, points: ExactArray, controls: Residues, orders: int, modulus: int) -> None:
        p, (count, m), d = modulus, points.shape, program.count
        self._p, self._orders, self._next = p, orders, 0
        start = centred(points.residues(p), p)
        inverses = [0.0, *(inverse(float(n), p) for n in range(1, orders + 1))]

        def position(n: int) -> Residues:
            return start if n == 0 else reduce(velocity(n - 1) * inverses[n], p)

        def velocity(n: int) -> Residues:
            total = np.zeros((count, m))
            for k in range(min(n, len(controls) - 1) + 1):
                total += product(controls[k][None, None], self._values.coefficient(n - k), p)[:, 0]
            return reduce(total, p)

        x = PowerSeries((count, m), p, position)
        self._values = program.values(x)
        self._jacobians = program.jacobian(x, PowerSeries.of(controls, p))
        self._inverses, self._degree = inverses, len(controls) - 1
        # Psi side by side, and the Jacobians and fields one below the other, the latest on top: a coefficient of a
        # product of series is then one product of matrices.
        self._psi = np.zeros((count, m, orders * m))
        self._slopes = np.zeros((count, orders * m, m))
        self._fields = np.zeros((count, orders * m, d))
        self._psi[:, :, :m] = np.eye(m)

    def coefficients(self) -> Residues:
        """The next order of W, centred residues of shape (d, N m)."""
        n, p = self._next, self._p
        count, m, _ = self._psi.shape
        top = (self._orders - 1 - n) * m
        self._fields[:, top : top + m] = self._values.coefficient(n).transpose(0, 2, 1)
        psi = self._psi[:, :, : (n + 1) * m]
        w = product(psi, self._fields[:, top:], p)
        if n + 1 < self._orders:
            slope = np.zeros((count, m, m))
            for k in range(min(n, self._degree) + 1):
                slope += self._jacobians.coefficient(n - k)[:, k]
            self._slopes[:, top : top + m] = reduce(slope, p)
            turned = product(psi, self._slopes[:, top:], p)
            self._psi[:, :, (n + 1) * m : (n + 2) * m] = reduce(turned * -self._inverses[n + 1], p)
        self._next += 1
        return w.transpose(2, 0, 1).reshape(w.shape[2], -1)
