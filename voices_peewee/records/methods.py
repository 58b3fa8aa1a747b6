"""The manager's methods for speakers and recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from voices_peewee.database.store import FileKey, SpeakerKey
from voices_peewee.errors import AudioError
from voices_peewee.records.speakers import SpeakerMethods
from voices_peewee.schema.models import ProcessedFile

if TYPE_CHECKING:
    from voices_peewee.records.recordings import Added


class RecordMethods(SpeakerMethods):
    """The manager's methods for speakers and recordings."""

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
            path: The file. The same content at the same path is not added twice, nor where the
                path that is recorded is gone: the row keeps that.
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
        from voices_peewee.records.recordings import add_audio, wishes

        known = wishes(self.store, speaker, metadata)
        return add_audio(self.store, path, known, exact=exact).file

    def add_audio_files(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        speaker: SpeakerKey | None = None,
        metadata: Mapping[str, Any] | None = None,
        exact: bool = False,
        batch: int = 50,
        on_error: Callable[[AudioError], None],
    ) -> Iterator[Added]:
        """Record files and the recordings in folders; yield each once it is committed.

        A commit follows ``batch`` files, so that an interrupted call loses no more; calling
        again goes on, since files that did not change are only hashed. What a folder holds of
        the outputs of runs is left out.

        Args:
            paths: Files and folders.
            speaker: Whose voice they are.
            metadata: Values to set in every row.
            exact: Decode the files for their duration.
            batch: How many files to commit at once.
            on_error: Is told of each file that cannot be recorded; the others are kept.

        Raises:
            MissingExtraError: PyAV is not installed.
            NotFoundError: There is no such speaker.
            AmbiguousNameError: Several speakers have that name.
            InvalidValueError: The metadata is no JSON object.
        """
        from voices_peewee.records.recordings import add_audio_files, wishes

        known = wishes(self.store, speaker, metadata)
        return add_audio_files(
            self.store, paths, known, exact=exact, batch=batch, on_error=on_error
        )

    def get_file(self, file: FileKey) -> ProcessedFile:
        """Return a recording by its path, or any file by id or object.

        Raises:
            NotFoundError: There is none.
            AmbiguousNameError: Several recordings have that path.
        """
        return self.store.file(file)
