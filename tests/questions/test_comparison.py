"""Models on the same recordings: what counts once, how sure it is, and what is said of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.measured import measure, recording, speaker

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory
from voices_peewee.errors import NotFoundError, QueryError
from voices_peewee.questions.comparison import Comparison
from voices_peewee.questions.selection import parse_model

A, B = "demucs:4.0", "svoice:1.2"


def both(db: DatabaseManager, a: Any, b: Any, **run: Any) -> None:
    """Write the outcomes of both models."""
    measure(db, A, a, **run)
    measure(db, B, b, **run)


def gaussian(n: int, seed: int = 4) -> tuple[list[float], list[float]]:
    generator = random.Random(seed)
    a = [generator.gauss(10, 3) for _ in range(n)]
    return a, [value + generator.gauss(0.5, 1) for value in a]


class _UndoneError(Exception):
    pass


@contextmanager
def undone(db: DatabaseManager) -> Iterator[None]:
    """Leave nothing behind of what is written inside."""
    with suppress(_UndoneError), db.atomic():
        yield
        raise _UndoneError


HAND_SIZED = {
    "two": ([10.0, 12.0], [11.0, 12.5]),
    "three": ([10.0, 12.0, 9.0], [11.0, 12.5, 8.0]),
    "six": ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.5, 2.0, 3.25, 5.0, 5.5, 7.75]),
    "six with ties": ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, 2.0, 4.0, 4.0, 6.0, 6.0]),
    "forty": gaussian(40),
}


@pytest.mark.parametrize("confidence", [0.95, 0.99])
@pytest.mark.parametrize("values", HAND_SIZED.values(), ids=HAND_SIZED)
def test_numbers_agree_with_scipy(db: DatabaseManager, values: Any, confidence: float) -> None:
    """Means, median, interval and p-value are those of NumPy and SciPy."""
    both(db, *values)
    found = db.compare(A, B, confidence=confidence)
    a, b = map(np.array, values)
    theirs = scipy.stats.ttest_rel(b, a)
    interval = theirs.confidence_interval(confidence)
    assert (
        *(found.n, found.mean_a, found.mean_b, found.mean_difference, found.median_difference),
        *(found.low, found.high, found.p_value),
    ) == pytest.approx(
        (
            *(len(a), a.mean(), b.mean(), (b - a).mean(), np.median(b - a)),
            *(interval.low, interval.high, theirs.pvalue),
        ),
        rel=1e-9,
        abs=1e-9,
    )
    assert (found.wins, found.losses, found.ties) == (sum(b > a), sum(b < a), sum(b == a))


def test_a_recording_counts_once(db: DatabaseManager) -> None:
    """Two equal stems a recording say no more than one: same n, interval and p."""
    a, b = HAND_SIZED["six"]
    both(db, a, b)
    once = db.compare(A, B)
    both(
        db,
        [{"Ada": value, "Bob": value} for value in a],
        [{"Ada": value, "Bob": value} for value in b],
        operation_type="again",
    )
    twice = db.compare(A, B, operation_type="again")
    assert (once.n, once.stems, twice.n, twice.stems) == (6, 6, 6, 12)
    assert (twice.low, twice.high, twice.p_value) == (once.low, once.high, once.p_value)


def test_a_stem_counts_once_where_that_is_asked_for(db: DatabaseManager) -> None:
    """``unit="stem"`` counts stems, as SciPy does with each of them."""
    both(
        db,
        [{"Ada": 1.0, "Bob": 2.0}, {"Ada": 3.0, "Bob": 4.0}],
        [{"Ada": 2.0, "Bob": 2.5}, {"Ada": 3.5, "Bob": 6.0}],
    )
    found = db.compare(A, B, unit="stem")
    theirs = scipy.stats.ttest_rel([2.0, 2.5, 3.5, 6.0], [1.0, 2.0, 3.0, 4.0])
    assert (found.n, found.stems, found.recordings) == (4, 4, 2)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


def test_a_speaker_counts_once(db: DatabaseManager) -> None:
    """Speakers who share no recording: Student's t of their means."""
    names = ["Ada", "Ada", "Ada", "Bob", "Cleo", "Cleo"]
    a, b = HAND_SIZED["six"]
    both(
        db,
        [{name: value} for name, value in zip(names, a, strict=True)],
        [{name: value} for name, value in zip(names, b, strict=True)],
    )
    found = db.compare(A, B, unit="speaker")
    theirs = scipy.stats.ttest_1samp([0.25, 1.0, 1.125], 0)
    interval = theirs.confidence_interval()
    assert (found.n, found.recordings, found.stems) == (3, 6, 6)
    assert (found.mean_difference, found.low, found.high, found.p_value) == pytest.approx(
        (0.25 / 3 + 1.0 / 3 + 1.125 / 3, interval.low, interval.high, theirs.pvalue), rel=1e-9
    )
    assert [(pair.path, pair.speaker, pair.stems) for pair in found.pairs] == [
        (None, "Ada", 3),
        (None, "Bob", 1),
        (None, "Cleo", 2),
    ]


