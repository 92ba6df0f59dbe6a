"""The directory of data that a user named, if any."""

import os
from pathlib import Path

VARIABLE = "CDE_NETS_DATA"


def named_directory(data_dir: str | Path | None) -> tuple[Path, str] | None:
    """What was named, and by what, for errors; None where nothing was.

    Args:
        data_dir: a directory; None reads the environment variable ``CDE_NETS_DATA``, which may be unset or empty.
    """
    if data_dir is not None:
        return Path(data_dir).expanduser(), "data_dir"
    held = os.environ.get(VARIABLE)
    return (Path(held).expanduser(), f"the environment variable {VARIABLE}") if held else None
