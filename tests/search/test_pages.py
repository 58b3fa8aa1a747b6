"""Lists: what is found, in which order, at which cost, and every sentence about what cannot be."""

from __future__ import annotations

import datetime as dt
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.databases import Databases

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)
from voices_peewee.errors import AmbiguousNameError, InvalidValueError, NotFoundError, QueryError
from voices_peewee.search.columns import LISTS
from voices_peewee.search.pages import matching

DAY = dt.datetime(2026, 11, 22, 10, 30, tzinfo=dt.UTC)


@pytest.fixture(scope="session")
def prepared(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Path | str:
    """A database with two speakers, three files, and a run of each state."""
    path = databases.new(tmp_path_factory.mktemp("listing"))
    with DatabaseManager(path).initialize() as db:
        fill(db)
    return path


@pytest.fixture
def record(
    databases: Databases, prepared: Path | str, path: Path | str
) -> Iterator[DatabaseManager]:
    """A copy of that database, open."""
    databases.copy(prepared, path)
    with DatabaseManager(path).connect() as db:
        yield db


HALL = {"room": "hall", "shots": [1, 2]}
LAB = {"room": ["hall", "lab"], "größe": 2, "room size": {"x": 1}}


def fill(db: DatabaseManager) -> None:
    ada = Speaker(name="Ada", description="Low voice", tags=["female", "a,b"], created_at=DAY)
    elodie = Speaker(name="Élodie", tags=[], created_at=DAY)
    files = [
        ProcessedFile(
            filename=f"mix{number}.wav",
            original_path=f"/data/Room_{number}/mix{number}.wav",
            processed_path=None if number == 3 else f"/stems/{number}.flac",
            file_format="wav",
            duration=float(number),
            sample_rate=16000,
            channels=number,
            speaker=speaker,
            file_size=number * 1_000_000,
            content_hash=f"{number}" * 64,
            metadata=metadata,
            created_at=DAY + dt.timedelta(days=number),
        )
        for number, speaker, metadata in [(1, ada, HALL), (2, elodie, LAB), (3, None, {})]
    ]
    of_runs = [("demucs", "4.0", None), ("svoice", None, "ValueError: odd\n  at 1"), (None,) * 3]
    runs = [
        ProcessingHistory(
            processed_file=files[number - 1],
            run_id=f"run{number}",
            operation_type="voice_separation",
            model_type=model,
            model_version=version,
            parameters={"shifts": number, "on": number == 1, "mode": "2"},
            start_time=DAY + dt.timedelta(hours=number),
            end_time=DAY + dt.timedelta(hours=number + 1) if number < 3 else None,
            success=number == 1,
            error_message=error,
        )
        for number, (model, version, error) in enumerate(of_runs, 1)
    ]
    measured = ModelPerformance(
        processing_history=runs[0],
        model_type="demucs",
        model_version="4.0",
        si_snri=12.5,
        sdri=13.0,
        processing_time=90.0,
        real_time_factor=0.25,
        cpu_usage=80.0,
        memory_usage=512.0,
        additional_metrics={"pesq": 2.75},
        created_at=DAY,
    )
    db.add_all([ada, elodie, *files, *runs, measured])


def ids(record: DatabaseManager, noun: str, words: Any = (), **options: Any) -> list[Any]:
    return [key for (key,) in record.list_rows(noun, words, columns=["id"], **options)]


_FIRST = {
    "speakers": {
        "id": 1, "name": "Ada", "tags": ["female", "a,b"], "files": 1, "description": "Low voice",
    },
    "files": {
        "id": 3, "kind": "recording", "filename": "mix3.wav", "speaker": None, "file_format": "wav",
        "duration": 3.0, "sample_rate": 16000, "channels": 3,
    },
    "history": {
        "id": 3, "file": "mix3.wav", "speaker": None, "operation_type": "voice_separation",
        "model": None, "status": "unfinished", "start_time": DAY + dt.timedelta(hours=3),
        "error": None,
    },
    "performance": {
        "id": 1, "file": "mix1.wav", "speaker": "Ada", "model": "demucs:4.0", "si_snri": 12.5,
        "sdri": 13.0, "real_time_factor": 0.25, "processing_time": 90.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("noun", LISTS)
def test_a_list_shows_its_usual_columns(record: DatabaseManager, noun: str) -> None:
    """Without options a list has the columns that people look for, in its own order."""
    first = next(record.list_rows(noun).dicts())
    assert list(first.items()) == list(_FIRST[noun].items())


@pytest.mark.parametrize("noun", LISTS)
def test_every_column_can_be_shown_and_sorted(record: DatabaseManager, noun: str) -> None:
    """Each column of a list is selected under its name, and is an order in both directions."""
    names = list(LISTS[noun].columns)
    (*_, row) = record.list_rows(noun, columns=names, sort="-id").dicts()
    assert list(row) == names
    for name in names:
        down = ids(record, noun, sort=f"-{name},id")
        assert sorted(down) == sorted(ids(record, noun, sort=name))


def test_values_are_those_of_python(record: DatabaseManager) -> None:
    """Times are aware, JSON is parsed, an error is its first line and a status is a word."""
    names = ["success", "status", "end_time", "error", "parameters", "metadata.shots", "model"]
    rows = record.list_rows("history", columns=names, sort="id").dicts()
    assert list(rows)[1] == {
        "success": False,
        "status": "failed",
        "end_time": DAY + dt.timedelta(hours=3),
        "error": "ValueError: odd",
        "parameters": {"shifts": 2, "on": False, "mode": "2"},
        "metadata.shots": None,
        "model": "svoice",
    }


def test_json_keys_are_columns_and_orders(record: DatabaseManager) -> None:
    """Keys lead into JSON columns; what has no such key comes last."""
    page = record.list_rows(
        "files",
        columns=["id", "metadata.room", 'metadata."room size".x', "metadata.größe"],
        sort="metadata.größe,id",
    )
    assert list(page) == [
        (2, ["hall", "lab"], 1, 2),
        (1, "hall", None, None),
        (3, None, None, None),
    ]
    assert [column.kind for column in page.columns] == ["integer", "other", "other", "other"]


def test_equal_numbers_in_json_are_in_the_order_of_ids(db: DatabaseManager) -> None:
    """1, 1.0 and true are one place in an order, after which the ids decide."""
    values = [True, 1, 1.0, "1", True, 2, 1, 0.5]
    db.add_all([ProcessedFile(filename="a", metadata={"take": value}) for value in values])
    page = db.list_rows("files", columns=["id"], sort="metadata.take", limit=None)
    assert [row[0] for row in page] == [8, 1, 2, 3, 5, 7, 6, 4]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        (f"metadata.seed:{2**64 - 1}", [1]),
        (f"metadata.seed:{2**63}..", [1, 2]),
        (f"metadata.seed:..{2**63}", [2, 3]),
        (f"metadata.seed:{2**62}", [3]),
    ],
)
def test_seeds_of_64_bits(db: DatabaseManager, word: str, found: list[int]) -> None:
    """JSON has integers that no column has: the seeds of torch and NumPy have no sign."""
    seeds = (2**64 - 1, 2**63, 2**62)
    db.add_all([ProcessedFile(filename="a", metadata={"seed": seed}) for seed in seeds])
    assert ids(db, "files", word, sort="id") == found


@pytest.mark.sqlite("what another program may write into a column of SQLite")
@pytest.mark.parametrize(
    ("table", "column", "value", "shown"),
    [
        ("speakers", "tags", "a, b", "a, b"),
        ("processed_files", "metadata", "{'room': 1}", "{'room': 1}"),
        ("processing_history", "start_time", "05/05/2026 10:00", "05/05/2026 10:00"),
        ("processing_history", "start_time", "2026-11-22T01:00:00Z", DAY.replace(hour=1, minute=0)),
        ("processing_history", "start_time", "2026-11-22 01:00:00", DAY.replace(hour=1, minute=0)),
        ("model_performance", "additional_metrics", "[1", "[1"),
    ],
)
def test_values_of_another_program_stand_as_they_are(
    record: DatabaseManager, table: str, column: str, value: str, shown: object
) -> None:
    """What cannot be read is shown as it is stored, and no other row is lost from view."""
    noun = {"processed_files": "files", "processing_history": "history"}.get(table, "performance")
    noun = "speakers" if table == "speakers" else noun
    before = ids(record, noun, sort="id")
    record.database.execute_sql("PRAGMA ignore_check_constraints = 1")
    record.database.execute_sql(f"UPDATE {table} SET {column} = ? WHERE id = 1", (value,))
    assert ids(record, noun, sort="id") == before
    assert list(record.list_rows(noun, "id:1", columns=[column])) == [(shown,)]


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_json_that_cannot_be_read_fits_no_word(record: DatabaseManager) -> None:
    """A row whose JSON is none has no tag and no key; the others are found as ever."""
    record.database.execute_sql("UPDATE speakers SET tags = '[oops' WHERE id = 2")
    record.database.execute_sql("UPDATE processed_files SET metadata = 'oops' WHERE id = 2")
    assert ids(record, "speakers", "tag:female") == ids(record, "files", "tag:female") == [1]
    assert ids(record, "speakers", "fem") == [1]
    assert ids(record, "files", "metadata.room:hall") == [1]
    assert ids(record, "files", "metadata.room:", sort="metadata.room,id") == [2, 3]
    assert list(record.list_rows("files", "id:2", columns=["metadata.room"])) == [(None,)]


def test_forms_of_a_letter_are_one(record: DatabaseManager) -> None:
    """The two small sigmas and the capital one are one letter; dotted and dotless i are two."""
    Speaker.create(name="ΟΔΥΣΣΕΥΣ")
    Speaker.create(name="Οδυσσεύς")
    Speaker.create(name="İpek")
    assert ids(record, "speakers", "οδυσσευς") == [3]
    assert ids(record, "speakers", "ΣΣΕΎΣ") == [4]
    assert ids(record, "speakers", "İPEK") == [5]
    assert ids(record, "speakers", "ipek") == []
    for text in ("οδυσσευς", "ΣΣΕΎΣ", "ΣΣΕΎΣ", "İPEK", "ipek"):
        found = [speaker.id for speaker in record.search_speakers(text)]
        assert found == ids(record, "speakers", text)


@pytest.fixture
def mixture(record: DatabaseManager) -> DatabaseManager:
    """The database, with two stems of its third file, by two speakers, and a voice of it."""
    whole = ProcessedFile.get_by_id(3)
    ProcessedFile.update(metadata={"room": "hall"}).where(ProcessedFile.id == 3).execute()
    for speaker, path, success in ((1, "/s/a.wav", True), (2, "/s/b.wav", False), (2, None, True)):
        row = ProcessedFile.create(
            filename="part.wav", recording=whole, speaker=speaker, processed_path=path
        )
        ProcessingHistory.create(
            processed_file=row,
            operation_type="voice_separation",
            model_type="mask",
            end_time=DAY + dt.timedelta(days=900),
            success=success,
        )
    return record


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("kind:recording", [1, 2, 3]),
        ("kind:stem", [4, 5]),
        ("kind:voice", [6]),
        ("kind:voice,stem speaker:ada", [4]),
        ("^kind:recording", [4, 5, 6]),
        ("recording:3", [4, 5, 6]),
        ("model:mask", [3]),
        ("^model:mask", [1, 2]),
        ("model:mask speaker:ada", [3]),
        ("model:mask speaker:ada status:failed", []),
        ("speaker:ada ^model:demucs", [3]),
        ("tag:female status:success", [1, 3]),
        ("status:failed ^status:success", [2]),
        ("kind:stem model:mask", [4, 5]),
        ("kind:stem model:mask ^status:success", [5]),
        ("kind:recording model:mask", [3]),
        ("^kind:recording model:mask", [4, 5, 6]),
        ("^kind:recording,stem status:success", [6]),
        ("^kind:stem model:mask", [3]),
    ],
)
def test_files_are_asked_about_the_runs_of_their_recording(
    mixture: DatabaseManager, words: str, found: list[int]
) -> None:
    """A recording's runs are those of all its rows; kind: asks about stems and voices."""
    assert ids(mixture, "files", words, sort="id") == found


