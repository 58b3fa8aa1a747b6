"""Players: which sounds, with which words, and what is said where there is none."""

from __future__ import annotations

import base64
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from support.run_rows import add_run

from voices_peewee import DatabaseManager, ProcessedFile
from voices_peewee.display import player as player_module
from voices_peewee.errors import AudioError, MissingExtraError

AUDIO = Path(__file__).parents[2] / "examples" / "audio"


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    return shutil.copy(AUDIO / "bob.wav", tmp_path / "mix <1>.wav")


def heard(file: ProcessedFile) -> list[tuple[str, str, str]]:
    """Return label, path and note of each sound; what plays holds its file."""
    player = file.player()
    for sound in player:
        if sound.audio is not None:
            html = sound.audio._repr_html_()
            kind, data = re.search(r'src="data:([^;]+);base64,([^"]+)"', html).groups()
            assert kind.startswith("audio/")
            assert base64.b64decode(data) == Path(sound.path).read_bytes()
        assert (sound.audio is None) == bool(sound.note)
    return [(sound.label, sound.path, sound.note) for sound in player]


def test_the_recording_and_its_stems(db: DatabaseManager, mixture: Path, tmp_path: Path) -> None:
    """A file plays its recording, then the stems of all its runs, with speaker, model, metrics."""
    ada = db.create_speaker("Ada")
    stems = [shutil.copy(AUDIO / "ada.flac", tmp_path / f"stem{n}.flac") for n in range(3)]
    with db.track(mixture, "voice_separation", model_type="demucs", model_version="4.0") as run:
        run.output(stems[0], speaker=ada, si_snri=12.345, sdri=13.0)
        run.output(stems[1], si_snri=1.0)
    with db.track(mixture, "voice_separation", model_type="svoice") as run:
        run.output(stems[2], speaker=ada)
        run.output(tmp_path / "gone.wav", speaker=ada, sdri=-1.0)
    expected = [
        ("recording", str(mixture), ""),
        ("Ada · demucs:4.0 · SI-SNRi 12.35 dB · SDRi 13.00 dB", str(stems[0]), ""),
        ("Ada · svoice", str(stems[2]), ""),
        ("Ada · svoice · SDRi -1.00 dB", f"{tmp_path}/gone.wav", "there is no such file here"),
        ("stem · demucs:4.0 · SI-SNRi 1.00 dB", str(stems[1]), ""),
    ]
    for file in db.get_all(ProcessedFile):
        assert heard(file) == expected


def test_a_stem_that_was_made_again_has_its_latest_numbers(
    db: DatabaseManager, mixture: Path, tmp_path: Path
) -> None:
    """One path is one player, with what its latest run measured."""
    file = {"processed_path": shutil.copy(AUDIO / "ada.flac", tmp_path / "stem.flac")}
    add_run(db, str(mixture), "a", hours=1, file=file, si_snri=2.0)
    add_run(db, str(mixture), "b", hours=0, file=file, si_snri=1.0)
    assert [label for label, *_ in heard(db.get_by_id(ProcessedFile, 1))] == [
        "recording",
        "stem · a · SI-SNRi 2.00 dB",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ada.flac", "audio/flac"),
        ("ada.m4a", "audio/mp4"),
        ("bob.mp3", "audio/mpeg"),
        ("bob.wav", "audio/wav"),
        ("mix_ada_bob.ogg", "audio/ogg"),
        ("mix_ada_bob.opus", "audio/ogg"),
    ],
)
def test_browsers_are_told_the_format(db: DatabaseManager, name: str, kind: str) -> None:
    """Each format that browsers play is named as they know it."""
    file = db.add_audio(AUDIO / name)
    assert f'src="data:{kind};base64,' in file.player()._repr_html_()


def test_what_browsers_do_not_play_is_linked(
    db: DatabaseManager, mixture: Path, tmp_path: Path
) -> None:
    """An unusual format has its words and a link instead of a dead control."""
    path = tmp_path / os.fsdecode(b"\xe9 & b.aiff")
    mixture.rename(path)
    player = db.add(ProcessedFile(filename="b.aiff", original_path=path)).player()
    assert [(sound.label, sound.note) for sound in player] == [
        ("recording", "browsers do not play this format")
    ]
    html = player._repr_html_()
    assert "<audio" not in html
    assert (
        f'<a href="file://{tmp_path}/%E9%20%26%20b.aiff">{tmp_path}/\\udce9 &amp; b.aiff</a>'
        in html
    )


def test_names_are_escaped(db: DatabaseManager, mixture: Path) -> None:
    """A path with a tag in it is shown and linked as a path."""
    html = db.add_audio(mixture).player()._repr_html_()
    assert "mix &lt;1&gt;.wav</a>" in html
    assert "/mix%20%3C1%3E.wav" in html
    assert "<1>" not in html


def test_players_do_not_fill_a_notebook(
    db: DatabaseManager, mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would make a notebook too large is named and left out; what is small still plays."""
    large, small = tmp_path / "large.wav", tmp_path / "small.wav"
    large.write_bytes(bytes(31_000_000))
    small.write_bytes(mixture.read_bytes())
    with db.track(mixture, "voice_separation", model_type="a") as run:
        run.output(large)
        run.output(small)
    assert [note for *_, note in heard(db.get_by_id(ProcessedFile, 1))] == [
        "",
        "left out: it would make the notebook 31.0 MB larger",
        "",
    ]
    monkeypatch.setattr(player_module, "_ROOM", small.stat().st_size)
    assert [sound.audio is None for sound in db.get_by_id(ProcessedFile, 1).player()] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("original", ["/nowhere/1.wav", "https://example.org/1.wav", None])
def test_nothing_to_hear(db: DatabaseManager, original: str | None) -> None:
    """Without any file the error names the recording."""
    run = add_run(db, original, file={"processed_path": "/nowhere/2.wav"})
    with pytest.raises(AudioError) as caught:
        run.processed_file.player()
    assert str(caught.value) == (
        f"cannot read {original or '1.wav'!r}: neither the recording nor a stem of it is there"
    )


def test_a_url_is_linked_and_not_opened(db: DatabaseManager, mixture: Path, tmp_path: Path) -> None:
    """A recording that is elsewhere is a link beside its stems."""
    add_run(db, "https://example.org/a.wav?x=1&y=2", file={"processed_path": mixture})
    player = db.get_by_id(ProcessedFile, 1).player()
    assert [sound.note for sound in player] == ["there is no such file here", ""]
    assert 'href="https://example.org/a.wav?x=1&amp;y=2"' in player._repr_html_()
    add_run(db, "javascript:alert(1)", file={"processed_path": mixture})
    assert 'href="javascript' not in db.get_by_id(ProcessedFile, 2).player()._repr_html_()


def test_a_file_that_cannot_be_read(db: DatabaseManager, mixture: Path) -> None:
    """A file that the system does not read out has the system's words beside it."""
    file = db.add_audio(mixture)
    mixture.unlink()
    mixture.symlink_to("/proc/self/mem")
    assert heard(file) == [
        ("recording", str(mixture), "the file cannot be read: Input/output error")
    ]


def test_without_ipython_one_sentence_says_what_to_install(
    db: DatabaseManager, mixture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Playing without the extra names the command that installs it."""
    file = db.add_audio(mixture)
    monkeypatch.setitem(sys.modules, "IPython", None)
    with pytest.raises(MissingExtraError) as caught:
        file.player()
    assert str(caught.value) == (
        "playing audio needs an extra; run: pip install 'voices-peewee[notebook]'"
    )
