"""A reader's own check: it needs nothing of the package, proves what holds, and refuses what does not."""

import copy
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy

import theory
from theory import (
    Certificate,
    ConvolutionProgram,
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    UnionProgram,
    check_points,
    checker,
    five_fields,
    lie_bracket,
    monomial_exponents,
    two_fields,
    universal,
)
from theory.checker import check, rank, read, rows_along, weight
from theory.curve import Curve
from theory.data import to_data
from theory.exact import exact_array
from theory.rowspace import centred

CHECKER = Path(theory.__file__).parent / "checker.py"
P = 1048573
x = sympy.Symbol("x")


def random(m, d, seed=0):
    exponents = monomial_exponents(m, 2)
    return MonomialProgram(exponents, np.random.default_rng(seed).standard_normal((d, m, len(exponents))))


def ridge(m, d, seed=0, degree=2):
    rng = np.random.default_rng(seed)
    return RidgeProgram(*(rng.standard_normal(shape) for shape in ((d, m, m), (d, m), (d, degree + 1))))


def convolution(kind, shape=(2, 2, 2), d=3, seed=0, size=3, inner=(0.5, 1, 0.25)):
    rng, channels = np.random.default_rng(seed), shape[0]
    lead = {"dense": (channels, channels), "row": (channels,), "stencil": ()}[kind]
    return ConvolutionProgram(
        shape,
        rng.standard_normal((d, *lead, size, size)).astype(np.float32),
        None if kind == "dense" else np.arange(d) % channels,
        rng.integers(0, channels, d) if kind == "stencil" else None,
        rng.standard_normal((d, channels) if kind == "dense" else d),
        np.array(inner),
        rng.standard_normal((d, 3)),
    )


def points(n, m):
    return np.random.default_rng(9).standard_normal((n, m))


PROVED = {
    "points": lambda: check_points(random(3, 4), points(6, 3), seed=1),
    "sphere": lambda: check_points(SphericalProgram(random(3, 4)), points(5, 3), seed=2),
    "one point": lambda: check_points(five_fields(2), [[1, 2]], seed=3),
    "lift": lambda: universal(two_fields(3), seed=2),
    "lift on the line": lambda: universal([[x], [1 + x**3]], symbols=(x,), seed=2),
    "ridge": lambda: check_points(ridge(3, 4, degree=3), points(5, 3), seed=6),
    "dense": lambda: check_points(convolution("dense"), points(3, 8), seed=6),
    "row": lambda: check_points(convolution("row", d=4), points(3, 8), seed=6),
    "stencil": lambda: check_points(convolution("stencil", d=6), points(3, 8), seed=6),
    "ball": lambda: check_points(RestrictedProgram(random(2, 3), 5), points(4, 2), seed=7),
    "union": lambda: check_points(UnionProgram([random(3, 2), ridge(3, 2)]), points(5, 3), seed=8),
    "in turn": lambda: check_points(
        UnionProgram([random(3, 2), ridge(3, 2), random(3, 1, seed=1)]), points(5, 3), seed=8, in_turn=True
    ),
    "in turn on spheres": lambda: check_points(
        UnionProgram([SphericalProgram(random(3, 2, seed=s)) for s in (0, 1)]), points(4, 3), seed=8, in_turn=True
    ),
    "union of spheres in a ball": lambda: check_points(
        RestrictedProgram(
            UnionProgram([SphericalProgram(convolution("row")), SphericalProgram(convolution("dense", seed=1))]), 9
        ),
        points(4, 8),
        seed=9,
    ),
    "sphere of a union": lambda: check_points(
        SphericalProgram(UnionProgram([RestrictedProgram(ridge(3, 2), 7), random(3, 2)])), points(5, 3), seed=10
    ),
    "five": lambda: universal(five_fields(3), seed=4),
    "quadratic": lambda: universal(random(2, 3), seed=5),
}


@pytest.mark.parametrize("name", PROVED)
def test_what_is_proved_is_proved_again(name):
    certificate = PROVED[name]()
    assert certificate.proved
    again = Certificate.from_json(certificate.to_json()).verify(seed=11)
    assert again.proved
    assert again.runs[-1].prime != certificate.runs[-1].prime
    for made in (certificate, again):
        assert check(json.loads(made.to_json())).startswith("checked")


