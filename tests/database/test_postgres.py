"""What is PostgreSQL's own: URLs, passwords, schema, pool, races and what differs from SQLite."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import peewee as pw
import pytest
from support.cli_tools import run
from support.databases import Databases
from support.interrupts import interrupted_at

from voices_peewee import (
    MODELS,
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    errors,
)
from voices_peewee.database.server_url import masked, open_server
from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.drift import drift
from voices_peewee.migrations.history import package_directory
from voices_peewee.runs.spool import SpoolWarning
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import RECORDED

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)
postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
pytestmark = [pytest.mark.postgresql, pytest.mark.once]


@pytest.fixture
def db(url: str) -> Iterator[DatabaseManager]:
    with DatabaseManager(url) as manager:
        yield manager


MASKED = [
    ("postgresql://ada:secret@host/voices", "postgresql://ada:***@host/voices"),
    ("postgres://ada:se@c:ret@host:5432/v", "postgres://ada:***@host:5432/v"),
    ("postgresql://ada@host/v?password=secret&x=1", "postgresql://ada@host/v?password=***&x=1"),
    ("postgresql:///v?x=1&PASSWORD=secret", "postgresql:///v?x=1&PASSWORD=***"),
    ("postgresql://host/v?sslpassword=secret", "postgresql://host/v?sslpassword=***"),
    ("postgresql://ada:se?x=ret@host/v", "postgresql://ada:***@host/v"),
    ("postgresql://?password=a:b@c&x=1", "postgresql://?password=***&x=1"),
    ("postgresql:///v?pass%77ord=secret", "postgresql:///v?pass%77ord=***"),
]


@pytest.mark.parametrize(("url", "shown"), MASKED)
def test_passwords_are_masked(url: str, shown: str) -> None:
    """Wherever a URL has a password, what is shown has three stars."""
    assert masked(url) == shown
    manager = DatabaseManager(url)
    assert (manager.path, repr(manager)) == (shown, f"<DatabaseManager {shown!r} closed>")


UNREACHABLE = [
    "postgresql://ada:s3cret@localhost:1/voices",
    "postgresql://ada:s3cret@[::1/voices",
    "postgresql://ada:s3cret@localhost:port/voices",
    "postgresql://localhost:s3cret/x@host/voices",
    "postgresql://ada:x?s3cret@localhost:1/voices",
]


@pytest.mark.parametrize("url", UNREACHABLE)
def test_no_error_shows_a_password(url: str) -> None:
    """Neither a message nor a traceback has the password of a URL that does not work."""
    with pytest.raises(errors.DatabaseError) as caught:
        DatabaseManager(url, timeout=1).connect()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert str(caught.value).startswith(f"cannot use {masked(url)!r}: ")
    done = run("--db", url, "status")
    assert (done.code, done.out) == (1, "")
    assert "s3cret" not in done.err


def test_a_url_that_cannot_be_read_is_one_sentence() -> None:
    """Whose password has characters of a URL is told how to write them."""
    with pytest.raises(errors.DatabaseError) as caught:
        DatabaseManager("postgresql://localhost:s3/x@host/voices").connect()
    assert str(caught.value) == (
        "cannot use 'postgresql://localhost:***@host/voices': the URL cannot be read; in a "
        "password, write '%' as %25, '/' as %2F, '?' as %3F and '@' as %40"
    )


SERVER = "postgresql://ada:s3cret@host/voices"
NO_BACKUP = "Error: backup 'postgresql://ada:***@host/voices': a backup is a file, not a server\n"
AS_FILES = [
    (
        ("export", "--output", SERVER),
        (
            "Error: export 'postgresql://ada:***@host/voices': a server is no file; use "
            "'voices export | voices --db URL import -'\n"
        ),
    ),
    (
        ("import", SERVER),
        (
            "Error: cannot import 'postgresql://ada:***@host/voices': a server is no file; use "
            "'voices --db URL export | voices import -'\n"
        ),
    ),
    (("backup", "--backup-path", SERVER), NO_BACKUP),
    (
        ("serve", "--port", "0"),
        "Error: cannot use '{url}': Datasette shows SQLite files, and this is a server\n",
    ),
    (
        ("--db", "postgresql:/ada:s3cret@host/voices", "status"),
        (
            "Error: cannot use 'postgresql://…': use the path of a file, or one of "
            "postgresql://, postgres://\n"
        ),
    ),
]


@pytest.mark.parametrize(("words", "sentence"), AS_FILES, ids=lambda one: str(one[0]))
def test_a_server_is_no_file(
    url: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    """A server's URL in the place of a file is one sentence, without its password."""
    monkeypatch.setenv("VOICES_DB", url)
    assert run(*words) == (1, "", sentence.replace("{url}", url))


def test_status(server: postgres_server.Server, url: str) -> None:
    """The status names the server's version, and never the password."""
    secret = url.replace("voices@", "voices:s3cret@")
    done = run("--db", secret, "status", "--json")
    facts = json.loads(done.out)
    assert facts["size"] > 1_000_000
    ((version,),) = server.execute("SHOW server_version")
    assert (done.code, done.err) == (0, "")
    shown = secret.replace("s3cret", "***")
    assert (facts["database"], facts["postgresql"]) == (shown, version)
    lines = run("--db", secret, "status").out.splitlines()
    assert lines[0] == f"database            {shown}"
    assert lines[2] == f"postgresql          {version}"


