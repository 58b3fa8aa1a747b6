"""Two models on the same recordings, against NumPy and SciPy."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.run_rows import START, add_run

from voices_peewee import DatabaseManager, ProcessedFile, Speaker
from voices_peewee.errors import NotFoundError, QueryError
from voices_peewee.questions.comparison import Comparison, Pair
from voices_peewee.questions.selection import parse_model

A, B = "demucs:4.0", "svoice:1.2"
NO_SCIPY = "the p-value needs an extra; run: pip install 'voices-peewee[stats]'"


def add_pairs(db: DatabaseManager, *pairs: tuple[float | None, float | None], **run: Any) -> None:
    """Write runs of both models for recordings 0, 1, … of the values given."""
    for number, values in enumerate(pairs):
        for model, value in zip((A, B), values, strict=True):
            add_run(db, f"/mix/{number:03}.wav", model, si_snri=value, **run)


def gaussian_pairs(n: int) -> list[tuple[float, float]]:
    generator = random.Random(4)
    return [(generator.gauss(10, 3), generator.gauss(10.5, 3)) for _ in range(n)]


@pytest.mark.parametrize("n", [3, 20, 150])
def test_numbers_agree_with_scipy(db: DatabaseManager, n: int) -> None:
    """Means, median, counts, interval and p-value are those of NumPy and SciPy."""
    pairs = gaussian_pairs(n)
    with db.atomic():
        add_pairs(db, *pairs)
    found = db.compare(A, B, resamples=5_000)
    a, b = np.array(pairs).T
    theirs = scipy.stats.bootstrap(
        (b - a,), np.mean, method="percentile", n_resamples=9_999, random_state=1
    ).confidence_interval
    assert (found.n, found.wins, found.losses, found.ties) == (n, sum(b > a), sum(b < a), 0)
    assert (
        found.mean_a,
        found.mean_b,
        found.mean_difference,
        found.median_difference,
        found.p_value,
    ) == pytest.approx(
        (a.mean(), b.mean(), (b - a).mean(), np.median(b - a), scipy.stats.wilcoxon(b - a).pvalue),
        rel=1e-9,
    )
    width = theirs.high - theirs.low
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)


def test_a_comparison_says_all_there_is(db: DatabaseManager) -> None:
    """Every number of a small comparison, as plain data."""
    ada = db.add(Speaker(name="Ada"))
    add_pairs(db, (10.0, 11.0), (9.0, 8.5), (7.0, 7.0), (6.0, 8.0), (5.0, None))
    add_run(db, "/mix/ada.wav", A, speaker=ada, si_snri=1.0)
    add_run(db, "/mix/ada.wav", B, speaker=ada, si_snri=4.0)
    add_run(db, "/mix/only.wav", A, si_snri=1.0)
    for name in ("x", "y"):
        add_run(db, f"/mix/{name}.wav", B, si_snri=1.0)
    found = db.compare(A, B)
    assert json.loads(json.dumps(found.to_dict())) == {
        "a": A,
        "b": B,
        "metric": "si_snri",
        "unit": "dB",
        "higher_is_better": True,
        "n": 5,
        "mean_a": 6.6,
        "mean_b": 7.7,
        "mean_difference": 1.1,
        "median_difference": 1.0,
        "low": found.low,
        "high": found.high,
        "confidence": 0.95,
        "wins": 3,
        "losses": 1,
        "ties": 1,
        "largest_gains": [
            {"path": "/mix/ada.wav", "speaker": "Ada", "a": 1.0, "b": 4.0, "difference": 3.0},
            {"path": "/mix/003.wav", "speaker": None, "a": 6.0, "b": 8.0, "difference": 2.0},
            {"path": "/mix/000.wav", "speaker": None, "a": 10.0, "b": 11.0, "difference": 1.0},
        ],
        "largest_losses": [
            {"path": "/mix/001.wav", "speaker": None, "a": 9.0, "b": 8.5, "difference": -0.5}
        ],
        "only_a": 1,
        "only_b": 2,
        "left_out": 1,
        "cluster": None,
        "clusters": 5,
        "p_value": 0.25,
        "note": None,
        "better": B,
    }
    assert (found.is_clear, found.worse_by) == (False, -1.1)
    assert found.low is not None
    assert found.high is not None
    assert -0.1 <= found.low <= 0.2 < 2.0 <= found.high <= 2.4


@pytest.mark.parametrize(
    ("pairs", "numbers"),
    [
        ([], (0, None, None, None, None, None, None)),
        ([(1.0, 3.0)], (1, 2.0, 2.0, None, None, B, 1.0)),
        ([(1.0, 3.0), (1.0, 2.0)], (2, 1.5, 1.5, 1.0, 2.0, B, 0.5)),
        ([(1.0, 1.0), (2.0, 2.0)], (2, 0.0, 0.0, 0.0, 0.0, None, None)),
    ],
    ids=["none", "one", "two", "equal"],
)
def test_few_pairs_are_honest(
    db: DatabaseManager, pairs: list[tuple[float, float]], numbers: tuple[Any, ...]
) -> None:
    """What few pairs do not allow is None: one pair has no interval, no pair no mean."""
    add_run(db, "/mix/a.wav", A, si_snri=1.0)
    add_run(db, "/mix/b.wav", B, si_snri=1.0)
    add_pairs(db, *pairs)
    found = db.compare(A, B)
    assert (
        *(found.n, found.mean_difference, found.median_difference, found.low, found.high),
        *(found.better, found.p_value),
    ) == numbers
    assert found.worse_by == (None if numbers[1] is None else -numbers[1])


def test_a_model_against_itself_only_ties(db: DatabaseManager) -> None:
    """The same model on both sides is no better than itself."""
    add_pairs(db, *gaussian_pairs(8))
    found = db.compare(A, A)
    assert (found.n, found.ties, found.better, found.is_clear) == (8, 8, None, False)
    assert (found.mean_difference, found.low, found.high, found.worse_by) == (0, 0, 0, 0)
    assert "95 % interval 0.00 to 0.00" in str(found).splitlines()


@pytest.mark.parametrize("digit", [-1, 1])
def test_rounding_is_no_difference(db: DatabaseManager, digit: int) -> None:
    """What only the last bit of a sum tells apart makes neither model better or worse."""
    add_pairs(db, *[(0.3, 0.3 + digit * 2**-54)] * 5)
    found = db.compare(A, B)
    assert found.mean_difference
    assert (found.ties, found.better, found.worse_by, found.is_clear) == (5, None, 0, False)
    assert "no difference on average" in str(found).splitlines()


@pytest.mark.parametrize("ties", [0.0, 0.25])
def test_small_differences_are_ties(db: DatabaseManager, ties: float) -> None:
    """A difference that is no larger than ``ties`` is one, and is no gain or loss."""
    add_pairs(db, (1.0, 1.25), (1.0, 0.75), (1.0, 2.0), (3.0, 1.0))
    found = db.compare(A, B, ties=ties)
    counts = (found.wins, found.losses, found.ties)
    shown = [pair.difference for pair in (*found.largest_gains, *found.largest_losses)]
    if ties:
        assert (counts, shown) == ((1, 1, 2), [1.0, -2.0])
    else:
        assert (counts, shown) == ((2, 2, 0), [1.0, 0.25, -2.0, -0.25])


def test_ties_have_no_rank(db: DatabaseManager) -> None:
    """Differences that are ties do not count for the p-value."""
    add_pairs(db, (1.0, 1.25), (1.0, 1.125), (1.0, 1.5), (1.0, 2.0), (1.0, 3.0))
    assert db.compare(A, B).p_value == scipy.stats.wilcoxon([1, 2, 3, 4, 5]).pvalue
    assert db.compare(A, B, ties=0.5).p_value == scipy.stats.wilcoxon([1, 2]).pvalue


def test_low_metrics_are_better_low(db: DatabaseManager) -> None:
    """Where low is better, the model that takes less time wins."""
    add_run(db, model=A, processing_time=4.0)
    add_run(db, model=B, processing_time=3.0)
    found = db.compare(A, B, metric="processing_time")
    assert (found.mean_difference, found.better, found.wins, found.worse_by) == (-1.0, B, 1, -1.0)
    assert [pair.difference for pair in found.largest_gains] == [-1.0]
    other = db.compare(A, B, metric="processing_time", higher_is_better=True)
    assert (other.better, other.wins, other.worse_by) == (A, 0, 1.0)


def test_the_latest_successful_run_counts(db: DatabaseManager) -> None:
    """Older runs, failed ones and unfinished ones do not count, whatever they measured."""
    for hours, status, value in (
        (3, "success", 5.0),
        (1, "success", 1.0),
        (5, "failed", 7.0),
        (4, "unfinished", 9.0),
    ):
        add_run(db, model=A, hours=hours, status=status, si_snri=value)
    add_run(db, model=B, si_snri=6.0)
    found = db.compare(A, B)
    assert (found.n, found.mean_a, found.only_a, found.only_b) == (1, 5.0, 0, 0)


def test_the_latest_run_counts_even_without_a_value(db: DatabaseManager) -> None:
    """A recording whose latest run has no finite value is left out, and said to be."""
    add_run(db, "/mix/1.wav", A, hours=1, si_snri=5.0)
    add_run(db, "/mix/1.wav", A, hours=2)
    add_run(db, "/mix/1.wav", B, si_snri=6.0)
    for number, value in enumerate(["nan", None, "3.5", [1]], 2):
        add_run(db, f"/mix/{number}.wav", A, pesq=value)
        add_run(db, f"/mix/{number}.wav", B, pesq=2.0)
    assert (db.compare(A, B).n, db.compare(A, B).left_out) == (0, 5)
    assert (db.compare(A, B, metric="pesq").n, db.compare(A, B, metric="pesq").left_out) == (0, 5)


def test_stems_pair_by_speaker(db: DatabaseManager) -> None:
    """Each speaker's stem is a pair of its own, from that speaker's latest run."""
    ada, bob = (db.add(Speaker(name=name)) for name in ("Ada", "Bob"))
    for model, values in ((A, (1.0, 5.0)), (B, (3.0, 4.0))):
        for speaker, value in zip((ada, bob), values, strict=True):
            run = {"run_id": model}
            add_run(db, "/mix/1.wav", model, speaker=speaker, run=run, si_snri=value)
    add_run(db, "/mix/1.wav", A, speaker=ada, hours=1, si_snri=2.0)
    found = db.compare(A, B)
    assert found.largest_gains == (Pair("/mix/1.wav", "Ada", 2.0, 3.0, 1.0),)
    assert found.largest_losses == (Pair("/mix/1.wav", "Bob", 5.0, 4.0, -1.0),)
    assert db.compare(A, B, speaker="Bob").largest_losses == found.largest_losses
    assert db.compare(A, B, speaker="Bob").n == 1


def test_stems_that_are_alike_count_by_their_mean(db: DatabaseManager) -> None:
    """Stems of one run without speakers are one pair: the mean of those that have a value."""
    for model, values in ((A, (1.0, 2.0, None)), (B, (4.0, 8.0))):
        for value in values:
            add_run(db, model=model, run={"run_id": model}, si_snri=value)
    found = db.compare(A, B)
    assert (found.n, found.mean_a, found.mean_b) == (1, 1.5, 6.0)


def test_clusters_of_speakers(db: DatabaseManager) -> None:
    """Resampling speakers widens the interval where the recordings of one are alike."""
    generator = random.Random(2)
    with db.atomic():
        speakers = [db.add(Speaker(name=name)) for name in "abcdef"]
        for number in range(60):
            speaker = speakers[number % 6]
            gain = number % 6 + generator.random()
            add_run(db, f"/mix/{number}.wav", A, speaker=speaker, si_snri=1.0)
            add_run(db, f"/mix/{number}.wav", B, speaker=speaker, si_snri=1.0 + gain)
    alone, together = db.compare(A, B), db.compare(A, B, cluster="speaker")
    assert (alone.clusters, together.clusters) == (60, 6)
    assert together.mean_difference == alone.mean_difference
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert (together.p_value, together.note) == (scipy.stats.wilcoxon(range(1, 7)).pvalue, None)


def test_clusters_without_speakers_are_said_to_be(db: DatabaseManager) -> None:
    """A recording without a speaker is its own cluster, and the note tells."""
    add_pairs(db, (1.0, 2.0), (1.0, 3.0))
    found = db.compare(A, B, cluster="speaker")
    assert (found.clusters, found.low, found.high) == (2, 1.0, 2.0)
    assert found.note == "pairs without a speaker: 2, each a cluster of its own"


def test_without_scipy_the_rest_is_there(
    db: DatabaseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the p-value is missing, and one sentence says what to install."""
    add_pairs(db, (1.0, 2.0), (1.0, 3.0))
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    found = db.compare(A, B)
    assert (found.n, found.mean_difference, found.low, found.high) == (2, 1.5, 1.0, 2.0)
    assert (found.p_value, found.note) == (None, NO_SCIPY)
    assert str(found).endswith(f"\n\n{NO_SCIPY}")
    assert db.compare(A, B, cluster="speaker").note == (
        f"{NO_SCIPY}; pairs without a speaker: 2, each a cluster of its own"
    )