def test_runs_have_the_metadata_of_their_recording(mixture: DatabaseManager) -> None:
    """What is known of a recording is a field and a column of every run of its stems."""
    columns = ["id", "metadata", "metadata.room"]
    page = mixture.list_rows("history", "metadata.room:hall model:mask", columns=columns, sort="id")
    assert list(page) == [(key, {"room": "hall"}, "hall") for key in (4, 5, 6)]


@pytest.mark.parametrize(
    ("noun", "words", "found"),
    [
        ("speakers", "élo", [2]),
        ("speakers", "e\u0301LODIE", [2]),
        ("speakers", "elodie", []),
        ("speakers", "[é]lo", []),
        ("speakers", "fem", [1]),
        ("speakers", "tag:fem", []),
        ("speakers", 'tag:"a,b"', [1]),
        ("speakers", "^tag:", [1]),
        ("speakers", "files:1..", [1, 2]),
        ("speakers", "speaker:id:2", [2]),
        ("speakers", "added:2026-11-22", [1, 2]),
        ("speakers", "added:..2026-11-21", []),
        ("files", "room_", [1, 2, 3]),
        ("files", "room%", []),
        ("files", "filename:MIX1 format:WAV", [1]),
        ("files", "path:stems/2", [2]),
        ("files", "speaker:ada,id:2", [1, 2]),
        ("files", "^speaker:ada", [2, 3]),
        ("files", "^tag:female", [2, 3]),
        ("files", "duration:2..", [2, 3]),
        ("files", "size:1M..2M rate:16k", [1, 2]),
        ("files", "hash:11", [1]),
        ("files", "metadata.room:hall", [1, 2]),
        ("files", "metadata.shots:2", [1]),
        ("files", 'metadata."room size".x:1', [2]),
        ("files", "metadata.größe:..", [2]),
        ("files", "model:demucs si_snri:10..", [1]),
        ("files", "^model:demucs", [2, 3]),
        ("files", "parameters.shifts:2..", [2, 3]),
        ("history", "model:demucs:4.0", [1]),
        ("history", "model:svoice:", [2]),
        ("history", 'model:"demucs:4.0"', []),
        ("history", "operation:voice", []),
        ("history", "status:FAILED", [2]),
        ("history", "^error:", [2]),
        ("history", "run:run", []),
        ("history", "started:2026-11-22T12", [2]),
        ("history", "parameters.on:true", [1]),
        ("history", "parameters.on:0..1", []),
        ("history", "parameters.mode:2", [1, 2, 3]),
        ("history", 'parameters.shifts:"2"', []),
        ("history", "metrics.pesq:2.75 took:1m30s", [1]),
        ("history", '"demucs:4"', [1]),
        ("performance", "memory:0.6G.. cpu:..80% rtf:0.25 sdri:13dB", []),
        ("performance", "memory:512 cpu:..80% rtf:0.25 sdri:13dB", [1]),
        ("performance", "history_id:1 started:2026-11 tag:female", [1]),
    ],
)
def test_words_find_what_they_say(
    record: DatabaseManager, noun: str, words: str, found: list[int]
) -> None:
    """Each kind of word finds its rows, and their number is known without reading them."""
    assert ids(record, noun, words, sort="id") == found
    assert record.list_rows(noun, words, limit=0).total == len(found)


