"""Plots drawn with matplotlib, without pyplot: nothing of a notebook's own figures is touched."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Final

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import FuncFormatter

from voices_peewee.display.plot_pictures import (
    Axis,
    Distribution,
    Group,
    Line,
    Paired,
    Panel,
    Picture,
    Scatter,
    Trend,
)
from voices_peewee.display.plot_words import counted, pair_labels, short, titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DUMBBELLS: Final = 40  # more pairs are drawn as points

# Okabe and Ito's colours, which people with any colour vision tell apart, without the yellow,
# which is too light on white. Ten shapes with seven colours make seventy different signs.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHAPES: Final = "os^DvPX<>*"
_GREY: Final = "#767676"
_FONTS: Final = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Microsoft YaHei")
_STYLE: Final[dict[str, Any]] = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.09,
    "figure.constrained_layout.w_pad": 0.09,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": "figure",
    "svg.fonttype": "none",
    "svg.hashsalt": "voices",
    "text.parse_math": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
_UNDATED: Final = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class PlotFigure(Figure):
    """A matplotlib figure that a notebook shows, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        return render(self, "png")


def draw(picture: Picture) -> PlotFigure:
    """Draw a picture."""
    with _styled():
        figure = PlotFigure()
        FigureCanvasAgg(figure)
        _draw(picture, figure)
        title, under = titles(picture)
        figure.suptitle(f"{title}\n{under}" if under else title, fontsize=10, x=0.01, ha="left")
        if picture.notes:
            figure.supxlabel("; ".join(picture.notes), fontsize=7, color=_GREY, x=0.99, ha="right")
        return figure


def render(figure: Figure, form: str) -> bytes:
    """Return a figure as the bytes of a file; the same figure gives the same bytes."""
    out = io.BytesIO()
    with _styled(), warnings.catch_warnings():
        # A letter that no font here has is drawn as a box; an SVG is shown with its reader's fonts.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(out, format=form, metadata=_UNDATED[form])
    return out.getvalue()


@contextmanager
def _styled() -> Iterator[None]:
    """Draw the same whatever a person's own settings are, and leave these as they were."""
    there = set(fontManager.get_font_names())
    fonts = ["DejaVu Sans", *(name for name in _FONTS if name in there)]
    with style.context(["default", {**_STYLE, "font.family": fonts}]):
        yield


def _sign(place: int) -> dict[str, Any]:
    return {"color": _COLOURS[place % len(_COLOURS)], "marker": _SHAPES[place % len(_SHAPES)]}


@singledispatch
def _draw(picture: Any, figure: Figure) -> None:
    raise TypeError(f"cannot draw a {type(picture).__name__} on {figure}")


def _label(axis: Axis) -> str:
    return ", ".join(filter(None, (short(axis.label, 60), axis.better)))


def _scale(axes: Axes, axis: Axis, which: str) -> None:
    """Label an axis with its unit; a logarithmic one with plain numbers."""
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(_label(axis))
    if axis.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        one = axes.xaxis if which == "x" else axes.yaxis
        one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        one.set_minor_formatter(FuncFormatter(lambda *_: ""))


# Distribution


@_draw.register
def _distribution(picture: Distribution, figure: Figure) -> None:
    models, panels = picture.models, picture.panels
    width = 7.0 if len(panels) < 3 else 3.0 * len(panels) + 1.0
    figure.set_size_inches(width, max(2.4, 1.5 + 0.42 * len(models)))
    signs = {model: _sign(place) for place, model in enumerate(sorted(models))}
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        for place, model in enumerate(models):
            if (group := panel.groups.get(model)) is not None:
                _box(axes, place, group, signs[model])
        _counts(axes, panel, models)
        _scale(axes, panel.axis, "x")
        axes.grid(visible=False, axis="y")
    grid[0].set_yticks(range(len(models)), [short(model, 32) for model in models])
    grid[0].set_ylim(len(models) - 0.4, -0.6)


