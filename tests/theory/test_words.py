"""Lyndon words and their numbers against all words."""

from itertools import product

import pytest

from theory.words import is_lyndon, lyndon_words, standard_factors, witt

SIZES = [(d, n) for d, longest in [(1, 6), (2, 10), (3, 6), (4, 5), (5, 4)] for n in range(1, longest + 1)]


def smallest_rotations(letters, length):
    """Words smaller than all their other rotations, in order: another definition of Lyndon's."""
    for word in product(range(letters), repeat=length):
        if all(word < word[cut:] + word[:cut] for cut in range(1, length)):
            yield word


@pytest.mark.parametrize(("letters", "length"), SIZES)
def test_lyndon_words_are_the_smallest_rotations(letters, length):
    expected = list(smallest_rotations(letters, length))
    assert list(lyndon_words(letters, length)) == expected
    assert witt(letters, length) == len(expected)
    assert [word for word in product(range(letters), repeat=length) if is_lyndon(word)] == expected


@pytest.mark.parametrize("letters", [1, 2, 5, 10])
def test_every_word_is_a_power_of_a_rotated_lyndon_word(letters):
    for k in range(1, 60):
        assert sum(n * witt(letters, n) for n in range(1, k + 1) if k % n == 0) == letters**k


def test_numbers_that_are_known():
    assert [witt(2, n) for n in range(1, 13)] == [2, 1, 2, 3, 6, 9, 18, 30, 56, 99, 186, 335]
    assert [witt(3, n) for n in range(1, 8)] == [3, 3, 8, 18, 48, 116, 312]
    assert witt(5, 36) == (5**36 - 5**18 - 5**12 + 5**6) // 36
    assert witt(2, 30) == (2**30 - 2**15 - 2**10 - 2**6 + 2**5 + 2**3 + 2**2 - 2) // 30


@pytest.mark.parametrize(("letters", "length"), [(d, n) for d, n in SIZES if n > 1])
def test_standard_factors(letters, length):
    lyndon = {word for n in range(1, length + 1) for word in smallest_rotations(letters, n)}
    for word in smallest_rotations(letters, length):
        u, v = standard_factors(word)
        assert u + v == word
        assert u in lyndon
        suffixes = [word[cut:] for cut in range(1, length)]
        assert v == next(suffix for suffix in suffixes if suffix in lyndon) == min(suffixes)


def test_factors_of_a_few():
    assert standard_factors((0, 0, 1)) == ((0,), (0, 1))
    assert standard_factors((0, 1, 1)) == ((0, 1), (1,))
    assert standard_factors((0, 0, 1, 0, 1, 1)) == ((0,), (0, 1, 0, 1, 1))
    assert standard_factors((0, 1, 0, 2)) == ((0, 1), (0, 2))


@pytest.mark.parametrize("word", [(), (3,), (1, 0), (0, 0)])
def test_letters_and_words_that_are_not_lyndon_have_no_factors(word):
    with pytest.raises(ValueError, match="expected a Lyndon word of two letters or more"):
        standard_factors(word)


def test_some_words_are_not_lyndon():
    assert not any(map(is_lyndon, [(), (1, 0), (0, 0), (0, 1, 0), (0, 1, 0, 1), (1, 2, 1)]))
    assert all(map(is_lyndon, [(0,), (7,), (0, 1), (0, 0, 1), (0, 1, 0, 2)]))
