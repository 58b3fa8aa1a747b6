"""Plots: the numbers that they show, against an independent computation, and real pictures."""

from __future__ import annotations

import datetime as dt
import random
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from support.databases import NO_ROOM_FOR
from support.run_rows import START, add_run

from voices_peewee import DatabaseManager, ProcessedFile
from voices_peewee.errors import ExportError, PlotError, QueryError

pytestmark = pytest.mark.once  # the same on every Python; tox draws with the oldest Matplotlib too

PAIR = ("demucs:4.0", "svoice:1.2")
KINDS = {"distribution": (), "paired": PAIR, "ranks": (), "scatter": ()}
CONTROL = "\a" if "\0" in NO_ROOM_FOR else "\0"
HOSTILE = {
    "$\\frac{1$": "$\\frac{1$",
    "_$x$_": "_$x$_",
    "<b>&\"'": "<b>&\"'",
    f"a\n\x1b[31m{CONTROL}b": f"a\\n\\x1b[31m\\x{ord(CONTROL):02x}b",
    "\u202egnp\ufffe": "\\u202egnp\\ufffe",
    "%s {}": "%s {}",
}


def drawn(figure: Any) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each model in the first panel of a plot."""
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    if figure.legends:
        names = [text.get_text().partition(" (n")[0] for text in figure.legends[0].get_texts()]
    points = [sorted(map(tuple, one.get_offsets().tolist())) for one in axes.collections]
    return dict(zip(names, points, strict=True))


def values(figure: Any) -> dict[str, list[float]]:
    """Return the values of each model in the first panel of a distribution."""
    return {model: sorted(x for x, _ in points) for model, points in drawn(figure).items()}


def size(png: bytes) -> tuple[int, int]:
    assert png[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    return struct.unpack(">II", png[16:24])


def texts(svg: Path) -> list[str]:
    """Return the texts of an SVG, as an XML parser reads them."""
    found = ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 - our own file
    return ["".join(one.itertext()) for one in found]


def recording(db: DatabaseManager, path: str, **columns: Any) -> ProcessedFile:
    return db.add(ProcessedFile(filename=Path(path).name, original_path=path, **columns))


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


def test_every_finite_number_is_drawn(db: DatabaseManager) -> None:
    """The numbers of successful runs are there by model; in a scatter, of runs that have both."""
    records = fill(db)

    def wanted(*names: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = defaultdict(list)
        for record in records:
            own = tuple(record[name] for name in names)
            if all(isinstance(one, int | float) for one in own):
                found[record["model"]].append(own if len(own) > 1 else own[0])
        return {model: sorted(own) for model, own in found.items()}

    for metric in ("si_snri", "pesq"):
        assert values(db.plot("distribution", metric=metric)) == wanted(metric)
    assert drawn(db.plot("scatter")) == wanted("duration", "si_snri")
    assert drawn(db.plot("scatter", against="pesq")) == wanted("pesq", "si_snri")


def test_what_belongs_to_a_run_counts_once_a_run(db: DatabaseManager) -> None:
    """A run of two stems is one time and two scores; in a scatter it is one point."""
    recording = add_run(db, "/1.wav", "a", status="failed", file={"duration": 8.0}).processed_file
    for run_id, scores in (("1" * 32, (2.0, 4.0)), ("2" * 32, (5.0, 7.0))):
        for score in scores:
            stem = {"recording": recording, "duration": 1.0, "processed_path": f"/{score}.wav"}
            costs = {"processing_time": 3.0, "si_snri": score}
            add_run(db, "/1.wav", "a", file=stem, run={"run_id": run_id}, **costs)
    assert values(db.plot(metric="processing_time")) == {"a": [3.0, 3.0]}
    assert values(db.plot(metric="si_snri")) == {"a": [2.0, 4.0, 5.0, 7.0]}
    assert drawn(db.plot("scatter")) == {"a": [(8.0, 3.0), (8.0, 6.0)]}


def test_pairs_are_those_of_compare(runs: DatabaseManager) -> None:
    """The pairs are those of ``compare``, of the same runs."""
    figure = runs.plot("paired", *KINDS["paired"], where="duration:..4")
    worse, better, even = (points.get_offsets() for points in figure.axes[0].collections)
    assert (len(worse), len(even)) == (0, 0)
    assert sorted(map(tuple, better)) == [(10.0, 11.0), (10.25, 11.5), (10.5, 12.0)]


def test_the_usual_metrics_are_those_that_were_measured(db: DatabaseManager) -> None:
    """Without a metric SI-SNRi and SDRi are drawn, or the one that is there."""
    add_run(db, model="a", sdri=1.0)
    better = "higher is better"
    assert [axes.get_xlabel() for axes in db.plot().axes] == [f"SDRi (dB), {better}"]
    add_run(db, model="b", si_snri=1.0)
    labels = [axes.get_xlabel() for axes in db.plot().axes]
    assert labels == [f"SI-SNRi (dB), {better}", f"SDRi (dB), {better}"]


def test_a_stem_without_a_speaker_is_its_recordings(db: DatabaseManager) -> None:
    """Who speaks in a recording may be told after its runs, whose stems have nobody."""
    ada = db.create_speaker("Ada")
    with db.track("/1.wav", "voice_separation", model_type="demucs") as run:
        run.output("/out/1.wav", si_snri=1.0)
    db.link_file("/1.wav", ada)
    assert values(db.plot("distribution", speaker="Ada")) == {"demucs": [1.0]}


def test_filters_choose_the_runs(db: DatabaseManager) -> None:
    """Models, operation, speaker and times narrow down what is drawn, and stand under the title."""
    ada = db.create_speaker("Ada")
    add_run(db, "/1.wav", "demucs:4.0", si_snri=1.0)
    add_run(db, "/2.wav", "demucs:4.0", si_snri=2.0, run={"operation_type": "denoising"})
    add_run(db, "/3.wav", "demucs:4.1", hours=2, si_snri=3.0, speaker=ada)
    add_run(db, "/4.wav", "svoice", hours=3, si_snri=4.0)
    for words, options, wanted in (
        (["demucs"], {}, {1, 2, 3}),
        (["demucs:4.1", "svoice"], {}, {3, 4}),
        ([], {"operation_type": "denoising"}, {2}),
        ([], {"speaker": "Ada", "until": START + dt.timedelta(hours=3)}, {3}),
    ):
        figure = db.plot("distribution", *words, **options)
        assert {x for own in values(figure).values() for x in own} == wanted
        assert all(str(value) in figure.get_suptitle() for value in options.values())


REFUSED = [
    (["boxes"], {}, "unknown plot 'boxes'; use distribution, paired, ranks, scatter"),
    (["paired"], {}, "a paired plot is of two models, not 0"),
    (["scatter"], {"metric": ["a", "b"]}, "a scatter plot takes 1 metric, not 2"),
    (["distribution"], {"metric": ()}, "a distribution plot takes 1 to 4 metrics, not 0"),
    (["ranks"], {"against": "x"}, "a ranks plot is not against a column; a scatter plot is"),
    (["distribution", "demuks"], {}, "unknown model 'demuks'; did you mean 'demucs:4.0'?"),
]
EMPTY = [
    (["paired", "demucs:4.0", "alone"], {}, "demucs:4.0 and alone have no recording in common"),
    (["ranks"], {}, "no recording has a value from all of svoice:1.2, demucs:4.0, alone; name"),
    (["ranks"], {"where": "model:alone"}, "ranks need two models with a value of 'si_snri', not 1"),
    (["scatter"], {"against": "channels"}, "no successful run has both 'si_snri' and 'channels'"),
    (
        ["distribution"],
        {"operation_type": "x"},
        "no successful run that was asked for has a value of 'si_snri' or 'sdri'",
    ),
]


def test_what_cannot_be_drawn_is_one_sentence(runs: DatabaseManager) -> None:
    """A question that makes no sense, or has no answer, says why."""
    add_run(runs, "/alone.wav", "alone", si_snri=1.0)
    empty = [(PlotError, words, how, f"nothing to plot: {said}") for words, how, said in EMPTY]
    for kind, words, options, said in [*((QueryError, *case) for case in REFUSED), *empty]:
        with pytest.raises(kind) as caught:
            runs.plot(*words, **options)
        assert str(caught.value).startswith(said)


def test_runs_without_a_version_are_ranked_by_themselves(db: DatabaseManager) -> None:
    """Where other runs of a name have a version, those that have none are a model of their own."""
    file = recording(db, "/1.wav")
    for model, value in (("a", 1.0), ("a:2", 2.0), ("b", 3.0)):
        add_run(db, model=model, si_snri=value, run={"processed_file": file})
    (axes,) = db.plot("ranks").axes
    ranks = {
        label.get_text(): line.get_xdata()[0]
        for label, line in zip(axes.get_yticklabels(), axes.lines, strict=False)
    }
    assert ranks == {"b": 1.0, "a:2": 2.0, "a:": 3.0}


@pytest.mark.parametrize("kind", ["distribution", "scatter"])
def test_one_model_and_many(db: DatabaseManager, kind: str, tmp_path: Path) -> None:
    """A picture names one model with one run or forty; more cannot be told apart."""
    for number in range(40):
        add_run(db, model=f"m{number:02}:1", si_snri=1.0, file={"duration": 2.0})
        if number in (0, 39):
            figure = db.plot(kind, path=tmp_path / "plot.svg", overwrite=True)
            shown = " ".join(texts(tmp_path / "plot.svg"))
            assert all(f"m{shown_too:02}:1" in shown for shown_too in range(number + 1))
            assert figure.get_size_inches()[1] < 19
    add_run(db, model="m40:1", si_snri=1.0, file={"duration": 2.0})
    with pytest.raises(PlotError) as caught:
        db.plot(kind)
    assert str(caught.value) == "41 models cannot be told apart; name those to draw, 40 at most"


WANTED = {
    "distribution": """SI-SNRi and SDRi by model
