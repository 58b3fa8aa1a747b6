"""What comes in: round trips, merging, remapped ids, dry runs and what is skipped."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.databases import ON_SERVER, stored
from support.import_rows import export, lines
from support.run_rows import add_run

from voices_peewee import DatabaseManager, ModelPerformance, ProcessedFile, ProcessingHistory
from voices_peewee.errors import InputError
from voices_peewee.exchange.merging import Counts, Imported
from voices_peewee.schema.models import Speaker

T = "2026-11-01T12:00:00+00:00"
NOON = dt.datetime(2026, 11, 1, 12, 0, 0, 5, tzinfo=dt.UTC)
NOTHING = Counts()
# A server writes JSON its own way: keys by length, no negative zero, and 1e22 as an integer.
SEED, PESQ = (0.5, 1.5) if ON_SERVER else (-0.0, 1e22)


def filled(path: Path) -> str:
    """Make a database with rows of all kinds, and gaps between the ids; return it as JSON lines."""
    with DatabaseManager(path).initialize() as db:
        ada = db.add(Speaker(id=3, name="Ada", description='a "b"\n', tags=["é", "studio"]))
        db.add(Speaker(id=7, name="Ada", tags=[]))
        odd = os.fsdecode(b"/mix/\xff\xe9.wav")
        for number, path_of in enumerate(["/mix/1.wav", odd, None, "/mix/=1.wav"], 1):
            add_run(
                db,
                path_of,
                speaker=ada if number % 2 else None,
                status=["success", "failed", "unfinished"][number % 3],
                file={"metadata": {"": 2**70, "deep": [{"é": None}], "number": 0.1 + number}},
                run={"parameters": {"seed": SEED, "shifts": 2}, "process": {"pid": 7}},
                si_snri=number / 3,
                sdri=5e-324,
                pesq=PESQ,
            )
        db.delete(db.get_all(ProcessedFile)[0])
        return export(db)


def told(done: Imported) -> dict[str, Counts]:
    """Return the counts of the tables that had records."""
    return {table: counts for table, counts in done.tables.items() if counts != NOTHING}


def test_rows_of_python_are_the_same_twice(db: DatabaseManager) -> None:
    """NaN, a tuple, a path and arrays in metadata are compared as they are stored."""
    odd = {"snr": float("nan"), "gains": (1, 2), "room": Path("/hall")}
    rows = [{"original_path": "/mix/1.wav", "metadata": odd, "level": float("nan")}]
    rows += [{"original_path": "/mix/2.wav", "metadata": {"delays": np.arange(3)}}]
    added = db.import_records(rows, table="processed_files")
    again = db.import_records(rows, table="processed_files")
    assert (told(added), added.conflicts) == ({"processed_files": Counts(added=2)}, [])
    assert (told(again), again.conflicts) == ({"processed_files": Counts(same=2)}, [])


def test_a_record_goes_through_data_frames(path: Path, tmp_path: Path) -> None:
    """What is missing in a DataFrame (NaN, NA, NaT) is no value; the record arrives as it was."""
    tables = ("speakers", "processed_files", "processing_history", "model_performance")
    with DatabaseManager(tmp_path / "a.db").initialize() as db:
        ada = db.add(Speaker(name="Ada", tags=["studio"]))
        db.add(ProcessedFile(filename="1.wav", original_path="/1.wav", duration=2.5, channels=1))
        for speaker, status in ((ada, "success"), (None, "unfinished")):
            add_run(db, "/mix/1.wav", speaker=speaker, status=status, si_snri=1.5)
        text = export(db)
        frames = {table: db.to_dataframe(table) for table in tables}
    with DatabaseManager(path).initialize() as db:
        for table, frame in frames.items():
            db.import_records(frame.to_dict("records"), table=table)
        assert export(db) == text


def test_columns_of_a_data_frame_that_are_not_filled(db: DatabaseManager) -> None:
    """What is missing in a column that goes to metadata is no value there, as in the same CSV."""
    rows = {"original_path": ["/a", "/b"], "room": ["hall", None], "t60": [float("nan"), 0.5]}
    frame = pd.DataFrame({**rows, "day": [pd.NaT, None], "seat": pd.array([1, None], "Int64")})
    db.import_records(frame.to_dict("records"), table="files")
    rooms = [row.metadata for row in db.get_all(ProcessedFile)]
    assert rooms == [{"room": "hall", "seat": 1}, {"t60": 0.5}]


def test_an_empty_database_takes_everything_as_it_is(path: Path, tmp_path: Path) -> None:
    """Ids, times, JSON, floats and paths of an export arrive to the last bit, and only once."""
    text = filled(tmp_path / "a.db")
    (tmp_path / "a.jsonl").write_text(text)
    names = ("speakers", "processed_files", "processing_history", "model_performance")
    rows = dict(zip(names, (2, 3, 3, 3), strict=True))
    with DatabaseManager(path).initialize() as db:
        done = db.import_records(tmp_path / "a.jsonl")
        assert export(db) == text
        assert not db.check()
        again = db.import_records(io.BytesIO(text.encode()))
        assert export(db) == text
    assert told(done) == {table: Counts(added=count) for table, count in rows.items()}
    assert told(again) == {table: Counts(same=count) for table, count in rows.items()}
    assert [done.notes, done.conflicts, again.notes, again.conflicts] == [[], [], [], []]


def test_the_same_input_twice_changes_nothing(path: Path, tmp_path: Path) -> None:
    """A database with other rows does not get a row twice either."""
    text = filled(tmp_path / "a.db")
    with DatabaseManager(path).initialize() as db:
        add_run(db, "/mix/other.wav", speaker=db.create_speaker("Bob"), si_snri=1.0)
        first = db.import_records(io.StringIO(text))
        before = stored(path)
        second = db.import_records(io.StringIO(text))
    assert [counts.added for counts in first.tables.values()] == [2, 3, 0, 3, 3, 0, 0]
    assert [counts.same for counts in second.tables.values()] == [2, 3, 0, 3, 3, 0, 0]
    assert (second.changed, second.conflicts) == (0, [])
    assert stored(path) == before


def test_ids_are_remapped(db: DatabaseManager) -> None:
    """Beside other rows the records get new ids, and still belong together."""
    add_run(db, "/mix/0.wav", speaker=db.create_speaker("Zoë"), si_snri=9.0)
    for number, (theirs, name) in enumerate([(41, "Ada"), (40, "Bob")], 1):
        file = {"table": "processed_files", "id": 10 - number, "speaker_id": theirs}
        imported(
            db,
            {"table": "speakers", "id": theirs, "name": name},
            {**file, "original_path": f"/mix/{number}.wav"},
            {**RUN, "table": "processing_history", "id": 90, "processed_file_id": file["id"]},
            {"table": "model_performance", "id": 5, "processing_history_id": 90, "si_snri": 1.0},
        )
    found = [
        (run.id, run.processed_file.original_path, run.processed_file.speaker.name, measured)
        for run in db.get_all(ProcessingHistory)
        for measured in [run.model_performance.si_snri]
    ]
    assert found == [
        (1, "/mix/0.wav", "Zoë", 9.0),
        (2, "/mix/1.wav", "Ada", 1.0),
        (3, "/mix/2.wav", "Bob", 1.0),
    ]


def test_two_exports_in_one_call(db: DatabaseManager, tmp_path: Path) -> None:
    """The ids of each export mean its own rows, also where both lie in one folder."""
    for name, path in (("a", "/a.wav"), ("b", "/b.wav")):
        rows = [
            {"table": "speakers", "id": 1, "name": name, "created_at": T},
            {"table": "processed_files", "id": 1, "original_path": path, "speaker_id": 1},
            {"table": "end", "rows": {"speakers": 1, "processed_files": 1}},
        ]
        (tmp_path / f"{name}.jsonl").write_text(lines(rows))
    db.import_records([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert [(f.original_path, f.speaker.name) for f in db.get_all(ProcessedFile)] == [
        ("/a.wav", "a"),
        ("/b.wav", "b"),
    ]


def imported(db: DatabaseManager, *rows: dict[str, Any], **options: Any) -> Imported:
    return db.import_records(list(rows), **options)


STUDIO: list[dict[str, Any]] = [
    {"table": "speakers", "id": 1, "name": "Ada", "created_at": T},
    {"table": "processed_files", "id": 9, "original_path": "/mix.wav"},
    {
        "table": "processed_files",
        "id": 2,
        "filename": "s.wav",
        "recording_id": 9,
        "original_path": "/mix.wav",
        "processed_path": "/s.wav",
    },
    {
        "table": "processed_files",
        "id": 3,
        "filename": "mix.wav",
        "recording_id": 9,
        "original_path": "/mix.wav",
        "speaker_id": 1,
    },
]


@pytest.mark.parametrize("is_filled", [False, True], ids=["empty", "filled"])
def test_the_three_kinds_of_files(db: DatabaseManager, is_filled: bool) -> None:
    """Stems and voices belong to their recording, and are known again by it."""
    if is_filled:
        add_run(db, "/other.wav", speaker=db.create_speaker("Bob"))
    imported(db, *STUDIO)
    rows = [row for row in db.get_all(ProcessedFile) if row.original_path == "/mix.wav"]
    recording = next(row for row in rows if row.recording_id is None)
    kinds = {(row.recording_id, row.processed_path, row.speaker_id) for row in recording.outputs}
    ada = db.get_speaker("Ada").id
    assert kinds == {(recording.id, "/s.wav", None), (recording.id, None, ada)}
    assert imported(db, *STUDIO).changed == 0
    other = {**STUDIO[3], "id": 4, "speaker_id": None}
    assert told(imported(db, *STUDIO, other))["processed_files"] == Counts(added=1, same=3)


def test_a_stem_without_a_time_is_that_of_its_speaker(db: DatabaseManager) -> None:
    """Another speaker's stem of the same path is another one; one of nobody may be the first."""
    bob = {**STUDIO[0], "id": 2, "name": "Bob"}
    rows = [*STUDIO[:2], bob, {**STUDIO[2], "speaker_id": 1}]
    imported(db, *rows)
    for speaker, outcome in ((None, {"same": 2}), (2, {"added": 1, "same": 1})):
        done = imported(db, *rows[:-1], {**STUDIO[2], "speaker_id": speaker})
        assert done.tables["processed_files"] == Counts(**outcome)


