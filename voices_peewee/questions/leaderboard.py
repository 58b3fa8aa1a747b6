"""Comparing models: the leaderboard here, and ``compare`` for two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, overload

from voices_peewee.database.results import Spec
from voices_peewee.errors import QueryError
from voices_peewee.questions import groups
from voices_peewee.questions.comparison import compare as compare
from voices_peewee.questions.groups import Costs, Key
from voices_peewee.questions.selection import Metric, Runs, Time, find_metric, model_label, snapshot
from voices_peewee.questions.stats import Summary
from voices_peewee.rendering import html as html_text
from voices_peewee.rendering.plain import number, table
from voices_peewee.schema.fields import plain_name
from voices_peewee.schema.models import ProcessedFile, Speaker

if TYPE_CHECKING:
    import pandas as pd

    from voices_peewee.database.store import SpeakerKey, Store

_MODEL: Final = ("model_type", "model_version")
_FIELDS: Final = (*_MODEL, "speaker", "operation_type", "file", "file_format")


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """What one group of runs came to.

    ``by`` names the fields that make the groups, ``key`` holds their values; each is an
    attribute too, such as ``row.model_type`` or ``row.speaker``. ``n`` counts the
    successful measurements (a stem each), ``failures`` the runs that failed. ``mean``,
    ``median``, ``stdev`` (the sample's, n − 1) and ``low`` … ``high``, the 95 % interval of the
    mean (Student's t), are in the metric's unit; ``sdri`` (dB), ``real_time_factor`` and
    ``memory_usage`` (MB) are means of the same measurements. What n does not allow is None.
    """

    by: tuple[str, ...]
    key: Key
    n: int
    failures: int
    mean: float | None
    median: float | None
    stdev: float | None
    low: float | None
    high: float | None
    sdri: float | None
    real_time_factor: float | None
    memory_usage: float | None

    @property
    def margin(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None or self.mean is None else self.high - self.mean

    def __getattr__(self, name: str) -> str | None:
        if name in _FIELDS and name in self.by:
            return self.key[self.by.index(name)]
        raise AttributeError(f"this leaderboard row has no {name!r}")


@dataclass(frozen=True)
class Leaderboard(Sequence[LeaderboardRow]):
    """Groups of runs, the best mean first, those without any measurement last."""

    rows: tuple[LeaderboardRow, ...]
    metric: str
    unit: str
    higher_is_better: bool
    by: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> LeaderboardRow: ...

    @overload
    def __getitem__(self, index: slice) -> Leaderboard: ...

    def __getitem__(self, index: int | slice) -> LeaderboardRow | Leaderboard:
        if isinstance(index, slice):
            return replace(self, rows=self.rows[index])
        return self.rows[index]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict for each row: the fields that it is by, then the numbers."""
        dicts = []
        for row in self.rows:
            numbers = asdict(row)
            del numbers["by"], numbers["key"]
            dicts.append(dict(zip(row.by, row.key, strict=True)) | numbers)
        return dicts

    @property
    def _title(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        order = "highest" if self.higher_is_better else "lowest"
        return f"{self.metric}{unit} by {', '.join(self.by)}, {order} mean first"

    def __str__(self) -> str:
        rows = [_cells(row, self.unit) for row in self.rows]
        return "\n".join([self._title, *(table(_HEAD, rows) if rows else ["no runs"])])

    __repr__ = __str__

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame: the fields that it is by, then the numbers.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from voices_peewee.rendering.frames import frame

        specs = [Spec(name, "text") for name in self.by]
        specs += [Spec(name, "integer", nullable=False) for name in ("n", "failures")]
        specs += [Spec(name, "float") for name in _NUMBERS]
        return frame(specs, iter([[tuple(row.values()) for row in self.to_dicts()]]))

    def _repr_html_(self) -> str:
        first = self.rows[: html_text.ROWS]
        note = html_text.cut_note(len(first), len(self), "group") if first else "no runs"
        rows = [_cells(row, self.unit) for row in first]
        return html_text.table(_HEAD, rows, labels=1, title=self._title, note=note)


def leaderboard(
    store: Store,
    metric: str = "si_snri",
    *,
    by: str | Sequence[str] = _MODEL,
    higher_is_better: bool | None = None,
    operation_type: str | None = None,
    model_type: str | None = None,
    model_version: str | None = None,
    speaker: SpeakerKey | None = None,
    since: Time | None = None,
    until: Time | None = None,
    limit: int | None = None,
) -> Leaderboard:
    """Rank models, or other groups of runs, by the mean of a metric.

    Only measurements of successful runs that have a finite value count; every run counts, also
    the second of the same recording. Failed runs are counted beside them, once however many
    stems they have.

    Args:
        store: The open database.
        metric: A column of ``model_performance`` or a name in ``additional_metrics``.
        by: Fields that make the groups: model_type, model_version, speaker, operation_type,
            file (the original recording), file_format.
        higher_is_better: The metric's direction, needed where it is not known.
        operation_type: Only runs of this operation.
        model_type: Only runs of this model.
        model_version: Only runs of this version.
        speaker: Only recordings and stems of this speaker.
        since: Only runs that started then or later.
        until: Only runs that started before.
        limit: How many rows to return at most.

    Raises:
        QueryError: A field is unknown, no row has the metric, or its direction is not known.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: A time cannot be read, or has no time zone.
    """
    fields = _checked_fields(by)
    runs = Runs(
        operation_type=operation_type,
        model_type=plain_name(model_type),
        model_version=plain_name(model_version),
        speaker=speaker,
        since=since,
        until=until,
    )
    with snapshot(store):
        found = find_metric(store, metric, higher_is_better=higher_is_better)
        rows = _rows(store, found, fields, runs)
        rows = _ranked(_named(store, fields, rows), higher_is_better=found.higher_is_better)
    kept = tuple(rows if limit is None else rows[: max(0, limit)])
    return Leaderboard(kept, found.name, found.unit, found.higher_is_better, fields)


def _checked_fields(by: str | Sequence[str]) -> tuple[str, ...]:
    fields = tuple(dict.fromkeys([by] if isinstance(by, str) else by))
    for name in fields:
        if name not in _FIELDS:
            raise QueryError.unknown_field(name, _FIELDS)
    if not fields:
        raise QueryError(f"a leaderboard is by one field or more: use {', '.join(_FIELDS)}")
    return fields


def _rows(
    store: Store, metric: Metric, fields: tuple[str, ...], runs: Runs
) -> list[LeaderboardRow]:
    failures = groups.failed_runs(store, fields, runs)
    models_alone = {"model_type"} <= {*fields} <= {*_MODEL} and runs.is_about_models
    # A server plans by what it holds; the index by which SQLite jumps is no use to it.
    jumps = models_alone and metric.name in groups.COVERED and store.server is None
    measure = groups.by_model if jumps else groups.by_any
    measured = {
        key: (found, costs) for key, found, costs in measure(store, metric, fields, runs) if found.n
    }
    return [
        _row(
            fields, key, failures.get(key, 0), *measured.get(key, (Summary(0), (None, None, None)))
        )
        for key in [*measured, *(key for key in failures if key not in measured)]
    ]


def _row(
    fields: tuple[str, ...], key: Key, failures: int, found: Summary, costs: Costs
) -> LeaderboardRow:
    return LeaderboardRow(
        fields,
        key,
        found.n,
        failures,
        found.mean,
        found.median,
        found.stdev,
        found.low,
        found.high,
        *costs,
    )


# What people read


def _ranked(rows: list[LeaderboardRow], *, higher_is_better: bool) -> list[LeaderboardRow]:
    sign = -1 if higher_is_better else 1

    def rank(row: LeaderboardRow) -> tuple[bool, float, list[tuple[bool, str]]]:
        names = [(part is None, part or "") for part in row.key]
        return row.mean is None, sign * (row.mean or 0.0), names

    return sorted(rows, key=rank)


def _named(
    store: Store, fields: tuple[str, ...], rows: list[LeaderboardRow]
) -> list[LeaderboardRow]:
    """Put names for the ids of speakers, and paths as Python knows them."""
    if "file" in fields:
        place, read = fields.index("file"), ProcessedFile.original_path.python_value
        rows = [_with(row, place, read(row.key[place])) for row in rows]
    if "speaker" in fields:
        place, names = fields.index("speaker"), _speaker_names(store)
        rows = [_with(row, place, names.get(row.key[place])) for row in rows]
    return rows


def _with(row: LeaderboardRow, place: int, value: object) -> LeaderboardRow:
    key = list(row.key)
    key[place] = None if value is None else str(value)
    return replace(row, key=tuple(key))


def _speaker_names(store: Store) -> dict[Any, str]:
    """Return the names by id; those that are not unique with their id."""
    query = Speaker.select(Speaker.id, Speaker.name)
    names: dict[int, str] = dict(store.connection().execute(*query.sql()).fetchall())
    twice = [name for name, rows in groupby(sorted(names.values())) if len(list(rows)) > 1]
    return {key: f"{name} (id {key})" if name in twice else name for key, name in names.items()}


_NUMBERS: Final = (
    *("mean", "median", "stdev", "low", "high"),
    *("sdri", "real_time_factor", "memory_usage"),
)
_HEAD: Final = ("", "n", "failed", "mean", "±95 %", "median", "stdev", "SDRi", "RTF", "MB")


def _cells(row: LeaderboardRow, unit: str) -> list[str]:
    numbers = [number(value, unit) for value in (row.mean, row.margin, row.median, row.stdev)]
    numbers += [number(row.sdri, "dB"), number(row.real_time_factor)]
    memory = "-" if row.memory_usage is None else f"{row.memory_usage:.0f}"
    return [_label(row.by, row.key), str(row.n), str(row.failures), *numbers, memory]


def _label(by: tuple[str, ...], key: Key) -> str:
    values = dict(zip(by, key, strict=True))
    parts = []
    if values.keys() >= {*_MODEL}:
        parts = [model_label(values.pop("model_type"), values.pop("model_version"))]
    return " ".join([*(value or "-" for value in values.values()), *parts])
