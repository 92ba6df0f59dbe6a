"""The frontier: its files, its runs, the networks beside ours, its tables."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from cde_nets.certify import check_flow, control_rank
from cde_nets.nn import ImageNetworkConfig
from cde_nets.train import Trainer, load_network
from experiments.frontier import app, certificates, command, plan, report, results
from experiments.frontier.command import best
from experiments.frontier.others import (
    DenseConfig,
    FeaturesConfig,
    LectureConfig,
    ResidualConfig,
    SubspaceConfig,
    VariantConfig,
)

RUNNER = CliRunner()
DOCS = Path(__file__).parents[2] / "docs"


def run(out, *arguments):
    return RUNNER.invoke(app, ["run", *arguments, "--data", "digits", "--quick", "--out", str(out)])


def row(name, seed, test, validation=0.9, **more):
    entry = plan.entries()[name]
    result = {
        "trained_parameters": 745, "frozen_parameters": 1, "test_accuracy": test, "validation_accuracy": validation,
        "seconds": 60.0, "epochs": 3, "seed": seed, **more,
    }  # fmt: skip
    return results.row_of(entry, seed, 28, result)


def test_every_point_trains_as_many_numbers_as_it_may_within_four_percent():
    points = [entry for entry in plan.entries().values() if entry.group == "frontier"]
    assert [point.at_most for point in points] == [100, 300, 750, 1500, 3000, 5000, 10000]
    for point in points:
        network = point.configurations(0, 28)[0].build()
        assert 0.96 * point.at_most < network.trained_numbers <= point.at_most
        assert point.seeds >= (5 if point.at_most <= 3000 else 3)


def test_the_fields_of_every_point_are_polynomial():
    for entry in plan.entries().values():
        if entry.group == "frontier":
            network = entry.configurations(0, 28)[0].build()
            assert all(family.degree <= 3 for flow in network.flows() for family in flow.families)


def test_one_command_trains_and_the_next_reads_back(tmp_path, monkeypatch):
    first = run(tmp_path, "750")
    assert first.exit_code == 0, first.output
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["name"], line["seed"], line["kind"]) for line in lines] == [("750", 0, "fields")]
    assert lines[0]["trained_parameters"] == 745
    assert lines[0]["data"] == "scikit-learn"
    assert 0.3 < lines[0]["test_accuracy"] < 1
    monkeypatch.setattr(Trainer, "fit", lambda *_: pytest.fail("it was done already"))
    second = run(tmp_path, "750")
    assert second.exit_code == 0
    # Nor is a folder needed where there is a line.
    for file in (tmp_path / "750").rglob("*.*"):
        file.unlink()
    third = run(tmp_path, "750")
    assert third.exit_code == 0
    assert "745" in third.output
    assert [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()] == lines
    assert json.loads(run(tmp_path, "750", "--json").stdout) == {"runs": lines}


def test_the_list_says_what_is_planned_and_what_is_done(tmp_path):
    lines = [results.text([row("750", seed, 0.9)]).decode() for seed in (0, 2)]
    (tmp_path / "results.jsonl").write_text("".join(lines))
    listed = RUNNER.invoke(app, ["list", "--out", str(tmp_path), "--json"])
    found = {
        entry["name"]: (entry["group"], entry["planned"], entry["done"])
        for entry in json.loads(listed.stdout)["entries"]
    }
    assert list(found) == list(plan.entries())
    assert (found["750"], found["adam"]) == (("frontier", 5, [0, 2]), ("ablation", 3, []))


def test_lines_of_other_configurations_are_nobodys(tmp_path):
    entries = plan.entries()
    old = replace(entries["750"], training={**entries["750"].training, "epochs": 3})
    lines = [results.row_of(old, 0, 28, row("750", 0, 0.9)), row("750", 1, 0.91)]
    (tmp_path / "results.jsonl").write_bytes(results.text(lines))
    assert results.keep(tmp_path, entries, 28) == results.collect(tmp_path, entries, 28) == lines[1:]
    # Nor are they lost.
    kept = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert kept == json.loads(json.dumps(lines[::-1]))


def test_seeds_that_are_not_asked_for_now_are_kept(tmp_path):
    for seeds in ("2", "1"):
        found = run(tmp_path, "750", "--seeds", seeds)
        assert found.exit_code == 0
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["seed"] == 0
    (tmp_path / "results.jsonl").write_text(line + "\n" + line.replace('"seed": 0', '"seed": 1') + "\n")
    again = run(tmp_path, "u = 0")
    assert again.exit_code == 0
    names = [json.loads(line)["name"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert sorted(names) == ["750", "750", "u = 0"]


def test_a_line_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"name": "750"}\n')
    with pytest.raises(ValueError, match=r"results.jsonl, line 1: found no seed, so no run"):
        results.collect(tmp_path, plan.entries(), 28)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "751", "--data", "digits"], ["There is no 751", "frontier, ablation, others", "10000"]),
        (["run", "LeNet subspace", "--data", "digits"], ["A LeNet wants images of at least 16 x 16; got size 8"]),
        (["run", "750", "--data-dir", "nowhere"], ["nowhere (there is no such directory)"]),
        (["run", "750", "--data", "fashion", "--data-dir", "nowhere"], ["found neither train-images-idx3-ubyte"]),
        (["publish", "nowhere"], ["frontier.md must hold"]),
        (["certify", "dense"], ["dense has no finished run in runs/frontier: run it first"]),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    found = RUNNER.invoke(app, arguments)
    assert found.exit_code == 2
    said = " ".join(found.output.replace("│", " ").split())
    for word in words:
        assert word in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[entry]]\nname = "a"\n', "an entry has name; expected kind, name, says, seeds"),
        ('[[entry]]\nname = "a"\nsays = "b"\nseeds = 1\nkind = "x"\n', "kind must be one of fields, features"),
        ('[[entry]]\nname = "a"\nsays = "b"\nseeds = 1\nkind = "dense"\nnetwork.deep = 1\n', "Unknown in DenseConfig"),
        (2 * '[[entry]]\nname = "a"\nsays = "b"\nseeds = 1\nkind = "dense"\n', "there are two entries 'a'"),
    ],
)
def test_files_that_describe_nothing_are_refused(tmp_path, text, words):
    for group in plan.GROUPS:
        (tmp_path / f"{group}.toml").write_text(text if group == "others" else "")
    with pytest.raises(ValueError, match=words):
        plan.entries(tmp_path)


def test_what_an_entry_says_goes_before_what_its_file_says(tmp_path):
    shared = 'kind = "dense"\nseeds = 2\nsays = "b"\n[training]\nepochs = 4\nshift = 2.0\n'
    for group in plan.GROUPS:
        text = shared + '[[entry]]\nname = "a"\ntraining.epochs = 5\n' if group == "others" else ""
        (tmp_path / f"{group}.toml").write_text(text)
    _, training = plan.entries(tmp_path)["a"].configurations(3, 28)
    assert (training.epochs, training.shift, training.seed) == (5, 2.0, 3)


@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        (DenseConfig(), 784 * 512 + 512 + 512 * 384 + 384 + 384 * 10 + 10),
        (FeaturesConfig(), 90 * 10 + 10),
        (LectureConfig(), 10 * 10 + 196 * 10 + 10),
        (ResidualConfig(), 104 + 4 * 148 + 50),
        (SubspaceConfig(count=31), 31),
        (VariantConfig(activation="relu"), 745),
        (VariantConfig(intervals=(4, 4, 4), terms=2), 745),
    ],
)
def test_networks_beside_ours_train_what_is_said(config, numbers):
    one, again, other = config.build(), config.build(), replace(config, seed=1).build()
    assert one.trained_numbers == numbers
    x = torch.rand(3, 28, 28, generator=torch.Generator().manual_seed(0))
    assert one(x).shape == (3, 10)
    assert torch.equal(one(x), again(x))
    assert not torch.allclose(one(x), other(x))
    one(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in one.parameters())
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_lenet_has_the_published_number_of_weights():
    """Li et al. (2018), section 3.2: 44,426."""
    subspace = SubspaceConfig(count=2).build().body
    assert subspace.get_buffer("start").numel() == 44_426


def test_the_subspace_s_gradient_is_the_whole_gradient_seen_along_its_directions():
    network = SubspaceConfig(count=5).build().double()
    subspace = network.body
    torch.testing.assert_close(subspace.directions.norm(dim=1), torch.ones(5, dtype=torch.float64))
    x = torch.rand(4, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network(x).logsumexp(1).sum().backward()
    side = nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    ).double()
    torch.nn.utils.vector_to_parameters(subspace.start, side.parameters())
    centred = (x - x.mean((1, 2), keepdim=True)) / x.std((1, 2), correction=0, keepdim=True)
    side(centred[:, None]).logsumexp(1).sum().backward()
    whole = torch.cat([p.grad.flatten() for p in side.parameters()])
    torch.testing.assert_close(subspace.v.grad, subspace.directions @ whole)


def test_the_lecture_s_flow_is_euler_on_its_fields():
    flow = LectureConfig(size=8, count=3, steps=4).build().double().body[2]
    x = torch.rand(2, 16, dtype=torch.float64)
    want = x
    for u in flow.u:
        want = want + sum(u[i] * torch.tanh(want @ flow.kernels[i].mT + flow.offsets[i]) for i in range(3)) / 4
    torch.testing.assert_close(flow(x), want)


def test_the_network_written_with_plain_torch_is_ours():
    ours, plain = ImageNetworkConfig(seed=3).build().double(), VariantConfig(deskew=True, seed=3).build().double()
    x = torch.rand(4, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(x), ours(x), rtol=1e-10, atol=1e-10)
    for network in (ours, plain):
        network(x).logsumexp(1).sum().backward()
    for control, flow in zip(plain.controls, ours.flows(), strict=True):
        torch.testing.assert_close(control.values.grad, flow.control.values.grad, rtol=1e-9, atol=1e-9)


def test_what_is_exchanged_is_exchanged():
    x = torch.rand(4, 28, 28, generator=torch.Generator().manual_seed(0))
    ours = VariantConfig().build()
    others = [VariantConfig(activation="relu"), VariantConfig(activation="tanh"), VariantConfig(sphere=False)]
    assert not any(torch.allclose(config.build()(x), ours(x), rtol=1e-2) for config in others)
    # One cosine is a constant: the same control on all intervals.
    constant = VariantConfig(intervals=(3, 1), terms=1).build()
    middles = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    for control in constant.controls:
        assert torch.equal(control.at(middles), control.coefficients.expand(3, -1))
    for bad, words in (({"activation": "sine"}, "polynomial, relu, tanh; got 'sine'"), ({"terms": 0}, "got 0")):
        with pytest.raises(ValueError, match=words):
            VariantConfig(**bad)


def test_untrained_controls_are_not_trained_and_no_flow_is_none():
    still = FeaturesConfig().build()
    assert not any(flow.control.values.any() for flow in still.body[0]._network[0].flows())
    moving = FeaturesConfig(control_scale=0.1).build()
    before = {name: value.clone() for name, value in moving.named_buffers()}
    moving(torch.rand(2, 28, 28)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in moving.named_buffers())
    assert moving.frozen_digest() != still.frozen_digest()


def test_tables_give_mean_and_spread():
    rows = [row("750", seed, test, seconds=60.0 + 9 * seed) for seed, test in enumerate((0.98, 0.99, 0.982))]
    lines = report.frontier_table(plan.entries(), rows).splitlines()
    assert len(lines) == 3
    deviation = math.sqrt(((98 - 98.4) ** 2 + (99 - 98.4) ** 2 + (98.2 - 98.4) ** 2) / 2)
    assert f"| 98.40 ± {deviation:.2f} |" in lines[2]
    assert lines[2].startswith("| 750 | 745 |")
    assert lines[2].endswith("| 3 | 3 | 1.0 | 94.5 |")
    one = report.group_table(plan.entries(), [row("dense", 0, 0.987)], "others").splitlines()[2]
    assert "| 745 | 98.70 | 90.00 | 1 | 1.0 |" in one


def test_a_network_s_stages_are_certified_where_its_images_come_and_its_rank_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "MOST_RANK", 120)
    config = ImageNetworkConfig(size=8, classes=3, channels=3, intervals=(1, 1), count=12, control_scale=0.3)
    network = config.build()
    images = torch.rand(9, 8, 8, generator=torch.Generator().manual_seed(0))
    found = certificates.certify(network, images)
    assert [stage["points"] for stage in found["stages"]] == [120 // 48, 9]
    # On spheres the full rank is a dimension less at each point.
    assert [stage["full_rank"] for stage in found["stages"]] == [2 * 47, 9 * 11]
    state = network.start(images)
    alone = check_flow(network.flows()[0], state[:2], seed=0)
    assert found["stages"][0]["rank"] == alone.rank
    assert found["jacobian"] == {"images": 9, "rank": control_rank(network, images).rank, "outputs": 27, "numbers": 25}
    certificates.write(tmp_path / "kept.json", {"750": {"seed": 0, **found}})
    kept = certificates.read(tmp_path / "kept.json")
    assert kept == {"750": {"seed": 0, **found}}
    line = certificates.table(kept).splitlines()[2]
    proved = "" if found["stages"][0]["proved"] else "not proved: "
    assert line.startswith(f"| 25 | {proved}{alone.rank} of 94 (2, {alone.depth}); ")
    assert line.endswith(f"| {found['jacobian']['rank']} of 25 at 9 images |")


def test_without_runs_the_published_networks_are_certified(tmp_path, monkeypatch, waves):
    seen, proved = [], {"stages": [], "jacobian": dict.fromkeys(("images", "rank", "outputs", "numbers"), 1)}
    monkeypatch.setattr(certificates, "certify", lambda network, images: seen.append(network.frozen_digest()) or proved)
    monkeypatch.setattr(command, "load_mnist", lambda folder, notify: waves)
    published, about = load_network("mnist-100")

    def certify(*lines):
        (tmp_path / "results.jsonl").write_bytes(results.text(list(lines)))
        return RUNNER.invoke(app, ["certify", "100", "--out", str(tmp_path), "--json"])

    found = certify()
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout) == {"certificates": {"100": {"seed": about["result"]["seed"], **proved}}}
    # Also of a result whose network is not there, if it is that network's.
    same = {name: about["result"][name] for name in ("seed", "test_accuracy")}
    assert certify(row("100", same["seed"], same["test_accuracy"])).exit_code == 0
    assert seen == 2 * [published.frozen_digest()]
    assert certify(row("100", 0, same["test_accuracy"])).exit_code == 2
    assert certify(row("100", same["seed"], 0.5)).exit_code == 2


def test_the_best_seed_is_the_best_on_validation():
    rows = [row("750", seed, test, validation) for seed, test, validation in ((0, 0.99, 0.97), (1, 0.98, 0.98))]
    assert best(rows, "750")["seed"] == 1
    assert best(rows, "300") is None


def test_the_docs_hold_what_is_run_now(tmp_path):
    """Each published line is of a configuration as it stands, and the page's tables are made from the lines."""
    (tmp_path / "results.jsonl").write_bytes((DOCS / "results" / "frontier.jsonl").read_bytes())
    published = (tmp_path / "results.jsonl").read_text().splitlines()
    rows = results.collect(tmp_path, plan.entries(), 28)
    assert len(rows) == len(published)
    assert report.frontier_table(plan.entries(), rows) in (DOCS / "frontier.md").read_text()
