"""Results of other tools into the record: to the runs that they are about, or as runs."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final

from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError
from voices_peewee.exchange.adding import speakers_named
from voices_peewee.exchange.manifests import read_manifest
from voices_peewee.exchange.places import Model, Place, Places, Row
from voices_peewee.exchange.result_files import ResultFile, read_results
from voices_peewee.exchange.texts import Refused
from voices_peewee.records.roots import PathMap, Roots
from voices_peewee.records.sources import rows_where
from voices_peewee.runs.metrics import NONFINITE, OF_THE_RUN, Metrics, performance
from voices_peewee.runs.past_runs import record_runs
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import ModelPerformance
from voices_peewee.schema.vocabulary import METRIC_COLUMNS, find_metric

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

_IMPL: Final = "metric_impl"
_BETTER: Final = "higher_is_better"
_CHECKED: Final = {*METRIC_COLUMNS, NONFINITE, OF_THE_RUN}
_UPDATE: Final = """UPDATE model_performance SET si_snri = ?, sdri = ?, additional_metrics = ?
 WHERE id = ?"""


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
    """What is told of one place, with who computed it, and where it was first told."""

    place: str
    start: dt.datetime
    metrics: dict[str, float] = field(default_factory=dict)
    impls: dict[str, list[str]] = field(default_factory=dict)

    def add(self, metrics: Mapping[str, float], impl: str) -> Iterator[str]:
        """Take more values; yield the names of those that were told otherwise before."""
        for name, value in metrics.items():
            if name not in self.metrics:
                self.metrics[name] = value
                self.impls.setdefault(impl, []).append(name)
            elif not _same(self.metrics[name], value):
                yield name

    def told(self, names: Iterable[str], better: Mapping[str, int]) -> dict[str, Any]:
        """Return the values of metrics, who computed them, and what of them is good."""
        values: dict[str, Any] = {name: self.metrics[name] for name in names}
        impls = (
            (impl, [name for name in names_ if name in values])
            for impl, names_ in self.impls.items()
        )
        values[_IMPL] = "; ".join(f"{impl}: {', '.join(some)}" for impl, some in impls if some)
        if known := {name: better[name] for name in values if name in better}:
            values[_BETTER] = known
        return values


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
    values = dict(_values(files, places, refused, done))
    refused.end()
    if places.several:
        done.notes.append(
            f"{len(places.several):,} recordings have runs with different parameters; "
            "the latest run has the values"
        )
    better = _directions(values.values(), higher_is_better, done)
    _write(store, whose, values, better, done)
    return done


def _model(model: str | tuple[str, str | None], operation_type: str) -> Model:
    if not isinstance(model, str):
        found, version = model
    else:
        before, colon, after = model.rpartition(":")
        found, version = (before, after or None) if colon else (after, None)
    if not found.strip() or not operation_type.strip():
        raise InvalidValueError("results need a model, as demucs:4.0, and an operation_type")
    return Model(operation_type, found, version)


def _values(
    files: Iterable[ResultFile], places: Places, refused: Refused, done: ImportedResults
) -> Iterator[tuple[Place, _Values]]:
    """Yield what is told of each place; all that is wrong with rows is refused."""
    found: dict[Place, _Values] = {}
    empty = 0
    for score, time in ((score, file.time) for file in files for score in file.scores):
        if not score.metrics:
            empty += 1
            continue
        try:
            Metrics.of({name: one for name, one in score.metrics.items() if name in _CHECKED})
            place = places.find(score)
        except (LookupError, InvalidValueError) as error:
            refused.add(score.file, str(error), score.place)
            continue
        where = f"{str(score.file)!r}, {score.place}"
        values = found.setdefault(place, _Values(where, time))
        for name in values.add(score.metrics, score.impl):
            done.conflicts.append(f"{where}: {name} is {values.metrics[name]:g} in {values.place}")
    if empty:
        done.notes.append(f"{empty:,} left out: no value at all")
    yield from found.items()


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
    names = {place.speaker for place in values if place.speaker and not place.rows}
    with store.writing():
        speakers = speakers_named(store, sorted(filter(None, names)))
    runs = _new_runs(model, values, speakers, better)
    fill = partial(_fill, store, model, values, better, done)
    done.added = record_runs(store, runs.values(), along=fill)


def _new_runs(
    model: Model,
    values: Mapping[Place, _Values],
    speakers: Mapping[str, int],
    better: Mapping[str, int],
) -> dict[str, dict[str, Any]]:
    """Return the runs of recordings that have none, each with a name that tells it again."""
    runs: dict[str, dict[str, Any]] = {}
    for place, told in values.items():
        if place.rows:
            continue
        name = "\0".join(("results", *map(str, asdict(model).values()), place.recording))
        run = runs.setdefault(
            place.recording,
            {
                **asdict(model),
                "source": place.recording,
                "start_time": told.start,
                "run_id": hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32],
                "outputs": [],
                "metrics": {},
            },
        )
        metrics = told.told(told.metrics, better)
        if place.output or place.speaker:
            speaker = speakers[place.speaker] if place.speaker else None
            run["outputs"].append({**metrics, "path": place.output, "speaker": speaker})
        else:
            run["metrics"] = metrics
    return runs


def _fill(
    store: Store,
    model: Model,
    values: Mapping[Place, _Values],
    better: Mapping[str, int],
    done: ImportedResults,
) -> None:
    """Give runs that are here what they lack, inside the transaction."""
    ids = {row.id for place in values for row in place.rows}
    column = "processing_history"
    known = {
        row.processing_history_id: row for row in rows_where(store, ModelPerformance, column, ids)
    }
    changed: dict[int, ModelPerformance] = {}
    runs, touched = {row.run_id for place in values for row in place.rows}, set[str]()
    for place, told in values.items():
        for row in place.rows:
            measured = known.get(row.id) or _blank(model, row)
            known[row.id] = measured
            conflict = partial(_conflict, done, told.place)
            if _take(measured, told, better, conflict, of_run=place.of_run):
                changed[row.id] = measured
                touched.add(row.run_id)
    store.insert_all([row for row in changed.values() if row.id is None])
    updates = [
        (row.si_snri, row.sdri, dump_json(row.additional_metrics), row.id)
        for row in changed.values()
    ]
    if updates:
        store.connection().executemany(_UPDATE, updates)
    done.updated, done.unchanged = len(touched), len(runs - touched)


def _blank(model: Model, row: Row) -> ModelPerformance:
    none = Metrics()
    return ModelPerformance(**performance(asdict(model), row.id, none, none, none, duration=None))


def _conflict(done: ImportedResults, place: str, name: str, ours: float, theirs: float) -> None:
    done.conflicts.append(f"{place}: {name} is {theirs:g}, and {ours!r} here, which is kept")


def _take(
    row: ModelPerformance,
    told: _Values,
    better: Mapping[str, int],
    conflict: Callable[[str, Any, float], None],
    *,
    of_run: bool,
) -> bool:
    """Give a row what it lacks; an output's own value goes before the whole run's."""
    additional = dict(row.additional_metrics or {})
    run_level = additional.get(OF_THE_RUN, [])
    fresh = []
    for name, value in told.metrics.items():
        ours = getattr(row, name) if name in METRIC_COLUMNS else additional.get(name)
        if ours is None:
            fresh.append(name)
        elif not _same(ours, value) and not (of_run and name not in run_level):
            conflict(name, ours, value)
    if not fresh:
        return False
    values = told.told(fresh, better)
    before = additional.get(_IMPL)
    values[_IMPL] = "; ".join(filter(None, [str(before or ""), values[_IMPL]]))
    values |= {_BETTER: {**additional.get(_BETTER, {}), **values.get(_BETTER, {})}}
    nonfinite = {
        name: text for name, text in additional.get(NONFINITE, {}).items() if name not in fresh
    }
    own = {name: value for name, value in values.items() if name not in METRIC_COLUMNS}
    own |= {NONFINITE: nonfinite, OF_THE_RUN: sorted({*run_level, *(fresh if of_run else ())})}
    row.additional_metrics = {
        name: value for name, value in {**additional, **own}.items() if value not in ({}, [])
    }
    for name in METRIC_COLUMNS:
        if name in values:
            setattr(row, name, values[name])
    return True


def _same(ours: object, value: float) -> bool:
    return isinstance(ours, int | float) and math.isclose(ours, value, rel_tol=1e-9, abs_tol=1e-12)
