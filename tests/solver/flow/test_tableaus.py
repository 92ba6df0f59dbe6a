"""Order conditions of the tableaus: rationals exactly, and every float as the number it is."""

from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import product
from math import factorial, prod
from typing import NamedTuple

import pytest

from cde_nets.solver.flow.tableau import EULER, HEUN3, TABLEAUS, tableau

RATIONAL = [name for name in TABLEAUS if name != "tsit5"]
HIGHEST = 6
CLOSE = Fraction(1, 10**13)

# b_hat as printed by Heun; Bogacki and Shampine; Dormand and Prince; and by the authors of codes for Tsitouras' pair.
EMBEDDED = {
    "heun": "1 0",
    "bosh3": "7/24 1/4 1/3 1/8",
    "dopri5": "5179/57600 0 7571/16695 393/640 -92097/339200 187/2100 1/40",
    "tsit5": "0.09468075576583945807 0.009183565540343253097 0.4877705284247615708 1.234297566930478986"
    " -2.707712349983525455 1.866628418170587036 1/66",
}


# Rooted trees are sorted tuples of their branches.
def partitions(total, largest):
    if not total:
        yield ()
    for part in range(min(total, largest), 0, -1):
        for rest in partitions(total - part, part):
            yield (part, *rest)


@cache
def trees(order):
    sizes = partitions(order - 1, order - 1)
    return sorted({tuple(sorted(branches)) for parts in sizes for branches in product(*map(trees, parts))})


def order(tree):
    return 1 + sum(map(order, tree))


def density(tree):
    return order(tree) * prod(map(density, tree))


def symmetry(tree):
    return prod(factorial(tree.count(branch)) * symmetry(branch) ** tree.count(branch) for branch in set(tree))


@cache
def elementary(a, tree):
    """The elementary weight Phi_j(tree) of every stage."""
    value = [Fraction(1)] * len(a)
    for branch in tree:
        below = elementary(a, branch)
        value = [
            v * sum((x * y for x, y in zip(row, below, strict=False)), Fraction(0))
            for v, row in zip(value, a, strict=True)
        ]
    return tuple(value)


def dot(weights, values):
    return sum((w * v for w, v in zip(weights, values, strict=True)), Fraction(0))


class Numbers(NamedTuple):
    """A tableau's coefficients as fractions, and how far they may be from the conditions."""

    a: tuple
    b: tuple
    c: tuple
    error: tuple | None
    dense: tuple
    tolerance: Fraction

    def small(self, values, scale=1):
        return all(abs(value) <= self.tolerance * scale for value in values)

    def order(self, weights):
        """The largest p for which all trees of orders 1 to p are met."""

        def met(tree):
            return self.small([dot(weights, elementary(self.a, tree)) - Fraction(1, density(tree))])

        return next(p for p in range(HIGHEST + 1) if p == HIGHEST or not all(map(met, trees(p + 1))))

    def dense_order(self):
        """The largest p for which sum_j b_j(theta) Phi_j(tree) = theta^order / density, power by power."""

        # Rounding is in proportion to the coefficients, and those of tsit5 reach 88.
        scale = max(1, *(abs(entry) for row in self.dense for entry in row))

        def met(tree):
            powers = [dot(power, elementary(self.a, tree)) for power in zip(*self.dense, strict=True)]
            powers += [Fraction(0)] * (order(tree) - len(powers))
            powers[order(tree) - 1] -= Fraction(1, density(tree))
            return self.small(powers, scale)

        return next(p for p in range(HIGHEST + 1) if p == HIGHEST or not all(map(met, trees(p + 1))))

    def embedded(self):
        return [b - e for b, e in zip(self.b, self.error, strict=True)]


def nested(convert, value):
    return tuple(nested(convert, v) for v in value) if isinstance(value, tuple) else convert(value)


def numbers(method, convert=Fraction, tolerance=CLOSE, dense=None):
    error = None if method.error is None else nested(convert, method.error)
    dense = nested(convert, method.dense) if dense is None else dense
    return Numbers(*(nested(convert, v) for v in (method.a, method.b, method.c)), error, dense, tolerance)


