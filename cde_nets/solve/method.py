"""Methods for flows, as users name them."""

from __future__ import annotations

from dataclasses import dataclass

from cde_nets.solve.tableau import Tableau, tableau


@dataclass(frozen=True)
class RungeKutta:
    """An explicit Runge-Kutta method.

    Args:
        name: "euler" (with one step an interval of the control: the residual network) or "rk4".
        steps: of the fixed grid on [0, 1], a multiple of the control's; as many as the control has where None.

    Raises:
        ValueError: an unknown name, or steps below 1.
    """

    name: str
    steps: int | None = None

    def __post_init__(self) -> None:
        tableau(self.name)
        if self.steps is not None and (
            isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1
        ):
            raise ValueError(f"RungeKutta needs steps >= 1, or None for the control's own; got {self.steps!r}.")

    @property
    def tableau(self) -> Tableau:
        """Its coefficients."""
        return tableau(self.name)
