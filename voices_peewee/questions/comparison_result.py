"""What people read of a comparison: text, and HTML in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voices_peewee.database.results import Spec
from voices_peewee.rendering import html as html_text
from voices_peewee.rendering.plain import WIDTH, fit, number, signed, table

if TYPE_CHECKING:
    from voices_peewee.questions.comparison import Comparison, Pair


SPECS: Final = (
    *(Spec(name, "text", nullable=False) for name in ("a", "b", "metric", "unit")),
    Spec("higher_is_better", "boolean", nullable=False),
    Spec("better", "text"),
    *(Spec(name, "integer", nullable=False) for name in ("n", "wins", "losses", "ties")),
    *(Spec(name, "float") for name in ("mean_a", "mean_b", "mean_difference")),
    *(Spec(name, "float") for name in ("median_difference", "low", "high", "confidence")),
    Spec("p_value", "float"),
    *(Spec(name, "integer", nullable=False) for name in ("only_a", "only_b", "left_out")),
    Spec("cluster", "text"),
    Spec("clusters", "integer", nullable=False),
    Spec("note", "text"),
)


def render(of: Comparison) -> str:
    """Return who is better, by how much, how sure that is, and on what it rests."""
    unit = f" ({of.unit})" if of.unit else ""
    order = "higher" if of.higher_is_better else "lower"
    lines = [
        f"A: {fit(of.a, WIDTH - 3)}",
        f"B: {fit(of.b, WIDTH - 3)}",
        f"{fit(of.metric, 50)}{unit}, {order} is better",
        "",
        *_verdict_lines(of),
        _counts(of),
        f"left out: {_left_out(of)}",
    ]
    for title, pairs in (("gains", of.largest_gains), ("losses", of.largest_losses)):
        if pairs:
            head = (f"largest {title} of B", "A", "B", "B - A")
            lines += ["", *table(head, [_pair_cells(pair, of.unit) for pair in pairs])]
    return "\n".join(lines if of.note is None else [*lines, "", of.note])


def html(of: Comparison) -> str:
    """Return the same as HTML."""
    unit = f" ({of.unit})" if of.unit else ""
    said, certainty, averages = _verdict(of)
    tables = [html_text.table(("", "A", "B", "B - A"), averages, labels=1)] if averages else []
    for title, pairs in (("gains", of.largest_gains), ("losses", of.largest_losses)):
        if pairs:
            head = (f"largest {title} of B{unit}", "A", "B", "B - A")
            rows = [_pair_cells(pair, of.unit) for pair in pairs]
            tables.append(html_text.table(head, rows, labels=1))
    order = "higher" if of.higher_is_better else "lower"
    about = {"A": of.a, "B": of.b, "metric": f"{of.metric}{unit}, {order} is better"}
    notes = [_counts(of), f"left out: {_left_out(of)}", *filter(None, [of.note])]
    return html_text.block(
        html_text.facts(about, title=said, note=certainty), *tables, html_text.sentences(*notes)
    )


def _left_out(of: Comparison) -> str:
    alone = f"{of.only_a} of A alone, {of.only_b} of B alone"
    return f"{alone}, {of.left_out} without a finite value"


def _counts(of: Comparison) -> str:
    return f"pairs: {of.n}; B better in {of.wins}, A better in {of.losses}, tied in {of.ties}"


def _verdict_lines(of: Comparison) -> list[str]:
    said, certainty, averages = _verdict(of)
    lines = [said, *filter(None, [certainty]), ""]
    return [*lines, *table(("", "A", "B", "B - A"), averages), ""] if averages else lines


def _verdict(of: Comparison) -> tuple[str, str, list[tuple[str, str, str, str]]]:
    """Return who is better, how sure that is, and the averages."""
    if of.mean_difference is None:
        return "no recording has a value from both", "", []
    better = "A" if of.worse_by and of.worse_by > 0 else "B"
    unit = of.unit
    by = f"{number(abs(of.mean_difference), unit)} {unit}".rstrip()
    certainty = [] if of.p_value is None else [f"p = {of.p_value:.2g}"]
    if of.low is not None:
        percent = f"{of.confidence * 100:g} %"
        certainty.insert(0, f"{percent} interval {signed(of.low, unit)} to {signed(of.high, unit)}")
    difference = signed(of.mean_difference, unit)
    rows = [
        ("mean", number(of.mean_a, unit), number(of.mean_b, unit), difference),
        ("median", "", "", signed(of.median_difference, unit)),
    ]
    said = f"{better} is better by {by} on average" if of.better else "no difference on average"
    return said, ", ".join(certainty), rows


def _pair_cells(pair: Pair, unit: str) -> tuple[str, str, str, str]:
    label = pair.path if pair.speaker is None else f"{pair.path} ({pair.speaker})"
    return label, number(pair.a, unit), number(pair.b, unit), signed(pair.difference, unit)
