"""Random polynomial fields that are tangent to every sphere about the origin, exactly, and still plain polynomials."""

from __future__ import annotations

import math

import numpy as np
import torch

from cde_nets.fields import PolynomialFields, draw
from theory import monomial_count, monomial_exponents

# Entries are multiples of this, so that sums of a few of them are exact in float32, too.
GRID = 2.0**-20
# Coefficients of a family: 2 GiB of them in float64.
MOST = 2**28


def tangent_fields(dim: int, count: int, degree: int, *, seed: int, dtype: torch.dtype) -> PolynomialFields:
    """V_i(x) = S_i(x) x with S_i(x) = sum over |a| < degree of x^a T_ia, every T_ia skew-symmetric and random.

    <x, V_i(x)> vanishes as a polynomial, in the very coefficients that run, so that flows keep |x| and cannot blow up;
    and where projected fields (`SphericalFields`) are rational, these go through the kernels for polynomials. T_ia has
    iid normal entries with variance in proportion to the multinomial coefficient of a, which makes the distribution
    invariant under rotations, and scaled so that each degree has an equal part of E|V_i(x)|^2 = |x|^2 on the sphere
    of radius sqrt(dim).

    Args:
        dim: m >= 2.
        count: d.
        degree: k >= 1; 1 is a family of rotations.
        seed: of the entries.
        dtype: of the coefficients; they are the same numbers in float32 and float64.

    Raises:
        ValueError: more coefficients than a machine is likely to hold.
    """
    numbers = count * dim * monomial_count(dim, degree)
    if numbers > MOST:
        raise ValueError(
            f"{count} fields of degree {degree} on R^{dim} have {numbers:,} coefficients, more than {MOST:,}: take a "
            "smaller dim, count or degree. The features' principal components are taken where there are more than fit."
        )
    exponents = monomial_exponents(dim, degree)
    place = {tuple(row): n for n, row in enumerate(exponents.tolist())}
    coefficients = np.zeros((count, dim, len(exponents)))
    rng = draw.generator(seed)
    for below in exponents[exponents.sum(1) < degree].tolist():
        r = sum(below)
        multinomial = math.factorial(r) / math.prod(map(math.factorial, below))
        scale = math.sqrt(multinomial / (degree * (dim - 1) * float(dim) ** r))
        upper = np.triu(np.round(scale * rng.standard_normal((count, dim, dim)) / GRID) * GRID, 1)
        skew = upper - upper.swapaxes(1, 2)
        for k in range(dim):
            above = [*below]
            above[k] += 1
            coefficients[:, :, place[tuple(above)]] += skew[:, :, k]
    return PolynomialFields(torch.from_numpy(coefficients).to(dtype), degree)
