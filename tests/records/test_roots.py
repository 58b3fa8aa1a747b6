"""The same recording under another root: its path first, else its content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.cli_tools import run
from support.wav_files import write_wav

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, errors
from voices_peewee.records import roots
from voices_peewee.records.recordings import recordings_in
from voices_peewee.records.roots import Moved

RUN = {"operation_type": "voice_separation", "model_type": "demucs", "model_version": "4.0"}


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were hashed to find recordings."""
    names: list[str] = []
    hash_of = roots.content_hash

    def noting(path: str) -> str:
        names.append(Path(path).name)
        return hash_of(path)

    monkeypatch.setattr(roots, "content_hash", noting)
    return names


def corpus(folder: Path, count: int) -> list[Path]:
    """Write recordings of one length and different content."""
    folder.mkdir()
    return [write_wav(folder / f"{n}.wav", 4000, value=n) for n in range(count)]


def track(db: DatabaseManager, path: Path, **settings: str) -> ProcessedFile:
    with db.track(path, **{**RUN, **settings}) as run:
        run.log(si_snri=float(path.stem) + 1)
    row = db.query(ProcessingHistory).filter_by(run_id=run.run_id).first()
    assert row is not None
    return row.processed_file


def test_only_what_is_new_is_hashed(db: DatabaseManager, tmp_path: Path, hashed: list[str]) -> None:
    """Known paths are not read at all, and new ones only where a recording is gone."""
    known = corpus(tmp_path / "a", 6)
    for path in known[:4]:
        track(db, path)
    assert list(db.pending(known, **RUN)) == known[4:]
    assert hashed == []  # all that is known is there
    (tmp_path / "b").mkdir()
    moved = shutil.move(known[0], tmp_path / "b" / "0.wav")
    paths = [*known[1:], moved]
    assert list(db.pending(paths, **RUN)) == known[4:]
    assert sorted(hashed) == ["0.wav", "4.wav", "5.wav"]
    del hashed[:]
    assert list(db.pending((path for path in paths), **RUN)) == known[4:]
    assert sorted(hashed) == ["0.wav", "4.wav", "5.wav"]


def test_a_recording_under_another_root_is_the_same(db: DatabaseManager, tmp_path: Path) -> None:
    """Its runs go to the row that is there, and pending and where know it."""
    known = corpus(tmp_path / "a", 2)
    db.add_audio(known[0], metadata={"room": "hall"})
    rows = [track(db, path) for path in known]
    (tmp_path / "a").rename(tmp_path / "b")
    moved = [tmp_path / "b" / path.name for path in known]
    assert list(db.pending(moved, **RUN)) == []
    other = {**RUN, "model_type": "svoice"}
    assert list(db.pending(moved, **other, where="metadata.room:hall")) == moved[:1]
    assert [track(db, path, model_type="svoice").id for path in moved] == [row.id for row in rows]
    assert list(db.pending(moved, **other, claim=True)) == []
    assert len(db.get_all(ProcessedFile)) == 2
    found = db.compare("demucs:4.0", "svoice:4.0")
    assert (found.n, found.mean_difference) == (2, 0.0)


def test_what_has_moved_is_not_added_again(db: DatabaseManager, tmp_path: Path) -> None:
    """A folder or manifest at its new place makes no second rows: what is done stays done."""
    known = corpus(tmp_path / "a", 2)
    rows = [track(db, path) for path in known]
    (tmp_path / "a").rename(tmp_path / "b")
    moved = [tmp_path / "b" / path.name for path in known]
    added = list(db.add_audio_files([tmp_path / "b"], metadata={"id": "u"}, on_error=pytest.fail))
    assert [(one.file.id, one.outcome) for one in added] == [(row.id, "moved") for row in rows]
    manifest = tmp_path / "b" / "metadata.csv"
    manifest.write_text("file_name,room\n0.wav,hall\n1.wav,lab\n")
    done = db.add_manifest(manifest)
    assert (done.added, done.updated, done.unchanged, done.moved) == (0, 0, 0, 2)
    assert list(db.pending(moved, **RUN)) == []
    told = [(one.original_path, one.metadata) for one in db.get_all(ProcessedFile)]
    rooms = [{"id": "u", "room": room} for room in ("hall", "lab")]  # another list's id stays
    assert told == [*zip(map(str, known), rooms, strict=True)]


def test_a_manifest_of_what_moved_and_has_metadata_of_another_program(
    db: DatabaseManager, tmp_path: Path
) -> None:
    """Metadata that are no object are one sentence, as where nothing moved."""
    (known,) = corpus(tmp_path / "a", 1)
    db.add_audio(known)
    db.execute_raw_query("UPDATE processed_files SET metadata = '[1]'", write=True)
    (tmp_path / "a").rename(tmp_path / "b")
    manifest = tmp_path / "b" / "metadata.csv"
    manifest.write_text("file_name,room\n0.wav,hall\n")
    with pytest.raises(errors.InvalidValueError) as caught:
        db.add_manifest(manifest)
    assert str(caught.value) == "the metadata of file 1 is no JSON object; see 'voices check'"


