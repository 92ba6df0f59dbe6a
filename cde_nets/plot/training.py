"""Pictures of a training run: its curves and its confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.door import numbers
from cde_nets.options import positive
from cde_nets.plot.style import COLOURS, axes, figure, plain_log_ticks, styled


def curves(rows: Sequence[Mapping[str, Any]], chosen_epoch: int | None = None) -> Figure:
    """Loss and accuracy against epochs, from the lines of metrics.jsonl.

    Args:
        rows: the lines; see `cde_nets.train.Trainer`.
        chosen_epoch: marked by a line, where given.

    Raises:
        ValueError: rows that are no lines of metrics, or an epoch that is no integer or beyond them.
    """
    needed = ("epoch", "loss", "train_accuracy", "validation_accuracy")
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) and set(needed) <= set(row) for row in rows):
        raise ValueError(f"rows must be mappings with {', '.join(needed)}; got {str(rows)[:80]}.")
    if chosen_epoch is not None:
        positive("chosen_epoch", chosen_epoch, least=0)
        last = max((row["epoch"] for row in rows), default=0)
        if chosen_epoch > last:
            raise ValueError(f"chosen_epoch must be one of the rows', which end with {last}; got another.")
    with styled():
        made = figure(8.0, 3.2)
        left, right = made.subplots(1, 2)
        epochs = [row["epoch"] for row in rows]
        left.plot(epochs, [row["loss"] for row in rows], "o-", markersize=3, color=COLOURS[0], label="training loss")
        left.set(xlabel="epoch", ylabel="cross-entropy", yscale="log")
        for colour, name, label in (
            (COLOURS[0], "train_accuracy", "training, while learning"),
            (COLOURS[5], "validation_accuracy", "validation"),
        ):
            right.plot(epochs, [100 * (1 - row[name]) for row in rows], "o-", markersize=3, color=colour, label=label)
        right.set(xlabel="epoch", ylabel="error, %", yscale="log")
        for ax in (left, right):
            if chosen_epoch is not None:
                ax.axvline(chosen_epoch, color="#777777", linestyle=":", label=f"chosen, epoch {chosen_epoch}")
            plain_log_ticks(ax)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.legend()
    return made


def confusion(matrix: NDArray[np.int64], ax: Axes | None = None) -> Axes:
    """Mistakes as colours, counts as numbers; the diagonal, which would drown them, is left white.

    Args:
        matrix: how often label r was answered c, shape (classes, classes).
        ax: where; a new figure's where None.

    Raises:
        ValueError: no square table of counts.
    """
    if isinstance(matrix, Tensor):
        numbers("matrix", matrix)
        matrix = matrix.detach().cpu().numpy()
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or not matrix.size or len(matrix) != matrix.shape[1] or matrix.dtype.kind not in "iuf":
        raise ValueError(f"matrix is {matrix.dtype} of shape {matrix.shape}, expected counts, (classes, classes).")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise ValueError("matrix holds what is no count: NaN, infinity or a number below 0.")
    with styled():
        ax = axes(ax, 5.0, 4.4)
        mistakes = np.ma.masked_array(matrix, mask=np.eye(len(matrix), dtype=bool))
        image = ax.imshow(mistakes, cmap="Blues")
        largest = max(int(mistakes.filled(0).max()), 1)
        for (label, answer), count in np.ndenumerate(matrix):
            dark = label != answer and count > 0.6 * largest
            ax.text(answer, label, str(count), ha="center", va="center", color="white" if dark else "black", fontsize=7)
        ax.grid(False)
        ax.set(xlabel="predicted", ylabel="label", xticks=range(len(matrix)), yticks=range(len(matrix)))
        right, total = int(np.trace(matrix)), int(matrix.sum())
        ax.set_title(f"{total - right:,} mistakes in {total:,} images")
        whole = ax.get_figure()
        assert whole is not None
        whole.colorbar(image, ax=ax, label="mistakes")
    return ax
