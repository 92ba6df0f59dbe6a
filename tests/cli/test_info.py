"""`cde-nets info`, as a user runs it."""

import importlib.metadata
import os
import sys

import torch

from cde_nets.kernels import native


def test_what_runs_here(command):
    ran = command("info", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["torch"] == torch.__version__
    assert ran.json["cde-nets"] == importlib.metadata.version("cde-nets")
    assert ran.json["python"] == ".".join(map(str, sys.version_info[:3]))
    assert ran.json["cpu_kernels"] == (native().library is not None)
    words = command("info").out
    assert native().description[:40] in words


def test_without_kernels_it_says_what_to_install(process, tmp_path):
    """A package whose install found no compiler."""
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib\n"
        "exists = pathlib.Path.exists\n"
        "pathlib.Path.exists = lambda path, **options: '_flow_' not in path.name and exists(path, **options)\n"
    )
    ran = process("info", env={"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])})
    assert ran.code == 0, ran.err
    assert "the plain versions run" in ran.out
    assert "apt install g++" in ran.out
