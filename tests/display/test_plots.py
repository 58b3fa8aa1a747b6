"""Plots: the numbers that they show, against an independent computation, and real pictures."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from support.databases import NO_ROOM_FOR
from support.run_rows import add_run

from voices_peewee import DatabaseManager, ProcessedFile
from voices_peewee.display import plot_data, plots
from voices_peewee.display.plot_data import Distribution, Paired, Request, Scatter
from voices_peewee.errors import MissingExtraError, PlotError, QueryError
from voices_peewee.questions.selection import Runs

DOCS = Path(__file__).resolve().parents[2] / "docs"
KINDS = {"distribution": (), "paired": ("demucs:4.0", "svoice:1.2"), "scatter": ()}
CONTROL = "\a" if "\0" in NO_ROOM_FOR else "\0"
HOSTILE = [
    "$\\frac{1$",
    "_$x$_",
    "<b>&\"'",
    f"a\n\x1b[31m{CONTROL}b",
    "模型" * 40,
    "\u202egnp\ufffe",
    "%s {}",
]


def ask(db: DatabaseManager, kind: str, *models: str, **request: Any) -> Any:
    return plot_data.read(db.store, kind, Request(models=models, **request))


def size(png: bytes) -> tuple[int, int]:
    assert png[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    return struct.unpack(">II", png[16:24])


def texts(svg: Path) -> list[str]:
    """Return the texts of an SVG, as an XML parser reads them."""
    found = ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 - our own file
    return ["".join(one.itertext()) for one in found]


def fill(db: DatabaseManager, n: int = 60) -> list[dict[str, Any]]:
    """Write runs of all kinds and return those that succeeded."""
    generator, records = random.Random(7), []
    with db.atomic():
        for number in range(n):
            record = {
                "model": generator.choice(("demucs:4.0", "demucs:4.1", "svoice")),
                "duration": generator.choice([None, generator.expovariate(0.1)]),
                "si_snri": generator.choice([None, *[generator.gauss(10, 3)] * 5]),
                "pesq": generator.choice([2, "nan", None, generator.random()]),
                "status": generator.choice([*["success"] * 5, "failed", "unfinished"]),
            }
            records.append(record)
            scores = {name: record[name] for name in ("si_snri", "pesq")}
            file = {"duration": record["duration"]}
            model, status = record["model"], record["status"]
            add_run(db, f"/mix/{number}.wav", model, file=file, status=status, **scores)
    return [record for record in records if record["status"] == "success"]


def recording(db: DatabaseManager, path: str, **columns: Any) -> ProcessedFile:
    return db.add(ProcessedFile(filename=Path(path).name, original_path=path, **columns))


@pytest.fixture
def runs(db: DatabaseManager) -> DatabaseManager:
    """Two models, the second better by 1 dB and more, on eight recordings."""
    with db.atomic():
        for number in range(8):
            run = {"processed_file": recording(db, f"/mix/{number}.wav", duration=2.0 + number)}
            for model, mean in (("demucs:4.0", 10.0), ("svoice:1.2", 11.0)):
                value = mean + number * (mean - 9) / 4
                add_run(db, model=model, si_snri=value, sdri=value, run=run)
    return db


@pytest.mark.parametrize("metric", ["si_snri", "pesq"])
def test_a_distribution_has_every_finite_value(db: DatabaseManager, metric: str) -> None:
    """The values of successful runs that are finite numbers are there, by model."""
    wanted: dict[str, list[float]] = defaultdict(list)
    for record in fill(db):
        if isinstance(record[metric], int | float):
            wanted[record["model"]].append(record[metric])
    picture = ask(db, "distribution", metrics=(metric,))
    assert isinstance(picture, Distribution)
    (panel,) = picture.panels
    assert {model: sorted(values) for model, values in panel.values.items()} == {
        model: sorted(values) for model, values in wanted.items()
    }


@pytest.mark.parametrize("against", [None, "pesq"])
def test_a_scatter_has_every_run_with_both_numbers(
    db: DatabaseManager, against: str | None
) -> None:
    """Every run that has both numbers is a point of its model, and ρ is Spearman's."""
    wanted: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in fill(db):
        x, y = record[against or "duration"], record["si_snri"]
        if isinstance(x, int | float) and y is not None:
            wanted[record["model"]].append((x, y))
    picture = ask(db, "scatter", against=against)
    assert isinstance(picture, Scatter)
    assert picture.clouds.keys() == wanted.keys()
    for model, (xs, ys) in picture.clouds.items():
        assert sorted(zip(xs, ys, strict=True)) == sorted(wanted[model])
        rho = scipy.stats.spearmanr(*zip(*wanted[model], strict=True)).statistic
        assert plots._rank_correlation(xs, ys) == pytest.approx(rho)


