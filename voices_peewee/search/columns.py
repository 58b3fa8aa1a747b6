"""What can be listed: four lists, their columns, and the words that ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.errors import QueryError
from voices_peewee.rendering.plain import Column as Shown
from voices_peewee.schema.models import (
    BaseModel,
    Environment,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)
from voices_peewee.schema.vocabulary import COLUMNS

Model = type[BaseModel]
Recording: Final[Any] = ProcessedFile.alias()  # the recording of a row that is an output's
Whose: Final[Any] = Speaker.alias()  # the speaker of a run's row, else of its recording


class Step(NamedTuple):
    """A join: from which model, to which, by what, and whether each row has its other side."""

    start: Any
    model: Any
    link: pw.ColumnBase
    always: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Column(Shown):
    """A column of a list, or a field that only query words know.

    Args:
        expression: What is selected.
        words: Other names for it.
        match: How a value is compared with it, where the kind does not tell.
        sources: The models whose tables it needs beside the list's own.
        order: What it is sorted by, where that is not the expression.
        hidden: Whether it is for query words only.
        asked_of: Where a list of files looks for it: ``run`` in the runs of a file; ``voice``
            there too, where something else is asked of them; ``row`` in the row.
    """

    expression: Any
    words: tuple[str, ...] = ()
    match: str = ""
    sources: tuple[Any, ...] = ()
    order: tuple[pw.ColumnBase, ...] = ()
    hidden: bool = False
    asked_of: str = "row"


class Listing(NamedTuple):
    """One list: its model, its columns, and what query words may name.

    ``search`` names the fields that a bare word looks in, ``sort`` the order when none is asked
    for.
    """

    model: Any
    columns: dict[str, Column]
    fields: dict[str, Column]
    defaults: tuple[str, ...]
    search: tuple[str, ...]
    sort: str

    @property
    def whole(self) -> tuple[str, ...]:
        """What a script wants to see: the usual columns, then the others of the list's table."""
        own = (name for name, column in self.columns.items() if not column.sources)
        return tuple(dict.fromkeys([*self.defaults, *own]))


def may_be_null(node: Any) -> bool:
    """Whether an expression may be NULL: whatever is not a field that must be there."""
    return not isinstance(node, pw.Field) or bool(node.null)


def read_json(text: object) -> object:
    """Return the value of a JSON text; what is none stays as another program wrote it."""
    try:
        return json.loads(text) if isinstance(text, str | bytes) else text
    except (ValueError, RecursionError):
        return text


def _read_path(name: Any) -> object:
    return name if str(name).isascii() else ProcessedFile.filename.python_value(name)


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0]


def _column(field: pw.Field, *words: str, name: str = "", **options: Any) -> Column:
    """Describe a column that is a field of a model, as the vocabulary has it."""
    term = COLUMNS[field.column_name]
    readers: dict[str, Callable[[Any], object]] = {
        **dict.fromkeys(("json", "tags"), read_json),
        **dict.fromkeys(("time", "boolean"), field.python_value),
        "path": _read_path,
    }
    options = {
        "expression": field,
        "read": readers.get(term.kind),
        "nullable": may_be_null(field),
        **options,
    }
    return Column(name or field.column_name, term.kind, term.title, words=words, **options)


def _text(name: str, expression: Any, **options: Any) -> Column:
    return Column(name, "text", name, expression=expression, **options)


def _model_columns(model: Any) -> tuple[Column, ...]:
    """Describe a model, its version, and both in one as demucs:4.0."""
    named = model.model_type.concat(":").concat(model.model_version)
    both = pw.Case(None, [(model.model_version.is_null(), model.model_type)], named)
    return (
        _text("model", both, match="model", order=(model.model_type, model.model_version)),
        _column(model.model_type, match="exact"),
        _column(model.model_version, "version", match="exact"),
    )


_FILES_OF: Final = ProcessedFile.select(pw.fn.COUNT(pw.SQL("*"))).where(
    ProcessedFile.speaker == Speaker.id
)
_SPEAKER: Final = (
    _column(Speaker.id),
    _column(Speaker.name),
    _text("speaker", Speaker.name, match="speaker", hidden=True),
    _column(Speaker.description),
    _column(Speaker.tags, "tag"),
    Column("files", "integer", "files", expression=pw.NodeList((_FILES_OF,))),
    _column(Speaker.created_at, "added", "since"),
    _column(Speaker.updated_at, "changed"),
)

