"""Hopfield memories: the network is what its formula says, gradients are those of single trials, stopped runs go on."""

import json
import math
from dataclasses import replace
from functools import partial

import matplotlib.image
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cde_nets as cn
from cde_nets.data import MNIST, Dataset
from experiments.aside import Aside
from experiments.hopfield import app, command, memories, pictures
from experiments.hopfield.methods import ROWS, STEPS, Cell, all_cells, parse_cells
from experiments.hopfield.network import Hopfield, _Symmetric
from experiments.hopfield.results import Results
from experiments.hopfield.settings import PAPER, Settings, smaller
from experiments.hopfield.summary import markdown, summary
from experiments.hopfield.training import Batch, draw, succeeded

TINY = Settings(side=4, hidden=6, slope=2.0, spread=0.05, rate=0.01, epochs=2, steps=20)


@pytest.fixture(autouse=True)
def quick(bad_input):
    """The shape checker would take most of the time."""


def images(count=10, inputs=16, seed=0):
    made = (torch.rand(count, inputs, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
    made[:, 0] = 1.0
    return made


def whole(W, image, slope, steps):
    """The published iteration with all units in one state, inputs put back after every step."""
    inputs = len(image)
    M = (W + W.T) * (1 - torch.eye(len(W), dtype=W.dtype))
    h = torch.cat([image, torch.zeros(len(W) - inputs, dtype=W.dtype)])
    for _ in range(steps):
        h = torch.cat([image, (M @ torch.sigmoid(slope * h))[inputs:]])
    return h


def one_trial(W, order, data, settings, rate):
    """Training of one trial as published: W itself under Adam, gradients through all steps."""
    W = torch.nn.Parameter(W.double())
    optimiser = torch.optim.Adam([W], lr=rate)
    for k in order:
        image = data[k].double()
        loss = (whole(W, image, settings.slope, settings.steps)[-len(image) :] - image).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return W.detach()


def test_free_units_with_a_drive_are_the_whole_network_with_clamped_units():
    W = 0.1 * torch.randn(3, 38, 38, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = images(3).double()
    network = Hopfield(W, 16, 0.7)
    shown = network.show(data)
    assert torch.equal(shown.weights, shown.weights.mT)
    assert not shown.weights.diagonal(dim1=1, dim2=2).any()
    h = network.layer(cn.Picard(steps=7)).solve(shown).value
    expected = torch.stack([whole(w, image, 0.7, 7) for w, image in zip(W, data, strict=True)])
    torch.testing.assert_close(h, expected[:, 16:], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(network.answer(h), expected[:, -16:], rtol=1e-13, atol=1e-13)


def test_trials_side_by_side_are_trained_as_each_by_itself_with_all_weights(tmp_path, monkeypatch):
    data, trials = images(), [0, 3]
    settings = replace(TINY, epochs=1)
    held = {}
    monkeypatch.setattr(
        Batch, "_retrieved", lambda self, network: (held.update(network.state_dict()) or [[], []], torch.zeros(2))
    )
    Batch(settings, Cell("dense", 0), trials, data, tmp_path / "c").run(lambda k: None)
    for k, trial in enumerate(trials):
        W = settings.spread * torch.from_numpy(
            np.random.default_rng([0, trial, 0, 0]).standard_normal((38, 38), dtype=np.float32)
        )
        order = np.random.default_rng([0, trial, 1, 0]).permutation(10)
        W = one_trial(W, order, data, settings, settings.rate)
        S = (W + W.T)[16:, 16:].fill_diagonal_(0).float()
        torch.testing.assert_close(held["S"][k], S, rtol=2e-3, atol=2e-5)
        torch.testing.assert_close(held["C"][k], (W + W.T)[16:, :16].float(), rtol=2e-3, atol=2e-5)


def test_the_gradient_of_every_row_is_that_of_a_dense_solve_with_many_steps():
    network = draw(TINY, [0, 1])
    network.double()
    data = images(2).double()

    def gradient(row, K, steps=100):
        z0 = torch.rand(2, TINY.free, dtype=torch.float64) if ROWS[row].draws else None
        shown = network.show(data)
        h = network.layer(ROWS[row].forward(steps, K), ROWS[row].backward(K, z0))(shown)
        return torch.cat([g.flatten() for g in torch.autograd.grad(h.square().sum(), [network.S, network.C])])

    # By the independent loop, back-propagated through a hundred steps.
    parts = []
    for k in range(2):
        W = torch.zeros(TINY.units, TINY.units, dtype=torch.float64)
        W[16:, 16:], W[16:, :16] = network.S[k].detach() / 2, network.C[k].detach()
        W.requires_grad_()
        (g,) = torch.autograd.grad(whole(W, data[k], TINY.slope, 100)[16:].square().sum(), [W])
        parts.append((g[16:, 16:].flatten(), g[16:, :16].flatten()))
    exact = torch.cat([parts[0][0], parts[1][0], parts[0][1], parts[1][1]])
    for row in ROWS:
        torch.testing.assert_close(gradient(row, 30), exact, rtol=1e-4, atol=1e-6)


def test_truncated_rows_take_as_many_steps_as_they_are_given():
    network = draw(TINY, [0, 1])
    data = images(2)
    for row in ("rbp-uniform", "rbp-zero", "neumann", "cg", "gmres"):
        z0 = torch.rand(2, TINY.free) if ROWS[row].draws else None
        solution = network.layer(ROWS[row].forward(20, 2), ROWS[row].backward(2, z0)).solve(network.show(data))
        solution.value.square().sum().backward()
        assert solution.backward.statistics.steps.tolist() == [2, 2]
        assert (solution.backward.status == int(cn.Status.DONE)).all()
    # No more than the forward steps, within which those of TBPTT are.
    found = network.layer(ROWS["tbptt"].forward(5, 3), ROWS["tbptt"].backward(3, None)).solve(network.show(data))
    expected = [whole(network_weights(network, k), data[k], TINY.slope, 5)[16:] for k in range(2)]
    torch.testing.assert_close(found.value, torch.stack(expected))


def network_weights(network, k):
    """A W whose sum with its transpose is the network's."""
    W = torch.zeros(TINY.units, TINY.units)
    W[16:, 16:], W[16:, :16] = network.S[k].detach() / 2, network.C[k].detach()
    return W


@pytest.mark.parametrize("cell", [Cell(row, 3 if ROWS[row].truncated else 0) for row in ROWS], ids=str)
def test_a_cell_of_every_row(cell, tmp_path):
    seen = []
    rows = Batch(TINY, cell, [0, 1], images(4), tmp_path / "c").run(seen.append)
    assert sum(seen) == 8
    assert [row["trial"] for row in rows] == [0, 1]
    for row in rows:
        assert (row["row"], row["steps"], row["failed_rows"]) == (cell.row, cell.steps, 0)
        assert 0 < row["final_loss"] < math.inf
        assert row["success"] == (row["final_loss"] < row["initial_loss"] / 2)
        assert row["epochs"] == [1, 2]
        assert len(row["losses"]) == len(row["radii"]) == 2
    # What is drawn depends on the trial, not on the method or on who runs beside it.
    alone = Batch(TINY, cell, [1], images(4), tmp_path / "c").run(seen.append)
    assert alone[0]["initial_loss"] == pytest.approx(rows[1]["initial_loss"], rel=1e-6)
    assert alone[0]["final_loss"] == pytest.approx(rows[1]["final_loss"], rel=1e-3)


def test_the_radius_is_that_of_the_jacobian(tmp_path):
    network = draw(replace(TINY, spread=0.2), [0, 1])
    batch = Batch(TINY, Cell("neumann", 3), [0, 1], images(), tmp_path / "c")
    shown = network.show(images(2))
    layer = network.layer(cn.Picard(steps=20))
    h = layer(shown).detach()
    for k in range(2):
        J = torch.func.jacrev(lambda z, k=k: network.step(type(shown)(*(p[k : k + 1] for p in shown)), z[None])[0])(
            h[k]
        )
        expected = float(np.abs(np.linalg.eigvals(J.detach().double().numpy())).max())
        assert float(batch._radius(layer, shown, h)[k]) == pytest.approx(expected, rel=2e-3)


def test_the_radius_that_is_kept_is_of_the_weights_that_found_the_state(tmp_path):
    settings, data = replace(TINY, epochs=1, steps=60, rate=0.03), images()
    (row,) = Batch(settings, Cell("dense", 0), [0], data, tmp_path / "c").run(lambda k: None)
    W = settings.spread * torch.from_numpy(
        np.random.default_rng([0, 0, 0, 0]).standard_normal((38, 38), dtype=np.float32)
    )
    order = np.random.default_rng([0, 0, 1, 0]).permutation(10)

    def radius(W):
        h = whole(W, data[order[-1]].double(), settings.slope, 200)
        s = torch.sigmoid(settings.slope * h)
        J = (W + W.T) * (1 - torch.eye(38)) * (settings.slope * s * (1 - s))
        return float(np.abs(np.linalg.eigvals(J[16:, 16:].numpy())).max())

    before = one_trial(W, order[:-1], data, settings, settings.rate)
    after = one_trial(W, order, data, settings, settings.rate)
    assert row["radii"] == [pytest.approx(radius(before), rel=5e-3)]
    assert abs(radius(after) / radius(before) - 1) > 0.02


def test_large_gradients_are_symmetric_like_small_ones():
    S = torch.zeros(2, 600, 600, requires_grad=True)
    g = torch.randn(2, 600, 600, generator=torch.Generator().manual_seed(0))
    (found,) = torch.autograd.grad(_Symmetric.apply(S), S, g)
    assert torch.equal(found, (g + g.mT) * (1 - torch.eye(600)))


def test_a_random_start_is_too_much_above_the_limit_and_forgotten_below():
    """(J^T)^K z0 beside g, for a J of one eigenvalue, on both sides of the limit."""
    for K in STEPS:
        limit = PAPER.radius_limit(K)
        left = limit**K * math.sqrt(PAPER.free / 3) / (1 / math.sqrt(784))
        assert left == pytest.approx(1)
    assert [round(PAPER.radius_limit(K), 2) for K in STEPS] == [0.52, 0.72, 0.8]
    made = smaller(10, 64, slope=4.0, rate=1e-3, epochs=1)
    assert made.excess == pytest.approx(PAPER.excess)
    # |J| of the first W: b/4 times the norm of a symmetric Gaussian matrix, which at the paper's 1808 free units is the
    # semicircle's 2 sqrt(2 * 1808) standard deviations, to a per cent.
    norms = torch.linalg.matrix_norm(draw(made, list(range(20))).S.detach(), 2)
    assert made.slope / 4 * float(norms.mean()) == pytest.approx(0.5 / 4 * 1e-3 * 2 * math.sqrt(2 * 1808), rel=0.04)


def test_images_are_packed_to_bytes_and_back():
    data = torch.tensor([[0.0, 0.25, 0.5, 1.0], [-3.0, 7.0, torch.nan, 0.998]])
    found = memories.unpacked(json.loads(json.dumps(memories.packed(data))))
    assert found == pytest.approx(np.array([[0, 0.25, 0.5, 1], [0, 1, 0, 0.998]]), abs=0.5 / 255)


def test_the_rule_of_success():
    assert succeeded(1.0, 0.49)
    assert not succeeded(1.0, 0.5)
    assert not succeeded(1.0, math.nan)


def test_corruption_takes_half_of_the_ink_and_nothing_else():
    data = images()
    made = memories.corrupted(data, 0.5, np.random.default_rng(0))
    ink = data.sum(1)
    assert torch.equal(made.sum(1), ink - (ink // 2))
    assert torch.equal(made * data, made)
    assert not torch.equal(made, memories.corrupted(data, 0.5, np.random.default_rng(1)))


def test_the_first_image_of_each_digit_is_that_of_the_published_order():
    rng = np.random.default_rng(0)
    published = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    labels = rng.permutation(np.arange(60, dtype=np.uint8) % 10)
    order = np.random.Generator(np.random.PCG64(0)).permutation(60)
    parts = [Dataset(published[o], labels[o]) for o in (order[:-12], order[-12:])]
    data = MNIST(*parts, parts[1], source="made", detail="", complete=False)
    expected = np.stack([next(i for i, n in zip(published, labels, strict=True) if n == d) for d in range(10)])
    np.testing.assert_array_equal(memories.first_of_each_digit(data), expected)


def test_images_are_pooled_and_binary():
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, :7, :7] = 255
    image[0, 20, 20] = 1
    small = memories.binary(image, 4)
    assert small.tolist() == [[1.0] + [0.0] * 15]
    assert memories.binary(image, 28).sum() == 50
    with pytest.raises(ValueError, match="got 3"):
        memories.binary(image, 3)


@pytest.mark.full_data
def test_at_full_size_the_digits_are_the_published_ones(full_mnist):
    digits = memories.first_of_each_digit(full_mnist)
    # The first training labels are 5 0 4 1 9 2 1 3 1 4: five of the images are among the first six of the file.
    assert digits.shape == (10, 28, 28)
    assert memories.binary(digits, 28).mean() == pytest.approx(0.2, abs=0.05)


def test_cells_are_named_and_what_is_no_cell_is_refused():
    assert parse_cells("tbptt:10, dense,rbp-zero:7", 50) == [Cell("tbptt", 10), Cell("dense", 0), Cell("rbp-zero", 7)]
    assert parse_cells("neumann,neumann:10", 50) == [Cell("neumann", K) for K in STEPS]
    assert len(all_cells()) == 19
    for text, message in (
        ("neuman:10", "did you mean 'neumann'"),
        ("cg:0", "at least 1"),
        ("cg:ten", "at least 1"),
        ("tbptt:50", "below 50"),
        ("dense:3", "takes no steps"),
        (" , ", "No cell"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_cells(text, 50)


class StoppedError(Exception):
    pass


def test_a_trial_that_was_stopped_goes_on_to_the_same_numbers(tmp_path):
    settings = replace(TINY, epochs=5)
    cell, data = Cell("rbp-uniform", 4), images(3)
    undisturbed = Batch(settings, cell, [0, 1], data, tmp_path / "a").run(lambda k: None)
    done = []

    def stop(updates):
        done.append(updates)
        if len(done) == 3:
            raise StoppedError

    held = tmp_path / "b"
    with pytest.raises(StoppedError):
        Batch(settings, cell, [0, 1], data, held, every=0.0).run(stop)
    again = []
    rows = Batch(settings, cell, [0, 1], data, held, every=0.0).run(again.append)
    # Two epochs were held; the third was lost with the stop.
    assert again == [6, 3, 3, 3]
    for row, expected in zip(rows, undisturbed, strict=True):
        assert {k: v for k, v in row.items() if k != "seconds"} == {k: v for k, v in expected.items() if k != "seconds"}
    # A checkpoint of other trials is not gone on from.
    other: list[int] = []
    Batch(settings, Cell("rbp-zero", 4), [0, 1], data, held).run(other.append)
    assert other == [3] * 5


@pytest.fixture
def few(monkeypatch, waves):
    """The command on tiny networks and made images."""
    monkeypatch.setitem(command.SETTINGS, command.Size.REDUCED, replace(TINY, epochs=1))
    monkeypatch.setattr(command, "load_mnist", lambda data_dir, notify: waves)


def called(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_a_first_batch_that_takes_long_has_a_folder_to_write_to(tmp_path, few, monkeypatch):
    written = []
    offer = Aside.offer

    def watched(aside, state):
        offer(aside, state)
        written.append(aside.path.exists())

    monkeypatch.setattr(Aside, "offer", watched)
    monkeypatch.setattr(command, "Batch", partial(Batch, every=0.0))
    ran = called("--cells", "neumann:10", "--trials", 1, "--out", tmp_path / "not" / "there")
    assert ran.exit_code == 0, ran.output
    assert written == [True]


def test_the_command_goes_on_where_it_stood_and_refuses_other_settings(tmp_path, few):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "published_tables.md"
    page.write_text("<!-- hopfield reduced -->\n<!-- end of hopfield reduced -->\n")
    out = tmp_path / "out"
    ran = called("--cells", "neumann:10,rbp-uniform:5", "--trials", 2, "--out", out)
    assert ran.exit_code == 0, ran.output
    first = (out / "trials.jsonl").read_text()
    assert len(first.splitlines()) == 4
    ran = called("--cells", "neumann:10,dense", "--trials", 3, "--out", out, "--publish", tmp_path / "docs")
    assert ran.exit_code == 0, ran.output
    lines = (out / "trials.jsonl").read_text()
    assert lines.startswith(first)
    added = [(row["row"], row["trial"]) for row in map(json.loads, lines.splitlines()[4:])]
    # By trials, so that all cells grow together.
    assert added == [("dense", 0), ("dense", 1), ("dense", 2), ("neumann", 2)]
    assert not any((out / "unfinished").iterdir())
    content = json.loads((tmp_path / "docs" / "results" / "hopfield.json").read_text())
    assert {(c["row"], c["steps"]): c["trials"] for c in content["cells"]} == {
        ("neumann", 10): 3,
        ("rbp-uniform", 5): 2,
        ("dense", 0): 3,
    }
    assert "| Neumann-RBP |" in (out / "hopfield.md").read_text()
    assert (out / "hopfield.md").read_text().strip() in page.read_text()
    for name in ("hopfield_memory.png", "hopfield_losses.png"):
        pixels = matplotlib.image.imread(tmp_path / "docs" / "images" / name)
        assert pixels[..., :3].std() > 0.05
    refused = called("--cells", "dense", "--seed", 1, "--out", out)
    assert refused.exit_code == 2
    assert "seed 0 there, 1 now" in " ".join(refused.output.split())
    assert lines == (out / "trials.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "tbtt:10"], "did you mean 'tbptt'"),
        (["--trials", "0"], "--trials"),
        (["--epochs", "0"], "--epochs"),
        (["--size", "huge"], "'huge'"),
        (["--device", "abacus"], "abacus"),
        (["--publish", "nowhere"], "<!-- hopfield reduced -->"),
    ],
)
def test_bad_input_is_refused_before_any_work(tmp_path, few, arguments, message):
    ran = called(*arguments, "--out", tmp_path / "out")
    assert ran.exit_code == 2
    assert message in ran.output
    assert not (tmp_path / "out" / "trials.jsonl").exists()


def test_the_table_has_the_published_figures_beside_ours(tmp_path):
    results = Results(tmp_path, TINY, images())
    for cell in all_cells():
        results.add([row_of(cell, trial) for trial in range(4)])
    text = markdown(summary(results, TINY, 4))
    # Three of four trials end below half of 0.3, all below half of the first epoch's 0.5.
    assert "| TBPTT | 100, 100, 100 | 75, 75, 75 | 100, 100, 100 | 0.1, 0.1, 0.1 |" in text
    assert "| RBP, random z0 | 1, 4, 99 | 75, 75, 75 | 100, 100, 100 |" in text
    assert "| exact (LU) |  | 75 | 100 | 0.1 | 10.0 % | 0.20 |" in text
    shown = pictures.memory(results, TINY, images())
    titles = [ax.get_title() for ax in shown.axes if ax.get_title()]
    assert titles[0] == "asked"
    assert titles[-1] == "image"
    assert len(titles) == 2 + len(ROWS)
    # Where a loss was not finite there is none, in a file that JSON can hold.
    results.add([row_of(Cell("neumann", 40), trial, lost=True) for trial in range(2)])
    content = json.loads(json.dumps(summary(results, TINY, 4), allow_nan=False))
    assert [c["steps"] for c in content["cells"] if c["final_loss"] is None] == [40]
    assert "not finite" in markdown(content)


def row_of(cell, trial, lost=False):
    made = {
        "row": cell.row,
        "steps": cell.steps,
        "trial": trial,
        "initial_loss": 0.3,
        "final_loss": None if lost else 0.1 if trial else 0.2,
        "success": bool(trial) and not lost,
        "wrong_pixels": 0.1,
        "failed_rows": 0,
        "losses": [0.5, 0.2],
        "radii": [0.1, 0.2],
        "epochs": [1, 2],
        "seconds": 1.0,
    }
    return made | ({"asked": memories.packed(images()), "answered": memories.packed(images())} if trial == 0 else {})


def test_with_ten_steps_a_random_start_spoils_what_zero_learns(tmp_path):
    """The table's pattern, in a network large enough to show it and small enough for a test."""
    settings = smaller(6, 16, slope=4.0, rate=5.5e-3, epochs=12)
    data = images(10, 36)
    ends = {}
    for name in ("rbp-uniform", "rbp-zero"):
        rows = Batch(settings, Cell(name, 10), [0, 1], data, tmp_path / "c").run(lambda k: None)
        ends[name] = [row["final_loss"] / row["initial_loss"] for row in rows]
    assert max(ends["rbp-zero"]) < 0.7 < 1 < min(ends["rbp-uniform"])
