"""Tables A2 and A3 in Markdown, and the picture: ours beside the paper's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import ttest_rel

from cde_nets.data.citation import CitationGraph
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.citation import paper
from experiments.citation.results import Results, percent
from experiments.citation.rows import ROWS
from experiments.citation.training import Settings

OURS, THEIRS = COLOURS[0], COLOURS[1]


def markdown(graph: CitationGraph, settings: Settings, results: Results) -> str:
    """Both tables, and what they are of."""
    ours, theirs = paper.statistics(graph), paper.STATISTICS.get(graph.name)
    lines = [
        f"### Table A2: {graph.name.capitalize()}",
        "",
        "| | " + " | ".join(paper.COLUMNS) + " |",
        "|---" * (len(paper.COLUMNS) + 1) + "|",
        *(["| paper | " + " | ".join(f"{number:,}" for number in theirs) + " |"] if theirs else []),
        "| here | " + " | ".join(f"{number:,}" for number in ours) + " |",
        "",
        f"{graph.self_citations} documents cite themselves, {graph.isolated} have no edge.",
        "",
        f"### Table A3: accuracy on {graph.name.capitalize()}, %",
        "",
        "| | paper | test | apart | validation | apart | runs | stopped | unsolved epochs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in ROWS.items():
        runs = results.of(key)
        printed = paper.ACCURACY.get(key) if graph.name == "cora" else None
        lines.append(
            f"| {row.title} | {_words(printed)} | {_beside(printed, runs, 'test_accuracy')} | "
            f"{_beside(printed, runs, 'validation_accuracy')} | {len(runs)} | "
            f"{sum(run['stopped_at'] is not None for run in runs)} | {_unsolved(runs)} |"
        )
    train, validation, test = settings.counts
    lines += [
        "",
        f"{settings.epochs} epochs, state of {settings.size} numbers, {settings.steps} steps, truncation "
        f"{settings.truncation}, {train} / {validation} / {test} documents, weights: {settings.weights.value}. Mean ± "
        "standard deviation over runs, each with a split and weights of its own; the epoch is chosen by the validation "
        f"accuracy of every {settings.every} epochs. Apart: less the paper's, in standard errors of that difference, "
        f"where there are {paper.RUNS} runs as in the paper; its ± is read as a standard deviation, too. Stopped: runs "
        "whose gradient became infinite or NaN, which keep their weights from there on. Unsolved epochs, of all runs: "
        "the linear problem was not solved, or left the finite numbers, so that the recurrent unit got no gradient.",
        "",
        *_leads(results),
    ]
    return "\n".join(lines)


def _leads(results: Results) -> list[str]:
    """A table of rows less the baseline, and of the two that the paper calls the best, on the same splits."""
    pairs = {f"{row.title} − Baseline": (key, "baseline") for key, row in ROWS.items() if key != "baseline"}
    pairs["TBPTT − Neumann-RBP"] = ("tbptt", "neumann-rbp")
    lines = []
    for title, (one, other) in pairs.items():
        there = {run["seed"]: run for run in results.of(other)}
        both = [(run, there[run["seed"]]) for run in results.of(one) if run["seed"] in there]
        if len(both) >= paper.RUNS:
            lines.append(f"| {title} | " + " | ".join(_paired(both, what) for what in ACCURACIES) + " |")
    if not lines:
        return []
    return [
        "| on the same splits | " + " | ".join(ACCURACIES.values()) + " |",
        "|---" * (len(ACCURACIES) + 1) + "|",
        *lines,
        "",
        "Mean difference in points ± its standard error, and p of the paired t-test; rows of fewer runs are left out.",
        "",
    ]


# Of a run, and what they are called.
ACCURACIES = {
    "test_accuracy": "test",
    "validation_accuracy": "validation",
    "last_test_accuracy": "test after the last epoch",
}


def _paired(both: list[tuple[dict[str, Any], dict[str, Any]]], what: str) -> str:
    one, other = (np.array([100 * pair[k][what] for pair in both]) for k in (0, 1))
    error = float((one - other).std(ddof=1)) / math.sqrt(len(both))
    return f"{(one - other).mean():+.1f} ± {error:.1f} (p {ttest_rel(one, other).pvalue:.2g})"


def picture(graph: CitationGraph, results: Results) -> Figure:
    """Test accuracy of every row beside the paper's; mean validation accuracy; distance from rest."""
    with styled():
        made = figure(12.5, 4.2)
        bars, curves, rest = made.subplots(1, 3, width_ratios=(1.1, 1, 1))
        _bars(bars, results, paper.ACCURACY if graph.name == "cora" else {})
        done = [key for key in ROWS if results.of(key)]
        for k, key in enumerate(ROWS):
            if key not in done:
                continue
            look: dict[str, Any] = {
                "color": COLOURS[k % len(COLOURS)],
                "label": ROWS[key].title,
                "linestyle": "-" if k < len(COLOURS) else "--",
                "linewidth": 1.2,
            }
            runs = results.of(key)
            _curve(curves, runs, "validation", 100.0, look)
            _curve(rest, runs, "relative_residual", 1.0, look)
        curves.set(xlabel="epoch", ylabel="validation accuracy, %", title="Training")
        if done:
            # Below, under both pictures whose lines it names: with all rows no corner is free of them.
            names = curves.legend(
                loc="upper center",
                bbox_to_anchor=(1.1, -0.15),
                ncols=len(done),
                fontsize=7,
                handlelength=1.3,
                columnspacing=0.9,
            )
            # That of the bars has made room already.
            names.set_in_layout(False)
        rest.set(xlabel="epoch", ylabel="|f(z) − z| / |z| after the last step", yscale="log", title="How far from rest")
    return made


