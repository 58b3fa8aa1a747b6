"""Exports: what is written, as one moment, some rows at a time, whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli_tools import PROGRAM
from support.databases import stored

from voices_peewee import (
    MODELS,
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    errors,
)

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
LATER = NOON + dt.timedelta(microseconds=1)
TABLES = [model._meta.table_name for model in MODELS]


@pytest.fixture
def studio(db: DatabaseManager) -> DatabaseManager:
    """Two speakers; Ada's file with two runs, of which one was measured; a file of nobody."""
    times = {"created_at": NOON, "updated_at": LATER}
    ada = Speaker(name="Ada", description="=1+1", tags=["a", "é"], **times)
    db.add_all([ada, Speaker(name="Bob", **times)])
    file = ProcessedFile(
        filename=b"\xff.wav".decode(errors="surrogateescape"),
        duration=0.1,
        metadata={"x": [1, None, {"y": 1e-7}]},
        speaker=ada,
        **times,
    )
    db.add_all([file, ProcessedFile(filename="b.wav", **times)])
    runs = [
        ProcessingHistory(
            processed_file=file,
            run_id=str(number),
            operation_type="separation",
            parameters={"shifts": number},
            start_time=NOON,
            end_time=LATER if number else None,
            success=bool(number),
        )
        for number in range(2)
    ]
    db.add_all(runs)
    db.add(ModelPerformance(processing_history=runs[1], si_snri=12.5, created_at=NOON))
    return db


SPEAKERS = """\
{"table": "speakers", "id": 1, "name": "Ada", "description": "=1+1", "tags": ["a", "é"], \
"created_at": "2026-11-22T12:00:00.000000+00:00", "updated_at": "2026-11-22T12:00:00.000001+00:00"}
{"table": "speakers", "id": 2, "name": "Bob", "description": null, "tags": [], \
"created_at": "2026-11-22T12:00:00.000000+00:00", "updated_at": "2026-11-22T12:00:00.000001+00:00"}
"""
FILES = """\
{"table": "processed_files", "id": 1, "filename": "\\udcff.wav", "original_path": null, \
"processed_path": null, "file_format": null, "duration": 0.1, "sample_rate": null, \
"channels": null, "metadata": {"x": [1, null, {"y": 1e-07}]}, "speaker_id": 1, \
"file_size": null, "content_hash": null, "created_at": "2026-11-22T12:00:00.000000+00:00", \
"updated_at": "2026-11-22T12:00:00.000001+00:00"}
{"table": "processed_files", "id": 2, "filename": "b.wav", "original_path": null, \
"processed_path": null, "file_format": null, "duration": null, "sample_rate": null, \
"channels": null, "metadata": {}, "speaker_id": null, \
"file_size": null, "content_hash": null, "created_at": "2026-11-22T12:00:00.000000+00:00", \
"updated_at": "2026-11-22T12:00:00.000001+00:00"}
"""
RUNS = """\
{"table": "processing_history", "id": 1, "processed_file_id": 1, "run_id": "0", \
"operation_type": "separation", "model_type": null, "model_version": null, \
"parameters": {"shifts": 0}, "start_time": "2026-11-22T12:00:00.000000+00:00", \
"end_time": null, "success": false, "error_message": null, "source_hash": null, "process": null}
{"table": "processing_history", "id": 2, "processed_file_id": 1, "run_id": "1", \
"operation_type": "separation", "model_type": null, "model_version": null, \
"parameters": {"shifts": 1}, "start_time": "2026-11-22T12:00:00.000000+00:00", \
"end_time": "2026-11-22T12:00:00.000001+00:00", "success": true, "error_message": null, \
"source_hash": null, "process": null}
"""
MEASURED = """\
{"table": "model_performance", "id": 1, "processing_history_id": 2, "model_type": null, \
"model_version": null, "si_snri": 12.5, "sdri": null, "cpu_usage": null, "memory_usage": null, \
"processing_time": null, "real_time_factor": null, "additional_metrics": {}, \
"created_at": "2026-11-22T12:00:00.000000+00:00"}
"""


def end(*counts: int) -> str:
    """Return the last line of a stream of all tables."""
    return json.dumps({"table": "end", "rows": dict(zip(TABLES, counts, strict=True))}) + "\n"


