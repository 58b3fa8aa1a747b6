"""Recordings, stems and voices get rows of their own; runs get environments, tags and claims.

Before, the first output of a run took over the recording's row. Every row of history and of
measurements stays; ``processed_file_id`` is all that changes in them.
"""

import logging
import unicodedata

import peewee as pw
from peewee_migrate import Migrator

_LOG = logging.getLogger("voices_peewee.migrations")

_FACTS = ("file_format", "duration", "sample_rate", "channels", "file_size", "content_hash")
_STEPS = (
    # The paths with a row that a run wrote: which recording they get, from which row's facts.
    # SQLite uses an index on a computed column only where CAST says what it is.
    """
CREATE TEMPORARY TABLE voices_paths AS
SELECT original_path AS path,
 CAST(min(CASE WHEN processed_path IS NULL THEN id END) AS integer) AS recording_id,
 CAST(coalesce(max(CASE WHEN content_hash IS NOT NULL THEN id END), max(id)) AS integer)
  AS facts_id,
 min(created_at) AS created_at,
 CAST(CASE WHEN count(*) = count(speaker_id) AND min(speaker_id) = max(speaker_id)
  THEN min(speaker_id) END AS integer) AS speaker_id,
 CASE WHEN max(CASE WHEN processed_path IS NULL THEN 1 ELSE 0 END) = 1 THEN 0 ELSE 1 END AS is_new
FROM processed_files
WHERE original_path IS NOT NULL
GROUP BY original_path
HAVING count(*) > 1 OR max(CASE WHEN processed_path IS NOT NULL AND id IN (
 SELECT processed_file_id FROM processing_history WHERE process IS NOT NULL) THEN 1 ELSE 0 END) = 1
""",
    "CREATE INDEX voices_paths_path ON voices_paths (path)",
    "CREATE INDEX voices_paths_recording ON voices_paths (recording_id)",
    # A path without a row of its own gets one, from the row whose facts are the best.
    """
INSERT INTO processed_files (filename, original_path, file_format, duration, sample_rate, channels,
 metadata, file_size, content_hash, created_at, updated_at)
SELECT file.filename, file.original_path, file.file_format, file.duration, file.sample_rate,
 file.channels, file.metadata, file.file_size, file.content_hash, paths.created_at,
 file.updated_at
FROM voices_paths AS paths JOIN processed_files AS file ON file.id = paths.facts_id
WHERE paths.is_new = 1 ORDER BY file.id
""",
    """
UPDATE voices_paths SET recording_id = (SELECT file.id FROM processed_files AS file
 WHERE file.original_path = voices_paths.path AND file.processed_path IS NULL) WHERE is_new = 1
""",
    # A recording without a hash gets what the newest row of its path with one has read.
    f"""
UPDATE processed_files SET ({", ".join(_FACTS)}) = (
 SELECT {", ".join(f"coalesce(file.{name}, processed_files.{name})" for name in _FACTS)}
 FROM voices_paths AS paths JOIN processed_files AS file ON file.id = paths.facts_id
 WHERE paths.recording_id = processed_files.id)
WHERE content_hash IS NULL AND id IN (
 SELECT paths.recording_id FROM voices_paths AS paths
 JOIN processed_files AS file ON file.id = paths.facts_id WHERE file.content_hash IS NOT NULL)
""",  # noqa: S608 - our own columns
    # What it still lacks another row of its content may know, or one that knows no content.
    f"""
UPDATE processed_files SET ({", ".join(_FACTS)}) = (
 SELECT {", ".join(f"coalesce(processed_files.{name}, max(file.{name}))" for name in _FACTS)}
 FROM processed_files AS file WHERE file.original_path = processed_files.original_path
 AND (file.content_hash IS NULL OR file.content_hash = processed_files.content_hash))
WHERE ({" OR ".join(f"{name} IS NULL" for name in _FACTS)})
 AND id IN (SELECT recording_id FROM voices_paths)
""",  # noqa: S608 - our own columns
    # Key by key: the oldest row that has one says what it is.
    {
        "sqlite": """
UPDATE processed_files SET metadata = (
 SELECT json_group_object(key, json(coalesce(metadata -> fullkey, CASE
  WHEN type IN ('true', 'false') THEN type WHEN type IN ('object', 'array') THEN value
  ELSE json_quote(value) END))) FROM (
  SELECT item.key, item.value, item.type, item.fullkey, file.metadata,
   row_number() OVER (PARTITION BY item.key ORDER BY file.id) AS place
  FROM processed_files AS file, json_each(file.metadata) AS item
  WHERE file.original_path = processed_files.original_path AND json_type(file.metadata) = 'object')
 WHERE place = 1)
WHERE id IN (SELECT paths.recording_id FROM voices_paths AS paths JOIN processed_files AS file
  ON file.original_path = paths.path WHERE file.metadata <> '{}')
 AND NOT EXISTS (SELECT 1 FROM processed_files AS file
  WHERE file.original_path = processed_files.original_path AND NOT json_valid(file.metadata))
""",
        "postgresql": """
UPDATE processed_files SET metadata = merged.metadata FROM (
 SELECT paths.recording_id, jsonb_object_agg(item.key, item.value ORDER BY file.id DESC) AS metadata
 FROM voices_paths AS paths JOIN processed_files AS file ON file.original_path = paths.path
  CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(file.metadata) = 'object'
   THEN file.metadata ELSE '{}' END) AS item
 GROUP BY paths.recording_id) AS merged
WHERE merged.recording_id = processed_files.id
""",
    },
    # Of a recording that no run hung on, the speaker is what somebody said of it.
    """
UPDATE voices_paths SET speaker_id = (SELECT file.speaker_id FROM processed_files AS file
 WHERE file.id = voices_paths.recording_id)
WHERE speaker_id IS NULL AND recording_id NOT IN (SELECT processed_file_id FROM processing_history)
""",
    # Another whose rows disagree about the speaker has none; its runs keep theirs in a voice.
    """
INSERT INTO processed_files (filename, original_path, metadata, speaker_id, recording_id,
 created_at, updated_at)
SELECT file.filename, file.original_path, file.metadata, file.speaker_id, file.id, file.created_at,
 file.updated_at
FROM voices_paths AS paths JOIN processed_files AS file ON file.id = paths.recording_id
WHERE file.speaker_id IS NOT NULL AND paths.speaker_id IS NULL
 AND file.id IN (SELECT processed_file_id FROM processing_history)
""",
    # At that moment only those voices have a recording; what it knows is not theirs.
    "UPDATE processed_files SET metadata = '{}' WHERE recording_id IS NOT NULL",
    # What was done to the recording of those was done to their voices.
    """
UPDATE processing_history SET processed_file_id = (SELECT voice.id FROM processed_files AS voice
 WHERE voice.recording_id = processing_history.processed_file_id)
WHERE processed_file_id IN (SELECT recording_id FROM processed_files)
""",
    """
UPDATE processed_files SET (speaker_id, created_at) = (
 SELECT paths.speaker_id, paths.created_at FROM voices_paths AS paths
 WHERE paths.recording_id = processed_files.id)
WHERE id IN (SELECT recording_id FROM voices_paths)
""",
    # Hash and size were the recording's, not those of the output.
    """
UPDATE processed_files SET content_hash = NULL, file_size = NULL, recording_id = (
 SELECT paths.recording_id FROM voices_paths AS paths
 WHERE paths.path = processed_files.original_path)
WHERE processed_path IS NOT NULL AND original_path IN (SELECT path FROM voices_paths)
""",
    # Another row of a path with a speaker, and without an output, is a voice.
    """
UPDATE processed_files SET file_format = NULL, duration = NULL, sample_rate = NULL,
 channels = NULL, file_size = NULL, content_hash = NULL, recording_id = (
 SELECT paths.recording_id FROM voices_paths AS paths
 WHERE paths.path = processed_files.original_path)
WHERE processed_path IS NULL AND speaker_id IS NOT NULL AND recording_id IS NULL
 AND original_path IN (SELECT path FROM voices_paths)
 AND id NOT IN (SELECT recording_id FROM voices_paths)
""",
    # What is left beside a recording says nothing of its own; its runs are the recording's.
    """
CREATE TEMPORARY TABLE voices_doubles AS
SELECT file.id AS id, paths.recording_id AS recording_id
FROM processed_files AS file JOIN voices_paths AS paths ON paths.path = file.original_path
WHERE file.processed_path IS NULL AND file.recording_id IS NULL AND file.id <> paths.recording_id
""",
    """
UPDATE processing_history SET processed_file_id = (SELECT doubles.recording_id
 FROM voices_doubles AS doubles WHERE doubles.id = processing_history.processed_file_id)
WHERE processed_file_id IN (SELECT id FROM voices_doubles)
""",
    "DELETE FROM processed_files WHERE id IN (SELECT id FROM voices_doubles)",
)

