"""The charts, as plotly takes them: plain values, so that plotly's Python side is not loaded to draw them.

A colour is a name such as "@accent"; the page puts in what the reader's scheme, light or dark, has for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.nn.network import Network

Chart = dict[str, Any]
_DIVERGING = [[0.0, "@low"], [0.5, "@paper"], [1.0, "@high"]]


def loss_chart(rows: Sequence[dict[str, Any]], chosen_epoch: int) -> Chart:
    """Training loss against epochs."""
    epochs = [row["epoch"] for row in rows]
    loss = _line(epochs, [row["loss"] for row in rows], "training loss", "@accent", "%{y:.4f}")
    return _chart([loss], "cross-entropy", chosen_epoch)


def error_chart(rows: Sequence[dict[str, Any]], chosen_epoch: int) -> Chart:
    """Training and validation error in percent against epochs."""
    epochs = [row["epoch"] for row in rows]
    lines = [
        _line(epochs, [100 * (1 - row[name]) for row in rows], label, colour, "%{y:.2f}%")
        for name, label, colour in (
            ("train_accuracy", "training, while learning", "@soft"),
            ("validation_accuracy", "validation", "@accent"),
        )
    ]
    return _chart(lines, "error, %", chosen_epoch)


def confusion_chart(matrix: Sequence[Sequence[int]]) -> Chart:
    """Mistakes as colours, counts as numbers; the diagonal, which would drown them, is left plain."""
    classes = [str(c) for c in range(len(matrix))]
    mistakes = [[None if r == c else count for c, count in enumerate(row)] for r, row in enumerate(matrix)]
    largest = max((count for row in mistakes for count in row if count), default=0)
    # Notes, not the heat map's own text: each is to stand out from its cell, in light and in dark.
    notes = [
        {
            "x": answer,
            "y": label,
            "text": f"{count:,}",
            "showarrow": False,
            "font": {
                "size": 10 if label == answer else 11,
                "color": "@soft" if label == answer else "@paper" if count > 0.65 * largest else "@ink",
            },
        }
        for label, row in zip(classes, matrix, strict=True)
        for answer, count in zip(classes, row, strict=True)
        if count
    ]
    axis = {"type": "category", "showgrid": False, "ticks": "", "zeroline": False}
    return {
        "data": [
            {
                "type": "heatmap",
                "x": classes,
                "y": classes,
                "z": mistakes,
                "colorscale": [[0.0, "@paper"], [1.0, "@accent"]],
                "zmin": 0,
                "showscale": False,
                "xgap": 1,
                "ygap": 1,
                "hovertemplate": "label %{y}, answer %{x}: %{z} images<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {**axis, "title": {"text": "answer"}, "constrain": "domain"},
            "yaxis": {**axis, "title": {"text": "label"}, "autorange": "reversed", "scaleanchor": "x"},
            "annotations": notes,
            "margin": {"l": 44, "r": 8, "t": 8, "b": 44},
        },
    }


def controls_chart(network: Network) -> Chart:
    """Every learned u_i, a row for each interval of depth, a column for each field; blue below zero, red above."""
    rows: list[list[float]] = []
    names: list[str] = []
    for number, flow in enumerate(network.flows(), start=1):
        values = interval_values(flow.control)
        rows += values.tolist()
        names += [f"stage {number}, {_span(n, len(values))}" for n in range(len(values))]
    bound = max(abs(u) for row in rows for u in row) or 1.0
    return {
        "data": [
            {
                "type": "heatmap",
                "x": list(range(1, len(rows[0]) + 1)),
                "y": names,
                "z": [[float(f"{u:.4g}") for u in row] for row in rows],
                "zmin": -bound,
                "zmax": bound,
                "colorscale": _DIVERGING,
                "colorbar": {"thickness": 8, "outlinewidth": 0, "len": 1, "tickfont": {"size": 11}, "nticks": 5},
                "ygap": 4,
                "hovertemplate": "%{y}<br>field %{x}: u = %{z}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"title": {"text": "field i"}, "showgrid": False, "ticks": "", "zeroline": False},
            "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False, "ticks": "", "automargin": True},
            "margin": {"l": 8, "r": 8, "t": 8, "b": 44},
        },
    }


def interval_values(control: Any) -> torch.Tensor:
    """The values of a piecewise constant control, shape (intervals, count), float64.

    Raises:
        ValueError: a control of another kind.
    """
    if not isinstance(control, PiecewiseConstantControl):
        raise ValueError(f"The report draws piecewise constant controls; got a {type(control).__name__}.")
    return control.values.detach().cpu().double()


def _span(n: int, intervals: int) -> str:
    return f"t {n / intervals:.2g}–{(n + 1) / intervals:.2g}"


def _line(x: list[int], y: list[float], name: str, colour: str, shown: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": [float(f"{value:.6g}") for value in y],
        "name": name,
        "line": {"color": colour, "width": 2},
        "marker": {"size": 5, "color": colour},
        "hovertemplate": f"epoch %{{x}}: {shown}<extra>{name}</extra>",
    }


def _chart(lines: list[dict[str, Any]], title: str, chosen_epoch: int) -> Chart:
    """Lines over epochs on a logarithmic axis, with a mark where the network was chosen."""
    last = max(len(line["x"]) for line in lines)
    return {
        "data": lines,
        "layout": {
            # Whole epochs only, also where there are few.
            "xaxis": {"title": {"text": "epoch"}, "range": [0.5, last + 0.5], "dtick": max(1, round(last / 8))},
            "yaxis": {"title": {"text": title}, "type": "log", "dtick": "D2", "tickformat": "~g"},
            "shapes": [
                {
                    "type": "line",
                    "x0": chosen_epoch,
                    "x1": chosen_epoch,
                    "yref": "paper",
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": "@soft", "width": 1, "dash": "dot"},
                }
            ],
            "showlegend": len(lines) > 1,
        },
    }
