import json
import os
import statistics
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from typer.testing import CliRunner

from cde_nets.data.citation import load_citation
from experiments.citation import command, paper
from experiments.citation.network import Cell, Neighbours, Readout, Weights, draw
from experiments.citation.preparation import principal_components, sizes, split
from experiments.citation.report import _beside, markdown, picture
from experiments.citation.results import Results, percent
from experiments.citation.rows import ROWS, Numbers
from experiments.citation.training import Prepared, Runs, run, settings_of

CPU = torch.device("cpu")
NODES, SIZE, CLASSES = 24, 4, 3


@pytest.fixture(scope="module")
def prepared(graph):
    return Prepared(graph, SIZE)


def settings(graph, **given):
    how = {"epochs": 4, "every": 2, "steps": 8, "truncation": 3, "weights": Weights.TORCH} | given
    return settings_of(graph, SIZE, (6, 8, 10), **how)


def adjacency(graph):
    """Dense, by counting: entry (i, j) is how often j is heard by i."""
    dense = torch.zeros(len(graph), len(graph), dtype=torch.float64)
    for a, b in graph.edges.T.tolist():
        dense[a, b] += 1
        dense[b, a] += 1
    return dense


def gru(adjacent, p, z):
    """One step after the formulas of Cho et al. 2014 as torch.nn.GRUCell's page prints them."""
    w_r, w_z, w_n = p["input_weight"][0].chunk(3)
    u_r, u_z, u_n = p["hidden_weight"][0].chunk(3)
    b_r, b_z, b_n = p["input_bias"][0].chunk(3)
    c_r, c_z, c_n = p["hidden_bias"][0].chunk(3)
    heard = adjacent @ z
    reset = 1 / (1 + torch.exp(-(heard @ w_r.T + b_r + z @ u_r.T + c_r)))
    keep = 1 / (1 + torch.exp(-(heard @ w_z.T + b_z + z @ u_z.T + c_z)))
    new = torch.tanh(heard @ w_n.T + b_n + reset * (z @ u_n.T + c_n))
    return (1 - keep) * new + keep * z


def double(runs, graph):
    """The runs in float64, so that a comparison has digits to show."""
    runs.model.double()
    runs.features = runs.features.double()
    cell = runs.model["cell"]
    cell.neighbours = Neighbours(torch.from_numpy(graph.messages()), NODES, len(runs.seeds), CPU)
    runs.numbers = Numbers(
        runs.numbers.steps, runs.numbers.truncation, 200, runs.numbers.shape, torch.float64, runs.device
    )
    return runs


def made(key, graph, prepared, seeds=(0,), **given):
    runs = Runs(key, seeds, settings(graph, **given), prepared, CPU)
    return double(runs, graph) if "cell" in runs.model else runs


def dense_gradients(runs, graph, backward):
    """Of the mean cross-entropy in the cell's weights, seed 0: by a dense loop and a dense solve, in float64.

    Args:
        backward: "all" steps of the loop, its last "K", or a function (J, g) -> w with J at the last state but one.
    """
    adjacent, steps = adjacency(graph), runs.settings.steps
    p = {name: value.detach().clone().requires_grad_() for name, value in runs.model["cell"].named_parameters()}
    readout = runs.model["readout"]
    train = torch.from_numpy(split(NODES, (6, 8, 10), runs.seeds[0]).train)
    labels = torch.from_numpy(graph.labels)

    def loss(z):
        logits = z @ readout.weight[0].detach().T + readout.bias[0].detach()
        chosen = logits[train]
        return (torch.logsumexp(chosen, 1) - chosen[torch.arange(len(train)), labels[train]]).mean()

    z = runs.features[0]
    for k in range(steps):
        before = z
        if isinstance(backward, int) and k == steps - backward:
            z = z.detach()
        if callable(backward):
            z = z.detach()
        z = gru(adjacent, p, z)
    if not callable(backward):
        return torch.autograd.grad(loss(z), list(p.values()))
    z = z.detach().requires_grad_()
    (g,) = torch.autograd.grad(loss(z), z)
    before = before.detach()
    jacobian = torch.autograd.functional.jacobian(lambda a: gru(adjacent, p, a), before)
    w = backward(jacobian.reshape(z.numel(), z.numel()).detach(), g.flatten())
    return torch.autograd.grad(gru(adjacent, p, before), list(p.values()), w.view_as(z))