def test_speakers_who_share_recordings_have_the_larger_error(db: DatabaseManager) -> None:
    """The error is clustered by speaker and by recording, with the fewer of both less one."""
    generator = random.Random(3)
    names = ["Ada", "Bob", "Cleo", "Dan"]
    mixtures = [generator.sample(names, 2) for _ in range(12)]
    shifts = [generator.gauss(0.5, 2) for _ in mixtures]  # what both stems of a mixture share
    noise = [
        [shift + generator.gauss(0, 0.3) for _ in pair]
        for pair, shift in zip(mixtures, shifts, strict=True)
    ]
    both(
        db,
        [dict.fromkeys(pair, 10.0) for pair in mixtures],
        [
            {n: 10.0 + d for n, d in zip(pair, own, strict=True)}
            for pair, own in zip(mixtures, noise, strict=True)
        ],
    )
    found = db.compare(A, B, unit="speaker")
    rows = [
        (n, i, d)
        for i, (pair, own) in enumerate(zip(mixtures, noise, strict=True))
        for n, d in zip(pair, own, strict=True)
    ]
    means = {name: np.mean([d for n, _, d in rows if n == name]) for name in names}
    counts = {name: sum(n == name for n, _, _ in rows) for name in names}
    center = np.mean(list(means.values()))
    scores = [(n, i, (d - center) / counts[n] / 4) for n, i, d in rows]

    def variance(place: int | None) -> float:
        keys = [row[:2] if place is None else row[place] for row in scores]
        sums = [
            sum(s[2] for s, k in zip(scores, keys, strict=True) if k == key) for key in set(keys)
        ]
        return float(np.dot(sums, sums)) * len(sums) / (len(sums) - 1)

    two_way = variance(0) + variance(1) - variance(None)
    assert two_way > variance(0)
    error = np.sqrt(two_way)
    margin = scipy.stats.t.ppf(0.975, 3) * error
    assert (found.low, found.high) == pytest.approx((center - margin, center + margin), rel=1e-9)
    assert found.p_value == pytest.approx(2 * scipy.stats.t.sf(center / error, 3), rel=1e-9)


def test_a_stem_without_a_speaker_has_its_recordings(db: DatabaseManager) -> None:
    """Without that too it is left out, counted and named."""
    both(db, [1.0, 2.0, 3.0], [2.0, 2.5, 3.5])
    recording(db, "/mix/000.wav", speaker=speaker(db, "Ada"))
    recording(db, "/mix/001.wav", speaker=speaker(db, "Bob"))
    found = db.compare(A, B, unit="speaker")
    assert (found.n, found.recordings, found.stems, found.notes) == (
        2,
        2,
        2,
        ("stems left out, since no speaker is known: 1",),
    )


def test_numbers_of_the_run_count_once(db: DatabaseManager) -> None:
    """Time is the run's, in whichever of its rows it stands, and never counts a stem each."""
    both(db, [[4.0, 4.0], [6.0, None]], [[2.0, 2.0], [5.0, 5.0]], metric="processing_time")
    for unit in ("recording", "stem"):
        found = db.compare(A, B, metric="processing_time", unit=unit)
        assert (found.n, found.stems, found.mean_difference) == (2, 2, -1.5)
        assert found.coverage_a["partly_finite"] == 0


