"""Writes reference.json: what flows, gradients, a network, an equilibrium and certificates are, to float64's rounding.

    python tests/reference/make.py       # a quarter of a minute; needs python-flint, SciPy and torchode

Values, flows, their gradients and the equilibrium are of 50 digits and rounded once; the network is NumPy's in long
doubles. What nothing independent gives is the package's own and stands under "own": it says when something moves,
not that it is right. The tests compare the package with all of it.
"""

from __future__ import annotations

import importlib.util
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent


def _room(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases, exact, network, own = map(_room, ("cases", "exact", "network", "own"))


def flows(name: str) -> dict[str, Any]:
    """A family's values and every method's flow, with the gradient of <w, X_1> summed over the rows."""
    family = cases.FAMILIES[name](torch.float64)
    x, u, w = (exact.deep(value.tolist()) for value in cases.inputs(family))
    field, dim, count = exact.fields(family), family.dim, family.count
    found: dict[str, Any] = {
        "evaluate": [field(row) for row in x],
        "solution": [exact.solution(field, row, u) for row in x],
        "methods": {},
    }
    for method, table in exact.tableaus().items():

        def pairing(numbers: list[Any], row: int, table: Any = table) -> Any:
            controls = [numbers[dim + n * count : dim + (n + 1) * count] for n in range(len(u))]
            return exact.dot(w[row], exact.flow(field, table, numbers[:dim], controls))

        flat = [number for values in u for number in values]
        gradients = [exact.gradient(lambda v, row=row: pairing(v, row), x[row] + flat) for row in range(len(x))]
        control = [sum(column) for column in zip(*(g[dim:] for g in gradients), strict=True)]
        found["methods"][method] = {
            "value": [exact.flow(field, table, row, u) for row in x],
            "state": [g[:dim] for g in gradients],
            "control": [control[n * count : (n + 1) * count] for n in range(len(u))],
        }
    return _floats(found)


def _floats(value: Any) -> Any:
    return {key: _floats(v) for key, v in value.items()} if isinstance(value, dict) else exact.rounded(value)


def equilibrium() -> dict[str, Any]:
    """z* of two inputs, and the gradient of <w, z*> in the inputs and all parameters."""
    f = cases.layer().f
    W, U, b = (exact.deep(p.detach().tolist()) for p in (f.weight_hh, f.weight_ih, f.bias))
    inputs, hidden, _ = cases.REST
    x, w = (exact.deep(cases.numbers(2, size, seed=seed).tolist()) for size, seed in ((inputs, 7), (hidden, 8)))

    def pairing(v: list[Any]) -> Any:
        parts, at = [], 0
        for rows, columns in ((hidden, hidden), (hidden, inputs), (1, hidden), (2, inputs)):
            parts.append([v[at + r * columns : at + (r + 1) * columns] for r in range(rows)])
            at += rows * columns
        matrix, inward, (bias,), rows_of_x = parts
        ends = [exact.rest(matrix, inward, bias, row) for row in rows_of_x]
        return sum(exact.dot(a, z) for a, z in zip(w, ends, strict=True))

    flat = [v for row in (*W, *U, b, *x) for v in row]
    return {
        "value": exact.rounded([exact.rest(W, U, b, row) for row in x]),
        "gradient": exact.rounded(exact.gradient(pairing, flat)),
    }


def main() -> None:
    """Write the file."""
    started = {
        "command": "python tests/reference/make.py",
        "precision": f"python-flint, {exact.ctx.dps} digits; NumPy, {network.np.finfo(network.L).nmant} bits",
        "versions": {
            name: version(name) for name in ("cde-nets", "torch", "numpy", "python-flint", "scipy", "torchode")
        },
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    net = cases.network(torch.float64)
    found = {
        "provenance": started,
        "flows": {name: flows(name) for name in cases.FAMILIES},
        "network": network.step(net, cases.images(), cases.LABELS, cases.NETWORK.classes),
        "equilibrium": equilibrium(),
        "own": own.results(),
    }
    cases.STORED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
