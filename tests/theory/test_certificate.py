"""Certificates: written, read, proved again, and refused when they are no longer about the same data."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import sympy

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
    monomial_exponents,
    universal,
)

x, y, z = sympy.symbols("x y z")
POINTS = [(1, 2), (Fraction(1, 3), -4), (0.5, 0.1)]


def quadratic(seed=0, dtype=np.float32, d=3):
    exponents = monomial_exponents(2, 2)
    return MonomialProgram(exponents, np.random.default_rng(seed).standard_normal((d, 2, len(exponents))).astype(dtype))


def linear():
    return MonomialProgram(np.eye(2, dtype=int), [[[1, 2], [3, 5]], [[0, 1], [1, 1]]])


def thirds():
    return MonomialProgram([[2], [0]], [[[Fraction(1, 3), 1]], [[1, 0]]])


def ridge():
    rng = np.random.default_rng(0)
    return RidgeProgram(rng.standard_normal((5, 2, 2)), rng.standard_normal((5, 2)), rng.standard_normal((5, 4)))


def convolution():
    rng = np.random.default_rng(0)
    kernels, channels = rng.standard_normal((5, 2, 3, 3)).astype(np.float32), np.arange(5) % 2
    return ConvolutionProgram((2, 1, 1), kernels, channels, None, rng.standard_normal(5), [0, 1, 3], rng.random((5, 3)))


PROVED = {
    "points": lambda: check_points(quadratic(), POINTS, seed=1),
    "fractions": lambda: check_points(thirds(), [[0], [1]], seed=1),
    "sphere": lambda: check_points(SphericalProgram(quadratic()), POINTS, seed=1),
    "five": lambda: universal(five_fields(2), seed=1),
    "universal": lambda: universal(quadratic(), seed=1),
    "ridge": lambda: universal(ridge(), seed=1),
    "ridge at points": lambda: check_points(ridge(), POINTS, seed=1),
    "convolution": lambda: check_points(convolution(), POINTS, seed=1),
    "union of spheres": lambda: check_points(
        UnionProgram([SphericalProgram(convolution()), SphericalProgram(ridge())]), POINTS, seed=1
    ),
    "ball": lambda: check_points(RestrictedProgram(ridge(), Fraction(100, 3)), POINTS, seed=1),
}
DEFICIENT = {
    "points": lambda: check_points(linear(), POINTS, seed=1),
    "universal": lambda: universal(linear(), seed=1, max_degree=3),
    "late": lambda: check_points(quadratic(), POINTS, seed=1, time_limit=1e-9),
}


# There and back


@pytest.mark.parametrize("name", [*PROVED, "not at points", "not universal"])
def test_what_is_written_is_read(name):
    certificate = (PROVED | {"not at points": DEFICIENT["points"], "not universal": DEFICIENT["universal"]})[name]()
    again = Certificate.from_json(certificate.to_json())
    assert again == certificate
    assert str(again) == str(certificate)
    assert again.data == certificate.data
    assert again.to_json() == certificate.to_json()


@pytest.mark.parametrize("name", PROVED)
def test_it_is_proved_again_with_other_primes(name):
    certificate = PROVED[name]()
    assert certificate.proved
    for held in (certificate, Certificate.from_json(certificate.to_json())):
        again = held.verify(seed=2)
        assert again.proved
        assert {run.prime for run in again.runs}.isdisjoint(run.prime for run in certificate.runs)
        assert (again.rank, again.full_rank, again.degree) == (
            certificate.rank, certificate.full_rank, certificate.degree
        )  # fmt: skip
        assert (again.digest, again.points_digest, again.subject, again.dtype) == (
            certificate.digest, certificate.points_digest, certificate.subject, certificate.dtype
        )  # fmt: skip


@pytest.mark.parametrize("name", ["points", "five"])
def test_without_a_seed_a_new_one_is_drawn(name):
    certificate = PROVED[name]()
    seeds = {certificate.verify().seed, certificate.verify().seed, certificate.seed}
    assert len(seeds) == 3


@pytest.mark.parametrize("name", ["points", "universal"])
def test_what_was_not_proved_is_not_proved_again(name):
    certificate = DEFICIENT[name]()
    again = Certificate.from_json(certificate.to_json()).verify(seed=2)
    assert not again.proved
    assert again.rank == certificate.rank


def test_a_larger_degree_is_proved_again():
    certificate = universal(five_fields(2), seed=1, min_degree=4)
    assert certificate.degree == 4
    for held in (certificate, Certificate.from_json(certificate.to_json())):
        assert held.verify(seed=2).degree == 4


def test_a_largest_degree_stays_the_largest():
    certificate = universal(quadratic(d=2), seed=1, max_degree=4)
    assert not certificate.proved
    for held in (certificate, Certificate.from_json(certificate.to_json())):
        assert not held.verify(seed=2).proved


def test_fields_that_are_not_known_name_their_data_by_digests_alone():
    class Mine(RidgeProgram):
        pass

    base = ridge()
    certificate = check_points(Mine(base.matrices, base.offsets, base.polynomials), POINTS, seed=1)
    assert certificate.data is None
    assert certificate.verify(seed=2).proved
    again = Certificate.from_json(certificate.to_json())
    assert again == certificate
    with pytest.raises(ValueError, match="holds no data to verify"):
        again.verify()


def test_seeds_of_numpy_are_integers():
    certificate = check_points(quadratic(), POINTS, seed=np.int64(3))
    assert Certificate.from_json(certificate.to_json()) == check_points(quadratic(), POINTS, seed=3)


# What is no certificate


GARBAGE = ["", "garbage", "3", "null", '"text"', "{}", "[]", '["format"]', '{"format": 2}', '{"format": 2, "runs": []}']


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_no_certificate(text):
    with pytest.raises(ValueError, match="this is no certificate"):
        Certificate.from_json(text)


@pytest.mark.parametrize("left_out", ["runs", "claim", "digest", "seed"])
def test_a_certificate_with_something_missing_is_none(left_out):
    content = json.loads(PROVED["five"]().to_json())
    del content[left_out]
    with pytest.raises(ValueError, match="this is no certificate"):
        Certificate.from_json(json.dumps(content))


@pytest.mark.parametrize("found", [0, 1, "2", None])
def test_another_format_is_refused(found):
    content = json.loads(PROVED["five"]().to_json()) | {"format": found}
    with pytest.raises(ValueError, match=f"the certificate has format {found}, expected 2: make it anew"):
        Certificate.from_json(json.dumps(content))


# What has changed


def altered(certificate, *place, value):
    """The certificate with one entry of its JSON replaced, read again."""
    content = json.loads(certificate.to_json())
    at = content
    for key in place[:-1]:
        at = at[key]
    assert at[place[-1]] != value
    at[place[-1]] = value
    return Certificate.from_json(json.dumps(content))


PLANE = json.loads(check_points(quadratic(), POINTS, seed=1).to_json())["data"]["fields"]


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("points", ("data", "fields", "coefficients", 0, 1, 2), "1/8"),
        ("points", ("data", "points", 1, 0), "1/4"),
        ("points", ("data", "fields", "exponents", 5), [0, 3]),
        ("sphere", ("data", "fields", "base", "coefficients", 0, 1, 2), "1/8"),
        ("sphere", ("data", "fields"), PLANE),
        ("points", ("data", "fields"), {"kind": "sphere", "base": PLANE}),
        ("points", ("data", "fields"), {"kind": "union", "parts": [PLANE]}),
        ("points", ("data", "fields"), {"kind": "ball", "radius": "9", "base": PLANE}),
        ("ridge at points", ("data", "fields", "matrices", 0, 1, 1), "1/8"),
        ("ridge at points", ("data", "fields", "polynomials", 4, 3), "1/8"),
        ("universal", ("data", "fields", "coefficients", 0, 1, 2), "1/8"),
        ("universal", ("digest",), "0" * 64),
        ("points", ("points_digest",), "0" * 64),
    ],
)
def test_data_that_have_changed_are_found_out(name, place, value):
    with pytest.raises(ValueError, match="the data have changed since this certificate was made"):
        altered(PROVED[name](), *place, value=value).verify(seed=2)


def test_data_that_have_changed_in_memory_are_found_out():
    one, other = check_points(quadratic(0), POINTS, seed=1), check_points(quadratic(1), POINTS, seed=1)
    with pytest.raises(ValueError, match="the data have changed"):
        replace(one, prover=other.prover).verify(seed=2)


def test_a_claim_that_was_forged_is_not_confirmed():
    for make in (DEFICIENT["points"], DEFICIENT["universal"]):
        certificate = make()
        forged = altered(certificate, "proved", value=True)
        assert not forged.verify(seed=2).proved


# What it records


def ask_points(fields):
    return check_points(fields, POINTS, seed=1)


def ask_universal(fields):
    return universal(fields, seed=1)


@pytest.mark.parametrize("ask", [ask_points, ask_universal])
def test_digest_and_dtype_are_those_of_the_numbers_given(ask):
    fields = quadratic(dtype=np.float32)
    content = json.loads(ask(fields).to_json())
    assert (content["dtype"], content["data"]["fields"]["dtype"]) == ("float32", "float32")
    assert content["digest"] == fields.digest()
    widened = MonomialProgram(fields.exponents, fields.coefficients.fractions().astype(np.float64))
    assert ask(widened).digest == content["digest"]
    assert ask(widened).dtype == "float64"
    exact = MonomialProgram(fields.exponents, fields.coefficients.fractions())
    assert (ask(exact).digest, ask(exact).dtype) == (content["digest"], None)
    assert ask(quadratic(1)).digest != content["digest"]


def test_data_are_the_exact_fractions():
    data = json.loads(PROVED["points"]().to_json())["data"]
    read = [[[Fraction(c) for c in row] for row in field] for field in data["fields"]["coefficients"]]
    assert read == quadratic().coefficients.fractions().tolist()
    assert [tuple(map(Fraction, x)) for x in data["points"]] == [tuple(map(Fraction, x)) for x in POINTS]
    assert data["points"][2][1] != "1/10"


def test_curves_are_kept_as_residues():
    certificate = PROVED["points"]()
    for run in certificate.runs:
        assert run.curves
        for curve in run.curves:
            assert {len(row) for row in curve} == {certificate.count}
            assert all(0 <= u < run.prime for row in curve for u in row)


def test_the_best_run_is_told():
    for make in (*PROVED.values(), DEFICIENT["points"], DEFICIENT["universal"]):
        certificate = make()
        assert certificate.rank == max(run.rank for run in certificate.runs)
        assert certificate.proved == (certificate.rank == certificate.full_rank)


def test_a_deficient_rank_disproves_nothing():
    # Heisenberg's two fields at two points: dimension 3 of 6, which is no bound that is looked for.
    x, y, z = sympy.symbols("x y z")
    heisenberg = [[1, 0, -y / 2], [0, 1, x / 2]]
    for certificate in (
        check_points(heisenberg, [[0, 0, 0], [1, 2, 3]], symbols=(x, y, z), seed=0),
        universal([[x * x, 0], [0, x * y], [1, y]], symbols=(x, y), seed=0, max_degree=4),
    ):
        text = str(certificate)
        assert text.startswith("Not proved: rank ")
        assert text.endswith("proves nothing either way.")
        assert not [word for word in ("false", "disproved", "impossible", "cannot", "not hold") if word in text.lower()]
        assert f"rank {certificate.rank} of {certificate.full_rank} with {len(certificate.runs)} primes" in text
        assert not certificate


@pytest.mark.parametrize("name", ["points", "universal"])
def test_what_a_bound_excludes_is_said_not_to_hold(name):
    certificate = DEFICIENT[name]()
    assert certificate.impossible
    said = "It does not hold" if name == "points" else "They do not span all polynomial fields"
    assert str(certificate).endswith(f"{said}: {certificate.impossible}.")
    assert Certificate.from_json(certificate.to_json()).impossible == certificate.impossible


def test_a_late_one_is_not_disproved_either():
    text = str(DEFICIENT["late"]())
    assert text.startswith("Not proved: rank 0 of 6")
    assert "stopped after 1e-09 s" in text
