"""The gradients of Table A3's rows before the first epoch: how large, how random, how near to the true one.

    python -m experiments.citation_gradients --data-dir FOLDER

In float64, at the weights as drawn, of the loss after 100 steps. Its derivative in the recurrent unit's weights is a
sum of terms, one for each step that is looked back; the figure has their norms. BPTT is the sum of all, TBPTT of the
first five. ARTBP, which is BPTT in the mean, divides term k by the chance that so many are looked at: a draw of ARTBP
is one of 99 vectors with its probability, so that how often it is how large is not sampled here but computed.

Where the states come to rest there is a true gradient, and every row's distance from it. With the published weights
they do not: the rows that look at one state linearise where nothing rests, and what they find depends on the state.

Subject: Equilibria
Source: Liao et al. 2018, appendix, section 3.3, Table A3
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.markdown import Markdown
from torch import Tensor

import cde_nets as cn
from cde_nets.atomic import write_atomically
from cde_nets.cli.console import notify
from cde_nets.data import DataUnavailableError
from cde_nets.data.citation import load_citation
from cde_nets.plot.style import COLOURS, figure, styled
from cde_nets.solver.status import succeeded
from experiments.at_hand import some_graph
from experiments.citation.network import Weights
from experiments.citation.rows import ROWS, Way
from experiments.citation.training import Prepared, Runs, Settings, quiet, settings_of
from experiments.command import Json, Quick, begin, leave, less
from experiments.pages import fill
from experiments.shown import progress

app = typer.Typer(add_completion=False)

PAGE, MARK = "published_tables.md", "citation gradients"
SIZE, STEPS = 64, 100
KINDS = (Weights.KAIMING, Weights.SETTLING)
# Of a state, relative.
PERTURBATION = 1e-9
# Products with the Jacobian's transpose, and after how many GMRES begins anew.
PRODUCTS = ((20, 50), (1000, 50), (300, 300))
SHARES = (0.5, 0.9, 0.99)
# Draws that are rarer are not shown.
RAREST = 1e-4
TIGHT = cn.Tolerance(rtol=1e-10, atol=1e-30)


@app.command()
@less(globals(), SIZE=8, STEPS=20, PRODUCTS=((20, 50), (40, 20)))
def citation_gradients(
    data_dir: Annotated[Path | None, typer.Option(help="Folder with cora.npz.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/citation_gradients"),
    seed: Annotated[int, typer.Option(min=0, help="The first seed, of split, weights and RBP's start.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; 1 with --quick.")] = 5,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy all to this docs folder, the table into its page.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure gradients on Cora; write citation_gradients.json, .md and .png."""
    torch.set_num_threads(threads)
    chosen = range(seed, seed + (1 if quick else seeds))
    try:
        graph = (some_graph if quick else load_citation)("cora", data_dir, notify=notify)
        settings = replace(settings_of(graph, SIZE, None), steps=STEPS)
        out = begin(out, publish, quick=quick, page=PAGE, mark=MARK)
    except (ValueError, DataUnavailableError) as error:
        raise typer.BadParameter(str(error)) from error
    data = Prepared(graph, SIZE)
    with progress() as bar:
        cases = [(kind, n) for kind in KINDS for n in chosen]
        rows = [measure(Drawn(n, kind, settings, data)) for kind, n in bar.track(cases, description="gradients")]
        solved = residuals(Drawn(seed, Weights.KAIMING, settings, data))
    content = {"neighbours": data.radius, "seeds": list(chosen), "rows": rows, "gmres": solved}
    table = markdown(content)
    write_atomically(out / "citation_gradients.md", table.encode())
    if publish is not None:
        fill(publish / PAGE, MARK, table)
    leave("citation_gradients", out, publish, content, picture(rows), Markdown(table), as_json=as_json)


class Drawn:
    """A run of Table A3 before its first epoch, in float64.

    Args:
        seed: of the run.
        weights: how they are drawn.
        settings: of the table.
        data: prepared.
    """

    def __init__(self, seed: int, weights: Weights, settings: Settings, data: Prepared) -> None:
        self.seed, self.weights = seed, weights
        # The one row in float64; its way is not looked at.
        self.runs = Runs("gmres", [seed], replace(settings, weights=weights), data, torch.device("cpu"))
        self.cell, self.start = self.runs.model["cell"], self.runs.features
        self.parameters = list(self.cell.parameters())

    def way(self, row: str) -> Way:
        """How a row goes there and back."""
        made = ROWS[row].way
        assert made is not None
        return made(self.runs.numbers, [torch.Generator().manual_seed(self.seed)])

    def gradient(self, way: Way) -> tuple[Tensor, cn.Solution]:
        """What a way finds for the cell's weights, as one vector, and how."""
        logits, _, solution = self.runs.along(way)
        found = torch.autograd.grad(self.runs.losses(logits).sum(), self.parameters)
        return _vector(found), solution

    def states(self, start: Tensor) -> list[Tensor]:
        """All states from a start, it among them, in its precision."""
        cell = copy.deepcopy(self.cell).to(start.dtype)
        with torch.no_grad():
            states = [start]
            for _ in range(self.runs.settings.steps):
                states.append(cell(start, states[-1]))
        return states

    def slope(self, last: Tensor) -> Tensor:
        """The loss's gradient in the last state."""
        last = last.detach().requires_grad_()
        return torch.autograd.grad(self.runs.losses(self.runs.model["readout"](last)).sum(), last)[0]

    def terms(self) -> Tensor:
        """The loss's derivative in the weights as they act in the last step, the one before, ..

        Returns:
            Shape (steps, numbers).
        """
        *before, last = self.states(self.start)
        g, terms = self.slope(last), []
        for state in reversed(before):
            z = state.clone().requires_grad_()
            g, *found = torch.autograd.grad(self.cell(self.start, z), [z, *self.parameters], g)
            terms.append(_vector(found))
        return torch.stack(terms)


