"""The Peewee models, on one proxy that ``DatabaseManager.connect`` binds at run time.

The binding is process-wide: the models work with one database at a time, and only
``DatabaseManager.connect`` and ``close`` change which. Units: durations and times in
seconds, rates in Hz, SI-SNRi and SDRi in dB, memory in MB, sizes in bytes, CPU in percent.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any, ClassVar, Final

import peewee as pw

from voices_peewee.schema.fields import (
    ComposedField,
    JSONField,
    NameField,
    PathField,
    UTCDateTimeField,
    utc_now,
)
from voices_peewee.schema.vocabulary import check_sql, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

database_proxy = pw.DatabaseProxy()


def _bounded(table: str, **sentences: str) -> dict[str, tuple[str, str]]:
    """Return the CHECKs that keep columns within the bounds of the vocabulary."""
    return {
        f"ck_{table}_{name}": (check_sql(name), f"{name} {sentence}")
        for name, sentence in sentences.items()
    }


# Each CHECK with the sentence a user meets who breaks it.
CHECKS: Final = {
    "ck_speakers_name": ("trim(name) <> ''", "a speaker needs a name"),
    "ck_processed_files_filename": ("filename <> ''", "a file needs a filename"),
    **_bounded(
        "processed_files",
        duration="must be a number of seconds, 0 or more",
        sample_rate="must lie between 1 and 10000000 Hz",
        channels="must lie between 1 and 1024",
        file_size="must be a number of bytes, 0 or more",
    ),
    "ck_processing_history_operation_type": (
        "trim(operation_type) <> ''",
        "a run needs an operation_type",
    ),
    "ck_processing_history_end_time": (
        "end_time >= start_time",
        "end_time must not lie before start_time",
    ),
    **_bounded(
        "model_performance",
        si_snri="must be a finite number of dB",
        sdri="must be a finite number of dB",
        cpu_usage="must be a percentage, 0 or more",
        memory_usage="must be a number of MB, 0 or more",
        processing_time="must be a number of seconds, 0 or more",
        real_time_factor="must be a number, 0 or more",
    ),
    "ck_listening_votes_choice": ("choice IN ('a', 'b')", "a choice is a, b or null"),
    "ck_listening_votes_kind": (
        "kind IN ('pair', 'repeat', 'right', 'wrong')",
        "a kind is pair, repeat, right or wrong",
    ),
}


def new_run_id() -> str:
    """Return a new name for a run (32 hexadecimal digits)."""
    return uuid.uuid4().hex


def _checks(table: str) -> list[pw.Node]:
    prefix = f"ck_{table}_"
    return [
        pw.Check(sql, name=name) for name, (sql, _) in CHECKS.items() if name.startswith(prefix)
    ]


class BaseModel(pw.Model):
    """What the models share: the proxy and an integer key."""

    id = pw.AutoField()

    if TYPE_CHECKING:
        __data__: dict[str, Any]
        __rel__: dict[str, Any]
        _dirty: set[str]

    class Meta:
        database = database_proxy
        legacy_table_names = False

    def __init__(self, *_: object, __no_default__: bool = False, **values: Any) -> None:
        """Take values as Peewee does, but make no default that is not needed."""
        data = self.__data__ = {}
        self.__rel__ = {}
        if not __no_default__:
            for field, default in self._meta.defaults.items():
                if field.name not in values:
                    data[field.name] = default() if callable(default) else default
        self._dirty = set(data)
        fields = self._meta.fields
        for name, value in values.items():
            if name in fields and fields[name].accessor_class is pw.FieldAccessor:
                data[name] = value
                self._dirty.add(name)
            else:
                setattr(self, name, value)

    def __str__(self) -> str:
        return " ".join(f"{name}={getattr(self, name)!r}" for name in self._shown)

    def _repr_html_(self) -> str:
        from voices_peewee.rendering.table import html_facts

        fields = self._meta.sorted_fields
        values = [(describe(field.column_name), self.__data__.get(field.name)) for field in fields]
        title = f"{type(self).__name__} {'(not saved)' if self.id is None else self.id}"
        return html_facts(values, title=title)

    @classmethod
    def glance(cls) -> tuple[str, ...]:
        """Return the names of the columns that a table of many rows shows."""
        return cls._columns or tuple(field.column_name for field in cls._meta.sorted_fields)

    _shown: ClassVar[tuple[str, ...]] = ("id",)
    _columns: ClassVar[tuple[str, ...]] = ()  # () means all


class _Timestamped(BaseModel):
    """A model whose ``updated_at`` moves on every update, bulk updates included."""

    if TYPE_CHECKING:
        updated_at: dt.datetime

    @classmethod
    def update(cls, *data: Mapping[Any, Any], **changes: Any) -> pw.ModelUpdate:
        """Return Peewee's update query; it also moves ``updated_at``."""
        given = {getattr(key, "name", key) for mapping in data for key in mapping}
        if "updated_at" not in given:
            changes.setdefault("updated_at", utc_now())
        return super().update(*data, **changes)

    def save(self, force_insert: bool = False, only: Any = None) -> Any:
        """Insert or update the row; an update moves ``updated_at``."""
        if self.id is not None and not force_insert:
            self.updated_at = utc_now()
            if only is not None:
                only = [*only, type(self).updated_at]
        return super().save(force_insert=force_insert, only=only)


