"""Order conditions over the rationals."""

from fractions import Fraction
from itertools import product

import pytest

from cde_nets.solve.method import RungeKutta
from cde_nets.solve.tableau import TABLEAUS, tableau

# Rooted trees of order 1 to 5 as nested tuples, and their densities.
TREES = {
    1: [()],
    2: [((),)],
    3: [((), ()), (((),),)],
    4: [((), (), ()), ((), ((),)), (((), ()),), ((((),),),)],
    5: [((), (), (), ()), ((), (), ((),)), ((), ((), ())), ((), (((),),)), (((),), ((),))],
}


def order(tree):
    return 1 + sum(map(order, tree))


def density(tree):
    value = order(tree)
    for branch in tree:
        value *= density(branch)
    return value


def weights(a, tree):
    """The elementary weight of every stage."""
    stages = range(len(a))
    value = [Fraction(1)] * len(a)
    for branch in tree:
        below = weights(a, branch)
        value = [value[j] * sum((a[j][k] * below[k] for k in range(j)), Fraction(0)) for j in stages]
    return value


def exact(numbers):
    return [Fraction(v).limit_denominator(1000) for v in numbers]


@pytest.fixture(params=TABLEAUS)
def method(request):
    return TABLEAUS[request.param]


def holds(method, tree):
    a, b = [exact(row) for row in method.a], exact(method.b)
    return sum(w * s for w, s in zip(b, weights(a, tree), strict=True)) == Fraction(1, density(tree))


def test_every_tree_up_to_the_order_is_met(method):
    for tree in (t for r, trees in TREES.items() if r <= method.order for t in trees):
        assert holds(method, tree), tree


def test_some_tree_of_the_next_order_is_missed(method):
    assert not all(holds(method, tree) for tree in TREES[method.order + 1])


def test_nodes_are_the_row_sums_and_rows_are_strictly_lower(method):
    assert [len(row) for row in method.a] == list(range(method.stages))
    assert [sum(exact(row)) for row in method.a] == exact(method.c)
    assert len(method.b) == len(method.c) == method.stages


def test_the_floats_are_the_rationals_rounded(method):
    for value in (*method.b, *method.c, *(v for row in method.a for v in row)):
        assert float(Fraction(value).limit_denominator(1000)) == value


def test_euler_and_rk4_are_known():
    assert {name: (t.order, t.stages) for name, t in TABLEAUS.items()} == {"euler": (1, 1), "rk4": (4, 4)}


@pytest.mark.parametrize("make", [tableau, RungeKutta])
def test_an_unknown_name_is_refused_with_those_that_exist(make):
    with pytest.raises(ValueError, match="Unknown method 'leapfrog'; known are euler, rk4"):
        make("leapfrog")


@pytest.mark.parametrize(("name", "steps"), list(product(["euler", "rk4"], [0, -1, 1.5, True])))
def test_bad_steps_are_refused(bad_input, name, steps):
    with pytest.raises(ValueError, match=f"steps >= 1, or None .* got {steps}"):
        RungeKutta(name, steps=steps)
