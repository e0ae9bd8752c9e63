from __future__ import annotations

from html.parser import HTMLParser
from urllib.request import urlopen

from syllablelm.core.webpage import data_url, html_page


class Tags(HTMLParser):
    """The tags of a page in order, and the text of each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.still_open: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        if tag != "meta":
            self.still_open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.still_open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.still_open:
            tag = self.still_open[-1]
            self.text[tag] = self.text.get(tag, "") + data


def test_a_page_is_whole_and_its_title_cannot_break_it() -> None:
    page = html_page("a </title><script> & b", "p { color: red }", "<p>x &amp; y</p>")
    tags = Tags(page)
    assert tags.opened == ["html", "head", "meta", "meta", "title", "style", "body", "p"]
    assert tags.still_open == []
    assert (tags.text["title"], tags.text["style"], tags.text["p"]) == (
        "a </title><script> & b",
        "p { color: red }",
        "x & y",
    )
    assert page.startswith("<!DOCTYPE html>")


def test_a_data_url_holds_the_file() -> None:
    data = bytes(range(256))
    with urlopen(data_url("image/png", data)) as opened:
        assert opened.read() == data
        assert opened.headers["Content-type"] == "image/png"
