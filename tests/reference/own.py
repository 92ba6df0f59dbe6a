"""What has no second source, in JSON values: digests, certificates, the dimensions of brackets, a steering."""

from __future__ import annotations

from typing import Any

import torch

import cde_nets as cn
import theory


def results() -> dict[str, Any]:
    """All of it."""
    fields = cn.PolynomialFields.random(3, 5, 2, seed=0, dtype=torch.float64)
    points, few = _numbers(6, 3), cn.LinearFields.random(3, 4, seed=0, dtype=torch.float64)
    return {
        "draws": {"polynomial": fields.digest(), "linear": few.digest()},
        "certificates": {
            "points": _certificate(theory.check_points(fields, points)),
            "universal": _certificate(theory.universal(fields)),
            # Linear fields generate at most gl(3), of dimension 9: they cannot reach rank 12 at four points.
            "deficient": _certificate(theory.check_points(few, points[:4])),
        },
        "growth": list(theory.growth_vector(fields, points, 4).ranks),
        "steering": _steering(fields),
    }


def _numbers(*shape: int) -> Any:
    drawn = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return (drawn * 128).round() / 256


def _certificate(c: Any) -> dict[str, Any]:
    """What a certificate says, without its random primes."""
    names = ("claim", "proved", "scope", "rank", "full_rank", "depth", "digest", "points_digest", "degree")
    return {name: getattr(c, name) for name in names}


def _steering(fields: cn.Fields) -> dict[str, Any]:
    targets = _numbers(7, 3)[3:]
    found = cn.interpolate(fields, _numbers(4, 3), targets, lam=10.0, steps=24)
    # Not the controls: many carry the points there, and rounding decides among them.
    return {
        "status": found.status.name,
        "residual": found.residual,
        "rank": found.rank,
        "full_rank": found.full_rank,
        "energy": found.energy,
        "lam": found.lam,
    }