def test_what_matches_is_a_part_of_another_query(record: DatabaseManager) -> None:
    """Ids of what matches can be asked for inside a query of somebody else."""
    found = matching(record.store, "history", "speaker:ada si_snri:10..")
    of_others = ModelPerformance.select().where(ModelPerformance.processing_history.in_(found))
    assert [row.si_snri for row in of_others] == [12.5]
    files = ProcessedFile.select().where(ProcessedFile.id.in_(matching(record.store, "files", "")))
    assert files.count() == 3


def test_a_format_is_found_as_any_program_wrote_it(record: DatabaseManager) -> None:
    """Small letters or capitals, in the query and in the record, are one format."""
    ProcessedFile.update(file_format="WAV").where(ProcessedFile.id == 1).execute()
    for word in ("format:wav", "format:WAV", "format:wav,flac"):
        assert ids(record, "files", word, sort="id") == [1, 2, 3]
    assert ids(record, "files", "^format:wav") == []


def test_relative_times(record: DatabaseManager) -> None:
    """-7d means the time since then, and a day is a day of UTC."""
    now = dt.datetime.now(dt.UTC)
    Speaker.update(created_at=now - dt.timedelta(days=3)).where(Speaker.id == 1).execute()
    Speaker.update(created_at=now - dt.timedelta(days=30)).where(Speaker.id == 2).execute()
    assert ids(record, "speakers", "added:-7d") == ids(record, "speakers", "added:-1w..-2d") == [1]
    assert ids(record, "speakers", "added:..-7d") == [2]
    assert ids(record, "speakers", "added:today,yesterday") == []


