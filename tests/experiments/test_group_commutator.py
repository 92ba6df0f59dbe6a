import json

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from typer.testing import CliRunner

import cde_nets as cn
from experiments import group_commutator as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch, unchecked):
    monkeypatch.setattr(experiment, "TIMES", experiment.TIMES[::2])


def points(dim, seed):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((3, dim)))


@pytest.fixture(params=("linear", "quadratic", "cubic"))
def fields(request):
    if request.param == "cubic":
        return cn.PolynomialFields.random(3, 2, 3, seed=4, dtype=torch.float64)
    return getattr(experiment, request.param)(4)


def test_the_motion_has_slope_two_the_remainder_three_and_with_the_wrong_sign_two(fields):
    row = experiment.measure("", fields, points(fields.dim, 0))
    found = experiment.slopes(row)
    assert found["motion"] == pytest.approx(2, abs=0.05)
    assert found["wrong_sign"] == pytest.approx(2, abs=0.05)
    assert found["remainder"] == pytest.approx(3, abs=0.05)
    # What the method adds is not seen beside the remainder.
    assert all(100 * error < left for error, left in zip(row.method_error, row.remainder, strict=True))
    # X_1 - x + (X_1 - x) - .. : with the wrong sign the motion is left twice.
    assert row.wrong_sign[-1] == pytest.approx(2 * row.motion[-1], rel=1e-2)
    assert (row.expm is None) == (not isinstance(fields, cn.LinearFields))


def test_of_linear_fields_the_end_is_the_product_of_matrix_exponentials():
    fields, x, t = experiment.linear(1), points(3, 1), 0.1
    A, B = fields.matrices.numpy()
    product = expm(-t * A) @ expm(-t * B) @ expm(t * A) @ expm(t * B)
    end = experiment.path(fields, x, t, 16)[-1]
    np.testing.assert_allclose(end, x.numpy() @ product.T, rtol=0, atol=1e-9)
    # The other order of the factors is another map.
    other = expm(-t * B) @ expm(-t * A) @ expm(t * B) @ expm(t * A)
    assert abs(end - x.numpy() @ other.T).max() > 1e-3


def test_what_remains_of_matrices_is_the_term_of_order_three():
    fields, x = experiment.linear(2), points(3, 2)
    A, B = fields.matrices.numpy()
    # Products of power series in t, by their coefficients.
    series = [np.eye(3), *[np.zeros((3, 3))] * 3]
    for M in (-A, -B, A, B):
        factor = [np.eye(3), M, M @ M / 2, M @ M @ M / 6]
        series = [sum(series[i] @ factor[n - i] for i in range(n + 1)) for n in range(4)]
    np.testing.assert_allclose(series[1], 0, atol=1e-14)
    np.testing.assert_allclose(series[2], A @ B - B @ A, atol=1e-13)
    third = abs(x.numpy() @ series[3].T).max()
    row = experiment.measure("", fields, x)
    assert row.remainder[-1] / experiment.TIMES[-1] ** 3 == pytest.approx(third, rel=5e-3)
    np.testing.assert_allclose(row.expm, row.remainder, rtol=2e-3)


def test_the_bracket_is_that_of_jacobians_by_autograd(fields):
    x = points(fields.dim, 3)
    V, W = (lambda z, i=i: fields.evaluate(z[None])[0, i] for i in range(2))
    for row, found in zip(x, experiment.bracket(fields, x), strict=True):
        DV, DW = (torch.func.jacrev(field)(row) for field in (V, W))
        np.testing.assert_allclose(found, (DV @ W(row) - DW @ V(row)).numpy(), rtol=1e-11, atol=1e-12)


def test_the_path_runs_along_w_then_v_and_back():
    fields, x, t = experiment.quadratic(0), points(2, 4)[:1], 0.1
    path = experiment.path(fields, x, t, 20)
    assert path.shape == (81, 1, 2)
    state = x.numpy()[0]
    for leg, (field, sign) in enumerate(((1, 1), (0, 1), (1, -1), (0, -1)), start=1):

        def velocity(_, z, field=field, sign=sign):
            return sign * fields.evaluate(torch.from_numpy(z)[None])[0, field].numpy()

        state = solve_ivp(velocity, (0, t), state, "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
        np.testing.assert_allclose(path[20 * leg, 0], state, rtol=0, atol=1e-8)


def test_numbers_figure_and_table(tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    arguments = ["--out", str(tmp_path / "out"), "--seed", "3", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "140"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "group_commutator.json").read_text())
    assert content == json.loads((tmp_path / "out" / "group_commutator.json").read_text())
    for row in content["rows"]:
        slope = np.polyfit(np.log(content["times"]), np.log(row["remainder"]), 1)[0]
        assert slope == pytest.approx(3, abs=0.05)
        assert f"{row['slopes']['remainder']:.4f}" in ran.output
    loop = content["loop"]
    moved, predicted = np.subtract(loop["end"], loop["start"])[0], loop["t"] ** 2 * np.array(loop["bracket_W_V"])
    assert moved @ predicted > 0
    assert (tmp_path / "docs" / "images" / "group_commutator.png").read_bytes()[:4] == b"\x89PNG"
