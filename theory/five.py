"""Five explicit fields whose Lie algebra is all polynomial fields, and two."""

from __future__ import annotations

import math
from operator import index

import numpy as np

from theory.programs.monomial import MonomialProgram

_MOST_DIM = 10_000


def five_fields(m: int) -> MonomialProgram:
    """Five quadratic fields on R^m that generate every polynomial field, with integer coefficients.

        V_1 = Ax,  V_2 = Bx,  V_3 = e_m,  V_4 = x_m**2 e_1,  V_5 = x_m x

    with the diagonal matrix A = diag(i**2 - mean), scaled to integers without a common factor, and the cyclic
    permutation matrix B, (Bx)_1 = x_m and (Bx)_j = x_(j-1). Both are traceless, and they generate sl(m), the traceless
    matrices. The squares matter: equally spaced diagonal entries beside B generate only m (m + 1) / 2 dimensions for
    even m. Only the 2 m + 1 monomials that occur are stored: 1, x_j, x_j x_m.

    That five fields are enough to interpolate any number of points is due to C. Cuchiero, M. Larsson and J. Teichmann,
    "Deep neural networks, generic universal interpolation, and controlled ODEs", SIAM Journal on Mathematics of Data
    Science 2(3), 2020, 901-919, arXiv:1908.07838. The matrices A and B are this package's choice.

    Args:
        m: the dimension, at least 2.

    Returns:
        A program with count 5 and degree 2.

    Raises:
        ValueError: m < 2. On the line solutions of an ODE keep their order, so that no fields can interpolate.
    """
    diagonal = five_diagonal(m)
    last = m - 1
    # Only the monomials that occur: 1, x_j and x_j x_m. All of degree <= 2 would be m^2 / 2 columns of zeros.
    unit = np.eye(m, dtype=np.int64)
    exponents = np.concatenate([np.zeros((1, m), dtype=np.int64), unit, unit + unit[last]])
    c = np.zeros((5, m, len(exponents)), dtype=np.int64)
    constant, linear, product = 0, 1 + np.arange(m), 1 + m + np.arange(m)
    c[0, np.arange(m), linear] = diagonal
    c[1, np.arange(m), np.roll(linear, 1)] = 1
    c[2, last, constant] = 1
    c[3, 0, product[last]] = 1
    c[4, np.arange(m), product] = 1
    return MonomialProgram(exponents, c)


def two_fields(m: int) -> MonomialProgram:
    """Two quadratic fields on R^m that generate every polynomial field: two are enough for every m >= 2.

        V_1 = Ax,  V_2 = Bx + e_m + x_m**2 e_1 + x_m x

    with A and B of `five_fields`. The bracket with Ax multiplies the field x**a e_j by <a, lambda> - lambda_j, lambda
    the diagonal of A, up to a factor lambda_i = i**2 - (m + 1) (2 m + 1) / 6. With l = lambda_m = (4 m + 1) (m - 1) / 6
    these numbers are
        m**2 - 1 for x_m e_1 and 1 - 2 j for x_(j-1) e_j, j = 2..m, the parts of Bx;
        -l for e_m, l + m**2 - 1 for x_m**2 e_1, l for x_m x.
    They differ: l > 2 m - 1 for m >= 4, l is positive and not m**2 - 1, and m = 2, 3 are seen by hand. By Vandermonde's
    determinant each part then is a combination of V_2 and its repeated brackets with V_1, and among sums of the parts
    are the explicit five. One field is never enough, as its brackets vanish.

    By the main theorem's argument almost all pairs of quadratic fields then meet the N-point condition at almost all N
    points, for every N: its squared determinants are polynomials in the coefficients that do not vanish at these.

    Args:
        m: the dimension, at least 2.

    Returns:
        A program with count 2 and degree 2; `theory.universal` proves it by its lift.

    Raises:
        ValueError: m < 2, as `five_fields`.
    """
    five = five_fields(m)
    c = five.coefficients.fractions()
    return MonomialProgram(five.exponents, np.array([c[0], c[1] + c[2] + c[3] + c[4]]))


def five_diagonal(m: int) -> tuple[int, ...]:
    """The diagonal of A in `five_fields`: i**2 - mean, scaled to integers without a common factor.

    Raises:
        ValueError: m < 2, as `five_fields`.
    """
    m = index(m)
    if m > _MOST_DIM:
        raise ValueError(f"m is {m}, expected at most {_MOST_DIM}: there are as many monomials, and more")
    if m < 2:
        raise ValueError(
            f"m is {m}, expected m >= 2: on the line the flow of an ODE keeps the order of the points, so that no "
            "family of fields interpolates there"
        )
    # 6 times the mean of the squares 1, 4, .., m**2 is an integer.
    diagonal = [6 * i * i - (m + 1) * (2 * m + 1) for i in range(1, m + 1)]
    factor = math.gcd(*diagonal)
    return tuple(value // factor for value in diagonal)
