"""The rows of the table: how the gradient of a network at rest is found with K steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

import cde_nets as cn
from cde_nets.options import suggest
from experiments.hopfield.network import TIGHT

STEPS = (10, 20, 30)


@dataclass(frozen=True)
class Row:
    """A way to differentiate.

    Attributes:
        label: in tables and figures.
        backward: (K, z0) -> what the layer takes as `backward`; z0 is None but where it is drawn.
        published: per cent of 100 trials in Liao et al.'s Table A1, by K; None where the row is not in it.
        draws: the row begins at a random z0, anew for every update.
        truncated: K counts for it.
        inside: its K steps are the last of the forward steps, and not further ones.
    """

    label: str
    backward: Callable[[int, Tensor | None], cn.Method | cn.Gradient]
    published: dict[int, int] | None = None
    draws: bool = False
    truncated: bool = True
    inside: bool = False

    def forward(self, steps: int, K: int) -> cn.Method:
        """At most so many steps in all, fewer where the networks are at rest before."""
        return cn.AtMost(cn.Picard(), steps - K if self.inside else steps)


def _krylov(method: cn.Method, K: int) -> cn.Implicit:
    return cn.Implicit(cn.AtMost(method, K), tolerance=TIGHT)


ROWS: dict[str, Row] = {
    "tbptt": Row("TBPTT", lambda K, z0: cn.Truncated(K), {10: 100, 20: 100, 30: 100}, inside=True),
    "rbp-uniform": Row("RBP, random z0", lambda K, z0: cn.RBP(z0=z0, terms=K), {10: 1, 20: 4, 30: 99}, draws=True),
    "rbp-zero": Row("RBP, z0 = 0", lambda K, z0: cn.RBP(terms=K)),
    "cg": Row("CG-RBP", lambda K, z0: _krylov(cn.CG(), K), {10: 100, 20: 100, 30: 100}),
    "neumann": Row("Neumann-RBP", lambda K, z0: cn.Neumann(K), {10: 100, 20: 100, 30: 100}),
    "gmres": Row("GMRES", lambda K, z0: _krylov(cn.GMRES(restart=K), K)),
    "dense": Row("exact (LU)", lambda K, z0: cn.Implicit(cn.Dense(), tolerance=TIGHT), truncated=False),
}


@dataclass(frozen=True, order=True)
class Cell:
    """An entry of the table.

    Attributes:
        row: a key of ROWS.
        steps: K; 0 for a row that is not truncated.
    """

    row: str
    steps: int

    def __str__(self) -> str:
        return f"{self.row}:{self.steps}" if self.steps else self.row


def all_cells(rows: tuple[str, ...] = tuple(ROWS), steps: tuple[int, ...] = STEPS) -> list[Cell]:
    """Row by row."""
    return [Cell(row, K) for row in rows for K in (steps if ROWS[row].truncated else (0,))]


def parse_cells(text: str, forward_steps: int) -> list[Cell]:
    """Cells out of "tbptt:10,rbp-zero:20,neumann": row and K; a row by itself is that row with every K.

    Args:
        text: as above.
        forward_steps: of the networks; K of a row within them must be less.

    Raises:
        ValueError: an unknown row, with the nearest one; a K that is none, or does not fit its row.
    """
    found: list[Cell] = []
    for part in filter(None, (word.strip() for word in text.split(","))):
        name, colon, count = part.partition(":")
        if name not in ROWS:
            raise ValueError(f"Unknown method {name!r}{suggest(name, ROWS)}")
        if not colon:
            found += all_cells((name,))
            continue
        if not ROWS[name].truncated:
            raise ValueError(f"{name!r} is not truncated and takes no steps; got {part!r}: say {name!r}.")
        if not count.isdecimal() or int(count) < 1 or (ROWS[name].inside and int(count) >= forward_steps):
            most = f" and below {forward_steps}, the forward steps" if ROWS[name].inside else ""
            raise ValueError(f"The steps of {name!r} must be an integer of at least 1{most}; got {part!r}.")
        found.append(Cell(name, int(count)))
    if not found:
        raise ValueError(f"No cell is named in {text!r}: say 'tbptt:10,rbp-zero:20', or 'neumann' for every K.")
    return list(dict.fromkeys(found))
