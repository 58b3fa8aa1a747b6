"""Which runs, which model and which metric a question is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import peewee as pw

from voices_peewee.database.dialects import ByEngine, as_number, inner, nodes, plain
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import QueryError
from voices_peewee.schema import vocabulary
from voices_peewee.schema.exact import exact_boolean, short
from voices_peewee.schema.fields import plain_name
from voices_peewee.schema.models import ModelPerformance, ProcessingHistory
from voices_peewee.search.columns import LISTS, read_json
from voices_peewee.search.conditions import of_speakers
from voices_peewee.search.json_keys import ELEMENT, json_path, readable, some_element
from voices_peewee.search.pages import matching
from voices_peewee.search.words import When, instant

Model = tuple[str, str | None]
Words = str | Sequence[str]

LARGEST: Final = 1e150  # beyond it a square is infinite; such values count as not finite
_LOOK_AT: Final = 10_000  # newest rows that are searched for the names of metrics


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that runs are judged by.

    ``keys`` lead to it in ``additional_metrics``; a column of ``model_performance`` has none.
    ``is_logged`` says that it is logged of whole runs, not given with their outputs.
    """

    name: str
    higher_is_better: bool
    unit: str
    keys: tuple[str, ...] = ()
    is_logged: bool = False

    @property
    def is_of_run(self) -> bool:
        """Whether it is always the whole run's, however many outputs that has."""
        return self.is_logged or self.name in vocabulary.RUN_LEVEL

    @property
    def value(self) -> pw.ColumnBase:
        """What is selected; it may be no number: see ``is_number``."""
        if not self.keys:
            found: pw.Field = ModelPerformance._meta.fields[self.name]
            return found
        metrics = ModelPerformance.additional_metrics
        sqlite = pw.fn.json_extract(readable(metrics), plain(json_path(self.keys)))
        return ByEngine(sqlite, as_number(inner(metrics, self.keys)))

    @property
    def is_number(self) -> pw.Expression:
        """The condition that a row has a finite value."""
        if self.keys:
            # Text sorts above every number, and so do the infinities that JSON can spell.
            return self.value.between(-LARGEST, LARGEST)
        return self.value.is_null(is_null=False)  # a CHECK keeps what is not finite out


def find_metric(store: Store, name: str, *, higher_is_better: bool | None = None) -> Metric:
    """Return the metric of a name in any spelling; dots lead into ``additional_metrics``."""
    if not isinstance(name, str):
        raise QueryError(f"a metric is named by a text, not {short(name)}")
    term = vocabulary.find_metric(name)
    if term is not None and term.name in vocabulary.METRIC_COLUMNS:
        return _metric(term.name, (), higher_is_better)
    ways = dict.fromkeys([tuple(name.split(".")), (name,)])
    keys = next((way for way in ways if _recorded(store, way) is not None), None)
    if keys is None:
        names = _recorded_names(store)
        keys = next(((other,) for other in sorted(names) if _is_same(name, other)), None)
        if keys is None:
            raise QueryError.unknown_field(name, {*vocabulary.METRIC_COLUMNS, *names}, "metric")
        name = keys[0]
    if higher_is_better is None and vocabulary.find_metric(name) is None:
        # It may have been told when results were imported.
        told = _recorded(store, ("higher_is_better", name))
        higher_is_better = None if told is None else bool(told)
    found = _metric(name, keys, higher_is_better)
    return replace(found, is_logged=_is_logged(store, keys))


def _metric(name: str, keys: tuple[str, ...], higher_is_better: bool | None) -> Metric:
    term = vocabulary.find_metric(name) or vocabulary.find_metric(name.rpartition(".")[2])
    direction = higher_is_better
    if direction is not None:
        direction = exact_boolean("higher_is_better", direction)
    elif term is not None:
        direction = term.higher_is_better
    if direction is None:
        raise QueryError(
            f"it is not known whether a high {name!r} is good; say higher_is_better=True or False",
            cli="say --higher-is-better or --lower-is-better",
        )
    return Metric(name, direction, "" if term is None else term.unit, keys)


