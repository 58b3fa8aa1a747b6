"""Models ranked by the mean of a metric over recordings, and what became of the others."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from support.measured import measure, recording
from support.run_rows import add_run

from voices_peewee import DatabaseManager, ModelPerformance, ProcessingHistory, Speaker
from voices_peewee.errors import QueryError
from voices_peewee.questions.leaderboard import Leaderboard
from voices_peewee.runs.metrics import MetricWarning

A, B = "demucs:4.0", "svoice:1.2"


def names(board: Leaderboard) -> list[tuple[str, ...]]:
    return [row.labels for row in board]


@pytest.mark.parametrize("n", [2, 3, 40])
def test_numbers_agree_with_scipy(db: DatabaseManager, n: int) -> None:
    """Mean, median, SD and interval of recordings' means are NumPy's and SciPy's."""
    generator = random.Random(n)
    values = [[generator.gauss(10, 3), generator.gauss(10, 3)] for _ in range(n)]
    measure(db, A, values)
    (row,) = db.leaderboard()
    means = np.mean(values, axis=1)
    interval = scipy.stats.ttest_1samp(means, 0).confidence_interval()
    assert (row.n, row.stems) == (n, 2 * n)
    assert (row.mean, row.median, row.stdev, row.low, row.high) == pytest.approx(
        (means.mean(), np.median(means), means.std(ddof=1), interval.low, interval.high), rel=1e-9
    )


