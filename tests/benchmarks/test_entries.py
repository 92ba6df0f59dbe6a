"""Hostile arguments to every public name: a right result or a clear error, never one from deep within.

Each array in every form, each option with every value of a list and with a few that hypothesis draws, always the same;
CDE_NETS_EXAMPLES is how many it draws, other ones at every run.
"""

import os
import re
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cde_nets as cn
import theory
from benchmarks.faults.arguments import in_time as within_seconds
from benchmarks.faults.entries import ARRAYS, MADE, NUMBERS, judge_array, judge_number
from benchmarks.faults.entries.judge import HOSTILE, OTHER, SAME, Array, Number
from cde_nets import plot

MORE = int(os.environ.get("CDE_NETS_EXAMPLES", "0"))
# Where more is asked for, chance is wanted; what it finds is shown with the seed that finds it again.
few = settings(
    max_examples=MORE or 3,
    derandomize=not MORE,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SECONDS = 30


@pytest.fixture(autouse=True)
def in_time():
    """A hang is a failure, and not one of the whole run."""
    # What NumPy and matplotlib say of huge numbers is no error.
    with warnings.catch_warnings(), within_seconds(SECONDS * max(1, MORE // 10)):
        warnings.simplefilter("ignore")
        yield


def test_every_public_name_has_a_row():
    public = {f"cn.{name}" for name in cn.__all__} | {f"theory.{name}" for name in theory.__all__}
    public |= {f"plot.{name}" for name in plot.__all__}
    rows = {re.match(r"\w+\.\w+", key)[0] for key in (*ARRAYS, *NUMBERS)} | set().union(*MADE.values())
    assert public - rows == set(), "name them in benchmarks/faults/entries"
    assert {name for name in rows - public if not name.startswith("nn.")} - {"cn.solve"} == set()


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name, bad_input):
    found = {form: judge_array(ARRAYS[name], form) for form in (*SAME, *OTHER)}
    assert {form: wrong for form, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("name", NUMBERS)
def test_options(name, bad_input):
    keys = sorted(NUMBERS[name].good)
    found = {f"{key}={value!r}": judge_number(NUMBERS[name], key, value) for key in keys for value in HOSTILE}
    assert {said: wrong for said, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("name", NUMBERS)
@given(data=st.data())
@few
def test_options_of_any_value(name, data, bad_input):
    key = data.draw(st.sampled_from(sorted(NUMBERS[name].good)))
    value = data.draw(st.integers() | st.floats() | st.text(max_size=3))
    assert judge_number(NUMBERS[name], key, value) == ""


def test_what_is_wrong_is_seen():
    """The judge itself: a function that takes anything, one that fails deep within, one that is off, all are named."""
    import torch

    good = ARRAYS["cn.PolynomialFields.evaluate"].good
    assert judge_array(Array(lambda x: torch.as_tensor(x) * 2, good), "transposed") == ""
    assert judge_array(Array(lambda x: x.missing, good), "list").startswith("AttributeError")
    assert judge_array(Array(lambda x: torch.as_strided(x, (3, 2), (2, 1)), good), "transposed") != ""
    assert judge_array(Array(lambda x: torch.nan_to_num(x), good, rows=True), "NaN") != ""
    assert judge_array(Array(lambda x: torch.zeros(3, 2), good, rows=True), "empty") == "no rows have a result"
    assert judge_number(Number(lambda n: [0][n], {"n": 0}), "n", 3).startswith("IndexError")
    assert judge_number(Number(cn.GMRES, {"restart": 1}), "restart", -1) == ""
