"""How exact a solve is to be."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cde_nets.door import numbers
from cde_nets.options import instead, options


@options
class Tolerance:
    """rtol and atol.

    A flow's step is accepted where the root mean square of error / (atol + rtol max(|x_n|, |x_{n+1}|)) over a row's
    numbers is at most 1. A rest point is reached where |f(z) - z| <= atol + rtol |f(z)|, a linear problem is solved
    where |g - (w - J^T w)| <= atol + rtol |g|, in the 2-norm of the row.

    Args:
        rtol: relative, above 0.
        atol: absolute, above 0. For flows either may be a tensor that broadcasts against a row of the packed state: one
            tolerance an element.

    Raises:
        ValueError: a tolerance of 0 or below, NaN or infinite.
    """

    rtol: float | Tensor = 1e-6
    atol: float | Tensor = 1e-8

    def __post_init__(self) -> None:
        """Check both."""
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if isinstance(value, Tensor):
                numbers(name, value)
            least, most = (float(value.min()), float(value.max())) if isinstance(value, Tensor) else (value, value)
            if isinstance(least, bool) or not isinstance(least, int | float) or not 0 < least <= most < math.inf:
                raise ValueError(
                    f"{name} must be a finite number above 0; got {value!r}. Where only the other one is to count, "
                    "give this one a value far below it."
                )

    @classmethod
    def default(cls, dtype: torch.dtype) -> Tolerance:
        """Rtol 1e-6 and atol 1e-8 in double precision; in single a hundred times what it resolves, and a hundredth."""
        rtol = max(1e-6, 100 * torch.finfo(dtype).eps)
        return cls(rtol, rtol / 100)


def check_tolerance(value: Any) -> None:
    """Refuse what is neither a Tolerance nor None (ValueError)."""
    if value is None or isinstance(value, Tolerance):
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    say = f": say cn.Tolerance({value!r})" if number else instead(value)
    raise ValueError(f"tolerance must be a Tolerance(rtol, atol); got {value!r}{say}.")
