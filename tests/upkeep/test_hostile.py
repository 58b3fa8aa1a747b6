"""Values that another program wrote: no traceback, no other row lost, ``check`` names each."""

from __future__ import annotations

import json
import shlex
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import peewee as pw
import pytest
from support.cli_tools import run
from support.wav_files import write_wav

from voices_peewee import MODELS, DatabaseManager, Speaker, VoicesError
from voices_peewee.schema.fields import JSONField, UTCDateTimeField

pytestmark = [
    pytest.mark.once,  # the same on every Python, and long
    pytest.mark.sqlite("a server's columns take nothing else than theirs"),
]

ROWS = 24  # at least as many as a table has columns
VALUES = {
    "time with Z": "'2026-05-05T10:00:00Z'",
    "time with T": "'2026-05-05T10:00:00.000000+00:00'",
    "time without zone": "'2026-05-05 10:00:00'",
    "time of another land": "'05/05/2026 10:00'",
    "time before all times": "'0001-01-01T00:00:00+05:00'",
    "seconds": "1767225600.5",
    "JSON of Python": """'{''s'': 0}'""",
    "JSON cut off": """'{"a": '""",
    "JSON array": "'[1, 2]'",
    "JSON of others": """'{"models": 5, "stems": [], "git": 1, "pid": "x", "run": 7, "s": [[]]}'""",
    "JSON too deep": "replace(hex(zeroblob(3000)), '00', '[')",
    "boolean as text": "'false'",
    "number with a unit": "'12 dB'",
    "NUL": "'a' || char(0) || 'b'",
    "bytes": "x'00ff41'",
    "text that is not UTF-8": "CAST(x'ff41' AS TEXT)",
    "huge integer": "9223372036854775807",
    "infinity": "9e999",
}
TABLES = [model._meta.table_name for model in MODELS]
# All tables at once; one at a time, no fault hides another.
WHICH = [
    pytest.param(TABLES, id="all"),
    *(pytest.param([table], id=table, marks=pytest.mark.soak) for table in TABLES),
]
COLUMNS = max(len(model._meta.sorted_fields) for model in MODELS)
LISTS = {
    "speakers": "speakers",
    "processed_files": "files",
    "processing_history": "history",
    "model_performance": "performance",
}
SOURCES = [f"/mix/{number}.wav" for number in range(ROWS)]
COMMANDS = [
    *("status", "check", "check --files", "list-tags", "failures", "failures --all"),
    *(f"list-{noun} --all {style}" for noun in LISTS.values() for style in ("", "--csv --raw")),
    *("list-files --sort -duration", "list-files metadata.a:1", "list-files tag:x"),
    *("list-history started:2026..", "list-history --unfinished", "list-history parameters.s:1"),
    *("list-performance si_snri:0..", "list-speakers --sort -created_at --columns id,tags,added"),
    *("pending /mix/1.wav --operation separation --param s=1", "pending /mix/1.wav --operation x"),
    *("close-unfinished", "add-speaker New", "update-speaker id:2 --description d"),
    *(
        "add-tags id:3 new",
        "remove-tags id:3 x",
        "delete-file 9 --yes",
        "delete-speaker id:5 --yes",
    ),
    *("export processed_files --format csv -o OUT/files.csv", "export -o OUT/all.jsonl"),
    *("list-migrations", "list-backups", "backup --backup-path OUT/backup.db"),
]
# For a row with each column's value.
OF_A_ROW = [
    *("show-run {0} --json", "update-file {0} --metadata a=1"),
]
METHODS: dict[str, Callable[[DatabaseManager], Any]] = {
    "get_all": lambda db: [(str(row), row._repr_html_()) for m in MODELS for row in db.get_all(m)],
    "get_by_id": lambda db: [each(partial(db.get_by_id, model), ROWS) for model in MODELS],
    "search": lambda db: [db.search(noun) for noun in LISTS.values()],
    "list_rows": lambda db: [list(db.list_rows(noun, limit=None)) for noun in LISTS.values()],
    "html": lambda db: [db.list_rows(noun)._repr_html_() for noun in LISTS.values()],
    "to_dataframe": lambda db: [db.to_dataframe(noun) for noun in LISTS.values()],
    "to_dataframe, expanded": lambda db: db.to_dataframe("history", expand=True),
    "search_speakers": lambda db: db.search_speakers("a"),
    "find_speakers_by_tags": lambda db: db.find_speakers_by_tags(["x"]),
    "get_speaker_files": lambda db: db.get_speaker_files(1),
    "history": lambda db: [each(db.history, 2 * ROWS), *map(db.history, SOURCES)],
    "show_run": lambda db: each(lambda key: str(db.show_run(key)), ROWS),
    "pending": lambda db: list(db.pending(SOURCES, "separation", parameters={"s": 1})),
    "failures": lambda db: str(db.failures()),
    "leaderboard": lambda db: str(db.leaderboard(by=("model", "parameters.s"))),
    "compare": lambda db: str(db.compare("demucs:1", "svoice:1")),
    "watch": lambda db: next(iter(db.watch())),
    "player": lambda db: each(lambda key: db.player(key)._repr_html_(), 2 * ROWS),
    "status": lambda db: db.status(),
    "list_tags": lambda db: db.list_tags(),
    "record_run": lambda db: db.record_run("/mix/1.wav", "x", start_time="2026-01-01T00:00:00Z"),
    "track": lambda db: db.track("/mix/2.wav", "separation").__enter__().__class__,
    "track to its end": lambda db: each(lambda number: tracked(db, number), ROWS - 1),
    "claims": lambda db: list(db.pending(SOURCES, "y", claim=True)),
    "listening_results": lambda db: list(map(str, db.listening_results())),
    "report": lambda db: db.report(f"{db.path}.html", overwrite=True),
    "close_unfinished": lambda db: db.close_unfinished(older_than=0),
    "add_tags": lambda db: each(lambda key: db.add_tags(key, ["b"]), ROWS),
    "remove_tags": lambda db: each(lambda key: db.remove_tags(key, ["x"]), ROWS),
    "update": lambda db: [each(partial(with_row, db, db.update, model), ROWS) for model in MODELS],
    "delete": lambda db: [each(partial(with_row, db, db.delete, model), ROWS) for model in MODELS],
    "query": lambda db: [list(one) for model in MODELS for one in _queries(db, model)],
    "check": lambda db: db.check(files=True, fix=True),
}


