"""Systems whose matrices are known, and the loop as the solver calls it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cde_nets.solver import Iterate, Limits, Method, Tolerance, run
from cde_nets.solver.linear_problem import LinearProblem


@dataclass
class Systems:
    """J for every row, shape (rows, dim, dim), and g, shape (rows, dim)."""

    J: Tensor
    g: Tensor

    @property
    def matrix(self) -> Tensor:
        return torch.eye(self.g.shape[1], dtype=self.g.dtype) - self.J.mH

    @property
    def solution(self) -> Tensor:
        return torch.linalg.solve(self.matrix, self.g)

    def problem(self) -> LinearProblem:
        return LinearProblem(
            lambda w: (self.J.mH @ w[:, :, None])[:, :, 0],
            self.g,
            transpose=lambda v: (self.J @ v[:, :, None])[:, :, 0],
        )

    def residual(self, w: Tensor) -> Tensor:
        return (self.g - (self.matrix @ w[:, :, None])[:, :, 0]).norm(dim=1)

    def rows(self, *which: int) -> "Systems":
        return Systems(self.J[list(which)], self.g[list(which)])


@dataclass
class Found:
    """How a solve ended."""

    state: Iterate
    products: int

    @property
    def w(self) -> Tensor:
        return self.state.value

    @property
    def words(self) -> list[str]:
        from cde_nets.solver import Status

        return [Status(code).name for code in self.state.status.tolist()]


@pytest.fixture
def solve() -> Callable[..., Found]:
    def solve(
        systems: Systems | LinearProblem,
        method: Method,
        rtol: float = 1e-12,
        atol: float = 1e-14,
        max_steps: int = 5000,
    ) -> Found:
        problem = (systems if isinstance(systems, LinearProblem) else systems.problem()).counted()
        state = run(problem, method.resolve(problem), Limits(Tolerance(rtol=rtol, atol=atol), max_steps))
        return Found(state, problem.products)

    return solve


def _orthogonal(dim: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linalg.qr(torch.randn(dim, dim, dtype=dtype, generator=generator))[0]


class Kinds:
    """Systems of one kind, a different one each row."""

    def contractions(
        self, rows: int = 4, dim: int = 20, dtype: torch.dtype = torch.float64, norm: float = 0.9
    ) -> Systems:
        """|J| from 0.1 to norm: rows of different difficulty."""
        generator = torch.Generator().manual_seed(0)
        J = torch.randn(rows, dim, dim, dtype=dtype, generator=generator)
        J = J / torch.linalg.matrix_norm(J, 2)[:, None, None] * torch.linspace(0.1, norm, rows)[:, None, None]
        return Systems(J.to(dtype), torch.randn(rows, dim, dtype=dtype, generator=generator))

    def rotations(self, radius: float, rows: int = 3, dim: int = 12) -> Systems:
        """Complex eigenvalues, all of one modulus, in a random orthonormal basis."""
        generator = torch.Generator().manual_seed(1)
        angles = 0.3 + 2.5 * torch.rand(rows, dim // 2, dtype=torch.float64, generator=generator)
        J = torch.stack([self._turns(row, _orthogonal(dim, generator)) for row in angles])
        return Systems(radius * J, torch.randn(rows, dim, dtype=torch.float64, generator=generator))

    def nonnormal(self, rows: int = 3, dim: int = 8) -> Systems:
        """Spectral radius 0.5, norm above 2."""
        J = 0.5 * torch.eye(dim, dtype=torch.float64) + torch.diag(torch.full((dim - 1,), 2.0, dtype=torch.float64), 1)
        generator = torch.Generator().manual_seed(2)
        return Systems(J.repeat(rows, 1, 1), torch.randn(rows, dim, dtype=torch.float64, generator=generator))

    def spectrum(self, *smallest: float, dim: int = 12) -> Systems:
        """Singular values of I - J^T from 1 to 2, but for the smallest: one row for each."""
        generator = torch.Generator().manual_seed(3)
        values = torch.linspace(1, 2, dim, dtype=torch.float64).repeat(len(smallest), 1)
        values[:, 0] = torch.tensor(smallest, dtype=torch.float64)
        A = torch.stack([(_orthogonal(dim, generator) * row) @ _orthogonal(dim, generator) for row in values])
        J = torch.eye(dim, dtype=torch.float64) - A.mT
        return Systems(J, torch.randn(len(smallest), dim, dtype=torch.float64, generator=generator))

    @staticmethod
    def _turns(angles: Tensor, basis: Tensor) -> Tensor:
        blocks = [torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])]) for a in angles]
        return basis @ torch.block_diag(*blocks) @ basis.T


@pytest.fixture
def kinds() -> Kinds:
    return Kinds()


@pytest.fixture
def systems() -> type[Systems]:
    return Systems
