"""Fields and points as commands take them: by name, by number, or from a text file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cde_nets.fields import Fields
    from theory import Program

FAMILIES = ("polynomial", "ridge", "linear", "spherical", "five", "two")
_MOST_POINTS = 100_000


def fields_of(fields: str, dim: int, count: int, degree: int, seed: int) -> Fields:
    """Fields that flows follow, in float64: of a text file, or a family by name.

    Raises:
        ValueError: neither of the two, or a text that has no fields.
    """
    import torch

    from cde_nets.fields import (
        ExpressionFields,
        LinearFields,
        PolynomialFields,
        RidgeFields,
        SphericalFields,
        UniversalFields,
    )

    double = torch.float64
    if fields == "linear":
        return LinearFields.random(dim, count, seed=seed, dtype=double)
    if fields == "ridge":
        return RidgeFields.random(dim, count, degree, seed=seed, dtype=double)
    if fields == "five":
        return UniversalFields(dim, dtype=double)
    if fields in ("polynomial", "spherical"):
        drawn = PolynomialFields.random(dim, count, degree, seed=seed, dtype=double)
        return SphericalFields(drawn) if fields == "spherical" else drawn
    import sympy

    program = program_of(fields, dim, count, degree, seed)
    symbols = list(sympy.symbols(f"x_1:{program.dim + 1}"))
    return ExpressionFields(program.to_sympy(symbols), symbols, dtype=double)


def program_of(fields: str, dim: int, count: int, degree: int, seed: int) -> Program:
    """The exact program of fields as `fields_of`, of random ones with the coefficients in float32."""
    from cde_nets.options import suggest
    from theory import five_fields, two_fields
    from theory.text import parse_fields

    if Path(fields).is_file():
        return parse_fields(text_of(Path(fields)))
    if fields == "five":
        return five_fields(dim)
    if fields == "two":
        return two_fields(dim)
    if fields not in FAMILIES:
        raise ValueError(f"{fields!r} is neither a file nor a family{suggest(fields, FAMILIES)}")
    return fields_of(fields, dim, count, degree, seed).float().exact()


def network_named(given: str) -> str:
    """The file of a network, where its run's folder or the name of one that comes with the package was given.

    What else is given comes back as it is.
    """
    from cde_nets.pretrained import pretrained_networks, pretrained_path

    if (Path(given) / "network.safetensors").is_file():
        return str(Path(given) / "network.safetensors")
    # A file of the name goes before it.
    by_name = given in pretrained_networks() and not Path(given).exists()
    return str(pretrained_path(given)) if by_name else given


def number_of(option: str, given: str) -> int | None:
    """How many points, where that is what was given; None where it is the name of a file.

    Raises:
        ValueError: a number, but of no points.
    """
    if not (given.isascii() and given.isdigit()):
        if _is_number(given) and not Path(given).is_file():
            raise ValueError(
                f"{option} is {given}, expected a whole number from 1 to {_MOST_POINTS:,}, or a text file."
            )
        return None
    if not 1 <= int(given) <= _MOST_POINTS:
        raise ValueError(f"{option} is {given}, expected 1 to {_MOST_POINTS:,}.")
    return int(given)


def read_points(option: str, file: str, dim: int) -> list[list[Fraction]]:
    """The points of a text file, one a line.

    Raises:
        ValueError: no such file, none in it, or lines that are not `dim` numbers.
    """
    if not Path(file).is_file():
        raise ValueError(f"{option} is {file!r}, expected a number or a text file with a point a line.")
    from theory.text import parse_number

    rows = [line.split("#")[0].replace(",", " ").split() for line in text_of(Path(file)).splitlines()]
    try:
        read = [[parse_number(number) for number in row] for row in rows if row]
    except ValueError as error:
        raise ValueError(f"{file}: expected a point a line: {error}.") from None
    if not read:
        raise ValueError(f"{file}: there are no points in it, expected one a line.")
    if any(len(row) != dim for row in read):
        raise ValueError(f"{file}: expected {dim} numbers a line; got {sorted({len(row) for row in read})}.")
    return read


def _is_number(given: str) -> bool:
    try:
        float(given)
    except ValueError:
        return False
    return True


def text_of(path: Path) -> str:
    """Text, with or without the mark that some editors put before it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text file in UTF-8.") from None
