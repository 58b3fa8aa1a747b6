"""What each kind of plot shows, in numbers: ``plot_data`` reads it, two modules draw it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from voices_peewee.questions.comparison import Comparison, Pair


@dataclass(frozen=True, slots=True)
class Axis:
    """A number that is drawn: its name, its unit, whether high is good, and its scale.

    ``given`` says that people gave the name, which then stays as it is.
    """

    name: str
    unit: str
    higher_is_better: bool | None = None
    log: bool = False
    given: bool = False

    @property
    def title(self) -> str:
        """The name as the first words of a line."""
        return self.name if self.given else f"{self.name[:1].upper()}{self.name[1:]}"

    @property
    def label(self) -> str:
        """What stands along the axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def better(self) -> str:
        """Which direction is good, in words; empty where none is."""
        if self.higher_is_better is None:
            return ""
        return "higher is better" if self.higher_is_better else "lower is better"


@dataclass(frozen=True, slots=True)
class Group:
    """The values of one model: ``points`` are those that are drawn, sorted.

    ``low`` and ``high`` are the last values within 1.5 times the distance of the quartiles.
    """

    n: int
    low: float
    lower_quartile: float
    median: float
    upper_quartile: float
    high: float
    mean: float
    points: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One metric by model; a model without a value has no group."""

    axis: Axis
    groups: Mapping[str, Group]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Metrics by model, the best median of the first metric first."""

    models: tuple[str, ...]
    panels: tuple[Panel, ...]
    about: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same recordings; ``pairs`` are drawn, the smallest gain of B first."""

    axis: Axis
    comparison: Comparison
    pairs: tuple[Pair, ...]
    about: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cloud:
    """The points of one model: ``n`` in all, and those that are drawn."""

    model: str
    n: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Scatter:
    """A metric against another number."""

    x: Axis
    y: Axis
    clouds: tuple[Cloud, ...]
    about: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """The runs of one model in one step of time, which begins at ``time``.

    ``low`` and ``high`` bound the 95 % interval of the mean (Student's t); None of one value.
    """

    time: dt.datetime
    n: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """The marks of one model and version, by time."""

    model: str
    model_type: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Trend:
    """A metric over time: each mark is the mean of one ``step``; lines in order of first use.

    ``seconds`` is the step's length.
    """

    axis: Axis
    step: str
    seconds: int
    lines: tuple[Line, ...]
    about: str
    notes: tuple[str, ...]

    def aside(self, place: int) -> float:
        """Return by how many seconds a line stands aside, so that no interval hides another."""
        return self.seconds * 0.4 * ((place + 0.5) / len(self.lines) - 0.5)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value that is shown: every mean, and the intervals.

        Those of two or three values may be many times wider than all the rest, and leave it.
        """
        marks = [mark for line in self.lines for mark in line.marks]
        sure = [mark for mark in marks if mark.n >= _SURE and mark.low is not None]
        values = [mark.mean for mark in marks]
        values += [end for mark in sure for end in (mark.low, mark.high) if end is not None]
        margin = 0.05 * (max(values) - min(values)) or 0.5
        return min(values) - margin, max(values) + margin


_SURE: Final = 4


Picture = Distribution | Paired | Scatter | Trend