def shampine():
    """The formula of degree 5 in Hairer, Norsett and Wanner, section II.6; theta = 1/2 in its last bracket leaves 4."""
    b = map(Fraction, ("35/384", "0", "500/1113", "125/192", "-2187/6784", "11/84", "0"))
    bubble = [
        Fraction(-5 * (2 * 2558722523 - 31403016), 2 * 11282082432),
        Fraction(0),
        Fraction(100 * (2 * 882725551 - 15701508), 2 * 32700410799),
        Fraction(-25 * (2 * 443332067 - 31403016), 2 * 1880347072),
        Fraction(32805 * (2 * 23143187 - 3489224), 2 * 199316789632),
        Fraction(-55 * (2 * 29972135 - 7076736), 2 * 822651844),
        Fraction(10 * (2 * 7414447 - 829305), 2 * 29380423),
    ]
    rows = [[Fraction(0), 3 * w + d, -2 * w - 2 * d, d] for w, d in zip(b, bubble, strict=True)]
    rows[0] = [x + y for x, y in zip(rows[0], (1, -2, 1, 0), strict=True)]  # theta (theta - 1)^2
    rows[6] = [x + y for x, y in zip(rows[6], (0, -1, 1, 0), strict=True)]  # theta^2 (theta - 1)
    return tuple(map(tuple, rows))


def rational(value):
    """The fraction that a float is the rounding of, if it is one with few digits; else the float itself."""
    near = Fraction(value).limit_denominator(10**6)
    return near if float(near) == value else Fraction(value)


def rationals(method):
    """The numbers a rational tableau rounds. Dopri5's dense output has too many digits to be read off its floats."""
    return numbers(method, rational, Fraction(0), shampine() if method.name == "dopri5" else None)


def faults(method, found):
    """What a tableau claims of itself and its numbers deny."""
    ones = [sum(row) - b for row, b in zip(found.dense, found.b, strict=True)]
    claims = {
        "order": found.order(found.b) == method.order,
        "nodes": found.small([sum(row) - c for row, c in zip(found.a, found.c, strict=True)]),
        "dense order": found.dense_order() == method.dense_order,
        "dense end": found.small(ones),
    }
    if found.error is not None:
        printed = map(Fraction, EMBEDDED[method.name].split())
        claims["error order"] = found.order(found.embedded()) == method.error_order
        claims["embedded"] = found.small([x - y for x, y in zip(found.embedded(), printed, strict=True)])
    return [claim for claim, holds in claims.items() if not holds]


@pytest.fixture(params=TABLEAUS)
def method(request):
    return TABLEAUS[request.param]


@pytest.fixture(params=[*RATIONAL, "the floats of tsit5"])
def found(request):
    if request.param in RATIONAL:
        return TABLEAUS[request.param], rationals(TABLEAUS[request.param])
    return TABLEAUS["tsit5"], numbers(TABLEAUS["tsit5"])


def test_there_are_as_many_rooted_trees_as_there_should_be():
    assert [len(trees(n)) for n in range(1, HIGHEST + 1)] == [1, 1, 2, 4, 9, 20]
    assert all(order(tree) == n for n in range(1, HIGHEST + 1) for tree in trees(n))
    # The monotonic labellings of all trees of n nodes are (n - 1)! in number.
    for n in range(1, HIGHEST + 1):
        assert sum(Fraction(factorial(n), density(t) * symmetry(t)) for t in trees(n)) == factorial(n - 1)


def test_rows_are_strictly_lower_and_nodes_their_sums(method):
    assert [len(row) for row in method.a] == list(range(method.stages))
    assert len(method.b) == len(method.c) == len(method.dense) == method.stages
    assert method.error is None or len(method.error) == method.stages
    assert len({len(row) for row in method.dense}) == 1


def test_every_tree_up_to_the_order_is_met_and_some_of_the_next_is_missed(found):
    method, value = found
    assert value.order(value.b) == method.order


def test_the_embedded_method_has_the_order_it_claims(found):
    method, value = found
    assert (method.error is None) == (method.error_order is None) == (method.name not in EMBEDDED)
    if method.error is not None:
        assert value.order(value.embedded()) == method.error_order == method.order - 1


def test_dense_output_meets_the_trees_up_to_its_order_as_polynomials_and_no_further(found):
    method, value = found
    assert value.dense_order() == method.dense_order


