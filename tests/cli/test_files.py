"""The commands for files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.cli_tools import run, terminal, usage
from support.data_sets import KALDI, write_files

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

AUDIO = Path(__file__).parents[2] / "examples" / "audio"


@pytest.fixture
def studio(path: Path) -> Path:
    """A database with a speaker and a file that has two runs, one of them measured."""
    with DatabaseManager(path).initialize() as db:
        db.add(Speaker(name="Ada"))
        file = ProcessedFile(
            filename="a.wav", original_path="/audio/a.wav", metadata={"room": 1, "mood": "calm"}
        )
        runs = [ProcessingHistory(processed_file=file, operation_type="x") for _ in range(2)]
        db.add_all([file, *runs, ModelPerformance(processing_history=runs[0])])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two recordings."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("ada.flac", "bob.wav"):
        shutil.copy(AUDIO / name, folder)
    return folder


def file(path: Path, key: int = 1) -> ProcessedFile:
    with DatabaseManager(path) as db:
        return db.get_file(key)


def test_add_files(path: Path, folder: Path) -> None:
    """A folder is added once; what was added is told."""
    run("--db", path, "init")
    run("--db", path, "add-speaker", "Ada")
    args = ["add-files", folder, "--speaker", "Ada", "--metadata", "room=3"]
    assert run("--db", path, *args) == (0, "", "2 added\n")
    assert run("--db", path, *args) == (0, "", "2 unchanged\n")
    shutil.copy(AUDIO / "bob.mp3", folder / "bob.wav")
    assert run("--db", path, *args) == (0, "", "1 updated, 1 unchanged\n")
    added = file(path)
    assert (added.filename, added.speaker_id, added.metadata) == ("ada.flac", 1, {"room": 3})


def test_bad_files_are_named_and_the_good_ones_kept(path: Path, folder: Path) -> None:
    """A file that is no audio does not stop the others, and the exit status tells."""
    run("--db", path, "init")
    (folder / "bad.wav").write_text("no audio")
    missing = folder / "missing.wav"
    assert run("--db", path, "add-files", folder, missing) == (
        1,
        "",
        (
            f"Error: cannot read {str(folder / 'bad.wav')!r}: it is not audio, or its header is "
            f"damaged\nError: cannot read {str(missing)!r}: there is no such file\n"
            "2 added, 2 failed\n"
        ),
    )


def test_file_name_that_is_no_text(path: Path, folder: Path) -> None:
    """A name that is no text, or has control characters, does no harm."""
    run("--db", path, "init")
    for name in (b"\xff.wav", b"\x1b[31m.wav"):
        shutil.copy(AUDIO / "bob.wav", os.fsencode(folder) + b"/" + name)
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_text("no audio")
    done = run("--db", path, "add-files", folder)
    assert (done.code, done.out, "\x1b" in done.err) == (1, "", False)
    assert "/\\udcff.wav': it is not audio" in done.err


def test_a_value_needs_its_key(studio: Path, folder: Path) -> None:
    """What is no KEY=VALUE is an error of usage."""
    message = "Invalid value for '--metadata': 'room' is not KEY=VALUE"
    expected = usage("voices add-files", "[OPTIONS] [PATH]...", message)
    assert run("--db", studio, "add-files", folder, "--metadata", "room") == (2, "", expected)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("4.10", "4.10"),
        ("1e5", "1e5"),
        ('{"a": [1]}', {"a": [1]}),
        ("a=b", "a=b"),
        ("1e-05", 1e-05),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=lambda value: str(value)[:10],
)
def test_metadata_values(studio: Path, text: str, value: object) -> None:
    """A value is JSON where it can be read so; a number that JSON writes otherwise is text."""
    args = ["update-file", "1", "--metadata", f"x={text}"]
    numbers = {"4.10": "4.1", "1e5": "100000.0"}
    note = f"note: x={text} is taken as text; the number is written {numbers.get(text)}\n"
    said = f"{note * (text in numbers)}updated file 1 'a.wav'\n"
    assert run("--db", studio, *args) == (0, "", said)
    assert file(studio).metadata == {"room": 1, "mood": "calm", "x": value}


def test_update_file(studio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata is merged, and the processed path is made absolute or removed."""
    monkeypatch.chdir(tmp_path)
    args = ["--metadata", "room=2", "--processed-path", "out.wav"]
    done = run("--db", studio, "update-file", "/audio/a.wav", *args)
    assert done == (0, "", "updated file 1 'a.wav'\n")
    changed = file(studio)
    assert changed.metadata == {"room": 2, "mood": "calm"}
    assert changed.processed_path == str(tmp_path / "out.wav")
    run("--db", studio, "update-file", "1", "--processed-path", "")
    assert file(studio).processed_path is None


