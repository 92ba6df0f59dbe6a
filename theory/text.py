"""Polynomial fields from a text file, read as data: no expression in it is ever evaluated as code.

    # anything behind a hash is a comment
    symbols: x y
    V1 = y, -x
    V2 = x^2/2 + 3*y, 0.5*(x - y)**3

A line for each field, a component for each symbol. Numbers are exact: 0.1 is 1/10. Allowed are + - * /, powers by
non-negative integers (^ or **), brackets, numbers and the symbols; / divides by numbers only.
"""

from __future__ import annotations

import ast
import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction

import numpy as np

from theory.programs.monomial import MonomialProgram

Polynomial = dict[tuple[int, ...], Fraction]

_MOST_TERMS, _MOST_DEGREE, _MOST_DIGITS = 100_000, 64, 400
_MOST_BITS = 8192
# ASCII: the parser would take letters that look alike for one another.
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def parse_fields(text: str) -> MonomialProgram:
    """The fields of a text.

    Raises:
        ValueError: a line that is no field, with its number and what is wrong.
    """
    symbols: list[str] = []
    names: list[str] = []
    fields: list[list[Polynomial]] = []
    # Some editors put a mark before the text, and typeset minus signs.
    for number, line in enumerate(text.removeprefix("\ufeff").replace("\u2212", "-").splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        if line.startswith("symbols"):
            symbols = _symbols(line, number, bool(symbols))
            continue
        name, equals, right = line.partition("=")
        if not equals or not _NAME.fullmatch(name.strip()):
            raise ValueError(f"line {number}: {line!r} is no field, expected a name, '=' and components: V1 = y, -x")
        if not symbols:
            raise ValueError(f"line {number}: a field before the coordinates, expected first: symbols: x y")
        components = _components(right, symbols, f"line {number}")
        if len(components) != len(symbols):
            raise ValueError(
                f"line {number}: {len(components)} components, expected {len(symbols)}, one for each of "
                f"{' '.join(symbols)}, with commas between"
            )
        if name.strip() in names:
            raise ValueError(f"line {number}: a second field {name.strip()}, expected a name of its own for each")
        names.append(name.strip())
        fields.append(components)
    if not fields:
        raise ValueError("the text holds no fields, expected lines such as: symbols: x y, then V1 = y, -x")
    exponents = sorted({a for V in fields for part in V for a in part} or {(0,) * len(symbols)}, key=_graded)
    place = {a: k for k, a in enumerate(exponents)}
    coefficients = np.zeros((len(fields), len(symbols), len(exponents)), dtype=object)
    for i, V in enumerate(fields):
        for j, part in enumerate(V):
            for a, c in part.items():
                coefficients[i, j, place[a]] = c
    return MonomialProgram(np.array(exponents), coefficients)


def _graded(exponents: tuple[int, ...]) -> tuple[int, list[int]]:
    return sum(exponents), [-e for e in exponents]


def _symbols(line: str, number: int, again: bool) -> list[str]:
    names = line.removeprefix("symbols").strip().removeprefix(":").replace(",", " ").split()
    if again or not names or len(set(names)) < len(names) or not all(_NAME.fullmatch(name) for name in names):
        raise ValueError(f"line {number}: {line!r} names no coordinates, expected once: symbols: x y")
    return names


def _components(text: str, symbols: list[str], where: str) -> list[Polynomial]:
    if re.search(rf"[\d.]{{{_MOST_DIGITS + 1}}}", text):
        raise ValueError(f"{where}: a number of more than {_MOST_DIGITS} digits")
    parts = [[]] if not text.strip() else _split(text)
    found: list[Polynomial] = []
    for terms in parts:
        total: Polynomial = {}
        for term in terms:
            for a, c in _term(term, symbols, where).items():
                total[a] = total.get(a, Fraction(0)) + c
        found.append(_clean(total))
    return found


def _split(text: str) -> list[list[str]]:
    """The components of a line, and the terms of each: a sum may be longer than what Python parses at once."""
    parts: list[list[str]] = [[""]]
    depth, before = 0, ""
    for place, character in enumerate(text):
        if depth == 0 and character == ",":
            parts.append([""])
        else:
            # Not a sign in front of a factor or an exponent, and not that of 1e-3.
            number = re.search(r"(?<!\w)[\d.]+[eE]\s*$", text[max(0, place - _MOST_DIGITS) : place])
            if depth == 0 and character in "+-" and before not in ("", *"+-*/^,") and not number:
                parts[-1].append("")
            depth += (character in "([") - (character in ")]")
            parts[-1][-1] += character
        before = before if character.isspace() else character
    return parts


def _term(text: str, symbols: list[str], where: str) -> Polynomial:
    source = text.strip().replace("^", "**")
    try:
        if not text.isascii():
            raise ValueError
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        product = re.search(r"\d[A-Za-z_(]|\)[\w(]", text)
        hint = f"; write products with *, as in {product[0][0]}*{product[0][1]}" if product else ""
        raise ValueError(f"{where}: {text.strip()[:80]!r} is no expression{hint}") from None
    try:
        return _Reader(symbols, where, source).read(tree)
    except RecursionError:
        raise ValueError(f"{where}: {text.strip()[:80]!r} is nested too deeply") from None


def parse_number(text: str) -> Fraction:
    """A number as it is written: 3, -0.5, 1e-3 or 1/3.

    Raises:
        ValueError: no number, or one of more than 400 digits.
    """
    n, slash, d = text.strip().partition("/")
    try:
        value = _decimal(n) / (_decimal(d) if slash else 1)
    except (InvalidOperation, ZeroDivisionError, OverflowError):
        raise ValueError(f"{text!r} is no number, expected 3, -0.5, 1e-3 or 1/3") from None
    return value


def _decimal(text: str) -> Fraction:
    value = Decimal(text)
    if not value.is_finite():
        raise InvalidOperation
    if len(text) > _MOST_DIGITS or (value and abs(value.adjusted()) > _MOST_DIGITS):
        raise ValueError(f"{text[:20]}.. is a number of more than {_MOST_DIGITS} digits")
    return Fraction(value)


class _Reader:
    """Polynomials from syntax trees of a few kinds; everything else is refused."""

    def __init__(self, symbols: list[str], where: str, source: str) -> None:
        self._place, self._where, self._source = {name: k for k, name in enumerate(symbols)}, where, source

    def read(self, node: ast.expr) -> Polynomial:
        """The polynomial of an expression.

        Raises:
            ValueError: what is no polynomial.
        """
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            # As it is written: a float would have been rounded.
            written = ast.get_source_segment(self._source, node) or ""
            try:
                return self._constant(_decimal(written))
            except InvalidOperation:
                raise self._refused(node, "a number that is not written in decimals") from None
            except ValueError:
                raise ValueError(
                    f"{self._where}: {written[:20]}.. is a number of more than {_MOST_DIGITS} digits"
                ) from None
        if isinstance(node, ast.Name):
            if node.id not in self._place:
                raise self._refused(node, f"the unknown symbol {node.id}; known are {', '.join(self._place)}")
            return {tuple(int(k == self._place[node.id]) for k in range(len(self._place))): Fraction(1)}
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            inner = self.read(node.operand)
            return inner if isinstance(node.op, ast.UAdd) else {a: -c for a, c in inner.items()}
        if isinstance(node, ast.BinOp):
            return self._binary(node)
        if isinstance(node, ast.Tuple | ast.List):
            raise self._refused(node, "in brackets of its own: write the components with commas between, V1 = y, -x")
        raise self._refused(node, "no polynomial: only + - * / and powers of the symbols and of numbers are read")

    def _binary(self, node: ast.BinOp) -> Polynomial:
        if isinstance(node.op, ast.Pow):
            return self._power(node)
        if isinstance(node.op, ast.Add | ast.Sub):
            return self._sum(node)
        left, right = self.read(node.left), self.read(node.right)
        if isinstance(node.op, ast.Mult):
            return self._product(left, right, node)
        if isinstance(node.op, ast.Div):
            value = right.get((0,) * len(self._place))
            if value is None or len(right) != 1:
                raise self._refused(node, "a division by what is no number other than 0")
            return {a: c / value for a, c in left.items()}
        raise self._refused(node, "no polynomial: only + - * / and powers of the symbols and of numbers are read")

    def _sum(self, node: ast.expr) -> Polynomial:
        """A chain of + and -, however long."""
        out: Polynomial = {}
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            sign = 1 if isinstance(node.op, ast.Add) else -1
            for a, c in self.read(node.right).items():
                out[a] = out.get(a, Fraction(0)) + sign * c
            node = node.left
        for a, c in self.read(node).items():
            out[a] = out.get(a, Fraction(0)) + c
        return _clean(out)

    def _power(self, node: ast.BinOp) -> Polynomial:
        exponent = node.right
        if not isinstance(exponent, ast.Constant) or type(exponent.value) is not int:
            raise self._refused(node, "a power whose exponent is no non-negative integer")
        if exponent.value > _MOST_DEGREE:
            raise self._refused(node, f"a power above {_MOST_DEGREE}")
        base, out = self.read(node.left), self._constant(Fraction(1))
        for _ in range(exponent.value):
            out = self._product(out, base, node)
        return out

    def _product(self, left: Polynomial, right: Polynomial, node: ast.expr) -> Polynomial:
        if len(left) * len(right) > _MOST_TERMS:
            raise self._refused(node, f"more than {_MOST_TERMS:,} terms when multiplied out")
        out: Polynomial = {}
        for a, c in left.items():
            for b, e in right.items():
                key = tuple(i + j for i, j in zip(a, b, strict=True))
                if sum(key) > _MOST_DEGREE:
                    raise self._refused(node, f"a degree above {_MOST_DEGREE}")
                if _bits(c) + _bits(e) > _MOST_BITS:
                    raise self._refused(node, f"a coefficient of more than {_MOST_BITS} bits")
                out[key] = out.get(key, Fraction(0)) + c * e
        return _clean(out)

    def _constant(self, value: Fraction) -> Polynomial:
        return {(0,) * len(self._place): value} if value else {}

    def _refused(self, node: ast.expr, why: str) -> ValueError:
        text = ast.get_source_segment(self._source, node) or ""
        return ValueError(f"{self._where}: {text[:80]!r} is {why}")


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _clean(terms: Polynomial) -> Polynomial:
    return {a: c for a, c in terms.items() if c}
