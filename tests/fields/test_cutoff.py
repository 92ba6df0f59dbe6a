"""Fields damped to zero outside a ball."""

import mpmath
import numpy as np
import pytest
import sympy
import torch

from cde_nets.fields import Cutoff, LinearFields, PolynomialFields, SphericalFields, UniversalFields

F64 = torch.float64


def draw(family, rows=6, radius=1.0):
    rng = torch.Generator().manual_seed(4)
    x = torch.randn(rows, family.dim, dtype=F64, generator=rng)
    return radius * x / x.norm(dim=1, keepdim=True), torch.randn(family.count, dtype=F64, generator=rng)


@pytest.fixture
def base():
    return PolynomialFields.random(3, 4, 2, seed=0, dtype=F64)


def bump(r, inner, outer):
    """chi from its definition."""
    tau = (r * r - inner**2) / (outer**2 - inner**2)
    return 1 / (1 + sympy.exp(1 / (1 - tau) - 1 / tau))


def test_inside_the_ball_the_fields_are_the_base(base):
    cut = Cutoff(base, 1.0, 3.0)
    for radius in (0.0, 0.5, 1.0):
        x, u = draw(base, radius=radius)
        assert torch.equal(cut.velocity(x, u), base.velocity(x, u))
        assert torch.equal(cut.evaluate(x), base.evaluate(x))
        torch.testing.assert_close(cut.pullback(x, u, x).state, base.pullback(x, u, x).state, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("radius", [3.0, 10.0, 1e20, 1e30])
def test_outside_the_ball_everything_is_zero_and_finite(base, dtype, radius):
    cut = Cutoff(base, 1.0, 3.0).to(dtype)
    x, u = draw(base, radius=radius * (1 + 1e-6))
    x, u = x.to(dtype), u.to(dtype)
    w = torch.ones_like(x)
    assert not cut.velocity(x, u).any()
    assert not cut.evaluate(x).any()
    state, control = cut.pullback(x, u, w)
    assert not state.any()
    assert not control.any()
    grad = torch.autograd.grad(cut.velocity(x.requires_grad_(), u), x, w)[0]
    assert not grad.any()


@pytest.mark.parametrize("r", [1.05, 1.5, 2.0, 2.5, 2.95])
def test_between_the_balls_the_factor_is_the_bump_function(base, r):
    x, u = draw(base, radius=r)
    chi = float(bump(sympy.Rational(r), 1, 3))
    torch.testing.assert_close(Cutoff(base, 1.0, 3.0).velocity(x, u), chi * base.velocity(x, u), rtol=1e-12, atol=1e-14)


def test_three_derivatives_are_those_of_the_bump_and_vanish_at_both_edges():
    # With the constant field 1 on the line, the velocity is chi(|x|).
    cut = Cutoff(PolynomialFields(torch.tensor([[[1.0, 0.0]]], dtype=F64), 1), 1.0, 2.0)
    r = torch.tensor([0.9, 1 - 1e-9, 1 + 1e-9, 1.001, 1.1, 1.3, 1.6, 1.9, 1.999, 2 - 1e-9, 2 + 1e-9, 2.1], dtype=F64)
    x = r[:, None].clone().requires_grad_()
    value, got = cut.velocity(x, torch.ones(1, dtype=F64)), []
    for _ in range(3):
        value = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
        got.append(value.detach()[:, 0])
    s = sympy.Symbol("s")
    for order in (1, 2, 3):
        formula = sympy.lambdify(s, sympy.diff(bump(s, 1, 2), s, order), "mpmath")
        with mpmath.workdps(60):
            want = [float(formula(mpmath.mpf(float(t)))) if 1.0005 < t < 1.9995 else 0.0 for t in r]
        torch.testing.assert_close(got[order - 1], torch.tensor(want, dtype=F64), rtol=1e-8, atol=1e-9)


def test_the_bump_never_rises():
    cut = Cutoff(PolynomialFields(torch.tensor([[[1.0, 0.0]]], dtype=F64), 1), 1.0, 1.25)
    chi = cut.velocity(torch.linspace(0, 2, 4001, dtype=F64)[:, None], torch.ones(1, dtype=F64))
    assert bool((chi.diff(dim=0) <= 0).all())
    assert float(chi[0]) == 1
    assert float(chi[-1]) == 0


def test_a_quadratic_flow_that_would_blow_up_stays_in_the_outer_ball():
    cut = Cutoff(PolynomialFields(torch.tensor([[[0.0, 0.0, 1.0]]], dtype=F64), 2), 1.0)
    assert cut.outer == 2.0
    x = torch.tensor([[1.0]], dtype=F64)
    for _ in range(600):  # x' = x^2 from 1 leaves every bounded set at time 1
        x = x + 5e-3 * cut.velocity(x, torch.ones(1, dtype=F64))
    assert 1.5 < float(x) < 2


def test_exact_refuses_points_outside_the_inner_ball(base):
    program = Cutoff(base, 1.0).exact()
    with pytest.raises(ValueError, match=r"outside the ball \|x\| <= 1"):
        program.evaluate([[1.0, 0.5, 0.0]])
    inside = [[0.5, 0.25, -0.5]]
    assert (program.evaluate(inside) == base.exact().evaluate(inside)).all()


def test_digest_sees_both_radii(base):
    digests = {Cutoff(base, r, o).digest() for r, o in [(1.0, 2.0), (1.0, 3.0), (1.5, 3.0)]} | {base.digest()}
    assert len(digests) == 4
    assert Cutoff(base, 1.0).digest() == Cutoff(base, 1.0, 2.0).digest()


def test_print_names_the_radii(base):
    assert "radius=1.0, outer=2.0" in repr(Cutoff(base, 1.0))


def test_radii_may_be_numbers_of_numpys(bad_input, base):
    made = Cutoff(base, np.int64(1), np.float32(3.0))
    assert (made.radius, made.outer) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("radius", "outer"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, float("inf")), (float("nan"), 1.0), (float("inf"), None)],
)
def test_bad_radii_are_refused(bad_input, base, radius, outer):
    with pytest.raises(ValueError, match=f"0 < radius < outer < infinity; got radius={radius}"):
        Cutoff(base, radius, outer)


@pytest.mark.parametrize(
    ("base", "got"), [([1.0], "a list"), (torch.zeros(2, 2), r"shape \(2, 2\)"), (None, "a NoneType")]
)
def test_what_is_no_family_is_refused_by_name(bad_input, base, got):
    with pytest.raises(ValueError, match=f"Cutoff expects a family of fields, an instance of Fields .*; got {got}"):
        Cutoff(base, 1.0)


def test_a_cutoff_is_tangent_to_what_its_base_is(base):
    turn = LinearFields(torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]))
    assert Cutoff(turn, 1.0).tangent_to("sphere")
    assert not Cutoff(turn, 1.0).tangent_to("torus")
    assert not Cutoff(base, 1.0).tangent_to("sphere")


def test_fields_on_the_sphere_can_be_cut_off():
    cut = Cutoff(SphericalFields(UniversalFields(3, dtype=F64)), 1.0)
    x, u = draw(cut, radius=5.0)
    assert not cut.velocity(x, u).any()
    state, control = cut.pullback(x, u, x)
    assert not state.any()
    assert not control.any()


def test_pullback_in_half_precision_is_finite():
    cut = Cutoff(LinearFields(torch.eye(2, dtype=torch.float16)[None]), 1.0)
    x = torch.tensor([[0.25, 0.0]], dtype=torch.float16)
    assert bool(cut.pullback(x, torch.ones(1, dtype=torch.float16), x).state.isfinite().all())
