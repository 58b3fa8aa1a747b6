"""What is left to do: the sources without a successful run of exactly these settings."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

import peewee as pw

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.results import Spec
from voices_peewee.database.store import Store
from voices_peewee.errors import AudioError, InvalidValueError, QueryError
from voices_peewee.records import audio
from voices_peewee.records.sources import LOOKUP, locate
from voices_peewee.rendering.table import ROWS, Column, cut_note, html_table
from voices_peewee.runs.settings import plain_parameters
from voices_peewee.schema.fields import dump_json, plain_name
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory
from voices_peewee.search.columns import LISTS
from voices_peewee.search.pages import matching
from voices_peewee.search.words import Match, Not, parse

if TYPE_CHECKING:
    import pandas as pd

Reason = Literal[
    "never run", "failed", "unfinished", "content changed", "other version or parameters"
]
S = TypeVar("S", bound=str | os.PathLike[str] | ProcessedFile)

# What track() adds by itself; it is no setting of the run.
_ENVIRONMENT: Final = "environment"
# A file system's clock may be this much coarser than ours (s): FAT counts in twos.
_CLOCK_SLACK: Final = 2.0
_PATTERN: Final = re.compile(r"[*?]|\[.+\]")
# An absolute path that is as short as it can be.
_PLAIN: Final = re.compile(r"(?:/[^/.][^/]*)+")
# Up to so many sources are looked up; for more, to read all runs of the model is faster.
_FEW: Final = 10_000


class Pending(Iterator[S]):
    """The sources that are left, as they were given; ``reason`` says why the last one is.

    ``with_reasons`` goes on with pairs of a source and its reason. ``unknown`` counts the sources
    so far that ``where`` left out because the record does not know them.
    """

    def __init__(self, pairs: Iterator[tuple[S, Reason]], chosen: _Chosen | None = None) -> None:
        self._pairs, self._chosen = pairs, chosen
        self.reason: Reason | None = None

    @property
    def unknown(self) -> int:
        """How many sources ``where`` left out because the record does not know them."""
        return 0 if self._chosen is None else self._chosen.unknown

    def __next__(self) -> S:
        source, self.reason = next(self._pairs)
        return source

    def with_reasons(self) -> Iterator[tuple[S, Reason]]:
        """Yield the sources that are left, each with its reason."""
        yield from self._pairs

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame of the sources that are still to come, with their reasons.

        They stay to come: the next one is what it was.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from voices_peewee.rendering.frames import frame, load_pandas

        load_pandas()  # before anything is looked at
        pairs = list(self._pairs)
        self._pairs = iter(pairs)
        return frame(_SPECS, iter([[(_name(source), reason) for source, reason in pairs]]))

    def _repr_html_(self) -> str:
        first = list(islice(self._pairs, ROWS + 1))
        self._pairs = chain(first, self._pairs)
        rows = [(_name(source), reason) for source, reason in first[:ROWS]]
        total = len(rows) if len(first) == len(rows) else None
        note = cut_note(len(rows), total, "source")
        columns = [Column("pending", "path"), Column("reason")]
        return html_table(columns, rows, note=note)


_SPECS: Final = (Spec("source", "path", nullable=False), Spec("reason", "text", nullable=False))


def _name(source: str | os.PathLike[str] | ProcessedFile) -> str:
    if isinstance(source, ProcessedFile):
        return str(source.original_path or f"file {source.id}")
    return os.fsdecode(source)


def pending(
    store: Store,
    sources: Iterable[S],
    operation_type: str,
    *,
    exact: bool,
    where: str | Sequence[str],
    **settings: Any,
) -> Pending[S]:
    """Return an iterator of the sources that have no successful run of exactly these settings."""
    operation_type = plain_name(operation_type)
    if not operation_type or not operation_type.strip():
        raise InvalidValueError("a run needs an operation_type")
    if isinstance(sources, str | bytes | os.PathLike | ProcessedFile):
        raise TypeError(f"sources must be a list of paths or files, not {sources!r}")
    wanted = _Settings(operation_type, **settings)
    chosen = _Chosen(store, where) if where else None
    pairs = _left(store, sources, wanted, exact=exact, chosen=chosen)
    return Pending(pairs, chosen)


def _left(
    store: Store,
    sources: Iterable[S],
    wanted: _Settings,
    *,
    exact: bool,
    chosen: _Chosen | None,
) -> Iterator[tuple[S, Reason]]:
    runs = _runs(store, wanted, sources)
    seen: set[str | int] = set()
    for source in sources:
        place = _place(source)
        if place in seen or (chosen is not None and not chosen.has(place)):
            continue
        seen.add(place)
        reason: Reason | None = "never run"
        if rows := runs.get(place):
            reason = _reason(place, rows, wanted, exact=exact)
        elif isinstance(place, str) and "://" not in place:
            _refuse_no_file(source, place)
        if reason is not None:
            yield source, reason


def _refuse_no_file(source: object, path: str) -> None:
    """Refuse what a shell hands over instead of files: a folder, a pattern that matched nothing."""
    # Only a folder has something below it; half the time of asking for the path's own facts.
    if "\0" not in path and os.access(f"{path}/.", os.F_OK):
        raise InvalidValueError(f"{str(source)!r} is a folder; name the files in it")
    if _PATTERN.search(path) and not os.path.lexists(path):
        raise InvalidValueError(f"no file matches {str(source)!r}")


class _Chosen:
    """The recordings that query words match, read when the first is asked for."""

    def __init__(self, store: Store, words: str | Sequence[str]) -> None:
        self._store, self.unknown = store, 0
        fields = LISTS["files"].fields
        for term in parse(words):
            inner = term.term if isinstance(term, Not) else term
            if not isinstance(inner, Match) or inner.field not in fields:
                continue
            if fields[inner.field].asked_of == "run":
                raise QueryError(
                    f"{inner.name!r} is about runs; pending takes words about recordings"
                )
        self._matching = matching(store, "files", words)

    def has(self, place: str | int) -> bool:
        """Whether a source matches; one that the record does not know does not, and is counted."""
        known = self._known.get(place)
        self.unknown += known is None
        return bool(known)

    @cached_property
    def _known(self) -> dict[str | int, bool]:
        file = ProcessedFile
        query = file.select(file.original_path, file.id, file.id.in_(self._matching))
        query = query.where(file.recording.is_null())
        with self._store.reading(), no_full_collection:
            rows = self._store.connection().execute(*query.sql())
            return {
                number if path is None else str(file.original_path.python_value(path)): bool(match)
                for path, number, match in rows
            }


def _place(source: str | os.PathLike[str] | ProcessedFile) -> str | int:
    """Return what a source's runs are found by: the recording's path, else the row's id."""
    if isinstance(source, str) and _PLAIN.fullmatch(source) and os.sep == "/":
        return source  # for 100,000 paths, a third of the time
    if not isinstance(source, ProcessedFile):
        return locate(source)
    path: str | None = source.original_path
    return source.id if path is None else path


