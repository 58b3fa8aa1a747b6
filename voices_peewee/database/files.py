"""Which database is meant, and what lies there: whether it is a database, and ours.

Nothing here opens a database to use it, nothing that is there is changed, and no Peewee is
loaded: the TAB key asks too.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from voices_peewee.database.server_url import masked
from voices_peewee.errors import DatabaseError, DatabaseMissingError, NotVoicesError

MEMORY: Final = ":memory:"
_BESIDE: Final = ("", "-wal", "-shm", "-journal")
SCHEMES: Final = ("postgresql", "postgres")


def is_server(name: str) -> bool:
    """Whether a name is the URL of a server that this package can use."""
    return name.partition("://")[0].lower() in SCHEMES and "://" in name


def as_server(path: str | os.PathLike[str]) -> str | None:
    """Return what may be shown of a server's URL that stands where a file should; else None."""
    scheme, colon, rest = os.fspath(path).partition(":")  # a Path has lost a "/"
    if not colon or scheme.lower() not in SCHEMES or not rest.startswith("/"):
        return None
    return masked(f"{scheme}://{rest.lstrip('/')}")


def path_of(uri: str) -> str:
    """Return the path in SQLite's ``file:`` URI; another name as it is."""
    if not uri.startswith("file:"):
        return uri
    from urllib.parse import unquote  # 2 ms, which a path shall not pay

    return unquote(uri.removeprefix("file:").removeprefix("//").partition("?")[0])


def resolve(target: str | os.PathLike[str] | None) -> str:
    """Return the absolute path of a database, ``:memory:``, or the URL of a server as it is.

    For None that of ``$VOICES_DB``, else ``~/.voices/voices.db``.
    """
    own = os.environ.get("VOICES_DB") or "~/.voices/voices.db"
    name = (os.fspath(target) if target is not None else own).removeprefix("sqlite:///")
    if name == MEMORY or is_server(name):
        return name
    if "://" in name or as_server(name):
        scheme = name.partition(":")[0]
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise DatabaseError(f"{scheme}://…", f"use the path of a file, or one of {known}")
    if re.match(r"\s*(host|dbname|service)\s*=", name):
        raise DatabaseError(f"{name.partition('=')[0].strip()}=…", _AS_URL)
    if not name or "\0" in name:
        raise DatabaseError(name, "a path must be a text without NUL, and not empty")
    path = os.path.expanduser(name)  # noqa: PTH111 - a Path drops the dot of ./~name
    if path.startswith("~"):
        raise DatabaseError(name, "no such home directory is known; a file here is './~…'")
    return os.path.abspath(path)


def names_of(path: str) -> set[str]:
    """Return the paths of a database and of what SQLite puts beside it."""
    return {f"{os.path.realpath(path_of(path))}{end}" for end in _BESIDE}


def size_of(path: str) -> int:
    """Return the size of a file in bytes, 0 where there is none."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


_TAIL: Final = 10_000  # bytes, more than the last line of a kept run
_AS_URL: Final = "write a server as a URL: postgresql://USER@HOST:PORT/NAME"


def spool() -> Path:
    """Return where runs are kept that a server did not take: ``~/.voices/spool``."""
    return Path("~/.voices/spool").expanduser()


def spooled(place: str | None) -> tuple[list[Path], Counter[str]]:
    """Return the files of the runs that are kept for a server, oldest first.

    The others are counted, by the servers that their last lines name.
    """
    servers = {path: _server_of(path) for path in sorted(spool().glob("*.jsonl"))}
    own = [path for path, server in servers.items() if server == place]
    return own, Counter(server for server in servers.values() if server != place)


def _server_of(path: Path) -> str:
    import json  # which the TAB key does without

    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return str(json.loads(file.read().splitlines()[-1])["server"])
    except (OSError, ValueError, LookupError, TypeError):
        return "a server that they do not name"


def inspect(path: str) -> str:
    """Return ``missing``, ``empty`` or ``file``: what is at ``path``.

    The file is not opened: closing it would take away the locks that this process's other
    connections to it hold, and another program would remove the WAL under their feet.
    """
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        raise DatabaseError(path, _reason(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise NotVoicesError(path, "it is not a file")
    if not os.access(path, os.R_OK):
        raise DatabaseError(path, "permission denied")
    if found.st_nlink > 1 and not _is_alone(path, found):
        raise DatabaseError(path, _LINKED)
    if os.path.realpath(path) in _mount_points():
        raise DatabaseError(path, _MOUNTED)
    return "file" if found.st_size else "empty"


def _is_alone(path: str, found: os.stat_result) -> bool:
    """Whether a file's other names are those under which a killed restore or backup wrote it.

    Nobody opens it by such a name, and the next file that is written beside it removes them.
    """
    real, hidden = Path(os.path.realpath(path)), 0
    for one in real.parent.iterdir():
        with suppress(OSError):
            is_hidden = one != real and is_partial(one.name) is not None
            hidden += is_hidden and os.path.samestat(one.lstat(), found)
    return found.st_nlink == 1 + hidden


PARTIAL: Final = ".voices-{}-{}-{}.partial"  # of the host, the process, and chance


def is_partial(name: str) -> re.Match[str] | None:
    """Match the name of a file that is being written, with its ``host`` and ``pid``."""
    parts = ("(?P<host>[0-9a-f]{8})", r"(?P<pid>\d+)", "[0-9a-f]{16}")
    pattern = PARTIAL.replace(".", r"\.").format(*parts)
    return re.fullmatch(f"{pattern}(-wal|-shm|-journal)?", name)


_LINKED: Final = (
    "the file has a second name (a hard link), under which others would write past it; "
    "remove that name, or copy the file and use the copy"
)
_MOUNTED: Final = (
    "the file is a mount of its own, beside which its -wal is lost to others; mount its folder"
)


_MOUNTS: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_NETWORK: Final = re.compile(
    r"(nfs|cifs|smb|afs|ceph|lustre|gpfs|beegfs|pvfs|ocfs|gfs2|glusterfs"
    r"|fuse\.\w*(ssh|gluster|ceph|rclone|s3|smb|nfs|juice))"
)
ON_NETWORK: Final = (
    "the file is on a network file system ({}), where one machine at a time may use it"
)
USE_SERVER: Final = "for several, use a server: docs/postgresql.md"


def _mount_points() -> dict[str, str]:
    """Return the kinds of file systems by where they are; empty where the system does not say."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return {}
    mounts: dict[str, str] = {}
    for line in lines:
        place, _, kind = line.partition(b" - ")
        name = _OCTAL.sub(lambda digits: bytes([int(digits[1], 8)]), place.split(b" ")[4])
        mounts[os.fsdecode(name)] = os.fsdecode(kind.split(b" ")[0])
    return mounts


