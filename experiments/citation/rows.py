"""The rows of Table A3: how each differentiates a state that is 100 steps old.

GMRES is added, and TPoisson-ARTBP without what makes it right in the mean.

All rows take the same number of steps forward. `Truncated(K)` and `RandomlyTruncated` go on for K steps from where the
forward method stopped, so that it stops K steps earlier for them. The rows that look at one state alone, as if it were
at rest, linearise at the last but one, as the paper's code does: with no term but the first their gradient is then that
through the last step. The loss is that of the last state, and at rest both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import brentq
from scipy.special import gammaln, logsumexp
from torch import Tensor

import cde_nets as cn


@dataclass(frozen=True)
class Way:
    """How one epoch goes there and back.

    Attributes:
        steps: of the forward method.
        gradient: the way back.
        beyond: steps after these that change the state's value alone: the loss's slope in it goes back from where it
            stood before them.
    """

    steps: int
    gradient: cn.Gradient
    beyond: int = 0


@dataclass(frozen=True)
class Numbers:
    """What rows are made from.

    Attributes:
        steps: of the state, 100.
        truncation: 5.
        products: the most with J^T that GMRES may take.
        shape: of the state, without runs.
        dtype: of the state.
        device: of the state.
    """

    steps: int
    truncation: int
    products: int
    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device


# One generator a run.
Generators = Sequence[torch.Generator]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        title: in the table.
        way: of one epoch; None where there is no recurrent network.
        cost: of an epoch in forward passes, roughly: of use to the progress bar alone.
        alone: runs draw numbers that a batch would share, and so are done one by one.
        double: in float64.
    """

    title: str
    way: Callable[[Numbers, Generators], Way] | None
    cost: float
    alone: bool = False
    double: bool = False


def _bptt(numbers: Numbers, generators: Generators) -> Way:
    return Way(numbers.steps, cn.Unrolled())


def _tbptt(numbers: Numbers, generators: Generators) -> Way:
    return Way(numbers.steps - numbers.truncation, cn.Truncated(numbers.truncation))


def _uniform(numbers: Numbers, generators: Generators) -> Way:
    return _random(numbers, cn.RandomlyTruncated(numbers.steps - 1, "uniform", generator=generators[0]))


def _poisson(numbers: Numbers, generators: Generators) -> Way:
    return _random(numbers, _at_poisson(numbers, generators))


def _poisson_alone(numbers: Numbers, generators: Generators) -> Way:
    """The same K, and no term divided by the chance that it is looked at: TBPTT of random depth, biased as that is."""
    steps = _drawn(_at_poisson(numbers, generators))
    return Way(numbers.steps - steps, cn.Truncated(steps))


def _at_poisson(numbers: Numbers, generators: Generators) -> cn.RandomlyTruncated:
    # The step before which nothing is looked at is Poisson distributed and cut off to 1, .., 99, with the mean 95.
    at = truncated_poisson(numbers.steps - 1, numbers.steps - numbers.truncation)
    return cn.RandomlyTruncated(numbers.steps - 1, tuple(at[::-1]), generator=generators[0])


@cache
def truncated_poisson(last: int, mean: float) -> list[float]:
    """Chances of 1, .., last for a Poisson distributed number that is one of them and has this mean."""
    numbers = np.arange(1, last + 1)

    def chances(rate: float) -> npt.NDArray[np.float64]:
        weights = numbers * math.log(rate) - gammaln(numbers + 1)
        return np.exp(weights - logsumexp(weights))  # type: ignore[no-any-return]

    rate = brentq(lambda rate: chances(rate) @ numbers - mean, 1e-3, 1e3 * last)
    return chances(rate).tolist()  # type: ignore[no-any-return]


def _random(numbers: Numbers, gradient: cn.RandomlyTruncated) -> Way:
    """Look at the K that the gradient is about to draw, and stop K steps earlier. K is at most 99, as a solve steps."""
    assert gradient.generator is not None
    state = gradient.generator.get_state()
    steps = _drawn(gradient)
    gradient.generator.set_state(state)
    return Way(numbers.steps - steps, gradient)


def _drawn(gradient: cn.RandomlyTruncated) -> int:
    return 1 + int(torch.multinomial(gradient.probabilities(), 1, generator=gradient.generator))


def _at_one_state(numbers: Numbers, gradient: cn.Implicit) -> Way:
    return Way(numbers.steps - 1, gradient, beyond=1)


def _rbp(numbers: Numbers, generators: Generators) -> Way:
    start = torch.stack([_uniformly(numbers, generator) for generator in generators])
    return _at_one_state(numbers, cn.Implicit(cn.RBP(start, numbers.truncation)))


def _uniformly(numbers: Numbers, generator: torch.Generator) -> Tensor:
    return torch.rand(numbers.shape, generator=generator, dtype=numbers.dtype).to(numbers.device)


def _cg(numbers: Numbers, generators: Generators) -> Way:
    # No tolerance ends it before its steps.
    method = cn.AtMost(cn.CG(), numbers.truncation)
    return _at_one_state(numbers, cn.Implicit(method, tolerance=cn.Tolerance(1e-30, 1e-30)))


def _neumann(numbers: Numbers, generators: Generators) -> Way:
    return _at_one_state(numbers, cn.Implicit(cn.Neumann(numbers.truncation)))


def _gmres(numbers: Numbers, generators: Generators) -> Way:
    tolerance = cn.Tolerance(rtol=1e-10, atol=1e-30)
    method = cn.GMRES(restart=GMRES_RESTART)
    return _at_one_state(numbers, cn.Implicit(method, tolerance=tolerance, max_steps=numbers.products))


GMRES_RESTART = 50

ROWS = {
    "baseline": Row("Baseline", None, 0.01),
    "bptt": Row("BPTT", _bptt, 4.0),
    "tbptt": Row("TBPTT", _tbptt, 1.2),
    "uniform-artbp": Row("Uniform-ARTBP", _uniform, 2.5, alone=True),
    "poisson-artbp": Row("TPoisson-ARTBP", _poisson, 1.2, alone=True),
    "poisson-tbptt": Row("TPoisson, undivided", _poisson_alone, 1.2, alone=True),
    "rbp": Row("RBP", _rbp, 1.2),
    "cg-rbp": Row("CG-RBP", _cg, 1.3),
    "neumann-rbp": Row("Neumann-RBP", _neumann, 1.2),
    "gmres": Row("GMRES to 1e-10", _gmres, 4.0, double=True),
}
