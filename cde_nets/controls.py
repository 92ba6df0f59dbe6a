"""Controls u(t) in R^count: the only numbers that are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cde_nets.fields import draw


class Control(nn.Module, ABC):
    """A path u: [0, 1] -> R^count.

    Attributes:
        count: d, the number of fields it drives.
    """

    count: int

    @property
    @abstractmethod
    def breakpoints(self) -> tuple[float, ...]:
        """The times in (0, 1) where u is not smooth; solvers put a step's end on each of them."""

    @abstractmethod
    def on_mesh(self, mesh: Sequence[float], nodes: Sequence[float]) -> Float[Tensor, "steps stages count"]:
        """U at every node of every step of a mesh.

        Args:
            mesh: times t_0 < ... < t_M that include every breakpoint between t_0 and t_M.
            nodes: c_j in [0, 1] of the stages: stage j of step n is at t_n + c_j (t_{n+1} - t_n). At a breakpoint the
                value is the limit from inside the step.
        """


class PiecewiseConstantControl(Control):
    """u(t) = values[n] on the n-th of `steps` equal intervals of [0, 1].

    Args:
        steps: M, the number of intervals.
        count: d.
        values: initial values, shape (steps, count); zeros where None, for which the flow is the identity.

    Raises:
        ValueError: steps or count below 1, values of another shape, not floating or not finite.
    """

    def __init__(self, steps: int, count: int, *, values: Float[Tensor, "steps count"] | None = None) -> None:
        super().__init__()
        for name, value in (("steps", steps), ("count", count)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"A control needs an integer {name} >= 1; got {name}={value!r}.")
        self.steps, self.count = steps, count
        start = torch.zeros(steps, count) if values is None else draw.coefficients(values, "values", (steps, count))
        self.values = nn.Parameter(start)

    @classmethod
    def random(
        cls, steps: int, count: int, *, scale: float, seed: int, dtype: torch.dtype | None = None
    ) -> PiecewiseConstantControl:
        """Initial values iid N(0, scale^2).

        Raises:
            ValueError: a scale below 0, or as the class.
        """
        if not 0 <= scale < float("inf"):
            raise ValueError(f"scale must be finite and at least 0; got {scale!r}.")
        return cls(steps, count, values=draw.as_buffer(draw.generator(seed).normal(0, scale, (steps, count)), dtype))

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """The ends of the inner intervals."""
        return tuple(n / self.steps for n in range(1, self.steps))

    def on_mesh(self, mesh: Sequence[float], nodes: Sequence[float]) -> Float[Tensor, "steps stages count"]:
        """The interval's values at every node; see `Control.on_mesh`."""
        times = np.asarray(mesh)
        interval = np.floor((times[:-1] + times[1:]) / 2 * self.steps).astype(np.int64).clip(0, self.steps - 1)
        if np.array_equal(interval, np.arange(self.steps)):
            chosen: Tensor = self.values
        else:
            chosen = self.values[torch.from_numpy(interval).to(self.values.device)]
        return chosen[:, None, :].expand(-1, len(nodes), -1)

    def extra_repr(self) -> str:
        """Shown by print(control)."""
        return f"steps={self.steps}, count={self.count}"
