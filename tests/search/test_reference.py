"""Random queries on random databases, against a slow reference that filters in Python."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)
from voices_peewee.search.pages import records, select

Row = dict[str, Any]
Test = Callable[[Row], bool]


@dataclass(frozen=True)
class Word:
    """A word as it is typed, and what it says of a row."""

    text: str
    fits: Test
    asked_of: str = "row"  # where a list of files looks: row, run, or voice, which may be either


NAMES = ["Ada", "adam", "Élodie", "élo", "b_b%", "ß*?[x]", "x,y"]  # composed, as stored
TAGS = ["x", "X", "y,z", "É"]
PATHS = ["/d/Mix a.wav", "/d/e\u0301_1.FLAC", "C:\\100%.wav"]
TIMES = [
    dt.datetime(2026, month, 1, hour, tzinfo=dt.UTC) for month, hour in ((1, 0), (1, 12), (2, 0))
] + [dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)]
JSON = [1, 2, 2.5, "2", "hall", True, None, ["hall", 2], [], {"k": 2}, {"k": "hall"}]
NUMBERS = [None, 0, 0.5, 2, 90, 1e3]
MODELS = [None, "demucs", "Demucs", "a:b"]
VERSIONS = [None, "4.0", "1"]
STATES = ["success", "failed", "unfinished"]
KINDS = ["recording", "stem", "voice"]


def rows(**columns: Any) -> st.SearchStrategy[Row]:
    chosen = {
        name: st.sampled_from(values) if isinstance(values, list) else values
        for name, values in columns.items()
    }
    return st.fixed_dictionaries(chosen)


def objects(name: str) -> st.SearchStrategy[Row]:
    return st.dictionaries(
        st.sampled_from([name, "größe", "a b"]), st.sampled_from(JSON), max_size=2
    )


SPEAKER = rows(
    name=NAMES,
    description=[None, "", "ada's", "É"],
    tags=st.lists(st.sampled_from(TAGS), unique=True),
    created_at=TIMES,
)
FILE = rows(
    filename=["mix a.wav", "é_1.flac", "100%.WAV"],
    original_path=[None, *PATHS],
    processed_path=[None, *PATHS],
    file_format=[None, "wav", "WAV", "flac"],
    duration=NUMBERS,
    sample_rate=[None, 8000, 44100],
    channels=[None, 1, 2],
    file_size=[None, 0, 2_000_000],
    content_hash=[None, "ab12", "ab", "ac"],
    metadata=objects("room"),
    created_at=TIMES,
    speaker=st.integers(0, 2),
    recording=st.integers(0, 3),
)
RUN = rows(
    operation_type=["separate", "denoise"],
    model_type=MODELS,
    model_version=VERSIONS,
    parameters=objects("shifts"),
    start_time=TIMES,
    state=STATES,
    error_message=[None, "ValueError: É\nat 1", "mix"],
    processed_file=st.integers(0, 3),
    metrics=st.none()
    | rows(
        model_type=MODELS,
        model_version=VERSIONS,
        si_snri=[None, -3, 0, 12.5],
        processing_time=NUMBERS,
        additional_metrics=objects("pesq"),
        created_at=TIMES,
    ),
)


@st.composite
def databases(draw: st.DrawFn) -> dict[str, list[Row]]:
    """Return rows as the lists show them: each with all that its joins give."""
    speakers = number(draw(st.lists(SPEAKER, max_size=3)))
    files = number(draw(st.lists(FILE, max_size=4)))
    runs = number(draw(st.lists(RUN, max_size=5))) if files else []
    for file in files:
        owner = file.pop("speaker")
        file["speaker_id"] = owner if 0 < owner <= len(speakers) else None
        found = speakers[owner - 1] if file["speaker_id"] else {}
        file |= {"speaker": found.get("name"), "tag": found.get("tags", [])}
        whole = files[file.pop("recording") % len(files)]
        is_part = whole["id"] < file["id"] and whole["kind"] == "recording"
        file["recording_id"] = whole["id"] if is_part else None
        file["kind"] = "recording" if not is_part else "stem" if file["processed_path"] else "voice"
    for file in files:
        file["parts"] = [other for other in files if whole_of(other) == file["id"]]
    for speaker in speakers:
        speaker |= {"speaker": speaker["name"], "speaker_id": speaker["id"]}
        speaker["files"] = sum(file["speaker_id"] == speaker["id"] for file in files)
    history = [joined(run, files[run.pop("processed_file") % len(files)], files) for run in runs]
    measured = number([run["metrics"] | {"run": run} for run in history if run["metrics"]])
    for row in measured:
        run = row.pop("run")
        row |= {key: value for key, value in run.items() if key not in row}
        row["history_id"] = run["id"]
    for file in files:
        file["runs"] = [run for run in history if run["file_id"] == file["id"]]
    return {"speakers": speakers, "files": files, "history": history, "performance": measured}


def whole_of(file: Row) -> int:
    return int(file["recording_id"] or file["id"])


def number(found: list[Row]) -> list[Row]:
    return [{**row, "id": key} for key, row in enumerate(found, 1)]


def joined(run: Row, file: Row, files: list[Row]) -> Row:
    state = run.pop("state")
    run |= {"status": state, "success": state == "success", "file_id": file["id"]}
    run["end_time"] = None if state == "unfinished" else run["start_time"]
    own = {"id", "created_at", "parts"}
    shared = {key: value for key, value in file.items() if key not in own}
    metrics = {key: value for key, value in (run["metrics"] or {}).items() if key not in run}
    whole = files[whole_of(file) - 1]
    shared |= {"metadata": whole["metadata"], "file": file["filename"]}
    return {"additional_metrics": None, **shared, **metrics, **run}


def store_rows(database: dict[str, list[Row]]) -> None:
    """Write the rows, in place of those that were there."""
    for model in (ModelPerformance, ProcessingHistory, ProcessedFile, Speaker):
        model.delete().execute()
    for model, noun in (
        (Speaker, "speakers"),
        (ProcessedFile, "files"),
        (ProcessingHistory, "history"),
        (ModelPerformance, "performance"),
    ):
        for row in database[noun]:
            known = {name: row[name] for name in model._meta.fields if name in row}
            if model is ProcessedFile:
                known |= {"speaker": row["speaker_id"], "recording": row["recording_id"]}
            if model is ProcessingHistory:
                known["processed_file"] = row["file_id"]
            if model is ModelPerformance:
                known["processing_history"] = row["history_id"]
            model.insert(known).execute()


def holds(text: object, part: str) -> bool:
    """Whether a text has a part, in any letter case, composed or decomposed."""
    if not isinstance(text, str):
        return False
    forms = {part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part)}
    return any(form.lower() in text.lower() for form in forms)


def quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def any_of(field: str, tests: list[tuple[str, Test]], **options: Any) -> Word:
    values = ",".join(text for text, _ in tests)
    return Word(f"{field}:{values}", lambda row: any(fits(row) for _, fits in tests), **options)


def texts(key: str, parts: list[str]) -> Iterator[tuple[str, Test]]:
    yield "", lambda row: row.get(key) in {None, ""}
    for part in parts:
        yield quote(part), lambda row, part=part: holds(row.get(key), part)


def wholes(key: str, values: list[Any]) -> Iterator[tuple[str, Test]]:
    yield "", lambda row: row.get(key) is None
    for value in filter(None, values):
        yield quote(value), lambda row, value=value: row.get(key) == value


def formats() -> Iterator[tuple[str, Test]]:
    yield "", lambda row: row.get("file_format") is None
    for text in ("wav", "WAV", "flac", "FLAC"):
        yield text, lambda row, text=text: (row.get("file_format") or "").lower() == text.lower()


def numbers(key: str, values: list[Any], unit: str = "") -> Iterator[tuple[str, Test]]:
    yield "", lambda row: row.get(key) is None
    yield "..", lambda row: row.get(key) is not None
    for value in values:
        if value is not None:
            yield from compared(key, value, f"{value}{unit}")


def compared(key: str, value: Any, text: str) -> Iterator[tuple[str, Test]]:
    def test(fits: Callable[[Any], bool]) -> Test:
        return lambda row: row.get(key) is not None and fits(row[key])

    yield text, test(lambda found: found == value)
    yield f"{text}..", test(lambda found: found >= value)
    yield f"..{text}", test(lambda found: found <= value)
    yield f"{text}..{text}", test(lambda found: found == value)


def times(key: str) -> Iterator[tuple[str, Test]]:
    january = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
    noon = TIMES[3], TIMES[3] + dt.timedelta(minutes=1)
    for text, (start, end) in (("2026-01", january), ("2026-02-01T14:00+02:00", noon)):
        yield text, within(key, start, end)
        yield f"{text}..", within(key, start, None)
        yield f"..{text}", within(key, None, end)
    yield "", lambda row: row.get(key) is None


def within(key: str, start: dt.datetime | None, end: dt.datetime | None) -> Test:
    def fits(row: Row) -> bool:
        found = row.get(key)
        return (
            found is not None and (start is None or found >= start) and (end is None or found < end)
        )

    return fits


def json_values(key: str, path: list[str]) -> Iterator[tuple[str, Test]]:
    def test(fits: Callable[[Any], bool]) -> Test:
        return lambda row: any(fits(found) for found in elements(row.get(key), path))

    def is_number(found: object) -> bool:
        return isinstance(found, int | float) and not isinstance(found, bool)

    yield "", lambda row: at(row.get(key), path) is None
    yield "..", test(lambda found: found is not None)
    yield "2", test(lambda found: found == "2" or (is_number(found) and found == 2))
    yield '"2"', test(lambda found: found == "2")
    yield "2..", test(lambda found: is_number(found) and found >= 2)
    yield "1..2", test(lambda found: is_number(found) and 1 <= found <= 2)
    yield "hall", test(lambda found: found == "hall")
    yield "true", test(lambda found: found is True)


def at(value: object, path: list[str]) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def elements(value: object, path: list[str]) -> list[object]:
    found = at(value, path)
    if isinstance(found, dict) or (found is None and not is_null(value, path)):
        return []
    return found if isinstance(found, list) else [found]


def is_null(value: object, path: list[str]) -> bool:
    """Whether a path leads to null, and not just nowhere."""
    inner = at(value, path[:-1])
    return isinstance(inner, dict) and path[-1] in inner


def tags(key: str) -> Iterator[tuple[str, Test]]:
    yield "", lambda row: not row.get(key)
    for tag in TAGS:
        yield quote(tag), lambda row, tag=tag: tag in (row.get(key) or [])


def speakers() -> Iterator[tuple[str, Test]]:
    yield "", lambda row: row.get("speaker_id") is None
    yield "id:1", lambda row: row.get("speaker_id") == 1
    yield '"1"', lambda row: holds(row.get("speaker"), "1")
    for part in ("ad", "ADA", "É", "%"):
        yield quote(part), lambda row, part=part: holds(row.get("speaker"), part)


def models() -> Iterator[tuple[str, Test]]:
    yield "", lambda row: row.get("model_type") is None
    for model in filter(None, MODELS):
        if ":" not in model:
            yield model, lambda row, model=model: row.get("model_type") == model
        yield quote(model), lambda row, model=model: row.get("model_type") == model
        for version in VERSIONS:
            both = (model, version)
            yield (
                f"{model}:{version or ''}",
                lambda row, both=both: (
                    (
                        row.get("model_type"),
                        row.get("model_version"),
                    )
                    == both
                ),
            )


def states() -> Iterator[tuple[str, Test]]:
    for state in STATES:
        yield state, lambda row, state=state: row["status"] == state


PARTS = ["mix", "É", "e", "%", "_", "\\", "*", "?", "[x]", "a.w", " ", "'", "ValueError"]
ID = {"id": list(numbers("id", [1, 2, 3]))}
SPEAKER_WORDS = {
    **ID,
    "name": list(texts("name", PARTS)),
    "description": list(texts("description", PARTS)),
    "tag": list(tags("tags")),
    "files": list(compared("files", 1, "1")),
    "added": list(times("created_at")),
    "speaker": list(speakers()),
}
FILE_WORDS = {
    "filename": list(texts("filename", PARTS)),
    "original_path": list(texts("original_path", PARTS)),
    "format": list(formats()),
    "duration": list(numbers("duration", NUMBERS)),
    "rate": list(numbers("sample_rate", [8000, 44100])),
    "channels": list(numbers("channels", [1, 2])),
    "size": list(numbers("file_size", [0, 2_000_000])),
    "hash": [
        ("", lambda row: row.get("content_hash") is None),
        ("ab", lambda row: (row.get("content_hash") or "").startswith("ab")),
    ],
    "metadata.room": list(json_values("metadata", ["room"])),
    "metadata.room.k": list(json_values("metadata", ["room", "k"])),
    'metadata."a b"': list(json_values("metadata", ["a b"])),
    "metadata.größe": list(json_values("metadata", ["größe"])),
    "metadata": [("", lambda row: not row.get("metadata"))],
    "path": [
        ("", lambda row: row.get("original_path") is None and row.get("processed_path") is None),
        (
            "é",
            lambda row: (
                holds(row.get("original_path"), "é") or holds(row.get("processed_path"), "é")
            ),
        ),
    ],
    "kind": [(kind, lambda row, kind=kind: row["kind"] == kind) for kind in KINDS],
}
VOICE_WORDS = {"speaker": list(speakers()), "tag": list(tags("tag"))}
RUN_WORDS = {
    "operation": list(wholes("operation_type", ["separate"])),
    "model": list(models()),
    "version": list(wholes("model_version", VERSIONS)),
    "status": list(states()),
    "success": [("yes", lambda row: row["success"]), ("no", lambda row: not row["success"])],
    "started": list(times("start_time")),
    "ended": list(times("end_time")),
    "error": list(texts("error_message", PARTS)),
    "parameters.shifts": list(json_values("parameters", ["shifts"])),
    "si_snri": list(numbers("si_snri", [-3, 0, 12.5], "dB")),
    "took": list(numbers("processing_time", [0, 0.5, 2, 90])),
    "metrics.pesq": list(json_values("additional_metrics", ["pesq"])),
}


def words_of(noun: str) -> st.SearchStrategy[Word]:
    """Return words of a list, with what they mean of its rows."""
    fields: list[tuple[str, list[tuple[str, Test]], str]] = []
    if noun == "speakers":
        fields = [(field, tests, "row") for field, tests in SPEAKER_WORDS.items()]
    else:
        fields += [(field, tests, "row") for field, tests in {**ID, **FILE_WORDS}.items()]
        fields += [(field, tests, "voice") for field, tests in VOICE_WORDS.items()]
        fields += [(field, tests, "run") for field, tests in RUN_WORDS.items()]
    if noun == "files":
        fields.append(("added", list(times("created_at")), "row"))
    typed = [
        st.lists(st.sampled_from(tests), min_size=1, max_size=3).map(
            lambda chosen, field=field, of=of: any_of(field, chosen, asked_of=of)
        )
        for field, tests, of in fields
    ]
    bare = st.sampled_from(PARTS).map(lambda part: Word(quote(part), searched(noun, part)))
    return st.one_of(*typed, bare)


SEARCHED = {
    "speakers": ["name", "description", "tags"],
    "files": ["filename", "original_path", "processed_path", "speaker"],
    "history": [
        *("file", "original_path", "processed_path", "speaker", "both"),
        *("operation_type", "error_message"),
    ],
    "performance": ["file", "original_path", "processed_path", "speaker", "both"],
}


def searched(noun: str, part: str) -> Test:
    def fits(row: Row) -> bool:
        version = row.get("model_version")
        both = row.get("model_type") if version is None else f"{row['model_type']}:{version}"
        whole = {**row, "both": both if row.get("model_type") is not None else None}
        found = [whole.get(key) for key in SEARCHED[noun]]
        every = [text for one in found for text in (one if isinstance(one, list) else [one])]
        return any(holds(text, part) for text in every)

    return fits


Query = list[tuple[bool, Word]]


def queries(noun: str) -> st.SearchStrategy[Query]:
    return st.lists(st.tuples(st.booleans(), words_of(noun)), max_size=4)


def spelled(query: Query) -> list[str]:
    return [("^" if negated else "") + word.text for negated, word in query]


def matches(row: Row, query: Query) -> bool:
    """Whether a row has all of a query; files that are asked about runs are recordings."""
    asks_runs = "parts" in row and any(word.asked_of == "run" for _, word in query)
    if not asks_runs:
        return all(word.fits(row) is not negated for negated, word in query)
    names_parts = any(not negated and names_a_part(word) for negated, word in query)
    return of_its_runs(row, query) if names_parts else of_recording(row, query)


def names_a_part(word: Word) -> bool:
    return word.text.startswith("kind:") and ("stem" in word.text or "voice" in word.text)


def of_its_runs(row: Row, query: Query) -> bool:
    return one_run(row["runs"], query, {"run"}) and all(
        word.fits(row) is not negated for negated, word in query if word.asked_of != "run"
    )


def of_recording(row: Row, query: Query) -> bool:
    if row["kind"] != "recording":
        return False
    runs = [run for part in row["parts"] for run in part["runs"]]
    own = all(word.fits(row) is not negated for negated, word in query if word.asked_of == "row")
    if any(word.asked_of == "run" and not negated for negated, word in query):
        return own and one_run(runs, query, {"run", "voice"})
    voices = [word for negated, word in query if word.asked_of == "voice" and not negated]
    denied = [(negated, word) for negated, word in query if negated]
    return (
        own
        and all(any(word.fits(part) for part in row["parts"]) for word in voices)
        and one_run(runs, denied, {"run", "voice"})
    )


def one_run(runs: list[Row], query: Query, asked_of: set[str]) -> bool:
    """Whether one run has all that is asked for, and no run what is denied."""
    words = [(negated, word) for negated, word in query if word.asked_of in asked_of]
    wanted = [word for negated, word in words if not negated]
    found = not wanted or any(all(word.fits(run) for word in wanted) for run in runs)
    return found and not any(word.fits(run) for negated, word in words if negated for run in runs)


SORTS = {
    "speakers": ["name", "description", "created_at", "files", "id"],
    "files": ["filename", "speaker", "duration", "created_at", "processed_path", "id"],
    "history": ["start_time", "status", "model_type", "si_snri", "file", "end_time", "id"],
    "performance": ["si_snri", "created_at", "speaker", "operation_type", "duration", "id"],
}


def ordered(found: list[Row], keys: list[str]) -> list[int]:
    """Sort by keys, the last first; what is empty comes last, and the id decides."""
    down = keys[-1].startswith("-")
    for key in reversed([*keys, "-id" if down else "id"]):
        name, reverse = key.removeprefix("-"), key.startswith("-")
        full = [row for row in found if row.get(name) is not None]
        full.sort(key=lambda row: row[name], reverse=reverse)
        found = full + [row for row in found if row.get(name) is None]
    return [row["id"] for row in found]


@pytest.mark.parametrize("noun", ["speakers", "files", "history", "performance"])
def test_lists_find_what_a_slow_search_finds(db: DatabaseManager, noun: str) -> None:
    """Any query, order and page of any database is what filtering and sorting dicts gives."""
    keys = st.sampled_from(SORTS[noun]).flatmap(lambda key: st.sampled_from([key, f"-{key}"]))

    @settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)
    @given(
        databases(),
        queries(noun),
        st.lists(keys, min_size=1, max_size=2),
        st.integers(0, 3),
        st.none() | st.integers(1, 3),
    )
    def check(
        database: dict[str, list[Row]],
        query: Query,
        sort: list[str],
        offset: int,
        limit: int | None,
    ) -> None:
        with db.atomic():
            store_rows(database)
        expected = ordered([row for row in database[noun] if matches(row, query)], sort)
        end = None if limit is None else offset + limit
        page = select(
            db.store, noun, spelled(query), sort=sort, limit=limit, offset=offset, columns=["id"]
        )
        assert [key for (key,) in page] == expected[offset:end]
        assert page.total == len(expected)
        objects = records(db.store, noun, " ".join(spelled(query)), sort=sort)
        assert [one.id for one in objects] == expected

    check()
