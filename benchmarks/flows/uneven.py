"""Problems whose rows need steps of very different size, with what they are to give.

`cubic` is a controlled polynomial flow in the plane, V_1 = -|x|^2 x and V_2 = (-x_2, x_1), with u constant: in polar
coordinates r(1) = r_0 / sqrt(1 + 2 u_1 r_0^2) and the angle grows by u_2. Starts lie at radii from 0.1 to 10: rates
from 0.01 to 100.

`van der Pol` is x'' = a mu (1 - x^2) x' - b x from (2, 0) with a row's own mu from 0.1 to 10, or to 100,
where the last rows are stiff: there steps are as long as stability lets them be, and a gradient of the steps taken need
not be near that of the flow. mu travels in the state, and (a, b) = (1, 1) are the parameters: as controlled polynomial
fields of degree four, (0, mu (1 - x^2) v, 0) and (0, -x, 0) are driven by a and b, and the third, (v, 0, 0), by 1. Its
reference comes from SciPy's DOP853 at rtol 1e-12, sensitivities included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

import cde_nets as cn
from theory import monomial_exponents

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Uneven:
    """A problem z' = f(z, theta) on [0, end], float64; the loss is the sum of squares of the end states.

    Attributes:
        name: as after --rows.
        field: (z, theta) to z', rows in front, of torch or JAX operations given as the module `xp`.
        z: initial states, shape (rows, dim).
        theta: parameters, shape (2,).
        end: time.
        reference: gives the end states and the gradient of the loss in theta.
        fields: the same field as a family, controlled by theta and by ones for fields beyond.
    """

    name: str
    field: Callable[[Any, Any, Any], Any]
    z: Array
    theta: Array
    end: float
    reference: Callable[[], tuple[Array, Array]]
    fields: cn.PolynomialFields


def problems(rows: int = 64) -> list[Uneven]:
    """All problems."""
    return [cubic(rows), van_der_pol(rows), van_der_pol(rows, 100.0)]


def cubic(rows: int = 64, largest: float = 10.0) -> Uneven:
    """Decay by the cube and rotation."""
    radius, angle = np.geomspace(0.1, largest, rows), np.linspace(0, 2 * math.pi, rows)
    theta = np.array([1.0, 2.0])

    def field(xp: Any, z: Any, theta: Any) -> Any:
        x, y = z[..., 0], z[..., 1]
        square = theta[0] * (x * x + y * y)
        return xp.stack([-square * x - theta[1] * y, -square * y + theta[1] * x], -1)

    def reference() -> tuple[Array, Array]:
        shrunk = 1 + 2 * theta[0] * radius**2
        end, turned = radius / np.sqrt(shrunk), angle + theta[1]
        # d/du_1 sum of r_0^2 / (1 + 2 u_1 r_0^2); turning does not change it.
        gradient = np.array([-(2 * radius**4 / shrunk**2).sum(), 0.0])
        return np.stack([end * np.cos(turned), end * np.sin(turned)], 1), gradient

    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    decay = [(0, (3, 0), -1.0), (0, (1, 2), -1.0), (1, (2, 1), -1.0), (1, (0, 3), -1.0)]
    fields = _polynomials(2, 3, [decay, [(0, (0, 1), -1.0), (1, (1, 0), 1.0)]])
    return Uneven("adaptive-cubic", field, z, theta, 1.0, reference, fields)


def van_der_pol(rows: int = 64, largest: float = 10.0, end: float = 5.0) -> Uneven:
    """The oscillator, from nearly harmonic to stiff."""
    mu, theta = np.geomspace(0.1, largest, rows), np.array([1.0, 1.0])
    z = np.stack([np.full(rows, 2.0), np.zeros(rows), mu], 1)

    def field(xp: Any, z: Any, theta: Any) -> Any:
        x, v, mu = z[..., 0], z[..., 1], z[..., 2]
        return xp.stack([v, theta[0] * mu * (1 - x * x) * v - theta[1] * x, xp.zeros_like(mu)], -1)

    def rate(t: float, packed: Array) -> Array:
        x, v, xa, va, xb, vb = packed.reshape(6, rows)
        across, along = -2 * mu * x * v - 1, mu * (1 - x * x)
        rates = [v, along * v - x]
        for dx, dv, own in ((xa, va, along * v), (xb, vb, -x)):
            rates += [dv, across * dx + along * dv + own]
        return np.concatenate(rates)

    def reference() -> tuple[Array, Array]:
        start = np.concatenate([z[:, 0], z[:, 1], np.zeros(4 * rows)])
        found = solve_ivp(rate, (0.0, end), start, method="DOP853", rtol=1e-12, atol=1e-13)
        if not found.success:
            raise RuntimeError(f"The reference of van der Pol failed: {found.message}")
        x, v, xa, va, xb, vb = found.y[:, -1].reshape(6, rows)
        gradient = np.array([2 * (x * xa + v * va).sum(), 2 * (x * xb + v * vb).sum()])
        return np.stack([x, v, mu], 1), gradient

    # In units of the end's time, as controls live on [0, 1].
    damping = [(1, (0, 1, 1), end), (1, (2, 1, 1), -end)]
    fields = _polynomials(3, 4, [damping, [(1, (1, 0, 0), -end)], [(0, (0, 1, 0), end)]])
    return Uneven(f"adaptive-van-der-pol-{largest:g}", field, z, theta, end, reference, fields)


# A component, exponents, and the coefficient.
Term = tuple[int, tuple[int, ...], float]


def _polynomials(dim: int, degree: int, fields: Sequence[Sequence[Term]]) -> cn.PolynomialFields:
    """Of each field the terms that are not 0."""
    place = {tuple(int(k) for k in row): column for column, row in enumerate(monomial_exponents(dim, degree))}
    coefficients = torch.zeros(len(fields), dim, len(place), dtype=torch.float64)
    for i, terms in enumerate(fields):
        for component, powers, value in terms:
            coefficients[i, component, place[powers]] = value
    return cn.PolynomialFields(coefficients, degree)
