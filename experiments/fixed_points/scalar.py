"""Maps of the line: the golden ratio, a pole on the way, square roots by currying, and a layer that oscillates.

x = 1 + 1/x and x = 1/(x - 1) are both x^2 - x - 1 = 0, with the roots phi = 1.618.. and 1 - phi = -0.618... The first
map attracts to phi (slope -1/phi^2 = -0.38), the second repels there (slope -phi^2 = -2.62) and attracts to 1 - phi.
From 1.6 the second meets its pole in exact arithmetic: 8/5, 5/3, 3/2, 2, 1, and 1/(1 - 1) is not a number. Floats miss
the pole by rounding and land on the other side, on their way to 1 - phi. That is no accident: in homogeneous
coordinates x = p/q the map is (p, q) -> (q, p - q), which is exact in integers and knows no pole. It passes through
1/0, comes back as 0/1, -1/1, and has the same limit. From 2 floats are exact and the solve ends DIVERGED at 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import cde_nets as cn
from experiments.fixed_points.solving import column, follow, path, words

PHI = (1 + math.sqrt(5)) / 2
# What lecture notes print for x_5 of the golden ratio from 2: it is 1 + 1/1.625 = 1.615384615..
MISPRINT = 1.612538462
ATOL = 1e-14
RADICANDS = (0.25, 2.0, 9.0, 1e6)
# z = tanh(WEIGHT z + INPUT).
WEIGHT, INPUT = -2.0, 0.5
PROJECTIVE_STEPS = 40


def golden(x: Tensor) -> Tensor:
    """1 + 1/x."""
    return 1 + 1 / x


def rearranged(x: Tensor) -> Tensor:
    """1/(x - 1)."""
    return 1 / (x - 1)


def projective(pair: Tensor) -> Tensor:
    """1/(x - 1) of x = p/q, rows (p, q): (q, p - q)."""
    p, q = pair.unbind(1)
    return torch.stack([q, p - q], 1)


def heron(u: Tensor, x: Tensor) -> Tensor:
    """F(x, u) = (u + x/u)/2; with x held fixed T(u), whose fixed point is the square root of x."""
    return (u + x / u) / 2


def neuron(z: Tensor) -> Tensor:
    """The layer tanh(w z + x) with one number."""
    return torch.tanh(WEIGHT * z + INPUT)


def slope(f: Callable[[Tensor], Tensor], x: float) -> float:
    """f'(x), by autodiff."""
    return float(torch.func.jvp(f, (column(x),), (column(1.0),))[1])


def golden_ratio() -> dict[str, Any]:
    """The map 1 + 1/x from 2."""
    method = cn.Picard()
    found = follow(golden, column(2.0), method, atol=ATOL)
    iterates = path(found).flatten().tolist()
    return {
        **words(method, found),
        "iterates": iterates,
        "value": float(found.value),
        "x_5": iterates[5],
        "x_5_misprinted_as": MISPRINT,
        "slope": slope(golden, float(found.value)),
    }


def pole() -> dict[str, Any]:
    """The map 1/(x - 1): from 1.6 in floats, from 8/5 in integers, from 2 in floats, which are exact there."""
    picard, newton = cn.Picard(), cn.Newton()
    floats = follow(rearranged, column(1.6), picard, atol=ATOL)
    start = torch.tensor([[8.0, 5.0]], dtype=torch.float64)
    # A state that grows as Fibonacci's numbers never rests, while its ratio does.
    integers = follow(projective, start, picard, atol=ATOL, max_steps=PROJECTIVE_STEPS)
    pairs = path(integers)[:, 0].to(torch.int64).tolist()
    met = follow(rearranged, column(2.0), picard, atol=ATOL)
    repelled = follow(rearranged, column(1.6), newton, atol=ATOL)
    return {
        "from_1.6": {
            **words(picard, floats),
            "iterates": path(floats).flatten().tolist(),
            "value": float(floats.value),
            "slope": slope(rearranged, float(floats.value)),
        },
        "from_8/5_in_integers": {
            **words(picard, integers),
            "pairs": pairs,
            "pole_after_steps": next(k for k, (p, q) in enumerate(pairs) if p == q),
            "ratio": pairs[-1][0] / pairs[-1][1],
        },
        "from_2": {**words(picard, met), "iterates": path(met).flatten().tolist(), "value": float(met.value)},
        "newton_from_1.6": {
            **words(newton, repelled),
            "value": float(repelled.value),
            "slope": slope(rearranged, float(repelled.value)),
        },
    }


def square_roots() -> dict[str, Any]:
    """Square roots of RADICANDS in one batch from 1, and their derivatives by the implicit function theorem."""
    x, method = column(*RADICANDS), cn.Picard()
    start = torch.ones_like(x)
    found = follow(heron, start, method, rtol=ATOL, args=(x,))
    wanting = x.clone().requires_grad_()
    roots = cn.solve(cn.FixedPointProblem(heron, start, args=(wanting,)), method).value
    (derivatives,) = torch.autograd.grad(roots.sum(), wanting)
    return {
        **words(method, found),
        "radicands": list(RADICANDS),
        "values": found.value.flatten().tolist(),
        "steps": found.statistics.accepted.tolist(),
        "iterates": path(found)[:, :, 0].T.tolist(),
        "derivatives": derivatives.flatten().tolist(),
    }


def oscillation() -> list[dict[str, Any]]:
    """The layer from 0: back and forth by Picard, at rest by damping, Newton and the secant."""
    rows = []
    for method, most in ((cn.Picard(), 60), (cn.Picard(0.5), 60), (cn.Newton(), 60), (cn.Anderson(), 60)):
        found = follow(neuron, column(0.0), method, atol=ATOL, max_steps=most)
        value = float(found.value)
        iterates = path(found).flatten().tolist()
        rows.append({**words(method, found), "value": value, "slope": slope(neuron, value), "iterates": iterates})
    return rows
