"""The afterlife of a run: model files, tags and notes, and its deletion."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.databases import stored
from support.wav_files import write_wav

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    errors,
)
from voices_peewee.models import ListeningTest, ListeningVote
from voices_peewee.runs.run import OutputWarning


def track(db: DatabaseManager, path: str | Path = "/mix/a.wav", **settings: Any) -> str:
    """Record a run with two outputs; return its run_id."""
    with db.track(path, "separation", model_type="demucs", **settings) as run:
        run.output(f"/stems/{run.run_id}_1.wav", si_snri=9.0)
        run.output(f"/stems/{run.run_id}_2.wav", si_snri=8.0)
    return run.run_id


def found(db: DatabaseManager, *words: str, noun: str = "history") -> int:
    return db.list_rows(noun, words, limit=0).total or 0


def test_tags_and_a_note(db: DatabaseManager) -> None:
    """Every row of a run has the tags and the note that it was recorded with."""
    run_id = track(db, tags=["final", "gpu", "final"], note="with the new window")
    rows = db.query(ProcessingHistory).all()
    assert [(row.tags, row.note) for row in rows] == [(["final", "gpu"], "with the new window")] * 2
    shown = db.show_run(run_id)
    assert (shown.tags, shown.note) == (("final", "gpu"), "with the new window")
    assert "tags: final, gpu\nnote: with the new window\n" in str(shown)


def test_a_run_from_elsewhere(db: DatabaseManager, tmp_path: Path) -> None:
    """``record_run`` keeps tags, a note and the model's file as ``track`` does."""
    weights = tmp_path / "model.ckpt"
    weights.write_bytes(b"1")
    start = "2026-11-01T12:00:00+00:00"
    more: dict[str, Any] = {"tags": "old", "note": "by hand", "model_file": weights}
    row = db.record_run("/mix/a.wav", "separation", start_time=start, **more)
    digest = hashlib.sha256(b"1").hexdigest()
    assert (row.tags, row.note, row.model_hash) == (["old"], "by hand", digest)


@pytest.mark.parametrize("none", [pd.NA, None, "", float("nan"), ()], ids=repr)
def test_no_tags_of_a_frame(db: DatabaseManager, none: Any) -> None:
    """What stands for no value in a DataFrame is no tag; its columns and arrays are lists."""
    assert db.show_run(track(db, tags=none)).tags == ()
    for several in (np.array(["a", "b"]), pd.Series(["a", "b"])):
        assert db.show_run(track(db, tags=several)).tags == ("a", "b")


def test_tags_of_the_run_and_of_the_speaker(db: DatabaseManager) -> None:
    """``tag:`` means either; ``run.tag:`` and ``speaker.tag:`` say which."""
    ada = db.create_speaker("Ada", tags=["studio"])
    track(db, "/mix/a.wav", speaker=ada)
    track(db, "/mix/b.wav", tags=["studio"])
    for noun in ("history", "performance"):
        assert found(db, "tag:studio", noun=noun) == 4
        assert found(db, "tags:studio", noun=noun) == 4
        assert found(db, "run.tag:studio", noun=noun) == 2
        assert found(db, "speaker.tag:studio", noun=noun) == 2
        assert found(db, "tag:studio", "^run.tag:studio", noun=noun) == 2
        assert found(db, "tag:", noun=noun) == 0
        assert found(db, "run.tag:", noun=noun) == 2
    assert found(db, "run.tag:studio", noun="files") == 1


def test_update_run(db: DatabaseManager) -> None:
    """Note and tags are set in all rows; what is not given stays."""
    run_id = track(db, tags=["a"], note="one")
    assert db.update_run(run_id[:8], note="two") == run_id
    assert db.show_run(run_id).tags == ("a",)
    db.update_run(1, tags=["b", "c"])
    assert {(row.note, *row.tags) for row in db.get_all(ProcessingHistory)} == {("two", "b", "c")}
    db.update_run(1, note=float("nan"))  # as a DataFrame has it
    assert db.show_run(run_id).note is None
    db.update_run(db.show_run(run_id), note=None, tags=())
    rows = db.execute_raw_query("SELECT note, tags FROM processing_history")
    assert rows == [{"note": None, "tags": None}] * 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tags": [1]}, "a tag is a text that is not empty, not 1"),
        ({"tags": [" "]}, "a tag is a text that is not empty, not ' '"),
        ({"note": 7}, "a note is a text, not 7"),
    ],
)
def test_what_is_no_tag_or_note(
    db: DatabaseManager, changes: dict[str, Any], sentence: str
) -> None:
    """A tag that is empty or no text is refused, as is a note, and nothing is written."""
    run_id = track(db, note="one")
    for act in (lambda: db.update_run(run_id, **changes), lambda: db.track("/a", "s", **changes)):
        with pytest.raises(errors.InvalidValueError) as caught:
            act()
        assert str(caught.value) == sentence
    assert db.show_run(run_id).note == "one"


