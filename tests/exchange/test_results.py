"""Results of other tools in the record: which run gets them, and what is refused."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.data_sets import (
    ASTEROID,
    DNSMOS,
    ESPNET,
    MUSEVAL,
    RESULTS_SPEECHBRAIN,
    SPEECHBRAIN,
    VERSA,
    write_files,
)

from voices_peewee import DatabaseManager, ModelPerformance, ProcessedFile, ProcessingHistory
from voices_peewee.errors import InputError, InvalidValueError
from voices_peewee.exchange.results import ImportedResults

MODEL = {"model_type": "demucs", "model_version": "4.0"}
START = "2026-11-01T00:00:00Z"


def record(db: DatabaseManager, source: str, *outputs: dict[str, Any], **more: Any) -> str:
    """Record a run by demucs; return its run id."""
    run = {"operation_type": "voice_separation", "start_time": START, **MODEL, **more}
    return str(db.record_run(source, outputs=outputs, **run).run_id)


def load(db: DatabaseManager, path: Path, **more: Any) -> ImportedResults:
    return db.import_results(path, **{"model": "demucs:4.0", **more})


def measured(db: DatabaseManager) -> list[tuple[Any, ...]]:
    return [
        (row.processing_history.run_id, row.si_snri, row.sdri, row.additional_metrics)
        for row in db.query(ModelPerformance).order_by(ModelPerformance.id)
    ]


def refusals(db: DatabaseManager, path: Path, **more: Any) -> list[str]:
    before = measured(db)
    with pytest.raises(InputError) as caught:
        load(db, path, **more)
    assert measured(db) == before
    problems = [str(one).replace(repr(str(path)), "it") for one in caught.value.problems]
    return problems or [str(caught.value).replace(repr(str(path)), "it")]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    return lambda name, text: write_files(tmp_path, {name: text}) / name


def test_recordings_without_a_run_get_one(db: DatabaseManager, write: Any) -> None:
    """A run for each mixture, successful, from when the file was written; again, nothing."""
    path = write("all_metrics.csv", ASTEROID)
    assert load(db, path) == ImportedResults("asteroid", added=2)
    first, second = db.query(ProcessingHistory).order_by(ProcessingHistory.id)
    assert (first.operation_type, first.model_type, first.model_version, first.success) == (
        "voice_separation", "demucs", "4.0", True,
    )  # fmt: skip
    assert first.start_time.timestamp() == pytest.approx(path.stat().st_mtime, abs=1)
    assert first.processed_file.original_path == "/d/mix/a.wav"
    assert first.run_id != second.run_id
    rows = measured(db)
    assert [row[1:3] for row in rows] == [(None, 17.0), (None, None)]
    assert rows[0][3]["si_sdri"] == 17.5
    assert rows[0][3]["metric_impl"].startswith("asteroid, mean over speakers: input_si_sdr, ")
    assert load(db, path) == ImportedResults("asteroid", unchanged=2)
    assert measured(db) == rows
    assert len(db.leaderboard(metric="si_sdri")) == 1


def test_a_run_id_is_the_same_on_every_machine(write: Any, tmp_path: Path) -> None:
    """It comes of model, operation and mixture, so that two records merge without doubling."""
    path = write("all_metrics.csv", ASTEROID)
    ids = []
    for name in ("a.db", "b.db"):
        with DatabaseManager(tmp_path / name).initialize() as db:
            load(db, path)
            ids.append([row[0] for row in measured(db)])
    assert ids[0] == ids[1]


def test_a_run_gets_the_costs_that_it_lacks(db: DatabaseManager, write: Any) -> None:
    """Every metric with a column is written into a run that is here; again, nothing."""
    record(db, "/d/mix/a.wav")
    path = write("test_metrics.csv", "snt_id,sdr_i,si-snr_i,rtf\na.wav,2,4,0.5\n")
    assert load(db, path, format="tdanet").updated == 1
    (row,) = db.query(ModelPerformance)
    assert (row.si_snri, row.sdri, row.real_time_factor) == (4.0, 2.0, 0.5)
    assert load(db, path, format="tdanet").unchanged == 1


def test_outputs_get_what_they_lack(db: DatabaseManager, write: Any) -> None:
    """Estimates are found by their names; values that are here stay, and a conflict is told."""
    outputs = [{"path": f"/e/a_s{n}.wav", "si_snri": 9.0 + n, "pesq": 1.0} for n in (1, 2)]
    run_id = record(db, "/d/mix/a.wav", *outputs)
    path = write("scores.jsonl", VERSA)
    done = load(db, path)
    assert (done.format, done.added, done.updated, done.unchanged) == ("versa", 0, 1, 0)
    assert done.conflicts == [
        f"{str(path)!r}, line 1: pesq is 1.9, and 1.0 here, which is kept",
    ]
    assert done.notes[2:] == [
        "1 left out: no value at all",
        "whether much is good is not known of shine, wer_whisper",
    ]
    assert measured(db) == [
        (run_id, 10.0, None, {"pesq": 1.0, "sdr": 16.1, "stoi": 0.8, "shine": 3.0,
                              "metric_impl": "VERSA: sdr, stoi, shine"}),
        (run_id, 11.0, None, {"pesq": 1.0, "wer_whisper": 0.5,
                              "metric_impl": "VERSA: wer_whisper"}),
    ]  # fmt: skip
    again = load(db, path)
    assert (again.updated, again.unchanged, again.conflicts) == (0, 1, done.conflicts)
    path = write("close.jsonl", '{"key": "a_s1", "pesq": 1.0000001}\n')
    told = f"{str(path)!r}, line 1: pesq is 1.0000001, and 1.0 here, which is kept"
    assert load(db, path).conflicts == [told]  # with the digits in which they differ
    assert load(db, write("dnsmos.csv", DNSMOS)) == ImportedResults("dnsmos", updated=1)
    assert measured(db)[0][3]["metric_impl"].endswith(
        "VERSA: sdr, stoi, shine; DNSMOS: dnsmos_ovrl, dnsmos_sig, dnsmos_bak, dnsmos_p808"
    )


def test_a_mixtures_means_are_the_runs(db: DatabaseManager, write: Any) -> None:
    """They stand in every row of it as the run's; an output's own value goes before them."""
    record(db, "/d/mix/a.wav", {"path": "/e/1.wav", "sdri": 9.0}, {"path": "/e/2.wav"})
    record(db, "/d/mix/a.wav", {"path": "/e/3.wav"}, success=False)
    done = load(db, write("all_metrics.csv", ASTEROID))
    assert (done.added, done.updated, done.conflicts) == (1, 1, [])
    (_, _, first, own), (_, _, second, _), (_, _, failed, more), _ = measured(db)
    assert (first, second, failed, more) == (9.0, 17.0, None, {})
    assert own["run"] == ["input_sdr", "input_si_sdr", "sdr", "si_sdr", "si_sdri", "stoi"]


def test_the_latest_run_gets_the_values(db: DatabaseManager, write: Any) -> None:
    """Of several runs it is the latest; that they have different parameters is said."""
    record(db, "/d/mix/a.wav", parameters={"shifts": 1})
    record(db, "/d/mix/a.wav", parameters={"shifts": 2}, start_time="2026-11-02T00:00:00Z")
    done = load(db, write("all_metrics.csv", ASTEROID))
    assert done.notes == [
        "1 recordings have runs with different parameters; the latest run has the values"
    ]
    assert [row[2] for row in measured(db)] == [None, 17.0, None]


def test_results_that_are_older_than_their_run_are_named(db: DatabaseManager, write: Any) -> None:
    """Scores of a file that was written before the run began may be another run's."""
    record(db, "/d/mix/a.wav", start_time="2026-11-02T00:00:00Z")
    path = write("all_metrics.csv", ASTEROID)
    os.utime(path, (1.7e9, 1.7e9))  # 2023
    assert "1 runs began after their results were written: are they theirs?" in load(db, path).notes
    assert load(db, path).notes == []


