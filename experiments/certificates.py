"""How long a proof takes: certificates of a trained network's last stage, from 1 test image up.

    python -m experiments.certificates --network RUN/network.safetensors

N test images of MNIST are carried through the trained stages before the last, whose fields on R^m are tangent to
spheres; `theory.check_points` then proves, for the very float32 coefficients and states, that brackets of the fields
have the rank (m - 1) N there: controls, refined as needed, could carry these N images anywhere nearby on their spheres.
N grows until a certificate is not proved in the time given. What was measured is kept, a line for each N, with the
digest of the network: the same command goes on where it stopped. A rank that is not full, or that the time did not
suffice for, is no statement against the network. Seconds are of the proof alone: images and states are not counted;
where those of the processor are fewer, the machine was busy with other work. Exact arithmetic runs in numpy:
OPENBLAS_NUM_THREADS=1 in the environment holds it to one thread. Memory: 1 GiB at N = 80.

Subject: What flows can interpolate
Source: Cuchiero, lecture 2, main result
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor

from cde_nets.atomic import write_atomically
from cde_nets.certify import check_flow
from cde_nets.cli.console import errors, notify
from cde_nets.data import load_mnist
from cde_nets.nn.network import Network
from cde_nets.plot.style import COLOURS, figure, save, styled
from cde_nets.pretrained import pretrained_path
from cde_nets.train import load_network
from experiments.at_hand import few_images
from experiments.command import Json, Quick, allowed, begin
from experiments.kept import Lines
from experiments.shown import progress, say

app = typer.Typer(add_completion=False)

RUNS = Path("runs")
PROVED, OPEN = COLOURS[0], COLOURS[5]


@app.command()
def certificates(
    network: Annotated[
        Path | None,
        typer.Option(help="network.safetensors of a run. Default: the newest under runs/; with --quick mnist-100."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/certificates"),
    seconds: Annotated[float, typer.Option(min=0.0, help="For one proof; the first that takes longer ends.")] = 60,
    most: Annotated[int | None, typer.Option(min=1, help="Most images. Default: all, 2 with --quick.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the four MNIST files.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of primes and curves.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    as_json: Json = False,
) -> None:
    """Time certificates of a network; write certificates.jsonl and certificates.png."""
    allowed(publish, quick=quick)
    torch.set_num_threads(threads)
    console = errors()
    file = network or (pretrained_path("mnist-100") if quick else newest_network(RUNS))
    trained, _ = load_network(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    console.print(f"network: {file}", highlight=False, soft_wrap=True)
    data = few_images(data_dir, notify) if quick else load_mnist(data_dir, notify=notify)
    images = data.test.images
    most = min(most or (2 if quick else len(images)), len(images))
    out = begin(out, publish, quick=quick)
    kept = Lines(out / "certificates.jsonl", ("network", "images", "seed", "points", "proved", "time_limit"))
    # The images carried are told apart by what they are, not by where they came from.
    key = {"network": digest, "images": hashlib.sha256(images.tobytes()).hexdigest(), "seed": seed}
    series: list[dict[str, Any]] = []
    for points in sizes(most):
        row = _find(kept.rows, {**key, "points": points}, seconds)
        if row is None:
            state = torch.from_numpy(images[:points]).float() / 255
            row = {**key, **_measure(trained, state, seconds, seed)}
            kept.add([row])
        series.append(row)
        if not row["proved"]:
            break
    pictured = certificates_figure(series)
    text = "".join(json.dumps(row) + "\n" for row in series)
    save(pictured, out / "certificates.png")
    if publish is not None:
        write_atomically(publish / "images" / "certificates.png", (out / "certificates.png").read_bytes())
        write_atomically(publish / "results" / "certificates.jsonl", text.encode())
    say(as_json, {"rows": series}, _table(series))


def newest_network(runs: Path) -> Path:
    """The network of the run that was finished last.

    Raises:
        typer.BadParameter: there is none.
    """
    found = [path for path in runs.glob("**/network.safetensors") if path.is_file()]
    if not found:
        raise typer.BadParameter(f"no network under {runs}/: train one by `make mnist`, or name one with --network.")
    return max(found, key=lambda path: (path.stat().st_mtime, str(path)))


def sizes(most: int) -> Iterator[int]:
    """1, 2, 5, 10, 20, 40, 60, 80, 120, 160, 240, ..: never more than twice the one before, but for 5."""
    first = (1, 2, 5, 10, 20)
    yield from (n for n in first if n <= most)
    n = 40
    while n <= most:
        yield n
        if 3 * n // 2 <= most:
            yield 3 * n // 2
        n *= 2


def _measure(network: Network, images: Tensor, seconds: float, seed: int) -> dict[str, Any]:
    stages = network.flow_stages()
    with torch.no_grad():
        state = network.start(images)
        for before in stages[:-1]:
            state = before(state)
    columns = TextColumn(f"{len(images)} images: rank"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with progress(*columns) as bar:
        task = bar.add_task("rank", total=None)
        begun, worked = time.perf_counter(), time.process_time()
        found = check_flow(
            stages[-1].flow,
            state,
            seed=seed,
            time_limit=seconds,
            progress=lambda rank, full: bar.update(task, completed=rank, total=full),
        )
        taken, worked = time.perf_counter() - begun, time.process_time() - worked
    return {
        "points": len(images),
        "dim": found.dim,
        "count": found.count,
        "proved": found.proved,
        "scope": found.scope,
        "rank": found.rank,
        "full_rank": found.full_rank,
        "depth": found.depth,
        "primes": [run.prime for run in found.runs],
        "seconds": taken,
        "cpu_seconds": worked,
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"),
        "time_limit": seconds,
        "fields_digest": found.digest,
        "points_digest": found.points_digest,
        "sentence": str(found),
    }


def certificates_figure(rows: list[dict[str, Any]]) -> Figure:
    """Seconds against N, with the ranks."""
    proved = [row for row in rows if row["proved"]]
    with styled():
        made = figure(6.8, 4.4)
        ax = made.subplots()
        limit = rows[-1]["time_limit"]
        ax.set(xscale="log", yscale="log")
        ax.axhline(limit, color="#666666", linestyle="--", linewidth=1)
        ax.annotate(
            f"given: {limit:g} s",
            (0.01, limit),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=8,
        )
        if proved:
            ax.plot([row["points"] for row in proved], [row["seconds"] for row in proved], "o-", color=PROVED)
        for row in rows:
            where = (row["points"], row["seconds"])
            if row["proved"]:
                ax.annotate(
                    f"{row['rank']:,}", where, (5, -8), textcoords="offset points", va="top", fontsize=8, color=PROVED
                )
            else:
                ax.plot(*where, "o", markerfacecolor="none", color=OPEN)
                said = f"not proved: {row['rank']:,} of {row['full_rank']:,}"
                ax.annotate(
                    said, where, (4, 8), textcoords="offset points", ha="right", va="bottom", fontsize=8, color=OPEN
                )
        ax.set(xlabel="N, test images", ylabel="seconds for a proof")
        ax.set_xticks([row["points"] for row in rows], [str(row["points"]) for row in rows])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.margins(x=0.09, y=0.12)
        one = rows[0]
        ax.set_title(
            f"certificates of the last stage: {one['count']} fields on $R^{{{one['dim']}}}$, tangent to spheres\n"
            f"beside each point the rank proved, (m − 1)N = {one['dim'] - 1}N"
        )
    return made


def _find(rows: list[dict[str, Any]], wanted: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """What is known already: a proof, or a failure that had at least as much time."""
    for row in rows:
        if wanted.items() <= row.items() and (row["proved"] or row["time_limit"] >= seconds):
            return row
    return None


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("images", "rank", "of", "depth", "seconds", "of the CPU", "modulo", title="last stage")
    for row in rows:
        counts = (str(row[name]) for name in ("points", "rank", "full_rank", "depth"))
        times = (f"{row[name]:.2f}" for name in ("seconds", "cpu_seconds"))
        table.add_row(*counts, *times, ", ".join(map(str, row["primes"])), style=None if row["proved"] else "yellow")
    return table


if __name__ == "__main__":
    app()
