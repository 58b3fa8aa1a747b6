"""The Peewee models, on one proxy that ``DatabaseManager.connect`` binds at run time.

The binding is process-wide: the models work with one database at a time, and only
``DatabaseManager.connect`` and ``close`` change which. Units: durations and times in
seconds, rates in Hz, SI-SNRi and SDRi in dB, memory in MB, sizes in bytes, CPU in percent.
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee.errors import InvalidValueError
from voices_peewee.schema.base import CHECKS as CHECKS
from voices_peewee.schema.base import BaseModel as BaseModel
from voices_peewee.schema.base import Timestamped, checks
from voices_peewee.schema.base import database_proxy as database_proxy
from voices_peewee.schema.exact import (
    exact_boolean,
    exact_id,
    exact_integer,
    exact_number,
    exact_text,
    short,
)
from voices_peewee.schema.fields import (
    ComposedField,
    JSONField,
    NameField,
    PathField,
    TagsField,
    UTCDateTimeField,
    utc_now,
)


def new_run_id() -> str:
    """Return a new name for a run (32 hexadecimal digits)."""
    return uuid.uuid4().hex


class Speaker(Timestamped):
    """A voice profile. ``tags`` is a list of texts."""

    name = ComposedField(index=True)
    description = pw.TextField(null=True)
    tags = TagsField(default=list)
    created_at = UTCDateTimeField(default=utc_now)
    updated_at = UTCDateTimeField(default=utc_now)

    if TYPE_CHECKING:
        processed_files: pw.ModelSelect[ProcessedFile]

    class Meta:
        table_name = "speakers"
        constraints = checks("speakers")

    _columns = ("id", "name", "description", "tags")


class ProcessedFile(Timestamped):
    """A recording, or what belongs to one: a stem (an output), or a voice without a file.

    A recording has no ``recording``; a stem has that and ``processed_path``; a voice has that
    and a speaker. ``duration`` in seconds, ``sample_rate`` in Hz, ``file_size`` in bytes;
    ``content_hash`` is the SHA-256 (hexadecimal) of the row's own file, last read at
    ``read_at``, by whose ``file_stamp`` a recording's is known again; ``metadata`` is a JSON
    object.
    """

    filename = PathField()
    original_path = PathField(null=True, index=True)
    processed_path = PathField(null=True)
    file_format = pw.TextField(null=True)
    duration = pw.DoubleField(null=True)
    sample_rate = pw.IntegerField(null=True)
    channels = pw.IntegerField(null=True)
    metadata = JSONField(default=dict)
    speaker = pw.ForeignKeyField(
        Speaker, backref="processed_files", null=True, on_delete="SET NULL"
    )
    file_size = pw.BigIntegerField(null=True)
    content_hash = pw.TextField(null=True)
    created_at = UTCDateTimeField(default=utc_now, index=True)
    updated_at = UTCDateTimeField(default=utc_now)
    recording = pw.ForeignKeyField(
        "self", backref="outputs", null=True, index=False, on_delete="CASCADE"
    )
    read_at = UTCDateTimeField(null=True)
    file_stamp = pw.BigIntegerField(null=True)

    if TYPE_CHECKING:
        speaker_id: int | None
        recording_id: int | None
        outputs: pw.ModelSelect[ProcessedFile]
        processing_history: pw.ModelSelect[ProcessingHistory]

    class Meta:
        table_name = "processed_files"
        constraints = checks("processed_files")

    @property
    def kind(self) -> str:
        """``recording``, ``stem`` (an output) or ``voice`` (a speaker's part, without a file)."""
        if self.recording_id is None:
            return "recording"
        return "voice" if self.processed_path is None else "stem"

    _columns = (
        "id",
        "filename",
        "file_format",
        "duration",
        "sample_rate",
        "channels",
        "speaker_id",
    )


def hash_key(digest: pw.Node) -> Any:
    """Return the digits of a content hash that its index holds: few rows have the same."""
    return pw.fn.SUBSTR(digest, pw.SQL("1"), pw.SQL("8"))


# A recording has none of the first two; 64 digits would be a key as long as all others together.
for _name, _key in (
    ("processed_path", ProcessedFile.processed_path),
    ("recording_id", ProcessedFile.recording),
    ("content_hash", hash_key(pw.SQL("content_hash"))),
):
    ProcessedFile.add_index(
        _key, where=pw.SQL(f"{_name} IS NOT NULL"), name=f"processed_files_{_name}"
    )


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
    tags = TagsField(null=True)
    note = pw.TextField(null=True)

    if TYPE_CHECKING:
        processed_file_id: int
        environment_id: int | None
        performance_rows: pw.ModelSelect[ModelPerformance]

    class Meta:
        table_name = "processing_history"
        constraints = checks("processing_history")
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

    _columns = (
        *("id", "processed_file_id", "operation_type", "model_type", "model_version", "status"),
        *("start_time", "error_message"),
    )


# The morning's two questions, each on its own few rows: one that succeeds is never among the
# failed, so that its begin and end write no page of theirs.
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
    ProcessingHistory.start_time,
    where=pw.SQL("NOT success AND end_time IS NOT NULL"),
    name="processing_history_failed",
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
    created_at = UTCDateTimeField(default=utc_now)

    if TYPE_CHECKING:
        processing_history_id: int

    class Meta:
        table_name = "model_performance"
        constraints = checks("model_performance")

    _columns = (
        *("id", "processing_history_id", "model_type", "model_version", "si_snri", "sdri"),
        *("real_time_factor", "processing_time"),
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
        constraints = checks("listening_votes")
        indexes = ((("test", "session", "trial"), True),)

    _columns = ("id", "test_id", "listener", "a_id", "b_id", "kind", "choice", "voted_at")


RECORDED: Final = (
    *(Speaker, ProcessedFile, Environment, ProcessingHistory, ModelPerformance),
    *(ListeningTest, ListeningVote),
)
MODELS: Final = (*RECORDED, Claim)  # what is being worked on is no part of the record


def _reference(field: pw.ForeignKeyField, value: object) -> object:
    try:
        return pw.ForeignKeyField.db_value(field, value)  # type: ignore[no-untyped-call] # stubs
    except InvalidValueError as error:
        wanted = f"must be a {field.rel_model.__name__} or its id"
        raise InvalidValueError(f"{field.name} {wanted}, not {short(value)}") from error


_EXACT: Final = (
    (pw.BigAutoField, exact_id),
    (pw.IntegerField, exact_integer),
    (pw.DoubleField, exact_number),
    (pw.BooleanField, exact_boolean),
    (pw.TextField, exact_text),
)
for _model in MODELS:
    for _field in _model._meta.sorted_fields:
        # Peewee would cut what it is given to what fits, or take any text for true.
        if exact := next((one for kind, one in _EXACT if isinstance(_field, kind)), None):
            vars(_field)["adapt"] = partial(exact, _field.column_name)
        if isinstance(_field, pw.ForeignKeyField):
            vars(_field)["db_value"] = partial(_reference, _field)
        # And it would decode or convert what another program wrote, and fail.
        if type(_field) in (pw.TextField, pw.IntegerField, pw.BigIntegerField, pw.BigAutoField):
            vars(_field)["python_value"] = lambda value: value
        elif isinstance(_field, pw.BooleanField):
            vars(_field)["python_value"] = lambda it: bool(it) if isinstance(it, int) else it
