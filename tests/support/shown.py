"""What notebooks show: read as a browser reads it, and names that try to be more than text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "&lt;b&gt; &amp; ]]> --> </td></table>",
    "\x1b[31mred\x07\x00\x9b",
    "a\nb\r\n<b>c",
    "caf\udce9",
    "<" * 200,
]


class Shown(HTMLParser):
    """What a browser makes of a piece of HTML: texts of cells, titles, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.titles: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.titles += [value or "" for name, value in attrs if name == "title"]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "tr" in self.open:
            self.rows[-1][-1] += data
        else:
            self.words.append(data)


def shown(value: Any) -> Shown:
    html = value._repr_html_()
    html.encode()  # a notebook is UTF-8
    page = Shown(html)
    assert page.tags <= {"div", "strong", "table", "tr", "td", "th", "span"}
    assert page.attributes <= {"style", "title"}
    styles = "".join(re.findall(r'style="([^"]*)"', html))
    assert not re.search(r"#[0-9a-f]{3}|\brgb|background|(?<![-a-z])color:", styles)
    return page
