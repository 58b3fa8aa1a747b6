"""A file appears whole or not at all: written beside its name, made durable, then placed."""

from __future__ import annotations

import os
import platform
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, EFBIG, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM
from pathlib import Path
from typing import Final

from voices_peewee.database.files import PARTIAL, is_partial
from voices_peewee.database.sqlite import is_open_here
from voices_peewee.errors import BackupError, DatabaseError, DatabaseFullError, ExportError

Kind = type[BackupError | DatabaseError | ExportError]

_DAY: Final = 86_400.0  # seconds
_FULL: Final = (ENOSPC, EDQUOT, EFBIG)
_NO_LINKS: Final = (EPERM, EOPNOTSUPP, ENOSYS)


@contextmanager
def whole_file(
    path: str | os.PathLike[str], *, overwrite: bool = False, mode: int = 0o600
) -> Iterator[Path]:
    """Give an empty file to write, which gets its name when the block ends without an error."""
    target = Path(os.path.abspath(path))
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(f"there is something at {str(target)!r} already")
    with hidden_file(target, mode) as partial:
        yield partial
        _place(partial, target, overwrite=overwrite)


@contextmanager
def hidden_file(target: Path, mode: int = 0o600) -> Iterator[Path]:
    """Give an empty file beside a target, which is gone when the block ends.

    What killed programs of this host left in the folder is removed first.
    """
    _remove_leftovers(target.parent)
    name = PARTIAL.format(_host(), os.getpid(), os.urandom(8).hex())
    partial = target.with_name(name)
    parts = [f"{partial}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")]
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
        yield partial
    finally:
        for part in parts:
            try:  # noqa: SIM105 - nothing but C, so that no interrupt comes between
                os.unlink(part)  # noqa: PTH108
            except OSError:
                pass


def _place(partial: Path, target: Path, *, overwrite: bool) -> None:
    """Make a written file durable and give it its name."""
    sync(partial)
    if overwrite:
        partial.replace(target)
    else:
        _link(partial, target)
    _sync_folder(target.parent)


def sync(path: Path) -> None:
    """Return when a file's content is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _link(partial: Path, target: Path) -> None:
    """Give the file its name; unlike a renaming, this never replaces."""
    try:
        target.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        target.touch(0o600, exist_ok=False)  # no links, as on a USB stick: take the name first
        partial.replace(target)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened, and the system sees to its names
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _host() -> str:
    """Name this machine, and the container: there a process id means one process."""
    known = [platform.node()]
    with suppress(OSError):  # not on Linux
        known.append(str(Path("/proc/self/ns/pid").readlink()))  # two machines may have the same
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
    return f"{zlib.crc32(repr(known).encode()):08x}"


def _remove_leftovers(folder: Path) -> None:
    for path in folder.iterdir():
        if (match := is_partial(path.name)) and _is_left(path, match):
            with suppress(OSError):  # another user's file, or gone meanwhile
                path.unlink()


def _is_left(path: Path, match: re.Match[str]) -> bool:
    try:
        if match["host"] != _host() or os.name != "posix":  # elsewhere os.kill would end it
            return time.time() - path.stat().st_mtime > _DAY
        os.kill(int(match["pid"]), 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, ProcessLookupError | OverflowError)
    return False


@contextmanager
def file_errors(kind: Kind, path: Path, *, replaces: bool = False) -> Iterator[None]:
    """Turn the system's refusals into one sentence about ``path``.

    ``replaces`` says whether the caller can be told to overwrite what is there.
    """
    try:
        yield
    except FileExistsError as error:
        hint = " or overwrite it (--overwrite)" if replaces else ""
        raise kind(path, f"it is there already; choose another name{hint}") from error
    except OSError as error:
        if error.errno in _FULL:
            raise DatabaseFullError(path) from error
        reason = (error.strerror or str(error)).lower()
        raise kind(path, f"it cannot be read or written ({reason})") from error


def write_whole(path: Path, data: bytes, *, overwrite: bool) -> Path:
    """Write a page or a picture whole or not at all; return its path.

    Raises:
        ExportError: There is a file already, or the folder is missing or refuses writes.
        DatabaseFullError: The disk is full.
    """
    if is_open_here(path):
        raise ExportError(path, "it belongs to the database")
    with (
        file_errors(ExportError, path, replaces=True),
        whole_file(path, overwrite=overwrite, mode=0o666) as part,
    ):
        part.write_bytes(data)
    return path
