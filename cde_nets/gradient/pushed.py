"""Rest points in forward mode: what they depend on is taken apart from its tangents, which are pushed to the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch._C import _functorch
from torch.utils import _pytree as pytree

from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.function import PackedFunction, twice_transposed
from cde_nets.solver.living import healed, stand_in
from cde_nets.solver.opaque import forward_mode

# Solves (I - J) t = b, given v -> J v, b, w -> J^T w and the rows that count.
Solve = Callable[[Callable[[Tensor], Tensor], Tensor, Callable[[Tensor], Tensor], Tensor], Tensor]

NESTED = (
    "Implicit is differentiated forward once, and by no other transform around or within that: take backward mode "
    "twice (torch.autograd.grad with create_graph=True, torch.autograd.functional.hessian), or cde_nets.sensitivity "
    "for the derivative of the rest point itself."
)


@dataclass(frozen=True, eq=False)
class Apart:
    """A fixed-point problem without tangents, and the tangents.

    Attributes:
        problem: the same, whose state and leaves have none.
        tangents: of each leaf; empty where none has one.
    """

    problem: FixedPointProblem
    tangents: Sequence[Tensor]

    @classmethod
    def of(cls, problem: FixedPointProblem) -> Apart | None:
        """None where torch does not differentiate in forward mode.

        Raises:
            RuntimeError: tangents of another transform than the innermost.
        """
        if torch.compiler.is_compiling() or not forward_mode():
            return None
        states = [x for x in pytree.tree_leaves(problem.z0) if isinstance(x, Tensor)]
        pairs = [forward_ad.unpack_dual(leaf) for leaf in problem.leaves]
        for tensor in (*states, *problem.leaves):
            _check_single(tensor)
        # What has no tangent stays the tensor that it is: torch.func would wrap a parameter, and hide that it trains.
        leaves = zip(problem.leaves, pairs, strict=True)
        plain = problem.on([leaf if pair.tangent is None else pair.primal for leaf, pair in leaves])
        # A rest point does not depend on where it was looked for.
        plain.z0 = pytree.tree_map(lambda x: forward_ad.unpack_dual(x).primal, problem.z0)
        if all(pair.tangent is None for pair in pairs):
            return cls(plain, ())
        return cls(plain, [torch.zeros_like(p.primal) if p.tangent is None else p.tangent for p in pairs])

    def attach(self, z: Tensor, alive: Tensor, solve: Solve) -> Tensor:
        """The packed rest point with its tangent, zero in rows that failed.

        Raises:
            ValueError: the map depends on tensors with tangents that it was not given.
        """
        problem = self.problem
        with torch.no_grad():
            value = problem.map(stand_in(z, alive))
        if forward_ad.unpack_dual(value).tangent is not None:
            function = problem.function
            raise ValueError(
                f"{function.who} depends on tensors that have a tangent in forward mode and that it was not given: the "
                f"rest point's would miss theirs. Make it an nn.Module that holds them, or {function.declare}."
            )
        if not self.tangents:
            return z
        tangents = [t[None] for t in self.tangents]
        t = _Pushed.apply(problem.map, solve, z.detach(), alive, *problem.leaves, *tangents)  # type: ignore[no-untyped-call]
        dual: Tensor = forward_ad.make_dual(z, t[0])
        return dual


def _check_single(tensor: Tensor) -> None:
    """Refuse what belongs to another transform than the innermost (RuntimeError)."""
    if not _functorch.is_functorch_wrapped_tensor(tensor):
        return
    inner = _functorch.get_unwrapped(tensor)
    level = _functorch.maybe_get_level(tensor)
    if level != _functorch.maybe_current_level() or _functorch.is_functorch_wrapped_tensor(inner):
        raise RuntimeError(NESTED)


class _Pushed(torch.autograd.Function):
    """t of (I - J) t = df.v for tangents v of the leaves, each with an axis in front; t has it too."""

    @staticmethod
    def forward(function: PackedFunction, solve: Solve, z: Tensor, alive: Tensor, *tensors: Tensor) -> Tensor:
        count = len(tensors) // 2
        leaves, tangents = [leaf.detach() for leaf in tensors[:count]], tensors[count:]
        z = stand_in(z, alive)
        function = function.on(healed(leaves, alive, lambda leaves: function.on(leaves)(z)))
        k, rows, numbers = len(tangents[0]), *z.shape
        pull = torch.func.vjp(lambda y: function(y), z)[1]
        push = twice_transposed(lambda y: function(y), z)
        push_leaves = twice_transposed(lambda *leaves: function.on(leaves)(z), *function.leaves)
        moved = torch.func.vmap(lambda *v: push_leaves(*v), randomness="same")(*tangents)

        shape = torch.Size((k, rows, numbers))
        found = solve(each(push, shape), moved.reshape(-1, numbers), each(lambda w: pull(w)[0], shape), alive.repeat(k))
        return found.reshape(shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], function: PackedFunction, solve: Solve, *tensors: Tensor
    ) -> tuple[Tensor, int]:
        z, alive, *rest = tensors
        count, dims = len(rest) // 2, in_dims[4 + len(rest) // 2 :]
        if any(dim is not None for dim in in_dims[: 4 + count]):
            raise RuntimeError(NESTED)
        moved = [
            t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip(rest[count:], dims, strict=True)
        ]
        k = moved[0].shape[1]
        found = _Pushed.apply(function, solve, z, alive, *rest[:count], *(t.flatten(0, 1) for t in moved))  # type: ignore[no-untyped-call]
        return found.unflatten(0, (info.batch_size, k)), 0

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, ...]:
        raise RuntimeError(f"The tangent of a rest point is not differentiated backward. {NESTED}")


def each(product: Callable[[Tensor], Tensor], shape: torch.Size) -> Callable[[Tensor], Tensor]:
    """A product with (rows, numbers) as one with (k rows, numbers), shape being (k, rows, numbers)."""
    every = torch.func.vmap(product, randomness="same")
    return lambda v: every(v.reshape(shape)).reshape(-1, shape[-1])


def refuse_forward_over_backward(g: Tensor, *, pushed: bool) -> None:
    """For a backward pass that would lose tangents: of what it depends on, where pushed, or of its cotangent.

    Raises:
        RuntimeError: there are such tangents.
    """
    if forward_mode() and (pushed or forward_ad.unpack_dual(g).tangent is not None):
        raise RuntimeError(f"A backward pass through Implicit has no tangent of its own. {NESTED}")
