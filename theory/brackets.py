"""Lie brackets as SymPy expressions: the language fields are written in and brackets are read in.

[V, W](x) = DW(x) V(x) - DV(x) W(x); for V = Ax and W = Bx this is (BA - AB) x.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from theory.words import Nesting, Word, lyndon_words, standard_factors

if TYPE_CHECKING:
    import sympy

_BASES = ("lyndon", "left")


def lie_bracket(V: Sequence[Any], W: Sequence[Any], symbols: Sequence[sympy.Symbol]) -> list[sympy.Expr]:
    """[V, W] = DW V - DV W, expanded.

    Args:
        V: m expressions.
        W: m expressions.
        symbols: the m coordinates.

    Returns:
        m expressions.

    Raises:
        ValueError: the lengths differ.

    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> lie_bracket([y, 0], [0, x], (x, y))
    [-x, y]
    """
    import sympy

    if not len(V) == len(W) == len(symbols):
        raise ValueError(f"fields of {len(V)} and {len(W)} components on {len(symbols)} coordinates: expected as many")
    one, two = [sympy.sympify(v) for v in V], [sympy.sympify(w) for w in W]
    return [
        sympy.expand(
            sympy.Add(*(sympy.diff(w, x) * v - sympy.diff(u, x) * z for x, v, z in zip(symbols, one, two, strict=True)))
        )
        for u, w in zip(one, two, strict=True)
    ]


@dataclass(frozen=True)
class Bracket:
    """An iterated bracket.

    Attributes:
        word: its letters, the indices of the fields from 0.
        nesting: how they are bracketed: an index, or a pair of nestings.
        components: m expressions.
    """

    word: Word
    nesting: Nesting
    components: tuple[Any, ...]

    def __str__(self) -> str:
        return nesting_text(self.nesting)

    def latex(self) -> str:
        """The nesting, for LaTeX."""
        return nesting_text(self.nesting, latex=True)

    @property
    def depth(self) -> int:
        """How many fields it is made of."""
        return len(self.word)


def lie_algebra(
    fields: Sequence[Sequence[Any]], symbols: Sequence[sympy.Symbol], depth: int, *, basis: str = "lyndon"
) -> list[Bracket]:
    """Brackets that span all brackets of the fields up to a depth, those that vanish left out.

    Args:
        fields: d lists of m expressions.
        symbols: the m coordinates.
        depth: the largest number of fields in a bracket.
        basis: "lyndon": a basis of the free Lie algebra, a bracket for each Lyndon word; "left": the words
            [V_a, [V_b, .. [V_c, V_d]]] with c < d, which span it too.

    Returns:
        Brackets by depth, then by word. They may be linearly dependent, as the fields' algebra need not be free.

    Raises:
        ValueError: depth below 1, an unknown basis, or fields of other lengths.
    """
    import sympy

    if basis not in _BASES:
        raise ValueError(f"basis is {basis!r}, expected one of {', '.join(_BASES)}")
    if depth < 1:
        raise ValueError(f"depth is {depth}, expected at least 1")
    if not fields or any(len(V) != len(symbols) for V in fields):
        raise ValueError(f"expected fields as lists of {len(symbols)} expressions, one for each of {tuple(symbols)}")
    found: dict[Any, tuple[Any, ...]] = {i: tuple(sympy.sympify(v) for v in V) for i, V in enumerate(fields)}
    words = _lyndon(len(fields), depth) if basis == "lyndon" else _left(len(fields), depth)
    brackets = []
    for word, nesting in words:
        components = _components(nesting, found, symbols)
        if any(component != 0 for component in components):
            brackets.append(Bracket(word, nesting, components))
    return brackets


def evaluate_at(bracket: Bracket | Sequence[Any], symbols: Sequence[sympy.Symbol], points: Sequence[Any]) -> list[Any]:
    """A bracket's, or a field's, components at points, stacked: N m numbers, exact where the points are."""
    import sympy

    components = bracket.components if isinstance(bracket, Bracket) else [sympy.sympify(c) for c in bracket]
    return [c.subs(dict(zip(symbols, map(sympy.sympify, x), strict=True))) for x in points for c in components]


def _components(nesting: Any, found: dict[Any, tuple[Any, ...]], symbols: Sequence[sympy.Symbol]) -> tuple[Any, ...]:
    if nesting not in found:
        one, two = (_components(part, found, symbols) for part in nesting)
        found[nesting] = tuple(lie_bracket(one, two, symbols))
    return found[nesting]


def _lyndon(letters: int, depth: int) -> Iterator[tuple[Word, Any]]:
    for length in range(1, depth + 1):
        for word in lyndon_words(letters, length):
            yield word, _nested(word)


def _nested(word: Word) -> Any:
    return word[0] if len(word) == 1 else tuple(_nested(part) for part in standard_factors(word))


def _left(letters: int, depth: int) -> Iterator[tuple[Word, Any]]:
    level: list[tuple[Word, Any]] = [((i,), i) for i in range(letters)]
    yield from level
    for length in range(2, depth + 1):
        level = [
            ((i, *word), (i, nesting)) for i in range(letters) for word, nesting in level if length > 2 or i < word[0]
        ]
        yield from level


def nesting_text(nesting: Nesting, *, latex: bool = False) -> str:
    """A nesting of brackets in letters V_1, V_2, ..

    >>> nesting_text((0, (1, 0)))
    '[V_1, [V_2, V_1]]'
    """
    if isinstance(nesting, int):
        return f"V_{{{nesting + 1}}}" if latex else f"V_{nesting + 1}"
    one, two = (nesting_text(part, latex=latex) for part in nesting)
    return rf"\left[{one}, {two}\right]" if latex else f"[{one}, {two}]"
