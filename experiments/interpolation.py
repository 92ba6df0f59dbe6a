"""What `cn.interpolate` reaches: how often, for how many points, with how many numbers, down to which lambda.

    python -m experiments.interpolation
    python -m experiments.interpolation --part goals --part growth --seeds 2

Points and targets are uniform in [-1, 1]^m, y = lambda (X_1 - x), fields are drawn anew for each seed. Four parts:

- goals: how often quadratic fields reach lambda = 10 at three sizes;
- growth: 2 to 50 points, for the explicit five in the plane, random quadratic and ridge fields of R^10;
- numbers: what more numbers M d than the m N that are asked for buy, with the same steps of the method;
- smallest: the smallest lambda for ten points of the plane and five quadratic fields, and the ODE itself there.

Each trial is a line of trials.jsonl once it is done; a command that was stopped goes on where it stood. A trial whose
time is up counts as not reached, so that success depends on the machine: seconds are kept beside it.

Subject: Steering
Source: Cuchiero, lecture 2, main result
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

import cde_nets as cn
from cde_nets.atomic import write_atomically
from cde_nets.cli.console import notify
from cde_nets.plot.style import COLOURS, figure, save, styled
from experiments.command import Json, Quick, begin, less, named
from experiments.kept import Lines
from experiments.shown import progress, say

app = typer.Typer(add_completion=False)


class Part(StrEnum):
    """What can be measured by itself."""

    GOALS = "goals"
    GROWTH = "growth"
    NUMBERS = "numbers"
    SMALLEST = "smallest"


@dataclass(frozen=True)
class Trial:
    """One call of `cn.interpolate`.

    Attributes:
        part: what it is part of.
        family: "polynomial", "ridge" or "five".
        dim: m.
        count: d.
        points: N.
        seed: of fields, points, targets and loops.
        lam: lambda; None looks for the smallest.
        steps: M; None takes the default.
        substeps: of the method on each interval.
        refine_to: of the ODE.
        seconds: what the search may take.
    """

    part: str
    family: str
    dim: int
    count: int
    points: int
    seed: int
    lam: float | None = 10.0
    steps: int | None = None
    substeps: int = 1
    refine_to: float | None = None
    seconds: float = 60.0


# (m, d, N) of the goals.
GOALS = ((10, 20, 20), (10, 40, 50), (2, 5, 10))
POINTS = (2, 5, 10, 20, 50)
# (m, d) of each family. The explicit five of R^10 carry not even two points within a minute.
FAMILIES = {"five": (2, 5), "polynomial": (10, 20), "ridge": (10, 20)}
# M for six fields and eighteen numbers asked for, so that M d / (m N) = M / 3; all with 24 steps of the method.
NUMBERS = (3, 4, 6, 8, 12, 24)
# Points of the smallest lambda, and the seconds that its search may take.
SMALLEST_POINTS, PATIENCE = 10, 120.0


def trials(part: Part, seeds: int) -> Iterator[Trial]:
    """All trials of a part."""
    for seed in range(seeds):
        if part is Part.GOALS:
            for dim, count, points in GOALS:
                yield Trial(part.value, "polynomial", dim, count, points, seed)
        elif part is Part.GROWTH:
            for family, (dim, count) in FAMILIES.items():
                for points in POINTS:
                    yield Trial(part.value, family, dim, count, points, seed)
        elif part is Part.NUMBERS:
            for steps in NUMBERS:
                yield Trial(part.value, "polynomial", 3, 6, 6, seed, 5.0, steps, 24 // steps, seconds=5.0)
        else:
            yield Trial(part.value, "polynomial", 2, 5, SMALLEST_POINTS, seed, None, seconds=PATIENCE)
            yield Trial(part.value, "polynomial", 2, 5, SMALLEST_POINTS, seed, refine_to=1e-8, seconds=PATIENCE)


# Seeds of a part: those that are asked for, but no more than these, as trials of some take minutes.
MOST_SEEDS = {Part.GOALS: 20, Part.GROWTH: 2, Part.NUMBERS: 20, Part.SMALLEST: 4}


@app.command()
@less(
    globals(),
    GOALS=((4, 10, 4),),
    POINTS=(2, 5),
    NUMBERS=(6, 12),
    SMALLEST_POINTS=4,
    MOST_SEEDS=dict.fromkeys(MOST_SEEDS, 1),
    PATIENCE=10.0,
)
def interpolation(
    parts: Annotated[str, typer.Option(help=f"Names with commas between, of {', '.join(Part)}; all where empty.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="At most; 20, 2, 20 and 4 of the four parts are the most.")] = 20,
    out: Annotated[Path, typer.Option(help="Folder of the trials and the figure.")] = Path("runs/interpolation"),
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Steer points to targets many times; write trials.jsonl and interpolation.png."""
    torch.set_num_threads(threads)
    chosen = [Part(name) for name in named(parts, Part, "--parts")]
    out = begin(out, publish, quick=quick)
    kept = Lines(out / "trials.jsonl", list(Trial.__dataclass_fields__))
    wanted = [astuple(t) for p in chosen for t in trials(p, min(seeds, MOST_SEEDS[p]))]
    with progress() as bar:
        task = bar.add_task("trials", total=len(wanted))
        for (trial,) in kept.each([[trial] for trial in wanted], notify):
            bar.update(task, completed=sum(map(kept.has, wanted)))
            kept.add([measure(Trial(*trial))])
    rows = kept.rows
    pictured = picture(rows)
    save(pictured, out / "interpolation.png")
    if publish is not None:
        write_atomically(publish / "images" / "interpolation.png", (out / "interpolation.png").read_bytes())
        write_atomically(publish / "results" / "interpolation.jsonl", kept.path.read_bytes())
    say(as_json, {"trials": rows}, table(rows))


