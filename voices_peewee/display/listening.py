"""Blind listening tests: the plan of one, its page, and the votes that come back."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from voices_peewee.database.store import Store
from voices_peewee.display.excerpts import CODECS, Part, busiest, excerpts, lag
from voices_peewee.display.pages import page
from voices_peewee.errors import AudioError, ExportError, QueryError
from voices_peewee.questions.counted import Source, conditions, names_of_speakers
from voices_peewee.questions.fields import SPEAKER, Own, find_fields
from voices_peewee.questions.selection import Model, Runs, Side, find_side
from voices_peewee.records.audio_files import AudioInfo, probe
from voices_peewee.schema.models import (
    ListeningTest,
    ProcessedFile,
    ProcessingHistory,
)
from voices_peewee.search.columns import read_json
from voices_peewee.upkeep.whole_files import write_whole

BESIDE: Final = {"mixture": "Mixture", "reference": "Reference", "nothing": ""}
QUESTION: Final = "Which one is separated better?"
_MODELS: Final = range(2, 7)
_LAG: Final = 1.0  # ms, of which a stem may be behind another before it is told
_QUIETER: Final = 0.03  # dB, at most, that an excerpt is quieter, so that no bytes are alike

Voice = tuple[int, Any]  # a recording and a speaker, which may be unknown


class Stem(NamedTuple):
    """A stem that can be heard: an output of a run, whose voice it is, and of what."""

    run_id: str
    path: str
    digest: str | None
    label: str
    mixture: str
    reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a test is to be: ``beside`` says what is heard beside A and B."""

    trials: int = 20
    seconds: float = 5.0
    seed: int = 0
    beside: str = "mixture"
    question: str = QUESTION
    catch: int | None = None
    repeat: int | None = None
    max_size: int = 25_000_000
    codec: str = "flac"
    runs: Runs = field(default_factory=Runs)


class Listening(NamedTuple):
    """A listening test: its name, its page (none if it was not written), and its trials.

    ``seed`` makes the same test again; ``left_out`` says which stems cannot be heard, and why,
    ``lags`` which are behind another.
    """

    test: str
    path: Path | None
    seed: int
    trials: tuple[str, ...]
    left_out: tuple[str, ...]
    lags: tuple[str, ...]


def listen(
    store: Store, models: Sequence[str | Model], path: Path | None, wish: Wish, *, overwrite: bool
) -> Listening:
    """Make a listening test as ``DatabaseManager.listen`` does."""
    if (count := len({*models})) not in _MODELS:
        raise QueryError(f"a listening test is of two to six models, not {count}")
    if wish.beside not in BESIDE:
        raise QueryError.unknown_field(wish.beside, BESIDE, "sound")
    if wish.codec not in CODECS:
        raise QueryError.unknown_field(wish.codec, CODECS, "codec")
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise ExportError(path, "a listening test ends in .html")
    with store.snapshot():
        sides = [find_side(store, model) for model in models]
        stems = [_stems(store, side, wish.runs) for side in sides]
    draft = _Draft(wish, [side.label for side in sides])
    draft.fill(stems)
    if not draft.told:
        reason = draft.left_out[0] if draft.left_out else "no recording has stems of all of them"
        raise QueryError(f"there is nothing to listen to: {reason}")
    context = draft.context()
    test, data = context["plan"]["test"], page("listen", context).encode()
    if path is not None and len(data) > wish.max_size:
        said = f"{len(data) / 1e6:.1f} MB, of {wish.max_size / 1e6:g} at most"
        less = "fewer trials, fewer seconds, or the codec opus take less"
        raise ExportError(path, f"it would take {said}: {less}")
    if path is not None:
        with store.writing():
            draft.record(test)
            write_whole(path, data, overwrite=overwrite)
    return Listening(test, path, wish.seed, *map(tuple, (draft.told, draft.left_out, draft.lags)))


