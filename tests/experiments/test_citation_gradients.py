import json

import pytest
import torch
from typer.testing import CliRunner

from experiments import citation_gradients as experiment
from experiments.citation.network import Weights
from experiments.citation.training import Prepared, settings_of

SIZE = 4


@pytest.fixture
def drawn(graph):
    settings = settings_of(graph, SIZE, (6, 8, 10), steps=12, truncation=3)
    return experiment.Drawn(0, Weights.SETTLING, settings, Prepared(graph, SIZE))


def test_the_terms_are_those_that_bptt_and_tbptt_sum(drawn):
    terms = drawn.terms()
    assert terms.shape[0] == 12
    for row, count in (("bptt", 12), ("tbptt", 3)):
        assert torch.allclose(terms[:count].sum(0), drawn.gradient(drawn.way(row))[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("row", ["uniform-artbp", "poisson-artbp"])
def test_every_draw_is_what_artbp_takes_when_it_draws_it(drawn, row, monkeypatch):
    terms, way = drawn.terms(), drawn.way(row)
    found = experiment.draws(terms, way.gradient)
    assert sum(found["chances"]) == pytest.approx(1)
    for k in (1, 4, 11):
        monkeypatch.setattr(torch, "multinomial", lambda *_, k=k, **__: torch.tensor([k - 1]))
        value, _ = drawn.gradient(drawn.way(row))
        assert found["norms"][k - 1] == pytest.approx(float(value.norm()), rel=1e-9)


def test_what_is_measured_where_states_rest(drawn):
    found = experiment.measure(drawn)
    # As theory has it: the whole sum is nearest, and a random start is far off.
    errors = found["errors"]
    assert errors["bptt"] < errors["neumann-rbp"] < errors["rbp"]
    assert found["growth"] < 1
    assert found["float32"] < 1e-5
    # The state that is linearised at, and the one after it.
    *_, before, last = drawn.states(drawn.start)
    moved = (drawn.cell(drawn.start, last) - last).detach()
    assert found["relative_residual"] == pytest.approx(float(moved.norm() / last.norm()), rel=1e-9)
    jacobian = torch.autograd.functional.jacobian(lambda z: drawn.cell(drawn.start, z), before)
    values = torch.linalg.eigvals(jacobian.reshape(before.numel(), before.numel())).abs()
    assert found["radius"] == pytest.approx(float(values.max()), rel=0.02)


def test_the_least_norm_that_a_share_of_draws_does_not_exceed():
    draws = {"norms": [3.0, 1.0, 2.0, 9.0], "chances": [0.2, 0.5, 0.25, 0.05]}
    assert [experiment.quantile(draws, share) for share in (0.4, 0.5, 0.75, 0.9, 0.95, 0.99)] == [1, 1, 2, 3, 3, 9]


def test_the_command_writes_and_publishes(graph, monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "load_citation", lambda *_, **__: graph)
    monkeypatch.setattr(experiment, "settings_of", lambda graph, size, _: settings_of(graph, size, (6, 8, 10)))
    monkeypatch.setattr(experiment, "SIZE", SIZE)
    monkeypatch.setattr(experiment, "STEPS", 12)
    monkeypatch.setattr(experiment, "PRODUCTS", ((5, 5), (10, 5)))
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "published_tables.md").write_text("<!-- citation gradients -->\n<!-- end of citation gradients -->\n")
    given = ["--seeds", "2", "--out", str(tmp_path / "out"), "--publish", str(docs)]
    ran = CliRunner().invoke(experiment.app, given)
    assert ran.exit_code == 0, (ran.output, ran.exception)
    content = json.loads((docs / "results" / "citation_gradients.json").read_text())
    assert [(row["weights"], row["seed"]) for row in content["rows"]] == [
        (weights, seed) for weights in ("kaiming", "settling") for seed in (0, 1)
    ]
    left = [line["residual"] for line in content["gmres"]]
    assert 1 >= left[0] >= left[1] > 0
    page = (docs / "published_tables.md").read_text()
    assert all(f"| {title} | " in page for title in experiment.TITLES.values())
    assert (docs / "images" / "citation_gradients.png").stat().st_size > 5000
