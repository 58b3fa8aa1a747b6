"""Which model listeners prefer: what the votes of blind tests say, beside SI-SNRi."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from statistics import StatisticsError, correlation, fmean
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.questions.groups import Group
from voices_peewee.questions.pairing import Matched, Paired, Units
from voices_peewee.questions.selection import Runs, Side
from voices_peewee.questions.shares import SURE, Vote, between, bradley_terry, preferred
from voices_peewee.questions.stats import Estimate, holm
from voices_peewee.questions.tables import Cells, Tabular
from voices_peewee.rendering.plain import signed
from voices_peewee.rendering.table import Column
from voices_peewee.schema.models import (
    ListeningTest,
    ListeningVote,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
)

_SHARES: Final = {"a": 0.0, None: 0.5, "b": 1.0}
_UNREADABLE: Final = (AttributeError, LookupError, TypeError)  # what another program wrote


class Preference(NamedTuple):
    """How often B was preferred to A: ``share`` is of all votes, no preference is half a vote.

    ``low`` … ``high`` is its 95 % interval, ``p_adjusted`` the p-value by Holm among the pairs
    of the test. ``gain`` is the mean SI-SNRi of B's stems minus A's (dB), and ``correlation``
    that of both over the ``stems``, the pairs that were heard. What the votes do not allow is
    None.
    """

    a: str
    b: str
    votes: int
    listeners: int
    recordings: int
    share: float | None
    low: float | None
    high: float | None
    p_adjusted: float | None
    stems: int
    gain: float | None
    correlation: float | None

    @property
    def better(self) -> str | None:
        """The model that is clearly preferred, or None."""
        if self.p_adjusted is None or self.share is None or self.p_adjusted >= 1 - SURE:
            return None
        return self.b if self.share > 0.5 else self.a

    def cells(self) -> tuple[object, ...]:
        """Return what a table shows of it."""
        share, low, high = (None if end is None else percent(end) for end in self[5:8])
        interval = None if low is None else f"{low} to {high}"
        p = None if self.p_adjusted is None else f"{self.p_adjusted:.2g}"
        return (*self[:5], share, interval, p)

    def __str__(self) -> str:
        if self.share is None:
            return f"{self.a} and {self.b}: the votes do not join them"
        said = f"{self.better} is preferred" if self.better else "no clear preference"
        said = f"{said}: {percent(self.share)} of votes for {self.b} against {self.a}"
        if self.gain is None:
            return said
        said = f"{said}; SI-SNRi has {signed(self.gain, 'dB')} dB for {self.b}"
        if self.better is not None and self.gain:
            agree = (self.gain > 0) is (self.better == self.b)
            said += f", which {'agrees' if agree else 'disagrees'}"
        if self.correlation is not None:
            said += f"; both have r = {self.correlation:.2f} over {self.stems} pairs of stems"
        return said


def percent(share: float) -> str:
    """Return a share for people; an interval ends where shares do."""
    return f"{min(1.0, max(0.0, share)):.0%}".replace("%", " %")


@dataclass(frozen=True, repr=False)
class Listened(Tabular):
    """What a listening test came to; ``notes`` say what a reader has to know of its votes."""

    test: str
    question: str
    pairs: tuple[Preference, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The test and what was asked in it."""
        return f"test {self.test}: {self.question}"

    def cells(self) -> Cells:
        """Return a row for each pair; one pair's p-value is not adjusted."""
        columns = [
            *(Column(name, "key", name.upper()) for name in "ab"),
            Column("votes", "count"),
            *(Column(name, "count", priority=1) for name in ("listeners", "recordings")),
            Column("share", "number", "for B"),
            Column("interval", "number", "95 % interval"),
            Column("p", "number", "p, Holm" if len(self.pairs) > 1 else "p"),
        ]
        return columns, [pair.cells() for pair in self.pairs]

    def said(self, rows: object = ()) -> list[str]:  # noqa: ARG002 - there are always some
        """Return all of it that is no table."""
        return [*map(str, self.pairs), *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        facts = {name: getattr(self, name) for name in ("test", "question", "notes")}
        return facts | {"pairs": [pair._asdict() for pair in self.pairs]}


def listened(store: Store) -> list[Listened]:
    """Return what each listening test came to that has votes, the oldest first."""
    with store.snapshot():
        tests = list(ListeningTest.select().order_by(ListeningTest.id))
        read = [(test, list(_votes(test))) for test in tests]
    return [_listened(test, votes) for test, votes in read if votes]


def voted(
    store: Store, pairs: Sequence[tuple[Side, Side]], runs: Runs, confidence: float
) -> tuple[dict[str, Group], dict[tuple[str, str], tuple[Paired, str]]]:
    """Return where each side was heard, and each pair's preferences with whose votes they are."""
    tests = [list(_votes(test)) for test in ListeningTest.select()]
    every = []
    for votes in tests:
        out = _excluded(votes)
        every += [vote for vote in votes if vote.kind == "pair" and vote.session not in out]
    run, file = ProcessingHistory, ProcessedFile
    heard = run.id << list({key for vote in every for key in vote.stems})
    owned = run.select(run.id).join(file)
    of_side = {}
    for side in dict.fromkeys(side for pair in pairs for side in pair):
        chosen = [heard, *runs.conditions(store), *side.conditions(store, runs)]
        of_side[side.label] = {row.id for row in owned.where(*chosen)}
    found, places = {}, {label: set[Any]() for label in of_side}
    for a, b in ((one.label, other.label) for one, other in pairs):
        named = [
            (vote if vote.stems[0] in of_side[a] else vote.turned())
            for vote in every
            if any(x in of_side[a] and y in of_side[b] for x, y in (vote.stems, vote.stems[::-1]))
        ]
        about = f"{a} and {b}: " if len(pairs) > 1 else ""
        note = f"{about}votes: {len(named)}, listeners: {len({vote.listener for vote in named})}"
        found[a, b] = _paired(named, confidence), note
        for label in (a, b):
            places[label].update(vote.recording for vote in named)
    if not any(places.values()):
        names = " and ".join(of_side)
        raise QueryError(f"no listener has compared {names}; 'voices listen' makes a test")
    sides = {label: Group((), recordings=array("q", sorted(own))) for label, own in places.items()}
    return sides, found


def _paired(votes: Sequence[Vote], confidence: float) -> Paired:
    of = preferred(votes, confidence)
    # The difference of both shares, B − A, is what is beyond a half, twice.
    mean, low, high = (None if end is None else 2 * end - 1 for end in of[1:4])
    by_recording: dict[Any, list[Vote]] = {}
    for vote in votes:
        by_recording.setdefault(vote.recording, []).append(vote)
    units = []
    for recording, own in sorted(by_recording.items()):
        share = fmean(vote.share for vote in own)
        stems = len({vote.stems for vote in own})
        units.append(Matched(recording, None, 1 - share, share, stems))
    estimate = Estimate(len(units), mean, low, high, of.p, of.identical)
    stems = sum(unit.stems for unit in units)
    return Paired(Units.of(units), estimate, stems, len(units), 0, 0)


def _excluded(votes: Sequence[Vote]) -> set[str]:
    """Return the sessions that missed half of the trials whose answer is known, and two at least.

    The rule is fixed before the test.
    """
    known = Counter((vote.session, vote.kind) for vote in votes)
    wrong = {session: count for (session, kind), count in known.items() if kind == "wrong"}
    return {key for key, count in wrong.items() if count >= max(2, known[key, "right"])}


def _votes(test: ListeningTest) -> Iterator[Vote]:
    vote, file, run = ListeningVote, ProcessedFile, ProcessingHistory
    sides = [ModelPerformance.alias() for _ in "ab"]
    query = vote.select(
        *(vote.listener, pw.fn.COALESCE(file.recording, file.id), vote.details, vote.choice),
        *(vote.a, vote.b, sides[1].si_snri - sides[0].si_snri, vote.session, vote.kind),
    )
    query = query.join_from(vote, run, pw.JOIN.LEFT_OUTER, on=vote.a == run.id)
    query = query.join_from(run, file, pw.JOIN.LEFT_OUTER)
    for own, key in zip(sides, (vote.a, vote.b), strict=True):
        query = query.join_from(vote, own, pw.JOIN.LEFT_OUTER, on=own.processing_history == key)
    _, labels, _ = _plan(test)
    rows: Any = query.where(vote.test == test.id).order_by(vote.id).tuples()
    for listener, recording, heard, choice, a, b, *rest in rows:
        with suppress(*_UNREADABLE):
            one, other = (labels.get(heard.get(side), "") for side in "ab")
            if rest[-1] != "pair" or (one and other):
                yield Vote(str(listener), recording, one, other, _SHARES[choice], (a, b), *rest)


def _plan(test: ListeningTest) -> tuple[list[str], dict[str, str], int]:
    """Return a test's models, whose stem each of its tokens is, and how many trials it has."""
    labels: dict[str, str] = {}
    try:
        models = [*map(str, test.plan.get("models", []))]
        stems, trials = test.plan.get("stems", {}).items(), len(test.plan.get("trials", {}))
    except _UNREADABLE:
        return [], labels, 0
    for token, stem in stems:
        with suppress(*_UNREADABLE):  # one that is spoilt takes none of the others away
            labels[token] = models[stem[2]]
    return models, labels, trials


def _listened(test: ListeningTest, votes: Sequence[Vote]) -> Listened:
    (models, _, trials), out = _plan(test), _excluded(votes)
    every = [vote for vote in votes if vote.kind == "pair"]
    kept = [vote for vote in every if vote.session not in out]
    pairs = preferences(kept, models)
    notes = [*_notes(models, trials, votes, kept)]
    if out:
        names = ", ".join(sorted({vote.listener for vote in votes if vote.session in out}))
        notes.append(f"left out for missing half of the trials that have an answer: {names}")
        notes += [f"with them, {pair}" for pair in preferences(every, models)]
    if any(pair.share is None for pair in pairs):
        notes.append("no chain of votes joins all models, so that they have no order")
    return Listened(test.name, test.question, pairs, tuple(notes))


def _notes(
    models: Sequence[str], trials: int, votes: Sequence[Vote], kept: Sequence[Vote]
) -> Iterator[str]:
    sessions = Counter(vote.session for vote in votes).values()
    complete = sum(count >= trials for count in sessions)
    ties = sum(vote.share == 0.5 for vote in kept)
    yield f"{complete} of {len(sessions)} sessions complete; no preference in {ties} of {len(kept)}"
    first = sum(vote.share == 0 for vote in kept)
    yield f"side A was chosen in {first} of the {len(kept) - ties} others"
    both = [one for vote in kept for one in (vote, vote.turned())]
    before = {(vote.session, *vote.stems): vote.share for vote in both}
    repeats = [vote for vote in votes if vote.kind == "repeat"]
    heard = [vote for vote in repeats if (vote.session, *vote.stems) in before]
    same = sum(vote.share == before[vote.session, *vote.stems] for vote in heard)
    if heard:
        yield f"the same vote again in {same} of {len(heard)} repeats"
    listeners = {vote.listener for vote in kept}
    if len(listeners) == 1:
        yield f"one listener: this is what {listeners.pop()!r} prefers"
    elif listeners and len(models) == 2:
        a, b = models
        of: dict[str, list[float]] = {name: [] for name in sorted(listeners)}
        for vote in between(kept, a, b):
            of[vote.listener].append(vote.share)
        told = (f"{name} {percent(fmean(own))} of {len(own)}" for name, own in of.items())
        yield f"for {b}: {', '.join(told)}"


def preferences(votes: Sequence[Vote], models: Sequence[str]) -> tuple[Preference, ...]:
    """Return what votes say of each pair of models."""
    pairs = list(combinations(models, 2))
    if len(models) == 2:
        shares = {pairs[0]: preferred(between(votes, *pairs[0]))}
    else:
        shares = bradley_terry(votes, models)
    ps = {pair: of.p for pair, of in shares.items() if of.p is not None}
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True))
    nothing = Estimate(0)
    return tuple(
        _preference(between(votes, *pair), pair, shares.get(pair, nothing), adjusted.get(pair))
        for pair in pairs
    )


def _preference(
    votes: Sequence[Vote], pair: tuple[str, str], of: Estimate, p: float | None
) -> Preference:
    by_stems: dict[Any, list[Vote]] = {}
    for vote in votes:
        if vote.gain is not None:
            by_stems.setdefault(vote.stems, []).append(vote)
    gains = [own[0].gain or 0.0 for own in by_stems.values()]
    try:
        r = correlation(gains, [fmean(vote.share for vote in own) for own in by_stems.values()])
    except StatisticsError:  # there are fewer than two, or all are alike
        r = None
    listeners, recordings = ({vote[place] for vote in votes} for place in (0, 1))
    counts = (len(votes), len(listeners), len(recordings))
    gain = fmean(gains) if gains else None
    return Preference(*pair, *counts, of.mean, of.low, of.high, p, len(gains), gain, r)
