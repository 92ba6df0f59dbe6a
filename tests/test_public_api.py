"""Names and signatures that users build on do not change without somebody saying so: see docs/policy.md."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the listing has the estimators too")

PATH = Path(__file__).with_name("public_api.py")
_SPEC = importlib.util.spec_from_file_location("public_api", PATH)
api = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(api)


@pytest.fixture(scope="module")
def now():
    """The listing as the packages have it, from a process without the shape checker, which wraps what it checks."""
    code = f"import runpy; print(runpy.run_path({str(PATH)!r})['listing'](), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PATH.parents[1]), os.environ.get("PYTHONPATH", "")])},
    )
    return done.stdout


def test_what_was_public_still_works(now):
    assert api.breaks(api.read(api.LISTING.read_text()), api.read(now)) == []


def test_what_is_public_is_listed(now):
    assert now == api.LISTING.read_text(), "python tests/public_api.py writes the listing again"


KEPT = {
    "another parameter with a default": ("(a, b=1)", "(a, b=1, c=2)"),
    "a keyword with a default": ("(a, *, b=1)", "(a, *, b=1, c=None)"),
    "what was a keyword may also stand in its place": ("(a, *, b)", "(a, b)"),
    "keywords change places": ("(*, a, b=1)", "(*, b=1, a)"),
    "stars": ("(a, *args, **kwargs)", "(a, *args, b=1, **kwargs)"),
    "no call": ("", ""),
}
BROKEN = {
    "a parameter is gone": ("(a, b=1)", "(a)", "b is gone"),
    "renamed": ("(a)", "(x)", "a is gone"),
    "one more is asked for": ("(a)", "(a, b)", "b is new and has no default"),
    "no longer optional": ("(a=1)", "(a)", "the default of a was 1"),
    "another default": ("(a=1)", "(a=2)", "the default of a was 1 and is 2"),
    "no longer by place": ("(a, b=1)", "(a, *, b=1)", "b is given in another way"),
    "no longer by name": ("(a, b=1)", "(a, b=1, /)", "is given in another way"),
    "in another place": ("(a, b)", "(b, a)", "a stood where b stands"),
    "something in between": ("(a, b=1)", "(a, c=0, b=1)", "b stood where c stands"),
    "a star is gone": ("(a, **kwargs)", "(a)", "kwargs is gone"),
    "no function any more": ("(a)", "", "no longer be called"),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_goes_on_working_is_let_pass(case):
    before, after = KEPT[case]
    assert api.breaks({"f": before}, {"f": after, "g": "()"}) == []


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_a_call_is_found(case):
    before, after, said = BROKEN[case]
    found = api.breaks({"f": before}, {"f": after})
    assert any(said in line for line in found), found


def test_a_name_that_is_gone_is_found():
    assert api.breaks({"f": "()", "C.member": ""}, {"f": "()"}) == ["C.member is gone"]
