"""Plots drawn as text with plotext, for people who work over ssh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from threading import Lock
from typing import Any, Final, NamedTuple

import plotext

from voices_peewee.display.plot_pictures import Axis, Distribution, Paired, Picture, Scatter, Trend
from voices_peewee.display.plot_words import counted, pair_labels, short, titles

LEAST_WIDTH: Final = 40
_DAY: Final = 86_400
_DUMBBELLS: Final = 40
_HEIGHT: Final = 20
_NAME: Final = 44
_SHAPES: Final = "o+x*#@%&=$"
# Okabe and Ito's colours among the 256 of terminals; each also shows on black.
_COLOURS: Final = (33, 202, 35, 175, 214, 81, 245)
_TICKS: Final = 8
_drawing = Lock()  # plotext has one figure for the whole process


class _Set(NamedTuple):
    """Points that are drawn alike; joined ones with lines."""

    x: Sequence[float]
    y: Sequence[float]
    shape: str
    colour: int | None
    joined: bool = False


class _Chart(NamedTuple):
    """A frame of text: ticks are positions and what stands there; ``rows`` have no scale."""

    sets: Sequence[_Set]
    x: Axis
    y: Axis | None = None
    x_ticks: Sequence[tuple[float, str]] = ()
    y_ticks: Sequence[tuple[float, str]] = ()
    rows: int = 0
    beside: float = 0.0  # what is left free at the ends of the x axis


def draw(picture: Picture, *, width: int, color: bool = False, ascii_only: bool = False) -> str:
    """Draw a picture as lines of text, no longer than ``width``."""
    width = max(width, LEAST_WIDTH)
    charts, legend = _charts(picture, width)
    title, under = titles(picture)
    lines = [short(title, width), *([short(under, width)] if under else [])]
    for chart in charts:
        lines += ["", *_frame(chart, width, color=color)]
    lines += _wrapped(legend, width)
    text = "\n".join([*lines, *(short(note, width) for note in picture.notes)])
    return text.translate(_ASCII) if ascii_only else text


_ASCII: Final = str.maketrans("─│┌┐└┘┤┬├┴┼█┃·×…", "-|" + "+" * 9 + "#|.x~")


@singledispatch
def _charts(picture: Any, width: int) -> tuple[list[_Chart], list[str]]:
    raise TypeError(f"cannot draw a {type(picture).__name__} of width {width}")


@_charts.register
def _distribution(picture: Distribution, width: int) -> tuple[list[_Chart], list[str]]:
    models = picture.models
    charts = []
    for panel in picture.panels:
        sets, ticks = [], []
        for place, model in enumerate(reversed(models)):
            group = panel.groups.get(model)
            ticks.append((place, counted(model, 0 if group is None else group.n, width // 3)))
            if group is not None:
                colour = _COLOURS[sorted(models).index(model) % len(_COLOURS)]
                spread = [
                    (group.low, "─", group.high),
                    (group.lower_quartile, "█", group.upper_quartile),
                ]
                sets.append(_Set(group.points, [place] * len(group.points), "·", colour))
                sets += [
                    _Set([low, high], [place] * 2, shape, colour, joined=True)
                    for low, shape, high in (spread if group.n > 1 else [])
                ]
                sets.append(_Set([group.median], [place], "┃", None))
        charts.append(_Chart(sets, panel.axis, y_ticks=ticks, rows=len(models)))
    return charts, ["█ middle half", "┃ median", "─ 1.5 times its width at most", "· beyond"]


@_charts.register
def _paired(picture: Paired, width: int) -> tuple[list[_Chart], list[str]]:
    pairs, of = picture.pairs, picture.comparison
    names = [f"o A: {short(of.a, width - 5)}", f"+ B: {short(of.b, width - 5)}"]
    if of.n > _DUMBBELLS:
        a, b = [pair.a for pair in pairs], [pair.b for pair in pairs]
        low, high = min(*a, *b), max(*a, *b)
        above, below = ("B", "A") if of.higher_is_better else ("A", "B")
        sets = [
            _Set([low, high], [low, high], ".", None, joined=True),
            _Set(a, b, "o", _COLOURS[0]),
        ]
        x = Axis(f"A: {short(of.a, 30)}, {picture.axis.title}", picture.axis.unit)
        y = Axis(f"B: {short(of.b, 30)}, {picture.axis.title}", picture.axis.unit)
        said = [f"o a pair; above the line {above} is better, below it {below}"]
        return [_Chart(sets, x, y)], said
    sets = []
    for place, pair in enumerate(pairs):
        sets.append(_Set([pair.a, pair.b], [place] * 2, "─", None, joined=True))
    sets.append(_Set([pair.a for pair in pairs], range(len(pairs)), "o", _COLOURS[1]))
    sets.append(_Set([pair.b for pair in pairs], range(len(pairs)), "+", _COLOURS[0]))
    labels = [short(label, width // 3) for label in pair_labels(pairs)]
    chart = _Chart(sets, picture.axis, y_ticks=list(enumerate(labels)), rows=len(pairs))
    return [chart], names


@_charts.register
def _scatter(picture: Scatter, width: int) -> tuple[list[_Chart], list[str]]:
    sets, legend = [], []
    for place, cloud in enumerate(picture.clouds):
        shape, colour = _sign(place)
        x, y = zip(*cloud.points, strict=True)
        sets.append(_Set(x, y, shape, colour))
        legend.append(f"{shape} {counted(cloud.model, cloud.n, min(_NAME, width - 2))}")
    return [_Chart(sets, picture.x, picture.y)], legend


@_charts.register
def _trend(picture: Trend, width: int) -> tuple[list[_Chart], list[str]]:
    starts = sorted({mark.time for line in picture.lines for mark in line.marks})
    sets, legend = [], []
    for place, line in enumerate(picture.lines):
        shape, colour = _sign(place)
        times = [mark.time.timestamp() + picture.aside(place) for mark in line.marks]
        for mark, time in zip(line.marks, times, strict=True):
            if mark.low is not None and mark.high is not None:
                ends = [max(mark.low, picture.ends[0]), min(mark.high, picture.ends[1])]
                sets.append(_Set([time] * 2, ends, "│", colour, joined=True))
        sets.append(_Set(times, [mark.mean for mark in line.marks], shape, colour))
        total = sum(mark.n for mark in line.marks)
        legend.append(f"{shape} {counted(line.model, total, min(_NAME, width - 2))}")
    form = "%Y-%m-%d" if picture.seconds >= _DAY else "%m-%d %H:%M"
    room = max(1, (width - 10) // 14)
    every = -(-len(starts) // room)
    ticks = [(start.timestamp(), f"{start:{form}}") for start in starts[::every]]
    x = Axis(f"{picture.step} of the runs", "UTC")
    beside = picture.seconds / 3
    return [_Chart(sets, x, picture.axis, x_ticks=ticks, beside=beside)], legend


def _sign(place: int) -> tuple[str, int]:
    return _SHAPES[place % len(_SHAPES)], _COLOURS[place % len(_COLOURS)]


def _frame(chart: _Chart, width: int, *, color: bool) -> list[str]:
    """Return the lines of one frame."""
    with _drawing:
        plotext.terminal.limit(False, False)
        figure = plotext.figure
        figure.clear()
        figure.theme("colorless")
        figure.plot_size(width, chart.rows + _AROUND if chart.rows else _HEIGHT)
        xs = [each for one in chart.sets for each in one.x]
        ends = [min(xs) - chart.beside, max(xs) + chart.beside]
        _rule(figure.ruler("x"), chart.x, ends, chart.x_ticks)
        if chart.rows:
            figure.ruler("y").lim(-0.5, chart.rows - 0.5)
            figure.ruler("y").ticks(*zip(*chart.y_ticks, strict=True))
        elif chart.y is not None:
            ys = [each for one in chart.sets for each in one.y]
            _rule(figure.ruler("y"), chart.y, ys, ())
        for one in chart.sets:
            marker = plotext.marker(one.shape, plotext.pixel(foreground=one.colour))
            signal = figure.signal(list(one.x), list(one.y), marker=marker)
            figure.draw(signal.lines(one.joined))
        text = figure.build().string(colorless=not color)
        figure.clear()
    head = [short(_label(chart.y), width)] if chart.y is not None else []
    foot = short(_label(chart.x), width).center(width).rstrip()
    return [*head, *(line.rstrip() for line in text.splitlines()), foot]


_AROUND: Final = 3  # the frame, and the numbers below it


def _rule(
    ruler: Any, axis: Axis, values: Sequence[float], ticks: Sequence[tuple[float, str]]
) -> None:
    """Set the ends of an axis, and round numbers along it."""
    low, high = min(values), max(values)
    if axis.log:
        ruler.scale("log")
        return
    if low == high:
        low, high = low - 0.5, high + 0.5
    ruler.lim(low, high)
    places = [(value, f"{value:g}") for value in _round_numbers(low, high)]
    ruler.ticks(*map(list, zip(*(ticks or places), strict=True)))


def _round_numbers(low: float, high: float) -> list[float]:
    """Return up to ten multiples of 1, 2 or 5 times a power of ten between two numbers."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _label(axis: Axis) -> str:
    return ", ".join(filter(None, (axis.label, axis.better)))


def _wrapped(entries: Sequence[str], width: int) -> list[str]:
    """Put the entries of a legend beside each other as far as they fit."""
    lines: list[str] = []
    for entry in entries:
        if lines and len(lines[-1]) + 3 + len(entry) <= width:
            lines[-1] += f"   {entry}"
        else:
            lines.append(entry)
    return lines
