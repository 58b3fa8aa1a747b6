"""Plots drawn with Matplotlib, without pyplot: a notebook's own figures stay as they are."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import and_, or_
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee.display.labels import Axis, measured, metric_axis, model_order, narrowed
from voices_peewee.errors import ExportError, MissingExtraError, PlotError, QueryError
from voices_peewee.questions.comparison import Comparison, compare
from voices_peewee.questions.comparison_text import counts, verdict
from voices_peewee.questions.comparisons import Comparisons
from voices_peewee.questions.leaderboard import leaderboard
from voices_peewee.questions.selection import (
    Metric,
    Model,
    Runs,
    find_metric,
    find_side,
    model_label,
)
from voices_peewee.rendering.plain import fit
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory
from voices_peewee.upkeep.whole_files import write_whole

try:
    import numpy as np
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cbook import boxplot_stats
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError("drawing a picture", "notebook") from error

from voices_peewee.database.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_METRICS: Final = {"distribution": 4, "paired": 1, "ranks": 1, "scatter": 1}
_USUAL: Final = ("si_snri", "sdri")
_FILE: Final = ("duration", "sample_rate", "channels", "file_size")
_MOST_MODELS: Final = 40  # more cannot be told apart
_FEW: Final = 5  # a box of fewer values would say more than they do
_MANY: Final = 500  # of more values only the box is drawn, and what lies beyond it
_NAME: Final = 36

# Okabe and Ito's colours, which people with any colour vision tell apart, without the yellow,
# which is too light on white. Ten shapes with seven colours make seventy different signs.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHAPES: Final = "os^DvPX<>*"
_GREY: Final = "#767676"
_STYLE: Final[dict[str, Any]] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "voices",
    "text.parse_math": False,
}
_UNDATED: Final[dict[str, dict[str, None]]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
# The same whatever a person's own settings are, which stay as they were.
_styled: Final = partial(style.context, ["default", _STYLE])
Sign = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for: ``models`` as ``demucs:4.0`` or query words; none stands for all."""

    models: tuple[str | Model, ...] = ()
    metrics: tuple[str, ...] | None = None
    against: str | None = None
    higher_is_better: bool | None = None
    runs: Runs = field(default_factory=Runs)


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
        raise ExportError(path, "a picture ends in .png, .svg or .pdf")
    if kind not in _MOST_METRICS:
        raise QueryError.unknown_field(kind, _MOST_METRICS, "plot")
    if kind == "paired" and len(request.models) != 2:
        raise QueryError(f"a paired plot is of two models, not {len(request.models)}")
    if kind != "scatter" and request.against is not None:
        raise QueryError(f"a {kind} plot is not against a column; a scatter plot is")
    most = _MOST_METRICS[kind]
    if request.metrics is not None and not 1 <= len(request.metrics) <= most:
        many = "1 metric" if most == 1 else f"1 to {most} metrics"
        raise QueryError(f"a {kind} plot takes {many}, not {len(request.metrics)}")
    with _styled(), store.snapshot():
        figure = PlotFigure()
        FigureCanvasAgg(figure)
        title, under = getattr(_Drawing(store, request, figure), kind)()
        asked = ", ".join(map(" ".join, narrowed(request.runs).items()))
        below = ", ".join(filter(None, (under, fit(asked, 80))))
        figure.suptitle(f"{title}\n{below}".strip(), fontsize=10, x=0.01, ha="left")
    if path is not None:
        picture = _render(figure, Path(path).suffix.lower())
        write_whole(Path(path), picture, overwrite=overwrite)
    return figure


def _render(figure: Figure, suffix: str) -> bytes:
    """Return a figure as the bytes of a file; the same figure gives the same bytes."""
    out = io.BytesIO()
    with _styled(), warnings.catch_warnings():
        # A letter that no font here has is drawn as a box; an SVG is shown with its reader's fonts.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(out, format=suffix[1:], metadata=_UNDATED[suffix])
    return out.getvalue()


