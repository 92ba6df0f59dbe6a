"""Rows that failed, kept out of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cde_nets.solver.living import parts_of_rows, replaced, stand_in


def filled(parts: Sequence[Tensor | None], leaves: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
    """The leaves' gradients where they are needed; zero where no step was taken that could give one."""
    return [
        None if not need else torch.zeros_like(leaf) if part is None else part
        for part, leaf, need in zip(parts, leaves, needs, strict=True)
    ]


def beside(outputs: Sequence[Tensor]) -> Tensor:
    """States, and saved ones with an axis in front, side by side: shape (rows, numbers)."""
    return torch.cat([part for output in outputs for part in (output.unbind() if output.ndim == 3 else [output])], 1)


def gradients_again(
    run: Callable[[Tensor, Sequence[Tensor]], Sequence[Tensor]],
    x0: Tensor,
    leaves: Sequence[Tensor],
    alive: Tensor,
    cotangents: Sequence[Tensor],
    needs: Sequence[bool],
    *,
    replaceable: bool,
) -> list[Tensor | None]:
    """What living rows' outputs give the initial state and the leaves that need it, with a graph of its own.

    Args:
        run: the outputs from the initial state, where failed rows stand in for, and the leaves.
        x0: the initial state, shape (rows, numbers).
        leaves: of the dynamics.
        alive: the rows that did not fail, shape (rows,).
        cotangents: of the outputs.
        needs: whether x0 and each of the leaves want a gradient.
        replaceable: whether run depends on the leaves that it is given, or on the very ones it knows.

    Raises:
        RuntimeError: leaves that only torch.func knows of, and that cannot be replaced.
    """
    inputs, some = (x0, *leaves), alive.any()
    wanted = [k for k, need in enumerate(needs) if need]
    pulled = tuple(torch.where(alive[:, None], q, 0.0) for q in cotangents)
    if replaceable or wanted == [0]:
        own = parts_of_rows(leaves, alive, lambda leaves: beside(run(stand_in(x0, alive), leaves)))

        def outputs(*values: Tensor) -> tuple[Tensor, ...]:
            given = list(inputs)
            for k, value in zip(wanted, values, strict=True):
                given[k] = value
            return tuple(run(stand_in(given[0], alive), replaced(given[1:], alive, own) if replaceable else leaves))

        # Not torch.autograd.grad: under torch.func these tensors may belong to a transform that has ended.
        found = torch.func.vjp(outputs, *(inputs[k] for k in wanted))[1](pulled)
    else:
        pairs = [(y, q) for y, q in zip(run(stand_in(x0, alive), leaves), pulled, strict=True) if y.requires_grad]
        known = all(inputs[k].requires_grad for k in wanted)
        if known:
            found = torch.autograd.grad(
                [y for y, _ in pairs],
                [inputs[k] for k in wanted],
                [q for _, q in pairs],
                create_graph=True,
                allow_unused=True,
            )
        # Where the states go on depends on where they begin, unless no row lives.
        if not known or (wanted[0] == 0 and found[0] is None and bool(some)):
            raise RuntimeError(
                "torch.func cannot transform the adaptive steps of a control's flow with this gradient: give the "
                "method steps=.., or take gradient=Autograd()."
            )
    parts = dict(zip(wanted, found, strict=True))
    masked = [None if parts.get(k) is None else torch.where(some, parts[k], 0.0) for k in range(len(inputs))]
    return filled(masked, inputs, needs)