def _box(axes: Axes, place: int, group: Group, sign: dict[str, Any]) -> None:
    """Draw the points of a group, over them its box where there are enough for one."""
    jitter = [
        place + 0.5 * ((number * 0.618034 + 0.5) % 1 - 0.5) for number in range(len(group.points))
    ]
    size = 14 if len(group.points) <= 60 else 7
    alpha = 0.75 if len(group.points) <= 60 else 0.4
    axes.scatter(group.points, jitter, s=size, alpha=alpha, linewidths=0, zorder=2, **sign)
    if group.n < _FEW:
        axes.plot([group.median] * 2, [place - 0.3, place + 0.3], color="black", lw=1.2, zorder=3)
        return
    # Not with Axes.bxp, which imports pyplot.
    low, high = group.lower_quartile, group.upper_quartile
    line: dict[str, Any] = {"color": "black", "lw": 0.9, "zorder": 3}
    axes.barh(place, high - low, 0.6, low, facecolor="none", edgecolor="black", lw=0.9, zorder=3)
    for near, far in ((low, group.low), (high, group.high)):
        axes.plot([near, far], [place, place], **line)
        axes.plot([far, far], [place - 0.15, place + 0.15], **line)
    axes.plot([group.median] * 2, [place - 0.3, place + 0.3], color="black", lw=1.8, zorder=4)
    mean: dict[str, Any] = {"markersize": 4, "markerfacecolor": "white", "markeredgecolor": "black"}
    axes.plot(group.mean, place, "D", zorder=5, **mean)


_MANY: Final = 60
_FEW: Final = 5  # a box of fewer values would say more than they do


def _counts(axes: Axes, panel: Panel, models: Sequence[str]) -> None:
    """Write how many values each model has, at the right edge."""
    where = axes.get_yaxis_transform()
    style_: dict[str, Any] = {"transform": where, "fontsize": 7, "color": _GREY, "va": "center"}
    for place, model in enumerate(models):
        group = panel.groups.get(model)
        text = "no value" if group is None else f"n = {group.n:,}"
        axes.text(1.01, place, text, ha="left", **style_)


# Pairs


@_draw.register
def _paired(picture: Paired, figure: Figure) -> None:
    if picture.comparison.n > DUMBBELLS:
        _diagonal(picture, figure)
    else:
        _dumbbells(picture, figure)


def _dumbbells(picture: Paired, figure: Figure) -> None:
    pairs, of = picture.pairs, picture.comparison
    figure.set_size_inches(7.0, max(2.6, 1.7 + 0.2 * len(pairs)))
    axes = figure.subplots()
    places = range(len(pairs))
    for place, pair in zip(places, pairs, strict=True):
        axes.plot([pair.a, pair.b], [place, place], color="#b0b0b0", lw=1.6, zorder=1)
    for values, which in (([pair.a for pair in pairs], 1), ([pair.b for pair in pairs], 0)):
        axes.scatter(values, places, s=26, label=str(which), zorder=2, **_sign(which))
    axes.set_yticks(places, pair_labels(pairs))
    axes.set_ylim(-0.7, len(pairs) - 0.3)
    axes.grid(visible=False, axis="y")
    _scale(axes, picture.axis, "x")
    _legend(figure, [f"A: {short(of.a, 36)}", f"B: {short(of.b, 36)}"], below=True)


def _diagonal(picture: Paired, figure: Figure) -> None:
    pairs, of = picture.pairs, picture.comparison
    figure.set_size_inches(5.6, 5.8)
    axes = figure.subplots()
    a, b = [pair.a for pair in pairs], [pair.b for pair in pairs]
    low, high = min(*a, *b), max(*a, *b)
    edge = 0.05 * (high - low) or 1.0
    ends = (low - edge, high + edge)
    axes.plot(ends, ends, color=_GREY, lw=1.0, ls="--", zorder=1)
    alpha = 0.7 if len(pairs) <= 500 else 0.35
    axes.scatter(a, b, s=12, alpha=alpha, linewidths=0, zorder=2, **_sign(0))
    axes.set(xlim=ends, ylim=ends)
    axes.set_aspect("equal")
    corner: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 8, "color": _GREY}
    above, below = ("B", "A") if picture.axis.higher_is_better else ("A", "B")
    axes.text(0.03, 0.97, f"{above} is better", va="top", **corner)
    axes.text(0.97, 0.03, f"{below} is better", ha="right", **corner)
    label = short(picture.axis.label, 40)
    axes.set_xlabel(f"A: {short(of.a, 36)}, {label}")
    axes.set_ylabel(f"B: {short(of.b, 36)}, {label}")


# Scatter


