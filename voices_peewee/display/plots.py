"""Plots drawn with Matplotlib, without pyplot: a notebook's own figures stay as they are."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voices_peewee.display.plot_data import (
    Axis,
    Distribution,
    Paired,
    Picture,
    Ranked,
    Request,
    Scatter,
    narrowed,
    read,
)
from voices_peewee.errors import MissingExtraError, PlotError
from voices_peewee.questions.comparison_text import counts, verdict
from voices_peewee.rendering.plain import fit
from voices_peewee.upkeep.whole_files import whole_file

try:
    import numpy as np
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cbook import boxplot_stats
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager
except ImportError as error:
    raise MissingExtraError("drawing a picture", "notebook") from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from voices_peewee.database.store import Store

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
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "voices",
    "text.parse_math": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
_UNDATED: Final[dict[str, dict[str, None]]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
Sign = dict[str, Any]
Signs = Callable[[str], Sign]


class PlotFigure(Figure):
    """A Matplotlib figure that a notebook shows, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        return _render(self, ".png")


def plot(
    store: Store,
    kind: str,
    request: Request,
    *,
    path: str | os.PathLike[str] | None,
    overwrite: bool,
) -> PlotFigure:
    """Draw a plot as ``DatabaseManager.plot`` does."""
    if path is not None and Path(path).suffix.lower() not in _UNDATED:
        raise _cannot_write(path, "a picture ends in .png, .svg or .pdf")
    picture, order = read(store, kind, request)
    with _styled():
        figure = PlotFigure()
        FigureCanvasAgg(figure)
        title, under = _draw(figure, picture, lambda model: _sign(model, order))
        asked = ", ".join(map(" ".join, narrowed(request.runs).items()))
        below = ", ".join(filter(None, (under, fit(asked, 80))))
        figure.suptitle(f"{title}\n{below}".strip(), fontsize=10, x=0.01, ha="left")
    if path is not None:
        _save(figure, Path(path), overwrite=overwrite)
    return figure


def _save(figure: Figure, target: Path, *, overwrite: bool) -> None:
    try:
        with whole_file(target, overwrite=overwrite, mode=0o666) as part:
            part.write_bytes(_render(figure, target.suffix.lower()))
    except FileExistsError as error:
        raise _cannot_write(target, "it is there already; overwrite replaces it") from error
    except OSError as error:
        raise _cannot_write(target, (error.strerror or str(error)).lower()) from error


def _cannot_write(path: str | os.PathLike[str], reason: str) -> PlotError:
    return PlotError(f"cannot write {os.fspath(path)!r}: {reason}")


def _render(figure: Figure, suffix: str) -> bytes:
    """Return a figure as the bytes of a file; the same figure gives the same bytes."""
    out = io.BytesIO()
    with _styled(), warnings.catch_warnings():
        # A letter that no font here has is drawn as a box; an SVG is shown with its reader's fonts.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(out, format=suffix[1:], metadata=_UNDATED[suffix])
    return out.getvalue()


@contextmanager
def _styled() -> Iterator[None]:
    """Draw the same whatever a person's own settings are, and leave these as they were."""
    there = set(fontManager.get_font_names())
    fonts = ["DejaVu Sans", *(name for name in _FONTS if name in there)]
    with style.context(["default", {**_STYLE, "font.family": fonts}]):
        yield


def _sign(model: str, order: Sequence[str]) -> Sign:
    """Return a model's colour and shape, the same in every picture of a record."""
    name = model.partition(" ")[0]  # a side may be query words
    places = (at for at, known in enumerate(order) if known == name or known.startswith(f"{name}:"))
    place = next(places, len(order))
    return {"color": _COLOURS[place % len(_COLOURS)], "marker": _SHAPES[place % len(_SHAPES)]}


def _draw(figure: Figure, picture: Picture, signs: Signs) -> tuple[str, str]:
    """Draw a picture; return its title and what stands under that."""
    if isinstance(picture, Distribution):
        return _distribution(figure, picture, signs)
    if isinstance(picture, Scatter):
        return _scatter(figure, picture, signs)
    if isinstance(picture, Ranked):
        return _ranks(figure, picture, signs)
    return _paired(figure, picture, signs)