def test_a_name_is_a_speaker_where_only_one_has_it(db: DatabaseManager) -> None:
    """A speaker of a known name is that one; what differs is told, and ours is kept."""
    db.create_speaker("Ada", "ours", ["x"])
    done = imported(db, {"id": 9, "name": "Ada", "description": "theirs", "tags": ["y"]})
    assert told(done) == {"speakers": Counts(conflicts=1)}
    assert done.conflicts == [
        (
            "'records', record 1: speakers 1 keeps its description 'ours' (there 'theirs'), "
            "tags ['x'] (there ['y'])"
        )
    ]
    assert [(one.description, one.tags) for one in db.get_all(Speaker)] == [("ours", ["x"])]


def test_a_name_is_the_same_however_its_accents_are_written(db: DatabaseManager) -> None:
    """An accent of its own, as macOS writes them, makes no other name."""
    db.create_speaker("Zoë")
    assert told(imported(db, {"name": "Zoe\u0308"})) == {"speakers": Counts(same=1)}


def test_speakers_of_one_name_stay_apart(db: DatabaseManager) -> None:
    """Two people of one name are not merged into one, however often they are imported."""
    db.create_speaker("Ada", "the first")
    rows = [
        {"name": "Ada", "description": "the second", "created_at": T},
        {"name": "Ada", "description": "the first", "created_at": db.get_speaker(1).created_at},
    ]
    first, second = imported(db, *rows), imported(db, *rows)
    assert told(first) == {"speakers": Counts(added=1, same=1)}
    assert told(second) == {"speakers": Counts(same=2)}
    assert [one.description for one in db.get_all(Speaker)] == ["the first", "the second"]