_COUNTS = """
SELECT (SELECT count(*) FROM voices_paths WHERE is_new = 1), count(processed_path),
 count(*) - count(processed_path), (SELECT count(*) FROM voices_doubles)
FROM processed_files WHERE recording_id IS NOT NULL
"""

# PostgreSQL says strpos and chr.
_V_RUNS = """
CREATE VIEW v_runs AS
SELECT history.id AS id, history.start_time AS start_time,
 CASE WHEN history.success THEN 'success' WHEN history.end_time IS NULL THEN 'unfinished'
  ELSE 'failed' END AS status,
 history.operation_type AS operation_type, history.model_type AS model_type,
 history.model_version AS model_version, file.filename AS filename, speaker.name AS speaker,
 substr(ltrim(history.error_message, ' ' || char(9) || char(10) || char(13)), 1,
  instr(ltrim(history.error_message, ' ' || char(9) || char(10) || char(13)) || char(10),
   char(10)) - 1) AS error,
 history.end_time AS end_time, history.parameters AS parameters,{more}
 file.original_path AS original_path, file.processed_path AS processed_path,
 history.run_id AS run_id, history.processed_file_id AS processed_file_id,
 file.speaker_id AS speaker_id
FROM processing_history AS history
 LEFT JOIN processed_files AS file ON file.id = history.processed_file_id
 LEFT JOIN speakers AS speaker ON speaker.id = file.speaker_id{join}
"""

