"""Copies of a live database: taken, verified, listed, and the older ones removed.

A backup is a plain SQLite database in one file, NAME. Beside it stands NAME.sha256, which
``sha256sum -c`` reads; a comment in it says of which database the copy is.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from voices_peewee.database.files import require_voices
from voices_peewee.database.forks import is_open_here
from voices_peewee.errors import BackupError, DatabaseDamagedError, InvalidValueError
from voices_peewee.migrations.runner import HISTORY_TABLE
from voices_peewee.upkeep.copying import (
    Progress,
    backup_errors,
    contents,
    copy_pages,
    database_errors,
    first_finding,
    open_backup,
    open_database,
    writing,
)
from voices_peewee.upkeep.whole_files import file_errors, partial_file, place, whole_file

Contents = tuple[dict[str, int], tuple[str, ...]]

_MAGIC: Final = b"SQLite format 3\0"
_NOTE: Final = re.compile(r"(?:# voices backup of (.*)\n)?\\?([0-9a-f]{64}) [ *]")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backup:
    """What is known of one backup: ``size`` in bytes, ``created`` in UTC, ``rows`` by table.

    ``source`` is the database that it is a copy of, or empty where nothing beside it says so.
    """

    path: Path
    size: int
    sha256: str
    created: datetime
    source: str
    migrations: tuple[str, ...]
    rows: dict[str, int]


def snapshot(
    source: Path,
    target: Path | None = None,
    *,
    progress: Progress | None = None,
    keep: int | None = None,
    overwrite: bool = False,
    timeout: float = 30.0,
) -> Backup:
    """Copy the database as it is at this moment, while others write, and verify the copy.

    Args:
        source: The database.
        target: A file, or a folder for a dated name; None is a dated name beside the database.
        progress: Called with (bytes done, bytes in all); what it raises cancels the backup.
        keep: How many backups of this database stay in the folder, this one included.
        overwrite: Whether a file of that name may be replaced.
        timeout: How long to wait for another program's lock, in seconds.

    Raises:
        InvalidValueError: ``keep`` is less than 1.
        DatabaseMissingError: There is no database.
        NotVoicesError: ``source`` is something else.
        DatabaseBusyError: Another program kept its lock for longer than ``timeout``.
        DatabaseDamagedError: The copy fails its checks, as the database would.
        DatabaseFullError: The target's disk is full.
        BackupError: The target is taken, or its folder is missing or refuses writes.
        DatabaseError: SQLite refuses the database for another reason.
    """
    if keep is not None and keep < 1:
        raise InvalidValueError(f"keep must be 1 or more backups, not {keep}")
    database = existing(source, timeout)
    with ExitStack() as stack:
        with file_errors(BackupError, target or database.parent):
            names = _names(database, target)
            first = next(names)
            _refuse_target(first, database, overwrite=overwrite)
            partial = stack.enter_context(partial_file(first.parent))
        rows, migrations = _copy_checked(database, partial, first, progress, timeout)
        with file_errors(BackupError, first):
            sha256, status = digest(partial), partial.stat()
            placed = _place(partial, itertools.chain([first], names), overwrite=overwrite)
            _write_note(placed, sha256, database)
    created = datetime.fromtimestamp(status.st_mtime, UTC)
    made = Backup(placed, status.st_size, sha256, created, str(database), migrations, rows)
    if keep is not None:
        _remove_older(made, keep)
    return made


def existing(source: Path, timeout: float) -> Path:
    """Resolve the path of a database that must be there; SQLite would create it."""
    require_voices(str(source), HISTORY_TABLE, timeout)
    return source.resolve()


def _names(database: Path, target: Path | None) -> Iterator[Path]:
    """Yield the only name of a named target, or dated names that are free."""
    if target is not None and not target.is_dir():
        yield target.parent.resolve() / target.name
        return
    folder = (target or database.parent).resolve()
    stem = f"voices_backup_{datetime.now().astimezone():%Y%m%d_%H%M%S}"
    for number in itertools.count(1):
        path = folder / (f"{stem}.db" if number == 1 else f"{stem}_{number}.db")
        if not any(map(os.path.lexists, (path, note_path(path), *sidecars(path)))):
            yield path


def _refuse_target(target: Path, database: Path, *, overwrite: bool) -> None:
    """Refuse early what placing would refuse after a long copy, and what would do harm."""
    if not target.parent.is_dir():
        raise BackupError(target, f"there is no folder {str(target.parent)!r}")
    if target.exists() and target.samefile(database):
        raise BackupError(target, "it is the database itself")
    if target in sidecars(database):
        raise BackupError(target, "the name belongs to the database")
    if name := sidecar(target):
        reason = f"{name!r} beside it would be read as part of it"
        raise BackupError(target, f"{reason}; choose another name")
    if overwrite and target.exists() and not target.is_file():
        raise BackupError(target, "it is not a regular file")
    taken = next(filter(os.path.lexists, (target, note_path(target))), None)
    if taken is not None and not overwrite:
        raise _taken(target, taken.name)


def _taken(target: Path, name: str) -> BackupError:
    return BackupError(target, f"there is a file {name!r} already; choose another name")


def sidecars(path: Path) -> list[Path]:
    """Return the files that SQLite would read as part of ``path``."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def sidecar(path: Path) -> str | None:
    """Return the name of such a file that is there, or None."""
    return next((one.name for one in sidecars(path) if os.path.lexists(one)), None)


