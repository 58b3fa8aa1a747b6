"""Commands for questions: which model is better, by how much, is it chance, how does it look."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from voices_peewee.cli.common import command, pass_manager, say, write_path
from voices_peewee.cli.values import split_model, time_bounds
from voices_peewee.cli.view import options, since_options
from voices_peewee.rendering.plain import speaks_unicode
from voices_peewee.rendering.table import Column

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.questions.comparison import Comparison
    from voices_peewee.questions.leaderboard import Leaderboard

_BAR: Final = 8  # places of a terminal
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_MODEL: Final = ("model_type", "model_version")
_NUMBERS: Final = (
    Column("n", "count"),
    Column("failures", "count", "failed"),
    Column("mean", "metric"),
    Column("margin", "metric", "±95 %"),
    Column("median", "metric"),
    Column("stdev", "metric", "SD"),
    Column("sdri", "fixed", "SDRi"),
    Column("real_time_factor", "number", "RTF"),
    Column("memory_usage", "rounded", "MB"),
)

metric_options = options(
    click.option("--metric", default="si_snri", metavar="NAME", help="[default: si_snri]"),
    click.option(
        "--higher-is-better/--lower-is-better",
        default=None,
        help="The direction of a metric where it is not known.",
    ),
)
run_options = options(
    click.option("--operation", "operation_type", metavar="OP", help="Only this operation."),
    click.option(
        "--speaker", metavar="SPEAKER", help="Only recordings of this speaker: an id or a name."
    ),
    since_options,
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


@command(example="voices leaderboard --by model,speaker")
@metric_options
@click.option(
    "--by",
    default="model",
    metavar="FIELDS",
    help="What makes the groups: model, model_type, model_version, speaker, operation_type, "
    "file, file_format.  [default: model]",
)
@click.option("--model", metavar="MODEL", help="Only this model: demucs, or demucs:4.0.")
@run_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N groups.")
@json_option
@pass_manager
def leaderboard(
    manager: DatabaseManager,
    by: str,
    model: str | None,
    since: str | None,
    until: str | None,
    *,
    as_json: bool,
    **filters: Any,
) -> None:
    """Rank models by a metric.

    Every measurement of a successful run counts. The interval is that of the mean, by
    Student's t; SDRi, real-time factor and memory are means.
    """
    from voices_peewee.cli.output import write_json

    fields = [field for name in by.split(",") for field in _fields(name.strip())]
    with manager:
        board = manager.leaderboard(
            by=fields, **split_model(model), **time_bounds(since, until), **filters
        )
    if as_json:
        write_json(board.to_dicts())
    else:
        _show_board(board)


def _fields(name: str) -> Sequence[str]:
    return _MODEL if name == "model" else (name,)


def _show_board(board: Leaderboard) -> None:
    """Write a table; a label that all rows share stands in the title, on stderr."""
    from voices_peewee.cli.output import write_rows

    labels = _labels(board)
    shared = [name for name, each in labels.items() if len(board) > 1 and len({*each}) == 1]
    order = "highest" if board.higher_is_better else "lowest"
    metric = f"{board.metric} ({board.unit})" if board.unit else board.metric
    say(
        ", ".join(
            [metric, f"{order} mean first", *(f"{name} {labels[name][0]}" for name in shared)]
        )
    )
    shown = [(Column(name), each) for name, each in labels.items() if name not in shared]
    bars = _bars([row.mean for row in board.rows])
    columns = [*shown, (Column("bar", "bar", " "), bars), *_numbers(board)]
    rows = zip(*(values for _, values in columns), strict=True)
    write_rows("table", [column for column, _ in columns], rows)
    if not board.rows:
        say("no measurements")


def _labels(board: Leaderboard) -> dict[str, list[str]]:
    """Return the columns that say what each group is; a model and its version are one."""
    values = {name: [row.key[place] for row in board] for place, name in enumerate(board.by)}
    labels: dict[str, list[str]] = {}
    for name, column in values.items():
        if name == "model_type" and "model_version" in values:
            pairs = zip(column, values["model_version"], strict=True)
            labels["model"] = [_label(model, version) for model, version in pairs]
        elif name != "model_version" or "model_type" not in values:
            labels[name.replace("_", " ")] = [value or "-" for value in column]
    return labels


def _label(model: str | None, version: str | None) -> str:
    return (model or "-") if version is None else f"{model or '-'}:{version}"


def _numbers(board: Leaderboard) -> Iterator[tuple[Column, Sequence[object]]]:
    """Yield the columns that say something: not what nobody measured, and no zero failures."""
    kinds = {"metric": "fixed" if board.unit == "dB" else "number"}
    for column in _NUMBERS:
        values = [getattr(row, column.name) for row in board.rows]
        empty = 0 if column.name == "failures" else None
        if any(value != empty for value in values):
            kind = kinds.get(column.kind, column.kind)
            yield Column(column.name, kind, column.title), values


def _bars(values: Sequence[float | None]) -> list[str]:
    """Return a bar for each value, from zero, or from the lowest one below it."""
    known = [value for value in values if value is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    return [_bar(0 if value is None else (value - low) / ((high - low) or 1)) for value in values]


def _bar(share: float) -> str:
    if not speaks_unicode(sys.stdout):
        return "#" * round(share * _BAR)
    whole, eighths = divmod(round(share * _BAR * 8), 8)
    return "█" * whole + _EIGHTHS[eighths].strip()


@command(example="voices compare demucs:4.0 svoice:1.2 --metric si_snri")
@click.argument("a")
@click.argument("b")
@metric_options
@click.option(
    "--cluster",
    type=click.Choice(["speaker"]),
    help="Resample speakers, not recordings, since those of one speaker are alike.",
)
@click.option(
    "--fail-if-worse",
    type=float,
    metavar="X",
    help="Exit 1 if B is worse than A by more than X, in the metric's unit, or if no recording "
    "was processed by both.",
)
@run_options
@json_option
@pass_manager
def compare(
    manager: DatabaseManager,
    a: str,
    b: str,
    since: str | None,
    until: str | None,
    *,
    fail_if_worse: float | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Compare two models on what both have processed.

    A and B are models, with or without a version: demucs:4.0. Differences are B - A. The
    interval is that of the mean difference, by bootstrap; the p-value is that of Wilcoxon's
    signed-rank test.
    """
    from voices_peewee.cli.output import write_json, write_text

    with manager:
        result = manager.compare(a, b, **time_bounds(since, until), **filters)
    if as_json:
        write_json(result.to_dict())
    else:
        write_text(str(result))
    if fail_if_worse is not None:
        _fail_if_worse(result, fail_if_worse)


