"""Plots drawn with Matplotlib, without pyplot: a notebook's own figures stay as they are."""

from __future__ import annotations

import datetime as dt
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from voices_peewee.display.plot_data import (
    Axis,
    Distribution,
    Paired,
    Picture,
    Request,
    Scatter,
    read,
)
from voices_peewee.errors import MissingExtraError, PlotError
from voices_peewee.rendering.plain import fit, number, signed
from voices_peewee.upkeep.whole_files import whole_file

try:
    import numpy as np
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager
    from matplotlib.ticker import FuncFormatter
except ImportError as error:
    raise MissingExtraError("drawing a picture", "notebook") from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from voices_peewee.database.store import Store
    from voices_peewee.questions.comparison import Pair

SUFFIXES: Final = (".png", ".svg", ".pdf")
DUMBBELLS: Final = 40  # more pairs are drawn as points
_FEW: Final = 5  # a box of fewer values would say more than they do
_MANY: Final = 500  # of more values only the box is drawn, and what lies beyond it
_VECTORS: Final = 5_000  # more points of a cloud are one image inside an SVG or a PDF
_NAME: Final = 36

# Okabe and Ito's colours, which people with any colour vision tell apart, without the yellow,
# which is too light on white. Ten shapes with seven colours make seventy different signs.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHAPES: Final = "os^DvPX<>*"
_GREY: Final = "#767676"
_FONTS: Final = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Microsoft YaHei")
_STYLE: Final[dict[str, Any]] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.h_pad": 0.09,
    "figure.constrained_layout.use": True,
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
_UNDATED: Final[dict[str, dict[str, None]]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class PlotFigure(Figure):
    """A Matplotlib figure that a notebook shows, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        return _render(self, "png")


def plot(
    store: Store,
    kind: str,
    request: Request,
    *,
    path: str | os.PathLike[str] | None,
    overwrite: bool,
) -> PlotFigure:
    """Draw a plot as ``DatabaseManager.plot`` does."""
    target = None if path is None else _target(path, overwrite=overwrite)
    figure = _draw(read(store, kind, request), _about(request))
    if target is not None:
        _save(figure, target, overwrite=overwrite)
    return figure


def _target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return where a picture goes, or refuse before anything is read."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        listed = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise PlotError(f"cannot write {str(target)!r}: a picture ends in {listed}")
    if target.exists() and not overwrite:
        raise PlotError(f"cannot write {str(target)!r}: it is there already; overwrite replaces it")
    return target


def _save(figure: Figure, target: Path, *, overwrite: bool) -> None:
    content = _render(figure, target.suffix[1:].lower())
    try:
        with whole_file(target, overwrite=overwrite, mode=0o666) as part:
            part.write_bytes(content)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PlotError(f"cannot write {str(target)!r}: {reason}") from error


def _render(figure: Figure, form: str) -> bytes:
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


def _draw(picture: Picture, about: str) -> PlotFigure:
    with _styled():
        figure = PlotFigure()
        FigureCanvasAgg(figure)
        if isinstance(picture, Distribution):
            title, under = _distribution(figure, picture)
        elif isinstance(picture, Scatter):
            title, under = _scatter(figure, picture)
        else:
            title, under = _paired(figure, picture)
        below = "\n" + ", ".join(filter(None, (under, about))) if under or about else ""
        figure.suptitle(title + below, fontsize=10, x=0.01, ha="left")
        notes = () if isinstance(picture, Paired) else picture.notes
        if notes:
            figure.supxlabel("; ".join(notes), fontsize=7, color=_GREY, x=0.99, ha="right")
        return figure


def _about(request: Request) -> str:
    """Return in words which runs are drawn; empty for all."""
    runs = request.runs
    speaker = getattr(runs.speaker, "name", runs.speaker)
    said = {"": runs.operation_type, "speaker ": speaker, "since ": runs.since}
    said["before "] = runs.until
    said["where "] = runs.where if isinstance(runs.where, str) else " ".join(runs.where)
    words = (f"{word}{_said(value)}" for word, value in said.items() if value not in (None, ""))
    return fit(", ".join(words), 80)


def _said(value: object) -> str:
    if isinstance(value, dt.datetime):
        return f"{value.astimezone(dt.UTC):%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    return str(value)


def _sign(model: str, order: Sequence[str]) -> dict[str, Any]:
    """Return a model's colour and shape, the same in every picture of a record."""
    name = model if model in order else model.partition(" ")[0]  # a side may be query words
    versions = (at for at, known in enumerate(order) if f"{known}:".startswith(f"{name}:"))
    place = order.index(model) if model in order else next(versions, len(order))
    return {"color": _COLOURS[place % len(_COLOURS)], "marker": _SHAPES[place % len(_SHAPES)]}


def _scale(axes: Axes, axis: Axis, which: str) -> None:
    """Label an axis with its unit; a logarithmic one with plain numbers."""
    label = ", ".join(filter(None, (fit(axis.label, 60), axis.better)))
    axes.set(**{f"{which}label": label})
    if axis.log:
        axes.set(**{f"{which}scale": "log"})
        one = axes.xaxis if which == "x" else axes.yaxis
        one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        one.set_minor_formatter(FuncFormatter(lambda *_: ""))


def _legend(figure: Figure, texts: Sequence[str], *, below: bool = False) -> None:
    """Set a legend beside the axes, or in one line below them, so that it hides no point."""
    if below:
        legend = figure.legend(loc="outside lower center", ncols=len(texts), markerscale=1.3)
    else:
        legend = figure.legend(loc="outside right upper", markerscale=1.3)
    # Set afterwards, because Matplotlib leaves out what begins with an underscore.
    for text, place in zip(texts, legend.get_texts(), strict=True):
        place.set_text(text)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


def _distribution(figure: Figure, picture: Distribution) -> tuple[str, str]:
    panels, models = picture.panels, _ranked(picture)
    width = 7.0 if len(panels) < 3 else 3.0 * len(panels) + 1.0
    figure.set_size_inches(width, max(2.4, 1.5 + 0.42 * len(models)))
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        for place, model in enumerate(models):
            values = np.sort(panel.values.get(model, ()))
            text = f"n = {len(values):,}" if len(values) else "no value"
            where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(1.01, place, text, fontsize=7, color=_GREY, **where)
            if len(values):
                _box(axes, place, values, _sign(model, picture.order))
        _scale(axes, panel.axis, "x")
        axes.grid(visible=False, axis="y")
    grid[0].set_yticks(range(len(models)), [fit(model, 32) for model in models])
    grid[0].set_ylim(len(models) - 0.4, -0.6)
    names = [fit(panel.axis.name, 30) for panel in panels]
    return f"{' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} by model", ""


def _ranked(picture: Distribution) -> list[str]:
    """Return the models in the order of their medians in the first panel, the best first."""
    first = picture.panels[0]
    sign = -1 if first.axis.better.startswith("higher") else 1
    medians = {model: sign * float(np.median(values)) for model, values in first.values.items()}
    models = {model for panel in picture.panels for model in panel.values}
    return sorted(models, key=lambda model: (medians.get(model, np.inf), model))


def _box(axes: Axes, place: int, values: Any, sign: dict[str, Any]) -> None:
    """Draw values as points, and over them their box where there are enough for one.

    The box ends at the quartiles, the whiskers at the last values within one and a half times
    its length; not with Axes.bxp, which imports pyplot.
    """
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
    reach = 1.5 * (third - first)
    inside = values[(values >= first - reach) & (values <= third + reach)]
    beyond = values[(values < first - reach) | (values > third + reach)]
    _points(axes, place, values if len(values) <= _MANY else beyond, sign)
    line: dict[str, Any] = {"color": "black", "zorder": 3}
    axes.plot([median] * 2, [place - 0.3, place + 0.3], lw=1.8, **line)
    if len(values) < _FEW:
        return
    axes.barh(place, third - first, 0.6, first, facecolor="none", edgecolor="black", lw=0.9)
    for near, far in ((first, min(first, inside[0])), (third, max(third, inside[-1]))):
        axes.plot([near, far, far, far], [place, place, place - 0.15, place + 0.15], lw=0.9, **line)
    axes.plot(values.mean(), place, "D", markersize=4, mfc="white", mec="black", zorder=5)


def _points(axes: Axes, place: int, values: Any, sign: dict[str, Any]) -> None:
    jitter = place + 0.5 * ((np.arange(len(values)) * 0.618034 + 0.5) % 1 - 0.5)
    size, alpha = (14, 0.75) if len(values) <= 60 else (7, 0.4)
    how: dict[str, Any] = {"rasterized": len(values) > _VECTORS, **sign}
    axes.scatter(values, jitter, s=size, alpha=alpha, linewidths=0, zorder=2, **how)


def _paired(figure: Figure, picture: Paired) -> tuple[str, str]:
    if len(picture.pairs) > DUMBBELLS:
        _diagonal(figure, picture)
    else:
        _dumbbells(figure, picture)
    of = picture.comparison
    unit = of.metric_unit
    if of.better is not None:
        by = f"{number(abs(of.mean_difference or 0.0), unit)} {unit}".rstrip()
        title = f"{fit(of.better, 30)} is better by {by} on average"
    else:
        both = f"{fit(of.a, 30)} and {fit(of.b, 30)}"
        few = of.verdict == "too few"
        title = f"Too few to tell {both} apart" if few else f"No clear difference between {both}"
    counted = f"{of.n:,} {of.unit}{'' if of.n == 1 else 's'}"
    if of.low is None or of.high is None:
        return title, counted
    low, high = (signed(end, unit) for end in (of.low, of.high))
    return title, f"{100 * of.confidence:g} % interval of B - A {low} to {high}, {counted}"


def _signs(picture: Paired) -> list[dict[str, Any]]:
    """Return the signs of A and B: their models', or two of their own where these are one."""
    a, b = (_sign(model, picture.order) for model in (picture.comparison.a, picture.comparison.b))
    return [_sign(which, "AB") for which in "AB"] if a == b else [a, b]


def _dumbbells(figure: Figure, picture: Paired) -> None:
    of = picture.comparison
    sign = 1 if of.higher_is_better else -1
    pairs = sorted(picture.pairs, key=lambda pair: sign * pair.difference)
    figure.set_size_inches(7.0, max(2.6, 1.7 + 0.2 * len(pairs)))
    axes = figure.subplots()
    places = range(len(pairs))
    a, b = [pair.a for pair in pairs], [pair.b for pair in pairs]
    axes.hlines(places, a, b, color="#b0b0b0", lw=1.6, zorder=1)
    for values, own in zip((a, b), _signs(picture), strict=True):
        axes.scatter(values, places, s=26, label="model", zorder=2, **own)
    axes.set_yticks(places, [_pair_name(pair) for pair in pairs])
    axes.set_ylim(-0.7, len(pairs) - 0.3)
    axes.grid(visible=False, axis="y")
    _scale(axes, picture.axis, "x")
    names = [f"A: {fit(of.a, _NAME)}", f"B: {fit(of.b, _NAME)}"]
    _legend(figure, names, below=True)


def _pair_name(pair: Pair) -> str:
    path = PurePath(pair.path or "")
    name = fit(str(PurePath(*path.parts[-2:])), 30, "end")
    return name if pair.speaker is None else f"{name} ({fit(pair.speaker, 14)})"


def _diagonal(figure: Figure, picture: Paired) -> None:
    pairs, of = picture.pairs, picture.comparison
    figure.set_size_inches(5.6, 5.8)
    axes = figure.subplots()
    a, b = [pair.a for pair in pairs], [pair.b for pair in pairs]
    low, high = min(*a, *b), max(*a, *b)
    edge = 0.05 * (high - low) or 1.0
    ends = (low - edge, high + edge)
    axes.plot(ends, ends, color=_GREY, lw=1.0, ls="--", zorder=1)
    sign = 1 if of.higher_is_better else -1
    for own, side in zip(_signs(picture), (-sign, sign), strict=True):  # that of the better one
        won = [pair for pair in pairs if side * pair.difference > 0]
        x, y = [pair.a for pair in won], [pair.b for pair in won]
        _cloud(axes, x, y, own, len(pairs))
    axes.set(xlim=ends, ylim=ends)
    axes.set_aspect("equal")
    corner: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 8, "color": _GREY}
    above, below = ("B", "A") if of.higher_is_better else ("A", "B")
    axes.text(0.03, 0.97, f"{above} is better", va="top", **corner)
    axes.text(0.97, 0.03, f"{below} is better", ha="right", **corner)
    label = fit(picture.axis.label, 40)
    axes.set(
        xlabel=f"A: {fit(of.a, _NAME)}, {label}",
        ylabel=f"B: {fit(of.b, _NAME)}, {label}",
    )


