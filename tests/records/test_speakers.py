"""Speakers: how they are named, and which names are the same."""

from __future__ import annotations

import pytest

from voices_peewee import DatabaseManager, Speaker, errors

COMPOSED, DECOMPOSED = "Jos\N{LATIN SMALL LETTER E WITH ACUTE}", "Jose\N{COMBINING ACUTE ACCENT}"


def test_a_name_is_the_same_however_it_is_composed(db: DatabaseManager) -> None:
    """Accents may be written as one character or two: it is one speaker."""
    speaker = db.create_speaker(DECOMPOSED)
    assert speaker.name == COMPOSED
    assert speaker.id == db.get_speaker(COMPOSED).id == db.get_speaker(DECOMPOSED).id
    assert [row.name for row in db.get_all(Speaker)] == [COMPOSED]


def test_a_name_that_is_there_is_refused(db: DatabaseManager) -> None:
    """A second speaker of a name is added only where that is asked for, or as a model object."""
    db.create_speaker("Ada")
    with pytest.raises(errors.DuplicateNameError) as caught:
        db.create_speaker("Ada")
    assert str(caught.value).startswith("there is a speaker 'Ada' already (id 1); ")
    assert db.create_speaker("Ada", duplicate=True).id == 2
    assert db.add(Speaker(name="Ada")).id == 3


def test_digits_as_text_are_a_name(db: DatabaseManager) -> None:
    """A speaker's id is a number or ``id:3``; LibriSpeech's names are numbers, too."""
    ada, three = db.create_speaker("Ada"), db.create_speaker("1")
    assert [db.get_speaker(key).id for key in (1, "id:1", "1")] == [ada.id, ada.id, three.id]
    with pytest.raises(errors.NotFoundError, match="no speaker '2'"):
        db.get_speaker("2")