def written(db: DatabaseManager, *args: Any, **options: Any) -> str:
    """Export to a stream; return its text."""
    stream = io.BytesIO()
    db.export(stream, *args, **options)
    return stream.getvalue().decode()


def listing(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


# Forms


def test_json_lines(studio: DatabaseManager) -> None:
    """All tables are one stream, parents first, that ends with what it must hold."""
    stream = io.BytesIO()
    done = studio.export(stream)
    assert stream.getvalue().decode() == SPEAKERS + FILES + RUNS + MEASURED + end(2, 2, 2, 1)
    assert done == (dict(zip(TABLES, (2, 2, 2, 1), strict=True)), ())


def test_a_dash_is_the_standard_output(
    studio: DatabaseManager, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    """What is printed before comes before, and no file of that name is made."""
    with contextlib.chdir(tmp_path):
        sys.stdout.write("first\n")
        assert studio.export("-", "speakers") == ({"speakers": 2}, ())
        assert capfdbinary.readouterr().out.decode() == "first\n" + SPEAKERS
    assert not (tmp_path / "-").exists()


def test_a_standard_output_without_bytes(studio: DatabaseManager) -> None:
    """Where there is none, or only one for text, a sentence says so."""
    reason = "export '-': the standard output takes no bytes; name a file"
    for output in (None, io.StringIO()):
        with contextlib.redirect_stdout(output), pytest.raises(errors.ExportError) as caught:
            studio.export("-")
        assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        ("files", FILES),
        (["processing_history"], RUNS),
        (
            ["history", "speakers", "speakers"],
            SPEAKERS
            + RUNS
            + '{"table": "end", "rows": {"speakers": 2, "processing_history": 2}}\n',
        ),
    ],
    ids=["noun", "table", "several"],
)
def test_chosen_tables(studio: DatabaseManager, tables: Any, text: str) -> None:
    """Tables go by their own name or their list's; one alone has no last line."""
    assert written(studio, tables) == text


def test_json(studio: DatabaseManager) -> None:
    """JSON is an array for one table, and an object of arrays for several."""

    def plain(lines: str) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in lines.splitlines()]
        return [{key: value for key, value in row.items() if key != "table"} for row in rows]

    text = written(studio, format="json")
    parts = zip(TABLES, map(plain, (SPEAKERS, FILES, RUNS, MEASURED)), strict=True)
    assert json.loads(text) == dict(parts)
    assert text.startswith('{\n"speakers": [\n{"id": 1, "name": "Ada",')
    assert text.endswith('"created_at": "2026-11-22T12:00:00.000000+00:00"}\n]\n}\n')
    assert json.loads(written(studio, "files", format="json")) == plain(FILES)


@pytest.mark.parametrize(
    ("form", "tables", "text"),
    [
        ("jsonl", None, end(0, 0, 0, 0)),
        ("jsonl", "speakers", ""),
        ("json", "speakers", "[]\n"),
        ("json", ["speakers", "files"], '{\n"speakers": [],\n"processed_files": []\n}\n'),
        ("csv", "speakers", "id,name,description,tags,created_at,updated_at\n"),
    ],
)
def test_nothing(db: DatabaseManager, form: str, tables: Any, text: str) -> None:
    """An empty table is written as what it is in each form."""
    assert written(db, tables, format=form) == text


def test_csv(studio: DatabaseManager) -> None:
    """CSV has the columns' names, values as in JSON, and nothing that a spreadsheet would run."""
    rest = "2026-11-22T12:00:00.000000+00:00,2026-11-22T12:00:00.000001+00:00\n"
    head = "id,name,description,tags,created_at,updated_at\n"
    text = head + '1,Ada,{}=1+1,"[""a"", ""é""]",' + rest + "2,Bob,,[]," + rest
    assert written(studio, "speakers", format="csv") == text.format("'")
    assert written(studio, "speakers", format="csv", raw=True) == text.format("")
    stream = io.BytesIO()
    studio.export(stream, "files", format="csv", raw=True)
    assert stream.getvalue().splitlines()[1].startswith(b"1,\xff.wav,,,,0.1,,,")
    (_, first, _) = csv.reader(io.StringIO(written(studio, "files", format="csv")))
    assert (first[1], first[8]) == ("\\udcff.wav", '{"x": [1, null, {"y": 1e-07}]}')


