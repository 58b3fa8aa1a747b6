"""What notebooks show: escaped, shortened, without colours of its own; and the tutorial."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from support.run_rows import START, add_run

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.rendering import html as html_text
from voices_peewee.schema.models import BaseModel

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "examples" / "tutorial.ipynb"
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "&lt;b&gt; &amp; ]]> --> </td></table>",
    "\x1b[31mred\x07\x00\x9b",
    "a\nb\r\n<b>c",
    "caf\udce9",
    "<" * 200,
]
ATTRIBUTES = {"style", "title"}


class Shown(HTMLParser):
    """What a browser makes of a piece of HTML: texts of cells, titles, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.titles: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.titles += [value or "" for name, value in attrs if name == "title"]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "tr" in self.open:
            self.rows[-1][-1] += data
        else:
            self.words.append(data)


def shown(value: Any) -> Shown:
    html = value._repr_html_()
    html.encode()  # a notebook is UTF-8
    page = Shown(html)
    assert page.tags <= {"div", "strong", "table", "tr", "td", "th", "span"}
    assert page.attributes <= ATTRIBUTES
    styles = "".join(re.findall(r'style="([^"]*)"', html))
    assert not re.search(r"#[0-9a-f]{3}|\brgb|background|(?<![-a-z])color:", styles)
    return page


# Pieces


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_only_text(text: str) -> None:
    """A name can neither open a tag nor leave an attribute nor send control characters."""
    html = html_text.table([text], [[text]], title=text, note=text)
    html += html_text.facts({text: text}, title=text) + html_text.sentences(text)
    html.encode()
    page = Shown(html)
    assert page.tags == {"div", "strong", "table", "tr", "td", "th", "span"}
    assert page.attributes <= ATTRIBUTES
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", html)


@pytest.mark.parametrize(
    ("value", "text", "title"),
    [
        (None, "", None),
        ("plain", "plain", None),
        ("x" * 61, "x" * 29 + "…" + "x" * 30, "x" * 61),
        ("first <b>\nsecond\n", "first <b> …", "first <b>\nsecond"),
        ("a\tb", "a\\x09b", None),
        ("caf\udce9", "caf\\udce9", None),
        ("y" * 6000, "y" * 29 + "…" + "y" * 30, "y" * 5000 + "\n…"),
        (True, "yes", None),
        (False, "no", None),
        (3, "3", None),
        (0.30000000000000004, "0.3", None),
        (float("nan"), "nan", None),
        (START, "2026-11-01 12:00:00 UTC", None),
        (START.astimezone(dt.timezone(dt.timedelta(hours=2))), "2026-11-01 12:00:00 UTC", None),
        ({"a": ["é", None]}, '{"a": ["é", null]}', None),
        (["x"], '["x"]', None),
    ],
)  # fmt: skip
def test_values_are_short_and_whole(value: object, text: str, title: str | None) -> None:
    """A value is one short line, and the whole of a long one is its title."""
    page = Shown(html_text.shown(value))
    assert "".join(page.words) == text
    assert page.titles == ([] if title is None else [title])


@pytest.mark.parametrize(
    ("count", "total", "words"),
    [
        (0, 0, "0 rows"),
        (1, 1, "1 row"),
        (20, 1234567, "20 of 1,234,567 rows shown"),
        (20, None, "the first 20 rows; there are more"),
    ],
)
def test_what_is_cut_off_is_told(count: int, total: int | None, words: str) -> None:
    """A note says how many there are, and how many are shown."""
    assert html_text.cut_note(count, total) == words


def test_numbers_stand_to_the_right() -> None:
    """Columns of numbers are aligned right, all others left."""
    html = html_text.table(["a", "b", "c"], [["x", 1, None], [None, 2.5, True]])
    assert re.findall(r"<t[dh] style=\"text-align:(\w+)", html) == ["left", "right", "left"] * 3


# Records and lists


def test_a_record_shows_every_column(db: DatabaseManager) -> None:
    """A record is a table of its columns with units, JSON as JSON, nothing for what is empty."""
    ada = db.create_speaker("Ada <b>", tags=["x"])
    file = ProcessedFile(filename="a.wav", duration=2.5, sample_rate=8000, speaker=ada)
    assert shown(file).words == ["ProcessedFile (not saved)"]
    db.add(file)
    page = shown(file)
    stamp = f"{file.created_at:%Y-%m-%d %H:%M:%S} UTC"
    assert page.words == ["ProcessedFile 1"]
    assert page.rows == [
        ["id", "1"],
        ["filename", "a.wav"],
        ["original_path", ""],
        ["processed_path", ""],
        ["file_format", ""],
        ["duration (s)", "2.5"],
        ["sample_rate (Hz)", "8000"],
        ["channels", ""],
        ["metadata", "{}"],
        ["speaker_id", "1"],
        ["file_size (bytes)", ""],
        ["content_hash", ""],
        ["created_at", stamp],
        ["updated_at", stamp],
    ]
    assert shown(ada).rows[1:4] == [["name", "Ada <b>"], ["description", ""], ["tags", '["x"]']]


