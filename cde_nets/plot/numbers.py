"""Rows of numbers that a picture is given, whatever holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.door import numbers as held_numbers

Numbers: TypeAlias = NDArray[np.float64]
Values: TypeAlias = Sequence[float] | Sequence[int] | Tensor | NDArray[Any]


def numbers(name: str, values: Values) -> Numbers:
    """Values as an array of one axis, float64.

    Args:
        name: what an error calls them.
        values: one number or more.

    Raises:
        ValueError: another number of axes, no numbers, or a tensor on the device meta.
    """
    if isinstance(values, Tensor):
        held_numbers(name, values)
    held = values.detach().cpu() if isinstance(values, Tensor) else values
    found: Numbers = torch.as_tensor(held, dtype=torch.float64, device="cpu").numpy()
    if found.ndim != 1 or not len(found):
        raise ValueError(f"{name} has shape {found.shape}, expected (numbers,) with one number or more.")
    return found
