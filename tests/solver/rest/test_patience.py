"""Plain steps for rows that get nowhere."""

import torch

from cde_nets.solver.rest.patience import Patience

F64 = torch.float64


def runs(residuals):
    """In which steps each row was plain, from the residuals of the steps, shape (steps, rows)."""
    patience, plains = Patience.fresh(torch.full_like(residuals[0], 100.0)), []
    for residual in residuals:
        plain = patience.plain()
        plains.append(torch.zeros_like(residual, dtype=torch.bool) if plain is None else plain)
        patience = patience.after(residual, plain)
    return torch.stack(plains, 1)


def spells(flags):
    """(first, last) of every run, steps counted from 1."""
    found, first = [], None
    for k, flag in enumerate([*flags.tolist(), False], 1):
        if flag and first is None:
            first = k
        if not flag and first is not None:
            found.append((first, k - 1))
            first = None
    return found


def test_runs_of_plain_steps_double_and_rows_do_not_share_them():
    steps = torch.arange(1, 201, dtype=F64)
    idle = torch.full_like(steps, 100.0)
    halving = 100 * 0.5 ** (steps / 9)
    late = torch.where(steps <= 35, 100.0, 100 * 0.5 ** ((steps - 35) / 5))
    flags = runs(torch.stack([idle, halving, late], 1))
    assert spells(flags[0]) == [(11, 20), (31, 50), (61, 100), (111, 190)]
    assert spells(flags[1]) == []
    # Halved within its second run of plain steps, and on from there.
    assert spells(flags[2]) == [(11, 20), (31, 50)]


def test_what_is_too_little_is_less_than_a_half_in_ten_steps():
    steps = torch.arange(1, 11, dtype=F64)
    slow, enough = 100 * 0.52 ** (steps / 10), 100 * 0.48 ** (steps / 10)
    flags = runs(torch.cat([torch.stack([slow, enough], 1), torch.ones(5, 2, dtype=F64)]))
    assert [spells(row) for row in flags] == [[(11, 15)], []]


def test_after_plain_steps_the_best_is_what_they_left():
    """They may have made the residual larger, on a way that ends well: mixtures are judged from there."""
    patience = Patience.fresh(torch.tensor([1.0]))
    for _ in range(10):
        patience = patience.after(torch.tensor([1.0]), patience.plain())
    for residual in (3.0, 7.0):
        patience = patience.after(torch.tensor([residual]), patience.plain())
    assert patience.best.tolist() == [7.0]


def test_residuals_that_are_no_numbers_are_not_the_best():
    patience = Patience.fresh(torch.tensor([5.0]))
    for residual in (torch.nan, torch.inf, 3.0, torch.nan):
        patience = patience.after(torch.tensor([residual]), None)
    assert patience.best.tolist() == [3.0]
