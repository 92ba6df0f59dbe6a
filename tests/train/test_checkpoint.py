import json

import pytest
import torch
from safetensors.torch import save_file

import cde_nets as cn
from cde_nets.pretrained import pretrained_path
from cde_nets.train.checkpoint import NETWORK, save_tensors

SMALL = cn.ImageNetworkConfig(channels=10, intervals=(1, 1), count=20, seed=4)


@pytest.fixture
def stored(tmp_path):
    network = cn.image_network(SMALL)
    path = tmp_path / "network.safetensors"
    cn.save_network(path, network, SMALL, {"note": "kept"})
    return network, path


def test_a_network_comes_back_bit_for_bit(stored):
    network, path = stored
    again, about = cn.load_network(path)
    images = torch.rand(3, 28, 28)
    assert torch.equal(network(images), again(images))
    assert again.frozen_digest() == network.frozen_digest()
    assert about["note"] == "kept"


def test_the_default_network_is_a_few_kilobytes(tmp_path):
    config = cn.ImageNetworkConfig()
    path = tmp_path / "n.safetensors"
    cn.save_network(path, cn.image_network(config), config)
    assert path.stat().st_size < 8_000


def test_every_flipped_byte_is_noticed_or_harmless(stored):
    """A flipped bit anywhere gives an error that names the file, never another network."""
    network, path = stored
    whole = path.read_bytes()
    images = torch.rand(2, 28, 28)
    expected = network(images)
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        named, again = True, None
        try:
            again, _ = cn.load_network(path)
        except ValueError as error:
            named = str(path) in str(error)
        assert named
        assert again is None or torch.equal(again(images), expected)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_a_truncated_file_is_named(stored, keep):
    _, path = stored
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged"):
        cn.load_network(path)


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="No checkpoint at"):
        cn.load_network(tmp_path / "nowhere.safetensors")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="No checkpoint at"):
        cn.load_network(tmp_path)


def test_somebody_elses_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of the kind"):
        cn.load_network(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(ValueError, match="another file"):
        cn.load_network(path)


def test_the_numbers_of_another_network(tmp_path):
    other = cn.image_network(cn.ImageNetworkConfig(channels=10, intervals=(1, 1), count=21))
    path = tmp_path / "n.safetensors"
    about = {"config": SMALL.to_dict(), "frozen_digest": other.frozen_digest()}
    save_tensors(path, NETWORK, dict(other.named_parameters()), about)
    with pytest.raises(ValueError, match="another network"):
        cn.load_network(path)


def test_frozen_fields_that_come_out_different(tmp_path):
    network = cn.image_network(SMALL)
    path = tmp_path / "n.safetensors"
    about = {"config": SMALL.to_dict(), "frozen_digest": "0" * 64}
    save_tensors(path, NETWORK, dict(network.named_parameters()), about)
    with pytest.raises(ValueError, match="frozen fields drawn here differ"):
        cn.load_network(path)


def test_a_failed_write_keeps_the_old_file(stored, monkeypatch):
    network, path = stored
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        cn.save_network(path, network, SMALL)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_description_is_json_and_nothing_is_pickled(stored):
    _, path = stored
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["about"])["config"] == SMALL.to_dict()


def test_a_configuration_of_another_network_is_refused_on_saving(stored):
    network, path = stored
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another network"):
        cn.save_network(path, network, cn.ImageNetworkConfig())
    with pytest.raises(ValueError, match="another dtype"):
        cn.save_network(path, network.double(), SMALL)
    assert path.read_bytes() == before


def test_networks_that_come_with_the_package_are_loaded_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("cde_nets.pretrained._FOLDER", tmp_path)
    network = cn.image_network(SMALL)
    for name in ("mnist-750", "mnist-10000", "mnist-100"):
        cn.save_network(tmp_path / f"{name}.safetensors", network, SMALL)
    assert cn.pretrained_networks() == ["mnist-100", "mnist-750", "mnist-10000"]
    again, _ = cn.load_network("mnist-750")
    assert again.frozen_digest() == network.frozen_digest()
    with pytest.raises(ValueError, match="is called 'mnist-75'; there are mnist-100, mnist-750, mnist-10000"):
        pretrained_path("mnist-75")
    with pytest.raises(ValueError, match=r"No checkpoint at mnist-75: .*, or one of mnist-100, mnist-750"):
        cn.load_network("mnist-75")


def test_every_network_of_the_package_can_be_drawn_again_here():
    for name in cn.pretrained_networks():
        network, about = cn.load_network(name)
        assert network.trained_numbers <= int(name.rpartition("-")[2])
        assert about["result"]["test_accuracy"] > 0.8
