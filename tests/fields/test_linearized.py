"""A family linearized at many points gives what autograd gives of its velocity, some points at a time."""

import pytest
import torch

from cde_nets.fields import (
    ConvFields,
    Cutoff,
    LinearFields,
    PolynomialFields,
    RidgeFields,
    SphericalFields,
    UniversalFields,
)

F64 = torch.float64
FAMILIES = {
    "polynomial 1": lambda: PolynomialFields.random(4, 3, 1, seed=0, dtype=F64),
    "polynomial 2": lambda: PolynomialFields.random(4, 3, 2, seed=0, dtype=F64),
    "polynomial 4": lambda: PolynomialFields.random(3, 2, 4, seed=0, dtype=F64),
    "ridge 1": lambda: RidgeFields.random(4, 3, 1, seed=0, dtype=F64),
    "ridge 3": lambda: RidgeFields.random(4, 3, 3, seed=0, dtype=F64),
    "linear": lambda: LinearFields.random(4, 3, seed=0, dtype=F64),
    "complex": lambda: LinearFields.random(4, 3, seed=0, dtype=torch.complex128),
    "convolutional": lambda: ConvFields.random(2, 3, 3, 3, seed=0, dtype=F64),
    "spherical": lambda: SphericalFields(RidgeFields.random(4, 3, 2, seed=0, dtype=F64)),
    "cutoff": lambda: Cutoff(PolynomialFields.random(4, 3, 2, seed=0, dtype=F64), radius=2.0),
    "universal": lambda: UniversalFields(4).to(F64),
}


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("points", [1, 7])
@pytest.mark.parametrize("family", FAMILIES)
def test_pull_and_moments(family, points, columns):
    fields, g = FAMILIES[family](), torch.Generator().manual_seed(1)
    x, w = (torch.randn(points, fields.dim, generator=g, dtype=fields.dtype) for _ in range(2))
    u = torch.randn(points, fields.count, generator=g, dtype=F64)
    if columns:
        # As adjoints hold them.
        x, w = x.mT.contiguous().mT, w.mT.contiguous().mT
    a, b = x.clone().requires_grad_(), u.clone().requires_grad_()
    state, control = torch.autograd.grad(fields.velocity(a, b), (a, b), w)
    linearized = fields._linearize(x, u)
    for at in (slice(0, points), slice(0, 1), slice(points // 2, points)):
        torch.testing.assert_close(linearized.pull(at, w[at]), state[at], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(linearized.moments(w), control, rtol=1e-11, atol=1e-12)
