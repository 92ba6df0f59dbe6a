"""The pieces of the benchmark, each against something that is not the benchmark."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from rich.table import Table
from scipy.integrate import solve_ivp
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.flows import needs, uneven
from benchmarks.flows.flops import flops
from benchmarks.flows.machine import Machine, Meter
from benchmarks.flows.record import Adapted, Adaptive, Fixed, Held, Record, Timed
from benchmarks.flows.report import rich, sheets
from benchmarks.flows.rows import ROWS, Row, chosen, draw
from benchmarks.flows.sides import DisagreementError, agree
from benchmarks.flows.timing import Spread, interleaved, spread
from benchmarks.page import markdown


def test_flops_by_hand():
    # 5 states times three 2 x 2 matrices: 60 multiplications and as many additions a step, 4 steps.
    assert flops(Row("ridge", 2, 3, 4, 5), gradient=False) == 480
    assert flops(Row("ridge", 2, 3, 4, 5), gradient=True) == 3 * 480


def test_flops_of_polynomials_are_those_that_torch_counts():
    row = Row("polynomial", 3, 4, 2, 6)
    given = draw(row)
    values, x = given.values.requires_grad_(), given.x.requires_grad_()
    A = given.fields.coefficients.flatten(1)
    with FlopCounterMode(display=False) as forward:
        for u in values:
            x = x + (given.fields.features(x) @ (u[None] @ A).reshape(3, 10).mT) / 2
    with FlopCounterMode(display=False) as backward:
        x.sum().backward()
    assert flops(row, gradient=False) == forward.get_total_flops()
    assert flops(row, gradient=True) == forward.get_total_flops() + backward.get_total_flops()


def test_rows_are_named_and_chosen():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert chosen([], names) == names
    assert chosen(["784"], names) == ["ridge-784-7-20-256"]
    with pytest.raises(ValueError, match="polinomial"):
        chosen(["polinomial"], names)


def test_quartiles_are_numpys():
    samples = [0.004, 0.001, 0.01, 0.002, 0.003]
    lower, median, upper = 1e3 * np.percentile(samples, [25, 50, 75])
    assert dataclasses.astuple(spread(samples)) == pytest.approx((median, lower, upper))
    assert spread([0.5]) == Spread(500.0, 500.0, 500.0)


def test_sides_take_turns():
    order = []
    times = interleaved([lambda: order.append("a"), lambda: order.append("b")], 3, least=0.0)
    assert len(times) == 2
    # Two calls each to see how long they take; then, by turns, one untimed and one timed.
    assert "".join(order) == "aabb" + "aabb" * 3


def test_what_differs_is_no_row():
    ours = np.array([3.0, 4.0])
    assert agree("peer", "end", np.array([3.0, 4.05]), ours, 0.02) == pytest.approx(0.01)
    with pytest.raises(DisagreementError, match="peer: its end is"):
        agree("peer", "end", np.array([3.0, 4.5]), ours, 0.02)
    with pytest.raises(DisagreementError):
        agree("peer", "end", ours * float("nan"), ours, 0.02)
    with pytest.raises(ValueError, match="same row"):
        agree("peer", "end", ours[:1], ours, 0.02)


@pytest.mark.parametrize("problem", uneven.problems(3), ids=lambda problem: problem.name)
def test_references_of_uneven_problems(problem):
    """Against an implicit method, and the gradient against central differences of it."""

    def end(theta):
        def rate(t, z):
            return problem.field(np, z.reshape(problem.z.shape), theta).reshape(-1)

        found = solve_ivp(rate, (0.0, problem.end), problem.z.reshape(-1), method="LSODA", rtol=1e-11, atol=1e-12)
        return found.y[:, -1].reshape(problem.z.shape)

    def loss(theta):
        # mu is a state whose end is its start.
        return float((end(theta) ** 2).sum())

    states, gradient = problem.reference()
    np.testing.assert_allclose(states, end(problem.theta), rtol=1e-6, atol=1e-8)
    width = 1e-4
    slopes = [(loss(problem.theta + e) - loss(problem.theta - e)) / (2 * width) for e in width * np.eye(2)]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=1e-5)


def test_the_family_of_the_cubic_is_its_field():
    problem = uneven.cubic(5)
    z, theta = torch.from_numpy(problem.z), torch.from_numpy(problem.theta)
    torch.testing.assert_close(problem.fields.velocity(z, theta), problem.field(torch, z, theta))


def _record():
    time = Spread(1.5, 1.25, 1.75)
    machine = Machine("a processor", ("avx2",), 2, 1, 0.5, "Linux", {"torch": "2"}, 100.0, 10.0)
    fixed = Fixed(
        "ridge-2-3-4-5", True, 1440, (Timed("ours", "-", time, 0.0), Timed("peer", "w", time, 1e-6, True, 2.5))
    )
    adaptive = Adaptive(
        "adaptive-cubic",
        (Adapted("ours", "PI", time, 7, 21, 1e-6, 1e-6), Adapted("peer", "I", time, 9, 36, 1e-6, float("nan"), 1.0)),
    )
    return Record(
        "2026-01-01", 3, machine, (fixed,), (adaptive,), (Held("ours", "ridge", 2.0, 300.0, time),), ("scan",)
    )


def test_a_record_is_read_back():
    record = _record()
    text = record.to_json()
    # NaN differs from itself: compared as text.
    assert Record.from_json(text).to_json() == text
    assert dataclasses.replace(Record.from_json(text), adaptive=()) == dataclasses.replace(record, adaptive=())
    content = json.loads(text)
    assert set(content) == {"date", "repeats", "machine", "fixed", "adaptive", "memory", "peers"}
    assert {"processor", "vectors", "threads", "versions", "gflops", "gbytes", "load"} <= set(content["machine"])
    assert content["fixed"][0]["sides"][1]["time"] == {"median": 1.5, "lower": 1.25, "upper": 1.75}


def test_tables_say_what_is_wrong():
    fixed, adaptive, memory = sheets(_record())
    # 1440 operations in 1.5 ms.
    assert fixed.rows[0][-1] == "0.0 GFLOP/s, 0%"
    assert "1.50 (1.25 .. 1.75)" in fixed.rows[0]
    # A gradient that is NaN is wrong.
    assert "wrong" in adaptive.rows[1]
    assert memory.rows[0][2] == "2"
    assert rich(adaptive).row_count == 2


def test_a_table_in_markdown():
    table = Table("a", "|x|", title="Of two columns")
    table.add_row("1", "2")
    assert markdown(table).splitlines() == ["Of two columns.", "", "| a | \\|x\\| |", "| --- | ---: |", "| 1 | 2 |"]


def test_the_meter_measures():
    meter = Meter()
    meter.sample(1)
    assert meter.gflops > 0.1
    assert meter.gbytes > 0.1


def test_missing_peers_are_named_before_work(monkeypatch):
    monkeypatch.setattr(needs, "find_spec", lambda name: None if name in ("jax", "diffrax") else object())
    with pytest.raises(needs.MissingPeerError, match=r'pip install "cde-nets\[bench\]".*--peers torchdiffeq') as caught:
        needs.require(["torchdiffeq", "diffrax", "scan"])
    assert "diffrax, jax" in str(caught.value)
    needs.require(["torchdiffeq", "torchode"])
    with pytest.raises(ValueError, match="no peer 'torchdifeq'"):
        needs.require(["torchdifeq"])
    result = CliRunner().invoke(app, ["--peers", "diffrax"], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exit_code == 2
    assert "cde-nets[bench]" in result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rows", "nothing"], "No row's name contains"),
        (["--publish", "docs", "--rows", "ridge"], "leave --rows out"),
        (["--publish", "nowhere"], "speed.md must hold"),
    ],
)
def test_what_cannot_be_done_is_refused(options, words):
    result = CliRunner().invoke(app, ["--peers", "none", *options], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exit_code == 2
    assert words in result.output