def test_ids_come_from_the_manifest(db: DatabaseManager, write: Any) -> None:
    """A mixture's id is the manifest's, given or recorded; without one, each line is refused."""
    path = write("test_results.csv", RESULTS_SPEECHBRAIN)
    assert refusals(db, path) == [
        "it, line 2: no recording is called '0'; name the manifest that has it",
        "it, line 3: no recording is called '1'; name the manifest that has it",
    ]
    manifest = write("test.csv", SPEECHBRAIN)
    assert load(db, path, manifest=manifest, path_map={"/d": "/mnt"}).added == 2
    assert sorted(row.original_path for row in db.get_all(ProcessedFile)) == [
        "/mnt/mix/a.wav", "/mnt/mix/b.wav",
    ]  # fmt: skip
    db.add_manifest(manifest, path_map={"/d": "/mnt"})
    assert load(db, path).unchanged == 2


def test_parts_become_voices(db: DatabaseManager, write: Any) -> None:
    """Without an output, a target is a voice: a speaker's part of one run of the recording."""
    record(db, "/d/Song 1/mixture.wav", model_type="other")
    path = write("Song 1.json", MUSEVAL.replace("NaN}}]}]", "7.0}}]}]"))
    assert load(db, path) == ImportedResults("museval", added=1)
    other, *parts = db.query(ProcessingHistory).order_by(ProcessingHistory.id)
    assert len({part.run_id for part in parts} - {other.run_id}) == 1
    voices = [part.processed_file for part in parts]
    assert [(voice.speaker.name, voice.processed_path) for voice in voices] == [
        ("vocals", None), ("silence", None),
    ]  # fmt: skip
    assert load(db, path) == ImportedResults("museval", unchanged=1)


