"""Figures and tables of pages are what commands draw and what their numbers say."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Pictures that a browser draws, by `make screenshots`, and the page that shows each.
SCREENSHOTS = {"report.png": DOCS / "report.md", "site.png": ROOT / "README.md"}
# Rooms whose commands draw, and the name of a picture in their code.
ROOMS = ("experiments", "benchmarks", "cde_nets/plot")
# As commands print them.
FORMATS = (",", "g", ".0f", ".1f", ".2f", ".3f", ".4f", ".2g", ".3g", ".1e", ".2e")
# Tables whose rows hold what is computed from the numbers and not kept with them: how many such cells each has.
COMPUTED = {"stochastic_gradient": 3, "cheap_gradient": 3}
TABLES = re.findall(r"<!-- (\w+) -->", (DOCS / "lectures.md").read_text())


def sources():
    return {file: file.read_text() for room in ROOMS for file in (ROOT / room).rglob("*.py")}


def module(file):
    """As the Makefile calls it: a file, or the package that it is a part of."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:2])


def drawn_by(picture, texts):
    """Modules in whose code the picture's name stands, with or without its ending."""
    name = Path(picture).stem.removesuffix("_cora")
    found = re.compile(rf"""["'/]{re.escape(name)}(\.(png|gif)|_\{{\w+\}}\.png)?["']""")
    return {module(file) for file, text in texts.items() if found.search(text)}


def test_every_picture_is_drawn_by_a_command_that_make_runs():
    texts, makefile = sources(), (ROOT / "Makefile").read_text()
    published = set(re.findall(r"-m ((?:experiments|benchmarks)[\w.]*)[^\n]*publish", makefile))
    # Its training run's pictures are those of `cde-nets plot`.
    assert "experiments.mnist_seeds" in published
    for picture in sorted(file.name for file in (DOCS / "images").iterdir()):
        by = drawn_by(picture, texts)
        if picture in SCREENSHOTS:
            assert f"images/{picture}" in SCREENSHOTS[picture].read_text()
            assert picture in (DOCS / "make" / "screenshots.py").read_text()
            assert "docs/make/screenshots.py" in makefile
            continue
        ours = {name for name in by if any(name == one or name.startswith(f"{one}.") for one in published)}
        assert ours or "cde_nets.plot" in by, f"{picture}: no published command draws it, only {sorted(by)}"


def test_every_picture_and_every_file_of_numbers_is_shown_or_named():
    pages = "".join(page.read_text() for page in (*DOCS.rglob("*.md"), ROOT / "README.md"))
    texts = "".join(sources().values())
    for folder in ("images", "results"):
        for file in sorted((DOCS / folder).iterdir()):
            named = f"{folder}/{file.name}" in pages
            # Numbers that no page links are at least written by a command.
            assert named or (folder == "results" and f'"{file.stem.removesuffix("_cora")}' in texts), file.name


def leaves(value):
    if isinstance(value, dict):
        for one in value.values():
            yield from leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def numbers(cell):
    """Of a cell's words those that are numbers, as they are printed."""
    return [
        word.rstrip("%") for word in re.split(r"[ ;|]+|, ", cell) if re.fullmatch(r"-?[\d,]*\.?\d+(e[+-]\d+)?%?", word)
    ]


def table(name):
    return (DOCS / "lectures.md").read_text().split(f"<!-- {name} -->")[1].split("<!-- end of")[0].strip()


def unsaid(name, text):
    """Numbers of the page's table, first column excepted, that no number of docs/results is when printed so."""
    known = {0.0}
    known.update(leaves(json.loads((DOCS / "results" / f"{name}.json").read_text())))
    scaled = [one * factor for one in known for factor in (1, 100)]
    printed = {format(one, how) for one in scaled for how in FORMATS if how != "," or one % 1 == 0}
    cells = [cell for line in text.splitlines()[2:] for cell in line.strip("| ").split(" | ")[1:]]
    return [number for cell in cells for number in numbers(cell) if number not in printed]


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_lectures_are_their_numbers(name):
    assert len(unsaid(name, table(name))) == COMPUTED.get(name, 0)


def test_another_number_is_noticed():
    text = table("logistic")
    assert unsaid("logistic", text) == []
    assert unsaid("logistic", text.replace("86.4 %", "86.9 %")) == ["86.9"]
