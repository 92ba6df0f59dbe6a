"""Circles, moons and spirals: what a flow of the plane cannot do, and what one more dimension buys.

    python -m experiments.planar

Two concentric circles, inner c and outer C, are on one side each of no line after a flow Phi of the plane. Phi is a
homeomorphism onto its image wherever it is defined, so Phi(c) lies inside the closed curve Phi(C), which means in its
convex hull; a closed or open half-plane that holds Phi(C) is convex and holds Phi(c), too. And were Phi(c) in the
half-plane and Phi(C) in its complement, the complement is convex and holds both. (Nothing inside C blows up unless a
point of C does; fields under a cutoff never do.) In R^3 the points (x, 0) have room: the inner circle is lifted out, as
Dupont, Doucet and Teh say ("Augmented neural ODEs", NeurIPS 2019). Moons and spirals are arcs, which flows of the plane
can pull apart.

This is about whole curves. N points of the circles can be carried anywhere in the plane (Cuchiero, Larsson and
Teichmann, "Deep neural networks, generic universal interpolation, and controlled ODEs"), past each other through ever
narrower gaps, at a cost that grows with N. So training points show what a budget of trained numbers and evaluations
reaches, and nothing about what is possible; the test points fill the curves densely, and the last gap between
neighbours is what remains between them and the theorem. Nor does the theorem bind coarse steps, which may let curves
cross: accuracies are reported for the steps that were trained, and for the same control followed finely, the ODE.

Subject: Steering
Source: Dupont, Doucet and Teh 2019
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

import cde_nets as cn
from cde_nets.cli.console import notify
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.kept import Lines
from experiments.shown import progress

app = typer.Typer(add_completion=False)

DATA, DIMS = ("circles", "moons", "spirals"), (2, 3)
# One class each, and their paler regions.
INKS, PALES = (COLOURS[0], COLOURS[5]), ("#d6e7f3", "#f8e2d4")
FIELDS, INTERVALS, TRAINED_POINTS, TEST_POINTS, NOISE = 8, 8, 400, 2000, 0.02
# Of each curve in the picture: stretched, they need many.
DRAWN_POINTS = 10000
# Fields are left alone on the ball of the first radius and vanish beyond the second: nothing blows up.
RADII = (2.0, 4.0)
# Of int |u|^2 dt in the loss: enough to keep flows gentle.
PENALTY = 1e-3
# Steps of rk4 on each interval by which the ODE is followed.
FINE = 16


@dataclass(frozen=True)
class Cell:
    """One network.

    Attributes:
        data: "circles", "moons" or "spirals".
        dim: 2, or 3 for points put at (x, 0).
        seed: of the fields, the readout, the first control and the training points.
    """

    data: str
    dim: int
    seed: int


@app.command()
@less(globals(), TRAINED_POINTS=40, INTERVALS=4, FINE=4, TEST_POINTS=200, DRAWN_POINTS=500)
def planar(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/planar"),
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; 1 with --quick.")] = 3,
    evaluations: Annotated[int, typer.Option(min=1, help="Of the loss, for each network; 10 with --quick.")] = 100,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Train planar flows and flows in R^3; write planar.json and planar.png. A run that was stopped goes on."""
    out = begin(out, publish, quick=quick)
    torch.set_num_threads(threads)
    if quick:
        seeds, evaluations = 1, min(evaluations, 10)
    kept = Lines(out / "networks.jsonl", ("data", "dim", "seed", "evaluations_allowed"))
    cells = [(data, dim, n, evaluations) for data in DATA for dim in DIMS for n in range(seed, seed + seeds)]
    with progress() as bar:
        task = bar.add_task("planar", total=len(cells) * evaluations)
        for (cell,) in kept.each([[cell] for cell in cells], notify):
            # Searches may end early.
            bar.update(task, completed=sum(map(kept.has, cells)) * evaluations)
            kept.add([train(Cell(*cell[:3]), evaluations, lambda: bar.advance(task))])
    rows = [kept.find(cell) for cell in cells]
    pictured = picture(rows)
    said = [{name: value for name, value in row.items() if name not in ("control", "scale")} for row in rows]
    content = {"seed": seed, "evaluations": evaluations, "means": means(rows), "rows": said}
    leave("planar", out, publish, content, pictured, _table(rows), as_json=as_json)


