"""What a row of results is about: a run of the record, or a recording that gets one."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.exchange.manifests import Entry
from voices_peewee.exchange.result_files import Score
from voices_peewee.records.roots import Moved, PathMap
from voices_peewee.schema.exact import short
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.search.columns import read_json

_PART: Final = re.compile(r"s(pk|peaker)?_?\d+")
_path: Final[Callable[[Any], Any]] = ProcessedFile.original_path.python_value
_MANIFEST: Final = "name the manifest that has"


class Model(NamedTuple):
    """Whose results they are."""

    operation_type: str
    model_type: str
    model_version: str | None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a history row that say so."""
        return dict(zip(self._fields, self, strict=True))


@dataclass(slots=True, eq=False)
class Row:
    """A history row of a successful run by the model."""

    id: int
    run_id: str
    start: str
    parameters: str
    recording: int
    output: str | None
    speaker: str | None


class Place(NamedTuple):
    """Where numbers go: rows of a run that is here, else a recording that gets a run.

    ``of_run`` is whether they are the whole run's. ``output`` and ``speaker`` are the new run's.
    """

    rows: tuple[Row, ...] = ()
    of_run: bool = False
    recording: str = ""
    output: str | None = None
    speaker: str | None = None


class _Called:
    """Paths by what they are called: their end, with or without its suffix, or another name."""

    def __init__(self) -> None:
        self._paths: dict[str, list[str]] = {}

    def add(self, path: str, *names: str) -> None:
        base = os.path.basename(path)
        for name in {base, os.path.splitext(base)[0], *names}:
            self._paths.setdefault(name, []).append(path)

    def find(self, name: str) -> list[str]:
        if name in self._paths:
            return self._paths[name]
        base, end = os.path.basename(name), f"/{name}"
        return [
            path
            for path in self._paths.get(base, ())
            if path == name or end in (path[-len(end) :], os.path.splitext(path)[0][-len(end) :])
        ]


