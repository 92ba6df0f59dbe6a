"""Reverse mode by hand: evaluation traces of scalars, walked backward, and what that costs.

    python -m experiments.computation_graph

The lecture's computation model: inputs w_1, .., w_d, then steps z_t = h_t(some of the variables before), where h_t is
one of three types, each with local derivatives that cost no more than its value:

    affine      z = sum_i c_i v_i + c_0,      dz/dv_i = c_i,
    product     z = prod_i v_i^p_i,           dz/dv_i = p_i v_i^(p_i - 1) prod_{j != i} v_j^p_j,
    function    z = h(s v), h of a fixed set, dz/dv = s h'(s v).

The reverse mode goes through the steps once more, last first, and passes each variable's adjoint dz_T/dz_t on to what
it was computed from: every edge of the graph is visited once, whatever the number of inputs (Baur and Strassen, "The
complexity of partial derivatives", 1983; Griewank, "On automatic differentiation", 1989). The forward mode visits
every edge once for each input.

Two examples of the lecture: ln x_1 + x_1 x_2 - sin x_2 at (2, 5), and (sin(2 pi w_1/w_2) + r) r with
r = 3 w_1/w_2 - exp(2 w_2). A third one grows with its number of inputs.

(The lecture's own rule for products, the value times p / v, divides by zero at v = 0; products of what stands before
and after each factor do not, and are as many.)

Subject: Descent and backpropagation
Source: lecture Neural network optimization, computation model and reverse mode
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, less
from experiments.lectures import ready, write

app = typer.Typer(add_completion=False)

NAME = "computation_graph"
SIZES = tuple(2**k for k in range(1, 10))
LEGEND = (("above: value", COLOURS[0]), ("below: adjoint", COLOURS[5]), ("on edges: local derivative", "#666666"))
# A function of the fixed set: its value, its derivative, how it is written.
FUNCTIONS: dict[str, tuple[Callable[[float], float], Callable[[float], float], str]] = {
    "ln": (math.log, lambda v: 1 / v, r"\ln"),
    "sin": (math.sin, math.cos, r"\sin"),
    "cos": (math.cos, lambda v: -math.sin(v), r"\cos"),
    "exp": (math.exp, math.exp, r"\exp"),
}


@dataclass(frozen=True)
class Step(ABC):
    """One step of an evaluation trace.

    Attributes:
        parents: the variables it is computed from, by number, inputs first.
    """

    parents: tuple[int, ...]

    @abstractmethod
    def value(self, v: Sequence[float]) -> float:
        """H of its parents' values."""

    @abstractmethod
    def partials(self, v: Sequence[float]) -> list[float]:
        """The derivative of h in each parent."""

    @abstractmethod
    def formula(self, names: Sequence[str]) -> str:
        """H in plain text, its parents by their names."""


@dataclass(frozen=True)
class Affine(Step):
    """Type 1.

    Attributes:
        coefficients: one for each parent.
        constant: added.
    """

    coefficients: tuple[float, ...]
    constant: float = 0.0

    def value(self, v: Sequence[float]) -> float:
        """The sum."""
        return sum(map(mul, self.coefficients, v), self.constant)

    def partials(self, v: Sequence[float]) -> list[float]:
        """The coefficients."""
        return list(self.coefficients)

    def formula(self, names: Sequence[str]) -> str:
        """Signs first."""
        terms = [
            ("- " if c < 0 else "+ ") + ("" if abs(c) == 1 else f"{abs(c):g} ") + name
            for c, name in zip(self.coefficients, names, strict=True)
        ]
        return " ".join(terms).removeprefix("+ ")


