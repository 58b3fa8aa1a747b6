"""The one table: as text of a width, HTML, Markdown and LaTeX, whatever the values say."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.shown import HOSTILE, Shown

from voices_peewee.rendering.plain import (
    KINDS,
    Column,
    cell,
    fit,
    printable,
    table_lines,
    text_table,
    width,
)
from voices_peewee.rendering.table import (
    cut_note,
    html_facts,
    html_lines,
    html_table,
    latex_table,
    markdown_table,
)
from voices_peewee.schema.vocabulary import METRICS, describe

BOARD = [
    Column("model", "key"),
    Column("n", "count", "runs"),
    Column("mean", "decibel"),
    Column("median", "decibel", priority=3),
    Column("stdev", "fixed", "SD", priority=2),
    Column("bar", "bar", " ", priority=1),
]
ROWS = [
    ("facebook/htdemucs_6s:4.0.1", 12_000, 12.345, 12.1, 3.2, "████████"),
    ("svoice:1", 3, -1, None, 0.1, "█"),
]
WHOLE = """\
model                         runs  mean dB  median dB    SD
facebook/htdemucs_6s:4.0.1  12,000    12.35      12.10  3.20  ████████
svoice:1                         3    -1.00             0.10  █"""


@pytest.mark.parametrize(
    ("room", "last"),
    [(None, "bar"), (80, "bar"), (69, "SD"), (60, "SD"), (59, "median dB"), (54, "median dB")],
)
def test_optional_columns_go_where_there_is_no_room(room: int | None, last: str) -> None:
    """Columns with a priority go in its order; a line takes no more than the width."""
    lines = text_table(BOARD, ROWS, room)
    assert max(map(width, lines)) <= (room or 1000)
    assert (lines[0] if last != "bar" else f"{lines[0]}  bar").endswith(last)
    assert "\n".join(text_table(BOARD, ROWS)) == WHOLE


def test_a_key_is_never_cut() -> None:
    """At 40 places a model's name is whole, above its numbers where they do not fit beside it."""
    assert text_table(BOARD, ROWS, 34) == [
        "model",
        "    runs  mean dB  median dB    SD",
        "facebook/htdemucs_6s:4.0.1",
        "  12,000    12.35      12.10  3.20",
        "svoice:1",
        "       3    -1.00             0.10",
    ]
    assert text_table(BOARD, ROWS, 33)[1] == "    runs  mean dB  median dB"
    assert text_table(BOARD, ROWS, 20)[1] == "    runs  mean dB"
    long = [("m" * 90, 1, 2.0, 3.0, 4.0, "")]
    assert text_table(BOARD, long, 40)[2] == "m" * 90


def test_texts_give_way_to_numbers_and_keys() -> None:
    """A text loses its end, a path its beginning; what takes two places is counted as two."""
    columns = [Column("id", "integer"), Column("path", "path"), Column("note"), Column("x", "key")]
    row = (1, "/very/long/path/to/a/file.wav", "日本語テキスト", "whole")
    lines = text_table(columns, [row], 36)
    assert max(map(width, lines)) <= 36
    assert lines[1].startswith(" 1  …")
    assert "file.wav  日本語" in lines[1]
    assert lines[1].endswith("…   whole")


def test_a_pipe_gets_everything_and_nothing_of_nothing() -> None:
    """Where there is no terminal nothing is left out; without rows there is no heading."""
    for rows, text in ((ROWS, WHOLE + "\n"), ([], "")):
        missing, lines = table_lines(BOARD, rows)
        assert (missing, "".join(lines)) == ([], text)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("text", None, ""),
        ("text", "a\tb\x1b[31m\n", "a\\tb\\x1b[31m\\n"),
        ("path", "caf\udce9\u202e", "caf\\udce9\\u202e"),
        ("boolean", True, "yes"),
        ("decibel", 12.345, "12.35"),
        ("decibel", "wrong", "wrong"),
        ("number", 0.003382, "0.003382"),
        ("number", None, ""),
        ("difference", 1.5, "+1.5"),
        ("difference", -0.0000001, "-1e-07"),
        ("seconds", 62.5, "1:02.5"),
        ("seconds", 0.354, "0:00.354"),
        ("bytes", 1_500_000, "1.5 MB"),
        ("percent", 99.95, "100.0"),
        ("count", 1234567, "1,234,567"),
        ("tags", ["a", "é"], "a, é"),
        ("json", {"a": ["é", None]}, '{"a": ["é", null]}'),
        ("json", {}, ""),
        (
            "time",
            dt.datetime(2026, 11, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))),
            "2026-11-01 12:00",
        ),
    ],
)
def test_kinds_say_how_values_are_shown(kind: str, value: object, text: str) -> None:
    """Each kind has its digits and units; what another program wrote stands as it is."""
    (_, line) = text_table([Column("x", kind), Column("y", "key")], [(value, "|")])
    assert line.removesuffix("|").strip() == text


