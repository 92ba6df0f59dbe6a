"""Fields from formulas: values by hand, derivatives by autograd, what is refused."""

import copy
import math
import pickle

import pytest
import sympy
import torch

import cde_nets as cn
from cde_nets.fields import ExpressionFields

X, Y, ANGLE = sympy.symbols("x y theta")
UNICYCLE = [[sympy.cos(ANGLE), sympy.sin(ANGLE), 0], [0, 0, 1]]


def unicycle(dtype=torch.float64):
    return ExpressionFields(UNICYCLE, (X, Y, ANGLE), dtype=dtype)


def test_the_unicycle_by_hand():
    x = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, math.pi / 6]], dtype=torch.float64)
    got = unicycle().evaluate(x)
    want = [[[1.0, 0, 0], [0, 0, 1]], [[math.sqrt(3) / 2, 0.5, 0], [0, 0, 1]]]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("rows", [1, 4])
def test_pullback_and_divergence_of_every_function_are_autograds(rows):
    functions = [
        sympy.sin(X) * Y, sympy.cos(X * Y), sympy.tan(X / 3), sympy.sinh(Y), sympy.cosh(X), sympy.tanh(X - Y),
        sympy.asin(X / 9), sympy.acos(Y / 9), sympy.atan(X), sympy.exp(-(X**2)), sympy.log(Y**2 + sympy.pi),
        sympy.sqrt(X**2 + 1), 1 / (1 + Y**2), 0.5 * X,
    ]  # fmt: skip
    fields = ExpressionFields([[f, g] for f, g in zip(functions[::2], functions[1::2], strict=True)], (X, Y)).double()
    rng = torch.Generator().manual_seed(0)
    x, w = torch.randn(2, rows, 2, generator=rng, dtype=torch.float64)
    u = torch.randn(fields.count, generator=rng, dtype=torch.float64)
    xs, us = x.clone().requires_grad_(), u.clone().requires_grad_()
    want = torch.autograd.grad(fields.velocity(xs, us), (xs, us), w)
    got = fields.pullback(x, u, w)
    torch.testing.assert_close(got.state, want[0])
    torch.testing.assert_close(got.control, want[1])
    jacobian = torch.autograd.functional.jacobian(lambda y: fields.velocity(y, u).sum(0), x)
    torch.testing.assert_close(fields.divergence(x, u), jacobian.diagonal(dim1=0, dim2=2).sum(1))


def test_values_are_those_of_sympy():
    f = sympy.exp(X) / 3 + sympy.Rational(2, 7) * Y**3
    fields = ExpressionFields([[f, X]], (X, Y)).double()
    got = fields.evaluate(torch.tensor([[0.5, -1.25]], dtype=torch.float64))
    assert float(got[0, 0, 0]) == pytest.approx(float(f.subs({X: 0.5, Y: -1.25})), rel=1e-15)


def test_a_flow_along_the_unicycle_comes_back_with_its_gradient():
    control = cn.PiecewiseConstantControl(2, 2, values=torch.tensor([[1.0, 0.5], [-0.3, 0.2]], dtype=torch.float64))
    flow = cn.ControlledODE(unicycle(), control, cn.RungeKutta("rk4", steps=40))
    x = torch.tensor([[0.0, 0.0, 0.0]], dtype=torch.float64)
    end = flow(x)
    # On an arc the turn is linear in time: theta(1) = (0.5 + 0.2) / 2, and the arcs have radii u_1 / u_2.
    half, full = 0.25, 0.35
    want = [
        2.0 * math.sin(half) - 1.5 * (math.sin(full) - math.sin(half)),
        2.0 * (1 - math.cos(half)) + 1.5 * (math.cos(full) - math.cos(half)),
        full,
    ]
    torch.testing.assert_close(end, torch.tensor([want], dtype=torch.float64), rtol=1e-9, atol=1e-9)
    end[0, 2].backward()
    torch.testing.assert_close(control.values.grad[:, 1], torch.tensor([0.5, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fields: pickle.loads(pickle.dumps(fields))])
def test_copies_are_compiled_again(copied):
    fields = unicycle()
    again = copied(fields)
    x = torch.randn(3, 3, dtype=torch.float64)
    assert torch.equal(again.evaluate(x), fields.evaluate(x))
    assert again.digest() == fields.digest()


def test_the_digest_is_the_formulas():
    one = ExpressionFields([[X, Y]], (X, Y))
    assert one.digest() == ExpressionFields([[X, Y]], (X, Y)).digest()
    assert one.digest() != ExpressionFields([[Y, X]], (X, Y)).digest()
    assert one.digest() != ExpressionFields([[X, Y]], (Y, X)).digest()
    assert one.digest() != ExpressionFields([[X, Y]], (X, Y), dtype=torch.float64).digest()


def test_degrees_and_programs():
    polynomial = ExpressionFields([[1, X * Y**2], [Y, 0]], (X, Y))
    assert polynomial.degree == 3
    assert polynomial.exact().count == 2
    assert unicycle().degree == 0
    with pytest.raises(ValueError, match="no polynomial"):
        unicycle().exact()


@pytest.mark.usefixtures("bad_input")
@pytest.mark.parametrize(
    ("fields", "symbols", "message"),
    [
        ([[X, Y]], (X,), "lists of 1 expressions"),
        ([[X]], (X, X), "different SymPy symbols"),
        ([[X]], ("x",), "different SymPy symbols"),
        ([], (X,), "lists of 1"),
        ([[X * ANGLE]], (X,), "the symbol theta"),
        ([[sympy.gamma(X)]], (X,), "the function gamma"),
        ([[sympy.Abs(X)]], (X,), "the function Abs"),
        ([[sympy.I * X]], (X,), "real and finite"),
        ([[sympy.zoo]], (X,), "real and finite"),
        ([["x + 1"]], (X,), "expected a SymPy expression"),
    ],
)
def test_what_is_refused(fields, symbols, message):
    with pytest.raises(ValueError, match=message):
        ExpressionFields(fields, symbols)
