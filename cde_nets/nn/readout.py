"""Readouts: what turns X_1, or X_1 - x, into y."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cde_nets.door import floats
from cde_nets.fields import draw
from cde_nets.nn.maps import Shape
from cde_nets.options import finite, positive


class Readout(nn.Module, ABC):
    """From the last flow's end and the first flow's start to the output."""

    @abstractmethod
    def forward(self, end: Float[Tensor, "batch dim"], start: Float[Tensor, "batch start"]) -> Tensor:
        """The output, shape (batch, outputs)."""


class DifferenceReadout(Readout):
    """y = lambda (X_1 - x) with one trained number lambda: the readout of the main theorem."""

    def __init__(self, initial: float = 1.0) -> None:
        super().__init__()
        self.lam = _scale(initial)

    def forward(self, end: Float[Tensor, "batch dim"], start: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Shapes (batch, dim) and (batch, dim) to (batch, dim).

        Raises:
            ValueError: start and end differ in shape, as they do where a fixed map between flows changes the space.
        """
        floats("end", end, (None, None), self.lam)
        floats("start", start, (None, None), self.lam)
        if end.shape != start.shape:
            raise ValueError(
                f"lambda (X_1 - x) needs a start and an end in one space; got {tuple(start.shape)} and "
                f"{tuple(end.shape)}. Use another readout after pooling."
            )
        return self.lam * (end - start)


class ChannelMeanReadout(Readout):
    """Logit c is one trained scale times the spatial mean of channel c.

    Args:
        shape: (channels, height, width) of the state that comes in.
        classes: how many channels are read, at most channels.
        initial: of the scale.

    Raises:
        ValueError: more classes than channels.
    """

    def __init__(self, shape: Shape, classes: int = 10, *, initial: float = 10.0) -> None:
        super().__init__()
        if not isinstance(shape, tuple | list) or len(shape) != 3:
            raise ValueError(f"shape must be (channels, height, width); got {shape!r}.")
        for value in shape:
            positive("shape", value)
        if not isinstance(classes, int) or not 1 <= classes <= shape[0]:
            raise ValueError(f"classes must lie between 1 and the {shape[0]} channels; got {classes}.")
        self.shape, self.classes = shape, classes
        self.scale = _scale(initial)

    def forward(
        self, end: Float[Tensor, "batch dim"], start: Float[Tensor, "batch start"]
    ) -> Float[Tensor, "batch classes"]:
        """Shape (batch, dim) to (batch, classes)."""
        channels, dim = self.shape[0], math.prod(self.shape)
        floats("end", end, (None, dim), self.scale)
        return self.scale * end.reshape(end.shape[0], dim // channels, channels).mean(1)[:, : self.classes]

    def extra_repr(self) -> str:
        """Shown by print(readout)."""
        return f"means of {self.classes} of {self.shape[0]} channels, one trained scale"


class AnchorReadout(Readout):
    """Logit c is one trained scale times <X_1, a_c> / sqrt(dim), a_c frozen orthonormal anchors.

    Args:
        dim: of the state that comes in, at least classes.
        classes: how many anchors.
        seed: of the anchors.
        initial: of the scale.
        dtype: of the anchors; torch's default dtype where None.

    Raises:
        ValueError: more classes than dimensions.
    """

    anchors: Tensor

    def __init__(
        self, dim: int, classes: int = 10, *, seed: int, initial: float = 10.0, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        positive("dim", dim)
        if not isinstance(classes, int) or not 1 <= classes <= dim:
            raise ValueError(f"classes must lie between 1 and the dimension {dim}; got {classes}.")
        q, r = np.linalg.qr(draw.generator(seed).standard_normal((dim, classes)))
        self.register_buffer("anchors", draw.as_buffer((q * np.sign(np.diag(r))).T, dtype))
        self.scale = _scale(initial)

    def forward(
        self, end: Float[Tensor, "batch dim"], start: Float[Tensor, "batch start"]
    ) -> Float[Tensor, "batch classes"]:
        """Shape (batch, dim) to (batch, classes)."""
        floats("end", end, (None, self.anchors.shape[1]), self.anchors)
        logits: Tensor = self.scale / end.shape[1] ** 0.5 * (end @ self.anchors.mT)
        return logits

    def extra_repr(self) -> str:
        """Shown by print(readout)."""
        return f"{self.anchors.shape[0]} frozen anchors in R^{self.anchors.shape[1]}, one trained scale"


class LinearReadout(Readout):
    """y = W X_1 + b, trained: outputs * (dim + 1) numbers, usually far more than the controls."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        positive("dim", dim)
        positive("outputs", outputs)
        self.linear = nn.Linear(dim, outputs)

    def forward(
        self, end: Float[Tensor, "batch dim"], start: Float[Tensor, "batch start"]
    ) -> Float[Tensor, "batch outputs"]:
        """Shape (batch, dim) to (batch, outputs)."""
        floats("end", end, (None, self.linear.in_features), self.linear.weight)
        out: Tensor = self.linear(end)
        return out


def _scale(initial: float) -> nn.Parameter:
    """One trained number."""
    if not finite(initial):
        raise ValueError(f"initial must be a finite number; got {initial!r}.")
    return nn.Parameter(torch.tensor(float(initial)))
