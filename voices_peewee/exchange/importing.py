"""Records from files, streams and other databases, merged into this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voices_peewee.database.store import Store
from voices_peewee.errors import InputError
from voices_peewee.exchange.import_merge import Scope
from voices_peewee.exchange.import_report import Imported
from voices_peewee.exchange.import_source import TABLES, Source, clause
from voices_peewee.exchange.import_sources import Input, Opener, groups
from voices_peewee.exchange.import_values import Typed, Typer
from voices_peewee.migrations import runner as migrations

Progress = Callable[[int, int], None]

_BATCH = 1000


def import_records(
    store: Store,
    source: Input,
    *,
    table: str | None = None,
    dry_run: bool = False,
    skip_bad: bool = False,
    on_progress: Progress | None = None,
) -> Imported:
    """Import records in one transaction, and return what was done.

    What is here already is not doubled: a speaker of the same name, a file of the same path
    and content, a run of the same id. Where such a row says something else than the input,
    ours is kept and the conflict is told. Other records get the next ids; an empty table
    takes theirs.

    Args:
        store: The open database.
        source: A path, ``-`` for the standard input, an open file, several paths, or an
            iterable of mappings from column names to values.
        table: What the records are, where the input does not say so.
        dry_run: Do it all, report it and take it back.
        skip_bad: Leave out bad records and what refers to them, and report them; otherwise
            the first one ends the import.
        on_progress: Called with the bytes done and in all; 0 where that is not known.

    Raises:
        InputError: An input cannot be read or holds a bad record; nothing was written.
        NotVoicesError: A database belongs to another application.
        DatabaseNewerError: A database has migrations that are not known here.
        QueryError: There is no such table.
        MissingExtraError: pyarrow is needed and not installed.
    """
    with store.reading():
        known = [*migrations.names([migrations.package_directory()])]
        known += migrations.applied(store.database)
    sources = Opener(table=table, known=known, timeout=store.timeout, own=store.label).open(source)
    work = _Import(sources, Imported(is_dry_run=dry_run), skip_bad=skip_bad, tell=on_progress)
    try:
        with store.writing():
            for group in groups(sources):
                work.run(store, group)
            work.end(dry_run=dry_run)
    except _TakenBackError:
        pass  # the transaction is undone, or its part of the one around it
    finally:
        for one in sources:
            one.close()
    return work.report


class _TakenBackError(Exception):
    """Ends the transaction of a dry run."""


class _Import:
    """Reads sources in batches of one table, and reports."""

    def __init__(
        self, sources: Sequence[Source], report: Imported, *, skip_bad: bool, tell: Progress | None
    ) -> None:
        self._sources, self.report = sources, report
        self._skips, self._tell = skip_bad, tell

    def run(self, store: Store, group: Sequence[Source]) -> None:
        """Import sources that share their ids.

        Raises:
            InputError: A record is bad, or a source.
        """
        tables = {name for one in group for name in (*one.tables, one.table) if name}
        scope = Scope(store, tables, self.report, self._skip)
        for source in group:
            try:
                self._read(source, scope)
            except OSError as error:
                raise source.error(clause(error)) from error
            self._progress()

    def end(self, *, dry_run: bool) -> None:
        """Let the transaction be committed, or undone."""
        if dry_run:
            raise _TakenBackError

    def _read(self, source: Source, scope: Scope) -> None:
        typers = {name: Typer(model, source, self.report.note) for name, model in TABLES.items()}
        batch: list[Typed] = []
        present = ""
        for row in source.rows(self._skip):
            if row.table != present or len(batch) >= _BATCH:
                if batch:
                    scope.write(present, batch)
                    self._progress()
                batch, present = [], row.table
            try:
                batch.append(typers[present].read(row))
            except InputError as error:
                self._skip(error, present)
        if batch:
            scope.write(present, batch)
        for note in source.notes:
            self.report.note(note)

    def _skip(self, error: InputError, table: str = "") -> None:
        if not self._skips:
            raise error
        self.report.skip(error, table)

    def _progress(self) -> None:
        if self._tell is not None:
            pairs = [source.progress() for source in self._sources]
            self._tell(sum(done for done, _ in pairs), sum(size for _, size in pairs))
