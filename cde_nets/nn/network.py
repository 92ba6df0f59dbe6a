"""Networks: a frozen lift, stages of a flow and a fixed map, a readout."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from cde_nets.door import floats
from cde_nets.nn.flow import ControlledODE
from cde_nets.nn.lift import ConvLift
from cde_nets.nn.readout import Readout
from cde_nets.nn.trainable import Trainable


class Stage(nn.Module):
    """One flow and the fixed map after it.

    Args:
        flow: x -> X_1.
        after: a map without trained numbers, such as pooling; None for none.
    """

    def __init__(self, flow: ControlledODE, after: nn.Module | None = None) -> None:
        super().__init__()
        if not isinstance(flow, ControlledODE):
            raise ValueError(f"A stage begins with a ControlledODE; got a {type(flow).__name__}.")
        if after is not None and any(True for _ in after.parameters()):
            raise ValueError(f"The map after a flow is fixed; {type(after).__name__} has trained numbers.")
        self.flow = flow
        self.after = after if after is not None else nn.Identity()

    def forward(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch after"]:
        """Shape (batch, dim) to (batch, dimension after the fixed map)."""
        out: Tensor = self.after(self.flow(x))
        return out


class Network(Trainable):
    """Lift, stages, readout.

    Args:
        lift: from the data to states, frozen; None where the data are states.
        stages: in order, at least one.
        readout: from the end (and the start) to the output.
        normalization: a fixed map of the data before the lift, from a space to itself, such as `Deskew`; None for none.

    Raises:
        ValueError: no stage, something else than stages or a readout, a lift or a normalization with trained numbers,
            or spaces that do not fit where they are known.
    """

    def __init__(
        self,
        lift: nn.Module | None,
        stages: Iterable[Stage],
        readout: Readout,
        *,
        normalization: nn.Module | None = None,
    ) -> None:
        super().__init__()
        for name, module in (("lift", lift), ("normalization", normalization)):
            if module is not None and any(True for _ in module.parameters()):
                raise ValueError(f"The {name} is frozen; {type(module).__name__} has trained numbers.")
        listed = [stages] if isinstance(stages, nn.Module) else list(stages)
        for stage in listed:
            if not isinstance(stage, Stage):
                raise ValueError(f"stages must be a list of Stage; got a {type(stage).__name__}: write [Stage(flow)].")
        if not listed:
            raise ValueError("A network needs at least one stage.")
        if not isinstance(readout, Readout):
            raise ValueError(
                f"readout must be a Readout; got a {type(readout).__name__}. LinearReadout is a linear one."
            )
        self.normalization = normalization if normalization is not None else nn.Identity()
        self.lift = lift if lift is not None else nn.Identity()
        self.stages = nn.ModuleList(listed)
        self.readout = readout
        self._check_spaces()

    def prepare(self, data: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """The normalization.

        Raises:
            ValueError: images that the lift would refuse.
        """
        # A normalization stays in its space: only the lift knows which that is.
        if isinstance(self.lift, ConvLift):
            floats("images", data, (None, self.lift.size, self.lift.size), self.lift.kernels)
        prepared: Tensor = self.normalization(data)
        return prepared

    def of_prepared(self, data: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """What the readout makes of the last stage's end, shape (batch, outputs)."""
        start = end = self.lift(data)
        for stage in self.stages:
            end = stage(end)
        out: Tensor = self.readout(end, start)
        return out

    def start(self, data: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch dim"]:
        """Where the first flow starts: the data normalized and lifted, shape (batch, dim)."""
        state: Tensor = self.lift(self.prepare(data))
        return state

    def _check_spaces(self) -> None:
        space: object = getattr(self.lift, "dim", None)
        for number, stage in enumerate(self.flow_stages(), start=1):
            if space is not None and space != stage.flow.dim:
                raise ValueError(f"Stage {number} flows on R^{stage.flow.dim}; what comes in is in R^{space}.")
            space = stage.flow.dim if isinstance(stage.after, nn.Identity) else None

    def flow_stages(self) -> list[Stage]:
        """The stages, in order."""
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def flows(self) -> list[ControlledODE]:
        """The flows, in order."""
        return [stage.flow for stage in self.flow_stages()]

    def readout_parameters(self) -> list[nn.Parameter]:
        """The readout's numbers."""
        return list(self.readout.parameters())

    def describe(self) -> str:
        """Several lines: the lift, each stage, the readout, trained and frozen numbers."""
        lines = [] if isinstance(self.normalization, nn.Identity) else [f"first    {_line(self.normalization)}"]
        lines.append(f"lift     {_line(self.lift)}")
        for number, stage in enumerate(self.flow_stages(), start=1):
            lines.append(f"stage {number}  {stage.flow.describe()}")
            lines.append(f"         then {_line(stage.after)}")
        lines.append(f"readout  {_line(self.readout)}")
        lines.append(super().describe())
        return "\n".join(lines)


def _line(module: nn.Module) -> str:
    if isinstance(module, nn.Sequential):
        return ", ".join(_line(child) for child in module)
    return f"{type(module).__name__}({module.extra_repr()})"
