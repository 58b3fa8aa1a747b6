"""What is wrong with a database: its pages, its references, its schema, its values, its audio."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

from voices_peewee.database.files import ON_NETWORK, USE_SERVER, network_file_system, spool, spooled
from voices_peewee.database.sqlite import is_open_here
from voices_peewee.database.store import Store
from voices_peewee.errors import AudioError, DatabaseDamagedError, DatabaseError, migrating
from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.drift import drift, view_differences
from voices_peewee.records.audio_files import content_hash
from voices_peewee.records.roots import PathMap, Roots
from voices_peewee.schema.models import MODELS, ProcessedFile
from voices_peewee.upkeep import values
from voices_peewee.upkeep.moving import move_paths
from voices_peewee.upkeep.restore import foreign, made, objects

Kind = Literal[
    "integrity", "foreign keys", "migrations", "drift", "trigger", "value", "files", "note"
]
Progress = Callable[[int, int], None]

_RESTORE: Final = "restore a backup with 'voices restore'"
_PAGE: Final = 500  # rows that are read at once, so that no reader keeps the WAL from ending

_TOTAL: Final = """SELECT coalesce(sum(file_size), 0) FROM processed_files
 WHERE recording_id IS NULL"""
_FILES: Final = """SELECT id, original_path, recording_id, processed_path, file_size, content_hash
 FROM processed_files WHERE id > ? ORDER BY id LIMIT ?"""

_RENAMED: Final = """SELECT count(*) FROM model_performance AS measured
 JOIN processing_history AS run ON run.id = measured.processing_history_id
 WHERE measured.model_type <> coalesce(run.model_type, '')
  OR measured.model_version <> coalesce(run.model_version, '')"""


@dataclass(frozen=True)
class Finding:
    """One thing that was seen: ``what`` is a sentence, ``advice`` what to do about it.

    A finding of kind ``note`` is not wrong. ``mendable`` counts the values in it that
    ``check(fix=True)`` mends.
    """

    kind: Kind
    what: str
    advice: str
    mendable: int = 0


def check(
    store: Store,
    *,
    directories: Sequence[Path],
    files: bool = False,
    path_map: Roots | None = None,
    on_progress: Progress | None = None,
) -> list[Finding]:
    """Return what is wrong with an open database; the models need not be bound.

    Where migrations are pending or unknown, neither the schema nor the audio is looked at.
    """
    store.require_place()
    behind = list(_behind(store, directories))
    looks = [] if store.server is None else [_spooled(store.server.place)]
    looks += [] if behind else [_drift(store), _disagreeing(store)]
    looks.append(_values(store))
    if store.server is None:  # which looks after its pages and references by itself
        looks = [_place(store), _integrity(store), _foreign_keys(store), *looks]
        looks += [] if behind else [_foreign(store, directories)]
    if path_map and not behind:
        looks.append(_moved(store, PathMap(path_map), on_progress))
    if files and not behind:
        looks.append(_files(store, on_progress))
    found = [*behind, *(finding for look in looks for finding in _readable(look))]
    return list(dict.fromkeys(found))


def _readable(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings up to where the file is too damaged, or too strange, to go on."""
    try:
        yield from findings
    except DatabaseError as error:
        if not isinstance(error, DatabaseDamagedError) and type(error) is not DatabaseError:
            raise
        yield Finding("integrity", f"a part cannot be read: {error}", _RESTORE)


@contextmanager
def _reading(store: Store) -> Iterator[sqlite3.Connection]:
    with store.reading():
        yield store.connection()


def _place(store: Store) -> Iterator[Finding]:
    if kind := network_file_system(store.label):
        yield Finding("note", ON_NETWORK.format(kind), USE_SERVER)


def _integrity(store: Store) -> Iterator[Finding]:
    with _reading(store) as connection:
        rows = connection.execute("PRAGMA integrity_check(20)").fetchall()
    for line in (line for (text,) in rows for line in str(text).splitlines()):
        if line != "ok" and not line.startswith("***"):
            yield Finding("integrity", line, _RESTORE)


def _foreign_keys(store: Store) -> Iterator[Finding]:
    with store.reading():
        tables = store.database.get_tables()
    rows: list[tuple[Any, ...]] = []
    for table in tables:
        try:
            with _reading(store) as connection:
                sql = "SELECT * FROM pragma_foreign_key_check(?)"
                rows += connection.execute(sql, (table,)).fetchall()
        except DatabaseError as error:
            if type(error) is not DatabaseError:
                raise
            what = f"the references of table {table!r} cannot be checked: {error.reason}"
            yield Finding("foreign keys", what, _RESTORE)
    for (table, parent), group in groupby(sorted(rows, key=_pair), key=_pair):
        where = values.listed([row[1] for row in group])
        what = f"table {table!r} refers to missing rows of {parent!r} ({where})"
        yield Finding("foreign keys", what, f"delete or correct what refers to them, or {_RESTORE}")


def _pair(row: Sequence[object]) -> tuple[str, str]:
    return str(row[0]), str(row[2])


def _behind(store: Store, directories: Sequence[Path]) -> Iterator[Finding]:
    with store.reading():
        states = migrations.status(store.database, directories)
    for state in states:
        if state.state == "applied":
            continue
        if state.state == "pending":
            advice = f"run {migrating(next(iter(directories[1:]), None))}"
        else:
            advice = "upgrade voices-peewee, or name the directory that has it: --migrations-dir"
        yield Finding("migrations", f"migration {state.name!r} is {state.state}", advice)


