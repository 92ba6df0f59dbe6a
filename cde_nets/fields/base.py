"""What every frozen family V_1, ..., V_d on R^m offers, and the contract checked at its door."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from jaxtyping import Inexact
from torch import Tensor, nn

from cde_nets.digests import tensor_bytes
from cde_nets.fields.linearized import Linearized
from cde_nets.fields.trace import jacobian_trace

if TYPE_CHECKING:
    from theory import Program

Control = Inexact[Tensor, "count"] | Inexact[Tensor, "batch count"]

# What real controls of complex fields are. Not dtype.to_real(), which torch.compile cannot trace.
_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}


class Pullback(NamedTuple):
    """Both halves of a transposed derivative of velocity(x, u), given a cotangent w.

    For complex fields both follow torch's convention: they are what `torch.autograd.grad(velocity, (x, u), w)` gives,
    the conjugate transposes applied to w, and of the control's half the real part where u is real.

    Attributes:
        state: w^T D_x velocity(x, u), shape (batch, dim).
        control: <w, V_i(x)> for every i. Shape (batch, count) where every row has a control of its own; where the
            rows share one control, their sum, shape (count,).
    """

    state: Inexact[Tensor, "batch dim"]
    control: Control


class Fields(nn.Module, ABC):
    """A frozen family of `count` vector fields on R^dim.

    The coefficients are buffers: they move and are cast with the module and never train. All that a family
    computes is a closed form made of plain torch operations, so that autograd, `torch.func` and `torch.compile` see
    through it.

    A family of one's own defines `_velocity`, `_pullback`, `_evaluate` and `exact`, and, where it knows better than the
    defaults, `_moments`, `_divergence` and `tangent_to`.

    Attributes:
        dim: m, the dimension of the state.
        count: d, the number of fields.
        degree: the largest degree of the polynomials the family is made of.
        takes_complex: whether the coefficients, and with them the states, may be complex.
    """

    takes_complex: ClassVar[bool] = False

    def __init__(self, dim: int, count: int, degree: int) -> None:
        super().__init__()
        self.dim = _at_least("dim", dim, 1)
        self.count = _at_least("count", count, 1)
        self.degree = _at_least("degree", degree, 1)

    def velocity(self, x: Inexact[Tensor, "batch dim"], u: Control) -> Inexact[Tensor, "batch dim"]:
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

    def pullback(self, x: Inexact[Tensor, "batch dim"], u: Control, w: Inexact[Tensor, "batch dim"]) -> Pullback:
        """The transposed derivative of `velocity` at (x, u), applied to the cotangent w of shape (batch, dim).

        Raises:
            ValueError: a shape, dtype or device does not fit the fields.
        """
        self._check(x, u)
        self._check_cotangent(w, x)
        return self._pullback(x, u, w)

    def moments(self, x: Inexact[Tensor, "batch dim"], u: Control, w: Inexact[Tensor, "batch dim"]) -> Control:
        """The control half of `pullback` alone: where a flow starts, nobody asks for the other half.

        Raises:
            ValueError: a shape, dtype or device does not fit the fields.
        """
        self._check(x, u)
        self._check_cotangent(w, x)
        return self._moments(x, u, w)

    def divergence(self, x: Inexact[Tensor, "batch dim"], u: Control) -> Inexact[Tensor, "batch"]:
        """sum_i u_i div V_i(x), the trace of D_x velocity(x, u): how fast the flow spreads volume.

        Along a flow d/dt log p(X_t) = -divergence(X_t, u(t)) (Chen, Rubanova, Bettencourt and Duvenaud, "Neural
        ordinary differential equations", instantaneous change of variables). It is differentiated by autograd.

        Args:
            x: states, shape (batch, dim).
            u: controls, shape (count,) for all rows or (batch, count), one a row.

        Returns:
            Shape (batch,). For complex fields the complex trace; volume on C^m = R^2m grows by twice its real part.

        Raises:
            ValueError: a shape, dtype or device does not fit the fields.
        """
        self._check(x, u)
        return self._divergence(x, u)

    def tangent_to(self, manifold: str) -> bool:
        """Whether every V_i(x) is known to be tangent to the named manifold through x; "sphere" is |x| = constant.

        A flow along tangent fields, with real controls, stays on the manifold.
        """
        return False

    def evaluate(self, x: Inexact[Tensor, "batch dim"]) -> Inexact[Tensor, "batch count dim"]:
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
    def _velocity(self, x: Inexact[Tensor, "batch dim"], u: Control) -> Inexact[Tensor, "batch dim"]: ...

    @abstractmethod
    def _pullback(self, x: Inexact[Tensor, "batch dim"], u: Control, w: Inexact[Tensor, "batch dim"]) -> Pullback: ...

    def _moments(self, x: Inexact[Tensor, "batch dim"], u: Control, w: Inexact[Tensor, "batch dim"]) -> Control:
        return self._pullback(x, u, w).control

    def _linearize(self, x: Inexact[Tensor, "batch dim"], u: Inexact[Tensor, "batch count"]) -> Linearized:
        """With a control a row: for adjoints that pull some rows at a time; nothing is checked."""
        return Linearized(self, x, u)

    def _divergence(self, x: Inexact[Tensor, "batch dim"], u: Control) -> Inexact[Tensor, "batch"]:
        return jacobian_trace(lambda y: self._velocity(y, u), x)

    @abstractmethod
    def _evaluate(self, x: Inexact[Tensor, "batch dim"]) -> Inexact[Tensor, "batch count dim"]: ...

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
        """How many frozen coefficients the family stores; a complex one counts once."""
        return sum(value.numel() for value in self.state_dict().values() if _is_inexact(value))

    def digest(self) -> str:
        """SHA-256 over the family's structure and the exact bytes of its coefficients, as hexadecimal text."""
        seen = hashlib.sha256(json.dumps([type(self).__name__, str(self.dtype), *self._structure()]).encode())
        # A state_dict holds persistent buffers only; derived tables are functions of these.
        for name, value in sorted(self.state_dict().items()):
            seen.update(tensor_bytes(name, value.resolve_conj().resolve_neg()))
        return seen.hexdigest()

    def _structure(self) -> tuple[object, ...]:
        """What fixes the family besides its coefficients, as JSON values."""
        return (self.dim, self.count, self.degree)

    def extra_repr(self) -> str:
        """Shown by print(fields)."""
        return f"dim={self.dim}, count={self.count}, degree={self.degree}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fields:
        # Asked of an empty tensor first, so that a refused cast leaves the fields as they were.
        before, after = self.dtype, fn(self._reference().new_empty(0)).dtype
        if after.is_complex and not self.takes_complex:
            raise ValueError(f"{type(self).__name__} cannot be cast to {after}: only LinearFields may be complex.")
        if before.is_complex and not after.is_complex:
            raise ValueError(
                f"{type(self).__name__} has {before} coefficients; a cast to {after} would drop their imaginary parts. "
                "Take torch.complex64 or torch.complex128, or LinearFields(fields.matrices.real)."
            )
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def _reference(self) -> Tensor:
        # Not self.buffers(), which walks the module tree: this is asked at every door.
        own = (b for b in self._buffers.values() if b is not None and _is_inexact(b))
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
        self._check_kind(u, "u", or_real=True)

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

    def _check_kind(self, x: Tensor, name: str, *, or_real: bool = False) -> None:
        reference = self._reference()
        own, expected = reference.dtype, reference.dtype
        if or_real and not x.is_complex():
            expected = _REAL.get(own, own)
        if x.dtype != expected and x.is_complex() and not own.is_complex:
            raise ValueError(
                f"{name} is {x.dtype}; the fields are {own}. Complex states and controls need LinearFields of complex "
                "matrices; other families can act on C^m as R^2m: torch.view_as_real(x).flatten(1)."
            )
        if x.dtype != expected and (own.is_complex or not x.is_floating_point()):
            raise ValueError(f"{name} is {x.dtype}; the fields are {own}. Cast it: {name}.to({expected}).")
        if x.dtype != expected:
            raise ValueError(
                f"{type(self).__name__} has {own} coefficients; {name} is {x.dtype}. "
                f"Cast one of them: fields.to({x.dtype}) or {name}.to({own})."
            )
        if x.device != reference.device:
            raise ValueError(
                f"{type(self).__name__} is on {reference.device}; {name} is on {x.device}. "
                f"Move one of them: fields.to('{x.device}') or {name}.to('{reference.device}')."
            )


def _at_least(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}.")
    return int(value)


def _describe(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _is_inexact(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _real_family(base: Any, wrapper: str) -> Fields:
    """What a wrapper of fields is given, checked to be real fields."""
    if isinstance(base, type) and issubclass(base, Fields):
        raise ValueError(f"{wrapper} expects fields, not their class {base.__name__}: make them first.")
    if not isinstance(base, Fields):
        raise ValueError(
            f"{wrapper} expects a family of fields, an instance of Fields such as PolynomialFields.random(..); got "
            f"{_describe(base)}."
        )
    if base.dtype.is_complex:
        raise ValueError(f"{wrapper} expects real fields; {type(base).__name__} has {base.dtype} coefficients.")
    return base
