"""A run whose end a server does not take: it is kept, seen, added and forgotten."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli_tools import run
from support.databases import Databases

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    errors,
)
from voices_peewee.runs.spool import SpoolWarning

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)
postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
pytestmark = [pytest.mark.postgresql, pytest.mark.once]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".voices" / "spool"


Refusal = Callable[[postgres_server.Server, str], object]
READ_ONLY = "ALTER DATABASE {} SET default_transaction_read_only = on"
WRITABLE = "ALTER DATABASE {} RESET default_transaction_read_only"
HANG_UP = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = '{}' AND pid <> pg_backend_pid()"""


def read_only(server: postgres_server.Server, name: str) -> None:
    server.execute(READ_ONLY.format(name))
    server.execute(HANG_UP.format(name))


def locked(server: postgres_server.Server, name: str) -> object:
    other = psycopg.connect(server.url(name))
    other.execute("LOCK TABLE processing_history")
    return other


def revoked(server: postgres_server.Server, name: str) -> None:
    server.execute("REVOKE UPDATE ON processing_history FROM gpu", name)


def cut_short(server: postgres_server.Server, name: str) -> object:
    server.execute(f"ALTER DATABASE {name} SET statement_timeout = 100")
    server.execute(HANG_UP.format(name))
    return locked(server, name)


def locked_out(server: postgres_server.Server, name: str) -> None:
    server.execute(f"REVOKE CONNECT ON DATABASE {name} FROM public")
    server.execute(HANG_UP.format(name))


REFUSALS = {
    "read-only": (
        read_only,
        "in a read-only transaction; of a standby and its primary name both: ",
    ),
    "locked": (locked, "another program held its lock for more than 0.5 s"),
    "revoked": (revoked, "permission denied for table processing_history"),
    "cut short": (cut_short, "canceling statement due to statement timeout"),
    "locked out": (locked_out, "permission denied for database"),
}


@pytest.fixture
def gpu(server: postgres_server.Server, url: str) -> Iterator[str]:
    """The URL for a role that may write."""
    name = Databases.name(url)
    server.execute("CREATE ROLE gpu LOGIN")
    server.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO gpu;"
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO gpu",
        name,
    )
    yield url.replace("voices@", "gpu@")
    server.execute(HANG_UP.format(name))
    server.execute("DROP OWNED BY gpu", name)
    server.execute("DROP ROLE gpu")


@pytest.mark.parametrize(("refuse", "words"), REFUSALS.values(), ids=REFUSALS)
def test_an_end_that_the_server_refuses_is_kept(
    server: postgres_server.Server, url: str, gpu: str, spool: Path, refuse: Refusal, words: str
) -> None:
    """A block whose work succeeded ends well, whatever the server says; import adds its run."""
    with DatabaseManager(gpu, timeout=0.5) as db:
        tracker = db.track("/in.wav", "separation", model_type="demucs")
        with pytest.warns(SpoolWarning) as warned, tracker as work:  # noqa: PT031 - the block is the test
            work.output("/out.wav", si_snri=1.5)
            other = refuse(server, Databases.name(url))
    if other is not None:
        other.close()
    (path,) = spool.iterdir()
    (told,) = (str(one.message) for one in warned)
    assert words in told
    assert told.endswith(f"; the run is kept in '{path}': 'voices import' adds it")
    server.execute(WRITABLE.format(Databases.name(url)))
    with DatabaseManager(url) as db:
        assert db.status()["unfinished"] == 1
        db.import_records(spool)
        (row,) = db.query(ProcessingHistory).all()
        assert (row.status, row.model_performance.si_snri) == ("success", 1.5)
        assert row.model_performance.processing_time is not None
    assert list(spool.iterdir()) == []


def test_an_end_that_is_refused_for_a_moment_is_written(
    server: postgres_server.Server, url: str, spool: Path
) -> None:
    """A record that may only be read during a switchover takes the end when that is over."""
    name = Databases.name(url)
    later = threading.Timer(1.0, lambda: server.execute(WRITABLE.format(name)))
    with DatabaseManager(url, timeout=20) as db:
        with db.track("/in.wav", "separation") as work:
            work.output("/out.wav", si_snri=1.5)
            read_only(server, name)
            later.start()
        later.join()
        assert [one.status for one in db.query(ProcessingHistory).all()] == ["success"]
    assert not spool.exists()


