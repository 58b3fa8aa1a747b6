"""Recording a run while it happens: ``track`` around a block or a function.

A run is one row of history for each output, or one row without any; all share ``run_id``. What
is known is in the database at once: the row at the start, each output when it is told, the rest
at the end. A killed process therefore leaves an unfinished run, with the outputs it had told.
"""

from __future__ import annotations

import functools
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from voices_peewee.database.store import HasStore, SpeakerKey, Store, plain
from voices_peewee.errors import (
    AmbiguousNameError,
    DatabaseError,
    InvalidValueError,
    NotFoundError,
    VoicesError,
)
from voices_peewee.records.audio import AnyPath
from voices_peewee.records.audio_files import own_facts
from voices_peewee.records.sources import look, speaker_id
from voices_peewee.rendering.plain import locate
from voices_peewee.runs import claims
from voices_peewee.runs.environment import surroundings
from voices_peewee.runs.meter import Meter, Timing
from voices_peewee.runs.metrics import Metrics, MetricWarning
from voices_peewee.runs.process import process_facts
from voices_peewee.runs.rows import Ending, LiveRows, Output, new_stem
from voices_peewee.runs.settings import failure, model_hash
from voices_peewee.runs.spool import SpoolWarning, kept
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import ProcessedFile, Speaker, new_run_id

F = TypeVar("F", bound=Callable[..., Any])

_TOLD_LATER: Final = "the output is written when the run ends"
_IN_TRANSACTION: Final = (
    "this run begins inside a transaction: if that is rolled back, as by an exception that leaves "
    "it, the run leaves no trace"
)


class OutputWarning(UserWarning):
    """An output was told before in its run, of another speaker or with other numbers.

    Or its path is another run's too; that is said once for each pair of models.
    """


class SpeakerWarning(UserWarning):
    """An output's speaker is not in the record; the output is kept with the name."""


class TransactionWarning(UserWarning):
    """A run begins inside a transaction."""