def test_a_record_asks_the_database_nothing(db: DatabaseManager) -> None:
    """A record, and a list of records, can be shown when the database is closed."""
    run = add_run(db, si_snri=1.0)
    found = db.search("history")
    db.close()
    assert shown(run).rows[1] == ["processed_file_id", "1"]
    assert shown(found).words == ["1 row"]


def test_lists_show_the_first_and_tell_the_rest(db: DatabaseManager) -> None:
    """A list, a query and a page show twenty rows and say how many there are."""
    db.add_all([Speaker(name=f"s{number:02}", tags=["t"]) for number in range(25)])
    head = ["id", "name", "description", "tags"]
    rows = [[str(key), f"s{key - 1:02}", "", '["t"]'] for key in range(1, 21)]
    query = db.query(Speaker).order_by(Speaker.id)
    for found in (query, query.all(), db.search("speakers"), db.get_all(Speaker)):
        page = shown(found)
        assert page.rows == [head, *rows]
        assert page.words == ["20 of 25 rows shown"]
    assert shown(query.limit(5)).words == ["5 rows"]
    assert shown(query.limit(22)).words == ["20 of 22 rows shown"]
    assert shown(query.where(Speaker.id < 0)).words == ["0 rows"]


@pytest.mark.parametrize("limit", [None, 22, 5, 5000])
def test_a_page_shows_itself_and_stays_whole(db: DatabaseManager, limit: int | None) -> None:
    """Showing a page uses none of its rows up, and shows the same when all were read."""
    db.add_all([Speaker(name=f"s{number:02}") for number in range(25)])
    page = db.list_rows("speakers", limit=limit)
    first = shown(page)
    assert first.rows[0] == ["id", "name", "tags", "files", "description"]
    assert first.rows[1] == ["1", "s00", "[]", "0", ""]
    assert first.words == [f"{min(limit or 25, 20)} of 25 rows shown"]
    assert len(list(page)) == min(limit or 25, 25)
    assert shown(page).rows == first.rows


def test_queries_of_some_columns(db: DatabaseManager) -> None:
    """A query shows the columns that it selects, with Python's values."""
    add_run(db, os.fsdecode(b"/mix/\xe9.wav"), file={"duration": 1.5, "metadata": {"a": 1}})
    file = ProcessedFile
    query = db.query(file).select(file.original_path.alias("where"), file.duration, file.metadata)
    page = shown(query.dicts())
    assert page.rows == [
        ["where", "duration (s)", "metadata"],
        ["/mix/\\udce9.wav", "1.5", '{"a": 1}'],
    ]


def test_a_query_without_a_database_says_so(db: DatabaseManager) -> None:
    """A query that is shown after the end asks nothing and says why."""
    query = db.query(Speaker)
    db.close()
    assert shown(query).words == ["a query of Speaker; no database is connected"]


@pytest.mark.parametrize("text", HOSTILE[:4] + HOSTILE[5:], ids=range(len(HOSTILE) - 1))
def test_hostile_records(db: DatabaseManager, text: str) -> None:
    """Whatever names, paths, tags, errors and parameters say, they are only shown."""
    ada = db.create_speaker(text.encode("utf-8", "replace").decode(), tags=["<i>"])
    words = text.encode("utf-8", "replace").decode()
    add_run(
        db,
        text,
        f"{words}:1",
        speaker=ada,
        status="failed",
        file={"filename": text, "metadata": {words: words}},
        run={"parameters": {words: [words]}, "error_message": words},
    )
    run = add_run(db, text, "a:1", si_snri=1.0)
    add_run(db, text, "b:1", si_snri=2.0)
    found: list[Any] = [
        db,
        *(db.query(model) for model in (Speaker, ProcessedFile, ProcessingHistory)),
        *(record for model in (Speaker, ProcessedFile) for record in db.get_all(model)),
        run,
        db.failures(),
        db.history(1),
        db.leaderboard(by=["model_type", "file"]),
        db.compare("a:1", "b:1"),
        db.pending([text], "voice_separation"),
        db.list_rows("history", columns=["file", "parameters", "error_message", "model"]),
    ]
    for one in found:
        shown(one)


# Questions


def test_leaderboards(db: DatabaseManager) -> None:
    """A leaderboard has its title, units and groups."""
    assert shown(db.leaderboard()).words == [
        "si_snri (dB) by model_type, model_version, highest mean first",
        "no runs",
    ]
    add_run(db, si_snri=10.0, memory_usage=100.0)
    add_run(db, "/mix/2.wav", si_snri=12.0, memory_usage=100.0)
    page = shown(db.leaderboard())
    assert page.words[1] == "1 group"
    assert page.rows == [
        ["", "n", "failed", "mean", "±95 %", "median", "stdev", "SDRi", "RTF", "MB"],
        ["demucs:4.0", "2", "0", "11.00", "12.71", "11.00", "1.41", "-", "-", "100"],
    ]


