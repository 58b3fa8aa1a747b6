"""What plots show, in numbers, against an independent computation."""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import scipy.stats
from support.run_rows import START, add_run

from voices_peewee import DatabaseManager, Speaker
from voices_peewee.display import plot_data
from voices_peewee.display.plot_data import read
from voices_peewee.display.plot_pictures import Distribution, Paired, Picture, Scatter, Trend
from voices_peewee.display.plot_rows import Request
from voices_peewee.errors import NotFoundError, PlotError, QueryError, VoicesError
from voices_peewee.questions.selection import Runs

MODELS = ("demucs:4.0", "demucs:4.1", "svoice")
COLUMNS = (
    "channels, cpu_usage, duration, file_size, memory_usage, odd, processing_time, "
    "real_time_factor, sample_rate, sdri, si_snri"
)
UNSURE = (
    "it is not known whether a high 'odd' is good; "
    "say higher_is_better=True or False, in the shell --higher-is-better or "
    "--lower-is-better"
)


def ask(db: DatabaseManager, kind: str, *models: str, **request: Any) -> Picture:
    return read(db.store, kind, Request(models=models, **request))


def fill(db: DatabaseManager, n: int = 150) -> list[dict[str, Any]]:
    """Write runs of all kinds and return what is in them."""
    generator, records = random.Random(7), []
    with db.atomic():
        speakers = [db.add(Speaker(name=name)) for name in ("Ada", "Bob")] + [None]
        for number in range(n):
            record = {
                "model": generator.choice(MODELS),
                "hours": generator.uniform(0, 24 * 20),
                "speaker": generator.choice(speakers),
                "duration": generator.choice([None, generator.expovariate(0.1)]),
                "si_snri": generator.choice([None, *[generator.gauss(10, 3)] * 5]),
                "sdri": generator.gauss(11, 3),
                "pesq": generator.choice([2, "nan", None, generator.random()]),
                "status": generator.choice([*["success"] * 5, "failed", "unfinished"]),
            }
            records.append(record)
            options = {k: v for k, v in record.items() if k not in ("model", "duration")}
            add_run(
                db,
                f"/mix/{number}.wav",
                record["model"],
                file={"duration": record["duration"]},
                **options,
            )
    return [record for record in records if record["status"] == "success"]


def values_of(records: list[dict[str, Any]], metric: str) -> dict[str, list[float]]:
    found = defaultdict(list)
    for record in records:
        if isinstance(record[metric], int | float):
            found[record["model"]].append(record[metric])
    return dict(found)


# Distribution


@pytest.mark.parametrize("metric", ["si_snri", "pesq"])
def test_boxes_are_those_of_matplotlib(db: DatabaseManager, metric: str) -> None:
    """Count, quartiles, whiskers and mean of each model are what boxplot_stats says."""
    from matplotlib.cbook import boxplot_stats

    wanted = values_of(fill(db), metric)
    picture = ask(db, "distribution", metrics=(metric,))
    assert isinstance(picture, Distribution)
    (panel,) = picture.panels
    assert set(panel.groups) == set(wanted) == set(MODELS)
    for model, group in panel.groups.items():
        theirs = boxplot_stats(wanted[model])[0]
        assert group.n == len(wanted[model])
        assert group.points == tuple(sorted(wanted[model]))
        assert (
            group.low,
            group.lower_quartile,
            group.median,
            group.upper_quartile,
            group.high,
            group.mean,
        ) == pytest.approx(
            [theirs[name] for name in ("whislo", "q1", "med", "q3", "whishi", "mean")], rel=1e-12
        )


def test_the_best_median_comes_first(db: DatabaseManager) -> None:
    """Models stand in the order of their medians, the best first, whatever best means."""
    for model, value in (("low", 1.0), ("high", 3.0), ("middle", 2.0)):
        add_run(db, model=model, si_snri=value, real_time_factor=value)
    assert ask(db, "distribution").models == ("high", "middle", "low")
    costs = ask(db, "distribution", metrics=("real_time_factor",))
    assert costs.models == ("low", "middle", "high")


