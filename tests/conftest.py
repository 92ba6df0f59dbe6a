"""Shapes are checked while the tests run: functions of the rooms below refuse what their signatures do."""

from collections.abc import Iterator

import jaxtyping
import pytest

ROOMS = ("controls", "fields", "gradient", "nn", "plot", "solve", "train")

jaxtyping.install_import_hook([f"cde_nets.{room}" for room in ROOMS], "beartype.beartype")


@pytest.fixture
def bad_input() -> Iterator[None]:
    """For tests of what users see: without the shape checker, which would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
