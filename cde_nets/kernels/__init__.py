"""Whole flows in one kernel, all depths at once: C++ for the CPU, Triton for CUDA, each equal to the plain steps."""

from __future__ import annotations

from cde_nets.kernels.codes import FEATURES, IMAGES, RIDGE
from cde_nets.kernels.coverage import Whole, enabled, plain_steps, whole
from cde_nets.kernels.families import Packed, packed
from cde_nets.kernels.native import Native, native
from cde_nets.kernels.operators import flow, flow_backward

__all__ = [
    "FEATURES",
    "IMAGES",
    "RIDGE",
    "Native",
    "Packed",
    "Whole",
    "enabled",
    "flow",
    "flow_backward",
    "native",
    "packed",
    "plain_steps",
    "whole",
]