def test_the_usual_metrics_are_those_that_were_measured(db: DatabaseManager) -> None:
    """Without a metric SI-SNRi and SDRi are drawn, or the one that is there."""
    add_run(db, model="a", sdri=1.0)
    picture = ask(db, "distribution")
    assert [panel.axis.label for panel in picture.panels] == ["SDRi (dB)"]
    add_run(db, model="b", si_snri=1.0)
    picture = ask(db, "distribution")
    assert [panel.axis.label for panel in picture.panels] == ["SI-SNRi (dB)", "SDRi (dB)"]
    assert picture.models == ("b", "a")
    assert [list(panel.groups) for panel in picture.panels] == [["b"], ["a"]]


def test_of_many_values_a_sample_is_drawn(db: DatabaseManager, monkeypatch: Any) -> None:
    """All values make the box; the points are a sample by rank, and the picture says so."""
    monkeypatch.setattr(plot_data, "_POINTS", 10)
    monkeypatch.setattr(plot_data, "_LEAST_POINTS", 5)
    with db.atomic():
        for number in range(101):
            add_run(db, f"/{number}.wav", si_snri=float(number * 37 % 101))
    picture = ask(db, "distribution", metrics=("si_snri",))
    (group,) = picture.panels[0].groups.values()
    assert (group.n, group.median, group.lower_quartile) == (101, 50.0, 25.0)
    assert group.points == (0.0, 11.0, 22.0, 33.0, 44.0, 56.0, 67.0, 78.0, 89.0, 100.0)
    assert picture.notes == ("10 of 101 points drawn",)


@pytest.mark.parametrize("kind", ["distribution", "scatter", "trend"])
def test_of_many_models_those_with_the_most_values_are_drawn(
    db: DatabaseManager, kind: str, monkeypatch: Any
) -> None:
    """More models than can be told apart are not drawn, and the picture says so."""
    monkeypatch.setattr(plot_data, "MOST_MODELS", 2)
    for model, count in (("a", 1), ("b", 3), ("c", 2)):
        for number in range(count):
            add_run(db, f"/{number}.wav", model, si_snri=1.0, file={"duration": 1.0})
    picture = ask(db, kind)
    if isinstance(picture, Distribution):
        drawn = picture.models
    else:
        drawn = [one.model for one in getattr(picture, "clouds", getattr(picture, "lines", ()))]
    assert sorted(drawn) == ["b", "c"]
    assert picture.notes == ("2 of 3 models drawn, those with the most values",)


def test_models_that_are_written_alike_are_one(db: DatabaseManager) -> None:
    """A version in the model's name and one beside it come to the same label and group."""
    add_run(db, "/1.wav", "a:b", si_snri=1.0)
    add_run(db, "/2.wav", None, si_snri=3.0, run={"model_type": "a:b"})
    picture = ask(db, "distribution")
    assert picture.models == ("a:b",)
    assert picture.panels[0].groups["a:b"].points == (1.0, 3.0)


# Pairs


def test_pairs_are_those_of_compare(db: DatabaseManager) -> None:
    """The comparison is db.compare's, and every pair is there, by gain."""
    generator = random.Random(1)
    with db.atomic():
        for number in range(12):
            for model in ("demucs:4.0", "svoice:1.2"):
                add_run(db, f"/mix/{number}.wav", model, si_snri=generator.gauss(10, 2))
        add_run(db, "/mix/alone.wav", "demucs:4.0", si_snri=3.0)
    picture = ask(db, "paired", "demucs:4.0", "svoice:1.2")
    assert isinstance(picture, Paired)
    assert picture.comparison == db.compare("demucs:4.0", "svoice:1.2")
    gains = [pair.difference for pair in picture.pairs]
    assert gains == sorted(gains)
    assert len(gains) == 12
    assert np.mean(gains) == pytest.approx(picture.comparison.mean_difference)
    best = picture.comparison.largest_gains[0]
    assert picture.pairs[-1] == best


def test_a_gain_is_a_loss_where_lower_is_better(db: DatabaseManager) -> None:
    """The last pair is the one where B gains most, in the metric's direction."""
    for number, (a, b) in enumerate([(1.0, 2.0), (1.0, 0.5), (1.0, 1.0)]):
        add_run(db, f"/{number}.wav", "a", real_time_factor=a)
        add_run(db, f"/{number}.wav", "b", real_time_factor=b)
    picture = ask(db, "paired", "a", "b", metrics=("real_time_factor",))
    assert [pair.path for pair in picture.pairs] == ["/0.wav", "/2.wav", "/1.wav"]


