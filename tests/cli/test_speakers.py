"""The commands for speakers."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli_tools import run, terminal, usage

from voices_peewee import DatabaseManager, ProcessedFile, Speaker


@pytest.fixture
def studio(path: Path) -> Path:
    """A database with Ada, who has two files, and two speakers called Bob."""
    with DatabaseManager(path).initialize() as db:
        ada = db.add(Speaker(name="Ada", tags=["studio"], description="Reads"))
        db.add_all([Speaker(name="Bob"), Speaker(name="Bob")])
        db.add_all([ProcessedFile(filename=f"{name}.wav", speaker=ada) for name in "ab"])
    return path


def speakers(path: Path) -> list[tuple[int, str, str | None, list[str]]]:
    with DatabaseManager(path) as db:
        return [(one.id, one.name, one.description, one.tags) for one in db.get_all(Speaker)]


def test_add_speaker(path: Path) -> None:
    """A new speaker's id is on stdout, for scripts."""
    run("--db", path, "init")
    args = ["add-speaker", "John Doe", "--description", "Male speaker", "--tag", "x", "--tag", "y"]
    assert run("--db", path, *args) == (0, "1\n", "added speaker 'John Doe'\n")
    assert speakers(path) == [(1, "John Doe", "Male speaker", ["x", "y"])]


def test_add_speaker_of_a_known_name(studio: Path) -> None:
    """A name that is there is refused, and added again when that is meant."""
    message = "there is a speaker 'Ada' already (id 1); use --duplicate to add another"
    assert run("--db", studio, "add-speaker", "Ada") == (1, "", f"Error: {message}\n")
    added = run("--db", studio, "add-speaker", "Ada", "--duplicate")
    assert added == (0, "4\n", "added speaker 'Ada'\n")


def test_update_speaker(studio: Path) -> None:
    """What is given changes and the rest stays; an empty description removes it."""
    done = run("--db", studio, "update-speaker", "Ada", "--name", "Ada L.")
    assert done == (0, "", "updated speaker 1 'Ada L.'\n")
    assert speakers(studio)[0] == (1, "Ada L.", "Reads", ["studio"])
    run("--db", studio, "update-speaker", "id:1", "--description", "")
    assert speakers(studio)[0] == (1, "Ada L.", None, ["studio"])


def test_update_of_nothing(studio: Path) -> None:
    """An update without a change is an error of usage."""
    message = "nothing to change; give --name or --description"
    expected = usage("voices update-speaker", "[OPTIONS] SPEAKER", message)
    assert run("--db", studio, "update-speaker", "Ada") == (2, "", expected)


def test_tags(studio: Path) -> None:
    """Tags are added once, removed, and told."""
    assert run("--db", studio, "add-tags", "id:1", "warm", "studio") == (
        0,
        "",
        "tags of speaker 1 'Ada': studio, warm\n",
    )
    assert run("--db", studio, "remove-tags", "Ada", "studio", "warm", "none") == (
        0,
        "",
        "tags of speaker 1 'Ada': none\n",
    )


def test_delete_speaker(studio: Path) -> None:
    """Deleting a speaker says what stays, and keeps it."""
    assert run("--db", studio, "delete-speaker", "Ada", "--yes") == (
        0,
        "",
        "deleted speaker 1 'Ada'; 2 files stay, without a speaker\n",
    )
    with DatabaseManager(studio) as db:
        assert [file.speaker_id for file in db.get_all(ProcessedFile)] == [None, None]


@pytest.mark.once
def test_a_yes_on_the_terminal(studio: Path) -> None:
    """On a terminal a deletion asks first, and happens after a yes."""
    code, seen = terminal("--db", studio, "delete-speaker", "Ada", typed="y\n")
    fate = "2 files stay, without a speaker"
    question = f"Delete speaker 1 'Ada'? {fate}. [y/N]: y\n"
    assert (code, seen) == (0, f"{question}deleted speaker 1 'Ada'; {fate}\n")
    assert len(speakers(studio)) == 2
