"""A gated recurrent unit on a graph, to be run to rest."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cde_nets.options import positive


class GraphGRUCell(nn.Module):
    """f(edges, z): every node's GRU is shown the sum of its neighbours' states, and its own state.

    The recurrent unit of the citation networks of Liao et al., "Reviving and improving recurrent back-propagation",
    ICML 2018 (GRU and sum over edges; after Li et al., "Gated graph sequence neural networks", ICLR 2016). Nodes see
    each other, so that it runs to rest as one state: EquilibriumLayer(GraphGRUCell(64), coupled=True)(edges, features).

    Args:
        size: of a node's state.
        seed: of the weights, uniform as torch.nn.GRUCell's; torch's global generator where None.
        dtype: of the parameters; torch's default where None.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, size: int, *, seed: int | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        positive("size", size)
        self.size = size
        if seed is None:
            self.gru = nn.GRUCell(size, size, dtype=dtype)
            return
        positive("seed", seed, least=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.gru = nn.GRUCell(size, size, dtype=dtype)

    def forward(self, edges: Int[Tensor, "2 edges"], z: Float[Tensor, "nodes size"]) -> Float[Tensor, "nodes size"]:
        """The states after one more message along every edge.

        Args:
            edges: shape (2, count): node edges[0, k] is heard by node edges[1, k]. A graph without directions has both.
            z: shape (nodes, size).

        Raises:
            ValueError: edges of another shape or dtype.
        """
        if edges.ndim != 2 or edges.shape[0] != 2 or edges.is_floating_point():
            raise ValueError(
                f"edges must be integers of shape (2, count); got {edges.dtype} of shape {tuple(edges.shape)}."
            )
        heard = torch.zeros_like(z).index_add(0, edges[1], z.index_select(0, edges[0]))
        state: Tensor = self.gru(heard, z)
        return state

    def extra_repr(self) -> str:
        """Shown by print(cell)."""
        return str(self.size)
