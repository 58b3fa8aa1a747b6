"""Plots drawn as text with plotext, for people who work over ssh."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import singledispatch
from threading import Lock
from typing import Any, Final, NamedTuple

import plotext

from voices_peewee.plain_text import fit
from voices_peewee.plot_data import Axis, Distribution, Paired, Picture, Scatter, Trend
from voices_peewee.plot_words import pair_labels, titles

LEAST_WIDTH: Final = 40
_HEIGHT: Final = 20
_SHAPES: Final = "o+x*#@%&=$"
_COLOURS: Final = ("blue", "orange", "green", "magenta", "cyan", "red", "gray")
_TICKS: Final = 6
_drawing = Lock()  # plotext has one figure for the whole process


class _Set(NamedTuple):
    """Points that are drawn alike; joined ones with lines."""

    x: Sequence[float]
    y: Sequence[float]
    shape: str
    colour: str
    joined: bool = False


class _Chart(NamedTuple):
    """A frame of text: ``y_ticks`` are positions and what stands there."""

    sets: Sequence[_Set]
    x: Axis
    y: Axis | None = None
    x_ticks: Sequence[tuple[float, str]] = ()
    y_ticks: Sequence[tuple[float, str]] = ()
    y_range: tuple[float, float] | None = None
    height: int = _HEIGHT


def draw(picture: Picture, *, width: int, color: bool) -> str:
    """Draw a picture as lines of text, no longer than ``width``."""
    width = max(width, LEAST_WIDTH)
    charts, legend = _charts(picture, width)
    title, under = titles(picture)
    lines = [fit(title, width), *([fit(under, width)] if under else [])]
    for chart in charts:
        lines += ["", *_frame(chart, width, color=color)]
    lines += _wrapped(legend, width)
    return "\n".join([*lines, *(fit(note, width) for note in picture.notes)])
