"""One file to send: the leaderboard, comparisons, pictures, failures and players of a record."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import peewee as pw

from voices_peewee._version import __version__
from voices_peewee.database.query import no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.display import svg
from voices_peewee.display.labels import measured, metric_axis, model_order, narrowed
from voices_peewee.display.pages import page
from voices_peewee.display.sounds import Card, cards, linked, put_in
from voices_peewee.errors import ExportError
from voices_peewee.questions.comparison import compare
from voices_peewee.questions.comparison_text import covered, interval, verdict
from voices_peewee.questions.comparisons import Comparisons
from voices_peewee.questions.counted import differing, settings_of
from voices_peewee.questions.failures import failures
from voices_peewee.questions.groups import Group
from voices_peewee.questions.leaderboard import leaderboard, ranked_groups
from voices_peewee.questions.pivot import Pivot
from voices_peewee.questions.preferences import listened
from voices_peewee.questions.selection import Runs, find_metric
from voices_peewee.rendering.plain import number, show
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import Environment, ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.upkeep.whole_files import write_whole

_ALL_PAIRS: Final = 6  # models that are compared with each other; more only with the best
_MODELS: Final = 30  # models of a picture
_HEARD: Final = 6  # models whose recordings are listened to
_ERRORS: Final = 10
_TRACE: Final = 60  # lines of a traceback, the last ones
_SETTINGS: Final = 5  # values of a parameter that are named
_PLACES: Final = 50  # environments
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
    folder = Path(os.path.abspath(path)).parent
    return write_whole(path, report_page(store, asked, folder).encode(), overwrite=overwrite)


def report_page(store: Store, asked: Asked, folder: Path) -> str:
    """Return a report as HTML, whose links lead from a folder."""
    with store.snapshot(), no_full_collection():
        shown = _Report(store, asked)
        context = shown.context()
        heard = [group for _, group in shown.ranked.values()][:_HEARD]
        found = cards(store, heard, shown.metric, asked.runs)
    if not asked.audio:
        return _page(context, found, "")
    if not asked.embed:
        return _page(context, linked(found, folder), "'self' file:")
    empty = _page(context, [], "data:")
    kept, left = put_in(found, asked.max_size - len(empty.encode()) - 2_000 * len(found))
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
        # As sides, so that the comparisons do not read the same runs again.
        how: dict[str, Any] = {**self.direction, "as_sides": True}
        self.board, groups = ranked_groups(store, self.metric.name, **how)
        every = {row.labels[0]: (row, own) for row, own in zip(self.board, groups, strict=True)}
        self.groups = {name: group for name, (_, group) in every.items()}
        self.ranked = {name: both for name, both in every.items() if both[0].n}
        self._order = model_order()

    def colour(self, model: str) -> int:
        """Return the place of a model among all, which is its colour in every picture."""
        return self._order.index(model) if model in self._order else 0

    def context(self) -> dict[str, Any]:
        found = self.compared()
        pairs = [] if found is None else list(found.pairs.values())
        told = [covered(pair.a, pair.coverage_a) for pair in pairs]
        told += [covered(pair.b, pair.coverage_b) for pair in pairs]
        drawable = next((pair for pair in pairs if pair.n), None)
        shown = dict(list(self.ranked.items())[:_MODELS])
        return {
            "version": __version__,
            "name": Path(self.store.label).name,
            "facts": dict(self.facts()),
            "lead": self.lead(),
            "label": self.axis.label,
            "unit": self.metric.unit,
            "board": self.board,
            "strip": svg.strip(shown, self.colour) if shown else None,
            "pairs": pairs,
            "pair_notes": dict.fromkeys([*told, *(note for pair in pairs for note in pair.notes)]),
            "paired": svg.paired(drawable, self.colour) if drawable else None,
            "ranks": svg.ranks(found, self.colour) if found and found.ranks.n else None,
            "tests": listened(self.store),
            "conditions": [self.condition(name) for name in self.asked.by if name != "model"],
            "failures": list(self.failures()),
            "settings": self.settings(),
            "environments": self.environments(),
            "left_out": [],
            "verdict": verdict,
            "interval": interval,
        }

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what the record is, and what of it was asked for."""
        run, chosen = ProcessingHistory, self.asked.runs.conditions(self.store)
        # Three questions, each of which an index answers alone.
        count, first, last = (
            _where(run.select(value), chosen).scalar()
            for value in (
                pw.fn.COUNT(run.run_id.distinct()),
                pw.fn.MIN(run.start_time),
                pw.fn.MAX(run.start_time),
            )
        )
        yield "runs", f"{count:,}"
        recordings = max((row.coverage["in_question"] for row in self.board), default=0)
        yield "recordings in question", f"{recordings:,}"
        yield "speakers known", f"{Speaker.select().count():,}"
        if first is not None:
            yield "from", f"{show(first)} to {show(last)} (UTC)"
        yield "metric", ", ".join(filter(None, (self.axis.label, self.axis.better)))
        yield from narrowed(self.asked.runs).items()

    def environments(self) -> list[tuple[str, ...]]:
        """Return where the runs were made, the newest first, each way of these once."""
        run, chosen = ProcessingHistory, self.asked.runs.conditions(self.store)
        used = _where(run.select(run.environment), chosen)
        every = Environment.select().where(Environment.id << used).order_by(Environment.id.desc())
        known = (tuple(_made(one.facts)) for one in every if isinstance(one.facts, dict))
        return [*dict.fromkeys(row if self.asked.hosts else row[:-1] for row in known)][:_PLACES]

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
        letters = {*(best.letters or "")}
        alike = [row.labels[0] for row in others if letters & {*(row.letters or "")}]
        if alike:
            return f"{said} It cannot be told apart from {', '.join(alike)}."
        return f"{said} It is told apart from all others." if others and letters else said

    def compared(self) -> Comparisons | None:
        """Compare all pairs of models, or the baseline or the best with each other one."""
        models = dict(list(measured(self.board).items())[:_MODELS])
        baseline: Any = self.asked.baseline
        if baseline is not None:
            models.pop(baseline, None)
        elif len(models) > _ALL_PAIRS:
            baseline = models.pop(next(iter(models)))
        if len(models) + (baseline is not None) < 2:
            return None
        how: dict[str, Any] = {"metric": self.metric.name, "baseline": baseline, **self.direction}
        found = compare(self.store, *models.values(), known=self.groups, **how)
        # Two models have no ranks, as those that were compared with a baseline.
        return (
            found if isinstance(found, Comparisons) else Comparisons.of([found], has_baseline=True)
        )

    def condition(self, name: str) -> Pivot:
        """Return the means by a field and the model."""
        by = (name, "model")
        return leaderboard(self.store, self.metric.name, by=by, **self.direction).pivot()

    def failures(self) -> Iterator[dict[str, Any]]:
        """Yield the groups of failures, with the traceback of the newest, without folders."""
        run, names = ProcessingHistory, ("operation_type", "speaker", "since", "until", "where")
        asked = {name: getattr(self.asked.runs, name) for name in names}
        found = failures(self.store, **asked)
        for failure in found[:_ERRORS]:
            text = run.select(run.error_message).where(run.id == failure.history_id).scalar()
            lines = without_folders(text or "").strip().splitlines()[-_TRACE:]
            error, models = without_folders(failure.error), failure.models
            yield {"count": failure.count, "models": models, "error": error, "trace": lines}
        if rest := found[_ERRORS:]:
            error, count = f"{len(rest):,} more errors", sum(failure.count for failure in rest)
            yield {"count": count, "models": (), "error": error, "trace": []}

    def settings(self) -> dict[str, Any]:
        """Return the parameters that differ, between models or within one, with their values."""
        some = dict(list(self.groups.items())[:_MODELS])
        names = differing(text for own in self.groups.values() for text in sorted(own.parameters))
        rows = [(name, *(_values(group, name) for group in some.values())) for name in names]
        return {"models": [*some], "rows": rows}


def _where(query: Any, conditions: Sequence[Any]) -> Any:
    return query.join(ProcessedFile).where(*conditions) if conditions else query


def without_folders(text: str) -> str:
    """Return a text whose paths are names only: people's folders stay at home."""
    return _PATH.sub("…/", _QUOTED.sub(r"\1…/\2\1", text))


def _values(group: Group, name: str) -> str:
    read = filter(None, map(settings_of, sorted(group.parameters)))
    found = dict.fromkeys(dump_json(one[name]) if name in one else "-" for one in read)
    more = ["…"] if len(found) > _SETTINGS else []
    return without_folders(", ".join([*list(found)[:_SETTINGS], *more]))


def _made(facts: Mapping[str, Any]) -> Iterator[str]:
    told = (facts.get(name) for name in ("git", "torch"))
    git, torch = (one if isinstance(one, dict) else {} for one in told)
    yield show(facts.get("python"))
    yield show(facts.get("voices_peewee"))
    yield show(git.get("commit"))[:10] + (" with changes" if git.get("dirty") else "")
    yield show(torch.get("version"))
    yield show(torch.get("device"))
    yield show(facts.get("host"))
