"""The command that draws, and plots as text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from display.test_plots import HOSTILE, KINDS, size
from support.cli_tools import program, run, terminal, usage
from support.run_rows import add_run

from voices_peewee import DatabaseManager

pytestmark = pytest.mark.once

USAGE = "[OPTIONS] KIND [MODEL]..."


@pytest.fixture
def runs(path: Path) -> Path:
    """Two models, the second better by 1 dB and more, on eight recordings."""
    with DatabaseManager(path).initialize() as db, db.atomic():
        for number in range(8):
            for model, mean in (("demucs:4.0", 10.0), ("svoice:1.2", 11.0)):
                value = mean + number * (mean - 9) / 4
                file = {"duration": 2.0 + number}
                add_run(db, f"/mix/{number}.wav", model, si_snri=value, file=file)
    return path


TEXTS = {
    "distribution": """\
SI-SNRi by model

                  ┌────────────────────────────────────────────────────────────┐
svoice:1.2 (n = 8)┤             ────────────███████████┃████████████───────────│
demucs:4.0 (n = 8)┤──────█████┃██████──────                                    │
                  └┬────────────┬────────────┬────────────┬────────────┬───────┘
                   10           11           12           13           14
                         SI-SNRi (dB), higher is better
█ middle half   ┃ median   ─ 1.5 times its width at most   · beyond
""",
    "paired": """\
svoice:1.2 is better by 1.88 dB on average
95 % interval of B - A +1.47 to +2.28, 8 pairs

     ┌─────────────────────────────────────────────────────────────────────────┐
7.wav┤                            o───────────────────────────────────────────+│
6.wav┤                        o───────────────────────────────────────+        │
5.wav┤                    o───────────────────────────────────+                │
4.wav┤                o───────────────────────────────+                        │
3.wav┤            o───────────────────────────+                                │
2.wav┤        o───────────────────────+                                        │
1.wav┤    o───────────────────+                                                │
0.wav┤o───────────────+                                                        │
     └┬───────────────┬───────────────┬───────────────┬───────────────┬────────┘
      10              11              12              13              14
                         SI-SNRi (dB), higher is better
o A: demucs:4.0   + B: svoice:1.2
""",
    "scatter": """\
SI-SNRi against duration

SI-SNRi (dB), higher is better
  ┌────────────────────────────────────────────────────────────────────────────┐
  │                                                                           +│
  │                                                                            │
14┤                                                                +           │
  │                                                                            │
  │                                                      +                     │
13┤                                           +                                │
  │                                                                            │
  │                                +                                           │
  │                                                                            │
12┤                     +                                                      │
  │                                                                           o│
  │           +                                                    o           │
11┤+                                          o          o                     │
  │                                o                                           │
  │                     o                                                      │
  │           o                                                                │
10┤o                                                                           │
  └┬──────────┬─────────┬──────────┬──────────┬──────────┬─────────┬──────────┬┘
   2          3         4          5          6          7         8          9
                                  Duration (s)
o demucs:4.0 (n = 8)   + svoice:1.2 (n = 8)
""",
    "trend": """\
SI-SNRi by hour, mean and 95 % interval

SI-SNRi (dB), higher is better
    ┌──────────────────────────────────────────────────────────────────────────┐
    │                                             │                            │
13.5┤                                             │                            │
    │                                             │                            │
    │                                             │                            │
  13┤                                             │                            │
    │                                             +                            │
12.5┤                                             │                            │
    │                                             │                            │
  12┤                                             │                            │
    │                                             │                            │
    │                                             │                            │
11.5┤                            │                                             │
    │                            │                                             │
  11┤                            │                                             │
    │                            o                                             │
10.5┤                            │                                             │
    │                            │                                             │
    └─────────────────────────────────────┬────────────────────────────────────┘
                                     11-01 12:00
                             Hour of the runs (UTC)
o demucs:4.0 (n = 8)   + svoice:1.2 (n = 8)
""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_what_is_asked_for_without_a_file(runs: Path, kind: str) -> None:
    """Without -o each kind is drawn as text of at most 80 columns; nothing is on stderr."""
    assert run("--db", runs, "plot", kind, *KINDS[kind]) == (0, TEXTS[kind], "")
    assert max(map(len, TEXTS[kind].splitlines())) <= 80


def test_a_file(runs: Path, tmp_path: Path) -> None:
    """With -o the path is written to stdout, and nothing is drawn."""
    target = tmp_path / "plot.png"
    assert run("--db", runs, "plot", "trend", "-o", target) == (0, f"{target}\n", "")
    size(target.read_bytes())


def test_a_file_and_text(runs: Path, tmp_path: Path) -> None:
    """With -o and --terminal both are made."""
    target = tmp_path / "plot.svg"
    done = run("--db", runs, "plot", "scatter", "-o", target, "--terminal")
    assert done == (0, f"{target}\n{TEXTS['scatter']}", "")
    assert target.read_text("utf-8").startswith("<?xml")


