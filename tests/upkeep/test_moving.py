"""Recorded paths follow their files, where the content agrees."""

from __future__ import annotations

import shutil
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from support.cli_tools import Outcome, run, usage
from support.wav_files import write_wav

from voices_peewee import DatabaseManager, ProcessedFile
from voices_peewee.upkeep.check import Finding

RUN = {"operation_type": "voice_separation", "model_type": "demucs"}


@pytest.fixture
def moved(db: DatabaseManager, tmp_path: Path) -> Path:
    """A corpus of two mixtures, a reference and a stem, which was moved from ``a`` to ``b``."""
    for number, name in enumerate(("1.wav", "2.wav", "ref.wav", "stem_1.wav", "stem_2.wav")):
        (tmp_path / "a").mkdir(exist_ok=True)
        write_wav(tmp_path / "a" / name, 4000, value=number)
    references = {"ada": str(tmp_path / "a/ref.wav"), "bob": "/elsewhere/bob.wav"}
    db.add_audio(tmp_path / "a/1.wav", metadata={"references": references})
    for name in ("1.wav", "2.wav"):
        with db.track(tmp_path / "a" / name, **RUN) as run:
            run.output(tmp_path / "a" / f"stem_{name}")
    return (tmp_path / "a").rename(tmp_path / "b")


def paths(db: DatabaseManager) -> list[tuple[Any, ...]]:
    rows = db.query(ProcessedFile).order_by(ProcessedFile.id)
    return [(row.original_path, row.processed_path) for row in rows]


def test_paths_move_with_their_files(db: DatabaseManager, moved: Path) -> None:
    """Recordings, their stems' rows, outputs and references are where the files are now."""
    old = str(moved.parent / "a")
    findings = db.check(files=True, path_map={old: moved})
    advice = "their content agrees, but no content is recorded of 1"  # the reference
    assert [(one.kind, one.what, one.advice) for one in findings] == [
        ("note", "5 recorded paths were moved", advice),
    ]
    assert paths(db) == [
        (f"{moved}/1.wav", None), (f"{moved}/1.wav", f"{moved}/stem_1.wav"),
        (f"{moved}/2.wav", None), (f"{moved}/2.wav", f"{moved}/stem_2.wav"),
    ]  # fmt: skip
    metadata = db.get_file(f"{moved}/1.wav").metadata
    assert metadata["references"] == {"ada": f"{moved}/ref.wav", "bob": "/elsewhere/bob.wav"}
    assert list(db.pending([f"{moved}/1.wav"], **RUN)) == []
    again = Finding("note", f"no recorded path lies in {old!r}", "recorded paths are absolute")
    assert db.check(files=True, path_map={old: moved}) == [again]


def test_an_outer_folder_of_a_map_holds_what_an_inner_one_does(
    db: DatabaseManager, moved: Path
) -> None:
    """Of nested old folders the longest counts, and none in which a path lies is called empty."""
    old = moved.parent / "a"
    roots = {str(old.parent): old.parent, str(old): moved, "/nowhere": moved}
    what = [one.what for one in db.check(files=True, path_map=roots)]
    assert what == ["5 recorded paths were moved", "no recorded path lies in '/nowhere'"]


def test_references_move_by_themselves(db: DatabaseManager, moved: Path) -> None:
    """References move where their recording has already; one that is not there is told."""
    references = {"ada": f"{moved.parent}/a/ref.wav", "eve": f"{moved.parent}/a/gone.wav"}
    db.add(ProcessedFile(filename="r", original_path="/r", metadata={"references": references}))
    what = [one.what for one in db.check(files=True, path_map={f"{moved.parent}/a": moved})]
    lost = f"the path '{references['eve']}' was not moved: '{moved}/gone.wav' is not there"
    assert what[:2] == ["6 recorded paths were moved", lost]
    assert db.get_file("/r").metadata["references"]["ada"] == f"{moved}/ref.wav"


def test_a_reference_stays_where_its_own_row_does(db: DatabaseManager, moved: Path) -> None:
    """What is recorded of a reference counts: one with other content is told, and stays."""
    old = f"{moved.parent}/a/2.wav"
    db.add(ProcessedFile(filename="r", original_path="/r", metadata={"references": {"ada": old}}))
    write_wav(moved / "2.wav", 4000, value=9)
    what = [one.what for one in db.check(files=True, path_map={f"{moved.parent}/a": moved})]
    stays = f"the path {old!r} was not moved: '{moved}/2.wav' has other content"
    assert what[:2] == ["4 recorded paths were moved", stays]
    assert db.get_file("/r").metadata["references"] == {"ada": old}


