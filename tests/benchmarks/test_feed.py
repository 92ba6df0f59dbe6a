"""What the fuzz of readers is made of, and what it found: each fault that was mended stays so."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import sympy
import torch
from typer.testing import CliRunner

import cde_nets as cn
import theory
from benchmarks.faults.__main__ import app
from benchmarks.faults.mutate import damaged, damaged_json
from benchmarks.faults.readers.runs import _Silent, trainer
from benchmarks.flows.record import Record
from cde_nets.data.citation.npz import read_npz
from cde_nets.train.checkpoint import NETWORK, load_tensors, save_tensors
from cde_nets.train.state import check_form
from cde_nets.train.trainer import STATE
from experiments.frontier.plan import FOLDER, GROUPS, entries
from experiments.kept import Kept, read_lines
from theory import checker
from theory.data import from_data

ROOT = Path(__file__).parents[2]
SMALL = cn.ImageNetworkConfig(size=8, classes=2, channels=2, intervals=(1,), count=3)
x, y = sympy.symbols("x y")


def test_damage_is_made_again_by_its_seed():
    whole = bytes(range(200))
    made = [damaged(Random(f"{k}"), whole, [whole]) for k in range(200)]
    assert made == [damaged(Random(f"{k}"), whole, [whole]) for k in range(200)]
    assert len(set(made)) > 150
    values = [json.dumps(damaged_json(Random(k), {"a": [1, 2], "b": {"c": 3}})) for k in range(200)]
    assert len(set(values)) > 100


def test_a_small_feed_finds_nothing(tmp_path):
    done = CliRunner().invoke(
        app, ["feed", "--count", "60", "--readers", "idx,kept,fields", "--out", str(tmp_path), "--json"]
    )
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "feed.json").read_text())
    assert [row["reader"] for row in result["readers"]] == ["idx", "kept", "fields"]
    for row in result["readers"]:
        assert row["tried"] == 20 == row["refused"] + row["accepted"] + row["faults"]
        assert row["faults"] == 0


@pytest.mark.parametrize("options", [["--readers", "ixd"], ["--readers", "idx", "--publish", "nowhere"]])
def test_what_cannot_be_fed_is_said_before_any_work(options, tmp_path):
    assert CliRunner().invoke(app, ["feed", *options, "--out", str(tmp_path / "out")]).exit_code == 2
    assert not (tmp_path / "out").exists()


# One process sees all that is forbidden, and that the rest is not.
GUARDED = """
import ast, os, pickle, socket, sys, time
from pathlib import Path
from benchmarks.faults.guard import ForbiddenError, Guard, LateError
scratch, outside = Path(sys.argv[1]), Path(sys.argv[2])
guard = Guard(scratch, 0.5, 256)
named = pickle.dumps(os.getcwd)

def said(act):
    try:
        with guard.watching():
            act()
    except ForbiddenError:
        return "forbidden"
    except LateError:
        return "late"
    except MemoryError:
        return "memory"
    return "done"

print(said(lambda: (scratch / "x").write_bytes(b"1")), said(lambda: (scratch / "x").read_bytes()),
      said(lambda: ast.parse("x + 1")), said(lambda: outside.write_bytes(b"1")), said(lambda: eval("1")),
      said(lambda: compile("1", "x", "eval")), said(lambda: os.system("true")), said(lambda: pickle.loads(named)),
      said(lambda: socket.socket()), said(lambda: os.remove(outside)),
      said(lambda: [time.process_time() for _ in iter(int, 1)]), said(lambda: bytearray(2**31)))
