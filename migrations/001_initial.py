"""Create the tables speakers, processed_files, processing_history and model_performance."""

import peewee as pw
from peewee_migrate import Migrator


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Create the four tables with their checks and indexes."""

    @migrator.create_model
    class Speaker(pw.Model):
        id = pw.BigAutoField()
        name = pw.TextField(index=True)
        description = pw.TextField(null=True)
        tags = pw.JSONField()
        created_at = pw.DateTimeField(index=True)
        updated_at = pw.DateTimeField()

        class Meta:
            table_name = "speakers"
            legacy_table_names = False
            constraints = (pw.Check("trim(name) <> ''", name="ck_speakers_name"),)

    @migrator.create_model
    class ProcessedFile(pw.Model):
        id = pw.BigAutoField()
        filename = pw.TextField()
        original_path = pw.TextField(null=True, index=True)
        processed_path = pw.TextField(null=True, index=True)
        file_format = pw.TextField(null=True, index=True)
        duration = pw.DoubleField(null=True)
        sample_rate = pw.IntegerField(null=True)
        channels = pw.IntegerField(null=True)
        metadata = pw.JSONField()
        speaker = pw.ForeignKeyField(Speaker, null=True, on_delete="SET NULL")
        file_size = pw.BigIntegerField(null=True)
        content_hash = pw.TextField(null=True, index=True)
        created_at = pw.DateTimeField(index=True)
        updated_at = pw.DateTimeField()

        class Meta:
            table_name = "processed_files"
            legacy_table_names = False
            constraints = (
                pw.Check("filename <> ''", name="ck_processed_files_filename"),
                pw.Check("duration BETWEEN 0 AND 1e12", name="ck_processed_files_duration"),
                pw.Check(
                    "sample_rate BETWEEN 1 AND 10000000", name="ck_processed_files_sample_rate"
                ),
                pw.Check("channels BETWEEN 1 AND 1024", name="ck_processed_files_channels"),
                pw.Check(
                    "file_size BETWEEN 0 AND 9223372036854775807",
                    name="ck_processed_files_file_size",
                ),
            )

    @migrator.create_model
    class ProcessingHistory(pw.Model):
        id = pw.BigAutoField()
        processed_file = pw.ForeignKeyField(ProcessedFile, on_delete="CASCADE")
        run_id = pw.TextField(index=True)
        operation_type = pw.TextField()
        model_type = pw.TextField(null=True)
        model_version = pw.TextField(null=True)
        parameters = pw.JSONField()
        start_time = pw.DateTimeField(index=True)
        end_time = pw.DateTimeField(null=True)
        success = pw.BooleanField()
        error_message = pw.TextField(null=True)
        source_hash = pw.TextField(null=True)
        process = pw.JSONField(null=True)

        class Meta:
            table_name = "processing_history"
            legacy_table_names = False
            indexes = ((("operation_type", "model_type", "model_version"), False),)
            constraints = (
                pw.Check("trim(operation_type) <> ''", name="ck_processing_history_operation_type"),
                pw.Check("end_time >= start_time", name="ck_processing_history_end_time"),
            )

    ProcessingHistory.add_index(
        ProcessingHistory.start_time,
        where=pw.SQL("end_time IS NULL"),
        name="processing_history_unfinished",
    )
    ProcessingHistory.add_index(
        ProcessingHistory.start_time,
        where=pw.SQL("NOT success"),
        name="processing_history_not_success",
    )

    @migrator.create_model
    class ModelPerformance(pw.Model):
        id = pw.BigAutoField()
        processing_history = pw.ForeignKeyField(ProcessingHistory, unique=True, on_delete="CASCADE")
        model_type = pw.TextField(null=True)
        model_version = pw.TextField(null=True)
        si_snri = pw.DoubleField(null=True)
        sdri = pw.DoubleField(null=True)
        cpu_usage = pw.DoubleField(null=True)
        memory_usage = pw.DoubleField(null=True)
        processing_time = pw.DoubleField(null=True)
        real_time_factor = pw.DoubleField(null=True)
        additional_metrics = pw.JSONField()
        created_at = pw.DateTimeField(index=True)

        class Meta:
            table_name = "model_performance"
            legacy_table_names = False
            constraints = (
                pw.Check("si_snri BETWEEN -1e6 AND 1e6", name="ck_model_performance_si_snri"),
                pw.Check("sdri BETWEEN -1e6 AND 1e6", name="ck_model_performance_sdri"),
                pw.Check("cpu_usage BETWEEN 0 AND 1e9", name="ck_model_performance_cpu_usage"),
                pw.Check(
                    "memory_usage BETWEEN 0 AND 1e12", name="ck_model_performance_memory_usage"
                ),
                pw.Check(
                    "processing_time BETWEEN 0 AND 1e12",
                    name="ck_model_performance_processing_time",
                ),
                pw.Check(
                    "real_time_factor BETWEEN 0 AND 1e15",
                    name="ck_model_performance_real_time_factor",
                ),
            )

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


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Drop the four tables with all their rows."""
    migrator.remove_model("model_performance")
    migrator.remove_model("processing_history")
    migrator.remove_model("processed_files")
    migrator.remove_model("speakers")
