"""The compiled library for this processor, if the install could build it."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path
from typing import NamedTuple

import torch

# From the widest lanes down: what torch finds (and ATEN_CPU_CAPABILITY overrules) is tried first.
_BUILDS = {"AVX512": ("avx512", "avx2", "baseline"), "AVX2": ("avx2", "baseline")}


class Native(NamedTuple):
    """What was found.

    Attributes:
        library: loaded, or None.
        description: the instruction set and the threads it was built for, or why there is none and what to do.
        tiles: how many rows of float32, and of float64, are taken at once.
    """

    library: ctypes.CDLL | None
    description: str
    tiles: tuple[int, int] = (1, 1)


@functools.cache
def native() -> Native:
    """The library with the widest lanes that the processor has."""
    folder = Path(__file__).parent
    suffix = ".dll" if sys.platform == "win32" else ".so"
    for build in _BUILDS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",)):
        path = folder / f"_flow_{build}{suffix}"
        if not path.exists():
            continue
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            return Native(None, f"{path.name} does not load ({error}); the plain versions run. {_WAY_OUT}")
        library.cde_flow_built.restype = ctypes.c_char_p
        sizes = [ctypes.c_int, *[ctypes.c_int64] * 5]
        library.cde_ridge_velocity.argtypes = [*sizes, *[ctypes.c_void_p] * 5]
        library.cde_ridge_pullback.argtypes = [*sizes, *[ctypes.c_void_p] * 6]
        library.cde_ridge_velocity.restype = library.cde_ridge_pullback.restype = None
        library.cde_adaptive_free.restype = library.cde_adaptive_steps.restype = None
        for name in ("cde_flow_slab", "cde_flow_threads", "cde_flow_rows", "cde_adaptive_slab", "cde_adaptive_threads"):
            getattr(library, name).restype = ctypes.c_int64
        tiles = library.cde_flow_rows(0), library.cde_flow_rows(1)
        return Native(library, library.cde_flow_built().decode(), tiles)
    return Native(None, f"not built; the plain versions run, several times slower. {_WAY_OUT}")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available() -> bool:
    """Whether there is a library."""
    return native().library is not None


_WAY_OUT = (
    "Install a C++17 compiler (Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select "
    "--install) and install cde-nets again: pip install --force-reinstall --no-deps --no-binary cde-nets cde-nets."
)
