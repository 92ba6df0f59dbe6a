"""What all parts share: one way to solve, one way to write down what a solve was."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cde_nets as cn

# Where the tolerance is absolute: the relative one must be above 0, and is far below rounding.
NO_RTOL = 1e-30
MAX_STEPS = 4096


@torch.no_grad()
def follow(
    f: Callable[..., Tensor],
    z0: Tensor,
    method: Any,
    *,
    atol: float = 1e-12,
    rtol: float = NO_RTOL,
    args: Sequence[Any] = (),
    max_steps: int = MAX_STEPS,
) -> cn.Solution:
    """Solve z = f(z, *args) until |f(z) - z| <= atol + rtol |f(z)| in every row; all steps traced, no gradient.

    Args:
        f: rows to rows.
        z0: shape (rows, numbers), float64.
        method: for rest.
        atol: in the 2-norm of a row.
        rtol: of the image's norm; by default none to speak of.
        args: passed on to f.
        max_steps: when to give up; rows that fail say so in their status.
    """
    problem = cn.FixedPointProblem(f, z0, args=args)
    tolerance, trace = cn.Tolerance(rtol, atol), cn.SaveAt(steps=True)
    return cn.solve(problem, method, tolerance=tolerance, max_steps=max_steps, throw=False, save_at=trace)


def column(*numbers: float) -> Tensor:
    """Rows of one number, float64."""
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def path(solution: cn.Solution) -> Tensor:
    """Every state of a solve that took a step, shape (steps + 1, rows, numbers)."""
    assert solution.trace is not None
    values: Tensor = solution.trace.values
    return values


def residuals(solution: cn.Solution) -> list[float]:
    """The largest residual of any row before each step and after the last."""
    assert solution.trace is not None
    assert solution.trace.residuals is not None
    worst: list[float] = solution.trace.residuals.max(1).values.tolist()
    return worst


def words(method: Any, solution: cn.Solution) -> dict[str, Any]:
    """A solve in words and numbers, as `counts` gives them."""
    return {"method": name(method), "status": sorted(set(solution.words())), **counts(solution.statistics)}


def counts(statistics: cn.Statistics) -> dict[str, Any]:
    """What a solve took, the largest number of any row; null for a residual that is not finite or not there."""
    residual = math.nan if statistics.residual is None else float(statistics.residual.max())
    return {
        "steps": int(statistics.steps.max()),
        "accepted": int(statistics.accepted.max()),
        "rejected": int(statistics.rejected.max()),
        "evaluations": statistics.evaluations,
        "products": statistics.products,
        "residual": residual if math.isfinite(residual) else None,
    }


def name(method: Any) -> str:
    """A method as it is made: with those of its options that are not the default."""
    given = (f"{field.name}={getattr(method, field.name)!r}" for field in fields(method) if _chosen(method, field))
    return f"{type(method).__name__}({', '.join(given)})"


def _chosen(method: Any, field: Field[Any]) -> bool:
    return bool(getattr(method, field.name) != field.default)


def thinned(count: int, kept: int = 60) -> list[int]:
    """At most `kept` of the numbers 0..count-1, the first and the last among them, ever farther apart."""
    if count <= kept:
        return list(range(count))
    picked: list[int] = np.unique(np.geomspace(1, count, kept).round().astype(int) - 1).tolist()
    return picked
