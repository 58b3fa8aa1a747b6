"""Rows as JSON and CSV text, for the lists and for exports."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from voices_peewee.rendering.plain import printable

# What json.dumps leaves as it is and a terminal may obey, or UTF-8 cannot hold.
_LEFT: Final = "[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")  # some spreadsheets read wide letters too
_CRLF: Final = "\r\n"
_NUMBER: Final = r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?"


def json_text(value: object, *, ascii_only: bool = False, indent: int | None = None) -> str:
    """Return the JSON of a value; what JSON cannot say, NaN and the infinities, is null."""
    try:
        text = json.dumps(
            value, default=_plain, ensure_ascii=ascii_only, allow_nan=False, indent=indent
        )
    except ValueError:  # NaN or an infinity; a walk of our own would not go as deep as JSON does
        finite = json.loads(json.dumps(value, default=_plain), parse_constant=lambda _: None)
        text = json.dumps(finite, ensure_ascii=ascii_only, indent=indent)
    return harmless(text)


def harmless(text: str) -> str:
    """Escape in a JSON text what could command a terminal and what UTF-8 cannot hold."""
    return text if text.isascii() and "\x7f" not in text else re.sub(_LEFT, _escape, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, dt.date) else str(value)


def csv_lines(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    raw: bool = False,
    ascii_only: bool = False,
    is_shown: bool = True,
) -> Iterator[str]:
    """Yield the heading and each row as CSV; what is shown holds nothing that a terminal obeys."""
    import csv

    writer: Any = csv.writer(_Line())  # its ends have a CR: before Python 3.13 others quote no CR
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([_csv_value(value, raw, ascii_only, is_shown) for value in row])


class _Line:
    """Gives back each line that the csv module writes."""

    def write(self, text: str) -> Any:
        return f"{text.removesuffix(_CRLF)}\n"


def _csv_value(value: object, raw: bool, ascii_only: bool, is_shown: bool) -> object:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    text = value if isinstance(value, str) else _text(value, ascii_only)
    if raw:
        return text
    safe = "\n".join(map(_visible, text.split("\n"))) if is_shown else text
    # Behind apostrophes of its own as well, since whoever reads it takes one away.
    is_formula = safe.lstrip("'").startswith(_FORMULA) and not re.fullmatch(_NUMBER, safe)
    return f"'{safe}" if is_formula else safe


def _visible(line: str) -> str:
    return "\t".join(map(printable, line.split("\t")))


def _text(value: object, ascii_only: bool) -> str:
    """Return a value that is no text or number as it stands in JSON."""
    if isinstance(value, dt.date):
        return value.isoformat()
    return json_text(value, ascii_only=ascii_only)