_V_PERFORMANCE = """
CREATE VIEW v_performance AS
SELECT measured.id AS id, measured.model_type AS model_type,
 measured.model_version AS model_version, file.filename AS filename, speaker.name AS speaker,
 measured.si_snri AS si_snri, measured.sdri AS sdri,
 measured.real_time_factor AS real_time_factor, measured.processing_time AS processing_time,
 measured.memory_usage AS memory_usage, measured.cpu_usage AS cpu_usage,
 measured.additional_metrics AS additional_metrics, {duration} AS duration,
 CASE WHEN history.success THEN 'success' WHEN history.end_time IS NULL THEN 'unfinished'
  ELSE 'failed' END AS status,
 history.operation_type AS operation_type, history.start_time AS start_time,
 measured.created_at AS created_at, file.original_path AS original_path,
 file.processed_path AS processed_path, history.run_id AS run_id,
 measured.processing_history_id AS processing_history_id,
 history.processed_file_id AS processed_file_id, file.speaker_id AS speaker_id
FROM model_performance AS measured
 LEFT JOIN processing_history AS history ON history.id = measured.processing_history_id
 LEFT JOIN processed_files AS file ON file.id = history.processed_file_id
 LEFT JOIN speakers AS speaker ON speaker.id = file.speaker_id{join}
"""

