import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from experiments import backprop as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch, unchecked):
    monkeypatch.setattr(experiment, "DEPTHS", (1, 3, 7))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("head", experiment.HEADS, ids=lambda head: head.name)
def test_the_recursion_gives_the_numbers_of_autograd(head):
    assert all(experiment.difference(head, depth, 5) < 1e-13 for depth in (1, 2, 6, 20))


@pytest.mark.parametrize("head", experiment.HEADS, ids=lambda head: head.name)
def test_the_losses_are_those_of_the_lecture_with_their_minus(head):
    x, y = experiment.data(head, 0)
    _, z = experiment.forward(experiment.network(2, head.outputs, 0), x)
    z, y = z.numpy(), y.numpy()
    p = sigmoid(z) if head.outputs == 1 else np.exp(z) / np.exp(z).sum(1, keepdims=True)
    wanted = {
        "sigmoid, cross-entropy": -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(),
        "softmax, cross-entropy": -(y * np.log(p)).sum(),
        "linear, squared error": ((z - y) ** 2).sum(),
    }[head.name]
    assert float(head.loss(torch.from_numpy(z), torch.from_numpy(y))) == pytest.approx(wanted, rel=1e-12)
    assert wanted > 0


def test_the_derivatives_are_those_of_differences():
    """Without autograd: the loss in NumPy, moved in single weights."""
    head = experiment.HEADS[0]
    layers = experiment.network(2, 1, 3)
    x, y = experiment.data(head, 3)
    entering, z = experiment.forward(layers, x)
    found = experiment.recursion(layers, entering, head.delta(z, y))

    def loss(tensors):
        a = x.numpy()
        for theta, b in tensors:
            a = sigmoid(a @ theta.T + b)
        return -(y.numpy() * np.log(a) + (1 - y.numpy()) * np.log(1 - a)).sum()

    for layer in range(3):
        for which, place in ((0, (0, 2)), (1, (0,))):
            values = []
            for h in (1e-5, -1e-5):
                moved = [[t.numpy().copy() for t in pair] for pair in layers]
                moved[layer][which][place] += h
                values.append(loss(moved))
            assert float(found[layer][which][place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_node_by_node_gives_the_same_at_a_quadratic_price():
    head = experiment.HEADS[2]
    layers = experiment.network(4, head.outputs, 1)
    x, y = experiment.data(head, 1)
    entering, z = experiment.forward(layers, x)
    delta = head.delta(z, y)
    both = (way(layers, entering, delta) for way in (experiment.recursion, experiment.node_by_node))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    # 2 flops a multiply-add: forward one product a layer, back two.
    rows, m, n = experiment.ROWS, experiment.INPUTS, experiment.WIDTH
    for depth in (1, 5):
        sizes = [m * n, *[n * n] * (depth - 1), n]
        counted = experiment.flops(depth, 0)
        assert counted["the loss"] == 2 * rows * sum(sizes)
        assert counted["recursion"] == 2 * counted["the loss"]
        tails = [sum(sizes[k:]) for k in range(len(sizes))]
        assert counted["node by node"] == 4 * rows * sum(tails)


def test_with_the_printed_sign_descent_climbs():
    down, up = experiment.descend(1.0, 2), experiment.descend(-1.0, 2)
    assert down[0] == up[0]
    assert all(later < earlier for earlier, later in pairwise(down))
    assert all(later > earlier for earlier, later in pairwise(up))


def test_numbers_figure_and_page(tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "lectures.md"
    page.write_text("<!-- backprop -->\n<!-- end of backprop -->\n")
    arguments = ["--out", str(tmp_path / "out"), "--seed", "3", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "backprop.json").read_text())
    assert content == json.loads((tmp_path / "out" / "backprop.json").read_text())
    assert content["seed"] == 3
    for head, errors in content["errors"].items():
        assert max(errors) < 1e-13
        assert f"| {head} | " + " | ".join(f"{error:.1e}" for error in errors) + " |" in page.read_text()
    assert (tmp_path / "docs" / "images" / "backprop.png").read_bytes()[:4] == b"\x89PNG"
