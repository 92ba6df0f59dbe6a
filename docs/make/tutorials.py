"""Makes the tutorials' pages from their scripts: prose, code, what the code printed, and its figure.

A script is cells that begin with `# %%`. The comments at the beginning of a cell are prose, in Markdown; the rest is
code.
`python docs/make/tutorials.py moons` writes docs/tutorials/moons.md, without a name all of them.
"""

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "tutorials"


def cells(source: str) -> list[tuple[str, str]]:
    """Prose and code of every cell of a script."""
    found = []
    for cell in source.split("# %%\n")[1:]:
        lines = cell.strip("\n").split("\n")
        code = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
        prose = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:code])
        found.append((prose.strip(), "\n".join(lines[code:]).strip("\n")))
    return found


def run(source: str, folder: Path) -> list[str]:
    """What the code of every cell prints, run in a folder, where figures go."""
    names: dict[str, Any] = {"__name__": "tutorial"}
    printed = []
    with contextlib.chdir(folder):
        for _, code in cells(source):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code, "tutorial", "exec"), names)  # noqa: S102
            printed.append(out.getvalue())
    return printed


def page(name: str, source: str, printed: list[str]) -> str:
    """The page: the last cell's prose may show the figure."""
    parts = []
    for (prose, code), out in zip(cells(source), printed, strict=True):
        parts.append(prose)
        if code:
            parts.append(f"```python\n{code}\n```")
        if out:
            parts.append(f"```text\n{out}```")
    parts.append(f"*This page is made from [{name}.py]({name}.py) by `make tutorials`.*")
    return "\n\n".join(parts) + "\n"


def printed_in(text: str) -> list[str]:
    """The outputs of a page, in turn."""
    return re.findall(r"```text\n(.*?)```", text, flags=re.DOTALL)


def main(wanted: list[str]) -> None:
    """Writes pages."""
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in wanted or sorted(path.stem for path in FOLDER.glob("*.py")):
        source = (FOLDER / f"{name}.py").read_text()
        (FOLDER / f"{name}.md").write_text(page(name, source, run(source, FOLDER)))


if __name__ == "__main__":
    main(sys.argv[1:])
