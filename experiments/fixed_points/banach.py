"""Banach: a contraction's steps, predicted from the first one.

With |f(x) - f(y)| <= q |x - y|, q < 1, Picard's iterates obey |z_k - z*| <= q^k / (1 - q) |z_1 - z_0|, and so

    k >= log(tol (1 - q) / |z_1 - z_0|) / log q

steps are enough for |z_k - z*| <= tol. The same number is enough for a solver that can see no z*: by
|z_k - z*| <= |f(z_k) - z_k| / (1 - q) it stops, with that guarantee, at the residual tol (1 - q).

Two q are used: a Lipschitz constant proved beforehand, and the largest ratio of successive steps seen over the run. The
second is no proof (it looks back), yet along the run the bound with it holds: |z_k - z*| is at most the sum of the
steps still to come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import cde_nets as cn
from experiments.fixed_points.scalar import golden
from experiments.fixed_points.solving import column, follow, path, residuals, words

TOLERANCES = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)
# Above rounding, or the ratios of successive steps are noise.
RUN_TO = 1e-13
DIM, NORM, INPUT = 32, 0.9, 0.1


@dataclass(frozen=True)
class Contraction:
    """A map with a proved Lipschitz constant.

    Attributes:
        name: in words.
        f: rows to rows.
        z0: one row.
        q: the constant, below 1, on a set that f maps into itself.
        why: how it is proved.
    """

    name: str
    f: Callable[[Tensor], Tensor]
    z0: Tensor
    q: float
    why: str


def contractions(seed: int) -> tuple[Contraction, Contraction]:
    """The golden ratio's map, and a layer z = tanh(W z + x) with symmetric W of norm 0.9."""
    W, x = layer(DIM, 1, NORM, INPUT, seed)
    return (
        Contraction("1 + 1/x", golden, column(2.0), 4 / 9, "|f'| = 1/x^2 on [3/2, 2], which f maps into itself"),
        Contraction(
            "tanh(W z + x)", lambda z: torch.tanh(z @ W.T + x), torch.zeros_like(x), NORM, "|tanh'| <= 1 and |W|_2"
        ),
    )


def layer(dim: int, rows: int, norm: float, scale: float, seed: int) -> tuple[Tensor, Tensor]:
    """A symmetric W of given 2-norm, shape (dim, dim), and inputs N(0, scale^2), shape (rows, dim); float64."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(dim, dim, dtype=torch.float64, generator=generator)
    W = drawn + drawn.T
    x = scale * torch.randn(rows, dim, dtype=torch.float64, generator=generator)
    return W * (norm / torch.linalg.matrix_norm(W, 2)), x


def measure(case: Contraction) -> dict[str, Any]:
    """The run, and for each tolerance the steps predicted and taken."""
    method = cn.Picard()
    run = follow(case.f, case.z0, method, atol=RUN_TO)
    rest = follow(case.f, run.value, cn.Newton(), atol=1e-15, max_steps=20).value
    errors = (path(run) - rest).norm(dim=2)[:, 0].tolist()
    # Picard's residuals are the lengths of its steps.
    steps = residuals(run)
    ratios = [after / before for before, after in pairwise(steps)]
    seen = max(ratios)
    rows = []
    for tol in TOLERANCES:
        guaranteed = follow(case.f, case.z0, method, atol=tol * (1 - case.q))
        rows.append(
            {
                "tolerance": tol,
                "predicted_by_proved_q": predicted(steps[0], case.q, tol),
                "predicted_by_seen_q": predicted(steps[0], seen, tol),
                "taken_to_guarantee": int(guaranteed.statistics.accepted.max()),
                "taken": next(k for k, error in enumerate(errors) if error <= tol),
            }
        )
    return {
        "map": case.name,
        **words(method, run),
        "q_proved": case.q,
        "q_proved_by": case.why,
        "q_seen": seen,
        "q_last": ratios[-1],
        "first_step": steps[0],
        "errors": errors,
        "tolerances": rows,
    }


def bound(first: float, q: float, k: int) -> float:
    """What |z_k - z*| is at most, where the first step has the length `first`."""
    return first * q**k / (1 - q)


def predicted(first: float, q: float, tol: float) -> int:
    """The least k with `bound(first, q, k) <= tol`."""
    return max(0, math.ceil(math.log(tol * (1 - q) / first) / math.log(q)))
