"""What the lectures' commands leave behind."""

import math

import pytest
import typer

from cde_nets.plot.style import figure
from experiments.lectures import ready, write


def test_what_cannot_be_published_is_refused_before_work_starts(tmp_path):
    assert ready("a", tmp_path / "out", None, quick=True) == tmp_path / "out" / "quick"
    with pytest.raises(typer.BadParameter, match=r"lectures.md must hold <!-- a -->"):
        ready("a", tmp_path / "out", tmp_path)
    (tmp_path / "lectures.md").write_text("<!-- a --> <!-- end of a -->")
    ready("a", tmp_path / "out", tmp_path)
    with pytest.raises(typer.BadParameter, match="--quick shows that all runs"):
        ready("a", tmp_path / "out", tmp_path, quick=True)


def test_numbers_figure_and_table_go_where_they_belong(tmp_path, capsys):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "lectures.md").write_text("before\n<!-- a -->\nold\n<!-- end of a -->\n")
    out = ready("a", tmp_path / "out", docs)
    write("a", out, docs, {"b": [1.5]}, figure(1.0, 1.0), ["one", "two"], [["x", "2"]])
    wanted = "before\n<!-- a -->\n| one | two |\n| --- | ---: |\n| x | 2 |\n<!-- end of a -->\n"
    assert (docs / "lectures.md").read_text() == wanted
    assert (docs / "results" / "a.json").read_text() == (out / "a.json").read_text() == '{\n "b": [\n  1.5\n ]\n}\n'
    assert (docs / "images" / "a.png").read_bytes() == (out / "a.png").read_bytes()
    assert "two" in capsys.readouterr().out
    with pytest.raises(ValueError, match="not JSON compliant"):
        write("a", out, docs, {"b": math.nan}, figure(1.0, 1.0), [], [])
