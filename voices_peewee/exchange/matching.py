"""Which rows of the database the records of an input are already."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import PurePath
from typing import Any, Final, NamedTuple, TypeVar

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.exchange.values import Typed
from voices_peewee.records.sources import of_content, rows_where
from voices_peewee.runs.claims import INTERRUPTED
from voices_peewee.schema.exact import short
from voices_peewee.schema.fields import plain_json
from voices_peewee.schema.models import BaseModel, ProcessedFile, ProcessingHistory, Speaker

T = TypeVar("T")
Data = dict[str, Any]
Fits = Callable[[Data, Data], bool]
# The rows that each record may be, what decides, and whether any of several will do.
Way = tuple[Sequence[Sequence[BaseModel]], Fits, bool]

_BITS: Final = 6  # 64 ids lie together: ids that are far apart do not take much more room
_MASK: Final = (1 << _BITS) - 1
_TOLD: Final = 3  # values of a conflict
_MADE: Final = ("created_at", "start_time", "voted_at")  # when a row was made
_NAMED: Final = (Speaker, ProcessedFile)  # a name may be that of several


class Ids:
    """Our ids by those of an input, which may have millions: some 11 bytes each."""

    def __init__(self) -> None:
        self._parts: dict[int, array[int]] = {}

    def get(self, key: int) -> int | None:
        """Return our id, or None."""
        part = self._parts.get(key >> _BITS)
        return part[key & _MASK] or None if part else None

    def add(self, key: int, ours: int) -> None:
        """Note our id."""
        part = self._parts.get(key >> _BITS)
        if part is None:
            part = self._parts[key >> _BITS] = array("q", bytes(8 << _BITS))
        part[key & _MASK] = ours


class Rule(NamedTuple):
    """How the rows of a table are known by what they are called.

    Rows that have one of ``keys`` (the first that a record has) may be it; ``is_same`` decides.
    """

    keys: tuple[str, ...]
    is_same: Fits = lambda _, __: True


def _is_same_file(theirs: Data, ours: Data) -> bool:
    same = ["recording", "processed_path", "original_path"]
    same += [] if theirs["original_path"] else ["filename"]
    if any(theirs[name] != ours[name] for name in same):
        return False
    # Of one microsecond it is one row, whose file one of two copies has seen change.
    is_one = _moment(theirs) is not None and _moment(theirs) == _moment(ours)
    if not is_one and not _has_same_content(theirs, ours):
        return False
    return theirs["recording"] is None or _is_same_part(theirs, ours)


def _moment(row: Data) -> datetime | None:
    """Return the microsecond in which a row was made; a time in whole seconds is told."""
    made = row.get("created_at")
    return made if isinstance(made, datetime) and made.microsecond else None


def _has_same_content(theirs: Data, ours: Data) -> bool:
    return len({theirs.get("content_hash"), ours.get("content_hash")} - {None}) < 2


def _is_same_part(theirs: Data, ours: Data) -> bool:
    """Whether a stem or voice is the same speaker's, or the same row with a changed speaker.

    The runs of two records may have written other speakers to one path: each has its own stem.
    """
    if _whose(theirs) == _whose(ours):
        return True
    is_stem = theirs["processed_path"] is not None
    if theirs["created_at"] is None:
        return is_stem and _whose(theirs) == (None, None)
    # A voice may have lost its speaker to a deletion, here or there.
    may_be = is_stem or None in (theirs["speaker"], ours["speaker"])
    return may_be and bool(theirs["created_at"] == ours["created_at"])


def _whose(file: Data) -> tuple[Any, Any]:
    metadata = file["metadata"]
    return file["speaker"], metadata.get("speaker") if isinstance(metadata, dict) else None


_SETTINGS: Final = ("processed_file", "operation_type", "model_type", "model_version")


def _is_same_run(theirs: Data, ours: Data) -> bool:
    if theirs["run_id"]:
        return bool(theirs["processed_file"] == ours["processed_file"])
    is_alike = all(theirs[name] == ours[name] for name in _SETTINGS)
    return is_alike and bool(theirs["start_time"] == ours["start_time"])


_RULES: Final = {
    "speakers": Rule(("name",)),
    "processed_files": Rule(("processed_path", "original_path", "filename"), _is_same_file),
    "environments": Rule(("digest",)),
    "processing_history": Rule(("run_id", "processed_file"), _is_same_run),
    "model_performance": Rule(("processing_history",)),
    "listening_tests": Rule(("name",)),
    "listening_votes": Rule(
        ("session",),
        lambda theirs, ours: (theirs["test"], theirs["trial"]) == (ours["test"], ours["trial"]),
    ),
}


def _end(run: Data) -> int:
    """Say what is known of a run's end: nothing, that it was given up (1), or how it ended (2)."""
    if run.get("end_time") is None:
        return 0
    return 1 if run.get("error_message") == INTERRUPTED else 2


