"""Deleting records, and writing first what goes."""

from __future__ import annotations

import os

from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.schema.models import BaseModel


def delete(
    store: Store, instance: BaseModel, *, export_to: str | os.PathLike[str] | None = None
) -> None:
    """Delete a record. A speaker's files stay; a file's runs and their measurements go along.

    Args:
        instance: The record.
        export_to: A new file for the record, what goes along or changes, and what these rows
            refer to, as JSON lines; it is written in the transaction of the deletion.

    Raises:
        NotFoundError: The record is not in the database.
        ExportError: The file is there, cannot be written, or is named as what is no JSON lines;
            nothing was deleted.
        DatabaseFullError: The disk is full; nothing was deleted.
    """
    if export_to is None:
        store.delete(instance)
        return
    from voices_peewee.exchange.export import export_and_delete

    export_and_delete(store, instance, export_to)


def delete_speaker(
    store: Store, speaker: SpeakerKey, *, export_to: str | os.PathLike[str] | None = None
) -> None:
    """Delete a speaker; the speaker's files stay, without a speaker.

    Args:
        speaker: An id, a name or an object.
        export_to: A new file for the speaker and the files, as JSON lines.

    Raises:
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several have that name.
        ExportError: The file is there, cannot be written, or is named as what is no JSON lines;
            nothing was deleted.
        DatabaseFullError: The disk is full; nothing was deleted.
    """
    delete(store, store.speaker(speaker), export_to=export_to)