class Places:
    """Finds what rows of results are about."""

    def __init__(
        self, store: Store, model: Model, entries: Sequence[Entry] | None, roots: PathMap
    ) -> None:
        self._store, self._model, self._roots = store, model, roots
        self._moved, self._entries = Moved(store), entries
        file = ProcessedFile
        query = file.select(file.original_path, file.id, file.metadata.cast("TEXT"))
        query = query.where(file.recording.is_null(), file.original_path.is_null(is_null=False))
        # where several have a path, the first comes last
        rows = self._rows(query.order_by(-file.id))
        self._recordings = {_path(path): (key, metadata) for path, key, metadata in rows}
        self._runs: defaultdict[int | None, dict[str, list[Row]]] = defaultdict(dict)
        self._outputs, self._newest = _Called(), dict[str, Row]()
        for row in self._read_runs():
            self._runs[row.recording].setdefault(row.run_id, []).append(row)
            if row.output is not None:
                if row.output not in self._newest:
                    self._outputs.add(row.output)
                self._newest[row.output] = row
        self.several: set[int] = set()  # recordings with runs of different parameters

    def _rows(self, query: Any) -> list[tuple[Any, ...]]:
        with self._store.reading():
            found: list[tuple[Any, ...]]
            found = self._store.connection().execute(*query.sql()).fetchall()
            return found

    def _read_runs(self) -> Iterator[Row]:
        """Yield the rows of the model's successful runs, the newest last."""
        run, file = ProcessingHistory, ProcessedFile
        recording = pw.fn.COALESCE(file.recording, file.id)
        start = run.start_time.cast("TEXT")
        query = run.select(
            *(run.id, run.run_id, start, run.parameters.cast("TEXT"), recording),
            *(file.processed_path, Speaker.name, file.metadata.cast("TEXT")),
        )
        query = query.join_from(run, file).join_from(file, Speaker, pw.JOIN.LEFT_OUTER)
        for name, value in self._model.columns.items():
            field = run._meta.fields[name]
            query = query.where(field.is_null() if value is None else field == value)
        rows = self._rows(query.where(run.success).order_by(start, run.id))
        for key, run_id, began, parameters, file_id, path, speaker, metadata in rows:
            speaker = speaker or _told(metadata, "speaker") or None
            yield Row(key, run_id, began, parameters, file_id, _path(path), speaker)

    @cached_property
    def _names(self) -> _Called:
        """The paths of recordings by what they are called; a manifest alone says it where given."""
        names = _Called()
        if self._entries is not None:
            called = [(entry.path, entry.name) for entry in self._entries]
        else:
            told = self._recordings.items()
            called = [(path, _told(metadata, "id")) for path, (_, metadata) in told]
        for path, name in called:
            folder, base = os.path.split(path)
            stem = os.path.splitext(base)[0]
            # MUSDB names its mixtures by their folder, or as song.stem.mp4
            title = os.path.basename(folder) if stem == "mixture" else base
            names.add(path, stem.removesuffix(".stem"), title, name or base)
        return names

    def find(self, score: Score) -> Place:
        """Return where a score's numbers go.

        Raises:
            LookupError: It cannot be told; the message says why.
        """
        output = self._roots(score.output)
        if output and (paths := self._outputs.find(output)):
            if len(paths) > 1:
                raise LookupError(f"several outputs of {self._label} are called {short(output)}")
            return Place((self._newest[paths[0]],))
        path, speaker = self._recording(score, output)
        rows = self._latest(self._recordings.get(path, (None,))[0])
        if not rows:
            place = output if _is_whole(output) else None
            return Place(recording=path, output=place, speaker=speaker or None)
        named = tuple(row for row in rows if row.speaker == speaker) if speaker else rows
        if not named or (score.output and not speaker and len(rows) > 1):
            part = f"of {short(speaker)}" if speaker else f"called {short(score.output)}"
            raise LookupError(f"the run of {self._label} on {short(path)} has no output {part}")
        return Place(named, of_run=not speaker and not score.output)

    def _recording(self, score: Score, output: str) -> tuple[str, str]:
        """Return the path of a score's mixture, and the speaker whose part of it this is."""
        if score.mixture:
            path = self._roots(score.mixture)
            if not _is_whole(path):
                path = self._only(self._names.find(path), score.mixture)
            return path if path in self._recordings else self._moved.find(path), score.speaker
        for name, speaker in _parts(output):
            if paths := self._names.find(name):
                path = self._only(paths, name)
                return path if path in self._recordings else self._moved.find(path), speaker
        raise LookupError(
            f"no output of {self._label} and no recording is called {short(score.output)}; "
            f"{_MANIFEST} its mixture"
        )

    def _only(self, paths: Sequence[str], name: str) -> str:
        if len(paths) != 1:
            which = "several recordings are" if paths else "no recording is"
            raise LookupError(f"{which} called {short(name)}; {_MANIFEST} it")
        return paths[0]

    def _latest(self, recording: int | None) -> tuple[Row, ...]:
        """Return the rows of the latest run of a recording."""
        runs: list[list[Row]] = [*self._runs.get(recording, {}).values()]
        if len({run[0].parameters for run in runs}) > 1:
            self.several.add(runs[0][0].recording)
        latest = max(runs, key=lambda run: (run[-1].start, run[-1].id)) if runs else ()
        return tuple(latest)

    @property
    def _label(self) -> str:
        return ":".join(filter(None, self._model[1:]))


def _told(metadata: str | None, name: str) -> str:
    """Return a text in a file's metadata; nothing where there is none."""
    known = read_json(metadata) if metadata and f'"{name}"' in metadata else None
    return str(known.get(name) or "") if isinstance(known, dict) else ""


def _is_whole(path: str) -> bool:
    return os.path.isabs(path) or "://" in path


def _parts(output: str) -> Iterator[tuple[str, str]]:
    """Yield what an estimate's mixture and speaker may be: ``s1/mix_1``, ``mix_1_s1``."""
    path = Path(output)
    yield path.stem, path.parent.name if _PART.fullmatch(path.parent.name) else ""
    for place in range(len(path.stem) - 2, 0, -1):
        if path.stem[place] == "_":
            yield path.stem[:place], path.stem[place + 1 :]