def test_one_row_is_not_two_files_that_are_there(db: DatabaseManager, tmp_path: Path) -> None:
    """What moved has one new path: a copy beside it, and what has another name, are told apart."""
    (known,) = corpus(tmp_path / "a", 1)
    row = db.add_audio(known, metadata={"id": "x"})
    (tmp_path / "a").rename(tmp_path / "b")
    copies = [tmp_path / "b" / "1.wav", tmp_path / "c" / "0.wav"]
    copies[1].parent.mkdir()
    for copy in copies:
        shutil.copy(tmp_path / "b" / "0.wav", copy)
    added = list(db.add_audio_files([tmp_path / "b", tmp_path / "c"], on_error=pytest.fail))
    assert sorted(one.outcome for one in added) == ["added", "added", "moved"]
    assert len({one.file.id for one in added}) == 3
    assert db.get_file(row.id).metadata == {"id": "x"}


def test_equal_recordings_that_were_renamed_are_nobodys(
    db: DatabaseManager, tmp_path: Path
) -> None:
    """Which of two is which nobody can tell; none is taken for done because the other is."""
    known = [tmp_path / "a" / name / "0.wav" for name in ("s1", "s2")]
    for path in known:
        write_wav(path)
        db.add_audio(path)
    track(db, known[0])
    (tmp_path / "b").mkdir()
    renamed = [path.rename(tmp_path / "b" / f"{path.parent.name}.wav") for path in known]
    assert list(db.pending(renamed, **RUN)) == renamed


def test_a_link_that_leads_nowhere_is_gone(db: DatabaseManager, tmp_path: Path) -> None:
    """A recording that was known by a link is known where its file went."""
    (data,) = corpus(tmp_path / "data", 1)
    link = tmp_path / "0.wav"
    link.symlink_to(data)
    row = track(db, link)
    (tmp_path / "data").rename(tmp_path / "data2")
    (added,) = db.add_audio_files([tmp_path / "data2"], on_error=pytest.fail)
    assert (added.outcome, added.file.id) == ("moved", row.id)


def test_outputs_that_moved_are_no_recordings(db: DatabaseManager, tmp_path: Path) -> None:
    """Of a folder with stems beside their recordings that moved, nothing is new or to be done."""
    (known,) = corpus(tmp_path / "a", 1)
    with db.track(known, **RUN) as a_run:
        stem = a_run.output(write_wav(tmp_path / "a" / "stem.wav", 4000, value=7))
    assert stem is not None
    (tmp_path / "a").rename(tmp_path / "b")
    new, said = [tmp_path / "b" / name for name in ("0.wav", "stem.wav")], list[str]()
    assert [*map(str, recordings_in(db.store, tmp_path / "b", said.append))] == [str(new[0])]
    assert said == [
        f"note: outputs of runs in {str(tmp_path / 'b')!r} left out: 1; name them to have them"
    ]
    added = list(db.add_audio_files([tmp_path / "b"], on_error=pytest.fail))
    told = {one.file.id: one.outcome for one in added}
    assert told == {stem.recording_id: "moved", stem.id: "moved"}
    (named,) = db.add_audio_files(new[1:], on_error=pytest.fail)
    assert (named.outcome, named.file.recording_id) == ("added", None)


def test_a_copy_of_a_recording_is_no_output_that_moved(db: DatabaseManager, tmp_path: Path) -> None:
    """The outputs of a baseline are the mixtures themselves; they go, and a copy of these comes."""
    (known,) = corpus(tmp_path / "a", 1)
    with db.track(known, **RUN) as a_run:
        a_run.output(shutil.copy(known, tmp_path / "estimate.wav"))
    (tmp_path / "estimate.wav").unlink()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    said = list[str]()
    there = [*map(str, recordings_in(db.store, tmp_path / "b", said.append))]
    assert (there, said) == ([str(tmp_path / "b" / "0.wav")], [])
    (added,) = db.add_audio_files([tmp_path / "b"], on_error=pytest.fail)
    assert (added.outcome, added.file.recording_id) == ("added", None)


def test_a_folder_is_hashed_only_where_an_output_is_gone(
    db: DatabaseManager, tmp_path: Path, hashed: list[str]
) -> None:
    """What is left of a data set of clips of one length is not read while the outputs are there."""
    first, *others = corpus(tmp_path / "a", 3)
    with db.track(first, **RUN) as a_run:
        a_run.output(write_wav(tmp_path / "stem.wav", 4000, value=7))
    assert len(list(recordings_in(db.store, tmp_path / "a", pytest.fail))) == 3
    assert hashed == []
    (tmp_path / "stem.wav").rename(tmp_path / "a" / "stem.wav")
    assert len(list(recordings_in(db.store, tmp_path / "a", print))) == 3
    assert sorted(hashed) == [*(path.name for path in others), "stem.wav"]


