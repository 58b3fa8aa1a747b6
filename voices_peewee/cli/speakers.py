"""Commands for speakers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from voices_peewee.cli import completion, options
from voices_peewee.cli.common import (
    command,
    confirm,
    pass_manager,
    plural,
    say,
    say_exported,
    write,
)
from voices_peewee.cli.output import View
from voices_peewee.rendering.table import Column

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.schema.models import Speaker

_TAG_COLUMNS: Final = (Column("tag", "key"), Column("speakers", "count"))

speaker_argument = click.argument("speaker", shell_complete=completion.speakers)
tags_argument = click.argument(
    "tags", nargs=-1, required=True, metavar="TAG...", shell_complete=completion.tags
)


@command(example='voices add-speaker "John Doe" --description "Male speaker" --tag studio')
@click.argument("name")
@click.option("--description", help="Who that is.")
@click.option("--tag", "tags", multiple=True, help="A tag; may be given several times.")
@click.option("--duplicate", is_flag=True, help="Add one even if the name is there already.")
@pass_manager
def add_speaker(manager: DatabaseManager, name: str, **given: Any) -> None:
    """Add a speaker.

    Prints the new id.
    """
    with manager:
        speaker = manager.create_speaker(name, **given)
        say(f"added speaker {speaker.name!r}")
        write([f"{speaker.id}\n"])


@command(example='voices update-speaker "John Doe" --description "Male speaker, baritone"')
@speaker_argument
@click.option("--name", help="The new name.")
@click.option("--description", help="The new description; '' removes it.")
@pass_manager
def update_speaker(
    manager: DatabaseManager, speaker: str, name: str | None, description: str | None
) -> None:
    """Change a speaker's name or description.

    SPEAKER is a name, or id:3.
    """
    changes: dict[str, Any] = {} if name is None else {"name": name}
    if description is not None:
        changes["description"] = description or None
    if not changes:
        raise click.UsageError("nothing to change; give --name or --description")
    with manager:
        say(f"updated {_called(manager.update_speaker(speaker, **changes))}")


@command(example='voices delete-speaker "John Doe" --yes')
@speaker_argument
@options.export_to
@options.yes
@pass_manager
def delete_speaker(
    manager: DatabaseManager, speaker: str, export_to: str | None, *, yes: bool
) -> None:
    """Delete a speaker; the files stay, without a speaker.

    SPEAKER is a name, or id:3. With --export-to the speaker and the files are written first,
    and 'voices import PATH' brings them back.
    """
    with manager:
        found = manager.get_speaker(speaker)
        files = manager.list_rows("files", speaker=found.id, limit=0).total
        fate = f"{plural(files, 'file')} {'stays' if files == 1 else 'stay'}, without a speaker"
        confirm(f"Delete {_called(found)}? {fate}.", yes=yes)
        manager.delete_speaker(found, export_to=export_to)
        say_exported(export_to)
        say(f"deleted {_called(found)}; {fate}")


@command(example='voices add-tags "John Doe" studio male')
@speaker_argument
@tags_argument
@pass_manager
def add_tags(manager: DatabaseManager, speaker: str, tags: tuple[str, ...]) -> None:
    """Add tags to a speaker.

    SPEAKER is a name, or id:3.
    """
    with manager:
        _say_tags(manager.add_tags(speaker, tags))


@command(example='voices remove-tags "John Doe" studio')
@speaker_argument
@tags_argument
@pass_manager
def remove_tags(manager: DatabaseManager, speaker: str, tags: tuple[str, ...]) -> None:
    """Remove tags from a speaker.

    SPEAKER is a name, or id:3.
    """
    with manager:
        _say_tags(manager.remove_tags(speaker, tags))


@command(example="voices list-tags --sort -speakers")
@options.lists
@pass_manager
def list_tags(manager: DatabaseManager, view: View) -> None:
    """List the tags, with how many speakers have them."""
    with manager:
        view.show_records("tag", _TAG_COLUMNS, manager.list_tags().items())


@command(example="voices list-speakers --tag studio --sort -name")
@options.tag(help="Only speakers with this tag.")
@options.since
@options.lists
@pass_manager
def list_speakers(manager: DatabaseManager, view: View, **filters: Any) -> None:
    """List speakers.

    QUERY is words such as tag:studio, ^tag:noisy (not), files:10.. or added:-7d..; a word
    without a field looks in names, descriptions and tags.
    """
    with manager:
        view.show_rows(manager, "speakers", "speaker", **filters)


def _called(speaker: Speaker) -> str:
    return f"speaker {speaker.id} {speaker.name!r}"


def _say_tags(speaker: Speaker) -> None:
    tags = ", ".join(speaker.tags) if speaker.tags else "none"
    say(f"tags of {_called(speaker)}: {tags}")
