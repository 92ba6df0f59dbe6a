"""What constructors of controls are given: checked, or drawn."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from cde_nets.door import holdable
from cde_nets.fields import draw


def counts(**values: int) -> None:
    """Refuse what is no integer of at least 1.

    Raises:
        ValueError: the first such argument, by name.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"A control needs an integer {name} >= 1; got {name}={value!r}.")


def known(name: str, value: str, choices: Iterable[str]) -> str:
    """The value, where it is one of the choices.

    Raises:
        ValueError: it is not; the message has the nearest choice.
    """
    names = list(choices)
    if isinstance(value, str) and value in names:
        return value
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"Unknown {name} {value!r}{meant} Known are {', '.join(names)}.")


def normal(shape: tuple[int, ...], *, scale: float, seed: int, dtype: torch.dtype | None) -> Tensor:
    """Numbers iid N(0, scale^2).

    Raises:
        ValueError: a scale below 0 or not finite, more numbers than the memory holds, or a seed that is no
            non-negative integer.
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < math.inf:
        raise ValueError(f"scale must be finite and at least 0; got {scale!r}.")
    holdable("a control", math.prod(shape))
    return draw.as_buffer(draw.generator(seed).normal(0, scale, shape), dtype)


def parameter(value: Tensor | None, name: str, shape: tuple[int, ...]) -> torch.nn.Parameter:
    """A parameter that starts at a copy of the value, or at zero.

    Raises:
        ValueError: another shape, more numbers than the memory holds, a dtype that is not floating, or a number that is
            not finite.
    """
    holdable("a control", math.prod(shape))
    return torch.nn.Parameter(torch.zeros(shape) if value is None else draw.coefficients(value, name, shape))


def parameters(shape: tuple[int, ...], **values: Tensor | None) -> tuple[torch.nn.Parameter, ...]:
    """Parameters of one shape and dtype; one that is not given starts at zero, beside one that is.

    Raises:
        ValueError: as `parameter`, or values of different dtypes or on different devices.
    """
    holdable("a control", math.prod(shape))
    made = {name: parameter(value, name, shape) for name, value in values.items() if value is not None}
    kinds = {(p.dtype, p.device) for p in made.values()}
    if len(kinds) > 1:
        given = ", ".join(f"{name} is {p.dtype} on {p.device}" for name, p in made.items())
        raise ValueError(f"{' and '.join(made)} must have one dtype and device; {given}. Use .to(..) on one of them.")
    dtype, device = next(iter(kinds), (None, None))
    return tuple(made.get(name, torch.nn.Parameter(torch.zeros(shape, dtype=dtype, device=device))) for name in values)
