"""What the small pictures of a report draw; ``templates/pictures.html`` writes them as SVG.

Text stays text, and a page's CSS gives the colours: a model's is its class, ``s0`` to ``s6``.
Each draws at most 500 points, and is the same to the byte for the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from voices_peewee.questions.comparison import Comparison
from voices_peewee.questions.comparisons import Comparisons
from voices_peewee.questions.groups import Group
from voices_peewee.questions.leaderboard import LeaderboardRow

T = TypeVar("T")
Colour = Callable[[str], int]

_COLOURS: Final = 7
_POINTS: Final = 500
_LEFT: Final = 200  # a name stands before it
_RIGHT: Final = 696


class Scale(NamedTuple):
    """A linear scale from numbers to places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Three to seven round numbers."""
        step = 10 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(times for times in (1, 2, 5, 10) if (self.high - self.low) / step / times <= 7)
        first = math.ceil(self.low / step)
        return [round(k * step, 12) for k in range(first, math.floor(self.high / step) + 1)]


def _scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    room = (high - low) * 0.04 or abs(low) * 0.1 or 1.0
    return Scale(low - room, high + room, start, end)


def strip(board: Mapping[str, tuple[LeaderboardRow, Group]], colour: Colour) -> dict[str, Any]:
    """Return the values of each model, the best first, and the mean with its interval."""
    rows = [
        (row, colour(name) % _COLOURS, _sampled(sorted(group.values), _POINTS // len(board)))
        for name, (row, group) in board.items()
    ]
    ends = [end for row, *_ in rows for end in (row.low, row.high) if end is not None]
    ends += [value for *_, values in rows for value in values]
    return {"rows": rows, "x": _scale(ends, _LEFT, _RIGHT)}


def paired(pair: Comparison, colour: Colour) -> dict[str, Any]:
    """Return a point for each recording, A across and B up, and the colours of A and B."""
    of = zip(pair.units.a, pair.units.b, strict=True)
    points = _sampled(sorted(of, key=lambda point: point[1] - point[0]), _POINTS)
    ends = [value for point in points for value in point]
    a, b = (colour(name) % _COLOURS for name in (pair.a, pair.b))
    colours = (a, (a + 1) % _COLOURS if a == b else b)
    x, y = _scale(ends, 90, 510), _scale(ends, 440, 20)
    return {"of": pair, "points": points, "colours": colours, "x": x, "y": y}


def ranks(found: Comparisons, colour: Colour) -> dict[str, Any]:
    """Return the mean rank of each model, and who stand under one bar (after Demšar, 2006)."""
    of = found.ranks
    rows = [
        (name, colour(name) % _COLOURS, mean, found.letters[name])
        for name, mean in of.means.items()
    ]
    bars = [[[*of.means].index(name) for name in alike] for alike in of.bars]
    x = Scale(0.8, len(rows) + 0.2, _LEFT, _RIGHT - 22 * len(bars))
    return {"n": of.n, "rows": rows, "bars": bars, "x": x}


def _sampled(ordered: Sequence[T], most: int) -> Sequence[T]:
    """Return at most so many of an ordered list, evenly, both ends among them."""
    if len(ordered) <= most:
        return ordered
    steps = max(most, 2) - 1
    return [ordered[round(k * (len(ordered) - 1) / steps)] for k in range(steps + 1)]
