"""Programs of every kind as plain JSON, and back."""

import json
from fractions import Fraction

import numpy as np
import pytest

import theory.data
from theory import (
    Certificate,
    ConvolutionProgram,
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    UnionProgram,
    check_points,
    five_fields,
    universal,
)
from theory.data import from_data, to_data
from theory.exact import exact_array


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def monomials(dtype=np.float64):
    return MonomialProgram([[0, 2], [1, 0], [3, 1]], normal(2, 2, 3, dtype=dtype))


def ridge():
    return RidgeProgram(normal(2, 2, 2), [[Fraction(1, 3), 2**70], [0, -1]], normal(2, 4))


def convolution(kind):
    lead = {"dense": (2, 2), "row": (2,), "stencil": ()}[kind]
    return ConvolutionProgram(
        (2, 1, 1),
        normal(3, *lead, 3, 3, dtype=np.float32),
        None if kind == "dense" else [1, 0, 1],
        [0, 0, 1] if kind == "stencil" else None,
        normal(*((3, 2) if kind == "dense" else (3,)), dtype=np.float32),
        [Fraction(-2, 7), 1],
        normal(3, 2, dtype=np.float32),
    )


PROGRAMS = {
    "monomial": monomials,
    "five": lambda: five_fields(3),
    "ridge": ridge,
    "dense": lambda: convolution("dense"),
    "row": lambda: convolution("row"),
    "stencil": lambda: convolution("stencil"),
    "sphere": lambda: SphericalProgram(ridge()),
    "sphere of a sphere": lambda: SphericalProgram(SphericalProgram(monomials())),
    "ball": lambda: RestrictedProgram(convolution("row"), 0.1),
    "union": lambda: UnionProgram([ridge(), monomials(np.float32), convolution("stencil")]),
    "all": lambda: RestrictedProgram(
        UnionProgram([SphericalProgram(UnionProgram([ridge(), convolution("dense")])), SphericalProgram(monomials())]),
        Fraction(22, 7),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_kind_comes_back(name):
    program = PROGRAMS[name]()
    points = exact_array([[Fraction(1, 3), 0.1, 2**80][: program.dim]])
    data = to_data(program, points)
    text = json.dumps(data)
    again, x = from_data(json.loads(text))
    assert type(again) is type(program)
    assert (again.digest(), str(again), again.dtype, again.manifold) == (
        program.digest(), str(program), program.dtype, program.manifold
    )  # fmt: skip
    assert x.fractions().tolist() == points.fractions().tolist()
    assert json.dumps(to_data(again, x)) == text
    near = [[Fraction(1, 25), Fraction(1, 50), 1][: program.dim]]
    assert again.evaluate(near).tolist() == program.evaluate(near).tolist()


def test_no_points_come_back_as_none():
    data = to_data(monomials(), None)
    assert data["points"] is None
    assert from_data(data)[1] is None


def test_what_is_too_large_stays_out(monkeypatch):
    program = UnionProgram([monomials(), SphericalProgram(ridge()).base])
    # 12 coefficients, and 8 + 4 + 8.
    monkeypatch.setattr(theory.data, "_MOST", 32)
    assert to_data(program, None) is not None
    monkeypatch.setattr(theory.data, "_MOST", 31)
    assert to_data(program, None) is None
    certificate = check_points(RestrictedProgram(program, 5), [[1, 2]], seed=0)
    assert certificate.data is None
    assert Certificate.from_json(certificate.to_json()).data is None


def test_what_a_user_made_stays_out():
    class Mine(MonomialProgram):
        pass

    mine = Mine(monomials().exponents, monomials().coefficients)
    assert to_data(mine, None) is None
    assert to_data(UnionProgram([monomials(), mine]), None) is None
    assert to_data(RestrictedProgram(mine, 1), None) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, "fields of the kind 'magic', expected one of monomial, ridge, convolution"),
        ({"offsets": [["1/0", "1"], ["1", "1"]]}, "'1/0', which is no fraction"),
        ({"offsets": [["1", "1"]]}, "offsets have shape"),
        ({"kind": "union", "parts": []}, "expected one space"),
        ({"kind": "ball", "radius": "0", "base": to_data(ridge(), None)["fields"]}, "expected a positive number"),
    ],
)
def test_what_no_program_has_is_refused(change, message):
    data = to_data(ridge(), None)
    with pytest.raises(ValueError, match=message):
        from_data({**data, "fields": data["fields"] | change})


def test_universality_is_about_monomials():
    content = json.loads(universal(five_fields(2), seed=0).to_json())
    content["data"]["fields"] = to_data(ridge(), None)["fields"]
    with pytest.raises(ValueError, match="universality is about monomials"):
        Certificate.from_json(json.dumps(content))
