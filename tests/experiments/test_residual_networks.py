import json

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from typer.testing import CliRunner

import cde_nets as cn
from experiments import residual_networks as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch, unchecked):
    monkeypatch.setattr(experiment, "DEPTHS", (8, 16, 32, 64, 128, 256))
    monkeypatch.setattr(experiment, "SUBSTEPS", (1, 2, 16))
    monkeypatch.setattr(experiment, "EPOCHS", 60)
    monkeypatch.setattr(experiment, "SMOOTH", 4)


def test_networks_come_near_their_ode_with_order_one():
    found = experiment.by_depth(4)
    for name in ("values", "gradients"):
        assert found["slopes"][name] == pytest.approx(-1, abs=0.03)
        errors = np.array(found[name])
        np.testing.assert_allclose(errors[-3:-1] / errors[-2:], 2, rtol=0.03)


def test_the_error_is_the_distance_from_scipys_solution():
    fields, control, x = experiment.smooth(5)
    numbers = control.coefficients.detach().numpy()

    def u(t):
        # A cosine series on [0, 1], orthonormal.
        return sum(numbers[k] * np.cos(np.pi * k * t) * (np.sqrt(2) if k else 1) for k in range(len(numbers)))

    np.testing.assert_allclose(control.at(torch.tensor([0.3], dtype=torch.float64))[0].detach(), u(0.3), rtol=1e-12)
    worst = 0.0
    blocks = cn.to_residual(cn.ControlledODE(fields, control, cn.RungeKutta("euler", steps=64)))
    for row, end in zip(x, blocks(x).detach(), strict=True):

        def velocity(t, z):
            return u(t) @ fields.evaluate(torch.from_numpy(z)[None])[0].numpy()

        exact = solve_ivp(velocity, (0, 1), row.numpy(), "DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
        worst = max(worst, abs(end.numpy() - exact).max())
    assert experiment.by_depth(5)["values"][3] == pytest.approx(worst, rel=1e-6)


def test_a_trained_network_is_its_flow_and_learns():
    x, labels = experiment.moons(1)
    assert labels.sum() == len(labels) / 2
    network, readout = experiment.train(x, labels, 1)
    found = experiment.as_flow(network, readout, x, labels)
    assert found["value"] < 1e-14
    assert found["gradient"] < 1e-12
    assert found["accuracy"][0] > 0.9
    assert found["moved"][0] < 1e-14
    # By hand: the blocks' ODE in 16 steps each.
    state = x.numpy()
    for block in network:
        W, b, V, c = (p.detach().numpy() for p in block.parameters())
        for _ in range(16):
            state = state + (np.tanh(state @ W.T + b) @ V.T + c) / 16
    end = network(x).detach().numpy()
    assert found["moved"][2] == pytest.approx(np.sqrt(((state - end) ** 2).sum(1).mean()), rel=1e-10)


def test_a_flow_is_its_network():
    found = experiment.as_network(2)
    assert found["value"] < 1e-14
    assert found["gradient"] < 1e-13


def test_training_leaves_the_users_random_numbers_alone():
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    x, labels = experiment.moons(0)
    experiment.train(x, labels, 0)
    torch.testing.assert_close(torch.rand(3), wanted, rtol=0, atol=0)


def test_numbers_figure_and_page(tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "lectures.md"
    page.write_text("<!-- residual_networks -->\n<!-- end of residual_networks -->\n")
    arguments = ["--out", str(tmp_path / "out"), "--seed", "2", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "residual_networks.json").read_text())
    assert content == json.loads((tmp_path / "out" / "residual_networks.json").read_text())
    assert f"| {content['depth']['slopes']['values']:.3f} |" in page.read_text()
    assert (tmp_path / "docs" / "images" / "residual_networks.png").read_bytes()[:4] == b"\x89PNG"