def _queries(db: DatabaseManager, model: Any) -> Iterator[Any]:
    """Yield the ways in which Peewee gives rows."""
    query = db.query(model)
    yield from (query.clone(), query.dicts(), query.tuples(), query.namedtuples(), query.objects())
    yield model.select()


def each(call: Callable[[int], object], count: int) -> None:
    """Call a method with each id; an error of ours is an answer."""
    for key in range(1, count + 1):
        with suppress(VoicesError):
            call(key)


def tracked(db: DatabaseManager, number: int) -> None:
    """Record a run of a source of the record to its end: it is no error of ours, nor of anybody."""
    with db.track(SOURCES[number], "z"):
        pass


Spoil = Callable[[list[str], str], Path]


def with_row(db: DatabaseManager, call: Callable[[Any], object], model: Any, key: int) -> None:
    """Call a method with a row, if it is there."""
    if (row := db.get_by_id(model, key)) is not None:
        call(row)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A record with more rows in each table than that has columns."""
    folder = tmp_path_factory.mktemp("hostile")
    path, audio = folder / "voices.db", folder / "out.wav"
    write_wav(audio)
    with DatabaseManager(path).initialize() as db:
        for number in range(ROWS):
            speaker = db.create_speaker(f"speaker {number}", tags=["x"])
            db.record_run(
                f"/mix/{number}.wav",
                "separation",
                start_time="2026-01-01T00:00:00Z",
                end_time="2026-01-01T00:00:05Z",
                model_type=("demucs", "svoice")[number % 2],
                model_version="1",
                parameters={"s": 1},
                outputs=[{"path": f"{audio}", "speaker": speaker, "si_snri": 1.0}],
            )
    _fill(path)
    return path.read_bytes()


def _fill(path: Path) -> None:
    """Put rows into the tables that a record of runs leaves empty, or nearly so."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints=1")
        for model in MODELS:
            there = _count(connection, model._meta.table_name)
            names = [field.column_name for field in model._meta.sorted_fields]
            marks = ", ".join("?" * len(names))
            connection.executemany(
                f"INSERT INTO {model._meta.table_name} ({', '.join(names)}) VALUES ({marks})",
                [
                    [_value(field, key) for field in model._meta.sorted_fields]
                    for key in range(there + 1, ROWS + 1)
                ],
            )
        connection.execute("UPDATE processing_history SET environment_id = id, tags = '[\"a\"]'")
        sql = "UPDATE processing_history SET end_time = NULL, success = 0 WHERE id % 4 = 0"
        connection.execute(sql)  # which goes on
        assert all(_count(connection, table) >= ROWS for table in TABLES)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = delete")


