"""Fields made tangent to spheres."""

import pytest
import torch

from cde_nets.fields import ConvFields, Cutoff, LinearFields, PolynomialFields, RidgeFields, SphericalFields

F64 = torch.float64
BASES = {
    "polynomial": lambda: PolynomialFields.random(3, 4, 3, seed=0, dtype=F64),
    "ridge": lambda: RidgeFields.random(4, seed=1, dtype=F64),
    "conv": lambda: ConvFields.random(2, 2, 2, 5, form="shared", seed=2, dtype=F64),
}


@pytest.fixture(params=BASES)
def fields(request):
    return SphericalFields(BASES[request.param]())


def states(fields, rows, seed=0):
    return torch.randn(rows, fields.dim, dtype=F64, generator=torch.Generator().manual_seed(seed))


def test_fields_are_tangent_to_spheres(fields):
    x = states(fields, 20)
    values = fields.evaluate(x)
    along = (values @ x[:, :, None])[:, :, 0]
    scale = fields.base.evaluate(x).norm(dim=2) * x.norm(dim=1, keepdim=True)
    assert float((along / scale).abs().max()) < 1e-14


def test_only_the_radial_part_is_taken_away(fields):
    x = states(fields, 6)
    n = x / x.norm(dim=1, keepdim=True)
    base = fields.base.evaluate(x)
    projector = torch.eye(fields.dim, dtype=F64) - n[:, :, None] * n[:, None, :]
    torch.testing.assert_close(fields.evaluate(x), base @ projector, rtol=1e-12, atol=1e-12)


def test_runge_kutta_keeps_the_norm_to_fourth_order(fields):
    x = states(fields, 5)
    x = x / x.norm(dim=1, keepdim=True)
    u = torch.linspace(-1, 1, fields.count, dtype=F64)

    def drift(steps):
        y, h = x, 1 / steps
        for _ in range(steps):
            k1 = fields.velocity(y, u)
            k2 = fields.velocity(y + h / 2 * k1, u)
            k3 = fields.velocity(y + h / 2 * k2, u)
            k4 = fields.velocity(y + h * k3, u)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return float((y.norm(dim=1) - 1).abs().max())

    assert drift(200) < 1e-8
    assert drift(200) < drift(50) / 100


def test_the_line_is_refused(bad_input):
    with pytest.raises(ValueError, match="needs dim >= 2: in dimension 1"):
        SphericalFields(LinearFields(torch.ones(2, 1, 1)))


def test_what_is_no_family_is_refused_by_name(bad_input):
    with pytest.raises(ValueError, match=r"SphericalFields expects a family of fields, .*; got a function"):
        SphericalFields(lambda x: x)
    with pytest.raises(ValueError, match=r"SphericalFields expects fields, not their class LinearFields"):
        SphericalFields(LinearFields)


def test_fields_on_the_sphere_say_so(fields):
    assert fields.tangent_to("sphere")
    assert Cutoff(fields, 1.0).tangent_to("sphere")
    assert not fields.tangent_to("cylinder")
    assert not fields.base.tangent_to("sphere")
    assert not SphericalFields(Cutoff(fields.base, 1.0)).base.tangent_to("sphere")


def test_autograd_meets_no_nan_at_the_origin(fields):
    x, w = states(fields, 3), states(fields, 3, seed=1)
    x[1] = 0
    x, u = x.requires_grad_(), torch.ones(fields.count, dtype=F64, requires_grad=True)
    want = fields.pullback(x.detach(), u.detach(), w)
    state, control = torch.autograd.grad(fields.velocity(x, u), (x, u), w)
    assert not state[1].any()
    torch.testing.assert_close(state, want.state, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(control, want.control, rtol=1e-12, atol=1e-12)


def test_bad_states_are_refused_before_the_base_sees_them(bad_input, fields):
    with pytest.raises(ValueError, match=rf"SphericalFields expects x of shape \(batch, {fields.dim}\)"):
        fields.velocity(torch.zeros(2, fields.dim + 1, dtype=F64), torch.zeros(fields.count, dtype=F64))


def test_digest_sees_the_structure_of_the_base():
    base = PolynomialFields.random(2, 3, seed=0, dtype=F64)
    near, far = SphericalFields(Cutoff(base, 1.0)), SphericalFields(Cutoff(base, 2.0))
    x, u = torch.full((1, 2), 1.2, dtype=F64), torch.ones(3, dtype=F64)
    assert not torch.equal(near.velocity(x, u), far.velocity(x, u))
    assert near.digest() != far.digest()
