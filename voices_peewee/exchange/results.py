"""Results of other tools into the record: to the runs that they are about, or as runs."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.exchange.adding import speakers_named
from voices_peewee.exchange.manifests import read_manifest
from voices_peewee.exchange.places import Model, Place, Places, Row
from voices_peewee.exchange.result_files import ResultFile, Score, read_results
from voices_peewee.exchange.texts import Refused
from voices_peewee.records.audio_files import own_facts
from voices_peewee.records.roots import PathMap, Roots
from voices_peewee.records.sources import LOOKUP, rows_where
from voices_peewee.rendering.plain import locate
from voices_peewee.runs.metrics import NONFINITE, OF_THE_RUN, TAKEN, Metrics, performance
from voices_peewee.runs.past_runs import Plan, write_runs
from voices_peewee.runs.rows import Output
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import ModelPerformance, ProcessingHistory
from voices_peewee.schema.vocabulary import METRIC_COLUMNS, find_metric

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

_IMPL: Final = "metric_impl"
_BETTER: Final = "higher_is_better"
_CHECKED: Final = frozenset([*METRIC_COLUMNS, *TAKEN])
_WRITTEN: Final = " = ?, ".join((*METRIC_COLUMNS, "additional_metrics"))
_UPDATE: Final = f"UPDATE model_performance SET {_WRITTEN} = ? WHERE id = ?"  # noqa: S608


@dataclass
class ImportedResults:
    """What became of results: runs that were ``added``, got values, and have them already.

    ``conflicts`` names values that differ from ours, which are kept.
    """

    format: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    conflicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Values:
    """What is told of one place, with who computed it, and by which row it was first told."""

    first: Score
    start: dt.datetime
    metrics: dict[str, float] = field(default_factory=dict)
    impls: dict[str, list[str]] = field(default_factory=dict)

    def add(self, score: Score) -> Iterator[str]:
        """Take more values; yield a sentence for each that was told otherwise before."""
        names = self.impls.setdefault(score.impl, [])
        for name, value in score.metrics.items():
            if name not in self.metrics:
                self.metrics[name] = value
                names.append(name)
            elif not _same(self.metrics[name], value):
                yield f"{score.where}: {name} is {self.metrics[name]:g} in {self.first.where}"

    def told(
        self, names: Iterable[str], better: Mapping[str, int], before: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the values of metrics, who computed them, and what of them is good."""
        values: dict[str, Any] = {name: self.metrics[name] for name in names}
        impls = [str(before[_IMPL])] if before.get(_IMPL) else []
        for impl, its_names in self.impls.items():
            if some := ", ".join(name for name in its_names if name in values):
                impls.append(f"{impl}: {some}")
        known = {name: better[name] for name in values.keys() & better.keys()}
        if known or _BETTER in before:
            values[_BETTER] = {**before.get(_BETTER, {}), **known}
        return {**values, _IMPL: "; ".join(impls)}


def import_results(
    store: Store,
    paths: Paths,
    *,
    form: str | None,
    model: str | tuple[str, str | None],
    operation_type: str,
    manifest: str | os.PathLike[str] | None,
    path_map: Roots | None,
    higher_is_better: bool | None,
) -> ImportedResults:
    """Record what other tools measured; see ``ExchangeMethods.import_results``."""
    whose, roots, refused = _model(model, operation_type), PathMap(path_map), Refused()
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    with no_full_collection():
        files = read_results(named, form, roots, refused)
        entries = None if manifest is None else read_manifest(manifest, None, roots).entries
        taken: set[str] = set()
        while True:
            job = _Import(store, whose, files)
            job.find(Places(store, whose, entries, roots), refused, higher_is_better)
            try:
                return job.write()
            except InvalidValueError:
                # Another import may have made the same runs meanwhile: they are found now.
                before, taken = taken, job.taken()
                if taken == before:
                    raise


def _model(model: str | tuple[str, str | None], operation_type: str) -> Model:
    if isinstance(model, str):
        before, colon, after = model.rpartition(":")
        model = (before, after or None) if colon else (after, None)
    if not model[0].strip() or not operation_type.strip():
        raise InvalidValueError("results need a model, as demucs:4.0, and an operation_type")
    return Model(operation_type, *model)


