"""Tables of a report: the numbers behind its pictures, and where its runs were made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from voices_peewee.questions.comparison_text import verdict
from voices_peewee.questions.comparisons import Comparisons
from voices_peewee.rendering.plain import show, signed
from voices_peewee.rendering.table import Column

_PLACES: Final = 50  # environments


class Table(NamedTuple):
    """A table: what it is of, its columns and its rows."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[tuple[object, ...]]


def of_ranks(found: Comparisons) -> Table:
    """Return the mean ranks, with the letters of what cannot be told apart."""
    means, letters = found.ranks.means, found.letters
    rows = [(model, f"{rank:.2f}", letters[model]) for model, rank in means.items()]
    columns = [Column("model", "key"), Column("mean rank", "number"), Column("same", "text")]
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
    """Return where runs were made, each way of these once; ``hosts`` says whether they are named.

    ``every`` is what is known of each environment, the newest first.
    """
    titles = ["Python", "voices-peewee", "git commit", "torch", "device", *["host"][:hosts]]
    rows = dict.fromkeys(tuple(_made(facts))[: len(titles)] for facts in every)
    columns = [Column(name, "text") for name in titles]
    return Table("Where the runs were made", columns, [*rows][:_PLACES]) if rows else None


def _made(facts: Mapping[str, Any]) -> Iterator[str]:
    git, torch = facts.get("git") or {}, facts.get("torch") or {}
    yield show(facts.get("python"))
    yield show(facts.get("voices_peewee"))
    yield show(git.get("commit"))[:10] + (" with changes" if git.get("dirty") else "")
    yield show(torch.get("version"))
    yield show(torch.get("device"))
    yield show(facts.get("host"))
