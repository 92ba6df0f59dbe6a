"""Explicit Runge-Kutta tableaus: steps, error estimates and dense output.

Coefficients are written as the sources print them, fractions or decimals, and rounded to floats once. [HNW] is Hairer,
Norsett and Wanner, Solving Ordinary Differential Equations I, second edition, 1993.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from functools import cached_property


@dataclass(frozen=True)
class Tableau:
    """X_j = x_n + h sum_{l<j} a[j][l] k_l, k_j = f(t_n + c[j] h, X_j), x_{n+1} = x_n + h sum_j b[j] k_j.

    Between the ends of the step, x(t_n + theta h) = x_n + h sum_j b_j(theta) k_j for theta in [0, 1], where
    b_j(theta) = sum_k dense[j][k] theta^(k+1) and b_j(1) = b[j]: no slopes but the step's own.

    Attributes:
        name: what users call it.
        order: of convergence on smooth problems.
        a: the lower triangle, row j with j entries.
        b: weights.
        c: nodes, the sums of the rows of a.
        error: b - b_hat, so that h sum_j error[j] k_j estimates a step's error; None where no b_hat is embedded.
        error_order: the order of b_hat, or None.
        dense: row j holds the coefficients of theta, theta^2, .. in b_j; all rows are as long as the degree.
        dense_order: q, where x(t_n + theta h) is within O(h^(q+1)) of the solution through x_n, for every theta.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    error: tuple[float, ...] | None
    error_order: int | None
    dense: tuple[tuple[float, ...], ...]
    dense_order: int

    @property
    def stages(self) -> int:
        """The number of field evaluations a step, where none is carried over from the step before."""
        return len(self.b)

    @cached_property
    def fsal(self) -> bool:
        """First same as last: the last slope is taken at (t_{n+1}, x_{n+1}), so the next step begins with it."""
        return self.c[-1] == 1 and self.b[-1] == 0 and self.a[-1] == self.b[:-1]

    @cached_property
    def bare(self) -> Tableau:
        """The same steps without the last stages that x_{n+1} does not need.

        For grids that ask neither for an error estimate nor for dense output: where a stage falls away, so do both
        (`error` is None, `dense` is empty, `dense_order` is 0). A tableau with nothing to drop is returned as it is.
        """
        # What follows the last weight that is not 0 feeds nothing: a stage is used by later ones only.
        stages = max(j + 1 for j, weight in enumerate(self.b) if weight)
        if stages == self.stages:
            return self
        return replace(
            self,
            a=self.a[:stages],
            b=self.b[:stages],
            c=self.c[:stages],
            error=None,
            error_order=None,
            dense=(),
            dense_order=0,
        )


def _numbers(text: str) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, text.split()))


def _floats(numbers: Sequence[Fraction]) -> tuple[float, ...]:
    return tuple(map(float, numbers))


def _parabola(b: str) -> list[list[Fraction]]:
    """The parabola in theta that leaves x_n along k_1 and arrives at x_{n+1}."""
    return [[Fraction(j == 0), weight - (j == 0)] for j, weight in enumerate(_numbers(b))]


def _hermite(b: str, bubble: str | None = None) -> list[list[Fraction]]:
    """The cubic through both ends of a step along k_1 and the last slope, and theta^2 (1 - theta)^2 bubble on top."""
    weights = _numbers(b)
    ends = [(w, int(j == 0), int(j == len(weights) - 1)) for j, w in enumerate(weights)]
    cubic = [[Fraction(first), 3 * w - 2 * first - last, first + last - 2 * w] for w, first, last in ends]
    if bubble is None:
        return cubic
    return [[p, q + d, r - 2 * d, d] for (p, q, r), d in zip(cubic, _numbers(bubble), strict=True)]


def _tableau(
    name: str,
    order: int,
    *,
    a: tuple[str, ...],
    b: str,
    error: str | None = None,
    error_order: int | None = None,
    dense: Sequence[Sequence[Fraction]],
    dense_order: int,
) -> Tableau:
    rows = [_numbers(row) for row in ("", *a)]
    return Tableau(
        name,
        order,
        a=tuple(map(_floats, rows)),
        b=_floats(_numbers(b)),
        c=tuple(float(sum(row)) for row in rows),
        error=None if error is None else _floats(_numbers(error)),
        error_order=error_order,
        dense=tuple(map(_floats, dense)),
        dense_order=dense_order,
    )


# Euler 1768; its dense output is the chord.
EULER = _tableau("euler", 1, a=(), b="1", dense=[_numbers("1")], dense_order=1)

# Runge 1895: [HNW] section II.1.
MIDPOINT = _tableau("midpoint", 2, a=("1/2",), b="0 1", dense=_parabola("0 1"), dense_order=2)

# The explicit trapezoidal rule, Runge 1895 and Heun 1900, with Euler's method embedded.
HEUN = _tableau(
    "heun",
    2,
    a=("1",),
    b="1/2 1/2",
    error="-1/2 1/2",
    error_order=1,
    dense=_parabola("1/2 1/2"),
    dense_order=2,
)

# Heun 1900: [HNW] table II.1.1. No dense output from these three slopes has order 3. The cubics of order 2 that leave
# along k_1 and end in b have b_2 = s (theta^2 - theta^3); s = 9/5 makes the h^3 term of the error smallest, at every
# theta (least squares over the two trees of order 3, each divided by its symmetry).
HEUN3 = _tableau(
    "heun3",
    3,
    a=("1/3", "0 2/3"),
    b="1/4 0 3/4",
    dense=[_numbers("1 -33/20 9/10"), _numbers("0 9/5 -9/5"), _numbers("0 -3/20 9/10")],
    dense_order=2,
)

