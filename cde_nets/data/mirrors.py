"""The published files from the usual mirrors.

The rule for time. A mirror that fails once, in whatever way, is not asked again. Before a file's first bytes (name
resolution, connecting, headers and the first 1,024 bytes) a mirror may take its equal share of `ANSWER_SECONDS`, so
mirrors that do not answer cost at most `ANSWER_SECONDS` in total. Once bytes come, a download may take as long as it
needs while every `STALL_SECONDS` bring at least `PROGRESS_BYTES`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from cde_nets.data.files import PublishedFile, verify
from cde_nets.data.transfer import Transfer

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# Ten seconds is what a user may lose to dead mirrors; the rest of the work wants its part of them.
ANSWER_SECONDS = 9.0
# With its share of the seconds above, a mirror that answers and then hangs costs less than ten as well.
STALL_SECONDS = 5.0
PROGRESS_BYTES = 1 << 16


@dataclass
class Fetched:
    """What the mirrors gave.

    Attributes:
        files: verified unpacked bytes by file name.
        used: the mirrors that gave them.
        problems: a sentence for each mirror that failed.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def fetch_from_mirrors(wanted: Sequence[PublishedFile]) -> Fetched:
    """Fetches published files, from the next mirror where one fails; the module's docstring has the rule for time.

    Args:
        wanted: the files to fetch.

    Returns:
        What could be had, and why the rest could not.
    """
    fetched = Fetched()
    for mirror in MIRRORS:
        for file in wanted:
            if file.name in fetched.files:
                continue
            url = f"{mirror}{file.name}.gz"
            try:
                fetched.files[file.name] = verify(_download(url, file.size), file, url)
            except Exception as error:  # the HTTP client's errors have no common base; each is a reason to go on
                fetched.problems.append(f"{error}" if url in f"{error}" else f"{url}: {error}")
                break
            if mirror not in fetched.used:
                fetched.used.append(mirror)
    return fetched


def _download(url: str, size: int) -> bytes:
    # gzip adds five bytes to every 64 KiB that it cannot compress, and a header.
    # The socket's timeout only ends threads that nobody waits for: the rule above speaks first.
    transfer = Transfer(url, limit=size + size // 1000 + 1024, socket_timeout=2 * max(STALL_SECONDS, ANSWER_SECONDS))
    return transfer.fetch(
        answer_by=time.monotonic() + ANSWER_SECONDS / len(MIRRORS),
        stall_seconds=STALL_SECONDS,
        progress_bytes=PROGRESS_BYTES,
    )
