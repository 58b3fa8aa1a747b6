"""The migration files: where they are, their names, and the order in which they apply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

from voices_peewee.errors import MigrationError

NAME: Final = re.compile(r"[0-9]{3}_[^.]+\.py")


@cache
def package_directory() -> Path:
    """Return the directory of this package's own migrations."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migration_files"  # in a checkout they stand beside the package
    return installed if installed.is_dir() else package.parent / "migrations"


def is_installed(directory: Path) -> bool:
    """Whether a directory is the package's own and no checkout's."""
    own = package_directory()
    return directory.resolve() == own and not (own.parent / "setup.cfg").is_file()


def names(directories: Sequence[Path]) -> list[str]:
    """Return the migrations' names in the order in which they apply."""
    return list(paths(directories))


def paths(directories: Sequence[Path]) -> dict[str, Path]:
    """Return the migrations' files by their names, in the order in which they apply.

    Raises:
        MigrationError: A directory is missing, a file's name would keep it from being applied,
            or two files have one name or one number.
    """
    found: dict[str, Path] = {}
    for directory in dict.fromkeys(map(Path, directories)):
        for path in _files(directory):
            if path.stem in found:
                first = str(found[path.stem].parent)
                raise MigrationError(
                    f"migration {path.stem!r} is in both {first!r} and {str(directory)!r}; "
                    "rename one of them"
                )
            found[path.stem] = path
    return found


def _files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise MigrationError(f"there is no migrations directory {str(directory)!r}")
    files = sorted(path for path in directory.glob("[0-9]*.py") if path.is_file())
    for path in files:
        if not NAME.fullmatch(path.name):
            raise MigrationError(
                f"{str(path)!r} would never be applied; name it like '002_add_language.py', "
                "with three digits and no further dot"
            )
    for one, two in pairwise(files):
        if one.name[:3] == two.name[:3]:
            raise MigrationError(
                f"migrations {one.stem!r} and {two.stem!r} in {str(directory)!r} "
                "have the same number; renumber one of them"
            )
    return files
