"""What is installed works outside of a checkout: the sdist, the wheel made of it, an environment that has it."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

import cde_nets as cn
from cde_nets.train import ProgressBar

ROOT = Path(__file__).parents[1]
MISSING = [name for name in ("pip", "setuptools", "venv") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"building needs {', '.join(MISSING)}: pip install pip setuptools"),
    pytest.mark.skipif(sys.platform == "win32", reason="the environment's folders are those of Unix"),
]
# No compiler: the kernels take a minute to build, and an install goes without them where there is none.
BARE = {"CC": "false", "CXX": "false", "PYTHONPATH": None, "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
# A page of the run, and what else loads data that lie beside modules.
USE = """
import sys
from importlib.resources import files
from pathlib import Path
import numpy as np
import cde_nets as cn
import experiments.frontier, theory
from cde_nets.data import Dataset
from cde_nets.report import build_page, read_run
arrays = np.load("test.npz")
page = build_page(read_run(Path("run")), Dataset(arrays["images"], arrays["labels"]))
print(len(page), cn.load_network("mnist-100")[0].trained_numbers, len(cn.pretrained_networks()))
print(all(files(name).joinpath("py.typed").is_file() for name in ("cde_nets", "theory")))
print(all(module.__file__.startswith(sys.prefix) for module in (cn, theory, experiments.frontier)))
"""


def run(*arguments, folder):
    changed = {**os.environ, **BARE}
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=folder,
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist and the wheel that was built from it alone."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.dll")
    for name in ("cde_nets", "theory", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys, setuptools.build_meta as backend; getattr(backend, sys.argv[1])(sys.argv[2])"
    run(sys.executable, "-c", build, "build_sdist", folder, folder=source)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        file.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    run(sys.executable, "-c", build, "build_wheel", folder, folder=unpacked)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_what_is_in_the_wheel_and_in_the_sdist(built):
    """Every file of the packages, data included; kernels as sources in the one, built or not at all in the other."""
    packages = [
        path.relative_to(ROOT) for name in ("cde_nets", "theory", "experiments") for path in (ROOT / name).rglob("*")
    ]
    kept = {str(path) for path in packages if path.suffix and not {".pyc", ".so", ".dll"} & {path.suffix}}
    cpp = {name for name in kept if Path(name).suffix in (".cpp", ".hpp")}
    assert len(cpp) > 5
    assert {Path(name).suffix for name in kept} >= {".toml", ".html", ".css", ".js", ".json", ".safetensors", ".typed"}
    with zipfile.ZipFile(built[1]) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == kept - cpp
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert kept <= names
    assert {"pyproject.toml", "setup.py", "LICENSE", "README.md"} <= names


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The environment's folder: the wheel, and beside it what is installed here, this checkout excepted."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    # A path from a .pth file is searched, and its own .pth files are not read: an editable install is not found by it.
    (site / "shared.pth").write_text("\n".join(sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", built[1], folder=folder.parent)
    return folder


def test_the_command_works_outside_of_a_checkout(installed, tmp_path):
    command = installed / "bin" / "cde-nets"
    assert "Commands:" in run(command, "--help", folder=tmp_path)
    assert "Commands:" in run(installed / "bin" / "python", "-m", "cde_nets", "--help", folder=tmp_path)
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = json.loads(run(command, "list", "--json", folder=tmp_path))["experiments"]
    assert {one["name"] for one in listed} >= told["entry-points"]["cde_nets.experiments"].keys()
    assert all(one["description"] for one in listed)
    about = json.loads(run(command, "info", "--json", folder=tmp_path))
    assert (about["cde-nets"], about["cpu_kernels"]) == (told["version"], False)
    proved = json.loads(run(command, "check", "polynomial", "--dim", "2", "--points", "2", "--json", folder=tmp_path))
    assert proved["proved"]


def test_data_beside_modules_are_found(installed, waves, tmp_path):
    trainer = cn.Trainer(
        cn.Run(tmp_path / "run"),
        cn.ImageNetworkConfig(intervals=(1, 1), count=4),
        cn.TrainConfig(epochs=1, batch_size=100),
        waves,
    )
    trainer.start()
    trainer.fit(ProgressBar(1))
    np.savez(tmp_path / "test.npz", images=waves.test.images, labels=waves.test.labels)
    size, numbers, typed, ours = run(installed / "bin" / "python", "-c", USE, folder=tmp_path).rsplit(maxsplit=3)
    page, trained = size.split()
    assert int(page) > 2_000_000, "plotly's script alone has as much"
    there = len(list((ROOT / "cde_nets" / "pretrained").glob("*.safetensors")))
    assert (int(trained), int(numbers)) == (sum(p.numel() for p in cn.load_network("mnist-100")[0].parameters()), there)
    assert (typed, ours) == ("True", "True")