# The view counts measurements and says so; db.leaderboard() counts recordings.
_V_LEADERBOARD = """
CREATE VIEW v_leaderboard AS
SELECT model_type, model_version, max({n}) AS {n},
 max({failed}) AS {failed}, max(mean_si_snri) AS mean_si_snri,
 max(min_si_snri) AS min_si_snri, max(max_si_snri) AS max_si_snri,
 max(mean_sdri) AS mean_sdri, max(mean_real_time_factor) AS mean_real_time_factor,
 max(mean_memory_usage) AS mean_memory_usage,
 max(mean_processing_time) AS mean_processing_time
FROM (
 SELECT model_type, model_version, count(*) AS {n}, 0 AS {failed},
  avg(si_snri) AS mean_si_snri, min(si_snri) AS min_si_snri, max(si_snri) AS max_si_snri,
  avg(sdri) AS mean_sdri, avg(real_time_factor) AS mean_real_time_factor,
  avg(memory_usage) AS mean_memory_usage, avg(processing_time) AS mean_processing_time
 FROM model_performance
 WHERE si_snri IS NOT NULL
  AND processing_history_id NOT IN ({others})
 GROUP BY model_type, model_version
 UNION ALL
 SELECT model_type, model_version, 0, count(DISTINCT run_id),
  NULL, NULL, NULL, NULL, NULL, NULL, NULL
 FROM processing_history
 WHERE NOT success AND end_time IS NOT NULL
 GROUP BY model_type, model_version
) AS counted
GROUP BY model_type, model_version
"""

# Measurements that do not count: as 002 asks for them, and each kind by its own index.
_NO_SUCCESS = "SELECT id FROM processing_history WHERE NOT success"
_FAILED_OR_OPEN = f"""
   {_NO_SUCCESS} AND end_time IS NOT NULL
   UNION ALL {_NO_SUCCESS} AND end_time IS NULL"""

_MODEL_HASH = """
CREATE INDEX "processing_history_model_hash"
ON "processing_history" ("model_type", "model_version", "model_hash")
WHERE model_hash IS NOT NULL
""".strip()

# A run that goes on is not among the failed: its begin and its end write no page of these.
_FAILED = """
CREATE INDEX "processing_history_failed" ON "processing_history" ("start_time")
WHERE NOT success AND end_time IS NOT NULL
""".strip()
_NOT_SUCCESS = """
CREATE INDEX "processing_history_not_success" ON "processing_history" ("start_time")
WHERE NOT success
""".strip()

# Indexes that no question needs as much as each new row pays for them, or that get smaller.
_DROPPED = (
    ("processed_files", "file_format"),
    ("processed_files", "processed_path"),
    ("processed_files", "content_hash"),
    ("speakers", "created_at"),
    ("model_performance", "created_at"),
)
# A recording has none of the first two, and few rows have the same first digits of a hash.
_SMALLER = {
    "processed_path": "processed_path",
    "recording_id": "recording_id",
    "content_hash": "substr(content_hash, 1, 8)",
}
_LEADERBOARD = """
CREATE INDEX "model_performance_leaderboard" ON "model_performance" ("model_type", "model_version",
 "si_snri", "sdri", "real_time_factor", "memory_usage", "processing_time", "processing_history_id")
""".strip()


def _v_runs(database: pw.Database, more: str = "", join: str = "") -> str:
    sql = _V_RUNS.format(more=more, join=join).strip()
    if isinstance(database, pw.PostgresqlDatabase):
        return sql.replace("instr(", "strpos(").replace("char(", "chr(")
    return sql


def _v_performance(duration: str, join: str = "") -> str:
    """Return the statement that makes the view; a stem's duration may be its recording's."""
    return _V_PERFORMANCE.format(duration=duration, join=join).strip()


def _v_leaderboard(n: str, failed: str, others: str) -> str:
    return _V_LEADERBOARD.format(n=n, failed=failed, others=others).strip()


# Where 001 made ids of 32 bits, as it did before: two thousand million rows a table.
_NARROW = {
    "speakers": ("id",),
    "processed_files": ("id", "speaker_id", "recording_id"),
    "processing_history": ("id", "processed_file_id"),
    "model_performance": ("id", "processing_history_id"),
}


def _widen_ids(migrator: Migrator) -> None:
    """Give a server's ids and their sequences 64 bits; no view may read them meanwhile."""
    for table, columns in _NARROW.items():
        changes = ", ".join(f"ALTER COLUMN {column} TYPE bigint" for column in columns)
        migrator.sql(f"ALTER TABLE {table} {changes}")
        migrator.sql(f"ALTER SEQUENCE {table}_id_seq AS bigint")


_MORE = """ history.tags AS tags,
 history.note AS note, history.model_hash AS model_hash, environment.facts AS environment,"""
