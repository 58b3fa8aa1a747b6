"""The sides of a comparison, stem by stem, so that these can be matched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import peewee as pw

from voices_peewee.questions.counted import (
    DONE,
    PARAMETERS,
    RECORDING,
    STATE,
    VALUE,
    Row,
    Source,
    check_operations,
    conditions,
    finite,
    in_runs,
    state_of,
)
from voices_peewee.questions.fields import SPEAKER, Own
from voices_peewee.questions.selection import LARGEST, Metric, Runs, Side
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

Stem = tuple[int | None, float | None]  # whose voice it is, and what a run measured of it
_WHOSE, _OPERATION, _PATH = range(VALUE + 1, VALUE + 4)
_MORE: Final = (
    SPEAKER,
    ProcessingHistory.operation_type,
    pw.fn.COALESCE(
        *(ProcessedFile.original_path, ProcessedFile.filename, Own.original_path, Own.filename)
    ),
)


@dataclass(slots=True)
class Sided:
    """The runs of one side that count, by recording.

    ``single`` are the recordings of which a run has one stem, in order, with its speaker and
    value; ``stems`` those with several. ``paths`` has every recording of which it has a run,
    ``others`` the state of those that are not done; ``unread`` counts values that are no numbers.
    """

    single: dict[int, tuple[int | None, float]] = field(default_factory=dict)
    stems: dict[int, list[Stem]] = field(default_factory=dict)
    others: dict[int, str] = field(default_factory=dict)
    paths: dict[int, Any] = field(default_factory=dict)
    parameters: set[Any] = field(default_factory=set)
    unread: int = 0

    @property
    def states(self) -> dict[str, int]:
        """How many recordings are in which state."""
        return {**Counter(self.others.values()), "done": len(self.paths) - len(self.others)}

    @property
    def measured(self) -> set[int]:
        """The recordings that have a value."""
        return {*self.single, *self.stems}

    def take(self, rows: list[Row], metric: Metric, *, by_speaker: bool) -> None:
        """Take the rows of a side: by columns where each is a success of one stem."""
        is_nobodys = metric.is_of_run and not by_speaker
        columns = list(zip(*rows, strict=True))
        values = columns[VALUE]
        self.paths.update(zip(columns[RECORDING], columns[_PATH], strict=True))
        if (
            len(self.paths) == len(rows)
            and min(columns[STATE]) == DONE
            and {*map(type, values)} == {float}
            and -LARGEST <= min(values) <= max(values) <= LARGEST
        ):
            whose = (None,) * len(rows) if is_nobodys else columns[_WHOSE]
            self.single = dict(zip(columns[RECORDING], zip(whose, values)))  # noqa: B905
            self.parameters.update(columns[PARAMETERS])
            return
        for recording, run in in_runs(rows):
            self._take_run(recording, run, metric, by_speaker=by_speaker)

    def _take_run(
        self, recording: int, run: list[Row], metric: Metric, *, by_speaker: bool
    ) -> None:
        stems = [(row[_WHOSE], finite(row[VALUE])) for row in run]
        self.unread += sum(isinstance(row[VALUE], str | bytes) for row in run)
        if metric.is_of_run:
            stems = _of_run(stems, by_speaker=by_speaker)
        known = [value for _, value in stems if value is not None]
        success = min(row[STATE] for row in run)
        state = state_of(success, len(known), len(stems))
        if state != "done":
            self.others[recording] = state
        if success == DONE:
            self.parameters.add(run[0][PARAMETERS])
        if success == DONE and known and len(stems) == 1:
            self.single[recording] = (stems[0][0], known[0])
        elif success == DONE and known:
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
    found = [*source.rows(source.stems(metric, _MORE, chosen))]
    rows = [row for row in found if type(row[_OPERATION]) is str and type(row[RECORDING]) is int]
    source.unread += len(found) - len(rows)
    rows.sort(key=itemgetter(RECORDING))  # mostly they are, and SQLite would copy each
    check_operations({row[_OPERATION] for row in rows}, side.label)
    sided = Sided()
    if rows:
        sided.take(rows, metric, by_speaker=by_speaker)
    source.unread += sided.unread
    sided.parameters = source.settings(sided.parameters)
    return sided


def _of_run(stems: Sequence[Stem], *, by_speaker: bool) -> list[Stem]:
    """Return what a run measured as a whole: once, or once for each of its speakers."""
    value = next((value for _, value in stems if value is not None), None)
    whose = dict.fromkeys(speaker for speaker, _ in stems) if by_speaker else (None,)
    return [] if value is None else [(speaker, value) for speaker in whose]
