"""What holds for every family: its two halves agree with each other, with autograd and with the exact program."""

import copy
import pickle

import numpy as np
import pytest
import sympy
import torch

import cde_nets as cn
from cde_nets.fields import Cutoff, ExpressionFields, LinearFields, PolynomialFields, UniversalFields

CONTROLS = [(1, False), (5, False), (1, True), (5, True)]


def normal(rng, *shape):
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def draw(family, rng, rows, per_row=False):
    """States, controls, cotangents."""
    u = normal(rng, rows, family.count) if per_row else normal(rng, family.count)
    return normal(rng, rows, family.dim), u, normal(rng, rows, family.dim)


def close(got, want, tolerance=1e-12):
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def inner(family):
    """The family without what was wrapped around it."""
    while hasattr(family, "base"):
        family = family.base
    return family


@pytest.mark.parametrize(("rows", "per_row"), [*CONTROLS, (0, False), (0, True)])
def test_velocity_is_the_sum_of_the_fields_weighted_by_the_controls(family, rng, rows, per_row):
    x, u, _ = draw(family, rng, rows, per_row)
    values = family.evaluate(x)
    assert values.shape == (rows, family.count, family.dim)
    want = torch.zeros_like(x)
    for b in range(rows):
        for i in range(family.count):
            want[b] += (u[b, i] if per_row else u[i]) * values[b, i]
    velocity = family.velocity(x, u)
    assert velocity.shape == x.shape
    close(velocity, want)


@pytest.mark.parametrize(("rows", "per_row"), CONTROLS)
def test_pullback_is_the_gradient_of_velocity(family, rng, rows, per_row):
    x, u, w = draw(family, rng, rows, per_row)
    xs, us = x.clone().requires_grad_(), u.clone().requires_grad_()
    want = torch.autograd.grad(family.velocity(xs, us), (xs, us), w)
    got = family.pullback(x, u, w)
    close(got.state, want[0])
    close(got.control, want[1])
    assert not got.state.requires_grad


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("per_row", [False, True])
def test_moments_are_the_pairings_of_the_cotangent_with_the_fields(family, rng, rows, per_row):
    x, u, w = draw(family, rng, rows, per_row)
    pairings = torch.einsum("bm,bim->bi", w, family.evaluate(x))
    want = pairings if per_row else pairings.sum(0)
    close(family.moments(x, u, w), want)
    close(family.pullback(x, u, w).control, want)


def test_pullback_of_no_rows_is_zero(family, rng):
    x, u, w = draw(family, rng, 0)
    state, control = family.pullback(x, u, w)
    assert state.shape == (0, family.dim)
    close(control, torch.zeros(family.count, dtype=torch.float64))


@pytest.mark.parametrize("per_row", [False, True])
def test_finite_differences_confirm_the_derivative_of_velocity(family, rng, per_row):
    x, u, _ = draw(family, rng, 2, per_row)
    assert torch.autograd.gradcheck(family.velocity, (x.requires_grad_(), u.requires_grad_()))


@pytest.mark.parametrize("way", [True, False])
def test_collapsing_and_stacking_give_the_same_numbers(family, rng, monkeypatch, way):
    base = inner(family)
    if not hasattr(base, "collapses") or not getattr(base, "_identity", True):
        pytest.skip("without shared features there is one way only")
    x, u, w = draw(family, rng, 5)
    want = torch.einsum("i,bim->bm", u, family.evaluate(x))
    xs = x.clone().requires_grad_()
    state = torch.autograd.grad(torch.einsum("i,bim->bm", u, family.evaluate(xs)), xs, w)[0]
    asked = []
    monkeypatch.setattr(base, "collapses", lambda rows, u: bool(asked.append(rows)) or way)
    close(family.velocity(x, u), want)
    got = family.pullback(x, u, w)
    close(got.state, state)
    close(got.control, torch.einsum("bm,bim->i", w, family.evaluate(x)))
    close(family.moments(x, u, w), got.control)
    assert len(asked) >= 3


