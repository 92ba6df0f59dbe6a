"""The recurrent unit of several runs at once, and the linear map that reads it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from scipy.sparse import block_diag, csr_matrix
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

import cde_nets as cn


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
        dtype: of the state.
        device: where to.

    Raises:
        ValueError: messages without their way back.
    """

    def __init__(self, messages: Tensor, nodes: int, runs: int, dtype: torch.dtype, device: torch.device) -> None:
        source, target = messages.cpu()
        there, back = (torch.sort(a * nodes + b).values for a, b in ((source, target), (target, source)))
        if not torch.equal(there, back):
            raise ValueError("messages must go both ways along every edge.")
        ones = np.ones(messages.shape[1])
        one = csr_matrix((ones, (target.numpy(), source.numpy())), shape=(nodes, nodes))
        blocks = block_diag([one] * runs, format="csr")
        with warnings.catch_warnings():
            # torch calls all of CSR a beta.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            self._matrix = torch.sparse_csr_tensor(
                torch.from_numpy(blocks.indptr),
                torch.from_numpy(blocks.indices),
                torch.from_numpy(blocks.data),
                size=blocks.shape,
                dtype=dtype,
                device=device,
                check_invariants=True,
            )

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
        return self._matrix @ z


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
        shown = torch.baddbmm(self.input_bias[:, None], self.neighbours(z), self.input_weight.mT)
        own = torch.baddbmm(self.hidden_bias[:, None], z, self.hidden_weight.mT)
        gates = 2 * self.size
        reset, keep = torch.sigmoid(shown[..., :gates] + own[..., :gates]).chunk(2, -1)
        new = torch.tanh(torch.addcmul(shown[..., gates:], reset, own[..., gates:]))
        return torch.lerp(new, z, keep)


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
        # Not the cell's numbers again.
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


READOUT_SEED = 1_000_000
