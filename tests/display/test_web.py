"""``voices serve``: what the pages show, who may go on writing, and how it ends."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.browser import needs_browser, opened
from support.cli_tools import PROGRAM, program, run
from support.run_rows import add_run

from voices_peewee import DatabaseManager, Environment, Speaker
from voices_peewee.display.web import TABLES
from voices_peewee.errors import DatabaseError
from voices_peewee.models import Claim, ListeningTest, ListeningVote

pytestmark = [pytest.mark.once, pytest.mark.sqlite("Datasette shows SQLite files")]

HOSTILE = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(2)>.wav'


def fill(path: Path) -> Path:
    """Write three models, failures, an unfinished run and names that are HTML."""
    with DatabaseManager(path).initialize() as db:
        ada = db.add(Speaker(name="Ada", tags=["studio"]))
        other = db.add(Speaker(name=HOSTILE, description="javascript:alert(3)", tags=[HOSTILE]))
        measured = {"si_snri": 37 / 3, "real_time_factor": 0.0033821, "memory_usage": 512.04}
        file = {"duration": 62.5, "sample_rate": 8000, "file_size": 1_500_000}
        add_run(db, "/mix/1.wav", "demucs:4.0", speaker=ada, file=file, **measured)
        add_run(db, "/mix/2.wav", "svoice:1.2", speaker=other, hours=1, si_snri=9.5)
        for name, hours in ((IMAGE, 2), ("4.wav", 2.1)):
            failed = {"run": {"run_id": "f" * 32}, "file": {"filename": name}, "status": "failed"}
            add_run(db, f"/mix/{name}", speaker=other, hours=hours, **failed)
        add_run(db, "/mix/4.wav", HOSTILE, hours=3, status="unfinished")
        add_run(db, "/mix/5.wav", "svoice:1.2", si_snri=9, run={"operation_type": HOSTILE})
        db.add(Environment(facts={"host": HOSTILE}, digest="d"))
        until = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
        db.add(Claim(source=IMAGE, settings="s", process={"host": HOSTILE}, expires_at=until))
        test = db.add(ListeningTest(name=HOSTILE, question=IMAGE))
        vote = {"session": "s", "trial": "t", "kind": "pair", "position": 1}
        db.add(ListeningVote(test=test, listener=HOSTILE, **vote))
    return path


@pytest.fixture
def filled(path: Path) -> Path:
    return fill(path)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record that a server shows."""
    return fill(tmp_path_factory.mktemp("web") / "voices.db")


@pytest.fixture(scope="module")
def url(record: Path) -> Iterator[str]:
    """The address of the server that several tests ask."""
    with serving(record) as address:
        yield address


def start(
    path: Path, *options: str, program: Sequence[str] = PROGRAM
) -> tuple[subprocess.Popen[str], str]:
    """Start the program and return it with the address that it prints."""
    server = subprocess.Popen(
        [*program, "--db", str(path), "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    ready, _, _ = select.select([server.stdout], [], [], 60)
    assert ready
    return server, server.stdout.readline().strip().removesuffix("voices")


@contextmanager
def serving(path: Path, *, program: Sequence[str] = PROGRAM) -> Iterator[str]:
    """Serve a database; at the end nothing was said and the exit status is 0."""
    server, url = start(path, program=program)
    try:
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out, err) == (0, "", "serving; Ctrl-C ends it\n")


def get(url: str, **headers: str) -> tuple[int, str]:
    """Ask as a browser does, with any Host header."""
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)) as line:
        line.request("GET", url.partition(parts.netloc)[2], headers=headers)
        answer = line.getresponse()
        return answer.status, answer.read().decode()


PAGES = [
    *("", "-/databases", "-/databases.json", "voices"),
    *(f"voices/{name}" for name in TABLES),
    *(f"voices/{name}/1" for name in list(TABLES)[:4]),
]


def ask(url: str, page: str, **values: str) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode({"_shape": "array", **values})
    found: list[dict[str, Any]] = json.loads(get(f"{url}{page}.json?{query}")[1])
    return found


def rows(url: str, sql: str) -> list[dict[str, Any]]:
    return ask(url, "voices", sql=sql)


def test_every_page_answers_and_escapes_names(url: str) -> None:
    """Start page, tables, views, queries and rows answer; no stored text becomes markup."""
    for page in PAGES:
        status, text = get(url + page)
        assert (page, status) == (page, 200)
        assert HOSTILE not in text
        assert "<img src=x" not in text
        assert 'href="javascript:' not in text
    start_page = get(f"{url}voices")[1]
    for name, table in TABLES.items():
        is_shown = not table.get("hidden")
        assert (f'href="/voices/{name}"' in start_page) == is_shown
    assert '<a href="/voices/speakers/1">Ada</a>' in get(f"{url}voices/processed_files")[1]