def _is_same(name: str, other: str) -> bool:
    """Whether two names spell one metric."""
    term = vocabulary.find_metric(name)
    if term is not None and term is vocabulary.find_metric(other):
        return True
    return vocabulary.spelled(name) == vocabulary.spelled(other)


def _inner(keys: Sequence[str]) -> Metric:
    return Metric("", higher_is_better=True, unit="", keys=tuple(keys))


def _recorded(store: Store, keys: Sequence[str]) -> float | None:
    """Return a number that a row has in ``additional_metrics``."""
    metric = _inner(keys)
    query = ModelPerformance.select(metric.value).where(metric.is_number).limit(1)
    with store.reading():
        found = store.connection().execute(*query.sql()).fetchone()
    return None if found is None else found[0]


def _is_logged(store: Store, keys: Sequence[str]) -> bool:
    """Whether all of the newest rows that have a metric have it of their run as a whole."""
    measured = ModelPerformance
    newest = measured.select(measured.id).order_by(measured.id.desc()).limit(_LOOK_AT)
    listed = some_element(measured.additional_metrics, ("run",), plain(keys[0]) == ELEMENT)
    query = measured.select(pw.SQL("1")).where(measured.id.in_(newest), _inner(keys).is_number)
    query = query.where(nodes("NOT", listed)).limit(1)
    with store.reading():
        return store.connection().execute(*query.sql()).fetchone() is None


def _recorded_names(store: Store) -> set[str]:
    """Return the names of numbers in the newest rows; of what was never finite that is all."""
    measured = ModelPerformance
    query = measured.select(measured.additional_metrics.cast("TEXT"))
    query = query.order_by(measured.id.desc()).limit(_LOOK_AT)
    names: set[str] = set()
    for (text,) in store.stream(*query.bind(store.database).sql()):
        metrics = read_json(text)
        if isinstance(metrics, dict):
            nonfinite = metrics.get("nonfinite")
            names.update(nonfinite if isinstance(nonfinite, dict) else ())
            names.update(name for name, value in metrics.items() if type(value) in (int, float))
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The runs that a question is about; None stands for all.

    ``since`` and ``until`` bound the start of a run: from the one, and before the other; in
    words they are read when it is made. ``where`` are query words of the list ``history``.
    """

    operation_type: str | None = None
    model_type: str | None = None
    model_version: str | None = None
    speaker: SpeakerKey | None = None
    since: When | None = None
    until: When | None = None
    where: Words = ()

    def __post_init__(self) -> None:
        since, until = instant("since", self.since), instant("until", self.until)
        if since and until and since.tzinfo and until.tzinfo and since >= until:
            raise QueryError("the end lies before the beginning")
        object.__setattr__(self, "since", since)
        object.__setattr__(self, "until", until)

    def conditions(
        self, store: Store, of_speaker: Callable[[int], pw.Expression] | None = None
    ) -> list[pw.Expression]:
        """Return what holds for the runs.

        ``of_speaker`` says what holds for the rows of a speaker, where it is not that the row's
        own file is the speaker's, or else its recording.
        """
        store.require_place()
        run = ProcessingHistory
        wanted = {
            run.operation_type: self.operation_type,
            run.model_type: plain_name(self.model_type),
            run.model_version: plain_name(self.model_version),
        }
        found = [column == value for column, value in wanted.items() if value is not None]
        if self.speaker is not None:
            speaker = store.speaker(self.speaker).id
            found.append(of_speakers([speaker]) if of_speaker is None else of_speaker(speaker))
        if self.since is not None:
            found.append(run.start_time >= self.since)
        if self.until is not None:
            found.append(run.start_time < self.until)
        if self.where:
            found.append(run.id.in_(matching(store, "history", self.where)))
        return found


def model_label(model_type: str | None, model_version: str | None) -> str:
    """Return how a model with its version is written: ``demucs:4.0``."""
    if model_version is None:
        return model_type or "(no model)"
    return f"{model_type or ''}:{model_version}"


def parse_model(text: str) -> Model:
    """Split ``demucs:4.0`` into type and version at the last colon.

    The version is None, which stands for any, where there is no colon, and empty, which stands
    for runs without a version, where nothing follows it.
    """
    before, colon, after = text.rpartition(":")
    model = (before, after) if colon else (after, None)
    if not model[0].strip():
        raise QueryError(f"a model is written type:version, for example demucs:4.0, not {text!r}")
    return model


def find_model(store: Store, model: str | Model) -> Model:
    """Return the type and version of a model that has runs."""
    if not isinstance(model, str) and not (isinstance(model, tuple) and len(model) == 2):
        raise QueryError(f"a model is a text, as demucs:4.0, or a pair, not {short(model)}")
    name, version = parse_model(model) if isinstance(model, str) else model
    found = plain_name(name), plain_name(version)
    if _has_runs(store, found):
        return found
    if isinstance(model, str) and _has_runs(store, (model, None)):
        return plain_name(model), None  # the colon is a part of its name
    known = {model_label(*key) for key in _models(store)}
    if not known:
        raise QueryError(f"unknown model {model_label(*found)!r}; no run names a model")
    raise QueryError.unknown_field(model_label(*found), known, "model")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a model, query words, or both."""

    label: str
    model: Model | None
    words: Words = ()

    @property
    def is_one_model(self) -> bool:
        """Whether it names a model with its version."""
        return self.model is not None and self.model[1] is not None

    def conditions(self, store: Store, runs: Runs) -> list[pw.Expression]:
        """Return the conditions for its runs."""
        found = [] if self.model is None else runs_of(store, self.model, runs)
        if self.words:
            found.append(ProcessingHistory.id.in_(matching(store, "history", self.words)))
        return found


