"""Whether a state that was read is one that a training could have written: nothing is taken up before all of it is."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cde_nets.options import finite

# What a step changes: all else of a schedule and of an optimiser's groups is as it was made.
_MOVES = ("lr", "betas", "momentum", "last_epoch", "_step_count", "_last_lr", "_is_initial")
_Form = dict[str, tuple[tuple[int, ...], torch.dtype]]


def check_form(found: Any, like: Any, what: str, *, fixed: bool = False) -> None:
    """Refuse a JSON value of another form.

    Args:
        found: as it was read.
        like: one of the right form: the same names, as many entries, numbers that are finite where it has numbers.
        what: to call it in errors.
        fixed: whether all but `_MOVES` must be equal, too.

    Raises:
        ValueError: it is of another form.
    """
    if isinstance(like, dict):
        if not isinstance(found, dict) or found.keys() != like.keys():
            raise ValueError(f"{what} is damaged: found {_short(found)}, expected {', '.join(like)}.")
        for name, value in like.items():
            check_form(found[name], value, f"{what}, {name},", fixed=fixed and name not in _MOVES)
    elif isinstance(like, list):
        if not isinstance(found, list) or len(found) != len(like):
            raise ValueError(f"{what} is damaged: found {_short(found)}, expected {len(like)} entries.")
        for one, value in zip(found, like, strict=True):
            check_form(one, value, what, fixed=fixed)
    elif fixed:
        if type(found) is not type(like) or found != like:
            raise ValueError(f"{what} is damaged: found {_short(found)}, expected {like!r}.")
    elif isinstance(like, float):
        # What was a float is written as one.
        if type(found) is not float or not finite(found):
            raise ValueError(f"{what} is damaged: found {_short(found)}, expected a finite number.")
    elif type(found) is not type(like):
        raise ValueError(f"{what} is damaged: found {_short(found)}, expected one of {type(like).__name__}.")


def check_moments(found: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, steps: int, path: Path) -> None:
    """Refuse what the optimiser does not keep after so many steps; none at all is what it keeps before its first.

    Raises:
        ValueError: other names, shapes or dtypes, another number of steps, or a number that is not finite.
    """
    given = {name: (tuple(value.shape), value.dtype) for name, value in found.items()}
    wanted = _moments(optimizer)
    if given and given != wanted:
        astray = sorted(set(wanted.items()) ^ set(given.items()), key=str)
        raise ValueError(f"{path} holds moments of another optimizer: it differs in {astray[0][0]}.")
    if bool(given) != bool(steps):
        raise ValueError(f"{path} is damaged: it holds {len(given)} moments after {steps} steps.")
    for name, value in found.items():
        if name.endswith("/step") and not bool((value == steps).all()):
            raise ValueError(f"{path} is damaged: optimizer/{name} is {_short(value.tolist())}, expected {steps}.")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{path} is damaged: optimizer/{name} is not finite. Train again or use a copy.")


def plain(value: Any) -> Any:
    """A value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def _moments(optimizer: torch.optim.Optimizer) -> _Form:
    """What it keeps after a step, by taking one with zero gradients, of copies."""
    groups = copy.deepcopy(optimizer.state_dict()["param_groups"])
    for group, own in zip(groups, optimizer.param_groups, strict=True):
        group["params"] = [torch.zeros_like(p, requires_grad=True) for p in own["params"]]
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
    trial = type(optimizer)(groups, lr=groups[0]["lr"])  # type: ignore[call-arg]
    trial.step()
    state = trial.state_dict()["state"]
    return {
        f"{place}/{name}": (tuple(value.shape), value.dtype)
        for place, kept in state.items()
        for name, value in kept.items()
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:80]}.."
