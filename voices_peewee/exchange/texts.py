"""Texts as records: CSV and JSON, ours and other tools', and what is refused in them."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import json
import math
import os
import re
import stat
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from io import BufferedReader, StringIO
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.database.sqlite import is_open_here
from voices_peewee.errors import InputError
from voices_peewee.schema.exact import short

_GZIP: Final = b"\x1f\x8b"
_KEPT: Final = 1000  # sentences; a file may have millions of bad lines


Rows = Iterator[tuple[str, list[str]]]  # each with its place, as "line 3"


class Record(NamedTuple):
    """One record of a file: where it stands, as ``line 3``, and its values."""

    place: str
    values: dict[str, Any]


class Refused:
    """What is wrong with the records of files: all of it is told, and nothing is written."""

    def __init__(self) -> None:
        self._problems: list[InputError] = []
        self.count = 0

    def add(self, label: object, reason: str, place: str, column: str = "") -> None:
        """Keep what is wrong with a record."""
        self.keep(InputError(label, reason, place=place, column=column))

    def keep(self, error: InputError) -> None:
        """Keep the error of a record."""
        self.count += 1
        if len(self._problems) < _KEPT:
            self._problems.append(error)

    def end(self) -> None:
        """Go on only where nothing was wrong.

        Raises:
            InputError: A record was refused; ``problems`` has all, by file and line.
        """
        if not self._problems:
            return
        files = list(dict.fromkeys(one.source for one in self._problems))
        self._problems.sort(key=lambda one: (files.index(one.source), len(one.place), one.place))
        if self.count == 1:
            raise self._problems[0]
        raise InputError.several(self._problems, self.count)


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file.

    Raises:
        InputError: It is missing, unreadable, no regular file, or open as a database.
    """
    # Closing it would drop the locks that this process holds on it.
    if is_open_here(path):
        raise InputError(path, "it is this database itself")
    try:
        # Looked at first: opening a named pipe that nobody writes to would block for ever.
        if stat.S_ISREG(Path(path).stat().st_mode):
            return open(path, "rb")
    except (OSError, ValueError) as error:
        raise InputError(path, clause(error)) from error
    raise InputError(path, "it is no file; name files, or use '-' for a pipe")


def clause(error: OSError | ValueError) -> str:
    """Say in one clause why the system did not give us a file."""
    if isinstance(error, ValueError):
        return "no file can have this name"
    return (error.strerror or str(error)).lower()


def text_of(path: Path) -> str:
    """Return the text of a file, unpacked where it is packed with gzip.

    Raises:
        InputError: It cannot be read or is no text.
    """
    try:
        with open_file(path) as stream:
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


def csv_rows(label: object, lines: Iterable[str]) -> Rows:
    """Yield the heading and the records, each with its place; a line of commas alone is none.

    Raises:
        InputError: It is not valid CSV, or separated by something else than commas.
    """
    lines = iter(lines)
    first = next(lines, "")
    if re.search("[\0\udc80-\udcff]", first):  # packed with gzip, a workbook, UTF-16
        raise InputError(label, "it is not UTF-8 text")
    if "\r" in first.rstrip("\r\n"):
        raise InputError(label, "its lines end with CR alone; save it with LF or CRLF")
    if "," not in first and (other := re.search("[;\t|]", first)):
        raise InputError(label, f"its columns are separated by {other[0]!r}; write commas")
    reader = csv.reader(chain([first], lines), strict=True)
    number = 1
    try:
        for values in reader:
            if any(values):
                yield f"line {number}", values
            number = reader.line_num + 1
    except csv.Error as error:
        reason = f"it is not valid CSV ({error})"
        raise InputError(label, reason, place=f"line {number}") from error


def by_column(
    label: object, columns: Sequence[str], rows: Iterable[tuple[str, list[str]]], refused: Refused
) -> Iterator[Record]:
    """Yield the records of a CSV by its columns."""
    for place, values in rows:
        if len(values) == len(columns):
            yield Record(place, dict(zip(columns, values, strict=True)))
        else:
            reason = f"the header has {len(columns)} columns, and this record has {len(values)}"
            refused.add(label, reason, place)