SI-SNRi (dB), higher is better
SDRi (dB), higher is better
demucs:4.0
n = 8""",
    "paired": """svoice:1.2 is better by 1.88 dB (+1.36 to +2.39)
95 % interval; recordings: 8; B better in 8, A better in 0, tied in 0
A: demucs:4.0, SI-SNRi (dB)
B: svoice:1.2, SI-SNRi (dB)
A is better
B is better""",
    "ranks": """mean ranks by SI-SNRi
8 recordings, 1 is best; a bar joins what cannot be told apart (Holm)
mean rank
svoice:1.2
1.00
demucs:4.0
2.00""",
    "scatter": """SI-SNRi against duration of the recording
16 runs
SI-SNRi (dB), higher is better
duration of the recording (s)
demucs:4.0 (n = 8, r = 1.00)
svoice:1.2 (n = 8, r = 1.00)""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_say_what_they_show(runs: DatabaseManager, kind: str, tmp_path: Path) -> None:
    """Titles, units, directions, models and counts stand in a picture of sensible size."""
    figure = runs.plot(kind, *KINDS[kind], path=tmp_path / "plot.SVG")
    assert {*WANTED[kind].split("\n")} - {*texts(tmp_path / "plot.SVG")} == set()
    width, height = size(figure._repr_png_())
    assert (width, height) == tuple(int(inches * 150) for inches in figure.get_size_inches())
    assert 800 <= width <= 1400
    assert 300 <= height <= 900
    assert list(tmp_path.glob("plot*")) == [tmp_path / "plot.SVG"]


