"""joblib's processes on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

# To find the scheduler, and then its first worker.
SECONDS = 10


@contextmanager
def workers(address: str | None) -> Iterator[None]:
    """Within it, what joblib would do in processes of its own is done by the cluster's workers.

    Work that a worker has begun and not ended when it dies is given to another: Dask gives up after three.

    Args:
        address: of a scheduler, such as tcp://10.0.0.1:8786; None changes nothing.

    Raises:
        typer.BadParameter: Dask is not installed, or nothing answers there.
    """
    if address is None:
        yield
        return
    from joblib import parallel_config

    try:
        from distributed import Client
    except ImportError as error:
        raise typer.BadParameter('--dask needs the extra dask: pip install "cde-nets[dask]"') from error
    try:
        client = Client(address, timeout=SECONDS)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"--dask {address}: no scheduler answers ({error}).") from error
    with client, parallel_config(backend="dask", client=client, wait_for_workers_timeout=SECONDS):
        yield
