"""The implicit function theorem: the gradient of a rest point, or of a linear problem, is one more linear problem."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.errors import ConvergenceError, ConvergenceWarning
from cde_nets.gradient.base import Gradient, Settings
from cde_nets.gradient.declared import undeclared
from cde_nets.gradient.pushed import NESTED, Apart, each, refuse_forward_over_backward
from cde_nets.gradient.rest import check_map_declared, run_rest
from cde_nets.options import instead, options, positive
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.function import PackedFunction, twice_transposed
from cde_nets.solver.linear import GMRES, Dense
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.living import healed, stand_in
from cde_nets.solver.loop import Limits, run
from cde_nets.solver.method import Method
from cde_nets.solver.opaque import opaque, refuse_grads_batched
from cde_nets.solver.recorded import pushing
from cde_nets.solver.solution import Backward, Solution, Statistics
from cde_nets.solver.states import Packing
from cde_nets.solver.status import succeeded
from cde_nets.solver.tolerance import Tolerance, check_tolerance


@options
class Implicit(Gradient):
    """dz* = (I - J)^-1 (df/dtheta) dtheta: exact at a rest point, whatever way led there, in the memory of one state.

    The backward pass solves (I - J^T) w = g with a linear method and reports in the solution's `backward`: an inexact
    method (Neumann(K), OneStep) makes an inexact gradient, by name. Where the solve fails it raises, or warns if the
    problem was solved with throw=False; a row that failed either way gives zero to what rows share, and is counted.
    With create_graph=True the solve is differentiated implicitly too: second derivatives are exact. In forward mode
    (torch.func.jvp, jacfwd, torch.autograd.forward_ad) the tangent t of a rest point solves (I - J) t = df.v with the
    same method, wherever the iteration began; forward and backward mode within each other are refused.

    Args:
        method: for the linear problem; GMRES() where None.
        tolerance: of the linear problem; where None the rtol of the forward solve, but no less than a hundred times
            what the dtype resolves, and no atol: cotangents have a scale of their own, and a mean over many rows makes
            them small.
        max_steps: of the linear problem, at least 1.

    Raises:
        ValueError: a method that is not for linear problems, a tolerance that is no `Tolerance`, max_steps below 1.
    """

    solves: ClassVar[tuple[str, ...]] = ("rest", "linear")

    method: Method | None = None
    tolerance: Tolerance | None = None
    max_steps: int = 1000

    def __post_init__(self) -> None:
        """Check all."""
        if self.method is not None and not (isinstance(self.method, Method) and self.method.solves == "linear"):
            raise ValueError(
                f"Implicit takes a method for linear problems, such as GMRES() or Neumann(10); got {self.method!r}"
                f"{instead(self.method)}."
            )
        check_tolerance(self.tolerance)
        positive("max_steps", self.max_steps)

    def solve(self, problem: FixedPointProblem | LinearProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`."""
        problem = problem.counted()
        apart = Apart.of(problem) if isinstance(problem, FixedPointProblem) else None
        if apart is None:
            return self._solved(problem, method, settings)
        solution = self._solved(apart.problem, method, settings, pushed=True)
        inner = self._adjoint(apart.problem, settings)
        packing = apart.problem.packing
        value = apart.attach(packing.pack(solution.value), solution.succeeded, inner.solve)
        return solution.differentiable(packing.unpack(value), solution.backward)

    def _solved(
        self, problem: FixedPointProblem | LinearProblem, method: Method, settings: Settings, *, pushed: bool = False
    ) -> Solution:
        if torch.is_grad_enabled() and isinstance(problem, FixedPointProblem):
            problem.first = check_map_declared(problem, problem.start())
        with torch.no_grad():
            iterate, solution = run_rest(problem, method, settings)
        if not torch.is_grad_enabled():
            return solution
        inner = self._adjoint(problem, settings, pushed=pushed)
        alive = succeeded(iterate.status)
        if isinstance(problem, LinearProblem):
            value = self._linear(problem, iterate.value, alive, inner)
        else:
            if not any(leaf.requires_grad for leaf in problem.leaves):
                # What the map depends on may show only here.
                check_map_declared(problem, iterate.value)
                return solution
            value = _RestPoint.apply(inner, problem, iterate.value, alive, *problem.leaves)  # type: ignore[no-untyped-call]
        return solution.differentiable(problem.packing.unpack(value), inner.backward)

    def _adjoint(
        self, problem: FixedPointProblem | LinearProblem, settings: Settings, *, pushed: bool = False
    ) -> _Adjoint:
        return _Adjoint(
            GMRES() if self.method is None else self.method,
            Limits(self.tolerance or _relative(settings.tolerance, problem.packing.dtype), self.max_steps),
            settings.throw,
            Backward(),
            problem.states if isinstance(problem, LinearProblem) else problem.packing,
            pushed,
        )

    def _linear(self, problem: LinearProblem, value: Tensor, alive: Tensor, inner: _Adjoint) -> Tensor:
        g = problem.packed()
        if not opaque():
            with torch.enable_grad():
                product = problem.counted().product(value.detach())
            if undeclared(product, ()):
                raise ValueError(
                    "The product depends on tensors that want a gradient, which a linear problem does not know: solve "
                    "under torch.no_grad(), or state the problem as FixedPointProblem(lambda w, ..: .., args=(..))."
                )
        if not g.requires_grad:
            return value
        found: Tensor = _LinearSolution.apply(inner, problem.counted().product, None, g, value, alive)  # type: ignore[no-untyped-call]
        return found


