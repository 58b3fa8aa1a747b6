"""Pictures: real files, read back."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from support.databases import NO_ROOM_FOR
from support.run_rows import add_run

from voices_peewee import DatabaseManager
from voices_peewee.errors import MissingExtraError, PlotError

pytestmark = pytest.mark.once

KINDS = {
    "distribution": (),
    "paired": ("demucs:4.0", "svoice:1.2"),
    "scatter": (),
    "trend": (),
}
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


def size(png: bytes) -> tuple[int, int]:
    assert png[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    return struct.unpack(">II", png[16:24])


def texts(svg: Path) -> list[str]:
    """Return the texts of an SVG, as an XML parser reads them."""
    found = ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 - our own file
    return ["".join(one.itertext()) for one in found]


@pytest.fixture
def runs(db: DatabaseManager) -> DatabaseManager:
    """Two models, the second better by 1 dB and more, on eight recordings."""
    with db.atomic():
        for number in range(8):
            for model, mean in (("demucs:4.0", 10.0), ("svoice:1.2", 11.0)):
                value = mean + number * (mean - 9) / 4
                file = {"duration": 2.0 + number}
                add_run(db, f"/mix/{number}.wav", model, si_snri=value, sdri=value, file=file)
    return db


# Files


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_a_png_of_sensible_size(
    runs: DatabaseManager, kind: str, tmp_path: Path
) -> None:
    """A picture is written whole, about a thousand pixels wide, and nothing else is left."""
    target = tmp_path / "pictures" / "plot.PNG"
    target.parent.mkdir()
    figure = runs.plot(kind, *KINDS[kind], path=target)
    width, height = size(target.read_bytes())
    assert (width, height) == tuple(figure.get_size_inches() * 150)
    assert 800 <= width <= 1300
    assert 300 <= height <= 900
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (
            "distribution",
            {
                "SI-SNRi and SDRi by model",
                "SI-SNRi (dB), higher is better",
                "SDRi (dB), higher is better",
                "demucs:4.0",
                "svoice:1.2",
                "n = 8",
            },
        ),
        (
            "paired",
            {
                "svoice:1.2 is better by 1.88 dB on average",
                "95 % interval of B - A +1.47 to +2.28, 8 pairs",
                "SI-SNRi (dB), higher is better",
                "A: demucs:4.0",
                "B: svoice:1.2",
                "7.wav",
            },
        ),
        (
            "scatter",
            {
                "SI-SNRi against duration",
                "SI-SNRi (dB), higher is better",
                "Duration (s)",
                "demucs:4.0 (n = 8)",
                "svoice:1.2 (n = 8)",
            },
        ),
        (
            "trend",
            {
                "SI-SNRi by hour, mean and 95 % interval",
                "SI-SNRi (dB), higher is better",
                "Hour of the runs (UTC)",
                "demucs:4.0 (n = 8)",
                "2026-11-01",
            },
        ),
    ],
)
def test_titles_and_axes(
    runs: DatabaseManager, kind: str, wanted: set[str], tmp_path: Path
) -> None:
    """A picture says what it shows: title, units, direction, models and counts."""
    runs.plot(kind, *KINDS[kind], path=tmp_path / "plot.svg")
    assert wanted - set(texts(tmp_path / "plot.svg")) == set()


def test_a_cost_says_that_lower_is_better(runs: DatabaseManager, tmp_path: Path) -> None:
    """Units and direction are the metric's own; a metric without a unit has none."""
    add_run(runs, real_time_factor=0.5, odd=3)
    runs.plot("trend", metric="real_time_factor", path=tmp_path / "a.svg")
    assert "Real-time factor (×), lower is better" in texts(tmp_path / "a.svg")
    runs.plot("trend", metric="odd", higher_is_better=False, path=tmp_path / "b.svg")
    assert "odd, lower is better" in texts(tmp_path / "b.svg")


def test_pdf(runs: DatabaseManager, tmp_path: Path) -> None:
    """A PDF has the head and the end of one."""
    runs.plot("trend", path=tmp_path / "plot.pdf")
    content = (tmp_path / "plot.pdf").read_bytes()
    assert (content[:5], content.rstrip()[-5:]) == (b"%PDF-", b"%%EOF")


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


