"""The recurrent unit of several runs at once, and the linear map that reads it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

import cde_nets as cn

# Added to a run's seed for its readout: not the numbers of its cell again.
READOUT_SEED = 1_000_000


class Weights(StrEnum):
    """How weights are drawn.

    Attributes:
        KAIMING: N(0, 2 / size) and no biases, as the paper's code does. The sum over neighbours makes this far from a
            contraction: the states never come to rest.
        TORCH: as torch.nn.GRUCell and torch.nn.Linear draw them.
        SETTLING: so, with the weights of what is heard divided by the spectral radius of the sum over neighbours.
    """

    KAIMING = "kaiming"
    TORCH = "torch"
    SETTLING = "settling"


class Neighbours:
    """The sum over all neighbours, for several runs on one graph: one sparse product with a block for each run.

    Args:
        messages: shape (2, count), as `GraphGRUCell` takes them; with every message there is the one back, so that the
            matrix is its own transpose.
        nodes: of the graph.
        runs: of the state.
        device: where to.

    Raises:
        ValueError: messages without their way back.
    """

    def __init__(self, messages: Tensor, nodes: int, runs: int, device: torch.device) -> None:
        source, target = messages.cpu()
        there, back = (torch.sort(a * nodes + b).values for a, b in ((source, target), (target, source)))
        if not torch.equal(there, back):
            raise ValueError("messages must go both ways along every edge.")
        order = torch.argsort(target, stable=True)
        ends = torch.bincount(target, minlength=nodes).cumsum(0)
        sent = source.numel() * torch.arange(runs)[:, None]
        self._heard = (nodes * torch.arange(runs)[:, None] + source[order]).flatten().to(device)
        self._first = torch.cat([torch.zeros(1, dtype=torch.int64), (sent + ends).flatten()]).to(device)

    def __call__(self, z: Tensor) -> Tensor:
        """What every node hears, shape (runs, nodes, size)."""
        heard: Tensor = _Sum.apply(z.flatten(0, 1), self)  # type: ignore[no-untyped-call]
        return heard.view_as(z)

    @staticmethod
    def radius(messages: Tensor, nodes: int) -> float:
        """The spectral radius of the sum over neighbours: its largest eigenvalue (Perron and Frobenius)."""
        source, target = messages.cpu().numpy()
        matrix = csr_matrix((np.ones(len(source)), (target, source)), shape=(nodes, nodes))
        return float(eigsh(matrix, k=1, which="LA", return_eigenvectors=False, v0=np.ones(nodes))[0])

    def multiply(self, z: Tensor) -> Tensor:
        """The product, without a graph."""
        # Bags of rows that are summed: on a CPU several times faster than torch's sparse product.
        return nn.functional.embedding_bag(self._heard, z, self._first, mode="sum", include_last_offset=True)


class _Sum(torch.autograd.Function):
    """A product with a symmetric matrix, whose derivative forwards and backwards is the same product."""

    @staticmethod
    def forward(z: Tensor, matrix: Neighbours) -> Tensor:
        return matrix.multiply(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Neighbours], output: Tensor) -> None:
        ctx.matrix = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(g.contiguous(), ctx.matrix), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        found: Tensor = _Sum.apply(tangent, ctx.matrix)  # type: ignore[no-untyped-call]
        return found


class Cell(nn.Module):
    """`GraphGRUCell` with weights of its own for each of several runs; a row of the state is one run.

    Nodes see each other, runs do not: rows are independent, and every method treats them so.

    Args:
        neighbours: the sum over them.
        cells: one a run, whose weights it begins with.
    """

    def __init__(self, neighbours: Neighbours, cells: Sequence[cn.GraphGRUCell]) -> None:
        super().__init__()
        self.neighbours, self.size = neighbours, cells[0].size

        def stacked(name: str) -> nn.Parameter:
            return nn.Parameter(torch.stack([getattr(cell.gru, name).detach() for cell in cells]))

        self.input_weight, self.hidden_weight = stacked("weight_ih"), stacked("weight_hh")
        self.input_bias, self.hidden_bias = stacked("bias_ih"), stacked("bias_hh")

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """The states after one more message along every edge.

        Args:
            x: not looked at: what the unit is shown is where its state began.
            z: shape (runs, nodes, size).
        """
        heard, gates = self.neighbours(z), 2 * self.size
        # Added up within the second product and changed in place: else half of a step's time on a CPU goes by between
        # the products.
        bias = (self.input_bias + self.hidden_bias)[:, None, :gates]
        both = torch.baddbmm(bias, heard, self.input_weight[:, :gates].mT)
        reset, keep = both.baddbmm_(z, self.hidden_weight[:, :gates].mT).sigmoid_().chunk(2, -1)
        # tanh(a) = 2 sigmoid(2 a) - 1: torch's tanh takes several times as long as its sigmoid.
        own = torch.baddbmm(self.hidden_bias[:, None, gates:], z, self.hidden_weight[:, gates:].mT)
        new = torch.baddbmm(self.input_bias[:, None, gates:], heard, self.input_weight[:, gates:].mT)
        half = new.addcmul_(reset, own).mul_(2).sigmoid_()
        return torch.lerp(torch.rsub(half, -1, alpha=-2), z, keep)


class Readout(nn.Module):
    """One linear map a run.

    Args:
        maps: one a run, whose weights it begins with.
    """

    def __init__(self, maps: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([one.weight.detach() for one in maps]))
        self.bias = nn.Parameter(torch.stack([one.bias.detach() for one in maps]))

    def forward(self, z: Tensor) -> Tensor:
        """Shape (runs, nodes, size) to (runs, nodes, classes)."""
        return torch.baddbmm(self.bias[:, None], z, self.weight.mT)


def draw(size: int, classes: int, weights: Weights, radius: float, seed: int) -> tuple[cn.GraphGRUCell, nn.Linear]:
    """A run's weights, float32; radius is that of the sum over neighbours."""
    cell = cn.GraphGRUCell(size, seed=seed, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(READOUT_SEED + seed)
        readout = nn.Linear(size, classes, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        if weights is Weights.SETTLING:
            cell.gru.weight_ih /= radius
        elif weights is Weights.KAIMING:
            for parameter in (*readout.parameters(), *cell.parameters()):
                if parameter.ndim == 1:
                    parameter.zero_()
                else:
                    parameter.normal_(0.0, math.sqrt(2 / parameter.shape[1]), generator=generator)
    return cell, readout
