"""Rows and facts as a table that a person reads: text, HTML, Markdown or LaTeX.

A column says by its kind how its values are shown; whatever is shown is one harmless line.
HTML names no colour: text inherits the page's, so that it reads on light and dark pages alike.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, NamedTuple, Protocol

from voices_peewee.rendering.plain import KINDS, cell, fit, printable, width

ROWS: Final = 20  # rows of a list that a notebook shows
_GAP: Final = "  "
_SAMPLE: Final = 1_000  # rows that decide the widths; the rest is written as it comes
_NARROWEST: Final = 6


class Shown(Protocol):
    """A column as the lists describe it: ``kind`` is what its values are."""

    @property
    def name(self) -> str:
        """What scripts call it."""

    @property
    def kind(self) -> str:
        """One of ``plain.KINDS``."""

    @property
    def title(self) -> str:
        """What people call it."""


class Column(NamedTuple):
    """A column of a table.

    Args:
        name: What scripts call it.
        kind: One of ``plain.KINDS``; values of the kind ``key`` are never cut.
        title: What people call it; the name where it is empty.
        priority: When the column goes where there is no room: 1 goes first; 0 stays.
        nullable: Whether a value may be missing, for a DataFrame's dtype.
        read: What turns a stored value, never None, into Python's; None where they are the same.
    """

    name: str
    kind: str = "text"
    title: str = ""
    priority: int = 0
    nullable: bool = True
    read: Callable[[Any], Any] | None = None


class Strong(str):
    """A value that is shown bold where a table can: the best of a column, say."""

    __slots__ = ()


Facts = Mapping[str, object] | Iterable[tuple[Shown, object]]


def heading(column: Shown) -> str:
    """Return what stands above a column: its title and its unit."""
    title = column.title or column.name.replace("_", " ")
    unit = _kind(column).unit
    return printable(f"{title} {unit}" if unit else title)


def _kind(column: Shown) -> Any:
    return KINDS.get(column.kind, KINDS["text"])


def _cells(columns: Sequence[Shown], row: Sequence[object]) -> list[str]:
    return [cell(column.kind, value) for column, value in zip(columns, row, strict=True)]


def text_table(
    columns: Sequence[Shown], rows: Iterable[Sequence[object]], width: int | None = 80
) -> list[str]:
    """Return the lines of a table, the heading first.

    Where there is no room, columns with a priority go, then texts lose an end, and at last the
    key stands in a line of its own: it is never cut.

    Args:
        columns: What the values of a row are.
        rows: The rows.
        width: The places of a line; None for as many as it takes.
    """
    texts = [_cells(columns, row) for row in rows]
    layout = _layout(columns, texts, width)
    return [*layout.lines(layout.headings), *chain.from_iterable(map(layout.lines, texts))]


def table_lines(columns: Sequence[Shown], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table as rows come; nothing when there are no rows.

    On a terminal it has its width, as ``text_table`` says; elsewhere nothing is left out.
    """
    texts = (_cells(columns, row) for row in rows)
    sample = list(islice(texts, _SAMPLE))
    if not sample:
        return
    layout = _layout(columns, sample, _terminal_width())
    for line in layout.lines(layout.headings):
        yield _bold(line) + "\n"
    for row in chain(sample, texts):
        for line in layout.lines(row):
            yield line + "\n"


def fact_lines(facts: Facts) -> Iterator[str]:
    """Yield a line for each fact that is known: its name with its unit, and its value."""
    known = [(heading(column), column, value) for column, value in _known(facts)]
    room = max((width(name) for name, _, _ in known), default=0)
    for name, column, value in known:
        yield f"{_bold(_padded(name, room))}{_GAP}{cell(column.kind, value)}\n"


def _known(facts: Facts) -> list[tuple[Shown, object]]:
    if isinstance(facts, Mapping):
        facts = [(Column(name, title=name), value) for name, value in facts.items()]
    return [(column, value) for column, value in facts if value is not None]


def _terminal_width() -> int | None:
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _bold(text: str) -> str:
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stdout.isatty() else f"\x1b[1m{text}\x1b[0m"