def measure(trial: Trial) -> dict[str, Any]:
    """Run a trial; what it was, and what came of it."""
    fields = _fields(trial)
    generator = torch.Generator().manual_seed(trial.seed)
    x, y = 2 * torch.rand(2, trial.points, trial.dim, generator=generator, dtype=torch.float64) - 1
    begun = time.perf_counter()
    found = cn.interpolate(
        fields,
        x,
        y,
        lam=trial.lam,
        steps=trial.steps,
        substeps=trial.substeps,
        refine_to=trial.refine_to,
        seed=trial.seed,
        time_limit=trial.seconds,
        certify=False,
    )
    return asdict(trial) | {
        "reached": found.status is cn.SteerStatus.SOLVED,
        "reached_lam": found.lam,
        "intervals": found.control.steps,
        "residual": found.residual,
        # JSON has no infinity: None where finer steps blow up.
        "refined_residual": found.refined_residual if math.isfinite(found.refined_residual) else None,
        "final_substeps": found.substeps,
        "energy": found.energy,
        "condition": found.condition,
        "evaluations": found.evaluations,
        "took": round(time.perf_counter() - begun, 2),
    }


def picture(rows: list[dict[str, Any]]) -> Figure:
    """Four panels, one a part; a part that was not measured is empty and says so."""
    with styled():
        made = figure(9.6, 6.6)
        panels = made.subplots(2, 2)
        for ax, (part, draw) in zip(
            panels.flat,
            (("goals", _goals), ("growth", _growth), ("numbers", _numbers), ("smallest", _smallest)),
            strict=True,
        ):
            some = [row for row in rows if row["part"] == part]
            if some:
                draw(some, ax)
            else:
                ax.text(0.5, 0.5, f"not measured: --part {part}", ha="center", va="center", transform=ax.transAxes)
                ax.set_axis_off()
    return made


def table(rows: list[dict[str, Any]]) -> Table:
    """Success by case."""
    made = Table(title="controls found, y = lambda (X_1 - x)")
    for name in (
        "part",
        "fields",
        "m",
        "d",
        "N",
        "M d / m N",
        "lambda",
        "reached",
        "median s",
        "energy",
        "ODE residual",
    ):
        made.add_column(name, justify="left" if name in ("part", "fields") else "right")
    for case, some in _cases(rows).items():
        part, family, dim, count, points, _, lam, refined = case
        good = [row for row in some if row["reached"]]
        ratio = some[0]["intervals"] * count / (dim * points)
        smallest = ", ".join(f"{row['reached_lam']:g}" for row in some)
        made.add_row(
            part,
            family,
            f"{dim}",
            f"{count}",
            f"{points}",
            f"{ratio:.3g}",
            f"{lam:g}" if lam is not None else smallest,
            f"{len(good)} of {len(some)}",
            f"{np.median([row['took'] for row in good]):.1f}" if good else "",
            f"{np.median([row['energy'] for row in good]):.0f}" if good else "",
            f"{max(row['refined_residual'] for row in good):.0e}" if good and refined is not None else "",
        )
    return made


def _goals(rows: list[dict[str, Any]], ax: Axes) -> None:
    """Success against the time a trial took, a curve a size."""
    for colour, (case, some) in zip(COLOURS, _cases(rows).items(), strict=False):
        _, _, dim, count, points, *_ = case
        times = sorted(row["took"] for row in some if row["reached"])
        shares = [(k + 1) / len(some) for k in range(len(times))]
        last = max(60.0, *times) if times else 60.0
        label = f"m {dim}, d {count}, N {points}: {len(times)} of {len(some)}"
        ax.step([0, *times, last], [0, *shares, shares[-1] if shares else 0], where="post", color=colour, label=label)
    ax.axvline(30, color="#999999", linewidth=0.8, linestyle=":")
    ax.set(xlabel="seconds", ylabel="share of seeds", ylim=(-0.02, 1.05), xlim=(0, None))
    ax.set_title("Quadratic fields to $\\lambda$ = 10, residual $10^{-10}$")
    ax.legend(loc="lower right")


