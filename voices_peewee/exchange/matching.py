"""Which rows of the database the records of an input are already."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.exchange.values import Typed
from voices_peewee.records.sources import rows_where
from voices_peewee.schema.exact import short
from voices_peewee.schema.fields import plain_json
from voices_peewee.schema.models import BaseModel, ProcessedFile, ProcessingHistory, Speaker

Data = dict[str, Any]

_BITS: Final = 6  # 64 ids lie together: ids that are far apart do not take much more room
_MASK: Final = (1 << _BITS) - 1
_TOLD: Final = 3  # values of a conflict
_MADE: Final = ("created_at", "start_time", "voted_at")  # when a row was made


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
    """How the rows of a table are known again.

    Rows that have one of ``keys`` (the first that a record has) may be it; ``is_same`` decides.
    """

    keys: tuple[str, ...]
    is_same: Callable[[Data, Data], bool] = lambda _, __: True


def _is_same_file(theirs: Data, ours: Data) -> bool:
    same = ["recording", "processed_path", "original_path"]
    same += [] if theirs["original_path"] else ["filename"]
    hashes = {theirs["content_hash"], ours["content_hash"]} - {None}
    if len(hashes) > 1 or any(theirs[name] != ours[name] for name in same):
        return False
    return theirs["recording"] is None or _is_same_part(theirs, ours)


def _is_same_part(theirs: Data, ours: Data) -> bool:
    """Whether a stem or voice is the same speaker's, or the same row with a changed speaker.

    The runs of two records may have written other speakers to one path: each has its own stem.
    """
    if _whose(theirs) == _whose(ours):
        return True
    is_same_row = theirs["created_at"] == ours["created_at"]
    if theirs["processed_path"] is None:
        # A voice may have lost its speaker to a deletion, here or there.
        return is_same_row and None in (ours["speaker"], theirs["speaker"])
    tells_nobody = theirs["created_at"] is None and _whose(theirs) == (None, None)
    return is_same_row or tells_nobody


def _whose(file: Data) -> tuple[Any, Any]:
    metadata = file["metadata"]
    return file["speaker"], metadata.get("speaker") if isinstance(metadata, dict) else None


_SETTINGS: Final = ("processed_file", "operation_type", "model_type", "model_version")


def _is_same_run(theirs: Data, ours: Data) -> bool:
    if theirs["run_id"]:
        return bool(theirs["processed_file"] == ours["processed_file"])
    is_alike = all(theirs[name] == ours[name] for name in _SETTINGS)
    return is_alike and theirs["start_time"] in (ours["start_time"], None)


def _may_be_moved(typed: Typed, row: BaseModel) -> bool:
    """Whether a record of a row's moment may be it, called otherwise in one of two copies."""
    theirs, ours = typed.data, row.__data__
    if theirs["created_at"] != ours["created_at"] or isinstance(row, Speaker):
        return bool(theirs["created_at"] == ours["created_at"])
    hashes = {theirs["content_hash"], ours["content_hash"]} - {None}
    return len(hashes) < 2 and bool(theirs["recording"] == ours["recording"])


