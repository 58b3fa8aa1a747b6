"""The command ``voices``: words to calls, rows to text."""

from __future__ import annotations

from typing import Final

import click

from voices_peewee._version import __version__
from voices_peewee.cli.common import Target, VoicesGroup

_SECTIONS: Final = {
    "Database": (
        "database",
        ("init", "status", "backup", "list-backups", "verify-backup", "restore"),
    ),
    "Migrations": (
        "migrations",
        ("create-migration", "run-migrations", "rollback-migration", "list-migrations"),
    ),
    "Speakers": (
        "speakers",
        (
            *("add-speaker", "update-speaker", "delete-speaker"),
            *("add-tags", "remove-tags", "list-tags", "list-speakers"),
        ),
    ),
    "Files": (
        "files",
        ("add-files", "update-file", "delete-file", "link-file", "unlink-file", "list-files"),
    ),
    "Runs": (
        "runs",
        (
            *("list-history", "list-performance", "pending", "failures"),
            *("show-run", "close-unfinished"),
        ),
    ),
    "Questions": ("questions", ("leaderboard", "compare")),
    "Shell": ("shell", ("list", "completion")),
}


@click.group(
    cls=VoicesGroup,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
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
    show_default=True,
    help="How long to wait for another program's lock.",
)
@click.version_option(__version__, prog_name="voices")
@click.pass_context
def cli(ctx: click.Context, db: str | None, migrations_dir: str | None, timeout: float) -> None:
    """Keep the record of voice-separation work: speakers, recordings, runs, results."""
    ctx.obj = Target(db, migrations_dir, timeout)


def main() -> None:
    """Run the command line and exit."""
    cli(prog_name="voices")