class Run:
    """A run that is being recorded; ``run_id`` names it, ``parameters`` are as recorded.

    Metrics that ``log`` is given are the run's, as is what was measured: processing time, CPU,
    memory and real-time factor. They are in every row of the run, and
    ``additional_metrics["run"]`` lists the names of what was logged. Metrics that ``output`` is
    given are that output's and come before the run's in its row.

    A run may be used by many threads, but only by the process that began it.
    """

    def __init__(
        self,
        store: Store,
        source: AnyPath | ProcessedFile,
        settings: Mapping[str, Any],
        speaker: SpeakerKey | None,
    ) -> None:
        place = source if isinstance(source, ProcessedFile) else locate(source)
        self.run_id = new_run_id()
        self.parameters = settings["parameters"]
        self._store, self._lock = store, threading.RLock()  # a signal handler may log
        self._warned = set[str]()
        self._pid, self._is_over = os.getpid(), False
        if store.database.in_transaction():
            warnings.warn(_IN_TRANSACTION, TransactionWarning, stacklevel=4)
        whose = self._store.retrying(speaker_id, store, speaker) if speaker is not None else None
        found, here = store.retrying(look, store, place), surroundings()
        self.start_time = utc_now()
        history = {
            "run_id": self.run_id,
            **settings,
            "start_time": self.start_time,
            "process": process_facts(),
        }
        self._live = LiveRows(store, history, whose)
        try:
            self._live.begin(found, here)
            self._claim = claims.begin(store, self._live.recording, settings)
            self._timing, self._meter = Timing(self._require_open), Meter()
        except BaseException as error:
            if not isinstance(error, Exception):
                with suppress(Exception):
                    self._give_up(error, settings)
            raise

    def _give_up(self, error: BaseException, settings: Mapping[str, Any]) -> None:
        """End a run whose begin was interrupted, and that nobody else would end."""
        if self._live.has_begun():
            claim = claims.begin(self._store, self._live.recording, settings)
            time = max(utc_now(), self.start_time)
            self._live.end(Ending(time, Metrics(), failure(error)), claim)
            claims.forget(claim)

    @property
    def id(self) -> int:
        """The id of the first history row."""
        return self._live.rows[0].history_id

    @property
    def file(self) -> ProcessedFile:
        """The row that the run hangs on; once an output was told, the first output's."""
        return self._live.rows[0].file

    @property
    def recording(self) -> ProcessedFile:
        """The row of the recording that is processed."""
        return self._live.recording

    def __repr__(self) -> str:
        operation = self._live.history["operation_type"]
        return f"<Run {self.id} {operation} of {self.file.original_path!r}>"

    def log(self, metrics: Mapping[str, object] | None = None, /, **named: object) -> None:
        """Take note of metrics of the run; a name that was logged before gets its new value.

        ``si_snri`` and ``sdri`` (dB) go to their columns, and so do ``cpu_usage`` (%),
        ``memory_usage`` (MB), ``processing_time`` (s) and ``real_time_factor`` in place of what
        is measured; everything else, any JSON value, to ``additional_metrics``. What is not
        finite is recorded without a value, with a MetricWarning; another one says, once for each
        name, that a later value took the place of an earlier one.

        Args:
            metrics: The values by their names, where they are no keywords.
            named: The values by their names.

        Raises:
            InvalidValueError: A value is out of bounds or has no JSON form, or a name is taken
                or, maybe in two spellings, given twice.
            RuntimeError: The run is over, or another process began it.
        """
        told = Metrics.of(metrics, named)
        with self._lock:
            self._require_open()
            again = self._live.logged.names() & told.names() - self._warned
            self._warned |= again
            self._live.logged.update(told)
        told.warn(stacklevel=2)
        for name in sorted(again):
            message = f"{name} was logged before in this run: the last value counts"
            warnings.warn(message, MetricWarning, stacklevel=2)

    def timing(self) -> Timing:
        """Return a block that is timed: ``with run.timing():`` around the model's work.

        ``processing_time`` (s), ``cpu_usage`` (%) and ``real_time_factor`` of the run are then
        those of its timed blocks, summed, and ``additional_metrics["timed"]`` is true; memory
        stays the peak of the whole run. Where torch has used CUDA or MPS, the device is waited
        for at the begin and the end of the block. A block that an exception leaves counts.

        Raises:
            RuntimeError: On entering: another block of this run goes on, in this thread or
                another; the run is over, or another process began it.
        """
        return self._timing

    def output(
        self, path: AnyPath, /, *, speaker: SpeakerKey | None = None, **metrics: object
    ) -> ProcessedFile:
        """Record an output and its metrics at once; return its row.

        The history row that was made at the start moves to the first output's row; each further
        one gets its own. An output that was told before gets the new metrics, and the speaker
        where one is named, with an OutputWarning where they take the place of others. An output
        that a successful run claims too is kept, with an OutputWarning, and one whose speaker is
        not known with the name in ``metadata["speaker"]`` and a SpeakerWarning.

        Args:
            path: What was written; its size, hash and audio facts are read now.
            speaker: Whose voice it holds; by default the speaker of the run, else of the
                recording.
            metrics: As for ``log``.

        Raises:
            InvalidValueError: The path is the recording's own, or what ``log`` refuses.
            RuntimeError: The run is over, or another process began it.
        """
        told, place = Metrics.of(metrics), locate(path)
        facts = own_facts(place)
        with self._lock:
            self._require_open()
            whose, name = self._named(speaker, place)
            output = Output(place, whose, told, facts, name)
            try:
                if self._live.late:
                    self._live.late = list(map(self._looked_up, self._live.late))
                output = output if name is None else self._looked_up(output)
                unknown = output.unknown and self._why_unknown(output.unknown)
                file, is_changed, other = self._live.tell(output)
            except DatabaseError as refused:
                if self._store.server is None:
                    raise
                self._live.late.append(output)
                file, is_changed, other = new_stem(self.recording, output), False, None
                unknown = None  # nobody was there to ask
                warnings.warn(f"{refused}; {_TOLD_LATER}", SpoolWarning, stacklevel=2)
        if told.nonfinite:
            told.warn(stacklevel=2)
        if unknown:
            message = f"{unknown}: the output {place!r} is kept with the name alone"
            warnings.warn(message, SpeakerWarning, stacklevel=2)
        if is_changed:
            message = f"the output {place!r} was told before in this run: what came last counts"
            warnings.warn(message, OutputWarning, stacklevel=2)
        if other:
            message = f"the output {place!r} is claimed by run {other} too; it is kept for both"
            warnings.warn(message, OutputWarning, stacklevel=2)
        return file

    def _named(self, speaker: SpeakerKey | None, place: str) -> tuple[int | None, str | None]:
        """Return the id of an output's speaker, or what it is looked up by."""
        if speaker is None:
            before = self._live.told_of(place)
            return (before.speaker_id, before.unknown) if before else (self._live.speaker_id, None)
        if isinstance(speaker, Speaker):
            return speaker_id(self._store, speaker), None
        key = speaker if isinstance(speaker, str) else plain(speaker)
        return None, f"id:{key}" if isinstance(key, int) else str(key)

    def _looked_up(self, output: Output) -> Output:
        """Return an output with its speaker; one that is not in the record stays a name."""
        if output.unknown is None:
            return output
        try:
            whose = self._store.retrying(speaker_id, self._store, output.unknown)
        except (NotFoundError, AmbiguousNameError):  # hours of work may stand behind the output
            return replace(output, unknown=output.unknown.removeprefix("id:"))
        return replace(output, speaker_id=whose, unknown=None)

    def _why_unknown(self, name: str) -> str:
        """Say why a name is nobody's."""
        try:
            self._store.retrying(speaker_id, self._store, name)
        except AmbiguousNameError as error:
            return str(error).partition(";")[0]
        except NotFoundError:
            pass
        return f"no speaker {name!r}"

    def _names_alone(self) -> str:
        """Say of which outputs nobody could be asked who their speakers are."""
        names = sorted({output.unknown for output in self._live.late if output.unknown})
        return f"; of the speakers {', '.join(names)} with the names alone" if names else ""

    def _require_open(self) -> None:
        if self._is_over:
            raise RuntimeError(f"run {self.id} is over")
        if os.getpid() != self._pid:
            raise RuntimeError(f"run {self.id} belongs to the process that began it")

    def finish(self, error: BaseException | None) -> None:
        """Write the end of the run; its tracker calls this."""
        cost = self._meter.stop()
        self._timing.narrow(cost)
        if os.getpid() != self._pid:
            return  # a forked child leaves the block that its parent began
        with self._lock:
            self._is_over = True
            # A clock that was set back must not make the end come before the start.
            message = None if error is None else failure(error)
            ending = Ending(max(utc_now(), self.start_time), cost, message)
            try:
                if self._live.late:
                    self._live.late = list(map(self._looked_up, self._live.late))
                self._live.end(ending, self._claim)
            except (DatabaseError, InvalidValueError) as refused:
                if self._store.server is None:
                    raise
                told = kept(self._live, ending, self._store.server.place)
                warnings.warn(f"{refused}; {told}{self._names_alone()}", SpoolWarning, stacklevel=4)
                if isinstance(refused, DatabaseError):
                    return
                self._live.logged = Metrics()  # what does not fit: without it the run can end
                self._live.end(ending._replace(cost=Metrics()), self._claim)
            claims.forget(self._claim)


