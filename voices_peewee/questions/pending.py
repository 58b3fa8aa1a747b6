"""What is left to do: the sources without a successful run of exactly these settings."""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError, QueryError, VoicesError
from voices_peewee.questions.outcomes import Candidate, Look, Reason, S, Settings
from voices_peewee.questions.sharing import Sharing
from voices_peewee.records.sources import LOOKUP
from voices_peewee.rendering.plain import locate
from voices_peewee.rendering.table import ROWS, Column, cut_note, html_table
from voices_peewee.runs.claims import DAY, Source, claimed, lease_of, require_no_transaction
from voices_peewee.runs.settings import plain_operation
from voices_peewee.schema.exact import short
from voices_peewee.schema.models import ProcessedFile
from voices_peewee.search.columns import LISTS
from voices_peewee.search.pages import matching
from voices_peewee.search.words import Match, Not, parse

if TYPE_CHECKING:
    import pandas as pd


_PATTERN: Final = re.compile(r"[*?]|\[.+\]")
# An absolute path that is as short as it can be.
_PLAIN: Final = re.compile(r"(?:/[^/.\0][^/\0]*)+")


class Pending(Iterator[S]):
    """The sources that are left, as they were given; ``reason`` says why the last one is.

    ``with_reasons`` goes on with pairs of a source and its reason. ``unknown`` counts the sources
    so far that ``where`` left out because the record does not know them; ``workers`` says of
    those so far that are being worked on by which process: its facts, by path or id.

    With ``claim`` each step claims its source; to look (``with_reasons``, a frame, a notebook)
    claims nothing and uses nothing up. ``close()`` gives back what no run has begun with, as
    does leaving a loop.
    """

    _is_looped = False

    def __init__(
        self,
        found: Iterator[Candidate[S]],
        look: Look,
        chosen: _Chosen | None = None,
        sharing: Sharing[S] | None = None,
    ) -> None:
        self._found, self._chosen, self._sharing = found, chosen, sharing
        self.workers = look.workers
        self.reason: Reason | None = None
        self._turn = threading.Lock()  # threads may share the list

    def __iter__(self) -> Pending[S]:
        self._is_looped = True
        return self

    def __del__(self) -> None:
        # Of ``next(db.pending(...))`` the claim is kept: its run is about to begin.
        if self._is_looped and self._sharing is not None and not sys.is_finalizing():
            with suppress(VoicesError):
                self._sharing.close(is_asked=False)

    def close(self) -> None:
        """Give back what was claimed and no run has begun with."""
        if self._sharing is not None:
            self._sharing.close()

    @property
    def unknown(self) -> int:
        """How many sources ``where`` left out because the record does not know them."""
        return 0 if self._chosen is None else self._chosen.unknown

    def __next__(self) -> S:
        with self._turn:
            if self._sharing is not None:
                source, self.reason = self._sharing.take(self._found)
                return source
            candidate = next(self._found)
            self.reason = candidate.reason
            return candidate.source

    def with_reasons(self) -> Iterator[tuple[S, Reason]]:
        """Yield the sources that are left, each with its reason."""
        found = self._found if self._sharing is None else self._all()
        return ((one.source, one.reason) for one in found)

    def _all(self) -> Iterator[Candidate[S]]:
        """Return what is still to come, which stays to come."""
        rest = list(self._found)
        self._found = iter(rest)
        return iter(rest)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame of the sources that are still to come, with their reasons.

        They stay to come: the next one is what it was.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from voices_peewee.rendering.frames import frame, load_pandas

        load_pandas()  # before anything is looked at
        rows = [(_name(one.source), one.reason) for one in self._all()]
        return frame(_SPECS, iter([rows]))

    def _repr_html_(self) -> str:
        first = list(islice(self._found, ROWS + 1))
        self._found = chain(first, self._found)
        rows = [(_name(one.source), one.reason) for one in first[:ROWS]]
        total = len(rows) if len(first) == len(rows) else None
        note = cut_note(len(rows), total, "source")
        columns = [Column("pending", "path"), Column("reason")]
        return html_table(columns, rows, note=note)


_SPECS: Final = (Column("source", "path", nullable=False), Column("reason", "text", nullable=False))


def _name(source: str | os.PathLike[str] | ProcessedFile) -> str:
    if isinstance(source, ProcessedFile):
        return str(source.original_path or f"file {source.id}")
    return os.fsdecode(source)


