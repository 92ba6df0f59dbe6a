"""States of any shape and structure, the time their functions are given, and complex states."""

import math

import pytest
import torch

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import LinearFields
from cde_nets.gradient import Autograd, Checkpointed, Discrete, solve
from cde_nets.solver import Event, FixedPointProblem, InitialValueProblem, Picard, RungeKutta, SaveAt
from cde_nets.solver.states import Packing, finite_rows, real

F64 = torch.float64


def numbers(*shape, dtype=F64):
    return torch.arange(1.0, 1 + math.prod(shape), dtype=F64).reshape(shape).to(dtype)


STATES = {
    "0-d": (numbers(), 1),
    "1-d": (numbers(4), 1),
    "2-d": (numbers(3, 2), 3),
    "3-d": (numbers(3, 2, 2), 3),
    "image": (numbers(2, 1, 3, 3), 2),
    "no numbers": (numbers(3, 0), 3),
    "tuple": ((numbers(3, 2), numbers(3, 1)), 3),
    "list": ([numbers(2, 2, 2), numbers(2, 1, 1)], 2),
    "dict": ({"b": numbers(3, 2), "a": numbers(3, 4)}, 3),
    "nested": ({"x": (numbers(3, 2), {"y": numbers(3, 1)}), "z": [numbers(3, 3)]}, 3),
    "1-d in a dict": ({"a": numbers(2), "b": numbers(3)}, 1),
    "0-d in a tuple": ((numbers(), numbers(2)), 1),
}


def leaves(state):
    return torch.utils._pytree.tree_leaves(state)


def mapped(function, state):
    return torch.utils._pytree.tree_map(function, state)


def close(got, want, **options):
    assert torch.utils._pytree.tree_structure(got) == torch.utils._pytree.tree_structure(want)
    for one, two in zip(leaves(got), leaves(want), strict=True):
        torch.testing.assert_close(one, two, **options)


# -- packing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "rows"), STATES.values(), ids=STATES)
def test_packing_is_a_row_for_each_row_and_is_undone(state, rows):
    packing = Packing(state)
    packed = packing.pack(state)
    assert packing.rows == rows
    assert packed.shape == (rows, sum(leaf.numel() for leaf in leaves(state)) // rows)
    close(packing.unpack(packed), state, rtol=0, atol=0)
    # Axes in front are kept.
    many = packing.unpack(torch.stack([packed, 2 * packed]))
    for one, two in zip(leaves(many), leaves(state), strict=True):
        assert torch.equal(one, torch.stack([two, 2 * two]))


@pytest.mark.parametrize(("state", "rows"), STATES.values(), ids=STATES)
def test_a_row_of_the_packed_state_holds_that_row_s_numbers(state, rows):
    packing = Packing(state)
    first = mapped(lambda leaf: torch.zeros_like(leaf), state)
    for leaf in leaves(first):
        (leaf if packing.single else leaf[0]).fill_(1)
    marked = packing.pack(first)
    assert bool((marked[0] == 1).all())
    assert not marked[1:].any()


def test_a_coupled_state_is_one_row_whatever_its_axes():
    packing = Packing((numbers(3, 2), numbers(5, 1)), coupled=True)
    assert (packing.rows, packing.single) == (1, True)
    assert packing.pack((numbers(3, 2), numbers(5, 1))).shape == (1, 11)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (numbers(2, 2).long(), r"floating point or complex; got torch\.int64.*x\.float"),
        (torch.ones(2, dtype=torch.bool), r"got torch\.bool"),
        ((numbers(2, 1), numbers(2, 1).float()), r"share dtype and device; got torch\.float64 .* torch\.float32"),
        ((numbers(2, 1), numbers(3, 1)), r"same first axis; got shapes \(2, 1\), \(3, 1\).*coupled=True"),
        ([], "A state is a tensor, or a tuple or dict of tensors; got nothing"),
        ((numbers(2), 1.0), "got Tensor, float"),
        ("x", "got str"),
    ],
)
def test_what_is_no_state_is_refused(bad_input, state, words):
    with pytest.raises(ValueError, match=words):
        Packing(state)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((numbers(3, 2),), "must be built as the initial state"),
        ({"a": numbers(3, 2), "b": numbers(3, 2)}, r"must have the state's shape \(3, 1\); got shape \(3, 2\)"),
        ({"a": numbers(3, 2), "b": 1.0}, r"must have the state's shape \(3, 1\); got a float"),
        ({"a": numbers(3, 2).float(), "b": numbers(3, 1)}, r"must be torch\.float64 .*got torch\.float32 .*Cast"),
    ],
)
def test_a_value_that_is_built_otherwise_is_refused(bad_input, value, words):
    with pytest.raises(ValueError, match=f"^What I gave {words}"):
        Packing({"a": numbers(3, 2), "b": numbers(3, 1)}).pack(value, "What I gave")


