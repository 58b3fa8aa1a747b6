"""Players: which sounds, with which words, and what is said where there is none."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.run_rows import add_run

from voices_peewee import DatabaseManager, ProcessedFile
from voices_peewee.errors import AudioError, NotFoundError

AUDIO = Path(__file__).parents[2] / "examples" / "audio"


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    return shutil.copy(AUDIO / "bob.wav", tmp_path / "mix <1>.wav")


def heard(db: DatabaseManager, file: ProcessedFile | int | str) -> list[tuple[str, str, str]]:
    """Return label, path and note of each sound; what plays holds its file, or that as FLAC."""
    player = db.player(file)
    playing = [sound for sound in player if not sound.note]
    found = re.findall(r'src="data:(audio/[^;]+);base64,([^"]+)"', player._repr_html_())
    for sound, (kind, data) in zip(playing, found, strict=True):
        own = Path(sound.path).read_bytes()
        assert kind == "audio/flac" or base64.b64decode(data) == own
        assert len(base64.b64decode(data)) <= len(own)
    return [(sound.label, sound.path, sound.note) for sound in player]


def add_stem(db: DatabaseManager, of: ProcessedFile, path: Path, model: str, **options: object):
    stem = {"processed_path": path, "recording": of, "filename": path.name}
    return add_run(db, of.original_path, model, file=stem, **options)


def test_the_recording_and_its_stems(db: DatabaseManager, mixture: Path, tmp_path: Path) -> None:
    """Any row of a recording plays it, then its stems, as the latest run made them."""
    ada = db.create_speaker("Ada")
    stem = shutil.copy(AUDIO / "ada.flac", tmp_path / "stem.flac")
    recording = db.add_audio(mixture)
    scores = {"si_snri": 12.345, "sdri": 13.0}
    add_stem(db, recording, stem, "old", hours=-1, si_snri=2.0)
    add_stem(db, recording, stem, "demucs:4.0", speaker=ada, **scores)
    add_stem(db, recording, tmp_path / "gone.wav", "svoice")
    other = shutil.copy(AUDIO / "bob.mp3", tmp_path / "other.mp3")
    db.add_audio(other)
    expected = [
        ("recording", str(mixture), ""),
        ("Ada · demucs:4.0 · SI-SNRi 12.35 dB · SDRi 13.00 dB", str(stem), ""),
        ("stem · svoice", f"{tmp_path}/gone.wav", "there is no such file here"),
    ]
    for file in (recording, recording.id, db.get_by_id(ProcessedFile, 2)):
        assert heard(db, file) == expected


def test_what_browsers_do_not_play_is_named(db: DatabaseManager, tmp_path: Path) -> None:
    """An unusual format has its path and a word instead of a dead control; names are escaped."""
    path = tmp_path / os.fsdecode(b"\xe9 <b>.xyz")
    path.write_text("no audio")
    player = db.player(db.add(ProcessedFile(filename="b.xyz", original_path=path)))
    assert [sound.note for sound in player] == ["browsers do not play this format"]
    html = player._repr_html_()
    assert f"{tmp_path}/\\udce9 &lt;b&gt;.xyz" in html
    assert "<audio" not in html
    assert "<b>" not in html


def test_players_do_not_fill_a_notebook(db: DatabaseManager, mixture: Path, tmp_path: Path) -> None:
    """What would make a notebook too large is named and left out; what is small still plays."""
    recording = db.add_audio(mixture)
    large, small = tmp_path / "large.wav", tmp_path / "small.wav"
    large.write_bytes(bytes(41_000_000))
    small.write_bytes(mixture.read_bytes())
    add_stem(db, recording, large, "a")
    add_stem(db, recording, small, "b")
    assert [note for *_, note in heard(db, recording)] == [
        "",
        "left out, since there is no room for it",
        "",
    ]


def test_a_file_that_cannot_be_read(db: DatabaseManager, mixture: Path) -> None:
    """A file that the system does not read out has the system's words beside it."""
    file = db.add_audio(mixture)
    mixture.unlink()
    mixture.symlink_to("/proc/self/mem")
    note = "the file cannot be read: Input/output error"
    assert heard(db, file) == [("recording", str(mixture), note)]


@pytest.mark.parametrize("original", ["/nowhere/1.wav", "https://example.org/1.wav", None])
def test_nothing_to_hear(db: DatabaseManager, original: str | None) -> None:
    """Without any file the error names the recording; an unknown file is one too."""
    run = add_run(db, original, file={"processed_path": "/nowhere/2.wav"})
    with pytest.raises(AudioError) as caught:
        db.player(run.processed_file)
    assert str(caught.value) == (
        f"cannot read {original or '1.wav'!r}: neither the recording nor a stem of it is there"
    )
    with pytest.raises(NotFoundError):
        db.player(99)


@pytest.mark.parametrize(
    ("codec", "kind"),
    [
        ("pcm_u8", "audio/flac"),
        ("pcm_s16le", "audio/flac"),
        ("pcm_s24le", "audio/flac"),
        ("pcm_s32le", "audio/wav"),
        ("pcm_f32le", "audio/wav"),
    ],
)
def test_a_sound_keeps_its_bits(db: DatabaseManager, tmp_path: Path, codec: str, kind: str) -> None:
    """What is put into a page is the same to the last bit: as FLAC, or as the WAV that it was."""
    path = tmp_path / "a.wav"
    noise = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "anoisesrc=duration=0.2"]
    subprocess.run([*noise, "-c:a", codec, path], check=True)
    page = db.player(db.add_audio(path))._repr_html_()
    ((found, data),) = re.findall(r'src="data:(audio/[^;]+);base64,([^"]+)"', page)
    held = tmp_path / "held"
    held.write_bytes(base64.b64decode(data))

    def samples(file: Path) -> bytes:
        raw = ["ffmpeg", "-v", "error", "-i", file, "-f", "s32le", "-"]
        return subprocess.run(raw, check=True, capture_output=True).stdout

    assert (found, samples(held)) == (kind, samples(path))
