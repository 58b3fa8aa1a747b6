"""What is done with speakers: profiles, tags, and the files linked to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final

from voices_peewee.database.store import FileKey, HasStore, SpeakerKey
from voices_peewee.errors import DuplicateNameError, InvalidValueError
from voices_peewee.schema.exact import short
from voices_peewee.schema.fields import clean_tags
from voices_peewee.schema.models import ProcessedFile, Speaker

_KEEP: Final[Any] = object()


class SpeakerMethods(HasStore):
    """The manager's methods for speakers, named by id (``id:3`` as text), name or object."""

    def create_speaker(
        self,
        name: str,
        description: str | None = None,
        tags: Iterable[str] = (),
        *,
        duplicate: bool = False,
    ) -> Speaker:
        """Add a speaker and return it.

        Args:
            name: Who it is; names compare as composed Unicode (NFC).
            description: Free text.
            tags: Texts to find the speaker by.
            duplicate: Add another one where the name is there already.

        Raises:
            DuplicateNameError: The name is there already, and ``duplicate`` is false.
            InvalidValueError: The name is empty, or a tag is no text.
        """
        speaker = Speaker(name=name, description=description, tags=clean_tags(tags))
        with self.store.writing():
            self.store.engine.lock("speakers")
            named: Any = Speaker.select(Speaker.id).where(Speaker.name == name).tuples()
            taken = [key for (key,) in named]  # whatever else their rows hold
            if taken and not duplicate:
                raise DuplicateNameError("speaker", name, taken)
            return self.store.insert(speaker)

    def get_speaker(self, speaker: SpeakerKey) -> Speaker:
        """Return a speaker by id, name or object.

        Raises:
            NotFoundError: There is none.
            AmbiguousNameError: Several have that name.
        """
        return self.store.speaker(speaker)

    def update_speaker(
        self,
        speaker: SpeakerKey,
        *,
        name: str = _KEEP,
        description: str | None = _KEEP,
        tags: Iterable[str] = _KEEP,
    ) -> Speaker:
        """Change what is given of a speaker and return it.

        Raises:
            NotFoundError: There is no such speaker.
            AmbiguousNameError: Several have that name.
            InvalidValueError: The name is empty, or a tag is no text.
        """
        changes: dict[str, Any] = {"name": name, "description": description, "tags": tags}
        changes = {key: value for key, value in changes.items() if value is not _KEEP}
        if "tags" in changes:
            changes["tags"] = clean_tags(changes["tags"])
        return self._change(speaker, lambda _: changes)

    def add_tags(self, speaker: SpeakerKey, tags: Iterable[str] | str) -> Speaker:
        """Add tags that the speaker does not have yet and return the speaker.

        Raises:
            NotFoundError: There is no such speaker.
            AmbiguousNameError: Several have that name.
            InvalidValueError: A tag is no text.
        """
        new = clean_tags(tags)
        return self._change(speaker, lambda old: {"tags": clean_tags([*_tags_of(old), *new])})

    def remove_tags(self, speaker: SpeakerKey, tags: Iterable[str] | str) -> Speaker:
        """Remove the tags that the speaker has and return the speaker.

        Raises:
            NotFoundError: There is no such speaker.
            AmbiguousNameError: Several have that name.
            InvalidValueError: A tag is no text.
        """
        gone = set(clean_tags(tags))
        return self._change(
            speaker, lambda old: {"tags": [tag for tag in _tags_of(old) if tag not in gone]}
        )

    def list_tags(self) -> dict[str, int]:
        """Return every tag, in order, with the number of speakers that have it."""
        with self.store.answering():
            every: Iterable[Any] = Speaker.select(Speaker.tags).tuples().iterator()
            # Another program may write other arrays.
            known = ({*filter(_is_text, tags)} for (tags,) in every if isinstance(tags, list))
            return dict(sorted(Counter(chain.from_iterable(known)).items()))

    def link_file(self, file: FileKey, speaker: SpeakerKey) -> ProcessedFile:
        """Say whose voice a file holds and return the file.

        Raises:
            NotFoundError: There is no such file or speaker.
            AmbiguousNameError: Several have that name or path.
        """
        with self.store.writing():
            found = self.store.speaker(speaker)
            return self.store.update(self.store.file(file), {"speaker": found})

    def unlink_file(self, file: FileKey) -> ProcessedFile:
        """Take the speaker from a file and return the file.

        Raises:
            NotFoundError: There is no such file.
            AmbiguousNameError: Several have that path.
        """
        with self.store.writing():
            return self.store.update(self.store.file(file), {"speaker": None})

    def get_speaker_files(self, speaker: SpeakerKey) -> list[ProcessedFile]:
        """Return a speaker's files, by id.

        Raises:
            NotFoundError: There is no such speaker.
            AmbiguousNameError: Several have that name.
        """
        found = self.store.speaker(speaker)
        with self.store.answering():
            query = self.store.query(ProcessedFile).filter_by(speaker_id=found.id)
            return query.order_by(ProcessedFile.id).all()

    def _change(self, speaker: SpeakerKey, changes: Callable[[Speaker], dict[str, Any]]) -> Speaker:
        """Change a speaker as the database has it now, not as the caller read it once."""
        key = speaker.id if isinstance(speaker, Speaker) else speaker
        with self.store.writing():
            self.store.engine.lock("speakers")
            fresh = self.store.speaker(key)
            return self.store.update(fresh, changes(fresh))


def _is_text(tag: object) -> bool:
    return isinstance(tag, str)


def _tags_of(speaker: Speaker) -> list[str]:
    """Return a speaker's tags, unless another program wrote something else there."""
    tags: object = speaker.tags
    if not isinstance(tags, list) or not all(map(_is_text, tags)):
        what = f"the tags of speaker {speaker.id} are {short(tags)}, not a list of texts"
        raise InvalidValueError(f"{what}; see 'voices check'")
    return tags
