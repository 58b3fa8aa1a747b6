"""Manifests of data sets: what LibriMix, SpeechBrain, Hugging Face, Kaldi and Lhotse write."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.errors import InputError, QueryError
from voices_peewee.exchange.texts import (
    Reading,
    Record,
    Refused,
    json_or_text,
    number,
    text_of,
    told_by,
    whole_object,
)
from voices_peewee.records.audio_files import AUDIO_SUFFIXES
from voices_peewee.records.roots import PathMap
from voices_peewee.schema.exact import short
from voices_peewee.schema.fields import plain_object

_RATE: Final = re.compile(r"/wav(\d+)k/")
_SOURCE: Final = re.compile(r"source_\d+_path")
_UTTERANCE: Final = re.compile(r"(?:^|_)([^-_]+)-[^-_]+-[^-_]+(?=_|$)")  # LibriSpeech: by whom
_ARCHIVE: Final = re.compile(r"\.ark(:\d+)?$")
_PLACEHOLDER: Final = re.compile(r"\$\w+|\{\w+\}")
_FOLDER_FILES: Final = ("wav.scp", "metadata.csv", "metadata.jsonl")
_MARKS: Final = {  # the file's name, or a column, tells a format
    "librimix": "mixture_path",
    "speechbrain": r"(mix_)?wav",
    "hf": r"(.+_)?file_names?",
    "kaldi": r".+\.scp",
    "lhotse": "sources|recording|tracks|recording_id",
}
FORMATS: Final = (*_MARKS,)
# Which columns say what; the first that is there counts. Duration is in s, rate in Hz.
_ROLES: Final = {
    "path": (
        *(f"{one}file_name" for one in ("", "mixture_", "mix_", "audio_", "noisy_")),
        *("mixture_path", "mix_wav", "wav", "source"),
    ),
    "id": ("id", "mixture_ID", "ID"),
    "noise": ("noise_path", "noise_wav", "noise_file_name", "noise1"),
    "speaker": ("spk_id", "utt2spk", "speaker"),
    "duration": ("duration", "utt2dur"),
    "samples": ("length",),
    "sample_rate": ("rate", "sampling_rate"),
    "channels": ("channels",),
}
_REFERENCE: Final = re.compile(r"(?:reference )(.+)|(s\d+)_wav|(.+)_file_name")


class Entry(NamedTuple):
    """One recording of a manifest.

    ``facts`` are its duration (s), rate (Hz) and channels as far as they are told, ``metadata``
    has its ``id`` and the path of each speaker's clean signal, ``voices`` are all who are heard.
    """

    place: str
    path: str
    facts: dict[str, Any]
    metadata: dict[str, Any]
    speaker: str | None
    voices: list[str]


def read_manifest(
    path: str | os.PathLike[str], form: str | None, paths: PathMap
) -> tuple[str, list[Entry], list[str]]:
    """Return the format of a manifest, its entries, and notes on what was left out.

    Raises:
        InputError: It cannot be read or told, or an entry is not sound.
        QueryError: There is no such format.
    """
    if form is not None and form not in FORMATS:
        raise QueryError.unknown_field(form, FORMATS, "format")
    place = Path(path)
    if place.is_dir():
        place = next(filter(Path.is_file, (place / name for name in _FOLDER_FILES)), place)
    reading = Reading(place, Refused())
    if not reading.text:
        raise InputError(path, f"the folder has neither {' nor '.join(_FOLDER_FILES)}")
    form = form or told_by(_MARKS, [place.name]) or told_by(_MARKS, reading.names())
    if form is None:
        raise InputError(place, f"its format cannot be told; name it: {', '.join(FORMATS)}")
    find = finder(place.parent, paths)
    entries: dict[str, Entry] = {}
    for record in _READERS.get(form, Reading.records)(reading):
        try:
            entry = _entry(record, find, is_free=form == "hf")
        except InputError as error:
            reading.refused.add(place, error.reason, record.place, error.column)
            continue
        if (first := entries.setdefault(entry.path, entry)) is not entry:
            reason = f"{first.place} has the path {entry.path!r} as well"
            reading.refused.add(place, reason, record.place)
    reading.refused.end()
    notes = [f"{count:,} left out: {reason}" for reason, count in reading.skipped.items()]
    if not entries and not notes:
        raise InputError(place, f"it has no entry, as a manifest of the format {form} has")
    return form, list(entries.values()), notes


def finder(folder: Path, paths: PathMap) -> Callable[[str], str]:
    """Return what finds a manifest's paths: mapped, or looked for from its folder upwards."""
    folder = folder.absolute()
    bases = [folder, *folder.parents, Path.cwd()]

    @cache  # most of a manifest's paths are in a few folders
    def folder_of(inner: str) -> Path:
        return next(filter(os.path.isdir, (base / inner for base in bases)), folder / inner)

    def find(path: str) -> str:
        """Return the absolute path; of a folder that is nowhere, below the manifest's."""
        path = paths(path.strip())
        inner, name = os.path.split(path)
        return path if "://" in path else os.path.normpath(folder_of(inner) / name)

    return find


