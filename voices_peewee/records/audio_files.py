"""Files that may be recordings: found in folders, opened without waiting, hashed and described.

``audio`` says what is inside; nothing here needs PyAV.
"""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.database.sqlite import is_open_here
from voices_peewee.errors import AudioError, MissingExtraError
from voices_peewee.records import audio
from voices_peewee.records.audio import AnyPath
from voices_peewee.rendering.plain import absolute
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import ProcessedFile

READING: Final = ("file_stamp", "read_at")  # what a reading says that finds nothing new
# A file system's clock may be this much coarser than ours (s): FAT counts in twos.
CLOCK_SLACK: Final = 2.0
# Suffixes by which a file in a folder is taken for a recording; ".ts" and ".dts" are mostly code.
AUDIO_SUFFIXES: Final = frozenset(
    [
        *(".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au"),
        *(".avi", ".caf", ".eac3", ".flac", ".flv", ".gsm", ".m4a", ".m4b", ".m4v", ".mka", ".mkv"),
        *(".mov", ".mp2", ".mp3", ".mp4", ".mpc", ".mpeg", ".mpg", ".oga", ".ogg", ".ogv", ".ogx"),
        *(".opus", ".rf64", ".snd", ".spx", ".tta", ".voc", ".w64", ".wav", ".wave", ".webm"),
        *(".wma", ".wmv", ".wv"),
    ]
)


class AudioInfo(NamedTuple):
    """The facts of one file by the names of their columns; None for what is not known.

    ``original_path`` is absolute with its links kept, ``file_format`` is what the content says (not
    the suffix), ``duration`` is in seconds, ``sample_rate`` in Hz, ``file_size`` in bytes,
    ``content_hash`` the SHA-256 of the bytes in hexadecimal and ``file_stamp`` that of ``_stamp``.
    """

    filename: str
    original_path: str
    file_format: str | None
    duration: float | None
    sample_rate: int | None
    channels: int | None
    file_size: int
    content_hash: str
    file_stamp: int | None
    read_at: dt.datetime


def file_name(path: str) -> str:
    """Return the last part of a path or URL."""
    return path.rstrip("/").rpartition("/")[2] or path


def is_gone(path: str) -> bool:
    """Whether a file is not there any more; a link that leads nowhere is none."""
    return bool(path) and "://" not in path and not os.path.isfile(path)


