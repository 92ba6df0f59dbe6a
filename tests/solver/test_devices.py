"""The same on every device that is present: values, gradients, statuses."""

import pytest
import torch

from cde_nets.controls import DataControl, PiecewiseConstantControl, SpectralControl
from cde_nets.fields import ConvFields, PolynomialFields, RidgeFields
from cde_nets.gradient import Backsolve, Checkpointed, Discrete, Implicit, solve
from cde_nets.nn import ControlledODE
from cde_nets.solver import (
    CG,
    GMRES,
    Anderson,
    BiCGStab,
    Broyden,
    Dense,
    Event,
    FixedPointProblem,
    FlowToRest,
    InitialValueProblem,
    Neumann,
    Newton,
    NewtonKrylov,
    Picard,
    Reversible,
    RungeKutta,
    Tolerance,
)

F64 = torch.float64
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
METHODS = {
    "euler": RungeKutta("euler"),
    "rk4": RungeKutta("rk4", steps=8),
    "dopri5": RungeKutta("dopri5"),
    "together": RungeKutta("tsit5", per_row=False),
    "reversible": Reversible(RungeKutta("heun", steps=8)),
}
FAMILIES = {
    "polynomial": lambda: PolynomialFields.random(4, 3, 2, seed=0, dtype=F64),
    "ridge": lambda: RidgeFields.random(4, 3, 2, seed=0, dtype=F64),
    "conv": lambda: ConvFields.random(1, 2, 2, 3, seed=0, dtype=F64),
}


def points():
    return 0.3 * torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("device", DEVICES)
def test_flows(device, method, family):
    if device == "cpu" and family != "polynomial":
        pytest.skip("the other tests are about the CPU; one family keeps this one alive")
    want, got = [], []
    for place, found in (("cpu", want), (device, got)):
        control = PiecewiseConstantControl.random(4, 3, scale=0.4, seed=1, dtype=F64)
        flow = ControlledODE(FAMILIES[family](), control, METHODS[method]).to(place)
        x = points().to(place).requires_grad_()
        end = flow(x)
        assert end.device.type == place
        found += [end.detach(), *torch.autograd.grad(end.square().sum(), (x, flow.control.values))]
    for mine, reference in zip(got, want, strict=True):
        torch.testing.assert_close(mine.cpu(), reference, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("device", DEVICES)
def test_other_controls_saves_events_and_gradients(device):
    path = torch.linspace(0, 1, 5 * 6 * 3, dtype=F64).reshape(5, 6, 3).sin()
    results = []
    # On the CPU alone there is nothing to compare, and it runs once.
    for place in dict.fromkeys(("cpu", device)):
        fields, x = FAMILIES["polynomial"]().to(place), points().to(place)
        found = []
        data = DataControl(torch.linspace(0, 1, 6), path.to(place), interpolation="hermite")
        smooth = SpectralControl(3, 3, coefficients=torch.full((3, 3), 0.2, dtype=F64)).to(place)
        for control in (data, smooth):
            for gradient in (Discrete(), Checkpointed(), Backsolve()):
                start = x.clone().requires_grad_()
                problem = InitialValueProblem.controlled(fields, control, start)
                for method in (RungeKutta("rk4", steps=10), RungeKutta("bosh3")):
                    solution = solve(
                        problem, method, gradient=gradient, tolerance=Tolerance(1e-4, 1e-5), save_at=[0.0, 0.33, 1.0]
                    )
                    found += [solution.value.detach(), torch.autograd.grad(solution.value.sum(), start)[0]]
        event = Event(lambda t, x: x[:, 0] - 0.3)
        problem = InitialValueProblem(lambda t, x: 1 + 0 * x, x, event=event)
        found.append(solve(problem, RungeKutta("dopri5")).event_time)
        results.append(found)
    for mine, reference in zip(results[-1], results[0], strict=True):
        assert mine.device.type == device
        torch.testing.assert_close(mine.cpu(), reference, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("linear", [Dense(), Neumann(), CG(), GMRES(), BiCGStab()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(
    "method",
    [Picard(), Anderson(), Broyden(), Newton(), NewtonKrylov(), FlowToRest("euler", step=1.0)],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.parametrize("device", DEVICES)
def test_rest_points(device, method, linear):
    results = []
    for place in ("cpu", device):
        w = (torch.randn(4, 4, dtype=F64, generator=torch.Generator().manual_seed(1)) / 6).to(place).requires_grad_()
        x = points().to(place)
        problem = FixedPointProblem(lambda z, w, x: torch.tanh(z @ w.T + x), torch.zeros_like(x), args=(w, x))
        solution = solve(problem, method, gradient=Implicit(linear))
        results.append((solution.value.detach(), torch.autograd.grad(solution.value.sum(), w)[0]))
        assert solution.value.device.type == place
    for mine, reference in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(mine.cpu(), reference, rtol=1e-5, atol=1e-6)
