"""docs/original.md: what code for the original module does here, line by line."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import voices_peewee
from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, Speaker

PAGE = (Path(__file__).parents[1] / "docs" / "original.md").read_text()
SAME, OTHER = PAGE.split("## Another name here")
ROW = re.compile(r"^\| `(.+?)` \| (?:`(.+?)`)?.*\|$", re.MULTILINE)


@pytest.fixture
def names(path: Path | str) -> Iterator[dict[str, Any]]:
    """What the page's code stands among: a speaker with a file."""
    with DatabaseManager(path).initialize() as db:
        ada = db.create_speaker("Ada", tags=["alto"])
        db.add(ProcessedFile(filename="ada.wav", speaker=ada))
        yield {
            "db": db,
            "ada": ada,
            "voices_peewee": voices_peewee,
            **{model.__name__: model for model in voices_peewee.MODELS},
        }


@pytest.mark.parametrize("code", [there for there, _ in ROW.findall(SAME)])
def test_what_is_the_same(names: dict[str, Any], code: str) -> None:
    """Each line of the first table runs as it is."""
    eval(code, names)  # noqa: S307 - our own page


@pytest.mark.sqlite("a server is backed up by its own tools")
@pytest.mark.parametrize(("there", "here"), ROW.findall(OTHER))
def test_what_has_another_name(names: dict[str, Any], there: str, here: str) -> None:
    """In the second table the left does not run here, and the right does."""
    with pytest.raises((AttributeError, TypeError)):
        eval(there, names)  # noqa: S307 - our own page
    eval(here, names)  # noqa: S307 - our own page


@pytest.mark.sqlite("LIKE is LIKE on a server")
def test_like_is_glob(names: dict[str, Any]) -> None:
    """What the page says of % is so."""
    db, name = names["db"], Speaker.name
    found = [
        db.query(Speaker).where(one).count()
        for one in (name.like("%da%"), name.contains("da"), name ** "%da%")
    ]
    assert found == [0, 1, 1]


@pytest.mark.parametrize(("name", "is_open"), [("close_session", True), ("close", False)])
def test_what_closes(names: dict[str, Any], name: str, is_open: bool) -> None:
    """What the page says of closing is so."""
    getattr(names["db"].session, name)()
    if is_open:
        assert names["db"].query(Speaker).count() == 1
    assert names["db"].is_connected == is_open


def test_times_and_enums(names: dict[str, Any]) -> None:
    """What the page says of times without a zone and of enums is so."""
    model = Enum("Model", {"DEMUCS": "demucs"})
    told = {"processed_file": names["db"].get_all(ProcessedFile)[0], "operation_type": "separation"}
    run = names["db"].add(ProcessingHistory(model_type=model["DEMUCS"], **told))
    assert names["db"].get_by_id(ProcessingHistory, run.id).model_type == "demucs"
    assert names["db"].query(ProcessingHistory).filter_by(model_type=model["DEMUCS"]).count() == 1
    with pytest.raises(voices_peewee.errors.InvalidValueError, match="has no time zone"):
        names["db"].add(ProcessingHistory(start_time=dt.datetime(2026, 1, 1), **told))  # noqa: DTZ001


def test_the_page_has_rows() -> None:
    """The tables are read whole."""
    assert (len(ROW.findall(SAME)), len(ROW.findall(OTHER))) == (
        SAME.count("\n| `"),
        OTHER.count("\n| `"),
    )
    assert len(ROW.findall(OTHER)) > 15
