"""Linear fields with complex matrices, and the other families' refusal of complex numbers."""

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

C128 = torch.complex128
REAL = {torch.complex64: torch.float32, C128: torch.float64}
WAYS = [(rows, per_row, kind) for rows in (0, 1, 9) for per_row in (False, True) for kind in (torch.float64, C128)]


@pytest.fixture
def fields():
    return LinearFields.random(3, 4, seed=0, dtype=C128)


def draw(rng, rows, per_row, kind, count=4):
    """States, controls, cotangents."""
    u = torch.randn((rows, count) if per_row else (count,), dtype=kind, generator=rng)
    return torch.randn(rows, 3, dtype=C128, generator=rng), u, torch.randn(rows, 3, dtype=C128, generator=rng)


@pytest.mark.parametrize(("rows", "per_row", "kind"), WAYS)
def test_velocity_is_the_sum_of_the_matrices_times_the_states(fields, rng, rows, per_row, kind):
    x, u, _ = draw(rng, rows, per_row, kind)
    want = torch.einsum("bi,ijk,bk->bj", u.to(C128).expand(rows, -1), fields.matrices, x)
    torch.testing.assert_close(fields.velocity(x, u), want)
    torch.testing.assert_close(fields.evaluate(x), torch.einsum("ijk,bk->bij", fields.matrices, x))


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(("rows", "per_row", "kind"), WAYS)
def test_pullback_is_what_autograd_gives(rng, rows, per_row, kind, count):
    fields = LinearFields.random(3, count, seed=0, dtype=C128)
    x, u, w = draw(rng, rows, per_row, kind, count)
    # One field is stacked for one row, and collapsed for many.
    assert fields.collapses(rows, u) == (not per_row and (count, rows) not in ((1, 0), (1, 1), (4, 0)))
    x, u = x.requires_grad_(), u.requires_grad_()
    want = torch.autograd.grad(fields.velocity(x, u), (x, u), w)
    state, control = fields.pullback(x, u, w)
    assert control.dtype == kind
    torch.testing.assert_close(state, want[0])
    torch.testing.assert_close(control, want[1])
    torch.testing.assert_close(fields.moments(x, u, w), want[1])


@pytest.mark.parametrize("kind", [torch.float64, C128])
@pytest.mark.parametrize("per_row", [False, True])
def test_finite_differences_confirm_the_derivatives(fields, rng, per_row, kind):
    x, u, w = draw(rng, 2, per_row, kind)
    inputs = (x.requires_grad_(), u.requires_grad_())
    assert torch.autograd.gradcheck(fields.velocity, inputs)
    assert torch.autograd.gradcheck(fields.pullback, (*inputs, w.requires_grad_()))
    assert torch.autograd.gradcheck(fields.divergence, inputs)


@pytest.mark.parametrize("kind", [torch.float64, C128])
@pytest.mark.parametrize("per_row", [False, True])
def test_divergence_is_the_complex_trace(fields, rng, per_row, kind):
    x, u, _ = draw(rng, 5, per_row, kind)
    want = u.to(C128).expand(5, -1) @ fields.matrices.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(fields.divergence(x, u), want)
    torch.testing.assert_close(super(LinearFields, fields)._divergence(x, u), want)
    # On R^2m the volume grows by the trace of the real Jacobian.
    field = LinearFields(fields.matrices[:1])
    jacobian = torch.func.jacrev(
        lambda y: torch.view_as_real(field.velocity(torch.view_as_complex(y.reshape(1, 3, 2)), u.new_ones(1))).flatten()
    )(torch.view_as_real(x[0]).flatten())
    torch.testing.assert_close(jacobian.trace(), 2 * field.divergence(x, u.new_ones(1))[0].real)


def test_complex_fields_are_the_real_ones_on_twice_the_dimension(fields, rng):
    # The form that exact()'s message names.
    b, c = fields.matrices.real, fields.matrices.imag
    real = LinearFields(torch.cat([torch.cat([b, -c], 2), torch.cat([c, b], 2)], 1))
    x, u, _ = draw(rng, 5, False, torch.float64)
    got = real.velocity(torch.cat([x.real, x.imag], 1), u)
    torch.testing.assert_close(torch.complex(got[:, :3], got[:, 3:]), fields.velocity(x, u))


@pytest.mark.parametrize("dtype", REAL)
def test_random_complex_fields_have_variance_1(dtype):
    fields = LinearFields.random(10, 500, seed=0, dtype=dtype)
    assert fields.dtype == dtype
    for part in (fields.matrices.real, fields.matrices.imag):
        assert abs(float(part.square().sum(-1).mean()) - 0.5) < 0.01
    u = torch.ones(500, dtype=REAL[dtype])
    assert fields.velocity(torch.ones(2, 10, dtype=dtype), u).dtype == dtype


def test_transforms_see_through_complex_fields(fields, rng):
    x, u, w = draw(rng, 4, True, torch.float64)
    want = fields.pullback(x, u, w)
    got = torch.func.vmap(lambda *row: fields.pullback(*(r[None] for r in row)))(x, u, w)
    torch.testing.assert_close(got.state[:, 0], want.state)
    torch.testing.assert_close(got.control[:, 0], want.control)
    _, tangent = torch.func.jvp(fields.velocity, (x, u), (w, u))
    torch.testing.assert_close(tangent, fields.velocity(w, u) + fields.velocity(x, u))


