"""Writing migrations: each difference in words that apply, roll back and leave nothing over."""

from __future__ import annotations

import ast
import datetime as dt
import shutil
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from voices_peewee.errors import MigrationError
from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.drift import drift
from voices_peewee.schema import fields, models
from voices_peewee.schema.views import VIEWS

pytestmark = pytest.mark.sqlite("compares the schemas of SQLite files, in memory and on the disk")

PACKAGE = migrations.package_directory()
OTHERS = models.MODELS[1:]

Models = Sequence[type[pw.Model]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the package's migrations to add to."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "migrations"))


@pytest.fixture
def database(path: Path, directory: Path) -> Iterator[pw.SqliteDatabase]:
    """An up-to-date database with two speakers and a file."""
    database = pw.SqliteDatabase(path, pragmas={"foreign_keys": 1})
    with database.connection_context():
        migrations.upgrade(database, [directory])
        for number, name in ((1, "Ada"), (2, "Bob")):
            values = (number, name, "x", "[]", "2026-01-01", f"2026-01-0{number}")
            database.execute_sql("INSERT INTO speakers VALUES (?, ?, ?, ?, ?, ?)", values)
        database.execute_sql(
            "INSERT INTO processed_files (filename, metadata, speaker_id, created_at, updated_at)"
            " VALUES ('a.wav', '{}', 1, '2026-01-01', '2026-01-01')"
        )
        yield database


def speaker(
    *, remove: Sequence[str] = (), checks: Sequence[pw.Node] | None = None, **fields: pw.Field
) -> type[pw.Model]:
    """Return a copy of Speaker with other fields and checks."""
    meta: dict[str, Any] = {"table_name": "speakers"}
    if checks is not None:
        meta["constraints"] = list(checks)
    body = {**fields, "Meta": type("Meta", (), meta)}
    copy: type[pw.Model] = type("Speaker", (models.Speaker,), body)
    for name in remove:
        copy._meta.remove_field(name)
    return copy


NAME_CHECK = pw.Check("trim(name) <> ''", name="ck_speakers_name")


def indexed(*indexes: Callable[[Any], dict[str, Any]]) -> type[pw.Model]:
    """Return a copy of Speaker with more indexes."""
    copy = speaker()
    copy._meta.indexes = []
    for index in indexes:
        arguments = index(copy)
        copy.add_index(*arguments.pop("fields"), **arguments)
    return copy


def with_other_action() -> Models:
    """Return copies in which deleting a speaker deletes the files."""

    class ProcessedFile(models.ProcessedFile):
        speaker = pw.ForeignKeyField(
            models.Speaker, null=True, on_delete="CASCADE", backref="test_files"
        )

        class Meta:
            table_name = "processed_files"

    return [ProcessedFile]


def with_reference() -> Models:
    """Return a copy of Speaker that refers to its own table."""
    return [speaker(teacher=pw.ForeignKeyField("self", null=True, backref="pupils"))]


def bodies(path: Path) -> tuple[str, str]:
    """Return what stands in the two functions, below their docstrings."""
    text = path.read_text("utf-8")
    found = []
    for function in ast.parse(text).body[-2:]:
        assert isinstance(function, ast.FunctionDef)
        lines = text.splitlines()[function.body[0].lineno : function.end_lineno]
        found.append(textwrap.dedent("\n".join(lines)).strip())
    return found[0], found[1]


# Each difference: the changed models, and what migrate and rollback say.
DIFFERENCES: dict[str, tuple[Callable[[], Models], str, str]] = {
    "nullable field": (
        lambda: [speaker(language=pw.TextField(null=True, default="en"))],
        'migrator.add_fields("speakers", language=pw.TextField(null=True))',
        'migrator.remove_fields("speakers", "language")',
    ),
    "indexed field": (
        lambda: [speaker(language=pw.CharField(max_length=8, null=True, index=True))],
        """
        migrator.add_fields("speakers", language=pw.CharField(max_length=8, null=True, index=True))
        """,
        'migrator.remove_fields("speakers", "language")',
    ),
    "unique field": (
        lambda: [speaker(code=fields.PathField(null=True, unique=True, column_name="k"))],
        """
        migrator.add_fields("speakers", code=pw.TextField(column_name="k", null=True, unique=True))
        """,
        'migrator.remove_fields("speakers", "code")',
    ),
    "required field": (
        lambda: [speaker(age=pw.IntegerField(default=7))],
        'migrator.add_fields("speakers", age=pw.IntegerField(default=7))',
        'migrator.remove_fields("speakers", "age")',
    ),
    "required field with a default in SQL": (
        lambda: [speaker(age=pw.IntegerField(default=7, constraints=[pw.Default(7)]))],
        """
        migrator.add_fields(
            "speakers",
            allow_not_null=True,
            age=pw.IntegerField(constraints=[pw.SQL("DEFAULT 7")]),
        )
        """,
        'migrator.remove_fields("speakers", "age")',
    ),
    "required field with a computed default": (
        lambda: [
            speaker(
                made=pw.TextField(constraints=[pw.Default("CURRENT_DATE")]),
                sum=pw.IntegerField(null=True, constraints=[pw.Default("(1 + 1)")]),
            )
        ],
        """
        migrator.add_fields(
            "speakers",
            allow_not_null=True,
            made=pw.TextField(constraints=[pw.SQL("DEFAULT CURRENT_DATE")]),
        )
        migrator.add_fields(
            "speakers",
            sum=pw.IntegerField(null=True, constraints=[pw.SQL("DEFAULT (1 + 1)")]),
        )
        """,
        'migrator.remove_fields("speakers", "made", "sum")',
    ),
    "JSON fields": (
        lambda: [
            speaker(
                extra=fields.JSONField(default=dict),
                more=fields.JSONField(default=lambda: {"it's": ['"a"', 1, None]}),
                less=fields.JSONField(null=True),
            )
        ],
        """
        migrator.add_fields("speakers", extra=pw.JSONField(default=dict))
        # Note: every row that is there gets this one value of 'more'.
        migrator.add_fields("speakers", more=pw.JSONField(default={"it's": ['"a"', 1, None]}))
        migrator.add_fields("speakers", less=pw.JSONField(null=True))
        """,
        'migrator.remove_fields("speakers", "extra", "more", "less")',
    ),
    "callable default": (
        lambda: [
            speaker(
                seen=fields.UTCDateTimeField(
                    default=lambda: dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
                ),
                born=pw.DateField(default=dt.date(2026, 1, 2)),
                k=pw.UUIDField(default=lambda: uuid.UUID(int=1)),
                rate=pw.DecimalField(max_digits=6, decimal_places=2, default=Decimal("1.50")),
            )
        ],
        """
        # Note: every row that is there gets this one value of 'seen'.
        migrator.add_fields(
            "speakers",
            seen=pw.DateTimeField(default="2026-01-02 00:00:00.000000+00:00"),
        )
        migrator.add_fields("speakers", born=pw.DateField(default="2026-01-02"))
        # Note: every row that is there gets this one value of 'k'.
        migrator.add_fields("speakers", k=pw.UUIDField(default="00000000000000000000000000000001"))
        migrator.add_fields(
            "speakers",
            rate=pw.DecimalField(max_digits=6, decimal_places=2, default="1.50"),
        )
        """,
        'migrator.remove_fields("speakers", "seen", "born", "k", "rate")',
    ),
    "check": (
        lambda: [speaker(checks=[NAME_CHECK, pw.Check("id > 0", name="ck_id")])],
        'migrator.add_constraint("speakers", "ck_id", pw.Check("id > 0"))',
        'migrator.drop_constraints("speakers", "ck_id")',
    ),
    "check on a field": (
        lambda: [
            speaker(
                age=pw.IntegerField(null=True, constraints=[pw.Check("age > 0", name="ck_age")])
            )
        ],
        """
        migrator.add_fields(
            "speakers",
            age=pw.IntegerField(null=True, constraints=[pw.Check("age > 0", name="ck_age")]),
        )
        """,
        'migrator.remove_fields("speakers", "age")',
    ),
    "changed check": (
        lambda: [speaker(checks=[pw.Check("name <> 'a  ,b'", name="ck_speakers_name")])],
        """
        migrator.drop_constraints("speakers", "ck_speakers_name")
        migrator.add_constraint("speakers", "ck_speakers_name", pw.Check("name <> 'a  ,b'"))
        """,
        """
        migrator.drop_constraints("speakers", "ck_speakers_name")
        migrator.add_constraint("speakers", "ck_speakers_name", pw.Check("trim(name) <> ''"))
        """,
    ),
    "plain indexes": (
        lambda: [
            indexed(
                lambda copy: {"fields": (copy.name, copy.created_at)},
                lambda copy: {"fields": (copy.updated_at,), "unique": True},
            )
        ],
        """
        migrator.add_index("speakers", "name", "created_at")
        migrator.add_index("speakers", "updated_at", unique=True)
        """,
        """
        migrator.drop_index("speakers", "name", "created_at")
        migrator.drop_index("speakers", "updated_at")
        """,
    ),
    "special indexes": (
        lambda: [
            indexed(
                lambda copy: {"fields": (copy.created_at.desc(), copy.name), "name": "newest"},
                lambda copy: {
                    "fields": (copy.name,),
                    "where": pw.SQL("description IS NULL OR tags <> '[\"studio\"]'"),
                    "name": "bare",
                    "unique": True,
                },
            )
        ],
        """
        migrator.sql('CREATE INDEX "newest" ON "speakers" ("created_at" DESC, "name")')
        migrator.sql(
            'CREATE UNIQUE INDEX "bare" ON "speakers" ("name") WHERE description IS NULL OR tags <>'
            " '[\\"studio\\"]'",
        )
        """,
        """
        migrator.sql('DROP INDEX "newest"')
        migrator.sql('DROP INDEX "bare"')
        """,
    ),
    "reference": (
        with_reference,
        'migrator.add_fields("speakers", teacher=pw.ForeignKeyField("self", null=True))',
        'migrator.remove_fields("speakers", "teacher")',
    ),
    "removed field": (
        lambda: [speaker(remove=["description"])],
        """
        # Note: the values of 'description' are lost.
        migrator.remove_fields("speakers", "description")
        """,
        'migrator.add_fields("speakers", description=pw.TextField(null=True))',
    ),
    "removed required fields": (
        lambda: [speaker(remove=["name", "tags", "updated_at"], checks=[])],
        """
        migrator.drop_constraints("speakers", "ck_speakers_name")
        # Note: the values of 'name', 'tags', 'updated_at' are lost.
        migrator.remove_fields("speakers", "name", "tags", "updated_at")
        """,
        """
        # Note: the values of 'name' were lost; every row gets this one.
        migrator.add_fields("speakers", name=pw.TextField(index=True, default=""))
        # Note: the values of 'tags' were lost; every row gets this one.
        migrator.add_fields("speakers", tags=pw.JSONField(default=dict))
        # Note: the values of 'updated_at' were lost; every row gets this one.
        migrator.add_fields(
            "speakers",
            updated_at=pw.DateTimeField(default="1970-01-01 00:00:00.000000+00:00"),
        )
        migrator.add_constraint("speakers", "ck_speakers_name", pw.Check("trim(name) <> ''"))
        """,
    ),
    "renamed field": (
        lambda: [speaker(remove=["description"], notes=pw.TextField(null=True))],
        """
        # Note: the values of 'description' are lost.
        # Note: to rename instead: migrator.rename_field("speakers", "description", "notes")
        migrator.remove_fields("speakers", "description")
        migrator.add_fields("speakers", notes=pw.TextField(null=True))
        """,
        """
        migrator.remove_fields("speakers", "notes")
        migrator.add_fields("speakers", description=pw.TextField(null=True))
        """,
    ),
    "removed index": (
        lambda: [speaker(name=pw.TextField())],
        'migrator.drop_index("speakers", "name")',
        'migrator.add_index("speakers", "name")',
    ),
    "index becomes unique": (
        lambda: [speaker(name=pw.TextField(unique=True))],
        """
        migrator.drop_index("speakers", "name")
        migrator.add_index("speakers", "name", unique=True)
        """,
        """
        migrator.drop_index("speakers", "name")
        migrator.add_index("speakers", "name")
        """,
    ),
    "type": (
        lambda: [speaker(name=pw.CharField(max_length=40, unique=True))],
        """
        migrator.drop_index("speakers", "name")
        migrator.change_fields("speakers", name=pw.CharField(max_length=40, unique=True))
        """,
        """
        migrator.drop_index("speakers", "name")
        migrator.change_fields("speakers", name=pw.TextField(index=True))
        migrator.add_index("speakers", "name")
        """,
    ),
    "null": (
        lambda: [speaker(name=pw.TextField(null=True, index=True), description=pw.TextField())],
        """
        migrator.drop_not_null("speakers", "name")
        # Note: fails while a row holds NULL in 'description'; fill those first.
        migrator.add_not_null("speakers", "description")
        """,
        """
        # Note: fails while a row holds NULL in 'name'; fill those first.
        migrator.add_not_null("speakers", "name")
        migrator.drop_not_null("speakers", "description")
        """,
    ),
    "default and collation": (
        lambda: [
            speaker(
                description=pw.TextField(
                    null=True, constraints=[pw.Default("'a, ''b'")], collation="NOCASE"
                )
            )
        ],
        """
        migrator.change_fields(
            "speakers",
            description=pw.TextField(
                null=True,
                collation="NOCASE",
                constraints=[pw.SQL("DEFAULT 'a, ''b'")],
            ),
        )
        """,
        'migrator.change_fields("speakers", description=pw.TextField(null=True))',
    ),
    "unnamed check on a field": (
        lambda: [
            speaker(description=pw.TextField(null=True, constraints=[pw.Check("description > ''")]))
        ],
        """
        migrator.change_fields(
            "speakers",
            description=pw.TextField(null=True, constraints=[pw.Check("description > ''")]),
        )
        """,
        'migrator.change_fields("speakers", description=pw.TextField(null=True))',
    ),
    "foreign key action": (
        with_other_action,
        """
        migrator.change_fields(
            "processed_files",
            speaker=pw.ForeignKeyField(migrator.orm["speakers"], on_delete="CASCADE", null=True),
        )
        """,
        """
        migrator.change_fields(
            "processed_files",
            speaker=pw.ForeignKeyField(migrator.orm["speakers"], on_delete="SET NULL", null=True),
        )
        """,
    ),
    "no foreign key": (
        lambda: [
            type(
                "ProcessedFile",
                (models.ProcessedFile,),
                {
                    "speaker": pw.IntegerField(null=True, index=True, column_name="speaker_id"),
                    "Meta": type("Meta", (), {"table_name": "processed_files"}),
                },
            )
        ],
        """
        migrator.change_fields(
            "processed_files",
            speaker=pw.IntegerField(column_name="speaker_id", null=True, index=True),
        )
        """,
        """
        migrator.change_fields(
            "processed_files",
            speaker=pw.ForeignKeyField(migrator.orm["speakers"], on_delete="SET NULL", null=True),
        )
        """,
    ),
}


def completed(changed: Models) -> list[type[pw.Model]]:
    """Return the changed models among the package's others."""
    tables = {model._meta.table_name for model in changed}
    return [*changed, *(m for m in models.MODELS if m._meta.table_name not in tables)]


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_difference_becomes_a_migration(
    database: pw.SqliteDatabase, directory: Path, case: str
) -> None:
    """The file says what differs, applies to a filled database, and rolls back to what was."""
    changed, forth, back = DIFFERENCES[case]
    wanted = completed(changed())
    path = migrations.create("change", wanted, directory, directories=[directory])
    assert bodies(path) == (textwrap.dedent(forth).strip(), textwrap.dedent(back).strip())
    if case == "removed required fields":  # a view reads the name: such a migration drops it first
        for view in VIEWS:
            database.execute_sql(f"DROP VIEW {view}")
    migrations.upgrade(database, [directory])
    assert drift(database, wanted) == []
    again = migrations.create("again", wanted, directory, directories=[directory])
    assert bodies(again) == ("", "")
    query = "SELECT count(*) FROM processed_files WHERE speaker_id = 1"
    assert database.execute_sql(query).fetchall() == [(1,)]
    if case == "removed required fields":  # its CHECK refuses the empty names that come back
        database.execute_sql("DELETE FROM speakers")
    assert migrations.rollback(database, [directory]) == ["003_change"]
    assert drift(database, models.MODELS) == []


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_migration_reads_well(directory: Path, case: str) -> None:
    """A file fits the line length, imports peewee and peewee_migrate only, and is typed."""
    changed, _, _ = DIFFERENCES[case]
    path = migrations.create("a_change", completed(changed()), directory, directories=[directory])
    text = path.read_text("utf-8")
    assert text.startswith(
        '"""A change."""\n\nimport peewee as pw\nfrom peewee_migrate import Migrator\n\n\n'
        "def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:\n"
        '    """Change the schema."""\n'
    )
    assert text.count("import") == 2
    assert max(map(len, text.splitlines())) <= 100
    assert "add_default" not in text


class Take(pw.Model):
    """A table of an application, with peewee's own naming."""

    title = pw.CharField(max_length=50, unique=True)
    price = pw.DecimalField(max_digits=8, decimal_places=3, null=True)
    speaker = pw.ForeignKeyField(models.Speaker, on_delete="CASCADE", backref="test_takes")
    after = pw.ForeignKeyField("self", null=True, on_update="CASCADE", index=False)
    code = pw.IntegerField(constraints=[pw.Check("code > 0")])

    class Meta:
        table_name = "takes"
        indexes = ((("title", "speaker"), True),)
        constraints = (pw.Check("title <> 'a  b'", name="ck_takes_title"),)


Take.add_index(Take.price.desc(), name="takes_price")


class Part(pw.Model):
    """A table with a key of two columns that names a column of its parent."""

    take = pw.ForeignKeyField(Take, field="title", column_name="take_title")
    number = pw.IntegerField()

    class Meta:
        primary_key = pw.CompositeKey("take", "number")
        legacy_table_names = False
        without_rowid = True


TABLES = """
@migrator.create_model
class Take(pw.Model):
    title = pw.CharField(max_length=50, unique=True)
    price = pw.DecimalField(max_digits=8, decimal_places=3, null=True)
    speaker = pw.ForeignKeyField(migrator.orm["speakers"], on_delete="CASCADE")
    after = pw.ForeignKeyField("self", on_update="CASCADE", null=True, index=False)
    code = pw.IntegerField(constraints=[pw.Check("code > 0")])

    class Meta:
        table_name = "takes"
        indexes = ((("title", "speaker"), True),)
        constraints = (pw.Check("title <> 'a  b'", name="ck_takes_title"),)

@migrator.create_model
class Part(pw.Model):
    take = pw.ForeignKeyField(migrator.orm["takes"], field="title", column_name="take_title")
    number = pw.IntegerField()

    class Meta:
        table_name = "part"
        legacy_table_names = False
        primary_key = pw.CompositeKey("take", "number")
        without_rowid = True

migrator.sql('CREATE INDEX "takes_price" ON "takes" ("price" DESC)')
""".strip()


def test_an_application_s_tables(database: pw.SqliteDatabase, tmp_path: Path) -> None:
    """New tables are created parents first and dropped the other way round; and back."""
    own = tmp_path / "own"
    own.mkdir()
    directories = [tmp_path / "migrations", own]
    wanted = [*models.MODELS, Part, Take]
    path = migrations.create("takes", wanted, own, directories=directories)
    drop = 'migrator.remove_model("part")\nmigrator.remove_model("takes")'
    assert path == own / "001_takes.py"
    assert bodies(path) == (TABLES, drop)
    migrations.upgrade(database, directories)
    assert drift(database, wanted) == []

    path = migrations.create("less", [*models.MODELS, Take], own, directories=directories)
    create_part = TABLES[TABLES.rindex("@") : TABLES.index("migrator.sql")].strip()
    note = "# Note: the rows of 'part' are lost.\n"
    assert bodies(path) == (f'{note}migrator.remove_model("part")', create_part)
    migrations.upgrade(database, directories)
    assert "part" not in database.get_tables()
    migrations.rollback(database, directories)
    assert drift(database, wanted) == []
    migrations.rollback(database, directories)
    assert drift(database, models.MODELS) == []


def test_what_another_directory_made_is_kept(database: pw.SqliteDatabase, tmp_path: Path) -> None:
    """The package's models alone drop neither an application's tables nor its columns."""
    own = tmp_path / "own"
    own.mkdir()
    directories = [tmp_path / "migrations", own]
    wanted = [*models.MODELS, Take, speaker(language=pw.TextField(null=True, index=True))]
    migrations.create("own", wanted, own, directories=directories)
    path = migrations.create("nothing", models.MODELS, own, directories=directories)
    assert bodies(path) == ("", "")
    path = migrations.create("own_only", [Take], own, directories=directories)
    assert bodies(path) == ("", "")
    migrations.upgrade(database, directories)
    assert drift(database, wanted) == []


def test_a_field_an_index_a_check_and_a_json_field(
    database: pw.SqliteDatabase, directory: Path
) -> None:
    """A usual change of a model goes forth and back and leaves no further difference."""
    changed = speaker(
        language=pw.TextField(null=True, index=True),
        extra=fields.JSONField(default=dict),
        checks=[NAME_CHECK, pw.Check("language <> ''", name="ck_speakers_language")],
    )
    changed.add_index(changed.language, changed.name, name="by_language")
    path = migrations.create("language", [changed, *OTHERS], directory, directories=[directory])
    assert migrations.upgrade(database, [directory]) == [path.stem]
    assert drift(database, [changed, *OTHERS]) == []
    query = "SELECT id, name, language, extra FROM speakers ORDER BY id"
    assert database.execute_sql(query).fetchall() == [
        (1, "Ada", None, "{}"),
        (2, "Bob", None, "{}"),
    ]
    assert migrations.rollback(database, [directory]) == [path.stem]
    assert drift(database, models.MODELS) == []


EMPTY = '''"""Fill hashes.

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
'''


@pytest.mark.parametrize("empty", [True, False])
def test_an_empty_migration(database: pw.SqliteDatabase, directory: Path, empty: bool) -> None:
    """Where nothing differs, or on request, the file is one to fill in, and it applies as it is."""
    wanted = [speaker(language=pw.TextField(null=True)), *OTHERS] if empty else models.MODELS
    path = migrations.create("fill_hashes", wanted, directory, directories=[directory], empty=empty)
    assert path.read_text("utf-8") == EMPTY
    assert migrations.upgrade(database, [directory]) == ["003_fill_hashes"]
    assert migrations.rollback(database, [directory]) == ["003_fill_hashes"]


def test_the_next_number_and_nothing_else(directory: Path) -> None:
    """The number follows the highest one; neither the import path nor the models are touched."""
    (directory / "041_last.py").write_text("def migrate(*_, **__): pass\n")
    path, bound = list(sys.path), models.Speaker._meta.database
    created = migrations.create("next", models.MODELS, directory, directories=[directory])
    assert created == directory / "042_next.py"
    assert sys.path == path
    assert models.Speaker._meta.database is bound
    assert models.database_proxy.obj is None


# What is refused


@pytest.mark.parametrize("name", ["Add", "add-x", "add x", "../x", "", "ä"])
def test_a_bad_name(directory: Path, name: str) -> None:
    """A name that would not make a file name that applies is refused."""
    with pytest.raises(MigrationError) as caught:
        migrations.create(name, models.MODELS, directory, directories=[directory])
    assert str(caught.value) == (
        f"{name!r} is not a migration's name; use lower-case letters, digits and '_'"
    )


def test_a_taken_name(directory: Path, tmp_path: Path) -> None:
    """A name that another directory has, or the number 1000, is refused."""
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(MigrationError) as caught:
        migrations.create("initial", models.MODELS, own, directories=[directory, own])
    assert str(caught.value) == "cannot name a migration '001_initial'; choose another name"
    (own / "999_x.py").write_text("def migrate(*_, **__): pass\n")
    with pytest.raises(MigrationError) as caught:
        migrations.create("y", models.MODELS, own, directories=[directory, own])
    assert str(caught.value) == "cannot name a migration '1000_y'; choose another name"


def test_a_directory_that_does_not_apply(directory: Path, tmp_path: Path) -> None:
    """A migration can only be written where it will be found."""
    with pytest.raises(ValueError, match=r"is not one of the migration directories$"):
        migrations.create("x", models.MODELS, tmp_path, directories=[directory])


def test_a_directory_that_cannot_be_written(directory: Path) -> None:
    """What the system refuses is said in one sentence."""
    name = "x" * 300
    with pytest.raises(MigrationError) as caught:
        migrations.create(name, models.MODELS, directory, directories=[directory])
    path = directory / f"003_{name}.py"
    assert str(caught.value) == f"cannot write {str(path)!r}: File name too long"


def with_key() -> Models:
    class Speaker(pw.Model):
        key = pw.AutoField()
        name = pw.TextField()

        class Meta:
            table_name = "speakers"

    return [Speaker]


def without_rowid() -> Models:
    copy = speaker()
    copy._meta.without_rowid = True
    return [copy]


BY_HAND = "; write it by hand in a migration made with --empty"
REFUSED: dict[str, tuple[Callable[[], Models], str]] = {
    "required without a default": (
        lambda: [speaker(age=pw.IntegerField())],
        (
            "cannot add 'age' to table 'speakers': it is NOT NULL and has no default for the rows "
            "that are there; give it one, or null=True"
        ),
    ),
    "unnamed check": (
        lambda: [speaker(checks=[NAME_CHECK, pw.Check("id > 0")])],
        "cannot write a change of table 'speakers': CHECK (id > 0) has no name; give it one "
        "with name=" + BY_HAND,
    ),
    "key": (
        with_key,
        "cannot write a change of table 'speakers': the key or the generated column 'id'" + BY_HAND,
    ),
    "options": (
        without_rowid,
        "cannot write a change of table 'speakers': its options" + BY_HAND,
    ),
    "unique constraint": (
        lambda: [speaker(checks=[NAME_CHECK, pw.SQL("UNIQUE (name, created_at)")])],
        "cannot write a change of table 'speakers': the constraint UNIQUE (name, created_at); "
        "use a unique index" + BY_HAND,
    ),
    "wide foreign key": (
        lambda: [
            speaker(checks=[NAME_CHECK, pw.SQL("FOREIGN KEY (id, name) REFERENCES x (a, b)")])
        ],
        "cannot write a change of table 'speakers': the foreign key of id, name" + BY_HAND,
    ),
    "a model that is no table": (
        lambda: [speaker(checks=[NAME_CHECK, pw.Check("colour > 1", name="ck")])],
        "the models make no valid tables: no such column: colour",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_words_is_refused(directory: Path, case: str) -> None:
    """What cannot be written right is not written at all."""
    changed, message = REFUSED[case]
    with pytest.raises(MigrationError) as caught:
        migrations.create("x", completed(changed()), directory, directories=[directory])
    assert str(caught.value) == message
    assert migrations.names([directory]) == migrations.names([PACKAGE])


def test_a_column_made_in_sql(directory: Path) -> None:
    """A column that the migrator cannot see is not dropped without a word."""
    text = (
        "def migrate(migrator, database, *, fake=False):\n"
        "    migrator.sql('ALTER TABLE speakers ADD COLUMN x TEXT')\n"
    )
    (directory / "003_x.py").write_text(text)
    with pytest.raises(MigrationError) as caught:
        migrations.create("drop_x", models.MODELS, directory, directories=[directory])
    assert str(caught.value) == (
        "cannot write a change of table 'speakers': column 'x' was made in SQL, which the "
        "migrator cannot see" + BY_HAND
    )