def _copy_checked(
    database: Path, partial: Path, target: Path, progress: Progress | None, timeout: float
) -> Contents:
    """Copy one moment of the database, and compare the copy with it."""
    with database_errors(database, timeout, target):
        with (
            writing(partial, BackupError, target) as copy,
            closing(open_database(database, timeout)) as live,
        ):
            # The transaction fixes the moment: without it each commit restarts the copy.
            live.execute("BEGIN")
            expected = contents(live, database)
            moment = time.time_ns()
            copy_pages(live, copy, progress)
        with closing(open_backup(partial)) as written:
            if finding := first_finding(written, full=False):
                raise DatabaseDamagedError(database, finding)
            if contents(written, database) != expected:
                raise BackupError(target, "the copy differs from the database; try again")
    with file_errors(BackupError, target):
        os.utime(partial, ns=(moment, moment))  # the time of a backup is that of what it holds
    return expected


def _place(partial: Path, targets: Iterator[Path], *, overwrite: bool) -> Path:
    """Give the copy the first of the names that is free."""
    for target in targets:
        if overwrite:
            _forget_note(target)  # a new backup beside the digest of an old one would be refused
        try:
            place(partial, target, overwrite=overwrite)
        except FileExistsError:
            continue
        return target
    raise _taken(target, target.name)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Note(NamedTuple):
    """What stands beside a backup: in which file, its digest, and of which database it is."""

    path: Path
    sha256: str
    source: str


def note_path(path: Path) -> Path:
    """Return where the digest of the backup at ``path`` is."""
    return path.with_name(f"{path.name}.sha256")


def _write_note(path: Path, sha256: str, database: Path) -> None:
    name = _escaped(path.name)
    mark = "\\" if name != path.name else ""  # as sha256sum says that a name is escaped
    text = f"# voices backup of {_escaped(str(database))}\n{mark}{sha256}  {name}\n"
    with whole_file(note_path(path), overwrite=True) as partial:
        partial.write_bytes(os.fsencode(text))


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _note(path: Path) -> _Note | None:
    """Return what stands beside a backup, or None where nothing does that we know."""
    real = path.resolve()
    try:
        match = _NOTE.match(os.fsdecode(note_path(real).read_bytes()))
    except FileNotFoundError:
        return _facts(real.with_name(f"{real.name}.json"))
    digest, source = (match[2], match[1] or "") if match else ("", "")
    return _Note(note_path(real), digest, source)


def _facts(path: Path) -> _Note | None:
    """Read the JSON file of facts that stood beside the backups of earlier versions."""
    try:
        facts = json.loads(path.read_bytes())
        if facts["format"] == "voices-backup":
            return _Note(path, str(facts["sha256"]), _escaped(str(facts["source"])))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # none there, or another program's
    return None