_KIND: Final = pw.Case(
    None,
    [
        (ProcessedFile.recording.is_null(), "recording"),
        (ProcessedFile.processed_path.is_null(), "voice"),
    ],
    "stem",
)
_FILE: Final = (
    _column(ProcessedFile.filename, "file", "name"),
    _text("speaker", Speaker.name, match="speaker", sources=(Speaker,), asked_of="voice"),
    _column(ProcessedFile.speaker, asked_of="voice"),
    _text("kind", _KIND, match="row_kind"),
    _column(ProcessedFile.recording, "recording"),
    _column(ProcessedFile.file_format, "format", match="format"),
    _column(ProcessedFile.duration, "length"),
    _column(ProcessedFile.sample_rate, "rate"),
    _column(ProcessedFile.channels),
    _column(ProcessedFile.file_size, "size"),
    _column(ProcessedFile.original_path),
    _column(ProcessedFile.processed_path, "output"),
    _column(ProcessedFile.content_hash, "hash", match="prefix"),
    _column(ProcessedFile.metadata),
    _column(ProcessedFile.original_path, name="path", match="either_path", hidden=True),
    _column(Speaker.tags, "tags", name="tag", match="speaker_tags", hidden=True, asked_of="voice"),
)

_STATUS: Final = pw.Case(
    None,
    [
        (ProcessingHistory.success, "success"),
        (ProcessingHistory.end_time.is_null(), "unfinished"),
    ],
    "failed",
)
# Few rows: looked up one by one, so that no list needs a join.
_ENVIRONMENT: Final = pw.NodeList(
    (Environment.select(Environment.facts).where(Environment.id == ProcessingHistory.environment),)
)
_MODEL: Final = frozenset({"model", "model_type", "model_version"})
_OF_RUNS: Final = (
    _column(ProcessingHistory.model_hash, match="prefix"),
    _column(ProcessingHistory.note),
    Column("environment", "json", "environment", expression=_ENVIRONMENT, read=read_json),
    _text("git", _ENVIRONMENT, match="git", hidden=True),
    _text("slurm", _ENVIRONMENT, match="slurm", hidden=True),
)
_TAGS: Final = (
    _column(ProcessingHistory.tags, "tag", match="any_tag"),
    _column(ProcessingHistory.tags, "run.tags", name="run.tag", hidden=True),
)
_RUN: Final = (
    _column(ProcessingHistory.run_id, "run", match="exact"),
    _column(ProcessingHistory.operation_type, "operation", "op", match="exact"),
    *_model_columns(ProcessingHistory),
    _text("status", _STATUS, match="status"),
    _column(ProcessingHistory.success),
    _column(ProcessingHistory.start_time, "started", "since"),
    _column(ProcessingHistory.end_time, "ended"),
    _text("error", ProcessingHistory.error_message, read=_first_line),
    _column(ProcessingHistory.error_message),
    _column(ProcessingHistory.parameters, "params"),
    _column(ProcessingHistory.source_hash, match="prefix"),
    _column(ProcessingHistory.process),
    *_OF_RUNS,
)

_METRICS: Final = (
    _column(ModelPerformance.si_snri),
    _column(ModelPerformance.sdri),
    _column(ModelPerformance.real_time_factor, "rtf"),
    _column(ModelPerformance.processing_time, "took"),
    _column(ModelPerformance.cpu_usage, "cpu"),
    _column(ModelPerformance.memory_usage, "memory"),
    _column(ModelPerformance.additional_metrics, "metrics"),
)

_METADATA_OF_RECORDING: Final = pw.Case(
    None, [(ProcessedFile.recording.is_null(), ProcessedFile.metadata)], Recording.metadata
)
_OWN_OR_RECORDINGS: Final = pw.fn.COALESCE(ProcessedFile.speaker, Recording.speaker)
# What a file's row is called beside its runs; what is known of a recording counts for them.
_BESIDE_A_RUN: Final[dict[str, dict[str, Any]]] = {
    "filename": {"name": "file", "words": ("filename", "name")},
    "tag": {"name": "speaker.tag", "words": ("speaker.tags",)},
    "metadata": {"expression": _METADATA_OF_RECORDING, "sources": (ProcessedFile, Recording)},
    "speaker": {"expression": Whose.name, "sources": (Whose,)},
    "speaker_id": {"expression": _OWN_OR_RECORDINGS, "sources": (ProcessedFile, Recording)},
}


