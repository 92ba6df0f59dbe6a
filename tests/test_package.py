import ast
import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cde_nets as cn
from cde_nets.atomic import write_atomically

ROOT = Path(__file__).parents[1]


def test_every_public_name_loads():
    for name in cn.__all__:
        assert getattr(cn, name) is not None
    assert set(cn.__all__) <= set(dir(cn))


def test_the_names_for_type_checkers_are_the_names_that_load():
    tree = ast.parse((ROOT / "cde_nets" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert set(declared) == set(cn.__all__) == set(cn._HOME)
    for name, module in declared.items():
        assert getattr(importlib.import_module(module), name) is getattr(cn, name)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="PolynomialField"):
        cn.PolynomialField  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, cde_nets; print(sorted({'torch', 'matplotlib', 'sympy', 'numpy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["script", "module", "package", "folder"])
def test_a_theory_of_the_users_own_is_named(tmp_path, kind):
    own = tmp_path / ("theory.py" if kind in ("script", "module") else "theory")
    if kind in ("script", "module"):
        own.write_text("import cde_nets\n")
    else:
        own.mkdir()
        if kind == "package":
            own = own / "__init__.py"
            own.write_text("")
    (tmp_path / "main.py").write_text("import cde_nets\nprint(cde_nets.GMRES())\n")
    done = subprocess.run(
        [sys.executable, str(tmp_path / ("theory.py" if kind == "script" else "main.py"))],
        capture_output=True,
        text=True,
        check=False,
    )
    if kind == "folder" and done.returncode == 0:
        # Python prefers an installed package to a folder without __init__.py, unless both are found the same way.
        assert done.stdout.startswith("GMRES(")
        return
    assert "ImportError" in done.stderr
    assert f"but Python finds {own} under that name: rename yours" in done.stderr


def test_the_version_is_the_distributions():
    assert cn.__version__ == importlib.metadata.version("cde-nets")


# What every room of cde_nets may import: what stands before all of them.
BASE = {"door", "options", "texts"}
ALLOWED = {
    # What a room may import of the others: arrows point one way.
    "door": {"theory"},
    "texts": set(),
    "options": set(),
    "remembered": set(),
    "autocast": set(),
    "fields": {"theory", "digests"},
    "controls": {"fields", "remembered"},
    "solver": {"fields", "controls", "errors", "options", "remembered"},
    "kernels": {"solver", "fields", "theory", "remembered", "autocast"},
    "gradient": {"kernels", "remembered", "autocast", "solver", "fields", "controls", "errors", "options"},
    "conditions": {"solver", "errors", "options"},
    "compat": {"gradient", "solver", "errors", "options"},
    "nn": {
        "configuration",
        "digests",
        "autocast",
        "kernels",
        "gradient",
        "solver",
        "fields",
        "controls",
        "errors",
        "options",
    },
    "certify": {"nn", "theory"},
    "estimators": {"nn", "solver", "fields", "controls", "theory"},
    "steer": {"solver", "fields", "controls", "options", "theory"},
    "data": {"atomic"},
    "pretrained": set(),
    "train": {
        *("configuration", "digests", "nn", "gradient", "solver", "fields", "controls", "data", "errors", "atomic"),
        "pretrained",
    },
    "plot": {"atomic", "train", "nn", "gradient", "solver", "fields", "controls", "data", "certify", "theory"},
    "report": {"atomic", "certify", "controls", "data", "errors", "fields", "nn", "plot", "solver", "theory", "train"},
    "theory": set(),
}


@pytest.mark.parametrize("room", ALLOWED)
def test_arrows_between_rooms_point_one_way(room):
    base = ROOT if room == "theory" else ROOT / "cde_nets"
    files = [base / f"{room}.py"] if (base / f"{room}.py").exists() else sorted((base / room).rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                parts = (module or "").split(".")
                if parts[0] not in ("cde_nets", "theory", "experiments", "benchmarks", "torch"):
                    continue
                if parts[0] == "torch":
                    assert room not in ("theory", "data"), f"{file} imports torch"
                    continue
                other = parts[1] if parts[0] == "cde_nets" and len(parts) > 1 else parts[0]
                assert other == room or other in ALLOWED[room] | BASE, f"{file.relative_to(ROOT)} imports {module}"


def test_atomic_writes_have_the_users_permissions(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "file").read_bytes() == b"content"


def test_experiments_are_found_through_entry_points():
    from importlib.metadata import entry_points

    found = {point.name: point.load() for point in entry_points(group="cde_nets.experiments")}
    assert "mnist_seeds" in found


def test_a_misspelled_name_brings_the_nearest_one():
    """In the traceback, where Python itself looks among the names of the module."""
    done = subprocess.run(
        [sys.executable, "-c", "import cde_nets; cde_nets.EquilibriumLayr"], capture_output=True, text=True, check=False
    )
    assert "Did you mean: 'EquilibriumLayer'" in done.stderr
