"""The peers by name, and what each of them needs installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

# Of each peer the modules it is made of.
NEEDS = {
    "torch": ("torch",),
    "torchdiffeq": ("torchdiffeq",),
    "torchdiffeq-adjoint": ("torchdiffeq",),
    "torchdiffeq-compiled": ("torchdiffeq",),
    "torchode": ("torchode",),
    "diffrax": ("jax", "diffrax"),
    "scan": ("jax",),
}
# Compiling takes minutes a row: to be asked for by name.
USUAL = tuple(name for name in NEEDS if name != "torchdiffeq-compiled")


class MissingPeerError(ImportError):
    """A peer that was asked for is not installed."""


def require(peers: Sequence[str]) -> None:
    """Check that peers can be imported, before any work.

    Raises:
        ValueError: a peer of an unknown name.
        MissingPeerError: a peer that is not installed; the message says how to install it and how to do without it.
    """
    for peer in peers:
        if peer not in NEEDS:
            raise ValueError(f"There is no peer {peer!r}. There are: {', '.join(NEEDS)}.")
    absent = {module for peer in peers for module in NEEDS[peer] if find_spec(module) is None}
    if absent:
        present = [peer for peer in peers if not absent & set(NEEDS[peer])]
        raise MissingPeerError(
            f'Not installed: {", ".join(sorted(absent))}. Install the peers by pip install "cde-nets[bench]", or leave '
            f"them out by --peers {','.join(present) or 'none'}."
        )
