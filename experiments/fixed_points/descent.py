"""Gradient descent as a fixed point of f(w) = w - eta grad L(w), and its bound drawn over the run.

For convex L with a gradient of Lipschitz constant S and eta <= 1/S (Beck and Teboulle, A fast iterative
shrinkage-thresholding algorithm, SIAM J. Imaging Sci. 2, 2009, theorem 3.1 without its second term)

    L(w_k) - L(w*) <= |w_0 - w*|^2 / (2 eta k).

Picard's iteration of f is gradient descent; its fixed points are the minima whatever eta is, so that any method for
rest may look for them. Anderson's acceleration sees the same f and the same evaluations, and needs far fewer. It does
not descend, though, and has no such bound: of few samples it can run away for good. Each method's distance from the
minimiser says where it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import cde_nets as cn
from experiments.fixed_points.solving import follow, path, residuals, thinned, words

# Of |eta grad L|.
ATOL = 1e-9
QUADRATIC_DIM, CONDITION = 30, 60.0
SAMPLES, FEATURES = 200, 8


@dataclass(frozen=True)
class Objective:
    """A convex function with a smooth gradient.

    Attributes:
        name: in words.
        loss: L of rows of weights, shape (rows, dim), as (rows,).
        smoothness: the gradient's Lipschitz constant S.
        start: w_0, shape (1, dim).
    """

    name: str
    loss: Callable[[Tensor], Tensor]
    smoothness: float
    start: Tensor

    @property
    def eta(self) -> float:
        """The step 1/S."""
        return 1 / self.smoothness

    def descend(self, w: Tensor) -> Tensor:
        """W - eta grad L(w), by autodiff, every row by itself."""
        gradient: Tensor = torch.func.grad(lambda rows: self.loss(rows).sum())(w)
        return w - self.eta * gradient


def quadratic() -> Objective:
    """L(w) = 1/2 sum_i s_i (w_i - 1)^2 with curvatures s_i from 1/60 to 1, from 0."""
    curvatures = torch.logspace(0, -1, QUADRATIC_DIM, base=CONDITION, dtype=torch.float64)
    start = torch.zeros(1, QUADRATIC_DIM, dtype=torch.float64)
    return Objective("quadratic", lambda w: (curvatures * (w - 1).square()).sum(1) / 2, 1.0, start)


def logistic(seed: int) -> Objective:
    """The cross-entropy of logistic regression on drawn labels, S = |X^T X|_2 / (4 samples), from 0."""
    X, labels = samples(seed)

    def loss(w: Tensor) -> Tensor:
        scores = w @ X.T
        return (torch.nn.functional.softplus(scores) - labels * scores).mean(1)

    smoothness = float(torch.linalg.matrix_norm(X, 2)) ** 2 / (4 * SAMPLES)
    return Objective("logistic", loss, smoothness, torch.zeros(1, FEATURES, dtype=torch.float64))


def samples(seed: int) -> tuple[Tensor, Tensor]:
    """Features of unequal scale, shape (samples, features), and labels 0 or 1 drawn by a logistic model's odds."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, -0.75, FEATURES, dtype=torch.float64)
    X = scales * torch.randn(SAMPLES, FEATURES, dtype=torch.float64, generator=generator)
    true = torch.randn(FEATURES, dtype=torch.float64, generator=generator)
    odds = torch.rand(SAMPLES, dtype=torch.float64, generator=generator)
    return X, (odds < torch.sigmoid(X @ true)).to(torch.float64)


def measure(objective: Objective) -> dict[str, Any]:
    """Gradient descent under its bound, and the other methods on the same map."""
    f, start = objective.descend, objective.start
    methods = (cn.Picard(), cn.Anderson(), cn.Broyden(), cn.Newton())
    solved = [follow(f, start, method, atol=ATOL) for method in methods]
    best = follow(f, start, cn.Newton(), atol=1e-14).value
    least = float(objective.loss(best))
    iterates = path(solved[0])[:, 0]
    # Differences of losses are rounding where they are below it.
    gaps = (objective.loss(iterates) - least).tolist()
    distance = float((start - best).square().sum())
    bounds = [distance / (2 * objective.eta * k) for k in range(1, len(gaps))]
    kept = [k for k in thinned(len(gaps)) if k > 0]
    return {
        "objective": objective.name,
        "smoothness": objective.smoothness,
        "eta": objective.eta,
        "minimum": least,
        "minimiser": best[0].tolist(),
        "distance_squared": distance,
        "k": kept,
        "gaps": [gaps[k] for k in kept],
        "bounds": [bounds[k - 1] for k in kept],
        "largest_gap_over_bound": max(gap / limit for gap, limit in zip(gaps[1:], bounds, strict=True)),
        "solved": [
            {**words(method, found), "distance_to_minimiser": float((found.value - best).norm())}
            for method, found in zip(methods, solved, strict=True)
        ],
        "anderson_residuals": residuals(solved[1]),
        "anderson_gaps": (objective.loss(path(solved[1])[:, 0]) - least).tolist(),
    }
