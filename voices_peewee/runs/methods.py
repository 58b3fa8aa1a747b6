"""The manager's methods for recording runs."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from voices_peewee.database.store import HasStore, SpeakerKey
from voices_peewee.runs.recorded import KEEP, RunKey
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.runs.run import Tracker


class RunMethods(HasStore):
    """The manager's methods for recording runs."""

    def track(
        self,
        source: str | os.PathLike[str] | ProcessedFile | None = None,
        operation_type: str = "",
        *,
        speaker: SpeakerKey | None = None,
        model_type: str | None = None,
        model_version: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        note: str | None = None,
        model_file: str | os.PathLike[str] | None = None,
    ) -> Tracker:
        """Record what a ``with`` block, or each call of a decorated function, does.

        As a decorator without ``source``, each call's first argument is the source, and a
        function with a parameter named ``run`` is given the run. Coroutines have a block inside.

        Args:
            source: A path, a URL or a ProcessedFile; it is found or added, and need not exist
                or be audio.
            operation_type: What is done, such as ``voice_separation``.
            speaker: Whose voice the source or its outputs hold.
            model_type: The model's name.
            model_version: The model's version.
            parameters: The settings of the run, a JSON object.
            tags: Texts to find the run by.
            note: What people should know of it.
            model_file: The file with the model's weights; its SHA-256 is kept as
                ``model_hash``, so that two checkpoints under one name are told apart.

        Raises:
            InvalidValueError: ``operation_type`` is empty, the parameters are no JSON object, a
                tag or the note is no text; where the run begins, ``model_file`` cannot be read.
        """
        run = locals()
        from voices_peewee.runs.run import Tracker
        from voices_peewee.runs.settings import plain_settings

        return Tracker(self, source, plain_settings(run), speaker, model_file)

    def record_run(
        self,
        source: str | os.PathLike[str] | ProcessedFile,
        operation_type: str,
        *,
        start_time: dt.datetime | str,
        end_time: dt.datetime | str | None = None,
        processing_time: float | None = None,
        success: bool | None = None,
        error_message: str | None = None,
        speaker: SpeakerKey | None = None,
        model_type: str | None = None,
        model_version: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        outputs: Iterable[str | os.PathLike[str] | Mapping[str, Any]] = (),
        metrics: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        tags: Iterable[str] = (),
        note: str | None = None,
        model_file: str | os.PathLike[str] | None = None,
    ) -> ProcessingHistory:
        """Record a run that happened elsewhere, in one transaction; return its first history row.

        Args:
            source: A path, a URL or a ProcessedFile; what is not there is not read.
            operation_type: What was done.
            start_time: When it began (aware, or ISO 8601 text with a zone).
            end_time: When it ended; by default ``start_time`` plus ``processing_time``.
            processing_time: How long it took (s); by default from start to end.
            success: Whether it succeeded; by default where there is no ``error_message``.
            error_message: Why it failed.
            speaker: Whose voice the source or its outputs hold.
            model_type: The model's name.
            model_version: The model's version.
            parameters: The settings of the run, a JSON object.
            outputs: Paths, or mappings of ``path``, ``speaker`` and metrics; without a path they
                are of a voice, the speaker's part of the recording.
            metrics: The metrics of the run, as ``Run.log`` takes them.
            run_id: A name that no other run has; by default a new one.
            tags: Texts to find the run by.
            note: What people should know of it.
            model_file: The file with the model's weights, whose SHA-256 is kept.

        Raises:
            InvalidValueError: A value breaks a rule; nothing was written.
            NotFoundError: There is no such file or speaker.
            AmbiguousNameError: Several speakers have that name.
            TypeError: The source is neither a path nor a ProcessedFile.
        """
        run = {name: value for name, value in locals().items() if name != "self"}
        from voices_peewee.runs.past_runs import record_run

        return record_run(self.store, run)

    def record_runs(self, runs: Iterable[Mapping[str, Any]]) -> int:
        """Record many runs in one transaction, all or none; return how many.

        Args:
            runs: Mappings with the names of ``record_run``'s arguments.

        Raises:
            InvalidValueError: A key is unknown or a value breaks a rule; nothing was written.
            NotFoundError: There is no such file or speaker; nothing was written.
            AmbiguousNameError: Several speakers have that name; nothing was written.
            TypeError: A source is neither a path nor a ProcessedFile.
        """
        from voices_peewee.runs.past_runs import record_runs

        return record_runs(self.store, runs)

    def update_run(
        self, run: RunKey, *, note: str | None = KEEP, tags: Iterable[str] = KEEP
    ) -> str:
        """Change the note or the tags of a run, in all of its rows; return its run_id.

        Args:
            run: An id, a run_id or its beginning, or an object that has one.
            note: The new note; None or an empty text removes it.
            tags: The new tags, in the place of those that it had.

        Raises:
            NotFoundError: There is no such run.
            AmbiguousNameError: Several runs begin like that.
            InvalidValueError: A tag or the note is no text.
        """
        from voices_peewee.runs.recorded import update_run

        return update_run(self.store, run, note=note, tags=tags)

    def close_unfinished(self, *, older_than: dt.timedelta | float | None = None) -> int:
        """Mark runs whose process died as failed, ``interrupted``; return how many.

        Their ``end_time`` is when they last gave a sign: their last output, or else their start.
        A run whose process lives is left alone. What a process on another host did, or a run
        that does not say which process it was, is only closed by age.

        Args:
            older_than: Close only runs whose last sign is older than this (a timedelta, or s).

        Raises:
            InvalidValueError: ``older_than`` is not a time of 0 or more.
        """
        from voices_peewee.runs.claims import close_unfinished

        return close_unfinished(self.store, older_than=older_than)
