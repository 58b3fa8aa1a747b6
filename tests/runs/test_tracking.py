"""``track``: what a run leaves in the database, however it ends and wherever it runs."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from support.databases import ON_SERVER, ask
from support.run_rows import files, histories, performances
from support.wav_files import digest, write_wav

from voices_peewee import (
    DatabaseManager,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    errors,
)
from voices_peewee.records.sources import look, settle
from voices_peewee.runs.metrics import MetricWarning
from voices_peewee.runs.process import process_facts
from voices_peewee.runs.run import OutputWarning, Run, SpeakerWarning, TransactionWarning
from voices_peewee.schema.fields import utc_now

SEPARATION = "voice_separation"


def fail_after(call: Callable[[], object], error: BaseException) -> NoReturn:
    """Do something in a block, then raise."""
    call()
    raise error


def outputs(db: DatabaseManager) -> list[tuple[int, int, str | None, int | None]]:
    """Return for each history row its id, its file's id, output and speaker."""
    by_id = {file.id: file for file in files(db)}
    return [
        (
            row.id,
            row.processed_file_id,
            by_id[row.processed_file_id].processed_path,
            by_id[row.processed_file_id].speaker_id,
        )
        for row in histories(db)
    ]


# A run from beginning to end


def test_a_run_is_written_when_it_begins_and_completed_when_it_ends(
    db: DatabaseManager, path: Path, tmp_path: Path
) -> None:
    """Another program sees an unfinished run during the block and all of it afterwards."""
    mix = write_wav(tmp_path / "mix.wav", 4000)
    ada = db.create_speaker("Ada")
    before = utc_now()
    with db.track(
        mix,
        SEPARATION,
        speaker="Ada",
        model_type="demucs",
        model_version="4.0",
        parameters={"shifts": 2, "device": Path("cuda")},
    ) as run:
        seen = ask(path, "SELECT end_time, success FROM processing_history")
        run.log(si_snri=12.4, sdri=12.9, pesq=2.7, metric_impl="fast_bss_eval 0.1.4")
    assert seen == [(None, 0)]

    (recording, file), (history,), (performance,) = files(db), histories(db), performances(db)
    assert (recording.original_path, recording.kind, recording.speaker_id) == (
        *(str(mix), "recording", None),
    )
    assert (recording.duration, recording.content_hash) == (0.5, digest(mix))
    assert (file.kind, file.recording_id, file.speaker_id) == ("voice", recording.id, ada.id)
    assert history.end_time is not None
    assert before <= history.start_time <= history.end_time <= utc_now()
    times = {"start_time": history.start_time, "end_time": history.end_time}
    assert history.__data__ == {
        "id": run.id,
        "processed_file": file.id,
        "run_id": run.run_id,
        "operation_type": SEPARATION,
        "model_type": "demucs",
        "model_version": "4.0",
        "parameters": {"shifts": 2, "device": "cuda"},
        **times,
        "success": True,
        "error_message": None,
        "source_hash": digest(mix),
        "process": process_facts(),
        "environment": 1,
        "model_hash": None,
        "tags": None,
        "note": None,
    }
    seconds = performance.processing_time
    assert seconds is not None
    assert seconds > 0
    assert performance.cpu_usage is not None
    assert performance.memory_usage is not None
    assert performance.__data__ == {
        "id": 1,
        "processing_history": history.id,
        "model_type": "demucs",
        "model_version": "4.0",
        "si_snri": 12.4,
        "sdri": 12.9,
        "cpu_usage": performance.cpu_usage,
        "memory_usage": performance.memory_usage,
        "processing_time": seconds,
        "real_time_factor": seconds / 0.5,
        "additional_metrics": {
            "pesq": 2.7,
            "metric_impl": "fast_bss_eval 0.1.4",
            "run": ["metric_impl", "pesq", "sdri", "si_snri"],
        },
        "created_at": performance.created_at,
    }
    assert (run.id, run.file, run.parameters) == (history.id, file, history.parameters)
    assert repr(run) == f"<Run 1 voice_separation of {str(mix)!r}>"


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "first_line"),
    [
        (ValueError("no sound"), "ValueError: no sound"),
        (ValueError(), "ValueError"),
        (RuntimeError("two\nlines"), "RuntimeError: two"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(3), "SystemExit: 3"),
        (SystemExit(True), "SystemExit: True"),
        (SystemExit(0.0), "SystemExit: 0.0"),
        (SystemExit(""), "SystemExit"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError(), "CancelledError"),
        (UnprintableError(), "UnprintableError: (its message cannot be shown)"),
        (ValueError("caf\udce9 \0 end"), "ValueError: caf\\udce9 \\x00 end"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_the_block_raises_is_recorded_and_goes_on(
    db: DatabaseManager, error: BaseException, first_line: str
) -> None:
    """Every exception reaches the caller, and its type, message and traceback the row."""
    with pytest.raises(type(error)) as caught, db.track("mix.wav", SEPARATION) as run:
        fail_after(lambda: run.log(pesq=1.5), error)
    assert caught.value is error
    (history,), (performance,) = histories(db), performances(db)
    assert (history.success, history.status) == (False, "failed")
    assert history.end_time is not None
    assert history.error_message is not None
    head, empty, *trace = history.error_message.splitlines()[0 if "\n" not in first_line else 1 :]
    assert head == first_line
    if not isinstance(error, RuntimeError):
        assert empty == ""
        assert "    raise error" in trace
    assert performance.additional_metrics == {"pesq": 1.5, "run": ["pesq"]}
    assert performance.processing_time is not None


def test_a_very_long_message_is_cut_in_the_middle(db: DatabaseManager) -> None:
    """A megabyte of message keeps its beginning and its end."""
    with pytest.raises(ValueError, match="x"), db.track("mix.wav", SEPARATION):
        raise ValueError("x" * 1_000_000)
    text = histories(db)[0].error_message
    assert text is not None
    assert text.startswith("ValueError: xxx")
    assert text.endswith("xxx\n")
    assert len(text) < 101_000
    assert "\n… 1," in text


def test_a_wrong_call_is_refused_before_anything_is_written(db: DatabaseManager) -> None:
    """What cannot be recorded is said at once, in whole sentences."""
    messages = []
    for call in (
        lambda: db.track("mix.wav").__enter__(),
        lambda: db.track("mix.wav", " ").__enter__(),
        lambda: db.track("mix.wav", "x", parameters=["a"]).__enter__(),  # type: ignore[arg-type]
        lambda: db.track("mix.wav", "x", parameters={"a": object}).__enter__(),
        lambda: db.track("mix.wav", "x", speaker="Nobody").__enter__(),
        lambda: db.track(ProcessedFile(id=7, filename="a"), "x").__enter__(),
        lambda: db.track(b"mix.wav", "x").__enter__(),  # type: ignore[arg-type]
        lambda: db.track("", "x").__enter__(),
        lambda: db.track(operation_type="x").__enter__(),
    ):
        with pytest.raises((errors.VoicesError, TypeError)) as caught:
            call()
        messages.append(f"{caught.type.__name__}: {caught.value}")
    assert messages == [
        "InvalidValueError: a run needs an operation_type",
        "InvalidValueError: a run needs an operation_type",
        "InvalidValueError: parameters must be a mapping, not ['a']",
        f"InvalidValueError: cannot store this value as JSON: no JSON form for type {object}",
        "NotFoundError: no speaker 'Nobody'; see 'voices list-speakers'",
        "NotFoundError: no file 7; see 'voices list-files'",
        "TypeError: a source is a path or a ProcessedFile, not b'mix.wav'",
        "InvalidValueError: a path must not be empty",
        "TypeError: a track block needs a source; only a decorator does without",
    ]
    assert files(db) == histories(db) == []


def test_a_block_is_one_run(db: DatabaseManager) -> None:
    """What ``track`` returned can be used again, but not while it is in use."""
    block = db.track("mix.wav", SEPARATION)
    with block, pytest.raises(TypeError) as caught, block:
        pass
    assert str(caught.value) == "this track block has begun already; call track() for each run"
    with block:
        pass
    assert [row.success for row in histories(db)] == [True, True]


def test_nothing_can_be_told_to_a_run_that_is_over(db: DatabaseManager) -> None:
    """A late ``log`` or ``output`` is a programmer's mistake and says so."""
    with db.track("mix.wav", SEPARATION) as run:
        pass
    for call in (lambda: run.log(pesq=1), lambda: run.output("stem.wav")):
        with pytest.raises(RuntimeError) as caught:
            call()
        assert str(caught.value) == "run 1 is over"
    assert outputs(db) == [(1, 1, None, None)]


def test_parameters_are_as_they_were_when_the_run_was_asked_for(db: DatabaseManager) -> None:
    """Changing the mapping afterwards does not change the record."""
    parameters = {"layers": [1]}
    block = db.track("mix.wav", SEPARATION, parameters=parameters)
    parameters["layers"].append(2)
    with block as run:
        pass
    assert run.parameters == histories(db)[0].parameters == {"layers": [1]}


def test_a_clock_that_is_set_back_does_not_lose_the_end(
    db: DatabaseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end never comes before the start, and the processing time is a steady clock's."""
    with db.track("mix.wav", SEPARATION) as run:
        monkeypatch.setattr(
            "voices_peewee.runs.run.utc_now", lambda: dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        )
    (history,) = histories(db)
    assert history.start_time == history.end_time == run.start_time


# Sources

BAD_NAME = "bad|name" if ON_SERVER else "bad\0name"


def test_any_source_can_be_tracked(
    db: DatabaseManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing path, a folder, a text, a pipe and a URL have a row with what can be known."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("no sound")
    os.mkfifo(tmp_path / "pipe.wav")
    url = "https://example.org/mixes/a.wav"
    for source in ("missing.wav", tmp_path / "folder", "text.txt", "pipe.wav", url, BAD_NAME):
        with db.track(source, SEPARATION):
            pass
    unknown = [None] * 6
    names = ("filename", "original_path", "file_size", "content_hash", "duration", "file_format")
    names += ("sample_rate", "channels")
    found = [tuple(getattr(file, name) for name in names) for file in files(db)]
    assert found == [
        ("missing.wav", str(tmp_path / "missing.wav"), *unknown),
        ("folder", str(tmp_path / "folder"), *unknown),
        (
            *("text.txt", str(tmp_path / "text.txt"), 8, digest(tmp_path / "text.txt")),
            *([None] * 4),
        ),
        ("pipe.wav", str(tmp_path / "pipe.wav"), *unknown),
        ("a.wav", url, *unknown),
        (BAD_NAME, f"{tmp_path}/{BAD_NAME}", *unknown),
    ]
    assert [row.success for row in histories(db)] == [True] * 6
    assert [row.real_time_factor for row in performances(db)] == [None] * 6


def test_a_path_is_found_again(db: DatabaseManager, tmp_path: Path) -> None:
    """Runs of one recording share its row, under any spelling of its path."""
    mix = write_wav(tmp_path / "mix.wav")
    for source in (mix, str(mix), tmp_path / "x" / ".." / "mix.wav", db.add_audio(mix)):
        with db.track(source, SEPARATION):
            pass
    assert outputs(db) == [(number, 1, None, None) for number in (1, 2, 3, 4)]


def test_a_source_that_two_processes_find_new_has_one_row(db: DatabaseManager) -> None:
    """Whoever comes second uses the row that the first has written since it looked."""
    both = [look(db.store, "/mix.wav") for _ in range(2)]
    with db.atomic():
        rows = [settle(db.store, db.store.steps(), source) for source in both]
    assert [row.id for row in rows] == [1, 1]


def test_a_file_object_may_be_new(db: DatabaseManager, tmp_path: Path) -> None:
    """A ProcessedFile that was never written is written with what its file says."""
    mix = write_wav(tmp_path / "mix.wav")
    file = ProcessedFile(filename="my name", original_path=mix, metadata={"take": 3})
    with db.track(file, SEPARATION, speaker=Speaker(name="Ada")) as run:
        pass
    (row, voice) = files(db)
    assert (file.id, voice.id) == (row.id, run.file.id)
    assert (row.metadata, row.duration, row.speaker_id) == ({"take": 3}, 0.1, None)
    assert (voice.recording_id, voice.speaker_id) == (row.id, 1)


def test_new_content_is_noticed_at_the_next_run(db: DatabaseManager, tmp_path: Path) -> None:
    """The row follows its file, and each run keeps the hash of what it worked on."""
    mix = write_wav(tmp_path / "mix.wav", 800, value=1)
    hashes = []
    for frames, value in ((800, 1), (800, 2), (1600, 2)):
        write_wav(mix, frames, value=value)
        hashes.append(digest(mix))
        with db.track(mix, SEPARATION):
            pass
    assert [row.source_hash for row in histories(db)] == hashes
    (file,) = files(db)
    assert (file.content_hash, file.duration, file.file_size) == (hashes[2], 0.2, 3244)


@pytest.mark.usefixtures("no_slack")
def test_a_settled_file_is_not_read_again(db: DatabaseManager, tmp_path: Path) -> None:
    """A file that was read after it was written is believed; a vanished one keeps its facts."""
    mix = write_wav(tmp_path / "mix.wav")
    time.sleep(0.1)
    file = db.add_audio(mix)
    db.update(file, content_hash="believed")
    with db.track(mix, SEPARATION):
        pass
    mix.unlink()
    with db.track(mix, SEPARATION):
        pass
    assert [row.source_hash for row in histories(db)] == ["believed"] * 2
    assert files(db)[0].duration == 0.1


@pytest.mark.usefixtures("no_slack")
def test_a_file_that_was_only_touched_is_settled(db: DatabaseManager, tmp_path: Path) -> None:
    """A file that proved unchanged is not read at every run from then on."""
    mix = write_wav(tmp_path / "mix.wav")
    db.add_audio(mix)
    (before,) = files(db)
    mix.touch()
    time.sleep(0.1)
    seen = []
    for _ in range(2):
        with db.track(mix, SEPARATION) as run:
            seen.append((run.file.read_at, run.file.file_stamp))
    (file,) = files(db)
    assert seen == [(file.read_at, file.file_stamp)] * 2
    assert file.file_stamp not in (None, before.file_stamp)
    assert file.updated_at == before.updated_at


def test_a_file_that_was_written_just_now_is_read_again(
    db: DatabaseManager, tmp_path: Path
) -> None:
    """In the moment of a reading a file may change without another time: no stamp tells it."""
    mix = write_wav(tmp_path / "mix.wav")
    file = db.add_audio(mix)
    db.update(file, content_hash="not believed")
    with db.track(mix, SEPARATION):
        pass
    assert (file.file_stamp, histories(db)[0].source_hash) == (None, digest(mix))


def test_new_content_of_the_same_size_is_seen_after_any_update(
    db: DatabaseManager, tmp_path: Path
) -> None:
    """An update of the row does not count as reading the file: the next run has its new hash."""
    mix = write_wav(tmp_path / "mix.wav", value=1)
    file = db.add_audio(mix)
    write_wav(mix, value=2)
    later = utc_now() + dt.timedelta(hours=1)
    db.update(db.get_file(file.id), metadata={"x": 1}, updated_at=later)
    with db.track(mix, SEPARATION):
        pass
    assert [row.source_hash for row in histories(db)] == [digest(mix)]
    assert list(db.pending([mix], SEPARATION, exact=True)) == []


def _link_to_a_file(folder: Path) -> tuple[Path, Callable[[], object]]:
    (folder / "mix.wav").symlink_to("one/x.wav")
    (folder / "new").symlink_to("two/x.wav")
    return folder / "mix.wav", lambda: (folder / "new").replace(folder / "mix.wav")


def _link_to_a_folder(folder: Path) -> tuple[Path, Callable[[], object]]:
    (folder / "latest").symlink_to("one")
    (folder / "data").symlink_to("latest")

    def swap() -> None:
        (folder / "latest").unlink()
        (folder / "latest").symlink_to(folder / "two")

    return folder / "data" / "x.wav", swap


def _folder(folder: Path) -> tuple[Path, Callable[[], object]]:
    def swap() -> None:
        (folder / "one").rename(folder / "old")
        (folder / "two").rename(folder / "one")

    return folder / "one" / "x.wav", swap


def _folder_that_is_written_into(folder: Path) -> tuple[Path, Callable[[], object]]:
    mix, swap = _folder(folder)
    return mix, lambda: (swap(), write_wav(mix.with_name("y.wav")))


@pytest.mark.usefixtures("no_slack")
@pytest.mark.parametrize(
    ("make", "is_seen"),
    [
        (_link_to_a_file, True),
        (_link_to_a_folder, True),
        (_folder, False),
        (_folder_that_is_written_into, False),
    ],
)
def test_older_content_that_is_put_at_a_path_is_seen(
    db: DatabaseManager,
    tmp_path: Path,
    make: Callable[[Path], tuple[Path, Callable[[], object]]],
    is_seen: bool,
) -> None:
    """Where another link or folder leads to a file of that size, the run has its hash.

    ``pending`` sees the link, and with ``exact`` the folder too; the next run settles it.
    """
    for value, name in enumerate(("one", "two")):
        write_wav(tmp_path / name / "x.wav", value=value)
    mix, swap = make(tmp_path)
    hashes = []
    for change in (lambda: None, swap):
        time.sleep(0.1)
        change()
        assert len(list(db.pending([mix], SEPARATION))) == (not hashes or is_seen)
        assert list(db.pending([mix], SEPARATION, exact=True)) == [mix]
        time.sleep(0.1)
        with db.track(mix, SEPARATION):
            hashes.append(digest(mix))
        assert list(db.pending([mix], SEPARATION, exact=True)) == []
    assert [row.source_hash for row in histories(db)] == hashes
    assert len({*hashes}) == 2


# Metrics


def test_log_may_be_called_many_times(db: DatabaseManager) -> None:
    """The last value of a name counts, which is said once; the user's measurements replace ours."""
    with db.track("mix.wav", SEPARATION) as run:
        run.log({"si_snri": 1}, loss=[3.0])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run.log(si_snri=np.float32(2.5), cpu_usage=50, memory_usage=10)
            run.log(processing_time=4, real_time_factor=0.25, loss=[3.0, 1.0])
            for _ in range(3):
                run.log({"si_snri": 2.5})
    text = "{} was logged before in this run: the last value counts"
    assert [(one.category, str(one.message), one.filename) for one in caught] == [
        (MetricWarning, text.format(name), __file__) for name in ("si_snri", "loss")
    ]
    (row,) = performances(db)
    names = ("si_snri", "cpu_usage", "memory_usage", "processing_time", "real_time_factor")
    assert [getattr(row, name) for name in names] == [2.5, 50, 10, 4, 0.25]
    assert row.additional_metrics == {"loss": [3.0, 1.0], "run": sorted([*names, "loss"])}


def test_what_is_not_finite_does_not_break_the_row(db: DatabaseManager) -> None:
    """NaN leaves a column empty, is named in the row, and warns on the user's line."""
    with db.track("mix.wav", SEPARATION) as run:
        with pytest.warns(MetricWarning) as logged:
            run.log(si_snri=float("nan"), pesq=np.float32("inf"))
        with pytest.warns(MetricWarning) as told:
            run.output("/stem.wav", sdri=float("-inf"))
    assert [(str(one.message), one.filename) for one in (*logged, *told)] == [
        ("recorded without a value: si_snri is nan, pesq is inf", __file__),
        ("recorded without a value: sdri is -inf", __file__),
    ]
    (row,) = performances(db)
    assert (row.si_snri, row.sdri) == (None, None)
    assert row.additional_metrics == {
        "nonfinite": {"si_snri": "nan", "pesq": "inf", "sdri": "-inf"},
        "run": ["pesq", "si_snri"],
    }


def test_a_wrong_metric_leaves_the_run_as_it_was(db: DatabaseManager) -> None:
    """A refused call records none of its metrics and no output."""
    with db.track("mix.wav", SEPARATION) as run:
        for call in (run.log, functools.partial(run.output, "/stem.wav")):
            with pytest.raises(errors.InvalidValueError) as caught:
                call(pesq=1, si_snri=1e9)
            assert str(caught.value) == ("si_snri must be a finite number of dB, not 1000000000.0")
    assert performances(db)[0].additional_metrics == {}
    assert outputs(db) == [(1, 1, None, None)]


# Outputs


def test_each_output_has_its_rows(db: DatabaseManager, tmp_path: Path) -> None:
    """The first output moves the row of the start; each has a row that is true to its file."""
    mix = write_wav(tmp_path / "mix.wav", 4000)
    stems = [
        write_wav(tmp_path / f"{n}.wav", frames, value=n) for n, frames in ((1, 800), (2, 400))
    ]
    ada, bob = db.create_speaker("Ada"), db.create_speaker("Bob")
    with db.track(mix, SEPARATION, model_type="demucs", parameters={"shifts": 2}) as run:
        one = run.output(tmp_path / "1.wav", speaker=ada, si_snri=12.4, pesq=2.7)
        two = run.output(str(tmp_path / "2.wav"), speaker="Bob", si_snri=11.0)
        run.log(epochs=3)
    assert outputs(db) == [
        (1, 2, str(tmp_path / "1.wav"), ada.id),
        (2, 3, str(tmp_path / "2.wav"), bob.id),
    ]
    recording, *_ = files(db)
    assert files(db) == [recording, one, two]
    assert (run.recording, run.file) == (recording, one)
    facts = [
        (file.kind, file.original_path, file.duration, file.file_size, file.content_hash)
        for file in files(db)
    ]
    assert facts == [
        ("recording", str(mix), 0.5, 8044, digest(mix)),
        ("stem", str(mix), 0.1, 1644, digest(stems[0])),
        ("stem", str(mix), 0.05, 844, digest(stems[1])),
    ]
    assert db.get_file(mix) == recording
    shared = [
        {key: value for key, value in row.__data__.items() if key not in ("id", "processed_file")}
        for row in histories(db)
    ]
    assert shared[0].pop("end_time") <= shared[1].pop("end_time")
    assert shared[0] == shared[1]
    assert (shared[0]["run_id"], shared[0]["success"]) == (run.run_id, True)
    told = [(row.si_snri, row.additional_metrics) for row in performances(db)]
    of_run = {"epochs": 3, "run": ["epochs"]}
    assert told == [(12.4, {"pesq": 2.7, **of_run}), (11.0, of_run)]
    measured = {
        (row.processing_time, row.cpu_usage, row.memory_usage, row.real_time_factor)
        for row in performances(db)
    }
    assert len(measured) == 1
    assert None not in measured.pop()


@pytest.mark.parametrize("key", [np.int64(9), float("nan"), b"Ada", ["Ada"]])
def test_a_speaker_that_is_no_key_does_not_lose_an_output(db: DatabaseManager, key: Any) -> None:
    """The output is kept as with an unknown name, whatever was given for a speaker."""
    with db.track("mix.wav", SEPARATION) as run, pytest.warns(SpeakerWarning):
        run.output("/1.wav", speaker=key)
    assert files(db)[-1].metadata == {"speaker": str(key)}


def test_numpys_integers_name_the_speaker_of_a_run(db: DatabaseManager) -> None:
    """A speaker's id out of a DataFrame is one to ``track``, ``output`` and ``record_run``."""
    key: Any = np.int64(db.create_speaker("Ada").id)
    with db.track("mix.wav", SEPARATION, speaker=key) as run:
        run.output("/1.wav", speaker=key)
    db.record_run("b.wav", SEPARATION, start_time=utc_now(), speaker=key)
    assert [row.processed_file.speaker_id for row in histories(db)] == [1, 1]


def test_an_unknown_speaker_does_not_lose_an_output(db: DatabaseManager) -> None:
    """The output is kept with the name in its metadata, and a warning on the user's line."""
    with db.track("mix.wav", SEPARATION) as run, pytest.warns(SpeakerWarning) as caught:
        run.output("/1.wav", speaker="c", si_snri=1)
    assert [(str(one.message), one.filename) for one in caught] == [
        ("no speaker 'c': the output '/1.wav' is kept with the name alone", __file__)
    ]
    assert [(file.kind, file.speaker_id, file.metadata) for file in files(db)] == [
        ("recording", None, {}),
        ("stem", None, {"speaker": "c"}),
    ]
    assert [row.status for row in histories(db)] == ["success"]


def test_a_name_of_several_is_not_said_to_be_nobodys(db: DatabaseManager) -> None:
    """Whose the output is nobody can tell; it is kept as one of an unknown speaker is."""
    for _ in range(2):
        db.create_speaker("Tw", duplicate=True)
    said = "2 speakers are named 'Tw' (ids 1, 2): the output '/1.wav' is kept with the name alone"
    with db.track("mix.wav", SEPARATION) as run, pytest.warns(SpeakerWarning) as caught:
        assert run.output("/1.wav", speaker="Tw").metadata == {"speaker": "Tw"}
    assert [str(one.message) for one in caught] == [said]


@pytest.mark.parametrize("code", [None, 0, False])
def test_leaving_the_program_well_is_success(db: DatabaseManager, code: int | None) -> None:
    """A run is done where the process tells the system so: ``sys.exit(False)`` is status 0."""
    assert subprocess.run([sys.executable, "-c", f"exit({code})"]).returncode == 0
    with pytest.raises(SystemExit), db.track("mix.wav", SEPARATION):
        sys.exit(code)
    assert [(row.status, row.error_message) for row in histories(db)] == [("success", None)]


def test_a_run_inside_a_transaction_says_so(db: DatabaseManager) -> None:
    """A run that a rollback would take away is told of when it begins."""
    text = "this run begins inside a transaction: if that is rolled back, as by an exception "
    with (
        pytest.warns(TransactionWarning) as caught,
        pytest.raises(ValueError, match="x"),
        db.atomic(),
        db.track("mix.wav", SEPARATION),
    ):
        raise ValueError("x")
    assert [(str(one.message), one.filename) for one in caught] == [
        (f"{text}that leaves it, the run leaves no trace", __file__)
    ]
    assert histories(db) == []


def test_a_repeated_batch_warns_once(db: DatabaseManager) -> None:
    """Outputs of the same two models that take the place of others are told of once."""
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number in range(3):
                with db.track(f"{number}.wav", SEPARATION, model_type="demucs") as run:
                    run.output(f"/{number}.wav")
    assert [one.category for one in caught] == [OutputWarning]
    kinds = [file.kind for file in files(db)]
    assert (kinds.count("recording"), kinds.count("stem")) == (3, 3)


@pytest.mark.filterwarnings("ignore:the output:voices_peewee.runs.run.OutputWarning")
def test_an_output_that_is_told_again_keeps_its_speaker(db: DatabaseManager) -> None:
    """Scores that come later need not say whose stem it is; the name of nobody stays too."""
    ada = db.create_speaker("Ada")
    with db.track("/mix.wav", "separation") as run:
        run.output("/1.wav", speaker=ada)
        for more in ({"speaker": "nobody"}, {"si_snri": 3}):
            with pytest.warns(SpeakerWarning, match="no speaker 'nobody'"):
                run.output("/2.wav", **more)
        with suppress(ZeroDivisionError), db.atomic():
            run.output("/1.wav", speaker=db.create_speaker("Bob"))
            raise ZeroDivisionError
        run.output("/1.wav", si_snri=3)
        run.output("/3.wav")
    rows = db.search("files", "kind:stem", sort="id")
    known = [(row.speaker_id, row.metadata.get("speaker")) for row in rows]
    assert known == [(ada.id, None), (None, "nobody"), (None, None)]


def test_an_output_that_is_told_again_keeps_one_row(db: DatabaseManager) -> None:
    """A second call for the same path adds metrics and may name the speaker."""
    ada = db.create_speaker("Ada")
    with db.track("mix.wav", SEPARATION) as run:
        for output in ("/1.wav", "/2.wav"):
            run.output(output, si_snri=1, pesq=2)
        for output in ("/1.wav", "/2.wav"):
            with pytest.warns(OutputWarning, match="what came last counts"):
                run.output(output, speaker=ada, si_snri=3)
    assert [row[2:] for row in outputs(db)] == [("/1.wav", ada.id), ("/2.wav", ada.id)]
    assert len(files(db)) == 3  # the rows of no speaker are gone
    told = [(row.si_snri, row.additional_metrics) for row in performances(db)]
    assert told == [(3, {"pesq": 2})] * 2


def test_two_estimates_in_one_file_are_not_lost_silently(db: DatabaseManager) -> None:
    """An output has one speaker and one value of a metric; what takes their place is said."""
    ada, bob = db.create_speaker("Ada"), db.create_speaker("Bob")
    text = "the output '/both.wav' was told before in this run: what came last counts"
    with db.track("mix.wav", SEPARATION) as run:
        run.output("/both.wav")
        for _ in range(2):  # what is told twice alike takes nobody's place
            run.output("/both.wav", speaker=ada, si_snri=10)
        for told in ({"speaker": bob}, {"si_snri": 5}):
            with pytest.warns(OutputWarning) as caught:
                run.output("/both.wav", **told)
            assert [(str(one.message), one.filename) for one in caught] == [(text, __file__)]


def test_outputs_inherit_the_speaker(db: DatabaseManager, tmp_path: Path) -> None:
    """An output is by its own speaker, else by the run's, else by the recording's."""
    mix = write_wav(tmp_path / "mix.wav")
    ada, bob = db.create_speaker("Ada"), db.create_speaker("Bob")
    db.add_audio(mix, speaker=ada)
    with db.track(mix, SEPARATION) as run:
        run.output("/1.wav", speaker=bob)
        run.output("/2.wav")
    with db.track(tmp_path / "other.wav", SEPARATION, speaker=bob) as run:
        run.output("/3.wav")
        run.output("/4.wav", speaker=ada)
    assert [row[3] for row in outputs(db)] == [bob.id, ada.id, bob.id, ada.id]


def test_a_run_for_a_speaker_hangs_on_a_voice(db: DatabaseManager) -> None:
    """Each speaker of a recording has one voice; the recording's own speaker stays as it was."""
    ada, bob = db.create_speaker("Ada"), db.create_speaker("Bob")
    for speaker in (None, ada, bob, ada, None):
        with db.track("mix.wav", SEPARATION, speaker=speaker):
            pass
    assert outputs(db) == [
        (1, 1, None, None),
        (2, 2, None, ada.id),
        (3, 3, None, bob.id),
        (4, 2, None, ada.id),
        (5, 1, None, None),
    ]
    with db.track(db.get_by_id(ProcessedFile, 2), SEPARATION) as run:
        assert (run.file.id, run.recording.id) == (2, 1)


def test_a_voice_that_a_run_leaves_goes(db: DatabaseManager) -> None:
    """The first output moves the run from the voice that was made for it to its stem."""
    ada = db.create_speaker("Ada")
    with db.track("mix.wav", SEPARATION, speaker=ada) as run:
        assert run.file.kind == "voice"
        run.output("/1.wav")
    assert [(file.kind, file.speaker_id) for file in files(db)] == [
        ("recording", None),
        ("stem", ada.id),
    ]


def test_two_runs_at_once_do_not_share_an_output_row(db: DatabaseManager) -> None:
    """Both hang on the recording until each has an output of its own."""
    with db.track("mix.wav", SEPARATION) as one, db.track("mix.wav", SEPARATION) as two:
        two.output("/2.wav", pesq=2)
        one.output("/1.wav", pesq=1)
    assert outputs(db) == [(1, 3, "/1.wav", None), (2, 2, "/2.wav", None)]
    assert [row.additional_metrics["pesq"] for row in performances(db)] == [1, 2]
    assert (one.file.id, two.file.id) == (3, 2)


def test_an_output_of_two_runs_is_kept_with_a_warning(db: DatabaseManager) -> None:
    """The warning names the run and the model that claimed the path before."""
    with db.track("a.wav", SEPARATION, model_type="demucs", model_version="4.0") as first:
        first.output("/stem.wav")
    with db.track("b.wav", SEPARATION) as second, pytest.warns(OutputWarning) as caught:
        second.output("/stem.wav", pesq=1)
    with pytest.warns(OutputWarning) as third, db.track("a.wav", SEPARATION) as run:
        run.output("/stem.wav")
    text = "the output '/stem.wav' is claimed by run {} ({}) too; it is kept for both"
    assert [(str(one.message), one.filename) for one in (*caught, *third)] == [
        (text.format(first.run_id, "demucs:4.0"), __file__),
        (text.format(second.run_id, SEPARATION), __file__),
    ]
    assert outputs(db) == [
        (1, 2, "/stem.wav", None),
        (2, 4, "/stem.wav", None),
        (3, 2, "/stem.wav", None),
    ]


def test_a_run_that_told_no_output_claims_none(db: DatabaseManager) -> None:
    """A warning never names a run that failed or told no output."""
    with pytest.raises(ValueError, match="x"), db.track("a.wav", SEPARATION) as run:
        fail_after(lambda: run.output("/stem.wav"), ValueError("x"))
    with db.track("a.wav", SEPARATION), db.track("a.wav", SEPARATION) as run:
        run.output("/stem.wav")
    stem = (2, "/stem.wav", None)
    assert outputs(db) == [(1, *stem), (2, 1, None, None), (3, *stem)]


def test_what_a_rolled_back_transaction_told_is_not_half_recorded(db: DatabaseManager) -> None:
    """An output inside a transaction that failed is gone; the run still ends with its numbers."""
    with db.track("a.wav", SEPARATION) as run:
        run.output("/1.wav", pesq=1)
        with pytest.raises(ValueError, match="x"), db.atomic():
            fail_after(lambda: run.output("/2.wav", pesq=2), ValueError("x"))
    assert outputs(db) == [(1, 2, "/1.wav", None)]
    assert [row.status for row in histories(db)] == ["success"]
    assert [row.additional_metrics for row in performances(db)] == [{"pesq": 1}]


@pytest.mark.filterwarnings("ignore:the output:voices_peewee.runs.run.OutputWarning")
def test_what_was_told_again_is_taken_back_too(db: DatabaseManager) -> None:
    """An output told again in a transaction, or in a part of one, that failed is as it was."""
    ada, bob = db.create_speaker("Ada"), db.create_speaker("Bob")
    with db.track("a.wav", SEPARATION) as run:
        run.output("/1.wav", speaker=ada, si_snri=1, pesq=1)
        with suppress(ValueError), db.atomic():
            run.output("/1.wav", speaker=bob, si_snri=9, stoi=9)
            raise ValueError
        with db.atomic():
            run.output("/2.wav", si_snri=2)
            run.output("/2.wav", sdri=2)
            with suppress(ValueError), db.atomic():
                run.output("/2.wav", si_snri=9)
                run.output("/2.wav", sdri=9)
                raise ValueError
        run.log(stoi=0.5)
    assert [row[2:] for row in outputs(db)] == [("/1.wav", ada.id), ("/2.wav", None)]
    rows = [(row.si_snri, row.sdri, row.additional_metrics) for row in performances(db)]
    assert rows == [
        (1.0, None, {"pesq": 1, "stoi": 0.5, "run": ["stoi"]}),
        (2.0, 2.0, {"stoi": 0.5, "run": ["stoi"]}),
    ]


def test_a_recording_is_no_output_of_its_own(db: DatabaseManager, tmp_path: Path) -> None:
    """An output at the recording's own path is refused, live and from elsewhere."""
    mix = write_wav(tmp_path / "mix.wav", 4000)
    sentence = f"the output {str(mix)!r} is the recording itself; write it to a path of its own"
    with db.track(mix, SEPARATION) as run, pytest.raises(errors.InvalidValueError) as live:
        run.output(mix, si_snri=1)
    with pytest.raises(errors.InvalidValueError) as past:
        db.record_run(mix, SEPARATION, start_time=utc_now(), outputs=[mix])
    assert [str(live.value), str(past.value)] == [sentence, sentence]
    assert [(row.kind, row.original_path) for row in files(db)] == [("recording", str(mix))]
    assert [row.status for row in histories(db)] == ["success"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_output_that_is_interrupted_ends_with_its_run(db: DatabaseManager) -> None:
    """Wherever Ctrl-C strikes while outputs are told, all rows of the run come to one end."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    for number in range(60):
        with suppress(KeyboardInterrupt), db.track("a.wav", SEPARATION) as run:
            signal.setitimer(signal.ITIMER_REAL, 0.001 + number * 5e-5)
            for step in range(100):
                run.output(f"/{number}/{step}.wav", pesq=step)
            signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    ends = {(row.run_id, row.status) for row in histories(db)}
    assert len(ends) == 60
    assert "failed" in {status for _, status in ends}


TWICE = """
import os, signal, sqlite3, sys, threading, time
from voices_peewee import DatabaseManager, ProcessingHistory

signal.signal(signal.SIGINT, signal.default_int_handler)
db = DatabaseManager("voices.db", timeout=20).initialize()
other = sqlite3.connect("voices.db", isolation_level=None, check_same_thread=False)

def strike_twice():
    for _ in range(2):
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    other.execute("COMMIT")

def pending():
    return db.pending(["a.wav"], "separation", claim=True)

try:
    for source in pending():
        with db.track(source, "separation"):
            other.execute("BEGIN IMMEDIATE")
            threading.Thread(target=strike_twice).start()
            time.sleep(20)
except KeyboardInterrupt as error:
    print(type(error.__context__).__name__)
print(*[row.status for row in db.get_all(ProcessingHistory)], len(list(pending())))
"""


@pytest.mark.sqlite("holds the file's lock")
def test_ctrl_c_twice_leaves_no_unfinished_run(tmp_path: Path) -> None:
    """A second Ctrl-C, while the end waits for a lock, still ends the run and its claim."""
    done = subprocess.run(
        [sys.executable, "-c", TWICE], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert (done.stdout.split(), done.stderr) == (["KeyboardInterrupt", "failed", "1"], "")


LOST = """
import sys
from voices_peewee import DatabaseManager
from voices_peewee.runs.run import Run

def strike(frame, event, _):
    if event == "return" and frame.f_code is Run.__init__.__code__:
        raise KeyboardInterrupt

db = DatabaseManager("voices.db").connect()
sys.setprofile(strike)
with db.track("a.wav", "voice_separation"):
    pass
"""


@pytest.mark.sqlite("another process writes to the file")
def test_a_run_that_nobody_could_end_is_free_with_its_process(path: Path) -> None:
    """Where an interrupt leaves a run unfinished after all, its process's end frees it at once."""
    with DatabaseManager(path).initialize() as db:
        done = subprocess.run(
            [sys.executable, "-c", LOST], capture_output=True, text=True, cwd=path.parent
        )
        assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
        assert [row.status for row in histories(db)] == ["unfinished"]
        source = str(path.parent / "a.wav")
        assert list(db.pending([source], SEPARATION, claim=True)) == [source]
        assert db.close_unfinished() == 1
        assert [row.status for row in histories(db)] == ["failed"]


@pytest.mark.parametrize("name", ["Meter", "Timing", "claims.begin"])
def test_a_begin_that_is_interrupted_leaves_no_unfinished_run(
    db: DatabaseManager, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Where Ctrl-C strikes once the begin of a run is written, the run has failed."""

    def strike(*_: object) -> NoReturn:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(f"voices_peewee.runs.run.{name}", strike)
    with pytest.raises(KeyboardInterrupt), db.track("a.wav", SEPARATION):
        pass
    assert [row.status for row in histories(db)] == ["failed"]


# When the end cannot be written


def test_the_users_error_comes_before_the_databases(db: DatabaseManager) -> None:
    """When the end cannot be written, the user's exception says so in a note."""
    delete = functools.partial(db.execute_raw_query, "DELETE FROM processed_files", write=True)
    with pytest.raises(ValueError, match="mine") as caught, db.track("a.wav", SEPARATION):
        fail_after(delete, ValueError("mine"))
    assert caught.value.__notes__ == [
        "the end of run 1 could not be recorded: no run 1; see 'voices list-history'"
    ]


@pytest.mark.sqlite("holds the file's lock")
def test_an_end_that_cannot_be_written_is_an_error(path: Path) -> None:
    """A block that went well does not hide that its end is not in the database."""
    with DatabaseManager(path, timeout=0.1).initialize() as db:
        with pytest.raises(errors.NotFoundError) as gone, db.track("a.wav", SEPARATION):
            db.execute_raw_query("DELETE FROM processed_files", write=True)
        other = sqlite3.connect(path, isolation_level=None)
        block = db.track("a.wav", SEPARATION)
        with closing(other), pytest.raises(errors.DatabaseBusyError) as busy, block:
            other.execute("BEGIN IMMEDIATE")
        (history,) = histories(db)
    assert str(gone.value) == "no run 1; see 'voices list-history'"
    assert str(busy.value) == (
        f"cannot use {str(path)!r}: another program held its lock for more than 0.1 s; "
        "end that program or raise the timeout"
    )
    assert history.status == "unfinished"


@pytest.mark.parametrize(
    "outputs_told",
    [
        pytest.param([], id="end"),
        pytest.param(
            ["/stem.wav"], id="output", marks=pytest.mark.sqlite("ids that are used again")
        ),
    ],
)
def test_a_run_whose_rows_were_deleted_leaves_others_alone(
    db: DatabaseManager, outputs_told: list[str]
) -> None:
    """A run whose rows were deleted says so; one that got their ids stays as it was."""

    def work() -> None:
        with db.track("a.wav", SEPARATION) as run:
            db.delete(db.get_by_id(ProcessedFile, run.file.id))
            db.track("b.wav", SEPARATION).__enter__()
            for path in outputs_told:
                run.output(path, pesq=1)

    with pytest.raises(errors.NotFoundError) as gone:
        work()
    assert str(gone.value) == "no run 1; see 'voices list-history'"
    assert [row.status for row in histories(db)] == ["unfinished"]
    assert [file.filename for file in db.get_all(ProcessedFile)] == ["b.wav"]
    assert performances(db) == []


def test_a_further_output_of_a_deleted_recording_is_nobody_elses(db: DatabaseManager) -> None:
    """An output that is told after its recording was deleted does not hang on another one."""

    def work() -> None:
        with db.track("a.wav", SEPARATION) as run:
            run.output("/a1.wav", pesq=1)
            db.delete(run.recording)
            db.record_run(
                "b.wav",
                SEPARATION,
                start_time=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
                processing_time=1,
            )
            run.output("/a2.wav", pesq=2)

    with pytest.raises(errors.NotFoundError) as gone:
        work()
    assert str(gone.value) == "no run 1; see 'voices list-history'"
    assert [file.filename for file in db.get_all(ProcessedFile)] == ["b.wav"]


# Decorators


def test_a_decorated_function_is_a_run_a_call(db: DatabaseManager, tmp_path: Path) -> None:
    """The first argument is the source, however it is passed; results and names are kept."""
    mix = write_wav(tmp_path / "mix.wav")

    @db.track(operation_type=SEPARATION, model_type="mean", parameters={"n": 1})
    def separate(mixture: Path, /, gain: float = 1.0, *, run: Run) -> float:
        """Separate."""
        run.log(gain=gain)
        return gain * 2

    @db.track(operation_type="copy")
    def copy(mixture: str) -> str:
        return mixture

    assert (separate.__name__, separate.__doc__) == ("separate", "Separate.")
    assert separate(mix) == 2.0  # type: ignore[call-arg]
    assert separate(mix, 3.0) == 6.0  # type: ignore[call-arg]
    assert copy(mixture=str(mix)) == str(mix)
    assert [(row.operation_type, row.success) for row in histories(db)] == [
        (SEPARATION, True),
        (SEPARATION, True),
        ("copy", True),
    ]
    assert [row.additional_metrics for row in performances(db)] == [
        {"gain": 1.0, "run": ["gain"]},
        {"gain": 3.0, "run": ["gain"]},
        {},
    ]
    assert len(files(db)) == 1


def test_a_method_may_be_decorated(db: DatabaseManager) -> None:
    """The source of a method's call is what follows ``self``, by place or by name."""

    class Model:
        @db.track(operation_type=SEPARATION)
        def separate(self, path: str) -> str:
            return path

    assert (Model().separate("a.wav"), Model().separate(path="b.wav")) == ("a.wav", "b.wav")
    assert [file.filename for file in files(db)] == ["a.wav", "b.wav"]


def test_a_run_is_given_after_any_number_of_arguments(db: DatabaseManager) -> None:
    """A parameter ``run`` that stands after ``*args`` is no place for one of them."""

    @db.track(operation_type=SEPARATION)
    def mix(*sources: str, run: Run) -> tuple[str, ...]:
        run.log(sources=len(sources))
        return sources

    assert mix("a.wav", "b.wav") == ("a.wav", "b.wav")  # type: ignore[call-arg]
    assert performances(db)[0].additional_metrics == {"sources": 2, "run": ["sources"]}


def test_a_source_can_be_given_to_the_decorator(db: DatabaseManager) -> None:
    """A function that takes no source works on the decorator's."""

    @db.track("mix.wav", SEPARATION)
    def work(run: Run) -> str:
        return run.file.filename

    assert work() == "mix.wav"  # type: ignore[call-arg]
    assert len(histories(db)) == 1


def test_what_cannot_be_decorated_says_so(db: DatabaseManager) -> None:
    """Generators and coroutines end later than their call; a call without a source has none."""

    def steps(mixture: str) -> Iterator[str]:
        yield mixture

    async def async_steps(mixture: str) -> Any:
        yield mixture

    async def wait(mixture: str) -> None:
        pass

    class Steps:
        def __call__(self, mixture: str) -> Iterator[str]:
            yield mixture

    class Wait:
        async def __call__(self, mixture: str) -> None:
            pass

    @db.track(operation_type=SEPARATION)
    def work(mixture: str | None = None) -> None:
        pass

    messages = []
    decorate = db.track(operation_type=SEPARATION)
    later = (steps, async_steps, wait, Steps(), Wait())
    for call in (*(functools.partial(decorate, one) for one in later), work):
        with pytest.raises(TypeError) as caught:
            call()
        messages.append(str(caught.value))
    assert messages == [
        *(
            f"{name!r} ends later than its call; use a track block inside it"
            for name in ("steps", "async_steps", "wait", "Steps", "Wait")
        ),
        "a track block needs a source; only a decorator does without",
    ]
    assert histories(db) == []


def test_what_ends_later_behind_another_decorator_is_no_success(db: DatabaseManager) -> None:
    """What a call returns shows that its work has not been done; the run has failed."""

    def steps(mixture: str) -> Iterator[str]:
        yield mixture

    @db.track(operation_type=SEPARATION)
    @functools.wraps(steps)
    def wrapped(mixture: str) -> Iterator[str]:
        return steps(mixture)

    text = "'steps' ends later than its call; use a track block inside it"
    with pytest.raises(TypeError) as caught:
        wrapped("a.wav")
    assert str(caught.value) == text
    assert [row.error_message.split("\n")[0] for row in histories(db)] == [f"TypeError: {text}"]


def test_a_decorator_waits_for_its_database(path: Path) -> None:
    """A function may be decorated before the manager connects, and after it was closed."""
    manager = DatabaseManager(path)

    @manager.track(operation_type=SEPARATION)
    def work(mixture: str) -> None:
        pass

    with pytest.raises(errors.NotConnectedError):
        work("mix.wav")
    for _ in range(2):
        with manager.initialize():
            work("mix.wav")
            number = len(histories(manager))
    assert number == 2


# Many at once


def test_coroutines_are_tracked_side_by_side(db: DatabaseManager) -> None:
    """Tasks that take turns in one thread keep their runs apart; a cancelled one has failed."""

    async def separate(mixture: str) -> str:
        with db.track(mixture, SEPARATION) as run:
            await asyncio.sleep(0)
            run.log(name=mixture)
            await asyncio.sleep(3600 if mixture == "hang" else 0)
            run.output(f"/{mixture}.out")
            return mixture

    async def main() -> list[Any]:
        names = [f"mix{number}" for number in range(20)]
        tasks = [asyncio.create_task(separate(name)) for name in (*names, "hang")]
        await asyncio.wait(tasks[:-1])
        tasks[-1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    *names, cancelled = asyncio.run(main())
    assert names == [f"mix{number}" for number in range(20)]
    assert isinstance(cancelled, asyncio.CancelledError)
    by_id = {file.id: file for file in files(db)}
    metrics = {row.processing_history_id: row.additional_metrics for row in performances(db)}
    for row in histories(db):
        file = by_id[row.processed_file_id]
        assert metrics[row.id] == {"name": file.filename, "run": ["name"]}
        done = file.filename != "hang"
        assert (row.success, file.processed_path is not None) == (done, done)


def test_threads_track_at_the_same_time(db: DatabaseManager, tmp_path: Path) -> None:
    """Eight threads with fifty runs each leave four hundred complete runs of eight files."""
    mixes = [write_wav(tmp_path / f"{number}.wav", value=number) for number in range(8)]

    def work(number: int) -> None:
        for step in range(50):
            with db.track(mixes[number], SEPARATION) as run:
                run.output(f"/{number}/{step}.wav", si_snri=number, step=step)
        db.close_session()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert all(row.success for row in histories(db))
    told = sorted((row.si_snri, row.additional_metrics["step"]) for row in performances(db))
    assert told == [(number, step) for number in range(8) for step in range(50)]
    paths = sorted(str(file.processed_path) for file in files(db) if file.kind == "stem")
    assert paths == sorted(f"/{number}/{step}.wav" for number in range(8) for step in range(50))


def test_one_run_serves_many_threads(db: DatabaseManager) -> None:
    """Stems that a pool of threads writes are all recorded, once each."""
    with db.track("mix.wav", SEPARATION) as run, ThreadPoolExecutor(4) as pool:

        def write(number: int) -> None:
            run.output(f"/{number}.wav", si_snri=number)
            db.close_session()

        list(pool.map(write, range(20)))
    assert sorted(str(row[2]) for row in outputs(db)) == sorted(f"/{n}.wav" for n in range(20))
    assert {row.run_id for row in histories(db)} == {run.run_id}
    assert sorted(row.si_snri or 0 for row in performances(db)) == list(range(20))


WORKERS = """
import multiprocessing, sys
from voices_peewee import (DatabaseManager)

def work(job):
    db, number, runs = job
    for step in range(runs):
        with db.track(f"/mix/{number}.wav", "voice_separation", model_type="m") as run:
            run.output(f"/stems/{number}/{step}.wav", si_snri=number, step=step)

if __name__ == "__main__":
    method, path, workers, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with DatabaseManager(path).initialize() as db:
        with db.track("/parent.wav", "night") as run:
            with multiprocessing.get_context(method).Pool(workers) as pool:
                pool.map(work, [(db, number, runs) for number in range(workers)], chunksize=1)
            run.log(done=True)
"""


@pytest.mark.parametrize(
    ("method", "workers", "runs"),
    [
        pytest.param("fork", 4, 20, id="fork"),
        pytest.param("spawn", 2, 20, id="spawn"),
        pytest.param("fork", 8, 500, id="4000 runs", marks=pytest.mark.once),
    ],
)
def test_no_run_of_a_worker_process_is_lost(
    path: Path, tmp_path: Path, method: str, workers: int, runs: int
) -> None:
    """Every run of every worker is complete, and so is the parent's run around them."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    words = [sys.executable, str(script), method, str(path), str(workers), str(runs)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with DatabaseManager(path) as db:
        assert {row.status for row in histories(db)} == {"success"}
        told = [(row.si_snri, row.additional_metrics.get("step")) for row in performances(db)]
        wanted = {(number, step) for number in range(workers) for step in range(runs)}
        assert len(told) == workers * runs + 1
        assert set(told) == wanted | {(None, None)}
        paths = {file.processed_path for file in files(db)}
        assert paths == {f"/stems/{n}/{step}.wav" for n, step in wanted} | {None}
        pids = {row.process["pid"] for row in histories(db)}
    assert 2 <= len(pids) <= workers + 1  # a quick worker of a pool may take all the work


FORKED = """
import os, sys
from voices_peewee import (DatabaseManager)
with DatabaseManager(sys.argv[1]).initialize() as db:
    try:
        with db.track("/mix.wav", "voice_separation") as run:
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                os.close(writing)
                os.read(reading, 1)  # until the parent's run has ended
                try:
                    run.log(pesq=1)
                except RuntimeError as error:
                    raise SystemExit(f"child: {error}")
            run.log(pesq=2)
    except SystemExit as error:
        print(error, error.__dict__.get("__notes__"), flush=True)
        os._exit(1)
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 256
"""


def test_a_forked_child_does_not_end_its_parents_run(path: Path) -> None:
    """The run belongs to the process that began it, whatever a child of the block does."""
    words = [sys.executable, "-c", FORKED, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    message = "child: run 1 belongs to the process that began it None\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, message, "")
    with DatabaseManager(path) as db:
        assert [row.status for row in histories(db)] == ["success"]
        assert [row.additional_metrics for row in performances(db)] == [
            {"pesq": 2, "run": ["pesq"]}
        ]


# Death, and its traces

IN_A_BLOCK = """
import sys, time
from voices_peewee import (DatabaseManager)
with DatabaseManager(sys.argv[1]) as db:
    with db.track("/mix.wav", "voice_separation", model_type="demucs") as run:
        run.log(lost=1)
        run.output("/1.wav", si_snri=3)
        run.output("/2.wav", si_snri=4)
        print(run.run_id, flush=True)
        time.sleep(600)
"""


@pytest.fixture
def in_a_block(db: DatabaseManager, path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process inside a track block with two outputs, and its run id."""
    words = [sys.executable, "-c", IN_A_BLOCK, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_killed_process_leaves_an_unfinished_run(
    db: DatabaseManager, in_a_block: tuple[subprocess.Popen[str], str]
) -> None:
    """After kill -9 the run can be listed, with the outputs that it had told."""
    process, run_id = in_a_block
    process.send_signal(signal.SIGKILL)
    process.wait()
    rows = histories(db)
    assert [(row.status, row.run_id, row.error_message) for row in rows] == [
        ("unfinished", run_id, None)
    ] * 2
    assert [row[2] for row in outputs(db)] == ["/1.wav", "/2.wav"]
    assert [(row.si_snri, row.processing_time) for row in performances(db)] == [
        (3, None),
        (4, None),
    ]
    facts = [row.process["pid"] for row in rows]
    assert facts == [process.pid] * 2


def test_a_dead_run_is_closed_and_a_living_one_is_not(
    db: DatabaseManager, in_a_block: tuple[subprocess.Popen[str], str]
) -> None:
    """Only death of the process closes a run; its end is its last sign of life."""
    process, run_id = in_a_block
    with db.track("/other.wav", SEPARATION) as mine:
        assert db.close_unfinished() == db.close_unfinished(older_than=0) == 0
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
        assert db.close_unfinished(older_than=dt.timedelta(hours=1)) == 0
        assert db.close_unfinished() == 1
    last = max(row.created_at for row in performances(db) if row.si_snri)
    closed = [row for row in histories(db) if row.run_id == run_id]
    assert [(row.status, row.error_message, row.end_time) for row in closed] == [
        ("failed", "interrupted", last)
    ] * 2
    assert [row.status for row in histories(db) if row.run_id == mine.run_id] == ["success"]
    assert db.close_unfinished() == 0


def test_a_dead_run_may_be_done_again(
    db: DatabaseManager, in_a_block: tuple[subprocess.Popen[str], str]
) -> None:
    """The outputs of a killed run are free."""
    process, _ = in_a_block
    process.kill()
    process.wait()
    with db.track("/mix.wav", SEPARATION) as run:
        run.output("/1.wav")


def unfinished(db: DatabaseManager, process: Any, *, hours: float = 5) -> None:
    """Write a run that began hours ago in a process."""
    file = db.add(ProcessedFile(filename="a"))
    start = utc_now() - dt.timedelta(hours=hours)
    row = {"operation_type": "x", "start_time": start, "process": process}
    db.add(ProcessingHistory(processed_file=file, **row))


HERE = process_facts()


@pytest.mark.parametrize(
    ("process", "closed", "closed_by_age"),
    [
        ({**HERE, "pid": 1 << 30}, 1, 1),
        ({**HERE, "pid": "x"}, 1, 1),
        ({**HERE, "started": 0.5}, 1, 1),
        ({**HERE, "boot": "another"}, 1, 1),
        (HERE, 0, 0),
        ({**HERE, "host": "elsewhere"}, 0, 1),
        ({**HERE, "namespace": 1}, 0, 1),
        (None, 0, 1),
        ({"not": "ours"}, 0, 1),
    ],
    ids=[
        *("dead", "nonsense", "pid used again", "before the boot", "alive"),
        *("other host", "other container", "unknown", "foreign"),
    ],
)
def test_what_is_known_of_a_process_decides(
    db: DatabaseManager, process: Any, closed: int, closed_by_age: int
) -> None:
    """A process is dead when this host says so; elsewhere only age can tell."""
    unfinished(db, process)
    assert db.close_unfinished(older_than=6 * 3600) == 0
    assert db.close_unfinished() == closed
    assert db.close_unfinished(older_than=dt.timedelta(hours=4)) == closed_by_age - closed
    status = "failed" if closed_by_age else "unfinished"
    (row,) = histories(db)
    assert row.status == status
    assert row.end_time == (row.start_time if closed_by_age else None)


@pytest.mark.parametrize("age", [-1, float("nan"), 1e300, "5h", dt.timedelta(-1)], ids=repr)
def test_an_age_must_be_one(db: DatabaseManager, age: Any) -> None:
    """A wrong age closes nothing and says what is expected."""
    unfinished(db, None)
    with pytest.raises(errors.InvalidValueError) as caught:
        db.close_unfinished(older_than=age)
    assert str(caught.value) == f"older_than must be a time of 0 seconds or more, not {age!r}"
    assert histories(db)[0].status == "unfinished"


@pytest.mark.parametrize("again", ["/n/o1", "/n/o2"], ids=["the same", "another"])
def test_an_output_that_was_rolled_back_is_no_output(
    db: DatabaseManager, tmp_path: Path, again: str
) -> None:
    """A transaction around an output takes its numbers back too; what is told later counts."""
    with db.track("/n/1.wav", "separation", model_type="demucs") as run:
        with suppress(ValueError), db.atomic():
            run.output("/n/o1", si_snri=3)
            raise ValueError
        run.output(again, si_snri=4)
        with suppress(ValueError), db.atomic():
            run.output("/n/o3", si_snri=9)
            raise ValueError
    (board,) = db.leaderboard()
    assert (board.mean, board.n, board.stems) == (4.0, 1, 1)
    told = [row.processed_file.processed_path for row in db.get_all(ProcessingHistory)]
    assert told == [again]


def test_an_empty_model_or_version_is_none(db: DatabaseManager) -> None:
    """What an unset variable gives is no version: its runs are those without one."""
    for version in (None, ""):
        with db.track("/m/1.wav", "separation", model_type="c", model_version=version) as run:
            run.log(si_snri=1)
    rows = db.query(ProcessingHistory).all()
    assert [row.model_version for row in rows] == [None, None]
    assert [row.labels for row in db.leaderboard().rows] == [("c",)]
    run_of_another = {"operation_type": "x", "model_version": "", "start_time": utc_now()}
    done = db.import_records(
        [{**run_of_another, "processed_file_id": 1, "run_id": "r"}], table="history"
    )
    assert done.tables["processing_history"].added == 1
    assert list(db.pending(["/m/1.wav"], "separation", model_type="c", model_version="")) == []


@pytest.mark.sqlite("a server's columns take nothing else than theirs")
@pytest.mark.parametrize("metadata", ["[1]", '"x"', "5"])
def test_an_output_where_a_stem_has_metadata_of_another_program(
    db: DatabaseManager, metadata: str
) -> None:
    """What is no object names no speaker: the output is that stem's, and its metadata stay."""
    for day in (1, 2):
        start = f"2026-01-0{day}T00:00:00Z"
        db.record_run("/mix/a.wav", "separation", start_time=start, outputs=["/out/a.wav"])
        with sqlite3.connect(db.path) as connection:
            connection.execute("PRAGMA ignore_check_constraints = 1")
            sql = "UPDATE processed_files SET metadata = ? WHERE processed_path IS NOT NULL"
            assert connection.execute(sql, (metadata,)).rowcount == 1
        connection.close()
