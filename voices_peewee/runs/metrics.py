"""Metric values on their way into a performance row: numbers of every kind, checked and sorted."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, lru_cache
from numbers import Integral, Real
from typing import Any, Final

from voices_peewee.database.query import Mapper
from voices_peewee.errors import InvalidValueError
from voices_peewee.schema.exact import is_missing, short
from voices_peewee.schema.fields import dump_json, plain_value, seconds_of
from voices_peewee.schema.models import CHECKS, ModelPerformance
from voices_peewee.schema.vocabulary import COLUMNS, METRIC_COLUMNS, spelled

# Names under which additional_metrics keeps what is no metric: the texts of what is not finite,
# the names of what was logged for the run, and what a meter says of its own numbers.
NONFINITE: Final = "nonfinite"
TIMED: Final = "timed"
MEMORY_SCOPE: Final = "memory_scope"
OF_THE_RUN: Final = "run"
TAKEN: Final = (NONFINITE, OF_THE_RUN, TIMED, MEMORY_SCOPE)

# A history row of a run: SQLite gives the ids of deleted rows to those of other runs.
_MINE: Final = "SELECT 1 FROM processing_history WHERE id = ? AND run_id = ?"

# What JSON holds as it is, once a float was seen to be finite.
_PLAIN: Final = (float, int, str, bool, type(None))

# Neither engine alone: jsonb has no room for these, and a record moves between both.
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
_TOO_LONG: Final = 10**4000  # Python's own limit for an integer as text is 4,300 digits
# What tables call a column is that column; a CPU may as well be a name.
_HEADINGS: Final = {
    spelled(COLUMNS[name].title): name for name in METRIC_COLUMNS if name != "cpu_usage"
}


class MetricWarning(UserWarning):
    """A metric is recorded without a value, or a later value of the run took its place."""


@dataclass(slots=True)
class Metrics:
    """The metrics of one performance row.

    ``columns`` go to their columns (None is kept: it says that there is no value), ``additional``
    to ``additional_metrics``; ``nonfinite`` names what was NaN or infinite, with its text.
    """

    columns: dict[str, float | None] = field(default_factory=dict)
    additional: dict[str, Any] = field(default_factory=dict)
    nonfinite: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, *told: Mapping[str, object] | None) -> Metrics:
        """Return the metrics that the values are.

        Raises:
            InvalidValueError: A value is no number where one is needed, is out of bounds, has
                no JSON form, or its name is taken or given twice.
        """
        metrics = cls()
        for values in told:
            if not isinstance(values, Mapping | None):
                raise InvalidValueError(f"metrics must be a mapping, not {short(values)}")
            for name, value in (values or {}).items():
                metrics._set(name, value)
        return metrics

    def _set(self, name: str, value: object) -> None:
        if not isinstance(name, str):
            raise InvalidValueError(f"a metric cannot be named {short(name)}: a name is a text")
        name, number = _name(name), _scalar(value)
        if name in self.names():
            raise InvalidValueError(f"the metric {short(name)} is given twice; give one value")
        if name in METRIC_COLUMNS and COLUMNS[name].unit == "s":
            number = _seconds(value, number)
        if isinstance(number, float) and not math.isfinite(number):
            self.nonfinite[name] = str(number)
            number = None
            if name not in METRIC_COLUMNS:
                return
        if name in METRIC_COLUMNS:
            self.columns[name] = _in_bounds(name, number)
        else:
            self.additional[name] = number if type(number) is float else _kept(name, number)

    def update(self, later: Metrics) -> None:
        """Take over later metrics; a name that was there gets its new value."""
        if not (later.columns or later.additional or later.nonfinite):
            return
        for name in self.names() & later.names():
            for values in (self.columns, self.additional, self.nonfinite):
                values.pop(name, None)
        self.columns |= later.columns
        self.additional |= later.additional
        self.nonfinite |= later.nonfinite

    def names(self) -> set[str]:
        """Return every name that was told, finite or not."""
        return {*self.columns, *self.additional, *self.nonfinite}

    def row(self) -> dict[str, Any]:
        """Return the values of a performance row."""
        additional = dict(self.additional)
        if self.nonfinite:
            additional[NONFINITE] = dict(self.nonfinite)
        return {**self.columns, "additional_metrics": additional}

    def warn(self, stacklevel: int) -> None:
        """Warn of what is not finite, in the name of a caller ``stacklevel`` calls up."""
        if self.nonfinite:
            named = ", ".join(f"{name} is {text}" for name, text in self.nonfinite.items())
            warnings.warn(
                f"recorded without a value: {named}", MetricWarning, stacklevel=stacklevel + 1
            )


@cache
def measuring(rows: Mapper[ModelPerformance]) -> str:
    """Return how to write a measurement, be it there or not.

    It writes nothing where the history row is gone, whose id may be another run's now: its id and
    the run id come last.
    """
    names = rows.names[1:]
    changed = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
    return (
        f"INSERT INTO model_performance ({rows.columns}) SELECT {', '.join('?' * len(names))}"
        f" WHERE EXISTS ({_MINE}) ON CONFLICT (processing_history_id) DO UPDATE SET {changed}"
    )


def _scalar(value: object) -> object:
    """Unwrap what holds one number: NumPy and torch scalars, one-element arrays, decimals."""
    if type(value) in _PLAIN:
        return value
    if is_missing(value):
        return math.nan
    try:
        if isinstance(value, Decimal):
            return math.nan if value.is_nan() else float(value)
        if isinstance(value, Real) and not hasattr(value, "tolist"):
            return int(value) if isinstance(value, Integral) else float(value)
        return _one_of(value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return value  # an array of several numbers, or a number that is too large


@lru_cache(maxsize=1024, typed=True)
def _name(name: str) -> str:
    """Return the column that a name means, else the name, if it can be one."""
    if name in TAKEN:
        raise InvalidValueError(f"a metric cannot be named {short(name)}: that name is taken")
    if name not in METRIC_COLUMNS:
        name = _HEADINGS.get(spelled(name), name)
    _require_fit(name, name)
    return name


def _kept(name: str, value: object) -> Any:
    """Return what JSON keeps of a value."""
    plain = value if type(value) in _PLAIN else json.loads(dump_json(value))
    _require_fit(name, plain)
    return plain


def _require_fit(name: object, value: object) -> None:
    """Refuse texts and integers that no engine, or only one, can keep inside JSON."""
    if isinstance(value, str) and _UNFIT.search(value):
        what = "has the character NUL or half a surrogate pair"
        raise InvalidValueError(f"the metric {short(name)} {what}, which cannot be stored")
    if type(value) is int and abs(value) >= _TOO_LONG:
        raise InvalidValueError(f"the metric {short(name)} is an integer of too many digits")
    if isinstance(value, dict | list):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _require_fit(name, part)


def _one_of(value: object) -> object:
    """Return the number in a NumPy or tensor value that holds one; a masked one is none."""
    if not callable(getattr(value, "item", None)) or seconds_of(value) is not None:
        return value  # a length of time is no plain number
    number = plain_value(value)
    while isinstance(number, list):
        if len(number) != 1:
            return value
        (number,) = number
    return math.nan if number is None else _scalar(number)


def _seconds(value: object, number: object) -> object:
    try:
        seconds = seconds_of(value)
    except (TypeError, ArithmeticError):
        return value
    return number if seconds is None else seconds


def _in_bounds(name: str, number: object) -> float | None:
    if number is None:
        return None
    low, high = COLUMNS[name].bounds or (-math.inf, math.inf)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InvalidValueError(f"{name} must be one number, not {short(number)}")
    if not low <= number <= high:
        raise InvalidValueError(f"{CHECKS[f'ck_model_performance_{name}'][1]}, not {short(number)}")
    return float(number)