@dataclass
class _Place:
    """A column's place in the lines: ``index`` is that in a row."""

    index: int
    kind: str
    priority: int
    width: int

    def fitted(self, text: str) -> str:
        if self.kind != "key" and width(text) > self.width and KINDS[self.kind].yields:
            text = fit(text, self.width, "end" if self.kind == "path" else "start")
        return _padded(text, self.width, right=KINDS[self.kind].right)


def _padded(text: str, room: int, *, right: bool = False) -> str:
    missing = " " * (room - width(text))
    return missing + text if right else text + missing


@dataclass
class _Layout:
    headings: list[str]
    places: list[_Place]
    room: int | None
    stacked: bool = False

    def lines(self, cells: Sequence[str]) -> list[str]:
        key, *rest = (place.fitted(cells[place.index]) for place in self.places)
        if self.stacked and rest:
            return [key.rstrip(), (_GAP + _GAP.join(rest)).rstrip()]
        return [_GAP.join([key, *rest]).rstrip()]

    @property
    def excess(self) -> int:
        places = self.places[1:] if self.stacked else self.places
        taken = sum(place.width + len(_GAP) for place in places)
        return 0 if self.room is None else taken - self.room - len(_GAP) * (not self.stacked)

    def shrink(self) -> None:
        self._drop()
        whole = [place.width for place in self.places]
        self._narrow()
        if self.excess > 0 and any(place.kind == "key" for place in self.places):
            for place, wide in zip(self.places, whole, strict=True):
                place.width = wide
            self.places.sort(key=lambda place: place.kind != "key")
            self.stacked = True
            self._narrow()

    def _drop(self) -> None:
        optional = sorted(
            (place for place in self.places if place.priority), key=lambda place: place.priority
        )
        while self.excess > 0 and optional:
            self.places.remove(optional.pop(0))

    def _narrow(self) -> None:
        """Take what is too much from the widest texts; numbers and times stay whole."""
        soft = [place for place in self.places if KINDS[place.kind].yields]
        while self.excess > 0 and soft:
            widest = max(soft, key=lambda place: place.width * KINDS[place.kind].yields)
            if widest.width <= _NARROWEST:
                soft.remove(widest)
            else:
                widest.width -= 1


def _layout(columns: Sequence[Shown], texts: Sequence[Sequence[str]], room: int | None) -> _Layout:
    headings = [heading(column) for column in columns]
    places = [
        _Place(
            index,
            column.kind if column.kind in KINDS else "text",
            getattr(column, "priority", 0),
            max(width(row[index]) for row in (headings, *texts)),
        )
        for index, column in enumerate(columns)
    ]
    layout = _Layout(headings, places, room)
    layout.shrink()
    return layout


