"""Draws on a real cluster of two workers, one of which dies: the same draws, the same outcome."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import typer
from joblib import parallel_config
from typer.testing import CliRunner

from experiments import few_fields
from experiments.cluster import workers
from theory import MonomialProgram, generic, monomial_exponents

distributed = pytest.importorskip("distributed", reason='needs the extra dask: pip install "cde-nets[dask]"')
# Of a worker that is killed on purpose.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as made:
        yield made


def killing(flag):
    """A family that kills the process at its third draw there, once: the flag is a file that says so."""

    # A function within another goes to the workers by value: they do not import tests.
    def family(seed):
        draws = Path(f"{flag}-{os.getpid()}")
        with draws.open("a") as file:
            file.write(".")
        if draws.stat().st_size == 3 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        # Of one seed in three nothing is proved: one linear field.
        if seed % 3 == 0:
            return MonomialProgram([[1, 0], [0, 1]], [[[1, 2], [3, 4]]])
        exponents = monomial_exponents(2, 2)
        return MonomialProgram(exponents, np.random.default_rng(seed).standard_normal((3, 2, len(exponents))))

    return family


def test_a_killed_worker_loses_no_draw(cluster, tmp_path):
    family = killing(tmp_path / "killed")
    with distributed.Client(cluster) as client, parallel_config(backend="dask", client=client):
        found = generic(family, 9, points=3, seed=1, jobs=-1)
    processes = {path.name for path in tmp_path.glob("killed-*")}
    assert (tmp_path / "killed").exists(), "a worker was killed"
    assert len(processes) >= 2, "both workers drew"
    assert f"killed-{os.getpid()}" not in processes
    # Serially, with the flag set: nobody is killed.
    assert found == generic(family, 9, points=3, seed=1)
    assert 0 < found.certified < 9


def test_the_command_s_draws_are_those_of_a_serial_run(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(few_fields, "DIMS", (2,))
    monkeypatch.setattr(few_fields, "COUNTS", (3,))
    ran = CliRunner().invoke(
        few_fields.app, ["--trials", "3", "--out", str(tmp_path), "--dask", cluster.scheduler_address]
    )
    assert ran.exit_code == 0, ran.output
    rows = json.loads((tmp_path / "few_fields.json").read_text())["rows"]
    assert rows[0] == few_fields.measure(2, 3, trials=3, seed=0, seconds=60.0, jobs=1)
    assert rows[0]["trials"] == 3


def test_an_address_where_nobody_answers_is_refused(monkeypatch):
    monkeypatch.setattr("experiments.cluster.SECONDS", 0.2)
    with pytest.raises(typer.BadParameter, match="no scheduler answers"), workers("tcp://127.0.0.1:9"):
        pass
