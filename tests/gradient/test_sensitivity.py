"""How rest points move, against calculus by hand, SymPy and finite differences."""

import math

import pytest
import sympy
import torch
from torch import nn

import cde_nets as cn

pytestmark = pytest.mark.usefixtures("bad_input")

F64 = torch.float64
TIGHT = cn.Tolerance(1e-13, 1e-14)


def number(value):
    return torch.tensor(value, dtype=F64)


def circle(x):
    """y of x^2 + y^2 = 1 above the axis."""
    a = number(x)
    problem = cn.FixedPointProblem.root(lambda y, a: a * a + y * y - 1, number([0.9]), args=(a,))
    return problem, a, cn.solve(problem, cn.Newton(), tolerance=TIGHT).value


@pytest.mark.parametrize("method", [None, cn.Dense(), cn.CG(), cn.BiCGStab()], ids=str)
@pytest.mark.parametrize("x", [-0.8, 0.0, 0.6])
def test_the_circle(x, method):
    problem, a, y = circle(x)
    slope = cn.sensitivity(problem, y, a, method=method)
    assert slope.shape == (1,)
    assert float(slope) == pytest.approx(-x / math.sqrt(1 - x * x), rel=1e-9, abs=1e-12)


def test_where_the_circle_turns_back_there_is_no_slope():
    a = number(1.0)
    problem = cn.FixedPointProblem.root(lambda y, a: a * a + y * y - 1, number([0.0]), args=(a,))
    for method in (None, cn.Dense()):
        with pytest.raises(cn.ConvergenceError, match="singular there, so that z has no derivative"):
            cn.sensitivity(problem, number([0.0]), a, method=method)


class Hanging(nn.Module):
    """Forces on a mass between two springs whose ends are fixed at (-1, 0) and (1, 0): two equations."""

    def __init__(self):
        super().__init__()
        self.stiffness = nn.Parameter(number([30.0, 50.0]))

    def forward(self, x, weight):
        force = torch.zeros_like(x)
        for k, end in enumerate((number([-1.0, 0.0]), number([1.0, 0.0]))):
            arm = end - x
            length = arm.norm()
            force = force + self.stiffness[k] * (length - 0.5) * arm / length
        return force - torch.stack([torch.zeros_like(weight), weight])


def test_a_mass_at_rest_between_springs():
    springs, weight = Hanging(), number(10.0)
    problem = cn.FixedPointProblem.root(springs, number([0.1, -0.2]), args=(weight,))
    rest = cn.solve(problem, cn.Newton(), tolerance=TIGHT).value.detach()
    u, v, w, k1, k2 = sympy.symbols("u v w k1 k2")
    total = [0, -w]
    for k, end in ((k1, -1), (k2, 1)):
        length = sympy.sqrt((end - u) ** 2 + v**2)
        for i, arm in enumerate((end - u, -v)):
            total[i] += k * (length - sympy.Rational(1, 2)) * arm / length
    at = {u: float(rest[0]), v: float(rest[1]), w: 10, k1: 30, k2: 50}
    forces = sympy.Matrix(total)
    assert max(abs(float(f)) for f in forces.subs(at)) < 1e-9
    inverse = forces.jacobian([u, v]).subs(at).inv()
    by_weight = torch.tensor([float(s) for s in -inverse * forces.diff(w).subs(at)], dtype=F64)
    by_stiffness = torch.tensor((-inverse * forces.jacobian([k1, k2]).subs(at)).tolist(), dtype=F64)
    torch.testing.assert_close(cn.sensitivity(problem, rest, weight), by_weight, rtol=1e-9, atol=1e-12)
    found = cn.sensitivity(problem, rest, springs.stiffness)
    assert found.shape == (2, 2)
    torch.testing.assert_close(found, by_stiffness, rtol=1e-9, atol=1e-12)
    # A heavier mass hangs lower.
    assert float(found[1, 0]) > 0 > float(by_weight[1])


def test_rows_and_parts_of_a_state():
    a, x = (
        torch.tensor([[0.2, 0.1], [-0.3, 0.4]], dtype=F64),
        torch.tensor([[0.5, 1.0], [2.0, -1.0], [0.1, 0.3]]).double(),
    )
    start = {"p": torch.zeros(3, 2, dtype=F64), "q": torch.zeros(3, dtype=F64)}

    def function(z, a, x):
        return {"p": torch.tanh(z["p"] @ a.T + x), "q": 0.5 * z["q"] + z["p"][:, 0] * a[0, 0]}

    problem = cn.FixedPointProblem(function, start, args=(a, x))
    rest = cn.solve(problem, cn.Newton(), tolerance=TIGHT).value
    found = cn.sensitivity(problem, rest, a)
    assert found["p"].shape == (3, 2, 2, 2)
    assert found["q"].shape == (3, 2, 2)
    width = 1e-5
    for i in range(2):
        for j in range(2):
            ends = []
            for sign in (1, -1):
                moved = a.clone()
                moved[i, j] += sign * width
                there = cn.FixedPointProblem(function, start, args=(moved, x))
                ends.append(cn.solve(there, cn.Newton(), tolerance=TIGHT).value)
            for name in ("p", "q"):
                slope = (ends[0][name] - ends[1][name]) / (2 * width)
                torch.testing.assert_close(found[name][..., i, j], slope, rtol=1e-6, atol=1e-8)
    # One row's input does not move another row.
    by_input = cn.sensitivity(problem, rest, x)["p"]
    assert by_input.shape == (3, 2, 3, 2)
    for row in range(3):
        for other in range(3):
            assert bool(by_input[row, :, other].any()) == (row == other)


def test_forward_and_backward_are_each_others_transpose():
    layer = cn.ImplicitRNN(3, 4, parameter_dtype=F64, tolerance=TIGHT)
    x = torch.randn(2, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    w = torch.randn(2, 4, dtype=F64, generator=torch.Generator().manual_seed(2))
    value = layer(x)
    backward = torch.autograd.grad((value * w).sum(), layer.f.weight_hh)[0]
    forward = cn.sensitivity(layer.problem(x), value, layer.f.weight_hh)
    torch.testing.assert_close(torch.tensordot(w, forward, 2), backward, rtol=1e-9, atol=1e-12)


def test_what_is_refused():
    problem, a, y = circle(0.6)
    with pytest.raises(
        ValueError, match=r"wrt must be a tensor that the problem was given in args.*\(\), is not among"
    ):
        cn.sensitivity(problem, y, a.clone())
    with pytest.raises(ValueError, match=r"z is not at rest: in row 0 .* is 0\.36 .* Solve first"):
        cn.sensitivity(problem, number([1.0]), a)
    with pytest.raises(ValueError, match="must have the state's shape"):
        cn.sensitivity(problem, number([1.0, 2.0]), a)
    with pytest.raises(ValueError, match="method must be one for linear problems"):
        cn.sensitivity(problem, y, a, method=cn.Newton())
    with pytest.raises(ValueError, match="not at rest"):
        cn.sensitivity(problem, number([math.nan]), a)