def test_recordings_of_one_content_count_once(db: DatabaseManager) -> None:
    """A copy under another path is the same recording, and the latest run of both counts."""
    both(db, [1.0, 2.0, 3.0], [2.0, 3.0, 5.0])
    measure(db, B, {"/elsewhere/000.wav": 9.0}, hours=1)
    for path in ("/mix/000.wav", "/elsewhere/000.wav"):
        recording(db, path, content_hash="ab" * 32)
    found = db.compare(A, B)
    assert [(pair.a, pair.b) for pair in found.pairs] == [(1.0, 9.0), (2.0, 3.0), (3.0, 5.0)]
    assert found.coverage_a["in_question"] == 3
    recording(db, "/elsewhere/000.wav", content_hash="ab" * 31 + "cd")
    assert db.compare(A, B).n == 3
    assert db.compare(A, B).pairs[0].b == 2.0


def test_the_latest_successful_run_counts(db: DatabaseManager) -> None:
    """Older runs, and what failed or did not end after it, do not count."""
    both(db, [10.0, 10.0], [11.0, 11.0])
    measure(db, B, [12.0, "failed"], hours=2)
    measure(db, B, ["failed", "unfinished"], hours=3)
    found = db.compare(A, B)
    assert [(pair.a, pair.b) for pair in found.pairs] == [(10.0, 12.0), (10.0, 11.0)]
    assert found.coverage_b["failed"] == 0


def test_stems_are_matched_by_speaker(db: DatabaseManager) -> None:
    """A stem without a finite value in one model leaves both, and is counted."""
    both(
        db,
        [{"Ada": 1.0, "Bob": 5.0}, {"Ada": 2.0, "Bob": 6.0}],
        [{"Bob": 7.0, "Ada": 2.0}, {"Bob": 8.0, "Ada": None}],
    )
    found = db.compare(A, B)
    assert [(pair.a, pair.b, pair.stems) for pair in found.pairs] == [(3.0, 4.5, 2), (6.0, 8.0, 1)]
    assert (found.n, found.stems, found.coverage_b["partly_finite"]) == (2, 3, 1)


def test_stems_that_cannot_be_matched(db: DatabaseManager) -> None:
    """As many on both sides are compared by their means; else the recording is left out."""
    both(db, [[1.0, 3.0], [1.0, 3.0], 2.0], [[2.0, 4.0], [2.0, None], 3.0])
    found = db.compare(A, B)
    assert [(pair.a, pair.b, pair.stems) for pair in found.pairs] == [(2.0, 3.0, 2), (2.0, 3.0, 1)]
    assert found.notes == (
        "recordings in which B lacks a stem's value that A has: 1",
        "recordings left out, since their stems cannot be matched: 1",
    )


def test_coverage_is_of_the_recordings_in_question(db: DatabaseManager) -> None:
    """Each recording of which any model has a run is in one state for each model."""
    both(
        db,
        [1.0, 2.0, 3.0, 4.0, 5.0, "failed", "unfinished"],
        [{"Ada": 2.0, "Bob": None}, None, "failed", "unfinished", 6.0],
    )
    measure(db, "other:1", {"/mix/never.wav": 1.0})
    found = db.compare(A, B)
    assert found.coverage_a == {
        "in_question": 7,
        "done": 5,
        "partly_finite": 0,
        "not_finite": 0,
        "failed": 1,
        "unfinished": 1,
        "not_run": 0,
    }
    assert found.coverage_b == {
        "in_question": 7,
        "done": 1,
        "partly_finite": 1,
        "not_finite": 1,
        "failed": 1,
        "unfinished": 1,
        "not_run": 2,
    }
    assert (found.lost, found.gained) == (3, 0)


def test_several_operations_are_named(db: DatabaseManager) -> None:
    """Runs of several operations are counted together, which a line says."""
    for model, operation in (("a", "voice_separation"), ("b", "denoising")):
        with db.track("/m.wav", operation, model_type=model) as run:
            run.log(si_snri=5)
    said = "operations are counted together; operation_type keeps to one: denoising, "
    assert db.compare("a", "b").notes == (f"{said}voice_separation",)
    assert f"{said}voice_separation" in str(db.leaderboard())
    assert said not in str(db.leaderboard(by="operation_type"))
    assert said not in str(db.leaderboard(operation_type="denoising"))


