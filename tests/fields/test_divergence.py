"""sum_i u_i div V_i(x), against the trace of the Jacobian."""

import copy
import math

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cde_nets.fields import (
    ConvFields,
    Cutoff,
    Fields,
    LinearFields,
    PolynomialFields,
    Pullback,
    SphericalFields,
    UniversalFields,
)

F64 = torch.float64


def normal(rng, *shape):
    return torch.randn(shape, generator=rng, dtype=F64)


def trace(family, x, u):
    """Row by row, from the whole Jacobian."""
    controls = u if u.ndim == 2 else u.expand(len(x), -1)
    rows = [
        torch.func.jacrev(lambda row, c=c: family.velocity(row[None], c)[0])(row).trace()
        for row, c in zip(x, controls, strict=True)
    ]
    return torch.stack(rows) if rows else x.new_zeros(0)


def close(got, want, tolerance=1e-12):
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


class Waves(Fields):
    """A user's family, which says nothing of its divergence: V_i(x) = sin(a_i x) x_rolled."""

    def __init__(self, dim, count):
        super().__init__(dim, count, degree=1)
        self.register_buffer("a", torch.linspace(-1, 1, count * dim, dtype=F64).reshape(count, dim))

    def _evaluate(self, x):
        return torch.sin(self.a * x[:, None, :]) * x.roll(1, 1)[:, None, :]

    def _velocity(self, x, u):
        return (u[..., None] * self._evaluate(x)).sum(1)

    def _pullback(self, x, u, w):
        return Pullback(*torch.func.vjp(self._velocity, x, u)[1](w))

    def exact(self):
        raise NotImplementedError


@pytest.mark.parametrize(("rows", "per_row"), [(0, False), (1, False), (5, False), (0, True), (1, True), (5, True)])
def test_divergence_is_the_trace_of_the_jacobian(family, rng, rows, per_row):
    x = normal(rng, rows, family.dim)
    u = normal(rng, rows, family.count) if per_row else normal(rng, family.count)
    got = family.divergence(x, u)
    assert got.shape == (rows,)
    close(got, trace(family, x, u))


@pytest.mark.parametrize("per_row", [False, True])
def test_autograd_differentiates_the_divergence(family, rng, per_row):
    x = normal(rng, 2, family.dim)
    u = normal(rng, 2, family.count) if per_row else normal(rng, family.count)
    assert torch.autograd.gradcheck(family.divergence, (x.requires_grad_(), u.requires_grad_()))


def test_gradient_of_the_divergence_is_the_gradient_of_the_trace(family, rng):
    x, u = normal(rng, 3, family.dim), normal(rng, family.count)
    got = torch.func.grad(lambda *at: family.divergence(*at).sum(), argnums=(0, 1))(x, u)
    want = torch.func.grad(lambda *at: trace(family, *at).sum(), argnums=(0, 1))(x, u)
    close(got[0], want[0], 1e-10)
    close(got[1], want[1], 1e-10)


def test_the_default_is_the_same_number(family, rng):
    x, u = normal(rng, 3, family.dim), normal(rng, 3, family.count)
    close(Fields._divergence(family, x, u), family.divergence(x, u))


@pytest.mark.parametrize("wrap", [lambda f: f, SphericalFields, lambda f: Cutoff(f, 4.0, 8.0)])
@pytest.mark.parametrize("dim", [2, 3, 40])
def test_a_family_of_ones_own_has_a_divergence(rng, wrap, dim):
    family = wrap(Waves(dim, 3))
    x, u = normal(rng, 4, dim), normal(rng, 3)
    close(family.divergence(x, u), trace(family, x, u))
    want = torch.func.grad(lambda y: trace(family, y, u).sum())(x)
    close(torch.func.grad(lambda y: family.divergence(y, u).sum())(x), want)
    with torch.inference_mode():
        close(family.divergence(x, u), trace(family, x, u))


def test_a_family_of_ones_own_is_of_one_kind_in_autograd(rng):
    family = Waves(2, 3)
    x, u = normal(rng, 2, 2).requires_grad_(), normal(rng, 3).requires_grad_()
    assert torch.autograd.gradcheck(family.divergence, (x, u))


