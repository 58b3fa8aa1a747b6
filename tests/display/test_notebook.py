"""What notebooks show: escaped, shortened, without colours of its own; and the tutorial."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from support.run_rows import add_run

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, Speaker

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


def test_a_record_shows_every_column(db: DatabaseManager) -> None:
    """A record is a table of what is known of it, with titles and units of the vocabulary."""
    ada = db.create_speaker("Ada <b>", tags=["x"])
    file = ProcessedFile(filename="a.wav", duration=2.5, sample_rate=8000, speaker=ada)
    assert shown(file).words == ["ProcessedFile (not saved)"]
    db.add(file)
    page = shown(file)
    stamp = f"{file.created_at:%Y-%m-%d %H:%M}"
    assert page.words == ["ProcessedFile 1"]
    assert page.rows == [
        ["id", "1"],
        ["file", "a.wav"],
        ["duration", "0:02.5"],
        ["rate Hz", "8000"],
        ["metadata", ""],
        ["speaker id", "1"],
        ["added UTC", stamp],
        ["changed UTC", stamp],
    ]
    assert shown(ada).rows[1:3] == [["name", "Ada <b>"], ["tags", "x"]]


def test_a_record_asks_the_database_nothing(db: DatabaseManager) -> None:
    """A record, and a list of records, can be shown when the database is closed."""
    run = add_run(db, si_snri=1.0)
    found = db.search("history")
    db.close()
    assert shown(run).rows[1] == ["file id", "1"]
    assert shown(found).words == ["1 row"]


def test_lists_show_the_first_and_tell_the_rest(db: DatabaseManager) -> None:
    """A list and a page show twenty rows and say how many there are."""
    db.add_all([Speaker(name=f"s{number:02}", tags=["t"]) for number in range(25)])
    head = ["id", "name", "description", "tags"]
    rows = [[str(key), f"s{key - 1:02}", "", "t"] for key in range(1, 21)]
    query = db.query(Speaker).order_by(Speaker.id)
    for found in (query.all(), db.search("speakers"), db.get_all(Speaker)):
        page = shown(found)
        assert page.rows == [head, *rows]
        assert page.words == ["20 of 25 rows shown"]
    assert shown(query.limit(5).all()).words == ["5 rows"]
    assert shown(query.where(Speaker.id < 0).all()).words == ["0 rows"]


@pytest.mark.parametrize("limit", [None, 22, 5, 5000])
def test_a_page_shows_itself_and_stays_whole(db: DatabaseManager, limit: int | None) -> None:
    """Showing a page uses none of its rows up, and shows the same when all were read."""
    db.add_all([Speaker(name=f"s{number:02}") for number in range(25)])
    page = db.list_rows("speakers", limit=limit)
    first = shown(page)
    assert first.rows[0] == ["id", "name", "tags", "files", "description"]
    assert first.rows[1] == ["1", "s00", "", "0", ""]
    assert first.words == [f"{min(limit or 25, 20)} of 25 rows shown"]
    assert len(list(page)) == min(limit or 25, 25)
    assert shown(page).rows == first.rows


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
        *(db.get_all(model) for model in (Speaker, ProcessedFile, ProcessingHistory)),
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
