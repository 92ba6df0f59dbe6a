"""The optimiser that turns gradients into their eigenbasis: against torch's Adam, and against its own invariance."""

import numpy as np
import pytest
import torch

from cde_nets.train import EigenbasisAdam

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def orthogonal(size, seed=0):
    return torch.linalg.qr(normal(size, size, seed=seed))[0]


def path(optimizer, x, gradients):
    """Where x is after each gradient."""
    found = []
    for gradient in gradients:
        x.grad = gradient.clone()
        optimizer.step()
        found.append(x.detach().clone())
    return torch.stack(found)


def test_blocks_of_one_number_are_adam():
    gradients = normal(50, 7)
    ours, theirs = (torch.nn.Parameter(normal(7, seed=1)) for _ in range(2))
    found = path(EigenbasisAdam([ours], 0.1, betas=(0.9, 0.99), block=1), ours, gradients)
    want = path(torch.optim.Adam([theirs], 0.1, betas=(0.9, 0.99), eps=1e-8), theirs, gradients)
    torch.testing.assert_close(found, want)


def test_until_the_first_basis_it_is_adam():
    gradients = normal(12, 5)
    ours, theirs = (torch.nn.Parameter(normal(5, seed=1)) for _ in range(2))
    found = path(EigenbasisAdam([ours], 0.1, betas=(0.9, 0.99), every=12), ours, gradients)
    want = path(torch.optim.Adam([theirs], 0.1, betas=(0.9, 0.99), eps=1e-8), theirs, gradients)
    torch.testing.assert_close(found[:-1], want[:-1])
    assert not torch.allclose(found[-1], want[-1])


def test_turned_gradients_give_turned_steps():
    """What Adam's steps do not do, and what makes the choice of frozen fields within their span indifferent."""
    size = 6
    # Full rank from the first gradient on, and eigenvalues that stay apart.
    gradients = normal(60, size) * torch.linspace(1, 4, size, dtype=F64)
    turn = orthogonal(size, seed=2)

    def of(kind, **options):
        x, y = (torch.nn.Parameter(torch.zeros(size, dtype=F64)) for _ in range(2))
        one = path(kind([x], 0.1, **options), x, gradients)
        two = path(kind([y], 0.1, **options), y, gradients @ turn.mT)
        return (two - one @ turn.mT).abs().max()

    # Adam's own first steps, before there is a basis, are left out by moving nothing until then.
    assert of(torch.optim.Adam) > 0.05
    x, y = (torch.nn.Parameter(torch.zeros(size, dtype=F64)) for _ in range(2))
    ends = []
    for p, given in ((x, gradients), (y, gradients @ turn.mT)):
        optimizer = EigenbasisAdam([p], 0.0, every=10, decay=0.9, betas=(0.9, 0.9))
        path(optimizer, p, given[:40])
        # Squares that were gathered in the standing basis would be remembered: an eigenbasis has its own.
        state = optimizer.state[p]
        state["square"].copy_(torch.einsum("bij,bik,bkj->bj", state["basis"], state["outer"], state["basis"]))
        optimizer.param_groups[0]["lr"] = 0.1
        ends.append(path(optimizer, p, given[40:49]))
    torch.testing.assert_close(ends[1], ends[0] @ turn.mT, rtol=1e-4, atol=1e-5)


def test_a_narrow_valley_that_lies_askew_is_no_harder_than_one_that_lies_straight():
    size, scales = 20, torch.logspace(0, 4, 20, dtype=F64)
    turn = orthogonal(size, seed=3)
    matrix = turn @ torch.diag(scales) @ turn.mT
    noise = normal(3000, size, seed=4)

    def loss_after(kind, **options):
        x = torch.nn.Parameter(torch.ones(size, dtype=F64))
        optimizer = kind([x], 0.03, betas=(0.9, 0.99), **options)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 3000)
        for draw in noise:
            # Gradients of a sum of squares, with noise of the same covariance: what mini-batches give.
            x.grad = matrix @ x.detach() + turn @ (scales.sqrt() * draw)
            optimizer.step()
            schedule.step()
        return float(x.detach() @ matrix @ x.detach())

    assert 4 * loss_after(EigenbasisAdam) < loss_after(torch.optim.Adam)


def test_a_group_s_parameters_are_one_vector_in_blocks():
    gradients = normal(40, 6)
    whole = torch.nn.Parameter(torch.zeros(6, dtype=F64))
    want = path(EigenbasisAdam([whole], 0.1, every=5, block=3), whole, gradients)
    apart = [torch.nn.Parameter(torch.zeros(3, dtype=F64)) for _ in range(2)]
    for place, p in enumerate(apart):
        optimizer = EigenbasisAdam([p], 0.1, every=5, block=3)
        got = path(optimizer, p, gradients[:, 3 * place : 3 * place + 3])
        torch.testing.assert_close(got, want[:, 3 * place : 3 * place + 3])
    two, four = torch.nn.Parameter(torch.zeros(2, dtype=F64)), torch.nn.Parameter(torch.zeros(2, 2, dtype=F64))
    optimizer = EigenbasisAdam([two, four], 0.1, every=5, block=3)
    for gradient, place in zip(gradients, want, strict=True):
        two.grad, four.grad = gradient[:2].clone(), gradient[2:].view(2, 2).clone()
        optimizer.step()
        torch.testing.assert_close(torch.cat([two.detach(), four.detach().flatten()]), place)


def test_numbers_that_do_not_fill_the_last_block():
    gradients = normal(40, 5)
    x = torch.nn.Parameter(torch.zeros(5, dtype=F64))
    found = path(EigenbasisAdam([x], 0.1, every=5, block=3), x, gradients)
    y = torch.nn.Parameter(torch.zeros(3, dtype=F64))
    torch.testing.assert_close(found[:, :3], path(EigenbasisAdam([y], 0.1, every=5), y, gradients[:, :3]))
    assert torch.isfinite(found).all()


def test_the_state_goes_through_a_dictionary():
    gradients = normal(30, 4)
    x = torch.nn.Parameter(torch.zeros(4, dtype=F64))
    want = path(EigenbasisAdam([x], 0.1, every=4), x, gradients)
    y = torch.nn.Parameter(torch.zeros(4, dtype=F64))
    first = EigenbasisAdam([y], 0.1, every=4)
    path(first, y, gradients[:13])
    second = EigenbasisAdam([y], 0.5)
    second.load_state_dict(first.state_dict())
    assert torch.equal(path(second, y, gradients[13:]), want[13:])


def test_a_gradient_that_is_not_finite_shows_in_the_numbers():
    x = torch.nn.Parameter(torch.zeros(4, dtype=F64))
    gradients = normal(9, 4)
    gradients[3, 1] = torch.nan
    assert torch.isnan(path(EigenbasisAdam([x], 0.1, every=2), x, gradients)[-1]).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1.0}, "lr must be finite and at least 0"),
        ({"lr": float("nan")}, "lr must be finite"),
        ({"eps": 0.0}, "eps positive; got lr=0.1, eps=0.0"),
        ({"betas": (0.9, 1.0)}, "betas and decay must lie in"),
        ({"decay": 1.0}, "betas and decay must lie in"),
        ({"every": 0}, "every and block must be at least 1; got every=0"),
        ({"block": 0}, "every and block must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        EigenbasisAdam([torch.nn.Parameter(torch.zeros(2))], **({"lr": 0.1} | options))


def test_a_rate_may_be_a_number_of_numpys(bad_input):
    EigenbasisAdam([torch.nn.Parameter(torch.zeros(2))], lr=np.float32(0.1))
