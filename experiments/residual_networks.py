"""A residual network as a flow: deeper networks near the ODE, a trained one as a flow, a flow as a network.

    python -m experiments.residual_networks

x <- x + h f(x) is a step of Euler's method on dX = f(X) dt (He, Zhang, Ren, Sun, "Deep residual learning", 2015; E, "A
proposal on machine learning via dynamical systems", 2017). So

- a network of M blocks x <- x + f(x, t_k) / M is within O(1/M) of the ODE, values and gradients: measured, with fields
  sum_i u_i(t) V_i(x) and a smooth u, against a method of order five at tight tolerance;
- a trained torch network is a flow, `cde_nets.from_residual`: by Euler's method with a step a block it is the network
  to rounding. With more steps it goes to the ODE that the blocks stand for, which is another map where blocks are
  large: the figure shows both paths;
- a flow solved by Euler's method is a torch network, `cde_nets.to_residual`, again to rounding.

Subject: Networks as flows
Source: Cuchiero, lecture 2, residual networks
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import cde_nets as cn
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, less
from experiments.lectures import ready, write

app = typer.Typer(add_completion=False)

NAME = "residual_networks"
DEPTHS = tuple(2**k for k in range(2, 11))
DIM, COUNT, TERMS, POINTS = 3, 4, 3, 16
EXACT = cn.Tolerance(1e-11, 1e-12)
BLOCKS, WIDTH, SAMPLES, EPOCHS, RATE, NOISE = 8, 12, 200, 250, 0.02, 0.1
SHORT = 0.5
SUBSTEPS = tuple(2**k for k in range(8))
# Of the picture: points of each class, and Euler steps a block that look like a curve.
SHOWN, SMOOTH = 7, 24


class Block(nn.Module):
    """A residual block as one would write it anywhere: x + W_2 tanh(W_1 x + b_1) + b_2.

    Args:
        dim: of the state.
        width: of the hidden layer.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, width), nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, dim) to the same."""
        end: Tensor = x + self.outer(torch.tanh(self.inner(x)))
        return end


@app.command()
@less(globals(), DEPTHS=tuple(2**k for k in range(3, 9)), SUBSTEPS=(1, 2, 16), EPOCHS=60)
def residual_networks(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/residual_networks"),
    seed: Annotated[int, typer.Option(min=0, help="Of fields, points, weights and moons.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Networks as flows and back; write residual_networks.json and residual_networks.png."""
    out = ready(NAME, out, publish, quick=quick)
    depth = by_depth(seed)
    x, labels = moons(seed)
    network, readout = train(x, labels, seed)
    imported = as_flow(network, readout, x, labels)
    exported = as_network(seed)
    content = {"seed": seed, "depth": depth, "imported": imported, "exported": exported}
    error, last = f"error at {DEPTHS[-1]} blocks", f"{SUBSTEPS[-1]} steps a block"
    rows = [
        ("deeper networks: slope of the values' error", f"{depth['slopes']['values']:.3f}"),
        ("deeper networks: slope of the gradients' error", f"{depth['slopes']['gradients']:.3f}"),
        (f"deeper networks: {error}, values", f"{depth['values'][-1]:.1e}"),
        ("trained network as a flow: difference, values", f"{imported['value']:.1e}"),
        ("trained network as a flow: relative difference, gradients", f"{imported['gradient']:.1e}"),
        ("trained network: accuracy", f"{imported['accuracy'][0]:.3f}"),
        (f"its ODE ({last}): accuracy", f"{imported['accuracy'][-1]:.3f}"),
        (f"its ODE ({last}): how far from the network's end, root mean square", f"{imported['moved'][-1]:.3f}"),
        ("flow as a network: difference, values", f"{exported['value']:.1e}"),
        ("flow as a network: relative difference, gradients", f"{exported['gradient']:.1e}"),
    ]
    pictured = _picture(depth, imported, network, x, labels)
    write(NAME, out, publish, content, pictured, ("what", "measured"), rows, as_json=as_json)


