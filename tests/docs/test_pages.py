"""What pages say that their code prints, it prints; and tutorials' pages are what their scripts make."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "quickstart.md", *sorted((DOCS / "howto").glob("*.md")), *sorted(DOCS.glob("faq.md"))]
SCRIPTS = sorted((DOCS / "tutorials").glob("*.py"))

_SPEC = importlib.util.spec_from_file_location("tutorials", DOCS / "make" / "tutorials.py")
tutorials = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tutorials)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages_print_what_they_say(path, bad_input, capsys):
    text = path.read_text()
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    # The text under an example of the command is not Python's.
    said = "".join(re.findall(r"```python\n.*?```\n\n```text\n(.*?)```", text, flags=re.DOTALL))
    exec(compile("".join(code), path.name, "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_tutorials_are_what_their_scripts_make(script, bad_input, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    source = script.read_text()
    made = tutorials.page(script.stem, source, tutorials.run(source, tmp_path))
    assert made == script.with_suffix(".md").read_text(), "make tutorials writes the pages again"
    figures = re.findall(r"!\[[^\]]+\]\((\S+)\)", made)
    assert figures
    for figure in figures:
        assert (tmp_path / figure).exists()
        assert script.with_name(figure).exists()


def test_cells():
    source = '"""A."""\n\n# %%\n# # Title\n#\n# Prose.\nprint(1)\n\n# %%\n# End.\n'
    assert tutorials.cells(source) == [("# Title\n\nProse.", "print(1)"), ("End.", "")]


def test_a_page_that_no_longer_fits_is_told(tmp_path):
    source = "# %%\n# # T\nprint(1)\n"
    assert tutorials.run(source, tmp_path) == ["1\n"]
    made = tutorials.page("t", source, ["1\n"])
    assert made.startswith("# T\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n")
    assert tutorials.page("t", source, ["2\n"]) != made
