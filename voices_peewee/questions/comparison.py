"""Two models on the same recordings: by how much one is better, and how sure that is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial, reduce
from itertools import chain, combinations
from operator import and_, or_
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.questions import comparison_text, remarks
from voices_peewee.questions.comparisons import Comparisons
from voices_peewee.questions.counted import (
    Source,
    conditions,
    coverage,
    differing,
    names_of_speakers,
    paths_of,
)
from voices_peewee.questions.groups import Group, read_side
from voices_peewee.questions.pairing import UNITS, Paired, Units, pair_up
from voices_peewee.questions.selection import (
    Metric,
    Model,
    Runs,
    Side,
    find_metric,
    find_side,
)
from voices_peewee.questions.stats import mean, median
from voices_peewee.questions.tables import Cells, Tabular
from voices_peewee.rendering.table import Column
from voices_peewee.schema import vocabulary
from voices_peewee.schema.exact import exact_number
from voices_peewee.schema.models import ProcessedFile

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["recording", "speaker", "stem"]
_SHOWN: Final = 5


class Pair(NamedTuple):
    """One unit under both models; B − A is ``difference``.

    A recording, a speaker (whose ``path`` is None) or a stem of a recording; ``stems`` is how
    many of each model it is the mean of.
    """

    path: str | None
    speaker: str | None
    a: float
    b: float
    difference: float
    stems: int


@dataclass(frozen=True)
class Comparison(Tabular):
    """How model B did against model A on the recordings of which both have a value.

    Differences are B − A in ``metric_unit``: positive where B's value is larger. ``unit`` is
    what is counted, ``n`` how many there are, ``stems`` what was measured of them. ``low`` …
    ``high`` is the interval of the mean difference and ``p_value`` that of no difference, both
    by Student's t of the units; ``p_adjusted`` is Holm's among several pairs. ``wins`` counts
    the units where B is better, ``losses`` those where A is. ``coverage_a`` and ``coverage_b``
    say what became of the recordings in question, ``lost`` how many of A's lack a value of B,
    ``gained`` the reverse. What the units do not allow is None.
    """

    a: str
    b: str
    metric: str
    metric_unit: str
    higher_is_better: bool
    unit: str
    n: int
    stems: int
    recordings: int
    mean_a: float | None
    mean_b: float | None
    mean_difference: float | None
    median_difference: float | None
    low: float | None
    high: float | None
    confidence: float
    p_value: float | None
    p_adjusted: float | None
    identical: bool
    wins: int
    losses: int
    ties: int
    largest_gains: tuple[Pair, ...]
    largest_losses: tuple[Pair, ...]
    coverage_a: dict[str, int]
    coverage_b: dict[str, int]
    lost: int
    gained: int
    notes: tuple[str, ...]
    of_units: Callable[[], tuple[Pair, ...]] = field(repr=False, compare=False, default=tuple)
    units: Units = field(repr=False, compare=False, default=Units())

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every unit, in the order of the recordings or speakers."""
        return self.of_units()

    @property
    def verdict(self) -> str:
        """``better`` or ``worse``, which B is, ``unclear`` or ``too few``.

        Clear is what the interval says that leaves zero out, and among several pairs also the
        adjusted p-value; ``too few`` are fewer than two units. Identical differences have no
        spread that could say how sure they are: they are unclear.
        """
        if self.low is None or self.high is None:
            return "too few"
        if self.low <= 0 <= self.high or self.identical or self.is_unclear_among_many:
            return "unclear"
        return "better" if (self.low > 0) is self.higher_is_better else "worse"

    @property
    def is_unclear_among_many(self) -> bool:
        """Whether the interval leaves zero out, and the adjusted p-value does not suffice."""
        if self.p_adjusted is None or self.low is None or self.high is None:
            return False
        return not self.low <= 0 <= self.high and self.p_adjusted >= 1 - self.confidence

    @property
    def better(self) -> str | None:
        """The model that is clearly better, or None."""
        return {"better": self.b, "worse": self.a}.get(self.verdict)

    @property
    def worse_by(self) -> tuple[float, float] | None:
        """The interval of how much B is worse than A, in the metric's unit; negative if better."""
        if self.low is None or self.high is None:
            return None
        return (-self.high, -self.low) if self.higher_is_better else (self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it but the units, with plain dicts for the largest differences."""
        shown = {one.name: getattr(self, one.name) for one in fields(self) if one.repr}
        for name in ("largest_gains", "largest_losses"):
            shown[name] = [pair._asdict() for pair in shown[name]]
        return {**shown, "verdict": self.verdict, "better": self.better}

    def facts(self) -> Cells:
        """Return for a DataFrame a row for each unit: path, speaker, a, b, difference."""
        numbers = (Column(name, "float") for name in ("a", "b", "difference"))
        stems = Column("stems", "integer", nullable=False)
        return (Column("path", "path"), Column("speaker"), *numbers, stems), [*self.pairs]

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame; verdict and what is compared are in its ``attrs``."""
        made = super().to_dataframe()
        about = ("a", "b", "metric", "metric_unit", "unit", "verdict", "better")
        made.attrs.update({name: getattr(self, name) for name in about})
        return made

    __str__ = comparison_text.render
    title = property(comparison_text.verdict)
    cells = comparison_text.cells
    said = comparison_text.said


def compare(
    store: Store,
    *models: str | Model,
    metric: str = "si_snri",
    unit: Unit = "recording",
    baseline: str | Model | None = None,
    higher_is_better: bool | None = None,
    confidence: float = 0.95,
    known: Mapping[str, Group] | None = None,
    runs: Runs,
) -> Comparison | Comparisons:
    """Compare models on the same recordings; see ``DatabaseManager.compare``.

    What is ``known`` of some, by their labels, is not read again.
    """
    if unit not in UNITS:
        raise QueryError.unknown_field(unit, UNITS, "unit")
    if not 0 < exact_number("confidence", confidence) < 1:
        raise QueryError(f"confidence must lie between 0 and 1, not {confidence!r}")
    everyone = models if baseline is None else (baseline, *models)
    if len(everyone) < 2:
        raise QueryError("a comparison is of two models or more")
    with store.snapshot(), no_full_collection():
        sides = [find_side(store, model) for model in everyone]
        label, often = Counter(side.label for side in sides).most_common(1)[0]
        if often > 1:
            raise QueryError(f"{label!r} stands twice among the models")
        pairs = [*combinations(sides, 2)][: None if baseline is None else len(models)]
        if isinstance(metric, str) and vocabulary.spelled(metric) == "preference":
            answers = [*_by_votes(store, pairs, runs, unit, confidence)]
        else:
            term = find_metric(store, metric, higher_is_better=higher_is_better)
            answers = [*_by_runs(store, pairs, term, runs, unit, confidence, known or {})]
    if len(answers) == 1:
        return answers[0]
    return Comparisons.of(answers, has_baseline=baseline is not None)


def _by_runs(
    store: Store,
    pairs: Sequence[tuple[Side, Side]],
    metric: Metric,
    runs: Runs,
    unit: str,
    confidence: float,
    known: Mapping[str, Group],
) -> Iterator[Comparison]:
    """Compare pairs of sides by what their runs measured."""
    source, is_of_speakers = Source(store), unit == "speaker"
    sides = {side.label: side for pair in pairs for side in pair}
    read = {
        label: known.get(label) or read_side(source, metric, side, runs, by_speaker=is_of_speakers)
        for label, side in sides.items()
    }
    of_sides = {one.label: reduce(and_, one.conditions(store, runs)) for one in sides.values()}
    of_runs = conditions(store, runs)
    chosen = [*of_runs, reduce(or_, of_sides.values())]
    several = (
        remarks.of_models({label: remarks.models_of(source, [*of_runs, own], ()).get((), ())})
        for label, own in of_sides.items()
        if not sides[label].is_one_model
    )
    notes = (
        *chain.from_iterable(several),
        *remarks.of_unread(source),
        *remarks.of_operations(source, chosen),
        *remarks.of_clocks(source, metric, chosen),
        *remarks.of_checkpoints(source, chosen),
        *remarks.of_contents(source, chosen, sides=of_sides.values()),
    )
    question = _Question.of(store, metric, unit, confidence, [*read.values()], notes)
    for a, b in pairs:
        yield question.answer(a.label, b.label, read[a.label], read[b.label])


def _by_votes(
    store: Store, pairs: Sequence[tuple[Side, Side]], runs: Runs, unit: str, confidence: float
) -> Iterator[Comparison]:
    """Compare pairs of sides by what listeners preferred, which has its own interval."""
    from voices_peewee.questions.preferences import voted

    if unit != "recording":
        raise QueryError("votes are counted by recordings and listeners; leave the unit out")
    sides, found = voted(store, pairs, runs, confidence)
    metric = Metric("preference", True, "")
    question = _Question.of(store, metric, unit, confidence, [*sides.values()], ())
    for (a, b), (paired, note) in found.items():
        answer = question._replace(notes=(note,)).answer(a, b, sides[a], sides[b], paired)
        half = (answer.mean_difference or 0) / 2  # of all votes: recordings have more and fewer
        yield replace(answer, mean_a=0.5 - half, mean_b=0.5 + half)


class _Question(NamedTuple):
    metric: Metric
    unit: str
    confidence: float
    names: Mapping[Any, str]
    paths: Mapping[int, Any]
    in_question: int
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        store: Store,
        metric: Metric,
        unit: str,
        confidence: float,
        sides: Sequence[Group],
        notes: tuple[str, ...],
    ) -> _Question:
        """Return the question of sides, with what speakers and recordings are called."""
        measured: Sequence[int] = sides[0].recordings
        if any(side.recordings != measured for side in sides):
            measured = sorted(set[int]().union(*(side.recordings for side in sides)))
        others = set[int]().union(*(side.others for side in sides)).difference(measured)
        in_question = len(measured) + len(others)
        paths = paths_of(store, measured)
        names = names_of_speakers(store)
        return cls(metric, unit, confidence, names, paths, in_question, notes)

    def answer(
        self, label_a: str, label_b: str, a: Group, b: Group, paired: Paired | None = None
    ) -> Comparison:
        """Return the comparison of two sides, whose units may be given."""
        metric = self.metric
        of_a, of_b = set[int](), set[int]()
        if paired is None and a.recordings != b.recordings:
            of_a, of_b = {*a.recordings}, {*b.recordings}
        paired = paired or pair_up(a, b, self.unit, self.confidence)
        units, found = paired.units, paired.estimate
        ordered = sorted(units.differences)
        smaller = bisect_left(ordered, 0.0)
        larger = len(ordered) - bisect_right(ordered, 0.0)
        wins, losses = (larger, smaller) if metric.higher_is_better else (smaller, larger)
        below = self._pairs(units, _ends(units.differences, ordered[: min(smaller, _SHOWN)]))
        above = self._pairs(units, _ends(units.differences, ordered[::-1][: min(larger, _SHOWN)]))
        gains, worst = (above, below) if metric.higher_is_better else (below, above)
        return Comparison(
            a=label_a,
            b=label_b,
            metric=metric.name,
            metric_unit=metric.unit,
            higher_is_better=metric.higher_is_better,
            unit=self.unit,
            n=found.n,
            stems=paired.stems,
            recordings=paired.recordings,
            mean_a=mean(units.a),
            mean_b=mean(units.b),
            mean_difference=found.mean,
            median_difference=median(ordered),
            low=found.low,
            high=found.high,
            confidence=self.confidence,
            p_value=found.p,
            p_adjusted=None,
            identical=found.identical,
            wins=wins,
            losses=losses,
            ties=len(ordered) - larger - smaller,
            largest_gains=gains,
            largest_losses=worst,
            coverage_a=_coverage(a, paired.short_a, self.in_question),
            coverage_b=_coverage(b, paired.short_b, self.in_question),
            lost=len(of_a - of_b) + len(paired.short_b),
            gained=len(of_b - of_a) + len(paired.short_a),
            notes=(*_counted_out(paired), *_pooled((label_a, a), (label_b, b)), *self.notes),
            of_units=partial(self._pairs, units, range(len(ordered))),
            units=units,
        )

    def _pairs(self, units: Units, places: Iterable[int]) -> tuple[Pair, ...]:
        """Put names for the ids of speakers, and paths as Python knows them."""
        of_speaker, names = self.unit == "speaker", self.names
        read = ProcessedFile.original_path.python_value
        return tuple(
            Pair(
                None if of_speaker else str(read(self.paths[units.recordings[place]])),
                names.get(units.speakers[place]),
                units.a[place],
                units.b[place],
                units.differences[place],
                units.stems[place],
            )
            for place in places
        )


