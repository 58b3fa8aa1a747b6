"""What notebooks show: escaped, shortened, without colours of its own; and the tutorial."""

from __future__ import annotations

import json
from pathlib import Path

import nbclient
import nbformat
import pytest
from support.run_rows import add_run
from support.shown import HOSTILE, shown

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, Speaker

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "examples" / "tutorial.ipynb"


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


def test_lists_show_the_first_and_tell_the_rest(db: DatabaseManager) -> None:
    """A list and a page show twenty rows and say how many there are; none is used up."""
    db.add_all([Speaker(name=f"s{number:02}", tags=["t"]) for number in range(25)])
    head = ["id", "name", "description", "tags"]
    rows = [[str(key), f"s{key - 1:02}", "", "t"] for key in range(1, 21)]
    query = db.query(Speaker).order_by(Speaker.id)
    for found in (query.all(), db.search("speakers"), db.get_all(Speaker)):
        page = shown(found)
        assert page.rows == [head, *rows]
        assert page.words == ["20 of 25 rows shown"]
    assert shown(query.where(Speaker.id < 0).all()).words == ["0 rows"]
    for limit in (None, 22, 5):
        listed = db.list_rows("speakers", limit=limit)
        first = shown(listed)
        assert first.rows[0] == ["id", "name", "tags", "files", "description"]
        assert first.words == [f"{min(limit or 25, 20)} of 25 rows shown"]
        assert len(list(listed)) == min(limit or 25, 25)
        assert shown(listed).rows == first.rows


def test_a_closed_database_is_not_asked(db: DatabaseManager) -> None:
    """Records and lists show themselves after the end, too."""
    run = add_run(db, si_snri=1.0)
    found = db.search("history")
    db.close()
    assert shown(run).rows[1] == ["file id", "1"]
    assert shown(found).words == ["1 row"]


@pytest.mark.parametrize("text", HOSTILE[:4], ids=range(4))
def test_hostile_records(db: DatabaseManager, text: str) -> None:
    """Whatever names, tags, errors and parameters say, they are only shown."""
    run = {"parameters": {text: [text]}, "error_message": text}
    file = {"filename": text, "metadata": {text: text}}
    ada = db.create_speaker(text, tags=["<i>"])
    add_run(db, text, f"{text}:1", speaker=ada, status="failed", file=file, run=run)
    add_run(db, text, "a:1", si_snri=1.0)
    add_run(db, text, "b:1", si_snri=2.0)
    for value in (
        *(db.get_all(model) for model in (Speaker, ProcessedFile, ProcessingHistory)),
        *(record for model in (Speaker, ProcessedFile) for record in db.get_all(model)),
        db.failures(),
        db.history(1),
        db.leaderboard(by=["model_type", "file"]),
        db.compare("a:1", "b:1"),
        db.pending([text], "voice_separation"),
        db.list_rows("history", columns=["file", "parameters", "error_message", "model"]),
    ):
        shown(value)


def test_the_tutorial_has_no_outputs() -> None:
    """The notebook in the repository holds cells alone: no outputs, counts or machine's paths."""
    notebook = json.loads(TUTORIAL.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert {cell["execution_count"] for cell in code} == {None}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.once
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, from recordings to a comparison, wherever Jupyter was started."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("VOICES_CHECKOUT", str(ROOT))
    notebook = nbformat.read(TUTORIAL, 4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    assert {one["output_type"] for one in outputs} == {"execute_result"}
    html = [one["data"]["text/html"] for one in outputs if "text/html" in one["data"]]
    assert sum("image/png" in one["data"] for one in outputs) == len(outputs) - len(html) == 1
    assert any("B is better by" in one for one in html)
    assert sum(one.count("<audio") for one in html) == 5
    assert any("parameters.iterations" in one for one in html)
    assert len(list(tmp_path.glob("voices-tutorial-*/stems/*/*.wav"))) == 16
