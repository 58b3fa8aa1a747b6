"""Manifests of data sets: what each format says, what is left out, and what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.data_sets import (
    KALDI,
    LIBRIMIX,
    SPEECHBRAIN,
    cut,
    recording,
    write_files,
    write_lines,
)
from support.wav_files import digest, write_wav

from voices_peewee import DatabaseManager, ProcessedFile, Speaker
from voices_peewee.errors import AmbiguousNameError, InputError, InvalidValueError, QueryError
from voices_peewee.exchange.adding import AddedManifest
from voices_peewee.exchange.manifests import FORMATS

AUDIO = Path(__file__).parents[2] / "examples" / "audio"


def files(db: DatabaseManager) -> dict[str, ProcessedFile]:
    return {str(row.original_path): row for row in db.get_all(ProcessedFile)}


def names(db: DatabaseManager) -> list[str]:
    return [row.name for row in db.get_all(Speaker)]


def write(path: Path, text: str) -> Path:
    return write_files(path.parent, {path.name: text}) / path.name


def test_every_column_of_a_row_is_kept(db: DatabaseManager, tmp_path: Path) -> None:
    """Columns that differ in their letters only are columns of their own."""
    line = '{"file_name": "/d/a.wav", "ID": 1, "id": 2, "mixture_ID": 3}\n'
    db.add_manifest(write(tmp_path / "metadata.jsonl", line))
    (file,) = files(db).values()
    assert file.metadata == {"id": "2", "ID": 1, "mixture_ID": 3}


def test_a_number_that_is_none_changes_nothing_again(db: DatabaseManager, tmp_path: Path) -> None:
    """NaN and Infinity are kept as texts, and the same manifest twice is the same."""
    line = '{"file_name": "/d/a.wav", "snr": NaN, "more": {"gains": [1, -Infinity]}}\n'
    path = write(tmp_path / "metadata.jsonl", line)
    assert db.add_manifest(path) == AddedManifest("hf", added=1, absent=1)
    assert db.add_manifest(path) == AddedManifest("hf", unchanged=1, absent=1)
    (file,) = files(db).values()
    assert file.metadata == {"id": "a", "snr": "nan", "more": {"gains": [1, "-inf"]}}


def test_librimix(db: DatabaseManager, tmp_path: Path) -> None:
    """Lengths count in samples of the folder's rate, and the ids tell whose voices they are."""
    done = db.add_manifest(write(tmp_path / "mixture_test.csv", LIBRIMIX))
    assert done == AddedManifest("librimix", added=2, absent=2, speakers=4)
    first, second = files(db).values()
    assert (first.filename, first.duration, first.sample_rate) == ("m1.wav", 3.0, 8000)
    assert (second.duration, second.sample_rate) == (2.0, 16000)
    assert first.metadata == {
        "id": "11-1-01_22-2-02",
        "references": {"11": "/d/s1/m1.wav", "22": "/d/s2/m1.wav"},
        "noise": "/d/noise/m1.wav",
    }
    assert second.metadata == {
        "id": "x_y",
        "references": {"s1": "/d/s1/m2.wav", "s2": "/d/s2/m2.wav"},
    }
    assert names(db) == ["11", "22", "s1", "s2"]


def test_speechbrain(db: DatabaseManager, tmp_path: Path) -> None:
    """A duration of 1.0 in every row is a placeholder; blanks after commas are nothing."""
    done = db.add_manifest(write(tmp_path / "test.csv", SPEECHBRAIN))
    assert done == AddedManifest("speechbrain", added=2, absent=2, speakers=2)
    row = db.get_file("/d/mix/a.wav")
    assert row.duration is None
    assert row.metadata == {"id": "0", "references": {"s1": "/d/s1/a.wav", "s2": "/d/s2/a.wav"}}


def test_who_speaks_is_no_reference(db: DatabaseManager, tmp_path: Path) -> None:
    """A column that is called as Kaldi's tables are says nothing of a path."""
    write_files(tmp_path, {"m.csv": "ID,mix_wav,s1_wav,spk1\n0,/d/a.wav,/d/s1/a.wav,Eve\n"})
    assert db.add_manifest(tmp_path / "m.csv").speakers == 1
    assert db.get_file("/d/a.wav").metadata == {"id": "0", "references": {"s1": "/d/s1/a.wav"}}


def test_speechbrain_json(db: DatabaseManager, tmp_path: Path) -> None:
    """An object by id is read as well, and a folder's name in braces is what --path-map says."""
    path = tmp_path / "train.json"
    inner = {"wav": "{data_root}/a.wav", "duration": 2.5, "spk_id": "ada"}
    write_lines(path, {"a": inner})
    with pytest.raises(InputError) as caught:
        db.add_manifest(path)
    assert str(caught.value) == (
        f"{str(path)!r}, entry 'a': '{{data_root}}' stands for a folder; "
        "name it: --path-map '{data_root}=FOLDER'"
    )
    done = db.add_manifest(path, path_map={"{data_root}": "/d"})
    assert done == AddedManifest("speechbrain", added=1, absent=1, speakers=1)
    row = db.get_file("/d/a.wav")
    assert (row.duration, row.speaker.name) == (2.5, "ada")