def test_a_shared_control_meets_both_ways_and_one_a_row_is_always_stacked(rng):
    few, many = (PolynomialFields.random(5, count, 2, seed=0, dtype=torch.float64) for count in (2, 60))
    assert not few.collapses(1, torch.zeros(2))
    assert few.collapses(5, torch.zeros(2))
    assert many.collapses(5, torch.zeros(60))
    assert not many.collapses(5, torch.zeros(5, 60))
    for family in (few, many):
        for rows in (1, 5):
            x, u, _ = draw(family, rng, rows)
            close(family.velocity(x, u), torch.einsum("i,bim->bm", u, family.evaluate(x)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_program_has_the_very_coefficients_that_run(build, rng, dtype):
    family = build(5, dtype)
    program = family.exact()
    assert (program.dim, program.count, program.degree) == (family.dim, family.count, family.degree)
    assert program.dtype in (str(dtype).removeprefix("torch."), None)
    x = normal(rng, 3, family.dim).to(dtype)
    if isinstance(family, Cutoff) or isinstance(getattr(family, "base", None), Cutoff):
        x = x / x.norm(dim=1, keepdim=True) / 2
    exact = torch.tensor(program.evaluate(x.numpy()).astype(np.float64))
    # Widened, the coefficients are the same numbers, and only float64 rounding is left.
    close(family.to(torch.float64).evaluate(x.double()), exact)


def test_sympy_expressions_describe_the_same_fields(family, rng):
    symbols = sympy.symbols(f"a:{family.dim}")
    expressions = [e.evalf(30) for field in family.exact().to_sympy(symbols) for e in field]
    x = normal(rng, 2, family.dim)
    x = x / x.norm(dim=1, keepdim=True) / 2
    formula = sympy.lambdify(symbols, expressions, "math")
    want = torch.tensor([formula(*row.tolist()) for row in x], dtype=torch.float64)
    close(family.evaluate(x), want.reshape(2, family.count, family.dim))


def test_a_seed_fixes_the_numbers(build):
    one, again, other = build(1, torch.float64), build(1, torch.float64), build(2, torch.float64)
    for a, b in zip(one.buffers(), again.buffers(), strict=True):
        assert torch.equal(a, b)
    assert one.digest() == again.digest()
    if not isinstance(inner(one), UniversalFields | ExpressionFields):
        assert one.digest() != other.digest()


def test_float32_coefficients_are_the_float64_draws_rounded_once(build):
    wide, narrow = build(1, torch.float64), build(1, torch.float32)
    for a, b in zip(wide.buffers(), narrow.buffers(), strict=True):
        assert torch.equal(a.float() if a.is_floating_point() else a, b)


def test_digest_sees_one_bit_of_one_coefficient_and_the_dtype(build):
    family = build(1, torch.float64)
    if isinstance(family, ExpressionFields):
        pytest.skip("formulas and no coefficients: tests/fields/test_expression.py")
    before = family.digest()
    buffer = next(b for b in family.buffers() if b.is_floating_point())
    flat = buffer.view(-1)
    kept = flat[-1].clone()
    flat[-1] = torch.nextafter(kept, torch.tensor(torch.inf, dtype=torch.float64))
    assert family.digest() != before
    flat[-1] = kept
    assert family.digest() == before
    # Values that both formats hold exactly, so that only the format differs.
    rounded = build(1, torch.float32)
    narrow = rounded.digest()
    assert rounded.to(torch.float64).digest() != narrow


def test_deepcopy_is_equal_and_independent(family, rng):
    x, u, _ = draw(family, rng, 3)
    want = family.velocity(x, u)
    twin = copy.deepcopy(family)
    assert twin.digest() == family.digest()
    assert torch.equal(twin.velocity(x, u), want)
    for buffer in twin.buffers():
        buffer.zero_()
    assert torch.equal(family.velocity(x, u), want)


@pytest.mark.parametrize("way", [torch.bfloat16, torch.float32])
def test_casting_keeps_every_number_in_step(family, rng, way):
    x, u, _ = draw(family, rng, 3)
    x = x / x.norm(dim=1, keepdim=True) / 2
    family.to(way)
    assert family.dtype == way
    velocity = family.velocity(x.to(way), u.to(way))
    assert velocity.dtype == way
    # What the narrow coefficients are, exactly: read off by widening them again.
    family.to(torch.float64)
    fields = torch.tensor(family.exact().evaluate(x.numpy()).astype(np.float64))
    if inner(family).__class__ is not UniversalFields:
        close(family.evaluate(x), fields)
    want = torch.einsum("i,bim->bm", u, fields)
    tolerance = {torch.bfloat16: 0.1, torch.float32: 1e-5}[way] * (1 + float(fields.abs().max()))
    torch.testing.assert_close(velocity.double(), want, rtol=0, atol=tolerance)


def test_state_dict_carries_the_family_over(build, rng):
    source, target = build(1, torch.float64), build(2, torch.float64)
    target.load_state_dict(source.state_dict())
    x, u, w = draw(source, rng, 4)
    assert torch.equal(target.velocity(x, u), source.velocity(x, u))
    assert torch.equal(target.pullback(x, u, w).state, source.pullback(x, u, w).state)
    assert target.digest() == source.digest()


def test_coefficients_are_buffers_and_nothing_trains(family):
    assert list(family.parameters()) == []
    assert family.frozen_numbers == sum(v.numel() for v in family.state_dict().values() if v.is_floating_point())
    assert family.frozen_numbers > 0 or isinstance(family, ExpressionFields)


def test_vmap_over_states_gives_the_rows(family, rng):
    x, u, _ = draw(family, rng, 4)
    got = torch.func.vmap(lambda row: family.velocity(row[None], u)[0])(x)
    close(got, torch.einsum("i,bim->bm", u, family.evaluate(x)))


def test_jacrev_agrees_with_the_exact_jacobian(family, rng):
    x, u, _ = draw(family, rng, 1)
    x = x / x.norm() / 2
    jacobian = torch.func.jacrev(lambda row: family.velocity(row[None], u)[0])(x[0])
    columns = [family.exact().jacobian_product(x.numpy(), e[None]) for e in np.eye(family.dim, dtype=np.int64)]
    exact = torch.tensor(np.stack([c[0].astype(np.float64) for c in columns], axis=-1))
    close(jacobian, torch.einsum("i,ijk->jk", u, exact))


def test_forward_mode_agrees_with_reverse_mode(family, rng):
    x, u, w = draw(family, rng, 3)
    v, du = normal(rng, 3, family.dim), normal(rng, family.count)
    _, tangent = torch.func.jvp(family.velocity, (x, u), (v, du))
    state, control = family.pullback(x, u, w)
    close((w * tangent).sum(), (state * v).sum() + (control * du).sum(), 1e-11)


def test_inputs_of_another_shape_are_refused_with_both_shapes(family, bad_input):
    m, d = family.dim, family.count
    x, u = torch.zeros(2, m, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    with pytest.raises(ValueError, match=rf"expects x of shape \(batch, {m}\); got shape \({m},\).*x\[None\]"):
        family.velocity(x[0], u)
    with pytest.raises(ValueError, match=rf"expects x of shape \(batch, {m}\); got shape \(2, {m + 1}\)"):
        family.evaluate(torch.zeros(2, m + 1, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"expects x of shape .* got a list"):
        family.evaluate([[0.0] * m])
    message = rf"{d} fields and expects a control of shape \({d},\) or \(2, {d}\); got shape \({d + 1},\).*count={d}"
    with pytest.raises(ValueError, match=message):
        family.velocity(x, torch.zeros(d + 1, dtype=torch.float64))
    with pytest.raises(ValueError, match=rf"got shape \(3, {d}\)"):
        family.pullback(x, torch.zeros(3, d, dtype=torch.float64), x)
    with pytest.raises(ValueError, match=rf"w must have the shape of x, \(2, {m}\); it has \(1, {m}\)"):
        family.pullback(x, u, x[:1])


def test_inputs_of_another_dtype_are_refused_with_the_cast_that_helps(family, bad_input):
    x, u = torch.zeros(2, family.dim, dtype=torch.float64), torch.zeros(family.count, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"float64 coefficients; x is torch.float32.*fields.to\(torch.float32\)"):
        family.velocity(x.float(), u)
    with pytest.raises(ValueError, match=r"u is torch.float32.*u.to\(torch.float64\)"):
        family.velocity(x, u.float())
    with pytest.raises(ValueError, match=r"w is torch\.int64"):
        family.pullback(x, u, x.long())


def test_a_family_can_be_pickled(family, rng):
    x, u, _ = draw(family, rng, 3)
    twin = pickle.loads(pickle.dumps(family))
    assert torch.equal(twin.velocity(x, u), family.velocity(x, u))


def test_print_names_dimension_count_and_degree(family):
    assert f"count={family.count}, degree={family.degree}" in repr(family)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_a_seed_that_is_no_natural_number_is_refused(bad_input, seed):
    with pytest.raises(ValueError, match=rf"non-negative integer; got {seed}"):
        LinearFields.random(2, 2, seed=seed)


@pytest.mark.parametrize(
    "make",
    [
        lambda: cn.LinearFields.random(2**20, 3, seed=0),
        lambda: cn.RidgeFields.random(2**20, 3, seed=0),
        lambda: cn.PolynomialFields.random(300, 10, 9, seed=0),
        lambda: cn.PiecewiseConstantControl(2**20, 2**20),
        lambda: cn.HermiteControl(2**20, 2**20),
        lambda: cn.SpectralControl.random(2**20, 2**20, scale=1.0, seed=0),
        lambda: cn.ImplicitRNN(2, 2**20),
    ],
)
def test_what_no_memory_holds_is_refused_before_any_is_taken(bad_input, make):
    with pytest.raises(ValueError, match=r"takes \d+ GB while it is made; this machine has"):
        make()


@pytest.mark.parametrize("make", [cn.RidgeFields.random, cn.PolynomialFields.random])
def test_a_degree_whose_moments_are_no_doubles_is_refused(bad_input, make):
    assert make(1, 1, 140, seed=0).degree == 140
    with pytest.raises(ValueError, match="degree must be at most 140"):
        make(1, 1, 141, seed=0)