def alone(tmp_path, certificates):
    """The checker, copied to an empty place and run there by a Python that sees nothing of ours."""
    (tmp_path / "checker.py").write_text(CHECKER.read_text())
    for k, certificate in enumerate(certificates):
        (tmp_path / f"{k}.json").write_text(certificate if isinstance(certificate, str) else certificate.to_json())
        yield subprocess.run(
            [sys.executable, "-I", "checker.py", f"{k}.json"], cwd=tmp_path, capture_output=True, text=True, check=False
        )


def test_it_runs_alone_in_an_empty_place(tmp_path):
    lines = [done.stdout for done in alone(tmp_path, [make() for make in PROVED.values()])]
    assert all(line.startswith("checked: ") for line in lines)
    assert lines[0].startswith("checked: rank 18 of 18 at 6 points of R^3, modulo ")
    assert lines[1].startswith("checked: rank 10 of 10 at 5 points of R^3 along the spheres through them, modulo ")
    assert "theory" not in CHECKER.read_text().split('"""')[2]


def test_alone_it_says_what_it_refuses(tmp_path):
    content = json.loads(PROVED["points"]().to_json()) | {"data": None}
    (done,) = alone(tmp_path, [json.dumps(content)])
    assert done.returncode == 1
    assert done.stderr.strip() == "refused: the certificate holds no data"


# Rows, and fields tangent to spheres


@pytest.mark.parametrize(
    "program",
    [
        random(3, 2),
        ridge(3, 4, degree=3),
        ridge(2, 3, degree=0),
        *(convolution(kind, shape=(2, 3, 2)) for kind in ("dense", "row", "stencil")),
        convolution("row", shape=(1, 2, 3), size=5, inner=(2,)),
        SphericalProgram(ridge(3, 3)),
        SphericalProgram(convolution("row", shape=(2, 1, 3))),
        SphericalProgram(SphericalProgram(random(3, 2))),
        UnionProgram([SphericalProgram(random(3, 2)), SphericalProgram(ridge(3, 3))]),
        RestrictedProgram(UnionProgram([random(3, 1), ridge(3, 2)]), Fraction(99, 7)),
    ],
    ids=str,
)
@pytest.mark.parametrize("orders", [1, 5])
def test_rows_are_those_of_the_package(program, orders):
    x = exact_array(points(2, program.dim))
    u = np.random.default_rng(3).integers(0, P, (3, program.count))
    curve = Curve(program, x, centred(u, P), orders, P)
    expected = np.concatenate([curve.coefficients() for _ in range(orders)])
    data = json.loads(json.dumps(to_data(program, x)))
    fields = read(data["fields"], [tuple(map(Fraction, row)) for row in data["points"]], P)
    assert (fields.d, fields.m, fields.sphere) == (program.count, program.dim, program.manifold == "sphere")
    found = rows_along(fields, x.residues(P), u, orders, P)
    np.testing.assert_array_equal(found, expected.astype(np.int64) % P)


def turning():
    """Along circles d/dtheta and -sin(2 theta) d/dtheta: an algebra of dimension 3."""
    return SphericalProgram(MonomialProgram([[1, 0], [0, 1]], [[[0, 1], [-1, 0]], [[1, 0], [0, -1]]]))


def rational_rank(program, x, depth):
    """The rank of explicit brackets of the rational fields, by SymPy."""
    symbols = sympy.symbols(f"x_1:{program.dim + 1}")
    fields = program.to_sympy(symbols)
    found = level = [list(V) for V in fields]
    for _ in range(depth - 1):
        level = [list(map(sympy.together, lie_bracket(V, W, symbols))) for V in fields for W in level]
        found = found + level
    rows = [
        [c.subs(dict(zip(symbols, point, strict=True))) for point in x for c in map(sympy.sympify, V)] for V in found
    ]
    return sympy.Matrix(rows).rank()


CIRCLES = [[1, 2], [3, -1], [2, 5], [-4, 1]]


def test_stacked_brackets_on_spheres_of_different_radius_are_not_scaled():
    program = turning()
    assert rational_rank(program, CIRCLES, 3) == 3
    honest = check_points(program, CIRCLES, seed=1)
    assert (honest.proved, honest.rank, honest.full_rank) == (False, 3, 4)
    # The word of the file is not taken for it. Multiplied by |x|^2 the fields would have the rank 4 here.
    with pytest.raises(ValueError, match="the rank is 3 of 4"):
        check(json.loads(honest.to_json()) | {"proved": True})


