"""Tables and documents: the same content as text, Markdown, HTML and JSON."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from urllib.request import urlopen

import numpy as np
import pytest

from syllablelm.core.document import (
    Bullets,
    Cell,
    Heading,
    Paragraph,
    Picture,
    Section,
    Table,
    data_url,
    format_table,
    to_html,
    to_markdown,
)
from syllablelm.core.errors import InputError

ROWS = [
    {"system": "even", "f1": 0.4164, "hits": 12},
    {"system": "envelope", "f1": np.float32(0.66449), "hits": np.int64(1234)},
    {"system": "none", "f1": None},
]


def test_text_is_aligned() -> None:
    assert format_table(ROWS).splitlines() == [
        "system       f1  hits",
        "--------  -----  ----",
        "even      0.416    12",
        "envelope  0.664  1234",
        "none          -     -",
    ]


def test_markdown_aligns_numbers_to_the_right() -> None:
    assert format_table(ROWS, {"system": "System", "f1": "F1@50"}, "markdown", digits=2).splitlines() == [
        "| System   | F1@50 |",
        "|----------|------:|",
        "| even     |  0.42 |",
        "| envelope |  0.66 |",
        "| none     |     - |",
    ]


def test_markdown_escapes_signs_and_joins_lines() -> None:
    def cell(text: str) -> str:
        return format_table([{"a": text}], style="markdown").splitlines()[-1]

    assert cell("x|y\nz") == "| x\\|y z |"
    assert cell("R_D* <b> [x](y)") == "| R_D\\* &lt;b&gt; [x\\](y) |"
    assert cell("_a_ [1, 2]") == "| \\_a\\_ [1, 2] |"


def test_json_keeps_numbers_in_full() -> None:
    rows = json.loads(format_table(ROWS, ["system", "hits", "f1"], "json"))
    assert rows[0] == {"system": "even", "hits": 12, "f1": 0.4164}
    assert rows[1]["hits"] == 1234
    assert rows[2] == {"system": "none", "hits": None, "f1": None}
    assert json.loads(format_table([{"x": math.nan}, {"x": math.inf}], style="json")) == [{"x": None}, {"x": None}]


def test_no_rows() -> None:
    assert format_table([], ["system"]).splitlines() == ["system", "------"]
    assert json.loads(format_table([], style="json")) == []


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="csv"):
        format_table(ROWS, style="csv")
    with pytest.raises(InputError, match="'f2'"):
        format_table(ROWS, ["system", "f2"])


class Tags(HTMLParser):
    """The tags of a page in order, which are closed in order, and the text of each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.still_open: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        if tag not in ("meta", "img", "source"):
            self.still_open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.still_open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.still_open:
            tag = self.still_open[-1]
            self.text[tag] = self.text.get(tag, "") + data


def test_both_forms_of_a_document() -> None:
    blocks = [
        Heading("Part <1>. The rest"), Paragraph("R_D* and R_N*"), Paragraph("Careful", warning=True),
        Bullets(("one", "two & three")), Table(("name", "x", "status"), (("a|b", "1.2", "ok"),)),
        Picture("f.svg", "A picture", b"<svg></svg>", "image/svg+xml"),
    ]  # fmt: skip
    markdown, page = to_markdown("Title", blocks), to_html("Title", blocks)
    assert markdown == (
        "# Title\n\n## Part &lt;1&gt;. The rest\n\nR_D\\* and R_N\\*\n\n> **Careful**\n\n- one\n- two &amp; three\n\n"
        "| name | x | status |\n|---|--:|---|\n| a\\|b | 1.2 | ok |\n\n![A picture](f.svg)\n\nA picture\n"
    )
    assert '<h2 id="part-1-">Part &lt;1&gt;. The rest</h2>' in page
    assert '<a href="#part-1-">Part &lt;1&gt;</a>' in page
    assert '<th scope="row">a|b</th><td>1.2</td><td class="prose">ok</td>' in page
    assert "two &amp; three" in page
    assert 'src="data:image/svg+xml;base64,' in page


def test_sections_stand_in_the_page_and_above_the_markdown() -> None:
    rows = (Section("Ours"), Section("by <rule>", "a"), (Cell("tiny", strong=True, small=("5 Hz",)), Cell("", True)))
    table = Table(("System", "F1"), rows)
    page, markdown = to_html("T", [table]), to_markdown("T", [table])
    assert page.count('<tr class="section"><td colspan="2">') == 2
    assert '<tr class="strong"><th scope="row"><strong>tiny</strong><small>5 Hz</small></th><td></td></tr>' in page
    assert markdown.splitlines()[2:] == [
        "- Ours",
        "- **a**: by &lt;rule&gt;",
        "",
        "| System | F1 | Measured |",
        "|---|--:|---|",
        "| **tiny** <small>5 Hz</small> |  | a |",
    ]


def test_a_page_is_whole_and_its_title_cannot_break_it() -> None:
    picture = Picture("f.png", "c", b"light", "image/png", title="t", dark=b"dark")
    page = to_html("a </title><script> & b", [Heading("One", 3), picture])
    tags = Tags(page)
    assert tags.still_open == [] and "script" not in tags.opened
    assert tags.text["title"] == "a </title><script> & b"
    assert page.startswith("<!DOCTYPE html>") and page.count("prefers-color-scheme: dark") == 2


def test_a_data_url_holds_the_file() -> None:
    data = bytes(range(256))
    with urlopen(data_url("image/png", data)) as opened:
        assert opened.read() == data
        assert opened.headers["Content-type"] == "image/png"
