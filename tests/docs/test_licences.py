"""The page of licences says what is installed and asked for, and all of it goes with Apache-2.0."""

import importlib.util
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

_SPEC = importlib.util.spec_from_file_location("licences", ROOT / "docs" / "make" / "licences.py")
licences = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(licences)


def rows():
    lines = [line for line in licences.PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    return {name: (licence, by) for name, licence, by in (line.strip("| ").split(" | ") for line in lines)}


def test_every_dependency_is_on_the_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    assert asked == {name for name, (_, by) in rows().items() if "cde-nets" in by.split(", ")}


def test_the_page_is_what_the_command_writes():
    assert licences.page() == licences.PAGE.read_text(), "python docs/make/licences.py writes the page again"


@pytest.mark.parametrize("name", rows())
def test_licences_go_with_apache(name):
    licence, _ = rows()[name]
    assert licences.parts(licence) <= licences.COMPATIBLE


def test_expressions_are_taken_apart():
    assert licences.parts("Apache-2.0 WITH LLVM-exception AND (MIT OR GPL-3.0-only)") == {
        "Apache-2.0",
        "MIT",
        "GPL-3.0-only",
    }


def test_what_does_not_say_its_licence_is_named(monkeypatch):
    package = distribution("numpy")
    monkeypatch.setattr(type(package), "metadata", type("Silent", (dict,), {"get_all": dict.get})({"Name": "silent"}))
    with pytest.raises(SystemExit, match="silent says of its licence"):
        licences.licence(package)