def _stems(store: Store, side: Side, runs: Runs) -> dict[Voice, Stem | None]:
    """Return what the latest run of each recording made of each voice; None where it is unclear."""
    source, run = Source(store, find_fields("file")), ProcessingHistory
    names = names_of_speakers(store)
    chosen = [*conditions(store, runs), *side.conditions(store, runs), run.success]
    columns = (source.recording, SPEAKER, run.run_id, Own.processed_path, Own.content_hash)
    about = (ProcessedFile.original_path, ProcessedFile.metadata)
    query = source.select((*columns, *about), [*chosen, Own.processed_path.is_null(False)])
    latest: dict[int, str] = {}
    found: dict[Voice, Stem | None] = {}
    rows = source.rows(query.order_by(run.start_time.desc(), run.run_id.desc(), run.id))
    for recording, speaker, run_id, path, digest, mixture, metadata in rows:
        if latest.setdefault(recording, run_id) == run_id:
            voice, name = (recording, speaker), names.get(speaker)
            label = " · ".join(map(str, filter(None, (Path(_text(mixture)).name, name))))
            known = (_text(path), digest, label, _text(mixture), _reference(metadata, name))
            found[voice] = None if voice in found else Stem(run_id, *known)
    return found


def _reference(metadata: Any, name: str | None) -> str | None:
    known = read_json(metadata)
    references = known.get("references") if isinstance(known, dict) else None
    path = references.get(name) if isinstance(references, dict) else None
    return path if isinstance(path, str) else None


def _text(path: Any) -> str:
    return str(ProcessedFile.original_path.python_value(path) or "")


