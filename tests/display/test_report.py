"""The report: what it says, and what no name of a record can do to it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support.browser import barriers, needs_axe, needs_browser, opened
from support.cli_tools import run
from support.measured import measure

from voices_peewee import DatabaseManager, Environment
from voices_peewee.display.report import without_folders
from voices_peewee.errors import ExportError

AUDIO = Path(__file__).parents[2] / "examples" / "audio"
HOSTILE = "</script><img src=x onerror=alert(1)>"


def three_models(db: DatabaseManager, first: str = "a:1") -> None:
    """Measure three models, each better than the one before, on eight recordings."""
    for shift, model in enumerate((first, "b:1", "c:1")):
        measure(db, model, [10.0 + shift + k * (shift + 3) / 9 for k in range(8)])


def test_only_a_page_is_written(db: DatabaseManager, tmp_path: Path) -> None:
    """No record and no recording is replaced by a page, with overwrite either."""
    for name in ("voices.db", "mix.wav", "-", "report"):
        target = tmp_path / f"out{name}"
        target.write_bytes(b"here")
        with pytest.raises(ExportError) as caught:
            db.report(target, overwrite=True)
        assert str(caught.value) == f"export {str(target)!r}: a report ends in .html"
        assert target.read_bytes() == b"here"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cannot open /home/me/mix/1.wav", "cannot open …/1.wav"),
        ("no file '/home/my name/Kunde Meier/x.wav'", "no file '…/x.wav'"),
        ('File "C:\\Users\\me, too\\x.py", line 3', 'File "…/x.py", line 3'),
        ("12 dB/octave, and/or", "12 dB/octave, and/or"),
    ],
)
def test_folders_stay_at_home(text: str, said: str) -> None:
    """Paths in an error are names only."""
    assert without_folders(text) == said


def test_it_says_which_model_to_take_and_is_the_same_twice(
    db: DatabaseManager, tmp_path: Path
) -> None:
    """The same rows give the same bytes, with the answer, pictures, failures; no address."""
    three_models(db)
    measure(db, "a:1", {"/mix/x.wav": "failed"})
    page = db.report(tmp_path / "one.html").read_text("utf-8")
    assert page == db.report(tmp_path / "two.html").read_text("utf-8")
    assert "c:1 has the highest mean SI-SNRi" in page
    assert page.count("<svg") == 3
    assert "http:" not in page
    assert "https:" not in page
    with pytest.raises(ExportError):
        db.report(tmp_path / "one.html")


def test_hostile_names_are_text(db: DatabaseManager, tmp_path: Path) -> None:
    """A model or recording whose name is markup stays a name."""
    measure(db, HOSTILE, {f"/mix/{HOSTILE}": 1.0, "/mix/2.wav": 2.0})
    page = db.report(tmp_path / "r.html").read_text("utf-8")
    assert "<img" not in page
    assert page.count("</script>") == 1


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_a_model_that_is_no_text_is_shown(db: DatabaseManager, tmp_path: Path) -> None:
    """What another program wrote as bytes takes no report away; it is compared with nothing."""
    three_models(db)
    for name, key in (("model_version", 1), ("model_type", 2)):
        sql = f"UPDATE processing_history SET {name} = x'ff' WHERE id = {key}"
        db.execute_raw_query(sql, write=True)
    assert "b:1" in db.report(tmp_path / "report.html").read_text("utf-8")


@pytest.mark.sqlite("a server's columns take nothing else than theirs")
@pytest.mark.parametrize("output", ["x'00ff'", "replace(hex(zeroblob(3000)), '00', '[')"])
def test_a_path_that_is_none_is_not_here(db: DatabaseManager, tmp_path: Path, output: str) -> None:
    """A file whose path another program wrote, in bytes or too long, has no player."""
    three_models(db)
    sql = f"UPDATE processed_files SET original_path = {output}, processed_path = {output}"
    db.execute_raw_query(sql, write=True)
    assert "there is no such file here" in db.report(tmp_path / "report.html").read_text("utf-8")


def test_an_empty_record(path: Path, tmp_path: Path) -> None:
    """The command writes a page of an empty record too, which says so."""
    with DatabaseManager(path).initialize():
        pass
    out = tmp_path / "r.html"
    assert run("--db", path, "report", "-o", out) == (0, f"{out}\n", "")
    assert "No successful run here has a value" in out.read_text("utf-8")


def test_models_without_a_common_recording(db: DatabaseManager, tmp_path: Path) -> None:
    """They have no picture of their pair, and a sentence that says why."""
    for model, path in (("a:1", "/mix/1.wav"), ("b:1", "/mix/2.wav")):
        measure(db, model, {path: 1.0})
    page = db.report(tmp_path / "r.html").read_text("utf-8")
    assert "no recording has a value from both: A has 1, B has 1" in page
    assert page.count("<svg") == 1


def test_players_are_links_or_put_into_the_page(db: DatabaseManager, tmp_path: Path) -> None:
    """A recording plays from its link, from the page, or not at all where there is no room."""
    path = shutil.copy(AUDIO / "bob.wav", tmp_path / "a b <1>.wav")
    measure(db, "a:1", {str(path): 1.0})
    page = db.report(tmp_path / "link.html").read_text("utf-8")
    assert 'src="a%20b%20%3C1%3E.wav"' in page
    page = db.report(tmp_path / "embed.html", embed=True).read_text("utf-8")
    assert 'src="data:audio/flac;base64,' in page
    page = db.report(tmp_path / "small.html", embed=True, max_size=1).read_text("utf-8")
    assert "too large: a b &lt;1&gt;.wav" in page
    assert "<audio" not in page
    assert "<audio" not in db.report(tmp_path / "no.html", audio=False).read_text("utf-8")


@pytest.mark.once
@needs_browser
def test_in_a_browser(db: DatabaseManager, tmp_path: Path) -> None:
    """Chromium shows it on a phone without an error, a request or scrolling sideways."""
    three_models(db, HOSTILE)
    path, said = db.report(tmp_path / "r.html"), list[str]()
    with opened(path, said, viewport={"width": 400, "height": 900}, color_scheme="dark") as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        assert page.locator("svg").count() == 3
    assert said == [path.as_uri()]


@pytest.mark.once
@needs_browser
@needs_axe
def test_nobody_is_kept_out(db: DatabaseManager, tmp_path: Path) -> None:
    """axe-core has no serious finding, with every detail unfolded, in light and dark."""
    three_models(db)
    measure(db, "a:1", {"/mix/x.wav": "failed"})
    with opened(db.report(tmp_path / "r.html"), [], bypass_csp=True) as page:
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert barriers(page) == []


def test_it_says_where_the_runs_were_made(db: DatabaseManager, tmp_path: Path) -> None:
    """Python, git, torch and device stand there, once for all hosts; hosts when asked for."""
    for host in ("gpu01", "gpu02"):
        facts = {"python": "3.12.1", "host": host}
        facts |= {"git": {"commit": "0123456789abcdef", "dirty": True}}
        facts |= {"torch": {"version": "2.5.1", "device": "NVIDIA A100"}}
        there = db.add(Environment(facts=facts, digest=host))
        measure(db, f"{host}:1", [1.0, 2.0], environment=there)
    measure(db, "old:1", [3.0])
    page = db.report(tmp_path / "r.html").read_text("utf-8")
    row = "<tr><td>3.12.1</td><td></td><td>0123456789 with changes</td><td>2.5.1</td>"
    assert page.count(f"{row}<td>NVIDIA A100</td></tr>") == 1
    assert "gpu01</td>" not in page
    page = db.report(tmp_path / "h.html", hosts=True).read_text("utf-8")
    assert page.count(f"{row}<td>NVIDIA A100</td><td>gpu0") == 2


def test_pictures_say_their_numbers(db: DatabaseManager, tmp_path: Path) -> None:
    """What a picture draws is in its description, and in a table for those who do not see it."""
    for shift, model in enumerate(("a:1", "b:1", "c:1")):
        measure(db, model, [1.0, 2.0, 3.0, 4.0 + shift / 10, 5.0])
    page = db.report(tmp_path / "r.html").read_text("utf-8")
    assert "<desc>c:1: 3.04 dB, n 5; b:1: 3.02 dB, n 5; a:1: 3.00 dB, n 5</desc>" in page
    assert '<td>c:1</td><td class="n">5</td><td>a</td><td class="n">3.04</td>' in page
    assert "<desc>5 recordings; A is c:1, B is b:1; B is better in 0</desc>" in page
    assert '<td>b:1</td><td class="n">2.00</td>' in page


def test_a_model_has_one_colour_in_all_pictures(db: DatabaseManager, tmp_path: Path) -> None:
    """The first model of the record has the first colour in each, whatever its rank."""
    three_models(db)
    page = db.report(tmp_path / "r.html").read_text("utf-8")
    strip, paired, ranks = re.findall("<svg.*?</svg>", page, re.DOTALL)
    for place, model in enumerate(("a:1", "b:1", "c:1")):
        colour = rf'>{model}</text><g class="s{place}">'
        assert len(re.findall(colour, strip)) == len(re.findall(colour, ranks)) == 1
    assert set(re.findall('class="pt (s.)"', paired)) == {"s2"}  # c:1 is better in each
