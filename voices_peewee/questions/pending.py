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
    model_type: str | None = None,
    model_version: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    exact: bool = False,
    where: str | Sequence[str] = (),
) -> Pending[S]:
    """Return an iterator of the sources that have no successful run of exactly these settings."""
    operation_type = plain_name(operation_type)
    if not operation_type or not operation_type.strip():
        raise InvalidValueError("a run needs an operation_type")
    if isinstance(sources, str | bytes | os.PathLike | ProcessedFile):
        raise TypeError(f"sources must be a list of paths or files, not {sources!r}")
    wanted = _Settings(operation_type, model_type, model_version, parameters)
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
        if place in seen:
            continue
        seen.add(place)
        if chosen is not None and not chosen.has(place):
            continue
        reason = _reason(place, runs.get(place, []), wanted, exact=exact)
        if reason == "never run":
            _refuse_no_file(source, place)
        if reason is not None:
            yield source, reason


def _refuse_no_file(source: object, place: str | int) -> None:
    """Refuse what a shell hands over instead of files: a folder, a pattern that matched nothing."""
    if isinstance(place, int) or "://" in place:
        return
    status = _status(place)
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise InvalidValueError(f"{str(source)!r} is a folder; name the files in it")
    if status is None and _PATTERN.search(place):
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
    if not isinstance(source, ProcessedFile):
        return locate(source)
    path: str | None = source.original_path
    return source.id if path is None else path


class _Row(NamedTuple):
    """What one history row says, as it is stored."""

    path: str | None
    file_id: int
    file_size: int | None
    content_hash: str | None
    id: int
    run_id: str
    version: str | None
    parameters: str
    start: str
    end: str | None
    success: bool
    source_hash: str | None

    @property
    def order(self) -> tuple[str, int]:
        return self.start, self.id


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
        *(file.original_path, file.id, file.file_size, file.content_hash, run.id, run.run_id),
        *(run.model_version, run.parameters, run.start_time, run.end_time, run.success),
        run.source_hash,
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
        model: str | None,
        version: str | None,
        parameters: Mapping[str, Any] | None,
    ) -> None:
        self.operation_type, self.model = operation_type, model
        self.version = ProcessingHistory.model_version.db_value(version)  # 4.0 is stored as text
        self._canonical = canonical(dump_json(plain_parameters(parameters)))

    def match(self, row: _Row) -> bool:
        """Whether a run has exactly these settings."""
        same = row.version == self.version
        return same and canonical(row.parameters) == self._canonical


@lru_cache(maxsize=1024)
def canonical(text: str) -> str:
    """Return a text that is the same for parameters that are the same, without environment.

    What another program wrote and is no JSON is the same as itself.
    """
    try:
        parameters = json.loads(text)
    except (TypeError, ValueError):
        return str(text)
    if isinstance(parameters, dict):
        parameters.pop(_ENVIRONMENT, None)
    return json.dumps(_whole(parameters), sort_keys=True)


def _whole(value: object) -> object:
    """Spell numbers alike: JSON has one kind of them, and 2.0 is 2."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def _reason(place: str | int, rows: list[_Row], wanted: _Settings, *, exact: bool) -> Reason | None:
    """Return why a source is left, or None where it is done."""
    if not rows:
        return "never run"
    runs = _newest_first(rows, wanted)
    if not runs:
        return "other version or parameters"
    outcomes = [_outcome(run) for run in runs]
    if "content changed" in outcomes:
        content = _Content(place, exact=exact)
        for run, outcome in zip(runs, outcomes, strict=True):
            if outcome == "content changed" and content.was_seen_by(run[0]):
                return None
    return outcomes[0]


def _newest_first(rows: list[_Row], wanted: _Settings) -> list[list[_Row]]:
    """Return the rows of each run that has the settings."""
    if len(rows) == 1:  # as for most sources
        return [rows] if wanted.match(rows[0]) else []
    runs: dict[str, list[_Row]] = {}
    for row in rows:
        if wanted.match(row):
            runs.setdefault(row.run_id, []).append(row)
    return sorted(runs.values(), key=lambda run: max(row.order for row in run), reverse=True)


def _outcome(run: list[_Row]) -> Reason:
    """Return what a run came to; a success that does not count has seen other content."""
    if all(row.success for row in run):
        return "content changed"
    return "failed" if all(row.end or row.success for row in run) else "unfinished"


class _Content:
    """The content of a source's file now, looked at no more than the question needs."""

    __slots__ = ("_digest", "_exact", "_path", "_status")

    def __init__(self, place: str | int, *, exact: bool) -> None:
        self._path, self._exact = str(place), exact
        self._digest: str | None = None
        status = None if isinstance(place, int) or "://" in place else _status(place)
        self._status = status if status and stat.S_ISREG(status.st_mode) else None

    def was_seen_by(self, row: _Row) -> bool:
        """Whether the file is what a run began with, or nobody can tell."""
        status = self._status
        if status is None or row.source_hash is None:
            return True
        # The row's size is that of the content it knows now, perhaps from a later run.
        is_size_known = row.file_size is not None and row.content_hash == row.source_hash
        if is_size_known and row.file_size != status.st_size:
            return False
        # A file that was moved there with its old time is told by its change time.
        touched = max(status.st_mtime, status.st_ctime)
        if not self._exact and touched < _timestamp(row.start) - _CLOCK_SLACK:
            return True
        return self._read() in ("", row.source_hash)

    def _read(self) -> str:
        """Return the digest of the file, read once, or nothing where it cannot be read."""
        if self._digest is None:
            try:
                self._digest = audio.content_hash(self._path)
            except AudioError:
                self._digest = ""
        return self._digest


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - a Path for each of 100,000 files is half the time
    except (OSError, ValueError):
        return None


def _timestamp(text: str) -> float:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:  # what another program wrote: look at the content
        return float("-inf")
    # Another program may have written a time without a zone: ours are UTC.
    return (time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time).timestamp()
