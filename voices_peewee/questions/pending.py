"""What is left to do: the sources without a successful run of exactly these settings."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

import peewee as pw

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.results import Spec
from voices_peewee.database.store import Store
from voices_peewee.errors import AudioError, InvalidValueError
from voices_peewee.records import audio
from voices_peewee.records.sources import LOOKUP, locate
from voices_peewee.rendering.table import ROWS, Column, cut_note, html_table
from voices_peewee.runs.settings import plain_parameters
from voices_peewee.schema.fields import dump_json, plain_name
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

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
# Up to so many sources are looked up; for more, to read all runs of the model is faster.
_FEW: Final = 10_000


class Pending(Iterator[S]):
    """The sources that are left, as they were given; ``reason`` says why the last one is.

    ``with_reasons`` goes on with pairs of a source and its reason.
    """

    def __init__(self, pairs: Iterator[tuple[S, Reason]]) -> None:
        self._pairs = pairs
        self.reason: Reason | None = None

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
        rows = [(_name(source), reason) for source, reason in first[: ROWS]]
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
) -> Pending[S]:
    """Return an iterator of the sources that have no successful run of exactly these settings.

    Sources come in order and as they are asked for, a recording that is named twice comes once.
    The database is read when the first is asked for. Parameters compare as JSON values, the
    order of keys aside and without ``environment``.

    The reason for a source is what its latest run of these settings came to (``failed``,
    ``unfinished``, ``content changed``), else ``other version or parameters`` where the model
    has another run of this operation, else ``never run``. A file that is gone is not said to
    have changed.

    Args:
        store: The open database.
        sources: Paths, URLs or files of the database.
        operation_type: What is to be done.
        model_type: The model's name; None means runs without a model.
        model_version: The model's version; None means runs without a version.
        parameters: The settings; None means none.
        exact: Compare every file's content; otherwise only where its size or times tell that it
            may have changed since the run began.

    Raises:
        InvalidValueError: ``operation_type`` or a path is empty, or the parameters are no JSON
            object.
        TypeError: A source is neither a path nor a ProcessedFile, or one stands in the place of
            many.

    Example:
        >>> db.pending(["mix/1.wav"], "voice_separation").with_reasons()  # doctest: +SKIP
    """
    operation_type = plain_name(operation_type)
    if not operation_type or not operation_type.strip():
        raise InvalidValueError("a run needs an operation_type")
    if isinstance(sources, str | bytes | os.PathLike | ProcessedFile):
        raise TypeError(f"sources must be a list of paths or files, not {sources!r}")
    wanted = _Settings(operation_type, model_type, model_version, parameters)
    return Pending(_left(store, sources, wanted, exact=exact))


def _left(
    store: Store, sources: Iterable[S], wanted: _Settings, *, exact: bool
) -> Iterator[tuple[S, Reason]]:
    runs = _runs(store, wanted, sources)
    seen: set[str | int] = set()
    for source in sources:
        place = _place(source)
        if place in seen:
            continue
        seen.add(place)
        reason = _reason(place, runs.get(place, []), wanted, exact=exact)
        if reason is not None:
            yield source, reason


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
        plain = plain_parameters(parameters)
        self._text = dump_json(plain)
        self._canonical = _canonical(plain)
        self._known: dict[str, bool] = {self._text: True}

    def match(self, row: _Row) -> bool:
        """Whether a run has exactly these settings; each text is parsed once."""
        if row.version != self.version:
            return False
        known = self._known.get(row.parameters)
        if known is None:
            known = _canonical(json.loads(row.parameters)) == self._canonical
            self._known[row.parameters] = known
        return known


def _canonical(parameters: object) -> str:
    """Return a text that is the same for parameters that are the same."""
    if isinstance(parameters, dict):
        parameters = {key: item for key, item in parameters.items() if key != _ENVIRONMENT}
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
        self._status = None if isinstance(place, int) or "://" in place else _regular_file(place)

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


def _regular_file(path: str) -> os.stat_result | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for each of 100,000 files is half the time
    except (OSError, ValueError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _timestamp(text: str) -> float:
    time = dt.datetime.fromisoformat(text)
    # Another program may have written a time without a zone: ours are UTC.
    return (time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time).timestamp()
