"""Growth vectors: how much brackets of each depth span at given points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from theory.bounds import Bound, by_depth
from theory.effort import fresh_seed
from theory.exact import ExactArray, exact_array
from theory.nested import nested_brackets
from theory.primes import modulo_some_prime
from theory.program import Program
from theory.reading import read_fields
from theory.rowspace import Residues, RowSpace, centred

if TYPE_CHECKING:
    import sympy

# Random draws in a row that raise no rank, before the ranks are taken for what they are.
_PATIENCE = 3


@dataclass(frozen=True)
class Growth:
    """Ranks by depth: ranks[n - 1] is that of all brackets of depth at most n, stacked over the points.

    Each is a proved lower bound over the rationals, found modulo a random prime, and with high probability the value.

    Attributes:
        ranks: by depth 1, 2, ..
        bounds: what each cannot exceed (see `theory.bounds`): where it is equal, it is the value.
        full_rank: m N; (m - 1) N where fields are tangent to spheres.
        dim: m.
        points: N.
        prime: the modulus.
        draws: how many random choices of directions were taken.
        seed: of prime and directions.
    """

    ranks: tuple[int, ...]
    bounds: tuple[Bound, ...]
    full_rank: int
    dim: int
    points: int
    prime: int
    draws: int
    seed: int

    @property
    def known(self) -> tuple[bool, ...]:
        """Which of the ranks are values, and not lower bounds alone."""
        return tuple(rank == bound.rank for rank, bound in zip(self.ranks, self.bounds, strict=True))

    def __str__(self) -> str:
        said = [str(rank) if known else f">={rank}" for rank, known in zip(self.ranks, self.known, strict=True)]
        return f"{', '.join(said)} of {self.full_rank} (modulo {self.prime}, {self.draws} draws)"


def growth_vector(
    fields: Any,
    points: npt.ArrayLike | ExactArray,
    max_depth: int,
    *,
    symbols: Sequence[sympy.Symbol] | None = None,
    seed: int | None = None,
) -> Growth:
    """The ranks of brackets of depth 1, 2, .. at N points, until they are full or max_depth is reached.

    Brackets are nested with random combinations of the fields: see `theory.nested.nested_brackets`.

    Args:
        fields: as `theory.reading.read_fields`.
        points: (N, m) numbers.
        max_depth: the largest depth, up to 10: work grows as 3**depth.
        symbols: of SymPy expressions.
        seed: of prime and directions.

    Returns:
        Ranks, each a lower bound that is proved; the last depths may be cut where the rank is full.

    Raises:
        ValueError: max_depth outside 1..10; points and fields as `theory.check_points`, but points may coincide.
    """
    program = read_fields(fields, symbols)
    x = exact_array(points, "points")
    if len(x.shape) != 2 or x.shape[1] != program.dim or not x.shape[0]:
        raise ValueError(f"points have shape {x.shape}, expected (N, {program.dim}) with N >= 1")
    if not 1 <= max_depth <= 10:
        raise ValueError(f"max_depth is {max_depth}, expected 1 to 10: work grows as 3**depth")
    seed = fresh_seed(seed)
    rng = np.random.default_rng(seed)
    return modulo_some_prime(rng, lambda p: _growth(program, x, max_depth, p, rng, seed))


def _growth(
    program: Program, points: ExactArray, max_depth: int, p: int, rng: np.random.Generator, seed: int
) -> Growth:
    program._check_points(points, p)
    count, m = points.shape
    target = (m - 1 if program.manifold == "sphere" else m) * count
    spaces = [RowSpace(m * count, p) for _ in range(max_depth)]
    draws = idle = 0
    while idle < _PATIENCE:
        rows = _random_rows(program, points, max_depth - 1, p, rng)
        draws, gained = draws + 1, 0
        for depth, found in enumerate(rows):
            for space in spaces[depth:]:
                gained += space.add(found)
        idle = 0 if gained else idle + 1
        if spaces[0].rank == target:
            break
    ranks = [space.rank for space in spaces]
    if target in ranks:
        ranks = ranks[: ranks.index(target) + 1]
    bounds = tuple(by_depth(program, count, depth) for depth in range(1, len(ranks) + 1))
    return Growth(tuple(ranks), bounds, target, m, count, p, draws, seed)


def _random_rows(
    program: Program, points: ExactArray, nilpotents: int, p: int, rng: np.random.Generator
) -> list[Residues]:
    """Brackets of random combinations of the fields, by depth: entry n has depth n + 1, rows of length N m."""
    directions = [centred(rng.integers(0, p, (1, program.count)), p) for _ in range(nilpotents)]
    rows = nested_brackets(program, points, directions, p)
    sizes = np.array([bin(index).count("1") for index in range(2**nilpotents)])
    return [rows[sizes == size].reshape(-1, rows.shape[2]) for size in range(nilpotents + 1)]
