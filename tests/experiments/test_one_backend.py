import json

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import root
from typer.testing import CliRunner

import cde_nets as cn
from experiments import one_backend as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch, bad_input):
    """Small, and without the shape checker, which would take most of the time."""
    monkeypatch.setattr(experiment, "DIM", 6)
    monkeypatch.setattr(experiment, "ROWS", 3)
    monkeypatch.setattr(experiment, "TIMES", (8, 16, 24, 32))
    monkeypatch.setattr(experiment, "LENGTHS", (8, 16, 24, 32))


@pytest.fixture
def drawn():
    return experiment.draw(5)


def nothing():
    """No progress bar."""


def by_hand(drawn):
    """z* by scipy, J there, the adjoint w and the gradient of <c, z*> in W, U and b by dense algebra, row by row."""
    W, U, b = (leaf.detach().numpy() for leaf in drawn.leaves)
    rests, jacobians, adjoints = [], [], []
    total = [np.zeros_like(part) for part in (W, U, b)]
    for x, c in zip(drawn.x.numpy(), drawn.c.numpy(), strict=True):
        z = root(lambda z, x=x: np.tanh(W @ z + U @ x + b) - z, np.zeros(len(b)), tol=1e-14).x
        J = (1 - z**2)[:, None] * W
        w = np.linalg.solve(np.eye(len(b)) - J.T, c)
        pushed = w * (1 - z**2)
        for part, more in zip(total, (np.outer(pushed, z), np.outer(pushed, x), pushed), strict=True):
            part += more
        rests.append(z)
        jacobians.append(J)
        adjoints.append(w)
    return np.array(rests), jacobians, np.array(adjoints), np.concatenate([part.ravel() for part in total])


def test_euler_with_step_one_is_picard_to_the_last_bit(drawn):
    found = experiment.identity(drawn)
    assert len(found) == 7
    assert all(found.values())
    # And would not be, were a single number another.
    statistics = drawn.rest(cn.Picard(), cn.Implicit()).statistics
    assert experiment.same(statistics, statistics)
    assert not experiment.same(statistics, drawn.rest(cn.Picard(0.9), cn.Implicit()).statistics)
    z = np.zeros((3, 6))
    W, U, b = (leaf.detach().numpy() for leaf in drawn.leaves)
    trace = drawn.rest(cn.FlowToRest("euler", step=1.0), cn.Implicit(), save_at=cn.SaveAt(steps=True)).trace.values
    for state in trace[:10]:
        np.testing.assert_allclose(state, z, atol=1e-14)
        z = np.tanh(z @ W.T + drawn.x.numpy() @ U.T + b)


def test_every_method_reaches_the_rest_point_and_gradient_of_dense_algebra(drawn):
    z, _, _, gradient = by_hand(drawn)
    reference = drawn.reference()
    np.testing.assert_allclose(reference[0], z, atol=1e-13)
    np.testing.assert_allclose(reference[1], gradient, atol=1e-12)
    rows = experiment.agreement(drawn, nothing)
    assert len(rows) == len(experiment.REST) == len({row["method"] for row in rows})
    for row, method in zip(rows, experiment.REST, strict=True):
        assert row["status"] == ["converged"]
        assert row["distance"] < 1e-11
        assert row["gradient_distance"] < 1e-10
        found = drawn.rest(method, cn.Implicit())
        np.testing.assert_allclose(found.value.detach(), z, atol=1e-11)
        np.testing.assert_allclose(drawn.gradient(found.value), gradient, rtol=0, atol=1e-10)
        assert row["first_row"][0] == pytest.approx(np.linalg.norm(z[0]))
        assert row["first_row"][-1] < 1e-11
        # On the way back the same words: products with the transpose, and no evaluation.
        assert row["backward"].keys() == row.keys() - {
            "method",
            "status",
            "backward",
            "distance",
            "gradient_distance",
            "first_row",
        }
        assert row["backward"]["products"] > row["backward"]["evaluations"] == 0


def test_the_way_back_is_one_more_linear_problem(drawn):
    _, jacobians, adjoints, _ = by_hand(drawn)
    rows = experiment.way_back(drawn, nothing)
    assert len(rows) == len(experiment.LINEAR)
    for row in rows:
        assert row["status"] == ["converged"]
        assert row["implicit_reports_the_same"]
        assert row["distance"] < 1e-11
        assert row["residual"] <= experiment.ATOL
    by_name = {row["method"]: row for row in rows}
    # w_k = sum_{i<k} (J^T)^i c leaves (J^T)^k c: the least k that is below the tolerance in every row.
    terms = drawn.c.numpy()
    for _ in range(by_name["RBP()"]["steps"] - 2):
        terms = np.stack([J.T @ term for J, term in zip(jacobians, terms, strict=True)])
    assert np.linalg.norm(terms, axis=1).max() > experiment.ATOL
    terms = np.stack([J.T @ J.T @ term for J, term in zip(jacobians, terms, strict=True)])
    assert np.linalg.norm(terms, axis=1).max() <= 1.1 * experiment.ATOL
    # By products given as matrices, w itself.
    stacked = torch.from_numpy(np.stack(jacobians))
    problem = cn.LinearProblem(lambda w: torch.einsum("rij,ri->rj", stacked, w), drawn.c)
    found = cn.solve(problem, cn.GMRES(), tolerance=cn.Tolerance(1e-30, 1e-13))
    np.testing.assert_allclose(found.value, adjoints, atol=1e-12)
    assert found.statistics.products == by_name["GMRES()"]["products"]


