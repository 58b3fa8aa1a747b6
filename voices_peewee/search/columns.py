"""What can be listed: four lists, their columns, and the words that ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.errors import QueryError
from voices_peewee.schema.models import (
    BaseModel,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

Model = type[BaseModel]


class Step(NamedTuple):
    """A join: from which model, to which, by what, and whether each row has its other side."""

    start: Model
    model: Model
    link: pw.ColumnBase
    always: bool = False


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a list, or a field that only query words know.

    ``kind`` is text, path, integer, number, decibel, seconds, hertz, bytes, percent,
    megabytes, time, json, tags or boolean: what the values are, and in which unit.

    Args:
        name: What it is called in ``--columns``, ``--sort``, JSON and query words.
        expression: What is selected.
        words: Other names for it.
        match: How a value is compared with it, where the kind does not tell.
        source: The model whose table it needs beside the list's own.
        order: What it is sorted by, where that is not the expression.
        read: Turns a stored value, never NULL, into Python's.
        default: Whether it is shown when nothing else is asked for.
        hidden: Whether it is for query words only.
        of_run: Whether it is looked for in the runs of a file.
    """

    name: str
    kind: str
    title: str
    expression: pw.ColumnBase
    words: tuple[str, ...] = ()
    match: str = ""
    source: Model | None = None
    order: tuple[pw.ColumnBase, ...] = ()
    read: Callable[[Any], object] | None = None
    default: bool = False
    hidden: bool = False
    of_run: bool = False


@dataclass(frozen=True, eq=False)
class Listing:
    """One list: its model, its columns, and what query words may name.

    ``joins`` leads from a source to the steps that reach it.
    ``search`` names the fields that a bare word looks in, ``since`` the time at which a row
    came about, ``sort`` the order when none is asked for.
    """

    model: Model
    columns: dict[str, Column]
    fields: dict[str, Column]
    joins: dict[Model, tuple[Step, ...]]
    defaults: tuple[str, ...]
    search: tuple[str, ...]
    since: str
    sort: str

    @property
    def whole(self) -> tuple[str, ...]:
        """What a script wants to see: the usual columns, then the others of the list's table."""
        own = (name for name, column in self.columns.items() if column.source is None)
        return tuple(dict.fromkeys([*self.defaults, *own]))


def read_json(text: object) -> object:
    """Return the value of a JSON text; what is none stays as another program wrote it."""
    try:
        return json.loads(text) if isinstance(text, str | bytes) else text
    except ValueError:
        return text


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0]


def _column(field: pw.Field, kind: str, title: str, *words: str, **options: Any) -> Column:
    """Describe a column that is a field of a model."""
    readers: dict[str, Callable[[Any], object]] = {
        "json": read_json,
        "tags": read_json,
        "time": field.python_value,
        "path": field.python_value,
        "boolean": bool,
    }
    return Column(
        options.pop("name", field.name),
        kind,
        title,
        field,
        words,
        read=readers.get(kind),
        **options,
    )


def _id(field: pw.Field, name: str = "id") -> Column:
    return _column(field, "integer", name.replace("_", " "), name=name)


def _model_columns(model: type[ProcessingHistory | ModelPerformance]) -> tuple[Column, ...]:
    """Describe a model, its version, and both in one as demucs:4.0."""
    both = pw.Case(
        None,
        [(model.model_version.is_null(), model.model_type)],
        model.model_type.concat(":").concat(model.model_version),
    )
    order = (model.model_type, model.model_version)
    return (
        Column("model", "text", "model", both, match="model", order=order),
        _column(model.model_type, "text", "model type", match="exact"),
        _column(model.model_version, "text", "version", "version", match="exact"),
    )


