"""Linear problems (I - J^T) w = g, given by products: the adjoint of a rest point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from cde_nets.solver.states import Packing


class LinearProblem:
    """(I - J^T) w = g for every row, J^T known by its products only.

    Args:
        product: w -> J^T w, built as g is; linear, and each row by itself unless coupled.
        g: the right-hand side: a tensor whose first axis counts the rows, or tuples and dicts of tensors.
        transpose: v -> J v, the adjoint of product (for complex states, where torch.func.vjp gives the conjugate
            transpose as J^T, too); only methods on the normal equations ask for it.
        coupled: the rows see each other: the state is one row.

    Attributes:
        products: how many products were made since `counted`, all rows at once counting as one.
        states: how users state what g stands for: that of the rest point's state, where g is its packed cotangent.

    Raises:
        ValueError: product is no function, or g is no tensor or not floating.
    """

    kind = "linear"

    def __init__(
        self,
        product: Callable[[Any], Any],
        g: Any,
        *,
        transpose: Callable[[Any], Any] | None = None,
        coupled: bool = False,
    ) -> None:
        for name, value in (("product", product), ("transpose", transpose)):
            if value is not None and not callable(value):
                raise ValueError(f"{name} must be a function; got a {type(value).__name__}.")
        self.packing, self.g = Packing(g, coupled=coupled), g
        self.states = self.packing
        self._product = self.packing.lift(product, "The product's value")
        self._transpose = None if transpose is None else self.packing.lift(transpose, "The transpose's value")
        self.products = 0

    def counted(self) -> LinearProblem:
        """The same problem, nothing counted yet."""
        other = LinearProblem.__new__(LinearProblem)
        other.__dict__.update(self.__dict__)
        other.products = 0
        return other

    def packed(self) -> Tensor:
        """The right-hand side as (rows, numbers)."""
        return self.packing.pack(self.g)

    def product(self, w: Tensor) -> Tensor:
        """J^T w of packed states."""
        self.products += 1
        return self._product(w)

    def apply(self, w: Tensor) -> Tensor:
        """(I - J^T) w."""
        return w - self.product(w)

    @property
    def has_transpose(self) -> bool:
        """Whether J v can be asked for."""
        return self._transpose is not None

    def require_transpose(self) -> None:
        """Refuse a problem that was given no transpose (ValueError)."""
        if self._transpose is None:
            raise ValueError(
                "This method works on the normal equations and needs v -> J v as well: give "
                "LinearProblem(product, g, transpose=..), or take GMRES() or BiCGStab()."
            )

    def apply_transposed(self, v: Tensor) -> Tensor:
        """(I - J) v.

        Raises:
            ValueError: the problem was given no transpose.
        """
        self.require_transpose()
        assert self._transpose is not None
        self.products += 1
        return v - self._transpose(v)
