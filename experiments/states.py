"""What a long experiment puts aside of a run that is not done: nested dicts and lists of tensors and plain values.

Tensors go into a safetensors file with a checksum, the rest into its description as JSON: nothing is unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cde_nets.train.checkpoint import load_tensors, save_tensors

KIND = "cde-nets state of an experiment 1"
# What JSON has not: tensors (by number), tuples, dicts whose keys are no text, floats that are not finite.
_TENSOR, _TUPLE, _ITEMS, _FLOAT = "$tensor", "$tuple", "$items", "$float"
_MARKS = {_TENSOR, _TUPLE, _ITEMS, _FLOAT}


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state atomically. The order of a dict's keys is not kept.

    Args:
        path: of the file.
        state: dicts, lists and tuples of tensors, numbers, text, bools and None.

    Raises:
        TypeError: anything else in it.
        OSError: the file cannot be written; what was there before is untouched.
    """
    tensors: dict[str, Tensor] = {}
    description = _packed(state, tensors)
    save_tensors(path, KIND, tensors, {"state": description})


def read_state(path: Path, device: torch.device, needed: Sequence[str]) -> dict[str, Any]:
    """What `write_state` wrote.

    Args:
        path: of the file.
        device: where the tensors go.
        needed: names that it has.

    Raises:
        ValueError: a damaged file, or one without these names.
    """
    tensors, about = load_tensors(path, KIND)
    with whole(path):
        found = _unpacked(about.get("state"), {name: value.to(device) for name, value in tensors.items()})
    if not isinstance(found, dict) or not set(needed) <= set(found):
        raise ValueError(f"{path} is damaged: expected {', '.join(needed)}; move it away.")
    return found


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Within it, what goes wrong with parts of a state that was read is the file's fault.

    Raises:
        ValueError: something went wrong.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); move it away.") from error


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy: what shares memory with another tensor is written for itself.
        tensors[name] = value.detach().clone()
        return {_TENSOR: name}
    if isinstance(value, dict):
        plain = all(isinstance(key, str) for key in value) and not _MARKS & set(value)
        items = [(key, _packed(one, tensors)) for key, one in value.items()]
        return dict(items) if plain else {_ITEMS: [[_packed(key, tensors), one] for key, one in items]}
    if isinstance(value, list):
        return [_packed(one, tensors) for one in value]
    if isinstance(value, tuple):
        return {_TUPLE: [_packed(one, tensors) for one in value]}
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a state holds tensors and plain values; got a {type(value).__name__}")


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpacked(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    if not (_MARKS & set(value)):
        return {key: _unpacked(one, tensors) for key, one in value.items()}
    ((mark, held),) = value.items()
    if mark == _TENSOR:
        return tensors[held]
    if mark == _FLOAT:
        return float(held)
    if not isinstance(held, list):
        raise TypeError(f"expected a list, found {held!r:.40}")
    if mark == _TUPLE:
        return tuple(_unpacked(one, tensors) for one in held)
    if not all(isinstance(one, list) and len(one) == 2 for one in held):
        # A tensor of two numbers would pass for a pair.
        raise TypeError(f"expected pairs, found {held!r:.40}")
    return {_unpacked(key, tensors): _unpacked(value, tensors) for key, value in held}
