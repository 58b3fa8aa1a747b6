"""Where backups lie: their names, unfinished ones, placing both files, listing, retention."""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from errno import EDQUOT, EFBIG, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM
from pathlib import Path
from typing import Final

from voices_peewee.errors import BackupError, DatabaseError, DatabaseFullError, ExportError
from voices_peewee.upkeep.facts import Backup, NotFactsError, facts_path

Kind = type[BackupError | DatabaseError | ExportError]

_log = logging.getLogger(__name__)
_DAY: Final = 86_400.0
_FULL: Final = (ENOSPC, EDQUOT, EFBIG)
_NO_LINKS: Final = (EPERM, EOPNOTSUPP, ENOSYS)
# A process id means nothing on another machine that shares the folder, so the machine is named too.
_MACHINE: Final = f"{zlib.crc32(os.uname().nodename.encode()):08x}"
_PARTIAL: Final = re.compile(
    r"\..+\.partial-(?P<pid>\d+)-(?P<machine>[0-9a-f]{8})-[0-9a-f]{8}(\.json)?(-wal|-shm|-journal)?"
)


def said(error: OSError) -> str:
    """Return the system's words."""
    return (error.strerror or str(error)).lower()


@contextmanager
def file_errors(kind: Kind, path: Path) -> Iterator[None]:
    """Turn the system's refusals into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DatabaseFullError(path) from error
        raise kind(path, f"it cannot be read or written ({said(error)})") from error


def sidecars(path: Path) -> list[Path]:
    """Return the files that SQLite would read as part of ``path``."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def sidecar(path: Path) -> str | None:
    """Return the name of such a file that is there, or None."""
    return next((one.name for one in sidecars(path) if os.path.lexists(one)), None)


def target_names(
    database: Path, target: Path | None, prefix: str = "voices_backup", *, suffix: str = ".db"
) -> Iterator[Path]:
    """Yield the only name of a named target, or dated names that are free."""
    if target is not None and not target.is_dir():
        yield target.parent.resolve() / target.name
        return
    folder = (target or database.parent).resolve()
    stem = f"{prefix}_{datetime.now().astimezone():%Y%m%d_%H%M%S}"
    for number in itertools.count(1):
        path = folder / (f"{stem}{suffix}" if number == 1 else f"{stem}_{number}{suffix}")
        if not any(map(os.path.lexists, (path, facts_path(path), *sidecars(path)))):
            yield path


def refuse_target(target: Path, database: Path, *, overwrite: bool) -> None:
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
    if not overwrite and any(map(os.path.lexists, (target, facts_path(target)))):
        raise _taken(target)


def _taken(target: Path) -> BackupError:
    name = target.name if os.path.lexists(target) else facts_path(target).name
    return BackupError(target, f"there is a file {name!r} already; choose another name")


@contextmanager
def unfinished(target: Path, kind: Kind) -> Iterator[Path]:
    """Create an empty file beside ``target`` for its owner only, and remove it afterwards."""
    mark = f"{os.getpid()}-{_MACHINE}-{os.urandom(4).hex()}"
    path = target.with_name(f".{target.name}.partial-{mark}")
    try:
        with file_errors(kind, target):
            path.touch(0o600, exist_ok=False)
        yield path
    finally:
        for one in (path, facts_path(path), *sidecars(path)):
            with suppress(OSError):
                one.unlink()


def remove_orphans(folder: Path) -> None:
    """Remove what killed programs left of unfinished backups."""
    for path in folder.iterdir():
        if match := _PARTIAL.fullmatch(path.name):
            with suppress(OSError):  # another user's process or file, or gone meanwhile
                if _is_orphan(path, int(match["pid"]), match["machine"]):
                    path.unlink()


def _is_orphan(path: Path, pid: int, machine: str) -> bool:
    if machine != _MACHINE:
        return time.time() - path.stat().st_mtime > _DAY
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    return False


def place(partial: Path, backup: Backup, targets: Iterator[Path], *, overwrite: bool) -> Backup:
    """Give the durable copy and its facts the first of the names that is free."""
    facts = facts_path(partial)
    for target in targets:
        placed = replace(backup, path=target)
        facts.touch(0o600)
        facts.write_text(placed.to_json(), "utf-8")
        sync(facts)
        with locked(target.parent):
            if overwrite:
                _replace(partial, target)
                return placed
            if _claim(partial, target):
                return placed
    raise _taken(backup.path)


def _claim(partial: Path, target: Path) -> bool:
    """Place both files under names that nobody has, or neither."""
    # Facts first: a crash in between leaves a name without a backup, which lists skip. The other
    # way round it would leave a backup that nothing vouches for and that no --keep ever removes.
    facts = facts_path(target)
    if not link(facts_path(partial), facts):
        return False
    placed = False
    try:
        placed = link(partial, target)
    finally:
        if not placed:
            facts.unlink()
    return placed


def _replace(partial: Path, target: Path) -> None:
    """Place both files over what has their names."""
    # The old facts go first: neither the old nor the new backup may ever stand beside the facts
    # of the other, for then a good file would be refused.
    facts = facts_path(target)
    facts.unlink(missing_ok=True)
    partial.replace(target)
    facts_path(partial).replace(facts)


def link(source: Path, target: Path) -> bool:
    """Give ``source`` the name ``target`` unless it is taken."""
    try:
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            target.touch(0o600, exist_ok=False)  # no links, as on a USB stick: take the name first
            source.replace(target)
    except FileExistsError:
        return False
    return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other backups from placing in the folder, and make what was placed durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems cannot lock a folder; links still keep names apart there.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Make what was written to a file durable."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def backups_in(folder: Path) -> list[Backup]:
    """Return the backups in a folder by their facts, newest first."""
    return [replace(backup, path=path) for path, backup in _claims(folder)]


def _claims(folder: Path) -> list[tuple[Path, Backup]]:
    """Return each backup that has facts, with what they say; they may say another name."""
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise BackupError(folder, f"the folder cannot be read ({said(error)})") from error
    found = []
    for facts in files:
        path = folder / facts.name.removesuffix(".json")
        if facts.suffix != ".json" or _PARTIAL.fullmatch(facts.name):
            continue
        try:
            if path.is_file():
                found.append((path, Backup.from_json(facts.read_text("utf-8"), folder)))
        except NotFactsError:
            continue  # another program's, such as notes beside a recording
        except (OSError, ValueError) as error:
            _log.warning("%r is not listed: its facts cannot be read (%s)", str(path), error)
    return sorted(found, key=lambda one: (one[1].created, one[0].name), reverse=True)


def remove_older(newest: Backup, keep: int) -> None:
    """Remove the oldest backups of the same database that are as they were made."""
    others = [
        backup
        for path, backup in _claims(newest.path.parent)
        if path == backup.path != newest.path
        and backup.source == newest.source
        and _is_untouched(backup)
    ]
    for old in others[keep - 1 :]:
        try:
            # The backup goes first: facts alone are skipped, a backup alone would stay for ever.
            old.path.unlink(missing_ok=True)
            facts_path(old.path).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the older backup %r cannot be removed (%s)", str(old.path), said(error))


def _is_untouched(backup: Backup) -> bool:
    with suppress(OSError):
        status = backup.path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_size == backup.size
    return False