# Scatter


@pytest.mark.parametrize("against", [None, "duration", "sdri", "pesq"])
def test_points_are_those_of_the_runs(db: DatabaseManager, against: str | None) -> None:
    """Every run that has both numbers is a point of its model."""
    wanted: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in fill(db):
        x, y = record[against or "duration"], record["si_snri"]
        if isinstance(x, int | float) and y is not None:
            wanted[record["model"]].append((x, y))
    picture = ask(db, "scatter", against=against)
    assert isinstance(picture, Scatter)
    assert {cloud.model: list(cloud.points) for cloud in picture.clouds} == {
        model: sorted(points) for model, points in wanted.items()
    }
    assert [cloud.n for cloud in picture.clouds] == [len(wanted[model]) for model in sorted(wanted)]


def test_a_sample_of_points_is_even_and_stays(db: DatabaseManager, monkeypatch: Any) -> None:
    """Of many runs a sample is drawn: the same each time, spread over all, and the note says so."""
    with db.atomic():
        for number in range(300):
            add_run(db, f"/{number}.wav", si_snri=float(number), file={"duration": 1.0 + number})
    whole = ask(db, "scatter")
    monkeypatch.setattr(plot_data, "_POINTS", 30)
    monkeypatch.setattr(plot_data, "_LEAST_POINTS", 5)
    first, second = ask(db, "scatter"), ask(db, "scatter")
    (cloud,) = first.clouds
    assert first == second
    assert (cloud.n, len(cloud.points)) == (300, 30)
    assert set(cloud.points) < set(whole.clouds[0].points)
    assert max(np.diff([y for _, y in cloud.points])) < 30
    assert (whole.notes, first.notes) == ((), ("30 of 300 points drawn",))


@pytest.mark.parametrize(("factor", "log"), [(999.0, False), (1000.0, True)])
def test_wide_ranges_are_logarithmic(db: DatabaseManager, factor: float, log: bool) -> None:
    """An axis whose largest value is a thousand times its smallest is logarithmic."""
    for number, duration in enumerate((0.5, 0.5 * factor)):
        add_run(db, f"/{number}.wav", si_snri=-1.0 + number, file={"duration": duration})
    picture = ask(db, "scatter")
    assert (picture.x.log, picture.y.log) == (log, False)


@pytest.mark.parametrize(
    ("against", "label"),
    [
        ("duration", "Duration (s)"),
        ("sample_rate", "Sample rate (Hz)"),
        ("channels", "Channels"),
        ("file_size", "File size (bytes)"),
        ("real_time_factor", "Real-time factor (×)"),
        ("memory_usage", "Peak memory (MB)"),
        ("cpu_usage", "CPU (% of one core)"),
        ("processing_time", "Processing time (s)"),
        ("sdri", "SDRi (dB)"),
        ("odd", "odd"),
    ],
)
def test_axes_have_units(db: DatabaseManager, against: str, label: str) -> None:
    """Each column that a scatter can be against has its name and unit on the axis."""
    costs = {"real_time_factor": 0.2, "memory_usage": 3.0, "cpu_usage": 5.0, "processing_time": 1.0}
    file = {"duration": 2.0, "sample_rate": 8000, "channels": 1, "file_size": 99}
    add_run(db, si_snri=1.0, sdri=2.0, odd=7, file=file, **costs)
    picture = ask(db, "scatter", against=against)
    assert picture.x.label == label
    assert (picture.y.label, picture.y.better) == ("SI-SNRi (dB)", "higher is better")
    assert picture.x.better == ""


# Trend


def test_marks_are_means_with_intervals(db: DatabaseManager) -> None:
    """Each mark is the mean of a model's runs of one day, with Student's interval."""
    records = fill(db)
    picture = ask(db, "trend")
    assert isinstance(picture, Trend)
    assert (picture.step, picture.seconds) == ("week", 7 * 86_400)
    wanted: dict[tuple[str, dt.date], list[float]] = defaultdict(list)
    for record in records:
        if record["si_snri"] is not None:
            day = (START + dt.timedelta(hours=record["hours"])).date()
            wanted[record["model"], day - dt.timedelta(days=day.weekday())].append(
                record["si_snri"]
            )
    found = {(line.model, mark.time.date()): mark for line in picture.lines for mark in line.marks}
    assert found.keys() == wanted.keys()
    for key, mark in found.items():
        values = np.array(wanted[key])
        assert (mark.n, mark.mean) == (len(values), pytest.approx(values.mean()))
        if len(values) == 1:
            assert (mark.low, mark.high) == (None, None)
        else:
            margin = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
            assert (mark.low, mark.high) == pytest.approx((mark.mean - margin, mark.mean + margin))


