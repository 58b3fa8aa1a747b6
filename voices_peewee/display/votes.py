"""The votes of listeners, as a page saves them, on their way into the record."""

from __future__ import annotations

import datetime as dt
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any, Final

from voices_peewee.database.store import Store
from voices_peewee.errors import InputError
from voices_peewee.exchange.texts import parse, text_of
from voices_peewee.schema.models import (
    ListeningTest,
    ListeningVote,
    ProcessedFile,
    ProcessingHistory,
)

_NAME: Final = 60  # letters of a listener's name
_COLUMNS: Final = ("session", "trial", "position", "choice")
_DETAILS: Final = (
    *("a", "b", "heard_a", "heard_b", "heard_x", "switches", "seconds", "revised", "device"),
    "comment",
)


def import_votes(store: Store, source: str) -> Counter[str]:
    """Import votes as ``DatabaseManager.import_votes`` does."""
    counts: Counter[str] = Counter(added=0, updated=0, same=0)
    with store.writing():
        for number, line in enumerate(_lines(source), 1):
            try:
                counts[_keep(_vote(parse(line)))] += 1
            except KeyError as error:
                raise InputError(source, f"it has no {error}", place=f"line {number}") from error
            except (AttributeError, TypeError, ValueError) as error:
                raise InputError(source, str(error), place=f"line {number}") from error
    return counts


def _lines(source: str) -> list[str]:
    """Return the lines of votes, whose last one says how many there are."""
    text = sys.stdin.read() if source == "-" else text_of(Path(source))
    *lines, last = [line for line in text.split("\n") if line.strip()] or [""]
    try:
        end = parse(last)
    except ValueError as error:
        raise InputError(source, "it holds no votes, or not all of them") from error
    if end != {"table": "end", "rows": {"listening_votes": len(lines)}}:
        raise InputError(source, "it was cut off: its last line does not say how many votes")
    return lines


def _vote(row: dict[str, Any]) -> ListeningVote:
    """Return a vote as it is kept; what the page's tokens mean stands in the record."""
    test = ListeningTest.get_or_none(ListeningTest.name == row["test"])
    if test is None:
        raise ValueError(f"there is no listening test {row['test']!r} in this record")
    plan, a, b = test.plan, None, None
    kind = plan.get("trials", {}).get(row["trial"])
    if kind is None:
        raise ValueError(f"test {row['test']} has no trial {row['trial']!r}")
    if row["choice"] not in ("a", "b", None):
        raise ValueError(f"a choice is a, b or null, not {row['choice']!r}")
    if kind == "catch":
        is_right = row["choice"] and row[row["choice"]] == plan["right"][row["trial"]]
        kind = "right" if is_right else "wrong"
    else:
        a, b = (_stem(plan["stems"], row[side]) for side in "ab")
    listener = unicodedata.normalize("NFC", row["listener"]).strip()[:_NAME]
    if not listener:
        raise ValueError("a vote needs a listener")
    moment = dt.datetime.fromisoformat(row["voted_at"])
    known = {name: row[name] for name in _COLUMNS} | {"listener": listener, "voted_at": moment}
    details = {name: row.get(name) for name in _DETAILS}
    return ListeningVote(test=test, a=a, b=b, kind=kind, details=details, **known)


def _stem(stems: dict[str, Any], token: str) -> int:
    """Return the history row that made a stem."""
    if token not in stems:
        raise ValueError(f"no stem of the test is called {token!r}")
    run_id, key, _ = stems[token]
    run, file = ProcessingHistory, ProcessedFile
    known = (file.content_hash == key) | (file.processed_path == key)
    query = run.select(run.id).join(file).where(run.run_id == run_id, known)
    found: int | None = query.order_by(run.id).scalar()
    if found is None:
        raise ValueError(f"the run {run_id} that made the stem is no longer here")
    return found


def _keep(vote: ListeningVote) -> str:
    """Write a vote, unless it is there; of two on one trial the later one stays."""
    own = ListeningVote
    same = (own.test == vote.test, own.session == vote.session, own.trial == vote.trial)
    before = own.get_or_none(*same)
    if before is not None and _says_no_more(vote, before):
        return "same"
    if before is not None:
        vote.id = before.id
    vote.save()
    return "added" if before is None else "updated"


def _says_no_more(vote: ListeningVote, before: ListeningVote) -> bool:
    """Whether a vote is older, or the same without a comment that was made since."""
    comment = vote.details["comment"]
    is_new = comment is not None and comment != before.details.get("comment")
    return before.voted_at > vote.voted_at or (before.voted_at == vote.voted_at and not is_new)
