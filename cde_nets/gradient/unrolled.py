"""Back-propagation through the iteration itself: all of it, its last steps, or a random number of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from cde_nets.gradient.base import Gradient, Settings
from cde_nets.gradient.rest import check_map_declared, run_rest
from cde_nets.options import options, positive, suggest, within
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.living import healed, stand_in
from cde_nets.solver.method import Method
from cde_nets.solver.solution import Solution
from cde_nets.solver.status import succeeded


@options
class Unrolled(Gradient):
    """Back-propagation through every step (BPTT): exact for the steps taken, with the memory of all of them.

    The start gets a gradient too. Differentiable to any order. Take it with `Picard`: where Anderson's or Broyden's
    steps wander before they come to rest, so does their derivative, which may then be many orders of magnitude off the
    rest point's.
    """

    solves: ClassVar[tuple[str, ...]] = ("rest", "linear")

    def solve(self, problem: FixedPointProblem | LinearProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`."""
        problem = problem.counted()
        iterate, solution = run_rest(problem, method, settings)
        known = problem.leaves if isinstance(problem, FixedPointProblem) else ()
        wanting = [leaf for leaf in known if leaf.requires_grad]
        if iterate.value.requires_grad or not wanting or not torch.is_grad_enabled():
            return solution
        # The start was at rest: no step was taken, and the gradient is zero, not missing.
        value = iterate.value + sum(leaf.flatten()[:0].sum().real for leaf in wanting)
        return solution.differentiable(problem.packing.unpack(value))


@options
class Truncated(Gradient):
    """Back-propagation through K more applications of f to the rest point found (TBPTT); inexact.

    The gradient has the K terms sum_{k<K} (J^T)^k of the Neumann series, and so misses the exact one by at most
    q^K / (1 - q) of the cotangent's size where |J| <= q < 1 (Liao et al., "Reviving and improving recurrent
    back-propagation", 2018: equal to Neumann(K - 1) at rest).

    Args:
        steps: K.

    Raises:
        ValueError: steps below 1.
    """

    solves: ClassVar[tuple[str, ...]] = ("rest",)

    steps: int

    def __post_init__(self) -> None:
        """Check the number of steps."""
        positive("steps", self.steps)

    def solve(self, problem: FixedPointProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`."""
        return _last_steps(problem, method, settings, [1.0] * self.steps)


@options
class RandomlyTruncated(Gradient):
    """Back-propagation through a random number K of applications, reweighted so that its mean is exact (ARTBP).

    K is drawn from 1..horizon, one for all rows; term k of the series is divided by P(K > k), so that the expectation
    is that of `Truncated(horizon)`, at the price of variance (Tallec and Ollivier, "Unbiasing truncated
    backpropagation through time", 2017, with one truncation as in Liao et al., 2018).

    Args:
        horizon: the largest K.
        distribution: "uniform", or "poisson": K - 1 Poisson distributed and cut off at the horizon; or a number for
            each K from 1 to the horizon, to which its probability is proportional.
        mean: of the Poisson distribution before it is cut off.
        generator: where K is drawn from; torch's global one on the CPU where None.

    Raises:
        ValueError: a horizon below 1, a mean that is not above 0, an unknown distribution, numbers that are not as many
            as the horizon, below 0, not finite, or 0 for the horizon itself, whose term nothing then could stand for.
    """

    solves: ClassVar[tuple[str, ...]] = ("rest",)

    horizon: int
    distribution: str | Sequence[float] = "uniform"
    mean: float = 5.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Check all."""
        positive("horizon", self.horizon)
        within("mean", self.mean, 0)
        if isinstance(self.distribution, list | tuple):
            if len(self.distribution) != self.horizon:
                raise ValueError(
                    f"distribution must have a number for each K up to the horizon, {self.horizon}; "
                    f"got {len(self.distribution)}."
                )
            for value in self.distribution:
                within("A number of the distribution", value, 0, closed=True)
            within("The distribution's last number", self.distribution[-1], 0)
        elif self.distribution not in ("uniform", "poisson"):
            raise ValueError(
                f"Unknown distribution {self.distribution!r}{suggest(self.distribution, ('uniform', 'poisson'))}"
            )

    def probabilities(self) -> Tensor:
        """P(K = 1), .., P(K = horizon), float64."""
        if not isinstance(self.distribution, str):
            given = torch.tensor(self.distribution, dtype=torch.float64, device="cpu")
            # Divided twice: a sum of large numbers may not be finite.
            shares = given / given.max()
            return shares / shares.sum()
        k = torch.arange(self.horizon, dtype=torch.float64, device="cpu")
        if self.distribution == "uniform":
            return torch.full_like(k, 1 / self.horizon)
        return torch.softmax(k * math.log(self.mean) - torch.lgamma(k + 1), 0)

    def solve(self, problem: FixedPointProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`."""
        probabilities = self.probabilities()
        steps = 1 + int(torch.multinomial(probabilities, 1, generator=self.generator))
        # P(K > k) for k = 0, 1, ..: the first is 1.
        beyond = probabilities.flip(0).cumsum(0).flip(0).tolist()
        weights = [1.0, *(before / after for before, after in pairwise(beyond[:steps]))]
        return _last_steps(problem, method, settings, weights)


def _last_steps(problem: FixedPointProblem, method: Method, settings: Settings, weights: list[float]) -> Solution:
    """Apply f once for each weight to the rest point; weights[k] multiplies what reaches term k and those after it."""
    problem = problem.counted()
    if torch.is_grad_enabled():
        # What is differentiated is evaluated only once.
        check_map_declared(problem, problem.packed(), repeated=False)
    with torch.no_grad():
        iterate, solution = run_rest(problem, method, settings)
    if not torch.is_grad_enabled():
        return solution
    alive = succeeded(iterate.status)[:, None]
    leaves = [_Gated.apply(leaf, alive.any()) for leaf in problem.leaves]  # type: ignore[no-untyped-call]
    # Rows that failed stand where a living row stands: what they give is masked at the end.
    z = rest = stand_in(iterate.value, alive[:, 0])
    seen = problem.map
    problem = problem.on(healed(leaves, alive[:, 0], lambda leaves: seen.on(leaves)(rest)))
    for weight in reversed(weights):
        z = problem.value(z)
        z = z if weight == 1 else _Scaled.apply(z, weight)  # type: ignore[no-untyped-call]
    return solution.differentiable(problem.packing.unpack(torch.where(alive, z, iterate.value)))


class _Gated(torch.autograd.Function):
    """The identity, whose cotangent is zero where no row lives: then none can stand in for the others."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, some: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (some,) = ctx.saved_tensors
        return torch.where(some, g, 0.0), None


class _Scaled(torch.autograd.Function):
    """The identity, whose cotangent is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * g, None
