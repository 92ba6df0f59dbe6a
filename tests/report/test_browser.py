"""The page in a browser, from disk: what is drawn is what Python computes, before and after it is played with."""

import re
import shutil

import numpy as np
import pytest
import torch

from cde_nets.report.explorer import POINTS, STEPS, plane_flow, trained_control

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium"),
    pytest.mark.skipif(DRIVER is None, reason="needs a driver: apt-get install chromium-driver"),
    # Sockets that the driver's client leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PATIENCE = 60


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    # The sandbox needs rights that a container may not give; the page is our own.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1200,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(PATIENCE)
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, written):
    """The page, opened anew, charts and all."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(written.as_uri())
    browser.execute_async_script("report.ready.then(arguments[0])")
    yield browser
    # A script that stumbled, and a load that the page's policy stopped, are said there.
    assert browser.get_log("browser") == []


def solved(points, off=(), last=None):
    """Paths by cde_nets, shape (points, times, 2), with some controls switched off."""
    values = trained_control()
    values[:, list(off)] = 0
    path = plane_flow(values).trajectory(torch.tensor(points, dtype=torch.float64))
    return path.permute(1, 0, 2).numpy()[:, : STEPS + 1 if last is None else last + 1]


def drawn(browser, name="path"):
    """The paths as they stand in the drawing, y turned up."""
    paths = [browser.find_element(By.ID, f"{name}-{n + 1}").get_attribute("d") for n in range(len(POINTS))]
    return np.array([[[float(x), -float(y)] for x, y in re.findall(r"[ML](\S+?) ([^ML]+)", d)] for d in paths])


def points(browser):
    return browser.execute_script("return report.plane.points()")


def agree(browser, off=()):
    """Every drawn point of every path is Python's."""
    expected = solved(points(browser), off)
    np.testing.assert_allclose(drawn(browser, "whole"), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(browser.execute_script("return report.plane.ends()"), expected[:, -1], rtol=0, atol=1e-9)


def set_slider(browser, name, value):
    """Put a slider somewhere as a hand would: the value, then the event."""
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
    browser.execute_script(script, browser.find_element(By.ID, name), value)


def centre(browser, node):
    """Of an element, in the window, and pixels a unit of the plane."""
    return browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center'}); const r = arguments[0].getBoundingClientRect();"
        "return [r.x + r.width / 2, r.y + r.height / 2, document.getElementById('plane').getScreenCTM().a]",
        node,
    )


