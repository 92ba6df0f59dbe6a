"""u(t) a cubic on each of equal intervals, with continuous slope: value and slope train at every knot."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from cde_nets.controls import arguments, equal
from cde_nets.controls.intervals import OnIntervals


class HermiteControl(OnIntervals):
    """The cubic Hermite interpolant of trained values and slopes at the knots n / steps of [0, 1].

    With h = 1 / steps and s = steps t - n on the n-th interval, from values y and slopes m = du/dt at its ends
    (de Boor, A Practical Guide to Splines, chapter IV):

        u = (1 + 2s)(1 - s)^2 y_n + s^2 (3 - 2s) y_{n+1} + h s (1 - s)^2 m_n + h s^2 (s - 1) m_{n+1}

    u has a continuous first derivative; the second one jumps at the knots.

    Args:
        steps: M, the number of intervals.
        count: d.
        values: initial values at the knots, shape (steps + 1, count); zeros where None.
        slopes: initial du/dt at the knots, shape (steps + 1, count); zeros where None.

    Raises:
        ValueError: steps or count below 1; values or slopes of another shape, not floating, not finite, or of two
            dtypes.
    """

    continuous = True

    def __init__(
        self,
        steps: int,
        count: int,
        *,
        values: Float[Tensor, "knots count"] | None = None,
        slopes: Float[Tensor, "knots count"] | None = None,
    ) -> None:
        super().__init__(steps, count)
        self.values, self.slopes = arguments.parameters((steps + 1, count), values=values, slopes=slopes)

    def at(
        self, times: Float[Tensor, "*times"], inside: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*times {self.count}"]:
        """The interval's cubic; see `Control.at`."""
        times, moments = self._moments(times, inside)
        n = equal.interval(moments, self.steps)
        s = equal.local(times, n, self.steps)
        # The weights are made in the dtype of the times, where 1 - s loses nothing.
        rest = 1 - s
        weights = ((1 + 2 * s) * rest**2, s**2 * (1 + 2 * rest), s * rest**2 / self.steps, -(s**2) * rest / self.steps)
        ends = (self.values[n], self.values[n + 1], self.slopes[n], self.slopes[n + 1])
        terms = [weight.to(self.values.dtype)[..., None] * end for weight, end in zip(weights, ends, strict=True)]
        return terms[0] + terms[1] + (terms[2] + terms[3])
