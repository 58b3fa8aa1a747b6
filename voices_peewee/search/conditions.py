"""The terms of a query as Peewee conditions on the tables of one list."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final
from unicodedata import normalize

import peewee as pw

from voices_peewee.database.dialects import ByEngine, nodes, plain
from voices_peewee.errors import QueryError
from voices_peewee.schema.fields import plain_name
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory, Speaker, hash_key
from voices_peewee.search import words
from voices_peewee.search.columns import LISTS, Column, Listing, find, steps
from voices_peewee.search.json_keys import ELEMENT, element_number, json_order, some_element
from voices_peewee.search.words import Match, Not, Span, Term, Value

Node = Any  # an expression of Peewee

_STATES: Final[dict[str, Node]] = {
    "success": ProcessingHistory.success,
    "failed": ~ProcessingHistory.success & ProcessingHistory.end_time.is_null(False),
    "unfinished": ~ProcessingHistory.success & ProcessingHistory.end_time.is_null(),
}
_ROW_KINDS: Final[dict[str, Node]] = {
    "recording": ProcessedFile.recording.is_null(),
    "stem": ProcessedFile.recording.is_null(False) & ProcessedFile.processed_path.is_null(False),
    "voice": ProcessedFile.recording.is_null(False) & ProcessedFile.processed_path.is_null(),
}
_NAMED: Final = {"status": _STATES, "row_kind": _ROW_KINDS}
_FILE_OF_RUN: Final = ProcessingHistory.processed_file
_RECORDING: Final = pw.fn.COALESCE(ProcessedFile.recording, ProcessedFile.id)
_ESCAPE: Final = pw.SQL("ESCAPE '\\'")
_TYPE: Final = pw.SQL("je.type")
_IS_NUMBER: Final = pw.SQL("je.type IN ('integer', 'real')")


class Conditions:
    """Builds the conditions of one query; ``sources`` are the tables that they need."""

    def __init__(self, listing: Listing, now: dt.datetime) -> None:
        self.listing, self.now = listing, now
        self.sources: set[Any] = set()

    def all_of(self, terms: Sequence[Term]) -> Node | None:
        """Return the condition of a whole query, or None where every row fits.

        Files that are asked about their runs are recordings, unless the query names the stems
        or voices that it wants; speakers are then those of the runs.
        """
        by_run = "run" in map(self._asked_of, terms)
        by_recording = by_run and not _names_parts(terms)
        of_run = (_RECORDING, (ProcessedFile,)) if by_recording else (_FILE_OF_RUN,)
        some_run = partial(self._some, LISTS["history"])
        of_runs: list[Match] = []
        conditions = [_ROW_KINDS["recording"]] if by_recording else []
        for term in terms:
            asked = self._asked_of(term)
            if asked == "row" or (asked == "voice" and not by_run):
                conditions.append(self._term(term))
            elif isinstance(term, Match):
                of_runs.append(term)
            elif isinstance(term, Not) and isinstance(term.term, Match):
                conditions.append(negated(some_run([term.term], *of_run)))
        if any(self._asked_of(term) == "run" for term in of_runs):
            conditions.append(some_run(of_runs, *of_run))  # one run has them all
        elif by_recording:
            conditions += [self._some(self.listing, [term], _RECORDING) for term in of_runs]
        else:
            conditions += map(self._match, of_runs)
        return both(conditions) if conditions else None

    def _asked_of(self, term: Term) -> str:
        term = term.term if isinstance(term, Not) else term
        is_about_files = self.listing.model is ProcessedFile
        return self._field(term).asked_of if isinstance(term, Match) and is_about_files else "row"

    def _some(
        self, listing: Listing, terms: Sequence[Match], key: Any, needed: Iterable[Any] = ()
    ) -> Node:
        """Say that a file is the ``key`` of a run, or of another row, that has all of the terms."""
        inner = Conditions(listing, self.now)
        condition = both([inner._match(term) for term in terms])
        sources = inner.sources.union(needed)
        query = join(listing.model.select(key), listing, sources, filtered=sources)
        return ProcessedFile.id.in_(query.where(condition))

    def _term(self, term: Term) -> Node:
        if isinstance(term, Not):
            return negated(self._term(term.term))
        if isinstance(term, Match):
            return self._match(term)
        columns = [self.listing.fields[name] for name in self.listing.search]
        return either([self._holds(column, term.text) for column in columns])

    def _field(self, term: Match) -> Column:
        if term.name in self.listing.fields:  # run.tag, where run has no keys
            return self.listing.fields[term.name]
        column = find(self.listing.fields, term.field)
        if term.keys and column.kind != "json":
            raise QueryError(f"{term.field} has no keys; use {term.field}:value")
        return column

    def _match(self, term: Match) -> Node:
        column = self._field(term)
        return either([self._compare(column, term, value) for value in term.values])

    def _compare(self, column: Column, term: Match, value: Value) -> Node:
        """Compare a column with one value, as its kind or its own rule says."""
        how = column.match or column.kind
        if _is_empty(value) and how in _NULL_IF_EMPTY:
            return self._node(column).is_null()
        with words.readable(term.name, value, how):
            if how == "json":
                return self._json(self._node(column), term, value)
            fits: Callable[[Column, Value], Node] = getattr(self, f"_by_{_METHODS.get(how, how)}")
            found = fits(column, value)
            return negated(found) if _is_empty(value) and how in _NONE_IF_EMPTY else found

    def _node(self, column: Column) -> Any:
        """Return a column's expression and take note of the tables that it needs."""
        self.sources |= {source for source in column.sources if source is not self.listing.model}
        return column.expression

    def _node_of(self, name: str) -> Any:
        return self._node(self.listing.fields[name])

    def _holds(self, column: Column, text: str) -> Node:
        """Say that a text is somewhere in a column."""
        if column.match == "speaker":
            return self._by_speaker(column, Value(text, literal=True))
        if column.kind == "tags":
            return some_element(self._node(column), (), contains(ELEMENT, text))
        return contains(self._node(column), stored(text))

    def _by_text(self, column: Column, value: Value) -> Node:
        """Look for a part of a text; case does not matter."""
        node = self._node(column)
        if _is_empty(value):
            return either([node.is_null(), equals(node, "")])
        return contains(node, stored(value.text))

    def _by_exact(self, column: Column, value: Value) -> Node:
        return equals(self._node(column), _name(value.text))

    def _by_format(self, column: Column, value: Value) -> Node:
        """Compare the whole of a text in small letters or capitals."""
        return equals(pw.fn.LOWER(self._node(column)), stored(value.text.lower()))

    def _by_prefix(self, column: Column, value: Value) -> Node:
        """Compare the beginning of a text, as an index can."""
        node, text = self._node(column), stored(value.text)
        if node is not ProcessedFile.content_hash:
            return _begins(node, text)
        return both([_begins(hash_key(node), text[:8]), _begins(node, text)])

    def _by_either_path(self, _: Column, value: Value) -> Node:
        paths = [self.listing.fields[name] for name in ("original_path", "processed_path")]
        found = [self._by_text(path, value) for path in paths]
        return both(found) if _is_empty(value) else either(found)

    def _by_number(self, column: Column, value: Value) -> Node:
        """Compare a number with a number or a range, both ends included."""
        node, found = self._node(column), words.span(value)
        if isinstance(found, str):
            return equals(node, words.number(column.kind, found))
        return _between(node, *words.numbers(column.kind, found))

    def _by_time(self, column: Column, value: Value) -> Node:
        node, (start, end) = self._node(column), words.times(value, self.now)
        bounds = [] if start is None else [node >= start]
        bounds += [] if end is None else [node < end]
        return both(bounds or [node.is_null(False)])

    def _by_boolean(self, column: Column, value: Value) -> Node:
        node = self._node(column)
        return node if words.truth(value.text) else negated(node)

    def _by_name(self, column: Column, value: Value) -> Node:
        """Compare with one of a few words, in conditions that partial indexes serve."""
        self._node(column)
        name = value.text.strip().lower()
        if name not in _NAMED[column.match]:
            raise ValueError(name)
        return _NAMED[column.match][name]

    def _by_model(self, column: Column, value: Value) -> Node:
        """Compare a model, or a model and its version after the last colon."""
        self._node(column)
        model_type, version = column.order
        text = _name(value.text)
        name, colon, after = text.rpartition(":")
        if not colon or value.literal:
            return equals(model_type, text)
        same_version = equals(version, after) if after else version.is_null()
        return both([equals(model_type, name), same_version])

    def _by_speaker(self, _: Column, value: Value) -> Node:
        """Compare a speaker's id, or look for a part of the name."""
        is_own, text = self.listing.model is Speaker, value.text
        if _is_empty(value):
            return self._node_of("id" if is_own else "speaker_id").is_null()
        if text.startswith("id:") and not value.literal:
            key = plain(words.number("integer", text.removeprefix("id:")))
            return Speaker.id == key if is_own else self._of_speakers([key])
        named = contains(Speaker.name, stored(text))
        return named if is_own else self._of_speakers(Speaker.select(Speaker.id).where(named))

    def _of_speakers(self, some: Any) -> Node:
        if self.listing.model is ProcessedFile:
            return ProcessedFile.speaker.in_(some)
        self.sources.add(ProcessedFile)
        return of_speakers(some)

    def _by_tags(self, column: Column, value: Value) -> Node:
        return some_element(self._node(column), (), _tag(value))

    def _by_speaker_tags(self, _: Column, value: Value) -> Node:
        tagged = some_element(Speaker.tags, (), _tag(value))
        return self._of_speakers(Speaker.select(Speaker.id).where(tagged))

    def _by_any_tag(self, column: Column, value: Value) -> Node:
        return either([self._by_tags(column, value), self._by_speaker_tags(column, value)])

    def _by_git(self, _: Column, value: Value) -> Node:
        """Compare the beginning of a commit."""
        return self._fact("git", "commit", _begins(ELEMENT, stored(value.text)))

    def _by_slurm(self, _: Column, value: Value) -> Node:
        """Compare a job, the job of an array, or a task of it, as in 100_4."""
        if _is_empty(value):
            return self._fact("slurm", "job_id", pw.SQL("TRUE"))
        text = stored(value.text)
        array, task = text.split("_", 1) if "_" in text else (text, "")
        of_array = self._fact("slurm", "array_job_id", equals(ELEMENT, array))
        if task:
            return both([of_array, self._fact("slurm", "array_task_id", equals(ELEMENT, task))])
        return either([of_array, self._fact("slurm", "job_id", equals(ELEMENT, text))])

    def _fact(self, of: str, name: str, condition: Node) -> Node:
        return some_element(self._node_of("environment"), (of, name), condition)

    def _json(self, node: Any, term: Match, value: Value) -> Node:
        """Compare what a JSON path leads to, or any element of a list there."""
        if _is_empty(value) and term.keys:
            return json_order(node, term.keys).is_null()
        if _is_empty(value):
            return pw.fn.coalesce(node, plain("{}")).in_(("{}", "[]", "null"))
        if not term.keys:
            raise QueryError(f"{term.field} needs a key, as in {term.field}.name:value")
        found = some_element(node, term.keys, _element(value))
        span = words.span(value)
        low = words.numbers("plain", span)[0] if isinstance(span, Span) else None
        if low is None:
            return found
        # Told of most rows in a fifth of the time; to SQLite the text of a list is more, too.
        may_be = json_order(node, term.keys) >= plain(low)
        return ByEngine(both([may_be, found]), found)


