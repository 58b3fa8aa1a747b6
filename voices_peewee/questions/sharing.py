"""Handing out what is left to many workers, each source to one."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Generic, NamedTuple

from voices_peewee.questions.outcomes import Candidate, Look, Reason, Row, S
from voices_peewee.records.sources import LOOKUP
from voices_peewee.runs.claims import Claimed, Claims, claimed, clear, require_no_transaction

_FIRST: Final = 16  # sources that are looked at for the next one


class _Seen(NamedTuple):
    """A source as it is now; ``claim`` is one of the dead where nobody works on it."""

    candidate: Candidate[Any]
    reason: Reason | None
    rows: list[Row]
    claim: Claimed | None


class Sharing(Generic[S]):
    """Claims sources one at a time, roughly in their order.

    What somebody works on is passed by; once the others are through, what the dead left of it is
    handed out too.
    """

    def __init__(self, look: Look, lease: dt.timedelta) -> None:
        self._look, self._store = look, look.store
        self._claims = Claims(look.store, look.wanted.digest, lease)
        self._ahead: list[Candidate[S]] = []
        self._passed: list[Candidate[S]] = []

    def take(self, candidates: Iterator[Candidate[S]]) -> tuple[S, Reason]:
        """Return the next source, claimed, and why it is left.

        Raises:
            StopIteration: None is left that nobody works on.
            DatabaseError: It is asked for inside a transaction.
        """
        require_no_transaction(self._store)
        size, is_alone = _FIRST, True
        while self._fill(candidates, size):
            free = self._free(size)
            if not free:
                size = min(2 * size, LOOKUP)
                continue
            # Where others are as fast, each begins somewhere else.
            seen = free[0] if is_alone else random.choice(free)  # noqa: S311 - no secret
            if self._claim(seen):
                self._ahead.remove(seen.candidate)
                return seen.candidate.source, seen.reason  # type: ignore[return-value] # it is free
            is_alone = False
        self._claims.close()
        self._store.retrying(lambda: clear(self._store))
        raise StopIteration

    def close(self, *, is_asked: bool = True) -> None:
        """Give back what no run has begun with."""
        self._claims.close(is_asked=is_asked)

    def _fill(self, candidates: Iterator[Candidate[S]], size: int) -> bool:
        """Have so many sources ahead; after the last, those that the dead have left."""
        self._ahead += islice(candidates, max(0, size - len(self._ahead)))
        if not self._ahead:
            passed, self._passed = self._passed, []
            for seen in self._see(passed):
                if seen.reason == "being worked on":
                    self._passed.append(seen.candidate)
                elif seen.reason == "unfinished" or (seen.reason and seen.claim):
                    self._ahead.append(seen.candidate)
        return bool(self._ahead)

    def _free(self, size: int) -> list[_Seen]:
        """Return what of the next sources is free; the others are put aside."""
        seen, rest = list(self._see(self._ahead[:size])), self._ahead[size:]
        self._passed += [one.candidate for one in seen if one.reason == "being worked on"]
        free = [one for one in seen if one.reason not in (None, "being worked on")]
        self._ahead = [one.candidate for one in free] + rest
        return free

    def _see(self, candidates: Sequence[Candidate[S]]) -> Iterator[_Seen]:
        """Look at sources again; one that failed since the iteration began is done with."""
        rest = iter(candidates)
        while some := list(islice(rest, LOOKUP)):
            places = [one.place for one in some]
            runs = self._look.runs(places)
            claims = claimed(self._store, self._claims.settings, places)
            for one in some:
                rows, claim = runs.get(one.place, []), claims.get(one.place)
                yield _Seen(one, self._look.again(one, rows, claim), rows, claim)

    def _claim(self, seen: _Seen) -> bool:
        place = seen.candidate.place

        def is_as_before() -> bool:
            return _ordered(self._look.runs([place]).get(place, [])) == _ordered(seen.rows)

        return self._claims.take(place, seen.claim, is_as_before)


def _ordered(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.id)
