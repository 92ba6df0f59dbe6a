"""Nothing goes out to a network that the user did not ask for: no telemetry, no look-ups, whatever is imported."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Python's own audit events (PEP 578): what opens a socket or asks for a name raises one, in whatever library.
WATCH = """
import sys

seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith(("socket.", "urllib.", "http.")) else None)
"""

IMPORT = """
import importlib, pkgutil

import cde_nets, theory

for package in (cde_nets, theory):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # This one runs the command; the kernels' libraries are no modules, and Triton is not everywhere.
        if found.name != "cde_nets.__main__" and "._flow_" not in found.name:
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if error.name.split(".")[0] not in {"triton", "sklearn", "flint"}:
                    raise
"""

COMMANDS = """
from cde_nets.cli import app

for line in ("--help", "train --help", "train mnist --help", "check --help", "steer --help", "report --help", "info"):
    app(line.split(), prog_name="cde-nets", standalone_mode=False)
app("check polynomial --dim 2 --count 3 --points 3".split(), prog_name="cde-nets", standalone_mode=False)
"""

TELL = """
print("seen:", sorted(set(seen)))
"""


def run(code, folder):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_and_commands_open_no_socket(tmp_path):
    said = run(WATCH + IMPORT + COMMANDS + TELL, tmp_path)
    assert "Proved: rank" in said
    assert said.splitlines()[-1] == "seen: []"


def test_a_socket_would_have_been_seen(tmp_path):
    said = run(WATCH + "import socket\nsocket.socket().close()\n" + TELL, tmp_path)
    assert "socket.__new__" in said.splitlines()[-1]
