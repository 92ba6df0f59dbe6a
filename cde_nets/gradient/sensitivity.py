"""How a rest point moves with what it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from cde_nets.errors import ConvergenceError
from cde_nets.options import positive
from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.linear import GMRES
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.loop import Limits, run
from cde_nets.solver.method import Method
from cde_nets.solver.status import succeeded
from cde_nets.solver.tolerance import Tolerance, check_tolerance


def sensitivity(
    problem: FixedPointProblem,
    z: Any,
    wrt: Tensor,
    *,
    method: Method | None = None,
    tolerance: Tolerance | None = None,
    max_steps: int = 1000,
) -> Any:
    r"""dz*/da of a rest point z* = f(z*, a), or of a root g(z*, a) = 0, by the implicit function theorem.

    Every number of a has a direction t = dz*/da_k that solves (I - J) t = df/da_k, for a root -Dg t = dg/da_k: linear
    problems like those of the backward pass, but forward, all of them at once. Where a has many numbers and a loss is
    one, differentiate `solve` backward instead.

    Args:
        problem: with the tensor a among its `args`, or among the parameters that train of its module.
        z: the rest point, built as the problem's state: a solution's value.
        wrt: a, the very tensor.
        method: for linear problems; `GMRES()` where None.
        tolerance: of them; where None rtol 1e-10 in double and 1.2e-5 in single precision, atol a hundredth.
        max_steps: of them.

    Returns:
        Every tensor of the state with the axes of a behind its own: shape (*z.shape, *a.shape).

    Raises:
        ValueError: a method, tolerance or max_steps that is none, a tensor that the problem does not depend on, z built
            otherwise than the state, or z that is not at rest to the fourth root of the dtype's precision.
        ConvergenceError: a linear problem that was not solved: I - J is singular or nearly so, and z* has no derivative
            there, as the circle x^2 + y^2 = 1 has no dy/dx at y = 0.
    """
    chosen = GMRES() if method is None else method
    if getattr(chosen, "solves", None) != "linear":
        raise ValueError(f"method must be one for linear problems, such as GMRES() or Dense(); got {method!r}.")
    check_tolerance(tolerance)
    positive("max_steps", max_steps)
    problem = problem.counted()
    at = problem.packing.pack(z, "z").detach()
    places = [k for k, leaf in enumerate(problem.leaves) if leaf is wrt]
    if not places:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in problem.leaves) or "none"
        raise ValueError(
            "wrt must be a tensor that the problem was given in args=(..), or a parameter of its module that trains; "
            f"those have shapes {shapes}, and this one, {tuple(wrt.shape)}, is not among them."
        )
    with torch.no_grad():
        _check_rest(problem, at)
        directions = _directions(problem, at, places, wrt.detach())
        return _moved(problem, at, directions, chosen, Limits(tolerance or _tight(at), max_steps), wrt.shape)


def _check_rest(problem: FixedPointProblem, at: Tensor) -> None:
    residual, size = norms(problem.residual(at)), norms(at)
    allowed = torch.finfo(at.dtype).eps ** 0.25
    bad = ~(residual <= allowed * (1 + size))
    if bool(bad.any()):
        row = int(bad.to(torch.uint8).argmax())
        raise ValueError(
            f"z is not at rest: in row {row} |f(z) - z| is {float(residual[row]):.3g} where |z| is "
            f"{float(size[row]):.3g}. Solve first: z = solve(problem, ..).value."
        )


def _directions(problem: FixedPointProblem, at: Tensor, places: Sequence[int], a: Tensor) -> Tensor:
    """df/da_k for every number of a, shape (numbers of a, rows, numbers of z)."""
    leaves = [leaf.detach() for leaf in problem.leaves]

    def image(a: Tensor) -> Tensor:
        return problem.map.on([a if k in places else leaf for k, leaf in enumerate(leaves)])(at)

    units = torch.eye(a.numel(), dtype=a.dtype, device=a.device).reshape(-1, *a.shape)
    pushed: Tensor = torch.func.vmap(lambda e: torch.func.jvp(image, (a,), (e,))[1], randomness="same")(units)
    return pushed


def _moved(
    problem: FixedPointProblem, at: Tensor, directions: Tensor, method: Method, limits: Limits, shape: torch.Size
) -> Any:
    count, rows, numbers = directions.shape

    def product(t: Tensor) -> Tensor:
        return problem.pushforwards(at, t.reshape(count, rows, numbers)).reshape(-1, numbers)

    pull = problem.transposed(at)[1]
    transpose = torch.func.vmap(pull, randomness="same")
    linear = LinearProblem(
        product,
        directions.reshape(-1, numbers),
        transpose=lambda w: transpose(w.reshape(count, rows, numbers)).reshape(-1, numbers),
    )
    iterate = run(linear, method.resolve(linear), limits)
    failed = ~succeeded(iterate.status)
    if bool(failed.any()):
        first = int(failed.to(torch.uint8).argmax())
        worst = "unknown" if iterate.residual is None else f"{float(iterate.residual[first]):.3g}"
        raise ConvergenceError(
            f"The derivative was not found in {int(failed.sum())} of {count * rows} linear problems, number "
            f"{first // rows} of wrt in row {first % rows} first: {type(method).__name__} stopped at residual {worst}. "
            "I - J may be singular there, so that z has no derivative; else raise max_steps or take Dense()."
        )
    columns = problem.packing.unpack(iterate.value.reshape(count, rows, numbers))
    return pytree.tree_map(lambda t: t.movedim(0, -1).reshape(*t.shape[1:], *shape), columns)


def _tight(at: Tensor) -> Tolerance:
    rtol = max(1e-10, 100 * torch.finfo(at.dtype).eps)
    return Tolerance(rtol, rtol / 100)
