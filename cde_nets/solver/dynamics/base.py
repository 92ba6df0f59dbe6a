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
        u: what `Dynamics.ahead` found out: a shared control's value, (rows, count) or (count,); else None.
    """

    n: int
    j: int
    time: Tensor | None = None
    inside: Tensor | None = None
    u: Tensor | None = None


class Graph(ABC):
    """Autograd's own graph over several evaluations, to be pulled back once.

    Attributes:
        dynamics: what is to be evaluated, under autograd.
        x: the state to start from.
    """

    dynamics: Dynamics
    x: Tensor

    @abstractmethod
    def pull(self, values: Sequence[Tensor], w: Sequence[Tensor]) -> Tensor:
        """The cotangent of x, given those of values; what they give the leaves is added to the adjoint's sums."""


class Stages(ABC):
    """Velocities at many points at once, each at a time of its own, linearized before they are pulled back."""

    @abstractmethod
    def pull(self, at: slice, w: Tensor) -> Tensor:
        """w^T D_x(velocity) at some of the points."""

    @abstractmethod
    def add(self, w: Tensor) -> None:
        """What w, the cotangents at all points, gives the leaves; every point has been pulled with its own before."""


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

    def graph(self, x: Tensor) -> Graph | None:
        """A graph over the stages of a step from x, where to pull all of them at once costs less; None: it does not."""
        return None

    def at_points(self, x: Tensor, times: Tensor, inside: Tensor) -> Stages | None:
        """Linearized at points of shape (points, numbers), whatever rows they are of; None where that cannot be.

        Args:
            x: the points.
            times: of each, float64, shape (points, 1).
            inside: a time within its smooth piece, shaped as times.
        """
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

    def ahead(self, moments: Sequence[Moment]) -> Sequence[Moment]:
        """The moments of a step's stages, with what costs less to find out for all of them at once."""
        return moments

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
