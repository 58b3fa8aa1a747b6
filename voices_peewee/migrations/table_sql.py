"""Read the SQL that SQLite keeps of tables and indexes: its parts, and a form to compare."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    pass

_TOKEN: Final = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\])
    | (?P<word>\w+)
    | (?P<sign>.)""",
    re.DOTALL | re.VERBOSE,
)
_TABLE_CONSTRAINTS: Final = {"constraint", "primary", "unique", "check", "foreign"}


@dataclass(frozen=True)
class Token:
    """A word, name, literal or sign, and where it stands in the text."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """The token without the quotes of a name."""
        if self.kind != "quoted":
            return self.text
        mark = self.text[-1]
        return self.text[1:-1].replace(mark * 2, mark)

    @property
    def plain(self) -> str:
        """The token as SQLite compares it: in lower case, unless it is a literal."""
        return self.text if self.kind == "text" else self.name.lower()

    def is_word(self, word: str) -> bool:
        """Tell whether this is the bare keyword ``word`` and not a quoted name."""
        return self.kind == "word" and self.text.lower() == word


def tokens(sql: str) -> list[Token]:
    """Return the text's tokens without blanks and comments."""
    return [
        Token(str(match.lastgroup), match.group(), match.start(), match.end())
        for match in _TOKEN.finditer(sql)
        if match.lastgroup != "blank"
    ]


def normal(sql: str) -> str:
    """Return the text with one spelling: no comments, no quotes around names, lower case."""
    return " ".join(token.plain for token in tokens(sql))


def mentions(sql: str, name: str) -> bool:
    """Tell whether the parenthesised part of a definition names a column."""
    inside = tokens(sql[sql.find("(") :])
    return any(token.kind != "text" and token.plain == name.lower() for token in inside)


def column_list(sql: str) -> list[str]:
    """Return the names that stand first between commas in an index's parentheses."""
    inside = tokens(sql[sql.find("(") :])
    return [after.name for token, after in pairwise(inside) if token.text in ("(", ",")]


@dataclass(frozen=True)
class TableText:
    """CREATE TABLE in parts: what stands before the parentheses, in them and after."""

    head: str
    definitions: tuple[str, ...]
    tail: str

    @classmethod
    def parse(cls, sql: str) -> TableText:
        """Cut the text at the commas between its definitions."""
        depth, begin, head, found = 0, 0, sql, []
        for token in tokens(sql):
            if token.text == "(":
                depth += 1
                if depth == 1:
                    head, begin = sql[: token.start].strip(), token.end
            elif token.text == ")":
                depth -= 1
            if (token.text == "," and depth == 1) or (token.text == ")" and depth == 0):
                found.append(sql[begin : token.start].strip())
                begin = token.end
                if depth == 0:
                    break
        return cls(head, tuple(found), sql[begin:].strip())

    def sql(self, name: str) -> str:
        """Return the text for a table of this form under another name."""
        return f"CREATE TABLE {quoted(name)} ({', '.join(self.definitions)}) {self.tail}".strip()

    @property
    def columns(self) -> dict[str, str]:
        """The columns' names with their definitions."""
        named = ((column_name(text), text) for text in self.definitions)
        return {name: text for name, text in named if name is not None}

    @property
    def checks(self) -> list[Check]:
        """The CHECKs, those on columns and those on the table."""
        return [
            replace(check, column=column_name(text))
            for text in self.definitions
            for check in checks(text)
        ]

    def with_column(self, name: str, definition: str | None) -> TableText:
        """Replace a column's definition, or leave the column out (None)."""
        return self._edit(lambda text: definition if column_name(text) == name else text)

    def with_new_column(self, definition: str) -> TableText:
        """Add a column after the others."""
        place = len(self.columns)
        return replace(
            self, definitions=(*self.definitions[:place], definition, *self.definitions[place:])
        )

    def with_constraint(self, definition: str) -> TableText:
        """Add a constraint at the end."""
        return replace(self, definitions=(*self.definitions, definition))

    def without_foreign_key(self, column: str) -> TableText:
        """Leave out the table's FOREIGN KEY (column), not one that the column itself holds."""
        return self._edit(lambda text: None if foreign_key(text) == [column.lower()] else text)

    def without_check(self, name: str) -> TableText:
        """Leave out the CHECK of that name, wherever it stands."""
        return self._edit(lambda text: _without_check(text, name))

    def _edit(self, change: Callable[[str], str | None]) -> TableText:
        edited = map(change, self.definitions)
        return replace(self, definitions=tuple(text for text in edited if text))


@dataclass(frozen=True)
class Check:
    """A CHECK: its name or None, its body, where it stands, and the column that holds it."""

    name: str | None
    body: str
    start: int
    end: int
    column: str | None = None


def column_name(definition: str) -> str | None:
    """Return the name of the column that a definition makes; None for a constraint."""
    first = tokens(definition)[0]
    return None if first.kind == "word" and first.plain in _TABLE_CONSTRAINTS else first.name


def checks(definition: str) -> Iterator[Check]:
    """Yield the CHECKs of one definition."""
    found = tokens(definition)
    for place, token in enumerate(found):
        if not token.is_word("check"):
            continue
        last = _closing(found, place + 1)
        named = place >= 2 and found[place - 2].is_word("constraint")
        yield Check(
            name=found[place - 1].name if named else None,
            body=definition[found[place + 1].end : last.start].strip(),
            start=found[place - 2].start if named else token.start,
            end=last.end,
        )


def _closing(found: list[Token], opening: int) -> Token:
    depth = 0
    for token in found[opening:]:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            return token
    raise ValueError("unbalanced parentheses")


def _without_check(definition: str, name: str) -> str:
    for check in checks(definition):
        if check.name == name:
            return (
                f"{definition[: check.start].rstrip()} {definition[check.end :].lstrip()}".strip()
            )
    return definition


def foreign_key(definition: str) -> list[str]:
    """Return the columns, in lower case, of a table's FOREIGN KEY; empty for anything else."""
    plain = [token.plain for token in tokens(definition)]
    if column_name(definition) is not None or "foreign" not in plain:
        return []
    inside = plain[plain.index("(") + 1 : plain.index(")")]
    return [name for name in inside if name != ","]


def has_computed_default(definition: str) -> bool:
    """Tell whether a column's default is no constant, so that ALTER TABLE cannot add it."""
    return any(
        token.is_word("default") and (after.text == "(" or after.plain.startswith("current_"))
        for token, after in pairwise(tokens(definition))
    )


def collation(definition: str) -> str | None:
    """Return a column's collating sequence, in lower case."""
    found = tokens(definition)
    after = (
        found[place + 1].plain for place, token in enumerate(found) if token.is_word("collate")
    )
    return next(after, None)


def with_null(definition: str) -> str:
    """Return a column's definition without its NOT NULL."""
    depth, found = 0, tokens(definition)
    for token, after in pairwise(found):
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0 and token.is_word("not") and after.is_word("null"):
            return (
                f"{definition[: token.start].rstrip()} {definition[after.end :].lstrip()}".strip()
            )
    return definition


def quoted(name: str) -> str:
    """Return a name as SQL text."""
    return '"' + name.replace('"', '""') + '"'