def test_the_run_of_a_file_has_all_that_is_asked(record: DatabaseManager) -> None:
    """Words about runs are true of one run, not of one each; the opposite is of no run."""
    file = ProcessedFile.get_by_id(1)
    ProcessingHistory.create(processed_file=file, operation_type="denoise", model_type="quiet")
    assert ids(record, "files", "model:quiet operation:denoise") == [1]
    assert ids(record, "files", "model:quiet operation:voice_separation") == []
    assert ids(record, "files", "model:quiet ^operation:voice_separation") == []


def test_search_looks_for_the_text_as_it_is(record: DatabaseManager) -> None:
    """A searched text knows no fields, quotes or ranges, and narrows the words down."""
    assert ids(record, "files", "id:1,2", search="MIX2") == [2]
    assert ids(record, "files", search="id:1") == []
    assert ids(record, "files", search="") == [3, 2, 1]


@pytest.mark.parametrize(
    "name", ["100%", "a_b", "a\\b", "*?[x]", "[é]*", "^é-]", "ǅ", "12\" 'mix'"]
)
def test_every_sign_stands_for_itself(record: DatabaseManager, name: str) -> None:
    """No sign of a name is a wildcard."""
    Speaker.create(name=f"x{name}y")
    for words in ([f'"{name.replace(chr(34), chr(34) * 2)}"'], [f"name:{name}"]):
        assert ids(record, "speakers", words) == [3]
    assert ids(record, "speakers", search=name.upper()) == [3]


