"""Commands for files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import click

from voices_peewee.cli.common import (
    command,
    confirm,
    counted,
    export_to_option,
    pass_manager,
    path_map_option,
    plural,
    progress_bar,
    say,
    say_error,
    say_exported,
    say_some,
    yes_option,
)
from voices_peewee.cli.output import (
    View,
    filter_options,
    list_options,
    speaker_option,
    state_options,
)
from voices_peewee.cli.values import assignments, roots
from voices_peewee.errors import InputError, InvalidValueError
from voices_peewee.rendering.plain import absolute

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.errors import AudioError
    from voices_peewee.schema.models import ProcessedFile


@command(example='voices add-files examples/audio --speaker "John Doe" --metadata session=3')
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--manifest", metavar="FILE", help="A data set's list of recordings.")
@click.option(
    "--manifest-format",
    type=click.Choice(("librimix", "speechbrain", "hf", "kaldi", "lhotse")),
    help="What it is.  [default: as its content says]",
)
@path_map_option
@speaker_option("Whose voice they hold: a name, or id:3.")
@click.option(
    "--metadata",
    metavar="KEY=VALUE",
    multiple=True,
    help="A value to record with each file; may be given several times.",
)
@click.option("--exact", is_flag=True, help="Decode the files whole for their exact duration.")
@pass_manager
def add_files(
    manager: DatabaseManager,
    paths: tuple[str, ...],
    manifest: str | None,
    manifest_format: str | None,
    path_map: tuple[str, ...],
    speaker: str | None,
    metadata: tuple[str, ...],
    *,
    exact: bool,
) -> None:
    """Record audio files and all that are in folders.

    A file that is recorded already is updated if it has changed. Files that cannot be read
    are named, the others are kept, and the exit status is 1.

    FILE is a manifest of LibriMix, SpeechBrain, Hugging Face (metadata.csv or .jsonl), Lhotse,
    or a folder with Kaldi's wav.scp; its references and speakers are recorded too.
    """
    _check_manifest(paths, manifest, others=bool(speaker or metadata or exact))
    if manifest is not None:
        _add_manifest(manager, manifest, manifest_format, roots(path_map))
        return
    if manifest_format or path_map:
        raise click.UsageError("--manifest-format and --path-map need --manifest")
    outcomes: Counter[str] = Counter()

    def failed(error: AudioError) -> None:
        outcomes["failed"] += 1
        say_error(error)

    values = assignments(metadata, "--metadata")
    with manager:
        added = manager.add_audio_files(
            paths, speaker=speaker, metadata=values, exact=exact, on_error=failed
        )
        for one in counted(added, "Adding"):
            outcomes[one.outcome] += 1
    states = ("added", "updated", "unchanged", "failed")
    said = [f"{outcomes[state]:,} {state}" for state in states if outcomes[state]]
    say(", ".join(said) or "no audio files found")
    if outcomes["failed"]:
        click.get_current_context().exit(1)


def _check_manifest(paths: tuple[str, ...], manifest: str | None, *, others: bool) -> None:
    """Refuse files beside a manifest, and neither of them."""
    if manifest is None and not paths:
        raise click.UsageError("name files or folders, or a manifest with --manifest")
    if manifest is not None and (paths or others):
        raise click.UsageError(
            "--manifest stands for itself: no PATH, --speaker, --metadata or --exact"
        )


def _add_manifest(
    manager: DatabaseManager, path: str, form: str | None, path_map: dict[str, str]
) -> None:
    try:
        with manager, progress_bar("Adding") as progress:
            done = manager.add_manifest(path, form, path_map=path_map, on_progress=progress)
    except InputError as error:
        others = [str(problem) for problem in error.problems[1:]]  # the error says the first
        say_some("bad", others, len(others))
        raise
    for note in done.notes:
        say(f"note: {note}")
    if done.absent:
        say(f"note: {plural(done.absent, 'file')} not there; the manifest's word is taken")
    counts = {"added": done.added, "updated": done.updated, "unchanged": done.unchanged}
    said = [f"{count:,} {state}" for state, count in counts.items() if count]
    if done.speakers:
        said.append(plural(done.speakers, "new speaker"))
    say(f"{done.format}: {', '.join(said) or 'nothing to add'}")


@command(example="voices update-file 1 --metadata mood=calm --processed-path stems/1.wav")
@click.argument("file")
@click.option(
    "--metadata",
    metavar="KEY=VALUE",
    multiple=True,
    help="A value to record; may be given several times.",
)
@click.option("--remove-metadata", metavar="KEY", multiple=True, help="A value to forget.")
@click.option("--processed-path", metavar="PATH", help="What was made of it; '' is nothing.")
@speaker_option("Whose voice it holds: a name, or id:3.")
@click.option("--no-speaker", is_flag=True, help="Take the speaker from it.")
@pass_manager
def update_file(
    manager: DatabaseManager,
    file: str,
    metadata: tuple[str, ...],
    remove_metadata: tuple[str, ...],
    processed_path: str | None,
    speaker: str | None,
    *,
    no_speaker: bool,
) -> None:
    """Change what is recorded about a file.

    FILE is an id or a path.
    """
    if not (metadata or remove_metadata or speaker or no_speaker) and processed_path is None:
        raise click.UsageError(
            "nothing to change; give --metadata, --remove-metadata, --processed-path, --speaker "
            "or --no-speaker"
        )
    if speaker and no_speaker:
        raise click.UsageError("--speaker and --no-speaker exclude each other")
    values = assignments(metadata, "--metadata")
    with manager, manager.atomic():
        found = manager.get_file(file)
        kept = _kept(found, remove_metadata)
        changes: dict[str, Any] = {"metadata": {**kept, **values}}
        if processed_path is not None:
            changes["processed_path"] = absolute(processed_path) if processed_path else None
        if speaker or no_speaker:
            changes["speaker"] = manager.get_speaker(speaker) if speaker else None
        say(f"updated {_called(manager.update(found, **changes))}")


def _kept(file: ProcessedFile, removed: Collection[str]) -> dict[str, Any]:
    """Return a file's metadata without some keys."""
    metadata = file.metadata or {}
    if not isinstance(metadata, dict):  # another program wrote it
        what = f"the metadata of file {file.id} is no JSON object; see 'voices check'"
        raise InvalidValueError(what)
    return {name: value for name, value in metadata.items() if name not in removed}


@command(example="voices delete-file 3 --yes")
@click.argument("file")
@export_to_option
@yes_option
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
@state_options
@filter_options
@list_options
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