def test_dense_output_ends_in_the_step_to_rounding(method):
    for row, b in zip(method.dense, method.b, strict=True):
        assert abs(sum(row) - b) <= 2**-51 * max(map(abs, row))


def test_dense_output_leaves_along_the_first_slope(method):
    assert [row[0] for row in method.dense] == [1.0] + [0.0] * (method.stages - 1)


@pytest.mark.parametrize("name", ["bosh3", "dopri5", "tsit5"])
def test_dense_output_arrives_along_the_last_slope(name):
    value = rationals(TABLEAUS[name]) if name in RATIONAL else numbers(TABLEAUS[name])
    slopes = [dot(row, range(1, len(row) + 1)) for row in value.dense]
    last = [Fraction(0)] * (len(slopes) - 1) + [Fraction(1)]
    assert value.small([slope - end for slope, end in zip(slopes, last, strict=True)])


def test_all_claims_hold(found):
    method, value = found
    assert faults(method, value) == []


def test_all_claims_hold_of_the_floats_themselves(method):
    assert faults(method, numbers(method)) == []


@pytest.mark.parametrize("name", RATIONAL)
def test_the_floats_are_the_rationals_rounded(name):
    method, value = TABLEAUS[name], rationals(TABLEAUS[name])
    for part in ("a", "b", "c", "error", "dense"):
        if getattr(method, part) is not None:
            assert nested(float, getattr(value, part)) == getattr(method, part)


def test_heuns_third_order_method_has_the_best_dense_output_of_order_2():
    # Add 2 r (theta^2 - theta^3) to b_2, and to the others what order 2 then asks: the h^3 term of the error, squared.
    def error(r):
        value = rationals(HEUN3)
        pairs = zip(value.dense, (-r, 2 * r, -r), strict=True)
        rows = [[x + y * z for x, z in zip(row, (0, 1, -1), strict=True)] for row, y in pairs]
        value = value._replace(dense=rows)
        assert value.dense_order() == 2
        total = 0
        for tree in trees(3):
            powers = [dot(power, elementary(value.a, tree)) for power in zip(*rows, strict=True)]
            powers[2] -= Fraction(1, density(tree))
            assert powers[0] == powers[1] + powers[2] == 0
            total += (powers[1] / symmetry(tree)) ** 2
        return total

    step = Fraction(1, 10**6)
    assert error(step) == error(-step) > error(Fraction(0))


def test_the_interpolant_of_tsit5_is_the_one_in_print():
    def printed(t):  # Tsitouras 2011: as products
        return [
            -1.0530884977290216 * t * (t - 1.3299890189751412) * (t**2 - 1.4364028541716351 * t + 0.7139816917074209),
            0.1017 * t**2 * (t**2 - 2.1966568338249754 * t + 1.2949852507374631),
            2.490627285651252793 * t**2 * (t**2 - 2.38535645472061657 * t + 1.57803468208092486),
            -16.54810288924490272 * (t - 1.21712927295533244) * (t - 0.61620406037800089) * t**2,
            47.37952196281928122 * (t - 1.203071208372362603) * (t - 0.658047292653547382) * t**2,
            -34.87065786149660974 * (t - 1.2) * (t - 0.666666666666666667) * t**2,
            2.5 * (t - 1) * (t - 0.6) * t**2,
        ]

    for t in (0.1, 0.25, 0.5, 0.8, 1.0):
        ours = [sum(x * t ** (k + 1) for k, x in enumerate(row)) for row in TABLEAUS["tsit5"].dense]
        assert ours == pytest.approx(printed(t), abs=1e-13)


def paths(value, path=()):
    if isinstance(value, tuple):
        for k, v in enumerate(value):
            yield from paths(v, (*path, k))
    else:
        yield path


def nudged(value, path, by):
    if not path:
        return value + by
    return (*value[: path[0]], nudged(value[path[0]], path[1:], by), *value[path[0] + 1 :])


def coefficients(method):
    return [(part, path) for part in ("a", "b", "c", "error", "dense") for path in paths(getattr(method, part) or ())]


def test_one_mistyped_coefficient_is_caught(method):
    for part, path in coefficients(method):
        value = getattr(method, part)
        entry = value
        for k in path:
            entry = entry[k]
        wrong = replace(method, **{part: nudged(value, path, 1e-6 * (entry or 1))})
        assert faults(wrong, numbers(wrong)), (part, path)