def test_finite_rows_are_those_without_nan_and_infinity():
    x = torch.tensor([[1.0, 2.0], [math.nan, 1.0], [1.0, -math.inf], [1e308, 1e308]], dtype=F64)
    assert finite_rows(x).tolist() == [True, False, False, True]
    assert finite_rows(torch.complex(x, x)).tolist() == [True, False, False, True]
    assert finite_rows(x[:, :0]).tolist() == [True] * 4


@pytest.mark.parametrize(("dtype", "parts"), [(torch.complex64, torch.float32), (F64, F64), (torch.complex128, F64)])
def test_the_real_dtype_of_a_dtype(dtype, parts):
    assert real(dtype) == parts == torch.empty(0, dtype=dtype).real.dtype


# -- flows of any state ------------------------------------------------------------------------------------------------

METHODS = {
    "grid": RungeKutta("rk4", steps=20),
    "per row": RungeKutta("dopri5"),
    "joint": RungeKutta("dopri5", per_row=False),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("state", [state for state, _ in STATES.values()], ids=STATES)
def test_any_state_flows_and_has_gradients(state, method):
    state = mapped(lambda leaf: leaf.clone().requires_grad_(), state)
    problem = InitialValueProblem(lambda t, x: mapped(lambda leaf: -leaf, x), state)
    solution = solve(problem, method, save_at=SaveAt(times=[0.0, 0.5, 1.0], dense=True))
    decay = torch.tensor([1.0, math.exp(-0.5), math.exp(-1.0)], dtype=F64)
    want = mapped(lambda leaf: decay.reshape(3, *[1] * leaf.ndim) * leaf, state)
    close(solution.value, want, rtol=2e-6, atol=0)
    close(solution.dense(0.5), mapped(lambda leaf: leaf[1].detach(), want), rtol=2e-6, atol=0)
    assert solution.status.shape == (Packing(state).rows,)
    total = sum(leaf[-1].sum() for leaf in leaves(solution.value))
    for grad, leaf in zip(torch.autograd.grad(total, leaves(state)), leaves(state), strict=True):
        torch.testing.assert_close(grad, torch.full_like(leaf, math.exp(-1)), rtol=2e-6, atol=0)


@pytest.mark.parametrize("state", [state for state, _ in STATES.values()], ids=STATES)
def test_any_state_comes_to_rest(state):
    problem = FixedPointProblem(lambda z: mapped(lambda leaf: leaf / 2 + 1, z), state)
    close(solve(problem, Picard()).value, mapped(lambda leaf: torch.full_like(leaf, 2.0), state), rtol=1e-5, atol=0)


# -- the time ----------------------------------------------------------------------------------------------------------

SHAPES = {
    "a state without axes": (numbers(), {"per row": ()}),
    "one axis": (numbers(4), {"per row": ()}),
    "one row": (numbers(1, 4), {"per row": ()}),
    "rows": (numbers(3, 2), {"per row": (3, 1)}),
    "rows of matrices": (numbers(3, 2, 2), {"per row": (3, 1, 1)}),
    "images": (numbers(2, 1, 3, 3), {"per row": (2, 1, 1, 1)}),
    "tuples": ((numbers(3, 2), numbers(3, 1)), {"per row": (3, 1)}),
}


@pytest.mark.parametrize("gradient", [Discrete(), Checkpointed(), Autograd()])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES)
def test_the_function_is_given_times_that_broadcast_against_its_state(case, method, gradient):
    state, wanted = case
    state = mapped(lambda leaf: leaf.clone().requires_grad_(), state)
    seen = set()

    def f(t, x):
        seen.add((tuple(t.shape), t.dtype))
        return mapped(lambda leaf: -t * leaf, x)

    solution = solve(InitialValueProblem(f, state), method, gradient=gradient)
    close(solution.value, mapped(lambda leaf: math.exp(-0.5) * leaf, state), rtol=2e-6, atol=0)
    sum(leaf.sum() for leaf in leaves(solution.value)).backward()
    # Rows step by themselves where they may; in all other cases, and to see what f depends on, one time is for all.
    own = {(wanted["per row"], F64)} if method is METHODS["per row"] else set()
    assert own <= seen <= own | {((), F64)}


