"""What makes the groups of a leaderboard: any field of a run or of its recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.database.dialects import ByEngine, nodes
from voices_peewee.errors import QueryError
from voices_peewee.schema.exact import several
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.search.columns import LISTS, Column, find, read_json
from voices_peewee.search.json_keys import json_order, json_value
from voices_peewee.search.pages import read_single
from voices_peewee.search.words import field_path

MODEL: Final = ("model_type", "model_version")
Own: Final[Any] = ProcessedFile.alias()  # the file of a history row; ProcessedFile is its recording
_Whole: Final[Any] = ProcessedFile.alias()
# A stem may have its recording's; most rows need no look-up.
SPEAKER: Final = pw.fn.COALESCE(
    Own.speaker, _Whole.select(_Whole.speaker).where(_Whole.id == Own.recording)
)


def groupings(by: Sequence[str]) -> tuple[str, ...]:
    """Return the groupings of fields, of which a model and its version are one."""
    whole = {*MODEL} <= {*by}
    return tuple(dict.fromkeys("model" if whole and name in MODEL else name for name in by))


class Field(NamedTuple):
    """A field that makes groups.

    ``of_recording`` says that it is known of the recording or its stem, not of the run;
    ``once`` that all rows of a run have one value; ``source`` is a table-valued function that
    it needs.
    """

    name: str
    kind: str
    expression: Any
    of_recording: bool = False
    once: bool = False
    read: Callable[[Any], object] | None = None
    source: Any = None


def find_fields(by: str | Sequence[str]) -> tuple[Field, ...]:
    """Return the fields of the names; ``model`` stands for its type and version."""
    names = by.split(",") if isinstance(by, str) else several("by", by, "fields")
    stripped = (str(name).strip() for name in names)
    parts = [part for name in stripped for part in (MODEL if name == "model" else (name,))]
    fields = tuple(map(_field, dict.fromkeys(parts)))
    if not fields:
        raise QueryError("a leaderboard is by one field or more, such as model or speaker")
    return fields


def _field(name: str) -> Field:
    if name in _SPECIAL:
        return _SPECIAL[name]
    if name in _FACTS:
        return _field(_FACTS[name])._replace(name=name)
    head, keys = field_path(name) or (name, ())
    column = find(LISTS["history"].fields, head.lower().replace("-", "_"))
    if (column.kind == "json") != bool(keys):
        example = f"a key, as in {head}.name" if column.kind == "json" else "no keys"
        raise QueryError(f"groups by {head} need {example}")
    if ModelPerformance in column.sources:
        raise QueryError(f"{head} is a metric, which makes no groups")
    of_recording = bool(column.sources)
    expression = ProcessedFile.metadata if column.name == "metadata" else column.expression
    if keys:
        value = json_value(expression, keys)
        if len(keys) > 1:  # inner objects go first, as with metrics; then a key with dots
            nested = json_order(expression, keys).is_null()
            value = pw.Case(None, [(nested, json_value(expression, (".".join(keys),)))], value)
        return Field(name, "other", value, of_recording, read=read_single)
    return Field(name, _kind(column), expression, of_recording, read=column.read)


def _kind(column: Column) -> str:
    return column.kind if column.kind in ("integer", "boolean", "time", "path") else "text"


def _tags(name: str, tags: pw.Field, alias: str) -> Field:
    """Return tags, of which each makes a group of its own; none of them is a group too."""
    none = nodes("CASE WHEN", tags, "IS NULL OR", tags, "= '[]' THEN '[null]'")
    # What another program wrote and is no JSON would end the whole query.
    readable = ("WHEN json_valid(", tags, ") THEN", tags, "ELSE '[null]'")
    sqlite = nodes("json_each(", none, *readable, f"END) AS {alias}")
    server = nodes("jsonb_array_elements_text(", none, "ELSE", tags, f"END) AS {alias}(value)")
    source, of_speaker = ByEngine(sqlite, server), tags.model is Speaker
    return Field(name, "text", pw.SQL(f"{alias}.value"), of_recording=of_speaker, source=source)


# Words for what is known of an environment, of which a group is by one fact.
_FACTS: Final = {"git": "environment.git.commit", "slurm": "environment.slurm.job_id"}
TAGS: Final = frozenset({"tag", "speaker.tag", "run.tag"})
_RUN: Final = ProcessingHistory
_FILE: Final = pw.fn.COALESCE(ProcessedFile.original_path, ProcessedFile.filename)
_SPECIAL: Final = {
    "model_type": Field("model_type", "text", _RUN.model_type, once=True),
    "model_version": Field("model_version", "text", _RUN.model_version, once=True),
    "operation_type": Field("operation_type", "text", _RUN.operation_type, once=True),
    "speaker": Field("speaker", "text", SPEAKER, of_recording=True),
    "speaker_id": Field("speaker_id", "integer", SPEAKER, of_recording=True),
    "file": Field(
        "file",
        "text",
        _FILE,
        of_recording=True,
        read=lambda path: str(ProcessedFile.original_path.python_value(path)),
    ),
    **{name: _tags(name, Speaker.tags, "tagged") for name in ("tag", "speaker.tag")},
    "run.tag": _tags("run.tag", _RUN.tags, "run_tagged"),
}


def read_key(fields: Sequence[Field], values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the key of a group whose fields have values as they are stored."""
    known = zip(fields, values, strict=True)
    return tuple(_one_number(one) if own.read is read_single else one for own, one in known)


def _one_number(text: str | None) -> str | None:
    """Return one text for 1.0 and 1, which compare alike; true is neither."""
    values = read_json(text)
    value = values[0] if isinstance(values, list) and values else None
    if isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0:
        return f"[{int(value)}]"
    return text
