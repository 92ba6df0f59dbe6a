"""One download under wall-clock deadlines.

A socket timeout bounds one operation, not a transfer: a server that sends a byte a second meets it for ever, and name
resolution has no timeout at all. So the download runs in a daemon thread and the caller watches what has arrived. When
a deadline passes the caller goes on; the thread ends at its next chunk, at its socket's timeout, or with the process.
"""

import contextlib
import threading
import time
from typing import Any

# "The first bytes" are one chunk, or all of a shorter file: a server that trickles single bytes has not answered.
CHUNK_BYTES = 1024


class LateError(Exception):
    """The server did not send enough before a deadline."""


class _AbandonedError(Exception):
    """Ends the thread of a download that nobody waits for."""


class Transfer:
    """A download of one URL into memory; use each once.

    Args:
        url: what to fetch.
        limit: the most bytes to accept.
        socket_timeout: seconds for one socket operation, so that an abandoned thread ends.
    """

    def __init__(self, url: str, *, limit: int, socket_timeout: float) -> None:
        self.url = url
        self._limit = limit
        self._socket_timeout = socket_timeout
        self._changed = threading.Condition()  # guards everything below
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._abandoned = False
        self._response: Any = None

    def fetch(self, *, answer_by: float, stall_seconds: float, progress_bytes: int) -> bytes:
        """Downloads the file.

        Args:
            answer_by: the value of `time.monotonic` by which the first bytes must be here.
            stall_seconds: after them, every span of this many seconds must bring ``progress_bytes``, or the end.
            progress_bytes: see ``stall_seconds``.

        Returns:
            The body.

        Raises:
            LateError: nothing by ``answer_by``, or too little in some span.
            ValueError: a body longer than the limit.
            Exception: what the HTTP client raised: no such host, refused, 404, closed early.
        """
        threading.Thread(target=self._run, daemon=True, name=f"fetch {self.url}").start()
        try:
            with self._changed:
                waited = max(0.0, answer_by - time.monotonic())
                if not self._arrived(1, waited):
                    raise LateError(f"{self.url}: found no answer in {waited:.3g} s")
                while not self._ended:
                    count = len(self._received)
                    if not self._arrived(count + progress_bytes, stall_seconds):
                        raise LateError(
                            f"{self.url}: stalled after {count} bytes, found {len(self._received) - count} more in "
                            f"{stall_seconds:g} s, expected at least {progress_bytes}"
                        )
                if self._error is not None:
                    raise self._error
                return bytes(self._received)
        finally:
            with self._changed:
                self._abandoned = True

    def _arrived(self, count: int, seconds: float) -> bool:
        return self._changed.wait_for(lambda: self._ended or len(self._received) >= count, seconds)

    def _run(self) -> None:
        error: Exception | None = None
        try:
            import pooch  # here, because importing it costs more than everything else in this room

            download = pooch.HTTPDownloader(
                chunk_size=CHUNK_BYTES, timeout=self._socket_timeout, hooks={"response": self._hold}
            )
            download(self.url, self, None)
        except Exception as caught:  # all of them are the caller's to report: a thread could only print them
            error = caught
        # pooch leaves the response open when a write to its file fails.
        with contextlib.suppress(Exception):
            self._response.close()
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _hold(self, response: Any, *_: object, **__: object) -> None:
        self._response = response

    def write(self, chunk: bytes) -> int:
        """Takes the next bytes from pooch, to which a transfer is the file to write."""
        with self._changed:
            if self._abandoned:
                raise _AbandonedError
            if len(self._received) + len(chunk) > self._limit:
                raise ValueError(f"{self.url}: found more than {self._limit} bytes, expected at most that many")
            self._received += chunk
            self._changed.notify_all()
        return len(chunk)

    def flush(self) -> None:
        """Does nothing, for the bytes are in memory; pooch asks it of a file."""
