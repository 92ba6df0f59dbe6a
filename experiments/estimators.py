"""The scikit-learn estimators beside scikit-learn's own: accuracy, trained numbers, time.

    python -m experiments.estimators

Five folds of cross-validation, several times over with other folds, on data that comes with scikit-learn or is drawn
anew for each seed. Beside ours stand a linear model and a multilayer perceptron with default settings, all on
standardised features and, in regression by the perceptron, a standardised target, as ours does it inside. Ours has its
default settings, too, which were chosen on folds of other seeds than these.

Subject: Estimators
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.markdown import Markdown
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import cde_nets as cn
from cde_nets.atomic import write_atomically
from cde_nets.cli.console import notify
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, begin, leave
from experiments.kept import Lines
from experiments.pages import fill
from experiments.shown import progress

app = typer.Typer(add_completion=False)

Data = tuple[NDArray[Any], NDArray[Any]]
# By name: draws (X, y) for a seed; whether y are classes.
DATA: dict[str, tuple[Callable[[int], Data], bool]] = {
    "iris": (lambda seed: datasets.load_iris(return_X_y=True), True),
    "wine": (lambda seed: datasets.load_wine(return_X_y=True), True),
    "breast cancer": (lambda seed: datasets.load_breast_cancer(return_X_y=True), True),
    "digits": (lambda seed: datasets.load_digits(return_X_y=True), True),
    "moons": (lambda seed: datasets.make_moons(400, noise=0.25, random_state=seed), True),
    "circles": (lambda seed: datasets.make_circles(400, noise=0.12, factor=0.5, random_state=seed), True),
    "diabetes": (lambda seed: datasets.load_diabetes(return_X_y=True), False),
    "Friedman 1": (lambda seed: datasets.make_friedman1(500, noise=1.0, random_state=seed), False),
}
QUICK = ("iris", "moons", "Friedman 1")
OURS, LINEAR, PERCEPTRON = "controlled ODE", "linear", "perceptron"
MODELS = (OURS, LINEAR, PERCEPTRON)
FOLDS = 5
PAGE = "estimators.md"


@app.command()
def estimators(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/estimators"),
    seed: Annotated[int, typer.Option(min=0, help="The first seed, of folds, drawn data and models.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; 1 with --quick.")] = 3,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy all to this docs folder, the table into its page.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Cross-validate; write estimators.json, estimators.md and estimators.png. A run that was stopped goes on."""
    out = begin(out, publish, quick=quick, page=PAGE, mark="estimators")
    torch.set_num_threads(threads)
    kept = Lines(out / "folds.jsonl", ("data", "model", "seed"))
    names = QUICK if quick else tuple(DATA)
    cells = [(n, m, s) for s in range(seed, seed + (1 if quick else seeds)) for n in names for m in MODELS]
    with progress() as bar, threadpool_limits(threads):
        task = bar.add_task("estimators", total=len(cells))
        for (cell,) in kept.each([[cell] for cell in cells], notify):
            bar.update(task, completed=sum(map(kept.has, cells)))
            kept.add([measure(*cell)])
    rows = [kept.find(cell) for cell in cells]
    summed = summary(rows)
    pictured, table = picture(summed), markdown(summed)
    write_atomically(out / "estimators.md", table.encode())
    if publish is not None:
        fill(publish / PAGE, "estimators", table)
    content = {"seed": seed, "threads": threads, "summary": summed, "rows": rows}
    leave("estimators", out, publish, content, pictured, Markdown(table), as_json=as_json)


def model(name: str, classes: bool, seed: int) -> Any:
    """An estimator with default settings that takes raw features."""
    if name == OURS:
        return (cn.ControlledODEClassifier if classes else cn.ControlledODERegressor)(random_state=seed)
    if name == LINEAR:
        return make_pipeline(StandardScaler(), LogisticRegression() if classes else Ridge())
    if classes:
        return make_pipeline(StandardScaler(), MLPClassifier(random_state=seed))
    inner = make_pipeline(StandardScaler(), MLPRegressor(random_state=seed))
    return TransformedTargetRegressor(inner, transformer=StandardScaler())


