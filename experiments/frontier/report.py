"""The frontier's figure and tables."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from cde_nets.plot.style import COLOURS, figure, plain_log_ticks, styled
from experiments.frontier import published
from experiments.frontier.plan import Entry
from experiments.frontier.results import Row, of, spread


def frontier_table(plan: Mapping[str, Entry], rows: list[Row]) -> str:
    """A row for each point: numbers, accuracies with their spread, epochs and minutes, what is published."""
    lines = [
        "| trained numbers at most | trained | frozen | test accuracy, % | validation, % | seeds | epochs "
        "| minutes, fastest run | published, frozen or random subspace, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in plan.values():
        found = of(rows, entry.name)
        if entry.group != "frontier" or not found:
            continue
        minutes = _minutes(found)
        theirs = published.FROZEN_BEST.get(entry.at_most or 0)
        lines.append(
            f"| {entry.at_most:,} | {found[0]['trained_parameters']:,} | {found[0]['frozen_parameters']:,} "
            f"| {accuracy(found)} | {accuracy(found, 'validation_accuracy')} | {len(found)} "
            f"| {found[0]['epochs']} | {minutes:.1f} | {'' if theirs is None else theirs} |"
        )
    return "\n".join(lines)


def group_table(plan: Mapping[str, Entry], rows: list[Row], group: str) -> str:
    """A row for each entry of a group: what it is, numbers, accuracies with their spread."""
    lines = [
        "| | trained | test accuracy, % | validation, % | seeds | minutes, fastest run |",
        "|---|---|---|---|---|---|",
    ]
    for entry in plan.values():
        found = of(rows, entry.name)
        if entry.group != group or not found:
            continue
        minutes = _minutes(found)
        lines.append(
            f"| {entry.says} | {found[0]['trained_parameters']:,} | {accuracy(found)} "
            f"| {accuracy(found, 'validation_accuracy')} | {len(found)} | {minutes:.1f} |"
        )
    return "\n".join(lines) if len(lines) > 2 else "No run of these is done yet."


def accuracy(rows: list[Row], key: str = "test_accuracy") -> str:
    """Mean and spread."""
    mean, deviation = spread(rows, key)
    return f"{mean:.2f}" + (f" ± {deviation:.2f}" if len(rows) > 1 else "")


def _minutes(rows: list[Row]) -> float:
    """Of the fastest run: what others do on the machine makes a run slower, never faster."""
    fastest: float = min(row["seconds"] for row in rows) / 60
    return fastest


def frontier_figure(plan: Mapping[str, Entry], rows: list[Row]) -> Figure:
    """Test error against trained numbers, both logarithmic: ours, what is published, and what we ran beside it."""
    with styled():
        made = figure(7.2, 4.4)
        ax = made.subplots()
        ours = [found for entry in plan.values() if entry.group == "frontier" and (found := of(rows, entry.name))]
        numbers = [found[0]["trained_parameters"] for found in ours]
        ax.plot(numbers, [100 - spread(found)[0] for found in ours], "-", color=COLOURS[0], zorder=3)
        for found in ours:
            errors = [100 - 100 * row["test_accuracy"] for row in found]
            ax.plot([found[0]["trained_parameters"]] * len(found), errors, "o", ms=4, color=COLOURS[0], zorder=4)
        ax.plot([], [], "o-", ms=4, color=COLOURS[0], label="controls of frozen polynomial fields (each seed a dot)")
        for points, style, colour, label in (
            (published.SUBSPACES, "s--", COLOURS[1], "LeNet in a random subspace (Li et al. 2018)"),
            (published.SMALL, "^", COLOURS[2], "small networks trained fully, mostly test-selected"),
        ):
            ax.plot(list(points), [100 - y for y in points.values()], style, ms=4, color=colour, label=label)
        counts, percents = zip(*published.ODES.values(), strict=True)
        ax.plot(counts, [100 - y for y in percents], "D", ms=4, color=COLOURS[3], label="neural ODEs, published")
        for name, (count, percent) in published.ODES.items():
            ax.annotate(name, (count, 100 - percent), xytext=(5, 2), textcoords="offset points", fontsize=7)
        beside = {
            entry.name: (found[0]["trained_parameters"], 100 - spread(found)[0])
            for entry in plan.values()
            if entry.group == "others" and (found := of(rows, entry.name))
        }
        if beside:
            label = "other networks in the same training"
            ax.plot(*zip(*beside.values(), strict=True), "x", ms=5, color="0.25", zorder=5, label=label)
        for name, place in beside.items():
            ax.annotate(name, place, xytext=(3, 5), textcoords="offset points", fontsize=7, color="0.35")
        ax.set(xscale="log", yscale="log", xlim=(70, 1_500_000), xlabel="trained numbers", ylabel="test error, %")
        plain_log_ticks(ax)
        ax.set_title("MNIST: how few numbers have to be trained")
        ax.legend(fontsize=7)
    return made
