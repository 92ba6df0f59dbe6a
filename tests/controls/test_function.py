"""u(t) as a function of one's own."""

import pytest
import torch
from torch import nn

from cde_nets.controls import CallableControl

F64 = torch.float64


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, t):
        return self.layers(t[..., None])


def wave(t):
    return torch.stack([torch.sin(t), torch.cos(t)], -1)


def staircase(t):
    """Jumps at 0.3 and at 0.7; what it says there is of no matter, and wrong."""
    value = torch.where(t < 0.3, 1.0, torch.where(t < 0.7, 2.0, 3.0))
    wrong = (t == torch.tensor(0.3, dtype=t.dtype)) | (t == torch.tensor(0.7, dtype=t.dtype))
    return torch.where(wrong, 99.0, value)[..., None]


def test_a_plain_function_gets_the_times_and_keeps_the_controls_dtype():
    control = CallableControl(wave, 2)
    times = torch.rand(3, 4, dtype=F64)
    assert control.at(times).dtype == torch.float32
    torch.testing.assert_close(control.double().at(times), wave(times), rtol=0, atol=0)
    assert (control.leaves, control.breakpoints, control.jumps, control.span) == ((), (), False, (0.0, 1.0))


def test_a_networks_parameters_train_and_it_gets_the_times_in_their_dtype():
    network = Network()
    control = CallableControl(network, 3)
    assert control.leaves == tuple(network.parameters())
    control.at(torch.rand(7, dtype=F64)).square().sum().backward()
    assert all(p.grad is not None for p in control.parameters())
    assert control.double().at(torch.rand(7)).dtype == F64
    assert set(control.state_dict()) == {f"function.{name}" for name in network.state_dict()}


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_at_a_breakpoint_the_function_is_asked_on_the_side_that_is_wanted(dtype):
    control = CallableControl(staircase, 1, breakpoints=(0.3, 0.7)).to(dtype)
    assert control.jumps
    got = control.on_mesh([0.0, 0.3, 0.7, 1.0], [0.0, 0.5, 1.0])[..., 0]
    assert got.tolist() == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    back = control.on_mesh([1.0, 0.7, 0.3, 0.0], [0.0, 0.5, 1.0])[..., 0]
    assert back.tolist() == [[3, 3, 3], [2, 2, 2], [1, 1, 1]]
    assert control.at(torch.tensor([0.3, 0.7], dtype=dtype))[:, 0].tolist() == [2, 3]


def test_a_module_in_float32_is_asked_on_the_right_side_too():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, t):
            assert t.dtype == torch.float32
            return self.scale * staircase(t)

    control = CallableControl(Steps(), 1, breakpoints=(0.3, 0.7))
    got = control.on_mesh([0.0, 0.3, 0.7, 1.0], [0.0, 0.5, 1.0])[..., 0]
    assert got.tolist() == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]


def test_a_breakpoint_at_zero_has_two_sides():
    def sign(t):
        return torch.sign(t)[..., None]

    control = CallableControl(sign, 1, breakpoints=(0.0,), span=(-1.0, 1.0))
    assert control.on_mesh([-1.0, 0.0, 1.0], [0.0, 1.0])[..., 0].tolist() == [[-1, -1], [1, 1]]


def test_tensors_that_a_function_closes_over_are_named_as_leaves():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)

    def line(t):
        return t[..., None] * weight

    times = torch.rand(5, dtype=F64)
    with pytest.raises(ValueError, match=r"make it an nn.Module .*leaves="):
        CallableControl(line, 2).at(times)
    with torch.no_grad():
        assert not CallableControl(line, 2).at(times).requires_grad
    control = CallableControl(line, 2, leaves=(weight,))
    assert control.leaves[0] is weight
    assert torch.autograd.grad(control.at(times)[:, 0].sum(), weight)[0][0] == pytest.approx(float(times.sum()))
    # A bound method hides its module's parameters from the control.
    with pytest.raises(ValueError, match=r"nn\.Module"):
        CallableControl(Network().forward, 3).at(times.float())


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda t: t, r"shape \(5, 2\) .*got torch.float64 of shape \(5,\)"),
        (lambda t: torch.stack([t, t]), r"got torch.float64 of shape \(2, 5\)"),
        (lambda t: torch.zeros(5, 2, dtype=torch.int64), "got torch.int64"),
        (lambda t: None, "got None"),
    ],
)
def test_a_value_of_another_shape_is_refused_with_both(bad_input, function, got):
    with pytest.raises(ValueError, match=got):
        CallableControl(function, 2).at(torch.rand(5, dtype=F64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count >= 1; got count=0"),
        ({"function": 3.0}, r"function must map times of shape \(...\) to values of shape \(..., 2\); got 3.0"),
        ({"function": Network}, "function must map times"),
        ({"breakpoints": (0.5, 0.5)}, r"rise strictly .*got \(0.5, 0.5\)"),
        ({"breakpoints": (0.7, 0.3)}, "rise strictly"),
        ({"breakpoints": (0.0,)}, r"strictly inside the span \(0.0, 1.0\)"),
        ({"breakpoints": (float("nan"),)}, "rise strictly"),
        ({"breakpoints": 0.5}, "breakpoints must be a sequence of times; got 0.5"),
        ({"span": (1.0, 1.0)}, r"start < end; got \(1.0, 1.0\)"),
        ({"span": (0.0, float("inf"))}, "two finite times"),
        ({"span": (0.0,)}, "two finite times"),
        ({"span": 1.0}, "two finite times"),
        ({"leaves": (1.0,)}, "leaves must be floating point tensors; got a float"),
    ],
)
def test_bad_arguments_are_refused(bad_input, arguments, message):
    with pytest.raises(ValueError, match=message):
        CallableControl(**{"function": wave, "count": 2} | arguments)