# Kutta 1901, "the" Runge-Kutta method: [HNW] table II.1.2. Here and in the next one no other dense output has order 3:
# the four conditions of orders 1 to 3 fix the four b_j(theta).
RK4 = _tableau(
    "rk4",
    4,
    a=("1/2", "0 1/2", "0 0 1"),
    b="1/6 1/3 1/3 1/6",
    dense=[_numbers("1 -3/2 2/3"), _numbers("0 1 -2/3"), _numbers("0 1 -2/3"), _numbers("0 -1/2 2/3")],
    dense_order=3,
)

# Kutta 1901, the 3/8 rule: [HNW] table II.1.2.
RK38 = _tableau(
    "rk38",
    4,
    a=("1/3", "-1/3 1", "1 -1 1"),
    b="1/8 3/8 3/8 1/8",
    dense=[_numbers("1 -15/8 1"), _numbers("0 15/8 -3/2"), _numbers("0 3/8 0"), _numbers("0 -3/8 1/2")],
    dense_order=3,
)

# Bogacki and Shampine, A 3(2) pair of Runge-Kutta formulas, Appl. Math. Lett. 2, 1989; dense output by the cubic.
BOSH3 = _tableau(
    "bosh3",
    3,
    a=("1/2", "0 3/4", "2/9 1/3 4/9"),
    b="2/9 1/3 4/9 0",
    error="-5/72 1/12 1/9 -1/8",
    error_order=2,
    dense=_hermite("2/9 1/3 4/9 0"),
    dense_order=3,
)

# Dormand and Prince, A family of embedded Runge-Kutta formulae, J. Comput. Appl. Math. 6, 1980: [HNW] table II.5.2.
# Dense output: Shampine, Some practical Runge-Kutta formulas, Math. Comp. 46, 1986, as in the code DOPRI5 of [HNW].
DOPRI5 = _tableau(
    "dopri5",
    5,
    a=(
        "1/5",
        "3/40 9/40",
        "44/45 -56/15 32/9",
        "19372/6561 -25360/2187 64448/6561 -212/729",
        "9017/3168 -355/33 46732/5247 49/176 -5103/18656",
        "35/384 0 500/1113 125/192 -2187/6784 11/84",
    ),
    b="35/384 0 500/1113 125/192 -2187/6784 11/84 0",
    error="71/57600 0 -71/16695 71/1920 -17253/339200 22/525 -1/40",
    error_order=4,
    dense=_hermite(
        "35/384 0 500/1113 125/192 -2187/6784 11/84 0",
        "-12715105075/11282082432 0 87487479700/32700410799 -10690763975/1880347072 701980252875/199316789632"
        " -1453857185/822651844 69997945/29380423",
    ),
    dense_order=4,
)

# Tsitouras, Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption, Comput. Math.
# Appl. 62, 2011, with his own interpolant: the bubble is its theta^4, and the rest of it follows from b. To all the
# digits of a, b and error here, the order conditions hold.
_TSIT5_B = (
    "0.0964607668180652295181673 0.01 0.4798896504144995747752495 1.3790085741037418931922748"
    " -3.2900695154360806799010476 2.3247105240997739824153559 0"
)
TSIT5 = _tableau(
    "tsit5",
    5,
    a=(
        "0.161",
        "-0.0084806554923569885444269 0.3354806554923569885444269",
        "2.8971530571054934321304326 -6.3594484899750748431481599 4.3622954328695814110177273",
        "5.3258648284392566044288779 -11.7488835640628278777471703 7.4955393428898362083046048"
        " -0.0924950663617552492565021",
        "5.8614554429464200286592515 -12.9209693178471092917061187 8.1593678985761586431804008"
        " -0.0715849732814009972245305 -0.0282690503940683829090031",
        _TSIT5_B.removesuffix(" 0"),
    ),
    b=_TSIT5_B,
    # 1/66 is found with either sign; with this one they add up to 0.
    error="0.0017800110522257714433786 0.0008164344596567469032236 -0.0078808780102619960103147"
    " 0.1447110071732629075371651 -0.5823571654525552250199376 0.4580821059291869466616365 -1/66",
    error_order=4,
    dense=_hermite(
        _TSIT5_B,
        "-1.0530884977290216 0.1017 2.490627285651252793 -16.54810288924490272 47.37952196281928122"
        " -34.87065786149660974 2.5",
    ),
    dense_order=4,
)

TABLEAUS = {tableau.name: tableau for tableau in (EULER, MIDPOINT, HEUN, HEUN3, RK4, RK38, BOSH3, DOPRI5, TSIT5)}
for _method in TABLEAUS.values():
    # Worked out before anyone compiles: torch.compile cannot enter the lock that guards a cached property's first use.
    _method.bare, _method.fsal  # noqa: B018


def tableau(name: str) -> Tableau:
    """The tableau of that name.

    Raises:
        ValueError: no method has that name; the message gives the nearest one, if any is near, and those that exist.
    """
    if isinstance(name, str):
        if name in TABLEAUS:
            return TABLEAUS[name]
        near = get_close_matches(name.lower(), TABLEAUS, n=1)
    else:
        near = []
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"Unknown method {name!r}; {hint}known are {', '.join(TABLEAUS)}. "
        "Implicit and further methods go through TorchDiffEq(name)."
    )
