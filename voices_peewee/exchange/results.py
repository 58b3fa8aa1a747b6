"""Results of other tools into the record: to the runs that they are about, or as runs."""

from __future__ import annotations

import datetime as dt
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain, islice
from typing import Any, Final

from voices_peewee.database.query import mapper, no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError
from voices_peewee.exchange.adding import speakers_named
from voices_peewee.exchange.manifests import Entry, read_manifest
from voices_peewee.exchange.places import Place, Places, Row, is_whole, run_id_of
from voices_peewee.exchange.result_files import Score, read_results
from voices_peewee.exchange.texts import Refused
from voices_peewee.records.audio_files import own_facts
from voices_peewee.records.roots import Moved, PathMap, Roots
from voices_peewee.records.sources import LOOKUP, rows_where
from voices_peewee.runs.metrics import NONFINITE, OF_THE_RUN, Metrics
from voices_peewee.runs.past_runs import Plan, write_runs
from voices_peewee.runs.rows import Output
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import ModelPerformance, ProcessingHistory
from voices_peewee.schema.vocabulary import METRIC_COLUMNS, find_metric

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Model = dict[str, str | None]

_IMPL: Final = "metric_impl"
_BETTER: Final = "higher_is_better"
_MEASURED: Final = (*METRIC_COLUMNS, "additional_metrics")
_UPDATE: Final = f"UPDATE model_performance SET {' = ?, '.join(_MEASURED)} = ? WHERE id = ?"  # noqa: S608


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
        scores, notes = read_results(named, form, roots, refused)
        entries = None if manifest is None else read_manifest(manifest, None, roots)[1]
        job = _Import(store, whose, entries, ImportedResults(", ".join(scores), notes=notes))
        notes += job.find(list(chain(*scores.values())), refused).doubts()
        job.direct(higher_is_better)
        return job.write()


def _model(model: str | tuple[str, str | None], operation_type: str) -> Model:
    """Return the columns of a history row that say whose results they are."""
    if isinstance(model, str):
        before, colon, after = model.rpartition(":")
        model = (before, after or None) if colon else (after, None)
    if not model[0].strip() or not operation_type.strip():
        raise InvalidValueError("results need a model, as demucs:4.0, and an operation_type")
    return {"operation_type": operation_type, "model_type": model[0], "model_version": model[1]}


