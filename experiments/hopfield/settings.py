"""The sizes of the experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from experiments.hopfield.memories import FULL

PAPER_HIDDEN = 1024


@dataclass(frozen=True)
class Settings:
    """What a trial is, but for its number.

    Attributes:
        side: of the images, which have side^2 pixels.
        hidden: units besides the side^2 inputs and as many outputs.
        slope: b of the network.
        spread: the standard deviation of W at the beginning.
        rate: of Adam.
        epochs: passes over the images, an update an image.
        steps: forward, at most.
        noise: RBP's random z0 is uniform in [0, noise].
        corruption: the share of the ink that is taken from an image before the memory is asked.
        seed: of everything.
        digits: how many are learnt: 0, 1, ..
    """

    side: int
    hidden: int
    slope: float
    spread: float
    rate: float
    epochs: int
    steps: int = 50
    noise: float = 1.0
    corruption: float = 0.5
    seed: int = 0
    digits: int = 10

    @property
    def inputs(self) -> int:
        """Clamped units, and output units."""
        return self.side**2

    @property
    def free(self) -> int:
        """Hidden and output units."""
        return self.hidden + self.inputs

    @property
    def units(self) -> int:
        """All."""
        return self.free + self.inputs

    @property
    def excess(self) -> float:
        """|z0| / |g| of a random z0, as its root mean square, and the gradient of the loss in the state.

        The mean L1 loss has the gradient +-1/inputs in every output unit, whose norm is inputs^(-1/2).
        """
        return self.noise * math.sqrt(self.free / 3 * self.inputs)

    def radius_limit(self, K: int) -> float:
        """The spectral radius of J above which K updates of RBP leave more of z0 than the gradient is."""
        return float(self.excess ** (-1 / K))


# The settings behind the published table.
PAPER = Settings(side=FULL, hidden=PAPER_HIDDEN, slope=0.5, spread=1e-3, rate=1e-3, epochs=1000)


def smaller(side: int, hidden: int, *, slope: float, rate: float, epochs: int, digits: int = 10) -> Settings:
    """A smaller experiment with the paper's excess of z0 and its |J| at the beginning.

    |J| is about b/4 times the norm of W between free units, and that is as their root; |z0| / |g| falls with the size
    at a fixed noise.
    """
    made = Settings(side, hidden, slope, 1.0, rate, epochs)
    spread = PAPER.spread * PAPER.slope / slope * math.sqrt(PAPER.free / made.free)
    return Settings(side, hidden, slope, spread, rate, epochs, noise=PAPER.excess / made.excess, digits=digits)
