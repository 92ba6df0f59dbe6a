"""Mathematics between dollars becomes MathML while the site is built: a page asks for no script and no font."""

import html
import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

# Dollars of money and of shells do not open: a formula starts and ends next to no space, and no digit follows it.
FORMULA = r"(?<![\\$])(\$\$?)(?![\s$])(.+?)(?<![\s\\])\1(?![\d$])"
DISPLAYED = r"(?<![\\$])(\$\$)\s*(.+?)\s*\$\$"


class Formula(InlineProcessor):
    """One pattern's formulas."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:  # noqa: N802
        """The formula as <math>, kept away from what comes after."""
        latex = html.unescape(m.group(2))
        display = "block" if m.group(1) == "$$" else "inline"
        return self.md.htmlStash.store(convert(latex, display=display)), m.start(0), m.end(0)


class Literal(InlineProcessor):
    """expressions[i][j] is itself, and no link to a place named j."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:  # noqa: N802
        """The two brackets as they stand."""
        return self.md.htmlStash.store(html.escape(m.group(0))), m.start(0), m.end(0)


class Mathematics(Extension):
    """$..$ and $$..$$ as MathML, and <w, V> as the characters it is made of: pages have no tags inside lines."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """After code (190), before backslashes (180), so that neither is taken apart."""
        md.inlinePatterns.register(Formula(DISPLAYED, md), "displayed formula", 186)
        md.inlinePatterns.register(Formula(FORMULA, md), "formula", 185)
        # Before references (170).
        md.inlinePatterns.register(Literal(r"\[[\w, ]+\]\[[\w, ]+\]", md), "indices", 175)
        md.inlinePatterns.deregister("html")


def on_config(config: Any) -> Any:
    """What mkdocs calls before it builds."""
    config.markdown_extensions.append(Mathematics())
    return config