def test_update_of_nothing(studio: Path) -> None:
    """An update without a change is an error of usage."""
    message = "nothing to change; give --metadata, --processed-path, --speaker or --no-speaker"
    expected = usage("voices update-file", "[OPTIONS] FILE", message)
    assert run("--db", studio, "update-file", "1") == (2, "", expected)


def test_update_of_the_speaker(studio: Path) -> None:
    """A file gets a speaker, and loses it again; both at once make no sense."""
    done = (0, "", "updated file 1 'a.wav'\n")
    assert run("--db", studio, "update-file", "/audio/a.wav", "--speaker", "Ada") == done
    assert file(studio).speaker_id == 1
    assert run("--db", studio, "update-file", "1", "--no-speaker") == done
    assert file(studio).speaker_id is None
    both = run("--db", studio, "update-file", "1", "--no-speaker", "--speaker", "Ada")
    message = "--speaker and --no-speaker exclude each other"
    assert both == (2, "", usage("voices update-file", "[OPTIONS] FILE", message))


def test_delete_file(studio: Path) -> None:
    """Deleting a file says what goes along."""
    done = run("--db", studio, "delete-file", "1", "--yes")
    assert done == (0, "", "deleted file 1 'a.wav' with 2 runs and 1 measurement\n")
    with DatabaseManager(studio) as db:
        assert [len(db.get_all(model)) for model in (ProcessedFile, ModelPerformance)] == [0, 0]


@pytest.mark.once
def test_progress_is_for_terminals(path: Path, folder: Path) -> None:
    """A terminal sees a bar that goes away, with errors above it in whole lines."""
    run("--db", path, "init")
    (folder / "bad.wav").write_text("no audio")
    code, seen = terminal("--db", path, "add-files", folder, columns=200)
    assert code == 1
    assert "Adding" in seen
    assert f"Error: cannot read {str(folder / 'bad.wav')!r}: it is not audio" in seen
    assert seen.splitlines()[-1].endswith("2 added, 1 failed")


def test_add_files_of_a_manifest(path: Path, tmp_path: Path) -> None:
    """A manifest's recordings are added, and what was left out is told."""
    write_files(tmp_path / "tt", KALDI)
    run("--db", path, "init")
    told = (
        "note: 1 left out: a command, which is not run\n"
        "note: 1 left out: a place in an archive\n"
        "note: 2 files not there; the manifest's word is taken\n"
        "kaldi: 2 added, 2 new speakers\n"
    )
    args = ["add-files", "--manifest", tmp_path / "tt", "--path-map", "/d=/e"]
    assert run("--db", path, *args) == (0, "", told)
    assert file(path).original_path == "/e/mix/utt_a.wav"
    assert run("--db", path, *args, "--manifest-format", "kaldi").err.endswith("2 unchanged\n")


def test_bad_manifest_lines_are_told(path: Path, tmp_path: Path) -> None:
    """Each bad line is named, nothing is written, and the exit status is 1."""
    write_files(tmp_path, {"m.csv": "ID,wav\n1\n2,/a.wav\n3\n"})
    run("--db", path, "init")
    place = repr(str(tmp_path / "m.csv"))
    reason = "the header has 2 columns, and this record has 1"
    told = (
        f"bad: {place}, line 4: {reason}\nError: {place}, line 2: {reason}; and 1 more bad record\n"
    )
    assert run("--db", path, "add-files", "--manifest", tmp_path / "m.csv") == (1, "", told)
    with DatabaseManager(path) as db:
        assert db.get_all(ProcessedFile) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "name files and folders, or a manifest with --manifest"),
        (["--manifest", "m.csv", "a.wav"], "name files and folders, or a manifest with --manifest"),
        (
            ["--manifest", "m.csv", "--exact"],
            "--speaker, --metadata and --exact are for files, not a manifest",
        ),
        (["a.wav", "--path-map", "/a=/b"], "--manifest-format and --path-map need --manifest"),
        (
            ["--manifest", "m.csv", "--path-map", "/a"],
            "Invalid value for '--path-map': '/a' is not OLD=NEW",
        ),
        (
            ["--manifest", "m.csv", "--path-map", "/snr=5=b"],
            (
                "Invalid value for '--path-map': '/snr=5=b' has several '='; name NEW by its path"
                " from / on"
            ),
        ),
        (
            ["--manifest", "m.csv", "--path-map", "/a=/b", "--path-map", "/a=/c"],
            "Invalid value for '--path-map': '/a' is mapped to '/b' and to '/c'",
        ),
    ],
    ids=["nothing", "both", "others", "map alone", "no map", "two signs", "two places"],
)
def test_manifest_usage(path: Path, args: list[str], message: str) -> None:
    """What a manifest cannot stand beside is an error of usage."""
    wanted = usage("voices add-files", "[OPTIONS] [PATH]...", message)
    assert run("--db", path, "add-files", *args) == (2, "", wanted)