def test_espnet_names_mixture_speaker_and_output(db: DatabaseManager, tmp_path: Path) -> None:
    """Where all is named, a run from elsewhere has its outputs with their speakers."""
    for name in "ab":
        record(db, f"/d/{name}.wav", model_type="other")
    folder = write_files(tmp_path / "espnet", ESPNET)
    assert load(db, folder).added == 2
    stems = [row for row in db.get_all(ProcessedFile) if row.processed_path]
    assert [(row.original_path, row.processed_path, row.speaker.name) for row in stems] == [
        ("/d/a.wav", "/e/a_1.wav", "spk1"), ("/d/b.wav", "/e/b_1.wav", "spk1"),
    ]  # fmt: skip
    assert load(db, folder).unchanged == 2


@pytest.mark.parametrize("before", ["", "./", "../", ".././../"])
def test_paths_from_the_folder_of_the_scoring(db: DatabaseManager, write: Any, before: str) -> None:
    """DNSMOS writes paths as it is told the folder: ``./out`` is the outputs' as ``out`` is."""
    parts = [f"/d/out/s{n}/a.wav" for n in (1, 2)]
    record(db, "/d/mix/a.wav", *({"path": part} for part in parts))
    rows = "".join(f"{before}out/s{n}/a.wav,{n},2,3\n" for n in (1, 2))
    path = write("dnsmos.csv", f"filename,OVRL,SIG,BAK\n{rows}")
    assert load(db, path) == ImportedResults("dnsmos", updated=1)
    assert [row[3]["dnsmos_ovrl"] for row in measured(db)] == [1, 2]
    rows = f",input_si_sdr,si_sdr,mix_path\n0,-0.5,17.0,{before}mix/a.wav\n"
    path = write("all_metrics.csv", rows)
    assert load(db, path, model="other") == ImportedResults("asteroid", added=1)


