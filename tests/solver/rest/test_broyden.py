"""Good Broyden with limited memory."""

import pytest
import torch

from cde_nets.solver.rest import Broyden
from cde_nets.solver.rest.patience import GROWTH

F64 = torch.float64


def dense(f, z, steps, damping=1.0):
    """Broyden with the matrix itself, one row: trials from which B learns, moves where r at most doubles.

    Ten plain steps after ten in which the best residual has not halved, which may be once here.
    """
    n = len(z)
    B, r = -torch.eye(n, dtype=F64), f(z) - z
    first = best = r.norm()
    idle = False
    for k in range(steps):
        plain = idle and 10 <= k < 20
        s = damping * r if plain else -damping * torch.linalg.solve(B, r)
        new = f(z + s) - (z + s)
        B = B + torch.outer(new - r - B @ s, s) / (s @ s)
        if plain or new.norm() <= GROWTH * r.norm():
            z, r = z + s, new
        best = min(best, new.norm())
        if k == 9:
            idle = bool(best > 0.5 * first)
    return z


@pytest.mark.parametrize("damping", [1.0, 0.7])
@pytest.mark.parametrize("radius", [0.9, 2.0])
def test_iterates_are_those_of_the_dense_method(find, maps, radius, damping):
    W, b = maps.layer(radius)
    found = find(
        lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), Broyden(history=None, damping=damping),
        rtol=1e-15, atol=1e-300, max_steps=9,
    )  # fmt: skip
    for row in range(3):
        z = dense(lambda x: torch.tanh(W @ x + b[row]), torch.zeros(8, dtype=F64), 9, damping)  # noqa: B023
        torch.testing.assert_close(found.value[row], z, rtol=1e-8, atol=1e-10)


def test_plain_steps_are_learnt_from(find, maps):
    """A strongly bent map: ten tries gain nothing, ten plain steps follow."""
    W, b = maps.layer(6.0)
    f = lambda z, row: torch.tanh(W @ z + b[row])  # noqa: E731
    steps, taken = 14, Values()
    find(
        lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), Broyden(history=None),
        rtol=1e-15, atol=1e-300, max_steps=steps, observers=(taken,),
    )  # fmt: skip
    plain = 0
    for row in range(3):
        z = dense(lambda x: f(x, row), torch.zeros(8, dtype=F64), steps)  # noqa: B023
        torch.testing.assert_close(taken.values[-1][row], z, rtol=1e-6, atol=1e-8)
        before, after = taken.values[10][row], taken.values[11][row]
        plain += torch.allclose(after, f(before, row), rtol=1e-9, atol=1e-12)
    assert plain


class Values:
    def __init__(self):
        self.values = []

    def observe(self, before, after, signals):
        self.values.append(after.value)


def test_a_window_is_the_method_begun_later(find, maps):
    """With the oldest pair dropped, B starts from -I at the second: checked against the dense matrix."""
    f, _ = maps.rotation(0.9, rows=1)
    history, steps, trials = 2, [], []

    class Record:
        def observe(self, before, after, signals):
            trials.append((before.value[0], after.value[0]))

    z0 = torch.zeros(1, 6, dtype=F64)
    find(f, z0, Broyden(history=history), rtol=1e-15, atol=1e-300, max_steps=6, observers=(Record(),))
    for before, after in trials:
        r = (f(before[None]) - before)[0]
        B = -torch.eye(6, dtype=F64)
        for s, y in steps[-history:]:
            B = B + torch.outer(y - B @ s, s) / (s @ s)
        assert not torch.equal(before, after)
        torch.testing.assert_close(after - before, -torch.linalg.solve(B, r), rtol=1e-9, atol=1e-11)
        steps.append((after - before, (f(after[None]) - after)[0] - r))


def test_tries_that_would_lead_away_are_learnt_from(find):
    """Slope -20: Picard's step makes the residual 20 times as large; one more try is exact."""
    found = find(lambda z: 3 - 20 * z, torch.zeros(2, 1, dtype=F64), Broyden())
    assert found.words == ["CONVERGED"] * 2
    assert found.state.rejected.tolist() == [1, 1]
    assert found.state.accepted.tolist() == [1, 1]
    torch.testing.assert_close(found.value, torch.full((2, 1), 1 / 7, dtype=F64))


def test_a_trial_that_is_not_finite_is_shortened(find):
    """log is not defined where Picard's step leads: z = z + 4 log(z) / 3 from 0.1."""
    found = find(lambda z: z + 4 * torch.log(z) / 3, torch.tensor([[0.1], [0.9]], dtype=F64), Broyden())
    assert found.words == ["CONVERGED"] * 2
    assert int(found.state.rejected[0]) >= 1
    torch.testing.assert_close(found.value, torch.ones(2, 1, dtype=F64))


def test_where_nothing_is_finite_the_row_diverges(find):
    found = find(lambda z: torch.where(z == 1, z + 1, torch.nan), torch.ones(1, 1, dtype=F64), Broyden())
    assert found.words == ["DIVERGED"]
    assert float(found.value) == 1


def test_a_singular_matrix_is_forgotten(find):
    """f(z) = z + 1 has y = 0: K = 0. The row goes on with Picard's steps, alone, until it is out of them."""
    shift = torch.tensor([[1.0], [0.0]], dtype=F64)
    scale = torch.tensor([[1.0], [0.5]], dtype=F64)
    found = find(lambda z: scale * z + shift, torch.zeros(2, 1, dtype=F64) + 4, Broyden(), max_steps=30)
    assert found.words == ["MAX_STEPS", "CONVERGED"]
    assert float(found.value[0]) == 34
