"""The command that draws: a picture in a file, or text in the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from voices_peewee.cli.common import command, pass_manager, write, write_path
from voices_peewee.cli.questions import run_options
from voices_peewee.cli.text import speaks_unicode
from voices_peewee.cli.values import time_bounds

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager

_PIPE: Final = 80  # columns where there is no terminal


@command(example="voices plot paired demucs:4.0 svoice:1.2 -o paired.png")
@click.argument("kind")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Save a picture; the suffix is .png, .svg or .pdf.",
)
@click.option("--terminal", is_flag=True, help="Draw as text too, which is done without -o.")
@click.option(
    "--metric",
    multiple=True,
    metavar="NAME",
    help="What is drawn; a distribution takes up to four.  [default: si_snri, and sdri in a "
    "distribution]",
)
@click.option(
    "--against",
    metavar="COLUMN",
    help="What a scatter is against: duration, sample_rate, channels, file_size or a metric.  "
    "[default: duration]",
)
@click.option(
    "--higher-is-better/--lower-is-better",
    default=None,
    help="The direction of a metric where it is not known.",
)
@run_options
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@pass_manager
def plot(
    manager: DatabaseManager,
    kind: str,
    models: tuple[str, ...],
    output: Path | None,
    metric: tuple[str, ...],
    since: str | None,
    until: str | None,
    *,
    terminal: bool,
    overwrite: bool,
    **filters: Any,
) -> None:
    """Draw a plot: a distribution, paired, scatter or trend.

    KIND is distribution (metrics by model), paired (two models on the same recordings),
    scatter (a metric against the duration or another number) or trend (a metric over time, by
    model version). MODELs narrow it down: demucs, or demucs:4.0; a paired plot is of two.
    """
    question = {"metric": metric or None, **time_bounds(since, until), **filters}
    with manager:
        if output is not None:
            manager.plot(kind, *models, path=output, overwrite=overwrite, **question)
            write_path(output)
        if terminal or output is None:
            write([manager.plot_text(kind, *models, **_terminal(), **question), "\n"])


def _terminal() -> dict[str, Any]:
    """Return what the standard output can show."""
    on_terminal = sys.stdout.isatty()
    return {
        "width": shutil.get_terminal_size().columns if on_terminal else _PIPE,
        "color": on_terminal and not os.environ.get("NO_COLOR"),
        "ascii_only": not speaks_unicode(sys.stdout),
    }
