"""What an import did, and what was wrong, in counts and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from voices_peewee.errors import InputError, InvalidValueError
from voices_peewee.exchange.tables import TABLES
from voices_peewee.exchange.values import Typed
from voices_peewee.schema.models import CHECKS, BaseModel

KEPT: Final = 1000  # sentences of each kind; an input may have millions
_TOLD: Final = 3  # values of a conflict


@dataclass
class Counts:
    """How many records of one table were added, were the same, and so on.

    ``conflicts`` are records of rows that are here with other values: ours were kept.
    """

    added: int = 0
    same: int = 0
    updated: int = 0
    conflicts: int = 0


@dataclass
class Imported:
    """What an import did.

    Args:
        tables: The counts of each table.
        is_dry_run: Whether nothing was written.
        conflicts: What was different here, in sentences; the first thousand.
        notes: What was assumed or left out.
    """

    tables: dict[str, Counts] = field(default_factory=lambda: {name: Counts() for name in TABLES})
    is_dry_run: bool = False
    conflicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """How many rows were added or updated."""
        return sum(counts.added + counts.updated for counts in self.tables.values())

    def note(self, sentence: str) -> None:
        """Keep a sentence, once."""
        if sentence not in self.notes and len(self.notes) < KEPT:
            self.notes.append(sentence)

    def conflict(self, table: str, sentence: str) -> None:
        """Count a conflict."""
        self.tables[table].conflicts += 1
        if len(self.conflicts) < KEPT:
            self.conflicts.append(sentence)


class Problems:
    """The bad records of an import, which goes on only to tell all of them."""

    def __init__(self) -> None:
        self.first: list[InputError] = []
        self.count = 0

    def add(self, error: InputError) -> None:
        """Keep one."""
        self.count += 1
        if len(self.first) < KEPT:
            self.first.append(error)

    def end(self) -> None:
        """Raise them, if there are any."""
        if self.count == 1:
            raise self.first[0]
        if self.count:
            raise InputError.several(self.first, self.count)


def conflict_told(typed: Typed, row: BaseModel, different: Sequence[str]) -> str:
    """Say which values of a row were kept, and what the record has."""
    where = typed.source.error("", typed.number)
    told = ", ".join(
        f"{name} {_short(row.__data__[name])} (there {_short(typed.data[name])})"
        for name in different[:_TOLD]
    )
    more = f" and {len(different) - _TOLD} more" if len(different) > _TOLD else ""
    table = type(row)._meta.table_name
    return f"{where.source!r}, {where.place}: {table} {row.id} keeps its {told}{more}"


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def refused(typed: Typed, table: str, error: InvalidValueError) -> InputError:
    """Say where the value stands that the database refused."""
    reason = str(error)
    column = next(
        (
            name.removeprefix(f"ck_{table}_")
            for name, (_, sentence) in CHECKS.items()
            if sentence == reason and name.startswith(f"ck_{table}_")
        ),
        "",
    )
    if reason.startswith(f"{table}.") and reason.endswith(" must be unique"):
        column = reason.removeprefix(f"{table}.").removesuffix(" must be unique")
        reason = "another record has the same"
    return typed.source.error(reason, typed.number, column)
