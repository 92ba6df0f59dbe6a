"""Backpropagation written by hand, as a recursion of deltas, beside autograd.

    python -m experiments.backprop

A feedforward network and the derivatives of its loss, with delta^(l) = dL/dz^(l):

    a^(1) = x,   z^(l+1) = Theta^(l) a^(l) + b^(l),   a^(l+1) = g(z^(l+1)),
    delta^(l) = g'(z^(l)) * (Theta^(l)T delta^(l+1)),   dL/dTheta^(l) = delta^(l+1) a^(l)T,   dL/db^(l) = delta^(l+1).

What differs between the lectures is the head, which gives the first delta, at the last z:

    sigmoid, L = -(y log p + (1 - y) log(1 - p)),   delta = p - y;
    softmax, L = -sum_k y_k log p_k,                delta = p - y;
    linear,  L = |z - y|^2,                         delta = 2 (z - y).

Both cross-entropies are printed without their minus, and so the first delta as y - p. Whoever descends along that
gradient climbs: the figure shows it. (The transpose of Theta is also missing in one of the two printed recursions.)

Each delta is used for all derivatives below it, so that the cost is linear in the depth. Node by node, each layer's
delta by a chain of its own from the output, it is quadratic (Rumelhart, Hinton, Williams, "Learning representations by
back-propagating errors", Nature 323, 1986). Counted are the flops of the matrix products, as torch counts them.

Subject: Descent and backpropagation
Source: lecture Neural network optimization, backprop; Cuchiero, lecture 2, part II
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, less
from experiments.lectures import ready, write

app = typer.Typer(add_completion=False)

Layers = list[tuple[Tensor, Tensor]]

NAME = "backprop"
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
WIDTH, INPUTS, ROWS = 16, 5, 12
# Of the demonstration with both signs.
RATE, DESCENTS = 0.02, 150


@dataclass(frozen=True)
class Head:
    """What the last z becomes, and the loss.

    Attributes:
        name: in words.
        outputs: numbers of z.
        loss: of z and y, both (rows, outputs), summed over the rows.
        delta: its derivative in z, by hand.
        target: y for given rows.
    """

    name: str
    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    delta: Callable[[Tensor, Tensor], Tensor]
    target: Callable[[Tensor], Tensor]


HEADS = (
    Head(
        "sigmoid, cross-entropy",
        1,
        lambda z, y: -(y * functional.logsigmoid(z) + (1 - y) * functional.logsigmoid(-z)).sum(),
        lambda z, y: torch.sigmoid(z) - y,
        lambda x: (x.sum(1, keepdim=True) > 0).to(x.dtype),
    ),
    Head(
        "softmax, cross-entropy",
        3,
        lambda z, y: -(y * functional.log_softmax(z, 1)).sum(),
        lambda z, y: torch.softmax(z, 1) - y,
        lambda x: functional.one_hot(x[:, :3].argmax(1), 3).to(x.dtype),
    ),
    Head(
        "linear, squared error",
        2,
        lambda z, y: (z - y).square().sum(),
        lambda z, y: 2 * (z - y),
        lambda x: torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin()], 1),
    ),
)


@app.command()
@less(globals(), DEPTHS=(1, 2, 4), DESCENTS=30)
def backprop(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/backprop"),
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and the rows.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Compare the recursion with autograd; write backprop.json and backprop.png."""
    out = ready(NAME, out, publish, quick=quick)
    errors = {head.name: [difference(head, depth, seed) for depth in DEPTHS] for head in HEADS}
    counted = [flops(depth, seed) for depth in DEPTHS]
    counts = {name: [count[name] for count in counted] for name in counted[0]}
    signs = {"p − y": descend(1.0, seed), "y − p, as printed": descend(-1.0, seed)}
    content = {"seed": seed, "depths": DEPTHS, "errors": errors, "flops": counts, "losses": signs}
    columns = ("output and loss, by hidden layers", *map(str, DEPTHS))
    rows = [(name, *(f"{error:.1e}" for error in found)) for name, found in errors.items()]
    write(NAME, out, publish, content, _picture(errors, counts, signs), columns, rows, as_json=as_json)


def network(depth: int, outputs: int, seed: int) -> Layers:
    """Weights N(0, 1/inputs) and small biases of `depth` hidden layers and the last one, float64."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [INPUTS, *[WIDTH] * depth, outputs]

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    # Sigmoids flatten by four: with 4 the deltas neither vanish nor explode.
    return [(4 * drawn(n, m) / m**0.5, 0.1 * drawn(n)) for m, n in pairwise(sizes)]


def data(head: Head, seed: int) -> tuple[Tensor, Tensor]:
    """Rows x, shape (rows, inputs), and their y."""
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(ROWS, INPUTS, dtype=torch.float64, generator=generator)
    return x, head.target(x)


def forward(layers: Layers, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The activations that enter each layer, x first, and the last z."""
    entering, z = [x], x
    for theta, b in layers:
        z = entering[-1] @ theta.T + b
        entering.append(torch.sigmoid(z))
    return entering[:-1], z


