"""The sides of a comparison, stem by stem, so that these can be matched."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import peewee as pw

from voices_peewee.questions.counted import (
    RANK,
    SUCCESS,
    Source,
    check_operations,
    conditions,
    state_of,
)
from voices_peewee.questions.fields import SPEAKER, Own
from voices_peewee.questions.selection import LARGEST, Metric, Runs, Side
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

Stem = tuple[int | None, float | None]  # whose voice it is, and what a run measured of it
_RUN = ProcessingHistory


@dataclass(slots=True)
class Sided:
    """The runs of one side that count, by recording: the stems of what succeeded.

    ``paths`` has every recording of which it has a run, ``others`` the state of those that are
    not done.
    """

    stems: dict[int, list[Stem]] = field(default_factory=dict)
    others: dict[int, str] = field(default_factory=dict)
    paths: dict[int, Any] = field(default_factory=dict)
    parameters: set[str] = field(default_factory=set)

    @property
    def states(self) -> dict[str, int]:
        """How many recordings are in which state."""
        return {**Counter(self.others.values()), "done": len(self.paths) - len(self.others)}

    def take(self, recording: int, rows: list[tuple[Any, ...]], stems: list[Stem]) -> None:
        """Take the rows of the run that counts for a recording, and what they measured."""
        success, is_unfinished = rows[0][1], rows[0][6]
        finite = sum(value is not None for _, value in stems)
        state = state_of(success=success, ended=not is_unfinished, finite=finite, stems=len(stems))
        if state != "done":
            self.others[recording] = state
        if success and finite:
            self.stems[recording] = stems


def read_side(
    source: Source, metric: Metric, side: Side, runs: Runs, *, by_speaker: bool = False
) -> Sided:
    """Return the runs of a side that count.

    What a metric says of the whole run is nobody's, and each of its speakers' ``by_speaker``.

    Raises:
        QueryError: They are of several operations.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: A time cannot be read, or has no time zone.
    """
    chosen = [*conditions(source.store, runs), *side.conditions(source.store, runs)]
    columns = [
        source.recording.alias("recording"),
        SUCCESS,
        _RUN.start_time,
        _RUN.run_id,
        SPEAKER,
        metric.value,
        _RUN.end_time.is_null(),
        _RUN.operation_type,
        _RUN.parameters.cast("TEXT"),
        pw.fn.COALESCE(*(name for file in (ProcessedFile, Own) for name in _names(file))),
    ]
    latest: dict[int, tuple[Any, ...]] = {}
    several: dict[int, list[tuple[Any, ...]]] = {}  # runs of more than one stem
    operations = set()
    for row in source.rows(source.select(columns, chosen)):
        operations.add(row[7])
        recording = row[0]
        known = latest.setdefault(recording, row)
        if known is row:
            continue
        if known[3] == row[3]:
            several.setdefault(recording, [known]).append(row)
        elif known[RANK] < row[RANK]:
            latest[recording] = row
            several.pop(recording, None)
    check_operations(operations, side.label)
    sided = Sided()
    is_nobodys = metric.is_of_run and not by_speaker
    for recording, row in latest.items():
        sided.paths[recording] = row[9]
        if row[1]:
            sided.parameters.add(row[8])
        value = row[5]
        if row[1] and type(value) is float and abs(value) < LARGEST and recording not in several:
            sided.stems[recording] = [(None if is_nobodys else row[4], value)]  # most often
            continue
        rows = several.get(recording, [row])
        stems = [(row[4], _number(row[5])) for row in rows]
        if metric.is_of_run:
            stems = _of_run(stems, by_speaker=by_speaker)
        sided.take(recording, rows, stems)
    return sided


def _of_run(stems: list[Stem], *, by_speaker: bool) -> list[Stem]:
    """Return what a run measured as a whole: once, or once for each of its speakers."""
    value = next((value for _, value in stems if value is not None), None)
    whose = dict.fromkeys(speaker for speaker, _ in stems) if by_speaker else (None,)
    return [] if value is None else [(speaker, value) for speaker in whose]


def _names(file: Any) -> tuple[Any, Any]:
    return file.original_path, file.filename


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and -LARGEST <= value <= LARGEST:
        return float(value)
    return None
