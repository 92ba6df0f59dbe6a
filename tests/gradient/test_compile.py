"""Under torch.compile a fixed grid is one graph, counted by dynamo's own counters, with the eager gradients."""

import json
import os
import subprocess
import sys

import pytest

from cde_nets.kernels import native

# In a process of its own: torch.compile does not look into the shape checker.
COMPILED = """
import json, torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import solve
from cde_nets.nn import ControlledODE
from cde_nets.solver import InitialValueProblem, RungeKutta

torch.set_num_threads(1)
F64 = torch.float64
fields = PolynomialFields.random(2, 3, 2, seed=0, dtype=F64)
control = PiecewiseConstantControl.random(2, 3, scale=0.5, seed=2, dtype=F64)
flow = ControlledODE(fields, control, "rk4", throw=False)
linear = torch.nn.Linear(2, 2, dtype=F64)

class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = linear

    def forward(self, t, x):
        return torch.tanh(self.linear(x)) * torch.cos(t)

field = Field()

def controlled(x):
    return solve(InitialValueProblem.controlled(fields, control, x), RungeKutta("midpoint", steps=2), throw=False).value

def module(x):
    return solve(InitialValueProblem(field, x), RungeKutta("bosh3", steps=2), throw=False).value

def statuses(x):
    solution = flow.solve(x)
    return solution.value + solution.succeeded[:, None]

CASES = {
    "flow": (flow, [control.values]),
    "flow.solve": (statuses, [control.values]),
    "controlled": (controlled, [control.values]),
    "module": (module, list(linear.parameters())),
}
found = {}
for name, (run, leaves) in CASES.items():
    values = []
    torch._dynamo.reset()
    counters.clear()
    counter = CompileCounterWithBackend("aot_eager")
    for how in (run, torch.compile(run, backend=counter)):
        x = torch.tensor([[0.3, -0.2], [0.1, 0.6]], dtype=F64, requires_grad=True)
        y = how(x)
        grads = torch.autograd.grad((y * torch.tensor([[1.0, 2.0], [3.0, -1.0]])).sum(), (x, *leaves))
        values.append([v for part in (y, *grads) for v in part.detach().flatten().tolist()])
    found[name] = {
        "graphs": counters["stats"]["unique_graphs"],
        "frames": counter.frame_count,
        "calls": counters["stats"]["calls_captured"],
        "breaks": sum(counters["graph_break"].values()),
        "eager": values[0],
        "compiled": values[1],
    }
torch._dynamo.reset()
try:
    torch.compile(ControlledODE(fields, control, "rk4"), fullgraph=True, backend="eager")(x)
except Exception as error:
    found["throw"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    clean = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], env=clean, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", ["flow", "flow.solve", "controlled", "module"])
def test_a_fixed_grid_is_one_graph_without_a_break(found, case):
    counted = found[case]
    assert (counted["frames"], counted["graphs"], counted["breaks"]) == (1, 1, 0)
    # Steps and all, or the operator that takes them: one graph of nothing would be one without breaks too.
    assert counted["calls"] > (60 if case == "module" or native().library is None else 5)


@pytest.mark.parametrize("case", ["flow", "flow.solve", "controlled", "module"])
def test_a_compiled_value_and_gradient_are_the_eager_ones(found, case):
    assert found[case]["compiled"] == pytest.approx(found[case]["eager"], rel=1e-13, abs=1e-15)
    assert max(map(abs, found[case]["eager"])) > 0.1


def test_the_way_out_is_named_where_failed_rows_should_raise(found):
    assert "under torch.compile pass throw=False" in found["throw"]
