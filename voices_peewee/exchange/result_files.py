"""What other tools write of results: each format's files into scores, one for each row."""

from __future__ import annotations

import math
import os
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.errors import InputError, InvalidValueError, QueryError
from voices_peewee.exchange.manifests import finder, split
from voices_peewee.exchange.texts import (
    Reading,
    Record,
    Refused,
    number,
    text_of,
    told_by,
    whole_object,
)
from voices_peewee.records.roots import PathMap
from voices_peewee.runs.metrics import TAKEN, Metrics
from voices_peewee.schema.vocabulary import METRIC_COLUMNS, find_metric, spelled


@dataclass(slots=True)
class Score:
    """The numbers of one row: of a mixture, or of an estimate where that is named.

    Names are paths or parts of them. ``impl`` is what computed the numbers, and how.
    """

    reading: Reading
    place: str
    impl: str
    mixture: str = ""
    output: str = ""
    speaker: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


class Dialect(NamedTuple):
    """What a tool writes: what tells it, which column says what a row is about, and its metrics.

    A row is about a mixture, or where ``of_output`` about an estimate. Without ``metrics`` every
    other column is one. Where ``joins``, a file's rows about the same are one; the later counts.
    """

    mark: str
    about: tuple[str, ...]
    impl: str
    of_output: bool = False
    metrics: tuple[str, ...] = ()
    joins: bool = False


_MIXTURES: Final = ("mix_path", "filename", "source_path")
_DNSMOS: Final = ("OVRL", "SIG", "BAK", "P808_MOS")
_NISQA: Final = ("mos_pred", "noi_pred", "dis_pred", "col_pred", "loud_pred")
DIALECTS: Final = {
    "versa": Dialect("key", ("key",), "VERSA", of_output=True, joins=True),
    "speechbrain": Dialect("snt_id", ("snt_id",), "SpeechBrain, mean over speakers"),
    "tdanet": Dialect("snt_id", ("snt_id",), "TDANet, mean over speakers"),
    "asteroid": Dialect("mix_path|input_si_sdr", _MIXTURES, "asteroid, mean over speakers"),
    "dnsmos": Dialect("OVRL", ("filename",), "DNSMOS", of_output=True, metrics=_DNSMOS),
    "nisqa": Dialect("mos_pred", ("deg",), "NISQA", of_output=True, metrics=_NISQA),
    "espnet": Dialect("(?!)", ("mixture",), "ESPnet", joins=True),
    "museval": Dialect("targets", ("mixture",), "museval"),
}
FORMATS: Final = (*DIALECTS,)

_TAKEN: Final = frozenset([*TAKEN, "metric_impl", "higher_is_better"])
_LEVEL: Final = "ESPnet, of the mixtures as they were"
_JSON: Final = ("versa", "museval")
_SUFFIXES: Final = frozenset([".csv", ".json", ".jsonl", ".txt"])
_MEANS: Final = frozenset(["avg", "std"])
_IDS: Final = re.compile(r"[^\n]*\n\s*\d+\s*[,;\t]")  # the first row's is a number
_TABLE: Final = re.compile(r"[A-Za-z0-9_]+_spk\d+")
_COUNTS: Final = re.compile(r"(.+)_(wer|cer|per)_(equal|delete|insert|replace)")
_CHUNK: Final = re.compile(r"@\d+\.\d+-\d+\.\d+$")
_NO_METRIC: Final = re.compile(r"_path$|^Unnamed: \d+$")  # pandas calls the index so
_IMPROVED: Final = {"si_sdr": "si_sdri", "sdr": "sdri", "si_snr": "si_snri"}
_SHARE: Final = 1.5  # at most: of equal signals STOI may be 1 and a rounding error
_SHARES: Final = ("stoi", "estoi", "input_stoi", "input_estoi")
_NEVER: Final = (math.inf, -math.inf)
# What a metric is where it failed: STOI where nothing but silence is left.
_FAILED: Final = {"pesq": (-math.inf, 0), "stoi": (0, 1e-5), "estoi": (0, 1e-5)}
_FAR: Final = 80  # dB; what is beyond comes of a silent or a perfect estimate