def test_what_belongs_to_a_run_counts_once_a_run(db: DatabaseManager) -> None:
    """A run of two stems is one time and two scores; in a scatter it is one point."""
    recording = add_run(db, "/1.wav", "a", status="failed", file={"duration": 8.0}).processed_file
    for run_id, scores in (("1" * 32, (2.0, 4.0)), ("2" * 32, (5.0, 7.0))):
        for score in scores:
            stem = {"recording": recording, "duration": 1.0, "processed_path": f"/{score}.wav"}
            costs = {"processing_time": 3.0, "si_snri": score}
            add_run(db, "/1.wav", "a", file=stem, run={"run_id": run_id}, **costs)
    values = {
        metric: list(ask(db, "distribution", metrics=(metric,)).panels[0].values["a"])
        for metric in ("processing_time", "si_snri")
    }
    assert values == {"processing_time": [3.0, 3.0], "si_snri": [2.0, 4.0, 5.0, 7.0]}
    xs, ys = ask(db, "scatter").clouds["a"]
    assert (list(xs), sorted(ys)) == ([8.0, 8.0], [3.0, 6.0])


def test_pairs_are_those_of_compare(runs: DatabaseManager) -> None:
    """The comparison is db.compare's, with every pair."""
    picture = ask(runs, "paired", *KINDS["paired"])
    assert isinstance(picture, Paired)
    assert picture.comparison == runs.compare(*KINDS["paired"])
    assert len(picture.pairs) == picture.comparison.n == 8


def test_the_usual_metrics_are_those_that_were_measured(db: DatabaseManager) -> None:
    """Without a metric SI-SNRi and SDRi are drawn, or the one that is there."""
    add_run(db, model="a", sdri=1.0)
    assert [panel.axis.label for panel in ask(db, "distribution").panels] == ["SDRi (dB)"]
    add_run(db, model="b", si_snri=1.0)
    labels = [panel.axis.label for panel in ask(db, "distribution").panels]
    assert labels == ["SI-SNRi (dB)", "SDRi (dB)"]


@pytest.mark.parametrize("kind", ["distribution", "scatter"])
def test_of_many_models_those_with_the_most_values_are_drawn(
    db: DatabaseManager, kind: str, tmp_path: Path
) -> None:
    """More models than can be told apart are not drawn, and the picture says so."""
    with db.atomic():
        for number in range(42):
            for again in range(1 + (number < 40)):
                file = {"duration": 1.0 + again}
                add_run(db, f"/{again}.wav", f"m{number:02}", si_snri=1.0, file=file)
    db.plot(kind, path=tmp_path / "plot.svg")
    shown = texts(tmp_path / "plot.svg")
    assert "40 of 42 models drawn, those with the most values" in shown
    assert {text[:3] for text in shown if re.match(r"m\d\d", text)} == {
        f"m{number:02}" for number in range(40)
    }


