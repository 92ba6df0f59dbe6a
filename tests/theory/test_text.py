"""Fields from a text: read exactly, as data; what is no polynomial is refused with its line."""

import pytest
import sympy

from theory.text import parse_fields

X, Y = sympy.symbols("x_1 x_2")


def test_a_text_is_read_exactly():
    program = parse_fields(
        """
        # a rotation and more
        symbols: x y
        V1 = y, -x
        W = x^2/2 + 3*y, 0.1*(x - y)**3   # cubic
        last = 0, 1.0000000000000000000001 - 2
        """
    )
    tiny = sympy.Rational("0.0000000000000000000001")
    want = [[Y, -X], [X**2 / 2 + 3 * Y, (X - Y) ** 3 / 10], [0, -1 + tiny]]
    for got, expected in zip(program.to_sympy((X, Y)), want, strict=True):
        assert all(sympy.expand(a - b) == 0 for a, b in zip(got, expected, strict=True))
    assert (program.count, program.dim, program.degree) == (3, 2, 3)


@pytest.mark.parametrize(
    ("right", "words"),
    [
        ("tanh(x)", "line 2: 'tanh\\(x\\)' is no polynomial"),
        ("__import__('os').system('true')", "is no polynomial"),
        ("x.real", "is no polynomial"),
        ("[x for x in (1,)]", "is no polynomial"),
        ("lambda: x", "is no polynomial"),
        ("x if x else 1", "is no polynomial"),
        ("'x'", "is no polynomial"),
        ("True", "is no polynomial"),
        ("1j", "is no polynomial"),
        ("x**x", "exponent is no non-negative integer"),
        ("x**-1", "exponent is no non-negative integer"),
        ("x**0.5", "exponent is no non-negative integer"),
        ("1/x", "a division by what is no number"),
        ("1/0", "a division by what is no number"),
        ("x//2", "is no polynomial"),
        ("(1 + x)**9999", "a power above 64"),
        ("((x**64)**64)", "a degree above 64"),
        ("1e999999999", "more than 400 digits"),
        ("0x10", "not written in decimals"),
        ("z", "the unknown symbol z; known are x"),
        ("(", "is no expression"),
        ("x,,", "is no expression"),
        ("x, x", "2 components, expected 1"),
    ],
)
def test_what_is_no_polynomial_is_refused_with_its_line(right, words):
    with pytest.raises(ValueError, match=words):
        parse_fields(f"symbols: x\nV = {right}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no fields"),
        ("V = 1", "line 1: a field before the coordinates"),
        ("symbols: x x", "line 1: .* names no coordinates"),
        ("symbols: x\nsymbols: y", "line 2: .* names no coordinates"),
        ("symbols: x\nx + 1", "line 2: 'x \\+ 1' is no field"),
        ("symbols: 1x\nV = 1", "names no coordinates"),
    ],
)
def test_lines_that_are_none(text, words):
    with pytest.raises(ValueError, match=words):
        parse_fields(text)


def test_terms_do_not_explode():
    names = " ".join(f"a{k}" for k in range(30))
    with pytest.raises(ValueError, match="more than 100,000 terms"):
        parse_fields(f"symbols: {names}\nV = ({'+'.join(names.split())} + 1)**20" + ", 0" * 29)


def test_what_editors_do_to_text_is_read():
    made = parse_fields("\ufeffsymbols: x y\nV = x \u2212 y, \u22122*x\n")
    assert made.to_sympy(sympy.symbols("x y")) == [[sympy.sympify("x - y"), sympy.sympify("-2*x")]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("V = 2x, y", "write products with \\*, as in 2\\*x"),
        ("V = (x, y), 1", "in brackets of its own: write the components with commas between"),
        ("V = x, y\nV = y, x", "line 3: a second field V"),
    ],
)
def test_common_slips_are_told(line, words):
    with pytest.raises(ValueError, match=words):
        parse_fields(f"symbols: x y\n{line}\n")
