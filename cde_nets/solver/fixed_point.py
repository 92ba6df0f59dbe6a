"""Rest points: z = f(z), or g(z) = 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cde_nets.solver.function import PackedFunction, arguments
from cde_nets.solver.states import Packing, finite_rows


class FixedPointProblem:
    """z = f(z, *args): the first axis of z counts rows, each of which comes to rest by itself.

    Args:
        function: f, a function or a module; its value is built as z is.
        z0: where to start: a tensor of any shape, or tuples and dicts of tensors. A state with one axis or none is a
            single row.
        args: passed on to f after the state. The parameters of a module and tensors in args get gradients.
        coupled: the rows see each other (a graph): the state is one row, and all stop together.

    Attributes:
        evaluations: how often f was evaluated since `counted`, all rows at once counting as one.
        products: the same of products with its Jacobian or the transpose.
        first: the function's packed value at `start`, where it has been evaluated.

    Raises:
        ValueError: f is no function, or z0 is no tensor or not floating.
    """

    kind = "rest"

    def __init__(
        self, function: Callable[..., Any], z0: Any, *, args: Sequence[Any] = (), coupled: bool = False
    ) -> None:
        if not callable(function):
            raise ValueError(f"function must be a function or module f(z); got a {type(function).__name__}.")
        self.packing, self.z0 = Packing(z0, coupled=coupled), z0
        self.function = PackedFunction(function, arguments(args), self.packing, "The map's value")
        self.is_root = False
        self.evaluations = self.products = 0
        self.first: Tensor | None = None

    @classmethod
    def root(
        cls, function: Callable[..., Any], z0: Any, *, args: Sequence[Any] = (), coupled: bool = False
    ) -> FixedPointProblem:
        """g(z, *args) = 0, solved as z = z + g(z): the undamped residual is g itself."""
        problem = cls(function, z0, args=args, coupled=coupled)
        problem.is_root = True
        return problem

    @property
    def map(self) -> PackedFunction:
        """What is iterated: f, or z + g(z) for a root."""
        function = self.function
        if not self.is_root:
            return function
        made = PackedFunction(function.function, function.args, self.packing, function.what, plus_identity=True)
        return made.on(function.leaves)

    def value(self, z: Tensor, known: Tensor | None = None) -> Tensor:
        """f(z), or z + g(z), of packed states.

        Args:
            z: shape (rows, numbers).
            known: the function's own value there, f(z) or g(z), where it has been evaluated.
        """
        value = self._function(z, known)
        return z + value if self.is_root else value

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gets gradients besides z."""
        return self.function.leaves

    def on(self, leaves: Sequence[Tensor]) -> FixedPointProblem:
        """The same problem with other tensors in the place of its leaves, nothing counted yet."""
        other = FixedPointProblem.__new__(FixedPointProblem)
        other.__dict__.update(self.__dict__)
        other.function, other.first = self.function.on(leaves), None
        other.evaluations = other.products = 0
        return other

    def counted(self) -> FixedPointProblem:
        """The same problem, nothing counted yet."""
        other = FixedPointProblem.__new__(FixedPointProblem)
        other.__dict__.update(self.__dict__)
        other.evaluations = other.products = 0
        other.first = None
        return other

    def packed(self) -> Tensor:
        """Where to start, as (rows, numbers)."""
        return self.packing.pack(self.z0)

    def start(self) -> Tensor:
        """As packed, 0 in rows that are not finite: no function is asked about those."""
        z = self.packed()
        return torch.where(finite_rows(z)[:, None], z, 0.0)

    def residual(self, z: Tensor, known: Tensor | None = None) -> Tensor:
        """f(z) - z, or g(z), of packed states; known as in `value`."""
        value = self._function(z, known)
        return value if self.is_root else value - z

    def _function(self, z: Tensor, known: Tensor | None) -> Tensor:
        self.evaluations += 1
        return self.function(z) if known is None else known

    def transposed(self, z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The residual at z, and w -> w^T J with J the Jacobian of f, or of z + g(z), at z."""
        self.evaluations += 1
        value, pull = self.function.transposed(z)

        def product(w: Tensor) -> Tensor:
            self.products += 1
            return pull(w) + w if self.is_root else pull(w)

        return value if self.is_root else value - z, product

    def pushforward(self, z: Tensor, v: Tensor) -> Tensor:
        """J v with J the Jacobian of f, or of z + g(z), at z."""
        self.products += 1
        pushed = self.function.pushforward(z, v)
        return pushed + v if self.is_root else pushed

    def pushing(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        """The map v -> J v for many v at one z, without a graph."""
        push = self.function.pushing(z)

        def product(v: Tensor) -> Tensor:
            self.products += 1
            return push(v) + v if self.is_root else push(v)

        return product

    def pushforwards(self, z: Tensor, vs: Tensor) -> Tensor:
        """J v for k vectors at once, shape (k, rows, numbers), counted as k products; f must allow torch.func.vmap."""
        self.products += vs.shape[0]
        push = torch.func.vmap(lambda v: self.function.pushforward(z, v), randomness="same")
        pushed: Tensor = push(vs)
        return pushed + vs if self.is_root else pushed