def test_coverage_is_of_the_recordings_in_question(db: DatabaseManager) -> None:
    """A model that survives on few recordings is seen to."""
    measure(db, A, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    measure(db, B, [9.0, [8.0, None], None, "failed", "unfinished"])
    survivor, other = db.leaderboard()
    assert survivor.labels == (B,)
    assert survivor.coverage == {
        "in_question": 6,
        "done": 1,
        "partly_finite": 1,
        "not_finite": 1,
        "failed": 1,
        "unfinished": 1,
        "not_run": 1,
    }
    assert (survivor.n, survivor.stems, other.coverage["done"]) == (2, 2, 6)


def test_different_recordings_are_said_to_be(db: DatabaseManager) -> None:
    """A line says that they differ; ``common`` keeps to those that all have."""
    measure(db, A, [1.0, 2.0, 3.0, 10.0])
    measure(db, B, [2.0, 3.0, 4.0])
    board = db.leaderboard()
    assert board.notes[0] == (
        "measured on different recordings (3 to 4); all have 3 of them, to which 'common' keeps"
    )
    common = db.leaderboard(common=True)
    assert [(row.labels, row.n, row.mean) for row in common] == [((B,), 3, 3.0), ((A,), 3, 2.0)]
    assert common.notes[0] == "only the recordings that all have a value of: 3"
    assert common[1].coverage["done"] == 4


def test_a_group_without_values_takes_no_recording_from_the_others(db: DatabaseManager) -> None:
    """Common are the recordings of all groups with values; a line names the others."""
    measure(db, A, [1.0, 2.0, 3.0])
    measure(db, B, [2.0, 3.0, "failed"])
    measure(db, "broken:1", {"/mix/009.wav": "failed"})
    board = db.leaderboard(common=True)
    assert [(row.labels, row.n) for row in board] == [((B,), 2), ((A,), 2), (("broken:1",), 0)]
    assert board[2].coverage["failed"] == 1
    assert board.notes[:2] == (
        "only the recordings that all have a value of: 2",
        "no recording has a value from: broken:1",
    )


def test_no_common_recording_leaves_nobody_a_mean(db: DatabaseManager) -> None:
    """Groups that share nothing are shown without values, and a line says so."""
    measure(db, A, {"/mix/001.wav": 1.0})
    measure(db, B, {"/mix/002.wav": 2.0})
    said = "measured on different recordings (1 each); none is common"
    assert db.leaderboard().notes[0] == said
    board = db.leaderboard(common=True)
    assert [row.n for row in board] == [0, 0]
    assert board.notes == ("only the recordings that all have a value of: 0",)


def test_letters_tell_who_is_told_apart(db: DatabaseManager) -> None:
    """Two share a letter where Holm's test on common recordings does not tell them apart."""
    generator = random.Random(1)
    base = [generator.gauss(10, 3) for _ in range(12)]
    for model, shift in (("a:1", 0.0), ("b:1", 0.02), ("c:1", 2.0)):
        measure(db, model, [value + shift + generator.gauss(0, 0.3) for value in base])
    board = db.leaderboard()
    assert {row.labels: row.letters for row in board} == {
        ("c:1",): "a",
        ("b:1",): "b",
        ("a:1",): "b",
    }
    assert board.notes == (
        "groups that share a letter cannot be told apart (Holm, common recordings)",
    )


def test_more_than_twelve_groups_have_no_letters(db: DatabaseManager) -> None:
    """With more groups a line says why there are none."""
    for place in range(13):
        measure(db, f"m{place}:1", [float(place), 1.0])
    board = db.leaderboard()
    assert {row.letters for row in board} == {None}
    assert board.notes == ("no letters for more than 12 groups: narrow them down",)


def test_pooled_settings_are_named(db: DatabaseManager) -> None:
    """Where a group pools settings, and where groups differ in one, the parameters are named."""
    measure(db, A, [1.0, 2.0], parameters={"shifts": 1, "chunk": 4})
    measure(db, A, {"/mix/002.wav": 3.0}, parameters={"shifts": 2, "chunk": 4})
    measure(db, B, [1.0, 2.0, 3.0], parameters={"chunk": 8, "shifts": 1})
    assert db.leaderboard(by="model").notes[:2] == (
        "demucs:4.0 pools runs whose parameters differ: shifts",
        "parameters that differ between the groups: chunk",
    )
    board = db.leaderboard(by=("model", "parameters.shifts"))
    assert not any("pools" in note for note in board.notes)
    assert names(board) == [(A, "2"), (B, "1"), (A, "1")]
    assert [row.key[-1] for row in board] == [2, 1, 1]
    measure(db, A, [1.0, 2.0], hours=1, parameters={"net": {"deep": 1, "wide": 2}})
    measure(db, A, {"/mix/002.wav": 3.0}, hours=1, parameters={"net": {"deep": 3, "wide": 4}})
    (note, *_) = db.leaderboard(by="parameters.net.deep", where="parameters.net.deep:1..").notes
    assert note == "parameters that differ between the groups: net.wide"


def test_pooled_models_are_named(db: DatabaseManager) -> None:
    """Groups that mix models say so, as with parameters; those of one model do not."""
    for model in (A, B):
        measure(db, model, [1.0, 2.0], tags=["night"])
    said = f"night pools the runs of several models: {A}, {B}"
    assert said in db.leaderboard(by="run.tag").notes
    assert f"2 groups pool the runs of several models: {A}, {B}" in db.leaderboard(by="file").notes
    measure(db, "demucs:5.0", {"/mix/002.wav": 3.0})
    said = f"demucs pools the runs of several models: {A}, demucs:5.0"
    assert said in db.leaderboard(by="model_type").notes
    for by, where in (("model", ""), ("run.tag", f"model:{A}")):
        assert not any("models" in note for note in db.leaderboard(by=by, where=where).notes)


@pytest.mark.parametrize("name", ["pesq", "PESQ", "loudness"])
def test_a_metric_that_was_never_finite_is_known(db: DatabaseManager, name: str) -> None:
    """Of a metric without any finite value it is said how many were not."""
    for value in (float("nan"), float("inf")):
        told = {"source": f"/{value}.wav", "start_time": "2026-01-01T00:00Z"}
        with pytest.warns(MetricWarning):
            db.record_run(
                operation_type="separation", metrics={"pesq": value, "loudness": value}, **told
            )
    (row,) = db.leaderboard(name, higher_is_better=True)
    assert (row.n, row.coverage["not_finite"]) == (0, 2)


def test_several_operations_in_a_group_are_refused(db: DatabaseManager) -> None:
    """What was done has to be said, or be one of the groups."""
    measure(db, A, [1.0])
    measure(db, A, [2.0], operation_type="enhancement")
    with pytest.raises(QueryError) as raised:
        db.leaderboard()
    assert str(raised.value) == (
        "a group has runs of several operations (enhancement, voice_separation); say which by "
        "operation_type"
    )
    assert db.leaderboard(operation_type="enhancement")[0].mean == 2.0
    assert names(db.leaderboard(by=("operation_type", "model"))) == [
        ("enhancement", A),
        ("voice_separation", A),
    ]


def test_any_field_makes_groups(db: DatabaseManager) -> None:
    """Model, speaker, recording, metadata, parameters, format, and several of them."""
    measure(db, A, [{"Ada": 1.0, "Bob": 3.0}, {"Ada": 5.0}], parameters={"deep": {"er": "x"}})
    recording(db, "/mix/000.wav", metadata={"room": "hall", "snr": -5}, file_format="flac")
    expected: dict[Any, list[tuple[tuple[str, ...], float]]] = {
        "model": [((A,), 3.5)],
        "model_type": [(("demucs",), 3.5)],
        "speaker": [(("Ada",), 3.0), (("Bob",), 3.0)],
        "file": [(("/mix/001.wav",), 5.0), (("/mix/000.wav",), 2.0)],
        "metadata.room": [(("-",), 5.0), (("hall",), 2.0)],
        "metadata.snr": [(("-",), 5.0), (("-5",), 2.0)],
        "parameters.deep.er": [(("x",), 3.5)],
        "format": [(("-",), 5.0), (("flac",), 2.0)],
        ("speaker", "metadata.room"): [
            (("Ada", "-"), 5.0),
            (("Bob", "hall"), 3.0),
            (("Ada", "hall"), 1.0),
        ],
    }
    for by, rows in expected.items():
        assert [(row.labels, row.mean) for row in db.leaderboard(by=by)] == rows, by


def test_a_failure_belongs_to_the_speakers_of_the_recording(db: DatabaseManager) -> None:
    """By speaker, what failed counts for those whose stems other runs have."""
    measure(db, A, [{"Ada": 1.0, "Bob": 3.0}])
    measure(db, B, ["failed"])
    for field, ada, bob in (("speaker", "Ada", "Bob"), ("speaker_id", "1", "2")):
        board = db.leaderboard(by=(field, "model"))
        assert {row.labels: row.coverage["failed"] for row in board} == {
            (ada, A): 0,
            (bob, A): 0,
            (ada, B): 1,
            (bob, B): 1,
        }
        assert {row.coverage["in_question"] for row in board} == {1}


def test_speakers_of_one_name_are_told_apart(db: DatabaseManager) -> None:
    """Two speakers of one name have their ids beside it."""
    first = db.add(Speaker(name="Ada"))
    measure(db, A, [{"Ada": 1.0}])
    second = db.add(Speaker(name="Ada"))
    measure(db, A, {"/x.wav": 2.0})
    recording(db, "/x.wav", speaker=second)
    assert [row.speaker for row in db.leaderboard(by="speaker")] == [
        f"Ada (id {second.id})",
        f"Ada (id {first.id})",
    ]


def test_words_and_filters_choose_runs(db: DatabaseManager) -> None:
    """Query words, model, speaker, times and the limit narrow the question."""
    measure(db, A, [{"Ada": 1.0, "Bob": 3.0}, 5.0], parameters={"shifts": 1})
    measure(db, B, [2.0, 4.0], hours=48)
    recording(db, "/mix/000.wav", metadata={"room": "hall"})
    for asked, expected in (
        ({"where": "metadata.room:hall"}, [2.0, 2.0]),
        ({"where": ["parameters.shifts:1", "metadata.room:hall"]}, [2.0]),
        ({"model_type": "svoice"}, [3.0]),
        ({"model_type": "demucs", "model_version": "4.0", "speaker": "Ada"}, [1.0]),
        ({"since": "2026-11-02T00:00:00Z"}, [3.0]),
        ({"until": "2026-11-02T00:00:00Z"}, [3.5]),
        ({"limit": 1}, [3.5]),
        ({"operation_type": "other"}, []),
    ):
        assert [row.mean for row in db.leaderboard(**asked)] == expected, asked


@pytest.mark.parametrize(("metric", "best"), [("si_snri", B), ("rtf", A), ("PESQ", B), ("WER", A)])
def test_the_best_comes_first(db: DatabaseManager, metric: str, best: str) -> None:
    """The highest mean, or the lowest where low is good; in any spelling of the metric."""
    name = {"rtf": "real_time_factor", "PESQ": "pesq", "WER": "wer"}.get(metric, metric)
    measure(db, A, [1.0, 2.0], metric=name)
    measure(db, B, [3.0, 2.0], metric=name)
    board = db.leaderboard(metric)
    assert (names(board)[0], board.metric) == ((best,), name)


def test_a_metric_is_no_column_beside_itself(db: DatabaseManager) -> None:
    """What is asked for stands there once, as the mean; other numbers stand beside it."""
    add_run(db, si_snri=1.0, sdri=2.0, real_time_factor=0.5)
    for metric, others in (("sdri", ["RTF"]), ("rtf", ["SDRi"])):
        titles = [column.title for column in db.leaderboard(metric).cells()[0]]
        assert [title for title in titles if title in ("SDRi", "RTF")] == others


def test_equal_means_come_in_the_order_of_names(db: DatabaseManager) -> None:
    """Groups without a value come last."""
    for model, outcome in (("b", 1.0), ("a", 1.0), ("c", "failed")):
        measure(db, model, [outcome])
    assert names(db.leaderboard()) == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"by": "modle"},
            "unknown field 'modle'; did you mean 'model' or 'model_type' or 'model_hash'?",
        ),
        ({"by": ()}, "a leaderboard is by one field or more, such as model or speaker"),
        ({"by": "parameters"}, "groups by parameters need a key, as in parameters.name"),
        ({"by": "model_type.x"}, "groups by model_type need no keys"),
        ({"by": "si_snri"}, "si_snri is a metric, which makes no groups"),
        ({"metric": "pesk"}, "unknown metric 'pesk'; did you mean 'pesq'?"),
        (
            {"where": "modle:x"},
            "unknown field 'modle'; did you mean 'model' or 'model_type' or 'model_hash'?",
        ),
        (
            {"metric": "odd"},
            "it is not known whether a high 'odd' is good; say higher_is_better=True or False",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_asked(db: DatabaseManager, asked: Any, message: str) -> None:
    """A question that makes no sense gets one sentence."""
    measure(db, A, [1.0], metric="pesq")
    measure(db, A, [1.0], metric="odd", hours=1)
    with pytest.raises(QueryError) as raised:
        db.leaderboard(**asked)
    assert str(raised.value) == message


@pytest.mark.sqlite("a server keeps out what is no JSON")
def test_what_is_no_json_hides_nothing_else(db: DatabaseManager) -> None:
    """A row that another program wrote badly takes no whole question away."""
    measure(db, A, [1.0, 2.0], metric="pesq")
    first = db.query(ModelPerformance).first()
    db.execute_raw_query(
        "UPDATE model_performance SET additional_metrics = '{bad' WHERE id = ?",
        (first.id,),
        write=True,
    )
    (row,) = db.leaderboard("pesq")
    assert (row.n, row.mean, row.coverage["not_finite"]) == (1, 2.0, 1)


@pytest.mark.sqlite("a server's run ids are texts")
def test_a_run_id_that_is_no_text_hides_nothing_else(db: DatabaseManager) -> None:
    """Of two runs that began at once one counts, whatever another program made of its id."""
    measure(db, A, [1.0])
    measure(db, A, [1.0])
    sql = "UPDATE processing_history SET run_id = x'ff00' WHERE id = 2"
    db.execute_raw_query(sql, write=True)
    (row,) = db.leaderboard()
    assert (row.n, row.mean) == (1, 1.0)


@pytest.mark.sqlite("a server's ids are integers")
@pytest.mark.parametrize("recording", [1.5, -9.5, "x"])
def test_a_recording_that_is_no_id_hides_nothing_else(
    db: DatabaseManager, path: Path, recording: object
) -> None:
    """A row that another program hung on a number between two ids is left out, and no other."""
    measure(db, A, [[1.0, 3.0], [5.0, 7.0]])
    spoilt = max(run.processed_file_id for run in db.get_all(ProcessingHistory))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        sql = "UPDATE processed_files SET recording_id = ? WHERE id = ?"
        other.execute(sql, (recording, spoilt))
    board = db.leaderboard()
    assert (board[0].n, board[0].mean) == (2, 3.5)
    assert board.notes == ("values and runs left out, since they cannot be read: 1",)


@pytest.mark.sqlite("another program writes it")
def test_a_run_id_given_twice_moves_no_other_run(db: DatabaseManager) -> None:
    """When a run began is asked for its own recording: its id may stand at another one, too."""
    measure(db, A, {"/m/0.wav": 1.0})
    measure(db, A, {"/m/0.wav": 9.0}, hours=24)
    measure(db, A, {"/m/1.wav": 5.0}, hours=48)
    first, _, last = db.query(ProcessingHistory).order_by(ProcessingHistory.id)
    sql = "UPDATE processing_history SET run_id = ? WHERE id = ?"
    db.execute_raw_query(sql, (first.run_id, last.id), write=True)
    (row,) = db.leaderboard()
    assert (row.n, row.mean) == (2, 7.0)


@pytest.mark.sqlite("a server keeps out what is beyond the bounds")
@pytest.mark.parametrize("size", [9e999, 1e200])
def test_stems_out_of_bounds_are_no_mean(db: DatabaseManager, size: float) -> None:
    """Two values beyond all bounds whose sum is none, or 0, are not measured."""
    measure(db, A, [[1.0, 3.0], [5.0, 7.0], [3.0, 5.0]])
    sql = "UPDATE model_performance SET si_snri = ? WHERE id = ?"
    db.execute_raw_query("PRAGMA ignore_check_constraints = ON", write=True)
    for value, key in ((size, 3), (-size, 4)):
        db.execute_raw_query(sql, (value, key), write=True)
    (row,) = db.leaderboard()
    assert (row.n, row.mean, row.coverage["not_finite"]) == (2, 3.0, 1)


def test_a_leaderboard_is_a_sequence_of_plain_data(db: DatabaseManager) -> None:
    """Rows by index and slice, fields as attributes, dicts that are JSON, a frame."""
    measure(db, A, [1.0, 2.0])
    measure(db, B, [2.0, 4.0])
    board = db.leaderboard(by=("model", "operation_type"))
    row = board[0]
    assert (row.model_type, row.model_version, row.operation_type) == (
        "svoice",
        "1.2",
        "voice_separation",
    )
    with pytest.raises(AttributeError, match="this leaderboard row has no 'speaker'"):
        _ = row.speaker
    assert [len(board), len(board[:1]), board[1].model_type] == [2, 1, "demucs"]
    plain = json.loads(json.dumps(board.to_dicts()))
    assert (plain[0]["model_type"], plain[0]["mean"], plain[0]["coverage"]["done"]) == (
        "svoice",
        3.0,
        2,
    )
    frame = board.to_dataframe()
    assert list(frame["mean"]) == [3.0, 1.5]
    assert list(frame["in_question"]) == [2, 2]
    assert db.leaderboard(model_type="none").to_dataframe().empty


def test_the_text_is_a_table(db: DatabaseManager) -> None:
    """The best first, with spread, what is missing, and what a reader has to know."""
    measure(db, A, [[1.0, 3.0], 4.0, "failed"])
    measure(db, B, [5.0, 6.0, 7.5])
    board = db.leaderboard()
    assert str(board).splitlines() == [
        "si_snri (dB) by model, highest mean first",
        "model       n  same  stems  failed  mean  ±95 %  median    SD",
        "svoice:1.2  3  a                    6.17   3.13    6.00  1.26",
        "demucs:4.0  2  a         3       1  3.00  12.71    3.00  1.41",
        ("measured on different recordings (2 to 3); all have 2 of them, to which 'common' keeps"),
        "recordings of which not all have values of as many stems: 1",
        "groups that share a letter cannot be told apart (Holm, common recordings)",
    ]
    assert "svoice:1.2" in board._repr_html_()
    assert str(db.leaderboard(model_type="none")).splitlines()[1] == "no runs"


def test_a_leaderboard_for_papers(db: DatabaseManager) -> None:
    """Markdown and LaTeX with a caption that says what n and ± are."""
    measure(db, A, [1.0, 2.0])
    measure(db, B, [2.0, 4.0])
    board = db.leaderboard()
    assert "n recordings; ± is the 95 % interval of the mean (Student's t)" in board.to_markdown()
    latex = board.to_latex()
    assert latex.startswith("\\begin{table}\n\\centering\n\\caption{")
    assert "svoice:1.2 & 2 & a & \\textbf{3.00}" in latex
    assert "**3.00**" in board.to_markdown()


@pytest.mark.once
def test_a_table_compiles(db: DatabaseManager, tmp_path: Path) -> None:
    """A leaderboard, a comparison and a matrix are LaTeX, whatever models are called."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex is installed (Debian: apt install texlive-latex-recommended)")
    models = ("a_model & more:1.0%", "b{~}^$#\\:2", "c:3")
    for place, model in enumerate(models):
        measure(db, model, [1.0 + place, 2.0, 4.0 - place])
    tables = [
        db.leaderboard().to_latex(),
        db.compare(*models[:2]).to_latex(),
        db.compare(*models).to_latex(),
        db.leaderboard(by=("file", "model")).pivot().to_latex(),
    ]
    head = "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage{booktabs}\n"
    source = f"{head}\\begin{{document}}\n{''.join(tables)}\\end{{document}}\n"
    (tmp_path / "paper.tex").write_text(source, "utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "paper.pdf").stat().st_size > 1_000


def test_two_groupings_as_a_table(db: DatabaseManager) -> None:
    """One stands down, the other across; a frame and HTML have the same."""
    measure(db, A, [{"Ada": 1.0, "Bob": 3.0}])
    measure(db, B, [{"Ada": 2.0}])
    table = db.leaderboard(by=("speaker", "model")).pivot()
    assert str(table).splitlines()[:4] == [
        "si_snri (dB) by speaker, model, highest mean first",
        "speaker  demucs:4.0  svoice:1.2",
        "Bob            3.00",
        "Ada            1.00        2.00",
    ]
    frame = table.to_dataframe()
    assert list(frame.columns) == ["speaker", "demucs:4.0", "svoice:1.2"]
    assert "Bob" in table._repr_html_()
    with pytest.raises(QueryError, match="two groupings"):
        db.leaderboard().pivot()


def test_one_leaderboard_inside_a_transaction_sees_what_it_wrote(db: DatabaseManager) -> None:
    """Rows of the same transaction count, and it stays open for more."""
    with db.atomic():
        measure(db, A, [1.0])
        assert db.leaderboard()[0].n == 1
        measure(db, A, {"/other.wav": 2.0})
    assert db.leaderboard()[0].n == 2


def test_times_of_parts_and_of_blocks_are_not_mixed_in_silence(db: DatabaseManager) -> None:
    """Where some runs time their parts and others do not, a time's table says which models do."""
    for model in ("demucs", "svoice"):
        with db.track("/mix/1.wav", "separation", model_type=model) as run:
            if model == "demucs":
                with run.timing():
                    pass
            run.log(si_snri=1.0)
    said = (
        "processing_time of 1 of 2 runs is that of their timed parts, "
        "of the others that of their whole blocks; timed parts: demucs (1 of 1)"
    )
    assert said in db.leaderboard("processing_time").notes
    found = db.compare("demucs", "svoice", metric="processing_time")
    assert said in found.notes
    assert said in str(found)
    assert said not in db.leaderboard().notes
    assert said not in db.leaderboard("processing_time", model_type="demucs").notes


@pytest.mark.parametrize("by", ["parameters.a.b", "parameters.a.b,parameters.a.b"])
def test_a_key_with_dots_is_found_after_inner_objects(db: DatabaseManager, by: str) -> None:
    """What dots lead to goes first, then a key that has them; 1 and 1.0 are one, true is not."""
    measure(db, A, {"/1.wav": 1.0}, parameters={"a.b": 1})
    measure(db, A, {"/2.wav": 2.0}, parameters={"a": {"b": 1.0}, "a.b": 7})
    measure(db, A, {"/3.wav": 9.0}, parameters={"a": {"b": True}})
    board = db.leaderboard(by=by)
    assert [(row.key, row.n, row.mean) for row in board] == [((True,), 1, 9.0), ((1,), 2, 1.5)]


def test_different_values_are_never_printed_alike(db: DatabaseManager) -> None:
    """A text that reads as a number, a switch or nothing stands in quotes, down and across."""
    values = [1, "1", True, "True", None, "-", "null", "fast"]
    for place, value in enumerate(values):
        measure(db, A, {"/1.wav": float(-place)}, parameters={"x": value})
    board = db.leaderboard(by=("model", "parameters.x"))
    expected = ("1", '"1"', "True", '"True"', "-", '"-"', '"null"', "fast")
    assert tuple(row.labels[1] for row in board) == expected
    assert board.pivot().across == expected


def test_settings_that_a_later_run_replaced_are_named(db: DatabaseManager) -> None:
    """Of several seeds on the same recordings the last counts, and a line says so."""
    for seed in range(3):
        told = {"seed": seed, "chunk": 4}
        measure(db, A, [1.0, 2.0 + seed], parameters=told, hours=seed)
        measure(db, B, [1.5, 2.5 if seed else "failed"], parameters=told, hours=seed)
    note = "of a recording's runs whose parameters differ the latest counts: seed"
    assert db.leaderboard(model_type="demucs").notes == (f"{A}: {note}",)
    assert db.leaderboard().notes[0] == f"2 groups: {note}"
    assert db.compare(A, B).notes == (f"{A}: {note}", f"{B}: {note}")
    assert db.compare(f"{A} parameters.seed:1", f"{B} parameters.seed:1").notes == ()
    assert "latest" not in "".join(db.leaderboard(by=("model", "parameters.seed")).notes)


def test_a_failure_after_the_success_that_counts_is_named(db: DatabaseManager) -> None:
    """A model that broke last night is not judged by the night before without a word."""
    measure(db, A, [1.0, 2.0, 3.0])
    measure(db, B, [1.5, 2.75, "failed"])
    assert db.compare(A, B).notes == ()
    measure(db, B, ["unfinished", 2.75, "failed"], hours=1)
    assert db.compare(A, B).notes == ()  # it goes on
    measure(db, B, ["failed"], hours=2)
    said = "a later run failed on 1 recording, of which the earlier success counts"
    assert db.compare(A, B).notes == (f"{B}: {said}",)
    measure(db, A, ["failed"], hours=1)
    said = "a later run failed on 2 recordings, of which the earlier success counts"
    assert db.leaderboard().notes[0] == f"2 groups: {said}"
    measure(db, A, [1.0], hours=2)
    assert db.leaderboard(model_type="demucs").notes == ()


def test_true_and_one_are_different_settings(db: DatabaseManager) -> None:
    """A group that pools a switch with a number says so."""
    measure(db, A, {"/1.wav": 1.0}, parameters={"shifts": 1})
    measure(db, A, {"/2.wav": 2.0}, parameters={"shifts": True})
    assert db.leaderboard().notes == (f"{A} pools runs whose parameters differ: shifts",)


@pytest.mark.sqlite("a server keeps types")
def test_what_cannot_be_read_hides_nothing_else(db: DatabaseManager) -> None:
    """Texts for numbers, times of other types and broken JSON: the rest counts, a line says so."""
    for model in (A, B):
        measure(db, model, [1.0, 2.0, 4.0, 8.0])
        measure(db, model, [1.0, 2.0, 4.0, 8.0], hours=1)
    connection = db.store.connection()
    connection.execute("PRAGMA ignore_check_constraints = 1")
    for statement in (
        "UPDATE model_performance SET si_snri = 'loud' WHERE id = 5",
        "UPDATE model_performance SET real_time_factor = 'fast' WHERE id = 6",
        "UPDATE processing_history SET start_time = 7, end_time = x'00' WHERE id = 2",
        "UPDATE processing_history SET parameters = '[1,' WHERE id = 6",
        "UPDATE processing_history SET operation_type = x'AA' WHERE id = 8",
        "UPDATE model_performance SET additional_metrics = '{' WHERE id = 8",
    ):
        connection.execute(statement)
    connection.execute("PRAGMA ignore_check_constraints = 0")
    said = "values and runs left out, since they cannot be read: 2"
    board, found = db.leaderboard(), db.compare(A, B)
    assert [(row.labels, row.n, row.mean) for row in board] == [((B,), 4, 3.75), ((A,), 3, 14 / 3)][
        ::-1
    ]
    assert (found.n, found.mean_difference) == (3, 0.0)
    assert said in board.notes
    assert said in found.notes
    with pytest.raises(QueryError, match="unknown metric 'pesq'"):
        db.leaderboard("pesq")


def test_stems_of_many_recordings_are_averaged(db: DatabaseManager) -> None:
    """A thousand recordings and more, of one stem or two, failed or run again, all count once."""
    values = {f"/{place:04}.wav": [float(place), place + 1.0] for place in range(700)}
    measure(db, A, values)
    measure(db, A, {"/0003.wav": "failed", "/0005.wav": [100.0]}, hours=1)
    measure(db, B, {path: both[0] for path, both in values.items()})
    board = db.leaderboard()
    means = [100.0 if place == 5 else place + 0.5 for place in range(700)]
    assert [(row.labels, row.n, row.stems) for row in board] == [
        ((A,), 700, 1399),
        ((B,), 700, 700),
    ]
    assert board[0].mean == pytest.approx(sum(means) / 700, rel=1e-12)
    assert board[0].coverage["done"] == 700


@pytest.mark.parametrize("failed", [False, True])
def test_what_outputs_measured_of_their_run_is_their_mean(
    db: DatabaseManager, failed: bool
) -> None:
    """Where outputs have costs of their own a run counts with their mean, whatever failed."""
    if failed:
        db.record_run("/1.wav", "sep", start_time="2026-01-01T00:00Z", error_message="boom")
    outputs = [{"path": f"/o/{cost}.wav", "processing_time": cost} for cost in (1.0, 3.0)]
    db.record_run("/1.wav", "sep", start_time="2026-01-02T00:00Z", outputs=outputs)
    assert [row.mean for row in db.leaderboard(metric="processing_time")] == [2.0]
