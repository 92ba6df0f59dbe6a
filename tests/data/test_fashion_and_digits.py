"""Data of MNIST's form from elsewhere: Fashion-MNIST's files and scikit-learn's digits."""

import gzip
import struct
import sys

import numpy as np
import pytest

from cde_nets.data import load_digits, load_fashion_mnist


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """Files of Fashion-MNIST's sizes, all black but for the number of the image in its first pixels."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "fashion").mkdir()
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, 0], images[:, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
        (folder / "fashion" / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / "fashion" / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return folder


@pytest.mark.parametrize("below", ["", "fashion"])
def test_fashion_is_read_and_split_as_mnist_is(fashion, below):
    data = load_fashion_mnist(fashion / below, split_seed=3)
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    assert (data.source, data.complete) == ("directory", True)
    order = np.random.Generator(np.random.PCG64(3)).permutation(60_000)
    found = data.train.images[:, 0, 0].astype(int) * 256 + data.train.images[:, 0, 1]
    assert np.array_equal(found, order[:55_000])
    assert np.array_equal(data.train.labels, order[:55_000] % 10)


def test_the_directory_may_be_named_by_the_variable(fashion, monkeypatch):
    monkeypatch.setenv("CDE_NETS_DATA", str(fashion))
    assert len(load_fashion_mnist().test) == 10_000


def test_without_a_directory_nothing_is_fetched(monkeypatch):
    monkeypatch.delenv("CDE_NETS_DATA", raising=False)
    with pytest.raises(ValueError, match=r"not fetched: name a directory that holds its four files \(data_dir, or CDE"):
        load_fashion_mnist()


def test_missing_files_and_mnist_itself_are_refused(fashion, tmp_path):
    with pytest.raises(ValueError, match=r"data_dir names .*: found neither train-images-idx3-ubyte nor"):
        load_fashion_mnist(tmp_path)
    for file in (fashion / "fashion").iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    labels = (np.arange(60_000) % 10).astype(np.uint8)
    labels[0] = 1
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(ValueError, match=r"found 28 x 28 images, of the classes \[5999, 6001, .*not Fashion-MNIST"):
        load_fashion_mnist(tmp_path)


def test_a_truncated_file_is_refused(fashion, tmp_path):
    for file in (fashion / "fashion").iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    whole = (fashion / "fashion" / "t10k-images-idx3-ubyte").read_bytes()
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="the file is truncated"):
        load_fashion_mnist(tmp_path)


def test_digits_are_scikit_learn_s_in_bytes():
    datasets = pytest.importorskip("sklearn.datasets")
    data, bunch = load_digits(split_seed=1), datasets.load_digits()
    assert (len(data.train), len(data.validation), len(data.test)) == (1200, 200, 397)
    assert np.array_equal(data.test.labels, bunch.target[1400:])
    np.testing.assert_allclose(data.test.images / 255, bunch.images[1400:] / 16, atol=0.5 / 255)
    assert not np.array_equal(data.train.labels, load_digits(split_seed=2).train.labels)


def test_without_scikit_learn_the_digits_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install .cde-nets\[sklearn\]"):
        load_digits()
