"""Two models on the same recordings: by how much one is better, and how sure that is."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from heapq import nlargest, nsmallest
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from voices_peewee.database.query import no_full_collection
from voices_peewee.errors import MissingExtraError, QueryError
from voices_peewee.questions import comparison_result as comparison_text
from voices_peewee.questions.pairing import Match, pair_up
from voices_peewee.questions.selection import (
    Metric,
    Model,
    Runs,
    Time,
    find_metric,
    find_model,
    model_label,
    snapshot,
)
from voices_peewee.questions.stats import (
    bootstrap_interval,
    cluster_bootstrap_interval,
    mean,
    median,
    signed_rank_p,
)
from voices_peewee.schema.models import ProcessedFile, Speaker

if TYPE_CHECKING:
    import pandas as pd

    from voices_peewee.database.store import SpeakerKey, Store

_SHOWN: Final = 5
_ROUNDING: Final = 1e-12  # of the means


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
        if not self.worse_by:
            return None
        return self.a if self.worse_by > 0 else self.b

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the mean difference leaves zero out."""
        if self.better is None or self.low is None or self.high is None:
            return False
        return not self.low <= 0 <= self.high

    @property
    def worse_by(self) -> float | None:
        """How much B is worse than A on average, in the metric's unit; negative if better.

        Zero where rounding alone tells the means apart.
        """
        if self.mean_a is None or self.mean_b is None or self.mean_difference is None:
            return None
        if math.isclose(self.mean_a, self.mean_b, rel_tol=_ROUNDING):
            return 0.0
        return -self.mean_difference if self.higher_is_better else self.mean_difference

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, with plain dicts for the pairs."""
        return {**asdict(self), "better": self.better}

    def __str__(self) -> str:
        return comparison_text.render(self)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame of one row: all but the pairs, and which model is better.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from voices_peewee.rendering.frames import frame

        specs = comparison_text.SPECS
        return frame(specs, iter([[tuple(getattr(self, spec.name) for spec in specs)]]))

    def _repr_html_(self) -> str:
        return comparison_text.html(self)


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
    with snapshot(store), no_full_collection:
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
    with snapshot(store), no_full_collection:
        read = _read(store, (a, b), metric, higher_is_better, runs, how)
        pairs = _named(store, read.pairs)
    return read.comparison(how), pairs


class _Read(NamedTuple):
    """What of a comparison comes from the database."""

    metric: Metric
    pairs: list[Match]
    facts: dict[str, Any]

    def comparison(self, how: _How) -> Comparison:
        return Comparison(
            metric=self.metric.name,
            unit=self.metric.unit,
            higher_is_better=self.metric.higher_is_better,
            **self.facts,
            **_center(self.pairs, self.metric, how),
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
    pairs, excluded = pair_up(store, found, both, runs)
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
        if not self.ties >= 0:
            raise QueryError(f"ties must be 0 or more, not {self.ties!r}")


# What the pairs come to


def _center(pairs: Sequence[Match], metric: Metric, how: _How) -> dict[str, Any]:
    """Return the averages, and how often which model was better."""
    ordered = sorted([pair.difference for pair in pairs])
    smaller = bisect_left(ordered, -how.ties)
    larger = len(ordered) - bisect_right(ordered, how.ties)
    wins, losses = (larger, smaller) if metric.higher_is_better else (smaller, larger)
    return {
        "n": len(pairs),
        "mean_a": mean([pair.a for pair in pairs]),
        "mean_b": mean([pair.b for pair in pairs]),
        "mean_difference": mean(ordered),
        "median_difference": median(ordered),
        "wins": wins,
        "losses": losses,
        "ties": len(ordered) - larger - smaller,
    }


def _certainty(pairs: Sequence[Match], how: _How) -> dict[str, Any]:
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


def _clusters(pairs: Sequence[Match]) -> list[list[float]]:
    """Return the differences of each speaker; a recording without one stands alone."""
    clusters: dict[object, list[float]] = {}
    for pair in pairs:
        speaker = pair.key[1]
        clusters.setdefault(pair.key if speaker is None else speaker, []).append(pair.difference)
    return list(clusters.values())


def _nameless(pairs: Sequence[Match]) -> str | None:
    count = sum(pair.key[1] is None for pair in pairs)
    return f"pairs without a speaker: {count}, each a cluster of its own" if count else None


def _p_value(differences: list[float]) -> tuple[float | None, str | None]:
    try:
        return signed_rank_p(differences), None
    except ImportError:
        return None, str(MissingExtraError("the p-value", "stats"))


# What people read


def _shown(store: Store, pairs: Sequence[Match], metric: Metric, how: _How) -> dict[str, Any]:
    """Return the pairs with the largest gains and losses of B."""
    difference = attrgetter("difference")
    above = [pair for pair in nlargest(_SHOWN, pairs, difference) if pair.difference > how.ties]
    below = [pair for pair in nsmallest(_SHOWN, pairs, difference) if pair.difference < -how.ties]
    gains, losses = (above, below) if metric.higher_is_better else (below, above)
    return {"largest_gains": _named(store, gains), "largest_losses": _named(store, losses)}


def _named(store: Store, pairs: Iterable[Match]) -> tuple[Pair, ...]:
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
