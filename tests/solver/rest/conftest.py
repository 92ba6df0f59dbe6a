"""Problems whose rest points are known, and the loop as the solver calls it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from cde_nets.solver import Iterate, Limits, Method, Status, Tolerance, run
from cde_nets.solver.fixed_point import FixedPointProblem


@dataclass
class Found:
    """How a solve ended."""

    problem: FixedPointProblem
    state: Iterate

    @property
    def value(self) -> Any:
        return self.problem.packing.unpack(self.state.value)

    @property
    def words(self) -> list[str]:
        return [Status(code).name for code in self.state.status.tolist()]

    @property
    def evaluations(self) -> int:
        return self.problem.evaluations

    @property
    def products(self) -> int:
        return self.problem.products


@pytest.fixture
def find() -> Callable[..., Found]:
    def find(
        f: Callable[..., Any] | FixedPointProblem,
        z0: Any,
        method: Method,
        *,
        rtol: float = 1e-12,
        atol: float = 1e-11,
        max_steps: int = 2000,
        observers: tuple = (),
        **options: Any,
    ) -> Found:
        problem = (f if isinstance(f, FixedPointProblem) else FixedPointProblem(f, z0, **options)).counted()
        limits = Limits(Tolerance(rtol=rtol, atol=atol), max_steps)
        return Found(problem, run(problem, method.resolve(problem), limits, observers))

    return find


class Maps:
    """Maps and where they rest."""

    @staticmethod
    def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)

    def affine(self, A: Tensor, b: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """f(z) = A z + b, every row with its own b, and its rest points."""
        identity = torch.eye(len(A), dtype=A.dtype)
        return lambda z: z @ A.T + b, torch.linalg.solve(identity - A, b.T).T

    def contraction(self, dim: int = 6, rows: int = 4, norm: float = 0.8, dtype: torch.dtype = torch.float64):
        A = self.normal(dim, dim, seed=1)
        A = norm * A / torch.linalg.matrix_norm(A, 2)
        return self.affine(A.to(dtype), self.normal(rows, dim, seed=2, dtype=dtype))

    def rotation(self, radius: float, rows: int = 3):
        """Complex eigenvalues of one modulus, by angles of 100, 60 and 130 degrees in a random orthonormal basis."""
        angles = torch.deg2rad(torch.tensor([100.0, 60.0, 130.0], dtype=torch.float64))
        blocks = [torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])]) for a in angles]
        basis = torch.linalg.qr(self.normal(6, 6, seed=3))[0]
        A = radius * basis @ torch.block_diag(*blocks) @ basis.T
        return self.affine(A, self.normal(rows, 6, seed=4))

    def layer(self, radius: float = 0.9, dim: int = 8, rows: int = 3, dtype: torch.dtype = torch.float64):
        """tanh(W z + b): W and b."""
        W = self.normal(dim, dim, seed=5)
        W = radius * W / torch.linalg.eigvals(W).abs().max()
        return W.to(dtype), self.normal(rows, dim, seed=6, dtype=dtype)


@pytest.fixture
def maps() -> Maps:
    return Maps()
