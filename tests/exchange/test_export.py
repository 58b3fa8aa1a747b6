"""Exports: what is written, as one moment, some rows at a time, whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.databases import stored

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    errors,
)
from voices_peewee.schema.models import RECORDED

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
LATER = NOON + dt.timedelta(microseconds=1)
TABLES = [model._meta.table_name for model in RECORDED]


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
"updated_at": "2026-11-22T12:00:00.000001+00:00", "recording_id": null, "read_at": null, \
"file_stamp": null}
{"table": "processed_files", "id": 2, "filename": "b.wav", "original_path": null, \
"processed_path": null, "file_format": null, "duration": null, "sample_rate": null, \
"channels": null, "metadata": {}, "speaker_id": null, \
"file_size": null, "content_hash": null, "created_at": "2026-11-22T12:00:00.000000+00:00", \
"updated_at": "2026-11-22T12:00:00.000001+00:00", "recording_id": null, "read_at": null, \
"file_stamp": null}
"""
RUNS = """\
{"table": "processing_history", "id": 1, "processed_file_id": 1, "run_id": "0", \
"operation_type": "separation", "model_type": null, "model_version": null, \
"parameters": {"shifts": 0}, "start_time": "2026-11-22T12:00:00.000000+00:00", \
"end_time": null, "success": false, "error_message": null, "source_hash": null, "process": null, \
"environment_id": null, "model_hash": null, "tags": null, "note": null}
{"table": "processing_history", "id": 2, "processed_file_id": 1, "run_id": "1", \
"operation_type": "separation", "model_type": null, "model_version": null, \
"parameters": {"shifts": 1}, "start_time": "2026-11-22T12:00:00.000000+00:00", \
"end_time": "2026-11-22T12:00:00.000001+00:00", "success": true, "error_message": null, \
"source_hash": null, "process": null, \
"environment_id": null, "model_hash": null, "tags": null, "note": null}
"""
MEASURED = """\
{"table": "model_performance", "id": 1, "processing_history_id": 2, "model_type": null, \
"model_version": null, "si_snri": 12.5, "sdri": null, "cpu_usage": null, "memory_usage": null, \
"processing_time": null, "real_time_factor": null, "additional_metrics": {}, \
"created_at": "2026-11-22T12:00:00.000000+00:00"}
"""


def end(*counts: int) -> str:
    """Return the last line of a stream of all tables."""
    return json.dumps({"table": "end", "rows": dict(zip(TABLES, counts, strict=False))}) + "\n"


def written(db: DatabaseManager, *args: Any, **options: Any) -> str:
    """Export to a stream; return its text."""
    stream = io.BytesIO()
    db.export(stream, *args, **options)
    return stream.getvalue().decode()


