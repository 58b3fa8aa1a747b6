"""Two models on the same recordings: by how much one is better, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from heapq import nlargest, nsmallest
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import peewee as pw

from voices_peewee.errors import MissingExtraError, QueryError
from voices_peewee.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.plain_text import WIDTH, fit, number, table
from voices_peewee.rows import collection_paused
from voices_peewee.selection import (
    Metric,
    Model,
    Runs,
    Time,
    find_metric,
    find_model,
    model_label,
    runs_of,
    snapshot,
)
from voices_peewee.stats import (
    bootstrap_interval,
    cluster_bootstrap_interval,
    mean,
    median,
    signed_rank_p,
)

if TYPE_CHECKING:
    from voices_peewee.store import SpeakerKey, Store

Key = tuple[str | int, int | None]

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """One recording, or one speaker's voice in it, under both models; B − A is ``difference``."""

    path: str
    speaker: str | None
    a: float
    b: float
    difference: float


@dataclass(frozen=True)
class Comparison:
    """How model B did against model A on the recordings that both processed.

    Differences are B − A in the metric's unit: positive where B's value is larger. ``low`` and
    ``high`` bound the interval of the mean difference (percentile bootstrap). ``wins`` counts
    the pairs where B is better, ``losses`` those where A is. ``only_a`` and ``only_b`` count
    what only one of them processed, ``left_out`` what both did, but one without a finite value.
    ``p_value`` is that of Wilcoxon's signed-rank test. What the pairs do not allow is None.
    """

    a: str
    b: str
    metric: str
    unit: str
    higher_is_better: bool
    n: int
    mean_a: float | None
    mean_b: float | None
    mean_difference: float | None
    median_difference: float | None
    low: float | None
    high: float | None
    confidence: float
    wins: int
    losses: int
    ties: int
    largest_gains: tuple[Pair, ...]
    largest_losses: tuple[Pair, ...]
    only_a: int
    only_b: int
    left_out: int
    cluster: str | None
    clusters: int
    p_value: float | None
    note: str | None

    @property
    def better(self) -> str | None:
        """The model that is better on average, or None."""
        if not self.mean_difference:
            return None
        return self.b if (self.mean_difference > 0) == self.higher_is_better else self.a

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the mean difference leaves zero out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def worse_by(self) -> float | None:
        """How much B is worse than A on average, in the metric's unit; negative if better."""
        if self.mean_difference is None:
            return None
        return -self.mean_difference if self.higher_is_better else self.mean_difference

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, with plain dicts for the pairs."""
        return {**asdict(self), "better": self.better}

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def compare(
    store: Store,
    a: str | Model,
    b: str | Model,
    *,
    metric: str = "si_snri",
    operation_type: str | None = None,
    speaker: SpeakerKey | None = None,
    since: Time | None = None,
    until: Time | None = None,
    higher_is_better: bool | None = None,
    cluster: Literal["speaker"] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    ties: float = 1e-9,
) -> Comparison:
    """Compare two models on the recordings that both processed successfully.

    A pair is a recording, or one speaker's voice in it where stems have a speaker, with the
    latest successful run of each model; several stems of a run that are alike in both count by
    the mean of their finite values. Give ``operation_type`` where the models did several.

    Args:
        store: The open database.
        a: The one model, ``demucs:4.0`` or ("demucs", "4.0"); without a version, any.
        b: The other.
        metric: A column of ``model_performance`` or a name in ``additional_metrics``.
        operation_type: Only runs of this operation.
        speaker: Only recordings and stems of this speaker.
        since: Only runs that started then or later.
        until: Only runs that started before.
        higher_is_better: The metric's direction, needed where it is not known.
        cluster: ``"speaker"`` resamples speakers, not recordings: recordings of one speaker are
            alike, and with few speakers an interval that ignores it is too narrow. The p-value
            is then that of the speakers' means.
        confidence: The share of the interval, between 0 and 1.
        resamples: How often the bootstrap draws.
        seed: What its draws begin with.
        ties: Differences that are no larger are ties (in the metric's unit).

    Raises:
        QueryError: A model or the metric is unknown, or an argument cannot be.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: A time cannot be read, or has no time zone.
    """
    how = _How(cluster, confidence, resamples, seed, ties)
    runs = Runs(operation_type=operation_type, speaker=speaker, since=since, until=until)
    with snapshot(store), collection_paused():
        read = _read(store, (a, b), metric, higher_is_better, runs, how)
    return read.comparison(how)


def compare_pairs(
    store: Store,
    a: str | Model,
    b: str | Model,
    *,
    metric: str,
    higher_is_better: bool | None,
    runs: Runs,
) -> tuple[Comparison, tuple[Pair, ...]]:
    """Compare two models as ``compare`` does, and return every pair besides.

    Raises:
        QueryError: A model or the metric is unknown.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: A time cannot be read, or has no time zone.
    """
    how = _How()
    with snapshot(store), collection_paused():
        read = _read(store, (a, b), metric, higher_is_better, runs, how)
        pairs = _named(store, read.pairs)
    return read.comparison(how), pairs


class _Read(NamedTuple):
    """What of a comparison comes from the database."""

    metric: Metric
    pairs: list[_Pair]
    facts: dict[str, Any]

    def comparison(self, how: _How) -> Comparison:
        return Comparison(
            metric=self.metric.name,
            unit=self.metric.unit,
            higher_is_better=self.metric.higher_is_better,
            **self.facts,
            **_center(self.pairs),
            **_tally(self.pairs, self.metric, how),
            **_certainty(self.pairs, how),
        )


def _read(
    store: Store,
    models: tuple[str | Model, str | Model],
    metric: str,
    higher_is_better: bool | None,
    runs: Runs,
    how: _How,
) -> _Read:
    both = [find_model(store, model) for model in models]
    found = find_metric(store, metric, higher_is_better=higher_is_better)
    pairs, excluded = _match(*[_latest(store, found, model, runs) for model in both])
    names = dict(zip("ab", [model_label(*model) for model in both], strict=True))
    return _Read(found, pairs, {**names, **excluded, **_shown(store, pairs, found, how)})


@dataclass(frozen=True, slots=True)
class _How:
    """How pairs are judged."""

    cluster: str | None = None
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0
    ties: float = 1e-9

    def __post_init__(self) -> None:
        if self.cluster not in (None, "speaker"):
            raise QueryError(f"pairs are clustered by 'speaker' or not, never by {self.cluster!r}")
        if not 0 < self.confidence < 1:
            raise QueryError(f"confidence must lie between 0 and 1, not {self.confidence!r}")
        if self.resamples < 1:
            raise QueryError(f"resamples must be 1 or more, not {self.resamples!r}")


# Pairing: two queries and a dict


class _Pair(NamedTuple):
    key: Key
    a: float
    b: float
    difference: float


def _latest(store: Store, metric: Metric, model: Model, runs: Runs) -> dict[Key, list[float]]:
    """Return what the latest successful run of each recording and speaker measured."""
    file, run = ProcessedFile, ProcessingHistory
    columns = (file.original_path, file.id, file.speaker, run.run_id, run.start_time, run.id)
    query = run.select(*columns, metric.value).join_from(run, file)
    query = query.join_from(run, ModelPerformance, pw.JOIN.LEFT_OUTER)
    query = query.where(run.success, *runs_of(store, model, runs), *runs.conditions(store, run))
    found: dict[Key, tuple[str, str, int, list[float]]] = {}
    rows = store.connection().execute(*query.sql()).fetchall()
    for path, file_id, speaker, run_id, start, row, value in rows:
        key = (file_id if path is None else path, speaker)
        latest = found.get(key)
        if latest is None or (latest[0] != run_id and latest[1:3] < (start, row)):
            latest = found[key] = (run_id, start, row, [])
        if latest[0] == run_id and isinstance(value, int | float) and math.isfinite(value):
            latest[3].append(value)
    return {key: latest[3] for key, latest in found.items()}


def _match(
    a: dict[Key, list[float]], b: dict[Key, list[float]]
) -> tuple[list[_Pair], dict[str, Any]]:
    """Return the pairs, in the order of their paths, and how many recordings make none."""
    both = sorted(a.keys() & b.keys(), key=_order)
    pairs = []
    for key in both:
        value_a, value_b = mean(a[key]), mean(b[key])
        if value_a is not None and value_b is not None:
            pairs.append(_Pair(key, value_a, value_b, value_b - value_a))
    excluded = {
        "only_a": len(a) - len(both),
        "only_b": len(b) - len(both),
        "left_out": len(both) - len(pairs),
    }
    return pairs, excluded


def _order(key: Key) -> tuple[str, int]:
    return str(key[0]), key[1] or 0


# What the pairs come to


def _center(pairs: Sequence[_Pair]) -> dict[str, Any]:
    differences = [pair.difference for pair in pairs]
    return {
        "n": len(pairs),
        "mean_a": mean([pair.a for pair in pairs]),
        "mean_b": mean([pair.b for pair in pairs]),
        "mean_difference": mean(differences),
        "median_difference": median(sorted(differences)),
    }


def _tally(pairs: Sequence[_Pair], metric: Metric, how: _How) -> dict[str, Any]:
    ties = sum(abs(pair.difference) <= how.ties for pair in pairs)
    larger = sum(pair.difference > how.ties for pair in pairs)
    smaller = len(pairs) - ties - larger
    wins, losses = (larger, smaller) if metric.higher_is_better else (smaller, larger)
    return {"wins": wins, "losses": losses, "ties": ties}


def _certainty(pairs: Sequence[_Pair], how: _How) -> dict[str, Any]:
    """Return the interval of the mean difference, and the p-value."""
    settings: dict[str, Any] = {
        "confidence": how.confidence,
        "resamples": how.resamples,
        "seed": how.seed,
    }
    values = [pair.difference for pair in pairs]
    if how.cluster is None:
        interval = bootstrap_interval(values, **settings)
    else:
        clusters = _clusters(pairs)
        interval = cluster_bootstrap_interval(clusters, **settings)
        values = [mean(cluster) or 0.0 for cluster in clusters]
    low, high = interval or (None, None)
    p_value, missing = _p_value([value if abs(value) > how.ties else 0.0 for value in values])
    notes = filter(None, (missing, _nameless(pairs) if how.cluster else None))
    return {
        "low": low,
        "high": high,
        "confidence": how.confidence,
        "cluster": how.cluster,
        "clusters": len(values),
        "p_value": p_value,
        "note": "; ".join(notes) or None,
    }


def _clusters(pairs: Sequence[_Pair]) -> list[list[float]]:
    """Return the differences of each speaker; a recording without one stands alone."""
    clusters: dict[object, list[float]] = {}
    for pair in pairs:
        speaker = pair.key[1]
        clusters.setdefault(pair.key if speaker is None else speaker, []).append(pair.difference)
    return list(clusters.values())


def _nameless(pairs: Sequence[_Pair]) -> str | None:
    count = sum(pair.key[1] is None for pair in pairs)
    return f"pairs without a speaker: {count}, each a cluster of its own" if count else None


def _p_value(differences: list[float]) -> tuple[float | None, str | None]:
    try:
        return signed_rank_p(differences), None
    except ImportError:
        return None, str(MissingExtraError("the p-value", "stats"))


# What people read


def _shown(store: Store, pairs: Sequence[_Pair], metric: Metric, how: _How) -> dict[str, Any]:
    """Return the pairs with the largest gains and losses of B."""
    sign = 1 if metric.higher_is_better else -1

    def gain(pair: _Pair) -> float:
        return sign * pair.difference

    gains = [pair for pair in nlargest(_SHOWN, pairs, key=gain) if gain(pair) > how.ties]
    losses = [pair for pair in nsmallest(_SHOWN, pairs, key=gain) if gain(pair) < -how.ties]
    return {"largest_gains": _named(store, gains), "largest_losses": _named(store, losses)}


def _named(store: Store, pairs: Iterable[_Pair]) -> tuple[Pair, ...]:
    """Put names for the ids of speakers, and paths as Python knows them."""
    read = ProcessedFile.original_path.python_value
    pairs = tuple(pairs)
    names = {key: _speaker_name(store, key) for key in {pair.key[1] for pair in pairs}}
    return tuple(
        Pair(
            str(read(place)) if isinstance(place, str) else f"file {place}",
            names[speaker],
            value_a,
            value_b,
            difference,
        )
        for (place, speaker), value_a, value_b, difference in pairs
    )


def _speaker_name(store: Store, speaker: int | None) -> str | None:
    query = Speaker.select(Speaker.name).where(Speaker.id == speaker)
    found = None if speaker is None else store.connection().execute(*query.sql()).fetchone()
    return None if found is None else str(found[0])


def _lines(of: Comparison) -> list[str]:
    unit = f" ({of.unit})" if of.unit else ""
    order = "higher" if of.higher_is_better else "lower"
    lines = [
        f"A: {fit(of.a, WIDTH - 3)}",
        f"B: {fit(of.b, WIDTH - 3)}",
        f"{fit(of.metric, 50)}{unit}, {order} is better",
        "",
        *_verdict(of),
        f"pairs: {of.n}; B better in {of.wins}, A better in {of.losses}, tied in {of.ties}",
        f"left out: {_left_out(of)}",
    ]
    for title, pairs in (("gains", of.largest_gains), ("losses", of.largest_losses)):
        if pairs:
            head = (f"largest {title} of B", "A", "B", "B - A")
            lines += ["", *table(head, [_pair_cells(pair) for pair in pairs])]
    return lines if of.note is None else [*lines, "", of.note]


def _left_out(of: Comparison) -> str:
    alone = f"{of.only_a} of A alone, {of.only_b} of B alone"
    return f"{alone}, {of.left_out} without a finite value"


def _verdict(of: Comparison) -> list[str]:
    """Return who is better, how sure that is, and the averages."""
    if of.mean_difference is None:
        return ["no recording has a value from both", ""]
    better = "A" if of.worse_by and of.worse_by > 0 else "B"
    by = f"{number(abs(of.mean_difference))} {of.unit}".rstrip()
    certainty = [] if of.p_value is None else [f"p = {of.p_value:.2g}"]
    if of.low is not None:
        percent = f"{of.confidence * 100:g} %"
        certainty.insert(0, f"{percent} interval {_signed(of.low)} to {_signed(of.high)}")
    rows = [
        ("mean", number(of.mean_a), number(of.mean_b), _signed(of.mean_difference)),
        ("median", "", "", _signed(of.median_difference)),
    ]
    return [
        f"{better} is better by {by} on average" if of.better else "no difference on average",
        *([", ".join(certainty)] if certainty else []),
        "",
        *table(("", "A", "B", "B - A"), rows),
        "",
    ]


def _pair_cells(pair: Pair) -> tuple[str, str, str, str]:
    label = pair.path if pair.speaker is None else f"{pair.path} ({pair.speaker})"
    return label, number(pair.a), number(pair.b), _signed(pair.difference)


def _signed(value: float | None) -> str:
    text = number(value)
    return f"+{text}" if value is not None and value > 0 else text