def curve(data: str, label: int, s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of one of two curves in the unit disc, or a little beyond it.

    Args:
        data: "circles": of radius 1 and 1/2; "moons": half circles that reach into each other; "spirals": of most
            of a turn, and the same turned by half a turn.
        label: 0 or 1.
        s: where on the curve, in [0, 1], shape (points,).

    Returns:
        Shape (points, 2).
    """
    if data == "circles":
        return (0.5 if label else 1.0) * _circle(s)
    if data == "moons":
        arc = _circle(s / 2) - [0.5, 0.25]
        return (-arc if label else arc) / 1.5
    # Near the centre the two would meet.
    radius = 0.15 + 0.85 * s
    return (-1.0 if label else 1.0) * radius[:, None] * _circle(0.8 * radius)


def _circle(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], -1)


def training_points(data: str, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy points at random places of both curves, shape (points, 2), and their labels."""
    rng = np.random.default_rng([DATA.index(data), seed])
    half = TRAINED_POINTS // 2
    points = np.concatenate([curve(data, label, rng.uniform(size=half)) for label in (0, 1)])
    return _labelled(points + NOISE * rng.standard_normal(points.shape))


def points_on_curves(data: str, half: int = TEST_POINTS // 2) -> tuple[Tensor, Tensor]:
    """The curves themselves: so many points of each at equally spaced parameters, no noise; and their labels."""
    s = np.linspace(0, 1, half, endpoint=data != "circles")
    return _labelled(np.concatenate([curve(data, label, s) for label in (0, 1)]))


def _labelled(points: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(points), torch.arange(2).repeat_interleave(len(points) // 2)


def embedded(points: Tensor, dim: int) -> Tensor:
    """Points of the plane as they are, or put at (x, 0) in R^3; shape (points, 2) to (points, dim)."""
    return torch.nn.functional.pad(points, (0, dim - 2))


class Network(torch.nn.Module):
    """A controlled ODE and a frozen hyperplane with one trained scale: as many trained numbers in R^2 as in R^3.

    Args:
        cell: which.
        fine: follow the control finely, where the training takes one step of rk4 on each interval.
        factor: of the number of fine steps.
    """

    def __init__(self, cell: Cell, *, fine: bool = False, factor: int = 1) -> None:
        super().__init__()
        drawn = cn.PolynomialFields.random(cell.dim, FIELDS, 2, seed=cell.seed, dtype=torch.float64)
        generator = torch.Generator().manual_seed(cell.seed)
        values = 0.1 * torch.randn(INTERVALS, FIELDS, dtype=torch.float64, generator=generator)
        control = cn.PiecewiseConstantControl(INTERVALS, FIELDS, values=values)
        steps = INTERVALS * FINE * factor
        method = cn.RungeKutta("rk4", steps=steps) if fine else cn.RungeKutta("rk4", steps=INTERVALS)
        self.flow = cn.ControlledODE(cn.Cutoff(drawn, *RADII), control, method)
        self.readout = cn.AnchorReadout(cell.dim, 2, seed=cell.seed).double()

    @classmethod
    def of(cls, row: dict[str, Any], *, factor: int = 1) -> Network:
        """The ODE of a trained network, from its row."""
        made = cls(Cell(row["data"], row["dim"], row["seed"]), fine=True, factor=factor)
        made.load_state_dict(made.state_dict() | _trained(row))
        return made

    def forward(self, points: Tensor) -> Tensor:
        """Logits of points of the plane, shape (points, 2) to (points, 2)."""
        start = embedded(points, self.flow.dim)
        logits: Tensor = self.readout(self.flow(start), start)
        return logits


def _trained(row: dict[str, Any]) -> dict[str, Tensor]:
    values = {"flow.control.values": row["control"], "readout.scale": row["scale"]}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def train(cell: Cell, evaluations: int, tick: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Train a network by L-BFGS on the cross entropy; its trained numbers and its accuracies.

    Args:
        cell: which.
        evaluations: of the loss, about as many at most: a line search is finished.
        tick: called after each of them.
    """
    network = Network(cell)
    x, labels = training_points(cell.data, cell.seed)
    values = network.flow.control.get_parameter("values")
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=evaluations,
        max_eval=evaluations,
        history_size=30,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    losses: list[float] = []

    def loss() -> Tensor:
        optimizer.zero_grad()
        entropy = torch.nn.functional.cross_entropy(network(x), labels)
        found = entropy + PENALTY * values.square().sum() / INTERVALS
        found.backward()
        losses.append(found.item())
        tick()
        return found

    optimizer.step(loss)
    row = asdict(cell) | {
        "evaluations_allowed": evaluations,
        "evaluations": len(losses),
        "loss": min(losses),
        "trained_numbers": sum(p.numel() for p in parameters),
        "energy": float(values.detach().square().sum() / INTERVALS),
        "control": values.tolist(),
        "scale": float(network.readout.scale.detach()),
    }
    return row | _accuracies(network, row)


@torch.no_grad()
def _accuracies(network: Network, row: dict[str, Any]) -> dict[str, float]:
    """Of the steps taken and of the ODE; and how far the test points' ends move when the fine steps are halved."""
    ode, finer = Network.of(row), Network.of(row, factor=2)
    found = {}
    for name, (x, labels) in (
        ("train", training_points(row["data"], row["seed"])),
        ("test", points_on_curves(row["data"])),
    ):
        found[f"{name}_accuracy"] = float((network(x).argmax(1) == labels).double().mean())
        found[f"{name}_accuracy_ode"] = float((ode(x).argmax(1) == labels).double().mean())
    x = embedded(points_on_curves(row["data"])[0], row["dim"])
    return found | {"refinement": float((ode.flow(x) - finer.flow(x)).norm(dim=1).max())}


ACCURACIES = ("train_accuracy", "test_accuracy", "train_accuracy_ode", "test_accuracy_ode")


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, standard deviation (None of one seed) and best of each accuracy, for each data set and dimension."""
    found = []
    for data, dim in dict.fromkeys((row["data"], row["dim"]) for row in rows):
        chosen = [row for row in rows if (row["data"], row["dim"]) == (data, dim)]
        said: dict[str, Any] = {"data": data, "dim": dim, "seeds": len(chosen)}
        for name in ACCURACIES:
            values = np.array([row[name] for row in chosen])
            spread = float(values.std(ddof=1)) if len(values) > 1 else None
            said[name] = {"mean": float(values.mean()), "spread": spread, "best": float(values.max())}
        found.append(said)
    return found


def picture(rows: list[dict[str, Any]]) -> Figure:
    """A row for each data set: in the plane and in R^3 the regions pulled back, and the curves carried to the end.

    Of each data set and dimension the seed whose ODE is best on the test points.
    """
    names = list(dict.fromkeys(row["data"] for row in rows))
    dims = list(dict.fromkeys(row["dim"] for row in rows))
    pictured = figure(5.0 * len(dims), 2.75 * len(names))
    with styled():
        panels = pictured.subplots(len(names), 2 * len(dims), squeeze=False)
        for down, data in enumerate(names):
            for across, dim in enumerate(dims):
                chosen = [row for row in rows if (row["data"], row["dim"]) == (data, dim)]
                best = max(chosen, key=lambda row: row["test_accuracy_ode"])
                left, right = panels[down, 2 * across : 2 * across + 2]
                _draw_regions(left, best)
                _draw_carried(right, best)
            panels[down, 0].set_ylabel(data, fontsize=11)
        pictured.suptitle(
            "The inner circle stays inside under every flow of the plane; in $R^3$ it is lifted out. "
            f"{rows[0]['trained_numbers']} trained numbers each.",
            fontsize=10.5,
        )
    return pictured


@torch.no_grad()
def _draw_regions(ax: Axes, row: dict[str, Any]) -> None:
    """What the ODE says of each point of the plane, and the training points."""
    side = np.linspace(-1.3, 1.3, 131)
    grid = torch.from_numpy(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))
    logits = Network.of(row)(grid)
    above = (logits[:, 1] - logits[:, 0]).reshape(len(side), len(side)).numpy()
    ax.contourf(side, side, above, [-np.inf, 0, np.inf], colors=PALES)
    ax.contour(side, side, above, [0], colors="#333333", linewidths=0.8)
    x, labels = training_points(row["data"], row["seed"])
    across, up = x.T.numpy()
    ax.scatter(across, up, s=3.5, c=labels, cmap=ListedColormap(INKS), linewidths=0, zorder=3)
    space = "the plane" if row["dim"] == 2 else "$R^3$"
    ax.set_title(f"flow in {space}, pulled back\ntest {_percent(row['test_accuracy_ode'])} % as an ODE", fontsize=9)
    _bare(ax)


@torch.no_grad()
def _draw_carried(ax: Axes, row: dict[str, Any]) -> None:
    """Where the curves end, seen along the dividing line or plane: the readout's normal points to the right."""
    network = Network.of(row)
    normal = network.readout.anchors[1] - network.readout.anchors[0]
    normal = (normal / normal.norm()).numpy()
    ends = network.flow(embedded(points_on_curves(row["data"], DRAWN_POINTS)[0], row["dim"])).numpy()
    across = ends @ normal
    # Upward, the direction in the dividing line or plane in which the ends spread most.
    within = ends - across[:, None] * normal
    _, _, directions = np.linalg.svd(within - within.mean(0), full_matrices=False)
    up = within @ directions[0]
    middle = (up.max() + up.min()) / 2
    reach = 1.1 * max(np.abs(across).max(), (up.max() - up.min()) / 2)
    for label, colour in enumerate(INKS):
        pale, half = PALES[label], slice(label * DRAWN_POINTS, (label + 1) * DRAWN_POINTS)
        ax.axvspan(0, (2 * label - 1) * reach, color=pale, linewidth=0, zorder=0)
        shown = np.stack([across[half], up[half] - middle])
        if row["data"] == "circles":
            shown = np.concatenate([shown, shown[:, :1]], 1)
        ax.plot(*shown, color=colour, linewidth=1.5)
    ax.axvline(0, color="#333333", linewidth=0.8)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
    ax.set_title(f"the curves carried by it\nsteps as trained {_percent(row['test_accuracy'])} %", fontsize=9)
    _bare(ax)


def _bare(ax: Axes) -> None:
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)


def _percent(share: float) -> str:
    # 99.96 % is not to be read as all.
    return f"{np.floor(1000 * share) / 10:.1f}"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("data", "m", "train", "test", "train, ODE", "test, ODE", "best", "refined", title="accuracies, %")
    for said in means(rows):
        chosen = [row for row in rows if (row["data"], row["dim"]) == (said["data"], said["dim"])]
        shares = []
        for name in ACCURACIES:
            mean, spread = said[name]["mean"], said[name]["spread"]
            shares.append(_percent(mean) + ("" if spread is None else f" ± {100 * spread:.1f}"))
        best = _percent(said["test_accuracy_ode"]["best"])
        moved = f"{max(row['refinement'] for row in chosen):.0e}"
        table.add_row(said["data"], str(said["dim"]), *shares, best, moved)
    return table


if __name__ == "__main__":
    app()
