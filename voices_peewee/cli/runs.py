"""Commands for runs: what was done, how well, what is left and what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from voices_peewee.cli.common import assignments, command, pass_manager, plural, say
from voices_peewee.cli.view import View, list_options, model_options, since_options, speaker_option

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager


@command(example="voices list-history --failed --since -7d")
@click.option("--failed", is_flag=True, help="Only runs that failed.")
@click.option("--unfinished", is_flag=True, help="Only runs that go on, or whose process died.")
@click.option("--success", is_flag=True, help="Only runs that succeeded.")
@speaker_option
@model_options
@since_options
@list_options
@pass_manager
def list_history(manager: DatabaseManager, view: View, **filters: Any) -> None:
    """List what was done to which file."""
    with manager:
        view.show_rows(manager, "history", "run", **filters)


@command(example="voices list-performance --model demucs si_snri:10.. --sort -si_snri")
@speaker_option
@model_options
@since_options
@list_options
@pass_manager
def list_performance(manager: DatabaseManager, view: View, **filters: Any) -> None:
    """List how well and how fast it went."""
    with manager:
        view.show_rows(manager, "performance", "measurement", **filters)


@command(example="voices pending examples/audio/*.wav --operation separation --model demucs:4.0")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--operation", required=True, metavar="OP", help="What is to be done.")
@click.option("--model", metavar="MODEL", help="By which model: demucs, or demucs:4.0.")
@click.option("--parameters", metavar="JSON", help="With which parameters: a JSON object.")
@click.option(
    "--param",
    metavar="KEY=VALUE",
    multiple=True,
    help="One parameter; may be given several times.",
)
@click.option("-0", "nul", is_flag=True, help="End each path with NUL, for xargs -0.")
@click.option("--json", "as_json", is_flag=True, help="Paths with the reason for each.")
@click.option("--check", is_flag=True, help="Exit 1 if anything is left to do.")
@pass_manager
def pending(
    manager: DatabaseManager,
    paths: tuple[str, ...],
    operation: str,
    model: str | None,
    parameters: str | None,
    param: tuple[str, ...],
    *,
    nul: bool,
    as_json: bool,
    check: bool,
) -> None:
    """Print the files that are still to be processed.

    Those are the files among PATH... that have no successful run of exactly these settings, or
    have changed since. Their paths are printed as they were given, one a line.
    """


@command(example="voices failures --since -7d")
@pass_manager
def failures(manager: DatabaseManager, **filters: Any) -> None:
    """Group the failed runs by their error."""


@command(example="voices show-run 1")
@click.argument("run")
@pass_manager
def show_run(manager: DatabaseManager, run: str) -> None:
    """Show one run whole, with its outputs and its error."""


@command(example="voices close-unfinished --older-than 2d")
@pass_manager
def close_unfinished(manager: DatabaseManager, **filters: Any) -> None:
    """Mark the runs whose process is dead as failed."""
