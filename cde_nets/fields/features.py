"""Families with shared features, V_i(x) = A_i phi(x): one product serves every field, so the control collapses."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields.base import Control, Fields, Pullback


class FeatureFields(Fields):
    """V_i(x) = A_i phi(x) with frozen A of shape (count, dim, features).

    As the velocity is linear in u, W = sum_i u_i A_i is formed once and multiplied once: the cost a row then does not
    depend on the number of fields. Where that costs more (one row, or a control a row) the fields are stacked.
    """

    coefficients: Tensor

    def __init__(self, coefficients: Float[Tensor, "count dim features"], degree: int) -> None:
        super().__init__(coefficients.shape[1], coefficients.shape[0], degree)
        self.register_buffer("coefficients", coefficients)

    @abstractmethod
    def features(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch features"]:
        """phi(x), shape (batch, features)."""

    @abstractmethod
    def features_pullback(
        self, x: Float[Tensor, "batch dim"], g: Float[Tensor, "batch features"]
    ) -> Float[Tensor, "batch dim"]:
        """g^T D phi(x), shape (batch, dim)."""

    def collapses(self, rows: int, u: Control) -> bool:
        """Whether forming sum_i u_i A_i first costs fewer multiplications than stacking the fields."""
        if u.ndim == 2:
            return False
        size = self.coefficients[0].numel()
        collapsed = self.count * size + rows * size
        stacked = rows * self.count * (size + self.dim)
        return collapsed <= stacked

    def _velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]:
        if self.collapses(x.shape[0], u):
            velocity: Tensor = self.features(x) @ torch.tensordot(u, self.coefficients, 1).mT
            return velocity
        return _contract(u, self._evaluate(x))

    def _pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback:
        phi = self.features(x)
        if self.collapses(x.shape[0], u):
            # Written so that the features come out as rows, as families build them.
            state = (torch.tensordot(u, self.coefficients, 1).mT @ w.mT).mT
            control = torch.tensordot(self.coefficients, w.mT @ phi, 2)
            return Pullback(self.features_pullback(x, state), control)
        # w^T A_i for every field at once; from it both halves follow without forming V_i(x).
        rows = torch.einsum("bm,imf->bif", w, self.coefficients)
        control = (rows @ phi[:, :, None])[:, :, 0]
        state = self.features_pullback(x, _contract(u, rows))
        return Pullback(state, control if u.ndim == 2 else control.sum(0))

    def _moments(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Control:
        if self.collapses(x.shape[0], u):
            moments: Tensor = torch.tensordot(self.coefficients, w.mT @ self.features(x), 2)
            return moments
        control = (self._evaluate(x) @ w[:, :, None])[:, :, 0]
        return control if u.ndim == 2 else control.sum(0)

    def _evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]:
        stacked = self.coefficients.reshape(self.count * self.dim, -1)
        return (self.features(x) @ stacked.mT).reshape(-1, self.count, self.dim)


def _contract(u: Control, values: Float[Tensor, "batch count n"]) -> Float[Tensor, "batch n"]:
    """sum_i u_i values_i with u shared by the rows or one a row."""
    return (u.expand(values.shape[0], -1)[:, None, :] @ values)[:, 0]
