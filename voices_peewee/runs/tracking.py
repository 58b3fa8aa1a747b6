"""Recording a run while it happens: ``track`` around a block or a function.

A run is one row of history for each output, or one row without any; all share ``run_id``. What
is known is in the database at once: the row at the start, each output when it is told, the rest
at the end. A killed process therefore leaves an unfinished run, with the outputs it had told.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import InvalidValueError, VoicesError
from voices_peewee.records.sources import AnyPath
from voices_peewee.runs import meter as resources
from voices_peewee.runs.run import Run, Settings, plain_parameters
from voices_peewee.schema.fields import plain_name, utc_now
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

INTERRUPTED: Final = "interrupted"

_UNFINISHED: Final = """SELECT history.id, history.run_id, history.process, history.start_time,
 max(performance.created_at)
 FROM processing_history AS history
 LEFT JOIN model_performance AS performance ON performance.processing_history_id = history.id
 WHERE history.end_time IS NULL AND NOT history.success GROUP BY history.id"""
_CLOSE: Final = """UPDATE processing_history SET end_time = ?, error_message = ?
 WHERE id = ? AND end_time IS NULL AND NOT success"""
_MAX_AGE: Final = dt.timedelta(days=365_000)
_NO_AGE: Final = "older_than must be a time of 0 seconds or more, not {!r}"

F = TypeVar("F", bound=Callable[..., Any])


def track(
    store: Store | Callable[[], Store],
    source: AnyPath | ProcessedFile | None = None,
    operation_type: str = "",
    *,
    speaker: SpeakerKey | None = None,
    model_type: str | None = None,
    model_version: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    environment: bool = False,
) -> Tracker:
    """Return what records a run: a context manager, and a decorator.

    As a decorator without ``source``, each call's first argument is the source, and a function
    with a parameter named ``run`` is given the run. Coroutine functions may be decorated too.

    Args:
        store: The open database, or what returns it when a run begins.
        source: A path, a URL or a ProcessedFile; need not exist or be audio.
        operation_type: What is done, such as ``voice_separation``.
        speaker: Whose voice the source or its outputs hold.
        model_type: The model's name.
        model_version: The model's version.
        parameters: The settings of the run, a JSON object.
        environment: Record Python, host and git commit in ``parameters["environment"]``.

    Raises:
        InvalidValueError: ``operation_type`` is empty, or the parameters are no JSON object.
    """
    operation_type = plain_name(operation_type)
    if not operation_type or not operation_type.strip():
        raise InvalidValueError("a run needs an operation_type")
    settings = Settings(operation_type, model_type, model_version, plain_parameters(parameters))
    return Tracker(store, source, settings, speaker, environment=environment)


class Tracker:
    """Begins a run where a ``with`` block or a call of a decorated function begins."""

    def __init__(
        self,
        store: Store | Callable[[], Store],
        source: AnyPath | ProcessedFile | None,
        settings: Settings,
        speaker: SpeakerKey | None,
        *,
        environment: bool,
    ) -> None:
        self._store, self._source, self._settings = store, source, settings
        self._speaker, self._environment = speaker, environment
        self._run: Run | None = None

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

        is_coroutine = _is_coroutine(function)
        parameters = inspect.signature(function).parameters
        first = next(iter(parameters), None)
        places = [name for name, one in parameters.items() if one.kind <= one.POSITIONAL_OR_KEYWORD]

        def prepare(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
            source = self._source
            if source is None:
                source = args[0] if args else kwargs.get(first or "")
            run = self._begin(source)
            if "run" in parameters and "run" not in places[: len(args)]:
                kwargs.setdefault("run", run)
            return run

        @functools.wraps(function)
        def tracked(*args: Any, **kwargs: Any) -> Any:
            with _Block(prepare(args, kwargs)):
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def tracked_coroutine(*args: Any, **kwargs: Any) -> Any:
            with _Block(prepare(args, kwargs)):
                return await function(*args, **kwargs)

        return cast("F", tracked_coroutine if is_coroutine else tracked)

    def _begin(self, source: Any) -> Run:
        store = self._store if isinstance(self._store, Store) else self._store()
        settings = self._settings
        if self._environment:
            surroundings = {"environment": resources.environment()}
            settings = replace(settings, parameters={**settings.parameters, **surroundings})
        return Run(store, source, settings, self._speaker)


def _is_coroutine(function: Callable[..., Any]) -> bool:
    """Whether a call returns a coroutine; a generator function is refused.

    An object that is called shows what it is in its ``__call__``.
    """
    import inspect

    forms = (function, type(function).__call__)
    if any(inspect.isgeneratorfunction(form) or inspect.isasyncgenfunction(form) for form in forms):
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"track cannot record the generator function {name!r}")
    return any(map(inspect.iscoroutinefunction, forms))


class _Block:
    """One call of a decorated function."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        _end(self._run, error)