def read_results(
    paths: Iterable[str | os.PathLike[str]], form: str | None, roots: PathMap, refused: Refused
) -> tuple[dict[str, list[Score]], list[str]]:
    """Return the scores of each format that files, and what in folders is known, have; and notes.

    Raises:
        InputError: What is named cannot be read or told, or a folder holds no results.
        QueryError: There is no such format.
    """
    if form is not None and form not in FORMATS:
        raise QueryError.unknown_field(form, FORMATS, "format")
    scores: defaultdict[str, list[Score]] = defaultdict(list)
    percent, skipped = dict[str, None](), Counter[str]()
    for path in map(Path, paths):
        inner = (_read(file, form, refused, is_named=file == path) for file in _inside(path))
        known = list(filter(None, inner))
        for told, reading in known:
            its = _score(reading, told, roots)
            percent |= dict.fromkeys(_divide(its))
            skipped += reading.skipped
            scores[told] += its
        if not known:
            reason = f"no results of a known format are in it; name it: {', '.join(FORMATS)}"
            raise InputError(path, reason)
    found = {told: _with_levels(its) for told, its in scores.items()}
    notes = [note for its in found.values() for note in _clean(its)]
    notes += [f"{', '.join(percent)}: percent, divided by 100"] if percent else []
    return found, notes + [f"{count:,} left out: {reason}" for reason, count in skipped.items()]


def _with_levels(scores: list[Score]) -> list[Score]:
    """Give ESPnet's estimates the levels of their mixtures, which stand in another folder."""
    levels = {(one.mixture, one.speaker): one.metrics for one in scores if one.impl == _LEVEL}
    estimates = [one for one in scores if one.impl != _LEVEL]
    for score in estimates if levels else ():
        score.metrics |= levels.get((score.mixture, score.speaker), {})
    return estimates or scores


def _inside(path: Path) -> Iterator[Path]:
    """Yield a file, or of a folder what may be results, scoring folders of ESPnet as one."""
    if not path.is_dir():
        yield path
    for place, folders, names in os.walk(path):
        folders.sort()
        if any(map(_TABLE.fullmatch, names)):
            yield Path(place)
        else:
            files = (Path(place, name) for name in sorted(names))
            yield from (file for file in files if file.suffix in _SUFFIXES)


def _read(
    path: Path, form: str | None, refused: Refused, *, is_named: bool
) -> tuple[str, Reading] | None:
    """Return a file with its format; None for what lies in a folder and is something else."""
    try:
        reading = Reading(path, refused)
        names = reading.names()
    except InputError:
        if is_named:
            raise
        return None
    marks = {name: one.mark for name, one in DIALECTS.items()}
    told = told_by(marks, names) if reading.text else "espnet"
    if told == "speechbrain" and not _IDS.match(reading.text):
        told = "tdanet"
    if (told in _JSON) != reading.is_json:
        told = None
    if form not in (None, told):
        told = form if is_named and "espnet" not in (form, told) else None
    return (told, reading) if told else None


def _score(reading: Reading, form: str, roots: PathMap) -> list[Score]:
    """Return a score for each row, with the numbers as they are written."""
    dialect, refused, scores = DIALECTS[form], reading.refused, dict[object, Score]()
    find = finder(reading.path, roots)
    for place, values in _READERS.get(form, Reading.records)(reading):
        told = (values.pop(column, None) for column in dialect.about)
        name = next((str(one) for one in told if one), "")
        if name in _MEANS:
            continue
        if not name or _CHUNK.search(name):
            needed = f"it has no {' or '.join(map(repr, dialect.about))}"
            reason = f"{name!r} is a part of an estimate; score it whole" if name else needed
            refused.add(reading.path, reason, place)
            continue
        speaker, output = values.pop("speaker", ""), values.pop("output", "")
        impl, about = values.pop("model", None) or dialect.impl, roots(name)
        names = ("", about) if dialect.of_output else (about, find(output) if output else "")
        key = (name, speaker) if dialect.joins else place
        score = scores.setdefault(key, Score(reading, place, impl, *names, speaker))
        columns: dict[str, str] = {}
        for column, value in values.items():
            if (metric := _metric(column, dialect.metrics)) in _TAKEN:
                reading.skipped[f"a metric cannot be named {metric!r}"] += 1
                continue
            try:
                measured = _measured(metric, value) if metric else None
            except (ValueError, InvalidValueError) as error:
                refused.add(reading.path, str(error), place, column)
            else:
                if measured is None:
                    continue
                first = columns.setdefault(metric, column)
                if first != column and score.metrics[metric] != measured:
                    refused.add(reading.path, f"{first!r} is {metric} too", place, column)
                score.metrics[metric] = measured
    return [*scores.values()]


def _measured(metric: str, value: object) -> float | None:
    """Return the number that is written, if one is, within the bounds of its column."""
    measured = number(value)
    if metric in METRIC_COLUMNS:
        Metrics.of({metric: measured})
    return measured


def _divide(scores: list[Score]) -> list[str]:
    """Make fractions of the shares that one file tells in percent; return their names."""
    percent = [name for name in _SHARES if any(one.metrics.get(name, 0) > _SHARE for one in scores)]
    for metrics in (score.metrics for score in scores if percent):
        metrics |= {name: metrics[name] / 100 for name in percent if name in metrics}
    return percent


