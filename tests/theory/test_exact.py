"""Exact numbers: what is read is what was given."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import exact_array

fractions = st.fractions(min_value=-(10**30), max_value=10**30, max_denominator=10**12)
mixed = st.one_of(st.integers(), fractions, st.floats(allow_nan=False, allow_infinity=False))


@given(st.lists(mixed, min_size=1, max_size=8))
def test_mixed_numbers_are_read_exactly(numbers):
    assert exact_array(numbers).fractions().tolist() == [Fraction(x) for x in numbers]


@given(st.lists(mixed, min_size=1, max_size=8), st.sampled_from([3, 1048573, 2**31 - 1]))
def test_residues_are_those_of_the_fractions(numbers, p):
    exact = [Fraction(x) for x in numbers]
    if any(x.denominator % p == 0 for x in exact):
        with pytest.raises(ValueError, match="take another prime"):
            exact_array(numbers).residues(p)
    else:
        expected = [x.numerator * pow(x.denominator, -1, p) % p for x in exact]
        assert exact_array(numbers).residues(p).tolist() == expected


@given(st.lists(mixed, min_size=1, max_size=8))
def test_integers_over_a_common_denominator(numbers):
    numerators, denominator = exact_array(numbers).integers()
    assert [Fraction(n, denominator) for n in numerators] == [Fraction(x) for x in numbers]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_float_arrays_are_dyadic(dtype):
    array = np.array([0.1, -3.0, 0.0, 1e-7, 2.0**-14, np.finfo(dtype).tiny, np.finfo(dtype).max], dtype=dtype)
    assert exact_array(array).fractions().tolist() == [Fraction(*x.as_integer_ratio()) for x in array]


def test_a_tenth_in_float32_is_not_a_tenth():
    tenth = exact_array(np.array([0.1], dtype=np.float32)).fractions()[0]
    assert tenth == Fraction(13421773, 2**27)
    assert tenth != Fraction(1, 10)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_extreme_words(dtype):
    info = np.iinfo(dtype)
    array = np.array([info.min, 0, 6, info.max], dtype=dtype)
    assert exact_array(array).fractions().tolist() == [info.min, 0, 6, info.max]


def test_lists_are_not_rounded_by_numpy():
    # numpy reads both lists as float64 and loses digits.
    assert exact_array([2**63, -1]).fractions().tolist() == [2**63, -1]
    assert exact_array([2**60 + 1, 0.5]).fractions().tolist() == [2**60 + 1, Fraction(1, 2)]


def test_subnormal_and_huge_floats_modulo_p():
    p = 1048573
    assert exact_array([5e-324]).residues(p)[0] == pow(2, -1074, p)
    assert exact_array(np.array([1e308])).residues(p)[0] == int(1e308) % p


def test_modulo_two():
    assert exact_array([3, 4, Fraction(1, 3)]).residues(2).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"\(1,\), 1/2.*divisible by 2"):
        exact_array([1, 0.5]).residues(2)


def test_bytes_depend_on_the_numbers_alone():
    array = np.arange(12, dtype=np.float64).reshape(3, 4) / 8
    same = [array, np.asfortranarray(array), array.astype(np.float32), array.astype(object), array.tolist()]
    same.append([[Fraction(x) for x in row] for row in array])
    assert len({exact_array(a).canonical_bytes() for a in same}) == 1
    assert exact_array(array.T).canonical_bytes() != exact_array(array.reshape(4, 3)).canonical_bytes()
    assert exact_array([2**70 + 1, 1]).canonical_bytes() != exact_array([2**70 + 1, 3]).canonical_bytes()


def test_indexing():
    exact = exact_array([[1, 2.5], [Fraction(1, 3), 2**80 + 1]])
    assert exact[1].fractions().tolist() == [Fraction(1, 3), 2**80 + 1]
    assert [exact[i, j].fractions().item() for i in range(2) for j in range(2)] == [1, 2.5, Fraction(1, 3), 2**80 + 1]
    spread = exact.placed((3, 4), (slice(1, 3), [3, 0]))
    assert spread.fractions()[1:].tolist() == [[2.5, 0, 0, 1], [2**80 + 1, 0, 0, Fraction(1, 3)]]
    assert not spread.fractions()[0].any()


def test_empty_and_scalar():
    assert exact_array(np.zeros((0, 3))).integers()[0].shape == (0, 3)
    assert exact_array(np.zeros((0, 3))).residues(7).shape == (0, 3)
    assert exact_array(0.5).fractions().item() == Fraction(1, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("read", [np.array, list])
def test_numbers_must_be_finite(bad, read):
    with pytest.raises(ValueError, match="points: row 1 holds"):
        exact_array(read([[0.0, 1.0], [2.0, bad]]), "points")


@pytest.mark.parametrize("bad", ["1", None, 1j, True, [1, 2]])
def test_other_things_are_refused(bad):
    with pytest.raises(TypeError, match="expected an integer, a Fraction or a float"):
        exact_array([1, bad])


def test_the_input_is_copied():
    array = np.ones(3)
    exact = exact_array(array)
    array[0] = 5
    assert exact.fractions().tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        exact.numerators[0] = 5


def test_masked_entries_are_no_numbers():
    with pytest.raises(ValueError, match="x has masked entries"):
        exact_array(np.ma.array([1.0, 2.0], mask=[0, 1]), "x")
    assert exact_array(np.ma.array([1.0, 2.0])).fractions().tolist() == [1, 2]


def test_bfloat16_is_read_exactly():
    torch = pytest.importorskip("torch")
    given = torch.tensor([0.1, -3.0], dtype=torch.bfloat16)
    assert [float(q) for q in exact_array(given).fractions()] == given.double().tolist()
