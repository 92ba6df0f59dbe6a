"""What is proved and what is measured of a trained network: its stages' brackets, its outputs' Jacobian."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cde_nets.atomic import write_atomically
from cde_nets.certify import check_flow, control_rank
from cde_nets.nn import ControlledODE, Network
from cde_nets.texts import read_object

# A stage is certified at as many images as keep the rank to be proved below this.
MOST_RANK = 2000
# At which the rank of the outputs' Jacobian is measured.
IMAGES = 64

Certified = dict[str, Any]


def certify(network: Network, images: Tensor, *, seed: int = 0, last: int | None = None) -> Certified:
    """Each stage's certificate at the states that the stages before it make of images, and the Jacobian's rank.

    Args:
        network: trained.
        images: as the network takes them, at least as many as the ranks below want.
        seed: of the random primes and controls of the proofs.
        last: how many stages, from the end, are certified; all where None.
    """
    stages, flows = [], network.flow_stages()
    first = 0 if last is None else len(flows) - last
    with torch.no_grad():
        state = network.start(images)
        for number, stage in enumerate(flows):
            if number >= first:
                stages.append(_stage(stage.flow, state, seed))
            state = stage(state)
    measured = control_rank(network, images[:IMAGES])
    rank = {"rank": measured.rank, "outputs": measured.outputs, "numbers": measured.numbers}
    return {"stages": stages, "jacobian": {"images": min(len(images), IMAGES), **rank}}


def _stage(flow: ControlledODE, states: Tensor, seed: int) -> dict[str, Any]:
    points = max(1, min(len(states), MOST_RANK // flow.dim))
    found = check_flow(flow, states[:points], seed=seed)
    said = {"proved": found.proved, "scope": found.scope, "rank": found.rank, "full_rank": found.full_rank}
    return {"points": points, "dim": flow.dim, "depth": found.depth, **said}


def read(path: Path) -> dict[str, Certified]:
    """What is kept, by entry.

    Raises:
        ValueError: a damaged file.
    """
    kept = read_object(path) if path.exists() else {}
    for name, found in kept.items():
        if not _is_whole(found):
            raise ValueError(f"{path} is damaged: {name!r} has no proofs of stages and no rank of a Jacobian.")
    return kept


def _is_whole(found: Any) -> bool:
    """Whether all is there that the table reads."""
    if not isinstance(found, dict) or not isinstance(found.get("stages"), list):
        return False
    of_stages = ("dim", "rank", "full_rank", "points", "depth")
    return _counts(found.get("jacobian"), ("images", "rank", "outputs", "numbers")) and all(
        _counts(one, of_stages) and type(one.get("proved")) is bool for one in found["stages"]
    )


def _counts(values: Any, names: Sequence[str]) -> bool:
    # True is an int to Python, and no count.
    return isinstance(values, dict) and all(type(values.get(name)) is int and values[name] >= 0 for name in names)


def write(path: Path, kept: dict[str, Certified]) -> None:
    """All of it, atomically."""
    write_atomically(path, (json.dumps(kept, indent=1) + "\n").encode())


def table(kept: dict[str, Certified]) -> str:
    """A row for each network: what is proved of each stage, what is measured of the whole."""
    lines = [
        "| trained | stages: rank proved, on spheres (images, depth of brackets) | rank of the logits' Jacobian in u |",
        "|---|---|---|",
    ]
    for found in kept.values():
        proofs = "; ".join(_said(one) for one in found["stages"])
        rank = found["jacobian"]
        most = min(rank["outputs"], rank["numbers"])
        lines.append(f"| {rank['numbers']:,} | {proofs} | {rank['rank']:,} of {most:,} at {rank['images']} images |")
    return "\n".join(lines)


def _said(one: dict[str, Any]) -> str:
    proved = "" if one["proved"] else "not proved: "
    return f"{proved}{one['rank']:,} of {one['full_rank']:,} ({one['points']}, {one['depth']})"
