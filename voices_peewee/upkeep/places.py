"""What exports of several files still take from here; ``whole_files`` is to be used instead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voices_peewee.upkeep.backup import sidecar as sidecar
from voices_peewee.upkeep.backup import sidecars as sidecars
from voices_peewee.upkeep.whole_files import Kind, partial_file, place
from voices_peewee.upkeep.whole_files import file_errors as file_errors
from voices_peewee.upkeep.whole_files import remove_leftovers as remove_orphans

__all__ = ["file_errors", "remove_orphans", "sidecar", "sidecars"]


@contextmanager
def unfinished(target: Path, _kind: Kind) -> Iterator[Path]:
    """Create an empty file beside ``target`` for its owner only, and remove it afterwards."""
    with partial_file(target.parent) as path:
        yield path


def link(source: Path, target: Path) -> bool:
    """Give ``source`` the name ``target`` unless it is taken."""
    try:
        place(source, target)
    except FileExistsError:
        return False
    return True


@contextmanager
def locked(_folder: Path) -> Iterator[None]:
    """Do nothing: names are kept apart by links."""
    yield


def sync(path: Path) -> None:
    """Make what was written to a file durable."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
