"""Manifests of data sets: what LibriMix, SpeechBrain, Hugging Face, Kaldi and Lhotse write."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.errors import InputError, QueryError
from voices_peewee.exchange.foreign import (
    Record,
    Refused,
    csv_records,
    header,
    json_records,
    measure,
    parsed,
    text_of,
)
from voices_peewee.records.roots import PathMap

FORMATS: Final = ("librimix", "speechbrain", "hf", "kaldi", "lhotse")

_RATE: Final = re.compile(r"/wav(\d+)k/")
_LIBRISPEECH: Final = re.compile(r"([^-_]+)-[^-_]+-[^-_]+")  # speaker-chapter-utterance
_MIXTURE_COLUMNS: Final = (
    "file_name",
    "mixture_file_name",
    "mix_file_name",
    "audio_file_name",
    "noisy_file_name",
)
_ARCHIVE: Final = re.compile(r"\.ark(:\d+)?$")
_PLACEHOLDER: Final = re.compile(r"\$\w+|\{\w+\}")
_HF_FILES: Final = ("metadata.csv", "metadata.jsonl")


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
        return {name: value for name, value in told.items() if value}


@dataclass(slots=True)
class Manifest:
    """A manifest as it was read: every entry is sound, or none is there."""

    label: str
    format: str
    entries: list[Entry]
    notes: list[str]


class Reading(NamedTuple):
    """What the readers of all formats need: the text, and what to do with paths and faults."""

    path: Path
    text: str
    refused: Refused
    skipped: dict[str, int]
    here: Callable[[str], str]

    def skip(self, reason: str) -> None:
        """Count what is no recording of a file."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def csv(self) -> Iterator[Record]:
        """Yield the records of a CSV."""
        return csv_records(self.path, self.text, self.refused)

    def records(self) -> Iterator[Record]:
        """Yield the records of a CSV or of JSON lines."""
        is_json = self.text.lstrip().startswith("{")
        return json_records(self.path, self.text, self.refused) if is_json else self.csv()


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
    text, refused, skipped = text_of(place), Refused(), dict[str, int]()
    form = form or _told(place, text)
    here = Here(place.parent, paths, upwards=form != "hf")
    reading = Reading(place, text, refused, skipped, here.find)
    entries: dict[str, Entry] = {}
    for entry in _READERS[form](reading):
        if entry is not None and _sound(entry, reading) and entry.path in entries:
            reason = f"{entries[entry.path].place} has the path {entry.path!r} as well"
            refused.add(place, reason, entry.place)
        elif entry is not None:
            entries[entry.path] = entry
    refused.end()
    notes = [f"{count:,} left out: {reason}" for reason, count in skipped.items()]
    if not entries and not notes:
        raise InputError(place, f"it has no entry, as a manifest of the format {form} has")
    return Manifest(str(place), form, list(entries.values()), notes)


def _file_of(path: Path) -> Path:
    """Return the file that a folder's manifest is."""
    if not path.is_dir():
        return path
    for name in ("wav.scp", *_HF_FILES):
        if (path / name).is_file():
            return path / name
    raise InputError(path, "the folder has neither wav.scp nor metadata.csv nor metadata.jsonl")


def _told(path: Path, text: str) -> str:
    """Return the format of a manifest, as its content tells."""
    names: Iterable[str] = header(text)
    if text.lstrip().startswith("{"):
        first = parsed(text.lstrip().partition("\n")[0])
        whole = first if isinstance(first, dict) else parsed(text)
        names = whole if isinstance(whole, dict) else ()
        inner = next(iter(whole.values()), None) if isinstance(whole, dict) else None
        if isinstance(inner, dict) and {"wav", "mix_wav"} & inner.keys():
            return "speechbrain"
    columns = set(names)
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
        self._paths, self._last = paths, folder

    def find(self, path: str) -> str:
        """Return the absolute path; of a relative one that is nowhere, below the folder."""
        path = self._paths(path.strip())
        if not path or "://" in path or os.path.isabs(path):  # noqa: PTH117
            return os.path.normpath(path) if path.startswith("/") else path
        for base in (self._last, *self._bases):
            if os.path.lexists(base / path):
                self._last = base
                return os.path.normpath(base / path)
        return os.path.normpath(self._bases[0] / path)


