"""Tensors that hold no numbers to look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def opaque() -> bool:
    """Whether torch.func or torch.compile transform: no value is to be looked at, and no autograd called."""
    return torch.compiler.is_compiling() or transformed()


def transformed() -> bool:
    """Whether torch.func transforms."""
    return torch._C._functorch.maybe_current_level() is not None


def readable(x: Tensor) -> bool:
    """Whether to look at the numbers costs nothing: a plain tensor on the CPU, and nothing transforms."""
    return x.device.type == "cpu" and type(x) in (Tensor, nn.Parameter) and not opaque()


def version(x: Tensor) -> int:
    """How often a tensor's numbers have been replaced in place; of an inference tensor nobody counts."""
    return -1 if x.is_inference() else x._version