@pytest.mark.parametrize(
    ("hours", "step", "first"),
    [
        (0, "hour", "2026-11-01 12:00"),
        (16, "hour", "2026-11-01 12:00"),
        (17, "day", "2026-11-01 00:00"),
        (24 * 17, "week", "2026-10-26 00:00"),
        (24 * 7 * 17, "4 weeks", "2026-10-26 00:00"),
        (24 * 7 * 70, "12 weeks", "2026-10-26 00:00"),
        (24 * 7 * 52 * 50, "52 weeks", "2026-10-26 00:00"),
    ],
)
def test_steps_follow_the_span(db: DatabaseManager, hours: int, step: str, first: str) -> None:
    """The time from the first run to the last one makes the step; weeks begin on Monday."""
    for number, after in enumerate((0, hours)):
        add_run(db, f"/{number}.wav", hours=after, si_snri=1.0)
    picture = ask(db, "trend")
    assert picture.step == step
    assert f"{picture.lines[0].marks[0].time:%Y-%m-%d %H:%M}" == first


def test_lines_come_in_order_of_first_use(db: DatabaseManager) -> None:
    """Versions follow one another as they were used."""
    for hours, model in ((40, "a:10"), (20, "a:9"), (0, "b")):
        add_run(db, f"/{hours}.wav", model, hours=hours, si_snri=1.0)
    picture = ask(db, "trend")
    assert [(line.model, line.model_type) for line in picture.lines] == [
        ("b", "b"),
        ("a:9", "a"),
        ("a:10", "a"),
    ]


def test_uncertain_intervals_leave_the_picture(db: DatabaseManager) -> None:
    """The interval of two values, many times wider than the rest, does not set the scale."""
    for number, value in enumerate((1.0, 2.0)):
        add_run(db, f"/{number}.wav", si_snri=value)
    picture = ask(db, "trend")
    (mark,) = picture.lines[0].marks
    assert mark.low < -4
    assert picture.ends == (1.0, 2.0)


# Which runs


@pytest.mark.parametrize(
    ("request_", "wanted", "about"),
    [
        ({}, {"1", "2", "3", "4"}, ""),
        ({"models": ("demucs",)}, {"1", "2", "3"}, ""),
        ({"models": ("demucs:4.1", "svoice")}, {"3", "4"}, ""),
        ({"runs": Runs(operation_type="denoising")}, {"2"}, "denoising"),
        ({"runs": Runs(speaker="Ada")}, {"3"}, "speaker Ada"),
        (
            {"runs": Runs(since=START + dt.timedelta(hours=2))},
            {"3", "4"},
            "since 2026-11-01 14:00",
        ),
        ({"runs": Runs(until="2026-11-01T13:00Z")}, {"1"}, "before 2026-11-01T13:00Z"),
    ],
)
@pytest.mark.parametrize("kind", ["distribution", "scatter", "trend"])
def test_filters_choose_the_runs(
    db: DatabaseManager, kind: str, request_: dict[str, Any], wanted: set[str], about: str
) -> None:
    """Models, operation, speaker and times narrow down what is drawn, and the picture says so."""
    ada = db.create_speaker("Ada")
    add_run(db, "/1.wav", "demucs:4.0", si_snri=1.0, file={"duration": 1.0})
    run = {"operation_type": "denoising"}
    add_run(db, "/2.wav", "demucs:4.0", hours=1, si_snri=2.0, run=run, file={"duration": 1.0})
    add_run(db, "/3.wav", "demucs:4.1", hours=2, si_snri=3.0, speaker=ada, file={"duration": 1.0})
    add_run(db, "/4.wav", "svoice", hours=3, si_snri=4.0, file={"duration": 1.0})
    picture = read(db.store, kind, Request(**request_))
    if isinstance(picture, Distribution):
        values = {value for group in picture.panels[0].groups.values() for value in group.points}
    elif isinstance(picture, Scatter):
        values = {y for cloud in picture.clouds for _, y in cloud.points}
    else:
        assert isinstance(picture, Trend)
        values = {mark.mean for line in picture.lines for mark in line.marks}
    assert {f"{value:g}" for value in values} == wanted
    assert picture.about == about


