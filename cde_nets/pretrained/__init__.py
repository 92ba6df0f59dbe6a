"""Networks that come with the package, by name: trained numbers of a few kB, from which the rest is drawn again.

They are the points of `experiments.frontier` that were best on the validation images among their seeds.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def pretrained_networks() -> list[str]:
    """The names that `load_network` knows, such as "mnist-750": of at most 750 trained numbers."""
    names = (path.stem for path in _FOLDER.glob("*.safetensors"))
    return sorted(names, key=lambda name: (name.rstrip("0123456789"), len(name), name))


def pretrained_path(name: str) -> Path:
    """Where the network of a name is kept.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in pretrained_networks():
        raise ValueError(f"No network is called {name!r}; there are {', '.join(pretrained_networks()) or 'none'}.")
    return _FOLDER / f"{name}.safetensors"
