import contextlib
import gzip
import io
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cde_nets.data import read_idx, read_idx_file
from cde_nets.data.packed import read_unpacked

GOOD = struct.pack(">4B2I", 0, 0, 8, 2, 2, 3) + bytes(range(6))


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 28, 28), (2, 3, 4, 5)])
def test_round_trip(shape, idx_bytes):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    parsed = read_idx(idx_bytes(array), "x")
    assert parsed.dtype == np.uint8
    assert parsed.flags.writeable
    np.testing.assert_array_equal(parsed, array)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "found 0 bytes"),
        (b"\0\0\x08", "found 3 bytes"),
        (b"\1\0\x08\1" + GOOD[4:], "found magic 01 00 08 01, expected 00 00 08 NN"),
        (b"\0\0\x0d\1" + GOOD[4:], "found magic 00 00 0d 01"),
        (b"\0\0\x08\0" + GOOD[4:], "found magic 00 00 08 00"),
        (b"\0\0\x08\5" + bytes(40), "found magic 00 00 08 05"),
        (b"\0\0\x08\3" + bytes(8), "found 12 bytes, expected at least 16: the header is truncated"),
        (GOOD[:-1], "found 17 bytes, expected 18 for shape (2, 3): the file is truncated"),
        (GOOD + b"!", "found 19 bytes, expected 18 for shape (2, 3): the file is followed by other bytes"),
        (struct.pack(">4B2I", 0, 0, 8, 2, 0, 3), "found shape (0, 3), expected every dimension to be at least 1"),
        (struct.pack(">4B4I", 0, 0, 8, 4, *[2**32 - 1] * 4), f"expected {20 + (2**32 - 1) ** 4}"),
    ],
)
def test_malformed(raw, message):
    with pytest.raises(ValueError, match=r"^some name: ") as caught:
        read_idx(raw, "some name")
    assert message in str(caught.value)


def parses_or_says_why(raw):
    with contextlib.suppress(ValueError):
        array = read_idx(raw, "x")
        assert array.size + 4 + 4 * array.ndim == len(raw)
        assert array.tobytes() == raw[4 + 4 * array.ndim :]


@given(st.binary(max_size=64) | st.binary(max_size=40).map(lambda tail: b"\0\0\x08" + tail))
@example(b"\0\0\x08\x02" + b"\xff" * 8)
def test_random_bytes(raw):
    parses_or_says_why(raw)


@given(st.data())
def test_mutations(data):
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    parses_or_says_why(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


@given(st.data())
def test_mutated_gzip(data):
    raw = bytearray(gzip.compress(GOOD, mtime=0))
    raw[data.draw(st.integers(2, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        assert len(read_unpacked(io.BytesIO(bytes(raw)), limit=100, name="x")) <= 100


@pytest.mark.parametrize("name", ["file", "file.gz"])
@pytest.mark.parametrize("packed", [False, True])
def test_file(tmp_path, name, packed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(GOOD) if packed else GOOD)
    np.testing.assert_array_equal(read_idx_file(path), np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("packed", [False, True])
def test_file_is_bounded(tmp_path, packed):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(10_000_000)) if packed else bytes(10_000))
    with pytest.raises(ValueError, match=r"bomb\.gz: found more than 1000 bytes unpacked"):
        read_idx_file(path, max_bytes=1000)


@pytest.mark.parametrize("cut", [4, 15, -1])
def test_damaged_gzip(tmp_path, cut):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(GOOD)[:cut])
    with pytest.raises(ValueError, match=r"file\.gz: found a damaged gzip stream"):
        read_idx_file(path)
