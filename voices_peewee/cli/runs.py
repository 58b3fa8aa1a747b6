"""Commands for runs: what was done, how well, what is left and what failed."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voices_peewee.cli import completion, options
from voices_peewee.cli.common import (
    command,
    confirm,
    pass_manager,
    plural,
    say,
    say_exported,
    write_path,
)
from voices_peewee.cli.output import View, write_json, write_rows, write_text
from voices_peewee.rendering.table import Column

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.questions.run_details import RunDetails


@command(example="voices list-history --failed --since -7d")
@options.states
@options.filters
@options.lists
@pass_manager
def list_history(manager: DatabaseManager, view: View, **filters: Any) -> None:
    """List what was done to which file.

    A run has a row for each of its outputs. QUERY is words such as model:demucs:4.0,
    status:failed, started:2026-11.., run:ID or parameters.shifts:2; a word without a field
    looks in names, paths and errors.
    """
    with manager:
        view.show_rows(manager, "history", "row", **filters)


@command(example="voices list-performance --model demucs si_snri:10.. --sort -si_snri")
@options.states
@options.filters
@options.lists
@pass_manager
def list_performance(manager: DatabaseManager, view: View, **filters: Any) -> None:
    """List how well and how fast it went.

    QUERY is words such as si_snri:10.., rtf:..1, model:demucs,svoice (or) or metrics.pesq:2..;
    a word without a field looks in names and paths.
    """
    with manager:
        view.show_rows(manager, "performance", "measurement", **filters)


@command(example="voices pending examples/audio/*.wav --operation separation --model demucs:4.0")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=options.A_PATH)
@options.operation("operation_type", help="What is to be done.", required=True)
@options.one_model(help="By which model: demucs, or demucs:4.0.")
@options.param
@click.option(
    "--model-file", metavar="FILE", type=options.A_PATH, help="Only runs with these weights count."
)
@options.where
@click.option("-0", "nul", is_flag=True, help="End each path with NUL, for xargs -0.")
@options.json
@pass_manager
def pending(
    manager: DatabaseManager,
    paths: tuple[str, ...],
    *,
    nul: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Print the files that are still to be processed.

    Those are the files among PATH... that have no successful run of exactly these settings, or
    have changed since. Their paths are printed as they were given, one a line; JSON has the
    reason for each. A folder stands for the recordings in it. With '-' as a PATH more are read
    from the standard input.
    """
    left = 0
    with manager:
        found = manager.pending(list(sources_of(manager, paths, nul=nul)), **asked)
        if as_json:
            left = write_rows("json", (Column("path"), Column("reason")), found.with_reasons())
        else:
            for path in found:
                write_path(path, end="\0" if nul else "\n")
                left += 1
    working = f", {len(found.workers):,} of them being worked on" if found.workers else ""
    say(f"{plural(left, 'file')} pending{working}")
    if found.unknown:
        say(f"{plural(found.unknown, 'file')} not in the record, so that --where left out")


def sources_of(manager: DatabaseManager, paths: Sequence[str], *, nul: bool) -> Iterable[str]:
    """Return the files, those of folders, and in the place of ``-`` those on standard input."""
    if "-" not in paths and not any(Path(path).is_dir() for path in paths):
        return paths
    return chain.from_iterable(
        _read_paths(nul=nul) if path == "-" else _files(manager, path) for path in paths
    )


def _files(manager: DatabaseManager, path: str) -> Iterable[str]:
    if not Path(path).is_dir():
        return [path]
    from voices_peewee.records.recordings import recordings_in

    return map(str, recordings_in(manager.store, path, say))


def _read_paths(*, nul: bool) -> Iterator[str]:
    """Yield the paths on the standard input; lines may end as Windows ends them."""
    text = sys.stdin.buffer.read()
    if not nul:
        text = text.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    return map(os.fsdecode, filter(None, text.split(b"\0" if nul else b"\n")))


