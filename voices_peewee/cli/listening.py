"""The command of blind listening tests: the page, the votes, what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from voices_peewee.cli import completion, options
from voices_peewee.cli.common import command, pass_manager, plural, said, say, say_some, write_path
from voices_peewee.cli.output import write_json, write_text

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager

_SOME: Final = click.IntRange(1)
_ANY: Final = click.IntRange(0)
_LONG: Final = click.FloatRange(0.5, 60)
_BESIDE: Final = click.Choice(("mixture", "reference", "nothing"))
_CODEC: Final = "Opus (96 kbit/s) may hide artefacts.  [default: flac]"


@command(example="voices listen demucs:4.0 svoice:1.2 -o test.html")
@click.argument("models", nargs=-1, metavar="[A B]...", shell_complete=completion.models)
@options.output(help="Where the page goes.")
@click.option(
    "--import",
    "votes",
    multiple=True,
    metavar="FILE",
    type=options.A_PATH,
    help="Votes; '-' is stdin.",
)
@click.option("--results", is_flag=True, help="Show what the votes say.")
@options.json
@click.option("--dry-run", is_flag=True, help="Say what would be heard, and write nothing.")
@click.option("--trials", default=20, type=_SOME, metavar="N", help="[default: 20]")
@click.option("--seconds", default=5.0, type=_LONG, metavar="S", help="[default: 5]")
@click.option("--seed", type=int, metavar="N", help="Makes the same test again.")
@click.option("--beside", type=_BESIDE, default="mixture", help="What X is.  [default: mixture]")
@click.option("--question", metavar="TEXT", help="What listeners are asked.")
@click.option(
    "--catch", type=_ANY, metavar="N", help="Trials whose answer is known.  [default: 3 in 20]"
)
@click.option("--repeat", type=_ANY, metavar="N", help="Trials again.  [default: 2 in 20]")
@click.option("--codec", type=click.Choice(("flac", "opus")), default="flac", help=_CODEC)
@click.option("--max-size", default=25, type=_SOME, metavar="MB", help="[default: 25]")
@options.runs
@options.overwrite
@pass_manager
def listen(
    manager: DatabaseManager,
    models: tuple[str, ...],
    output: Path | None,
    votes: tuple[str, ...],
    max_size: int,
    *,
    results: bool,
    as_json: bool,
    dry_run: bool,
    **wish: Any,
) -> None:
    """Let people listen: a blind test of models' stems.

    Writes a page that plays stems of two to six models side by side and tells no model. It
    works from a mail, without a server. Listeners send a file of votes back, which --import
    takes into the record, once each. --results says which model they prefer, how sure that
    is, and what SI-SNRi says of it; so does 'compare --metric preference'.
    """
    if bool(models) + bool(votes) + results != 1:
        raise click.UsageError("name two models or more, or use --import, or --results")
    if models and output is not None and dry_run:
        raise click.UsageError("--output and --dry-run exclude each other")
    if models and output is None and not dry_run:
        raise click.UsageError("a test needs --output, or --dry-run")
    with manager:
        for file in votes:
            say(f"votes of {file!r}: {said(manager.import_votes(file)) or 'none'}")
        if results:
            _show_results(manager, as_json=as_json)
        if models:
            wish["max_size"] = max_size * 1_000_000
            _say_test(manager.listen(*models, path=output, **wish))


def _show_results(manager: DatabaseManager, *, as_json: bool) -> None:
    found = manager.listening_results()
    if as_json:
        write_json([test.to_dict() for test in found])
    elif found:
        write_text("\n\n".join(map(str, found)))
    else:
        say("no votes yet; 'voices listen A B -o test.html' makes a test")


def _say_test(done: Any) -> None:
    say_some("left out", done.left_out)
    say(*(f"warning: {late}" for late in done.lags))
    if done.path is None:
        write_text("\n".join(done.trials))
    else:
        write_path(done.path)
    say(f"test {done.test}: {plural(len(done.trials), 'trial')}, seed {done.seed}")