def _fail_if_worse(result: Comparison, margin: float) -> None:
    """Exit 1 if B is worse by more than a margin, or if nobody can tell."""
    if result.worse_by is not None and result.worse_by <= margin:
        return
    if result.worse_by is None:
        say("no recording was processed by both")
    else:
        unit = f" {result.unit}" if result.unit else ""
        say(f"{result.b} is worse by {result.worse_by:.4g}{unit}, more than {margin:g}")
    click.get_current_context().exit(1)


@command(example="voices plot paired demucs:4.0 svoice:1.2 -o paired.png")
@click.argument("kind")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Where the picture goes; the suffix is .png, .svg or .pdf.",
)
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
    output: Path,
    metric: tuple[str, ...],
    since: str | None,
    until: str | None,
    *,
    overwrite: bool,
    **filters: Any,
) -> None:
    """Draw a plot: a distribution, paired or scatter.

    KIND is distribution (metrics by model), paired (two models on the same recordings) or
    scatter (a metric of each run against the duration or another number). MODELs narrow it
    down: demucs, or demucs:4.0; a paired plot is of two.
    """
    question = {"metric": metric or None, **time_bounds(since, until), **filters}
    with manager:
        manager.plot(kind, *models, path=output, overwrite=overwrite, **question)
        write_path(output)