@pytest.mark.parametrize("key", ["s1/{}", "s1/{}.wav", "{}_s1", "{}_s1.WAV"])
def test_ids_with_points(db: DatabaseManager, write: Any, key: str) -> None:
    """The mixture of an estimate is known by an id of WSJ0-mix, which looks like a suffix."""
    name = "050a0501_1.7783_442o030z_-1.7783"
    for other in (name, name.rpartition(".")[0], "050a0501"):
        record(db, f"/d/mix/{other}.wav", model_type="other")
    path = write("v.jsonl", json.dumps({"key": key.format(name), "pesq": 2.5}))
    assert load(db, path) == ImportedResults("versa", added=1)
    _, _, _, run = db.query(ProcessingHistory).order_by(ProcessingHistory.id)
    assert run.processed_file.original_path == f"/d/mix/{name}.wav"
    assert run.processed_file.speaker.name == "s1"


def test_estimates_of_a_run_that_results_of_mixtures_made(db: DatabaseManager, write: Any) -> None:
    """Such a run has no outputs: the refusal says how both come in, and so they do."""
    mixtures = write("all_metrics.csv", ",input_si_sdr,si_sdr,mix_path\n0,-0.5,17.0,/d/a.wav\n")
    estimates = write("dnsmos.csv", "filename,OVRL,SIG,BAK\n/e/a_s1.wav,1,2,3\n")
    assert load(db, mixtures).added == 1
    (run,) = db.get_all(ProcessingHistory)
    reason = "it, line 2: the run of demucs:4.0 on '/d/a.wav' has no output of 's1'"
    advice = f"results made it: 'voices delete-run {run.run_id}', then import all at once"
    assert refusals(db, estimates) == [f"{reason}; {advice}"]
    db.delete_run(run.run_id)
    assert load(db, [estimates, mixtures]).added == 1
    (row,) = measured(db)
    assert (row[0], row[3]["dnsmos_ovrl"], row[3]["si_sdr"]) == (run.run_id, 1, 17.0)


TABLES = {f"{name}_spk{n}": f"mix_0 {value}\n" for n in (1, 2) for name, value in
          {"SDR": 7.0, "wav": f"/o/mix_0_s{n}.wav"}.items()}  # fmt: skip
KEYS = "".join(f'{{"key": "mix_0_s{n}", "pesq": 2.5}}\n' for n in (1, 2))
PATHS = "filename,OVRL,SIG,BAK\n" + "".join(f"/o/mix_0_s{n}.wav,1,2,3\n" for n in (1, 2))


@pytest.mark.parametrize(
    "others", [{"a.jsonl": KEYS}, {"a.csv": PATHS}], ids=["names", "paths"]
)  # fmt: skip
def test_tools_of_one_folder_share_the_new_rows(
    db: DatabaseManager, tmp_path: Path, others: dict[str, str]
) -> None:
    """What two tools tell of one estimate stands in one row, whichever is read first."""
    record(db, "/d/mix_0.wav", model_type="other")
    tables = {f"z/{name}": text for name, text in TABLES.items()}
    assert load(db, write_files(tmp_path / "res", {**others, **tables})).added == 1
    _, *runs = db.query(ProcessingHistory).order_by(ProcessingHistory.id)
    files = [run.processed_file for run in runs]
    assert [(file.processed_path, file.speaker.name) for file in files] == [
        ("/o/mix_0_s1.wav", "spk1"), ("/o/mix_0_s2.wav", "spk2"),
    ]  # fmt: skip
    assert all(len({*row[3]} - {"metric_impl"}) > 1 for row in measured(db)[1:])


def test_a_part_is_the_estimate_of_its_speaker(db: DatabaseManager, tmp_path: Path) -> None:
    """A target without an output joins the new estimate of its speaker."""
    record(db, "/d/Song 1/mixture.wav", model_type="other")
    estimates = "filename,OVRL,SIG,BAK\n/e/Song 1_vocals.wav,1,2,3\n"
    folder = write_files(tmp_path / "res", {"Song 1.json": MUSEVAL, "d.csv": estimates})
    load(db, folder)
    _, *rows = db.query(ProcessingHistory).order_by(ProcessingHistory.id)
    assert [row.processed_file.processed_path for row in rows] == ["/e/Song 1_vocals.wav"]
    assert measured(db)[1][3].keys() > {"sdr", "dnsmos_ovrl"}


