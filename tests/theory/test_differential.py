"""Jacobians held as blocks and pairs against plain matrices."""

from fractions import Fraction

import numpy as np
import pytest

import theory.series
from theory import ConvolutionProgram, MonomialProgram, Rationals, SphericalProgram, UnionProgram, exact_array
from theory.differential import Differential
from theory.multidual import MultiDual
from theory.rings import Residues
from theory.rowspace import centred
from theory.series import PowerSeries

P = 1048573
SHAPE, DIM = (2, 4, 5), 40


def image(rng, kind, size=3, d=3):
    lead = {"dense": (d, 2, 2), "row": (d, 2), "stencil": (d,)}[kind]
    return ConvolutionProgram(
        SHAPE, rng.integers(-5, 6, (*lead, size, size)), None if kind == "dense" else [1, 0, 1],
        [0, 0, 1] if kind == "stencil" else None, rng.integers(-5, 6, (d, 2) if kind == "dense" else d), [1, 1, 2],
        rng.integers(-5, 6, (d, 3)),
    )  # fmt: skip


def plain(rng):
    return MonomialProgram(np.eye(DIM, dtype=int) * 2, rng.integers(-5, 6, (2, DIM, DIM)))


FAMILIES = {
    "dense": lambda rng: image(rng, "dense"),
    "row": lambda rng: image(rng, "row"),
    "stencil": lambda rng: image(rng, "stencil"),
    "sphere": lambda rng: SphericalProgram(image(rng, "row")),
    "one pattern": lambda rng: UnionProgram([image(rng, "row"), image(rng, "dense")]),
    "three patterns": lambda rng: UnionProgram([image(rng, "row"), image(rng, "dense", 1), plain(rng)]),
    "spheres": lambda rng: UnionProgram(
        [SphericalProgram(image(rng, "row")), SphericalProgram(image(rng, "dense", 1))]
    ),
    "sphere of three": lambda rng: SphericalProgram(FAMILIES["three patterns"](rng)),
}


def residues(rng):
    return lambda x: Residues.of(exact_array(x), P), lambda y: y.values.tolist()


def rationals(rng):
    return lambda x: Rationals.of(exact_array(x)), lambda y: y.fractions().tolist()


def nilpotents(rng):
    def ring(x):
        first = centred(x % P, P)
        return MultiDual(np.stack([first, *centred(rng.integers(0, P, (3, *x.shape)), P)]), P)

    return ring, lambda y: (y.values.astype(np.int64) % P).tolist()


def series(rng):
    def ring(x):
        found = centred(np.stack([x, *rng.integers(0, P, (3, *x.shape))]) % P, P)
        return PowerSeries(x.shape, P, found.__getitem__)

    return ring, lambda y: [(y.coefficient(n).astype(np.int64) % P).tolist() for n in range(4)]


@pytest.mark.parametrize("over", [residues, rationals, nilpotents, series])
@pytest.mark.parametrize("name", FAMILIES)
def test_products_are_those_of_plain_matrices(name, over, monkeypatch):
    rng = np.random.default_rng(3)
    # Some positions at a time, and the last few by themselves.
    monkeypatch.setattr(theory.series, "_READ", 6 * 18 * 3)
    program, (ring, read) = FAMILIES[name](rng), over(rng)
    x, v, w = (ring(rng.integers(1, 9, shape)) for shape in ((2, DIM), (2, DIM, 3), (2, DIM)))
    u = x.constant(exact_array(rng.integers(-5, 6, program.count)))
    _, found = program.linearized(x, u)
    # Columns by the programs' derivative, which knows nothing of blocks.
    matrices = program.jacobian(x).transpose(0, 2, 3, 1).linear(u[None])[..., 0]
    assert read(found.dense()) == read(matrices)
    assert read(found.times(v)) == read((matrices[:, :, :, None] * v[:, None]).transpose(0, 1, 3, 2).sum())
    assert read(found.under(w)) == read((matrices.transpose(0, 2, 1) * w[:, None]).sum())
    assert read(found.shifted(w[:, 0]).dense()) == read(
        matrices + w[:, 0][:, None, None] * x.constant(exact_array(np.eye(DIM, dtype=int)))
    )


def test_blocks_are_as_large_as_what_is_read():
    rng = np.random.default_rng(0)
    x, u = Residues.of(exact_array(rng.integers(1, 9, (1, DIM))), P), lambda k: Residues(np.ones(k, dtype=int), P)
    sizes = {name: family(rng).linearized(x, u(family(rng).count))[1].size for name, family in FAMILIES.items()}
    patch = 20 * 2 * 18
    assert sizes["row"] == sizes["dense"] == sizes["stencil"] == sizes["one pattern"] == patch
    assert sizes["sphere"] == patch + 2 * DIM
    assert sizes["three patterns"] == patch + 20 * 2 * 2 + DIM**2
    # Kernels as large as the image read all of it: plain matrices.
    program = ConvolutionProgram((2, 1, 3), rng.integers(0, 9, (1, 2, 3, 3)), [0], None, [0], [0, 1], [[0, 1]])
    assert program.linearized(x[:, :6], u(1))[1].size == 36


def test_long_products_of_large_residues_are_exact():
    # 2**15 terms of p**2 / 4 each, more than float64 adds up exactly at once.
    m, half = 2**15, (P - 1) // 2
    row, vector = np.full((1, 1, m), float(half)), np.full((1, m, 1), float(-half))
    found = PowerSeries.of(row, P) @ PowerSeries.of(vector, P)
    assert int(found.coefficient(0).item()) % P == -half * half * m % P
    read = PowerSeries.of(row[:, None], P).stencil(np.arange(m)[None], PowerSeries.of(vector, P))
    assert int(read.coefficient(0).item()) % P == -half * half * m % P


def test_the_jacobian_of_a_sum_is_the_sum():
    a, b = (Rationals.of(exact_array([[[Fraction(k, 3), 1], [0, k]]])) for k in (1, 2))
    x = Rationals.of(exact_array([[1, 2]]))
    total = Differential.sum([Differential.whole(a), Differential(Differential.whole(b).blocks, ((x, x),))])
    assert len(total.blocks) == 1
    assert total.dense().fractions().tolist() == [[[2, 4], [2, 7]]]
