"""What every frozen family V_1, ..., V_d on R^m offers, and the contract checked at its door."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cde_nets.digests import tensor_bytes

if TYPE_CHECKING:
    from theory import Program

Control = Float[Tensor, "count"] | Float[Tensor, "batch count"]


class Pullback(NamedTuple):
    """Both halves of a transposed derivative of velocity(x, u), given a cotangent w.

    Attributes:
        state: w^T D_x velocity(x, u), shape (batch, dim).
        control: <w, V_i(x)> for every i. Shape (batch, count) where every row has a control of its own; where the
            rows share one control, their sum, shape (count,).
    """

    state: Float[Tensor, "batch dim"]
    control: Control


class Fields(nn.Module, ABC):
    """A frozen family of `count` vector fields on R^dim.

    The coefficients are buffers: they move and are cast with the module and never train. velocity and pullback are
    closed forms made of plain torch operations, so that autograd, `torch.func` and `torch.compile` see through them.

    Attributes:
        dim: m, the dimension of the state.
        count: d, the number of fields.
        degree: the largest degree of the polynomials the family is made of.
    """

    def __init__(self, dim: int, count: int, degree: int) -> None:
        super().__init__()
        self.dim = _at_least("dim", dim, 1)
        self.count = _at_least("count", count, 1)
        self.degree = _at_least("degree", degree, 1)

    def velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]:
        """The velocity sum_i u_i V_i(x).

        Args:
            x: states, shape (batch, dim).
            u: controls, shape (count,) for all rows or (batch, count), one a row.

        Returns:
            Shape (batch, dim).

        Raises:
            ValueError: a shape, dtype or device does not fit the fields.
        """
        self._check(x, u)
        return self._velocity(x, u)

    def pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback:
        """The transposed derivative of `velocity` at (x, u), applied to the cotangent w of shape (batch, dim).

        Raises:
            ValueError: a shape, dtype or device does not fit the fields.
        """
        self._check(x, u)
        self._check_cotangent(w, x)
        return self._pullback(x, u, w)

    def moments(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Control:
        """The control half of `pullback` alone: where a flow starts, nobody asks for the other half.

        Raises:
            ValueError: a shape, dtype or device does not fit the fields.
        """
        self._check(x, u)
        self._check_cotangent(w, x)
        return self._moments(x, u, w)

    def evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]:
        """Every field at every row: V_i(x_b), shape (batch, count, dim).

        Raises:
            ValueError: the shape, dtype or device of x does not fit the fields.
        """
        self._check_state(x, "x")
        return self._evaluate(x)

    @abstractmethod
    def exact(self) -> Program:
        """The same family as a torch-free program with exact coefficients (floats are dyadic rationals)."""

    @abstractmethod
    def _velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]: ...

    @abstractmethod
    def _pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback: ...

    def _moments(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Control:
        return self._pullback(x, u, w).control

    @abstractmethod
    def _evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]: ...

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the coefficients."""
        return self._reference().dtype

    @property
    def device(self) -> torch.device:
        """The device the coefficients are on."""
        return self._reference().device

    @property
    def frozen_numbers(self) -> int:
        """How many frozen coefficients the family stores."""
        return sum(value.numel() for value in self.state_dict().values() if value.is_floating_point())

    def digest(self) -> str:
        """SHA-256 over the family's structure and the exact bytes of its coefficients, as hexadecimal text."""
        seen = hashlib.sha256(json.dumps([type(self).__name__, str(self.dtype), *self._structure()]).encode())
        # A state_dict holds persistent buffers only; derived tables are functions of these.
        for name, value in sorted(self.state_dict().items()):
            seen.update(tensor_bytes(name, value))
        return seen.hexdigest()

    def _structure(self) -> tuple[object, ...]:
        """What fixes the family besides its coefficients, as JSON values."""
        return (self.dim, self.count, self.degree)

    def extra_repr(self) -> str:
        """Shown by print(fields)."""
        return f"dim={self.dim}, count={self.count}, degree={self.degree}"

    def _reference(self) -> Tensor:
        # Not self.buffers(), which walks the module tree: this is asked at every door.
        own = (b for b in self._buffers.values() if b is not None and b.is_floating_point())
        found = next(own, None)
        return (
            next(child for child in self.children() if isinstance(child, Fields))._reference()
            if found is None
            else found
        )

    def _check(self, x: Tensor, u: Tensor) -> None:
        self._check_state(x, "x")
        rows = x.shape[0]
        if not isinstance(u, Tensor) or tuple(u.shape) not in ((self.count,), (rows, self.count)):
            raise ValueError(
                f"{type(self).__name__} has {self.count} fields and expects a control of shape ({self.count},) or "
                f"({rows}, {self.count}); got {_describe(u)}. Make the control with count={self.count}."
            )
        self._check_kind(u, "u")

    def _check_cotangent(self, w: Tensor, x: Tensor) -> None:
        self._check_state(w, "w")
        if w.shape != x.shape:
            raise ValueError(f"The cotangent w must have the shape of x, {tuple(x.shape)}; it has {tuple(w.shape)}.")

    def _check_state(self, x: Tensor, name: str) -> None:
        if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(
                f"{type(self).__name__} expects {name} of shape (batch, {self.dim}); got {_describe(x)}. "
                "One point is a batch of one: x[None]; images are flattened by the fields' own flatten()."
            )
        self._check_kind(x, name)

    def _check_kind(self, x: Tensor, name: str) -> None:
        if x.dtype != self.dtype and not x.is_floating_point():
            raise ValueError(f"{name} is {x.dtype}; the fields are {self.dtype}. Cast it: {name}.to({self.dtype}).")
        if x.dtype != self.dtype:
            raise ValueError(
                f"{type(self).__name__} has {self.dtype} coefficients; {name} is {x.dtype}. "
                f"Cast one of them: fields.to({x.dtype}) or {name}.to({self.dtype})."
            )
        if x.device != self.device:
            raise ValueError(
                f"{type(self).__name__} is on {self.device}; {name} is on {x.device}. "
                f"Move one of them: fields.to('{x.device}') or {name}.to('{self.device}')."
            )


def _at_least(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}.")
    return int(value)


def _describe(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