def _axis_label(axis: Axis) -> str:
    return ", ".join(filter(None, (fit(axis.label, 60), axis.better)))


def _dots(axes: Axes, x: Any, y: Any, sign: Sign, count: int) -> None:
    """Draw a cloud of points, one of so many, and the smaller the more there are."""
    size, alpha = (20, 0.75) if count <= 400 else (9, 0.45)
    how: dict[str, Any] = {"rasterized": count > _VECTORS, "label": "model", **sign}
    axes.scatter(x, y, s=size, alpha=alpha, linewidths=0, zorder=2, **how)


def _distribution(figure: Figure, picture: Distribution, signs: Signs) -> tuple[str, str]:
    models, count = _ranked(picture), len(picture.axes)
    figure.set_size_inches(max(7.0, 3.0 * count + 1.0), max(2.4, 1.5 + 0.42 * len(models)))
    grid = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axes, axis, values in zip(grid, picture.axes, picture.values, strict=True):
        for place, model in enumerate(models):
            _box(axes, place, np.array(values.get(model, ())), signs(model))
        axes.set_xlabel(_axis_label(axis))
        axes.grid(visible=False, axis="y")
    grid[0].set_yticks(range(len(models)), [fit(model, 32) for model in models])
    grid[0].set_ylim(len(models) - 0.4, -0.6)
    *names, last = (fit(axis.name, 30) for axis in picture.axes)
    return f"{' and '.join(filter(None, (', '.join(names), last)))} by model", ""


def _ranked(picture: Distribution) -> list[str]:
    """Return the models in the order of their medians in the first panel, the best first."""
    sign = -1 if picture.axes[0].better.startswith("higher") else 1
    medians = {model: sign * np.median(values) for model, values in picture.values[0].items()}
    models = {model for values in picture.values for model in values}
    return sorted(models, key=lambda model: (medians.get(model, np.inf), model))


def _box(axes: Axes, place: int, values: Any, sign: Sign) -> None:
    """Draw values as points, their number beside them, and a box where there are enough for one.

    Not with Axes.bxp, which imports pyplot.
    """
    count = len(values)
    where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
    text = f"n = {count:,}" if count else "no value"
    axes.text(1.01, place, text, fontsize=7, color=_GREY, **where)
    if not count:
        return
    (box,) = boxplot_stats(values)
    points = np.sort(values if count <= _MANY else box["fliers"])
    jitter = place + 0.5 * ((np.arange(len(points)) * 0.618034 + 0.5) % 1 - 0.5)
    _dots(axes, points, jitter, sign, count)
    line: dict[str, Any] = {"color": "black", "zorder": 3}
    axes.plot([box["med"]] * 2, [place - 0.3, place + 0.3], lw=1.8, **line)
    if count < _FEW:
        return
    axes.barh(place, box["iqr"], 0.6, box["q1"], facecolor="none", edgecolor="black", lw=0.9)
    for near, far in ((box["q1"], box["whislo"]), (box["q3"], box["whishi"])):
        axes.plot([near, far, far, far], [place, place, place - 0.15, place + 0.15], lw=0.9, **line)
    axes.plot(box["mean"], place, "D", markersize=4, mfc="white", mec="black", zorder=5)


def _scatter(figure: Figure, picture: Scatter, signs: Signs) -> tuple[str, str]:
    clouds = picture.clouds
    texts = [f"{fit(model, _NAME)} ({_related(*cloud)})" for model, cloud in clouds.items()]
    figure.set_size_inches(6.4 + 0.07 * max(map(len, texts)), max(4.5, 1.2 + 0.19 * len(clouds)))
    axes = figure.subplots()
    count = sum(len(xs) for xs, _ in clouds.values())
    for model, (xs, ys) in clouds.items():
        _dots(axes, xs, ys, signs(model), count)
    axes.set(xlabel=_axis_label(picture.x), ylabel=_axis_label(picture.y))
    legend = figure.legend(loc="outside right upper", markerscale=1.3)
    # Set afterwards, because Matplotlib leaves out what begins with an underscore.
    for text, shown in zip(texts, legend.get_texts(), strict=True):
        shown.set_text(text)
    title = f"{fit(picture.y.name, 30)} against {fit(picture.x.name, 30)}"
    return title, f"{count:,} run{'' if count == 1 else 's'}"


