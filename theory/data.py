"""The data of a certificate as plain JSON: polynomial fields and points as fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from theory.certificate import Certificate, Prover
from theory.exact import ExactArray, exact_array
from theory.program import Program
from theory.programs.monomial import MonomialProgram
from theory.programs.spherical import SphericalProgram

# Coefficients: beyond this a certificate names its data by their digests alone.
_MOST = 2_000_000


def to_data(program: Program, points: ExactArray | None) -> dict[str, Any] | None:
    """Fields and points as JSON values; None where the fields are not given by their monomials, or too large."""
    base = program.base if isinstance(program, SphericalProgram) else program
    if not isinstance(base, MonomialProgram) or base.coefficients.numerators.size > _MOST:
        return None
    return {
        "sphere": isinstance(program, SphericalProgram),
        "dtype": base.dtype,
        "exponents": base.exponents.tolist(),
        "coefficients": _texts(base.coefficients),
        "points": None if points is None else _texts(points),
    }


def from_data(data: dict[str, Any]) -> tuple[Program, ExactArray | None]:
    """What `to_data` was given."""
    program: Program = MonomialProgram(
        np.array(data["exponents"], dtype=np.int64), exact_array(_numbers(data["coefficients"])), data["dtype"]
    )
    if data["sphere"]:
        program = SphericalProgram(program)
    points = data["points"]
    return program, None if points is None else exact_array(_numbers(points), "points")


def prover_of(certificate: Certificate) -> Prover:
    """What proves a certificate read from JSON again."""
    from theory.points import PointsProver
    from theory.universality import UniversalProver

    assert certificate.data is not None
    program, points = from_data(certificate.data)
    if points is None:
        assert isinstance(program, MonomialProgram)
        degrees = certificate.data["min_degree"], certificate.data["max_degree"]
        return UniversalProver(program, certificate.subject, *degrees)
    return PointsProver(program, points)


def _texts(numbers: ExactArray) -> Any:
    texts = np.empty(numbers.shape, dtype=object)
    texts.ravel()[:] = [str(value) for value in numbers.fractions().ravel()]
    return texts.tolist()


def _numbers(texts: Any) -> Any:
    return [_numbers(part) for part in texts] if isinstance(texts, list) else Fraction(texts)