def measure(drawn: Drawn) -> dict[str, Any]:
    """What the table and the figure have of one seed."""
    terms = drawn.terms()
    *_, before, last = drawn.states(drawn.start)
    single = drawn.states(drawn.start.float())[-1].double()
    noise = torch.randn(last.shape, dtype=last.dtype, generator=torch.Generator().manual_seed(drawn.seed))
    moved = drawn.states(drawn.start + PERTURBATION * drawn.start.norm() / noise.norm() * noise)[-1]
    layer = cn.EquilibriumLayer(drawn.cell, cn.Picard(steps=1), throw=False)
    radius = cn.spectral_radius(layer.problem(drawn.start), before, tolerance=1e-3, max_steps=300)
    found = {row: drawn.gradient(drawn.way(row))[0] for row in ("rbp", "cg-rbp", "neumann-rbp")}
    # The same series at the state that the loss is of.
    found["neumann-rbp, one step on"] = drawn.gradient(
        replace(drawn.way("neumann-rbp"), steps=drawn.runs.settings.steps, beyond=0)
    )[0]
    found |= {"bptt": terms.sum(0), "tbptt": terms[: drawn.runs.settings.truncation].sum(0)}
    measured: dict[str, Any] = {
        "weights": drawn.weights.value,
        "seed": drawn.seed,
        "relative_residual": _apart(drawn.cell(drawn.start, last), last),
        "radius": float(radius.value.detach()),
        "growth": _apart(moved, last) / PERTURBATION,
        "float32": _apart(single, last),
        "terms": terms.norm(dim=1).tolist(),
        "norms": {name: float(value.norm()) for name, value in found.items()},
        "cosine": float(torch.cosine_similarity(found["neumann-rbp"], found["neumann-rbp, one step on"], dim=0)),
        "draws": {row: draws(terms, drawn.way(row).gradient) for row in ("uniform-artbp", "poisson-artbp")},
    }
    if drawn.weights is Weights.SETTLING:
        with quiet():
            exact, solution = drawn.gradient(drawn.way("gmres"))
        assert solution.backward is not None
        assert solution.backward.status is not None
        solved = bool(succeeded(solution.backward.status).all())
        measured["errors"] = {name: _apart(value, exact) for name, value in found.items()} if solved else {}
    return measured


def draws(terms: Tensor, gradient: cn.Gradient) -> dict[str, list[float]]:
    """Every K that ARTBP may draw, how likely it is, and the norm of what it then takes for the gradient."""
    assert isinstance(gradient, cn.RandomlyTruncated)
    chances = gradient.probabilities()
    at_least = chances.flip(0).cumsum(0).flip(0)
    sums = (terms[: len(chances)] / at_least[:, None]).cumsum(0)
    return {"chances": chances.tolist(), "norms": sums.norm(dim=1).tolist()}


def residuals(drawn: Drawn) -> list[dict[str, float]]:
    """What GMRES leaves of the right-hand side, by products and restarts."""
    found, size = [], float(drawn.slope(drawn.states(drawn.start)[-1]).norm())
    for products, restart in PRODUCTS:
        gradient = cn.Implicit(cn.GMRES(restart=restart), tolerance=TIGHT, max_steps=products)
        way = replace(drawn.way("gmres"), gradient=gradient)
        with quiet():
            _, solution = drawn.gradient(way)
        assert solution.backward is not None
        assert solution.backward.statistics is not None
        left = solution.backward.statistics.residual
        assert left is not None
        found.append({"products": products, "restart": restart, "residual": float(left[0]) / size})
    return found


def _vector(parts: Any) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _apart(one: Tensor, other: Tensor) -> float:
    return float(((one - other).norm() / other.norm()).detach())


# Of the table, in its order: key, title, and what there is to say of a row.
TITLES = {
    "bptt": "BPTT",
    "tbptt": "TBPTT",
    "uniform-artbp": "Uniform-ARTBP",
    "poisson-artbp": "TPoisson-ARTBP",
    "rbp": "RBP",
    "cg-rbp": "CG-RBP",
    "neumann-rbp": "Neumann-RBP",
    "neumann-rbp, one step on": "Neumann-RBP at the last state",
}


