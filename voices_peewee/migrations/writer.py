"""Write the difference between models and migrations as a migration file.

Both schemas are made in memory and compared; the file is run there, forth and back, before
it is placed. It is loaded late, with peewee-migrate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import peewee as pw

from voices_peewee.errors import MigrationError
from voices_peewee.migrations.drift import Drift, Table, differences, model_schema, read_schema
from voices_peewee.migrations.plan import Names, Schema, plan
from voices_peewee.migrations.router import SafeRouter

_HEAD: Final = '''"""{title}{help}"""

import peewee as pw
from peewee_migrate import Migrator
'''
_FUNCTION: Final = '''

def {name}(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """{summary}"""
'''
_HELP: Final = """

Change the database through the migrator alone: the functions also run when nothing shall
change but what the migrator knows of the models (fake). Some of its words:

    migrator.sql('UPDATE "speakers" SET "description" = NULL')
    migrator.run(function, argument)
    migrator.add_fields("speakers", language=pw.TextField(null=True))
    migrator.rename_field("speakers", "language", "tongue")
"""


def write(
    path: Path,
    models: Sequence[type[pw.Model]],
    paths: Mapping[str, Path],
    *,
    history_table: str,
    empty: bool,
) -> None:
    """Write the migration ``path``, which follows ``paths`` and leads to the models.

    Raises:
        MigrationError: The difference cannot be written, or the file cannot.
    """
    text = None if empty else _difference(path, models, paths, history_table)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text or _source(path, [], []))
    except OSError as error:
        raise MigrationError(f"cannot write {str(path)!r}: {error.strerror}") from error


def _difference(
    path: Path, models: Sequence[type[pw.Model]], paths: Mapping[str, Path], history_table: str
) -> str | None:
    memory = pw.SqliteDatabase(":memory:")
    with memory.connection_context():
        router = SafeRouter(memory, paths, history_table)
        own = _replay(router, path.parent)
        schema = read_schema(memory)
    wanted = {model._meta.table_name: model for model in models}
    present = wanted | {model._meta.table_name: model for model in router.migrator}
    try:
        after = model_schema(models)
    except pw.DatabaseError as error:
        raise MigrationError(f"the models make no valid tables: {error}") from error
    # An application that names only its own models, or only the package's, drops no others.
    gone = own - after.keys() if own & after.keys() else set()
    before = {name: table for name, table in schema.items() if name in after or name in gone}
    after |= {name: _with_all(after[name], before[name]) for name in before.keys() - own}
    names = {**_names(wanted.values()), **_names(present.values())}
    forth = plan(before, after, models=wanted, names=names, undo=False)
    if not forth:
        return None
    back = plan(after, before, models=present, names=names, undo=True)
    text = _source(path, forth, back)
    left = {name: table for name, table in schema.items() if name not in gone}
    _prove(router, path, text, before=schema, after={**left, **after})
    return text


def _with_all(wanted: Table, present: Table) -> Table:
    """Keep what the models lack in a table of another directory: an application's own."""
    return Table(
        columns={**present.columns, **wanted.columns},
        foreign_keys={**present.foreign_keys, **wanted.foreign_keys},
        checks={**present.checks, **wanted.checks},
        indexes={**present.indexes, **wanted.indexes},
        options=wanted.options,
    )


def _replay(router: SafeRouter, directory: Path) -> set[str]:
    """Apply every migration and return the tables that one directory's migrations made."""
    own: set[str] = set()
    for name, path in router.paths.items():
        before = set(router.database.get_tables())
        router.apply(name)
        if path.parent == directory:
            own |= set(router.database.get_tables()) - before
    return own & {model._meta.table_name for model in router.migrator}


def _names(models: Iterable[type[pw.Model]]) -> Names:
    return {
        (model._meta.table_name, column): field.name
        for model in models
        for column, field in model._meta.columns.items()
    }


def _source(path: Path, forth: Sequence[str], back: Sequence[str]) -> str:
    title = path.stem[4:].replace("_", " ").strip().capitalize() or "Migration"
    steps = (("migrate", "Change the schema.", forth), ("rollback", "Undo migrate.", back))
    functions = (
        _FUNCTION.format(name=name, summary=summary) + "".join(f"{line}\n" for line in body)
        for name, summary, body in steps
    )
    return _HEAD.format(title=f"{title}.", help="" if forth else _HELP) + "".join(functions)


def _prove(router: SafeRouter, path: Path, text: str, *, before: Schema, after: Schema) -> None:
    """Run the file in memory; refuse it where it does not lead to the models and back."""
    memory = pw.SqliteDatabase(":memory:")
    with tempfile.TemporaryDirectory() as folder, memory.connection_context():
        file = Path(folder, path.name)
        file.write_text(text, "utf-8")
        paths = {**router.paths, path.stem: file}
        try:
            trial = SafeRouter(memory, paths, router.history_table)
            for name in paths:
                trial.apply(name)
            faults = _unlike(after, read_schema(memory))
            SafeRouter(memory, paths, router.history_table).revert(path.stem)
            faults += _unlike(before, read_schema(memory))
        except MigrationError as error:
            faults = [str(error.__cause__ or error)]
    if faults:
        raise MigrationError(
            f"cannot write this difference as a migration: {faults[0]}; "
            "write it by hand in a migration made with --empty"
        )


def _unlike(wanted: Schema, reached: Schema) -> list[str]:
    found = [f"table {name!r} stays or is missing" for name in wanted.keys() ^ reached.keys()]
    for name in wanted.keys() & reached.keys():
        found += [str(Drift(name, *parts)) for parts in differences(wanted[name], reached[name])]
    return found