def test_a_run_of_several_files_has_one_start(db: DatabaseManager, tmp_path: Path) -> None:
    """The parts of a new run began together, whenever the files that tell of them were written."""
    record(db, "/d/mix_0.wav", model_type="other")
    lines = {f"{n}.jsonl": f'{{"key": "mix_0_s{n}", "pesq": 2.5}}\n' for n in (1, 2)}
    folder = write_files(tmp_path / "res", lines)
    os.utime(folder / "1.jsonl", (1.7e9, 1.7e9))
    load(db, folder)
    _, *rows = db.query(ProcessingHistory).order_by(ProcessingHistory.id)
    assert [row.start_time.timestamp() for row in rows] == [1.7e9] * 2


def test_what_cannot_be_told_is_refused(db: DatabaseManager, write: Any) -> None:
    """A name that fits nothing, several things, or no part of the run: all or nothing."""
    record(db, "/d/1/a.wav", {"path": "/e/1/x.wav"}, {"path": "/e/2/x.wav"})
    record(db, "/d/2/b.wav", model_type="other")
    record(db, "/d/3/b.wav", model_type="other")
    keys = ("x.wav", "1/x.wav", "a_s1.wav", "b_s1.wav", "c.wav", "a.wav")
    lines = "".join(json.dumps({"key": key, "pesq": 2.0}) + "\n" for key in keys)
    assert refusals(db, write("v.jsonl", lines)) == [
        "it, line 1: several outputs of demucs:4.0 are called 'x.wav'",
        "it, line 3: the run of demucs:4.0 on '/d/1/a.wav' has no output of 's1'",
        "it, line 4: several recordings are called 'b'; name the manifest that has it",
        (
            "it, line 5: no output of demucs:4.0 and no recording is called 'c.wav'; "
            "name the manifest that has it"
        ),
        "it, line 6: the run of demucs:4.0 on '/d/1/a.wav' has no output called 'a.wav'",
    ]


def test_a_run_under_another_path(db: DatabaseManager, write: Any) -> None:
    """Results by the old path of a recording whose run they made are not made a run again."""
    path = write("all_metrics.csv", ASTEROID)
    load(db, path)
    (run_id, *_), _ = measured(db)
    db.update(db.get_file("/d/mix/a.wav"), original_path="/new/a.wav")
    before = measured(db)
    with pytest.raises(InvalidValueError) as caught:
        load(db, path)
    assert str(caught.value) == f"there is a run {run_id!r} already, of another path"
    assert measured(db) == before
    assert load(db, path, path_map={"/d/mix/a.wav": "/new/a.wav"}).unchanged == 2


def test_a_recording_is_no_output(db: DatabaseManager, write: Any) -> None:
    """A row about the recording's own file, of which there is no run, is refused."""
    record(db, "/d/a.wav", model_type="other")
    assert refusals(db, write("v.jsonl", '{"key": "/d/a.wav", "pesq": 2}\n')) == [
        "it, line 1: '/d/a.wav' is the recording itself, no output of it"
    ]


def test_an_output_of_another_model_is_refused(db: DatabaseManager, write: Any) -> None:
    """Scores of one model's stems are not another's, whatever --model says."""
    record(db, "/d/a.wav", {"path": "/e/a_s1.wav"}, model_type="other", model_version=None)
    lines = '{"key": "/e/a_s1.wav", "pesq": 2}\n'
    for model in ("demucs:4.0", "new"):
        assert refusals(db, write("v.jsonl", lines), model=model) == [
            f"it, line 1: '/e/a_s1.wav' is an output of other, not of {model}"
        ]
    found = refusals(db, write("w.jsonl", lines), model="other", operation_type="denoising")
    assert found == [
        "it, line 1: '/e/a_s1.wav' is an output of other in voice_separation, not of other"
    ]
    lines = lines.replace("/e/", "/x/..//e/")
    assert refusals(db, write("v.jsonl", lines))[0].endswith(
        "is an output of other, not of demucs:4.0"
    )
    assert load(db, write("v.jsonl", lines), model="other").updated == 1


