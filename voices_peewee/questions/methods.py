"""The manager's methods for questions."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from voices_peewee.database.store import HasStore
from voices_peewee.errors import InvalidValueError

if TYPE_CHECKING:
    from voices_peewee.database.results import ResultList
    from voices_peewee.database.store import FileKey, SpeakerKey
    from voices_peewee.questions.comparison import Comparison
    from voices_peewee.questions.comparisons import Comparisons
    from voices_peewee.questions.failures import Failures
    from voices_peewee.questions.leaderboard import Leaderboard
    from voices_peewee.questions.outcomes import S
    from voices_peewee.questions.pending import Pending
    from voices_peewee.questions.run_details import RunDetails
    from voices_peewee.questions.selection import Model
    from voices_peewee.questions.watching import Progress
    from voices_peewee.runs.recorded import RunKey
    from voices_peewee.schema.models import ProcessingHistory
    from voices_peewee.search.words import When

    class Narrowed(TypedDict, total=False):
        """Which runs a question is about; ``QuestionMethods`` says what each of them is."""

        operation_type: str | None
        speaker: SpeakerKey | None
        since: When | None
        until: When | None
        where: str | Sequence[str]

    class OfModel(Narrowed, total=False):
        """Which runs of which model a question is about."""

        model_type: str | None
        model_version: str | None

    class Asked(Narrowed, total=False):
        """What a comparison may be asked besides its models."""

        metric: str
        unit: Literal["recording", "speaker", "stem"]
        higher_is_better: bool | None
        confidence: float


class QuestionMethods(HasStore):
    """The manager's methods for questions.

    ``failures``, ``leaderboard`` and ``compare`` may be narrowed to some runs, by keyword: to
    those of an ``operation_type``, a ``model_type`` and ``model_version`` (a comparison names its
    models), a ``speaker`` (an id, name or object), to those that started at ``since`` or later
    and before ``until`` (aware datetimes, or as in a query: ``"yesterday"``, ``"-7d"``,
    ``"2026-01"``, which until includes), and ``where`` query words match, as in a list of the
    history: ``"metadata.room:hall"``. Times and words raise QueryError where they name no field
    or cannot be read; a speaker NotFoundError or AmbiguousNameError; a time without a zone
    InvalidValueError.
    """

    def pending(
        self,
        sources: Iterable[S],
        operation_type: str,
        *,
        model_type: str | None = None,
        model_version: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        model_file: str | os.PathLike[str] | None = None,
        exact: bool = False,
        where: str | Sequence[str] = (),
        claim: bool = False,
        lease: dt.timedelta | float = dt.timedelta(days=1),
    ) -> Pending[S]:
        """Return an iterator of the sources that have no successful run of these settings.

        Sources come in order and as they are asked for, a recording that is named twice comes
        once. The database is read as it goes on, for 500 sources of a list at a time; of an
        iterator, which may wait for files to come, for each.
        Parameters compare as JSON values, the order of keys aside and without ``environment``.

        The reason for a source is what its latest run of these settings came to (``failed``,
        ``unfinished``, ``content changed``), else ``other version or parameters`` where the
        model has another run of this operation, else ``never run``. A file that is gone is not
        said to have changed. What a living process has a run or a claim of is ``being worked
        on``; without ``claim`` it comes all the same.

        With ``claim`` each step hands out, and claims in a transaction of its own, a source that
        nobody works on, so that of many workers no two are given the same. A claim ends with the
        run of that source and these settings, when the iteration is closed without one, or with
        its process. What failed since the iteration began is not handed out by it again.

        Args:
            sources: Paths, URLs or files of the database.
            operation_type: What is to be done.
            model_type: The model's name; None means runs without a model.
            model_version: The model's version; None means runs without a version.
            parameters: The settings; None means none.
            model_file: The file with the model's weights: only runs with these count.
            exact: Compare every file's content; otherwise only where its size or times tell
                that it may have changed since the run began.
            where: Query words about recordings, such as ``tag:noisy``. Sources that the record
                does not know do not match; the iterator's ``unknown`` counts them.
            claim: Claim each source as it is handed out; to look claims nothing.
            lease: For how long (a timedelta, or s) a process on another host is believed to be
                at work without a sign; here a dead process's sources are free at once.

        Raises:
            InvalidValueError: ``operation_type`` or a path is empty, the parameters are no JSON
                object, the lease is no time, or, while iterating, a source is a folder or a
                pattern that matches no file.
            DatabaseError: A source is claimed inside a transaction.
            QueryError: A word names no field, is about runs, or its value cannot be read.
            TypeError: A source is neither a path nor a ProcessedFile, or one stands in the
                place of many.
        """
        from voices_peewee.questions.pending import pending

        return pending(
            self.store,
            sources,
            operation_type,
            model_type=model_type,
            model_version=model_version,
            parameters=parameters,
            model_file=model_file,
            exact=exact,
            where=where,
            claim=claim,
            lease=lease,
        )

    def watch(
        self,
        sources: Iterable[str] | None = None,
        operation_type: str | None = None,
        *,
        model_type: str | None = None,
        model_version: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Iterator[Progress]:
        """Yield how a batch gets on, now and every two seconds, until nothing is left.

        With ``sources`` their recordings are counted, and what is left is what neither has a
        successful run of these settings nor failed; without them the runs that end while they
        are watched, until none goes on.

        Args:
            sources: Paths or URLs.
            operation_type: What is done; needed with ``sources``.
            model_type: By which model; with ``sources``, None means runs without a model.
            model_version: Of which version; as ``model_type``.
            parameters: With which settings; only with ``sources``.

        Raises:
            InvalidValueError: ``operation_type`` is missing beside ``sources``, ``parameters``
                stand without them, or what ``pending`` refuses.
            AudioError: At a path is no file, and the record knows none there.
        """
        from voices_peewee.questions.watching import watch

        if sources is not None and not operation_type:
            raise InvalidValueError("a run needs an operation_type")
        if sources is None and parameters:
            raise InvalidValueError("parameters are asked about only with sources")
        return watch(
            self.store,
            sources,
            operation_type=operation_type,
            model_type=model_type,
            model_version=model_version,
            parameters=parameters,
        )

    def failures(self, *, all: bool = False, **narrowed: Unpack[OfModel]) -> Failures:  # noqa: A002 - the word that users know from the shell
        """Return the failed runs grouped by their error, the most frequent first.

        Errors are alike that differ in numbers, paths and addresses only. A run counts once,
        whatever the number of its outputs. A run is a speaker's if it is of their files, or of
        mixtures of which the references, or else the stems of other runs, are theirs. The
        result's ``cured`` and ``without_speaker`` count the runs that were left out.

        Args:
            all: Also runs that a later one of the same settings made good.
            narrowed: Which runs: operation_type, model_type, model_version, speaker, since,
                until, where, as ``QuestionMethods`` says.

        Raises:
            VoicesError: What narrows it cannot be read, as ``QuestionMethods`` says.
        """
        from voices_peewee.questions.failures import failures

        return failures(self.store, all=all, **narrowed)

    def show_run(self, key: RunKey) -> RunDetails:
        """Return one run whole, with all its outputs.

        Args:
            key: The id of one of its history rows, its ``run_id``, or the first six or more
                characters of it where they are no other's.

        Raises:
            NotFoundError: There is no such run.
            AmbiguousNameError: Several runs begin like that.
        """
        from voices_peewee.questions.run_details import show_run

        return show_run(self.store, key)

    def history(self, file: FileKey) -> ResultList[ProcessingHistory]:
        """Return all that was ever done to a recording, oldest first.

        Found are the runs of its row, its stems and its voices. Their files, speakers and
        measurements are there without further queries.

        Args:
            file: The id of a file, its original path, or the file.

        Raises:
            NotFoundError: There is no such file.
            InvalidValueError: The path is empty.
        """
        from voices_peewee.questions.run_details import history

        return history(self.store, file)

    def leaderboard(
        self,
        metric: str = "si_snri",
        *,
        by: str | Sequence[str] = "model",
        higher_is_better: bool | None = None,
        common: bool = False,
        limit: int | None = None,
        **narrowed: Unpack[OfModel],
    ) -> Leaderboard:
        """Rank models, or other groups of runs, by the mean of a metric over recordings.

        A recording counts once in a group: by the mean over the stems of its latest successful
        run. What belongs to the run, such as its time, counts once a run. What became of the
        other recordings in question is the ``coverage`` of a row.

        Args:
            metric: A column of ``model_performance`` or a name in ``additional_metrics``, in
                any spelling: ``si_snri``, ``SI-SNRi``, ``rtf``.
            by: Fields that make the groups: ``model``, ``speaker``, ``tag``, ``file``, any
                other field, ``parameters.KEY``, ``metadata.KEY``.
            higher_is_better: The metric's direction, needed where it is not known.
            common: Only the recordings that all groups have a value of.
            limit: How many rows to return at most.
            narrowed: Which runs: operation_type, model_type, model_version, speaker, since,
                until, where, as ``QuestionMethods`` says.

        Returns:
            The groups, the best mean first, those without any value last.

        Raises:
            QueryError: A field is unknown, no row has the metric, its direction is not known,
                or a group has runs of several operations.
            VoicesError: What narrows it cannot be read, as ``QuestionMethods`` says.
        """
        from voices_peewee.questions.leaderboard import leaderboard
        from voices_peewee.questions.selection import Runs

        how: dict[str, Any] = {"by": by, "higher_is_better": higher_is_better, "common": common}
        return leaderboard(self.store, metric, limit=limit, runs=Runs(**narrowed), **how)

    @overload
    def compare(self, a: str | Model, b: str | Model, /, **asked: Unpack[Asked]) -> Comparison: ...

    @overload
    def compare(
        self,
        a: str | Model,
        b: str | Model,
        c: str | Model,
        /,
        *more: str | Model,
        **asked: Unpack[Asked],
    ) -> Comparisons: ...

    @overload
    def compare(
        self, *models: str | Model, baseline: str | Model | None, **asked: Unpack[Asked]
    ) -> Comparison | Comparisons: ...

    def compare(
        self,
        *models: str | Model,
        baseline: str | Model | None = None,
        metric: str = "si_snri",
        unit: Literal["recording", "speaker", "stem"] = "recording",
        higher_is_better: bool | None = None,
        confidence: float = 0.95,
        **narrowed: Unpack[Narrowed],
    ) -> Comparison | Comparisons:
        """Compare models on the recordings of which both have a value.

        Of each recording the latest successful run of a side counts; its stems are matched by
        speaker. The interval and the p-value are those of the mean paired difference, by
        Student's t of the units.

        Args:
            models: Two or more: ``"demucs:4.0"``, ``("demucs", "4.0")``, a model of any
                version ``"demucs"``, or query words, of which the first may be a model:
                ``"demucs:4.0 parameters.shifts:1"``.
            baseline: A model that all others are compared with, instead of every pair.
            metric: A column of ``model_performance`` or a name in ``additional_metrics``.
            unit: What counts once: a ``recording``; a ``speaker``, where the claim is about
                speakers that were not recorded yet; or a ``stem``.
            higher_is_better: The metric's direction, needed where it is not known.
            confidence: The share of the interval, between 0 and 1.
            narrowed: Which runs: operation_type, speaker, since, until, where, as
                ``QuestionMethods`` says.

        Returns:
            A ``Comparison`` of two models; ``Comparisons`` of more, adjusted after Holm.

        Raises:
            QueryError: A model, the unit or the metric is unknown, a side has runs of several
                operations, or no stem has a speaker where speakers count.
            VoicesError: What narrows it cannot be read, as ``QuestionMethods`` says.
        """
        from voices_peewee.questions.comparison import compare
        from voices_peewee.questions.selection import Runs

        return compare(
            self.store,
            *models,
            baseline=baseline,
            metric=metric,
            unit=unit,
            higher_is_better=higher_is_better,
            confidence=confidence,
            runs=Runs(**narrowed),
        )
