"""Commands for runs: what was done, how well, what is left and what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from voices_peewee.cli.common import assignments, command, pass_manager, plural, say
from voices_peewee.cli.view import View, list_options, model_options, since_options

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager


def _status(value: str, text: str) -> Any:
    return click.option(f"--{value}", "status", flag_value=value, help=text)


@command(example="voices list-history --failed --since -7d")
@_status("failed", "Only runs that failed.")
@_status("unfinished", "Only runs that go on, or died.")
@_status("success", "Only runs that succeeded.")
@click.option("--speaker", metavar="SPEAKER", help="Only files of this speaker: an id or a name.")
@model_options
@since_options
@list_options
@pass_manager
def list_history(manager: DatabaseManager, view: View, **filters: Any) -> None:
    """List what was done to which file."""
    with manager:
        view.show(manager.list_rows("history", **view.selection, **filters), "run")


@command(example="voices list-performance --model demucs si_snri:10.. --sort -si_snri")
@click.option("--speaker", metavar="SPEAKER", help="Only files of this speaker: an id or a name.")
@model_options
@since_options
@list_options
@pass_manager
def list_performance(manager: DatabaseManager, view: View, **filters: Any) -> None:
    """List how well and how fast it went."""
    with manager:
        page = manager.list_rows("performance", **view.selection, **filters)
        view.show(page, "measurement")
