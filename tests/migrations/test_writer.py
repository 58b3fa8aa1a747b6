"""Writing migrations: drafts that apply and roll back, and name what is left by hand."""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import peewee as pw
import pytest
from support.interrupts import interrupted_at

from voices_peewee.errors import MigrationError
from voices_peewee.migrations import history, runner
from voices_peewee.migrations.drift import drift
from voices_peewee.schema import fields, models

pytestmark = pytest.mark.sqlite("compares the schemas of SQLite files, in memory and on the disk")

PACKAGE = runner.package_directory()
PACKAGED = runner.names([PACKAGE])
NEXT = f"{len(PACKAGED) + 1:03}"
NO_DIFFERENCE = ["models and migrations do not differ; the file is empty"]


@pytest.fixture
def database(path: Path, directory: Path) -> Iterator[pw.SqliteDatabase]:
    """An up-to-date database with a speaker and a file."""
    database = pw.SqliteDatabase(path, pragmas={"foreign_keys": 1})
    with database.connection_context():
        runner.upgrade(database, [directory])
        database.connection().executescript("""
            INSERT INTO speakers (name, description, tags, created_at, updated_at)
                VALUES ('Ada', 'alto', '[]', '2026-01-01', '2026-01-01');
            INSERT INTO processed_files (filename, metadata, speaker_id, created_at, updated_at)
                VALUES ('a.wav', '{}', 1, '2026-01-01', '2026-01-01');
        """)
        yield database


def speaker(*, remove: str = "", checks: Sequence[pw.Node] = (), **more: pw.Field) -> Any:
    """Return a copy of Speaker with other fields and more checks."""
    constraints = [*models.Speaker._meta.constraints, *checks]
    meta = {"table_name": "speakers", "constraints": constraints}
    copy: Any = type("Speaker", (models.Speaker,), {**more, "Meta": type("Meta", (), meta)})
    copy._meta.indexes = list(models.Speaker._meta.indexes)
    if remove:
        copy._meta.remove_field(remove)
    return copy


def indexed(*names: str, **options: Any) -> Any:
    """Return a copy of Speaker with one more index."""
    copy = speaker()
    copy.add_index(*(copy._meta.fields[name] for name in names), **options)
    return copy


def declared(*names: str, unique: bool = False) -> Any:
    """Return a copy of Speaker with one more index in its Meta."""
    copy = speaker()
    copy._meta.indexes = [(names, unique)]
    return copy


def without_action() -> Any:
    """Return a copy of ProcessedFile in which deleting a speaker deletes the files."""

    class ProcessedFile(models.ProcessedFile):
        speaker = pw.ForeignKeyField(
            models.Speaker, null=True, on_delete="CASCADE", backref="test_files"
        )

        class Meta:
            table_name = "processed_files"

    return ProcessedFile


def completed(*changed: type[pw.Model]) -> list[type[pw.Model]]:
    """Return the changed models among the package's others."""
    both: list[type[pw.Model]] = [*models.MODELS, *changed]
    return list({model._meta.table_name: model for model in both}.values())


def bodies(path: Path) -> tuple[str, str]:
    """Return what stands in the two functions, below their docstrings, on one line."""
    text = path.read_text("utf-8")
    found = []
    for function in ast.parse(text).body[-2:]:
        assert isinstance(function, ast.FunctionDef)
        lines = text.splitlines()[function.body[0].lineno : function.end_lineno]
        found.append(" ".join(textwrap.dedent("\n".join(lines)).split()))
    return found[0], found[1]


DRAFTS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "indexed field": (
        lambda: speaker(language=pw.CharField(max_length=8, null=True, index=True)),
        (
            "migrator.add_fields( 'speakers', "
            "language=pw.CharField(index=True, max_length=8, null=True))"
        ),
        "migrator.remove_fields('speakers', 'language', legacy=True)",
    ),
    "JSON fields": (
        lambda: speaker(extra=fields.JSONField(default=dict), more=fields.JSONField(null=True)),
        (
            "migrator.add_fields( 'speakers', "
            "extra=pw.JSONField(default=dict), more=pw.JSONField(null=True))"
        ),
        "migrator.remove_fields('speakers', 'extra', 'more')",
    ),
    "reference": (
        lambda: speaker(teacher=pw.ForeignKeyField("self", null=True, backref="pupils")),
        (
            "migrator.add_fields( 'speakers', teacher=pw.ForeignKeyField("
            "column_name='teacher_id', field='id', model='self', null=True))"
        ),
        "migrator.remove_fields('speakers', 'teacher', legacy=True)",
    ),
    "index": (
        lambda: declared("name", "created_at"),
        "migrator.add_index('speakers', 'name', 'created_at', unique=False)",
        "migrator.drop_index('speakers', 'name', 'created_at')",
    ),
    "removed field": (
        lambda: speaker(remove="description"),
        "migrator.remove_fields('speakers', 'description')",
        "migrator.add_fields( 'speakers', description=pw.TextField(null=True))",
    ),
    "required becomes nullable": (
        lambda: speaker(name=pw.TextField(null=True, index=True)),
        (
            "migrator.change_fields('speakers', name=pw.TextField(index=True, null=True)) "
            "migrator.drop_not_null('speakers', 'name')"
        ),
        (
            "migrator.change_fields('speakers', name=pw.TextField(index=True)) "
            "migrator.add_not_null('speakers', 'name')"
        ),
    ),
}


