"""Whatever is given to an import: one sentence, exit 1, and nothing is changed."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.cli_tools import PROGRAM, Outcome, program, run
from support.databases import stored
from support.run_rows import add_run

from voices_peewee import DatabaseManager
from voices_peewee.errors import InputError, VoicesError

ADA = '{"table": "speakers", "id": 1, "name": "Ada"}\n'


EXPORTED = ADA.replace("}", ', "description": null, "tags": [], "created_at": null}')
EXPORTED = EXPORTED.replace("}", ', "updated_at": null}')
MIX = '{"table": "processed_files", "id": 1, "filename": "1.wav"}\n'


def end(count: object) -> str:
    return json.dumps({"table": "end", "rows": count}) + "\n"


TABLES = """speakers, processed_files, environments, processing_history, model_performance,
 listening_tests, listening_votes"""
INDEX = "pandas leaves out its index with index=False"
# What a file holds, and what is said of it: of a line, or of the file as a whole.
HOSTILE_LINES: dict[str, tuple[str | bytes, str]] = {
    "no JSON": (ADA[:30], "line 1: it is not valid JSON at character 31"),
    "a document": ('[{"name": "a"}]', "line 1: it is not a JSON object; write one a line"),
    "deep": (
        '{"a": ' + "[" * 100_000,
        "line 1: its JSON is nested too deeply, or has a number that is none",
    ),
    "a key twice": ('{"name": "a", "name": "b"}\n', "line 1: it has the key 'name' twice"),
    "an inner key twice": (
        '{"original_path": "/a", "metadata": {"x": 1, "x": 2}}\n',
        "line 1: it has the key 'x' twice",
    ),
    "binary": (gzip.compress(b"{}", mtime=0), "line 1: it is not UTF-8 text"),
    "empty": ("", "it is empty"),
    "no such table": (
        '{"table": "users"}',
        "line 1: there is no table 'users'; use " + TABLES.replace("\n", ""),
    ),
    "refused by the database": (
        '{"filename": "a", "duration": -1}',
        "line 1: duration must be a number of seconds, 0 or more",
    ),
    "metadata twice": (
        '{"filename": "a", "metadata": {"b": 1}, "b": 2}',
        "line 1, column 'b': metadata has another value for 'b'",
    ),
    "id twice": (
        '{"id": 1, "name": "a"}\n{"id": 1, "name": "b"}\n',
        "line 2, column 'id': there are two records with the id 1",
    ),
    "no id": ('{"id": 1, "name": "a"}\n{"name": "b"}\n', "line 2, column 'id': it is missing"),
    "cut off": (
        EXPORTED + MIX,
        "it was cut off: an export's last line, with its counts, is missing",
    ),
    "a row too few": (
        ADA + end({"speakers": 2}),
        "it was cut off or changed: the export had 2 rows of speakers, not 1",
    ),
    "an empty end": (
        ADA + end({}),
        "it was cut off or changed: the export had 0 rows of speakers, not 1",
    ),
    "after the end": (
        ADA + end({"speakers": 1}) + ADA,
        "line 3: it goes on after the end that an export wrote",
    ),
}
HOSTILE_CSV: dict[str, tuple[str | bytes, str]] = {
    "a key twice": (
        'original_path,metadata\n/a,"{""x"": 1, ""x"": 2}"\n',
        "line 2, column 'metadata': it has the key 'x' twice",
    ),
    "semicolons": (
        "name;description\nAda;a, b\n",
        "its columns are separated by ';'; write commas",
    ),
    "tabs": (
        "name\tdescription\nAda\tx\n",
        r"its columns are separated by '\t'; write commas",
    ),
    "no table": (
        "hello\nworld\n",
        "its columns ['hello'] are those of no table; name one with --table",
    ),
    "pandas' index": (
        ",name\n0,Ada\n",
        f"its header ['', 'name'] must name every column, each once; {INDEX}",
    ),
    "Latin-1": ("name,Größe\n".encode("latin-1"), "it is not UTF-8 text"),
    "short line": (
        "name,description\n\na\n",
        "line 3: the header has 2 columns, and this record has 1",
    ),
    "open quote": (
        'name\nb\n"a\nb\n',
        "line 3: it is not valid CSV (unexpected end of data)",
    ),
    "required": ("name,description\n,a\n", "line 2, column 'name': it is missing"),
    "measured twice": (
        "processing_history_id,sdri\n1,2\n1,3\n",
        "line 3: model_performance.processing_history_id must be unique",
    ),
}


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [(".jsonl", *one) for one in HOSTILE_LINES.values()]
    + [(".csv", *one) for one in HOSTILE_CSV.values()],
    ids=[*HOSTILE_LINES, *(f"CSV: {name}" for name in HOSTILE_CSV)],
)
def test_hostile_files(
    tmp_path: Path, path: Path, db: DatabaseManager, suffix: str, content: str | bytes, message: str
) -> None:
    """What no import can take is refused in one sentence that says where it stands."""
    add_run(db)
    before = stored(path)
    file = tmp_path / f"x{suffix}"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        db.import_records(file)
    start = f"'{file}', " if message.startswith("line") else f"cannot import '{file}': "
    assert str(caught.value) == start + message
    assert stored(path) == before


def test_what_is_no_database(tmp_path: Path, path: Path, db: DatabaseManager) -> None:
    """A file that only begins like a database is refused."""
    before = stored(path)
    (tmp_path / "x.db").write_bytes(b"SQLite format 3\0" + bytes(500))
    with pytest.raises(VoicesError) as caught:
        db.import_records(tmp_path / "x.db")
    assert str(caught.value) == f"cannot use '{tmp_path / 'x.db'}': it is not an SQLite database"
    assert stored(path) == before


# A value, given in JSON or in a CSV, and what its column takes.
MISFITS = [
    ("speakers", "id", '"1"', "'1' is not an id (an integer from 1 on)"),
    ("speakers", "id", "true", "True is not an id (an integer from 1 on)"),
    ("speakers", "id", f"{2**63 - 1}", f"{2**63 - 1} is not an id (an integer from 1 on)"),
    ("speakers", "name", "5", "5 is not a text in UTF-8"),
    ("speakers", "name", r'"\ud800"', r"'\ud800' is not a text in UTF-8"),
    ("speakers", "tags", '"b"', "'b' is not a list of texts"),
    ("speakers", "created_at", "5", "5 is not an ISO 8601 time"),
    (
        *("speakers", "created_at", '"9999-12-31T23:59:59-05:00"'),
        "'9999-12-31T23:59:59-05:00' is not an ISO 8601 time",
    ),
    ("files", "duration", "1e400", "inf is not a finite number"),
    ("files", "file_size", str(10**30), f"{10**30} is not an integer of 64 bits"),
    ("files", "channels", "1.5", "1.5 is not an integer of 64 bits"),
    ("files", "metadata", "[1]", "[1] is not a JSON object"),
    ("files", "original_path", "5", "5 is not a path of text"),
    ("history", "success", '"true"', "'true' is not true or false"),
]
TEXT_MISFITS = [
    ("files", "duration", "\u0661", "'\u0661' is not a finite number"),
    ("files", "duration", "nan", "'nan' is not a finite number"),
    ("files", "metadata", "{1}", "'{1}' is not a JSON object"),
    ("history", "success", "maybe", "'maybe' is not true or false"),
    ("speakers", "created_at", "yesterday", "'yesterday' is not an ISO 8601 time"),
]
AS_JSON, AS_CSV = '{{"{}": {}}}', "{}\n{}\n"


@pytest.mark.parametrize(
    ("text", "line", "misfit"),
    [*((AS_JSON, 1, one) for one in MISFITS), *((AS_CSV, 2, one) for one in TEXT_MISFITS)],
)
def test_values_that_do_not_fit(
    db: DatabaseManager, text: str, line: int, misfit: tuple[str, str, str, str]
) -> None:
    """What is no value of a column is told with its place, and is not bent until it fits."""
    table, column, value, reason = misfit
    with pytest.raises(InputError) as caught:
        db.import_records(io.StringIO(text.format(column, value)), table=table)
    assert str(caught.value) == f"'input', line {line}, column '{column}': {reason}"


HARMLESS = {
    "BOM and CRLF": ("x.jsonl", b'\xef\xbb\xbf{"name": "Ada"}\r\n\r\n'),
    "BOM and CRLF in CSV": ("x.csv", b"\xef\xbb\xbfname\r\nAda\r\n"),
    "JSON lines by another name": ("x.json", b'{"name": "Ada"}\n'),
    "CSV by another name": ("x.txt", b'"name"\nAda'),
    "lines of nothing": ("x.csv", b"\n\r\nname,tags\n,\nAda,\n\n,\n"),
}


@pytest.mark.parametrize(("name", "content"), HARMLESS.values(), ids=HARMLESS)
def test_harmless_files(
    tmp_path: Path, path: Path, db: DatabaseManager, name: str, content: bytes
) -> None:
    """What editors and other systems do to a file does not matter."""
    db.create_speaker("Eve")
    (tmp_path / name).write_bytes(content)
    done = run("--db", path, "import", tmp_path / name)
    assert done == Outcome(0, "", "speakers: 1 added\n1 record imported\n")


def test_what_is_no_file(tmp_path: Path, path: Path, db: DatabaseManager) -> None:
    """Pipes do not hang; folders, devices and what is not there are named as what they are."""
    with pytest.raises(TypeError) as caught:
        db.import_records(5)  # type: ignore[arg-type] # it is about that
    assert str(caught.value) == "an input is a path, a file or an iterable, not 5"
    db.close()
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder").mkdir()
    said = {
        tmp_path / "pipe.jsonl": "it is no file; name files, or use '-' for a pipe",
        tmp_path / "folder": "it is no file; name files, or use '-' for a pipe",
        tmp_path / "missing.csv": "no such file or directory",
    }
    for file, reason in said.items():
        done = run("--db", path, "import", file)
        assert done == Outcome(1, "", f"Error: cannot import '{file}': {reason}\n")


def test_the_standard_input(path: Path, db: DatabaseManager) -> None:
    """Closed, empty or with what cannot be read as a stream, it is refused in one sentence."""
    db.close()
    args = [*PROGRAM, "--db", str(path), "import", "-"]
    closed = subprocess.run(
        ["bash", "-c", 'exec "$@" <&-', "bash", *args], capture_output=True, text=True, timeout=60
    )
    assert (closed.returncode, closed.stdout, closed.stderr) == (
        1,
        "",
        "Error: cannot import 'standard input': it is closed\n",
    )
    said = {
        "": "it is empty",
        "SQLite format 3\0\x10\0": "a database cannot be read from a stream; give its path",
    }
    for text, reason in said.items():
        done = program(*args[3:], input=text)
        assert done == Outcome(1, "", f"Error: cannot import 'standard input': {reason}\n")


def test_it_ends_where_the_pipe_breaks(path: Path, db: DatabaseManager) -> None:
    """A program that dies in the middle of its export leaves nothing half."""
    db.close()
    voices = f"{' '.join(PROGRAM)} --db {path} import -"
    script = f"(printf '%s\\n' '{EXPORTED.strip()}' '{MIX.strip()}'; exit 1) | {voices}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        1,
        (
            "Error: cannot import 'standard input': "
            "it was cut off: an export's last line, with its counts, is missing\n"
        ),
    )
    assert stored(path) == []


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
COLUMNS = """table id name tags created_at filename metadata speaker_id duration success
processed_file_id operation_type start_time processing_history_id"""
columns = st.sampled_from(COLUMNS.split()) | st.text(max_size=5)
tables = st.sampled_from(["speakers", "processed_files", "end", "processing_history", ""])
rows = st.dictionaries(columns, values | tables, max_size=6).map(
    lambda row: json.dumps(row).encode()
)
garbage = st.lists(st.binary(max_size=20) | rows, max_size=5).map(b"\n".join)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=garbage, suffix=st.sampled_from(["jsonl", "csv", "db", ""]))
@example(content=b'{"name": "a", "id": 1e999}', suffix="jsonl")
@example(content=b'[{"name": "a"}', suffix="")
@example(content=b"name\n\x00\n", suffix="csv")
def test_any_bytes(tmp_path: Path, db: DatabaseManager, content: bytes, suffix: str) -> None:
    """Whatever a file holds, it is imported or refused with one of our errors, in a sentence."""
    file = tmp_path / f"speakers.{suffix}"
    file.write_bytes(content)
    try:
        db.import_records(file, dry_run=True)
    except VoicesError as error:
        said = str(error)
    else:
        said = ""
    assert len(said) < 500
    assert "\n" not in said
    assert db.status()["rows"]["speakers"] == 0


def test_json_lines_of_ones_own(db: DatabaseManager, tmp_path: Path) -> None:
    """Several tables that no export wrote need no counts at their end."""
    (tmp_path / "mine.jsonl").write_text(ADA + MIX)
    done = db.import_records(tmp_path / "mine.jsonl")
    assert [counts.added for counts in done.tables.values()][:2] == [1, 1]
    assert done.notes == []


def test_a_table_of_an_application_is_left_out(db: DatabaseManager, tmp_path: Path) -> None:
    """An export that has an application's own rows comes in without them, and says so."""
    own = '{"table": "takes", "id": 1}\n' * 2
    counts = {"speakers": 1, "processed_files": 0, "takes": 2}
    (tmp_path / "x.jsonl").write_text(EXPORTED + own + end(counts))
    done = db.import_records(tmp_path / "x.jsonl")
    assert done.notes == ["takes is a table of an application's own; it is left out"]
    assert done.tables["speakers"].added == 1


@pytest.mark.sqlite("the files of the database itself")
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_database_is_not_imported_into_itself(
    path: Path, db: DatabaseManager, suffix: str
) -> None:
    """Under any name the open database, and what lies beside it, is never opened as an input."""
    db.create_speaker("Ada")
    links = [path.parent / "soft", path.parent / "hard"]
    links[0].symlink_to(f"{path}{suffix}")
    links[1].hardlink_to(f"{path}{suffix}")
    for name in (f"{path}{suffix}", *map(str, links)):
        with pytest.raises(InputError) as caught:
            db.import_records(name)
        assert str(caught.value) == f"cannot import {name!r}: it is this database itself"
