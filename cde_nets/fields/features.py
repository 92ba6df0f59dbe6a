"""Families with shared features, V_i(x) = A_i phi(x): one product serves every field, so the control collapses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Inexact
from torch import Tensor

from cde_nets.fields.base import Control, Fields, Pullback
from cde_nets.fields.linearized import Linearized


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
        return _contract(u, self._columns(self.features(x)))

    def _pullback(self, x: Inexact[Tensor, "batch dim"], u: Control, w: Inexact[Tensor, "batch dim"]) -> Pullback:
        phi = self.features(x).conj()  # conj() of real numbers is themselves, and free
        if self.collapses(x.shape[0], u):
            # Written so that the features come out as rows, as families build them.
            state = (self._collapse(u).mH @ w.mT).mT
            control = self._collapsed_moments(phi, u, w)
            return Pullback(self.features_pullback(x, state), control)
        control = self._stacked_moments(phi.conj(), u, w)
        state = self.features_pullback(x, self._stacked_rows(u.expand(len(x), -1), w))
        return Pullback(state, control if u.ndim == 2 else control.sum(0))

    def _moments(self, x: Inexact[Tensor, "batch dim"], u: Control, w: Inexact[Tensor, "batch dim"]) -> Control:
        if self.collapses(x.shape[0], u):
            return self._collapsed_moments(self.features(x).conj(), u, w)
        control = self._stacked_moments(self.features(x), u, w)
        return control if u.ndim == 2 else control.sum(0)

    def _linearize(self, x: Inexact[Tensor, "batch dim"], u: Inexact[Tensor, "batch count"]) -> Linearized:
        return _LinearizedFeatures(self, x, u)

    def _features_linearized(
        self, x: Inexact[Tensor, "batch dim"]
    ) -> tuple[Inexact[Tensor, "batch features"], Callable[[slice, Tensor], Tensor]]:
        """phi(x), and (some rows, g) -> `features_pullback` there."""
        return self.features(x), lambda at, g: self.features_pullback(x[at], g)

    def _evaluate(self, x: Inexact[Tensor, "batch dim"]) -> Inexact[Tensor, "batch count dim"]:
        return self._columns(self.features(x)).permute(2, 0, 1)

    def _columns(self, phi: Inexact[Tensor, "batch features"]) -> Inexact[Tensor, "count dim batch"]:
        """V_i(x) with the rows last: to sum over fields or numbers is then to add rows of memory."""
        stacked = self.coefficients.reshape(self.count * self.dim, -1)
        return (stacked @ phi.mT).reshape(self.count, self.dim, -1)

    def _stacked_moments(
        self, phi: Inexact[Tensor, "batch features"], u: Control, w: Inexact[Tensor, "batch dim"]
    ) -> Inexact[Tensor, "batch count"]:
        """<w, V_i(x)> for every field and row."""
        return _for_control(u, (self._columns(phi).conj() * w.mT.contiguous()).sum(1).mT)

    def _stacked_rows(
        self, u: Inexact[Tensor, "batch count"], w: Inexact[Tensor, "batch dim"]
    ) -> Inexact[Tensor, "batch features"]:
        """sum_i u_i w^T A_i, row by row: one product with all fields, of the products of u and w."""
        both = u.mT.contiguous()[:, None].conj() * w.mT.contiguous()
        stacked = self.coefficients.conj().reshape(self.count * self.dim, -1)
        return (stacked.mT @ both.flatten(0, 1)).mT

    def _collapse(self, u: Control) -> Inexact[Tensor, "dim features"]:
        """W = sum_i u_i A_i."""
        collapsed: Tensor = torch.tensordot(u.to(self.coefficients.dtype), self.coefficients, 1)
        return collapsed

    def _collapsed_moments(
        self, phi: Inexact[Tensor, "batch features"], u: Control, w: Inexact[Tensor, "batch dim"]
    ) -> Control:
        """<w, V_i(x)> for every field, summed over the rows; phi are the conjugate features."""
        return _for_control(u, torch.tensordot(self.coefficients.conj(), w.mT @ phi, 2))


class _LinearizedFeatures(Linearized):
    """The features are evaluated once."""

    def __init__(self, fields: FeatureFields, x: Tensor, u: Tensor) -> None:
        self._fields: FeatureFields = fields
        self._u = u
        self._phi, self._below = fields._features_linearized(x)

    def pull(self, at: slice, w: Tensor) -> Tensor:
        return self._below(at, self._fields._stacked_rows(self._u[at], w))

    def moments(self, w: Tensor) -> Tensor:
        return self._fields._stacked_moments(self._phi, self._u, w)


def _contract(u: Control, values: Inexact[Tensor, "count n batch"]) -> Inexact[Tensor, "batch n"]:
    """sum_i u_i values_i with u shared by the rows or one a row."""
    u = u.to(values.dtype)
    if u.ndim == 1:
        found: Tensor = torch.tensordot(u, values, 1)
        return found.mT.contiguous()
    return (u.mT.contiguous()[:, None] * values).sum(0).mT.contiguous()


def _for_control(u: Control, moments: Control) -> Control:
    """The gradient of a real control is real."""
    return moments if u.is_complex() else moments.real