def _related(xs: Any, ys: Any) -> str:
    """Return how many points there are, and their correlation where both numbers vary."""
    said = f"n = {len(xs):,}"
    if len(xs) < _FEW or not np.ptp(xs) or not np.ptp(ys):
        return said
    return f"{said}, r = {np.corrcoef(xs, ys)[0, 1]:.2f}"


def _paired(figure: Figure, picture: Paired, signs: Signs) -> tuple[str, str]:
    """Draw a point for each pair beside the diagonal, with the sign of the better model."""
    of = picture.comparison
    figure.set_size_inches(6.4, 6.0)
    axes = figure.subplots()
    axes.axline((of.pairs[0].a, of.pairs[0].a), slope=1, color=_GREY, lw=1.0, ls="--", zorder=1)
    gain = 1 if of.higher_is_better else -1
    both = [signs(of.a), signs(of.b)]
    if both[0] == both[1]:  # two questions about one model
        both = [_sign(side, "AB") for side in "AB"]
    for sign, side in zip(both, (-gain, gain), strict=True):
        won = [pair for pair in of.pairs if side * pair.difference > 0]
        _dots(axes, [pair.a for pair in won], [pair.b for pair in won], sign, len(of.pairs))
    even = [pair.a for pair in of.pairs if pair.difference == 0]
    _dots(axes, even, even, {"color": _GREY, "marker": "o"}, len(of.pairs))
    axes.set_aspect("equal", "datalim")
    corner: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 8, "color": _GREY}
    above, below = ("B", "A") if of.higher_is_better else ("A", "B")
    axes.text(0.03, 0.97, f"{above} is better", va="top", **corner)
    axes.text(0.97, 0.03, f"{below} is better", ha="right", **corner)
    label = fit(picture.axis.label, 40)
    axes.set_xlabel(f"A: {fit(of.a, _NAME)}, {label}")
    axes.set_ylabel(f"B: {fit(of.b, _NAME)}, {label}")
    title = verdict(of, (fit(of.a, 24), fit(of.b, 24)))
    sure = "" if of.low is None else f"{100 * of.confidence:g} % interval; "
    return title, sure + counts(of)


def _ranks(figure: Figure, picture: Ranked, signs: Signs) -> tuple[str, str]:
    """Draw a row for each model with its mean rank, and bars over those that are alike."""
    of, count = picture.ranks, len(picture.ranks.means)
    figure.set_size_inches(7.0, max(2.4, 1.5 + 0.3 * count))
    axes = figure.subplots()
    for place, (model, rank) in enumerate(of.means.items()):
        axes.plot(rank, place, markersize=7, **signs(model), zorder=3)
        axes.text(rank, place - 0.25, f"{rank:.2f}", fontsize=8, ha="center")
    names = [*of.means]
    for column, models in enumerate(of.bars, 1):
        rows = [names.index(model) for model in models]
        x = [count + 0.15 * column + 0.1] * len(rows)
        axes.plot(x, rows, "o-", color="black", lw=2.5, markersize=4)
    axes.set_yticks(range(count), [fit(model, _NAME) for model in names])
    axes.set(ylim=(count - 0.4, -0.6), xlabel="mean rank", xticks=range(1, count + 1))
    unit = of.unit if of.n == 1 else f"{of.unit}s"
    under = f"{of.n:,} {unit}, 1 is best; a bar joins what cannot be told apart (Holm)"
    return f"mean ranks by {fit(picture.axis.name, 40)}", under
