"""What a flow's right-hand side is to a step: a velocity, and what transposes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from cde_nets.fields.trace import jacobian_trace


class Moment(NamedTuple):
    """When a stage is evaluated.

    Attributes:
        n: the step, on a mesh that is known beforehand.
        j: the stage.
        time: float64, shape (rows, 1), or (1, 1) where the rows step together; None on a mesh known beforehand.
        inside: a time within the smooth piece that the step lies in, shaped as time.
    """

    n: int
    j: int
    time: Tensor | None = None
    inside: Tensor | None = None


class Adjoint(ABC):
    """Sums, stage by stage, the cotangents of what the rows share."""

    @abstractmethod
    def pull(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        """w^T D_x(velocity); what w gives the leaves is added to their sums."""

    def add(self, x: Tensor, at: Moment, w: Tensor) -> None:
        """Only what w gives the leaves."""
        self.pull(x, at, w)

    def linearize(self, x: Tensor, at: Moment) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
        """The velocity and the `pull` there, where one evaluation gives both; None where it does not."""
        return None

    def pull_divergence(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        """W D_x(divergence), w of shape (rows,); what w gives the leaves is added to their sums."""
        raise TypeError(f"{type(self).__name__} does not differentiate its divergence; take gradient=Autograd().")

    @abstractmethod
    def gradients(self) -> tuple[Tensor | None, ...]:
        """The sums, in the order of the dynamics' leaves."""


class Dynamics(ABC):
    """dX/dt as a function of packed states, shape (rows, numbers).

    Attributes:
        leaves: the tensors besides the state that velocity depends on and that may want a gradient.
        replaceable: whether `on` puts other tensors in their place.
    """

    leaves: tuple[Tensor, ...]
    replaceable: bool = True

    @abstractmethod
    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """Shape (rows, numbers)."""

    def divergence(self, x: Tensor, at: Moment) -> Tensor:
        """The exact trace of the velocity's Jacobian, row by row, shape (rows,); a product for every number."""
        return jacobian_trace(lambda y: self.velocity(y, at), x)

    @abstractmethod
    def adjoint(self) -> Adjoint:
        """A new sum of cotangents."""

    @abstractmethod
    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """The same dynamics with other tensors in the place of its leaves."""

    def with_costate(self, x: Tensor, p: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """The velocity and D(velocity)^T p."""
        return self.velocity(x, at), self.adjoint().pull(x, at, p)

    def bind(self, mesh: Sequence[float], nodes: Sequence[float]) -> Dynamics:
        """The same on a mesh known beforehand, where a moment is a step and a stage."""
        return self


def plus(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    """The sum of what there is."""
    return part if total is None else total if part is None else total + part