def test_what_was_made_in_bulk_keeps_its_order_beside_other_ids(path: Path, tmp_path: Path) -> None:
    """An id that is another's here says nothing: no row of one moment is taken for its sibling."""
    with DatabaseManager(tmp_path / "other.db").initialize() as other:
        twins = [Speaker(name="Ada", created_at=NOON) for _ in range(3)]
        made = {"created_at": NOON, "filename": "mix"}
        files = (ProcessedFile(original_path=f"/{n}", speaker=twins[n], **made) for n in range(3))
        for file in other.add_all(files):
            other.record_run(file, "sep", start_time=T, metrics={"si_snri": file.id})
    with DatabaseManager(path).initialize() as db:
        db.add(ProcessedFile(filename="0.wav", speaker=Speaker(name="Zoë")))
        for added in (12, 0):
            done = db.import_records(tmp_path / "other.db")
            assert (done.changed, done.conflicts) == (added, [])
        assert [file.speaker_id for file in db.get_all(ProcessedFile)] == [1, 2, 3, 4]


FILE = {
    "original_path": "/mix/1.wav",
    "content_hash": "aa",
    "filename": "1.wav",
    "file_format": "wav",
}
FILES = {
    "the same": ({}, "same"),
    "other content": ({"content_hash": "bb"}, "added"),
    "another path": ({"original_path": "/mix/2.wav"}, "added"),
    "an output of it": ({"processed_path": "/out/1.wav"}, "added"),
    "no hash": ({"content_hash": None}, "same"),
    "one fact more": ({"duration": 2.0}, "updated"),
    "another fact": ({"file_format": "flac"}, "conflicts"),
}


@pytest.mark.parametrize(("change", "outcome"), FILES.values(), ids=FILES)
def test_when_a_file_is_the_same(db: DatabaseManager, change: dict[str, Any], outcome: str) -> None:
    """A file is known by its path, its output's path and, where both are known, its content."""
    imported(db, FILE)
    done = imported(db, {**FILE, **change})
    assert told(done) == {"processed_files": Counts(**{outcome: 1})}
    assert imported(db, {**FILE, **change}).tables["processed_files"].added == 0


RUN = {"operation_type": "x", "start_time": T, "model_type": "demucs", "processed_file_id": 1}
NAMED = {"run_id": "r1"}
RUNS = {
    "named": (NAMED, {}, "same"),
    "another name": (NAMED, {"run_id": "r2"}, "added"),
    "another failure": (NAMED, {"error_message": "no"}, "conflicts"),
    "nameless": ({}, {}, "same"),
    "another time": ({}, {"start_time": "2026-11-02T12:00:00Z"}, "added"),
    "another model": ({}, {"model_type": "svoice"}, "added"),
}


@pytest.mark.parametrize(("first", "change", "outcome"), RUNS.values(), ids=RUNS)
def test_when_a_run_is_the_same(
    db: DatabaseManager, first: dict[str, Any], change: dict[str, Any], outcome: str
) -> None:
    """A run is known by its id and file; without an id by file, operation, model and start."""
    imported(db, FILE)
    imported(db, {**RUN, **first})
    done = imported(db, {**RUN, **first, **change})
    assert told(done) == {"processing_history": Counts(**{outcome: 1})}
    assert imported(db, {**RUN, **first, **change}).changed == 0


def test_one_measurement_a_run(db: DatabaseManager) -> None:
    """A run that was measured here keeps its measurement; the other one is told."""
    add_run(db, si_snri=5.0)
    done = imported(db, {"processing_history_id": 1, "si_snri": 6.0, "sdri": None})
    assert told(done) == {"model_performance": Counts(conflicts=1)}
    assert done.conflicts == [
        "'records', record 1: model_performance 1 keeps its si_snri 5.0 (there 6.0)"
    ]
    assert done.notes == [
        "processing_history_id is an id of this database's processing_history: the input has none"
    ]


def test_csv_takes_its_types_from_the_schema(db: DatabaseManager) -> None:
    """Numbers, times, tags, JSON and truths are read; what is empty is nothing."""
    db.import_records(
        io.StringIO("name,tags,created_at,description\nAda,\"'a, b'\",2026-11-01,'=1\n")
    )
    ada = db.get_speaker("Ada")
    assert (ada.tags, ada.description) == (["'a", "b'"], "=1")
    assert ada.created_at == dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    db.import_records(io.StringIO("name,description\nBob,'＝1\nEve,\"'\n=1\"\n"))
    assert [one.description for one in db.get_all(Speaker)] == ["=1", "＝1", "\n=1"]
    text = (
        "filename,speaker_id,duration,sample_rate,metadata,processed_path\n"
        '1.wav,1.0, 2.50 ,16000,"{""room"": [1]}",\n'
    )
    db.import_records(io.StringIO(text))
    row = db.get_all(ProcessedFile)[0]
    assert (row.speaker_id, row.duration, row.sample_rate) == (1, 2.5, 16000)
    assert (row.metadata, row.processed_path) == ({"room": [1]}, None)