def _goes_on(theirs: Data, ours: Data) -> bool:
    """Whether a run has not ended here or there: its row hangs on the recording at first."""
    ends = {_end(theirs), _end(ours)}
    return bool(theirs.get("run_id")) and (0 in ends or len(ends) > 1)


def _is_copy(theirs: Data, ours: Data) -> bool:
    """Whether a record may be a row of its moment, whatever one of two copies calls it."""
    return all(theirs[name] == ours[name] for name in ("created_at", "recording") if name in ours)


def _is_alike(theirs: Data, ours: Data) -> bool:
    """Whether two rows of one moment end alike; a speaker and a voice have no path."""
    is_alike = _end_of_path(theirs) == _end_of_path(ours)
    return is_alike and _is_copy(theirs, ours) and _has_same_content(theirs, ours)


def _end_of_path(file: Data) -> tuple[str, ...]:
    own = None if file.get("recording") else file.get("original_path")
    return PurePath(file.get("processed_path") or own or "").parts[-2:]


class Matcher:
    """Finds the rows that records are already.

    Args:
        store: The open database.
        model: The table's model.
        last: The id of the last row that was there before the import.
        is_by_name: Whether records without ids may name one file twice: rows of this import, and
            those that another record is already, count too.
    """

    def __init__(
        self, store: Store, model: type[BaseModel], last: int, *, is_by_name: bool
    ) -> None:
        self._is_by_name = is_by_name
        self._store, self._model, self._last = store, model, last
        self._rule = _RULES[model._meta.table_name]
        self._made = next(name for name in _MADE if name in model._meta.fields)
        self._claimed: set[int] = set()
        self._paths: dict[int, str | None] = {}  # of recordings that are elsewhere there

    def match(self, batch: Sequence[Typed]) -> list[BaseModel | None]:
        """Return the row that each record is, or None."""
        for typed in batch:
            if typed.data.get("recording") in self._paths:
                typed.data["original_path"] = self._paths[typed.data["recording"]]
        found: list[BaseModel | None] = [None] * len(batch)
        for rows, fits, any_will_do in self._ways(batch, found):
            for place, typed in enumerate(batch):
                if found[place] is None:
                    fitting = self._fitting(typed, rows[place], fits)
                    found[place] = self._choose(typed, fitting, any_will_do=any_will_do)
        return found

    def _ways(self, batch: Sequence[Typed], found: Sequence[BaseModel | None]) -> Iterator[Way]:
        """Yield by what the records that are left may be known, the surest first.

        That is moment and name, id and moment, moment and content, for what was renamed in a
        record that has other ids a moment of which no other is, and the end of its path; and the
        name alone.
        """
        is_named = self._model in _NAMED
        moments = [_moment(typed.data) if is_named else None for typed in batch]
        keys = [typed.key if moment else None for typed, moment in zip(batch, moments, strict=True)]
        is_alone = {moment for moment, count in Counter(moments).items() if moment and count == 1}
        made, is_same = self._made, self._rule.is_same

        def is_copy(one: Data, other: Data) -> bool:  # in bulk there may be others with its id
            may_be = one[made] in is_alone and _is_copy(one, other)
            return may_be or (_end_of_path(one) != () and _is_alike(one, other))

        def left(values: Iterable[T | None]) -> set[T]:
            return {one for one, row in zip(values, found, strict=True) if one and row is None}

        named = self._called_alike(batch)
        yield named, lambda one, other: one[made] == other[made] and is_same(one, other), True
        copies = self._by("id", self._where("id", sorted(left(keys))))
        yield [copies.get(key, []) for key in keys], is_copy, True
        told = zip(batch, moments, strict=True)
        hashes = [typed.data.get("content_hash") if moment else None for typed, moment in told]
        alike = self._by("content_hash", of_content(self._store, left(hashes)))
        yield [alike.get(one, []) for one in hashes], _is_copy, True
        ids = self._alone(left(moments) & is_alone)
        alone = self._by("created_at", self._where("id", ids))
        yield [alone.get(moment, []) for moment in moments], _is_alike, True
        any_will_do = self._model is not Speaker
        yield named, lambda one, other: is_same(one, other) or _goes_on(one, other), any_will_do

    def _called_alike(self, batch: Sequence[Typed]) -> list[list[BaseModel]]:
        """Return for each record the rows that have the first of its keys."""
        told = [
            next((name, one.data[name]) for name in self._rule.keys if one.data[name] is not None)
            for one in batch
        ]
        by_key = {
            name: self._by(name, self._where(name, {value for key, value in told if key == name}))
            for name in dict(told)
        }
        return [by_key[name].get(value, []) for name, value in told]

    def _where(self, column: str, values: Iterable[Any]) -> Iterator[BaseModel]:
        return rows_where(self._store, self._model, column, values)

    def _by(self, name: str, found: Iterable[BaseModel]) -> dict[Any, list[BaseModel]]:
        """Return the rows that were there before, by what they have in a column."""
        rows: dict[Any, list[BaseModel]] = {}
        for row in found:
            if row.id <= self._last or self._is_by_name:
                rows.setdefault(row.__data__[name], []).append(row)
        return rows

    def _alone(self, moments: Collection[datetime]) -> list[int]:
        """Return the ids of rows that were made when no other was: the others were in bulk."""
        if not moments:
            return []
        made, key = self._model._meta.fields["created_at"], self._model.id
        query = self._model.select(pw.fn.MIN(key)).where(made.in_(moments)).group_by(made)
        with self._store.reading():
            found: Any = query.having(pw.fn.COUNT(key) == 1).tuples()
            return [key for (key,) in found]

    def _fitting(self, typed: Typed, rows: Sequence[BaseModel], fits: Fits) -> list[BaseModel]:
        free = [row for row in rows if self._is_by_name or row.id not in self._claimed]
        return [row for row in free if fits(typed.data, row.__data__)]

    def _choose(
        self, typed: Typed, fitting: Sequence[BaseModel], *, any_will_do: bool
    ) -> BaseModel | None:
        """Return one of the rows that a record may be; None where it may be several."""
        same = [row for row in fitting if not differences(typed, row)]
        if not fitting or (len(fitting) > 1 and not same and not any_will_do):
            return None
        # Of a list's path the newest; else as they come: twins of one bulk are in one order.
        turn = 1 if self._is_by_name else -1
        chosen = max(same or fitting, key=lambda row: (row.id == typed.key, turn * row.id))
        self._claimed.add(chosen.id)
        ours, theirs = chosen.__data__, typed.data
        if ours.get("original_path") != theirs.get("original_path"):
            self._paths[chosen.id] = ours["original_path"]
        if "end_time" in theirs and _end(theirs) < max(_end(ours), 1):
            # Its row says where the run is when it ends.
            theirs["processed_file"] = ours["processed_file"]
        return chosen


