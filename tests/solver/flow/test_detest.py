"""The 25 problems of DETEST beside scipy's DOP853 and RK45.

Hull, Enright, Fellen and Sedgwick, "Comparing numerical methods for ordinary differential equations", SIAM J. Numer.
Anal. 9 (1972). Every problem is a row of one batch, with steps of its own.
"""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import jv, jvp

from cde_nets.gradient import solve
from cde_nets.solver import InitialValueProblem, RungeKutta, Tolerance

END = 20.0
TIMES = [2.0 * k for k in range(1, 11)]


def turning(t, y):
    """B4, an integral surface of a torus."""
    r = math.hypot(y[0], y[1])
    return [-y[1] - y[0] * y[2] / r, y[0] - y[1] * y[2] / r, y[0] / r]


def linear(matrix):
    return lambda t, y: matrix @ y


def chain(rates):
    """C1 and C2: radioactive decay, each substance into the next."""
    return linear(np.diag([-r for r in rates] + [0.0]) + np.diag(rates, -1))


def heat(n):
    """C3 and C4."""
    return linear(np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1))


# C5: Jupiter, Saturn, Uranus, Neptune and Pluto; the sun's mass holds the inner planets; units of 100 days.
GRAVITY, SUN = 2.95912208286, 1.00000597682
MASSES = np.array([0.000954786104043, 0.000285583733151, 0.0000437273164546, 0.0000517759138449, 0.00000277777777778])
PLACES = [
    [3.42947415189, 3.35386959711, 1.35494901715],
    [6.64145542550, 5.97156957878, 2.18231499728],
    [11.2630437207, 14.6952576794, 6.27960525067],
    [-30.1552268759, 1.65699966404, 1.43785752721],
    [-21.1238353380, 28.4465098142, 15.3882659679],
]
SPEEDS = [
    [-0.557160570446, 0.505696783289, 0.230578543901],
    [-0.415570776342, 0.365682722812, 0.169143213293],
    [-0.325325669158, 0.189706021964, 0.0877265322780],
    [-0.0240476254170, -0.287659532608, -0.117219543175],
    [-0.176860753121, -0.216393453025, -0.0148647893090],
]


def planets(t, y):
    place, speed = np.asarray(y).reshape(2, 5, 3)
    to_sun = place / np.linalg.norm(place, axis=1, keepdims=True) ** 3
    gaps = place[None] - place[:, None]
    distance = np.linalg.norm(gaps, axis=2) + np.eye(5)
    pull = (MASSES[None, :, None] * (gaps / distance[:, :, None] ** 3 - to_sun[None])).sum(1)
    # The sum over the others has no term of its own planet.
    pull += MASSES[:, None] * to_sun
    return np.concatenate([speed.ravel(), GRAVITY * (pull - (SUN + MASSES)[:, None] * to_sun).ravel()])


def orbit(t, y):
    """D1 to D5: two bodies, eccentricities 0.1, 0.3, .., 0.9."""
    cube = math.hypot(y[0], y[1]) ** 3
    return [y[2], y[3], -y[0] / cube, -y[1] / cube]


