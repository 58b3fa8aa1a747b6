"""Where exports go: which files, written beside their names and placed when all are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from voices_peewee.database.server_url import as_server
from voices_peewee.errors import ExportError
from voices_peewee.upkeep.places import (
    file_errors,
    link,
    locked,
    remove_orphans,
    sidecar,
    sidecars,
    sync,
    unfinished,
)

_TO_SERVER: Final = "a server is no file; use 'voices export | voices --db URL import -'"


class Place(NamedTuple):
    """A named target: a file, or a folder that may have to be made."""

    path: Path
    is_folder: bool


def find(target: str | os.PathLike[str]) -> Place:
    """Return what a path names; a ``/`` at its end makes it a folder.

    Raises:
        ExportError: It is empty, holds a NUL, or is a server's URL.
    """
    name = os.fspath(target)
    if not name or "\0" in name:
        raise ExportError(name, "a path must be a text without NUL, and not empty")
    if server := as_server(name):
        raise ExportError(server, _TO_SERVER)
    path = Path(os.path.abspath(name))
    return Place(path, name.endswith("/") or path.is_dir())


@contextmanager
def writing(
    place: Place, names: Sequence[str], *, database: str, overwrite: bool
) -> Iterator[list[Path]]:
    """Give the unfinished files to write; afterwards each gets its name.

    An error inside leaves nothing behind, and nothing that was there is touched.

    Args:
        place: Where to.
        names: What the files are called in a folder; a single one for a file.
        database: The path of the database, which is never written over.
        overwrite: Whether files that are there may be replaced.

    Raises:
        ExportError: A file is there, or the folder is missing or refuses writes.
        DatabaseFullError: The disk is full.
    """
    with ExitStack() as stack:
        if place.is_folder:
            stack.enter_context(_folder(place.path))
        with file_errors(ExportError, place.path):
            targets = targets_of(place, names)
            for target in targets:
                _refuse(target, Path(database), overwrite=overwrite)
            remove_orphans(targets[0].parent)
        partials = [stack.enter_context(unfinished(one, ExportError)) for one in targets]
        yield partials
        for partial, target in zip(partials, targets, strict=True):
            with file_errors(ExportError, target):
                _put(partial, target, overwrite=overwrite)


def targets_of(place: Place, names: Sequence[str]) -> list[Path]:
    """Return the files that an export writes."""
    if place.is_folder:
        return [place.path.resolve() / name for name in names]
    return [place.path.parent.resolve() / place.path.name]


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make a folder where there is none; take it away again if nothing was put there."""
    with file_errors(ExportError, path):
        if made := not path.exists():
            path.mkdir(0o700)
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):
                path.rmdir()
        raise


def _refuse(target: Path, database: Path, *, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise ExportError(target, f"there is no folder {str(target.parent)!r}")
    if target.exists() and database.exists() and target.samefile(database):
        raise ExportError(target, "it is the database itself")
    if target in sidecars(database.resolve()):
        raise ExportError(target, "the name belongs to the database")
    if os.path.lexists(target) and not overwrite:
        raise _taken(target)
    if target.exists() and not target.is_file():
        raise ExportError(target, "it is not a regular file")
    if name := sidecar(target):
        raise ExportError(target, f"{name!r} beside it says that it is in use as a database")


def _taken(target: Path) -> ExportError:
    return ExportError(target, "it is there already; choose another name or overwrite it")


def _put(partial: Path, target: Path, *, overwrite: bool) -> None:
    sync(partial)
    with locked(target.parent):
        if overwrite:
            partial.replace(target)
        elif not link(partial, target):
            raise _taken(target)