@pytest.mark.parametrize("told", [2, "ab", {"a": 1}, True])
def test_a_key_of_ones_own_names_no_speakers(
    db: DatabaseManager, tmp_path: Path, told: object
) -> None:
    """What is called speakers and is no list of them is kept, and makes nobody."""
    line = json.dumps({"u1": {"wav": "/d/a.wav", "speakers": told}})
    assert db.add_manifest(write(tmp_path / "m.json", line)).speakers == 0
    (file,) = files(db).values()
    assert (file.metadata, names(db)) == ({"id": "u1", "speakers": told}, [])


def test_hugging_face(db: DatabaseManager, tmp_path: Path) -> None:
    """Paths are those of the metadata's folder; other columns are kept, numbers as numbers."""
    write_files(
        tmp_path / "csv", {"metadata.csv": "file_name,s1_file_name,room,snr\na.wav,s1.wav,007,-5\n"}
    )
    done = db.add_manifest(tmp_path / "csv")
    assert done == AddedManifest("hf", added=1, absent=1, speakers=1)
    lines = {"file_name": "b.wav", "sources_file_names": ["x.wav", "y.wav"], "room": None}
    (tmp_path / "lines").mkdir()
    db.add_manifest(write_lines(tmp_path / "lines" / "metadata.jsonl", lines))
    first, second = (row.metadata for row in files(db).values())
    references = {"s1": str(tmp_path / "csv/s1.wav")}
    assert first == {"id": "a", "references": references, "room": "007", "snr": -5}
    folder = tmp_path / "lines"
    references = {"s1": str(folder / "x.wav"), "s2": str(folder / "y.wav")}
    assert second == {"id": "b", "references": references}


def test_kaldi(db: DatabaseManager, tmp_path: Path) -> None:
    """A path may hold blanks; commands are never run, and archives are left out, with a note."""
    done = db.add_manifest(write_files(tmp_path, KALDI))
    notes = ["1 left out: a command, which is not run", "1 left out: a place in an archive"]
    assert done == AddedManifest("kaldi", added=2, absent=2, speakers=2, notes=notes)
    row = db.get_file("/d/mix/utt b.wav")
    references = {"spk1": "/d/s1/utt_b.wav", "spk2": "/d/s2/utt_b.wav"}
    assert row.metadata == {"id": "utt_b", "references": references}
    assert (row.duration, row.speaker_id) == (4.0, None)


@pytest.mark.parametrize("name", ["/d/mix/a.wav", "mix/a.wav"])
def test_an_id_of_kaldi_may_be_the_path(db: DatabaseManager, tmp_path: Path, name: str) -> None:
    """As ``awk '{print $1, $1}'`` makes it of a list of files."""
    assert db.add_manifest(write(tmp_path / "wav.scp", f"{name} /d/mix/a.wav\n")).added == 1
    assert db.get_file("/d/mix/a.wav").metadata == {"id": name}


def test_kaldi_without_references(db: DatabaseManager, tmp_path: Path) -> None:
    """Where there are no references, utt2spk says who speaks."""
    write_files(tmp_path, {"wav.scp": "a /d/a.wav\n", "utt2spk": "a ada\n"})
    db.add_manifest(tmp_path / "wav.scp")
    assert db.get_file("/d/a.wav").speaker.name == "ada"


def test_lhotse(db: DatabaseManager, tmp_path: Path) -> None:
    """Recordings and cuts are files with their speakers, packed or not; mixed cuts are none."""
    packed = tmp_path / "recordings.jsonl.gz"
    plain = write_lines(tmp_path / "r.jsonl", recording("mix_1"), recording("two", "file", "file"))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    done = db.add_manifest(packed)
    notes = ["1 left out: a recording that is no single file"]
    assert done == AddedManifest("lhotse", added=1, absent=1, notes=notes)
    cuts = [cut("mix_1", "ada", "bob"), cut("solo", "ada"), {"id": "x", "tracks": []}]
    done = db.add_manifest(write_lines(tmp_path / "cuts.jsonl", *cuts))
    notes = ["1 left out: a cut that is mixed on the fly, and no file"]
    wanted = AddedManifest("lhotse", added=1, updated=1, absent=2, speakers=2, notes=notes)
    assert done == wanted
    both, solo = files(db).values()
    assert both.metadata == {"id": "mix_1", "speakers": ["ada", "bob"]}
    assert (both.duration, both.sample_rate, both.channels) == (3.0, 8000, 1)
    assert (solo.speaker.name, both.speaker_id) == ("ada", None)


