"""The manager's methods for notebooks, papers and browsers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from voices_peewee.database.store import FileKey, HasStore

if TYPE_CHECKING:
    import pandas as pd

    from voices_peewee.display.dataframe import Source
    from voices_peewee.display.listening import Listening
    from voices_peewee.display.plots import PlotFigure
    from voices_peewee.display.sounds import Player
    from voices_peewee.questions.methods import Narrowed
    from voices_peewee.questions.preferences import Listened
    from voices_peewee.questions.selection import Model


class DisplayMethods(HasStore):
    """The manager's methods for notebooks, papers and browsers."""

    def to_dataframe(self, source: Source, *, expand: bool | Sequence[str] = False) -> pd.DataFrame:
        """Return a pandas DataFrame of a list, a table, a query or a result.

        Columns have the dtypes of docs/notebook.md, with no rows too.

        Args:
            source: A list's name (speakers, files, history, performance), a model or its
                table's name, a query, or a result that has ``to_dataframe``.
            expand: Whether the keys of JSON objects become columns, ``parameters.shifts``; or
                the names of the columns whose keys do.

        Raises:
            MissingExtraError: pandas is not installed.
            QueryError: A name is unknown, or a column of ``expand`` holds no JSON.
            TypeError: The source holds no rows.
        """
        from voices_peewee.display.dataframe import to_dataframe

        return to_dataframe(self.store, source, expand)

    def plot(
        self,
        kind: str = "distribution",
        *models: str | Model,
        metric: str | Sequence[str] | None = None,
        against: str | None = None,
        higher_is_better: bool | None = None,
        path: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        **runs: Unpack[Narrowed],
    ) -> PlotFigure:
        """Draw a plot with Matplotlib and return its figure, which a notebook shows.

        Finite values of successful runs are drawn; what belongs to a run and not to an output,
        such as its time, counts once a run. A model has one colour and shape in all plots.

        Args:
            kind: ``distribution`` (metrics by model), ``paired`` (two models on the same
                recordings), ``ranks`` (mean ranks on the recordings that all have a value of)
                or ``scatter`` (a metric of each run against another number).
            models: Only these, as ``demucs:4.0`` or as query words; a paired plot is of two.
            metric: SI-SNRi (dB) if None, and SDRi too in a distribution, which takes up to four.
            against: What a scatter is against: duration (if None), sample_rate, channels or
                file_size of the recording, or another metric.
            higher_is_better: The metric's direction, needed where it is not known.
            path: Where to save the picture; its suffix says how: .png, .svg or .pdf.
            overwrite: Replace a file that is there.
            runs: Only these: ``operation_type``, ``speaker``, ``since``, ``until``, ``where``.

        Raises:
            QueryError: The kind, a model, a metric or a column is unknown or does not belong.
            PlotError: There is nothing to draw.
            ExportError: The picture cannot be written.
            NotFoundError, AmbiguousNameError, InvalidValueError: As ``leaderboard``.
            MissingExtraError: Matplotlib is not installed.
        """
        from voices_peewee.display.plots import Request, plot
        from voices_peewee.questions.selection import Runs

        metrics = (metric,) if isinstance(metric, str) else metric
        request = Request(
            models=models,
            metrics=None if metrics is None else tuple(dict.fromkeys(metrics)),
            against=against,
            higher_is_better=higher_is_better,
            runs=Runs(**runs),
        )
        return plot(self.store, kind, request, path=path, overwrite=overwrite)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        metric: str = "si_snri",
        by: str | Sequence[str] = (),
        baseline: str | None = None,
        higher_is_better: bool | None = None,
        hosts: bool = False,
        audio: bool = True,
        embed: bool = False,
        max_size: int = 20_000_000,
        overwrite: bool = False,
        **runs: Unpack[Narrowed],
    ) -> Path:
        """Write one HTML page to send: tables, pictures, failures and players; return its path.

        The same rows give the same bytes, and the page asks nothing of the network.

        Args:
            path: Where the page goes; it ends in ``.html``.
            metric: What models are judged by.
            by: Fields whose conditions are shown, such as ``metadata.room``.
            baseline: A model that all others are compared with.
            higher_is_better: The metric's direction, needed where it is not known.
            hosts: Whether the section on environments names the hosts.
            audio: Whether there are players of the worst and the best recordings.
            embed: Put the sounds into the page, instead of links to the files.
            max_size: How large the page may get with sounds in it, in bytes.
            overwrite: Replace a file that is there.
            runs: Only these: ``operation_type``, ``speaker``, ``since``, ``until``, ``where``.

        Raises:
            QueryError: A name is unknown, or a model has runs of several operations.
            NotFoundError, AmbiguousNameError, InvalidValueError: As ``leaderboard``.
            ExportError: The path does not end in .html, or cannot be written.
            MissingExtraError: Jinja2 is not installed.
        """
        from voices_peewee.display.report import Asked, report
        from voices_peewee.questions.selection import Runs

        asked = Asked(
            metric=metric,
            by=by.split(",") if isinstance(by, str) else by,
            baseline=baseline,
            higher_is_better=higher_is_better,
            hosts=hosts,
            audio=audio,
            embed=embed,
            max_size=max_size,
            runs=Runs(**runs),
        )
        return report(self.store, Path(path), asked, overwrite=overwrite)

    def listen(
        self,
        *models: str | Model,
        path: str | os.PathLike[str] | None,
        trials: int = 20,
        seconds: float = 5.0,
        seed: int | None = None,
        beside: str = "mixture",
        question: str | None = None,
        catch: int | None = None,
        repeat: int | None = None,
        codec: str = "flac",
        max_size: int = 25_000_000,
        overwrite: bool = False,
        **runs: Unpack[Narrowed],
    ) -> Listening:
        """Write a blind listening test of stems as one HTML page, and remember what it compares.

        A voice is heard by the stems that the latest successful run of each model made of it:
        the same seconds, where most is said, equally loud. The page tells no model.

        Args:
            models: Two to six, as ``compare`` takes them.
            path: Where the page goes; it ends in ``.html``. None only plans it.
            trials: How many voices are compared at most.
            seconds: How long an excerpt is at most.
            seed: Makes the same test again; None takes a new one.
            beside: What is heard beside A and B: ``mixture``, ``reference`` or ``nothing``.
            question: What listeners are asked.
            catch: Trials of a reference and its mixture; None is three in twenty.
            repeat: Trials that come again; None is two in twenty.
            codec: ``flac``, or ``opus`` (96 kbit/s), which may hide small artefacts.
            max_size: How large the page may get, in bytes.
            overwrite: Replace a file that is there.
            runs: Only these: ``operation_type``, ``speaker``, ``since``, ``until``, ``where``.

        Raises:
            QueryError: A model is unknown, there are not two to six, or nothing can be heard.
            NotFoundError, AmbiguousNameError, InvalidValueError: As ``leaderboard``.
            ExportError: The page is too large, does not end in .html, or cannot be written.
            MissingExtraError: Jinja2 or PyAV is not installed.
        """
        from secrets import randbits

        from voices_peewee.display.listening import QUESTION, Wish, listen
        from voices_peewee.questions.selection import Runs

        wish = Wish(
            trials=trials,
            seconds=seconds,
            seed=randbits(31) if seed is None else seed,
            beside=beside,
            question=question or QUESTION,
            catch=catch,
            repeat=repeat,
            codec=codec,
            max_size=max_size,
            runs=Runs(**runs),
        )
        place = None if path is None else Path(path)
        return listen(self.store, models, place, wish, overwrite=overwrite)

    def import_votes(self, source: str | os.PathLike[str]) -> dict[str, int]:
        """Import the votes of a listening test, all or nothing.

        Args:
            source: The file that the page saved; ``-`` is the standard input.

        Returns:
            How many votes were ``added``, ``updated`` by later ones, and are the ``same``.

        Raises:
            InputError: The file is not whole, or a vote is of what is not in the record.
        """
        from voices_peewee.display.votes import import_votes

        return import_votes(self.store, os.fspath(source))

    def listening_results(self) -> list[Listened]:
        """Return what each listening test that has votes came to, the oldest first."""
        from voices_peewee.questions.preferences import listened

        return listened(self.store)

    def player(self, file: FileKey) -> Player:
        """Return players for a recording and the stems made from it, to show in a notebook.

        The sounds are put into the notebook, 30 MB of them at most.

        Args:
            file: The recording or one of its stems: an id, an object or a path.

        Raises:
            NotFoundError: There is no such file.
            AmbiguousNameError: Several rows have that path.
            AudioError: Neither the recording nor a stem of it is on this disk.
        """
        from voices_peewee.display.sounds import player

        return player(self.store, file)

    def serve(self, *, port: int = 8001, on_ready: Callable[[str], None] | None = None) -> None:
        """Show the database in the browser until SIGINT (Ctrl-C) or SIGTERM, read-only.

        This machine alone reaches the pages. Other programs, and other threads of this one, may
        go on writing.

        Args:
            port: The port of 127.0.0.1; 0 takes a free one.
            on_ready: Called with the URL once it can be opened.

        Raises:
            DatabaseError: The database is in memory or no SQLite file.
            ServeError: The port cannot be listened on.
            MissingExtraError: Datasette is not installed.
        """
        from voices_peewee.display.web import serve

        serve(self.store, port=port, on_ready=on_ready)