@pytest.mark.parametrize("kind", ["distribution", "scatter", "trend"])
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_hostile_names_are_text(
    db: DatabaseManager, kind: str, suffix: str, tmp_path: Path
) -> None:
    """No name is taken for a formula, markup or a command, and none is left out."""
    for name in HOSTILE:
        for number in range(2):
            run = {"model_type": name}
            file = {"duration": 1.0 + number}
            add_run(db, f"/{number}.wav", None, si_snri=1.0 + number, run=run, file=file)
    target = tmp_path / f"plot.{suffix}"
    db.plot(kind, path=target)
    if suffix == "svg":
        count = "" if kind == "distribution" else " (n = 2)"
        shown = {text.removesuffix(count) for text in texts(target)}
        control = f"a\\x0a\\x1b[31m\\x{ord(CONTROL):02x}b"
        names = ["$\\frac{1$", "_$x$_", "<b>&\"'", control, "\\u202egnp\\ufffe", "%s {}"]
        assert set(names) - shown == set()
        assert any(text.startswith("模型") and "…" in text for text in shown)


def test_pairs_with_hostile_names(db: DatabaseManager, tmp_path: Path) -> None:
    """Names of recordings and speakers are text too; names that repeat get their folders."""
    speaker = db.create_speaker("$A$ <b>\n")
    for model in ("_a", "$b$"):
        for number, path in enumerate(["/x/$1$.wav", "/y/$1$.wav", "/y/\udcff.wav"]):
            add_run(db, path, model, si_snri=float(number), speaker=speaker)
    db.plot("paired", "_a", "$b$", path=tmp_path / "plot.svg")
    shown = texts(tmp_path / "plot.svg")
    wanted = {"A: _a", "B: $b$", "/x/$1$.wav ($A$ <b>\\x0a)", "/y/$1$.wav ($A$ <b>\\x0a)"}
    assert {*wanted, "\\udcff.wav ($A$ <b>\\x0a)"} - set(shown) == set()


def test_more_than_forty_pairs_are_points(db: DatabaseManager, tmp_path: Path) -> None:
    """Many pairs are drawn against the diagonal, with both models on the axes."""
    with db.atomic():
        for number in range(41):
            add_run(db, f"/{number}.wav", "a", si_snri=float(number))
            add_run(db, f"/{number}.wav", "b", si_snri=number + 1.0)
    db.plot("paired", "a", "b", path=tmp_path / "plot.svg")
    wanted = {"A: a, SI-SNRi (dB)", "B: b, SI-SNRi (dB)", "A is better", "B is better"}
    assert {*wanted, "b is better by 1.00 dB on average"} - set(
        texts(tmp_path / "plot.svg")
    ) == set()


@pytest.mark.parametrize("models", [1, 30])
@pytest.mark.parametrize("kind", ["distribution", "scatter", "trend"])
def test_one_model_and_many(db: DatabaseManager, kind: str, models: int, tmp_path: Path) -> None:
    """One model with one run makes a picture; with many models it grows and names them all."""
    for number in range(models):
        add_run(db, model=f"model-{number}:1", si_snri=1.0, file={"duration": 2.0})
    figure = db.plot(kind, path=tmp_path / "plot.svg")
    shown = " ".join(texts(tmp_path / "plot.svg"))
    assert all(f"model-{number}:1" in shown for number in range(models))
    assert figure.get_size_inches()[1] < 15


def test_the_picture_says_which_runs_it_is_of(runs: DatabaseManager, tmp_path: Path) -> None:
    """Filters stand under the title, so that a picture that is sent around misleads nobody."""
    runs.plot(
        "trend",
        operation_type="voice_separation",
        since="2026-01-01T00:00Z",
        path=tmp_path / "plot.svg",
    )
    assert "voice_separation, since 2026-01-01T00:00Z" in texts(tmp_path / "plot.svg")


# What is refused


@pytest.mark.parametrize("name", ["plot.jpg", "plot", "plot.png.txt", ".png"])
def test_other_suffixes_are_refused(runs: DatabaseManager, name: str, tmp_path: Path) -> None:
    """A suffix that is none of the three is refused before anything is written."""
    target = tmp_path / "new" / name
    target.parent.mkdir()
    with pytest.raises(PlotError) as caught:
        runs.plot(path=target)
    assert str(caught.value) == (
        f"cannot write {str(target)!r}: a picture ends in .png, .svg or .pdf"
    )
    assert list(target.parent.iterdir()) == []


