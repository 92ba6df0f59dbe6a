"""The whole Jacobian of every row, with its graph."""

from __future__ import annotations

import torch
from torch import Tensor

from cde_nets.conditions.point import Point


def jacobian(point: Point) -> tuple[Point, Tensor]:
    """J, shape (rows, numbers, numbers), and the point without the rows where it is not finite.

    As many products as a row has numbers, all of them at once through torch.func.vmap, which f must allow.
    """
    return point.finite(_jacobian)


def _jacobian(point: Point) -> Tensor:
    rows, n = point.z.shape
    units = torch.eye(n, dtype=point.z.dtype, device=point.z.device)[:, None].expand(n, rows, n)
    return point.problem.pushforwards(point.z, units).permute(1, 2, 0)
