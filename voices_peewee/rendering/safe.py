"""Stored values as text without anything that could command a terminal."""

from __future__ import annotations

import re
from typing import Final, TextIO

# Control characters, lone surrogates, line separators and marks that turn the writing direction.
_UNSAFE: Final = "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
_NAMES: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(value: object) -> str:
    """Return a value as one line of text whose control characters are spelled out."""
    text = str(value)
    if text.isprintable():
        return text
    return re.sub(_UNSAFE, _spelled, text)  # compiled when first needed: it takes a millisecond


def _spelled(match: re.Match[str]) -> str:
    char = match[0]
    if char in _NAMES:
        return _NAMES[char]
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def speaks_unicode(stream: TextIO) -> bool:
    """Whether a stream can show every letter."""
    return (stream.encoding or "ascii").lower().replace("-", "") == "utf8"