def test_other_content_stays_where_it_was(db: DatabaseManager, moved: Path) -> None:
    """What is missing, has other content or is recorded already is told, and stays."""
    old = str(moved.parent / "a")
    write_wav(moved / "1.wav", 4000, value=9)
    (moved / "stem_1.wav").unlink()
    (moved / "stem_2.wav").unlink()
    shutil.copy(moved / "2.wav", moved / "3.wav")
    db.add(ProcessedFile(filename="2.wav", original_path=f"{moved}/2.wav"))
    before = paths(db)
    findings = db.check(files=True, path_map={old: moved})
    assert [one.what for one in findings if "not moved" in one.what] == [
        f"the path '{old}/1.wav' was not moved: '{moved}/1.wav' has other content",
        f"the path '{old}/stem_1.wav' was not moved: '{moved}/stem_1.wav' is not there",
        f"the path '{old}/2.wav' was not moved: there is a recording '{moved}/2.wav' already",
        f"the path '{old}/stem_2.wav' was not moved: '{moved}/stem_2.wav' is not there",
    ]
    assert paths(db) == before


def test_of_two_roots_one_recording_goes_to_a_path(db: DatabaseManager, tmp_path: Path) -> None:
    """Where two people's copies become one, the second is told; rows of one path stay together."""
    for root in ("ann", "bob", "data"):
        (tmp_path / root).mkdir()
        write_wav(tmp_path / root / "x.wav", 4000)
    db.add_all(
        ProcessedFile(filename="x", original_path=f"{tmp_path}/{root}/x.wav", processed_path=output)
        for root, output in (("ann", "/1"), ("bob", "/2"), ("ann", "/3"))
    )
    roots = {f"{tmp_path}/{root}": f"{tmp_path}/data" for root in ("ann", "bob")}
    what = [one.what for one in db.check(files=True, path_map=roots)]
    x = f"{tmp_path}/data/x.wav"
    told = f"the path '{tmp_path}/bob/x.wav' was not moved: there is a recording {x!r} already"
    assert (what[0], what[1]) == ("2 recorded paths were moved", told)
    assert [one.original_path for one in db.get_all(ProcessedFile)] == [
        *(x, f"{tmp_path}/bob/x.wav", x)
    ]


def test_a_recording_goes_where_another_one_was(db: DatabaseManager, tmp_path: Path) -> None:
    """The place of one that moves is free for the next: data that moved on and on."""
    old, then, now = (tmp_path / name for name in ("a", "snr=5", "c"))
    for folder, value in ((then, 1), (old, 2)):
        folder.mkdir()
        db.add_audio(write_wav(folder / "1.wav", 4000, value=value))
    then.rename(now)
    old.rename(then)
    (note,) = db.check(files=True, path_map={str(old): then, str(then): now})
    assert note.what == "2 recorded paths were moved"
    assert paths(db) == [(f"{now}/1.wav", None), (f"{then}/1.wav", None)]
    now.rename(old)
    (note,) = db.check(files=True, path_map={str(now): old})
    assert note.what == "1 recorded path was moved"


def test_the_command(path: Path, tmp_path: Path) -> None:
    """``check --files --path-map`` moves, and exits 1 where something could not move."""
    (tmp_path / "a").mkdir()
    write_wav(tmp_path / "a/1.wav", 4000)
    with DatabaseManager(path).initialize() as db:
        references = {"ada": str(tmp_path / "a/1.wav")}
        db.add_audio(tmp_path / "a/1.wav", metadata={"references": references})
    (tmp_path / "a").rename(tmp_path / "b")
    option = ("--path-map", f"{tmp_path}/a={tmp_path}/b")
    is_none = "note: no recorded path lies in 'a'\n    recorded paths are absolute\n"
    assert is_none in run("--db", path, "check", "--files", "--path-map", "a=b").out
    needs = usage("voices check", "[OPTIONS]", "--path-map needs --files")
    assert run("--db", path, "check", *option) == (2, "", needs)
    assert run("--db", path, "check", "--files", *option) == Outcome(
        0,
        "note: 2 recorded paths were moved\n    their content agrees\n",
        "nothing is wrong, 1 note\n",
    )
    with DatabaseManager(path) as db:
        metadata = db.get_file(tmp_path / "b/1.wav").metadata
    assert metadata == {"references": {"ada": str(tmp_path / "b/1.wav")}}
    (tmp_path / "b/1.wav").unlink()
    assert run("--db", path, "check", "--files", "--path-map", f"{tmp_path}/b=/c").code == 1


def test_an_output_lies_with_a_recording_that_moved_meanwhile(
    db: DatabaseManager, moved: Path
) -> None:
    """An output that is told after another connection moved its recording has the new path."""
    before = f"{moved.parent}/a/1.wav"
    with db.track(before, "denoising") as run:
        connection = Thread(target=db.check, kwargs={"path_map": {f"{moved.parent}/a": moved}})
        connection.start()
        connection.join()
        run.output("/o/1.wav")
        run.output("/o/2.wav", speaker=db.create_speaker("Ada"))
    told = [row for row in paths(db) if str(row[1]).startswith("/o/")]
    assert told == [(f"{moved}/1.wav", "/o/1.wav"), (f"{moved}/1.wav", "/o/2.wav")]
    assert db.check() == []