def test_unknown_columns_are_kept(db: DatabaseManager) -> None:
    """They go to the table's JSON object with a note; speakers have none."""
    rows = "filename,room,metadata.mood,empty\n1.wav,7,calm,\n"
    file = db.import_records(io.StringIO(rows))
    run = imported(db, {**RUN, "shifts": 2, "parameters": {"seed": 1}})
    measured = imported(db, {"processing_history_id": 1, "pesq": 2.5})
    speaker = imported(db, {"name": "Ada", "age": 5})
    assert [row.metadata for row in db.get_all(ProcessedFile)] == [{"room": 7, "mood": "calm"}]
    assert [row.parameters for row in db.get_all(ProcessingHistory)] == [{"seed": 1, "shifts": 2}]
    assert [row.additional_metrics for row in db.get_all(ModelPerformance)] == [{"pesq": 2.5}]
    assert file.notes == [
        "column 'room' of processed_files goes to metadata",
        "column 'metadata.mood' of processed_files goes to metadata",
        "column 'empty' of processed_files goes to metadata",
    ]
    assert run.notes[0] == "column 'shifts' of processing_history goes to parameters"
    assert measured.notes[0] == "column 'pesq' of model_performance goes to additional_metrics"
    assert speaker.notes == [
        "column 'age' of speakers is left out: speakers have no JSON object to keep it in"
    ]


def test_a_metric_with_a_decimal_comma(db: DatabaseManager) -> None:
    """A metric of no column that would be kept as a text, and never counted, is refused."""
    add_run(db)
    with pytest.raises(InputError) as caught:
        db.import_records(io.StringIO('processing_history_id,pesq\n1,"2,5"\n'))
    assert str(caught.value) == "'input', line 2, column 'pesq': '2,5' is no number: write 2.5"


def test_integers_of_numpy(db: DatabaseManager) -> None:
    """Rows that pandas gives have its integers; yes and no are none."""
    imported(db, {"filename": "1.wav", "channels": np.int64(2)}, table="files")
    assert db.get_all(ProcessedFile)[0].channels == 2
    for value in (True, np.True_, "2", 2.5):
        with pytest.raises(InputError) as caught:
            imported(db, {"filename": "2.wav", "channels": value}, table="files")
        place = "'records', record 1, column 'channels'"
        assert str(caught.value) == f"{place}: {value!r} is not an integer of 64 bits"


def test_a_run_without_a_start(db: DatabaseManager) -> None:
    """A run that does not say when it began is refused: no time is made up."""
    imported(db, FILE)
    with pytest.raises(InputError) as caught:
        imported(db, {"processed_file_id": 1, "operation_type": "x", "end_time": T})
    assert str(caught.value) == "'records', record 1, column 'start_time': it is missing"


def test_texts_stay_texts(db: DatabaseManager) -> None:
    """In a column of no type only what JSON writes back the same is a number, a truth or JSON."""
    texts = ["7254e10", "12e34567", "4.10", "007", "+1", "-0", "1_0", "NaN", "null", '"a"', "x"]
    values = ["7", "-2.5", "1e+16", "true", '[1, "2"]', '{"a": 4.10}']
    rows = [f'"{text}"' for text in (one.replace('"', '""') for one in texts + values)]
    csv = "filename,take\n" + "".join(f"{n}.wav,{row}\n" for n, row in enumerate(rows))
    db.import_records(io.StringIO(csv))
    assert [row.metadata["take"] for row in db.get_all(ProcessedFile)] == [
        *texts,
        *(7, -2.5, 1e16, True, [1, "2"], {"a": 4.1}),
    ]


def test_headings_in_other_letters(db: DatabaseManager) -> None:
    """A heading of a CSV is ours whatever its case."""
    db.import_records(io.StringIO("Original_Path,Duration,Room\n/a.wav,2,hall\n"))
    (file,) = db.get_all(ProcessedFile)
    assert (file.original_path, file.filename, file.duration) == ("/a.wav", "a.wav", 2.0)
    assert file.metadata == {"Room": "hall"}


