"""The manager's methods for recording runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from voices_peewee.database.delegated import Delegated
from voices_peewee.database.store import HasStore, SpeakerKey
from voices_peewee.schema.models import ProcessedFile

if TYPE_CHECKING:
    from voices_peewee.runs.tracking import Tracker


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
        environment: bool = False,
    ) -> Tracker:
        """Record what a ``with`` block, or each call of a decorated function, does.

        As a decorator without ``source``, each call's first argument is the source, and a
        function with a parameter named ``run`` is given the run; coroutine functions too.

        Args:
            source: A path, a URL or a ProcessedFile; it is found or added, and need not exist
                or be audio.
            operation_type: What is done, such as ``voice_separation``.
            speaker: Whose voice the source or its outputs hold.
            model_type: The model's name.
            model_version: The model's version.
            parameters: The settings of the run, a JSON object.
            environment: Record Python, host and git commit in ``parameters["environment"]``.

        Raises:
            InvalidValueError: ``operation_type`` is empty, or the parameters are no JSON object.
        """
        from voices_peewee.runs import tracking

        return tracking.track(
            lambda: self.store,
            source,
            operation_type,
            speaker=speaker,
            model_type=model_type,
            model_version=model_version,
            parameters=parameters,
            environment=environment,
        )

    record_run = Delegated("runs.past_runs", "record_run")
    record_runs = Delegated("runs.past_runs", "record_runs")
    close_unfinished = Delegated("runs.tracking", "close_unfinished")