_NULL_IF_EMPTY: Final = {*words.UNITS, "exact", "format", "prefix", "time", "model"}
_NONE_IF_EMPTY: Final = {"tags", "speaker_tags", "any_tag", "git", "slurm"}
_METHODS: Final = {  # where a kind is not compared by the method of its name
    "path": "text",
    **dict.fromkeys(words.UNITS, "number"),
    **dict.fromkeys(_NAMED, "name"),
}


def of_speakers(some: Any) -> Node:
    """Say that a run's row is of some speakers: its own, or else its recording's."""
    whole = ProcessedFile.alias()
    theirs = whole.select(whole.id).where(whole.speaker.in_(some))
    is_nobodys = nodes("(+", ProcessedFile.speaker, "IS NULL)")  # mostly more: + passes the index
    of_recording = both([is_nobodys, ProcessedFile.recording.in_(theirs)])
    return either([ProcessedFile.speaker.in_(some), of_recording])


def join(query: Any, listing: Listing, sources: Iterable[Any], filtered: Iterable[Any] = ()) -> Any:
    """Return a query with the joins that lead to the sources, each made once.

    An outer join keeps SQLite from starting at the other table, where it may find the rows
    that are ``filtered`` by it sooner; where the other side is always there, none is needed.
    """
    inside = {step.model for step in steps(listing.model, {*filtered}) if step.always}
    for step in steps(listing.model, {*sources}):
        kind = pw.JOIN.INNER if step.model in inside else pw.JOIN.LEFT_OUTER
        query = query.join_from(step.start, step.model, kind, on=step.link)
    return query


