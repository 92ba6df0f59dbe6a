"""Checkpoints: trained numbers and what regenerates the rest, in one safetensors file of a few kB."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cde_nets.atomic import write_atomically
from cde_nets.digests import tensor_bytes
from cde_nets.nn.image import ImageNetworkConfig
from cde_nets.nn.network import Network
from cde_nets.nn.trainable import Trainable, TrainableConfig
from cde_nets.pretrained import pretrained_networks, pretrained_path
from cde_nets.texts import parse_json

NETWORK = "cde-nets network 1"
# A checkpoint is a few kB; what an optimiser keeps of ten thousand numbers, 80 MB. A file of more is another file.
_LARGEST = 1024**3


def save_tensors(path: Path, kind: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and a JSON description atomically, with a checksum over both.

    Raises:
        OSError: the file cannot be written; whatever was there before is untouched.
    """
    text = json.dumps(about, sort_keys=True)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"kind": kind, "about": text, "checksum": checksum(kind, text, plain)}
    write_atomically(path, save(plain, metadata))


def load_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Nothing is unpickled.

    Raises:
        ValueError: no such file, another kind of file, or one that is damaged.
    """
    if path.is_dir():
        raise ValueError(f"No checkpoint at {path}: it is a folder. Did you mean {path / 'network.safetensors'}?")
    if not path.is_file():
        names = ", or one of ".join(["", ", ".join(pretrained_networks())] if pretrained_networks() else [""])
        raise ValueError(
            f"No checkpoint at {path}: give the path of a .safetensors file that a training run wrote{names}."
        )
    if path.stat().st_size > _LARGEST:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes; a checkpoint has from a few thousand to a hundred million. "
            "It is another file."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied to where torch puts its own: the last bits of a product may depend on how its factors are aligned.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged or is no safetensors file ({error}). Train again or use a copy."
        ) from error
    if metadata.get("kind") != kind:
        found = metadata.get("kind", "no kind at all")
        raise ValueError(f"{path} is not a checkpoint of the kind {kind!r}; it says {found!r}.")
    if metadata.get("checksum") != checksum(kind, metadata.get("about", ""), tensors):
        raise ValueError(f"{path} is damaged: its contents do not match their checksum. Train again or use a copy.")
    about = parse_json(metadata.get("about", ""), str(path))
    if not isinstance(about, dict):
        raise ValueError(f"{path} is damaged: its description is no object. Train again or use a copy.")
    return tensors, about


def save_network(path: Path, network: Trainable, config: TrainableConfig, about: dict[str, Any] | None = None) -> None:
    """Write a network's trained numbers, its configuration and the digest of its frozen part.

    Args:
        path: ends in .safetensors.
        network: made by `config.build()`.
        config: what draws the frozen part again.
        about: anything else to keep with it, as JSON values.

    Raises:
        ValueError: the network is not the one that the configuration describes, so that it could not be loaded again.
        OSError: the file cannot be written.
    """
    if config.build().frozen_digest() != network.frozen_digest():
        raise ValueError(
            "The configuration describes another network than the one given (or another dtype: checkpoints hold "
            f"{torch.get_default_dtype()}). Save it with the configuration it was made from."
        )
    description = {"config": config.to_dict(), "frozen_digest": network.frozen_digest(), **(about or {})}
    save_tensors(path, NETWORK, dict(network.named_parameters()), description)


def load_network(path: str | Path) -> tuple[Network, dict[str, Any]]:
    """The network of a checkpoint, and the description kept with it.

    The frozen part is drawn again from the configuration and its digest compared with the stored one.

    Args:
        path: of a file, or the name of a network that comes with the package (`pretrained_networks`).

    Raises:
        ValueError: no such file, a damaged one, one of another kind or network, or a frozen part that comes out
            different here.
    """
    path = pretrained_path(path) if isinstance(path, str) and path in pretrained_networks() else Path(path)
    tensors, about = load_tensors(path, NETWORK)
    config = _checked(path, about)
    check_finite(tensors.values(), path)
    # Before thousands of families are drawn for nothing.
    count = sum(value.numel() for value in tensors.values())
    if count != config.trained_numbers:
        raise ValueError(
            f"{path} holds another network: it has {count:,} numbers, and its configuration {config.trained_numbers:,}."
        )
    network = config.build()
    copy_into(network, tensors, path)
    check_digest(network, about["frozen_digest"], path)
    return network, about


def _checked(path: Path, about: dict[str, Any]) -> ImageNetworkConfig:
    """The configuration in a description that has all that is read of it."""
    digest = about.get("frozen_digest")
    if not isinstance(digest, str):
        raise ValueError(f"{path} is damaged: frozen_digest is {digest!r}, expected the digest as text.")
    try:
        return ImageNetworkConfig.from_dict(about.get("config", {}))
    except ValueError as error:
        raise ValueError(f"{path} describes no network: {error}") from error


def check_numbers(network: Trainable, tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse names, shapes or dtypes that are not those of the network's trained numbers.

    Raises:
        ValueError: one differs.
    """
    wanted = {name: (tuple(p.shape), p.dtype) for name, p in network.named_parameters()}
    given = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    if wanted != given:
        astray = sorted(set(wanted.items()) ^ set(given.items()), key=str)
        raise ValueError(
            f"{path} holds another network: it differs in {', '.join(str(name) for name, _ in astray[:4])}."
        )


def check_finite(tensors: Iterable[Tensor], path: Path) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: there is one.
    """
    if not all(bool(torch.isfinite(value).all()) for value in tensors):
        raise ValueError(f"{path} is damaged: a trained number is not finite. Train again or use a copy.")


def copy_into(network: Trainable, tensors: dict[str, Tensor], path: Path) -> None:
    """Set a network's trained numbers.

    Raises:
        ValueError: as `check_numbers`.
    """
    check_numbers(network, tensors, path)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(tensors[name])


def check_digest(network: Trainable, digest: str, path: Path) -> None:
    """Compare the frozen part with the one that was trained.

    Raises:
        ValueError: it is another one.
    """
    if network.frozen_digest() != digest:
        raise ValueError(
            f"The frozen fields drawn here differ from those {path} was trained with (digest "
            f"{network.frozen_digest()[:12]} instead of {digest[:12]}): NumPy's or this package's version has changed "
            "what a seed draws. Use the versions the checkpoint names, or train again."
        )


def checksum(kind: str, about: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over a checkpoint's kind, its description and its tensors, as hexadecimal text."""
    seen = hashlib.sha256(json.dumps([kind, about]).encode())
    for name, value in sorted(tensors.items()):
        seen.update(tensor_bytes(name, value))
    return seen.hexdigest()
