"""Hostile input: nothing that a stranger can write commands the database, shell or spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.cli_tools import run
from support.databases import ON_SERVER
from support.wav_files import write_wav

from voices_peewee import DatabaseManager, ProcessedFile, Speaker, errors
from voices_peewee.cli import cli

INJECTIONS = [
    "'; DROP TABLE speakers; --",
    "x' UNION SELECT sql FROM sqlite_master --",
    "%_%",
    "=cmd|'/c calc'!A1",
    "-1+1",
    "\t=1",
    "\x1b]0;owned\x07",
    "\u202egnp.exe",
    "\x00",
    "\ud800",
    "$.a",
    "",
    "--help",
    "parameters.'",
    "tags[0]",
    "si_snri:1..x",
]

texts = st.one_of(
    st.sampled_from(INJECTIONS),
    st.text(max_size=30),
    st.builds("{}:{}".format, st.sampled_from(["name", "tag", "model", "si_snri"]), st.text()),
).filter(lambda text: not (ON_SERVER and "\0" in text))
# What a system can pass on a command line: any bytes but NUL.
arguments = st.one_of(
    texts.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=12)
).map(lambda argument: os.fsdecode(argument.replace(b"\0", b"")))
FLOATS = st.floats(-1e15, 1e15) if ON_SERVER else st.floats()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | FLOATS | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
fuzzed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# What may be in an error's text without doing harm on a terminal.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def filled(db: DatabaseManager) -> DatabaseManager:
    """A database with a row of everything."""
    with db.track("/mix.wav", "separation", model_type="demucs", parameters={"a": 1}) as work:
        work.output("/ada.wav", si_snri=1.0, pesq=2.0)
    db.create_speaker("Ada", tags=["one"])
    return db


def tables(db: DatabaseManager) -> list[dict[str, Any]]:
    if ON_SERVER:
        return db.execute_raw_query("SELECT relname, relkind FROM pg_class ORDER BY oid")
    return db.execute_raw_query("SELECT name, sql FROM sqlite_master ORDER BY name")


def refuses(act: Callable[[], object]) -> None:
    """Let an act succeed or fail with a sentence of ours."""
    with suppress(errors.VoicesError):
        act()


@fuzzed
@given(name=texts, description=st.none() | texts, tags=st.lists(texts, max_size=4))
@example(name="'; DROP TABLE speakers; --", description="\x00", tags=["\ud800"])
def test_names_and_tags(
    filled: DatabaseManager, name: str, description: str | None, tags: list[str]
) -> None:
    """What is accepted as a speaker comes back as it was; the tables stay as they were."""
    before = tables(filled)
    count = len(filled.get_all(Speaker))
    try:
        made = filled.create_speaker(name, description, tags)
    except errors.VoicesError:
        assert len(filled.get_all(Speaker)) == count
    else:
        found = filled.get_by_id(Speaker, made.id)
        assert (found.name, found.description) == (made.name, made.description)
        assert found.tags == made.tags
        refuses(lambda: filled.get_speaker(name))
        refuses(lambda: filled.add_tags(made, tags))
        refuses(lambda: filled.remove_tags(made, tags))
        filled.delete(made)
    assert tables(filled) == before


@fuzzed
@given(
    noun=st.sampled_from(["speakers", "files", "history", "performance", "x'y"]),
    words=st.lists(texts, max_size=3),
    search=st.none() | texts,
    sort=st.none() | texts | st.builds("-{}".format, texts),
    columns=st.none() | st.lists(texts, min_size=1, max_size=3),
    speaker=st.none() | texts,
)
@example("speakers", [], None, "name; DELETE FROM speakers", None, None)
@example("history", [], None, "parameters.'", ["parameters.'"], None)
def test_questions(
    filled: DatabaseManager,
    noun: str,
    words: list[str],
    search: str | None,
    sort: str | None,
    columns: list[str] | None,
    speaker: str | None,
) -> None:
    """Whatever is asked, the answer is rows or one sentence; nothing changes."""
    before = tables(filled), filled.status()["rows"]

    def ask() -> None:
        page = filled.list_rows(
            noun, words, search=search, sort=sort, columns=columns, speaker=speaker
        )
        list(page.rows)
        assert page.total >= 0

    refuses(ask)
    assert (tables(filled), filled.status()["rows"]) == before


@fuzzed
@given(metric=texts, values=st.dictionaries(texts, json_values, max_size=3))
@example("si_snri) FROM speakers; --", {"a'b": 1, 'a"b': 2, "$": 3})
def test_metric_names_and_json_keys(
    filled: DatabaseManager, metric: str, values: dict[str, Any]
) -> None:
    """Metric names and JSON keys are data wherever they go."""
    before = tables(filled)
    refuses(lambda: filled.leaderboard(metric=metric))
    refuses(lambda: filled.compare("demucs", "svoice", metric=metric))
    refuses(lambda: list(filled.list_rows("files", sort=f"metadata.{metric}").rows))
    refuses(lambda: filled.add(ProcessedFile(filename="a", metadata=values)))
    for key in values:
        refuses(lambda key=key: list(filled.list_rows("files", [f"metadata.{key}:1"]).rows))
    assert tables(filled) == before


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM speakers",
        "WITH x AS (SELECT 1) DELETE FROM speakers",
        "SELECT 1; DELETE FROM speakers",
        "SELECT 1; COMMIT; DELETE FROM speakers",
        "WITH x AS (SELECT 'Eve' AS name) INSERT INTO speakers (name) SELECT name FROM x",
        "WITH x AS (DELETE FROM speakers RETURNING id) SELECT * FROM x",
        "PRAGMA user_version = 5",
        "EXPLAIN PRAGMA foreign_keys = 0",
        "SELECT load_extension('other')",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'other.db'",
        "BEGIN",
    ],
)
def test_raw_queries_only_read(filled: DatabaseManager, tmp_path: Path, sql: str) -> None:
    """Without write=True no statement changes anything, whatever it begins with."""
    before = tables(filled), filled.status()["rows"], sorted(tmp_path.rglob("*.db"))
    with pytest.raises(errors.VoicesError):
        filled.execute_raw_query(sql)
    assert (tables(filled), filled.status()["rows"], sorted(tmp_path.rglob("*.db"))) == before
    assert filled.create_speaker("still writable").id


COMMENTS = ["/* how many */", "-- how\n", "-- many\r\n", " /**/\n--\n\t", "explain /* it */ "]
# To PostgreSQL a comment ends at CR, to SQLite it does not.
HIDING = ["(", "/* a /* b */", "--\rPREPARE held AS\n", "--\rCOPY (\n"]


@pytest.mark.parametrize("before", [*COMMENTS, *HIDING])
def test_comments_before_a_raw_query(filled: DatabaseManager, before: str) -> None:
    """A query as it comes out of a file is one, but nothing hides behind a comment."""
    is_fine = before in COMMENTS
    with nullcontext() if is_fine else pytest.raises(errors.QueryError, match="only SELECT"):
        assert filled.execute_raw_query(f"{before}SELECT 1 AS a")
    for sql in (f"{before}DELETE FROM speakers", f"{before}/* SELECT */ PRAGMA foreign_keys = 0"):
        with pytest.raises(errors.QueryError):
            filled.execute_raw_query(sql)


def test_raw_queries_look_up_each_row(filled: DatabaseManager) -> None:
    """A SELECT inside a SELECT is read to the end: its tables are opened as rows are fetched."""
    filled.create_speaker("Eve")
    inner = "(SELECT count(*) FROM processed_files AS f WHERE f.speaker_id = s.id) AS n"
    rows = filled.execute_raw_query(f"SELECT name, {inner} FROM speakers AS s ORDER BY id")
    assert len(rows) == filled.status()["rows"]["speakers"] > 1


COMMANDS = [
    ["add-speaker"],
    ["add-tags", "Ada"],
    ["update-speaker", "Ada", "--name"],
    ["delete-speaker", "--yes"],
    ["list-speakers", "--sort"],
    ["list-files", "--columns"],
    ["list-history", "--model"],
    ["update-file", "1", "--metadata"],
    ["leaderboard", "--metric"],
    ["compare", "demucs"],
    ["show-run"],
    ["create-migration"],
    ["rollback-migration", "--to"],
    [],
]


@pytest.mark.sqlite("a folder beside the database")
@fuzzed
@given(
    command=st.sampled_from(COMMANDS),
    args=st.lists(arguments, max_size=3),
)
@example(["add-speaker"], ["\x1b]0;owned\x07"])
@example(["list-speakers"], ["--sort", "\x1b[31m"])
@example(["update-file", "1", "--metadata"], ["a=\udcff"])
def test_arguments(filled: DatabaseManager, command: list[str], args: list[str]) -> None:
    """Every command line ends with status 0, 1 or 2, no traceback and nothing for the terminal."""
    before = tables(filled)
    here = Path(filled.path).parent
    (here / "migrations").mkdir(exist_ok=True)
    options = ["--db", filled.path, "--migrations-dir", str(here / "migrations")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        result = CliRunner().invoke(cli, [*options, *command, *args], prog_name="voices")
    shutil.rmtree(here / "migrations")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.exit_code in (0, 1, 2)
    # What click itself says about a wrong command line repeats the user's own words.
    assert not CONTROL.search(result.stdout if result.exit_code == 2 else result.output)
    assert tables(filled) == before


@fuzzed
@given(stored=st.sampled_from(INJECTIONS) | st.text(min_size=1, max_size=20))
def test_stored_text_commands_nothing(db: DatabaseManager, stored: str) -> None:
    """Stored text reaches a terminal without control characters, and a spreadsheet as text."""
    db.execute_raw_query("DELETE FROM speakers", write=True)
    try:
        db.add(Speaker(name=f"x{stored}", description=stored, tags=[stored]))
    except errors.VoicesError:
        return
    table = run("--db", db.path, "list-speakers", "--columns", "name,description,tags")
    assert not CONTROL.search(table.out + table.err)
    for style in ("--json", "--jsonl"):
        text = run("--db", db.path, "list-speakers", style).out
        assert not CONTROL.search(text)
        assert json.loads(text)
    text = run("--db", db.path, "list-speakers", "--csv", "--columns", "description").out
    assert not CONTROL.search(text)
    (cell,) = list(csv.reader(io.StringIO(text)))[1]
    number = re.fullmatch(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", cell, re.IGNORECASE)
    assert number or not cell.startswith(("=", "+", "-", "@"))


STRANGE: Final = [b"\x1b]0;a\x07.wav", b"\xe9.wav", "\u202e\x9b.wav".encode(), b"\xff\x1b[2m.wav"]
WORDS: Final = "x\x1b[2m\u202e"
PRINTED: Final = [
    *(["list", noun] for noun in ("speakers", "files", "history", "performance")),
    *(
        ["leaderboard"],
        ["leaderboard", "--by", f"parameters.{WORDS}"],
        ["compare", f"{WORDS}a", "b"],
    ),
    *(["failures"], ["list-tags"], ["show-run", "1"], ["pending", "--operation", WORDS, "x.wav"]),
    *(["check", "--files"], ["status"], ["export"]),
    *(["verify-backup", STRANGE[3]], ["import", STRANGE[3]], ["update-file", STRANGE[3] + b"x"]),
    *(["show-run", WORDS], ["list-files", WORDS + ":x"], ["leaderboard", "--metric", WORDS]),
]
STYLES: Final = ["", "--json", "--jsonl", "--csv", "--md", "--latex"]


def test_strange_names_reach_no_output(db: DatabaseManager, tmp_path: Path) -> None:
    """Every command in every style prints names with ESC, or that are no UTF-8, harmlessly."""
    ada = db.create_speaker(WORDS, tags=[WORDS])
    for place in (tmp_path / os.fsdecode(name) for name in STRANGE):
        write_wav(place)
        for model in (f"{WORDS}a", "b"):
            settings = {"model_type": model, "parameters": {WORDS: WORDS}, "tags": [WORDS]}
            with db.track(place, WORDS, speaker=ada, note=WORDS, **settings) as run:
                run.output(f"{place}.{model}.wav", si_snri=3.0, **{WORDS: 1.0})
        with suppress(ValueError), db.track(place, WORDS):
            raise ValueError(str(place))
    for command in PRINTED:
        for style in STYLES:
            words = [*command, *[style] * bool(style)]
            done = CliRunner().invoke(cli, ["--db", db.path, *map(os.fsdecode, words)])
            assert done.exit_code in (0, 1, 2), words
            assert not CONTROL.search(done.output_bytes.decode()), words
    pages = [db.report(tmp_path / "r.html").read_text("utf-8")]
    shown = [db.show_run(1), db.leaderboard(), db.compare(f"{WORDS}a", "b"), db.failures()]
    shown += [db.get_all(ProcessedFile), db.list_rows("files"), db.player(1)]
    pages += [text for one in shown for text in (str(one), repr(one))]
    pages += [one._repr_html_() for one in shown[1:]]
    assert not any(CONTROL.search(page.encode().decode()) for page in pages)


def test_new_files_are_for_their_owner(tmp_path: Path) -> None:
    """Databases, their WALs and backups are readable by their owner only, whatever the umask."""
    before = os.umask(0)
    try:
        with DatabaseManager(tmp_path / "new" / "voices.db").initialize() as db:
            db.create_speaker("Ada")
            db.backup_database()
            files = {one.name: one for one in (tmp_path / "new").iterdir()}
            assert {"voices.db", "voices.db-wal", "voices.db-shm"} < set(files)
            modes = {stat.S_IMODE(one.stat().st_mode) for one in files.values()}
    finally:
        os.umask(before)
    assert len(files) == 5
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.once
def test_migrations_of_the_working_directory_are_not_run(tmp_path: Path) -> None:
    """Python files that lie about where a command is run are never executed."""
    mark = tmp_path / "executed"
    code = f"open({str(mark)!r}, 'w').close()\ndef migrate(*args, **kwargs): pass\n"
    here = tmp_path / "here"
    for folder in (here, here / "migrations", here / "voices_peewee"):
        folder.mkdir()
        for name in ("001_initial.py", "002_evil.py", "conf.py", "peewee.py", "click.py"):
            (folder / name).write_text(code)
    own = tmp_path / "own"
    own.mkdir()
    create = ["--migrations-dir", str(own), "create-migration", "x"]
    for command in (["init"], ["status"], ["list-migrations"], create, ["check"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "voices_peewee", "--db", here / "voices.db", *command],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        assert (command[0], mark.exists()) == (command[0], False)


SIZES = [
    (20_000_000, 100_000),
    pytest.param(100_000_000, 1_000_000, marks=pytest.mark.soak),
]


@pytest.mark.sqlite("texts that are too long for an index")
@pytest.mark.parametrize(("json_bytes", "tags"), SIZES, ids=["large", "huge"])
def test_sizes(path: Path, json_bytes: int, tags: int) -> None:
    """Very large values are stored and come back whole, and the listings stay usable."""
    with DatabaseManager(path).initialize() as db:
        name = "n" * 1_000_000
        db.add(Speaker(name=name, tags=[f"tag {number}" for number in range(tags)]))
        db.add(ProcessedFile(filename="a", metadata={"long": "x" * json_bytes}))
        db.add_tags(1, ["another"])
        assert len(db.get_by_id(Speaker, 1).tags) == tags + 1
        assert db.get_speaker(name).id == 1
        assert len(db.get_by_id(ProcessedFile, 1).metadata["long"]) == json_bytes
        assert db.list_rows("speakers", tag="another", columns=["id"]).total == 1
        assert db.check() == []
    outcome = run("--db", path, "list-speakers", "--columns", "id,files")
    assert (outcome.code, outcome.err) == (0, "1 speaker\n")


@pytest.mark.sqlite("texts that are too long for an index")
def test_a_value_that_is_too_large(db: DatabaseManager) -> None:
    """A value beyond what SQLite holds is refused, and nothing of it is written."""
    with pytest.raises(errors.InvalidValueError) as caught:
        db.add(Speaker(name="x" * 1_000_000_001))
    assert str(caught.value) == "a value is larger than the database can hold"
    assert db.get_all(Speaker) == []


def test_a_huge_value_does_not_flood_a_message(db: DatabaseManager) -> None:
    """An error shows the beginning and the end of a value of 1 MB."""
    with pytest.raises(errors.NotFoundError) as caught:
        db.get_speaker("n" * 1_000_000)
    head, tail = "no speaker '", "'; see 'voices list-speakers'"
    assert str(caught.value) == (
        f"{head}{'n' * (3000 - len(head))} … {'n' * (3000 - len(tail))}{tail}"
    )