ECCENTRICITIES = {"D1": 0.1, "D2": 0.3, "D3": 0.5, "D4": 0.7, "D5": 0.9}
FIRST = [1.0] + [0.0] * 9
PROBLEMS = {
    "A1": (lambda t, y: [-y[0]], [1.0]),
    "A2": (lambda t, y: [-(y[0] ** 3) / 2], [1.0]),
    "A3": (lambda t, y: [y[0] * math.cos(t)], [1.0]),
    "A4": (lambda t, y: [y[0] / 4 * (1 - y[0] / 20)], [1.0]),
    "A5": (lambda t, y: [(y[0] - t) / (y[0] + t)], [4.0]),
    "B1": (lambda t, y: [2 * (y[0] - y[0] * y[1]), -(y[1] - y[0] * y[1])], [1.0, 3.0]),
    "B2": (lambda t, y: [-y[0] + y[1], y[0] - 2 * y[1] + y[2], y[1] - y[2]], [2.0, 0.0, 1.0]),
    "B3": (lambda t, y: [-y[0], y[0] - y[1] ** 2, y[1] ** 2], [1.0, 0.0, 0.0]),
    "B4": (turning, [3.0, 0.0, 0.0]),
    "B5": (lambda t, y: [y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]], [0.0, 1.0, 1.0]),
    "C1": (chain([1.0] * 9), FIRST),
    "C2": (chain([float(k) for k in range(1, 10)]), FIRST),
    "C3": (heat(10), FIRST),
    "C4": (heat(51), [1.0] + [0.0] * 50),
    "C5": (planets, [*np.ravel(PLACES), *np.ravel(SPEEDS)]),
    **{name: (orbit, [1 - e, 0.0, 0.0, math.sqrt((1 + e) / (1 - e))]) for name, e in ECCENTRICITIES.items()},
    "E1": (lambda t, y: [y[1], -(y[1] / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * y[0])], [jv(0.5, 1), jvp(0.5, 1)]),
    "E2": (lambda t, y: [y[1], (1 - y[0] ** 2) * y[1] - y[0]], [2.0, 0.0]),
    "E3": (lambda t, y: [y[1], y[0] ** 3 / 6 - y[0] + 2 * math.sin(2.78535 * t)], [0.0, 0.0]),
    "E4": (lambda t, y: [y[1], 0.032 - 0.4 * y[1] ** 2], [30.0, 0.0]),
    "E5": (lambda t, y: [y[1], math.sqrt(1 + y[1] ** 2) / (25 - t)], [0.0, 0.0]),
}
NAMES = list(PROBLEMS)
# Another method solves one problem of each class.
SOLVED = {"dopri5": NAMES, "tsit5": ["A3", "B5", "C5", "D1", "E1"]}
PAIRS = [(name, method) for method, names in SOLVED.items() for name in names]
# A row repeats its problem's numbers: the root mean square of the error is then what it is for the problem alone,
# but for C4, whose 51 numbers fill 60 places.
WIDTH = 60


def run(method, **options):
    fields, starts = zip(*(PROBLEMS[name] for name in SOLVED[method]), strict=True)
    sizes = [len(start) for start in starts]
    offsets = np.cumsum([0, *sizes[:-1]])
    repeated = np.stack([offset + np.arange(WIDTH) % size for offset, size in zip(offsets, sizes, strict=True)])

    def field(t, x):
        rows = zip(fields, t[:, 0].tolist(), x.numpy(), sizes, strict=True)
        values = [f(s, row[:n] if n > 4 else row[:n].tolist()) for f, s, row, n in rows]
        return torch.from_numpy(np.concatenate(values)[repeated])

    start = np.concatenate(starts)[repeated]
    jaxtyping.config.update("jaxtyping_disable", True)  # Thousands of steps: the checker would take most of the time.
    try:
        with torch.no_grad():
            problem = InitialValueProblem(field, torch.from_numpy(start), 0.0, END)
            return solve(problem, RungeKutta(method), max_steps=20000, **options)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def of(solutions, name, method):
    """A problem's states at the save times, shape (times, numbers)."""
    return solutions[method].value[:, SOLVED[method].index(name), : len(PROBLEMS[name][1])].numpy()


@pytest.fixture(scope="module")
def tight():
    """With D's bound of 1e-10 in mind: its errors grow to 200 times the tolerance, those of the others to 15 times."""
    tolerance = Tolerance(rtol=3e-13, atol=3e-13)
    return {name: run(name, tolerance=tolerance, save_at=TIMES) for name in SOLVED}


@pytest.fixture(scope="module")
def loose():
    return run("dopri5", tolerance=Tolerance(rtol=1e-6, atol=1e-8), save_at=[END])


