"""What a row of results is about: a run of the record, or a recording that gets one."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.database.query import mapper
from voices_peewee.database.store import Store
from voices_peewee.exchange.manifests import Entry
from voices_peewee.exchange.result_files import Score
from voices_peewee.records.audio_files import AUDIO_SUFFIXES
from voices_peewee.schema.exact import short
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory
from voices_peewee.search.columns import read_json

# Where several recordings have a path, the first comes last.
_RECORDINGS: Final = """SELECT original_path, id, CAST(metadata AS text) FROM processed_files
 WHERE recording_id IS NULL AND original_path IS NOT NULL ORDER BY id DESC"""
# Of the model's successful runs, the newest last.
_RUNS: Final = """SELECT run.id, run.run_id, CAST(run.start_time AS text),
 CAST(run.parameters AS text), coalesce(file.recording_id, file.id), file.processed_path,
 speaker.name, CAST(file.metadata AS text)
 FROM processing_history AS run JOIN processed_files AS file ON file.id = run.processed_file_id
 LEFT JOIN speakers AS speaker ON speaker.id = file.speaker_id
 WHERE run.success AND run.operation_type = ? AND run.model_type = ?
 AND coalesce(run.model_version, '') = ? ORDER BY run.start_time, run.id"""
_OUTPUTS: Final = """SELECT file.processed_path,
 run.operation_type, run.model_type, coalesce(run.model_version, '')
 FROM processed_files AS file JOIN processing_history AS run ON run.processed_file_id = file.id"""
# Of those who wrote a file the last that succeeded, else the last.
_OWNER: Final = f"""{_OUTPUTS} WHERE file.processed_path = ?
 ORDER BY run.success DESC, run.start_time DESC LIMIT 1"""
_MANIFEST: Final = "name the manifest that has it"
_PART: Final = re.compile(r"s(pk|peaker)?_?\d+")
_UPWARDS: Final = re.compile(r"^(\.\.?/+)+")  # DNSMOS writes ../stems/1.wav, as it was told
_Called = defaultdict[str, list[str]]
_path: Final[Callable[[Any], Any]] = ProcessedFile.original_path.python_value


class Row(NamedTuple):
    """A history row of a successful run by the model; texts are as they are stored."""

    id: int
    run_id: str
    start: str
    parameters: str
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
        self,
        store: Store,
        model: Mapping[str, str | None],
        entries: Sequence[Entry] | None,
        moved: Callable[[str], str],
    ) -> None:
        _, *named = model.values()
        self._store, self._label = store, ":".join(filter(None, named))
        self._moved, self._entries, self._whose = moved, entries, model
        self._runs: defaultdict[int | None, dict[str, list[Row]]] = defaultdict(dict)
        self._outputs, self._newest = _Called(list), dict[str, Place]()
        self._parts: dict[tuple[str, str], Place] = {}  # new outputs by recording and speaker
        self.several: set[int | None] = set()  # recordings with runs of different parameters
        self._named: set[str] = set()  # outputs that no run of the model has, by their names
        self._model = [value or "" for value in mapper(ProcessingHistory).values(**model)]
        with store.reading():
            recordings = store.connection().execute(_RECORDINGS).fetchall()
            runs = store.connection().execute(_RUNS, self._model).fetchall()
        self.recordings = {_path(path): (key, metadata) for path, key, metadata in recordings}
        for key, run_id, start, settings, recording, output, speaker, metadata in runs:
            whose = speaker or _told(metadata, "speaker") or None
            row, its = Row(key, run_id, start, settings, whose), self._runs[recording]
            its[row.run_id] = [*its.pop(row.run_id, ()), row]  # the latest is the last
            if output is not None:
                if (path := _path(output)) not in self._newest:
                    _call(self._outputs, path)
                self._newest[path] = Place((row,))

    @cached_property
    def _names(self) -> _Called:
        """The paths of recordings by what they are called; a manifest alone says it where given."""
        names, told = _Called(list), self.recordings.items()
        called = ((path, _told(metadata, "id")) for path, (_, metadata) in told)
        if self._entries is not None:
            called = ((entry.path, str(entry.metadata["id"])) for entry in self._entries)
        for path, name in called:
            folder, base = os.path.split(path)
            stem = os.path.splitext(base)[0]
            # MUSDB names its mixtures by their folder, or as song.stem.mp4
            title = os.path.basename(folder) if stem == "mixture" else base
            _call(names, path, stem.removesuffix(".stem"), title, name or base)
        return names

    def find(self, score: Score) -> Place:
        """Return where a score's numbers go.

        Raises:
            LookupError: It cannot be told; the message says why.
        """
        output = os.path.normpath(score.output) if os.path.isabs(score.output) else score.output
        if output and (paths := _find(self._outputs, output)):
            if len(paths) > 1:
                raise LookupError(f"several outputs of {self._label} are called {short(output)}")
            return self._newest[paths[0]]
        if is_whole(output) and (owner := self._owner(output)):
            raise LookupError(f"{short(output)} is an output of {owner}, not of {self._label}")
        self._named |= {output} - {""} if not is_whole(output) else set()
        path, speaker = self._mixture(score)
        recording = self.recordings.get(path, (None,))[0]
        runs = self._runs.get(recording, {})
        if not runs:
            return self._new(path, output, speaker)
        if len({rows[0].parameters for rows in runs.values()}) > 1:
            self.several.add(recording)
        *_, rows = runs.values()
        named = tuple(row for row in rows if speaker in ("", row.speaker))
        if not named or (output and not speaker and len(rows) > 1):
            part = f"of {short(speaker)}" if speaker else f"called {short(output)}"
            reason = f"the run of {self._label} on {short(path)} has no output {part}"
            if (made := rows[0].run_id) == run_id_of(self._whose, path):
                reason += f"; results made it: 'voices delete-run {made}', then import all at once"
            raise LookupError(reason)
        return Place(named, of_run=not speaker and not output)

    def _owner(self, output: str) -> str:
        """Return by what the latest run was that wrote an output; nothing where none did."""
        with self._store.reading():
            asked = (ProcessedFile.processed_path.db_value(output),)
            row = self._store.connection().execute(_OWNER, asked).fetchone()
        return self._other(row[1:]) if row else ""

    def _other(self, writer: Sequence[str]) -> str:
        """Return another model, or this one in another operation; nothing for this one."""
        operation, *model = (str(one or "") for one in writer)  # another program may write bytes
        label = ":".join(filter(None, model)) or operation
        if label == self._label:
            return "" if [operation, *model] == self._model else f"{label} in {operation}"
        return label

    def doubts(self) -> Iterator[str]:
        """Say where outputs that were no run's of the model are called as those of others are."""
        wanted, others, whose = set(map(os.path.basename, self._named)), _Called(list), {}
        with self._store.reading():
            written = self._store.connection().execute(_OUTPUTS) if wanted else ()
            for output, *writer in written:
                names = (base := os.path.basename(output or ""), os.path.splitext(base)[0])
                if not wanted.isdisjoint(names) and (other := self._other(writer)):
                    path = _path(output)
                    _call(others, path)
                    whose[path] = other
        found = [paths for name in self._named if (paths := _find(others, name))]
        if models := sorted({whose[path] for path in chain(*found)}):
            asked = f"{len(found):,}; are the values {self._label}'s own?"
            yield f"outputs that are called as some of {', '.join(models)} are: {asked}"

    def _new(self, path: str, output: str, speaker: str) -> Place:
        """Return the place in a new run; what names its outputs otherwise later finds them."""
        if output == path:
            raise LookupError(f"{short(path)} is the recording itself, no output of it")
        if not is_whole(output):
            new = Place((), not speaker, path, None, speaker or None)
            return self._parts.get((path, speaker), new) if speaker else new
        new = self._newest[output] = Place((), False, path, output, speaker or None)
        _call(self._outputs, output)
        self._parts.setdefault((path, speaker), new)
        return new

    def _mixture(self, score: Score) -> tuple[str, str]:
        """Return the path of a score's mixture, and the speaker whose part of it this is."""
        named = [(score.mixture, score.speaker)] if score.mixture else _parts(score.output)
        for name, speaker in named:
            paths = [name] if is_whole(name) else _find(self._names, name)
            if len(paths) > 1:
                raise LookupError(f"several recordings are called {short(name)}; {_MANIFEST}")
            for path in paths:
                return path if path in self.recordings else self._moved(path), speaker
        nothing = "" if score.mixture else f"no output of {self._label} and "
        name = short(score.mixture or score.output)
        raise LookupError(f"{nothing}no recording is called {name}; {_MANIFEST}")


