"""Manifests of data sets: what LibriMix, SpeechBrain, Hugging Face, Kaldi and Lhotse write."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.errors import InputError, QueryError
from voices_peewee.exchange.texts import (
    Record,
    Refused,
    csv_records,
    header,
    json_records,
    number,
    text_of,
    whole_object,
)
from voices_peewee.records.roots import PathMap
from voices_peewee.schema.exact import short
from voices_peewee.schema.fields import plain_object

_RATE: Final = re.compile(r"/wav(\d+)k/")
_SOURCE: Final = re.compile(r"source_\d+_path")
_LIBRISPEECH: Final = re.compile(r"([^-_]+)-[^-_]+-[^-_]+")  # speaker-chapter-utterance
_ARCHIVE: Final = re.compile(r"\.ark(:\d+)?$")
_PLACEHOLDER: Final = re.compile(r"\$\w+|\{\w+\}")
_FOLDER_FILES: Final = ("wav.scp", "metadata.csv", "metadata.jsonl")


class Layout(NamedTuple):
    """What the columns of a format are.

    ``path`` names the recording (the first that is there counts), ``reference`` is the pattern of
    those with a speaker's clean signal, ``facts`` are duration (s) or samples, rate (Hz) and
    channels; where ``rest``, what is left is kept as metadata.
    """

    path: tuple[str, ...]
    name: str
    reference: str
    noise: str = ""
    speaker: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    rest: bool = False


_HF_PATHS: Final = tuple(f"{one}file_name" for one in ("", "mixture_", "mix_", "audio_", "noisy_"))
_LAYOUTS: Final = {
    "librimix": Layout(
        *(("mixture_path",), "mixture_ID", r"reference (.+)", "noise_path"),
        facts=(("samples", "length"), ("sample_rate", "rate")),
    ),
    "speechbrain": Layout(
        *(("mix_wav", "wav"), "ID", r"(s\d+)_wav", "noise_wav", "spk_id"),
        facts=(("duration", "duration"),),
    ),
    "hf": Layout(_HF_PATHS, "", r"(.+)_file_name", "noise_file_name", rest=True),
    "kaldi": Layout(
        *(("wav",), "id", r"(spk\d+)", "noise1", "utt2spk"),
        facts=(("duration", "utt2dur"),),
    ),
    "lhotse": Layout(
        *(("source",), "id", "(?!)", "", "speaker"),
        facts=(
            ("duration", "duration"),
            ("sample_rate", "sampling_rate"),
            ("channels", "channels"),
        ),
    ),
}
FORMATS: Final = (*_LAYOUTS,)


@dataclass(slots=True)
class Entry:
    """One recording of a manifest.

    ``name`` is its id there, ``facts`` its duration (s), rate (Hz) and channels as far as they
    are told, ``references`` the path of each speaker's clean signal.
    """

    place: str
    name: str
    path: str
    facts: dict[str, Any] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    speaker: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, Any]:
        """What a recording's row keeps of it."""
        told = {"id": self.name, "references": self.references, **self.more}
        return plain_object("metadata", {name: value for name, value in told.items() if value})


@dataclass(slots=True)
class Manifest:
    """A manifest as it was read: every entry is sound, or none is there."""

    format: str
    entries: list[Entry]
    notes: list[str]


class Reading(NamedTuple):
    """What the readers of all formats need: the text, and what becomes of the rest."""

    path: Path
    text: str
    refused: Refused
    skipped: Counter[str]

    def records(self) -> Iterator[Record]:
        """Yield the records of a CSV or of JSON lines."""
        is_json = self.text.lstrip().startswith("{")
        return (json_records if is_json else csv_records)(self.path, self.text, self.refused)


def read_manifest(path: str | os.PathLike[str], form: str | None, paths: PathMap) -> Manifest:
    """Read a manifest whole.

    Args:
        path: A file, or the folder that holds it.
        form: One of ``FORMATS``; None is told by the content.
        paths: Where the folders of its paths are here.

    Raises:
        InputError: It cannot be read or told, or an entry is not sound.
        QueryError: There is no such format.
    """
    if form is not None and form not in FORMATS:
        raise QueryError.unknown_field(form, FORMATS, "format")
    place = _file_of(Path(path))
    reading = Reading(place, text_of(place), Refused(), Counter())
    form = form or _told(place, reading.text)
    here = Here(place.parent, paths, upwards=form != "hf")
    entries: dict[str, Entry] = {}
    for record in _RECORDS[form](reading):
        try:
            entry = _entry(_LAYOUTS[form], record, here)
        except InputError as error:
            reading.refused.add(place, error.reason, record.place, error.column)
            continue
        if entries.setdefault(entry.path, entry) is not entry:
            reason = f"{entries[entry.path].place} has the path {entry.path!r} as well"
            reading.refused.add(place, reason, record.place)
    reading.refused.end()
    notes = [f"{count:,} left out: {reason}" for reason, count in reading.skipped.items()]
    if not entries and not notes:
        raise InputError(place, f"it has no entry, as a manifest of the format {form} has")
    return Manifest(form, list(entries.values()), notes)