def _entry(record: Record, find: Callable[[str], str], *, is_free: bool) -> Entry:
    """Return the entry of a record; where columns are free, all others are metadata.

    Raises:
        InputError: It names no file, or a number is none.
    """
    values = {name: value for name, value in record.values.items() if value not in (None, "")}
    _, named = _take("path", values)
    if named is None or isinstance(named, list | dict):
        raise InputError("", "it names no file")
    path, (_, name) = find(str(named)), _take("id", values)
    if (found := _PLACEHOLDER.search(path)) and not os.path.lexists(path):
        reason = f"{found[0]!r} stands for a folder; name it: --path-map '{found[0]}=FOLDER'"
        raise InputError("", reason)
    metadata: dict[str, Any] = {"id": Path(path).stem if name is None else str(name)}
    if noise := _take("noise", values)[1]:
        metadata["noise"] = find(str(noise))
    facts, speaker = ({}, None) if is_free else (_facts(values), _take("speaker", values)[1])
    references: dict[str, str] = {}
    for name, value in values.items():
        if is_free and name.endswith("file_names") and isinstance(value, list):
            references |= {f"s{count}": find(str(one)) for count, one in enumerate(value, 1)}
        elif (whose := _REFERENCE.fullmatch(name)) and (whose[3] or not is_free):
            references[whose[whose.lastindex or 0]] = find(str(value))
        elif is_free or name == "speakers":
            metadata[name] = value
    if references:
        metadata["references"], speaker = references, None
    heard = None if is_free else values.get("speakers")  # a column of one's own is no list
    voices = [*references, *(heard if isinstance(heard, list) else []), speaker]
    names = [str(one) for one in voices if one is not None]
    speaker = None if speaker is None else str(speaker)
    return Entry(record.place, path, facts, plain_object("metadata", metadata), speaker, names)


def _take(role: str, values: dict[str, Any]) -> tuple[str, Any]:
    """Take out the value of a role, with the column that has it; None where there is none."""
    column = next((one for one in _ROLES[role] if one in values), role)
    return column, values.pop(column, None)


def _facts(values: dict[str, Any]) -> dict[str, Any]:
    """Take out what is told of a recording: duration (s), rate (Hz) and channels."""
    facts: dict[str, Any] = {}
    for role in ("duration", "samples", "sample_rate", "channels"):
        column, value = _take(role, values)
        try:
            measured = number(value)
        except ValueError as error:
            raise InputError("", str(error), column=column) from error
        if measured is None:
            continue
        if not 0 <= measured < math.inf:
            reason = f"{short(value)} is not a finite number of 0 or more"
            raise InputError("", reason, column=column)
        facts[role] = measured if role == "duration" else int(measured)
    samples, rate = facts.pop("samples", None), facts.get("sample_rate")
    return facts | ({"duration": samples / rate} if samples is not None and rate else {})


