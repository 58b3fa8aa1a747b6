"""The command that writes a page to send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voices_peewee.cli import completion, options
from voices_peewee.cli.common import command, pass_manager, write_path
from voices_peewee.cli.values import joined

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager


@command(example="voices report -o report.html --no-audio")
@options.where_words
@options.output(help="Where the page goes.", required=True)
@options.metric
@click.option(
    "--by",
    multiple=True,
    callback=joined,
    metavar="FIELDS",
    shell_complete=completion.groupings,
    help="Conditions, such as metadata.room.",
)
@options.baseline
@click.option("--hosts", is_flag=True, help="Name the hosts that runs were made on.")
@click.option("--embed", is_flag=True, help="Put the sounds into the page instead of links.")
@click.option("--no-audio", "audio", flag_value=False, default=True, help="No players.")
@click.option(
    "--max-size",
    type=click.IntRange(min=1),
    default=20,
    metavar="MB",
    help="How large the page may get, with --embed.  [default: 20]",
)
@options.runs
@options.overwrite
@pass_manager
def report(manager: DatabaseManager, output: Path, by: str, max_size: int, **asked: Any) -> None:
    """Write one page to send: tables, pictures and players.

    The page is one HTML file and asks nothing of the network. Sounds are links to the files,
    unless they are put into it.
    """
    with manager:
        by_each = tuple(filter(None, by.split(",")))
        write_path(manager.report(output, by=by_each, max_size=max_size * 1_000_000, **asked))
