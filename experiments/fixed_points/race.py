"""Naive iteration against Newton and quasi-Newton on a layer z = tanh(W z + x), by work and by time.

Three matrices: Gaussian of norm 1/2, a contraction; symmetric of norm 0.99, eigenvalues on both sides of 0 up to that;
0.99 times an orthogonal matrix, eigenvalues all around the circle. The last is the hard one for methods that know J
only by a few products or differences (no polynomial of low degree is 1 at 1 and small all around a circle that passes
near), and not for Newton with the whole J.

Work is evaluations of f and products with J, each for all rows at once: every step of a method makes equally many. Time
is the clock's after each step, the least of several runs of the same solve, measured in turn with the others.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cde_nets as cn
from experiments.fixed_points.banach import layer
from experiments.fixed_points.solving import NO_RTOL, follow, residuals, thinned, words

DIM, ROWS, REPEATS = 64, 16, 3
ATOL = 1e-10
NEAR = 0.99
METHODS: tuple[Any, ...] = (cn.Picard(), cn.Anderson(), cn.Broyden(), cn.NewtonKrylov(), cn.Newton())


def layers(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """W, shape (DIM, DIM), and x, shape (ROWS, DIM), by the problem's name."""
    symmetric = layer(DIM, ROWS, NEAR, 0.1, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    drawn = torch.randn(DIM, DIM, dtype=torch.float64, generator=generator)
    orthogonal = NEAR * torch.linalg.qr(drawn)[0]
    return {
        "contraction, |W| = 0.5": (0.5 * drawn / torch.linalg.matrix_norm(drawn, 2), 10 * symmetric[1]),
        f"symmetric, |W| = {NEAR:g}": symmetric,
        f"orthogonal, |W| = {NEAR:g}": (orthogonal, symmetric[1]),
    }


def race(problem: str, W: Tensor, x: Tensor, done: Callable[[], None]) -> dict[str, Any]:
    """Every method on one layer: what it took, the residual after each step, and when."""

    def f(z: Tensor) -> Tensor:
        return torch.tanh(z @ W.T + x)

    start = torch.zeros_like(x)
    solved = []
    for method in METHODS:
        # The first solve warms up what the timed ones use.
        solved.append(follow(f, start, method, atol=ATOL))
        done()
    clocks: list[list[list[float]]] = [[] for _ in METHODS]
    for _ in range(REPEATS):
        for taken, method in zip(clocks, METHODS, strict=True):
            taken.append(_timed(f, start, method))
            done()
    rest = solved[-1].value
    derivative = 1 - rest.square()
    # J = diag(1 - z*^2) W, row by row.
    radius = float(torch.linalg.eigvals(derivative[:, :, None] * W).abs().max())
    # Whatever else the machine did meanwhile only adds.
    least: list[list[float]] = [np.min(taken, axis=0).tolist() for taken in clocks]
    rows = [_row(m, s, clock) for m, s, clock in zip(METHODS, solved, least, strict=True)]
    return {"problem": problem, "dim": DIM, "rows": ROWS, "spectral_radius": radius, "atol": ATOL, "solved": rows}


@torch.no_grad()
def _timed(f: Callable[[Tensor], Tensor], start: Tensor, method: Any) -> list[float]:
    """Seconds from the start to the end of each step of a solve, the whole solve last."""
    clock: list[float] = []
    begun = perf_counter()
    cn.solve(
        cn.FixedPointProblem(f, start),
        method,
        tolerance=cn.Tolerance(NO_RTOL, ATOL),
        throw=False,
        progress=lambda _: clock.append(perf_counter() - begun),
    )
    clock.append(perf_counter() - begun)
    return clock


def _row(method: Any, solution: cn.Solution, clock: list[float]) -> dict[str, Any]:
    left = residuals(solution)
    statistics = solution.statistics
    # One evaluation at the start; then the same at every step.
    work = np.linspace(1, statistics.evaluations + statistics.products, len(left))
    kept = thinned(len(left))
    return {
        **words(method, solution),
        "seconds": clock[-1],
        "work": [float(work[k]) for k in kept],
        "residuals": [left[k] for k in kept],
        "clock": [0.0 if k == 0 else clock[k - 1] for k in kept],
    }