@lru_cache(maxsize=1024)
def _metric(column: str, known: tuple[str, ...]) -> str:
    """Return a metric's name in the vocabulary, else in its spelling; nothing for another column.

    ``known`` are the columns that are metrics, where not all are.
    """
    if column not in known if known else not column or _NO_METRIC.search(column):
        return ""
    name = column.removeprefix("input_")
    term = find_metric(name)
    return column[: -len(name)] + (spelled(name) if term is None else term.name)


def _versa(reading: Reading) -> Iterator[Record]:
    """Yield the numbers of each line; of error rates VERSA writes the counts alone."""
    for place, values in reading.records():
        key = values.get("key")
        told: dict[str, Any] = {"key": key if isinstance(key, str) else None}
        rates: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if counted := _COUNTS.fullmatch(name):
                rates[f"{counted[2]}_{counted[1]}"][counted[3]] = value
            else:
                told[name] = value
        for name, rate in rates.items():
            wrong = rate["delete"] + rate["replace"]
            if words := rate["equal"] + wrong:
                told[name] = (wrong + rate["insert"]) / words
        yield Record(place, told)


def _museval(reading: Reading) -> Iterator[Record]:
    """Yield the median over the finite frames of each target."""
    whole = whole_object(reading.path, reading.text)
    targets = whole.get("targets")
    if not isinstance(targets, list):
        raise InputError(reading.path, "it has no targets, as results of museval have")
    impl = f"museval {whole.get('museval_version') or ''}".strip() + ", median of frames"
    if any(isinstance(one, dict) and one.get("name") == "accompaniment" for one in targets):
        impl += " beside accompaniment"
    for place, target in ((f"target {count}", one) for count, one in enumerate(targets, 1)):
        told: dict[str, Any] = {"mixture": reading.path.stem, "model": impl}
        try:
            told["speaker"] = str(target["name"]).removesuffix(".wav")
            frames = [one["metrics"] for one in target["frames"]]
            for kind in dict.fromkeys(kind for frame in frames for kind in frame):
                values = [float(frame[kind]) for frame in frames]
                if finite := list(filter(math.isfinite, values)):
                    told[kind] = statistics.median(finite)
        except (TypeError, KeyError, ValueError):
            reason = "it has no name, or no frames with metrics"
            reading.refused.add(reading.path, reason, place)
        else:
            yield Record(place, told)


def _espnet(reading: Reading) -> Iterator[Record]:
    """Yield each number of the files of a metric and speaker.

    ``wav_spk1`` names the estimates; where nothing does, they are the mixtures as they were.
    """
    paths = sorted(path for path in reading.path.iterdir() if _TABLE.fullmatch(path.name))
    texts = {path.name: text_of(path) if path.stat().st_size else "" for path in paths}
    tables = {name: list(map(split, text.splitlines())) for name, text in texts.items()}
    outputs = {name: dict(lines) for name, lines in tables.items() if name.startswith("wav_")}
    before, impl = ("", None) if outputs else ("input_", _LEVEL)
    for name, lines in tables.items():
        metric, _, speaker = name.rpartition("_")
        for count, (key, value) in enumerate(lines if name not in outputs else (), 1):
            if key:
                output = outputs.get(f"wav_{speaker}", {}).get(key, "")
                told = {"mixture": key, "speaker": speaker, "output": output, "model": impl}
                yield Record(f"{name}, line {count}", {**told, before + metric: value})


_READERS: Final = {"versa": _versa, "museval": _museval, "espnet": _espnet}


def _clean(scores: list[Score]) -> Iterator[str]:
    """Take away what looks like a number and is none, add improvements; yield notes about it."""
    dropped, far = Counter[str](), 0
    for metrics in (score.metrics for score in scores):
        for before in ("", "input_"):
            sdr, sir, sar = (f"{before}{name}" for name in ("sdr", "sir", "sar"))
            if math.isinf(metrics.get(sir, 0)) and metrics.get(sar) == metrics.get(sdr):
                del metrics[sir]  # BSS-Eval of a single source: there is nothing to tell apart
                metrics.pop(sar, None)
        for name, value in [*metrics.items()]:
            low, high = _FAILED.get(name.removeprefix("input_").partition("_")[0], _NEVER)
            failed = low <= value <= high
            if failed or not math.isfinite(value):
                del metrics[name]
                reason = f"{value:g}, which says that it failed" if failed else value
                dropped[f"{name} is {reason}"] += 1
        for name, improvement in _IMPROVED.items():
            if name in metrics and f"input_{name}" in metrics:
                metrics.setdefault(improvement, metrics[name] - metrics[f"input_{name}"])
        far += any(abs(metrics.get(name, 0)) > _FAR for name in ("si_sdr", "si_snr"))
    yield from (f"{count:,} without a value: {reason}" for reason, count in dropped.items())
    if far:
        yield f"{far:,} beyond ±{_FAR} dB: silent or perfect estimates?"
