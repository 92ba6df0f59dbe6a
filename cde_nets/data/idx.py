"""IDX, the format MNIST is published in: magic 0 0 type ndim, big-endian uint32 sizes, then the values."""

import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cde_nets.data.packed import read_unpacked

UINT8 = 0x08
MAX_DIMS = 4
# The largest published file, 60,000 images, unpacks to 47,040,016 bytes.
MAX_BYTES = 1 << 26


def read_idx(raw: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Parses one IDX file of unsigned bytes.

    Args:
        raw: the whole unpacked file.
        name: what to call it in errors, usually its path.

    Returns:
        A writable uint8 array of the 1 to 4 dimensions that the header states.

    Raises:
        ValueError: wrong magic, another type than unsigned byte, more than 4 dimensions, an empty dimension, or
            more or fewer bytes than the header promises.
    """
    if len(raw) < 4:
        raise ValueError(f"{name}: found {len(raw)} bytes, expected an IDX file, whose magic alone has 4")
    zeros, kind, ndim = raw[:2], raw[2], raw[3]
    if zeros != b"\0\0" or kind != UINT8 or not 1 <= ndim <= MAX_DIMS:
        raise ValueError(
            f"{name}: found magic {raw[:4].hex(' ')}, expected 00 00 08 NN with NN from 01 to {MAX_DIMS:02x} "
            f"(IDX, unsigned bytes, NN dimensions)"
        )
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise ValueError(f"{name}: found {len(raw)} bytes, expected at least {start}: the header is truncated")
    shape = struct.unpack_from(f">{ndim}I", raw, 4)
    # Python integers do not overflow, and the length is known before anything is allocated for the header's sake.
    expected = start + math.prod(shape)
    if 0 in shape:
        raise ValueError(f"{name}: found shape {shape}, expected every dimension to be at least 1")
    if len(raw) != expected:
        what = "truncated" if len(raw) < expected else "followed by other bytes"
        raise ValueError(f"{name}: found {len(raw)} bytes, expected {expected} for shape {shape}: the file is {what}")
    # A copy: bytes are read-only, and torch.from_numpy warns of arrays that are.
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape).copy()


def read_idx_file(path: str | Path, *, max_bytes: int = MAX_BYTES) -> npt.NDArray[np.uint8]:
    """Reads one IDX file, plain or gzipped.

    Args:
        path: the file; whether it is gzipped is seen from its bytes.
        max_bytes: the most bytes it may unpack to.

    Returns:
        A writable uint8 array of the shape that the file states.

    Raises:
        ValueError: not IDX (see `read_idx`), a damaged gzip stream, or more than ``max_bytes`` unpacked.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as stream:
        raw = read_unpacked(stream, limit=max_bytes, name=str(path))
    return read_idx(raw, str(path))