def test_without_psycopg_the_sentence_says_how_to_get_it() -> None:
    """Where the extra is missing, one sentence has the command that installs it."""
    script = (
        "import sys; sys.modules['psycopg'] = None; from voices_peewee.cli import main\n"
        "sys.argv[1:] = ['--db', 'postgresql://ada:s3cret@host/v', 'status']; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    told = "a database on a server needs an extra; run: pip install 'voices-peewee[postgres]'"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {told}\n")


def test_a_command_of_a_file_loads_no_driver(tmp_path: Path) -> None:
    """Who uses a file does not wait for psycopg, which is there all the same afterwards."""
    script = (
        "import sys; from voices_peewee.cli import cli\n"
        "cli(['--db', sys.argv[1], 'list-speakers'], standalone_mode=False)\n"
        "print('peewee' in sys.modules, 'psycopg' in sys.modules); import psycopg"
    )
    DatabaseManager(tmp_path / "v.db").initialize().close()
    command = [sys.executable, "-c", script, tmp_path / "v.db"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "True False")


def test_the_password_comes_from_the_environment(
    server: postgres_server.Server, url: str, tmp_path: Path
) -> None:
    """PGPASSWORD, ~/.pgpass and service files are libpq's, and are honoured."""
    service = f"[lab]\nhost={server.sockets}\nuser=voices\n"
    file = tmp_path / "services"
    file.write_text(service)
    name = url.partition("?")[0].rpartition("/")[2]
    script = (
        "import sys; from voices_peewee import DatabaseManager\n"
        "with DatabaseManager(sys.argv[1]) as db: print(db.path, db.status()['rows']['speakers'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, f"postgresql:///{name}?service=lab"],
        env={**os.environ, "PGSERVICEFILE": str(file)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == (f"postgresql:///{name}?service=lab 0\n", "")


def test_a_database_that_is_missing_on_the_server(server: postgres_server.Server) -> None:
    """A server without such a database: one sentence that says how to make one."""
    url = server.url("nowhere")
    with pytest.raises(errors.DatabaseError) as caught:
        DatabaseManager(url).initialize()
    assert str(caught.value) == (
        f"cannot use '{url}': the server has no such database; create it with 'createdb'"
    )


def test_another_applications_database_is_refused(server: postgres_server.Server) -> None:
    """A database that has tables, but not ours, is not touched."""
    name = server.create()
    server.execute("CREATE TABLE songs (id int)", name)
    for call in (DatabaseManager.connect, DatabaseManager.initialize):
        with pytest.raises(errors.NotVoicesError) as caught:
            call(DatabaseManager(server.url(name)))
        assert str(caught.value) == (
            f"cannot use '{server.url(name)}': it is a database of another application (songs)"
        )
    server.drop(name)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_utf8_is_refused(
    server: postgres_server.Server, encoding: str
) -> None:
    """A database that cannot hold every text is refused before anything is in it."""
    options = f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C' LOCALE_PROVIDER libc"
    server.execute(f"CREATE DATABASE narrow {options}")
    with pytest.raises(errors.DatabaseError) as caught:
        DatabaseManager(server.url("narrow")).initialize()
    assert str(caught.value) == (
        f"cannot use '{server.url('narrow')}': its encoding is {encoding}; make one with "
        "\"CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'\""
    )
    server.drop("narrow")


SETTINGS = {
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "German, DMY",
    "extra_float_digits": "0",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
}


def test_settings_of_the_database_change_nothing(
    server: postgres_server.Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts, times and numbers come back as they were, however sessions begin."""
    for name, value in SETTINGS.items():
        server.execute(f"ALTER DATABASE {Databases.name(url)} SET {name} = '{value}'")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    before = utc_now()
    with DatabaseManager(url) as db:
        ada = db.create_speaker("Ада\\", tags=["日本"])
        with db.track("/é.wav", "separation", speaker=ada) as work:
            work.log(si_snri=0.1 + 0.2)
        assert [one.tags for one in db.search("speakers", "ада\\")] == [["日本"]]
        (performance,) = db.get_all(ModelPerformance)
        assert performance.si_snri == 0.1 + 0.2
        assert before <= performance.processing_history.start_time <= utc_now()


def test_nothing_is_left_in_a_session_that_others_use_too(url: str) -> None:
    """Where a pooler is before the server, a session keeps no statement and no rows."""
    with DatabaseManager(url) as db:
        db.database.connection().prepare_threshold = None  # as where a pooler was seen
        db.add_many(Speaker, [{"name": str(number)} for number in range(3000)])
        page = db.list_rows("speakers", limit=None)
        some = db.query(Speaker).order_by(Speaker.id).iterator()
        assert next(some).name == "0"
        for number in range(10):
            assert db.get_by_id(Speaker, number + 1).name == str(number)
        kept = """SELECT name FROM pg_prepared_statements
            UNION ALL SELECT name FROM pg_cursors WHERE name <> ''"""  # '' is this question
        assert db.execute_raw_query(kept) == []
        assert len(list(page.rows)) == 3000


CHANGES = [
    (
        "ALTER TABLE speakers DROP COLUMN description CASCADE",
        ["table 'speakers' lacks column 'description' (TEXT NULL)"],
    ),
    (
        "ALTER TABLE speakers ADD COLUMN age int",
        ["table 'speakers' has column 'age' (INTEGER NULL), which the models lack"],
    ),
    (
        "ALTER TABLE processed_files DROP CONSTRAINT ck_processed_files_duration",
        [
            (
                "table 'processed_files' lacks CHECK 'ck_processed_files_duration' "
                "(duration BETWEEN 0 AND 1e12)"
            )
        ],
    ),
    (
        "ALTER TABLE processed_files DROP CONSTRAINT processed_files_speaker_id_fkey",
        [
            (
                "table 'processed_files' lacks foreign key 'speaker_id' "
                "(speakers (id) ON DELETE SET NULL ON UPDATE NO ACTION)"
            )
        ],
    ),
    (
        "DROP INDEX speakers_name",
        [
            (
                "table 'speakers' lacks index 'speakers_name' "
                '(CREATE INDEX "speakers_name" ON "speakers" ("name"))'
            )
        ],
    ),
    ("CREATE TABLE songs (id int)", []),
]


@pytest.mark.parametrize(("sql", "told"), CHANGES, ids=lambda one: str(one)[:30])
def test_drift_is_told(db: DatabaseManager, sql: str, told: list[str]) -> None:
    """Each difference of names is one sentence."""
    db.execute_raw_query(sql, write=True)
    assert [str(one) for one in drift(db.database, MODELS)] == told


SCHEMA = """SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
 FROM information_schema.columns JOIN pg_tables ON tablename = table_name
 WHERE table_schema = 'public' AND schemaname = 'public' AND table_name <> 'schema_migrations'
 UNION ALL SELECT relname, conname, pg_get_constraintdef(pg_constraint.oid), '', '', ''
 FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
 WHERE connamespace = 'public'::regnamespace AND relname <> 'schema_migrations'
 UNION ALL SELECT tablename, indexname, indexdef, '', '', '' FROM pg_indexes
 WHERE schemaname = 'public' AND tablename <> 'schema_migrations'"""


def test_the_migrations_make_the_models_schema(
    server: postgres_server.Server, url: str, db: DatabaseManager
) -> None:
    """What the migrations make is what the models say, to the last type, constraint and index."""
    name = server.create()
    made = open_server(server.url(name), 30.0)
    for model in MODELS:
        pw.SchemaManager(model, made).create_all()
    made.close_all()
    migrated = server.execute(SCHEMA, Databases.name(url))
    assert sorted(migrated, key=str) == sorted(server.execute(SCHEMA, name), key=str)
    server.drop(name)


def test_processes_that_migrate_at_once(server: postgres_server.Server) -> None:
    """Of eight programs that make one database, one does the work and the others wait."""
    name = server.create()
    script = (
        "import sys; from voices_peewee import DatabaseManager\n"
        "print(len(DatabaseManager(sys.argv[1]).run_migrations()))"
    )
    programs = [started(script, server.url(name)) for _ in range(8)]
    outputs = [one.communicate(timeout=120)[0] for one in programs]
    told = sorted(map(int, outputs))
    assert [count for count in told if count] == told[-1:]
    server.drop(name)


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program whose streams are pipes."""
    command, pipe = [sys.executable, "-c", script, *arguments], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


ADD = """
import sys
from voices_peewee import (DatabaseManager)
with DatabaseManager(sys.argv[1]) as db:
    sys.stdin.read()
    for number in range(40):
        with db.track(f"/mix/{number % 5}.wav", "separation"):
            pass
        db.add_tags("Ada", [f"{sys.argv[2]}-{number}"])
    try:
        db.create_speaker("Bob")
    except Exception as error:
        print(type(error).__name__)
"""


def test_what_is_read_to_be_changed_is_not_lost(url: str, db: DatabaseManager) -> None:
    """Processes that record the same sources and tag one speaker leave one row each, all tags."""
    db.create_speaker("Ada")
    programs = [started(ADD, url, str(number)) for number in range(4)]
    told = [one.communicate(timeout=120)[0] for one in programs]
    assert [one.returncode for one in programs] == [0] * 4
    assert sorted(told) == ["", *["DuplicateNameError\n"] * 3]
    assert len(db.get_speaker("Ada").tags) == 160
    paths = [file.original_path for file in db.get_all(ProcessedFile)]
    assert sorted(paths) == [f"/mix/{number}.wav" for number in range(5)]
    assert db.query(ProcessingHistory).count() == 160


ONE_PATH = """
import os, sys, warnings
from voices_peewee import DatabaseManager

warnings.simplefilter("ignore")
with DatabaseManager(sys.argv[1]) as db:
    for number in range(50):
        with db.track(f"/mix/{number}.wav", "separation", model_type=sys.argv[2]) as run:
            print(flush=True)
            sys.stdin.readline()
            run.output(f"/out/{number}.wav", si_snri=1.0)
"""


def test_an_output_of_many_at_once_is_one_stem(url: str, db: DatabaseManager) -> None:
    """Eight processes that write one path at the same moment, fifty times, share one stem's row."""
    writers = [started(ONE_PATH, url, str(number)) for number in range(8)]
    for _ in range(50):
        for one in writers:
            one.stdout.readline()
        for one in writers:
            one.stdin.write("\n")
            one.stdin.flush()
    for one in writers:
        one.communicate()
    assert [one.returncode for one in writers] == [0] * 8
    stems = db.query(ProcessedFile).where(ProcessedFile.processed_path.is_null(False)).all()
    assert len(stems) == len({stem.processed_path for stem in stems}) == 50
    assert db.query(ProcessedFile).count() == 100
    assert db.query(ProcessingHistory).filter_by(success=True).count() == 400


VOICES = """
import sys, warnings
from voices_peewee import DatabaseManager

warnings.simplefilter("ignore")
url, model = sys.argv[1:]
with DatabaseManager(url) as db:
    for number in range(60):
        with db.track(f"/mix/{number % 3}.wav", "x", model_type=model, speaker="Ada") as run:
            if number % 2:
                run.output(f"/out/{model}_{number}.wav", si_snri=1.0)
        if number % 4 == 0:
            db.delete_run(run.id)
"""


def test_jobs_on_one_recording_keep_each_others_rows(url: str, db: DatabaseManager) -> None:
    """Runs of one recording and speaker begin, find their first output and go beside each other."""
    db.create_speaker("Ada")
    jobs = [started(VOICES, url, str(number)) for number in range(6)]
    assert [one.communicate()[1] for one in jobs] == [""] * 6
    assert db.query(ProcessingHistory).count() == 6 * 45
    assert db.query(ProcessingHistory).filter_by(success=True).count() == 6 * 45
    assert db.query(ModelPerformance).count() == 6 * 45
    assert db.check() == []


def test_bulk_ids_do_not_collide(db: DatabaseManager) -> None:
    """Threads that add many at once get ids of their own, and explicit ids are stepped over."""

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: db.add_all(Speaker(name="x") for _ in range(20)), range(40)))
    assert db.query(Speaker).count() == 800
    db.add_many(Speaker, [{"id": 5000, "name": "far"}])
    assert db.create_speaker("next").id == 5001


def test_connections_end_with_their_threads(url: str, db: DatabaseManager) -> None:
    """Whoever starts a thread for each piece of work leaves no connection behind."""
    for _ in range(10):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(db.add, [Speaker(name="x"), Speaker(name="x")]))
    assert db.query(Speaker).count() == 20
    assert len(db.store.server.made) == 1


