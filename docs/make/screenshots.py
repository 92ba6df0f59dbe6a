"""Pictures of the report page, light and dark side by side, and of the site: `make screenshots REPORT=RUN/report.html`.

Chromium and its driver draw them (apt-get install chromium chromium-driver), without a window.
"""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image
from selenium import webdriver

IMAGES = Path(__file__).parents[1] / "images"
SIZES = {"report.png": (900, 1720), "site.png": (900, 900)}  # of the window
# Page, scheme, and where the picture begins: at the top, or at an element.
PARTS: dict[str, tuple[tuple[str, str, str | None], ...]] = {
    "report.png": (("", "light", None), ("", "dark", "controls-title")),
    "site.png": (("index.html", "light", None), ("tutorials/certify_and_steer.html", "dark", None)),
}


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window.

    Raises:
        FileNotFoundError: it, or its driver, is not installed.
    """
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in found.items() if path is None]:
        raise FileNotFoundError(f"not installed: {', '.join(missing)}. Try: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(found["chromium"])
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(found["chromedriver"])))
    driver.set_script_timeout(120)
    driver.set_page_load_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


def shot(driver: Any, size: tuple[int, int], page: Path, scheme: str, start: str | None) -> Image.Image:
    """The window over a page from an element on, or from the top."""
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    driver.get(page.absolute().as_uri())
    # The site remembers the scheme of the picture before.
    driver.execute_script("localStorage.clear()")
    driver.refresh()
    driver.execute_async_script("(window.report ? report.ready : document.fonts.ready).then(arguments[0])")
    if start is not None:
        driver.execute_script("scrollTo(0, document.getElementById(arguments[0]).offsetTop - 40)", start)
    # Two frames: what was scrolled to is drawn in the first.
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Pictures in a row, in their own colours: a palette for both would tint what is nearly black."""
    whole = Image.new("RGB", (sum(picture.width for picture in pictures), max(picture.height for picture in pictures)))
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width
    return whole


def main(
    report: Annotated[Path | None, typer.Option(help="Page of cde-nets report.")] = None,
    site: Annotated[Path | None, typer.Option(help="Folder of the site, as make docs builds it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = IMAGES,
) -> None:
    """Draw report.png, site.png, or both."""
    given = {"report.png": report, "site.png": site}
    wanted = {
        name: [(place / page, scheme, start) for page, scheme, start in PARTS[name]]
        for name, place in given.items()
        if place is not None
    }
    if not wanted:
        raise typer.BadParameter("name a page by --report, a folder by --site, or both")
    for page in (page for parts in wanted.values() for page, _, _ in parts):
        if not page.is_file():
            raise typer.BadParameter(f"{page} is no file: cde-nets report makes the page, make docs the site")
    with browser() as driver:
        for name, parts in wanted.items():
            beside([shot(driver, SIZES[name], *part) for part in parts]).save(out / name, optimize=True)


if __name__ == "__main__":
    typer.run(main)