def run_id_of(model: Mapping[str, str | None], recording: str) -> str:
    """Return the id of the run that results make of a recording, the same on every machine."""
    name = "\0".join(("results", *map(str, model.values()), recording))
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _call(called: _Called, path: str, *names: str) -> None:
    """Take note of what a path is called: its end, with or without suffix, or another name."""
    base = os.path.basename(path)
    for name in {base, os.path.splitext(base)[0], *names}:
        called[name].append(path)


def _find(called: _Called, name: str) -> list[str]:
    """Return the paths that are called like that, or end like that."""
    if name in called:
        return called[name]
    paths = called.get(os.path.basename(name), ())
    end = f"/{_UPWARDS.sub('', name)}"
    stems = ((path, os.path.splitext(path)[0]) for path in paths)
    return [path for path, stem in stems if f"/{path}".endswith(end) or stem.endswith(end)]


def _told(metadata: str | None, name: str) -> str:
    """Return a text in a file's metadata; nothing where there is none."""
    known = read_json(metadata) if metadata and f'"{name}"' in metadata else None
    return str(known.get(name) or "") if isinstance(known, dict) else ""


def is_whole(path: str) -> bool:
    """Whether a path is from the root, or an address."""
    return os.path.isabs(path) or "://" in path


def _parts(output: str) -> Iterator[tuple[str, str]]:
    """Yield what an estimate's mixture and speaker may be: ``s1/mix_1``, ``mix_1_s1``."""
    path = Path(output)
    # 050a0501_1.7783_442o030z_-1.7783_s1 of WSJ0-mix, an id, has no suffix.
    stem = path.stem if path.suffix.lower() in AUDIO_SUFFIXES else path.name
    yield stem, path.parent.name if _PART.fullmatch(path.parent.name) else ""
    for place in range(len(stem) - 2, 0, -1):
        if stem[place] == "_":
            yield stem[:place], stem[place + 1 :]
