"""What two sides measured of the same recordings: stems matched by speaker, units made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from voices_peewee.errors import QueryError
from voices_peewee.questions.sides import Sided, Stem
from voices_peewee.questions.stats import Cell, Estimate, clustered_estimate, estimate

UNITS: Final = ("recording", "speaker", "stem")
_ROUNDING: Final = 1e-12  # of the larger value: a difference that is no larger is none


class Matched(NamedTuple):
    """What both sides measured of a recording, or of one speaker's voice in it; B − A."""

    recording: int
    speaker: int | None
    a: float
    b: float
    difference: float
    stems: int


def _matched(recording: int, speaker: int | None, a: Any, b: Any, stems: int) -> Matched:
    difference = b - a
    if -(least := _ROUNDING * abs(b)) <= difference <= least:
        difference = 0.0
    return Matched(recording, speaker, a, b, difference, stems)


class Paired(NamedTuple):
    """The units of a comparison, and what was counted on the way.

    ``uneven`` counts recordings whose stems could not be matched, ``nameless`` stems that no
    speaker is known of where speakers count.
    """

    units: list[Matched]
    estimate: Estimate
    stems: int
    recordings: int
    uneven: int
    nameless: int


def pair_up(a: Sided, b: Sided, unit: str, confidence: float) -> Paired:
    """Match the stems of the recordings that both sides have a value of, and make units of them.

    Raises:
        QueryError: Speakers count, and no stem has one.
    """
    matched: list[Matched] = []
    uneven = 0
    of_a, of_b = a.stems, b.stems
    for recording in sorted(of_a.keys() & of_b.keys()):
        own, other = of_a[recording], of_b[recording]
        speaker, value = own[0]
        if len(own) == 1 and len(other) == 1 and speaker == other[0][0]:  # most often, and fast
            matched.append(_matched(recording, speaker, value, other[0][1], 1))
        elif stems := _match(recording, own, other):
            matched += stems if unit != "recording" else [_whole(stems)]
        else:
            uneven += 1
    count = sum([one.stems for one in matched])
    recordings = len({one.recording for one in matched}) if unit != "recording" else len(matched)
    if unit != "speaker":
        found = estimate([one.difference for one in matched], confidence)
        return Paired(matched, found, count, recordings, uneven, 0)
    named = [one for one in matched if one.speaker is not None]
    if matched and not named:
        raise QueryError(
            "no stem has a speaker; count recordings: unit='recording', in the shell "
            "--unit recording"
        )
    cells = [Cell(one.speaker, one.recording, one.difference) for one in named]
    found = clustered_estimate(cells, confidence)
    nameless = count - sum(one.stems for one in named)
    recordings = len({one.recording for one in named})
    return Paired(_speakers(named), found, count - nameless, recordings, uneven, nameless)


def _match(recording: int, a: Sequence[Stem], b: Sequence[Stem]) -> list[Matched]:
    """Return the stems that both have a finite value of; none where they cannot be matched."""
    own, other = _by_speaker(a), _by_speaker(b)
    if own is not None and other is not None:
        return [
            _matched(recording, speaker, value, other_value, 1)
            for speaker, value in sorted(own.items())
            if value is not None and (other_value := other.get(speaker)) is not None
        ]
    finite_a, finite_b = _finite(a), _finite(b)
    if len(finite_a) != len(finite_b):
        return []
    n = len(finite_a)
    speakers = {speaker for speaker, _ in (*a, *b)}
    speaker = speakers.pop() if len(speakers) == 1 else None
    return [_matched(recording, speaker, math.fsum(finite_a) / n, math.fsum(finite_b) / n, n)]


def _by_speaker(stems: Sequence[Stem]) -> dict[int, float | None] | None:
    found = {speaker: value for speaker, value in stems if speaker is not None}
    return found if len(found) == len(stems) else None


def _finite(stems: Iterable[Stem]) -> list[float]:
    return [value for _, value in stems if value is not None]


def _whole(stems: Sequence[Matched]) -> Matched:
    if len(stems) == 1:
        return stems[0]
    return _mean(stems, stems[0].recording, None)


def _mean(parts: Sequence[Matched], recording: int, speaker: int | None) -> Matched:
    n = len(parts)
    a, b = math.fsum(one.a for one in parts) / n, math.fsum(one.b for one in parts) / n
    return _matched(recording, speaker, a, b, sum(one.stems for one in parts))


def _speakers(named: Iterable[Matched]) -> list[Matched]:
    """Return a unit for each speaker: the mean of what is known of them."""
    own: dict[int, list[Matched]] = {}
    for one in named:
        own.setdefault(one.speaker, []).append(one)  # type: ignore[arg-type] # named ones have one
    return [_mean(parts, parts[0].recording, speaker) for speaker, parts in sorted(own.items())]
