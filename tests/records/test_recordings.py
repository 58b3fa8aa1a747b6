"""Adding recordings: facts, updates, batches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.databases import ask
from support.wav_files import digest, write_wav

from voices_peewee import DatabaseManager, ProcessedFile, errors
from voices_peewee.records import recordings

FACTS = (
    *("filename", "original_path", "file_format", "duration", "sample_rate", "channels"),
    *("file_size", "content_hash"),
)


FLAC = Path(__file__).parents[2] / "examples" / "audio" / "ada.flac"


def facts(file: ProcessedFile) -> dict[str, Any]:
    return {name: getattr(file, name) for name in FACTS}


def rows(db: DatabaseManager) -> list[ProcessedFile]:
    return db.query(ProcessedFile).order_by(ProcessedFile.id).all()


def add(db: DatabaseManager, path: Any, exact: bool = False, **said: Any) -> recordings.Added:
    wishes = recordings.wishes(db.store, said.get("speaker"), said.get("metadata"))
    return recordings.add_audio(db.store, path, wishes, exact=exact)


def test_a_recording_is_added_with_its_facts(
    db: DatabaseManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is stored absolute, beside what the file says, its speaker and metadata."""
    path = write_wav(tmp_path / "a.wav", 4000)
    ada = db.create_speaker("Ada")
    monkeypatch.chdir(tmp_path)
    added = add(db, "a.wav", speaker="Ada", metadata={"room": Path("studio/2")})

    assert added.outcome == "added"
    (row,) = rows(db)
    assert row == added.file
    assert facts(row) == {
        "filename": "a.wav",
        "original_path": str(path),
        "file_format": "wav",
        "duration": 0.5,
        "sample_rate": 8000,
        "channels": 1,
        "file_size": 8044,
        "content_hash": digest(path),
    }
    assert (row.speaker_id, row.metadata, row.processed_path) == (
        ada.id,
        {"room": "studio/2"},
        None,
    )


@pytest.mark.sqlite("counts changes through sqlite3")
def test_the_same_content_is_not_written_twice(db: DatabaseManager, tmp_path: Path) -> None:
    """Adding an unchanged file again leaves the database as it is."""
    path = write_wav(tmp_path / "a.wav")
    first = add(db, path, metadata={"take": 1}).file
    changes = db.store.connection().total_changes
    again = add(db, path, metadata={"take": 1})
    assert (again.outcome, again.file.id) == ("unchanged", first.id)
    assert db.store.connection().total_changes == changes


