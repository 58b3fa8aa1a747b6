"""Which migrations there are, in which order, and names that would never apply."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.migration_files import INITIAL, PACKAGE, write

from voices_peewee.errors import MigrationError
from voices_peewee.migrations import runner as migrations

pytestmark = pytest.mark.sqlite("rebuilds of SQLite's tables; a server's are in test_postgres")


def test_the_package_directory_holds_the_first_migration() -> None:
    """The package finds its own migrations."""
    assert migrations.names([PACKAGE])[0] == INITIAL
    assert (PACKAGE / "001_initial.py").is_file()


def test_names_are_ordered_by_directory_then_number(tmp_path: Path) -> None:
    """The package's migrations come before an application's, each in the order of numbers."""
    own = tmp_path / "own"
    for name in ("010_c", "002_b", "001_a"):
        write(own, name, "pass")
    (own / "__init__.py").touch()
    (own / "conf.py").touch()
    assert migrations.names([PACKAGE, own, PACKAGE]) == [
        *migrations.names([PACKAGE]),
        *("001_a", "002_b", "010_c"),
    ]


@pytest.mark.parametrize("name", ["1000_x.py", "2_x.py", "004.with.dot.py"])
def test_a_name_that_would_be_ignored_is_refused(tmp_path: Path, name: str) -> None:
    """A file that looks like a migration and would never run is an error, not silence."""
    (tmp_path / name).touch()
    with pytest.raises(MigrationError) as caught:
        migrations.names([tmp_path])
    assert str(caught.value) == (
        f"{str(tmp_path / name)!r} would never be applied; name it like "
        "'002_add_language.py', with three digits and no further dot"
    )


def test_one_number_twice_is_refused(tmp_path: Path) -> None:
    """Two files of one number have no order."""
    write(tmp_path, "103_a", "pass")
    write(tmp_path, "103_b", "pass")
    with pytest.raises(MigrationError) as caught:
        migrations.names([tmp_path])
    assert str(caught.value) == (
        f"migrations '103_a' and '103_b' in {str(tmp_path)!r} have the same number; "
        "renumber one of them"
    )


def test_one_name_in_two_directories_is_refused(tmp_path: Path) -> None:
    """A name is recorded once, so it can only be one migration's."""
    write(tmp_path / "one", "001_a", "pass")
    write(tmp_path / "two", "001_a", "pass")
    with pytest.raises(MigrationError) as caught:
        migrations.names([tmp_path / "one", tmp_path / "two"])
    assert str(caught.value) == (
        f"migration '001_a' is in both {str(tmp_path / 'one')!r} and {str(tmp_path / 'two')!r}; "
        "rename one of them"
    )


def test_a_missing_directory_is_refused_and_not_made(tmp_path: Path) -> None:
    """Reading migrations never creates a folder."""
    missing = tmp_path / "missing"
    with pytest.raises(MigrationError) as caught:
        migrations.names([missing])
    assert str(caught.value) == f"there is no migrations directory {str(missing)!r}"
    assert not missing.exists()
