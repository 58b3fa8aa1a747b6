"""Plots: the question, where the picture goes, and which module draws it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voices_peewee.display.plot_data import read
from voices_peewee.display.plot_rows import Request
from voices_peewee.errors import MissingExtraError, PlotError
from voices_peewee.questions.selection import Model, Runs, Time

if TYPE_CHECKING:
    from voices_peewee.database.store import SpeakerKey, Store
    from voices_peewee.display.plot_figure import PlotFigure

SUFFIXES: Final = (".png", ".svg", ".pdf")


def plot(
    store: Store,
    kind: str = "distribution",
    *models: str | Model,
    metric: str | Sequence[str] | None = None,
    against: str | None = None,
    higher_is_better: bool | None = None,
    operation_type: str | None = None,
    speaker: SpeakerKey | None = None,
    since: Time | None = None,
    until: Time | None = None,
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> PlotFigure:
    """Draw a plot with matplotlib and return its figure, which a notebook shows.

    Only measurements of successful runs that have a finite value are drawn. All values count
    for quartiles, means and intervals; of many, a sample is drawn as points, and the picture
    says so.

    Args:
        store: The open database.
        kind: ``distribution`` (metrics by model), ``paired`` (two models on the same
            recordings), ``scatter`` (a metric against another number) or ``trend`` (a metric
            over time, by model version).
        models: Only these, as ``demucs:4.0``; a paired plot is of two.
        metric: A column of ``model_performance`` or a name in ``additional_metrics``; a
            distribution takes up to four. None means SI-SNRi, and SDRi too in a distribution.
        against: What a scatter is against: duration, sample_rate, channels or file_size of the
            file, or another metric. None means the duration.
        higher_is_better: The metric's direction, needed where it is not known.
        operation_type: Only runs of this operation.
        speaker: Only recordings and stems of this speaker.
        since: Only runs that started then or later.
        until: Only runs that started before.
        path: Where to save the picture; its suffix says how: ``.png``, ``.svg`` or ``.pdf``.
        overwrite: Replace a file that is there.

    Raises:
        QueryError: The kind, a model, a metric or a column is unknown, or does not belong there.
        PlotError: There is nothing to draw, or the picture cannot be written.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: A time cannot be read, or has no time zone.
        MissingExtraError: Matplotlib is not installed.
    """
    target = None if path is None else _target(path, overwrite=overwrite)
    try:
        from voices_peewee.display import plot_figure
    except ImportError as error:
        raise MissingExtraError("drawing a picture", "notebook") from error
    request = Request(
        models=models,
        metrics=_metrics(metric),
        against=against,
        higher_is_better=higher_is_better,
        runs=Runs(operation_type=operation_type, speaker=speaker, since=since, until=until),
    )
    figure = plot_figure.draw(read(store, kind, request))
    if target is not None:
        _write(target, plot_figure.render(figure, target.suffix[1:].lower()), overwrite=overwrite)
    return figure


def plot_text(
    store: Store,
    kind: str = "distribution",
    *models: str | Model,
    metric: str | Sequence[str] | None = None,
    against: str | None = None,
    higher_is_better: bool | None = None,
    operation_type: str | None = None,
    speaker: SpeakerKey | None = None,
    since: Time | None = None,
    until: Time | None = None,
    width: int = 80,
    color: bool = False,
    ascii_only: bool = False,
) -> str:
    """Draw a plot as text for a terminal; the questions are those of ``plot``.

    Args:
        store: The open database.
        kind: As for ``plot``, like what follows.
        models: Only these models.
        metric: What is drawn.
        against: What a scatter is against.
        higher_is_better: The metric's direction, needed where it is not known.
        operation_type: Only runs of this operation.
        speaker: Only recordings and stems of this speaker.
        since: Only runs that started then or later.
        until: Only runs that started before.
        width: How many columns there are, 40 or more.
        color: Whether the terminal shows colours.
        ascii_only: Draw without the characters that only Unicode has.

    Raises:
        QueryError: The kind, a model, a metric or a column is unknown, or does not belong there.
        PlotError: There is nothing to draw.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: A time cannot be read, or has no time zone.
        MissingExtraError: Plotext is not installed.
    """
    try:
        from voices_peewee.display import plot_terminal
    except ImportError as error:
        raise MissingExtraError("drawing in the terminal", "notebook") from error
    request = Request(
        models=models,
        metrics=_metrics(metric),
        against=against,
        higher_is_better=higher_is_better,
        runs=Runs(operation_type=operation_type, speaker=speaker, since=since, until=until),
    )
    picture = read(store, kind, request)
    return plot_terminal.draw(picture, width=width, color=color, ascii_only=ascii_only)


def _metrics(metric: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if metric is None:
        return None
    return (metric,) if isinstance(metric, str) else tuple(dict.fromkeys(metric))


def _target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return where a picture goes, or refuse before anything is read."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise PlotError(f"cannot write {str(target)!r}: a picture ends in {_LISTED}")
    if target.exists() and not overwrite:
        raise PlotError(f"cannot write {str(target)!r}: it is there already; overwrite replaces it")
    return target


_LISTED: Final = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _write(target: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a picture whole or not at all."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        if overwrite:
            part.replace(target)
        else:
            target.hardlink_to(part)  # unlike a renaming, it never replaces
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PlotError(f"cannot write {str(target)!r}: {reason}") from error
    finally:
        part.unlink(missing_ok=True)
