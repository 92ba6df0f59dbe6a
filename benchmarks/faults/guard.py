"""What a reader must not do while it reads: run code, unpickle, write elsewhere, start processes, open sockets.

Python tells an audit hook of all of these before they happen (PEP 578). A hook cannot be taken out again, so it watches
only while it is asked to, and only in a process of its own.
"""

from __future__ import annotations

import ast
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

# Events by how their names begin.
_NEVER = ("os.system", "os.exec", "os.fork", "os.spawn", "os.posix_spawn", "os.startfile", "subprocess.", "pty.",
          "socket.", "urllib.", "http.", "ftplib.", "smtplib.", "pickle.", "marshal.", "ctypes.", "code.",
          "os.kill", "os.putenv", "signal.pthread_kill", "webbrowser.")  # fmt: skip
_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown",
            "os.truncate", "os.utime", "os.chflags", "tempfile.")  # fmt: skip


class ForbiddenError(BaseException):
    """Something that no reader may do; not an Exception, so that no handler of the reader's takes it for its own."""


class LateError(BaseException):
    """A reader took longer than it may."""


class Guard:
    """Watches one process.

    Args:
        scratch: the only folder in which files may be written.
        seconds: of the processor for an input, as others may be busy with it, too.
        megabytes: that the process may grow by.

    Attributes:
        seen: what was forbidden in the last input, in words.
    """

    def __init__(self, scratch: Path, seconds: float, megabytes: int) -> None:
        self._scratch, self._seconds, self._watching = scratch.resolve(), seconds, False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)
        signal.signal(signal.SIGPROF, self._late)
        most = _mapped() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, what is forbidden raises ForbiddenError, and what takes too long LateError."""
        self.seen = []
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _late(self, number: int, frame: FrameType | None) -> None:
        if self._watching:
            raise LateError

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        forbidden = event.startswith(_NEVER)
        if event in ("exec", "compile", "marshal.loads"):
            forbidden = not _harmless(event)
        elif event == "open":
            path, mode, flags = args
            written = any(letter in (mode or "") for letter in "wax+")
            written |= bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
            forbidden = written and not self._inside(path)
        elif event.startswith(_CHANGES):
            forbidden = not all(self._inside(path) for path in args if isinstance(path, str | bytes | os.PathLike))
        if forbidden:
            self._watching = False  # what follows, such as the text of the message, is ours
            self.seen.append(f"{event} {str(args)[:120]}")
            raise ForbiddenError(self.seen[-1])

    def _inside(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # of a file that is open already
        whole = os.path.realpath(os.fsdecode(path))
        return whole == "/dev/null" or self._scratch in (Path(whole), *Path(whole).parents)


def _harmless(event: str) -> bool:
    """Whether code is compiled to a tree alone, which nothing runs, or is that of a module first imported now."""
    frame: FrameType | None = sys._getframe(2)
    if event == "compile" and frame is not None and frame.f_code.co_filename == ast.__file__:
        return frame.f_code.co_name == "parse"
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _mapped() -> int:
    """Bytes of address space that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
