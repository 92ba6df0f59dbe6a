"""The four published MNIST files and how to know them: by the bytes they unpack to."""

import hashlib
import io
from dataclasses import dataclass
from typing import IO

from cde_nets.data.packed import read_unpacked


class SourceError(Exception):
    """A source that cannot give the data; its message is the reason."""


@dataclass(frozen=True)
class PublishedFile:
    """One published file.

    Attributes:
        name: its name, unpacked.
        size: its length in bytes, unpacked.
        md5: of the unpacked bytes. Packed ones differ from copy to copy, so no digest of theirs is used.
    """

    name: str
    size: int
    md5: str


TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"

# Small ones first: a source that is wrong shows it before 10 MB are fetched.
FILES = (
    PublishedFile(TEST_LABELS, 10_008, "27ae3e4e09519cfbb04c329615203637"),
    PublishedFile(TRAIN_LABELS, 60_008, "a25bea736e30d166cdddb491f175f624"),
    PublishedFile(TEST_IMAGES, 7_840_016, "2646ac647ad5339dbf082846283269ea"),
    PublishedFile(TRAIN_IMAGES, 47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
)


def read_verified(stream: IO[bytes], file: PublishedFile, where: str) -> bytes:
    """Reads, unpacks and verifies one published file.

    Args:
        stream: a seekable binary stream at its start, gzipped or plain.
        file: what it should be.
        where: what to call the stream in errors: a path or a URL.

    Returns:
        The unpacked bytes, whose md5 is the published one.

    Raises:
        ValueError: a damaged gzip stream, or other bytes than the published ones.
    """
    raw = read_unpacked(stream, limit=file.size, name=where)
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if len(raw) != file.size or md5 != file.md5:
        raise ValueError(
            f"{where}: found {len(raw)} bytes with md5 {md5}, "
            f"expected {file.size} bytes with md5 {file.md5} (both unpacked)"
        )
    return raw


def verify(raw: bytes, file: PublishedFile, where: str) -> bytes:
    """As `read_verified`, from bytes already in memory."""
    return read_verified(io.BytesIO(raw), file, where)
