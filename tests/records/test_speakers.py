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


def test_tags_and_models_are_the_same_however_they_are_composed(db: DatabaseManager) -> None:
    """Tags of speakers and runs, models, versions and operations are names as well."""
    db.create_speaker("Ada", tags=[DECOMPOSED])
    db.add(Speaker(name="Bob", tags=[DECOMPOSED]))
    assert db.add_tags("Ada", COMPOSED).tags == db.get_speaker("Bob").tags == [COMPOSED]
    assert len(db.find_speakers_by_tags(DECOMPOSED)) == len(db.find_speakers_by_tags(COMPOSED)) == 2
    for place, name in enumerate((COMPOSED, DECOMPOSED)):
        model = {"model_type": name, "model_version": name}
        with db.track(f"{place}.wav", name, speaker="Ada", tags=[name], **model) as run:
            run.log(si_snri=3.0)
        db.record_run("2.wav", name, start_time="2026-01-01T00:00:00Z", tags=[name], **model)
        db.import_records([{"table": "speakers", "name": f"C{place}", "tags": [name]}])
    assert [(row.key, row.n) for row in db.leaderboard()] == [((COMPOSED, COMPOSED), 2)]
    for name in (COMPOSED, DECOMPOSED):
        for word in ("tag", "run.tag", "model", "model_type", "version", "operation"):
            assert len(db.search("history", f"{word}:{name}")) == 4
        assert len(db.search("history", f"model:{name}:{name}")) == 4
        assert len(db.search("speakers", f"tag:{name}")) == 4
        assert len(db.leaderboard(model_type=name, operation_type=name)) == 1
        settings = {"model_type": name, "model_version": name}
        assert list(db.pending(["0.wav", "1.wav", "2.wav", "3.wav"], name, **settings)) == ["3.wav"]
        with pytest.raises(errors.QueryError, match="stands twice"):
            db.compare(f"{name}:{name}", (COMPOSED, DECOMPOSED))


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
