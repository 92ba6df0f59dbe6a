"""A number a row, and how well it is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cde_nets.solver.status import Status, succeeded


@dataclass(frozen=True)
class Estimate:
    """What a Krylov space says of a Jacobian, shape (rows,) each.

    Attributes:
        value: the number; NaN in rows that diverged.
        status: a code of `Status`: CONVERGED, MAX_STEPS where the space was full before the residual met its tolerance,
            DIVERGED where z, f(z) or a product is not finite, BREAKDOWN where there is a value but no derivative.
        residual: by how much the eigenpair or singular triplet misses its equation, in the units of the matrix.
        products: with J or its transpose, all rows at once counting as one.
    """

    value: Tensor
    status: Tensor
    residual: Tensor
    products: int

    @property
    def succeeded(self) -> Tensor:
        """Whether each row's residual met the tolerance, shape (rows,)."""
        return succeeded(self.status)

    def words(self) -> list[str]:
        """Every row's status as a word."""
        return [Status(code).name.lower() for code in self.status.tolist()]


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: object, g: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "An eigenvalue's derivative is taken here with its eigenvector held, and is right only once: no "
                "create_graph=True. For second derivatives take gershgorin_bound or squared_frobenius."
            )
        return g


def once(value: Tensor) -> Tensor:
    """The value, whose derivative may be taken but not differentiated again (RuntimeError)."""
    found: Tensor = _Once.apply(value)  # type: ignore[no-untyped-call]
    return found
