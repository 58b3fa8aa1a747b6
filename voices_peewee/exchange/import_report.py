"""What an import did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from voices_peewee.errors import InputError
from voices_peewee.exchange.import_source import TABLES

KEPT: Final = 1000  # sentences of each kind; an input may have millions


@dataclass
class Counts:
    """How many records of one table were added, were the same, and so on.

    ``conflicts`` are records of rows that are here with other values: ours were kept.
    """

    added: int = 0
    same: int = 0
    updated: int = 0
    conflicts: int = 0
    skipped: int = 0


@dataclass
class Imported:
    """What an import did.

    Args:
        tables: The counts of each table.
        is_dry_run: Whether nothing was written.
        conflicts: What was different here, in sentences; the first thousand.
        problems: The bad records that were skipped; the first thousand.
        skipped: How many records were skipped in all.
        notes: What was assumed or left out.
    """

    tables: dict[str, Counts] = field(default_factory=lambda: {name: Counts() for name in TABLES})
    is_dry_run: bool = False
    conflicts: list[str] = field(default_factory=list)
    problems: list[InputError] = field(default_factory=list)
    skipped: int = 0
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

    def skip(self, error: InputError, table: str = "") -> None:
        """Count a record that was skipped."""
        self.skipped += 1
        if table:
            self.tables[table].skipped += 1
        if len(self.problems) < KEPT:
            self.problems.append(error)