def listing(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_json_lines(studio: DatabaseManager) -> None:
    """All tables are one stream, parents first, that ends with what it must hold."""
    stream = io.BytesIO()
    done = studio.export(stream)
    assert stream.getvalue().decode() == SPEAKERS + FILES + RUNS + MEASURED + end(
        2, 2, 0, 2, 1, 0, 0
    )
    assert done == (dict(zip(TABLES, (2, 2, 0, 2, 1, 0, 0), strict=True)), None)


def test_a_dash_is_the_standard_output(
    studio: DatabaseManager, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    """What is printed before comes before, and no file of that name is made."""
    with contextlib.chdir(tmp_path):
        sys.stdout.write("first\n")
        assert studio.export("-", "speakers") == ({"speakers": 2}, None)
        assert capfdbinary.readouterr().out.decode() == "first\n" + SPEAKERS
    assert not (tmp_path / "-").exists()


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


@pytest.mark.parametrize(
    ("form", "tables", "text"),
    [
        ("jsonl", None, end(0, 0, 0, 0, 0, 0, 0)),
        ("jsonl", "speakers", ""),
        ("csv", "speakers", "id,name,description,tags,created_at,updated_at\n"),
    ],
)
def test_nothing(db: DatabaseManager, form: str, tables: Any, text: str) -> None:
    """An empty table is written as what it is in each form."""
    assert written(db, tables, format=form) == text


class Terminal(io.BytesIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_csv(studio: DatabaseManager) -> None:
    """CSV has the columns' names, values as in JSON, and nothing that a spreadsheet would run."""
    rest = "2026-11-22T12:00:00.000000+00:00,2026-11-22T12:00:00.000001+00:00\n"
    head = "id,name,description,tags,created_at,updated_at\n"
    text = head + '1,Ada,{}=1+1,"[""a"", ""é""]",' + rest + "2,Bob,,[]," + rest
    assert written(studio, "speakers", format="csv") == text.format("'")
    stream = io.BytesIO()
    studio.export(stream, "files", format="csv")
    assert stream.getvalue().splitlines()[1].startswith(b"1,\xff.wav,,,,0.1,,,")
    terminal = Terminal()
    studio.export(terminal, "files", format="csv")
    (_, first, _) = csv.reader(io.StringIO(terminal.getvalue().decode()))
    assert (first[1], first[8]) == ("\\udcff.wav", '{"x": [1, null, {"y": 1e-07}]}')


STRANGE = [
    ("tags", "not json", "not json"),
    ("tags", "[NaN, 1e999]", ["nan", "inf"]),
    ("created_at", "2026-11-22 12:00:00", "2026-11-22T12:00:00.000000+00:00"),
    ("created_at", "2026-11-22 14:00:00+02:00", "2026-11-22T12:00:00.000000+00:00"),
    ("created_at", "yesterday", "yesterday"),
    ("created_at", "what is no time, however+00:00", "what is no time, however+00:00"),
    ("description", b"\xff", "\udcff"),
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


def test_one_moment_while_another_program_writes(studio: DatabaseManager, tmp_path: Path) -> None:
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

    studio.export(tmp_path / "out", progress=write_meanwhile)
    writer.communicate()
    assert answers == [(done, 7, "written\n") for done in (2, 4, 6, 7)]
    after = written(studio)
    assert '"name": "Ada!!!!"' in after
    assert after.endswith(end(2, 6, 0, 6, 5, 0, 0))
    assert (tmp_path / "out").read_text() == before


def test_inside_a_transaction(db: DatabaseManager) -> None:
    """Inside the caller's transaction an export sees what that has written."""
    with db.atomic():
        db.add(Speaker(name="Ada"))
        assert '"name": "Ada"' in written(db, "speakers")
        db.add(Speaker(name="Bob"))
    assert written(db, "speakers").count("\n") == 2


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_statements(studio: DatabaseManager) -> None:
    """An export asks once for each kind of row that fits into a batch, and changes nothing."""
    seen: list[str] = []
    connection = studio.database.connection()
    connection.set_trace_callback(seen.append)
    written(studio)
    connection.set_trace_callback(None)
    assert [sql.split()[0] for sql in seen] == [
        *["SELECT", "SAVEPOINT"],
        *["SELECT"] * 8,
        "RELEASE",
    ]


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
        for form in ("jsonl", "csv"):
            done = subprocess.run(
                [sys.executable, "-c", script, path, tmp_path / f"{more}.{form}", form],
                capture_output=True,
                text=True,
                check=True,
            )
            peaks.setdefault(form, []).append(int(done.stdout))
    assert all(many - few < 10_000 for few, many in peaks.values()), peaks


TAKEN = "it is there already; choose another name or overwrite it (--overwrite)"


def test_overwrite(studio: DatabaseManager, tmp_path: Path) -> None:
    """A file that is there, or comes meanwhile, is replaced only when that is meant."""
    target = tmp_path / "out.jsonl"
    for before in (lambda: target.write_text("kept"), target.unlink):
        before()
        with pytest.raises(errors.ExportError) as caught:
            studio.export(target, "speakers", progress=lambda *_: target.write_text("kept"))
        assert (str(caught.value), target.read_text()) == (
            f"export {str(target)!r}: {TAKEN}",
            "kept",
        )
    assert [name for name in listing(tmp_path) if "voices.db" not in name] == ["out.jsonl"]
    studio.export(target, "speakers", overwrite=True)
    assert target.read_text() == SPEAKERS


ANYWHERE = {"overwrite": True, "format": "jsonl"}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "table": ("out", {"tables": ["speaker"]}, "unknown table 'speaker'; did you mean 'speakers'?"),
    "no table": ("out", {"tables": []}, "name a table, or leave them out for all"),
    "format": ("out", {"format": "jsn"}, "unknown format 'jsn'; did you mean 'jsonl'?"),
    "suffix": ("out.json", {}, "no format has the suffix '.json'; use .jsonl or .csv"),
    "csv": ("out.csv", {}, "csv holds one table; name one"),
    "NUL": ("a\0b", ANYWHERE, "/a\\x00b': a path must be a text without NUL, and not empty"),
    "no folder": (
        *("none/out", ANYWHERE),
        "/none/out': it cannot be read or written (no such file or directory)",
    ),
    "a folder": ("", ANYWHERE, "': it is not a regular file"),
    "the database": ("voices.db", ANYWHERE, "/voices.db': it belongs to the database"),
    "the database's": ("voices.db-wal", ANYWHERE, "/voices.db-wal': it belongs to the database"),
    "its journal": (
        "voices.db-journal",
        ANYWHERE,
        "/voices.db-journal': it belongs to the database",
    ),
    "no file": ("pipe", ANYWHERE, "/pipe': it is not a regular file"),
}


@pytest.mark.sqlite("the files of the database itself")
@pytest.mark.parametrize(("target", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(
    db: DatabaseManager, tmp_path: Path, target: str, options: dict[str, Any], message: str
) -> None:
    """What cannot be written is said in one sentence, and nothing is made or touched."""
    os.mkfifo(tmp_path / "pipe")
    before = listing(tmp_path)
    of_target = options is ANYWHERE
    with pytest.raises(errors.ExportError if of_target else errors.QueryError) as caught:
        db.export(f"{tmp_path}/{target}", **options)
    assert str(caught.value) == (f"export '{tmp_path}{message}" if of_target else message)
    assert listing(tmp_path) == before
    db.add(Speaker(name="still open"))


def test_the_file_is_its_owners(studio: DatabaseManager, tmp_path: Path) -> None:
    """A suffix in any letters tells the format; only the owner may read what was written."""
    done = studio.export(tmp_path / "a.CSV", "speakers")
    assert done.path == tmp_path / "a.CSV"
    assert done.path.read_text().startswith("id,name,")
    assert done.path.stat().st_mode & 0o777 == 0o600


def test_recordings_come_before_their_stems(db: DatabaseManager) -> None:
    """Rows that refer to a recording come after it, whatever their ids, in both formats."""
    stem = db.add(ProcessedFile(filename="stem.wav"))
    recording = db.add(ProcessedFile(filename="mix.wav"))
    db.update(stem, recording_id=recording.id)
    assert [json.loads(line)["id"] for line in written(db, "files").splitlines()] == [2, 1]
    rows = csv.DictReader(io.StringIO(written(db, "files", format="csv")))
    assert [(row["id"], row["recording_id"]) for row in rows] == [("2", ""), ("1", "2")]


def test_an_applications_own_tables(db: DatabaseManager) -> None:
    """What an application added is exported behind our tables, and by its name."""
    db.execute_raw_query("CREATE TABLE takes (id INTEGER PRIMARY KEY, note TEXT)", write=True)
    db.execute_raw_query("INSERT INTO takes VALUES (2, 'é'), (1, NULL)", write=True)
    rows = '{"table": "takes", "id": 1, "note": null}\n{"table": "takes", "id": 2, "note": "é"}\n'
    assert written(db, "takes") == rows
    counts = {**dict.fromkeys(TABLES, 0), "takes": 2}
    assert written(db) == rows + json.dumps({"table": "end", "rows": counts}) + "\n"
    assert written(db, "takes", format="csv") == "id,note\n1,\n2,é\n"


class StopError(Exception):
    """What ends an export."""


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


@pytest.mark.parametrize("form", ["jsonl", "csv"])
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


ADA, FILE = (text.splitlines(keepends=True)[0] for text in (SPEAKERS, FILES))
FIRST_RUN, SECOND_RUN = RUNS.splitlines(keepends=True)
GONE: dict[str, tuple[Callable[[DatabaseManager], Any], str, tuple[int, ...]]] = {
    "a speaker": (
        lambda db: db.get_speaker("Ada"),
        ADA + FILE + '{"table": "end", "rows": {"speakers": 1, "processed_files": 1}}\n',
        (1, 2, 0, 2, 1),
    ),
    "a file": (
        lambda db: db.get_file(1),
        ADA + FILE + RUNS + MEASURED + end(1, 1, 0, 2, 1, 0, 0),
        (2, 1, 0, 0, 0),
    ),
    "a run": (
        lambda db: db.get_by_id(ProcessingHistory, 1),
        ADA + FILE + FIRST_RUN + end(1, 1, 0, 1, 0, 0, 0),
        (2, 2, 0, 1, 1),
    ),
    "a measurement": (
        lambda db: db.get_by_id(ModelPerformance, 1),
        ADA + FILE + SECOND_RUN + MEASURED + end(1, 1, 0, 1, 1),
        (2, 2, 0, 2, 0),
    ),
}


@pytest.mark.parametrize("what", GONE)
def test_what_goes_is_written_first(studio: DatabaseManager, tmp_path: Path, what: str) -> None:
    """A deletion writes the record, what goes or changes with it, and what these refer to."""
    find, text, left = GONE[what]
    studio.delete(find(studio), export_to=tmp_path / "gone.jsonl")
    assert (tmp_path / "gone.jsonl").read_text() == text
    assert tuple(len(studio.get_all(model)) for model in RECORDED) == (*left, 0, 0)


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


@pytest.mark.parametrize("name", ["-", "gone.csv"])
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


def test_a_recording_goes_with_its_stems(db: DatabaseManager, tmp_path: Path) -> None:
    """What a recording takes along is written behind it; a stem is written with its recording."""
    mix = db.add(ProcessedFile(filename="mix.wav"))
    stem, other = (ProcessedFile(filename=name, recording=mix) for name in ("a.wav", "b.wav"))
    db.add_all([stem, other])
    for record, ids in ((other, [1, 3]), (mix, [1, 2])):
        db.delete(record, export_to=tmp_path / f"{record.id}.jsonl")
        lines = (tmp_path / f"{record.id}.jsonl").read_text().splitlines()
        assert [json.loads(line).get("id") for line in lines] == [*ids, None]


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


@pytest.mark.sqlite("FTS is SQLite's")
def test_what_modules_of_sqlite_keep_is_no_table_of_the_record(
    db: DatabaseManager, path: Path, tmp_path: Path
) -> None:
    """A search index is exported as its rows, and where its module is missing not at all."""
    db.create_speaker("Ada")
    db.execute_raw_query("CREATE VIRTUAL TABLE notes USING fts5(body)", write=True)
    db.execute_raw_query("CREATE TABLE notes_of_mine (body)", write=True)
    db.execute_raw_query("INSERT INTO notes VALUES ('hello')", write=True)
    rows = db.export(tmp_path / "out.jsonl").rows
    assert [name for name in rows if name not in TABLES] == ["notes", "notes_of_mine"]
    assert db.check() == []
    db.close()
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA writable_schema = ON")
        other.execute("UPDATE sqlite_master SET sql = replace(sql, 'fts5', 'gone')")
    with DatabaseManager(path).connect() as again:
        rows = again.export(tmp_path / "again.jsonl").rows
        assert [name for name in rows if name not in TABLES] == ["notes_of_mine"]
        assert again.check() == []
    with DatabaseManager(tmp_path / "new.db").initialize() as new:
        assert new.import_records(path).tables["speakers"].added == 1


@pytest.mark.sqlite("reads a file of its own")
def test_strange_names_of_an_applications_tables(
    db: DatabaseManager, path: Path, tmp_path: Path
) -> None:
    """Whatever an application calls its tables and columns, the record goes out and comes in."""
    db.create_speaker("Ada")
    for sql in (
        'CREATE TABLE "end" ("rows")',
        """INSERT INTO "end" VALUES ('{"speakers": 7}')""",
        'CREATE TABLE "a ""b" ("table", "x y", "select")',
        """INSERT INTO "a ""b" VALUES ('speakers', 1, 2)""",
    ):
        db.execute_raw_query(sql, write=True)
    out = tmp_path / "out.jsonl"
    db.export(out)
    assert json.loads(out.read_text().splitlines()[1]) == {
        "table": 'a "b',
        'a "b.table': "speakers",
        "x y": 1,
        "select": 2,
    }
    db.close()
    for source in (out, path):
        with DatabaseManager(tmp_path / f"{source.name}.db").initialize() as new:
            assert new.import_records(source).tables["speakers"].added == 1