@dataclass(frozen=True)
class Product(Step):
    """Type 2.

    Attributes:
        powers: one for each parent.
    """

    powers: tuple[int, ...]

    def value(self, v: Sequence[float]) -> float:
        """The product."""
        return math.prod(map(pow, v, self.powers))

    def partials(self, v: Sequence[float]) -> list[float]:
        """By what stands before and after each factor."""
        factors = [x**p for x, p in zip(v, self.powers, strict=True)]
        before = list(accumulate(factors[:-1], mul, initial=1.0))
        after = list(accumulate(factors[:0:-1], mul, initial=1.0))[::-1]
        own = [p * x ** (p - 1) if p != 1 else 1.0 for x, p in zip(v, self.powers, strict=True)]
        return [a * b * c for a, b, c in zip(before, own, after, strict=True)]

    def formula(self, names: Sequence[str]) -> str:
        """Negative powers below."""
        above = [name + (f"^{p}" if p > 1 else "") for name, p in zip(names, self.powers, strict=True) if p > 0]
        below = [name + (f"^{-p}" if p < -1 else "") for name, p in zip(names, self.powers, strict=True) if p < 0]
        return " / ".join([" ".join(above) or "1", *below])


@dataclass(frozen=True)
class Function(Step):
    """Type 3, of one parent.

    Attributes:
        name: of the fixed set.
        scale: s.
    """

    name: str
    scale: float = 1.0

    def value(self, v: Sequence[float]) -> float:
        """H(s v)."""
        return FUNCTIONS[self.name][0](self.scale * v[0])

    def partials(self, v: Sequence[float]) -> list[float]:
        """S h'(s v)."""
        return [self.scale * FUNCTIONS[self.name][1](self.scale * v[0])]

    def formula(self, names: Sequence[str]) -> str:
        """Such as sin(2π z)."""
        scale = {1.0: "", 2 * math.pi: "2π "}.get(self.scale, f"{self.scale:g} ")
        return f"{self.name}({scale}{names[0]})"


@dataclass(frozen=True)
class Graph:
    """A function as an evaluation trace.

    Attributes:
        title: the function, as text.
        inputs: their names.
        steps: in the order of evaluation; the last one is the result.
        names: of the steps' variables.
        places: where each variable is drawn, empty where it is not.
    """

    title: str
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    names: tuple[str, ...] = ()
    places: tuple[tuple[float, float], ...] = ()

    @property
    def edges(self) -> int:
        """How often a variable enters a step."""
        return sum(len(step.parents) for step in self.steps)


@dataclass(frozen=True)
class Swept:
    """What a sweep over a graph computed, and what it cost.

    Attributes:
        numbers: one for each variable, inputs first.
        visited: edges, each at the price of one local derivative and one multiplication and addition.
    """

    numbers: list[float]
    visited: int


def evaluate(graph: Graph, inputs: Sequence[float]) -> list[float]:
    """All variables' values, inputs first."""
    values = list(inputs)
    for step in graph.steps:
        values.append(step.value([values[k] for k in step.parents]))
    return values


def reverse(graph: Graph, values: Sequence[float]) -> Swept:
    """The derivatives of the result in all variables, by one sweep from last to first."""
    adjoints, visited = [0.0] * len(values), 0
    adjoints[-1] = 1.0
    for t in range(len(values) - 1, len(graph.inputs) - 1, -1):
        step = graph.steps[t - len(graph.inputs)]
        for parent, partial in zip(step.parents, step.partials([values[k] for k in step.parents]), strict=True):
            adjoints[parent] += adjoints[t] * partial
            visited += 1
    return Swept(adjoints, visited)


def forward(graph: Graph, values: Sequence[float]) -> Swept:
    """The derivatives of the result in all inputs, by a sweep from first to last for each of them."""
    found, visited = [], 0
    for which in range(len(graph.inputs)):
        tangents = [float(k == which) for k in range(len(graph.inputs))]
        for step in graph.steps:
            partials = step.partials([values[k] for k in step.parents])
            tangents.append(sum(p * tangents[k] for k, p in zip(step.parents, partials, strict=True)))
            visited += len(partials)
        found.append(tangents[-1])
    return Swept(found, visited)


