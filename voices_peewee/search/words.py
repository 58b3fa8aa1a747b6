"""Query words: one small grammar for every list, in the shell and in Python.

    query  = { ["^"] word }                 all of them; "^" turns one into its opposite
    word   = field ":" value { "," value }  any of the values
           | text                           looked for in names and paths
    field  = name { "." key }               keys lead into JSON: parameters.shifts

A value or text in double quotes is taken literally: it may hold commas and two dots, and
``""`` inside it is one quote. In a single string, words end at white space that is not in
quotes; in a sequence, each item is one word. What a field and its values mean is not known
here.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voices_peewee.errors import QueryError

if TYPE_CHECKING:
    from voices_peewee.database.store import SpeakerKey, Store

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


Given = Value | Span


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


Term = Text | Match | Not
Words = str | Sequence[str | Term]

_QUOTED: Final = r'"(?:[^"]|"")*"'
_PATH: Final = rf"([A-Za-z_][\w-]*)((?:\.(?:[\w-]+|{_QUOTED}))*)"
_KEY: Final = rf"\.([\w-]+|{_QUOTED})"
_VALUE: Final = rf"(?P<quoted>{_QUOTED})(?=,|\Z)|(?P<plain>(?!\")[^,]*)"
# U+DC80…U+DCFF stay: they stand for the bytes of a name that is not UTF-8 (PEP 383).
_IMPOSSIBLE: Final = "[\0\ud800-\udc7f\udd00-\udfff]"
# White space inside quotes ends no word; a quote inside a word (12" mix) opens none.
_WORD: Final = r'(?:(?:(?<=[\^:,."])|(?<!\S))"(?:[^"]|"")*(?:"|\Z)|\S)+'


def parse(words: Words) -> tuple[Term, ...]:
    """Return the terms of a query, all of which must be true.

    Args:
        words: The whole query as one string, or one item a word, as a shell hands them over;
            an item may be a term, too.

    Raises:
        QueryError: A word breaks the grammar, or holds what no database can; or there are too
            many.
    """
    items = re.findall(_WORD, words) if isinstance(words, str) else (word for word in words if word)
    terms = tuple(_term(item) if isinstance(item, str) else item for item in items)
    inner = [term.term if isinstance(term, Not) else term for term in terms]
    size = sum(len(term.values) if isinstance(term, Match) else 1 for term in inner)
    if size > MAX_VALUES:
        raise QueryError(
            f"a query of {size:,} words and values is too long; the limit is {MAX_VALUES:,}"
        )
    return terms


def text_term(text: str) -> Text:
    """Return the term that looks for a text as it is."""
    return Text(_checked(text, text))


def field_path(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the name and the keys of ``name.key.key``, or None where it is none."""
    found = re.fullmatch(_PATH, text)
    return (found[1], _keys(found[2])) if found else None


def _term(word: str) -> Term:
    if word == ",":
        raise QueryError("a ',' stands between values, as in model:demucs,svoice, not alone")
    body = word.removeprefix("^")
    if not body:
        raise QueryError("'^' needs a word right after it, as in ^tag:noisy")
    found = re.match(f"{_PATH}:", body)
    term: Text | Match
    if found:
        values = tuple(_values(body[found.end() :], word))
        term = Match(found[1].lower().replace("-", "_"), values, _keys(found[2]))
    else:
        term = Text(_checked(_unquoted(body, word), word))
    return Not(term) if body != word else term


def _keys(path: str) -> tuple[str, ...]:
    return tuple(_inner(key) if key[0] == '"' else key for key in re.findall(_KEY, path))


def _values(text: str, word: str) -> Iterator[Value]:
    position = 0
    while position <= len(text):
        found = re.compile(_VALUE).match(text, position)
        if found is None:
            raise _unclosed(word)
        if found["quoted"] is None:
            yield Value(_checked(found["plain"], word))
        else:
            yield Value(_checked(_inner(found["quoted"]), word), literal=True)
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


When = str | dt.datetime | dt.date


def filters_to_words(
    store: Store,
    *,
    speaker: SpeakerKey | Sequence[SpeakerKey] | None = None,
    tag: str | Sequence[str] = (),
    model: str | Sequence[str] = (),
    operation: str | Sequence[str] = (),
    file_format: str | Sequence[str] = (),
    since: When | None = None,
    until: When | None = None,
    success: bool = False,
    failed: bool = False,
    unfinished: bool = False,
) -> list[Term]:
    """Return the terms that the filters of ``DatabaseManager.list_rows`` stand for.

    Of several speakers, models, operations, formats or states any fits; tags must all be there.

    Raises:
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
    """
    flags = {"success": success, "failed": failed, "unfinished": unfinished}
    any_of = {
        "model": _each(model),
        "operation": _each(operation),
        "format": _each(file_format),
        "speaker": [f"id:{store.speaker(key).id}" for key in _each(speaker)],
        "status": [state for state, wanted in flags.items() if wanted],
    }
    terms: list[Term] = [Match("tag", (Value(text),)) for text in _each(tag)]
    terms += [Match(name, tuple(map(Value, texts))) for name, texts in any_of.items() if texts]
    if since or until:
        terms.append(Match("since", (Span(_when(since), _when(until)),)))
    return terms


def _each(given: Any) -> Sequence[Any]:
    """Return several as they are, one as the only one, and none as none."""
    if given is None:
        return ()
    is_one = isinstance(given, str) or not isinstance(given, Iterable)
    return (given,) if is_one else tuple(given)


def _when(time: When | None) -> str | None:
    if isinstance(time, dt.datetime):
        return time.isoformat(timespec="microseconds")
    return time.isoformat() if isinstance(time, dt.date) else time
