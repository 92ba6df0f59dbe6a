"""What is run, from files: the frontier's points, the ablation of one of them, the networks beside ours."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cde_nets.nn import ImageNetworkConfig, TrainableConfig
from cde_nets.texts import read_utf8
from cde_nets.train import TrainConfig
from experiments.frontier.others import (
    DenseConfig,
    FeaturesConfig,
    LectureConfig,
    ResidualConfig,
    SubspaceConfig,
    VariantConfig,
)

FOLDER = Path(__file__).parent / "configurations"
GROUPS = ("frontier", "ablation", "others")
KINDS: dict[str, Any] = {
    "fields": ImageNetworkConfig,
    "features": FeaturesConfig,
    "subspace": SubspaceConfig,
    "residual": ResidualConfig,
    "dense": DenseConfig,
    "lecture": LectureConfig,
    "variant": VariantConfig,
}
# Of a trial run.
QUICK_STEPS = 150


@dataclass(frozen=True)
class Entry:
    """One configuration, to be run from several seeds.

    Attributes:
        name: of the entry, and of its folder.
        group: "frontier", "ablation" or "others".
        says: what it is, in words, for tables.
        kind: of the network, a key of `KINDS`.
        at_most: trained numbers that the point of the frontier allows; None elsewhere.
        seeds: how many, from 0.
        network: what of the network's configuration is not its default.
        training: what of the training's is not.
    """

    name: str
    group: str
    says: str
    kind: str
    at_most: int | None
    seeds: int
    network: Mapping[str, Any]
    training: Mapping[str, Any]

    def configurations(self, seed: int, size: int) -> tuple[TrainableConfig, TrainConfig]:
        """Network and training of one run, on images of a size.

        Raises:
            ValueError: an unknown name or a value out of range.
        """
        network = KINDS[self.kind].from_dict({**self.network, "size": size, "seed": seed})
        return network, TrainConfig.from_dict({**self.training, "seed": seed})


def entries(folder: Path = FOLDER) -> dict[str, Entry]:
    """All that the files describe, by name; in each group in the order of the files.

    Raises:
        ValueError: a file that says what no entry has, lacks what each needs, or describes no network.
    """
    found: dict[str, Entry] = {}
    for group in GROUPS:
        path = folder / f"{group}.toml"
        for entry in _read(path, group):
            if entry.name in found:
                raise ValueError(f"{path}: there are two entries {entry.name!r}.")
            found[entry.name] = entry
    for entry in found.values():
        try:
            entry.configurations(0, 28)
        except ValueError as error:
            raise ValueError(f"{folder / entry.group}.toml: entry {entry.name!r}: {error}") from error
    return found


def quick(entry: Entry, images: int) -> Entry:
    """The same for a trial: one seed, and as many epochs of the images as make some 150 steps, at least one."""
    batch = TrainConfig.from_dict(dict(entry.training)).batch_size
    return replace(entry, seeds=1, training={**entry.training, "epochs": max(1, QUICK_STEPS * batch // images)})


def _read(path: Path, group: str) -> list[Entry]:
    """The file's entries: what stands at its top is every entry's, unless the entry says otherwise."""
    try:
        values = tomllib.loads(read_utf8(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML: {error}.") from error
    shared = {name: value for name, value in values.items() if name != "entry"}
    each = values.get("entry", [])
    if not isinstance(each, list) or not all(isinstance(one, dict) for one in each):
        raise ValueError(f"{path}: entry must be tables, [[entry]]; got {each!r}.")
    return [_entry(path, group, _over(shared, one)) for one in each]


def _entry(path: Path, group: str, values: dict[str, Any]) -> Entry:
    known = {"name", "says", "kind", "at_most", "seeds", "network", "training"}
    needed = {"name", "says", "kind", "seeds"} | ({"at_most"} if group == "frontier" else set())
    if set(values) - known or needed - set(values):
        raise ValueError(
            f"{path}: an entry has {', '.join(sorted(values))}; expected {', '.join(sorted(needed))}, and of "
            f"{', '.join(sorted(known - needed))} what is not the default."
        )
    _check(path, values)
    return Entry(
        **{"at_most": None, "network": {}, "training": {}} | values,
        group=group,
    )


def _check(path: Path, values: dict[str, Any]) -> None:
    """Refuse what is of another kind than an entry's parts; networks and trainings say themselves what they are of."""
    for name in ("name", "says", "kind"):
        if not isinstance(values[name], str) or not values[name]:
            raise ValueError(f"{path}: {name} must be text; got {values[name]!r}.")
    # It names a folder, too.
    if Path(values["name"]).name != values["name"]:
        raise ValueError(f"{path}: name must be one that a folder can have; got {values['name']!r}.")
    if values["kind"] not in KINDS:
        raise ValueError(f"{path}: kind must be one of {', '.join(KINDS)}; got {values['kind']!r}.")
    for name in ("seeds", "at_most"):
        value = values.get(name, 1)
        if type(value) is not int or value < 1:
            raise ValueError(f"{path}: {name} must be an integer of at least 1; got {value!r}.")
    for name in ("network", "training"):
        if not isinstance(values.get(name, {}), dict):
            raise ValueError(f"{path}: {name} must be a table; got {values[name]!r}.")


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The values of both, tables merged."""
    merged = dict(below)
    for name, value in above.items():
        table = merged.get(name)
        merged[name] = _over(table if isinstance(table, dict) else {}, value) if isinstance(value, dict) else value
    return merged
