"""The error tree: every error takes facts and writes its own sentence.

VoicesError
├── DatabaseError               the file or server, its locks and its space
│   ├── DatabaseMissingError    nothing is there yet
│   ├── NotVoicesError          something else is there
│   ├── DatabaseBusyError       another program holds the lock
│   ├── DatabaseReadOnlyError   the file or its folder cannot be written
│   ├── DatabaseFullError       no room left on the disk
│   ├── DatabaseDamagedError    the file is broken
│   ├── ServerAwayError         the server does not answer
│   ├── NotConnectedError       the manager is closed
│   └── AlreadyConnectedError   the models are bound to another database
├── MigrationError              a migration failed or cannot be made
│   ├── PendingMigrationsError  the file is older than the code
│   └── DatabaseNewerError      the file is newer than the code
├── RecordError                 a record is not as it should be
│   ├── NotFoundError           no such record
│   ├── AmbiguousNameError      several records have that name
│   ├── DuplicateNameError      a record of that name is there already
│   └── InvalidValueError       a value breaks a rule of the schema
├── QueryError                  an unknown field or a value that cannot be read
├── InputError                  an input cannot be imported, or holds a bad record
├── AudioError                  a file cannot be recorded as audio
├── PlotError                   a picture cannot be drawn
├── BackupError                 a backup cannot be made, verified or restored
├── ExportError                 an export cannot be written
├── ServeError                  the web pages cannot be served at an address
└── MissingExtraError           an optional dependency is not installed
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

_LONGEST = 6000  # characters of a message: more than the longest path


class VoicesError(Exception):
    """Root of every error that this package raises on purpose; a huge value is cut in it."""

    def __init__(self, message: str) -> None:
        if len(message) > _LONGEST:
            half = _LONGEST // 2
            message = f"{message[:half]} … {message[-half:]}"
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        # Out of a worker process: its facts would not fit into __init__, and the pool would break.
        return Exception.__new__, (type(self), *self.args), self.__dict__


class DatabaseError(VoicesError):
    """The database cannot be used: ``database`` is its path or URL, ``reason`` a clause.

    A kind of it has a clause of its own, in which ``detail`` stands.
    """

    clause: ClassVar[str] = "{}"

    def __init__(self, database: object, detail: object = "") -> None:
        self.database, self.detail, self.reason = str(database), detail, self.clause.format(detail)
        super().__init__(f"cannot use {self.database!r}: {self.reason}")


class DatabaseMissingError(DatabaseError):
    """No database is at the path."""

    clause = "there is no database; run 'voices init' to create it"


class NotVoicesError(DatabaseError):
    """The path holds something that is not a Voices database."""


class DatabaseBusyError(DatabaseError):
    """Another program kept its lock for longer than the timeout (s)."""

    clause = (
        "another program held its lock for more than {:g} s; end that program or raise the timeout"
    )


class DatabaseReadOnlyError(DatabaseError):
    """The file or its folder refuses writes."""

    clause = "it is read-only; check the permissions of the file and its folder"


class DatabaseFullError(DatabaseError):
    """The disk is full; ``detail`` is what the system says, in parentheses."""

    clause = "the disk is full{}; nothing of this change was written"


class DatabaseDamagedError(DatabaseError):
    """SQLite reports the file as broken."""

    clause = "the file is damaged ({}); restore a backup with 'voices restore'"


class ServerAwayError(DatabaseError):
    """The server cannot be reached, or hung up; ``detail`` is what the driver says."""

    clause = "the server is away ({}); is it running, and is the address right?"


class NotConnectedError(DatabaseError):
    """The manager was closed or never connected."""

    clause = "the manager is not connected; call connect() or initialize()"


class AlreadyConnectedError(DatabaseError):
    """Another manager has bound the models to another database, ``detail``."""

    clause = "the models are bound to {!r}; close that manager first"


class _PathError(VoicesError):
    """Something is wrong with a file: ``path`` is as given, ``reason`` a clause."""

    sentence: ClassVar[str]

    def __init__(self, path: object, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(self.sentence.format(self.path, reason))


class MigrationError(VoicesError):
    """A migration cannot be made, read, applied or rolled back; the database is as before."""


def migrating(directory: object | None) -> str:
    """Return the command that migrates, with an application's own directory if there is one."""
    option = "" if directory is None else f"--migrations-dir {directory} "
    return f"'voices {option}run-migrations'"


class PendingMigrationsError(MigrationError):
    """The database lacks migrations; ``directory`` is an application's own, where it has one."""

    def __init__(
        self, database: object, names: Sequence[str], directory: object | None = None
    ) -> None:
        self.names = tuple(names)
        plural = "" if len(names) == 1 else "s"
        super().__init__(
            f"{str(database)!r} lacks {len(names)} migration{plural} ({', '.join(names)}); "
            f"run {migrating(directory)}"
        )