@pytest.mark.sqlite("JSON as it was written")
def test_parquet(studio: DatabaseManager, tmp_path: Path) -> None:
    """Parquet has real types, and what the database holds."""
    from pyarrow import parquet

    done = studio.export(f"{tmp_path}/out/", format="parquet")
    assert done.paths == tuple(tmp_path / "out" / f"{name}.parquet" for name in TABLES)
    files, runs = (parquet.read_table(path) for path in done.paths[1:3])
    assert {field.name: str(field.type) for field in files.schema} == {
        "id": "int64",
        "filename": "string",
        "original_path": "string",
        "processed_path": "string",
        "file_format": "string",
        "duration": "double",
        "sample_rate": "int64",
        "channels": "int64",
        "metadata": "string",
        "speaker_id": "int64",
        "file_size": "int64",
        "content_hash": "string",
        "created_at": "timestamp[us, tz=UTC]",
        "updated_at": "timestamp[us, tz=UTC]",
    }
    first = files.to_pylist()[0]
    assert (first["filename"], first["duration"], first["speaker_id"]) == ("\U0010fcff.wav", 0.1, 1)
    assert (first["updated_at"], first["metadata"]) == (LATER, '{"x":[1,null,{"y":1e-07}]}')
    assert runs.column("success").to_pylist() == [False, True]
    assert parquet.read_table(done.paths[3]).num_rows == 1


def test_parquet_goes_into_a_stream(studio: DatabaseManager) -> None:
    """A pipe takes Parquet: nothing in it is written twice."""
    import pyarrow as pa
    from pyarrow import parquet

    done = subprocess.run(
        [*PROGRAM, "--db", studio.path, "export", "speakers", "--format", "parquet"],
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"exported 2 rows of speakers\n")
    assert parquet.read_table(pa.BufferReader(done.stdout)).column("name").to_pylist() == [
        "Ada",
        "Bob",
    ]


def test_parquet_of_nothing(db: DatabaseManager, tmp_path: Path) -> None:
    """An empty table is a Parquet file with columns and without rows."""
    from pyarrow import parquet

    db.export(tmp_path / "speakers.parquet", "speakers")
    table = parquet.read_table(tmp_path / "speakers.parquet")
    assert (table.num_rows, table.column_names[:2]) == (0, ["id", "name"])


@pytest.mark.sqlite("the files beside the database")
def test_sqlite(studio: DatabaseManager, tmp_path: Path) -> None:
    """A database of its own holds the same bytes in one file, and can be used at once."""
    studio.export(tmp_path / "out.sqlite3")
    assert listing(tmp_path) == ["out.sqlite3", "voices.db", "voices.db-shm", "voices.db-wal"]
    assert stored(tmp_path / "out.sqlite3") == stored(studio.path)
    studio.close()
    with DatabaseManager(tmp_path / "out.sqlite3") as copy:
        assert copy.check() == []
        assert copy.get_speaker("Ada").tags == ["a", "é"]


@pytest.mark.sqlite("the bytes that SQLite stores")
def test_sqlite_of_one_table_has_its_parents(studio: DatabaseManager, tmp_path: Path) -> None:
    """A database has the rows that its rows refer to, and the answer says so."""
    done = studio.export(tmp_path / "out.db", ["history"])
    assert done.rows == {"speakers": 2, "processed_files": 2, "processing_history": 2}
    rows = [row for row in stored(studio.path) if row[0] != "model_performance"]
    assert stored(tmp_path / "out.db") == rows


def test_sqlite_of_a_database_in_memory(tmp_path: Path) -> None:
    """What was never in a file can be put into one."""
    with DatabaseManager(":memory:").initialize() as db:
        db.add(Speaker(name="Ada"))
        db.export(f"{tmp_path}/out/", format="sqlite")
    with DatabaseManager(tmp_path / "out" / "voices.db") as copy:
        assert [one.name for one in copy.get_all(Speaker)] == ["Ada"]


# Values

