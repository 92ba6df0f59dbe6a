"""Cells of the table out of trials, and the table beside the published one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.hopfield.methods import ROWS, STEPS, Cell, all_cells
from experiments.hopfield.results import Results
from experiments.hopfield.settings import Settings
from experiments.hopfield.training import succeeded


def summary(results: Results, settings: Settings, trials: int) -> dict[str, Any]:
    """Settings, and of every cell that has trials what came of them."""
    cells = sorted({Cell(row["row"], row["steps"]) for row in results.rows}, key=_place)
    return {
        "settings": asdict(settings),
        "radius_limits": {str(K): settings.radius_limit(K) for K in sorted({c.steps for c in cells if c.steps})},
        "cells": [made for cell in cells if (made := _cell(results.of(cell, trials), cell))],
    }


def _cell(rows: list[dict[str, Any]], cell: Cell) -> dict[str, Any] | None:
    if not rows:
        return None
    published = ROWS[cell.row].published

    def median(key: str) -> list[float | None]:
        middle = np.median([[np.inf if v is None else v for v in row[key]] for row in rows], axis=0)
        return [float(f"{value:.4g}") if np.isfinite(value) else None for value in middle]

    return {
        "row": cell.row,
        "steps": cell.steps,
        "trials": len(rows),
        "succeeded": sum(row["success"] for row in rows),
        "succeeded_by_first_epoch": sum(_succeeded(row["losses"][0], row["final_loss"]) for row in rows),
        "published_percent": None if published is None else published.get(cell.steps),
        "initial_loss": _middle(rows, "initial_loss"),
        "final_loss": _middle(rows, "final_loss"),
        "wrong_pixels": _middle(rows, "wrong_pixels"),
        "largest_radius": _middle([{"largest": _largest(row["radii"])} for row in rows], "largest"),
        "failed_rows": sum(row["failed_rows"] for row in rows),
        "epochs": rows[0]["epochs"],
        "losses": median("losses"),
        "radii": median("radii"),
        # Trial by trial.
        "initial_losses": [_short(row["initial_loss"]) for row in rows],
        "final_losses": [_short(row["final_loss"]) for row in rows],
        "largest_radii": [_short(_largest(row["radii"])) for row in rows],
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }


def _middle(rows: list[dict[str, Any]], key: str) -> float | None:
    # What was not finite is worse than all else.
    value = float(np.median([np.inf if row[key] is None else row[key] for row in rows]))
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _succeeded(initial: float | None, final: float | None) -> bool:
    return initial is not None and final is not None and succeeded(initial, final)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _largest(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def markdown(content: dict[str, Any]) -> str:
    """The table as Markdown: per cent of trials that succeeded, by both readings of the rule, beside the published."""
    cells = {(cell["row"], cell["steps"]): cell for cell in content["cells"]}
    columns = [*STEPS, *sorted({steps for _, steps in cells if steps} - set(STEPS))]
    made = content["settings"]
    lines = [
        "Success rates, in per cent, of training a continuous Hopfield memory with "
        f"{', '.join(map(str, columns))} steps: "
        f"{made['digits']} digits of {made['side']} x {made['side']} pixels, {made['hidden']} hidden units, "
        f"b = {made['slope']:g}, W of standard deviation {made['spread']:.2g}, Adam's rate {made['rate']:g}, "
        f"{made['epochs']} epochs, random z0 up to {made['noise']:.3g}, seed {made['seed']}. A trial succeeds where "
        "its final training loss is below half of the initial one: of the untrained network's, or of the mean over the "
        "first epoch. Published: Liao et al. 2018, Table A1, at their size.",
        "",
        "| method | published | half of untrained | half of first epoch | loss | wrong pixels | largest \\|λ\\| |",
        "|---|" + "---:|" * 6,
    ]
    for name, row in ROWS.items():
        some = [cells.get((name, K)) for K in (columns if row.truncated else (0,))]
        if not any(some):
            continue
        printed = ", ".join(str(row.published.get(K, "–")) for K in columns) if row.published else ""
        entries = zip(*(_said(cell) for cell in some), strict=True)
        lines.append(f"| {row.label} | {printed} | " + " | ".join(map(", ".join, entries)) + " |")
    counts = sorted({cell["trials"] for cell in content["cells"]})
    limits = ", ".join(f"{limit:.2f} at {K} steps" for K, limit in content["radius_limits"].items())
    lines += [
        "",
        f"Trials a cell: {', '.join(map(str, counts))}; a number for each count of steps. Loss at the end, "
        "wrong pixels (of the corrupted images) and the largest spectral radius of J while training are medians. A "
        f"random z0 that lay along J's largest eigenvalue would outweigh the gradient above a radius of {limits}.",
        "",
    ]
    return "\n".join(lines)


def _said(cell: dict[str, Any] | None) -> list[str]:
    """What a cell has for each column."""
    if cell is None:
        return ["–"] * 5
    return [
        f"{100 * cell['succeeded'] / cell['trials']:.0f}",
        f"{100 * cell['succeeded_by_first_epoch'] / cell['trials']:.0f}",
        "not finite" if cell["final_loss"] is None else f"{cell['final_loss']:.3g}",
        f"{100 * cell['wrong_pixels']:.1f} %",
        "not finite" if cell["largest_radius"] is None else f"{cell['largest_radius']:.2f}",
    ]


def _place(cell: Cell) -> tuple[int, int]:
    order = {known.row: k for k, known in enumerate(all_cells())}
    return order[cell.row], cell.steps