def _relative(tolerance: Tolerance, dtype: torch.dtype) -> Tolerance:
    """What a backward solve takes over from the forward one."""
    return Tolerance(max(tolerance.rtol, 100 * torch.finfo(dtype).eps), sys.float_info.min)


@dataclass(eq=False)
class _Adjoint:
    """How adjoint problems are solved, and where that is reported.

    Attributes:
        states: how users build what is packed.
        pushed: what the problem depends on has tangents, too.
        some: whether any row is alive, once the host has looked.
    """

    method: Method
    limits: Limits
    throw: bool
    backward: Backward
    states: Packing
    pushed: bool = False
    some: bool | None = None

    def solve(
        self,
        product: Callable[[Tensor], Tensor],
        g: Tensor,
        transpose: Callable[[Tensor], Tensor],
        alive: Tensor,
    ) -> Tensor:
        """W of (I - J^T) w = g in packed states, zero in rows that failed.

        Raises:
            ConvergenceError: rows that failed, with throw.
        """
        living = alive[:, None]
        problem = LinearProblem(product, torch.where(living, g, 0.0), transpose=transpose)
        problem.states = self.states
        with torch.no_grad():
            iterate = run(problem, self.method.resolve(problem), self.limits)
        self.backward.status = iterate.status
        self.backward.statistics = Statistics(iterate.accepted, iterate.rejected, 0, problem.products, iterate.residual)
        good = succeeded(iterate.status)
        failed = ~good & alive
        if not opaque():
            some_failed, self.some = torch.stack([failed.any(), alive.any()]).tolist()
            if some_failed:
                self._complain(failed, iterate.residual, torch.linalg.vector_norm(g, dim=1))
        return torch.where(living & good[:, None], iterate.value, 0.0)

    def _complain(self, failed: Tensor, residual: Tensor | None, size: Tensor) -> None:
        rows = torch.nonzero(failed).flatten().tolist()
        worst = "unknown" if residual is None else f"{float(residual[rows].max()):.3g}"
        other = "" if isinstance(self.method, Dense) else ", or take Implicit(Dense())"
        message = (
            f"The backward pass's linear problem was not solved in {len(rows)} of {len(failed)} rows, row {rows[0]} "
            f"first: {type(self.method).__name__} stopped at residual {worst} of {float(size[rows].max()):.3g} after "
            f"at most {self.limits.max_steps} steps. Those rows give no gradient. I - J may be nearly singular there: "
            f"raise Implicit(max_steps=..) or its tolerance{other}."
        )
        if self.throw:
            raise ConvergenceError(message)
        warnings.warn(message, ConvergenceWarning, stacklevel=3)


