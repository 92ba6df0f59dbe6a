"""Writes docs/licences.md: what cde-nets needs when it runs, with versions and licences, from the installed metadata.

python docs/make/licences.py
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "licences.md"

# The trove's names of licences, by their SPDX identifiers.
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "ISC License (ISCL)": "ISC",
}
# What a package calls its licence where it gives neither an SPDX expression nor a trove's name.
WORDS = {"Apache 2.0": "Apache-2.0", "PSF": "PSF-2.0"}

# Licences that may be used, changed and passed on beside Apache-2.0 code. MPL-2.0 asks that changes to its own files
# stay under it, and nothing of who uses them.
COMPATIBLE = {
    *("0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "HPND", "ISC", "MIT", "MIT-CMU", "PSF-2.0"),
    *("BSL-1.0", "CC0-1.0", "Unlicense", "Zlib", "MPL-2.0"),
}

HEAD = """# Licences

cde-nets is under Apache-2.0. Below is what it needs when it runs, and what that needs in turn, as installed where this
page was written; `python docs/make/licences.py` writes it again, and a test compares it with `pyproject.toml`. What
extras add is not here.

| package | licence | needed by |
|---|---|---|
"""
TAIL = """
All of it may be used beside Apache-2.0 code. certifi is Mozilla's: changes to its own files stay under MPL-2.0.

The identifiers are those of the packages' metadata. Wheels also bring compiled libraries along, under licences that lie
in them: OpenBLAS and GCC's run-time library, under its exception, with NumPy, SciPy and torch.

PyPI's build of torch for Linux asks for NVIDIA's libraries as well, which come under NVIDIA's own terms and are no
free software. PyTorch's CPU builds do without them, and so do its builds for macOS and Windows on PyPI.
"""


def licence(package: Distribution) -> str:
    """The licence as an SPDX expression, from a package's metadata.

    Raises:
        SystemExit: the metadata does not say, in words known here.
    """
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classified = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    known = [CLASSIFIERS[name] for name in classified if name in CLASSIFIERS]
    if known:
        return " AND ".join(known)
    said = (metadata.get("License") or "").strip()
    if said in WORDS or said in COMPATIBLE:
        return WORDS.get(said, said)
    raise SystemExit(
        f"{metadata['Name']} says of its licence {classified or said[:80]!r}: add it to {Path(__file__).name}."
    )


def parts(expression: str) -> set[str]:
    """The identifiers in an SPDX expression; exceptions go with the licence before them."""
    plain = re.sub(r"\sWITH\s+\S+", "", expression)
    return {part for part in re.split(r"\s+(?:AND|OR)\s+|[()\s]+", plain) if part}


def needed() -> dict[str, set[str]]:
    """All run-time packages by canonical name, each with those that ask for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, set[str]] = {}
    todo = [("cde-nets", text, "") for text in project["dependencies"]]
    while todo:
        by, text, extras = todo.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        # CUDA's libraries depend on the build of torch that happens to be installed: the page speaks of them apart.
        gpu = name.startswith(("nvidia-", "cuda-")) or (by == "torch" and name == "triton")
        if gpu or (requirement.marker and not requirement.marker.evaluate({"extra": extras})):
            continue
        if name not in found:
            todo += [(name, more, ",".join(requirement.extras)) for more in distribution(name).requires or []]
        found.setdefault(name, set()).add(by)
    return found


def page() -> str:
    """The page."""
    return HEAD + "".join(_rows(sorted(needed().items()))) + TAIL


def _rows(packages: Iterable[tuple[str, set[str]]]) -> Iterable[str]:
    for name, by in packages:
        yield f"| {name} | {licence(distribution(name))} | {', '.join(sorted(by))} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
