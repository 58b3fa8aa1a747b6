"""The command that draws."""

from __future__ import annotations

from pathlib import Path

import pytest
from display.test_plots import recording, size, texts
from support.cli_tools import run, usage
from support.run_rows import add_run

from voices_peewee import DatabaseManager

USAGE = "[OPTIONS] KIND [MODEL]..."


@pytest.fixture
def runs(path: Path) -> Path:
    """Two models on three recordings."""
    with DatabaseManager(path).initialize() as db, db.atomic():
        for number in range(3):
            run = {"processed_file": recording(db, f"/mix/{number}.wav")}
            for model in ("demucs:4.0", "svoice:1.2"):
                add_run(db, model=model, si_snri=number + len(model), odd=2.0, run=run)
    return path


def test_a_picture(runs: Path, tmp_path: Path) -> None:
    """The path is written to stdout; a file that is there is replaced with --overwrite only."""
    target = tmp_path / "plot.png"
    words = ("--db", runs, "plot", "paired", "demucs", "svoice:1.2", "-o", target)
    assert run(*words) == (0, f"{target}\n", "")
    size(target.read_bytes())
    reason = "it is there already; choose another name or overwrite it (--overwrite)"
    assert run(*words) == (1, "", f"Error: export {str(target)!r}: {reason}\n")
    assert run(*words, "--overwrite") == (0, f"{target}\n", "")


def test_options_narrow_down_what_is_drawn(runs: Path, tmp_path: Path) -> None:
    """Models, metrics, their direction and the runs can be chosen."""
    target = tmp_path / "plot.svg"
    words = ("plot", "distribution", "svoice", "--metric", "odd", "--metric", "si_snri")
    options = ("--lower-is-better", "--operation", "voice_separation", "-o", target)
    assert run("--db", runs, *words, *options) == (0, f"{target}\n", "")
    shown = set(texts(target))
    title, under = "odd and SI-SNRi by model", "operation voice_separation"
    assert {title, under, "odd, lower is better"} <= shown
    assert "svoice:1.2" in shown
    assert "demucs:4.0" not in shown


def test_what_cannot_be_drawn(runs: Path, tmp_path: Path) -> None:
    """A question that makes no sense exits 2, nothing to draw exits 1, and neither makes a file."""
    target = tmp_path / "x.png"
    message = "unknown plot 'boxes'; use distribution, paired, ranks, scatter"
    done = run("--db", runs, "plot", "boxes", "-o", target)
    assert done == (2, "", usage("voices plot", USAGE, message))
    words = ("plot", "distribution", "--metric", "sdri", "-o", target)
    message = "nothing to plot: no successful run has a value of 'sdri'"
    assert run("--db", runs, *words) == (1, "", f"Error: {message}\n")
    assert not target.exists()