def stored(text: str) -> str:
    """Return a text as it is stored: bytes that are not UTF-8 as private characters."""
    return text if text.isascii() else str(ProcessedFile.filename.db_value(text))


def _name(text: str) -> str:
    return plain_name(stored(text))


def _names_parts(terms: Iterable[Term]) -> bool:
    """Whether a query asks for stems or voices, or for what is no recording."""
    return any(
        (value.text.strip().lower() == "recording") is isinstance(term, Not)
        for term in terms
        for one in [term.term if isinstance(term, Not) else term]
        if isinstance(one, Match) and one.field == "kind"
        for value in one.values
    )


def _is_empty(value: Value) -> bool:
    return not value.text and not value.literal


def both(conditions: Sequence[Any]) -> Node:
    """Return what is true where all of the conditions are."""
    return _balanced(pw.OP.AND, conditions)


def either(conditions: Sequence[Any]) -> Node:
    """Return what is true where any of the conditions is."""
    return _balanced(pw.OP.OR, conditions)


def _balanced(operator: str, conditions: Sequence[Any]) -> Node:
    """Join conditions as a balanced tree: SQLite refuses expressions deeper than 1,000."""
    if len(conditions) == 1:
        return conditions[0]
    middle = len(conditions) // 2
    left, right = conditions[:middle], conditions[middle:]
    return pw.Expression(_balanced(operator, left), operator, _balanced(operator, right))