def test_divergence_of_polynomials_is_what_sympy_finds(rng):
    fields = PolynomialFields.random(3, 2, 3, seed=0, dtype=F64)
    symbols = sympy.symbols("a:3")
    programs = fields.exact().to_sympy(symbols)
    exact = [sum(sympy.diff(e, s) for e, s in zip(field, symbols, strict=True)) for field in programs]
    x, u = normal(rng, 4, 3), normal(rng, 2)
    formula = sympy.lambdify(symbols, [e.evalf(30) for e in exact], "math")
    close(fields.divergence(x, u), torch.tensor([formula(*row.tolist()) for row in x], dtype=F64) @ u)


def test_divergence_of_a_planar_field_by_hand():
    # V = (x^2 y, x + 3 y^3): div V = 2xy + 9 y^2.
    fields, c = PolynomialFields.random(2, 1, 3, seed=0, dtype=F64), torch.zeros(1, 2, 10, dtype=F64)
    place = {tuple(e): n for n, e in enumerate(fields.exponents.tolist())}
    c[0, 0, place[2, 1]] = c[0, 1, place[1, 0]] = 1
    c[0, 1, place[0, 3]] = 3
    x = torch.tensor([[2.0, 5.0], [-1.0, 3.0]], dtype=F64)
    assert PolynomialFields(c, 3).divergence(x, torch.ones(1, dtype=F64)).tolist() == [245.0, 75.0]


@settings(derandomize=True, deadline=None, max_examples=25)
@given(dim=st.integers(1, 6), degree=st.integers(1, 5), seed=st.integers(0, 99))
def test_divergence_of_polynomials_of_any_size(dim, degree, seed):
    fields = PolynomialFields.random(dim, 2, degree, seed=seed, dtype=F64)
    rng = torch.Generator().manual_seed(seed)
    x, u = normal(rng, 2, dim), normal(rng, 2)
    close(fields.divergence(x, u), trace(fields, x, u), 1e-11)


@pytest.mark.parametrize("kernel", ["dense", "row", "stencil"])
def test_divergence_of_convolutions_between_two_polynomials(rng, kernel):
    lead = {"dense": (3, 3), "row": (3,), "stencil": ()}[kernel]
    fields = ConvFields(
        (3, 2, 4),
        normal(rng, 4, *lead, 3, 3),
        normal(rng, 4, 3) if kernel == "dense" else normal(rng, 4),
        normal(rng, 4),
        normal(rng, 4, 3),
        outputs=None if kernel == "dense" else torch.tensor([2, 0, 2, 2]),
        inputs=torch.tensor([1, 0, 2, 2]) if kernel == "stencil" else None,
    )
    x, u = normal(rng, 3, 24) / 2, normal(rng, 4)
    close(fields.divergence(x, u), trace(fields, x, u), 1e-11)


def test_linear_fields_have_the_traces_of_their_matrices():
    fields = LinearFields(torch.tensor([[[1.0, 7.0], [9.0, 2.0]], [[-5.0, 1.0], [1.0, 0.5]]]))
    assert fields.divergence(torch.zeros(3, 2), torch.tensor([2.0, 1.0])).tolist() == [1.5] * 3
    per_row = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert fields.divergence(torch.zeros(3, 2), per_row).tolist() == [3.0, -4.5, -1.5]


@pytest.mark.parametrize(("dim", "dtype"), [(784, torch.float32), (784, F64), (5, torch.bfloat16)])
def test_only_one_of_the_five_spreads_volume(dim, dtype):
    fields = UniversalFields(dim, dtype=dtype)
    x = torch.ones(2, dim, dtype=dtype)
    for i, want in enumerate([0, 0, 0, 0, dim + 1]):
        u = torch.eye(5, dtype=dtype)[i]
        assert fields.divergence(x, u).tolist() == [want, want]


def test_skew_fields_keep_volume_and_rotations_of_the_sphere_are_their_own_projection(rng):
    a = normal(rng, 3, 4, 4)
    skew = LinearFields(a - a.mT)
    x, u = normal(rng, 5, 4), normal(rng, 3)
    close(skew.divergence(x, u), torch.zeros(5, dtype=F64))
    close(SphericalFields(skew).divergence(x, u), torch.zeros(5, dtype=F64))