def _note_slips(store: Store, model: Model, done: ImportedResults) -> None:
    """Say where new runs are of an operation that the record has not, or lack the version."""
    run = ProcessingHistory
    query = run.select(run.operation_type, run.model_type, run.model_version).distinct()
    with store.reading():
        known: set[tuple[Any, ...]] = {*query.tuples().iterator()}
    operations = {operation for operation, _, _ in known}
    if known and model.operation_type not in operations:
        error = QueryError.unknown_field(model.operation_type, operations, "operation")
        done.notes.append(str(error))
    versions = {version for _, name, version in known if name == model.model_type}
    if model.model_version is None and versions and None not in versions:
        names = [f"{model.model_type}:{version}" for version in versions]
        done.notes.append(str(QueryError.unknown_field(model.model_type, names, "model")))


def _directions(
    values: Iterable[_Values], higher_is_better: bool | None, done: ImportedResults
) -> dict[str, int]:
    """Return what of metrics that nobody knows is good; say where that is not told."""
    names = {name for one in values for name in one.metrics}
    unknown = sorted(name for name in names if not name.startswith("input_") and _unknown(name))
    if higher_is_better is not None:
        return dict.fromkeys(unknown, int(higher_is_better))
    if unknown:
        done.notes.append(f"whether much is good is not known of {', '.join(unknown)}")
    return {}


def _unknown(name: str) -> bool:
    term = find_metric(name)
    return term is None or term.higher_is_better is None


