"""Accessibility: what a system with a drift can attain has interior, which is less than controllability.

A system X' = f_0(X) + sum_i u_i(t) f_i(X), whose drift f_0 nobody controls, has two algebras. All brackets of
f_0, f_1..f_d make the first, and those with at least one controlled field the second: the ideal that f_1..f_d generate
in the first, spanned by [g_1, [g_2, .. [g_k, f_j]]] with j >= 1 and any g of f_0..f_d. The first is the second and the
line of f_0, so that their ranks differ by one at most. Full at the points (stacked, m N),

- the first says that what is attained in times up to T has interior, for every T > 0 (weak accessibility);
- the second says that what is attained at exactly the time T has interior, for every T > 0 that is small enough
  (strong accessibility).

H. J. Sussmann and V. Jurdjevic, "Controllability of nonlinear systems", Journal of Differential Equations 12, 1972;
A. J. Krener, "A generalization of Chow's theorem and the bang-bang theorem to nonlinear control problems", SIAM Journal
on Control 12, 1974; H. Nijmeijer and A. J. van der Schaft, "Nonlinear Dynamical Control Systems", Springer 1990, ch. 3.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from theory.bounds import Bound, Limit, at_points
from theory.certificate import PROVERS, Certificate
from theory.data import from_data, to_data
from theory.effort import Progress, check_effort, deadline_after, fresh_seed
from theory.exact import ExactArray, exact_array
from theory.kalman import Kalman, is_affine, kalman_rank
from theory.lifting import as_dicts
from theory.points import PointsProver, below, certificate_at, check_distinct, full_rank_at
from theory.program import Program
from theory.programs.monomial import MonomialProgram
from theory.programs.union import UnionProgram
from theory.rank import ranks_modulo_primes
from theory.reading import read_fields

if TYPE_CHECKING:
    import sympy

_CLAIM = "strong accessibility"
_KIND = "controlled, with a drift"
# Numbers that are computed as fractions.
_MOST = 20_000


@dataclass(frozen=True)
class Accessibility:
    """What is known of a system with a drift at some points.

    Attributes:
        weak: the certificate of all fields' brackets, claim "points".
        strong: the certificate of brackets with a controlled field in each, claim "strong accessibility".
        kalman: of an affine system, or of the linear part at points where the drift vanishes; None where there are
            neither, and where the rank is not known.
        controllable: True where some neighbourhood of the points can be attained from them, at any small time T > 0
            and with controls as large as need be; False where it cannot, in any time; None where that is not decided
            here. It follows from no accessibility.
        reason: why, in words.
    """

    weak: Certificate
    strong: Certificate
    kalman: Kalman | None
    controllable: bool | None
    reason: str

    def __str__(self) -> str:
        said = [f"Weak accessibility. {self.weak}", f"Strong accessibility. {self.strong}"]
        attained = (
            "at exactly the time T has interior, for every T > 0 that is small enough"
            if self.strong
            else "in times up to T has interior, for every T > 0"
        )
        if self.strong or self.weak:
            said.append(
                f"Accessible: what is attained from here {attained}. That alone is not controllability: a drift may "
                "carry all of it to one side, and where it started need not be inside."
            )
        answer = {True: "Controllable", False: "Not controllable", None: "Controllability is not decided"}
        said.append(f"{answer[self.controllable]}: {self.reason}.")
        return "\n".join(said)


def check_accessibility(
    drift: Any,
    fields: Any,
    points: npt.ArrayLike | ExactArray,
    *,
    symbols: Sequence[sympy.Symbol] | None = None,
    primes: int = 3,
    seed: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> Accessibility:
    """Whether what X' = f_0(X) + sum_i u_i f_i(X) can attain from N points has interior, and what that leaves open.

    The points move together, by the same controls, and none of them can be held still where the drift does not vanish.
    Ranks are those of stacked brackets at all points, modulo random primes along random curves, with a random control
    before the drift too: full modulo one prime, they are full; deficient, they are not proved to be either. Fields
    tangent to spheres are asked for (m - 1) N.

    Controllability is told where plain means decide it: brackets that cannot span (T. Nagano, Journal of the
    Mathematical Society of Japan 18, 1966); affine systems (Kalman); a drift that is a combination of the controlled
    fields, so that controls can cancel it (Chow); points where the drift vanishes and the linear part is controllable
    (E. B. Lee and L. Markus, "Foundations of Optimal Control Theory", Wiley 1967).

    Args:
        drift: f_0: m SymPy expressions, or a family or program of one field.
        fields: f_1..f_d, as `theory.reading.read_fields`.
        points: (N, m) integers, Fractions or floats (the dyadic rationals they are), no two equal.
        symbols: of SymPy expressions.
        primes: how many primes are tried before a deficient rank is reported.
        seed: of primes and curves; drawn where None, and kept in the certificates.
        time_limit: seconds for each of the two ranks, after which what has been found is reported.
        progress: called with the rank and the full rank as each grows, the weak one first.

    Raises:
        ValueError: a drift that is not one field, or lives on another space; others as `theory.check_points`.
        TypeError: as `read_fields`.
    """
    controlled = read_fields(fields, symbols)
    free = _read_drift(drift, controlled, symbols)
    system, x = UnionProgram([controlled, free]), exact_array(points, "points")
    check_distinct(system, x)
    check_effort(primes, time_limit)
    seed = fresh_seed(seed)
    weak = PointsProver(system, x, None, primes, time_limit, progress).prove(seed)
    strong = StrongProver(free, controlled, x, primes, time_limit, progress).prove(seed)
    kalman = kalman_rank(free, controlled, x, seed)
    controllable, reason = _controllable(free, controlled, x, weak, strong, kalman)
    return Accessibility(weak, strong, kalman, controllable, reason)


def _read_drift(drift: Any, fields: Program, symbols: Sequence[sympy.Symbol] | None) -> Program:
    if isinstance(drift, Program) or callable(getattr(drift, "exact", None)):
        program = read_fields(drift)
    elif hasattr(drift, "__len__") and not isinstance(drift, str):
        if symbols is not None and len(drift) != len(symbols):
            raise ValueError(
                f"the drift has {len(drift)} components on {len(symbols)} coordinates: expected one field, an "
                "expression for each"
            )
        program = read_fields([drift], symbols)
    else:
        raise TypeError(
            f"the drift is a {type(drift).__name__}, expected m SymPy expressions with symbols=(..), or a family or "
            "program of one field"
        )
    if program.count != 1:
        raise ValueError(f"the drift has {program.count} fields, expected one: the others have controls, or are summed")
    if program.dim != fields.dim:
        raise ValueError(f"the drift lives on R^{program.dim} and the fields on R^{fields.dim}: expected one space")
    return program


@dataclass(frozen=True)
class StrongProver:
    """Data of a strong accessibility check, ready to be proved.

    Attributes:
        drift: f_0, a program of one field.
        fields: f_1..f_d.
        points: exact, (N, m).
        primes: how many to try.
        time_limit: seconds, or None.
        progress: told of the rank as it grows.
    """

    drift: Program
    fields: Program
    points: ExactArray
    primes: int = 3
    time_limit: float | None = None
    progress: Progress | None = None

    @classmethod
    def of(cls, certificate: Certificate) -> StrongProver:
        """As `theory.certificate.Prover.of`."""
        data = certificate.data or {}
        system = data["fields"]
        if system["kind"] != _KIND:
            raise ValueError(f"the certificate has fields of the kind {system['kind']!r}, expected {_KIND!r}")
        (drift, _), (fields, points) = (from_data(data | {"fields": system[part]}) for part in ("drift", "fields"))
        if points is None:
            raise ValueError("the certificate is about points and has none")
        if drift.count != 1:
            raise ValueError(f"the certificate has a drift of {drift.count} fields, expected one")
        check_distinct(UnionProgram([fields, drift]), points)
        return cls(drift, fields, points)

    def prove(self, seed: int | None) -> Certificate:
        """The rank of the brackets with a controlled field, as `check_accessibility`."""
        # The drift comes last: from order 1 on a curve gives nothing for the last field that others do not give.
        program, x = UnionProgram([self.fields, self.drift]), self.points
        seed = fresh_seed(seed)
        rng, deadline = np.random.default_rng(seed), deadline_after(self.time_limit)
        target = full_rank_at(program, x)
        runs = ranks_modulo_primes([program], x, target, self.primes, rng, deadline, self.progress, drift=True)
        deficient = all(run.rank < target for run in runs)
        late = time.monotonic() >= deadline and deficient
        return certificate_at(
            _CLAIM,
            program,
            x,
            runs,
            seed,
            subject=f"drift {self.drift}; controlled {self.fields}",
            impossible=self._impossible(program, target, seed) if deficient else "",
            note=f"stopped after {self.time_limit:g} s" if late else "",
            prover=replace(self, time_limit=None, progress=None),
            data=self._data(),
        )

    def _impossible(self, program: Program, target: int, seed: int) -> str:
        """Why the rank cannot be full, where that is plain."""
        bounds = [at_points(program, self.points)]
        if is_affine(self.drift, self.fields):
            # Brackets with a controlled field are then the constants A**k b_i and zero.
            kalman, m = kalman_rank(self.drift, self.fields, self.points, seed), program.dim
            constant = "brackets of an affine drift with constant fields are constant, m dimensions"
            rank, reason = (m, constant) if kalman is None else (kalman.rank, "Kalman's, as the system is affine")
            bounds.append(Bound(rank, reason, Limit.DRIFT))
        return below(min(bounds, key=lambda bound: bound.rank), target)

    def _data(self) -> dict[str, Any] | None:
        # Of a kind of its own: one who knows no drift must not take it for a field with a control.
        drift, fields = to_data(self.drift, self.points), to_data(self.fields, self.points)
        if drift is None or fields is None:
            return None
        return fields | {"fields": {"kind": _KIND, "drift": drift["fields"], "fields": fields["fields"]}}


PROVERS[_CLAIM] = StrongProver


def _controllable(
    drift: Program, fields: Program, points: ExactArray, weak: Certificate, strong: Certificate, kalman: Kalman | None
) -> tuple[bool | None, str]:
    """`Accessibility.controllable` and its reason."""
    if weak.impossible and not weak.scope.endswith("of the ball"):
        return False, f"{weak.impossible}, and the orbit has the dimension of that rank (Nagano)"
    if is_affine(drift, fields):
        if len(points) > 1:
            return False, "the system is affine, and the difference of two points moves by itself, by exp(t A)"
        if kalman is None:
            return None, "the system is affine, and so large that Kalman's rank is not known to be full or deficient"
        ranks = f"Kalman's rank is {kalman.rank} of {kalman.full_rank}"
        if kalman.rank == kalman.full_rank:
            return True, f"the system is affine and {ranks}: any state to any other, in any time T > 0"
        return False, f"the system is affine and {ranks}: other coordinates move by themselves"
    if _is_combination(drift, fields):
        if strong:
            return True, "controls can cancel the drift, and brackets span (Chow): from the points to any nearby"
        return None, "controls can cancel the drift, but brackets were not proved to span"
    if kalman is not None:
        ranks = f"the drift vanishes at the points, where Kalman's rank is {kalman.rank} of {kalman.full_rank}"
        if kalman.rank == kalman.full_rank:
            return True, f"{ranks}: from them to any nearby, in any small time T > 0"
        return None, f"{ranks}: the linear part does not decide it"
    return None, "no test that is made here applies"


def _is_combination(drift: Program, fields: Program) -> bool:
    """Whether f_0 is a combination of the f_i with constant coefficients, as far as coefficients show it."""
    from sympy import QQ
    from sympy.polys.matrices import DomainMatrix

    if not isinstance(drift, MonomialProgram):
        return False
    (free,) = as_dicts(drift)
    if not free:
        return True
    if not isinstance(fields, MonomialProgram) or fields.coefficients.numerators.size > _MOST:
        return False
    given = as_dicts(fields)
    keys = sorted({key for V in (*given, free) for key in V})

    def rank(rows: Sequence[Any]) -> int:
        values = [[QQ(V[key].numerator, V[key].denominator) if key in V else QQ(0) for key in keys] for V in rows]
        return int(DomainMatrix(values, (len(rows), len(keys)), QQ).rank())

    return rank(given) == rank([*given, free])
