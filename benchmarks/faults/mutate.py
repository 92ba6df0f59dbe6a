"""Damage to files: of their bytes, and of the JSON in them.

Small and seeded on purpose: an input is made of a reader's name, a seed and a number alone, so that those three words
of a report make it again. A coverage-guided fuzzer would have to be run again for that.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from random import Random
from typing import Any

# Ends of the ranges of integers, and one beyond.
_EDGES = (0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (
    b"", b"\x00", b"\xff" * 8, b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n", b"\x1f\x8b", b"PK\x03\x04",
    b"../../outside", b"/etc/passwd", b"NaN", b"Infinity", b"-1", b"1e999", b"0.1", b"1/0", b"9" * 5000, b"null",
    b"true", b'"x"', b"{}", b"[]", b"[" * 3000, b"(" * 300, b"-" * 3000, b"__import__('os').system('true')",
    b"cos\nsystem\n(S'true'\ntR.", b"x**x", b"x**64", b"**9999999", b",", b"=", b"#", b"\n", b'"', b"\\u0000",
    b"\\ud800",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 1000, 2**31, 2**40, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "1/0", "1e999", "../../outside", "__import__('os').system('true')", "\ud800", "\x00", [], {},
    [[]], [[[]]], {"x": 1}, [0] * 300,
)  # fmt: skip
_DEEPEST = 3000


def damaged(rng: Random, whole: bytes, others: Sequence[bytes]) -> bytes:
    """Bytes with one to four faults in them.

    Args:
        rng: decides which.
        whole: a good file.
        others: good files, of which parts are put in.
    """
    raw = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = rng.randrange(len(raw) + 1)
        length = min(rng.choice((1, 2, 4, 8, 64, 1024)), len(raw) - place)
        fault = rng.randrange(9)
        if fault == 0 and place < len(raw):
            raw[place] ^= 1 << rng.randrange(8)
        elif fault == 1:
            raw[place : place + length] = rng.randbytes(length)
        elif fault == 2:
            del raw[place:]
        elif fault == 3:
            del raw[place : place + length]
        elif fault == 4:
            raw[place:place] = raw[place : place + length]
        elif fault == 5:
            raw[place : place + rng.choice((0, length))] = rng.choice(_WORDS)
        elif fault == 6:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(_EDGES) % 2 ** (8 * size)
            raw[place : place + size] = number.to_bytes(size, rng.choice(("big", "little")))
        elif fault == 7:
            other = rng.choice(others)
            cut = rng.randrange(len(other) + 1)
            raw[place : place + length] = other[cut : cut + rng.choice((8, 64, 4096))]
        else:
            _renumber(rng, raw)
    return bytes(raw)


def _renumber(rng: Random, raw: bytearray) -> None:
    """Another number in the place of one that is written in digits."""
    digits = [k for k, byte in enumerate(raw[:100_000]) if 48 <= byte < 58]
    if digits:
        start = rng.choice(digits)
        end = start
        while end < len(raw) and 48 <= raw[end] < 58:
            end += 1
        raw[start:end] = str(rng.choice((*_EDGES, -1, 10**18, 10**400))).encode()


def damaged_json(rng: Random, value: Any) -> Any:
    """A JSON value with one to three parts replaced, removed, doubled or put elsewhere."""
    made = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(made))
        if not places:
            break
        within, key = rng.choice(places)
        fault = rng.randrange(6)
        if fault <= 2:
            within[key] = copy.deepcopy(rng.choice(_VALUES))
        elif fault == 3:
            del within[key]
        elif fault == 4:
            other, name = rng.choice(places)
            within[key] = copy.deepcopy(other[name])
        elif isinstance(within, list):
            within.insert(key, copy.deepcopy(within[key]))
        else:
            within[rng.choice(("x", "", "__class__", "step", "self", "\ud800"))] = copy.deepcopy(rng.choice(_VALUES))
    return made


def _places(value: Any) -> Any:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(inner):
        yield value, key
        yield from _places(part)


def json_bytes(rng: Random, value: Any) -> bytes:
    """JSON text, now and then of a value within so many lists that a parser by recursion fails."""
    text = json.dumps(value)
    if rng.random() < 0.01:
        text = "[" * _DEEPEST + text + "]" * _DEEPEST
    return text.encode()


def damaged_text(rng: Random, whole: bytes, others: Sequence[bytes]) -> bytes:
    """A JSON text that is damaged in its values, or else in its bytes."""
    if rng.random() < 0.6:
        return json_bytes(rng, damaged_json(rng, json.loads(whole)))
    return damaged(rng, whole, others)


def damaged_lines(rng: Random, whole: bytes, others: Sequence[bytes]) -> bytes:
    """JSON lines of which one is damaged in its values, or any in their bytes."""
    lines = whole.splitlines()
    if rng.random() < 0.6:
        place = rng.randrange(len(lines))
        lines[place] = json_bytes(rng, damaged_json(rng, json.loads(lines[place])))
        return b"\n".join(lines) + b"\n"
    return damaged(rng, whole, others)
