"""One small family of every kind."""

from collections.abc import Callable

import pytest
import sympy
import torch

from cde_nets.fields import (
    ConvFields,
    Cutoff,
    ExpressionFields,
    Fields,
    LinearFields,
    PolynomialFields,
    RidgeFields,
    SphericalFields,
    UniversalFields,
)

Builder = Callable[[int, torch.dtype], Fields]


def conv(kernel: str, form: str, count: int = 5, *, orthogonal: bool = False) -> Builder:
    # Degree 3 has the coefficient 1/6, which every cast changes.
    return lambda seed, dtype: ConvFields.random(
        2, 3, 2, count, kernel=kernel, form=form, degree=3, orthogonal=orthogonal, seed=seed, dtype=dtype
    )


def polynomial(dim: int, count: int, degree: int) -> Builder:
    return lambda seed, dtype: PolynomialFields.random(dim, count, degree, seed=seed, dtype=dtype)


def expression(seed: int, dtype: torch.dtype) -> Fields:
    x, y = sympy.symbols("x y")
    return ExpressionFields([[y - x**2 / 3, 0], [(x + y) * y, 1], [sympy.Rational(5, 7), -x]], (x, y), dtype=dtype)


BUILDERS: dict[str, Builder] = {
    "polynomial": polynomial(2, 4, 3),
    "polynomial-on-the-line": polynomial(1, 3, 4),
    "polynomial-few-and-large": polynomial(5, 2, 2),
    "linear": lambda seed, dtype: LinearFields.random(3, 4, seed=seed, dtype=dtype),
    "ridge": lambda seed, dtype: RidgeFields.random(3, 7, 3, seed=seed, dtype=dtype),
    "universal-in-the-plane": lambda seed, dtype: UniversalFields(2, dtype=dtype),
    "expression": expression,
    "universal": lambda seed, dtype: UniversalFields(5, dtype=dtype),
    **{
        f"{kernel}-{form}": conv(kernel, form) for kernel in ("dense", "row", "stencil") for form in ("ridge", "shared")
    },
    "row-shared-few": conv("row", "shared", 2),
    "stencil-shared-few": conv("stencil", "shared", 3),
    "row-orthogonal-ridge": conv("row", "ridge", orthogonal=True),
    "row-orthogonal-shared": conv("row", "shared", orthogonal=True),
}
BUILDERS |= {
    f"spherical-{name}": lambda seed, dtype, name=name: SphericalFields(BUILDERS[name](seed, dtype))
    for name in ("polynomial", "linear", "ridge", "row-shared", "universal")
}
# Random points of the tests fall into the ball, into the shell and outside of both.
BUILDERS |= {
    f"cutoff-{name}": lambda seed, dtype, name=name: Cutoff(BUILDERS[name](seed, dtype), 1.0, 2.5)
    for name in ("polynomial", "ridge", "stencil-shared", "universal-in-the-plane", "polynomial-few-and-large")
}
BUILDERS["spherical-cutoff"] = lambda seed, dtype: SphericalFields(
    Cutoff(BUILDERS["polynomial"](seed, dtype), 1.0, 5.0)
)


@pytest.fixture(params=BUILDERS)
def build(request: pytest.FixtureRequest) -> Builder:
    return BUILDERS[request.param]


@pytest.fixture
def family(build: Builder) -> Fields:
    """In float64."""
    return build(3, torch.float64)


@pytest.fixture
def unchecked(bad_input: None) -> None:
    """Without the shape checker, which torch.compile cannot look into."""


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)
