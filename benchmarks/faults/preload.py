"""Imported by the server that all processes are forked from: a command then starts in milliseconds, not in seconds."""

from benchmarks.faults.runs import load

load()
