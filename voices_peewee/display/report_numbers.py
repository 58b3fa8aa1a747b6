"""Tables of a report: the numbers behind its pictures, and where its runs were made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from voices_peewee.display.svg import quarters
from voices_peewee.questions.comparison_text import verdict
from voices_peewee.questions.comparisons import Comparisons
from voices_peewee.rendering.plain import number, show, signed
from voices_peewee.rendering.table import Column

_NAMED = 3  # Slurm jobs, or hosts, of an environment that are named


class Table(NamedTuple):
    """A table: what it is of, its columns and its rows."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[tuple[object, ...]]


def _columns(*names: str) -> list[Column]:
    first, *others = names
    return [Column(first, "key"), *(Column(name, "number") for name in others)]


def of_values(values: Mapping[str, Sequence[float]], caption: str, unit: str) -> Table:
    """Return how many values each has, and what lies between their quarters."""
    columns = _columns("of", "n", "least", "first quarter", "median", "third quarter", "most")
    rows = [
        (name, f"{len(own):,}", *(number(value, unit) for value in quarters(sorted(own))))
        for name, own in values.items()
    ]
    return Table(caption, columns, rows)


def of_ranks(found: Comparisons) -> Table:
    """Return the mean ranks, with the letters of what cannot be told apart."""
    means, letters = found.ranks.means, found.letters
    rows = [(model, f"{rank:.2f}", letters[model]) for model, rank in means.items()]
    columns = [*_columns("model", "mean rank"), Column("same", "text")]
    return Table("Mean ranks; models that share a letter cannot be told apart", columns, rows)


def of_pairs(pairs: Sequence[Any]) -> Table:
    """Return the differences of pairs; one pair has nothing to be adjusted for."""
    has_many = len(pairs) > 1
    columns = [Column("a", "key", "A"), Column("b", "key", "B"), Column("n", "count")]
    numbers = {"difference": "B − A", "interval": "95 % interval", "p": "p"}
    numbers |= {"holm": "p, Holm"} if has_many else {}
    columns += [Column(name, "number", title) for name, title in numbers.items()]
    rows = []
    for pair in pairs:
        unit, ends = pair.metric_unit, (pair.mean_difference, pair.low, pair.high)
        mean, low, high = (None if end is None else signed(end, unit) for end in ends)
        ps = (pair.p_value, pair.p_adjusted)[: 1 + has_many]
        said = verdict(pair, (pair.a, pair.b))
        shown = (None if p is None else f"{p:.2g}" for p in ps)
        interval = None if low is None else f"{low} to {high}"
        rows.append((pair.a, pair.b, pair.n, mean, interval, *shown, said))
    caption = "Differences on common recordings; intervals and p by Student's t"
    caption += ", p also by Holm" if has_many else ""
    return Table(caption, [*columns, Column("verdict", "text")], rows)


def of_environments(every: Iterable[Any], *, hosts: bool) -> Table | None:
    """Return where runs were made: one row for all that differ in host and Slurm job only.

    Args:
        every: What is known of each environment, the newest first.
        hosts: Whether hosts are named.
    """
    jobs: dict[tuple[str, ...], tuple[dict[str, None], dict[str, None]]] = {}
    for facts in every:
        key = tuple(_made(facts))
        slurm = facts.get("slurm") or {}
        names = (slurm.get("array_job_id") or slurm.get("job_id"), facts.get("host"))
        for found, name in zip(jobs.setdefault(key, ({}, {})), names, strict=True):
            found.update({show(name): None} if name else {})
    if not jobs:
        return None
    rows = [(*key, *map(_few, found[: 1 + hosts])) for key, found in jobs.items()]
    titles = ("Python", "voices-peewee", "git commit", "torch", "device", "Slurm jobs", "hosts")
    columns = [Column(name, "text") for name in titles[: 6 + hosts]]
    return Table("Where the runs were made", columns, rows)


def _made(facts: Mapping[str, Any]) -> Iterator[str]:
    git, torch = facts.get("git") or {}, facts.get("torch") or {}
    yield show(facts.get("python"))
    yield show(facts.get("voices_peewee"))
    yield show(git.get("commit"))[:10] + (" with changes" if git.get("dirty") else "")
    yield show(torch.get("version"))
    yield show(torch.get("device"))


def _few(names: Mapping[str, None]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - _NAMED:,} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more
