"""Commands for the database as a whole."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from voices_peewee.cli import options
from voices_peewee.cli.common import (
    backed_up,
    command,
    confirm,
    pass_manager,
    plural,
    progress_bar,
    say,
    say_backup,
    write,
    write_path,
)
from voices_peewee.cli.output import View, write_json
from voices_peewee.rendering.plain import fact_lines, printable, show, size
from voices_peewee.rendering.table import Column

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.upkeep.backup import Backup

_BACKUP_COLUMNS: Final = (
    Column("created", "time"),
    Column("size", "bytes"),
    Column("records", "count"),
    Column("path", "path"),
    Column("sha256"),
    Column("migrations", "tags"),
    Column("source", "path"),
)

_FACT_KINDS: Final = {
    "size": "bytes",
    "last_run": "time",
    "unfinished": "count",
    "spooled": "count",
}

path_argument = click.argument("path", type=click.Path(path_type=Path))


@command(example="voices init")
@options.no_backup
@pass_manager
def init(manager: DatabaseManager, *, no_backup: bool) -> None:
    """Create the database, or bring it up to date.

    Prints its path.
    """
    from voices_peewee.database.files import ON_NETWORK, USE_SERVER, network_file_system

    with closing(manager):
        applied = backed_up(manager.run_migrations, backup=not no_backup)
        say_backup(manager)
    say(f"{plural(len(applied), 'migration')} applied" if applied else "nothing to do")
    if kind := network_file_system(manager.path):
        say(f"{ON_NETWORK.format(kind)}; {USE_SERVER}")
    write_path(manager.path)


@command(example="voices status")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=options.A_PATH)
@click.option("--watch", is_flag=True, help="Show how a batch gets on until nothing is left.")
@options.operation("operation_type", help="With --watch: only this operation; needed with PATHs.")
@options.one_model(help="With --watch: only by this model: demucs, or demucs:4.0.")
@options.param
@options.json
@pass_manager
def status(
    manager: DatabaseManager,
    paths: tuple[str, ...],
    *,
    watch: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Show what and how much is in the database.

    With --watch: what of the PATHs is done, failed, running and by whom, how fast, and how long
    the rest takes, until each is done or has failed; without PATHs the runs that end meanwhile,
    until none goes on. As with pending, a run counts whose model and parameters are just these.
    Ctrl-C ends it.
    """
    if watch:
        _watch(manager, paths, as_json=as_json, **asked)
        return
    if paths or any(asked.values()):
        raise click.UsageError("PATHs, --operation, --model and --param need --watch")
    with manager:
        facts = manager.status()
    if as_json:
        write_json(facts)
        return
    counts = facts.pop("rows") | facts.pop("files")
    facts["version"] = facts.pop("voices")  # what is counted has that name too
    facts["schema"] = f"up to date ({facts.pop('migrations')[-1]})"
    known = [(Column(name, _FACT_KINDS.get(name, "text")), facts[name]) for name in facts]
    counted = [(Column(name, "count"), count) for name, count in counts.items()]
    write(fact_lines([*known, *counted]))


def _watch(
    manager: DatabaseManager, paths: tuple[str, ...], *, as_json: bool, **asked: Any
) -> None:
    from voices_peewee.cli.runs import sources_of
    from voices_peewee.cli.watching import show_watch

    if paths and not asked["operation_type"]:
        raise click.UsageError("--watch with PATHs needs --operation")
    if asked["parameters"] and not paths:
        raise click.UsageError("--param needs PATHs")
    with manager:
        sources = map(str, sources_of(manager, paths, nul=False)) if paths else None
        show_watch(manager.watch(sources, **asked), as_json=as_json)