class _Import:
    """The results of files on their way into the record."""

    def __init__(
        self, store: Store, model: Model, entries: Sequence[Entry] | None, done: ImportedResults
    ) -> None:
        self._store, self._model, self._done = store, model, done
        self._places = partial(Places, store, model, entries, cache(Moved(store).find))
        self._scores: dict[Place, list[Score]] = {}
        self._better: dict[str, int] = {}

    def find(self, scores: Iterable[Score], refused: Refused) -> Places:
        """Find what each row is about; all that is wrong with rows is refused."""
        places, empty = self._places(), 0
        # Whole outputs first, and of those who their speaker is: others may mean the same.
        for score in sorted(scores, key=lambda one: (not is_whole(one.output), not one.speaker)):
            if not score.metrics:
                empty += 1
                continue
            try:
                self._scores.setdefault(places.find(score), []).append(score)
            except LookupError as error:
                refused.add(score.reading.path, str(error), score.place)
        refused.end()
        self._note("left out: no value at all", empty)
        several = "recordings have runs with different parameters; the latest run has the values"
        self._note(several, len(places.several))
        return places

    def _note(self, sentence: str, count: int) -> None:
        self._done.notes += [f"{count:,} {sentence}"] if count else []

    def direct(self, higher_is_better: bool | None) -> None:
        """Take what is told of metrics that nobody knows; say where nothing is."""
        names = {name for one in chain(*self._scores.values()) for name in one.metrics}
        terms = ((name, find_metric(name)) for name in sorted(names) if name[:6] != "input_")
        unknown = [name for name, term in terms if not term or term.higher_is_better is None]
        if higher_is_better is not None:
            self._better = dict.fromkeys(unknown, int(higher_is_better))
        elif unknown:
            self._done.notes.append(f"whether much is good is not known of {', '.join(unknown)}")

    def write(self) -> ImportedResults:
        """Write everything in one transaction, behind the names of new speakers."""
        fresh = {place: its for place, its in self._scores.items() if not place.rows}
        with self._store.writing():
            whose = speakers_named(self._store, {one.speaker for one in fresh if one.speaker})
        write_runs(self._store, self._new_runs(fresh, whose), partial(self._fill_all, fresh))
        return self._done

    def _new_runs(
        self, fresh: Mapping[Place, Sequence[Score]], whose: Mapping[str, int]
    ) -> list[Plan]:
        """Return the runs of recordings that have none, without values yet."""
        runs: dict[str, Plan] = {}
        for place, scores in fresh.items():
            time = min(score.reading.time for score in scores)
            run = runs.setdefault(place.recording, _new_run(self._model, place.recording, time))
            if time < run.history["start_time"]:
                run.history.update(start_time=time, end_time=time)
            if not place.of_run:
                path, speaker = place.output or "", whose.get(place.speaker or "")
                facts = own_facts(path) if path else {}
                run.outputs[path or speaker] = Output(path, speaker, Metrics(), facts)
        return [*runs.values()]

    def _fill_all(self, fresh: Mapping[Place, Sequence[Score]], runs: Sequence[Plan]) -> None:
        """Give all runs their values, inside the transaction that wrote the new ones."""
        self._store.engine.lock("results")  # two imports would undo each other's values
        added = {run.history["run_id"] for run in runs}
        if fresh:
            self._scores = {place: its for place, its in self._scores.items() if place.rows}
            self.find(chain(*fresh.values()), Refused())  # now they have rows
            if left := [place.recording for place in self._scores if not place.rows]:
                run_id = run_id_of(self._model, left[0])
                raise InvalidValueError(f"there is a run {run_id!r} already, of another path")
        self._fill(added)
        self._done.added = len(added)

    def _fill(self, added: set[str]) -> None:
        """Give runs what they lack; those that were ``added`` just now have nothing yet."""
        pairs = ((row, place) for place in self._scores for row in place.rows)
        touched, kept, later = set[str](), set[str](), set[str]()
        while some := list(islice(pairs, LOOKUP)):
            changed = self._fill_some(some)
            for row, place in some:
                (touched if row.id in changed else kept).add(row.run_id)
                began = ProcessingHistory.start_time.python_value(row.start)
                is_time = row.id in changed and isinstance(began, dt.datetime)
                if is_time and began > self._scores[place][0].reading.time:
                    later.add(row.run_id)
        self._note("runs began after their results were written: are they theirs?", len(later))
        self._done.updated, self._done.unchanged = len(touched - added), len(kept - touched)

    def _fill_some(self, pairs: Sequence[tuple[Row, Place]]) -> Collection[int]:
        """Give some history rows what they lack; return the ids of those that lacked something."""
        ids = {row.id for row, _ in pairs}
        measured = rows_where(self._store, ModelPerformance, "processing_history", ids)
        known = {one.processing_history_id: one.__data__ for one in measured}
        changed: dict[int, dict[str, Any]] = {}
        for row, place in pairs:
            blank = {"processing_history": row.id, **dict.fromkeys(_MEASURED)}
            values = known.setdefault(row.id, blank)
            try:
                for score in self._scores[place]:
                    if self._take(values, score, of_run=place.of_run):
                        changed[row.id] = values
            except (AttributeError, TypeError, ValueError) as error:  # of another program
                what = f"the additional metrics of history row {row.id} are none of a run"
                raise InvalidValueError(f"{what}; see 'voices check'") from error
        shared = {name: self._model[name] for name in ("model_type", "model_version")}
        rows = [{**shared, **one} for one in changed.values() if "id" not in one]
        mapper(ModelPerformance).insert_dicts(self._store.connection(), rows)
        ours = [one for one in changed.values() if "id" in one]
        columns = (([one[name] for name in METRIC_COLUMNS], one) for one in ours)
        bound = ((*some, dump_json(one["additional_metrics"]), one["id"]) for some, one in columns)
        self._store.connection().executemany(_UPDATE, bound)
        return changed

    def _take(self, row: dict[str, Any], score: Score, *, of_run: bool) -> bool:
        """Give a row what it lacks; an output's own value goes before the whole run's."""
        additional = dict(row["additional_metrics"] or {})
        run_level, fresh = additional.pop(OF_THE_RUN, []), dict[str, float]()
        for name, value in score.metrics.items():
            ours = row[name] if name in METRIC_COLUMNS else additional.get(name)
            if ours is None:
                fresh[name] = value
            elif not _same(ours, value) and not (of_run and name not in run_level):
                kept = f"{name} is {value!r}, and {ours!r} here, which is kept"
                where = f"{str(score.reading.path)!r}, {score.place}"
                self._done.conflicts.append(f"{where}: {kept}")
        if not fresh:
            return False
        nonfinite = additional.pop(NONFINITE, {})
        if nonfinite := {name: text for name, text in nonfinite.items() if name not in fresh}:
            additional[NONFINITE] = nonfinite
        if run_level := sorted({*run_level, *(fresh if of_run else ())}):
            additional[OF_THE_RUN] = run_level
        if better := {name: one for name, one in self._better.items() if name in fresh}:
            additional[_BETTER] = {**additional.get(_BETTER, {}), **better}
        impl = f"{score.impl}: {', '.join(fresh)}"
        additional[_IMPL] = "; ".join(filter(None, [additional.get(_IMPL), impl]))
        for name, value in fresh.items():
            (row if name in METRIC_COLUMNS else additional)[name] = value
        row["additional_metrics"] = additional
        return True


def _new_run(model: Model, recording: str, time: dt.datetime) -> Plan:
    times = {"start_time": time, "end_time": time}
    named = {"run_id": run_id_of(model, recording), "parameters": {}, "success": True}
    return Plan({**model, **named, **times}, None, Metrics(), recording, True, Metrics(), {})


def _same(ours: object, value: float) -> bool:
    return isinstance(ours, int | float) and math.isclose(ours, value, rel_tol=1e-9, abs_tol=1e-12)
