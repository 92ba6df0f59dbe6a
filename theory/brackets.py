"""Lie brackets as SymPy expressions: the language fields are written in and brackets are read in.

[V, W](x) = DW(x) V(x) - DV(x) W(x); for V = Ax and W = Bx this is (BA - AB) x.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any

from theory.reading import expressions, symbolic, without_floats
from theory.words import Nesting, Word, lyndon_words, standard_factors

if TYPE_CHECKING:
    import sympy

# Of depth n there are about d**n / n words.
_MOST_DEPTH = 64
_BASES = ("lyndon", "left", "right")


def lie_bracket(V: Sequence[Any], W: Sequence[Any], symbols: Sequence[sympy.Symbol]) -> list[sympy.Expr]:
    """[V, W] = DW V - DV W, expanded; floats are read as the dyadic rationals they are.

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
    one, two = _exact(V), _exact(W)
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


def lie_algebra(fields: Any, symbols: Sequence[sympy.Symbol], depth: int, *, basis: str = "lyndon") -> list[Bracket]:
    """Brackets that span all brackets of the fields up to a depth, those that vanish left out.

    Args:
        fields: d lists of m expressions, or a family or program of polynomial fields.
        symbols: the m coordinates.
        depth: the largest number of fields in a bracket.
        basis: "lyndon": a basis of the free Lie algebra, a bracket for each Lyndon word; "left" and "right":
            the words [[[V_a, V_b], V_c], .. V_d] and [V_d, .. [V_c, [V_a, V_b]]] with a < b, which span it too.

    Returns:
        Brackets by depth, then by word. They may be linearly dependent, as the fields' algebra need not be free.

    Raises:
        ValueError: depth below 1, an unknown basis, or fields of other lengths.
    """
    if basis not in _BASES:
        raise ValueError(f"basis is {basis!r}, expected one of {', '.join(_BASES)}")
    if not 1 <= index(depth) <= _MOST_DEPTH:
        raise ValueError(f"depth is {depth}, expected 1 to {_MOST_DEPTH}")
    fields = expressions(fields, symbols)
    if not isinstance(fields, Sequence) or not fields or any(len(V) != len(symbols) for V in fields):
        raise ValueError(f"expected fields as lists of {len(symbols)} expressions, one for each of {tuple(symbols)}")
    found: dict[Any, tuple[Any, ...]] = {i: tuple(_exact(V)) for i, V in enumerate(fields)}
    words = _lyndon(len(fields), depth) if basis == "lyndon" else _normed(len(fields), depth, basis == "left")
    brackets = []
    for word, nesting in words:
        components = _components(nesting, found, symbols)
        if any(component != 0 for component in components):
            brackets.append(Bracket(word, nesting, components))
    return brackets


def evaluate_at(bracket: Bracket | Sequence[Any], symbols: Sequence[sympy.Symbol], points: Sequence[Any]) -> list[Any]:
    """A bracket's, or a field's, components at points, stacked: N m numbers, exact where the points are."""
    components = bracket.components if isinstance(bracket, Bracket) else _exact(bracket)
    # All at once: a point may be given in terms of the coordinates themselves.
    places = [dict(zip(symbols, _exact(x), strict=True)) for x in points]
    return [symbolic(c, "a component").subs(place, simultaneous=True) for place in places for c in components]


def _exact(values: Sequence[Any]) -> list[sympy.Expr]:
    """As SymPy expressions, floats as the dyadic rationals they are: what cancels is seen to."""
    return [without_floats(symbolic(v, "a component"), "an expression") for v in values]


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


def _normed(letters: int, depth: int, left: bool) -> Iterator[tuple[Word, Any]]:
    level: list[tuple[Word, Any]] = [((i,), i) for i in range(letters)]
    yield from level
    for length in range(2, depth + 1):
        pairs = [(i, word, nesting) for i in range(letters) for word, nesting in level]
        if length == 2:
            # Of [a, b] and [b, a] the one with a < b.
            level = [((a, b), (a, b)) for a, (b,), _ in pairs if a < b]
        elif left:
            level = sorted(((*word, i), (nesting, i)) for i, word, nesting in pairs)
        else:
            level = [((i, *word), (i, nesting)) for i, word, nesting in pairs]
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
