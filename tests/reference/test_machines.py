"""The same seed in other processes, on other numbers of threads and in other dtypes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

PARTS = ("float64", "float32", "training")
ONCE = Path(__file__).with_name("once.py")
RUNS = {
    "one thread": ("1", "deterministic"),
    "again": ("1", "deterministic"),
    "two threads": ("2",),
}


@pytest.fixture(scope="module")
def ran():
    """What each process found. All at once: most of a process's time is the import of torch."""
    paths = os.pathsep.join([str(ONCE.parents[2]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "2"}
    started = {
        name: subprocess.Popen([sys.executable, ONCE, *arguments], env=env, stdout=PIPE, stderr=PIPE, text=True)
        for name, arguments in RUNS.items()
    }
    ended = {name: (*process.communicate(), process.returncode) for name, process in started.items()}
    for _, complaint, code in ended.values():
        assert code == 0, complaint
    found = {name: json.loads(said) for name, (said, _, _) in ended.items()}
    assert [one["threads"] for one in found.values()] == [int(arguments[0]) for arguments in RUNS.values()]
    return found


def numbers(found, part):
    return np.array(found[part]["numbers"])


def apart(a, b):
    """The largest difference, relative to the size of all numbers together."""
    return np.abs(a - b).max() / np.sqrt(np.mean(b**2))


@pytest.mark.parametrize("part", PARTS)
def test_deterministic_mode_gives_the_same_bits_in_another_process(ran, part):
    assert ran["one thread"][part]["bits"] == ran["again"][part]["bits"]


@pytest.mark.parametrize(("part", "bound"), [("float64", 1e-12), ("float32", 1e-4), ("training", 1e-3)])
def test_threads_change_roundings_only(ran, part, bound):
    assert apart(numbers(ran["two threads"], part), numbers(ran["one thread"], part)) <= bound


def test_float32_is_float64_rounded(ran):
    """The coefficients are drawn in float64 and rounded once."""
    assert 0 < apart(numbers(ran["one thread"], "float32"), numbers(ran["one thread"], "float64")) <= 1e-4
