"""Tables within pages."""

import pytest

from experiments.pages import fill


def test_what_stands_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nafter <!-- b --><!-- end of b -->\n")
    fill(page, "a", "| new |\n")
    fill(page, "b", "more")
    wanted = "before\n<!-- a -->\n| new |\n<!-- end of a -->\nafter <!-- b -->\nmore\n<!-- end of b -->\n"
    assert page.read_text() == wanted
    fill(page, "a", "| new |")
    assert page.read_text() == wanted


@pytest.mark.parametrize(
    "text", ["", "<!-- a -->", "<!-- end of a --> <!-- a -->", "<!-- a --> <!-- end of a --> <!-- a -->"]
)
def test_a_page_without_its_marks_is_refused_and_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"page.md must hold <!-- a --> and then <!-- end of a -->"):
        fill(page, "a", "new")
    assert page.read_text() == text
