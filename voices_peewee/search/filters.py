"""The filters of a list as terms of its query: what options and keywords ask for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from voices_peewee.schema.models import Speaker
from voices_peewee.search.columns import find_listing
from voices_peewee.search.words import Exactly, Match, Span, Term, Value

When = str | dt.datetime | dt.date


def filters_to_words(
    noun: str,
    *,
    speaker: int | str | Speaker | Sequence[int | str | Speaker] | None = None,
    tag: str | Sequence[str] = (),
    model: str | Sequence[str] | None = None,
    operation: str | Sequence[str] | None = None,
    file_format: str | Sequence[str] | None = None,
    since: When | None = None,
    until: When | None = None,
    success: bool = False,
    failed: bool = False,
    unfinished: bool = False,
) -> list[Term]:
    """Return the terms that filters stand for; a value may hold any character.

    Args:
        speaker: Ids, names or objects, of which any fits; a name is meant as a whole.
        tag: Tags that must all be there.
        model: Models, or models with versions (``demucs:4.0``), of which any fits.
        operation: Operations of which any fits.
        file_format: Formats of which any fits.
        since: The first time; see ``query_values.times`` for what a text may say.
        until: The last time; a day or month is meant to its end.
        success, failed, unfinished: The states of which any fits.

    Raises:
        QueryError: The list is unknown.
    """
    listing = find_listing(noun)
    terms: list[Term] = [Match("tag", (Exactly(one),)) for one in _each(tag)]
    for field, given in (("model", model), ("operation", operation), ("format", file_format)):
        if given is not None:
            terms.append(Match(field, tuple(Exactly(one) for one in _each(given))))
    if speaker is not None:
        terms.append(Match("speaker", tuple(map(_speaker, _each(speaker)))))
    if since is not None or until is not None:
        terms.append(Match(listing.since, (Span(_when(since), _when(until)),)))
    flags = {"success": success, "failed": failed, "unfinished": unfinished}
    if states := tuple(Exactly(state) for state, wanted in flags.items() if wanted):
        terms.append(Match("status", states))
    return terms


def _each(given: Any) -> tuple[Any, ...]:
    return (given,) if isinstance(given, str | int | Speaker) else tuple(given)


def _speaker(key: int | str | Speaker) -> Value | Exactly:
    if isinstance(key, str):
        return Exactly(key)
    return Value(str(key.id if isinstance(key, Speaker) else key))


def _when(time: When | None) -> str | None:
    if isinstance(time, dt.datetime):
        return time.isoformat(timespec="microseconds")
    return time.isoformat() if isinstance(time, dt.date) else time
