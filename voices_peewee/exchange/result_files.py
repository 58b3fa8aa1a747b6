"""What other tools write of results: each format's files into scores, one for each row."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.errors import InputError, QueryError
from voices_peewee.exchange.manifests import Here
from voices_peewee.exchange.texts import (
    Refused,
    csv_records,
    first_column,
    header,
    json_records,
    number,
    text_of,
    whole_object,
)
from voices_peewee.records.roots import PathMap
from voices_peewee.schema.vocabulary import find_metric, spelled


@dataclass(slots=True)
class Score:
    """The numbers of one row: of a mixture, or of an estimate where that is named.

    Names are paths or parts of them. ``impl`` is what computed the numbers, and how.
    """

    file: Path
    place: str
    impl: str
    mixture: str = ""
    output: str = ""
    speaker: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The row in messages."""
        return f"{str(self.file)!r}, {self.place}"


class Dialect(NamedTuple):
    """A CSV of one tool: the columns that tell it, and those that name what a row is about.

    A row is about a mixture, or where ``of_output`` about an estimate. Without ``metrics`` every
    other column is one.
    """

    marks: frozenset[str]
    about: tuple[str, ...]
    impl: str
    of_output: bool = False
    metrics: tuple[str, ...] = ()


_MIXTURES: Final = ("mix_path", "filename", "source_path")
_SNT: Final = frozenset(["snt_id"])
_DNSMOS: Final = ("OVRL", "SIG", "BAK", "P808_MOS")
_NISQA: Final = ("mos_pred", "noi_pred", "dis_pred", "col_pred", "loud_pred")
DIALECTS: Final = {
    "speechbrain": Dialect(_SNT, ("snt_id",), "SpeechBrain, mean over speakers"),
    "tdanet": Dialect(_SNT, ("snt_id",), "TDANet, mean over speakers"),
    "asteroid": Dialect(frozenset(["input_si_sdr"]), _MIXTURES, "asteroid, mean over speakers"),
    "dnsmos": Dialect(frozenset(_DNSMOS[:3]), ("filename",), "DNSMOS", True, _DNSMOS),
    "nisqa": Dialect(frozenset(["deg", "mos_pred"]), ("deg",), "NISQA", True, _NISQA),
}
FORMATS: Final = ("versa", *DIALECTS, "espnet", "museval")

_SUFFIXES: Final = frozenset([".csv", ".json", ".jsonl", ".txt"])
_MEANS: Final = frozenset(["", "avg", "std"])
_SCORES: Final = re.compile(r"([A-Za-z0-9_]+)_(spk\d+)")
_COUNTS: Final = re.compile(r"(.+)_(wer|cer|per)_(equal|delete|insert|replace)")
_CHUNK: Final = re.compile(r"@\d+\.\d+-\d+\.\d+$")
_IMPROVED: Final = {"si_sdr": "si_sdri", "sdr": "sdri", "si_snr": "si_snri"}
_FAILED: Final = 1e-5  # what STOI is where nothing but silence is left; PESQ is 0 or less
_FAR: Final = 80  # dB; what is beyond comes of a silent or a perfect estimate


@dataclass(slots=True)
class ResultFile:
    """A file or folder of results that was read; ``time`` is when it was written."""

    format: str
    time: dt.datetime
    scores: list[Score]
    notes: list[str]


class Reading(NamedTuple):
    """A file, or a folder of ESPnet, on its way to scores."""

    path: Path
    text: str
    format: str
    roots: PathMap
    refused: Refused


def read_results(
    paths: Iterable[str | os.PathLike[str]], form: str | None, roots: PathMap, refused: Refused
) -> list[ResultFile]:
    """Read files, and what in folders is known.

    Raises:
        InputError: What is named cannot be read or told, or a folder holds no results.
        QueryError: There is no such format.
    """
    if form is not None and form not in FORMATS:
        raise QueryError.unknown_field(form, FORMATS, "format")
    files: list[ResultFile] = []
    for path in map(Path, paths):
        inner = list(_inside(path)) if path.is_dir() else [path]
        found = [_read(one, form, roots, refused, is_named=one == path) for one in inner]
        if not any(found):
            raise InputError(path, "no results that are known are in it")
        files += filter(None, found)
    files = _with_inputs(files)
    for score in (score for one in files for score in one.scores):
        _improve(score.metrics)
    return files


def _improve(metrics: dict[str, float]) -> None:
    """Add the improvements that a tool leaves to its readers."""
    for name, improvement in _IMPROVED.items():
        if name in metrics and f"input_{name}" in metrics:
            metrics.setdefault(improvement, metrics[name] - metrics[f"input_{name}"])


