"""Write the difference between models and migrations as a migration file.

peewee-migrate's Router drafts it; the draft is tried forth and back in memory, and what it
lacks is named in the file. It is loaded late, with peewee-migrate.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import fill
from typing import Any, Final

import peewee as pw
from peewee_migrate.auto import FIELD_MODULES_MAP, FIELD_TO_PARAMS
from peewee_migrate.router import compile_migrations

from voices_peewee.errors import MigrationError
from voices_peewee.migrations.drift import differences, drift, read_parts, view_differences
from voices_peewee.migrations.guard import checked
from voices_peewee.migrations.router import SafeRouter, plain_indexes

Models = Mapping[str, type[pw.Model]]  # by table

_FILE: Final = '''"""{title}.{help}"""

import peewee as pw
from peewee_migrate import Migrator


def migrate(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Change the schema."""
{migrate}

def rollback(migrator: Migrator, database: pw.Database, *, fake: bool = False) -> None:
    """Undo migrate."""
{rollback}'''
_HELP: Final = """

Change the database through the migrator alone: the functions also run when nothing shall
change but what the migrator knows of the models (fake). Some of its words:

    migrator.sql('UPDATE "speakers" SET "description" = NULL')
    migrator.run(function, argument)
    migrator.add_fields("speakers", language=pw.TextField(null=True))
    migrator.rename_field("speakers", "language", "tongue")
"""
_FIELDS: Final = re.compile(r"migrator\.remove_fields\('(\w+)', (.*)\)")
_TABLE: Final = re.compile(r'(\n +)table_name = "(\w+)"')
_KEPT: Final = "{0} is in no model and stays; drop it with migrator.remove_model({0})"


def write(
    path: Path,
    models: Sequence[type[pw.Model]],
    paths: Mapping[str, Path],
    *,
    history_table: str,
    empty: bool,
) -> list[str]:
    """Write the migration ``path``, which follows ``paths`` and leads to the models.

    Returned is what has to be written by hand, or that nothing differs.
    """
    text, notes = _source(path), list[str]()
    if not empty:
        text, notes = _Draft(path, models, paths, history_table).finished()
    draft = path.with_suffix(".partial")  # half a migration would keep every record from opening
    try:
        draft.write_text(text, encoding="utf-8")
        draft.rename(path)
    except OSError as error:
        raise MigrationError(f"cannot write {str(path)!r}: {error.strerror}") from error
    finally:
        with suppress(OSError):  # it has its name, or could not be made
            draft.unlink()
    return notes


# peewee-migrate takes every JSON field for PostgreSQL's own, and leaves callable defaults out.
FIELD_MODULES_MAP.pop("JSONField", None)
FIELD_TO_PARAMS[pw.JSONField] = lambda field: (
    {"default": field.default.__name__} if field.default in (dict, list) else {}
)


class _Draft(SafeRouter):
    """The Router that drafts one migration, on a database in memory."""

    def __init__(
        self,
        path: Path,
        models: Sequence[type[pw.Model]],
        paths: Mapping[str, Path],
        history_table: str,
    ) -> None:
        super().__init__(pw.SqliteDatabase(":memory:"), paths, history_table)
        self.path, self.wanted = path, {model._meta.table_name: model for model in models}

    def finished(self) -> tuple[str, list[str]]:
        with self.database.connection_context():
            theirs = self._replay()
            own = {model._meta.table_name: model for model in self.migrator}
            self._keep_what_others_made(theirs)
            kept = {table: model for table, model in own.items() if table not in self.wanted}
            with plain_indexes([*self.wanted.values(), *own.values()]):
                bodies = self._bodies([*self.wanted.values(), *kept.values()])
            notes = self._tried(bodies, theirs)
        if own.keys() - kept.keys() - theirs:  # else these are an application's, or the package's
            notes += [f"table {_KEPT.format(repr(table))}" for table in kept.keys() - theirs]
        if not any(bodies) and not notes:
            return _source(self.path), ["models and migrations do not differ; the file is empty"]
        text = _source(self.path, *bodies, notes=notes)
        return text, [f"write by hand: {note}" for note in notes]

    def _bodies(self, models: list[type[pw.Model]]) -> tuple[str, str]:
        """Return what peewee-migrate drafts, as ``Router.create`` does, for both functions."""
        present = {model._meta.table_name: model for model in self.migrator}
        forth = compile_migrations(self.migrator, models)
        back = compile_migrations(self.migrator, models, reverse=True) if forth else ""
        return _corrected(forth, present, self.wanted), _corrected(back, self.wanted, present)

    def _replay(self) -> set[str]:
        """Apply every migration and return the tables that other directories made."""
        others = [name for name, path in self.paths.items() if path.parent != self.path.parent]
        if others:
            self.run(others[-1])
        theirs = set(self.database.get_tables()) if others else set()
        self.run()
        return theirs

    def _keep_what_others_made(self, theirs: set[str]) -> None:
        """Forget the fields of others' tables that the models lack: an application's own."""
        for model in self.migrator:
            meta: Any = model._meta
            if meta.table_name in theirs and meta.table_name in self.wanted:
                for name in meta.fields.keys() - self.wanted[meta.table_name]._meta.fields.keys():
                    meta.remove_field(name)

    def _tried(self, bodies: tuple[str, str], theirs: set[str]) -> list[str]:
        """Run the draft forth and back; return what it does not reach."""
        before = read_parts(self.database)
        views = {view.name: view.sql for view in self.database.get_views()}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "draft.py")
            file.write_text(_source(self.path, *bodies), "utf-8")
            paths = {**self.paths, self.path.stem: file}
            try:
                with checked(self.database):
                    SafeRouter(self.database, paths, self.migrate_table).run()
                left = drift(self.database, list(self.wanted.values()))
                SafeRouter(self.database, paths, self.migrate_table).rollback()  # type: ignore[no-untyped-call]
            except (MigrationError, pw.DatabaseError) as error:
                return [f"as it is, it fails: {error.__cause__ or error}"]
        undone = [
            *differences(before, read_parts(self.database)),
            *view_differences(views, self.database),
        ]
        notes = [str(one) for one in left if one.expected is not None or one.table not in theirs]
        return notes + [f"after rollback {one}" for one in undone]


def _corrected(text: str, present: Models, wanted: Models) -> str:
    """Put right what peewee-migrate's words for fields and tables would miss.

    A field that has an index or a foreign key can only be removed by a rebuild, and indexes are
    named after the table where the model says so.
    """

    def removal(match: re.Match[str]) -> str:
        fields = present[match[1]]._meta.fields
        removed = [fields[name] for name in re.findall(r"'(\w+)'", match[2])]
        more = ", legacy=True" if any(map(_is_bound, removed)) else ""
        return f"migrator.remove_fields('{match[1]}', {match[2]}{more})"

    def table(match: re.Match[str]) -> str:
        legacy = wanted[match[2]]._meta.legacy_table_names
        return match[0] if legacy else f"{match[0]}{match[1]}legacy_table_names = False"

    return _TABLE.sub(table, _FIELDS.sub(removal, text)).replace(",\n\n", ",\n")


def _is_bound(field: Any) -> bool:
    return bool(field.index or field.unique or isinstance(field, pw.ForeignKeyField))


def _source(path: Path, migrate: str = "", rollback: str = "", notes: Sequence[str] = ()) -> str:
    title = path.stem[4:].replace("_", " ").strip().capitalize() or "Migration"
    items = [fill(f"- {note}", 96, subsequent_indent="  ") for note in notes]
    bodies = {"migrate": migrate.strip("\n").rstrip(), "rollback": rollback.strip("\n").rstrip()}
    by_hand = "\n".join(["\n\nTo be written by hand:\n", *items, ""]) if notes else ""
    return _FILE.format(
        title=title,
        help=by_hand if migrate or notes else _HELP,
        **{name: f"{text}\n" if text else "" for name, text in bodies.items()},
    )
