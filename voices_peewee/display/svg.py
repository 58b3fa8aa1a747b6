"""Small pictures as SVG: text stays text, and a page's CSS gives the colours.

A model's colour is its class, ``s0`` to ``s6``. Each picture says its numbers in ``<title>`` and
``<desc>``, draws at most 500 points, and is the same to the byte for the same numbers.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from voices_peewee.questions.stats import mean
from voices_peewee.rendering.plain import fit, number, printable

COLOURS: Final = 7
_POINTS: Final = 500
_WIDTH: Final = 720
_LEFT: Final = 200
_RIGHT: Final = 24
_ROW: Final = 36
_NAME: Final = 26


class Row(NamedTuple):
    """A model with its values: ``colour`` is its place, ``low`` … ``high`` the mean's interval."""

    label: str
    colour: int
    values: Sequence[float]
    low: float | None = None
    high: float | None = None


class Rank(NamedTuple):
    """A model's mean rank, and the letters that it shares with what cannot be told apart."""

    label: str
    colour: int
    mean: float
    letters: str


class _Axis(NamedTuple):
    """A linear scale from numbers to places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low)
        return _n(self.start + share * (self.end - self.start))

    def ticks(self) -> list[float]:
        step = 10 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(times for times in (1, 2, 5, 10) if (self.high - self.low) / step / times <= 7)
        first = math.ceil(self.low / step)
        return [round(k * step, 12) for k in range(first, math.floor(self.high / step) + 1)]


def _axis(values: Iterable[float], start: float, end: float) -> _Axis:
    known = list(values)
    low, high = min(known), max(known)
    room = (high - low) * 0.04 or abs(low) * 0.1 or 1.0
    return _Axis(low - room, high + room, start, end)


def strip(rows: Sequence[Row], label: str, unit: str) -> str:
    """Draw the values of each model, and the mean with its interval.

    Args:
        rows: The models, each with one value at least, in the order from top to bottom.
        label: What is measured, with its unit.
        unit: The unit alone.
    """
    shown = [_sampled(sorted(row.values), _POINTS // len(rows)) for row in rows]
    ends = [end for row in rows for end in (row.low, row.high) if end is not None]
    x = _axis([*ends, *(value for values in shown for value in values)], _LEFT, _WIDTH - _RIGHT)
    bottom = _ROW * len(rows) + 14
    parts, said = _grid(x, bottom, label), []
    for place, (row, values) in enumerate(zip(rows, shown, strict=True)):
        y = 10 + _ROW * place + _ROW / 2
        center = mean(row.values) or 0.0
        parts += [_text(_LEFT - 10, y + 5, row.label, "end")]
        parts.append(f'<g class="s{row.colour % COLOURS}">')
        parts += [_point(x(value), y + _shift(i), "pt") for i, value in enumerate(values)]
        if row.low is not None and row.high is not None:
            parts.append(_line("iv", x(row.low), y, x(row.high), y))
        parts += [_diamond(x(center), y), "</g>"]
        said.append(f"{row.label}: {number(center, unit)} {unit}, n {len(row.values):,}")
    return _svg(parts, bottom + 44, f"{label} by model", "; ".join(said))


def paired(
    pairs: Sequence[tuple[float, float]],
    names: tuple[str, str],
    colours: tuple[int, int],
    label: str,
    *,
    higher_is_better: bool,
) -> str:
    """Draw a point for each recording, A across and B up, with the colour of the better model."""
    chosen = sorted(pairs, key=lambda pair: pair[1] - pair[0])
    shown = [chosen[k] for k in _places(len(chosen), _POINTS)]
    size, left = 420, 90
    values = [value for pair in shown for value in pair]
    x, y = _axis(values, left, left + size), _axis(values, 20 + size, 20)
    parts = _grid(x, 20 + size, f"A: {fit(names[0], 36)}, {label}", 20)
    for tick in y.ticks():
        parts.append(_line("grid", left, y(tick), left + size, y(tick)))
        parts.append(_text(left - 8, float(y(tick)) + 5, f"{tick:g}", "end", "tick"))
    parts.append(_line("grid", x(x.low), y(x.low), x(x.high), y(x.high)))
    parts.append(_text(left, 13, f"B: {fit(names[1], 36)}, {label}", "start"))
    wins = 0
    for a, b in shown:
        is_b = (b > a) is higher_is_better and a != b
        wins += is_b
        colour = f"pt s{colours[is_b] % COLOURS}"
        mark = _diamond(x(a), float(y(b)), colour) if is_b else _point(x(a), float(y(b)), colour)
        parts.append(mark)
    above, below = ("B", "A") if higher_is_better else ("A", "B")
    parts.append(_text(left + 10, 40, f"{above} is better", "start", "tick"))
    parts.append(_text(left + size - 10, 10 + size, f"{below} is better", "end", "tick"))
    more = f", {len(shown):,} of them drawn" if len(shown) < len(pairs) else ""
    said = f"{len(pairs):,} recordings{more}; A is {names[0]}, B is {names[1]}"
    return _svg(parts, size + 66, f"{label} of two models", f"{said}; B is better in {wins:,}")


def ranks(rows: Sequence[Rank], recordings: int) -> str:
    """Draw mean ranks; a bar joins the models that cannot be told apart (after Demšar, 2006)."""
    chosen = sorted(rows, key=itemgetter(2, 0))
    groups = sorted({letter for row in chosen for letter in row.letters})
    right = _WIDTH - _RIGHT - 22 * len(groups)
    x = _Axis(0.8, len(chosen) + 0.2, _LEFT, right)
    bottom = _ROW * len(chosen) + 14
    parts = _grid(x, bottom, "mean rank, 1 is the best")
    places = [10 + _ROW * place + _ROW / 2 for place in range(len(chosen))]
    for row, y in zip(chosen, places, strict=True):
        parts += [_text(_LEFT - 10, y + 5, row.label, "end")]
        parts += [f'<g class="s{row.colour % COLOURS}">', _diamond(x(row.mean), y), "</g>"]
        parts += [_text(float(x(row.mean)) + 14, y + 5, f"{row.mean:.2f}", "start", "tick")]
    for column, letter in enumerate(groups):
        own = [y for row, y in zip(chosen, places, strict=True) if letter in row.letters]
        if len(own) > 1:
            at = right + 16 + 22 * column
            parts.append(_line("join", at, own[0], at, own[-1]))
            parts += [f'<circle class="mk s6" cx="{at}" cy="{_n(y)}" r="5"/>' for y in own]
    said = "; ".join(f"{row.label}: {row.mean:.2f}, {row.letters}" for row in chosen)
    title = f"Mean ranks on {recordings:,} recordings; a bar joins what cannot be told apart"
    return _svg(parts, bottom + 44, title, said)


def _places(count: int, most: int) -> list[int]:
    """Return at most so many places of an ordered list, evenly, both ends among them."""
    if count <= most:
        return list(range(count))
    return [round(k * (count - 1) / (most - 1)) for k in range(most)]


def _sampled(ordered: Sequence[float], most: int) -> list[float]:
    return [ordered[k] for k in _places(len(ordered), max(most, 2))]


def _shift(place: int) -> float:
    return 18 * ((place * 0.618034 + 0.5) % 1 - 0.5)  # spread evenly, without chance


def _grid(x: _Axis, bottom: float, label: str, top: float = 10) -> list[str]:
    parts = []
    for tick in x.ticks():
        parts.append(_line("grid", x(tick), top, x(tick), bottom))
        parts.append(_text(float(x(tick)), bottom + 17, f"{tick:g}", "middle", "tick"))
    return [*parts, _text((x.start + x.end) / 2, bottom + 37, label, "middle")]


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    how = f' class="{kind}"' if kind else ""
    text = fit(text, _NAME) if x < _LEFT and anchor == "end" else text
    place = f'x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"'
    return f"<text{how} {place}>{_escaped(text)}</text>"


def _line(kind: str, x1: float | str, y1: float | str, x2: float | str, y2: float | str) -> str:
    a, b, c, d = (end if isinstance(end, str) else _n(end) for end in (x1, y1, x2, y2))
    return f'<line class="{kind}" x1="{a}" y1="{b}" x2="{c}" y2="{d}"/>'


def _point(x: str, y: float, kind: str) -> str:
    return f'<circle class="{kind}" cx="{x}" cy="{_n(y)}" r="3.5"/>'


def _diamond(x: str, y: float, kind: str = "mk") -> str:
    return f'<path class="{kind}" d="M{x} {_n(y - 7)}l7 7-7 7-7-7z"/>'


def _svg(parts: Sequence[str], height: float, title: str, about: str) -> str:
    head = f"<title>{_escaped(title)}</title><desc>{_escaped(about)}</desc>"
    size = f'viewBox="0 0 {_WIDTH} {_n(height)}"'
    return f'<svg {size} role="img">{head}{"".join(parts)}</svg>'
