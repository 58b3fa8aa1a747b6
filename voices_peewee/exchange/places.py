"""What a row of results is about: a run of the record, or a recording that gets one."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.exchange.manifests import Entry
from voices_peewee.exchange.result_files import Score
from voices_peewee.records.roots import Moved, PathMap
from voices_peewee.schema.fields import short
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.search.columns import read_json

_PART: Final = re.compile(r"s(pk|peaker)?_?\d+")
_PATH: Final = ProcessedFile.original_path


@dataclass(frozen=True)
class Model:
    """Whose results they are."""

    operation_type: str
    model_type: str
    model_version: str | None


class Row(NamedTuple):
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


class Places:
    """Finds what rows of results are about."""

    def __init__(
        self, store: Store, model: Model, entries: Sequence[Entry] | None, roots: PathMap
    ) -> None:
        self._store, self._model, self._roots = store, model, roots
        self._moved, self._entries = Moved(store), entries
        self._recordings = self._read_recordings()
        self._paths = {path: key for path, key, _ in self._recordings}
        self._runs: defaultdict[int, defaultdict[str, list[Row]]]
        self._runs = defaultdict(lambda: defaultdict(list))
        self._outputs: defaultdict[str, dict[str, Row]] = defaultdict(dict)
        self._read_runs()
        self.several: set[int] = set()  # recordings with runs of different parameters

    def _read_recordings(self) -> list[tuple[str, int, str]]:
        """Return path, id and metadata of recordings; where several have a path, the first last."""
        file = ProcessedFile
        query = file.select(_PATH, file.id, file.metadata.cast("TEXT"))
        query = query.where(file.recording.is_null(), _PATH.is_null(is_null=False))
        return [(_readable(path), *rest) for path, *rest in self._rows(query.order_by(-file.id))]

    def _rows(self, query: Any) -> list[tuple[Any, ...]]:
        with self._store.reading():
            found: list[tuple[Any, ...]] = self._store.connection().execute(*query.sql()).fetchall()
            return found

    @cached_property
    def _names(self) -> dict[str, dict[str, None]]:
        """The paths of recordings by what they are called; a manifest alone says it where given."""
        names: defaultdict[str, dict[str, None]] = defaultdict(dict)
        if self._entries is not None:
            called = [(entry.path, entry.name) for entry in self._entries]
        else:
            called = [(path, _id_in(metadata)) for path, _, metadata in self._recordings]
        for path, name in called:
            folder, base = os.path.split(path)
            stem = os.path.splitext(base)[0]  # noqa: PTH122
            # MUSDB names its mixtures by their folder, or as song.stem.mp4
            title = os.path.basename(folder) if stem == "mixture" else base  # noqa: PTH119
            for one in (base, stem, stem.removesuffix(".stem"), title, name or base):
                names[one][path] = None
        return dict(names)

    def _read_runs(self) -> None:
        run, file = ProcessingHistory, ProcessedFile
        recording = pw.fn.COALESCE(file.recording, file.id)
        query = run.select(
            *(run.id, run.run_id, run.start_time.cast("TEXT"), run.parameters.cast("TEXT")),
            *(recording, file.processed_path, Speaker.name, file.metadata.cast("TEXT")),
        )
        query = query.join_from(run, file).join_from(file, Speaker, pw.JOIN.LEFT_OUTER)
        for name, value in asdict(self._model).items():
            field = run._meta.fields[name]
            query = query.where(field.is_null() if value is None else field == value)
        for key, name, start, parameters, file_id, path, speaker, metadata in self._rows(
            query.where(run.success)
        ):
            if speaker is None and '"speaker"' in str(metadata):
                known = read_json(metadata)
                speaker = known.get("speaker") if isinstance(known, dict) else None
            output = None if path is None else _readable(path)
            row = Row(key, name, start, parameters, file_id, output, speaker)
            self._runs[row.recording][row.run_id].append(row)
            if output is not None:
                self._note_output(output, row)

    def _note_output(self, path: str, row: Row) -> None:
        base = os.path.basename(path)  # noqa: PTH119
        for name in {base, os.path.splitext(base)[0]}:  # noqa: PTH122
            known = self._outputs[name].setdefault(path, row)
            if (known.start, known.id) < (row.start, row.id):
                self._outputs[name][path] = row

    def find(self, score: Score) -> Place:
        """Return where a score's numbers go.

        Raises:
            LookupError: It cannot be told; the message says why.
        """
        output = self._roots(score.output)
        if output and (row := self._output(output)):
            return Place((row,), of_run=False)
        path, speaker = self._recording(score, output)
        key = self._paths.get(path)
        rows = () if key is None else self._latest(key)
        if not rows:
            place = output if _is_whole(output) else None
            return Place(recording=path, output=place, speaker=speaker or None)
        named = tuple(row for row in rows if row.speaker == speaker) if speaker else rows
        if not named or (score.output and not speaker and len(rows) > 1):
            part = f"of {short(speaker)}" if speaker else f"called {short(score.output)}"
            raise LookupError(f"the run of {self._label} on {short(path)} has no output {part}")
        return Place(named, of_run=not speaker and not score.output)

    def _output(self, name: str) -> Row | None:
        """Return the newest row of an output: of a path, or of the last parts of one."""
        known = self._outputs.get(os.path.basename(name), {})  # noqa: PTH119
        if _is_whole(name):
            return known.get(name)
        end = f"/{name}"
        found = {
            path: row
            for path, row in known.items()
            if path.endswith(end) or os.path.splitext(path)[0].endswith(end)  # noqa: PTH122
        }
        if len(found) > 1:
            raise LookupError(f"several outputs of {self._label} are called {short(name)}")
        return next(iter(found.values()), None)

    def _recording(self, score: Score, output: str) -> tuple[str, str]:
        """Return the path of a score's mixture, and the speaker whose part of it this is."""
        if score.mixture:
            return self._mixture(score.mixture), score.speaker
        for name, speaker in _parts(output):
            if name in self._names:
                return self._one(name), speaker
        raise LookupError(
            f"no output of {self._label} and no recording is called {short(score.output)}; "
            "name the manifest that has its mixture"
        )

    def _mixture(self, name: str) -> str:
        path = self._roots(name)
        if _is_whole(path):
            return path if path in self._paths else self._moved.find(path)
        base = os.path.basename(path)  # noqa: PTH119
        known = self._names.get(path) or {
            one: None for one in self._names.get(base, ()) if one.endswith(f"/{path}")
        }
        if not known:
            raise LookupError(
                f"no recording is called {short(name)}; name the manifest that has it"
            )
        return self._one(path, known)

    def _one(self, name: str, known: Iterable[str] | None = None) -> str:
        first, *others = self._names[name] if known is None else known
        if others:
            raise LookupError(
                f"several recordings are called {short(name)}; name the manifest that has it"
            )
        return first if first in self._paths else self._moved.find(first)

    def _latest(self, recording: int) -> tuple[Row, ...]:
        """Return the rows of the latest run of a recording."""
        runs = list(self._runs.get(recording, {}).values())
        if len({run[0].parameters for run in runs}) > 1:
            self.several.add(recording)
        return tuple(max(runs, key=lambda run: max((row.start, row.id) for row in run), default=()))

    @property
    def _label(self) -> str:
        return ":".join(filter(None, (self._model.model_type, self._model.model_version)))


def _readable(path: str) -> str:
    return path if path.isascii() else str(_PATH.python_value(path))


def _id_in(metadata: str) -> str:
    """Return a recording's id in its manifest."""
    known = read_json(metadata) if '"id"' in metadata else None
    return str(known.get("id") or "") if isinstance(known, dict) else ""


def _is_whole(path: str) -> bool:
    return os.path.isabs(path) or "://" in path  # noqa: PTH117


def _parts(output: str) -> Iterator[tuple[str, str]]:
    """Yield what an estimate's mixture and speaker may be: ``s1/mix_1``, ``mix_1_s1``."""
    path = Path(output)
    yield path.stem, path.parent.name if _PART.fullmatch(path.parent.name) else ""
    for place in range(len(path.stem) - 2, 0, -1):
        if path.stem[place] == "_":
            yield path.stem[:place], path.stem[place + 1 :]
