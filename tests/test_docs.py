"""What README and docs show is what happens."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from voices_peewee import DatabaseManager, Speaker

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in FENCE.findall(page.read_text("utf-8")) if name == language]


def pages_with(language: str) -> list[pytest.param]:
    return [pytest.param(page, id=page.name) for page in PAGES if blocks(page, language)]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader of the docs has it: the examples, and nothing else."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", pages_with("python")[1:])  # README.md is run below
def test_python_snippets_run(page: Path, scene: Path) -> None:
    """The Python of a page runs from top to bottom, in one interpreter."""
    script = "\n".join(blocks(page, "python"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, cwd=scene
    )
    assert (done.stderr, done.returncode) == ("", 0)


def test_the_readme_can_be_run_again(scene: Path) -> None:
    """A cell or script that is run twice finds what the first time made, and doubles nobody."""
    script = "\n".join(blocks(ROOT / "README.md", "python"))
    for warnings in ("error", "ignore"):  # the second time an output is claimed already
        done = subprocess.run(
            [sys.executable, "-W", warnings, "-c", script],
            capture_output=True,
            text=True,
            cwd=scene,
        )
        assert (done.stderr, done.returncode) == ("", 0)
    with DatabaseManager(scene / "voices.db") as db:
        names = [speaker.name for speaker in db.get_all(Speaker)]
    assert len({*names}) == len(names) > 0


def shape(text: str) -> str:
    """Return a text with what differs between runs and machines masked: measures and dates."""
    dates = r"\d{4}-\d\d-\d\d \d\d:\d\d|\d{8}_\d{6}"
    return re.sub(rf"{dates}|[+-]?\d+\.\d+|\b\d{{3,}}\b", "N", text)


@pytest.mark.parametrize("page", pages_with("console"))
def test_transcripts_are_true(page: Path, scene: Path) -> None:
    """Each command of a page's transcripts prints what stands below it; ... stands for anything."""
    checker = doctest.OutputChecker()
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"VOICES_DB": "voices.db", "COLUMNS": "80", "PYTHONUNBUFFERED": "1"}
    for block in blocks(page, "console"):
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            done = subprocess.run(
                ["bash", "-c", command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,  # as a terminal shows both
                text=True,
                cwd=scene,
                env=environment,
            )
            if expected:
                said = done.stdout
                is_so = checker.check_output(shape(expected), shape(said), options)
                assert is_so, f"$ {command}\n{said}"
            else:
                assert done.returncode == 0, f"$ {command}\n{done.stdout}"


def test_links_lead_somewhere() -> None:
    """Every relative link of README and docs names a file that is there."""
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    dead = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_promises_name_tests_that_are_there() -> None:
    """Each test that a page names beside a promise can be found."""
    named = re.compile(r"`((?:\w+/)?test_\w+\.py)?(?:::(test_\w+)[^`]*)?`")
    gone, count = [], 0
    for line in "\n".join(page.read_text("utf-8") for page in PAGES).splitlines():
        text = ""
        for file, test in filter(any, named.findall(line)):
            count += 1
            path = ROOT / "tests" / file.removeprefix("tests/")
            text = path.read_text("utf-8") if path.is_file() else "" if file else text
            if not text or (test and f"def {test}(" not in text):
                gone.append(f"{file}::{test}")
    assert (gone, count > 90) == ([], True)


def test_schema_table_names_every_table_and_only_true_columns() -> None:
    """The README's schema table agrees with the models."""
    from voices_peewee import MODELS

    text = (ROOT / "README.md").read_text("utf-8")
    for model in MODELS:
        row = next(line for line in text.splitlines() if f"| `{model._meta.table_name}` |" in line)
        named = re.findall(
            r"\b([a-z]+(?:_[a-z]+)*)\b(?: \([\w% ]+\))?(?=,| \|$)", row.split("|")[3] + " |"
        )
        assert named
        assert set(named) <= set(model._meta.columns)
