"""The data of a certificate as plain JSON: fields of every kind by their exact coefficients, and points, as fractions.

Fields are objects with a "kind", and hold one another as programs do:

    {"kind": "monomial", "dtype", "exponents", "coefficients"}
    {"kind": "ridge", "dtype", "matrices", "offsets", "polynomials"}
    {"kind": "convolution", "dtype", "shape", "kernels", "outputs", "inputs", "offsets", "inner", "outer"}
    {"kind": "sphere", "base"}            fields made tangent to spheres
    {"kind": "ball", "radius", "base"}    fields that hold for |x| <= radius
    {"kind": "union", "parts"}            several families, one after the other

The names and shapes are those of the programs' attributes; numbers are fractions, "n/d".
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from theory.exact import ExactArray, exact_array
from theory.modular import IntArray
from theory.program import Program
from theory.programs.convolution import ConvolutionProgram
from theory.programs.monomial import MonomialProgram
from theory.programs.restricted import RestrictedProgram
from theory.programs.ridge import RidgeProgram
from theory.programs.spherical import SphericalProgram
from theory.programs.union import UnionProgram

# Coefficients: beyond this a certificate names its data by their digests alone.
_MOST = 2_000_000

_KINDS: dict[type[Program], str] = {
    MonomialProgram: "monomial",
    RidgeProgram: "ridge",
    ConvolutionProgram: "convolution",
    SphericalProgram: "sphere",
    RestrictedProgram: "ball",
    UnionProgram: "union",
}
# The exact coefficients of each kind, by the names of the attributes.
_NUMBERS = {
    "monomial": ("coefficients",),
    "ridge": ("matrices", "offsets", "polynomials"),
    "convolution": ("kernels", "offsets", "inner", "outer"),
}


def to_data(program: Program, points: ExactArray | None) -> dict[str, Any] | None:
    """Fields and points as JSON values; None where the fields are of a kind unknown here, or too large.

    Too large are more than two million coefficients, or a number of more than 4,300 digits.
    """
    size = _size(program)
    if size is None or size > _MOST:
        return None
    try:
        return {"fields": _fields(program), "points": None if points is None else _texts(points)}
    except ValueError:  # Python writes no integers of more than 4,300 digits
        return None


def from_data(data: dict[str, Any]) -> tuple[Program, ExactArray | None]:
    """What `to_data` was given.

    Raises:
        ValueError: fields of an unknown kind, a part that is missing or of another type, or numbers and shapes that no
            program has.
    """
    try:
        points = data["points"]
        return _program(data["fields"]), None if points is None else exact_array(_numbers(points), "points")
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"this is no certificate: its data is damaged ({type(error).__name__}: {error})") from error


def _size(program: Program) -> int | None:
    """How many coefficients there are; None where a program is of a kind that a user made."""
    kind = _KINDS.get(type(program))
    if kind is None:
        return None
    if kind in _NUMBERS:
        return sum(int(getattr(program, name).numerators.size) for name in _NUMBERS[kind])
    sizes = [_size(part) for part in _parts(program)]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _parts(program: Program) -> tuple[Program, ...]:
    if isinstance(program, UnionProgram):
        return program.parts
    assert isinstance(program, SphericalProgram | RestrictedProgram)
    return (program.base,)


def _fields(program: Program) -> dict[str, Any]:
    kind = _KINDS[type(program)]
    out: dict[str, Any] = {"kind": kind}
    if kind in _NUMBERS:
        out["dtype"] = program.dtype
    if isinstance(program, MonomialProgram):
        out["exponents"] = program.exponents.tolist()
    if isinstance(program, ConvolutionProgram):
        out |= {"shape": list(program.shape), "outputs": _list(program.outputs), "inputs": _list(program.inputs)}
    out |= {name: _texts(getattr(program, name)) for name in _NUMBERS.get(kind, ())}
    if isinstance(program, SphericalProgram):
        out["base"] = _fields(program.base)
    if isinstance(program, RestrictedProgram):
        out |= {"radius": str(program.radius), "base": _fields(program.base)}
    if isinstance(program, UnionProgram):
        out["parts"] = [_fields(part) for part in program.parts]
    return out


def _program(fields: dict[str, Any]) -> Program:
    kind = fields["kind"]
    if kind == "sphere":
        return SphericalProgram(_program(fields["base"]))
    if kind == "ball":
        return RestrictedProgram(_program(fields["base"]), _numbers(fields["radius"]))
    if kind == "union":
        return UnionProgram([_program(part) for part in fields["parts"]])
    if kind not in _NUMBERS:
        raise ValueError(
            f"the certificate has fields of the kind {kind!r}, expected one of {', '.join(_KINDS.values())}"
        )
    numbers: dict[str, Any] = {name: exact_array(_numbers(fields[name]), name) for name in _NUMBERS[kind]}
    dtype = fields["dtype"]
    if kind == "monomial":
        return MonomialProgram(np.array(fields["exponents"]), **numbers, dtype=dtype)
    if kind == "ridge":
        return RidgeProgram(**numbers, dtype=dtype)
    return ConvolutionProgram(
        fields["shape"], outputs=fields["outputs"], inputs=fields["inputs"], **numbers, dtype=dtype
    )


def _list(channels: IntArray | None) -> list[int] | None:
    return None if channels is None else [int(c) for c in channels]


def _texts(numbers: ExactArray) -> Any:
    texts = np.empty(numbers.shape, dtype=object)
    texts.ravel()[:] = [str(value) for value in numbers.fractions().ravel()]
    return texts.tolist()


def _numbers(texts: Any) -> Any:
    if isinstance(texts, list):
        return [_numbers(part) for part in texts]
    try:
        # No decimals, and so no exponents that would make a number of gigabytes.
        n, _, d = str(texts).partition("/")
        return Fraction(int(n), int(d or 1))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"the certificate holds {str(texts)[:40]!r}, which is no fraction") from None