class DatabaseNewerError(MigrationError):
    """The database has migrations that this code does not know."""

    def __init__(self, database: object, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(
            f"{str(database)!r} is newer than this program (unknown: {', '.join(names)}); "
            "upgrade voices-peewee, or name the directory of the missing migrations"
        )


class RecordError(VoicesError):
    """A record is missing, named twice or not valid."""


class NotFoundError(RecordError):
    """No record of a kind answers to a key (an id, a name or a path)."""

    def __init__(self, kind: str, key: object) -> None:
        self.kind, self.key = kind, key
        super().__init__(f"no {kind} {key!r}; see 'voices {_LISTS.get(kind, 'list')}'")


class AmbiguousNameError(RecordError):
    """Several records answer to one name; ``ids`` are theirs."""

    def __init__(self, kind: str, name: str, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        listed = ", ".join(map(str, ids))
        super().__init__(f"{len(ids)} {kind}s are named {name!r} (ids {listed}); use an id")


class DuplicateNameError(RecordError):
    """A record of that name is there already."""

    def __init__(self, kind: str, name: str, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        super().__init__(
            f"there is a {kind} {name!r} already (id {', '.join(map(str, ids))}); "
            "use --duplicate to add another"
        )


class InvalidValueError(RecordError):
    """A value breaks a rule of the schema."""


class DanglingError(InvalidValueError):
    """A record refers to another that is not there, or no more: others may delete meanwhile."""

    def __init__(self) -> None:
        super().__init__("a record refers to another that does not exist")


class QueryError(VoicesError):
    """A question names an unknown field or a value that cannot be read.

    ``known`` are the fields there are, where one was unknown; ``in_shell`` is the sentence
    with its last part as the shell spells it.
    """

    known: tuple[str, ...] = ()

    def __init__(self, sentence: str, *, cli: str = "") -> None:
        super().__init__(sentence)
        self.in_shell = f"{sentence.rpartition('; ')[0]}; {cli}" if cli else sentence

    @classmethod
    def unknown_field(cls, field: object, known: Iterable[str], what: str = "field") -> QueryError:
        """Say that ``field`` is not one of ``known`` and name the near ones."""
        from difflib import get_close_matches  # late: a slow import that only errors need

        names = sorted(known)
        text = str(field)
        near = [name for name in names if text and name.startswith(text)][:3]
        near = near or get_close_matches(text, names, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?" if near else f"use {', '.join(names)}"
        )
        error = cls(f"unknown {what} {field!r}; {hint}")
        error.known = tuple(names)
        return error


class AudioError(_PathError):
    """A file cannot be recorded."""

    sentence = "cannot read {!r}: {}"


class InputError(VoicesError):
    """An input cannot be imported: which one, where in it, and a clause that says why.

    ``place`` is empty where all of it is meant, ``column`` where no single value is.
    ``problems`` are all bad records where there are several, the first thousand of them.
    """

    problems: tuple[InputError, ...] = ()

    @classmethod
    def several(cls, problems: Sequence[InputError], count: int) -> InputError:
        """Return the error of ``count`` bad records: the first, and how many more there are."""
        first = problems[0]
        more = f"{first.reason}; and {count - 1:,} more bad record{'s' if count > 2 else ''}"
        error = cls(first.source, more, place=first.place, column=first.column)
        error.problems = tuple(problems)
        return error

    def __init__(self, source: object, reason: str, *, place: str = "", column: str = "") -> None:
        self.source, self.place, self.column, self.reason = str(source), place, column, reason
        where = filter(None, [repr(self.source), place, column and f"column {column!r}"])
        what = ", ".join(where) if place or column else f"cannot import {self.source!r}"
        super().__init__(f"{what}: {reason}")


class BackupError(_PathError):
    """A backup cannot be made, verified or restored."""

    sentence = "backup {!r}: {}"


class ServerBackupError(BackupError):
    """A server's database is backed up and restored by its own tools: ``command`` is the call.

    ``hint`` is a clause on what to do afterwards.
    """

    def __init__(self, database: object, command: str, hint: str = "") -> None:
        self.command = command
        first = f"a server has its own tools for that{hint and f', after which {hint}'}"
        super().__init__(database, f"{first}; run: {command}")


class ExportError(_PathError):
    """An export cannot be written; ``path`` is its file or folder."""

    sentence = "export {!r}: {}"


class PlotError(VoicesError):
    """A picture cannot be drawn, or nothing is there to draw."""


class ServeError(VoicesError):
    """The web pages cannot be served: ``reason`` is a clause."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host, self.port = host, port
        super().__init__(f"cannot serve on {host!r}, port {port}: {reason}; try another --port")


class MissingExtraError(VoicesError):
    """An optional dependency is not installed; ``extra`` is the one to add."""

    def __init__(self, purpose: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{purpose} needs an extra; run: pip install 'voices-peewee[{extra}]'")


_LISTS = {
    "speaker": "list-speakers",
    "file": "list-files",
    "run": "list-history",
    "model": "list-performance",
}
