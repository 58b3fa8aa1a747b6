"""Whatever is given to an import: one sentence, exit 1, and nothing is changed."""

from __future__ import annotations

import gzip
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
from support.import_rows import lines

from voices_peewee import DatabaseManager
from voices_peewee.errors import InputError, VoicesError

ADA = '{"table": "speakers", "id": 1, "name": "Ada"}\n'


EXPORTED = ADA.replace("}", ', "description": null, "tags": [], "created_at": null}')
EXPORTED = EXPORTED.replace("}", ', "updated_at": null}')
MIX = '{"table": "processed_files", "id": 1, "filename": "1.wav"}\n'


def end(count: object) -> str:
    return json.dumps({"table": "end", "rows": count}) + "\n"


DEEP = "[" * 100_000 + "]" * 100_000
WHOLE = "cannot import {path!r}: "
COLUMN = "{path!r}, line {line}, column {column!r}: "
# The file's name, its content, and what is said after "Error: ".
HOSTILE: dict[str, tuple[str, str | bytes, str]] = {
    "text": ("x.jsonl", "hello\n", "{path!r}, line 1: it is not valid JSON at character 1"),
    "text as CSV": (
        "x.csv",
        "hello\nworld\n",
        WHOLE + "its columns ('hello') are those of no table; name the table with --table",
    ),
    "many columns": (
        "x",
        "a,b,c,d\n",
        WHOLE + "its columns ('a', 'b', 'c', …) are those of no table; name the table with --table",
    ),
    "binary": ("x.jsonl", bytes(range(128, 256)), "{path!r}, line 1: it is not UTF-8 text"),
    "binary CSV": ("x.csv", bytes(range(128, 256)), WHOLE + "it is not UTF-8 text"),
    "compressed": ("x.jsonl", gzip.compress(b"{}"), WHOLE + "it is compressed; unpack it first"),
    "empty": ("x.jsonl", "", WHOLE + "it is empty"),
    "empty CSV": ("x.csv", "", WHOLE + "it is empty"),
    "long line": (
        "x.jsonl",
        '{"name": "' + "x" * 1_000_000,
        "{path!r}, line 1: it is not valid JSON at character 10",
    ),
    "deep": ("x.jsonl", f'{{"a": {DEEP}}}', "{path!r}, line 1: its JSON is nested too deeply"),
    "deep CSV": (
        "x.csv",
        f'name,tags\nAda,"{DEEP}"\n',
        "{path!r}, line 2, column 'tags': its JSON is nested too deeply",
    ),
    "NaN": ("x.jsonl", '{"filename": "a", "duration": NaN}', "{path!r}, line 1: NaN is no JSON"),
    "infinity": (
        "x.jsonl",
        '{"filename": "a", "metadata": {"a": -Infinity}}',
        "{path!r}, line 1: -Infinity is no JSON",
    ),
    "too large": (
        "x.jsonl",
        '{"filename": "a", "duration": 1e400}',
        "{path!r}, line 1, column 'duration': inf is not finite",
    ),
    "NaN in CSV": (
        "x.csv",
        "filename,duration\na,nan\n",
        "{path!r}, line 2, column 'duration': nan is not finite",
    ),
    "key twice": (
        "x.jsonl",
        '{"name": "a", "name": "b"}',
        "{path!r}, line 1: the key 'name' is there twice",
    ),
    "id as text": (
        "x.jsonl",
        '{"id": "1", "name": "a"}',
        "{path!r}, line 1, column 'id': '1' is not an integer",
    ),
    "id true": (
        "x.jsonl",
        '{"id": true, "name": "a"}',
        "{path!r}, line 1, column 'id': True is not an integer",
    ),
    "id 0": (
        "x.jsonl",
        '{"id": 0, "name": "a"}',
        "{path!r}, line 1, column 'id': 0 is no id; ids are 1 and above",
    ),
    "huge id": (
        "x.jsonl",
        '{"id": 9223372036854775807, "name": "a"}',
        "{path!r}, line 1, column 'id': 9223372036854775807 is no id; ids are 1 and above",
    ),
    "huge integer": (
        "x.jsonl",
        f'{{"filename": "a", "file_size": {10**30}}}',
        "{path!r}, line 1, column 'file_size': the integer does not fit into 64 bits",
    ),
    "endless integer": (
        "x.jsonl",
        f'{{"filename": "a", "file_size": {"9" * 5000}}}',
        "{path!r}, line 1: a number in its JSON is too long",
    ),
    "huge number": (
        "x.jsonl",
        f'{{"filename": "a", "duration": {"9" * 400}}}',
        "{path!r}, line 1, column 'duration': the number is too large",
    ),
    "half an integer": (
        "x.csv",
        "filename,channels\na,1.5\n",
        "{path!r}, line 2, column 'channels': 1.5 is not an integer",
    ),
    "digits of another script": (
        "x.csv",
        "filename,duration\na,\u0661\n",
        "{path!r}, line 2, column 'duration': '\u0661' is not a number",
    ),
    "no truth": (
        "x.csv",
        "processed_file_id,operation_type,success\n1,x,maybe\n",
        "{path!r}, line 2, column 'success': 'maybe' is neither true nor false",
    ),
    "no truth in JSON": (
        "x.jsonl",
        '{"processed_file_id": 1, "operation_type": "x", "success": "true"}',
        "{path!r}, line 1, column 'success': 'true' is neither true nor false",
    ),
    "Latin-1": ("x.jsonl", b'{"name": "Zo\xeb"}', "{path!r}, line 1: it is not UTF-8 text"),
    "Latin-1 CSV": (
        "x.csv",
        b"name\nZoe\nZo\xeb\n",
        "{path!r}, line 3, column 'name': it is not UTF-8 text",
    ),
    "UTF-16": (
        "x.jsonl",
        '{"name": "a"}'.encode("utf-16"),
        "{path!r}, line 1: it is UTF-16; save it as UTF-8",
    ),
    "UTF-16 CSV": ("x.csv", "name\n".encode("utf-16"), WHOLE + "it is not UTF-8 text"),
    "surrogate": (
        "x.jsonl",
        r'{"name": "\ud800"}',
        "{path!r}, line 1, column 'name': it is not UTF-8 text",
    ),
    "NUL": ("x.jsonl", '{"name": "\0"}', "{path!r}, line 1: it is not valid JSON at character 11"),
    "open quote": (
        "x.csv",
        'name\nb\n"a\nb\n',
        "{path!r}, line 3: it is not valid CSV (unexpected end of data)",
    ),
    "quote in the header": (
        "x.csv",
        '"name',
        WHOLE + "its header is not valid CSV (unexpected end of data)",
    ),
    "a number below lines of nothing": (
        "x.csv",
        "\n\nfilename,duration\n,\na,x\n",
        "{path!r}, line 5, column 'duration': 'x' is not a number",
    ),
    "only lines of nothing": ("x.csv", "\n\n", WHOLE + "it has no header"),
    "short line": (
        "x.csv",
        "name,description\n\na\n",
        "{path!r}, line 3: the header has 2 columns, and this record has 1",
    ),
    "column twice": ("x.csv", "name,name\n", WHOLE + "its header names 'name' twice"),
    "pandas' index": (
        "x.csv",
        ",name\n0,Ada\n",
        WHOLE + "its header has a column without a name; pandas writes none with index=False",
    ),
    "no header": ("x.csv", ",,\n", WHOLE + "it has no header"),
    "no such table": (
        "x.jsonl",
        '{"table": "users"}',
        (
            "{path!r}, line 1: there is no table 'users'; "
            "use speakers, processed_files, processing_history, model_performance"
        ),
    ),
    "no name": (
        "speakers.jsonl",
        '{"description": "a"}',
        "{path!r}, line 1, column 'name': it is missing",
    ),
    "empty name": (
        "x.jsonl",
        '{"name": " "}',
        "{path!r}, line 1, column 'name': a speaker needs a name",
    ),
    "number for a name": (
        "x.jsonl",
        '{"name": 5}',
        "{path!r}, line 1, column 'name': 5 is not a text",
    ),
    "text for tags": (
        "x.jsonl",
        '{"name": "a", "tags": "b"}',
        "{path!r}, line 1, column 'tags': 'b' is not a list of texts",
    ),
    "array for metadata": (
        "x.jsonl",
        '{"filename": "a", "metadata": [1]}',
        "{path!r}, line 1, column 'metadata': [1] is not a JSON object",
    ),
    "bad JSON in CSV": (
        "x.csv",
        "filename,metadata\na,{1}\n",
        "{path!r}, line 2, column 'metadata': it is not valid JSON at character 2",
    ),
    "metadata twice": (
        "x.jsonl",
        '{"filename": "a", "metadata": {"b": 1}, "b": 2}',
        "{path!r}, line 1, column 'b': metadata has another value for 'b'",
    ),
    "no time": (
        "x.jsonl",
        '{"name": "a", "created_at": "yesterday"}',
        "{path!r}, line 1, column 'created_at': 'yesterday' is not an ISO 8601 time",
    ),
    "time out of range": (
        "x.jsonl",
        '{"name": "a", "created_at": "9999-12-31T23:59:59-05:00"}',
        (
            "{path!r}, line 1, column 'created_at': "
            "'9999-12-31T23:59:59-05:00' is not an ISO 8601 time"
        ),
    ),
    "number for a time": (
        "x.jsonl",
        '{"name": "a", "created_at": 5}',
        "{path!r}, line 1, column 'created_at': 5 is not an ISO 8601 time",
    ),
    "negative duration": (
        "x.jsonl",
        '{"filename": "a", "duration": -1}',
        "{path!r}, line 1, column 'duration': duration must be a number of seconds, 0 or more",
    ),
    "id twice": (
        "x.jsonl",
        '{"id": 1, "name": "a"}\n{"id": 1, "name": "b"}\n',
        "{path!r}, line 2, column 'id': there are two records with the id 1",
    ),
    "no id": (
        "x.jsonl",
        '{"id": 1, "name": "a"}\n{"name": "b"}\n',
        "{path!r}, line 2, column 'id': it is missing",
    ),
    "no object": ("x.jsonl", "5\n", "{path!r}, line 1: it is not a JSON object"),
    "a JSON document": (
        "x.json",
        '[{"name": "a"}]',
        "{path!r}, line 1: it is not a JSON object; write one a line",
    ),
    "cut off": (
        "x.jsonl",
        EXPORTED + MIX,
        WHOLE + "the last line of an export, with its counts, is missing: it was cut off",
    ),
    "cut in a line": (
        "x.jsonl",
        ADA[:30],
        "{path!r}, line 1: it is not valid JSON at character 31",
    ),
    "a row too few": (
        "x.jsonl",
        ADA + end({"speakers": 2}),
        "{path!r}, line 2: it was cut off or changed: the export had 2 rows of speakers, not 1",
    ),
    "a row too many": (
        "x.jsonl",
        ADA + end({"speakers": 0}),
        "{path!r}, line 2: it was cut off or changed: the export had 0 rows of speakers, not 1",
    ),
    "an end without counts": (
        "x.jsonl",
        ADA + end(5),
        "{path!r}, line 2: the end of the export does not say how many rows it has",
    ),
    "after the end": (
        "x.jsonl",
        ADA + end({"speakers": 1}) + ADA,
        "{path!r}, line 3: it goes on after the end that an export wrote",
    ),
    "no database": (
        "x.db",
        b"SQLite format 3\0" + bytes(500),
        "cannot use {path!r}: it is not an SQLite database",
    ),
}


