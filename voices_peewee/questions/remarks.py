"""What a reader of an answer has to know: pooled settings, other recordings, other clocks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import peewee as pw

from voices_peewee.questions.comparison_text import with_value
from voices_peewee.questions.counted import Source, differing
from voices_peewee.questions.fields import MODEL, TAGS, Field, Own, read_key
from voices_peewee.questions.groups import Group, Key
from voices_peewee.questions.selection import Metric, model_label
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

_TIMES: Final = frozenset({"processing_time", "real_time_factor", "cpu_usage"})
_NAMED: Final = 6  # models
_TIMED: Final = Metric("timed", higher_is_better=True, unit="", keys=("timed",))

_SEEN: Final = pw.fn.SUBSTR(ProcessingHistory.source_hash, 1, 32)  # others' may be shorter
_FILE: Final[Any] = ProcessedFile.alias()
# Whether its recording has not the content that a run saw; other files may have it, as a copy.
_HAS_CHANGED: Final = ~pw.fn.EXISTS(
    _FILE.select(pw.SQL("1")).where(
        _FILE.id == pw.fn.COALESCE(Own.recording, Own.id),
        _FILE.content_hash == ProcessingHistory.source_hash,
    )
)


def pools(label: str, names: Sequence[str]) -> str:
    """Say that what is called so pools several settings."""
    return f"{label} pools runs whose parameters differ: {', '.join(names)}"


def of_earlier(groups: Mapping[str, Group], chosen: Collection[str] = ()) -> Iterator[str]:
    """Say, by the labels, which runs on a recording do not count: of settings, and failures."""
    of_each = {
        label: {*differing(group.successful)}.difference(chosen, differing(group.parameters))
        for label, group in groups.items()
        if len(group.successful) > 1
    }
    left = {label: names for label, names in of_each.items() if names}
    if left:
        names = ", ".join(sorted(set().union(*left.values())))
        said = "of a recording's runs whose parameters differ the latest counts"
        yield f"{_whose(left)}: {said}: {names}"
    since = {label: group.failed_since for label, group in groups.items() if group.failed_since}
    if since:
        count = sum(since.values())
        said = f"a later run failed on {count:,} recording{'s' * (count != 1)}"
        yield f"{_whose(since)}: {said}, of which the earlier success counts"


def _whose(labels: Collection[str]) -> str:
    return next(iter(labels)) if len(labels) == 1 else f"{len(labels):,} groups"


def of_settings(
    labels: Sequence[str], groups: Sequence[Group], fields: Sequence[Field]
) -> Iterator[str]:
    """Say where a group pools several settings, and what differs between the groups."""
    chosen = {one.name.partition(".")[2] for one in fields if one.name.startswith("parameters.")}
    inside: set[str] = set()
    for label, group in zip(labels, groups, strict=True):
        names = [name for name in differing(group.parameters) if name not in chosen]
        inside.update(names)
        if names:
            yield pools(label, names)
    yield from of_earlier(dict(zip(labels, groups, strict=True)), chosen)
    between = differing([text for group in groups for text in sorted(group.parameters)])
    others = [name for name in between if name not in inside | chosen]
    if len(groups) > 1 and others:
        yield f"parameters that differ between the groups: {', '.join(others)}"


def models_of(
    source: Source, conditions: Sequence[Any], fields: Sequence[Field]
) -> dict[Key, set[str]]:
    """Return the models of each group's successful runs; none where groups are of one each."""
    found: dict[Key, set[str]] = {}
    if {*MODEL} <= {one.name for one in fields}:
        return found
    run = ProcessingHistory
    columns = (*(one.expression for one in fields), run.model_type, run.model_version)
    query = source.select(columns, [*conditions, run.success]).distinct()
    for *values, model, version in source.rows(query):
        key = read_key(fields, values)
        found.setdefault(key, set()).add(model_label(model, version))
    return found