@command(example="voices check --files")
@click.option("--files", is_flag=True, help="Look at the audio too: is it there, and the same?")
@click.option(
    "--fix",
    is_flag=True,
    help="Write times and stems' paths as they should be; backs up first.",
)
@options.path_map
@options.json
@options.yes
@pass_manager
def check(
    manager: DatabaseManager,
    path_map: dict[str, str],
    *,
    files: bool,
    fix: bool,
    as_json: bool,
    yes: bool,
) -> None:
    """Look for what is wrong, and say what to do.

    Checks integrity, references, schema, migrations and values. The exit status is 1 if
    anything is wrong; a note is not. Without --fix and --path-map nothing is changed.

    With --files --path-map recorded paths are moved first, in one transaction, where the file
    there has the content that is recorded.
    """
    if path_map and not files:
        raise click.UsageError("--path-map needs --files")
    with progress_bar("Checking", hidden=not files) as progress:
        found = manager.check(files=files, path_map=path_map, on_progress=progress)
    if fix and (count := sum(one.mendable for one in found)):
        confirm(f"Write {plural(count, 'value')} in {manager.path!r} anew?", yes=yes)
        found = manager.check(files=files, fix=True)
        say_backup(manager)
        say(f"{plural(count - sum(one.mendable for one in found), 'value')} mended")
    if as_json:
        write_json([asdict(one) for one in found])
    else:
        write(f"{one.kind}: {printable(one.what)}\n    {printable(one.advice)}\n" for one in found)
    wrong = [one for one in found if one.kind != "note"]
    told = plural(len(wrong), "finding") if wrong else "nothing is wrong"
    notes = len(found) - len(wrong)
    say(f"{told}, {plural(notes, 'note')}" if notes else told)
    if wrong:
        click.get_current_context().exit(1)


@command(example="voices backup --backup-path before_upgrade.db")
@click.option(
    "--backup-path",
    type=click.Path(),
    metavar="PATH",
    help="A file, or a folder, which a / at the end makes.  "
    "[default: voices_backup_YYYYmmdd_HHMMSS.db beside the database]",
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    help="Afterwards keep only the newest N backups of this database there.",
)
@pass_manager
def backup(manager: DatabaseManager, backup_path: str | None, keep: int | None) -> None:
    """Save a verified copy while others write.

    Prints the path of the copy.
    """
    with progress_bar("Backing up") as progress:
        saved = manager.backup_database(backup_path, progress=progress, keep=keep)
    write_path(saved)


@command(example="voices list-backups --sort -size")
@options.lists
@pass_manager
def list_backups(manager: DatabaseManager, view: View) -> None:
    """List the backups beside the database.

    Those that have a digest beside them (NAME.sha256), the newest first. Nothing is
    verified: see verify-backup.
    """
    rows = [_backup_row(one) for one in manager.list_backups()]
    view.show_records("backup", _BACKUP_COLUMNS, rows, default=5)


@command(example="voices verify-backup before_upgrade.db")
@path_argument
@pass_manager
def verify_backup(manager: DatabaseManager, path: Path) -> None:
    """Check a backup: its digest and every page."""
    say(f"{str(path)!r} is sound: {_described(manager.verify_backup(path))}")


@command(example="voices restore before_upgrade.db --yes")
@path_argument
@options.yes
@pass_manager
def restore(manager: DatabaseManager, path: Path, *, yes: bool) -> None:
    """Put a backup in the place of the database's content.

    The backup is verified first, and the present content is backed up. Other programs
    may keep the database open.
    """
    from voices_peewee.database.files import is_server

    if is_server(manager.path):
        manager.restore(path)  # which says what to use instead
    found = manager.verify_backup(path)
    confirm(f"Replace {manager.path!r} by {str(path)!r} ({_described(found)})?", yes=yes)
    with closing(manager), progress_bar("Restoring") as progress:
        saved, _ = manager.restore(path, progress=progress)
    if saved is not None:
        say(f"what was there is in {str(saved.path)!r}")
    say(f"restored {_described(found)}")


def _described(backup: Backup) -> str:
    rows = plural(_records(backup), "record")
    return f"{rows}, {size(backup.size)}, of {show(backup.created)} UTC"


def _records(backup: Backup) -> int:
    return sum(count for table, count in backup.rows.items() if table != "schema_migrations")


def _backup_row(backup: Backup) -> tuple[object, ...]:
    return (
        backup.created,
        backup.size,
        _records(backup),
        str(backup.path),
        backup.sha256,
        list(backup.migrations),
        backup.source or None,
    )
