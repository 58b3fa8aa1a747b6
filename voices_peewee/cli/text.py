"""What a stream can show."""

from __future__ import annotations

from typing import TextIO

from voices_peewee.safe_text import printable as printable


def speaks_unicode(stream: TextIO) -> bool:
    """Whether a stream can show every letter."""
    return (stream.encoding or "ascii").lower().replace("-", "") == "utf8"
