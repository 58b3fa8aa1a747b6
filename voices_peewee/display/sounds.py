"""What there is to hear: a recording's player in a notebook, and the best and worst of a report."""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import peewee as pw

from voices_peewee.database.sqlite import is_open_here
from voices_peewee.database.store import FileKey, Store
from voices_peewee.errors import AudioError, ExportError
from voices_peewee.questions.groups import Group
from voices_peewee.questions.selection import Metric, Runs, model_label
from voices_peewee.rendering.table import html_lines
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker

# What browsers play, by suffix; for anything else they show a dead control.
_PLAYED: Final = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webm": "audio/webm",
}
# FFmpeg's samples of at most 16 bits, and what in a WAV has more than the 24 of a FLAC.
_NARROW: Final = frozenset(["u8", "u8p", "s16", "s16p"])
_WIDER: Final = ("pcm_s32", "pcm_s64", "pcm_f")
_NOT_HERE: Final = "there is no such file here"
_NO_ROOM: Final = "left out, since there is no room for it"
_NOTEBOOK: Final = 40_000_000  # bytes that a notebook takes for all sounds together
_WORST: Final = 2


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound to listen to: ``source`` is what a player plays, ``note`` why there is none.

    ``of`` is the model that made it, and empty for what models are given.
    """

    label: str
    path: str
    of: str = ""
    value: float | None = None
    source: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return Path(self.path).name


@dataclass(frozen=True, slots=True)
class Card:
    """A recording to listen to: why it is here, and its sounds."""

    name: str
    reasons: list[tuple[str, str, float]]
    sounds: list[Sound]


class Player(tuple[Sound, ...]):
    """The recording and its stems, as notebooks show them."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return "".join(f"<div>{_html(sound)}</div>" for sound in self)


def _html(sound: Sound) -> str:
    above = f"<strong>{html_lines(sound.label)}</strong>{html_lines(sound.path)}"
    if sound.note:
        return above + html_lines(sound.note)
    return f'{above}<audio controls src="{sound.source}"></audio>'


def player(store: Store, key: FileKey) -> Player:
    """Return players as ``DatabaseManager.player`` does."""
    file, numbers = store.file(key), (ModelPerformance.si_snri, ModelPerformance.sdri)
    labels: dict[str, str] = {}
    with store.reading():
        known = file.recording_id if isinstance(file.recording_id, int) else file.id
        recording = store.get(ProcessedFile, known) or file
        if recording.original_path is not None:
            labels[recording.original_path] = "recording"
        for *_, model, version, speaker, path, si_snri, sdri in _made([recording.id], numbers):
            if path is not None:
                labels.setdefault(path, _label(speaker, model, version, si_snri, sdri))
    if not any(map(os.path.isfile, labels)):
        place = file.original_path or file.filename
        raise AudioError(place, "neither the recording nor a stem of it is there")
    sounds, room = [], _NOTEBOOK
    for path, label in labels.items():
        sounds.append(_embedded(Sound(label, path), room))
        room -= len(sounds[-1].source)
    return Player(sounds)


def _label(speaker: Any, model: Any, version: Any, si_snri: Any, sdri: Any) -> str:
    parts = [str(speaker or "stem"), ":".join(str(part) for part in (model, version) if part)]
    for name, value in (("SI-SNRi", si_snri), ("SDRi", sdri)):
        parts += [f"{name} {value:.2f} dB" if isinstance(value, int | float) else ""]
    return " · ".join(part for part in parts if part)


def cards(store: Store, groups: Sequence[Group], metric: Metric, runs: Runs) -> list[Card]:
    """Return the cards of the worst two and the best recording of each model, the worst first.

    A recording that is there for several models has one card, with the stems of all of them.
    """
    reasons: dict[int, list[tuple[str, str, float]]] = {}
    for key, recording, why, value in _extremes(groups, metric):
        reasons.setdefault(recording, []).append((key, why, value))
    files = {file.id: file for file in ProcessedFile.select().where(ProcessedFile.id << [*reasons])}
    found = {  # a recording that is gone is none: another program deleted it
        key: Card(files[key].filename, own, [*_inputs(files[key])])
        for key, own in reasons.items()
        if key in files
    }
    models = {model_label(*group.key) for group in groups}
    for recording, sound in _stems(store, found, metric, runs):
        if sound.of in models:
            found[recording].sounds.append(sound)
    return [*found.values()]


def _extremes(groups: Sequence[Group], metric: Metric) -> Iterator[tuple[str, int, str, float]]:
    """Yield the worst recording of each model, then the second worst, then the best."""
    worst, best = (nsmallest, nlargest) if metric.higher_is_better else (nlargest, nsmallest)
    pairs = [list(zip(group.values, group.recordings, strict=True)) for group in groups]
    ranked = [worst(_WORST, own) + best(1, own)[: len(own) > _WORST] for own in pairs]
    for place in range(_WORST + 1):
        for group, ends in zip(groups, ranked, strict=True):
            if place < len(ends):
                value, recording = ends[place]
                why = "best" if place == _WORST else "worst"
                yield model_label(*group.key), recording, why, value