def test_a_model_file(db: DatabaseManager, tmp_path: Path) -> None:
    """Runs keep the hash of the weights, also where others come with their size and time."""
    weights = tmp_path / "model.ckpt"
    hashes = []
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        os.utime(weights, (1_700_000_000, 1_700_000_000))
        hashes.append(hashlib.sha256(content).hexdigest())
        track(db, model_file=weights)
    assert [row.model_hash for row in db.get_all(ProcessingHistory)] == [
        hash_ for hash_ in hashes for _ in range(2)
    ]
    assert found(db, f"model_hash:{hashes[1][:10]}") == 2


def test_a_model_file_that_cannot_be_read(db: DatabaseManager, tmp_path: Path) -> None:
    """The run does not begin."""
    for path, reason in ((tmp_path / "x", "No such file or directory"), (tmp_path, None)):
        with pytest.raises(errors.InvalidValueError) as caught:
            track(db, model_file=path)
        reason = reason or "it is a directory"
        assert str(caught.value) == f"cannot read the model file {path!r}: {reason}"
    assert db.get_all(ProcessingHistory) == []


def test_delete_run(db: DatabaseManager, tmp_path: Path) -> None:
    """History, measurements and the run's own stems go; recording, other runs' stems stay."""
    mix = write_wav(tmp_path / "mix.wav", 400)
    bob = db.create_speaker("Bob")
    first = track(db, mix, speaker=bob)
    with (
        pytest.warns(OutputWarning, match="claimed by run"),
        db.track(mix, "separation", model_type="svoice") as other,
    ):
        other.output(f"/stems/{first}_2.wav", speaker=bob, si_snri=1.0)
    assert len(db.get_all(ProcessedFile)) == 3
    db.delete_run(first)
    assert [row.run_id for row in db.get_all(ProcessingHistory)] == [other.run_id]
    assert len(db.get_all(ModelPerformance)) == 1
    assert [file.kind for file in db.get_all(ProcessedFile)] == ["recording", "stem"]
    db.delete_run(other)
    assert [file.kind for file in db.get_all(ProcessedFile)] == ["recording"]
    assert mix.exists()
    with pytest.raises(errors.NotFoundError) as caught:
        db.delete_run(first)
    assert str(caught.value) == f"no run {first!r}; see 'voices list-history'"


def test_the_undo_of_a_deletion(db: DatabaseManager, path: Path, tmp_path: Path) -> None:
    """What a deletion wrote first brings the run back, with all that belongs to it."""
    db.create_speaker("Ada")
    run_id = track(db, speaker="Ada", tags=["final"], note="keep")
    before = {model: db.get_all(model) for model in (ProcessingHistory, ModelPerformance)}
    rows = stored(path)
    db.delete_run(run_id, export_to=tmp_path / "gone.jsonl")
    assert stored(path) != rows
    db.import_records(tmp_path / "gone.jsonl")
    for model, old in before.items():
        kept = [{**row.__data__, "id": 0, "processed_file": 0} for row in db.get_all(model)]
        assert [{**one, "processing_history": 0} for one in kept] == [
            {**row.__data__, "id": 0, "processed_file": 0, "processing_history": 0} for row in old
        ]
    assert [file.kind for file in db.get_all(ProcessedFile)] == ["recording", "stem", "stem"]
    with pytest.raises(errors.ExportError):
        db.delete_run(run_id, export_to=tmp_path / "gone.jsonl")
    assert found(db) == 2


