"""Files of the repository that pages link to, a test or the checker, come along: the site has them under source/."""

import re
from pathlib import Path
from posixpath import join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, InclusionLevel

LINK = re.compile(r"\]\(((?:\.\./)+[^)\s#]+)")


def _outside(page: str, target: str) -> str | None:
    """The target from the root of the repository, where it is not among the pages.

    Args:
        page: its path under docs.
        target: as the page gives it.
    """
    path = normpath(join("docs", page, "..", target))
    return None if path.startswith("docs/") else path


def on_files(files: Any, config: Any) -> Any:
    """What mkdocs calls with the files it found."""
    root = Path(config.config_file_path).parent
    for page in list(files.documentation_pages()):
        for target in LINK.findall(page.content_string):
            path = _outside(page.src_uri, target)
            if path is not None and files.get_file_from_path(f"source/{path}") is None:
                apart = InclusionLevel.NOT_IN_NAV
                files.append(File.generated(config, f"source/{path}", abs_src_path=str(root / path), inclusion=apart))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """What mkdocs calls with a page's text."""

    def moved(link: re.Match[str]) -> str:
        path = _outside(page.file.src_uri, link[1])
        return link[0] if path is None else f"]({relpath(f'source/{path}', join(page.file.src_uri, '..'))}"

    return LINK.sub(moved, markdown)