def measure(data: str, name: str, seed: int) -> dict[str, Any]:
    """One round of cross-validation: scores of the folds not trained on, processor seconds of each fit."""
    draw, classes = DATA[data]
    X, y = draw(seed)
    folds = (StratifiedKFold if classes else KFold)(FOLDS, shuffle=True, random_state=seed)
    scores, seconds, numbers = [], [], []
    for number, (train, test) in enumerate(folds.split(X, y)):
        made = model(name, classes, FOLDS * seed + number)
        began = time.process_time()
        with warnings.catch_warnings():
            # The perceptron's 200 epochs are its default, too.
            warnings.simplefilter("ignore", ConvergenceWarning)
            made.fit(X[train], y[train])
        seconds.append(time.process_time() - began)
        scores.append(float(made.score(X[test], y[test])))
        numbers.append(trained_numbers(made))
    return {
        "data": data,
        "model": name,
        "seed": seed,
        "samples": len(X),
        "features": X.shape[1],
        "scores": scores,
        "seconds": seconds,
        "trained_numbers": numbers,
    }


def trained_numbers(fitted: Any) -> int:
    """How many numbers were trained, intercepts included; standardisation is not counted."""
    if hasattr(fitted, "trained_numbers_"):
        return int(fitted.trained_numbers_)
    last = (fitted.regressor_ if hasattr(fitted, "regressor_") else fitted)[-1]
    parts = [*last.coefs_, *last.intercepts_] if hasattr(last, "coefs_") else [last.coef_, last.intercept_]
    return sum(np.size(part) for part in parts)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each data set and model: mean score, standard deviation over folds, median seconds, trained numbers."""
    found = []
    for data in dict.fromkeys(row["data"] for row in rows):
        for name in MODELS:
            chosen = [row for row in rows if (row["data"], row["model"]) == (data, name)]
            scores = np.concatenate([row["scores"] for row in chosen])
            found.append(
                {
                    "data": data,
                    "model": name,
                    "score": "accuracy" if DATA[data][1] else "R2",
                    "mean": float(scores.mean()),
                    "spread": float(scores.std(ddof=1)),
                    "folds": len(scores),
                    "seconds": float(np.median([row["seconds"] for row in chosen])),
                    "trained_numbers": int(np.median([row["trained_numbers"] for row in chosen])),
                    "samples": chosen[0]["samples"],
                    "features": chosen[0]["features"],
                }
            )
    return found


def markdown(summed: list[dict[str, Any]]) -> str:
    """The table of the page."""
    head = "| data | samples x features | model | accuracy % or R² | trained numbers | CPU seconds a fit |"
    lines = [head, "| --- | --- | --- | ---: | ---: | ---: |"]
    for row in summed:
        first = row["model"] == MODELS[0]
        unit, digits = (100, 1) if row["score"] == "accuracy" else (1, 3)
        score = f"{unit * row['mean']:.{digits}f} ± {unit * row['spread']:.{digits}f}"
        shape = f"{row['samples']:,} x {row['features']}" if first else ""
        numbers = f"{row['trained_numbers']:,}"
        name = row["data"] if first else ""
        lines.append(f"| {name} | {shape} | {row['model']} | {score} | {numbers} | {row['seconds']:.2g} |")
    return "\n".join([*lines, "", f"Means and standard deviations over {summed[0]['folds']} folds, medians of times."])


def picture(summed: list[dict[str, Any]]) -> Figure:
    """A row for each data set: scores, trained numbers, seconds, a mark for each model."""
    names = list(dict.fromkeys(row["data"] for row in summed))
    pictured = figure(9.6, 1.4 + 0.38 * len(names))
    with styled():
        panels = pictured.subplots(1, 3, sharey=True, width_ratios=(1.6, 1, 1))
        for place, (name, mark) in enumerate(zip(MODELS, "osD", strict=True)):
            chosen = [row for row in summed if row["model"] == name]
            # A little apart, so that none hides another.
            up = np.arange(len(names)) + 0.2 * (place - 1)
            style: Any = {"color": COLOURS[place], "marker": mark, "markersize": 4.5, "linestyle": ""}
            means, spreads = np.array([[row["mean"], row["spread"]] for row in chosen]).T
            panels[0].errorbar(means, up, xerr=spreads, label=name, elinewidth=1, **style)
            panels[1].semilogx([row["trained_numbers"] for row in chosen], up, **style)
            panels[2].semilogx([row["seconds"] for row in chosen], up, **style)
        _label(panels[0], names, summed)
        panels[0].set_xlabel("accuracy or R², higher is better")
        panels[1].set_xlabel("trained numbers")
        panels[2].set_xlabel("CPU seconds a fit")
        pictured.legend(loc="outside upper center", ncols=3, fontsize=8)
    return pictured


def _label(ax: Axes, names: list[str], summed: list[dict[str, Any]]) -> None:
    kinds = {row["data"]: "" if row["score"] == "accuracy" else "  (R²)" for row in summed}
    ax.set_yticks(range(len(names)), [name + kinds[name] for name in names])
    ax.invert_yaxis()


if __name__ == "__main__":
    app()