def test_filters_choose_runs(db: DatabaseManager) -> None:
    """Operation, speaker and times choose the runs on both sides."""
    add_pairs(db, (1.0, 2.0))
    add_pairs(db, (5.0, 9.0), run={"operation_type": "denoising"}, hours=2)
    assert db.compare(A, B).mean_difference == 4.0
    assert db.compare(A, B, operation_type="denoising").mean_difference == 4.0
    assert db.compare(A, B, operation_type="voice_separation").mean_difference == 1.0
    assert db.compare(A, B, until=START.replace(hour=14)).mean_difference == 1.0
    assert db.compare(A, B, since="2026-11-01T14:00:00Z").mean_difference == 4.0
    assert db.compare(A, B, since="2027-01-01T00:00:00Z").n == 0
    with pytest.raises(NotFoundError, match=r"^no speaker 'Eve'; see 'voices list-speakers'$"):
        db.compare(A, B, speaker="Eve")


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("demucs:4.0", ("demucs", "4.0")),
        ("demucs", ("demucs", None)),
        ("demucs:", ("demucs", "")),
        ("org/model:v:2", ("org/model:v", "2")),
    ],
)
def test_a_model_is_split_at_its_last_colon(text: str, model: tuple[str, str | None]) -> None:
    """A model is written type:version; without a colon any version is meant."""
    assert parse_model(text) == model


