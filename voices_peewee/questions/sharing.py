"""Handing out what is left to many workers, each source to one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Generic

from voices_peewee.questions.outcomes import Candidate, Look, Reason, S
from voices_peewee.runs.claims import Claims, Held, claimed, facts_of, require_no_transaction

_TOGETHER: Final = 16  # sources that are looked at for the next one


class Sharing(Generic[S]):
    """Claims sources one at a time, in their order.

    What somebody works on is passed by; once the others are through, what is free of it by then
    is handed out too.
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
        found = self._next(candidates)
        if found is None:
            self._ahead, self._passed = self._passed, []
            found = self._next(candidates)
        if found is None:  # what was handed out may be worked on yet: a last batch, other threads'
            raise StopIteration
        return found

    def close(self, *, is_asked: bool = True) -> None:
        """Give back what no run has begun with."""
        self._claims.close(is_asked=is_asked)

    def _next(self, candidates: Iterator[Candidate[S]]) -> tuple[S, Reason] | None:
        """Claim the first source that is free; None where none is."""
        while True:
            self._ahead += islice(candidates, max(0, _TOGETHER - len(self._ahead)))
            if not (some := self._ahead[:_TOGETHER]):
                return None
            reasons = self._store.retrying(self._claim, some, [])
            del self._ahead[: len(reasons)]
            for one, reason in zip(some, reasons, strict=False):
                if reason == "being worked on":
                    self._passed.append(one)
                elif reason is not None:
                    return one.source, reason

    def _claim(self, some: Sequence[Candidate[S]], made: list[Held]) -> list[Reason | None]:
        """Claim the first of some sources that is free; return why they are left, up to it."""
        places, reasons = [one.place for one in some], list[Reason | None]()
        with self._claims.taking(made):
            # First who is at work: of whoever is not, or not any more, all runs are there then.
            busy = claimed(self._store, self._claims.settings, places)
            runs = self._look.runs(places)
            self._look.workers |= {place: facts_of(one.process) for place, one in busy.items()}
            for one in some:
                reason = self._look.again(one, runs.get(one.place, []), None)
                reasons.append("being worked on" if one.place in busy else reason)
                if reasons[-1] not in (None, "being worked on"):
                    made.append(self._claims.add(one.place))
                    break
        return reasons
