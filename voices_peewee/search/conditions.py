"""The tree of a query as Peewee conditions on the tables of one list."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import peewee as pw

from voices_peewee.database.dialects import plain
from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.search.columns import LISTS, Column, Listing, Model
from voices_peewee.search.sql import (
    ELEMENT,
    ELEMENT_NUMBER,
    both,
    contains,
    either,
    equals,
    json_missing,
    negated,
    some_element,
)
from voices_peewee.search.values import (
    EXPECTED,
    UNITS,
    Number,
    number,
    plain_number,
    span,
    times,
    truth,
)
from voices_peewee.search.words import And, Exactly, Given, Match, Not, Or, Span, Term, Text, Value

_STATES: Final[dict[str, pw.ColumnBase]] = {
    "success": ProcessingHistory.success,
    "failed": ~ProcessingHistory.success & ProcessingHistory.end_time.is_null(False),
    "unfinished": ~ProcessingHistory.success & ProcessingHistory.end_time.is_null(),
}
_TYPE: Final = pw.SQL("je.type")
_IS_NUMBER: Final = pw.SQL("je.type IN ('integer', 'real')")


class Conditions:
    """Builds the conditions of one query; ``sources`` are the tables that they need.

    ``few`` says that they are for a few rows: a file's runs are then looked up file by file,
    and otherwise found first.
    """

    def __init__(
        self, store: Store, listing: Listing, now: dt.datetime, *, few: bool = False
    ) -> None:
        self.store, self.listing, self.now, self.few = store, listing, now, few
        self.sources: set[Model] = set()

    def tree(self, tree: Or) -> pw.ColumnBase | None:
        """Return the condition of a whole query, or None where every row fits.

        Raises:
            QueryError: A field is unknown, or a value is none of its field's kind.
            NotFoundError: A filter names a speaker that is not there.
            AmbiguousNameError: A filter names a speaker whose name others have.
        """
        groups = [self._group(group) for group in tree.groups]
        known = [group for group in groups if group is not None]
        return either(known) if known and len(known) == len(groups) else None

    def _group(self, group: And) -> pw.ColumnBase | None:
        runs: list[Match] = []
        nodes: list[pw.ColumnBase] = []
        for term in group.terms:
            if isinstance(term, Match) and self._field(term).of_run:
                runs.append(term)
            else:
                nodes.append(self._term(term))
        if runs:  # one and the same run must have them all
            nodes.append(self._some_run(runs))
        return both(nodes) if nodes else None

    def _term(self, term: Term) -> pw.ColumnBase:
        if isinstance(term, Not):
            return negated(self._term(term.term))
        if isinstance(term, Text):
            columns = [self.listing.fields[name] for name in self.listing.search]
            return either([self._holds(column, term.text) for column in columns])
        return self._some_run([term]) if self._field(term).of_run else self._match(term)

    def _some_run(self, terms: Sequence[Match]) -> pw.ColumnBase:
        """Say that a file has a run with all of the terms."""
        runs = Conditions(self.store, LISTS["history"], self.now)
        condition = both([runs._match(term) for term in terms])
        file = ProcessingHistory.processed_file
        query = join(ProcessingHistory.select(file), runs.listing, runs.sources).where(condition)
        if self.few:
            return pw.fn.EXISTS(query.where(file == ProcessedFile.id))
        return ProcessedFile.id.in_(query)

    def _field(self, term: Match) -> Column:
        column = find(self.listing.fields, term.field)
        if term.keys and column.kind != "json":
            raise QueryError(f"{term.field} has no keys; use {term.field}:value")
        return column

    def _match(self, term: Match) -> pw.ColumnBase:
        column = self._field(term)
        compare = self._json if column.kind == "json" else self._compare
        return either([compare(column, term, value) for value in term.values])

    def _compare(self, column: Column, term: Match, value: Given) -> pw.ColumnBase:
        """Compare a column with one value, as its kind or its own rule says."""
        rule = _RULES[column.match or column.kind]
        try:
            return rule(self, column, value)
        except ValueError as error:
            expected = EXPECTED[column.match or column.kind]
            raise _unreadable(term, value, expected) from error

    def node(self, column: Column) -> pw.ColumnBase:
        """Return a column's expression and take note of the table that it needs."""
        if column.source is not None and column.source is not self.listing.model:
            self.sources.add(column.source)
        return column.expression

    def _holds(self, column: Column, text: str) -> pw.ColumnBase:
        """Say that a text is somewhere in a column."""
        if column.match == "speaker":
            return self.speaker(column, Value(text, literal=True))
        node = self.node(column)
        if column.kind == "tags":
            return some_element(node, (), contains(ELEMENT, text))
        return contains(node, stored(text))

    # One rule for each kind; those that are named for no kind are named by ``Column.match``

    def text(self, column: Column, value: Given) -> pw.ColumnBase:
        """Look for a part of a text; case does not matter."""
        node = self.node(column)
        text = stored(_one(value))
        if _is_empty(value):
            return either([node.is_null(), equals(node, "")])
        return equals(node, text) if isinstance(value, Exactly) else contains(node, text)

    def exact(self, column: Column, value: Given) -> pw.ColumnBase:
        """Compare the whole of a text."""
        node = self.node(column)
        return node.is_null() if _is_empty(value) else equals(node, stored(_one(value)))

    def format(self, column: Column, value: Given) -> pw.ColumnBase:
        """Compare the whole of a text in small letters, in capitals and as given, by an index."""
        node, text = self.node(column), stored(_one(value))
        if _is_empty(value):
            return node.is_null()
        forms = sorted({text, text.lower(), text.upper()})
        return pw.Expression(node, pw.OP.IN, [plain(form) for form in forms])

    def prefix(self, column: Column, value: Given) -> pw.ColumnBase:
        """Compare the beginning of a text, as an index can."""
        node, text = self.node(column), stored(_one(value))
        if _is_empty(value):
            return node.is_null()
        return (node >= plain(text)) & (node < plain(text + "\U0010ffff"))

    def either_path(self, _: Column, value: Given) -> pw.ColumnBase:
        """Look into the original and the processed path."""
        paths = [self.listing.fields[name] for name in ("original_path", "processed_path")]
        nodes = [self.text(column, value) for column in paths]
        return both(nodes) if _is_empty(value) else either(nodes)

    def number(self, column: Column, value: Given) -> pw.ColumnBase:
        """Compare a number with a number or a range, both ends included."""
        node = self.node(column)
        if _is_empty(value):
            return node.is_null()
        found = span(value)
        if isinstance(found, str):
            return equals(node, number(column.kind, found))
        return _between(
            node,
            None if found.low is None else number(column.kind, found.low),
            None if found.high is None else number(column.kind, found.high),
        )

    def time(self, column: Column, value: Given) -> pw.ColumnBase:
        """Compare a time with a period."""
        node = self.node(column)
        if _is_empty(value):
            return node.is_null()
        start, end = times(value, self.now)
        nodes = [] if start is None else [node >= start]
        nodes += [] if end is None else [node < end]
        return both(nodes or [node.is_null(False)])

    def boolean(self, column: Column, value: Given) -> pw.ColumnBase:
        """Compare with yes or no."""
        node = self.node(column)
        return node if truth(_one(value)) else negated(node)

    def status(self, column: Column, value: Given) -> pw.ColumnBase:
        """Compare with success, failed and unfinished, in words that partial indexes serve."""
        self.node(column)
        state = _STATES.get(_one(value).strip().lower())
        if state is None:
            raise ValueError(_one(value))
        return state

    def model(self, column: Column, value: Given) -> pw.ColumnBase:
        """Compare a model, or a model and its version after the last colon."""
        self.node(column)
        model_type, version = column.order
        text = stored(_one(value))
        if _is_empty(value):
            return model_type.is_null()
        name, colon, after = text.rpartition(":")
        if not colon or _is_literal(value):
            return equals(model_type, text)
        same_version = equals(version, after) if after else version.is_null()
        return both([equals(model_type, name), same_version])

    def speaker(self, _: Column, value: Given) -> pw.ColumnBase:
        """Compare a speaker's id, or look for a part of the name."""
        own = self.listing.model is Speaker
        key = Speaker.id if own else self.node(self.listing.fields["speaker_id"])
        text = _one(value)
        if _is_empty(value):
            return key.is_null()
        if isinstance(value, Exactly):
            return key == self.store.speaker(text).id
        if text.isascii() and text.isdigit() and not _is_literal(value):
            return equals(key, number("integer", text))
        named = contains(Speaker.name, stored(text))
        return named if own else key.in_(Speaker.select(Speaker.id).where(named))

    def tags(self, column: Column, value: Given) -> pw.ColumnBase:
        """Look for a whole tag."""
        node = self.node(column)
        if _is_empty(value):
            return negated(some_element(node, (), pw.SQL("TRUE")))
        return some_element(node, (), equals(ELEMENT, stored(_one(value))))

    def speaker_tags(self, _: Column, value: Given) -> pw.ColumnBase:
        """Look for a whole tag of the speaker."""
        key = self.node(self.listing.fields["speaker_id"])
        fits = pw.SQL("TRUE") if _is_empty(value) else equals(ELEMENT, stored(_one(value)))
        tagged = some_element(Speaker.tags, (), fits)
        found = key.in_(Speaker.select(Speaker.id).where(tagged))
        return negated(found) if _is_empty(value) else found

    def _json(self, column: Column, term: Match, value: Given) -> pw.ColumnBase:
        """Compare what a JSON path leads to, or any element of a list there."""
        node = self.node(column)
        if _is_empty(value):
            nothing = pw.fn.coalesce(node, plain("{}")).in_(("{}", "[]", "null"))
            return json_missing(node, term.keys) if term.keys else nothing
        if not term.keys:
            raise QueryError(f"{term.field} needs a key, as in {term.field}.name:value")
        return some_element(node, term.keys, _element(term, value))