def test_what_holds_on_these_spheres_is_accepted():
    three = check_points(turning(), CIRCLES[:3], seed=1)
    assert three.proved
    assert rational_rank(turning(), CIRCLES[:3], 3) == 3
    assert check(json.loads(three.to_json())).startswith("checked: rank 3 of 3")
    more = SphericalProgram(
        MonomialProgram([[1, 0], [0, 1], [0, 0]], [[[0, 1, 0], [-1, 0, 0]], [[0, 0, 1], [0, 2, 0]]])
    )
    four = check_points(more, CIRCLES, seed=1)
    assert four.proved
    assert rational_rank(more, CIRCLES, 3) == 4
    assert check(json.loads(four.to_json())).startswith("checked: rank 4 of 4")


def test_tangent_and_other_fields_do_not_make_a_union():
    content = json.loads(check_points(SphericalProgram(random(3, 4)), points(2, 3), seed=2).to_json())
    fields = content["data"]["fields"]
    content["data"]["fields"] = {"kind": "union", "parts": [fields, fields["base"]]}
    content["runs"][-1]["curves"] = [[row + row for row in curve] for curve in content["runs"][-1]["curves"]]
    with pytest.raises(ValueError, match="live on different spaces"):
        check(content)


# Ranks


@pytest.mark.parametrize("p", [2, 5, P])
@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_the_rank_of_a_product_is_the_middle_one(p, shape):
    rng = np.random.default_rng(p)
    for middle in range(4):
        left = np.eye(shape[0], middle, dtype=np.int64) + np.tril(rng.integers(0, p, (shape[0], middle)), -1)
        right = np.eye(middle, shape[1], dtype=np.int64) + np.triu(rng.integers(0, p, (middle, shape[1])), 1)
        mixed = rng.permutation(left @ right % p, axis=0)
        assert rank(rng.permutation(mixed, axis=1), p) == middle


# Lies


def altered(name, *place, value):
    """The JSON of a certificate with one entry replaced."""
    content = json.loads(PROVED[name]().to_json())
    at = content
    for key in place[:-1]:
        at = at[key]
    assert at[place[-1]] != value
    at[place[-1]] = value
    return content


FIELDS = ("data", "fields")


@pytest.mark.parametrize("name", [n for n in PROVED if n not in ("five", "quadratic", "lift", "lift on the line")])
def test_nothing_about_the_points_is_believed(name):
    honest = json.loads(PROVED[name]().to_json())

    def refused(message, change):
        content = copy.deepcopy(honest)
        change(content)
        with pytest.raises(ValueError, match=message):
            check(content)

    if len(honest["data"]["points"]) > 1:
        refused("two points are the same", lambda c: c["data"]["points"].__setitem__(1, c["data"]["points"][0]))
    refused("the depth is", lambda c: c["runs"][-1].update(depth=c["runs"][-1]["prime"]))
    refused("the depth is", lambda c: c["runs"][-1].update(depth=2**40))
    refused("no prime", lambda c: c["runs"][-1].update(prime=1048575))
    refused("no prime", lambda c: c["runs"][-1].update(prime=2**20 + 7))
    refused("no data", lambda c: c.update(data=None))
    refused("nothing to check", lambda c: c.update(proved=False))
    refused("unknown kind|act in turn", lambda c: c["data"]["fields"].update(kind="magic"))
    refused("no certificate that can be checked", lambda c: c["data"].pop("fields"))
    refused("shape", lambda c: c["runs"][-1].update(curves=[[[1]]]))


def set_to_zero(fields, *names):
    """Coefficients of one kind set to zero, wherever they stand."""

    def zero(value):
        return [zero(part) for part in value] if isinstance(value, list) else "0"

    for part in [*fields.get("parts", []), *([fields["base"]] if "base" in fields else [])]:
        set_to_zero(part, *names)
    for name in names:
        if name in fields:
            fields[name] = zero(fields[name])


@pytest.mark.parametrize(
    ("name", "zeros"),
    [
        # Linear fields alone, or fields that no point moves: their algebra is small.
        ("ridge", ("matrices",)),
        ("dense", ("kernels",)),
        ("row", ("kernels",)),
        ("stencil", ("kernels",)),
        ("row", ("inner",)),
        ("union", ("matrices", "coefficients")),
        ("union of spheres in a ball", ("outer",)),
        ("sphere of a union", ("polynomials", "coefficients")),
    ],
)
def test_fields_that_commute_are_found_out(name, zeros):
    content = json.loads(PROVED[name]().to_json())
    set_to_zero(content["data"]["fields"], *zeros)
    with pytest.raises(ValueError, match=r"the rank is \d+ of"):
        check(content)


