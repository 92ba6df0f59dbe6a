"""The public names of `cde_nets` and `theory` with their signatures, as text; and what breaks those who use them.

    python tests/public_api.py        # writes tests/public_api.txt again

Public is what the rooms on the API's pages list in `__all__`. Annotations are left out: they print differently from one
Python to the next, and mypy checks them.
"""

from __future__ import annotations

import ast
import enum
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Not the folder of this file, in which `theory` would be the tests'.
    sys.path[0] = str(Path(__file__).parents[1])

import cde_nets

LISTING = Path(__file__).with_suffix(".txt")
# As docs/api/index.md has them. The names of the other rooms are all in `cde_nets` itself.
ROOMS = ("cde_nets", "cde_nets.data", "cde_nets.kernels", "cde_nets.plot", "cde_nets.compat.torchdiffeq", "theory")
OURS = ("cde_nets", "theory")
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def listing() -> str:
    """A line for each public name and each public member of a public class, in alphabetical order."""
    return "".join(f"{line}\n" for line in sorted(_lines()))


def _lines() -> Iterator[str]:
    for room in ROOMS:
        module = import_module(room)
        # Estimators count where scikit-learn is not installed too; there this listing cannot be made.
        names = cde_nets._HOME if room == "cde_nets" else set(module.__all__) - set(cde_nets._HOME)
        for name in names:
            yield from _entry(f"{room}.{name}", getattr(module, name))


def _entry(name: str, value: Any) -> Iterator[str]:
    if not callable(value):
        yield name
    elif not inspect.isclass(value):
        yield name + _signature(value)
    elif issubclass(value, enum.Enum):
        yield from (f"{name}.{member.name}" for member in value)
    else:
        yield name + _signature(value)
        for member in sorted(_members(value)):
            found = inspect.getattr_static(value, member)
            method = callable(found) or isinstance(found, classmethod | staticmethod)
            bound = isinstance(found, classmethod | staticmethod)
            yield f"{name}.{member}" + (_signature(getattr(value, member), drop=not bound) if method else "")


def _members(value: type) -> set[str]:
    """What the class and its bases of these packages define: a member may move into a base."""
    ours = [base for base in value.__mro__ if base.__module__.split(".")[0] in OURS]
    return {
        name
        for base in ours
        for name, member in vars(base).items()
        if not name.startswith("_") and not inspect.isclass(member)
    }


def _signature(value: Any, drop: bool = False) -> str:
    try:
        parameters = list(inspect.signature(value).parameters.values())[drop:]
    except ValueError:  # torch's C functions have none
        return "(*args, **kwargs)"
    plain = [p.replace(annotation=inspect.Parameter.empty, default=_default(p.default)) for p in parameters]
    return str(inspect.Signature(plain))


class _Text(str):
    """Its repr is itself."""

    def __repr__(self) -> str:
        return str(self)


def _default(value: Any) -> Any:
    """A default as text that Python can read; one that has no such text is an ellipsis."""
    if value is inspect.Parameter.empty:
        return value
    if inspect.isclass(value):
        return _Text(value.__name__)
    if isinstance(value, enum.Enum):
        return _Text(str(value))
    text = repr(value)
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        text = "..."
    return _Text(text)


def read(text: str) -> dict[str, str]:
    """The lines of a listing: names and what follows them, a signature in brackets or nothing."""
    pairs = (line.partition("(") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: bracket + rest for name, bracket, rest in pairs}


def breaks(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What of `before` no longer works: names that are gone, calls that no longer mean the same."""
    gone = [f"{name} is gone" for name in before if name not in after]
    return gone + [
        f"{name}{before[name]} is now {name}{after[name]}: {why}"
        for name in before
        if name in after
        for why in _differences(before[name], after[name])
    ]


def _differences(before: str, after: str) -> list[str]:
    if not before or not after:
        return [] if before == after else ["it can no longer be called, or only called"]
    old, new = _parameters(before), _parameters(after)
    found = []
    for name, (kind, default) in old.items():
        now = new.get(name)
        if now is None:
            found.append(f"{name} is gone")
        elif now[0] not in (kind, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            found.append(f"{name} is given in another way")
        elif now[1] != default:
            found.append(f"the default of {name} was {default} and is {now[1]}")
    found += [
        f"{name} is new and has no default" for name, (_, default) in new.items() if not default and name not in old
    ]
    places = zip_longest(*([n for n, (kind, _) in side.items() if kind in POSITIONAL] for side in (old, new)))
    return found + [f"{was} stood where {now} stands" for was, now in places if was is not None and was != now]


def _parameters(signature: str) -> dict[str, tuple[Any, str]]:
    """The parameters by name: kind, and default as text; a star's default is a star."""
    kinds = inspect.Parameter
    tree = ast.parse(f"def f{signature}: ...").body[0]
    assert isinstance(tree, ast.FunctionDef)
    a = tree.args
    found: dict[str, tuple[Any, str]] = {}
    positional = [(p, kinds.POSITIONAL_ONLY) for p in a.posonlyargs]
    positional += [(p, kinds.POSITIONAL_OR_KEYWORD) for p in a.args]
    defaults = [None] * (len(positional) - len(a.defaults)) + list(a.defaults)
    for (p, kind), value in zip(positional, defaults, strict=True):
        found[p.arg] = (kind, ast.unparse(value) if value else "")
    if a.vararg:
        found["*" + a.vararg.arg] = (kinds.VAR_POSITIONAL, "*")
    for p, value in zip(a.kwonlyargs, a.kw_defaults, strict=True):
        found[p.arg] = (kinds.KEYWORD_ONLY, ast.unparse(value) if value else "")
    if a.kwarg:
        found["**" + a.kwarg.arg] = (kinds.VAR_KEYWORD, "*")
    return found


if __name__ == "__main__":
    LISTING.write_text(listing())