_Rule = Callable[[Conditions, Column, Given], pw.ColumnBase]
_RULES: Final[dict[str, _Rule]] = {
    "text": Conditions.text,
    "path": Conditions.text,
    "tags": Conditions.tags,
    "time": Conditions.time,
    "boolean": Conditions.boolean,
    **dict.fromkeys(UNITS, Conditions.number),
    "exact": Conditions.exact,
    "format": Conditions.format,
    "prefix": Conditions.prefix,
    "either_path": Conditions.either_path,
    "status": Conditions.status,
    "model": Conditions.model,
    "speaker": Conditions.speaker,
    "speaker_tags": Conditions.speaker_tags,
}


def join(
    query: Any, listing: Listing, sources: Iterable[Model | None], filtered: Iterable[Model] = ()
) -> Any:
    """Return a query with the joins that lead to the sources, each made once.

    An outer join keeps SQLite from starting at the other table, where it may find the rows
    that are ``filtered`` by it sooner; where the other side is always there, none is needed.
    """
    inner = {step.model for source in filtered for step in listing.joins[source] if step.always}
    needed, done = set(sources), set()
    for step in (step for source, way in listing.joins.items() if source in needed for step in way):
        if step.model not in done:
            done.add(step.model)
            kind = pw.JOIN.INNER if step.model in inner else pw.JOIN.LEFT_OUTER
            query = query.join_from(step.start, step.model, kind, on=step.link)
    return query


