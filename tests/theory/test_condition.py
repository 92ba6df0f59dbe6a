"""Condition 2 of the main theorem, where its parameter is known, is to be found, or does not exist."""

import pytest
import sympy

import theory
from theory import condition_two

x, y = sympy.symbols("x y")
a, b, c = sympy.symbols("a b c")
FIVE = theory.five_fields(2).to_sympy((x, y))


def at(expressions, values):
    return [[sympy.sympify(e).subs(values) for e in V] for V in expressions]


def test_the_identity_map_of_the_theorems_example():
    # Q is the identity: every coefficient is a parameter, and z are the explicit coefficients.
    monomials = [1, x, y, x**2, x * y, y**2]
    z = sympy.symbols("z:60")
    fields = [[sum(z[12 * i + 6 * j + k] * t for k, t in enumerate(monomials)) for j in range(2)] for i in range(5)]
    found = condition_two(fields, (x, y), z)
    assert found.holds
    assert at(fields, found.parameter) == FIVE


def test_a_polynomial_map_is_solved():
    fields = [[a**3 * t + b * x**2 for t in FIVE[0]], *FIVE[1:4], [(a + c) * t for t in FIVE[4]]]
    found = condition_two(fields, (x, y), (a, b, c))
    assert found.holds
    assert found.parameter == {a: 1, b: 0, c: 0}
    assert [[sympy.expand(t) for t in V] for V in at(fields, found.parameter)] == FIVE


def test_irrational_parameters_are_exact():
    fields = [[(a**2 - 1) * t for t in FIVE[0]], *FIVE[1:]]
    found = condition_two(fields, (x, y), (a,))
    assert found.holds
    assert found.parameter[a] ** 2 == 2


def test_none_that_exists_is_a_proof():
    # Both are asked of one parameter, and nothing random generates either: the fields are affine but for two.
    found = condition_two(
        [[a * t for t in FIVE[0]], [(a - 1) * t for t in FIVE[1]], [0, 0], [0, 0], [0, 0]], (x, y), (a,)
    )
    assert found.holds is False
    assert not found
    assert "The explicit five are not reached: no parameter, real or complex" in str(found)
    # a**2 = -1 has no real solution, by Sturm.
    found = condition_two([[-(a**2) * t for t in FIVE[0]], [0, 1], [0, 1], [0, 1], [0, 1]], (x, y), (a,))
    assert found.holds is False


def test_a_family_that_misses_the_five_may_generate_all_the_same():
    for fields in ([[2 * t for t in FIVE[0]], *FIVE[1:]], [[-(a**2) * t for t in FIVE[0]], *FIVE[1:]], FIVE[::-1]):
        found = condition_two([*fields, [a * x, 0]], (x, y), (a,), seed=0)
        assert found.holds
        assert found.certificate.proved


def test_real_roots_are_told_from_complex_ones():
    for polynomial, root in ((a**5 - a - 1, 1.1673), (a**3 + a - 1, 0.6823)):
        found = condition_two([[(polynomial + 1) * t for t in FIVE[0]], *FIVE[1:]], (x, y), (a,))
        assert found.holds
        assert float(found.parameter[a]) == pytest.approx(root, abs=1e-4)


def test_free_parameters_are_tried_where_solutions_are_real():
    found = condition_two([[4 * (a**2 + b**2) * t for t in FIVE[0]], *FIVE[1:]], (x, y), (a, b))
    assert found.holds
    assert found.certificate is None
    assert sympy.simplify(found.parameter[a] ** 2 + found.parameter[b] ** 2) == sympy.Rational(1, 4)


def test_without_parameters():
    assert condition_two(FIVE, (x, y), ()).holds
    assert condition_two([*FIVE, [x**3, 0]], (x, y), ()).holds
    assert condition_two([FIVE[1], FIVE[0], *FIVE[2:]], (x, y), ()).holds is False


