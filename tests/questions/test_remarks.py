"""What a reader of an answer has to know: weights under one name, tags that are several."""

from __future__ import annotations

from pathlib import Path

from support.measured import measure, recording
from support.run_rows import add_run

from voices_peewee import DatabaseManager

A, B = "a" * 64, "b" * 64
TOLD = "demucs:4.0 names 2 files of weights (aaaaaaaa, bbbbbbbb); model_hash tells them apart"


def test_weights_under_one_name(db: DatabaseManager) -> None:
    """Leaderboard and comparison say where one name of a model hides two files of weights."""
    for number, digest in enumerate((A, B, None)):
        for model in ("demucs:4.0", "svoice:1.2"):
            weights = digest if model == "demucs:4.0" else digest and A
            path = f"/mix/{number}.wav"
            add_run(db, path, model, run={"model_hash": weights}, si_snri=float(number))
    assert TOLD in db.leaderboard().notes
    assert TOLD in db.compare("demucs:4.0", "svoice:1.2").notes
    assert not any("weights" in note for note in db.leaderboard(where="^path:/mix/1.wav").notes)
    by_weights = db.leaderboard(by=("model", "model_hash"))
    assert not any("weights" in note for note in by_weights.notes)
    assert {row.model_hash for row in by_weights} == {A, B, None}


def test_recordings_that_changed_between_two_models(db: DatabaseManager) -> None:
    """A comparison of what two models made of a path says where that held different recordings."""
    one, other = "demucs:4.0", "svoice:1.2"
    paths, new = ("/mix/0.wav", "/mix/1.wav"), ("b0" * 32, "b1" * 32)
    for path, content in zip(paths, new, strict=True):
        measure(db, one, {path: 1.0}, source_hash=A)
        recording(db, path, content_hash=content)
    recording(db, "/mix_v1/0.wav", content_hash=A)  # the old one is kept beside
    measure(db, other, {paths[0]: 2.0}, source_hash=A)
    note = "recordings whose content changed between the runs compared: "
    assert note not in "".join((*db.compare(one, other).notes, *db.leaderboard().notes))
    for path, content in zip(paths, new, strict=True):
        measure(db, other, {path: 2.0}, source_hash=content, hours=1)
    for found in (db.compare(one, other), db.leaderboard()):
        assert f"{note}2" in found.notes
    assert f"{note}1" in db.compare(one, other, where=f"path:{paths[0]}").notes
    measure(db, one, {paths[0]: 1.0}, source_hash=new[0][:32], hours=2)
    assert f"{note}1" in db.compare(one, other).notes
    assert note not in "".join(db.leaderboard(by="file").notes)


def test_groups_by_tags(db: DatabaseManager) -> None:
    """``run.tag`` groups by the run's tags, ``tag`` by the speaker's; doubles are said."""
    ada = db.create_speaker("Ada", tags=["studio"])
    add_run(db, "/mix/1.wav", run={"tags": ["final", "gpu"]}, speaker=ada, si_snri=1.0)
    add_run(db, "/mix/2.wav", run={"tags": ["gpu"]}, si_snri=2.0)
    add_run(db, "/mix/3.wav", si_snri=3.0)
    several = "recordings with several tags are in the group of each"
    board = db.leaderboard(by="run.tag")
    assert {(row.labels[0], row.n, row.mean) for row in board} == {
        ("final", 1, 1.0),
        ("gpu", 2, 1.5),
        ("-", 1, 3.0),
    }
    assert several in board.notes
    for by in ("tag", "speaker.tag"):
        board = db.leaderboard(by=by)
        assert {(row.labels[0], row.n) for row in board} == {("studio", 1), ("-", 2)}
        assert several not in board.notes
    db.add_tags(ada, "female")
    board = db.leaderboard(by="tag")
    assert {(row.tag, row.n) for row in board} == {("studio", 1), ("female", 1), (None, 2)}
    assert several in board.notes


def test_groups_by_commit(db: DatabaseManager, tmp_path: Path) -> None:
    """What is known of an environment makes groups."""
    for name in ("a", "b"):
        with db.track(tmp_path / f"{name}.wav", "separation", model_type="demucs") as run:
            run.log(si_snri=1.0)
    (row,) = db.leaderboard(by="environment.python")
    assert (row.n, row.labels[0].count(".")) == (2, 2)