REFUSED = [
    (
        ("boxes",),
        {},
        QueryError,
        "unknown plot 'boxes'; use distribution, paired, scatter, trend",
    ),
    (("trnd",), {}, QueryError, "unknown plot 'trnd'; did you mean 'trend'?"),
    (("paired",), {}, QueryError, "a paired plot is of two models, not 0"),
    (("paired", "a", "a", "a"), {}, QueryError, "a paired plot is of two models, not 3"),
    (
        ("trend",),
        {"against": "duration"},
        QueryError,
        "a trend plot is not against a column; a scatter plot is",
    ),
    (
        ("trend",),
        {"metrics": ("si_snri", "sdri")},
        QueryError,
        "a trend plot takes 1 metric, not 2",
    ),
    (
        ("distribution",),
        {"metrics": ("si_snri",) * 5},
        QueryError,
        "a distribution plot takes 1 to 4 metrics, not 5",
    ),
    (
        ("distribution",),
        {"metrics": ()},
        QueryError,
        "a distribution plot takes 1 to 4 metrics, not 0",
    ),
    (
        ("distribution", "demuks"),
        {},
        QueryError,
        "unknown model 'demuks'; did you mean 'demucs:4.0'?",
    ),
    (
        ("trend",),
        {"metrics": ("si_snr",)},
        QueryError,
        "unknown metric 'si_snr'; did you mean 'si_snri'?",
    ),
    (
        ("trend",),
        {"metrics": ("odd",)},
        QueryError,
        UNSURE,
    ),
    (
        ("scatter",),
        {"against": "duratoin"},
        QueryError,
        "unknown column 'duratoin'; did you mean 'duration' or 'sdri'?",
    ),
    (
        ("scatter",),
        {"against": "zzz"},
        QueryError,
        f"unknown column 'zzz'; use {COLUMNS}",
    ),
    (
        ("trend",),
        {"runs": Runs(speaker="Bob")},
        NotFoundError,
        "no speaker 'Bob'; see 'voices list-speakers'",
    ),
    (
        ("trend",),
        {"metrics": ("sdri",)},
        PlotError,
        "nothing to plot: no successful run has a value of 'sdri'",
    ),
    (
        ("distribution",),
        {"runs": Runs(operation_type="x")},
        PlotError,
        "nothing to plot: no successful run that was asked for has a value of 'si_snri' or 'sdri'",
    ),
    (
        ("distribution",),
        {"metrics": ("si_snri", "sdri")},
        PlotError,
        "nothing to plot: no successful run has a value of 'sdri'",
    ),
    (
        ("scatter",),
        {"against": "channels"},
        PlotError,
        "nothing to plot: no successful run has a value of 'si_snri' and of 'channels'",
    ),
    (
        ("paired", "demucs", "other"),
        {},
        PlotError,
        "nothing to plot: no recording has a value of 'si_snri' from both 'demucs' and 'other'",
    ),
]


@pytest.mark.parametrize(
    ("words", "request_", "kind_of_error", "message"),
    REFUSED,
    ids=[message[:50] for *_, message in REFUSED],
)
def test_what_cannot_be_drawn_is_one_sentence(
    db: DatabaseManager,
    words: tuple[str, ...],
    request_: dict[str, Any],
    kind_of_error: type[VoicesError],
    message: str,
) -> None:
    """A plot that is not known, does not fit or has no data says so; no empty picture is made."""
    add_run(db, "/1.wav", "demucs:4.0", si_snri=1.0, odd=1.0)
    add_run(db, "/2.wav", "other", si_snri=1.0, status="failed")
    add_run(db, "/3.wav", "other")
    with pytest.raises(kind_of_error) as caught:
        ask(db, *words, **request_)
    assert (type(caught.value), str(caught.value)) == (kind_of_error, message)