@pytest.mark.parametrize(("name", "content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files(
    tmp_path: Path,
    path: Path,
    db: DatabaseManager,
    name: str,
    content: str | bytes,
    message: str,
) -> None:
    """What no import can take is refused in one sentence that says where it stands."""
    db.create_speaker("Eve")
    before = stored(path)
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    said = message.replace("{path!r}", repr(str(file)))
    assert run("--db", path, "import", file) == Outcome(1, "", f"Error: {said}\n")
    assert stored(path) == before


HARMLESS = {
    "BOM and CRLF": ("x.jsonl", b'\xef\xbb\xbf{"name": "Ada"}\r\n\r\n'),
    "BOM and CRLF in CSV": ("x.csv", b"\xef\xbb\xbfname\r\nAda\r\n"),
    "no last newline": ("x.jsonl", b'{"name": "Ada"}'),
    "JSON lines by another name": ("x.json", b'{"name": "Ada"}\n'),
    "CSV by another name": ("x.txt", b"name\nAda\n"),
    "a heading in capitals": ("x.csv", b"Name,TAGS\nAda,studio\n"),
    "a header in quotes": ("x.csv", b'"name"\n"Ada"\n'),
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


@pytest.mark.sqlite("texts that are too long for an index")
def test_long_values(db: DatabaseManager, tmp_path: Path) -> None:
    """A value of a megabyte is a value like others, in every format."""
    name = "x" * 1_000_000
    (tmp_path / "1.jsonl").write_text(lines([{"name": name + "1"}]))
    (tmp_path / "2.csv").write_text(f"name\n{name}2\n")
    done = db.import_records([tmp_path / "1.jsonl", tmp_path / "2.csv"])
    assert done.tables["speakers"].added == 2


def test_what_is_no_file(tmp_path: Path, path: Path, db: DatabaseManager) -> None:
    """Pipes do not hang; folders, devices and what is not there are named as what they are."""
    db.close()
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder").mkdir()
    said = {
        tmp_path / "pipe.jsonl": "it is no file; use '-' for a pipe",
        tmp_path / "folder": "it is a folder; name its files",
        Path("/dev/zero"): "it is no file; use '-' for a pipe",
        tmp_path / "missing.csv": "no such file or directory",
        tmp_path / ("x" * 300): "file name too long",
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
            "the last line of an export, with its counts, is missing: it was cut off\n"
        ),
    )
    assert stored(path) == []


def test_an_export_of_one_table(db: DatabaseManager, tmp_path: Path) -> None:
    """It has no end; where its name does not say that it is one table, a note tells the doubt."""
    (tmp_path / "speakers.jsonl").write_text(EXPORTED)
    (tmp_path / "x.jsonl").write_text(EXPORTED)
    assert db.import_records(tmp_path / "speakers.jsonl").notes == []
    assert db.import_records(tmp_path / "x.jsonl").notes == [
        (
            f"'{tmp_path}/x.jsonl' has speakers only and no counts at its end; "
            "if more was exported, it was cut off"
        )
    ]


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
