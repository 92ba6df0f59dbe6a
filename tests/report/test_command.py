"""`cde-nets report`, as a user runs it: what it writes, and what it refuses before it writes anything."""

import dataclasses
import errno
import json
import os

import pytest

FILES = ("config.json", "metrics.jsonl", "network.safetensors", "result.json")
pytestmark = pytest.mark.usefixtures("own_data")


def refused(ran, *parts):
    """Exit code 2, one sentence on standard error with these parts, nothing on standard output."""
    assert ran.code == 2, ran.err
    assert ran.out == ""
    said = " ".join(ran.err.split())
    assert said.startswith("error ")
    for part in parts:
        assert part in said


def test_a_page_in_the_runs_folder(command, finished):
    before = {name: (finished / name).read_bytes() for name in FILES}
    ran = command("report", str(finished), "--certificate", "2")
    assert ran.code == 0, ran.err
    page = finished / "report.html"
    assert ran.out.startswith(f"{page} (")
    assert "Proved: rank" in ran.out
    assert '<section id="certificate"' in page.read_text()
    assert {name: (finished / name).read_bytes() for name in FILES} == before
    assert {path.name for path in finished.iterdir()} == {*FILES, "state.safetensors", "report.html"}


def test_json_and_another_place(command, finished, tmp_path):
    out = tmp_path / "page.html"
    ran = command("report", str(finished), "--out", str(out), "--certificate", "0", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["report"] == str(out)
    assert ran.json["bytes"] == out.stat().st_size
    assert (ran.json["proved"], ran.json["certificate"]) == (None, None)
    assert '<section id="certificate"' not in out.read_text()
    assert not (finished / "report.html").exists()


def test_a_certificate_without_time_is_not_proved_and_the_page_is_written(command, finished):
    ran = command("report", str(finished), "--certificate", "2", "--time-limit", "0", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["proved"] is False
    assert ran.json["certificate"].startswith("Not proved: ")
    assert "Not proved: " in (finished / "report.html").read_text()


def test_a_large_last_stage_is_certified_only_when_asked(command, finished, monkeypatch):
    monkeypatch.setattr("cde_nets.report.page._QUICK_RANK", 89)
    ran = command("report", str(finished), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["certificate"] is None
    assert "Ask by --certificate 1." in " ".join(ran.err.split())


def test_more_certified_images_than_there_are(command, finished):
    refused(command("report", str(finished), "--certificate", "61"), "--certificate is 61; there are 60 test images.")


def test_no_folder(command, tmp_path):
    refused(command("report", str(tmp_path / "absent")), "absent: no such folder.")


def test_a_folder_that_is_no_run(command, tmp_path):
    (tmp_path / "other").mkdir()
    refused(command("report", str(tmp_path / "other")), "other is not a run: it has no config.json.")
    assert list((tmp_path / "other").iterdir()) == []


def test_a_file_in_a_run(command, finished):
    refused(command("report", str(finished / "result.json")), "result.json is a file; a run is a folder.")


def test_a_run_that_is_not_finished(command, finished):
    (finished / "result.json").unlink()
    refused(
        command("report", str(finished)),
        "is not a finished run: it has no result.json. Go on with: cde-nets train mnist --resume",
    )


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda text: text[:-20], "line 3 is no JSON object. Put a whole copy in its place"),
        (lambda text: "".join(text.splitlines(keepends=True)[:2]), "lines 2, expected 3, one an epoch."),
        (lambda text: text.replace('"loss": ', '"loss": "low", "was": ', 1), "loss is 'low', expected int or float."),
        (lambda text: text.replace("{", "[1] {", 1), "line 1 is no JSON object."),
        (lambda text: "3\n" + text, "line 1 is no JSON object."),
        (lambda text: text + text.splitlines(keepends=True)[0], "lines 4, expected 3, one an epoch."),
        (lambda text: text.replace('"loss": ', '"loss": NaN, "was": ', 1), "loss is nan, expected int or float."),
    ],
)
def test_metrics_that_were_half_written(command, finished, keep, said):
    metrics = finished / "metrics.jsonl"
    metrics.write_text(keep(metrics.read_text()))
    refused(command("report", str(finished)), "metrics.jsonl is damaged" if "line" in said else "is damaged", said)
    assert not (finished / "report.html").exists()


def test_metrics_that_are_missing(command, finished):
    (finished / "metrics.jsonl").unlink()
    refused(
        command("report", str(finished)), "metrics.jsonl is missing, expected a file with a line for each of 3 epochs."
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seconds": None}, "seconds is None, expected int or float."),
        ({"epochs": True}, "epochs is True, expected int."),
        ({"confusion": [[1, 2], [3]]}, "confusion is no table of 10 x 10 counts."),
    ],
)
def test_a_damaged_result(command, finished, change, said):
    result = finished / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | change))
    refused(command("report", str(finished)), "result.json is damaged", said)


def test_a_damaged_network(command, finished):
    (finished / "network.safetensors").write_bytes(b"x" * 100)
    refused(command("report", str(finished)), "network.safetensors is damaged")


def test_files_of_two_runs(command, finished):
    config = json.loads((finished / "config.json").read_text())
    config["network"]["seed"] = 1
    (finished / "config.json").write_text(json.dumps(config))
    refused(command("report", str(finished)), "the files are of two runs")


def test_images_of_another_set(command, finished, own_data, waves):
    own_data(dataclasses.replace(waves, test=waves.validation))
    refused(command("report", str(finished)), "was evaluated on 60 test images (made), and 50 are at hand")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("page.png", "expected a name that ends in .html"),
        ("absent/page.html", "there is no folder"),
        ("folder.html", "is a folder: name a file, such as"),
    ],
)
def test_places_for_the_page(command, finished, tmp_path, out, said):
    (tmp_path / "folder.html").mkdir()
    refused(command("report", str(finished), "--out", out), said)


def test_a_folder_that_cannot_be_written(command, finished, monkeypatch):
    # As the superuser, whom modes do not stop, only the answer itself can be changed.
    monkeypatch.setattr("cde_nets.report.page.os.access", lambda path, mode: mode != os.W_OK)
    refused(command("report", str(finished)), "report.html cannot be written", "name another place by --out.")


def test_a_full_disk_is_a_failure_and_leaves_the_old_page(command, finished, monkeypatch):
    (finished / "report.html").write_text("old")

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("cde_nets.report.page.write_atomically", full)
    ran = command("report", str(finished), "--certificate", "0")
    assert ran.code == 1
    assert "No space left on device" in ran.err
    assert (finished / "report.html").read_text() == "old"


def test_help_loads_nothing_heavy(process):
    ran = process("report", "--help")
    assert ran.code == 0
    assert "Folder of a finished run." in ran.out
