"""The command: the rows that are not done yet, then both tables and the picture."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.markdown import Markdown
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cde_nets.atomic import write_atomically
from cde_nets.cli.console import notify
from cde_nets.data import DataUnavailableError
from cde_nets.data.citation import load_citation
from cde_nets.plot.style import save
from experiments.at_hand import some_graph
from experiments.citation.network import Weights
from experiments.citation.report import markdown, picture
from experiments.citation.results import Results
from experiments.citation.rows import ROWS
from experiments.citation.training import Prepared, Runs, Settings, run, settings_of
from experiments.command import Json, Quick, allowed, begin, named
from experiments.kept import Name
from experiments.pages import fill
from experiments.shown import progress, say

app = typer.Typer(add_completion=False)


class Dataset(StrEnum):
    """What can be trained on."""

    CORA = "cora"
    PUBMED = "pubmed"


# Numbers of a document's state, as in the paper's code.
SIZES = {Dataset.CORA: 64, Dataset.PUBMED: 16}
PAGE = "published_tables.md"
QUICK: dict[str, Any] = {"epochs": 15, "every": 5, "steps": 20}


@app.command()
def citation(
    dataset: Annotated[Dataset, typer.Option(help="Which graph.")] = Dataset.CORA,
    rows: Annotated[str, typer.Option(help=f"Names with commas between, of {', '.join(ROWS)}; all where empty.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of a row.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Of a run.")] = 2000,
    weights: Annotated[Weights, typer.Option(help="How they are drawn; the paper's code: kaiming.")] = Weights.KAIMING,
    split: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Documents to train, validate, test on; else 1%, 49%, 50%.", show_default=False),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with cora.npz or pubmed.npz.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs, tables and figure.")] = Path("runs/citation"),
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy all to this docs folder.")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(min=1, help="Runs at once; of use on a GPU, not on a CPU.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Train on a citation graph; write results.jsonl, citation.md and citation.png."""
    torch.set_num_threads(threads)
    place = _device(device)
    keys = named(rows, ROWS, "--rows")
    how: dict[str, Any] = {"epochs": epochs} if not quick else {**QUICK, "epochs": min(epochs, QUICK["epochs"])}
    seeds = 1 if quick else seeds
    allowed(publish, quick=quick, page=PAGE, mark=f"citation {dataset}")
    try:
        load = some_graph if quick else load_citation
        graph = load(dataset.value, data_dir, notify=notify)
        settings = settings_of(graph, SIZES[dataset], split, weights=weights, **how)
        out = begin(out, publish, quick=quick)
        results = Results(out / "results.jsonl", settings)
    except (ValueError, DataUnavailableError) as error:
        raise typer.BadParameter(str(error)) from error
    groups = _groups(keys, seeds, batch, results)
    if groups:
        try:
            _train(groups, Prepared(graph, settings.size), settings, results, place)
        except KeyboardInterrupt:
            notify("Stopped; give the same command to go on.")
            raise typer.Exit(1) from None
    text = markdown(graph, settings, results)
    write_atomically(out / "citation.md", text.encode())
    save(picture(graph, results), out / "citation.png")
    if publish is not None:
        for file, folder, name in (
            ("citation.png", "images", f"citation_{dataset}.png"),
            ("results.jsonl", "results", f"citation_{dataset}.jsonl"),
        ):
            write_atomically(publish / folder / name, (out / file).read_bytes())
        fill(publish / PAGE, f"citation {dataset}", text)
    say(as_json, {"dataset": graph.name, "runs": results.rows}, Markdown(text))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise typer.BadParameter(f"the device {name!r} is not to be had: {error}") from error
    return device


def _groups(keys: list[str], seeds: int, batch: int, results: Results) -> list[list[Name]]:
    """Runs that are not done, some at once; by seeds, so that a table that is not full yet compares like with like."""
    groups = []
    for key in keys:
        left = [(key, seed) for seed in range(seeds) if not results.has((key, seed))]
        size = 1 if ROWS[key].alone else batch
        groups += [left[first : first + size] for first in range(0, len(left), size)]
    return sorted(groups, key=lambda group: group[0][1])


def _train(
    groups: list[list[Name]],
    data: Prepared,
    settings: Settings,
    results: Results,
    device: torch.device,
) -> None:
    def cost(run: Name) -> float:
        return ROWS[run[0]].cost

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    runs = [run for group in groups for run in group]
    with progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task("citation", total=settings.epochs * sum(map(cost, runs)))
        for ours in results.each(groups, notify):
            key, seeds = ours[0][0], [seed for _, seed in ours]
            done = settings.epochs * sum(cost(run) for run in runs if results.has(run))
            bar.update(task, description=f"{ROWS[key].title}, seeds {seeds[0]} to {seeds[-1]}", completed=done)
            advance = partial(bar.advance, task, sum(map(cost, ours)))
            checkpoint = results.checkpoint(ours)
            results.add(run(Runs(key, seeds, settings, data, device), checkpoint, advance))
            checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    app()