"""


def test_the_guard_sees_what_is_forbidden(tmp_path):
    (tmp_path / "scratch").mkdir()
    outside = tmp_path / "outside"
    outside.write_bytes(b"0")
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, str(tmp_path / "scratch"), str(outside)],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.split() == ["done"] * 3 + ["forbidden"] * 7 + ["late", "memory"]
    assert outside.read_bytes() == b"0"


UNSAFE = (
    r"import pickle", r"from pickle", r"\bpickle\.loads?\(", r"joblib\.load\(", r"allow_pickle=True", r"\bdill\b",
    r"\bmarshal\.", r"\bshelve\b", r"yaml\.load\(", r"weights_only=False", r"extractall\(",
    r"torch\.load\((?!.*weights_only=True)",
)  # fmt: skip
# An archive with a pickle in it, which must be refused, has to be made; and the guard names what it forbids.
MAKES_ONE = {"benchmarks/faults/readers/data.py", "benchmarks/faults/guard.py"}


def test_nothing_is_unpickled_and_nothing_is_extracted():
    files = [p for room in ("cde_nets", "theory", "experiments", "benchmarks") for p in (ROOT / room).rglob("*.py")]
    assert len(files) > 300
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        for line in path.read_text().splitlines()
        if any(re.search(pattern, line) for pattern in UNSAFE) and str(path.relative_to(ROOT)) not in MAKES_ONE
    ]
    assert found == []


# What the fuzz found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.pop("config"), "describes no network|holds another network"),
        (lambda about: about.pop("frozen_digest"), "frozen_digest is None"),
        (lambda about: about["config"].update(size=2**31), "first state would have"),
        (lambda about: about["config"].update(degree=2**31), "degree must be at most"),
        (lambda about: about["config"].update(control_scale=10**400), "control_scale must be finite"),
        (lambda about: about["config"].update(count=2**31), "frozen numbers"),
    ],
)
def test_forged_networks_are_refused_before_they_are_drawn(change, message, tmp_path, bad_input):
    network, path = cn.image_network(SMALL), tmp_path / "n.safetensors"
    about = {"config": SMALL.to_dict(), "frozen_digest": network.frozen_digest()}
    change(about)
    save_tensors(path, NETWORK, dict(network.named_parameters()), about)
    with pytest.raises(ValueError, match=message):
        cn.load_network(path)


def test_a_network_with_nan_is_refused(tmp_path):
    network, path = cn.image_network(SMALL), tmp_path / "n.safetensors"
    values = {name: p.detach() * float("nan") for name, p in network.named_parameters()}
    save_tensors(path, NETWORK, values, {"config": SMALL.to_dict(), "frozen_digest": network.frozen_digest()})
    with pytest.raises(ValueError, match="not finite"):
        cn.load_network(path)


@pytest.mark.parametrize("found", [{"a": 1}, {"a": 1, "b": 2.0, "c": 3}, {"a": True, "b": 1.0}, {"a": 1, "b": "x"},
                                   {"a": 1, "b": 3}, {"a": 1, "b": 10**400}, {"a": 1, "b": float("nan")},
                                   [1, 2.0]])  # fmt: skip
def test_a_state_of_another_form_is_refused(found):
    check_form({"a": 4, "b": 3.0}, {"a": 1, "b": 2.0}, "it")
    with pytest.raises(ValueError, match=r"it.* is damaged"):
        check_form(found, {"a": 1, "b": 2.0}, "it")


def test_text_is_never_run_as_code(tmp_path):
    told = tmp_path / "told"
    code = f"__import__('pathlib').Path({str(told)!r}).touch()"
    for ask in (
        lambda: theory.lie_bracket([code, 0], [0, 1], (x, y)),
        lambda: theory.read_fields([[code, 0]], (x, y)),
        lambda: theory.evaluate_at([x, y], (x, y), [[code, 0]]),
        lambda: theory.condition_two([[code, 0]], (x, y), (), at={}),
        lambda: cn.ExpressionFields([[[code], 0]], (x, y)),
    ):
        with pytest.raises(ValueError, match=r"expected an? (SymPy )?expression or a number"):
            ask()
    assert not told.exists()


def certificate(**changed):
    found = json.loads(theory.check_points(theory.five_fields(2), [[1, 2], [3, 5]], seed=0).to_json())
    return {**found, **changed}


@pytest.mark.parametrize(
    "changed",
    [{"rank": "x"}, {"proved": 1}, {"scope": {}}, {"depth": -1}, {"dim": 2.0}, {"dtype": 3}, {"runs": [{}]},
     {"words": [[0] * 300]}, {"runs": [{"prime": 7, "rank": 1, "depth": 1, "curves": {}}]}, {"claim": []},
     {"extra": 1}],
)  # fmt: skip
def test_certificates_of_other_types_are_refused(changed):
    with pytest.raises(ValueError, match="certificate"):
        theory.Certificate.from_json(json.dumps(certificate(**changed)))


def test_certificates_that_lack_a_part_are_refused():
    for name in certificate():
        short = certificate()
        del short[name]
        with pytest.raises(ValueError, match="no certificate"):
            theory.Certificate.from_json(json.dumps(short))


def test_the_checker_is_not_kept_busy_for_years():
    checker.check(certificate())
    busy = certificate()
    busy["runs"][-1]["depth"] = 100_000
    with pytest.raises(ValueError, match="multiplications"):
        checker.check(busy)
    wide = certificate()
    wide["data"]["fields"]["exponents"][0][0] = 2**40
    with pytest.raises(ValueError, match="numbers at once"):
        checker.check(wide)


def test_degrees_that_no_program_can_have_are_refused():
    with pytest.raises(ValueError, match="degree 1000, expected at most 100"):
        theory.MonomialProgram([[1000]], [[[1]]])
    program = theory.MonomialProgram([[100, 0], [0, 1]], [[[1, 0], [0, 1]], [[0, 1], [1, 0]]])
    assert theory.check_points(program, [[1, 2]], seed=0).rank == 2


def test_spherical_fields_carry_nan():
    """A NaN was taken for the origin, where the fields are zero: the row looked at rest."""
    F = cn.SphericalFields(cn.PolynomialFields.random(2, 3, 2, seed=0, dtype=torch.float64))
    at = torch.tensor([[float("nan"), 1.0], [0.0, 0.0]], dtype=torch.float64)
    values = F.evaluate(at)
    assert not torch.isfinite(values[0]).any()
    assert (values[1] == 0).all()


def test_names_of_no_characters_are_refused():
    from cde_nets.data.citation.graph import _names

    array = np.array([0x110000], dtype=np.uint32).view("<U1")
    with pytest.raises(ValueError, match="expected those of characters"):
        _names({"class_names": array}, "class_names", "it")


def test_a_file_name_stands_before_what_is_wrong_in_it(tmp_path):
    path = tmp_path / "rows.jsonl"
    for text, message in (("3\n", "expected an object"), ('{"a": 1}\n', "found no seed"), ("[" * 9000, "recursion")):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{re.escape(str(path))}, line 1.*{message}"):
            read_lines(path, ["seed"])
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        read_lines(path, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [("entry = 3", "tables"), ("[[entry]]\nname = 3\nsays = 'x'\nkind = 'fields'\nseeds = 1\nat_most = 3", "be text"),
     ("[[entry]]\nname = '../x'\nsays = 'x'\nkind = 'fields'\nseeds = 1\nat_most = 3", "a folder can have"),
     ("[[entry]]\nname = 'x'\nsays = 'x'\nkind = []\nseeds = 1\nat_most = 3", "kind must be text"), ("=", "no TOML")],
)  # fmt: skip
def test_tables_of_other_types_are_refused(text, message, tmp_path):
    for group in GROUPS:
        (tmp_path / f"{group}.toml").write_text((FOLDER / f"{group}.toml").read_text())
    (tmp_path / f"{GROUPS[0]}.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        entries(tmp_path)


def test_a_number_beyond_the_doubles_is_no_rate(bad_input):
    with pytest.raises(ValueError, match="learning_rate must be finite"):
        cn.train.TrainConfig.from_dict({"learning_rate": 10**400})
    with pytest.raises(ValueError, match="shift must be finite"):
        cn.train.TrainConfig.from_dict({"shift": 10**400})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, about: about["progress"].update(failed=2**40), "as right and"),
        (lambda tensors, about: about["progress"].update(correct=-1), "as right and"),
        (lambda tensors, about: tensors["optimizer/0/step"].fill_(-3), "optimizer/0/step is -3"),
        (lambda tensors, about: tensors["optimizer/0/mean"].fill_(float("inf")), "optimizer/0/mean is not finite"),
        (lambda tensors, about: [tensors.pop(name) for name in [*tensors] if name.startswith("optimizer")], "moments"),
        (lambda tensors, about: about["param_groups"][0].update(betas=[0, 2**70]), "expected a finite number"),
    ],
)
def test_forged_states_of_trainings_are_refused(change, message, tmp_path):
    going = trainer(tmp_path / "run")
    going.start()
    going.fit(_Silent())
    tensors, about = load_tensors(going.run.state, STATE)
    change(tensors, about)
    save_tensors(going.run.state, STATE, tensors, about)
    going.run.result.unlink()
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "run").resume()


def test_an_archive_with_something_in_front_is_refused():
    held = io.BytesIO()
    np.savez(held, a=np.arange(3))
    assert read_npz(held.getvalue(), "x")["a"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="found no readable zip"):
        read_npz(b"x" + held.getvalue(), "x")


def test_settings_that_are_null_are_not_settings_that_are_missing(tmp_path):
    path = tmp_path / "kept.jsonl"
    path.write_text(json.dumps({"settings": {"a": 1, "b": None}}) + "\n")
    with pytest.raises(ValueError, match="b None there, 'nothing' now"):
        Kept(path, {"a": 1}, ())


@pytest.mark.parametrize("part", ["dtype", "exponents", "kind"])
def test_certificates_without_a_part_are_refused(part):
    data = {
        "fields": {"kind": "monomial", "dtype": None, "exponents": [[1]], "coefficients": [[["1"]]]},
        "points": None,
    }
    assert from_data(data)[0].dim == 1
    del data["fields"][part]
    with pytest.raises(ValueError, match=f"is no certificate.*{part}"):
        from_data(data)


def test_a_record_of_speed_has_no_more_than_its_parts():
    content = json.loads((ROOT / "docs" / "results" / "speed.json").read_text())
    Record.from_json(json.dumps(content))
    with pytest.raises(ValueError, match="it has x besides"):
        Record.from_json(json.dumps({**content, "x": 3}))


def test_a_power_beyond_reason_is_refused_before_it_is_taken():
    data = {"exponents": [[261763]], "coefficients": [[["1"]]]}
    assert checker.weight(data)[0] > 2e8


@pytest.mark.parametrize("shape", [[1, 1, 2**32], [2**31, 1, 1], [1, 2**62, 2**62]])
def test_images_that_no_memory_holds_are_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        theory.ConvolutionProgram(
            shape, np.ones((1, shape[0] if shape[0] < 9 else 1, 1, 1)), [0], None, [0], [0, 1], [[1]]
        )