def test_an_output_of_another_models_failed_run_is_refused(db: DatabaseManager, write: Any) -> None:
    """What a failed run wrote is its model's too; results of its own model make a run."""
    failed = {"model_type": "other", "model_version": None, "success": False}
    record(db, "/d/a.wav", {"path": "/e/a_s1.wav"}, **failed)
    path = write("v.jsonl", '{"key": "/e/a_s1.wav", "pesq": 2}\n')
    assert refusals(db, path) == [
        "it, line 1: '/e/a_s1.wav' is an output of other, not of demucs:4.0"
    ]
    assert load(db, path, model="other").added == 1


def test_outputs_that_are_called_as_another_models_are_told(
    db: DatabaseManager, write: Any
) -> None:
    """A name may be of either model's output: a note asks, and says whose else it is."""
    for model in ("other", "third"):
        record(db, "/d/a.wav", {"path": f"/{model}/a_s1.wav"}, model_type=model)
    record(db, "/d/b.wav", {"path": "/own/b_s1.wav"})
    record(db, "/d/b.wav", {"path": "/other/b_s1.wav"}, model_type="other")
    lines = '{"key": "%s", "pesq": 2}\n'
    path = write("v.jsonl", lines % "third/a_s1" + lines % "b_s1.wav")
    done = load(db, path)
    assert (done.added, done.updated, done.notes) == (1, 1, [
        "outputs that are called as some of third:4.0 are: 1; are the values demucs:4.0's own?"
    ])  # fmt: skip
    bare = load(db, write("w.jsonl", lines % "a_s1.wav"), model="new").notes
    assert bare == [
        "outputs that are called as some of other:4.0, third:4.0 are: 1; are the values new's own?"
    ]


@pytest.mark.sqlite("a server's columns take nothing else than theirs")
def test_values_of_another_program_end_no_import(db: DatabaseManager, write: Any) -> None:
    """A model in bytes is told as it stands; a start that is no time says nothing of the scores."""
    record(db, "/d/a.wav", {"path": "/e/a_s1.wav"}, model_type="other")
    sql = "UPDATE processing_history SET model_version = x'00ff', start_time = '05/05/2026'"
    db.execute_raw_query(sql, write=True)
    path = write("v.jsonl", '{"key": "a_s1.wav", "pesq": 2}\n')
    (note,) = load(db, path).notes
    asked = "1; are the values demucs:4.0's own?"
    assert note == rf"outputs that are called as some of other:b'\x00\xff' are: {asked}"
    db.execute_raw_query("UPDATE processing_history SET model_version = '4.0'", write=True)
    assert load(db, path, model="other:4.0").updated == 1


