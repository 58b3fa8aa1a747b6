"""The grammar of query words: text to tree, and every sentence about what is none."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voices_peewee.errors import QueryError
from voices_peewee.search.words import (
    Match,
    Not,
    Term,
    Text,
    Value,
    field_path,
    parse,
    text_term,
)


def query(*terms: Term) -> tuple[Term, ...]:
    return terms


def field(name: str, *values: str | Value, keys: tuple[str, ...] = ()) -> Match:
    given = tuple(Value(value) if isinstance(value, str) else value for value in values)
    return Match(name, given, keys)


def quoted(text: str) -> Value:
    return Value(text, literal=True)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        pytest.param("", query(), id="nothing"),
        pytest.param("noisy", query(Text("noisy")), id="text"),
        pytest.param("a b", query(Text("a"), Text("b")), id="and"),
        pytest.param("a,b", query(Text("a,b")), id="comma-in-text"),
        pytest.param("^tag:x", query(Not(field("tag", "x"))), id="not-field"),
        pytest.param("^^a", query(Not(Text("^a"))), id="only-the-first-caret"),
        pytest.param("model:demucs,svoice", query(field("model", "demucs", "svoice")), id="values"),
        pytest.param("model:demucs:4.0", query(field("model", "demucs:4.0")), id="second-colon"),
        pytest.param("error:", query(field("error", "")), id="empty-value"),
        pytest.param("tag:a,", query(field("tag", "a", "")), id="value-or-empty"),
        pytest.param("Si-SNRi:10..", query(field("si_snri", "10..")), id="spelling-of-a-field"),
        pytest.param("/a:b", query(Text("/a:b")), id="path-with-colon"),
        pytest.param('"two words"', query(Text("two words")), id="phrase"),
        pytest.param('"a:b"', query(Text("a:b")), id="quoted-colon"),
        pytest.param('"a ""b"" c"', query(Text('a "b" c')), id="doubled-quote"),
        pytest.param('12" mix', query(Text('12"'), Text("mix")), id="quote-inside-a-word"),
        pytest.param('name:"a, b",c', query(field("name", quoted("a, b"), "c")), id="quoted-value"),
        pytest.param('name:""', query(field("name", quoted(""))), id="quoted-nothing"),
        pytest.param('started:"-7d"', query(field("started", quoted("-7d"))), id="literal"),
        pytest.param(
            "parameters.a.b-c:1", query(field("parameters", "1", keys=("a", "b-c"))), id="keys"
        ),
        pytest.param(
            'metadata."room size"."x.y":2',
            query(field("metadata", "2", keys=("room size", "x.y"))),
            id="quoted-keys",
        ),
        pytest.param("x:größe", query(field("x", "größe")), id="other-letters"),
        pytest.param("\udcff", query(Text("\udcff")), id="byte-that-is-no-utf8"),
    ],
)
def test_a_string_is_parsed(text: str, tree: tuple[Term, ...]) -> None:
    """One string holds a whole query; words end at white space outside quotes."""
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("words", "tree"),
    [
        pytest.param(["", "a", ""], query(Text("a")), id="empty-items"),
        pytest.param(["two words"], query(Text("two words")), id="space-in-an-item"),
        pytest.param(['"a:b"'], query(Text("a:b")), id="quotes-that-the-shell-left"),
        pytest.param(["a", Text("^b")], query(Text("a"), Text("^b")), id="a-term"),
    ],
)
def test_a_sequence_is_parsed(words: list[str], tree: tuple[Term, ...]) -> None:
    """Each item of a sequence is one word, as a shell hands words over."""
    assert parse(words) == tree


_UNCLOSED = "a quote in {} is not closed, or text follows it"
_IMPOSSIBLE = "holds a character that no text in a database can have"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("^", "'^' needs a word right after it, as in ^tag:noisy"),
        ("a , b", "a ',' stands between values, as in model:demucs,svoice, not alone"),
        ('""', "a word must not be empty; leave '\"\"' out"),
        ('"abc', _UNCLOSED.format("'\"abc'")),
        ('tag:"a b', _UNCLOSED.format("'tag:\"a b'")),
        ('tag:"a"b', _UNCLOSED.format("'tag:\"a\"b'")),
        ('"' + "a" * 100, _UNCLOSED.format(f"'\"{'a' * 58}…'")),
        ("tag:a\0b", f"'tag:a\\x00b' {_IMPOSSIBLE}"),
        ("\ud800", f"'\\ud800' {_IMPOSSIBLE}"),
        ("a" * 2001, "a word of 2,001 characters is too long; the limit is 2,000"),
        (
            "id:" + ",".join("1" * 1001),
            "a query of 1,001 words and values is too long; the limit is 1,000",
        ),
    ],
)
def test_what_is_no_query_gets_one_sentence(words: str, sentence: str) -> None:
    """A query that breaks the grammar is refused with what is wrong."""
    with pytest.raises(QueryError) as caught:
        parse(words)
    assert str(caught.value) == sentence


def test_a_search_text_is_taken_as_it_is() -> None:
    """Quotes, colons and carets of a searched text mean nothing."""
    assert text_term('^"a:b') == Text('^"a:b')


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param("id", ("id", ()), id="name"),
        pytest.param("parameters.a-b", ("parameters", ("a-b",)), id="key"),
        pytest.param('metadata."a b"', ("metadata", ("a b",)), id="quoted-key"),
        pytest.param("a b", None, id="space"),
        pytest.param("a..b", None, id="empty-key"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_field_paths(text: str, path: tuple[str, tuple[str, ...]] | None) -> None:
    """A column may be followed by keys that lead into its JSON."""
    assert field_path(text) == path


@given(st.text() | st.text(alphabet='ab:,^". \udc80'))
@example('"a""b" c:"d",e , ^f')
def test_any_text_is_a_query_or_gets_a_sentence(text: str) -> None:
    """No text whatever crashes the parser, and sentences are single lines."""
    try:
        said = repr(parse(text))
    except QueryError as error:
        said = str(error)
    assert said.isprintable()


_TEXTS = st.text(alphabet='aZ é:,^"._-\t', min_size=1, max_size=6)
_NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
_VALUES = st.builds(Value, _TEXTS, literal=st.just(True))
_MATCHES = st.builds(
    Match,
    _NAMES,
    st.lists(_VALUES, min_size=1, max_size=3).map(tuple),
    st.lists(_TEXTS, max_size=2).map(tuple),
)
_PLAIN = st.builds(Text, _TEXTS) | _MATCHES
_QUERIES = st.lists(_PLAIN | st.builds(Not, _PLAIN), max_size=4)


def written(term: Term) -> str:
    """Write a term so that nothing in it can be taken for anything else."""
    if isinstance(term, Not):
        return "^" + written(term.term)
    if isinstance(term, Text):
        return in_quotes(term.text)
    keys = "".join("." + in_quotes(key) for key in term.keys)
    return f"{term.field}{keys}:" + ",".join(in_quotes(value.text) for value in term.values)


def in_quotes(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@given(_QUERIES)
def test_every_query_can_be_written(terms: list[Term]) -> None:
    """Quoting says any text, value and key; the string and the sequence say the same."""
    words = [written(term) for term in terms]
    assert parse(" ".join(words)) == parse(words) == tuple(terms)


@given(_MATCHES)
def test_the_name_of_a_match_is_how_it_is_written(match: Match) -> None:
    """Sentences name a field as a query could."""
    assert field_path(match.name) == (match.field, match.keys)