class _Row(NamedTuple):
    """What one history row says, as it is stored."""

    path: str | None
    file_id: int
    id: int
    run_id: str
    version: str | None
    parameters: str
    start: str
    end: str | None
    success: bool
    source_hash: str | None


def _runs(
    store: Store, wanted: _Settings, sources: Iterable[str | os.PathLike[str] | ProcessedFile]
) -> dict[str | int, list[_Row]]:
    """Return the runs of the operation by the model, by place: all, or those of few sources."""
    file = ProcessedFile
    found: dict[str | int, list[_Row]] = {}
    with store.reading(), no_full_collection:
        for query in _queries(wanted, sources):
            for values in store.connection().execute(*query.sql()):
                path = values[0]
                if path is not None and not path.isascii():
                    path = str(file.original_path.python_value(path))
                found.setdefault(values[1] if path is None else path, []).append(_Row(*values))
    return found


def _queries(
    wanted: _Settings, sources: Iterable[str | os.PathLike[str] | ProcessedFile]
) -> Iterator[pw.ModelSelect[Any]]:
    """Yield one query for all runs; where there are few sources, one for 500 of them each."""
    file, run = ProcessedFile, ProcessingHistory
    columns = (
        *(file.original_path, file.id, run.id, run.run_id, run.model_version, run.parameters),
        *(run.start_time, run.end_time, run.success, run.source_hash),
    )
    has_model = run.model_type.is_null() if wanted.model is None else run.model_type == wanted.model
    if not isinstance(sources, Sequence) or len(sources) > _FEW:
        every_run = run.select(*columns).join(file)
        yield every_run.where(run.operation_type == wanted.operation_type, has_model)
        return
    # CROSS and the empty text keep SQLite from going through all runs of the model instead.
    query = file.select(*columns).join_from(file, run, pw.JOIN.CROSS)
    has_operation = run.operation_type.concat("") == wanted.operation_type
    query = query.where(run.processed_file == file.id, has_operation, has_model)
    places = set(map(_place, sources))
    for field, kind in ((file.original_path, str), (file.id, int)):
        left = iter([place for place in places if isinstance(place, kind)])
        while some := list(islice(left, LOOKUP)):
            yield query.where(field.in_(some))


