"""The page: a template, and into it what the run says, the pictures' numbers, the scripts, and the plotting library."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import torch

from cde_nets.atomic import write_atomically
from cde_nets.errors import DivergedError
from cde_nets.report.depth import answers, chosen, depth
from cde_nets.report.explorer import plane
from cde_nets.report.figures import confusion_chart, controls_chart, error_chart, interval_values, loss_chart
from cde_nets.train.batches import as_intensity
from cde_nets.train.finished import FinishedRun

if TYPE_CHECKING:
    from cde_nets.data import Dataset
    from theory import Certificate

NAME = "report.html"
# A proof's memory and time grow with the rank: so much of it takes seconds.
_MOST_IMAGES, _QUICK_RANK = 4, 400


def check_out(path: Path) -> None:
    """Refuse a place for the page before work starts.

    Raises:
        ValueError: no name of a page, a folder, or one in a folder that is not there or not writable.
    """
    above = path.absolute().parent
    if path.suffix not in (".html", ".htm"):
        raise ValueError(f"--out {path}: the report is an HTML page, expected a name that ends in .html.")
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder: name a file, such as {path / NAME}.")
    if not above.is_dir():
        raise ValueError(f"--out {path}: there is no folder {above} to write to.")
    if not os.access(above, os.W_OK):
        raise ValueError(f"{path} cannot be written, {above} is no writable folder: name another place by --out.")


def check_data(done: FinishedRun, test: Dataset, complete: bool, source: str) -> None:
    """Refuse images that are not the run's test images.

    Raises:
        ValueError: the data at hand are others than those the run was evaluated on.
    """
    if done.result["data_complete"] and not complete:
        raise ValueError(
            f"{done.run.folder} was evaluated on all of MNIST and only {source} is at hand, whose images may be among "
            "those it was trained on. Name a folder with the four files by --data-dir."
        )
    if len(test.labels) != done.result["test_images"]:
        raise ValueError(
            f"{done.run.folder} was evaluated on {done.result['test_images']:,} test images ({done.result['data']}), "
            f"and {len(test.labels):,} are at hand ({source}). Name the run's own data by --data-dir."
        )


def quick_points(done: FinishedRun) -> int:
    """At how many test images the last stage is certified in seconds; 0 where its states are too large."""
    return min(_MOST_IMAGES, _QUICK_RANK // done.network.flows()[-1].dim)


def certificate(done: FinishedRun, test: Dataset, points: int, time_limit: float | None) -> Certificate:
    """Whether the last stage can carry the first test images anywhere: `cde_nets.certify.check_flow`.

    Raises:
        ValueError: a flow with a drift, or points that the stages before send to one.
    """
    from cde_nets.certify import check_flow

    stages = done.network.flow_stages()
    with torch.no_grad():
        state = done.network.start(as_intensity(torch.from_numpy(test.images[:points])))
        for before in stages[:-1]:
            state = before(state)
    return check_flow(stages[-1].flow, state, seed=0, time_limit=time_limit)


def build_page(done: FinishedRun, test: Dataset, proof: Certificate | None = None) -> str:
    """The HTML text.

    Args:
        done: the run.
        test: the images it was evaluated on.
        proof: of the last stage, at the first test images; None leaves the section out.

    Raises:
        DivergedError: no test image gets through the network.
    """
    data = {
        "charts": {
            "loss": loss_chart(done.metrics, done.result["chosen_epoch"]),
            "error": error_chart(done.metrics, done.result["chosen_epoch"]),
            "confusion": confusion_chart(done.result["confusion"]),
            "controls": controls_chart(done.network),
        },
        "plane": plane(),
        "depth": _depth(done, test),
    }
    result, matrix = done.result, done.result["confusion"]
    total, right = sum(map(sum, matrix)), sum(matrix[c][c] for c in range(len(matrix)))
    values = [interval_values(flow.control) for flow in done.network.flows()]
    energy = sum(float(value.square().mean(0).sum()) for value in values)
    text = {
        "name": done.name,
        "accuracy": f"{result['test_accuracy']:.2%}",
        "trained": f"{result['trained_parameters']:,}",
        "frozen": f"{result['frozen_parameters']:,}",
        "seconds": f"{result['seconds']:,.0f} s",
        "test_images": f"{result['test_images']:,}",
        "epochs": _many(result["epochs"], "epoch"),
        "chosen": str(result["chosen_epoch"]),
        "validation": f"{result['validation_accuracy']:.2%}",
        "mistakes": f"{total - right:,}",
        "controls": f"{sum(value.numel() for value in values):,}",
        "energy": f"{energy:.3g}",
        "stages": _many(len(values), "stage"),
        "versions": ", ".join(f"{name} {number}" for name, number in _versions(done).items()),
        "describe": done.network.describe(),
    }
    html = {
        "metrics_table": _metrics_table(done.metrics),
        "confusion_table": _confusion_table(matrix),
        "configuration": _configuration(done),
        "certificate": "" if proof is None else _certificate(proof),
        "css": _template("page.css"),
        "data": _json(data),
        "plotly": _library(),
        "scripts": "\n".join(_template(name) for name in ("charts.js", "plane.js", "depth.js")),
    }
    return Template(_template("page.html")).substitute({name: escape(value) for name, value in text.items()}, **html)


def write_report(path: Path, text: str) -> int:
    """Write the page atomically; how many bytes it has.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    content = text.encode()
    write_atomically(path, content)
    return len(content)


