"""What was tried against certificates and found to be false, silent or endless: refused now."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy

import theory
from theory import Certificate, RestrictedProgram, SphericalProgram, UnionProgram, check_points, five_fields, universal
from theory.text import parse_fields, parse_number

x, y = sympy.symbols("x y")
CHECKER = Path(theory.__file__).parent / "checker.py"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda V: RestrictedProgram(V, 1),
        lambda V: UnionProgram([RestrictedProgram(V, 1)]),
        lambda V: UnionProgram([V, UnionProgram([RestrictedProgram(V, 1)])]),
    ],
)
def test_what_holds_in_a_ball_is_never_claimed_outside(wrap):
    with pytest.raises(ValueError, match="what is known in a ball only says nothing of all points"):
        universal(wrap(five_fields(2)), seed=0)
    certificate = check_points(wrap(five_fields(2)), [[0.1, 0.2], [0.3, -0.4]], seed=0)
    assert certificate.scope == "points of the ball"
    assert str(certificate).endswith("for generic points of the ball and coefficients.")


def test_a_ball_is_seen_through_spheres():
    on_spheres = SphericalProgram(RestrictedProgram(five_fields(3), 1))
    certificate = check_points(on_spheres, [[0.1, 0.2, 0], [0.3, -0.4, 0.5]], seed=0)
    assert certificate.scope == "sphere of the ball"
    assert "on the spheres through these points" in str(certificate)
    assert str(certificate).endswith("for generic points of the ball and coefficients.")


def test_the_jacobian_of_a_restricted_program_is_the_bases():
    from theory.rings import Residues

    points = np.array([[1, 2], [3, 4]])
    ring = Residues.of(theory.exact_array(points), 1048573)
    found, expected = (V.jacobian(ring).values for V in (RestrictedProgram(five_fields(2), 9), five_fields(2)))
    assert (found == expected).all()


def test_divergence_free_families_are_not_said_to_fail_at_points():
    fields = [[sympy.diff(h, y), -sympy.diff(h, x)] for h in (x, y, x * x, y * y, x**3)]
    text = str(universal(fields, symbols=(x, y), seed=0, max_degree=5))
    assert "It does not hold" not in text
    assert "They do not span all polynomial fields" in text
    assert "theory.check_points" in text
    points = np.random.default_rng(0).integers(-99, 100, (12, 2))
    assert check_points(fields, points, symbols=(x, y), seed=0)


def test_on_the_line_there_are_no_spheres():
    with pytest.raises(ValueError, match="expected dim >= 2"):
        SphericalProgram(theory.MonomialProgram([[1]], [[[1]]]))


# Certificates that were written by others


def written(words=True):
    rng = np.random.default_rng(6)
    program = theory.MonomialProgram(theory.monomial_exponents(2, 2), rng.integers(-5, 6, (2, 2, 6)))
    return json.loads(check_points(program, rng.integers(-9, 10, (2, 2)), words=words, seed=0).to_json())


@pytest.mark.parametrize(
    "words",
    [[[-1], [0], [1, 0]], [[0]], [[5, 0]] * 4, [[]] * 4, [["a"]] * 4, [[0] * 40] * 4, [[True], [0], [0, 1], [1, 0]]],
)
def test_words_that_are_none_are_refused(words):
    content = written() | {"words": words}
    with pytest.raises(ValueError, match="the certificate has words that are not 4 of letters 0 to 1"):
        Certificate.from_json(json.dumps(content))


def test_words_that_depend_on_each_other_are_found_out():
    content = written() | {"words": [[0], [1], [0, 1], [1, 0]]}
    again = Certificate.from_json(json.dumps(content)).verify(seed=3)
    assert again.proved
    assert again.words == ()
    assert again.note == "the words at hand were not seen to be independent"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(runs=[]), "no runs"),
        (lambda c: c["data"].update(points=[]), "points have shape"),
        (lambda c: c["data"].update(points=[["1"]]), "points have shape"),
        (lambda c: c["data"].update(points=[["1", "2"], ["2/2", "2"]]), "the same point"),
        (lambda c: c["data"].update(points=[["1e9999999999", "2"]]), "no fraction"),
        (lambda c: c["data"].update(points=[["inf", "2"]]), "no fraction"),
        (lambda c: c.update(claim="everything"), "this is no certificate"),
    ],
)
def test_data_that_no_certificate_has_are_refused(change, message):
    content = written()
    change(content)
    with pytest.raises(ValueError, match=message):
        Certificate.from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "usage: python checker.py certificate.json"),
        ("not there", "no JSON file that can be read"),
        ("{", "no JSON file that can be read"),
        ("[" * 100_000, "no JSON file that can be read"),
        ("{}", "no certificate that can be checked"),
    ],
)
def test_the_checker_ends_in_a_line(text, message, tmp_path):
    file = tmp_path / "c.json"
    if text != "not there":
        file.write_text(text or "")
    ran = subprocess.run([sys.executable, CHECKER, *([file] if text else [])], capture_output=True, text=True)
    assert ran.returncode == 1
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_checker_says_what_the_file_is_about(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(written()))
    ran = subprocess.run([sys.executable, CHECKER, tmp_path / "c.json"], capture_output=True, text=True, check=True)
    first, second = ran.stdout.splitlines()
    assert first.startswith("checked: rank 4 of 4")
    assert second.startswith("The file says that this is about: MonomialProgram: 2 fields on R^2")


def test_the_checker_knows_the_monomials_of_many_variables():
    from theory.checker import fills

    # Nothing to fill with: what takes long are the monomials, 3**16 where they are not counted by their degree.
    assert not fills([{}], [0], 16, 2, 1048573)


# Files


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("V = (((9^64)^64)^64)^64, y", "a coefficient of more than 8192 bits"),
        ("V = ((1e400^64)^64)^64, y", "more than"),
        ("V = 0." + "1" * 1_000_000 + ", y", "a number of more than 400 digits"),
        ("V = " + "-" * 5000 + "x, y", r"no expression|nested too deeply"),
        ("V = x, y) + (0", "no expression"),
        ("V = yield x", "no expression"),
        ("V = xﬁ, y", "no expression"),
    ],
)
def test_texts_that_are_no_fields_end_soon(line, message):
    with pytest.raises(ValueError, match=message):
        parse_fields(f"symbols: x y xfi\n{line}\n")


def test_letters_that_look_alike_are_no_names():
    with pytest.raises(ValueError, match="names no coordinates"):
        parse_fields("symbols: xﬁ y\nV = y, y\n")


def test_long_sums_are_read():
    text = " + ".join(f"{k}*x" for k in range(1, 3001))
    assert parse_fields(f"symbols: x\nV = {text} - 1\n").to_sympy((x,)) == [[3000 * 3001 // 2 * x - 1]]


@pytest.mark.parametrize(
    ("text", "value"), [("1/3", Fraction(1, 3)), ("-0.5", Fraction(-1, 2)), ("1e-3", Fraction(1, 1000)), (" 7", 7)]
)
def test_numbers_are_what_is_written(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["1e99999999", "1/0", "x", "", "nan", "inf", "1/2/3", "9" * 401])
def test_numbers_that_are_none(text):
    with pytest.raises(ValueError, match="number"):
        parse_number(text)


def test_numbers_too_long_to_be_written_are_certified_without_data():
    certificate = check_points([[10**5000 * x, 1], [y, x**2], [1, 0]], [[1, 2], [0, 1]], symbols=(x, y), seed=0)
    assert certificate.proved
    assert certificate.data is None


@pytest.mark.parametrize(("primes", "limit"), [(0, None), (1, -1.0), (1, float("nan"))])
def test_effort_is_checked(primes, limit):
    for check in (lambda **o: universal(five_fields(2), **o), lambda **o: check_points(five_fields(2), [[1, 2]], **o)):
        with pytest.raises(ValueError, match=r"expected at least 1|expected seconds from 0 up"):
            check(primes=primes, time_limit=limit)


# Conditions


@pytest.mark.parametrize(
    "zero", [sympy.log(6) - sympy.log(2) - sympy.log(3), sympy.sin(1) ** 2 + sympy.cos(1) ** 2 - 1]
)
def test_coefficients_whose_zeros_are_hard_to_see_are_refused(zero):
    five = five_fields(2).to_sympy((x, y))
    a = sympy.Symbol("a")
    with pytest.raises(ValueError, match="irrational coefficients"):
        theory.condition_two([[a * five[0][0] + zero * y, a * five[0][1]], *five[1:]], (x, y), (a,))


def test_symbols_are_named_once():
    five = five_fields(2).to_sympy((x, y))
    a = sympy.Symbol("a")
    with pytest.raises(ValueError, match="name one twice"):
        theory.condition_two(five, (x, y), (a, a))
    with pytest.raises(ValueError, match="expected an expression or a number"):
        theory.condition_two([[None, None], *five[1:]], (x, y), (a,))


# Brackets


def test_points_may_be_given_in_terms_of_the_coordinates():
    assert theory.evaluate_at([x, y], (x, y), [[y, x]]) == [y, x]
    assert theory.evaluate_at([x, y], (x, y), [[x + y, x]]) == [x + y, x]
    fields = [[y, -x], [x**2, 1]]
    moved = theory.gamma(fields, [[y, x]], 2, symbols=(x, y))
    a, b = sympy.symbols("a b")
    expected = theory.gamma(fields, [[a, b]], 2, symbols=(x, y)).subs({a: y, b: x}, simultaneous=True)
    assert sympy.expand(moved - expected) == 0


def test_floats_cancel_as_the_rationals_they_are():
    A = sympy.Matrix([[0.3, 0.7], [0.11, 0.2]]).applyfunc(lambda c: sympy.Rational(*float(c).as_integer_ratio()))
    V, W = (list(M * sympy.Matrix([x, y])) for M in (A, A * A))
    assert theory.lie_bracket(V, W, (x, y)) == [0, 0]
    floats = [[0.3 * x + 0.7 * y, 0.11 * x + 0.2 * y], [0.1 * y, 0]]
    assert theory.gamma(floats, [[1, 2], [3, 5]], 3, symbols=(x, y)) > 0
    assert not any(c.atoms(sympy.Float) for c in theory.lie_bracket(*floats, (x, y)))


def test_families_are_read_where_expressions_are():
    five = five_fields(2)
    assert theory.gamma(five, np.array([[1, 2]]), 1, symbols=(x, y)) == theory.gamma(
        five.to_sympy((x, y)), [[1, 2]], 1, symbols=(x, y)
    )
    assert len(theory.lie_algebra(five, (x, y), 1)) == 5


def test_left_and_right_normed_words_are_nested_so():
    fields = [[1, 0], [0, x**3], [y, x]]
    left = [str(W) for W in theory.lie_algebra(fields, (x, y), 3, basis="left")]
    right = [str(W) for W in theory.lie_algebra(fields, (x, y), 3, basis="right")]
    assert "[[V_1, V_2], V_1]" in left
    assert "[V_1, [V_1, V_2]]" in right
    assert len(left) == len(right)


def test_truth_is_that_of_the_proof():
    assert check_points(five_fields(2), [[1, 2]], seed=0)
    assert not universal(theory.MonomialProgram([[1, 0]], [[[1], [0]]]), seed=0)