def test_what_has_moved_is_told_in_the_shell(tmp_path: Path) -> None:
    """add-files says that the recorded paths stay, and what writes the new ones."""
    database, old, new = tmp_path / "voices.db", tmp_path / "a", tmp_path / "b"
    assert run("--db", database, "init").code == 0
    for path in corpus(old, 2):
        assert run("--db", database, "add-files", path).code == 0
    old.rename(new)
    note = "note: the record has their old paths; see voices check --files --path-map OLD=NEW\n"
    assert run("--db", database, "add-files", new) == (0, "", f"2 moved\n{note}")
    (new / "metadata.csv").write_text("file_name\n0.wav\n1.wav\n")
    assert run("--db", database, "add-files", "--manifest", new) == (0, "", f"hf: 2 moved\n{note}")
    assert run("--db", database, "check", "--files", "--path-map", f"{old}={new}").code == 0
    (new / "metadata.csv").unlink()
    assert run("--db", database, "add-files", new) == (0, "", "2 unchanged\n")


def test_a_claim_ends_with_the_run_of_a_moved_recording(
    db: DatabaseManager, tmp_path: Path
) -> None:
    """What is handed out under its new path is not handed out again once it ran."""
    (path,) = corpus(tmp_path / "a", 1)
    db.add_audio(path)
    (tmp_path / "a").rename(tmp_path / "b")
    moved = tmp_path / "b" / path.name
    for source in db.pending([moved], **RUN, claim=True):
        assert source == moved
        track(db, source)
    assert list(db.pending([moved], **RUN)) == []
    assert db.execute_raw_query("SELECT count(*) AS n FROM claims") == [{"n": 0}]


def test_a_copy_is_another_recording_and_counts_once(db: DatabaseManager, tmp_path: Path) -> None:
    """Where the known path is there, a copy gets a row; questions take both for one."""
    (path,) = corpus(tmp_path / "a", 1)
    track(db, path)
    copy = Path(shutil.copytree(tmp_path / "a", tmp_path / "b")) / path.name
    assert list(db.pending([copy], **RUN)) == [copy]
    track(db, copy, model_type="svoice")
    assert len(db.get_all(ProcessedFile)) == 2
    assert db.compare("demucs:4.0", "svoice:4.0").n == 1


@pytest.mark.parametrize("names", [("1.wav", "2.wav"), ("test/1.wav", "train/1.wav")], ids=str)
def test_of_one_content_the_place_tells(
    db: DatabaseManager, tmp_path: Path, names: tuple[str, str]
) -> None:
    """Of two recordings of one content that moved, each keeps its runs, and nothing is left."""
    old, new = tmp_path / "a", tmp_path / "b"
    rows = [db.add_audio(write_wav(old / name, 4000, value=0)) for name in names]
    old.rename(new)
    paths = [new / name for name in names]
    assert [track(db, paths[1]).id] == [rows[1].id]
    assert list(db.pending(paths, **RUN)) == paths[:1]
    assert track(db, paths[0]).id == rows[0].id
    assert list(db.pending(paths, **RUN)) == []
    for path, row in zip(paths, rows, strict=True):
        assert db.add_audio(path, metadata={"at": str(path)}).id == row.id
    assert [row.metadata for row in db.get_all(ProcessedFile)] == [{"at": str(p)} for p in paths]


@pytest.mark.parametrize("claim", [False, True])
def test_what_changed_before_it_moved_is_left(
    db: DatabaseManager, tmp_path: Path, *, claim: bool
) -> None:
    """A run of what a moved recording was before it changed does not make it done."""
    (path,) = corpus(tmp_path / "a", 1)
    track(db, path)
    write_wav(path, 4000, value=9)
    track(db, path, model_type="svoice")
    (tmp_path / "a").rename(tmp_path / "b")
    moved = tmp_path / "b" / path.name
    assert list(db.pending([moved], **{**RUN, "model_type": "svoice"})) == []
    left = db.pending([moved], **RUN, claim=claim)
    assert [(source, left.reason) for source in left] == [(moved, "content changed")]
    track(db, moved)
    assert list(db.pending([moved], **RUN)) == []


def test_runs_from_elsewhere_know_it_too(db: DatabaseManager, tmp_path: Path) -> None:
    """record_run of a moved recording hangs on the row that is there."""
    (path,) = corpus(tmp_path / "a", 1)
    row = db.add_audio(path)
    (tmp_path / "a").rename(tmp_path / "b")
    run = db.record_run(tmp_path / "b" / path.name, **RUN, start_time="2026-11-01T00:00:00Z")
    assert run.processed_file_id == row.id


def test_content_that_changed_is_no_other_recording(db: DatabaseManager, tmp_path: Path) -> None:
    """The same size is not enough, and a file that cannot be read stays what it is called."""
    first, second = corpus(tmp_path / "a", 2)
    db.add_audio(first)
    first.unlink()
    moved = Moved(db.store)
    assert moved.find(str(second)) == str(second)
    assert moved.find(str(first)) == str(first)
    assert moved.find("https://example.org/0.wav") == "https://example.org/0.wav"
    assert moved.find(7) == 7
