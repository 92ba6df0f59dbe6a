"""Residual networks as flows, and flows as residual networks.

A residual block x <- x + f(x) is a step of Euler's method (E, "A proposal on machine learning via dynamical systems",
Commun. Math. Stat. 5, 2017): `from_residual` makes the flow of which a network's blocks are the Euler steps,
`to_residual` the network that Euler's method makes of a flow. Both agree with what they were made of to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from jaxtyping import Inexact
from torch import Tensor, nn
from torch.func import functional_call

from cde_nets.fields.base import Fields
from cde_nets.gradient import Gradient, solve
from cde_nets.nn.flow import ControlledODE
from cde_nets.solver import InitialValueProblem, RungeKutta, Tolerance
from cde_nets.solver.initial_value import family_at
from cde_nets.solver.method import Method
from cde_nets.solver.states import real

State = Inexact[Tensor, "batch ..."]


class ResidualBlock(nn.Module):
    """x -> x + step * branch(x).

    Args:
        branch: f, of states of any shape to the same.
        step: h.
    """

    def __init__(self, branch: nn.Module, step: float = 1.0) -> None:
        super().__init__()
        self.branch, self.step = branch, step

    def forward(self, x: State) -> State:
        """The step's end, of the shape of x.

        Raises:
            ValueError: the branch does not take x.
        """
        try:
            end: Tensor = x + self.step * self.branch(x)
        except (RuntimeError, AttributeError) as error:
            got = f"{x.dtype}, {tuple(x.shape)}, on {x.device}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise ValueError(f"The branch, a {type(self.branch).__name__}, does not take {got}: {error}") from error
        return end

    def extra_repr(self) -> str:
        """Shown by print(block)."""
        return f"step={self.step:g}"


class ResidualFlow(nn.Module):
    """The flow dX/dt = N f_k(X) on the k-th of N equal intervals of [0, 1], made by `from_residual`.

    Args:
        blocks: the network's, x -> x + f_k(x); a `ResidualBlock` lays its f open, of any other module f_k(x) is
            block(x) - x.
        method: for each interval.
        gradient: how it is differentiated; `Discrete`, exact for the steps taken, where None.
        tolerance: of adaptive steps.
    """

    def __init__(
        self,
        blocks: list[nn.Module],
        method: Method,
        gradient: Gradient | None,
        tolerance: Tolerance | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.method, self.gradient, self.tolerance = method, gradient, tolerance
        self._checked: tuple[torch.Size, torch.dtype, torch.device] | None = None

    def forward(self, x: State) -> State:
        """X_1 of every row, of the shape of x.

        Raises:
            ValueError: a block that changes the shape or the dtype of its input; before any solve.
            DivergedError: rows that left the finite numbers.
        """
        self._check(x)
        for block in self.blocks:
            x = self._through(block, x)
        return x

    @torch.no_grad()
    def trajectory(self, x: State) -> Inexact[Tensor, "times batch ..."]:
        """X at the ends of all intervals, the start included; without a gradient.

        Raises:
            ValueError: as forward.
            DivergedError: as forward.
        """
        self._check(x)
        path = [x]
        for block in self.blocks:
            path.append(self._through(block, path[-1]))
        return torch.stack(path)

    def _through(self, block: nn.Module, x: Tensor) -> Tensor:
        # An interval's time runs from 0 to 1 here: N f_k in a time of 1/N is f_k in a time of 1, and exactly so.
        problem = InitialValueProblem(_Velocity(block), x, 0.0, 1.0)
        end: Tensor = solve(problem, self.method, gradient=self.gradient, tolerance=self.tolerance).value
        return end

    @torch.no_grad()
    def _check(self, x: Tensor) -> None:
        """Every block once on the states that reach it, with buffers that are copies; not again for the same shape."""
        if not isinstance(x, Tensor) or not (x.is_floating_point() or x.is_complex()) or not x.ndim:
            got = f"{x.dtype}, shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise ValueError(f"x must be a floating tensor, rows first; got {got}.")
        if self._checked == (x.shape[1:], x.dtype, x.device):
            return
        state = x.detach()
        for k, block in enumerate(self.blocks):
            try:
                value = functional_call(block, {name: b.clone() for name, b in block.named_buffers()}, (state,))
            except RuntimeError as error:
                raise ValueError(
                    f"Block {k}, a {type(block).__name__}, does not take a state of shape {tuple(state.shape)}, "
                    f"{state.dtype}, on {state.device}: {error}"
                ) from error
            if value.shape != state.shape or value.dtype != state.dtype:
                raise ValueError(
                    f"Block {k}, a {type(block).__name__}, takes a state of shape {tuple(state.shape)}, {state.dtype}, "
                    f"to {tuple(value.shape)}, {value.dtype}; a flow stays in its space. Make one flow of the blocks "
                    f"before it and one of those after it, with this block between."
                )
            state = value
        self._checked = x.shape[1:], x.dtype, x.device


def from_residual(
    blocks: Iterable[nn.Module],
    method: Method | str = "euler",
    *,
    gradient: Gradient | None = None,
    tolerance: Tolerance | None = None,
) -> ResidualFlow:
    """The flow of which a residual network's blocks are the steps of Euler's method.

    The blocks are shared, not copied: training one trains the other. A block in train mode that draws random numbers or
    changes its buffers (dropout, batch normalisation) has no flow: call .eval() first.

    Args:
        blocks: modules x -> x + f_k(x), such as an nn.Sequential of them. Of branches f_k alone make blocks by
            `ResidualBlock(f_k)`.
        method: for flows; "euler" is the network itself. Of a name alone: one step a block, or adaptive steps where the
            method has an error estimate. RungeKutta("rk4", steps=4) takes four steps a block.
        gradient: how it is differentiated; `Discrete`, exact for the steps taken, where None.
        tolerance: of adaptive steps.

    Returns:
        A module x -> X_1; x of any shape, rows first.

    Raises:
        ValueError: no blocks, or something else than modules; a method that is not for flows. Blocks that change the
            shape are refused by the first call, before any solve.
    """
    listed = list(blocks)
    if not listed:
        raise ValueError("from_residual got no blocks; give the modules x -> x + f(x) in their order.")
    for k, block in enumerate(listed):
        if not isinstance(block, nn.Module):
            raise ValueError(f"Block {k} is a {type(block).__name__}; expected an nn.Module x -> x + f(x).")
    chosen = RungeKutta(method) if isinstance(method, str) else method
    if isinstance(method, str) and isinstance(chosen, RungeKutta) and chosen.fixed:
        chosen = RungeKutta(method, steps=1)
    if not isinstance(chosen, Method) or chosen.solves != "flow":
        raise ValueError(
            f'method must be one for flows, such as "euler" or RungeKutta("rk4", steps=4); got {method!r}.'
        )
    return ResidualFlow(listed, chosen, gradient, tolerance)


def to_residual(flow: ControlledODE | ResidualFlow) -> nn.Sequential:
    """The residual network whose blocks are the steps of a flow that is solved by Euler's method.

    Of a `ControlledODE` a block is x <- x + h (sum_i u_i V_i(x) + drift): the fields and a drift are shared, and each
    block has the numbers u of its step for itself, as trained parameters. Of a `ResidualFlow` with one step a block
    these are its blocks; of more steps they share their branches.

    Returns:
        The blocks in order, plain torch: x of shape (batch, dim), or of any shape for a `ResidualFlow`.

    Raises:
        ValueError: another method than Euler's on a fixed grid, a flow put back on a manifold, a control for each row,
            or no flow.
    """
    if not isinstance(flow, ControlledODE | ResidualFlow):
        raise ValueError(f"to_residual takes a ControlledODE or what from_residual makes; got a {type(flow).__name__}.")
    method = flow.method
    if not isinstance(method, RungeKutta) or method.name != "euler":
        name = method.name if isinstance(method, RungeKutta) else type(method).__name__
        raise ValueError(
            f"The flow is solved by {name}; a residual block is a step of Euler's method. Make the flow with "
            'method=RungeKutta("euler", steps=..), with as many steps as the accuracy needs.'
        )
    return nn.Sequential(*(_steps(flow) if isinstance(flow, ControlledODE) else _shares(flow, method)))


def _steps(flow: ControlledODE) -> list[nn.Module]:
    if flow.manifold is not None:
        raise ValueError(
            f"The flow is put back on the {flow.manifold} after every step, which no residual block does. Leave "
            "manifold= out; SphericalFields keep near their spheres by themselves."
        )
    if flow.control.rows is not None:
        raise ValueError(
            f"The control has one path for each of {flow.control.rows} rows, and a network has one set of weights for "
            "all. Give the flow a control that rows share."
        )
    families, mesh = [family for family in flow.families if isinstance(family, Fields)], flow.times
    values = flow.control.on_mesh(mesh, (0.0,))[:, 0]
    made: list[nn.Module] = []
    for (start, end), u in zip(pairwise(mesh), values, strict=True):
        interval = 0 if flow.tied else family_at(flow.control.breakpoints, (start + end) / 2)
        made.append(ResidualBlock(_Controlled(families[interval], u, flow.drift, start), end - start))
    return made


def _shares(flow: ResidualFlow, method: RungeKutta) -> list[nn.Module]:
    mesh = method.grid(InitialValueProblem(lambda t, x: x, torch.zeros(1, 1, device="cpu"), 0.0, 1.0))
    made: list[nn.Module] = []
    for block in flow.blocks:
        if len(mesh) == 2:
            made.append(block)
            continue
        branch, step = (block.branch, block.step) if isinstance(block, ResidualBlock) else (_Increment(block), 1.0)
        made += [ResidualBlock(branch, step * (end - start)) for start, end in pairwise(mesh)]
    return made


class _Velocity(nn.Module):
    """A block's f as a right-hand side."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        if isinstance(self.block, ResidualBlock):
            velocity: Tensor = self.block.step * self.block.branch(x)
            return velocity
        increment: Tensor = self.block(x) - x
        return increment


class _Increment(nn.Module):
    """block(x) - x."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        increment: Tensor = self.block(x) - x
        return increment


class _Controlled(nn.Module):
    """sum_i u_i V_i(x), and the drift at one time."""

    def __init__(self, fields: Fields, u: Tensor, drift: Fields | Callable[..., Tensor] | None, time: float) -> None:
        super().__init__()
        self.fields, self.u = fields, nn.Parameter(u.detach().clone())
        self.drift, self.time = drift, time

    def forward(self, x: Tensor) -> Tensor:
        velocity = _summed(self.fields, x, self.u)
        if self.drift is None:
            return velocity
        if isinstance(self.drift, Fields):
            return velocity + _summed(self.drift, x, self.u.new_ones(self.drift.count))
        drift: Tensor = self.drift(torch.tensor(self.time, dtype=real(x.dtype), device=x.device), x)
        return velocity + drift


def _summed(fields: Fields, x: Tensor, u: Tensor) -> Tensor:
    return fields.velocity(x.to(fields.dtype), u.to(real(fields.dtype))).to(x.dtype)