def _value(field: pw.Field, key: int) -> object:
    if isinstance(field, UTCDateTimeField):
        return "2026-01-01 00:00:00.000000+00:00"
    if isinstance(field, JSONField):
        return "{}"
    return str(key) if isinstance(field, pw.TextField) else key


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def spoil(path: Path, table: str, value: str) -> dict[str, int]:
    """Put a value into each column of a table, each in a row of its own; return which those are."""
    (model,) = (model for model in MODELS if model._meta.table_name == table)
    names = [field.column_name for field in model._meta.sorted_fields if field.name != "id"]
    spoilt: dict[str, int] = {}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=1")
        connection.execute("PRAGMA foreign_keys=0")
        for key, name in enumerate(names, 1):
            with suppress(sqlite3.IntegrityError):  # processing_history_id is unique
                connection.execute(f"UPDATE {table} SET {name} = {value} WHERE id = {key}")
                spoilt[name] = key
    assert len(spoilt) >= len(names) - 1
    return spoilt


@pytest.fixture
def spoilt(recorded: bytes, tmp_path: Path) -> Spoil:
    """What makes a copy of the record with a hostile value in every column of a table."""

    def make(tables: list[str], name: str) -> Path:
        path = tmp_path / "spoilt.db"
        path.write_bytes(recorded)
        for table in tables:
            spoil(path, table, VALUES[name])
        return path

    return make


def _traceback(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:90]} ({Path(last.filename).name}:{last.lineno})"


@pytest.mark.parametrize("tables", WHICH)
@pytest.mark.parametrize("name", VALUES)
def test_every_command(spoilt: Spoil, tmp_path: Path, tables: list[str], name: str) -> None:
    """Whatever stands in a column, each command ends with rows or one sentence."""
    path, bad = spoilt(tables, name), []
    of_rows = [command.format(key) for command in OF_A_ROW for key in range(1, COLUMNS + 1)]
    for command in (*COMMANDS, *of_rows, "check --fix --yes"):
        words = shlex.split(command.replace("OUT", str(tmp_path)))
        try:
            outcome = run("--db", path, *words)
        except Exception as error:  # noqa: BLE001 - all are to be told
            bad.append((command, _traceback(error)))
            continue
        if outcome.code not in (0, 1):
            bad.append((command, outcome.err))
    assert not bad, "\n".join(map(str, bad))


@pytest.mark.parametrize("tables", WHICH)
@pytest.mark.parametrize("name", VALUES)
def test_every_method(spoilt: Spoil, tables: list[str], name: str) -> None:
    """Whatever stands in a column, each method answers or raises an error of ours."""
    bad = []
    with DatabaseManager(spoilt(tables, name)) as db:
        for method, call in METHODS.items():
            try:
                call(db)
            except VoicesError:
                pass
            except Exception as error:  # noqa: BLE001 - as above
                bad.append((method, _traceback(error)))
    assert not bad, "\n".join(map(str, bad))


