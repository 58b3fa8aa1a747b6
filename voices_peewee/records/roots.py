"""Where paths of another machine are here, and by which path the record knows a recording."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TypeVar

from voices_peewee.database.store import Store
from voices_peewee.errors import AudioError, InvalidValueError
from voices_peewee.records.audio_files import content_hash, regular_file
from voices_peewee.records.sources import Gone
from voices_peewee.rendering.plain import absolute
from voices_peewee.schema.exact import short
from voices_peewee.schema.models import ProcessedFile

Place = TypeVar("Place", str, str | int)
Roots = Mapping[str, str | os.PathLike[str]]


class PathMap:
    """Moves paths from the folders they were in to those they are in now.

    Args:
        roots: New folders by old ones; the longest old one that a path lies in counts.

    Raises:
        InvalidValueError: A folder is empty or no text.
    """

    def __init__(self, roots: Roots | None) -> None:
        self._roots: dict[str, str] = {}
        if not isinstance(roots, Mapping | None):
            raise InvalidValueError(f"a path map is a mapping of folders, not {short(roots)}")
        for old, new in (roots or {}).items():
            target = os.fspath(new) if isinstance(new, str | os.PathLike) else ""
            if not (isinstance(old, str) and old and target):
                raise InvalidValueError(f"a path map has folders OLD: NEW, not {old!r}: {new!r}")
            place = target if "://" in target else absolute(target)
            self._roots[old.rstrip("/") or "/"] = place.rstrip("/")
        self.idle = {*self._roots}  # in which no path lay so far

    def __call__(self, path: str) -> str:
        """Return where a path is now; one that lies in no old folder stays."""
        inner = {old: path[len(old.rstrip("/")) :] for old in self._roots if path.startswith(old)}
        holding = [old for old, rest in inner.items() if rest[:1] in ("", "/")]
        self.idle.difference_update(holding)
        longest = max(holding, key=len, default="")
        return self._roots[longest] + inner[longest] if longest else path


class Moved:
    """Finds recordings whose files lie under another root now; or the outputs of runs.

    A path that the record has is its own. Of another one, the content counts: where a recording
    of that size is known, and its own path is not there any more.
    """

    def __init__(self, store: Store, *, outputs: bool = False) -> None:
        self._store, self._outputs = store, outputs
        self.digests: dict[str, str] = {}  # of the files that were found, by their old paths
        self._gone: dict[int, Gone[str]] = {}

    def find(self, source: Place) -> Place:
        """Return the path by which the record knows a file; what it does not, stays."""
        status = regular_file(source) if isinstance(source, str) else None
        if not isinstance(source, str) or status is None or source in self._known[0]:
            return source
        gone = self._gone_of(status.st_size)
        try:
            digest = content_hash(source) if gone else ""
        except AudioError:
            return source
        if (place := gone.find(digest, source)) is None:
            return source
        self.digests[place] = digest
        return place

    @cached_property
    def _known(self) -> tuple[set[str], dict[int, dict[str, str]]]:
        """The paths that the record has; by the size of its file, each with its hash."""
        file = ProcessedFile
        own = file.processed_path if self._outputs else file.original_path
        is_of_kind = file.recording.is_null(is_null=not self._outputs)
        query = file.select(own, file.file_size, file.content_hash)
        query = query.where(is_of_kind, own.is_null(is_null=False))
        with self._store.reading():
            rows = self._store.connection().execute(*query.order_by(file.id).sql()).fetchall()
        paths, by_size = set[str](), dict[int, dict[str, str]]()
        for stored, size, digest in rows:
            path = str(own.python_value(stored))
            paths.add(path)
            if size and digest:
                by_size.setdefault(size, {})[path] = digest
        return paths, by_size

    def _gone_of(self, size: int) -> Gone[str]:
        """Return the paths of a size that are not there any more."""
        if size not in self._gone:
            gone = self._gone[size] = Gone()
            for path, digest in self._known[1].get(size, {}).items():
                gone.add(digest, path, path)
        return self._gone[size]
