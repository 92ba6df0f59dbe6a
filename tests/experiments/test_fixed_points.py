import json
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, root
from scipy.special import expit
from typer.testing import CliRunner

from experiments.fixed_points import app, banach, brouwer, descent, race, scalar
from experiments.fixed_points.solving import name, thinned


@pytest.fixture(autouse=True)
def quick(bad_input):
    """The shape checker would take most of the time."""


def orbit(f, x, steps):
    found = [x]
    for _ in range(steps):
        found.append(f(found[-1]))
    return found


def test_the_golden_ratio_from_two_is_that_of_fractions_and_the_misprint_is_none_of_them():
    found = scalar.golden_ratio()
    exact = orbit(lambda x: 1 + 1 / x, Fraction(2), len(found["iterates"]) - 1)
    np.testing.assert_allclose(found["iterates"], [float(x) for x in exact], rtol=1e-15)
    assert found["value"] == pytest.approx((1 + math.sqrt(5)) / 2, abs=1e-13)
    assert exact[5] == Fraction(21, 13)
    assert f"{found['x_5']:.9f}" == "1.615384615"
    assert min(abs(x - found["x_5_misprinted_as"]) for x in found["iterates"]) > 1e-3
    # The slope at phi is -1/phi^2.
    assert found["slope"] == pytest.approx(-(found["value"] ** -2), rel=1e-12)


def test_the_rearrangement_meets_its_pole_in_fractions_and_jumps_it_in_floats():
    found = scalar.pole()
    exact = orbit(lambda x: 1 / (x - 1), Fraction(8, 5), 4)
    assert exact == [Fraction(8, 5), Fraction(5, 3), Fraction(3, 2), 2, 1]
    with pytest.raises(ZeroDivisionError):
        1 / (exact[-1] - 1)
    integers, floats = found["from_8/5_in_integers"], found["from_1.6"]
    assert [Fraction(p, q) for p, q in integers["pairs"][:5]] == exact
    assert integers["pole_after_steps"] == 4
    # Through infinity and on: every later pair is the map's value in fractions.
    assert integers["pairs"][5][1] == 0
    later = [Fraction(p, q) for p, q in integers["pairs"][6:]]
    assert later == orbit(lambda x: 1 / (x - 1), Fraction(0), len(later) - 1)
    np.testing.assert_allclose(floats["iterates"][:5], [float(x) for x in exact], rtol=1e-14)
    assert floats["iterates"][5] > 1e12
    # Beyond the pole floats and integers go the same way.
    np.testing.assert_allclose(floats["iterates"][7:30], [float(x) for x in later[1:24]], rtol=1e-13)
    other = (1 - math.sqrt(5)) / 2
    assert floats["value"] == pytest.approx(other, abs=1e-13)
    assert integers["ratio"] == pytest.approx(other, abs=1e-12)
    assert (found["from_2"]["status"], found["from_2"]["iterates"]) == (["diverged"], [2.0, 1.0])
    # Newton stays at the root that repels Picard.
    assert found["newton_from_1.6"]["value"] == pytest.approx(1 - other, abs=1e-13)
    assert found["newton_from_1.6"]["slope"] == pytest.approx(-((1 - other) ** 2), rel=1e-12)
    assert abs(floats["slope"]) < 1 < abs(found["newton_from_1.6"]["slope"])


def test_square_roots_by_currying_and_their_derivatives():
    found = scalar.square_roots()
    roots = np.sqrt(found["radicands"])
    np.testing.assert_allclose(found["values"], roots, rtol=1e-14)
    np.testing.assert_allclose(found["derivatives"], 1 / (2 * roots), rtol=1e-9)
    exact = orbit(lambda u: (u + 2 / u) / 2, Fraction(1), 4)
    np.testing.assert_allclose(found["iterates"][1][:5], [float(u) for u in exact], rtol=1e-15)
    # (u_{k+1} - s) / (u_{k+1} + s) = ((u_k - s) / (u_k + s))^2: the least k that is near enough, row by row.
    for root_, steps in zip(roots, found["steps"], strict=True):
        contraction = abs((1 - root_) / (1 + root_))
        assert contraction ** (2 ** (steps + 1)) < 1e-15 < contraction ** (2 ** (steps - 2))