def _depth(done: FinishedRun, test: Dataset) -> dict[str, Any]:
    images, labels = torch.from_numpy(test.images), torch.from_numpy(test.labels).long()
    found = answers(done.network, images)
    numbers = chosen(found, labels)
    if not numbers:
        raise DivergedError(
            f"Every test image failed in the network of {done.run.folder}: there are no states to show."
        )
    return depth(done.network, images[numbers], labels[numbers], found.answer[numbers], numbers)


def _template(name: str) -> str:
    return files("cde_nets.report").joinpath("template", name).read_text(encoding="utf-8")


def _json(values: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or begins a comment.

    A NaN would be no JSON, and is refused.
    """
    return json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@cache
def _library() -> str:
    """Plotly's script, packed: a third of its five megabytes, and browsers unpack it by themselves."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _many(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


def _versions(done: FinishedRun) -> dict[str, str]:
    kept = done.config.get("versions")
    return {str(name): str(value) for name, value in kept.items()} if isinstance(kept, dict) else {}


def _certificate(proof: Certificate) -> str:
    state = "Proved" if proof.proved else "Not proved"
    return (
        '<section id="certificate" aria-labelledby="certificate-title"><h2 id="certificate-title">Certificate</h2>'
        "<p>What the last stage can do, at the first "
        f"{_many(proof.points or 0, 'test image')} as the stages before carry them there, by exact arithmetic on the "
        "very coefficients that run. It is about controls that may be refined, not about the numbers trained here.</p>"
        f'<blockquote data-proved="{state}"><p>{escape(str(proof))}</p>'
        f"<footer>{escape(proof.subject)}</footer></blockquote></section>"
    )


def _metrics_table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        (
            str(row["epoch"]),
            f"{row['loss']:.4f}",
            f"{100 * (1 - row['train_accuracy']):.2f}%",
            f"{100 * (1 - row['validation_accuracy']):.2f}%",
        )
        for row in rows
    ]
    return _table("Loss and error by epoch", ("epoch", "loss", "training error", "validation error"), cells)


def _confusion_table(matrix: Sequence[Sequence[int]]) -> str:
    head = ("label", *(f"answer {c}" for c in range(len(matrix))))
    return _table("Answers by label", head, [(str(r), *map(str, row)) for r, row in enumerate(matrix)])


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column names its rows."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _configuration(done: FinishedRun) -> str:
    result = done.result
    data = {
        "source": result["data"] + ("" if result["data_complete"] else " (not the full data)"),
        "training images": f"{result['training_images']:,}",
        "validation images": f"{result['validation_images']:,}",
        "test images": f"{result['test_images']:,}",
        "device": f"{result['device']}, {_many(result['threads'], 'thread')}",
        "frozen digest": str(done.config.get("frozen_digest", ""))[:16],
        "page made by": f"cde-nets {version('cde-nets')}",
    }
    return "".join(
        f"<div><h3>{title}</h3><dl>{''.join(_pair(name, value) for name, value in values.items())}</dl></div>"
        for title, values in (
            ("Network", done.config["network"]),
            ("Training", done.config["training"]),
            ("Data and machine", data),
            ("Versions", _versions(done)),
        )
    )


def _pair(name: str, value: Any) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(shown)}</dd>"
