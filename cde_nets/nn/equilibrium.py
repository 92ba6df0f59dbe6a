"""An equilibrium layer: its output is the rest point of a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cde_nets.autocast import full_precision
from cde_nets.gradient import Gradient, Implicit, solve
from cde_nets.nn.implicit_map import cast, stated
from cde_nets.options import instead, positive, suggesting
from cde_nets.solver import Anderson, FixedPointProblem, SaveAt, Solution, Tolerance
from cde_nets.solver.method import Method
from cde_nets.solver.states import Packing
from cde_nets.solver.tolerance import check_tolerance

DEFAULT_MAX_STEPS = 256


class EquilibriumLayer(nn.Module):
    """x -> z* with z* = f(x, z*), differentiated exactly in x and the parameters of f, in train and in eval mode.

    Bai, Kolter and Koltun, "Deep equilibrium models", NeurIPS 2019; Almeida and Pineda, 1987, for f a recurrent network
    run to rest. The layer is `solve` on a `FixedPointProblem`: all of its methods, statuses and gradients are to hand.

    Args:
        f: f(x, z), a function or a module, built as z is. Tensors that train stand in a module or in x: others are
            refused.
        forward: a method for rest; `Anderson()` where None.
        backward: a method for linear problems, which makes the gradient `Implicit(backward)`, or a gradient: `Implicit`
            with options of its own, `Unrolled()` (BPTT), `Truncated(K)` (TBPTT), `RandomlyTruncated(..)` (ARTBP).
            `GMRES()` where None.
        initial: x -> z0; where None, f.initial_state(x) if f has such a method, else zeros like x.
        dtype: in which to solve, such as torch.float64 inside a float32 network: x, z0, the parameters and the buffers
            of f are cast on the way in and the answer back on the way out; that of the state where None. Under autocast
            the layer takes and solves in float32, as torch's linear algebra does.
        coupled: the rows see each other (a graph, a mean over the batch): all come to rest together.
        warm_start: begin where the last call ended, where z0 is not given and the state has the same shape; rows that
            failed begin anew. `forget()` drops it. It is not part of the state_dict.
        tolerance: of the forward solve; its rtol is that of the backward one too, unless `Implicit` is given its own.
        max_steps: of the forward solve.
        throw: raise where a row does not come to rest, which reads its statuses back from the device. False returns
            whatever came out: rows that failed are marked in `failed`, and give no gradient.

    Attributes:
        failed: the rows that failed in the last forward pass, shape (rows,); None before the first.
        last: the last forward pass's `Solution`, its value without a graph and in the dtype of the solve: statuses,
            statistics and, once it has run, the backward pass's. None before the first, and where torch.compile
            compiled it.

    Raises:
        ValueError: a method or gradient that does not fit, a dtype that is not floating, a tolerance that is no
            `Tolerance`, max_steps below 1; TypeError: options unknown to a method.
    """

    failed: Tensor | None
    last: Solution | None

    @suggesting
    def __init__(
        self,
        f: Callable[[Any, Any], Any],
        forward: Method | None = None,
        backward: Method | Gradient | None = None,
        *,
        initial: Callable[[Any], Any] | None = None,
        dtype: torch.dtype | None = None,
        coupled: bool = False,
        warm_start: bool = False,
        tolerance: Tolerance | None = None,
        max_steps: int = DEFAULT_MAX_STEPS,
        throw: bool = True,
    ) -> None:
        super().__init__()
        if not callable(f):
            raise ValueError(f"f must be a function or module f(x, z); got a {type(f).__name__}.")
        if initial is not None and not callable(initial):
            raise ValueError(f"initial must be a function x -> z0; got a {type(initial).__name__}.")
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"dtype must be floating, such as torch.float64; got {dtype!r}.")
        check_tolerance(tolerance)
        positive("max_steps", max_steps)
        self.f = f
        self.method = _forward(forward)
        self.gradient = _gradient(backward)
        self.initial, self.dtype, self.coupled, self.warm_start = initial, dtype, coupled, warm_start
        self.tolerance, self.max_steps, self.throw = tolerance, max_steps, throw
        self.failed = self.last = None
        self._ended: tuple[list[tuple[int, ...]], Tensor] | None = None

    def forward(self, x: Any, z0: Any = None) -> Any:
        """z*, built as z0 is.

        Args:
            x: whatever f takes: a tensor, or tuples and dicts of tensors. With a tensor of shape (rows, ..) and no z0
                the state begins as zeros of that shape.
            z0: where to begin: the first axis counts rows.

        Raises:
            ValueError: no z0 and no way to make one, or f's value is not built as z0 is.
            DivergedError: with throw, rows that left the finite numbers.
            ConvergenceError: with throw, rows that did not come to rest in `max_steps`, or broke down; and in the
                backward pass where its linear problem was not solved.
        """
        return self.solve(x, z0).value

    def solve(self, x: Any, z0: Any = None, *, save_at: SaveAt | None = None) -> Solution:
        """As forward, with all that a `Solution` says: a status a row, statistics, a trace with SaveAt(steps=True).

        Once its value has been differentiated, `solution.backward` says how the backward solve ended.

        Raises:
            ValueError, DivergedError, ConvergenceError: as forward.
        """
        with full_precision(x, z0) as (x, z0):
            if torch.compiler.is_compiling():
                return self._solve(x, z0, save_at)
            try:
                return self._solve(x, z0, save_at)
            except (RuntimeError, TypeError, IndexError, AttributeError) as error:
                # Torch's own words within f: they do not say what f was given, nor why.
                error.add_note(self._given(x, z0))
                raise

    def _solve(self, x: Any, z0: Any, save_at: SaveAt | None) -> Solution:
        problem, dtypes, cold = self._stated(x, z0)
        solution = solve(
            problem,
            self.method,
            gradient=self.gradient,
            tolerance=self.tolerance,
            max_steps=self.max_steps,
            throw=self.throw,
            save_at=save_at,
        )
        self.failed = ~solution.succeeded
        if self.warm_start:
            packing = problem.packing
            end = packing.pack(solution.value).detach()
            self._ended = packing.shapes, torch.where(self.failed[:, None], cold, end)
        if not torch.compiler.is_compiling():
            self.last = solution.differentiable(pytree.tree_map(Tensor.detach, solution.value), solution.backward)
        if self.dtype is None:
            return solution
        return solution.differentiable(pytree.tree_map(torch.Tensor.to, solution.value, dtypes), solution.backward)

    def problem(self, x: Any, z0: Any = None) -> FixedPointProblem:
        """The fixed-point problem, in the dtype in which it is solved: what the conditions at rest are asked of.

        Raises:
            ValueError: as forward.
        """
        return self._stated(x, z0)[0]

    def forget(self) -> None:
        """Drop the state that the next call would begin from."""
        self._ended = None

    def extra_repr(self) -> str:
        """Shown by print(layer)."""
        return f"{self.method} forward, {self.gradient} backward"

    def _stated(self, x: Any, z0: Any) -> tuple[FixedPointProblem, Any, Tensor]:
        """The problem, the dtypes of the state it was given, and where it would begin were nothing known, packed."""
        first = self._first(x) if z0 is None else z0
        dtypes = pytree.tree_map(lambda t: t.dtype, first)
        first = cast(first, self.dtype)
        packing = Packing(first, coupled=self.coupled)
        cold = packing.pack(first).detach()
        if z0 is None and self._ended is not None:
            shapes, last = self._ended
            if packing.shapes == shapes and packing.dtype == last.dtype and packing.device == last.device:
                first = packing.unpack(last)
        function, args = stated(self.f, x, self.dtype)
        problem = FixedPointProblem(function, first, args=args, coupled=self.coupled)
        guessed = z0 is None and self._start is None
        problem.function.what = (
            "f(x, z), whose state began as zeros like x as there was no z0," if guessed else "f(x, z)"
        )
        problem.function.declare, problem.function.choose = (
            "give them to the layer within x, a tuple or dict",
            "backward",
        )
        return problem, dtypes, cold

    def _given(self, x: Any, z0: Any) -> str:
        """What f was called with, for errors that arise in it."""
        shape = lambda t: tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__  # noqa: E731
        try:
            state = pytree.tree_map(shape, self._first(x) if z0 is None else z0)
        except Exception:
            return f"EquilibriumLayer had x of shape {pytree.tree_map(shape, x)}, and no state to begin with yet."
        began = "" if z0 is not None or self._start else " (zeros like x, as there was no z0 and no initial=)"
        return (
            f"EquilibriumLayer called f(x, z), in this order, with x of shape {pytree.tree_map(shape, x)} and z of "
            f"shape {state}{began}."
        )

    @property
    def _start(self) -> Callable[[Any], Any] | None:
        """Who says where to begin, if the caller does not."""
        return self.initial or getattr(self.f, "initial_state", None)

    def _first(self, x: Any) -> Any:
        """Where to begin where nobody says it, in the caller's dtype."""
        if self._start is not None:
            return self._start(x)
        if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex()):
            return torch.zeros_like(x)
        raise ValueError(
            "Where to begin is not known, as x is no floating tensor whose shape the state could have: call "
            "layer(x, z0), give EquilibriumLayer(initial=lambda x: ..), or give f a method initial_state(x)."
        )


def _forward(method: Method | None) -> Method:
    chosen = Anderson() if method is None else method
    if not isinstance(chosen, Method) or chosen.solves != "rest":
        raise ValueError(
            f"forward must be a method for rest, such as Anderson() or Picard(); got {method!r}{instead(method)}."
        )
    return chosen


def _gradient(backward: Method | Gradient | None) -> Gradient:
    if backward is None:
        return Implicit()
    if isinstance(backward, Method) and backward.solves == "linear":
        return Implicit(backward)
    if isinstance(backward, Gradient) and "rest" in backward.solves:
        return backward
    raise ValueError(
        "backward must be a method for linear problems, such as GMRES() or Neumann(10), or a gradient of rest points, "
        f"such as Implicit(..), Unrolled() or Truncated(5); got {backward!r}{instead(backward)}."
    )