@dataclass(eq=False, repr=False)
class Tracker:
    """Begins a run where a ``with`` block or a call of a decorated function begins."""

    _owner: HasStore
    _source: AnyPath | ProcessedFile | None
    _settings: dict[str, Any]
    _speaker: SpeakerKey | None
    _model_file: AnyPath | None
    _run: Run | None = None

    def __enter__(self) -> Run:
        if self._source is None:
            raise TypeError("a track block needs a source; only a decorator does without")
        if self._run is not None:
            raise TypeError("this track block has begun already; call track() for each run")
        self._run = self._begin(self._source)
        return self._run

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run, self._run = self._run, None
        if run is not None:
            _end(run, error)

    def __call__(self, function: F) -> F:
        """Return the function with each of its calls recorded as a run."""
        import inspect

        makers = (
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
            inspect.iscoroutinefunction,
        )
        forms = (function, type(function).__call__)  # the latter of an object that is called
        name = getattr(function, "__name__", type(function).__name__)
        later = f"{name!r} ends later than its call; use a track block inside it"
        if any(ends_later(form) for ends_later in makers for form in forms):
            raise TypeError(later)
        parameters = inspect.signature(function).parameters
        places = [name for name, one in parameters.items() if one.kind <= one.POSITIONAL_OR_KEYWORD]
        is_method = places[:1] in (["self"], ["cls"])
        first = next(iter(places[is_method:]), "")

        @functools.wraps(function)
        def tracked(*args: Any, **kwargs: Any) -> Any:
            source = self._source
            if source is None:
                source = next(iter(args[is_method:]), kwargs.get(first))
            told = (self._owner, source, self._settings, self._speaker, self._model_file)
            with Tracker(*told) as run:
                if "run" in parameters and "run" not in places[: len(args)]:
                    kwargs.setdefault("run", run)
                result = function(*args, **kwargs)
                # Another decorator may stand between: what it returns has not begun.
                kinds = (inspect.isgenerator, inspect.isasyncgen, inspect.isawaitable)
                if any(is_one(result) for is_one in kinds):
                    raise TypeError(later)
                return result

        return cast("F", tracked)

    def _begin(self, source: Any) -> Run:
        weights = self._model_file
        model = None if weights is None else model_hash(weights)
        settings = {**self._settings, "model_hash": model}
        return Run(self._owner.store, source, settings, self._speaker)


def _end(run: Run, error: BaseException | None) -> None:
    """End a run; what the user's code raised comes before what the database says."""
    try:
        run.finish(error)
    except VoicesError as failure:
        if error is None:
            raise
        error.add_note(f"the end of run {run.id} could not be recorded: {failure}")
    except BaseException as struck:
        if not isinstance(struck, Exception):  # Ctrl-C again: nobody else would end the run
            with suppress(Exception):
                run.finish(error)
        raise