def _drift(store: Store) -> Iterator[Finding]:
    with store.reading():
        own = migrations.package_directory()
        views = made((own,), migrations.names([own])[-1])
        own_views = {one.name: one.sql for one in sorted(views) if one.kind == "view"}
        differences = drift(store.database, MODELS)
        differences += view_differences(own_views, store.database)
    for difference in differences:
        if difference.expected is None and difference.what.startswith("index "):
            advice = "it is yours, and costs some room and time with each row that is written"
            yield Finding("note", str(difference), advice)
            continue
        # create-migration compares tables; a view is written by hand.
        by_hand = " --empty" if difference.what == "view" else ""
        yield Finding(
            "drift",
            str(difference),
            f"write a migration with 'voices create-migration NAME{by_hand}', or {_RESTORE}",
        )


def _disagreeing(store: Store) -> Iterator[Finding]:
    """Yield that measurements name another model than their runs, or stems another path."""
    with store.reading():
        (count,) = store.connection().execute(_RENAMED).fetchone()
    if count:
        what = f"{count:,} rows of 'model_performance' name another model than their runs"
        yield Finding("value", what, "give both tables the same model_type and model_version")
    if count := values.strayed(store):
        what = f"{count:,} rows of 'processed_files' have another path than their recordings"
        is_mendable = store.server is None
        advice = "give them that of their recordings" + ", with 'voices check --fix'" * is_mendable
        yield Finding("value", what, advice, count * is_mendable)


def _spooled(place: str) -> Iterator[Finding]:
    if kept := spooled(place)[0]:
        what = f"runs that a server did not take are kept in {str(spool())!r}: {len(kept)}"
        yield Finding("note", what, f"add them with 'voices import {spool()}'")


def _values(store: Store) -> Iterator[Finding]:
    correct = "correct it in SQL" + f", or {_RESTORE}" * (store.server is None)
    mend = "it sorts wrongly; write it as this package does with 'voices check --fix'"
    for what, mendable in values.unreadable(store):
        yield Finding("value", what, mend if mendable else correct, mendable)


def _foreign(store: Store, directories: Sequence[Path]) -> Iterator[Finding]:
    with _reading(store) as connection:
        held, applied = objects(connection), migrations.applied(store.database)
    ours = {migrations.HISTORY_TABLE, *(model._meta.table_name for model in MODELS)}
    for one in foreign(held, directories, applied):
        if one.kind == "view":
            yield Finding("note", f"view {one.name!r} is not of the package", "it may stay")
        elif one.table.lower() not in ours:  # SQLite keeps the spelling of CREATE TRIGGER
            what = f"trigger {one.name!r} on table {one.table!r} is not of the package"
            yield Finding("note", what, "it may stay")
        else:
            yield Finding(
                "trigger",
                f"trigger {one.name!r} changes what is written to table {one.table!r}, "
                "and no migration made it",
                "look at it, and drop it or write it into a migration of --migrations-dir",
            )


_GONE: Final = "put it back, map it (--path-map), or forget it"


def _files(store: Store, on_progress: Progress | None) -> Iterator[Finding]:
    with _reading(store) as connection:
        total = int(connection.execute(_TOTAL).fetchone()[0])
    done = 0
    for key, path, part_of, output, size, digest in _rows_of_files(store):
        # Size and path are no others than the package writes; values are looked at before.
        if part_of is None and isinstance(size, int) and _is_local(path):
            yield from _recording(key, path, size, digest)
            done += size
            if on_progress is not None:
                on_progress(min(done, total), total)
        if _is_local(output) and not os.path.lexists(output):
            yield Finding(
                "files",
                f"the output {output!r} of file {key} is gone",
                f"{_GONE}: voices update-file {key} --processed-path ''",
            )


def _is_local(path: object) -> bool:
    # Closing a file of the database would drop the locks that this process has on it.
    is_path = isinstance(path, str) and "\0" not in path and "://" not in path
    return is_path and not is_open_here(str(path))


def _moved(store: Store, paths: PathMap, on_progress: Progress | None) -> Iterator[Finding]:
    count, unread, hindered = move_paths(store, paths, on_progress)
    if count:
        but = f", but no content is recorded of {unread:,}" if unread else ""
        what = "1 recorded path was" if count == 1 else f"{count:,} recorded paths were"
        yield Finding("note", f"{what} moved", f"their content agrees{but}")
    for path, reason in hindered:
        yield Finding("files", f"the path {path!r} was not moved: {reason}", "look at --path-map")
    for old in sorted(paths.idle):
        yield Finding("note", f"no recorded path lies in {old!r}", "recorded paths are absolute")


def _rows_of_files(store: Store) -> Iterator[tuple[Any, ...]]:
    """Yield rows by id, a page at a time; paths come back as ``open`` takes them."""
    readable, key = ProcessedFile.original_path.python_value, 0
    while True:
        with _reading(store) as connection:
            rows = connection.execute(_FILES, (key, _PAGE)).fetchall()
        for key, path, part_of, output, *facts in rows:
            yield (key, readable(path), part_of, readable(output), *facts)
        if len(rows) < _PAGE:
            return


def _recording(key: int, path: str, size: int, digest: str | None) -> Iterator[Finding]:
    """Compare a recording with what its row says."""
    try:
        there = Path(path).stat().st_size
    except (OSError, ValueError):
        advice = f"{_GONE} with its runs: voices delete-file {key}"
        yield Finding("files", f"the recording {path!r} of file {key} is gone", advice)
        return
    try:
        is_same = there == size and (digest is None or content_hash(path) == digest)
    except AudioError as error:
        yield Finding("files", str(error), "check the permissions of the file and its folder")
        return
    if not is_same:
        was = "other content" if there == size else f"{there} bytes, not {size}"
        yield Finding(
            "files",
            f"the recording {path!r} of file {key} has changed ({was})",
            "put the old one back, or record the new one with 'voices add-files'",
        )
