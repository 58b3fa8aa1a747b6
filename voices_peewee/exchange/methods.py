"""The manager's methods for exports, imports and deletions."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from voices_peewee.database.store import HasStore

if TYPE_CHECKING:
    from voices_peewee.database.store import SpeakerKey
    from voices_peewee.exchange.adding import AddedManifest
    from voices_peewee.exchange.export import Exported, Progress, Target
    from voices_peewee.exchange.merging import Imported
    from voices_peewee.exchange.reading import Input
    from voices_peewee.exchange.results import ImportedResults, Paths
    from voices_peewee.records.roots import Roots
    from voices_peewee.runs.recorded import RunKey
    from voices_peewee.schema.models import BaseModel


class ExchangeMethods(HasStore):
    """The manager's methods for exports, imports and deletions."""

    def export(
        self,
        target: Target,
        tables: str | Iterable[str] | None = None,
        *,
        format: str | None = None,  # noqa: A002 - what the option is called
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Exported:
        """Write tables as they are at one moment, while others write; return what was written.

        The rows are read and written some at a time. A file appears when it is whole.

        Args:
            target: A file, a binary stream, or ``-``, the standard output.
            tables: Names of tables or lists (``speakers``, ``files``, ...); None is all, also
                those that an application added.
            format: ``jsonl`` or ``csv``, which holds one table; None is told by the suffix, and
                ``jsonl`` where there is none.
            overwrite: Replace a file that is there.
            progress: Called with (rows done, rows in all); what it raises cancels the export.

        Returns:
            ``rows``, the number of each table's, and ``path``, the file (None for a stream).

        Raises:
            QueryError: A table or format is unknown, or the target cannot hold what is asked for.
            ExportError: The file is there, or its folder is missing or refuses writes.
            DatabaseFullError: The disk is full.
        """
        from voices_peewee.exchange.export import export

        return export(
            self.store, target, tables, form=format, overwrite=overwrite, progress=progress
        )

    def import_records(
        self,
        source: Input,
        *,
        table: str | None = None,
        dry_run: bool = False,
        on_progress: Progress | None = None,
    ) -> Imported:
        """Import records in one transaction, all or nothing, and return what was done.

        What is here already is not doubled: a speaker of the same name, a file of the same path
        and content, a run of the same id. Where such a row says something else than the input,
        ours is kept and the conflict is told. Other records get the next ids; an empty table
        takes theirs.

        Args:
            source: A path (also the folder ``~/.voices/spool``, whose files go when the runs
                are in the record), ``-`` for the standard input, an open file, several paths, or an
                iterable of mappings from column names to values.
            table: What the records are, where the input does not say so.
            dry_run: Do it all, report it and take it back.
            on_progress: Called with the bytes done and in all; 0 where that is not known.

        Returns:
            ``tables``, the counts of each, and ``conflicts`` and ``notes`` in sentences.

        Raises:
            InputError: An input cannot be read or holds bad records, of which ``problems`` has
                all; nothing was written.
            NotVoicesError: A database belongs to another application.
            DatabaseNewerError: A database has migrations that are not known here.
            QueryError: There is no such table.
        """
        from voices_peewee.exchange.merging import import_records

        return import_records(
            self.store, source, table=table, dry_run=dry_run, on_progress=on_progress
        )

    def add_manifest(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002 - what the option is called
        *,
        path_map: Roots | None = None,
        on_progress: Progress | None = None,
    ) -> AddedManifest:
        """Record what a data set's manifest names: recordings, references and speakers.

        The manifest is read whole before anything is written. A file that is there is read as
        ``add_audio`` does; of others the manifest's word is taken. Adding it again changes
        nothing. References go to ``metadata["references"]``, by speaker; the id to
        ``metadata["id"]``.

        Args:
            path: A manifest, or the folder that holds it.
            format: ``librimix``, ``speechbrain``, ``hf``, ``kaldi`` or ``lhotse``; None is told
                by the content.
            path_map: The folders that paths in it lie in here, by those they have there.
            on_progress: Called with the recordings done and in all.

        Returns:
            How many recordings were ``added``, ``updated`` and ``unchanged``, how many files are
            ``absent``, the number of new ``speakers``, and ``notes`` on what was left out.

        Raises:
            InputError: It cannot be read or told, or an entry is bad, of which ``problems`` has
                all; nothing was written.
            QueryError: There is no such format.
            AmbiguousNameError: Several speakers have a name that it has.
        """
        from voices_peewee.exchange.adding import add_manifest

        return add_manifest(self.store, path, form=format, path_map=path_map, progress=on_progress)

    def import_results(
        self,
        path: Paths,
        format: str | None = None,  # noqa: A002 - what the option is called
        *,
        model: str | tuple[str, str | None],
        operation_type: str = "voice_separation",
        manifest: str | os.PathLike[str] | None = None,
        path_map: Roots | None = None,
        higher_is_better: bool | None = None,
    ) -> ImportedResults:
        """Record what another tool measured, all or nothing.

        The numbers of a recording, or of an output, go to the latest successful run of it by the
        model, where they are not yet; without one they make a run, which began when the file was
        written. Importing them again changes nothing.

        Args:
            path: A file, a folder, or several.
            format: ``versa``, ``speechbrain``, ``tdanet``, ``asteroid``, ``dnsmos``, ``nisqa``,
                ``espnet`` or ``museval``; None is told by the content.
            model: What was measured, as ``demucs:4.0`` or a pair.
            operation_type: What it did.
            manifest: The data set's, which says what the mixtures are called.
            path_map: The folders that paths in the file lie in here, by those they have there.
            higher_is_better: The direction of metrics whose direction is not known.

        Returns:
            How many runs were ``added``, ``updated`` and ``unchanged``, and ``conflicts`` and
            ``notes`` in sentences.

        Raises:
            InputError: A file cannot be read or told, or a row is bad or about something that
                is not known, of which ``problems`` has all; nothing was written.
            QueryError: There is no such format.
            InvalidValueError: The model or the operation is empty.
            AmbiguousNameError: Several speakers have a name that it has.
        """
        from voices_peewee.exchange.results import import_results

        return import_results(
            self.store,
            path,
            form=format,
            model=model,
            operation_type=operation_type,
            manifest=manifest,
            path_map=path_map,
            higher_is_better=higher_is_better,
        )

    def delete(
        self, instance: BaseModel, *, export_to: str | os.PathLike[str] | None = None
    ) -> None:
        """Delete a record. A speaker's files stay; a file's runs and measurements go along.

        Args:
            instance: The record.
            export_to: A new file for the record, what goes along or changes, and what these
                rows refer to, as JSON lines; it is written in the transaction of the deletion.

        Raises:
            NotFoundError: The record is not in the database.
            ExportError: The file is there, cannot be written, or is named as what is no JSON
                lines; nothing was deleted.
            DatabaseFullError: The disk is full; nothing was deleted.
        """
        if export_to is None:
            self.store.delete(instance)
            return
        from voices_peewee.exchange.export import export_first
        from voices_peewee.exchange.tables import around

        delete = partial(self.store.delete, instance)
        export_first(self.store, around(instance), export_to, delete)

    def delete_run(self, run: RunKey, *, export_to: str | os.PathLike[str] | None = None) -> None:
        """Delete a run with its measurements, and the stems and voices that no other run has.

        The recording and all files on the disk stay.

        Args:
            run: An id, a run_id or its beginning, or an object that has one.
            export_to: A new file for all that goes, as JSON lines.

        Raises:
            NotFoundError: There is no such run.
            AmbiguousNameError: Several runs begin like that.
            ExportError: As for ``delete``; nothing was deleted.
            DatabaseFullError: The disk is full; nothing was deleted.
        """
        from voices_peewee.runs.recorded import drop_run, find_run_id

        with self.store.writing():
            run_id = find_run_id(self.store, run)
            if export_to is None:
                drop_run(self.store, run_id)
                return
            from voices_peewee.exchange.export import export_first
            from voices_peewee.exchange.tables import around_run

            drop = partial(drop_run, self.store, run_id)
            export_first(self.store, around_run(run_id), export_to, drop)

    def delete_speaker(
        self, speaker: SpeakerKey, *, export_to: str | os.PathLike[str] | None = None
    ) -> None:
        """Delete a speaker; the speaker's files stay, without a speaker.

        Args:
            speaker: An id, a name or an object.
            export_to: A new file for the speaker and the files, as JSON lines.

        Raises:
            NotFoundError: There is no such speaker.
            AmbiguousNameError: Several have that name.
            ExportError: As for ``delete``; nothing was deleted.
            DatabaseFullError: The disk is full; nothing was deleted.
        """
        self.delete(self.store.speaker(speaker), export_to=export_to)
