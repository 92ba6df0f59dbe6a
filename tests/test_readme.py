"""The README's example runs, and its commands are the ones the Makefile and CI have."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_example_learns():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1e-2, "the four points begin at a mean square distance of 0.25"


@pytest.fixture
def run(bad_input, capsys):
    """What code prints, run as a module by itself, without the shape checker: a user has none."""

    def printed(code):
        capsys.readouterr()
        exec(compile(code, "page", "exec"), {"__name__": "page"})
        return capsys.readouterr().out

    return printed


def test_the_networks_page_learns(run):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "networks.md").read_text(), flags=re.DOTALL)
    described, accuracy = run(code).rsplit("\n", 2)[:2]
    assert "trained numbers 41" in described
    assert float(accuracy) > 0.8, "half of the points have one label"


def test_the_solver_page_says_what_it_prints(run):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "solver.md").read_text(), flags=re.DOTALL)
    assert sum("print" in example for example in code) == 1
    for example in code:
        said = run(example)
        if "print" in example:
            flow, layer, back = said.splitlines()
            assert re.fullmatch(r"Solution\(2 done; \d+ steps, \d+ rejected, \d+ evaluations\)", flow)
            assert layer.startswith("Solution(5 converged;")
            assert "steps" in back


@pytest.mark.parametrize("name", ["theory", "steering", "equilibrium", "estimators", "lectures"])
def test_pages_print_what_they_say(name, run):
    if name == "steering":
        pytest.importorskip("flint", reason="the page proves with python-flint")
    page = (ROOT / "docs" / f"{name}.md").read_text()
    code = "".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))
    assert run(code) == "".join(re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL))


def test_the_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            # A bracket [V, W](x) looks like a link, and has no dot.
            if "." in target and not target.startswith("http"):
                assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"