def negated(node: Node) -> Node:
    """Return what is true where a node is false or NULL: what is empty is "not x"."""
    return nodes("((", node, ") IS NOT TRUE)")


def _begins(node: Any, text: str) -> Node:
    return both([node >= plain(text), node < plain(text + "\U0010ffff")])


def equals(node: Node, value: object) -> Node:
    """Return what is true where a node has a value, which no field converts."""
    return pw.Expression(node, pw.OP.EQ, plain(value))


def _between(node: Any, low: words.Number | None, high: words.Number | None) -> Node:
    """Say that a node lies in a range; without any end, that it has a value."""
    bounds = [] if low is None else [node >= plain(low)]
    bounds += [] if high is None else [node <= plain(high)]
    return both(bounds or [node.is_null(False)])


def contains(node: Any, text: str) -> Node:
    """Return what is true where a node holds a text, in whichever letter case.

    SQLite's LIKE, and PostgreSQL's for our columns, know the case of a–z only; a pattern that
    spells both cases of each letter serves the rest. An accented letter is found composed and
    decomposed, as some file systems store it.
    """
    if text.isascii():
        pattern = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return pw.Expression(node, pw.OP.ILIKE, pw.NodeList((plain(f"%{pattern}%"), _ESCAPE)))
    forms = dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text)))
    return either([_globbed(node, form) for form in forms])


def _globbed(node: Any, text: str) -> Node:
    cases = list(map(_all_cases, text))
    glob = "".join(f"[{one}]" if len(one) > 1 or one in "*?[" else one for one in cases)
    regex = "".join(f"[{one}]" if len(one) > 1 else re.escape(one) for one in cases)
    sqlite = nodes("(", node, "GLOB", plain(f"*{glob}*"), ")")
    return ByEngine(sqlite, nodes("(", node, "~", plain(regex), ")"))


_SAME_LETTER: Final = ("Σσς", "ẞß")  # what no change of case leads to and back


def _all_cases(letter: str) -> str:
    """Return the forms of a letter in either case."""
    forms = {letter, letter.lower(), letter.upper(), letter.title()}
    forms |= {form for same in _SAME_LETTER if letter in same for form in same}
    return "".join(sorted(form for form in forms if len(form) == 1))


def _tag(value: Value) -> Node:
    return pw.SQL("TRUE") if _is_empty(value) else equals(ELEMENT, _name(value.text))


def _element(value: Value) -> Node:
    """Compare one JSON element: numbers as numbers, texts as texts, true and false."""
    found = words.span(value)
    if isinstance(found, Span):
        bounds = words.numbers("plain", found)
        in_range = both([_IS_NUMBER, _between(element_number(), *bounds)])
        return pw.SQL("je.type <> 'null'") if bounds == (None, None) else in_range
    fits = [both([pw.SQL("je.type = 'text'"), equals(ELEMENT, stored(found))])]
    if value.literal:
        return fits[0]
    if found.lower() in {"true", "false"}:
        fits.append(equals(_TYPE, found.lower()))
    with suppress(ValueError):
        fits.append(both([_IS_NUMBER, equals(element_number(), words.plain_number(found))]))
    return either(fits)
