"""`cde-nets check`, as a user runs it."""

import json

import pytest

from theory.checker import check

TEXT = "symbols: x y\nV1 = y, -x\nV2 = x^2, 1\nV3 = x*y, 0.5\n"


@pytest.fixture
def text(tmp_path):
    (tmp_path / "fields.txt").write_text(TEXT)
    return "fields.txt"


def test_a_file_at_points_of_a_file(command, text, tmp_path):
    (tmp_path / "points.txt").write_text("# three\n0, 1\n1/3 0.5\n-2 0\n")
    ran = command("check", text, "--points", "points.txt", "--out", "c.json")
    assert ran.code == 0, ran.err
    assert "Proved: rank 6 of 6 modulo" in ran.out
    assert "the 3-point condition holds there" in ran.out
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["data"]["points"][1] == ["1/3", "1/2"]
    assert check(content).startswith("checked: rank 6 of 6")


def test_a_family_by_name_for_every_n(command):
    ran = command("check", "five", "--dim", "2", "--universal", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["claim"], ran.json["scope"], ran.json["proved"]) == ("universal", "polynomial", True)


def test_what_is_not_proved_exits_with_one_and_says_so(command):
    ran = command("check", "linear", "--dim", "3", "--points", "6")
    assert ran.code == 1
    assert "Not proved: rank 9 of 18 with 3 primes" in ran.out


def test_the_words_of_a_proof(command):
    ran = command("check", "two", "--dim", "2", "--points", "2", "--words")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[2:] == ["V_1", "V_2", "[V_1, V_2]", "[V_1, [V_1, V_2]]"]
    ran = command("check", "two", "--dim", "2", "--points", "2", "--words", "--json")
    assert ran.json["words"] == [[0], [1], [0, 1], [0, 0, 1]]


def test_two_fields_are_universal(command):
    ran = command("check", "two", "--dim", "2", "--universal")
    assert ran.code == 0, ran.err
    assert "combine, exactly over the rationals, to 5 fields" in ran.out


def test_brackets_in_latex(command, text):
    ran = command("check", text, "--latex", "2")
    assert ran.code == 0
    assert r"\left[V_{1}, V_{2}\right] &= \left(2 x_{1} x_{2} - 1, x_{1}^{2}\right) \\" in ran.out


def test_errors_of_a_real_process_are_one_line_without_a_traceback(process):
    ran = process("check", "polynomal")
    assert (ran.code, ran.out) == (2, "")
    assert "neither a file nor a family; did you mean 'polynomial'?" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["polynomal"], "neither a file nor a family; did you mean 'polynomial'?"),
        (["five", "--points", "nowhere"], "--points is 'nowhere', expected a number or a text file"),
        (["five", "--universal", "--words"], "--words would do nothing: --universal is about all points"),
        (["five", "--universal", "--points", "3"], "--points would do nothing: --universal is about all points"),
        (["five", "--count", "3"], "--count would do nothing: five fields of degree 2 are explicit"),
        (["five", "--max-degree", "3"], "--max-degree would do nothing: it goes with --universal"),
        (["five", "--stage", "1"], "--stage would do nothing: it is of a network"),
        (["mnist-750", "--latex", "2"], "--latex would do nothing: brackets of a network's fields have thousands"),
        (["five", "--latex", "2", "--json"], "--json would do nothing: --latex prints brackets"),
        (["five", "--out", "nowhere/c.json"], "--out nowhere/c.json: there is no folder"),
        (["five", "--points", "0"], "--points is 0, expected 1 to 100,000"),
    ],
)
def test_bad_input_is_one_line(command, arguments, words):
    ran = command("check", *arguments)
    assert ran.code == 2
    assert words in ran.err.replace("\n", " ")
    assert "Traceback" not in ran.err


def test_the_stage_of_a_trained_network_at_test_images(monkeypatch, tmp_path, waves):
    import torch

    import cde_nets as cn
    from cde_nets.cli import check as command_module
    from cde_nets.cli.inputs import network_named

    config = cn.ImageNetworkConfig(channels=10, count=60, intervals=(1, 1, 1), seed=0)
    network = cn.image_network(config)
    cn.save_network(tmp_path / "network.safetensors", network, config)
    monkeypatch.setattr(command_module, "load", lambda data_dir, offline: waves)
    flow, x = command_module._stage(tmp_path / "network.safetensors", None, "3", None)
    assert (flow.dim, flow.count, flow.manifold, x.shape) == (90, 60, "sphere", (3, 90))
    images = torch.from_numpy(waves.test.images[:3]).float() / 255
    with torch.no_grad():
        want = network.start(images)
        for stage in network.flow_stages()[:2]:
            want = stage(want)
    assert torch.equal(x, want)
    # A run's folder stands for its network.
    assert network_named(str(tmp_path)) == str(tmp_path / "network.safetensors")
    with pytest.raises(ValueError, match="--stage is 4; the network has 3 stages"):
        command_module._stage(tmp_path / "network.safetensors", 4, "3", None)
    with pytest.raises(ValueError, match="expected a number of test images"):
        command_module._stage(tmp_path / "network.safetensors", 3, "points.txt", None)


def test_a_certificate_is_proved_again(command, text, tmp_path):
    assert command("check", text, "--universal", "--out", "c.json").code == 0
    ran = command("check", "c.json", "--seed", "5", "--json")
    assert ran.code == 0, ran.err
    first = json.loads((tmp_path / "c.json").read_text())
    assert ran.json["digest"] == first["digest"]
    assert ran.json["runs"][-1]["prime"] != first["runs"][-1]["prime"]
    # With none given it is drawn: nobody who made the certificate could know it.
    ran = command("check", "c.json", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["runs"][-1]["prime"] != first["runs"][-1]["prime"]
    first["data"]["fields"]["coefficients"][0][0][0] = "7"
    (tmp_path / "c.json").write_text(json.dumps(first))
    ran = command("check", "c.json")
    assert ran.code == 2
    assert "the data have changed since this certificate was made" in ran.err.replace("\n", " ")
    ran = command("check", "c.json", "--dim", "3")
    assert "--dim would do nothing: a certificate says itself what it is about" in ran.err.replace("\n", " ")


def test_the_largest_degree_is_the_users(command):
    ran = command("check", "polynomial", "--dim", "2", "--count", "2", "--universal", "--max-degree", "4")
    assert ran.code == 1
    assert "degrees up to 4 were tried" in ran.out.replace("\n", " ")


def test_networks_that_come_with_the_package_are_known_by_name(command, monkeypatch, waves, tmp_path):
    import cde_nets as cn
    from cde_nets.cli import check as command_module
    from cde_nets.cli.inputs import network_named

    path = network_named("mnist-100")
    assert torch_numbers(cn.load_network(path)[0]) == torch_numbers(cn.load_network("mnist-100")[0])
    monkeypatch.setattr(command_module, "load", lambda data_dir, offline: waves)
    checked = command("check", "mnist-100", "--points", "2", "--stage", "3", "--json")
    assert checked.code == 0, checked.err
    assert checked.json["points"] == 2
    # A file of that name goes before it, and what is neither is told as before.
    (tmp_path / "mnist-100").write_text("symbols: x\nV1 = x\n")
    monkeypatch.chdir(tmp_path)
    assert network_named("mnist-100") == "mnist-100"
    assert network_named("mnist-101") == "mnist-101"


def torch_numbers(network):
    return [parameter.tolist() for parameter in network.parameters()]
