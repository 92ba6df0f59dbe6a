"""Families with shared features, V_i(x) = A_i phi(x): one product serves every field, so the control collapses."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Inexact
from torch import Tensor

from cde_nets.fields.base import Control, Fields, Pullback


class FeatureFields(Fields):
    """V_i(x) = A_i phi(x) with frozen A of shape (count, dim, features).

    As the velocity is linear in u, W = sum_i u_i A_i is formed once and multiplied once: the cost a row then does not
    depend on the number of fields. Where that costs more (one row, or a control a row) the fields are stacked.
    """

    coefficients: Tensor

    def __init__(self, coefficients: Inexact[Tensor, "count dim features"], degree: int) -> None:
        super().__init__(coefficients.shape[1], coefficients.shape[0], degree)
        self.register_buffer("coefficients", coefficients)

    @abstractmethod
    def features(self, x: Inexact[Tensor, "batch dim"]) -> Inexact[Tensor, "batch features"]:
        """phi(x), shape (batch, features)."""

    @abstractmethod
    def features_pullback(
        self, x: Inexact[Tensor, "batch dim"], g: Inexact[Tensor, "batch features"]
    ) -> Inexact[Tensor, "batch dim"]:
        """g^T D phi(x), shape (batch, dim); where phi is complex, g^T times the conjugate of D phi(x)."""

    def collapses(self, rows: int, u: Control) -> bool:
        """Whether forming sum_i u_i A_i first costs fewer multiplications than stacking the fields."""
        if u.ndim == 2:
            return False
        size = self.coefficients[0].numel()
        collapsed = self.count * size + rows * size
        stacked = rows * self.count * (size + self.dim)
        return collapsed <= stacked

    def _velocity(self, x: Inexact[Tensor, "batch dim"], u: Control) -> Inexact[Tensor, "batch dim"]:
        if self.collapses(x.shape[0], u):
            velocity: Tensor = self.features(x) @ self._collapse(u).mT
            return velocity
        return _contract(u, self._evaluate(x))

    def _pullback(self, x: Inexact[Tensor, "batch dim"], u: Control, w: Inexact[Tensor, "batch dim"]) -> Pullback:
        phi = self.features(x).conj()  # conj() of real numbers is themselves, and free
        if self.collapses(x.shape[0], u):
            # Written so that the features come out as rows, as families build them.
            state = (self._collapse(u).mH @ w.mT).mT
            control = self._collapsed_moments(phi, u, w)
            return Pullback(self.features_pullback(x, state), control)
        # w^T A_i for every field at once; from it both halves follow without forming V_i(x).
        rows = torch.einsum("bm,imf->bif", w, self.coefficients.conj())
        control = (rows @ phi[:, :, None])[:, :, 0]
        state = self.features_pullback(x, _contract(u.conj(), rows))
        return Pullback(state, _for_control(u, control if u.ndim == 2 else control.sum(0)))

    def _moments(self, x: Inexact[Tensor, "batch dim"], u: Control, w: Inexact[Tensor, "batch dim"]) -> Control:
        if self.collapses(x.shape[0], u):
            return self._collapsed_moments(self.features(x).conj(), u, w)
        control = (self._evaluate(x).conj() @ w[:, :, None])[:, :, 0]
        return _for_control(u, control if u.ndim == 2 else control.sum(0))

    def _evaluate(self, x: Inexact[Tensor, "batch dim"]) -> Inexact[Tensor, "batch count dim"]:
        stacked = self.coefficients.reshape(self.count * self.dim, -1)
        return (self.features(x) @ stacked.mT).reshape(-1, self.count, self.dim)

    def _collapse(self, u: Control) -> Inexact[Tensor, "dim features"]:
        """W = sum_i u_i A_i."""
        collapsed: Tensor = torch.tensordot(u.to(self.coefficients.dtype), self.coefficients, 1)
        return collapsed

    def _collapsed_moments(
        self, phi: Inexact[Tensor, "batch features"], u: Control, w: Inexact[Tensor, "batch dim"]
    ) -> Control:
        """<w, V_i(x)> for every field, summed over the rows; phi are the conjugate features."""
        return _for_control(u, torch.tensordot(self.coefficients.conj(), w.mT @ phi, 2))


def _contract(u: Control, values: Inexact[Tensor, "batch count n"]) -> Inexact[Tensor, "batch n"]:
    """sum_i u_i values_i with u shared by the rows or one a row."""
    return (u.to(values.dtype).expand(values.shape[0], -1)[:, None, :] @ values)[:, 0]


def _for_control(u: Control, moments: Control) -> Control:
    """The gradient of a real control is real."""
    return moments if u.is_complex() else moments.real