def smooth(seed: int) -> tuple[cn.RidgeFields, cn.SpectralControl, Tensor]:
    """Cubic ridge fields, a control of a few cosines, and points, all float64."""
    generator = torch.Generator().manual_seed(seed)
    fields = cn.RidgeFields.random(DIM, COUNT, 3, seed=seed, dtype=torch.float64)
    numbers = 0.3 * torch.randn(TERMS, COUNT, dtype=torch.float64, generator=generator)
    x = 0.5 * torch.randn(POINTS, DIM, dtype=torch.float64, generator=generator)
    return fields, cn.SpectralControl(TERMS, COUNT, coefficients=numbers), x


def by_depth(seed: int) -> dict[str, Any]:
    """How far networks of M blocks are from the ODE, in the values and in the gradients of their mean square."""
    fields, control, x = smooth(seed)

    def both(method: cn.Method) -> tuple[Tensor, Tensor]:
        end = cn.ControlledODE(fields, control, method, tolerance=EXACT)(x)
        (slope,) = torch.autograd.grad(end.square().mean(), [*control.parameters()])
        return end.detach(), slope

    exact = both(cn.RungeKutta("tsit5"))
    found = [both(cn.RungeKutta("euler", steps=depth)) for depth in DEPTHS]
    errors = {
        name: [float((one[k] - exact[k]).abs().max()) for one in found]
        for k, name in enumerate(("values", "gradients"))
    }
    # The shallowest networks are not yet in the region where the first order rules.
    slopes = {name: float(np.polyfit(np.log(DEPTHS[3:]), np.log(errors[name][3:]), 1)[0]) for name in errors}
    return {"depths": DEPTHS, **errors, "slopes": slopes}


def moons(seed: int) -> tuple[Tensor, Tensor]:
    """Two half circles that reach into each other, shape (samples, 2), and labels 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    angle = torch.pi * torch.rand(SAMPLES, dtype=torch.float64, generator=generator)
    labels = (torch.arange(SAMPLES) % 2).to(torch.float64)
    arc = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], 1)
    x = torch.where(labels[:, None] > 0, -arc, arc)
    return 1.5 * x + NOISE * torch.randn(SAMPLES, 2, dtype=torch.float64, generator=generator), labels


def train(x: Tensor, labels: Tensor, seed: int) -> tuple[nn.Sequential, nn.Linear]:
    """A torch network of residual blocks with a linear readout, float64, in plain torch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(*[Block(2, WIDTH) for _ in range(BLOCKS)]).double()
        readout = nn.Linear(2, 1).double()
    optimizer = torch.optim.Adam([*network.parameters(), *readout.parameters()], lr=RATE)
    for _ in range(EPOCHS):
        path = [x]
        for block in network:
            path.append(block(path[-1]))
        # Paths as short as they may be: else blocks jump across the plane.
        jumps = torch.stack(path).diff(dim=0).square().mean()
        loss = nn.functional.binary_cross_entropy_with_logits(readout(path[-1])[:, 0], labels) + SHORT * jumps
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network, readout


