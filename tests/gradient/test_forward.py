"""Forward derivatives of flows, torch.autograd.forward_ad's and torch.func's: nothing on the way drops a tangent."""

import pytest
import torch
from torch.autograd import forward_ad

import cde_nets as cn

F64 = torch.float64
FAMILIES = {
    "polynomial": cn.PolynomialFields.random(2, 3, 2, seed=0, dtype=F64),
    "ridge": cn.RidgeFields.random(2, 3, 2, seed=0, dtype=F64),
    "linear": cn.LinearFields.random(2, 3, seed=0, dtype=F64),
}
RK4 = cn.RungeKutta("rk4", steps=4)
METHODS = {"rk4": RK4, "dopri5": cn.RungeKutta("dopri5"), "reversible": cn.Reversible(cn.RungeKutta("rk4", steps=4))}
GRADIENTS = {"default": None, "checkpointed": cn.Checkpointed(), "autograd": cn.Autograd(), "forward": cn.ForwardMode()}


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tangent_goes_through(family, method, gradient, trained):
    if method == "reversible" and gradient == "checkpointed":
        pytest.skip("reversible steps need no checkpoints")
    control = cn.PiecewiseConstantControl.random(4, 3, scale=0.3, seed=1, dtype=F64).requires_grad_(trained)
    flow = cn.ControlledODE(FAMILIES[family], control, METHODS[method], gradient=GRADIENTS[gradient])
    x, v = torch.randn(2, 3, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = (flow(x + 1e-6 * v) - flow(x - 1e-6 * v)) / 2e-6
    with forward_ad.dual_level():
        end, tangent = forward_ad.unpack_dual(flow(forward_ad.make_dual(x, v)))
    assert torch.allclose(end, flow(x), atol=1e-12)
    assert tangent is not None
    assert torch.allclose(tangent, expected, atol=1e-8)
    assert torch.allclose(torch.func.jvp(flow, (x,), (v,))[1], expected, atol=1e-8)
    with forward_ad.dual_level(), torch.no_grad():
        still = forward_ad.unpack_dual(flow(forward_ad.make_dual(x, v))).tangent
    assert torch.allclose(still, expected, atol=1e-8)


@pytest.mark.parametrize("method", [*METHODS, "torchdiffeq", "event", "saved"])
@pytest.mark.parametrize("wanted", ["start", "control", "nothing"])
def test_forward_mode_refuses_backward(method, wanted):
    control = cn.PiecewiseConstantControl.random(4, 3, scale=0.3, seed=1, dtype=F64).requires_grad_(wanted == "control")
    x = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_(wanted == "start")
    event = cn.Event(lambda t, x: x[:, 0] - 10) if method == "event" else None
    problem = cn.InitialValueProblem.controlled(FAMILIES["linear"], control, x, event=event)
    steps = {"torchdiffeq": cn.TorchDiffEq("rk4", options={"step_size": 0.25})}.get(method, METHODS.get(method, RK4))
    save_at = cn.SaveAt([0.5, 1.0]) if method == "saved" else None
    value = cn.solve(problem, steps, gradient=cn.ForwardMode(), save_at=save_at).value
    # What is computed after the flow trains as ever.
    scale = torch.ones((), dtype=F64, requires_grad=True)
    (value.detach() * scale).sum().backward()
    assert scale.grad is not None
    if wanted == "nothing":
        assert not value.requires_grad
        return
    with pytest.raises(RuntimeError, match=r"nothing for a way back.*such as Discrete\(\)"):
        (value * scale).sum().backward()
    with torch.no_grad():
        assert not cn.solve(problem, steps, gradient=cn.ForwardMode()).value.requires_grad


def test_forward_within_backward_is_refused_too():
    control = cn.PiecewiseConstantControl.random(4, 3, scale=0.3, seed=1, dtype=F64)
    flow = cn.ControlledODE(FAMILIES["linear"], control, "rk4", gradient=cn.ForwardMode())
    x, v = torch.randn(2, 3, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match="nothing for a way back"):
        torch.func.jvp(flow, (x,), (v,))[0].sum().backward()


def test_forward_mode_refuses_torch_funcs_way_back():
    control = cn.PiecewiseConstantControl.random(4, 3, scale=0.3, seed=1, dtype=F64)
    flow = cn.ControlledODE(FAMILIES["linear"], control, "rk4", gradient=cn.ForwardMode())
    x = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    for transform in (torch.func.grad(lambda q: flow(q).sum()), torch.func.jacrev(flow), torch.func.hessian(flow)):
        with pytest.raises(ValueError, match=r"nothing for a way back.*such as Discrete\(\), or jvp"):
            transform(x)
    other = cn.ControlledODE(FAMILIES["linear"], control, "rk4")
    assert torch.allclose(torch.func.jacfwd(flow)(x), torch.func.jacrev(other)(x), atol=1e-12)
