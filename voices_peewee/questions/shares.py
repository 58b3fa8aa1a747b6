"""Shares of votes, and how sure they are: two models by their mean, more after Bradley and Terry.

Votes of one listener go together, and so do votes on one recording: errors are clustered both
ways (Cameron, Gelbach and Miller, 2011), with one degree of freedom less than there are
listeners or recordings, whichever are fewer.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations
from operator import mul
from statistics import fmean
from typing import Any, Final, NamedTuple

from voices_peewee.questions.stats import Estimate, by_t, cluster_sums, clustered

SURE: Final = 0.95
_NEWTON: Final = 30  # steps; it is there after six
_SAME: Final = 1e-12


class Vote(NamedTuple):
    """A vote on stems A and B: ``share`` is 1 for B, 0 for A, a half for neither.

    ``gain`` is what B's SI-SNRi has more than A's (dB); ``kind`` is what the trial was for.
    """

    listener: str
    recording: Hashable
    a: str
    b: str
    share: float
    stems: tuple[Any, Any] = (0, 0)
    gain: float | None = None
    session: str = ""
    kind: str = "pair"

    def turned(self) -> Vote:
        """Return the same vote with A and B the other way round."""
        gain = None if self.gain is None else -self.gain
        share, stems = 1 - self.share, (self.stems[1], self.stems[0])
        return self._replace(a=self.b, b=self.a, share=share, stems=stems, gain=gain)


def between(votes: Iterable[Vote], a: str, b: str) -> list[Vote]:
    """Return the votes on two models, with A and B as they are given."""
    found = (vote if vote.a == a else vote.turned() for vote in votes if {vote.a, vote.b} == {a, b})
    return list(found)


def preferred(votes: Sequence[Vote], confidence: float = SURE) -> Estimate:
    """Return B's share of votes on two models with its interval, and the p-value of a half."""
    if not votes:
        return Estimate(0)
    center = fmean(vote.share for vote in votes)
    parts = [(vote.share - center) / len(votes) for vote in votes]
    return _estimate(votes, center, 0.5, parts, confidence)


def _estimate(
    votes: Sequence[Vote], center: float, null: float, parts: Sequence[float], confidence: float
) -> Estimate:
    """Return an estimate from what each vote adds to its error.

    A single listener, or a single recording, is no cluster: then the others are, alone.
    """
    both: tuple[list[Hashable], ...] = tuple(zip(*(vote[:2] for vote in votes), strict=True))
    ways = [way for way in both if len(set(way)) > 1]
    if not ways:
        return Estimate(len(votes), center)
    variances = [clustered(parts, way) for way in ways]
    if len(ways) == 2:
        cells = cluster_sums(parts, zip(*ways, strict=True)).values()
        variances.append(sum(variances) - math.fsum(map(mul, cells, cells)))
    error, freedom = math.sqrt(max(variances)), min(len(set(way)) for way in ways) - 1
    if error < _SAME:
        return Estimate(len(votes), center, center, center, identical=True)
    return by_t(len(votes), center, error, freedom, confidence, null)


def bradley_terry(votes: Sequence[Vote], models: Sequence[str]) -> dict[tuple[str, str], Estimate]:
    """Return B's share of votes against A for each pair of models; none where votes join not all.

    Half a vote is added to both sides of each pair that was heard: a model that always wins has
    a finite strength.
    """
    place = {model: number for number, model in enumerate(models)}
    rows = [(place[vote.a], place[vote.b], vote.share) for vote in votes]
    added = [(a, b, 0.5) for a, b in sorted({(min(a, b), max(a, b)) for a, b, _ in rows})]
    if not _are_joined([{a, b} for a, b, _ in added], len(models)):
        return {}
    strength, inverse = _fit([*rows, *added], len(models))
    found = {}
    for a, b in combinations(range(len(models)), 2):
        along = [y - x for x, y in zip(inverse[a], inverse[b], strict=True)]
        parts = [
            (share - _logistic(strength[j] - strength[i])) * (along[j] - along[i])
            for i, j, share in rows
        ]
        logits = _estimate(votes, strength[b] - strength[a], 0.0, parts, SURE)
        mean, low, high = (None if end is None else _logistic(end) for end in logits[1:4])
        found[models[a], models[b]] = logits._replace(mean=mean, low=low, high=high)
    return found


def _are_joined(pairs: Sequence[set[int]], count: int) -> bool:
    reached = {0}
    for _ in range(count):
        reached = reached.union(*(pair for pair in pairs if pair & reached))
    return len(reached) == count


def _fit(
    rows: Sequence[tuple[int, int, float]], count: int
) -> tuple[list[float], list[list[float]]]:
    """Return the strengths of models in logits, the first is 0, and the inverse information."""
    strength, inverse = [0.0] * count, [[0.0]]
    for _ in range(_NEWTON):
        slope = [0.0] * count
        bend = [[float(i == k == 0) for k in range(count)] for i in range(count)]  # holds the first
        for a, b, share in rows:
            expected = _logistic(strength[b] - strength[a])
            for one, other, sign in ((a, b, -1), (b, a, 1)):
                slope[one] += sign * (share - expected)
                bend[one][one] += expected * (1 - expected)
                bend[one][other] -= expected * (1 - expected)
        inverse = _inverse(bend)
        strength = [k + sum(map(mul, row, slope)) for k, row in zip(strength, inverse, strict=True)]
    return strength, inverse


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Return the inverse of a small positive definite matrix (Gauss and Jordan)."""
    size = len(matrix)
    rows = [[*row, *(float(i == k) for k in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in set(range(size)) - {i}:
            rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i], strict=True)]
    return [row[size:] for row in rows]


def _logistic(logits: float) -> float:
    return 1 / (1 + math.exp(-logits))