def test_an_end_that_does_not_fit_ends_the_run(
    server: postgres_server.Server, url: str, spool: Path
) -> None:
    """Where a rule of the record refuses what was logged, the run ends without it; it is kept."""
    rule = "ALTER TABLE model_performance ADD CONSTRAINT low CHECK (si_snri < 5)"
    server.execute(rule, Databases.name(url))
    with DatabaseManager(url, timeout=0.5) as db:
        tracker = db.track("/in.wav", "separation")
        with pytest.warns(SpoolWarning) as warned, tracker as work:
            work.log(si_snri=9)
        (row,) = db.query(ProcessingHistory).all()
        assert (row.status, row.model_performance.si_snri) == ("success", None)
        with db.track("/in.wav", "separation") as work:
            work.log(si_snri=1)
    (path,) = spool.iterdir()
    assert str(warned[0].message).endswith(
        f"; the run is kept in '{path}': 'voices import' adds it"
    )
    assert '"si_snri":9.0' in path.read_text().replace(" ", "")


def lose(db: DatabaseManager, server: postgres_server.Server, count: int) -> None:
    """End runs that the server does not take."""
    for number in range(count):
        tracker = db.track(f"/{number}.wav", "separation")
        with pytest.warns(SpoolWarning), tracker as work:  # noqa: PT031 - the block is the test
            work.log(si_snri=1.5)
            other = locked(server, Databases.name(db.path))
        other.close()


def test_where_no_file_can_be_the_warning_has_the_run(
    server: postgres_server.Server, url: str, spool: Path
) -> None:
    """A full disk or a home without rights loses nothing: the warning's lines are an import."""
    spool.parent.parent.mkdir()
    spool.parent.touch()  # where the folder should be
    with DatabaseManager(url, timeout=0.3) as db:
        tracker = db.track("/in.wav", "separation")
        with pytest.warns(SpoolWarning) as warned, tracker as work:  # noqa: PT031 - the block is the test
            work.log(si_snri=1.5)
            other = locked(server, Databases.name(url))
        other.close()
        said, _, lines = str(warned[0].message).partition("\n")
        assert said.endswith("; 'voices import -' adds the run from these lines:")
        db.import_records(io.BytesIO(lines.encode()))
        (row,) = db.query(ProcessingHistory).all()
        assert (row.status, row.model_performance.si_snri) == ("success", 1.5)


def test_kept_runs_are_seen_taken_and_removed(
    server: postgres_server.Server, url: str, spool: Path
) -> None:
    """Status and check tell of kept runs; an import of the folder adds and removes them."""
    with DatabaseManager(url, timeout=0.3) as db:
        lose(db, server, 2)
        (spool / "begun.part").touch()  # another process writes it just now
        assert db.status()["spooled"] == 2
    done = run("--db", url, "check")
    assert (done.code, done.out) == (
        0,
        (
            f"note: runs that a server did not take are kept in '{spool}': 2\n"
            f"    add them with 'voices import {spool}'\n"
        ),
    )
    assert "spooled             2\n" in run("--db", url, "status").out
    assert run("--db", url, "import", spool, "--dry-run").code == 0
    assert len(list(spool.glob("*.jsonl"))) == 2
    done = run("--db", url, "import", spool)
    assert done.code == 0
    assert done.err.startswith(
        "note: kept runs that are in the record now, their files removed: 2\n"
    )
    assert [one.name for one in spool.iterdir()] == ["begun.part"]
    assert run("--db", url, "import", spool).err == "nothing to import\n"
    with DatabaseManager(url) as db:
        assert (db.status()["spooled"], db.status()["unfinished"]) == (0, 0)


def test_what_was_told_after_an_output_comes_with_a_kept_run(
    server: postgres_server.Server, url: str, spool: Path
) -> None:
    """Metrics that were logged after an output was written are no conflict with those it had."""
    with DatabaseManager(url, timeout=0.3) as db:
        tracker = db.track("/in.wav", "separation")
        with pytest.warns(SpoolWarning), tracker as work:  # noqa: PT031 - the block is the test
            work.output("/out.wav", pesq=2.5)
            with work.timing():
                work.log(loss=0.5)
            other = locked(server, Databases.name(url))
        other.close()
        assert db.import_records(spool).conflicts == []
        (row,) = db.query(ModelPerformance).all()
        kept = {"pesq": 2.5, "loss": 0.5, "run": ["loss"], "timed": True}
        assert {name: row.additional_metrics[name] for name in kept} == kept
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("is_kept", [False, True], ids=["written", "kept"])
def test_of_an_output_that_is_told_twice_the_later_counts(
    server: postgres_server.Server, url: str, spool: Path, *, is_kept: bool
) -> None:
    """An output that a server was not there for is one, and older than what is told of it next."""
    with DatabaseManager(url, timeout=0.3) as db, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ada, bob = db.add_all([Speaker(name="Ada"), Speaker(name="Bob")])
        with db.track("/in.wav", "separation") as work:
            other = locked(server, Databases.name(url))
            work.output("/out.wav", speaker=ada, si_snri=1.0, pesq=2.0)
            if is_kept:
                work.output("/out.wav", speaker=bob)
            other.close()
            work.output("/out.wav", **({} if is_kept else {"speaker": bob}), si_snri=3.0)
            if is_kept:
                other = locked(server, Databases.name(url))
                work.output("/out.wav", si_snri=4.0)
        other.close()
        if is_kept:
            assert db.import_records(spool).conflicts == []
        (row,) = db.query(ProcessingHistory).all()
        told = row.model_performance
        assert (row.processed_file.speaker.name, row.status) == ("Bob", "success")
        assert (told.si_snri, told.additional_metrics["pesq"]) == (3.0 + is_kept, 2.0)


