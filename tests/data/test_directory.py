import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cde_nets.data
from cde_nets.data import files, load_mnist, read_idx


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("subfolder", ["", "mnist"])
@pytest.mark.parametrize("through", ["argument", "string", "variable"])
def test_loads(small, tmp_path, monkeypatch, packed, subfolder, through):
    small.write(tmp_path / "named" / subfolder, packed=packed)
    argument = {"argument": tmp_path / "named", "string": str(tmp_path / "named"), "variable": None}[through]
    if through == "variable":
        monkeypatch.setenv("CDE_NETS_DATA", str(tmp_path / "named"))
    mnist = load_mnist(argument, notify=pytest.fail)
    assert (mnist.source, mnist.detail, mnist.complete) == ("directory", str(tmp_path / "named"), True)
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (9, 3, 4)
    np.testing.assert_array_equal(mnist.test.images, read_idx(small.raw[files.TEST_IMAGES], ""))
    np.testing.assert_array_equal(mnist.test.labels, read_idx(small.raw[files.TEST_LABELS], ""))


def test_files_may_be_mixed(small, tmp_path):
    small.write(tmp_path)
    (tmp_path / files.TEST_LABELS).unlink()
    small.write(tmp_path / "mnist", packed=True)
    assert load_mnist(tmp_path).source == "directory"


def test_argument_wins_over_variable(small, tmp_path, monkeypatch):
    small.write(tmp_path)
    monkeypatch.setenv("CDE_NETS_DATA", str(tmp_path / "nowhere"))
    assert load_mnist(tmp_path).detail == str(tmp_path)


def test_each_missing_file_is_named(small, tmp_path):
    small.write(tmp_path)
    (tmp_path / files.TRAIN_IMAGES).unlink()
    (tmp_path / files.TEST_LABELS).unlink()
    with pytest.raises(ValueError, match=r"^data_dir names ") as caught:
        load_mnist(tmp_path)
    message = str(caught.value)
    assert f"{files.TRAIN_IMAGES}: found neither" in message
    assert f"{files.TEST_LABELS}: found neither" in message
    assert files.TEST_IMAGES not in message
    assert "Put the four published files there" in message


def test_truncated_file_is_named(small, tmp_path):
    small.write(tmp_path)
    path = tmp_path / files.TRAIN_LABELS
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"found 18 bytes with md5 .* expected 20 bytes") as caught:
        load_mnist(tmp_path)
    assert str(path) in str(caught.value)


def test_truncated_gzip_is_named(small, tmp_path):
    small.write(tmp_path, packed=True)
    path = tmp_path / f"{files.TRAIN_IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged gzip stream") as caught:
        load_mnist(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_altered_file_is_named(small, tmp_path, packed):
    raw = small.raw[files.TEST_IMAGES]
    small.raw[files.TEST_IMAGES] = raw[:-1] + bytes([raw[-1] ^ 1])
    small.write(tmp_path, packed=packed)
    with pytest.raises(ValueError, match=rf"{files.TEST_IMAGES}.*with md5 [0-9a-f]{{32}}, expected .* with md5"):
        load_mnist(tmp_path)


def test_longer_file_is_named(small, tmp_path):
    small.raw[files.TEST_IMAGES] += b"!"
    small.write(tmp_path)
    with pytest.raises(ValueError, match=f"{files.TEST_IMAGES}: found more than"):
        load_mnist(tmp_path)


def test_unreadable_entry_is_named(small, tmp_path):
    small.write(tmp_path)
    (tmp_path / files.TEST_IMAGES).unlink()
    (tmp_path / files.TEST_IMAGES).mkdir()
    with pytest.raises(ValueError, match=files.TEST_IMAGES):
        load_mnist(tmp_path)


def test_named_directory_never_falls_back(small, tmp_path, cache, monkeypatch):
    small.write(cache)
    assert load_mnist(offline=True).source == "cache"
    with pytest.raises(ValueError, match="there is no such directory"):
        load_mnist(tmp_path / "nowhere")
    monkeypatch.setenv("CDE_NETS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="the environment variable CDE_NETS_DATA names"):
        load_mnist()
    monkeypatch.setenv("CDE_NETS_DATA", "")
    assert load_mnist(offline=True).source == "cache"


def test_a_named_directory_needs_no_other_import(small, tmp_path):
    small.write(tmp_path)
    script = (
        "import sys; import cde_nets.data as d\n"
        "try: d.load_mnist(sys.argv[1])\n"
        "except ValueError: pass\n"
        "print(sorted({'torch', 'pooch', 'requests', 'mlxtend', 'pandas'} & set(sys.modules)))"
    )
    root = Path(cde_nets.data.__file__).parents[2]
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