class Speaker(_Timestamped):
    """A voice profile. ``tags`` is a list of texts."""

    name = ComposedField(index=True)
    description = pw.TextField(null=True)
    tags = JSONField(default=list)
    created_at = UTCDateTimeField(default=utc_now, index=True)
    updated_at = UTCDateTimeField(default=utc_now)

    if TYPE_CHECKING:
        processed_files: pw.ModelSelect[ProcessedFile]

    class Meta:
        table_name = "speakers"
        constraints = _checks("speakers")

    _shown = ("id", "name", "tags")
    _columns = ("id", "name", "description", "tags")


class ProcessedFile(_Timestamped):
    """A recording, or what belongs to one: a stem (an output), or a voice without a file.

    A recording has no ``recording``; a stem has that and ``processed_path``; a voice has that
    and a speaker. ``duration`` in seconds, ``sample_rate`` in Hz, ``file_size`` in bytes;
    ``content_hash`` is the SHA-256 (hexadecimal) of the row's own file, last read at
    ``read_at``; ``metadata`` is a JSON object.
    """

    filename = PathField()
    original_path = PathField(null=True, index=True)
    processed_path = PathField(null=True, index=True)
    file_format = pw.TextField(null=True, index=True)
    duration = pw.DoubleField(null=True)
    sample_rate = pw.IntegerField(null=True)
    channels = pw.IntegerField(null=True)
    metadata = JSONField(default=dict)
    speaker = pw.ForeignKeyField(
        Speaker, backref="processed_files", null=True, on_delete="SET NULL"
    )
    file_size = pw.BigIntegerField(null=True)
    content_hash = pw.TextField(null=True, index=True)
    created_at = UTCDateTimeField(default=utc_now, index=True)
    updated_at = UTCDateTimeField(default=utc_now)
    recording = pw.ForeignKeyField("self", backref="outputs", null=True, on_delete="CASCADE")
    read_at = UTCDateTimeField(null=True)

    if TYPE_CHECKING:
        speaker_id: int | None
        recording_id: int | None
        outputs: pw.ModelSelect[ProcessedFile]
        processing_history: pw.ModelSelect[ProcessingHistory]

    class Meta:
        table_name = "processed_files"
        constraints = _checks("processed_files")

    @property
    def kind(self) -> str:
        """``recording``, ``stem`` (an output) or ``voice`` (a speaker's part, without a file)."""
        if self.recording_id is None:
            return "recording"
        return "voice" if self.processed_path is None else "stem"

    _shown = ("id", "filename", "duration", "sample_rate", "channels")
    _columns = (
        "id",
        "filename",
        "file_format",
        "duration",
        "sample_rate",
        "channels",
        "speaker_id",
    )