def _librimix(reading: Reading) -> Iterator[Record]:
    """Yield the rows with the folder's rate, and the references by whose they are."""
    for place, values in reading.records():
        values = {name: str(value or "") for name, value in values.items()}  # also of JSON
        rate = _RATE.search(values.get("mixture_path", ""))
        sources = [one for name, one in values.items() if one and _SOURCE.fullmatch(name)]
        speakers = _UTTERANCE.findall(values.get("mixture_ID", ""))
        if not len(speakers) == len(sources) == len({*speakers}):
            speakers = [f"s{count}" for count in range(1, len(sources) + 1)]
        named = {f"reference {name}": one for name, one in zip(speakers, sources, strict=True)}
        yield Record(place, {**values, **named, "rate": int(rate[1]) * 1000 if rate else None})


def _speechbrain(reading: Reading) -> Iterator[Record]:
    """Yield the rows of a CSV, or the entries of an object by id."""
    whole = whole_object(reading.path, reading.text)
    inner = {name: one if isinstance(one, dict) else {} for name, one in whole.items()}
    records = [Record(f"entry {name!r}", {**one, "ID": name}) for name, one in inner.items()]
    records = records or [*reading.records()]
    is_placeholder = all(one.values.get("duration") in ("1.0", "1", 1) for one in records)
    for place, values in records:
        yield Record(place, {**values, "duration": None} if is_placeholder else values)


def _hf(reading: Reading) -> Iterator[Record]:
    """Yield the rows; conditions that a CSV writes as numbers are some."""
    for place, values in reading.records():
        told = values.items()
        yield Record(place, values if reading.is_json else {k: json_or_text(v) for k, v in told})


def _kaldi(reading: Reading) -> Iterator[Record]:
    folder = reading.path.parent
    files = [*sorted(folder.glob("spk[0-9]*.scp")), folder / "noise1.scp"]
    files += [folder / "utt2dur", folder / "utt2spk"]
    texts = {path.stem: text_of(path) for path in files if path.is_file()}
    tables = {
        f"reference {name}" if name.startswith("spk") else name: dict(map(split, text.splitlines()))
        for name, text in texts.items()
    }
    for count, line in enumerate(reading.text.split("\n"), 1):
        name, path = split(line)
        if path.endswith("|"):
            reading.skipped["a command, which is not run"] += 1
        elif _ARCHIVE.search(path):
            reading.skipped["a place in an archive"] += 1
        elif _is_path(name) and not path.endswith(name):  # ClearerVoice's lists
            reason = f"it begins with the path {short(name)}; Kaldi has an id before it"
            reading.refused.add(reading.path, reason, f"line {count}")
        elif name:
            told = {part: table.get(name) for part, table in tables.items()}
            yield Record(f"line {count}", {**told, "id": name, "wav": path})


def _is_path(name: str) -> bool:
    return "/" in name and Path(name).suffix.lower() in AUDIO_SUFFIXES


def split(line: str) -> tuple[str, str]:
    """Return the id and the value of a line."""
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
            voices = [one.get("speaker") for one in values.get("supervisions") or ()]
            if not isinstance(sources, list):
                reading.skipped["a cut that is mixed on the fly, and no file"] += 1
            elif [one.get("type") for one in sources] != ["file"]:
                reading.skipped["a recording that is no single file"] += 1
            else:
                names = list(dict.fromkeys(str(one) for one in voices if one not in (None, "")))
                channels = len(recording.get("channel_ids") or ()) or None
                told = {"speaker": names[0]} if len(names) == 1 else {"speakers": names or None}
                told |= {"source": sources[0].get("source"), "channels": channels}
                yield Record(place, {**recording, **told})
        except (AttributeError, TypeError):
            reading.refused.add(reading.path, "it is no recording and no cut", place)


_READERS: Final = {
    "librimix": _librimix,
    "speechbrain": _speechbrain,
    "hf": _hf,
    "kaldi": _kaldi,
    "lhotse": _lhotse,
}