def _inside(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that may be results, and scoring folders of ESPnet as one."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        if any(map(_SCORES.fullmatch, names)):
            yield Path(place)
        else:
            files = (Path(place, name) for name in sorted(names))
            yield from (path for path in files if path.suffix in _SUFFIXES)


def _read(
    path: Path, form: str | None, roots: PathMap, refused: Refused, *, is_named: bool
) -> ResultFile | None:
    """Read one file, or ESPnet's folder; None for what lies in a folder and is something else."""
    try:
        text = "" if path.is_dir() else text_of(path)
    except InputError:
        if is_named:
            raise
        return None
    told = "espnet" if path.is_dir() else _told(path, text)
    if not is_named and (told is None or form not in (None, told)):
        return None
    told = form or told
    if told is None:
        raise InputError(path, f"its format cannot be told; name it: {', '.join(FORMATS)}")
    if (told == "espnet") != path.is_dir():
        raise InputError(path, "espnet's results are a folder with files such as SDR_spk1")
    scores = list(_READERS.get(told, _csv)(Reading(path, text, told, roots, refused)))
    time = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
    return ResultFile(told, time, scores, _clean(scores))


def _told(path: Path, text: str) -> str | None:
    """Return the format of a file, as its content tells."""
    start = text.lstrip()
    if start.startswith("{"):
        names = whole_object(path, start.partition("\n")[0]) or whole_object(path, start)
        return "versa" if "key" in names else "museval" if "targets" in names else None
    columns = set(header(text))
    if "snt_id" in columns:
        ids = {*first_column(text)} - _MEANS
        return "speechbrain" if all(map(str.isdigit, ids)) else "tdanet"
    if "mix_path" in columns:
        return "asteroid"
    return next((form for form, one in DIALECTS.items() if one.marks <= columns), None)


@lru_cache(maxsize=1024)
def canonical(name: str) -> str:
    """Return a metric's name in the vocabulary, else in its spelling."""
    term = find_metric(name)
    return spelled(name) if term is None else term.name


def _csv(file: Reading) -> Iterator[Score]:
    dialect, columns = DIALECTS[file.format], header(file.text)
    about = next((name for name in dialect.about if name in columns), None)
    if about is None:
        names = " or ".join(map(repr, dialect.about))
        raise InputError(file.path, f"no column says what a row is about: it has no {names}")
    others = [name for name in columns if name not in ("", about) and not name.endswith("_path")]
    metrics = {name: canonical(name) for name in dialect.metrics or others if name in columns}
    for record in csv_records(file.path, file.text, file.refused):
        name = record.values[about]
        if about == "snt_id" and name in _MEANS:
            continue
        impl = record.values.get("model") if file.format == "nisqa" else None
        score = Score(file.path, record.place, impl or dialect.impl)
        score.output, score.mixture = (name, "") if dialect.of_output else ("", name)
        for column, metric in metrics.items():
            _take(score, metric, record.values[column], file.refused, column)
        yield score


def _take(score: Score, metric: str, value: object, refused: Refused, column: str = "") -> None:
    """Give a score the number that is written, if one is."""
    try:
        found = number(value)
    except ValueError as error:
        refused.add(score.file, str(error), score.place, column)
    else:
        if found is not None:
            score.metrics[metric] = found


def _versa(file: Reading) -> Iterator[Score]:
    """Yield a score for each key; of a key that is there again, the later line counts."""
    scores: dict[str, Score] = {}
    for record in json_records(file.path, file.text, file.refused):
        key = record.values.pop("key", None)
        if not isinstance(key, str) or not key:
            file.refused.add(file.path, "it has no key", record.place)
        elif _CHUNK.search(key):
            reason = f"{key!r} is a part of an estimate; score it whole"
            file.refused.add(file.path, reason, record.place)
        else:
            score = scores.setdefault(key, Score(file.path, record.place, "VERSA", output=key))
            score.metrics |= _versa_metrics(record.values)
    yield from scores.values()


def _versa_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line; of error rates VERSA writes the counts alone."""
    metrics: dict[str, float] = {}
    rates: dict[str, Counter[str]] = {}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        metric, count = _versa_name(name)
        if count:
            rates.setdefault(metric, Counter())[count] = int(value)
        else:
            metrics[metric] = float(value)
    for name, rate in rates.items():
        wrong = rate["delete"] + rate["replace"]
        if words := rate["equal"] + wrong:
            metrics[name] = (wrong + rate["insert"]) / words
    return metrics


@lru_cache(maxsize=1024)
def _versa_name(name: str) -> tuple[str, str]:
    """Return the metric that a name means, and what of an error rate it counts."""
    counts = _COUNTS.fullmatch(name)
    return (f"{counts[2]}_{counts[1]}".lower(), counts[3]) if counts else (canonical(name), "")


def _museval(file: Reading) -> Iterator[Score]:
    """Yield the median over the finite frames of each target."""
    path, whole = file.path, whole_object(file.path, file.text)
    targets = whole.get("targets")
    if not isinstance(targets, list):
        raise InputError(path, "it has no targets, as results of museval have")
    impl = f"museval {whole.get('museval_version') or ''}".strip() + ", median of frames"
    if any(isinstance(one, dict) and one.get("name") == "accompaniment" for one in targets):
        impl += " beside accompaniment"
    for count, target in enumerate(targets, 1):
        try:
            score = Score(path, f"target {count}", impl, path.stem, speaker=str(target["name"]))
            frames = [one["metrics"] for one in target["frames"]]
            for kind in dict.fromkeys(kind for frame in frames for kind in frame):
                values = [float(frame[kind]) for frame in frames]
                if finite := list(filter(math.isfinite, values)):
                    score.metrics[canonical(kind)] = statistics.median(finite)
        except (TypeError, KeyError, ValueError):
            file.refused.add(path, "it has no name, or no frames with metrics", f"target {count}")
            continue
        score.speaker = score.speaker.removesuffix(".wav")
        yield score


def _espnet(file: Reading) -> Iterator[Score]:
    """Yield the scores of each utterance and speaker, from a file for each metric and speaker."""
    here, scores = Here(file.path, file.roots, upwards=True), dict[tuple[str, str], Score]()
    for path in sorted(file.path.iterdir()):
        table = _SCORES.fullmatch(path.name)
        for count, line in enumerate(text_of(path).splitlines() if table else (), 1):
            name, _, value = line.strip().partition(" ")
            if table is None or not name:
                continue
            blank = Score(path, f"line {count}", "ESPnet", name, speaker=table[2])
            score = scores.setdefault((name, table[2]), blank)
            if table[1] == "wav":
                score.output = here.find(value)
            else:
                score.file, score.place = path, f"line {count}"
                _take(score, canonical(table[1]), value.strip(), file.refused)
    yield from scores.values()


_READERS: Final = {"versa": _versa, "museval": _museval, "espnet": _espnet}


def _with_inputs(files: list[ResultFile]) -> list[ResultFile]:
    """Give ESPnet's estimates the scores of their mixtures, which name no estimates."""
    espnet = [one for one in files if one.format == "espnet"]
    before = [one for one in espnet if not any(score.output for score in one.scores)]
    if len(before) == len(espnet):
        return files
    inputs = {(one.mixture, one.speaker): one.metrics for file in before for one in file.scores}
    for score in (score for one in espnet if one not in before for score in one.scores):
        for name, value in inputs.get((score.mixture, score.speaker), {}).items():
            score.metrics[f"input_{name}"] = value
    return [one for one in files if one not in before]


def _clean(scores: list[Score]) -> list[str]:
    """Take away what looks like a number and is none; return notes about it."""
    dropped: Counter[str] = Counter()
    percent = {
        name
        for name in ("stoi", "estoi", "input_stoi", "input_estoi")
        if any(score.metrics.get(name, 0) > 1 for score in scores)
    }
    far = 0
    for score in scores:
        metrics = score.metrics
        for name in percent & metrics.keys():
            metrics[name] /= 100
        if math.isinf(metrics.get("sir", 0)) and metrics.get("sar") == metrics.get("sdr"):
            del metrics["sir"]  # BSS-Eval of a single source: there is nothing to tell apart
            metrics.pop("sar", None)
        # most are no small numbers, which alone tell of a failure
        doubtful = [name for name, value in metrics.items() if not _FAILED < value < math.inf]
        for name in doubtful:
            if reason := _is_none(name, metrics[name]):
                del metrics[name]
                dropped[f"{name} is {reason}"] += 1
        far += any(abs(metrics.get(name, 0)) > _FAR for name in ("si_sdr", "si_snr"))
    notes = [f"{count:,} without a value: {reason}" for reason, count in dropped.items()]
    notes += [f"{', '.join(sorted(percent))}: percent, divided by 100"] if percent else []
    return [*notes, f"{far:,} beyond ±{_FAR} dB: silent or perfect estimates?"] if far else notes


def _is_none(name: str, value: float) -> str:
    """Say why a number is none: not finite, or what a tool writes where it failed."""
    if not math.isfinite(value):
        return str(value)
    kind = name.removeprefix("input_").partition("_")[0]
    is_stoi = kind in ("stoi", "estoi") and value in (0, _FAILED)
    failed = is_stoi or (kind == "pesq" and value <= 0)
    return f"{value:g}, which says that it failed" if failed else ""