_COUNT: Final = ProcessedFile.select(pw.fn.COUNT(pw.SQL("*"))).where(
    ProcessedFile.speaker == Speaker.id
)
_SPEAKER: Final = (
    _id(Speaker.id),
    _column(Speaker.name, "text", "name"),
    Column("speaker", "text", "speaker", Speaker.name, match="speaker", hidden=True),
    _column(Speaker.description, "text", "description"),
    _column(Speaker.tags, "tags", "tags", "tag"),
    Column(
        "files",
        "integer",
        "files",
        pw.NodeList((_COUNT,)),
    ),
    _column(Speaker.created_at, "time", "added", "added"),
    _column(Speaker.updated_at, "time", "changed", "changed"),
)

_FILE: Final = (
    _column(ProcessedFile.filename, "path", "file", "file", "name"),
    Column("speaker", "text", "speaker", Speaker.name, match="speaker", source=Speaker),
    _id(ProcessedFile.speaker, "speaker_id"),
    _column(ProcessedFile.file_format, "text", "format", "format", match="format"),
    _column(ProcessedFile.duration, "seconds", "duration", "length"),
    _column(ProcessedFile.sample_rate, "hertz", "rate", "rate"),
    _column(ProcessedFile.channels, "integer", "channels"),
    _column(ProcessedFile.file_size, "bytes", "size", "size"),
    _column(ProcessedFile.original_path, "path", "original path"),
    _column(ProcessedFile.processed_path, "path", "processed path", "output"),
    _column(ProcessedFile.content_hash, "text", "content hash", "hash", match="prefix"),
    _column(ProcessedFile.metadata, "json", "metadata"),
    Column("path", "path", "path", ProcessedFile.original_path, match="either_path", hidden=True),
    Column("tag", "tags", "tags", Speaker.tags, ("tags",), match="speaker_tags", hidden=True),
)

_STATUS: Final = pw.Case(
    None,
    [
        (ProcessingHistory.success, "success"),
        (ProcessingHistory.end_time.is_null(), "unfinished"),
    ],
    "failed",
)
_RUN: Final = (
    _column(ProcessingHistory.run_id, "text", "run id", "run", match="exact"),
    _column(
        ProcessingHistory.operation_type, "text", "operation", "operation", "op", match="exact"
    ),
    *_model_columns(ProcessingHistory),
    Column("status", "text", "status", _STATUS, match="status"),
    _column(ProcessingHistory.success, "boolean", "success"),
    _column(ProcessingHistory.start_time, "time", "started", "started"),
    _column(ProcessingHistory.end_time, "time", "ended", "ended"),
    Column("error", "text", "error", ProcessingHistory.error_message, read=_first_line),
    _column(ProcessingHistory.error_message, "text", "error message"),
    _column(ProcessingHistory.parameters, "json", "parameters", "params"),
    _column(ProcessingHistory.source_hash, "text", "source hash", match="prefix"),
    _column(ProcessingHistory.process, "json", "process"),
)

_METRICS: Final = (
    _column(ModelPerformance.si_snri, "decibel", "SI-SNRi"),
    _column(ModelPerformance.sdri, "decibel", "SDRi"),
    _column(ModelPerformance.real_time_factor, "number", "RTF", "rtf"),
    _column(ModelPerformance.processing_time, "seconds", "took", "took"),
    _column(ModelPerformance.cpu_usage, "percent", "CPU", "cpu"),
    _column(ModelPerformance.memory_usage, "megabytes", "memory", "memory"),
    _column(ModelPerformance.additional_metrics, "json", "metrics", "metrics"),
)


def _of(source: Model, columns: Iterable[Column], **changes: Any) -> list[Column]:
    """Return columns that need another table."""
    return [replace(column, source=column.source or source, **changes) for column in columns]


def _as_file(columns: Iterable[Column]) -> list[Column]:
    """Return the columns of a file under the names that they have beside a run."""
    return [
        replace(column, name="file", words=("filename", "name"))
        if column.name == "filename"
        else column
        for column in columns
    ]


