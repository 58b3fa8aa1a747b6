"""Answers as small HTML for notebooks, legible on light and dark pages alike.

No colour is named: text inherits the page's, lines are thin and take the text's colour.
Everything that is shown is escaped, and control characters are spelled out.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from voices_peewee.rendering.plain import fit, printable

ROWS: Final = 20  # rows of a list that are shown
_ROOM: Final = 60  # characters of a cell
_WHOLE: Final = 5000  # characters of what a pointer that rests on a cell shows
_LINE: Final = "border-bottom:1px solid color-mix(in srgb, currentColor 25%, transparent)"
_BOX: Final = "border-collapse:collapse;font-size:0.9em;margin:0.3em 0"
_FAINT: Final = "opacity:0.7;font-size:0.9em"
_CELL: Final = "padding:0.15em 0.7em;white-space:nowrap"  # else Jupyter's own are tall and wrap
_UNITS: Final = {
    "duration": "s",
    "sample_rate": "Hz",
    "file_size": "bytes",
    "si_snri": "dB",
    "sdri": "dB",
    "cpu_usage": "%",
    "memory_usage": "MB",
    "processing_time": "s",
}


def text(value: object) -> str:
    """Return a value as people read it; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            return f"{value:%Y-%m-%d %H:%M:%S}"
        return f"{value.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _escape(text: str) -> str:
    import html  # late: its entities take longer to load than a list to show

    return html.escape(text)


def shown(value: object, *, room: int = _ROOM) -> str:
    """Return a value as escaped HTML: one line; the whole of a long one is its ``title``."""
    whole = text(value)
    lines = whole.strip().splitlines() or [""]
    short = fit(lines[0], room)
    if len(lines) == 1 and short == printable(lines[0]):
        return _escape(short)
    short += "" if len(lines) == 1 else " …"
    pointed = [printable(line) for line in whole[:_WHOLE].splitlines()]
    more = ["…"] if len(whole) > _WHOLE else []
    return f'<span title="{_escape(chr(10).join([*pointed, *more]))}">{_escape(short)}</span>'


def link(label: str, address: str | None) -> str:
    """Return a link, or the label alone where it leads nowhere."""
    inner = shown(label, room=100)
    return inner if address is None else f'<a href="{_escape(printable(address))}">{inner}</a>'


def heading(name: str) -> str:
    """Return a column's name with its unit."""
    return f"{name} ({_UNITS[name]})" if name in _UNITS else name


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    labels: int | None = None,
    title: str = "",
    note: str = "",
) -> str:
    """Return a table with a title above and a note below it; numbers stand to the right.

    Args:
        head: What stands above each column.
        rows: What stands in them.
        labels: How many columns stand to the left; None: all that hold no numbers.
        title: What stands above.
        note: What stands below.
    """
    rows = [list(row) for row in rows]
    columns = [[row[place] for row in rows] for place in range(len(head))]
    right = [
        _is_numeric(values) if labels is None else place >= labels
        for place, values in enumerate(columns)
    ]
    cells = [
        _row("th", [shown(name) for name in head], right),
        *(_row("td", [shown(value) for value in row], right) for row in rows),
    ]
    return _block(title, f'<table style="{_BOX}">{"".join(cells)}</table>', note)


def facts(values: Mapping[str, object], *, title: str = "", note: str = "") -> str:
    """Return a table of names and values."""
    rows = "".join(
        _row("td", [f'<span style="opacity:0.7">{shown(name)}</span>', shown(value)], [False] * 2)
        for name, value in values.items()
    )
    return _block(title, f'<table style="{_BOX}">{rows}</table>', note)


def sentences(*lines: str) -> str:
    """Return lines of text."""
    return "".join(f"<div>{_escape(printable(line))}</div>" for line in lines)


def cut_note(count: int, total: int | None, what: str = "row") -> str:
    """Return how many are shown and of how many; None stands for an unknown number."""
    if total is None:
        return f"the first {count:,} {what}s; there are more"
    if count < total:
        return f"{count:,} of {total:,} {what}s shown"
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _is_numeric(values: Sequence[object]) -> bool:
    some = [value for value in values if value is not None]
    return bool(some) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in some
    )


def _row(tag: str, cells: Sequence[str], right: Sequence[bool]) -> str:
    sides = ("right" if is_right else "left" for is_right in right)
    made = (
        f'<{tag} style="text-align:{side};{_CELL}">{cell}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f'<tr style="{_LINE}">{"".join(made)}</tr>'


def block(*parts: str) -> str:
    """Return parts below each other."""
    return f"<div>{''.join(parts)}</div>"


def _block(title: str, body: str, note: str) -> str:
    above = f"<div><strong>{shown(title, room=100)}</strong></div>" if title else ""
    below = f'<div style="{_FAINT}">{_escape(printable(note))}</div>' if note else ""
    return f"<div>{above}{body}{below}</div>"