class _Drawing:
    """A plot that is being drawn: each kind returns its title and what stands under that."""

    def __init__(self, store: Store, request: Request, figure: PlotFigure) -> None:
        self.store, self.request, self.figure = store, request, figure
        self.how: dict[str, Any] = {"higher_is_better": request.higher_is_better}
        self.metrics = [self._metric(name) for name in request.metrics or _USUAL]
        self.order = model_order()

    def _metric(self, name: str) -> Metric:
        return find_metric(self.store, name, **self.how)

    def sign(self, model: str) -> Sign:
        """Return a model's colour and shape, the same in every picture of a record."""
        name = model if model in self.order else model.partition(" ")[0]  # a side of query words
        begins = (at for at, one in enumerate(self.order) if one.startswith(f"{name}:"))
        is_known = name in self.order
        return _sign(self.order.index(name) if is_known else next(begins, len(self.order)))

    def distribution(self) -> tuple[str, str]:
        """Draw metrics by model, the best median of the first one at the top."""
        shown: list[tuple[Metric, dict[str, list[float]]]] = []
        for metric in self.metrics:
            shown.append((metric, {}))
            for model, value in self._rows(metric, once=metric.is_of_run):
                shown[-1][1].setdefault(model, []).append(value)
        empty = [metric.name for metric, own in shown if not own]
        if len(empty) == len(shown) or (empty and self.request.metrics):
            raise self._nothing(f"a value of {' or '.join(map(repr, empty))}")
        shown = [(metric, own) for metric, own in shown if own]
        first, values = shown[0]
        sign = -1 if first.higher_is_better else 1
        medians = {model: sign * np.median(own) for model, own in values.items()}
        named = {model for _, own in shown for model in own}
        models = sorted(named, key=lambda model: (medians.get(model, np.inf), model))
        _refuse_too_many(models)
        size = (max(7.0, 3.0 * len(shown) + 1.0), max(2.4, 1.5 + 0.42 * len(models)))
        self.figure.set_size_inches(*size)
        grid = self.figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, (metric, own) in zip(grid, shown, strict=True):
            for place, model in enumerate(models):
                _box(axes, place, np.array(own.get(model, ())), self.sign(model))
            axes.set_xlabel(_axis_label(metric_axis(metric)))
            axes.grid(visible=False, axis="y")
        grid[0].set_yticks(range(len(models)), [fit(model, 32) for model in models])
        grid[0].set_ylim(len(models) - 0.4, -0.6)
        *names, last = (fit(metric_axis(metric).name, 30) for metric, _ in shown)
        return f"{' and '.join(filter(None, (', '.join(names), last)))} by model", ""

    def scatter(self) -> tuple[str, str]:
        """Draw a point for each run: a metric against another number."""
        metric, name = self.metrics[0], self.request.against or _FILE[0]
        against = name if name in _FILE else self._metric(name)
        clouds: dict[str, list[tuple[float, float]]] = {}
        for model, y, x in self._rows(metric, against, once=True):
            clouds.setdefault(model, []).append((x, y))
        if not clouds:
            raise self._nothing(f"both {metric.name!r} and {name!r}")
        _refuse_too_many(clouds)
        points = {model: np.array(clouds[model]).T for model in sorted(clouds)}
        texts = [f"{fit(model, _NAME)} ({_related(*cloud)})" for model, cloud in points.items()]
        width = 6.4 + 0.07 * max(map(len, texts))
        self.figure.set_size_inches(width, max(4.5, 1.2 + 0.19 * len(texts)))
        axes, count = self.figure.subplots(), sum(map(len, clouds.values()))
        for model, (xs, ys) in points.items():
            _dots(axes, xs, ys, self.sign(model), count)
        y_axis, x_axis = metric_axis(metric), metric_axis(against)
        axes.set(xlabel=_axis_label(x_axis), ylabel=_axis_label(y_axis))
        legend = self.figure.legend(loc="outside right upper", markerscale=1.3, fontsize=8)
        # Set afterwards, because Matplotlib leaves out what begins with an underscore.
        for text, entry in zip(texts, legend.get_texts(), strict=True):
            entry.set_text(text)
        title = f"{fit(y_axis.name, 30)} against {fit(x_axis.name, 30)}"
        return title, f"{count:,} run{'' if count == 1 else 's'}"

    def paired(self) -> tuple[str, str]:
        """Draw a point for each pair beside the diagonal, with the sign of the better model."""
        of: Any = self._compare(*self.request.models)
        if not of.pairs:
            which = f"{of.a} and {of.b}"
            raise PlotError(f"nothing to plot: {which} have no recording in common with a value")
        self.figure.set_size_inches(6.4, 6.0)
        axes = self.figure.subplots()
        axes.axline((of.pairs[0].a, of.pairs[0].a), slope=1, color=_GREY, lw=1.0, ls="--", zorder=1)
        gain = 1 if of.higher_is_better else -1
        both = [self.sign(of.a), self.sign(of.b)]
        if both[0] == both[1]:  # two questions about one model
            both = [_sign(place) for place in (0, 1)]
        signs = {-gain: both[0], gain: both[1], 0: {"color": _GREY, "marker": "o"}}
        for side, sign in signs.items():
            won = [pair for pair in of.pairs if np.sign(pair.difference) == side]
            _dots(axes, [pair.a for pair in won], [pair.b for pair in won], sign, len(of.pairs))
        axes.set_aspect("equal", "datalim")
        corner: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 8, "color": _GREY}
        above, below = ("B", "A") if of.higher_is_better else ("A", "B")
        axes.text(0.03, 0.97, f"{above} is better", va="top", **corner)
        axes.text(0.97, 0.03, f"{below} is better", ha="right", **corner)
        label = fit(metric_axis(self.metrics[0]).label, 40)
        axes.set_xlabel(f"A: {fit(of.a, _NAME)}, {label}")
        axes.set_ylabel(f"B: {fit(of.b, _NAME)}, {label}")
        sure = "" if of.low is None else f"{100 * of.confidence:g} % interval; "
        return verdict(of, (fit(of.a, 24), fit(of.b, 24))), sure + counts(of)

    def ranks(self) -> tuple[str, str]:
        """Draw a row for each model with its mean rank, and bars over those that are alike."""
        name = self.metrics[0].name
        board = leaderboard(self.store, name, runs=self.request.runs, **self.how)
        models = self.request.models or [*measured(board).values()]
        _refuse_too_many(models)
        if len(models) < 2:
            said = f"ranks need two models with a value of {name!r}, not {len(models)}"
            raise PlotError(f"nothing to plot: {said}")
        found = self._compare(*models)
        if isinstance(found, Comparison):
            found = Comparisons.of([found], has_baseline=False)
        of, names = found.ranks, [*found.ranks.means]
        if not of.n:
            said = f"no recording has a value from all of {', '.join(found.models)}"
            raise PlotError(f"nothing to plot: {said}; name models that share some")
        count = len(names)
        self.figure.set_size_inches(7.0, max(2.4, 1.5 + 0.3 * count))
        axes = self.figure.subplots()
        for place, (model, rank) in enumerate(of.means.items()):
            axes.plot(rank, place, markersize=7, **self.sign(model), zorder=3)
            axes.text(rank, place - 0.25, f"{rank:.2f}", fontsize=8, ha="center")
        for column, alike in enumerate(of.bars, 1):
            rows = [names.index(model) for model in alike]
            x = [count + 0.15 * column + 0.1] * len(rows)
            axes.plot(x, rows, "o-", color="black", lw=2.5, markersize=4)
        axes.set_yticks(range(count), [fit(model, _NAME) for model in names])
        axes.set(ylim=(count - 0.4, -0.6), xlabel="mean rank", xticks=range(1, count + 1))
        counted = f"{of.n:,} recording{'s' * (of.n != 1)}"
        under = f"{counted}, 1 is best; a bar joins what cannot be told apart (Holm)"
        return f"mean ranks by {fit(metric_axis(self.metrics[0]).name, 40)}", under

    def _compare(self, *models: str | Model) -> Comparison | Comparisons:
        metric, runs = self.metrics[0].name, self.request.runs
        return compare(self.store, *models, metric=metric, runs=runs, **self.how)

    def _rows(self, *numbers: Metric | str, once: bool) -> Iterator[tuple[Any, ...]]:
        """Yield the model and the numbers of each successful measurement, or ``once`` a run."""
        run, file, recording = ProcessingHistory, ProcessedFile, ProcessedFile.alias()
        columns = [
            _plain(one) if isinstance(one, Metric) else getattr(recording, one) for one in numbers
        ]
        values = [pw.fn.AVG(column).coerce(False) if once else column for column in columns]
        query = run.select(run.model_type, run.model_version, *values)
        query = query.join_from(run, ModelPerformance).join_from(run, file)
        own = pw.fn.COALESCE(file.recording_id, file.id)
        # An outer join, because SQLite leaves one out that no column is read from.
        query = query.join_from(file, recording, pw.JOIN.LEFT_OUTER, on=(recording.id == own))
        known = [
            one.is_number if isinstance(one, Metric) else pw.Expression(column, pw.OP.IS_NOT, None)
            for one, column in zip(numbers, columns, strict=True)
        ]
        query = query.where(run.success, *known, *self._conditions())
        if once:
            query = query.group_by(run.run_id, run.model_type, run.model_version)
        for model_type, version, *found in query.tuples().iterator():
            yield model_label(model_type, version), *map(float, found)

    def _conditions(self) -> list[pw.Expression]:
        runs = self.request.runs
        sides = [find_side(self.store, model) for model in self.request.models]
        each = [reduce(and_, side.conditions(self.store, runs)) for side in sides]
        found = runs.conditions(self.store)
        return [*found, reduce(or_, each)] if each else found

    def _nothing(self, what: str) -> PlotError:
        is_all = not self.request.models and self.request.runs == Runs()
        which = "" if is_all else " that was asked for"
        return PlotError(f"nothing to plot: no successful run{which} has {what}")


