import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from experiments import estimators as experiment


def test_scores_are_those_of_scikit_learns_cross_validation():
    X, y = experiment.DATA["iris"][0](4)
    folds = StratifiedKFold(5, shuffle=True, random_state=4)
    expected = cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), X, y, cv=folds)
    row = experiment.measure("iris", experiment.LINEAR, 4)
    np.testing.assert_array_equal(row["scores"], expected)
    assert row["trained_numbers"] == [3 * 4 + 3] * 5


def test_trained_numbers_are_counted():
    X, y = experiment.DATA["Friedman 1"][0](0)
    ridge = experiment.model(experiment.LINEAR, False, 0).fit(X[:50], y[:50])
    assert experiment.trained_numbers(ridge) == 11
    perceptron = experiment.model(experiment.PERCEPTRON, False, 0)
    perceptron.regressor.set_params(mlpregressor__max_iter=1)
    with pytest.warns(Warning, match="converge"):
        perceptron.fit(X[:50], y[:50])
    assert experiment.trained_numbers(perceptron) == 10 * 100 + 100 + 100 + 1
    ours = experiment.model(experiment.OURS, False, 0).set_params(max_iter=1).fit(X[:50], y[:50])
    assert experiment.trained_numbers(ours) == 4 * 32 + 12 + 10 + 1


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(experiment, "DATA", {name: experiment.DATA[name] for name in ("iris", "Friedman 1")})
    monkeypatch.setattr(experiment, "QUICK", ("iris",))
    quick = {"scores": [0.5, 1.0], "seconds": [0.1, 0.2], "trained_numbers": [50, 50]}

    def measure(data, name, seed):
        return {"data": data, "model": name, "seed": seed, "samples": 100, "features": 3, **quick}

    monkeypatch.setattr(experiment, "measure", measure)


def test_numbers_figure_and_page(small, tmp_path, monkeypatch):
    docs = tmp_path / "docs"
    for folder in ("images", "results"):
        (docs / folder).mkdir(parents=True)
    arguments = ["--out", str(tmp_path / "out"), "--seeds", "2", "--publish", str(docs)]
    refused = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert refused.exit_code == 2
    assert "must hold" in refused.output
    assert not (tmp_path / "out").exists()
    (docs / "estimators.md").write_text("<!-- estimators -->\n<!-- end of estimators -->\n")
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((docs / "results" / "estimators.json").read_text())
    assert len(content["rows"]) == 2 * 2 * 3
    assert [row["score"] for row in content["summary"]] == ["accuracy"] * 3 + ["R2"] * 3
    first = content["summary"][0]
    assert (first["mean"], first["folds"]) == (0.75, 4)
    assert first["spread"] == pytest.approx(np.std([0.5, 1, 0.5, 1], ddof=1))
    page = (docs / "estimators.md").read_text()
    assert "| iris | 100 x 3 | controlled ODE | 75.0 ± 28.9 |" in page
    assert (docs / "images" / "estimators.png").read_bytes()[:4] == b"\x89PNG"

    def never(*cell):
        raise AssertionError(f"{cell} was measured before")

    monkeypatch.setattr(experiment, "measure", never)
    again = CliRunner().invoke(experiment.app, arguments)
    assert again.exit_code == 0, again.output
    both = CliRunner().invoke(experiment.app, [*arguments, "--quick"], env={"COLUMNS": "160"})
    assert both.exit_code == 2