def network_file_system(path: str) -> str | None:
    """Return the kind of network file system that a file lies on, such as nfs4; else None."""
    if path == MEMORY or "://" in path:
        return None
    mounts, real = _mount_points(), Path(os.path.realpath(path))
    kind = next((mounts[str(one)] for one in (real, *real.parents) if str(one) in mounts), "")
    return kind if _NETWORK.match(kind) else None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def require_voices(path: str, history_table: str, timeout: float, *, create: bool = False) -> None:
    """Refuse a file that is not ours, before anything writes to it; make one that is not there."""
    if inspect(path) == "file":
        _refuse_strangers(path, history_table, timeout)
    elif create:
        _create_file(path)
    else:
        raise DatabaseMissingError(path)


def _refuse_strangers(path: str, history_table: str, timeout: float) -> None:
    """Refuse a file that is no SQLite file, or has tables, but not ours; nothing is changed."""
    try:
        tables, is_ours = _look(path, history_table, timeout)
    except sqlite3.Error as error:
        from voices_peewee.database.wording import translation

        raise translation(error, path, timeout) from error
    if not is_ours:
        refuse_tables(path, tables)


_ORIGINAL: Final = {"speakers", "processed_files", "processing_history", "model_performance"}


def refuse_tables(path: str, tables: list[str], *, is_new: bool = True) -> None:
    """Refuse a database without our history that has tables."""
    if not tables and not is_new:
        raise DatabaseMissingError(path)
    if _ORIGINAL.issubset(tables):
        raise NotVoicesError(
            path,
            "it is a record of the original module; run 'voices --db NEW init' and "
            f"'voices --db NEW import {path}'",
        )
    if tables:
        shown = ", ".join(tables[:3]) + (", …" if len(tables) > 3 else "")
        raise NotVoicesError(path, f"it is a database of another application ({shown})")


_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
_HAS_NAME: Final = "SELECT count(*) FROM pragma_table_info(?) WHERE name = 'name'"


def _look(path: str, history_table: str, timeout: float) -> tuple[list[str], bool]:
    """Return the names of the tables, and whether our history is among them.

    No -wal and no -shm are left behind where there was none.
    """
    from voices_peewee.database.sqlite import Connection

    is_still = not _has(path, "-wal", "-journal")
    uri = f"{Path(path).as_uri()}?mode=ro{'&immutable=1' if is_still else ''}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=timeout, factory=Connection)) as other:
            tables = [row[0] for row in other.execute(_TABLES)]
            return tables, bool(other.execute(_HAS_NAME, (history_table,)).fetchone()[0])
    except sqlite3.DatabaseError:
        if not is_still or not _has(path, "-wal", "-journal"):
            raise
    return _look(path, history_table, timeout)  # another program began to write just now


_READONLY_DIRECTORY: Final = 1544  # SQLITE_READONLY_DIRECTORY


def lies_still(path: str, error: sqlite3.OperationalError) -> bool:
    """Tell whether SQLite only cannot put its -wal and -shm where there is no room or right.

    Nobody was writing a moment ago, or these would be there: it may be opened as immutable.
    """
    from voices_peewee.database.wording import code_of

    is_fixed = (
        error.sqlite_errorcode == _READONLY_DIRECTORY
        or code_of(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        or (
            error.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN
            and not os.access(Path(path).resolve().parent, os.W_OK)
        )
    )
    return is_fixed and not _has(path, "-wal")


def _has(path: str, *suffixes: str) -> bool:
    """Whether a file lies beside a database that holds something of it."""
    real = os.path.realpath(path)
    return any(size_of(real + end) for end in suffixes)


def _create_file(path: str) -> None:
    """Create the folder (owner only) and an empty database file (owner only, umask respected)."""
    left = f"{os.path.realpath(path)}-wal"
    if os.path.lexists(left) and inspect(path) != "file":
        raise DatabaseError(path, f"{Path(left).name!r} is there without it; move that away first")
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never one that is there: closing it would drop this process's locks on it.
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        if not Path(path).is_file():
            raise DatabaseError(path, _reason(error)) from error
    except OSError as error:
        raise DatabaseError(path, _reason(error)) from error