def test_a_value_that_is_not_finite_is_none(db: DatabaseManager) -> None:
    """Infinities and texts in additional_metrics are no values, and hide no others."""
    both(db, [1.0, 2.0, 3.0], [2.0, None, 4.0], metric="pesq")
    row = db.query(ProcessingHistory).filter_by(model_type="demucs").first()
    db.execute_raw_query(
        "UPDATE model_performance SET additional_metrics = ? WHERE processing_history_id = ?",
        ('{"pesq": "inf"}', row.id),
        write=True,
    )
    found = db.compare(A, B, metric="PESQ")
    assert (found.metric, found.n, found.coverage_a["not_finite"]) == ("pesq", 1, 1)


VERDICTS = {
    "better": (
        [1.0] * 6,
        [2.0, 2.2, 1.9, 2.1, 2.3, 1.8],
        "better",
        B,
        "B is better by 1.05 dB (+0.85 to +1.25)",
    ),
    "worse": (
        [2.0, 2.2, 1.9, 2.1, 2.3, 1.8],
        [1.0] * 6,
        "worse",
        A,
        "A is better by 1.05 dB (+0.85 to +1.25)",
    ),
    "unclear": (
        [1.0] * 6,
        [2.0, 0.2, 1.9, 0.1, 2.3, 0.8],
        "unclear",
        None,
        "no clear difference: B - A = +0.22 dB (-0.80 to +1.24)",
    ),
    "one": ([1.0], [2.0], "too few", None, "too few to tell: one recording, B - A = +1.00 dB"),
    "none": (
        ["failed"],
        [1.0],
        "too few",
        None,
        "no recording has a value from both: A has 0, B has 1",
    ),
    "equal": (
        [1.0, 2.0],
        [1.0, 2.0],
        "unclear",
        None,
        "identical: all 2 recordings have the same value from both",
    ),
    "constant": (
        [1.0, 2.1, 3.2],
        [1.5, 2.6, 3.7],
        "unclear",
        None,
        ("identical differences: B - A = +0.50 dB in each of 3 recordings, which is no certainty"),
    ),
}


@pytest.mark.parametrize(("a", "b", "verdict", "better", "said"), VERDICTS.values(), ids=VERDICTS)
def test_a_verdict_says_what_the_interval_allows(
    db: DatabaseManager, a: Any, b: Any, verdict: str, better: str | None, said: str
) -> None:
    """Better and worse where the interval leaves zero out, unclear or too few otherwise."""
    both(db, a, b)
    found = db.compare(A, B)
    assert (found.p_value is None) == (found.identical or found.n < 2)
    assert (found.verdict, found.better, str(found).splitlines()[4]) == (verdict, better, said)
    for shown in (found.to_dict()["verdict"], found.to_dataframe().attrs["verdict"]):
        assert shown == verdict
    assert said.replace("'", "&#x27;") in found._repr_html_()
    assert said in found.to_markdown()
    assert found.to_markdown().count("**") == (2 if better else 0)  # the better one's mean is bold
    assert found.to_latex().count("\\textbf") == bool(better)


def test_a_metric_whose_low_values_are_good(db: DatabaseManager) -> None:
    """Where low is better, the model with the lower values is."""
    both(db, [3.0, 3.1, 3.2], [2.0, 2.2, 2.1], metric="processing_time")
    found = db.compare(A, B, metric="processing_time")
    assert (found.verdict, found.wins, found.metric_unit) == ("better", 3, "s")
    assert "B is better by 1 s" in str(found)


def test_rounding_is_no_difference(db: DatabaseManager) -> None:
    """What only the last bit tells apart is a tie."""
    both(db, [0.3, 0.3, 0.3], [0.1 + 0.2] * 3)
    found = db.compare(A, B)
    assert (found.ties, found.verdict, found.mean_difference, found.p_value) == (
        3,
        "unclear",
        0.0,
        None,
    )


def test_the_text_is_for_people(db: DatabaseManager) -> None:
    """Who is better, how sure that is, on what it rests, and where the models differ most."""
    both(
        db,
        [{"Ada": 1.0, "Bob": 5.0}, {"Ada": 2.0}, {"Ada": 3.0}, "failed"],
        [{"Ada": 2.0, "Bob": 7.0}, {"Ada": 2.5}, {"Ada": 1.5}, 4.0],
    )
    assert str(db.compare(A, B)).splitlines() == [
        "A: demucs:4.0",
        "B: svoice:1.2",
        "si_snri (dB), higher is better",
        "",
        "no clear difference: B - A = +0.17 dB (-3.63 to +3.96)",
        "95 % interval of the mean difference (Student's t), p = 0.87",
        "few recordings: 3; a difference below about 3.79 dB cannot show with so many",
        "",
        "           A     B  B - A",
        "mean    2.67  2.83  +0.17",
        "median              +0.50",
        "",
        "recordings: 3, stems: 4; B better in 2, A better in 1, tied in 0",
        "A: of 4 recordings in question 3 done, 1 failed",
        "B: of 4 recordings in question 4 done",
        "",
        "largest gains of B     A     B  B - A",
        "/mix/000.wav        3.00  4.50  +1.50",
        "/mix/001.wav (Ada)  2.00  2.50  +0.50",
        "",
        "largest losses of B     A     B  B - A",
        "/mix/002.wav (Ada)   3.00  1.50  -1.50",
    ]


