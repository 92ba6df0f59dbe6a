"""What the page holds, without a browser."""

import base64
import gzip
import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from plotly import graph_objects
from plotly.offline import get_plotlyjs

from cde_nets.plot.style import COLOURS
from cde_nets.report import build_page, read_run
from cde_nets.report.depth import answers, chosen
from cde_nets.report.explorer import TARGETS, plane, plane_flow, trained_control
from cde_nets.report.page import _json
from cde_nets.train import evaluate
from cde_nets.train.batches import as_intensity


class Elements(HTMLParser):
    """Every element with its attributes, and the text of those with an id."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._id, self._open = [], {}, None, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id")
        if tag not in ("meta", "link", "input", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self._id = None

    def handle_data(self, data):
        if self._id:
            self.text[self._id] = self.text.get(self._id, "") + data


@pytest.fixture
def parsed(text):
    return Elements(text)


@pytest.fixture
def data(parsed):
    return json.loads(parsed.text["data"])


def test_every_element_is_closed_and_no_id_twice(parsed):
    assert parsed._open == []
    ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in parsed.elements:
        for name in ("aria-labelledby", "for"):
            assert attrs.get(name) is None or attrs[name] in ids


def test_nothing_is_loaded_from_elsewhere(parsed, text):
    for tag, attrs in parsed.elements:
        assert tag not in ("iframe", "object", "embed", "base", "img")
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            assert attrs.get(name, "data:").startswith("data:"), (tag, attrs)
    css = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in css
    assert "url(" not in css
    policy = next(attrs["content"] for _, attrs in parsed.elements if "http-equiv" in attrs)
    # Whatever a script tried, the browser would refuse.
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy


def test_the_library_is_whole_and_the_page_small(parsed, text):
    packed = base64.b64decode(parsed.text["plotly-packed"])
    assert gzip.decompress(packed).decode() == get_plotlyjs()
    assert len(text.encode()) < 6_000_000


def test_a_runs_name_is_text(text, trained):
    assert html.escape(trained.name) in text
    assert trained.name not in text
    assert "<b>&amp;" not in text


def test_data_cannot_end_their_element():
    told = {"name": "</script><!-- <script>"}
    assert "<" not in _json(told)
    assert json.loads(_json(told)) == told
    with pytest.raises(ValueError, match="JSON"):
        _json({"loss": float("nan")})


def test_the_page_is_the_same_again(trained, waves):
    assert build_page(read_run(trained), waves.test) == build_page(read_run(trained), waves.test)


def test_charts_are_plotlys(data, trained):
    done = read_run(trained)
    for chart in data["charts"].values():
        # Colours by name are the page's own; all else plotly has to know.
        known = json.loads(re.sub(r'"@\w+"', '"#000000"', json.dumps(chart)))
        graph_objects.Figure(**known)
    loss = data["charts"]["loss"]["data"][0]
    assert loss["x"] == [1, 2, 3]
    np.testing.assert_allclose(loss["y"], [row["loss"] for row in done.metrics], rtol=1e-5)
    validation = data["charts"]["error"]["data"][1]["y"]
    np.testing.assert_allclose(validation, [100 * (1 - row["validation_accuracy"]) for row in done.metrics], rtol=1e-4)
    controls = np.array(data["charts"]["controls"]["data"][0]["z"])
    learned = torch.cat([flow.control.values for flow in done.network.flows()]).detach().numpy()
    np.testing.assert_allclose(controls, learned, rtol=1e-3)


def test_confusion_counts_every_image(data, trained):
    matrix = read_run(trained).result["confusion"]
    chart = data["charts"]["confusion"]
    counts = {(int(note["y"]), int(note["x"])): int(note["text"]) for note in chart["layout"]["annotations"]}
    assert counts == {(r, c): count for (r, c), count in np.ndenumerate(np.array(matrix)) if count}
    assert sum(counts.values()) == 60


def test_the_accent_is_the_packages(text):
    accents = re.findall(r"--accent: (#\w+);", text)
    assert accents == [COLOURS[0].lower(), COLOURS[4].lower()]


def test_figures_and_certificate_are_said(text, trained):
    result = read_run(trained).result
    assert f"<dd>{result['test_accuracy']:.2%}</dd>" in text
    assert f"<dd>{result['frozen_parameters']:,}</dd>" in text
    assert "<dd>81</dd>" in text
    assert re.search(r"<p>Proved: rank \d+ of \d+ modulo \d+ on the spheres", text)


def test_states_end_in_the_networks_logits(data, trained, waves):
    network, depth = read_run(trained).network, data["depth"]
    numbers = [image["number"] for image in depth["images"]]
    images = torch.from_numpy(waves.test.images[numbers])
    logits = network(as_intensity(images)).detach().numpy()
    for image, pixels, row in zip(depth["images"], images, logits, strict=True):
        np.testing.assert_allclose(image["logits"][-1], row, rtol=1e-3, atol=1e-3)
        assert image["answer"] == row.argmax()
        assert base64.b64decode(image["pixels"]) == pixels.numpy().tobytes()
        for (height, width), state in zip(depth["sizes"], image["states"], strict=True):
            assert len(base64.b64decode(state)) == depth["classes"] * height * width
    assert depth["titles"] == ["lift", "stage 1, t = 0.5", "stage 1, t = 1", "stage 2, t = 1", "stage 3, t = 1"]


def test_which_images_are_shown(trained, waves):
    network, labels = read_run(trained).network, torch.from_numpy(waves.test.labels).long()
    images = torch.from_numpy(waves.test.images)
    found = answers(network, images)
    right = found.answer == labels
    assert right.double().mean() == evaluate(network, images, labels).accuracy
    shown = torch.tensor(chosen(found, labels))
    kinds = right[shown].tolist()
    assert kinds == sorted(kinds, reverse=True)
    assert len(set(labels[shown][right[shown]].tolist())) == sum(kinds)
    wrong = shown[~right[shown]]
    margins = found.logits[wrong].max(1).values - found.logits[wrong, labels[wrong]]
    assert (margins.diff() <= 0).all()


def test_a_row_that_failed_has_no_answer(trained, waves):
    network = read_run(trained).network
    images = torch.from_numpy(waves.test.images[:4])
    with torch.no_grad():
        network.flows()[0].control.values[0, 0] = torch.nan
    found = answers(network, images)
    assert found.answer.tolist() == [-1] * 4
    assert chosen(found, torch.zeros(4, dtype=torch.long)) == []


def test_the_planes_control_reaches_its_rings():
    x = torch.tensor(plane()["points"], dtype=torch.float64)
    ends = plane_flow(trained_control())(x)
    torch.testing.assert_close(ends, torch.tensor(TARGETS, dtype=torch.float64), rtol=0, atol=1e-6)