def _inputs(file: ProcessedFile) -> Iterator[Sound]:
    if file.original_path is not None:
        yield Sound("recording", str(file.original_path))
    known = file.metadata.get("references") if isinstance(file.metadata, dict) else None
    for speaker, path in known.items() if isinstance(known, dict) else ():
        if isinstance(path, str):
            yield Sound(f"reference · {speaker}", path)


def _stems(
    store: Store, recordings: Collection[int], metric: Metric, runs: Runs
) -> Iterator[tuple[int, Sound]]:
    """Yield the stems of each model's latest successful run of each recording."""
    value: Any = metric.value
    value = value.coerce(False) if isinstance(value, pw.Function) else value
    conditions = [ProcessingHistory.success, *runs.conditions(store)]
    latest: dict[tuple[Any, ...], str] = {}
    for recording, run_id, *model, speaker, path, number in _made(recordings, [value], *conditions):
        if latest.setdefault((recording, *model), run_id) == run_id and path is not None:
            known = float(number) if isinstance(number, int | float) else None
            yield recording, Sound(speaker or "stem", str(path), model_label(*model), known)


def _made(recordings: Collection[int], numbers: Iterable[Any], *conditions: Any) -> Any:
    """Return what was made of recordings, by the newest runs first.

    A row is the recording, the run, its model and version, the speaker, the stem's path, and
    the numbers that were asked for.
    """
    file, run, left = ProcessedFile, ProcessingHistory, pw.JOIN.LEFT_OUTER
    own = pw.fn.COALESCE(file.recording, file.id)
    of_run = (run.run_id, run.model_type, run.model_version)
    query = file.select(own, *of_run, Speaker.name, file.processed_path, *numbers)
    query = query.join_from(file, Speaker, left).join_from(file, run, left)
    query = query.join_from(run, ModelPerformance, left)
    keys = list(recordings)
    query = query.where((file.id << keys) | (file.recording << keys), *conditions)
    return query.order_by(run.start_time.desc(), run.id).tuples()


def linked(found: Sequence[Card], folder: Path) -> list[Card]:
    """Return the cards with players of the files where they are, seen from a folder."""
    return [replace(card, sounds=[_linked(one, folder) for one in card.sounds]) for card in found]


def _linked(sound: Sound, folder: Path) -> Sound:
    if not os.path.isfile(sound.path):  # a Path raises where a name is too long
        return replace(sound, note=_NOT_HERE)
    try:
        way = os.path.relpath(sound.path, folder)
    except ValueError as error:
        raise ExportError(folder, f"{sound.path!r} is on another drive; use --embed") from error
    return replace(sound, source=quote(os.fsencode(way.replace(os.sep, "/"))))


def put_in(found: Sequence[Card], room: int) -> tuple[list[Card], list[str]]:
    """Return the cards whose sounds have room, put into them, and the names of the others."""
    kept, left = [], []
    for card in found:
        sounds, size = [], 0
        for sound in card.sounds:
            sounds.append(_embedded(sound, room - size))
            size += len(sounds[-1].source)
        if any(sound.note == _NO_ROOM for sound in sounds):
            left.append(card.name)
        else:
            kept.append(replace(card, sounds=sounds))
            room -= size
    return kept, left


def _embedded(sound: Sound, room: int) -> Sound:
    """Return a sound with its file in it, as FLAC where it is a WAV, or why it is not."""
    try:
        # The open database is no sound.
        if not os.path.isfile(sound.path) or is_open_here(sound.path):
            return replace(sound, note=_NOT_HERE)
        path = Path(sound.path)
        kind = _PLAYED.get(path.suffix.lower())
        if kind is None:
            return replace(sound, note="browsers do not play this format")
        if path.stat().st_size > room:
            return replace(sound, note=_NO_ROOM)
        flac = _as_flac(path) if kind == "audio/wav" else None
        data, kind = (path.read_bytes(), kind) if flac is None else (flac, "audio/flac")
    except OSError as error:
        return replace(sound, note=f"the file cannot be read: {error.strerror}")
    source = f"data:{kind};base64,{b64encode(data).decode()}"
    return replace(sound, note=_NO_ROOM) if len(source) > room else replace(sound, source=source)


def _as_flac(path: Path) -> bytes | None:
    """Return a file's sound as FLAC; None without PyAV, and where it has more than 24 bits."""
    try:
        import av
    except ImportError:
        return None
    out = io.BytesIO()  # can be sought in: a FLAC that is written into a pipe has no length
    try:
        with av.open(str(path)) as source, av.open(out, "w", format="flac") as target:
            sound = source.streams.audio[0]
            if sound.codec_context.name.startswith(_WIDER):
                return None
            stream = target.add_stream("flac", rate=sound.rate, layout=sound.layout.name)
            is_narrow = sound.format.name in _NARROW
            stream.format = av.AudioFormat("s16" if is_narrow else "s32")  # which is 24 bits
            for frame in source.decode(sound):
                frame.pts = None
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
    except (av.error.FFmpegError, IndexError, ValueError):
        return None
    return out.getvalue()