def of_models(models: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Say where groups, by their labels, pool the runs of several models."""
    pooling = {label: own for label, own in models.items() if len(own) > 1}
    if pooling:
        what = (
            f"{next(iter(pooling))} pools" if len(pooling) == 1 else f"{len(pooling):,} groups pool"
        )
        names = sorted(set().union(*pooling.values()))
        more = ", …" if len(names) > _NAMED else ""
        yield f"{what} the runs of several models: {', '.join(names[:_NAMED])}{more}"


def of_recordings(
    labels: Sequence[str], groups: Sequence[Group], fields: Sequence[Field], *, common: bool
) -> Iterator[str]:
    """Say where the groups were measured on different recordings, and what is common."""
    measured = [group for group in groups if group.values]
    is_of_runs = len(groups) > 1 and not any(one.of_recording for one in fields)
    if common and is_of_runs:
        count = len(measured[0].values) if measured else 0
        yield f"only the recordings that all have a value of: {count:,}"
    pairs = zip(labels, groups, strict=True)
    without = [label for label, group in pairs if not with_value(group.coverage)]
    if common and without:
        yield f"no recording has a value from: {', '.join(without)}"
    differ = any(group.recordings != measured[0].recordings for group in measured[1:])
    if differ and is_of_runs and not common:
        least, most = (end(len(group.values) for group in measured) for end in (min, max))
        counts = f"{least:,} each" if least == most else f"{least:,} to {most:,}"
        shared = len(in_common(measured))
        said = (
            f"all have {shared:,} of them, to which 'common' keeps" if shared else "none is common"
        )
        yield f"measured on different recordings ({counts}); {said}"


def of_stems(groups: Sequence[Group]) -> Iterator[str]:
    """Say of how many recordings not all groups have as many stems with a value."""
    measured = [group for group in groups if group.values]
    seen: dict[int, int] = {}
    uneven: set[int] = set()
    if len(set[int]().union(*(group.stems for group in measured))) < 2:  # most often, and fast
        return
    for group in measured:
        for recording, count in zip(group.recordings, group.stems, strict=True):
            if seen.setdefault(recording, count) != count:
                uneven.add(recording)
    if uneven:
        yield f"recordings of which not all have values of as many stems: {len(uneven):,}"


def in_common(groups: Sequence[Group]) -> frozenset[int]:
    """Return the recordings that all groups with values have a value of."""
    own = {id(group.recordings): group.recordings for group in groups if group.values}
    kept = list(own.values())  # many groups have the same
    return frozenset(set(kept[0]).intersection(*kept[1:]) if kept else ())


def of_tags(groups: Sequence[Group], fields: Sequence[Field]) -> Iterator[str]:
    """Say where a recording is in the groups of several tags."""
    places = [place for place, one in enumerate(fields) if one.name not in TAGS]
    if len(places) == len(fields):
        return
    seen: dict[tuple[Any, ...], set[int]] = {}
    for group in groups:
        others = seen.setdefault(tuple(group.key[place] for place in places), set())
        if not others.isdisjoint(group.recordings):
            yield "recordings with several tags are in the group of each"
            return
        others.update(group.recordings)


def of_checkpoints(
    source: Source, conditions: Sequence[Any], fields: Sequence[Field] = ()
) -> Iterator[str]:
    """Say where one name of a model hides several files with weights."""
    if any(one.name == "model_hash" for one in fields):
        return
    run = ProcessingHistory
    model, weights = (run.model_type, run.model_version), run.model_hash
    has_weights = weights.is_null(is_null=False)
    known = run.select(pw.SQL("1")).where(has_weights).group_by(*model)
    known = known.having(pw.fn.COUNT(weights.distinct()) > 1).limit(1)
    if not [*source.rows(known)]:  # an index alone tells this
        return
    found: dict[tuple[Any, ...], list[str]] = {}
    query = source.select((*model, weights), [*conditions, run.success, has_weights])
    for *name, digest in source.rows(query.distinct().order_by(*model, weights)):
        found.setdefault(tuple(name), []).append(str(digest)[:8])
    for name, digests in found.items():
        if len(digests) > 1:
            yield (
                f"{model_label(*name)} names {len(digests)} files of weights "
                f"({', '.join(digests)}); model_hash tells them apart"
            )


def of_contents(
    source: Source,
    conditions: Sequence[Any],
    fields: Sequence[Field] = (),
    sides: Iterable[Any] = (True,),
) -> Iterator[str]:
    """Say how many recordings changed between the latest runs of one group or side and another."""
    run = ProcessingHistory
    chosen = [*conditions, run.success, run.source_hash.is_null(False)]
    changed = source.select((pw.SQL("1"),), [*chosen, _HAS_CHANGED]).limit(1)
    if not [*source.rows(changed)]:  # most often
        return
    latest: dict[int, dict[tuple[int, Key], str]] = {}
    columns = (source.recording, _SEEN, *(one.expression for one in fields))
    for place, side in enumerate(sides):
        query = source.select(columns, chosen if side is True else [*chosen, side])
        for recording, content, *values in source.rows(query.order_by(run.start_time, run.run_id)):
            latest.setdefault(recording, {})[place, read_key(fields, values)] = content
    if count := sum(len({*own.values()}) > 1 for own in latest.values()):
        yield f"recordings whose content changed between the runs compared: {count:,}"


def of_operations(
    source: Source, conditions: Sequence[Any], fields: Sequence[Field] = ()
) -> Iterator[str]:
    """Say where runs of several operations are counted together."""
    run, operation = ProcessingHistory, ProcessingHistory.operation_type
    ends = run.select(pw.fn.MIN(operation), pw.fn.MAX(operation))
    ((first, last),) = source.rows(ends)  # an index alone tells this
    if first == last or any(one.name == operation.name for one in fields):
        return
    query = source.select((operation,), [*conditions, run.success]).distinct()
    if len(names := [str(name) for (name,) in source.rows(query.order_by(operation))]) > 1:
        yield f"operations are counted together; operation_type keeps to one: {', '.join(names)}"


def of_clocks(source: Source, metric: Metric, conditions: Sequence[Any]) -> Iterator[str]:
    """Say where some runs measured their timed parts, and others all of their block."""
    if metric.name not in _TIMES:
        return
    run = ProcessingHistory
    timed = pw.Case(None, [(_TIMED.value == 1, run.run_id)])
    model = (run.model_type, run.model_version)
    columns = [*model, *(pw.fn.COUNT(one.distinct()) for one in (run.run_id, timed))]
    chosen = [*conditions, run.success, metric.is_number]
    found = list(source.rows(source.select(columns, chosen).group_by(*model).order_by(*model)))
    every, some = (sum(row[place] for row in found) for place in (2, 3))
    if 0 < some < every:
        names = [f"{model_label(*row[:2])} ({row[3]:,} of {row[2]:,})" for row in found if row[3]]
        yield (
            f"{metric.name} of {some:,} of {every:,} runs is that of their timed parts, "
            f"of the others that of their whole blocks; timed parts: {', '.join(names)}"
        )


def of_unread(source: Source) -> Iterator[str]:
    """Say how much another program wrote that is no number or no text."""
    if source.unread:
        yield f"values and runs left out, since they cannot be read: {source.unread:,}"
