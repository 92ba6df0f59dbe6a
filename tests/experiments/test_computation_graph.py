import json
import math

import numpy as np
import pytest
import sympy
import torch
from typer.testing import CliRunner

from experiments import computation_graph as experiment
from experiments.computation_graph import Affine, Function, Graph, Product


def gradient(graph, inputs):
    return experiment.reverse(graph, experiment.evaluate(graph, inputs)).numbers[: len(inputs)]


def test_the_lectures_trace():
    graph, inputs = experiment.EXAMPLES[0]
    values = experiment.evaluate(graph, inputs)
    adjoints = experiment.reverse(graph, values).numbers
    # As printed in the lecture, to its digits.
    assert [round(v, 3) for v in values[2:]] == [0.693, 10.0, -0.959, 10.693, 11.652]
    assert [round(v, 3) for v in adjoints] == [5.5, 1.716, 1.0, 1.0, -1.0, 1.0, 1.0]
    assert adjoints[1] == pytest.approx(2 - math.cos(5), rel=1e-15)


def test_the_second_graph_is_sympys():
    w = sympy.symbols("w1:3")
    r = 3 * w[0] / w[1] - sympy.exp(2 * w[1])
    f = (sympy.sin(2 * sympy.pi * w[0] / w[1]) + r) * r
    graph, _ = experiment.EXAMPLES[1]
    for inputs in ((0.7, 0.5), (-1.2, 0.3), (2.0, -1.5)):
        at = dict(zip(w, inputs, strict=True))
        assert experiment.evaluate(graph, inputs)[-1] == pytest.approx(float(f.subs(at)), rel=1e-13)
        wanted = [float(f.diff(symbol).subs(at)) for symbol in w]
        np.testing.assert_allclose(gradient(graph, inputs), wanted, rtol=1e-12)


def drawn(seed):
    """A random graph of all three types, which uses variables again."""
    rng, steps = np.random.default_rng(seed), []
    for t in range(3, 20):
        parents = tuple(int(k) for k in rng.choice(t, size=min(3, t), replace=False))
        kind = rng.integers(3)
        if kind == 0:
            steps.append(Affine(parents, tuple(rng.uniform(-1, 1, len(parents))), 0.5))
        elif kind == 1:
            steps.append(Product(parents, tuple(int(p) for p in rng.integers(1, 3, len(parents)))))
        else:
            steps.append(Function(parents[:1], ("sin", "cos")[rng.integers(2)], float(rng.uniform(0.5, 2))))
    return Graph("", ("a", "b", "c"), tuple(steps))


def by_torch(graph, inputs):
    x = torch.tensor(inputs, dtype=torch.float64, requires_grad=True)
    values = list(x)
    for step in graph.steps:
        v = [values[k] for k in step.parents]
        if isinstance(step, Affine):
            values.append(sum(c * a for c, a in zip(step.coefficients, v, strict=True)) + step.constant)
        elif isinstance(step, Product):
            values.append(math.prod((a**p for a, p in zip(v, step.powers, strict=True)), start=torch.ones(())))
        else:
            values.append(getattr(torch, step.name)(step.scale * v[0]))
    return float(values[-1].detach()), torch.autograd.grad(values[-1], x)[0].numpy()


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_are_those_of_autograd(seed):
    graph, inputs = drawn(seed), (0.4, -0.8, 0.9)
    value, wanted = by_torch(graph, inputs)
    values = experiment.evaluate(graph, inputs)
    assert values[-1] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(gradient(graph, inputs), wanted, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(experiment.forward(graph, values).numbers, wanted, rtol=1e-11, atol=1e-13)


def test_a_product_through_zero_has_its_derivatives():
    graph = Graph("", ("a", "b", "c"), (Product((0, 1, 2), (1, 2, 1)),))
    assert gradient(graph, (0.0, 3.0, 2.0)) == [18.0, 0.0, 0.0]
    assert gradient(graph, (5.0, 0.0, 2.0)) == [0.0, 0.0, 0.0]


def test_the_reverse_mode_visits_each_edge_once_and_the_forward_mode_once_for_each_input():
    for inputs in (2, 5, 40):
        graph, count = experiment.chain(inputs), experiment.cost(inputs)
        assert count == {"inputs": inputs, "edges": 4 * inputs, "reverse": 4 * inputs, "forward": 4 * inputs**2}
        w = np.linspace(-1, 2, inputs)
        products = np.cos(w * np.roll(w, -1))
        wanted = products * np.roll(w, -1) + np.roll(products, 1) * np.roll(w, 1)
        np.testing.assert_allclose(gradient(graph, w), wanted, rtol=1e-12)


def test_numbers_figure_and_page(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "SIZES", (2, 4))
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "lectures.md"
    page.write_text("<!-- computation_graph -->\n<!-- end of computation_graph -->\n")
    arguments = ["--out", str(tmp_path / "out"), "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "computation_graph.json").read_text())
    assert content["examples"][0]["value"] == pytest.approx(math.log(2) + 10 - math.sin(5), rel=1e-15)
    assert "sin(2π z1)" in ran.output
    assert "| 2, 5 | 11.652 | 5.500, 1.716 | 8 | 8 | 16 |" in page.read_text()
    assert (tmp_path / "docs" / "images" / "computation_graph.png").read_bytes()[:4] == b"\x89PNG"