def test_a_file_that_is_there_stays(runs: DatabaseManager, tmp_path: Path) -> None:
    """A file is replaced only where that is asked for."""
    target = tmp_path / "plot.png"
    target.write_text("mine")
    with pytest.raises(PlotError) as caught:
        runs.plot(path=target)
    assert str(caught.value) == (
        f"cannot write {str(target)!r}: it is there already; overwrite replaces it"
    )
    assert target.read_text() == "mine"
    runs.plot(path=target, overwrite=True)
    size(target.read_bytes())


def test_a_folder_that_is_missing(runs: DatabaseManager, tmp_path: Path) -> None:
    """What the system says about a target is told in one sentence."""
    target = tmp_path / "none" / "plot.png"
    with pytest.raises(PlotError) as caught:
        runs.plot(path=target)
    assert str(caught.value) == f"cannot write {str(target)!r}: no such file or directory"


def test_a_folder_of_that_name(runs: DatabaseManager, tmp_path: Path) -> None:
    """A folder is not replaced, whatever is asked for."""
    target = tmp_path / "plot.png"
    target.mkdir()
    with pytest.raises(PlotError) as caught:
        runs.plot(path=target, overwrite=True)
    assert str(caught.value) == f"cannot write {str(target)!r}: is a directory"
    assert list(tmp_path.glob(".*")) == []


def test_nothing_is_written_where_nothing_is_drawn(db: DatabaseManager, tmp_path: Path) -> None:
    """Without data there is an error and no file."""
    with pytest.raises(PlotError):
        db.plot(path=tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()


@pytest.mark.parametrize(
    ("method", "module", "message"),
    [
        (
            "plot",
            "matplotlib",
            "drawing a picture needs an extra; run: pip install 'voices-peewee[notebook]'",
        ),
        (
            "plot_text",
            "plotext",
            "drawing in the terminal needs an extra; run: pip install 'voices-peewee[notebook]'",
        ),
    ],
)
def test_without_the_extra(
    runs: DatabaseManager, method: str, module: str, message: str, monkeypatch: Any
) -> None:
    """Without the library one sentence names the command that installs it."""
    for name in ("plot_figure", "plot_terminal"):
        monkeypatch.delitem(sys.modules, f"voices_peewee.{name}", raising=False)
        monkeypatch.delattr(f"voices_peewee.{name}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        getattr(runs, method)()
    assert str(caught.value) == message


# Notebooks


def test_a_notebook_shows_the_figure(runs: DatabaseManager) -> None:
    """IPython shows the figure as a PNG, without pyplot."""
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(runs.plot())
    size(shown["image/png"])
    assert set(shown) == {"image/png", "text/plain"}


def test_a_notebook_is_not_disturbed(path: Path, runs: DatabaseManager) -> None:
    """Drawing and saving load no pyplot and leave a person's own settings as they are."""
    runs.close()
    script = f"""
import sys
import matplotlib
matplotlib.rcParams["font.size"] = 33
matplotlib.rcParams["text.usetex"] = True
matplotlib.use("agg")
before = dict(matplotlib.rcParams)
from voices_peewee import (DatabaseManager)
with DatabaseManager({str(path)!r}).connect() as db:
    one = db.plot("distribution")._repr_png_()
matplotlib.rcdefaults()
with DatabaseManager({str(path)!r}).connect() as db:
    two = db.plot("distribution")._repr_png_()
matplotlib.rcParams.update({{"font.size": 33, "text.usetex": True}})
matplotlib.use("agg")
print("matplotlib.pyplot" in sys.modules, before == dict(matplotlib.rcParams), one == two)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False True True\n", "")


@pytest.mark.parametrize("kind", ["distribution", "paired", "scatter", "trend"])
def test_values_that_no_sum_can_hold(db: DatabaseManager, kind: str, tmp_path: Path) -> None:
    """What is too large to calculate with is left out, by plots as by the other questions."""
    for number, value in enumerate([1e308, -1e308, 1e308, 1e150, -1e150, 3.0]):
        for model in ("demucs", "svoice"):
            file = {"duration": 1.0 + number}
            add_run(db, f"/{number}.wav", model, hours=number, file=file, pesq=value)
    models = ("demucs", "svoice") if kind == "paired" else ()
    db.plot(kind, *models, metric="pesq", path=tmp_path / "plot.png")
    assert db.plot_text(kind, *models, metric="pesq")
    assert [row.n for row in db.leaderboard("pesq")] == [3, 3]
    found = db.compare("demucs", "svoice", metric="pesq")
    assert (found.n, found.left_out) == (3, 3)