@command(example="voices failures --since -7d")
@options.one_model()
@options.runs
@click.option("--cured", is_flag=True, help="Also runs that a later one made good.")
@options.lists
@pass_manager
def failures(
    manager: DatabaseManager,
    view: View,
    where: tuple[str, ...],
    *,
    cured: bool,
    **asked: Any,
) -> None:
    """Group the failed runs by their error.

    Errors that differ in numbers and paths only are one; its newest run is named as an example,
    see show-run. Runs that a later one of the same settings made good are left out, unless
    --cured or --all is given; --all also shows every error. QUERY is words as list-history
    takes them; a word without a field looks in names, paths and errors.
    """
    with manager:
        all_of_them = cured or view.limit is None
        found = manager.failures(where=[*where, *view.words], all=all_of_them, **asked)
    view = view._replace(words=())
    rows = [[getattr(one, column.name) for column in found.columns] for one in found]
    view.show_records("error", found.columns, rows, default=5)
    if found.cured:
        say(f"{plural(found.cured, 'run')} made good by a later one (--cured to see)")
    if found.without_speaker:
        say(f"{plural(found.without_speaker, 'failed run')} without a speaker left out")


@command(example="voices show-run 1")
@click.argument("run")
@options.json
@pass_manager
def show_run(manager: DatabaseManager, run: str, *, as_json: bool) -> None:
    """Show one run whole, with its outputs and its error.

    RUN is an id, or a run_id or at least its first six characters.
    """
    with manager:
        found = manager.show_run(run)
    if as_json:
        write_json(found.to_dict())
    else:
        write_text(str(found))


@command(example='voices update-run 1 --tag final --note "with the new window"')
@click.argument("run")
@click.option("--note", help="The new note; '' removes it.")
@options.tag(help="A tag to add.")
@click.option("--remove-tag", multiple=True, shell_complete=completion.tags, help="One to remove.")
@pass_manager
def update_run(
    manager: DatabaseManager,
    run: str,
    note: str | None,
    tag: tuple[str, ...],
    remove_tag: tuple[str, ...],
) -> None:
    """Change the note or the tags of a run.

    RUN is an id, or a run_id or at least its first six characters.
    """
    if note is None and not tag and not remove_tag:
        raise click.UsageError("nothing to change; give --note, --tag or --remove-tag")
    with manager, manager.atomic():
        found = manager.show_run(run)
        changes: dict[str, Any] = {} if note is None else {"note": note}
        for name in set(remove_tag) - {*found.tags, *tag}:
            say(f"{_called(found)} has no tag {name!r}")
        tags = tuple(name for name in (*found.tags, *tag) if name not in remove_tag)
        if tags != tuple(found.tags):
            changes["tags"] = tags
        if changes:
            manager.update_run(found, **changes)
            say(f"updated {_called(found)}")


@command(example="voices delete-run 1 --yes")
@click.argument("run")
@options.export_to
@options.yes
@pass_manager
def delete_run(manager: DatabaseManager, run: str, export_to: str | None, *, yes: bool) -> None:
    """Delete a run with what it measured.

    The stems and voices that no other run has, and the votes of listeners on them, go along;
    the recording and all files on the disk stay. RUN is an id, or a run_id or at least its
    first six characters. With --export-to all that goes is written first, and 'voices import
    PATH' brings it back.
    """
    with manager:
        found = manager.show_run(run)
        outputs = sum(row.processed_path is not None for row in found.rows)
        measured = sum(bool(row.metrics) for row in found.rows)
        lost = f"{plural(outputs, 'output')} and {plural(measured, 'measurement')}"
        if found.status == "unfinished":
            say("it has not ended: what it still tells will be refused")
        confirm(f"Delete {_called(found)} with {lost}?", yes=yes)
        manager.delete_run(found, export_to=export_to)
        say_exported(export_to)
        say(f"deleted {_called(found)} with {lost}")


def _called(run: RunDetails) -> str:
    """Return a run as questions name it: its id, what was done, and to which recording."""
    recording = os.path.basename(run.original_path or "") or "a recording"
    return f"run {run.rows[0].history_id}, {run.operation_type} of {recording!r}"


@command(example="voices close-unfinished --older-than 2d")
@click.option(
    "--older-than",
    metavar="TIME",
    callback=options.duration,
    help="Only runs without a sign of life for so long, such as 90m, 36h or 2d.",
)
@pass_manager
def close_unfinished(manager: DatabaseManager, older_than: float | None) -> None:
    """Mark the runs whose process is dead as failed.

    A run whose process lives on this host is left alone. One of another host, or of a process
    that nobody knows, is closed only with --older-than.
    """
    with manager:
        say(f"{plural(manager.close_unfinished(older_than=older_than), 'run')} closed")