def test_a_comparison_is_plain_data(db: DatabaseManager) -> None:
    """``to_dict`` is JSON; a frame has a row for each unit."""
    both(db, [{"Ada": 1.0}, {"Bob": 2.0}], [{"Ada": 2.0}, {"Bob": 2.5}])
    found = db.compare(A, B)
    plain = json.loads(json.dumps(found.to_dict()))
    assert {name: plain[name] for name in ("a", "b", "n", "unit", "metric_unit", "verdict")} == {
        "a": A,
        "b": B,
        "n": 2,
        "unit": "recording",
        "metric_unit": "dB",
        "verdict": "unclear",
    }
    assert plain["largest_gains"][0] == {
        "path": "/mix/000.wav",
        "speaker": "Ada",
        "a": 1.0,
        "b": 2.0,
        "difference": 1.0,
        "stems": 1,
    }
    frame = found.to_dataframe()
    assert frame.to_dict("list") == {
        "path": ["/mix/000.wav", "/mix/001.wav"],
        "speaker": ["Ada", "Bob"],
        "a": [1.0, 2.0],
        "b": [2.0, 2.5],
        "difference": [1.0, 0.5],
        "stems": [1, 1],
    }
    assert frame.attrs["better"] is None


def test_a_side_may_be_query_words(db: DatabaseManager) -> None:
    """Two settings of one model are compared as any two models are."""
    measure(db, A, [1.0, 2.0, 3.0], parameters={"shifts": 1})
    measure(db, A, [2.0, 3.1, 3.9], parameters={"shifts": 2}, hours=1)
    found = db.compare(f"{A} parameters.shifts:1", "parameters.shifts:2")
    assert (found.a, found.b, found.n) == (f"{A} parameters.shifts:1", "parameters.shifts:2", 3)
    assert found.mean_difference == pytest.approx(1.0)
    assert found.notes == ()


def test_pooled_settings_are_named(db: DatabaseManager) -> None:
    """Where a side pools settings, a line names the parameters that differ."""
    measure(db, A, [1.0, 2.0], parameters={"shifts": 1, "seed": 0})
    measure(db, A, {"/mix/002.wav": 3.0}, parameters={"shifts": 2, "seed": 0})
    measure(db, B, [1.0, 2.0, 3.0])
    assert db.compare(A, B).notes == (f"{A} pools runs whose parameters differ: shifts",)


def test_words_and_filters_narrow_both_sides(db: DatabaseManager) -> None:
    """Where the hall is asked for, the other rooms are not in question."""
    both(db, [1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 3.0, "failed"])
    for place in range(2):
        recording(db, f"/mix/{place:03}.wav", metadata={"room": "hall"})
    found = db.compare(A, B, where="metadata.room:hall")
    assert (found.n, found.coverage_b["in_question"]) == (2, 2)
    later = db.compare(A, B, since="2026-11-02T00:00:00Z")
    assert later.coverage_a["in_question"] == 0
    assert str(later).endswith("\nA: no recording is in question\nB: no recording is in question")


def test_pooled_versions_are_named(db: DatabaseManager) -> None:
    """A side that names no version says which it has: of a recording the latest run counts."""
    both(db, [1.0, 2.0, 3.0], [2.0, 2.5, 3.5])
    measure(db, "demucs:4.1", [4.0, 5.0, 5.5], hours=1)
    note = "{} pools the runs of several models: demucs:4.0, demucs:4.1"
    assert db.compare("demucs", "svoice").notes == (note.format("demucs"),)
    assert db.compare("version:4.1,4.0", B).notes == (note.format("version:4.1,4.0"),)
    assert db.compare("demucs", B, until="2026-11-01T12:30:00Z").notes == ()
    assert db.compare(A, "svoice").notes == ()


