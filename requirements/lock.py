"""Writes the lock files: every package that `make` installs, with the digests of all files that PyPI lists for it.

    make lock                                # what pyproject.toml now asks for, at the versions that stand
    make lock OPTIONS="--upgrade-package numpy"
    make lock OPTIONS=--upgrade              # newest versions; torch stays, by the digests of torch_cpu.sha256

uv solves for Python 3.11 and newer on all platforms at once. What is written:

    torch.txt   torch, the CPU builds of torch_cpu.sha256 among its digests
    cuda.txt    what PyPI's torch for Linux asks for and the CPU builds do not
    locked.txt  all else
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
TORCH, CUDA, LOCKED = (HERE / f"{name}.txt" for name in ("torch", "cuda", "locked"))
BUILDS = HERE / "torch_cpu.sha256"

# The tools of the docs ask for this one; the package itself for 3.11.
PYTHON = "3.11.5"

HEADS = {
    TORCH: "torch, with its CPU builds",
    CUDA: "what PyPI's torch for Linux adds",
    LOCKED: "all but torch and CUDA's libraries",
}


def entries(text: str) -> dict[str, str]:
    """The requirements of a lock file by the packages' names, each with its digests and what asks for it.

    A package that has versions of its own for some environments has them one below the other.
    """
    found: dict[str, str] = {}
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]:
        name = block.split("==")[0]
        found[name] = found.get(name, "") + block
    return found


def cpu_builds(text: str, version: str) -> list[str]:
    """The digests of torch's CPU builds of this version.

    Raises:
        SystemExit: none is known.
    """
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    found = [digest for digest, file in rows if file.startswith(f"torch-{version}+cpu-")]
    if not found:
        raise SystemExit(
            f"{BUILDS.name} has no CPU build of torch {version}: add the digests that PyTorch's index lists for it, or "
            f"take the version that is there (--upgrade-package torch=={rows[0][1].split('-')[1].split('+')[0]})."
        )
    return found


def with_cpu_builds(block: str, digests: list[str]) -> str:
    """A requirement on torch that the CPU builds meet too."""
    requirement, rest = block.split(" \\\n", 1)
    added = "".join(f"    --hash=sha256:{digest} \\\n" for digest in digests)
    # uv keeps the digests that stand, ours among them.
    listed = "".join(line for line in rest.splitlines(keepends=True) if line not in added)
    return f"{requirement} \\\n{added}{listed}"


def solve(before: str, options: list[str]) -> str:
    """What uv finds, keeping to the versions in `before` wherever it may."""
    build = tomllib.loads(Path("pyproject.toml").read_text())["build-system"]["requires"]
    with tempfile.TemporaryDirectory() as folder:
        out, also = Path(folder, "locked.txt"), Path(folder, "build.in")
        out.write_text(before)
        also.write_text("\n".join(build))
        command = [Path(sys.executable).with_name("uv"), "pip", "compile", "--quiet", "--no-header", "--universal"]
        command += ["--python-version", PYTHON, "--no-python-downloads", "--extra", "dev", "--generate-hashes"]
        subprocess.run([*command, *options, "--output-file", out, "pyproject.toml", also], check=True)  # noqa: S603
        # The file with the backend's requirement lies in a folder that is no more.
        return out.read_text().replace(str(also), "the build")


def file_of(name: str) -> Path:
    """The lock file that a package stands in."""
    if name == "torch":
        return TORCH
    return CUDA if name.startswith(("nvidia-", "cuda-")) else LOCKED


def main(options: list[str]) -> None:
    """Write the files."""
    before = "".join(file.read_text() for file in HEADS if file.exists())
    found = entries(solve(before, options))
    version = found["torch"].split("==")[1].split()[0]
    found["torch"] = with_cpu_builds(found["torch"], cpu_builds(BUILDS.read_text(), version))
    for file, what in HEADS.items():
        blocks = [block for name, block in found.items() if file_of(name) == file]
        file.write_text(f"# Written by `make lock`: {what}. For pip's --no-deps --require-hashes.\n" + "".join(blocks))
        print(f"{file.name}: {len(blocks)}")


if __name__ == "__main__":
    main(sys.argv[1:])