def test_a_cut_keeps_what_is_asked_for() -> None:
    """One cutter by display width keeps the start, the end or both."""
    assert [fit("abcdefgh", 5, keep) for keep in ("start", "end", "both")] == [
        "abcd…",
        "…efgh",
        "ab…gh",
    ]
    assert fit("日本語テキスト", 7) == "日…ト"
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert printable("\ud800\ufffe") == "\\ud800\\ufffe"


def test_markdown() -> None:
    """A table for GitHub: numbers to the right, and no name is markup."""
    columns = [Column("model", "key"), Column("mean", "decibel")]
    rows = [("a_b|*<c>", 1.0), ("`x`\n", None)]
    assert markdown_table(columns, rows) == (
        "| model | mean dB |\n| --- | ---: |\n| a\\_b\\|\\*\\<c\\> | 1.00 |\n| \\`x\\`\\\\n |  |\n"
    )


def test_latex() -> None:
    """A booktabs table: a minus is one, and nothing in a name is a command."""
    columns = [Column("model", "key"), Column("mean", "decibel")]
    rows = [("a_b & 50%", -1.0), ("[x] \\input{y} $z$ #~^", 2.0)]
    assert latex_table(columns, rows, "SI-SNRi & more") == (
        "\\begin{table}\n\\centering\n\\caption{SI{-}SNRi \\& more}\n"
        "\\begin{tabular}{lr}\n\\toprule\n"
        "model & mean dB \\\\\n\\midrule\n"
        "a\\_b \\& 50\\% & $-$1.00 \\\\\n"
        "{[}x{]} \\textbackslash{}input\\{y\\} \\$z\\$ \\#\\textasciitilde{}"
        "\\textasciicircum{} & 2.00 \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )
    assert "($-$0.1 to +0.2)" in latex_table(columns, rows, "b - a (-0.1 to +0.2)")


@pytest.mark.once
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex is installed")
def test_latex_compiles(tmp_path: Path) -> None:
    """pdflatex takes whatever names there are."""
    texts = [text for text in HOSTILE if text.isascii()] + ["[a]", "*", "--a", "ü…±×"]
    table = latex_table(BOARD, [(text, 1, 2.0, 3.0, 4.0, "") for text in texts], "a_b")
    packages = "\\documentclass{article}\\usepackage{booktabs}"
    page = f"{packages}\\begin{{document}}\n{table}\\end{{document}}\n"
    (tmp_path / "a.tex").write_text(page, "utf-8")
    command = ["pdflatex", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_only_text(text: str) -> None:
    """A name can neither open a tag nor leave an attribute nor send control characters."""
    html = html_table([Column(text)], [[text]], title=text, note=text)
    html += html_facts([(Column(text), text)], title=text) + html_lines(text)
    html.encode()
    page = Shown(html)
    assert page.tags == {"div", "strong", "table", "tr", "td", "th", "span"}
    assert page.attributes <= {"style", "title"}
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", html)


def test_a_long_text_is_whole_where_a_pointer_rests() -> None:
    """A cell of HTML is one short line, and the whole of a long text is its title."""
    for value, text, titles in (
        ("x" * 61, "x" * 29 + "…" + "x" * 30, ["x" * 61]),
        ("first <b>\nsecond\n", "first <b> …", ["first <b>\nsecond"]),
        ("y" * 6000, "y" * 29 + "…" + "y" * 30, ["y" * 5000 + "\n…"]),
        ("short", "short", []),
    ):
        page = Shown(html_table([Column("x")], [[value]]))
        assert (page.rows[1], page.titles) == ([text], titles)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_no_column_takes_is_short(kind: str) -> None:
    """What another program wrote neither widens a table nor ends it."""
    for value in (1e308, -1e308, float("inf"), float("nan")):
        assert cell(kind, value) == f"{value:.4g}"


def test_what_is_cut_off_is_told() -> None:
    """A note says how many there are, and how many are shown."""
    assert [cut_note(0, 0), cut_note(1, 1), cut_note(20, 1234567), cut_note(20, None)] == [
        "0 rows",
        "1 row",
        "20 of 1,234,567 rows shown",
        "the first 20 rows; there are more",
    ]


def test_the_vocabulary_describes_columns_and_metrics() -> None:
    """A column has its title and kind from the vocabulary; what it does not know has its name."""
    assert text_table([describe("sample_rate"), describe("odd")], [(8000, 2)]) == [
        "rate Hz  odd",
        "   8000  2",
    ]
    assert METRICS["si_snri"].title == "SI-SNRi"
