"""Brackets of all depths at once: fields pulled back along a random curve, by power series modulo a prime."""

from __future__ import annotations

import numpy as np

from theory.differential import Differential
from theory.exact import ExactArray
from theory.program import Program
from theory.rowspace import Residues, centred, inverse, product, reduce
from theory.series import PowerSeries


class Curve:
    """Fields pulled back along a curve, by their Taylor coefficients at N points.

    Along X' = F(X) with F = sum_i u_i(t) V_i and polynomials u_i, and with Psi' = -Psi DF(X), Psi(0) = I, these are the
    coefficients of W_j(t) = Psi(t) V_j(X(t)). W_j is V_j pulled back along the flow, and its derivative is the pulled
    back bracket of F and V_j. So the coefficient of t**n is a combination, with p-integral coefficients
    while n < p, of brackets of depth at most n + 1, the same combination at all points; and for generic u such
    coefficients span all brackets (after Sontag, "Control of systems without drift via generic loops", IEEE
    Transactions on Automatic Control 40, 1995).

    Over the rationals sum_i u_i W_i' = 0 coefficient by coefficient, so that from order 1 on one field adds nothing.
    It may be any field, and where V_0 is a drift it is best V_0: W_j with j >= 1 are combinations of brackets that end
    in V_j, and so lie in the ideal that the controlled fields generate in the algebra of all. The relation then says
    that W_0' lies in it too, and nothing about the others: all of them are needed. Of that ideal and of the algebra
    the rows differ by one, V_0 at order 0.

    Two ways lead to the coefficients, equal modulo p, and the one is taken that has fewer products:

        vectors: W_j' = Psi L V_j with (L v)(t) = v'(t) - DF v, so that coefficient n is (L**n V_j)(0) / n!;
            K**3/6 products of DF with d vectors for K orders. DF is held as what it is (`theory.differential`): of
            fields on images a few entries a row.
        frame: Psi itself, K**2/2 products with DF, a plain matrix, and as many with d vectors. Where there are few
            fields and many orders.

    Args:
        program: the fields V_1..V_d.
        points: exact, shape (N, m).
        controls: u, centred residues of shape (degree + 1, d): u_i(t) = sum_k controls[k, i] t**k.
        orders: how many coefficients will be asked for.
        modulus: p < 2**20, above `orders`.
    """

    def __init__(self, program: Program, points: ExactArray, controls: Residues, orders: int, modulus: int) -> None:
        p, (count, m) = modulus, points.shape
        self._p, self._controls = p, controls
        self._inverses = [0.0, *(inverse(float(n), p) for n in range(1, orders + 1))]
        # A list, for a series that asked this object would hold it: see PowerSeries.
        self._positions = [centred(points.residues(p), p)]
        x = PowerSeries((count, m), p, self._positions.__getitem__)
        self._values, slope = program.linearized(x, PowerSeries.polynomial(controls, p))
        by_frame, by_vectors = products(orders, m, program.count, slope.size)
        way = _Frame if by_frame < by_vectors else _Vectors
        # In this order in memory, too: vectors are read component by component.
        turned = self._values.transpose(0, 2, 1)
        fields = PowerSeries(turned.shape, p, lambda n: np.ascontiguousarray(turned.coefficient(n)))
        self._pulled = way(fields, slope, self._inverses)

    def coefficients(self) -> Residues:
        """The next order of W, centred residues of shape (d, N m)."""
        w = self._pulled.next()
        n, p = len(self._positions) - 1, self._p
        velocity = np.zeros(self._positions[0].shape)
        for k in range(min(n, len(self._controls) - 1) + 1):
            velocity += product(self._controls[k][None, None], self._values.coefficient(n - k), p)[:, 0]
        if n + 1 < len(self._inverses):
            self._positions.append(reduce(reduce(velocity, p) * self._inverses[n + 1], p))
        return w.transpose(2, 0, 1).reshape(w.shape[2], -1)


def products(orders: int, dim: int, fields: int, size: int) -> tuple[int, int]:
    """Products of residues that a curve takes at one point: by a frame, and by vectors.

    Args:
        orders: K.
        dim: m.
        fields: d.
        size: those of the Jacobian with one vector.
    """
    pairs = orders * (orders - 1) // 2
    return pairs * dim**2 * (dim + fields), pairs * (orders + 1) // 3 * size * fields


class _Vectors:
    """Coefficient n of W is that of L**n V at t = 0, divided by n!."""

    def __init__(self, fields: PowerSeries, slope: Differential[PowerSeries], inverses: list[float]) -> None:
        # L**n V / n!, n from 0 on.
        self._levels, self._slope, self._inverses = [fields], slope, inverses

    def next(self) -> Residues:
        n = len(self._levels) - 1
        # From the lowest level on, so that none asks for more than one below it.
        for k, level in enumerate(self._levels):
            found = level.coefficient(n - k)
        if n + 1 < len(self._inverses):
            self._levels.append(self._raised(self._levels[-1], self._inverses[n + 1]))
        return found

    def _raised(self, level: PowerSeries, scale: float) -> PowerSeries:
        turned, p = self._slope.times(level), level.modulus

        def rule(k: int) -> Residues:
            return reduce(reduce((k + 1) * level.coefficient(k + 1) - turned.coefficient(k), p) * scale, p)

        return PowerSeries(level.shape, p, rule)


class _Frame:
    """Psi and W = Psi V, order by order."""

    def __init__(self, fields: PowerSeries, slope: Differential[PowerSeries], inverses: list[float]) -> None:
        count, m, d = fields.shape
        self._fields, self._slope, self._inverses, self._found = fields, slope.dense(), inverses, 0
        # Psi side by side, and Jacobians and fields one below the other, the latest on top: a coefficient of a product
        # of series is then one product of matrices.
        self._psi = np.zeros((count, m, (len(inverses) - 1) * m))
        self._psi[:, :, :m] = np.eye(m)
        self._right = np.zeros((count, (len(inverses) - 1) * m, m + d))

    def next(self) -> Residues:
        n, p, m = self._found, self._fields.modulus, self._fields.shape[1]
        top, more = self._psi.shape[2] - (n + 1) * m, n + 2 < len(self._inverses)
        self._right[:, top : top + m, m:] = self._fields.coefficient(n)
        if more:
            self._right[:, top : top + m, :m] = self._slope.coefficient(n)
        # Of the last order no Jacobian is needed.
        found = product(self._psi[:, :, : (n + 1) * m], self._right[:, top:, 0 if more else m :], p)
        if more:
            self._psi[:, :, (n + 1) * m : (n + 2) * m] = reduce(found[:, :, :m] * -self._inverses[n + 1], p)
        self._found += 1
        return found[:, :, m:] if more else found
