"""What a digest of tensors is made of."""

from __future__ import annotations

import json

import torch
from torch import Tensor


def tensor_bytes(name: str, value: Tensor) -> bytes:
    """A tensor's name, dtype, shape and exact values, whatever its device and its layout in memory."""
    head = json.dumps([name, str(value.dtype), list(value.shape)]).encode()
    return head + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