@pytest.mark.parametrize(
    ("model", "mean"),
    [
        ("org:m:1", 1.0),
        (("org:m", "1"), 1.0),
        ("org:m", 3.0),
        (("org:m", None), 3.0),
        ("org:m:", 2.0),
        (("org:m", ""), 2.0),
    ],
    ids=str,
)
def test_models_are_found_by_text_and_pair(
    db: DatabaseManager, model: str | tuple[str, str | None], mean: float
) -> None:
    """A version, any version (the latest run), and none are three different questions."""
    for hours, version in enumerate(["1", None, "2"], 1):
        run = {"model_type": "org:m", "model_version": version}
        add_run(db, hours=hours, run=run, si_snri=float(hours))
    assert db.compare(model, model).mean_a == mean


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": "demcs:4.0"}, "unknown model 'demcs:4.0'; did you mean 'demucs:4.0'?"),
        ({"b": "x"}, "unknown model 'x'; use demucs:4.0, svoice:1.2"),
        ({"b": ("x", "1")}, "unknown model 'x:1'; use demucs:4.0, svoice:1.2"),
        ({"a": ":4"}, "a model is written type:version, for example demucs:4.0, not ':4'"),
        ({"metric": "psq"}, "unknown metric 'psq'; did you mean 'pesq'?"),
        (
            {"metric": "charm"},
            (
                "it is not known whether a high 'charm' is good; "
                "say higher_is_better=True or False, in the shell --higher-is-better or "
                "--lower-is-better"
            ),
        ),
        ({"cluster": "file"}, "pairs are clustered by 'speaker' or not, never by 'file'"),
        ({"confidence": 95}, "confidence must lie between 0 and 1, not 95"),
        ({"resamples": 0}, "resamples must be 1 or more, not 0"),
        ({"ties": -0.1}, "ties must be 0 or more, not -0.1"),
        ({"ties": float("nan")}, "ties must be 0 or more, not nan"),
    ],
)
def test_what_cannot_be_asked(db: DatabaseManager, arguments: dict[str, Any], message: str) -> None:
    """A question that makes no sense gets one sentence."""
    for model in (A, B):
        add_run(db, model=model, pesq=2.0, charm=1.0)
    with pytest.raises(QueryError) as caught:
        db.compare(**{"a": A, "b": B, **arguments})
    assert str(caught.value) == message