def test_the_flow_relaxes_with_the_rate_of_the_spectrum(drawn):
    one = drawn.first_row()
    z, jacobians, _, gradient = by_hand(one)
    found = experiment.relaxation(one, nothing)
    rate = np.linalg.eigvals(jacobians[0]).real.max() - 1
    assert found["predicted_slope"] == pytest.approx(rate, rel=1e-9)
    assert found["slope"] == pytest.approx(rate, rel=1e-3)
    # A factor that is linear in T changes the slope by no more than 1/T.
    assert found["gradient_slope"] == pytest.approx(rate, abs=1 / experiment.TIMES[2])
    # The state and its derivative by scipy, through the variational equation in b.
    W, U, b = (leaf.detach().numpy() for leaf in one.leaves)
    x, c, T = one.x.numpy()[0], one.c.numpy()[0], experiment.TIMES[0]

    def right(_, y):
        state, D = y[:6], y[6:].reshape(6, 6)
        f = np.tanh(W @ state + U @ x + b)
        return np.concatenate([f - state, ((1 - f**2)[:, None] * (W @ D + np.eye(6)) - D).ravel()])

    end = solve_ivp(right, (0, T), np.zeros(42), "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    assert found["distances"][0] == pytest.approx(np.linalg.norm(end[:6] - z[0]), rel=1e-4)
    in_b = c @ end[6:].reshape(6, 6)
    assert found["gradient_distances"][0] > np.linalg.norm(in_b - gradient[-6:])
    assert found["gradient_distances"][-1] < 1e-2 * found["gradient_distances"][0]
    problem = cn.InitialValueProblem(
        lambda t, state, *args: experiment.model(state, *args) - state, one.start, 0.0, float(T), args=one.args
    )
    method = cn.RungeKutta(experiment.FLOW, steps=experiment.STEPS_A_TIME * T)
    taken = one.gradient(cn.solve(problem, method, gradient=cn.Discrete()).value)
    np.testing.assert_allclose(taken[-6:], in_b, atol=1e-3)
    assert found["gradient_distances"][0] == pytest.approx(np.linalg.norm(taken.numpy() - gradient), rel=1e-9)


def test_iterates_and_truncated_gradients_fall_with_the_spectral_radius(drawn):
    one = drawn.first_row()
    z, (J,), _, gradient = by_hand(one)
    found = experiment.lengths(one, nothing)
    rate = np.log(abs(np.linalg.eigvals(J)).max())
    assert found["predicted_slope"] == pytest.approx(rate, rel=1e-9)
    for key in ("slope", "truncated_slope"):
        assert found[key] == pytest.approx(rate, rel=1e-2)
    assert found["unrolled_slope"] == pytest.approx(rate, abs=1 / experiment.LENGTHS[2])
    W, U, b = (leaf.detach().numpy() for leaf in one.leaves)
    x, c = one.x.numpy()[0], one.c.numpy()[0]
    for k, distance, unrolled, truncated in zip(
        found["k"], found["distances"], found["unrolled"], found["truncated"], strict=True
    ):
        states = [np.zeros(6)]
        for _ in range(k):
            states.append(np.tanh(W @ states[-1] + U @ x + b))
        assert distance == pytest.approx(np.linalg.norm(states[-1] - z[0]), rel=1e-6, abs=1e-14)
        # Back through the steps, and back through k steps that all stand at rest.
        for way, expected in ((states, unrolled), ([z[0]] * (k + 1), truncated)):
            w, parts = c, [np.zeros_like(part) for part in (W, U, b)]
            for before, after in zip(way[-2::-1], way[:0:-1], strict=True):
                pushed = w * (1 - after**2)
                for part, more in zip(parts, (np.outer(pushed, before), np.outer(pushed, x), pushed), strict=True):
                    part += more
                w = W.T @ pushed
            by_steps = np.concatenate([part.ravel() for part in parts])
            assert expected == pytest.approx(np.linalg.norm(by_steps - gradient), rel=1e-5, abs=1e-12)


def test_slopes_leave_out_rounding():
    times = tuple(range(0, 20))
    values = [3 * np.exp(-2.0 * t) + 1e-15 for t in times]
    assert experiment.slope(times, values) == pytest.approx(-2, rel=1e-3)


def test_numbers_figure_and_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "TIMES", (4, 8, 12))
    monkeypatch.setattr(experiment, "LENGTHS", (4, 8, 12))
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    arguments = ["--out", str(tmp_path / "out"), "--seed", "2", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "200"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "one_backend.json").read_text())
    assert content == json.loads((tmp_path / "out" / "one_backend.json").read_text())
    assert content["seed"] == 2
    assert f"{content['flow']['slope']:.4f}" in ran.output
    assert "to the last bit" in ran.output
    assert (tmp_path / "docs" / "images" / "one_backend.png").read_bytes()[:4] == b"\x89PNG"
