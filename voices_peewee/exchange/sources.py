"""What every input of an import is: rows that know their places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.errors import InputError
from voices_peewee.exchange.tables import table_named

# What a record without any of these cannot be a row of.
_MARKS: Final = {
    "model_performance": {"processing_history_id"},
    "processing_history": {"processed_file_id", "operation_type"},
    "processed_files": {"filename", "original_path"},
    "speakers": {"name"},
}


class Row(NamedTuple):
    """One record: its table, where it stands (a line, a row or an id), and its values."""

    table: str
    number: int
    values: dict[str, Any]


Refuse = Callable[[InputError], None]


class Source:
    """One input. ``rows`` gives its records, and tells ``refuse`` of the bad ones.

    Args:
        label: What it is called in messages.
        table: The table of all its rows, or the first of several.
        tables: The tables of an input that is complete in itself; none for a part of a whole,
            whose ids are shared with the other parts.
    """

    unit = "line"
    # Whether numbers, times and JSON may be given as text.
    is_text = False
    # Whether it is the file of a database, whose paths are as they are stored.
    is_database = False
    # Whether it is the original module's, whose models are named like DEMUCS.
    is_original = False

    def __init__(self, label: str, table: str, tables: Sequence[str] = ()) -> None:
        self.label, self.table, self.tables = label, table, tuple(tables)
        self.notes: list[str] = []

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
        super().__init__("records", table or "")
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


def spelled(columns: Sequence[str]) -> dict[str, str]:
    """Return what each column is called here: in small letters, where that name is free."""
    return {name: name if name.lower() in columns else name.lower() for name in columns}


def table_like(columns: Iterable[str]) -> str:
    """Return the table that has the columns.

    Raises:
        ValueError: None has, or it cannot be told.
    """
    given = list(columns)
    named = {name.lower() for name in given}
    for table, marks in _MARKS.items():
        if marks & named:
            return table
    shown = ", ".join(map(repr, given[:3])) + (", …" if len(given) > 3 else "")
    raise ValueError(f"its columns ({shown}) are those of no table; name the table with --table")


def table_of_file(label: str) -> str | None:
    """Return the table that a file is named after, or None."""
    try:
        return table_named(Path(label).name.partition(".")[0])
    except ValueError:
        return None