def _of(source: Model, columns: Iterable[Column], **changes: Any) -> list[Column]:
    """Return columns that need another table."""
    changes["nullable"] = True
    return [replace(column, sources=column.sources or (source,), **changes) for column in columns]


def _beside_a_run() -> list[Column]:
    columns = [replace(column, **_BESIDE_A_RUN.get(column.name, {})) for column in _FILE]
    return _of(ProcessedFile, columns)


def _listing(model: Model, columns: Iterable[Column], default: str, **options: Any) -> Listing:
    every = list(columns)
    fields = {column.name: column for column in every}
    for column in every:
        for word in column.words:
            fields.setdefault(word, column)
    shown = {column.name: column for column in every if not column.hidden}
    return Listing(model, shown, fields, defaults=tuple(default.split()), **options)


_SAME_RUN: Final = ModelPerformance.processing_history == ProcessingHistory.id
_FILE_OF_RUN: Final = ProcessingHistory.processed_file == ProcessedFile.id
_RECORDING_OF_FILE: Final = ProcessedFile.recording == Recording.id
_STEPS: Final = (
    Step(ModelPerformance, ProcessingHistory, _SAME_RUN, always=True),
    Step(ProcessingHistory, ProcessedFile, _FILE_OF_RUN, always=True),
    Step(ProcessedFile, Recording, _RECORDING_OF_FILE),
    Step(ProcessedFile, Speaker, ProcessedFile.speaker == Speaker.id),
    Step(Recording, Whose, Whose.id == _OWN_OR_RECORDINGS),
    Step(ProcessingHistory, ModelPerformance, _SAME_RUN),
)


def steps(model: Any, sources: Iterable[Any]) -> list[Step]:
    """Return the joins that lead from a list's model to sources, each once."""
    way: dict[Any, Step] = {}
    for step in _STEPS:
        if step.model in sources and step.model is not model:
            way |= {one.model: one for one in (*steps(model, [step.start]), step)}
    return list(way.values())


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
            _column(ProcessedFile.id),
            *_FILE,
            _column(ProcessedFile.read_at, "read"),
            _column(ProcessedFile.created_at, "added", "since"),
            _column(ProcessedFile.updated_at, "changed"),
            *_of(ProcessingHistory, (*_RUN, _TAGS[1]), hidden=True, asked_of="run"),
            *_of(ModelPerformance, _METRICS, hidden=True, asked_of="run"),
        ],
        "id kind filename speaker file_format duration sample_rate channels",
        search=("filename", "original_path", "processed_path", "speaker"),
        sort="-created_at",
    ),
    "history": _listing(
        ProcessingHistory,
        [
            _column(ProcessingHistory.id),
            _column(ProcessingHistory.processed_file, name="file_id"),
            *_RUN,
            *_TAGS,
            *_beside_a_run(),
            *_of(ModelPerformance, _METRICS),
        ],
        "id file speaker operation_type model status start_time error",
        search=(
            *("file", "original_path", "processed_path", "speaker", "model", "operation"),
            "error",
        ),
        sort="-start_time",
    ),
    "performance": _listing(
        ModelPerformance,
        [
            _column(ModelPerformance.id),
            _column(ModelPerformance.processing_history, name="history_id"),
            *_model_columns(ModelPerformance),
            *_METRICS,
            _column(ModelPerformance.created_at, "added", "since"),
            *_beside_a_run(),
            *_of(ProcessingHistory, (one for one in _RUN if one.name not in _MODEL)),
            *_of(ProcessingHistory, _TAGS),
        ],
        "id file speaker model si_snri sdri real_time_factor processing_time",
        search=("file", "original_path", "processed_path", "speaker", "model"),
        sort="-id",
    ),
}


def find_listing(noun: str) -> Listing:
    """Return the list of a noun."""
    if noun not in LISTS:
        raise QueryError.unknown_field(noun, LISTS, "list")
    return LISTS[noun]


def find(known: Mapping[str, Column], name: str, what: str = "field") -> Column:
    """Return the column of a name."""
    if name in known:
        return known[name]
    from difflib import get_close_matches  # only a mistake needs it

    fields = known.keys() - {"since"}  # which the filter of that name says
    near = get_close_matches(name, fields, n=1, cutoff=0.5)
    names = fields if near else {column.name for column in known.values() if not column.hidden}
    raise QueryError.unknown_field(name, names, what)
