"""Networks: a frozen lift, stages of a flow and a fixed map, a readout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cde_nets.digests import tensor_bytes
from cde_nets.fields.base import Fields
from cde_nets.nn.flow import ControlledODE
from cde_nets.nn.readout import Readout


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


class Network(nn.Module):
    """Lift, stages, readout.

    Args:
        lift: from the data to states, frozen; None where the data are states.
        stages: in order, at least one.
        readout: from the end (and the start) to the output.

    Raises:
        ValueError: no stage, something else than stages or a readout, a lift with trained numbers, or spaces that do
            not fit where they are known.
    """

    def __init__(self, lift: nn.Module | None, stages: Iterable[Stage], readout: Readout) -> None:
        super().__init__()
        if lift is not None and any(True for _ in lift.parameters()):
            raise ValueError(f"The lift is frozen; {type(lift).__name__} has trained numbers.")
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
        self.lift = lift if lift is not None else nn.Identity()
        self.stages = nn.ModuleList(listed)
        self.readout = readout
        self._check_spaces()

    def forward(self, data: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """What the readout makes of the last stage's end, shape (batch, outputs)."""
        start = end = self.lift(data)
        for stage in self.stages:
            end = stage(end)
        out: Tensor = self.readout(end, start)
        return out

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

    def set_throw(self, throw: bool) -> None:
        """Set every flow's `throw`."""
        for flow in self.flows():
            flow.throw = throw

    @property
    def failed(self) -> Tensor:
        """The rows that failed in some flow of the last forward pass, shape (batch,); False without a flow or pass."""
        masks = [flow.failed for flow in self.flows() if flow.failed is not None]
        return torch.stack(masks).any(0) if masks else torch.zeros((), dtype=torch.bool)

    @property
    def trained_numbers(self) -> int:
        """How many numbers train, the readout's included."""
        return sum(p.numel() for p in self.parameters())

    @property
    def frozen_numbers(self) -> int:
        """How many frozen numbers the lift, the fields and the readout store."""
        trained = {name for name, _ in self.named_parameters()}
        stored = (value for name, value in self.state_dict().items() if name not in trained)
        return sum(value.numel() for value in stored if value.is_floating_point())

    def frozen_digest(self) -> str:
        """SHA-256 over the exact bytes of everything frozen, as hexadecimal text."""
        seen = hashlib.sha256()
        for name, module in sorted(self.named_modules(), key=lambda item: item[0]):
            if isinstance(module, Fields):
                seen.update(f"{name} {module.digest()}".encode())
        # Tables that are derived from the coefficients are not persistent and not part of what is frozen.
        trained = {name for name, _ in self.named_parameters()}
        for name, value in sorted(self.state_dict().items()):
            if name not in trained:
                seen.update(tensor_bytes(name, value))
        return seen.hexdigest()

    def describe(self) -> str:
        """Several lines: the lift, each stage, the readout, trained and frozen numbers."""
        lines = [f"lift     {_line(self.lift)}"]
        for number, stage in enumerate(self.flow_stages(), start=1):
            lines.append(f"stage {number}  {stage.flow.describe()}")
            lines.append(f"         then {_line(stage.after)}")
        lines.append(f"readout  {_line(self.readout)}")
        lines.append(f"trained numbers {self.trained_numbers:,}, frozen numbers {self.frozen_numbers:,}")
        return "\n".join(lines)


def _line(module: nn.Module) -> str:
    if isinstance(module, nn.Sequential):
        return ", ".join(_line(child) for child in module)
    return f"{type(module).__name__}({module.extra_repr()})"
