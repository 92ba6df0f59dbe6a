"""Tables within pages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.pages import fill

ROOT = Path(__file__).parents[2]


def test_what_stands_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nafter <!-- b --><!-- end of b -->\n")
    fill(page, "a", "| new |\n")
    fill(page, "b", "more")
    wanted = "before\n<!-- a -->\n| new |\n<!-- end of a -->\nafter <!-- b -->\nmore\n<!-- end of b -->\n"
    assert page.read_text() == wanted
    fill(page, "a", "| new |")
    assert page.read_text() == wanted


@pytest.mark.parametrize(
    "text", ["", "<!-- a -->", "<!-- end of a --> <!-- a -->", "<!-- a --> <!-- end of a --> <!-- a -->"]
)
def test_a_page_without_its_marks_is_refused_and_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"page.md must hold <!-- a --> and then <!-- end of a -->"):
        fill(page, "a", "new")
    assert page.read_text() == text


def test_pages_are_utf_8_whatever_the_locale(tmp_path):
    page = tmp_path / "page.md"
    page.write_bytes("Größe – λ\n<!-- a -->\n<!-- end of a -->\n".encode())
    script = "import sys, pathlib, experiments.pages as p; p.fill(pathlib.Path(sys.argv[1]), 'a', chr(0xB5))"
    # Without coercion Python reads files as ASCII there.
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", script, page], check=True, env={**os.environ, **plain}, cwd=ROOT)
    assert page.read_bytes() == "Größe – λ\n<!-- a -->\nµ\n<!-- end of a -->\n".encode()