def test_a_speaker_narrows_to_their_stems(db: DatabaseManager) -> None:
    """What failed for a recording of theirs is in question too."""
    both(
        db,
        [{"Ada": 1.0, "Bob": 5.0}, {"Bob": 2.0}, {"Ada": 3.0}],
        [{"Ada": 2.0, "Bob": 7.0}, {"Bob": 2.5}, "failed"],
    )
    found = db.compare(A, B, speaker="Ada")
    assert [(pair.a, pair.b) for pair in found.pairs] == [(1.0, 2.0)]
    assert (found.coverage_b["in_question"], found.coverage_b["failed"]) == (2, 1)
    db.delete_run(db.search("history", "status:failed")[0])
    output = {"path": "/out/2.wav", "si_snri": 1.0}  # of nobody, before it failed
    told = {"model_type": "svoice", "model_version": "1.2", "error_message": "killed"}
    start = "2026-11-01T00:00:00Z"
    db.record_run("/mix/002.wav", "voice_separation", start_time=start, outputs=[output], **told)
    assert db.compare(A, B, speaker="Ada").coverage_b["failed"] == 1


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("demucs:4.0", ("demucs", "4.0")),
        ("demucs", ("demucs", None)),
        ("a:b:c", ("a:b", "c")),
        ("x:", ("x", "")),
    ],
)
def test_a_model_is_split_at_its_last_colon(text: str, model: tuple[str, str | None]) -> None:
    """A model is written type:version; without a colon any version is meant."""
    assert parse_model(text) == model


