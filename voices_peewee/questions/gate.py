"""A comparison as a gate: the sentences for which a build has to stop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from voices_peewee.errors import QueryError
from voices_peewee.questions.comparison import Comparison
from voices_peewee.questions.comparison_text import interval, with_value
from voices_peewee.questions.comparisons import Comparisons
from voices_peewee.rendering.plain import signed


@dataclass(frozen=True)
class Gate:
    """What B must not be: margins in the metric's unit, and how many recordings it may lose.

    ``fail_if_worse`` stops where the interval shows B worse than A by more; with
    ``require_not_worse`` (non-inferiority) B must be shown not to be worse by more.
    """

    fail_if_worse: float | None = None
    require_not_worse: float | None = None
    allow_lost: int = 0

    @property
    def is_set(self) -> bool:
        """Whether there is anything to judge."""
        return self.fail_if_worse is not None or self.require_not_worse is not None

    def check(self, models: Sequence[object], baseline: object) -> None:
        """Refuse to judge by what is no number, or several models without a baseline."""
        for margin in (self.fail_if_worse, self.require_not_worse):
            if margin is not None and not math.isfinite(margin):
                raise QueryError(f"a margin is a finite number, not {margin:g}")
        if self.is_set and baseline is None and len(models) > 2:
            raise QueryError("a gate of three models or more needs a baseline: use --baseline")

    def judge(self, found: Comparison | Comparisons) -> tuple[list[str], list[str]]:
        """Return the reasons to stop, and what else has to be said."""
        pairs = [found] if isinstance(found, Comparison) else list(found.pairs.values())
        reasons = [reason for pair in pairs for reason in self._reasons(pair)]
        return reasons, [remark for pair in pairs for remark in self._remarks(pair)]

    def _reasons(self, pair: Comparison) -> Iterator[str]:
        a, b = pair.a, pair.b
        if not pair.n:
            counts = f"A has {with_value(pair.coverage_a)}, B has {with_value(pair.coverage_b)}"
            yield f"no recording has a value from both {a} and {b}: {counts}"
            return
        worse = pair.worse_by
        if self.fail_if_worse is not None and worse is not None and worse[0] > self.fail_if_worse:
            margin = _margin(pair, self.fail_if_worse)
            yield f"{b} is worse than {a} by more than {margin}: {_worse(pair)}"
        if self.require_not_worse is not None:
            margin = _margin(pair, self.require_not_worse)
            if worse is None:
                yield (
                    f"{b} is not shown to be no more than {margin} worse than {a}: "
                    f"one {pair.unit} has no interval"
                )
            elif worse[1] > self.require_not_worse:
                yield f"{b} is not shown to be no more than {margin} worse than {a}: {_worse(pair)}"
        if pair.lost > self.allow_lost:
            allowed = f"; --allow-lost {self.allow_lost} allows fewer" if self.allow_lost else ""
            lost = f"{pair.lost} recording{'s' * (pair.lost != 1)}"
            yield f"{b} lacks values that {a} has, in {lost}{allowed}"

    def _remarks(self, pair: Comparison) -> Iterator[str]:
        if self.fail_if_worse is not None and pair.n and pair.worse_by is None:
            yield f"one {pair.unit} has no interval: {pair.b} is not shown to be worse"
        if pair.identical and pair.mean_difference:
            yield (
                f"all {pair.n:,} differences between {pair.a} and {pair.b} are identical: "
                "judged is the one there is, which is no certainty"
            )


def _margin(pair: Comparison, margin: float) -> str:
    return f"{margin:g} {pair.metric_unit}".rstrip()


def _worse(pair: Comparison) -> str:
    low, high = pair.worse_by or (0.0, 0.0)
    ends = interval(low, high, pair.metric_unit)
    return f"worse by {signed(low, pair.metric_unit) if pair.identical else ends}"
