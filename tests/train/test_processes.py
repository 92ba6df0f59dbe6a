"""Several processes train as one: shares of batches, then real processes under torchrun, one of them killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cde_nets.data import MNIST
from cde_nets.train.batches import Batches
from cde_nets.train.moves import Moves
from cde_nets.train.processes import Processes

# Batches of which neither process can have half.
OPTIONS = ("--epochs", "6", "--count", "8", "--intervals", "1,1", "--learning-rate", "0.1", "--batch-size", "21")
# The command on made images, without pictures, and in double precision, so that another order of sums is told from
# another sum. Where it is asked to, the second process kills itself within the third of six epochs, once.
SCRIPT = """
import os, signal
import numpy as np, torch
import cde_nets.data
from cde_nets.cli import main, train
from cde_nets.data import MNIST, Dataset

made = np.load("data.npz")
parts = (Dataset(made[f"{part}_images"], made[f"{part}_labels"]) for part in ("train", "validation", "test"))
data = MNIST(*parts, "made", "waves", complete=False)
cde_nets.data.load_mnist = lambda folder, notify, offline: data
train._draw = lambda run, data: []
torch.set_default_dtype(torch.float64)

if "KILL" in os.environ and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    from cde_nets.train import EigenbasisAdam
    step, taken = EigenbasisAdam.step, []

    def killed(self):
        taken.append(1)
        if len(taken) == 22:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self)

    EigenbasisAdam.step = killed
main()
"""


@pytest.mark.parametrize(("rows", "count"), [(10, 3), (7, 7), (201, 2), (1000, 8)])
def test_shares_are_all_rows_once_in_order_and_nearly_equal(rows, count):
    shares = [np.arange(rows)[Processes(rank, count).share(rows)] for rank in range(count)]
    assert np.array_equal(np.concatenate(shares), np.arange(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("moves", [Moves(shift=1.0), Moves(turn=20.0, scale=0.1, shear=0.1, shift=0.5, bend=1.0)])
def test_an_image_is_moved_alike_whichever_process_has_it(moves):
    images = torch.rand(17, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(17)
    whole = list(Batches(images, labels, 5, moves, 3).epoch(2, 1))
    parts = [list(Batches(images, labels, 5, moves, 3, Processes(rank, 2)).epoch(2, 1)) for rank in range(2)]
    assert len(whole) == 2
    for (moved, named), *shared in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([names for _, names in shared]), named)
        torch.testing.assert_close(torch.cat([some for some, _ in shared]), moved, rtol=0, atol=1e-6)


def test_more_processes_than_images_of_a_batch_are_refused():
    with pytest.raises(ValueError, match="batch_size=2 leaves some of 3 processes"):
        Batches(torch.zeros(9, 8, 8), torch.arange(9), 2, Moves(), 0, Processes(0, 3))


def torchrun(folder: Path, data: MNIST, restarts: int = 0, **env: str) -> subprocess.Popen[str]:
    """`cde-nets train mnist` by two processes, in a session of their own, so that all can be ended."""
    (folder / "script.py").write_text(SCRIPT)
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    np.savez(folder / "data.npz", **{f"{name}_images": part.images for name, part in parts.items()},
             **{f"{name}_labels": part.labels for name, part in parts.items()})  # fmt: skip
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts))
    return subprocess.Popen(
        [sys.executable, *launcher, "script.py", "train", "mnist", *OPTIONS, "--out", "run", "--json"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it said; whatever happens, none of its processes is left."""
    try:
        return process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def two(tmp_path_factory, waves):
    """A run of two processes: its folder, what was said, the exit code."""
    folder = tmp_path_factory.mktemp("two")
    process = torchrun(folder, waves)
    return folder, *ended(process), process.returncode


@pytest.fixture
def double():
    """Double precision in this process, too."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_two_processes_train_as_one_does_and_the_first_alone_speaks(two, waves, double, command, monkeypatch, tmp_path):
    folder, out, said, code = two
    assert code == 0, said
    monkeypatch.setattr("cde_nets.data.load_mnist", lambda folder, notify, offline: waves)
    monkeypatch.setattr("cde_nets.cli.train._draw", lambda run, data: [])
    one = command("train", "mnist", *OPTIONS, "--out", "run", "--json").json
    together = json.loads(out)
    assert said.count("data: made, waves") == said.count("epoch   6/6") == 1
    assert (one["processes"], together["processes"]) == (1, 2)
    assert one["test_accuracy"] == together["test_accuracy"]
    expected, found = (load_file(place / "run" / "network.safetensors") for place in (tmp_path, folder))
    for name in expected:
        assert expected[name].dtype == torch.float64
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-9)


def test_a_killed_process_is_started_again_and_the_run_ends_with_the_same_numbers(two, waves, tmp_path):
    process = torchrun(tmp_path, waves, restarts=1, KILL="yes")
    out, said = ended(process)
    assert process.returncode == 0, said
    assert "exitcode: -9" in said, "torchrun saw it die"
    assert said.count("trained numbers") == 2, "the command was given twice"
    # The second time it took up the run where it stood instead of refusing its folder.
    assert [said.count(f"epoch   {number}/6") for number in (1, 2, 3, 6)] == [1, 1, 1, 1]
    expected, found = (load_file(place / "run" / "network.safetensors") for place in (two[0], tmp_path))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert json.loads(out)["processes"] == 2


def test_a_run_under_torchrun_is_to_be_found_again(command, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "1")
    done = command("train", "mnist", *OPTIONS)
    assert done.code == 2
    assert "--out" in done.err