def _end(run: Run, error: BaseException | None) -> None:
    """End a run; what the user's code raised comes before what the database says."""
    try:
        run.finish(error)
    except VoicesError as failure:
        if error is None:
            raise
        error.add_note(f"the end of run {run.id} could not be recorded: {failure}")


def close_unfinished(store: Store, *, older_than: dt.timedelta | float | None = None) -> int:
    """Mark runs whose process died as failed, with the error ``interrupted``; return how many.

    Their ``end_time`` is when they last gave a sign: their last output, or else their start. A
    run whose process lives is left alone. What a process on another host did, or a run that
    does not say which process it was, is only closed by age.

    Args:
        store: The open database.
        older_than: Close only runs whose last sign is older than this (a timedelta, or s).

    Raises:
        InvalidValueError: ``older_than`` is not a time of 0 or more.
    """
    limit = None if older_than is None else utc_now() - _age(older_than)
    with store.writing():
        connection = store.connection()
        runs: dict[str, list[_Sign]] = {}
        for row in connection.execute(_UNFINISHED):
            sign = _Sign.of(row)
            runs.setdefault(sign.run_id, []).append(sign)
        dead = [signs for signs in runs.values() if _is_dead(signs, limit)]
        for signs in dead:
            end = ProcessingHistory.end_time.db_value(max(sign.time for sign in signs))
            values = [(end, INTERRUPTED, sign.history_id) for sign in signs]
            connection.executemany(_CLOSE, values)
    return len(dead)


@dataclass(frozen=True, slots=True)
class _Sign:
    """When an unfinished history row was last heard of, and from which process."""

    history_id: int
    run_id: str
    process: dict[str, Any]
    time: dt.datetime

    @classmethod
    def of(cls, row: tuple[int, str, str | None, str, str | None]) -> _Sign:
        history_id, run_id, process, *times = row
        facts = json.loads(process or "{}")
        heard = (ProcessingHistory.start_time.python_value(text) for text in times)
        time = max(moment for moment in heard if moment is not None)
        return cls(history_id, run_id, facts if isinstance(facts, dict) else {}, time)


def _is_dead(signs: Sequence[_Sign], limit: dt.datetime | None) -> bool:
    """Whether a run is to be closed: its process is dead, or out of sight and silent too long."""
    process = signs[0].process
    if limit is not None and max(sign.time for sign in signs) >= limit:
        return False
    if process and resources.is_here(process):
        return not resources.is_alive(process)
    return limit is not None


def _age(older_than: dt.timedelta | float) -> dt.timedelta:
    try:
        age = (
            older_than if isinstance(older_than, dt.timedelta) else dt.timedelta(seconds=older_than)
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidValueError(_NO_AGE.format(older_than)) from error
    if not dt.timedelta(0) <= age <= _MAX_AGE:
        raise InvalidValueError(_NO_AGE.format(older_than))
    return age
