"""The numbers behind a report's pictures, as tables, and where its runs were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voices_peewee.questions.stats import median
from voices_peewee.rendering.plain import number, show, signed
from voices_peewee.rendering.table import Column
from voices_peewee.schema.models import Environment

if TYPE_CHECKING:
    from voices_peewee.questions.comparison import Comparison

_PLACES: Final = 20  # environments that are told apart


class Numbers(NamedTuple):
    """A table: what it is of, its columns and its rows."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[tuple[object, ...]]


def _columns(*names: str) -> list[Column]:
    first, *others = names
    return [Column(first, "key"), *(Column(name, "number") for name in others)]


_QUARTERS: Final = _columns("of", "n", "least", "first quarter", "median", "third quarter", "most")


def _quarters(values: Sequence[float], unit: str) -> list[str]:
    """Return the number of values and what lies between their quarters, as texts."""
    ordered = sorted(values)
    ends = [ordered[round(share * (len(ordered) - 1))] for share in (0, 0.25, 0.75, 1)]
    found = (*ends[:2], median(ordered), *ends[2:])
    return [f"{len(ordered):,}", *(number(value, unit) for value in found)]


def of_models(values: Mapping[str, Sequence[float]], caption: str, unit: str) -> Numbers:
    """Return the quarters of each model's recordings."""
    rows = [(model, *_quarters(own, unit)) for model, own in values.items()]
    return Numbers(caption, _QUARTERS, rows)


def of_pair(pair: Comparison, label: str) -> list[Numbers]:
    """Return the quarters of both models and of the difference, and the largest differences."""
    unit = pair.metric_unit
    sides = {pair.a: [one.a for one in pair.pairs], pair.b: [one.b for one in pair.pairs]}
    sides["B − A"] = [one.difference for one in pair.pairs]
    found = [of_models(sides, f"{label} of the recordings that both have", unit)]
    for name, largest in (("gains", pair.largest_gains), ("losses", pair.largest_losses)):
        rows = [
            (
                _name(one.path),
                number(one.a, unit),
                number(one.b, unit),
                signed(one.difference, unit),
            )
            for one in largest
        ]
        if rows:
            columns = _columns("recording", "A", "B", "B − A")
            found.append(Numbers(f"Largest {name} of B", columns, rows))
    return found


def _name(path: str | None) -> str:
    return (path or "").replace("\\", "/").rpartition("/")[2]


def of_ranks(means: Mapping[str, float], letters: Mapping[str, str]) -> Numbers:
    """Return the mean ranks, with the letters of what cannot be told apart."""
    rows = [(model, f"{rank:.2f}", letters[model]) for model, rank in means.items()]
    columns = [*_columns("model", "mean rank"), Column("same", "text")]
    return Numbers("Mean ranks; models that share a letter cannot be told apart", columns, rows)


_MADE: Final = ("Python", "voices-peewee", "git commit", "torch", "device", "Slurm jobs", "hosts")


def environments(runs: Mapping[int | None, int], *, hosts: bool) -> Numbers | None:
    """Return where runs were made: one row for all that differ in host and Slurm job only.

    Args:
        runs: How many there are of each environment's id; of None nothing is known.
        hosts: Whether hosts are named.
    """
    known = [key for key in runs if key is not None]
    counts: Counter[tuple[str, ...]] = Counter()
    jobs: dict[tuple[str, ...], set[str]] = {}
    machines: dict[tuple[str, ...], set[str]] = {}
    for environment in Environment.select().where(Environment.id << known):
        facts = environment.facts if isinstance(environment.facts, dict) else {}
        key = tuple(_made(facts))
        counts[key] += runs[environment.id]
        slurm = facts.get("slurm") or {}
        jobs.setdefault(key, set()).update(
            {show(slurm.get("array_job_id") or slurm.get("job_id"))} - {""}
        )
        machines.setdefault(key, set()).update({show(facts.get("host"))} - {""})
    if not counts:
        return None
    rows: list[tuple[object, ...]] = [
        (count, *key, _few(jobs[key]), *([_few(machines[key])] if hosts else []))
        for key, count in counts.most_common(_PLACES)
    ]
    if unknown := runs.get(None):
        rows.append((unknown, "not known", *[""] * (len(_MADE) - 2 + hosts)))
    names = _MADE if hosts else _MADE[:-1]
    columns = [Column("runs", "count"), *(Column(name, "text") for name in names)]
    return Numbers("Where the runs were made", columns, rows)


def _made(facts: Mapping[str, Any]) -> Iterator[str]:
    git, torch = facts.get("git") or {}, facts.get("torch") or {}
    yield show(facts.get("python"))
    yield show(facts.get("voices_peewee"))
    yield show(git.get("commit"))[:10] + (" with changes" if git.get("dirty") else "")
    yield show(torch.get("version"))
    yield show(torch.get("device"))


def _few(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3:,} more" if len(shown) > 3 else "")
