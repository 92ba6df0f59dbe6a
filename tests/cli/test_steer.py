"""`cde-nets steer`, as a user runs it."""

import json
import sys

import numpy as np
import pytest
import torch

import cde_nets as cn

HEISENBERG = "symbols: x y z\nV1 = 1, 0, -y/2\nV2 = 0, 1, x/2\n"


def test_random_points_arrive_and_all_is_written(command, tmp_path):
    ran = command("steer", "polynomial", "--points", "2", "--lam", "10", "--least-energy", "--out", "run")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("solved: residual ")
    assert {file.name for file in (tmp_path / "run").iterdir()} == {"result.json", "controls.png", "targets.png"}
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    values = torch.tensor(result["controls"], dtype=torch.float64)
    control = cn.PiecewiseConstantControl(*values.shape, values=values)
    fields = cn.PolynomialFields.random(2, 5, 2, seed=0, dtype=torch.float64)
    flow = cn.ControlledODE(fields, control, cn.RungeKutta(result["method"], steps=len(values) * result["substeps"]))
    x, y = (torch.tensor(result[name], dtype=torch.float64) for name in ("points", "targets"))
    torch.testing.assert_close(result["lam"] * (flow(x) - x).detach(), y, rtol=0, atol=1e-9)


def test_fields_points_and_targets_from_files(process, tmp_path):
    (tmp_path / "fields.txt").write_text(HEISENBERG)
    (tmp_path / "here.txt").write_text("0 0 0\n")
    (tmp_path / "there.txt").write_text("0, 0, 1/4\n")
    ran = process(
        "steer", "fields.txt", "--points", "here.txt", "--targets", "there.txt", "--identity", "--steps", "8",
        "--refine-to", "1e-8", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert (ran.json["rank"], ran.json["full_rank"], ran.json["method"]) == (3, 3, "tsit5")
    # On the Heisenberg group height is the area that the path in the plane goes around.
    u = np.array(ran.json["controls"])
    corners = np.concatenate([np.zeros((1, 2)), np.cumsum(u / len(u), 0)])
    area = 0.5 * sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(corners, np.roll(corners, -1, 0), strict=True))
    assert area == pytest.approx(0.25, abs=1e-8)


