"""Builds the CPU kernels, which are optional: without a compiler the install succeeds and the plain versions run."""

from __future__ import annotations

import copy
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("cde_nets", "kernels", "cpp")

# No -ffast-math: rows that are not finite must be seen.
FLAGS = [
    "-std=c++17",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-g0",
]
# An instruction set each, chosen among at run time. What it is on other processors the compiler knows.
LANES = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    LANES |= {"avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}


class PlainLibraries(build_ext):
    """Shared libraries with a plain C interface: they serve every release of Python and of torch."""

    def finalize_options(self) -> None:
        """All builds at once."""
        super().finalize_options()
        if self.parallel is None:
            self.parallel = True

    def get_ext_filename(self, fullname: str) -> str:
        """Without the tag of a Python release."""
        return str(Path(*fullname.split("."))) + (".dll" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None of Python's."""
        return ext.export_symbols

    def build_extension(self, ext: Extension) -> None:
        """With threads where the compiler has OpenMP, which torch brings along; else without."""
        threads = [] if sys.platform == "darwin" else ["-fopenmp"]
        own_compile, own_link = list(ext.extra_compile_args), list(ext.extra_link_args)
        ext.extra_compile_args, ext.extra_link_args = own_compile + threads, own_link + threads
        # All are made of one source at the same time: without an object each, one could be linked with another's.
        own = copy.copy(self)
        own.build_temp = str(Path(self.build_temp, ext.name))
        build_ext.build_extension(own, ext)


setup(
    ext_modules=[
        Extension(
            f"cde_nets.kernels._flow_{name}",
            [str(SOURCES / "flow.cpp")],
            depends=[str(path) for path in sorted(SOURCES.glob("*.hpp"))],
            extra_compile_args=[*FLAGS, *flags],
            language="c++",
            optional=True,
        )
        for name, flags in LANES.items()
    ],
    cmdclass={"build_ext": PlainLibraries},
)
