"""The processes that train one network together: a single one, unless torchrun started several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from cde_nets.nn.trainable import Trainable

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """One of the processes that train one network, each on its share of every batch.

    All hold the whole network and do the same steps with the gradient of the whole batch; the first alone writes.

    Attributes:
        rank: which one this is, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.count == 1

    def share(self, rows: int) -> slice:
        """This process's part of so many rows: a piece in order, no two longer or shorter by more than one."""
        return slice(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, on each of them; numbers themselves if there is one."""
        if self.alone:
            return numbers
        summed = numbers.clone()
        dist.all_reduce(summed)
        return summed

    def first_says(self, yes: bool, device: torch.device) -> bool:
        """What the first process says."""
        return bool(self.total(torch.tensor(float(yes and self.first), device=device)))

    def in_turn(self, work: Callable[[], T], device: torch.device) -> T:
        """The first does it before the others do: what it leaves in a file or a cache they find."""
        if self.first:
            done = work()
        self.total(torch.zeros((), device=device))
        return done if self.first else work()

    def forward(self, network: Trainable) -> Callable[[Tensor], Tensor]:
        """`network.of_prepared`, whose gradients are averaged over the processes as they are computed."""
        if self.alone:
            return network.of_prepared
        return DistributedDataParallel(_OfPrepared(network))


class _OfPrepared(nn.Module):
    """What the trainer calls, as a module's forward, which alone is hooked.

    It shows the trained numbers and nothing else: what is frozen is drawn alike everywhere, and never sent.
    """

    def __init__(self, network: Trainable) -> None:
        super().__init__()
        self.trained = nn.ParameterList(network.parameters())
        self._of_prepared = network.of_prepared

    def forward(self, data: Tensor) -> Tensor:
        """The outputs for data that were prepared."""
        return self._of_prepared(data)


def launched() -> bool:
    """Whether torchrun started this process: it gives the same command again after a fault."""
    return dist.is_torchelastic_launched()


def local(device: torch.device) -> torch.device:
    """The device of this process: of the GPUs of a machine, each process that torchrun started there takes its own.

    Raises:
        ValueError: one GPU is named for several processes, or there are fewer GPUs than processes.
    """
    if device.type != "cuda" or not launched():
        return device
    here, rank = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    if device.index is not None and here > 1:
        raise ValueError(
            f"--device {device} is one GPU for {here} processes: give --device cuda, and each takes its own."
        )
    if here > torch.cuda.device_count():
        raise ValueError(
            f"{here} processes on a machine where torch sees {torch.cuda.device_count()} CUDA devices: give torchrun a "
            "smaller --nproc-per-node."
        )
    return torch.device("cuda", rank) if device.index is None else device


@contextmanager
def together(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started, for as long as they work together; else this one alone.

    Messages go through gloo on CPUs and NCCL on GPUs.
    """
    if not launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, count = next(rendezvous("env://"))
    # torchrun's own store outlives a restart, and in it the addresses of processes that are gone: whoever read one
    # of them before its successor wrote its own would call a dead port.
    store = PrefixStore(f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=count)
    try:
        yield Processes(rank, count)
    finally:
        dist.destroy_process_group()