def _forget_note(path: Path) -> None:
    if (note := _note(path)) is not None:
        note.path.unlink(missing_ok=True)


def _noted(folder: Path, source: Path | None = None) -> list[tuple[Path, _Note]]:
    """Return the files that have a note, newest first; ``source`` names those of one database."""
    names = {path.name for path in folder.iterdir()}
    of = None if source is None else _escaped(str(source))
    found = []
    for path in map(folder.joinpath, names):
        if not {f"{path.name}.sha256", f"{path.name}.json"} & names or not path.is_file():
            continue
        note = _note(path)
        if note is not None and note.source and of in (None, note.source):
            found.append((path, note))
    return sorted(found, key=lambda one: (one[0].stat().st_mtime_ns, one[0].name), reverse=True)


def _remove_older(newest: Backup, keep: int) -> None:
    """Remove the oldest backups of the same database that are as they were made."""
    folder = newest.path.parent
    with file_errors(BackupError, folder):
        found = [one for one in _noted(folder, Path(newest.source)) if one[0] != newest.path]
    for old, note in found[keep - 1 :]:
        try:
            if stat.S_ISREG(old.lstat().st_mode) and digest(old) == note.sha256:
                # The backup goes first: a digest alone does no harm, a backup alone would stay.
                old.unlink()
                note.path.unlink(missing_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            _log.warning("the older backup %r cannot be removed (%s)", str(old), reason)


def list_backups(place: Path) -> list[Backup]:
    """List backups that have a digest beside them, newest first; nothing is verified.

    Args:
        place: A folder for all backups in it, or a database for those of it that lie beside it.

    Raises:
        BackupError: The folder is missing or cannot be read.
    """
    folder, source = (place, None) if place.is_dir() else (place.resolve().parent, place.resolve())
    with file_errors(BackupError, folder):
        noted = _noted(folder, source)
    found = []
    for path, note in noted:
        try:
            found.append(_described(path, note.sha256, note))
        except (BackupError, OSError) as error:
            _log.warning("%r is not listed: it cannot be read (%s)", str(path), error)
    return found


def _described(path: Path, sha256: str, note: _Note | None) -> Backup:
    """Read from a backup what it holds."""
    status = path.stat()
    with backup_errors(path), closing(open_backup(path)) as connection:
        rows, migrations = contents(connection, path)
    created = datetime.fromtimestamp(status.st_mtime, UTC)
    source = "" if note is None else _plain(note.source)
    return Backup(path, status.st_size, sha256, created, source, migrations, rows)


def _plain(escaped: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), escaped)


def verify(path: Path, *, own: Path | None = None, full: bool = True) -> Backup:
    """Check a backup without changing a byte of it or of its folder.

    Args:
        path: The backup; where no digest stands beside it, it is checked in itself only.
        own: A database that this process may have open, and that is no backup.
        full: Whether each index is compared with its table, which takes several times as long.

    Raises:
        BackupError: It is missing, not a backup, damaged, or not what its digest says.
    """
    with file_errors(BackupError, path):
        _refuse_file(path, own)
        note, sha256 = _note(path), digest(path)
    if note is not None and note.sha256 != sha256:
        reason = f"its digest is not that of {note.path.name!r}; it was changed"
        raise BackupError(path, reason)
    with backup_errors(path), closing(open_backup(path)) as connection:
        if finding := first_finding(connection, full=full):
            raise BackupError(path, f"it is damaged ({finding})")
    return _described(path, sha256, note)


def _refuse_file(path: Path, own: Path | None) -> None:
    """Refuse what is not a closed SQLite file; only its first bytes are read."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise BackupError(path, "there is no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise BackupError(path, "it is not a file")
    # Closing a file that SQLite has open in this process would take its locks away.
    if is_open_here(path) or (own is not None and own.exists() and path.samefile(own)):
        raise BackupError(path, "it is the database itself")
    if name := sidecar(path.resolve()):
        reason = f"{name!r} beside it says that it is in use as a database"
        raise BackupError(path, f"{reason}; close the program that uses it")
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise BackupError(path, "it is not an SQLite database")
