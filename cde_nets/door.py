"""A check at the door of modules that compute with tensors: what was given, what is expected, what to do."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from theory import machine


def floats(name: str, value: Any, shape: tuple[int | None, ...], like: Tensor | None = None) -> None:
    """Refuse what is no floating tensor of a shape.

    Args:
        name: of the value, for errors.
        value: as it was given.
        shape: its axes; None for any length, which in front is called the batch.
        like: a tensor whose dtype and device it must have.

    Raises:
        ValueError: another type, shape, dtype or device.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"Expected {name} of shape {_words(shape)}; got a {type(value).__name__}: torch.as_tensor.")
    if value.ndim != len(shape) or any(n not in (None, k) for n, k in zip(shape, value.shape, strict=True)):
        raise ValueError(f"Expected {name} of shape {_words(shape)}; got {tuple(value.shape)}.")
    if not value.is_floating_point():
        raise ValueError(f"{name} must be floating point; got {value.dtype}. Bytes become numbers by .float() / 255.")
    if like is not None and (value.dtype != like.dtype or value.device != like.device):
        raise ValueError(
            f"{name} must be {like.dtype} on {like.device}; got {value.dtype} on {value.device}. Cast or move one of "
            f"them: {name}.to('{like.device}', {like.dtype})."
        )


def _words(shape: tuple[int | None, ...]) -> str:
    front = "batch" if shape[0] is None else str(shape[0])
    rest = ["any" if n is None else str(n) for n in shape[1:]]
    return f"({', '.join([front, *rest])}{',' if not rest else ''})"


def numbers(name: str, value: Tensor) -> None:
    """Refuse a tensor without numbers in it, of the device "meta".

    Raises:
        ValueError: it is one.
    """
    if value.is_meta:
        raise ValueError(f"{name} is on the device meta, where tensors have shapes and no numbers: make it anew.")


def holdable(what: str, numbers: int, instead: str = "fewer of them") -> None:
    """Refuse numbers that this machine's memory does not hold, drawn in double precision and copied once.

    Args:
        what: "a control", say.
        numbers: how many it has.
        instead: what to take.

    Raises:
        ValueError: they need more memory than there is.
    """
    count = str(numbers) if numbers < 10**24 else "more than 10^24"
    machine.holdable(f"{what} of {count} numbers", 16 * numbers, instead)