def test_no_run_names_a_model(db: DatabaseManager) -> None:
    """In a database without models there is none to propose."""
    add_run(db, model=None)
    with pytest.raises(QueryError, match=r"^unknown model 'demucs:4.0'; no run names a model$"):
        db.compare(A, B)


def test_a_model_that_only_failed_is_known(db: DatabaseManager) -> None:
    """A model without any success makes an empty comparison, not an error."""
    add_run(db, model=A, si_snri=1.0)
    add_run(db, model=B, status="failed")
    found = db.compare(A, B)
    assert (found.n, found.only_a, found.only_b) == (0, 1, 0)


metric_values = st.one_of(
    st.none(), st.floats(-1e3, 1e3), st.just(0.1), st.integers(-5, 5).map(float)
)
records = st.lists(
    st.tuples(
        st.integers(0, 4),  # recording
        st.sampled_from([A, B]),
        st.sampled_from(["Ada", "Bob", None]),
        st.sampled_from(["success", "success", "failed"]),
        metric_values,
    ),
    max_size=14,
)


def write(db: DatabaseManager, rows: Any) -> None:
    """Write runs, each at its own time, in any order."""
    speakers = {name: db.add(Speaker(name=name)) for name in ("Ada", "Bob")}
    for hours, (recording, model, speaker, status, value) in rows:
        add_run(
            db,
            f"/mix/{recording}.wav",
            model,
            hours=hours,
            status=status,
            speaker=speakers.get(speaker),
            si_snri=value,
        )
    for model in (A, B):  # both are known, whatever the rows are
        add_run(db, f"/only/{model}.wav", model)