@pytest.mark.sqlite("a server's columns take nothing else than theirs")
@pytest.mark.parametrize("metrics", ["[1]", '{"run": 7}', '{"nonfinite": 1}', "no JSON"])
def test_metrics_of_another_program_are_refused(
    db: DatabaseManager, write: Any, metrics: str
) -> None:
    """Nothing is added to what is no object of a run's metrics; one sentence says so."""
    record(db, "/d/a.wav", {"path": "/e/a_s1.wav", "sdri": 1.0})
    sql = "UPDATE model_performance SET additional_metrics = ?"
    with closing(sqlite3.connect(db.path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(sql, (metrics,))
    with pytest.raises(InvalidValueError) as caught:
        load(db, write("v.jsonl", '{"key": "/e/a_s1.wav", "pesq": 2}\n'))
    assert str(caught.value) == (
        "the additional metrics of history row 1 are none of a run; see 'voices check'"
    )


def test_a_value_that_no_column_takes(db: DatabaseManager, write: Any) -> None:
    """A number out of all bounds is refused with its line, a metric whose name is taken told."""
    record(db, "/d/a.wav", {"path": "/e/x.wav"})
    lines = '{"key": "x.wav", "pesq": 2}\n{"key": "x.wav", "nonfinite": 1, "sdri": 1e9}\n'
    assert refusals(db, write("w.jsonl", lines + '{"key": "y.wav", "rtf": -1}\n')) == [
        "it, line 2, column 'sdri': sdri must be a finite number of dB, not 1000000000.0",
        "it, line 3, column 'rtf': real_time_factor must be a number, 0 or more, not -1.0",
    ]
    done = load(db, write("v.jsonl", '{"key": "x.wav", "nonfinite": 1, "sdri": 1}\n'))
    assert (done.updated, done.notes) == (1, ["1 left out: a metric cannot be named 'nonfinite'"])
    assert measured(db)[0][2:] == (1.0, {"metric_impl": "VERSA: sdri"})


def test_bad_rows_are_told_in_their_order(db: DatabaseManager, write: Any) -> None:
    """What a row says and what it is about are told together, by line."""
    assert refusals(db, write("a.csv", "snt_id,sdr,pesq\n0,1,2\n1,x,2\n2,3,2\n")) == [
        "it, line 2: no recording is called '0'; name the manifest that has it",
        "it, line 3, column 'sdr': 'x' is not a number",
        "it, line 3: no recording is called '1'; name the manifest that has it",
        "it, line 4: no recording is called '2'; name the manifest that has it",
    ]


def test_a_direction_that_is_told_is_known(db: DatabaseManager, write: Any) -> None:
    """Questions about a metric that the vocabulary lacks take the direction of the import."""
    record(db, "/d/mix/a.wav", *[{"path": f"/e/a_s{n}.wav"} for n in (1, 2)])
    done = load(db, write("scores.jsonl", VERSA), higher_is_better=True)
    assert not any("whether" in note for note in done.notes)
    assert db.leaderboard(metric="shine")[0].mean == 3.0


IMPORTER = """
import sys
from voices_peewee import DatabaseManager
_, place, path = sys.argv
with DatabaseManager(place) as db:
    print("ready", flush=True)
    sys.stdin.readline()
    done = db.import_results(path, model="demucs:4.0")
    print(done.added, done.updated, done.unchanged, len(done.conflicts))
"""


def test_imports_at_once_add_up(db: DatabaseManager, path: Path | str, tmp_path: Path) -> None:
    """Of processes that import results of the same new recordings, each value is there once."""
    count = 300
    texts = {
        name: f"snt_id,{name}\n" + "".join(f"/d/{row}.wav,{value}\n" for row in range(count))
        for name, value in (("sdr", 9.5), ("pesq", 2.5))
    }
    files = [
        write_files(tmp_path, {f"{name}.csv": text}) / f"{name}.csv" for name, text in texts.items()
    ]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", IMPORTER, str(path), str(file)],
            stdin=pipe, stdout=pipe, stderr=pipe, text=True,
        )
        for file in files * 2
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [worker.communicate(timeout=120) for worker in workers]
    assert [err for _, err in told] == [""] * 4
    counts = [list(map(int, out.split())) for out, _ in told]
    assert [sum(one) for one in counts] == [count] * 4
    assert [sum(column) for column in zip(*counts, strict=True)] == [count, count, 2 * count, 0]
    rows = measured(db)
    assert len({row[0] for row in rows}) == len(rows) == count
    assert all((row[3]["sdr"], row[3]["pesq"]) == (9.5, 2.5) for row in rows)


def test_a_model_is_needed(db: DatabaseManager, write: Any) -> None:
    """An empty model or operation is refused."""
    path = write("all_metrics.csv", ASTEROID)
    for settings in ({"model": ":1"}, {"operation_type": " "}):
        with pytest.raises(InvalidValueError) as caught:
            load(db, path, **settings)
        assert str(caught.value) == "results need a model, as demucs:4.0, and an operation_type"
