"""Tensors that hold no numbers to look at."""

from __future__ import annotations

import torch


def opaque() -> bool:
    """Whether torch.func or torch.compile transform: no value is to be looked at, and no autograd called."""
    return torch.compiler.is_compiling() or transformed()


def transformed() -> bool:
    """Whether torch.func transforms."""
    return torch._C._functorch.maybe_current_level() is not None