def own_gradients(runs):
    """What one epoch leaves in the parameters, before the descent moves them."""
    runs._descend = lambda: None
    runs.step()
    return [parameter.grad for parameter in runs.model["cell"].parameters()]


def agree(found, expected, tolerance=1e-9):
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine - theirs).abs().max() <= tolerance * max(1.0, float(theirs.abs().max()))


def test_statistics_are_counts(graph):
    pairs = {tuple(edge) for edge in graph.edges.T.tolist()}
    assert paper.statistics(graph) == (NODES, len(pairs), CLASSES, 12)


def test_principal_components_are_those_of_the_covariance(graph):
    found = principal_components(graph.features, SIZE)
    centred = graph.features.astype(float) - graph.features.mean(0, dtype=float)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    expected = centred @ vectors[:, ::-1][:, :SIZE]
    assert np.allclose(np.abs(found), np.abs(expected), atol=1e-10)
    assert np.allclose(found.T @ found, np.diag(values[::-1][:SIZE]), atol=1e-9)
    with pytest.raises(ValueError, match="components: found 13, expected 1 to 12"):
        principal_components(graph.features, 13)


def test_splits_are_disjoint_by_seed_and_no_larger_than_the_graph():
    assert sizes(2708) == (27, 1326, 1355)
    parts = split(2708, sizes(2708), 3)
    assert [len(part) for part in parts] == [27, 1326, 1355]
    assert sorted(np.concatenate(parts).tolist()) == list(range(2708))
    assert np.array_equal(parts.train, split(2708, sizes(2708), 3).train)
    assert not np.array_equal(parts.train, split(2708, sizes(2708), 4).train)
    with pytest.raises(ValueError, match=r"20 \+ 3 \+ 2 = 25 documents, the graph has 24"):
        split(24, (20, 3, 2), 0)
    with pytest.raises(ValueError, match="at least 1"):
        split(24, sizes(24), 0)


def test_the_sum_over_neighbours_is_a_dense_product_there_and_back(graph):
    adjacent, z = adjacency(graph), torch.randn(2, NODES, SIZE, dtype=torch.float64)
    heard = Neighbours(torch.from_numpy(graph.messages()), NODES, 2, CPU)
    assert torch.allclose(heard(z), adjacent @ z)
    assert (heard(z)[:, -1] == 0).all()  # the document without an edge
    assert torch.autograd.gradcheck(heard, (z.requires_grad_(),), check_forward_ad=True, fast_mode=True)
    assert np.isclose(
        Neighbours.radius(torch.from_numpy(graph.messages()), NODES), np.linalg.eigvalsh(adjacent.numpy()).max()
    )
    with pytest.raises(ValueError, match="both ways"):
        Neighbours(torch.from_numpy(graph.edges), NODES, 1, CPU)


@pytest.mark.parametrize("weights", list(Weights))
def test_runs_at_once_are_graph_gru_cells_one_by_one(graph, prepared, weights):
    drawn = [draw(SIZE, CLASSES, weights, prepared.radius, seed) for seed in range(3)]
    messages = torch.from_numpy(graph.messages())
    cells, maps = zip(*drawn, strict=True)
    for one in (*cells, *maps):
        one.double()
    together = Cell(Neighbours(messages, NODES, 3, CPU), cells)
    z = torch.randn(3, NODES, SIZE, dtype=torch.float64)
    logits = Readout(maps)(z)
    for k, (cell, readout) in enumerate(drawn):
        assert torch.allclose(together(z, z)[k], cell(messages, z[k]), atol=1e-14)
        assert torch.allclose(logits[k], readout(z[k]), atol=1e-14)
    if weights is Weights.KAIMING:
        many = draw(64, 7, weights, 1.0, 0)[0].gru
        assert abs(float(many.weight_ih.detach().std()) - (2 / 64) ** 0.5) < 0.003
        assert float(many.bias_hh.detach().abs().max()) == 0


