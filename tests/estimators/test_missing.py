"""Without scikit-learn everything else works."""

import subprocess
import sys

CODE = """
import sys
sys.modules["sklearn"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "sklearn" else find(name, package)
import cde_nets as cn
assert "ControlledODEClassifier" not in cn.__all__
assert cn.ControlledODE is not None
from cde_nets import PolynomialFields, ControlledODE
for name in ("ControlledODEClassifier", "ControlledODERegressor"):
    try:
        getattr(cn, name)
    except ImportError as error:
        print(error)
"""


def test_the_message_names_what_to_install():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all('pip install "cde-nets[sklearn]"' in line for line in lines)


def test_importing_the_package_does_not_import_it():
    code = "import sys, cde_nets; cde_nets.__all__; print('sklearn' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