FIRST = Graph(
    "ln x₁ + x₁ x₂ − sin x₂",
    ("x1", "x2"),
    (
        Function((0,), "ln"),
        Product((0, 1), (1, 1)),
        Function((1,), "sin"),
        Affine((2, 3), (1.0, 1.0)),
        Affine((5, 4), (1.0, -1.0)),
    ),
    ("v1", "v2", "v3", "v4", "v5"),
    ((0, 1), (0, -1), (1, 1.2), (1, 0), (1, -1.2), (2, 0.6), (3, 0)),
)
SECOND = Graph(
    "(sin(2π w₁/w₂) + z₄) z₄,  z₄ = 3 w₁/w₂ − exp(2 w₂)",
    ("w1", "w2"),
    (
        Product((0, 1), (1, -1)),
        Function((2,), "sin", 2 * math.pi),
        Function((1,), "exp", 2.0),
        Affine((2, 4), (3.0, -1.0)),
        Affine((3, 5), (1.0, 1.0)),
        Product((6, 5), (1, 1)),
    ),
    ("z1", "z2", "z3", "z4", "z5", "z6"),
    ((0, 1.2), (0, -1), (1, 0.6), (2, 1.2), (1, -1), (2, -0.4), (3, 0.7), (4, 0)),
)
EXAMPLES = ((FIRST, (2.0, 5.0)), (SECOND, (0.7, 0.5)))


def chain(inputs: int) -> Graph:
    """sum_i sin(w_i w_{i+1}) around a circle: four edges for each input."""
    products = [Product((i, (i + 1) % inputs), (1, 1)) for i in range(inputs)]
    sines = [Function((inputs + i,), "sin") for i in range(inputs)]
    total = Affine(tuple(range(2 * inputs, 3 * inputs)), (1.0,) * inputs)
    return Graph("sum of sin(wᵢ wᵢ₊₁)", tuple(f"w{i + 1}" for i in range(inputs)), (*products, *sines, total))