def find(known: Mapping[str, Column], name: str, what: str = "field") -> Column:
    """Return the column of a name.

    Raises:
        QueryError: There is none; the sentence names the near ones.
    """
    if name in known:
        return known[name]
    from difflib import get_close_matches  # only a mistake needs it

    near = get_close_matches(name, known, n=1, cutoff=0.5)
    names = known if near else {column.name for column in known.values() if not column.hidden}
    raise QueryError.unknown_field(name, names, what)


def stored(text: str) -> str:
    """Return a text as it is stored: bytes that are not UTF-8 as private characters."""
    return str(ProcessedFile.filename.db_value(text))


def _one(value: Given) -> str:
    return f"{value.low or ''}..{value.high or ''}" if isinstance(value, Span) else value.text


def _is_empty(value: Given) -> bool:
    return isinstance(value, Value) and not value.text and not value.literal


def _is_literal(value: Given) -> bool:
    return isinstance(value, Value) and value.literal


def _unreadable(term: Match, value: Given, expected: str) -> QueryError:
    return QueryError(f"{term.name} {_one(value)!r} cannot be read; it takes {expected}")


def _between(node: pw.ColumnBase, low: Number | None, high: Number | None) -> pw.ColumnBase:
    """Say that a node lies in a range; without any end, that it has a value."""
    nodes = [] if low is None else [node >= plain(low)]
    nodes += [] if high is None else [node <= plain(high)]
    return both(nodes or [node.is_null(False)])


def _element(term: Match, value: Given) -> pw.ColumnBase:
    """Compare one JSON element: numbers as numbers, texts as texts, true and false."""
    found = span(value)
    if isinstance(found, Span):
        return _element_between(term, value, found)
    fits = [both([pw.SQL("je.type = 'text'"), equals(ELEMENT, stored(found))])]
    if _is_literal(value):
        return fits[0]
    if found.lower() in {"true", "false"}:
        fits.append(equals(_TYPE, found.lower()))
    with suppress(ValueError):
        fits.append(both([_IS_NUMBER, equals(ELEMENT_NUMBER, plain_number(found))]))
    return either(fits)


def _element_between(term: Match, value: Given, ends: Span) -> pw.ColumnBase:
    if ends.low is ends.high is None:
        return pw.SQL("je.type <> 'null'")
    try:
        low, high = (None if end is None else plain_number(end) for end in (ends.low, ends.high))
    except ValueError as error:
        raise _unreadable(term, value, "numbers as the ends of a range") from error
    return both([_IS_NUMBER, _between(ELEMENT_NUMBER, low, high)])