def _sound(entry: Entry, reading: Reading) -> bool:
    """Whether an entry can be recorded; what is wrong with it is told."""
    found = _PLACEHOLDER.search(entry.path)
    if found and not os.path.lexists(entry.path):
        reason = f"{found[0]!r} stands for a folder; name it: --path-map '{found[0]}=FOLDER'"
        reading.refused.add(reading.path, reason, entry.place)
    elif not entry.path:
        reading.refused.add(reading.path, "it names no file", entry.place)
    else:
        return True
    return False


def _number(reading: Reading, record: Record, column: str) -> float | None:
    """Return a measure in a column, None where none is told; what is none is refused."""
    try:
        return measure(record.values.get(column))
    except ValueError as error:
        reading.refused.add(reading.path, str(error), record.place, column)
        return None


def _librimix(reading: Reading) -> Iterator[Entry]:
    for record in reading.csv():
        values = record.values
        path, name = values.get("mixture_path", ""), values.get("mixture_ID", "")
        sources = [
            values[column]
            for column in values
            if re.fullmatch(r"source_\d+_path", column) and values[column]
        ]
        rate, length = _RATE.search(path), _number(reading, record, "length")
        facts: dict[str, Any] = {"sample_rate": int(rate[1]) * 1000} if rate else {}
        if rate and length is not None:  # in samples
            facts["duration"] = length / facts["sample_rate"]
        references = dict(
            zip(_librispeech_speakers(name, len(sources)), map(reading.here, sources), strict=True)
        )
        more = {"noise": reading.here(values.get("noise_path", ""))}
        yield Entry(record.place, name, reading.here(path), facts, references, more=more)


def _librispeech_speakers(name: str, count: int) -> list[str]:
    """Return whose utterances a mixture's id joins, else s1, s2 and so on."""
    parts = [_LIBRISPEECH.fullmatch(part) for part in name.split("_")]
    speakers = [part[1] for part in parts if part]
    if len(speakers) == len(parts) == count == len({*speakers}):
        return speakers
    return [f"s{number}" for number in range(1, count + 1)]


def _speechbrain(reading: Reading) -> Iterator[Entry]:
    records = list(_speechbrain_records(reading))
    durations = [_number(reading, record, "duration") for record in records]
    are_told = any(duration != 1.0 for duration in durations)  # a placeholder in the recipes
    for record, duration in zip(records, durations, strict=True):
        values = {name: str(value) for name, value in record.values.items()}
        references = {
            name.removesuffix("_wav"): reading.here(path)
            for name, path in values.items()
            if re.fullmatch(r"s\d+_wav", name) and path
        }
        path = values.get("mix_wav") or values.get("wav", "")
        yield Entry(
            record.place,
            values.get("ID", ""),
            reading.here(path),
            {"duration": duration} if are_told else {},
            references,
            values.get("spk_id") if "mix_wav" not in values else None,
            {"noise": reading.here(values.get("noise_wav", ""))},
        )


def _speechbrain_records(reading: Reading) -> Iterator[Record]:
    """Yield the rows of a CSV, or the entries of an object by id."""
    whole = parsed(reading.text)
    if not isinstance(whole, dict):
        yield from reading.csv()
        return
    for name, values in whole.items():
        if isinstance(values, dict):
            yield Record(f"entry {name!r}", {**values, "ID": name})
        else:
            reading.refused.add(reading.path, "it is not a JSON object", f"entry {name!r}")


