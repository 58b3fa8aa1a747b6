"""What two sides measured of the same recordings: stems matched by speaker, units made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import sub
from typing import Final, NamedTuple

from voices_peewee.errors import QueryError
from voices_peewee.questions.groups import Group, Stem
from voices_peewee.questions.stats import Estimate, clustered_estimate, estimate

UNITS: Final = ("recording", "speaker", "stem")
_ROUNDING: Final = 1e-12  # of the larger value: a difference that is no larger is none


class Matched(NamedTuple):
    """What both sides measured of a recording, or of one speaker's voice in it."""

    recording: int
    speaker: int | None
    a: float
    b: float
    stems: int


class Units(NamedTuple):
    """Units, column by column: what ``Matched`` has, and the differences B − A."""

    recordings: Sequence[int] = ()
    speakers: Sequence[int | None] = ()
    a: Sequence[float] = ()
    b: Sequence[float] = ()
    stems: Sequence[int] = ()
    differences: Sequence[float] = ()

    @classmethod
    def of(cls, rows: Sequence[Matched]) -> Units:
        """Return what was matched, column by column."""
        if not rows:
            return cls()
        recordings, speakers, a, b, stems = zip(*rows, strict=True)
        return cls(recordings, speakers, a, b, stems, _differences(a, b))


def _differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    found = list(map(sub, b, a))
    if min(map(abs, found), default=0.0) > _ROUNDING * max(map(abs, b), default=0.0):
        return found
    return [
        0.0 if abs(difference) <= _ROUNDING * abs(value) else difference
        for difference, value in zip(found, b, strict=True)
    ]


class Paired(NamedTuple):
    """The units of a comparison, and what was counted on the way.

    ``short_a`` and ``short_b`` are the recordings in which a side lacks a stem's value that the
    other one has; ``uneven`` counts recordings whose stems could not be matched, ``nameless``
    stems that no speaker is known of where speakers count.
    """

    units: Units
    estimate: Estimate
    stems: int
    recordings: int
    uneven: int
    nameless: int
    short_a: frozenset[int] = frozenset()
    short_b: frozenset[int] = frozenset()


def pair_up(a: Group, b: Group, unit: str, confidence: float) -> Paired:
    """Match the stems of the recordings that both sides have a value of, and make units of them."""
    a, b = _in_common(a, b)
    units, uneven, *short = _match_all(a, b, whole=unit == "recording")
    count = sum(units.stems)
    if unit != "speaker":
        found = estimate(units.differences, confidence)
        return Paired(units, found, count, len({*units.recordings}), uneven, 0, *short)
    every = map(Matched, *units[:5])
    named = [one for one in every if one.speaker is not None]
    if count and not named:
        raise QueryError(
            "no stem has a speaker; count recordings: unit='recording'",
            cli="count recordings: --unit recording",
        )
    of_each = Units.of(named)
    found = clustered_estimate(of_each.differences, *of_each[1::-1], confidence)
    recordings, stems = len({*of_each.recordings}), sum(of_each.stems)
    of_speakers = Units.of(_speakers(named))
    return Paired(of_speakers, found, stems, recordings, uneven, count - stems, *short)


def _in_common(a: Group, b: Group) -> tuple[Group, Group]:
    if a.recordings == b.recordings:
        return a, b
    common = {*a.recordings}.intersection(b.recordings)
    return a.kept(common), b.kept(common)


def _match_all(
    a: Group, b: Group, *, whole: bool
) -> tuple[Units, int, frozenset[int], frozenset[int]]:
    """Return the stems of the recordings, or these as a whole, and how many are uneven.

    And the recordings in which a side lacks a stem's value that the other one has.
    """
    if a.whose == b.whose and not a.several and not b.several:  # most often, and fast
        columns = (a.values, b.values, [1] * len(a.values), _differences(a.values, b.values))
        return Units(a.recordings, a.whose, *columns), 0, frozenset(), frozenset()
    matched: list[Matched] = []
    uneven, lacking_a, lacking_b = 0, set[int](), set[int]()
    for recording, own, other in zip(a.recordings, a.each(), b.each(), strict=True):
        stems = _match(recording, own, other)
        uneven += not stems
        matched += [_mean(stems)] if whole and stems else stems
        if len(stems) == len(own) == len(other):  # most often: nothing is lacking
            continue
        lacking_a |= {recording} if _lacks(own, other) else set()
        lacking_b |= {recording} if _lacks(other, own) else set()
    return Units.of(matched), uneven, frozenset(lacking_a), frozenset(lacking_b)


def _match(recording: int, a: Sequence[Stem], b: Sequence[Stem]) -> list[Matched]:
    """Return the stems that both have a finite value of; none where they cannot be matched."""
    own, other = _by_speaker(a), _by_speaker(b)
    if own is not None and other is not None:
        return [
            Matched(recording, speaker, value, other_value, 1)
            for speaker, value in sorted(own.items())
            if value is not None and (other_value := other.get(speaker)) is not None
        ]
    finite_a, finite_b = _finite(a), _finite(b)
    if len(finite_a) != len(finite_b):
        return []
    n = len(finite_a)
    speakers = {speaker for speaker, _ in (*a, *b)}
    speaker = speakers.pop() if len(speakers) == 1 else None
    return [Matched(recording, speaker, math.fsum(finite_a) / n, math.fsum(finite_b) / n, n)]


def _lacks(own: Sequence[Stem], other: Sequence[Stem]) -> bool:
    """Whether a side has no value of a stem that the other one has a value of."""
    mine, theirs = _by_speaker(own), _by_speaker(other)
    if mine is None or theirs is None:
        return len(_finite(own)) < len(_finite(other))
    return any(mine.get(one) is None for one, value in theirs.items() if value is not None)


def _by_speaker(stems: Sequence[Stem]) -> dict[int, float | None] | None:
    found = {speaker: value for speaker, value in stems if speaker is not None}
    return found if len(found) == len(stems) else None


def _finite(stems: Iterable[Stem]) -> list[float]:
    return [value for _, value in stems if value is not None]


def _mean(parts: Sequence[Matched]) -> Matched:
    """Return the mean of stems, and whose it is where all are one speaker's."""
    n, speakers = len(parts), {one.speaker for one in parts}
    a, b = math.fsum(one.a for one in parts) / n, math.fsum(one.b for one in parts) / n
    speaker = speakers.pop() if len(speakers) == 1 else None
    return Matched(parts[0].recording, speaker, a, b, sum(one.stems for one in parts))


def _speakers(named: Iterable[Matched]) -> list[Matched]:
    """Return a unit for each speaker: the mean of what is known of them."""
    own: dict[int, list[Matched]] = {}
    for one in named:
        own.setdefault(one.speaker, []).append(one)  # type: ignore[arg-type] # named ones have one
    return [_mean(parts) for _, parts in sorted(own.items())]
