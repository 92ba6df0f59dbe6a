"""The command: all parts in turn, one file of numbers, two figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from experiments.command import Json, Quick, begin, leave, less
from experiments.fixed_points import banach, brouwer, descent, pictures, race, scalar
from experiments.shown import progress

app = typer.Typer(add_completion=False)


@app.command()
@less(vars(race), DIM=16, ROWS=4, REPEATS=1)
def fixed_points(
    out: Annotated[Path, typer.Option(help="Folder of the figures and the numbers.")] = Path("runs/fixed_points"),
    seed: Annotated[int, typer.Option(min=0, help="Of the layers and the samples.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy all to this docs folder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Solve for fixed points; write fixed_points.json, cobwebs.png and iterations.png."""
    out = begin(out, publish, quick=quick)
    torch.set_num_threads(threads)
    layers = race.layers(seed)
    with progress() as bar:
        task = bar.add_task("fixed points", total=2 + len(layers) * len(race.METHODS) * (1 + race.REPEATS))
        content: dict[str, Any] = {
            "seed": seed,
            "golden_ratio": scalar.golden_ratio(),
            "pole": scalar.pole(),
            "square_roots": scalar.square_roots(),
            "oscillation": scalar.oscillation(),
            "brouwer": brouwer.disc(),
            "rotation": brouwer.circling(),
            "banach": [banach.measure(case) for case in banach.contractions(seed)],
        }
        bar.advance(task)
        content["descent"] = [descent.measure(made) for made in (descent.quadratic(), descent.logistic(seed))]
        bar.advance(task)
        content["race"] = [race.race(name, W, x, lambda: bar.advance(task)) for name, (W, x) in layers.items()]
    drawn = {"cobwebs.png": pictures.cobwebs(content), "iterations.png": pictures.race(content["race"])}
    tables = _examples(content), _predictions(content["banach"]), _race(content["race"])
    leave("fixed_points", out, publish, content, drawn, *tables, as_json=as_json)


def _examples(content: dict[str, Any]) -> Table:
    pole, roots = content["pole"], content["square_roots"]
    solved: list[tuple[str, dict[str, Any]]] = [
        ("1 + 1/x from 2", content["golden_ratio"]),
        ("1/(x - 1) from 1.6", pole["from_1.6"]),
        ("1/(x - 1) from 1.6", pole["newton_from_1.6"]),
        ("1/(x - 1) from 2", pole["from_2"]),
        *(("tanh(-2z + 1/2)", row) for row in content["oscillation"]),
        *(("bent disc", row) for row in content["brouwer"]["solved"]),
        *(("rotation", row) for row in content["rotation"]["solved"]),
        *((row["objective"], method) for row in content["descent"] for method in row["solved"]),
    ]
    misprint = f"x_5 is {content['golden_ratio']['x_5']:.9f}, not {content['golden_ratio']['x_5_misprinted_as']:.9f}"
    integers = pole["from_8/5_in_integers"]
    table = Table(
        "map",
        "method",
        "status",
        "steps",
        "evaluations",
        "products",
        "value",
        title="fixed points",
        caption=f"1 + 1/x: {misprint}. 1/(x - 1) from 8/5 in integers: pole after {integers['pole_after_steps']} "
        f"steps, then on to {integers['ratio']:.6f}. Square roots of {roots['radicands']}: steps {roots['steps']}.",
    )
    for name, row in solved:
        table.add_row(name, *_words(row), _value(row.get("value")))
    return table


def _value(value: float | list[float] | None) -> str:
    """A number, a point of the plane, or nothing where there are too many."""
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else ", ".join(f"{number:.4f}" for number in value)


def _words(row: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(row[key]) for key in ("steps", "evaluations", "products"))
    return row["method"], ", ".join(row["status"]), *counts


def _predictions(rows: list[dict[str, Any]]) -> Table:
    columns = ("map", "tolerance", "predicted, q proved", "predicted, q seen", "taken to guarantee", "taken")
    table = Table(*columns, title="Banach: steps of a contraction")
    keys = ("predicted_by_proved_q", "predicted_by_seen_q", "taken_to_guarantee", "taken")
    for row in rows:
        words = f"{row['map']}: q = {row['q_proved']:.3f} proved, {row['q_seen']:.3f} seen"
        for line in row["tolerances"]:
            table.add_row(words, f"{line['tolerance']:.0e}", *(str(line[key]) for key in keys))
        table.add_section()
    return table


def _race(problems: list[dict[str, Any]]) -> Table:
    table = Table("layer", "method", "status", "steps", "evaluations", "products", "seconds", title="the race")
    for problem in problems:
        for row in problem["solved"]:
            table.add_row(problem["problem"], *_words(row), f"{row['seconds']:.4f}")
        table.add_section()
    return table