def regular_file(
    path: AnyPath, look: Callable[[AnyPath], os.stat_result] = os.stat
) -> os.stat_result | None:
    """Return what the system knows of a regular file, None for anything else."""
    try:
        status = look(path)
    except (OSError, ValueError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def touched(path: AnyPath) -> float | None:
    """Return when a file was last written, moved there with its old time, or linked there.

    None for no file. The links to a folder are looked at 20 times a second, not for each file.
    """
    place = os.fsdecode(path)
    if (status := regular_file(place, os.lstat)) is not None:
        linked = _linked(place.rpartition(os.sep)[0], int(20 * time.monotonic()))
    elif (status := regular_file(place)) is not None:
        linked = _linked(place, time.monotonic_ns())
    else:
        return None
    return max(status.st_mtime, status.st_ctime, linked)


@lru_cache(maxsize=64)
def _linked(path: str, moment: int) -> float:
    """Return when the last link was made that leads to a path, as it is seen in a moment."""
    folder, _, name = path.rpartition(os.sep)
    if not name:
        return 0.0
    try:
        facts, newest = os.lstat(path), _linked(folder, moment)
        if stat.S_ISLNK(facts.st_mode):
            aim = str(Path(path).parent / Path(path).readlink())
            newest = max(newest, facts.st_ctime, _linked(aim, moment))
    except OSError:
        return math.inf  # it changes just now
    return newest


def facts_of(path: str) -> dict[str, Any]:
    """Return what can be known of a file at an absolute path, whatever is there."""
    if "://" not in path and regular_file(path) is not None:
        with suppress(AudioError):
            return _probe(path, path, exact=False, strict=False)._asdict()
    return {**dict.fromkeys(AudioInfo._fields), "filename": file_name(path), "original_path": path}


def own_facts(path: str) -> dict[str, Any]:
    """Return what an output's row says of its own file; name and path are its recording's."""
    facts = facts_of(path)
    del facts["filename"], facts["original_path"], facts["file_stamp"]
    return facts


def changed_facts(path: str, row: ProcessedFile | None) -> dict[str, Any]:
    """Return the facts to write: none where the row is surely true to the file."""
    if row is None:
        return facts_of(path)
    if "://" in path:
        return {}
    status = regular_file(path)
    if status is None or is_fresh(row, status):
        return {}  # where the file is gone, what was known of it stays
    try:
        return read_again(path, row) or facts_of(path)
    except AudioError:
        return {}


def read_again(path: AnyPath, row: ProcessedFile) -> dict[str, Any]:
    """Return ``READING`` of a file that has the size and the hash of its row, else nothing.

    Raises:
        AudioError: It cannot be read.
    """
    status = regular_file(path)
    if status is None or row.content_hash is None or status.st_size != row.file_size:
        return {}
    with opened_file(path) as opened:
        digest, *reading = _read(*opened)
    return dict(zip(READING, reading, strict=True)) if digest == row.content_hash else {}


def is_fresh(row: ProcessedFile, status: os.stat_result) -> bool:
    """Whether a file is the one that was read, and was not changed since."""
    is_known = row.content_hash is not None and row.file_stamp is not None
    return is_known and row.file_stamp == _stamp(status)


def _stamp(status: os.stat_result) -> int | None:
    """Return one number for a file as it is, which no other at its path and no change of it has.

    Inodes are used again and are alike on other devices and in snapshots; the nanosecond of the
    last change is not. None for what changed just now: it may once more in that moment. Python
    hashes integers alike in each process; a number that differs costs a reading, no more.
    """
    if max(status.st_mtime, status.st_ctime) >= time.time() - CLOCK_SLACK:
        return None
    return hash((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


def probe(path: AnyPath, *, exact: bool = False, strict: bool = True) -> AudioInfo:
    """Read the facts of a recording, or of the first audio track of a video."""
    return _probe(path, absolute(os.fsdecode(path)), exact=exact, strict=strict)


def _probe(path: AnyPath, full: str, *, exact: bool, strict: bool) -> AudioInfo:
    with opened_file(path) as (file, status):
        if status.st_size == 0 and strict:
            raise AudioError(path, "the file is empty")
        read = _read(file, status)
        facts: tuple[str | None, float | None, int | None, int | None] = (None,) * 4
        try:
            facts = audio.read_facts(path, file, exact=exact)
        except (AudioError, MissingExtraError):
            if strict:
                raise
        return AudioInfo(Path(full).name, full, *facts, status.st_size, *read)


def content_hash(path: AnyPath) -> str:
    """Return the SHA-256 (hexadecimal) of any regular file, without PyAV."""
    with opened_file(path) as opened:
        return _read(*opened)[0]


def find_files(
    paths: Iterable[AnyPath], *, on_error: Callable[[AudioError], None]
) -> Iterator[str]:
    """Yield the files that ``paths`` name, in an order that depends on names alone.

    A file is yielded as it is named. A folder is walked with its subfolders: hidden names are
    skipped, only files with a suffix of ``AUDIO_SUFFIXES`` count, each folder is visited once
    (links to folders last, so that a recording goes by its own path), each path is yielded once.
    """
    yielded: set[str] = set()
    visited: set[tuple[int, int]] = set()
    for path in paths:
        is_folder = os.path.isdir(path)
        found = _walk(Path(path), visited, on_error) if is_folder else [os.fspath(path)]
        for name in found:
            absolute = os.path.abspath(name)
            if absolute not in yielded:
                yielded.add(absolute)
                yield name


def _walk(
    top: Path, visited: set[tuple[int, int]], on_error: Callable[[AudioError], None]
) -> Iterator[str]:
    """Yield the recordings below a folder: its files, then its subfolders, linked folders last."""

    def refused(error: OSError) -> None:
        on_error(AudioError(error.filename, _clause(error.filename, error)))

    for folder, folders, names in os.walk(top, onerror=refused, followlinks=True):
        facts = Path(folder).stat()
        if (facts.st_dev, facts.st_ino) in visited:
            folders.clear()
            continue
        visited.add((facts.st_dev, facts.st_ino))
        inner = sorted(name for name in folders if not name.startswith("."))
        folders[:] = sorted(inner, key=lambda name: Path(folder, name).is_symlink())
        paths = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        for path in paths:
            if path.suffix.lower() in AUDIO_SUFFIXES and _is_regular(path, on_error):
                yield str(path)


def _is_regular(path: Path, on_error: Callable[[AudioError], None]) -> bool:
    """Tell of what is named like a recording and is none."""
    try:
        _require_regular(path, path.stat())
    except AudioError as error:
        on_error(error)
    except OSError as error:
        on_error(AudioError(path, _clause(path, error)))
    else:
        return True
    return False


# Without O_NONBLOCK a pipe that takes the file's place after stat() would block for ever; Windows
# has no such pipes, but would end a file's text at a control character.
_READING: Final = sum(
    getattr(os, flag, 0) for flag in ("O_RDONLY", "O_NONBLOCK", "O_NOCTTY", "O_BINARY")
)


@contextmanager
def opened_file(path: AnyPath) -> Iterator[tuple[FileIO, os.stat_result]]:
    """Open a regular file for reading, with what it is, and refuse it if it changes meanwhile."""
    try:
        _require_regular(path, Path(path).stat())
        if is_open_here(path):
            raise AudioError(path, "it is a database that this program has open")
        with FileIO(os.open(path, _READING)) as file:
            before = os.fstat(file.fileno())
            _require_regular(path, before)
            try:
                yield file, before
            finally:
                _require_same(path, before, os.fstat(file.fileno()))
    except (OSError, ValueError) as error:
        raise AudioError(path, _clause(path, error)) from error


def _require_same(path: AnyPath, before: os.stat_result, after: os.stat_result) -> None:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise AudioError(path, "it changed while it was read")


def _require_regular(path: AnyPath, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        what = "a directory" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
        raise AudioError(path, f"it is {what}")


def _clause(path: AnyPath, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "no file can have this name"
    if error.errno != errno.ENOENT:
        return str(error.strerror).lower()
    is_dangling = Path(path).is_symlink()
    return "it is a link to something that is not there" if is_dangling else "there is no such file"


def _read(file: FileIO, status: os.stat_result) -> tuple[str, int | None, dt.datetime]:
    """Return the hash of a file, its stamp and the time from before it was read."""
    stamp, now = _stamp(status), utc_now()
    return hashlib.file_digest(file, "sha256").hexdigest(), stamp, now