def compared(db: DatabaseManager, rows: Any, *models: str, **settings: Any) -> Comparison:
    """Return the comparison of a database that holds the rows, and leave nothing behind."""
    with db.atomic(), db.store.database.atomic() as inner:
        write(db, rows)
        found = db.compare(*models, resamples=40, **settings)
        inner.rollback()
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=records, cluster=st.sampled_from([None, "speaker"]), seed=st.integers(0, 5))
def test_swapping_the_models_mirrors_everything(
    db: DatabaseManager, rows: Any, cluster: str | None, seed: int
) -> None:
    """``compare(a, b)`` and ``compare(b, a)`` say the same, to the last bit."""
    numbered = list(enumerate(rows))
    one = compared(db, numbered, A, B, cluster=cluster, seed=seed)
    two = compared(db, numbered, B, A, cluster=cluster, seed=seed)
    assert (one.n, one.ties, one.left_out) == (two.n, two.ties, two.left_out)
    assert (one.wins, one.losses) == (two.losses, two.wins)
    assert (one.only_a, one.only_b) == (two.only_b, two.only_a)
    assert (one.mean_a, one.mean_b) == (two.mean_b, two.mean_a)
    assert one.better == two.better
    assert one.p_value == two.p_value
    for name, other in (
        ("mean_difference", "mean_difference"),
        ("median_difference", "median_difference"),
        ("low", "high"),
        ("high", "low"),
    ):
        value = getattr(two, other)
        assert getattr(one, name) == (None if value is None else -value)
    mirrored = [
        Pair(pair.path, pair.speaker, pair.b, pair.a, -pair.difference)
        for pair in two.largest_losses
    ]
    assert list(one.largest_gains) == mirrored


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=records, shuffler=st.randoms(use_true_random=False))
def test_the_order_of_rows_makes_no_difference(
    db: DatabaseManager, rows: Any, shuffler: random.Random
) -> None:
    """Rows that were written in another order give the same comparison."""
    numbered = list(enumerate(rows))
    shuffled = list(numbered)
    shuffler.shuffle(shuffled)
    assert compared(db, shuffled, A, B) == compared(db, numbered, A, B)


def test_recordings_are_named_as_python_knows_them(db: DatabaseManager) -> None:
    """A name that is not UTF-8 keeps its bytes; a recording without a path has its id."""
    row = db.add(ProcessedFile(filename="stream"))
    for model, value in ((A, 1.0), (B, 2.0)):
        add_run(db, "/mix/caf\udce9.wav", model, si_snri=value)
        add_run(db, None, model, run={"processed_file": row}, si_snri=3 * value)
    found = db.compare(A, B)
    assert [pair.path for pair in found.largest_gains] == [f"file {row.id}", "/mix/caf\udce9.wav"]
    str(found).encode()


