"""What failed: runs that ended with an error, grouped by what their errors have in common."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple, cast

import peewee as pw

from voices_peewee.database.dialects import ByEngine, nodes, plain
from voices_peewee.database.results import ResultList
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.questions.outcomes import moment
from voices_peewee.questions.selection import Runs, model_label
from voices_peewee.rendering.table import Column
from voices_peewee.runs.settings import canonical
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.search.columns import read_json


@dataclass(frozen=True, slots=True)
class Failure:
    """The failed runs that ended with the same error but for numbers, paths and addresses.

    ``error`` is its first line as the newest of them has it; ``error_type`` and ``message`` are
    the parts before and after the first colon. ``count`` counts runs, ``models`` names those
    they were by, the most frequent first. ``newest`` is when the latest of them began, None
    where that cannot be read; ``run_id``, ``history_id`` and ``path`` (of the recording) are
    that one's.
    """

    error: str
    error_type: str
    message: str
    count: int
    models: tuple[str, ...]
    newest: dt.datetime | None
    run_id: str
    history_id: int
    path: str | None


_FAILURE: Final = (
    Column("count", "count", "runs", nullable=False),
    Column("error", nullable=False),
    Column("models", "tags", nullable=False),
    Column("newest", "time"),
    Column("history_id", "integer", "example", nullable=False),
    Column("path", "path"),
    Column("run_id", nullable=False),
    Column("error_type", nullable=False),
    Column("message", nullable=False),
)


class Failures(ResultList[Failure]):
    """The failures; ``cured`` and ``without_speaker`` count the runs that were left out.

    ``cured`` had a later success of the same settings, ``without_speaker`` belong to nobody.
    """

    columns: ClassVar = _FAILURE
    cured: int = 0
    without_speaker: int = 0


class _Run(NamedTuple):
    """The first row of a run that failed, as it is stored; ``owner`` is the recording's speaker."""

    id: int
    run_id: str
    model_type: str | None
    model_version: str | None
    start: str
    error: str
    recording: int
    path: str | None
    filename: str | None
    metadata: str | None
    owner: int | None
    cured: bool


_BETWEEN: Final = "\x1e"  # of the parameters of several runs, in none of which it is


def failures(
    store: Store,
    *,
    speaker: SpeakerKey | None = None,
    all: bool = False,  # noqa: A002 - the word that users know from the shell
    **asked: Any,
) -> Failures:
    """Return the failed runs in groups, the most frequent first."""
    conditions = Runs(**asked).conditions(store)
    whose = None if speaker is None else store.speaker(speaker)
    with store.reading():
        runs, speakers = _failed_runs(store, conditions, cures=not all)
        without = 0
        if whose is not None:
            runs, without = _of_speaker(store, runs, speakers, whose)
    left = [run for run in runs if not run.cured]
    found = Failures(_grouped(left), _FAILURE, ("error", "count", "models", "newest", "path"))
    found.cured, found.without_speaker = len(runs) - len(left), without
    return found


def _failed_runs(
    store: Store, conditions: Sequence[pw.Expression], *, cures: bool
) -> tuple[list[_Run], dict[str, set[int]]]:
    """Return the runs that failed, the newest first, and the speakers of their rows."""
    run, file, recording = ProcessingHistory, ProcessedFile, ProcessedFile.alias("recording")
    columns = (
        *(run.id, run.run_id, run.model_type, run.model_version, run.start_time),
        *(_first_line(run.error_message), recording.id, recording.original_path),
        *(recording.filename, recording.metadata, recording.speaker),
        *(run.parameters, _cures(recording) if cures else pw.SQL("NULL"), file.speaker),
    )
    query = run.select(*columns).join(file)
    query = query.join(recording, on=recording.id == pw.fn.COALESCE(file.recording, file.id))
    query = query.where(~run.success, run.end_time.is_null(is_null=False), *conditions)
    runs: dict[str, _Run] = {}
    speakers: dict[str, set[int]] = {}
    for row in store.connection().execute(*query.order_by(run.start_time.desc(), run.id).sql()):
        if row[1] not in runs:
            runs[row[1]] = _Run(*(*row[:-3], _is_cured(*row[-3:-1])))
        if row[-1] is not None:
            speakers.setdefault(row[1], set()).add(row[-1])
    return list(runs.values()), speakers


def _is_cured(parameters: object, later: str | None) -> bool:
    """Whether one of the later parameters is the same, as ``pending`` compares them."""
    own = canonical(str(parameters))
    return any(canonical(one) == own for one in (later or "").split(_BETWEEN))