_ENVIRONMENT = "\n LEFT JOIN environments AS environment ON environment.id = history.environment_id"
_RECORDING = "\n LEFT JOIN processed_files AS recording ON recording.id = file.recording_id"


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Add columns and two tables, and put the rows that there are right."""
    engine = "postgresql" if isinstance(database, pw.PostgresqlDatabase) else "sqlite"
    migrator.add_fields(
        "processed_files",
        recording=pw.ForeignKeyField(
            "self", column_name="recording_id", null=True, index=False, on_delete="CASCADE"
        ),
        read_at=pw.DateTimeField(null=True),
        file_stamp=pw.BigIntegerField(null=True),
    )

    @migrator.create_model
    class Environment(pw.Model):
        id = pw.BigAutoField()
        facts = pw.JSONField()
        digest = pw.TextField(unique=True)
        created_at = pw.DateTimeField()

        class Meta:
            table_name = "environments"
            legacy_table_names = False

    @migrator.create_model
    class Claim(pw.Model):
        id = pw.BigAutoField()
        source = pw.TextField()
        settings = pw.TextField()
        process = pw.JSONField()
        claimed_at = pw.DateTimeField()
        expires_at = pw.DateTimeField()

        class Meta:
            table_name = "claims"
            legacy_table_names = False
            indexes = ((("source", "settings"), True),)

    migrator.add_fields(
        "processing_history",
        environment=pw.ForeignKeyField(
            Environment,
            column_name="environment_id",
            null=True,
            index=False,
            on_delete="SET NULL",
        ),
        model_hash=pw.TextField(null=True),
        tags=pw.JSONField(null=True),
        note=pw.TextField(null=True),
    )
    migrator.sql(_MODEL_HASH)
    migrator.sql("DROP INDEX processing_history_not_success")
    migrator.sql(_FAILED)
    _forget_named_indexes(migrator)
    migrator.sql("DROP INDEX model_performance_leaderboard")
    for index in _DROPPED:
        migrator.drop_index(*index)
    for column, key in _SMALLER.items():
        migrator.sql(
            f"CREATE INDEX processed_files_{column} ON processed_files ({key}) "
            f"WHERE {column} IS NOT NULL"
        )
    for step in _STEPS:
        migrator.sql((step if isinstance(step, str) else step[engine]).strip())
    migrator.run(_tell_changes, database)
    migrator.sql("DROP TABLE voices_paths")
    migrator.sql("DROP TABLE voices_doubles")
    migrator.run(_compose_names, database)
    migrator.run(_no_empty_names, database)
    for view in ("v_runs", "v_performance", "v_leaderboard"):
        migrator.sql(f"DROP VIEW {view}")
    if engine == "postgresql":
        _widen_ids(migrator)
    migrator.sql(_v_runs(database, _MORE, _ENVIRONMENT))
    migrator.sql(_v_performance("coalesce(recording.duration, file.duration)", _RECORDING))
    migrator.sql(_v_leaderboard("measurements", "failed_runs", _FAILED_OR_OPEN))
    _create_listening(migrator)


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Drop what was added; every row of a file and of a run stays, those of recordings too."""
    migrator.run(_tell_losses, database)
    migrator.remove_model("listening_votes")
    migrator.remove_model("listening_tests")
    migrator.sql("DROP VIEW IF EXISTS v_runs")
    migrator.sql("DROP VIEW IF EXISTS v_performance")
    migrator.sql("DROP VIEW IF EXISTS v_leaderboard")
    for column in _SMALLER:
        migrator.sql(f"DROP INDEX processed_files_{column}")
    # Where SQLite drops columns itself, it refuses one that is a foreign key.
    rebuild = {} if isinstance(database, pw.PostgresqlDatabase) else {"legacy": True}
    columns = ("recording", "read_at", "file_stamp")
    migrator.remove_fields("processed_files", *columns, **rebuild)
    migrator.sql("DROP INDEX processing_history_model_hash")
    migrator.sql("DROP INDEX processing_history_failed")
    columns = ("environment", "model_hash", "tags", "note")
    migrator.remove_fields("processing_history", *columns, **rebuild)
    migrator.remove_model("claims")
    migrator.remove_model("environments")
    _forget_named_indexes(migrator)
    for index in _DROPPED:
        migrator.add_index(*index)
    migrator.sql(_LEADERBOARD)
    migrator.sql(_NOT_SUCCESS)
    migrator.sql(_v_runs(database))
    migrator.sql(_v_performance("file.duration"))
    migrator.sql(_v_leaderboard("n", "failures", _NO_SUCCESS))


