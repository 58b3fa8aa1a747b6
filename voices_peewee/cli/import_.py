"""The command that brings records in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from voices_peewee.cli.common import command, pass_manager, plural, say

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.import_report import Imported

_TOLD: Final = 5
_STATES: Final = {
    "added": "added",
    "same": "same",
    "updated": "updated",
    "conflicts": "in conflict",
    "skipped": "skipped",
}


@command(example="voices import before_upgrade.db --dry-run")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--table",
    metavar="TABLE",
    help="What the records are, where neither they nor the file's name say so.",
)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
@click.option("--skip-bad", is_flag=True, help="Leave out bad records, and report them.")
@pass_manager
def import_(
    manager: DatabaseManager,
    files: tuple[str, ...],
    table: str | None,
    *,
    dry_run: bool,
    skip_bad: bool,
) -> None:
    """Import records from files or another database.

    FILE is JSON lines, JSON, CSV, Parquet, a Voices database, one of the original module, or a
    folder that was exported; '-' is the standard input. What is here already is not doubled.
    All is imported or nothing; with --skip-bad the exit status is 1 if anything was skipped.
    """
    from voices_peewee.cli.progress import byte_bar

    with manager, byte_bar("Importing") as progress:
        done = manager.import_records(
            list(files), table=table, dry_run=dry_run, skip_bad=skip_bad, on_progress=progress
        )
    _say(done)
    if done.skipped:
        click.get_current_context().exit(1)


def _say(done: Imported) -> None:
    for note in done.notes:
        say(f"note: {note}")
    _say_some("conflict", done.conflicts, sum(one.conflicts for one in done.tables.values()))
    _say_some("skipped", list(map(str, done.problems)), done.skipped)
    would = "would be " if done.is_dry_run else ""
    for table, counts in done.tables.items():
        told = [
            f"{getattr(counts, state):,} {words}"
            for state, words in _STATES.items()
            if getattr(counts, state)
        ]
        if told:
            say(f"{table}: {', '.join(told)}")
    if not done.changed:
        say("nothing to import" if not done.is_dry_run else "nothing would be imported")
    else:
        say(f"{plural(done.changed, 'record')} {would}imported")


def _say_some(kind: str, sentences: list[str], count: int) -> None:
    for sentence in sentences[:_TOLD]:
        say(f"{kind}: {sentence}")
    if count > _TOLD:
        say(f"… and {count - _TOLD:,} more {'conflicts' if kind == 'conflict' else 'skipped'}")
