"""The command that takes the record out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import click

from voices_peewee.cli.common import OutputError, command, pass_manager, plural, say, write_path

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager

_FORMATS: Final = ("jsonl", "json", "csv", "parquet", "sqlite")
_TABLES: Final = ("speakers", "files", "history", "performance")


@command(example="voices export --output voices.jsonl")
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    help="What to write.  [default: as the suffix of PATH says, else jsonl]",
)
@click.option(
    "--output",
    "-o",
    metavar="PATH",
    default="-",
    help="A file, or a folder (DIR/ is made) for a file a table.  [default: -, stdout]",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@click.option("--raw", is_flag=True, help="CSV texts as stored, formulas and all.")
@pass_manager
def export(
    manager: DatabaseManager,
    tables: tuple[str, ...],
    form: str | None,
    output: str,
    *,
    overwrite: bool,
    raw: bool,
) -> None:
    """Write the record or some of its tables to files.

    TABLE is speakers, files, history or performance; without one all are written. What is
    written is one moment of the database, while others may write. Prints the paths of files.
    """
    from voices_peewee.cli.progress import row_bar

    to_terminal = output == "-" and sys.stdout.isatty()
    if to_terminal and form == "parquet":
        raise click.UsageError("parquet is not for a terminal; use --output PATH")
    target = cast("BinaryIO", _Output()) if output == "-" else output
    with manager, row_bar("Exporting", hidden=to_terminal) as progress:
        done = manager.export(
            target,
            tables or None,
            format=form,
            overwrite=overwrite,
            raw=raw,
            progress=progress,
        )
    for path in done.paths:
        write_path(path)
    say("exported " + ", ".join(f"{plural(n, 'row')} of {name}" for name, n in done.rows.items()))


class _Output:
    """The standard output as bytes; what it does not take is an error of its own."""

    closed = False

    def write(self, data: bytes) -> int:
        try:
            return sys.stdout.buffer.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error) from error

    def flush(self) -> None:
        """Leave it to the end of the command."""