def test_names_that_are_not_utf8_are_found(record: DatabaseManager) -> None:
    """A name's raw bytes are found by the text that Python has for them."""
    ProcessedFile.create(filename="caf\udce9.wav")
    page = record.list_rows("files", ["filename:caf\udce9"], columns=["filename"])
    assert list(page) == [("caf\udce9.wav",)]
    assert ids(record, "files", ["caf\udce9.W"]) == [4]


@pytest.mark.parametrize(
    ("noun", "sort", "found"),
    [
        ("files", None, [3, 2, 1]),
        ("files", "speaker", [1, 2, 3]),
        ("files", "-speaker", [2, 1, 3]),
        ("files", ["format", "id"], [1, 2, 3]),
        ("files", " rate , -size ", [3, 2, 1]),
        ("history", "-model", [2, 1, 3]),
        ("history", "-parameters.shifts", [3, 2, 1]),
        ("speakers", None, [1, 2]),
        ("speakers", "-files", [2, 1]),
    ],
)
def test_order(record: DatabaseManager, noun: str, sort: Any, found: list[int]) -> None:
    """Rows come in the order that is asked for, empty ones last, and the id decides."""
    assert ids(record, noun, sort=sort) == found


def test_pages_do_not_overlap(record: DatabaseManager) -> None:
    """Limit and offset cut one order into pages, and the total stays."""
    pages = [record.list_rows("files", sort="format", limit=2, offset=at) for at in (0, 2, 4)]
    assert [[row[0] for row in page] for page in pages] == [[1, 2], [3], []]
    assert [page.total for page in pages] == [3, 3, 3]


@pytest.mark.parametrize("value", [-1, 1.5, float("nan"), "3", True], ids=str)
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_bounds_are_whole_numbers(record: DatabaseManager, name: str, value: Any) -> None:
    """A program that asks for less than nothing, or for a part of a row, is told."""
    methods = [record.list_rows, record.search] + [record.leaderboard] * (name == "limit")
    for method in methods:
        with pytest.raises(InvalidValueError) as caught:
            method(*(["files"] if method != record.leaderboard else []), **{name: value})
        assert str(caught.value) == f"{name} must be a whole number of 0 or more, not {value!r}"


def test_records_are_model_objects(record: DatabaseManager) -> None:
    """In Python, what a query finds can be had as objects of the models."""
    found = record.search("files", "speaker:ada,id:2", sort="-duration")
    assert found == [ProcessedFile.get_by_id(2), ProcessedFile.get_by_id(1)]
    assert record.search("files", ["mix"], sort="-duration", limit=1, offset=1) == found[:1]
    assert [run.status for run in record.search("history", "status:failed")] == ["failed"]


@pytest.mark.parametrize(
    ("noun", "options", "found"),
    [
        ("speakers", {"tag": "a,b"}, [1]),
        ("speakers", {"tag": ["female", "a,b"]}, [1]),
        ("speakers", {"tag": ["female", "male"]}, []),
        ("speakers", {"since": dt.date(2026, 11, 22), "until": DAY}, [1, 2]),
        ("speakers", {"until": DAY - dt.timedelta(microseconds=1)}, []),
        ("files", {"speaker": [1, Speaker(id=2, name="Eve")]}, [1, 2]),
        ("files", {"until": "2026-11-24"}, [1, 2]),
        ("history", {"model": "demucs:4.0"}, [1]),
        ("history", {"model": ["svoice", "demucs"]}, [1, 2]),
        ("history", {"operation": "voice_separation", "failed": True}, [2]),
        ("history", {"since": "2026-11-22T12:30", "success": True, "failed": True}, [2]),
        ("performance", {"speaker": 1, "model": "demucs", "tag": "female"}, [1]),
    ],
)
def test_filters_find_what_they_say(
    record: DatabaseManager, noun: str, options: dict[str, Any], found: list[int]
) -> None:
    """Filters narrow down what words find."""
    assert ids(record, noun, sort="id", **options) == found
    assert ids(record, noun, "id:2..", sort="id", **options) == [key for key in found if key > 1]


