"""Models, or other groups of runs, ranked by the mean of a metric."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, compress
from operator import attrgetter, sub
from typing import Any, Final, overload

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.questions import remarks
from voices_peewee.questions.counted import Source, conditions, in_words, names_of_speakers
from voices_peewee.questions.fields import TAGS, Field, find_fields, groupings
from voices_peewee.questions.groups import Group, Key, read_groups
from voices_peewee.questions.pivot import Pivot
from voices_peewee.questions.selection import Metric, Runs, find_metric, model_label
from voices_peewee.questions.stats import Estimate, estimate, holm, letters, median
from voices_peewee.questions.tables import Cells, Tabular
from voices_peewee.rendering.plain import cell
from voices_peewee.rendering.table import Column, Strong
from voices_peewee.search.columns import read_json
from voices_peewee.search.pages import count_of

MOST_LETTERS: Final = 12  # groups that are compared with each other
_ALPHA: Final = 0.05
_NUMBERS: Final = (
    *("mean", "median", "stdev", "low", "high"),
    *("sdri", "real_time_factor", "memory_usage"),
)


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """What one group of runs came to.

    ``by`` names the fields that make the groups, ``key`` holds their values; each is an
    attribute too, such as ``row.model_type`` or ``row.speaker``. ``n`` counts recordings,
    ``stems`` what was measured of them, ``coverage`` what became of the recordings in question.
    ``mean``, ``median``, ``stdev`` (the sample's, n − 1) and ``low`` … ``high``, the 95 %
    interval of the mean (Student's t), are those of the recordings' means, in the metric's
    unit; ``sdri`` (dB), ``real_time_factor`` and ``memory_usage`` (MB) are means of the same
    recordings. Rows that share one of the ``letters`` cannot be told apart. What n does not
    allow is None.
    """

    by: tuple[str, ...]
    key: Key
    n: int
    stems: int
    coverage: dict[str, int]
    mean: float | None
    median: float | None
    stdev: float | None
    low: float | None
    high: float | None
    sdri: float | None
    real_time_factor: float | None
    memory_usage: float | None
    letters: str | None = None

    @property
    def margin(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None or self.mean is None else self.high - self.mean

    @property
    def labels(self) -> tuple[str, ...]:
        """What the group is called: a text for each grouping; a model has its version."""
        values = dict(zip(self.by, self.key, strict=True))
        model = model_label(values.get("model_type"), values.get("model_version"))
        return tuple(
            model if name == "model" else _label(name, values[name]) for name in groupings(self.by)
        )

    def __getattr__(self, name: str) -> Any:
        if name not in LeaderboardRow.__slots__ and name in self.by:
            return self.key[self.by.index(name)]
        raise AttributeError(f"this leaderboard row has no {name!r}")


@dataclass(frozen=True, repr=False)
class Leaderboard(Tabular, Sequence[LeaderboardRow]):
    """Groups of runs, the best mean first, those without any measurement last.

    ``metric_unit`` is the metric's unit; ``notes`` say what a reader has to know.
    """

    rows: tuple[LeaderboardRow, ...]
    metric: str
    metric_unit: str
    higher_is_better: bool
    by: tuple[str, ...]
    notes: tuple[str, ...] = ()

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

    @property
    def title(self) -> str:
        """The metric with its unit, the groups, and which mean stands first."""
        unit = f" ({self.metric_unit})" if self.metric_unit else ""
        order = "highest" if self.higher_is_better else "lowest"
        return f"{self.metric}{unit} by {', '.join(groupings(self.by))}, {order} mean first"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict for each row: the fields that it is by, then the numbers."""
        dicts = []
        for row in self.rows:
            numbers = asdict(row)
            del numbers["by"], numbers["key"]
            dicts.append(dict(zip(row.by, row.key, strict=True)) | numbers)
        return dicts

    def facts(self) -> Cells:
        """Return for a DataFrame the fields that it is by, the numbers, and the coverage."""
        states = tuple(self.rows[0].coverage) if self.rows else ()
        kinds = {one.name: one.kind for one in find_fields(self.by)}
        counts = dict.fromkeys(("n", "stems", *states), "integer")
        kinds |= counts | dict.fromkeys(_NUMBERS, "float") | {"letters": "text"}
        names = (*self.by, "n", "stems", *_NUMBERS, "letters", *states)
        columns = [Column(name, kinds[name], nullable=name not in counts) for name in names]
        facts = [one | one["coverage"] for one in self.to_dicts()]
        return columns, [tuple(one[name] for name in names) for one in facts]

    def pivot(self) -> Pivot:
        """Return the means of two groupings as a table, the best of each axis first.

        Raises:
            QueryError: There are not two.
        """
        names = groupings(self.by)
        if len(names) != 2:
            raise QueryError("a table across needs two groupings, such as speaker,model")
        means = {row.labels: row.mean for row in self.rows}
        down, across = (tuple(dict.fromkeys(labels[place] for labels in means)) for place in (0, 1))
        return Pivot(self.title, self._kind, names[0], down, across, means, self.notes)

    @property
    def _kind(self) -> str:
        return "fixed" if self.metric_unit == "dB" else "number"

    def cells(self) -> Cells:
        """Return the columns that say something, and the rows, whose best mean is strong."""
        names = enumerate(groupings(self.by))
        keys = (Column(name, "key", read=_label_at(place)) for place, name in names)
        columns: list[Column] = []
        values: list[list[object]] = []
        for column in (*keys, *_COLUMNS):
            own = [column.read(row) for row in self.rows] if column.read else []
            says = column.name != self.metric and any(value is not None for value in own)
            if column.kind == "key" or says:
                kind = self._kind if column.kind == "metric" else column.kind
                columns.append(replace(column, kind=kind))
                best = [Strong(cell(kind, one)) for one in own[:1]] if column.name == "mean" else []
                values.append([*best, *own[len(best) :]])
        return columns, list(zip(*values, strict=True))

    @property
    def caption(self) -> str:
        """The title, what n counts, and what the interval is."""
        return f"{self.title}; n recordings; ± is the 95 % interval of the mean (Student's t)"


def _label(name: str, value: object) -> str:
    """Return a value as text, which is in quotes where another one would be printed alike."""
    if value is None:
        return "-"
    is_of_json = "." in name and name not in TAGS
    is_alike = value == "-" or (is_of_json and isinstance(value, str) and _reads_as_other(value))
    return f'"{value}"' if is_alike else str(value)


def _reads_as_other(text: str) -> bool:
    return text in ("True", "False") or read_json(text) != text


def _label_at(place: int) -> Callable[[LeaderboardRow], str]:
    return lambda row: row.labels[place]


def _state(name: str) -> Callable[[LeaderboardRow], int | None]:
    return lambda row: row.coverage[name] or None


_SAME: Final = "groups that share a letter cannot be told apart (Holm, common recordings)"
# The bar goes first where there is no room, then SD and median.
_COLUMNS: Final = (
    Column("n", "count", read=attrgetter("n")),
    Column("letters", "text", "same", read=attrgetter("letters")),
    Column("stems", "count", priority=7, read=lambda row: row.stems if row.stems > row.n else None),
    *(
        Column(name, "count", in_words(name), priority=8, read=_state(name))
        for name in ("failed", "partly_finite", "not_finite", "unfinished", "not_run")
    ),
    Column("mean", "metric", read=attrgetter("mean")),
    Column("margin", "metric", "±95 %", read=attrgetter("margin")),
    Column("median", "metric", priority=3, read=attrgetter("median")),
    Column("stdev", "metric", "SD", priority=2, read=attrgetter("stdev")),
    Column("sdri", "fixed", "SDRi", priority=6, read=attrgetter("sdri")),
    Column("real_time_factor", "number", "RTF", priority=5, read=attrgetter("real_time_factor")),
    Column("memory_usage", "rounded", "MB", priority=4, read=attrgetter("memory_usage")),
)


def leaderboard(
    store: Store, metric: str, *, limit: int | None = None, **asked: Any
) -> Leaderboard:
    """Rank models, or other groups of runs; see ``DatabaseManager.leaderboard``."""
    board, _ = ranked_groups(store, metric, **asked)
    return board if limit is None else board[: count_of("limit", limit)]


def ranked_groups(
    store: Store,
    metric: str = "si_snri",
    *,
    by: str | Sequence[str] = "model",
    higher_is_better: bool | None = None,
    common: bool = False,
    as_sides: bool = False,
    runs: Runs,
) -> tuple[Leaderboard, list[Group]]:
    """Return a leaderboard, and the groups of its rows, ``as_sides`` for ``compare``."""
    fields = find_fields(by)
    with store.snapshot(), no_full_collection():
        found = find_metric(store, metric, higher_is_better=higher_is_better)
        source = Source(store, fields)
        groups = read_groups(source, found, fields, runs, as_sides=as_sides)
        shared = remarks.in_common(groups) if common else frozenset()
        chosen = conditions(store, runs)
        of_runs = [
            *remarks.of_operations(source, chosen, fields),
            *remarks.of_clocks(source, found, chosen),
            *remarks.of_checkpoints(source, chosen, fields),
            *remarks.of_contents(source, chosen, fields),
            *remarks.of_unread(source),
        ]
        models = remarks.models_of(source, chosen, fields)
        names = names_of_speakers(store) if any(one.name == "speaker" for one in fields) else {}
    groups = [group.kept(shared) for group in groups] if common else groups
    ranked = [(_row(fields, group, names), group) for group in groups]
    ranked.sort(key=lambda pair: _rank(pair[0], found))
    groups = [group for _, group in ranked]
    labels = [" ".join(row.labels) for row, _ in ranked]
    several = {name: models.get(one.key, ()) for name, one in zip(labels, groups, strict=True)}
    notes = [
        *remarks.of_tags(groups, fields),
        *remarks.of_models(several),
        *remarks.of_settings(labels, groups, fields),
        *remarks.of_recordings(labels, groups, fields, common=common),
        *([] if any(one.of_recording for one in fields) else remarks.of_stems(groups)),
        *of_runs,
    ]
    told = _letters(groups, fields)
    if isinstance(told, str):
        notes, told = [*notes, told], {}
    notes += [_SAME] if told else []
    rows = [replace(row, letters=told.get(place)) for place, (row, _) in enumerate(ranked)]
    board = Leaderboard(
        tuple(rows),
        found.name,
        found.unit,
        found.higher_is_better,
        tuple(one.name for one in fields),
        tuple(notes),
    )
    return board, groups


def _row(fields: Sequence[Field], group: Group, names: dict[Any, str]) -> LeaderboardRow:
    found = estimate(group.values)
    return LeaderboardRow(
        tuple(one.name for one in fields),
        tuple(_read(one, value, names) for one, value in zip(fields, group.key, strict=True)),
        len(group.values),
        sum(group.stems),
        group.coverage,
        *(found.mean, median(group.values), found.stdev, found.low, found.high),
        *group.mean_costs(),
    )


def _read(one: Field, value: Any, names: dict[Any, str]) -> Any:
    if value is None:
        return None
    if one.name == "speaker":
        return names.get(value)
    return value if one.read is None else one.read(value)


def _rank(row: LeaderboardRow, metric: Metric) -> tuple[bool, float, list[tuple[bool, str]]]:
    names = [(part is None, str(part)) for part in row.key]
    value = row.mean or 0.0
    return row.mean is None, -value if metric.higher_is_better else value, names


def _letters(groups: Sequence[Group], fields: Sequence[Field]) -> dict[int, str] | str:
    """Return letters for the places of the groups, or why there are none."""
    measured = [place for place, group in enumerate(groups) if group.values]
    if any(one.of_recording for one in fields) or len(measured) < 2:
        return {}
    if len(measured) > MOST_LETTERS:
        return f"no letters for more than {MOST_LETTERS} groups: narrow them down"
    pairs = list(combinations(measured, 2))
    found = [difference(groups[a], groups[b]).p for a, b in pairs]
    adjusted = iter(holm([p for p in found if p is not None]))
    apart = [
        pair
        for pair, p in zip(pairs, found, strict=True)
        if p is not None and next(adjusted) < _ALPHA
    ]
    return letters(measured, apart)


def difference(a: Group, b: Group) -> Estimate:
    """Return the mean difference of two groups on the recordings whose stems both have whole."""
    partly, own, other = a.partly | b.partly, a.values, b.values
    if partly or a.recordings != b.recordings:
        both = {*a.recordings}.intersection(b.recordings) - partly
        own, other = (
            array("d", compress(g.values, map(both.__contains__, g.recordings))) for g in (a, b)
        )
    return estimate(list(map(sub, other, own)))
