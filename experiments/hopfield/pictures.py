"""What the memories answer, and how training went."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cde_nets.plot.style import COLOURS, figure, styled
from experiments.hopfield.memories import unpacked
from experiments.hopfield.methods import ROWS, all_cells
from experiments.hopfield.results import Results
from experiments.hopfield.settings import Settings

LOOKS = {row: COLOURS[k] for row, k in zip(ROWS, (1, 5, 3, 2, 0, 4, 7), strict=True)}


def memory(results: Results, settings: Settings, images: Tensor) -> Figure:
    """Digits down; first what was asked, then the first trial's answers of each method, last the image itself.

    Each method is shown with its smallest K. Answers are the states of the output units, white at 0 and black at 1.
    """
    shown: dict[str, dict[str, Any]] = {}
    for cell in all_cells(steps=tuple(sorted({row["steps"] for row in results.rows if row["steps"]}))):
        first = next((row for row in results.of(cell) if "asked" in row), None)
        if first is not None:
            shown.setdefault(cell.row, first)
    columns: list[tuple[str, Any]] = []
    for name, row in shown.items():
        if not columns:
            columns.append(("asked", unpacked(row["asked"])))
        label = ROWS[name].label.replace(", ", ",\n")
        columns.append((f"{label}\nK = {row['steps']}" if row["steps"] else label, unpacked(row["answered"])))
    columns.append(("image", images.cpu().numpy()))
    pictured = figure(1.0 * len(columns) + 0.4, 1.02 * len(images) + 0.7)
    with styled():
        grid = pictured.subplots(len(images), len(columns), squeeze=False)
        for ax_column, (title, pixels) in zip(grid.T, columns, strict=True):
            for ax, digit in zip(ax_column, np.asarray(pixels), strict=True):
                ax.imshow(digit.reshape(settings.side, settings.side), cmap="gray_r", vmin=0, vmax=1)
                ax.set(xticks=[], yticks=[])
                ax.grid(False)
                ax.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.6)
            ax_column[0].set_title(title, fontsize=8)
    return pictured


def losses(content: dict[str, Any]) -> Figure:
    """A column for each K: above the median training loss, below the median spectral radius of J with its limit."""
    counts = sorted({cell["steps"] for cell in content["cells"] if cell["steps"]}) or [0]
    pictured = figure(3.9 * len(counts) + 0.6, 6.0)
    with styled():
        panels = pictured.subplots(2, len(counts), sharex=True, sharey="row", squeeze=False)
        for column, K in zip(panels.T, counts, strict=True):
            for cell in content["cells"]:
                if cell["steps"] in (K, 0):
                    _draw(column, cell)
            if K:
                limit = content["radius_limits"][str(K)]
                column[1].axhline(limit, color="black", linestyle=":", linewidth=1.0, label="limit of a random z0")
            column[0].set(title=f"K = {K}" if K else "exact", yscale="log")
            # Beyond 1 the networks need not come to rest.
            column[1].set(xlabel="epoch", ylim=(0, 1.05))
        panels[0, 0].set_ylabel("median training loss")
        panels[1, 0].set_ylabel("median $|\\lambda(J)|$")
        handles, labels = panels[1, 0].get_legend_handles_labels()
        pictured.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=8)
    return pictured


def _draw(column: Any, cell: dict[str, Any]) -> None:
    exact = cell["steps"] == 0
    how: dict[str, Any] = {
        "color": LOOKS[cell["row"]],
        "label": ROWS[cell["row"]].label,
        "linestyle": "--" if exact else "-",
        "linewidth": 1.2,
    }
    panels: tuple[tuple[Axes, str], ...] = ((column[0], "losses"), (column[1], "radii"))
    for ax, key in panels:
        ax.plot(cell["epochs"], [np.nan if v is None else v for v in cell[key]], **how)