def _scatter(figure: Figure, picture: Scatter) -> tuple[str, str]:
    models = sorted(picture.clouds, key=picture.order.index)
    texts = [_counted(model, *picture.clouds[model]) for model in models]
    figure.set_size_inches(6.4 + 0.07 * max(map(len, texts)), max(4.5, 1.2 + 0.19 * len(models)))
    axes = figure.subplots()
    count = sum(len(xs) for xs, _ in picture.clouds.values())
    for model in models:
        _cloud(axes, *picture.clouds[model], _sign(model, picture.order), count)
    _scale(axes, picture.x, "x")
    _scale(axes, picture.y, "y")
    _legend(figure, texts)
    title = f"{fit(picture.y.name, 30)} against {fit(picture.x.name, 30)}"
    return title, f"{count:,} run{'' if count == 1 else 's'}, ρ: Spearman's rank correlation"


def _cloud(axes: Axes, x: Sequence[float], y: Sequence[float], sign: Any, count: int) -> None:
    size, alpha = (20, 0.75) if count <= 400 else (9, 0.45)
    how: dict[str, Any] = {"rasterized": count > _VECTORS, **sign}
    axes.scatter(x, y, s=size, alpha=alpha, linewidths=0, zorder=2, label="model", **how)


def _counted(model: str, x: Sequence[float], y: Sequence[float]) -> str:
    """Return a model's name with how many runs it has and their rank correlation."""
    rho = _rank_correlation(x, y)
    known = "" if rho is None else f", ρ = {rho:z.2f}"
    return f"{fit(model, _NAME)} (n = {len(x):,}{known})"


def _rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Spearman's ρ, with mean ranks where values are equal; None where it has none."""
    if len(x) < 3 or min(x) == max(x) or min(y) == max(y):
        return None
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> Any:
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]
