"""X.

Change the database through the migrator alone: the functions also run when nothing shall
change but what the migrator knows of the models (fake). Some of its words:

    migrator.sql('UPDATE "speakers" SET "description" = NULL')
    migrator.run(function, argument)
    migrator.add_fields("speakers", language=pw.TextField(null=True))
    migrator.rename_field("speakers", "language", "tongue")
"""

import peewee as pw
from peewee_migrate import Migrator


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Change the schema."""


def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Undo migrate."""
