"""What a proof is said to take against what it takes, and the refusal of what is too much."""

import tracemalloc

import numpy as np
import pytest

import theory
import theory.machine
import theory.memory
from theory import ConvolutionProgram, MonomialProgram, SphericalProgram, check_points, monomial_exponents
from theory.machine import machine_memory
from theory.memory import estimate, most_orders
from theory.schedule import schedule

P = 1048573


def image(shape, d, seed=0):
    rng = np.random.default_rng(seed)
    kernels = rng.integers(-5, 6, (d, shape[0], 3, 3))
    return SphericalProgram(
        ConvolutionProgram(
            shape, kernels, np.arange(d) % shape[0], None, np.ones(d), [0, 1], rng.integers(-5, 6, (d, 3))
        )
    )


def plain(m, d, seed=0):
    exponents = monomial_exponents(m, 2)
    return MonomialProgram(exponents, np.random.default_rng(seed).integers(-5, 6, (d, m, len(exponents))))


@pytest.mark.parametrize(
    ("program", "points"),
    [(image((4, 6, 6), 40), 2), (image((3, 5, 5), 20), 3), (plain(10, 5), 40), (plain(3, 4), 150)],
)
def test_the_estimate_is_what_is_taken_to_a_factor_of_two(program, points):
    x = np.random.default_rng(1).integers(-99, 100, (points, program.dim))
    entries = theory.memory._size(program, P)
    tracemalloc.start()
    try:
        found = check_points(program, x, seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.proved
    target = found.full_rank
    orders = max(found.depth, schedule(program.dim, program.count, program.degree, points, target).orders)
    said = estimate(program.dim, program.count, points, target, orders, entries)
    assert peak / 2 < said < 2.5 * peak


def test_the_machine_has_some_memory():
    assert machine_memory() > 2**28


@pytest.mark.parametrize(("said", "there"), [("1000000\n", 1e6), ("max\n", None), (str(2**63), None)])
def test_a_container_has_what_it_is_allowed(monkeypatch, tmp_path, said, there):
    unlimited = tmp_path / "none"
    monkeypatch.setattr(theory.machine, "_LIMITS", (unlimited,))
    whole = machine_memory()
    (tmp_path / "memory.max").write_text(said)
    monkeypatch.setattr(theory.machine, "_LIMITS", (unlimited, tmp_path / "memory.max"))
    assert machine_memory() == (there or whole)


def test_what_is_too_much_is_refused_before_work_starts(monkeypatch):
    program, x = plain(3, 4), np.random.default_rng(0).integers(-9, 10, (5, 3))
    assert check_points(program, x, seed=0).proved
    monkeypatch.setattr(theory.memory, "machine_memory", lambda: 20e3)
    seen = []
    with pytest.raises(ValueError, match=r"some 0\.0 GB: a rank of 15 by 4 fields at 5 points of R\^3.*fewer points"):
        check_points(program, x, seed=0, progress=lambda *ranks: seen.append(ranks))
    assert not seen


def test_plain_matrices_are_not_asked_of_fields_on_images(monkeypatch):
    program = image((2, 12, 12), 3)
    small, large = (estimate(288, 3, 1, 287, 2, size) for size in (theory.memory._size(program, P), 288**2))
    assert small < large / 1.5
    monkeypatch.setattr(theory.memory, "machine_memory", lambda: small)
    assert most_orders(program, 1, 287, 2, 64, P) == 2
    monkeypatch.setattr(theory.memory, "machine_memory", lambda: small - 1)
    with pytest.raises(ValueError, match="1 points of R"):
        most_orders(program, 1, 287, 2, 64, P)


def test_more_orders_are_tried_only_where_they_fit(monkeypatch):
    program = plain(3, 4)
    most = most_orders(program, 5, 15, 2, 64, P)
    assert most == 64
    sizes = [estimate(3, 4, 5, 15, orders, 9) for orders in range(2, 65)]
    monkeypatch.setattr(theory.memory, "machine_memory", lambda: sizes[10])
    assert most_orders(program, 5, 15, 2, 64, P) == 12