def _cures(recording: Any) -> ByEngine:
    """Return the parameters of the later runs on the recording that succeeded as a whole."""
    run, later, other = ProcessingHistory, ProcessingHistory.alias(), ProcessingHistory.alias()
    file = ProcessedFile.alias()
    stems = file.select(file.id).where(file.recording == recording.id)
    files = file.select(file.id).where(file.id == recording.id).union_all(stems)
    failed = other.select(other.id).where(other.run_id == later.run_id, ~other.success)
    query = later.select(later.id).where(
        later.processed_file.in_(files),
        later.start_time > run.start_time,
        later.success,
        # The empty text keeps SQLite from going through all runs of the model instead.
        later.operation_type.concat("") == run.operation_type,
        _same(later.model_type, run.model_type),
        _same(later.model_version, run.model_version),
        ~pw.fn.EXISTS(failed),
    )
    told = (later.parameters.cast("text"), plain(_BETWEEN))
    return ByEngine(
        *(nodes(query.select(fn(*told))) for fn in (pw.fn.GROUP_CONCAT, pw.fn.STRING_AGG))
    )


def _same(a: Any, b: Any) -> ByEngine:
    """Say that two values are equal, or both NULL."""
    return ByEngine(nodes(a, "IS", b), nodes(a, "IS NOT DISTINCT FROM", b))


def _first_line(text: pw.Field) -> pw.ColumnBase:
    """Return the first line in SQL, so that tracebacks stay where they are."""
    newline = pw.fn.char(10)
    shown = pw.fn.ltrim(pw.fn.COALESCE(text, ""), " \t\r\n")
    sqlite = pw.fn.substr(shown, 1, pw.fn.instr(shown.concat(newline), newline) - 1)
    return ByEngine(sqlite, pw.fn.split_part(shown, "\n", 1))


def _of_speaker(
    store: Store, runs: list[_Run], speakers: dict[str, set[int]], whose: Speaker
) -> tuple[list[_Run], int]:
    """Return the runs of a speaker, and how many belong to nobody.

    A run belongs to the speakers of its rows, else to the recording's, else to those of the
    recording's references, else to those of its stems in other runs.
    """
    stems = _speakers_of_stems(store)
    found, without = [], 0
    for run in runs:
        owners: set[Any] = speakers.get(run.run_id) or {run.owner} - {None}
        owners = owners or _references(run.metadata) or stems.get(run.recording, set())
        without += not owners
        if whose.id in owners or whose.name in owners:
            found.append(run)
    return found, without


def _references(metadata: str | None) -> set[str]:
    """Return the names of the speakers that a recording is known to be mixed of."""
    known = read_json(metadata)
    references = known.get("references") if isinstance(known, dict) else None
    return set(references) if isinstance(references, dict) else set()


def _speakers_of_stems(store: Store) -> dict[int, set[int]]:
    file = ProcessedFile
    query = file.select(file.recording, file.speaker).distinct()
    query = query.where(file.recording.is_null(is_null=False), file.speaker.is_null(is_null=False))
    found: dict[int, set[int]] = {}
    for recording, speaker in store.connection().execute(*query.sql()):
        found.setdefault(recording, set()).add(speaker)
    return found


_SHORTEST_NAME: Final = 3
_TOLD: Final = 2_000  # characters of an error that groups go by
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
        groups.setdefault(_pattern(run), []).append(run)
    return sorted(map(_failure, groups.values()), key=lambda group: group.count, reverse=True)


def _pattern(run: _Run) -> str:
    """Return an error without the recording's name, and without numbers, paths and addresses."""
    text = _error(run.error)
    for name in (_path(run.path), run.filename):
        text = text.replace(name, "…") if name and len(name) > _SHORTEST_NAME else text
    return _without_varying(text)


@lru_cache(maxsize=1024)
def _without_varying(text: str) -> str:
    return _VARYING.sub("…", text[:_TOLD])  # a blob in an error would take half a minute


def _error(line: str) -> str:
    return line.strip() or "(no error message)"


def _failure(runs: list[_Run]) -> Failure:
    """Summarize the runs of one error, the newest first."""
    newest = runs[0]
    error = _error(newest.error)
    kind, _, message = error.partition(":")
    models = Counter(model_label(run.model_type, run.model_version) for run in runs)
    return Failure(
        error,
        kind,
        message.strip(),
        len(runs),
        tuple(name for name, _ in models.most_common()),
        moment(newest.start),
        newest.run_id,
        newest.id,
        _path(newest.path),
    )


def _path(stored: str | None) -> str | None:
    return cast("str | None", ProcessedFile.original_path.python_value(stored))