def test_the_text_is_for_people(db: DatabaseManager) -> None:
    """The text says who is better, by how much and how sure that is, in at most 80 columns."""
    add_pairs(db, (10.0, 11.0), (9.0, 8.5), (7.0, 7.0), (6.0, 8.0))
    long = "/data/" + "a_long_folder/" * 6 + "mix.wav"
    add_run(db, long, A, si_snri=1.0)
    add_run(db, long, B, si_snri=4.0)
    add_run(db, "/mix/only.wav", A, si_snri=4.0)
    head, *rest = str(db.compare(A, B)).split("\n\n")
    assert head == "A: demucs:4.0\nB: svoice:1.2\nsi_snri (dB), higher is better"
    assert rest == [
        "B is better by 1.10 dB on average\n95 % interval 0.00 to +2.20, p = 0.25",
        "             A     B  B - A\nmean      6.60  7.70  +1.10\nmedian                +1.00",
        (
            "pairs: 5; B better in 3, A better in 1, tied in 1\n"
            "left out: 1 of A alone, 0 of B alone, 0 without a finite value"
        ),
        (
            "largest gains of B                                               A      B  B - A\n"
            "/data/a_long_folder/a_long_fo…_folder/a_long_folder/mix.wav   1.00   4.00  +3.00\n"
            "/mix/003.wav                                                  6.00   8.00  +2.00\n"
            "/mix/000.wav                                                 10.00  11.00  +1.00"
        ),
        "largest losses of B     A     B  B - A\n/mix/001.wav         9.00  8.50  -0.50",
    ]


def test_the_text_of_small_numbers(db: DatabaseManager) -> None:
    """Numbers that are no dB have four digits, however small, and nothing is minus zero."""
    for model, factor in ((A, 0.003382), (B, 0.008666)):
        add_run(db, model=model, real_time_factor=factor, processing_time=12345.678, si_snri=1.0)
    add_run(db, "/mix/2.wav", A, si_snri=0.3)
    add_run(db, "/mix/2.wav", B, si_snri=0.1 + 0.2)
    text = str(db.compare(A, B, metric="real_time_factor"))
    assert "A is better by 0.005284 on average" in text
    assert "mean      0.003382  0.008666  +0.005284" in text
    assert "mean      12345.68  12345.68      0" in str(db.compare(A, B, metric="processing_time"))
    assert "mean      0.65  0.65   0.00" in str(db.compare(A, B))
    assert "-0.00" not in str(db.compare(B, A))


def test_the_text_of_nothing(db: DatabaseManager) -> None:
    """Without a pair the text says so."""
    add_run(db, "/mix/a.wav", A, si_snri=1.0)
    add_run(db, "/mix/b.wav", B, processing_time=1.0)
    assert str(db.compare(A, B, metric="processing_time")) == (
        "A: demucs:4.0\nB: svoice:1.2\nprocessing_time (s), lower is better\n\n"
        "no recording has a value from both\n\n"
        "pairs: 0; B better in 0, A better in 0, tied in 0\n"
        "left out: 1 of A alone, 1 of B alone, 0 without a finite value"
    )


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_pairing_takes_two_indexed_queries(db: DatabaseManager) -> None:
    """The runs of a model are found through an index, whatever else is in the database."""
    add_pairs(db, (1.0, 2.0))
    seen: list[str] = []
    connection = db.store.connection()
    connection.set_trace_callback(seen.append)
    db.compare(A, B)
    connection.set_trace_callback(None)
    pairing = [sql for sql in seen if "model_performance" in sql]
    index = "processing_history_operation_type_model_type_model_version"
    assert len(pairing) == 2
    for sql in pairing:
        plan = [row["detail"] for row in db.execute_raw_query(f"EXPLAIN QUERY PLAN {sql}")]
        assert plan == [
            (
                f"SEARCH t3 USING INDEX {index} "
                "(operation_type=? AND model_type=? AND model_version=?)"
            ),
            "SEARCH t1 USING INTEGER PRIMARY KEY (rowid=?)",
            (
                "SEARCH t2 USING INDEX model_performance_processing_history_id "
                "(processing_history_id=?) LEFT-JOIN"
            ),
        ]