class _RestPoint(torch.autograd.Function):
    @staticmethod
    def forward(inner: _Adjoint, problem: FixedPointProblem, z: Tensor, alive: Tensor, *leaves: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.inner, ctx.problem, _, alive, *leaves = inputs
        # The output itself is saved: second derivatives go through it to the leaves again.
        ctx.save_for_backward(output, alive, *leaves)

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[int | None], *inputs: Any) -> tuple[Tensor, None]:
        # What jacfwd maps over are tangents, and those are not among the inputs.
        if any(dim is not None for dim in in_dims):
            raise RuntimeError(NESTED)
        return _RestPoint.apply(*inputs), None  # type: ignore[no-untyped-call]

    @staticmethod
    @without_autocast
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        refuse_forward_over_backward(g, pushed=ctx.inner.pushed)
        refuse_grads_batched(g, "Implicit")
        z, alive, *leaves = ctx.saved_tensors
        problem: FixedPointProblem = ctx.problem
        # Rows that failed stand where a living row stands, with cotangent zero.
        z = stand_in(z, alive)
        leaves = healed(leaves, alive, lambda leaves: problem.map.on(leaves)(z.detach()))
        function = problem.map.on(leaves)
        wanted = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled():
            w = _LinearInZ.apply(ctx.inner, function, z, alive, g, *leaves)  # type: ignore[no-untyped-call]
            parts = function.pullback(z, w)[1:]
        elif opaque():
            parts = function.pullback(z, _adjoint(ctx.inner, function, z, alive, g))[1:]
        else:
            parts = _recorded(ctx.inner, function, z, alive, g, wanted)
        if not ctx.inner.some:
            some = alive.any()
            parts = tuple(torch.where(some, part, 0.0) for part in parts)
        kept = [part if need else None for part, need in zip(parts, wanted, strict=True)]
        return None, None, None, None, *kept


class _LinearInZ(torch.autograd.Function):
    """w of (I - J(z)^T) w = g, differentiable in z, g and the leaves of J."""

    @staticmethod
    def forward(
        inner: _Adjoint, function: PackedFunction, z: Tensor, alive: Tensor, g: Tensor, *leaves: Tensor
    ) -> Tensor:
        return _adjoint(inner, function.on(leaves), z, alive, g)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.inner, ctx.function, z, alive, _, *leaves = inputs
        ctx.save_for_backward(output, z, alive, *leaves)

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[int | None], *inputs: Any) -> tuple[Tensor, int]:
        inner, function, z, alive, g, *leaves = inputs
        # What jacrev maps over are cotangents.
        if any(dim is not None for place, dim in enumerate(in_dims) if place != 4):
            raise RuntimeError(NESTED)
        assert in_dims[4] is not None
        several = g.movedim(in_dims[4], 0)
        return _LinearInZSeveral.apply(inner, function, z, alive, several, *leaves), 0  # type: ignore[no-untyped-call]

    @staticmethod
    @without_autocast
    def backward(ctx: Any, omega: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "Implicit gradients are differentiated twice, not three times, and torch.func's records one time more "
                "than it takes: take Unrolled(), or torch.autograd.grad for the outer one."
            )
        w, z, alive, *leaves = ctx.saved_tensors
        function: PackedFunction = ctx.function.on(leaves)
        _, transposed = function.transposed(z)
        v = ctx.inner.solve(function.pushing(z), omega, transposed, alive)
        # Re <v, J(z, leaves)^T w> differentiated in z and the leaves.
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            inputs = [leaf.detach().requires_grad_() for leaf in leaves]
            total = (function.on(inputs).pullback(point, w)[0] * v.conj()).real.sum()
            wanted = [point, *inputs]
            found = (
                torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else [None] * len(wanted)
            )
        return None, None, found[0], None, v, *found[1:]