def _growth(rows: list[dict[str, Any]], ax: Axes) -> None:
    """The energy of solutions against N, crosses below where a trial was not solved."""
    for k, family in enumerate(FAMILIES):
        some = [row for row in rows if row["family"] == family]
        good = [row for row in some if row["reached"]]
        name = {"five": "the five, m 2", "polynomial": "20 quadratic, m 10", "ridge": "20 ridge, m 10"}[family]
        ax.plot([row["points"] for row in good], [row["energy"] for row in good], "o", color=COLOURS[k], label=name,
                markersize=4)  # fmt: skip
        known = [n for n in POINTS if any(row["points"] == n for row in good)]
        medians = {n: np.median([row["energy"] for row in good if row["points"] == n]) for n in known}
        ax.plot(known, [medians[n] for n in known], color=COLOURS[k], linewidth=1)
        for n in POINTS:
            here = [row for row in some if row["points"] == n]
            missed = sum(not row["reached"] for row in here)
            if missed:
                ax.annotate(
                    f"{missed}/{len(here)} ×", (n, 0.03 + 0.06 * k), xycoords=("data", "axes fraction"),
                    color=COLOURS[k], ha="center", fontsize=7,
                )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="N points", ylabel="energy $\\int |u|^2 dt$")
    ax.set_xticks(POINTS, [str(n) for n in POINTS])
    ax.minorticks_off()
    ax.set_title("Energy by number of points, $\\lambda$ = 10 (×: not solved)")
    ax.legend(loc="upper left")


def _numbers(rows: list[dict[str, Any]], ax: Axes) -> None:
    """Success against M d / m N."""
    shares: dict[float, list[bool]] = {}
    for row in rows:
        shares.setdefault(row["steps"] * row["count"] / (row["dim"] * row["points"]), []).append(row["reached"])
    ratios = sorted(shares)
    ax.plot(ratios, [np.mean(shares[ratio]) for ratio in ratios], "o-", color=COLOURS[0])
    for ratio in ratios:
        ax.annotate(f"{sum(shares[ratio])}/{len(shares[ratio])}", (ratio, np.mean(shares[ratio])), xytext=(0, 6),
                    textcoords="offset points", ha="center", fontsize=7)  # fmt: skip
    ax.set(xlabel="numbers of the control for each that is asked for, Md / mN", ylabel="share of seeds")
    ax.set(xscale="log", ylim=(-0.03, 1.15))
    ax.set_xticks(ratios, [f"{ratio:.3g}" for ratio in ratios])
    ax.minorticks_off()
    ax.set_title("What more numbers buy: m 3, d 6, N 6, $\\lambda$ = 5")


def _smallest(rows: list[dict[str, Any]], ax: Axes) -> None:
    """The smallest lambda by seed, and beside it the ODE's residual at lambda = 10."""
    searched = [row for row in rows if row["lam"] is None]
    ax.bar([row["seed"] for row in searched], [row["reached_lam"] for row in searched], color=COLOURS[0], width=0.6)
    for row in searched:
        ax.annotate(f"{row['reached_lam']:g}", (row["seed"], row["reached_lam"]), xytext=(0, 3),
                    textcoords="offset points", ha="center")  # fmt: skip
    refined = [row for row in rows if row["refine_to"] is not None]
    text = "\n".join(
        f"seed {row['seed']}: "
        + (f"{row['refined_residual']:.0e}, {row['final_substeps']} steps an interval" if row["reached"] else "missed")
        for row in refined
    )
    ax.text(0.98, 0.97, f"the ODE at $\\lambda$ = 10\n{text}", transform=ax.transAxes, ha="right", va="top", fontsize=7)
    ax.set(yscale="log", ylim=(0.8, 3000), xlabel="seed", ylabel="smallest $\\lambda$")
    ax.set_xticks([row["seed"] for row in searched])
    ax.set_title("m 2, d 5, N 10: two minutes each")


def _fields(trial: Trial) -> cn.Fields:
    if trial.family == "five":
        return cn.UniversalFields(trial.dim, dtype=torch.float64)
    drawn = cn.RidgeFields.random if trial.family == "ridge" else cn.PolynomialFields.random
    return drawn(trial.dim, trial.count, 2, seed=trial.seed, dtype=torch.float64)


def _cases(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        names = ("part", "family", "dim", "count", "points", "steps", "lam", "refine_to")
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


if __name__ == "__main__":
    app()
