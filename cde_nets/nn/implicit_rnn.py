"""The implicit recurrent network: z* = tanh(W z* + U x + b)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cde_nets.door import holdable
from cde_nets.nn.equilibrium import EquilibriumLayer
from cde_nets.options import positive, within


class TanhCell(nn.Module):
    """f(x, z) = tanh(W z + U x + b), the names of its parameters those of torch.nn.RNNCell.

    W begins as `norm` times a random orthogonal matrix and U with entries of variance 1 / input_size. As |tanh'| <= 1,
    |W|_2 < 1 makes f a contraction in z, with one rest point for every x; training may leave that.

    Args:
        input_size: of x.
        hidden_size: of z.
        norm: |W|_2 to begin with, from 0 to below 1.
        seed: of W and U.
        dtype: of the parameters; torch's default where None.

    Raises:
        ValueError: a size below 1, more weights than the memory holds, a norm outside its bounds.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, norm: float = 0.5, seed: int = 0, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        positive("input_size", input_size)
        positive("hidden_size", hidden_size)
        within("norm", norm, 0, 1)
        self.input_size, self.hidden_size = input_size, hidden_size
        positive("seed", seed, least=0)
        holdable("an implicit RNN", hidden_size * (hidden_size + input_size + 1))
        generator = torch.Generator().manual_seed(seed)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        normal = torch.randn(hidden_size, hidden_size, dtype=torch.float64, generator=generator)
        turn = torch.linalg.qr(normal)[0]
        inward = torch.randn(hidden_size, input_size, dtype=torch.float64, generator=generator) / input_size**0.5
        self.weight_hh = nn.Parameter((norm * turn).to(dtype))
        self.weight_ih = nn.Parameter(inward.to(dtype))
        self.bias = nn.Parameter(torch.zeros(hidden_size, dtype=dtype))

    def initial_state(self, x: Tensor) -> Tensor:
        """Zeros of shape (rows, hidden_size).

        Raises:
            ValueError: x of another shape than (rows, input_size).
        """
        if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != self.input_size:
            got = tuple(x.shape) if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise ValueError(f"x must have shape (rows, {self.input_size}); got {got}.")
        return x.new_zeros(x.shape[0], self.hidden_size)

    def forward(self, x: Float[Tensor, "rows input"], z: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        """Shapes (rows, input_size) and (rows, hidden_size) to (rows, hidden_size)."""
        inward = torch.nn.functional.linear(x, self.weight_ih, self.bias)
        return torch.tanh(inward + torch.nn.functional.linear(z, self.weight_hh))

    def extra_repr(self) -> str:
        """Shown by print(cell)."""
        return f"{self.input_size}, {self.hidden_size}"


class ImplicitRNN(EquilibriumLayer):
    """x -> z* = tanh(W z* + U x + b): a recurrent network that is shown the same input until it comes to rest.

    Args:
        input_size: of x, shape (rows, input_size).
        hidden_size: of z*, shape (rows, hidden_size).
        norm: |W|_2 to begin with; see `TanhCell`.
        seed: of W and U.
        parameter_dtype: of the parameters; torch's default where None.
        **options: those of `EquilibriumLayer`.

    Raises:
        ValueError, TypeError: as `TanhCell` and `EquilibriumLayer`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        norm: float = 0.5,
        seed: int = 0,
        parameter_dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__(TanhCell(input_size, hidden_size, norm=norm, seed=seed, dtype=parameter_dtype), **options)
