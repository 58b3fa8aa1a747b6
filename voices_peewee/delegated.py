"""The manager's methods that live in modules of their own, imported when first used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from voices_peewee.lifecycle import Lifecycle
from voices_peewee.store import Store

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:
    from voices_peewee import (
        analysis,
        dataframe,
        deletion,
        export,
        importing,
        listing,
        past_runs,
        plots,
        questions,
        recordings,
        tracking,
        web,
    )
else:

    class _Late:
        def __init__(self, name):
            self._name = name

        def __getattr__(self, name):
            return getattr(import_module(f"voices_peewee.{self._name}"), name)

    analysis = _Late("analysis")
    dataframe = _Late("dataframe")
    deletion = _Late("deletion")
    export = _Late("export")
    importing = _Late("importing")
    listing = _Late("listing")
    past_runs = _Late("past_runs")
    plots = _Late("plots")
    questions = _Late("questions")
    recordings = _Late("recordings")
    tracking = _Late("tracking")
    web = _Late("web")


class Delegated(Generic[P, R]):
    """A method that is a function of an open database, found when it is asked for."""

    def __init__(self, find: Callable[[], Callable[Concatenate[Store, P], R]]) -> None:
        self._find = find

    @overload
    def __get__(self, manager: None, owner: type[Any]) -> Callable[Concatenate[Store, P], R]: ...
    @overload
    def __get__(self, manager: Lifecycle, owner: type[Any]) -> Callable[P, R]: ...
    def __get__(self, manager: Lifecycle | None, owner: type[Any]) -> Any:
        function = self._find()
        return function if manager is None else MethodType(function, manager.store)


class DelegatedMethods(Lifecycle):
    """Recording, listing and the questions; each function's own docstring says what it does."""

    add_audio_files = Delegated(lambda: recordings.add_audio_files)
    record_run = Delegated(lambda: past_runs.record_run)
    record_runs = Delegated(lambda: past_runs.record_runs)
    close_unfinished = Delegated(lambda: tracking.close_unfinished)

    search = Delegated(lambda: listing.records)

    pending = Delegated(lambda: questions.pending)
    failures = Delegated(lambda: questions.failures)
    show_run = Delegated(lambda: questions.show_run)
    history = Delegated(lambda: questions.history)

    leaderboard = Delegated(lambda: analysis.leaderboard)
    compare = Delegated(lambda: analysis.compare)
    plot = Delegated(lambda: plots.plot)
    plot_text = Delegated(lambda: plots.plot_text)
    to_dataframe = Delegated(lambda: dataframe.to_dataframe)

    delete = Delegated(lambda: deletion.delete)
    delete_speaker = Delegated(lambda: deletion.delete_speaker)
    export = Delegated(lambda: export.export)
    import_records = Delegated(lambda: importing.import_records)
    serve = Delegated(lambda: web.serve)

    def _repr_html_(self) -> str:
        from voices_peewee.overview import overview_html

        return overview_html(self)