class _LinearInZSeveral(torch.autograd.Function):
    """The same for several g, shape (k, rows, numbers), side by side; not differentiable."""

    @staticmethod
    def forward(
        inner: _Adjoint, function: PackedFunction, z: Tensor, alive: Tensor, g: Tensor, *leaves: Tensor
    ) -> Tensor:
        function = function.on(leaves)
        with torch.no_grad():
            _, transposed = function.transposed(z)
            push = twice_transposed(lambda y: function(y), z)
            found = inner.solve(
                each(transposed, g.shape), g.flatten(0, 1), each(push, g.shape), alive.repeat(g.shape[0])
            )
        return found.reshape(g.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, omega: Tensor) -> tuple[None, ...]:
        raise RuntimeError(f"The Jacobian of a rest point by backward mode is not differentiated again. {NESTED}")


class _LinearSolution(torch.autograd.Function):
    """w of a linear problem, differentiable in its right-hand side to any order: the transposed problem.

    That one's solution is linear in the cotangent, and differentiated by the problem itself.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inner: _Adjoint,
        product: Callable[[Tensor], Tensor],
        transposed: Callable[[Tensor], Tensor] | None,
        g: Tensor,
        value: Tensor,
        alive: Tensor,
    ) -> Tensor:
        ctx.inner, ctx.product, ctx.transposed = inner, product, transposed
        ctx.save_for_backward(alive)
        return value.clone()

    @staticmethod
    @without_autocast
    def backward(ctx: Any, omega: Tensor) -> tuple[Tensor | None, ...]:
        (alive,) = ctx.saved_tensors
        inner, product, transposed = ctx.inner, ctx.product, ctx.transposed
        if transposed is None:
            # The product is linear: its transpose is its pullback anywhere.
            pull = torch.func.vjp(product, torch.zeros_like(omega))[1]
            transposed = lambda a: pull(a)[0]  # noqa: E731
        with torch.no_grad():
            v = inner.solve(transposed, omega, product, alive)
        if torch.is_grad_enabled():
            v = _LinearSolution.apply(inner, transposed, product, omega, v, alive)  # type: ignore[no-untyped-call]
        return None, None, None, v, None, None


def _recorded(
    inner: _Adjoint, function: PackedFunction, z: Tensor, alive: Tensor, g: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, ...]:
    """The leaves' cotangents, where no graph of them is asked for: f is recorded once, and pulled back as often.

    Raises:
        RuntimeError: f depends on tensors that want a gradient and that it was not given.
    """
    with torch.enable_grad():
        point = z.detach().requires_grad_()
        inputs = [leaf.detach().requires_grad_(want) for leaf, want in zip(function.leaves, wanted, strict=True)]
        value = function.on(inputs)(point)
    if undeclared(value, (point, *inputs)):
        raise RuntimeError(function.undeclared)
    if not value.requires_grad:
        warnings.warn(
            f"{function.who} depends on nothing that wants a gradient, not even on the state: its gradients are zero. "
            "Is it detached, or computed under torch.no_grad()?",
            UserWarning,
            stacklevel=2,
        )

    def product(w: Tensor) -> Tensor:
        return _pulled(value, [point], w)[0]

    push = pushing(lambda: (value, point), lambda v: function.pushforward(z, v))
    w = inner.solve(product, g, push, alive)
    found = iter(_pulled(value, [leaf for leaf in inputs if leaf.requires_grad], w))
    return tuple(next(found) if leaf.requires_grad else leaf for leaf in inputs)


def _pulled(value: Tensor, inputs: Sequence[Tensor], w: Tensor) -> Sequence[Tensor]:
    if not value.requires_grad or not inputs:
        return [torch.zeros_like(x) for x in inputs]
    return torch.autograd.grad(value, inputs, w, retain_graph=True, allow_unused=True, materialize_grads=True)


def _adjoint(inner: _Adjoint, function: PackedFunction, z: Tensor, alive: Tensor, g: Tensor) -> Tensor:
    with torch.no_grad():
        _, product = function.transposed(z)
        return inner.solve(product, g, function.pushing(z), alive)
