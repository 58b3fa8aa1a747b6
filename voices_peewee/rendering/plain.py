"""Answers as plain text of at most 80 columns, for ``print`` and notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

WIDTH: Final = 80
_LEAST: Final = 8  # characters of a label, however wide the numbers are
_CONTROLS: Final = (*range(0x20), *range(0x7F, 0xA0))
# Line separators, marks that turn the writing direction, and what XML has no place for.
_MARKS: Final = (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
_ESCAPES: Final = {
    **{code: f"\\x{code:02x}" for code in _CONTROLS},
    **{code: f"\\u{code:04x}" for code in (*_MARKS, 0xFFFE, 0xFFFF)},
}


def number(value: float | None, unit: str = "") -> str:
    """Return a number for a table; ``-`` where there is none.

    dB have two decimals, others four digits: a real-time factor may be 0.003.
    """
    if value is None:
        return "-"
    if abs(value) >= 100_000:
        return f"{value:.3g}"
    return f"{value:z.2f}" if unit == "dB" or abs(value) >= 10 else f"{value:z.4g}"


def signed(value: float | None, unit: str = "") -> str:
    """Return a difference for a table: with its sign, if any of it is shown."""
    text = number(value, unit)
    return f"+{text}" if value is not None and float(text) > 0 else text


def fit(text: str, room: int) -> str:
    """Return a text without control characters; a long one loses its middle."""
    text = printable(text)
    if len(text) <= room:
        return text
    return f"{text[: (room - 1) // 2]}…{text[len(text) - room // 2 :]}"


def printable(text: str) -> str:
    """Return a text that a terminal shows as one line and any stream can encode."""
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode("utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: labels to the left, numbers to the right."""
    rows = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = max(_LEAST, min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)))
    return ["  ".join(_aligned(row, widths)).rstrip() for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    yield fit(row[0], widths[0]).ljust(widths[0])
    yield from (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
