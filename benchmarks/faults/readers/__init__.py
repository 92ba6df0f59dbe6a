"""Every reader of files, with good files of its own and a check of what it accepts."""

from benchmarks.faults.readers import data, records, runs, texts
from benchmarks.faults.readers.base import Reader, WrongError

READERS = {**data.READERS, **runs.READERS, **records.READERS, **texts.READERS}

__all__ = ["READERS", "Reader", "WrongError"]