def test_relative_paths(
    db: DatabaseManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A relative path without an id is one of the current directory, as for ``track``."""
    monkeypatch.chdir(tmp_path)
    add_run(db, tmp_path / "mix" / "1.wav")
    done = db.import_records(io.StringIO("original_path,duration\nmix/1.wav,2\n"))
    assert done.notes == ["relative paths in original_path are those of the current directory"]
    assert told(done) == {"processed_files": Counts(updated=1)}
    exact = {"id": 7, "filename": "2.wav", "original_path": "mix/2.wav"}
    assert imported(db, exact).notes == []
    assert db.get_all(ProcessedFile)[1].original_path == "mix/2.wav"


_RUN = {"table": "processing_history", "operation_type": "x", "start_time": T}
BAD = [
    {"table": "speakers", "id": 1, "name": "Ada"},
    {"table": "speakers", "id": 2, "name": " "},
    {"table": "processed_files", "id": 1, "filename": "1.wav", "duration": "long"},
    {"table": "processed_files", "id": 2, "filename": "2.wav", "speaker_id": 2},
    {"table": "processed_files", "id": 3, "filename": "3.wav", "speaker_id": 5},
    {**_RUN, "id": 1, "processed_file_id": 2},
    {**_RUN, "id": 2, "processed_file_id": 1},
    {"table": "end", "rows": {"speakers": 2, "processed_files": 3, "processing_history": 2}},
]


def test_all_or_nothing(db: DatabaseManager, path: Path, tmp_path: Path) -> None:
    """Bad records are told by line, not what only refers to one; nothing is imported."""
    before = stored(path)
    file = tmp_path / "bad.jsonl"
    file.write_text(lines(BAD))
    with pytest.raises(InputError) as caught:
        db.import_records(file)
    error = caught.value
    assert [str(problem) for problem in error.problems] == [
        f"'{file}', line 2: a speaker needs a name",
        f"'{file}', line 3, column 'duration': 'long' is not a finite number",
        f"'{file}', line 5, column 'speaker_id': speakers has no id 5 in the input before it",
    ]
    assert str(error) == f"{error.problems[0]}; and 2 more bad records"
    assert stored(path) == before


def test_one_bad_record_among_thousands(db: DatabaseManager) -> None:
    """What only the database refuses is found in its batch, and told with its place."""
    rows = [{"filename": f"{number}.wav", "channels": 1} for number in range(2500)]
    rows[1700]["channels"] = 0
    with pytest.raises(InputError) as caught:
        imported(db, *rows)
    assert (str(caught.value), caught.value.problems) == (
        "'records', record 1701: channels must lie between 1 and 1024",
        (),
    )


@pytest.mark.parametrize("is_filled", [False, True], ids=["empty", "filled"])
def test_a_dry_run_is_the_import_without_the_rows(
    tmp_path: Path, path: Path, is_filled: bool
) -> None:
    """It reports exactly what the import then does, and changes not a row."""
    text = filled(tmp_path / "a.db")
    with DatabaseManager(path).initialize() as db:
        if is_filled:
            db.create_speaker("Ada", "mine")
        before = stored(path)
        planned = db.import_records(io.StringIO(text), dry_run=True)
        assert stored(path) == before
        done = db.import_records(io.StringIO(text))
    assert planned.is_dry_run
    assert not done.is_dry_run
    planned.is_dry_run = False
    assert planned == done


def test_an_import_inside_a_transaction(db: DatabaseManager) -> None:
    """A dry run or a failure undoes itself and not what was written around it."""
    with db.atomic():
        db.create_speaker("kept")
        imported(db, {"name": "Ada"}, dry_run=True)
        with pytest.raises(InputError):
            imported(db, {"name": "Bob"}, {"name": ""})
        imported(db, {"name": "Eve"})
    assert [one.name for one in db.get_all(Speaker)] == ["kept", "Eve"]


def test_references_to_what_is_here(db: DatabaseManager) -> None:
    """Where an input does not hold the speakers, their ids are this database's, with a note."""
    ada = db.create_speaker("Ada")
    done = imported(db, {"filename": "1.wav", "speaker_id": ada.id})
    assert done.notes == ["speaker_id is an id of this database's speakers: the input has none"]
    assert db.get_all(ProcessedFile)[0].speaker == ada
    with pytest.raises(InputError) as caught:
        imported(db, {"filename": "2.wav", "speaker_id": 9})
    assert str(caught.value) == (
        "'records', record 1, column 'speaker_id': speakers has no id 9 here"
    )


ADA = {"table": "speakers", "id": 1, "name": "Ada"}
LOOSE = {"table": "processed_files", "filename": "1.wav", "speaker_id": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [STUDIO[2], STUDIO[1]],
            "1, column 'recording_id': processed_files has no id 9 in the input before it",
        ),
        (
            [LOOSE, ADA],
            "2: speakers come after the records that refer to them; they must come first",
        ),
    ],
    ids=["a stem before its recording", "a file before its speaker"],
)
def test_children_before_parents_are_refused(
    db: DatabaseManager, rows: list[dict[str, Any]], message: str
) -> None:
    """An id is never taken for this database's where the input holds its record after all."""
    db.create_speaker("Ada")
    with pytest.raises(InputError) as caught:
        imported(db, *rows)
    assert str(caught.value) == f"'records', record {message}"


def test_progress_is_told_to_the_end(db: DatabaseManager, tmp_path: Path) -> None:
    """The bytes done grow up to the bytes of all files."""
    for name in ("speakers.csv", "more.csv"):
        (tmp_path / name).write_text("name\n" + "".join(f"{name}{n}\n" for n in range(3000)))
    seen: list[tuple[int, int]] = []
    db.import_records(
        [tmp_path / "speakers.csv", tmp_path / "more.csv"],
        on_progress=lambda done, total: seen.append((done, total)),
    )
    total = sum(path.stat().st_size for path in tmp_path.glob("*.csv"))
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


@pytest.mark.once
@pytest.mark.sqlite("the pages of an open transaction")
def test_an_import_needs_little_memory(path: Path, db: DatabaseManager) -> None:
    """Neither records nor the pages of the transaction stay in memory until it ends."""
    db.close()
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True
    )
    few, many, spill = map(int, done.stdout.split())
    assert many - few < 24_000  # kB, of 120 MB that were read and stored
    assert spill == 0


PEAK = """
import re, sys
from pathlib import Path
from voices_peewee import DatabaseManager

def peak():
    return re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]

def rows(kind, count):
    return ({"name": f"{kind} {number}", "description": "x" * 6000} for number in range(count))

with DatabaseManager(sys.argv[1]) as db:
    db.import_records(rows("few", 1000), table="speakers")
    print(peak())
    db.import_records(rows("many", 20_000), table="speakers")
    print(peak(), db.database.connection().execute("PRAGMA cache_spill").fetchone()[0])
"""


def test_imports_beside_a_writer(db: DatabaseManager) -> None:
    """Rows that are added meanwhile and those of an import do not get each other's ids."""
    db.create_speaker("first")

    def write() -> None:
        for number in range(40):
            db.create_speaker(f"written {number}")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        for number in range(5):
            imported(db, *({"id": row, "name": f"{number} {row}"} for row in range(1, 41)))
        writing.result()
    names = [one.name for one in db.get_all(Speaker)]
    assert len(names) == len({*names}) == 1 + 40 + 5 * 40


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_look_ups_come_in_batches(tmp_path: Path, path: Path) -> None:
    """Finding what is here already takes a few questions a thousand records, not one each."""
    with DatabaseManager(tmp_path / "a.db").initialize() as db:
        ada = db.create_speaker("Ada")
        db.record_runs(
            {
                "source": f"/mix/{number}.wav",
                "operation_type": "x",
                "start_time": T,
                "speaker": ada,
                "processing_time": 1.0,
            }
            for number in range(2000)
        )
        text = export(db)
    with DatabaseManager(path).initialize() as db:
        db.import_records(io.StringIO(text))
        statements: list[str] = []
        db.database.connection().set_trace_callback(statements.append)
        done = db.import_records(io.StringIO(text))
        db.database.connection().set_trace_callback(None)
    assert done.tables["model_performance"] == Counts(same=2000)
    assert len(statements) < 40


