"""One file to send: the leaderboard, comparisons, pictures, failures and players of a record."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee._version import __version__
from voices_peewee.database.query import no_full_collection
from voices_peewee.display import svg
from voices_peewee.display.pages import drawn, page, write_page
from voices_peewee.display.plot_data import metric_axis, model_order
from voices_peewee.display.report_numbers import (
    Numbers,
    environments,
    of_models,
    of_pair,
    of_ranks,
)
from voices_peewee.display.report_sounds import Card, cards, embedded, linked
from voices_peewee.errors import ExportError
from voices_peewee.questions import comparison_text
from voices_peewee.questions.comparison import Comparison, compare
from voices_peewee.questions.comparisons import Comparisons
from voices_peewee.questions.counted import differing, settings_of
from voices_peewee.questions.failures import failures
from voices_peewee.questions.groups import Group
from voices_peewee.questions.leaderboard import leaderboard, ranked_groups
from voices_peewee.questions.preferences import COLUMNS, listened
from voices_peewee.questions.selection import Runs, find_metric, model_label
from voices_peewee.rendering.plain import number, show, signed
from voices_peewee.rendering.table import Column
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory, Speaker

if TYPE_CHECKING:
    from markupsafe import Markup

    from voices_peewee.database.store import Store

_ALL_PAIRS: Final = 6  # models that are compared with each other; more only with the best
_MODELS: Final = 30  # models of a picture
_HEARD: Final = 6  # models whose recordings are listened to
_ERRORS: Final = 10
_TRACE: Final = 60  # lines of a traceback, the last ones
_SETTINGS: Final = 5  # values of a parameter that are named
_PATH: Final = re.compile(r"""(?:\b[A-Za-z]:|(?<![\w/\\.]))[/\\](?:[^\s'"<>|:;,()]+[/\\])+""")
_QUOTED: Final = re.compile(r"""(["'])(?:[A-Za-z]:)?[/\\][^"'\n]*[/\\]([^"'/\\\n]*)\1""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a report is to show.

    ``by`` are the fields of its conditions; ``max_size`` is that of the page in bytes.
    """

    metric: str = "si_snri"
    by: Sequence[str] = ()
    baseline: str | None = None
    higher_is_better: bool | None = None
    hosts: bool = False
    audio: bool = True
    embed: bool = False
    max_size: int = 20_000_000
    runs: Runs = field(default_factory=Runs)


def report(store: Store, path: Path, asked: Asked, *, overwrite: bool) -> Path:
    """Write a report as ``DatabaseManager.report`` does."""
    if path.suffix.lower() not in (".html", ".htm"):  # so that no record or recording is replaced
        raise ExportError(path, "a report ends in .html")
    target = Path(os.path.abspath(path))
    return write_page(path, report_page(store, asked, target.parent), overwrite=overwrite)


def report_page(store: Store, asked: Asked, folder: Path) -> str:
    """Return a report as HTML, whose links lead from a folder."""
    with store.snapshot(), no_full_collection():
        shown = _Report(store, asked)
        context = shown.context()
        found = cards(store, shown.ranked[:_HEARD], shown.metric, asked.runs)
    if not asked.audio:
        return _page(context, found, "")
    if not asked.embed:
        return _page(context, linked(found, folder), "'self' file:")
    empty = _page(context, [], "data:")
    kept, left = embedded(found, asked.max_size - len(empty.encode()) - 2_000 * len(found))
    return _page({**context, "left_out": left}, kept, "data:")


def _page(context: dict[str, Any], found: list[Card], media: str) -> str:
    return page("report", {**context, "cards": found}, media=media)


class _Report:
    """What a report says, read as one state of the database."""

    def __init__(self, store: Store, asked: Asked) -> None:
        self.store, self.asked, runs = store, asked, asked.runs
        self.metric = find_metric(store, asked.metric, higher_is_better=asked.higher_is_better)
        self.axis = metric_axis(self.metric)
        self.direction: dict[str, Any] = {"higher_is_better": asked.higher_is_better, "runs": runs}
        self.board, self.groups = ranked_groups(store, self.metric.name, **self.direction)
        self.ranked = [group for group in self.groups if group.values]
        self._places = {model: place for place, model in enumerate(model_order())}
        self.runs: dict[int | None, int] = {}

    def colour(self, model: str) -> int:
        """Return the place of a model among all, which is its colour in every picture."""
        return self._places.get(model, 0)

    def context(self) -> dict[str, Any]:
        """Return what the page needs, sounds aside."""
        found = self.compared()
        pairs = list(found.pairs.values()) if isinstance(found, Comparisons) else [*found]
        return {
            "version": __version__,
            "name": Path(self.store.label).name,
            "facts": dict(self.facts()),
            "axis": self.axis,
            "lead": self.lead(),
            "board": self.board,
            "columns": [column for column, _ in self.board.columns()],
            "rows": list(zip(*(values for _, values in self.board.columns()), strict=True)),
            "strip": self.strip(),
            "strip_numbers": self.strip_numbers(),
            **_table_of(pairs),
            "covered": dict(_covered(pairs)),
            "notes": list(dict.fromkeys(note for pair in pairs for note in pair.notes)),
            "paired": self.paired(pairs[0]) if pairs else None,
            "pair_of": pairs[0] if pairs else None,
            "pair_numbers": of_pair(pairs[0], self.axis.label) if pairs and pairs[0].n else [],
            "ranks": self.ranks(found) if isinstance(found, Comparisons) else None,
            "rank_numbers": of_ranks(found.ranks.means, found.letters)
            if isinstance(found, Comparisons)
            else None,
            "tests": listened(self.store),
            "test_columns": COLUMNS,
            "environments": environments(self.runs, hosts=self.asked.hosts),
            "conditions": [self.condition(name) for name in self.asked.by if name != "model"],
            "failures": self.failures(),
            "settings": self.settings(),
            "unit": self.metric.unit,
            "number": number,
            "left_out": [],
            "audio": self.asked.audio,
        }

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what the record is, and what of it was asked for."""
        run = ProcessingHistory
        count = pw.fn.COUNT(run.run_id.distinct())
        ends = (pw.fn.MIN(run.start_time), pw.fn.MAX(run.start_time))
        query = run.select(run.environment, count, *ends).group_by(run.environment)
        runs = self.asked.runs
        if conditions := runs.conditions(self.store):
            query = query.join(ProcessedFile).where(*conditions)
        rows: Any = list(query.tuples())
        self.runs = {environment: total for environment, total, _, _ in rows}
        first = min((one[2] for one in rows), default=None)
        last = max((one[3] for one in rows), default=None)
        yield "runs", f"{sum(self.runs.values()):,}"
        recordings = max((row.coverage["in_question"] for row in self.board), default=0)
        yield "recordings in question", f"{recordings:,}"
        yield "speakers known", f"{Speaker.select().count():,}"
        if first is not None:
            yield "from", f"{_day(first)} to {_day(last)} (UTC)"
        yield "metric", ", ".join(filter(None, (self.axis.label, self.axis.better)))
        asked = {
            "operation": runs.operation_type,
            "speaker": getattr(runs.speaker, "name", runs.speaker),
            "since": runs.since,
            "before": runs.until,
            "only": runs.where if isinstance(runs.where, str) else " ".join(runs.where),
        }
        yield from ((word, show(value)) for word, value in asked.items() if value)

    def lead(self) -> str:
        """Return the sentence that says which model to take."""
        if not self.ranked:
            return f"No successful run here has a value of {self.axis.name}."
        best, *others = [row for row in self.board if row.n]
        name, unit = best.labels[0], self.metric.unit
        which = "highest" if self.metric.higher_is_better else "lowest"
        said = f"{name} has the {which} mean {self.axis.name}: {number(best.mean, unit)} {unit}"
        said = said.rstrip()
        if best.low is not None:
            said += f" (95 % interval {number(best.low, unit)} to {number(best.high, unit)})"
        said += f" on {best.n:,} recording{'' if best.n == 1 else 's'}."
        alike = [
            row.labels[0] for row in others if {*(row.letters or "")} & {*(best.letters or "")}
        ]
        if alike:
            return f"{said} It cannot be told apart from {', '.join(alike)}."
        if others and best.letters:
            return f"{said} It is told apart from all others."
        return said

    def strip(self) -> Markup | None:
        """Return the picture of the leaderboard."""
        rows = [
            svg.Row(row.labels[0], self.colour(row.labels[0]), group.values, row.low, row.high)
            for row, group in zip(self.board, self.groups, strict=True)
            if group.values
        ][:_MODELS]
        return drawn(svg.strip(rows, self.axis.label, self.metric.unit)) if rows else None

    def strip_numbers(self) -> Numbers | None:
        """Return the numbers of the leaderboard's picture."""
        shown = zip(self.board, self.groups, strict=True)
        values = {row.labels[0]: group.values for row, group in shown if group.values}
        some = dict(list(values.items())[:_MODELS])
        return (
            of_models(some, f"{self.axis.label} of recordings", self.metric.unit) if some else None
        )

    def compared(self) -> Comparisons | list[Comparison]:
        """Compare all pairs of models, or the baseline or the best with each other one."""
        kinds = [group.key[0] for group in self.ranked]
        models = {
            model_label(kind, version): (kind, version or ("" if kinds.count(kind) > 1 else None))
            for kind, version in (group.key for group in self.ranked[:_MODELS])
            if kind is not None
        }
        baseline: Any = self.asked.baseline
        if baseline is not None:
            models.pop(baseline, None)
        elif len(models) > _ALL_PAIRS:
            baseline = models.pop(next(iter(models)))
        if len(models) + (baseline is not None) < 2:
            return []
        how: dict[str, Any] = {"metric": self.metric.name, "baseline": baseline, **self.direction}
        found = compare(self.store, *models.values(), **how)
        return [found] if isinstance(found, Comparison) else found

    def paired(self, pair: Comparison) -> Markup | None:
        """Return the picture of one pair."""
        if not pair.pairs:
            return None
        points = [(one.a, one.b) for one in pair.pairs]
        colours = tuple(map(self.colour, (pair.a, pair.b)))
        if colours[0] % svg.COLOURS == colours[1] % svg.COLOURS:
            colours = (colours[0], colours[0] + 1)
        return drawn(
            svg.paired(
                points,
                (pair.a, pair.b),
                (colours[0], colours[1]),
                self.axis.label,
                higher_is_better=pair.higher_is_better,
            )
        )

    def ranks(self, found: Comparisons) -> Markup | None:
        """Return the picture of mean ranks, where every pair was compared."""
        rows = [
            svg.Rank(model, self.colour(model), mean, found.letters[model])
            for model, mean in found.ranks.means.items()
        ]
        return drawn(svg.ranks(rows, found.ranks.n)) if rows else None

    def condition(self, name: str) -> Any:
        """Return the means by a field and the model."""
        board = leaderboard(self.store, self.metric.name, by=(name, "model"), **self.direction)
        return board.pivot() if board.rows else None

    def failures(self) -> list[dict[str, Any]]:
        """Return the groups of failures, with the traceback of the newest, without folders."""
        runs = self.asked.runs
        names = ("operation_type", "speaker", "since", "until", "where")
        found = failures(self.store, **{name: getattr(runs, name) for name in names})
        run = ProcessingHistory
        shown = []
        for failure in found[:_ERRORS]:
            text = run.select(run.error_message).where(run.id == failure.history_id).scalar()
            lines = without_folders(text or "").strip().splitlines()[-_TRACE:]
            about = {name: getattr(failure, name) for name in ("count", "models", "newest")}
            shown.append({**about, "error": without_folders(failure.error), "trace": lines})
        if len(found) > _ERRORS:
            rest = sum(failure.count for failure in found[_ERRORS:])
            error = f"{len(found) - _ERRORS:,} more errors"
            shown.append({"count": rest, "models": (), "newest": None, "error": error, "trace": []})
        return shown

    def settings(self) -> tuple[list[Column], list[tuple[str, ...]]]:
        """Return the parameters that differ, between models or within one, with their values."""
        every = [text for group in self.groups for text in sorted(group.parameters)]
        names = differing(every)
        columns = [Column("parameter", "key")]
        columns += [Column(model_label(*group.key), "text") for group in self.groups[:_MODELS]]
        rows = [
            (name, *(_values(group, name) for group in self.groups[:_MODELS])) for name in names
        ]
        return columns, rows


_PAIR: Final = (
    Column("a", "key", "A"),
    Column("b", "key", "B"),
    Column("n", "count"),
    Column("difference", "number", "B − A"),
    Column("interval", "number", "95 % interval"),
    Column("p", "number"),
    Column("holm", "number", "p, Holm"),
    Column("verdict", "text"),
)


def _table_of(pairs: Sequence[Comparison]) -> dict[str, Any]:
    """Return the table of pairs; one pair has nothing to be adjusted for."""
    places = [place for place, one in enumerate(_PAIR) if one.name != "holm" or len(pairs) > 1]
    rows = map(_said, pairs)
    return {
        "pairs": [[row[place] for place in places] for row in rows],
        "pair_columns": [_PAIR[place] for place in places],
    }


def _said(pair: Comparison) -> tuple[object, ...]:
    unit = pair.metric_unit
    difference = None if pair.mean_difference is None else signed(pair.mean_difference, unit)
    interval = None
    if pair.low is not None:
        interval = f"{signed(pair.low, unit)} to {signed(pair.high, unit)}"
    p, holm = (None if p is None else f"{p:.2g}" for p in (pair.p_value, pair.p_adjusted))
    verdict = comparison_text.verdict(pair, (pair.a, pair.b))
    return pair.a, pair.b, pair.n, difference, interval, p, holm, verdict


def _covered(pairs: Sequence[Comparison]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        yield pair.a, comparison_text.covered(pair.a, pair.coverage_a)
        yield pair.b, comparison_text.covered(pair.b, pair.coverage_b)


def without_folders(text: str) -> str:
    """Return a text whose paths are names only: people's folders stay at home."""
    return _PATH.sub("…/", _QUOTED.sub(r"\1…/\2\1", text))


def _values(group: Group, name: str) -> str:
    read = filter(None, map(settings_of, sorted(group.parameters)))
    found = dict.fromkeys(dump_json(one[name]) if name in one else "-" for one in read)
    more = ["…"] if len(found) > _SETTINGS else []
    return without_folders(", ".join([*list(found)[:_SETTINGS], *more]))


def _day(moment: Any) -> str:
    return f"{moment:%Y-%m-%d}" if hasattr(moment, "strftime") else str(moment)[:10]
