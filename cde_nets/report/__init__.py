"""One HTML page of a finished run, whole in itself: figures, pictures, and two things to play with."""

from cde_nets.report.page import build_page, write_report
from cde_nets.train.finished import FinishedRun, read_run

__all__ = ["FinishedRun", "build_page", "read_run", "write_report"]