def test_a_file_that_is_there_is_read(db: DatabaseManager, tmp_path: Path) -> None:
    """What the file says goes before what the manifest says, and it has its hash."""
    wav = write_wav(tmp_path / "mix" / "mix_1.wav", 4000)
    done = db.add_manifest(write_lines(tmp_path / "r.jsonl", recording("mix_1")))
    assert done == AddedManifest("lhotse", added=1)
    row = db.get_file(wav)
    assert (row.duration, row.file_format, row.content_hash) == (0.5, "wav", digest(wav))


def test_again_changes_nothing(db: DatabaseManager, tmp_path: Path) -> None:
    """The same manifest twice doubles nothing, and keeps what was recorded besides."""
    path = write(tmp_path / "m.csv", LIBRIMIX)
    db.add_manifest(path)
    row = db.get_file("/d/wav8k/min/test/mix_both/m1.wav")
    db.update(row, metadata={**row.metadata, "room": 7})
    before = [row.__data__ for row in db.get_all(ProcessedFile)]
    assert db.add_manifest(path) == AddedManifest("librimix", unchanged=2, absent=2)
    assert [row.__data__ for row in db.get_all(ProcessedFile)] == before


def test_a_recording_that_is_here_is_completed(db: DatabaseManager, tmp_path: Path) -> None:
    """A recording that was added before gets its references."""
    audio = tmp_path / "mix_1.flac"
    shutil.copy(AUDIO / "mixtures" / "mix_1.flac", audio)
    known = db.add_audio(audio)
    text = "file_name,ada_file_name\nmix_1.flac,ada.flac\n"
    done = db.add_manifest(write(tmp_path / "metadata.csv", text))
    assert done == AddedManifest("hf", updated=1, speakers=1)
    row = db.get_file(audio)
    assert (row.id, row.duration) == (known.id, known.duration)
    assert row.metadata == {"id": "mix_1", "references": {"ada": str(tmp_path / "ada.flac")}}


def test_relative_paths_are_looked_for_upwards(db: DatabaseManager, tmp_path: Path) -> None:
    """A recipe's paths are relative to a folder above the manifest."""
    wav = write_wav(tmp_path / "audio" / "a.wav")
    write_files(tmp_path / "data" / "tt", {"wav.scp": "a audio/a.wav\n"})
    db.add_manifest(tmp_path / "data" / "tt")
    assert db.get_file(wav).content_hash == digest(wav)


ALL = "cannot import {path}: "
SHORT = "the header has 2 columns, and this record has 1"
BAD = {
    "text": ("m.csv", "hello\n", f"{ALL}its format cannot be told; name it: {', '.join(FORMATS)}"),
    "empty": ("m.csv", " \n", f"{ALL}it is empty"),
    "no entry": (
        *("m.csv", "ID,wav\n"),
        f"{ALL}it has no entry, as a manifest of the format speechbrain has",
    ),
    "width": ("m.csv", "ID,wav\n1,/a.wav\n2\n", f"{{path}}, line 3: {SHORT}"),
    "number": (
        *("m.csv", "ID,duration,wav\na,2,/a.wav\nb,x,/b.wav\n"),
        "{path}, line 3, column 'duration': 'x' is not a number",
    ),
    "negative": (
        *("m.csv", "ID,duration,wav\na,-2,/a.wav\n"),
        "{path}, line 2, column 'duration': '-2' is not a finite number of 0 or more",
    ),
    "no path": ("m.csv", "file_name,room\n,3\n", "{path}, line 2: it names no file"),
    "no id": (
        *("tt.scp", "mix/a.wav s1/a.wav s2/a.wav\n"),
        "{path}, line 1: it begins with the path 'mix/a.wav'; Kaldi has an id before it",
    ),
    "a list": ("m.jsonl", '{"file_name": ["a"]}\n', "{path}, line 1: it names no file"),
    "no text": ("m.jsonl", '{"mixture_path": null}\n', "{path}, line 1: it names no file"),
    "column": ("m.csv", "ID,wav,wav\n1,a,b\n", f"{ALL}its header has the column 'wav' twice"),
    "twice": (
        *("m.csv", "ID,wav\n1,/a.wav\n2,/a.wav\n"),
        "{path}, line 3: line 2 has the path '/a.wav' as well",
    ),
    "line": (
        *("m.jsonl", '{"file_name": "a.wav"}\n[]\n'),
        "{path}, line 2: it is not a JSON object; write one a line",
    ),
    "two": ("m.csv", "ID,wav\n1\n2\n", f"{{path}}, line 2: {SHORT}; and 1 more bad record"),
    "entry": (
        *("m.json", '{"a": {"wav": "/a.wav"}, "b": 3}'),
        "{path}, entry 'b': it names no file",
    ),
    "no recording": (
        *("m.jsonl", '{"id": "x", "recording": 3}\n'),
        "{path}, line 1: it is no recording and no cut",
    ),
    "supervisions": (
        *("m.jsonl", '{"recording_id": "x"}\n'),
        f"{ALL}supervisions name no files; give recordings or cuts",
    ),
}