def locked_whole(url: str) -> psycopg.Connection:
    other = psycopg.connect(url)
    other.execute("LOCK TABLE speakers, processing_history")
    return other


def test_an_output_of_a_named_speaker_waits_for_the_server(url: str, spool: Path) -> None:
    """A block goes on where nobody can be asked for a speaker; the name is looked up later."""
    with DatabaseManager(url, timeout=0.3) as db, warnings.catch_warnings():
        warnings.simplefilter("ignore", SpoolWarning)
        ada = db.add(Speaker(name="Ada"))
        with db.track("/in.wav", "separation") as work:
            other = locked_whole(url)
            outputs = [work.output(f"/{key}.wav", speaker=key) for key in ("Ada", ada.id)]
            assert [file.speaker_id for file in outputs] == [None, None]
            other.close()
        files = db.query(ProcessedFile).filter_by(speaker_id=ada.id).all()
        assert {file.processed_path for file in files} == {"/Ada.wav", f"/{ada.id}.wav"}
        warnings.simplefilter("always")
        tracker = db.track("/in.wav", "separation")
        with pytest.warns(SpoolWarning) as warned, tracker as work:  # noqa: PT031 - the block is the test
            other = locked_whole(url)
            work.output("/late.wav", speaker="Ada")
        other.close()
        (path,) = spool.iterdir()
        told = f"; the run is kept in '{path}': 'voices import' adds it"
        assert str(warned[-1].message).endswith(f"{told}; of the speakers Ada with the names alone")
        db.import_records(spool)
        assert db.query(ProcessedFile).all()[-1].metadata == {"speaker": "Ada"}


def test_kept_runs_of_another_record_are_left(
    server: postgres_server.Server, migrated: str, url: str, spool: Path, tmp_path: Path
) -> None:
    """Runs that one server did not take are no other record's: they are left, and that is said."""
    other = server.url(server.create(migrated))
    with DatabaseManager(url, timeout=0.3) as db:
        lose(db, server, 2)
    with DatabaseManager(other, timeout=0.3) as db:
        lose(db, server, 1)
        assert db.status()["spooled"] == 1
    place = f"{server.sockets}:5432/{Databases.name(url)}"
    one = f"note: kept runs that are left, of {place}: 2\n"
    file = tmp_path / "other.db"
    assert run("--db", file, "init").code == 0
    two = f"note: kept runs that are left, of {server.sockets}:5432/{Databases.name(other)}: 1\n"
    done = run("--db", file, "import", spool)
    assert (done.code, done.err) == (0, "".join(sorted([one, two])) + "nothing to import\n")
    done = run("--db", other, "import", spool)
    assert done.err.startswith(one + "note: kept runs that are in the record now, ")
    assert "kept" not in run("--db", other, "check").out
    assert len(list(spool.glob("*.jsonl"))) == 2
    assert run("--db", url, "import", spool).code == 0
    assert list(spool.glob("*.jsonl")) == []
    with DatabaseManager(url) as db:
        assert db.status()["unfinished"] == 0
    server.drop(Databases.name(other))


def test_a_kept_run_that_ours_contradicts_stays(
    server: postgres_server.Server, url: str, spool: Path
) -> None:
    """Where the record says otherwise, ours is kept, and so is the file."""
    with DatabaseManager(url, timeout=0.3) as db:
        lose(db, server, 1)
        ended = "UPDATE processing_history SET end_time = start_time, error_message = 'by hand'"
        db.execute_raw_query(ended, write=True)
        done = db.import_records(spool)
        assert len(done.conflicts) > 0
    assert len(list(spool.iterdir())) == 1


def test_another_folder_is_no_input(url: str, tmp_path: Path) -> None:
    """Only the folder of kept runs can be imported as a whole."""
    with DatabaseManager(url) as db, pytest.raises(errors.InputError) as caught:
        db.import_records(tmp_path)
    assert str(caught.value) == (
        f"cannot import '{tmp_path}': it is no file; name files, or use '-' for a pipe"
    )