def test_a_run_without_a_speaker_is_that_of_its_recording(db: DatabaseManager) -> None:
    """Who speaks in a recording may be told when it has stems already, which have nobody."""
    ada, bob = (db.create_speaker(name, tags=[name.lower()]) for name in ("Ada", "Bob"))
    with db.track("/mix/1.wav", "voice_separation") as run:
        run.output("/out/1.wav", si_snri=1.0)
        run.output("/out/2.wav", si_snri=1.0, speaker=bob)
    for noun in ("history", "performance"):
        assert ids(db, noun, "speaker:", sort="id") == [1]
    db.link_file("/mix/1.wav", ada)
    for noun in ("history", "performance"):
        for words in ("speaker:ada", "speaker:id:1", "speaker_id:1", "tag:ada", "ada"):
            assert ids(db, noun, words, sort="id") == [1], words
        assert ids(db, noun, speaker=ada, sort="id") == [1]
        assert ids(db, noun, "speaker:bob", sort="id") == [2]
        assert ids(db, noun, "speaker:", sort="id") == []
        shown = db.list_rows(noun, columns=["speaker", "speaker_id"], sort="speaker")
        assert list(shown) == [("Ada", 1), ("Bob", 2)]
    assert ids(db, "files", "speaker:ada si_snri:1") == [1]
    assert ids(db, "files", "kind:stem speaker:ada si_snri:1") == [2]
    assert ids(db, "files", "kind:stem ^tag:ada status:success") == [3]
    assert ids(db, "files", "kind:stem speaker:bob ^status:failed") == [3]
    (row,) = db.leaderboard(where="speaker:ada", by="speaker_id")
    assert (row.key, row.stems) == ((1,), 1)


def test_a_filter_names_one_speaker(record: DatabaseManager) -> None:
    """A speaker that a filter names must be there, and be the only one of that name."""
    Speaker.create(name="Ada")
    with pytest.raises(AmbiguousNameError) as several:
        record.list_rows("files", speaker="Ada")
    assert str(several.value) == "2 speakers are named 'Ada' (ids 1, 3); use an id"
    with pytest.raises(NotFoundError) as none:
        record.list_rows("files", speaker="ada")
    assert str(none.value) == "no speaker 'ada'; see 'voices list-speakers'"


_TIME = "a time, as 2026-11, 2026-11-22T10:30, today or -7d.."
_FIELDS = "created_at, description, files, id, name, tags, updated_at"


REFUSED_WORDS = {
    "modle:demucs": "unknown field 'modle'; did you mean 'model' or 'model_type' or 'model_hash'?",
    "duration.x:1": "duration has no keys; use duration:value",
    "metadata:x": "metadata needs a key, as in metadata.name:value",
    'metadata."a""b":x': "the key 'a\"b' holds a quote, which a query cannot ask for",
    "duration:5..2": "duration '5..2' ends before it begins",
    "added:2026-12..2026-11": "added '2026-12..2026-11' ends before it begins",
}
REFUSED_COLUMNS = {
    "samplerate": "unknown column 'samplerate'; did you mean 'sample_rate' or 'rate'?",
    "si_snri": "si_snri can be asked for in a query, but is no column of this list",
    "duration.x": "duration has no keys; keys lead into JSON columns",
}


