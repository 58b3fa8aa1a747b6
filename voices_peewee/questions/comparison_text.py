"""What people read of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from voices_peewee.questions.counted import in_words
from voices_peewee.rendering.plain import fit, number, signed, text_table
from voices_peewee.rendering.table import Column, Strong

if TYPE_CHECKING:
    from voices_peewee.questions.comparison import Comparison, Pair
    from voices_peewee.questions.tables import Cells

FEW: Final = 6  # units


def _head(title: str) -> tuple[Column, ...]:
    sides = (("a", "A"), ("b", "B"), ("difference", "B - A"))
    return (Column("what", "text", title), *(Column(name, "number", head) for name, head in sides))


def in_unit(value: float, unit: str) -> str:
    """Return a number with its unit."""
    return f"{number(value, unit)} {unit}".rstrip()


def verdict(of: Comparison, names: tuple[str, str] = ("A", "B")) -> str:
    """Return in one line what the evidence allows to say, by what A and B are called."""
    unit = of.metric_unit
    if of.mean_difference is None:
        done_a, done_b = (with_value(each) for each in (of.coverage_a, of.coverage_b))
        return f"no recording has a value from both: A has {done_a}, B has {done_b}"
    difference = f"B - A = {signed(of.mean_difference, unit)} {unit}".rstrip()
    if of.low is None or of.high is None:
        return f"too few to tell: one {of.unit}, {difference}"
    if of.identical:
        return _identical(of)
    if of.verdict == "unclear":
        among = "unclear among so many" if of.is_unclear_among_many else "no clear difference"
        return f"{among}: {difference} ({interval(of.low, of.high, unit)})"
    better = in_unit(abs(of.mean_difference), unit)
    low, high = sorted((abs(of.low), abs(of.high)))
    return f"{names[of.verdict == 'better']} is better by {better} ({interval(low, high, unit)})"


def interval(low: float | None, high: float | None, unit: str) -> str | None:
    """Return from where to where, or None where there is no interval."""
    return None if low is None else f"{signed(low, unit)} to {signed(high, unit)}"


def _identical(of: Comparison) -> str:
    unit = of.metric_unit
    if not of.mean_difference:
        return f"identical: all {of.n:,} {of.unit}s have the same value from both"
    return (
        f"identical differences: B - A = {signed(of.mean_difference, unit)} {unit}".rstrip()
        + f" in each of {of.n:,} {of.unit}s, which is no certainty"
    )


def certainty(of: Comparison) -> list[str]:
    """Return how sure the verdict is, and whether more recordings would tell more."""
    lines = []
    if of.low is not None and of.high is not None and not of.identical:
        percent = f"{of.confidence * 100:g} %"
        p = "" if of.p_value is None else f", p = {of.p_value:.2g}"
        if of.p_adjusted is not None:
            p += f" ({of.p_adjusted:.2g} among all pairs)"
        lines.append(f"{percent} interval of the mean difference (Student's t){p}")
    lines += _few(of)
    return lines


def _few(of: Comparison) -> list[str]:
    if of.n == 0 or (of.n >= FEW and (of.identical or of.verdict != "unclear")):
        return []
    noun = f"{of.unit}s" if of.n != 1 else of.unit
    said = [f"few {of.unit}s: {of.n}"] if of.n < FEW else [f"{of.n:,} {noun}"]
    if of.low is not None and of.high is not None and not of.identical:
        least = in_unit((of.high - of.low) / 2, of.metric_unit)
        said.append(f"a difference below about {least} cannot show with so many")
    return ["; ".join(said)]


def with_value(coverage: Mapping[str, int]) -> int:
    """Return how many recordings have a value."""
    return coverage["done"] + coverage["partly_finite"]


def counts(of: Comparison) -> str:
    """Return what was counted, and who was better how often."""
    ties = f"; B better in {of.wins:,}, A better in {of.losses:,}, tied in {of.ties:,}"
    more = [] if of.unit == "recording" else [f"recordings: {of.recordings:,}"]
    more += [f"stems: {of.stems:,}"] if of.stems != of.n else []
    return ", ".join([f"{of.unit}s: {of.n:,}", *more]) + ties


def covered(name: str, coverage: Mapping[str, int], metric: str = "") -> str:
    """Return what became of the recordings in question; what has no vote was not heard."""
    if not coverage["in_question"]:
        return f"{name}: no recording is in question"
    states = [(in_words(key), count) for key, count in coverage.items() if count]
    parts = [f"{count:,} {state}" for state, count in states if state != "in question"]
    if metric == "preference":
        parts = [part.replace("run", "heard") for part in parts]
    noun = "recording" if coverage["in_question"] == 1 else "recordings"
    return f"{name}: of {coverage['in_question']:,} {noun} in question {', '.join(parts)}"


def render(of: Comparison) -> str:
    """Return who is better, by how much, how sure that is, and on what it rests."""
    lines = [f"A: {fit(of.a, 77)}", f"B: {fit(of.b, 77)}", metric(of), ""]
    lines += [verdict(of), *certainty(of), ""]
    if of.mean_difference is not None:
        lines += [*text_table(_head(" "), _averages(of)), ""]
    lines += _rests_on(of)
    for table in _largest(of):
        lines += ["", *text_table(*table)]
    return "\n".join(lines)


def _largest(of: Comparison) -> Iterator[tuple[tuple[Column, ...], list[tuple[object, ...]]]]:
    for title, pairs in (("gains", of.largest_gains), ("losses", of.largest_losses)):
        if pairs:
            yield _head(f"largest {title} of B"), [_cells(pair, of) for pair in pairs]


def _rests_on(of: Comparison) -> list[str]:
    sides = [covered(*side, of.metric) for side in (("A", of.coverage_a), ("B", of.coverage_b))]
    return [counts(of), *sides, *of.notes]


def metric(of: Comparison) -> str:
    """Return the metric with its unit and direction."""
    unit = f" ({of.metric_unit})" if of.metric_unit else ""
    order = "higher" if of.higher_is_better else "lower"
    return f"{fit(of.metric, 50)}{unit}, {order} is better"


def _averages(of: Comparison) -> list[tuple[object, ...]]:
    unit = of.metric_unit
    means = (number(of.mean_a, unit), number(of.mean_b, unit), signed(of.mean_difference, unit))
    return [("mean", *means), ("median", None, None, signed(of.median_difference, unit))]


def _cells(pair: Pair, of: Comparison) -> tuple[object, ...]:
    unit = of.metric_unit
    names = [name for name in (pair.path, pair.speaker) if name is not None]
    label = f"{names[0]} ({names[1]})" if len(names) > 1 else "".join(names)
    return label, number(pair.a, unit), number(pair.b, unit), signed(pair.difference, unit)


_COLUMNS: Final = (
    Column("model", "key"),
    Column("n", "count"),
    Column("mean", "number"),
    Column("difference", "number"),
    Column("interval", "number"),
    Column("p", "number"),
)


def cells(of: Comparison) -> Cells:
    """Return a row for each model, the mean strong that is clearly better."""
    unit = of.metric_unit
    a, b = number(of.mean_a, unit), number(of.mean_b, unit)
    a, b = (Strong(a) if of.verdict == "worse" else a), (Strong(b) if of.verdict == "better" else b)
    p = None if of.p_value is None else f"{of.p_value:.2g}"
    ends = interval(of.low, of.high, unit)
    difference = None if of.mean_difference is None else signed(of.mean_difference, unit)
    rows: list[tuple[object, ...]] = [
        (of.a, of.n, a, None, None, None),
        (of.b, of.n, b, difference, ends, p),
    ]
    return _COLUMNS, rows


def said(of: Comparison, rows: object) -> list[str]:  # noqa: ARG001 - as of other tables
    """Return what a reader has to know of the verdict."""
    about = f"{metric(of)}; A is {of.a}, B is {of.b}"
    return [about, *certainty(of), *_rests_on(of)]