@pytest.mark.parametrize("duplicate", [False, True], ids=["alone", "with a namesake"])
def test_a_deletion_of_a_speaker_is_undone_whole(
    db: DatabaseManager, tmp_path: Path, duplicate: bool
) -> None:
    """What was written before a speaker was deleted brings back whose each row was."""
    ada = db.create_speaker("Ada")
    if duplicate:
        db.create_speaker("Ada", duplicate=True)
    with suppress(ValueError), db.track("/m.wav", "separation", speaker=ada, model_type="bad"):
        raise ValueError
    sql = "SELECT f.id, f.speaker_id, s.created_at FROM processed_files f LEFT JOIN speakers s"
    before = db.execute_raw_query(f"{sql} ON s.id = f.speaker_id ORDER BY f.id")
    db.delete_speaker(ada, export_to=tmp_path / "undo.jsonl")
    db.import_records(tmp_path / "undo.jsonl")
    after = db.execute_raw_query(f"{sql} ON s.id = f.speaker_id ORDER BY f.id")
    assert [(row["id"], row["created_at"]) for row in after] == [
        (row["id"], row["created_at"]) for row in before
    ]


@pytest.mark.parametrize("theirs", [("Bob", "Ada"), ("Bob", None), (None, "Ada"), (None, None)])
def test_one_path_of_other_speakers_has_a_stem_for_each(
    tmp_path: Path, theirs: tuple[str | None, str | None]
) -> None:
    """Where the outputs of another record's runs are swapped, its numbers stay its speakers'."""

    def filled(name: str, model: str, order: tuple[str | None, ...]) -> Path:
        with DatabaseManager(tmp_path / name).initialize() as db:
            for speaker in ("Ada", "Bob"):
                db.create_speaker(speaker)
            with db.track("/m/0.wav", "separation", model_type=model) as run:
                for number, speaker in enumerate(order):
                    value = {"Ada": 10.0, "Bob": 5.0, None: 1.0}[speaker]
                    run.output(f"/o/{number}.wav", speaker=speaker, si_snri=value)
        return tmp_path / name

    other = filled("y.db", "b", theirs)
    with DatabaseManager(filled("x.db", "a", ("Ada", "Bob"))).connect() as db:
        for added in (True, False):
            told = db.import_records(other)
            assert (told.conflicts, told.changed > 0) == ([], added)
        means = {row.key: row.mean for row in db.leaderboard(by=("model_type", "speaker"))}
    expected = {("b", name): {"Ada": 10.0, "Bob": 5.0, None: 1.0}[name] for name in theirs}
    assert means == {("a", "Ada"): 10.0, ("a", "Bob"): 5.0, **expected}


def _given_up(export: Path) -> list[dict[str, Any]]:
    """Return the records of a copy in which a run that went on was closed as interrupted."""
    records = list(map(json.loads, export.read_text().splitlines()))
    for record in records:
        if record["table"] == "processing_history":
            record |= {"end_time": record["start_time"], "error_message": "interrupted"}
    return records


ORDERS = ["012", "02", "12", "0122", "0102", "2012", "120", "32", "42", "23", "24", "03422"]


@pytest.mark.parametrize("order", ORDERS)
def test_a_run_that_goes_on_is_imported_again_and_again(tmp_path: Path, order: str) -> None:
    """Copies from while a run went on, in which it may be given up, lead to one record."""
    exports = [tmp_path / f"{number}.jsonl" for number in range(5)]
    with DatabaseManager(tmp_path / "d.db").initialize() as db:
        with db.track("/m/2.wav", "separation", model_type="a") as run:
            db.export(exports[0])
            run.output("/o/2a.wav", si_snri=1)
            db.export(exports[1])
            run.output("/o/2b.wav", si_snri=2)
        db.export(exports[2])
    for whole, closed in zip(exports[:2], exports[3:], strict=True):
        closed.write_text("".join(f"{json.dumps(record)}\n" for record in _given_up(whole)))
    with DatabaseManager(tmp_path / "e.db").initialize() as other:
        for number in map(int, order):
            told = other.import_records(exports[number])
            assert told.conflicts == []
        found = sorted(
            (row.processed_file.processed_path, row.status, row.model_performance.si_snri)
            for row in other.search("history", "^error:interrupted")
        )
        assert len(other.get_all(ProcessingHistory)) == 2
    assert found == [("/o/2a.wav", "success", 1.0), ("/o/2b.wav", "success", 2.0)]


def test_a_note_on_a_run_comes_with_its_copy(copies: tuple[Path, Path]) -> None:
    """What a run lacks here is filled in; why it failed there is no part of a success here."""
    with DatabaseManager(copies[1]).connect() as theirs:
        theirs.update_run(1, note="the good one", tags=["paper"])
        theirs.update(theirs.get_by_id(ProcessingHistory, 3), success=False, error_message="no")
    with DatabaseManager(copies[0]).connect() as db:
        told = db.import_records(copies[1])
        runs = db.search("history", "id:..3", sort="id")
    kept = "success True (there False), error_message None (there 'no')"
    assert told.conflicts == [f"'{copies[1]}', id 3: processing_history 3 keeps its {kept}"]
    assert [(run.note, run.tags, run.status) for run in runs] == [
        *[("the good one", ["paper"], "success")] * 2,
        (None, None, "success"),
    ]


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    """A record with two models' runs on two speakers, and a copy of its file."""
    with DatabaseManager(tmp_path / "ours.db").initialize() as db:
        speakers = [db.create_speaker(name) for name in ("Ada", "Bob")]
        for number in range(3):
            with db.track(f"/m/{number}.wav", "separation", model_type="a") as run:
                for speaker in speakers:
                    path = f"/o/{number}_{speaker.name}.wav"
                    run.output(path, speaker=speaker, si_snri=number + speaker.id)
            db.record_run(
                f"/m/{number}.wav",
                "separation",
                start_time=T,
                processing_time=1,
                model_type="b",
                speaker=speakers[0],
                metrics={"si_snri": number},
            )
    return tmp_path / "ours.db", shutil.copy(tmp_path / "ours.db", tmp_path / "theirs.db")