def test_an_unchanged_file_is_not_probed(
    db: DatabaseManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size and hash are enough to know a file again, unless it is to be decoded."""
    path = shutil.copy(FLAC, tmp_path)
    add(db, path)
    monkeypatch.setitem(sys.modules, "av", None)
    assert add(db, path).outcome == "unchanged"
    with pytest.raises(errors.MissingExtraError):
        add(db, path, exact=True)


def test_a_changed_file_is_updated_in_its_own_row(db: DatabaseManager, tmp_path: Path) -> None:
    """New content reaches the recording; its outputs are files of their own."""
    path = write_wav(tmp_path / "a.wav", 800)
    with db.track(path, "separation") as run:
        run.output("/1.wav")
    _, before = rows(db)
    write_wav(path, 1600)
    added = add(db, path)

    recording, stem = rows(db)
    assert (added.outcome, added.file.id) == ("updated", recording.id)
    found = (recording.duration, recording.file_size, recording.content_hash)
    assert found == (0.2, 3244, digest(path))
    assert (facts(stem), stem.updated_at) == (facts(before), before.updated_at)


def test_outputs_in_a_folder_are_no_recordings(db: DatabaseManager, tmp_path: Path) -> None:
    """A folder's outputs of runs are left out; one that is named is added."""
    mix, stem = write_wav(tmp_path / "mix.wav"), write_wav(tmp_path / "stem.wav", value=1)
    with db.track(mix, "separation") as run:
        run.output(stem)
    found = [one.file.filename for one in db.add_audio_files([tmp_path], on_error=print)]
    assert found == ["mix.wav"]
    found = [one.file.filename for one in db.add_audio_files([stem], on_error=print)]
    assert found == ["stem.wav"]


def test_content_of_the_same_size_is_told_apart(db: DatabaseManager, tmp_path: Path) -> None:
    """A file that was overwritten with as many bytes is an update, even with its old time."""
    path = write_wav(tmp_path / "a.wav", value=1)
    status = path.stat()
    add(db, path)
    write_wav(path, value=2)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert add(db, path).outcome == "updated"
    assert rows(db)[0].content_hash == digest(path)


def test_a_row_made_without_the_prober_is_completed(
    db: DatabaseManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``track`` could not know without PyAV is filled in by ``add_audio``."""
    path = Path(shutil.copy(FLAC, tmp_path))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "av", None)
        with db.track(path, "separation"):
            pass
    (row,) = rows(db)
    assert (row.duration, row.file_format, row.content_hash) == (None, None, digest(path))
    assert add(db, path).outcome == "updated"
    (row,) = rows(db)
    assert row.duration
    assert row.file_format == "flac"


def test_speaker_and_metadata_that_differ_are_applied(db: DatabaseManager, tmp_path: Path) -> None:
    """Adding a known file again can name its speaker and adds to its metadata."""
    path = write_wav(tmp_path / "a.wav")
    add(db, path, speaker=db.create_speaker("Ada"), metadata={"room": 1, "mic": "x"})
    bob = db.create_speaker("Bob")
    assert add(db, path, speaker=bob, metadata={"room": 2}).outcome == "updated"
    (row,) = rows(db)
    assert (row.speaker_id, row.metadata) == (bob.id, {"room": 2, "mic": "x"})
    assert add(db, path, speaker=bob, metadata={"room": 2}).outcome == "unchanged"


def test_the_speaker_of_an_output_is_not_overwritten(db: DatabaseManager, tmp_path: Path) -> None:
    """Naming a mixture's speaker does not change whose voice a stem holds."""
    path = write_wav(tmp_path / "mix.wav")
    ada = db.create_speaker("Ada")
    with db.track(path, "separation") as run:
        run.output(tmp_path / "stem.wav", speaker=ada)
    both = db.create_speaker("Both")
    assert add(db, path, speaker=both).outcome == "updated"
    assert [row.speaker_id for row in rows(db)] == [both.id, ada.id]


def test_the_same_content_elsewhere_is_added(db: DatabaseManager, tmp_path: Path) -> None:
    """The same content at another path is a row of its own."""
    one, two = write_wav(tmp_path / "1.wav"), write_wav(tmp_path / "2.wav")
    outcomes = [add(db, path) for path in (one, two, one)]
    assert [(each.outcome, each.file.id) for each in outcomes] == [
        ("added", 1),
        ("added", 2),
        ("unchanged", 1),
    ]


def test_bad_input_writes_nothing(db: DatabaseManager, tmp_path: Path) -> None:
    """What is no audio, an unknown speaker and metadata that is no object are refused."""
    path = write_wav(tmp_path / "a.wav")
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    with pytest.raises(errors.AudioError):
        add(db, text)
    with pytest.raises(errors.NotFoundError):
        add(db, path, speaker="Nobody")
    with pytest.raises(errors.InvalidValueError) as caught:
        add(db, path, metadata=["room"])
    assert str(caught.value) == "metadata must be a mapping, not ['room']"
    assert rows(db) == []


# Many at once


def count(path: Path) -> int:
    """Return how many files another program sees."""
    ((number,),) = ask(path, "SELECT count(*) FROM processed_files")
    return int(number)


def add_all(db: DatabaseManager, *paths: Path, **options: Any) -> Iterator[recordings.Added]:
    options.setdefault("on_error", lambda error: pytest.fail(str(error)))
    return db.add_audio_files(paths, **options)


def test_good_files_are_kept_and_bad_ones_reported(db: DatabaseManager, tmp_path: Path) -> None:
    """Each file that cannot be recorded is reported once; all others are in the database."""
    folder = tmp_path / "in"
    for number in range(5):
        write_wav(folder / f"{number}.wav", value=number)
    (folder / "2.wav").write_bytes(b"")
    failures: list[errors.AudioError] = []
    missing = tmp_path / "none.wav"
    added = list(add_all(db, folder, missing, on_error=failures.append, batch=2, speaker=None))
    assert [one.file.filename for one in added] == ["0.wav", "1.wav", "3.wav", "4.wav"]
    assert [one.file.id for one in added] == [1, 2, 3, 4]
    assert [str(error) for error in failures] == [
        f"cannot read {str(folder / '2.wav')!r}: the file is empty",
        f"cannot read {str(missing)!r}: there is no such file",
    ]
    assert [row.filename for row in rows(db)] == ["0.wav", "1.wav", "3.wav", "4.wav"]


def test_a_file_is_yielded_after_its_batch_was_committed(
    db: DatabaseManager, path: Path, tmp_path: Path
) -> None:
    """Whoever sees a result can rely on it; an interrupt loses no more than a batch."""
    for number in range(5):
        write_wav(tmp_path / "in" / f"{number}.wav", value=number)
    seen = [count(path) for _ in add_all(db, tmp_path / "in", batch=2)]
    assert seen == [2, 2, 4, 4, 5]


def test_batches_say_what_changed(db: DatabaseManager, tmp_path: Path) -> None:
    """Within one batch files are added, updated or unchanged."""
    names = [write_wav(tmp_path / "in" / f"{name}.wav", value=ord(name)) for name in "abc"]
    list(add_all(db, *names))
    write_wav(names[1], 1600)
    shutil.copy(names[0], tmp_path / "in" / "d.wav")
    added = list(add_all(db, tmp_path / "in"))
    assert [(one.file.filename, one.outcome) for one in added] == [
        ("a.wav", "unchanged"),
        ("b.wav", "updated"),
        ("c.wav", "unchanged"),
        ("d.wav", "added"),
    ]
    assert [row.duration for row in rows(db)] == [0.1, 0.2, 0.1, 0.1]


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_lookups_do_not_grow_with_the_files(db: DatabaseManager, tmp_path: Path) -> None:
    """A batch asks the database a fixed number of questions, however many files it has."""
    for number in range(40):
        write_wav(tmp_path / "in" / f"{number:02}.wav", value=number)
    list(add_all(db, tmp_path / "in"))
    statements: list[str] = []
    db.store.connection().set_trace_callback(statements.append)
    list(add_all(db, tmp_path / "in"))
    db.store.connection().set_trace_callback(None)
    assert [text.split()[0] for text in statements] == ["SELECT", "BEGIN", "SELECT", "COMMIT"]


ADD_FOLDER = """
import sys
from voices_peewee import (DatabaseManager)
with DatabaseManager(sys.argv[1]) as db:
    sys.stdin.read()
    for name in sys.argv[3:]:
        db.add_audio(name)
    for one in db.add_audio_files([sys.argv[2]], on_error=print):
        pass
"""


@pytest.mark.once
def test_processes_that_add_the_same_files_do_not_double_them(
    db: DatabaseManager, path: Path, tmp_path: Path
) -> None:
    """Four programs that add one folder at the same moment leave one row a file."""
    names = [str(write_wav(tmp_path / "in" / f"{number}.wav", value=number)) for number in range(9)]
    words = [sys.executable, "-c", ADD_FOLDER, str(path), str(tmp_path / "in"), *names[:4]]
    started = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin
        process.stdin.close()
    outputs = []
    for process in started:
        assert process.stdout
        with process.stdout as stream:
            outputs.append(stream.read())
    assert [process.wait() for process in started] == [0] * 4
    assert outputs == [""] * 4
    assert sorted(str(row.original_path) for row in rows(db)) == names


def test_a_path_begins_with_one_slash(path: Path, db: DatabaseManager, tmp_path: Path) -> None:
    """//mix/a.wav is /mix/a.wav, wherever it is given."""
    audio = write_wav(tmp_path / "a.wav")
    db.add_audio(f"/{audio}")
    with db.track(f"/{audio}", "separation") as run:
        run.output(f"/{tmp_path}/stem.wav")
    recording, stem = db.get_all(ProcessedFile)
    assert (recording.original_path, stem.processed_path) == (
        str(audio),
        str(tmp_path / "stem.wav"),
    )
    assert db.get_file(f"/{audio}") == recording
    assert list(db.pending([f"/{audio}", str(audio)], "separation")) == []
