"""What every control u(t) in R^count offers, and the contract checked at its door."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

Values = Float[Tensor, "steps stages count"] | Float[Tensor, "steps stages rows count"]


class Control(nn.Module, ABC):
    """A path u: [t_0, t_1] -> R^count that drives dX = sum_i u_i(t) V_i(X) dt.

    A control of one's own has `count`, `breakpoints` and `at`; the rest has defaults. `at` and `on_mesh` are made of
    plain torch operations and read nothing back from the device, so that autograd, `torch.func` and `torch.compile`
    see through them.

    Attributes:
        count: d, the number of fields it drives.
        rows: None where the rows of a batch share one control; else how many rows have a control each.
        span: where u is defined.
    """

    count: int
    rows: int | None = None
    span: tuple[float, float] = (0.0, 1.0)

    @property
    @abstractmethod
    def breakpoints(self) -> tuple[float, ...]:
        """The times inside the span where u is not smooth, rising; solvers put a step's end on each of them."""

    @property
    def jumps(self) -> bool:
        """Whether u itself may be discontinuous at breakpoints, so that no value carries over from step to step."""
        return bool(self.breakpoints)

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """Every tensor that `at` reads and that may need a gradient; none is computed from another one.

        The parameters, unless a control says more. A solver that differentiates on its own asks for the gradient of
        these.
        """
        return tuple(self.parameters())

    @abstractmethod
    def at(
        self, times: Float[Tensor, "..."], inside: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "... {self.count}"]:
        """U at the given times, differentiable in `leaves` and, inside a piece, in the times.

        Args:
            times: where to evaluate, on the control's device. For a shared control of any shape; for a control a row
                of shape (..., rows), or (..., 1) for one time for all rows. What places a time in its piece is
                computed in their dtype: take float64.
            inside: of a shape that broadcasts to that of times: for each time a moment strictly inside the smooth
                piece whose formula is wanted, such as the midpoint of a step. At a breakpoint this gives the limit
                from inside the step, whichever way the step runs. None takes the piece to the right, and at the end
                of the span the last one.

        Returns:
            Shape (*times.shape, count), or (..., rows, count) for a control a row; in the dtype of the control's
            numbers. Outside the span the formula of the first or last piece goes on: a solver's rounding does no
            harm, but nothing is promised further out.

        Raises:
            ValueError: times or inside of another kind, shape or device.
        """

    def on_mesh(self, mesh: Sequence[float], nodes: Sequence[float]) -> Values:
        """U at every node of every step of a mesh.

        Args:
            mesh: times t_0 < ... < t_M, or t_0 > ... > t_M, that include every breakpoint between t_0 and t_M.
            nodes: c_j in [0, 1] of the stages: stage j of step n is at t_n + c_j (t_{n+1} - t_n). At a breakpoint the
                value is the limit from inside the step.

        Returns:
            Shape (steps, stages, count), or (steps, stages, rows, count) for a control a row.
        """
        ends, c = np.asarray(mesh, dtype=np.float64), np.asarray(nodes, dtype=np.float64)
        left, right = ends[:-1, None], ends[1:, None]
        # So written, the nodes 0 and 1 are the step's ends to the last bit.
        times = torch.from_numpy((1 - c) * left + c * right).to(self.device)
        middle = torch.from_numpy((left + right) / 2).to(self.device)
        return self.at(times, middle) if self.rows is None else self.at(times[..., None], middle[..., None])

    def on_steps(self, mesh: Sequence[float]) -> Float[Tensor, "steps count"] | None:
        """U on every step of a mesh as `on_mesh` takes it, where it does not change within any; None for others."""
        return None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of u: that of the control's numbers."""
        numbers = self._numbers()
        return torch.get_default_dtype() if numbers is None else numbers.dtype

    @property
    def device(self) -> torch.device:
        """The device of u."""
        numbers = self._numbers()
        return torch.device("cpu") if numbers is None else numbers.device

    def _numbers(self) -> Tensor | None:
        return next((t for t in chain(self.leaves, self.buffers()) if t.is_floating_point()), None)

    def _moments(self, times: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor]:
        """Checked times, and for each a moment whose piece, the one to its right, is the one wanted."""
        for name, value in (("times", times), ("inside", times if inside is None else inside)):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                kind = str(value.dtype) if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise ValueError(f"{name} must be a floating point tensor; got {kind}. Use torch.tensor(.., float64).")
            if value.device != self.device:
                raise ValueError(
                    f"{type(self).__name__} is on {self.device}; {name} is on {value.device}. "
                    f"Move one of them: control.to('{value.device}') or {name}.to('{self.device}')."
                )
        if self.rows is not None and (times.ndim == 0 or times.shape[-1] not in (1, self.rows)):
            raise ValueError(
                f"{type(self).__name__} has a control for each of {self.rows} rows and expects times of shape "
                f"(..., {self.rows}) or (..., 1); got {tuple(times.shape)}. One time for all rows is times[..., None]."
            )
        # In half precision a time could not tell the pieces apart.
        times = times.to(torch.promote_types(times.dtype, torch.float32))
        if inside is None:
            return times, times
        if not _broadcasts(inside.shape, times.shape):
            raise ValueError(
                f"inside must have a shape that broadcasts to that of times, {tuple(times.shape)}; "
                f"got {tuple(inside.shape)}. Expand times first where it is the smaller one."
            )
        return times, inside.to(torch.promote_types(inside.dtype, torch.float32)).expand(times.shape)


def _broadcasts(small: torch.Size, large: torch.Size) -> bool:
    ends = large[len(large) - len(small) :]
    return len(small) <= len(large) and all(n in (1, m) for n, m in zip(small, ends, strict=True))
