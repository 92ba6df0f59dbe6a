"""Whether a hostile argument meets a right result or a clear error."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cde_nets as cn
import theory

DOCUMENTED = (ValueError, TypeError, cn.SolveError, cn.DivergedError, cn.ConvergenceError, theory.NoResidueError)
# By dtype: how far a result may be from that in float64.
TOLERANCES = {"same": 1e-9, "float32": 1e-3}


@dataclass(frozen=True)
class Array:
    """A public name that takes numbers in an array.

    Attributes:
        call: of one argument, the array in whatever form.
        good: the array, float64.
        rows: whether the result has a row for each row of the array, each depending on its own alone.
    """

    call: Callable[[Any], Any]
    good: Any
    rows: bool = False


@dataclass(frozen=True)
class Number:
    """A public name that takes options.

    Attributes:
        call: with keywords.
        good: keywords that are right; each is replaced by something hostile in turn.
    """

    call: Callable[..., Any]
    good: Mapping[str, Any]


# The same numbers in another form: a result must be that of the plain array, within the tolerance that is named.
SAME: dict[str, tuple[Callable[[Any], Any], str]] = {
    "not contiguous": (lambda a: torch.from_numpy(np.repeat(a, 2, axis=-1).copy())[..., ::2], "same"),
    "transposed": (lambda a: torch.from_numpy(np.asfortranarray(a)), "same"),
    "wants a gradient": (lambda a: torch.from_numpy(a.copy()).requires_grad_(), "same"),
    # A list becomes a tensor of torch's default dtype.
    "list": (lambda a: a.tolist(), "float32"),
    "array": (lambda a: a, "same"),
    "negative strides": (lambda a: a[::-1].copy()[::-1], "same"),
    "read-only array": (lambda a: _frozen(a), "same"),
    "single precision": (lambda a: torch.from_numpy(a.astype(np.float32)), "float32"),
    "complex": (lambda a: torch.from_numpy(a.astype(np.complex128)), "same"),
}
# Other numbers, or none.
OTHER: dict[str, Callable[[Any], Any]] = {
    "NaN": lambda a: torch.from_numpy(_with(a, np.nan)),
    "infinity": lambda a: torch.from_numpy(_with(a, np.inf)),
    "huge": lambda a: torch.from_numpy(_with(a, 1e300)),
    "NaN in an array": lambda a: _with(a, np.nan),
    "empty": lambda a: torch.from_numpy(a[:0].copy()),
    "half precision": lambda a: torch.from_numpy(a.astype(np.float16)),
    "integers": lambda a: torch.from_numpy(np.round(a).astype(np.int64)),
    "bool": lambda a: torch.from_numpy(a > 0),
    "one axis more": lambda a: torch.from_numpy(a[None].copy()),
    "one axis less": lambda a: torch.from_numpy(np.array(a[0])),
    "one column more": lambda a: torch.from_numpy(np.concatenate([a, a[..., :1]], -1)),
    "no axis": lambda a: torch.tensor(1.0, dtype=torch.float64),
    "another device": lambda a: torch.from_numpy(a.copy()).to("meta"),
    "None": lambda a: None,
    "text": lambda a: "__import__('os')",
    "a list of text": lambda a: [["x"]],
    "a ragged list": lambda a: [[1.0], [1.0, 2.0]],
}
HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 3, 2**70, 10**400, 0.5, -0.5, float("nan"), float("inf"), "x", "", [], (), {}, [1.0, 0.0], b"x",
    1j, object(), torch.tensor(float("nan")), torch.zeros(2, 2), torch.zeros((), device="meta"), np.float32(0.5), int,
)  # fmt: skip


def _frozen(a: Any) -> Any:
    made = a.copy()
    made.setflags(write=False)
    return made


def _with(a: Any, value: float) -> Any:
    made = a.copy()
    made.flat[0] = value
    return made


def judge_array(entry: Array, name: str) -> str:
    """What is wrong with how a form of the array is met; "" where nothing is."""
    form, tolerance = SAME.get(name) or (OTHER[name], "")
    try:
        found = entry.call(form(entry.good))
    except Exception as error:
        return _unclear(error)
    if tolerance:
        return _differs(found, entry.call(torch.from_numpy(entry.good.copy())), TOLERANCES[tolerance])
    if entry.rows and name in ("NaN", "infinity", "huge"):
        # Rows fail alone.
        got, want = (numbers(result)[0] for result in (found, entry.call(torch.from_numpy(entry.good.copy()))))
        if not np.allclose(got[1:], want[1:], rtol=1e-9, atol=1e-9):
            return "a row that was not touched has changed"
        if name == "NaN" and np.isfinite(got[:1]).all():
            return "a row with NaN in it has a finite result"
    if entry.rows and name == "empty" and len(numbers(found)[0]):
        return "no rows have a result"
    return ""


def judge_number(entry: Number, key: str, value: Any) -> str:
    """What is wrong with how an option is met; "" where nothing is."""
    try:
        entry.call(**{**entry.good, key: value})
    except Exception as error:
        return _unclear(error)
    return ""


def numbers(result: Any) -> list[Any]:
    """All arrays of a result."""
    if isinstance(result, Tensor):
        return [np.zeros(tuple(result.shape)) if result.is_meta else result.detach().resolve_conj().numpy()]
    if isinstance(result, np.ndarray | float | int | complex):
        return [np.asarray(result)]
    if dataclasses.is_dataclass(result):
        result = [getattr(result, field.name) for field in dataclasses.fields(result)]
    if isinstance(result, dict):
        result = list(result.values())
    return [array for part in result for array in numbers(part)] if isinstance(result, tuple | list) else []


def _differs(found: Any, wanted: Any, tolerance: float) -> str:
    got, want = numbers(found), numbers(wanted)
    shapes = [array.shape for array in got], [array.shape for array in want]
    if shapes[0] != shapes[1]:
        return f"the result has shapes {shapes[0]}, of the plain array {shapes[1]}"
    for one, two in zip(got, want, strict=True):
        if one.dtype.kind in "fciub" and not np.allclose(one, two, rtol=tolerance, atol=tolerance, equal_nan=True):
            return f"the result is {one.ravel()[:3]}, of the plain array {two.ravel()[:3]}"
    return ""


def _unclear(error: Exception) -> str:
    """Why an error is none that a user should see; "" where it is one: of a documented kind, with a message."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    # A user's own function, of which the table has some, fails as it fails.
    if (type(error) in DOCUMENTED and str(error)) or Path(place.filename).parent == Path(__file__).parent:
        return ""
    return f"{type(error).__name__}: {str(error)[:200]} ({Path(place.filename).name}:{place.lineno})"
