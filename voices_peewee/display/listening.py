"""Blind listening tests: the plan of one, its page, and the votes that come back."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voices_peewee.display.excerpts import excerpts
from voices_peewee.display.pages import page, write_page
from voices_peewee.errors import AudioError, ExportError, QueryError
from voices_peewee.questions.counted import Source, conditions, names_of_speakers
from voices_peewee.questions.fields import SPEAKER, Own
from voices_peewee.questions.selection import Model, Runs, Side, find_side
from voices_peewee.records.audio_files import AudioInfo, probe
from voices_peewee.schema.models import (
    ListeningTest,
    ProcessedFile,
    ProcessingHistory,
)
from voices_peewee.search.columns import read_json

if TYPE_CHECKING:
    from voices_peewee.database.store import Store

BESIDE: Final = {"mixture": "Mixture", "reference": "Reference", "nothing": ""}
QUESTION: Final = "Which one is separated better?"
_MODELS: Final = range(2, 7)
_NAME: Final = 60  # letters of a listener's name
_SPARE: Final = 0.8  # of the size of a page, what a mail's encoding leaves


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
    runs: Runs = field(default_factory=Runs)


class Listening(NamedTuple):
    """A listening test: its name, its page (none if it was not written), and its trials.

    ``seed`` makes the same test again; ``left_out`` says which stems cannot be heard, and why.
    """

    test: str
    path: Path | None
    seed: int
    trials: tuple[str, ...]
    left_out: tuple[str, ...]


def listen(
    store: Store, models: Sequence[str | Model], path: Path | None, wish: Wish, *, overwrite: bool
) -> Listening:
    """Make a listening test as ``DatabaseManager.listen`` does."""
    if (count := len({*models})) not in _MODELS:
        raise QueryError(f"a listening test is of two to six models, not {count}")
    if wish.beside not in BESIDE:
        raise QueryError.unknown_field(wish.beside, BESIDE, "sound")
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise ExportError(path, "a listening test ends in .html")
    with store.snapshot():
        sides = [find_side(store, model) for model in models]
        stems = [dict(_stems(store, side, wish.runs)) for side in sides]
    draft = _Draft(wish, [side.label for side in sides])
    draft.fill(stems)
    if not draft.told:
        reasons = "; ".join(draft.left_out[:1]) or "no recording has stems of all of them"
        raise QueryError(f"there is nothing to listen to: {reasons}")
    context = draft.context()
    text = page("listen", context)
    if path is not None and len(text.encode()) > wish.max_size:
        size = f"{len(text.encode()) / 1e6:.1f} MB, of {wish.max_size / 1e6:g} at most"
        raise ExportError(path, f"it would take {size}: fewer trials, or fewer seconds, take less")
    if path is not None:
        with store.writing():
            draft.record(context["plan"]["test"])
            write_page(path, text, overwrite=overwrite)
    told, left = tuple(draft.told), tuple(draft.left_out)
    return Listening(context["plan"]["test"], path, wish.seed, told, left)


def _stems(store: Store, side: Side, runs: Runs) -> Iterator[tuple[tuple[int, Any], Stem | None]]:
    """Yield what the latest run of each recording made of each voice; None where it is unclear."""
    source, names, run = Source(store), names_of_speakers(store), ProcessingHistory
    chosen = [*conditions(store, runs), *side.conditions(store, runs), run.success]
    columns = (source.recording, run.start_time, run.run_id, SPEAKER, Own.processed_path)
    about = (Own.content_hash, ProcessedFile.original_path, ProcessedFile.metadata)
    query = source.select((*columns, *about), [*chosen, Own.processed_path.is_null(False)])
    latest: dict[int, tuple[Any, dict[Any, Stem | None]]] = {}
    for recording, *rank, speaker, path, digest, mixture, metadata in source.rows(query):
        if recording not in latest or latest[recording][0] < rank:
            latest[recording] = (rank, {})
        if latest[recording][0] != rank:
            continue
        known, voices = read_json(metadata), latest[recording][1]
        known = known.get("references") if isinstance(known, dict) else None
        name = names.get(speaker)
        reference = known.get(name) if isinstance(known, dict) else None
        reference = reference if isinstance(reference, str) else None
        label = " · ".join(filter(None, (Path(_text(mixture)).name, name)))
        stem = Stem(rank[1], _text(path), digest, label, _text(mixture), reference)
        voices[speaker] = None if speaker in voices else stem
    for recording, (_, voices) in sorted(latest.items()):
        yield from (((recording, speaker), stem) for speaker, stem in voices.items())


def _text(path: Any) -> str:
    return str(ProcessedFile.original_path.python_value(path) or "")


class _Draft:
    """A test that is being made: what stands in its page, and what only the record knows."""

    def __init__(self, wish: Wish, models: list[str]) -> None:
        self.wish, self.models, self.random = wish, models, Random(wish.seed)  # noqa: S311
        self.sounds: dict[str, bytes] = {}
        self.stems: dict[str, tuple[str, str, int]] = {}
        self.trials: list[dict[str, Any]] = []
        self.kinds: dict[str, str] = {}
        self.right: dict[str, str] = {}
        self.told: list[str] = []
        self.left_out: list[str] = []

    def fill(self, sides: Sequence[Mapping[tuple[int, Any], Stem | None]]) -> None:
        """Make the trials of the voices of which all models have a stem."""
        usable: list[Stem] = []
        for key in self._order({key for side in sides for key in side}):
            stems = [side.get(key) for side in sides]
            known = [stem for stem in stems if stem is not None]
            if len(known) < len(stems):
                self._leave_out(key, known, [stem is None for stem in stems])
            elif len(self.told) < self.wish.trials and self._try(
                known[0].label, self._compare, known
            ):
                usable.append(known[0])
        self._catch_and_repeat(usable)
        self.random.shuffle(self.trials)

    def _order(self, voices: set[tuple[int, Any]]) -> list[tuple[int, Any]]:
        """Return voices at random, each recording once before one comes again."""
        mixed, heard, turns = sorted(voices, key=str), Counter[int](), {}
        self.random.shuffle(mixed)
        for voice in mixed:
            turns[voice] = heard[voice[0]]
            heard[voice[0]] += 1
        return sorted(mixed, key=turns.__getitem__)

    def _leave_out(self, key: Any, known: Sequence[Stem], missing: Sequence[bool]) -> None:
        label = known[0].label if known else f"recording {key[0]}"
        of = ", ".join(name for name, out in zip(self.models, missing, strict=True) if out)
        self.left_out.append(f"{label}: no stem of {of}, or several that no speaker tells apart")

    def _try(self, label: str, make: Any, *given: Any) -> bool:
        try:
            make(*given)
        except AudioError as error:
            self.left_out.append(f"{label}: {error}")
            return False
        self.told.append(label)
        return True

    def _catch_and_repeat(self, usable: Sequence[Stem]) -> None:
        catch, repeat = (
            part * len(usable) // 20 if wanted is None else wanted
            for part, wanted in ((3, self.wish.catch), (2, self.wish.repeat))
        )
        before = len(self.trials)
        for stem in usable:
            if len(self.right) < catch and stem.reference is not None:
                self._try(f"{stem.label} (reference and mixture)", self._ask_what_is_known, stem)
        if len(self.right) < (self.wish.catch or 0):
            said = f"{len(self.right)} of {self.wish.catch} trials with a known answer"
            self.left_out.append(f"{said}: no more voices have references")
        for trial, stem in list(zip(self.trials[:before], usable, strict=True))[:repeat]:
            self._add("repeat", trial["pairs"], trial["x"])
            self.told.append(f"{stem.label} (again)")

    def _compare(self, stems: Sequence[Stem]) -> None:
        """Add a trial of the models' stems of one voice."""
        sounds = [_sound(stem.path, stem.digest) for stem in stems]
        kinds = sorted({(sound.sample_rate, sound.channels) for sound in sounds}, key=str)
        if len(kinds) > 1:
            said = " and ".join(f"{rate} Hz with {count} channels" for rate, count in kinds)
            raise AudioError(stems[0].path, f"the models' stems differ: {said}")
        reference = stems[0].reference
        there = reference is not None and Path(reference).is_file()
        focus = [_sound(reference)] if reference is not None and there else sounds
        tokens, x = self._heard(stems[0], sounds, focus)
        for place, (token, stem) in enumerate(zip(tokens, stems, strict=True)):
            self.stems[token] = (stem.run_id, stem.digest or stem.path, place)
        pairs = [self.random.sample(pair, 2) for pair in combinations(tokens, 2)]
        self._add("pair", pairs, x)

    def _ask_what_is_known(self, stem: Stem) -> None:
        """Add a trial whose answer is known: the reference beside the mixture."""
        sounds = [_sound(stem.reference or ""), _sound(stem.mixture)]
        tokens, x = self._heard(stem, sounds, sounds[:1])
        pairs = [self.random.sample(tokens, 2) for _ in combinations(self.models, 2)]
        self.right[self._add("catch", pairs, x)] = tokens[0]

    def _heard(
        self, stem: Stem, sounds: Sequence[AudioInfo], focus: Sequence[AudioInfo]
    ) -> tuple[list[str], str | None]:
        """Take excerpts of sounds, and of what is heard beside them, into the page."""
        beside = {"mixture": stem.mixture, "reference": stem.reference or ""}.get(self.wish.beside)
        more = [] if beside is None else [_sound(beside)]
        made = excerpts([*sounds, *more], focus, self.wish.seconds)
        tokens = [f"{self.random.getrandbits(40):010x}" for _ in made]
        self.sounds |= zip(tokens, made, strict=True)
        return tokens[: len(sounds)], tokens[-1] if more else None

    def _add(self, kind: str, pairs: Sequence[Sequence[str]], x: str | None) -> str:
        name = f"{self.random.getrandbits(40):010x}"
        self.trials.append({"id": name, "pairs": pairs, "x": x})
        self.kinds[name] = kind
        return name

    def context(self) -> dict[str, Any]:
        """Return what the page needs; its name is that of all that is in it."""
        plan = {"trials": self.trials, "sample": self.trials[0]["pairs"][0][0]}
        known = json.dumps([self.wish.question, plan]).encode() + b"".join(self.sounds.values())
        test = sha256(known).hexdigest()[:10]
        sounds = {token: b64encode(data).decode() for token, data in sorted(self.sounds.items())}
        about = {"question": self.wish.question, "beside": BESIDE[self.wish.beside]}
        return {**about, "plan": {"test": test, **plan}, "sounds": sounds}

    def record(self, test: str) -> None:
        """Write the test to the record, unless it is there."""
        known = {"models": self.models, "seed": self.wish.seed, "seconds": self.wish.seconds}
        parts = {"trials": self.kinds, "right": self.right, "stems": self.stems}
        if not ListeningTest.select().where(ListeningTest.name == test).exists():
            plan = {**known, "beside": self.wish.beside, **parts}
            ListeningTest.create(name=test, question=self.wish.question, plan=plan)


def _sound(path: str, digest: str | None = None) -> AudioInfo:
    """Return what a file is.

    Raises:
        AudioError: It is missing, no audio, or not what was recorded.
    """
    found = probe(path)
    if digest is not None and not found.content_hash.startswith(digest):
        raise AudioError(path, "its content is another than that of the run")
    return found