def file_kind(file: Any = ProcessedFile) -> pw.Case:
    """Return ``ProcessedFile.kind`` as an expression; ``file`` may be an alias of the model."""
    cases = (
        (file.recording_id.is_null(), "recording"),
        (file.processed_path.is_null(False), "stem"),
    )
    return pw.Case(None, cases, "voice")


class Environment(BaseModel):
    """Where runs were made, once for all that were made in the same: a JSON object.

    ``facts`` has ``python``, ``host``, ``platform`` and ``voices_peewee``, and where there are
    any ``git`` (commit, dirty), ``torch`` (version, device) and ``slurm`` (job_id,
    array_job_id, array_task_id). ``digest`` is the SHA-256 (hexadecimal) of its text.
    """

    facts = JSONField()
    digest = pw.TextField(unique=True)
    created_at = UTCDateTimeField(default=utc_now)

    if TYPE_CHECKING:
        runs: pw.ModelSelect[ProcessingHistory]

    class Meta:
        table_name = "environments"


class ProcessingHistory(BaseModel):
    """One operation on one file: a row of a run.

    A row without ``end_time`` is unfinished; with one it succeeded or failed.
    ``source_hash`` is the recording's content hash when the run began; ``process`` names
    the host, process and process start that recorded it. ``model_hash`` is the SHA-256
    (hexadecimal) of the file with the model's weights, ``tags`` a list of texts or None.
    """

    processed_file = pw.ForeignKeyField(
        ProcessedFile, backref="processing_history", on_delete="CASCADE"
    )
    run_id = pw.TextField(default=new_run_id, index=True)
    operation_type = NameField()
    model_type = NameField(null=True)
    model_version = NameField(null=True)
    parameters = JSONField(default=dict)
    start_time = UTCDateTimeField(default=utc_now, index=True)
    end_time = UTCDateTimeField(null=True)
    success = pw.BooleanField(default=False)
    error_message = pw.TextField(null=True)
    source_hash = pw.TextField(null=True)
    process = JSONField(null=True)
    environment = pw.ForeignKeyField(
        Environment, backref="runs", null=True, index=False, on_delete="SET NULL"
    )
    model_hash = pw.TextField(null=True)
    tags = JSONField(null=True)
    note = pw.TextField(null=True)

    if TYPE_CHECKING:
        processed_file_id: int
        environment_id: int | None
        performance_rows: pw.ModelSelect[ModelPerformance]

    class Meta:
        table_name = "processing_history"
        constraints = _checks("processing_history")
        indexes = ((("operation_type", "model_type", "model_version"), False),)

    @property
    def model_performance(self) -> ModelPerformance | None:
        """The row's measurements, or None."""
        found: ModelPerformance | None = self.performance_rows.first()
        return found

    @property
    def status(self) -> str:
        """``success``, ``failed`` or ``unfinished``."""
        if self.success:
            return "success"
        return "unfinished" if self.end_time is None else "failed"

    _shown = ("id", "operation_type", "model_type", "model_version", "status")
    _columns = (
        *("id", "processed_file_id", "operation_type", "model_type", "model_version", "status"),
        *("start_time", "error_message"),
    )


# The morning's two questions, each on its own few rows.
ProcessingHistory.add_index(
    ProcessingHistory.start_time,
    where=pw.SQL("end_time IS NULL"),
    name="processing_history_unfinished",
)
# Which name hides several files of weights; a run without any has no part in it.
ProcessingHistory.add_index(
    ProcessingHistory.model_type,
    ProcessingHistory.model_version,
    ProcessingHistory.model_hash,
    where=pw.SQL("model_hash IS NOT NULL"),
    name="processing_history_model_hash",
)
ProcessingHistory.add_index(
    ProcessingHistory.start_time, where=pw.SQL("NOT success"), name="processing_history_not_success"
)


