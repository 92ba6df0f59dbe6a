"""`cde-nets report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cde_nets.cli.console import Json, emit, notify, reported
from cde_nets.cli.train import DataDir, Offline, Threads, load, machine

if TYPE_CHECKING:
    from rich.console import Console

    from cde_nets.data import Dataset
    from cde_nets.report import FinishedRun
    from theory import Certificate


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path | None, typer.Option(help="The page.", show_default="RUN/report.html")] = None,
    certificate: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Test images at which the last stage is certified; 0 for no certificate.",
            show_default="what takes seconds, up to 4",
        ),
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=0, help="Seconds for the certificate, after which what was found is reported.")
    ] = 20,
    data_dir: DataDir = None,
    offline: Offline = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Write one HTML page of a finished run, with everything in it: it opens from disk and loads nothing.

    Examples:
      cde-nets report runs/mnist-0-20260101-120000
      cde-nets report RUN --certificate 20 --out page.html
    """
    with reported():
        # Imported here: torch, matplotlib and plotly take their time, and bad input is to be refused at once.
        from cde_nets.report import build_page, read_run, write_report
        from cde_nets.report.page import NAME, check_data, check_out

        path = folder / NAME if out is None else out
        if out is not None or folder.is_dir():
            check_out(path)
        machine("cpu", threads)
        done = read_run(folder)
        data = load(data_dir, offline)
        check_data(done, data.test, data.complete, data.source)
        proof = _proof(done, data.test, certificate, time_limit)
        size = write_report(path, build_page(done, data.test, proof))
    result = {
        "report": str(path),
        "bytes": size,
        "test_accuracy": done.result["test_accuracy"],
        "proved": None if proof is None else proof.proved,
        "certificate": None if proof is None else str(proof),
    }

    def show(console: Console) -> None:
        console.print(f"{path} ({size / 1e6:.1f} MB)", markup=False, highlight=False, soft_wrap=True)
        if proof is not None:
            console.print(str(proof), markup=False, highlight=False, soft_wrap=True)

    emit(as_json, result, show)


def _proof(done: FinishedRun, test: Dataset, points: int | None, time_limit: float) -> Certificate | None:
    """The certificate; a line on standard error where there is none that was not declined."""
    from cde_nets.report.page import certificate, quick_points

    if points == 0:
        return None
    if points is None and not (points := min(quick_points(done), len(test.labels))):
        notify("The page has no certificate: the last stage is large, and it would take long. Ask by --certificate 1.")
        return None
    if points > len(test.labels):
        raise ValueError(f"--certificate is {points}; there are {len(test.labels):,} test images.")
    try:
        return certificate(done, test, points, time_limit)
    except ValueError as error:
        notify(f"The page has no certificate: {error}")
        return None