def mouse(browser, kind, x, y):
    event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def test_it_opens_from_disk_and_asks_for_nothing(opened):
    asked = [
        entry["message"] for entry in opened.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    addresses = {re.search(r'"url":"([^"]+)"', message)[1] for message in asked}
    assert all(address.startswith(("file:", "data:", "blob:")) for address in addresses), addresses
    for name in ("loss", "error", "confusion", "controls", "logits"):
        assert opened.find_elements(By.CSS_SELECTOR, f"#chart-{name} .main-svg"), name


def test_paths_are_pythons(opened):
    assert points(opened) == [list(point) for point in POINTS]
    agree(opened)


def test_a_point_dragged_by_the_mouse(opened):
    start, before = opened.find_element(By.ID, "start-1"), drawn(opened)
    x, y, unit = centre(opened, start.find_element(By.CSS_SELECTOR, ".dot"))
    mouse(opened, "mousePressed", x, y)
    for n in range(1, 5):
        mouse(opened, "mouseMoved", x - 0.1 * n * unit, y - 0.15 * n * unit)
    mouse(opened, "mouseReleased", x - 0.4 * unit, y - 0.6 * unit)
    mouse(opened, "mouseMoved", x, y)
    np.testing.assert_allclose(points(opened)[0], [0.4, 0.6], atol=0.02)
    assert points(opened)[1:] == [list(point) for point in POINTS[1:]]
    assert abs(drawn(opened)[0] - before[0]).max() > 0.2
    agree(opened)
    assert "Point 1 starts at (0.4" in opened.find_element(By.ID, "plane-said").text


def test_a_point_dragged_out_stays_in_the_frame_and_in_the_rim_of_the_cutoff(opened):
    start = opened.find_element(By.ID, "start-2")
    x, y, unit = centre(opened, start.find_element(By.CSS_SELECTOR, ".dot"))
    mouse(opened, "mousePressed", x, y)
    mouse(opened, "mouseMoved", x + 1.55 * unit, y - 2 * unit)
    mouse(opened, "mouseReleased", x + 1.55 * unit, y - 2 * unit)
    assert points(opened)[1] == [1.5, 1.5]
    agree(opened)


def test_a_point_moved_by_keys(opened):
    start = opened.find_element(By.ID, "start-3")
    opened.execute_script("arguments[0].focus()", start)
    assert opened.switch_to.active_element == start
    for keys in (Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_LEFT, Keys.ARROW_LEFT):
        start.send_keys(keys)
    start.send_keys(Keys.SHIFT + Keys.ARROW_LEFT)
    np.testing.assert_allclose(points(opened)[2], [-0.86, 0.05], atol=1e-12)
    assert start.get_attribute("aria-valuetext") == "-0.86 across, 0.05 up"
    agree(opened)


def test_tab_goes_from_point_to_point_and_the_focus_is_seen(opened):
    first = opened.find_element(By.ID, "start-1")
    opened.execute_script("arguments[0].focus()", first)
    first.send_keys(Keys.TAB)
    active = opened.switch_to.active_element
    assert active.get_attribute("id") == "start-2"
    halo = active.find_element(By.CSS_SELECTOR, ".halo").value_of_css_property("stroke")
    assert halo == "rgb(0, 114, 178)"


def test_controls_switched_off_and_on(opened):
    before = drawn(opened)
    for name in ("control-2", "control-5"):
        box = opened.find_element(By.ID, name)
        centre(opened, box)
        box.click()
    assert abs(drawn(opened) - before).max() > 0.2
    agree(opened, off=(1, 4))
    opened.find_element(By.ID, "control-2").send_keys(Keys.SPACE)
    agree(opened, off=(4,))
    opened.find_element(By.ID, "plane-reset").click()
    agree(opened)


def test_no_control_no_motion(opened):
    for n in range(1, 6):
        opened.find_element(By.ID, f"control-{n}").send_keys(Keys.SPACE)
    np.testing.assert_array_equal(drawn(opened), np.repeat(np.array(POINTS)[:, None], STEPS + 1, 1))


def test_the_slider_moves_through_depth(opened):
    set_slider(opened, "plane-depth", 0.5)
    assert opened.find_element(By.ID, "plane-where").text == "0.50"
    expected = solved(POINTS, last=STEPS // 2)
    np.testing.assert_allclose(drawn(opened), expected, rtol=0, atol=1e-9)
    agree(opened)
    slider = opened.find_element(By.ID, "plane-depth")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert drawn(opened).shape[1] == STEPS // 2 + 2
    slider.send_keys(Keys.HOME)
    assert drawn(opened).shape[1] == 1


def test_play_ends_at_depth_one_and_is_not_offered_to_who_wants_less_motion(opened):
    play = opened.find_element(By.ID, "plane-play")
    centre(opened, play)
    play.click()
    WebDriverWait(opened, PATIENCE).until(lambda _: play.text == "Stop")
    WebDriverWait(opened, PATIENCE).until(lambda _: play.text == "Play")
    assert float(opened.find_element(By.ID, "plane-depth").get_attribute("value")) == 1
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    WebDriverWait(opened, PATIENCE).until(lambda _: not play.is_displayed())


def test_images_through_depth(opened):
    said, where = (opened.find_element(By.ID, name) for name in ("depth-said", "depth-where"))
    count = opened.execute_script("return report.data.depth.images.length")
    last = opened.find_element(By.ID, f"image-{count - 1}")
    first = opened.find_element(By.ID, "image-0")
    assert first.is_selected()
    assert where.text == "stage 3, t = 1"
    before, tile = said.text, "return document.querySelector('#depth-tiles canvas').toDataURL()"
    picture = opened.execute_script(tile)
    opened.execute_script("arguments[0].click()", last)
    assert said.text != before
    image = opened.execute_script("return report.depth.image()")
    assert f"Test image {image['number']}, a {image['label']}" in said.text
    set_slider(opened, "depth-step", 0)
    assert where.text == "lift"
    assert opened.execute_script(tile) != picture
    shown = [node.text for node in opened.find_elements(By.CSS_SELECTOR, "#depth-tiles span")]
    assert shown == [f"{'−' if value < 0 else '+'}{abs(value):.1f}" for value in image["logits"][0]]


def test_colours_follow_the_readers_scheme(opened):
    def scheme(name):
        feature = {"name": "prefers-color-scheme", "value": name}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        line = "return document.querySelector('#chart-loss .js-line').style.stroke"
        body = opened.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        wanted = {"light": "rgb(0, 114, 178)", "dark": "rgb(86, 180, 233)"}[name]
        WebDriverWait(opened, PATIENCE).until(lambda _: opened.execute_script(line) == wanted)
        return body

    assert scheme("dark") != scheme("light")


def test_nothing_in_the_plane_is_blended_in_a_layer(opened):
    """Layers round what is under them, tile by tile: in some windows the dark plane had darker patches."""
    faint = "[...document.querySelectorAll('#plane *, .controls path')].map((n) => getComputedStyle(n))"
    opened.execute_script("document.getElementById('control-1').click()")
    assert opened.execute_script(f"return {faint}.filter((s) => s.opacity !== '1').length") == 0
    assert opened.execute_script(f"return {faint}.filter((s) => s.strokeOpacity !== '1').length") == len(POINTS) + 2


def test_all_of_it_is_reached_by_the_tab_key(opened):
    """From the top of the page, in the order of the page, with a focus that is seen; and each is worked by keys."""
    reachable = "input[type=range], input[type=checkbox], button, summary, [tabindex='0']"
    wanted = opened.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter((n) => n.checkVisibility())"
        ".map((n) => n.id || n.tagName)",
        reachable,
    )
    assert {"plane-depth", "depth-step", "control-1", "plane-play", "plane-reset", "start-5", "SUMMARY"} <= set(wanted)
    opened.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(3 * len(wanted)):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        active = opened.switch_to.active_element
        if active.tag_name == "body":
            break
        reached.append(active.get_attribute("id") or active.tag_name.upper())
    # A group of radio buttons is one stop; by arrows one goes on within it.
    assert [name for name in reached if not name.startswith("image-")] == wanted
    assert [name for name in reached if name.startswith("image-")] == ["image-0"]
    opened.execute_script("document.getElementById('image-0').focus()")
    opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert opened.find_element(By.ID, "image-1").is_selected()
    summary = opened.find_element(By.TAG_NAME, "summary")
    summary.send_keys(Keys.ENTER)
    assert opened.find_element(By.CSS_SELECTOR, "details table").is_displayed()
    outline = "return getComputedStyle(arguments[0]).outlineStyle"
    assert opened.execute_script(outline, summary) == "solid"


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_no_width_scrolls_sideways(opened, width):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        fits = "return document.documentElement.scrollWidth <= innerWidth"
        WebDriverWait(opened, PATIENCE).until(lambda _: opened.execute_script(fits))
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