def beside(name, method, rtol, atol):
    f, start = PROBLEMS[name]
    return solve_ivp(f, (0, END), start, method=method, rtol=rtol, atol=atol, t_eval=TIMES)


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_tight_solutions_are_those_of_dop853(tight, name, method):
    want = beside(name, "DOP853", 1e-13, 1e-15).y.T
    assert np.abs(of(tight, name, method) - want).max() < 1e-10 * np.abs(want).max()


def kepler(e, t):
    anomaly = t
    for _ in range(60):
        anomaly -= (anomaly - e * math.sin(anomaly) - t) / (1 - e * math.cos(anomaly))
    x, y = math.cos(anomaly) - e, math.sqrt(1 - e * e) * math.sin(anomaly)
    rate = 1 / (1 - e * math.cos(anomaly))
    return [x, y, -math.sin(anomaly) * rate, math.sqrt(1 - e * e) * math.cos(anomaly) * rate]


CLOSED = {
    "A1": lambda t: [math.exp(-t)],
    "A2": lambda t: [1 / math.sqrt(t + 1)],
    "A3": lambda t: [math.exp(math.sin(t))],
    "A4": lambda t: [20 / (1 + 19 * math.exp(-t / 4))],
    "C1": lambda t: [
        *(t**k * math.exp(-t) / math.factorial(k) for k in range(9)),
        1 - sum(t**k * math.exp(-t) / math.factorial(k) for k in range(9)),
    ],
    "C2": lambda t: [*(math.exp(-t) * (1 - math.exp(-t)) ** k for k in range(9)), (1 - math.exp(-t)) ** 9],
    "E1": lambda t: [jv(0.5, t + 1), jvp(0.5, t + 1)],
} | {name: lambda t, e=e: kepler(e, t) for name, e in ECCENTRICITIES.items()}


@pytest.mark.parametrize(("name", "method"), [pair for pair in PAIRS if pair[0] in CLOSED])
def test_tight_solutions_are_the_closed_forms(tight, name, method):
    want = np.array([CLOSED[name](t) for t in TIMES])
    assert np.abs(of(tight, name, method) - want).max() < 1e-10 * np.abs(want).max()


def test_five_bodies_keep_their_energy_and_momentum(tight):
    # Heliocentric coordinates: the sun's own motion is minus that of the planets' centre.
    def invariants(y):
        place, speed = y.reshape(2, 5, 3)
        total = SUN + MASSES.sum()
        drift = (MASSES[:, None] * speed).sum(0)
        kinetic = ((MASSES * (speed**2).sum(1)).sum() - drift @ drift / total) / 2
        distance = np.linalg.norm(place[None] - place[:, None], axis=2) + np.eye(5)
        pairs = np.outer(MASSES, MASSES) / distance * (1 - np.eye(5))
        potential = -GRAVITY * ((SUN * MASSES / np.linalg.norm(place, axis=1)).sum() + pairs.sum() / 2)
        centre = (MASSES[:, None] * place).sum(0)
        spin = (MASSES[:, None] * np.cross(place, speed)).sum(0) - np.cross(centre, drift) / total
        return np.array([kinetic + potential, *spin])

    start = invariants(np.array(PROBLEMS["C5"][1]))
    for method in SOLVED:
        end = invariants(of(tight, "C5", method)[-1])
        assert np.abs(end - start).max() < 1e-12 * np.abs(start).max()


@pytest.mark.parametrize("name", NAMES)
def test_steps_and_evaluations_are_those_of_rk45(loose, name):
    # The same pair with another controller. Six evaluations a try, and two to begin with, as there.
    row = NAMES.index(name)
    tries = int(loose.statistics.steps[row])
    assert 1 / 1.3 < (2 + 6 * tries) / beside(name, "RK45", 1e-6, 1e-8).nfev < 1.3


def test_the_batch_is_evaluated_as_often_as_its_slowest_row(loose):
    assert loose.statistics.evaluations == 2 + 6 * int(loose.statistics.steps.max())
    # Rows differ much: that they step by themselves is what makes these figures.
    assert int(loose.statistics.steps.max()) > 15 * int(loose.statistics.steps.min())