def test_numbers_have_units_and_sensible_digits(url: str) -> None:
    """Pages show numbers as lists do, with their unit; CSV and JSON have every digit."""

    def cells(page: str, *names: str) -> list[str]:
        html = get(f"{url}voices/{page}")[1]
        pattern = r'<td class="col-{}[^>]*>(.*?)</td>'
        return [re.findall(pattern.format(name), html, re.DOTALL)[-1].strip() for name in names]

    names = ("si_snri", "real_time_factor", "memory_usage", "duration", "start_time")
    assert cells("v_performance", *names) == [
        *("12.33 dB", "0.003382", "512.0 MB", "1:02.5", "2026-11-01 12:00:00.000000")
    ]
    assert cells("processed_files", "sample_rate", "file_size") == ["8000 Hz", "1.5 MB"]
    assert cells("v_leaderboard?model_type=demucs", "mean_si_snri") == ["12.33 dB"]
    exact = ask(url, "voices/v_leaderboard", model_type="demucs")
    assert exact[0]["mean_si_snri"] == 37 / 3


def test_bytes_of_another_program_end_no_page(filled: Path) -> None:
    """Bytes in the place of a text are shown as they stand, in the table and in the views."""
    with closing(sqlite3.connect(filled)) as other, other:
        other.execute("UPDATE speakers SET name = x'00ff' WHERE id = 1")
    with serving(filled) as url:
        for page in ("speakers/1", "v_runs", "v_performance"):
            status, text = get(f"{url}voices/{page}")
            assert (status, "b&#39;\\x00\\xff&#39;" in text) == (200, True)


def test_the_report_is_linked(url: str) -> None:
    """Each page links to the report, which is of one operation: of several it leads to each."""
    assert 'href="/-/report"' in get(url)[1]
    status, page = get(f"{url}-/report")
    assert status == 400
    assert "several operations" in page
    assert HOSTILE not in page
    ways = re.findall('href="/(.*?)"', page)
    assert len(ways) == 2
    for way in ways:
        status, page = get(url + way)
        assert (status, "<title>Voices report: voices.db</title>" in page) == (200, True)
        assert HOSTILE not in page
    assert get(f"{url}-/report?operation=voice_separation&metric=nope")[0] == 400


def test_bad_requests_are_one_sentence_on_the_page(url: str) -> None:
    """What is wrong or too large is refused there, and nothing is said on the terminal."""
    for sql, reason in (
        ("SELECT missing", "no such column: missing"),
        ("SELECT randomblob(900000000)", "string or blob too big"),
    ):
        status, text = get(f"{url}voices.json?{urllib.parse.urlencode({'sql': sql})}")
        assert (status, json.loads(text)["error"]) == (400, reason)
    assert get(f"{url}missing")[0] == 404


def test_endless_queries_leave_the_pages_alone(url: str) -> None:
    """However many queries do not end, the pages answer meanwhile."""
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    query = urllib.parse.urlencode({"sql": endless, "_timelimit": 3000})
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(get, f"{url}voices.json?{query}") for _ in range(3)]
        time.sleep(0.5)  # until each has come
        assert get(f"{url}voices/speakers")[0] == 200
        assert not any(one.done() for one in asked)
        assert [one.result()[0] for one in asked[:2]] == [400, 400]


def test_only_local_names_are_answered(url: str) -> None:
    """On loopback, a page asked for under another site's name is refused."""
    port = urllib.parse.urlsplit(url).port
    for host in (f"localhost:{port}", "127.0.0.1", "LOCALHOST"):
        assert get(url, Host=host)[0] == 200
    refused = "This page answers to localhost and 127.0.0.1 only.\n"
    for host in ("evil.example", "127.0.0.1.evil.example", "192.0.2.1:80"):
        assert get(url, Host=host) == (421, refused)


def test_the_descriptions_are_of_true_columns(db: DatabaseManager) -> None:
    """What pages are sorted by, named by and counted by is there."""
    for name, table in TABLES.items():
        there = {column.name for column in db.database.get_columns(name)}
        chosen = {table.get(key) for key in ("sort", "sort_desc", "label_column")} - {None}
        assert chosen | {*table.get("facets", ())} <= there


@needs_browser
def test_in_a_browser(url: str) -> None:
    """Chromium loads every page without an error or a look at the internet, and runs a query."""
    said: list[str] = []
    with opened(url, said, viewport={"width": 1280, "height": 900}) as page:
        for name in PAGES:
            answer = page.goto(url + name, wait_until="load")
            assert (name, answer.status) == (name, 200)
        page.goto(f"{url}voices?sql=SELECT+mean_si_snri+FROM+v_leaderboard+LIMIT+1")
        page.get_by_role("button", name="Run SQL").click()
        assert page.locator("td.col-mean_si_snri").inner_text() == "12.33 dB"
    assert [one for one in said if not one.startswith((url, "data:"))] == []


