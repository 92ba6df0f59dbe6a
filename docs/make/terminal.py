"""Records commands as a terminal shows them, into docs/terminal.md: `make terminal`.

The commands run in a folder of their own, each in a pseudo-terminal; what they print is played on a screen, so that
bars which are drawn over and wiped away in the end are not in the text. Times stay as they came.
"""

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from experiments.pages import check, fill

DOCS = Path(__file__).parents[1]
PAGE, PICTURE = DOCS / "terminal.md", DOCS / "images" / "steered.png"
COLUMNS = 100
COMMANDS = {
    "train": "cde-nets train mnist --out RUN",
    "check": "cde-nets check RUN/network.safetensors --points 20",
    "steer": "cde-nets steer polynomial --points 10 --refine-to 1e-6 --out steered",
}
# What is drawn: characters, and what moves or wipes. Colours and the cursor's looks are no text.
_PIECE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([^\x1b])", re.DOTALL)


def screen(written: str) -> str:
    """What stands on a terminal after this was written to it, long lines whole.

    Raises:
        ValueError: a control sequence that is not known here.
    """
    lines, row, column, end = [""], 0, 0, 0
    for piece in _PIECE.finditer(written):
        if piece.start() != end:
            break
        end = piece.end()
        given, kind, character = piece.groups()
        line = lines[row]
        if character == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif character == "\r":
            column = 0
        elif character is not None:
            lines[row] = line[:column].ljust(column) + character + line[column + 1 :]
            column += 1
        elif kind == "A":
            row = max(0, row - int(given or 1))
        elif kind == "K":
            lines[row] = {"": line[:column], "0": line[:column], "2": ""}[given]
        elif kind not in "mhl":
            break
    if end != len(written):
        raise ValueError(f"a terminal's control sequence that is not known here: {written[end : end + 10]!r}")
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def recorded(command: str, folder: Path, environment: dict[str, str]) -> str:
    """The command with a prompt before it, and what it showed.

    Raises:
        subprocess.CalledProcessError: it failed; what it showed is in `output`.
    """
    ours, theirs = pty.openpty()
    environment = {**environment, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    arguments = [sys.executable, "-m", "cde_nets", *command.split()[1:]]
    process = subprocess.Popen(arguments, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)  # noqa: S603
    os.close(theirs)
    written = b""
    while True:
        try:
            written += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    if code := process.wait():
        raise subprocess.CalledProcessError(code, command, written)
    return f"$ {command}\n{screen(written.decode())}"


def main(
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the four MNIST files.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(COMMANDS)}; check needs train.")] = None,
) -> None:
    """Run the commands and fill the page; minutes, most of them training."""
    names = only or list(COMMANDS)
    for name in names:
        check(PAGE, name)
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if data_dir is not None:
            # By a name of its own: the page does not tell where this machine keeps its data.
            (folder / "mnist").symlink_to(data_dir.absolute())
            environment["CDE_NETS_DATA"] = "mnist"
        for name in names:
            fill(PAGE, name, f"```text\n{recorded(COMMANDS[name], folder, environment)}```")
        if "steer" in names:
            shutil.copy(folder / "steered" / "targets.png", PICTURE)


if __name__ == "__main__":
    typer.run(main)