@pytest.mark.parametrize(
    ("models", "asked", "message"),
    [
        (
            (A, "svoic:1.2"),
            {},
            "unknown model 'svoic:1.2'; did you mean 'svoice:1.2' or 'svoice:2'?",
        ),
        ((A, B), {"metric": "si_snr"}, "unknown metric 'si_snr'; did you mean 'si_snri'?"),
        ((A, B), {"metric": "odd"}, None),
        ((A, B), {"unit": "speakr"}, "unknown unit 'speakr'; did you mean 'speaker'?"),
        (
            (A, B),
            {"unit": "speaker"},
            "no stem has a speaker; count recordings: unit='recording'",
        ),
        ((A, B), {"confidence": 1.0}, "confidence must lie between 0 and 1, not 1.0"),
        ((A,), {}, "a comparison is of two models or more"),
        ((A, B, A), {}, "'demucs:4.0' stands twice among the models"),
        ((A, A), {}, "'demucs:4.0' stands twice among the models"),
        ((A, B), {"where": "rom:hall"}, None),
        (
            (A, "svoice"),
            {},
            (
                "svoice has runs of several operations (other, voice_separation); say which by "
                "operation_type"
            ),
        ),
        ((A, B), {"speaker": "nobody"}, "no speaker 'nobody'; see 'voices list-speakers'"),
        ((" :1", B), {}, "a model is written type:version, for example demucs:4.0, not ' :1'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_asked(
    db: DatabaseManager, models: Any, asked: Any, message: str | None
) -> None:
    """A question that makes no sense gets one sentence."""
    both(db, [1.0], [2.0])
    measure(db, "svoice:2", [1.0], operation_type="other")
    with pytest.raises((QueryError, NotFoundError)) as raised:
        db.compare(*models, **asked)
    if message is not None:
        assert str(raised.value) == message


def four(db: DatabaseManager) -> dict[str, list[float]]:
    """Write four models, of which the last is far better."""
    generator = random.Random(8)
    values = {
        f"m{place}:1": [10 + generator.gauss(shift, 0.5) for _ in range(12)]
        for place, shift in enumerate((0.0, 0.4, 0.5, 3.0))
    }
    for model, outcomes in values.items():
        measure(db, model, outcomes)
    return values


def test_many_models_are_adjusted_for_their_number(db: DatabaseManager) -> None:
    """Verdicts and letters follow Holm's adjusted p-values of every pair."""
    values = four(db)
    found = db.compare(*values)
    theirs = {
        key: scipy.stats.ttest_rel(values[key[1]], values[key[0]]).pvalue for key in found.pairs
    }
    ordered = sorted(theirs, key=lambda key: theirs[key])
    largest = 0.0
    for rank, key in enumerate(ordered):
        largest = max(largest, min(1.0, (6 - rank) * theirs[key]))
        assert found[key].p_adjusted == pytest.approx(largest, rel=1e-9)
    assert found["m0:1", "m3:1"].verdict == "better"
    for (a, b), pair in found.pairs.items():
        share = set(found.letters[a]) & set(found.letters[b])
        assert bool(share) is (pair.better is None)


def test_a_pair_may_be_unclear_among_so_many(db: DatabaseManager) -> None:
    """An interval that leaves zero out does not suffice where the adjusted p does not."""
    base = [1.0, 1.1, 0.9, 1.2, 1.0, 0.8]
    measure(db, "m0", base)
    measure(db, "m1", [v + d for v, d in zip(base, [0.1, 0.5, 0.6, 0.0, 0.9, 0.6], strict=True)])
    measure(db, "m2", [v + d for v, d in zip(base, [0.3, -0.3, 0.2, -0.2, 0.1, 0.0], strict=True)])
    found = db.compare("m0", "m1", "m2")
    pair = found["m0", "m1"]
    assert pair.low is not None
    assert pair.low > 0
    assert (pair.verdict, pair.better) == ("unclear", None)
    assert "m0 and m1: unclear among so many: B - A = +0.45 dB" in str(found)
    assert db.compare("m0", "m1").verdict == "better"


def test_a_baseline_is_compared_with_all_others(db: DatabaseManager) -> None:
    """One against all: as many pairs as others, and no letters."""
    values = four(db)
    first, *others = values
    found = db.compare(*others, baseline=first)
    assert (list(found.pairs), found.letters, found.baseline) == (
        [(first, other) for other in others],
        {},
        first,
    )
    single = db.compare(others[2], baseline=first)
    assert isinstance(single, Comparison)
    assert (single.a, single.b) == (first, others[2])


@pytest.mark.parametrize("metric", ["si_snri", "wer"])
def test_mean_ranks_agree_with_scipy(db: DatabaseManager, metric: str) -> None:
    """Mean ranks on the recordings that all have, equal values sharing a rank."""
    generator = random.Random(5)
    values = {f"m{place}": [float(generator.randint(0, 5)) for _ in range(20)] for place in "abc"}
    for model, outcomes in values.items():
        measure(db, model, outcomes, metric=metric)
    measure(db, "ma", {"/alone.wav": 50.0}, metric=metric)
    found = db.compare(*values, metric=metric).ranks
    with pytest.raises(QueryError, match=r"^ranks are of recordings, not of stems$"):
        _ = db.compare(*values, metric=metric, unit="stem").ranks
    sign = -1 if metric == "si_snri" else 1
    theirs = scipy.stats.rankdata(sign * np.array([*values.values()]), axis=0).mean(axis=1)
    assert found.n == 20
    assert found.means == pytest.approx(dict(zip(values, theirs, strict=True)), rel=1e-12)
    assert list(found.means.values()) == sorted(found.means.values())


def test_bars_join_what_shares_a_letter(db: DatabaseManager) -> None:
    """Each letter that several models have is a bar, the best model first."""
    values = four(db)
    found = db.compare(*values)
    *others, best = values
    assert found.letters == dict(zip(values, ["a", "a", "a", "b"], strict=True))
    ranks = found.ranks
    assert next(iter(ranks.means)) == best
    assert [set(bar) for bar in ranks.bars] == [set(others)]
    assert list(ranks.bars[0]) == sorted(others, key=lambda model: ranks.means[model])
    assert db.compare(*others, baseline=best).ranks == (0, {}, ())


def test_many_models_are_plain_data(db: DatabaseManager) -> None:
    """As dict, frame, text, HTML, Markdown and LaTeX."""
    found = db.compare(*four(db))
    assert len(json.loads(json.dumps(found.to_dict()))["pairs"]) == 6
    frame = found.to_dataframe()
    assert list(frame["verdict"]) == [pair.verdict for pair in found.pairs.values()]
    for shown in (str(found), found._repr_html_(), found.to_markdown(), found.to_latex()):
        assert "m3:1" in shown
        assert "single ones" in shown


VALUES = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=8)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, st.randoms(use_true_random=False))
def test_order_sign_and_names_change_nothing(
    db: DatabaseManager, values: list[tuple[int, int]], shuffled: random.Random
) -> None:
    """Swapped models mirror everything to the last bit; order and names change nothing."""
    rows = [(f"/mix/{place}.wav", a / 4, b / 4) for place, (a, b) in enumerate(values)]
    with undone(db):
        one = _ask(db, rows)
        mirrored = db.compare(B, A)
    with undone(db):
        again = rows.copy()
        shuffled.shuffle(again)
        other = _ask(db, [(f"/new{path}", a, b) for path, a, b in again])
    numbers = ("n", "wins", "losses", "ties", "p_value", "verdict")
    assert [getattr(other, name) for name in numbers] == [getattr(one, name) for name in numbers]
    assert (other.low, other.high) == (one.low, one.high)
    assert (mirrored.wins, mirrored.losses, mirrored.p_value) == (one.losses, one.wins, one.p_value)
    assert one.low is not None
    assert one.high is not None
    assert (mirrored.low, mirrored.high) == (-one.high, -one.low)


