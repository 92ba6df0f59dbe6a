"""What is written down while a flow runs: the steps an adjoint walks back, and the states at save times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.flow.manifold import Manifold
from cde_nets.solver.flow.steps import Step, along, dense_weights
from cde_nets.solver.flow.tableau import Tableau
from cde_nets.solver.method import Iterate
from cde_nets.solver.states import real


class Output(NamedTuple):
    """A saved state within a step, on the continuous extension.

    Attributes:
        place: its number among the save times, or one for each row, shape (rows,).
        theta: where in the step, in (0, 1]; a number or shape (rows, 1).
        valid: the rows it holds for, shape (rows,).
    """

    place: int | Tensor
    theta: float | Tensor
    valid: Tensor


class Taken(NamedTuple):
    """One step, as an adjoint needs it.

    Attributes:
        step: its place in time.
        moved: the rows that took it, shape (rows,).
        outputs: what was saved of it.
        hit: the rows whose event lies in it, shape (rows,); None without an event.
    """

    step: Step
    moved: Tensor
    outputs: tuple[Output, ...] = ()
    hit: Tensor | None = None


@dataclass
class Recorder:
    """Writes down steps and save times; an observer of the loop.

    Attributes:
        tableau: with its continuous extension.
        manifold: what saved states are put back on too.
        save_at: the save times, in the order they are passed; those at the start are not among them.
        mesh: the step ends where they are known beforehand, else None.
        keep: how starting states are kept: None keeps no steps at all.
    """

    tableau: Tableau
    manifold: Manifold | None
    save_at: Sequence[float]
    mesh: Sequence[float] | None
    keep: States | None = None
    differentiable: bool = False
    taken: list[Taken] = field(default_factory=list)
    saved: list[Tensor] = field(default_factory=list)
    table: Tensor | None = None
    _count: int = 0

    def observe(self, before: Iterate, after: Iterate, signals: Sequence[int]) -> None:
        """Save what lies in the step, and keep the step."""
        assert after.moved is not None
        step: Step = after.memory.step
        if self.mesh is None:
            moved_any, passed = signals
            if not moved_any:
                return
            # What was passed are the solve's save times; a trace saves none.
            outputs = self._outputs_adaptive(before, after, passed) if self.save_at else ()
        else:
            outputs = self._outputs_on_mesh(step.n, after.moved)
        if self.manifold is not None and self.keep is not None:
            self.keep.scales.append(after.memory.scale)
        for output in outputs:
            self._save(output, before, after)
        if self.keep is not None:
            hit = after.memory.events.hit & before.running if after.memory.events is not None else None
            self.taken.append(Taken(step, after.moved, outputs, hit))
            self.keep.append(before.value)
            if self.mesh is None:
                self.keep.note(after.memory.slopes)

    def _outputs_on_mesh(self, n: int, moved: Tensor) -> tuple[Output, ...]:
        assert self.mesh is not None
        start, end = self.mesh[n], self.mesh[n + 1]
        sign = 1.0 if end > start else -1.0
        inside = [k for k, t in enumerate(self.save_at) if sign * start < sign * t <= sign * end]
        return tuple(
            Output(k, 1.0 if self.save_at[k] == end else (self.save_at[k] - start) / (end - start), moved)
            for k in inside
        )

    def _outputs_adaptive(self, before: Iterate, after: Iterate, passed: int) -> tuple[Output, ...]:
        step: Step = after.memory.step
        assert step.t is not None
        assert step.end is not None
        assert after.moved is not None
        outputs = []
        together = step.t.shape[0] == 1
        for k in range(passed):
            index = before.memory.saved + k
            times: Tensor = after.memory.times
            theta = (times[index.clamp(max=len(self.save_at) - 1)] - step.t) / (step.end - step.t)
            if together:
                outputs.append(Output(self._count + k, theta.to(real(before.value.dtype)), after.moved))
            else:
                valid = after.moved & (k < after.memory.passed[:, 0])
                theta = torch.where(valid[:, None], theta, 1.0).to(real(before.value.dtype))
                outputs.append(Output(index[:, 0].clamp(max=len(self.save_at) - 1), theta, valid))
        self._count += passed
        return tuple(outputs)

    def _save(self, output: Output, before: Iterate, after: Iterate) -> None:
        if isinstance(output.theta, float) and output.theta == 1.0:
            self.saved.append(after.value)
            return
        value = interpolate(
            self.tableau, self.manifold, before.value, after.memory.step, after.memory.slopes, output.theta
        )
        if isinstance(output.place, int):
            self.saved.append(torch.where(output.valid[:, None], value, before.value))
            return
        rows = torch.arange(value.shape[0], device=value.device)
        if self.table is None:
            self.table = value.new_zeros(len(self.save_at), *value.shape)
        chosen = torch.where(output.valid[:, None], value, self.table[output.place, rows])
        # Written in place unless autograd watches.
        put = self.table.index_put if self.differentiable else self.table.index_put_
        self.table = put((output.place, rows), chosen)

    def values(self, end: Iterate) -> Tensor:
        """The states at the save times, shape (times, rows, numbers); rows that ended early hold their last value."""
        if not self.save_at:
            return end.value.new_zeros(0, *end.value.shape)
        if self.mesh is not None:
            return torch.stack(self.saved)
        reached = end.memory.saved
        if self.table is None:
            rest = [end.value] * (len(self.save_at) - len(self.saved))
            return torch.stack([*self.saved, *rest])
        order = torch.arange(len(self.save_at), device=reached.device)
        return torch.where((order[:, None] < reached[:, 0])[:, :, None], self.table, end.value)


@dataclass
class States:
    """The states at the starts of the steps, all of them kept.

    Attributes:
        kept: states by the number of their step.
        scales: of the retractions, where there is a manifold.
    """

    kept: dict[int, Tensor] = field(default_factory=dict)
    scales: list[Tensor] = field(default_factory=list)
    count: int = 0

    def append(self, state: Tensor) -> None:
        """The next step's start."""
        self.kept[self.count] = state
        self.count += 1

    def note(self, slopes: Sequence[Tensor]) -> None:
        """The slopes of an adaptive step just taken: not kept."""


class Slopes(States):
    """The slopes too, while they take no more than `MOST` bytes: then nothing is evaluated again on the way back.

    Attributes:
        slopes: of every step's stages; none of any step where they were too many.
    """

    MOST: ClassVar[int] = 2**27

    def __init__(self) -> None:
        super().__init__()
        self.slopes: list[Sequence[Tensor]] = []
        self._bytes = 0

    def note(self, slopes: Sequence[Tensor]) -> None:
        """Kept, or with this step all of them dropped."""
        self._bytes += sum(slope.numel() * slope.element_size() for slope in slopes)
        if self._bytes > self.MOST:
            self.slopes.clear()
        else:
            self.slopes.append(slopes)

    @property
    def whole(self) -> bool:
        """Whether there are slopes, and of all steps."""
        return 0 < len(self.slopes) == self.count


class Last(States):
    """No states at all, for steps that can be undone; only counts them."""

    def append(self, state: Tensor) -> None:
        """One more step."""
        self.count += 1


def interpolate(
    tableau: Tableau,
    manifold: Manifold | None,
    x: Tensor,
    step: Step,
    slopes: Sequence[Tensor],
    theta: float | Tensor,
) -> Tensor:
    """The continuous extension at theta in [0, 1] of a step from x, put back on the manifold."""
    value = along(x, step.h, dense_weights(tableau, theta), slopes)
    return value if manifold is None else manifold.retract(x, value).state