class _Settings:
    """What a run must have been made with to count."""

    def __init__(
        self,
        operation_type: str,
        model_type: str | None,
        model_version: object,
        parameters: Mapping[str, Any] | None,
    ) -> None:
        self.operation_type, self.model = operation_type, model_type
        # 4.0 is stored as text
        self.version = ProcessingHistory.model_version.db_value(model_version)
        self._canonical = _canonical(dump_json(plain_parameters(parameters)))

    def match(self, row: _Row) -> bool:
        """Whether a run has exactly these settings."""
        same = row.version == self.version
        return same and _canonical(row.parameters) == self._canonical


@lru_cache(maxsize=1024)
def _canonical(text: str) -> str:
    """Return a text that is the same for parameters that are the same, without environment.

    What another program wrote and is no JSON is the same as itself.
    """
    try:
        parameters = json.loads(text, parse_float=_number)
    except (ValueError, RecursionError):
        return text
    if isinstance(parameters, dict) and isinstance(parameters.get(_ENVIRONMENT), dict):
        del parameters[_ENVIRONMENT]
    return json.dumps(parameters, sort_keys=True)


def _number(text: str) -> float:
    """Read numbers alike: JSON has one kind of them, and 2.0 is 2."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _reason(place: str | int, rows: list[_Row], wanted: _Settings, *, exact: bool) -> Reason | None:
    """Return why a source is left, or None where it is done."""
    runs: dict[str, list[_Row]] = {}
    for row in filter(wanted.match, rows):
        runs.setdefault(row.run_id, []).append(row)
    if not runs:
        return "other version or parameters"
    outcomes = {run_id: _outcome(run) for run_id, run in runs.items()}
    successes = [runs[run_id][0] for run_id, outcome in outcomes.items() if outcome is None]
    if successes and _is_seen(place, successes, exact=exact):
        return None
    latest = max(runs, key=lambda run_id: max((row.start, row.id) for row in runs[run_id]))
    return outcomes[latest] or "content changed"


def _outcome(run: list[_Row]) -> Reason | None:
    """Return what a run came to, None for a success."""
    if all(row.success for row in run):
        return None
    return "failed" if all(row.end or row.success for row in run) else "unfinished"


def _is_seen(place: str | int, successes: list[_Row], *, exact: bool) -> bool:
    """Whether a run began with the file as it is now, or nobody can tell."""
    known = {row.source_hash for row in successes}
    touched = None if None in known or isinstance(place, int) else _touched(place)
    if touched is None:
        return True
    starts = filter(None, (moment(row.start) for row in successes))
    if not exact and any(touched < start.timestamp() - _CLOCK_SLACK for start in starts):
        return True
    try:
        return audio.content_hash(str(place)) in known
    except AudioError:
        return True


def _touched(path: str) -> float | None:
    """Return when a file was last written, or moved there with its old time."""
    if "://" in path:
        return None
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path is half the time
    except (OSError, ValueError):
        return None
    return max(status.st_mtime, status.st_ctime) if stat.S_ISREG(status.st_mode) else None


def moment(stored: str) -> dt.datetime | None:
    """Return a start time as it is stored; None for what another program wrote and is none."""
    try:
        time = ProcessingHistory.start_time.python_value(stored)
    except ValueError:
        return None
    return time if isinstance(time, dt.datetime) else None
