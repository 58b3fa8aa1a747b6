"""What two sides measured of the same recordings: stems matched by speaker, units made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from voices_peewee.errors import QueryError
from voices_peewee.questions.counted import Sided, Stem
from voices_peewee.questions.stats import Cell, Estimate, clustered_estimate, estimate

UNITS: Final = ("recording", "speaker", "stem")
_ROUNDING: Final = 1e-12  # of the larger value: a difference that is no larger is none


class Matched(NamedTuple):
    """What both sides measured of a recording, or of one speaker's voice in it."""

    recording: int
    speaker: int | None
    a: float
    b: float
    stems: int

    @property
    def difference(self) -> float:
        """B − A; nothing where only rounding makes one."""
        difference = self.b - self.a
        return difference if abs(difference) > _ROUNDING * abs(self.b) else 0.0


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
    others = b.stems
    for recording in sorted(a.stems.keys() & others.keys()):
        stems = _match(recording, a.stems[recording], others[recording])
        if stems:
            matched += stems if unit != "recording" else [_whole(stems)]
        else:
            uneven += 1
    count = sum(one.stems for one in matched)
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
    if len(a) == len(b) == 1 and a[0].speaker == b[0].speaker:
        return [Matched(recording, a[0].speaker, a[0].value, b[0].value, 1)]  # type: ignore[arg-type]
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
    speakers = {one.speaker for one in (*a, *b)}
    speaker = speakers.pop() if len(speakers) == 1 else None
    return [Matched(recording, speaker, math.fsum(finite_a) / n, math.fsum(finite_b) / n, n)]


def _by_speaker(stems: Sequence[Stem]) -> dict[int, float | None] | None:
    found = {one.speaker: one.value for one in stems if one.speaker is not None}
    return found if len(found) == len(stems) else None


def _finite(stems: Iterable[Stem]) -> list[float]:
    return [one.value for one in stems if one.value is not None]


def _whole(stems: Sequence[Matched]) -> Matched:
    if len(stems) == 1:
        return stems[0]
    return _mean(stems, stems[0].recording, None)


def _mean(parts: Sequence[Matched], recording: int, speaker: int | None) -> Matched:
    n = len(parts)
    a, b = math.fsum(one.a for one in parts) / n, math.fsum(one.b for one in parts) / n
    return Matched(recording, speaker, a, b, sum(one.stems for one in parts))


def _speakers(named: Iterable[Matched]) -> list[Matched]:
    """Return a unit for each speaker: the mean of what is known of them."""
    own: dict[int, list[Matched]] = {}
    for one in named:
        own.setdefault(one.speaker, []).append(one)  # type: ignore[arg-type] # named ones have one
    return [_mean(parts, parts[0].recording, speaker) for speaker, parts in sorted(own.items())]


def lost(a: Sided, b: Sided) -> int:
    """Return how many recordings A has a value of and B, for whatever reason, has none of."""
    return len(a.stems.keys() - b.stems.keys())


def counted_of(sides: Iterable[Sided]) -> set[int]:
    """Return the recordings in question: those of which any side has a run."""
    found: set[int] = set()
    for side in sides:
        found |= side.states.keys()
    return found
