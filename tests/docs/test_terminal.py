"""docs/terminal.md holds what its commands showed, and the recorder shows what a terminal does."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")


@pytest.fixture(scope="module")
def terminal():
    spec = importlib.util.spec_from_file_location("terminal", ROOT / "docs" / "make" / "terminal.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("\x1b[1;31merror\x1b[0m  \r\n", "error\n"),
        ("10%\r100%\r\n", "100%\n"),
        ("long line\rshort\r\n", "shortline\n"),
        ("long line\r\x1b[Kshort\r\n", "short\n"),
        # As rich draws a bar, prints a line above it, and wipes it away in the end.
        ("\x1b[?25lbar 1\r\x1b[2Kline\r\nbar 2\r\n\x1b[?25h\r\x1b[1A\x1b[2Kend\r\n", "line\nend\n"),
    ],
)
def test_a_screen_after_what_was_written(terminal, written, shown):
    assert terminal.screen(written) == shown


def test_what_the_screen_does_not_know_is_refused(terminal):
    with pytest.raises(ValueError, match="not known here"):
        terminal.screen("a\x1b[5Bb")


def test_a_command_is_recorded_on_a_terminal(terminal, tmp_path, process):
    told = terminal.recorded("cde-nets list", tmp_path, dict(os.environ))
    assert told == "$ cde-nets list\n" + process("list", env={"COLUMNS": "100"}).out


def test_the_page_has_the_commands_and_what_they_said(terminal):
    page = terminal.PAGE.read_text()
    for name, command in terminal.COMMANDS.items():
        (text,) = re.findall(rf"<!-- {name} -->\n```text\n(.*?)```\n<!-- end of {name} -->", page, flags=re.DOTALL)
        assert text.startswith(f"$ {command}\n")
        assert "\x1b" not in text
        assert str(Path.home()) not in text
    readme = (ROOT / "README.md").read_text()
    for command in ("make mnist", "cde-nets check RUN/network.safetensors --points 20", "cde-nets steer polynomial"):
        assert command in readme