def _file_of(path: Path) -> Path:
    """Return the file that a folder's manifest is."""
    if not path.is_dir():
        return path
    for name in _FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise InputError(path, "the folder has neither wav.scp nor metadata.csv nor metadata.jsonl")


def _told(path: Path, text: str) -> str:
    """Return the format of a manifest, as its content tells."""
    whole = whole_object(path, text.lstrip().partition("\n")[0]) or whole_object(path, text)
    inner = next(iter(whole.values()), None)
    columns = {*(whole or header(text))}
    if isinstance(inner, dict) and {"wav", "mix_wav"} & inner.keys():
        return "speechbrain"
    marks = {
        "librimix": "mixture_path" in columns,
        "speechbrain": "ID" in columns and bool({"wav", "mix_wav"} & columns),
        "hf": any(name.endswith(("file_name", "file_names")) for name in columns),
        "lhotse": bool({"sources", "recording", "tracks", "recording_id"} & columns),
        "kaldi": path.suffix == ".scp",
    }
    for form, is_so in marks.items():
        if is_so:
            return form
    raise InputError(path, f"its format cannot be told; name it: {', '.join(FORMATS)}")


class Here:
    """Finds where a manifest's paths are: mapped, or looked for from its folder upwards."""

    def __init__(self, folder: Path, paths: PathMap, *, upwards: bool) -> None:
        folder = folder.absolute()
        self._bases = [folder, *folder.parents, Path.cwd()] if upwards else [folder]
        self._paths = paths
        self._folders: dict[str, list[str]] = {}

    def find(self, path: str) -> str:
        """Return the absolute path; of a relative one that is nowhere, below the folder."""
        path = self._paths(path.strip())
        if "://" in path:
            return path
        folder, name = os.path.split(path)
        if folder not in self._folders:  # most of a manifest's paths are in a few folders
            first, *others = dict.fromkeys(os.path.normpath(base / folder) for base in self._bases)
            places = [first, *filter(os.path.isdir, others)]
            self._folders[folder] = [place.rstrip("/") for place in places]
        first, *others = [f"{place}/{name}" for place in self._folders[folder]]
        if name in ("", ".", ".."):
            return os.path.normpath(first)
        if not others or os.path.lexists(first):
            return first
        return next(filter(os.path.lexists, others), first)


def _entry(layout: Layout, record: Record, here: Here) -> Entry:
    """Return the entry of a record.

    Raises:
        InputError: It names no file, or a number is none.
    """
    values = {name: value for name, value in record.values.items() if value not in (None, "")}
    path = str(values.pop(next((name for name in layout.path if name in values), ""), ""))
    if not path:
        raise InputError("", "it names no file")
    name = values.pop(layout.name) if layout.name in values else Path(path).stem
    entry = Entry(record.place, str(name), here.find(path))
    found = _PLACEHOLDER.search(entry.path)
    if found and not os.path.lexists(entry.path):
        reason = f"{found[0]!r} stands for a folder; name it: --path-map '{found[0]}=FOLDER'"
        raise InputError("", reason)
    entry.facts = _facts({name: values.pop(column, None) for name, column in layout.facts}, layout)
    for name, value in values.items():
        speaker = _speaker_of(layout.reference, name)
        if name == layout.noise:
            entry.more["noise"] = here.find(str(value))
        elif speaker:
            entry.references[speaker] = here.find(str(value))
        elif layout.rest and name.endswith("file_names") and isinstance(value, list):
            paths = (here.find(str(one)) for one in value)
            entry.references |= {f"s{count}": one for count, one in enumerate(paths, 1)}
        elif layout.rest or name == "speakers":
            entry.more[name] = value
    if not entry.references and layout.speaker in values:
        entry.speaker = str(values[layout.speaker])
    return entry


@lru_cache(maxsize=4096)
def _speaker_of(pattern: str, column: str) -> str | None:
    """Return whose clean signal a column has."""
    found = re.fullmatch(pattern, column)
    return found and found[1]