@pytest.mark.parametrize(("factor", "log"), [(999.0, False), (1000.0, True)])
def test_wide_ranges_are_logarithmic(db: DatabaseManager, factor: float, log: bool) -> None:
    """An axis whose largest value is a thousand times its smallest is logarithmic."""
    for number, duration in enumerate((0.5, 0.5 * factor)):
        add_run(db, f"/{number}.wav", si_snri=-1.0 + number, file={"duration": duration})
    picture = ask(db, "scatter")
    assert (picture.x.log, picture.y.log) == (log, False)


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({}, {1, 2, 3, 4}),
        ({"models": ("demucs",)}, {1, 2, 3}),
        ({"models": ("demucs:4.1", "svoice")}, {3, 4}),
        ({"runs": Runs(operation_type="denoising")}, {2}),
        ({"runs": Runs(speaker="Ada")}, {3}),
        ({"runs": Runs(until="2026-11-01T13:00Z")}, {1}),
    ],
)
@pytest.mark.parametrize("kind", ["distribution", "scatter"])
def test_filters_choose_the_runs(
    db: DatabaseManager, kind: str, request_: dict[str, Any], wanted: set[float]
) -> None:
    """Models, operation, speaker and times narrow down what is drawn."""
    ada, file = db.create_speaker("Ada"), {"duration": 1.0}
    add_run(db, "/1.wav", "demucs:4.0", si_snri=1.0, file=file)
    run = {"operation_type": "denoising"}
    add_run(db, "/2.wav", "demucs:4.0", hours=1, si_snri=2.0, run=run, file=file)
    add_run(db, "/3.wav", "demucs:4.1", hours=2, si_snri=3.0, speaker=ada, file=file)
    add_run(db, "/4.wav", "svoice", hours=3, si_snri=4.0, file=file)
    picture = plot_data.read(db.store, kind, Request(**request_))
    found = (
        picture.panels[0].values.values()
        if isinstance(picture, Distribution)
        else [ys for _, ys in picture.clouds.values()]
    )
    assert {value for values in found for value in values} == wanted


REFUSED = [
    (("boxes",), {}, QueryError, "unknown plot 'boxes'; use distribution, paired, scatter"),
    (("paired",), {}, QueryError, "a paired plot is of two models, not 0"),
    (
        ("distribution",),
        {"against": "duration"},
        QueryError,
        "a distribution plot is not against a column; a scatter plot is",
    ),
    (("scatter",), {"metric": ["a", "b"]}, QueryError, "a scatter plot takes 1 metric, not 2"),
    (
        ("distribution",),
        {"metric": ()},
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
        ("paired", "demucs:4.0", "alone"),
        {},
        PlotError,
        "nothing to plot: demucs:4.0 and alone have no recording in common with a value",
    ),
    (
        ("scatter",),
        {"against": "sample_rate"},
        PlotError,
        "nothing to plot: no successful run has both 'si_snri' and 'sample_rate'",
    ),
    (
        ("distribution",),
        {"operation_type": "x"},
        PlotError,
        "nothing to plot: no successful run that was asked for has a value of 'si_snri' or 'sdri'",
    ),
]


@pytest.mark.parametrize(("words", "options", "kind", "sentence"), REFUSED)
def test_what_cannot_be_drawn_is_one_sentence(
    runs: DatabaseManager,
    words: tuple[str, ...],
    options: dict[str, Any],
    kind: type[Exception],
    sentence: str,
) -> None:
    """A question that makes no sense, or has no answer, says why."""
    add_run(runs, "/alone.wav", "alone", si_snri=1.0)
    with pytest.raises(kind) as caught:
        runs.plot(*words, **options)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_a_png_of_sensible_size(
    runs: DatabaseManager, kind: str, tmp_path: Path
) -> None:
    """A picture is written whole, about a thousand pixels wide, and nothing else is left."""
    target = tmp_path / "pictures" / "plot.PNG"
    target.parent.mkdir()
    figure = runs.plot(kind, *KINDS[kind], path=target)
    width, height = size(target.read_bytes())
    assert (width, height) == tuple(int(inches * 150) for inches in figure.get_size_inches())
    assert 800 <= width <= 1400
    assert 300 <= height <= 900
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("kind", "options", "wanted"),
    [
        (
            "distribution",
            {"since": "2026-01-01T00:00Z"},
            {
                "SI-SNRi and SDRi by model",
                "since 2026-01-01T00:00Z",
                "SI-SNRi (dB), higher is better",
                "SDRi (dB), higher is better",
                "demucs:4.0",
                "n = 8",
            },
        ),
        (
            "paired",
            {},
            {
                "svoice:1.2 is better by 1.88 dB on average",
                "SI-SNRi (dB), higher is better",
                "A: demucs:4.0",
                "B: svoice:1.2",
                "mix/7.wav",
            },
        ),
        (
            "scatter",
            {},
            {
                "SI-SNRi against duration of the recording",
                "16 runs, ρ: Spearman's rank correlation",
                "SI-SNRi (dB), higher is better",
                "duration of the recording (s)",
                "demucs:4.0 (n = 8, ρ = 1.00)",
                "svoice:1.2 (n = 8, ρ = 1.00)",
            },
        ),
    ],
)
def test_titles_and_axes(
    runs: DatabaseManager, kind: str, options: dict[str, str], wanted: set[str], tmp_path: Path
) -> None:
    """A picture says what it shows: title, filters, units, direction, models and counts."""
    runs.plot(kind, *KINDS[kind], path=tmp_path / "plot.svg", **options)
    assert wanted - set(texts(tmp_path / "plot.svg")) == set()