@pytest.mark.parametrize("table", LISTS)
@pytest.mark.parametrize("name", VALUES)
def test_no_row_is_lost_from_view(spoilt: Spoil, table: str, name: str) -> None:
    """A list shows every row, the unreadable value as it stands."""
    outcome = run("--db", spoilt([table], name), f"list-{LISTS[table]}", "--all", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    count = ROWS * 2 if table == "processed_files" else ROWS
    assert len(json.loads(outcome.out)) == count


def test_what_cannot_be_read_is_named(spoilt: Spoil) -> None:
    """``check`` names table, id and column of each value that no column can hold, and advises."""
    path = spoilt(TABLES, "bytes")
    named = "column {!r} in table {!r} (id {}) "
    wanted = {
        named.format(field.column_name, model._meta.table_name, key)
        for model in MODELS
        for key, field in enumerate(model._meta.sorted_fields)
        if key
    }
    found = [one for one in DatabaseManager(path).check() if one.kind == "value"]
    assert "name another model than their runs" in found.pop(0).what
    assert "have another path than" in found.pop(0).what
    assert {one.what.partition(")")[0] + ") " for one in found} >= wanted
    assert {one.advice for one in found} == {
        "correct it in SQL, or restore a backup with 'voices restore'"
    }


def test_each_text_that_is_not_utf8_is_named_and_shown(spoilt: Spoil) -> None:
    """A text that is not UTF-8 is shown with its bytes, and ``check`` names its place."""
    path = spoilt(["speakers"], "text that is not UTF-8")
    outcome = run("--db", path, "list-speakers", "--all", "--json")
    assert json.loads(outcome.out)[0]["description"] == "\udcffA"
    found = {one.what for one in DatabaseManager(path).check()}
    assert "column 'description' in table 'speakers' (id 2) is no text in UTF-8" in found


@pytest.mark.parametrize("column", ["process", "parameters"])
def test_an_unreadable_run_is_shown_as_it_stands(
    recorded: bytes, tmp_path: Path, column: str
) -> None:
    """show-run of a run with an unreadable time and no JSON shows both as they are stored."""
    path = tmp_path / "one.db"
    path.write_bytes(recorded)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints=1")
        sql = f"UPDATE processing_history SET start_time = '05/05/2026', {column} = 'no JSON'"
        connection.execute(f"{sql} WHERE id = 1")
    outcome = run("--db", path, "show-run", "1")
    assert (outcome.code, outcome.err) == (0, "")
    word = "process" if column == "process" else "parameter"
    assert "started: 05/05/2026\n" in outcome.out
    assert f"{word} as it stands: no JSON\n" in outcome.out


def test_a_recording_that_another_program_changed(tmp_path: Path) -> None:
    """One whose reading time is none is read again; metadata that are none are not written over."""
    path, audio = tmp_path / "one.db", tmp_path / "mix.wav"
    write_wav(audio)
    with DatabaseManager(path).initialize() as db:
        db.add_audio(audio)
        db.execute_raw_query("UPDATE processed_files SET read_at = 'yesterday'", write=True)
        with db.track(audio, "separation"):
            pass
        assert db.history(audio)[0].status == "success"
        assert db.check() == []
        db.execute_raw_query("UPDATE processed_files SET metadata = '[1]'", write=True)
        assert db.add_audio(audio).metadata == [1]
        with pytest.raises(VoicesError) as caught:
            db.add_audio(audio, metadata={"room": "hall"})
        assert str(caught.value) == "the metadata of file 1 is no JSON object; see 'voices check'"
        db.execute_raw_query("UPDATE processed_files SET original_path = x'00'", write=True)
        assert "column 'original_path' in table 'processed_files' (id 1) is no text" in {
            finding.what for finding in db.check(path_map={"/a": "/b"})
        }


def test_numbers_are_no_times(recorded: bytes, tmp_path: Path) -> None:
    """A number in place of a time is shown as it stands: milliseconds are no day of 1711."""
    path = tmp_path / "one.db"
    path.write_bytes(recorded)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE speakers SET created_at = 1711123012345, updated_at = 20260505")
    with DatabaseManager(path) as db:
        ada = db.get_all(Speaker)[0]
        assert (ada.created_at, ada.updated_at) == (1711123012345, 20260505)


def test_an_infinity_beside_deep_json(recorded: bytes, tmp_path: Path) -> None:
    """A row whose metadata are nested deeply does not end a list in which another is infinite."""
    path, deep = tmp_path / "one.db", "[" * 480 + "]" * 480
    path.write_bytes(recorded)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints=1")
        connection.execute(f"UPDATE processed_files SET metadata = '{deep}', duration = 9e999")
    outcome = run("--db", path, "list-files", "--columns", "id,duration,metadata", "--json")
    (first, *_) = json.loads(outcome.out)
    assert (first["duration"], json.dumps(first["metadata"]), outcome.code) == (None, deep, 0)


def test_what_cannot_be_changed_is_one_sentence(recorded: bytes, tmp_path: Path) -> None:
    """A value that is not what it should be is not written over: the sentence names its row."""
    path = tmp_path / "one.db"
    path.write_bytes(recorded)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints=1")
        connection.execute("UPDATE speakers SET tags = '5' WHERE id = 1")
        connection.execute("UPDATE processed_files SET metadata = '[1]' WHERE id = 1")
        connection.execute("UPDATE processing_history SET processed_file_id = 999 WHERE id = 3")
    look = "see 'voices check'"
    for command, sentence in (
        ("add-tags id:1 a", f"the tags of speaker 1 are 5, not a list of texts; {look}"),
        ("update-file 1 --metadata a=1", f"the metadata of file 1 is no JSON object; {look}"),
        ("show-run 3", f"run '3' has no file; {look}"),
    ):
        assert run("--db", path, *command.split()) == (1, "", f"Error: {sentence}\n")
