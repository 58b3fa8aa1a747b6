"""Commands for files."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click

from voices_peewee.cli import options
from voices_peewee.cli.common import (
    command,
    confirm,
    pass_manager,
    plural,
    progress_bar,
    said,
    say,
    say_exported,
)
from voices_peewee.cli.output import View
from voices_peewee.rendering.plain import absolute

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.errors import AudioError
    from voices_peewee.schema.models import ProcessedFile

_OUTCOMES: Final = ("added", "updated", "unchanged", "moved", "failed")

metadata_option = click.option(
    "--metadata",
    metavar="KEY=VALUE",
    multiple=True,
    callback=options.assignments,
    help="A value to record; may be given several times.",
)


@command(example='voices add-files examples/audio --speaker "John Doe" --metadata session=3')
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=options.A_PATH)
@click.option(
    "--manifest", metavar="FILE", type=options.A_PATH, help="A data set's list of recordings."
)
@click.option(
    "--manifest-format",
    type=click.Choice(("librimix", "speechbrain", "hf", "kaldi", "lhotse")),
    help="What it is.  [default: as its content says]",
)
@options.path_map
@options.speaker(help="Whose voice they hold: a name, or id:3.")
@metadata_option
@click.option("--exact", is_flag=True, help="Decode the files whole for their exact duration.")
@pass_manager
def add_files(
    manager: DatabaseManager,
    paths: tuple[str, ...],
    manifest: str | None,
    manifest_format: str | None,
    path_map: dict[str, str],
    **given: Any,
) -> None:
    """Record audio files and all that are in folders.

    A file that is recorded already is updated if it has changed. Files that cannot be read
    are named, the others are kept, and the exit status is 1.

    FILE is a manifest of LibriMix, SpeechBrain, Hugging Face (metadata.csv or .jsonl), Lhotse,
    or a folder with Kaldi's wav.scp; its references and speakers are recorded too.
    """
    if bool(paths) == (manifest is not None):
        raise click.UsageError("name files and folders, or a manifest with --manifest")
    if manifest is not None and any(given.values()):
        raise click.UsageError("--speaker, --metadata and --exact are for files, not a manifest")
    if manifest is not None:
        _add_manifest(manager, manifest, manifest_format, path_map)
    elif manifest_format or path_map:
        raise click.UsageError("--manifest-format and --path-map need --manifest")
    else:
        _add_audio(manager, paths, **given)


def _add_audio(manager: DatabaseManager, paths: tuple[str, ...], **given: Any) -> None:
    counts: Counter[str] = Counter()

    def failed(error: AudioError) -> None:
        counts["failed"] += 1
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)  # in the place of the bar
        say(f"Error: {error}")

    with manager:
        added = manager.add_audio_files(paths, on_error=failed, **given)
        hidden = not sys.stderr.isatty()
        with click.progressbar(
            added, label="Adding", file=sys.stderr, hidden=hidden, show_pos=True
        ) as bar:
            counts.update(one.outcome for one in bar)
    say(said({state: counts[state] for state in _OUTCOMES}) or "no recordings found")
    _say_moved(counts["moved"])
    if counts["failed"]:
        click.get_current_context().exit(1)


def _add_manifest(
    manager: DatabaseManager, path: str, form: str | None, path_map: dict[str, str]
) -> None:
    with manager, progress_bar("Adding") as progress:
        done = manager.add_manifest(path, form, path_map=path_map, on_progress=progress)
    say(*(f"note: {note}" for note in done.notes))
    if done.absent:
        say(f"note: {plural(done.absent, 'file')} not there; the manifest's word is taken")
    counts = {state: getattr(done, state, 0) for state in _OUTCOMES}
    counts["new speaker" if done.speakers == 1 else "new speakers"] = done.speakers
    say(f"{done.format}: {said(counts) or 'nothing to add'}")
    _say_moved(done.moved)


def _say_moved(count: int) -> None:
    if count:
        say("note: the record has their old paths; see voices check --files --path-map OLD=NEW")


@command(example="voices update-file 1 --metadata mood=calm --processed-path stems/1.wav")
@click.argument("file", type=options.A_PATH)
@metadata_option
@click.option("--processed-path", metavar="PATH", help="What was made of it; '' is nothing.")
@options.speaker(help="Whose voice it holds: a name, or id:3.")
@click.option("--no-speaker", is_flag=True, help="Take the speaker from it.")
@pass_manager
def update_file(
    manager: DatabaseManager,
    file: str,
    metadata: dict[str, object],
    processed_path: str | None,
    speaker: str | None,
    *,
    no_speaker: bool,
) -> None:
    """Change what is recorded about a file.

    FILE is an id or a path.
    """
    if not (metadata or speaker or no_speaker) and processed_path is None:
        raise click.UsageError(
            "nothing to change; give --metadata, --processed-path, --speaker or --no-speaker"
        )
    if speaker and no_speaker:
        raise click.UsageError("--speaker and --no-speaker exclude each other")
    from voices_peewee.records.recordings import merged

    with manager, manager.atomic():
        found = manager.get_file(file)
        changes: dict[str, Any] = {"metadata": merged(found, metadata)} if metadata else {}
        if processed_path is not None:
            changes["processed_path"] = absolute(processed_path) if processed_path else None
        if speaker or no_speaker:
            changes["speaker"] = manager.get_speaker(speaker) if speaker else None
        say(f"updated {_called(manager.update(found, **changes))}")


@command(example="voices delete-file 3 --yes")
@click.argument("file", type=options.A_PATH)
@options.export_to
@options.yes
@pass_manager
def delete_file(manager: DatabaseManager, file: str, export_to: str | None, *, yes: bool) -> None:
    """Delete the record of a file, with its runs.

    The audio stays on the disk. FILE is an id or a path. With --export-to all that goes is
    written first, and 'voices import PATH' brings it back.
    """
    with manager:
        found = manager.get_file(file)
        lost = _runs_of(manager, found)
        confirm(f"Delete {_called(found)} with {lost}?", yes=yes)
        manager.delete(found, export_to=export_to)
        say_exported(export_to)
        say(f"deleted {_called(found)} with {lost}")


@command(example='voices list-files --speaker "John Doe" duration:2.. --sort -duration')
@options.states
@options.filters
@options.lists
@pass_manager
def list_files(manager: DatabaseManager, view: View, **filters: Any) -> None:
    """List files.

    QUERY is words such as duration:2..4, format:wav,flac (or), ^speaker:Ada (not),
    kind:recording or status:failed; a word without a field looks in names and paths.
    """
    with manager:
        view.show_rows(manager, "files", "file", **filters)


def _called(file: ProcessedFile) -> str:
    return f"file {file.id} {file.filename!r}"


def _runs_of(manager: DatabaseManager, file: ProcessedFile) -> str:
    """Say how many runs go with a file and its outputs, and how many rows were measured."""
    runs: set[object] = set()
    measured = 0
    for word in (f"file_id:{file.id}", f"recording_id:{file.id}"):
        columns = ["run_id", "additional_metrics"]  # of a row that was not measured it is None
        for run_id, metrics in manager.list_rows("history", [word], limit=None, columns=columns):
            runs.add(run_id)
            measured += metrics is not None
    return f"{plural(len(runs), 'run')} and {plural(measured, 'measurement')}"
