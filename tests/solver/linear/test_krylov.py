"""GMRES, CG and BiCGStab against what defines them, and against scipy."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from cde_nets.solver import Tolerance
from cde_nets.solver.linear import CG, GMRES, BiCGStab


def least_residual(space, systems):
    """The w of a space, given by its columns, with the least |g - A w|, from orthogonal factors."""
    basis = torch.linalg.qr(space)[0]
    y = torch.linalg.lstsq(systems.matrix @ basis, systems.g[:, :, None]).solution
    return (basis @ y)[:, :, 0]


def krylov(matrix, first, steps):
    columns = [first]
    for _ in range(steps - 1):
        columns.append(torch.nn.functional.normalize((matrix @ columns[-1][:, :, None])[:, :, 0]))
    return torch.stack(columns, 2)


@pytest.mark.parametrize("steps", range(1, 9))
def test_cg_has_the_least_residual_of_its_space_at_every_step_the_last_one_included(kinds, solve, steps):
    systems = kinds.contractions(dim=8)
    A = systems.matrix
    space = krylov(A.mT @ A, (A.mT @ systems.g[:, :, None])[:, :, 0], steps)
    found = solve(systems, CG(), max_steps=steps)
    torch.testing.assert_close(found.w, least_residual(space, systems), rtol=1e-8, atol=1e-9)


def test_cg_ends_in_as_many_steps_as_there_are_numbers(kinds, solve):
    systems = kinds.contractions(dim=6, norm=0.6)
    found = solve(systems, CG(), rtol=1e-11, max_steps=7)
    assert found.words == ["CONVERGED"] * 4  # the seventh step is the check
    torch.testing.assert_close(found.w, systems.solution, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", range(1, 9))
def test_gmres_has_the_least_residual_of_its_space_at_every_step(kinds, solve, steps):
    systems = kinds.rotations(1.5, dim=8)
    found = solve(systems, GMRES(), max_steps=steps)
    expected = least_residual(krylov(systems.matrix, systems.g, steps), systems)
    torch.testing.assert_close(found.w, expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(found.state.residual, systems.residual(found.w), rtol=1e-10, atol=1e-13)


def counted(solver, A, b, **options):
    count = 0

    def count_one(_):
        nonlocal count
        count += 1

    x, info = solver(A, b, rtol=1e-10, atol=0.0, callback=count_one, **options)
    assert info == 0
    return x, count


@pytest.mark.parametrize("restart", [4, 12, 20])
def test_gmres_takes_as_many_products_as_scipy_does(kinds, solve, restart):
    systems = kinds.contractions(rows=5, dim=20, norm=0.95)
    found = solve(systems, GMRES(restart=restart), rtol=1e-10)
    for row in range(5):
        x, count = counted(
            scipy.sparse.linalg.gmres,
            systems.matrix[row].numpy(),
            systems.g[row].numpy(),
            restart=restart,
            callback_type="pr_norm",
        )
        np.testing.assert_allclose(found.w[row].numpy(), x, rtol=0, atol=1e-8)
        # One more at the end of every cycle, and the last.
        steps = int(found.state.accepted[row])
        assert abs(steps - count - (count // restart + 1)) <= 2


def test_bicgstab_takes_as_many_steps_as_scipy_does(kinds, solve):
    systems = kinds.contractions(rows=5, dim=20, norm=0.9)
    found = solve(systems, BiCGStab(), rtol=1e-10)
    for row in range(5):
        x, count = counted(scipy.sparse.linalg.bicgstab, systems.matrix[row].numpy(), systems.g[row].numpy())
        np.testing.assert_allclose(found.w[row].numpy(), x, rtol=0, atol=1e-8)
        assert abs(int(found.state.accepted[row]) - 1 - count) <= 1


def test_a_space_that_a_maps_to_itself_ends_gmres_early(solve, systems):
    # g lies in the span of three eigenvectors: the fourth basis vector does not exist, and is not missed.
    J = torch.diag(torch.linspace(-0.9, 0.9, 10, dtype=torch.float64))[None]
    g = torch.zeros(1, 10, dtype=torch.float64)
    g[0, [1, 4, 8]] = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    lucky = systems(J, g)
    found = solve(lucky, GMRES(), rtol=1e-14, atol=1e-16)
    assert found.words == ["CONVERGED"]
    assert found.products == 4
    torch.testing.assert_close(found.w, lucky.solution, rtol=1e-14, atol=1e-15)


def test_a_restart_too_short_to_get_anywhere_says_so(solve, systems):
    # A cyclic shift: GMRES sees nothing before its space is the whole one.
    J = (torch.eye(6, dtype=torch.float64) - torch.roll(torch.eye(6, dtype=torch.float64), 1, 0))[None]
    shift = systems(J, torch.eye(6, dtype=torch.float64)[:1])
    found = solve(shift, GMRES(restart=5))
    assert found.words == ["BREAKDOWN"]
    assert found.state.residual == 1
    found = solve(shift, GMRES(restart=6))
    assert found.words == ["CONVERGED"]
    assert found.products == 7
    torch.testing.assert_close(found.w, shift.solution)


def test_bicgstab_breaks_down_where_a_turns_every_vector_by_a_right_angle(solve, systems):
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    J = (torch.eye(4, dtype=torch.float64) - torch.block_diag(turn, turn))[None].repeat(2, 1, 1)
    J[1] = 0.5 * torch.eye(4)
    found = solve(systems(J, torch.randn(2, 4, dtype=torch.float64)), BiCGStab())
    assert found.words == ["BREAKDOWN", "CONVERGED"]
    assert solve(systems(J, torch.randn(2, 4, dtype=torch.float64)), GMRES()).words == ["CONVERGED"] * 2


def test_the_basis_stays_orthonormal_where_one_pass_would_lose_it(systems):
    # Vectors of a nearly invariant space: what is left of A v after the projection is mostly rounding.
    scales = torch.logspace(0, -10, 12, dtype=torch.float64)
    J = (torch.eye(12, dtype=torch.float64) - torch.diag(scales))[None]
    problem = systems(J, torch.ones(1, 12, dtype=torch.float64)).problem()
    method = GMRES()
    state = method.init(problem, Tolerance(rtol=1e-15, atol=1e-300))
    for _ in range(9):
        state = method.step(problem, state)
    basis = state.memory.cycle.images.kept[0]
    torch.testing.assert_close(basis @ basis.T, torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-13)


class Impatient(GMRES):
    """Has rows checked, and so begin again, after steps of their own."""

    asked = ((1, 0), (3, 1), (4, 1), (8, 2))

    def step(self, problem, state):
        after = super().step(problem, state)
        check, n = after.memory.check, int(state.accepted.max())
        due = check.due.clone()
        for step, row in self.asked:
            if step == n:
                due[row] = ~check.true[row]
        return replace(after, memory=after.memory._replace(check=check._replace(due=due)))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 6, 7, 9, 11, 12])
def test_rows_whose_cycles_are_out_of_step_have_each_the_least_residual_of_its_own_space(kinds, solve, steps):
    systems = kinds.rotations(1.5, dim=8)
    found = solve(systems, Impatient(restart=5), max_steps=steps)
    for row in range(3):
        alone = systems.rows(row)
        base = w = torch.zeros(1, 8, dtype=torch.float64)
        products, due = 0, False
        for n in range(steps):
            if due:
                base, products, due = w, 0, False
                continue
            products += 1
            r = alone.g - (alone.matrix @ base[:, :, None])[:, :, 0]
            w = base + least_residual(krylov(alone.matrix, r, products), type(systems)(alone.J, r))
            due = products == 5 or (n, row) in Impatient.asked
        torch.testing.assert_close(found.w[row], w[0], rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(found.state.residual[row], alone.residual(w)[0], rtol=1e-9, atol=1e-12)