def test_bptt_is_autograd_through_a_dense_loop_of_100_steps(graph, prepared):
    runs = made("bptt", graph, prepared, steps=100)
    agree(own_gradients(runs), dense_gradients(runs, graph, "all"), 1e-7)


def test_tbptt_is_autograd_through_the_last_steps(graph, prepared):
    runs = made("tbptt", graph, prepared)
    agree(own_gradients(runs), dense_gradients(runs, graph, 3))


def test_neumann_rbp_sums_the_series_of_the_dense_jacobian(graph, prepared):
    runs = made("neumann-rbp", graph, prepared)

    def series(jacobian, g):
        return sum(torch.linalg.matrix_power(jacobian.T, k) @ g for k in range(4))

    agree(own_gradients(runs), dense_gradients(runs, graph, series))


def test_rbp_begins_at_numbers_between_0_and_1(graph, prepared):
    runs = made("rbp", graph, prepared)
    start = torch.rand((NODES, SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.float64).flatten()

    def updates(jacobian, g):
        w = start
        for _ in range(3):
            w = jacobian.T @ w + g
        return w

    agree(own_gradients(runs), dense_gradients(runs, graph, updates))


def test_cg_rbp_is_three_steps_of_textbook_conjugate_gradients(graph, prepared):
    runs = made("cg-rbp", graph, prepared)

    def conjugate(jacobian, g):
        a = torch.eye(len(g), dtype=torch.float64) - jacobian.T
        matrix, r = a.T @ a, a.T @ g
        w, p = torch.zeros_like(g), r
        for _ in range(3):
            length = (r @ r) / (p @ matrix @ p)
            w, left = w + length * p, r - length * matrix @ p
            p, r = left + (left @ left) / (r @ r) * p, left
        return w

    agree(own_gradients(runs), dense_gradients(runs, graph, conjugate))
    assert runs.unsolved.tolist() == [0]


def test_gmres_is_the_dense_solve(graph, prepared):
    runs = made("gmres", graph, prepared)

    def exact(jacobian, g):
        return torch.linalg.solve(torch.eye(len(g), dtype=torch.float64) - jacobian.T, g)

    agree(own_gradients(runs), dense_gradients(runs, graph, exact), 1e-7)
    assert runs.unsolved.tolist() == [0]


@pytest.mark.parametrize("key", ["uniform-artbp", "poisson-artbp"])
def test_artbp_is_bptt_in_the_mean_but_for_its_first_step(graph, prepared, key):
    """The mean over every K with its probability, none of them drawn: 1 to 7 of 8 steps."""
    runs = made(key, graph, prepared)
    way = ROWS[key].way(runs.numbers, runs.generators)
    probabilities = way.gradient.probabilities()
    total = None
    for k, probability in enumerate(probabilities.tolist(), 1):
        runs = made(key, graph, prepared)
        chosen = torch.zeros(7, dtype=torch.float64)
        chosen[k - 1] = 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "multinomial", lambda *_, k=k, **__: torch.tensor([k - 1]))
            found = own_gradients(runs)
        parts = [probability * part for part in found]
        total = parts if total is None else [a + b for a, b in zip(total, parts, strict=True)]
    agree(total, dense_gradients(runs, graph, 7))
    if key == "poisson-artbp":
        # Step 8 - K is where the look back ends: Poisson distributed, but for what is not one of 1 to 7; 5 in the mean.
        places = 8 - np.arange(1, 8)
        assert np.isclose(probabilities.numpy() @ places, 5)
        rate = float(probabilities[0] / probabilities[1]) * 7
        weights = scipy.stats.poisson(rate).pmf(places)
        assert np.allclose(probabilities.numpy(), weights / weights.sum())


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_undivided_its_gradient_is_that_of_the_terms_looked_at(graph, prepared, steps, monkeypatch):
    runs = made("poisson-tbptt", graph, prepared)
    chances = []

    def drawn(probabilities, *_, **__):
        chances.append(probabilities)
        return torch.tensor([steps - 1])

    monkeypatch.setattr(torch, "multinomial", drawn)
    agree(own_gradients(runs), dense_gradients(runs, graph, steps))
    divided = ROWS["poisson-artbp"].way(runs.numbers, runs.generators).gradient
    assert torch.equal(chances[0], divided.probabilities())


