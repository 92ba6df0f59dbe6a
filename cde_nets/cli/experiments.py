"""`cde-nets list` and `cde-nets run`: experiments, found through entry points and described without being imported."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import textwrap
import tokenize
from importlib.machinery import PathFinder
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cde_nets.cli.console import BAD_INPUT, FAILED, Json, stop
from cde_nets.cli.nested import hand_over

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "cde_nets.experiments"
# Below so many columns a description stands under its name, not beside it.
BESIDE = 60
# Nothing after the name is an option of ours.
SETTINGS = {"allow_interspersed_args": False}


def list_(as_json: Json = False) -> None:
    """List the experiments by subject: one command for each result, which draws its own figure, and whose result it is.

    Experiments of other packages that name them as entry points of the group cde_nets.experiments are listed, too.

    Examples:
      cde-nets list
      cde-nets list --json
    """
    found = [
        {"name": name, **about(point), "module": point.module, "command": f"cde-nets run {name}"}
        for name, point in experiments().items()
    ]
    # Those of no subject come last.
    found.sort(key=lambda one: (one["subject"] is None, one["subject"] or "", one["name"]))
    typer.echo(json.dumps({"experiments": found}) if as_json else _lines(found))


def _complete(incomplete: str) -> list[tuple[str, str]]:
    return [
        (name, about(point)["description"] or "")
        for name, point in experiments().items()
        if name.startswith(incomplete)
    ]


def run(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="Its name, as in cde-nets list.", autocompletion=_complete)
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Of the experiment; --help shows them.")
    ] = None,
) -> None:
    """Run an experiment, with all that stands after its name. The exit code is the experiment's.

    Examples:
      cde-nets run one_point
      cde-nets run one_point --help
      cde-nets run mnist_seeds --seeds 1 --out runs/seeds
    """
    found = experiments()
    if experiment not in found:
        raise stop(_unknown(experiment, list(found)), BAD_INPUT)
    try:
        app = found[experiment].load()
    except (ImportError, AttributeError) as error:
        raise stop(f"{experiment} cannot be loaded from {found[experiment].value}: {error}.", FAILED) from None
    hand_over(app, f"cde-nets run {experiment}", arguments or [])


def experiments() -> dict[str, EntryPoint]:
    """Entry points by name, in the alphabet's order."""
    # Imported here: it takes longer than the rest of --help.
    from importlib.metadata import entry_points

    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def about(point: EntryPoint) -> dict[str, str | None]:
    """What the module's docstring says, read without running the module: that may import torch.

    Returns:
        "description", its first sentence, and what stands in lines of its own as "Subject: .." and "Source: ..", the
        lecture or paper whose result it is; None where there is no such module, or it does not say.
    """
    file = _source(point.module)
    try:
        text = "" if file is None else _docstring(file)
    except (OSError, SyntaxError, ValueError, tokenize.TokenError):
        text = ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    said = dict(re.findall(r"^(Subject|Source): (.+)$", text, flags=re.MULTILINE))
    return {
        "description": re.split(r"(?<=[.!?]) (?=[A-Z])", paragraph)[0] or None,
        "subject": said.get("Subject"),
        "source": said.get("Source"),
    }


def _docstring(file: Path) -> str:
    """The text that a module begins with. The rest is not read: to parse all of it takes longer than all else."""
    with tokenize.open(file) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.STRING:
                text = ast.literal_eval(token.string)
                return inspect.cleandoc(text) if isinstance(text, str) else ""
            if token.type not in (tokenize.COMMENT, tokenize.NL):
                return ""
    return ""


def _source(module: str) -> Path | None:
    """The file of a module, its packages not imported, as `find_spec` of a name with dots would."""
    top, *parts = module.split(".")
    spec, name = find_spec(top), top
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _unknown(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    near = " or ".join(repr(one) for one in get_close_matches(name, names, cutoff=0.5))
    return f"{name!r} is no experiment{f'; did you mean {near}?' if near else '.'} All names: cde-nets list."


def _lines(found: list[dict[str, Any]]) -> str:
    """Subjects, and below each its experiments: a line each where a program reads, else wrapped to the terminal."""
    columns = shutil.get_terminal_size((10_000, 24)).columns
    beside = max((len(one["name"]) for one in found), default=0) + 4
    lines: list[str] = []
    for subject, group in groupby(found, key=lambda one: one["subject"]):
        lines += textwrap.wrap(subject or "Others", max(columns - 1, 10))
        for one in group:
            source = f" [{one['source']}]" if one["source"] else ""
            lines += _entry(one["name"], f"{one['description'] or '(no description)'}{source}", beside, columns)
    return "\n".join(lines)


def _entry(name: str, says: str, beside: int, columns: int) -> list[str]:
    indent = 6 if columns < BESIDE else beside
    wrapped = textwrap.wrap(says, max(columns - indent - 1, 10))
    if columns < BESIDE:
        return [f"  {name}", *(" " * indent + line for line in wrapped)]
    return [f"  {name:{indent - 2}}{wrapped[0]}", *(" " * indent + line for line in wrapped[1:])]