@pytest.mark.parametrize("m", [2, 3])
def test_seven_ridge_fields_of_the_corollary(m):
    # x_m x_j is a difference of two squares, so that seven fields sigma_i(C_i x + b_i) have the five among their sums.
    s = sympy.symbols(f"x_1:{m + 1}")
    C = [sympy.Matrix(m, m, sympy.symbols(f"c{i}_0:{m * m}")) for i in range(7)]
    offsets = [sympy.symbols(f"b{i}_0:{m}") for i in range(7)]
    sigma = [sympy.symbols(f"s{i}_0:3") for i in range(7)]
    fields = []
    for i in range(7):
        r = C[i] * sympy.Matrix(s) + sympy.Matrix(offsets[i])
        fields.append([sum(w * t**k for k, w in enumerate(sigma[i])) for t in r])
    five = theory.five_fields(m)
    diagonal, last = theory.five_diagonal(m), m - 1
    cyclic = sympy.Matrix(m, m, lambda j, k: int(k == (j - 1) % m))
    ones = sympy.Matrix(m, m, lambda j, k: int(k == last))
    matrices = [
        sympy.diag(*diagonal),
        cyclic,
        sympy.zeros(m),
        sympy.Matrix(m, m, lambda j, k: int(j == 0 and k == last)),
        sympy.eye(m) + ones,
        sympy.eye(m) - ones,
        sympy.zeros(m),
    ]
    shapes = [(0, 1, 0), (0, 1, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 0)]
    z = {}
    for i in range(7):
        z.update(zip(C[i], matrices[i], strict=True))
        z.update(zip(offsets[i], [int(i == 2 and j == last) for j in range(m)], strict=True))
        z.update(zip(sigma[i], shapes[i], strict=True))
    drawn = at(fields, z)
    assert [[sympy.expand(t) for t in V] for V in drawn[:4]] == five.to_sympy(s)[:4]
    # x_m x as (1/4) of the fifth minus the sixth
    assert [sympy.expand((p - q) / 4) for p, q in zip(drawn[4], drawn[5], strict=True)] == five.to_sympy(s)[4]
    found = condition_two(fields, s, list(z), at={key: int(value) for key, value in z.items()}, seed=0)
    assert found.holds
    assert found.certificate.proved


def test_a_parameter_that_is_given_is_tried_exactly():
    fields = [[a * t for t in FIVE[0]], *FIVE[1:]]
    assert condition_two(fields, (x, y), (a,), at={a: 1}).certificate is None
    scaled = condition_two(fields, (x, y), (a,), at={a: 0.1}, seed=0)
    assert scaled.holds
    assert scaled.parameter[a] == sympy.Rational(*(0.1).as_integer_ratio())
    assert "generate all" in str(scaled)
    nothing = condition_two([[a * x, a * y]], (x, y), (a,), at={a: 3}, seed=0)
    assert nothing.holds is None
    assert not nothing.certificate.proved


def test_what_is_refused(bad_input):
    with pytest.raises(ValueError, match="4 fields are not five"):
        condition_two(FIVE[:4], (x, y), (a,))
    with pytest.raises(ValueError, match="has the free symbol b: expected only"):
        condition_two([[b * x, 0], *FIVE], (x, y), (a,))
    with pytest.raises(ValueError, match="field 2, tanh"):
        condition_two([FIVE[0], [sympy.tanh(x), 0], *FIVE[2:]], (x, y), (a,))
    with pytest.raises(ValueError, match="no polynomial"):
        condition_two([[x / a, 0], *FIVE], (x, y), (a,))
    with pytest.raises(ValueError, match="expected a number for each of"):
        condition_two(FIVE, (x, y), (a,), at={b: 1})
    with pytest.raises(ValueError, match="are coordinates and parameters"):
        condition_two(FIVE, (x, y), (x,))
    with pytest.raises(ValueError, match="expected integers, Fractions or finite floats"):
        condition_two(FIVE, (x, y), (a,), at={a: sympy.sqrt(2)})
    with pytest.raises(ValueError, match="lists of 2 expressions"):
        condition_two([[x]], (x, y), (a,))
