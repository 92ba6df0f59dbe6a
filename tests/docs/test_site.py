"""The site: all pages are in its navigation, links lead somewhere, formulas become MathML, and it builds."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cde_nets as cn

yaml = pytest.importorskip("yaml", reason="mkdocs.yml is read with PyYAML")

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def nav(entries):
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from [value] if isinstance(value, str) else nav(value)


def made(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / "make" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation_once():
    listed = list(nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_and_images_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]+`|\$[^$]+\$", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


@pytest.fixture
def render():
    pytest.importorskip("latex2mathml", reason="formulas need the extra docs")
    markdown = pytest.importorskip("markdown", reason="pages need the extra docs")
    return lambda text: markdown.markdown(text, extensions=[made("mathml").Mathematics(), "tables", "fenced_code"])


def test_formulas_become_mathml(render):
    inline = render(r"the field $V_i(x) = \sum_j a_j x^2$ is frozen")
    assert re.fullmatch(r"<p>the field <math [^$]*</math> is frozen</p>", inline, flags=re.DOTALL)
    assert 'display="inline"' in inline
    assert "<msub>" in inline
    displayed = render("before\n$$dX = \\sum_i u_i\n V_i dt$$\nafter")
    assert 'display="block"' in displayed
    assert "$" not in displayed


def test_what_is_no_formula_stays(render):
    assert render("it costs $5 or $6") == "<p>it costs $5 or $6</p>"
    assert render("`$x$`") == "<p><code>$x$</code></p>"
    assert "<math" not in render("\\$x\\$")
    assert "<math" not in render("```sh\necho $HOME $PATH\n```")
    assert render("V[i][j]") == "<p>V[i][j]</p>"
    assert render("<w, V_i(x)>") == "<p>&lt;w, V_i(x)&gt;</p>"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_all_formulas_are_understood(render, page):
    html = re.sub(r"<pre>.*?</pre>|<code>.*?</code>", "", render(page.read_text()), flags=re.DOTALL)
    for formula in re.findall(r"<math.*?</math>", html, flags=re.DOTALL):
        assert "\\" not in re.sub("<[^>]+>", "", formula), "a command that the converter does not know"
    assert "$" not in re.sub(r"<math.*?</math>", "", html, flags=re.DOTALL), "dollars that are no formula"
    # A list right after a line of text is one on a forge and none on the site.
    assert not re.search(r"<p>[^<]*\n(?:- |1\. )", html)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for name in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed: pip install "cde-nets[docs]"')
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet, which keeps warnings from being counted.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_and_asks_for_nothing(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(.*?)\"|<link\b[^>]*\bhref=\"(.*?)\"", text)
        assert not [one for one in sum(loaded, ()) if re.match("(https?:)?//", one)], page.name


def test_every_public_name_is_documented(site):
    found = {name for page in (site / "api").glob("*.html") for name in re.findall(r'id="([\w.]+)"', page.read_text())}
    rooms = {"theory": __import__("theory").__all__, **cn._ROOMS}
    missing = [
        f"{room}.{name}"
        for room, names in rooms.items()
        for name in names
        # A function may have its module's name, and is then found by both.
        if not {f"{room}.{name}", f"cde_nets.{room}.{name}", f"cde_nets.{room}.{name}.{name}"} & found
    ]
    assert not missing
