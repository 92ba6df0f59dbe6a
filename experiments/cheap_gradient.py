"""The cheap gradient principle on flows: all derivatives at a small multiple of the price of the function.

    python -m experiments.cheap_gradient

A function that is computed with T operations has a gradient at the price of a few T, however many its variables are
(Baur, Strassen, "The complexity of partial derivatives", Theor. Comput. Sci. 22, 1983): on the way back every
multiplication brings at most two multiplications and two additions, so that both together take at most 5 T. Here the
function is half the squared norm of X_1, of a flow dX = sum_i u_i(t) V_i(X) dt on a fixed grid, its variables are all
starts x and all numbers of the control, and the gradient is the exact discrete adjoint, `cde_nets.Discrete`. Of a stage
it keeps nothing but where its step began, so that some of what is counted is the function once more.

Counted are the operations that torch carries out, function and gradient each as a whole: of matrix products two for
each multiplication with its addition, as `torch.utils.flop_counter` counts them; of pointwise operations one for each
number of the result, and of sums one for each number summed. Copies and views are free. The kernels in C++ compute the
same without torch's knowledge, so they are off.

Subject: Descent and backpropagation
Source: lecture Neural network optimization, time complexity
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import cde_nets as cn
from cde_nets.kernels import plain_steps
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, less
from experiments.lectures import ready, write

app = typer.Typer(add_completion=False)

NAME = "cheap_gradient"
ROWS, METHOD = 32, "rk4"
USUAL = {"dim": 8, "count": 8, "steps": 8}
SWEEPS = {"dim": (2, 4, 8, 16, 32, 64), "count": (1, 2, 4, 8, 16, 32, 64), "steps": (1, 2, 4, 8, 16, 32, 64)}
# Quadratic fields have dim^2 / 2 monomials.
LARGEST = {"quadratic": {"dim": 32}}
FAMILIES: dict[str, Callable[[int, int, int], cn.Fields]] = {
    "linear": lambda dim, count, seed: cn.LinearFields.random(dim, count, seed=seed),
    "quadratic": lambda dim, count, seed: cn.PolynomialFields.random(dim, count, 2, seed=seed),
    "cubic ridge": lambda dim, count, seed: cn.RidgeFields.random(dim, count, 3, seed=seed),
}
BOUND = 5
# Pointwise by torch's own word, and yet no arithmetic.
_FREE = {"clone", "_to_copy", "copy_", "detach", "zero_", "fill_", "ones_like", "zeros_like"}


class Operations(TorchDispatchMode):
    """Counts what torch carries out while it is entered.

    Attributes:
        products: of matrix products.
        pointwise: of everything else.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products, self.pointwise = 0, 0

    @property
    def total(self) -> int:
        """Both."""
        return self.products + self.pointwise

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out and count one operation."""
        value = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in flop_registry:
            self.products += flop_registry[packet](*args, **(kwargs or {}), out_val=value)
        elif packet.__name__ == "sum":
            self.pointwise += args[0].numel()
        elif torch.Tag.pointwise in func.tags and packet.__name__ not in _FREE:
            self.pointwise += value.numel()
        return value


@app.command()
@less(globals(), SWEEPS=dict.fromkeys(SWEEPS, (1, 4, 16)))
def cheap_gradient(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/cheap_gradient"),
    seed: Annotated[int, typer.Option(min=0, help="Of fields, control and starts; it changes no count.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Count function and gradient of flows; write cheap_gradient.json and cheap_gradient.png."""
    out = ready(NAME, out, publish, quick=quick)
    found = [
        measure(family, {**USUAL, sweep: size}, seed) | {"sweep": sweep}
        for sweep, sizes in SWEEPS.items()
        for family in FAMILIES
        for size in sizes
        if size <= LARGEST.get(family, {}).get(sweep, size)
    ]
    content = {"seed": seed, "rows": ROWS, "method": METHOD, "usual": USUAL, "measured": found}
    columns = ("fields", "sizes", "most variables", "gradient / function, least", "largest", "products alone, largest")
    rows = []
    for family in FAMILIES:
        own = [row for row in found if row["family"] == family]
        ratios = [row["ratio"] for row in own]
        numbers = (f"{value:.2f}" for value in (min(ratios), max(ratios), max(row["products_ratio"] for row in own)))
        rows.append((family, str(len(own)), f"{max(row['variables'] for row in own):,}", *numbers))
    write(NAME, out, publish, content, _picture(found), columns, rows, as_json=as_json)


def measure(family: str, sizes: dict[str, int], seed: int) -> dict[str, Any]:
    """The operations of the function and of its gradient, with the function.

    Args:
        family: of FAMILIES.
        sizes: "dim", "count" and "steps".
        seed: of fields, control and starts.
    """
    dim, count, steps = (sizes[name] for name in ("dim", "count", "steps"))
    control = cn.PiecewiseConstantControl.random(steps, count, scale=0.05, seed=seed)
    flow = cn.ControlledODE(FAMILIES[family](dim, count, seed), control, METHOD, throw=False)
    x = 0.5 * torch.randn(ROWS, dim, generator=torch.Generator().manual_seed(seed))

    def function(x: Tensor) -> Tensor:
        end: Tensor = flow(x)
        return end.square().sum() / 2

    with plain_steps():
        # Once before, as some constants are made at the first call.
        function(x)
        with torch.no_grad(), Operations() as plain:
            function(x)
        x.requires_grad_()
        with Operations() as both:
            torch.autograd.grad(function(x), [x, control.values])
    return {
        "family": family,
        **sizes,
        "variables": x.numel() + control.values.numel(),
        "function": plain.total,
        "gradient": both.total,
        "ratio": both.total / plain.total,
        "products_ratio": both.products / plain.products,
    }


def _picture(found: list[dict[str, Any]]) -> Figure:
    pictured = figure(11.0, 3.6)
    with styled():
        panels = pictured.subplots(1, len(SWEEPS), sharey=True)
        for ax, sweep in zip(panels, SWEEPS, strict=True):
            _draw(ax, sweep, [row for row in found if row["sweep"] == sweep])
        panels[0].set_ylabel("operations, gradient / function")
        handles, labels = panels[0].get_legend_handles_labels()
        pictured.legend(handles, labels, loc="outside lower center", ncols=5)
    return pictured


def _draw(ax: Axes, sweep: str, rows: list[dict[str, Any]]) -> None:
    for family, colour, marker in zip(FAMILIES, (COLOURS[0], COLOURS[1], COLOURS[2]), "osD", strict=True):
        own = [row for row in rows if row["family"] == family]
        style: Any = {"color": colour, "marker": marker, "markersize": 4, "label": family}
        ax.semilogx([row[sweep] for row in own], [row["ratio"] for row in own], base=2, **style)
    ax.axhline(BOUND, color="black", linewidth=1.2, linestyle=":", label="bound, 5")
    others = ", ".join(f"{name} {size}" for name, size in USUAL.items() if name != sweep)
    words = {"dim": "dimension m", "count": "fields d", "steps": "steps M"}[sweep]
    ax.set(xlabel=words, title=others, ylim=(0, BOUND + 0.5))
    ax.set_xticks(SWEEPS[sweep], [str(size) for size in SWEEPS[sweep]])


if __name__ == "__main__":
    app()
