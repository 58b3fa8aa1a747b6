"""What every input of an import is: rows that know their places."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedReader, FileIO, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from voices_peewee.errors import InputError
from voices_peewee.schema.models import MODELS, BaseModel

TABLES: Final[dict[str, type[BaseModel]]] = {model._meta.table_name: model for model in MODELS}
_SHORT: Final = {
    "files": "processed_files",
    "history": "processing_history",
    "performance": "model_performance",
}
# What a record without any of these cannot be a row of.
_MARKS: Final = {
    "model_performance": {"processing_history_id"},
    "processing_history": {"processed_file_id", "operation_type"},
    "processed_files": {"filename", "original_path"},
    "speakers": {"name"},
}
_KINDS: Final = {
    stat.S_IFDIR: "it is a directory",
    stat.S_IFIFO: "it is a named pipe; use '-' and send it to the standard input",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}
_CLAUSES: Final = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.ELOOP: "it is a link that leads back to itself",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENAMETOOLONG: "its name is too long",
}


class Row(NamedTuple):
    """One record: its table, where it stands (a line, a row or an id), and its values."""

    table: str
    number: int
    values: dict[str, Any]


Refuse = Callable[[InputError], None]


class Source:
    """One input. ``rows`` gives its records; a bad one is told to ``refuse``, which may raise.

    Args:
        label: What it is called in messages.
        table: The table of all its rows, or the first of several.
        tables: The tables of an input that is complete in itself; none for a part of a whole,
            whose ids are shared with the other parts in the same folder.
    """

    unit = "line"
    # Whether numbers, times and JSON may be given as text.
    is_text = False
    # Whether the file is of the original module, whose models are named like DEMUCS.
    is_original = False

    def __init__(self, label: str, table: str, tables: tuple[str, ...] = ()) -> None:
        self.label, self.table, self.tables = label, table, tables
        self.notes: list[str] = []

    @property
    def folder(self) -> str:
        """Where it is."""
        return os.path.dirname(self.label)  # noqa: PTH120 - a label need not be a path

    def rows(self, refuse: Refuse) -> Iterator[Row]:
        """Yield the records in order."""
        raise NotImplementedError

    def progress(self) -> tuple[int, int]:
        """Return the bytes done and in all; 0 where that is not known."""
        return 0, 0

    def close(self) -> None:
        """Close what it reads from."""

    def error(self, reason: str, number: int | None = None, column: str = "") -> InputError:
        """Return the error of a record, or of the whole input."""
        place = "" if number is None else f"{self.unit} {number}"
        return InputError(self.label, reason, place=place, column=column)


class Records(Source):
    """Records that a program gives as mappings."""

    unit = "record"

    def __init__(self, records: Iterable[object], table: str | None) -> None:
        super().__init__("records", table or "", ())
        self._records = records

    def rows(self, refuse: Refuse) -> Iterator[Row]:
        """Yield the records in order."""
        for number, record in enumerate(self._records, 1):
            if not isinstance(record, Mapping):
                refuse(self.error(f"{record!r} is not a mapping", number))
                continue
            values = dict(record)
            try:
                table = table_named(values.pop("table", None) or self.table or table_like(values))
            except ValueError as error:
                refuse(self.error(str(error), number))
                continue
            yield Row(table, number, values)


def table_named(name: object) -> str:
    """Return the table of a name or a list's noun.

    Raises:
        ValueError: There is none.
    """
    table = _SHORT.get(str(name), str(name))
    if table not in TABLES:
        raise ValueError(f"there is no table {name!r}; use {', '.join(TABLES)}")
    return table


def table_like(columns: Iterable[str]) -> str:
    """Return the table that has the columns.

    Raises:
        ValueError: None has, or it cannot be told.
    """
    given = list(columns)
    for table, marks in _MARKS.items():
        if marks.intersection(given):
            return table
    shown = ", ".join(map(repr, given[:3])) + (", …" if len(given) > 3 else "")
    raise ValueError(f"its columns ({shown}) are those of no table; name the table with --table")


def table_of_file(label: str) -> str | None:
    """Return the table that a file is named after, or None."""
    stem = Path(label).name.partition(".")[0]
    table = _SHORT.get(stem, stem)
    return table if table in TABLES else None


def open_file(path: str) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        InputError: It cannot be read, or is something else.
    """
    try:
        # Without O_NONBLOCK a named pipe that nobody writes to would block for ever.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise InputError(path, clause(error)) from error
    kind = stat.S_IFMT(os.fstat(file).st_mode)
    if kind != stat.S_IFREG:
        os.close(file)
        raise InputError(path, _KINDS.get(kind, "it is not a file"))
    return BufferedReader(FileIO(file), 1 << 17)


class Bytes(RawIOBase):
    """The bytes of a stream that may have only ``read``, of text or of bytes.

    ``done`` is how many were read.
    """

    def __init__(self, stream: Any) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._left = b""
        self.done = 0

    def readable(self) -> bool:
        """Whether it can be read: it can."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes into a buffer; return how many."""
        if not self._left:
            data = self._read(len(buffer))
            self._left = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        self.done += size
        return size


def done(stream: BinaryIO, size: int) -> int:
    """Return how many bytes of a file, or of a stream without a size, were read."""
    if size:
        return stream.tell()
    raw = getattr(stream, "raw", None)
    return raw.done if isinstance(raw, Bytes) else 0


def clause(error: OSError | ValueError) -> str:
    """Say in one clause why the system did not give us a file."""
    if isinstance(error, ValueError):
        return "no file can have this name"
    return _CLAUSES.get(error.errno or 0, f"the system says {error.strerror!r}")