MISFIT = "a value does not fit its column ({})"
SENTENCES: list[tuple[Callable[[DatabaseManager], object], str]] = [
    (
        lambda db: db.create_speaker("a\0b"),
        MISFIT.format("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
    ),
    (
        lambda db: db.create_speaker("a", tags=["x\0"]),
        MISFIT.format("unsupported Unicode escape sequence"),
    ),
    (
        lambda db: db.create_speaker("a\ud800"),
        (
            "a text holds what UTF-8 cannot: 'utf-8' codec can't encode character '\\ud800' in "
            "position 1: surrogates not allowed"
        ),
    ),
    (
        lambda db: db.create_speaker("a", tags=["\ud800"]),
        MISFIT.format("invalid input syntax for type json"),
    ),
    (
        lambda db: db.create_speaker(os.urandom(10_000).hex()),
        MISFIT.format("index row requires 20016 bytes, maximum size is 8191"),
    ),
    (
        lambda db: db.add(ProcessedFile(filename="a", channels="two")),
        "channels must be a whole number, not 'two'",
    ),
    (
        lambda db: db.add(ProcessedFile(filename="a", file_size=1 << 70)),
        MISFIT.format("bigint out of range"),
    ),
]


@pytest.mark.parametrize(("act", "sentence"), SENTENCES)
def test_what_postgresql_cannot_store(
    db: DatabaseManager, act: Callable[[DatabaseManager], object], sentence: str
) -> None:
    """What has no room in PostgreSQL is refused in one sentence, and nothing is written."""
    with pytest.raises(errors.InvalidValueError) as caught:
        act(db)
    assert str(caught.value) == sentence
    assert db.status()["rows"] == dict.fromkeys((model._meta.table_name for model in RECORDED), 0)


def test_a_manager_goes_to_another_process_with_its_password(url: str) -> None:
    """A pickled manager connects where it is unpickled; what it shows has no password."""
    secret = url.replace("voices@", "voices:s3cret@")
    with DatabaseManager(secret) as db:
        copy = pickle.loads(pickle.dumps(db))  # noqa: S301 - our own
        assert "s3cret" not in repr(copy)
        assert copy.create_speaker("Ada").id == 1
        copy.close()


def test_a_lock_that_is_held_too_long_is_one_sentence(url: str, db: DatabaseManager) -> None:
    """Waiting for another session's lock ends with the timeout."""
    db.close()
    with psycopg.connect(url) as other, DatabaseManager(url, timeout=0.2) as waiting:
        other.execute("LOCK TABLE speakers")
        with pytest.raises(errors.DatabaseBusyError) as caught:
            waiting.create_speaker("Ada")
        assert str(caught.value) == (
            f"cannot use '{url}': another program held its lock for more than 0.2 s; "
            "end that program or raise the timeout"
        )
        other.rollback()


@pytest.fixture
def roles(server: postgres_server.Server, url: str) -> Iterator[None]:
    """The roles of docs/postgresql.md, in the database at ``url``."""
    text = Path(__file__).parents[2].joinpath("docs", "postgresql.md").read_text()
    (sql,) = (block for block in text.split("```") if "CREATE ROLE voices_reader" in block)
    people, groups = ("gpu01", "gpu02", "ada"), "voices_reader, voices_writer"
    for person in people:
        server.execute(f"CREATE ROLE {person} LOGIN")
    server.execute(sql.removeprefix("sql"), Databases.name(url))
    yield
    server.execute(f"DROP OWNED BY {groups}", Databases.name(url))
    server.execute(f"DROP ROLE {groups}, {', '.join(people)}")


DENIED = "ask for the role that may do this"


@pytest.mark.usefixtures("roles")
def test_a_reader_may_only_read(url: str) -> None:
    """A reader lists and asks, and is refused in one sentence when it writes."""
    reader = url.replace("voices@", "ada@")
    with DatabaseManager(reader) as db:
        assert db.get_all(Speaker) == []
        assert len(db.leaderboard()) == 0
        assert db.check() == []
        with pytest.raises(errors.DatabaseError) as caught:
            db.create_speaker("Ada")
        assert str(caught.value) == (
            f"cannot use '{reader}': permission denied for table speakers; {DENIED}"
        )


@pytest.mark.usefixtures("roles")
def test_a_writer_may_not_migrate(url: str) -> None:
    """A writer records, deletes and puts rows back, and leaves the tables to their owner."""
    writer = url.replace("voices@", "gpu01@")
    with DatabaseManager(writer) as db:
        ada = db.create_speaker("Ada")
        with db.track("/a.wav", "separation", speaker=ada) as work:
            work.output("/b.wav", si_snri=1.0)
        db.delete(ada)
        db.add_many(Speaker, [{"id": ada.id, "name": "Ada"}, {"id": 9, "name": "Bob"}])
        assert db.create_speaker("Eve").id == 10
        with pytest.raises(errors.DatabaseError) as caught:
            db.rollback_migration(backup=False)
        assert str(caught.value) == (
            f"cannot use '{writer}': permission denied for schema public; {DENIED}"
        )


@pytest.mark.usefixtures("roles")
def test_a_writer_imports(url: str, tmp_path: Path) -> None:
    """A writer imports into a record that is empty, and into one that has rows: ids are new."""
    writer = url.replace("voices@", "gpu01@")
    with DatabaseManager(tmp_path / "v.db").initialize() as db:
        for number in range(3):
            with db.track(f"/{number}.wav", "separation") as work:
                work.output(f"/out/{number}.wav", si_snri=1.0)
        db.export(tmp_path / "all.jsonl")
    with DatabaseManager(writer) as db:
        assert db.import_records(tmp_path / "all.jsonl").conflicts == []
        assert db.import_records(tmp_path / "all.jsonl").changed == 0
        with db.track("/0.wav", "separation") as work:
            work.output("/more.wav", si_snri=1.0)
        assert db.status()["rows"]["processing_history"] == 4


IMPORT = """
import sys
from voices_peewee import DatabaseManager
with DatabaseManager(sys.argv[1]) as db:
    for number in range(10):
        rows = [{"name": f"{sys.argv[2]}-{number}-{one}"} for one in range(20)]
        rows += [{"filename": one["name"], "original_path": "/" + one["name"]} for one in rows]
        rows.append({"filename": "both", "original_path": f"/both/{number}.wav"})
        db.import_records(rows)
"""


def test_imports_beside_writers(url: str, db: DatabaseManager) -> None:
    """Two importers and two that record runs fail nobody, and double nothing."""
    db.create_speaker("Ada")
    programs = [
        started(text, url, name)
        for text, name in ((IMPORT, "a"), (IMPORT, "b"), (ADD, "c"), (ADD, "d"))
    ]
    assert [one.communicate(timeout=120)[1] for one in programs] == [""] * 4
    rows = db.status()["rows"]
    assert rows["speakers"] == 1 + 400 + 1
    assert rows["processed_files"] == 400 + 10 + 5
    assert rows["processing_history"] == 80


NIGHT = """
import sys
from voices_peewee import DatabaseManager
with DatabaseManager(sys.argv[1]) as db:
    for number in range(200):
        with db.track(f"/new/{number}.wav", "separation"):
            pass
        print(number, flush=True)
"""


def test_an_import_of_what_a_worker_records_at_this_moment(url: str, db: DatabaseManager) -> None:
    """A colleague's record of the same new recordings comes amid a night: each has one row."""
    rows = [
        {"filename": f"{one}.wav", "original_path": f"/new/{one}.wav"} for one in range(200, -1, -1)
    ]
    night = started(NIGHT, url)
    assert night.stdout is not None
    while night.stdout.readline() != "10\n":
        pass
    db.import_records(rows)
    assert night.communicate(timeout=120)[1] == ""
    assert db.status()["rows"]["processed_files"] == len(rows)


def test_a_schema_of_any_name(server: postgres_server.Server, url: str) -> None:
    """A record in a schema whose name needs quotes is checked, rolled back and applied again."""
    server.execute('CREATE SCHEMA "Lab-3"', url.partition("?")[0].rpartition("/")[2])
    with DatabaseManager(f"{url}&options=-csearch_path%3D%22Lab-3%22").initialize() as db:
        db.create_speaker("Ada")
        assert [found for found in db.check() if found.kind != "note"] == []
        assert db.rollback_migration(backup=False)
        assert db.run_migrations(backup=False)
        assert db.status()["rows"]["speakers"] == 1


def test_sqlite_and_a_server_in_turns(url: str, tmp_path: Path) -> None:
    """One process may use a file, then a server, then a file; statements fit each of them."""
    path = str(tmp_path / "v.db")
    for place in (path, url, path, url):
        with DatabaseManager(place).initialize() as db:
            db.add(
                ProcessedFile(filename="a", duration=3.0, speaker=Speaker(name="Ada", tags=["x"]))
            )
            with db.track("/a.wav", "separation") as run:
                run.log(si_snri=1.0)
            assert db.get_by_id(Speaker, 1).tags == ["x"]
            assert len(db.leaderboard()) == 1
            newest = db.list_rows("files", columns=["filename"], sort="-duration", limit=1)
            assert list(newest) == [("a",)]  # a server would put what has none before it


HELD = "SELECT count(*) AS n FROM pg_cursors WHERE name LIKE 'voices%'"


def test_a_stream_that_is_dropped_leaves_nothing_on_the_server(db: DatabaseManager) -> None:
    """A long list that is read in part is closed when its connection is next used."""
    db.add_many(Speaker, [{"name": str(number)} for number in range(3000)])
    page = db.list_rows("speakers", limit=None)
    assert next(page.rows)
    assert db.execute_raw_query(HELD) == [{"n": 1}]
    del page
    assert db.execute_raw_query(HELD) == [{"n": 0}]
    assert len(list(db.list_rows("speakers", limit=None))) == 3000


def sent(db: DatabaseManager, act: Callable[[], object], folder: Path) -> list[bytes]:
    """Return what an act sends to the server, as libpq's own trace names it."""
    link = db.store.connection().pgconn
    with (folder / "trace").open("w+b") as file:
        link.trace(file.fileno())
        link.set_trace_flags(psycopg.pq.Trace.SUPPRESS_TIMESTAMPS)
        act()
        link.untrace()
        file.seek(0)
        return [line.split(b"\t")[2].strip() for line in file if line.startswith(b"F\t")]


def round_trips(told: list[bytes]) -> int:
    """Return how often somebody waits for the server."""
    # psycopg sends a Flush right behind a Sync: that is no further wait.
    flushes = [one for before, one in pairwise(told) if one == b"Flush" and before != b"Sync"]
    return told.count(b"Sync") + told.count(b"Query") + len(flushes)


def record(db: DatabaseManager, source: str) -> None:
    with db.track(source, "separation", model_type="demucs") as work:
        work.output(f"/out{source}", si_snri=1.0)


RUNS = [
    {"source": f"/mix/{number}.wav", "operation_type": "separation", "start_time": utc_now()}
    for number in range(100)
]
# How often an act waits, and of a run how many statements it sends.
COSTS: dict[str, tuple[Callable[[DatabaseManager], object], int, int | None]] = {
    "a record by its id": (lambda db: db.get_by_id(Speaker, 1), 1, None),
    "a new record": (lambda db: db.add(Speaker(name="Bob")), 1, None),
    "a run of a known recording": (lambda db: record(db, "/mix/1.wav"), 5, 5),
    "a run of a new recording": (lambda db: record(db, "/mix/new.wav"), 6, 7),
    "a hundred runs": (lambda db: db.record_runs(RUNS), 9, None),
    "history": (lambda db: list(db.history("/mix/1.wav")), 3, None),
    "failures": (lambda db: db.failures(), 1, None),
    "pending": (lambda db: list(db.pending(["/mix/1.wav"] * 500, "separation")), 2, None),
    "export": (lambda db: db.export(io.BytesIO()), 12, None),
}


@pytest.mark.parametrize(("act", "waits", "statements"), COSTS.values(), ids=COSTS)
def test_a_server_is_asked_seldom(
    db: DatabaseManager,
    tmp_path: Path,
    act: Callable[[DatabaseManager], object],
    waits: int,
    statements: int | None,
) -> None:
    """What an act costs does not grow with the rows; begin, output and end are one statement."""
    db.create_speaker("Ada")
    db.record_runs(RUNS)
    with db.track("/mix/0.wav", "separation"):  # a process asks once for its environment
        pass
    told = sent(db, lambda: act(db), tmp_path)
    assert round_trips(told) == waits
    asked = sum(one.startswith((b"Execute", b"Query")) for one in told)
    assert statements in (None, asked)


@pytest.mark.parametrize(("good", "refused"), [(0, 2), (0, 4), (1, 2), (2, 3), (4, 4)])
def test_refused_ends_leave_a_connection_that_works(url: str, good: int, refused: int) -> None:
    """However many ends were refused, the next runs of the thread are recorded as ever."""
    with DatabaseManager(url, timeout=0.3) as db, psycopg.connect(url) as other:
        for number in range(good):
            record(db, f"/good/{number}.wav")
        for number in range(refused):
            tracker = db.track(f"/refused/{number}.wav", "separation")
            with pytest.warns(SpoolWarning), tracker:
                other.execute("LOCK TABLE model_performance")
            other.rollback()
        for number in range(6):
            record(db, f"/after/{number}.wav")
        assert db.status()["unfinished"] == refused


LEFT = {
    "an answer": lambda link: link.send_query(b"SELECT 1"),
    "a pipeline": lambda link: link.enter_pipeline_mode(),
    "a pipeline and what was sent": lambda link: (
        link.enter_pipeline_mode(),
        link.send_query_params(b"SELECT 1", None),
    ),
}


@pytest.mark.parametrize("leave", LEFT.values(), ids=LEFT)
def test_what_an_interrupt_leaves_in_the_driver_is_dropped(
    db: DatabaseManager, leave: Callable[[Any], object]
) -> None:
    """A connection that Ctrl-C left in the middle of an answer is replaced at its next use."""
    record(db, "/1.wav")
    for act in (lambda: record(db, "/2.wav"), lambda: db.create_speaker("Ada"), db.leaderboard):
        leave(db.store.connection().pgconn)
        act()
    leave(db.store.connection().pgconn)
    with db.atomic():
        db.create_speaker("Bob")
    assert db.status()["unfinished"] == 0
    assert [one.name for one in db.get_all(Speaker)] == ["Ada", "Bob"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_anywhere_in_a_run_leaves_a_connection_that_works(
    db: DatabaseManager,
) -> None:
    """Wherever Ctrl-C strikes in a run, the next one of the thread is recorded."""
    record(db, "/first.wav")
    place, is_struck = 1, True
    while is_struck:
        path = f"/struck/{place}.wav"
        is_struck = interrupted_at(place, lambda path=path: record(db, path))
        record(db, f"/{place}.wav")
        place += 7


LOCKS = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory'"


@pytest.mark.parametrize(
    ("sql", "values"),
    [("SELECT ?::int", [1]), ("SELECT %s::int", [1]), ("SELECT %(a)s::int", {"a": 1})],
)
def test_values_as_any_driver_names_them(db: DatabaseManager, sql: str, values: Any) -> None:
    """A statement may have SQLite's question marks or what psycopg reads."""
    assert db.database.execute_sql(sql, values).fetchall() == [(1,)]


def test_a_query_does_not_end_at_a_nul(db: DatabaseManager) -> None:
    """The server would see what stands before it, and do that."""
    db.create_speaker("Ada")
    for write in (False, True):
        with pytest.raises(errors.QueryError) as caught:
            db.execute_raw_query("SELECT name FROM speakers\0 WHERE id = 5", write=write)
        assert str(caught.value) == "the query contains a null character"


def test_a_raw_query_leaves_no_lock(db: DatabaseManager) -> None:
    """What a SELECT locks for its session is let go, also inside a transaction and after errors."""
    for _ in range(7):
        db.execute_raw_query("SELECT CAST(pg_advisory_lock(77) AS text)")
    with pytest.raises(errors.VoicesError):
        db.execute_raw_query("SELECT 1 / CAST(pg_advisory_lock(78) IS NULL AS integer)")
    with db.atomic():
        db.create_speaker("Ada")
        db.execute_raw_query("SELECT CAST(pg_advisory_lock(79) AS text)")
    assert db.execute_raw_query(LOCKS) == [{"n": 0}]
    assert [one.name for one in db.get_all(Speaker)] == ["Ada"]


def test_migrations_go_forth_and_back(server: postgres_server.Server) -> None:
    """Every migration is undone and applied again, and the schema is the models' afterwards."""
    name = server.create()
    with DatabaseManager(server.url(name)).initialize() as db:
        db.create_speaker("Ada")
        names = [one.name for one in db.migration_status()]
        assert db.rollback_migration(steps=len(names), backup=False) == names[::-1]
        assert db.run_migrations() == names
        assert [one.state for one in db.migration_status()] == ["applied"] * len(names)
        assert drift(db.database, MODELS) == []
        assert db.get_all(Speaker) == []
    server.drop(name)


def test_ids_beyond_32_bits(url: str, db: DatabaseManager, tmp_path: Path) -> None:
    """Ids go on above two thousand million: runs, claims, questions, exports and imports."""
    for model in MODELS:
        table = model._meta.table_name
        db.execute_raw_query(f"SELECT setval('{table}_id_seq', 2147483647)", write=True)
    ada = db.create_speaker("Ada")
    for source in db.pending(["/mix/1.wav"], "separation", model_type="demucs", claim=True):
        with db.track(source, "separation", model_type="demucs") as work:
            work.output("/out/1.wav", si_snri=1.0, speaker=ada)
    ids = [db.query(model).first().id for model in RECORDED[:5]]
    assert min(ids) >= 2**31
    assert db.get_by_id(Speaker, ada.id) == ada
    assert list(db.pending(["/mix/1.wav"], "separation", model_type="demucs")) == []
    assert db.leaderboard()[0].n == 1
    db.export(tmp_path / "all.jsonl")
    db.close()
    with DatabaseManager(tmp_path / "copy.db").initialize() as copy:
        copy.import_records(tmp_path / "all.jsonl")
        assert copy.get_by_id(Speaker, ada.id).name == "Ada"


def test_a_record_with_ids_of_32_bits_gets_wider_ones(
    server: postgres_server.Server, tmp_path: Path
) -> None:
    """An upgrade widens the ids of older records; somebody's view of them is named and kept."""
    for file in package_directory().glob("00[12]_*.py"):
        text = file.read_text("utf-8").replace("BigAutoField", "AutoField")
        (tmp_path / file.name).write_text(text, "utf-8")
    name = server.create()
    older = open_server(server.url(name), 30.0)
    migrations.upgrade(older, [tmp_path])
    older.close_all()
    server.execute("CREATE VIEW mine AS SELECT id FROM speakers", name)
    manager = DatabaseManager(server.url(name))
    with pytest.raises(errors.MigrationError) as caught:
        manager.run_migrations(backup=False)
    assert str(caught.value) == (
        "migration '003_recordings' failed: cannot alter type of a column used by a view or rule\n"
        'DETAIL:  rule _RETURN on view mine depends on column "id"; the database is as it was'
    )
    server.execute("DROP VIEW mine", name)
    manager.run_migrations(backup=False)
    assert drift(manager.database, MODELS) == []
    (last,) = server.execute(
        "SELECT max_value FROM pg_sequences WHERE sequencename ~ '^spea'", name
    )
    assert last == (2**63 - 1,)
    manager.close()
    server.drop(name)


FAILING = """
def migrate(migrator, database, *, fake=False):
    migrator.sql("ALTER TABLE speakers ADD COLUMN age INTEGER")
    migrator.sql("INSERT INTO nowhere VALUES (1)")
"""
GOOD = """
import peewee as pw

def migrate(migrator, database, *, fake=False):
    migrator.add_fields("speakers", age=pw.IntegerField(null=True))

def rollback(migrator, database, *, fake=False):
    migrator.remove_fields("speakers", "age")
"""


def test_an_applications_migrations(url: str, tmp_path: Path) -> None:
    """A migration that fails leaves everything as it was; one that works keeps the rows."""
    own = tmp_path / "migrations"
    own.mkdir()
    (own / "001_age.py").write_text(FAILING)
    with DatabaseManager(url) as db:
        db.create_speaker("Ada")
    with pytest.raises(errors.MigrationError) as caught:
        DatabaseManager(url, migrations_dir=own).run_migrations(backup=False)
    assert str(caught.value) == (
        "migration '001_age' failed: relation \"nowhere\" does not exist\n"
        "LINE 1: INSERT INTO nowhere VALUES (1)\n                    ^; the database is as it was"
    )
    (own / "001_age.py").write_text(GOOD)
    manager = DatabaseManager(url, migrations_dir=own)
    assert manager.run_migrations(backup=False) == ["001_age"]
    assert "age" in manager.get_table_columns("speakers")
    assert [one.name for one in manager.get_all(Speaker)] == ["Ada"]
    assert manager.rollback_migration(backup=False) == ["001_age"]
    with DatabaseManager(url) as db:
        assert "age" not in db.get_table_columns("speakers")


def test_a_record_moves_both_ways(url: str, tmp_path: Path) -> None:
    """Export and import by a pipe take a record from a file to a server and back, to the byte."""
    first, last = str(tmp_path / "first.db"), str(tmp_path / "last.db")
    with DatabaseManager(first).initialize() as db:
        ada = db.create_speaker("Ada", tags=["é", "b"])
        with db.track("/mix.wav", "separation", speaker=ada, parameters={"a": [1.5, None]}) as work:
            work.output("/out.wav", si_snri=0.1 + 0.2, pesq=2.0)
    with DatabaseManager(last).initialize():
        pass
    for source, target in ((first, url), (url, last)):
        command = [sys.executable, "-m", "voices_peewee", "--db"]
        with subprocess.Popen([*command, source, "export"], stdout=subprocess.PIPE) as export:
            done = subprocess.run(
                [*command, target, "import", "-"],
                stdin=export.stdout,
                capture_output=True,
                text=True,
            )
        assert (export.returncode, done.returncode, done.stdout) == (0, 0, "")
    texts = [
        [
            sorted(json.loads(line).items(), key=str)
            for line in run("--db", one, "export").out.splitlines()
        ]
        for one in (first, last)
    ]
    assert texts[0] == texts[1]