@pytest.mark.parametrize(
    ("noun", "options", "sentence"),
    [
        *(("files", {"words": words}, said) for words, said in REFUSED_WORDS.items()),
        *(("files", {"columns": [name]}, said) for name, said in REFUSED_COLUMNS.items()),
        ("songs", {}, "unknown list 'songs'; use files, history, performance, speakers"),
        ("speakers", {"words": "zzz:1"}, f"unknown field 'zzz'; use {_FIELDS}"),
        ("speakers", {"sort": "-nmae"}, "unknown column 'nmae'; did you mean 'name'?"),
        (
            *("history", {"since": "soon", "until": "2026"}),
            f"since 'soon..2026' cannot be read; it takes {_TIME}",
        ),
        (
            *("history", {"since": dt.datetime(2026, 11, 1)}),  # noqa: DTZ001 - without a zone
            "'2026-11-01 00:00:00' has no time zone; use .astimezone()",
        ),
        (
            *("files", {"search": "a\0"}),
            "'a\\x00' holds a character that no text in a database can have",
        ),
    ],
)
def test_what_cannot_be_asked_gets_one_sentence(
    record: DatabaseManager, noun: str, options: dict[str, Any], sentence: str
) -> None:
    """A question that cannot be answered is refused before anything is read."""
    with pytest.raises(QueryError) as caught:
        record.list_rows(noun, **options)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("noun", "field", "value", "expected"),
    [
        ("files", "id", "x", "a whole number, as 3 or 2..8"),
        ("files", "speaker", "id:x", "a part of a name, or id:3"),
        ("files", "length", "2..4x", "a duration, as 90, 1m30s or 2..4"),
        ("files", "rate", "fast", "a rate in Hz, as 16000, 44.1k or 8k.."),
        ("files", "size", "10X", "a size, as 500k, 10M or 1G.."),
        ("files", "kind", "mix", "recording, stem or voice"),
        ("performance", "si_snri", "good", "a number of dB, as 12.5 or 10.."),
        ("performance", "rtf", "x", "a number, as 0.5 or 1..2.5"),
        ("performance", "cpu", "x", "a percentage, as 80 or 100.."),
        ("performance", "memory", "1e999", "a size in MB, as 512, 2G or 100.."),
        ("history", "started", "2026-13", _TIME),
        ("history", "status", "", "success, failed or unfinished"),
        ("history", "success", "perhaps", "yes or no"),
        ("history", "parameters.shifts", "a..b", "numbers as the ends of a range"),
    ],
)
def test_a_value_that_cannot_be_read_is_told_what_is_expected(
    record: DatabaseManager, noun: str, field: str, value: str, expected: str
) -> None:
    """Each kind of field says what it takes."""
    with pytest.raises(QueryError) as caught:
        record.list_rows(noun, f"{field}:{value}")
    assert str(caught.value) == f"{field} {value!r} cannot be read; it takes {expected}"


def test_a_query_may_be_as_long_as_its_limit(record: DatabaseManager) -> None:
    """A thousand values and words, and the longest of texts, are no error of SQLite's."""
    assert ids(record, "files", "id:" + ",".join(["2"] * 1000)) == [2]
    assert ids(record, "files", ["mix"] * 1000, sort="id") == [1, 2, 3]
    for letter in ("%", "ΐ", "𐐀"):
        assert ids(record, "files", letter * 2000) == []


def statements(record: DatabaseManager, ask: Callable[[], object]) -> list[str]:
    """Return the statements that a question runs, with their values in place."""
    seen: list[str] = []
    record.store.connection().set_trace_callback(seen.append)
    ask()
    record.store.connection().set_trace_callback(None)
    return seen


def plans(record: DatabaseManager, ask: Callable[[], object]) -> list[list[str]]:
    """Return how SQLite goes about each statement of a question."""
    run = record.store.connection().execute
    return [
        [step for *_, step in run(f"EXPLAIN QUERY PLAN {sql}")] for sql in statements(record, ask)
    ]


_COVERING = "USING COVERING INDEX "
PAGES = {
    ("files", ""): f"SCAN t1 {_COVERING}processed_files_created_at",
    ("history", ""): f"SCAN t1 {_COVERING}processing_history_start_time",
    ("performance", ""): "SCAN t1",
    ("speakers", ""): f"SCAN t1 {_COVERING}speakers_name",
    ("files", "added:2026-11.."): (
        f"SEARCH t1 {_COVERING}processed_files_created_at (created_at>?)"
    ),
    ("history", "started:2026-11-22..2026-11-23"): (
        f"SEARCH t1 {_COVERING}processing_history_start_time (start_time>? AND start_time<?)"
    ),
    ("history", "status:failed"): "SCAN t1 USING INDEX processing_history_failed",
    ("history", "status:unfinished"): "SCAN t1 USING INDEX processing_history_unfinished",
}


@pytest.mark.sqlite("the plan of a query as SQLite tells it")
@pytest.mark.parametrize(("asked", "step"), PAGES.items(), ids=map(" ".join, PAGES))
def test_an_index_finds_a_page(record: DatabaseManager, asked: tuple[str, str], step: str) -> None:
    """A page is one statement: ids by an index, and then the rows of the page alone."""
    (plan,) = plans(record, lambda: record.list_rows(*asked))
    assert plan[0] == "SEARCH t1 USING INTEGER PRIMARY KEY (rowid=?)"
    assert plan[2] == step
    assert len([step for step in plan if step.startswith("SCAN")]) <= 1