@pytest.mark.parametrize(
    ("dtype", "time"), [(torch.float32, torch.float32), (torch.complex128, F64), (torch.complex64, torch.float32)]
)
def test_the_time_has_the_state_s_real_dtype(dtype, time):
    seen = set()

    def f(t, x):
        seen.add(t.dtype)
        return -t * x

    for method in METHODS.values():
        assert solve(InitialValueProblem(f, numbers(3, 2, dtype=dtype)), method).value.dtype == dtype
    assert seen == {time}


def test_tensors_of_different_axes_need_one_time_for_all(bad_input):
    state = (numbers(3, 2), numbers(3))
    problem = InitialValueProblem(lambda t, x: mapped(lambda leaf: -t * leaf, x), state)
    with pytest.raises(ValueError, match=r"does not broadcast .*\(3, 2\), \(3,\).*per_row=False"):
        solve(problem, RungeKutta("dopri5"))
    for method in (METHODS["joint"], METHODS["grid"]):
        close(solve(problem, method).value, mapped(lambda leaf: math.exp(-0.5) * leaf, state), rtol=2e-6, atol=0)


def test_the_event_of_a_state_without_axes():
    event = Event(lambda t, x: x - 0.5, "falling")
    solution = solve(InitialValueProblem(lambda t, x: -x, torch.tensor(1.0, dtype=F64), event=event))
    assert solution.words() == ["event"]
    assert float(solution.event_time[0]) == pytest.approx(math.log(2), abs=1e-6)


# -- complex states ----------------------------------------------------------------------------------------------------


def control(*rows):
    return PiecewiseConstantControl(len(rows), 1, values=torch.tensor(rows, dtype=F64)[:, None])


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_complex_linear_fields_rotate(method):
    fields = LinearFields(torch.tensor([[[1j]]], dtype=torch.complex128))
    x = torch.tensor([[1.0 + 0j], [2j], [1 - 1j]])
    x = x.to(torch.complex128)
    problem = InitialValueProblem.controlled(fields, control(1.0, 2.0), x)
    solution = solve(problem, method, save_at=[0.25, 0.5, 1.0])
    turn = torch.exp(1j * torch.tensor([0.25, 0.5, 1.5], dtype=F64))[:, None, None]
    torch.testing.assert_close(solution.value.detach(), turn * x, rtol=0, atol=5e-6)


@pytest.mark.parametrize("gradient", [Discrete(), Checkpointed()])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_complex_gradients_are_those_of_autograd(method, gradient):
    fields = LinearFields.random(2, 1, seed=0, dtype=torch.complex128)
    found = []
    for how in (gradient, Autograd()):
        x = torch.tensor([[1.0 + 1j, 0.5], [-1j, 2.0]], dtype=torch.complex128, requires_grad=True)
        u = control(1.0, -0.5)
        end = solve(InitialValueProblem.controlled(fields, u, x), method, gradient=how).value
        found.append(torch.autograd.grad((end * (1 + 2j)).abs().square().sum() + end.real.sum(), [x, u.values]))
    for mine, autograd in zip(*found, strict=True):
        torch.testing.assert_close(mine, autograd, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_complex_function_of_one_s_own(method):
    # z' = i (1 + t) z + conj(z) 0, and a frequency that wants a gradient.
    w = torch.tensor(1.0, dtype=F64, requires_grad=True)
    x = torch.tensor([[1.0 + 0j, 2.0], [1j, -1.0]], dtype=torch.complex128, requires_grad=True)
    problem = InitialValueProblem(lambda t, z, w: 1j * w * (1 + t) * z, x, args=(w,))
    solution = solve(problem, method)
    turn = complex(math.cos(1.5), math.sin(1.5))
    torch.testing.assert_close(solution.value, x * turn, rtol=0, atol=1e-5)
    slope, back = torch.autograd.grad(solution.value.real.sum(), [w, x])
    assert float(slope) == pytest.approx((1.5j * turn * x.detach()).real.sum().item(), rel=1e-4)
    # torch's convention: the gradient of a real loss is the conjugate of its derivative.
    torch.testing.assert_close(back, torch.full_like(x, turn.conjugate()), rtol=0, atol=1e-5)


def test_a_complex_row_that_fails_leaves_the_others_alone():
    x = torch.tensor([[1.0 + 0j], [complex(math.nan, 1.0)], [1j]], dtype=torch.complex128)
    for method in METHODS.values():
        solution = solve(InitialValueProblem(lambda t, z: 1j * z, x), method, throw=False)
        assert solution.words() == ["done", "diverged", "done"]
        turn = complex(math.cos(1), math.sin(1))
        torch.testing.assert_close(solution.value[[0, 2]], x[[0, 2]] * turn, rtol=0, atol=1e-5)
