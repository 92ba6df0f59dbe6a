"""Small families for finite differences, and the steps written out in plain torch operations."""

from collections.abc import Callable, Sequence

import pytest
import torch

from cde_nets.fields import (
    ConvFields,
    Cutoff,
    Fields,
    LinearFields,
    PolynomialFields,
    RidgeFields,
    SphericalFields,
    UniversalFields,
)

Builder = Callable[[int, torch.dtype], Fields]
CONV = {"channels": 2, "height": 2, "width": 1, "count": 3}

FAMILIES: dict[str, Builder] = {
    "polynomial": lambda seed, dtype: PolynomialFields.random(2, 3, 2, seed=seed, dtype=dtype),
    "linear": lambda seed, dtype: LinearFields.random(2, 3, seed=seed, dtype=dtype),
    "ridge": lambda seed, dtype: RidgeFields.random(2, 3, 2, seed=seed, dtype=dtype),
    "universal": lambda seed, dtype: UniversalFields(2, dtype=dtype),
    "spherical": lambda seed, dtype: SphericalFields(PolynomialFields.random(3, 2, 2, seed=seed, dtype=dtype)),
    "cutoff": lambda seed, dtype: Cutoff(PolynomialFields.random(2, 3, 2, seed=seed, dtype=dtype), 0.5, 2.5),
} | {
    f"{kernel}-{form}": lambda seed, dtype, kernel=kernel, form=form: ConvFields.random(
        **CONV, kernel=kernel, form=form, seed=seed, dtype=dtype
    )
    for kernel in ("dense", "row", "stencil")
    for form in ("ridge", "shared")
}


@pytest.fixture(params=FAMILIES)
def build(request: pytest.FixtureRequest) -> Builder:
    return FAMILIES[request.param]


@pytest.fixture
def by_name() -> Callable[[str], Builder]:
    return FAMILIES.__getitem__


@pytest.fixture
def plain() -> Callable[..., torch.Tensor]:
    """The steps as autograd sees them: nothing of the solver's but the fields' velocity."""

    def steps(
        families: Sequence[Fields],
        method: str,
        mesh: Sequence[float],
        x: torch.Tensor,
        values: torch.Tensor,
        sphere: bool = False,
    ) -> torch.Tensor:
        for n, family in enumerate(families):
            h, u, f = mesh[n + 1] - mesh[n], values[n], family.velocity
            if method == "euler":
                z = x + h * f(x, u[0])
            else:
                k1 = f(x, u[0])
                k2 = f(x + h / 2 * k1, u[1])
                k3 = f(x + h / 2 * k2, u[2])
                k4 = f(x + h * k3, u[3])
                z = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            x = z * x.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True) if sphere else z
        return x

    return steps