def test_steps_far_from_the_ode_are_told_with_the_option_that_helps(command, tmp_path):
    # x' = u x^2 is carried from 1 to 100 by four coarse steps, not by the ODE with the same control.
    (tmp_path / "fields.txt").write_text("symbols: x\nV1 = x^2\n")
    (tmp_path / "here.txt").write_text("1\n")
    (tmp_path / "there.txt").write_text("100\n")
    asked = ("steer", "fields.txt", "--points", "here.txt", "--targets", "there.txt", "--identity", "--steps", "4")
    ran = command(*asked, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["says"].endswith("ask for --refine-to 1e-06")
    helped = command(*asked, *ran.json["says"].split("ask for ")[1].split(), "--json")
    assert helped.code == 0, helped.err
    assert helped.json["refined_residual"] <= 1e-6
    # The control's mean is that of the ODE's solution 1 / (1 - mean).
    assert np.mean(helped.json["controls"]) == pytest.approx(0.99, abs=1e-8)


def test_a_proof(command):
    pytest.importorskip("flint")
    ran = command("steer", "polynomial", "--points", "2", "--lam", "20", "--steps", "8", "--prove", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["proof"]["proved"]
    assert ran.json["proof"]["says"].startswith("Proved: exact controls lie within ")


def test_a_proof_that_fails_exits_with_one_after_the_result_was_written(command, tmp_path):
    pytest.importorskip("flint")
    # Both fields point along the first axis: there the target is met, and the Jacobian has rank one.
    (tmp_path / "fields.txt").write_text("symbols: x y\nV1 = 1, 0\nV2 = 2, 0\n")
    (tmp_path / "here.txt").write_text("0 0\n")
    (tmp_path / "there.txt").write_text("1/2 0\n")
    ran = command(
        "steer", "fields.txt", "--points", "here.txt", "--targets", "there.txt", "--identity", "--prove", "--json",
        "--out", "run",
    )  # fmt: skip
    assert ran.code == 1
    assert ran.json["solved"]
    assert not ran.json["proof"]["proved"]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["proof"] == ran.json["proof"]


def test_the_controls_are_written_before_the_proof(command, tmp_path, monkeypatch):
    pytest.importorskip("flint")

    def broken(*_, **__):
        raise OSError("broken off")

    monkeypatch.setattr(cn.steer, "prove_interpolation", broken)
    ran = command(
        "steer", "polynomial", "--points", "1", "--lam", "20", "--steps", "8", "--prove", "--out", "run"
    )  # fmt: skip
    assert ran.code == 1
    assert "broken off" in ran.err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["solved"]


def test_a_proof_without_python_flint_is_refused_before_work(command, tmp_path, monkeypatch):
    # What `import flint` does where there is none.
    monkeypatch.setitem(sys.modules, "flint", None)
    ran = command("steer", "polynomial", "--prove", "--out", "run")
    assert ran.code == 2
    assert 'pip install "cde-nets[proof]"' in " ".join(ran.err.split())
    assert not (tmp_path / "run").exists()


def test_least_energy_is_less(command):
    asked = ("steer", "polynomial", "--points", "6", "--lam", "20", "--steps", "24", "--seed", "3", "--json")
    plain, short = command(*asked), command(*asked, "--least-energy")
    assert (plain.code, short.code) == (0, 0)
    assert short.json["energy"] < 0.99 * plain.json["energy"]


def test_an_ode_that_is_not_reached_exits_with_one(command, tmp_path, looks):
    (tmp_path / "fields.txt").write_text("symbols: x\nV1 = 1\nV2 = x\nV3 = x**2\n")
    (tmp_path / "here.txt").write_text("0\n0.2\n")
    (tmp_path / "there.txt").write_text("0.2\n0\n")
    ran = command(
        "steer", "fields.txt", "--points", "here.txt", "--targets", "there.txt", "--identity", "--steps", "8",
        "--refine-to", "1e-6", "--time-limit", "4", "--json",
    )  # fmt: skip
    assert ran.code == 1
    assert not ran.json["solved"]
    assert ran.json["status"] in ("COARSE", "NOT_SOLVED")


def test_an_animation(command, tmp_path):
    ran = command("steer", "polynomial", "--points", "1", "--lam", "10", "--animate", "gif", "--out", "run")
    assert ran.code == 0, ran.err
    assert (tmp_path / "run" / "flow.gif").read_bytes()[:4] == b"GIF8"
    command("steer", "polynomial", "--points", "1", "--lam", "10", "--seed", "1", "--out", "run")
    assert not (tmp_path / "run" / "flow.gif").exists(), "the animation of another flow was left"
    assert (tmp_path / "run" / "targets.png").exists()


def test_what_is_not_found_is_told_written_and_exits_with_one(process, tmp_path):
    ran = process("steer", "linear", "--points", "6", "--lam", "1", "--time-limit", "2", "--out", "run")
    assert ran.code == 1
    assert "not solved: try a larger lam" in ran.out
    assert "warning: The fields may not reach the targets. Not proved: rank 4 of 12" in ran.err
    assert not json.loads((tmp_path / "run" / "result.json").read_text())["solved"]


def test_errors_of_a_real_process_are_one_line_without_a_traceback(process, tmp_path):
    ran = process("steer", "cubic")
    assert (ran.code, ran.out) == (2, "")
    assert "'cubic' is neither a file nor a family" in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cubic"], "'cubic' is neither a file nor a family"),
        (["fields.txt", "--dim", "2"], "--dim would do nothing"),
        (["five", "--count", "3"], "--count would do nothing"),
        (["five", "--points", "here.txt"], "--targets is missing"),
        (["five", "--targets", "here.txt"], "--targets would do nothing"),
        (["five", "--points", "here.txt", "--targets", "two.txt"], "has 1 points and two.txt 2 targets"),
        (["five", "--points", "there.txt", "--targets", "here.txt"], "expected a number or a text file"),
        (["polynomial", "--lam", "-1"], "lam is -1.0, expected a positive number"),
        (["polynomial", "--lam", "1", "--identity"], "the identity readout has none"),
        (["polynomial", "--points", "8", "--steps", "1"], "1 x 5 numbers for 16"),
        (["polynomial", "--dim", "1", "--animate", "gif"], "the fields have one"),
        (["linear", "--degree", "5"], "--degree would do nothing: linear fields are of degree 1"),
        (["spherical"], "spherical fields leave |x| as it is"),
        (["five", "--points", "large.txt", "--targets", "here.txt"], "large.txt: a number in it is too large"),
        (["five", "--points", "1.5"], "--points is 1.5, expected a whole number from 1 to"),
        (["five", "--points=-3"], "--points is -3, expected a whole number from 1 to"),
        (["five", "--points", "nowhere.txt"], "'nowhere.txt', expected a number or a text file"),
        (["five", "--points", "empty.txt", "--targets", "empty.txt"], "empty.txt: there are no points in it"),
        (["polynomial", "--lam", "nan"], "lam is nan, expected a positive number"),
        (["polynomial", "--refine-to", "0"], "refine_to is 0.0, expected a positive number"),
        (["polynomial", "--refine-to", "1e-13"], "less than tolerance"),
        (["polynomial", "--time-limit", "0"], "time_limit is 0.0, expected a positive number"),
        (["polynomial", "--seed", str(2**64)], "--seed"),
    ],
)
def test_bad_input_exits_with_two(command, tmp_path, arguments, message):
    (tmp_path / "fields.txt").write_text(HEISENBERG)
    (tmp_path / "here.txt").write_text("0 1\n")
    (tmp_path / "two.txt").write_text("0 1\n1 0\n")
    (tmp_path / "large.txt").write_text("0 1e399\n")
    (tmp_path / "empty.txt").write_text("# none\n")
    before = {file.name for file in tmp_path.iterdir()}
    ran = command("steer", *arguments)
    assert ran.code == 2
    assert message in " ".join(ran.err.split())
    assert {file.name for file in tmp_path.iterdir()} <= {*before, "cache"}
