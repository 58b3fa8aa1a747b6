"""Commands for questions: which model is better, by how much, is it chance, how does it look."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from voices_peewee.cli import completion, options
from voices_peewee.cli.common import command, pass_manager, say, write, write_path
from voices_peewee.cli.output import write_json, write_rows, write_text
from voices_peewee.rendering.plain import speaks_unicode
from voices_peewee.rendering.table import Column

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.questions.comparison import Comparison
    from voices_peewee.questions.comparisons import Comparisons
    from voices_peewee.questions.leaderboard import Leaderboard
    from voices_peewee.questions.tables import Tabular

_UNITS: Final = ("recording", "speaker", "stem")
_PLOTS: Final = ("distribution", "paired", "ranks", "scatter")
_BAR: Final = 8  # places of a terminal
_BAR_COLUMN: Final = Column("bar", "bar", " ", priority=1)


@command(example="voices leaderboard --by model,parameters.shifts metadata.room:hall")
@options.where_words
@options.metric
@options.by(
    default=("model",),
    help="What makes the groups: model, speaker, tag, file, any other field, parameters.KEY, "
    "metadata.KEY.  [default: model]",
)
@click.option(
    "--pivot",
    metavar="DOWN,ACROSS",
    shell_complete=completion.groupings,
    help="The means of two groupings as a table.",
)
@click.option("--common", is_flag=True, help="Only the recordings that all groups have a value of.")
@options.one_model()
@options.runs
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N groups.")
@options.styles
@pass_manager
def leaderboard(
    manager: DatabaseManager, by: str, pivot: str | None, style: str | None, **asked: Any
) -> None:
    """Rank models by a metric.

    A recording counts once: by the mean over the stems of its latest successful run. The
    interval is that of the mean, by Student's t; SDRi, real-time factor and memory are means.
    """
    with manager:
        board = manager.leaderboard(by=pivot or by, **asked)
        if pivot:
            table = board.pivot()
            columns, rows = table.cells()
            names = [column.name for column in columns]
            facts = [dict(zip(names, row, strict=True)) for row in rows]
            _show(table, style, lambda: facts, lambda: _show_table(table, columns, rows))
        else:
            _show(board, style, board.to_dicts, lambda: _show_board(board))
        if style == "json":  # in whose rows they have no place
            say(*board.notes)


def _show(
    found: Tabular, style: str | None, facts: Callable[[], object], as_text: Callable[[], None]
) -> None:
    if style is None:
        as_text()
    elif style == "json":
        write_json(facts())
    else:
        write([found.to_markdown() if style == "md" else found.to_latex()])


def _show_table(found: Tabular, columns: Sequence[Column], rows: Sequence[Any]) -> None:
    """Write a table; its title, and what else has to be said, go to stderr."""
    say(found.title)
    if rows:
        write_rows("table", columns, rows)
    say(*found.said(rows))


def _show_board(board: Leaderboard) -> None:
    columns, rows = board.cells()
    keys = sum(column.kind == "key" for column in columns)
    bars = _bars([row.mean for row in board])
    rows = [(*row[:keys], bar, *row[keys:]) for row, bar in zip(rows, bars, strict=True)]
    _show_table(board, [*columns[:keys], _BAR_COLUMN, *columns[keys:]], rows)


def _bars(values: Sequence[float | None]) -> list[str]:
    """Return a bar for each value, from zero, or from the lowest one below it."""
    block = "█" if speaks_unicode(sys.stdout) else "#"
    known = [value for value in values if value is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    scale = _BAR / ((high - low) or 1)
    return ["" if value is None else block * round((value - low) * scale) for value in values]


def _show_comparison(found: Comparison | Comparisons) -> None:
    """Write a comparison; the table of several models loses columns where there is no room."""
    from voices_peewee.questions.comparisons import Comparisons

    if isinstance(found, Comparisons):
        write_text(found.title)
        write_rows("table", *found.cells())
        write_text("\n".join([*found.more(), *found.notes]))
    else:
        write_text(str(found))


def _say_unit(_: click.Context, __: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(f"use --unit {value}")


@command(example="voices compare demucs:4.0 svoice:1.2 --metric si_snri")
@click.argument(
    "models",
    nargs=-1,
    required=True,
    metavar="A B [C]...",
    shell_complete=completion.models,
)
@options.metric
@click.option(
    "--unit",
    type=click.Choice(_UNITS),
    default="recording",
    help="What counts once: speaker, where the claim is about speakers that were not recorded "
    "yet.  [default: recording]",
)
@click.option("--cluster", hidden=True, expose_value=False, callback=_say_unit)
@options.baseline
@click.option(
    "--fail-if-worse",
    type=float,
    metavar="M",
    help="Exit 1 if the interval shows that B is worse than A by more than M, in the metric's "
    "unit.",
)
@click.option(
    "--require-not-worse",
    type=float,
    metavar="M",
    help="Exit 1 unless it shows that B is not worse by more than M (non-inferiority).",
)
@click.option(
    "--allow-lost",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Of A's recordings so many may have no value of B before these two exit 1.  [default: 0]",
)
@options.runs
@options.styles
@pass_manager
def compare(
    manager: DatabaseManager, models: tuple[str, ...], style: str | None, **asked: Any
) -> None:
    """Compare models on the recordings that they share.

    A, B and more are models, with or without a version, or query words in quotes, of which
    the first may be a model: "demucs:4.0 parameters.shifts:1". Differences are B - A. The
    interval and the p-value are those of the mean difference of recordings, by Student's t;
    of three models and more, p-values are adjusted for their number (Holm).
    """
    from voices_peewee.questions.gate import Gate

    gate = Gate(*(asked.pop(name) for name in ("fail_if_worse", "require_not_worse", "allow_lost")))
    gate.check(models, asked["baseline"])
    with manager:
        found = manager.compare(*models, **asked)
    _show(found, style, found.to_dict, lambda: _show_comparison(found))
    if gate.is_set:
        reasons, remarks = gate.judge(found)
        say(*remarks, *reasons)
        if reasons:
            click.get_current_context().exit(1)


@command(example="voices plot paired demucs:4.0 svoice:1.2 -o paired.png")
@click.argument("kind", shell_complete=completion.one_of(*_PLOTS))
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=completion.models)
@options.output(help="Where the picture goes; the suffix is .png, .svg or .pdf.", required=True)
@click.option(
    "--metric",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.metrics,
    help="What is drawn; a distribution takes up to four.  [default: si_snri, and sdri in a "
    "distribution]",
)
@click.option(
    "--against",
    metavar="COLUMN",
    shell_complete=completion.against,
    help="What a scatter is against: duration, sample_rate, channels, file_size or a metric.  "
    "[default: duration]",
)
@options.direction
@options.runs
@options.overwrite
@pass_manager
def plot(
    manager: DatabaseManager,
    kind: str,
    models: tuple[str, ...],
    output: Path,
    metric: tuple[str, ...],
    **asked: Any,
) -> None:
    """Draw a plot: a distribution, paired, ranks or scatter.

    KIND is distribution (metrics by model), paired (two models on the same recordings), ranks
    (mean ranks on the recordings that all have, joined where they cannot be told apart) or
    scatter (a metric of each run against the duration or another number). MODELs narrow it
    down: demucs, or demucs:4.0; a paired plot is of two.
    """
    with manager:
        manager.plot(kind, *models, path=output, metric=metric or None, **asked)
        write_path(output)


@command(example="voices report -o report.html --no-audio")
@options.where_words
@options.output(help="Where the page goes.", required=True)
@options.metric
@options.by(help="Conditions, such as metadata.room.")
@options.baseline
@click.option("--hosts", is_flag=True, help="Name the hosts that runs were made on.")
@click.option("--embed", is_flag=True, help="Put the sounds into the page instead of links.")
@click.option("--no-audio", is_flag=True, help="No players.")
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
def report(manager: DatabaseManager, output: Path, by: str, **asked: Any) -> None:
    """Write one page to send: tables, pictures and players.

    The page is one HTML file and asks nothing of the network. Sounds are links to the files,
    unless they are put into it.
    """
    asked["audio"] = not asked.pop("no_audio")
    asked["max_size"] *= 1_000_000
    with manager:
        write_path(manager.report(output, by=tuple(filter(None, by.split(","))), **asked))
