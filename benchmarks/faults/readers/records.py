"""Readers of what experiments and benchmarks keep: JSON lines, TOML, the record of speed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load

from benchmarks.faults.mutate import damaged, damaged_lines, damaged_text
from benchmarks.faults.readers.base import Maker, Reader, same
from benchmarks.faults.readers.runs import forged
from benchmarks.flows.record import Record
from cde_nets.texts import read_utf8
from experiments.frontier import certificates, results
from experiments.frontier.plan import FOLDER, GROUPS, entries
from experiments.kept import Kept, read_lines
from experiments.states import KIND, read_state, write_state

JACOBIAN = {"images": 64, "rank": 640, "outputs": 640, "numbers": 745}
DOCS = Path(__file__).parents[3] / "docs" / "results"


def _lines(folder: Path) -> Reader:
    good = b"".join(line + b"\n" for line in (DOCS / "interpolation.jsonl").read_bytes().splitlines()[:4])
    needed = ("part", "seed")

    def read(path: Path, raw: bytes) -> None:
        rows = read_lines(path, needed)
        same(json.dumps(rows), json.dumps([json.loads(line) for line in raw.decode().splitlines()]), "rows")
        same(all(name in row for row in rows for name in needed), True, "names")

    return Reader("JSON lines of experiments: `read_lines`", lambda rng: damaged_lines(rng, good, [good]), read)


def _kept(folder: Path) -> Reader:
    settings = {"steps": 3, "rate": 0.5, "of": ["a", "b"]}
    rows = [{"seed": seed, "error": 0.1 * seed, "settings": settings} for seed in range(3)]
    good = "".join(json.dumps(row) + "\n" for row in rows).encode()

    def read(path: Path, raw: bytes) -> None:
        found = Kept(path, settings, ("seed",))
        same(all(row["settings"] == settings for row in found.rows), True, "settings")
        same(len(found.rows), len(raw.decode().splitlines()), "lines")

    return Reader("runs that experiments keep: `Kept`", lambda rng: damaged_lines(rng, good, [good]), read)


def _states(folder: Path) -> Reader:
    network = torch.nn.Linear(3, 2)
    descent = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    descent.step()
    kept = {"of": "a run", "model": network.state_dict(), "descent": descent.state_dict(), "history": [[0.5, None]]}
    good = folder / "good.safetensors"
    write_state(good, kept)
    make = forged([good.read_bytes()], KIND)

    def read(path: Path, raw: bytes) -> None:
        found = read_state(path, torch.device("cpu"), ("of",))
        again = folder / "again.safetensors"
        write_state(again, found)
        # Numbers as bytes: NaN is not equal to itself.
        written, given = (
            {value.numpy().tobytes() for value in load(one).values()} for one in (again.read_bytes(), raw)
        )
        same(written <= given, True, "whether all tensors are the file's")

    return Reader("runs that are not done: `read_state`", make, read)


def _frontier(folder: Path) -> Reader:
    good = b"".join(line + b"\n" for line in (DOCS / "frontier.jsonl").read_bytes().splitlines()[:3])
    plan = entries()
    out = folder / "frontier"
    out.mkdir(exist_ok=True)

    def read(path: Path, raw: bytes) -> None:
        (out / "results.jsonl").write_bytes(raw)
        rows = results.collect(out, plan, 28)
        lines = [json.loads(line) for line in raw.decode().splitlines()]
        same(all(row in lines for row in rows), True, "whether all rows are the file's")

    return Reader("results of the frontier: `collect`", lambda rng: damaged_lines(rng, good, [good]), read, named=False)


def _proofs(folder: Path) -> Reader:
    stage = {"points": 4, "dim": 490, "depth": 2, "proved": True, "scope": "sphere", "rank": 1956, "full_rank": 1956}
    whole = {"seed": 1, "stages": [stage, {**stage, "proved": False}], "jacobian": JACOBIAN}
    good = json.dumps({"100": whole, "750": whole}).encode()

    def read(path: Path, raw: bytes) -> None:
        same(json.dumps(certificates.read(path)), json.dumps(json.loads(raw)), "proofs")
        certificates.table(certificates.read(path))

    return Reader("proofs of the frontier: `certificates.read`", lambda rng: damaged_text(rng, good, [good]), read)


def _speed(folder: Path) -> Reader:
    good = (DOCS / "speed.json").read_bytes()

    def read(path: Path, raw: bytes) -> None:
        again = json.loads(Record.from_json(read_utf8(path)).to_json())
        same(_missing(json.loads(raw), again), [], "values")

    return Reader("the record of speed: `Record.from_json`", lambda rng: damaged_text(rng, good, [good]), read,
                  named=False)  # fmt: skip


def _missing(said: Any, found: Any) -> list[Any]:
    """What of one JSON value does not stand at the same place of the other, which may hold defaults besides."""
    if isinstance(said, dict) and isinstance(found, dict):
        return [one for name, value in said.items() for one in _missing(value, found.get(name))]
    if isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        return [one for pair in zip(said, found, strict=True) for one in _missing(*pair)]
    # As text: NaN is not equal to itself.
    return [] if json.dumps(said) == json.dumps(found) else [said]


def _toml(folder: Path) -> Reader:
    good = {group: (FOLDER / f"{group}.toml").read_bytes() for group in GROUPS}
    mine = folder / "configurations"
    mine.mkdir(exist_ok=True)

    def make(rng: Random) -> bytes:
        place = rng.randrange(len(GROUPS))
        return bytes([place]) + damaged(rng, good[GROUPS[place]], list(good.values()))

    def read(path: Path, raw: bytes) -> None:
        for group, whole in good.items():
            (mine / f"{group}.toml").write_bytes(whole)
        group = GROUPS[raw[0]]
        (mine / f"{group}.toml").write_bytes(raw[1:])
        found = [entry.name for entry in entries(mine).values() if entry.group == group]
        said = tomllib.loads(raw[1:].decode())
        same(found, [one.get("name", said.get("name")) for one in said.get("entry", [])], "names")

    return Reader("TOML of experiments: `frontier.plan.entries`", make, read, named=False)


READERS: dict[str, Maker] = {
    "lines": _lines,
    "kept": _kept,
    "states": _states,
    "frontier": _frontier,
    "proofs": _proofs,
    "speed": _speed,
    "toml": _toml,
}