class ModelPerformance(BaseModel):
    """What one history row measured, at most one for each.

    ``si_snri`` and ``sdri`` in dB, ``cpu_usage`` in percent of one core, ``memory_usage`` the
    peak in MB, ``processing_time`` in seconds, ``real_time_factor`` = processing time ÷
    audio duration; every other metric is in ``additional_metrics``.
    """

    processing_history = pw.ForeignKeyField(
        ProcessingHistory, backref="performance_rows", unique=True, on_delete="CASCADE"
    )
    model_type = NameField(null=True)
    model_version = NameField(null=True)
    si_snri = pw.DoubleField(null=True)
    sdri = pw.DoubleField(null=True)
    cpu_usage = pw.DoubleField(null=True)
    memory_usage = pw.DoubleField(null=True)
    processing_time = pw.DoubleField(null=True)
    real_time_factor = pw.DoubleField(null=True)
    additional_metrics = JSONField(default=dict)
    created_at = UTCDateTimeField(default=utc_now, index=True)

    if TYPE_CHECKING:
        processing_history_id: int

    class Meta:
        table_name = "model_performance"
        constraints = _checks("model_performance")

    _shown = ("id", "model_type", "model_version", "si_snri", "sdri", "real_time_factor")
    _columns = (
        *("id", "processing_history_id", "model_type", "model_version", "si_snri", "sdri"),
        *("real_time_factor", "processing_time"),
    )


# Covers the leaderboard's columns: it reads this index and never the table.
ModelPerformance.add_index(
    ModelPerformance.model_type,
    ModelPerformance.model_version,
    ModelPerformance.si_snri,
    ModelPerformance.sdri,
    ModelPerformance.real_time_factor,
    ModelPerformance.memory_usage,
    ModelPerformance.processing_time,
    ModelPerformance.processing_history,
    name="model_performance_leaderboard",
)


class Claim(BaseModel):
    """Who works on which recording with which settings, so that nobody else does.

    ``source`` is the recording's path, ``settings`` a digest of operation, model, version and
    parameters, and ``process`` as in a run; for other hosts the claim ends at ``expires_at``.
    """

    source = PathField()
    settings = pw.TextField()
    process = JSONField()
    claimed_at = UTCDateTimeField(default=utc_now)
    expires_at = UTCDateTimeField()

    class Meta:
        table_name = "claims"
        indexes = ((("source", "settings"), True),)


class ListeningTest(BaseModel):
    """A blind listening test: ``name`` is the page's, ``plan`` what its tokens stand for."""

    name = pw.TextField(unique=True)
    question = pw.TextField()
    plan = JSONField(default=dict)
    created_at = UTCDateTimeField(default=utc_now)

    if TYPE_CHECKING:
        votes: pw.ModelSelect[ListeningVote]

    class Meta:
        table_name = "listening_tests"

    _shown = ("id", "name", "question")
    _columns = ("id", "name", "question", "created_at")


class ListeningVote(BaseModel):
    """What a listener said of two stems, once a session and trial.

    ``choice`` is ``a``, ``b`` or None, no preference. ``a`` and ``b`` are the history rows that
    made the stems; a trial of ``kind`` ``right`` or ``wrong``, whose answer is known, has none.
    """

    test = pw.ForeignKeyField(ListeningTest, backref="votes", on_delete="CASCADE")
    a = pw.ForeignKeyField(ProcessingHistory, backref="+", null=True, on_delete="CASCADE")
    b = pw.ForeignKeyField(ProcessingHistory, backref="+", null=True, on_delete="CASCADE")
    listener = pw.TextField()
    session = pw.TextField()
    trial = pw.TextField()
    kind = pw.TextField()
    position = pw.IntegerField()
    choice = pw.TextField(null=True)
    details = JSONField(default=dict)
    voted_at = UTCDateTimeField(default=utc_now)

    if TYPE_CHECKING:
        test_id: int
        a_id: int | None
        b_id: int | None

    class Meta:
        table_name = "listening_votes"
        constraints = _checks("listening_votes")
        indexes = ((("test", "session", "trial"), True),)

    _shown = ("id", "listener", "trial", "choice")
    _columns = ("id", "test_id", "listener", "a_id", "b_id", "kind", "choice", "voted_at")


RECORDED: Final = (
    *(Speaker, ProcessedFile, Environment, ProcessingHistory, ModelPerformance),
    *(ListeningTest, ListeningVote),
)
MODELS: Final = (*RECORDED, Claim)  # what is being worked on is no part of the record
