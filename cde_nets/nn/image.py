"""The network of the main experiment: convolutional fields on images, a few hundred trained numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from torch import nn

from cde_nets.configuration import from_dict, to_dict
from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields.base import Fields
from cde_nets.fields.convolutional import ConvFields, Kernel
from cde_nets.fields.spherical import SphericalFields
from cde_nets.nn.deskew import Deskew
from cde_nets.nn.flow import ControlledODE
from cde_nets.nn.lift import ConvLift
from cde_nets.nn.maps import AveragePool, Normalize, Shape
from cde_nets.nn.network import Network, Stage
from cde_nets.nn.readout import ChannelMeanReadout
from cde_nets.solver import RungeKutta
from cde_nets.solver.flow.tableau import tableau

Normalization = Literal["none", "deskew", "spread"]
# 2 GiB of float64 draws: past this a slip of the hand is likelier than a wish.
MOST_FROZEN = 2**28
# Of a state, a row of which is held at every step; of a field's degree; of steps on an interval.
MOST_STATE, MOST_DEGREE, MOST_STEPS = 2**24, 100, 10_000
MOST_SCALE = 1e30


@dataclass(frozen=True)
class ImageNetworkConfig:
    """Everything that fixes an image network but its trained numbers.

    A frozen random lift with stride 2, then one stage for each entry of `intervals`: a flow on the sphere along
    polynomial fields V_i(X) = K_i * phi(X), phi(r) = r + r^2/2 + .., and average pooling by 2 (not after the last).
    The readout is one scale times the spatial means of the first `classes` channels. Trained numbers:
    sum(intervals) * count + 1.

    Attributes:
        size: height and width of the images.
        classes: of the labels.
        normalization: of the images before the lift: "deskew" sets them upright and into the middle, "spread" scales
            them to one size as well (`Deskew`), "none" leaves them.
        channels: of every state, at least classes.
        intervals: of the control, for each stage.
        steps: of the method, on each interval.
        count: d, fields a family.
        kernel: "row", "stencil" or "dense", see `ConvFields`.
        kernel_size: of the fields, odd.
        degree: of the fields.
        orthogonal: orthonormal kernels, see `ConvFields.random`.
        tied: one family a stage, instead of one for each interval.
        method: "euler" or "rk4"; anything above Euler is projected on tangent fields first.
        control_scale: standard deviation of the controls before training.
        readout_scale: the readout's scale before training.
        seed: of everything that is drawn.

    Raises:
        ValueError: a number out of range or an unknown name, before anything is drawn.
    """

    size: int = 28
    classes: int = 10
    normalization: Normalization = "deskew"
    channels: int = 10
    intervals: tuple[int, ...] = (2, 2, 2)
    steps: int = 1
    count: int = 124
    kernel: Kernel = "row"
    kernel_size: int = 3
    degree: int = 2
    orthogonal: bool = True
    tied: bool = False
    method: str = "euler"
    control_scale: float = 0.1
    readout_scale: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "classes", "channels", "steps", "count", "kernel_size", "degree"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")
        if (
            not isinstance(self.intervals, tuple)
            or not self.intervals
            or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in self.intervals)
        ):
            raise ValueError(
                f"intervals must be one or more integers of at least 1, one a stage; got {self.intervals!r}."
            )
        for name, known in (("kernel", get_args(Kernel)), ("normalization", get_args(Normalization))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd; got {self.kernel_size}.")
        if self.channels < self.classes:
            raise ValueError(f"channels must be at least classes={self.classes}; got {self.channels}.")
        scales = self.control_scale, self.readout_scale
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in scales):
            raise ValueError(f"control_scale, readout_scale must be numbers; got {scales[0]!r}, {scales[1]!r}.")
        # Beyond single precision a number would become infinity.
        if not (all(abs(value) <= MOST_SCALE for value in scales) and self.control_scale >= 0):
            raise ValueError(
                "control_scale must be finite and >= 0, readout_scale finite; got "
                f"{scales[0]}, {scales[1]}. More than {MOST_SCALE:g} counts as infinite."
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed must be a non-negative integer; got {self.seed!r}.")
        for name in ("orthogonal", "tied"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false; got {getattr(self, name)!r}.")
        if self.degree > MOST_DEGREE or self.steps > MOST_STEPS:
            raise ValueError(
                f"degree must be at most {MOST_DEGREE}, steps at most {MOST_STEPS:,}; got {self.degree}, {self.steps}."
            )
        inputs = self.channels if self.kernel == "dense" else 1
        frozen = sum(self.intervals) * self.count * self.channels * inputs * self.kernel_size**2
        state = self.channels * ((self.size + 1) // 2) ** 2
        if state > MOST_STATE:
            raise ValueError(
                f"This network's first state would have {state:,} numbers an image, more than {MOST_STATE:,}: take "
                "smaller images or fewer channels."
            )
        if frozen > MOST_FROZEN:
            raise ValueError(
                f"This network would draw {frozen:,} frozen numbers, more than {MOST_FROZEN:,}: take fewer intervals, "
                "fields or channels."
            )
        tableau(self.method)
        smallest = (self.size + 1) // 2 >> len(self.intervals) - 1
        if smallest < 1:
            raise ValueError(f"{len(self.intervals)} stages halve images of size {self.size} to nothing; take fewer.")

    @property
    def trained_numbers(self) -> int:
        """M d + 1."""
        return sum(self.intervals) * self.count + 1

    def build(self) -> Network:
        """As `image_network`."""
        return image_network(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImageNetworkConfig:
        """The reverse of `to_dict`.

        Raises:
            ValueError: an unknown name, or a value out of range.
        """
        return from_dict(cls, values)


def image_network(config: ImageNetworkConfig) -> Network:
    """Draw the frozen part and the initial controls of the network that the configuration describes."""
    seeds = iter(np.random.SeedSequence(config.seed).generate_state(1 + 2 * sum(config.intervals)).tolist())
    lift = ConvLift(config.channels, size=config.size, seed=next(seeds))
    shape: Shape = lift.shape
    stages = []
    for place, intervals in enumerate(config.intervals):
        stages.append(_stage(config, shape, intervals, seeds, last=place == len(config.intervals) - 1))
        if place < len(config.intervals) - 1:
            shape = (shape[0], shape[1] // 2, shape[2] // 2)
    readout = ChannelMeanReadout(shape, config.classes, initial=config.readout_scale)
    # As wide as the digits of MNIST are on average, and as tall, in parts of the image's side.
    spread = (0.186 * config.size, 0.114 * config.size)
    normalization = {"none": None, "deskew": Deskew(), "spread": Deskew(spread)}[config.normalization]
    return Network(lift, stages, readout, normalization=normalization)


def _stage(config: ImageNetworkConfig, shape: Shape, intervals: int, seeds: Iterator[int], *, last: bool) -> Stage:
    def draw_fields() -> Fields:
        drawn = ConvFields.random(
            *shape,
            config.count,
            kernel=config.kernel,
            kernel_size=config.kernel_size,
            degree=config.degree,
            form="shared",
            orthogonal=config.orthogonal,
            seed=next(seeds),
        )
        return drawn if tableau(config.method).order == 1 else SphericalFields(drawn)

    families = draw_fields() if config.tied else [draw_fields() for _ in range(intervals)]
    control = PiecewiseConstantControl.random(intervals, config.count, scale=config.control_scale, seed=next(seeds))
    method = RungeKutta(config.method, steps=config.steps * intervals)
    flow = ControlledODE(families, control, method, manifold="sphere")
    return Stage(flow, None if last else nn.Sequential(AveragePool(shape), Normalize()))