def markdown(content: dict[str, Any]) -> str:
    """Two tables and a sentence."""
    kinds = {kind.value: [row for row in content["rows"] if row["weights"] == kind.value] for kind in KINDS}
    lines = [
        "| weights as drawn | \\|f(z) − z\\| / \\|z\\| | \\|λ\\| | a perturbation grows | float32 is off |",
        "|---|---|---|---|---|",
    ]
    for kind, rows in kinds.items():
        names = ("relative_residual", "radius", "growth", "float32")
        lines.append(f"| {kind} | " + " | ".join(_range([row[name] for row in rows]) for name in names) + " |")
    lines += ["", "| gradient | norm, kaiming | norm, settling | off, settling |", "|---|---|---|---|"]
    for key, title in TITLES.items():
        norms = [_norms(rows, key) for rows in kinds.values()]
        errors = [row["errors"][key] for row in kinds["settling"] if key in row["errors"]]
        lines.append(f"| {title} | {' | '.join(norms)} | {_range(errors)} |")
    rows = kinds["kaiming"]
    left = "; ".join(
        f"{line['products']:,} products, begun anew every {line['restart']}: {100 * line['residual']:.1f}%"
        for line in content["gmres"]
    )
    lines += [
        "",
        f"Median over seeds {content['seeds'][0]} to {content['seeds'][-1]} (least to most), float64, before the first "
        f"epoch. The sum over neighbours has spectral radius {content['neighbours']:.1f}. z: the state after {STEPS} "
        "steps; λ: the largest eigenvalue of J at the last but one; a perturbation: of the start, "
        f"{PERTURBATION:g} of its norm; float32: the same steps in single precision. Of ARTBP the norms that 50, 90 "
        "and 99% of draws do not exceed (median over seeds). Off: relative, from what GMRES finds to 1e-10. "
        "With the published weights there is none to be off from: of the right-hand side GMRES leaves (seed "
        f"{content['seeds'][0]}) {left}. Neumann-RBP's gradients at the last two states have the cosine "
        f"{_range([row['cosine'] for row in rows])}.",
        "",
    ]
    return "\n".join(lines)


def picture(rows: list[dict[str, Any]]) -> Figure:
    """The terms by how far they look back; how often ARTBP draws a gradient of which norm."""
    with styled():
        made = figure(9.6, 3.8)
        terms, often = made.subplots(1, 2)
        for colour, kind in zip(COLOURS, KINDS, strict=False):
            some = np.array([row["terms"] for row in rows if row["weights"] == kind.value])
            terms.plot(some.T, color=colour, linewidth=0.5, alpha=0.5)
            terms.plot(np.median(some, axis=0), color=colour, label=kind.value)
        terms.set(yscale="log", xlabel="steps looked back", ylabel="norm of the term")
        terms.set_title("The gradient's terms")
        terms.legend()
        _draws([row for row in rows if row["weights"] == Weights.KAIMING.value], often)
    return made


def _draws(rows: list[dict[str, Any]], ax: Axes) -> None:
    for colour, key in zip(COLOURS[2:], ("uniform-artbp", "poisson-artbp"), strict=False):
        for row in rows:
            norms, share = _exceeded(row["draws"][key])
            ax.step(norms, share, where="post", color=colour, linewidth=0.8, label=TITLES[key])
    ax.axvline(float(np.median([row["norms"]["tbptt"] for row in rows])), color="#666666", linestyle="--", linewidth=1)
    seen = [
        norm
        for row in rows
        for one in row["draws"].values()
        for norm, above in zip(*_exceeded(one), strict=True)
        if above > RAREST
    ]
    ax.set(xscale="log", yscale="log", xlim=(min(seen) / 3, 100 * max(seen)), ylim=(RAREST, 1.5))
    ax.set(xlabel="norm", ylabel="share of draws with a larger one")
    ax.set_title("ARTBP, published weights (dashed: TBPTT)")
    handles, labels = ax.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    ax.legend(named.values(), named.keys())


def _exceeded(drawn: dict[str, list[float]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Norms in order, and the chance of a larger one."""
    order = np.argsort(drawn["norms"])
    return np.array(drawn["norms"])[order], 1 - np.cumsum(np.array(drawn["chances"])[order])


def quantile(drawn: dict[str, list[float]], share: float) -> float:
    """The least norm that is not exceeded by this share of draws."""
    norms, above = _exceeded(drawn)
    return float(norms[np.argmax(above <= 1 - share + 1e-12)])


def _norms(rows: list[dict[str, Any]], key: str) -> str:
    if key in rows[0]["draws"]:
        found = [np.median([quantile(row["draws"][key], share) for row in rows]) for share in SHARES]
        return " / ".join(f"{value:.2g}" for value in found)
    return _range([row["norms"][key] for row in rows])


def _range(values: list[float]) -> str:
    if not values:
        return ""
    middle = f"{np.median(values):.2g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2g} to {max(values):.2g})"


if __name__ == "__main__":
    app()