def _ends(differences: Sequence[float], ends: Sequence[float]) -> list[int]:
    """Return the places of the differences that are the largest, which are in order."""
    places: list[int] = []
    for end in ends:  # equal ones follow each other
        is_again = places and differences[places[-1]] == end
        places.append(differences.index(end, places[-1] + 1 if is_again else 0))
    return places


def _coverage(side: Group, short: frozenset[int], in_question: int) -> dict[str, int]:
    """Return what became of the recordings; where a stem is missing, one is partly finite."""
    states, missing = Counter(side.states), len(short - side.partly)
    states["done"] -= missing
    states["partly_finite"] += missing
    return coverage(states, in_question)


def _counted_out(paired: Paired) -> Iterable[str]:
    for name, other, short in (("A", "B", paired.short_a), ("B", "A", paired.short_b)):
        if short:
            what = f"recordings in which {name} lacks a stem's value that {other} has"
            yield f"{what}: {len(short):,}"
    if paired.uneven:
        yield (f"recordings left out, since their stems cannot be matched: {paired.uneven}")
    if paired.nameless:
        yield f"stems left out, since no speaker is known: {paired.nameless}"


def _pooled(*sides: tuple[str, Group]) -> Iterable[str]:
    for label, side in sides:
        if names := differing(side.parameters):
            yield remarks.pools(label, names)
        yield from remarks.of_earlier({label: side})