@pytest.mark.parametrize("case", DRAFTS)
def test_a_difference_becomes_a_migration(
    database: pw.SqliteDatabase, directory: Path, case: str
) -> None:
    """The draft applies to a filled database, reaches the models, and rolls back to what was."""
    changed, forth, back = DRAFTS[case]
    wanted = completed(changed())
    path, notes = runner.create("change", wanted, [directory])
    assert notes == []
    assert bodies(path) == (forth, back)
    assert runner.upgrade(database, [directory]) == [f"{NEXT}_change"]
    assert drift(database, wanted) == []
    again, notes = runner.create("again", wanted, [directory])
    assert (bodies(again), notes) == (("", ""), NO_DIFFERENCE)
    query = "SELECT count(*) FROM processed_files WHERE speaker_id = 1"
    assert database.execute_sql(query).fetchall() == [(1,)]
    assert runner.rollback(database, [directory]) == [f"{NEXT}_change"]
    assert drift(database, models.MODELS) == []


BY_HAND: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "check": (
        lambda: speaker(checks=[pw.Check("id > 0", name="ck_id")]),
        ["table 'speakers' lacks CHECK 'ck_id' (id > 0)"],
    ),
    "partial index": (
        lambda: indexed("name", where=pw.SQL("id > 1"), name="bare"),
        [
            (
                "table 'speakers' lacks index 'bare' "
                '(CREATE INDEX "bare" ON "speakers" ("name") WHERE id > 1)'
            )
        ],
    ),
    "foreign key action": (
        without_action,
        [
            (
                "table 'processed_files' has foreign key 'speaker_id' as speakers (id) ON DELETE "
                "SET NULL ON UPDATE NO ACTION, not speakers (id) ON DELETE CASCADE ON UPDATE NO "
                "ACTION"
            )
        ],
    ),
    "required without a default": (
        lambda: speaker(age=pw.IntegerField()),
        ["as it is, it fails: age is not null but has no default"],
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_what_is_written_by_hand_is_named(directory: Path, case: str) -> None:
    """What peewee-migrate does not write stands in the file, and is returned."""
    changed, left = BY_HAND[case]
    path, notes = runner.create("change", completed(changed()), [directory])
    assert notes == [f"write by hand: {sentence}" for sentence in left]
    items = "".join(textwrap.fill(f"- {one}", 96, subsequent_indent="  ") + "\n" for one in left)
    head = f'"""Change.\n\nTo be written by hand:\n\n{items}"""\n\nimport peewee as pw\n'
    assert path.read_text("utf-8").startswith(head)


class Take(models.BaseModel):
    """A table of an application."""

    title = pw.CharField(max_length=50, unique=True)
    speaker = pw.ForeignKeyField(models.Speaker, on_delete="CASCADE", backref="test_takes")

    class Meta:
        table_name = "takes"
        indexes = ((("title", "speaker"), True),)


class Part(models.BaseModel):
    """A table that belongs to it."""

    take = pw.ForeignKeyField(Take)

    class Meta:
        table_name = "parts"


def test_an_application_s_tables(database: pw.SqliteDatabase, tmp_path: Path) -> None:
    """New tables are created parents first and dropped the other way round."""
    directories = [tmp_path / "migrations", tmp_path / "own"]
    wanted = completed(Part, Take)
    path, notes = runner.create("takes", wanted, directories)
    assert (path, notes) == (tmp_path / "own" / "001_takes.py", [])
    runner.upgrade(database, directories)
    assert drift(database, wanted) == []
    runner.rollback(database, directories)
    assert database.get_tables() == sorted([*(m._meta.table_name for m in models.MODELS), HISTORY])


HISTORY = runner.HISTORY_TABLE


def test_a_table_without_its_model_stays(database: pw.SqliteDatabase, tmp_path: Path) -> None:
    """No draft drops a table; that one has no model any more is said with the words to drop it."""
    directories = [tmp_path / "migrations", tmp_path / "own"]
    runner.create("takes", completed(Part, Take), directories)
    path, notes = runner.create("less", completed(Take), directories)
    assert bodies(path) == ("", "")
    assert notes == [
        (
            "write by hand: table 'parts' is in no model and stays; "
            "drop it with migrator.remove_model('parts')"
        )
    ]


def test_what_another_directory_made_is_kept(database: pw.SqliteDatabase, tmp_path: Path) -> None:
    """The package's models alone drop neither an application's tables nor its columns."""
    directories = [tmp_path / "migrations", tmp_path / "own"]
    wanted = completed(Take, speaker(language=pw.TextField(null=True, index=True)))
    runner.create("own", wanted, directories)
    path, notes = runner.create("nothing", models.MODELS, directories)
    assert (bodies(path), notes) == (("", ""), NO_DIFFERENCE)
    runner.upgrade(database, directories)
    assert drift(database, wanted) == []


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
    wanted = completed(speaker(language=pw.TextField(null=True))) if empty else models.MODELS
    path, notes = runner.create("fill_hashes", wanted, [directory], empty=empty)
    assert notes == ([] if empty else NO_DIFFERENCE)
    assert path.read_text("utf-8") == EMPTY
    assert runner.upgrade(database, [directory]) == [f"{NEXT}_fill_hashes"]
    assert runner.rollback(database, [directory]) == [f"{NEXT}_fill_hashes"]


def test_the_next_number_and_nothing_else(directory: Path) -> None:
    """The number follows the highest one; neither the import path nor the models are touched."""
    (directory / "041_last.py").write_text("def migrate(*_, **__): pass\n")
    path, bound = list(sys.path), models.Speaker._meta.database
    indexes = [list(model._meta.indexes) for model in models.MODELS]
    created, _ = runner.create("next", models.MODELS, [directory])
    assert created == directory / "042_next.py"
    assert sys.path == path
    assert models.Speaker._meta.database is bound
    assert [list(model._meta.indexes) for model in models.MODELS] == indexes
    assert models.database_proxy.obj is None


NAME = "is not a migration's name; use lower-case letters, digits and '_'"


@pytest.mark.parametrize(
    ("name", "folder", "sentence"),
    [
        *((name, "own", f"{name!r} {NAME}") for name in ("Add", "../x", "")),
        ("initial", "own", "cannot name a migration '001_initial'; choose another name"),
        ("x", "001_initial.py/own", "cannot make '{}': Not a directory"),
        ("x" * 250, "own", f"cannot write '{{}}/001_{'x' * 250}.py': File name too long"),
    ],
    ids=lambda value: value[:20],
)
def test_what_cannot_be_written(directory: Path, name: str, folder: str, sentence: str) -> None:
    """A name that does not apply or is taken, and what the system refuses, is one sentence."""
    own = directory / folder
    with pytest.raises(MigrationError) as caught:
        runner.create(name, models.MODELS, [directory, own])
    assert str(caught.value) == sentence.format(own)


def test_an_installed_package_is_not_written_to(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a checkout around it, the package's own folder is refused with a line to paste."""
    monkeypatch.setattr(history, "package_directory", lambda: directory)
    before = sorted(directory.iterdir())
    with pytest.raises(MigrationError) as caught:
        runner.create("add_language", models.MODELS, [directory])
    assert str(caught.value) == (
        "the package's own migrations are written in its checkout; for yours run "
        "'voices --migrations-dir migrations create-migration add_language', and name that "
        "folder in VOICES_MIGRATIONS_DIR for every other command"
    )
    assert sorted(directory.iterdir()) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_leaves_no_half_of_a_migration(tmp_path: Path) -> None:
    """Wherever writing is interrupted, the folder has the whole file or none."""

    def act() -> None:
        runner.create("new", [], [PACKAGE, tmp_path], empty=True)

    act()  # what is imported once
    (tmp_path / "001_new.py").unlink()
    place = 1
    while interrupted_at(place, act):
        for path in tmp_path.glob("*.py"):
            assert path.read_text("utf-8").endswith('"""Undo migrate."""\n')
            path.unlink()
        place += 1
    assert place > 50
