"""Bytes that may be gzipped, read with a bound on what they unpack to."""

import gzip
import zlib
from typing import IO

GZIP_MAGIC = b"\x1f\x8b"


def read_unpacked(stream: IO[bytes], *, limit: int, name: str) -> bytes:
    """Reads a stream whole and unpacks it if it is gzipped.

    The first two bytes decide, not the name: servers and browsers unpack a file and keep its ``.gz``, and no IDX
    file starts like a gzip stream.

    Args:
        stream: a seekable binary stream at its start.
        limit: the most bytes that may come out, unpacked; never more than ``limit + 1`` are held.
        name: what to call the stream in errors.

    Returns:
        The unpacked bytes, at most ``limit``.

    Raises:
        ValueError: more than ``limit`` bytes, or a damaged gzip stream.
    """
    packed = stream.read(2) == GZIP_MAGIC
    stream.seek(0)
    try:
        # One byte past the limit: enough to know, and reaching the end makes gzip check its checksum.
        raw = gzip.GzipFile(fileobj=stream).read(limit + 1) if packed else stream.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{name}: found a damaged gzip stream ({error}), expected one that unpacks") from error
    if len(raw) > limit:
        raise ValueError(f"{name}: found more than {limit} bytes unpacked, expected at most {limit}")
    return raw