@_draw.register
def _scatter(picture: Scatter, figure: Figure) -> None:
    clouds = picture.clouds
    _size_with_legend(figure, [cloud.model for cloud in clouds])
    axes = figure.subplots()
    drawn = sum(len(cloud.points) for cloud in clouds)
    size, alpha = (20, 0.75) if drawn <= 400 else (9, 0.45)
    for place, cloud in enumerate(clouds):
        x, y = zip(*cloud.points, strict=True)
        axes.scatter(x, y, s=size, alpha=alpha, linewidths=0, label=str(place), **_sign(place))
    _scale(axes, picture.x, "x")
    _scale(axes, picture.y, "y")
    _legend(figure, [counted(cloud.model, cloud.n, _NAME) for cloud in clouds])


def _size_with_legend(figure: Figure, names: Sequence[str]) -> None:
    longest = max(len(short(name, _NAME)) for name in names)
    figure.set_size_inches(6.4 + 0.07 * longest, max(4.5, 1.2 + 0.19 * len(names)))


_NAME: Final = 36


def _legend(figure: Figure, texts: Sequence[str], *, below: bool = False) -> None:
    """Set a legend beside the axes, or in one line below them, so that it hides no point."""
    if below:
        legend = figure.legend(loc="outside lower center", ncols=len(texts), markerscale=1.3)
    else:
        legend = figure.legend(loc="outside right upper", markerscale=1.3)
    # Set afterwards, because matplotlib leaves out what begins with an underscore.
    for text, place in zip(texts, legend.get_texts(), strict=True):
        place.set_text(text)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


# Trend


@_draw.register
def _trend(picture: Trend, figure: Figure) -> None:
    lines = picture.lines
    _size_with_legend(figure, [line.model for line in lines])
    axes = figure.subplots()
    types = list(dict.fromkeys(line.model_type for line in lines))
    before: dict[str, list[tuple[float, float]]] = {}
    for place, line in enumerate(lines):
        aside = picture.aside(place) / _DAY
        points = [(float(date2num(mark.time)) + aside, mark.mean) for mark in line.marks]
        colour = _COLOURS[types.index(line.model_type) % len(_COLOURS)]
        if line.model_type in before:
            _bridge(axes, before[line.model_type][-1], points[0], colour)
        before[line.model_type] = points
        _marks(axes, line, points, colour, _SHAPES[place % len(_SHAPES)])
    _scale(axes, picture.axis, "y")
    axes.set_ylim(*picture.ends)
    _times(axes, picture)
    totals = [sum(mark.n for mark in line.marks) for line in lines]
    names = [line.model for line in lines]
    _legend(figure, [counted(*one, _NAME) for one in zip(names, totals, strict=True)])


def _bridge(axes: Axes, last: tuple[float, float], first: tuple[float, float], colour: str) -> None:
    """Lead from one version to the one that follows it."""
    if first[0] > last[0]:
        axes.plot([last[0], first[0]], [last[1], first[1]], color=colour, lw=0.9, ls=":")


def _marks(
    axes: Axes, line: Line, points: Sequence[tuple[float, float]], colour: str, shape: str
) -> None:
    below = [0.0 if mark.low is None else mark.mean - mark.low for mark in line.marks]
    above = [0.0 if mark.high is None else mark.high - mark.mean for mark in line.marks]
    axes.errorbar(
        [time for time, _ in points],
        [value for _, value in points],
        yerr=[below, above],
        label="line",
        color=colour,
        marker=shape,
        markersize=5,
        lw=1.2,
        elinewidth=0.9,
        capsize=2.5,
    )


def _times(axes: Axes, picture: Trend) -> None:
    times = [float(date2num(mark.time)) for line in picture.lines for mark in line.marks]
    step = picture.seconds / _DAY
    axes.set_xlim(min(times) - step / 2, max(times) + step / 2)
    starts = sorted({mark.time for line in picture.lines for mark in line.marks})
    if len(starts) <= _FEW_STEPS:
        form = "%Y-%m-%d" if step >= 1 else "%Y-%m-%d\n%H:%M"
        axes.set_xticks(sorted(set(times)), [f"{start:{form}}" for start in starts])
    else:
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_xlabel(Axis(f"{picture.step} of the runs", "UTC").label)


_DAY: Final = 86_400
_FEW_STEPS: Final = 5