def _facts(told: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Return what is told of a recording: duration (s), rate (Hz) and channels."""
    facts: dict[str, Any] = {}
    for name, column in layout.facts:
        try:
            measured = number(told[name])
        except ValueError as error:
            raise InputError("", str(error), column=column) from error
        if measured is None:
            continue
        if not (math.isfinite(measured) and measured >= 0):
            reason = f"{short(told[name])} is not a finite number of 0 or more"
            raise InputError("", reason, column=column)
        facts[name] = measured if name == "duration" else int(measured)
    samples, rate = facts.pop("samples", None), facts.get("sample_rate")
    return facts | ({"duration": samples / rate} if samples is not None and rate else {})


def _librimix(reading: Reading) -> Iterator[Record]:
    """Yield the rows with the folder's rate, and the references by whose they are."""
    for place, values in csv_records(reading.path, reading.text, reading.refused):
        rate = _RATE.search(values.get("mixture_path", ""))
        sources = [one for name, one in values.items() if one and _SOURCE.fullmatch(name)]
        speakers = _librispeech_speakers(values.get("mixture_ID", ""), len(sources))
        named = {f"reference {name}": one for name, one in zip(speakers, sources, strict=True)}
        yield Record(place, {**values, **named, "rate": int(rate[1]) * 1000 if rate else None})


def _librispeech_speakers(name: str, count: int) -> list[str]:
    """Return whose utterances a mixture's id joins, else s1, s2 and so on."""
    parts = [_LIBRISPEECH.fullmatch(part) for part in name.split("_")]
    speakers = [part[1] for part in parts if part]
    if len(speakers) == len(parts) == count == len({*speakers}):
        return speakers
    return [f"s{number}" for number in range(1, count + 1)]


def _speechbrain(reading: Reading) -> Iterator[Record]:
    """Yield the rows of a CSV, or the entries of an object by id."""
    records: list[Record] = []
    for name, values in whole_object(reading.path, reading.text).items():
        if isinstance(values, dict):
            records.append(Record(f"entry {name!r}", {**values, "ID": name}))
        else:
            reading.refused.add(reading.path, "it is not a JSON object", f"entry {name!r}")
    records = records or list(reading.records())
    if all(one.values.get("duration") in ("1.0", "1", 1) for one in records):
        for one in records:
            del one.values["duration"]  # a placeholder in the recipes
    yield from records


def _kaldi(reading: Reading) -> Iterator[Record]:
    folder = reading.path.parent
    files = [*folder.glob("spk[0-9]*.scp"), folder / "noise1.scp"]
    files += [folder / "utt2dur", folder / "utt2spk"]
    tables = {path.stem: _table(path) for path in sorted(files) if path.is_file()}
    for count, line in enumerate(reading.text.split("\n"), 1):
        name, path = _split(line)
        if path.endswith("|"):
            reading.skipped["a command, which is not run"] += 1
        elif _ARCHIVE.search(path):
            reading.skipped["a place in an archive"] += 1
        elif name:
            told = {part: table.get(name) for part, table in tables.items()}
            yield Record(f"line {count}", {**told, "id": name, "wav": path})


def _table(path: Path) -> dict[str, str]:
    """Return a file of an id and a value a line."""
    return dict(map(_split, text_of(path).splitlines()))


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.strip().replace("\t", " ").partition(" ")
    return name, value.strip()


def _lhotse(reading: Reading) -> Iterator[Record]:
    """Yield recordings, or those of cuts with who speaks in them."""
    for place, values in reading.records():
        if "recording_id" in values:
            raise InputError(reading.path, "supervisions name no files; give recordings or cuts")
        try:
            recording = values.get("recording", values)
            sources = recording.get("sources")
            if not isinstance(sources, list):
                reading.skipped["a cut that is mixed on the fly, and no file"] += 1
            elif [one.get("type") for one in sources] != ["file"]:
                reading.skipped["a recording that is no single file"] += 1
            else:
                yield Record(place, {**recording, **_of_lhotse(values, recording)})
        except (AttributeError, TypeError, KeyError):
            reading.refused.add(reading.path, "it is no recording and no cut", place)


def _of_lhotse(values: dict[str, Any], recording: dict[str, Any]) -> dict[str, Any]:
    """Return where a recording is, and who speaks in it."""
    voices = values.get("supervisions") or ()
    names = list(dict.fromkeys(str(one["speaker"]) for one in voices if one.get("speaker")))
    return {
        "source": recording["sources"][0].get("source"),
        "channels": len(recording.get("channel_ids") or ()) or None,
        "speaker": names[0] if len(names) == 1 else None,
        "speakers": names if len(names) > 1 else None,
    }


_RECORDS: Final[dict[str, Callable[[Reading], Iterator[Record]]]] = {
    "librimix": _librimix,
    "speechbrain": _speechbrain,
    "hf": Reading.records,
    "kaldi": _kaldi,
    "lhotse": _lhotse,
}