def test_a_model_has_one_colour_in_all_pictures(runs: DatabaseManager, tmp_path: Path) -> None:
    """Whatever else is drawn, and in whichever order, a model keeps its colour and shape."""
    colours = {"demucs:4.0": b"#0072b2", "svoice:1.2": b"#d55e00"}
    for kind in ("distribution", "scatter"):
        for model, colour in colours.items():
            runs.plot(kind, model, path=tmp_path / "one.svg", overwrite=True)
            found = set(re.findall(rb"#(?:0072b2|d55e00)", (tmp_path / "one.svg").read_bytes()))
            assert found == {colour}
    order = plot_data.model_order()
    assert plots._sign("svoice", order) == plots._sign("svoice:1.2", order)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_data_make_the_same_file(
    runs: DatabaseManager, suffix: str, tmp_path: Path
) -> None:
    """Two pictures of the same rows are the same to the byte, and hold no date."""
    for name in ("one", "two"):
        runs.plot("distribution", path=tmp_path / f"{name}.{suffix}")
    first = (tmp_path / f"one.{suffix}").read_bytes()
    assert first == (tmp_path / f"two.{suffix}").read_bytes()
    assert re.search(rb"<dc:date>|CreationDate|tIME", first) is None


@pytest.mark.parametrize("kind", ["distribution", "scatter", "paired"])
def test_hostile_names_are_text(db: DatabaseManager, kind: str, tmp_path: Path) -> None:
    """No name is taken for a formula, markup or a command, and none is left out."""
    speaker = db.create_speaker("$A$ <b>\n")
    for number in range(2):
        path = f"/$\udcff{number}$.wav"
        file = recording(db, path, duration=1.0 + number, speaker=speaker)
        for name in HOSTILE:
            run = {"model_type": name, "processed_file": file}
            add_run(db, model=None, si_snri=1.0 + number, run=run)
    pair = HOSTILE[1::2][:2] if kind == "paired" else []
    db.plot(kind, *pair, path=tmp_path / "plot.png")
    db.plot(kind, *pair, path=tmp_path / "plot.svg")
    shown = {re.sub(r" \(n = 2\)|^[AB]: ", "", text) for text in texts(tmp_path / "plot.svg")}
    control = f"a\\n\\x1b[31m\\x{ord(CONTROL):02x}b"
    names = ["$\\frac{1$", "_$x$_", "<b>&\"'", control, "\\u202egnp\\ufffe", "%s {}"]
    if kind == "paired":
        names = ["_$x$_", control, "/$\\udcff0$.wav ($A$ <b>\\n)"]
    assert set(names) - shown == set()


@pytest.mark.parametrize("models", [1, 30])
@pytest.mark.parametrize("kind", ["distribution", "scatter"])
def test_one_model_and_many(db: DatabaseManager, kind: str, models: int, tmp_path: Path) -> None:
    """One model with one run makes a picture; with many models it grows and names them all."""
    for number in range(models):
        add_run(db, model=f"model-{number}:1", si_snri=1.0, file={"duration": 2.0})
    figure = db.plot(kind, path=tmp_path / "plot.svg")
    shown = " ".join(texts(tmp_path / "plot.svg"))
    assert all(f"model-{number}:1" in shown for number in range(models))
    assert figure.get_size_inches()[1] < 15


