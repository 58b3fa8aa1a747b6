"""Results of other tools into the record: to the runs that they are about, or as runs."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.exchange.adding import speakers_named
from voices_peewee.exchange.manifests import read_manifest
from voices_peewee.exchange.places import Model, Place, Places
from voices_peewee.exchange.result_files import ResultFile, Score, read_results
from voices_peewee.exchange.texts import Refused
from voices_peewee.records.audio_files import own_facts
from voices_peewee.records.roots import PathMap, Roots
from voices_peewee.records.sources import rows_where
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
    files = read_results(named, form, roots, refused)
    done = ImportedResults(", ".join(dict.fromkeys(file.format for file in files)))
    done.notes = [note for file in files for note in file.notes]
    entries = None if manifest is None else read_manifest(manifest, None, roots).entries
    places = Places(store, whose, entries, roots)
    values = _values(files, places, refused, done)
    refused.end()
    if places.several:
        done.notes.append(
            f"{len(places.several):,} recordings have runs with different parameters; "
            "the latest run has the values"
        )
    better = _directions(values.values(), higher_is_better, done)
    if any(not place.rows for place in values):
        _note_slips(store, whose, done)
    with no_full_collection():
        _write(store, whose, values, better, done)
    return done


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


def _values(
    files: Iterable[ResultFile], places: Places, refused: Refused, done: ImportedResults
) -> dict[Place, _Values]:
    """Return what is told of each place; all that is wrong with rows is refused."""
    found: dict[Place, _Values] = {}
    empty = 0
    for score, time in ((score, file.time) for file in files for score in file.scores):
        if not score.metrics:
            empty += 1
            continue
        try:
            if not _CHECKED.isdisjoint(score.metrics):
                Metrics.of({name: one for name, one in score.metrics.items() if name in _CHECKED})
            place = places.find(score)
        except (LookupError, InvalidValueError) as error:
            refused.add(score.file, str(error), score.place)
            continue
        if place not in found:
            found[place] = _Values(score, time)
        done.conflicts += found[place].add(score)
    if empty:
        done.notes.append(f"{empty:,} left out: no value at all")
    return found


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


def _write(
    store: Store,
    model: Model,
    values: Mapping[Place, _Values],
    better: Mapping[str, int],
    done: ImportedResults,
) -> None:
    """Write everything in one transaction, behind the names of new speakers."""
    fresh = {place: told for place, told in values.items() if not place.rows}
    with store.writing():
        speakers = speakers_named(store, sorted({one.speaker for one in fresh if one.speaker}))
    runs: dict[str, Plan] = {}
    for place, told in fresh.items():
        if place.recording not in runs:
            runs[place.recording] = _new_run(model, place.recording, told.start)
        run, metrics = runs[place.recording], Metrics.of(told.told(told.metrics, better, {}))
        if place.output or place.speaker:
            path, speaker = place.output or "", speakers.get(place.speaker or "")
            facts = own_facts(path) if path else {}
            run.outputs[path or speaker] = Output(path, speaker, metrics, facts)
        else:
            run.logged = metrics
    write_runs(store, [*runs.values()], partial(_fill, store, model, values, better, done))
    done.added = len(runs)


def _new_run(model: Model, recording: str, start: dt.datetime) -> Plan:
    """Return the run of a recording that has none, with a name that tells it again."""
    name = "\0".join(("results", *map(str, model), recording))
    run_id = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    times = {"start_time": start, "end_time": start}
    history = {**model.columns, "run_id": run_id, "parameters": {}, "success": True, **times}
    return Plan(history, None, Metrics(), locate(recording), True, Metrics(), {})


def _fill(
    store: Store,
    model: Model,
    values: Mapping[Place, _Values],
    better: Mapping[str, int],
    done: ImportedResults,
) -> None:
    """Give runs that are here what they lack, inside the transaction."""
    pairs = [(row, place, told) for place, told in values.items() for row in place.rows]
    ids = {row.id for row, _, _ in pairs}
    measured = rows_where(store, ModelPerformance, "processing_history", ids)
    known = {one.processing_history_id: one for one in measured}
    changed: dict[int, ModelPerformance] = {}
    for row, place, told in pairs:
        if row.id not in known:
            none = Metrics()
            blank = performance(model.columns, row.id, none, none, none, duration=None)
            known[row.id] = ModelPerformance(**blank)
        if _take(known[row.id], told, better, done.conflicts, of_run=place.of_run):
            changed[row.id] = known[row.id]
    store.insert_all([one for one in changed.values() if one.id is None])
    updates = [
        (
            *(getattr(one, name) for name in METRIC_COLUMNS),
            dump_json(one.additional_metrics),
            one.id,
        )
        for one in changed.values()
    ]
    if updates:
        store.connection().executemany(_UPDATE, updates)
    touched = {row.run_id for row, _, _ in pairs if row.id in changed}
    done.updated, done.unchanged = len(touched), len({row.run_id for row, _, _ in pairs} - touched)


def _take(
    row: ModelPerformance,
    told: _Values,
    better: Mapping[str, int],
    conflicts: list[str],
    *,
    of_run: bool,
) -> bool:
    """Give a row what it lacks; an output's own value goes before the whole run's."""
    additional = dict(row.additional_metrics or {})
    run_level, fresh = additional.pop(OF_THE_RUN, []), []
    for name, value in told.metrics.items():
        ours = row.__data__[name] if name in METRIC_COLUMNS else additional.get(name)
        if ours is None:
            fresh.append(name)
        elif not _same(ours, value) and not (of_run and name not in run_level):
            kept = f"{name} is {value:g}, and {ours!r} here, which is kept"
            conflicts.append(f"{told.first.where}: {kept}")
    if not fresh:
        return False
    values = told.told(fresh, better, additional)
    for name in values.keys() & {*METRIC_COLUMNS}:
        setattr(row, name, values.pop(name))
    nonfinite = additional.pop(NONFINITE, {})
    if nonfinite := {name: text for name, text in nonfinite.items() if name not in fresh}:
        additional[NONFINITE] = nonfinite
    if run_level := sorted({*run_level, *(fresh if of_run else ())}):
        additional[OF_THE_RUN] = run_level
    row.additional_metrics = {**additional, **values}
    return True


def _same(ours: object, value: float) -> bool:
    return isinstance(ours, int | float) and math.isclose(ours, value, rel_tol=1e-9, abs_tol=1e-12)
