"""Recording a run while it happens: ``track`` around a block or a function.

A run is one row of history for each output, or one row without any; all share ``run_id``. What
is known is in the database at once: the row at the start, each output when it is told, the rest
at the end. A killed process therefore leaves an unfinished run, with the outputs it had told.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, cast

from voices_peewee.database.store import HasStore, SpeakerKey
from voices_peewee.errors import InvalidValueError, VoicesError
from voices_peewee.records.sources import AnyPath
from voices_peewee.runs.recorded import plain_note, plain_tags
from voices_peewee.runs.run import Run
from voices_peewee.runs.settings import model_hash, plain_parameters
from voices_peewee.schema.fields import plain_name
from voices_peewee.schema.models import ProcessedFile

F = TypeVar("F", bound=Callable[..., Any])


class Tracker:
    """Begins a run where a ``with`` block or a call of a decorated function begins."""

    def __init__(
        self,
        owner: HasStore,
        source: AnyPath | ProcessedFile | None,
        settings: dict[str, Any],
        speaker: SpeakerKey | None,
        model_file: AnyPath | None,
    ) -> None:
        operation = plain_name(settings["operation_type"])
        if not operation or not operation.strip():
            raise InvalidValueError("a run needs an operation_type")
        parameters = plain_parameters(settings["parameters"])
        self._settings = {
            **settings,
            "operation_type": operation,
            "parameters": parameters,
            "tags": plain_tags(settings["tags"]),
            "note": plain_note(settings["note"]),
        }
        self._owner, self._source = owner, source
        self._speaker, self._model_file = speaker, model_file
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
        places = [name for name, one in parameters.items() if one.kind <= one.POSITIONAL_OR_KEYWORD]
        is_method = places[:1] in (["self"], ["cls"])
        first = next(iter(places[is_method:]), "")

        def prepare(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
            source = self._source
            if source is None:
                source = next(iter(args[is_method:]), kwargs.get(first))
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
        settings = {**self._settings, "model_hash": model_hash(self._model_file)}
        return Run(self._owner.store, source, settings, self._speaker)


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
