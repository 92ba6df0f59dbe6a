"""What commands show, by the terminal they have."""

import io
import json

import pytest
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from experiments import shown

NAMES = ("dimension", "determinants", "displacements", "refinements")


def table():
    made = Table("example", *NAMES, title="classical")
    made.add_row("unicycle", "1.2345e-10", "12345678.9", "1.5", "2.5")
    made.add_row("[bold]disc[/]", "1", "", "3", "[dim]4[/]")
    return made


def said(monkeypatch, what, *, columns=None, terminal=False, **env):
    for name, value in {"COLUMNS": columns and str(columns), "NO_COLOR": None, **env}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    written = io.StringIO()
    colours = None if env.get("NO_COLOR") else "standard"
    to = Console(file=written, force_terminal=terminal, color_system=colours if terminal else None)
    monkeypatch.setattr(shown, "console", lambda: to)
    shown.say(False, {}, what)
    return written.getvalue()


def test_where_a_program_reads_a_table_is_as_wide_as_its_words(monkeypatch):
    wide = Table("a", "b")
    wide.add_row("word " * 20, "word " * 20)
    text = said(monkeypatch, wide)
    assert text.count("\n") == 5
    assert text.count("word") == 40


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_in_a_narrow_terminal_rows_are_paragraphs_and_nothing_is_cut_off(monkeypatch, columns):
    text = said(monkeypatch, table(), columns=columns, terminal=True, NO_COLOR="1")
    assert max(len(line) for line in text.splitlines()) <= columns
    words = " ".join(text.split())
    for word in (
        "classical",
        "unicycle",
        "determinants: 12345678.9",
        "dimension: 1.2345e-10",
        "disc",
        "refinements: 4",
    ):
        assert word in words
    assert "…" not in text
    # An empty cell says nothing.
    assert words.count("determinants") == 1


def test_where_it_fits_it_is_a_table(monkeypatch):
    text = said(monkeypatch, table(), columns=120, terminal=True, NO_COLOR="1")
    assert "│ unicycle" in text
    assert "\x1b" not in text


def test_markdown_is_drawn_only_where_it_can_be_read(monkeypatch, capsys):
    page = Markdown("| a | b |\n|---|---|\n| 1 | 2 |")
    for how in ({}, {"columns": 40, "terminal": True}):
        assert said(monkeypatch, page, **how) == ""
        assert capsys.readouterr().out == page.markup + "\n"
    assert "─" in said(monkeypatch, page, columns=100, terminal=True)
    assert capsys.readouterr().out == ""


def test_json_is_one_object_without_infinities(capsys):
    shown.say(True, {"a": [1]}, table())
    assert json.loads(capsys.readouterr().out) == {"a": [1]}
    with pytest.raises(ValueError, match="JSON"):
        shown.say(True, {"a": float("inf")})


def test_a_bar_where_there_is_no_terminal_leaves_no_trace(capsys):
    with shown.progress() as bar:
        for _ in bar.track(range(3), description="work"):
            pass
    written = capsys.readouterr()
    assert written.err == ""
    assert written.out == ""
