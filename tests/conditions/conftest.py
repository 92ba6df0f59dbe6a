"""Maps whose Jacobians are known, a different one each row."""

import math

import pytest
import torch
from torch import Tensor

from cde_nets.solver import FixedPointProblem

F64 = torch.float64


def normal(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = F64) -> Tensor:
    return (scale * torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))).to(dtype)


def orthogonal(n: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(n, n, seed=seed))[0]


class Kinds:
    """Jacobians, shape (rows, n, n)."""

    def random(self, n: int = 9, rows: int = 3) -> Tensor:
        """Neither normal nor near it, with complex eigenvalues."""
        return normal(rows, n, n, seed=n, scale=0.8 / math.sqrt(n))

    def turns(self, n: int = 8, rows: int = 3, radius: float = 0.95) -> Tensor:
        """Planes turned by different angles: all eigenvalues complex and of one modulus."""
        found = []
        for row in range(rows):
            angles = 0.3 + 0.5 * torch.rand(n // 2, dtype=F64, generator=torch.Generator().manual_seed(row))
            angles = angles + torch.arange(n // 2) * 0.5
            blocks = [torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])]) for a in angles]
            basis = orthogonal(n, seed=row)
            found.append(radius * basis @ torch.block_diag(*blocks) @ basis.T)
        return torch.stack(found)

    def nonnormal(self, n: int = 6, rows: int = 3) -> Tensor:
        """Upper triangular with distinct eigenvalues up to 0.6 and norms far above 1."""
        upper = torch.triu(normal(rows, n, n, seed=3, scale=2.0), 1)
        return upper + torch.diag(torch.linspace(-0.5, 0.6, n, dtype=F64))

    def symmetric(self, n: int = 7, rows: int = 3) -> Tensor:
        J = self.random(n, rows)
        return (J + J.mT) / 2

    def single(self, n: int = 1, rows: int = 3) -> Tensor:
        """One number a row."""
        return torch.tensor([0.5, -2.0, 0.9], dtype=F64)[:rows, None, None]

    ALL = ("random", "turns", "nonnormal", "symmetric", "single")


@pytest.fixture
def kinds() -> Kinds:
    return Kinds()


def linear(z: Tensor, J: Tensor) -> Tensor:
    return (J @ z[:, :, None])[:, :, 0]


def at(J: Tensor) -> tuple[FixedPointProblem, Tensor]:
    """The linear map of these matrices, and a state."""
    z = normal(*J.shape[:2], seed=9, dtype=J.dtype)
    return FixedPointProblem(linear, torch.zeros_like(z), args=(J,)), z


@pytest.fixture(name="at")
def at_fixture():
    return at


@pytest.fixture(name="normal")
def normal_fixture():
    return normal


@pytest.fixture(name="orthogonal")
def orthogonal_fixture():
    return orthogonal


@pytest.fixture
def bent():
    """tanh(z a^T + z^2 / 5 + b), and its Jacobian written out: D (a + 2/5 diag z)."""

    def function(z, a, b):
        return torch.tanh(z @ a.T + z.square() / 5 + b)

    def jacobian(z, a, b):
        slope = 1 - function(z, a, b).square()
        return slope[:, :, None] * (a + 0.4 * torch.diag_embed(z))

    function.jacobian = jacobian
    return function
