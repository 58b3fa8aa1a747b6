"""Which rows of the database the records of an input are already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from voices_peewee.database.store import Store
from voices_peewee.exchange.values import Typed
from voices_peewee.schema.fields import short
from voices_peewee.schema.models import BaseModel, ProcessedFile, ProcessingHistory

Data = dict[str, Any]

LOOKUP: Final = 500  # values in one question
_TOLD: Final = 3  # values of a conflict


class Rule(NamedTuple):
    """How the rows of a table are known again.

    ``lookup`` names the field, and the value, by which rows that may be the same are found.
    ``is_same`` decides; where its last argument is true the two are surely one row, because
    they were made in the same microsecond, as ``made`` tells.
    """

    lookup: Callable[[Typed], tuple[str, Any]]
    is_same: Callable[[Typed, Data, bool], bool]
    made: str = "created_at"


def _by_path(typed: Typed) -> tuple[str, Any]:
    data = typed.data
    if _is_voice(data):
        return "recording", data["recording"]
    names = ("processed_path", "original_path", "content_hash")
    name = next((name for name in names if data[name] is not None), "filename")
    return name, data[name]


def _is_voice(data: Data) -> bool:
    return data["recording"] is not None and data["processed_path"] is None


def _is_same_file(typed: Typed, ours: Data, is_one: bool) -> bool:
    theirs = typed.data
    same = ["recording", "original_path", "processed_path"]
    if theirs["original_path"] is None:
        same.append("filename")
    if any(theirs[name] != ours[name] for name in same):
        return False
    if not _agree(theirs, ours, "content_hash"):
        return False
    if _is_voice(theirs):
        # One that was here before may have lost its speaker to the deletion that is undone.
        return bool(theirs["speaker"] == ours["speaker"] or (is_one and ours["speaker"] is None))
    return is_one or _agree(theirs, ours, "speaker")


def _agree(theirs: Data, ours: Data, name: str) -> bool:
    return theirs[name] is None or ours[name] is None or theirs[name] == ours[name]


def _by_run(typed: Typed) -> tuple[str, Any]:
    name = "run_id" if _has_name(typed) else "processed_file"
    return name, typed.data[name]


_SETTINGS: Final = ("processed_file", "operation_type", "model_type", "model_version")


def _is_same_run(typed: Typed, ours: Data, is_one: bool) -> bool:
    theirs = typed.data
    if _has_name(typed):
        # Its first output moves a run's row from the recording to the stem.
        has_moved = not is_one and (theirs["end_time"] is None) != (ours["end_time"] is None)
        return bool(theirs["processed_file"] == ours["processed_file"]) or has_moved
    is_alike = all(theirs[name] == ours[name] for name in _SETTINGS)
    return is_alike and (is_one or "start_time" in typed.assumed)


def _has_name(typed: Typed) -> bool:
    return "run_id" in typed.data and "run_id" not in typed.assumed


def _is_found(typed: Typed, ours: Data, is_one: bool) -> bool:  # noqa: ARG001
    return True


_RULES: Final = {
    "speakers": Rule(lambda typed: ("name", typed.data["name"]), _is_found),
    "processed_files": Rule(_by_path, _is_same_file),
    "environments": Rule(lambda typed: ("digest", typed.data["digest"]), _is_found),
    "processing_history": Rule(_by_run, _is_same_run, "start_time"),
    "model_performance": Rule(
        lambda typed: ("processing_history", typed.data["processing_history"]), _is_found
    ),
    "listening_tests": Rule(lambda typed: ("name", typed.data["name"]), _is_found),
    "listening_votes": Rule(
        lambda typed: ("session", typed.data["session"]),
        lambda typed, ours, _: all(typed.data[name] == ours[name] for name in ("test", "trial")),
        "voted_at",
    ),
}


class Matcher:
    """Finds the rows that records are already.

    Args:
        store: The open database.
        model: The table's model.
        last: The id of the last row that was there before the import.
    """

    def __init__(self, store: Store, model: type[BaseModel], last: int) -> None:
        self._store, self._model, self._last = store, model, last
        self._rule = _RULES[model._meta.table_name]
        self._claimed: set[int] = set()

    def match(self, batch: Sequence[Typed]) -> list[tuple[Typed, BaseModel | None, bool]]:
        """Return each record with its row, or None, and whether the two are surely one.

        Records that were made at the same time as a row come first; a name alone decides only
        where a single row is left that has it.
        """
        keys = [self._rule.lookup(typed) for typed in batch]
        rows = self._candidates(keys)
        pairs = list(zip(batch, keys, strict=True))
        found = [self._choose(typed, rows[key], surely=True) for typed, key in pairs]
        return [
            (typed, row or self._choose(typed, rows[key], surely=False), row is not None)
            for (typed, key), row in zip(pairs, found, strict=True)
        ]

    def _candidates(self, keys: list[tuple[str, Any]]) -> dict[tuple[str, Any], list[BaseModel]]:
        found: dict[tuple[str, Any], list[BaseModel]] = {key: [] for key in keys}
        for name in {name for name, _ in found}:
            wanted = iter([value for other, value in found if other == name])
            while some := list(islice(wanted, LOOKUP)):
                for row in self._rows(name, some):
                    found[name, row.__data__[name]].append(row)
        return found

    def _rows(self, name: str, values: list[Any]) -> Iterator[BaseModel]:
        model = self._model
        query = self._store.query(model).where(model._meta.fields[name].in_(values))
        yield from query.where(model.id <= self._last).order_by(model.id).all()

    def _choose(self, typed: Typed, rows: list[BaseModel], *, surely: bool) -> BaseModel | None:
        fitting = [
            row
            for row in rows
            if row.id not in self._claimed
            and (not surely or self._made_together(typed, row))
            and self._rule.is_same(typed, row.__data__, surely)
        ]
        same = [row for row in fitting if not differences(typed, row)]
        if not same and len(fitting) > 1 and not surely and not _has_name(typed):
            return None
        chosen = next(iter(same or fitting), None)
        if chosen is not None:
            self._claimed.add(chosen.id)
        return chosen

    def _made_together(self, typed: Typed, row: BaseModel) -> bool:
        made = self._rule.made
        return made not in typed.assumed and bool(typed.data[made] == row.__data__[made])


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
        if value != ours[name]
        and value not in _EMPTY
        and name not in _UNCOMPARED
        and name not in typed.assumed
    ]


def conflict(typed: Typed, row: BaseModel, different: Sequence[str]) -> str:
    """Say which values of a row were kept, and what the record has."""
    told = ", ".join(
        f"{name} {short(row.__data__[name])} (there {short(typed.data[name])})"
        for name in different[:_TOLD]
    )
    more = f" and {len(different) - _TOLD} more" if len(different) > _TOLD else ""
    where = f"{typed.source.label!r}, {typed.source.unit} {typed.number}"
    return f"{where}: {row._meta.table_name} {row.id} keeps its {told}{more}"


def news_of(
    typed: Typed, row: BaseModel, different: Sequence[str], *, is_one: bool
) -> dict[str, Any]:
    """Return what to write to a row: what it lacks, or all of a run that has ended elsewhere."""
    theirs, ours = typed.data, row.__data__
    if isinstance(row, ProcessingHistory):
        has_ended_there = row.end_time is None and theirs["end_time"] is not None
        return {name: theirs[name] for name in different} if has_ended_there else {}
    news = {name: theirs[name] for name in different if ours[name] in _EMPTY}
    if news and isinstance(row, ProcessedFile) and is_one:
        news["updated_at"] = max(theirs["updated_at"], row.updated_at)
    return news
