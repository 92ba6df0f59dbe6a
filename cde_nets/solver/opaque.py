"""Tensors that hold no numbers to look at."""

from __future__ import annotations

import cmath
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch._C import _functorch

# What throw=True does that cannot be batched, and what to do instead.
THROWING = "throw=True looks at numbers of every row", "pass throw=False"


def opaque() -> bool:
    """Whether torch.func or torch.compile transform: no value is to be looked at, and no autograd called."""
    return torch.compiler.is_compiling() or transformed()


def transformed() -> bool:
    """Whether torch.func transforms."""
    return torch._C._functorch.maybe_current_level() is not None


def forward_mode() -> bool:
    """Whether torch differentiates in forward mode: torch.func.jvp, jacfwd, or torch.autograd.forward_ad."""
    return forward_ad._current_level >= 0


def func_grad() -> bool:
    """Whether torch.func differentiates backwards: grad, vjp, jacrev, at whatever level."""
    stack = torch._C._functorch.get_interpreter_stack() if transformed() else None
    return stack is not None and any(one.key() == torch._C._functorch.TransformType.Grad for one in stack)


def refuse_batched(x: Tensor, what: str, instead: str) -> None:
    """Say that numbers are looked at, before torch says that under torch.func.vmap there are none (RuntimeError)."""
    if torch.compiler.is_compiling():
        return
    while _functorch.is_functorch_wrapped_tensor(x):
        if _functorch.is_batchedtensor(x):
            raise RuntimeError(f"{what}, which torch.func.vmap does not allow: {instead}.")
        x = _functorch.get_unwrapped(x)


def refuse_grads_batched(cotangent: Tensor, what: str) -> None:
    """Say that a way back takes one cotangent at a time (RuntimeError)."""
    # The compiler cannot look, and batches nothing.
    if not torch.compiler.is_compiling() and _functorch.is_legacy_batchedtensor(cotangent):
        raise RuntimeError(
            f"{what} takes one cotangent at a time: neither torch.autograd.grad(.., is_grads_batched=True) nor "
            "functional.jacobian(.., vectorize=True). Take torch.func.jacrev, or several calls."
        )


def readable(x: Tensor) -> bool:
    """Whether to look at the numbers costs nothing: a plain tensor on the CPU, and nothing transforms."""
    return x.device.type == "cpu" and type(x) in (Tensor, nn.Parameter) and not opaque()


def surely_all(rows: Tensor) -> bool:
    """Whether it is true of all rows, where to look costs nothing: on a CPU. Elsewhere False, which is never wrong."""
    return readable(rows) and bool(rows.all())


def surely_none(rows: Tensor) -> bool:
    """Whether it is true of no row, likewise."""
    return readable(rows) and not bool(rows.any())


def surely_finite(x: Tensor) -> bool:
    """Whether all numbers are finite, likewise; not where their sum overflows."""
    # What is not finite stays so in every sum.
    return readable(x) and cmath.isfinite(x.detach().sum().item())


def listed(x: Tensor) -> list[Any]:
    """The numbers of a vector, wrapped by torch.func or not."""
    # What is wrapped has no storage: torch 2.6's tolist asks for it.
    return [number.item() for number in x] if transformed() else x.tolist()


def version(x: Tensor) -> int:
    """How often a tensor's numbers have been replaced in place; of an inference tensor nobody counts."""
    return -1 if x.is_inference() else x._version