def pending(
    store: Store,
    sources: Iterable[S],
    operation_type: str,
    *,
    exact: bool,
    where: str | Sequence[str],
    claim: bool = False,
    lease: dt.timedelta | float = DAY,
    **settings: Any,
) -> Pending[S]:
    """Return an iterator of the sources that have no successful run of exactly these settings."""
    operation_type = plain_operation(operation_type)
    is_one = isinstance(sources, str | bytes | os.PathLike | ProcessedFile)
    if is_one or not isinstance(sources, Iterable):
        raise TypeError(f"sources must be a list of paths or files, not {sources!r}")
    wanted = Settings({"operation_type": operation_type, **settings})
    look = Look(store, wanted, exact=exact, lease=lease_of(lease))
    chosen = _Chosen(store, where) if where else None
    if claim:
        require_no_transaction(store)
    sharing: Sharing[S] | None = Sharing(look, lease_of(lease)) if claim else None
    found = _left(sources, look, chosen, is_shared=claim)
    return Pending(found, look, chosen, sharing)


def _left(
    sources: Iterable[S], look: Look, chosen: _Chosen | None, *, is_shared: bool
) -> Iterator[Candidate[S]]:
    """Yield what is left: of a list 500 sources are looked at together, others one by one."""
    look.store.require_place()
    if is_shared:
        look.store.retrying(look.begin)
    size = LOOKUP if isinstance(sources, Sequence) else 1
    claims = claimed(look.store, look.wanted.digest)
    before: set[Source] = set()
    rest = iter(sources)
    while some := [(source, _place(source)) for source in islice(rest, size)]:
        batch = look.at([place for _, place in some])
        for source, named in some:
            is_known = named in batch.seen or named in batch.recorded
            place = named if is_known else look.moved.find(named)
            if place in before or (chosen is not None and not chosen.has(place)):
                continue
            before.add(place)
            its = batch if place == named or place in batch.seen else look.at([place])
            if place == named and place not in its.seen and isinstance(place, str):
                _refuse_no_file(source, place)
            reason, rows = look.judged(place, its, claims.get(place))
            if reason is not None:
                yield Candidate(source, place, reason, rows)


def _refuse_no_file(source: object, path: str) -> None:
    """Refuse what a shell hands over instead of files: a folder, a pattern that matched nothing."""
    if "://" in path:
        return
    # Only a folder has something below it; half the time of asking for the path's own facts.
    if os.access(f"{path}/.", os.F_OK):
        raise InvalidValueError(f"{str(source)!r} is a folder; name the files in it")
    if _PATTERN.search(path) and not os.path.lexists(path):
        raise InvalidValueError(f"no file matches {str(source)!r}")


class _Chosen:
    """The recordings that query words match, read when the first is asked for."""

    def __init__(self, store: Store, words: str | Sequence[str]) -> None:
        self._store, self.unknown = store, 0
        fields = LISTS["files"].fields
        for term in parse(words):
            inner = term.term if isinstance(term, Not) else term
            if not isinstance(inner, Match) or inner.field not in fields:
                continue
            if fields[inner.field].asked_of == "run":
                raise QueryError(
                    f"{inner.name!r} is about runs; pending takes words about recordings"
                )
        self._matching = matching(store, "files", words)

    def has(self, place: Source) -> bool:
        """Whether a source matches; one that the record does not know does not, and is counted."""
        known = self._known.get(place)
        self.unknown += known is None
        return bool(known)

    @cached_property
    def _known(self) -> dict[str | int, bool]:
        file = ProcessedFile
        query = file.select(file.original_path, file.id, file.id.in_(self._matching))
        query = query.where(file.recording.is_null())
        # Of rows of one path that which a run would hang on, the last one here.
        query = query.order_by(file.processed_path.is_null(), file.id.desc())
        with self._store.reading(), no_full_collection():
            rows = self._store.connection().execute(*query.sql())
            return {
                number if path is None else str(file.original_path.python_value(path)): bool(match)
                for path, number, match in rows
            }


def _place(source: str | os.PathLike[str] | ProcessedFile) -> str | int:
    """Return what a source's runs are found by: the recording's path, else the row's id."""
    if isinstance(source, str) and _PLAIN.fullmatch(source) and os.sep == "/":
        return source  # for 100,000 paths, a third of the time
    if not isinstance(source, ProcessedFile):
        if "\0" in (place := locate(source)):
            why = "it has a NUL, as lists in UTF-16 have, and those for -0"
            raise InvalidValueError(f"no file can be called {short(source)}: {why}")
        return place
    if source.recording_id is not None and source.processed_path is not None:
        what = f"{source.processed_path!r} is a stem: give its path to have it processed"
        raise InvalidValueError(f"{what}, or its recording")
    path: str | None = source.original_path
    return source.id if path is None else path
