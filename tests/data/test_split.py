import numpy as np
import pytest

from cde_nets.data import Dataset, files, load_mnist, read_idx


def rows(*datasets):
    return sorted(
        image.tobytes() + bytes([label]) for d in datasets for image, label in zip(d.images, d.labels, strict=True)
    )


def test_split_is_the_documented_permutation(small, tmp_path):
    small.write(tmp_path)
    mnist = load_mnist(tmp_path, split_seed=7)
    order = np.random.Generator(np.random.PCG64(7)).permutation(12)
    images, labels = read_idx(small.raw[files.TRAIN_IMAGES], ""), read_idx(small.raw[files.TRAIN_LABELS], "")
    np.testing.assert_array_equal(mnist.train.images, images[order[:9]])
    np.testing.assert_array_equal(mnist.train.labels, labels[order[:9]])
    np.testing.assert_array_equal(mnist.validation.images, images[order[9:]])
    np.testing.assert_array_equal(mnist.validation.labels, labels[order[9:]])


def test_seeds_change_the_split_only(small, tmp_path):
    small.write(tmp_path)
    first, again, other = (load_mnist(tmp_path, split_seed=seed) for seed in (0, 0, 1))
    assert rows(first.validation) == rows(again.validation)
    assert rows(first.validation) != rows(other.validation)
    assert rows(first.train, first.validation) == rows(other.train, other.validation)
    assert rows(first.test) == rows(other.test)


def test_negative_seed(tmp_path):
    with pytest.raises(ValueError, match="split_seed: found -1"):
        load_mnist(tmp_path, split_seed=-1)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 28, 27), np.uint8), np.zeros(3, np.uint8), r"images: found uint8 \(3, 28, 27\), expected uint8"),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(2, np.uint8), r"expected uint8 \(2, 28, 28\)"),
        (np.zeros((3, 28, 28), np.float32), np.zeros(3, np.uint8), "images: found float32"),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.int64), "labels: found int64"),
    ],
)
def test_dataset_checks_its_shapes(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Dataset(images, labels)


@pytest.mark.full_data
def test_published_data(full_mnist):
    mnist = full_mnist
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (55_000, 5_000, 10_000)
    labels = np.concatenate([mnist.train.labels, mnist.validation.labels])
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