def _listing(model: Model, columns: Iterable[Column], default: str, **options: Any) -> Listing:
    names = tuple(default.split())
    every = [replace(column, default=column.name in names) for column in columns]
    fields = {column.name: column for column in every}
    for column in every:
        for word in column.words:
            fields.setdefault(word, column)
    shown = {column.name: column for column in every if not column.hidden}
    options = {"joins": {}, "since": "created_at", "defaults": names, **options}
    return Listing(model, shown, fields, **options)


_SAME_RUN: Final = ModelPerformance.processing_history == ProcessingHistory.id
_SPEAKER_OF_FILE: Final = Step(ProcessedFile, Speaker, ProcessedFile.speaker == Speaker.id)
_FILE_OF_RUN: Final = Step(
    ProcessingHistory,
    ProcessedFile,
    ProcessingHistory.processed_file == ProcessedFile.id,
    always=True,
)
_METRICS_OF_RUN: Final = Step(ProcessingHistory, ModelPerformance, _SAME_RUN)
_RUN_OF_METRICS: Final = Step(ModelPerformance, ProcessingHistory, _SAME_RUN, always=True)

LISTS: Final = {
    "speakers": _listing(
        Speaker,
        _SPEAKER,
        "id name tags files description",
        search=("name", "description", "tags"),
        sort="name",
    ),
    "files": _listing(
        ProcessedFile,
        [
            _id(ProcessedFile.id),
            *_FILE,
            _column(ProcessedFile.created_at, "time", "added", "added"),
            _column(ProcessedFile.updated_at, "time", "changed", "changed"),
            *_of(ProcessingHistory, _RUN, hidden=True, of_run=True),
            *_of(ModelPerformance, _METRICS, hidden=True, of_run=True),
        ],
        "id filename speaker file_format duration sample_rate channels",
        joins={Speaker: (_SPEAKER_OF_FILE,)},
        search=("filename", "original_path", "processed_path", "speaker"),
        sort="-created_at",
    ),
    "history": _listing(
        ProcessingHistory,
        [
            _id(ProcessingHistory.id),
            _id(ProcessingHistory.processed_file, "file_id"),
            *_RUN,
            *_of(ProcessedFile, _as_file(_FILE)),
            *_of(ModelPerformance, _METRICS),
        ],
        "id file speaker operation_type model status start_time error",
        joins={
            ProcessedFile: (_FILE_OF_RUN,),
            Speaker: (_FILE_OF_RUN, _SPEAKER_OF_FILE),
            ModelPerformance: (_METRICS_OF_RUN,),
        },
        search=(
            "file",
            "original_path",
            "processed_path",
            "speaker",
            "model",
            "operation",
            "error",
        ),
        since="start_time",
        sort="-start_time",
    ),
    "performance": _listing(
        ModelPerformance,
        [
            _id(ModelPerformance.id),
            _id(ModelPerformance.processing_history, "history_id"),
            *_model_columns(ModelPerformance),
            *_METRICS,
            _column(ModelPerformance.created_at, "time", "added", "added"),
            *_of(ProcessedFile, _as_file(_FILE)),
            *_of(ProcessingHistory, (one for one in _RUN if not one.name.startswith("model"))),
        ],
        "id file speaker model si_snri sdri real_time_factor processing_time",
        joins={
            ProcessingHistory: (_RUN_OF_METRICS,),
            ProcessedFile: (_RUN_OF_METRICS, _FILE_OF_RUN),
            Speaker: (_RUN_OF_METRICS, _FILE_OF_RUN, _SPEAKER_OF_FILE),
        },
        search=("file", "original_path", "processed_path", "speaker", "model"),
        sort="-created_at",
    ),
}


def find_listing(noun: str) -> Listing:
    """Return the list of a noun.

    Raises:
        QueryError: There is none.
    """
    if noun not in LISTS:
        raise QueryError.unknown_field(noun, LISTS, "list")
    return LISTS[noun]
