"""The manager's methods for recordings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from voices_peewee.database.delegated import Delegated
from voices_peewee.database.store import FileKey, HasStore, SpeakerKey
from voices_peewee.schema.models import ProcessedFile


class RecordingMethods(HasStore):
    """The manager's methods for recordings."""

    def add_audio(
        self,
        path: str | os.PathLike[str],
        *,
        speaker: SpeakerKey | None = None,
        metadata: Mapping[str, Any] | None = None,
        exact: bool = False,
    ) -> ProcessedFile:
        """Record an audio file, or bring its row up to date, and return the row.

        Args:
            path: The file; the same content at the same path is not added twice.
            speaker: Whose voice it is.
            metadata: Values to set among those that the row has.
            exact: Decode the whole file for its duration.

        Raises:
            AudioError: The file cannot be read or is not audio.
            MissingExtraError: PyAV is not installed.
            NotFoundError: There is no such speaker.
            AmbiguousNameError: Several speakers have that name.
            InvalidValueError: The metadata is no JSON object.
        """
        from voices_peewee.records.recordings import add_audio

        return add_audio(self.store, path, speaker=speaker, metadata=metadata, exact=exact).file

    def get_file(self, file: FileKey) -> ProcessedFile:
        """Return a file by id, original path or object.

        Raises:
            NotFoundError: There is none.
            AmbiguousNameError: Several rows have that original path.
        """
        return self.store.file(file)

    add_audio_files = Delegated("records.recordings", "add_audio_files")