def test_the_layer_of_negative_weight_alternates_and_others_come_to_rest():
    picard, *others = scalar.oscillation()
    assert picard["status"] == ["max_steps"]
    low, high = sorted(picard["iterates"][-2:])
    two_cycle = root(lambda z: np.tanh(-2 * z[::-1] + 0.5) - z, [low, high]).x
    np.testing.assert_allclose([low, high], two_cycle, atol=1e-9)
    assert high - low > 1
    expected = root(lambda z: np.tanh(-2 * z + 0.5) - z, 0.1, tol=1e-14).x[0]
    assert {row["method"] for row in others} == {"Picard(damping=0.5)", "Newton()", "Anderson()"}
    for row in others:
        assert row["status"] == ["converged"]
        assert row["value"] == pytest.approx(expected, abs=1e-12)
        assert row["slope"] == pytest.approx(-2 * (1 - expected**2), rel=1e-9)
        assert row["slope"] < -1


def bend(z):
    """The map of the disc in NumPy, from its definition."""
    c, s = math.cos(brouwer.ANGLE), math.sin(brouwer.ANGLE)
    u = brouwer.SHRINK * np.array([[c, -s], [s, c]]) @ z
    return u + brouwer.BEND * (1 - u @ u) * np.array([1.0, 0.0])


