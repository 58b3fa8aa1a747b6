"""The command that shows the database in the browser."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from voices_peewee.cli.common import command, pass_manager, say, write

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager


@command(example="voices serve --port 8001 --open")
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help="[default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8001,
    metavar="PORT",
    help="0 takes a free one.  [default: 8001]",
)
@click.option("--open", "open_browser", is_flag=True, help="Open the browser.")
@pass_manager
def serve(manager: DatabaseManager, host: str, port: int, *, open_browser: bool) -> None:
    """Show the database in the browser, read-only.

    Prints the address of the start page and answers until Ctrl-C. Others may write
    meanwhile. Needs the extra [web].
    """

    def ready(url: str) -> None:
        say("serving; Ctrl-C ends it")
        write([f"{url}\n"])
        sys.stdout.flush()
        if open_browser:
            click.launch(url)

    with manager:
        from voices_peewee.web import is_open_to_others  # here, where a missing extra is an error

        if is_open_to_others(host):
            say(f"warning: everyone who reaches {host!r} can read all of this database")
        manager.serve(host=host, port=port, on_ready=ready)
