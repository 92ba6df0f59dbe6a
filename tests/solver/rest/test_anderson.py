"""Anderson's acceleration."""

import pytest
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
        f, torch.zeros(3, 6, dtype=F64), Anderson(history=history, damping=damping, ridge=1e-14),
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
    found = find(f, torch.zeros(3, 6, dtype=F64), Anderson(history=6, ridge=1e-14), atol=1e-10)
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
    find(lambda x: 1 + 1 / x, start, Anderson(history=20, ridge=1e-20), max_steps=5, observers=(record,))
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