def test_comparisons(db: DatabaseManager) -> None:
    """A comparison says who is better, by how much, how sure, and on which recordings most."""
    for number in range(4):
        add_run(db, f"/mix/{number}.wav", "a:1", si_snri=10.0)
        add_run(db, f"/mix/{number}.wav", "b:1", si_snri=11.0 + number)
    page = shown(db.compare("a:1", "b:1"))
    assert page.words == [
        "B is better by 2.50 dB on average",
        "95 % interval +1.50 to +3.50, p = 0.12",
        "pairs: 4; B better in 4, A better in 0, tied in 0",
        "left out: 0 of A alone, 0 of B alone, 0 without a finite value",
    ]
    assert page.rows == [
        ["A", "a:1"],
        ["B", "b:1"],
        ["metric", "si_snri (dB), higher is better"],
        ["", "A", "B", "B - A"],
        ["mean", "10.00", "12.50", "+2.50"],
        ["median", "", "", "+2.50"],
        ["largest gains of B (dB)", "A", "B", "B - A"],
        *[[f"/mix/{n}.wav", "10.00", f"{11 + n:.2f}", f"+{1 + n:.2f}"] for n in (3, 2, 1, 0)],
    ]


def test_comparisons_of_nothing(db: DatabaseManager) -> None:
    """Two models without a recording in common are told so."""
    add_run(db, "/mix/1.wav", "a:1", si_snri=10.0)
    add_run(db, "/mix/2.wav", "b:1", si_snri=11.0)
    page = shown(db.compare("a:1", "b:1"))
    assert page.words == [
        "no recording has a value from both",
        "pairs: 0; B better in 0, A better in 0, tied in 0",
        "left out: 1 of A alone, 1 of B alone, 0 without a finite value",
    ]


def test_failures(db: DatabaseManager) -> None:
    """Failures show the error, how often, of which models, when last and where."""
    add_run(db, status="failed")
    assert shown(db.failures()).rows == [
        ["error", "count", "models", "newest", "path"],
        ["ValueError: no", "1", '["demucs:4.0"]', "2026-11-01 12:00:00 UTC", "/mix/1.wav"],
    ]


def test_pending_shows_and_goes_on(db: DatabaseManager) -> None:
    """What is left is shown with its reasons, and the loop that follows gets all of it."""
    paths = [f"/mix/{number}.wav" for number in range(30)]
    left = db.pending(paths, "voice_separation")
    assert next(left) == "/mix/0.wav"
    page = shown(left)
    assert page.rows[:2] == [["pending", "reason"], ["/mix/1.wav", "never run"]]
    assert page.words == ["the first 20 sources; there are more"]
    assert left.reason == "never run"
    assert list(left) == paths[1:]
    assert shown(left).words == ["0 sources"]


# The manager


def test_a_manager_shows_where_and_how_much(db: DatabaseManager) -> None:
    """A manager shows its path and the counts of its tables."""
    add_run(db, si_snri=1.0)
    page = shown(db)
    assert page.words == [f"DatabaseManager {db.path}"]
    assert page.rows == [
        ["speakers", "0"],
        ["files", "1"],
        ["history rows", "1"],
        ["measurements", "1"],
    ]


def test_a_manager_that_is_not_connected_opens_nothing(tmp_path: Path) -> None:
    """A manager that is closed or never connected says so, and makes no file."""
    path = tmp_path / "none.db"
    page = shown(DatabaseManager(path))
    assert page.rows == []
    assert page.words == [
        f"DatabaseManager {path}",
        "not connected; call connect() or initialize()",
    ]
    assert list(tmp_path.iterdir()) == []


def test_an_application_s_model_shows_all_its_columns() -> None:
    """A model without a choice of columns shows every one."""

    class Note(BaseModel):
        pass

    assert Note.glance() == ("id",)


# The tutorial


def test_the_tutorial_has_no_outputs() -> None:
    """The notebook in the repository holds cells alone: no outputs, counts or machine's paths."""
    notebook = json.loads(TUTORIAL.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert {cell["execution_count"] for cell in code} == {None}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.once
@pytest.mark.parametrize("where", ["examples", "elsewhere"])
def test_the_tutorial_runs(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, from recordings to a comparison, wherever Jupyter was started."""
    folders = {"examples": ROOT / "examples", "elsewhere": tmp_path}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    if where == "elsewhere":
        monkeypatch.setenv("VOICES_CHECKOUT", str(ROOT))
    notebook = nbformat.read(TUTORIAL, 4)
    resources = {"metadata": {"path": str(folders[where])}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    assert {one["output_type"] for one in outputs} == {"execute_result"}
    html = [one["data"]["text/html"] for one in outputs if "text/html" in one["data"]]
    assert (
        len([one for one in outputs if "image/png" in one["data"]]) == len(outputs) - len(html) == 1
    )
    assert any("B is better by" in one for one in html)
    assert sum(one.count("<audio") for one in html) == 5
    assert any("parameters.iterations" in one for one in html)
    assert len(list(tmp_path.glob("voices-tutorial-*/stems/*/*.wav"))) == 16
