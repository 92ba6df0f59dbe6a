"""What is held to the reference: families, methods, inputs. Small, so that many are quick."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sympy
import torch
from torch import Tensor

import cde_nets as cn

STORED = Path(__file__).with_name("reference.json")
METHODS = ("euler", "midpoint", "heun", "heun3", "rk4", "rk38", "bosh3", "dopri5", "tsit5")
INTERVALS, ROWS = 2, 2
# Of the equilibrium layer: inputs, hidden numbers, the norm of its matrix.
REST = (2, 3, 0.7)
NETWORK = cn.ImageNetworkConfig(
    size=8, classes=3, normalization="none", channels=3, intervals=(2, 1), count=4, control_scale=0.3, seed=5
)
LABELS = (0, 2, 1)

Builder = Callable[[torch.dtype], cn.Fields]


def _conv(kernel: str, form: str) -> Builder:
    return lambda dtype: cn.ConvFields.random(2, 2, 1, 3, kernel=kernel, form=form, seed=4, dtype=dtype)  # type: ignore[arg-type]


def _polynomial(dim: int, count: int, degree: int) -> Builder:
    return lambda dtype: cn.PolynomialFields.random(dim, count, degree, seed=0, dtype=dtype)


def _expression(dtype: torch.dtype) -> cn.Fields:
    x, y, angle = sympy.symbols("x y angle")
    formulas = [[sympy.cos(angle), sympy.sin(angle), 0], [x * y, sympy.exp(-(x**2)), 1]]
    return cn.ExpressionFields(formulas, (x, y, angle), dtype=dtype)


FAMILIES: dict[str, Builder] = {
    "polynomial": _polynomial(2, 3, 3),
    "linear": lambda dtype: cn.LinearFields.random(3, 2, seed=1, dtype=dtype),
    "ridge": lambda dtype: cn.RidgeFields.random(2, 3, 2, seed=2, dtype=dtype),
    "universal": lambda dtype: cn.UniversalFields(3, dtype=dtype),
    "expression": _expression,
    **{
        f"{kernel}-{form}": _conv(kernel, form)
        for kernel in ("dense", "row", "stencil")
        for form in ("ridge", "shared")
    },
    "spherical": lambda dtype: cn.SphericalFields(_polynomial(3, 2, 2)(dtype)),
    "cutoff": lambda dtype: cn.Cutoff(_polynomial(2, 3, 2)(dtype), 0.4, 2.0),
}


def numbers(*shape: int, seed: int) -> Tensor:
    """Normal numbers of half the size that are dyadic with few digits: float32 holds them too."""
    drawn = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (drawn * 128).round() / 256


def inputs(family: cn.Fields) -> tuple[Tensor, Tensor, Tensor]:
    """States (rows, dim), a control's values (intervals, count), cotangents (rows, dim)."""
    return (
        numbers(ROWS, family.dim, seed=1),
        numbers(INTERVALS, family.count, seed=2),
        numbers(ROWS, family.dim, seed=3),
    )


def images() -> Tensor:
    """Grey images for the network, one for each of LABELS."""
    return numbers(len(LABELS), NETWORK.size, NETWORK.size, seed=6)


def network(dtype: torch.dtype) -> Any:
    """The image network. It is drawn in torch's default dtype, so its numbers are float32's whatever it runs in."""
    return cn.image_network(NETWORK).to(dtype)


def layer(backward: Any = None, dtype: torch.dtype = torch.float64) -> cn.ImplicitRNN:
    """The equilibrium layer."""
    tolerance = cn.Tolerance(1e-13, 1e-14) if dtype is torch.float64 else cn.Tolerance(1e-6, 1e-7)
    inputs, hidden, norm = REST
    return cn.ImplicitRNN(
        inputs, hidden, norm=norm, seed=3, parameter_dtype=dtype, backward=backward, tolerance=tolerance, max_steps=1000
    )


def stored() -> Any:
    """What the command wrote."""
    return json.loads(STORED.read_text())
