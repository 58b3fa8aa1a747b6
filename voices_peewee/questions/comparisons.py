"""Three models or more: every pair, or one against all, adjusted for their number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from voices_peewee.errors import QueryError
from voices_peewee.questions import comparison_text
from voices_peewee.questions.stats import holm, letters
from voices_peewee.questions.tables import Cells, Tabular
from voices_peewee.rendering.plain import signed
from voices_peewee.rendering.table import Column

if TYPE_CHECKING:
    from voices_peewee.questions.comparison import Comparison

_NUMBERS: Final = ("mean_a", "mean_b", "mean_difference", "low", "high", "p_value", "p_adjusted")


class Ranks(NamedTuple):
    """Mean ranks, after Demšar (Statistical Comparisons of Classifiers, JMLR 2006).

    ``means`` has the mean rank of each model, the best (nearest 1) first, over ``n`` common
    recordings; equal values share the mean of their ranks. ``bars`` are the models that cannot
    be told apart: those that share a letter, in the same order.
    """

    n: int
    means: dict[str, float]
    bars: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, repr=False)
class Comparisons(Tabular):
    """Comparisons of several models, whose verdicts follow Holm's adjusted p-values.

    ``pairs`` maps two models, in the order given, to their comparison, which
    ``found["a:1", "b:1"]`` returns too. Models that share one of the ``letters`` cannot be
    told apart; with a baseline there are none. Intervals are single ones.
    """

    width: ClassVar[int | None] = None
    models: tuple[str, ...]
    pairs: dict[tuple[str, str], Comparison]
    letters: dict[str, str]
    baseline: str | None

    @classmethod
    def of(cls, answers: Sequence[Comparison], *, has_baseline: bool) -> Comparisons:
        """Adjust the p-values of comparisons for their number."""
        known = [answer.p_value for answer in answers if answer.p_value is not None]
        adjusted = iter(holm(known))
        made = {
            (one.a, one.b): replace(one, p_adjusted=None if one.p_value is None else next(adjusted))
            for one in answers
        }
        models = tuple(dict.fromkeys(chain.from_iterable(made)))
        apart = [key for key, pair in made.items() if pair.better is not None]
        told = {} if has_baseline else letters(models, apart)
        return cls(models, made, told, models[0] if has_baseline else None)

    @cached_property
    def ranks(self) -> Ranks:
        """Mean ranks on the recordings that all have a value of; with a baseline there are none.

        Raises:
            QueryError: Something else than recordings was counted.
        """
        if self._any.unit != "recording":
            raise QueryError(f"ranks are of recordings, not of {self._any.unit}s")
        if self.baseline is not None:
            return Ranks(0, {}, ())
        return _mean_ranks(self.models, self.pairs, self.letters)

    def __getitem__(self, key: tuple[str, str]) -> Comparison:
        return self.pairs[key]

    def __len__(self) -> int:
        return len(self.pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it: the models, the letters, and each pair as its ``to_dict``."""
        return {
            "models": list(self.models),
            "baseline": self.baseline,
            "letters": self.letters,
            "pairs": [pair.to_dict() for pair in self.pairs.values()],
        }

    def facts(self) -> Cells:
        """Return for a DataFrame a row for each pair."""
        names = ("a", "b", "verdict", "better", "n", "stems", *_NUMBERS)
        kinds = {"n": "integer", "stems": "integer", **dict.fromkeys(_NUMBERS, "float")}
        columns = [
            Column(name, kinds.get(name, "text"), nullable=name not in kinds) for name in names
        ]
        return columns, [
            tuple(getattr(pair, name) for name in names) for pair in self.pairs.values()
        ]

    def more(self) -> list[str]:
        """Return the verdict of each pair."""
        said = [f"{a} and {b}: {_said(pair)}" for (a, b), pair in self.pairs.items()]
        return ["", *said, ""]

    @property
    def _any(self) -> Comparison:
        return next(iter(self.pairs.values()))

    @property
    def title(self) -> str:
        """The metric, and how to read the table."""
        return f"{comparison_text.metric(self._any)}; column - row"

    def cells(self) -> Cells:
        """Return the differences with their marks: a row and a column for each model."""
        down, across = self.models if self.letters else self.models[:1], self.models[1:]
        columns = [Column("model", "key", " ")]
        columns += [Column("letters", "text", "same")] if self.letters else []
        columns += [Column(model, "text", model) for model in across]
        rows: list[tuple[object, ...]] = []
        for model in down:
            cells = [_cell(self.pairs.get((model, other))) for other in across]
            told = [self.letters[model]] if self.letters else []
            rows.append((model, *told, *cells))
        return columns, rows

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know: intervals, letters and coverage."""
        some = self._any
        percent = f"{some.confidence * 100:g} %"
        counted = sum(pair.p_value is not None for pair in self.pairs.values())
        notes = [
            f"{percent} intervals are single ones (Student's t); p is Holm's, of {counted} pairs",
            "told apart are those with *",
        ]
        if self.letters:
            notes.append("models that share a letter cannot be told apart")
        coverage: dict[str, dict[str, int]] = {}
        for (a, b), pair in self.pairs.items():
            coverage = {b: pair.coverage_b, a: pair.coverage_a} | coverage
        covered, metric = comparison_text.covered, some.metric
        notes += [covered(model, coverage[model], metric) for model in self.models]
        every = dict.fromkeys(note for pair in self.pairs.values() for note in pair.notes)
        return (*notes, *every)


def _cell(pair: Comparison | None) -> str | None:
    if pair is None:
        return None
    if pair.mean_difference is None:
        return "none common"
    difference = signed(pair.mean_difference, pair.metric_unit)
    if pair.low is None:
        return difference
    if pair.identical:
        return f"{difference} (identical)"
    interval = comparison_text.interval(pair.low, pair.high, pair.metric_unit)
    return f"{difference}{'*' if pair.better else ''} ({interval})"


def _said(pair: Comparison) -> str:
    """Return a pair's verdict with the names of its models."""
    p = "" if pair.p_adjusted is None else f", p = {pair.p_adjusted:.2g}"
    return comparison_text.verdict(pair, (pair.a, pair.b)) + p


def _mean_ranks(
    models: Sequence[str], pairs: Mapping[tuple[str, str], Comparison], letters: Mapping[str, str]
) -> Ranks:
    """Return the ranks of models of which every pair was compared."""
    of_pairs = {
        both: dict(zip(pair.units.recordings, pair.units.differences, strict=True))
        for both, pair in pairs.items()
    }
    common = set.intersection(*map(set, of_pairs.values()))
    behind = dict.fromkeys(models, 0.0)  # how often another one was better; half of a tie
    for (a, b), of in of_pairs.items():
        differences = [of[one] for one in common]
        ties = differences.count(0.0)
        above = sum(difference > 0 for difference in differences)
        losses = above if pairs[a, b].higher_is_better else len(common) - ties - above
        behind[a] += losses + ties / 2
        behind[b] += len(common) - losses - ties / 2
    if not common:
        return Ranks(0, {}, ())
    ranked = sorted(models, key=behind.__getitem__)
    means = {model: 1 + behind[model] / len(common) for model in ranked}
    return Ranks(len(common), means, _bars(means, letters))


def _bars(means: Mapping[str, float], letters: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Return the models of each letter that several share."""
    own = {model: re.findall("[a-z]'*", letters[model]) for model in means}
    every = dict.fromkeys(chain.from_iterable(own.values()))
    shared = (tuple(model for model in means if letter in own[model]) for letter in every)
    return tuple(models for models in shared if len(models) > 1)