def test_descent_is_momentum_and_decay_by_hand(graph, prepared):
    runs = made("tbptt", graph, prepared)
    parameter = runs.model["cell"].hidden_weight
    speed, expected = 0.0, parameter.detach().clone()
    for _ in range(3):
        runs.step()
        speed = 0.9 * speed + parameter.grad + 5e-4 * expected
        expected = expected - 1e-3 * speed
        assert torch.allclose(parameter.detach(), expected, atol=1e-14)


def test_runs_at_once_are_runs_one_by_one(graph, prepared):
    for key in ("tbptt", "rbp", "cg-rbp", "baseline"):
        both = made(key, graph, prepared, seeds=(0, 1))
        alone = made(key, graph, prepared, seeds=(1,))
        for _ in range(3):
            both.step()
            alone.step()
        for two, one in zip(both.model.parameters(), alone.model.parameters(), strict=True):
            assert torch.allclose(two[1], one[0], rtol=1e-5, atol=1e-7)


def test_the_epoch_is_the_first_of_the_best_validation_accuracy(graph, prepared):
    runs = Runs("tbptt", [0], settings(graph, epochs=0), prepared, CPU)
    runs.history[0] = [
        {"epoch": at, "validation": right, "test": test, "train": 0.0}
        for at, right, test in ((0, 0.1, 0.2), (2, 0.9, 0.3), (4, 0.9, 0.8), (6, 0.5, 0.9))
    ]
    runs._watch = lambda *_: None
    (result,) = runs.finish()
    assert (result["epoch"], result["validation_accuracy"], result["test_accuracy"]) == (2, 0.9, 0.3)


def test_a_run_whose_gradient_is_lost_stops_and_leaves_the_others_alone(graph, prepared):
    both = made("tbptt", graph, prepared, seeds=(0, 1))
    alone = made("tbptt", graph, prepared, seeds=(1,))
    lost = torch.tensor([torch.inf, 1.0], dtype=torch.float64).view(2, 1, 1)

    def later(gradient):
        return gradient * lost if both.epoch == 1 else gradient

    both.model["readout"].weight.register_hook(later)
    both.step()
    alone.step()
    before = [parameter.detach().clone() for parameter in both.model.parameters()]
    for _ in range(3):
        both.step()
        alone.step()
    assert both.stopped == [1, None]
    for parameter, old, other in zip(both.model.parameters(), before, alone.model.parameters(), strict=True):
        assert torch.equal(parameter[0], old[0])
        assert torch.allclose(parameter[1], other[0], atol=1e-12)


def call(graph, monkeypatch, tmp_path, *arguments, code=0):
    monkeypatch.setattr(command, "load_citation", lambda *_, **__: graph)
    monkeypatch.setattr(command, "SIZES", dict.fromkeys(command.Dataset, SIZE))
    out = str(tmp_path / "out")
    given = ["--split", "6", "8", "10", "--out", out, *arguments]
    ran = CliRunner().invoke(command.app, given)
    assert ran.exit_code == code, (ran.output, ran.exception)
    return ran, tmp_path / "out"


def test_the_command_runs_every_row_and_then_none_again(graph, monkeypatch, tmp_path):
    for name in ("images", "results"):
        (tmp_path / "docs" / name).mkdir(parents=True)
    page = tmp_path / "docs" / "published_tables.md"
    page.write_text("<!-- citation cora -->\n<!-- end of citation cora -->\n")
    few = ("--epochs", "1", "--seeds", "1")
    _, out = call(graph, monkeypatch, tmp_path, *few, "--publish", str(tmp_path / "docs"))
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(ROWS)
    for line in lines:
        assert line["settings"]["steps"] == 100
        assert 0 <= line["test_accuracy"] <= 1
        assert line["stopped_at"] is None
    assert all(row.title in (out / "citation.md").read_text() for row in ROWS.values())
    assert (out / "citation.md").read_text().strip() in page.read_text()
    for name in ("images/citation_cora.png", "results/citation_cora.jsonl"):
        assert (tmp_path / "docs" / name).stat().st_size > 500
    monkeypatch.setattr(command, "run", lambda *_: pytest.fail("ran again"))
    call(graph, monkeypatch, tmp_path, *few)
    ran, _ = call(graph, monkeypatch, tmp_path, "--epochs", "3", "--seeds", "1", code=2)
    assert "epochs 1 there, 3 now" in " ".join(ran.output.replace("│", " ").split())