class Reading:
    """A file of another tool, or a folder, on its way to records.

    ``refused`` takes what is wrong, ``skipped`` counts what is left out by its reason.
    """

    def __init__(self, path: Path, refused: Refused) -> None:
        self.path, self.refused, self.skipped = path, refused, Counter[str]()
        self.text = "" if path.is_dir() else text_of(path)
        self.is_json = self.text.lstrip().startswith("{")
        self.time = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)

    def records(self) -> Iterator[Record]:
        """Yield the records of a CSV or of JSON lines; blanks around a CSV's values are nothing."""
        if self.is_json:
            # NaN and Infinity, which Python writes, are numbers.
            yield from json_records(self.path, self.text.split("\n"), self.refused, _LOOSE)
            return
        columns, rows = self._table()
        for place, values in by_column(self.path, columns, rows, self.refused):
            yield Record(place, {name: value.strip() for name, value in values.items()})

    def names(self) -> list[str]:
        """Return the columns, or the keys of the first object and of the first one inside."""
        if not self.is_json:
            return self._table()[0]
        first = whole_object(self.path, self.text.lstrip().partition("\n")[0])
        whole = first or whole_object(self.path, self.text)
        inner = next(iter(whole.values()), None)
        return [*whole, *(inner if isinstance(inner, dict) else ())]

    def _table(self) -> tuple[list[str], Rows]:
        """Return the columns of a CSV, and its records."""
        rows = csv_rows(self.path, StringIO(self.text))
        names = [name.strip() for name in next(rows, ("", []))[1]]
        if twice := [name for name, count in Counter(filter(None, names)).items() if count > 1]:
            raise InputError(self.path, f"its header has the column {short(twice[0])} twice")
        return names, rows


def told_by(marks: Mapping[str, str], names: Collection[str]) -> str | None:
    """Return the first format whose mark, a pattern, is one of the names; None where none is."""
    patterns = ((form, re.compile(mark)) for form, mark in marks.items())
    return next((form for form, one in patterns if any(map(one.fullmatch, names))), None)


def json_records(
    label: object, lines: Iterable[str | bytes], refused: Refused, decode: Any = None
) -> Iterator[Record]:
    """Yield the objects of JSON lines."""
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                yield Record(f"line {number}", parse_object(line, decode or _STRICT))
        except ValueError as error:
            refused.add(label, str(error), f"line {number}")


def whole_object(label: object, text: str) -> dict[str, Any]:
    """Return the object that a JSON text is; an empty one where it is none.

    Raises:
        InputError: It has one key twice.
    """
    try:
        return parse_object(text, _LOOSE)
    except TwiceError as error:
        raise InputError(label, str(error)) from error
    except ValueError:
        return {}


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


class TwiceError(ValueError):
    """An object has one key twice: readers would keep the one or the other."""


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise TwiceError(f"it has the key {short(twice)} twice")


_STRICT: Final = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_no_doubles).decode
_LOOSE: Final = json.JSONDecoder(object_pairs_hook=_no_doubles).decode


def parse(text: str | bytes, decode: Any = _STRICT) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is none; the message says why.
    """
    try:
        return decode(text if isinstance(text, str) else text.removeprefix(BOM_UTF8).decode())
    except TwiceError:
        raise
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON at character {error.pos + 1}") from error
    except (RecursionError, ValueError) as error:
        raise ValueError("its JSON is nested too deeply, or has a number that is none") from error


def parse_object(text: str | bytes, decode: Any = _STRICT) -> dict[str, Any]:
    """Return the object of a JSON text.

    Raises:
        ValueError: It is none; the message says why.
    """
    value = parse(text, decode)
    if isinstance(value, dict):
        return value
    raise ValueError("it is not a JSON object; write one a line")


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


def json_or_text(text: str) -> Any:
    """Return the value of JSON that stands for itself; a text stays one, 1e5 and 4.10 too."""
    try:
        value = parse(text)
    except ValueError:
        return text
    is_same = isinstance(value, dict | list) or json.dumps(value) == text
    return value if is_same and not isinstance(value, str | None) else text
