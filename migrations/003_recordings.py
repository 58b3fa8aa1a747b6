"""Say whose output a file is (recording_id) and when its content was read (read_at)."""

import peewee as pw
from peewee_migrate import Migrator


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Add two columns to processed_files."""
    migrator.add_fields(
        "processed_files",
        recording=pw.ForeignKeyField(
            "self", column_name="recording_id", null=True, on_delete="CASCADE"
        ),
        read_at=pw.DateTimeField(null=True),
    )


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Drop the two columns; every row stays."""
    migrator.remove_fields("processed_files", "recording", "read_at", legacy=True)