@pytest.mark.parametrize(("name", "text", "message"), BAD.values(), ids=BAD)
def test_bad_manifests(
    db: DatabaseManager, tmp_path: Path, name: str, text: str, message: str
) -> None:
    """A manifest with a bad entry is refused with its line, and nothing is written."""
    path = write(tmp_path / name, text)
    with pytest.raises(InputError) as caught:
        db.add_manifest(path)
    assert str(caught.value) == message.format(path=repr(str(path)))
    assert (files(db), names(db)) == ({}, [])


MAP = "a path map has folders OLD: NEW, not"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            *({"format": "csv"}, QueryError),
            "unknown format 'csv'; use hf, kaldi, lhotse, librimix, speechbrain",
        ),
        ({"path_map": {"": "/x"}}, InvalidValueError, f"{MAP} '': '/x'"),
        ({"path_map": {"/x": ""}}, InvalidValueError, f"{MAP} '/x': ''"),
    ],
    ids=["format", "old", "new"],
)
def test_bad_arguments(
    db: DatabaseManager,
    tmp_path: Path,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """A format that is unknown and a map that maps nothing are refused in a sentence."""
    with pytest.raises(error) as caught:
        db.add_manifest(write(tmp_path / "m.csv", LIBRIMIX), **arguments)
    assert str(caught.value) == message


def test_bytes_and_archives_are_refused(db: DatabaseManager, tmp_path: Path) -> None:
    """What is no text, and a packed file that is cut off, are refused."""
    path = tmp_path / "m.csv"
    reasons = {b"\xff": "it is not UTF-8 text", b"\x1f\x8b\x08\x00": "it is cut off or damaged"}
    for data, reason in reasons.items():
        path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            db.add_manifest(path)
        assert str(caught.value) == f"cannot import {str(path)!r}: {reason}"


def test_a_folder_without_a_manifest(db: DatabaseManager, tmp_path: Path) -> None:
    """A folder that holds none says what it looked for."""
    with pytest.raises(InputError) as caught:
        db.add_manifest(tmp_path)
    assert str(caught.value) == (
        f"cannot import {str(tmp_path)!r}: the folder has neither wav.scp nor metadata.csv nor "
        "metadata.jsonl"
    )


def test_an_ambiguous_speaker(db: DatabaseManager, tmp_path: Path) -> None:
    """A name that several speakers have is refused, and nothing is written."""
    db.add_all([Speaker(name="s1"), Speaker(name="s1")])
    with pytest.raises(AmbiguousNameError):
        db.add_manifest(write(tmp_path / "m.csv", SPEECHBRAIN))
    assert (files(db), names(db)) == ({}, ["s1", "s1"])


def test_path_map_takes_the_longest_folder(db: DatabaseManager, tmp_path: Path) -> None:
    """The longest old folder counts, at a folder's end only."""
    path = write(tmp_path / "m.csv", "ID,wav\n1,/d/x/a.wav\n2,/d/b.wav\n3,/dx/c.wav\n")
    db.add_manifest(path, path_map={"/d": "/new", "/d/x/": "/far"})
    assert [*files(db)] == ["/far/a.wav", "/new/b.wav", "/dx/c.wav"]


def speakers(db: DatabaseManager) -> dict[str, str | None]:
    found = ((path, file.speaker) for path, file in files(db).items())
    return {path: voice and voice.name for path, voice in found}


def test_zero_and_none_are_names(db: DatabaseManager, tmp_path: Path) -> None:
    """A speaker may be the number 0, or be called None, and nobody else becomes that person."""
    entries = {f"u{n}": {"wav": f"/w/{n}.wav", "length": 2.0, "spk_id": n} for n in (0, 1)}
    assert db.add_manifest(write(tmp_path / "m.json", json.dumps(entries))).speakers == 2
    rows = "ID,wav,spk_id\nx1,/w/x1.wav,None\nx2,/w/x2.wav,\n"
    assert db.add_manifest(write(tmp_path / "n.csv", rows)).speakers == 1
    talk = {"sources": [{"type": "file", "source": "/w/c.wav"}]}
    cut = {"id": "c", "recording": talk, "supervisions": [{"speaker": 0}, {}]}
    db.add_manifest(write(tmp_path / "cuts.jsonl", json.dumps(cut)))
    assert speakers(db) == {
        "/w/0.wav": "0", "/w/1.wav": "1", "/w/x1.wav": "None", "/w/x2.wav": None, "/w/c.wav": "0",
    }  # fmt: skip