class _Draft:
    """A test that is being made: what stands in its page, and what only the record knows."""

    def __init__(self, wish: Wish, models: list[str]) -> None:
        self.wish, self.models, self.random = wish, models, Random(wish.seed)  # noqa: S311
        self.pairs = list(combinations(range(len(models)), 2))
        self.sounds: dict[str, bytes] = {}
        self.stems: dict[str, tuple[str, str, int]] = {}
        self.trials: list[dict[str, Any]] = []
        self.kinds: dict[str, str] = {}
        self.right: dict[str, str] = {}
        self.told: list[str] = []
        self.left_out: list[str] = []
        self.lags: list[str] = []

    def fill(self, sides: Sequence[Mapping[Voice, Stem | None]]) -> None:
        """Make the trials of the voices of which all models have a stem, a pair of these each."""
        usable: list[tuple[Stem, Stem]] = []
        self.random.shuffle(self.pairs)
        for key in self._order({key for side in sides for key in side}):
            stems = [side.get(key) for side in sides]
            known = [stem for stem in stems if stem is not None]
            if len(known) < len(stems):
                self._leave_out(key, stems)
            elif len(usable) < self.wish.trials:
                places = self.pairs[len(usable) % len(self.pairs)]
                pair = (known[places[0]], known[places[1]])
                if self._try(pair[0].label, self._compare, places, pair):
                    usable.append(pair)
        self._catch_and_repeat(usable)
        self.random.shuffle(self.trials)

    def _order(self, voices: set[Voice]) -> list[Voice]:
        """Return voices at random, each recording once before one comes again."""
        mixed, heard, turns = sorted(voices, key=str), Counter[int](), {}
        self.random.shuffle(mixed)
        for voice in mixed:
            turns[voice] = heard[voice[0]]
            heard[voice[0]] += 1
        return sorted(mixed, key=turns.__getitem__)

    def _leave_out(self, voice: Voice, stems: Sequence[Stem | None]) -> None:
        label = next((stem.label for stem in stems if stem), f"recording {voice[0]}")
        of = [name for name, stem in zip(self.models, stems, strict=True) if stem is None]
        said = f"no stem of {', '.join(of)}, or several that no speaker tells apart"
        self.left_out.append(f"{label}: {said}")

    def _try(self, label: str, make: Any, *given: Any) -> bool:
        try:
            make(*given)
        except AudioError as error:
            self.left_out.append(f"{label}: {error}")
            return False
        self.told.append(label)
        return True

    def _catch_and_repeat(self, usable: Sequence[tuple[Stem, Stem]]) -> None:
        catch, repeat = (
            part * len(usable) // 20 if wanted is None else wanted
            for part, wanted in ((3, self.wish.catch), (2, self.wish.repeat))
        )
        for stem, _ in usable:
            if len(self.right) < catch and stem.reference is not None:
                self._try(f"{stem.label} (reference and mixture)", self._ask_what_is_known, stem)
        if len(self.right) < (self.wish.catch or 0):
            said = f"{len(self.right)} of {self.wish.catch} trials with a known answer"
            self.left_out.append(f"{said}: no more voices have references")
        for number, pair in enumerate(usable[:repeat]):
            places = self.pairs[number % len(self.pairs)]
            self._try(f"{pair[0].label} (again)", self._compare, places, pair, "repeat")

    def _compare(
        self, places: tuple[int, int], pair: tuple[Stem, Stem], kind: str = "pair"
    ) -> None:
        """Add a trial of two models' stems of one voice."""
        sounds = [_sound(stem.path, stem.digest) for stem in pair]
        kinds = sorted({(sound.sample_rate, sound.channels) for sound in sounds}, key=str)
        if len(kinds) > 1:
            said = " and ".join(f"{rate} Hz with {count} channels" for rate, count in kinds)
            raise AudioError(pair[0].path, f"the models' stems differ: {said}")
        reference = pair[0].reference
        focus = [_sound(reference)] if reference and Path(reference).is_file() else sounds
        part, tokens = self._add(kind, pair[0], sounds, focus)
        for token, stem, place in zip(tokens, pair, places, strict=True):
            self.stems[token] = (stem.run_id, stem.digest or stem.path, place)
        late = lag(sounds[0], sounds[1], part) if kind == "pair" else 0.0
        if abs(late) > _LAG:
            one, other = (self.models[place] for place in places[:: 1 if late > 0 else -1])
            self.lags.append(f"{pair[0].label}: {other} is {abs(late):g} ms behind {one}")

    def _ask_what_is_known(self, stem: Stem) -> None:
        """Add a trial whose answer is known: the reference beside the mixture."""
        sounds = [_sound(stem.reference or ""), _sound(stem.mixture)]
        _, tokens = self._add("catch", stem, sounds, sounds[:1])
        self.right[self.trials[-1]["id"]] = tokens[0]

    def _add(
        self, kind: str, stem: Stem, sounds: Sequence[AudioInfo], focus: Sequence[AudioInfo]
    ) -> tuple[Part, list[str]]:
        """Take excerpts of two sounds, and of what is heard beside them, into a trial."""
        beside = {"mixture": stem.mixture, "reference": stem.reference or ""}.get(self.wish.beside)
        every = [*sounds, *([] if beside is None else [_sound(beside)])]
        part = busiest(every, focus, self.wish.seconds)
        quieter = [self.random.uniform(0, _QUIETER) for _ in every]
        made = excerpts(every, part, quieter, self.wish.codec)
        name, *tokens = (f"{self.random.getrandbits(40):010x}" for _ in (None, *made))
        self.sounds |= zip(tokens, made, strict=True)
        x = tokens.pop() if beside is not None else None
        self.trials.append({"id": name, "stems": tokens, "x": x})
        self.kinds[name] = kind
        return part, tokens

    def context(self) -> dict[str, Any]:
        """Return what the page needs; its name is that of all that is in it."""
        for trial in self.trials:  # the right one of two is not always the first
            trial["stems"] = self.random.sample(trial["stems"], 2)
        plan = {"trials": self.trials, "sample": self.trials[0]["stems"][0]}
        known = json.dumps([self.wish.question, plan]).encode() + b"".join(self.sounds.values())
        test = sha256(known).hexdigest()[:10]
        sounds = {token: b64encode(data).decode() for token, data in sorted(self.sounds.items())}
        about = {"question": self.wish.question, "beside": BESIDE[self.wish.beside]}
        return {**about, "plan": {"test": test, **plan}, "sounds": sounds}

    def record(self, test: str) -> None:
        """Write the test to the record, unless it is there."""
        names = ("seed", "seconds", "beside", "codec")
        plan = {name: getattr(self.wish, name) for name in names} | {"models": self.models}
        plan |= {"trials": self.kinds, "right": self.right, "stems": self.stems}
        if not ListeningTest.select().where(ListeningTest.name == test).exists():
            ListeningTest.create(name=test, question=self.wish.question, plan=plan)


def _sound(path: str, digest: str | None = None) -> AudioInfo:
    """Return what a file is."""
    found = probe(path)
    if digest is not None and not found.content_hash.startswith(digest):
        raise AudioError(path, "its content is another than that of the run")
    return found
