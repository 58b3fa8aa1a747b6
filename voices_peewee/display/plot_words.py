"""What stands around a plot: titles, and names as short as there is room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import PurePath
from typing import Final
from unicodedata import east_asian_width

from voices_peewee.display.plot_pictures import Distribution, Paired, Picture, Scatter, Trend
from voices_peewee.questions.comparison import Comparison, Pair
from voices_peewee.rendering.plain import number, printable, signed

_NAME: Final = 30


def short(text: str, room: int) -> str:
    """Return a text without control characters that takes so many columns at most.

    A long one loses its middle; a letter of East Asian scripts takes two columns.
    """
    text = printable(text)
    widths = [1 + (east_asian_width(letter) in "WF") for letter in text]
    if sum(widths) <= room:
        return text
    before = sum(total <= (room - 1) // 2 for total in accumulate(widths))
    after = sum(total <= room // 2 for total in accumulate(reversed(widths)))
    return f"{text[:before]}…{text[len(text) - after :]}"


def counted(model: str, n: int, room: int) -> str:
    """Return a model's name with how many values it has."""
    count = f" (n = {n:,})"
    return f"{short(model, room - len(count))}{count}"


def titles(picture: Picture) -> tuple[str, str]:
    """Return the title and what stands under it: which runs are drawn, or how sure it is."""
    if isinstance(picture, Paired):
        return _verdict(picture.comparison), ", ".join(
            filter(None, (_certainty(picture.comparison), short(picture.about, 60)))
        )
    return _subject(picture), short(picture.about, 80)


def _subject(picture: Distribution | Scatter | Trend) -> str:
    if isinstance(picture, Distribution):
        first, *rest = (panel.axis for panel in picture.panels)
        names = [short(first.title, _NAME), *(short(axis.name, _NAME) for axis in rest)]
        return f"{' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} by model"
    if isinstance(picture, Scatter):
        return f"{short(picture.y.title, _NAME)} against {short(picture.x.name, _NAME)}"
    return f"{short(picture.axis.title, _NAME)} by {picture.step}, mean and 95 % interval"


def _verdict(of: Comparison) -> str:
    if of.better is None:
        return f"No difference between {short(of.a, _NAME)} and {short(of.b, _NAME)} on average"
    by = f"{number(abs(of.mean_difference or 0.0), of.unit)} {of.unit}".rstrip()
    return f"{short(of.better, _NAME)} is better by {by} on average"


def _certainty(of: Comparison) -> str:
    pairs = f"{of.n:,} pair{'' if of.n == 1 else 's'}"
    if of.low is None or of.high is None:
        return pairs
    low, high = (signed(end, of.unit) for end in (of.low, of.high))
    return f"95 % interval of B - A {low} to {high}, {pairs}"


def pair_labels(pairs: Sequence[Pair]) -> list[str]:
    """Return a short name for each pair: the file's, with its folder where names repeat."""
    names = [PurePath(pair.path).name for pair in pairs]
    seen = Counter(zip(names, (pair.speaker for pair in pairs), strict=True))
    return [
        _pair_label(name if seen[name, pair.speaker] == 1 else pair.path, pair.speaker)
        for name, pair in zip(names, pairs, strict=True)
    ]


def _pair_label(name: str, speaker: str | None) -> str:
    return short(name, 36) if speaker is None else f"{short(name, 26)} ({short(speaker, 14)})"