def _sign(place: int) -> Sign:
    return {"color": _COLOURS[place % len(_COLOURS)], "marker": _SHAPES[place % len(_SHAPES)]}


def _axis_label(axis: Axis) -> str:
    return ", ".join(filter(None, (fit(axis.label, 60), axis.better)))


def _plain(metric: Metric) -> Any:
    """Return a metric's value without the conversion of the JSON column that it is read from."""
    value = metric.value
    return value.coerce(False) if isinstance(value, pw.Function) else value


def _refuse_too_many(models: Collection[Any]) -> None:
    if len(models) > _MOST_MODELS:
        said = f"{len(models):,} models cannot be told apart; name those to draw"
        raise PlotError(f"{said}, {_MOST_MODELS} at most")


def _dots(axes: Axes, x: Any, y: Any, sign: Sign, count: int) -> None:
    """Draw a cloud of points; of very many an SVG or a PDF holds one image."""
    size, alpha = (20, 0.75) if count <= _MANY else (9, 0.45)
    how: dict[str, Any] = {"rasterized": count > 10 * _MANY, "label": "model", **sign}
    axes.scatter(x, y, s=size, alpha=alpha, linewidths=0, zorder=2, **how)


def _box(axes: Axes, place: int, values: Any, sign: Sign) -> None:
    """Draw values as points, their number beside them, and a box where there are enough for one."""
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


def _related(xs: Any, ys: Any) -> str:
    """Return how many points there are, and their correlation where both numbers vary."""
    varies = len(xs) >= _FEW and np.ptp(xs) and np.ptp(ys)
    return f"n = {len(xs):,}" + (f", r = {np.corrcoef(xs, ys)[0, 1]:.2f}" if varies else "")
