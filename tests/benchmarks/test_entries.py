"""Hostile arguments to every public name: a right result or a clear error, never one from deep within.

CDE_NETS_EXAMPLES is how many arguments each name gets, other ones at every run; here few, and always the same.
"""

import os
import re
import signal
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cde_nets as cn
import theory
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


class Late(BaseException):
    pass


@pytest.fixture(autouse=True)
def in_time():
    """A hang is a failure, and not one of the whole run."""

    def late(number, frame):
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS * max(1, MORE // 10))
    # What NumPy and matplotlib say of huge numbers is no error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_every_public_name_has_a_row():
    public = {f"cn.{name}" for name in cn.__all__} | {f"theory.{name}" for name in theory.__all__}
    public |= {f"plot.{name}" for name in plot.__all__}
    rows = {re.match(r"\w+\.\w+", key)[0] for key in (*ARRAYS, *NUMBERS)} | set().union(*MADE.values())
    assert public - rows == set(), "name them in benchmarks/faults/entries"
    assert {name for name in rows - public if not name.startswith("nn.")} - {"cn.solve"} == set()


@pytest.mark.parametrize("name", ARRAYS)
@given(data=st.data())
@few
def test_arrays(name, data, bad_input):
    forms = data.draw(st.lists(st.sampled_from([*SAME, *OTHER]), min_size=2, max_size=2, unique=True))
    assert {form: wrong for form in forms if (wrong := judge_array(ARRAYS[name], form))} == {}


@pytest.mark.parametrize("name", NUMBERS)
@given(data=st.data())
@few
def test_options(name, data, bad_input):
    key = data.draw(st.sampled_from(sorted(NUMBERS[name].good)))
    value = data.draw(st.sampled_from(HOSTILE) | st.integers() | st.floats() | st.text(max_size=3))
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