def _move(db: DatabaseManager, column: str) -> None:
    for file in db.get_all(ProcessedFile):
        if getattr(file, column):
            db.update(file, **{column: "/mnt" + getattr(file, column)})


def _renumber(db: DatabaseManager) -> None:
    for number in (2, 1, 0):
        file = db.get_file(f"/m/{number}.wav")
        db.update(file, original_path=f"/m/{number + 1}.wav")


CHANGES: dict[str, tuple[Callable[[DatabaseManager], object], int]] = {
    "recordings moved": (lambda db: _move(db, "original_path"), 3),
    "stems moved": (lambda db: _move(db, "processed_path"), 6),
    "a speaker renamed": (lambda db: db.update(db.get_speaker("Ada"), name="Ada L."), 1),
    "a speaker deleted": (lambda db: db.delete_speaker("Ada"), 0),
    "recordings renumbered": (_renumber, 3),
}


@pytest.mark.parametrize(("change", "conflicts"), CHANGES.values(), ids=CHANGES)
def test_what_one_copy_calls_otherwise_is_the_same(
    copies: tuple[Path, Path], change: Callable[[DatabaseManager], object], conflicts: int
) -> None:
    """Of two copies of a record no run is doubled where one has moved, renamed or deleted."""
    ours, theirs = copies
    with DatabaseManager(theirs).connect() as other:
        change(other)
        source = other.get_all(ProcessedFile)[0].original_path
        with other.track(source, "separation", model_type="c") as run:
            run.output("/o/new.wav", si_snri=9)
    with DatabaseManager(ours).connect() as db:
        before = db.leaderboard(by=("model", "speaker")).rows
        done = db.import_records(theirs)
        assert len(done.conflicts) == conflicts
        assert {name: one.added for name, one in done.tables.items() if one.added} == {
            "processed_files": 1,
            "processing_history": 1,
            "model_performance": 1,
        }
        assert db.leaderboard(by=("model", "speaker"), where="model:a,b").rows == before
        (new,) = db.query(ProcessedFile).where(ProcessedFile.processed_path == "/o/new.wav")
        assert new.original_path == "/m/0.wav"
        assert db.check() == []
        assert db.import_records(theirs).changed == 0


def _swap_names(db: DatabaseManager) -> None:
    ada, bob = db.get_speaker("Ada"), db.get_speaker("Bob")
    db.update(ada, name="Bob")
    db.update(bob, name="Ada")


def _swap_voices(db: DatabaseManager) -> None:
    for file in db.get_all(ProcessedFile):
        if file.kind == "voice":
            db.update(file, speaker=db.get_speaker("Bob"))


CALLED: dict[str, tuple[Callable[[DatabaseManager], object], int]] = {
    "a speaker renamed": (lambda db: db.update(db.get_speaker("Ada"), name="Ada L."), 1),
    "speakers swapped": (_swap_names, 2),
    "a voice is another's": (_swap_voices, 3),
    "recordings moved": (lambda db: _move(db, "original_path"), 3),
}


@pytest.mark.parametrize(("change", "conflicts"), CALLED.values(), ids=CALLED)
def test_what_was_renamed_where_it_has_other_ids(
    copies: tuple[Path, Path],
    tmp_path: Path,
    change: Callable[[DatabaseManager], object],
    conflicts: int,
) -> None:
    """What was imported beside other rows, and renamed there, is known by its moment."""
    with DatabaseManager(tmp_path / "other.db").initialize() as other:
        other.record_run("/m/other.wav", "sep", start_time=T, speaker=other.create_speaker("Eve"))
        other.import_records(copies[0])
        change(other)
    with DatabaseManager(copies[0]).connect() as db:
        done = db.import_records(tmp_path / "other.db")
        assert [counts.added for counts in done.tables.values()] == [1, 2, 0, 1, 1, 0, 0]
        assert len(done.conflicts) == conflicts
        assert db.import_records(tmp_path / "other.db").changed == 0


@pytest.mark.filterwarnings("ignore::voices_peewee.runs.run.OutputWarning")
@pytest.mark.parametrize("changed", ["mix.wav", "stem.wav"])
def test_a_copy_that_has_seen_a_file_change(tmp_path: Path, changed: str) -> None:
    """A recording or stem with other content in one of two copies is one row, its runs too."""
    mix, stem = tmp_path / "mix.wav", tmp_path / "stem.wav"

    def record() -> None:
        with db.track(mix, "separation", model_type="a") as run:
            run.output(stem, si_snri=1)

    for file in (mix, stem):
        file.write_bytes(b"as it was")
    with DatabaseManager(tmp_path / "ours.db").initialize() as db:
        record()
    theirs = shutil.copy(tmp_path / "ours.db", tmp_path / "theirs.db")
    (tmp_path / changed).write_bytes(b"as it is now")
    with DatabaseManager(tmp_path / "ours.db").connect() as db:
        record()
        done = db.import_records(theirs)
        assert (done.changed, len(done.conflicts)) == (0, 1)


def test_another_reading_of_a_file_is_no_conflict(tmp_path: Path) -> None:
    """What two copies have read as two inodes is one file; each keeps what it knows of its own."""
    with DatabaseManager(tmp_path / "ours.db").initialize() as db:
        file = db.add(ProcessedFile(filename="a", content_hash="1", file_stamp=1))
    theirs = shutil.copy(tmp_path / "ours.db", tmp_path / "theirs.db")
    with DatabaseManager(tmp_path / "ours.db").connect() as db:
        for stamp in (2, None):
            db.update(file, file_stamp=stamp)
            done = db.import_records(theirs)
            assert (done.changed, done.conflicts) == (0, [])
            assert [row.file_stamp for row in db.get_all(ProcessedFile)] == [stamp]


