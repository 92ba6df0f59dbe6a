"""What others have published: test accuracy in percent at so many trained numbers, with its source."""

from __future__ import annotations

# Li, Farkhoor, Liu and Yosinski, "Measuring the intrinsic dimension of objective landscapes" (2018): a LeNet in random
# subspaces, read off their figure.
SUBSPACES = {100: 75.4, 300: 90.9, 750: 94.5, 1500: 96.9, 3000: 98.05, 5000: 98.26, 10000: 98.60}
# The best small networks of any kind that we know of, trained fully; most were chosen on the test images, that of 697
# numbers as the best epoch of some 700 runs.
SMALL = {697: 99.03, 3000: 99.10, 5000: 99.52}
# Neural ODEs: Dupont, Doucet and Teh, "Augmented neural ODEs" (2019), Massaroli et al., "Dissecting neural ODEs"
# (2020), Chen et al., "Neural ordinary differential equations" (2018).
ODES = {"NODE": (17000, 96.9), "ANODE": (21000, 98.9), "IL-NODE": (21000, 99.25), "ODE-Net": (208000, 99.58)}
# What a frozen field or a random subspace has reached at most, by the numbers allowed.
FROZEN_BEST = SUBSPACES
