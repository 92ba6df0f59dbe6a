"""Anderson's acceleration."""

import numpy as np
import pytest
import scipy.optimize
import torch

from cde_nets.solver.rest import Anderson, Picard

F64 = torch.float64


class Values:
    def __init__(self):
        self.values = []

    def observe(self, before, after, signals):
        self.values.append(after.value)


@pytest.mark.parametrize("damping", [1.0, 0.4])
def test_iterates_against_the_constrained_least_squares_problem(find, maps, damping):
    """Walker and Ni's first form: weights alpha that sum to 1 and make |sum alpha_j r_j| least, row by row."""
    f, _ = maps.rotation(0.95)
    history, record = 3, Values()
    find(
        f, torch.zeros(3, 6, dtype=F64), Anderson(history=history, damping=damping, ridge=1e-13),
        rtol=1e-15, atol=1e-300, max_steps=6, observers=(record,),
    )  # fmt: skip
    for row in range(3):
        zs = [torch.zeros(3, 6, dtype=F64)]
        for value in record.values:
            window = zs[-(history + 1) :]
            z = torch.stack([x[row] for x in window], 1)
            r = torch.stack([(f(x) - x)[row] for x in window], 1)
            count = z.shape[1]
            system = torch.zeros(count + 1, count + 1, dtype=F64)
            system[:count, :count] = r.T @ r
            system[count, :count] = system[:count, count] = 1
            alpha = torch.linalg.solve(system, torch.eye(count + 1, dtype=F64)[count])[:count]
            torch.testing.assert_close(value[row], z @ alpha + damping * (r @ alpha), rtol=1e-6, atol=1e-8)
            zs.append(value)


def test_enough_history_solves_affine_maps_in_as_many_steps_as_numbers(find, maps):
    f, _ = maps.rotation(1.2)
    found = find(f, torch.zeros(3, 6, dtype=F64), Anderson(history=6, ridge=1e-13), atol=1e-10)
    assert found.words == ["CONVERGED"] * 3
    assert int(found.state.accepted.max()) <= 8


def test_it_is_the_secant_method_in_one_dimension(find):
    """Older differences say nothing that the newest does not, and are dropped: whatever the history."""
    z, old = 1.5, None
    values = []
    for _ in range(5):
        r = 1 + 1 / z - z
        new = z + r if old is None else z - r * (z - old[0]) / (r - old[1])
        z, old = new, (z, r)
        values.append(z)
    record = Values()
    start = torch.tensor([[1.5]], dtype=F64)
    find(lambda x: 1 + 1 / x, start, Anderson(history=20, ridge=1e-13), max_steps=5, observers=(record,))
    torch.testing.assert_close(torch.cat(record.values)[:, 0], torch.tensor(values, dtype=F64)[: len(record.values)])


def test_units_do_not_matter(find, maps):
    """The ridge is relative: z in other units has the same iterates in those units."""
    W, b = maps.layer()
    plain, scaled = Values(), Values()
    options = {"rtol": 1e-6, "atol": 1e-300, "max_steps": 12}
    find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), Anderson(), observers=(plain,), **options)
    unit = 2.0**60
    find(
        lambda z: unit * torch.tanh(z / unit @ W.T + b), torch.zeros(3, 8, dtype=F64), Anderson(),
        observers=(scaled,), **options,
    )  # fmt: skip
    assert torch.equal(torch.stack(plain.values) * unit, torch.stack(scaled.values))


def test_it_is_faster_than_picard(find, maps):
    W, b = maps.layer(0.98)

    def evaluations(method):
        return find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), method).evaluations

    assert evaluations(Anderson()) < evaluations(Picard()) / 2


def test_a_mixture_that_is_not_finite_becomes_a_picard_step(find):
    """Differences that overflow: the row goes on with Picard, and comes back."""

    def f(z):
        return torch.where(z.abs() > 1e150, z.sign() * 2.0, 0.5 * z + 1)

    found = find(f, torch.tensor([[1e300], [0.0]], dtype=F64), Anderson())
    assert found.words == ["CONVERGED"] * 2
    torch.testing.assert_close(found.value, torch.full((2, 1), 2.0, dtype=F64))


def bent(which):
    """tanh(W z + x) with Picard's iteration at rest after 25 and 48 steps, where bare mixtures wander for hundreds."""
    normal = torch.Generator().manual_seed(5)
    for _ in range(which + 1):
        W = 2.2 * torch.randn(8, 8, generator=normal, dtype=F64) / 8**0.5
        x = torch.randn(8, generator=normal, dtype=F64)
    return W, x