def find_side(store: Store, side: str | Model) -> Side:
    """Return a side as it is named: a model, or query words of which the first may be one.

    The first word is a model unless what stands before its first colon is a field.
    """
    if not isinstance(side, str) or not side.strip():
        found = find_model(store, side)
        return Side(model_label(*found), found)
    first, _, rest = side.strip().partition(" ")
    is_words = bool(rest) or _names_a_field(first)
    if not is_words or any(_has_runs(store, each) for each in ((side, None), parse_model(side))):
        found = find_model(store, side)
        return Side(model_label(*found), found)
    label = " ".join(side.split())
    if _names_a_field(first):
        return Side(label, None, side)
    return Side(label, find_model(store, first), rest)


def _names_a_field(word: str) -> bool:
    name, colon, _ = word.removeprefix("^").partition(":")
    field = name.partition(".")[0].lower().replace("-", "_")
    return bool(colon) and field in LISTS["history"].fields


def runs_of(store: Store, model: Model, runs: Runs) -> list[pw.Expression]:
    """Return the conditions for the runs of a model, which an index can serve."""
    run, (model_type, version) = ProcessingHistory, model
    conditions = [run.model_type == model_type]
    if version is not None:
        missing = run.model_version.is_null()
        conditions.append(
            (run.model_version == version) | missing
            if version == ""
            else run.model_version == version
        )
    if runs.operation_type is None:  # the index begins with it
        conditions.append(run.operation_type.in_([plain(name) for name in operations(store)]))
    return conditions


def _has_runs(store: Store, model: Model) -> bool:
    query = ProcessingHistory.select(pw.SQL("1")).where(*runs_of(store, model, Runs())).limit(1)
    return store.connection().execute(*query.sql()).fetchone() is not None


def _models(store: Store) -> list[tuple[str, str | None]]:
    run = ProcessingHistory
    query = run.select(run.model_type, run.model_version).distinct()
    query = query.where(run.model_type.is_null(is_null=False))
    found: list[tuple[str, str | None]] = store.connection().execute(*query.sql()).fetchall()
    return found


# One look at the index for each, and none at the rows.
_OPERATIONS: Final = """
WITH RECURSIVE least(name) AS (
 SELECT min(operation_type) FROM processing_history UNION ALL
 SELECT (SELECT min(operation_type) FROM processing_history WHERE operation_type > least.name)
 FROM least WHERE least.name IS NOT NULL)
SELECT name FROM least WHERE name IS NOT NULL
"""


def operations(store: Store) -> list[str]:
    """Return all operations."""
    return [name for (name,) in store.connection().execute(_OPERATIONS)]
