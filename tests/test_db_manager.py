"""``DatabaseManager``: opening, binding, records and the original interface."""

from __future__ import annotations

import pickle
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import peewee as pw
import pytest

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    errors,
)
from voices_peewee.schema.models import database_proxy


def test_original_interface_runs_as_written(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Code for the SQLAlchemy module runs with only the import changed."""
    monkeypatch.setenv("VOICES_DB", str(path))
    speaker = Speaker(name="John Doe", description="Male speaker")

    db_manager = DatabaseManager()
    db_manager.initialize()
    db_manager.connect()
    db_manager.add(speaker)
    speakers = db_manager.get_all(Speaker)
    speaker = db_manager.get_by_id(Speaker, 1)
    db_manager.add_all([ProcessedFile(filename="a.wav", speaker_id=1), ProcessedFile(filename="b")])
    files = db_manager.session.query(ProcessedFile).filter_by(speaker_id=1).all()
    db_manager.update(speaker)
    rows = db_manager.execute_raw_query("SELECT name FROM speakers WHERE id = :id", {"id": 1})
    db_manager.close_session()
    exists = db_manager.table_exists("speakers"), db_manager.table_exists("strangers")
    columns = db_manager.get_table_columns("speakers")
    db_manager.delete(speaker)
    gone = db_manager.get_by_id(Speaker, 1)
    db_manager.close()

    assert [one.name for one in speakers] == ["John Doe"]
    assert [file.filename for file in files] == ["a.wav"]
    assert rows == [{"name": "John Doe"}]
    assert exists == (True, False)
    assert columns == ["id", "name", "description", "tags", "created_at", "updated_at"]
    assert gone is None


def test_create_tables_and_run_migrations_connect_by_themselves(path: Path) -> None:
    """Either of the two makes a usable database, and the second call finds nothing to do."""
    manager = DatabaseManager(path)
    applied = manager.run_migrations()
    assert applied[0] == "001_initial"
    assert manager.create_tables().run_migrations() == []
    assert manager.get_all(Speaker) == []
    manager.close()


def test_default_path_is_in_an_owner_only_folder(tmp_path: Path) -> None:
    """Without a path and without $VOICES_DB the database is ~/.voices/voices.db, for its owner."""
    with DatabaseManager().initialize() as db:
        home = tmp_path / "home" / ".voices"
        assert db.path == str(home / "voices.db")
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "voices.db").stat().st_mode) == 0o600


def test_relations_lead_both_ways(db: DatabaseManager) -> None:
    """Every relation has its specified name in both directions."""
    ada = db.create_speaker("Ada")
    file = db.add(ProcessedFile(filename="a.wav", speaker=ada))
    run = db.add(ProcessingHistory(processed_file=file, operation_type="voice_separation"))
    assert run.model_performance is None
    measured = db.add(ModelPerformance(processing_history=run, si_snri=12.5))

    assert list(ada.processed_files) == [file]
    assert file.speaker == ada
    assert list(file.processing_history) == [run]
    assert run.processed_file == file
    assert run.model_performance == measured
    assert measured.processing_history == run


def test_deleting_a_speaker_keeps_the_files(db: DatabaseManager) -> None:
    """A speaker's files stay, without a speaker."""
    file = db.add(ProcessedFile(filename="a.wav", speaker=Speaker(name="Ada")))
    db.delete_speaker("Ada")
    kept = db.get_by_id(ProcessedFile, file.id)
    assert kept is not None
    assert kept.speaker is None


def test_deleting_a_file_takes_its_runs_and_measurements_along(db: DatabaseManager) -> None:
    """A file's history and performance go with it."""
    file = db.add(ProcessedFile(filename="a.wav"))
    run = db.add(ProcessingHistory(processed_file=file, operation_type="x"))
    db.add(ModelPerformance(processing_history=run))
    db.delete(file)
    assert (db.get_all(ProcessingHistory), db.get_all(ModelPerformance)) == ([], [])


def test_add_writes_unsaved_relations_too(db: DatabaseManager) -> None:
    """A new record may refer to records that are new themselves, or saved in the meantime."""
    ada = Speaker(name="Ada")
    run = ProcessingHistory(
        processed_file=ProcessedFile(filename="a.wav", speaker=ada), operation_type="x"
    )
    db.add(run)
    bob = Speaker(name="Bob")
    later = ProcessedFile(filename="b.wav", speaker=bob)
    db.add(bob)
    db.add(later)
    found = db.get_by_id(ProcessingHistory, run.id)
    assert found is not None
    assert found.processed_file.speaker == ada
    assert later.speaker_id == bob.id


def test_add_all_is_all_or_nothing(db: DatabaseManager) -> None:
    """One bad record of a batch leaves none of it behind."""
    batch = [Speaker(name="Ada"), Speaker(name=" ")]
    with pytest.raises(errors.InvalidValueError, match=r"^a speaker needs a name$"):
        db.add_all(batch)
    assert db.get_all(Speaker) == []


def test_add_all_gives_ids_and_keeps_given_ones(db: DatabaseManager) -> None:
    """Every object gets the id of its row; a given id is kept."""
    batch = db.add_all([Speaker(name="a"), Speaker(name="b", id=7), Speaker(name="c")])
    assert {one.id: one.name for one in db.get_all(Speaker)} == {one.id: one.name for one in batch}
    assert batch[1].id == 7
    assert not any(one.is_dirty() for one in batch)


def test_update_writes_changes_and_moves_updated_at(db: DatabaseManager) -> None:
    """An update stores given values and JSON changed in place; it leaves other fields alone."""
    ada = db.create_speaker("Ada", tags=["a"])
    other = db.get_speaker(ada.id)
    stale = ada.updated_at
    Speaker.update(description="changed elsewhere").where(Speaker.id == ada.id).execute()
    ada.tags.append("b")
    db.update(ada, name="Ada L.")
    now = db.get_speaker("Ada L.")
    assert (now.description, now.tags) == ("changed elsewhere", ["a", "b"])
    assert now.updated_at > stale
    assert now.created_at == other.created_at


def test_bulk_update_moves_updated_at(db: DatabaseManager) -> None:
    """Peewee's own update query moves the time too, unless it is given."""
    ada = db.create_speaker("Ada")
    Speaker.update(name="b").execute()
    moved = db.get_speaker("b").updated_at
    Speaker.update({Speaker.updated_at: ada.created_at}).execute()
    assert moved > ada.updated_at
    assert db.get_speaker("b").updated_at == ada.created_at


def test_atomic_undoes_everything_on_an_error(db: DatabaseManager) -> None:
    """What is written inside one atomic block stays or goes as a whole."""

    def write() -> None:
        with db.atomic():
            db.create_speaker("Ada")
            db.add_all([Speaker(name="Bob")])
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert db.get_all(Speaker) == []


def test_a_transaction_may_be_rolled_back_by_hand(db: DatabaseManager) -> None:
    """Peewee's own rollback and commit inside an atomic block keep what they are said to keep."""
    with db.database.atomic() as transaction:
        db.create_speaker("Ada")
        transaction.rollback()
        db.create_speaker("Bob")
        with db.database.atomic() as inner:
            db.create_speaker("Eve")
            inner.rollback()
        transaction.commit()
        db.create_speaker("Dan")
    assert [one.name for one in db.get_all(Speaker)] == ["Bob", "Dan"]


@pytest.mark.sqlite("another program holds the file's lock")
def test_a_transaction_that_could_not_begin_leaves_no_mark(path: Path) -> None:
    """After a lock that was waited for in vain, Peewee's own transaction keeps all of its rows."""
    with (
        DatabaseManager(path, timeout=0.1).initialize() as db,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.DatabaseBusyError), db.atomic():
            db.create_speaker("refused")
        other.execute("ROLLBACK")
        with db.database.atomic():
            Speaker.create(name="first")
            db.create_speaker("second")
        assert [one.name for one in db.get_all(Speaker)] == ["first", "second"]


def test_speaker_functions(db: DatabaseManager) -> None:
    """Profiles, tags, search and links do what their names say."""
    ada = db.create_speaker("Ada", "a calm alto", ["studio", "female", "studio"])
    bob = db.create_speaker("Bob", tags=["studio"])
    file = db.add(ProcessedFile(filename="a.wav", original_path="/x/a.wav"))

    assert ada.tags == ["studio", "female"]
    assert db.add_tags(bob, ["male", "studio"]).tags == ["studio", "male"]
    assert db.remove_tags("Bob", "studio").tags == ["male"]
    assert db.list_tags() == {"female": 1, "male": 1, "studio": 1}
    assert db.find_speakers_by_tags(["male", "female"]) == [ada, bob]
    assert db.find_speakers_by_tags(["studio", "female"], match_all=True) == [ada]
    assert db.find_speakers_by_tags([]) == []
    for tag in ("a,b", '"', "2..4", "^x", "a b", "tag:x", "id:1"):
        db.add_tags(bob, tag)
        for match_all in (False, True):
            assert db.find_speakers_by_tags([tag], match_all=match_all) == [bob]
    assert db.search_speakers("ALTO") == [ada]
    assert db.search_speakers("100%") == []
    assert db.search_speakers(5) == []  # as a name that is a number is stored
    assert db.link_file(file, "Ada").speaker == ada
    assert db.get_speaker_files("id:1") == [file]
    assert db.unlink_file("/x/a.wav").speaker is None
    assert db.update_speaker(ada.id, name="Ada L.", description=None).description is None
    db.delete_speaker("Bob")
    assert [one.name for one in db.get_all(Speaker)] == ["Ada L."]


def test_tags_of_two_writers_are_both_kept(db: DatabaseManager) -> None:
    """Adding a tag starts from the database's tags, not from a stale object's."""
    ada = db.create_speaker("Ada")
    db.add_tags("Ada", "one")
    assert db.add_tags(ada, "two").tags == ["one", "two"]


def _second(path: Path) -> None:
    with DatabaseManager(path).initialize():
        DatabaseManager(_other(path)).initialize()


def _other(path: Path | str) -> Path | str:
    """Return another place, where nothing is."""
    if isinstance(path, str):
        return path.replace("?", "_other?", 1)
    return path.with_name("other.db")


@pytest.mark.sqlite("a database in memory")
def test_a_file_that_is_called_as_what_is_in_memory_is_not_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of that name, in the folder one goes to, is not taken for what replaced it."""
    tmp_path.joinpath(":memory:").touch()
    with DatabaseManager(":memory:").initialize() as db:
        monkeypatch.chdir(tmp_path)
        db.add(Speaker(name="Ada"))
        assert [row[1] for row in db.list_rows("speakers")] == ["Ada"]


def _memory_thread(path: Path) -> None:
    with DatabaseManager(":memory:").initialize() as db:
        raised: list[BaseException] = []

        def read() -> None:
            try:
                db.get_all(Speaker)
            except errors.VoicesError as error:
                raised.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        raise raised[0]


def _memory_backup(path: Path) -> None:
    with DatabaseManager(":memory:").initialize() as db:
        db.backup_database()


KNOWN_URLS = "postgresql://, postgres://"
USE = "cannot use '{path}': "
IN_MEMORY = "cannot use ':memory:': "
SENTENCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "never connected": (
        lambda path: DatabaseManager(path).get_all(Speaker),
        USE + "the manager is not connected; call connect() or initialize()",
    ),
    "missing": (
        lambda path: DatabaseManager(path).connect(),
        USE + "there is no database; run 'voices init' to create it",
    ),
    "a second database": (
        _second,
        "cannot use '{other}': the models are bound to '{path}'; close that manager first",
    ),
    "memory": (
        lambda _: DatabaseManager(":memory:").connect(),
        IN_MEMORY + "an in-memory database starts empty; call initialize()",
    ),
    "memory as SQLAlchemy writes it": (
        lambda _: DatabaseManager("sqlite:///:memory:").connect(),
        IN_MEMORY + "an in-memory database starts empty; call initialize()",
    ),
    "memory in a thread": (
        _memory_thread,
        IN_MEMORY + "an in-memory database is seen only by the thread and process that opened it; "
        "use a file",
    ),
    "memory backed up": (
        _memory_backup,
        IN_MEMORY + "an in-memory database has no file to back up",
    ),
    "memory pickled": (
        lambda _: pickle.dumps(DatabaseManager(":memory:")),
        IN_MEMORY + "only a manager of a database file can go to another process",
    ),
    "another server": (
        lambda _: DatabaseManager("mysql://ada:secret@host/voices"),
        f"cannot use 'mysql://…': use the path of a file, or one of {KNOWN_URLS}",
    ),
    "a server's object": (
        lambda _: DatabaseManager(pw.PostgresqlDatabase("voices")),
        "cannot use 'PostgresqlDatabase': give the URL of a server, not a Peewee database",
    ),
    "no path": (
        lambda _: DatabaseManager(""),
        "cannot use '': a path must be a text without NUL, and not empty",
    ),
    "nobody's home": (
        lambda _: DatabaseManager("~no/v.db"),
        "cannot use '~no/v.db': no such home directory is known; a file here is './~…'",
    ),
    **{
        f"timeout {told}": (
            lambda path, timeout=timeout: DatabaseManager(path, timeout=timeout),
            f"timeout must lie between 0 and 1,000,000 seconds, not {told}",
        )
        for told, timeout in (("nan", float("nan")), ("-1", -1), ("3e+06", 3e6))
    },
}


@pytest.mark.parametrize(("act", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_sentences_of_opening(path: Path, act: Callable[[Path], object], sentence: str) -> None:
    """Each way to fail at the door has its one sentence."""
    with pytest.raises(errors.VoicesError) as caught:
        act(path)
    assert str(caught.value) == sentence.format(path=path, other=_other(path))


def test_a_tilde_behind_a_dot_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``./~me.db`` is a file in the current directory."""
    monkeypatch.chdir(tmp_path)
    assert DatabaseManager("./~me.db").path == str(tmp_path / "~me.db")


WORDS = pytest.mark.sqlite("SQLite's own words; a server's are in test_postgres")
RECORD_SENTENCES: list[Any] = [
    (lambda db: db.add(Speaker()), "speakers.name must not be empty"),
    pytest.param(
        lambda db: db.add(ProcessedFile(filename="a", file_size=1 << 70)),
        "an integer does not fit into 64 bits",
        marks=WORDS,
    ),
    (
        lambda db: db.add(ProcessedFile(filename="a", speaker_id=99)),
        "a record refers to another that does not exist",
    ),
    (lambda db: db.get_speaker("nobody"), "no speaker 'nobody'; see 'voices list-speakers'"),
    (lambda db: db.delete(Speaker(name="x", id=9)), "no speaker 9; see 'voices list-speakers'"),
    (lambda db: db.update(Speaker(name="x", id=9)), "no speaker 9; see 'voices list-speakers'"),
    (lambda db: db.link_file("gone.wav", 1), "no speaker 1; see 'voices list-speakers'"),
    (lambda db: db.unlink_file(3), "no file 3; see 'voices list-files'"),
    (
        lambda db: db.add_tags(db.create_speaker("a"), [" "]),
        "a tag is a text that is not empty, not ' '",
    ),
    (
        lambda db: db.update(db.create_speaker("a"), nam="b"),
        "unknown field 'nam'; did you mean 'name'?",
    ),
    (
        lambda db: db.add_many(Speaker, [{"name": "a", "tag": []}]),
        "unknown field 'tag'; did you mean 'tags'?",
    ),
    (lambda db: db.add(Speaker(name="b", tag=["x"])), "unknown field 'tag'; did you mean 'tags'?"),
    (
        lambda db: db.add(Speaker(name="b", processed_files=[ProcessedFile()])),
        "unknown field 'processed_files'; use created_at, description, id, name, tags, updated_at",
    ),
    (lambda db: db.query(Speaker).filter_by(nam="b"), "unknown field 'nam'; did you mean 'name'?"),
    (lambda db: db.get_table_columns("songs"), "no table 'songs'; see 'voices list'"),
    (lambda db: db.import_records([1]), "'records', record 1: 1 is not a mapping"),
    (
        lambda db: db.execute_raw_query("PRAGMA table_info(speakers)"),
        "only SELECT, WITH, VALUES and EXPLAIN of these run without write=True",
    ),
    (
        lambda db: db.execute_raw_query("WITH x AS (SELECT 1) DELETE FROM speakers"),
        "this statement would change the database; pass write=True to allow it",
    ),
    pytest.param(
        lambda db: db.execute_raw_query("SELECT * FROM songs"),
        "cannot use '{path}': no such table: songs",
        marks=WORDS,
    ),
    *(
        (act, f"a record is an object, such as Speaker(name='Ada'), not {what}")
        for act, what in [
            (lambda db: db.add(None), "None"),
            (lambda db: db.add("x"), "'x'"),
            (lambda db: db.add_all([Speaker(name="a"), 5]), "5"),
            (lambda db: db.update(None), "None"),
            (lambda db: db.delete("x"), "'x'"),
        ]
    ),
    *(
        (act, "a model is a class, such as Speaker, not 'x'")
        for act in (
            lambda db: db.get_all("x"),
            lambda db: db.get_by_id("x", 1),
            lambda db: db.query("x"),
            lambda db: db.add_many("x", []),
        )
    ),
    (
        lambda db: db.add_all("Ada"),
        "records must be a list of objects, not 'Ada'",
    ),
    (lambda db: db.add_many(Speaker, [5]), "rows must be a list of mappings, not of 5"),
    (lambda db: db.add_many(Speaker, 5), "rows must be a list of mappings, not of 5"),
    (lambda db: db.search_speakers([5]), "text must be a text, not [5]"),
    (
        lambda db: db.create_speaker("a", tags=np.array("b")),
        "tags must be a list of texts, not array('b', dtype='<U1')",
    ),
    (lambda db: db.create_speaker("a", tags=5), "tags must be a list of texts, not 5"),
    (lambda db: db.record_runs(5), "runs must be a list of mappings, not 5"),
    (
        lambda db: list(db.add_audio_files("a", on_error=str)),
        "paths must be a list of paths, not 'a'",
    ),
    (lambda db: db.track("a", 5), "a run needs an operation_type"),
    (lambda db: db.pending(["a"], 5), "a run needs an operation_type"),
    *(
        (act, "a query is of words, not of 5")
        for act in (
            lambda db: db.leaderboard(where=5),
            lambda db: db.leaderboard(where=["status:failed", 5]),
            lambda db: db.failures(where=5),
            lambda db: db.pending(["a"], "b", where=5),
            lambda db: db.list_rows("files", 5),
            lambda db: db.search("history", model=5),
            lambda db: db.list_rows("files", search=5),
            lambda db: db.list_rows("files", columns=5),
            lambda db: db.list_rows("files", sort=5),
        )
    ),
    (lambda db: db.search(5), "unknown list 5; use files, history, performance, speakers"),
    (lambda db: db.leaderboard(by=5), "by must be a list of fields, not 5"),
    (lambda db: db.leaderboard(5), "a metric is named by a text, not 5"),
    (lambda db: db.compare(1, 2), "a model is a text, as demucs:4.0, or a pair, not 1"),
    (lambda db: db.compare("a", ("b",)), "unknown model 'a'; no run names a model"),
    (lambda db: db.compare("a", "b", confidence="x"), "confidence must be a number, not 'x'"),
    (lambda db: db.compare("a", "b", confidence=True), "confidence must be a number, not True"),
    (lambda db: db.compare("a", "b", unit=5), "unknown unit 5; use recording, speaker, stem"),
    (
        lambda db: db.leaderboard(higher_is_better="low"),
        "higher_is_better must be true or false, not 'low'",
    ),
    *(
        (act, "a path map is a mapping of folders, not '/a=/b'")
        for act in (
            lambda db: db.check(path_map="/a=/b"),
            lambda db: db.add_manifest("a.csv", path_map="/a=/b"),
        )
    ),
    *(
        (act, f"a lease is of more than 0 s and at most ten years, not {lease}")
        for lease, act in [
            ("True", lambda db: db.pending(["a"], "b", claim=True, lease=True)),
            ("'x'", lambda db: db.pending(["a"], "b", claim=True, lease="x")),
            ("nan", lambda db: db.pending(["a"], "b", claim=True, lease=float("nan"))),
        ]
    ),
    (
        lambda db: db.close_unfinished(older_than=True),
        "older_than must be a time of 0 seconds or more, not True",
    ),
    (
        lambda db: db.add_all([Speaker(name="A"), Speaker(name="A")]) and db.get_speaker("A"),
        "2 speakers are named 'A' (ids 1, 2); use an id",
    ),
]


@pytest.mark.parametrize(("act", "sentence"), RECORD_SENTENCES, ids=range(len(RECORD_SENTENCES)))
def test_sentences_about_records(
    db: DatabaseManager, act: Callable[[DatabaseManager], object], sentence: str
) -> None:
    """Each way to name or write a record wrongly has its one sentence."""
    with pytest.raises(errors.VoicesError) as caught:
        act(db)
    assert str(caught.value) == sentence.format(path=db.path)


def test_raw_queries_write_when_told(db: DatabaseManager) -> None:
    """With write=True a statement changes the database and gives back what it returns."""
    db.create_speaker("Ada")
    sql = "UPDATE speakers SET name = ? WHERE id = ? RETURNING name"
    assert db.execute_raw_query(sql, ("Bob", 1), write=True) == [{"name": "Bob"}]
    assert db.get_speaker(1).name == "Bob"


def test_the_same_path_again_just_works(path: Path) -> None:
    """A notebook cell that is run twice gets the same database; either manager may close first."""
    first = DatabaseManager(path).initialize()
    second = DatabaseManager(path).initialize()
    first.add(Speaker(name="Ada"))
    first.close()
    assert [one.name for one in second.get_all(Speaker)] == ["Ada"]
    second.close()
    second.close()
    assert database_proxy.obj is None


def test_a_manager_that_was_thrown_away_does_not_block_the_next(
    path: Path, other_path: Path
) -> None:
    """A manager that nobody holds any more gives the models free."""
    DatabaseManager(path).initialize()
    with DatabaseManager(other_path).initialize() as other:
        assert other.get_all(Speaker) == []


@pytest.mark.sqlite("a Peewee SqliteDatabase of the caller")
def test_a_peewee_database_can_be_given(path: Path) -> None:
    """A Peewee database is used as it is, with foreign keys on."""
    own = pw.SqliteDatabase(str(path))
    with DatabaseManager(own).initialize() as db:
        db.add(ProcessedFile(filename="a", speaker=Speaker(name="Ada")))
        db.delete_speaker("Ada")
        assert db.get_all(ProcessedFile)[0].speaker_id is None
    assert own.is_closed()


def test_a_pickled_manager_connects_by_itself(path: Path) -> None:
    """A copy sent to another process carries no connection and opens its own."""
    db = DatabaseManager(path).initialize()
    db.create_speaker("Ada")
    copy = pickle.loads(pickle.dumps(db))  # noqa: S301 - our own bytes
    db.close()
    assert not copy.is_connected
    assert [one.name for one in copy.get_all(Speaker)] == ["Ada"]
    copy.close()


def test_numpys_integers_are_ids(db: DatabaseManager) -> None:
    """An id out of a DataFrame finds what Python's integer finds."""
    speaker, key = db.create_speaker("Ada"), np.int64(1)
    file = db.add(ProcessedFile(filename="a.wav"))
    assert db.get_by_id(Speaker, key) == speaker == db.get_speaker(key)
    assert db.get_file(key) == file


@pytest.mark.parametrize("key", [float("nan"), b"1", [1], np.array([1, 2])])
def test_what_is_no_key_is_not_found(db: DatabaseManager, key: Any) -> None:
    """What is neither an id nor a name nor an object names nothing, with one sentence."""
    db.create_speaker("Ada")
    assert db.get_by_id(Speaker, key) is None
    with pytest.raises(errors.NotFoundError, match=r"^no speaker "):
        db.get_speaker(key)
    with pytest.raises(errors.NotFoundError, match=r"^no file "):
        db.get_file(key)


@pytest.mark.parametrize("name", ["speaker", "file"])
def test_what_an_application_refers_to_is_not_deleted(db: DatabaseManager, name: str) -> None:
    """The sentence says who refers to whom, and the row stays."""
    row = db.create_speaker("Ada") if name == "speaker" else db.add(ProcessedFile(filename="a"))
    table = row._meta.table_name
    for sql in (
        f"CREATE TABLE app (own BIGINT REFERENCES {table} (id))",
        f"INSERT INTO app VALUES ({row.id})",
    ):
        db.execute_raw_query(sql, write=True)
    with pytest.raises(errors.InvalidValueError) as caught:
        db.delete(row)
    said = f"{name} 1 is referred to by rows of an application's own table; delete those first"
    assert str(caught.value) == said
    assert db.get_by_id(type(row), row.id) is not None
    db.execute_raw_query("DROP TABLE app", write=True)
    db.delete(row)