def test_others_write_meanwhile_and_it_cannot(url: str, record: Path) -> None:
    """Others write without an error, the next page shows it, and SQL cannot write."""
    count = "SELECT count(*) AS n FROM speakers"
    (before,) = rows(url, count)
    with DatabaseManager(record, timeout=2).connect() as db:
        for number in range(20):
            db.add(Speaker(name=f"New {number}"))
    after = [{"n": before["n"] + 20}]
    assert rows(url, count) == after
    assert "New 19" in get(f"{url}voices/speakers")[1]
    for sql in ("DELETE FROM speakers", "ATTACH 'x.db' AS x", "PRAGMA journal_mode = delete"):
        status, _ = get(f"{url}voices?{urllib.parse.urlencode({'sql': sql})}")
        assert (sql, status) == (sql, 400)
    assert rows(url, count) == after
    assert get(f"{url}voices.db")[0] in (403, 404)


def test_a_record_that_was_replaced_is_shown_no_longer(filled: Path, tmp_path: Path) -> None:
    """When rsync has brought a newer record, no page goes on to tell of the old one."""
    newer = shutil.copy(filled, tmp_path / "newer.db")
    said = (
        f"cannot use {str(filled)!r}: the file was removed or replaced while it was open; "
        "close it and connect again; start 'voices serve' anew\n"
    )
    with serving(filled) as url:
        assert get(url)[0] == 200
        newer.replace(filled)
        for page in ("", "voices/speakers", "-/report"):
            assert get(url + page) == (503, said)


# Without capabilities even root is held to the permissions of files.
_HELD = """
import ctypes
header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(header, none) == 0
from voices_peewee.cli import main
main()
"""


def test_a_read_only_folder(filled: Path, tmp_path: Path) -> None:
    """A record of any name that nobody can write to is shown, and nothing is put beside it."""
    folder = tmp_path / "shared"
    folder.mkdir()
    path = Path(shutil.copy(filled, folder / "100% #1?mode=rw&x.db"))
    path.chmod(0o444)
    folder.chmod(0o555)
    try:
        with serving(path, program=[sys.executable, "-c", _HELD]) as url:
            assert get(url)[0] == 200
            assert rows(url, "SELECT count(*) AS n FROM speakers") == [{"n": 2}]
        assert list(folder.iterdir()) == [path]
    finally:
        folder.chmod(0o755)


def test_sigterm_ends_it(filled: Path) -> None:
    """SIGTERM ends it as Ctrl-C does, and nothing is left beside the database."""
    server, url = start(filled)
    assert get(url)[0] == 200
    server.send_signal(signal.SIGTERM)
    out, err = server.communicate(timeout=60)
    assert (server.returncode, out, err) == (0, "", "serving; Ctrl-C ends it\n")
    assert sorted(one.name for one in filled.parent.glob("voices.db*")) == ["voices.db"]


def test_a_port_that_cannot_be_listened_on(filled: Path) -> None:
    """One sentence says that another program has the port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        said = f"Error: cannot serve on '127.0.0.1', port {port}: address already in use; "
        done = program("--db", filled, "serve", "--port", port)
    assert done == (1, "", f"{said}try another --port\n")


def test_what_is_no_database_file(path: Path) -> None:
    """A missing database is named with the command that makes one; memory has no file."""
    reason = "there is no database; run 'voices init' to create it"
    said = f"Error: cannot use {str(path)!r}: {reason}\n"
    assert run("--db", path, "serve") == (1, "", said)
    with DatabaseManager(":memory:").initialize() as db, pytest.raises(DatabaseError) as caught:
        db.serve()
    reason = "an in-memory database has no file to show"
    assert str(caught.value) == f"cannot use ':memory:': {reason}"


@pytest.mark.parametrize(
    ("words", "module", "purpose", "extra"),
    [
        ("serve", "datasette", "showing a database in the browser", "web"),
        ("report -o r.html", "jinja2", "writing a page", "report"),
        ("plot distribution -o p.png", "matplotlib", "drawing a picture", "notebook"),
    ],
)
def test_a_missing_extra(
    filled: Path, tmp_path: Path, words: str, module: str, purpose: str, extra: str
) -> None:
    """Without what makes pages and pictures one sentence names the pip command."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / f"{module}.py").write_text("raise ImportError\n")
    search = os.pathsep.join([str(tmp_path / "hidden"), *sys.path])
    done = program("--db", filled, *words.split(), env={**os.environ, "PYTHONPATH": search})
    said = f"{purpose} needs an extra; run: pip install 'voices-peewee[{extra}]'"
    assert done == (1, "", f"Error: {said}\n")
