"""An npz file read with a bound on what it unpacks to, and never unpickled.

An npz is a zip of npy files. Each states its unpacked length in the zip's directory and its shape in its own header;
both are read and compared before anything is allocated for their sake.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

# Pubmed's arrays unpack to some 8 MB.
MAX_BYTES = 1 << 26
MAX_ARRAYS = 64
# Longer headers belong to dtypes with many fields, and there are none here.
MAX_HEADER = 4096

Array = npt.NDArray[Any]


def read_npz(raw: bytes, name: str, *, max_bytes: int = MAX_BYTES) -> dict[str, Array]:
    """Reads all arrays of an npz file.

    Args:
        raw: the whole file.
        name: what to call it in errors, usually its path.
        max_bytes: the most that the arrays may unpack to together.

    Returns:
        Writable arrays by name, without their ``.npy``.

    Raises:
        ValueError: no zip file, one that is truncated or damaged, an array twice, something that is no array, an array
            of Python objects (it would have to be unpickled), a header that promises more or less than there is, or
            more than ``max_bytes``.
    """
    # What a zip file may have in front of it, NumPy does not read either.
    if raw[:2] != b"PK":
        raise ValueError(
            f"{name}: found no readable zip (it begins with {raw[:4]!r}), expected an npz file, which is one"
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except Exception as error:  # a damaged directory meets BadZipFile, NotImplementedError, struct.error and others
        raise ValueError(f"{name}: found no readable zip ({error}), expected an npz file, which is one") from error
    with archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(members) > MAX_ARRAYS:
            raise ValueError(f"{name}: found {len(members)} arrays, expected at most {MAX_ARRAYS}")
        twice = sorted({one for one in names if names.count(one) > 1})
        if twice:
            raise ValueError(f"{name}: found {twice[0]} more than once, expected every array once")
        total = sum(member.file_size for member in members)
        if total > max_bytes:
            raise ValueError(f"{name}: found {total} bytes unpacked, expected at most {max_bytes}")
        return {member.filename.removesuffix(".npy"): _member(archive, member, name) for member in members}


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Array:
    where = f"{name}: {member.filename}"
    if not member.filename.endswith(".npy"):
        raise ValueError(f"{where}: found a file that is no .npy, expected arrays alone")
    try:
        # zipfile gives no more than the length stated, and checks the checksum at the end.
        body = archive.read(member)
    except Exception as error:  # zipfile and its decompressors have no common base
        raise ValueError(f"{where}: found a damaged or locked member ({error}), expected one that unpacks") from error
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        # NumPy warns of headers that Python 2 wrote: they are read all the same.
        with warnings.catch_warnings(action="ignore"):
            shape, _, dtype = header(stream, max_header_size=MAX_HEADER)
    except KeyError as error:
        raise ValueError(f"{where}: found npy format {error}, expected 1.0 or 2.0") from error
    except Exception as error:  # numpy parses headers by Python's own parser, whose errors have no common base
        raise ValueError(f"{where}: found no npy header ({error}), expected one") from error
    if dtype.hasobject:
        raise ValueError(f"{where}: found an array of Python objects, expected plain numbers or strings (no pickles)")
    # Python integers do not overflow; a negative length would make a promise that fits by accident.
    expected, found = math.prod(shape) * dtype.itemsize, len(body) - stream.tell()
    if min(shape, default=0) < 0 or found != expected:
        raise ValueError(f"{where}: found {found} bytes, expected {expected} for {dtype} of shape {shape}")
    stream.seek(0)
    with warnings.catch_warnings(action="ignore"):
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array
