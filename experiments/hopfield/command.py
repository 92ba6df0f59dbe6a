"""The command: all cells in turn, a line for each trial, a table and two figures."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.markdown import Markdown
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cde_nets.atomic import write_atomically
from cde_nets.cli.console import notify
from cde_nets.data import load_mnist
from cde_nets.plot.style import save
from cde_nets.texts import read_utf8
from experiments.at_hand import few_images
from experiments.command import Json, allowed, begin
from experiments.hopfield import pictures
from experiments.hopfield.memories import binary, first_of_each_digit
from experiments.hopfield.methods import Cell, all_cells, parse_cells
from experiments.hopfield.results import Results
from experiments.hopfield.settings import PAPER, Settings, smaller
from experiments.hopfield.summary import markdown, summary
from experiments.hopfield.training import Batch
from experiments.pages import fill
from experiments.shown import progress, say

app = typer.Typer(add_completion=False)


class Size(StrEnum):
    """How large the networks are."""

    QUICK = "quick"
    REDUCED = "reduced"
    PAPER = "paper"


# b is larger where epochs are fewer; the rate then lets the radius of J rise as far as the published pattern has it:
# above the limit of 20 steps and below that of 30. The quick size learns four digits.
SETTINGS: dict[Size, Settings] = {
    Size.QUICK: smaller(10, 64, slope=4.0, rate=1.5e-3, epochs=40, digits=4),
    Size.REDUCED: smaller(14, 256, slope=1.0, rate=2.2e-3, epochs=70),
    Size.PAPER: PAPER,
}
TRIALS = {Size.QUICK: 3, Size.REDUCED: 100, Size.PAPER: 100}
# Trials side by side.
BATCH = {Size.QUICK: 3, Size.REDUCED: 10, Size.PAPER: 1}
QUICK_CELLS = "tbptt:10,rbp-uniform:10,rbp-uniform:30,rbp-zero:10,cg:10,neumann:10"
# Of each size that is published, where its files go in docs. At the paper's size trials are few and dear: all that is
# known of them goes too.
PLACES = {
    Size.REDUCED: {
        "hopfield_memory.png": "images/hopfield_memory.png",
        "hopfield_losses.png": "images/hopfield_losses.png",
        "hopfield.json": "results/hopfield.json",
    },
    Size.PAPER: {
        "hopfield_memory.png": "images/hopfield_paper_memory.png",
        "hopfield_losses.png": "images/hopfield_paper_losses.png",
        "hopfield.json": "results/hopfield_paper.json",
        "trials.jsonl": "results/hopfield_paper.jsonl",
    },
}
PAGE = "published_tables.md"


@app.command()
def hopfield(
    size: Annotated[
        Size, typer.Option(help="Of the networks; at the paper's a trial takes ten minutes: see --cells.")
    ] = Size.REDUCED,
    quick: Annotated[
        bool, typer.Option("--quick", help="As --size quick: a few cells and trials, not to be published.")
    ] = False,
    cells: Annotated[
        str | None, typer.Option(help='Such as "tbptt:10,rbp-zero:20,dense", "neumann" for every K; all where None.')
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Of each cell; 100, or 3 with --quick.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Trials side by side.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order, corruption and z0.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Other than the size's own.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the four MNIST files.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of all files; runs/hopfield-SIZE where None.")] = None,
    publish: Annotated[Path | None, typer.Option(help="Copy figures and numbers to this docs folder.")] = None,
    device: Annotated[str, typer.Option(help="Such as cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Train associative memories; write trials.jsonl, hopfield.md, hopfield.json and two figures."""
    torch.set_num_threads(threads)
    chosen = Size.QUICK if quick else size
    settings = _settings(chosen, seed, epochs)
    trials = trials or TRIALS[chosen]
    allowed(publish, quick=quick, page=PAGE, mark=f"hopfield {chosen}")
    # An unknown device and data that cannot be had are RuntimeErrors.
    try:
        named = cells or (QUICK_CELLS if chosen is Size.QUICK else None)
        wanted = parse_cells(named, settings.steps) if named else _all(chosen)
        data = few_images(data_dir, notify) if quick else load_mnist(data_dir, notify=notify)
        digits = first_of_each_digit(data)[: settings.digits]
        images = binary(digits, settings.side).to(device)
        folder = begin(out or Path("runs") / f"hopfield-{size.value}", publish, quick=quick)
        results = Results(folder, settings, images)
    except (ValueError, RuntimeError) as error:
        raise typer.BadParameter(str(error)) from None
    _train(results, settings, wanted, trials, batch or BATCH[chosen], images)
    _report(results, settings, trials, images, as_json)
    if publish is not None:
        _publish(results.folder, publish, chosen)


def _settings(size: Size, seed: int, epochs: int | None) -> Settings:
    known = SETTINGS[size]
    return Settings(**{**vars(known), "seed": seed, "epochs": epochs or known.epochs})


def _all(size: Size) -> list[Cell]:
    # A dense matrix for every update takes hours a trial at the paper's size: only where it is asked for.
    return [cell for cell in all_cells() if size is not Size.PAPER or cell.row != "dense"]


def _train(
    results: Results,
    settings: Settings,
    cells: list[Cell],
    trials: int,
    batch: int,
    images: torch.Tensor,
) -> None:
    """All trials that are not done, batch by batch; whatever is done is kept at once."""
    todo = []
    for cell in cells:
        left = [(cell.row, cell.steps, trial) for trial in results.missing(cell, trials)]
        todo += [left[k : k + batch] for k in range(0, len(left), batch)]
    # All cells grow together: a table that is not full yet compares as many trials of each.
    todo.sort(key=lambda some: some[0][2])
    columns = (
        TextColumn("{task.description:>16}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    updates, wanted = settings.epochs * len(images), [run for some in todo for run in some]
    with progress(*columns, speed_estimate_period=600) as bar:
        task = bar.add_task("", total=len(wanted) * updates)
        for ours in results.each(todo, notify):
            cell, own, checkpoint = Cell(*ours[0][:2]), [trial for *_, trial in ours], results.checkpoint(ours)
            bar.update(task, description=str(cell), completed=sum(map(results.has, wanted)) * updates)

            def advance(done: int, count: int = len(ours)) -> None:
                bar.advance(task, done * count)

            results.add(Batch(settings, cell, own, images, checkpoint).run(advance))
            checkpoint.unlink(missing_ok=True)


def _report(results: Results, settings: Settings, trials: int, images: torch.Tensor, as_json: bool) -> None:
    content = summary(results, settings, trials)
    folder = results.folder
    text = markdown(content)
    write_atomically(folder / "hopfield.md", text.encode())
    write_atomically(folder / "hopfield.json", (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    save(pictures.memory(results, settings, images), folder / "hopfield_memory.png")
    save(pictures.losses(content), folder / "hopfield_losses.png")
    say(as_json, content, Markdown(text))


def _publish(folder: Path, docs: Path, size: Size) -> None:
    """The table into its page, figures and numbers beside it."""
    fill(docs / PAGE, f"hopfield {size}", read_utf8(folder / "hopfield.md"))
    for file, place in PLACES[size].items():
        write_atomically(docs / place, (folder / file).read_bytes())