def test_two_mistyped_coefficients_whose_sum_is_right_are_caught(method):
    # The sums over rows of a, over b, over the error and over the stages' powers of theta stay; the rest must tell.
    for part, path in coefficients(method):
        value = getattr(method, part)
        other = {
            "a": lambda p: (p[0], p[1] + 1) if p[1] + 1 < p[0] else None,
            "dense": lambda p: (p[0] + 1, p[1]) if p[0] + 1 < method.stages else None,
            "c": lambda p: None,
        }.get(part, lambda p: (p[0] + 1,) if p[0] + 1 < method.stages else None)(path)
        if other is not None:
            wrong = replace(method, **{part: nudged(nudged(value, path, 1e-6), other, -1e-6)})
            assert faults(wrong, numbers(wrong)), (part, path, other)


def test_the_known_methods():
    known = {name: (t.order, t.stages, t.error_order, t.dense_order) for name, t in TABLEAUS.items()}
    assert known == {
        "euler": (1, 1, None, 1),
        "midpoint": (2, 2, None, 2),
        "heun": (2, 2, 1, 2),
        "heun3": (3, 3, None, 2),
        "rk4": (4, 4, None, 3),
        "rk38": (4, 4, None, 3),
        "bosh3": (3, 4, 2, 3),
        "dopri5": (5, 7, 4, 4),
        "tsit5": (5, 7, 4, 4),
    }
    assert all(tableau(name) is t and t.name == name for name, t in TABLEAUS.items())


def test_the_last_slope_is_the_next_first_one_where_the_last_stage_is_the_step():
    assert [name for name, t in TABLEAUS.items() if t.fsal] == ["bosh3", "dopri5", "tsit5"]


@pytest.mark.parametrize(("part", "value"), [("c", (0.0, 0.5, 0.75, 0.9)), ("b", (2 / 9, 1 / 3, 4 / 9, 1e-9))])
def test_a_last_stage_elsewhere_is_not_the_next_first_one(part, value):
    assert not replace(TABLEAUS["bosh3"], **{part: value}).fsal


def test_a_bare_tableau_makes_the_same_steps_with_the_stages_they_need(method):
    bare = method.bare
    assert bare.stages == method.stages - method.fsal
    assert (bare is method) == (not method.fsal)
    assert bare.bare is bare is method.bare
    assert (bare.name, bare.order) == (method.name, method.order)
    assert bare.b + (0.0,) * method.fsal == method.b
    assert numbers(bare).order(numbers(bare).b) == method.order
    if method.fsal:
        assert (bare.error, bare.error_order, bare.dense, bare.dense_order) == (None, None, (), 0)


def test_all_idle_stages_at_the_end_are_dropped_and_no_others():
    idle = replace(EULER, a=((), (1.0,), (0.0, 1.0)), b=(1.0, 0.0, 0.0), c=(0.0, 1.0, 1.0))
    assert idle.bare == replace(EULER, dense=(), dense_order=0)
    assert TABLEAUS["midpoint"].bare.stages == 2


def test_an_unknown_name_is_refused_with_those_that_exist():
    known = "euler, midpoint, heun, heun3, rk4, rk38, bosh3, dopri5, tsit5"
    with pytest.raises(ValueError, match=rf"^Unknown method 'leapfrog'; known are {known}\. .* TorchDiffEq\(name\)\.$"):
        tableau("leapfrog")


@pytest.mark.parametrize(
    ("name", "near"),
    [("rk45", "rk4"), ("dopri", "dopri5"), ("DOPRI5", "dopri5"), ("Tsit5", "tsit5"), ("eular", "euler")],
)
def test_a_name_that_is_nearly_one_is_told_which(name, near):
    with pytest.raises(ValueError, match=rf"^Unknown method '{name}'; did you mean '{near}'\? known are euler, "):
        tableau(name)


@pytest.mark.parametrize("name", [None, 4, ["rk4"]])
def test_what_is_no_name_is_refused_alike(bad_input, name):
    with pytest.raises(ValueError, match=r"^Unknown method .*; known are euler, "):
        tableau(name)