def test_one_coefficient_changed_is_found_out():
    # d/dx and x^2 d/dx with their bracket x d/dx move three points of the line; d/dx and 0 do not.
    honest = check_points(MonomialProgram([[0], [2]], [[[1, 0]], [[0, 1]]]), [[0], [1], [2]], seed=1)
    content = json.loads(honest.to_json())
    assert check(content).startswith("checked: rank 3 of 3")
    content["data"]["fields"]["coefficients"][1][0][1] = "0"
    with pytest.raises(ValueError, match="the rank is 1 of 3"):
        check(content)


def test_a_point_outside_the_ball_is_found_out_exactly():
    # On the edge it holds; beyond it by less than floats tell it does not.
    inside = altered("ball", "data", "points", 0, value=["3", "4"])
    assert check(inside).startswith("checked: rank 8 of 8")
    outside = altered("ball", "data", "points", 0, value=["3", f"{4 * 10**30 + 1}/{10**30}"])
    with pytest.raises(ValueError, match=r"a point is outside the ball \|x\| <= 5"):
        check(outside)
    with pytest.raises(ValueError, match="outside the ball"):
        check(altered("sphere of a union", *FIELDS, "base", "parts", 0, "radius", value="1/9"))


def test_denominators_that_the_prime_divides_are_refused():
    content = json.loads(PROVED["ridge"]().to_json())
    content["data"]["fields"]["offsets"][0][0] = f"1/{content['runs'][-1]['prime']}"
    with pytest.raises(ValueError, match="not invertible"):
        check(content)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("exponents", 0), [-1, 0, 0], "expected integers from 0"),
        (("exponents", 0), [0.5, 0, 0], "expected integers from 0"),
        (("exponents", 0), [1, 0, 0], "stands twice"),
        (("coefficients", 0, 0, 0), "1/0", "no certificate that can be checked"),
        (("coefficients", 0, 0, 0), "one", "invalid literal"),
    ],
)
def test_monomials_that_are_none_are_refused(place, value, message):
    with pytest.raises(ValueError, match=message):
        check(altered("points", *FIELDS, *place, value=value))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("outputs", 0), 2, "expected integers from 0 to below 2"),
        (("outputs",), [0], "have the shape"),
        (("inputs", 0), -1, "expected integers from 0 to below 2"),
        (("shape",), [2, 2], "have the shape"),
        (("shape",), [2, 2, 3], "have the shape"),
        (("kernels",), [[["1", "1"], ["1", "1"]]] * 6, "kernels have the shape"),
    ],
)
def test_convolutions_that_are_none_are_refused(place, value, message):
    with pytest.raises(ValueError, match=message):
        check(altered("stencil", *FIELDS, *place, value=value))


def test_fields_made_for_the_prime_are_found_out():
    honest = json.loads(PROVED["five"]().to_json())
    p, base = honest["runs"][-1]["prime"], five_fields(3)
    # (1 - p x_1) V_i: the same residues, one degree more, and all brackets vanish at x_1 = 1/p.
    exponents = np.concatenate([base.exponents, base.exponents + np.array([1, 0, 0])])
    coefficients = base.coefficients.fractions()
    both = np.concatenate([coefficients, -p * coefficients], axis=2)
    exponents, places = np.unique(exponents, axis=0, return_inverse=True)
    merged = np.zeros((*both.shape[:2], len(exponents)), dtype=object)
    for k, place in enumerate(places.reshape(-1)):
        merged[:, :, place] += both[:, :, k]
    honest["data"]["fields"]["exponents"] = exponents.tolist()
    honest["data"]["fields"]["coefficients"] = [[[str(v) for v in row] for row in field] for field in merged]
    with pytest.raises(ValueError, match="brackets do not fill the fields of degree 2"):
        check(honest)


def test_filling_too_low_a_degree_is_not_enough():
    honest = json.loads(PROVED["five"]().to_json())
    with pytest.raises(ValueError, match="degree 1 is not enough"):
        check(honest | {"degree": 1})
    with pytest.raises(ValueError, match="no certificate that can be checked"):
        check(honest | {"degree": None})


