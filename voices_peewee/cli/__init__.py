"""The command ``voices``: words to calls, rows to text."""

from __future__ import annotations

import os
from typing import Final

import click

from voices_peewee._version import __version__
from voices_peewee.cli.common import VoicesGroup

# The summaries stand here, so that --help and the TAB key load no command; a test compares them.
SECTIONS: Final = {
    "Database": (
        "database",
        {
            "init": "Create the database, or bring it up to date.",
            "status": "Show what and how much is in the database.",
            "check": "Look for what is wrong, and say what to do.",
            "backup": "Save a verified copy while others write.",
            "list-backups": "List the backups beside the database.",
            "verify-backup": "Check a backup: its digest and every page.",
            "restore": "Put a backup in the place of the database's content.",
        },
    ),
    "Migrations": (
        "migrations",
        {
            "create-migration": "Write what the models have and the migrations lack.",
            "run-migrations": "Apply the pending migrations.",
            "rollback-migration": "Undo the newest migrations, with the data they hold.",
            "list-migrations": "List the migrations: applied, pending or unknown.",
        },
    ),
    "Speakers": (
        "speakers",
        {
            "add-speaker": "Add a speaker.",
            "update-speaker": "Change a speaker's name or description.",
            "delete-speaker": "Delete a speaker; the files stay, without a speaker.",
            "add-tags": "Add tags to a speaker.",
            "remove-tags": "Remove tags from a speaker.",
            "list-tags": "List the tags, with how many speakers have them.",
            "list-speakers": "List speakers.",
        },
    ),
    "Files": (
        "files",
        {
            "add-files": "Record audio files and all that are in folders.",
            "update-file": "Change what is recorded about a file.",
            "delete-file": "Delete the record of a file, with its runs.",
            "list-files": "List files.",
        },
    ),
    "Runs": (
        "runs",
        {
            "list-history": "List what was done to which file.",
            "list-performance": "List how well and how fast it went.",
            "pending": "Print the files that are still to be processed.",
            "failures": "Group the failed runs by their error.",
            "show-run": "Show one run whole, with its outputs and its error.",
            "update-run": "Change the note or the tags of a run.",
            "delete-run": "Delete a run with what it measured.",
            "close-unfinished": "Mark the runs whose process is dead as failed.",
        },
    ),
    "Questions": (
        "questions",
        {
            "leaderboard": "Rank models by a metric.",
            "compare": "Compare models on the recordings that they share.",
            "plot": "Draw a plot: a distribution, paired, ranks or scatter.",
        },
    ),
    "Report": ("questions", {"report": "Write one page to send: tables, pictures and players."}),
    "Listening": ("listening", {"listen": "Let people listen: a blind test of models' stems."}),
    "In and out": (
        "exchange",
        {
            "export": "Write the record as JSON lines, or one table as CSV.",
            "import": "Import records from files or another database.",
            "import-results": "Import what other tools measured.",
            "serve": "Show the database in the browser, read-only.",
        },
    ),
    "Shell": (
        "shell",
        {
            "list": "List speakers, files, ...: the same as list-speakers, ....",
            "completion": "Print the script for the TAB key of a shell.",
        },
    ),
}


@click.group(
    cls=VoicesGroup,
    sections=SECTIONS,
    help="Keep the record of voice-separation work: speakers, recordings, runs, results.",
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
@click.option(
    "--db",
    metavar="PATH_OR_URL",
    envvar="VOICES_DB",
    show_envvar=True,
    help="The database; may also stand after the command.  [default: ~/.voices/voices.db]",
)
@click.option(
    "--migrations-dir",
    metavar="DIR",
    envvar="VOICES_MIGRATIONS_DIR",
    show_envvar=True,
    help="An application's own migrations, applied after the package's.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=30.0,
    help="How long to wait for another program's lock.  [default: 30]",
)
@click.version_option(__version__, prog_name="voices")
@click.pass_context
def cli(ctx: click.Context, db: str | None, migrations_dir: str | None, timeout: float) -> None:
    """Remember what the options say; nothing is opened yet."""
    ctx.obj = {"database": db, "migrations_dir": migrations_dir, "timeout": timeout}


def main() -> None:
    """Run the command line, or complete a word of it, and exit."""
    if "_VOICES_COMPLETE" in os.environ:
        from voices_peewee.cli.shells import prepare_shells

        prepare_shells()
    cli(prog_name="voices")
