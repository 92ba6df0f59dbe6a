"""The operators that autograd, torch.compile and fake tensors know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cde_nets.kernels import cpu, cuda


@torch.library.custom_op("cde_nets::flow", mutates_args=(), device_types="cpu")
def flow(
    x: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    family: int,
    widths: Tensor,
    tableau: Tensor,
    every: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """A flow on a fixed grid, all steps at once.

    Args:
        x: initial states, shape (rows, dim), float32 or float64.
        u: of ridge fields the control at every stage, shape (steps, stages, count); of families with shared features
            W = sum_i u_i A_i, shape (steps, stages, dim, features).
        coefficients: C, b and sigma of `RidgeFields`; of monomials of degree 2 and more parent and variable, int32,
            or nothing where the features are x itself.
        family: RIDGE or FEATURES.
        widths: of the steps, shape (steps,), float64, on the CPU.
        tableau: a with b as its last row, shape (stages + 1, stages), float64, on the CPU.
        every: how many steps a state is kept for the way back.
        keep: whether any is.

    Returns:
        The states at the end, shape (rows, dim), of rows that left the finite numbers the last finite one; the number
        of steps each took, int32; the states kept, laid out as the way back reads them.
    """
    return cpu.forward(x, u, coefficients, family, widths, tableau, every, keep)


flow.register_kernel("cuda")(cuda.forward)


@flow.register_fake
def _(
    x: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    family: int,
    widths: Tensor,
    tableau: Tensor,
    every: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    room = cuda if x.device.type == "cuda" else cpu
    kept = room.kept_numbers(x, coefficients, family, widths, tableau, every) if keep else 0
    end = torch.empty_like(x, memory_format=torch.contiguous_format)
    return end, x.new_empty(x.shape[0], dtype=torch.int32), x.new_empty(kept)


@torch.library.custom_op("cde_nets::flow_backward", mutates_args=(), device_types="cpu")
def flow_backward(
    cotangent: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    family: int,
    widths: Tensor,
    tableau: Tensor,
    every: int,
    kept: Tensor,
    accepted: Tensor,
    start_wanted: bool,
) -> tuple[Tensor, Tensor]:
    """The discrete adjoint of `flow`, exact for the steps taken; rows that did not finish give nothing.

    Returns:
        The cotangent of x (empty unless wanted), and that of u, in its shape.
    """
    start, found = cpu.backward(
        cotangent, u, coefficients, family, widths, tableau, every, kept, accepted, start_wanted
    )
    return start, found.contiguous()


flow_backward.register_kernel("cuda")(cuda.backward)


@flow_backward.register_fake
def _(
    cotangent: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    family: int,
    widths: Tensor,
    tableau: Tensor,
    every: int,
    kept: Tensor,
    accepted: Tensor,
    start_wanted: bool,
) -> tuple[Tensor, Tensor]:
    start = torch.empty_like(cotangent, memory_format=torch.contiguous_format)
    return start if start_wanted else cotangent.new_empty(0), torch.empty_like(u, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, u, coefficients, ctx.family, widths, tableau, ctx.every, keep = inputs
    if not keep:
        raise RuntimeError("cde_nets::flow was called with keep=False and cannot be differentiated: pass keep=True.")
    _, accepted, kept = output
    ctx.save_for_backward(u, widths, tableau, kept, accepted, *coefficients)
    ctx.mark_non_differentiable(accepted, kept)


def _back(ctx: Any, cotangent: Tensor, *_: Any) -> tuple[Any, ...]:
    u, widths, tableau, kept, accepted, *coefficients = ctx.saved_tensors
    wanted = ctx.needs_input_grad[0]
    start, found = flow_backward(
        cotangent, u, coefficients, ctx.family, widths, tableau, ctx.every, kept, accepted, wanted
    )
    return start if wanted else None, found, [None] * len(coefficients), None, None, None, None, None


flow.register_autograd(_back, setup_context=_save)