def test_fields_in_a_ball_are_not_universal():
    honest = json.loads(PROVED["five"]().to_json())
    honest["data"]["fields"] = {"kind": "ball", "radius": "1", "base": honest["data"]["fields"]}
    with pytest.raises(ValueError, match="polynomial fields on the whole space"):
        check(honest)


def test_combinations_are_multiplied_out():
    honest = json.loads(PROVED["lift"]().to_json())
    assert "combine over the rationals" in check(honest)
    for message, tamper in (
        ("not the field", lambda lift: lift["combinations"][1].__setitem__(2, "1/3")),
        ("expected 5 combinations of", lambda lift: lift["combinations"].pop()),
        ("expected 5 combinations of", lambda lift: lift["words"].pop()),
        ("not the field", lambda lift: lift["words"].__setitem__(2, [1, 1])),
        ("from 0 to below 2", lambda lift: lift["words"].__setitem__(2, [0, 7])),
        ("expected 5 combinations of", lambda lift: lift.update(combinations=[], words=[])),
    ):
        bad = copy.deepcopy(honest)
        tamper(bad["lift"])
        with pytest.raises(ValueError, match=message):
            check(bad)


def test_combinations_that_hold_modulo_p_alone_are_refused():
    honest = json.loads(PROVED["lift"]().to_json())
    p = honest["runs"][-1]["prime"]
    texts = honest["data"]["fields"]["coefficients"]
    texts[0][0][1] = str(Fraction(texts[0][0][1]) + p)
    with pytest.raises(ValueError, match="not the field it is said to be"):
        check(honest)


@pytest.mark.parametrize("terms", [0, 1, 2**12, 2**12 + 1, 3 * 2**12])
def test_products_by_floats_are_exact(terms):
    a, b = np.full((2, 3, terms), P - 1), np.full((terms, 2), P - 2)
    assert checker.matmul(a, b).tolist() == np.full((2, 3, 2), terms * (P - 1) * (P - 2)).tolist()


def test_a_variable_that_no_field_has():
    # The last one moves along alone.
    program = MonomialProgram([[0, 0], [1, 0]], [[[0, 1], [1, 0]], [[1, 0], [0, 1]]])
    certificate = check_points(program, [[1, 2]], seed=0)
    assert check(json.loads(certificate.to_json())).startswith("checked: rank 2 of 2")


@pytest.mark.parametrize("kind", ["dense", "row", "stencil"])
def test_what_fields_on_images_take_is_read_off_their_data(kind, monkeypatch):
    program, spread = convolution(kind, (2, 4, 5), d=6), []
    monkeypatch.setattr(checker, "layer", lambda rows, *_: spread.append(rows.size))
    data = to_data(program, exact_array(points(1, 40)))["fields"]
    read(data, [], P)
    work, once, each, fields = weight(data)
    rows = spread[0] // 40
    assert spread[0] <= once <= 1.5 * spread[0]
    assert 2 * spread[0] <= work <= 4 * spread[0]
    assert (each, fields) == (rows + 40, 6)
    assert weight({"parts": [data, {"base": data}]}) == (2 * work, 2 * once, 2 * each, 12)


def test_one_image_at_the_first_stage_of_mnist_is_no_more_than_a_file_may_ask_for():
    # 248 fields on ten channels of 14 by 14, nine curves of eight orders: what its certificate has.
    shape, zeros = (10, 14, 14), np.zeros(124)
    part = ConvolutionProgram(
        shape, np.ones((124, 10, 3, 3)), np.arange(124) % 10, None, zeros, [0, 1], np.ones((124, 3))
    )
    data = to_data(SphericalProgram(UnionProgram([part, part])), exact_array(np.ones((1, 1960))))
    run = {"depth": 8, "curves": [[[1] * 248] * 3] * 9, "prime": P}
    certificate = {"claim": "points", "proved": True, "data": data, "runs": [run], "degree": None, "lift": None}
    with pytest.MonkeyPatch.context() as patch:
        # It is read only after what it asks for was allowed.
        patch.setattr(checker, "read", lambda *_: [][0])
        with pytest.raises(ValueError, match="no certificate that can be checked"):
            check(certificate)
    data["points"] *= 40
    with pytest.raises(ValueError, match="two points are the same"):
        check(certificate)
    data["points"] = [[str(n), *row[1:]] for n, row in enumerate(data["points"])]
    with pytest.raises(ValueError, match="the file asks for some"):
        check(certificate)
