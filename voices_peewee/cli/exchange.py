"""The commands that take the record out, bring records in, and show them in the browser."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from voices_peewee.cli import completion, options
from voices_peewee.cli.common import (
    command,
    output_errors,
    pass_manager,
    plural,
    progress_bar,
    said,
    say,
    say_some,
    write,
    write_path,
)

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager

_STATES: Final = {
    "added": "added",
    "same": "same",
    "updated": "updated",
    "conflicts": "in conflict",
}


@command(example="voices export --output voices.jsonl")
@click.argument(
    "tables",
    nargs=-1,
    metavar="[TABLE]...",
    shell_complete=completion.one_of(*completion.NOUNS),
)
@click.option(
    "--format",
    type=click.Choice(("jsonl", "csv")),
    help="What to write.  [default: as the suffix of PATH says, else jsonl]",
)
@click.option("--output", "-o", metavar="PATH", default="-", help="A file.  [default: -, stdout]")
@options.overwrite
@pass_manager
def export(manager: DatabaseManager, tables: tuple[str, ...], output: str, **asked: Any) -> None:
    """Write the record as JSON lines, or one table as CSV.

    TABLE is speakers, files, history, performance or a table's own name; without one all are
    written. What is written is one moment of the database, while others may write. Prints the
    path of a file.
    """
    to_terminal = output == "-" and sys.stdout.isatty()
    # a file's errors are ours already
    with output_errors(), manager, progress_bar("Exporting", hidden=to_terminal) as progress:
        done = manager.export(output, tables or None, progress=progress, **asked)
    if done.path is not None:
        write_path(done.path)
    told = [f"{plural(count, 'row')} of {name}" for name, count in done.rows.items() if count]
    say(f"exported {', '.join(told) or '0 rows'}")


@command(example="voices import laptop.db --dry-run")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=options.A_PATH)
@click.option(
    "--table",
    metavar="TABLE",
    help="What the records are, where neither they nor the file's name say so.",
)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
@pass_manager
def import_(manager: DatabaseManager, files: tuple[str, ...], **asked: Any) -> None:
    """Import records from files or another database.

    FILE is JSON lines, CSV, a Voices database or one of the original module; '-' is the
    standard input. The folder ~/.voices/spool is the runs that a server did not take; their
    files go when they are in the record. What is here already is not doubled. All is imported
    or nothing, and every bad record is told.
    """
    with manager, progress_bar("Importing") as progress:
        done = manager.import_records(list(files), on_progress=progress, **asked)
    say(*(f"note: {note}" for note in done.notes))
    conflicts = sum(one.conflicts for one in done.tables.values())
    say_some("conflict", done.conflicts, conflicts, many="conflicts")
    for table, counts in done.tables.items():
        states = {words: getattr(counts, state) for state, words in _STATES.items()}
        if told := said(states):
            say(f"{table}: {told}")
    would = "would be " if done.is_dry_run else ""
    if done.changed:
        say(f"{plural(done.changed, 'record')} {would}imported")
    else:
        say("nothing would be imported" if would else "nothing to import")


@command(example="voices import-results versa.jsonl --model demucs:4.0")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=options.A_PATH)
@click.option(
    "--format",
    type=click.Choice(
        ("versa", "speechbrain", "tdanet", "asteroid", "dnsmos", "nisqa", "espnet", "museval")
    ),
    help="What they are.  [default: as their content says]",
)
@options.model(help="Whose results they are: demucs, or demucs:4.0.", required=True)
@options.operation(
    "operation_type",
    help="What it did.  [default: voice_separation]",
    default=["voice_separation"],
)
@click.option(
    "--manifest", metavar="FILE", type=options.A_PATH, help="The data set's list of recordings."
)
@options.path_map
@options.direction
@pass_manager
def import_results(manager: DatabaseManager, paths: tuple[str, ...], **asked: Any) -> None:
    """Import what other tools measured.

    PATH is a file or folder of VERSA, SpeechBrain, TDANet, asteroid, DNSMOS, NISQA, ESPnet or
    museval. The numbers go to the model's runs of these recordings or outputs, else make runs.
    All are imported or none, and every bad row is told.
    """
    with manager:
        done = manager.import_results(list(paths), **asked)
    say(*(f"note: {note}" for note in done.notes))
    say_some("conflict", done.conflicts, many="conflicts")
    counts = {f"of {asked['operation_type']} added": done.added}
    counts |= {"updated": done.updated, "unchanged": done.unchanged}
    told = [f"{plural(count, 'run')} {state}" for state, count in counts.items() if count]
    say(f"{done.format}: {', '.join(told) or 'no values'}")


@command(example="voices serve --port 8001")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8001,
    metavar="PORT",
    help="0 takes a free one.  [default: 8001]",
)
@pass_manager
def serve(manager: DatabaseManager, port: int) -> None:
    """Show the database in the browser, read-only.

    Prints the address of the start page, which this machine alone reaches, and answers until
    Ctrl-C. Others may write meanwhile. Needs the extra [web].
    """

    def ready(url: str) -> None:
        say("serving; Ctrl-C ends it")
        write([f"{url}\n"])
        sys.stdout.flush()

    with manager:
        manager.serve(port=port, on_ready=ready)
