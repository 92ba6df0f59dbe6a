"""Spans modulo a prime against SymPy, Python's integers and ranks known by construction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import GF
from sympy.polys.matrices import DomainMatrix

from theory.rowspace import RowSpace, centred, inverse, product, reduce

P = 1048573
PRIMES = [2, 3, 5, 101, P]


def rank(rows, p):
    """By SymPy, over the field of p elements."""
    rows = [[int(v) % p for v in row] for row in rows]
    if not rows or not rows[0]:
        return 0
    field = GF(p)
    return DomainMatrix([[field(v) for v in row] for row in rows], (len(rows), len(rows[0])), field).rank()


def span(rows, p=P):
    rows = np.asarray(rows)
    space = RowSpace(rows.shape[1], p)
    space.add(centred(rows, p))
    return space


def of_rank(rng, r, rows, columns, p=P):
    """A matrix of exactly this rank: it holds [I | R] in shuffled rows and columns, and combinations of its rows."""
    echelon = np.concatenate([np.eye(r, dtype=np.int64), rng.integers(0, p, (r, columns - r))], axis=1)
    matrix = np.concatenate([echelon, rng.integers(0, p, (rows - r, r)) @ echelon % p])
    return matrix[rng.permutation(rows)][:, rng.permutation(columns)]


@st.composite
def matrices(draw):
    p = draw(st.sampled_from(PRIMES))
    rows, columns = draw(st.integers(0, 9)), draw(st.integers(1, 9))
    entry = st.one_of(st.just(0), st.sampled_from([1, -1, p // 2, -(p // 2)]), st.integers(0, p - 1))
    flat = draw(st.lists(entry, min_size=rows * columns, max_size=rows * columns))
    return np.array(flat, dtype=np.int64).reshape(rows, columns), p


@settings(max_examples=150, deadline=None)
@given(matrices())
def test_the_rank_is_sympys(case):
    matrix, p = case
    assert span(matrix, p).rank == rank(matrix, p)


@settings(max_examples=100, deadline=None)
@given(matrices(), st.data())
def test_the_basis_spans_what_was_added(case, data):
    matrix, p = case
    space = RowSpace(matrix.shape[1], p)
    cut = data.draw(st.integers(0, len(matrix)))
    for part in (matrix[:cut], matrix[cut:]):
        gained = space.add(centred(part, p))
    assert gained == rank(matrix, p) - rank(matrix[:cut], p)
    basis = space.basis()
    assert basis.shape == (space.rank, matrix.shape[1])
    assert rank(basis, p) == rank(np.concatenate([basis, matrix]), p) == space.rank == rank(matrix, p)


@settings(max_examples=100, deadline=None)
@given(matrices(), st.data())
def test_a_residual_differs_by_a_vector_of_the_span(case, data):
    matrix, p = case
    others = data.draw(st.lists(st.lists(st.integers(0, p - 1), min_size=matrix.shape[1], max_size=matrix.shape[1])))
    others = np.array(others, dtype=np.int64).reshape(-1, matrix.shape[1])
    space = span(matrix, p)
    for row in others:
        rest = space.residual(centred(row[None], p))
        assert rank([*matrix, row - rest[0].astype(np.int64)], p) == space.rank
        inside = rank([*matrix, row], p) == space.rank
        assert space.contains(centred(row[None], p)) == inside
        assert (not rest.any()) == inside
    assert space.contains(centred(matrix, p))


@pytest.mark.parametrize("p", [2, 101, P])
@pytest.mark.parametrize("shape", [(31, 40), (33, 33), (70, 45), (45, 70)])
def test_more_rows_than_a_panel_against_sympy(shape, p):
    rng = np.random.default_rng(shape[0] + p)
    full, thin = rng.integers(0, p, shape), rng.integers(0, p, (shape[0], 12)) @ rng.integers(0, p, (12, shape[1])) % p
    sparse = np.where(rng.random(shape) < 0.04, full, 0)
    for matrix in (full, thin, sparse):
        assert span(matrix, p).rank == rank(matrix, p)


@pytest.mark.parametrize(
    ("r", "rows", "columns"), [(1, 300, 50), (32, 33, 600), (255, 600, 300), (257, 520, 700), (300, 900, 300)]
)
def test_ranks_by_construction(r, rows, columns):
    space = span(of_rank(np.random.default_rng(r), r, rows, columns))
    assert space.rank == r
    assert space.full == (r == columns)


def test_structured_matrices():
    n = 80
    i, j = np.arange(n)[:, None], np.arange(n)
    vandermonde = np.array([[pow(a + 2, k, P) for k in range(n)] for a in range(n)])
    assert span(vandermonde).rank == n
    assert span(np.concatenate([vandermonde[:50], vandermonde[10:40]])).rank == 50
    assert span(np.eye(n, dtype=int)[::-1]).rank == n
    assert span(np.eye(n, k=3, dtype=int)).rank == n - 3
    assert span((i >= j).astype(int)).rank == n
    assert span(i + j).rank == 2
    assert span((i - j) ** 4).rank == 5
    assert span(np.ones((n, n), dtype=int)).rank == 1
    assert span(np.zeros((n, n), dtype=int)).rank == 0
    # Singular modulo 5 alone.
    assert [span([[1, 2], [3, 11]], p).rank for p in (5, 7)] == [1, 2]


def test_pivots_far_to_the_right():
    # The few columns that are tried first are all zero.
    rng = np.random.default_rng(3)
    matrix = np.zeros((40, 700), dtype=np.int64)
    matrix[:, [5, 64, 400, *range(670, 700)]] = of_rank(rng, 25, 40, 33)
    assert span(matrix).rank == 25


@pytest.mark.parametrize("sizes", [[1] * 60, [31, 2, 27], [0, 60], [59, 1]])
def test_pieces_span_what_all_rows_span(sizes):
    matrix = centred(of_rank(np.random.default_rng(4), 37, 60, 50), P)
    whole, pieces = RowSpace(50, P), RowSpace(50, P)
    assert whole.add(matrix) == 37
    assert sum(pieces.add(part) for part in np.split(matrix, np.cumsum(sizes)[:-1])) == 37
    assert whole.contains(pieces.basis())
    assert pieces.contains(whole.basis())
    assert pieces.add(matrix) == 0


def test_more_than_a_block_in_pieces():
    matrix = centred(of_rank(np.random.default_rng(5), 400, 700, 410), P)
    space = RowSpace(410, P)
    gained = [space.add(part) for part in np.split(matrix, [100, 130, 550])]
    assert sum(gained) == space.rank == 400
    assert space.contains(matrix)
    assert not space.full


def test_the_last_rows_of_a_basis_are_new():
    rng = np.random.default_rng(6)
    matrix = rng.integers(0, P, (12, 20))
    space = span(matrix[:7])
    old = space.basis()
    assert space.add(centred(matrix[7:], P)) == 5
    new = space.basis(7)
    assert new.shape == (5, 20)
    assert rank([*old, *new], P) == rank([*matrix, *new], P) == 12


@pytest.mark.parametrize("first", [0, 3, 256, 280, 300])
def test_what_came_after_the_first_rows_of_a_basis(first):
    matrix = centred(of_rank(np.random.default_rng(11), 300, 400, 310), P)
    space = RowSpace(310, P)
    for row in range(400):
        space.add(matrix[row : row + 1])
    whole = space.basis()
    rest = space.basis(first)
    assert rest.tolist() == whole[first:].tolist()
    assert span(whole.astype(int)).rank == space.rank == 300
    assert RowSpace(310, P).add(rest) == 300 - first


def test_residuals_leave_the_pivots_alone():
    rng = np.random.default_rng(7)
    space = span(of_rank(rng, 280, 400, 300))
    rest = space.residual(centred(rng.integers(0, P, (50, 300)), P))
    assert np.count_nonzero(rest.any(axis=0)) == 20
    assert space.residual(rest).tolist() == rest.tolist()


def test_wider_rows_begin_with_the_old_ones():
    rng = np.random.default_rng(8)
    narrow, wide = rng.integers(0, P, (6, 9)), rng.integers(0, P, (5, 14))
    padded = np.concatenate([narrow, np.zeros((6, 5), dtype=int)], axis=1)
    space = span(narrow)
    space.widen(14)
    assert (space.columns, space.rank) == (14, 6)
    assert space.contains(centred(padded, P))
    assert space.add(centred(np.concatenate([wide, padded]), P)) == rank([*padded, *wide], P) - 6 == 5
    assert space.contains(centred(wide, P))
    assert not space.contains(np.eye(14))


def test_many_rows_are_widened_again_and_again():
    rng = np.random.default_rng(10)
    space = RowSpace(300, P)
    assert space.add(centred(of_rank(rng, 290, 290, 300), P)) == 290
    for columns in range(301, 321):
        space.widen(columns)
        row = rng.integers(0, P, (1, columns))
        row[0, -1] = 1
        assert space.add(centred(row, P)) == 1
        assert space.contains(centred(row, P))
    assert space.basis().shape == (310, 320)
    assert span(space.basis().astype(int)).rank == 310


def test_a_full_space_can_be_widened():
    space = span(np.eye(4, dtype=int))
    assert space.full
    space.widen(6)
    assert not space.full
    assert space.add(np.eye(6)) == 2
    assert space.full


def test_what_is_added_and_handed_out_is_not_shared():
    rows = centred(np.arange(12).reshape(3, 4), P)
    before = rows.copy()
    space = RowSpace(4, P)
    space.add(rows)
    space.residual(rows)
    assert rows.tolist() == before.tolist()
    space.basis()[:] = 0.0
    assert space.contains(rows)
    assert not space.contains(np.eye(4))


@pytest.mark.parametrize("p", [3, 101, P])
@pytest.mark.parametrize("inner", [1, 2**14 - 1, 2**14, 2**14 + 1, 2**16 + 5])
def test_products_of_the_largest_residues_are_exact(inner, p):
    rng = np.random.default_rng(inner)
    half = p // 2
    # Near the largest, but not all even: sums beyond 2**53 would be rounded.
    a, b = half - rng.integers(0, min(half, 9), (3, inner)), half - rng.integers(0, min(half, 9), (inner, 3))
    a[1], b[:, 1] = -a[1], -b[:, 1]
    a[2], b[:, 2] = rng.choice([-half, half], inner), rng.integers(-half, half + 1, inner)
    found = product(a.astype(float), b.astype(float), p)
    expected = (a.astype(object) @ b.astype(object)) % p
    assert (found.astype(np.int64) % p).tolist() == expected.tolist()
    assert np.abs(found).max() <= p // 2 + 1


def test_stacks_of_products():
    rng = np.random.default_rng(9)
    a, b = rng.integers(-(P // 2), P // 2 + 1, (4, 2, 3)), rng.integers(-(P // 2), P // 2 + 1, (4, 3, 5))
    found = product(a.astype(float), b.astype(float), P).astype(np.int64)
    for k in range(4):
        assert (found[k] % P).tolist() == (a[k].astype(object) @ b[k].astype(object) % P).tolist()


def test_the_span_of_extreme_rows():
    # Rows of largest residues with signs of a Hadamard matrix, whose rank is a matter of signs alone.
    hadamard = np.ones((1, 1), dtype=np.int64)
    for _ in range(9):
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    rows = hadamard * (P // 2)
    space = RowSpace(512, P)
    assert space.add(rows[:300].astype(float)) == 300
    assert space.add(rows[:310].astype(float)) == 10
    assert space.contains((-rows[5:6]).astype(float))
    assert not space.contains(rows[310:311].astype(float))


@settings(max_examples=300, deadline=None)
@given(st.integers(-(2**52), 2**52), st.sampled_from([5, 101, 524309, P]))
def test_reduce_is_exact(n, p):
    if abs(n) > p * p * 2**13:  # sums of 2**14 products stay below
        n %= p * p
    for k in (n, n - n % p, n - n % p + p // 2, n - n % p + p // 2 + 1):
        found = int(reduce(np.array([k], dtype=float), p)[0])
        assert (found - k) % p == 0
        assert abs(found) <= p // 2 + 1


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**18), 10**18), st.sampled_from(PRIMES))
def test_centred_residues_and_their_inverses(n, p):
    (c,) = centred(np.array([n]), p).tolist()
    assert (int(c) - n) % p == 0
    assert abs(c) <= p / 2
    if n % p:
        q = inverse(c, p)
        assert int(q) * n % p == 1 % p
        assert abs(q) <= p / 2


@pytest.mark.parametrize("p", [0, 1, 4, -7, 1048575, 2**20])
def test_a_modulus_is_a_prime(p):
    with pytest.raises(ValueError, match=f"the modulus is {p}, expected a prime in"):
        centred(np.arange(3), p)


@pytest.mark.parametrize("p", [1048583, 2**31 - 1])
def test_larger_primes_are_refused(p):
    with pytest.raises(ValueError, match=rf"the modulus is {p}, expected a prime below 2\*\*20"):
        centred(np.arange(3), p)


def test_zero_has_no_inverse():
    with pytest.raises(ValueError, match="not invertible"):
        inverse(0.0, P)


@settings(max_examples=150, deadline=None)
@given(matrices(), st.data())
def test_the_rows_kept_are_independent_and_span_all(case, data):
    matrix, p = case
    cut = data.draw(st.integers(0, len(matrix)))
    space = RowSpace(matrix.shape[1], p)
    kept = [*space.keep(centred(matrix[:cut], p)), *(cut + space.keep(centred(matrix[cut:], p)))]
    assert kept == sorted(set(kept))
    assert len(kept) == rank(matrix[kept], p) == rank(matrix, p)


def test_rows_are_kept_across_panels_and_blocks():
    rng = np.random.default_rng(3)
    matrix = of_rank(rng, 300, 700, 410)
    space = RowSpace(410, P)
    kept = space.keep(centred(matrix, P))
    assert len(kept) == 300
    assert span(matrix[kept]).rank == 300


def test_rows_after_the_deadline_are_left_out(monkeypatch):
    matrix = centred(np.random.default_rng(4).integers(0, P, (600, 700)), P)
    # A clock that ticks once each time it is looked at: two blocks of 256 rows.
    clock = iter(range(100))
    monkeypatch.setattr("theory.rowspace.time.monotonic", lambda: float(next(clock)))
    space = RowSpace(700, P)
    assert space.keep(matrix, deadline=2.0).tolist() == list(range(512))
    assert space.rank == 512
