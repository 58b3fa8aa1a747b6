"""What can be listed: four lists, their columns, and the words that ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import peewee as pw

from voices_peewee.models import (
    BaseModel,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

Model = type[BaseModel]


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a list, or a field that only query words know.

    Args:
        name: What it is called in ``--columns``, ``--sort``, JSON and query words.
        kind: What its values are, and in which unit: text, path, integer, number, decibel,
            seconds, hertz, bytes, percent, megabytes, time, json, tags or boolean.
        title: A short heading.
        expression: What is selected.
        source: The model whose table it needs beside the list's own.
        words: Other names for it.
        match: How a value is compared with it, where the kind does not tell.
        order: What it is sorted by, where that is not the expression.
        read: Turns a stored value, never NULL, into Python's.
        default: Whether it is shown when nothing else is asked for.
        shown: Whether it can be a column; otherwise it is for query words only.
        of_run: Whether it is looked for in the runs of a file.
    """

    name: str
    kind: str
    title: str
    expression: pw.Node
    source: Model | None = None
    words: tuple[str, ...] = ()
    match: str = ""
    order: tuple[pw.Node, ...] = ()
    read: Callable[[Any], object] | None = None
    default: bool = False
    shown: bool = True
    of_run: bool = False

    @property
    def sort_keys(self) -> tuple[pw.Node, ...]:
        """What the column is sorted by."""
        return self.order or (self.expression,)


@dataclass(frozen=True, eq=False)
class Listing:
    """One list: its model, columns, and where to find what.

    ``joins`` leads from a source to the steps that reach it: the foreign key and its model.
    ``search`` names the fields that a bare word looks in, ``since`` the time that tells when
    a row came about, ``sort`` the default order.
    """

    noun: str
    model: Model
    columns: dict[str, Column]
    fields: dict[str, Column]
    joins: dict[Model, tuple[tuple[Model, pw.Node], ...]]
    search: tuple[str, ...]
    since: str
    sort: str

    @property
    def defaults(self) -> tuple[str, ...]:
        """The columns that are shown when nothing else is asked for."""
        return tuple(column.name for column in self.columns.values() if column.default)

    @property
    def sortable(self) -> dict[str, Column]:
        """The columns by all their names."""
        return {word: column for word, column in self.fields.items() if column.shown}


def _read_json(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str | bytes) else text
    except ValueError:
        return text  # another program wrote it


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0]


def _column(field: pw.Field, kind: str, title: str, *words: str, **options: Any) -> Column:
    """Describe a column that is a field of a model."""
    readers: dict[str, Callable[[Any], object]] = {
        "json": _read_json,
        "tags": _read_json,
        "time": field.python_value,
        "path": field.python_value,
        "boolean": bool,
    }
    return Column(
        **{
            "name": field.name,
            "kind": kind,
            "title": title,
            "expression": field,
            "words": words,
            "read": readers.get(kind),
            **options,
        }
    )


def _model_columns(model: type[ProcessingHistory | ModelPerformance]) -> tuple[Column, ...]:
    """Return the columns that name a model, its version, and both as ``demucs:4.0``."""
    both = pw.Case(
        None, [(model.model_version.is_null(), model.model_type)],
        model.model_type.concat(":").concat(model.model_version),
    )
    return (
        Column("model", "text", "model", both, match="model", default=True,
               order=(model.model_type, model.model_version)),
        _column(model.model_type, "text", "model type", match="exact"),
        _column(model.model_version, "text", "version", "version", match="exact"),
    )


_SPEAKER: Final = (
    _column(Speaker.name, "text", "name", "speaker", default=True),
    _column(Speaker.description, "text", "description", default=True),
    _column(Speaker.tags, "tags", "tags", "tag", default=True),
)
_COUNT: Final = ProcessedFile.select(pw.fn.COUNT(pw.SQL("*"))).where(
    ProcessedFile.speaker == Speaker.id
)

_FILE: Final = (
    _column(ProcessedFile.filename, "path", "file", "file", "name", default=True),
    Column("speaker", "text", "speaker", Speaker.name, source=Speaker, match="speaker", default=True),
    _column(ProcessedFile.speaker, "integer", "speaker id", name="speaker_id"),
    _column(ProcessedFile.file_format, "text", "format", "format", match="lower", default=True),
    _column(ProcessedFile.duration, "seconds", "duration", "length", default=True),
    _column(ProcessedFile.sample_rate, "hertz", "rate", "rate", default=True),
    _column(ProcessedFile.channels, "integer", "channels", default=True),
    _column(ProcessedFile.file_size, "bytes", "size", "size"),
    _column(ProcessedFile.original_path, "path", "original path"),
    _column(ProcessedFile.processed_path, "path", "processed path", "output"),
    Column("path", "path", "path", ProcessedFile.original_path, match="path", shown=False),
    _column(ProcessedFile.content_hash, "text", "content hash", "hash", match="prefix"),
    _column(ProcessedFile.metadata, "json", "metadata"),
    Column("tag", "tags", "tag", Speaker.tags, words=("tags",), match="file_tags", shown=False),
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
    _column(ProcessingHistory.operation_type, "text", "operation", "operation", "op", match="exact", default=True),
    *_model_columns(ProcessingHistory),
    Column("status", "text", "status", _STATUS, match="status", default=True),
    _column(ProcessingHistory.success, "boolean", "success"),
    _column(ProcessingHistory.start_time, "time", "started", "started", default=True),
    _column(ProcessingHistory.end_time, "time", "ended", "ended"),
    Column("error", "text", "error", ProcessingHistory.error_message, read=_first_line, default=True),
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


def _id(model: Model, name: str = "id", field: pw.Field | None = None, **options: Any) -> Column:
    title = name.replace("_", " ")
    return _column(field or model.id, "integer", title, **{"name": name, **options})


def _times(model: type[Speaker | ProcessedFile]) -> tuple[Column, ...]:
    return (
        _column(model.created_at, "time", "added", "added"),
        _column(model.updated_at, "time", "changed", "changed"),
    )


def _joined(source: Model, columns: Iterable[Column], **options: Any) -> Iterator[Column]:
    """Yield columns of another table, hidden where nothing else is said."""
    for column in columns:
        yield replace(column, source=column.source or source, **{"default": False, **options})


def _listing(noun: str, model: Model, columns: Iterable[Column], **options: Any) -> Listing:
    every = tuple(columns)
    fields: dict[str, Column] = {column.name: column for column in every}
    for column in every:
        for word in column.words:
            fields.setdefault(word, column)
    shown = {column.name: column for column in every if column.shown}
    return Listing(noun, model, shown, fields, **{"joins": {}, "since": "created_at", **options})


def _pick(columns: Iterable[Column], *default: str, rename: dict[str, str] | None = None) -> Iterator[Column]:
    """Yield columns of which only the named ones are shown by default."""
    names = rename or {}
    for column in columns:
        column = replace(column, name=names.get(column.name, column.name))
        yield replace(column, default=column.name in default)


_TO_SPEAKER: Final = (Speaker, ProcessedFile.speaker == Speaker.id)
_TO_FILE: Final = (ProcessedFile, ProcessingHistory.processed_file == ProcessedFile.id)
_TO_METRICS: Final = (ModelPerformance, ModelPerformance.processing_history == ProcessingHistory.id)
_TO_RUN: Final = (ProcessingHistory, ModelPerformance.processing_history == ProcessingHistory.id)
_AS_FILE: Final = {"filename": "file"}