def test_overwrite(runs: Path, tmp_path: Path) -> None:
    """A file that is there is refused in one sentence, and replaced with --overwrite."""
    target = tmp_path / "plot.png"
    target.write_text("mine")
    words = ("--db", runs, "plot", "trend", "-o", target)
    message = f"Error: cannot write {str(target)!r}: it is there already; overwrite replaces it\n"
    assert run(*words) == (1, "", message)
    assert run(*words, "--overwrite") == (0, f"{target}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["boxes"], "unknown plot 'boxes'; use distribution, paired, scatter, trend"),
        (["paired", "demucs"], "a paired plot is of two models, not 1"),
        (["trend", "--metric", "sdr"], "unknown metric 'sdr'; did you mean 'sdri'?"),
        (["trend", "--against", "x"], "a trend plot is not against a column; a scatter plot is"),
    ],
)
def test_questions_that_make_no_sense(runs: Path, words: list[str], message: str) -> None:
    """A wrong kind, model, metric or time exits 2 and says what would do."""
    assert run("--db", runs, "plot", *words) == (2, "", usage("voices plot", USAGE, message))


def test_nothing_to_plot(path: Path) -> None:
    """Without data there is one sentence and no empty picture."""
    DatabaseManager(path).initialize().close()
    message = "nothing to plot: no successful run has a value of 'si_snri' or 'sdri'"
    assert run("--db", path, "plot", "distribution") == (1, "", f"Error: {message}\n")


def test_filters(runs: Path) -> None:
    """Options narrow down what is drawn and stand under the title."""
    done = run("--db", runs, "plot", "distribution", "svoice", "--operation", "voice_separation")
    lines = done.out.splitlines()
    assert lines[:2] == ["SI-SNRi by model", "voice_separation"]
    assert ("svoice:1.2 (n = 8)" in done.out, "demucs" in done.out) == (True, False)
    message = "nothing to plot: no successful run that was asked for has a value of 'si_snri'"
    done = run("--db", runs, "plot", "trend", "--until", "2020")
    assert done == (1, "", f"Error: {message}\n")


def test_metrics(runs: Path) -> None:
    """--metric may be repeated for a distribution; a direction that is not known can be given."""
    with DatabaseManager(runs).connect() as db:
        add_run(db, si_snri=1.0, odd=2.0)
    words = ("plot", "distribution", "--metric", "odd", "--metric", "si_snri")
    done = run("--db", runs, *words, "--lower-is-better")
    assert done.out.splitlines()[0] == "odd and SI-SNRi by model"
    assert "odd, lower is better" in done.out


@pytest.mark.parametrize("columns", [40, 80, 132])
def test_a_terminal_sets_the_width(runs: Path, columns: int) -> None:
    """On a terminal the drawing is as wide as it is, and coloured."""
    code, seen = terminal("--db", runs, "plot", "scatter", columns=columns)
    assert code == 0
    assert "\x1b[38;5;33m" in seen
    code, seen = terminal("--db", runs, "plot", "scatter", columns=columns, env={"NO_COLOR": "1"})
    assert "\x1b" not in seen
    assert max(map(len, seen.splitlines())) == columns


def test_a_pipe_gets_no_colour(runs: Path) -> None:
    """A pipe gets 80 columns without colour codes; without UTF-8 it gets ASCII."""
    done = program("--db", runs, "plot", "trend", env={"COLUMNS": "200", "PYTHONUTF8": "1"})
    assert (done.code, done.out, done.err) == (0, TEXTS["trend"], "")
    done = program(
        "--db", runs, "plot", "paired", "demucs", "svoice", env={"PYTHONIOENCODING": "ascii"}
    )
    assert (done.code, done.err, done.out.isascii()) == (0, "", True)
    assert "+-" in done.out


@pytest.mark.parametrize("kind", ["distribution", "scatter", "trend"])
def test_hostile_names_do_no_harm(path: Path, kind: str) -> None:
    """Names cannot command a terminal, and do not break the lines."""
    with DatabaseManager(path).initialize() as db:
        for name in HOSTILE:
            add_run(db, None, None, si_snri=1.0, run={"model_type": name}, file={"duration": 2.0})
    done = run("--db", path, "plot", kind)
    assert (done.code, done.err) == (0, "")
    assert [letter for letter in done.out if letter != "\n" and not letter.isprintable()] == []
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("kind", ["distribution", "scatter", "trend"])
def test_many_models(path: Path, kind: str) -> None:
    """Thirty models are all named, in 80 columns."""
    generator = random.Random(1)
    with DatabaseManager(path).initialize() as db, db.atomic():
        for number in range(30):
            for hours in range(3):
                value, file = generator.gauss(10, 2), {"duration": generator.lognormvariate(1, 3)}
                model = f"model-{number}:1"
                add_run(db, f"/{hours}.wav", model, hours=hours, si_snri=value, file=file)
    done = run("--db", path, "plot", kind)
    assert all(f"model-{number}:1 (n = 3)" in done.out for number in range(30))
    assert max(map(len, done.out.splitlines())) <= 80