_SPEAKER_OF_FILE = "processed_files_speaker_id (speaker_id=?)"
_STEMS_OF_FILE = "processed_files_recording_id (recording_id=?)"
_RUNS_OF_FILE = "processing_history_processed_file_id (processed_file_id=?)"
_METRICS_OF_RUN = "model_performance_processing_history_id (processing_history_id=?)"
_SETTINGS = "operation_type_model_type_model_version"
COUNTS = {
    ("files", "speaker:id:1"): [f"t1 {_SPEAKER_OF_FILE}"],
    ("files", "hash:11"): ["t1 USING INDEX processed_files_content_hash (<expr>>? AND <expr><?)"],
    ("history", "speaker:id:1"): [
        *(f"t2 USING INDEX {_SPEAKER_OF_FILE}", f"t2 USING INDEX {_STEMS_OF_FILE}"),
        f"t1 {_RUNS_OF_FILE}",
    ],
    ("history", "run:run1"): ["t1 processing_history_run_id (run_id=?)"],
    ("history", "operation:a model:b:c"): [
        f"t1 processing_history_{_SETTINGS} (operation_type=? AND model_type=? AND model_version=?)"
    ],
    ("performance", "speaker:id:1"): [
        *(f"t3 USING INDEX {_SPEAKER_OF_FILE}", f"t3 USING INDEX {_STEMS_OF_FILE}"),
        *(f"t2 {_RUNS_OF_FILE}", f"t1 {_METRICS_OF_RUN}"),
    ],
}


@pytest.mark.sqlite("the plan of a query as SQLite tells it")
@pytest.mark.parametrize(("asked", "indexes"), COUNTS.items(), ids=map(" ".join, COUNTS))
def test_an_index_counts(
    record: DatabaseManager, asked: tuple[str, str], indexes: list[str]
) -> None:
    """Counting reads what the words need by indexes, and mostly these alone."""
    page = record.list_rows(*asked, limit=0)
    (plan,) = plans(record, lambda: page.total)
    steps = [step.removeprefix("SEARCH ") for step in plan if step.startswith("SEARCH ")]
    outer = [step for step in steps if f"{_COVERING}{_SPEAKER_OF_FILE}" not in step or "t1" in step]
    assert [step.replace(_COVERING, "") for step in outer] == indexes


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_a_list_costs_what_it_shows(record: DatabaseManager) -> None:
    """Only the tables of the chosen columns are joined; a page that is not full needs no count."""
    few, full = record.list_rows("files", limit=4), record.list_rows("history", limit=1)
    asked = [
        *statements(record, lambda: record.list_rows("history", columns=["id", "error"])),
        *statements(record, lambda: record.list_rows("history", columns=["id", "file"])),
        *statements(record, lambda: (few.total, full.total)),
    ]
    order = 'ORDER BY "t1"."start_time" DESC, "t1"."id" DESC'
    inner = f'SELECT "t1"."id" FROM "processing_history" AS "t1" {order} LIMIT 50'
    ids = f'WHERE ("t1"."id" IN ({inner}))'
    file = 'LEFT OUTER JOIN "processed_files" AS "t2" ON ("t1"."processed_file_id" = "t2"."id")'
    assert asked == [
        f'SELECT "t1"."id", "t1"."error_message" FROM "processing_history" AS "t1" {ids} {order}',
        f'SELECT "t1"."id", "t2"."filename" FROM "processing_history" AS "t1" {file} {ids} {order}',
        'SELECT COUNT(*) FROM "processing_history" AS "t1"',
    ]
    assert (few.total, full.total) == (3, 3)


def test_a_long_list_is_streamed(db: DatabaseManager) -> None:
    """All rows of a list pass through little memory."""
    rows = 20_000
    db.add_many(Speaker, ({"name": f"{n}", "description": "x" * 1000} for n in range(rows)))
    list(db.list_rows("speakers", limit=1))
    tracemalloc.start()
    count = sum(1 for _ in db.list_rows("speakers", columns=["description"], limit=None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == rows
    assert peak < 4_000_000  # bytes; the rows together hold 20 MB


def test_a_list_that_was_asked_before(db: DatabaseManager) -> None:
    """The same list is asked anew each time, and told from others of its order and length."""
    for name in ("Ada", "Bob", "Eve"):
        db.create_speaker(name)
        names = [speaker.name for speaker in db.get_all(Speaker)]
        for sort, expected in (("name", names), ("-name", names[::-1]), (["name"], names)):
            for limit, offset in ((1, 0), (1, 1), (5, 0)):
                rows = db.list_rows(
                    "speakers", columns=["name"], sort=sort, limit=limit, offset=offset
                )
                assert [row[0] for row in rows] == expected[offset : offset + limit]
        assert [row[0] for row in db.list_rows("speakers", "Ada", columns=["name"])] == ["Ada"]
    with pytest.raises(InvalidValueError, match="limit must be a whole number"):
        db.list_rows("speakers", columns=["name"], sort="name", limit=1.0)
