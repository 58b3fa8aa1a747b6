"""Interrupts in every public method of the manager: whatever one strikes, the record goes on."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support.interrupts import interrupted_at, require_a_childs_write, require_working
from support.wav_files import write_wav

from voices_peewee import DatabaseManager, ProcessedFile, Speaker, VoicesError

pytestmark = [
    # Python itself drops an exception that strikes inside a destructor, with this warning.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # A run that is recorded again claims the same output.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.sqlite("psycopg's own steps are not proof against an interrupt at any call"),
]

PLACES = [6, pytest.param(1000, marks=pytest.mark.soak)]
PAIR = ("demucs:1", "svoice:1")
Act = Callable[[DatabaseManager, Path], object]
NUMBERS = itertools.count()


def _tracked(db: DatabaseManager, folder: Path) -> None:
    with db.track(folder / "mix.wav", "separation", model_type="demucs") as run:
        run.output(folder / "ada.wav", si_snri=1.0)
        run.log(pesq=2.0)


def _claimed(db: DatabaseManager, folder: Path) -> None:
    for path in db.pending([folder / "mix.wav"], "other", claim=True):
        with db.track(path, "other"):
            pass


def _in_a_block(db: DatabaseManager, _: Path) -> None:
    with db.atomic():
        db.add(Speaker(name="in the block"))


def _looked_at(db: DatabaseManager, _: Path) -> None:
    with db.as_it_is() as store:
        store.is_idle()


def _reopened(db: DatabaseManager, _: Path) -> None:
    db.close()
    db.connect()


def _ran(db: DatabaseManager) -> str:
    run = db.record_run("/mix/x.wav", "x", start_time="2026-01-01T00:00:00Z")
    return str(getattr(run, "run_id", run))


def _written(folder: Path, text: str) -> Path:
    (folder / "in.csv").write_text(text)
    return folder / "in.csv"


ACTS: dict[str, Act] = {
    "add": lambda db, _: db.add(Speaker(name="new")),
    "add_all": lambda db, _: db.add_all([Speaker(name="new"), Speaker(name="other")]),
    "add_audio": lambda db, folder: db.add_audio(folder / "mix.wav"),
    "add_audio_files": lambda db, folder: list(
        db.add_audio_files([folder / "mix.wav"], on_error=print)
    ),
    "add_manifest": lambda db, folder: db.add_manifest(
        _written(folder, f"mixture_ID,mixture_path,source_1_path\na,{folder}/mix.wav,/s.wav\n")
    ),
    "add_many": lambda db, _: db.add_many(Speaker, [{"name": "new"}, {"name": "other"}]),
    "add_tags": lambda db, _: db.add_tags(1, ["new"]),
    "as_it_is": _looked_at,
    "atomic": _in_a_block,
    "back_up_first": lambda db, _: db.back_up_first([]),
    "backup_database": lambda db, folder: db.backup_database(folder),
    "check": lambda db, _: db.check(files=True),
    "close": _reopened,
    "close_session": lambda db, _: db.close_session(),
    "close_unfinished": lambda db, _: db.close_unfinished(older_than=0),
    "compare": lambda db, _: str(db.compare(*PAIR)),
    "connect": _reopened,
    "create_migration": lambda db, _: db.create_migration(f"m{next(NUMBERS)}", empty=True),
    "create_speaker": lambda db, _: db.create_speaker("new", tags=["a"], duplicate=True),
    "create_tables": lambda db, _: db.create_tables(),
    "delete": lambda db, folder: db.delete(
        db.add(Speaker(name="gone")), export_to=folder / f"{next(NUMBERS)}.jsonl"
    ),
    "delete_run": lambda db, _: db.delete_run(_ran(db)),
    "delete_speaker": lambda db, _: db.delete_speaker(db.add(Speaker(name="gone"))),
    "execute_raw_query": lambda db, _: [
        db.execute_raw_query("SELECT name FROM speakers"),
        db.execute_raw_query("UPDATE speakers SET description = 'x'", write=True),
    ],
    "export": lambda db, folder: db.export(folder / "all.jsonl", overwrite=True),
    "failures": lambda db, _: str(db.failures()),
    "find_speakers_by_tags": lambda db, _: db.find_speakers_by_tags("x"),
    "get_all": lambda db, _: db.get_all(Speaker),
    "get_by_id": lambda db, _: db.get_by_id(Speaker, 1),
    "get_file": lambda db, folder: db.get_file(folder / "mix.wav"),
    "get_speaker": lambda db, _: db.get_speaker("Ada"),
    "get_speaker_files": lambda db, _: db.get_speaker_files(1),
    "get_table_columns": lambda db, _: db.get_table_columns("speakers"),
    "history": lambda db, folder: db.history(folder / "mix.wav"),
    "import_records": lambda db, folder: db.import_records(
        _written(folder, "name,description\nnew,imported\n"), table="speakers"
    ),
    "import_results": lambda db, folder: db.import_results(
        _written(folder, f"mixture_path,si_snri\n{folder}/mix.wav,3.0\n"), model="convtasnet:1"
    ),
    "import_votes": lambda db, folder: db.import_votes(_written(folder, "{}")),
    "initialize": lambda db, _: db.initialize(),
    "leaderboard": lambda db, _: str(db.leaderboard()),
    "link_file": lambda db, folder: db.link_file(folder / "mix.wav", 1),
    "list_backups": lambda db, _: db.list_backups(),
    "list_rows": lambda db, _: list(db.list_rows("history", limit=None)),
    "list_tags": lambda db, _: db.list_tags(),
    "listen": lambda db, _: db.listen(*PAIR, path=None),
    "listening_results": lambda db, _: db.listening_results(),
    "migration_status": lambda db, _: db.migration_status(),
    "pending": _claimed,
    "player": lambda db, folder: db.player(folder / "mix.wav"),
    "plot": lambda db, _: db.plot("distribution"),
    "query": lambda db, _: list(db.query(ProcessedFile).filter_by(recording=None)),
    "record_run": lambda db, _: _ran(db),
    "record_runs": lambda db, _: db.record_runs(
        [{"source": "/a.wav", "operation_type": "x", "start_time": "2026-01-01T00:00:00Z"}]
    ),
    "remove_tags": lambda db, _: [db.add_tags(1, ["gone"]), db.remove_tags(1, ["gone"])],
    "report": lambda db, folder: db.report(folder / "r.html", overwrite=True),
    "restore": lambda db, folder: db.restore(folder / "first.db"),
    "rollback_migration": lambda db, _: db.rollback_migration(backup=False),
    "run_migrations": lambda db, _: [
        db.rollback_migration(backup=False),
        db.run_migrations(backup=False),
    ],
    "search": lambda db, _: db.search("files", "mix"),
    "search_speakers": lambda db, _: db.search_speakers("a"),
    "show_run": lambda db, _: str(db.show_run(1)),
    "status": lambda db, _: db.status(),
    "table_exists": lambda db, _: db.table_exists("speakers"),
    "to_dataframe": lambda db, _: db.to_dataframe("history"),
    "track": _tracked,
    "unlink_file": lambda db, folder: db.unlink_file(folder / "mix.wav"),
    "update": lambda db, _: db.update(db.get_by_id(Speaker, 1), description="new"),
    "update_run": lambda db, _: db.update_run(_ran(db), note="n", tags=["t"]),
    "update_speaker": lambda db, _: db.update_speaker(1, description="new"),
    "verify_backup": lambda db, folder: db.verify_backup(folder / "first.db"),
    "watch": lambda db, _: next(iter(db.watch())),
}
# It goes on until a signal comes; display/test_web.py interrupts it.
WITHOUT = {"serve"}
# They load and draw for a second.
SLOW = {"plot", "report", "to_dataframe"}


def test_every_public_method_is_interrupted() -> None:
    """A new method of the manager has to be interrupted here as well."""
    methods = {
        name
        for name, member in inspect.getmembers(DatabaseManager, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods - set(ACTS) == WITHOUT
    assert set(ACTS) <= methods


def calls_and_returns(act: Callable[[], object]) -> int:
    """Count the places in Python code where an act can be interrupted."""
    count = 0

    def tick(_frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "return")

    try:
        sys.setprofile(tick)
        act()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture
def folder(path: Path, db: DatabaseManager) -> Path:
    """A folder with audio and a backup of a record of two models' runs."""
    folder = path.parent / "work"
    (folder / "migrations").mkdir(parents=True)
    mix = write_wav(folder / "mix.wav")
    write_wav(folder / "ada.wav")
    ada = db.create_speaker("Ada", tags=["x"])
    for model in ("demucs", "svoice"):
        with db.track(mix, "separation", speaker=ada, model_type=model, model_version="1") as run:
            run.output(write_wav(folder / f"{model}.wav"), si_snri=1.0)
    db.backup_database(folder / "first.db")
    db.close()
    return folder


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("name", ACTS)
def test_an_interrupted_method_leaves_the_record_working(
    path: Path, folder: Path, name: str, places: int
) -> None:
    """Wherever it is interrupted, the manager, a thread and a child write, and no part stays."""
    with DatabaseManager(path, migrations_dir=folder / "migrations").initialize() as db:

        def act() -> None:
            with suppress(VoicesError):
                ACTS[name](db, folder)

        act()  # what is compiled and imported once
        db.run_migrations(backup=False)
        total = calls_and_returns(act)
        assert total
        some = min(total, places // 3 if name in SLOW else places)
        for number in range(some):
            db.run_migrations(backup=False)  # after some of them it is closed, or behind
            interrupted_at(1 + number * total // some, act)
            db.run_migrations(backup=False)
            require_working(db, path)
        assert not [one for one in folder.rglob("*") if ".partial" in one.name]
        require_a_childs_write(db)