_EMPTY: Final[tuple[object, ...]] = (None, [], {})
_UNCOMPARED: Final = frozenset({"id", "created_at", "updated_at", "read_at", "file_stamp"})


def differences(typed: Typed, row: BaseModel) -> list[str]:
    """Return the names of the fields in which a record says something else than a row.

    What is empty says nothing: no text, no tags, no metadata; a run that has no end there yet,
    or was given up, says nothing of one that has ended.
    """
    ours = row.__data__
    if _end(typed.data) < _end(ours):
        return []
    return [
        name
        for name, value in typed.data.items()
        if name not in _UNCOMPARED and value not in _EMPTY and not _is_same(value, ours[name])
    ]


def _is_same(theirs: Any, ours: Any) -> bool:
    """Whether two values are one; of a row of Python as JSON has it, where NaN is a text."""
    with suppress(ValueError, RuntimeError):  # arrays and tensors are no single truth
        if theirs == ours:
            return True
    return isinstance(theirs, dict) and bool(plain_json(theirs) == ours)


def conflict(typed: Typed, row: BaseModel, different: Sequence[str]) -> str:
    """Say which values of a row were kept, and what the record has."""
    told = ", ".join(
        f"{name} {short(row.__data__[name])} (there {short(typed.data[name])})"
        for name in different[:_TOLD]
    )
    more = f" and {len(different) - _TOLD} more" if len(different) > _TOLD else ""
    where = f"{typed.source.label!r}, {typed.place}"
    return f"{where}: {row._meta.table_name} {row.id} keeps its {told}{more}"


def news_of(
    typed: Typed, row: BaseModel, different: Sequence[str], ended: Collection[int]
) -> dict[str, Any]:
    """Return what to write to a row: what it lacks, or all of a run that has ended elsewhere.

    Of the history rows that ``ended`` so, what was measured is known there, too.
    """
    theirs, ours = typed.data, row.__data__
    if isinstance(row, ProcessingHistory) and _end(theirs) > _end(ours):
        return {name: theirs[name] for name in [*different, "error_message"]}
    if ours.get("processing_history") in ended:
        return {name: _joined(ours[name], theirs[name]) for name in different}
    lacking = [name for name in different if ours[name] in _EMPTY]
    return {name: theirs[name] for name in lacking if name != "error_message"}  # of a success


def _joined(ours: Any, theirs: Any) -> Any:
    """Return their value; an object has what only ours knows, too."""
    return {**ours, **theirs} if isinstance(ours, dict) else theirs