def as_flow(network: nn.Sequential, readout: nn.Linear, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """The trained network imported: how near Euler's method is to it, and what more steps a block do."""
    near = _differences(network, cn.from_residual(network), x, list(network.parameters()))
    with torch.no_grad():
        end = network(x)
        ends = [cn.from_residual(network, cn.RungeKutta("euler", steps=steps))(x) for steps in SUBSTEPS]
        right = [float(((readout(there)[:, 0] > 0) == (labels > 0)).double().mean()) for there in ends]
    moved = [float((there - end).square().sum(1).mean().sqrt()) for there in ends]
    return {**near, "substeps": SUBSTEPS, "accuracy": right, "moved": moved}


def as_network(seed: int) -> dict[str, float]:
    """A flow of ten steps exported: how near the torch network is to it."""
    fields, _, x = smooth(seed)
    control = cn.PiecewiseConstantControl.random(10, COUNT, scale=0.5, seed=seed, dtype=torch.float64)
    flow = cn.ControlledODE(fields, control, "euler")
    network = cn.to_residual(flow)

    def stacked(x: Tensor) -> tuple[Tensor, Tensor]:
        end = network(x)
        parts = torch.autograd.grad(end.square().mean(), list(network.parameters()))
        return end.detach(), torch.stack(parts)

    value, theirs = stacked(x)
    end = flow(x)
    (mine,) = torch.autograd.grad(end.square().mean(), [control.values])
    return {"value": float((end.detach() - value).abs().max()), "gradient": _relative(mine, theirs)}


def _differences(one: nn.Module, other: nn.Module, x: Tensor, leaves: list[nn.Parameter]) -> dict[str, float]:
    """Of values, absolute, and of the gradients of their mean square, relative to the largest entry of each tensor."""
    values = [one(x), other(x)]
    mine, theirs = (torch.autograd.grad(value.square().mean(), leaves) for value in values)
    worst = max(_relative(a, b) for a, b in zip(mine, theirs, strict=True))
    return {"value": float((values[0] - values[1]).detach().abs().max()), "gradient": worst}


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def _picture(
    depth: dict[str, Any], imported: dict[str, Any], network: nn.Sequential, x: Tensor, labels: Tensor
) -> Figure:
    pictured = figure(11.0, 3.9)
    with styled():
        left, middle, right = pictured.subplots(1, 3, width_ratios=(1, 1.15, 1))
        # One lies on the other: the first shows through.
        for name, colour, marker in (("values", COLOURS[0], "o"), ("gradients", COLOURS[1], "x")):
            words = f"{name}, slope −{-depth['slopes'][name]:.2f}"
            left.loglog(DEPTHS, depth[name], marker=marker, markersize=4, color=colour, label=words)
        left.set(xlabel="blocks M", title="distance of the network from the ODE")
        left.legend(loc="upper right")
        _draw_paths(middle, network, x, labels)
        right.semilogx(SUBSTEPS, imported["moved"], "o-", markersize=4, base=2, color=COLOURS[0])
        right.set(xlabel="Euler steps a block", ylabel="root mean square", title="how far their ends are apart")
        right.set_ylim(0, None)
        right.set_xticks(SUBSTEPS, [str(steps) for steps in SUBSTEPS])
    return pictured


@torch.no_grad()
def _draw_paths(ax: Axes, network: nn.Sequential, x: Tensor, labels: Tensor) -> None:
    """The network's states, block by block, and the flow's path: many small steps of the same blocks."""
    small = cn.to_residual(cn.from_residual(network, cn.RungeKutta("euler", steps=SMOOTH)))
    for label, colour in ((0, COLOURS[0]), (1, COLOURS[5])):
        some = x[labels == label][:SHOWN]
        jumps, curve = (cn.from_residual(blocks).trajectory(some).numpy() for blocks in (network, small))
        ax.plot(jumps[..., 0], jumps[..., 1], "o-", color=colour, markersize=2.5, linewidth=0.6, alpha=0.6)
        ax.plot(curve[..., 0], curve[..., 1], color=colour, linewidth=1.4)
        ax.plot(*some.T, "o", color=colour, markerfacecolor="white", markersize=5, zorder=3)
    grey = "#555555"
    ax.plot([], [], "o", color=grey, markerfacecolor="white", markersize=5, label="start")
    ax.plot([], [], "o-", color=grey, markersize=2.5, linewidth=0.6, label="trained network")
    ax.plot([], [], color=grey, linewidth=1.4, label="its flow")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", title="two moons on their way")
    ax.legend(fontsize=8, loc="lower left")


if __name__ == "__main__":
    app()
