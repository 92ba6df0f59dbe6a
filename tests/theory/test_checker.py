"""A reader's own check: it needs nothing of the package, proves what holds, and refuses what does not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import theory
from theory import MonomialProgram, SphericalProgram, check_points, five_fields, monomial_exponents, universal
from theory.checker import check

CHECKER = Path(theory.__file__).parent / "checker.py"


def random(m, d, seed=0):
    exponents = monomial_exponents(m, 2)
    return MonomialProgram(exponents, np.random.default_rng(seed).standard_normal((d, m, len(exponents))))


def points(n, m):
    return np.random.default_rng(9).standard_normal((n, m))


PROVED = {
    "points": lambda: check_points(random(3, 4), points(6, 3), seed=1),
    "sphere": lambda: check_points(SphericalProgram(random(3, 4)), points(5, 3), seed=2),
    "one point": lambda: check_points(five_fields(2), [[1, 2]], seed=3),
    "five": lambda: universal(five_fields(3), seed=4),
    "quadratic": lambda: universal(random(2, 3), seed=5),
}


@pytest.mark.parametrize("name", PROVED)
def test_what_is_proved_is_proved_again(name):
    certificate = PROVED[name]()
    assert certificate.proved
    assert check(json.loads(certificate.to_json())).startswith("checked")


def test_it_runs_alone_in_an_empty_place(tmp_path):
    file = tmp_path / "certificate.json"
    file.write_text(PROVED["points"]().to_json())
    (tmp_path / "checker.py").write_text(CHECKER.read_text())
    done = subprocess.run(
        [sys.executable, "-I", "checker.py", file.name], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("checked: rank 18 of 18 at 6 points of R^3")
    assert "theory" not in CHECKER.read_text().split('"""')[2]


def altered(certificate, **changes):
    content = json.loads(certificate.to_json())
    content["data"] |= {k: v for k, v in changes.items() if k in content["data"]}
    content |= {k: v for k, v in changes.items() if k not in content["data"]}
    return content


def test_lies_are_found_out():
    honest = PROVED["points"]()
    commuting = MonomialProgram(np.eye(3, dtype=int), np.stack([np.eye(3), 2 * np.eye(3)]).astype(int))
    other = json.loads(check_points(commuting, points(6, 3), seed=1).to_json())
    with pytest.raises(ValueError, match="nothing to check"):
        check(other)
    # The word of the file is not taken for it.
    other["proved"] = True
    with pytest.raises(ValueError, match=r"the rank is \d+ of 18"):
        check(other)
    content = json.loads(honest.to_json())
    same = [content["data"]["points"][0]] * 6
    with pytest.raises(ValueError, match="two points are the same"):
        check(altered(honest, points=same))
    with pytest.raises(ValueError, match="no data"):
        check(content | {"data": None})
    content["runs"][-1]["prime"] = 1048575
    with pytest.raises(ValueError, match="no prime"):
        check(content)


def test_fields_made_for_the_prime_are_found_out():
    honest = json.loads(PROVED["five"]().to_json())
    p, base = honest["runs"][-1]["prime"], five_fields(3)
    # (1 - p x_1) V_i: the same residues, one degree more, and all brackets vanish at x_1 = 1/p.
    exponents = np.concatenate([base.exponents, base.exponents + np.array([1, 0, 0])])
    coefficients = base.coefficients.fractions()
    both = np.concatenate([coefficients, -p * coefficients], axis=2)
    exponents, places = np.unique(exponents, axis=0, return_inverse=True)
    merged = np.zeros((*both.shape[:2], len(exponents)), dtype=object)
    for k, place in enumerate(places.reshape(-1)):
        merged[:, :, place] += both[:, :, k]
    honest["data"]["exponents"] = exponents.tolist()
    honest["data"]["coefficients"] = [[[str(v) for v in row] for row in field] for field in merged]
    with pytest.raises(ValueError, match="brackets do not fill the fields of degree 2"):
        check(honest)


def test_filling_too_low_a_degree_is_not_enough():
    honest = json.loads(PROVED["five"]().to_json())
    with pytest.raises(ValueError, match="degree 1 is not enough"):
        check(honest | {"degree": 1})