def _ask(db: DatabaseManager, rows: list[tuple[str, float, float]]) -> Comparison:
    both(db, {path: a for path, a, _ in rows}, {path: b for path, _, b in rows})
    return db.compare(A, B)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, st.integers(-50, 50))
def test_a_recording_of_one_model_changes_coverage_alone(
    db: DatabaseManager, values: list[tuple[int, int]], extra: int
) -> None:
    """What only one model did changes coverage, and nothing else."""
    rows = [(f"/mix/{place}.wav", float(a), float(b)) for place, (a, b) in enumerate(values)]
    with undone(db):
        one = _ask(db, rows).to_dict()
        measure(db, A, {"/mix/extra.wav": float(extra)})
        other = db.compare(A, B).to_dict()
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"coverage_a", "coverage_b", "lost"}
    assert (other["lost"], other["coverage_b"]["not_run"]) == (1, 1)


def test_recordings_are_named_as_python_knows_them(db: DatabaseManager) -> None:
    """A name that is not UTF-8 keeps its bytes."""
    name = "/mix/\udcff.wav"
    for model, value in ((A, 1.0), (B, 2.0)):
        measure(db, model, {"/mix/000.wav": value})
    file = db.query(ProcessedFile).filter_by(recording=None).first()
    db.update(file, original_path=name)
    assert db.compare(A, B).pairs[0].path == name


@pytest.mark.parametrize("unit", ["recording", "speaker"])
def test_what_is_the_runs_asks_for_no_order_of_outputs(db: DatabaseManager, unit: str) -> None:
    """Processing times are compared whichever output a model writes first."""
    for name in ("Ada", "Bob"):
        db.create_speaker(name)
    for number in range(6):
        for model, order, taken in (("p", ("Ada", "Bob"), 1), ("q", ("Bob", "Ada"), 2)):
            outputs = [{"path": f"/{model}{number}{name}", "speaker": name} for name in order]
            db.record_run(
                f"/r{number}.wav",
                "voice_separation",
                model_type=model,
                start_time="2026-01-01T10:00:00Z",
                processing_time=taken,
                outputs=outputs,
            )
    found = db.compare("p", "q", metric="processing_time", unit=unit)
    assert (found.n, found.mean_difference) == ({"recording": 6, "speaker": 2}[unit], 1.0)


@pytest.mark.parametrize("unit", ["recording", "stem"])
def test_what_is_logged_of_a_run_counts_once_a_run(
    db: DatabaseManager, tmp_path: Path, unit: Any
) -> None:
    """However many outputs a run has, ``run.log`` said it once; what outputs say is theirs."""
    for model in ("a", "b"):
        for number in range(3):
            source = tmp_path / f"{number}.wav"
            source.write_text(f"recording {number}")
            with db.track(source, "separation", model_type=model) as run:
                run.log(mos=2.0 + number + (model == "b") * number)
                for stem in ("x", "y"):
                    run.output(tmp_path / f"{model}{number}{stem}", pesq=1.0 + number)
    found = db.compare("a", "b", metric="mos", unit=unit)
    assert (found.n, found.stems, found.mean_difference) == (3, 3, 1.0)
    assert [(row.n, row.stems) for row in db.leaderboard("mos")] == [(3, 3), (3, 3)]
    assert [(row.n, row.stems) for row in db.leaderboard("pesq")] == [(3, 6), (3, 6)]
