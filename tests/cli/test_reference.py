"""What the help and the reference say is true."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli_reference import PAGE, reference
from support.cli_tools import PROGRAM, run

from cli.test_cli import commands
from voices_peewee import DatabaseManager

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = """
import peewee as pw


class Room(pw.Model):
    name = pw.TextField()
"""


def test_reference_is_up_to_date() -> None:
    """docs/cli.md is what the commands say (``python tests/support/cli_reference.py``)."""
    assert PAGE.read_text(encoding="utf-8") == reference()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the examples expect it: audio, a database after some work, and a backup."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    for folder in ("own", "mix", "stems"):
        (tmp_path / folder).mkdir()
    (tmp_path / "app.py").write_text(MODELS)
    (tmp_path / "versa.jsonl").write_text('{"key": "0.wav", "pesq": 2.5}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOICES_DB", str(tmp_path / "voices.db"))
    with DatabaseManager().initialize() as db:
        for model, version in (("demucs", "4.0"), ("svoice", "1.2")):
            for number in range(3):
                stem = shutil.copy(EXAMPLES / "audio" / "bob.wav", f"stems/{model}_{number}.wav")
                shutil.copy(stem, f"mix/{number}.wav")
                db.record_run(
                    f"mix/{number}.wav",
                    "separation",
                    start_time="2024-05-06T14:03:05+00:00",
                    model_type=model,
                    model_version=version,
                    outputs=[{"path": stem, "si_snri": float(number)}],
                )
    for name in ("before_upgrade.db", "laptop.db"):
        assert run("backup", "--backup-path", name).code == 0
    return tmp_path


EXAMPLE_OF = {name: getattr(command, "example", "") for name, command in commands().items()}


@pytest.mark.parametrize("name", EXAMPLE_OF)
def test_examples(name: str, desk: Path) -> None:
    """The example in a command's help works as it is written."""
    program, *words = shlex.split(EXAMPLE_OF[name])
    assert program == "voices"
    assert name in words
    if name == "serve":
        pytest.skip("it runs until it is ended; test_web does that")
    if name != "add-speaker":
        assert run("add-speaker", "John Doe").code == 0
    if name == "backup":
        for path in desk.glob("before_upgrade.db*"):
            path.unlink()
    args = [found for word in words for found in _expanded(word)]
    done = run(*args)
    assert (done.code, "Error" in done.err) == (0, False), done
    sys.modules.pop("app", None)


def _expanded(word: str) -> list[str]:
    """Expand a pattern as a shell does."""
    found = sorted(map(str, Path().glob(word))) if "*" in word else []
    return found or [word]


def test_acceptance_of_the_first_issue(tmp_path: Path) -> None:
    """Create, add, list and back up, as a user's shell would, from an empty folder."""
    voices = shlex.join(PROGRAM)
    script = (
        f"{voices} --db x.db init && {voices} --db x.db add-speaker 'John Doe' --description "
        f"'Male speaker' && {voices} --db x.db list-speakers --json && {voices} --db x.db backup "
        f"--backup-path y.db && {voices} --db y.db list-speakers"
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    stdout = re.sub(r'"20[^"]+"', '"TIME"', done.stdout)
    assert (done.returncode, stdout) == (
        0,
        (
            f"{tmp_path / 'x.db'}\n1\n[\n"
            '{"id": 1, "name": "John Doe", "tags": [], "files": 0, "description": "Male speaker", '
            '"created_at": "TIME", "updated_at": "TIME"}'
            "\n]\n"
            f"{tmp_path / 'y.db'}\n"
            "id  name      tags  files  description\n 1  John Doe            0  Male speaker\n"
        ),
    )
    assert done.stderr == "3 migrations applied\nadded speaker 'John Doe'\n1 speaker\n"
