"""The picture of points on their way to targets, with fewer points."""

import json

import pytest
import torch
from typer.testing import CliRunner

import cde_nets as cn
from experiments import twenty_points


@pytest.mark.usefixtures("unchecked", "looks")
def test_the_ode_carries_the_points_that_are_drawn(tmp_path):
    ran = CliRunner().invoke(twenty_points.app, ["--points", "2", "--out", str(tmp_path), "--time-limit", "100"])
    assert ran.exit_code == 0, ran.output
    assert {file.name for file in tmp_path.iterdir()} == {f"twenty_points.{end}" for end in ("json", "png", "gif")}
    numbers = json.loads((tmp_path / "twenty_points.json").read_text())
    assert numbers["certificate"].startswith("Proved: rank 20 of 20 ")
    fields, x, y = twenty_points.task(2, 0)
    assert (numbers["points"], numbers["targets"]) == (x.tolist(), y.tolist())
    values = torch.tensor(numbers["controls"], dtype=torch.float64)
    control = cn.PiecewiseConstantControl(*values.shape, values=values)
    # By another method and far more steps.
    ode = cn.ControlledODE(fields, control, cn.RungeKutta("dopri5", steps=16 * len(values)))
    torch.testing.assert_close(numbers["lam"] * (ode(x) - x).detach(), y, rtol=0, atol=2e-8)
