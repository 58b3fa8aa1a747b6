"""Which rows of the database the records of an input are already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from voices_peewee.database.store import Store
from voices_peewee.exchange.import_values import Typed
from voices_peewee.schema.models import BaseModel

Data = dict[str, Any]
Test = Callable[[Data, Data, bool], bool]

LOOKUP: Final = 500  # values in one question


class Rule(NamedTuple):
    """How the rows of a table are known again.

    ``lookup`` names the field, and the value, by which rows that may be the same are found.
    ``is_same`` decides; where its last argument is true the two are surely one row, because
    they were made in the same microsecond.
    """

    lookup: Callable[[Typed], tuple[str, Any]]
    is_same: Test
    made: str


def _speaker_key(typed: Typed) -> tuple[str, Any]:
    return "name", typed.data["name"]


def _same_speaker(theirs: Data, ours: Data, is_one: bool) -> bool:  # noqa: ARG001
    return True


def _file_key(typed: Typed) -> tuple[str, Any]:
    for name in ("original_path", "processed_path", "content_hash"):
        if typed.data[name] is not None:
            return name, typed.data[name]
    return "filename", typed.data["filename"]


def _same_file(theirs: Data, ours: Data, is_one: bool) -> bool:
    if theirs["original_path"] != ours["original_path"] or not _agree(theirs, ours, "content_hash"):
        return False
    if theirs["original_path"] is None and theirs["filename"] != ours["filename"]:
        return False
    if theirs["processed_path"] != ours["processed_path"]:
        # A run's first output fills the row that was made when the run began.
        return is_one and None in (theirs["processed_path"], ours["processed_path"])
    return is_one or _agree(theirs, ours, "speaker")


def _agree(theirs: Data, ours: Data, name: str) -> bool:
    return theirs[name] is None or ours[name] is None or theirs[name] == ours[name]


def _run_key(typed: Typed) -> tuple[str, Any]:
    name = "processed_file" if "run_id" in typed.assumed else "run_id"
    return name, typed.data[name]


_RUN: Final = ("processed_file", "operation_type", "model_type", "model_version")


def _same_run(theirs: Data, ours: Data, is_one: bool) -> bool:  # noqa: ARG001
    if theirs["run_id"] == ours["run_id"]:
        return bool(theirs["processed_file"] == ours["processed_file"])
    return False


def _same_nameless_run(theirs: Data, ours: Data, is_one: bool) -> bool:
    return is_one and all(theirs[name] == ours[name] for name in _RUN)


def _measured_key(typed: Typed) -> tuple[str, Any]:
    return "processing_history", typed.data["processing_history"]


RULES: Final = {
    "speakers": Rule(_speaker_key, _same_speaker, "created_at"),
    "processed_files": Rule(_file_key, _same_file, "created_at"),
    "processing_history": Rule(_run_key, _same_run, "start_time"),
    "model_performance": Rule(_measured_key, _same_speaker, "created_at"),
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
        self._rule = RULES[model._meta.table_name]
        self._claimed: set[int] = set()

    def match(self, batch: Sequence[Typed]) -> list[tuple[Typed, BaseModel | None, bool]]:
        """Return each record with its row, or None, and whether the two are surely one.

        Records that were made at the same time as a row come first; a name alone decides only
        where a single row is left that has it.
        """
        rows = self._candidates(batch)
        found = [self._choose(typed, rows[self._rule.lookup(typed)], True) for typed in batch]
        return [
            (typed, row, True)
            if row is not None
            else (typed, self._choose(typed, rows[self._rule.lookup(typed)], False), False)
            for typed, row in zip(batch, found, strict=True)
        ]

    def _candidates(self, batch: Sequence[Typed]) -> dict[tuple[str, Any], list[BaseModel]]:
        found: dict[tuple[str, Any], list[BaseModel]] = {
            self._rule.lookup(one): [] for one in batch
        }
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

    def _choose(self, typed: Typed, rows: list[BaseModel], surely: bool) -> BaseModel | None:
        fitting = [
            row
            for row in rows
            if row.id not in self._claimed
            and (not surely or self._made_together(typed, row))
            and self._is_same(typed, row.__data__, surely)
        ]
        if not fitting:
            return None
        same = [row for row in fitting if not differences(typed, row)]
        if not same and len(fitting) > 1 and not surely:
            return None
        chosen = (same or fitting)[0]
        self._claimed.add(chosen.id)
        return chosen

    def _is_same(self, typed: Typed, ours: Data, surely: bool) -> bool:
        if self._rule.made == "start_time" and "run_id" in typed.assumed:
            return _same_nameless_run(typed.data, ours, surely or "start_time" in typed.assumed)
        return self._rule.is_same(typed.data, ours, surely)

    def _made_together(self, typed: Typed, row: BaseModel) -> bool:
        made = self._rule.made
        return made not in typed.assumed and typed.data[made] == row.__data__[made]


_EMPTY: Final[tuple[object, ...]] = (None, [], {})
_UNCOMPARED: Final = frozenset({"id", "created_at", "updated_at"})


def differences(typed: Typed, row: BaseModel) -> list[str]:
    """Return the names of the fields in which a record says something else than a row.

    What is empty says nothing: no text, no tags, no metadata.
    """
    ours = row.__data__
    return [
        name
        for name, value in typed.data.items()
        if value != ours[name]
        and value not in _EMPTY
        and name not in _UNCOMPARED
        and name not in typed.assumed
    ]
