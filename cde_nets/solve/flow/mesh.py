"""Fixed meshes of [0, 1] on which a control's breakpoints are step ends."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def uniform_mesh(steps: int, breakpoints: Sequence[float]) -> tuple[float, ...]:
    """t_n = n / steps, n = 0..steps.

    Raises:
        ValueError: a breakpoint is not a step's end, so that some step would straddle a jump of the control.
    """
    ends = {n / steps for n in range(steps + 1)}
    astray = next((t for t in breakpoints if t not in ends and not _near(t, steps)), None)
    if astray is not None:
        raise ValueError(
            f"steps={steps} leaves the control's breakpoint t={astray:.6g} inside a step; take a multiple of "
            f"{len(breakpoints) + 1}, such as {(len(breakpoints) + 1) * max(1, round(steps / (len(breakpoints) + 1)))}."
        )
    return tuple(n / steps for n in range(steps + 1))


def _near(t: float, steps: int) -> bool:
    return Fraction(t).limit_denominator(10**6) * steps % 1 == 0
