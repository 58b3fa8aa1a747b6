"""Where runs are made: Python, host, git, torch and Slurm, once for all that are the same."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voices_peewee import DatabaseManager, Environment, ProcessingHistory
from voices_peewee._version import __version__
from voices_peewee.runs import environment

SLURM = {"job_id": "104", "array_job_id": "100", "array_task_id": "4"}


def git(folder: Path, *words: str) -> None:
    names = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *names, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty git repository as the working directory."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    return tmp_path


def forget() -> None:
    """Forget what this process has seen."""
    environment._surroundings.cache_clear()
    environment._git.cache_clear()


def fresh() -> dict[str, Any]:
    """Return the facts as a new process sees them."""
    forget()
    return environment.surroundings().facts


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a process has seen is forgotten before and after each test."""
    forget()
    yield
    forget()


def test_the_environment_names_commit_and_versions(repository: Path) -> None:
    """The commit appears with the first one, and is dirty when a tracked file differs."""
    fixed = {
        "python": platform.python_version(),
        "host": platform.node(),
        "platform": platform.platform(),
        "voices_peewee": __version__,
    }
    assert fresh() == fixed
    (repository / "a.py").write_text("1")
    git(repository, "add", "a.py")
    git(repository, "commit", "-q", "-m", "one")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    commit = head.stdout.strip()
    (repository / "untracked.txt").write_text("1")
    assert fresh() == {**fixed, "git": {"commit": commit, "dirty": False}}
    (repository / "a.py").write_text("2")
    assert environment.surroundings().facts["git"]["dirty"] is False  # as the process began
    assert fresh() == {**fixed, "git": {"commit": commit, "dirty": True}}


@pytest.mark.parametrize("lack", ["repository", "git", "directory"])
def test_without_git_the_environment_lacks_a_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    """No repository, no git program or no working directory is no error."""
    (repository / "a.py").write_text("1")
    git(repository, "add", "a.py")
    git(repository, "commit", "-q", "-m", "one")
    if lack == "git":
        monkeypatch.setenv("PATH", str(repository))
    else:
        folder = repository.with_name(f"{repository.name}-elsewhere")
        folder.mkdir()
        monkeypatch.chdir(folder)
        if lack == "directory":
            folder.rmdir()
    assert "git" not in fresh()
    os.chdir(repository)


def track(db: DatabaseManager, path: str = "/mix/a.wav") -> dict[str, Any]:
    """Record a run; return what ``show_run`` says of its environment."""
    with db.track(path, "separation") as run:
        pass
    return db.show_run(run).environment or {}


def test_a_run_says_where_it_was_made(db: DatabaseManager, repository: Path) -> None:
    """The commit of a run is found by its beginning, and by what else is known there."""
    (repository / "a.py").write_text("1")
    git(repository, "add", "a.py")
    git(repository, "commit", "-q", "-m", "one")
    commit = track(db)["git"]["commit"]
    assert db.list_rows("history", [f"git:{commit[:7]}"]).total == 1
    assert db.list_rows("history", ["git:0000000"]).total == 0
    assert db.list_rows("files", [f"git:{commit[:7]}"]).total == 1
    with db.track("/mix/b.wav", "separation") as run:
        run.log(si_snri=1.0)
    assert db.list_rows("performance", ["environment.git.dirty:false"]).total == 2
    assert db.list_rows("performance", ["environment.git.dirty:true"]).total == 0


def test_words_without_a_value(db: DatabaseManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty word finds what has none, and a group is by the fact alone."""
    monkeypatch.setenv("SLURM_JOB_ID", "104")
    with db.track("/mix/a.wav", "separation", model_type="A") as run:
        run.log(si_snri=1.0)
    forget()
    monkeypatch.delenv("SLURM_JOB_ID")
    track(db, "/mix/b.wav")
    found = {word: db.list_rows("history", [word]).total for word in ("slurm:", "^slurm:")}
    assert found == {"slurm:": 1, "^slurm:": 1}
    assert {(row.labels[0], row.n) for row in db.leaderboard(by="slurm")} == {("104", 1), ("-", 0)}


def test_runs_of_one_environment_share_a_row(db: DatabaseManager) -> None:
    """A second run adds no row, and another manager's finds it."""
    track(db)
    track(db, "/mix/b.wav")
    (row,) = db.get_all(Environment)
    assert [run.environment_id for run in row.runs] == [row.id] * 2


def test_a_run_that_is_rolled_back(db: DatabaseManager) -> None:
    """The next run writes the environment that went with the transaction of another."""

    def begin_and_fail() -> None:
        with db.atomic():
            with pytest.warns(UserWarning, match="begins inside a transaction"):
                track(db)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin_and_fail()
    assert track(db)["voices_peewee"] == __version__


def test_left_out(db: DatabaseManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """``VOICES_ENVIRONMENT=0`` leaves it out."""
    monkeypatch.setenv("VOICES_ENVIRONMENT", "0")
    assert track(db) == {}
    assert db.get_all(Environment) == []


def test_slurm(db: DatabaseManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of an array is found by its own id, the array's, and the task's."""
    for name, value in SLURM.items():
        monkeypatch.setenv(f"SLURM_{name.upper()}", value)
    assert track(db)["slurm"] == SLURM
    found = {
        word: db.list_rows("history", [f"slurm:{word}"]).total
        for word in ("104", "100", "100_4", "100_5", "10", "4")
    }
    assert found == {"104": 1, "100": 1, "100_4": 1, "100_5": 0, "10": 0, "4": 0}


@pytest.mark.parametrize(("begun", "device"), [(False, None), (True, "A100")])
def test_torch(
    db: DatabaseManager, monkeypatch: pytest.MonkeyPatch, begun: bool, device: str | None
) -> None:
    """Torch that is loaded later is seen by the runs after, with the device it has begun."""
    assert "torch" not in track(db)
    torch: Any = types.ModuleType("torch")
    torch.__version__ = "2.9.1"
    torch.cuda = types.SimpleNamespace(is_initialized=lambda: begun, get_device_name=lambda: "A100")
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert track(db)["torch"] == {"version": "2.9.1", "device": device}
    assert len(db.get_all(Environment)) == 2


def test_half_loaded_torch(db: DatabaseManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that has no CUDA yet ends no run."""
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert "torch" not in track(db)


@pytest.mark.soak
def test_time(repository: Path) -> None:
    """It takes less than 50 ms, once a process."""
    start = time.perf_counter()
    environment.surroundings()
    assert time.perf_counter() - start < 0.05
    assert repository


@pytest.mark.sqlite("a process tells a server once where it is")
def test_an_environment_that_went_is_written_again(db: DatabaseManager) -> None:
    """Where an older record took the place of this one, the next run still has its environment."""
    for _ in range(2):
        with db.track("/in.wav", "separation"):
            pass
        assert db.query(ProcessingHistory).filter_by(environment=None).count() == 0
        db.execute_raw_query("DELETE FROM environments", write=True)
        db.execute_raw_query("DELETE FROM processing_history", write=True)
