"""Rows and facts as Markdown, LaTeX or HTML; as text, they stand in ``plain``.

HTML names no colour: text inherits the page's, so that it reads on light and dark pages alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from voices_peewee.rendering.plain import Column as Column
from voices_peewee.rendering.plain import Facts, cell, fit, kind_of, printable, row_cells
from voices_peewee.rendering.plain import heading as heading
from voices_peewee.rendering.plain import text_table as text_table

ROWS: Final = 20  # rows of a list that a notebook shows


class Strong(str):
    """A value that is shown bold where a table can: the best of a column, say."""

    __slots__ = ()


def markdown_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as GitHub's Markdown has it, which ends with a newline."""
    lines = [
        [_markdown(heading(column)) for column in columns],
        ["---:" if kind_of(column).right else "---" for column in columns],
        *(_marked(columns, row, _markdown, "**{}**") for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _marked(
    columns: Sequence[Column], row: Sequence[object], escape: Callable[[str], str], mark: str
) -> list[str]:
    """Return the cells of a row, with a mark about what is strong."""
    texts = map(escape, row_cells(columns, row))
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


def latex_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], caption: str) -> str:
    r"""Return a table for LaTeX, whose preamble needs ``\usepackage{booktabs}``."""
    sides = "".join("r" if kind_of(column).right else "l" for column in columns)
    lines = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_latex(printable(caption))}}}",
        f"\\begin{{tabular}}{{{sides}}}",
        "\\toprule",
        _latex_row([_latex(heading(column)) for column in columns]),
        "\\midrule",
        *(_latex_row(_marked(columns, row, _latex, "\\textbf{{{}}}")) for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _latex(text: str) -> str:
    # A minus is one where a number begins, and between blanks.
    text = re.sub(r"(?<![^\s(])-(?=[0-9. ])", "\N{MINUS SIGN}", text)
    shown = "".join(_LATEX.get(char, char) for char in text)
    return shown.replace("\N{MINUS SIGN}", "$-$")


_ROOM: Final = 60  # places of a cell of HTML
_WHOLE: Final = 5_000  # characters of what a pointer that rests on a cell shows
_LINE: Final = "border-bottom:1px solid color-mix(in srgb, currentColor 25%, transparent)"
_BOX: Final = "border-collapse:collapse;font-size:0.9em;margin:0.3em 0"
_FAINT: Final = "opacity:0.7;font-size:0.9em"
_CELL: Final = "padding:0.15em 0.7em;white-space:nowrap"  # else Jupyter's own are tall and wrap


def html_table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[object]],
    title: str = "",
    note: str = "",
) -> str:
    """Return a table as HTML, with a title above and a note below it; all of it is escaped."""
    sides = ["right" if kind_of(column).right else "left" for column in columns]
    body = [_html_row("th", (_html(heading(column)) for column in columns), sides)]
    body += [_html_row("td", map(_html, row_cells(columns, row), row), sides) for row in rows]
    return _html_block(title, body, note)


def html_facts(values: Facts, title: str) -> str:
    """Return names and values as HTML, a row each; what is None is left out."""
    span = '<span style="opacity:0.7">{}</span>'
    rows = [
        _html_row("td", [span.format(_html(heading(column))), _html(cell(column.kind, one), one)])
        for column, one in values
        if one is not None
    ]
    return _html_block(title, rows)


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


def _html_row(tag: str, cells: Iterable[str], sides: Iterable[str] = ("left", "left")) -> str:
    made = (
        f'<{tag} style="text-align:{side};{_CELL}">{text}</{tag}>'
        for text, side in zip(cells, sides, strict=True)
    )
    return f'<tr style="{_LINE}">{"".join(made)}</tr>'


def _html_block(title: str, rows: Sequence[str], note: str = "") -> str:
    above = f"<div><strong>{_escaped(fit(title, 100))}</strong></div>" if title else ""
    below = f'<div style="{_FAINT}">{_escaped(printable(note))}</div>' if note else ""
    return f'<div>{above}<table style="{_BOX}">{"".join(rows)}</table>{below}</div>'