def recursion(layers: Layers, entering: Sequence[Tensor], delta: Tensor) -> Layers:
    """The derivatives in all weights and biases, by hand, from the delta of the last z.

    Args:
        layers: weights and biases.
        entering: the activations that `forward` kept.
        delta: dL/dz at the last layer, shape (rows, outputs).
    """
    found: Layers = []
    for (theta, _), a in zip(reversed(layers), reversed(entering), strict=True):
        found.append((delta.T @ a, delta.sum(0)))
        # Of the input there is no sigmoid, and nothing below it.
        delta = a * (1 - a) * (delta @ theta)
    return found[::-1]


def difference(head: Head, depth: int, seed: int) -> float:
    """The largest difference from autograd's derivatives, layer by layer relative to their largest entry."""
    layers = network(depth, head.outputs, seed)
    x, y = data(head, seed)
    entering, z = forward(layers, x)
    found = [tensor for pair in recursion(layers, entering, head.delta(z, y)) for tensor in pair]
    leaves = [tensor.requires_grad_() for pair in layers for tensor in pair]
    wanted = torch.autograd.grad(head.loss(forward(layers, x)[1], y), leaves)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=True))


def node_by_node(layers: Layers, entering: Sequence[Tensor], delta: Tensor) -> Layers:
    """As `recursion`, where no layer knows the delta that another one has computed."""
    return [recursion(layers[k:], entering[k:], delta)[0] for k in range(len(layers))]


def flops(depth: int, seed: int) -> dict[str, int]:
    """Flops of matrix products: the loss itself, and all its derivatives in both ways from what the loss has kept."""
    head = HEADS[0]
    layers, (x, y) = network(depth, head.outputs, seed), data(head, seed)
    with FlopCounterMode(display=False) as loss:
        entering, z = forward(layers, x)
    counts = {"the loss": loss.get_total_flops()}
    for name, way in (("recursion", recursion), ("node by node", node_by_node)):
        with FlopCounterMode(display=False) as counter:
            way(layers, entering, head.delta(z, y))
        counts[name] = counter.get_total_flops()
    return counts


def descend(sign: float, seed: int) -> list[float]:
    """The mean loss of one hidden layer over gradient descent, with the first delta times a sign."""
    head = HEADS[0]
    layers = network(1, head.outputs, seed)
    x, y = data(head, seed)
    losses = []
    for _ in range(DESCENTS + 1):
        entering, z = forward(layers, x)
        losses.append(float(head.loss(z, y)) / len(x))
        steps = recursion(layers, entering, sign * head.delta(z, y))
        layers = [
            (theta - RATE * move, b - RATE * push) for (theta, b), (move, push) in zip(layers, steps, strict=True)
        ]
    return losses


def _picture(errors: dict[str, list[float]], counts: dict[str, list[int]], signs: dict[str, list[float]]) -> Figure:
    pictured = figure(11.0, 3.6)
    with styled():
        left, middle, right = pictured.subplots(1, 3)
        _draw_errors(left, errors)
        for (name, found), colour, marker in zip(
            counts.items(), ("#888888", COLOURS[0], COLOURS[5]), "Dos", strict=True
        ):
            middle.loglog(DEPTHS, found, marker=marker, markersize=4, color=colour, label=name)
        middle.set(xlabel="hidden layers", title="flops of matrix products")
        middle.legend(loc="upper left")
        for (name, losses), colour in zip(signs.items(), (COLOURS[2], COLOURS[5]), strict=True):
            right.semilogy(losses, color=colour, label=f"first delta {name}")
        right.set(xlabel="steps of gradient descent", title="cross-entropy, with and without its minus")
        right.legend(loc="center right")
        for ax in (left, middle):
            ax.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
            ax.minorticks_off()
    return pictured


def _draw_errors(ax: Axes, errors: dict[str, list[float]]) -> None:
    for (name, found), colour, marker in zip(errors.items(), (COLOURS[0], COLOURS[1], COLOURS[2]), "osD", strict=True):
        # Equal to the last bit has no logarithm.
        seen = [error if error > 0 else float("nan") for error in found]
        ax.loglog(DEPTHS, seen, marker=marker, markersize=4, linewidth=1, color=colour, label=name)
    ax.axhline(torch.finfo(torch.float64).eps, color="#888888", linewidth=1, linestyle=":", label="one bit of float64")
    ax.set(xlabel="hidden layers", title="largest relative difference from autograd", ylim=(1e-17, 1e-11))
    ax.legend(fontsize=8, loc="upper left")


if __name__ == "__main__":
    app()
