"""Fixed meshes on which the places where a control is not smooth are step ends."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

from cde_nets.remembered import remembered


def aligned_mesh(t0: float, t1: float, steps: int, breakpoints: Sequence[float]) -> tuple[float, ...]:
    """The ends of `steps` steps from t0 to t1, every breakpoint between them among the ends.

    Equal steps where the breakpoints allow it. Else every piece between two breakpoints gets steps of its own, equal
    within the piece, and their numbers are shared out by the pieces' lengths (largest remainders, at least one each).

    Raises:
        ValueError: fewer steps than pieces.
    """
    return _aligned_mesh(t0, t1, steps, tuple(breakpoints))


# Exact fractions take their time, and every solve of a network asks for the same mesh.
@remembered
def _aligned_mesh(t0: float, t1: float, steps: int, breakpoints: tuple[float, ...]) -> tuple[float, ...]:
    pieces = [t0, *breakpoints, t1]
    if steps < len(breakpoints) + 1:
        raise ValueError(
            f"steps={steps} cannot reach each of the {len(breakpoints)} breakpoints between {t0:g} and {t1:g}; take "
            f"at least {len(breakpoints) + 1}, or a multiple of it where they are evenly spaced."
        )
    if all(_on_grid((t - t0) / (t1 - t0), steps) for t in breakpoints):
        uniform = [_between(t0, t1, n, steps) for n in range(steps + 1)]
        # A breakpoint is hit to the bit, also where it was computed by another formula.
        for t in breakpoints:
            uniform[round((t - t0) / (t1 - t0) * steps)] = t
        return tuple(uniform)
    shares = _shares([abs(end - start) for start, end in itertools.pairwise(pieces)], steps)
    mesh = [t0]
    for start, end, share in zip(pieces[:-1], pieces[1:], shares, strict=True):
        mesh += [_between(start, end, n, share) for n in range(1, share + 1)]
    return tuple(mesh)


def _between(start: float, end: float, n: int, steps: int) -> float:
    return end if n == steps else start + n * (end - start) / steps


def _on_grid(fraction: float, steps: int) -> bool:
    return Fraction(fraction).limit_denominator(10**6) * steps % 1 == 0


def _shares(lengths: Sequence[float], steps: int) -> list[int]:
    whole = sum(lengths)
    exact = [length / whole * steps for length in lengths]
    shares = [max(1, int(share)) for share in exact]
    while sum(shares) != steps:
        missing = [share - got for share, got in zip(exact, shares, strict=True)]
        if sum(shares) < steps:
            shares[missing.index(max(missing))] += 1
        else:
            # Only a piece that has more than one step can give one up.
            spare = [gap if got > 1 else float("inf") for gap, got in zip(missing, shares, strict=True)]
            shares[spare.index(min(spare))] -= 1
    return shares