def markdown_table(columns: Sequence[Shown], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as GitHub's Markdown has it, which ends with a newline."""
    lines = [
        [_markdown(heading(column)) for column in columns],
        ["---:" if _kind(column).right else "---" for column in columns],
        *(_marked(columns, row, _markdown, "**{}**") for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _marked(
    columns: Sequence[Shown], row: Sequence[object], escape: Callable[[str], str], mark: str
) -> list[str]:
    """Return the cells of a row, with a mark about what is strong."""
    texts = map(escape, _cells(columns, row))
    return [
        mark.format(text) if isinstance(value, Strong) else text
        for text, value in zip(texts, row, strict=True)
    ]


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|~&#])", r"\\\1", text)


_LATEX: Final = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{char: f"{{{char}}}" for char in "[]*\"`'-"},  # options of \\, and ligatures
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "…": "\\dots{}",
    "±": "$\\pm$",
    "×": "$\\times$",
}


def latex_table(
    columns: Sequence[Shown], rows: Iterable[Sequence[object]], caption: str = ""
) -> str:
    r"""Return a table for LaTeX, whose preamble needs ``\usepackage{booktabs}``.

    Args:
        columns: What the values of a row are.
        rows: The rows.
        caption: What stands above it in a ``table`` that floats; without one, only the
            ``tabular`` is returned.
    """
    sides = "".join("r" if _kind(column).right else "l" for column in columns)
    lines = [
        f"\\begin{{tabular}}{{{sides}}}",
        "\\toprule",
        _latex_row([_latex(heading(column)) for column in columns]),
        "\\midrule",
        *(_latex_row(_marked(columns, row, _latex, "\\textbf{{{}}}")) for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    if caption:
        above = ["\\begin{table}", "\\centering", f"\\caption{{{_latex(printable(caption))}}}"]
        lines = [*above, *lines, "\\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _latex(text: str) -> str:
    # A minus is one where a number begins.
    text = re.sub(r"^-(?=[0-9.])", "\N{MINUS SIGN}", text)
    shown = "".join(_LATEX.get(char, char) for char in text)
    return shown.replace("\N{MINUS SIGN}", "$-$")


_ROOM: Final = 60  # places of a cell of HTML
_WHOLE: Final = 5_000  # characters of what a pointer that rests on a cell shows
_LINE: Final = "border-bottom:1px solid color-mix(in srgb, currentColor 25%, transparent)"
_BOX: Final = "border-collapse:collapse;font-size:0.9em;margin:0.3em 0"
_FAINT: Final = "opacity:0.7;font-size:0.9em"
_CELL: Final = "padding:0.15em 0.7em;white-space:nowrap"  # else Jupyter's own are tall and wrap


def html_table(
    columns: Sequence[Shown],
    rows: Iterable[Sequence[object]],
    title: str = "",
    note: str = "",
) -> str:
    """Return a table as HTML, with a title above and a note below it; all of it is escaped."""
    sides = ["right" if _kind(column).right else "left" for column in columns]
    body = [_html_row("th", [_html(heading(column)) for column in columns], sides)]
    for row in rows:
        cells = [
            _html(cell(column.kind, value), value)
            for column, value in zip(columns, row, strict=True)
        ]
        body.append(_html_row("td", cells, sides))
    return _html_block(title, body, note)


def html_facts(values: Facts, title: str = "", note: str = "") -> str:
    """Return names and values as HTML, a row each; what is None is left out."""
    rows = [
        _html_row(
            "td",
            [
                f'<span style="opacity:0.7">{_html(heading(column))}</span>',
                _html(cell(column.kind, value), value),
            ],
            ["left", "left"],
        )
        for column, value in _known(values)
    ]
    return _html_block(title, rows, note)


def html_lines(*lines: str) -> str:
    """Return lines of text as HTML."""
    return "".join(f"<div>{_escaped(printable(line))}</div>" for line in lines)


def cut_note(count: int, total: int | None, what: str = "row") -> str:
    """Return how many are shown and of how many; None stands for an unknown number."""
    if total is None:
        return f"the first {count:,} {what}s; there are more"
    if count < total:
        return f"{count:,} of {total:,} {what}s shown"
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _escaped(text: str) -> str:
    import html  # late: its entities take longer to load than a list to show

    return html.escape(text)


def _html(text: str, value: object = None) -> str:
    """Return a cell: the first line of a long text, the whole of it where a pointer rests."""
    lines = value.strip().splitlines() if isinstance(value, str) else []
    short = fit(lines[0] if lines else text, _ROOM)
    if len(lines) <= 1 and short == text:
        return _escaped(short)
    short += " …" if len(lines) > 1 else ""
    whole = value if isinstance(value, str) else text
    pointed = [printable(line) for line in whole[:_WHOLE].splitlines()]
    more = ["…"] if len(whole) > _WHOLE else []
    return f'<span title="{_escaped(chr(10).join([*pointed, *more]))}">{_escaped(short)}</span>'


def _html_row(tag: str, cells: Sequence[str], sides: Sequence[str]) -> str:
    made = (
        f'<{tag} style="text-align:{side};{_CELL}">{text}</{tag}>'
        for text, side in zip(cells, sides, strict=True)
    )
    return f'<tr style="{_LINE}">{"".join(made)}</tr>'


def _html_block(title: str, rows: Sequence[str], note: str) -> str:
    above = f"<div><strong>{_escaped(fit(title, 100))}</strong></div>" if title else ""
    below = f'<div style="{_FAINT}">{_escaped(printable(note))}</div>' if note else ""
    return f'<div>{above}<table style="{_BOX}">{"".join(rows)}</table>{below}</div>'
