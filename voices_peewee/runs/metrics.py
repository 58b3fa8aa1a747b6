"""Metric values on their way into a performance row: numbers of every kind, checked and sorted."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Final

from voices_peewee.errors import InvalidValueError
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import CHECKS

# The columns with the bounds that the schema's CHECKs set.
BOUNDS: Final = {
    "si_snri": (-1e6, 1e6),
    "sdri": (-1e6, 1e6),
    "cpu_usage": (0, 1e9),
    "memory_usage": (0, 1e12),
    "processing_time": (0, 1e12),
    "real_time_factor": (0, 1e15),
}
# Names under which additional_metrics keeps what is no metric.
NONFINITE: Final = "nonfinite"
OF_THE_RUN: Final = "run_metrics"

# What is the whole run's: in every row of a run that has several.
_OF_EVERY_ROW: Final = ("cpu_usage", "memory_usage", "processing_time", "real_time_factor")
# What JSON holds as it is, once a float was seen to be finite.
_PLAIN: Final = (float, int, str, bool, type(None))


class MetricWarning(UserWarning):
    """A metric was not finite and is recorded without a value."""


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
    def of(cls, values: Mapping[str, object]) -> Metrics:
        """Return the metrics that the values are.

        Raises:
            InvalidValueError: A value is no number where one is needed, is out of bounds, has
                no JSON form, or its name is taken.
        """
        metrics = cls()
        for name, value in values.items():
            metrics._set(name, value)
        return metrics

    def _set(self, name: str, value: object) -> None:
        if name in (NONFINITE, OF_THE_RUN):
            raise InvalidValueError(f"a metric cannot be named {name!r}: that name is taken")
        number = _scalar(value)
        if isinstance(number, float) and not math.isfinite(number):
            self.nonfinite[name] = str(number)
            number = None
            if name not in BOUNDS:
                return
        if name in BOUNDS:
            self.columns[name] = _in_bounds(name, number)
        else:
            is_plain = type(number) in _PLAIN
            self.additional[name] = number if is_plain else json.loads(dump_json(number))

    def update(self, later: Metrics) -> None:
        """Take over later metrics; a name that was there gets its new value."""
        for name in later.names():
            for values in (self.columns, self.additional, self.nonfinite):
                values.pop(name, None)
        self.columns |= later.columns
        self.additional |= later.additional
        self.nonfinite |= later.nonfinite

    def names(self) -> set[str]:
        """Return every name that was told, finite or not."""
        return {*self.columns, *self.additional, *self.nonfinite}

    def only(self, names: Collection[str]) -> Metrics:
        """Return the metrics of these names alone."""
        return Metrics(
            {name: value for name, value in self.columns.items() if name in names},
            {name: value for name, value in self.additional.items() if name in names},
            {name: value for name, value in self.nonfinite.items() if name in names},
        )

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


def combine(
    own: Metrics, of_run: Metrics, measured: Metrics, *, is_first: bool, duration: float | None
) -> Metrics:
    """Return all metrics of one row of a run.

    Args:
        own: The output's; they come before the others.
        of_run: The run's, which are in its first row only, so that no number counts twice.
        measured: Cost that was measured; it is in every row.
        is_first: Whether this is the run's first row.
        duration: The recording's, in seconds, for the real-time factor.
    """
    metrics = Metrics()
    metrics.update(measured)
    metrics.update(of_run if is_first else of_run.only(_OF_EVERY_ROW))
    both = of_run.only(own.names())
    if is_first and both.names():
        metrics.additional[OF_THE_RUN] = both.columns | both.additional | both.nonfinite
    metrics.update(own)
    seconds = metrics.columns.get("processing_time")
    if duration and seconds is not None and "real_time_factor" not in metrics.columns:
        metrics.columns["real_time_factor"] = seconds / duration
    return metrics


def _scalar(value: object) -> object:
    """Unwrap what holds one number: NumPy and torch scalars, one-element arrays, decimals."""
    if type(value) in _PLAIN:
        return value
    try:
        if isinstance(value, Decimal):
            return math.nan if value.is_nan() else float(value)
        if isinstance(value, Real):
            return int(value) if isinstance(value, Integral) else float(value)
        item = getattr(value, "item", None)
        return _scalar(item()) if callable(item) else value
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return value  # an array of several numbers, or a number that is too large


def _in_bounds(name: str, number: object) -> float | None:
    if number is None:
        return None
    low, high = BOUNDS[name]
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InvalidValueError(f"{name} must be one number, not {_short(number)}")
    if not low <= number <= high:
        raise InvalidValueError(
            f"{CHECKS[f'ck_model_performance_{name}'][1]}, not {_short(number)}"
        )
    return float(number)


def _short(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except ValueError:
        return "a very large integer"
    return text if len(text) <= 60 else f"{text[:57]}..."