def test_a_split_larger_than_the_graph_is_refused_by_the_command(graph, monkeypatch, tmp_path):
    ran, out = call(graph, monkeypatch, tmp_path, "--split", "6", "8", "11", code=2)
    assert "6 + 8 + 11 = 25 documents, the graph has 24" in " ".join(ran.output.replace("│", " ").split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "message"), [(("--quick",), "not to be published"), ((), "must hold <!-- citation cora -->")]
)
def test_what_cannot_be_published_is_refused_before_any_work(graph, monkeypatch, tmp_path, given, message):
    ran, out = call(graph, monkeypatch, tmp_path, *given, "--publish", str(tmp_path), code=2)
    assert message in " ".join(ran.output.replace("│", " ").split())
    assert not out.exists()


def test_a_quick_run_without_the_graph_ends_with_its_tables(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CDE_NETS_DATA", raising=False)
    monkeypatch.setitem(command.QUICK, "epochs", 2)
    ran = CliRunner().invoke(command.app, ["--quick", "--rows", "baseline", "--out", str(tmp_path / "out")])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    text = (tmp_path / "out" / "quick" / "citation.md").read_text()
    assert "### Table A2: Digits" in text
    assert "| paper | 2,708" not in text


def test_an_unknown_device_is_refused(graph, monkeypatch, tmp_path):
    ran, _ = call(graph, monkeypatch, tmp_path, "--device", "abacus", code=2)
    assert "abacus" in ran.output


def test_seeds_are_added_to_those_that_are_done(graph, monkeypatch, tmp_path):
    few = ("--epochs", "2", "--rows", "baseline,tbptt")
    _, out = call(graph, monkeypatch, tmp_path, *few, "--seeds", "1")
    first = (out / "results.jsonl").read_text()
    call(graph, monkeypatch, tmp_path, *few, "--seeds", "3", "--batch", "2")
    lines = (out / "results.jsonl").read_text()
    assert lines.startswith(first)
    done = [(row["row"], row["seed"], row["batch"]) for row in map(json.loads, lines.splitlines())]
    assert done[2:] == [(key, seed, 2) for key in ("baseline", "tbptt") for seed in (1, 2)]


@pytest.mark.parametrize("key", ["rbp", "uniform-artbp", "bptt"])
def test_an_interrupted_run_goes_on_to_the_same_numbers(graph, prepared, tmp_path, key):
    def fresh():
        return Runs(key, [2], settings(graph, epochs=7), prepared, CPU)

    whole = run(fresh(), tmp_path / "never", lambda: None)
    assert not (tmp_path / "never").exists()
    count = 0

    def stop():
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fresh(), tmp_path / "aside", stop, seconds=0.0)
    again = []
    rest = run(fresh(), tmp_path / "aside", lambda: again.append(None))
    assert len(again) == 7
    for results in (whole, rest):
        results[0].pop("seconds")
    assert whole == rest
    # One of other runs is not taken up.
    found = []
    for file in ("aside", "not there"):
        (other,) = run(Runs(key, [3], settings(graph, epochs=7), prepared, CPU), tmp_path / file, lambda: None)
        found.append({name: value for name, value in other.items() if name != "seconds"})
    assert found[0] == found[1]