def test_fields_on_the_sphere_have_divergence_zero_at_the_origin_and_no_nan_from_there():
    family = SphericalFields(PolynomialFields.random(3, 4, 2, seed=0, dtype=F64))
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], dtype=F64, requires_grad=True)
    u = torch.ones(4, dtype=F64, requires_grad=True)
    got = family.divergence(x, u)
    assert got[0] == 0
    assert got[1] != 0
    by_state, by_control = torch.autograd.grad(got.sum(), (x, u))
    assert not by_state[0].any()
    alone = torch.autograd.grad(family.divergence(x[1:], u).sum(), u)[0]
    close(by_control, alone)


@pytest.mark.parametrize("radius", [3.0, 1e20, 1e200])
def test_outside_of_a_cutoff_the_divergence_is_zero(radius):
    cut = Cutoff(PolynomialFields.random(3, 4, 3, seed=0, dtype=F64), 1.0, 2.0)
    x = torch.tensor([[radius, 0.0, 0.0]], dtype=F64, requires_grad=True)
    got = cut.divergence(x, torch.ones(4, dtype=F64))
    assert got.tolist() == [0.0]
    assert not torch.autograd.grad(got.sum(), x)[0].any()


def test_inside_of_a_cutoff_the_divergence_is_the_base():
    base = PolynomialFields.random(3, 4, 3, seed=0, dtype=F64)
    x, u = torch.full((2, 3), 0.25, dtype=F64), torch.ones(4, dtype=F64)
    assert torch.equal(Cutoff(base, 1.0, 2.0).divergence(x, u), base.divergence(x, u))


def test_divergence_is_of_the_numbers_that_run_after_a_cast(family, rng):
    x, u = normal(rng, 3, family.dim), normal(rng, family.count)
    x = x / x.norm(dim=1, keepdim=True)
    family.to(torch.float32)
    narrow = family.divergence(x.float(), u.float())
    assert narrow.dtype == torch.float32
    # Widened again the coefficients are the same numbers.
    family.double()
    wide = family.divergence(x, u)
    close(wide, trace(family, x, u))
    # By the size of what is summed, as traces may cancel.
    scale = family.dim * family.count * (1 + float(family.evaluate(x).abs().max())) * math.sqrt(family.dim)
    assert float((narrow.double() - wide).abs().max()) < 2e-6 * scale


@pytest.mark.parametrize("assign", [False, True])
def test_divergence_follows_loaded_coefficients(build, rng, assign):
    source, target = build(1, F64), build(2, F64)
    x, u = normal(rng, 3, source.dim), normal(rng, source.count)
    target.divergence(x, u)
    target.load_state_dict(copy.deepcopy(source.state_dict()), assign=assign)
    assert torch.equal(target.divergence(x, u), source.divergence(x, u))
    assert target.digest() == source.digest()


def test_divergence_follows_coefficients_changed_in_place(rng):
    fields = PolynomialFields.random(2, 3, 2, seed=0, dtype=F64)
    x, u = normal(rng, 3, 2), normal(rng, 3)
    before = fields.divergence(x, u)
    fields.coefficients.mul_(2)
    close(fields.divergence(x, u), 2 * before)


def test_what_the_divergence_is_made_of_is_not_stored():
    fields = PolynomialFields.random(2, 3, 2, seed=0)
    assert list(fields.state_dict()) == ["coefficients"]


def test_bad_inputs_are_refused_as_by_velocity(family, bad_input):
    m, d = family.dim, family.count
    x, u = torch.zeros(2, m, dtype=F64), torch.zeros(d, dtype=F64)
    with pytest.raises(ValueError, match=rf"expects x of shape \(batch, {m}\); got shape \({m},\)"):
        family.divergence(x[0], u)
    with pytest.raises(ValueError, match=rf"expects a control of shape \({d},\) or \(2, {d}\)"):
        family.divergence(x, torch.zeros(d + 1, dtype=F64))
    with pytest.raises(ValueError, match=r"x is torch\.float32"):
        family.divergence(x.float(), u)
