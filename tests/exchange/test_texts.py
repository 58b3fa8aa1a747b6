"""Texts that are no UTF-8, or whose lines end otherwise, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from voices_peewee import DatabaseManager
from voices_peewee.errors import InputError

TEXT = "filename,duration\na.wav,2.5\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (TEXT.encode("utf-16"), "it is not UTF-8 text"),
        (b"\x1f\x8b\x08\0\xc3\r\0", "it is not UTF-8 text"),
        (b"PK\x03\x04\x14\0\0;\t", "it is not UTF-8 text"),
        (TEXT.replace("\n", "\r").encode(), "its lines end with CR alone; save it with LF or CRLF"),
    ],
    ids=["UTF-16", "gzip", "workbook", "CR"],
)
def test_texts_of_other_kinds(
    db: DatabaseManager, tmp_path: Path, data: bytes, reason: str
) -> None:
    """What a spreadsheet may have saved otherwise is told in one sentence."""
    path = tmp_path / "files.csv"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        db.import_records(path)
    assert str(caught.value) == f"cannot import {str(path)!r}: {reason}"