@app.command()
@less(globals(), SIZES=(2, 4, 8))
def computation_graph(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/computation_graph"),
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Trace the lecture's examples; write computation_graph.json and computation_graph.png."""
    out = ready(NAME, out, publish, quick=quick)
    traced = [_traced(graph, inputs) for graph, inputs in EXAMPLES]
    costs = [cost(inputs) for inputs in SIZES]
    columns = ("function", "at", "value", "gradient", "edges", "reverse", "forward, one sweep an input")
    rows = [
        (
            content["function"],
            ", ".join(f"{x:g}" for x in content["inputs"]),
            f"{content['value']:.3f}",
            ", ".join(f"{x:.3f}" for x in content["gradient"]),
            *(str(content[name]) for name in ("edges", "reverse", "forward")),
        )
        for content in traced
    ]
    last = costs[-1]
    counts = (f"{last[name]:,}" for name in ("edges", "reverse", "forward"))
    rows.append((chain(2).title, f"{last['inputs']} inputs", "", "", *counts))
    content = {"examples": traced, "costs": costs}
    write(
        NAME,
        out,
        publish,
        content,
        _picture(costs),
        columns,
        rows,
        also=[_trace(one) for one in traced],
        as_json=as_json,
    )


def cost(inputs: int) -> dict[str, int]:
    """Edges, and those visited by both modes, of the function that grows."""
    graph = chain(inputs)
    values = evaluate(graph, [math.cos(i) for i in range(inputs)])
    visited = {"reverse": reverse(graph, values).visited, "forward": forward(graph, values).visited}
    return {"inputs": inputs, "edges": graph.edges, **visited}


def _traced(graph: Graph, inputs: Sequence[float]) -> dict[str, Any]:
    values = evaluate(graph, inputs)
    back, along = reverse(graph, values), forward(graph, values)
    names = (*graph.inputs, *graph.names)
    steps = [
        {"name": name, "formula": step.formula([names[k] for k in step.parents]), "type": type(step).__name__.lower()}
        for name, step in zip(graph.names, graph.steps, strict=True)
    ]
    known = [{"name": name, "formula": "", "type": "input"} for name in graph.inputs]
    numbers = zip([*known, *steps], values, back.numbers, strict=True)
    return {
        "function": graph.title,
        "inputs": list(inputs),
        "value": values[-1],
        "gradient": back.numbers[: len(inputs)],
        "gradient_forward": along.numbers,
        "edges": graph.edges,
        "reverse": back.visited,
        "forward": along.visited,
        "trace": [{**said, "value": value, "adjoint": adjoint} for said, value, adjoint in numbers],
    }


def _trace(content: dict[str, Any]) -> Table:
    """Down the table the values are computed, up it the adjoints."""
    at = ", ".join(f"{x:g}" for x in content["inputs"])
    table = Table("variable", "type", "formula", "value ↓", "adjoint ↑", title=f"{content['function']} at ({at})")
    for row in content["trace"]:
        table.add_row(row["name"], row["type"], row["formula"], f"{row['value']:.3f}", f"{row['adjoint']:.3f}")
    return table


def _picture(costs: list[dict[str, int]]) -> Figure:
    pictured = figure(11.0, 6.0)
    with styled():
        grid = pictured.add_gridspec(2, 2, width_ratios=(2.1, 1))
        for row, (graph, inputs) in enumerate(EXAMPLES):
            ax = pictured.add_subplot(grid[row, 0])
            _draw_graph(ax, graph, inputs)
        for line, (words, colour) in enumerate(LEGEND):
            ax.text(0.99, 0.16 - 0.07 * line, words, color=colour, transform=ax.transAxes, ha="right")
        _draw_costs(pictured.add_subplot(grid[:, 1]), costs)
    return pictured


def _draw_graph(ax: Axes, graph: Graph, inputs: Sequence[float]) -> None:
    values = evaluate(graph, inputs)
    adjoints = reverse(graph, values).numbers
    arrow = {"arrowstyle": "-|>", "color": "#888888", "mutation_scale": 12, "shrinkA": 15, "shrinkB": 15}
    for t, step in enumerate(graph.steps, len(graph.inputs)):
        for parent, partial in zip(step.parents, step.partials([values[k] for k in step.parents]), strict=True):
            start, end = graph.places[parent], graph.places[t]
            ax.annotate("", end, start, arrowprops=arrow, zorder=1)
            across, up = (0.45 * a + 0.55 * b for a, b in zip(end, start, strict=True))
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            ax.text(across, up, _text(partial, ".3g"), fontsize=7, color="#666666", ha="center", va="center", bbox=box)
    for name, place, value, adjoint in zip((*graph.inputs, *graph.names), graph.places, values, adjoints, strict=True):
        face = "#e6f1f8" if name in graph.inputs else "white"
        ax.plot(
            *place, "o", markersize=24, markerfacecolor=face, markeredgecolor="black", markeredgewidth=0.9, zorder=2
        )
        ax.text(*place, f"${name[0]}_{name[1]}$", fontsize=10, ha="center", va="center", zorder=3)
        for number, shift, colour in ((value, 20, COLOURS[0]), (adjoint, -20, COLOURS[5])):
            where: Any = {"xytext": (0, shift), "textcoords": "offset points", "ha": "center", "va": "center"}
            ax.annotate(_text(number, ".3f"), place, fontsize=9, color=colour, **where)
    right, low, high = max(x for x, _ in graph.places), *(pick(y for _, y in graph.places) for pick in (min, max))
    ax.set(xlim=(-0.3, right + 0.3), ylim=(low - 0.65, high + 0.65))
    at = ", ".join(f"{x:g}" for x in inputs)
    ax.set_title(f"{graph.title}, at ({at})")
    ax.axis("off")


def _text(number: float, digits: str) -> str:
    return format(number, digits).replace("-", "−")


def _draw_costs(ax: Axes, costs: list[dict[str, int]]) -> None:
    sizes = [cost["inputs"] for cost in costs]
    for name, words, colour, marker in (
        ("forward", "forward: a sweep for each input", COLOURS[2], "s"),
        ("reverse", "reverse: one sweep", COLOURS[5], "o"),
    ):
        ax.loglog(sizes, [cost[name] for cost in costs], marker=marker, markersize=4, color=colour, label=words)
    ax.loglog(sizes, [cost["edges"] for cost in costs], ":", color="black", label="edges of the graph")
    ax.set(xlabel="inputs d", ylabel="edges visited", title=r"gradient of $\sum_i \sin(w_i w_{i+1})$")
    ax.legend(loc="upper left")


if __name__ == "__main__":
    app()
