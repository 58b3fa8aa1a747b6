"""Backups of a server's database, by PostgreSQL's own programs: pg_dump, pg_restore and psql.

A backup is two files: NAME.dump, as ``pg_dump --format=custom`` writes it, and NAME.dump.json,
its facts. No password is ever on a command line.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from voices_peewee._version import __version__
from voices_peewee.errors import BackupError, DatabaseNewerError, InvalidValueError
from voices_peewee.upkeep import places as backup_place
from voices_peewee.upkeep.facts import Backup, digest, facts_path
from voices_peewee.upkeep.places import file_errors

if TYPE_CHECKING:
    from voices_peewee.database.postgres import Server

_MAGIC: Final = b"PGDMP"
_SECRETS: Final = ("password", "sslpassword")
_RECORD: Final = re.compile(rb" TABLE (.+) schema_migrations ")
_CHUNK: Final = 1 << 20  # bytes
_TABLES: Final = """SELECT relkind, relname FROM pg_class
 WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
 AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
 ORDER BY relname"""
_KINDS: Final = {"r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW"}


def default_folder() -> Path:
    """Return where backups of servers lie when no path is given: ``~/.voices``."""
    return Path("~/.voices").expanduser()


def snapshot(
    server: Server, target: Path | None = None, *, keep: int | None = None, overwrite: bool = False
) -> Backup:
    """Dump the database as it is at this moment, while others write, and verify the dump.

    Raises:
        InvalidValueError: ``keep`` is less than 1.
        BackupError: A program is missing or fails, or the target is taken or refuses writes.
    """
    if keep is not None and keep < 1:
        raise InvalidValueError(f"keep must be 1 or more backups, not {keep}")
    folder = default_folder()
    if target is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    targets = backup_place.target_names(folder / "server", target, suffix=".dump")
    with file_errors(BackupError, target or folder):
        first = next(targets)
        backup_place.refuse_target(first, Path(os.devnull), overwrite=overwrite)
        backup_place.remove_orphans(first.parent)
    with backup_place.unfinished(first, BackupError) as partial:
        backup = _dump(server, partial, first)
        with file_errors(BackupError, first):
            names = itertools.chain([first], targets)
            backup = backup_place.place(partial, backup, names, overwrite=overwrite)
    if keep is not None:
        backup_place.remove_older(backup, keep)
    return backup


def _dump(server: Server, partial: Path, path: Path) -> Backup:
    """Write the dump of one moment, and return the facts of that moment."""
    with server.snapshot():
        connection = server.connection()
        ((moment,),) = connection.execute("SELECT pg_export_snapshot()").fetchall()
        command = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={moment}"]
        command.append(f"--schema={_quoted(_schema(server))}")
        _run(path, "pg_dump", [*command, f"--file={partial}", *_to(server)], _environment(server))
        rows, migrations = _contents(connection)
    _read_whole(partial, path)
    with file_errors(BackupError, path):
        backup_place.sync(partial)
        size, sha256 = partial.stat().st_size, digest(partial)
    now = datetime.now(UTC)
    return Backup(path, size, sha256, now, server.label, migrations, rows, __version__)


def _contents(connection: Any) -> tuple[dict[str, int], tuple[str, ...]]:
    names = [name for kind, name in connection.execute(_TABLES).fetchall() if kind in "rp"]
    rows = {}
    for name in names:
        ((rows[name],),) = connection.execute(f"SELECT count(*) FROM {_quoted(name)}").fetchall()  # noqa: S608 - a name
    if "schema_migrations" not in rows:
        return rows, ()
    found = connection.execute("SELECT name FROM schema_migrations ORDER BY id").fetchall()
    return rows, tuple(name for (name,) in found)


def _schema(server: Server) -> str:
    """Return the schema that the tables are in."""
    ((name,),) = server.connection().execute("SELECT current_schema()").fetchall()
    return str(name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def verify(path: Path) -> Backup:
    """Check a dump against its digest and facts, and read it from end to end.

    Raises:
        BackupError: It is missing, damaged, changed, or no dump of a record.
    """
    with file_errors(BackupError, path):
        if not path.is_file():
            raise BackupError(path, "there is no such file")
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise BackupError(path, "it is not a dump of pg_dump's custom format")
        size, sha256, time = path.stat().st_size, digest(path), path.stat().st_mtime
        claimed = _facts_of(path)
    if claimed is not None and (claimed.sha256, claimed.size) != (sha256, size):
        reason = f"its digest is not that of its facts {facts_path(path).name!r}; it was changed"
        raise BackupError(path, reason)
    _read_whole(path, path)
    if not _schemas(path):
        raise BackupError(path, "it is a dump of another application")
    created = datetime.fromtimestamp(time, UTC)
    return claimed or Backup(path, size, sha256, created, "", (), {}, "")


def _facts_of(path: Path) -> Backup | None:
    facts = facts_path(path)
    try:
        return replace(Backup.from_json(facts.read_text("utf-8"), path.parent), path=path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        reason = f"its facts {facts.name!r} cannot be read ({error})"
        raise BackupError(path, f"{reason}; remove them to go without") from error


def _schemas(path: Path) -> list[str]:
    """Return the schemas in a dump that hold a record."""
    listed = _run(path, "pg_restore", ["--list", str(path)], dict(os.environ))
    return [name.decode("utf-8", "replace") for name in _RECORD.findall(listed)]


def _read_whole(dump: Path, path: Path) -> None:
    _run(path, "pg_restore", [f"--file={os.devnull}", str(dump)], dict(os.environ))


def restore(
    server: Server, path: Path, *, known_migrations: Sequence[str]
) -> tuple[Backup | None, Backup]:
    """Put a verified dump in the place of the tables; other programs keep their connections.

    What is there is backed up first. Everything is one transaction: who reads meanwhile sees
    the old state or the new one.

    Returns:
        The backup of what was there (None when nothing was) and the one that was restored.

    Raises:
        BackupError: A program is missing or fails, or the dump is not sound.
        DatabaseNewerError: The dump has migrations that are not known.
    """
    found = verify(path)
    if unknown := [name for name in found.migrations if name not in known_migrations]:
        raise DatabaseNewerError(path, unknown)
    if (schema := _schema(server)) not in (held := _schemas(path)):
        reason = f"it is of the schema {held[0]!r}, and the first of the search_path is {schema!r}"
        raise BackupError(path, reason)
    present = server.connection().execute(_TABLES).fetchall()
    saved = snapshot(server) if present else None
    _replace(server, path, present)
    return saved, found


def _replace(server: Server, path: Path, present: Sequence[tuple[str, str]]) -> None:
    """Feed psql with one transaction, which is committed only when pg_restore read all of it."""
    restore_command = [_program(path, "pg_restore"), "--no-owner", "--no-privileges", "--file=-"]
    restore_command.append(f"--schema={_schema(server)}")  # without it, schemas are made too
    psql = [_program(path, "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    reader = subprocess.Popen(  # noqa: S603 - PostgreSQL's own
        [*restore_command, str(path)], stdout=subprocess.PIPE
    )
    writer = subprocess.Popen(  # noqa: S603 - PostgreSQL's own
        [*psql, *_to(server)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_environment(server),
    )
    with reader, writer:
        failed = not _feed(reader, writer, _begin(server, present))
        words = writer.stderr.read() if writer.stderr else b""
    if writer.returncode or failed:
        raise BackupError(path, f"it could not be restored ({_last_line(words)})")


def _begin(server: Server, present: Sequence[tuple[str, str]]) -> str:
    lines = ["BEGIN;", f"SET LOCAL lock_timeout = {int(1000 * server.timeout)};"]
    drops = (f"DROP {_KINDS[kind]} IF EXISTS {_quoted(name)} CASCADE;" for kind, name in present)
    return "\n".join([*lines, *drops, ""])


def _feed(reader: subprocess.Popen[bytes], writer: subprocess.Popen[bytes], begin: str) -> bool:
    """Copy from one program to the other; return whether all of it was taken."""
    source, sink = _stream(reader.stdout), _stream(writer.stdin)
    try:
        sink.write(begin.encode())
        shutil.copyfileobj(source, sink, _CHUNK)
        is_whole = reader.wait() == 0
        if is_whole:  # without it, the end of the input undoes everything
            sink.write(b"COMMIT;\n")
        sink.close()
    except BrokenPipeError:  # psql has stopped and says why
        source.close()
        return False
    return is_whole


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the program was started without a pipe")
    return stream


# The programs


def _program(path: Path, name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BackupError(
            path,
            f"{name} is not on PATH; install PostgreSQL's client programs, of the server's "
            "version or newer (Debian: apt install postgresql-client)",
        )
    return found


def _to(server: Server) -> list[str]:
    """Return the argument that names the database, without its passwords."""
    parts = conninfo_to_dict(server.conninfo)
    return [
        f"--dbname={make_conninfo('', **{k: v for k, v in parts.items() if k not in _SECRETS})}"
    ]


def _environment(server: Server) -> dict[str, str]:
    """Return the environment with the password that the URL has."""
    password = conninfo_to_dict(server.conninfo).get("password")
    return {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}


def _run(path: Path, name: str, arguments: Sequence[str], environment: dict[str, str]) -> bytes:
    """Run a program and return what it writes."""
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own
        [_program(path, name), *arguments], capture_output=True, env=environment, check=False
    )
    if done.returncode:
        raise BackupError(path, f"{name} failed ({_last_line(done.stderr)})")
    return done.stdout


def _last_line(words: bytes) -> str:
    lines = [line for line in words.decode("utf-8", "replace").splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return (told or lines or ["it gave no reason"])[-1].strip()
