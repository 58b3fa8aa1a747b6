"""The facts of a backup, and the file beside it that keeps them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_FORMAT: Final = "voices-backup"


class NotFactsError(ValueError):
    """The text is JSON, but of another kind."""


@dataclass(frozen=True)
class Backup:
    """What is known of one backup: ``size`` in bytes, ``created`` in UTC, ``rows`` by table."""

    path: Path
    size: int
    sha256: str
    created: datetime
    source: str
    migrations: tuple[str, ...]
    rows: dict[str, int]
    version: str

    @property
    def has_facts(self) -> bool:
        """Tell whether a facts file vouches for the digest, the rows and the source."""
        return bool(self.version)

    def to_json(self) -> str:
        """Write the text of the facts file."""
        facts = {
            "format": _FORMAT,
            "file": self.path.name,
            "size": self.size,
            "sha256": self.sha256,
            "created": self.created.isoformat(timespec="microseconds"),
            "source": self.source,
            "migrations": self.migrations,
            "rows": self.rows,
            "version": self.version,
        }
        return json.dumps(facts, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, folder: Path) -> Backup:
        """Read the text of a facts file that lies in ``folder``.

        Raises:
            ValueError: the text is not JSON, or not the facts of a backup.
        """
        facts = json.loads(text)
        if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
            raise NotFactsError("not the facts of a backup")
        try:
            backup = cls(
                path=folder / _text(facts["file"]),
                size=int(facts["size"]),
                sha256=_text(facts["sha256"]),
                created=datetime.fromisoformat(_text(facts["created"])).astimezone(UTC),
                source=_text(facts["source"]),
                migrations=tuple(map(_text, facts["migrations"])),
                rows={table: int(count) for table, count in facts["rows"].items()},
                version=_text(facts["version"]),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"a fact is missing or of the wrong kind: {error}") from error
        if backup.path.parent != folder:
            raise ValueError("it names a file of another folder")
        return backup


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def facts_path(path: Path) -> Path:
    """Return where the facts of the backup at ``path`` are."""
    return path.with_name(f"{path.name}.json")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