def test_a_run_comes_back_with_the_votes_on_it(db: DatabaseManager, tmp_path: Path) -> None:
    """In another record too: the runs that it was heard against have their measurements."""
    first, second = track(db), track(db, "/mix/b.wav")
    a, b = (db.query(ProcessingHistory).filter_by(run_id=one).first() for one in (first, second))
    test = db.add(ListeningTest(name="night", question="which?"))
    vote = {"test": test, "a": a, "b": b, "listener": "l", "session": "s", "trial": "t"}
    db.add(ListeningVote(**vote, kind="pair", position=1, choice="a"))
    db.delete_run(first, export_to=tmp_path / "gone.jsonl")
    db.close()
    with DatabaseManager(tmp_path / "other.db").initialize() as other:
        other.import_records(tmp_path / "gone.jsonl")
        assert other.status()["rows"]["listening_votes"] == 1
        measured = sorted(row.si_snri or 0 for row in other.get_all(ModelPerformance))
        assert measured == [8.0, 9.0, 9.0]


def test_pending_by_the_weights(db: DatabaseManager, tmp_path: Path) -> None:
    """What another checkpoint of the same name did is left; a claim ends with its run."""
    weights, mix = tmp_path / "model.ckpt", write_wav(tmp_path / "mix.wav", 400)
    weights.write_bytes(b"one")
    track(db, mix, model_file=weights)
    asked: dict[str, Any] = {"model_type": "demucs"}
    assert list(db.pending([mix], "separation", **asked, model_file=weights)) == []
    weights.write_bytes(b"other")
    assert list(db.pending([mix], "separation", **asked)) == []
    left = db.pending([mix], "separation", **asked, model_file=weights, claim=True)
    for path in left:
        assert left.reason == "other version or parameters"
        track(db, path, model_file=weights)
    assert list(db.pending([mix], "separation", **asked, model_file=weights)) == []
    assert db.execute_raw_query("SELECT count(*) AS n FROM claims") == [{"n": 0}]


def test_weights_that_only_the_run_names(db: DatabaseManager, tmp_path: Path) -> None:
    """A claim of a source ends with its run, though only the run says which weights it has."""
    weights, mix = tmp_path / "model.ckpt", write_wav(tmp_path / "mix.wav", 400)
    weights.write_bytes(b"one")
    for path in db.pending([mix], "separation", model_type="demucs", claim=True):
        track(db, path, model_file=weights)
        assert db.execute_raw_query("SELECT count(*) AS n FROM claims") == [{"n": 0}]


def test_tags_of_a_run_that_goes_on(db: DatabaseManager) -> None:
    """What is said of a run while it goes on is in all of its rows when it has ended."""
    with db.track("/mix/a.wav", "separation", tags=["old"]) as run:
        run.output("/stems/a1.wav", si_snri=9.0)
        db.update_run(run, tags=["new"], note="now")
        run.output("/stems/a2.wav", si_snri=8.0)
    rows = db.get_all(ProcessingHistory)
    assert [(row.tags, row.note, row.status) for row in rows] == [(["new"], "now", "success")] * 2


def test_a_run_that_is_deleted_while_it_goes_on(db: DatabaseManager) -> None:
    """Neither its end nor a further output touches a run that got its ids, or brings it back."""

    def work(*, further: bool) -> None:
        with db.track("/mix/a.wav", "separation", model_type="A") as run:
            run.output("/stems/a1.wav", si_snri=-1.0)
            db.delete_run(run)
            with db.track("/mix/b.wav", "separation", model_type="B") as other:
                other.output("/stems/b1.wav", si_snri=7.0)
            if further:
                run.output("/stems/a2.wav", si_snri=-2.0)

    for further in (False, True):
        with pytest.raises(errors.NotFoundError):
            work(further=further)
        rows = db.get_all(ModelPerformance)
        assert [(row.model_type, row.si_snri) for row in rows] == [("B", 7.0)]
        assert [row.model_type for row in db.get_all(ProcessingHistory)] == ["B"]
        db.delete_run(db.get_all(ProcessingHistory)[0])


def test_numpys_integers_name_a_run(db: DatabaseManager) -> None:
    """An id out of a DataFrame is one to ``show_run`` and ``update_run``."""
    run_id, key = track(db), np.int64(1)
    assert db.show_run(key).run_id == run_id
    assert db.update_run(key, note="best") == run_id


@pytest.mark.parametrize("key", [float("nan"), b"1", [1], None])
def test_what_is_no_key_names_no_run(db: DatabaseManager, key: Any) -> None:
    """What is neither an id nor a run_id nor a run is not found, with one sentence."""
    with pytest.raises(errors.NotFoundError, match=r"^no run "):
        db.show_run(key)