def _forget_named_indexes(migrator: Migrator) -> None:
    """Put aside what ``Model.add_index`` named, for which peewee-migrate has no words."""
    meta = migrator.orm["model_performance"]._meta
    meta.indexes = [index for index in meta.indexes if not isinstance(index, pw.Node)]


def _tell_changes(database: pw.Database) -> None:
    added, stems, voices, doubles = database.execute_sql(_COUNTS).fetchone()
    if stems or voices or doubles:
        _LOG.warning(
            "003_recordings: %d outputs and %d voices belong to recordings now; "
            "%d rows of recordings were added, %d doubles went",
            *(stems, voices, added, doubles),
        )


_LOST = {
    "the environments, model hashes, tags and notes of %d runs' rows went": """
SELECT count(*) FROM processing_history
WHERE environment_id IS NOT NULL OR model_hash IS NOT NULL OR tags IS NOT NULL OR note IS NOT NULL
""",
    "%d outputs and voices stay, but no longer say whose recording they belong to": """
SELECT count(*) FROM processed_files WHERE recording_id IS NOT NULL
""",
    "%d listening tests go": "SELECT count(*) FROM listening_tests",
    "%d votes go": "SELECT count(*) FROM listening_votes",
}


def _tell_losses(database: pw.Database) -> None:
    for sentence, query in _LOST.items():
        (count,) = database.execute_sql(query).fetchone()
        if count:
            _LOG.warning(f"003_recordings: {sentence}", count)


def _create_listening(migrator: Migrator) -> None:
    history = migrator.orm["processing_history"]

    @migrator.create_model
    class ListeningTest(pw.Model):
        id = pw.BigAutoField()
        name = pw.TextField(unique=True)
        question = pw.TextField()
        plan = pw.JSONField()
        created_at = pw.DateTimeField()

        class Meta:
            table_name = "listening_tests"
            legacy_table_names = False

    @migrator.create_model
    class ListeningVote(pw.Model):
        id = pw.BigAutoField()
        test = pw.ForeignKeyField(ListeningTest, on_delete="CASCADE")
        a = pw.ForeignKeyField(history, null=True, backref="+", on_delete="CASCADE")
        b = pw.ForeignKeyField(history, null=True, backref="+", on_delete="CASCADE")
        listener = pw.TextField()
        session = pw.TextField()
        trial = pw.TextField()
        kind = pw.TextField()
        position = pw.IntegerField()
        choice = pw.TextField(null=True)
        details = pw.JSONField()
        voted_at = pw.DateTimeField()

        class Meta:
            table_name = "listening_votes"
            legacy_table_names = False
            indexes = ((("test", "session", "trial"), True),)
            constraints = (
                pw.Check("choice IN ('a', 'b')", name="ck_listening_votes_choice"),
                pw.Check(
                    "kind IN ('pair', 'repeat', 'right', 'wrong')",
                    name="ck_listening_votes_kind",
                ),
            )


def _no_empty_names(database: pw.Database) -> None:
    for table in ("processing_history", "model_performance"):
        database.execute_sql(
            f"UPDATE {table} SET model_type = nullif(model_type, ''),"  # noqa: S608
            " model_version = nullif(model_version, '') WHERE '' IN (model_type, model_version)"
        )


def _compose_names(database: pw.Database) -> None:
    """Write speakers' names in Unicode's composed form, in which they are looked up."""
    for key, name in database.execute_sql("SELECT id, name FROM speakers").fetchall():
        composed = unicodedata.normalize("NFC", name) if isinstance(name, str) else name
        if composed != name:
            place = database.param
            sql = f"UPDATE speakers SET name = {place} WHERE id = {place}"  # noqa: S608
            database.execute_sql(sql, (composed, key))