def test_the_bent_disc_is_mapped_to_itself_and_its_fixed_point_repels():
    angle, radius = np.random.default_rng(0).random((2, 2000))
    z = np.sqrt(radius) * np.exp(2j * np.pi * angle)
    z[:500] /= abs(z[:500])
    points = np.stack([z.real, z.imag], 1)
    image = brouwer.bent(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(image[:20], [bend(p) for p in points[:20]], atol=1e-14)
    assert np.linalg.norm(image, axis=1).max() <= 1
    found = brouwer.disc()
    rest = root(bend_minus := lambda z: bend(z) - z, [0.2, 0.3], tol=1e-14).x
    np.testing.assert_allclose(found["fixed_point"], rest, atol=1e-12)
    steps = 1e-6 * np.eye(2)
    J = np.stack([(bend(rest + h) - bend(rest - h)) / 2e-6 for h in steps], 1)
    assert found["spectral_radius"] == pytest.approx(abs(np.linalg.eigvals(J)).max(), rel=1e-8)
    assert found["spectral_radius"] > 1
    picard, *others = found["solved"]
    assert picard["status"] == ["max_steps"]
    assert picard["distances_kept"][0] > 0.3
    for row in others:
        assert row["status"] == ["converged"]
        assert np.linalg.norm(bend_minus(np.array(row["value"]))) < 1e-12


def test_a_rotation_is_circled_for_ever_and_yet_its_centre_is_found():
    found = brouwer.circling()
    distance = math.dist(brouwer.START[0], brouwer.CENTRE)
    assert found["spectral_radius"] == pytest.approx(1)
    picard, damped, newton, anderson = found["solved"]
    assert picard["status"] == ["max_steps"]
    np.testing.assert_allclose(picard["distances_kept"], distance, rtol=1e-12)
    # |1 + e^i| / 2 = cos(1/2) a step, of a residual that is 2 sin(1/2) times the distance.
    wanted = math.log(brouwer.ATOL / (2 * math.sin(0.5) * distance)) / math.log(math.cos(0.5))
    assert damped["steps"] == math.ceil(wanted)
    assert newton["steps"] == 1
    # Two differences span the plane: then one step solves an affine map, to the mixture's ridge.
    assert anderson["steps"] <= 4
    for row in (damped, newton, anderson):
        np.testing.assert_allclose(row["value"], brouwer.CENTRE, atol=1e-12)


@pytest.mark.parametrize("which", [0, 1])
def test_banachs_bound_holds_over_the_run_and_predicts_enough_steps(which, monkeypatch):
    monkeypatch.setattr(banach, "DIM", 12)
    case = banach.contractions(3)[which]
    found = banach.measure(case)
    if which == 0:
        exact = orbit(lambda x: 1 + 1 / x, Fraction(2), len(found["errors"]) - 1)
        rest = (1 + math.sqrt(5)) / 2
        errors = [abs(float(x) - rest) for x in exact]
        # The largest ratio of steps is the second: (5/3 - 8/5) / (5/3 - 3/2).
        assert found["q_seen"] == pytest.approx(float(Fraction(1, 15) / Fraction(1, 6)))
        assert found["q_last"] == pytest.approx(rest**-2, rel=1e-2)
    else:
        W, x = banach.layer(12, 1, banach.NORM, banach.INPUT, 3)
        W, x = W.numpy(), x.numpy()[0]
        assert np.linalg.svd(W)[1][0] == pytest.approx(case.q)
        rest = root(lambda z: np.tanh(W @ z + x) - z, np.zeros(12), tol=1e-14).x
        errors = [np.linalg.norm(z - rest) for z in orbit(lambda z: np.tanh(W @ z + x), np.zeros(12), 200)]
        J = (1 - rest**2)[:, None] * W
        assert found["q_last"] == pytest.approx(abs(np.linalg.eigvals(J)).max(), rel=1e-2)
    np.testing.assert_allclose(found["errors"], errors[: len(found["errors"])], atol=1e-13)
    assert found["q_last"] <= found["q_seen"] <= found["q_proved"] < 1
    for k, error in enumerate(errors[: len(found["errors"])]):
        for q in (found["q_proved"], found["q_seen"]):
            assert error <= q**k / (1 - q) * found["first_step"] + 1e-14
    for row in found["tolerances"]:
        q, tol = found["q_proved"], row["tolerance"]
        enough = next(k for k in range(1000) if found["first_step"] * q**k / (1 - q) <= tol)
        assert row["predicted_by_proved_q"] == enough
        assert row["taken"] <= row["taken_to_guarantee"] <= row["predicted_by_proved_q"]
        assert row["taken"] <= row["predicted_by_seen_q"] <= row["predicted_by_proved_q"]
        assert errors[row["taken"]] <= tol < errors[row["taken"] - 1]
        assert errors[row["taken_to_guarantee"]] <= tol


def test_descent_stays_below_its_bound_on_a_quadratic_and_anderson_is_far_faster(monkeypatch):
    monkeypatch.setattr(descent, "CONDITION", 30.0)
    found = descent.measure(descent.quadratic())
    np.testing.assert_allclose(found["minimiser"], 1.0, atol=1e-11)
    # In closed form: w_k - 1 = -(1 - s)^k with curvature s.
    curvatures = np.geomspace(1, 1 / 30, descent.QUADRATIC_DIM)
    gaps = [(curvatures / 2 * (1 - curvatures) ** (2 * k)).sum() for k in found["k"]]
    np.testing.assert_allclose(found["gaps"], gaps, rtol=1e-6, atol=1e-15)
    bounds = descent.QUADRATIC_DIM / (2 * np.array(found["k"]))
    np.testing.assert_allclose(found["bounds"], bounds, rtol=1e-9)
    check_descent(found)


def test_descent_stays_below_its_bound_on_logistic_regression(monkeypatch):
    monkeypatch.setattr(descent, "FEATURES", 5)
    X, labels = (made.numpy() for made in descent.samples(1))

    def loss(w):
        return np.logaddexp(0, X @ w).mean() - (labels * (X @ w)).mean()

    def gradient(w):
        return X.T @ (expit(X @ w) - labels) / len(X)

    best = minimize(loss, np.zeros(5), jac=gradient, method="BFGS", options={"gtol": 1e-9}).x
    found = descent.measure(descent.logistic(1))
    np.testing.assert_allclose(found["minimiser"], best, atol=1e-6)
    assert found["minimum"] == pytest.approx(loss(best), abs=1e-13)
    assert found["smoothness"] == pytest.approx(np.linalg.eigvalsh(X.T @ X)[-1] / (4 * len(X)))
    w, gaps = np.zeros(5), []
    for _ in range(found["k"][-1]):
        w = w - gradient(w) / found["smoothness"]
        gaps.append(loss(w) - loss(best))
        assert gaps[-1] <= best @ best * found["smoothness"] / (2 * len(gaps)) + 1e-15
    np.testing.assert_allclose(found["gaps"], [gaps[k - 1] for k in found["k"]], rtol=1e-6, atol=1e-14)
    check_descent(found)


def check_descent(found):
    """The bound over the run, and all methods at one minimum."""
    assert found["largest_gap_over_bound"] <= 1
    assert all(gap <= limit + 1e-15 for gap, limit in zip(found["gaps"], found["bounds"], strict=True))
    picard, anderson, *_ = found["solved"]
    assert picard["method"] == "Picard()"
    assert 3 * anderson["evaluations"] < picard["evaluations"]
    for row in found["solved"]:
        assert row["status"] == ["converged"]
        assert row["distance_to_minimiser"] < 1e-6


def test_the_race_is_of_one_problem_and_counts_what_each_method_must_take(monkeypatch):
    monkeypatch.setattr(race, "DIM", 10)
    monkeypatch.setattr(race, "ROWS", 3)
    monkeypatch.setattr(race, "REPEATS", 2)
    monkeypatch.setattr(race, "ATOL", 1e-9)
    done = []
    for title, (W, x) in race.layers(2).items():
        norm = float(title.rpartition("= ")[2])
        assert np.linalg.svd(W.numpy())[1][0] == pytest.approx(norm)
        found = race.race(title, W, x, lambda: done.append(1))
        W, x = W.numpy(), x.numpy()
        rest = root(lambda z, W=W, x=x: np.tanh(W @ z + x[0]) - z, np.zeros(10), tol=1e-14).x
        for row in found["solved"]:
            assert row["status"] == ["converged"]
            assert row["residuals"][-1] == row["residual"] <= found["atol"]
            steps = len(row["residuals"]) - 1
            assert row["work"][-1] == row["evaluations"] + row["products"]
            assert all(before < after for before, after in pairwise(row["clock"]))
            assert row["clock"][-1] <= row["seconds"]
            if row["method"] == "Newton()":
                assert row["products"] == 10 * steps
        # A row stops where it has met the tolerance, whatever the others do.
        z, steps = np.zeros((3, 10)), 0
        while (left := np.linalg.norm(np.tanh(z @ W.T + x) - z, axis=1)).max() > race.ATOL:
            z, steps = np.where((left > race.ATOL)[:, None], np.tanh(z @ W.T + x), z), steps + 1
        picard, newton = found["solved"][0], found["solved"][-1]
        np.testing.assert_allclose(z[0], rest, atol=1e-7)
        assert (picard["method"], picard["steps"]) == ("Picard()", steps)
        assert picard["residual"] == pytest.approx(left.max(), rel=1e-3)
        radii = [abs(np.linalg.eigvals((1 - row[:, None] ** 2) * W)).max() for row in z]
        assert found["spectral_radius"] == pytest.approx(max(radii), rel=1e-6)
        assert newton["steps"] < picard["steps"]
    assert len(done) == 3 * len(race.METHODS) * 3


def test_methods_are_named_by_what_is_not_default():
    assert [name(method) for method in race.METHODS][:2] == ["Picard()", "Anderson()"]
    kept = thinned(1000)
    assert (kept[0], kept[-1]) == (0, 999)
    assert len(kept) == len(set(kept)) <= 60
    assert [thinned(count) for count in (1, 5, 60)] == [list(range(count)) for count in (1, 5, 60)]


def test_numbers_figures_and_tables(tmp_path, monkeypatch):
    for module, settings in (
        (race, {"DIM": 8, "ROWS": 2, "REPEATS": 1, "ATOL": 1e-4}),
        (banach, {"DIM": 8}),
        (descent, {"CONDITION": 10.0, "FEATURES": 3, "ATOL": 1e-4}),
    ):
        for key, value in settings.items():
            monkeypatch.setattr(module, key, value)
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    arguments = ["--out", str(tmp_path / "out"), "--seed", "1", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "fixed_points.json").read_text())
    assert content == json.loads((tmp_path / "out" / "fixed_points.json").read_text())
    assert content["seed"] == 1
    assert "x_5 is 1.615384615, not 1.612538462" in ran.output
    assert f"{content['race'][2]['solved'][1]['seconds']:.4f}" in ran.output
    for picture in ("cobwebs.png", "iterations.png"):
        assert (tmp_path / "docs" / "images" / picture).read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / "out" / picture).exists()