def safeguarded(f, z, steps, history=5, ridge=1e-10):
    """One row, from the docstring: mixtures, tries in vain, and ten plain steps, then twenty, after idle windows."""
    S, Y, r = [], [], f(z) - z
    best = mark = np.linalg.norm(r)
    plain_until, run, zs, kinds = 0, 10, [], []
    for k in range(1, steps + 1):
        plain = k <= plain_until or not S
        new = z + r
        if not plain:
            columns = np.stack(Y, 1)
            lengths = np.linalg.norm(columns, axis=0)
            system = np.concatenate([columns, np.diag(ridge**0.5 * lengths)])
            gamma = np.linalg.lstsq(system, np.concatenate([r, 0 * lengths]), rcond=None)[0]
            new = z + r - (np.stack(S, 1) + columns) @ gamma
        residual = f(new) - new
        norm = np.linalg.norm(residual)
        S, Y = [new - z, *S][:history], [residual - r, *Y][:history]
        vain = not plain and norm > 2 * best
        if not vain:
            z, r, best = new, residual, norm if plain else min(best, norm)
        kinds.append("plain" if plain else "vain" if vain else "mixed")
        zs.append(z)
        if k % 10 == 0:
            if k > plain_until and best > mark / 2:
                plain_until, run = k + run, 2 * run
            mark = best
    return np.array(zs), kinds


@pytest.mark.parametrize("which", [214, 287])
def test_its_safeguards_against_one_row_written_out(find, which):
    W, x = bent(which)
    steps = 45
    zs, kinds = safeguarded(lambda z: np.tanh(W.numpy() @ z + x.numpy()), np.zeros(8), steps)
    assert {"plain", "vain", "mixed"} == set(kinds), kinds
    assert kinds.count("plain") > 10
    record = Values()
    # Beside a row that comes to rest at once: it keeps the other's mixtures as they are.
    found = find(
        lambda z: torch.tanh(z @ W.T + x), torch.zeros(2, 8, dtype=F64).index_fill(0, torch.tensor([1]), 3.0),
        Anderson(), rtol=1e-15, atol=1e-300, max_steps=steps, observers=(record,),
    )  # fmt: skip
    ours = torch.stack(record.values)[:, 0].numpy()
    # Two least-squares solvers part by rounding, which wandering magnifies.
    np.testing.assert_allclose(ours, zs[: len(ours)], atol=1e-6)
    assert int(found.state.rejected[0]) == kinds[: len(ours)].count("vain")


@pytest.mark.parametrize("which", [214, 287])
def test_what_picard_brings_to_rest_comes_to_rest(find, which):
    W, x = bent(which)
    f, z0 = (lambda z: torch.tanh(z @ W.T + x)), torch.zeros(1, 8, dtype=F64)
    plain = find(f, z0, Picard(), rtol=1e-8)
    found = find(f, z0, Anderson(), rtol=1e-8, max_steps=256)
    assert plain.words == found.words == ["CONVERGED"]
    torch.testing.assert_close(found.value, plain.value, rtol=1e-6, atol=1e-6)
    assert found.evaluations < 4 * plain.evaluations


def test_it_does_not_run_away_where_a_map_flattens_out(find):
    """Gradient descent on 60 logistic samples: bare mixtures reach |w| = 2e7, where any residual meets rtol |f(w)|."""
    g = torch.Generator().manual_seed(3)
    X = torch.logspace(0, -0.5, 4, dtype=F64) * torch.randn(60, 4, dtype=F64, generator=g)
    true = 0.5 * torch.randn(4, dtype=F64, generator=g)
    y = (torch.rand(60, dtype=F64, generator=g) < torch.sigmoid(X @ true)).to(F64)
    rate = 4 * 60 / torch.linalg.matrix_norm(X, 2) ** 2
    found = find(
        lambda w: w - rate * (torch.sigmoid(w @ X.T) - y) @ X / 60,
        torch.zeros(1, 4, dtype=F64),
        Anderson(),
        rtol=1e-6,
        atol=1e-8,
    )
    loss = lambda w: np.logaddexp(0, X.numpy() @ w).mean() - (y.numpy() * (X.numpy() @ w)).mean()  # noqa: E731
    least = scipy.optimize.minimize(loss, np.zeros(4), tol=1e-12).x
    assert found.words == ["CONVERGED"]
    np.testing.assert_allclose(found.value[0].numpy(), least, atol=1e-4)
