"""Tests on every Python and torch that is at hand: `make matrix`, or `nox --list`.

An interpreter that is not installed is skipped, and nox says so. torch is the locked one, in the build that pip finds;
others are named by TORCH:

    TORCH="2.13.0 2.14.1" make matrix
    PIP_FIND_LINKS=FOLDER make matrix        # takes the CPU builds that lie there

On Linux, PyPI's builds bring CUDA's libraries along, several GB each: nothing is installed from PyPI there before
TORCH names it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.11.12"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
# Nothing is fetched that nobody asked for, a Python least of all.
nox.options.download_python = "never"
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ("3.11", "3.12", "3.13")
REQUIREMENTS = Path("requirements")
PINS = re.findall(r"^([A-Za-z0-9.-]+)==(\S+)", (REQUIREMENTS / "locked.txt").read_text(), flags=re.MULTILINE)
LOCKED = re.findall(r"^torch==(\S+)", (REQUIREMENTS / "torch.txt").read_text(), flags=re.MULTILINE)[0]
HASHED = ("--no-deps", "--only-binary", ":all:", "--require-hashes")
# What `theory` and its tests ask for.
EXACT = (
    "numpy",
    "sympy",
    "mpmath",
    "python-flint",
    "scipy",
    "pytest",
    "hypothesis",
    "iniconfig",
    "pluggy",
    "packaging",
)


@nox.session(python=PYTHONS)
@nox.parametrize("torch", os.environ.get("TORCH", LOCKED).split())
def tests(session: nox.Session, torch: str) -> None:
    """All tests, or those named behind --."""
    named = "TORCH" in os.environ or sys.platform != "linux"
    # From what lies at hand alone, where PyPI's build would be the one for CUDA.
    index = () if named else ("--no-index",)
    if torch == LOCKED:
        wanted, options = ("-r", str(REQUIREMENTS / "torch.txt")), HASHED
    else:
        wanted, options = (f"torch=={torch}",), ("--only-binary", ":all:")
    try:
        session.install(*options, *index, *wanted)
    except nox.command.CommandFailed:
        session.skip(f"torch {torch} is not at hand for Python {session.python}: set PIP_FIND_LINKS, or TORCH={torch}.")
    locked = session.run("python", "-c", "import importlib.metadata as m; print(m.requires('torch'))", silent=True)
    if torch == LOCKED and "nvidia" in str(locked):
        session.install(*HASHED, "-r", str(REQUIREMENTS / "cuda.txt"))
    session.install(*HASHED, "-r", str(REQUIREMENTS / "locked.txt"))
    if torch != LOCKED:
        # Another torch asks for a triton and a SymPy of its own.
        session.install(*options, *index, *wanted)
    session.install("--no-deps", "--no-build-isolation", "--editable", ".")
    session.run("python", "-m", "pytest", *(session.posargs or ("-n", "auto", "--dist", "worksteal")))


def without_torch() -> list[str]:
    """The tests of `theory` that import none of the other packages, and ask for no fixture of all tests, which does."""
    others = "cde_nets|from experiments|from benchmarks|import torch|bad_input"
    files = sorted(Path("tests", "theory").glob("test_*.py"))
    return [str(file) for file in files if not re.search(others, file.read_text())]


@nox.session(python=PYTHONS)
def exact(session: nox.Session) -> None:
    """`theory` and its tests, without torch: on Pythons too that torch is not at hand for."""
    # The locked versions, not by digest: the tests' own packages are few of many here.
    session.install("--only-binary", ":all:", *(f"{name}=={version}" for name, version in PINS if name in EXACT))
    session.run(
        *("python", "-m", "pytest", "-p", "no:cacheprovider", "--confcutdir", "tests/theory"),
        *(session.posargs or without_torch()),
        env={"PYTHONPATH": str(Path.cwd())},
    )
