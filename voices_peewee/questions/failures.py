"""What failed: runs that ended with an error, grouped by what their errors have in common."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import peewee as pw

from voices_peewee.database.dialects import ByEngine
from voices_peewee.database.results import ResultList, Spec
from voices_peewee.questions.pending import canonical
from voices_peewee.questions.selection import Time, model_label
from voices_peewee.records.sources import LOOKUP
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.search.pages import matching

if TYPE_CHECKING:
    from voices_peewee.database.store import SpeakerKey, Store

Words = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Failure:
    """The failed runs that ended with the same error but for numbers, paths and addresses.

    ``error`` is its first line as the newest of them has it; ``error_type`` and ``message`` are
    the parts before and after the first colon. ``count`` counts runs, ``models`` names those
    they were by, the most frequent first. ``newest`` is when the latest of them began;
    ``run_id``, ``history_id`` and ``path`` (of the recording) are that one's.
    """

    error: str
    error_type: str
    message: str
    count: int
    models: tuple[str, ...]
    newest: dt.datetime
    run_id: str
    history_id: int
    path: str | None


class Failures(ResultList[Failure]):
    """The failures; ``cured`` and ``without_speaker`` count the runs that were left out.

    ``cured`` had a later success of the same settings, ``without_speaker`` belong to nobody.
    """

    cured: int = 0
    without_speaker: int = 0


_FAILURE: Final = (
    Spec("error", "text", nullable=False),
    Spec("error_type", "text", nullable=False),
    Spec("message", "text", nullable=False),
    Spec("count", "integer", nullable=False),
    Spec("models", "json", nullable=False),
    Spec("newest", "time", nullable=False),
    Spec("run_id", "text", nullable=False),
    Spec("history_id", "integer", nullable=False),
    Spec("path", "path"),
)


class _Row(NamedTuple):
    """A history row that failed, as it is stored; ``recording`` is that of its file."""

    id: int
    run_id: str
    operation_type: str
    model_type: str | None
    model_version: str | None
    parameters: str
    start: object
    error: str
    recording: int
    path: str | None
    filename: str | None
    speaker: int | None
    owner: int | None
    metadata: str | None


@dataclass(slots=True)
class _Run:
    """A run that failed: its first row, and the speakers of all its rows."""

    row: _Row
    speakers: set[int] = field(default_factory=set)

    @property
    def settings(self) -> tuple[object, ...]:
        return _settings(self.row.recording, *self.row[2:6])


def failures(
    store: Store,
    *,
    operation_type: str | None = None,
    model_type: str | None = None,
    model_version: str | None = None,
    speaker: SpeakerKey | None = None,
    since: Time | None = None,
    until: Time | None = None,
    where: Words = (),
    all: bool = False,  # noqa: A002 - the word that users know from the shell
) -> Failures:
    """Return the failed runs in groups, the most frequent first."""
    run = ProcessingHistory
    equal = {
        run.operation_type: operation_type,
        run.model_type: model_type,
        run.model_version: model_version,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    conditions += [] if since is None else [run.start_time >= since]
    conditions += [] if until is None else [run.start_time < until]
    conditions += [run.id.in_(matching(store, "history", where))] if where else []
    whose = None if speaker is None else store.speaker(speaker)
    with store.reading():
        runs = _failed_runs(store, conditions)
        without = 0
        if whose is not None:
            runs, without = _of_speaker(store, runs, whose)
        left = runs if all else _uncured(store, runs)
    found = Failures(_grouped(left), _FAILURE, ("error", "count", "models", "newest", "path"))
    found.cured, found.without_speaker = len(runs) - len(left), without
    return found


def _failed_runs(store: Store, conditions: Sequence[pw.Expression]) -> list[_Run]:
    """Return the runs that failed, the newest first."""
    run, file, recording = ProcessingHistory, ProcessedFile, ProcessedFile.alias("recording")
    columns = (
        *(run.id, run.run_id, run.operation_type, run.model_type, run.model_version),
        *(run.parameters, run.start_time, _first_line(run.error_message), recording.id),
        *(recording.original_path, recording.filename, file.speaker, recording.speaker),
        recording.metadata,
    )
    query = run.select(*columns).join(file)
    query = query.join(recording, on=recording.id == pw.fn.COALESCE(file.recording, file.id))
    query = query.where(~run.success, run.end_time.is_null(is_null=False), *conditions)
    runs: dict[str, _Run] = {}
    for values in store.connection().execute(*query.order_by(run.start_time.desc(), run.id).sql()):
        row = _Row(*values)
        found = runs.setdefault(row.run_id, _Run(row))
        found.speakers |= set() if row.speaker is None else {row.speaker}
    return list(runs.values())


def _first_line(text: pw.Field) -> pw.ColumnBase:
    """Return the first line in SQL, so that tracebacks stay where they are."""
    newline = pw.fn.char(10)
    shown = pw.fn.ltrim(pw.fn.COALESCE(text, ""), " \t\r\n")
    sqlite = pw.fn.substr(shown, 1, pw.fn.instr(shown.concat(newline), newline) - 1)
    return ByEngine(sqlite, pw.fn.split_part(shown, "\n", 1))


def _batches(recordings: Iterable[int]) -> Iterator[list[int]]:
    left = iter(recordings)
    while some := list(islice(left, LOOKUP)):
        yield some


def _of_speaker(store: Store, runs: list[_Run], whose: Speaker) -> tuple[list[_Run], int]:
    """Return the runs of a speaker, and how many belong to nobody.

    A run belongs to the speakers of its rows, else to the recording's, else to those of the
    recording's references, else to those of its stems in other runs.
    """
    stems = _speakers_of_stems(store, {run.row.recording for run in runs})
    found, without = [], 0
    for run in runs:
        ids = run.speakers or (set() if run.row.owner is None else {run.row.owner})
        names = set() if ids else _references(run.row.metadata)
        ids = ids if ids or names else stems.get(run.row.recording, set())
        without += not (ids or names)
        if whose.id in ids or whose.name in names:
            found.append(run)
    return found, without


def _references(metadata: str | None) -> set[str]:
    """Return the names of the speakers that a recording is known to be mixed of."""
    try:
        references = json.loads(metadata or "{}").get("references")
    except (AttributeError, TypeError, ValueError):
        return set()  # what another program wrote
    return set(references) if isinstance(references, dict) else set()


def _speakers_of_stems(store: Store, recordings: Iterable[int]) -> dict[int, set[int]]:
    file = ProcessedFile
    found: dict[int, set[int]] = {}
    for some in _batches(recordings):
        query = file.select(file.recording, file.speaker).distinct()
        query = query.where(file.recording.in_(some), file.speaker.is_null(is_null=False))
        for recording, speaker in store.connection().execute(*query.sql()):
            found.setdefault(recording, set()).add(speaker)
    return found


def _uncured(store: Store, runs: list[_Run]) -> list[_Run]:
    """Return the runs without a later success of the same settings on the same recording."""
    latest: dict[tuple[object, ...], object] = {}
    for settings, start in _successes(store, {run.row.recording for run in runs}):
        latest[settings] = max(start, cast("Any", latest.get(settings, start)))
    return [
        run
        for run in runs
        if (last := latest.get(run.settings)) is None or cast("Any", last) <= run.row.start
    ]


def _successes(store: Store, recordings: Iterable[int]) -> Iterator[tuple[tuple[object, ...], Any]]:
    """Yield the settings and the start of each run of the recordings that succeeded as a whole."""
    run, file = ProcessingHistory, ProcessedFile
    columns = (
        *(pw.fn.COALESCE(file.recording, file.id), run.operation_type, run.model_type),
        *(run.model_version, run.parameters, run.start_time, run.run_id, run.success),
    )
    for some in _batches(recordings):
        query = file.select(*columns).join_from(file, run, on=run.processed_file == file.id)
        query = query.where(file.id.in_(some) | file.recording.in_(some))
        rows = list(store.connection().execute(*query.sql()))
        bad = {row[6] for row in rows if not row[7]}
        for recording, *settings, start, run_id, _ in rows:
            if run_id not in bad:
                yield _settings(recording, *settings), start


def _settings(recording: int, *settings: Any) -> tuple[object, ...]:
    *names, parameters = settings
    return (recording, *names, canonical(parameters))


_SHORTEST_NAME: Final = 3
_VARYING: Final = re.compile(
    r"""(?<=')[^']*[/\\][^']*(?=') | (?<=")[^"]*[/\\][^"]*(?=") | \b0x[0-9a-f]+
    | (?:[a-z]+://|[a-z]:|~|\.{1,2})?[/\\][^\s'",:;()]*
    | \b[\w.-]+[/\\][^\s'",:;()]* | (?<=['"])[^'"/\\]+\.\w{2,5}(?=['"])
    | \d+(?:[.,]\d+)*(?:e[+-]?\d+)?""",
    re.X | re.I,
)


def _grouped(runs: Sequence[_Run]) -> list[Failure]:
    groups: dict[str, list[_Run]] = {}
    for run in runs:
        groups.setdefault(_pattern(run.row), []).append(run)
    found = [_failure(group) for group in groups.values()]
    return sorted(found, key=lambda one: one.count, reverse=True)


def _pattern(row: _Row) -> str:
    """Return an error without the recording's name, and without numbers, paths and addresses."""
    text = _error(row.error)
    for name in (_path(row.path), row.filename):
        text = text.replace(name, "…") if name and len(name) > _SHORTEST_NAME else text
    return _VARYING.sub("…", text)


def _error(line: str) -> str:
    return line.strip() or "(no error message)"


def _failure(runs: list[_Run]) -> Failure:
    """Summarize the runs of one error, the newest first."""
    row = runs[0].row
    error = _error(row.error)
    kind, _, message = error.partition(":")
    models = Counter(model_label(run.row.model_type, run.row.model_version) for run in runs)
    return Failure(
        error,
        kind,
        message.strip(),
        len(runs),
        tuple(name for name, _ in models.most_common()),
        cast("dt.datetime", ProcessingHistory.start_time.python_value(row.start)),
        row.run_id,
        row.id,
        _path(row.path),
    )


def _path(stored: object) -> str | None:
    return cast("str | None", ProcessedFile.original_path.python_value(stored))
