"""Rows of recordings taken into a group: by columns where they are alike, else one by one."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from voices_peewee.questions.counted import (
    ABOUT,
    NOT_DONE,
    RECORDING,
    RUN,
    VALUE,
    WHOSE,
    Row,
    Source,
    finite,
    in_runs,
    state_of,
)
from voices_peewee.questions.selection import LARGEST, Metric

if TYPE_CHECKING:
    from voices_peewee.questions.groups import Group, Stem

_MOST_SETTINGS: Final = 1_000  # of one group, that are looked at for what differs


@dataclass(frozen=True, slots=True)
class Taker:
    """Puts rows into groups; ``is_side`` keeps the stems, so that these can be matched.

    What a metric says of the whole run is nobody's, and each of its speakers' ``by_speaker``.
    """

    source: Source
    metric: Metric
    is_side: bool
    by_speaker: bool

    def take(self, group: Group, rows: list[Row]) -> None:
        """Take the rows of recordings, by columns where these are alike, which they mostly are."""
        if self._take_alike(group, rows):
            return
        often = Counter(map(itemgetter(RECORDING), rows))
        usual = Counter(often.values()).most_common(1)[0][0]
        odd = {recording for recording, count in often.items() if count != usual}
        odd.update(
            row[RECORDING]
            for row in rows
            if row[ABOUT] in NOT_DONE
            or type(row[VALUE]) is not float
            or not -LARGEST <= row[VALUE] <= LARGEST
        )
        self._take_each(group, [row for row in rows if row[RECORDING] in odd])
        rows = [row for row in rows if row[RECORDING] not in odd]
        if rows and not self._take_alike(group, rows):
            self._take_each(group, rows)

    def _take_alike(self, group: Group, rows: list[Row]) -> bool:
        """Take recordings that have one alike run each; return whether they have.

        That is one that succeeded, with as many stems as the others have, each with a value.
        """
        columns = list(zip(*rows, strict=True))
        recordings, values, is_of_run = columns[RECORDING], columns[VALUE], self.metric.is_of_run
        abouts = {*columns[ABOUT]}
        if not abouts.isdisjoint(NOT_DONE):
            return False
        count = len({*recordings})
        stems = len(recordings) // count
        once = recordings[::stems]
        if len(once) > count or (stems > 1 and not _is_one_run(columns, once, stems)):
            return False
        if stems > 1 and (self.by_speaker if is_of_run else None in values):
            return False
        try:
            numbers = array("d", _means(values, stems))
            costs = [_or_nan(_means(columns[place], stems)) for place in group.places]
        except TypeError:  # one of a run's stems has none, or it is no number
            return False
        known = numbers if stems == 1 else [value for value in values if value is not None]
        if not -LARGEST <= min(known) <= max(known) <= LARGEST:
            return False
        group.recordings.extend(array("q", once))
        group.values.extend(numbers)
        group.stems.extend(array("q", [1 if is_of_run else stems]) * len(once))
        for own, column in zip(group.costs, costs, strict=True):
            own.extend(column)
        if self.is_side:
            self._keep_stems(group, columns, once)
        if len(group.parameters) < _MOST_SETTINGS:
            group.parameters.update(abouts)
        return True

    def _keep_stems(
        self, group: Group, columns: list[tuple[Any, ...]], once: tuple[int, ...]
    ) -> None:
        stems, whose = len(columns[RECORDING]) // len(once), columns[WHOSE]
        is_nobodys = self.metric.is_of_run and not self.by_speaker
        group.whose.extend([None] * len(once) if stems > 1 or is_nobodys else whose)
        if stems > 1 and not is_nobodys:
            pairs = tuple(zip(whose, columns[VALUE], strict=True))
            parts = (pairs[place::stems] for place in range(stems))
            group.several.update(zip(once, zip(*parts, strict=True), strict=True))

    def _take_each(self, group: Group, rows: list[Row]) -> None:
        if len(group.successful) < _MOST_SETTINGS:
            group.successful.update({row[ABOUT] for row in rows} - NOT_DONE)
        for recording, run, has_failed in in_runs(rows, self.source.starts(rows)):
            group.failed_since += has_failed
            stems = [(row[WHOSE] if self.is_side else None, finite(row[VALUE])) for row in run]
            group.unread += sum(isinstance(row[VALUE], str | bytes) for row in run)
            if self.metric.is_of_run:
                stems = _of_run(stems, by_speaker=self.by_speaker)
            known = [value for _, value in stems if value is not None]
            state = state_of(run, len(known), len(stems))
            if state != "done":
                group.others[recording] = state
            if state in NOT_DONE:
                continue
            if len(group.parameters) < _MOST_SETTINGS:
                group.parameters.add(run[0][ABOUT])
            if known:
                self._take_run(group, run, stems, known)

    def _take_run(
        self, group: Group, run: list[Row], stems: list[Stem], known: list[float]
    ) -> None:
        recording, group.is_mixed = run[0][RECORDING], True
        group.recordings.append(recording)
        group.values.append(sum(known) / len(known))
        group.stems.append(len(known))
        for place, own in zip(group.places, group.costs, strict=True):
            cost = [number for row in run if (number := finite(row[place])) is not None]
            own.append(sum(cost) / len(cost) if cost else math.nan)
        if self.is_side:
            group.whose.append(stems[0][0] if len(stems) == 1 else None)
        if self.is_side and len(stems) > 1:
            group.several[recording] = stems


def _of_run(stems: Sequence[Stem], *, by_speaker: bool) -> list[Stem]:
    """Return what a run measured as a whole: once, or once for each of its speakers."""
    known = [value for _, value in stems if value is not None]
    value = sum(known) / len(known) if known else None  # outputs may have their own
    whose = dict.fromkeys(speaker for speaker, _ in stems) if by_speaker else (None,)
    return [] if value is None else [(speaker, value) for speaker in whose]


def _or_nan(costs: Sequence[Any]) -> array[float]:
    try:
        return array("d", costs)
    except TypeError:
        return array("d", [math.nan if cost is None else cost for cost in costs])


def _is_one_run(columns: Sequence[tuple[Any, ...]], once: tuple[int, ...], stems: int) -> bool:
    recordings, runs = columns[RECORDING], columns[RUN]
    return all(recordings[place::stems] == once for place in range(1, stems)) and all(
        runs[place::stems] == runs[::stems] for place in range(1, stems)
    )


def _means(values: tuple[Any, ...], stems: int) -> Sequence[Any]:
    """Return the means of so many stems each; what none of them has is None."""
    if stems == 1:
        return values
    parts = [values[place::stems] for place in range(stems)]
    known = [part for part in parts if part.count(None) < len(part)]
    if not known:
        return parts[0]
    return [sum(each) / len(known) for each in zip(*known, strict=True)]