def test_results_of_other_settings_and_broken_lines_are_refused(graph, tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({"row": "rbp", "seed": 0, "settings": settings(graph).plain()}) + "\n")
    assert Results(path, settings(graph)).has(("rbp", 0))
    assert not Results(path, settings(graph)).has(("rbp", 1))
    with pytest.raises(ValueError, match="steps 8 there, 9 now"):
        Results(path, settings(graph, steps=9))
    path.write_text('{"row": "rb')
    with pytest.raises(ValueError, match=r"line 1, is damaged.* Found no run"):
        Results(path, settings(graph))
    with pytest.raises(ValueError, match="more than the truncation"):
        settings(graph, steps=3)


def test_means_and_spreads_are_statistics():
    mean, spread = percent([0.25, 0.5, 0.625])
    assert np.isclose(mean, 100 * statistics.mean([0.25, 0.5, 0.625]))
    assert np.isclose(spread, 100 * statistics.stdev([0.25, 0.5, 0.625]))


def test_the_tables_show_what_is_missing_as_missing(graph, tmp_path):
    empty = Results(tmp_path / "none", settings(graph))
    text = markdown(graph, settings(graph), empty)
    assert "| RBP | 29.25 ± 3.3 |  |  |  |  | 0 | 0 |  |" in text
    assert picture(graph, empty).axes


def test_how_far_means_are_apart_is_welchs_statistic():
    own = np.random.default_rng(0).random(10)
    runs = [{"validation_accuracy": value} for value in own]
    # Ten numbers with the printed mean and spread.
    theirs = 29.25 + 3.3 * scipy.stats.zscore(np.arange(10.0), ddof=1)
    expected = scipy.stats.ttest_ind(100 * own, theirs, equal_var=False).statistic
    said = f"{100 * own.mean():.2f} ± {100 * own.std(ddof=1):.1f}"
    assert _beside((29.25, 3.3), runs, "validation_accuracy") == f"{said} | {expected:+.1f}"
    assert _beside((29.25, 3.3), runs[:9], "validation_accuracy").endswith(" | ")
    assert _beside((29.25, 3.3), runs[:1], "validation_accuracy") == f"{100 * own[0]:.2f} | "
    assert _beside(None, runs, "validation_accuracy") == f"{said} | "


def test_leads_are_of_the_same_splits(graph, tmp_path):
    results = Results(tmp_path / "results.jsonl", settings(graph))
    rng = np.random.default_rng(1)
    for key, seeds in (("baseline", range(12)), ("tbptt", range(11, 1, -1)), ("rbp", range(9))):
        results.add([one_run(key, seed, *rng.random(3)) for seed in seeds])
    text = markdown(graph, settings(graph), results)
    baseline, tbptt = ({run["seed"]: run for run in results.of(key)} for key in ("baseline", "tbptt"))
    cells = []
    for name in ("test_accuracy", "validation_accuracy", "last_test_accuracy"):
        apart = [100 * (tbptt[seed][name] - baseline[seed][name]) for seed in range(2, 12)]
        tested = scipy.stats.ttest_1samp(apart, 0)
        error = np.mean(apart) / tested.statistic
        cells.append(f"{np.mean(apart):+.1f} ± {error:.1f} (p {tested.pvalue:.2g})")
    assert f"| TBPTT − Baseline | {' | '.join(cells)} |" in text
    assert "RBP − " not in text


def one_run(key, seed, test, validation, last):
    return {
        "row": key,
        "seed": seed,
        "test_accuracy": test,
        "validation_accuracy": validation,
        "last_test_accuracy": last,
        "stopped_at": None,
        "unsolved_epochs": 1,
    }


def test_the_published_cora_has_the_papers_statistics():
    folder = os.environ.get("CDE_NETS_DATA")
    if not folder or not any((Path(folder) / place).exists() for place in ("cora.npz", "cora/cora.npz")):
        pytest.skip("needs cora.npz in the folder that CDE_NETS_DATA names")
    cora = load_citation("cora", folder)
    assert paper.statistics(cora) == paper.STATISTICS["cora"] == (2708, 5429, 7, 1433)
    # The sum over neighbours, where every link is listed at both ends (Planetoid's graph file has 10858 entries).
    assert cora.messages().shape == (2, 10858)
    assert settings_of(cora, 64, None).counts == (27, 1326, 1355)