def _hf(reading: Reading) -> Iterator[Entry]:
    for record in reading.records():
        values = {name: value for name, value in record.values.items() if value not in (None, "")}
        mixture = next((name for name in _MIXTURE_COLUMNS if name in values), None)
        if mixture is None:
            reading.refused.add(reading.path, "it has no file_name", record.place)
            continue
        path = str(values.pop(mixture))
        references: dict[str, str] = {}
        more: dict[str, Any] = {}
        for name, value in values.items():
            if name.endswith("_file_name"):
                part = name.removesuffix("_file_name")
                (more if part == "noise" else references)[part] = reading.here(str(value))
            elif name.endswith("file_names") and isinstance(value, list):
                paths = (reading.here(str(one)) for one in value)
                references |= {f"s{number}": one for number, one in enumerate(paths, 1)}
            else:
                more[name] = value
        yield Entry(record.place, Path(path).stem, reading.here(path), {}, references, more=more)


def _kaldi(reading: Reading) -> Iterator[Entry]:
    folder = reading.path.parent
    parts = {path.stem: _table(path) for path in sorted(folder.glob("spk[0-9]*.scp"))}
    noise, durations = _table(folder / "noise1.scp"), _table(folder / "utt2dur")
    speakers = {} if parts else _table(folder / "utt2spk")  # of mixtures it is a joint name
    for number, line in enumerate(reading.text.split("\n"), 1):
        name, path = _split(line)
        if not name:
            continue
        if path.endswith("|"):
            reading.skip("a command, which is not run")
        elif _ARCHIVE.search(path):
            reading.skip("a place in an archive")
        else:
            record = Record(f"line {number}", {"utt2dur": durations.get(name)})
            duration = _number(reading, record, "utt2dur")
            yield Entry(
                record.place,
                name,
                reading.here(path),
                {} if duration is None else {"duration": duration},
                {part: reading.here(table[name]) for part, table in parts.items() if name in table},
                speakers.get(name),
                {"noise": reading.here(noise.get(name, ""))},
            )


def _table(path: Path) -> dict[str, str]:
    """Return a file of an id and a value a line; nothing where there is none."""
    return dict(map(_split, text_of(path).splitlines())) if path.is_file() else {}


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.strip().replace("\t", " ").partition(" ")
    return name, value.strip()


def _lhotse(reading: Reading) -> Iterator[Entry]:
    for record in reading.records():
        values = record.values
        if "recording_id" in values:
            raise InputError(reading.path, "supervisions name no files; give recordings or cuts")
        recording = values.get("recording", values)
        sources = recording.get("sources") if isinstance(recording, dict) else None
        if not isinstance(sources, list):
            reading.skip("a cut that is mixed on the fly, and no file")
        elif [_kind(source) for source in sources] != ["file"]:
            reading.skip("a recording that is no single file")
        else:
            yield _of_lhotse(reading, record, recording)


def _kind(source: object) -> object:
    return source.get("type") if isinstance(source, dict) else None


def _of_lhotse(reading: Reading, record: Record, recording: dict[str, Any]) -> Entry:
    inner = Record(record.place, recording)
    rate = _number(reading, inner, "sampling_rate")
    facts: dict[str, Any] = {"duration": _number(reading, inner, "duration")}
    facts["sample_rate"] = None if rate is None else int(rate)
    channels = recording.get("channel_ids")
    facts["channels"] = len(channels) if isinstance(channels, list) and channels else None
    voices = record.values.get("supervisions") or []
    names = [str(one["speaker"]) for one in voices if isinstance(one, dict) and one.get("speaker")]
    names = list(dict.fromkeys(names))
    path = reading.here(str(recording["sources"][0].get("source", "")))
    return Entry(
        record.place,
        str(recording.get("id", "")),
        path,
        {name: value for name, value in facts.items() if value is not None},
        speaker=names[0] if len(names) == 1 else None,
        more={"speakers": names} if len(names) > 1 else {},
    )


_READERS: Final[dict[str, Callable[[Reading], Iterator[Entry]]]] = {
    "librimix": _librimix,
    "speechbrain": _speechbrain,
    "hf": _hf,
    "kaldi": _kaldi,
    "lhotse": _lhotse,
}
