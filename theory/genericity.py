"""How often a random family is certified: the theorem says almost surely, and this counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.effort import fresh_seed
from theory.points import check_points
from theory.reading import read_fields
from theory.universality import universal

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class Generic:
    """The outcome of independent random draws.

    Attributes:
        certified: how many draws were proved.
        trials: of how many.
        low: the lower end of the exact (Clopper and Pearson) confidence interval of the probability.
        high: its upper end.
        confidence: of the interval.
        failures: the seeds of draws that were not proved: `family(seed)` makes them again.
        seed: of all.
    """

    certified: int
    trials: int
    low: float
    high: float
    confidence: float
    failures: tuple[int, ...]
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.certified} of {self.trials} draws certified; probability {self.low:.4f} to {self.high:.4f} with "
            f"confidence {self.confidence:g}"
        )


def generic(
    family: Callable[[int], Any],
    trials: int,
    *,
    points: int | None = None,
    symbols: Sequence[sympy.Symbol] | None = None,
    confidence: float = 0.95,
    seed: int | None = None,
    jobs: int = 1,
) -> Generic:
    """Draw families, certify each, and bound the probability that one is certified.

    A draw that is not certified need not be a counterexample: its rank may be full and not have been found so.

    Args:
        family: a seed -> fields, as `read_fields` takes them; a function that can be pickled where jobs is not 1.
        trials: how many draws.
        symbols: of SymPy expressions.
        points: N standard normal points, drawn anew each time; None asks for universality.
        confidence: of the exact binomial interval.
        seed: of the draws.
        jobs: processes, -1 for as many as there are cores. joblib runs them: within
            `joblib.parallel_config(backend=..)` they may be those of a Dask or Ray cluster.

    Raises:
        ValueError: trials or points below 1, a confidence outside (0, 1).
        TypeError: points that are no number.
    """
    from joblib import Parallel, delayed
    from scipy.stats import binomtest

    if points is not None and not isinstance(points, int):
        raise TypeError(f"points is {points!r}, expected how many are drawn at random, or None for universality")
    if trials < 1 or (points is not None and points < 1):
        raise ValueError(f"trials is {trials} and points {points}, expected at least 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a number between 0 and 1")
    seed = fresh_seed(seed)
    seeds = [int(s.generate_state(1)[0]) for s in np.random.SeedSequence(seed).spawn(trials)]
    proved = Parallel(n_jobs=jobs)(delayed(_certified)(family, s, points, symbols) for s in seeds)
    certified = sum(proved)
    interval = binomtest(certified, trials).proportion_ci(confidence, method="exact")
    return Generic(
        certified,
        trials,
        float(interval.low),
        float(interval.high),
        confidence,
        tuple(s for s, good in zip(seeds, proved, strict=True) if not good),
        seed,
    )


def _certified(
    family: Callable[[int], Any], seed: int, points: int | None, symbols: Sequence[sympy.Symbol] | None
) -> bool:
    program = read_fields(family(seed), symbols)
    if points is None:
        return universal(program, seed=seed).proved
    x = np.random.default_rng([seed, 1]).standard_normal((points, program.dim))
    return check_points(program, x, seed=seed).proved
