"""Diffrax and a plain `lax.scan` on a row with fixed steps, jitted, float32.

XLA's threads are set by NPROC before JAX is first imported (`limit_threads`); XLA_FLAGS do not limit them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.flows.rows import Given
from benchmarks.flows.sides import Side
from benchmarks.flows.velocities import Way, ways


def limit_threads(threads: int) -> None:
    """Give XLA's pool as many threads as torch has; to be called before JAX is imported.

    Raises:
        RuntimeError: JAX is imported already, and reads it no more.
    """
    if "jax" in sys.modules:
        raise RuntimeError("JAX is imported already: its number of threads cannot be set any more.")
    os.environ["NPROC"] = os.environ["PJRT_NPROC"] = str(threads)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def scan(given: Given) -> list[Side]:
    """`lax.scan` over the control's values: what a JAX user writes without a library."""
    jax: Any = import_module("jax")
    width = 1 / given.row.steps

    def solve(way: Way) -> Callable[[Any, Any, Any], Any]:
        def run(u: Any, x: Any, constants: Any) -> Any:
            return jax.lax.scan(lambda x, v: (x + width * way.velocity(constants, x, v), None), x, u)[0]

        return run

    return [_side("JAX scan", way, solve(way), given) for way in _ways(given)]


def diffrax(given: Given) -> list[Side]:
    """`diffeqsolve` with `Euler` and `StepTo` the control's grid, and its default adjoint."""
    jnp: Any = import_module("jax.numpy")
    dx: Any = import_module("diffrax")
    steps = given.row.steps
    grid = jnp.arange(steps + 1, dtype=jnp.float32) / steps

    def solve(way: Way) -> Callable[[Any, Any, Any], Any]:
        def field(t: Any, x: Any, args: Any) -> Any:
            u, constants = args
            # Times are rounded; a step's first time must not fall into the interval before it.
            interval = jnp.floor(t * steps + 1e-3).astype(jnp.int32)
            return way.velocity(constants, x, u[interval])

        def run(u: Any, x: Any, constants: Any) -> Any:
            return dx.diffeqsolve(
                dx.ODETerm(field), dx.Euler(), t0=grid[0], t1=grid[-1], dt0=None, y0=x, args=(u, constants),
                stepsize_controller=dx.StepTo(ts=grid), max_steps=steps, throw=False,
            ).ys[-1]  # fmt: skip

        return run

    return [_side("diffrax", way, solve(way), given) for way in _ways(given)]


def _ways(given: Given) -> list[Way]:
    return ways(given.fields, import_module("jax.numpy"), lambda x, W, b: x @ W.T + b)


def _side(name: str, way: Way, solve: Callable[[Any, Any, Any], Any], given: Given) -> Side:
    jax: Any = import_module("jax")
    jnp = jax.numpy
    u, x = jnp.asarray(given.values.numpy()), jnp.asarray(given.x.numpy())
    constants = tuple(jnp.asarray(array) for array in way.constants)
    forward = jax.jit(solve)
    both = jax.jit(jax.value_and_grad(lambda u, x, constants: (solve(u, x, constants) ** 2).sum()))
    return Side(
        name, way.name, way.collapsed,
        lambda: forward(u, x, constants).block_until_ready(),
        lambda: jax.block_until_ready(both(u, x, constants))[1],
        jitted=True,
    )  # fmt: skip