texts = st.text()
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
json_values = st.recursive(
    scalars.filter(lambda one: one not in (float("inf"), -float("inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
UNSAFE = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"  # what a terminal may obey
times = st.datetimes(timezones=st.just(dt.UTC))


@pytest.fixture(scope="module")
def shared() -> Iterator[DatabaseManager]:
    with tempfile.TemporaryDirectory() as folder:
        with DatabaseManager(Path(folder) / "voices.db").initialize():
            pass
        yield DatabaseManager(Path(folder) / "voices.db")


@given(
    texts.filter(lambda text: text.strip(" ") and "\0" not in text),
    json_values,
    times,
    st.floats(0, 1e12),
    st.binary(min_size=1).filter(lambda name: b"\0" not in name),
)
def test_json_lines_give_every_value_back(
    shared: DatabaseManager, name: str, value: Any, time: dt.datetime, number: float, path: bytes
) -> None:
    """What is read from JSON lines is what is stored, to the bit and the microsecond."""
    with shared as db, db.atomic() as inside:
        ada = db.add(Speaker(name=name, tags=[value], created_at=time))
        filename = os.fsdecode(path)
        file = db.add(ProcessedFile(filename=filename, duration=number, speaker=ada))
        stream = io.BytesIO()
        inside.export(stream)
        speaker, found, _ = map(json.loads, stream.getvalue().splitlines())
        assert [speaker["name"], repr(speaker["tags"])] == [name, repr([value])]
        assert dt.datetime.fromisoformat(speaker["created_at"]) == time
        assert len(speaker["created_at"]) == len("2026-11-22T12:00:00.000000+00:00")
        assert (found["id"], found["speaker_id"]) == (file.id, ada.id)
        assert (found["filename"], found["duration"].hex()) == (filename, number.hex())
        assert not re.search(UNSAFE, stream.getvalue().decode())
        db.delete(file)
        db.delete(ada)


STRANGE = [
    ("tags", "not json", "not json"),
    ("tags", "[NaN, 1e999]", ["nan", "inf"]),
    ("tags", '{"a": 1,\n "b": "\u2028"}', {"a": 1, "b": "\u2028"}),
    ("created_at", "2026-11-22 12:00:00", "2026-11-22T12:00:00.000000+00:00"),
    ("created_at", "2026-11-22 14:00:00+02:00", "2026-11-22T12:00:00.000000+00:00"),
    ("created_at", "yesterday", "yesterday"),
    ("created_at", 1.5, 1.5),
    ("created_at", "what is no time, however+00:00", "what is no time, however+00:00"),
    ("created_at", "2026-11-22x18:00:00.000000+00:00", "2026-11-22T18:00:00.000000+00:00"),
    ("description", b"\xff", "\udcff"),
    ("description", 7, "7"),
]


@pytest.mark.sqlite("what another program may write into a column of SQLite")
@pytest.mark.parametrize(("column", "value", "shown"), STRANGE)
def test_what_other_programs_store(
    db: DatabaseManager, column: str, value: object, shown: object
) -> None:
    """A value of another program is read where it can be, and written as it is where not."""
    db.add(Speaker(name="Ada"))
    db.execute_raw_query(f"UPDATE speakers SET {column} = ?", (value,), write=True)
    text = written(db, "speakers")
    assert text.count("\n") == 1
    assert json.loads(text)[column] == shown


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_a_value_that_parquet_cannot_hold(studio: DatabaseManager, tmp_path: Path) -> None:
    """A value of the wrong type is told with its column, and no file is left."""
    studio.execute_raw_query("UPDATE speakers SET created_at = 'never'", write=True)
    with pytest.raises(errors.ExportError) as caught:
        studio.export(tmp_path / "out.parquet", "speakers")
    assert str(caught.value).startswith(
        "export 'speakers.parquet': created_at does not fit into timestamp[us, tz=UTC] ("
    )
    assert "out.parquet" not in " ".join(listing(tmp_path))


# One moment, some rows at a time

WRITER = """
import sys
from voices_peewee import (DatabaseManager, ModelPerformance, ProcessedFile, ProcessingHistory)

with DatabaseManager(sys.argv[1]) as db:
    for line in sys.stdin:
        file = ProcessedFile(filename=f"new.wav")
        run = ProcessingHistory(processed_file=file, operation_type="separation")
        with db.atomic():
            db.add(ModelPerformance(processing_history=run))
            db.execute_raw_query("UPDATE speakers SET name = name || '!'", write=True)
        print("written", flush=True)
"""


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
def test_one_moment_while_another_program_writes(
    studio: DatabaseManager, tmp_path: Path, form: str
) -> None:
    """What is committed after an export began is in none of its tables, and is not held up."""
    before = written(studio)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, studio.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    answers = []

    def write_meanwhile(done: int, total: int) -> None:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
        answers.append((done, total, writer.stdout.readline()))

    studio.export(tmp_path / "out", format=form, progress=write_meanwhile)
    writer.communicate()
    assert answers == [(done, 7, "written\n") for done in (2, 4, 6, 7)]
    after = written(studio)
    assert '"name": "Ada!!!!"' in after
    assert after.endswith(end(2, 6, 6, 5))
    if form == "jsonl":
        assert (tmp_path / "out").read_text() == before
        return
    studio.close()
    with DatabaseManager(tmp_path / "out") as copy:
        assert written(copy) == before


def test_inside_a_transaction(db: DatabaseManager) -> None:
    """Inside the caller's transaction an export sees what that has written."""
    with db.atomic():
        db.add(Speaker(name="Ada"))
        assert '"name": "Ada"' in written(db, "speakers")
        db.add(Speaker(name="Bob"))
    assert written(db, "speakers").count("\n") == 2


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet"])
def test_the_same_data_are_the_same_bytes(db: DatabaseManager, tmp_path: Path, form: str) -> None:
    """Rows come by id, over many batches, and two exports do not differ in a byte."""
    db.add_many(Speaker, ({"name": f"s{number}"} for number in range(2000, 0, -1)))
    db.execute_raw_query("DELETE FROM speakers WHERE id % 7 = 0", write=True)
    paths = [tmp_path / f"{number}.{form}" for number in range(2)]
    for path in paths:
        db.export(path, "speakers")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if form == "jsonl":
        ids = [json.loads(line)["id"] for line in paths[0].read_text().splitlines()]
        assert ids == [number for number in range(1, 2001) if number % 7]


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_statements(studio: DatabaseManager) -> None:
    """An export asks once for each table that fits into a batch, and changes nothing."""
    seen: list[str] = []
    connection = studio.database.connection()
    connection.set_trace_callback(seen.append)
    written(studio)
    connection.set_trace_callback(None)
    assert [sql.split()[0] for sql in seen] == ["BEGIN", *["SELECT"] * 4, "ROLLBACK"]


@pytest.mark.sqlite("the files beside the database")
def test_reading_changes_no_file(studio: DatabaseManager, tmp_path: Path) -> None:
    """A database that is not in WAL mode stays as it is."""
    copy = tmp_path / "copy.db"
    studio.backup_database(copy)
    studio.close()
    before = copy.read_bytes()
    with DatabaseManager(copy) as db:
        assert written(db, "files") == FILES
    assert copy.read_bytes() == before


@pytest.mark.once
def test_an_export_takes_no_memory(path: Path, tmp_path: Path) -> None:
    """Four times the rows take no more room, in every form."""
    script = (
        "import re, sys\nfrom pathlib import Path\nfrom voices_peewee import DatabaseManager\n"
        "_, path, out, form = sys.argv\n"
        "with DatabaseManager(path) as db:\n"
        "    db.export(out, 'speakers', format=form)\n"
        "text = Path('/proc/self/status').read_text()\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', text)[1])\n"
    )
    peaks: dict[str, list[int]] = {}
    for more in (10_000, 30_000):
        with DatabaseManager(path).initialize() as db:
            db.add_many(Speaker, ({"name": "x" * 1000} for _ in range(more)))
        for form in ("jsonl", "json", "csv", "sqlite", "parquet"):
            done = subprocess.run(
                [sys.executable, "-c", script, path, tmp_path / f"{more}.{form}", form],
                capture_output=True,
                text=True,
                check=True,
            )
            peaks.setdefault(form, []).append(int(done.stdout))
    assert all(many - few < 10_000 for few, many in peaks.values()), peaks


# Where to


def test_files_and_folders(studio: DatabaseManager, tmp_path: Path) -> None:
    """A suffix tells the format, a folder takes a file a table, for their owner only."""
    (tmp_path / "there").mkdir()
    assert studio.export(tmp_path / "a.JSON", "speakers").paths == (tmp_path / "a.JSON",)
    assert (tmp_path / "a.JSON").read_text().startswith("[\n")
    studio.export(tmp_path / "plain", "speakers")
    assert (tmp_path / "plain").read_text() == SPEAKERS
    studio.export(tmp_path / "there", ["speakers", "files"])
    assert (tmp_path / "there" / "processed_files.jsonl").read_text() == FILES
    studio.export(f"{tmp_path}/made/", format="csv")
    assert listing(tmp_path / "made") == sorted(f"{name}.csv" for name in TABLES)
    modes = {one: one.stat().st_mode & 0o777 for one in tmp_path.rglob("*.csv")}
    assert set(modes.values()) == {0o600}
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


def test_overwrite(studio: DatabaseManager, tmp_path: Path) -> None:
    """A file that is there is replaced only when that is meant."""
    target = tmp_path / "out.jsonl"
    target.write_text("kept")
    with pytest.raises(errors.ExportError) as caught:
        studio.export(target)
    message = f"export {str(target)!r}: it is there already; choose another name or overwrite it"
    assert (str(caught.value), target.read_text()) == (message, "kept")
    studio.export(target, "speakers", overwrite=True)
    assert target.read_text() == SPEAKERS


def test_a_file_that_came_meanwhile(studio: DatabaseManager, tmp_path: Path) -> None:
    """A file that another program made during the export is not replaced."""
    target = tmp_path / "out.jsonl"
    with pytest.raises(errors.ExportError) as caught:
        studio.export(target, "speakers", progress=lambda *_: target.write_text("kept"))
    message = f"export {str(target)!r}: it is there already; choose another name or overwrite it"
    assert (str(caught.value), target.read_text()) == (message, "kept")
    assert [name for name in listing(tmp_path) if "out" in name] == ["out.jsonl"]


REFUSED: dict[str, tuple[str, dict[str, Any], type[errors.VoicesError], str]] = {
    "table": (
        "out",
        {"tables": ["speaker"]},
        errors.QueryError,
        "unknown table 'speaker'; did you mean 'speakers'?",
    ),
    "no table": (
        "out",
        {"tables": []},
        errors.QueryError,
        "name a table, or leave them out for all",
    ),
    "format": (
        "out",
        {"format": "jsn"},
        errors.QueryError,
        "unknown format 'jsn'; did you mean 'json' or 'jsonl'?",
    ),
    "suffix": (
        "out.xlsx",
        {},
        errors.QueryError,
        "no format has the suffix '.xlsx'; name one of them: jsonl, json, csv, parquet, sqlite",
    ),
    "csv": (
        "out.csv",
        {},
        errors.QueryError,
        "csv holds one table a file; name one table, or a folder",
    ),
    "parquet": (
        "out",
        {"format": "parquet", "tables": ["files", "speakers"]},
        errors.QueryError,
        "parquet holds one table a file; name one table, or a folder",
    ),
    "NUL": (
        "a\0b",
        {},
        errors.ExportError,
        "export 'HERE/a\\x00b': a path must be a text without NUL, and not empty",
    ),
    "no folder": (
        "none/out",
        {},
        errors.ExportError,
        "export 'HERE/none/out': there is no folder 'HERE/none'",
    ),
    "no folder to make one in": (
        "none/out/",
        {},
        errors.ExportError,
        "export 'HERE/none/out': it cannot be read or written (no such file or directory)",
    ),
    "the database": (
        "voices.db",
        {"overwrite": True},
        errors.ExportError,
        "export 'HERE/voices.db': it is the database itself",
    ),
    "the database's": (
        "voices.db-wal",
        {"overwrite": True, "format": "jsonl"},
        errors.ExportError,
        "export 'HERE/voices.db-wal': the name belongs to the database",
    ),
    "a database": (
        "other.db",
        {"overwrite": True},
        errors.ExportError,
        "export 'HERE/other.db': 'other.db-wal' beside it says that it is in use as a database",
    ),
    "no file": (
        "pipe",
        {"overwrite": True},
        errors.ExportError,
        "export 'HERE/pipe': it is not a regular file",
    ),
}


@pytest.mark.sqlite("the files of the database itself")
@pytest.mark.parametrize("case", REFUSED)
def test_refusals(db: DatabaseManager, tmp_path: Path, case: str) -> None:
    """What cannot be written is said in one sentence, and nothing is made or touched."""
    target, options, kind, message = REFUSED[case]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "other.db-wal").touch()
    before = listing(tmp_path)
    with pytest.raises(kind) as caught:
        db.export(f"{tmp_path}/{target}", **options)
    assert str(caught.value).replace(str(tmp_path), "HERE") == message
    assert listing(tmp_path) == before
    db.add(Speaker(name="still open"))


def test_an_empty_path(db: DatabaseManager) -> None:
    """No name at all is refused too."""
    with pytest.raises(errors.ExportError) as caught:
        db.export("")
    assert str(caught.value) == "export '': a path must be a text without NUL, and not empty"


def test_a_database_in_a_stream(db: DatabaseManager) -> None:
    """A database needs a file."""
    with pytest.raises(errors.QueryError) as caught:
        db.export(io.BytesIO(), format="sqlite")
    assert str(caught.value) == "a database cannot be written to a stream; name a file"


# Whole or not at all


class StopError(Exception):
    """What ends an export."""


@pytest.mark.parametrize("target", ["out.jsonl", "out.db", "made/"])
def test_what_is_cancelled_leaves_nothing(
    studio: DatabaseManager, tmp_path: Path, target: str
) -> None:
    """An export that is ended leaves neither a file nor a folder, and the database goes on."""
    before = listing(tmp_path)

    def stop(done: int, total: int) -> None:
        if done > 4:
            raise StopError

    with pytest.raises(StopError):
        studio.export(f"{tmp_path}/{target}", progress=stop)
    assert listing(tmp_path) == before
    studio.add(Speaker(name="still open"))


LIMITED = """
import resource, sys
from pathlib import Path
from voices_peewee import (DatabaseManager, Speaker, errors)

_, path, out, form = sys.argv
with DatabaseManager(path) as db:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    try:
        db.export(out, "speakers", format=form)
    except errors.VoicesError as error:
        print(type(error).__name__, str(error).replace(out, "OUT"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    print(len(db.get_all(Speaker)))
    print(sorted(one.name for one in Path(out).parent.iterdir()))
"""


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet", "sqlite"])
def test_where_no_more_can_be_written(path: Path, tmp_path: Path, form: str) -> None:
    """A disk that takes no more leaves no part of a file, and is told as what it is."""
    (tmp_path / "to").mkdir()
    with DatabaseManager(path).initialize() as db:
        names = (os.urandom(500).hex() for _ in range(2000))
        db.add_many(Speaker, ({"name": name} for name in names))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path, tmp_path / "to" / "out", form],
        capture_output=True,
        text=True,
    )
    full = (
        "DatabaseFullError cannot use 'OUT': the disk is full; nothing of this change was written"
    )
    assert (done.stdout, done.stderr) == (f"{full}\n2000\n[]\n", "")


def test_without_pyarrow(studio: DatabaseManager, tmp_path: Path) -> None:
    """Without the extra one sentence names it, and no file is left."""
    script = (
        "import sys\nsys.modules['pyarrow'] = None\nfrom voices_peewee.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--db", studio.path, "export", "files", "-o", "x.parquet"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    sentence = "writing Parquet needs an extra; run: pip install 'voices-peewee[parquet]'"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {sentence}\n")
    assert [name for name in listing(tmp_path) if "parquet" in name] == []


# Deletions

GONE: dict[str, tuple[Callable[[DatabaseManager], Any], str, tuple[int, ...]]] = {
    "a speaker": (
        lambda db: db.get_speaker("Ada"),
        SPEAKERS.splitlines(keepends=True)[0]
        + FILES.splitlines(keepends=True)[0]
        + '{"table": "end", "rows": {"speakers": 1, "processed_files": 1}}\n',
        (1, 2, 2, 1),
    ),
    "a file": (
        lambda db: db.get_file(1),
        SPEAKERS.splitlines(keepends=True)[0]
        + FILES.splitlines(keepends=True)[0]
        + RUNS
        + MEASURED
        + end(1, 1, 2, 1),
        (2, 1, 0, 0),
    ),
    "a file of nobody": (
        lambda db: db.get_file(2),
        FILES.splitlines(keepends=True)[1] + end(0, 1, 0, 0),
        (2, 1, 2, 1),
    ),
    "a run": (
        lambda db: db.get_by_id(ProcessingHistory, 1),
        SPEAKERS.splitlines(keepends=True)[0]
        + FILES.splitlines(keepends=True)[0]
        + RUNS.splitlines(keepends=True)[0]
        + end(1, 1, 1, 0),
        (2, 2, 1, 1),
    ),
    "a measurement": (
        lambda db: db.get_by_id(ModelPerformance, 1),
        SPEAKERS.splitlines(keepends=True)[0]
        + FILES.splitlines(keepends=True)[0]
        + RUNS.splitlines(keepends=True)[1]
        + MEASURED
        + end(1, 1, 1, 1),
        (2, 2, 2, 0),
    ),
}


@pytest.mark.parametrize("what", GONE)
def test_what_goes_is_written_first(studio: DatabaseManager, tmp_path: Path, what: str) -> None:
    """A deletion writes the record, what goes or changes with it, and what these refer to."""
    find, text, left = GONE[what]
    studio.delete(find(studio), export_to=tmp_path / "gone.jsonl")
    assert (tmp_path / "gone.jsonl").read_text() == text
    assert tuple(len(studio.get_all(model)) for model in MODELS) == left


@pytest.mark.sqlite("a trigger in SQLite's SQL")
def test_what_cannot_be_written_is_not_deleted(studio: DatabaseManager, tmp_path: Path) -> None:
    """Where the export fails, nothing is deleted; where the deletion fails, nothing is left."""
    target = tmp_path / "gone.jsonl"
    target.touch()
    before = stored(studio.path)
    with pytest.raises(errors.ExportError):
        studio.delete_speaker("Ada", export_to=target)
    assert stored(studio.path) == before
    ada = studio.get_speaker("Ada")
    studio.delete_speaker("Ada")
    for never in (ada, Speaker(name="never saved")):
        with pytest.raises(errors.NotFoundError) as caught:
            studio.delete(never, export_to=tmp_path / "more.jsonl")
        assert str(caught.value) == f"no speaker {never.id!r}; see 'voices list-speakers'"
    studio.execute_raw_query(
        "CREATE TRIGGER kept BEFORE DELETE ON processed_files "
        "BEGIN SELECT RAISE(ABORT, 'kept'); END",
        write=True,
    )
    with pytest.raises(errors.InvalidValueError, match=r"^kept$"):
        studio.delete(studio.get_file(1), export_to=tmp_path / "more.jsonl")
    assert [name for name in listing(tmp_path) if "jsonl" in name] == ["gone.jsonl"]


@pytest.mark.parametrize("name", ["-", "gone.csv", "gone.DB"])
def test_what_goes_is_named_as_what_it_is(
    studio: DatabaseManager, tmp_path: Path, name: str
) -> None:
    """A name that an import would take for something else is refused, and nothing is deleted."""
    with contextlib.chdir(tmp_path), pytest.raises(errors.ExportError) as caught:
        studio.delete_speaker("Ada", export_to=name)
    reason = "what is deleted is written as JSON lines, to a file that ends with .jsonl"
    assert str(caught.value) == f"export {name!r}: {reason}"
    assert not (tmp_path / name).exists()
    assert studio.get_speaker("Ada").id == 1


def test_deletions_are_one_transaction_with_what_is_around(
    studio: DatabaseManager, tmp_path: Path
) -> None:
    """In a transaction that is undone the record stays, and so does the file."""

    def delete_and_stop() -> None:
        with studio.atomic():
            studio.delete_speaker("Ada", export_to=tmp_path / "gone.jsonl")
            raise StopError

    with pytest.raises(StopError):
        delete_and_stop()
    assert studio.get_speaker("Ada").id == 1
    assert (tmp_path / "gone.jsonl").read_text().startswith('{"table": "speakers", "id": 1,')
