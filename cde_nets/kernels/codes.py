"""The kinds of family that kernels know, as the C interface numbers them."""

from __future__ import annotations

RIDGE, FEATURES, IMAGES = 0, 1, 2