def _bars(ax: Axes, results: Results, printed: dict[str, tuple[float, float]]) -> None:
    keys = list(ROWS)
    for k, key in enumerate(keys):
        runs = results.of(key)
        for shift, colour, pair in (
            (-0.17, OURS, _mean(runs, "test_accuracy")),
            (0.17, THEIRS, printed.get(key)),
        ):
            if pair is not None:
                ax.barh(k + shift, pair[0], 0.32, xerr=pair[1], color=colour, error_kw={"linewidth": 1})
        own = [100 * run["test_accuracy"] for run in runs]
        ax.plot(own, [k - 0.17] * len(own), ".", color="black", markersize=3)
    ax.set_yticks(range(len(keys)), [ROWS[key].title for key in keys])
    ax.set_ylim(len(keys) - 0.5, -0.5)
    ax.set(xlabel="test accuracy, %", xlim=(0, None), title="Table A3")
    for colour, word in ((OURS, "here"), (THEIRS, "paper")):
        ax.barh(0, 0, color=colour, label=word)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _curve(ax: Axes, runs: list[dict[str, Any]], what: str, scale: float, look: dict[str, Any]) -> None:
    """The mean over the runs that have a number there."""
    epochs, columns = runs[0]["curve"]["epoch"], zip(*(run["curve"][what] for run in runs), strict=True)
    known = [(at, [v for v in values if v is not None]) for at, values in zip(epochs, columns, strict=True)]
    drawn = [(at, scale * sum(values) / len(values)) for at, values in known if values]
    if drawn:
        ax.plot([at for at, _ in drawn], [value for _, value in drawn], **look)


def _mean(runs: list[dict[str, Any]], what: str) -> tuple[float, float] | None:
    return percent([run[what] for run in runs]) if runs else None


def _words(pair: tuple[float, float] | None, runs: int = 10) -> str:
    """One run has no spread."""
    if pair is None:
        return ""
    return f"{pair[0]:.2f} ± {pair[1]:.1f}" if runs > 1 else f"{pair[0]:.2f}"


def _beside(printed: tuple[float, float] | None, runs: list[dict[str, Any]], what: str) -> str:
    """Two entries: a mean, and how many standard errors it is from the paper's where both have a spread."""
    pair = _mean(runs, what)
    return f"{_words(pair, len(runs))} | {_apart(printed, pair, len(runs))}"


def _apart(printed: tuple[float, float] | None, pair: tuple[float, float] | None, runs: int) -> str:
    if printed is None or pair is None or runs < paper.RUNS:
        return ""
    mean, spread = pair
    apart = (mean - printed[0]) / math.sqrt(spread**2 / runs + printed[1] ** 2 / paper.RUNS)
    # No minus before a zero.
    return f"{round(apart, 1) + 0.0:+.1f}"


def _unsolved(runs: list[dict[str, Any]]) -> str:
    total = sum(run["settings"]["epochs"] for run in runs)
    return f"{sum(run['unsolved_epochs'] for run in runs):,} of {total:,}" if runs else ""