def test_a_model_has_one_colour_in_all_pictures(runs: DatabaseManager, tmp_path: Path) -> None:
    """Whatever else is drawn, and however it is named, a model keeps its colour and shape."""
    target = tmp_path / "one.svg"
    for kind, *models, colours in (
        ("distribution", "demucs", {"#0072b2"}),
        ("scatter", "svoice:1.2", {"#d55e00"}),
        ("paired", "svoice", "demucs", {"#d55e00"}),  # the better one's
    ):
        runs.plot(kind, *models, path=target, overwrite=True)
        assert set(re.findall("#(?:0072b2|d55e00)", target.read_text("utf-8"))) == colours


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_data_make_the_same_file(
    runs: DatabaseManager, suffix: str, tmp_path: Path
) -> None:
    """Two pictures of the same rows are the same to the byte, and hold no date."""
    for name in ("one", "two"):
        runs.plot("distribution", metric="sdri", path=tmp_path / f"{name}.{suffix}")
    first = (tmp_path / f"one.{suffix}").read_bytes()
    assert first == (tmp_path / f"two.{suffix}").read_bytes()
    assert re.search(rb"<dc:date>|CreationDate|tIME", first) is None


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_text(db: DatabaseManager, kind: str, tmp_path: Path) -> None:
    """No name is taken for a formula, markup or a command, and none is left out."""
    for number in range(2):
        file = recording(db, f"/$\udcff{number}$.wav", duration=1.0 + number)
        for name in HOSTILE:
            run = {"model_type": name, "processed_file": file}
            add_run(db, model=None, si_snri=1.0 + number, run=run)
    names = [*HOSTILE][1:4:2] if kind == "paired" else [*HOSTILE]
    target = tmp_path / "plot.svg"
    size(db.plot(kind, *(names if kind == "paired" else ()), path=target)._repr_png_())
    shown = {re.sub(r" \(n = 2\)|^[AB]: |, SI-SNRi \(dB\)$", "", text) for text in texts(target)}
    assert {HOSTILE[name] for name in names} - shown == set()


def test_of_many_values_only_what_lies_beyond_the_box_is_drawn(db: DatabaseManager) -> None:
    """The box of 502 values ends at the quartiles, and the one far value is a point."""
    with db.atomic():
        for number in (*range(501), 9000):
            add_run(db, model="a", si_snri=float(number))
    (axes,) = db.plot("distribution", metric="si_snri").axes
    (points,) = axes.collections
    assert [x for x, _ in points.get_offsets()] == [9000.0]
    (box,) = axes.patches
    assert (box.get_x(), box.get_width()) == (125.25, 250.5)


@pytest.mark.parametrize(
    ("name", "made", "reason"),
    [
        ("plot.jpg", "", "a picture ends in .png, .svg or .pdf"),
        (
            "plot.png",
            "file",
            "it is there already; choose another name or overwrite it (--overwrite)",
        ),
        ("none/plot.png", "", "it cannot be read or written (no such file or directory)"),
    ],
)
def test_what_cannot_be_written(
    runs: DatabaseManager, name: str, made: str, reason: str, tmp_path: Path
) -> None:
    """A wrong suffix, a file that is there or no folder is one sentence, and nothing is left."""
    folder = tmp_path / "new"
    folder.mkdir()
    target = folder / name
    if made:
        target.write_text("mine")
    with pytest.raises(ExportError) as caught:
        runs.plot(path=target)
    assert str(caught.value) == f"export {str(target)!r}: {reason}"
    assert [path.name for path in folder.iterdir()] == ([name] if made else [])
    if made:
        assert target.read_text() == "mine"
        runs.plot(path=target, overwrite=True)
        size(target.read_bytes())


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
