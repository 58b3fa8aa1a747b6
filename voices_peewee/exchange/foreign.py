"""Files of other tools: their text, their records with numbers, and what is refused in them."""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.database.store import Store
from voices_peewee.errors import AmbiguousNameError, InputError
from voices_peewee.exchange.reading import clause, open_file
from voices_peewee.records.sources import rows_where
from voices_peewee.schema.fields import short
from voices_peewee.schema.models import Speaker

_GZIP: Final = b"\x1f\x8b"
_KEPT: Final = 1000  # sentences; a file may have millions of bad lines


class Record(NamedTuple):
    """One record of a file: where it stands, as ``line 3``, and its values."""

    place: str
    values: dict[str, Any]


class Refused:
    """What is wrong with the records of files: all of it is told, and nothing is written."""

    def __init__(self) -> None:
        self._problems: list[InputError] = []
        self._count = 0

    def add(self, label: object, reason: str, place: str, column: str = "") -> None:
        """Keep what is wrong with a record."""
        self.keep(InputError(label, reason, place=place, column=column))

    def keep(self, error: InputError) -> None:
        """Keep the error of a record."""
        self._count += 1
        if len(self._problems) < _KEPT:
            self._problems.append(error)

    def end(self) -> None:
        """Go on only where nothing was wrong.

        Raises:
            InputError: A record was refused; ``problems`` has all.
        """
        if self._count > 1:
            raise InputError.several(self._problems, self._count)
        if self._problems:
            raise self._problems[0]


def text_of(path: Path) -> str:
    """Return the text of a file, unpacked where it is packed with gzip.

    Raises:
        InputError: It cannot be read or is no text.
    """
    try:
        with open_file(str(path)) as stream:
            data = stream.read()
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, "it is not UTF-8 text") from error
    except (EOFError, zlib.error) as error:
        raise InputError(path, "it is cut off or damaged") from error
    except OSError as error:
        raise InputError(path, clause(error)) from error
    if not text.strip():
        raise InputError(path, "it is empty")
    return text


def header(text: str) -> list[str]:
    """Return the columns of a CSV text; a text of another kind has strange ones."""
    try:
        return [name.strip() for name in next(csv.reader([text.lstrip().partition("\n")[0]]), [])]
    except csv.Error:
        return []


def csv_records(label: object, text: str, refused: Refused) -> Iterator[Record]:
    """Yield the records of a CSV text by their headings; blanks after commas are nothing."""
    reader = csv.reader(StringIO(text, newline=""), skipinitialspace=True, strict=True)
    columns = [name.strip() for name in next(reader, [])]
    number = reader.line_num + 1
    try:
        for values in reader:
            place, number = f"line {number}", reader.line_num + 1
            if len(values) == len(columns):
                yield Record(place, dict(zip(columns, values, strict=True)))
            elif any(values):
                reason = f"the header has {len(columns)} columns, and this record has {len(values)}"
                refused.add(label, reason, place)
    except csv.Error as error:
        refused.add(label, f"it is not valid CSV ({error})", f"line {number}")


def json_records(label: object, text: str, refused: Refused) -> Iterator[Record]:
    """Yield the objects of JSON lines; NaN and Infinity, which Python writes, are numbers."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        value = parsed(line)
        if isinstance(value, dict):
            yield Record(f"line {number}", value)
        else:
            refused.add(label, "it is not a JSON object; write one a line", f"line {number}")


def parsed(text: str) -> Any:
    """Return the value of a JSON text, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def number(value: object) -> float | None:
    """Return a number, which may be NaN or infinite; None where nothing is written.

    Raises:
        ValueError: It is no number; the message says so.
    """
    if value is None or value == "":
        return None
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{short(value)} is not a number") from error


def measure(value: object) -> float | None:
    """Return a finite number of 0 or more, or None where nothing is written.

    Raises:
        ValueError: It is none; the message says so.
    """
    found = number(value)
    if found is not None and not (math.isfinite(found) and found >= 0):
        raise ValueError(f"{short(value)} is not a finite number of 0 or more")
    return found


def speakers_named(store: Store, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of speakers, inside a transaction; those that are not there are added.

    Raises:
        AmbiguousNameError: Several have one of the names.
    """
    wanted = {name: str(Speaker.name.db_value(name)) for name in names}
    store.lock_speakers()
    found: dict[str, list[int]] = {}
    for row in rows_where(store, Speaker, "name", {*wanted.values()}):
        found.setdefault(row.name, []).append(row.id)
    for name, ids in found.items():
        if len(ids) > 1:
            raise AmbiguousNameError("speaker", name, ids)
    fresh = dict.fromkeys(name for name in wanted.values() if name not in found)
    added = store.insert_all([Speaker(name=name) for name in fresh])
    known = {name: ids[0] for name, ids in found.items()} | {one.name: one.id for one in added}
    return {name: known[composed] for name, composed in wanted.items()}