def test_a_batch_whose_files_were_renamed_in_a_copy(tmp_path: Path) -> None:
    """Recordings of one moment are known by their content where one copy has other paths."""
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    run = {"operation_type": "sep", "start_time": T, "processing_time": 1}
    for name in "ab":
        (tmp_path / name).write_text(name)
    with DatabaseManager(theirs).initialize() as db:
        db.add(ProcessedFile(filename="x", created_at=NOON))
        db.record_runs([{**run, "source": tmp_path / name} for name in "ab"])
    with DatabaseManager(ours).initialize() as db:
        db.record_run("/other.wav", "sep", start_time=T)
        db.import_records(theirs)
        for name in "ab":
            db.update(db.get_file(tmp_path / name), original_path=f"/moved/{name}.wav")
        done = db.import_records(theirs)
        assert (done.changed, len(done.conflicts)) == (0, 2)


def test_recordings_of_one_path_are_not_added_again(db: DatabaseManager, tmp_path: Path) -> None:
    """Where several rows may be a recording, it is one of them and not one more."""
    record = {"id": 7, "original_path": "/m/1.wav", "metadata": {"room": "hall"}}
    db.add_all(ProcessedFile(original_path="/m/1.wav", filename="1.wav") for _ in range(2))
    assert told(imported(db, record, table="files")) == {"processed_files": Counts(updated=1)}


def test_two_copies_of_a_file_that_were_made_in_one_second(db: DatabaseManager) -> None:
    """A time in whole seconds tells no row: what has another path is another row."""
    files = [{**FILE, "original_path": f"/{n}/1.wav", "created_at": T} for n in "ab"]
    imported(db, files[0])
    assert told(imported(db, *files)) == {"processed_files": Counts(added=1, same=1)}
    assert told(imported(db, *files)) == {"processed_files": Counts(same=2)}


def test_a_deleted_twin_of_the_same_moment_comes_back(db: DatabaseManager, tmp_path: Path) -> None:
    """What was added together has one moment: another file of the same name is not taken for it."""
    files = [ProcessedFile(original_path=f"/m/{n}/mix.wav", filename="mix.wav") for n in "ab"]
    db.add_all(files)
    db.delete(files[1], export_to=tmp_path / "gone.jsonl")
    assert told(db.import_records(tmp_path / "gone.jsonl")) == {"processed_files": Counts(added=1)}


def test_what_was_added_together_stays_apart(db: DatabaseManager) -> None:
    """Files of one moment whose paths end alike are as many, here before or from the input."""
    moment = "2026-11-01T12:00:00.123456+00:00"
    rows = [
        {"id": 9000 + n, "original_path": f"/{n}/m/mix.wav", "created_at": moment}
        for n in range(1500)
    ]
    imported(db, {"original_path": "/other.wav", "filename": "other.wav"}, table="files")
    assert told(imported(db, *rows, table="files")) == {"processed_files": Counts(added=1500)}
    assert told(imported(db, *rows, table="files")) == {"processed_files": Counts(same=1500)}


def test_a_copy_whose_files_moved_to_where_we_work(tmp_path: Path) -> None:
    """A recording that both know is one, also where ours has a run at its new path by now."""

    def record(db: DatabaseManager, path: str, model: str) -> None:
        with db.track(path, "separation", model_type=model) as run:
            run.log(si_snri=1)

    with DatabaseManager(tmp_path / "ours.db").initialize() as db:
        record(db, "/m/0.wav", "a")
    theirs = shutil.copy(tmp_path / "ours.db", tmp_path / "theirs.db")
    with DatabaseManager(theirs).connect() as db:
        db.update(db.get_file("/m/0.wav"), original_path="/mnt/m/0.wav")
    with DatabaseManager(tmp_path / "ours.db").connect() as db:
        record(db, "/mnt/m/0.wav", "z")
        done = db.import_records(theirs)
        assert (done.changed, len(done.conflicts)) == (0, 1)


def test_a_deleted_recording_of_a_past_batch_comes_back(
    db: DatabaseManager, tmp_path: Path
) -> None:
    """Recordings whose runs were recorded at once are not taken for each other by their ends."""
    run = {"operation_type": "sep", "start_time": T, "processing_time": 1}
    paths = ["/16k/mix/1.wav", "/8k/mix/1.wav"]
    db.record_runs([{**run, "source": path, "model_type": path[1:3]} for path in paths])
    db.delete(db.get_file(paths[0]), export_to=tmp_path / "gone.jsonl")
    assert db.import_records(tmp_path / "gone.jsonl").conflicts == []
    found = [(row.model_type, row.processed_file.original_path) for row in db.search("history")]
    assert sorted(found) == [(path[1:3], path) for path in paths]


def test_a_list_may_name_a_file_twice(db: DatabaseManager) -> None:
    """Lines without ids that name one recording make one of it; what differs is told."""
    one, other = {"original_path": "/x/1.wav", "duration": 2.5}, {"original_path": "/x/2.wav"}
    rows = [one, other, one, {**one, "duration": 3.0}, {**one, "channels": 2}]
    done = imported(db, *rows, table="processed_files")
    assert told(done) == {"processed_files": Counts(added=2, same=1, conflicts=1, updated=1)}
    assert len(done.conflicts) == 1
    assert db.get_file("/x/1.wav").channels == 2


@pytest.mark.parametrize("more", [{}, {"created_at": T}], ids=["", "with a time"])
def test_a_path_without_a_hash_is_its_newest_file(
    db: DatabaseManager, more: dict[str, str]
) -> None:
    """Of a path with two contents, a line without a hash means the one that was told last."""
    line = {"original_path": "/x/1.wav", **more}
    files = [{**line, "content_hash": digest} for digest in ("ab", "cd")]
    done = imported(db, *files, {**line, "channels": 2}, line, table="files")
    assert told(done) == {"processed_files": Counts(added=2, same=1, updated=1)}
    found = [(file.content_hash, file.channels) for file in db.get_all(ProcessedFile)]
    assert found == [("ab", None), ("cd", 2)]
