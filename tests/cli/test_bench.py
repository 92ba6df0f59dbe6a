"""`cde-nets bench` hands over to the benchmarks of a checkout, and says where they are elsewhere."""

import sys

import pytest

from cde_nets.cli import bench

FAKE = """import typer

app = typer.Typer(add_completion=False)


@app.command()
def bench(rows: str = "", fail: bool = False) -> None:
    print(f"rows {rows}")
    raise typer.Exit(4 if fail else 0)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A checkout whose benchmarks take no time."""
    root = tmp_path / "checkout"
    (root / "benchmarks").mkdir(parents=True)
    (root / "benchmarks" / "__init__.py").write_text("")
    (root / "benchmarks" / "__main__.py").write_text(FAKE)
    (root / "pyproject.toml").write_text("")
    monkeypatch.setattr(bench, "__file__", str(root / "cde_nets" / "cli" / "bench.py"))
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "benchmarks"}
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield root
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]
    sys.modules.update(before)


def test_arguments_and_exit_codes_pass_through(fake, command):
    done = command("bench", "--rows", "euler")
    assert (done.code, done.out) == (0, "rows euler\n")
    assert command("bench").out == "rows \n"
    assert command("bench", "--fail").code == 4
    refused = command("bench", "--rowz")
    assert refused.code == 2
    assert "--rows" in refused.err
    shown = command("bench", "--help")
    assert shown.code == 0
    assert "--rows" in shown.out


def test_this_checkout_has_benchmarks():
    assert (bench.checkout() / "benchmarks" / "flows").is_dir()


def test_without_a_checkout_it_says_where_they_are(tmp_path, monkeypatch, command):
    # Another package's folder of this name beside an installed package is not ours.
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__main__.py").write_text("raise SystemExit('not ours')")
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "cde_nets" / "cli" / "bench.py"))
    done = command("bench", "--rows", "euler")
    assert done.code == 2
    assert done.out == ""
    assert "folder benchmarks of the source" in done.err
    shown = command("bench", "--help")
    assert shown.code == 0
    assert "cde-nets bench" in shown.out


def test_benchmarks_that_cannot_be_imported_have_failed(fake, command):
    (fake / "benchmarks" / "__main__.py").write_text("import nowhere_at_all\n")
    done = command("bench")
    assert done.code == 1
    assert "nowhere_at_all" in done.err
    assert "[bench]" in done.err