def test_digest_sees_the_imaginary_parts_and_no_lazy_conjugate():
    a = torch.tensor([[[1 + 2j, 0], [3j, 4]]], dtype=C128)
    assert LinearFields(a).digest() != LinearFields(a.conj()).digest()
    assert LinearFields(a.conj()).digest() == LinearFields(a.conj().resolve_conj()).digest()
    lazy = LinearFields(a)
    lazy.load_state_dict({"coefficients": a.conj()}, assign=True)
    assert lazy.digest() == LinearFields(a.conj()).digest()
    assert LinearFields(a).frozen_numbers == 4


def test_state_dict_carries_complex_fields_over(fields, rng):
    target = LinearFields.random(3, 4, seed=1, dtype=C128)
    target.load_state_dict(fields.state_dict())
    assert torch.equal(target.matrices, fields.matrices)
    assert target.digest() == fields.digest()


def test_exact_programs_are_over_the_rationals(fields):
    with pytest.raises(ValueError, match=r"complex128; exact programs and certificates are over the rationals\. Write"):
        fields.exact()


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_casts_among_complex_dtypes_and_from_real_to_complex(fields, rng):
    x, u, _ = draw(rng, 5, False, torch.float64)
    narrow = LinearFields(fields.matrices).to(torch.complex64)
    got = narrow.velocity(x.to(torch.complex64), u.float())
    torch.testing.assert_close(got.to(C128), fields.velocity(x, u), rtol=1e-5, atol=1e-5)
    real = LinearFields.random(3, 4, seed=1, dtype=torch.float64)
    want = torch.complex(real.velocity(x.real.contiguous(), u), real.velocity(x.imag.contiguous(), u))
    torch.testing.assert_close(real.to(C128).velocity(x, u), want)


def test_a_cast_that_drops_the_imaginary_parts_is_refused(fields):
    before = fields.digest()
    with pytest.raises(ValueError, match=r"cast to torch\.float64 would drop their imaginary parts"):
        fields.to(torch.float64)
    assert fields.digest() == before


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_other_families_cannot_be_cast_to_complex(family):
    before = family.digest()
    if isinstance(family, LinearFields):
        pytest.skip("linear fields may be complex")
    with pytest.raises(ValueError, match=f"{type(family).__name__} cannot be cast to torch.complex64: only Linear"):
        family.to(torch.complex64)
    assert family.digest() == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: PolynomialFields.random(2, 3, seed=0, dtype=C128),
        lambda: RidgeFields.random(2, seed=0, dtype=C128),
        lambda: ConvFields.random(1, 2, 2, 3, seed=0, dtype=C128),
        lambda: PolynomialFields(torch.zeros(1, 1, 2, dtype=C128), 1),
    ],
)
def test_other_families_refuse_complex_coefficients(bad_input, make):
    with pytest.raises(ValueError, match=r"must be real; got torch.complex128\. Only LinearFields takes complex"):
        make()


def test_the_five_and_the_wrappers_are_real(bad_input, fields):
    with pytest.raises(ValueError, match=r"UniversalFields are real; got dtype=torch\.complex64"):
        UniversalFields(3, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"SphericalFields expects real fields; LinearFields has torch\.complex128"):
        SphericalFields(fields)
    with pytest.raises(ValueError, match=r"Cutoff expects real fields; LinearFields has torch\.complex128"):
        Cutoff(fields, 1.0)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_matrices_of_half_precision_complex_numbers_are_refused(bad_input):
    with pytest.raises(ValueError, match=r"matrices must be floating point; got torch\.complex32"):
        LinearFields(torch.zeros(1, 2, 2, dtype=torch.complex32))


def test_states_and_controls_of_another_dtype_are_refused_with_the_cast_that_helps(bad_input, fields, rng):
    x, u, w = draw(rng, 2, False, torch.float64)
    with pytest.raises(
        ValueError, match=r"x is torch.float64; the fields are torch.complex128.*x.to\(torch.complex128"
    ):
        fields.velocity(x.real, u)
    with pytest.raises(ValueError, match=r"x is torch.complex64; the fields .*x.to\(torch.complex128"):
        fields.velocity(x.to(torch.complex64), u)
    with pytest.raises(ValueError, match=r"u is torch.float32; the fields .*u.to\(torch.float64"):
        fields.velocity(x, u.float())
    with pytest.raises(ValueError, match=r"u is torch.complex64; the fields .*u.to\(torch.complex128"):
        fields.velocity(x, u.to(torch.complex64))
    with pytest.raises(ValueError, match=r"w is torch.float64; the fields .*w.to\(torch.complex128"):
        fields.pullback(x, u, w.real)


def test_real_families_refuse_complex_states_and_controls(bad_input, family):
    x, u = torch.zeros(2, family.dim, dtype=torch.float64), torch.zeros(family.count, dtype=torch.float64)
    with pytest.raises(
        ValueError, match=r"x is torch.complex128; the fields are torch.float64\. Complex .*view_as_real"
    ):
        family.velocity(x.to(C128), u)
    with pytest.raises(ValueError, match=r"u is torch.complex128; the fields are torch.float64\. Complex states and"):
        family.velocity(x, u.to(C128))
