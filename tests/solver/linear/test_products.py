"""What is paid: products are counted, none is wasted, and nothing else is read from the device."""

import inspect

import pytest
import torch

from cde_nets.solver import Tolerance, run
from cde_nets.solver.linear import CG, GMRES, RBP, BiCGStab, Dense, Neumann, OneStep
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.loop import Limits

ALL = [Dense(), Neumann(), RBP(), CG(), GMRES(restart=4), BiCGStab(), OneStep(), Neumann(terms=3), RBP(terms=3)]


@pytest.mark.parametrize(
    ("method", "products"),
    [
        (OneStep(), lambda steps: 0),
        (Neumann(terms=0), lambda steps: 0),
        (Neumann(terms=7), lambda steps: 7),
        (RBP(terms=7), lambda steps: 7),
        (RBP(z0=1.0, terms=7), lambda steps: 7),
        (Dense(), lambda steps: 20 + 1),
        (Neumann(), lambda steps: steps + 1),
        (RBP(), lambda steps: steps),
        (RBP(z0=1.0), lambda steps: steps + 1),
        (CG(), lambda steps: 2 * steps),
        (GMRES(), lambda steps: steps),
        (GMRES(restart=4), lambda steps: steps),
        (BiCGStab(), lambda steps: 2 * steps),
    ],
    # A function would be named by where it lies.
    ids=lambda value: "products" if inspect.isfunction(value) else str(value),
)
def test_the_number_of_products(kinds, solve, method, products):
    calls = 0
    systems = kinds.contractions()
    plain = systems.problem()

    def counting(function):
        def counted(w):
            nonlocal calls
            calls += 1
            return function(w)

        return counted

    problem = LinearProblem(
        counting(plain.product), systems.g, transpose=counting(lambda v: v - plain.apply_transposed(v))
    )
    found = solve(problem, method)
    assert found.products == calls == products(int(found.state.accepted.max()))


@pytest.mark.parametrize("method", [GMRES(restart=4), CG(), BiCGStab(), Neumann(), RBP()], ids=str)
def test_max_steps_is_kept_and_the_residual_is_that_of_the_value(kinds, solve, method):
    systems = kinds.rotations(0.95)
    for steps in (1, 2, 3, 4, 5, 6, 7):
        found = solve(systems, method, max_steps=steps)
        assert set(found.words) <= {"MAX_STEPS", "CONVERGED"}
        assert found.state.accepted.max() == steps or found.words == ["CONVERGED"] * 3
        torch.testing.assert_close(found.state.residual, systems.residual(found.w), rtol=1e-7, atol=1e-13)
    assert "MAX_STEPS" in solve(systems, method, max_steps=3).words


@pytest.mark.parametrize("method", ALL, ids=str)
def test_the_host_waits_once_a_step(kinds, method, reads):
    problem = kinds.contractions().problem()
    with reads:
        state = run(problem, method.resolve(problem), Limits(Tolerance(rtol=1e-9, atol=1e-12)))
    planned = method.planned(problem) is not None
    assert reads.count == (0 if planned else int(state.accepted.max()) + 1)


@pytest.mark.parametrize("method", ALL, ids=str)
def test_methods_read_no_number_at_all(bad_input, method, monkeypatch):
    # On the meta device there is none to be read; who comes in by the door with such a tensor has made a mistake.
    monkeypatch.setattr("cde_nets.solver.states.numbers", lambda name, value: None)
    g, J = torch.empty(3, 6, device="meta"), torch.empty(6, 6, device="meta")
    problem = LinearProblem(lambda w: w @ J, g, transpose=lambda v: v @ J.T)
    state = method.init(problem, Tolerance())
    for _ in range(6):
        state = method.step(problem, state)
        method.terminate(problem, state)
    assert state.value.shape == (3, 6)