def _end_of_path(file: Data) -> tuple[str, ...]:
    """Return the name of a file and of its folder; a voice has none of its own."""
    own = None if file.get("recording") else file.get("original_path")
    return PurePath(file.get("processed_path") or own or "").parts[-2:]


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
        self._claimed: set[int] = set()
        self._paths: dict[int, str | None] = {}  # of recordings that are elsewhere there

    def match(self, batch: Sequence[Typed]) -> list[BaseModel | None]:
        """Return the row that each record is, or None.

        Records with a row's id and moment are it, then those of its moment and name; what they
        are called alone decides only where a single row is left. Last, what has another id and
        was moved is known by its moment and the end of its path.
        """
        for typed in batch:
            if typed.data.get("recording") in self._paths:
                typed.data["original_path"] = self._paths[typed.data["recording"]]
        found: list[BaseModel | None] = [None] * len(batch)
        moments = self._moments(batch)
        self._find_copies(batch, moments, found)
        candidates = self._candidates(batch)
        for surely in (True, False):
            for place, (typed, rows) in enumerate(candidates):
                if found[place] is None:
                    found[place] = self._choose(typed, rows, surely=surely)
        self._find_moved(batch, moments, found)
        return found

    def _moments(self, batch: Sequence[Typed]) -> dict[int, datetime]:
        """Return the microseconds in which records were made; a time in whole seconds is told."""
        if self._model not in (Speaker, ProcessedFile):
            return {}
        made = ((place, typed.data["created_at"]) for place, typed in enumerate(batch))
        return {
            place: moment
            for place, moment in made
            if isinstance(moment, datetime) and moment.microsecond
        }

    def _find_copies(
        self, batch: Sequence[Typed], moments: dict[int, datetime], found: list[BaseModel | None]
    ) -> None:
        """Find rows by id and moment: those of another copy of the record, whatever their names."""
        rows = self._by_id({batch[place].key or 0 for place in moments})
        for place in moments:
            row = rows.get(batch[place].key or 0)
            if row is not None and _may_be_moved(batch[place], row):
                self._take(batch[place], row)
                found[place] = row

    def _find_moved(
        self, batch: Sequence[Typed], moments: dict[int, datetime], found: list[BaseModel | None]
    ) -> None:
        """Find rows by a moment of which no other is, and the end of their path."""
        often = Counter(moments.values())
        lost = {place: moments[place] for place in moments if found[place] is None}
        alone = self._alone([moment for moment in lost.values() if often[moment] == 1])
        rows = self._by_id({*alone.values()})
        for place, moment in lost.items():
            typed, row = batch[place], rows.get(alone.get(moment, 0))
            if row is None or row.id in self._claimed or not _may_be_moved(typed, row):
                continue
            if () != _end_of_path(typed.data) == _end_of_path(row.__data__):
                self._take(typed, row)
                found[place] = row

    def _take(self, typed: Typed, row: BaseModel) -> None:
        self._claimed.add(row.id)
        path = row.__data__.get("original_path")
        if path != typed.data.get("original_path"):
            self._paths[row.id] = path

    def _by_id(self, keys: set[int]) -> dict[int, BaseModel]:
        rows = rows_where(self._store, self._model, "id", sorted(keys))
        return {row.id: row for row in rows if row.id <= self._last}

    def _alone(self, moments: Sequence[datetime]) -> dict[datetime, int]:
        """Return the ids of rows that were made when no other was: the others were in bulk."""
        if not moments:
            return {}
        made, key = self._model._meta.fields["created_at"], self._model.id
        query = self._model.select(made, pw.fn.MIN(key)).where(made.in_(moments))
        query = query.group_by(made).having(pw.fn.COUNT(key) == 1)
        found: Any = query.tuples()
        with self._store.reading():
            return dict(list(found))

    def _candidates(self, batch: Sequence[Typed]) -> list[tuple[Typed, list[BaseModel]]]:
        keys = [self._key(typed.data) for typed in batch]
        rows: dict[tuple[str, Any], list[BaseModel]] = {key: [] for key in keys}
        for name in {name for name, _ in keys}:
            values = [value for other, value in rows if other == name]
            for row in rows_where(self._store, self._model, name, values):
                if row.id <= self._last or self._is_by_name:
                    rows[name, row.__data__[name]].append(row)
        return [(typed, rows[key]) for typed, key in zip(batch, keys, strict=True)]

    def _key(self, told: Data) -> tuple[str, Any]:
        return next((name, told[name]) for name in self._rule.keys if told[name] is not None)

    def _choose(self, typed: Typed, rows: list[BaseModel], *, surely: bool) -> BaseModel | None:
        free = [row for row in rows if self._is_by_name or row.id not in self._claimed]
        fitting = [row for row in free if self._fits(typed.data, row.__data__, surely=surely)]
        same = [row for row in fitting if not differences(typed, row)]
        if not same and len(fitting) > 1 and not surely and not typed.data.get("run_id"):
            return None
        chosen = min(same or fitting, key=lambda row: row.id != typed.key, default=None)
        if chosen is not None:
            self._claimed.add(chosen.id)
            if self._has_moved(typed.data, chosen.__data__, here=True):
                typed.data["processed_file"] = chosen.__data__["processed_file"]
        return chosen

    def _fits(self, theirs: Data, ours: Data, *, surely: bool) -> bool:
        made = next(name for name in _MADE if name in theirs)
        if surely and theirs[made] != ours[made]:
            return False
        if self._rule.is_same(theirs, ours):
            return True
        sides = (False, True)
        return not surely and any(self._has_moved(theirs, ours, here=here) for here in sides)

    def _has_moved(self, theirs: Data, ours: Data, *, here: bool) -> bool:
        """Whether the row of a run that goes on is at its first output already, here or there.

        It hung on the recording, or a voice, before.
        """
        if not theirs.get("run_id") or None not in (theirs["end_time"], ours["end_time"]):
            return False
        before, after = (theirs, ours) if here else (ours, theirs)
        if before["processed_file"] == after["processed_file"]:
            return False
        file = self._store.get(ProcessedFile, before["processed_file"])
        return file is not None and file.processed_path is None


_MOVED: Final = frozenset({"processed_file"})
_EMPTY: Final[tuple[object, ...]] = (None, [], {})
_UNCOMPARED: Final = frozenset({"id", "created_at", "updated_at", "read_at"})


def differences(typed: Typed, row: BaseModel) -> list[str]:
    """Return the names of the fields in which a record says something else than a row.

    What is empty says nothing: no text, no tags, no metadata; a run that has no end there yet
    says nothing of one that has ended.
    """
    ours = row.__data__
    if typed.data.get("end_time", ...) is None and ours["end_time"] is not None:
        return []
    return [
        name
        for name, value in typed.data.items()
        if name not in _UNCOMPARED and value not in _EMPTY and not _is_same(value, ours[name])
    ]


def _is_same(theirs: Any, ours: Any) -> bool:
    """Whether two values are one; of a row of Python as JSON has it, where NaN is a text."""
    return theirs == ours or (isinstance(theirs, dict) and bool(plain_json(theirs) == ours))


def conflict(typed: Typed, row: BaseModel, different: Sequence[str]) -> str:
    """Say which values of a row were kept, and what the record has."""
    told = ", ".join(
        f"{name} {short(row.__data__[name])} (there {short(typed.data[name])})"
        for name in different[:_TOLD]
    )
    more = f" and {len(different) - _TOLD} more" if len(different) > _TOLD else ""
    where = f"{typed.source.label!r}, {typed.place}"
    return f"{where}: {row._meta.table_name} {row.id} keeps its {told}{more}"


def news_of(typed: Typed, row: BaseModel, different: Sequence[str]) -> dict[str, Any]:
    """Return what to write to a row: what it lacks, or all of a run that has ended elsewhere."""
    theirs, ours = typed.data, row.__data__
    if isinstance(row, ProcessingHistory):
        # Of two that go on the other one is further at most by its first output.
        names = different if theirs["end_time"] is not None else _MOVED & {*different}
        return {} if row.end_time is not None else {name: theirs[name] for name in names}
    return {name: theirs[name] for name in different if ours[name] in _EMPTY}
