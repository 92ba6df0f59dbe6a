"""What can be proved of a network: stage by stage, at the points that its own flows bring there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cde_nets.door import floats, numbers
from cde_nets.nn.flow import ControlledODE
from cde_nets.nn.network import Network

if TYPE_CHECKING:
    from theory import Certificate, Program


def exact_flow(flow: ControlledODE) -> Program:
    """The fields of a flow as one exact program: of all intervals where they are fresh, tangent to spheres on one.

    Brackets of fields of two intervals are brackets of this program, too, and no control makes them: see `check_flow`.

    Raises:
        ValueError: a flow with a drift, which nobody controls: the condition is about fields that are all controlled.
    """
    from theory import UnionProgram

    _refuse_drift(flow)
    parts = [family.exact() for family in flow._fields]
    return _tangent(flow, parts[0] if len(parts) == 1 else UnionProgram(parts))


def _refuse_drift(flow: ControlledODE) -> None:
    if flow.drift is not None:
        raise ValueError("The flow has a drift, and the condition is about fields that are all controlled: drop it.")


def _tangent(flow: ControlledODE, program: Program) -> Program:
    # A step that is put back on the sphere follows the tangent part of the fields.
    from theory import SphericalProgram

    return SphericalProgram(program) if flow.manifold == "sphere" and program.manifold == "space" else program


def check_flow(flow: ControlledODE, x: Tensor, **options: Any) -> Certificate:
    """Whether controls, refined as needed, can carry the rows of x to any others nearby: `theory.check_points`.

    A certificate is about the flow of the very coefficients and points in their dtype, and about controls that may be
    refined; for the numbers of one given control see `control_rank`.

    Where fields are fresh, controls of an interval move along its own family only, and no control makes a bracket of
    fields of two intervals: the sum of the families' algebras at the points must be everything (in_turn=True of
    `theory.check_points`), and the certificate's claim is "points in turn". What is not proved so may still hold.

    Args:
        flow: the flow.
        x: states, shape (points, dim).
        **options: of `theory.check_points`: words, primes, seed, time_limit, progress.

    Raises:
        ValueError: as `exact_flow` and `theory.check_points`.
    """
    from theory import UnionProgram, check_points

    floats("x", x, (None, flow.dim))
    numbers("x", x)
    _refuse_drift(flow)
    # Every narrower float is one of these, exactly.
    points = x.detach().cpu().double().numpy()
    # A family that comes back is one family.
    families = [_tangent(flow, family.exact()) for family in dict.fromkeys(flow._fields)]
    if len(families) == 1:
        return check_points(families[0], points, **options)
    return check_points(UnionProgram(families), points, in_turn=True, **options)


def check_stages(network: Network, data: Tensor, **options: Any) -> list[Certificate]:
    """A certificate for each stage, at the points to which the stages before it carry the data.

    Pooling and the like make a network a chain of flows: each is certified by itself. Where a fixed map sends two data
    to one point the stage after it cannot tell them apart, and says so.

    Args:
        network: the network.
        data: as the network takes them, shape (points, ..).
        **options: of `theory.check_points`, for each stage.

    Raises:
        ValueError: as `check_flow`; data that fail in a stage, whose flows do not raise.
    """
    _check_data(data)
    found = []
    with torch.no_grad():
        state = network.start(data)
        for stage in network.flow_stages():
            found.append(check_flow(stage.flow, state, **options))
            state = stage(state)
            _check_arrived(stage.flow.failed, "stand where no data arrive")
    return found


@dataclass(frozen=True)
class ControlRank:
    """How many directions of the outputs the trained numbers reach, to first order.

    Attributes:
        rank: singular values above the tolerance.
        outputs: how many outputs there are, over all data.
        numbers: how many numbers train.
        singular_values: of the Jacobian, largest first, float64.
        tolerance: largest singular value x max(shape) x float64's eps, as numpy's matrix_rank takes it.
    """

    rank: int
    outputs: int
    numbers: int
    singular_values: Tensor
    tolerance: float

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.outputs} outputs by {self.numbers} trained numbers (floating point)"


def control_rank(network: Network, data: Tensor) -> ControlRank:
    """The rank of the outputs' Jacobian in the trained numbers, at given data: what those very numbers can do.

    In float64 arithmetic, whatever the network's dtype, and so an estimate and no proof.

    Args:
        network: left as it is.
        data: shape (points, ..).

    Raises:
        ValueError: data that are no floating tensor, that fail in a flow, or at which the Jacobian is not finite.
    """
    import copy

    _check_data(data)
    twin = copy.deepcopy(network).double()
    parameters = {name: p.detach() for name, p in twin.named_parameters()}
    twin.set_throw(False)

    def outputs(values: dict[str, Tensor]) -> Tensor:
        found: Tensor = torch.func.functional_call(twin, values, (data.detach().double(),))
        return found.flatten()

    with torch.no_grad():
        outputs(parameters)
    _check_arrived(twin.failed, "have no outputs")
    jacobian = torch.func.jacrev(outputs)(parameters)
    matrix = torch.cat([part.reshape(len(part), -1) for part in jacobian.values()], 1)
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(
            "The Jacobian is not finite at these data: leave out those with NaN, infinity or huge numbers."
        )
    values = torch.linalg.svdvals(matrix)
    tolerance = float(values[0]) * max(matrix.shape) * torch.finfo(torch.float64).eps
    return ControlRank(int((values > tolerance).sum()), matrix.shape[0], matrix.shape[1], values, tolerance)


def _check_arrived(failed: Tensor | None, what: str) -> None:
    if failed is not None and bool(failed.any()):
        rows = torch.nonzero(failed).flatten().tolist()
        raise ValueError(f"Rows {rows} of the data fail in a flow and {what}: leave them out.")


def _check_data(data: Any) -> None:
    if not isinstance(data, Tensor) or not data.is_floating_point() or not data.ndim:
        got = f"{data.dtype}, shape {tuple(data.shape)}" if isinstance(data, Tensor) else f"a {type(data).__name__}"
        raise ValueError(f"data must be a floating tensor of shape (points, ..); got {got}.")
    numbers("data", data)
