"""The room itself."""

import subprocess
import sys
from pathlib import Path

import theory


def test_theory_imports_neither_torch_nor_sympy():
    code = "import theory, sys; assert 'torch' not in sys.modules and 'sympy' not in sys.modules"
    root = Path(theory.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_every_public_name_is_there():
    assert all(hasattr(theory, name) for name in theory.__all__)
    assert theory.__all__ == sorted(theory.__all__)
