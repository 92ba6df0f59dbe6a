"""Distributed data parallel over the adjoints: gradients are the whole batch's, and never silently zero."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import Backsolve, Checkpointed, Discrete
from cde_nets.nn import ControlledODE

GRADIENTS = {"discrete": Discrete(), "checkpointed": Checkpointed(), "backsolve": Backsolve()}


def flow(name):
    fields = PolynomialFields.random(2, 3, 2, seed=0, dtype=torch.float64)
    control = PiecewiseConstantControl.random(4, 3, scale=0.3, seed=1, dtype=torch.float64)
    return ControlledODE(fields, control, "rk4", gradient=GRADIENTS[name])


def points():
    return torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def work(rank, port, queue):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for name in GRADIENTS:
        model = DistributedDataParallel(flow(name))
        # Half of the batch in each process; the gradients are averaged.
        model(points()[rank::2]).square().mean().backward()
        queue.put((name, rank, model.module.control.values.grad.tolist()))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_processes_get_the_gradient_of_the_whole_batch():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    workers = mp.spawn(work, (port, queue), nprocs=2, join=False)
    found = [queue.get() for _ in range(2 * len(GRADIENTS))]
    while not workers.join():
        pass
    assert {(name, rank) for name, rank, _ in found} == {(name, rank) for name in GRADIENTS for rank in (0, 1)}
    for name, _, gradient in found:
        whole = flow(name)
        whole(points()).square().mean().backward()
        want = whole.control.values.grad
        assert float(want.norm()) > 0.1
        torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), want, rtol=1e-12, atol=1e-14)
