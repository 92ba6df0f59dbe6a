"""The command: `run` trains, `certify` proves, `publish` writes docs, `list` says what is done.

    python -m experiments.frontier run 750
    python -m experiments.frontier run others --seeds 1
    python -m experiments.frontier list
    python -m experiments.frontier certify frontier
    python -m experiments.frontier publish docs
    python -m experiments.frontier --quick

The last one trains a network of each kind for a moment and certifies one: that all of it runs. A run that was stopped
goes on where it stood, and one that is done is read back. Several processes may share an --out if no run is in two of
them. To go on from published results, put docs/results/frontier.jsonl into OUT/results.jsonl.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.markdown import Markdown
from rich.table import Table

from cde_nets import pretrained
from cde_nets.atomic import write_atomically
from cde_nets.cli.console import errors, notify
from cde_nets.data import MNIST, load_digits, load_fashion_mnist, load_mnist
from cde_nets.plot.style import save
from cde_nets.train import Run, load_network
from cde_nets.train.checkpoint import NETWORK, load_tensors
from experiments import pages
from experiments.at_hand import few_images
from experiments.command import Json, begin
from experiments.frontier import certificates, report, results
from experiments.frontier.plan import GROUPS, Entry, entries, quick
from experiments.shown import say
from experiments.trained import result_of

app = typer.Typer(add_completion=False)
# Of the trial of everything: one entry of each kind of network.
TRIED = ("100", "u = 0", "LeNet subspace", "residual CNN", "dense", "lecture")
TRIED_IMAGES = 2
# Of MNIST's images.
SIZE = 28
PAGE, TABLES = (
    "frontier.md",
    {"frontier points": "frontier", "frontier ablation": "ablation", "frontier others": "others"},
)

CERTIFIED, CERTIFICATES = "frontier certificates", "frontier_certificates.json"
PRETRAINED = Path(pretrained.__file__).parent

Data = Literal["mnist", "fashion", "digits"]
Out = Annotated[Path, typer.Option(help="Folder of the runs and their results.")]
_OUT = Path("runs/frontier")


@app.callback(invoke_without_command=True)
def trial(
    context: typer.Context,
    fast: Annotated[bool, typer.Option("--quick", help="No command, but a moment of each kind.")] = False,
    out: Out = _OUT,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the files of MNIST, for --quick.")] = None,
    as_json: Json = False,
) -> None:
    """Test accuracy against trained numbers: train, certify, publish."""
    if context.invoked_subcommand is not None:
        if fast or as_json or data_dir is not None or out != _OUT:
            raise typer.BadParameter("these options stand behind the command, as in: run 750 --quick.")
        return
    if not fast:
        raise typer.BadParameter("expected a command, or --quick, which trains each kind for a moment.")
    folder = begin(out, quick=True)
    images = few_images(data_dir, notify)
    chosen = {name: entry for name, entry in entries().items() if name in TRIED}
    plan = {name: replace(one, seeds=1, training={**one.training, "epochs": 1}) for name, one in chosen.items()}
    torch.set_num_threads(1)
    for entry in plan.values():
        result_of(Run(results.folder_of(folder, entry, 0)), *entry.configurations(0, SIZE), images)
        results.keep(folder, plan, SIZE)
    rows = results.collect(folder, plan, SIZE)
    network, _ = load_network(_network(folder, plan[TRIED[0]], rows[0]))
    shown = torch.from_numpy(images.test.images[:TRIED_IMAGES]).float() / 255
    proved = certificates.certify(network, shown, last=1)
    save(report.frontier_figure(plan, rows), folder / "frontier.png")
    content = {"runs": rows, "certificates": {TRIED[0]: proved}}
    say(as_json, content, _table(list(plan.values()), rows), certificates.table({TRIED[0]: proved}))


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help=f"Entries, or groups of them: {', '.join(GROUPS)}.")],
    seeds: Annotated[int | None, typer.Option(min=1, help="At most so many seeds of each.")] = None,
    data: Annotated[Data, typer.Option(help="mnist, fashion, or digits (scikit-learn's 8 x 8).")] = "mnist",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the files of mnist or fashion.")] = None,
    out: Out = _OUT,
    fast: Annotated[bool, typer.Option("--quick", help="One seed and one epoch of each.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; the last bits depend on them.")] = 1,
    as_json: Json = False,
) -> None:
    """Train what the configurations describe, one run after the other."""
    console = errors()
    try:
        plan = entries()
        _check_names(plan, names)
        images = _load(data, data_dir)
        size, trial = images.train.images.shape[1], len(images.train) if fast else None
        plan = {name: entry if trial is None else quick(entry, trial) for name, entry in plan.items()}
        wanted = [entry for entry in plan.values() if entry.name in names or entry.group in names]
        for entry in wanted:
            entry.configurations(0, size)
    except (ValueError, ImportError) as error:
        raise typer.BadParameter(str(error)) from None
    torch.set_num_threads(threads)
    done = {(row["name"], row["seed"]) for row in results.collect(out, plan, size)}
    for entry in wanted:
        for seed in range(entry.seeds if seeds is None else min(seeds, entry.seeds)):
            if (entry.name, seed) in done:
                continue
            console.rule(f"{entry.name}, seed {seed}")
            result_of(Run(results.folder_of(out, entry, seed)), *entry.configurations(seed, size), images)
            # From the folders each time: other processes may have come to an end meanwhile.
            results.keep(out, plan, size)
    rows = results.collect(out, plan, size)
    chosen = [row for entry in wanted for row in results.of(rows, entry.name)]
    say(as_json, {"runs": chosen}, _table(wanted, rows))


@app.command(name="list")
def list_(out: Out = _OUT, as_json: Json = False) -> None:
    """Say which runs are planned and which are done."""
    plan = entries()
    rows = results.collect(out, plan, SIZE)
    seeds = {name: [row["seed"] for row in results.of(rows, name)] for name in plan}
    content = [
        {"name": one.name, "group": one.group, "planned": one.seeds, "done": seeds[one.name]} for one in plan.values()
    ]
    say(as_json, {"entries": content}, _table(list(plan.values()), rows))


@app.command()
def certify(
    names: Annotated[list[str], typer.Argument(help="Points of the frontier, or frontier for all.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the files of MNIST.")] = None,
    out: Out = _OUT,
    as_json: Json = False,
) -> None:
    """Prove what can be proved of the best seed's stages at test images, and measure the Jacobian's rank.

    An entry without a run in the folder is proved by the network that comes with the package, where there is one.
    """
    plan = entries()
    try:
        _check_names(plan, names)
        kept = certificates.read(out / CERTIFICATES)
        rows = results.collect(out, plan, SIZE)
        chosen = {name: _trained(out, entry, rows) for name, entry in plan.items() if {name, entry.group} & {*names}}
        images = load_mnist(data_dir, notify=notify).test.images[: certificates.IMAGES]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for name, file in chosen.items():
        network, about = load_network(file)
        found = certificates.certify(network, torch.from_numpy(images).float() / 255)
        kept[name] = {"seed": about["config"]["seed"], **found}
        certificates.write(out / CERTIFICATES, kept)
    say(as_json, {"certificates": {name: kept[name] for name in chosen}}, Markdown(certificates.table(kept)))


@app.command()
def publish(docs: Annotated[Path, typer.Argument(help="The folder of docs.")], out: Out = _OUT) -> None:
    """Write figure, tables and results of the runs that are done to docs."""
    plan = entries()
    page = docs / PAGE
    try:
        for mark in (*TABLES, CERTIFIED):
            pages.check(page, mark)
        rows = results.collect(out, plan, SIZE)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not rows:
        raise typer.BadParameter(f"{out} holds no finished run of these configurations.")
    for mark, group in TABLES.items():
        table = report.frontier_table(plan, rows) if group == "frontier" else report.group_table(plan, rows, group)
        pages.fill(page, mark, table)
    proved = certificates.read(out / CERTIFICATES)
    kept = {name: proved[name] for name in plan if name in proved}
    pages.fill(page, CERTIFIED, certificates.table(kept))
    save(report.frontier_figure(plan, rows), docs / "images" / "frontier.png")
    (docs / "results").mkdir(parents=True, exist_ok=True)
    write_atomically(docs / "results" / "frontier.jsonl", results.text(rows))
    certificates.write(docs / "results" / CERTIFICATES, kept)
    for name, entry in plan.items():
        row = best(rows, name)
        if entry.group == "frontier" and row is not None and (file := _network(out, entry, row)).exists():
            write_atomically(PRETRAINED / f"{_pretrained_name(entry)}.safetensors", file.read_bytes())


def best(rows: list[results.Row], name: str) -> results.Row | None:
    """Of an entry's runs, the one whose validation accuracy is largest: the network that goes by the entry's name."""
    found = results.of(rows, name)
    return max(found, key=lambda row: row["validation_accuracy"]) if found else None


def _network(out: Path, entry: Entry, row: results.Row) -> Path:
    return Run(results.folder_of(out, entry, row["seed"])).network


def _trained(out: Path, entry: Entry, rows: list[results.Row]) -> Path:
    """The network of an entry's best run; the published one where there is no run, or where it is that run's."""
    row, name = best(rows, entry.name), _pretrained_name(entry)
    if row is not None and (file := _network(out, entry, row)).exists():
        return file
    if name in pretrained.pretrained_networks():
        file = pretrained.pretrained_path(name)
        _, about = load_tensors(file, NETWORK)
        if row is None or about["result"].items() >= {k: row[k] for k in ("seed", "test_accuracy")}.items():
            notify(f"{entry.name}: {name} of the package, as {out} has no run's network")
            return file
    raise ValueError(f"{entry.name} has no finished run in {out}: run it first.")


def _pretrained_name(entry: Entry) -> str:
    """By which the package knows the network of a point of the frontier."""
    return f"mnist-{entry.name}"


def _check_names(plan: dict[str, Entry], names: list[str]) -> None:
    known = {*plan, *GROUPS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"There is no {', '.join(unknown)}. There are the groups {', '.join(GROUPS)}; {', '.join(plan)}."
        )


def _load(data: Data, folder: Path | None) -> MNIST:
    if data == "digits":
        return load_digits()
    found = load_fashion_mnist(folder) if data == "fashion" else load_mnist(folder, notify=notify)
    notify(f"data: {found.source}, {found.detail}")
    return found


def _table(wanted: list[Entry], rows: list[results.Row]) -> Table:
    table = Table("entry", "seeds", "trained", "validation, %", "test, %", "minutes")
    for entry in wanted:
        found = results.of(rows, entry.name)
        done = f"{len(found)} of {entry.seeds}"
        if found:
            minutes = sum(row["seconds"] for row in found) / len(found) / 60
            accuracies = report.accuracy(found, "validation_accuracy"), report.accuracy(found)
            table.add_row(entry.name, done, f"{found[0]['trained_parameters']:,}", *accuracies, f"{minutes:.1f}")
        else:
            table.add_row(entry.name, done, "", "", "", "")
    return table
