"""Query words: one small grammar for every list, in the shell and in Python.

    query  = group { " , " group }          a lone comma is "or" between groups of words
    group  = { ["^"] word }                 all of them; "^" turns one into its opposite
    word   = field ":" value { "," value }  any of the values
           | text                           looked for in names and paths
    field  = name { "." key }               keys lead into JSON: parameters.shifts

A value or text in double quotes is taken literally: it may hold commas and two dots, and
``""`` inside it is one quote. In a single string, words end at white space that is not in
quotes; in a sequence, each item is one word. What a field and its values mean is not known
here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from voices_peewee.errors import QueryError

MAX_LENGTH: Final = 2000  # characters of one text or value: SQLite bounds its patterns
MAX_VALUES: Final = 1000  # texts and values of one query


class Value(NamedTuple):
    """One value of a field; a ``literal`` one was quoted and is no range, id or word."""

    text: str
    literal: bool = False


class Span(NamedTuple):
    """A range, both ends included; None leaves an end open."""

    low: str | None
    high: str | None


class Exactly(NamedTuple):
    """A whole value that a program hands over; no word of a query says it."""

    text: str


Given = Value | Span | Exactly


class Text(NamedTuple):
    """A text that is looked for in names and paths."""

    text: str


class Match(NamedTuple):
    """A field that has any of the values; ``keys`` lead into a JSON field."""

    field: str
    values: tuple[Given, ...]
    keys: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The field with its keys, as it is written in a query."""
        return ".".join((self.field, *map(_written, self.keys)))


class Not(NamedTuple):
    """The opposite of a term."""

    term: Text | Match


class And(NamedTuple):
    """All of the terms; none at all is always true."""

    terms: tuple[Text | Match | Not, ...]


class Or(NamedTuple):
    """Any of the groups."""

    groups: tuple[And, ...]


Term = Text | Match | Not

_QUOTED: Final = r'"(?:[^"]|"")*"'
_NAME: Final = r"[A-Za-z_][\w-]*"
# Patterns are compiled when first used: most lists are asked without a word.
_FIELD: Final = rf"({_NAME})((?:\.(?:[\w-]+|{_QUOTED}))*):"
_PATH: Final = rf"({_NAME})((?:\.(?:[\w-]+|{_QUOTED}))*)"
_KEY: Final = rf"\.([\w-]+|{_QUOTED})"
_VALUE: Final = rf"(?P<quoted>{_QUOTED})(?=,|\Z)|(?P<plain>(?!\")[^,]*)"
# U+DC80…U+DCFF stay: they stand for the bytes of a name that is not UTF-8 (PEP 383).
_IMPOSSIBLE: Final = "[\0\ud800-\udc7f\udd00-\udfff]"
_STARTS_QUOTE: Final = frozenset('^:,."')


def parse(words: str | Sequence[str]) -> Or:
    """Return the tree of a query: groups of terms, of which any group must be true as a whole.

    Args:
        words: The whole query as one string, or one item a word, as a shell hands them over.

    Raises:
        QueryError: A quote is not closed, a word is empty after ``^``, a comma stands alone
            without words on both sides, a word holds a NUL or half a surrogate pair, or the
            query is longer than ``MAX_LENGTH`` and ``MAX_VALUES`` allow.
    """
    items = list(_split(words)) if isinstance(words, str) else [word for word in words if word]
    groups: list[list[Term]] = [[]]
    for item in items:
        if item == ",":
            groups.append([])
        else:
            groups[-1].append(_term(item))
    if len(groups) > 1 and not all(groups):
        raise QueryError("a lone ',' means 'or' and needs words on both sides")
    tree = Or(tuple(And(tuple(group)) for group in groups))
    _check_size(tree)
    return tree


def text_term(text: str) -> Text:
    """Return the term that looks for a text as it is.

    Raises:
        QueryError: The text is too long, or holds a NUL or half a surrogate pair.
    """
    return Text(_checked(text, text))


def field_path(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the name and the keys of ``name.key.key``, or None where it is none."""
    found = re.fullmatch(_PATH, text)
    return (found[1], _keys(found[2])) if found else None


def _split(text: str) -> Iterator[str]:
    """Yield the words of a single string; white space inside quotes does not end a word."""
    start, quoted = None, False
    for index, character in enumerate(text):
        if quoted:
            quoted = character != '"'
        elif character.isspace():
            if start is not None:
                yield text[start:index]
            start = None
        else:
            # A quote inside a word (12" mix) is a character like any other; a quote that
            # follows a closing one is the second half of a doubled quote.
            before = text[index - 1] if start is not None else "^"
            quoted = character == '"' and before in _STARTS_QUOTE
            start = index if start is None else start
    if start is not None:
        yield text[start:]


def _term(word: str) -> Term:
    negated = word.startswith("^")
    body = word[1:] if negated else word
    if not body:
        raise QueryError("'^' needs a word right after it, as in ^tag:noisy")
    found = re.match(_FIELD, body)
    term: Text | Match
    if found:
        values = tuple(_values(body[found.end() :], word))
        term = Match(_plain_name(found[1]), values, _keys(found[2]))
    else:
        term = Text(_checked(_unquoted(body, word), word))
    return Not(term) if negated else term


def _plain_name(name: str) -> str:
    return name.lower().replace("-", "_")


def _keys(path: str) -> tuple[str, ...]:
    return tuple(_inner(key) if key[0] == '"' else key for key in re.findall(_KEY, path))


def _values(text: str, word: str) -> Iterator[Value]:
    position = 0
    while True:
        found = re.compile(_VALUE).match(text, position)
        if found is None:
            raise _unclosed(word)
        if found["quoted"] is None:
            yield Value(_checked(found["plain"], word))
        else:
            yield Value(_checked(_inner(found["quoted"]), word), literal=True)
        if found.end() == len(text):
            return
        position = found.end() + 1


def _unquoted(text: str, word: str) -> str:
    if not text.startswith('"'):
        return text
    if not re.fullmatch(_QUOTED, text):
        raise _unclosed(word)
    if text == '""':
        raise QueryError("a word must not be empty; leave '\"\"' out")
    return _inner(text)


def _inner(quoted: str) -> str:
    return quoted[1:-1].replace('""', '"')


def _written(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key) else '"' + key.replace('"', '""') + '"'


def _unclosed(word: str) -> QueryError:
    return QueryError(f"a quote in {_shown(word)} is not closed, or text follows it")


def _checked(text: str, word: str) -> str:
    """Refuse what no database can hold or compare."""
    if len(text) > MAX_LENGTH:
        raise QueryError(
            f"a word of {len(text):,} characters is too long; the limit is {MAX_LENGTH:,}"
        )
    if re.search(_IMPOSSIBLE, text):
        raise QueryError(f"{_shown(word)} holds a character that no text in a database can have")
    return text


def _shown(word: str) -> str:
    return repr(word if len(word) <= 60 else word[:59] + "…")


def _check_size(tree: Or) -> None:
    terms = [
        term.term if isinstance(term, Not) else term
        for group in tree.groups
        for term in group.terms
    ]
    size = sum(len(term.values) if isinstance(term, Match) else 1 for term in terms)
    if size > MAX_VALUES:
        raise QueryError(
            f"a query of {size:,} words and values is too long; the limit is {MAX_VALUES:,}"
        )
