"""What an error says of rows that failed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cde_nets.solver.solution import Solution
from cde_nets.solver.status import Status

_VERBS = {
    Status.MAX_STEPS: "ran out of steps",
    Status.DIVERGED: "diverged",
    Status.STEP_TOO_SMALL: "could not be followed",
    Status.BREAKDOWN: "broke down",
}


def failure(solution: Solution) -> str:
    """Which rows failed, how, where they stand, and what to change; the commonest failure first."""
    lines = []
    bad = solution.status[~solution.succeeded]
    for code in sorted(set(bad.tolist()), key=lambda c: -int((bad == c).sum())):
        rows = torch.nonzero(solution.status == code).flatten().tolist()
        status = Status(code)
        lines.append(
            f"{list_rows(rows).capitalize()} of {len(solution.status)} {_VERBS[status]}{_where(solution, rows)}. "
            f"{status.message}"
        )
    return " ".join(lines) + " throw=False goes on with the other rows."


def list_rows(rows: Sequence[int]) -> str:
    """'row 3' or 'rows 1, 2, .. (17)'."""
    shown = ", ".join(map(str, rows[:5])) + (", .." if len(rows) > 5 else "")
    return f"row {shown}" if len(rows) == 1 else f"rows {shown} ({len(rows)})"


def _where(solution: Solution, rows: Sequence[int]) -> str:
    """Of the row that failed first: the time, steps, residual and norm."""
    row = min(rows, key=lambda r: (int(solution.statistics.steps[r]), r))
    place = "" if solution.time is None else f"at t = {float(solution.time[row]):.6g} "
    place = f"{', the first ' if len(rows) > 1 else ' '}{place}after {int(solution.statistics.steps[row])} steps"
    parts = []
    if solution.statistics.residual is not None:
        parts.append(f"residual {float(solution.statistics.residual[row]):.3g}")
    if solution.size is not None:
        parts.append(f"norm {float(solution.size[row]):.3g}")
    return f"{place} with {' and '.join(parts)}" if parts else place
