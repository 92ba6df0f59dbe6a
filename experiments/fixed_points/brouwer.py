"""Brouwer: every continuous map of a disc to itself has a fixed point; whether iterating finds it is another matter.

The map is a rotation by an angle that shrinks by s < 1, then a bend,

    f(z) = B(s R z),   B(u) = u + b (1 - |u|^2) e,   |e| = 1, 0 < b <= 1/2,

continuous from the unit disc to itself: |B(u)| <= |u| + b (1 - |u|)(1 + |u|) <= |u| + (1 - |u|) = 1. So there is a
fixed point. But the bend turns it into a repeller, |eigenvalues of J| > 1: Picard's iterates wind away from it and
round a closed curve for ever. Newton and Anderson go there.

A rotation about a point is the boundary of Banach's theorem, q = 1: Picard keeps its distance for ever, damping (half
way to the image) comes to rest, Newton and Anderson need next to nothing, for the map is affine.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import cde_nets as cn
from experiments.fixed_points.solving import follow, path, words

SHRINK, ANGLE, BEND = 0.96, 1.2, 0.45
TURN, CENTRE = 1.0, (0.3, 0.2)
START = ((-0.55, 0.35),)
ATOL = 1e-13
ROUNDS = 250
# Digits of iterates that are only drawn.
DRAWN = 6


def turned(z: Tensor, angle: float) -> Tensor:
    """Rows rotated anticlockwise, shape (rows, 2)."""
    c, s = math.cos(angle), math.sin(angle)
    return z @ torch.tensor([[c, s], [-s, c]], dtype=z.dtype)


def bent(z: Tensor) -> Tensor:
    """The unit disc into itself: shrunk, rotated, bent along the first axis; shape (rows, 2)."""
    u = SHRINK * turned(z, ANGLE)
    push = BEND * (1 - u.square().sum(1))
    return u + torch.stack([push, torch.zeros_like(push)], 1)


def rotation(z: Tensor) -> Tensor:
    """About CENTRE by TURN, shape (rows, 2)."""
    centre = torch.tensor(CENTRE, dtype=z.dtype)
    return centre + turned(z - centre, TURN)


def disc() -> dict[str, Any]:
    """The bent disc's fixed point, how it repels, and where Picard goes instead."""
    return {"shrink": SHRINK, "angle": ANGLE, "bend": BEND, **_solved(bent, (cn.Picard(), cn.Newton(), cn.Anderson()))}


def circling() -> dict[str, Any]:
    """The rotation, likewise, and with damping."""
    methods = (cn.Picard(), cn.Picard(0.5), cn.Newton(), cn.Anderson())
    return {"turn": TURN, "centre": list(CENTRE), **_solved(rotation, methods)}


def _solved(f: Any, methods: tuple[Any, ...]) -> dict[str, Any]:
    start = torch.tensor(START, dtype=torch.float64)
    rest = follow(f, start, cn.Newton(), atol=ATOL).value
    jacobian = torch.func.jacrev(lambda z: f(z[None])[0])(rest[0])
    sizes = torch.linalg.eigvals(jacobian).abs()
    rows = []
    for method in methods:
        found = follow(f, start, method, atol=ATOL, max_steps=ROUNDS)
        away = (path(found)[:, 0] - rest[0]).norm(dim=1)
        # Of what goes on for ever, after the first half.
        late = away[len(away) // 2 :]
        span = [float(late.min()), float(late.max())] if not bool(found.succeeded.all()) else None
        rows.append(
            {
                **words(method, found),
                "value": found.value[0].tolist(),
                "distances_kept": span,
                "iterates": path(found)[:, 0].numpy().round(DRAWN).tolist(),
            }
        )
    return {"fixed_point": rest[0].tolist(), "spectral_radius": float(sizes.max()), "solved": rows}
