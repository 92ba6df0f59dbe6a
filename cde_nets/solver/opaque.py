"""Tensors that hold no numbers to look at."""

from __future__ import annotations

import cmath
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn


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