class _Import:
    """The results of files on their way into the record, as it is at this moment."""

    def __init__(self, store: Store, model: Model, files: Sequence[ResultFile]) -> None:
        self._store, self._model, self._files = store, model, files
        self._done = ImportedResults(", ".join(dict.fromkeys(file.format for file in files)))
        self._done.notes = [note for file in files for note in file.notes]
        self._values: dict[Place, _Values] = {}
        self._better: Mapping[str, int] = {}
        self._runs: dict[str, Plan] = {}  # new ones, by their recordings

    def find(self, places: Places, refused: Refused, higher_is_better: bool | None) -> None:
        """Find what each row is about; all that is wrong with rows is refused."""
        empty = 0
        for score, time in ((one, file.time) for file in self._files for one in file.scores):
            if not score.metrics:
                empty += 1
                continue
            try:
                if not _CHECKED.isdisjoint(score.metrics):
                    named = score.metrics.items()
                    Metrics.of({name: value for name, value in named if name in _CHECKED})
                place = places.find(score)
            except (LookupError, InvalidValueError) as error:
                refused.add(score.file, str(error), score.place)
                continue
            if (told := self._values.get(place)) is None:
                told = self._values[place] = _Values(score, time)
            self._done.conflicts += told.add(score)
        refused.end()
        self._note(f"{empty:,} left out: no value at all", empty)
        self._note(
            f"{len(places.several):,} recordings have runs with different parameters; "
            "the latest run has the values",
            len(places.several),
        )
        self._better = _directions(self._values.values(), higher_is_better, self._done)
        if any(not place.rows for place in self._values):
            _note_slips(self._store, self._model, self._done)

    def _note(self, sentence: str, count: int) -> None:
        self._done.notes += [sentence] if count else []

    def taken(self) -> set[str]:
        """Return which of the new runs are in the record already."""
        ids = [plan.history["run_id"] for plan in self._runs.values()]
        return {row.run_id for row in rows_where(self._store, ProcessingHistory, "run_id", ids)}

    def write(self) -> ImportedResults:
        """Write everything in one transaction, behind the names of new speakers."""
        fresh = {place: told for place, told in self._values.items() if not place.rows}
        with self._store.writing():
            names = sorted({one.speaker for one in fresh if one.speaker})
            speakers = speakers_named(self._store, names)
        for place, told in fresh.items():
            if place.recording not in self._runs:
                self._runs[place.recording] = _new_run(self._model, place.recording, told.start)
            run = self._runs[place.recording]
            metrics = Metrics.of(told.told(told.metrics, self._better, {}))
            if place.output or place.speaker:
                path, speaker = place.output or "", speakers.get(place.speaker or "")
                facts = own_facts(path) if path else {}
                run.outputs[path or speaker] = Output(path, speaker, metrics, facts)
            else:
                run.logged = metrics
        write_runs(self._store, [*self._runs.values()], self._fill)
        self._done.added = len(self._runs)
        return self._done

    def _fill(self) -> None:
        """Give runs that are here what they lack, inside the transaction."""
        self._store.engine.lock("results")  # two imports would undo each other's values
        pairs = ((row, place) for place in self._values for row in place.rows)
        touched, kept, later = set[str](), set[str](), set[str]()
        while some := list(islice(pairs, LOOKUP)):
            changed = self._fill_some(some)
            for row, place in some:
                (touched if row.id in changed else kept).add(row.run_id)
                if row.id in changed and _is_later(row, self._values[place].start):
                    later.add(row.run_id)
        sentence = f"{len(later):,} runs began after their results were written: are they theirs?"
        self._note(sentence, len(later))
        self._done.updated, self._done.unchanged = len(touched), len(kept - touched)

    def _fill_some(self, pairs: Sequence[tuple[Row, Place]]) -> Collection[int]:
        """Give some history rows what they lack; return the ids of those that lacked something."""
        ids = {row.id for row, _ in pairs}
        measured = rows_where(self._store, ModelPerformance, "processing_history", ids)
        known = {one.processing_history_id: one for one in measured}
        changed: dict[int, ModelPerformance] = {}
        for row, place in pairs:
            if row.id not in known:
                none = Metrics()
                blank = performance(self._model.columns, row.id, none, none, none, duration=None)
                known[row.id] = ModelPerformance(**blank)
            if self._take(known[row.id], place):
                changed[row.id] = known[row.id]
        self._store.insert_all([one for one in changed.values() if one.id is None])
        self._store.connection().executemany(
            _UPDATE,
            (
                (
                    *(one.__data__[name] for name in METRIC_COLUMNS),
                    dump_json(one.additional_metrics),
                    one.id,
                )
                for one in changed.values()
            ),
        )
        return changed

    def _take(self, row: ModelPerformance, place: Place) -> bool:
        """Give a row what it lacks; an output's own value goes before the whole run's."""
        told, additional = self._values[place], dict(row.additional_metrics or {})
        run_level, fresh = additional.pop(OF_THE_RUN, []), []
        for name, value in told.metrics.items():
            ours = row.__data__[name] if name in METRIC_COLUMNS else additional.get(name)
            if ours is None:
                fresh.append(name)
            elif not _same(ours, value) and not (place.of_run and name not in run_level):
                kept = f"{name} is {value:g}, and {ours!r} here, which is kept"
                self._done.conflicts.append(f"{told.first.where}: {kept}")
        if not fresh:
            return False
        values = told.told(fresh, self._better, additional)
        for name in values.keys() & {*METRIC_COLUMNS}:
            setattr(row, name, values.pop(name))
        nonfinite = additional.pop(NONFINITE, {})
        if nonfinite := {name: text for name, text in nonfinite.items() if name not in fresh}:
            additional[NONFINITE] = nonfinite
        if run_level := sorted({*run_level, *(fresh if place.of_run else ())}):
            additional[OF_THE_RUN] = run_level
        row.additional_metrics = {**additional, **values}
        return True


def _is_later(row: Row, time: dt.datetime) -> bool:
    """Whether a run began behind a time, so that what was written then is maybe of another."""
    began = ProcessingHistory.start_time.python_value(row.start)
    return isinstance(began, dt.datetime) and began > time


def _new_run(model: Model, recording: str, start: dt.datetime) -> Plan:
    """Return the run of a recording that has none, with a name that tells it again."""
    name = "\0".join(("results", *map(str, model), recording))
    run_id = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    times = {"start_time": start, "end_time": start}
    history = {**model.columns, "run_id": run_id, "parameters": {}, "success": True, **times}
    return Plan(history, None, Metrics(), locate(recording), True, Metrics(), {})


def _same(ours: object, value: float) -> bool:
    return isinstance(ours, int | float) and math.isclose(ours, value, rel_tol=1e-9, abs_tol=1e-12)