def test_many_points_and_pairs(db: DatabaseManager, tmp_path: Path) -> None:
    """Of many values only what lies beyond the box is drawn, of many pairs points."""
    with db.atomic():
        for number in range(501):
            run = {"processed_file": recording(db, f"/{number}.wav")}
            add_run(db, model="a", si_snri=float(number), run=run)
            add_run(db, model="b", si_snri=number + 1.0, run=run)
    figure = db.plot("distribution", metric="si_snri")
    assert [len(points.get_offsets()) for points in figure.axes[0].collections] == [0, 0]
    db.plot("paired", "a", "b", path=tmp_path / "plot.svg")
    wanted = {"A: a, SI-SNRi (dB)", "B: b, SI-SNRi (dB)", "A is better", "B is better"}
    assert wanted - set(texts(tmp_path / "plot.svg")) == set()


@pytest.mark.parametrize(
    ("name", "made", "options", "reason"),
    [
        ("plot.jpg", None, {}, "a picture ends in .png, .svg or .pdf"),
        (".png", None, {}, "a picture ends in .png, .svg or .pdf"),
        ("plot.png", "file", {}, "it is there already; overwrite replaces it"),
        ("plot.png", "folder", {"overwrite": True}, "is a directory"),
        ("none/plot.png", None, {}, "no such file or directory"),
    ],
)
def test_what_cannot_be_written(
    runs: DatabaseManager,
    name: str,
    made: str | None,
    options: dict[str, bool],
    reason: str,
    tmp_path: Path,
) -> None:
    """A wrong suffix, a file that is there or a folder is one sentence, and nothing is left."""
    target = tmp_path / "new" / name
    target.parent.parent.mkdir(exist_ok=True)
    (tmp_path / "new").mkdir(exist_ok=True)
    if made == "file":
        target.write_text("mine")
    elif made == "folder":
        target.mkdir()
    with pytest.raises(PlotError) as caught:
        runs.plot(path=target, **options)
    assert str(caught.value) == f"cannot write {str(target)!r}: {reason}"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ([name] if made else [])
    if made == "file":
        assert target.read_text() == "mine"
        runs.plot(path=target, overwrite=True)
        size(target.read_bytes())


def test_without_the_extra(runs: DatabaseManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Matplotlib one sentence names the command that installs it."""
    import voices_peewee.display as room

    monkeypatch.delitem(sys.modules, "voices_peewee.display.plots")
    monkeypatch.delattr(room, "plots")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError) as caught:
        runs.plot()
    assert str(caught.value) == (
        "drawing a picture needs an extra; run: pip install 'voices-peewee[notebook]'"
    )


def test_a_notebook_shows_the_figure(runs: DatabaseManager) -> None:
    """IPython shows the figure as a PNG, without pyplot."""
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(runs.plot())
    size(shown["image/png"])
    assert set(shown) == {"image/png", "text/plain"}


@pytest.mark.once
def test_a_notebook_is_not_disturbed(path: Path, runs: DatabaseManager) -> None:
    """Drawing and saving load no pyplot and leave a person's own settings as they are."""
    runs.close()
    script = f"""
import sys
import matplotlib
matplotlib.rcParams["font.size"] = 33
matplotlib.use("agg")
before = dict(matplotlib.rcParams)
from voices_peewee import (DatabaseManager)
with DatabaseManager({str(path)!r}).connect() as db:
    one = db.plot("distribution")._repr_png_()
after = dict(matplotlib.rcParams)
matplotlib.rcdefaults()
with DatabaseManager({str(path)!r}).connect() as db:
    two = db.plot("distribution")._repr_png_()
print("matplotlib.pyplot" in sys.modules, before == after, one == two)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False True True\n"


@pytest.mark.once
def test_the_page_shows_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script beside the page makes its pictures, which are small and of the same shape."""
    spec = spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    pictures = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pictures", pictures)
    spec.loader.exec_module(pictures)
    pictures.draw(tmp_path)
    made = {path.name: size(path.read_bytes()) for path in tmp_path.iterdir()}
    kept = {path.name: path for path in (DOCS / "img").glob("plot_*.png")}
    page = (DOCS / "plots.md").read_text("utf-8")
    assert made == {name: size(path.read_bytes()) for name, path in kept.items()}
    assert all(f"](img/{name})" in page for name in made)
    assert max(path.stat().st_size for path in kept.values()) < 60_000
